package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/ccatoken"
	ccaplatform "github.com/veraison/ccatoken/platform"
	ccarealm "github.com/veraison/ccatoken/realm"
	"github.com/veraison/go-cose"
	"github.com/veraison/psatoken"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// moduleFile reads a file of ccatoken's test vectors.
func moduleFile(t testing.TB, path ...string) []byte {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/veraison/ccatoken").Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Fatalf("go list: %v: run go mod download", err)
	}
	b, err := os.ReadFile(filepath.Join(append([]string{strings.TrimSpace(string(out))}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exampleKey is the platform key of Arm's examples, with which both of our
// recorded tokens are signed.
func exampleKey(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	b, _ := pem.Decode(moduleFile(t, "realm", "testvectors", "tf-rmm", "cca_platform.pub"))
	k, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*ecdsa.PublicKey)
}

// recorded are tokens that a realm manager made: that of TF-RMM in ccatoken, and
// the one of trustee's tests.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	example, err := os.ReadFile(filepath.Join("..", "testdata", "hardware", "cca", "cca-example-token.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"tf-rmm": moduleFile(t, "realm", "testvectors", "tf-rmm", "cca_token.cbor"), "example": example}
}

func trust(keys ...evidence.CCAKey) *evidence.Trust {
	return &evidence.Trust{Anchors: &evidence.Anchors{CCA: keys}}
}

func verifyToken(b []byte, t *evidence.Trust) *evidence.Result {
	return (&Verifier{}).Verify(evidence.TypeCCA, b, t)
}

func TestRecorded(t *testing.T) {
	key := exampleKey(t)
	for name, b := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			token, err := ParseToken(b)
			if err != nil {
				t.Fatal(err)
			}
			r := verifyToken(b, trust(evidence.CCAKey{ImplementationID: token.Platform.ImplementationID, InstanceID: token.Platform.InstanceID, Key: key}))
			if !r.Accepted() {
				t.Fatalf("%+v", r.Checks)
			}
			for _, c := range []string{"token-format", "platform-signature", "realm-binding", "realm-signature", "debug"} {
				if k, _ := r.Checks.Find(c); k.Outcome != evidence.Pass {
					t.Errorf("%s: %+v", c, k)
				}
			}
			c := r.Verified().Claims()
			if c.Kind != evidence.CCA || c.Debug || c.Simulated || len(c.ReportData) != 64 || len(c.Platform) != 33 {
				t.Errorf("%+v", c)
			}
			if c.Values["cca.lifecycle"] != uint64(0x3003) || c.Values["cca.platformprofile"] != ProfilePlatformLegacy || c.Values["cca.realmprofile"] != nil || c.Values["cca.hashalg"] != "sha-256" {
				t.Errorf("%+v", c.Values)
			}
			for k, n := range map[string]int{"cca.implid": 32, "cca.instanceid": 33, "cca.rpv": 64} {
				if v, _ := c.Values[k].([]byte); len(v) != n {
					t.Errorf("%s: %x, want %d bytes", k, v, n)
				}
			}
			sw := map[string]string{"tf-rmm": "cca.sw.M1.measurement", "example": "cca.sw.RMM.measurement"}[name]
			if v, _ := c.Values[sw].([]byte); len(v) != 32 {
				t.Errorf("%s: %x", sw, v)
			}
			if name == "tf-rmm" && c.Values["cca.sw.BL.version"] != "3.4.2" {
				t.Errorf("version %v", c.Values["cca.sw.BL.version"])
			}

			// ccatoken agrees.
			e, err := ccatoken.DecodeAndValidateEvidenceFromCBOR(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Verify(key); err != nil {
				t.Error(err)
			}
			rim, _ := e.RealmClaims.GetInitialMeasurement()
			challenge, _ := e.RealmClaims.GetChallenge()
			if !bytes.Equal(c.Values["cca.rim"].([]byte), rim) || !bytes.Equal(c.ReportData, challenge) {
				t.Errorf("rim %x and challenge %x, ccatoken has %x and %x", c.Values["cca.rim"], c.ReportData, rim, challenge)
			}
		})
	}
}

// TestEveryFlip: no bit of a token can be changed unnoticed.
func TestEveryFlip(t *testing.T) {
	key := exampleKey(t)
	for name, b := range recorded(t) {
		token, err := ParseToken(b)
		if err != nil {
			t.Fatal(err)
		}
		tr := trust(evidence.CCAKey{ImplementationID: bytes.Clone(token.Platform.ImplementationID), Key: key})
		for i := range b {
			b[i] ^= 1 << (i % 8)
			if r := verifyToken(b, tr); r.Accepted() || r.Verified() != nil {
				t.Errorf("%s: byte %d flipped: accepted", name, i)
			}
			b[i] ^= 1 << (i % 8)
		}
		for n := range b {
			if verifyToken(b[:n], tr).Accepted() {
				t.Fatalf("%s: cut at %d: accepted", name, n)
			}
		}
		if verifyToken(append(bytes.Clone(b), 0), tr).Accepted() {
			t.Errorf("%s: a byte more: accepted", name)
		}
	}
}

// A maker makes tokens with keys of its own. The functions change what it signs.
type maker struct {
	iak, rak *ecdsa.PrivateKey
}

func newMaker(t testing.TB) *maker {
	t.Helper()
	var m maker
	for _, k := range []**ecdsa.PrivateKey{&m.iak, &m.rak} {
		var err error
		if *k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	return &m
}

type claims = map[int]any

func (m *maker) claims(t testing.TB) (platform, realm claims) {
	t.Helper()
	point, err := m.rak.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b := dcbor.AppendInt(dcbor.AppendInt(dcbor.AppendMap(nil, 4), 1), 2)
	b = dcbor.AppendInt(dcbor.AppendInt(b, -1), 2)
	b = dcbor.AppendBytes(dcbor.AppendInt(b, -2), point[1:49])
	b = dcbor.AppendBytes(dcbor.AppendInt(b, -3), point[49:])
	digest := sha256.Sum256(b)
	rim := sha512.Sum384([]byte("realm"))
	rem := make([]byte, 48)
	platform = claims{
		265: ProfilePlatform, 10: digest[:], 2396: bytes.Repeat([]byte{7}, 32), 256: append([]byte{1}, bytes.Repeat([]byte{9}, 32)...),
		2401: []byte{1}, 2395: 0x3000, 2402: "sha-256",
		2399: []claims{{1: "BL", 2: make([]byte, 32), 5: make([]byte, 32), 4: "1.0"}, {2: make([]byte, 48), 5: make([]byte, 32), 6: "sha-384"}},
	}
	realm = claims{
		265: ProfileRealm, 10: bytes.Repeat([]byte{0xab}, 64), 44235: make([]byte, 64), 44236: "sha-384",
		44237: b, 44238: rim[:], 44239: [][]byte{rem, rem, rem, rem}, 44240: "sha-256",
	}
	return platform, realm
}

func sign(t testing.TB, key *ecdsa.PrivateKey, protected []byte, payload any) []byte {
	t.Helper()
	p, ok := payload.([]byte)
	if !ok {
		var err error
		if p, err = cbor.Marshal(payload); err != nil {
			t.Fatal(err)
		}
	}
	tbs := dcbor.AppendText(dcbor.AppendArray(nil, 4), "Signature1")
	for _, b := range [][]byte{protected, nil, p} {
		tbs = dcbor.AppendBytes(tbs, b)
	}
	var digest []byte
	switch key.Curve.Params().BitSize {
	case 256:
		d := sha256.Sum256(tbs)
		digest = d[:]
	case 384:
		d := sha512.Sum384(tbs)
		digest = d[:]
	default:
		d := sha512.Sum512(tbs)
		digest = d[:]
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		t.Fatal(err)
	}
	n := (key.Curve.Params().BitSize + 7) / 8
	sig := append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...)
	b := dcbor.AppendArray(dcbor.AppendTag(nil, tagSign1), 4)
	b = dcbor.AppendMap(dcbor.AppendBytes(b, protected), 0)
	return dcbor.AppendBytes(dcbor.AppendBytes(b, p), sig)
}

var es384 = []byte{0xa1, 0x01, 0x38, 0x22}

func wrap(platform, realm []byte) []byte {
	b := dcbor.AppendMap(dcbor.AppendTag(nil, tagCollection), 2)
	b = dcbor.AppendBytes(dcbor.AppendUint(b, labelPlatform), platform)
	return dcbor.AppendBytes(dcbor.AppendUint(b, labelRealm), realm)
}

func (m *maker) token(t testing.TB, platform, realm any) []byte {
	t.Helper()
	return wrap(sign(t, m.iak, es384, platform), sign(t, m.rak, es384, realm))
}

func (m *maker) anchor() evidence.CCAKey {
	return evidence.CCAKey{ImplementationID: bytes.Repeat([]byte{7}, 32), Key: &m.iak.PublicKey}
}

// TestClaims: each rule of the claims refuses the token that breaks it, though
// both its signatures are good; and without the change the token is accepted.
func TestClaims(t *testing.T) {
	m := newMaker(t)
	const platform, realm = 0, 1
	for _, c := range []struct {
		name     string
		which    int
		key      int
		value    any // nil removes the claim
		accepted bool
	}{
		{"nothing changed", platform, 2401, []byte{1}, true},
		{"a claim nobody knows", realm, 65000, "x", true},
		{"no platform profile", platform, 265, nil, false},
		{"another platform profile", platform, 265, "tag:psacertified.org,2023:psa#tfm", false},
		{"a challenge of another length", platform, 10, make([]byte, 31), false},
		{"no implementation id", platform, 2396, nil, false},
		{"a short implementation id", platform, 2396, make([]byte, 31), false},
		{"an instance id of another type", platform, 256, append([]byte{2}, make([]byte, 32)...), false},
		{"a short instance id", platform, 256, []byte{1}, false},
		{"no configuration", platform, 2401, nil, false},
		{"no lifecycle", platform, 2395, nil, false},
		{"a lifecycle that is not defined", platform, 2395, 0x3100, false},
		{"a lifecycle beyond the last", platform, 2395, 0x7000, false},
		{"a long lifecycle", platform, 2395, 0x13000, false},
		{"a negative lifecycle", platform, 2395, -1, false},
		{"no hash algorithm", platform, 2402, nil, false},
		{"a weak hash algorithm", platform, 2402, "sha-1", false},
		{"no software components", platform, 2399, nil, false},
		{"empty software components", platform, 2399, []claims{}, false},
		{"a component without measurement", platform, 2399, []claims{{5: make([]byte, 32)}}, false},
		{"a component without signer", platform, 2399, []claims{{2: make([]byte, 32)}}, false},
		{"a measurement of another algorithm", platform, 2399, []claims{{2: make([]byte, 48), 5: make([]byte, 32)}}, false},
		{"another realm profile", realm, 265, "tag:arm.com,2030:realm#9", false},
		{"a short challenge", realm, 10, make([]byte, 32), false},
		{"no personalization value", realm, 44235, nil, false},
		{"a weak realm hash algorithm", realm, 44236, "sha-224", false},
		{"another realm hash algorithm", realm, 44236, "sha-512", false},
		{"a short measurement", realm, 44238, make([]byte, 47), false},
		{"three extensible measurements", realm, 44239, [][]byte{make([]byte, 48), make([]byte, 48), make([]byte, 48)}, false},
		{"a short extensible measurement", realm, 44239, [][]byte{make([]byte, 48), make([]byte, 48), make([]byte, 48), make([]byte, 32)}, false},
		{"no hash algorithm of the key", realm, 44240, nil, false},
		{"another hash algorithm of the key", realm, 44240, "sha-384", false},
		{"the key in the legacy form", realm, 265, nil, false},
		{"no key", realm, 44237, nil, false},
	} {
		p, r := m.claims(t)
		changed := []claims{p, r}[c.which]
		if changed[c.key] = c.value; c.value == nil {
			delete(changed, c.key)
		}
		res := verifyToken(m.token(t, p, r), trust(m.anchor()))
		if res.Accepted() != c.accepted || (res.Verified() != nil) != c.accepted {
			t.Errorf("%s: accepted %v: %+v", c.name, res.Accepted(), res.Checks)
		}
		check := "token-format"
		switch c.name {
		case "another hash algorithm of the key", "no key":
			check = "realm-binding"
		case "the key in the legacy form":
			check = "realm-signature"
		}
		if k, _ := res.Checks.Find(check); !c.accepted && k.Outcome != evidence.Fail {
			t.Errorf("%s: refused by another check than %s: %+v", c.name, check, res.Checks)
		}
	}
}

// TestKeys: the token is that of an anchored platform key, the realm's key is
// the one that the platform names, and algorithm and key agree.
func TestKeys(t *testing.T) {
	m, other := newMaker(t), newMaker(t)
	p, r := m.claims(t)
	_, otherRealm := other.claims(t)
	whole := m.token(t, p, r)
	a := m.anchor()
	instance := func(b byte) evidence.CCAKey {
		k := a
		k.InstanceID = append([]byte{1}, bytes.Repeat([]byte{b}, 32)...)
		return k
	}
	sim, err := evidence.NewSimulator(evidence.Anchors{CCA: []evidence.CCAKey{a}})
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	realmToken := sign(t, m.rak, es384, r)
	with := func(k *ecdsa.PrivateKey) *evidence.Trust {
		return trust(evidence.CCAKey{ImplementationID: a.ImplementationID, Key: &k.PublicKey})
	}
	for _, c := range []struct {
		name                string
		token               []byte
		trust               *evidence.Trust
		accepted, simulated bool
		failed              string // the one check that fails
	}{
		{"any instance", whole, trust(a), true, false, ""},
		{"this instance", whole, trust(instance(9)), true, false, ""},
		{"the second key", whole, trust(other.anchor(), a), true, false, ""},
		{"ES256", wrap(sign(t, p256, []byte{0xa1, 1, 0x26}, p), realmToken), with(p256), true, false, ""},
		{"ES512", wrap(sign(t, p521, []byte{0xa1, 1, 0x38, 0x23}, p), realmToken), with(p521), true, false, ""},
		{"simulated", whole, &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: sim}, true, true, ""},
		{"anchored and simulated", whole, &evidence.Trust{Anchors: &evidence.Anchors{CCA: []evidence.CCAKey{a}}, Simulator: sim}, true, false, ""},
		{"no anchors", whole, &evidence.Trust{}, false, false, "platform-signature"},
		{"no trust", whole, nil, false, false, "platform-signature"},
		{"no key", whole, trust(), false, false, "platform-signature"},
		{"another key", whole, trust(other.anchor()), false, false, "platform-signature"},
		{"another instance", whole, trust(instance(8)), false, false, "platform-signature"},
		{"another implementation", whole, trust(evidence.CCAKey{ImplementationID: make([]byte, 32), Key: a.Key}), false, false, "platform-signature"},
		{"a key that is none", whole, trust(evidence.CCAKey{ImplementationID: a.ImplementationID, Key: "key"}), false, false, "platform-signature"},
		{"ES256 with a key of P-384", wrap(sign(t, m.iak, []byte{0xa1, 1, 0x26}, p), realmToken), trust(a), false, false, "platform-signature"},
		{"another realm on this platform", wrap(sign(t, m.iak, es384, p), sign(t, other.rak, es384, otherRealm)), trust(a), false, false, "realm-binding"},
		{"a realm token by another key", wrap(sign(t, m.iak, es384, p), sign(t, other.rak, es384, r)), trust(a), false, false, "realm-signature"},
	} {
		res := verifyToken(c.token, c.trust)
		failed := res.Checks.Failed()
		if res.Accepted() != c.accepted || (c.failed == "") != (len(failed) == 0) || (len(failed) > 0 && (len(failed) != 1 || failed[0].Name != c.failed)) {
			t.Errorf("%s: accepted %v: %+v", c.name, res.Accepted(), res.Checks)
		}
		if v := res.Verified(); (v != nil) != c.accepted || v != nil && v.Claims().Simulated != c.simulated {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
	if (&Verifier{}).Verify(evidence.TypeTDX, whole, trust(a)).Accepted() {
		t.Error("another media type: accepted")
	}
}

// TestRealmKey: a RAK is a point of P-384, in the form of its profile.
func TestRealmKey(t *testing.T) {
	m := newMaker(t)
	_, r := m.claims(t)
	good := r[44237].([]byte)
	point, err := m.rak.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key := func(pairs ...any) []byte {
		b := dcbor.AppendMap(nil, len(pairs)/2)
		for i, v := range pairs {
			if n, ok := v.(int); ok {
				b = dcbor.AppendInt(b, int64(n))
			} else {
				b = dcbor.AppendBytes(b, pairs[i].([]byte))
			}
		}
		return b
	}
	x, y := point[1:49], point[49:]
	if !bytes.Equal(good, key(1, 2, -1, 2, -2, x, -3, y)) {
		t.Fatal("the maker's key is not what this test takes it for")
	}
	off := bytes.Clone(y)
	off[47] ^= 1
	for _, c := range []struct {
		name   string
		legacy bool
		key    []byte
		ok     bool
	}{
		{"COSE_Key", false, good, true},
		{"with algorithm and key id", false, key(1, 2, 2, []byte("id"), 3, -35, -1, 2, -2, x, -3, y), true},
		{"point", true, point, true},
		{"point where a COSE_Key should be", false, point, false},
		{"COSE_Key where a point should be", true, good, false},
		{"another type", false, key(1, 1, -1, 2, -2, x, -3, y), false},
		{"another curve", false, key(1, 2, -1, 1, -2, x, -3, y), false},
		{"another algorithm", false, key(1, 2, 3, -7, -1, 2, -2, x, -3, y), false},
		{"no y", false, key(1, 2, -1, 2, -2, x), false},
		{"a short x", false, key(1, 2, -1, 2, -2, x[1:], -3, y), false},
		{"a label twice", false, key(1, 2, -1, 2, -2, x, -2, x, -3, y), false},
		{"more after it", false, append(bytes.Clone(good), 0), false},
		{"off the curve", false, key(1, 2, -1, 2, -2, x, -3, off), false},
		{"the point at infinity", true, []byte{0}, false},
		{"compressed", true, append([]byte{2}, x...), false},
		{"empty", true, nil, false},
	} {
		realm := Realm{PublicKey: c.key, Profile: ProfileRealm}
		if c.legacy {
			realm.Profile = ""
		}
		if k, err := realm.key(); (err == nil) != c.ok || c.ok && !k.Equal(&m.rak.PublicKey) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestEnvelope: what is around the claims has one form.
func TestEnvelope(t *testing.T) {
	m := newMaker(t)
	p, r := m.claims(t)
	pt, rt := sign(t, m.iak, es384, p), sign(t, m.rak, es384, r)
	payload := func(b []byte) []byte { return wrap(sign(t, m.iak, es384, b), rt) }
	plain, err := cbor.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	twice := append(append([]byte{plain[0] + 1}, plain[1:]...), 0x0a, 0x41, 0)
	indefinite := append(append([]byte{0xbf}, plain[1:]...), 0xff)
	collect := func(tag uint64, items ...any) []byte {
		b := dcbor.AppendMap(dcbor.AppendTag(nil, tag), len(items)/2)
		for i := 0; i < len(items); i += 2 {
			b = dcbor.AppendUint(b, uint64(items[i].(int)))
			switch v := items[i+1].(type) {
			case []byte:
				b = dcbor.AppendBytes(b, v)
			case [2]any:
				b = dcbor.AppendUint(dcbor.AppendArray(b, 2), uint64(v[0].(int)))
				b = dcbor.AppendBytes(b, v[1].([]byte))
			}
		}
		return b
	}
	header := func(h ...byte) []byte { return wrap(sign(t, m.iak, h, p), rt) }
	unprotected := bytes.Clone(pt)
	unprotected[7] = 0xa1 // was the empty map behind d2 84 44 and the header
	unprotected = slices.Insert(unprotected, 8, 0x04, 0x41, 0x01)
	for _, c := range []struct {
		name     string
		token    []byte
		accepted bool
	}{
		{"collection", wrap(pt, rt), true},
		{"collection, realm first", collect(399, labelRealm, rt, labelPlatform, pt), true},
		{"CMW", collect(907, labelPlatform, [2]any{263, pt}, labelRealm, [2]any{263, rt}), true},
		{"key id in the header", header(0xa2, 1, 0x38, 0x22, 4, 0x41, 1), true},
		{"another content format", collect(907, labelPlatform, [2]any{61, pt}, labelRealm, [2]any{263, rt}), false},
		{"CMW records in a collection", collect(399, labelPlatform, [2]any{263, pt}, labelRealm, [2]any{263, rt}), false},
		{"strings in a CMW", collect(907, labelPlatform, pt, labelRealm, rt), false},
		{"another tag", collect(398, labelPlatform, pt, labelRealm, rt), false},
		{"no tag", wrap(pt, rt)[3:], false},
		{"no realm token", collect(399, labelPlatform, pt), false},
		{"platform token twice", collect(399, labelPlatform, pt, labelPlatform, pt), false},
		{"a third token", collect(399, labelPlatform, pt, labelRealm, rt, 44258, rt), false},
		{"another label", collect(399, labelPlatform, pt, 44242, rt), false},
		{"an empty token", collect(399, labelPlatform, pt, labelRealm, []byte{}), false},
		{"swapped", wrap(rt, pt), false},
		{"no tag on the message", wrap(pt[1:], rt), false},
		{"unprotected parameters", wrap(unprotected, rt), false},
		{"crit", header(0xa2, 1, 0x38, 0x22, 2, 0x81, 4), false},
		{"an unknown parameter", header(0xa2, 1, 0x38, 0x22, 0x18, 33, 0x41, 1), false},
		{"algorithm twice", header(0xa2, 1, 0x38, 0x22, 1, 0x38, 0x22), false},
		{"no algorithm", header(0xa0), false},
		{"no header", header(), false},
		{"more after the header", header(0xa1, 1, 0x38, 0x22, 0), false},
		{"claims of no map", payload([]byte{0x80}), false},
		{"a claim twice", payload(twice), false},
		{"indefinite length", payload(indefinite), false},
		{"a tagged claim", payload(append(append([]byte{plain[0] + 1}, plain[1:]...), 0x19, 0xff, 0xff, 0xc1, 0)), false},
		{"more after the claims", payload(append(bytes.Clone(plain), 0)), false},
		{"too long", payload(make([]byte, maxToken)), false},
	} {
		res := verifyToken(c.token, trust(m.anchor()))
		if res.Accepted() != c.accepted {
			t.Errorf("%s: accepted %v: %+v", c.name, res.Accepted(), res.Checks)
		}
		if k, _ := res.Checks.Find("token-format"); !c.accepted && k.Outcome != evidence.Fail {
			t.Errorf("%s: refused for another reason: %+v", c.name, res.Checks)
		}
	}
}

// TestSignatureLength: r and s have their full lengths.
func TestSignatureLength(t *testing.T) {
	m := newMaker(t)
	p, _ := m.claims(t)
	s, err := parseSign1(sign(t, m.iak, es384, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.verify(&m.iak.PublicKey); err != nil {
		t.Fatal(err)
	}
	s.signature = slices.Insert(s.signature, 48, 0) // the same two numbers
	if s.verify(&m.iak.PublicKey) == nil {
		t.Error("a byte more: accepted")
	}
	if s.signature = make([]byte, 96); s.verify(&m.iak.PublicKey) == nil {
		t.Error("zeros: accepted")
	}
	odd := elliptic.CurveParams{P: big.NewInt(23), N: big.NewInt(7), B: big.NewInt(1), BitSize: 5}
	if s.verify(&ecdsa.PublicKey{Curve: &odd, X: new(big.Int), Y: new(big.Int)}) == nil {
		t.Error("a curve of no algorithm: accepted")
	}
}

// TestLifecycle: only a secured platform is not debuggable.
func TestLifecycle(t *testing.T) {
	m := newMaker(t)
	for v, want := range map[int]evidence.Outcome{
		0: evidence.Fail, 0x10ff: evidence.Fail, 0x2000: evidence.Fail, 0x3000: evidence.Pass, 0x30ff: evidence.Pass,
		0x4000: evidence.Fail, 0x50ff: evidence.Fail, 0x6000: evidence.Fail,
	} {
		p, r := m.claims(t)
		p[2395] = v
		res := verifyToken(m.token(t, p, r), trust(m.anchor()))
		if k, _ := res.Checks.Find("debug"); k.Outcome != want || res.Verified().Claims().Debug != (want == evidence.Fail) || res.Accepted() != (want == evidence.Pass) {
			t.Errorf("%#x: %+v", v, k)
		}
		lenient := New(Options{AllowDebug: true}).Verify(evidence.TypeCCA, m.token(t, p, r), trust(m.anchor()))
		if k, _ := lenient.Checks.Find("debug"); want == evidence.Fail && k.Outcome != evidence.Warn || !lenient.Accepted() {
			t.Errorf("%#x, debug allowed: %+v", v, k)
		}
	}
}

// TestComponents: components without a type, or that share one, have names too.
func TestComponents(t *testing.T) {
	m := newMaker(t)
	p, r := m.claims(t)
	c := func(kind string, b byte) claims {
		v := claims{2: bytes.Repeat([]byte{b}, 32), 5: make([]byte, 32)}
		if kind != "" {
			v[1] = kind
		}
		return v
	}
	p[2399] = []claims{c("BL", 0), c("BL", 1), c("", 2), c("1", 3)}
	got := map[string]byte{}
	for k, v := range verifyToken(m.token(t, p, r), trust(m.anchor())).Verified().Claims().Values {
		if name, ok := strings.CutSuffix(k, ".measurement"); ok {
			got[name] = v.([]byte)[0]
		}
	}
	if want := map[string]byte{"cca.sw.BL": 0, "cca.sw.1": 1, "cca.sw.2": 2, "cca.sw.3": 3}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestSecondOpinion: ccatoken accepts the tokens that we make, and we those that
// it makes.
func TestSecondOpinion(t *testing.T) {
	m := newMaker(t)
	p, r := m.claims(t)
	e, err := ccatoken.DecodeAndValidateEvidenceFromCBOR(m.token(t, p, r))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Verify(&m.iak.PublicKey); err != nil {
		t.Error(err)
	}

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pc, rc := ccaplatform.NewClaims(), ccarealm.NewClaims()
	must(pc.SetImplID(p[2396].([]byte)))
	must(pc.SetInstID(p[256].([]byte)))
	must(pc.SetConfig([]byte{1, 2}))
	must(pc.SetSecurityLifeCycle(0x3000))
	must(pc.SetHashAlgID("sha-256"))
	version, kind, digest := "1", "BL", make([]byte, 32)
	must(pc.SetSoftwareComponents([]psatoken.ISwComponent{&psatoken.SwComponent{MeasurementType: &kind, MeasurementValue: &digest, SignerID: &digest, Version: &version}}))
	must(rc.SetChallenge(r[10].([]byte)))
	must(rc.SetPersonalizationValue(r[44235].([]byte)))
	must(rc.SetHashAlgID("sha-384"))
	must(rc.SetInitialMeasurement(r[44238].([]byte)))
	must(rc.SetExtensibleMeasurements(r[44239].([][]byte)))
	must(rc.SetPubKey(r[44237].([]byte)))
	must(rc.SetPubKeyHashAlgID("sha-512"))
	var ev ccatoken.Evidence
	must(ev.SetClaims(pc, rc))
	ps, err := cose.NewSigner(cose.AlgorithmES384, m.iak)
	must(err)
	rs, err := cose.NewSigner(cose.AlgorithmES384, m.rak)
	must(err)
	b, err := ev.ValidateAndSign(ps, rs)
	must(err)
	if res := verifyToken(b, trust(m.anchor())); !res.Accepted() {
		t.Errorf("%+v", res.Checks)
	} else if v := res.Verified().Claims().Values["cca.realmprofile"]; v != ProfileRealm {
		t.Errorf("realm profile %v", v)
	}
}

func FuzzVerify(f *testing.F) {
	m := newMaker(f)
	p, r := m.claims(f)
	whole := m.token(f, p, r)
	tr := trust(m.anchor())
	f.Add(whole)
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if verifyToken(b, tr).Accepted() && len(b) != len(whole) {
			t.Fatalf("%x: accepted", b)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	token := recorded(b)["example"]
	parsed, err := ParseToken(token)
	if err != nil {
		b.Fatal(err)
	}
	tr := trust(evidence.CCAKey{ImplementationID: parsed.Platform.ImplementationID, Key: exampleKey(b)})
	b.ReportAllocs()
	for b.Loop() {
		if !verifyToken(token, tr).Accepted() {
			b.Fatal("not accepted")
		}
	}
}

func BenchmarkParseToken(b *testing.B) {
	token := recorded(b)["example"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseToken(token); err != nil {
			b.Fatal(err)
		}
	}
}
