package cmw

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var inner = []byte{0x23, 0x47, 0xda, 0x55}

const exampleType = "application/vnd.example.rats-conceptual-msg"

// examples are those of RFC 9999 section 5.
var examples = []struct {
	section string
	bytes   string // hex, or JSON
	cmw     *CMW
}{
	{"5.1", `["application/vnd.example.rats-conceptual-msg","I0faVQ"]`, NewRecord(exampleType, inner, 0)},
	{"5.2", "82 19fde7 44 2347da55", &CMW{Record: &Record{Format: 64999, Value: inner}}},
	{"5.2, by name", "82 782b" + hex.EncodeToString([]byte(exampleType)) + "44 2347da55", NewRecord(exampleType, inner, 0)},
	{"5.3", "da6374ffe6 44 2347da55", &CMW{Record: &Record{Format: 64999, Value: inner, Tagged: true}}},
	{"5.4", "83 74 6170706c69636174696f6e2f72696d2b636f7365 4a d28440a044d901f5a040 03",
		NewRecord("application/rim+cose", []byte{0xd2, 0x84, 0x40, 0xa0, 0x44, 0xd9, 0x01, 0xf5, 0xa0, 0x40}, ReferenceValues|Endorsements)},
	{"5.5", "a4" + // sorted as deterministic CBOR has it; the section shows no bytes
		"00 83 19fde7 44 2347da55 04" +
		"01 da6374ffe6 44 2347da55" +
		"02 83 73 6170706c69636174696f6e2f6561742b6a7774 43 2e2e2e 08" +
		"68 5f5f636d77635f74 78 27 7461673a6578616d706c652e636f6d2c323032343a636f6d706f736974652d6174746573746572",
		NewCollection("tag:example.com,2024:composite-attester",
			Entry{IntLabel(0), &CMW{Record: &Record{Format: 64999, Value: inner, Ind: Evidence}}},
			Entry{IntLabel(1), &CMW{Record: &Record{Format: 64999, Value: inner, Tagged: true}}},
			Entry{IntLabel(2), NewRecord("application/eat+jwt", []byte("..."), AttestationResults)})},
	{"5.6", `{"__cmwc_t":"tag:example.com,2024:another-composite-attester","attester A":["application/eat-ucs+json","e30K",4],"attester B":["application/eat-ucs+cbor","oA",4]}`,
		NewCollection("tag:example.com,2024:another-composite-attester",
			Entry{TextLabel("attester A"), NewRecord("application/eat-ucs+json", []byte("{}\n"), Evidence)},
			Entry{TextLabel("attester B"), NewRecord("application/eat-ucs+cbor", []byte{0xa0}, Evidence)})},
}

func exampleBytes(t testing.TB, s string) []byte {
	if s[0] == '[' || s[0] == '{' {
		return []byte(s)
	}
	return unhex(t, s)
}

func TestExamples(t *testing.T) {
	for _, tt := range examples {
		b := exampleBytes(t, tt.bytes)
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, tt.cmw) {
			t.Errorf("%s: got %+v, %v", tt.section, got, err)
			continue
		}
		encode := got.Encode
		if b[0] == '[' || b[0] == '{' {
			encode = got.EncodeJSON
		}
		if out, err := encode(); err != nil || !bytes.Equal(out, b) {
			t.Errorf("%s: encoded %x, %v", tt.section, out, err)
		}
	}
}

func TestTags(t *testing.T) {
	for format, tag := range map[uint16]uint64{0: 1668546817, 254: 1668547071, 255: 1668547073, 263: 1668547081, 273: 1668547091, 274: 1668547092, 275: 1668547093, 276: 1668547094, 64999: 1668612070, 65024: 1668612095} {
		if got := Tag(format); got != tag {
			t.Errorf("Tag(%d) = %d, want %d", format, got, tag)
		}
	}
	for f := range lastTagged + 1 {
		if got, ok := Format(Tag(uint16(f))); !ok || got != uint16(f) {
			t.Fatalf("Format(Tag(%d)) = %d, %v", f, got, ok)
		}
	}
	for _, tag := range []uint64{0, tagFirst - 1, tagFirst + 255, tagLast + 1, 1 << 60} {
		if f, ok := Format(tag); ok {
			t.Errorf("Format(%d) = %d", tag, f)
		}
	}
}

// What RFC 9999 forbids, and what deterministic CBOR and strict JSON forbid.
var refused = []struct{ name, bytes string }{
	{"indicator 0", "83 01 41ff 00"},
	{"indicator 32, not registered", "83 01 41ff 1820"},
	{"indicator beyond 4 bytes", "83 01 41ff 1b0000000100000004"},
	{"indicator negative", "83 01 41ff 20"},
	{"empty collection", "a0"},
	{"collection with a type only", "a1 685f5f636d77635f74 63613a62"},
	{"label twice", "a2 01 82 01 41ff 01 82 01 41ff"},
	{"label twice, text", "a2 6161 82 01 41ff 6161 82 01 41ff"},
	{"type twice", "a3 01 82 01 41ff 685f5f636d77635f74 63613a62 685f5f636d77635f74 63613a62"},
	{"labels unsorted", "a2 02 82 01 41ff 01 82 01 41ff"},
	{"label not shortest", "a1 1801 82 01 41ff"},
	{"label of bytes", "a1 4101 82 01 41ff"},
	{"collection of indefinite length", "bf 01 82 01 41ff ff"},
	{"record of indefinite length", "9f 01 41ff ff"},
	{"value of indefinite length", "82 01 5f 41ff ff"},
	{"record of one", "81 01"},
	{"record of four", "84 01 41ff 04 04"},
	{"content-format beyond 65535", "82 1a00010000 41ff"},
	{"content-format not shortest", "82 190001 41ff"},
	{"empty media type", "82 60 41ff"},
	{"no media type", "82 63616263 41ff"},
	{"value of text", "82 01 6161"},
	{"tag of no content-format", "da 6374ff00 41ff"},
	{"tag 18", "d2 41ff"},
	{"tag not of bytes", "da 6374ffe6 01"},
	{"relative type", "a2 01 82 01 41ff 685f5f636d77635f74 63612f62"},
	{"type with a fragment", "a2 01 82 01 41ff 685f5f636d77635f74 65613a622363"},
	{"relative OID", "a2 01 82 01 41ff 685f5f636d77635f74 622e31"},
	{"trailing bytes", "82 01 41ff 00"},
	{"cut", "82 01 41"},
	{"a number", "01"},
	{"nothing", ""},
	{"JSON: indicator 0", `["a/b","AA",0]`},
	{"JSON: indicator 4.0", `["a/b","AA",4.0]`},
	{"JSON: indicator 4e0", `["a/b","AA",4e0]`},
	{"JSON: indicator 32", `["a/b","AA",32]`},
	{"JSON: padding", `["a/b","AA=="]`},
	{"JSON: standard alphabet", `["a/b","++"]`},
	{"JSON: loose last bits", `["a/b","AB"]`},
	{"JSON: line end in the value", `["a/b","AA\n"]`},
	{"JSON: empty value", `["a/b",""]`},
	{"JSON: content-format", `[263,"AA"]`},
	{"JSON: empty collection", `{}`},
	{"JSON: type only", `{"__cmwc_t":"a:b"}`},
	{"JSON: label twice", `{"a":["a/b","AA"],"a":["a/b","AA"]}`},
	{"JSON: record of one", `["a/b"]`},
	{"JSON: record of four", `["a/b","AA",4,4]`},
	{"JSON: trailing", `["a/b","AA"]{}`},
	{"JSON: entry is no CMW", `{"a":1}`},
	{"JSON: BOM", "\ufeff[]"},
}

func refusedBytes(t testing.TB, s string) []byte {
	if strings.ContainsAny(s, `"{`) || strings.HasPrefix(s, "\ufeff") {
		return []byte(s)
	}
	return unhex(t, s)
}

func TestRefused(t *testing.T) {
	for _, tt := range refused {
		if c, err := Parse(refusedBytes(t, tt.bytes)); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, c)
		} else if !strings.HasPrefix(err.Error(), "cmw: ") && !strings.HasPrefix(err.Error(), "cmw at ") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestUnsorted(t *testing.T) {
	b := unhex(t, "a2 02 82 01 41ff 01 82 01 41fe")
	if _, err := ParseCBOR(b); !errors.Is(err, dcbor.ErrNotDeterministic) {
		t.Errorf("ParseCBOR: %v", err)
	}
	c, err := ParseUnsorted(b)
	if err != nil || c.Get(IntLabel(1)).Record.Value[0] != 0xfe {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, tt := range refused {
		if tt.name == "labels unsorted" {
			continue
		}
		if c, err := ParseUnsorted(refusedBytes(t, tt.bytes)); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, c)
		}
	}
}

func TestLimits(t *testing.T) {
	deep := func(n int) *CMW {
		c := NewRecord("a/b", []byte{1}, 0)
		for range n {
			c = NewCollection("", Entry{TextLabel("x"), c})
		}
		return c
	}
	b, err := deep(MaxDepth).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(b); err != nil {
		t.Error(err)
	}
	js, err := deep(MaxDepth).EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(js); err != nil {
		t.Error(err)
	}
	if _, err := deep(MaxDepth + 1).Encode(); err == nil {
		t.Error("encoded too deep")
	}
	if _, err := Parse(append([]byte{0xa1, 0x61, 'x'}, b...)); err == nil {
		t.Error("parsed too deep")
	}
	if _, err := Parse([]byte(`{"x":` + string(js) + `}`)); err == nil {
		t.Error("parsed too deep in JSON")
	}
	wide := func(n int) *CMW {
		c := NewCollection("")
		for i := range n {
			c.Collection.Entries = append(c.Collection.Entries, Entry{IntLabel(int64(i)), NewRecord("a/b", []byte{1}, 0)})
		}
		return c
	}
	if _, err := wide(MaxRecords - 1).Encode(); err != nil {
		t.Error(err)
	}
	if _, err := wide(MaxRecords).Encode(); err == nil {
		t.Error("encoded too many")
	}
	big := append([]byte{0xb9, 0x10, 0x00}, bytes.Repeat(unhex(t, "00 82 01 41ff"), 0x1000)...)
	if _, err := Parse(big); err == nil {
		t.Error("parsed too many")
	}
	if _, err := Parse(make([]byte, MaxBytes+1)); err == nil {
		t.Error("parsed too much")
	}
	loop := NewCollection("")
	loop.Collection.Entries = []Entry{{TextLabel("x"), loop}}
	if _, err := loop.Encode(); err == nil {
		t.Error("encoded a loop")
	}
	if err := loop.Walk(func(Path, *Record) error { return nil }); err == nil {
		t.Error("walked a loop")
	}
}

func TestEncodeRefuses(t *testing.T) {
	ok := NewRecord("a/b", []byte{1}, Evidence)
	for name, c := range map[string]*CMW{
		"nil":               nil,
		"nothing":           {},
		"both":              {Record: ok.Record, Collection: &Collection{Entries: []Entry{{IntLabel(1), ok}}}},
		"empty collection":  NewCollection(""),
		"nil entry":         NewCollection("", Entry{IntLabel(1), nil}),
		"reserved label":    NewCollection("", Entry{TextLabel("__cmwc_t"), ok}),
		"label twice":       NewCollection("", Entry{IntLabel(1), ok}, Entry{IntLabel(1), ok}),
		"bad type":          NewCollection("relative", Entry{IntLabel(1), ok}),
		"bad media type":    NewRecord("nothing", nil, 0),
		"bad indicator":     NewRecord("a/b", nil, 1<<5),
		"tag and indicator": {Record: &Record{Format: 1, Tagged: true, Ind: 1}},
		"tag and type":      {Record: &Record{MediaType: "a/b", Tagged: true}},
		"untaggable":        {Record: &Record{Format: 65025, Tagged: true}},
		"type and format":   {Record: &Record{MediaType: "a/b", Format: 1}},
		"label not UTF-8":   NewCollection("", Entry{TextLabel("\xff"), ok}),
		"long label":        NewCollection("", Entry{TextLabel(strings.Repeat("x", 129)), ok}),
		"long media type":   NewRecord("a/"+strings.Repeat("b", 128), nil, 0),
		"too long":          NewRecord("a/b", make([]byte, MaxBytes), 0),
		"JSON and integers": NewCollection("", Entry{IntLabel(1), NewRecord("a/b", nil, 0)}), // the value is empty, too
		"JSON and format":   {Record: &Record{Format: 1, Value: []byte{1}}},
	} {
		encode := c.Encode
		if strings.HasPrefix(name, "JSON") {
			encode = c.EncodeJSON
		}
		if b, err := encode(); err == nil {
			t.Errorf("%s: encoded %x", name, b)
		}
	}
}

func TestWalk(t *testing.T) {
	c := NewCollection("2.16.840.1", // an OID
		Entry{TextLabel("cpu"), NewRecord("a/cpu", []byte{1}, Evidence)},
		Entry{TextLabel("gpus"), NewCollection("", Entry{IntLabel(0), NewRecord("a/gpu", []byte{2}, Evidence)}, Entry{IntLabel(1), NewRecord("a/gpu", []byte{3}, Evidence)})})
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = Parse(b); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := c.Walk(func(at Path, r *Record) error { got = append(got, at.String()+"="+r.Type()); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"cpu=a/cpu", "gpus/0=a/gpu", "gpus/1=a/gpu"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if r := c.Get(TextLabel("gpus"), IntLabel(1)); r == nil || r.Record.Value[0] != 3 {
		t.Errorf("Get: %+v", r)
	}
	if c.Get(TextLabel("gpus"), IntLabel(2)) != nil || c.Get(TextLabel("cpu"), IntLabel(0)) != nil {
		t.Error("Get found what is not there")
	}
	stop := errors.New("stop")
	if err := c.Walk(func(Path, *Record) error { return stop }); err != stop {
		t.Errorf("Walk: %v", err)
	}
}

func TestType(t *testing.T) {
	for _, tt := range []struct {
		r    Record
		want string
	}{
		{Record{MediaType: "Application/EAT+cwt; eat_profile=\"tag:a\""}, "application/eat+cwt"},
		{Record{Format: 263}, "application/eat+cwt"},
		{Record{Format: 264, Tagged: true}, "application/eat+jwt"},
		{Record{Format: 274}, TypeJSON},
		{Record{Format: 1}, ""},
	} {
		if got := tt.r.Type(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

// RFC 9999 contradicts itself about two tags: by the formula, 1668547092 is of
// application/cmw+json, by table 4 of signed CBOR. Both readings work.
func TestOpen(t *testing.T) {
	k := NewCollection("a:b", Entry{TextLabel("x"), NewRecord("a/b", []byte{1}, 0)})
	inCBOR, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	inJSON, err := k.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		tag   uint64
		value []byte
		ok    bool
	}{
		{TagCollectionCBOR, inCBOR, true}, {TagCollectionJSON, inJSON, true}, {TagSignedCBOR, inJSON, true},
		{TagCollectionCBOR, inJSON, false}, {TagCollectionCBOR, []byte{0x82, 1, 0x41, 1}, false}, {TagSignedCBOR, inCBOR, false}, {TagSignedJSON, inJSON, false}, {Tag(64999), inCBOR, false},
	} {
		b := dcbor.AppendBytes(dcbor.AppendTag(nil, tt.tag), tt.value)
		c, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Record.Open()
		if (err == nil) != tt.ok || tt.ok && !reflect.DeepEqual(got, k) {
			t.Errorf("tag %d of %q: %+v, %v", tt.tag, tt.value, got, err)
		}
	}
}

func TestExtension(t *testing.T) {
	for _, tt := range examples {
		b := exampleBytes(t, tt.bytes)
		der, err := EncodeExtension(b)
		if err != nil {
			t.Fatal(err)
		}
		want := byte(4) // OCTET STRING
		if b[0] == '[' || b[0] == '{' {
			want = 12 // UTF8String
		}
		got, c, err := DecodeExtension(der)
		if err != nil || der[0] != want || !bytes.Equal(got, b) || !reflect.DeepEqual(c, tt.cmw) {
			t.Errorf("%s: %x: %+v, %v", tt.section, der, c, err)
		}
		if _, _, err := DecodeExtension(append(der, 0)); err == nil {
			t.Errorf("%s: bytes after the extension were accepted", tt.section)
		}
		der[0] ^= 4 ^ 12 // the other choice
		if _, _, err := DecodeExtension(der); err == nil {
			t.Errorf("%s: the wrong choice was accepted", tt.section)
		}
	}
	for _, s := range []string{"", "04", "0482000482014101ff", "8404 82014101", "2406 0404 82014101", "1304 82014101", "0500"} {
		if _, _, err := DecodeExtension(unhex(t, s)); err == nil {
			t.Errorf("%s: accepted", s)
		}
	}
	if _, err := EncodeExtension([]byte{0xa0}); err == nil {
		t.Error("an empty collection was put into an extension")
	}
}

func genCMW(json bool, depth int) *rapid.Generator[*CMW] {
	return rapid.Custom(func(t *rapid.T) *CMW {
		if depth > 0 && rapid.Bool().Draw(t, "collection") {
			c := &Collection{Type: rapid.SampledFrom([]string{"", "tag:example.com,2026:x", "1.3.6.1"}).Draw(t, "type")}
			seen := map[Label]bool{{text: typeLabel, isText: true}: true}
			for range rapid.IntRange(1, 6).Draw(t, "n") {
				l := TextLabel(rapid.StringN(0, 12, 40).Draw(t, "label"))
				if !json && rapid.Bool().Draw(t, "int") {
					l = IntLabel(rapid.Int64().Draw(t, "label"))
				}
				if seen[l] {
					continue
				}
				seen[l] = true
				c.Entries = append(c.Entries, Entry{l, genCMW(json, depth-1).Draw(t, "cmw")})
			}
			if len(c.Entries) > 0 {
				return &CMW{Collection: c}
			}
		}
		r := &Record{Value: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "value"), Ind: Ind(rapid.Uint32Range(0, 31).Draw(t, "ind"))}
		switch {
		case json || rapid.Bool().Draw(t, "named"):
			r.MediaType = rapid.StringMatching(`[a-z0-9][a-z.+-]{0,9}/[a-z0-9][a-z.+-]{0,9}(; [a-z]{1,4}=("[ a-z:]{0,4}"|[a-z]{1,4}))?`).Draw(t, "media type")
		default:
			r.Format = rapid.Uint16().Draw(t, "format")
			if r.Tagged = rapid.Bool().Draw(t, "tagged"); r.Tagged {
				r.Ind, r.Format = 0, min(r.Format, lastTagged)
			}
		}
		return &CMW{Record: r}
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genCMW(false, 3).Draw(t, "cmw")
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		again, err := back.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x: %v", b, again, err)
		}
		if i := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); i < len(b) {
			if _, err := Parse(b[:i]); err == nil {
				t.Fatalf("%x, cut at %d, was accepted", b, i)
			}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		c := genCMW(true, 3).Draw(t, "cmw")
		b, err := c.EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(b)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%s: %+v, %v", b, back, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, tt := range examples {
		f.Add(exampleBytes(f, tt.bytes))
	}
	for _, tt := range refused {
		f.Add(refusedBytes(f, tt.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, c, err := DecodeExtension(b); err == nil && c == nil {
			t.Error("an extension without a CMW")
		}
		if c, err := ParseUnsorted(b); err == nil {
			if _, err := c.Encode(); err != nil {
				t.Errorf("unsorted: %v", err)
			}
		}
		c, err := Parse(b)
		if err != nil {
			return
		}
		if b[0] == '[' || b[0] == '{' {
			js, err := c.EncodeJSON()
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Parse(js); err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("%s: %+v, %v", js, again, err)
			}
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("became %x: %v", again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	c := NewCollection("tag:trustedmcp.org,2026:evidence-1",
		Entry{TextLabel("cpu"), NewRecord("application/vnd.trustedmcp.tdx-quote", make([]byte, 5006), Evidence)},
		Entry{TextLabel("cpu-endorsements-0"), NewRecord("application/vnd.trustedmcp.dcap-collateral+json", make([]byte, 20000), Endorsements)})
	in, err := c.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}
