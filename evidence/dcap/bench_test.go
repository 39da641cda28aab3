package dcap_test

import (
	"encoding/json"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
)

// What others publish for the same work, on machines of their own:
//
//	flashbots/attested-tls-benchmarks, dcap-qvl (Rust), collateral cached    0.54 ms
//	inclavare TNG, Intel's library (C++) in trustee                        13 to 15 ms
//	openenclave, Azure DCAP client, collateral cached                      < 10 ms
//	openanolis/trustee, 4 cores, all of an appraisal                       600 to 900 a second
//
// Only go-tdx-guest is measured here, in the same run.

func verifyAll(b *testing.B, v *dcap.Verifier, media string, quote []byte, tr *evidence.Trust) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if r := v.Verify(media, quote, tr); !r.Accepted() {
			b.Fatal(show(r))
		}
	}
}

// BenchmarkTDX: cold verifies everything; warm has seen the collateral and the
// PCK chain before.
func BenchmarkTDX(b *testing.B) {
	quote := read(b, hardware+"tdx/phala-v4.quote")
	items := bundle(b, hardware+"tdx/phala-v4.collateral.json")
	tr := trust(b, "2025-07-01T00:00:00Z", items)
	b.Run("cold", func(b *testing.B) {
		verifyAll(b, dcap.New(dcap.Options{CacheSize: -1}), evidence.TypeTDX, quote, tr)
	})
	b.Run("warm", func(b *testing.B) { verifyAll(b, dcap.New(dcap.Options{}), evidence.TypeTDX, quote, tr) })
	b.Run("go-tdx-guest", func(b *testing.B) {
		b.ReportAllocs()
		var m pcs
		if err := json.Unmarshal(items[0].Value, &m); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := oracleVerify(quote, m, tr); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSGX(b *testing.B) {
	quote := read(b, hardware+"sgx/phala-v3.quote")
	tr := trust(b, "2025-07-01T00:00:00Z", bundle(b, hardware+"sgx/phala-v3.collateral.json"))
	b.Run("cold", func(b *testing.B) {
		verifyAll(b, dcap.New(dcap.Options{CacheSize: -1}), evidence.TypeSGX, quote, tr)
	})
	b.Run("warm", func(b *testing.B) { verifyAll(b, dcap.New(dcap.Options{}), evidence.TypeSGX, quote, tr) })
}
