package nitro

import (
	"bytes"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
)

// FuzzVerify: whatever comes, only the real document is accepted. Run it with
// -fuzzminimizetime 10x.
func FuzzVerify(f *testing.F) {
	doc, made := hardware(f)
	forged := newPKI(f, "Amazon", nil)
	f.Add(doc)
	f.Add(append([]byte{0xD2}, doc...))
	f.Add(forged.document(f, forged.payload()))
	v := New(Options{AllowDebug: true, Cache: 4})
	trust := aws(f, made)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := v.Verify(evidence.TypeNitro, b, trust); r.Verified() != nil && !bytes.Equal(bytes.TrimPrefix(b, []byte{0xD2}), doc) {
			t.Errorf("a document that no enclave made is accepted")
		}
	})
}

// FuzzParseResponse: no answer of a module makes the parser fail in any way but
// by an error.
func FuzzParseResponse(f *testing.F) {
	f.Add(AttestationResponse([]byte("doc")))
	f.Add([]byte("\xa1\x65Error\x6dInputTooLarge"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseResponse(b); err == nil && (r == nil || (len(r.Document) == 0) == (r.Description == nil)) {
			t.Fatalf("%+v", r)
		}
	})
}
