package x509ev_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
)

// TestHardwareQuotes: the quotes in certificates that Gramine and Intel's SDK
// made were signed on processors that Intel certified. That is all they show:
// the collateral of their day was not kept, so nothing is known of revocation,
// of the firmware or of the quoting enclave's identity, and no claim is proven.
// The enclaves are under debug, and found to be.
func TestHardwareQuotes(t *testing.T) {
	v := dcap.New(dcap.Options{})
	for name, forms := range map[string]int{"gramine-cert.pem": 2, "intel-sgxsdk-cert.pem": 1} {
		b, err := os.ReadFile(filepath.Join("../testdata/hardware/ratls", name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
			t.Error(err)
		}
		x, err := x509ev.Extract(cert)
		if err != nil || len(x.Statements) != forms {
			t.Fatalf("%d statements, %v", len(x.Statements), err)
		}
		for _, s := range x.Statements {
			res := v.Verify(s.Items[0].MediaType, s.Items[0].Value, &evidence.Trust{
				Anchors: vendor.Anchors(), Now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
			})
			for check, want := range map[string]evidence.Outcome{
				"quote-structure": evidence.Pass, "pck-chain": evidence.Pass, "pck-validity": evidence.Pass,
				"qe-report-signature": evidence.Pass, "qe-report-data": evidence.Pass, "quote-signature": evidence.Pass,
				"collateral": evidence.Fail, "debug": evidence.Fail,
				"revocation": evidence.NotPerformed, "tcb-status": evidence.NotPerformed, "qe-identity": evidence.NotPerformed,
			} {
				if got, ok := res.Checks.Find(check); !ok || got.Outcome != want {
					t.Errorf("%s, %s: check %s is %q (%s), want %q", name, s.Form, check, got.Outcome, got.Detail, want)
				}
			}
			if res.Accepted() || res.Verified() != nil {
				t.Errorf("%s, %s: claims without collateral", name, s.Form)
			}
		}
	}
}
