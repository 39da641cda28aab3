package eat

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence/internal/cosesign"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/evidence/internal/sig"
)

// An Alg is a signature algorithm by its name in JOSE; see the constants.
type Alg = sig.Alg

// The algorithms that tokens may be signed with.
const (
	ES256 = sig.ES256
	ES384 = sig.ES384
	ES512 = sig.ES512
	PS256 = sig.PS256
	PS384 = sig.PS384
	PS512 = sig.PS512
	RS256 = sig.RS256
	RS384 = sig.RS384
	RS512 = sig.RS512
	EdDSA = sig.EdDSA
)

// A Key is a key that is pinned to verify tokens with.
type Key struct {
	ID     string           // kid
	Public crypto.PublicKey // ed25519.PublicKey, *ecdsa.PublicKey (P-256, P-384, P-521) or *rsa.PublicKey (2048 to 8192 bits)
	Alg    Alg              // the only algorithm it is used with; "": any that fits
}

// Keys are the keys that are pinned. A token's kid chooses among them; one
// without a kid is verified only when there is a single key.
type Keys []Key

// ErrNoKey is wrapped by errors about tokens that name a key that is not pinned.
var ErrNoKey = errors.New("no pinned key")

// Find returns the key that a token with this kid and algorithm must verify
// under.
func (ks Keys) Find(kid string, alg Alg) (*Key, error) {
	var found *Key
	named := false
	for i := range ks {
		k := &ks[i]
		if kid != "" && k.ID != kid || kid == "" && len(ks) > 1 {
			continue
		}
		named = true
		if k.Alg != "" && k.Alg != alg || !alg.Fits(k.Public) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("two pinned keys with kid %.80q fit %s", kid, alg)
		}
		found = k
	}
	switch {
	case found != nil:
		return found, nil
	case named:
		return nil, fmt.Errorf("algorithm %s is not for the pinned key %.80q", alg, kid)
	case kid == "":
		return nil, fmt.Errorf("%w: the token names none, and %d are pinned", ErrNoKey, len(ks))
	}
	return nil, fmt.Errorf("%w with kid %.80q", ErrNoKey, kid)
}

// Options say what a token must be.
type Options struct {
	Keys Keys      // required
	Now  time.Time // required
	// Skew is how far the issuer's clock may be ahead of Now: iat and nbf may lie
	// that much in the future. Expiry has no grace.
	Skew time.Duration
	// Nonce must be among the token's nonces; nil: not checked. In a JWT it is
	// compared with the text.
	Nonce []byte
	// Profile must be the token's eat_profile; "": not checked.
	Profile string
	// Audience must be among the token's audiences; "": not checked.
	Audience string
	// RequireExpiry refuses tokens without exp.
	RequireExpiry bool
	// Unsorted takes CWTs whose maps are not sorted; see [ParseUnsorted].
	Unsorted bool
}

// Verify verifies a signed token: a CWT in COSE_Sign1 (tags 61 and 18 may stand
// before it), or a compact JWT. The key is chosen among o.Keys by kid; the
// algorithm must fit it. A type header, where there is one, must say EAT, CWT or
// JWT. Only claims that were verified are returned.
func Verify(token []byte, o *Options) (*Claims, error) {
	if len(token) > MaxBytes {
		return nil, errTooLong(len(token))
	}
	if o == nil || o.Now.IsZero() || len(o.Keys) == 0 {
		return nil, errors.New("eat: keys and the time are required to verify a token")
	}
	verify := verifyJWT
	if len(token) > 0 && token[0] >= 0x80 { // COSE; base64url is ASCII
		verify = verifyCWT
	}
	c, err := verify(token, o)
	if err == nil {
		err = c.check(o)
	}
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	return c, nil
}

func verifyCWT(b []byte, o *Options) (*Claims, error) {
	b = cosesign.Untag(b, TagCWT, 18)
	if o.Unsorted {
		var err error
		if b, err = cosesign.Sorted(b); err != nil { // the unprotected header and the array
			return nil, err
		}
	}
	m, err := cosesign.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := checkType(m.Type, "cwt"); err != nil {
		return nil, err
	}
	if m.TypeFormat >= 0 && m.TypeFormat != 263 && m.TypeFormat != 61 {
		return nil, fmt.Errorf("a token of type %d; want 263, application/eat+cwt", m.TypeFormat)
	}
	k, err := o.Keys.Find(string(m.KeyID), m.Alg)
	if err != nil {
		return nil, err
	}
	payload, err := m.Verify(k.Public, nil)
	if err != nil {
		return nil, err
	}
	if o.Unsorted {
		return ParseUnsorted(payload)
	}
	return ParseCBOR(payload)
}

func verifyJWT(b []byte, o *Options) (*Claims, error) {
	t, err := jose.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := checkType(t.Type, "jwt"); err != nil {
		return nil, err
	}
	if err := t.Bare(); err != nil {
		return nil, err
	}
	k, err := o.Keys.Find(t.KeyID, t.Alg)
	if err != nil {
		return nil, err
	}
	payload, err := t.Verify(k.Public)
	if err != nil {
		return nil, err
	}
	return ParseJSON(payload)
}

// checkType checks a typ header: nothing, "cwt" or "jwt", or the media type of an
// EAT (RFC 9782) with or without "application/" and parameters.
func checkType(typ, kind string) error {
	t, _, _ := strings.Cut(strings.ToLower(typ), ";")
	t = strings.TrimPrefix(strings.TrimSpace(t), "application/")
	if t == "" && typ == "" || t == kind || t == "eat+"+kind {
		return nil
	}
	return fmt.Errorf("a token of type %.40q; want %s or application/eat+%s", typ, strings.ToUpper(kind), kind)
}

func (c *Claims) check(o *Options) error {
	switch {
	case c.Expires.IsZero() && o.RequireExpiry:
		return errors.New("the token has no exp, which is required here")
	case !c.Expires.IsZero() && !o.Now.Before(c.Expires):
		return fmt.Errorf("the token expired at %s; it is %s", c.Expires.Format(time.RFC3339), o.Now.UTC().Format(time.RFC3339))
	case o.Now.Add(o.Skew).Before(c.NotBefore):
		return fmt.Errorf("the token is not valid before %s; it is %s", c.NotBefore.Format(time.RFC3339), o.Now.UTC().Format(time.RFC3339))
	case o.Now.Add(o.Skew).Before(c.IssuedAt):
		return fmt.Errorf("the token was issued at %s, in the future; it is %s", c.IssuedAt.Format(time.RFC3339), o.Now.UTC().Format(time.RFC3339))
	case o.Profile != "" && c.Profile != o.Profile:
		return fmt.Errorf("eat_profile is %.80q; want %q", c.Profile, o.Profile)
	case o.Audience != "" && !slices.Contains(c.Audience, o.Audience):
		return fmt.Errorf("aud is %.200q; want %q", c.Audience, o.Audience)
	case o.Nonce != nil && !slices.ContainsFunc(c.Nonces, func(n []byte) bool { return bytes.Equal(n, o.Nonce) }):
		return errors.New("none of the token's nonces is the one that was asked for")
	}
	return nil
}

// SignCWT signs claims as a CWT: tag 18 before a COSE_Sign1 of deterministic
// CBOR. kid may be "". The algorithm is the one that fits the key.
func SignCWT(c *Claims, key crypto.Signer, kid string) ([]byte, error) {
	payload, err := c.EncodeCBOR()
	if err != nil {
		return nil, err
	}
	b, err := cosesign.Sign(key, cosesign.Header{KeyID: []byte(kid), Type: "application/eat+cwt"}, payload, nil)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	return append([]byte{0xd2}, b...), nil
}

// SignJWT signs claims as a compact JWT. kid may be "". The algorithm is the one
// that fits the key.
func SignJWT(c *Claims, key crypto.Signer, kid string) ([]byte, error) {
	payload, err := c.EncodeJSON()
	if err != nil {
		return nil, err
	}
	b, err := jose.Sign(key, jose.Header{KeyID: kid, Type: "eat+jwt"}, payload)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	return b, nil
}
