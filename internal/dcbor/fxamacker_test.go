package dcbor_test

import (
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// F1: the strict modes of fxamacker/cbor take integers that are longer than they
// need be, and maps that are not sorted. A second encoding of one value is
// another digest, so ours refuses both. When this fails, the library does too, and
// RATIONALE.md can say so.
func TestStricterThanFxamacker(t *testing.T) {
	strict, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"a long integer":  {0x18, 0x01},
		"a long length":   {0x58, 0x01, 0xaa},
		"an unsorted map": {0xa2, 0x02, 0x00, 0x01, 0x00},
	} {
		var v any
		if err := strict.Unmarshal(b, &v); err != nil {
			t.Errorf("%s: the library refuses it too: %v", name, err)
		}
		r := dcbor.NewReader(b)
		r.Skip()
		if r.Done() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, b := range map[string][]byte{
		"a key twice":         {0xa2, 0x01, 0x00, 0x01, 0x00},
		"a key twice, longer": {0xa2, 0x01, 0x00, 0x18, 0x01, 0x00},
		"indefinite":          {0x9f, 0xff},
		"trailing":            {0x01, 0x01},
		"not UTF-8":           {0x61, 0xff},
	} {
		var v any
		if strict.Unmarshal(b, &v) == nil {
			t.Errorf("%s: the library takes it", name)
		}
		r := dcbor.NewReader(b)
		r.Skip()
		if r.Done() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
