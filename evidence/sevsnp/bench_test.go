package sevsnp

import (
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
)

// BenchmarkVerify: cold parses and verifies all, warm has seen the key's
// certificate before. Budget for warm: 0.7 ms.
func BenchmarkVerify(b *testing.B) {
	report, cert := hardware(b, "milan-v2-vcek.report"), hardware(b, "milan-v2.vcek.der")
	chain := amdAnchors().AMD[0]
	full := append(toPEM(parseEndorsement(cert).cert), toPEM(chain.ASK[0], chain.ARK)...)
	for _, bb := range []struct {
		name  string
		trust *evidence.Trust
		warm  bool
	}{
		{"warm", amd(may, cert), true},
		{"warm-pem-chain", amd(may, full), true},
		{"cold", amd(may, cert), false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			v := New(Options{})
			v.Verify(evidence.TypeSNP, report, bb.trust)
			b.ReportAllocs()
			for b.Loop() {
				if !bb.warm {
					v = New(Options{})
				}
				if r := v.Verify(evidence.TypeSNP, report, bb.trust); !r.Accepted() {
					b.Fatal(r.Checks.Failed())
				}
			}
		})
	}
	b.Run("go-sev-guest", func(b *testing.B) {
		b.ReportAllocs()
		roots := libraryRoots(b)
		for b.Loop() {
			if err := theirs(report, cert, may, roots); err != nil {
				b.Fatal(err)
			}
		}
	})
}
