package policywasm

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

const testLimit = 1 << 16

// spelt is what an input is by definition: both spellings, made by general
// readers and writers in several passes.
func spelt(doc []byte, limit int) (canonical, cbor []byte, err error) {
	if _, err := slow(doc, limit); err != nil {
		return nil, nil, err
	}
	v := jsontext.Value(bytes.Clone(doc))
	if err := v.Canonicalize(); err != nil {
		return nil, nil, err
	}
	cbor, err = dcbor.FromJSON(nil, v)
	return v, cbor, err
}

func sameAsSlow(t interface{ Fatalf(string, ...any) }, doc []byte, in *Input, got error) {
	canonical, cbor, err := spelt(doc, testLimit)
	if (got == nil) != (err == nil) || err != nil && got.Error() != err.Error() {
		t.Fatalf("%q: %v, by definition %v", doc, got, err)
	}
	if err != nil {
		return
	}
	c, _ := in.Bytes(CBOR)
	j, _ := in.Bytes(JSON)
	if !bytes.Equal(c, cbor) || !bytes.Equal(j, canonical) {
		t.Fatalf("%q:\n%x\n%x\n%s\n%s", doc, c, cbor, j, canonical)
	}
}

var inputSeeds = []string{
	``, ` `, `null`, ` true `, `false`, `"a"`, `0`, `-0`, `-1`, `01`, `1.0`, `1e2`, `-`, `--1`, `1-1`, `9007199254740991`, `-9007199254740991`, `9007199254740992`,
	`99999999999999999999`, `[]`, `[ ]`, `[1,]`, `[,1]`, `[1 2]`, `[1`, `]`, `{}`, `{ }`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1 "b":2}`, `{"b":1,"a":2,"aa":0}`,
	`{"a":1,"a":1}`, `{"a":1,"\u0061":1}`, `{"b":{"d":1,"c":[{}]},"a":null}`, `"\n\t\"\\\/\b\f\r\u00e9"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\x"`, `"\`, "\"\x7f\"", "\"\x1f\"",
	"\"\xff\"", "\"\xed\xa0\x80\"", "\"é😀\"", `{"😀":1,"` + "\uff61" + `":2,"\n":3,"é":4,"<":5}`, "\ufeff1", `1 1`, `nul`, `nulll`, `tru`, `truefalse`, `"a`, "[1,\v2]",
	strings.Repeat("[", 32) + strings.Repeat("]", 32), strings.Repeat("[", 33) + strings.Repeat("]", 33), `[` + strings.Repeat("1,", 300) + `1]`, `"` + strings.Repeat("x", 70000) + `"`,
}

// What is read in one pass is what general readers accept, in the same bytes; and
// all that they accept is read in one pass.
func FuzzInput(f *testing.F) {
	for _, s := range inputSeeds {
		f.Add([]byte(s))
	}
	for _, name := range document.Samples() {
		b, _ := document.Sample(name)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		in, err := NewInput(doc, testLimit)
		sameAsSlow(t, doc, in, err)
		if err == nil && encodeJSON(doc) == nil {
			t.Fatalf("%q takes the slow way", doc)
		}
		settings, err := NewInput(doc, testLimit)
		d := &document.Document{Question: "appraise", Settings: doc}
		same := *d
		got, err2 := NewDocument(d, nil, testLimit)
		b, wrong := same.JSON()
		if wrong != nil {
			if err2 == nil {
				t.Fatalf("%q: accepted", doc)
			}
			return
		}
		sameAsSlow(t, b, got, err2)
		if err == nil {
			got, err2 = NewDocument(&document.Document{Question: "appraise"}, settings, testLimit)
			sameAsSlow(t, b, got, err2)
		}
	})
}

func drawText(t *rapid.T, label string) string {
	if rapid.IntRange(0, 40).Draw(t, label+" odd") == 0 {
		return rapid.SampledFrom([]string{"\xff", "a\u2028", "\x00", "\"\\/", "\U0001f600", "\ufffd"}).Draw(t, label)
	}
	return rapid.StringMatching(`[a-zé"\\<]{0,30}`).Draw(t, label)
}

func optional[T any](t *rapid.T, label string, make func(*rapid.T, string) T) *T {
	if rapid.Bool().Draw(t, label+" known") {
		v := make(t, label)
		return &v
	}
	return nil
}

func drawInt(t *rapid.T, label string) int64 {
	if rapid.IntRange(0, 40).Draw(t, label+" odd") == 0 {
		return rapid.SampledFrom([]int64{1 << 53, -1 << 53, 1<<53 - 1, math.MinInt64, math.MaxInt64}).Draw(t, label)
	}
	return rapid.Int64Range(-1<<53+1, 1<<53-1).Draw(t, label)
}

func list[T any](t *rapid.T, label string, most int, make func(*rapid.T, string) T) (out []T) {
	for range rapid.IntRange(0, most).Draw(t, label+" length") {
		out = append(out, make(t, label))
	}
	return out
}

func drawTexts(t *rapid.T, label string) []string { return list(t, label, 3, drawText) }

func drawClaim(t *rapid.T, label string) any {
	switch rapid.IntRange(0, 12).Draw(t, label+" kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, label)
	case 2:
		return rapid.Uint64().Draw(t, label)
	case 3:
		return drawInt(t, label)
	case 4:
		return float64(drawInt(t, label))
	case 5:
		return rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1.5, 1e21, 1e300, math.NaN(), math.Inf(1)}).Draw(t, label)
	case 6:
		return drawTexts(t, label)
	case 7:
		return []any{drawText(t, label), float64(drawInt(t, label)), nil, true}
	case 8:
		return rapid.SampledFrom([]any{[]byte("a"), 1, map[string]any{"b": 1.0, "a": nil}, []any{[]any{}}, []any(nil), [2]bool{}}).Draw(t, label)
	}
	return drawText(t, label)
}

func drawDevice(t *rapid.T, _ string) document.Device {
	d := document.Device{Label: drawText(t, "label"), Kind: drawText(t, "kind"), Proven: rapid.Bool().Draw(t, "proven"), Simulated: rapid.Bool().Draw(t, "simulated"),
		Debug: rapid.Bool().Draw(t, "debug"), Platform: optional(t, "platform", drawText), NotAfter: optional(t, "after", drawInt)}
	d.Checks = list(t, "checks", 3, func(t *rapid.T, s string) document.Check {
		return document.Check{Name: drawText(t, s), Outcome: drawText(t, s)}
	})
	d.TCB = optional(t, "tcb", func(t *rapid.T, s string) document.TCB {
		return document.TCB{Status: drawText(t, s), Date: optional(t, s, drawInt), OutOfDateSince: optional(t, s, drawInt), Evaluation: optional(t, s, drawInt), Advisories: drawTexts(t, s),
			Parts: list(t, s, 2, func(t *rapid.T, s string) document.Part {
				return document.Part{Name: drawText(t, s), Status: drawText(t, s), Date: optional(t, s, drawInt), Behind: int(drawInt(t, s)), Advisories: drawTexts(t, s)}
			})}
	})
	d.References = optional(t, "references", func(t *rapid.T, s string) document.References {
		return document.References{Known: rapid.Bool().Draw(t, s), Matched: rapid.Bool().Draw(t, s), Tags: drawTexts(t, s)}
	})
	for range rapid.IntRange(0, 30).Draw(t, "claims") {
		if d.Claims == nil {
			d.Claims = map[string]any{}
		}
		d.Claims[drawText(t, "name")] = drawClaim(t, "claim")
	}
	return d
}

// A document is the same by the short way as by way of JSON.
func TestNewDocument(t *testing.T) {
	short := 0
	rapid.Check(t, func(t *rapid.T) {
		d := &document.Document{Question: drawText(t, "question"), Time: drawInt(t, "time"), Devices: list(t, "devices", 3, drawDevice)}
		d.Peer = document.Peer{Role: optional(t, "role", drawText), Identity: optional(t, "id", drawText), Thumbprint: optional(t, "thumb", drawText), Profile: drawText(t, "profile"),
			Config: optional(t, "config", drawText), Alone: rapid.Bool().Draw(t, "alone")}
		raw := func(t *rapid.T, s string) jsontext.Value {
			return jsontext.Value(rapid.SampledFrom([]string{"null", "{}", ` {"b" : [1,-7], "a":"\u0061\n"}`, `{"a":1,"a":2}`, "1.5", "", "[", "1 2", `{"tools":{"b":"x","a":"y"}}`,
				strings.Repeat("[", 29) + strings.Repeat("]", 29), strings.Repeat("[", 30) + strings.Repeat("]", 30), strings.Repeat("[", 31) + strings.Repeat("]", 31), strings.Repeat("[", 32) + strings.Repeat("]", 32)}).Draw(t, s))
		}
		if rapid.Bool().Draw(t, "with settings") {
			d.Settings = raw(t, "settings")
		}
		d.Call = optional(t, "call", func(t *rapid.T, s string) document.Call {
			c := document.Call{Kind: drawText(t, s), Method: optional(t, s, drawText), Name: optional(t, s, drawText), URI: optional(t, s, drawText), Revision: optional(t, s, drawText), Carrier: drawText(t, s)}
			if rapid.Bool().Draw(t, s+" with arguments") {
				c.Arguments = raw(t, s)
			}
			return c
		})
		var settings *Input
		apart := *d
		if rapid.Bool().Draw(t, "settings apart") && d.Settings != nil {
			settings, _ = NewInput(d.Settings, testLimit)
			if settings != nil {
				apart.Settings = nil
			}
		}
		if encodeDocument(&apart, settings, testLimit) != nil {
			short++
		}
		got, err := NewDocument(&apart, settings, testLimit)
		b, wrong := d.JSON()
		if wrong != nil {
			if err == nil {
				t.Fatalf("accepted, where JSON says: %v", wrong)
			}
			return
		}
		sameAsSlow(t, b, got, err)
	})
	if short == 0 {
		t.Error("none took the short way")
	}
}

// Samples of real evidence go the short way.
func TestNewDocumentShort(t *testing.T) {
	for _, name := range document.Samples() {
		b, _ := document.Sample(name)
		d, err := document.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		in := encodeDocument(d, nil, 1<<20)
		if in == nil {
			t.Fatalf("%s goes the long way", name)
		}
		sameAsSlow(t, b, in, nil)
	}
}

// The limit counts JSON, whichever way a document goes.
func TestDocumentLimit(t *testing.T) {
	for n := range 600 {
		d := &document.Document{Question: strings.Repeat("\x01", n/2) + strings.Repeat("a", n-n/2)}
		b, err := json.Marshal(d, json.FormatNilMapAsNull(true), json.Deterministic(true))
		if err != nil {
			b, err = d.JSON()
		}
		if err != nil {
			t.Fatal(err)
		}
		_, want := jsonrpcBytes(b, 1000)
		_, got := NewDocument(d, nil, 1000)
		if (got == nil) != (want == nil) {
			t.Fatalf("%d bytes: %v, want %v", len(b), got, want)
		}
	}
}

func jsonrpcBytes(b []byte, limit int) (int, error) {
	return len(b), jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: limit})
}

func BenchmarkNewInput(b *testing.B) {
	doc, _ := document.Sample("tdx")
	d, err := document.Parse(doc)
	if err != nil {
		b.Fatal(err)
	}
	for name, make := range map[string]func() error{
		"one-pass": func() error { _, err := NewInput(doc, 1<<20); return err },
		"passes":   func() error { _, _, err := spelt(doc, 1<<20); return err },
		"document": func() error { _, err := NewDocument(d, nil, 1<<20); return err },
		"by-json": func() error {
			j, err := d.JSON()
			if err == nil {
				_, _, err = spelt(j, 1<<20)
			}
			return err
		},
		"json-spelling": func() error {
			in, err := NewInput(doc, 1<<20)
			if err == nil {
				_, err = in.Bytes(JSON)
			}
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if err := make(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
