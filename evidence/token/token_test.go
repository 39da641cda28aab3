package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/evidence/internal/sig"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var keys = sync.OnceValue(func() map[string]crypto.Signer {
	out := map[string]crypto.Signer{}
	for _, name := range []string{"rsa", "other-rsa"} {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[name] = k
	}
	for name, c := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			panic(err)
		}
		out[name] = k
	}
	return out
})

// sign makes a JWT with any header.
func sign(t testing.TB, key crypto.Signer, alg sig.Alg, header map[string]any, claims any) []byte {
	t.Helper()
	h := map[string]any{"alg": string(alg), "kid": "k", "typ": "JWT"}
	maps.Copy(h, header)
	hb, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	e := base64.RawURLEncoding
	in := e.EncodeToString(hb) + "." + e.EncodeToString(cb)
	s, err := sig.Sign(alg, key, []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(in + "." + e.EncodeToString(s))
}

type claims = map[string]any

var (
	nonce      = []byte("0123456789abcdef0123456789abcdef")
	nonceB64   = base64.StdEncoding.EncodeToString(nonce)
	reportData = strings.Repeat("ab", 64)
)

func base(iss string) claims {
	return claims{"iss": iss, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix(), "aud": "me", "sub": "s"}
}

// A twin is an accepted token of a kind; each test makes one change to it.
type twin struct {
	kind   Kind
	alg    sig.Alg
	key    string
	header claims
	claims func() claims
	tee    evidence.Kind
	data   bool // has report data
}

func twins() []twin {
	with := func(c, more claims) claims { maps.Copy(c, more); return c }
	return []twin{
		{TrustAuthority, eat.PS384, "rsa", claims{"jku": "https://portal.trustauthority.intel.com/certs"}, func() claims {
			return with(base("https://portal.trustauthority.intel.com"), claims{"attester_type": "TDX", "attester_tcb_status": "UpToDate", "attester_tcb_date": "2026-02-11T00:00:00Z", "tdx_report_data": reportData, "tdx_is_debuggable": false, "dbgstat": "disabled",
				"policy_ids_matched": []claims{{"id": "p1", "version": "v1"}}, "policy_ids_unmatched": nil, "verifier_nonce": claims{"val": nonceB64, "iat": "x", "signature": "y"}})
		}, evidence.TDX, true},
		{TrustAuthority, eat.RS256, "rsa", nil, func() claims {
			return with(base("Intel Trust Authority"), claims{"policy_ids_matched": []claims{{"id": "p1"}}, "tdx": claims{"attester_tcb_status": "UpToDate", "tdx_report_data": reportData, "tdx_is_debuggable": false, "verifier_nonce": claims{"val": nonceB64}}})
		}, evidence.TDX, true},
		{AzureMAA, eat.RS256, "rsa", claims{"jku": "https://sharedeus.eus.attest.azure.net/certs"}, func() claims {
			return with(base("https://sharedeus.eus.attest.azure.net"), claims{"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-cvm", "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-reportdata": reportData,
				"x-ms-runtime": claims{"client-payload": claims{"nonce": nonceB64}}})
		}, evidence.SNP, true},
		{AzureMAA, eat.RS256, "rsa", nil, func() claims {
			return with(base("https://sharedeus.eus.attest.azure.net"), claims{"attester_tcb_status": "UpToDate", "dbgstat": "disabled", "tdx_td_attributes_debug": false, "tdx_report_data": reportData, "x-ms-attestation-type": "tdxvm", "x-ms-compliance-status": "azure-compliant-cvm", "x-ms-runtime": claims{"nonce": nonceB64}})
		}, evidence.TDX, true},
		{GoogleCS, eat.RS256, "rsa", nil, func() claims {
			return with(base("https://confidentialcomputing.googleapis.com"), claims{"eat_nonce": []string{"another-nonce", string(nonce)}, "hwmodel": "GCP_INTEL_TDX", "swname": "CONFIDENTIAL_SPACE", "swversion": []string{"250100"}, "dbgstat": "disabled-since-boot", "secboot": true, "oemid": 11129,
				"submods": claims{"confidential_space": claims{"support_attributes": []string{"LATEST", "STABLE", "USABLE"}}, "container": claims{"image_digest": "sha256:00"}}})
		}, evidence.TDX, false},
		{AICC, eat.RS384, "rsa", nil, func() claims {
			a, b := sha256.Sum256(nonce), sha256.Sum256([]byte("key"))
			return with(base("Bytedance-Remote-Attestation-Service"), claims{"policies_matched": []string{"p1"}, "tdx": claims{"report_data": hex.EncodeToString(a[:]) + hex.EncodeToString(b[:])}})
		}, evidence.TDX, true},
		{NVIDIANRAS, eat.ES384, "p384", nil, func() claims {
			return with(base("https://nras.attestation.nvidia.com"), claims{"eat_nonce": hex.EncodeToString(nonce), "x-nvidia-overall-att-result": true, "x-nvidia-ver": "3.0"})
		}, evidence.NVIDIA, false},
	}
}

func device() claims {
	c := base("https://nras.attestation.nvidia.com")
	maps.Copy(c, claims{"eat_nonce": hex.EncodeToString(nonce), "measres": "success", "dbgstat": "disabled", "secboot": true, "hwmodel": "GH100 A01 GSP BROM"})
	delete(c, "aud")
	return c
}

// token makes the twin's token with claims changed by f.
func (w twin) token(t testing.TB, f func(claims)) []byte {
	c := w.claims()
	if w.kind == NVIDIANRAS {
		return nras(t, []claims{device(), device()}, func(overall claims, _ map[string]string) {
			if f != nil {
				f(overall)
			}
		})
	}
	if f != nil {
		f(c)
	}
	return sign(t, keys()[w.key], w.alg, w.header, c)
}

func nras(t testing.TB, devices []claims, f func(claims, map[string]string)) []byte {
	overall := base("https://nras.attestation.nvidia.com")
	maps.Copy(overall, claims{"eat_nonce": hex.EncodeToString(nonce), "x-nvidia-overall-att-result": true, "x-nvidia-ver": "3.0"})
	tokens, subs := map[string]string{}, claims{}
	for i, d := range devices {
		name := fmt.Sprintf("GPU-%d", i)
		d["jti"] = name
		tokens[name] = string(sign(t, keys()["p384"], eat.ES384, nil, d))
		sum := sha256.Sum256([]byte(tokens[name]))
		subs[name] = []any{"DIGEST", []string{"SHA-256", hex.EncodeToString(sum[:])}}
	}
	overall["submods"] = subs
	if f != nil {
		f(overall, tokens)
	}
	out, err := json.Marshal([]any{[]string{"JWT", string(sign(t, keys()["p384"], eat.ES384, nil, overall))}, tokens})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (w twin) expect() *Expect {
	e := &Expect{Kind: w.kind, Keys: eat.Keys{{ID: "k", Public: keys()[w.key].Public()}, {ID: "other", Public: keys()["other-rsa"].Public()}}, Now: now, Nonces: [][]byte{nonce}, Audience: "me", MaxAge: time.Hour}
	if w.kind == AzureMAA {
		e.Issuer = "https://sharedeus.eus.attest.azure.net"
	}
	if w.kind == TrustAuthority || w.kind == AICC {
		e.Policies = []string{"p1"}
	}
	return e
}

func TestTwins(t *testing.T) {
	for _, w := range twins() {
		r := Verify(w.token(t, nil), w.expect())
		if !r.Accepted() || len(r.Checks) < 8 {
			t.Errorf("%s: %v", w.kind, r.Checks)
			continue
		}
		k := r.Token()
		if k.TEE != w.tee || k.Debug || (len(k.ReportData[""]) == 64) != w.data || k.Issuer == "" || k.Claims["iss"] != k.Issuer || !k.Expires.Equal(now.Add(time.Minute)) {
			t.Errorf("%s: %+v", w.kind, k)
		}
	}
	r := Verify(twins()[0].token(t, nil), twins()[0].expect())
	if tcb := r.Token().TCB; tcb == nil || tcb.Status != evidence.UpToDate || tcb.Date.Year() != 2026 {
		t.Errorf("TCB %+v", tcb)
	}
}

// Each change to an accepted token, or to what is expected of it, is refused, by
// the check that is there for it.
func TestRefused(t *testing.T) {
	set := func(k string, v any) func(claims) { return func(c claims) { c[k] = v } }
	drop := func(k string) func(claims) { return func(c claims) { delete(c, k) } }
	for _, w := range twins() {
		for _, tt := range []struct {
			check string
			f     func(claims)
			e     func(*Expect)
		}{
			{"expiry", set("exp", now.Unix()), nil},
			{"expiry", drop("exp"), nil},
			{"times", set("exp", "soon"), nil},
			{"times", set("exp", float64(now.Unix())+0.5), nil},
			{"not-before", set("nbf", now.Unix()+1), nil},
			{"issued-at", set("iat", now.Unix()+1), nil},
			{"issued-at", drop("iat"), nil},
			{"age", set("iat", now.Add(-2*time.Hour).Unix()), nil},
			{"issuer", set("iss", "https://evil.example"), nil},
			{"issuer", drop("iss"), nil},
			{"audience", set("aud", "you"), nil},
			{"audience", drop("aud"), nil},
			{"nonce", nil, func(e *Expect) { e.Nonces = [][]byte{[]byte("another one")} }},
			{"nonce", nil, func(e *Expect) { e.Nonces = append(e.Nonces, []byte("one more nonce")) }},
			{"expectation", nil, func(e *Expect) { e.Nonces = nil }},
			{"expectation", nil, func(e *Expect) { e.Nonces = [][]byte{{}} }},
			{"expectation", nil, func(e *Expect) { e.Now = time.Time{} }},
			{"expectation", nil, func(e *Expect) { e.Keys = nil }},
			{"expectation", nil, func(e *Expect) { e.Kind = "x" }},
			{"key", nil, func(e *Expect) { e.Keys = e.Keys[1:] }},
			{"key", nil, func(e *Expect) { e.Keys[0].ID = "j" }},
			{"signature", nil, func(e *Expect) {
				if w.key == "rsa" {
					e.Keys[0].Public = keys()["other-rsa"].Public()
				} else {
					k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					e.Keys[0].Public = k.Public()
				}
			}},
		} {
			e := w.expect()
			if tt.e != nil {
				tt.e(e)
			}
			f := func(c claims) {
				if tt.f == nil {
					return
				}
				tt.f(c)
				if tt.check == "issuer" && len(w.header) > 0 { // else the key-url is refused first
					w.header = nil
				}
			}
			if tt.check == "issuer" {
				w.header = nil
			}
			r := Verify(w.token(t, f), e)
			if r.Accepted() {
				t.Errorf("%s, %s: accepted", w.kind, tt.check)
			} else if c, ok := r.Checks.Find(tt.check); !ok || c.Outcome != evidence.Fail {
				t.Errorf("%s, %s: %v", w.kind, tt.check, r.Checks)
			}
			switch tt.check {
			case "expectation", "key", "signature":
				if r.Token() != nil {
					t.Errorf("%s, %s: claims of a token that was not verified", w.kind, tt.check)
				}
			}
		}
		// Within the skew.
		e := w.expect()
		e.Now, e.Skew = now.Add(-time.Second), time.Second
		if r := Verify(w.token(t, nil), e); !r.Accepted() {
			t.Errorf("%s: within the skew: %v", w.kind, r.Checks.Failed())
		}
		e = w.expect()
		e.Nonces, e.NoNonce = nil, true
		if r := Verify(w.token(t, nil), e); !r.Accepted() {
			t.Errorf("%s: no nonce: %v", w.kind, r.Checks.Failed())
		}
	}
}

func TestVendorClaims(t *testing.T) {
	for i, tests := range map[int][]struct {
		name, check string
		outcome     evidence.Outcome
		f           func(claims)
	}{
		0: {
			{"debug", "debug", evidence.Fail, func(c claims) { c["tdx_is_debuggable"] = true }},
			{"debug by name", "debug", evidence.Fail, func(c claims) { c["dbgstat"] = "enabled" }},
			{"debug not told", "debug", evidence.Fail, func(c claims) { delete(c, "dbgstat"); delete(c, "tdx_is_debuggable") }},
			{"revoked", "tcb-status", evidence.Fail, func(c claims) { c["attester_tcb_status"] = "Revoked" }},
			{"unknown status", "tcb-status", evidence.Fail, func(c claims) { c["attester_tcb_status"] = "Fine" }},
			{"out of date", "tcb-status", evidence.Warn, func(c claims) { c["attester_tcb_status"] = "OutOfDate" }},
			{"no status", "tcb-status", evidence.NotPerformed, func(c claims) { delete(c, "attester_tcb_status") }},
			{"unmatched policies", "policies-unmatched", evidence.Fail, func(c claims) { c["policy_ids_unmatched"] = []claims{{"id": "p2"}} }},
			{"policy", "policies", evidence.Fail, func(c claims) { c["policy_ids_matched"] = []claims{{"id": "p2"}} }},
			{"no TEE", "tee", evidence.Fail, func(c claims) { c["attester_type"] = "TPM" }},
		},
		2: {
			{"debug", "debug", evidence.Fail, func(c claims) { c["x-ms-sevsnpvm-is-debuggable"] = true }},
			{"debug not told", "debug", evidence.Fail, func(c claims) { delete(c, "x-ms-sevsnpvm-is-debuggable") }},
			{"type", "tee", evidence.Fail, func(c claims) { c["x-ms-attestation-type"] = "tpm" }},
			{"compliance", "compliance", evidence.Warn, func(c claims) { c["x-ms-compliance-status"] = "x" }},
		},
		4: {
			{"debug image", "debug", evidence.Fail, func(c claims) { c["dbgstat"] = "enabled" }},
			{"debug not told", "debug", evidence.Fail, func(c claims) { delete(c, "dbgstat") }},
			{"no TEE", "tee", evidence.Fail, func(c claims) { c["hwmodel"] = "GCP_SHIELDED_VM" }},
			{"SEV", "tee", evidence.Warn, func(c claims) { c["hwmodel"] = "GCP_AMD_SEV" }},
			{"secure boot", "secure-boot", evidence.Fail, func(c claims) { c["secboot"] = false }},
			{"other image", "image", evidence.Warn, func(c claims) { c["swname"] = "GCE" }},
			{"unsupported image", "image-support", evidence.Warn, func(c claims) { delete(c, "submods") }},
		},
		5: {
			{"no policy", "policies-matched", evidence.Fail, func(c claims) { c["policies_matched"] = []string{} }},
			{"policies absent", "policies-matched", evidence.Fail, func(c claims) { delete(c, "policies_matched") }},
			{"report data", "report-data", evidence.Fail, func(c claims) { c["tdx"] = claims{"report_data": "ab"} }},
			{"no report data", "report-data", evidence.Fail, func(c claims) { delete(c, "tdx") }},
		},
		6: {
			{"overall result", "overall-result", evidence.Fail, func(c claims) { c["x-nvidia-overall-att-result"] = false }},
			{"overall result as text", "overall-result", evidence.Fail, func(c claims) { c["x-nvidia-overall-att-result"] = "true" }},
			{"no digests", "devices", evidence.Fail, func(c claims) { delete(c, "submods") }},
			{"a digest more", "devices", evidence.Fail, func(c claims) { c["submods"].(claims)["GPU-9"] = []any{"DIGEST", []string{"SHA-256", "00"}} }},
			{"other digest", "device-gpu-0-digest", evidence.Fail, func(c claims) { c["submods"].(claims)["GPU-0"] = []any{"DIGEST", []string{"SHA-256", "00"}} }},
			{"no digest", "device-gpu-0-digest", evidence.Fail, func(c claims) { c["submods"].(claims)["GPU-0"] = []any{"DIGEST", []string{"SHA-256", ""}} }},
		},
	} {
		w := twins()[i]
		for _, tt := range tests {
			r := Verify(w.token(t, tt.f), w.expect())
			if c, ok := r.Checks.Find(tt.check); !ok || c.Outcome != tt.outcome {
				t.Errorf("%s, %s: %v", w.kind, tt.name, r.Checks)
			}
			if r.Accepted() != (tt.outcome != evidence.Fail) {
				t.Errorf("%s, %s: accepted is %v", w.kind, tt.name, r.Accepted())
			}
		}
	}
	w := twins()[0]
	e := w.expect()
	e.AllowDebug = true
	if r := Verify(w.token(t, func(c claims) { c["dbgstat"] = "enabled" }), e); !r.Accepted() || !r.Token().Debug {
		t.Errorf("debug allowed: %v", r.Checks.Failed())
	}
}

func TestNVIDIADevices(t *testing.T) {
	w := twins()[6]
	for name, f := range map[string]func(d claims){
		"measurements": func(d claims) { d["measres"] = "fail" },
		"debug":        func(d claims) { d["dbgstat"] = "enabled" },
		"nonce":        func(d claims) { d["eat_nonce"] = hex.EncodeToString([]byte("another nonce of 32 bytes length")) },
		"no nonce":     func(d claims) { delete(d, "eat_nonce") },
		"secure boot":  func(d claims) { d["secboot"] = false },
		"expired":      func(d claims) { d["exp"] = now.Unix() },
		"issuer":       func(d claims) { d["iss"] = "x" },
	} {
		d := device()
		f(d)
		if r := Verify(nras(t, []claims{device(), d}, nil), w.expect()); r.Accepted() {
			t.Errorf("%s: accepted", name)
		}
	}
	// Tokens of two devices exchanged; one left out; one signed by another key.
	for name, f := range map[string]func(claims, map[string]string){
		"exchanged": func(_ claims, m map[string]string) { m["GPU-0"], m["GPU-1"] = m["GPU-1"], m["GPU-0"] },
		"left out":  func(_ claims, m map[string]string) { delete(m, "GPU-1") },
		"forged": func(c claims, m map[string]string) {
			k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			m["GPU-1"] = string(sign(t, k, eat.ES384, nil, device()))
			sum := sha256.Sum256([]byte(m["GPU-1"]))
			c["submods"].(claims)["GPU-1"] = []any{"DIGEST", []string{"SHA-256", hex.EncodeToString(sum[:])}}
		},
	} {
		if r := Verify(nras(t, []claims{device(), device()}, f), w.expect()); r.Accepted() {
			t.Errorf("%s: accepted", name)
		}
	}
	if r := Verify(nras(t, []claims{device(), device()}, nil), w.expect()); len(r.Token().Devices) != 2 {
		t.Errorf("devices %v", r.Token().Devices)
	}
}

// N23: the token brings its own key, or changes the algorithm.
//
// TMCP-19.6-8: A relying party MUST NOT use a key, a key's URL or a certificate that the result carries, unless the certificate leads to a pinned root.
func TestForged(t *testing.T) {
	evil := keys()["other-rsa"].(*rsa.PrivateKey)
	jwk := claims{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(evil.N.Bytes()), "e": "AQAB"}
	cert := selfSigned(t, evil)
	for _, w := range twins() {
		if w.kind == NVIDIANRAS {
			continue
		}
		e := w.expect()
		e.Keys = e.Keys[:1]
		for name, header := range map[string]claims{
			"jwk":            {"jwk": jwk},
			"jku":            {"jku": "https://evil.example/certs"},
			"x5u":            {"x5u": "https://evil.example/cert"},
			"x5c":            {"x5c": []string{base64.StdEncoding.EncodeToString(cert.Raw)}},
			"own kid":        {"kid": "evil"},
			"no kid":         {"kid": ""},
			"typ":            {"typ": "at+jwt"},
			"crit":           {"crit": []string{"x"}},
			"none":           {"alg": "none"},
			"HMAC":           {"alg": "HS256"},
			"other RSA":      {"alg": "RS512"},
			"EC on RSA":      {"alg": "ES256"},
			"nothing at all": nil,
		} {
			b := sign(t, evil, w.alg, header, w.claims())
			if r := Verify(b, e); r.Accepted() || r.Token() != nil {
				t.Errorf("%s, %s: accepted", w.kind, name)
			}
			if name == "jku" || name == "x5c" || name == "jwk" || name == "x5u" { // signed well, all the same
				b := sign(t, keys()[w.key], w.alg, header, w.claims())
				if r := Verify(b, e); r.Accepted() {
					t.Errorf("%s, %s by the right key: accepted", w.kind, name)
				}
			}
		}
	}
	// An algorithm that fits the key, but is not this vendor's.
	for _, w := range twins() {
		for _, alg := range []sig.Alg{eat.PS256, eat.PS512, eat.RS512, eat.RS384, eat.RS256, eat.PS384} {
			if w.key != "rsa" || alg == w.alg || w.kind == TrustAuthority && (alg == eat.PS384 || alg == eat.RS256) {
				continue
			}
			if r := Verify(sign(t, keys()["rsa"], alg, nil, w.claims()), w.expect()); r.Accepted() {
				t.Errorf("%s with %s: accepted", w.kind, alg)
			}
		}
	}
}

func selfSigned(t testing.TB, key *rsa.PrivateKey) *x509.Certificate {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGooglePKI(t *testing.T) {
	root := selfSigned(t, keys()["other-rsa"].(*rsa.PrivateKey))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}, root, keys()["rsa"].Public(), keys()["other-rsa"])
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w := twins()[4]
	std := base64.StdEncoding.EncodeToString
	b := sign(t, keys()["rsa"], eat.RS256, claims{"x5c": []string{std(leaf.Raw), std(root.Raw)}, "kid": ""}, w.claims())
	e := w.expect()
	e.Keys, e.Roots = nil, []*x509.Certificate{root}
	if r := Verify(b, e); !r.Accepted() {
		t.Errorf("PKI token: %v", r.Checks.Failed())
	}
	for name, f := range map[string]func(*Expect){
		"no root":    func(e *Expect) { e.Roots, e.Keys = nil, w.expect().Keys },
		"other root": func(e *Expect) { e.Roots = []*x509.Certificate{selfSigned(t, keys()["rsa"].(*rsa.PrivateKey))} },
		"expired":    func(e *Expect) { e.Now = now.Add(2 * time.Hour) },
	} {
		e := *e
		f(&e)
		r := Verify(b, &e)
		if c, _ := r.Checks.Find("key"); c.Outcome != evidence.Fail || r.Token() != nil {
			t.Errorf("%s: %v", name, r.Checks)
		}
	}
}

func TestEAR(t *testing.T) {
	key := keys()["p256"]
	make := func(f func(*ear.Result)) []byte {
		a := &ear.Appraisal{Vector: &ear.Vector{ear.Hardware: ear.GenuineHardware}, Policies: []string{ear.PolicyID([32]byte{1})}, Extension: &ear.Extension{Kind: evidence.TDX, ReportData: bytes.Repeat([]byte{1}, 64), TCB: &evidence.TCB{Status: evidence.UpToDate}, NotAfter: now.Add(time.Hour)}}
		a.Derive()
		r := &ear.Result{Issuer: "https://verifier.example", Audience: []string{"me"}, IssuedAt: now, Expires: now.Add(time.Minute), Nonce: nonce, Verifier: ear.VerifierID{Developer: "d", Build: "b"}, Submods: map[string]*ear.Appraisal{"cpu": a}}
		if f != nil {
			f(r)
		}
		b, err := r.SignCWT(key, "k")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	expect := func() *Expect {
		return &Expect{Kind: EAR, Keys: eat.Keys{{ID: "k", Public: key.Public()}}, Now: now, Issuer: "https://verifier.example", Audience: "me", Nonces: [][]byte{nonce}, Policies: []string{ear.PolicyID([32]byte{1})}}
	}
	r := Verify(make(nil), expect())
	if !r.Accepted() || r.Token().TEE != evidence.TDX || len(r.Token().ReportData["cpu"]) != 64 || r.Token().EAR == nil || r.Token().TCB.Status != evidence.UpToDate {
		t.Fatalf("%v %+v", r.Checks, r.Token())
	}
	for name, f := range map[string]func(*ear.Result){
		"no expiry":       func(r *ear.Result) { r.Expires = time.Time{} },
		"contraindicated": func(r *ear.Result) { r.Submods["cpu"].Vector[ear.Executables] = 96; r.Submods["cpu"].Derive() },
		"none":            func(r *ear.Result) { r.Submods["cpu"].Vector, r.Submods["cpu"].Status = nil, ear.None },
		"overall none":    func(r *ear.Result) { s := ear.None; r.Status = &s },
		"debug":           func(r *ear.Result) { r.Submods["cpu"].Extension.Debug = true },
		"simulated":       func(r *ear.Result) { r.Submods["cpu"].Extension.Simulated = true },
		"verdict expired": func(r *ear.Result) { r.Submods["cpu"].Extension.NotAfter = now },
		"policy":          func(r *ear.Result) { r.Submods["cpu"].Policies = nil },
		"issuer":          func(r *ear.Result) { r.Issuer = "x" },
		"audience":        func(r *ear.Result) { r.Audience = nil },
		"nonce":           func(r *ear.Result) { r.Nonce = nil },
		"future":          func(r *ear.Result) { r.IssuedAt = now.Add(time.Second) },
	} {
		if r := Verify(make(f), expect()); r.Accepted() {
			t.Errorf("%s: accepted", name)
		}
	}
	warn := Verify(make(func(r *ear.Result) { r.Submods["cpu"].Vector[ear.Hardware] = 32; r.Submods["cpu"].Derive() }), expect())
	if c, _ := warn.Checks.Find("status"); c.Outcome != evidence.Warn {
		t.Errorf("warning: %v", warn.Checks)
	}
	e := expect()
	e.AllowSimulated = true
	if r := Verify(make(func(r *ear.Result) { r.Submods["cpu"].Extension.Simulated = true }), e); !r.Accepted() || !r.Token().Simulated {
		t.Errorf("simulated, allowed: %v", r.Checks)
	}
	e = expect()
	e.Issuer = ""
	if r := Verify(make(nil), e); r.Accepted() {
		t.Error("an EAR of any issuer")
	}
	e = expect()
	e.Keys = eat.Keys{{ID: "k", Public: keys()["rsa"].Public(), Alg: eat.RS256}}
	if r := Verify(make(nil), e); r.Accepted() {
		t.Error("no key that fits")
	}
}

func TestJWKS(t *testing.T) {
	root := selfSigned(t, keys()["other-rsa"].(*rsa.PrivateKey))
	pub := keys()["other-rsa"].Public().(*rsa.PublicKey)
	rsaKey := fmt.Sprintf(`"kty":"RSA","kid":"k","n":"%s","e":"AQAB"`, base64.RawURLEncoding.EncodeToString(pub.N.Bytes()))
	set := []byte(fmt.Sprintf(`{"keys":[{%s,"x5c":["%s"]}]}`, rsaKey, base64.StdEncoding.EncodeToString(root.Raw)))
	ks, err := ParseJWKS(set)
	if err != nil || len(ks) != 1 || ks[0].ID != "k" || !pub.Equal(ks[0].Public) {
		t.Fatalf("%+v, %v", ks, err)
	}
	if _, err := ParseJWKSUnder(set, []*x509.Certificate{root}, now); err != nil {
		t.Error(err)
	}
	if _, err := ParseJWKSUnder(set, []*x509.Certificate{selfSigned(t, keys()["rsa"].(*rsa.PrivateKey))}, now); err == nil {
		t.Error("a chain to another root was accepted")
	}
	if _, err := ParseJWKSUnder(set, nil, now); err == nil {
		t.Error("no roots")
	}
	if _, err := ParseJWKSUnder([]byte(`{"keys":[{`+rsaKey+`}]}`), []*x509.Certificate{root}, now); err == nil {
		t.Error("a key without a chain was accepted")
	}
}

func FuzzVerify(f *testing.F) {
	for _, w := range twins() {
		f.Add(w.token(f, nil))
	}
	f.Add([]byte(`[["JWT","a.b.c"],{"GPU-0":"a.b.c"}]`))
	evil, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, w := range twins() {
			e := w.expect()
			e.Keys = eat.Keys{{ID: "k", Public: evil.Public()}}
			if r := Verify(b, e); r.Accepted() || r.Token() != nil || len(r.Checks.Failed()) == 0 {
				t.Errorf("%s: %v", w.kind, r.Checks)
			}
		}
	})
}

// FuzzClaims fuzzes what stands in a token that verifies.
func FuzzClaims(f *testing.F) {
	for _, w := range twins() {
		c, err := json.Marshal(w.claims())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, w := range twins() {
			var checks evidence.Checks
			v := &verifier{e: w.expect(), v: vendors[w.kind], checks: &checks, raw: b, t: &Token{ReportData: map[string][]byte{}}}
			if jose.Check(b) != nil {
				return
			}
			v.common(b)
			v.v.claims(v)
		}
	})
}
