package cmw

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// EncodeJSON returns c as JSON, the entries of collections in their order. It
// refuses content-formats, tags, integer labels and empty values, which JSON
// does not have.
func (c *CMW) EncodeJSON() ([]byte, error) {
	if err := c.check(true); err != nil {
		return nil, err
	}
	b := c.appendJSON(nil)
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	return b, nil
}

func (c *CMW) appendJSON(b []byte) []byte {
	if r := c.Record; r != nil {
		b = append(append(b, '['), jsonrpc.Quote(r.MediaType)...)
		b = append(base64.RawURLEncoding.AppendEncode(append(b, `,"`...), r.Value), '"')
		if r.Ind != 0 {
			b = strconv.AppendUint(append(b, ','), uint64(r.Ind), 10)
		}
		return append(b, ']')
	}
	sep := byte('{')
	member := func(name string) {
		b = append(append(append(b, sep), jsonrpc.Quote(name)...), ':')
		sep = ','
	}
	if t := c.Collection.Type; t != "" {
		member(typeLabel)
		b = append(b, jsonrpc.Quote(t)...)
	}
	for _, e := range c.Collection.Entries {
		member(e.Label.text)
		b = e.CMW.appendJSON(b)
	}
	return append(b, '}')
}

// ParseJSON reads one CMW in JSON, and nothing after it. Members that occur
// twice are refused, as is base64url with padding or line ends.
func ParseJSON(b []byte) (*CMW, error) {
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	if err := jose.CheckLimits(b, MaxBytes, MaxDepth+2); err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	n := 0
	c, err := readJSON(b, 0, &n)
	if err != nil {
		return nil, err
	}
	if err := c.check(true); err != nil {
		return nil, err
	}
	return c, nil
}

func readJSON(v jsontext.Value, depth int, n *int) (*CMW, error) {
	if *n++; *n > MaxRecords || depth > MaxDepth {
		return nil, errDepth
	}
	switch v.Kind() {
	case '[':
		r, err := readRecordJSON(v)
		return &CMW{Record: r}, err
	case '{':
		c := &Collection{}
		err := jsonrpc.Members(v, func(name string, val jsontext.Value) error {
			if name == typeLabel {
				t, ok := jsonrpc.Text(val)
				if !ok || t == "" {
					return fmt.Errorf("cmw: %s is no text, or empty", typeLabel)
				}
				c.Type = t
				return nil
			}
			e, err := readJSON(val, depth+1, n)
			c.Entries = append(c.Entries, Entry{TextLabel(name), e})
			return err
		})
		return &CMW{Collection: c}, err
	}
	return nil, fmt.Errorf("cmw: %.20q is neither a record nor a collection", v)
}

func readRecordJSON(v jsontext.Value) (*Record, error) {
	r, i := &Record{}, 0
	err := jsonrpc.Elements(v, func(e jsontext.Value) error {
		i++
		switch i {
		case 1:
			t, ok := jsonrpc.Text(e)
			if !ok || t == "" {
				return fmt.Errorf("cmw: a record's type %.20q is no media type", e)
			}
			r.MediaType = t
		case 2:
			t, ok := jsonrpc.Text(e)
			if !ok || strings.ContainsAny(t, "\r\n") { // which Go's decoder skips
				return fmt.Errorf("cmw: a record's value %.20q is not base64url", e)
			}
			val, err := base64.RawURLEncoding.Strict().DecodeString(t)
			if err != nil {
				return fmt.Errorf("cmw: a record's value is not base64url without padding: %w", err)
			}
			r.Value = val
		case 3:
			ind, err := strconv.ParseUint(string(e), 10, 32)
			if err != nil || ind == 0 {
				return fmt.Errorf("cmw: indicator %.20q; 1 to %d are possible, and leaving it out", e, known)
			}
			r.Ind = Ind(ind)
		}
		return nil
	})
	if err == nil && i != 2 && i != 3 {
		err = fmt.Errorf("cmw: a record of %d items; 2 or 3 are required", i)
	}
	return r, err
}
