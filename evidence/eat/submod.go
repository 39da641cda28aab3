package eat

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence/internal/cosesign"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// readSubmod reads a submodule (RFC 9711 section 4.2.18). In CBOR its type says
// what it is: a map is a claims-set, a byte string a tagged token, a text a
// token in JSON, an array a digest. In JSON an array names what it holds.
func readSubmod(d *decoder, v value, depth int) Submod {
	switch v.kind() {
	case '{':
		c, err := read(v, depth+1)
		if err != nil {
			d.fail("%w", err)
		}
		return Submod{Claims: c}
	case '[':
		if v.json {
			return readSelector(d, v, true)
		}
		return Submod{Digest: readDigest(d, v)}
	case 'b':
		b := d.octets(v, 1, MaxBytes)
		if d.err == nil && b[0]>>5 != 6 {
			d.fail("a nested token without its tag")
		}
		return Submod{Nested: &Nested{CBOR, b}}
	case '"':
		if !v.json {
			s := []byte(d.text(v))
			if d.err == nil {
				if err := checkJSON(s); err != nil {
					d.fail("a nested token in JSON: %w", err)
				}
			}
			if d.err != nil {
				return Submod{}
			}
			return readSelector(d, value{s, true}, false)
		}
	}
	d.fail("want a claims-set, a nested token or a digest")
	return Submod{}
}

// readSelector reads ["JWT", token], ["CBOR", base64url], ["BUNDLE", bundle] or
// ["DIGEST", digest].
func readSelector(d *decoder, v value, digest bool) (s Submod) {
	form := ""
	d.array(v, 2, 2, func(i int, v value) {
		if i == 0 {
			form = d.text(v)
			return
		}
		switch {
		case form == string(JWT):
			s.Nested = &Nested{JWT, []byte(d.text(v))}
			if bytes.Count(s.Nested.Token, []byte{'.'}) != 2 {
				d.fail("not a compact JWT")
			}
		case form == string(CBOR):
			s.Nested = &Nested{CBOR, d.octets(v, 1, MaxBytes)}
			if d.err == nil && s.Nested.Token[0]>>5 != 6 {
				d.fail("a nested token without its tag")
			}
		case form == string(JSONBundle):
			if v.kind() != '[' {
				d.fail("a bundle that is no array")
			}
			s.Nested = &Nested{JSONBundle, bytes.Clone(v.b)}
		case form == "DIGEST" && digest:
			s.Digest = readDigest(d, v)
		default:
			d.fail("%.20q is no nested token that can stand here", form)
		}
	})
	return s
}

func readDigest(d *decoder, v value) *Digest {
	g := &Digest{}
	d.array(v, 2, 2, func(i int, v value) {
		switch {
		case i == 1:
			g.Value = d.octets(v, 1, 64)
		case v.kind() == '0':
			if g.Algorithm = d.integer(v); g.Algorithm == 0 {
				d.fail("digest algorithm 0 is reserved")
			}
		default:
			if g.Name = d.text(v); g.Name == "" {
				d.fail("a digest without an algorithm")
			}
		}
	})
	return g
}

func writeSubmod(e encoder, s Submod, depth int) ([]byte, error) {
	switch {
	case s.Claims != nil && s.Nested == nil && s.Digest == nil:
		return write(e, s.Claims, depth+1)
	case s.Nested != nil && s.Claims == nil && s.Digest == nil:
		return writeNested(e, s.Nested)
	case s.Digest != nil && s.Claims == nil && s.Nested == nil:
		g := s.Digest
		alg := e.integer(g.Algorithm)
		if g.Name != "" {
			alg = e.text(g.Name)
		}
		b := e.array(alg, e.octets(g.Value))
		if e.json {
			b = e.array(e.text("DIGEST"), b)
		}
		return b, nil
	}
	return nil, errors.New("exactly one of claims, nested token and digest is required")
}

func writeNested(e encoder, n *Nested) ([]byte, error) {
	j := encoder{json: true}
	var sel []byte
	switch n.Form {
	case CBOR:
		if !e.json {
			return e.octets(n.Token), nil
		}
		sel = j.array(j.text(string(CBOR)), j.octets(n.Token))
	case JWT:
		sel = j.array(j.text(string(JWT)), j.text(string(n.Token)))
	case JSONBundle:
		sel = j.array(j.text(string(JSONBundle)), n.Token)
	default:
		return nil, fmt.Errorf("%.20q is no form of a nested token", n.Form)
	}
	if e.json {
		return sel, nil
	}
	return e.text(string(sel)), nil
}

// matches reports whether b has the digest. Algorithms that we do not know
// never match.
func (g *Digest) matches(b []byte) bool {
	var sum []byte
	switch {
	case g.Name == "SHA-256" || g.Name == "" && g.Algorithm == -16:
		s := sha256.Sum256(b)
		sum = s[:]
	case g.Name == "SHA-384" || g.Name == "" && g.Algorithm == -43:
		s := sha512.Sum384(b)
		sum = s[:]
	case g.Name == "SHA-512" || g.Name == "" && g.Algorithm == -44:
		s := sha512.Sum512(b)
		sum = s[:]
	}
	return sum != nil && subtle.ConstantTimeCompare(sum, g.Value) == 1
}

// A Bundle is a detached EAT bundle (RFC 9711 section 6): a token, and
// claims-sets of which the token's submodules hold the digests. Nothing in it is
// verified; see [Bundle.Verify].
type Bundle struct {
	Main     Nested
	Detached map[string][]byte // claims-sets as bytes, in CBOR or JSON as the bundle is
	json     bool
}

// ParseBundle reads a bundle: in CBOR, with or without tag 602, or in JSON.
func ParseBundle(b []byte) (*Bundle, error) {
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	v := value{b, len(b) > 0 && b[0] == '['}
	if v.json {
		if err := checkJSON(b); err != nil {
			return nil, fmt.Errorf("eat: bundle: %w", err)
		}
	} else {
		v.b = cosesign.Untag(b, TagBundle)
		r := dcbor.NewReader(v.b)
		r.Skip()
		if err := r.Done(); err != nil {
			return nil, fmt.Errorf("eat: bundle: %w", err)
		}
	}
	d, out := &decoder{}, &Bundle{Detached: map[string][]byte{}, json: v.json}
	d.array(v, 2, 2, func(i int, v value) {
		if i == 0 {
			if s := readSubmod(d, v, 0); s.Nested == nil {
				d.fail("the main token is no token")
			} else {
				out.Main = *s.Nested
			}
			return
		}
		d.members(v, maxSubs, func(l Label, v value) {
			if l.Name == "" {
				d.fail("a label that is no text")
				return
			}
			out.Detached[l.Name] = d.octets(v, 1, MaxBytes)
		})
		if len(out.Detached) == 0 {
			d.fail("no detached claims-set; at least one is required")
		}
	})
	if d.err != nil {
		return nil, fmt.Errorf("eat: bundle: %w", d.err)
	}
	return out, nil
}

// Verify verifies the main token, and each detached claims-set against the
// digest in the submodule of the same name. It returns the main token's claims,
// in which those submodules have become claims-sets. A claims-set without a
// digest is an error, and so is a digest without its claims-set.
func (b *Bundle) Verify(o *Options) (*Claims, error) {
	if b.Main.Form == JSONBundle {
		return nil, errors.New("eat: bundle: a bundle as the main token of a bundle")
	}
	c, err := Verify(b.Main.Token, o)
	if err != nil {
		return nil, err
	}
	for name, raw := range b.Detached {
		s, ok := c.Submods[name]
		if !ok || s.Digest == nil {
			return nil, fmt.Errorf("eat: bundle: the token has no digest of the claims-set %.80q", name)
		}
		if !s.Digest.matches(raw) {
			return nil, fmt.Errorf("eat: bundle: the claims-set %.80q does not have the digest that the token tells", name)
		}
		parse := ParseCBOR
		switch {
		case b.json:
			parse = ParseJSON
		case o.Unsorted:
			parse = ParseUnsorted
		}
		sub, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("eat: bundle: claims-set %.80q: %w", name, err)
		}
		c.Submods[name] = Submod{Claims: sub}
	}
	for name, s := range c.Submods {
		if s.Digest != nil {
			return nil, fmt.Errorf("eat: bundle: the claims-set %.80q is missing", name)
		}
	}
	return c, nil
}

func checkJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		return errors.New("want an array")
	}
	return jose.CheckAny(b)
}
