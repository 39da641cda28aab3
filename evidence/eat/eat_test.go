package eat

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/evidence/internal/cosesign"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/evidence/internal/sig"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ptr[T any](v T) *T { return &v }

// The payload of the CWT of RFC 9711 appendix A.2.1, whose keys are not sorted.
const exampleHardware = `A60A4CD79B964DDD5471C1393C88881901005001
      98F50A4FF6C05861C8860D13A638EA19010219FA
      F2190106F5190107031901048263332E3101`

var hardware = &Claims{
	Nonces: [][]byte{{0xd7, 0x9b, 0x96, 0x4d, 0xdd, 0x54, 0x71, 0xc1, 0x39, 0x3c, 0x88, 0x88}},
	UEID:   []byte{1, 0x98, 0xf5, 0x0a, 0x4f, 0xf6, 0xc0, 0x58, 0x61, 0xc8, 0x86, 0x0d, 0x13, 0xa6, 0x38, 0xea},
	OEMID:  &OEMID{PEN: 64242}, OEMBoot: ptr(true), Debug: ptr(DebugDisabledPermanently), HardwareVersion: &Version{Version: "3.1", Scheme: 1},
}

func TestExampleCBOR(t *testing.T) {
	b := unhex(t, exampleHardware)
	if _, err := ParseCBOR(b); !errors.Is(err, dcbor.ErrNotDeterministic) {
		t.Errorf("unsorted keys: %v", err)
	}
	c, err := ParseUnsorted(b)
	if err != nil || !reflect.DeepEqual(c, hardware) {
		t.Fatalf("%+v, %v", c, err)
	}
	out, err := c.EncodeCBOR()
	if err != nil || len(out) != len(b) {
		t.Fatalf("%x, %v", out, err)
	}
	if c, err = ParseCBOR(out); err != nil || !reflect.DeepEqual(c, hardware) {
		t.Errorf("%+v, %v", c, err)
	}
}

// The bundle of RFC 9711 appendix A.2.2, its detached claims-set with it.
const exampleBundle = `D9025A82 58B8
    D83DD28443A10126A05866A70A4C351574496125 4B41A6CF9C02190100500198F50A4FF6C05861C8
    860D13A638EA19010219FAF2190106F519010703 1901048263332E310119010AA163544545822F58
    20AB86F765643AABFD09C84EEBE150B7F61BC248 04CEE75E90C5F99CB850FE808F58408469C5F3AC
    750981BABE6525ED750F38B4A9EE6656A7E70815 B34D0B1014E7143CEDAF81F8198EF978BCC35581
    C675A1D4116FDFBC1D1D1258612B255F4692A4
    A163544545 587B a40a5048df7b172d70b5a18935d0460a73dd7119 0106f51901070219011081821901025858a60064
    336132340c01016b41636d6520544545204f530d 65332e312e340282a2181f6b41636d6520544545
    204f53182101a2181f6b41636d6520544545204f 5318210206a111a118186e61636d655f7465655f 332e657865`

func TestExampleBundle(t *testing.T) {
	s := unhex(t, exampleBundle)
	s[5] = byte(len(unhex(t, strings.Split(strings.SplitN(exampleBundle, "58B8", 2)[1], "A163544545 587B")[0])))
	i := bytes.LastIndex(s, []byte{0x63, 'T', 'E', 'E', 0x58})
	s[i+5] = byte(len(s) - i - 6)
	b, err := ParseBundle(s)
	if err != nil {
		t.Fatal(err)
	}
	m, err := cosesign.Parse(cosesign.Untag(b.Main.Token, TagCWT, 18))
	if err != nil {
		t.Fatal(err)
	}
	if m.Alg != ES256 {
		t.Errorf("algorithm %s", m.Alg)
	}
	// The example's key is nowhere to be had, so its payload is signed anew.
	payload := unhex(t, `A70A4C351574496125 4B41A6CF9C02190100500198F50A4FF6C05861C8860D13A638EA19010219FAF2190106F519010703
		1901048263332E310119010AA163544545822F5820AB86F765643AABFD09C84EEBE150B7F61BC24804CEE75E90C5F99CB850FE808F`)
	if !bytes.Contains(b.Main.Token, payload) {
		t.Fatal("not the payload")
	}
	key := newKey(t)
	signed, err := cosesign.Sign(key, cosesign.Header{}, payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Main.Token = append([]byte{0xd2}, signed...)
	o := &Options{Keys: Keys{{Public: key.Public()}}, Now: now}
	if _, err := b.Verify(o); err == nil {
		t.Error("unsorted claims were accepted without leave")
	}
	o.Unsorted = true
	c, err := b.Verify(o)
	if err != nil {
		t.Fatal(err)
	}
	if tee := c.Submods["TEE"].Claims; tee == nil || len(tee.Manifests) != 1 || tee.Manifests[0].Format != 258 || *tee.Debug != DebugDisabledSinceBoot {
		t.Errorf("%+v", c.Submods)
	}
	raw := b.Detached["TEE"]
	for i := range raw {
		raw[i] ^= 1
		if _, err := b.Verify(o); err == nil {
			t.Fatalf("byte %d of the detached claims-set changed, and accepted", i)
		}
		raw[i] ^= 1
	}
	b.Detached["other"] = raw
	if _, err := b.Verify(o); err == nil {
		t.Error("a claims-set without a digest was accepted")
	}
	b.Detached = map[string][]byte{}
	if _, err := b.Verify(o); err == nil {
		t.Error("a digest without its claims-set was accepted")
	}
	if _, err := b.Verify(&Options{Keys: Keys{{Public: newKey(t).Public()}}, Now: now, Unsorted: true}); err == nil {
		t.Error("another key was accepted")
	}
}

func TestExampleJSON(t *testing.T) {
	// RFC 9711 appendix A.1.7, results of an EAT that was verified.
	c, err := ParseJSON([]byte(`{"eat_nonce":"jkd8KL-8xQk","oemboot":true,"dbgstat":"disabled-since-boot","oemid":"iUWt","ueid":"AZj1Ck_2wFhhyIYNE6Y4","swname":"Acme R-IoT-OS","swversion":["3.1.4"],"measres":[["Trustus Measurements",[["all","success"]]]]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Claims{Nonces: [][]byte{[]byte("jkd8KL-8xQk")}, OEMBoot: ptr(true), Debug: ptr(DebugDisabledSinceBoot), OEMID: &OEMID{ID: []byte{0x89, 0x45, 0xad}},
		UEID: unhex(t, "0198f50a4ff6c05861c8860d13a638"), SoftwareName: "Acme R-IoT-OS", SoftwareVersion: &Version{Version: "3.1.4"},
		Results: []Results{{"Trustus Measurements", []MeasurementResult{{ID: "all", Result: Success}}}}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
}

var refusedCBOR = []struct{ name, hex string }{
	{"not a map", "80"},
	{"nothing", ""},
	{"trailing", "a000"},
	{"indefinite", "bfff"},
	{"key twice", "a2 0a48 0102030405060708 0a48 0102030405060708"},
	{"keys unsorted", "a2 190106f5 0a480102030405060708"},
	{"key not shortest", "a1 180a480102030405060708"},
	{"nonce of 7 bytes", "a1 0a47 01020304050607"},
	{"nonce of 65 bytes", "a1 0a5841" + strings.Repeat("01", 65)},
	{"one nonce in an array", "a1 0a81480102030405060708"},
	{"nonce of text", "a1 0a68 6162636465666768"},
	{"ueid of 6 bytes", "a1 190100 46010203040506"},
	{"ueid of 34 bytes", "a1 190100 5822" + strings.Repeat("01", 34)},
	{"sueids empty", "a1 190101 a0"},
	{"oemid of 4 bytes", "a1 190102 4401020304"},
	{"hwmodel empty", "a1 190103 40"},
	{"hwversion of three", "a1 190104 83 6131 01 01"},
	{"debug state 5", "a1 190107 05"},
	{"debug state as text", "a1 190107 68 64697361626c6564"},
	{"location without longitude", "a1 190108 a1 01 01"},
	{"location with property 10", "a1 190108 a3 01 01 02 01 0a 01"},
	{"profile empty", "a1 190109 60"},
	{"profile neither", "a1 190109 01"},
	{"OID as text", "a1 190109 65 312e322e33"},
	{"submods empty", "a1 19010a a0"},
	{"submod of number", "a1 19010a a1 6161 01"},
	{"submod label of number", "a1 19010a a1 01 a0"},
	{"submod token without tag", "a1 19010a a1 6161 41a0"},
	{"submod digest of one", "a1 19010a a1 6161 812f"},
	{"dloas empty", "a1 19010d 80"},
	{"intuse 0", "a1 190113 00"},
	{"intuse 6", "a1 190113 06"},
	{"exp negative", "a1 04 20"},
	{"exp as float", "a1 04 f93c00"},
	{"exp tagged", "a1 04 c1 1a65000000"},
	{"exp beyond 9999", "a1 04 1b0000003afff44180"},
	{"issuer of bytes", "a1 01 4161"},
	{"issuer empty", "a1 01 60"},
	{"uptime negative", "a1 190105 20"},
	{"empty name", "a1 60 01"},
}

var refusedJSON = []struct{ name, json string }{
	{"not an object", `[]`},
	{"trailing", `{} {}`},
	{"name twice", `{"oemboot":true,"oemboot":false}`},
	{"nonce of 7", `{"eat_nonce":"1234567"}`},
	{"nonce of 89", `{"eat_nonce":"` + strings.Repeat("1", 89) + `"}`},
	{"nonce of number", `{"eat_nonce":12345678}`},
	{"ueid padded", `{"ueid":"AgAEizrK3Q=="}`},
	{"ueid with a line end", `{"ueid":"AgAE\nizrK3Q"}`},
	{"debug state as number", `{"dbgstat":1}`},
	{"debug state unknown", `{"dbgstat":"off"}`},
	{"swversion as text", `{"swversion":"3.1.4"}`},
	{"exp as text", `{"exp":"1700000000"}`},
	{"exp as float", `{"exp":1700000000.5}`},
	{"digest without a value", `{"submods":{"a":["DIGEST",["SHA-256"]]}}`},
	{"unknown selector", `{"submods":{"a":["COSE","AA"]}}`},
	{"JWT of two parts", `{"submods":{"a":["JWT","a.b"]}}`},
	{"empty name", `{"":1}`},
}

func TestRefused(t *testing.T) {
	for _, tt := range refusedCBOR {
		if c, err := ParseCBOR(unhex(t, tt.hex)); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, c)
		}
	}
	for _, tt := range refusedJSON {
		if c, err := ParseJSON([]byte(tt.json)); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, c)
		}
	}
	deep := &Claims{}
	for range maxDepth + 1 {
		deep = &Claims{Submods: map[string]Submod{"x": {Claims: deep}}}
	}
	if _, err := deep.EncodeCBOR(); err == nil {
		t.Error("encoded too deep")
	}
	for _, c := range []*Claims{nil, {Debug: ptr(Debug(9))}, {UEID: []byte{1}}, {Submods: map[string]Submod{"x": {}}}, {Other: map[Label][]byte{{Number: 10}: {1}}}, {Other: map[Label][]byte{{Number: 99}: {0x18, 1}}}, {IssuedAt: time.Unix(-5, 0)}} {
		if b, err := c.EncodeCBOR(); err == nil {
			t.Errorf("%+v: encoded as %x", c, b)
		}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerify(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &Claims{Issuer: "me", Nonces: [][]byte{[]byte("12345678")}, Expires: now.Add(time.Minute), IssuedAt: now, NotBefore: now, Audience: []string{"you"}, Profile: "tag:a,2026:b"}
	other := newKey(t)
	for _, key := range []crypto.Signer{newKey(t), p384, rsaKey, edKey} {
		for name, signer := range map[string]func(*Claims, crypto.Signer, string) ([]byte, error){"CWT": SignCWT, "JWT": SignJWT} {
			b, err := signer(c, key, "k")
			if err != nil {
				t.Fatal(err)
			}
			keys := Keys{{ID: "other", Public: other.Public()}, {ID: "k", Public: key.Public()}}
			ok := Options{Keys: keys, Now: now, Nonce: []byte("12345678"), Profile: "tag:a,2026:b", Audience: "you", RequireExpiry: true}
			if got, err := Verify(b, &ok); err != nil || !reflect.DeepEqual(got, c) {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			if name == "CWT" {
				if _, err := Verify(append([]byte{0xd8, 61}, b...), &ok); err != nil {
					t.Errorf("tag 61: %v", err)
				}
				if _, err := Verify(b[1:], &ok); err != nil {
					t.Errorf("without tag: %v", err)
				}
			}
			for what, f := range map[string]func(*Options){
				"expired":          func(o *Options) { o.Now = c.Expires },
				"not yet":          func(o *Options) { o.Now = now.Add(-time.Second) },
				"nonce":            func(o *Options) { o.Nonce = []byte("12345679") },
				"empty nonce":      func(o *Options) { o.Nonce = []byte{} },
				"profile":          func(o *Options) { o.Profile = "tag:a,2026:c" },
				"audience":         func(o *Options) { o.Audience = "me" },
				"no key":           func(o *Options) { o.Keys = nil },
				"no time":          func(o *Options) { o.Now = time.Time{} },
				"kid not pinned":   func(o *Options) { o.Keys = Keys{{ID: "other", Public: key.Public()}} },
				"key of another":   func(o *Options) { o.Keys = Keys{{ID: "k", Public: newKey(t).Public()}} },
				"other algorithm":  func(o *Options) { o.Keys = Keys{{ID: "k", Public: key.Public(), Alg: RS512}} },
				"two keys fit":     func(o *Options) { o.Keys = append(o.Keys, o.Keys[1]) },
				"no kid, two keys": func(o *Options) { o.Keys = Keys{{Public: key.Public()}, {Public: other.Public()}} },
			} {
				o := ok
				f(&o)
				if _, err := Verify(b, &o); err == nil {
					t.Errorf("%s: %s was accepted", name, what)
				}
			}
			o := ok
			o.Now, o.Skew = now.Add(-time.Second), time.Second
			if _, err := Verify(b, &o); err != nil {
				t.Errorf("%s: within the skew: %v", name, err)
			}
			for i := 0; i < len(b); i += 3 {
				b[i] ^= 1
				if got, err := Verify(b, &ok); err == nil {
					t.Errorf("%s: byte %d changed, and accepted: %+v", name, i, got)
				}
				b[i] ^= 1
			}
		}
	}
}

// someCertificate is a certificate of nobody's, in base64.
var someCertificate = func() string {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}()

// N23: a token that brings its own key, or changes the algorithm.
func TestForged(t *testing.T) {
	key := newKey(t)
	o := &Options{Keys: Keys{{ID: "k", Public: key.Public()}}, Now: now}
	forge := func(header, payload, sig string) []byte {
		e := base64.RawURLEncoding.EncodeToString
		return []byte(e([]byte(header)) + "." + e([]byte(payload)) + "." + sig)
	}
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"None","kid":"k"}`, `{"alg":"HS256","kid":"k"}`, `{"kid":"k"}`, `{"alg":"","kid":"k"}`, `{"alg":["ES256"],"kid":"k"}`,
		`{"alg":"ES256","kid":"k","jwk":{"kty":"EC"}}`, `{"alg":"ES256","kid":"k","jku":"https://example.com/"}`, `{"alg":"ES256","kid":"k","x5u":"https://example.com/"}`,
		`{"alg":"ES256","kid":"k","crit":["exp"]}`, `{"alg":"ES256","alg":"none","kid":"k"}`, `{"alg":"ES256","kid":"k","x5c":[]}`, `{"alg":"ES256","kid":"k","x5c":["` + someCertificate + `"]}`, `{"alg":"ES256","kid":"k","b64":false}`,
	} {
		// Signed as it stands, so that nothing but the header is wrong.
		unsigned := forge(header, `{}`, "")
		signed, err := sig.Sign(ES256, key, unsigned[:len(unsigned)-1])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"", base64.RawURLEncoding.EncodeToString(signed)} {
			if _, err := Verify(append(bytes.Clone(unsigned), s...), o); err == nil {
				t.Errorf("%s: accepted", header)
			}
		}
	}
	unsigned := forge(`{"alg":"ES256","kid":"k","other":["x"]}`, `{}`, "")
	signed, err := sig.Sign(ES256, key, unsigned[:len(unsigned)-1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(append(unsigned, base64.RawURLEncoding.EncodeToString(signed)...), o); err != nil {
		t.Errorf("the twin: %v", err)
	}
	for _, typ := range []string{"at+jwt", "dpop+jwt", "cwt", "eat+cwt", " "} {
		b, err := jose.Sign(key, jose.Header{KeyID: "k", Type: typ}, []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(b, o); err == nil {
			t.Errorf("typ %q was accepted", typ)
		}
	}
	for _, typ := range []string{"", "JWT", "eat+jwt", "application/eat+jwt", `application/EAT+jwt; eat_profile="tag:a"`} {
		b, err := jose.Sign(key, jose.Header{KeyID: "k", Type: typ}, []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(b, o); err != nil {
			t.Errorf("typ %q: %v", typ, err)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		if _, err := SignJWT(&Claims{}, weak, ""); err == nil {
			t.Error("signed with 1024 bits")
		}
	}
}

func genClaims(json bool, depth int) *rapid.Generator[*Claims] {
	return rapid.Custom(func(t *rapid.T) *Claims {
		c := &Claims{}
		octets := func(least, most int) []byte { return rapid.SliceOfN(rapid.Byte(), least, most).Draw(t, "octets") }
		text := func() string { return rapid.StringN(1, 9, 30).Draw(t, "text") }
		instant := func() time.Time { return time.Unix(rapid.Int64Range(1, maxTime).Draw(t, "time"), 0).UTC() }
		some := func() bool { return rapid.IntRange(0, 2).Draw(t, "some") == 0 }
		version := func() *Version {
			v := &Version{Version: text()}
			switch rapid.IntRange(0, 2).Draw(t, "scheme") {
			case 1:
				v.Scheme = 16384
			case 2:
				v.SchemeName = "mine"
			}
			return v
		}
		for _, f := range []func(){
			func() { c.Issuer = text() }, func() { c.Subject = text() }, func() { c.Audience = rapid.SliceOfN(rapid.Just("a"), 1, 3).Draw(t, "aud") },
			func() { c.Expires = instant() }, func() { c.NotBefore = instant() }, func() { c.IssuedAt = instant() }, func() { c.ID = []byte(text()) },
			func() {
				for range rapid.IntRange(1, 3).Draw(t, "nonces") {
					c.Nonces = append(c.Nonces, []byte(rapid.StringMatching(`[a-z]{8,64}`).Draw(t, "nonce")))
				}
			},
			func() { c.UEID = octets(7, 33) }, func() { c.SUEIDs = map[string][]byte{text(): octets(7, 33)} },
			func() { c.OEMID = &OEMID{PEN: rapid.Int64Range(-9, 99999).Draw(t, "pen")} }, func() { c.OEMID = &OEMID{ID: octets(3, 3)} },
			func() { c.HardwareModel = octets(1, 32) }, func() { c.HardwareVersion = version() }, func() { c.SoftwareVersion = version() },
			func() { c.Uptime = ptr(rapid.Uint64Range(0, 1<<50).Draw(t, "uptime")) }, func() { c.BootCount = ptr(uint64(3)) }, func() { c.BootSeed = octets(1, 40) },
			func() { c.OEMBoot = ptr(rapid.Bool().Draw(t, "boot")) }, func() { c.Debug = ptr(Debug(rapid.IntRange(0, 4).Draw(t, "debug"))) },
			func() {
				c.Location = Location{1: rapid.Float64Range(-90, 90).Draw(t, "lat"), 2: 11.5, 3: float64(rapid.IntRange(-9, 9999).Draw(t, "alt"))}
			},
			func() {
				c.Profile = rapid.SampledFrom([]string{"tag:a,2026:b", "1.3.6.1.4.1.99999", "2.16.840.1"}).Draw(t, "profile")
			},
			func() { c.DLOAs = []DLOA{{text(), text(), ""}, {text(), text(), text()}} }, func() { c.SoftwareName = text() },
			func() { c.Manifests = []Content{{258, octets(1, 9)}} }, func() { c.Measurements = []Content{{60, octets(1, 9)}, {0, octets(1, 9)}} },
			func() {
				c.Results = []Results{{text(), []MeasurementResult{{ID: text(), Result: Success}, {ID: text(), Result: Absent}}}}
			},
			func() { c.IntendedUse = Use(rapid.IntRange(1, 5).Draw(t, "use")) },
			func() {
				if json {
					c.Other = map[Label][]byte{{Name: "x-mine"}: []byte(`{"a":[1,true]}`)}
				} else {
					c.Other = map[Label][]byte{{Number: -70000}: {0xa1, 1, 2}, {Name: "x"}: {0xf5}}
				}
			},
			func() {
				if depth == 0 {
					return
				}
				c.Submods = map[string]Submod{
					"a": {Claims: genClaims(json, depth-1).Draw(t, "submod")},
					"b": {Nested: &Nested{CBOR, append([]byte{0xd2}, octets(1, 9)...)}},
					"c": {Nested: &Nested{JWT, []byte("a.b.c")}},
					"d": {Nested: &Nested{JSONBundle, []byte(`[["JWT","a.b.c"],{"x":"e30"}]`)}},
					"e": {Digest: &Digest{Algorithm: -16, Value: octets(32, 32)}},
					"f": {Digest: &Digest{Name: "SHA-384", Value: octets(48, 48)}},
				}
			},
		} {
			if some() {
				f()
			}
		}
		return c
	})
}

func TestRoundTrip(t *testing.T) {
	for _, json := range []bool{false, true} {
		rapid.Check(t, func(t *rapid.T) {
			c := genClaims(json, 2).Draw(t, "claims")
			encode, parse := c.EncodeCBOR, ParseCBOR
			if json {
				encode, parse = c.EncodeJSON, ParseJSON
			}
			b, err := encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := parse(b)
			if err != nil || !reflect.DeepEqual(back, c) {
				t.Fatalf("%x: %+v, want %+v, %v", b, back, c, err)
			}
			if !json {
				if back, err := ParseUnsorted(b); err != nil || !reflect.DeepEqual(back, c) {
					t.Fatalf("unsorted: %+v, %v", back, err)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, exampleHardware))
	f.Add(unhex(f, exampleBundle))
	for _, tt := range refusedCBOR {
		f.Add(unhex(f, tt.hex))
	}
	for _, tt := range refusedJSON {
		f.Add([]byte(tt.json))
	}
	f.Add([]byte(`[["JWT","a.b.c"],{"x":"e30"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCBOR(b); err == nil {
			out, err := c.EncodeCBOR()
			if err != nil || !bytes.Equal(out, cosesign.Untag(b, TagUCCS)) && c.Results == nil && c.Audience == nil && !hasJSON(c) {
				t.Errorf("%x became %x, %v", b, out, err)
			}
		}
		if c, err := ParseUnsorted(b); err == nil {
			if _, err := c.EncodeCBOR(); err != nil {
				t.Errorf("%x: %v", b, err)
			}
		}
		if c, err := ParseJSON(b); err == nil {
			if out, err := c.EncodeJSON(); err != nil {
				t.Errorf("%s: %v", b, err)
			} else if again, err := ParseJSON(out); err != nil || !reflect.DeepEqual(again, c) && !hasJSON(c) {
				t.Errorf("%s became %s, %v", b, out, err)
			}
		}
		if b, err := ParseBundle(b); err == nil && len(b.Detached) == 0 {
			t.Error("an empty bundle")
		}
	})
}

// hasJSON: tokens in JSON within may be spelt in more than one way.
func hasJSON(c *Claims) bool {
	for _, s := range c.Submods {
		if s.Nested != nil && s.Nested.Form != CBOR || s.Nested != nil || s.Claims != nil && hasJSON(s.Claims) {
			return true
		}
	}
	return len(c.Other) > 0
}

func FuzzVerify(f *testing.F) {
	key := newKey(f)
	c := &Claims{Nonces: [][]byte{[]byte("12345678")}}
	for _, sign := range []func(*Claims, crypto.Signer, string) ([]byte, error){SignCWT, SignJWT} {
		b, err := sign(c, key, "k")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	other := newKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, unsorted := range []bool{false, true} {
			if _, err := Verify(b, &Options{Keys: Keys{{ID: "k", Public: other.Public()}}, Now: now, Unsorted: unsorted}); err == nil {
				t.Error("accepted")
			}
		}
	})
}

func BenchmarkVerifyCWT(b *testing.B) { benchmarkVerify(b, SignCWT) }
func BenchmarkVerifyJWT(b *testing.B) { benchmarkVerify(b, SignJWT) }

func benchmarkVerify(b *testing.B, sign func(*Claims, crypto.Signer, string) ([]byte, error)) {
	key := newKey(b)
	c := *hardware
	c.Nonces = [][]byte{[]byte("0123456789abcdef")}
	c.Expires, c.IssuedAt, c.Issuer, c.Profile = now.Add(time.Hour), now, "https://verifier.example", "tag:example.com,2026:p"
	in, err := sign(&c, key, "k")
	if err != nil {
		b.Fatal(err)
	}
	o := &Options{Keys: Keys{{ID: "k", Public: key.Public()}}, Now: now, Nonce: c.Nonces[0]}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(in, o); err != nil {
			b.Fatal(err)
		}
	}
}
