package sig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// An algorithm verifies under its own kind of key only, whatever the signature.
func TestVerify(t *testing.T) {
	keys := map[string]crypto.Signer{}
	for name, c := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA"], keys["Ed25519"] = r, e
	kind := map[Alg]string{ES256: "P-256", ES384: "P-384", ES512: "P-521", EdDSA: "Ed25519", PS256: "RSA", PS384: "RSA", PS512: "RSA", RS256: "RSA", RS384: "RSA", RS512: "RSA"}
	if len(kind) != len(algs) {
		t.Fatal("an algorithm is missing here")
	}
	msg := []byte("message")
	for a, name := range kind {
		s, err := Sign(a, keys[name], msg)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := FromCOSE(a.COSE()); !ok || got != a {
			t.Errorf("%s: number %d is %s", a, a.COSE(), got)
		}
		for b := range kind {
			for other, k := range keys {
				if err := Verify(b, k.Public(), msg, s); (err == nil) != (a == b && name == other) {
					t.Errorf("a signature with %s by %s, as %s under %s: %v", a, name, b, other, err)
				}
			}
		}
		for i := range s {
			s[i] ^= 1
			if Verify(a, keys[name].Public(), msg, s) == nil {
				t.Errorf("%s: byte %d changed, and accepted", a, i)
			}
			s[i] ^= 1
		}
		for _, bad := range [][]byte{nil, s[:len(s)-1], append(append([]byte{}, s...), 0), make([]byte, len(s))} {
			if Verify(a, keys[name].Public(), msg, bad) == nil {
				t.Errorf("%s: %d bytes were accepted", a, len(bad))
			}
		}
		if Verify(a, keys[name].Public(), []byte("other"), s) == nil {
			t.Errorf("%s: another message was accepted", a)
		}
		for other, k := range keys {
			if _, err := Sign(a, k, msg); (err == nil) != (other == name) {
				t.Errorf("%s by a key %s: %v", a, other, err)
			}
		}
	}
	// ECDSA signatures by a key under an algorithm that differs in the hash only.
	for _, a := range []Alg{"none", "", "HS256", "ES256K"} {
		if Verify(a, keys["P-256"].Public(), msg, nil) == nil || a.COSE() != 0 {
			t.Errorf("%q was accepted", a)
		}
	}
	if _, ok := FromCOSE(0); ok {
		t.Error("algorithm 0 is none")
	}
}

func TestCheckKey(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bits := func(n uint) *rsa.PublicKey { return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), n-1), E: 65537} }
	for name, k := range map[string]crypto.PublicKey{"P-224": p224.Public(), "nil": nil, "nil ECDSA": (*ecdsa.PublicKey)(nil), "nil RSA": (*rsa.PublicKey)(nil), "empty RSA": &rsa.PublicKey{}, "2047 bits": bits(2047), "8193 bits": bits(8193), "short Ed25519": ed25519.PublicKey{1}, "text": "key"} {
		if CheckKey(k) == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := For(k); err == nil {
			t.Errorf("%s: has an algorithm", name)
		}
	}
	if err := CheckKey(bits(2048)); err != nil {
		t.Error(err)
	}
}
