package dcbor

import (
	"bytes"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// What Skip accepts the general library accepts, and would write in the same
// bytes.
func FuzzSkip(f *testing.F) {
	for _, s := range []string{"\x00", "\x83\x01\xa1\x01\x02\x40", "\xa2\x01\x02\x03\x04", "\xf9\x3e\x00", "\xd8\x62\x80", "\xbf\xff", "\x9f\xff", "\x18\x01", "\x61\xff", "\xfb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "\x81\x81\x81\x80"} {
		f.Add([]byte(s))
	}
	dec, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: 128, UTF8: cbor.UTF8RejectInvalid, TimeTag: cbor.DecTagIgnored}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	opts := cbor.CoreDetEncOptions()
	opts.TagsMd = cbor.TagsAllowed
	enc, err := opts.EncMode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		item := r.Skip()
		if r.Err() != nil {
			return
		}
		if err := dec.Wellformed(item); err != nil {
			t.Fatalf("%x: %v", item, err)
		}
		var v any
		if err := dec.Unmarshal(item, &v); err != nil {
			return // maps with keys, tags with contents that Go values can't be
		}
		if again, err := enc.Marshal(v); err == nil && !bytes.Equal(again, item) && !bytes.ContainsAny(item, "\xc0\xc1\xc2\xc3\xf9\xfa\xfb") {
			t.Fatalf("%x is written %x", item, again)
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,-0.0,1e300,null,true,"\u00e9"]}`, `{"b":1,"aa":2}`, `[[[[]]]]`, `1e400`, `"\ud800"`, `{"a":1,"a":2}`, ` 1 `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if jsonrpc.Check([]byte(s), jsonrpc.Limits{}) != nil {
			return
		}
		b, err := FromJSON(nil, []byte(s))
		if err != nil {
			return // a number out of range
		}
		r := NewReader(b)
		r.Skip()
		if err := r.Done(); err != nil {
			t.Fatalf("%s gives %x, which the reader refuses: %v", s, b, err)
		}
		js, err := ToJSON(nil, b)
		if err != nil {
			t.Fatalf("%s gives %x, which has no JSON: %v", s, b, err)
		}
		if again, err := FromJSON(nil, js); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s and %s: %x and %x, %v", s, js, b, again, err)
		}
	})
}

func FuzzToJSON(f *testing.F) {
	for _, s := range []string{"\xa1\x61a\x81\x01", "\xf9\x3c\x00", "\x1b\x00\x20\x00\x00\x00\x00\x00\x00", "\x40", "\xa1\x01\x01", "\x62\xc3\xa9", "\xf5"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		js, err := ToJSON(nil, b)
		if err != nil {
			return
		}
		if err := jsonrpc.Check(js, jsonrpc.Limits{MaxDepth: 100}); err != nil {
			t.Fatalf("%x gives %s: %v", b, js, err)
		}
	})
}
