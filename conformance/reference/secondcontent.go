package reference

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// content reads a plaintext (section 6.6).
func (s *Second) content(b []byte) (*hand.Content, error) {
	lenient := s.has("content-lenient")
	if lenient && len(b) > 0 && b[0] == '{' {
		return &hand.Content{Kind: hand.Message, Body: b, Meta: map[uint64][]byte{2: hand.Fields([2]string{"mcp-protocol-version", conformance.ModernVersion})}}, nil
	}
	if lenient {
		var v []any
		if _, err := cbor.UnmarshalFirst(b, &v); err == nil && len(v) > 3 {
			v = v[:3]
		}
		if len(v) == 3 {
			if t, ok := v[2].(string); ok {
				v[2] = []byte(t)
			}
			if out, err := cbor.Marshal(v); err == nil {
				b = canonical(out)
			}
		}
	}
	if !strict(b) {
		return nil, fmt.Errorf("not deterministic")
	}
	c, err := hand.ParseContent(b)
	if err != nil {
		return nil, err
	}
	if bytes.Trim(c.Padding, "\x00") != nil && len(bytes.Trim(c.Padding, "\x00")) > 0 && !s.has("padding-unchecked") {
		return nil, fmt.Errorf("padding")
	}
	return c, s.metaOf(c)
}

// metaOf checks the types of a content's meta, and its HTTP fields.
func (s *Second) metaOf(c *hand.Content) error {
	for key, v := range c.Meta {
		r := dcbor.NewReader(v)
		switch key {
		case 1:
			if n := r.Uint(); n < 100 || n > 599 {
				r.Fail("status")
			}
		case 2:
			for range r.Array() {
				r.ArrayN(2)
				name, value := r.Text(), r.Bytes()
				if r.Err() != nil {
					break
				}
				if s.has("fields-unchecked") {
					continue
				}
				if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, " \r\n:") || bytes.ContainsAny(value, "\r\n\x00") {
					return fmt.Errorf("field")
				}
			}
		case 3, 4, 5, 7:
			r.Text()
		case 8:
			r.ArrayN(3)
			r.BytesN(16)
			r.Uint()
			r.Uint()
		case 9:
			if !r.Bool() {
				r.Fail("false")
			}
		}
		if r.Err() != nil {
			if s.has("meta-unchecked") {
				delete(c.Meta, key)
				continue
			}
			return r.Err()
		}
	}
	return nil
}

// fits checks that a content belongs where it stands.
func (s *Second) fits(r *request) error {
	c := r.content
	if s.has("kinds-unchecked") {
		if r.carrier == hand.HTTP && r.n == 0 {
			c.Kind = hand.Head
		} else if r.carrier != hand.HTTP {
			c.Kind = hand.Message
		}
	}
	ok := c.Kind >= hand.Message && c.Kind <= hand.Delete
	switch {
	case r.carrier == hand.Inline:
		ok = c.Kind == hand.Message
	case r.carrier == hand.HTTP && r.n == 0:
		ok = c.Kind == hand.Head
	case r.carrier == hand.HTTP:
		ok = c.Kind == hand.Data || s.has("second-head-served")
	}
	if !ok {
		return no(protocol.MalformedContent)
	}
	if r.n > 0 {
		return nil
	}
	version := ""
	for _, f := range c.Fields() {
		if f[0] == "mcp-protocol-version" {
			version = f[1]
		}
	}
	if version == "" {
		version, _ = conformance.MemberText(c.Body, "params", "_meta", conformance.MetaVersion)
	}
	if version != r.revision && !s.has("any-revision") && !s.has("meta-unchecked") {
		return no(protocol.NegotiationMismatch)
	}
	if r.carrier != hand.HTTP && !r.final {
		return no(protocol.MalformedFrame)
	}
	return nil
}
