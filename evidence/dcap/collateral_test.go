package dcap_test

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/eventlog"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

func marchFiles(t testing.TB) map[string][]byte {
	files := map[string][]byte{}
	names, err := filepath.Glob(hardware + "tdx/collateral-2026-03/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		files[filepath.Base(n)] = read(t, n)
	}
	return files
}

// TestBundleRoundTrip: what is read is written again so that the same is read,
// with the signed bytes as they were.
func TestBundleRoundTrip(t *testing.T) {
	for _, name := range []string{"tdx/phala-v4.collateral.json", "tdx/phala-v5-nomatch.collateral.json", "sgx/phala-v3.collateral.json"} {
		c, err := dcap.ParseCollateral(read(t, hardware+name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Bundle()
		if err != nil {
			t.Fatal(err)
		}
		d, err := dcap.ParseCollateral(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.TCBInfo, d.TCBInfo) || !bytes.Equal(c.QEIdentity, d.QEIdentity) || !bytes.Equal(c.PCKCRL, d.PCKCRL) || !bytes.Equal(c.PCKCRLChain, d.PCKCRLChain) || !bytes.Equal(c.TCBInfoSignature, d.TCBInfoSignature) {
			t.Errorf("%s: not the same after writing", name)
		}
	}
}

func TestScope(t *testing.T) {
	c, err := dcap.ParseCollateral(read(t, hardware+"sgx/phala-v3.collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Scope()
	if err != nil || s.TDX || s.CA != "processor" || hex.EncodeToString(s.FMSPC[:]) != "00a067110000" || s.EvaluationNumber == 0 || !s.NotBefore.Before(s.NotAfter) {
		t.Errorf("%+v, %v", s, err)
	}
	q, err := dcap.ParseQuote(read(t, hardware+"sgx/phala-v3.quote"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := q.PCK()
	if err != nil || p.FMSPC != s.FMSPC || p.CA != s.CA {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestFiles: collateral in files of its own, in the forms that servers give.
func TestFiles(t *testing.T) {
	cs, err := dcap.CollateralFromFiles(marchFiles(t))
	if err != nil || len(cs) != 2 {
		t.Fatal(len(cs), err)
	}
	quote := read(t, filepath.Join(tdxGuest(), "quote_v5_sample.dat"))
	accepted := func(cs []*dcap.Collateral) bool {
		t.Helper()
		var items []evidence.Item
		for _, c := range cs {
			i, err := c.Item()
			if err != nil {
				t.Fatal(err)
			}
			items = append(items, i)
		}
		return dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, quote, trust(t, "2026-03-19T00:00:00Z", items)).Accepted()
	}
	if !accepted(cs) {
		t.Error("not accepted")
	}
	for name, change := range map[string]func(f map[string][]byte){
		"hexadecimal CRL": func(f map[string][]byte) {
			f["root_ca_crl.der"] = []byte(hex.EncodeToString(f["root_ca_crl.der"]) + "\n")
		},
		"PEM CRL": func(f map[string][]byte) {
			f["pck_crl_platform.der"] = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: f["pck_crl_platform.der"]})
		},
		"CRLF": func(f map[string][]byte) {
			f["tcb_signing_chain.pem"] = bytes.ReplaceAll(f["tcb_signing_chain.pem"], []byte("\n"), []byte("\r\n"))
		},
		"one chain": func(f map[string][]byte) { delete(f, "tcb_signing_chain.pem") },
		"another signer's chain first": func(f map[string][]byte) {
			c, err := dcap.ParseCollateral(simCase{}.items(t)[0].Value)
			if err != nil {
				t.Fatal(err)
			}
			f["a.pem"] = c.TCBInfoChain
		},
		"a bundle too": func(f map[string][]byte) { f["b.json"] = read(t, hardware+"tdx/phala-v4.collateral.json") },
	} {
		f := marchFiles(t)
		change(f)
		if cs, err := dcap.CollateralFromFiles(f); err != nil || !accepted(cs) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"td_qe_identity.json":  "QE identity",
		"root_ca_crl.der":      `CRL of "Intel SGX Root CA"`,
		"pck_crl_platform.der": "PCK Platform CA",
	} {
		f := marchFiles(t)
		delete(f, name)
		if _, err := dcap.CollateralFromFiles(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	f := marchFiles(t)
	f["readme.txt"] = []byte("hello")
	if _, err := dcap.CollateralFromFiles(f); err == nil || !strings.Contains(err.Error(), "readme.txt") {
		t.Error(err)
	}
	one, err := dcap.CollateralFromFiles(map[string][]byte{"x": read(t, hardware+"tdx/phala-v4.collateral.json")})
	if err != nil || len(one) != 1 {
		t.Error(one, err)
	}
}

// TestCollateralRefuses: each case breaks one rule.
func TestCollateralRefuses(t *testing.T) {
	good := string(simCase{}.items(t)[0].Value)
	if _, err := dcap.ParseCollateral([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"not JSON":       "x",
		"trailing":       good + "{}",
		"twice":          `{"tcb_info":"{}",` + good[1:],
		"member missing": strings.Replace(good, `"pck_crl":`, `"PCK_CRL":`, 1),
		"not hex":        strings.Replace(good, `"root_ca_crl":"3`, `"root_ca_crl":"g`, 1),
		"number":         `{"tcb_info":1}`,
	} {
		if _, err := dcap.ParseCollateral([]byte(s)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// TestEventLog: a log that explains the registers adds its events; one that
// doesn't fails; none is none.
func TestEventLog(t *testing.T) {
	log := read(t, filepath.Join(moduleDir(t, "github.com/google/go-eventlog"), "testdata/eventlogs/ccel/CCEL_unpadded.data.bin"))
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	var rtmr [4][48]byte
	for i := range rtmr {
		copy(rtmr[i][:], l.Replay()[i+1])
	}
	verify := func(r [4][48]byte, logs ...[]byte) *evidence.Result {
		c := simCase{tdx: &sim.TDX{RTMR: &r}}
		_, q := c.quote(t)
		items := c.items(t)
		for _, l := range logs {
			items = append(items, evidence.Item{MediaType: evidence.TypeEventLog, Value: l})
		}
		return dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, q, simTrust(soon, items))
	}
	outcome := func(r *evidence.Result) evidence.Outcome {
		c, _ := r.Checks.Find("event-log")
		return c.Outcome
	}
	r := verify(rtmr, log)
	events, _ := r.Verified().Claims().Values["tdx.events"].([]string)
	if outcome(r) != evidence.Pass || !r.Accepted() || len(events) == 0 || !strings.HasPrefix(events[0], "rtmr") {
		t.Error(show(r))
	}
	if r := verify(rtmr); outcome(r) != evidence.NotPerformed || !r.Accepted() || r.Verified().Claims().Values["tdx.events"] != nil {
		t.Error(show(r))
	}
	other := rtmr
	other[1][0] ^= 1
	if r := verify(other, log); outcome(r) != evidence.Fail || r.Accepted() || r.Verified().Claims().Values["tdx.events"] != nil {
		t.Error(show(r))
	}
	if r := verify(rtmr, []byte("junk")); outcome(r) != evidence.Fail {
		t.Error(show(r))
	}
	if r := verify(rtmr, []byte("junk"), log); outcome(r) != evidence.Pass {
		t.Error(show(r))
	}
	other = rtmr
	other[3][0] = 1
	if r := verify(other, log); outcome(r) != evidence.Warn || !r.Accepted() {
		t.Error(show(r))
	}
	if !slices.ContainsFunc(events, func(s string) bool { return strings.HasPrefix(s, "rtmr2 ") }) {
		t.Error(events)
	}
}
