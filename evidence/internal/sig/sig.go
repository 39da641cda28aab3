// Package sig has the signature algorithms that JOSE and COSE share, with the
// checks that both need: an algorithm fits one kind of key only, and RSA keys
// have at least 2048 bits. Call [Verify], or [Sign] for what we sign ourselves.
package sig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // hashes of the algorithms below
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// An Alg is a signature algorithm, by its name in JOSE (RFC 7518 section 3.1).
type Alg string

// The algorithms. There is no other, and never "none".
const (
	ES256 Alg = "ES256"
	ES384 Alg = "ES384"
	ES512 Alg = "ES512"
	PS256 Alg = "PS256"
	PS384 Alg = "PS384"
	PS512 Alg = "PS512"
	RS256 Alg = "RS256"
	RS384 Alg = "RS384"
	RS512 Alg = "RS512"
	EdDSA Alg = "EdDSA" // Ed25519 only
)

type info struct {
	cose  int64 // RFC 9053, RFC 8812
	hash  crypto.Hash
	curve elliptic.Curve
	pss   bool
}

var algs = map[Alg]info{
	ES256: {cose: -7, hash: crypto.SHA256, curve: elliptic.P256()},
	ES384: {cose: -35, hash: crypto.SHA384, curve: elliptic.P384()},
	ES512: {cose: -36, hash: crypto.SHA512, curve: elliptic.P521()},
	EdDSA: {cose: -8},
	PS256: {cose: -37, hash: crypto.SHA256, pss: true},
	PS384: {cose: -38, hash: crypto.SHA384, pss: true},
	PS512: {cose: -39, hash: crypto.SHA512, pss: true},
	RS256: {cose: -257, hash: crypto.SHA256},
	RS384: {cose: -258, hash: crypto.SHA384},
	RS512: {cose: -259, hash: crypto.SHA512},
}

// COSE is the algorithm's number in COSE; 0 for an unknown one.
func (a Alg) COSE() int64 { return algs[a].cose }

// FromCOSE is the inverse of [Alg.COSE].
func FromCOSE(n int64) (Alg, bool) {
	for a, i := range algs {
		if i.cose == n {
			return a, true
		}
	}
	return "", false
}

// Bounds of RSA keys, in bits.
const (
	minRSA = 2048
	maxRSA = 8192
)

// CheckKey refuses keys that no algorithm is for: RSA keys shorter than 2048 or
// longer than 8192 bits, other curves, other kinds.
func CheckKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return nil
		}
	case *ecdsa.PublicKey:
		if k != nil && (k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()) {
			return nil
		}
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			break
		}
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("an RSA key of %d bits; %d to %d are allowed", n, minRSA, maxRSA)
		}
		return nil
	}
	return fmt.Errorf("a key of type %T can't be used: want Ed25519, ECDSA P-256, P-384 or P-521, or RSA", pub)
}

// Fits reports whether pub is a key for a.
func (a Alg) Fits(pub crypto.PublicKey) bool {
	i, ok := algs[a]
	if !ok || CheckKey(pub) != nil {
		return false
	}
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return a == EdDSA
	case *ecdsa.PublicKey:
		return i.curve != nil && k.Curve == i.curve
	case *rsa.PublicKey:
		return i.curve == nil && a != EdDSA
	}
	return false
}

// For is the algorithm that we sign with under a key: ES256, ES384 or ES512 by
// the curve, EdDSA, and PS256 for RSA.
func For(pub crypto.PublicKey) (Alg, error) {
	for _, a := range []Alg{ES256, ES384, ES512, EdDSA, PS256} {
		if a.Fits(pub) {
			return a, nil
		}
	}
	if err := CheckKey(pub); err != nil {
		return "", err
	}
	return "", errors.New("no algorithm for this key")
}

var errSignature = errors.New("the signature does not verify")

// Verify checks a signature over msg, in the form that JOSE and COSE share:
// ECDSA signatures are r and s, each of the curve's size.
func Verify(a Alg, pub crypto.PublicKey, msg, signature []byte) error {
	if !a.Fits(pub) {
		return fmt.Errorf("algorithm %.20q is not for this key (%T)", a, pub)
	}
	i := algs[a]
	var digest []byte
	if i.hash != 0 {
		h := i.hash.New()
		h.Write(msg)
		digest = h.Sum(nil)
	}
	ok := false
	switch k := pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, msg, signature)
	case *ecdsa.PublicKey:
		n := (k.Curve.Params().BitSize + 7) / 8
		ok = len(signature) == 2*n && ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:]))
	case *rsa.PublicKey:
		if i.pss {
			ok = rsa.VerifyPSS(k, i.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(k, i.hash, digest, signature) == nil
		}
	}
	if !ok {
		return errSignature
	}
	return nil
}

// Sign signs msg. ECDSA keys of Go's own sign deterministically (RFC 6979).
func Sign(a Alg, key crypto.Signer, msg []byte) ([]byte, error) {
	if !a.Fits(key.Public()) {
		return nil, fmt.Errorf("algorithm %.20q is not for this key (%T)", a, key.Public())
	}
	i := algs[a]
	if a == EdDSA {
		return key.Sign(rand.Reader, msg, crypto.Hash(0))
	}
	h := i.hash.New()
	h.Write(msg)
	digest := h.Sum(nil)
	if i.curve == nil {
		if i.pss {
			return key.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: i.hash})
		}
		return key.Sign(rand.Reader, digest, i.hash)
	}
	random := rand.Reader
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		random = nil
	}
	der, err := key.Sign(random, digest, i.hash)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 {
		return nil, errors.New("the signer's signature is not ASN.1")
	}
	n := (i.curve.Params().BitSize + 7) / 8
	out := make([]byte, 2*n)
	rs.R.FillBytes(out[:n])
	rs.S.FillBytes(out[n:])
	return out, nil
}
