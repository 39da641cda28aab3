package corim

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

func ptr[T any](v T) *T { return &v }

func mustOID(s string) Item {
	v, err := OIDItem(s)
	if err != nil {
		panic(err)
	}
	return v
}

// full has something in every place that the codec knows.
func full() *CoRIM {
	h := bytes.Repeat([]byte{0xab}, 48)
	env := Environment{
		Class:    &Class{ID: mustOID("1.3.6.1.4.1.3704.3.1"), Vendor: "Vendor", Model: "Model", Layer: ptr(uint64(1)), Index: ptr(uint64(2))},
		Instance: UEIDItem(bytes.Repeat([]byte{1}, 33)),
		Group:    UUIDItem([16]byte{2}),
	}
	key := KeyID([]byte("key"))
	all := Measurement{Key: UintItem(641), AuthorizedBy: []Key{key}, Values: Values{
		Version: &Version{Version: "1.2.3", Scheme: UintItem(SchemeSemver)}, SVN: &SVN{Value: 7, Form: MinSVN},
		Digests: []Digest{{Alg: SHA384, Value: h}, {Name: "sha-256", Value: h[:32]}},
		Flags:   []Field{Flag(FlagDebug, false), Flag(FlagSecure, true)},
		Raw:     &RawValue{Value: []byte{1, 2}, Mask: []byte{0xff, 0}},
		MAC:     []byte{1, 2, 3, 4, 5, 6}, IP: []byte{127, 0, 0, 1}, Serial: "s", UEID: bytes.Repeat([]byte{3}, 17), UUID: make([]byte, 16), Name: "n",
		Keys:      []Key{key},
		Registers: []Register{{RegisterID: RegisterID{Index: 0}, Digests: []Digest{{Alg: SHA384, Value: h}}}, {RegisterID: RegisterID{Name: "boot"}, Digests: []Digest{{Alg: SHA384, Value: h}}}},
		Int:       &IntRange{Range: true, Min: ptr(int64(-3))},
		Extra:     []Field{{-83, TextItem("a profile's")}, {100, TextItem("unknown")}},
	}}
	plain := Measurement{Values: Values{SVN: &SVN{Value: 1}, Raw: &RawValue{Value: []byte{9}}, RawMask: []byte{1}, Int: Int(5)}}
	rec := Record{env, []Measurement{all, plain}}
	m := &CoMID{
		Language: "en", ID: TagID{ID: ID{UUID: [16]byte{5}}, Version: ptr(uint64(3))},
		Entities: []Entity{{Name: "ACME", RegID: "https://acme.example", Roles: []int64{0, 1}, Extra: []Field{{-1, TextItem("x")}}}},
		Linked:   []LinkedTag{{ID: ID{Text: "other"}, Relation: 1}},
		Triples: Triples{
			Reference: []Record{rec, rec}, Endorsed: []Record{rec},
			Identity:    []KeyTriple{{Environment: env, Keys: []Key{key}, MKey: TextItem("k"), AuthorizedBy: []Key{key}}},
			AttestKey:   []KeyTriple{{Environment: env, Keys: []Key{key}}},
			Dependency:  []DomainTriple{{env, []Environment{env}}},
			Membership:  []DomainTriple{{env, []Environment{env}}},
			CoSWID:      []CoSWIDTriple{{env, []ID{{Text: "swid"}}}},
			Series:      []SeriesTriple{{Environment: env, AuthorizedBy: []Key{key}, Series: []SeriesRecord{{[]Measurement{plain}, []Measurement{all}}}}, {Environment: env, Claims: []Measurement{plain}, Series: []SeriesRecord{{[]Measurement{plain}, []Measurement{all}}}}},
			Conditional: []ConditionalTriple{{[]Record{rec}, []Record{rec}}},
			Extra:       []Field{{-5, UintItem(1)}},
		},
		Extra: []Field{{-1, UintItem(2)}},
	}
	valid := Validity{NotBefore: time.Unix(1_600_000_000, 0).UTC(), NotAfter: time.Unix(1_900_000_000, 0).UTC()}
	var loc mapWriter
	loc.add(0, dcbor.AppendText(dcbor.AppendTag(nil, tagURI), "https://acme.example/more"))
	return &CoRIM{
		ID:       ID{Text: "full"},
		Tags:     []Tag{{CoMID: m}, {CoTL: &CoTL{ID: TagID{ID: ID{Text: "tl"}}, Tags: []TagID{m.ID}, Validity: valid}}, {CoSWID: Item{0xa1, 0x00, 0x00}}},
		Locators: []Item{loc.encode()}, Profile: ProfileIntel, Validity: valid,
		Entities: []Entity{{Name: "ACME", Roles: []int64{1}}}, Extra: []Field{{-1, TextItem("ext")}},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	c := full()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("encoded again it differs: %v", err)
	}
	if s := got.CoMIDs()[0].Triples.Series; len(s) != 2 || len(s[0].Claims) != 0 || len(s[0].AuthorizedBy) != 1 || len(s[1].Claims) != 1 || got.Validity != c.Validity {
		t.Errorf("read %+v", got)
	}
	m := got.CoMIDs()[0].Triples.Reference[0].Claims[0].Values
	want := c.CoMIDs()[0].Triples.Reference[0].Claims[0].Values
	if m.SVN.Form != MinSVN || !reflect.DeepEqual(m.Raw, want.Raw) || !reflect.DeepEqual(m.Registers, want.Registers) || m.Int.Max != nil || *m.Int.Min != -3 || m.Digests[1].Name != "sha-256" {
		t.Errorf("read %+v", m)
	}
	if s := got.CoMIDs()[0].Triples.Reference[0].Environment.String(); !strings.Contains(s, "1.3.6.1.4.1.3704.3.1") {
		t.Errorf("the environment is shown as %s", s)
	}
}

// Each change breaks one rule. The edit works on the tagged CoRIM's parts.
func TestDecodeRefuses(t *testing.T) {
	wrap := func(fields string) string { return "\xd9\x01\xf5" + fields }
	text := func(s string) string { return string(dcbor.AppendText(nil, s)) }
	bstr := func(s string) string { return string(dcbor.AppendBytes(nil, []byte(s))) }
	comid := func(triples string) string {
		return wrap("\xa2\x00" + text("id") + "\x01\x81\xd9\x01\xfa" + bstr("\xa2\x01\xa1\x00"+text("m")+"\x04"+triples))
	}
	env := "\xa1\x00\xa1\x01" + text("v")
	ref := func(mval string) string { return comid("\xa1\x00\x81\x82" + env + "\x81\xa1\x01" + mval) }
	if _, err := Decode([]byte(ref("\xa1\x01\x05"))); err != nil {
		t.Fatalf("what the cases start from is refused: %v", err)
	}
	deep := strings.Repeat("\x81", 100) + "\x00"
	for _, tt := range []struct{ name, b, says string }{
		{"empty", "", "ends early"},
		{"untagged", "\xa1\x00\x61a", "tag 501"},
		{"no tags", wrap("\xa1\x00\x61a"), "required code point 1"},
		{"no id", wrap("\xa1\x01\x81\xd9\x01\xf9\x41\x00"), "required code point 0"},
		{"empty tags", wrap("\xa2\x00\x61a\x01\x80"), "0 items"},
		{"unknown tag", wrap("\xa2\x00\x61a\x01\x81\xd9\x01\xff\x41\x00"), "tag 511"},
		{"trailing", ref("\xa1\x01\x05") + "\x00", "after the value"},
		{"unsorted", wrap("\xa2\x01\x81\xd9\x01\xf9\x41\x00\x00\x61a"), "unsorted"},
		{"double key", wrap("\xa3\x00\x61a\x00\x61a\x01\x81\xd9\x01\xf9\x41\x00"), "unsorted or double"},
		{"long integer", ref("\xa1\x01\x18\x05"), "more bytes than it needs"},
		{"indefinite", ref("\xbf\x01\x05\xff"), "indefinite"},
		{"text key", ref("\xa1\x61a\x05"), "integer"},
		{"depth bomb", ref("\xa1\x20" + deep), "nested deeper"},
		{"huge count", ref("\xa1\x02\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), "items announced"},
		{"empty values", ref("\xa0"), "without entries"},
		{"empty environment", comid("\xa1\x00\x81\x82\xa0\x81\xa1\x01\xa1\x01\x05"), "without entries"},
		{"model without vendor", comid("\xa1\x00\x81\x82\xa1\x00\xa1\x02\x61m\x81\xa1\x01\xa1\x01\x05"), "without its vendor"},
		{"bare class id", comid("\xa1\x00\x81\x82\xa1\x00\xa1\x00\x41\x01\x81\xa1\x01\xa1\x01\x05"), "class id is a tagged item"},
		{"no measurements", comid("\xa1\x00\x81\x82" + env + "\x80"), "0 items"},
		{"record of three", comid("\xa1\x00\x81\x83" + env + "\x81\xa1\x01\xa1\x01\x05\x00"), "3 items"},
		{"svn text", ref("\xa1\x01\x61a"), "unsigned integer"},
		{"svn tag", ref("\xa1\x01\xd9\x02\x30\x05"), "tag 560"},
		{"digest of one", ref("\xa1\x02\x81\x81\x01"), "1 items"},
		{"empty digests", ref("\xa1\x02\x80"), "0 items"},
		{"flag 1", ref("\xa1\x03\xa1\x00\x01"), "not true or false"},
		{"bare raw value", ref("\xa1\x04\x41\x01"), "tagged item"},
		{"mask length", ref("\xa1\x04\xd9\x02\x33\x82\x42\x01\x02\x41\xff"), "mask of 1 bytes"},
		{"mask alone", ref("\xa1\x05\x41\xff"), "without raw-value"},
		{"mac of 5", ref("\xa1\x06\x45\x01\x02\x03\x04\x05"), "want 6 or 8"},
		{"ueid of 6", ref("\xa1\x09\x46\x01\x02\x03\x04\x05\x06"), "7 to 33"},
		{"uuid of 3", ref("\xa1\x0a\x43\x01\x02\x03"), "16 to 16"},
		{"empty name", ref("\xa1\x0b\x60"), "empty text"},
		{"bare key", ref("\xa1\x0d\x81\x41\x01"), "a key is a tagged item"},
		{"key of wrong content", ref("\xa1\x0d\x81\xd9\x02\x2a\x01"), "text string"},
		{"register without digests", ref("\xa1\x0e\xa1\x00\x80"), "0 items"},
		{"empty range", ref("\xa1\x0f\xd9\x02\x34\x82\x05\x04"), "is empty"},
		{"profile as text", wrap("\xa3\x00\x61a\x01\x81\xd9\x01\xf9\x41\x00\x03\x61p"), "tag 32"},
		{"validity without end", wrap("\xa3\x00\x61a\x01\x81\xd9\x01\xf9\x41\x00\x04\xa1\x00\xc1\x00"), "without not-after"},
		{"time as float", wrap("\xa3\x00\x61a\x01\x81\xd9\x01\xf9\x41\x00\x04\xa1\x01\xc1\xf9\x3e\x00"), "integer"},
		{"unknown in locator", wrap("\xa3\x00\x61a\x01\x81\xd9\x01\xf9\x41\x00\x02\x81\xa2\x00\xd8\x20\x61a\x02\x00"), "code point 2"},
		{"over the limit", string(make([]byte, MaxSize+1)), "the limit is"},
	} {
		b := []byte(tt.b)
		start := time.Now()
		_, err := Decode(b)
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("%s: took %v", tt.name, took)
		}
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.says)
		}
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for name, break_ := range map[string]func(*CoRIM){
		"no tags":        func(c *CoRIM) { c.Tags = nil },
		"bad OID":        func(c *CoRIM) { c.Profile = "1.2..3" },
		"not CBOR":       func(c *CoRIM) { c.Tags[2].CoSWID = Item{0xff} },
		"double code":    func(c *CoRIM) { c.Extra = []Field{{5, UintItem(1)}} },
		"empty mask":     func(c *CoRIM) { c.CoMIDs()[0].Triples.Reference[0].Claims[0].Values.Raw.Mask = []byte{} },
		"no environment": func(c *CoRIM) { c.CoMIDs()[0].Triples.Reference[0].Environment = Environment{} },
	} {
		c := full()
		break_(c)
		if _, err := c.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestOIDsAsASN1(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		oid := asn1.ObjectIdentifier{rapid.IntRange(0, 2).Draw(t, "first"), rapid.IntRange(0, 39).Draw(t, "second")}
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			oid = append(oid, rapid.IntRange(0, 1<<30).Draw(t, "arc"))
		}
		der, err := asn1.Marshal(oid)
		if err != nil {
			t.Fatal(err)
		}
		b, err := oidBytes(oid.String())
		if err != nil || !bytes.Equal(b, der[2:]) {
			t.Fatalf("%s: %x, %v, want %x", oid, b, err, der[2:])
		}
		if s, err := oidString(b); err != nil || s != oid.String() {
			t.Fatalf("%s read as %q, %v", oid, s, err)
		}
	})
	for _, bad := range []string{"", "1", "3.1", "1.40", "1.2.", "1.02", "a.b", "1.2.99999999999999999999"} {
		if _, err := oidBytes(bad); err == nil {
			t.Errorf("%q is taken for an OID", bad)
		}
	}
	for _, bad := range []string{"", "\x80\x01", "\x2a\x86", "\x2a\x80\x01"} {
		if s, err := oidString([]byte(bad)); err == nil {
			t.Errorf("%x is read as %q", bad, s)
		}
	}
}

// The general library is the oracle.
func TestNormalize(t *testing.T) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	unsorted, err := cbor.EncOptions{}.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.MapOf(rapid.Int64(), rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Byte()))).Draw(t, "v")
		in, _ := unsorted.Marshal(v)
		want, _ := mode.Marshal(v)
		got, err := Normalize(in)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x becomes %x, %v, want %x", in, got, err, want)
		}
	})
	for in, want := range map[string]string{"\x18\x05": "\x05", "\x38\x00": "\x20", "\x58\x01a": "\x41a", "\xd8\x01\x1a\x00\x00\x00\x01": "\xc1\x01", "\xa2\x02\x01\x01\x02": "\xa2\x01\x02\x02\x01"} {
		if got, err := Normalize([]byte(in)); err != nil || string(got) != want {
			t.Errorf("%x becomes %x, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "\xa2\x01\x01\x01\x02", "\xa2\x01\x01\x18\x01\x02", "\x5f\x41a\xff", "\x61\xff", "\x00\x00", "\xf9\x7e\x00", strings.Repeat("\x81", 80) + "\x00", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if got, err := Normalize([]byte(bad)); err == nil {
			t.Errorf("%x becomes %x", bad, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := full().Encode()
	if err != nil {
		f.Fatal(err)
	}
	plain := b
	f.Add(b)
	f.Add([]byte("\xd9\x01\xf5\xa2\x00\x61a\x01\x81\xd9\x01\xf9\x41\x00"))
	signed, err := Sign(full(), &Signer{Name: "f", Key: testKey})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Decode(b); err == nil {
			again, err := c.Encode()
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x is written again as %x, %v", b, again, err)
			}
		}
		if c, err := DecodeLegacy(b); err == nil {
			again, err := c.Encode()
			if err != nil {
				t.Fatalf("%x: read as legacy, and can't be written: %v", b, err)
			}
			if _, err := Decode(again); err != nil {
				t.Fatal(err)
			}
		}
		_, s, err := Inspect(b, true)
		if err == nil && s != nil {
			_ = s.Signer
		}
		if _, err = Verify(b, &Trust{Keys: testKeys, Now: testNow}); err == nil && !bytes.Equal(b, signed) {
			t.Fatalf("verified, but nobody signed it: %x", b)
		}
		if v, err := Verify(b, &Trust{Keys: testKeys, Now: testNow, Legacy: true}); err == nil {
			if again, err := v.CoRIM().Encode(); err != nil || !bytes.Equal(again, plain) {
				t.Fatalf("verified, but nobody signed it: %x", again)
			}
		}
	})
}

func BenchmarkDecode1000(b *testing.B) {
	c := full()
	m := c.CoMIDs()[0]
	m.Triples = Triples{}
	for i := range 1000 {
		h := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 24)
		m.Triples.Reference = append(m.Triples.Reference, Record{Environment{Class: &Class{Vendor: "v", Model: "m"}}, []Measurement{{Values: Values{Digests: []Digest{{Alg: SHA384, Value: h}}}}}})
	}
	enc, err := c.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(enc)))
	for b.Loop() {
		if _, err := Decode(enc); err != nil {
			b.Fatal(err)
		}
	}
}
