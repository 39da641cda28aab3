package nvidia

import (
	"bytes"
	"slices"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
)

// TestParseReport: each rule of the format refuses the report that breaks it,
// even where its signature is good.
func TestParseReport(t *testing.T) {
	d := newDevice(t, "GH100")
	digest := make([]byte, 48)
	whole := func() []byte {
		return d.report(t, 2, slices.Concat(block(1, digest), block(2, digest)), fields(field{fieldVersion, []byte{1}}, field{fieldDriver, []byte("1.2\x00")}))
	}
	if r, err := ParseReport(whole()); err != nil || len(r.Measurements) != 2 || r.text(fieldDriver) != "1.2" {
		t.Fatalf("%+v: %v", r, err)
	}
	set := func(i int, v byte) []byte {
		b := whole()
		b[i] = v
		return d.sign(t, b[:len(b)-signatureLen])
	}
	slot8 := whole()
	slot8[36], slot8[40] = 8, 8
	slot8 = d.sign(t, slot8[:len(slot8)-signatureLen])
	for name, b := range map[string][]byte{
		"SPDM 1.2 request":       set(0, 0x12),
		"another request":        set(1, 0xe1),
		"no signature asked for": set(2, 0),
		"one measurement":        set(3, 1),
		"slot out of range":      slot8,
		"SPDM 1.2 response":      set(37, 0x12),
		"an error response":      set(38, 0x7f),
		"another slot":           set(40, 1),
		"no measurement":         d.report(t, 0, nil, nil),
		"too few blocks":         set(41, 3),
		"blocks left over":       set(41, 1),
		"index 0":                d.report(t, 1, block(0, digest), nil),
		"index reserved":         d.report(t, 1, block(0xf0, digest), nil),
		"index twice":            d.report(t, 2, slices.Concat(block(1, digest), block(1, digest)), nil),
		"not DMTF":               d.report(t, 1, append([]byte{1, 2}, block(1, digest)[2:]...), nil),
		"value shorter":          d.report(t, 1, append([]byte{1, 1, 51, 0, 1, 47, 0}, digest...), nil),
		"value longer":           d.report(t, 1, append([]byte{1, 1, 51, 0, 1, 49, 0}, digest...), nil),
		"block of no size":       d.report(t, 1, []byte{1, 1, 0, 0}, nil),
		"block cut":              d.report(t, 1, []byte{1, 1}, nil),
		"field twice":            d.report(t, 1, block(1, digest), fields(field{3, nil}, field{3, nil})),
		"field cut":              d.report(t, 1, block(1, digest), []byte{3, 0, 1, 0}),
		"field header cut":       d.report(t, 1, block(1, digest), []byte{3, 0, 1}),
		"opaque data of tomorrow": d.report(t, 1, block(1, digest),
			fields(field{fieldVersion, []byte{2}})),
		"opaque data of no version": d.report(t, 1, block(1, digest), fields(field{fieldVersion, nil})),
		"a byte more":               append(whole(), 0),
		"a byte less":               whole()[:len(whole())-1],
		"too long":                  make([]byte, maxReport+1),
		"empty":                     nil,
	} {
		if _, err := ParseReport(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestText: what a report calls text is shown only when it is.
func TestText(t *testing.T) {
	for in, want := range map[string]string{"535.86\x00\x00": "535.86", "a\x00b": "", "\x1b[2J": "", "é": "", "": ""} {
		if got := (&Report{Opaque: map[uint16][]byte{fieldDriver: []byte(in)}}).text(fieldDriver); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"\x00\x9f\x00\x96\x01\x00\x00\x00": "96.00.9F.00.01", "96.10.73.00.01": "96.10.73.00.01", "": ""} {
		if got := (&Report{Opaque: map[uint16][]byte{fieldVBIOS: []byte(in)}}).vbios(); got != want {
			t.Errorf("%x: %q, want %q", in, got, want)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	r, _, err := decode(evidence.TypeNVIDIA, vectors(f)["hopper"])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat(r.signed, r.Signature))
	d := newDevice(f, "GH100")
	f.Add(d.report(f, 1, block(1, nil), fields(field{3, []byte("1")})))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		if !bytes.Equal(slices.Concat(r.signed, r.Signature), b) || len(r.Nonce) != nonceLen || len(r.Measurements) == 0 {
			t.Fatalf("%x: parsed to something else", b)
		}
		r.values()
	})
}

func FuzzVerify(f *testing.F) {
	d := newDevice(f, "GH100", compositeDevice(f, testFWID[:]))
	whole, err := Encode(d.report(f, 1, block(1, make([]byte, 48)), fields(field{fieldFWID, testFWID[:]})), d.chain())
	if err != nil {
		f.Fatal(err)
	}
	trust := d.trust(f)
	f.Add(whole)
	f.Add([]byte{0x82, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		if (&Verifier{}).Verify(evidence.TypeNVIDIA, b, trust).Accepted() && !bytes.Equal(b, whole) {
			// Only the last line feed and the root may be missing, and ECDSA has two
			// forms of each signature.
			if len(b) > len(whole) {
				t.Fatalf("%x: accepted", b)
			}
		}
	})
}
