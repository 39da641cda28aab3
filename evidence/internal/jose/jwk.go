package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/internal/sig"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// maxKeys bounds a JWK set.
const maxKeys = 256

// A JWK is one public key of a set.
type JWK struct {
	ID     string
	Alg    sig.Alg // "": any that fits the key
	Public crypto.PublicKey
	Chain  []*x509.Certificate // x5c, whose leaf holds the key; trusted only as far as its roots are
}

// ParseSet reads a JWK set. Keys that are not for signatures, or of kinds that
// we do not use, are left out, as RFC 7517 section 5 asks; keys of our kinds
// that are malformed or weak are errors, as is a set in which no key is left.
// Private keys are refused.
func ParseSet(b []byte) ([]JWK, error) {
	if err := Check(b); err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	set := jsonrpc.Get(b, "keys")
	if set == nil || set.Kind() != '[' {
		return nil, errors.New(`JWK set: no array "keys"`)
	}
	var keys []JWK
	n := 0
	err := jsonrpc.Elements(set, func(v jsontext.Value) error {
		if n++; n > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		if v.Kind() != '{' {
			return errors.New("a key is no object")
		}
		k, ok, err := parseKey(v)
		if err != nil {
			return fmt.Errorf("key %d: %w", n, err)
		}
		if ok {
			keys = append(keys, k)
		}
		return nil
	})
	if err == nil && len(keys) == 0 {
		err = errors.New("no key for signatures")
	}
	if err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	return keys, nil
}

func parseKey(v jsontext.Value) (k JWK, ok bool, err error) {
	text := func(name string) string {
		m := jsonrpc.Get(v, name)
		if m == nil {
			return ""
		}
		s, ok := jsonrpc.Text(m)
		if !ok && err == nil {
			err = fmt.Errorf("%s is no text", name)
		}
		return s
	}
	octets := func(name string, size int) []byte {
		b, e := Decode([]byte(text(name)))
		if e == nil && (len(b) == 0 || size > 0 && len(b) != size) {
			e = fmt.Errorf("%d bytes", len(b))
		}
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
		return b
	}
	kty, use, crv := text("kty"), text("use"), text("crv")
	if err != nil {
		return k, false, err
	}
	if use != "" && use != "sig" {
		return k, false, nil
	}
	if jsonrpc.Get(v, "d") != nil {
		return k, false, errors.New("a private key; a set to verify with has public keys only")
	}
	k.ID, k.Alg = text("kid"), sig.Alg(text("alg"))
	x5c := jsonrpc.Get(v, "x5c")
	if x5c != nil && err == nil {
		if x5c.Kind() != '[' {
			return k, false, errors.New("x5c is no array")
		}
		if k.Chain, err = certificates(x5c); err != nil {
			return k, false, err
		}
	}
	switch {
	case kty == "RSA" && x5c != nil && jsonrpc.Get(v, "n") == nil:
		// Azure's sets have the certificate only.
		pub, ok := k.Chain[0].PublicKey.(*rsa.PublicKey)
		if !ok {
			return k, false, errors.New("x5c is for another kind of key")
		}
		k.Public = pub
	case kty == "RSA":
		n, e := octets("n", 0), octets("e", 0)
		if err == nil && len(e) > 4 {
			err = errors.New("e: an exponent of more than 4 bytes")
		}
		if err == nil {
			k.Public = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		}
	case kty == "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[crv]
		if curve == nil {
			return k, false, err
		}
		size := (curve.Params().BitSize + 7) / 8
		point := append(append([]byte{4}, octets("x", size)...), octets("y", size)...)
		if err == nil {
			k.Public, err = ecdsa.ParseUncompressedPublicKey(curve, point)
		}
	case kty == "OKP" && crv == "Ed25519":
		k.Public = ed25519.PublicKey(octets("x", ed25519.PublicKeySize))
	default:
		return k, false, err
	}
	if err != nil {
		return k, false, err
	}
	if err := sig.CheckKey(k.Public); err != nil {
		return k, false, err
	}
	if k.Alg != "" && !k.Alg.Fits(k.Public) {
		if k.Alg.COSE() == 0 {
			return k, false, nil // for something else
		}
		return k, false, fmt.Errorf("alg %s is not for a key of this kind", k.Alg)
	}
	if x5c != nil {
		spki, err := x509.MarshalPKIXPublicKey(k.Public)
		if err != nil || !bytes.Equal(spki, k.Chain[0].RawSubjectPublicKeyInfo) {
			return k, false, errors.New("x5c is for another key")
		}
	}
	return k, true, nil
}
