package nitro

import (
	"testing"

	"github.com/hf/nitrite"

	"github.com/trustedmcp/tmcp/evidence"
)

// BenchmarkVerify: cold verifies the four certificates of the chain too, warm has
// seen them before.
func BenchmarkVerify(b *testing.B) {
	doc, made := hardware(b)
	trust := aws(b, made)
	for _, name := range []string{"warm", "cold"} {
		b.Run(name, func(b *testing.B) {
			v := New(Options{})
			v.Verify(evidence.TypeNitro, doc, trust)
			b.ReportAllocs()
			for b.Loop() {
				if name == "cold" {
					v = New(Options{})
				}
				if r := v.Verify(evidence.TypeNitro, doc, trust); !r.Accepted() {
					b.Fatal(r.Checks.Failed())
				}
			}
		})
	}
	b.Run("nitrite", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := nitrite.Verify(doc, nitrite.VerifyOptions{CurrentTime: made}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
