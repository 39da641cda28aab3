package dcap_test

import (
	"bytes"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
)

// flips calls f for each byte of b with a copy in which one bit of that byte is
// another, on all processors.
func flips(b []byte, f func(i int, flipped []byte)) {
	var wg sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for w := range n {
		c := bytes.Clone(b)
		wg.Go(func() {
			for i := w; i < len(b); i += n {
				c[i] ^= 1 << (i % 8)
				f(i, c)
				c[i] = b[i]
			}
		})
	}
	wg.Wait()
}

// TestQuoteFlips: each bit of a quote is signed, or checked, or wrong.
func TestQuoteFlips(t *testing.T) {
	for name, tt := range map[string]struct {
		quote, collateral, now, media string
	}{
		"TDX": {"tdx/phala-v4.quote", "tdx/phala-v4.collateral.json", "2025-07-01T00:00:00Z", evidence.TypeTDX}, // with padding
		"SGX": {"sgx/phala-v3.quote", "sgx/phala-v3.collateral.json", "2025-07-01T00:00:00Z", evidence.TypeSGX},
	} {
		t.Run(name, func(t *testing.T) {
			v := dcap.New(dcap.Options{})
			tr := trust(t, tt.now, bundle(t, hardware+tt.collateral))
			quote := read(t, hardware+tt.quote)
			if r := v.Verify(tt.media, quote, tr); !r.Accepted() {
				t.Fatal(show(r))
			}
			flips(quote, func(i int, q []byte) {
				if r := v.Verify(tt.media, q, tr); r.Accepted() {
					t.Errorf("byte %d can be flipped", i)
				}
			})
		})
	}
}

// TestCollateralFlips: no bit of collateral can be changed so that the verdict
// is another one and still accepted. Where a changed bit changes nothing at all,
// nobody signed it and nothing depends on it: the certificates for the PCK CRL,
// which the quote has itself, the case of hexadecimal digits, white space, and
// commas' surroundings.
func TestCollateralFlips(t *testing.T) {
	v := dcap.New(dcap.Options{CacheSize: 1})
	b := read(t, hardware+"sgx/phala-v3.collateral.json")
	quote := read(t, hardware+"sgx/phala-v3.quote")
	want := v.Verify(evidence.TypeSGX, quote, trust(t, "2025-07-01T00:00:00Z", bundle(t, hardware+"sgx/phala-v3.collateral.json")))
	if !want.Accepted() {
		t.Fatal(show(want))
	}
	// Which member's value each byte is in: 0 is outside of all.
	region := make([]string, len(b))
	for _, m := range regexp.MustCompile(`"([a-z_]+)": "((?:[^"\\]|\\.)*)"`).FindAllSubmatchIndex(b, -1) {
		for i := m[4]; i < m[5]; i++ {
			region[i] = string(b[m[2]:m[3]])
		}
	}
	var mu sync.Mutex
	free := map[string][]int{}
	flips(b, func(i int, c []byte) {
		tr := trust(t, "2025-07-01T00:00:00Z", []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: c}})
		r := v.Verify(evidence.TypeSGX, quote, tr)
		if !r.Accepted() {
			return
		}
		if show(r) != show(want) {
			t.Errorf("byte %d of %q changes the verdict:\n%s", i, region[i], show(r))
		}
		mu.Lock()
		free[region[i]] = append(free[region[i]], i)
		mu.Unlock()
	})
	for name, at := range free {
		slices.Sort(at)
		switch name {
		case "pck_crl_issuer_chain":
			continue
		case "root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature":
			at = slices.DeleteFunc(at, func(i int) bool { return i%8 == 5 && b[i] >= 'a' && b[i] <= 'f' })
		case "":
			at = slices.DeleteFunc(at, func(i int) bool {
				return bytes.IndexByte([]byte(" \n"), b[i]) >= 0 || bytes.Contains(b[i-min(i, 24):i+24], []byte("pck_crl_issuer_chain"))
			})
		}
		if len(at) > 0 {
			t.Errorf("bytes %v of %q can be flipped without effect", at, name)
		}
	}
}
