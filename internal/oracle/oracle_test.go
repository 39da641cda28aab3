package oracle

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oasisprotocol/oasis-core/go/common/sgx/pcs"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/vendor"
)

const hardware = "../../evidence/testdata/hardware/"

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oasisFile is a vector of oasis-core.
func oasisFile(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/oasisprotocol/oasis-core/go").Output()
	if err != nil {
		t.Fatal(err)
	}
	return read(t, filepath.Join(strings.TrimSpace(string(dir)), "common/sgx/pcs/testdata", name))
}

func bundle(t *testing.T, name string) *dcap.Collateral {
	t.Helper()
	c, err := dcap.ParseCollateral(read(t, hardware+name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func march(t *testing.T) *dcap.Collateral {
	t.Helper()
	files := map[string][]byte{}
	names, err := filepath.Glob(hardware + "tdx/collateral-2026-03/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if !strings.Contains(n, "tcb_info_90c06f") {
			files[n] = read(t, n)
		}
	}
	cs, err := dcap.CollateralFromFiles(files)
	if err != nil || len(cs) != 1 {
		t.Fatal(len(cs), err)
	}
	return cs[0]
}

// oasisCollateral has CRLs of another time: oasis-core has none, and looks at
// none.
func oasisCollateral(t *testing.T, info, qe string) *dcap.Collateral {
	t.Helper()
	c := march(t)
	var i pcs.SignedTCBInfo
	var q pcs.SignedQEIdentity
	for name, v := range map[string]any{info: &i, qe: &q} {
		if err := json.Unmarshal(oasisFile(t, name), v); err != nil {
			t.Fatal(err)
		}
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	c.TCBInfo, c.TCBInfoSignature = i.TCBInfo, unhex(i.Signature)
	c.QEIdentity, c.QEIdentitySignature = q.EnclaveIdentity, unhex(q.Signature)
	c.TCBInfoChain = oasisFile(t, "tcb_info_v3_fmspc_00606A000000_certs.pem")
	c.QEIdentityChain = c.TCBInfoChain
	return c
}

// verdict is what oasis-core says, in our words. It does not tell UpToDate from
// SWHardeningNeeded.
func verdict(t *testing.T, quote []byte, c *dcap.Collateral, now time.Time) (evidence.TCBStatus, error) {
	t.Helper()
	var q pcs.Quote
	if _, err := q.UnmarshalBinaryWithTrailing(quote, true); err != nil {
		return "", err
	}
	_, err := q.Verify(&pcs.QuotePolicy{TCBValidityPeriod: 30, TDX: &pcs.TdxQuotePolicy{}}, now, &pcs.TCBBundle{
		TCBInfo:      pcs.SignedTCBInfo{TCBInfo: c.TCBInfo, Signature: hex.EncodeToString(c.TCBInfoSignature)},
		QEIdentity:   pcs.SignedQEIdentity{EnclaveIdentity: c.QEIdentity, Signature: hex.EncodeToString(c.QEIdentitySignature)},
		Certificates: c.TCBInfoChain,
	})
	var old *pcs.TCBOutOfDateError
	switch {
	case err == nil:
		return evidence.UpToDate, nil
	case errors.As(err, &old):
		return evidence.TCBStatus(old.Status.String()), nil
	case strings.Contains(err.Error(), "TCB level not supported"):
		return evidence.Unrecognized, nil
	}
	return "", err
}

// TestAgrees: oasis-core and we give each quote the same status, or both refuse
// it.
func TestAgrees(t *testing.T) {
	phala4, phala3 := bundle(t, "tdx/phala-v4.collateral.json"), bundle(t, "sgx/phala-v3.collateral.json")
	const noCRL = "root-crl pck-crl"
	for _, tt := range []struct {
		name       string
		quote      []byte
		collateral *dcap.Collateral
		now        time.Time
		failed     string // by our verdict
		refused    bool   // by oasis-core, for another reason than a status
	}{
		{"Phala TDX v4", read(t, hardware+"tdx/phala-v4.quote"), phala4, time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC), "", false},
		{"Phala TDX v4, expired", read(t, hardware+"tdx/phala-v4.quote"), phala4, time.Date(2025, 8, 1, 0, 0, 0, 0, time.UTC), "pck-crl tcb-info-validity qe-identity-validity", true},
		{"Phala TDX v4, not yet", read(t, hardware+"tdx/phala-v4.quote"), phala4, time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC), "pck-crl tcb-info-validity qe-identity-validity", true},
		{"Phala SGX v3", read(t, hardware+"sgx/phala-v3.quote"), phala3, time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC), "", false},
		{"attestation-rs TDX v4, debug", read(t, hardware+"tdx/attestation-rs-v4-50806f-outofdate.quote"), march(t), time.Date(2026, 3, 19, 0, 0, 0, 0, time.UTC), "debug", true},
		{"oasis SGX v3", oasisFile(t, "quote_v3_ecdsa_p256_pck_chain.bin"), oasisCollateral(t, "tcb_info_v3_fmspc_00606A000000.json", "qe_identity_v2.json"), time.Unix(1671497404, 0), noCRL, false},
		{"oasis TDX v4", oasisFile(t, "quote_v4_tdx_ecdsa_p256.bin"), oasisCollateral(t, "tcb_info_v3_tdx_fmspc_C0806F000000.json", "qe_identity_v2_tdx2.json"), time.Unix(1725263032, 0), noCRL, false},
		{"oasis TDX v4, out of date", oasisFile(t, "quote_v4_tdx_ecdsa_p256_out_of_date.bin"), oasisCollateral(t, "tcb_info_v3_tdx_fmspc_50806F000000.json", "qe_identity_v2_tdx.json"), time.Unix(1687091776, 0), noCRL + " tcb-status", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			item, err := tt.collateral.Item()
			if err != nil {
				t.Fatal(err)
			}
			media := evidence.TypeTDX
			if tt.quote[0] == 3 {
				media = evidence.TypeSGX
			}
			r := dcap.New(dcap.Options{}).Verify(media, tt.quote, &evidence.Trust{Anchors: vendor.Anchors(), Now: tt.now, Endorsements: []evidence.Item{item}})
			var failed []string
			for _, c := range r.Checks.Failed() {
				failed = append(failed, c.Name)
			}
			got, err := verdict(t, tt.quote, tt.collateral, tt.now)
			t.Logf("ours: %v %s; oasis-core: %s, %v", r.TCB, failed, got, err)
			if strings.Join(failed, " ") != tt.failed {
				t.Errorf("our failed checks: %v; want %s\n%v", failed, tt.failed, r.Checks)
			}
			if tt.refused != (err != nil) {
				t.Fatalf("oasis-core: %v", err)
			}
			if err == nil && (r.TCB == nil || r.TCB.Status != got && (got != evidence.UpToDate || r.TCB.Status != evidence.SWHardeningNeeded)) {
				t.Errorf("oasis-core says %s; we say %v", got, r.TCB)
			}
			if r.Verified() == nil {
				t.Error("no claims")
			}
		})
	}
}

// TestEncryptedPPID: both refuse to find a PCK certificate that is not there.
func TestEncryptedPPID(t *testing.T) {
	quote := oasisFile(t, "quote_v3_ecdsa_p256_eppid.bin")
	if _, err := verdict(t, quote, bundle(t, "sgx/phala-v3.collateral.json"), time.Unix(1671497404, 0)); err == nil {
		t.Error("oasis-core verifies it")
	}
	if _, err := dcap.ParseQuote(quote); err == nil {
		t.Error("we parse it")
	}
}
