package dcap_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	tdxabi "github.com/google/go-tdx-guest/abi"
	tdxverify "github.com/google/go-tdx-guest/verify"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// oracle verifies a TDX quote with go-tdx-guest.
func oracle(t testing.TB, quote []byte, collateral evidence.Item, roots []*x509.Certificate, now time.Time) error {
	t.Helper()
	var m map[string]string
	if err := json.Unmarshal(collateral.Value, &m); err != nil {
		t.Fatal(err)
	}
	return tdxverify.RawTdxQuote(quote, oracleOptions(pcs(m), roots, now))
}

func oracleOptions(m pcs, roots []*x509.Certificate, now time.Time) *tdxverify.Options {
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	return &tdxverify.Options{
		GetCollateral: true, CheckRevocations: true, Getter: m, TrustedRoots: pool,
		Now: &tdxverify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now},
	}
}

// pcs answers go-tdx-guest's requests from a bundle.
type pcs map[string]string

func (m pcs) Get(u string) (map[string][]string, []byte, error) {
	chain := func(header, member string) map[string][]string {
		return map[string][]string{header: {url.QueryEscape(m[member])}}
	}
	der := func(member string) []byte {
		b, _ := hex.DecodeString(m[member])
		return b
	}
	switch {
	case strings.Contains(u, "/tcb?"):
		return chain("Tcb-Info-Issuer-Chain", "tcb_info_issuer_chain"), []byte(`{"tcbInfo":` + m["tcb_info"] + `,"signature":"` + m["tcb_info_signature"] + `"}`), nil
	case strings.Contains(u, "/qe/identity"):
		return chain("Sgx-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"), []byte(`{"enclaveIdentity":` + m["qe_identity"] + `,"signature":"` + m["qe_identity_signature"] + `"}`), nil
	case strings.Contains(u, "/pckcrl"):
		return chain("Sgx-Pck-Crl-Issuer-Chain", "pck_crl_issuer_chain"), der("pck_crl"), nil
	case strings.HasSuffix(u, "IntelSGXRootCA.der"):
		return nil, der("root_ca_crl"), nil
	}
	return nil, nil, fmt.Errorf("no network: %s", u)
}

// TestLibraryIsWrong shows where go-tdx-guest accepts what we don't, each with
// the same bytes.
func TestLibraryIsWrong(t *testing.T) {
	long := func(c sim.Collateral, o sim.TDX) simCase { return simCase{tdx: &o, collateral: c} }
	for _, tt := range []struct {
		name string
		c    simCase
		tail []byte
		now  time.Time
		ours string // a failed check, or the status
	}{
		{"T1: OutOfDate platform", long(sim.Collateral{Platform: level("OutOfDate")}, sim.TDX{}), nil, soon, "OutOfDate"},
		{"T1: Revoked platform", long(sim.Collateral{Platform: level("Revoked")}, sim.TDX{}), nil, soon, "tcb-status"},
		{"T2: before it was issued", simCase{}, nil, sim.Epoch.AddDate(0, 0, -18), "tcb-info-validity"},
		{"T8: bytes after the quote", simCase{}, []byte("more"), soon, "quote-tail"},
		{"debug", long(sim.Collateral{}, sim.TDX{Debug: true}), nil, soon, "debug"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			media, quote := tt.c.quote(t)
			quote = append(quote, tt.tail...)
			items := tt.c.items(t)
			if err := oracle(t, quote, items[0], simulator().Anchors().Intel, tt.now); err != nil {
				t.Errorf("go-tdx-guest does not accept it any more (%v): say so in the table of defects", err)
			}
			r := dcap.New(dcap.Options{}).Verify(media, quote, simTrust(tt.now, items))
			if !strings.Contains(failed(r), tt.ours) && string(r.TCB.Status) != tt.ours {
				t.Error(show(r))
			}
		})
	}
}

// TestLibraryAgrees: where go-tdx-guest refuses, so do we.
func TestLibraryAgrees(t *testing.T) {
	for name, c := range map[string]simCase{
		"fine":            {},
		"wrong QE":        {tdx: &sim.TDX{QE: sim.QE{MRSIGNER: [32]byte{1}}}},
		"another key":     {tdx: &sim.TDX{QE: sim.QE{OtherKey: true}}},
		"forged":          {collateral: sim.Collateral{Forged: true}},
		"no level":        {collateral: sim.Collateral{Platform: sim.Level{Missing: true}}},
		"another machine": {collateral: sim.Collateral{FMSPC: [6]byte{9}}},
		"module's signer": {tdx: &sim.TDX{MRSIGNERSEAM: [48]byte{1}}},
	} {
		_, quote := c.quote(t)
		err := oracle(t, quote, c.items(t)[0], simulator().Anchors().Intel, soon)
		if r := c.verify(t); (err == nil) != r.Accepted() {
			t.Errorf("%s: go-tdx-guest says %v; we say\n%s", name, err, show(r))
		}
	}
}

// TestSGXIsRefusedByTheLibrary is T7.
func TestSGXIsRefusedByTheLibrary(t *testing.T) {
	if _, err := tdxabi.QuoteToProto(read(t, hardware+"sgx/phala-v3.quote")); err == nil {
		t.Error("go-tdx-guest parses SGX quotes by now")
	}
}

func oracleVerify(quote []byte, m pcs, tr *evidence.Trust) error {
	return tdxverify.RawTdxQuote(quote, oracleOptions(m, tr.Anchors.Intel, tr.Now))
}

// TestStatusHidesQE is T4: go-tdx-guest looks at the TCB status before the
// quoting enclave's identity, so whoever accepts its status errors accepts any
// enclave as Intel's. Here both are told.
func TestStatusHidesQE(t *testing.T) {
	c := simCase{tdx: &sim.TDX{QE: sim.QE{MRSIGNER: [32]byte{1}}}, collateral: sim.Collateral{Module: level("OutOfDate")}}
	_, q := c.quote(t)
	items := c.items(t)
	if err := oracle(t, q, items[0], simulator().Anchors().Intel, soon); err == nil || strings.Contains(err.Error(), "MRSIGNER") {
		t.Errorf("go-tdx-guest tells of the enclave by now (%v): say so in the table of defects", err)
	}
	if r := c.verify(t); failed(r) != "qe-identity-match" || r.Verified() != nil {
		t.Error(show(r))
	}
}

// TestSilent is T6: go-tdx-guest writes to standard output, which is where MCP's
// stdio transport speaks. A process that verifies with ours writes nothing.
func TestSilent(t *testing.T) {
	for name, want := range map[string]bool{"ours": false, "go-tdx-guest": true} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "DCAP_TEST_VERIFY="+name)
		out, err := cmd.CombinedOutput()
		if err != nil || (len(out) > 0) != want {
			t.Errorf("%s: %v, output %q", name, err, out)
		}
	}
}

func TestMain(m *testing.M) {
	quote, _ := os.ReadFile(hardware + "tdx/phala-v4.quote")
	collateral, _ := os.ReadFile(hardware + "tdx/phala-v4.collateral.json")
	switch os.Getenv("DCAP_TEST_VERIFY") {
	case "ours":
		tr := &evidence.Trust{Anchors: &evidence.Anchors{}, Now: soon, Endorsements: []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: collateral}}}
		for _, m := range []string{evidence.TypeTDX, evidence.TypeSGX} {
			dcap.New(dcap.Options{}).Verify(m, quote, tr)
			dcap.New(dcap.Options{}).Verify(m, quote[1:], tr)
		}
		os.Exit(0)
	case "go-tdx-guest":
		tdxverify.RawTdxQuote(quote, &tdxverify.Options{})
		os.Exit(0)
	}
	os.Exit(m.Run())
}
