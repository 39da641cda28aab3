// Package jose reads and writes compact JWS (RFC 7515) and reads JWK sets (RFC
// 7517), strictly. [Parse] splits a token; nothing of its payload may be
// believed before [JWS.Verify] succeeded with a key that came from elsewhere.
package jose

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/internal/sig"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Limits.
const (
	MaxBytes = 1 << 20 // one token
	MaxDepth = 32
	maxChain = 8
)

// A JWS is a token in its parts. Nothing in it is verified.
type JWS struct {
	Alg         sig.Alg
	KeyID       string              // kid; "" when absent
	Type        string              // typ
	ContentType string              // cty
	KeyURL      string              // jku; for the caller to refuse, and never to follow
	Chain       []*x509.Certificate // x5c, leaf first

	payload, signed, signature []byte
}

// Decode decodes base64url without padding, and nothing else: Go's decoder
// would skip line ends.
func Decode(s []byte) ([]byte, error) {
	if bytes.ContainsAny(s, "\r\n") {
		return nil, errors.New("base64url with a line end")
	}
	out, err := base64.RawURLEncoding.Strict().AppendDecode(nil, s)
	if err != nil {
		return nil, fmt.Errorf("not base64url without padding: %w", err)
	}
	return out, nil
}

// Parse splits a compact JWS: three parts of base64url. Headers that carry or
// point to keys (jwk, x5u) are refused, as are crit and unencoded payloads and
// every algorithm that is not in package sig. x5c and jku are read, and count for
// nothing unless the caller says so.
func Parse(token []byte) (*JWS, error) {
	if len(token) > MaxBytes {
		return nil, fmt.Errorf("a token of %d bytes; %d are allowed", len(token), MaxBytes)
	}
	if bytes.Count(token, []byte{'.'}) != 2 {
		return nil, errors.New("not a compact JWS: want three parts of base64url with dots between")
	}
	i, j := bytes.IndexByte(token, '.'), bytes.LastIndexByte(token, '.')
	header, err := Decode(token[:i])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	t := &JWS{signed: token[:j:j]}
	if t.payload, err = Decode(token[i+1 : j]); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if t.signature, err = Decode(token[j+1:]); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if err := Check(header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := t.header(header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return t, nil
}

// CheckAny reports whether b is one strict JSON value: unique names at every
// depth, valid UTF-8, nothing after it, at most 1 MiB and 32 levels.
func CheckAny(b []byte) error { return CheckLimits(b, MaxBytes, MaxDepth) }

// CheckLimits is [CheckAny] with other limits.
func CheckLimits(b []byte, maxBytes, maxDepth int) error {
	err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: maxBytes, MaxDepth: maxDepth})
	if e, ok := errors.AsType[*jsonrpc.ParseError](err); ok {
		return fmt.Errorf("JSON: %s: %s", e.Reason, e.Detail)
	}
	return err
}

// Check is [CheckAny] for an object.
func Check(b []byte) error {
	if err := CheckAny(b); err != nil {
		return err
	}
	if jsontext.Value(b).Kind() != '{' {
		return errors.New("not a JSON object")
	}
	return nil
}

func (t *JWS) header(b []byte) error {
	err := jsonrpc.Members(b, func(name string, v jsontext.Value) error {
		var to *string
		alg := ""
		switch name {
		case "alg":
			to = &alg
		case "kid":
			to = &t.KeyID
		case "typ":
			to = &t.Type
		case "cty":
			to = &t.ContentType
		case "jku":
			to = &t.KeyURL
		case "x5c":
			return t.chain(v)
		case "jwk", "x5u":
			return fmt.Errorf("%s: a token does not choose the key that it is verified with; pin the key", name)
		case "crit", "b64", "enc", "zip":
			return fmt.Errorf("%s is not supported", name)
		default:
			return nil
		}
		s, ok := jsonrpc.Text(v)
		if !ok {
			return fmt.Errorf("%s is no text", name)
		}
		if name == "jku" && s == "" {
			return errors.New("jku is empty")
		}
		*to = s
		if name == "alg" {
			t.Alg = sig.Alg(alg)
		}
		return nil
	})
	if err == nil && t.Alg.COSE() == 0 {
		err = fmt.Errorf("alg %.40q is not allowed", string(t.Alg))
	}
	return err
}

func (t *JWS) chain(v jsontext.Value) error {
	if v.Kind() != '[' {
		return errors.New("x5c is no array")
	}
	var err error
	t.Chain, err = certificates(v)
	return err
}

func certificates(v jsontext.Value) (chain []*x509.Certificate, err error) {
	err = jsonrpc.Elements(v, func(e jsontext.Value) error {
		if len(chain) == maxChain {
			return fmt.Errorf("x5c of more than %d certificates", maxChain)
		}
		s, ok := jsonrpc.Text(e)
		if !ok || strings.ContainsAny(s, "\r\n") {
			return errors.New("x5c: a certificate is not base64")
		}
		der, err := base64.StdEncoding.Strict().DecodeString(s) // RFC 7515 section 4.1.6: not base64url
		if err != nil {
			return errors.New("x5c: a certificate is not base64")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("x5c: %w", err)
		}
		chain = append(chain, c)
		return nil
	})
	if err == nil && len(chain) == 0 {
		err = errors.New("x5c is empty")
	}
	return chain, err
}

// Bare refuses headers that name keys: those that a set of pinned keys verifies
// need none.
func (t *JWS) Bare() error {
	if t.KeyURL != "" || t.Chain != nil {
		return errors.New("jku or x5c: a token does not choose the key that it is verified with; pin the key")
	}
	return nil
}

// Verify checks the signature and returns the payload.
func (t *JWS) Verify(pub crypto.PublicKey) ([]byte, error) {
	if err := sig.Verify(t.Alg, pub, t.signed, t.signature); err != nil {
		return nil, err
	}
	return t.payload, nil
}

// A Header is what [Sign] writes into a token's header; empty fields are left
// out.
type Header struct{ KeyID, Type, ContentType string }

// Sign makes a compact JWS with the algorithm that fits the key.
func Sign(key crypto.Signer, h Header, payload []byte) ([]byte, error) {
	alg, err := sig.For(key.Public())
	if err != nil {
		return nil, err
	}
	head := append([]byte(`{"alg":`), jsonrpc.Quote(string(alg))...)
	for _, m := range [][2]string{{"kid", h.KeyID}, {"typ", h.Type}, {"cty", h.ContentType}} {
		if m[1] != "" {
			head = append(append(append(append(head, `,"`...), m[0]...), `":`...), jsonrpc.Quote(m[1])...)
		}
	}
	out := base64.RawURLEncoding.AppendEncode(nil, append(head, '}'))
	out = base64.RawURLEncoding.AppendEncode(append(out, '.'), payload)
	s, err := sig.Sign(alg, key, out)
	if err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.AppendEncode(append(out, '.'), s), nil
}
