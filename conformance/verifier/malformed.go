package verifier

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/evidence"
)

// Bounds of section 18.6 on what malformed input may cost.
const (
	maxMalformed = 50 * time.Millisecond
	maxMemory    = 16 << 20
	// maxWall is what is allowed where the shim does not tell how long it took: a
	// line through two pipes, and a language's own pace, are in it.
	maxWall = 2 * time.Second
)

// malformedVectors try what a bomb costs.
func malformedVectors() []vector {
	cmwOf := func(b []byte) func() Request { return func() Request { return Request{Op: OpCMW, Value: b} } }
	value := func(kind evidence.Kind, f func([]byte) []byte) func() Request {
		return of(kind, func(s *scene) { s.patch = f })
	}
	deep := bytes.Repeat([]byte{0x81}, 100_000)
	deepMap := bytes.Repeat([]byte{0xa1, 0x61, 'a'}, 50_000)
	huge := []byte{0x83, 0x6a, 't', 'e', 'x', 't', '/', 'p', 'l', 'a', 'i', 'n', 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	list := []vector{
		{name: "bomb-array", title: "arrays 100,000 deep", twin: "cmw-record", make: cmwOf(deep)},
		{name: "bomb-map", title: "maps 50,000 deep", twin: "cmw-collection", make: cmwOf(deepMap)},
		{name: "bomb-length", title: "a byte string of 2^63 bytes, in 21", twin: "cmw-record", make: cmwOf(huge)},
		{name: "bomb-count", title: "a map of 2^32 entries, in 9 bytes", twin: "cmw-collection", make: cmwOf([]byte{0xba, 0xff, 0xff, 0xff, 0xff, 0x61, 'a', 0x81, 0x60})},
		{name: "bomb-indefinite", title: "a text of 100,000 chunks", twin: "cmw-record", make: cmwOf(slices.Concat([]byte{0x83, 0x7f}, bytes.Repeat([]byte{0x61, 'a'}, 100_000), []byte{0xff, 0x41, 0, 4}))},
		{name: "bomb-corim", title: "a manifest of arrays 100,000 deep", twin: "corim-local", make: func() Request {
			return Request{Op: OpCoRIM, Time: t0.Unix(), Local: true, Value: append([]byte{0xd9, 0x01, 0xf5}, deep...)}
		}},
		{name: "bomb-cca", title: "a token of arrays 100,000 deep", twin: "cca", make: value(evidence.CCA, func([]byte) []byte { return append([]byte{0xd9, 0x01, 0x8f}, deep...) })},
		{name: "bomb-nitro", title: "a document of maps 50,000 deep", twin: "nitro", make: value(evidence.Nitro, func([]byte) []byte { return deepMap })},
		{name: "bomb-quote-length", title: "a quote that says it is 4 GiB long", twin: "tdx", make: value(evidence.TDX, func(b []byte) []byte {
			b = bytes.Clone(b)
			copy(b[48+584:], []byte{0xff, 0xff, 0xff, 0xff})
			return b
		})},
		{name: "bomb-certificates", title: "a report with 10,000 certificates in its table", twin: "snp", make: of(evidence.SNP, func(s *scene) {
			s.bare = true
			s.patch = func(b []byte) []byte { return append(b, bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 30_000)...) }
		})},
		{name: "bomb-collateral", title: "collateral of JSON arrays 100,000 deep", twin: "tdx", make: of(evidence.TDX, func(s *scene) {
			s.patchItem = func([]byte) []byte { return []byte(strings.Repeat("[", 100_000)) }
		})},
		{name: "bomb-token", title: "a token whose header is of JSON arrays 50,000 deep", twin: "ear", make: func() Request {
			return Request{Op: OpToken, Time: t0.Unix(), Kind: "ear", Issuer: issuer, ReportData: wantData[:], Keys: jwks(jwk(edKey("verifier"), "pinned")), Value: []byte(b64u([]byte(strings.Repeat("[", 50_000))) + ".e30.AAAA")}
		}},
	}
	for i := range list {
		list[i].req, list[i].hole, list[i].look = "TMCP-18.6-10", "bomb", costsLittle
	}
	return list
}

// costsLittle wants a refusal to cost little, as far as that can be seen.
func costsLittle(t *conformance.T, a *asked) {
	switch took := time.Duration(a.Micros) * time.Microsecond; {
	case took > maxMalformed:
		t.Violate("it took %s by the shim's clock; malformed input may cost %s", took, maxMalformed)
	case took == 0 && a.took > maxWall:
		t.Violate("the answer took %s; malformed input may cost %s, and this is over %s", a.took.Round(time.Millisecond), maxMalformed, maxWall)
	}
	if a.grew > maxMemory {
		t.Warnf("memory rose by %d MiB at its peak; malformed input may cost %d MiB", a.grew>>20, maxMemory>>20)
	}
}
