package cosesign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
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

// Each differs from an acceptable message in one thing.
var refused = []struct{ name, hex string }{
	{"nothing", ""},
	{"array of three", "83 43a10126 a0 40"},
	{"no protected header", "84 40 a0 40 40"},
	{"no algorithm", "84 41a0 a0 40 40"},
	{"algorithm not protected", "84 44a1036161 a10126 40 40"},
	{"algorithm in both", "84 43a10126 a10126 40 40"},
	{"unknown algorithm", "84 43a10101 a0 40 40"},
	{"algorithm by name", "84 48a1016545533235 36 a0 40 40"},
	{"critical header", "84 46a2012602810f a0 40 40"},
	{"label in both", "84 46a201260441 61 a1044162 40 40"},
	{"content type not protected", "84 43a10126 a1036161 40 40"},
	{"type not protected", "84 43a10126 a1106161 40 40"},
	{"header unsorted", "84 45a203000126 a0 40 40"},
	{"header key twice", "84 45a201260126 a0 40 40"},
	{"bytes after the header", "84 44a1012600 a0 40 40"},
	{"header that is no map", "84 4180 a0 40 40"},
	{"unprotected that is no map", "84 43a10126 80 40 40"},
	{"detached payload", "84 43a10126 a0 f6 40"},
	{"indefinite", "9f 43a10126 a0 40 40 ff"},
	{"trailing", "84 43a10126 a0 40 40 00"},
	{"content-format beyond 65535", "84 49a20126031a00010000 a0 40 40"},
}

func TestRefused(t *testing.T) {
	if m, err := Parse(unhex(t, "84 43a10126 a1044161 40 40")); err != nil || m.Alg != "ES256" || string(m.KeyID) != "a" || m.Format != -1 {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, tt := range refused {
		if m, err := Parse(unhex(t, tt.hex)); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, m)
		}
	}
}

// External data is signed too, as go-cose does it.
func TestExternal(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Sign(key, Header{KeyID: []byte("k"), ContentType: "a/b", Type: "c/d"}, []byte("payload"), []byte("external"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Sign(key, Header{KeyID: []byte("k"), ContentType: "a/b", Type: "c/d"}, []byte("payload"), []byte("external"))
	if err != nil || !bytes.Equal(b, again) {
		t.Error("not the same signature twice")
	}
	m, err := Parse(b)
	if err != nil || string(m.KeyID) != "k" || m.ContentType != "a/b" || m.Type != "c/d" {
		t.Fatalf("%+v, %v", m, err)
	}
	if p, err := m.Verify(key.Public(), []byte("external")); err != nil || string(p) != "payload" {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := m.Verify(key.Public(), nil); err == nil {
		t.Error("external data does not count")
	}
	v, err := cose.NewVerifier(cose.AlgorithmES256, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var theirs cose.UntaggedSign1Message
	if err := theirs.UnmarshalCBOR(b); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Verify([]byte("external"), v); err != nil {
		t.Error(err)
	}
}

// fxamacker/cbor sorts as Sorted does.
func TestSorted(t *testing.T) {
	loose, err := cbor.EncOptions{Sort: cbor.SortNone}.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	strict, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	var gen func(depth int) *rapid.Generator[any]
	gen = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			n := 5
			if depth == 0 {
				n = 3
			}
			switch rapid.IntRange(0, n).Draw(t, "kind") {
			case 0:
				return rapid.Int64().Draw(t, "int")
			case 1:
				return rapid.String().Draw(t, "text")
			case 2:
				return rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
			case 3:
				return rapid.Bool().Draw(t, "bool")
			case 4:
				return rapid.SliceOfN(gen(depth-1), 0, 4).Draw(t, "array")
			}
			m := map[any]any{}
			for range rapid.IntRange(0, 6).Draw(t, "n") {
				if rapid.Bool().Draw(t, "number") {
					m[rapid.Int64Range(-300, 300).Draw(t, "key")] = gen(depth-1).Draw(t, "value")
				} else {
					m[rapid.String().Draw(t, "key")] = gen(depth-1).Draw(t, "value")
				}
			}
			return m
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		v := gen(3).Draw(t, "value")
		in, err := loose.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		want, err := strict.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Sorted(in)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x: %x, want %x, %v", in, got, want, err)
		}
	})
	for in, want := range map[string]string{"a2 02 01 01 02": "a2 01 02 02 01", "1b0000000000000001": "01", "b80101 02": "a1 01 02", "d812 590001 ff": "d2 41ff", "3800": "20", "780161": "6161"} {
		if got, err := Sorted(unhex(t, in)); err != nil || !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: %x, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a2 01 01 01 02", "a2 01 01 1801 02", "bfff", "5f4100ff", "9bffffffffffffffff", "bbffffffffffffffff", "5bffffffffffffffff", "00 00", "1c", strings.Repeat("81", 40) + "00"} {
		if got, err := Sorted(unhex(t, in)); err == nil {
			t.Errorf("%s: %x", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, "84 43a10126 a1044161 40 40"))
	for _, tt := range refused {
		f.Add(unhex(f, tt.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Parse(b); err == nil && m.Alg.COSE() == 0 {
			t.Error("a message without an algorithm")
		}
		out, err := Sorted(b)
		if err != nil {
			return
		}
		again, err := Sorted(out)
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("%x is sorted as %x, and that as %x: %v", b, out, again, err)
		}
		r := dcbor.NewReader(b)
		if r.Skip(); r.Done() == nil && !bytes.Equal(out, b) {
			t.Errorf("%x is deterministic, and sorted as %x", b, out)
		}
	})
}
