package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"maps"
	"math/big"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
)

const issuer = "https://verifier.example.com"

func b64u(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ecKey(name string) *ecdsa.PrivateKey {
	s := seed(name)
	s[0] = 0 // below the order
	return must(ecdsa.ParseRawPrivateKey(elliptic.P256(), s))
}

// result is an attestation result that must be accepted.
func result(change func(*ear.Result)) *ear.Result {
	v := ear.Vector{ear.TrustworthyInstance, ear.ApprovedConfig, ear.ApprovedRuntime, 0, ear.GenuineHardware, ear.EncryptedMemory}
	a := &ear.Appraisal{Vector: &v, Policies: []string{ear.PolicyID(sha256.Sum256([]byte("policy")))}}
	a.Derive()
	r := &ear.Result{Issuer: issuer, IssuedAt: t0.Add(-time.Minute), Expires: t0.Add(time.Hour), Nonce: wantData[:],
		Verifier: ear.VerifierID{Developer: issuer, Build: "1"}, Submods: map[string]*ear.Appraisal{"cpu": a}}
	if change != nil {
		change(r)
	}
	return r
}

// jws signs by hand. header replaces members of {alg, kid, typ}.
func jws(key crypto.Signer, header obj, payload []byte) []byte {
	h := obj{"kid": "pinned", "typ": "JWT", "alg": "EdDSA"}
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		h["alg"] = "ES256"
	}
	maps.Copy(h, header)
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	signed := b64u(must(json.Marshal(h, json.Deterministic(true)))) + "." + b64u(payload)
	var sig []byte
	switch k := key.(type) {
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(signed))
	case *ecdsa.PrivateKey:
		d := sha256.Sum256([]byte(signed))
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(must(k.Sign(nil, d[:], crypto.SHA256)), &rs); err != nil { // deterministic, RFC 6979
			panic(err)
		}
		sig = make([]byte, 64)
		rs.R.FillBytes(sig[:32])
		rs.S.FillBytes(sig[32:])
	case hmacKey:
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(signed))
		sig = mac.Sum(nil)
	case nil:
	}
	return []byte(signed + "." + b64u(sig))
}

// hmacKey is a key for HS256, where a public key is taken for a secret.
type hmacKey []byte

func (hmacKey) Public() crypto.PublicKey { return nil }
func (hmacKey) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, nil
}

func jwk(key crypto.Signer, kid string) obj {
	j := obj{"kid": kid, "use": "sig"}
	switch k := key.Public().(type) {
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"], j["alg"] = "OKP", "Ed25519", b64u(k), "EdDSA"
	case *ecdsa.PublicKey:
		b := must(k.Bytes())
		j["kty"], j["crv"], j["x"], j["y"], j["alg"] = "EC", "P-256", b64u(b[1:33]), b64u(b[33:]), "ES256"
	}
	return j
}

func jwks(keys ...obj) []byte { return must(json.Marshal(obj{"keys": keys}, json.Deterministic(true))) }

// tokenVectors try section 19.6.
func tokenVectors() []vector {
	pinned, stranger := edKey("verifier"), edKey("another verifier")
	ec := ecKey("verifier")
	claims := func(change func(*ear.Result)) []byte {
		r := result(change)
		var c obj
		if err := json.Unmarshal(must(r.EncodeJSON()), &c); err != nil {
			panic(err)
		}
		if r.Nonce != nil {
			c["eat_nonce"] = b64u(r.Nonce) // as section 19.6 has it
		}
		return must(json.Marshal(c, json.Deterministic(true)))
	}
	ask := func(token func() []byte, change func(*Request)) func() Request {
		return func() Request {
			r := Request{Op: OpToken, Time: t0.Unix(), Kind: "ear", Value: token(), Keys: jwks(jwk(pinned, "pinned")), Issuer: issuer, ReportData: wantData[:]}
			if change != nil {
				change(&r)
			}
			return r
		}
	}
	jwt := func(key crypto.Signer, header obj, change func(*ear.Result)) func() Request {
		return ask(func() []byte { return jws(key, header, claims(change)) }, nil)
	}
	without := func(name string) []byte {
		var c obj
		if err := json.Unmarshal(claims(nil), &c); err != nil {
			panic(err)
		}
		delete(c, name)
		return must(json.Marshal(c, json.Deterministic(true)))
	}
	cwt := func(key ed25519.PrivateKey, change func(*ear.Result)) func() Request {
		return ask(func() []byte { return must(result(change).SignCWT(key, "pinned")) }, nil)
	}
	es256 := func(r *Request) { r.Keys = jwks(jwk(ec, "pinned")) }
	own := jwk(stranger, "own")
	_, leaf := certificate("another root", "another verifier")
	at := func(d time.Duration) func(*ear.Result) { return func(r *ear.Result) { r.Expires = t0.Add(d) } }
	nonceOf := func(b []byte) func(*ear.Result) { return func(r *ear.Result) { r.Nonce = b } }
	list := []vector{
		{name: "ear", req: "TMCP-19.6-1", title: "attestation result: a JWT by a pinned key", make: jwt(pinned, nil, nil)},
		{name: "ear-es256", req: "TMCP-19.6-2", title: "attestation result: a JWT in ES256", make: ask(func() []byte { return jws(ec, nil, claims(nil)) }, es256)},
		{name: "ear-cwt", req: "TMCP-19.6-1", title: "attestation result: a CWT by a pinned key", make: cwt(pinned, nil)},
		{name: "ear-last-second", req: "TMCP-19.6-4", title: "attestation result: in its last second", make: jwt(pinned, nil, at(time.Second))},
		{name: "ear-stranger", req: "TMCP-19.6-1", title: "attestation result: by a key that is not pinned, under the name of one that is", hole: "token-signature", make: jwt(stranger, nil, nil)},
		{name: "ear-kid", req: "TMCP-19.6-1", title: "attestation result: by a key of a name that is not pinned", hole: "token-signature", make: jwt(stranger, obj{"kid": "stranger"}, nil)},
		{name: "ear-jwk", req: "TMCP-19.6-8", title: "attestation result: with its own key in the header (jwk)", hole: "token-signature", make: jwt(stranger, obj{"jwk": own, "kid": nil}, nil)},
		{name: "ear-jwk-kid", req: "TMCP-19.6-8", title: "attestation result: with its own key in the header, under a pinned name", hole: "token-signature", make: jwt(stranger, obj{"jwk": own}, nil)},
		{name: "ear-jku", req: "TMCP-19.6-8", title: "attestation result: with the URL of its key in the header (jku)", hole: "token-signature", make: jwt(stranger, obj{"jku": "https://attacker.example.com/keys", "kid": "own"}, nil)},
		{name: "ear-x5c", req: "TMCP-19.6-8", title: "attestation result: with a certificate of its key in the header (x5c)", hole: "token-signature", make: jwt(stranger, obj{"x5c": []string{base64.StdEncoding.EncodeToString(leaf.Raw)}, "kid": nil}, nil)},
		{name: "ear-altered", req: "TMCP-19.6-1", title: "attestation result: with a claim altered after it was signed", hole: "token-signature", make: ask(func() []byte {
			good, bad := jws(pinned, nil, claims(nil)), jws(stranger, nil, claims(at(30*time.Minute)))
			return append(bad[:lastDot(bad)], good[lastDot(good):]...)
		}, nil)},
		{name: "ear-cwt-stranger", req: "TMCP-19.6-1", title: "attestation result: a CWT by a key that is not pinned", twin: "ear-cwt", hole: "token-signature", make: cwt(stranger, nil)},
		{name: "ear-cwt-altered", req: "TMCP-19.6-1", title: "attestation result: a CWT with a bit of its signature flipped", twin: "ear-cwt", hole: "token-signature", make: ask(func() []byte { return flip(-1)(must(result(nil).SignCWT(pinned, "pinned"))) }, nil)},
		{name: "ear-none", req: "TMCP-19.6-2", title: "attestation result: alg none", hole: "token-signature", make: jwt(nil, obj{"alg": "none"}, nil)},
		{name: "ear-hmac", req: "TMCP-19.6-2", title: "attestation result: HS256 with the public key as its secret", hole: "token-signature", make: jwt(hmacKey(pinned.Public().(ed25519.PublicKey)), obj{"alg": "HS256"}, nil)},
		{name: "ear-alg-switched", req: "TMCP-19.6-2", title: "attestation result: another algorithm in the header than the pinned key's", twin: "ear-es256", hole: "token-signature", make: ask(func() []byte { return jws(ec, obj{"alg": "ES384"}, claims(nil)) }, es256)},
		{name: "ear-alg-of-other-key", req: "TMCP-19.6-2", title: "attestation result: Ed25519 under the name of a pinned ES256 key", twin: "ear-es256", hole: "token-signature", make: ask(func() []byte { return jws(pinned, nil, claims(nil)) }, es256)},
		{name: "ear-crit", req: "TMCP-19.6-2", title: "attestation result: a critical header that nobody knows", hole: "token-signature", make: jwt(pinned, obj{"crit": []string{"b64"}, "b64": false}, nil)},
		{name: "ear-unbound", req: "TMCP-19.6-3", title: "attestation result: for other report data", hole: "token-nonce", make: jwt(pinned, nil, nonceOf(otherData[:]))},
		{name: "ear-prefix", req: "TMCP-19.6-3", title: "attestation result: for the first half of the report data", hole: "token-nonce", make: jwt(pinned, nil, nonceOf(wantData[:32]))},
		{name: "ear-no-nonce", req: "TMCP-19.6-3", title: "attestation result: for no report data at all", hole: "token-nonce", make: jwt(pinned, nil, nonceOf(nil))},
		{name: "ear-cwt-unbound", req: "TMCP-19.6-3", title: "attestation result: a CWT for other report data", twin: "ear-cwt", hole: "token-nonce", make: cwt(pinned, nonceOf(otherData[:]))},
		{name: "ear-expired", req: "TMCP-19.6-4", title: "attestation result: in the second of its expiry", twin: "ear-last-second", hole: "token-expiry", make: jwt(pinned, nil, at(0))},
		{name: "ear-future", req: "TMCP-19.6-4", title: "attestation result: issued an hour from now", hole: "token-expiry", make: jwt(pinned, nil, func(r *ear.Result) { r.IssuedAt, r.Expires = t0.Add(time.Hour), t0.Add(2*time.Hour) })},
		{name: "ear-not-before", req: "TMCP-19.6-4", title: "attestation result: not valid before an hour from now", hole: "token-expiry", make: jwt(pinned, nil, func(r *ear.Result) { r.NotBefore, r.Expires = t0.Add(time.Hour), t0.Add(2*time.Hour) })},
		{name: "ear-no-expiry", req: "TMCP-19.6-4", title: "attestation result: without an expiry", hole: "token-expiry", make: ask(func() []byte { return jws(pinned, nil, without("exp")) }, nil)},
		{name: "ear-issuer", req: "TMCP-19.6-1", title: "attestation result: of another issuer, by a key pinned for this one", hole: "token-issuer", make: jwt(pinned, nil, func(r *ear.Result) { r.Issuer = "https://other.example.com" })},
		{name: "ear-contraindicated", req: "TMCP-19.1-3", title: "attestation result: one that is not affirming", hole: "token-status", make: jwt(pinned, nil, func(r *ear.Result) {
			r.Submods["cpu"].Vector[ear.Executables] = ear.ContraindicatedRuntime
			r.Submods["cpu"].Derive()
		})},
	}
	token := func(change func(*eat.Claims), key ed25519.PrivateKey, asCWT bool) func() Request {
		return func() Request {
			c := &eat.Claims{Issuer: issuer, IssuedAt: t0.Add(-time.Minute), Expires: t0.Add(time.Hour), Nonces: [][]byte{[]byte("a nonce of 18 byte")}}
			if change != nil {
				change(c)
			}
			r := Request{Op: OpEAT, Time: t0.Unix(), Keys: jwks(jwk(pinned, "pinned")), Nonce: []byte("a nonce of 18 byte")}
			if asCWT {
				r.Value = must(eat.SignCWT(c, key, "pinned"))
			} else {
				r.Value = must(eat.SignJWT(c, key, "pinned"))
			}
			return r
		}
	}
	list = append(list,
		vector{name: "eat", req: "TMCP-19.6-1", title: "entity attestation token: a JWT by a pinned key", make: token(nil, pinned, false)},
		vector{name: "eat-cwt", req: "TMCP-19.6-1", title: "entity attestation token: a CWT by a pinned key", make: token(nil, pinned, true)},
		vector{name: "eat-stranger", req: "TMCP-19.6-1", title: "entity attestation token: by a key that is not pinned", twin: "eat", hole: "token-signature", make: token(nil, stranger, false)},
		vector{name: "eat-cwt-stranger", req: "TMCP-19.6-1", title: "entity attestation token: a CWT by a key that is not pinned", twin: "eat-cwt", hole: "token-signature", make: token(nil, stranger, true)},
		vector{name: "eat-expired", req: "TMCP-19.6-4", title: "entity attestation token: past its expiry", twin: "eat", hole: "token-expiry", make: token(func(c *eat.Claims) { c.Expires = t0 }, pinned, false)},
		vector{name: "eat-cwt-expired", req: "TMCP-19.6-4", title: "entity attestation token: a CWT past its expiry", twin: "eat-cwt", hole: "token-expiry", make: token(func(c *eat.Claims) { c.Expires = t0 }, pinned, true)},
		vector{name: "eat-future", req: "TMCP-19.6-4", title: "entity attestation token: from the future", twin: "eat", hole: "token-expiry", make: token(func(c *eat.Claims) { c.IssuedAt = t0.Add(time.Hour) }, pinned, false)},
		vector{name: "eat-nonce", req: "TMCP-19.6-3", title: "entity attestation token: for another nonce", twin: "eat", hole: "token-nonce", make: token(func(c *eat.Claims) { c.Nonces = [][]byte{[]byte("a nonce of another")} }, pinned, false)},
		vector{name: "eat-cwt-nonce", req: "TMCP-19.6-3", title: "entity attestation token: a CWT for another nonce", twin: "eat-cwt", hole: "token-nonce", make: token(func(c *eat.Claims) { c.Nonces = [][]byte{[]byte("a nonce of another")} }, pinned, true)},
	)
	for i := range list {
		if list[i].hole != "" && list[i].twin == "" {
			list[i].twin = "ear"
		}
	}
	return list
}

func lastDot(b []byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == '.' {
			return i
		}
	}
	return 0
}
