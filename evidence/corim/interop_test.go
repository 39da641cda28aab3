package corim

import (
	"bytes"
	"encoding/base64"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	vcomid "github.com/veraison/corim/comid"
	vcorim "github.com/veraison/corim/corim"
)

// veraison is the folder of the other library, with its test cases.
func veraison(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/veraison/corim").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func cases(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(veraison(t), pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	out := map[string][]byte{}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(n)] = b
	}
	return out
}

func readCoMID(b []byte, legacy bool) (*CoMID, Item, error) {
	b, err := decoder{legacy}.item(b)
	if err != nil {
		return nil, nil, err
	}
	if in := untag(b, tagCoMID); in != nil {
		var content []byte
		if err := byteString(in, &content); err != nil {
			return nil, nil, err
		}
		return readCoMID(content, legacy)
	}
	c := &CoMID{}
	return c, b, decodeCoMID(b, c)
}

// The other library's own CoMIDs: both read them, and what it writes then, we
// read as the same.
func TestVeraisonCoMIDs(t *testing.T) {
	// Where the other library can't write what it has read, and why.
	stuck := map[string]string{
		"comid-cond-endorse-series.cbor": "a version without a scheme",
		"comid_pce_refval.cbor":          "code points of the Intel profile, when its types are not registered",
		"comid_qe_refval.cbor":           "likewise",
		"comid_seam_refval.cbor":         "likewise",
	}
	for _, dir := range []string{"comid/testcases/*.cbor", "profiles/tdx/testcases/*.cbor"} {
		for name, b := range cases(t, dir) {
			c, item, err := readCoMID(b, true)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if !bytes.Equal(c.encode(), item) {
				t.Errorf("%s: written again it differs", name)
			}
			v := vcomid.NewComid()
			if err := v.FromCBOR(item); err != nil {
				t.Errorf("%s: the other library: %v", name, err)
				continue
			}
			back, err := v.ToCBOR()
			if (err != nil) != (stuck[name] != "") {
				t.Errorf("%s: the other library writes it: %v; update INTEROP.md", name, err)
			}
			if err != nil {
				continue
			}
			if _, again, err := readCoMID(back, true); err != nil || !bytes.Equal(again, item) {
				t.Errorf("%s: what the other library writes is not what it read: %v", name, err)
			}
		}
	}
}

// Its own manifests: ours reads all of them as legacy, and refuses those whose
// maps are unsorted where manifests are to be relied on.
func TestVeraisonManifests(t *testing.T) {
	n := 0
	for _, dir := range []string{"corim/testcases/*.cbor", "profiles/cca/testcases/*.cbor", "profiles/psa/testcases/*.cbor"} {
		for name, b := range cases(t, dir) {
			n++
			c, s, err := Inspect(b, true)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if strings.HasPrefix(name, "signed") != (s != nil) {
				t.Errorf("%s: signature %v", name, s)
			}
			again, err := c.Encode()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if _, err := Decode(again); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, _, err := Inspect(b, false); err == nil {
				t.Errorf("%s has become deterministic: say so in INTEROP.md", name)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d manifests", n)
	}
}

// What we sign, the other library reads and verifies; what it signs, we do.
func TestSignaturesBothWays(t *testing.T) {
	c := small()
	c.Profile = "" // it refuses profiles as draft 11 has them, see below
	b, err := Sign(c, &Signer{Name: "ACME", Key: testKey, Validity: Validity{NotAfter: testNow.AddDate(1, 0, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	var v vcorim.SignedCorim
	if err := v.FromCOSE(b); err != nil {
		t.Fatalf("the other library does not read ours: %v", err)
	}
	if err := v.Verify(testKey.Public()); err != nil {
		t.Fatalf("the other library does not verify ours: %v", err)
	}
	if v.Meta.Signer.Name != "ACME" {
		t.Errorf("it reads the signer %q", v.Meta.Signer.Name)
	}

	m := vcomid.NewComid().SetTagIdentity("theirs", 0)
	d := vcomid.NewDigests().AddDigest(1, bytes.Repeat([]byte{7}, 32))
	meas := vcomid.MustNewUUIDMeasurement(vcomid.TestUUID)
	meas.Val.Digests = d
	m.AddReferenceValue(&vcomid.ValueTriple{Environment: vcomid.Environment{Class: vcomid.NewClassUUID(vcomid.TestUUID)}, Measurements: *vcomid.NewMeasurements().Add(meas)})
	u := vcorim.NewUnsignedCorim().SetID("theirs").AddComid(m)
	theirs := vcorim.NewSignedCorim()
	theirs.UnsignedCorim = *u
	theirs.Meta = *vcorim.NewMeta().SetSigner("THEM", nil)
	signer, err := vcorim.NewSignerFromJWK(jwk(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err = theirs.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(b, &Trust{Keys: testKeys, Now: testNow, Legacy: true})
	if err != nil {
		t.Fatal(err)
	}
	r := got.CoRIM().CoMIDs()[0].Triples.Reference
	if got.Signer() != "THEM" || len(r) != 1 || !bytes.Equal(r[0].Claims[0].Values.Digests[0].Value, bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("read %+v", r)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x01
		if _, err := Verify(bad, &Trust{Keys: testKeys, Now: testNow, Legacy: true}); err == nil {
			t.Fatalf("theirs with byte %d changed is accepted", i)
		}
	}
}

// C3: what the draft has and the other library, at this version, does not read.
// The draft is right: each form stands in its CDDL.
func TestFormsOfDraft11(t *testing.T) {
	log.SetOutput(io.Discard) // the other library logs
	env := Environment{Class: &Class{ID: UUIDItem([16]byte{1})}}
	key := KeyID([]byte("k"))
	h := bytes.Repeat([]byte{1}, 32)
	claim := func(v Values) []Measurement { return []Measurement{{Values: v}} }
	plain := claim(Values{SVN: &SVN{Value: 1, Form: TaggedSVN}})
	ref := func(v Values) Triples { return Triples{Reference: []Record{{env, claim(v)}}} }
	for _, tt := range []struct {
		name    string
		triples Triples
		reads   bool // the other library does
	}{
		{"tagged SVN", Triples{Reference: []Record{{env, plain}}}, true},
		{"masked raw value, tag 563", ref(Values{Raw: &RawValue{Value: []byte{1}, Mask: []byte{1}}}), false},
		{"conditions of a key triple", Triples{Identity: []KeyTriple{{Environment: env, Keys: []Key{key}, MKey: UintItem(1)}}}, false},
		{"authorized-by of a series", Triples{Series: []SeriesTriple{{Environment: env, Claims: plain, AuthorizedBy: []Key{key}, Series: []SeriesRecord{{plain, plain}}}}}, false},
		{"register named by a text", ref(Values{Registers: []Register{{RegisterID: RegisterID{Name: "boot"}, Digests: []Digest{{Alg: SHA256, Value: h}}}}}), true},
		{"digest algorithm as a text", ref(Values{Digests: []Digest{{Name: "sha-256", Value: h}}}), false},
		{"memberships", Triples{Membership: []DomainTriple{{env, []Environment{env}}}}, true},
	} {
		m := &CoMID{ID: TagID{ID: ID{Text: "m"}}, Triples: tt.triples}
		b := m.encode()
		if _, item, err := readCoMID(b, false); err != nil || !bytes.Equal(item, b) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := vcomid.NewComid().FromCBOR(b); (err == nil) != tt.reads {
			t.Errorf("%s: the other library reads it: %v (%v); update INTEROP.md", tt.name, err == nil, err)
		}
	}
	// A profile is a tagged URI (tag 32 of CDDL's prelude) or a tagged OID.
	for _, p := range []string{"https://acme.example/profile", ProfileIntel} {
		c := small()
		c.Profile = p
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := vcorim.NewUnsignedCorim().FromCBOR(b); err == nil {
			t.Errorf("the other library reads the profile %s: update INTEROP.md", p)
		}
	}
}

// C1 and C2 concern comparisons, see package acs.

func jwk(t *testing.T) []byte {
	t.Helper()
	raw, err := testKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := testKey.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(`{"kty":"EC","crv":"P-256","alg":"ES256","x":"` + b64(pub[1:33]) + `","y":"` + b64(pub[33:]) + `","d":"` + b64(raw) + `"}`)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
