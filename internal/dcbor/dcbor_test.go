package dcbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// The general encoder is the oracle: what ours writes must be what it writes.
func TestFromJSONAgreesWithFxamacker(t *testing.T) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	gen := rapid.Custom(func(t *rapid.T) any { return genValue(t, 3) })
	rapid.Check(t, func(t *rapid.T) {
		v := gen.Draw(t, "v")
		js, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := FromJSON(nil, jsontext.Value(js))
		if err != nil {
			t.Fatal(err)
		}
		want, err := mode.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s\n got %x\nwant %x", js, got, want)
		}
	})
}

func genValue(t *rapid.T, depth int) any {
	max := 6
	if depth == 0 {
		max = 4
	}
	switch rapid.IntRange(0, max).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "b")
	case 2:
		return rapid.StringMatching(`[a-zé"\\]{0,9}`).Draw(t, "s")
	case 3:
		return rapid.Int64Range(-1<<53, 1<<53).Draw(t, "i")
	case 4:
		return float64(rapid.Int32().Draw(t, "m"))/1024 + 1.0/4096
	case 5:
		out := []any{}
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			out = append(out, genValue(t, depth-1))
		}
		return out
	default:
		out := map[string]any{}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			out[rapid.StringMatching(`[a-z]{1,30}`).Draw(t, "k")] = genValue(t, depth-1)
		}
		return out
	}
}

func TestNumbersOfEqualValue(t *testing.T) {
	for _, tt := range []struct{ json, hex string }{
		{"1", "01"}, {"1.0", "01"}, {"1e0", "01"}, {"10E-1", "01"}, {"-0", "00"}, {"-1", "20"},
		{"1.5", "f93e00"}, {"0.1", "fb3fb999999999999a"}, {"1e300", "fb7e37e43c8800759c"}, {"5.960464477539063e-8", "f90001"},
		{"9007199254740992", "1b0020000000000000"}, {"9007199254740994", "fb4340000000000001"}, {"1e38", "fb47d2ced32a16a1b1"}, {"18014398509481984", "fa5a800000"},
		{`{"b":1,"aa":2,"a":3}`, "a3616103616201626161 02"},
	} {
		got, err := FromJSON(nil, jsontext.Value(tt.json))
		want, _ := hex.DecodeString(string(bytes.ReplaceAll([]byte(tt.hex), []byte(" "), nil)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, %v, want %x", tt.json, got, err, want)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, hex string
		read      func(*Reader)
		nondet    bool
	}{
		{"long uint", "1801", func(r *Reader) { r.Uint() }, true},
		{"long length", "5801ff", func(r *Reader) { r.Bytes() }, true},
		{"indefinite", "5f4100ff", func(r *Reader) { r.Bytes() }, true},
		{"trailing", "0000", func(r *Reader) { r.Uint() }, true},
		{"short string", "43ffff", func(r *Reader) { r.Bytes() }, false},
		{"huge string", "5bffffffffffffffff", func(r *Reader) { r.Bytes() }, false},
		{"huge array", "9bffffffffffffffff", func(r *Reader) { r.Array() }, false},
		{"bad text", "61ff", func(r *Reader) { r.Text() }, false},
		{"wrong type", "40", func(r *Reader) { r.Uint() }, false},
		{"empty", "", func(r *Reader) { r.Bool() }, false},
		{"reserved", "1c", func(r *Reader) { r.Uint() }, false},
	} {
		b, _ := hex.DecodeString(tt.hex)
		r := NewReader(b)
		tt.read(r)
		err := r.Done()
		if err == nil || errors.Is(err, ErrNotDeterministic) != tt.nondet {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestToJSONIsTheInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		js, _ := json.Marshal(genValue(t, 3))
		enc, err := FromJSON(nil, jsontext.Value(js))
		if err != nil {
			t.Fatal(err)
		}
		back, err := ToJSON(nil, enc)
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromJSON(nil, back)
		if err != nil || !bytes.Equal(again, enc) {
			t.Fatalf("%s -> %s: %v", js, back, err)
		}
		r := NewReader(enc)
		if got := r.Skip(); !bytes.Equal(got, enc) || r.Done() != nil {
			t.Fatalf("Skip: %v", r.Err())
		}
	})
}
