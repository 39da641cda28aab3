// Package inspect shows what the protocol's objects say, to people or as JSON.
// Call [Any] with bytes of unknown kind. Nothing that it shows is verified, and
// it says so.
package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/protocol/sealfile"
)

// A Report is an object taken apart.
type Report struct {
	Kind     string `json:"kind"`
	Verified bool   `json:"verified"` // always false: see tmcp connect, which verifies
	Lines    []Line `json:"fields"`
}

// A Line is one field of a report.
type Line struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Note  string `json:"note,omitzero"`
}

func (r *Report) add(name, value string, note ...string) {
	r.Lines = append(r.Lines, Line{name, value, strings.Join(note, " ")})
}

// Text renders reports for people.
func Text(reports []*Report) string {
	var b strings.Builder
	for i, r := range reports {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s (not verified)\n", r.Kind)
		width := 0
		for _, l := range r.Lines {
			width = max(width, len(l.Name))
		}
		for _, l := range r.Lines {
			fmt.Fprintf(&b, "  %-*s  %s", width, l.Name, l.Value)
			if l.Note != "" {
				fmt.Fprintf(&b, "  (%s)", l.Note)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// JSON renders reports as one JSON array.
func JSON(reports []*Report) ([]byte, error) {
	return json.Marshal(reports, jsontext.WithIndent("  "))
}

// Any finds out what b is and takes it apart: a key object or a frame, raw or
// in base64url; a settings object; or a JSON-RPC message or capabilities object
// that holds some of them. now is used to say whether times have passed.
func Any(b []byte, now time.Time) ([]*Report, error) {
	if r, err := binary(b, now); r != nil || err != nil {
		return one(r), err
	}
	text := bytes.TrimSpace(b)
	if len(text) == 0 {
		return nil, fmt.Errorf("the input is empty")
	}
	if text[0] == '{' || text[0] == '[' {
		return fromJSON(text, now)
	}
	if text[0] == '"' {
		s, _ := jsonrpc.Text(text)
		text = []byte(s)
	}
	raw, err := protocol.ParseBase64(string(text))
	if err != nil {
		return nil, fmt.Errorf("neither CBOR of the protocol, nor JSON, nor base64url: %w", err)
	}
	r, err := binary(raw, now)
	if r == nil && err == nil {
		err = fmt.Errorf("base64url of %d bytes that are neither a key object nor a frame", len(raw))
	}
	return one(r), err
}

func one(r *Report) []*Report {
	if r == nil {
		return nil
	}
	return []*Report{r}
}

// binary takes b apart if it begins as a key object or a frame does.
func binary(b []byte, now time.Time) (*Report, error) {
	switch {
	case bytes.HasPrefix(b, []byte(sealfile.Magic)):
		return sealedFile(b)
	case bytes.HasPrefix(b, []byte{0xd8, 98}):
		return keyObject(b, now)
	case len(b) > 2 && (b[0] == 0x89 && b[1] == 1 || b[0] == 0x86 && b[1] == 2 || b[0] == 0x87 && b[1] == 3):
		return frame(b)
	}
	return nil, nil
}

func keyObject(b []byte, now time.Time) (*Report, error) {
	o, err := protocol.InspectKeyObject(b)
	if err != nil {
		return nil, err
	}
	r := &Report{Kind: fmt.Sprintf("key object, %d bytes", len(b))}
	r.add("identity", o.Identity)
	r.add("role", o.Role.String())
	r.add("profile", string(o.Profile))
	r.add("valid from", stamp(o.NotBefore))
	note := "in " + o.Expires.Sub(now).Round(time.Second).String()
	if !now.Before(o.Expires) {
		note = "expired"
	}
	r.add("valid before", stamp(o.Expires), note)
	r.add("issued", stamp(o.Issued))
	if o.Nonce != nil {
		r.add("nonce", hex.EncodeToString(o.Nonce))
	}
	for _, s := range o.Suites {
		r.add("suite", s.String())
	}
	r.add("settings digest", hex.EncodeToString(o.Settings[:]))
	if o.ToolSet != nil {
		r.add("tool-set digest", hex.EncodeToString(o.ToolSet))
	}
	if o.Demands != nil {
		r.add("policy demanded", hex.EncodeToString(o.Demands))
	}
	if o.Thumbprint != nil {
		r.add("identity key", o.Thumbprint.String(), "thumbprint, RFC 9679")
	}
	for _, c := range o.Chain {
		r.add("certificate", c.Subject.String(), "issued by", c.Issuer.String()+",", "expires", stamp(c.NotAfter))
	}
	if o.AttestedKey != nil {
		r.add("attested key", o.AttestedKey.String())
	} else {
		r.add("attested key", "none", "this object says nothing about code")
	}
	if o.Evidence != nil {
		r.add("evidence", fmt.Sprintf("%d bytes", len(o.Evidence)))
	}
	r.add("signatures", strings.Join(o.Algorithms, ", "))
	r.add("key digest", hex.EncodeToString(o.Digest[:]))
	return r, nil
}

func frame(b []byte) (*Report, error) {
	f, err := protocol.InspectFrame(b)
	if err != nil {
		return nil, err
	}
	r := &Report{Kind: fmt.Sprintf("%s frame, %d bytes", []string{1: "open", 2: "next", 3: "answer"}[f.Type], len(b))}
	if f.Type == 1 {
		r.add("suite", f.Suite.String())
		r.add("key digest", hex.EncodeToString(f.KeyDigest[:]))
		r.add("encapsulated key", fmt.Sprintf("%d bytes", len(f.Enc)))
		r.add("client settings", fmt.Sprintf("%d bytes of CBOR", len(f.ClientSettings)))
		revision := f.Revision
		if revision == "" {
			revision = "none"
		}
		r.add("inner revision", revision)
	} else {
		r.add("context", hex.EncodeToString(f.Context[:]))
		r.add("message", fmt.Sprint(f.Seq))
		r.add("part", fmt.Sprint(f.N))
	}
	if f.Salt != nil {
		r.add("salt", hex.EncodeToString(f.Salt))
	}
	r.add("final", fmt.Sprint(f.Final))
	r.add("ciphertext", fmt.Sprintf("%d bytes", len(f.Ciphertext)), "with a tag of 16")
	return r, nil
}

func settings(v []byte) (*Report, error) {
	s, err := protocol.ParseSettings(v)
	if err != nil {
		return nil, err
	}
	o, d := s.Offer(), s.Digest()
	r := &Report{Kind: "settings of " + protocol.ExtensionID}
	r.add("profiles", list(o.Profiles))
	r.add("carriers", list(o.Carriers))
	r.add("suites", list(o.Suites))
	r.add("mode", string(o.Mode))
	if o.ClientKey != "" {
		r.add("client key", string(o.ClientKey))
	}
	r.add("digest", hex.EncodeToString(d[:]))
	return r, nil
}

func list[T any](vs []T) string {
	s := make([]string, len(vs))
	for i, v := range vs {
		s[i] = fmt.Sprint(v)
	}
	return strings.Join(s, ", ")
}

// fromJSON finds every object of the protocol in a JSON value.
func fromJSON(v []byte, now time.Time) ([]*Report, error) {
	if err := jsonrpc.Check(v, jsonrpc.Limits{}); err != nil {
		return nil, err
	}
	if jsonrpc.Get(v, "carriers") != nil && jsonrpc.Get(v, "suites") != nil {
		r, err := settings(v)
		return one(r), err
	}
	if jsonrpc.Get(v, "nonce") != nil && jsonrpc.Get(v, "mac") != nil && jsonrpc.Get(v, "ciphertext") != nil {
		return one(envelope(v)), nil
	}
	var out []*Report
	var walk func(v jsontext.Value) error
	var visit func(name string, val jsontext.Value) error
	visit = func(name string, val jsontext.Value) error {
		switch {
		case name == protocol.ExtensionID || name == protocol.MetaSettings:
			if val.Kind() == '{' {
				r, err := settings(val)
				if err != nil {
					return err
				}
				out = append(out, r)
			}
			return nil
		case name == "trustProtocol":
			if s, _ := jsonrpc.Text(jsonrpc.Get(val, "name")); s == aicc.Name {
				version, _ := jsonrpc.Text(jsonrpc.Get(val, "version"))
				r := &Report{Kind: "offer of profile " + aicc.Profile}
				r.add("version", version)
				out = append(out, r.weak())
			}
			return nil
		case name == protocol.MetaFrames && val.Kind() == '[':
			return jsonrpc.Elements(val, func(e jsontext.Value) error { return visit("frame", e) })
		case name == protocol.MetaKey || name == "frame" || name == "key":
			if s, ok := jsonrpc.Text(val); ok {
				raw, err := protocol.ParseBase64(s)
				if err != nil {
					return fmt.Errorf("member %q: %w", name, err)
				}
				r, err := binary(raw, now)
				if err != nil {
					return fmt.Errorf("member %q: %w", name, err)
				}
				if r != nil {
					out = append(out, r)
				}
			}
			return nil
		}
		return walk(val)
	}
	walk = func(v jsontext.Value) error {
		switch v.Kind() {
		case '{':
			return jsonrpc.Members(v, visit)
		case '[':
			return jsonrpc.Elements(v, func(e jsontext.Value) error { return visit("", e) })
		}
		return nil
	}
	if err := walk(v); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("JSON that holds no settings, key object or frame of %s", protocol.ExtensionID)
	}
	return out, nil
}

// envelope shows an envelope of profile aicc-0.1.
func envelope(v jsontext.Value) *Report {
	r := &Report{Kind: "request envelope of profile " + aicc.Profile}
	if jsonrpc.Get(v, "key") == nil {
		r.Kind = "answer envelope of profile " + aicc.Profile
	}
	for _, name := range []string{"nonce", "mac", "key", "ciphertext"} {
		if s, ok := jsonrpc.Text(jsonrpc.Get(v, name)); ok {
			b, err := base64.StdEncoding.Strict().DecodeString(s)
			if err != nil {
				r.add(name, "no base64", "a receiver must refuse it")
				continue
			}
			r.add(name, fmt.Sprintf("%d bytes", len(b)))
		}
	}
	return r.weak()
}

// weak says what profile aicc-0.1 leaves open, whoever speaks it.
func (r *Report) weak() *Report {
	for _, c := range aicc.Caveats() {
		r.add("weak", c)
	}
	r.add("attested", "no", "an envelope does not say whose key it is sealed to")
	return r
}

// sealedFile shows what a sealed file says openly.
func sealedFile(b []byte) (*Report, error) {
	h, err := sealfile.ReadHeader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r := &Report{Kind: fmt.Sprintf("sealed file, %d bytes", len(b))}
	r.add("suite", h.Suite.String())
	r.add("sealed to", hex.EncodeToString(h.KeyDigest[:]), "digest of the key object")
	r.add("chunks", fmt.Sprintf("%d bytes", 1<<h.ChunkBits))
	return r, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
