package cmw

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"reflect"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/evidence/internal/cosesign"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
)

func newKeys(t testing.TB) map[cose.Algorithm]crypto.Signer {
	keys := map[cose.Algorithm]crypto.Signer{}
	for alg, c := range map[cose.Algorithm]elliptic.Curve{cose.AlgorithmES256: elliptic.P256(), cose.AlgorithmES384: elliptic.P384(), cose.AlgorithmES512: elliptic.P521()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[alg] = k
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys[cose.AlgorithmPS256], keys[cose.AlgorithmEdDSA] = r, e
	return keys
}

// go-cose is the second opinion on COSE.
func TestSignedCBOR(t *testing.T) {
	c := NewCollection("a:b", Entry{TextLabel("x"), NewRecord("a/b", []byte{1}, Evidence)})
	payload, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	keys := newKeys(t)
	for alg, key := range keys {
		b, err := SignCBOR(c, key, []byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := VerifyCBOR(b, key.Public())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("%v: %+v, %v", alg, got, err)
		}
		v, err := cose.NewVerifier(alg, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		var m cose.Sign1Message
		if err := m.UnmarshalCBOR(b); err != nil {
			t.Fatal(err)
		}
		if err := m.Verify(nil, v); err != nil || !bytes.Equal(m.Payload, payload) {
			t.Errorf("go-cose refuses ours with %v: %v", alg, err)
		}

		s, err := cose.NewSigner(alg, key)
		if err != nil {
			t.Fatal(err)
		}
		theirs := cose.Sign1Message{Payload: payload, Headers: cose.Headers{
			Protected:   cose.ProtectedHeader{cose.HeaderLabelAlgorithm: alg, cose.HeaderLabelContentType: uint64(273)},
			Unprotected: cose.UnprotectedHeader{cose.HeaderLabelKeyID: []byte("k")}}}
		if err := theirs.Sign(rand.Reader, nil, s); err != nil {
			t.Fatal(err)
		}
		if b, err = theirs.MarshalCBOR(); err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyCBOR(b, key.Public()); err != nil {
			t.Errorf("%v: theirs: %v", alg, err)
		}
		kid := bytes.LastIndexByte(b[:len(b)-len(m.Signature)-len(payload)-2], 'k') // not protected
		for i := range b {
			b[i] ^= 1
			if _, err := VerifyCBOR(b, key.Public()); err == nil && i != kid && i != kid-2 {
				t.Errorf("%v: byte %d changed, and accepted", alg, i)
			}
			b[i] ^= 1
		}
		for other, k := range keys {
			if _, err := VerifyCBOR(b, k.Public()); (err == nil) != (other == alg) {
				t.Errorf("%v under a key for %v: %v", alg, other, err)
			}
		}
	}
}

func TestSignedRefused(t *testing.T) {
	key := newKeys(t)[cose.AlgorithmES256]
	payload, err := NewRecord("a/b", []byte{1}, 0).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"", "application/cbor", TypeJSON} {
		b, err := cosesign.Sign(key, cosesign.Header{ContentType: typ}, payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyCBOR(b, key.Public()); err == nil {
			t.Errorf("content type %q was accepted", typ)
		}
		j, err := jose.Sign(key, jose.Header{ContentType: typ}, []byte(`["a/b","AQ"]`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyJSON(j, key.Public()); (err == nil) != (typ == TypeJSON) {
			t.Errorf("cty %q: %v", typ, err)
		}
	}
}

func TestSignedJSON(t *testing.T) {
	c := NewCollection("a:b", Entry{TextLabel("x"), NewRecord("a/b", []byte{1}, Evidence)})
	for alg, key := range newKeys(t) {
		b, err := SignJSON(c, key, "k")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := VerifyJSON(b, key.Public()); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%v: %+v, %v", alg, got, err)
		}
		for i := range b {
			b[i] ^= 1
			if _, err := VerifyJSON(b, key.Public()); err == nil {
				t.Errorf("%v: byte %d changed, and accepted", alg, i)
			}
			b[i] ^= 1
		}
	}
}

func FuzzVerify(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	c := NewRecord("a/b", []byte{1}, 0)
	if b, err := SignCBOR(c, key, []byte("k")); err == nil {
		f.Add(b)
	}
	if b, err := SignJSON(c, key, "k"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nobody signs what the fuzzer finds.
		if c, err := VerifyCBOR(b, key.Public()); err == nil && c == nil {
			t.Error("verified nothing")
		}
		if c, err := VerifyJSON(b, key.Public()); err == nil && c == nil {
			t.Error("verified nothing")
		}
	})
}
