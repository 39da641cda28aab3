package ear

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eat"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Examples of draft-ietf-rats-ear-03 section 4.
const (
	exampleJSON = `{"eat_profile":"tag:ietf.org,2026:rats/ear#03","iat":1666529184,"ear_verifier_id":{"developer":"https://veraison-project.org","build":"vts 0.0.1"},"ear_raw_evidence":"NzQ3MjY5NzM2NTYzNzQK",
"submods":{"PSA":{"ear_status":"contraindicated","ear_trustworthiness_vector":{"instance-identity":2,"executables":96,"hardware":2},"ear_appraisal_policy_ids":["https://veraison.example/policy/1/60a0068d"]}}}`
	exampleTwo = `{"eat_profile":"tag:ietf.org,2026:rats/ear#03","iat":1666529300,"ear_verifier_id":{"developer":"https://veraison-project.org","build":"vts 0.0.1"},"ear_raw_evidence":"NzQ3MjY5NzM2NTYzNzQKNzQ3MjY5NzM2NTYzNzQK",
"submods":{"CCA Platform":{"ear_status":"affirming","ear_trustworthiness_vector":{"instance-identity":2,"executables":2,"hardware":2},"ear_appraisal_policy_ids":["https://veraison.example/policy/1/60a0068d"]},
"CCA Realm":{"ear_status":"affirming","ear_trustworthiness_vector":{"instance-identity":2},"ear_appraisal_policy_ids":["https://veraison.example/policy/1/60a0068d"]}}}`
	// The first in CBOR, with its keys sorted.
	exampleCBOR = "a5 06 1a635537a0" +
		"190109 781d 7461673a696574662e6f72672c323032363a726174732f656172233033" +
		"19010a a1 63505341 a3 1903e8 1860 1903e9 a3 00 02 02 1860 04 02 1903eb 81 782a 68747470733a2f2f7665726169736f6e2e6578616d706c652f706f6c6963792f312f3630613030363864" +
		"1903ea 4b 6c696665626f61746d616e" +
		"1903ec a2 00 781c 68747470733a2f2f7665726169736f6e2d70726f6a6563742e6f7267 01 69 76747320302e302e31"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExamples(t *testing.T) {
	id := VerifierID{"https://veraison-project.org", "vts 0.0.1"}
	policies := []string{"https://veraison.example/policy/1/60a0068d"}
	want := &Result{Profile: Profile, IssuedAt: time.Unix(1666529184, 0).UTC(), Verifier: id, RawEvidence: []byte("74726973656374\n"),
		Submods: map[string]*Appraisal{"PSA": {Status: Contraindicated, Vector: &Vector{InstanceIdentity: 2, Executables: 96, Hardware: 2}, Policies: policies}}}
	got, err := ParseJSON([]byte(exampleJSON))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("JSON: %+v, want %+v", got, want)
	}
	if got, err = ParseCBOR(unhex(t, exampleCBOR)); err != nil {
		t.Fatal(err)
	}
	want.RawEvidence = []byte("lifeboatman")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("CBOR: %+v, want %+v", got, want)
	}
	if b, err := got.EncodeCBOR(); err != nil || !bytes.Equal(b, unhex(t, exampleCBOR)) {
		t.Errorf("CBOR: %x, %v", b, err)
	}
	if got, err = ParseJSON([]byte(exampleTwo)); err != nil || got.Overall() != Affirming || len(got.Submods) != 2 {
		t.Errorf("two: %+v, %v", got, err)
	}
}

func TestTiers(t *testing.T) {
	for c, want := range map[Claim]Tier{-1: None, 0: None, 1: None, 2: Affirming, 31: Affirming, -2: Affirming, -32: Affirming, 32: Warning, 36: Warning, 95: Warning, -33: Warning, -96: Warning, 96: Contraindicated, 99: Contraindicated, 127: Contraindicated, -97: Contraindicated, -128: Contraindicated} {
		if got := c.Tier(); got != want {
			t.Errorf("%d is %s, want %s", c, got, want)
		}
	}
	for _, tt := range []struct {
		v    Vector
		want Tier
	}{
		{Vector{}, None}, {Vector{Hardware: 2}, Affirming}, {Vector{Hardware: 2, Executables: 3, RuntimeOpaque: 32}, Warning}, {Vector{Hardware: 97, Configuration: 36}, Contraindicated},
		{Vector{Hardware: 2, Executables: -1}, None}, {Vector{Hardware: 2, Executables: 1}, None}, {Vector{Hardware: 32, Executables: -1}, Warning},
	} {
		if got := tt.v.Tier(); got != tt.want {
			t.Errorf("%v is %s, want %s", tt.v, got, tt.want)
		}
	}
	order := []Tier{Affirming, None, Warning, Contraindicated}
	for i, a := range order {
		for j, b := range order {
			if a.Better(b) != (i < j) {
				t.Errorf("%s better than %s: %v", a, b, a.Better(b))
			}
		}
	}
}

func result() *Result {
	a := &Appraisal{Vector: &Vector{InstanceIdentity: TrustworthyInstance, Hardware: UnsafeHardware, Executables: ApprovedBoot}, Policies: []string{PolicyID(sha256.Sum256([]byte("policy")))}, Nonce: []byte("87654321"),
		Extension: &Extension{Kind: evidence.TDX, ReportData: bytes.Repeat([]byte{7}, 64), Platform: []byte{1, 2}, Simulated: true,
			TCB:    &evidence.TCB{Status: evidence.OutOfDate, Date: now.AddDate(-1, 0, 0), Advisories: []string{"INTEL-SA-01234"}, Parts: []evidence.TCBPart{{Name: "platform", Status: evidence.OutOfDate, Behind: 2}}, EvaluationNumber: 18},
			Checks: evidence.Checks{{Name: "pck-chain", Outcome: evidence.Pass}, {Name: "tcb", Outcome: evidence.Warn, Detail: "2 levels behind"}}, NotAfter: now.Add(time.Hour)}}
	a.Derive()
	r := &Result{Issuer: "https://verifier.example", IssuedAt: now, Expires: now.Add(10 * time.Minute), Nonce: []byte("12345678"), Verifier: VerifierID{"trustedmcp.org", "1"}, RawEvidence: []byte{1, 2, 3}, Audience: []string{"me"},
		Submods: map[string]*Appraisal{"cpu": a}}
	t := r.Overall()
	r.Status = &t
	return r
}

func TestSignVerify(t *testing.T) {
	key := newKey(t)
	keys := eat.Keys{{ID: "k", Public: key.Public()}}
	want := result()
	want.Profile = Profile
	for name, sign := range map[string]func(*Result, crypto.Signer, string) ([]byte, error){"JWT": (*Result).SignJWT, "CWT": (*Result).SignCWT} {
		b, err := sign(result(), key, "k")
		if err != nil {
			t.Fatal(err)
		}
		ok := Options{Keys: keys, Now: now, Nonce: []byte("12345678"), Issuer: "https://verifier.example", Audience: "me", RequireExpiry: true, MaxAge: time.Minute}
		got, err := Verify(b, &ok)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if d, ok := PolicyDigest(got.Submods["cpu"].Policies[0]); !ok || d != sha256.Sum256([]byte("policy")) {
			t.Errorf("%s: policy %x", name, d)
		}
		for what, f := range map[string]func(*Options){
			"expired":  func(o *Options) { o.Now = now.Add(10 * time.Minute) },
			"too old":  func(o *Options) { o.Now = now.Add(2 * time.Minute) },
			"future":   func(o *Options) { o.Now = now.Add(-time.Second) },
			"nonce":    func(o *Options) { o.Nonce = []byte("12345679") },
			"no nonce": func(o *Options) { o.Nonce = []byte{} },
			"issuer":   func(o *Options) { o.Issuer = "https://other.example" },
			"audience": func(o *Options) { o.Audience = "you" },
			"key":      func(o *Options) { o.Keys = eat.Keys{{ID: "k", Public: newKey(t).Public()}} },
		} {
			o := ok
			f(&o)
			if _, err := Verify(b, &o); err == nil {
				t.Errorf("%s: %s was accepted", name, what)
			}
		}
	}
}

func TestNonceRequired(t *testing.T) {
	key := newKey(t)
	r := result()
	r.Nonce = nil
	for _, sign := range []func(*Result, crypto.Signer, string) ([]byte, error){(*Result).SignJWT, (*Result).SignCWT} {
		b, err := sign(r, key, "k")
		if err != nil {
			t.Fatal(err)
		}
		o := &Options{Keys: eat.Keys{{ID: "k", Public: key.Public()}}, Now: now}
		if _, err := Verify(b, o); err != nil {
			t.Error(err)
		}
		o.Nonce = []byte("12345678")
		if _, err := Verify(b, o); err == nil {
			t.Error("a result without the nonce that was asked for was accepted")
		}
	}
}

// A status that says more than the vector, or than an appraisal, is refused both
// when it is read and when it is written.
func TestStatus(t *testing.T) {
	for _, tt := range []struct{ name, from, to string }{
		{"better than the vector", `"ear_status":"contraindicated"`, `"ear_status":"affirming"`},
		{"none where contraindicated", `"ear_status":"contraindicated"`, `"ear_status":"none"`},
		{"overall better", `"iat"`, `"ear_status":"warning","iat"`},
		{"number", `"ear_status":"contraindicated"`, `"ear_status":96`},
		{"unknown tier", `"ear_status":"contraindicated"`, `"ear_status":"trusted"`},
		{"no status", `"ear_status":"contraindicated",`, ``},
		{"claim beyond the range", `"hardware":2`, `"hardware":128`},
		{"claim of text", `"hardware":2`, `"hardware":"affirming"`},
		{"claim with a fraction", `"hardware":2`, `"hardware":2.0`},
		{"unknown category", `"hardware":2`, `"firmware":2`},
		{"empty vector", `"instance-identity":2,"executables":96,"hardware":2`, ``},
		{"no policy in the list", `["https://veraison.example/policy/1/60a0068d"]`, `[]`},
		{"policy as text", `["https://veraison.example/policy/1/60a0068d"]`, `"https://veraison.example/policy/1/60a0068d"`},
		{"other profile", `ear#03`, `ear#02`},
		{"no iat", `"iat":1666529184,`, ``},
		{"no verifier", `"ear_verifier_id"`, `"verifier"`},
		{"no build", `,"build":"vts 0.0.1"`, ``},
		{"no appraisals", `"PSA":{`, `"PSA":["JWT","a.b.c"],"x":{`},
		{"short nonce", `"iat"`, `"eat_nonce":"MTIzNDU2Nw==","iat"`},
	} {
		s := strings.Replace(exampleJSON, tt.from, tt.to, 1)
		if s == exampleJSON {
			t.Fatalf("%s: nothing was replaced", tt.name)
		}
		if r, err := ParseJSON([]byte(s)); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, r.Submods["PSA"])
		}
	}
	for name, f := range map[string]func(*Result){
		"status":        func(r *Result) { r.Submods["cpu"].Status = Affirming },
		"overall":       func(r *Result) { s := Affirming; r.Status = &s },
		"tier":          func(r *Result) { r.Submods["cpu"].Status = 7 },
		"overall tier":  func(r *Result) { s := Tier(7); r.Status = &s },
		"no submods":    func(r *Result) { r.Submods = nil },
		"nil appraisal": func(r *Result) { r.Submods["x"] = nil },
		"iat":           func(r *Result) { r.IssuedAt = time.Time{} },
		"nonce":         func(r *Result) { r.Nonce = []byte("short") },
		"inner nonce":   func(r *Result) { r.Submods["cpu"].Nonce = make([]byte, 65) },
		"empty policy":  func(r *Result) { r.Submods["cpu"].Policies = []string{""} },
		"empty vector":  func(r *Result) { r.Submods["cpu"].Vector = &Vector{} },
		"verifier":      func(r *Result) { r.Verifier.Build = "" },
	} {
		r := result()
		f(r)
		if b, err := r.EncodeJSON(); err == nil {
			t.Errorf("%s: wrote %s", name, b)
		}
		if b, err := r.EncodeCBOR(); err == nil {
			t.Errorf("%s: wrote %x", name, b)
		}
	}
	worse := result()
	worse.Submods["cpu"].Status = Contraindicated
	s := Contraindicated
	worse.Status = &s
	if _, err := worse.EncodeJSON(); err != nil {
		t.Errorf("a status that says less: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Result{Profile: Profile, IssuedAt: now, Verifier: VerifierID{rapid.StringN(1, 9, 30).Draw(t, "developer"), "b"}, Submods: map[string]*Appraisal{}}
		if rapid.Bool().Draw(t, "nonce") {
			r.Nonce = rapid.SliceOfN(rapid.Byte(), 8, 64).Draw(t, "nonce")
		}
		for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "n")] {
			a := &Appraisal{}
			v := Vector{}
			for i := range v {
				v[i] = Claim(rapid.Int8().Draw(t, "claim"))
			}
			if v != (Vector{}) {
				a.Vector = &v
			}
			a.Derive()
			if rapid.Bool().Draw(t, "extension") {
				a.Extension = &Extension{Kind: evidence.SNP, ReportData: rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "report data"), Checks: evidence.Checks{{Name: "x", Outcome: evidence.Fail, Detail: rapid.String().Draw(t, "detail")}}}
			}
			r.Submods[name] = a
		}
		o := r.Overall()
		r.Status = &o
		js, err := r.EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseJSON(js); err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%s: %+v, %v", js, back, err)
		}
		b, err := r.EncodeCBOR()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseCBOR(b); err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%x: %+v, %v", b, back, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(exampleJSON))
	f.Add([]byte(exampleTwo))
	f.Add(unhex(f, exampleCBOR))
	if b, err := result().EncodeCBOR(); err == nil {
		f.Add(b)
	}
	if b, err := result().EncodeJSON(); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for js, parse := range map[bool]func([]byte) (*Result, error){true: ParseJSON, false: ParseCBOR} {
			r, err := parse(b)
			if err != nil {
				continue
			}
			encode := r.EncodeCBOR
			if js {
				encode = r.EncodeJSON
			}
			if out, err := encode(); err != nil {
				t.Errorf("%q: %v", b, err)
			} else if _, err := parse(out); err != nil {
				t.Errorf("%q: %v", out, err)
			}
			for _, a := range r.Submods {
				if a.Vector != nil && a.Status.Better(a.Vector.Tier()) {
					t.Errorf("status %s over %v", a.Status, a.Vector)
				}
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	key := newKey(b)
	in, err := result().SignCWT(key, "k")
	if err != nil {
		b.Fatal(err)
	}
	o := &Options{Keys: eat.Keys{{ID: "k", Public: key.Public()}}, Now: now, Nonce: []byte("12345678")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(in, o); err != nil {
			b.Fatal(err)
		}
	}
}
