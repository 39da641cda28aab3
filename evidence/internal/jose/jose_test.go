package jose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestParseSet(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := func(c elliptic.Curve) string {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		n := len(p) / 2
		return fmt.Sprintf(`"kty":"EC","crv":"P-%d","x":"%s","y":"%s"`, c.Params().BitSize, b64(p[1:1+n]), b64(p[1+n:]))
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now()}, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}}, r.Public(), r)
	if err != nil {
		t.Fatal(err)
	}
	x5c := `"x5c":["` + base64.StdEncoding.EncodeToString(cert) + `"]`
	rsaKey := `"kty":"RSA","n":"` + b64(r.N.Bytes()) + `","e":"AQAB"`
	okp := `"kty":"OKP","crv":"Ed25519","x":"` + b64(pub) + `"`
	p256 := ec(elliptic.P256())
	for name, key := range map[string]string{"RSA": rsaKey, "P-256": p256, "P-384": ec(elliptic.P384()), "P-521": ec(elliptic.P521()), "Ed25519": okp,
		"use and alg": rsaKey + `,"use":"sig","alg":"PS384","kid":"k"`, "with its certificate": rsaKey + "," + x5c, "certificate only, as Azure has it": `"kty":"RSA","kid":"k",` + x5c} {
		keys, err := ParseSet([]byte(`{"keys":[{` + key + `}]}`))
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
	// Kinds and uses that are not for us are left out.
	if keys, err := ParseSet([]byte(`{"keys":[{"kty":"oct","k":"AA"},{` + rsaKey + `,"use":"enc"},{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"},{"kty":"OKP","crv":"X25519","x":"AA"},{` + rsaKey + `,"alg":"RSA-OAEP"},{` + okp + `}]}`)); err != nil || len(keys) != 1 {
		t.Errorf("other kinds: %v, %v", keys, err)
	}
	weak := new(big.Int).Lsh(big.NewInt(1), 1023)
	for name, set := range map[string]string{
		"no keys":                 `{"keys":[]}`,
		"no set":                  `{}`,
		"array":                   `[]`,
		"keys no array":           `{"keys":{}}`,
		"only others":             `{"keys":[{"kty":"oct","k":"AA"}]}`,
		"weak":                    `{"keys":[{"kty":"RSA","n":"` + b64(weak.Bytes()) + `","e":"AQAB"}]}`,
		"huge exponent":           `{"keys":[{"kty":"RSA","n":"` + b64(r.N.Bytes()) + `","e":"AQABAQAB"}]}`,
		"no modulus":              `{"keys":[{"kty":"RSA","e":"AQAB"}]}`,
		"off the curve":           `{"keys":[{"kty":"EC","crv":"P-256","x":"` + b64(bytes.Repeat([]byte{1}, 32)) + `","y":"` + b64(bytes.Repeat([]byte{1}, 32)) + `"}]}`,
		"short coordinate":        `{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}]}`,
		"short Ed25519":           `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}`,
		"padding":                 `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + b64(pub) + `="}]}`,
		"private":                 `{"keys":[{` + okp + `,"d":"AA"}]}`,
		"algorithm of other kind": `{"keys":[{` + okp + `,"alg":"RS256"}]}`,
		"other certificate":       `{"keys":[{` + p256 + "," + x5c + `}]}`,
		"empty x5c":               `{"keys":[{` + rsaKey + `,"x5c":[]}]}`,
		"kid of number":           `{"keys":[{` + okp + `,"kid":1}]}`,
		"name twice":              `{"keys":[{` + okp + `,"kid":"a","kid":"b"}]}`,
		"too many":                `{"keys":[` + strings.Repeat(`{`+okp+`},`, maxKeys) + `{` + okp + `}]}`,
	} {
		if keys, err := ParseSet([]byte(set)); err == nil {
			t.Errorf("%s: accepted %v", name, keys)
		}
	}
}

// RFC 7515 appendix A.3 and RFC 8037 appendix A.4.
func TestRFCVectors(t *testing.T) {
	for _, tt := range []struct{ name, jwk, token, payload string }{
		{"ES256", `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
			"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q", `{"iss":"joe",`},
		{"EdDSA", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
			"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "Example of Ed25519 signing"},
	} {
		keys, err := ParseSet([]byte(`{"keys":[` + tt.jwk + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		j, err := Parse([]byte(tt.token))
		if err != nil {
			t.Fatal(err)
		}
		p, err := j.Verify(keys[0].Public)
		if err != nil || !strings.HasPrefix(string(p), tt.payload) {
			t.Errorf("%s: %q, %v", tt.name, p, err)
		}
		b := []byte(tt.token)
		b[len(b)-10] ^= 1
		if j, err := Parse(b); err == nil {
			if _, err := j.Verify(keys[0].Public); err == nil {
				t.Errorf("%s: a changed signature was accepted", tt.name)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("eyJhbGciOiJFUzI1NiJ9.e30.AA"))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if j, err := Parse(b); err == nil && j.Alg.COSE() == 0 {
			t.Error("a token without an algorithm")
		}
		if keys, err := ParseSet(b); err == nil && len(keys) == 0 {
			t.Error("an empty set")
		}
	})
}
