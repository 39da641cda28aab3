package dcap_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
)

const hardware = "../testdata/hardware/"

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// moduleDir is where a dependency's files are, which carry vectors.
func moduleDir(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

var tdxGuest = sync.OnceValue(func() string {
	out, _ := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "testing", "testdata")
})

// intelRoot is the root of the real vectors, pinned by its SHA-256.
func intelRoot(t testing.TB) *x509.Certificate {
	t.Helper()
	_, rest := pem.Decode(read(t, hardware+"tdx/collateral-2026-03/tcb_signing_chain.pem"))
	b, _ := pem.Decode(rest)
	if d := sha256.Sum256(b.Bytes); hex.EncodeToString(d[:]) != "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3" {
		t.Fatalf("the root in the vectors is %x", d)
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// march is the collateral that stands in files of its own, as items.
func march(t testing.TB) []evidence.Item {
	t.Helper()
	files := map[string][]byte{}
	names, err := filepath.Glob(hardware + "tdx/collateral-2026-03/*")
	if err != nil || len(names) != 7 {
		t.Fatal(names, err)
	}
	for _, n := range names {
		files[filepath.Base(n)] = read(t, n)
	}
	cs, err := dcap.CollateralFromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	var items []evidence.Item
	for _, c := range cs {
		i, err := c.Item()
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, i)
	}
	return items
}

func bundle(t testing.TB, path string) []evidence.Item {
	return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: read(t, path)}}
}

func trust(t testing.TB, now string, items []evidence.Item) *evidence.Trust {
	return &evidence.Trust{Anchors: &evidence.Anchors{Intel: []*x509.Certificate{intelRoot(t)}}, Now: at(t, now), Endorsements: items}
}

// failed lists the names of the failed checks.
func failed(r *evidence.Result) string {
	var names []string
	for _, c := range r.Checks.Failed() {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// TestVectors holds quotes of real machines against the verdict that each must
// get. The same is said of each twice: by a verifier that sees it for the first
// time, and by one that has seen all before.
func TestVectors(t *testing.T) {
	phala4, phala5, phala3 := bundle(t, hardware+"tdx/phala-v4.collateral.json"), bundle(t, hardware+"tdx/phala-v5-nomatch.collateral.json"), bundle(t, hardware+"sgx/phala-v3.collateral.json")
	all := append(append(append(march(t), phala4...), phala5...), phala3...)
	google4 := read(t, filepath.Join(tdxGuest(), "tdx_prod_quote_SPR_E4.dat"))
	google5 := filepath.Join(tdxGuest(), "quote_v5_sample.dat")
	q4, q5, q3 := read(t, hardware+"tdx/phala-v4.quote"), read(t, hardware+"tdx/phala-v5-nomatch.quote"), read(t, hardware+"sgx/phala-v3.quote")
	warm := dcap.New(dcap.Options{})
	for _, tt := range []struct {
		name       string
		quote      []byte
		collateral []evidence.Item
		now        string
		failed     string
		status     evidence.TCBStatus // "": not determined
		detail     string             // in the failed checks, or in tcb-status
	}{
		{"Phala v4, FMSPC B0C06F", q4, phala4, "2025-06-22T00:00:00Z", "", "UpToDate", ""},
		{"… later", q4, phala4, "2025-07-01T00:00:00Z", "", "UpToDate", ""},
		{"… with collateral of all", q4, all, "2025-07-01T00:00:00Z", "", "UpToDate", ""},
		{"… with collateral of others", q4, march(t), "2026-03-19T00:00:00Z", "tcb-info-match", "", "FMSPC"},
		{"… without collateral", q4, nil, "2025-07-01T00:00:00Z", "collateral", "", "no collateral"},
		{"… expired", q4, phala4, "2026-11-20T00:00:00Z", "root-crl pck-crl tcb-info-validity qe-identity-validity", "UpToDate", "the TCB info held until 2025-07-19T10:16:03Z"},
		// T2: go-tdx-guest accepts this one.
		{"… before it was issued", q4, phala4, "2025-06-01T00:00:00Z", "pck-crl tcb-info-validity qe-identity-validity", "UpToDate", "holds from 2025-06-19"},
		{"Google v5, FMSPC 90C06F", read(t, google5), march(t), "2026-03-19T00:00:00Z", "", "UpToDate", ""},
		{"… with Phala's collateral", read(t, google5), phala5, "2026-02-21T00:00:00Z", "", "UpToDate", ""},
		// Out of date is for policy to judge. But this TD was in debug mode.
		{"attestation-rs v4, FMSPC 50806F", read(t, hardware+"tdx/attestation-rs-v4-50806f-outofdate.quote"), march(t), "2026-03-19T00:00:00Z", "debug", "OutOfDate", "OutOfDate: platform OutOfDate (2023-02-15, newer levels: 3), qe UpToDate; out of date since 2023-08-09; INTEL-SA-00837"},
		// It ends with "extra byte…", which nobody signed.
		{"Google v4, FMSPC 50806F", google4, march(t), "2026-03-19T00:00:00Z", "quote-tail tcb-status", "Unrecognized", "no level of Intel's list fits"},
		{"Phala v5, FMSPC 90C06F", q5, phala5, "2026-02-21T00:00:00Z", "tcb-status", "Unrecognized", "no level of Intel's list fits"},
		{"… with other collateral", q5, march(t), "2026-03-19T00:00:00Z", "tcb-status", "Unrecognized", "no level of Intel's list fits"},
		{"Phala SGX v3", q3, phala3, "2025-07-01T00:00:00Z", "", "ConfigurationAndSWHardeningNeeded", "INTEL-SA"},
		{"… with TDX collateral", q3, phala4, "2025-07-01T00:00:00Z", "pck-crl tcb-info-match qe-identity-match", "", "the TCB info is for TDX; want SGX"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			media := evidence.TypeTDX
			if tt.quote[0] == 3 {
				media = evidence.TypeSGX
			}
			tr := trust(t, tt.now, tt.collateral)
			cold := dcap.New(dcap.Options{CacheSize: -1}).Verify(media, tt.quote, tr)
			if got := failed(cold); got != tt.failed {
				t.Errorf("failed checks: %s; want %s\n%s", got, tt.failed, show(cold))
			}
			status := evidence.TCBStatus("")
			if cold.TCB != nil {
				status = cold.TCB.Status
			}
			if status != tt.status {
				t.Errorf("TCB status %q; want %q", status, tt.status)
			}
			if !strings.Contains(show(cold), tt.detail) {
				t.Errorf("no %q in:\n%s", tt.detail, show(cold))
			}
			if cold.Accepted() != (tt.failed == "") {
				t.Errorf("accepted: %t", cold.Accepted())
			}
			for range 2 {
				if w := warm.Verify(media, tt.quote, tr); show(w) != show(cold) {
					t.Errorf("the second verdict differs from the first:\n%s\nand\n%s", show(w), show(cold))
				}
			}
		})
	}
}

// show writes all of a result.
func show(r *evidence.Result) string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-14s %-22s %s\n", c.Outcome, c.Name, c.Detail)
	}
	if r.TCB != nil {
		fmt.Fprintf(&b, "%+v\n", *r.TCB)
	}
	if v := r.Verified(); v != nil {
		fmt.Fprintf(&b, "%+v\n", v.Claims())
	}
	return b.String()
}
