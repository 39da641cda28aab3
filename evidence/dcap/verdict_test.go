package dcap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tdxabi "github.com/google/go-tdx-guest/abi"
	tdxverify "github.com/google/go-tdx-guest/verify"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

var (
	world      = sim.Default()
	simulator  = sync.OnceValue(func() *evidence.Simulator { return world.Simulator(evidence.TDX) })
	reportData = [64]byte{1, 2, 3, 63: 64}
	soon       = sim.Epoch.Add(time.Hour)
)

// A simCase is a simulated quote with collateral.
type simCase struct {
	tdx        *sim.TDX // or
	sgx        *sim.SGX
	collateral sim.Collateral
	o          dcap.Options
	now        time.Time // zero: soon
}

func (c simCase) quote(t testing.TB) (mediaType string, quote []byte) {
	t.Helper()
	var err error
	if c.sgx != nil {
		quote, err = world.SGXQuote(reportData, *c.sgx)
		mediaType = evidence.TypeSGX
	} else {
		if c.tdx == nil {
			c.tdx = &sim.TDX{}
		}
		quote, err = world.TDXQuote(reportData, *c.tdx)
		mediaType = evidence.TypeTDX
	}
	if err != nil {
		t.Fatal(err)
	}
	return mediaType, quote
}

func (c simCase) items(t testing.TB) []evidence.Item {
	t.Helper()
	c.collateral.SGX = c.sgx != nil
	b, err := world.Collateral(c.collateral)
	if err != nil {
		t.Fatal(err)
	}
	return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: b}}
}

func (c simCase) verify(t testing.TB) *evidence.Result {
	t.Helper()
	media, quote := c.quote(t)
	if c.now.IsZero() {
		c.now = soon
	}
	return dcap.New(c.o).Verify(media, quote, simTrust(c.now, c.items(t)))
}

func simTrust(now time.Time, items []evidence.Item) *evidence.Trust {
	return &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: simulator(), Now: now, Endorsements: items}
}

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

func level(s evidence.TCBStatus, advisories ...string) sim.Level {
	return sim.Level{Status: s, Advisories: advisories}
}

// TestVerdicts has one cause in each case.
func TestVerdicts(t *testing.T) {
	_, serial, err := world.PCK(sim.Platform{})
	if err != nil {
		t.Fatal(err)
	}
	low := [16]byte{1: 1}
	for _, tt := range []struct {
		name   string
		c      simCase
		failed string
		status evidence.TCBStatus
		detail string
	}{
		{"TDX v4", simCase{}, "", "UpToDate", "simulated"},
		{"TDX v5, 1.0", simCase{tdx: &sim.TDX{Version: 5}}, "", "UpToDate", ""},
		{"TDX v5, 1.5", simCase{tdx: &sim.TDX{Version: 5, Body15: true}}, "", "UpToDate", ""},
		{"SGX v3", simCase{sgx: &sim.SGX{}}, "", "UpToDate", ""},
		{"padding", simCase{tdx: &sim.TDX{Padding: 3000}}, "", "UpToDate", ""},
		{"Processor CA", simCase{sgx: &sim.SGX{Platform: sim.Platform{Processor: true}}, collateral: sim.Collateral{Processor: true}}, "", "UpToDate", ""},
		{"the other CA's CRL", simCase{sgx: &sim.SGX{Platform: sim.Platform{Processor: true}}}, "pck-crl", "UpToDate", `want that of "Intel SGX PCK Processor CA"`},

		// T1: go-tdx-guest looks at the module alone.
		{"T1, platform out of date", simCase{collateral: sim.Collateral{Platform: level("OutOfDate", "INTEL-SA-1")}}, "", "OutOfDate", "newer levels: 1"},
		{"T1, platform revoked", simCase{collateral: sim.Collateral{Platform: level("Revoked")}}, "tcb-status", "Revoked", "platform Revoked"},
		{"module out of date", simCase{collateral: sim.Collateral{Module: level("OutOfDate")}}, "", "OutOfDate", "tdx-module OutOfDate"},
		{"module revoked", simCase{collateral: sim.Collateral{Module: level("Revoked")}}, "tcb-status", "Revoked", ""},
		{"module of no level", simCase{collateral: sim.Collateral{Module: sim.Level{Missing: true}}}, "tcb-status", "Unrecognized", "tdx-module Unrecognized"},
		{"QE out of date", simCase{collateral: sim.Collateral{QE: level("OutOfDate")}}, "", "OutOfDate", "qe OutOfDate"},
		{"QE revoked", simCase{sgx: &sim.SGX{}, collateral: sim.Collateral{QE: level("Revoked")}}, "tcb-status", "Revoked", ""},
		{"QE of no level", simCase{collateral: sim.Collateral{QE: sim.Level{Missing: true}}}, "tcb-status", "Unrecognized", ""},
		{"no level", simCase{collateral: sim.Collateral{Platform: sim.Level{Missing: true}}}, "tcb-status", "Unrecognized", "no level of Intel's list fits"},
		{"a status of tomorrow", simCase{collateral: sim.Collateral{Platform: level("Splendid")}}, "tcb-status", "Unrecognized", ""},
		{"hardening needed", simCase{sgx: &sim.SGX{}, collateral: sim.Collateral{Platform: level("SWHardeningNeeded", "INTEL-SA-2", "INTEL-SA-1")}}, "", "SWHardeningNeeded", "INTEL-SA-1, INTEL-SA-2"},
		{"configuration and QE", simCase{collateral: sim.Collateral{Platform: level("ConfigurationNeeded"), QE: level("OutOfDate")}}, "", "OutOfDateConfigurationNeeded", ""},

		// T2
		{"not yet issued", simCase{now: sim.Epoch.Add(-time.Second)}, "root-crl pck-crl tcb-info-validity qe-identity-validity", "UpToDate", "holds from"},
		{"issued now", simCase{now: sim.Epoch}, "", "UpToDate", ""},
		{"the last second", simCase{now: sim.Epoch.AddDate(0, 0, 30).Add(-time.Second)}, "", "UpToDate", ""},
		{"expired", simCase{now: sim.Epoch.AddDate(0, 0, 30)}, "root-crl pck-crl tcb-info-validity qe-identity-validity", "UpToDate", "held until"},
		{"CRLs expired", simCase{collateral: sim.Collateral{CRLNextUpdate: soon}}, "root-crl pck-crl", "UpToDate", "held until"},
		{"evaluation number", simCase{o: dcap.Options{MinEvaluationNumber: 20}}, "", "UpToDate", ""},
		{"evaluation number too low", simCase{o: dcap.Options{MinEvaluationNumber: 21}}, "tcb-evaluation-number", "UpToDate", "is 20; at least 21"},

		{"forged", simCase{collateral: sim.Collateral{Forged: true}}, "tcb-info qe-identity", "", "signature is wrong"},
		{"another FMSPC", simCase{collateral: sim.Collateral{FMSPC: [6]byte{1}}}, "tcb-info-match", "", "FMSPC 010000000000"},
		{"another PCEID", simCase{collateral: sim.Collateral{PCEID: [2]byte{1}}}, "tcb-info-match", "", "PCEID"},
		// T4: a bad status must not hide a wrong QE.
		{"T4", simCase{tdx: &sim.TDX{QE: sim.QE{MRSIGNER: [32]byte{1}}}, collateral: sim.Collateral{Platform: level("OutOfDate")}}, "qe-identity-match", "", "MRSIGNER"},
		{"debug QE", simCase{tdx: &sim.TDX{QE: sim.QE{Debug: true}}}, "qe-identity-match", "", "attributes"},
		{"another key", simCase{tdx: &sim.TDX{QE: sim.QE{OtherKey: true}}}, "qe-report-data", "UpToDate", ""},

		{"PCK revoked", simCase{collateral: sim.Collateral{Revoked: []*big.Int{serial}}}, "revocation", "UpToDate", fmt.Sprintf("serial %x", serial)},
		{"PCK CA revoked", simCase{collateral: sim.Collateral{RevokedPlatformCA: true}}, "revocation", "UpToDate", "Intel SGX PCK Platform CA"},
		{"TCB signing revoked", simCase{collateral: sim.Collateral{RevokedTCBSigning: true}}, "revocation", "UpToDate", "Intel SGX TCB Signing"},
		{"PCK expired", simCase{tdx: &sim.TDX{Platform: sim.Platform{NotAfter: sim.Epoch}}}, "pck-validity", "UpToDate", "held until"},

		{"debug", simCase{tdx: &sim.TDX{Debug: true}}, "debug", "UpToDate", "under debug"},
		{"debug, allowed", simCase{tdx: &sim.TDX{Debug: true}, o: dcap.Options{AllowDebug: true}}, "", "UpToDate", "which is allowed here"},
		{"another TUD bit", simCase{tdx: &sim.TDX{TDAttributes: &[8]byte{0x10}}}, "debug", "UpToDate", "under debug"},
		{"SGX debug", simCase{sgx: &sim.SGX{Debug: true}}, "debug", "UpToDate", "under debug"},
		{"module's signer", simCase{tdx: &sim.TDX{MRSIGNERSEAM: [48]byte{1}}}, "tdx-module", "UpToDate", "signer"},
		{"module's attributes", simCase{tdx: &sim.TDX{SEAMAttributes: [8]byte{1}}}, "tdx-module", "UpToDate", "attributes"},
		{"unknown module", simCase{tdx: &sim.TDX{TEETCBSVN: &[16]byte{5, 9, 2}}}, "tdx-module tcb-status", "Unrecognized", "no TDX module of version 9"},
		{"module of version 0", simCase{tdx: &sim.TDX{TEETCBSVN: &[16]byte{5, 0, 2}}}, "", "UpToDate", ""},
		{"module of version 0, old", simCase{tdx: &sim.TDX{TEETCBSVN: &[16]byte{4, 0, 2}}}, "tcb-status", "Unrecognized", ""},
		{"service TD", simCase{tdx: &sim.TDX{Version: 5, Body15: true, MRSERVICETD: [48]byte{1}}}, "", "UpToDate", "warn           service-td"},
		{"relaunch advised", simCase{tdx: &sim.TDX{Version: 5, Body15: true, TEETCBSVN2: &[16]byte{6, 1, 2}}, collateral: sim.Collateral{Module: level("OutOfDate")}}, "", "OutOfDate", "warn           td-relaunch"},
		{"relaunch of no use", simCase{tdx: &sim.TDX{Version: 5, Body15: true}, collateral: sim.Collateral{Module: level("OutOfDate")}}, "", "OutOfDate", "pass           td-relaunch"},
		{"relaunch into the unknown", simCase{tdx: &sim.TDX{Version: 5, Body15: true, TEETCBSVN2: &[16]byte{6, 7, 2}}, collateral: sim.Collateral{Module: level("OutOfDate")}}, "td-relaunch", "OutOfDate", "version 7"},

		// N17: what the body says of the firmware counts for nothing. An enclave's
		// CPUSVN and the header's PCESVN are of the body; low is in the certificate.
		{"N17", simCase{sgx: &sim.SGX{Platform: sim.Platform{SVN: &low}}}, "tcb-status", "Unrecognized", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.c.verify(t)
			if got := failed(r); got != tt.failed {
				t.Errorf("failed checks: %s; want %s\n%s", got, tt.failed, show(r))
			}
			status := evidence.TCBStatus("")
			if r.TCB != nil {
				status = r.TCB.Status
			}
			if status != tt.status {
				t.Errorf("TCB status %q; want %q\n%s", status, tt.status, show(r))
			}
			if !strings.Contains(strings.ToLower(show(r)), strings.ToLower(tt.detail)) {
				t.Errorf("no %q in:\n%s", tt.detail, show(r))
			}
			if r.Accepted() != (tt.failed == "") {
				t.Errorf("accepted: %t", r.Accepted())
			}
			if v := r.Verified(); v != nil && !v.Claims().Simulated {
				t.Error("not marked as simulated")
			}
			names := func(r *evidence.Result) (n []string) {
				for _, c := range r.Checks {
					n = append(n, c.Name)
				}
				return n
			}
			if all := names(dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, nil, nil)); !slices.Equal(names(r), all) {
				t.Errorf("the list of checks is not complete: %v", names(r))
			}
		})
	}
}

// TestBodyTCBIsIgnored (N17): an enclave's body and a quote's header that claim
// the highest versions change nothing, and neither do the lowest.
func TestBodyTCBIsIgnored(t *testing.T) {
	for _, b := range []byte{0, 0xff} {
		q, err := world.SGXQuote(reportData, sim.SGX{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 16 {
			q[48+i] = b // CPUSVN
		}
		q[10], q[11] = b, b // PCESVN
		r := dcap.New(dcap.Options{}).Verify(evidence.TypeSGX, q, simTrust(soon, simCase{sgx: &sim.SGX{}}.items(t)))
		if failed(r) != "quote-signature" || r.TCB.Status != evidence.UpToDate {
			t.Error(show(r))
		}
	}
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

// TestConcurrent (T3): one verifier and one Trust for all.
func TestConcurrent(t *testing.T) {
	v := dcap.New(dcap.Options{CacheSize: 2})
	tr := simTrust(soon, simCase{}.items(t))
	var wg sync.WaitGroup
	for i := range 8 {
		_, q := simCase{tdx: &sim.TDX{Platform: sim.Platform{Name: fmt.Sprint(i % 3)}}}.quote(t)
		wg.Go(func() {
			for range 5 {
				if r := v.Verify(evidence.TypeTDX, q, tr); !r.Accepted() {
					t.Error(show(r))
				}
			}
		})
	}
	wg.Wait()
}

// TestRoots (N20, N22): nothing is believed that leads to another root, and what
// was once verified is not, once its root is not trusted.
func TestRoots(t *testing.T) {
	v := dcap.New(dcap.Options{})
	_, q := simCase{}.quote(t)
	items := simCase{}.items(t)
	if r := v.Verify(evidence.TypeTDX, q, simTrust(soon, items)); !r.Accepted() {
		t.Fatal(show(r))
	}
	intel := &evidence.Anchors{Intel: []*x509.Certificate{intelRoot(t)}}
	for name, tr := range map[string]*evidence.Trust{
		"production":            {Anchors: intel, Now: soon, Endorsements: items},
		"nobody":                {Anchors: &evidence.Anchors{}, Now: soon, Endorsements: items},
		"another simulator":     {Anchors: intel, Simulator: sim.Other().Simulator(evidence.TDX), Now: soon, Endorsements: items},
		"a simulator as vendor": {Anchors: simulator().Anchors(), Now: soon, Endorsements: items},
		"no anchors":            {Simulator: simulator(), Now: soon, Endorsements: items},
		"no time":               {Anchors: &evidence.Anchors{}, Simulator: simulator(), Endorsements: items},
		"no trust":              nil,
	} {
		r := v.Verify(evidence.TypeTDX, q, tr)
		if r.Accepted() || r.Verified() != nil || r.TCB != nil {
			t.Errorf("%s: claims or a TCB without an anchor:\n%s", name, show(r))
		}
		if c, _ := r.Checks.Find("trust"); c.Outcome == evidence.Pass {
			if c, _ = r.Checks.Find("pck-chain"); c.Outcome != evidence.Fail {
				t.Errorf("%s: %s", name, show(r))
			}
		}
	}
}

// TestMixedRoots: collateral of a simulator says nothing about real machines,
// nor the other way round.
func TestMixedRoots(t *testing.T) {
	real := bundle(t, hardware+"tdx/phala-v4.collateral.json")
	fake, err := world.Collateral(sim.Collateral{FMSPC: [6]byte{0xb0, 0xc0, 0x6f}, Issued: at(t, "2025-06-20T00:00:00Z")})
	if err != nil {
		t.Fatal(err)
	}
	tr := trust(t, "2025-07-01T00:00:00Z", []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: fake}})
	tr.Simulator = simulator()
	r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, read(t, hardware+"tdx/phala-v4.quote"), tr)
	if !strings.Contains(failed(r), "collateral") || r.Accepted() {
		t.Error(show(r))
	}
	tr.Endorsements = append(tr.Endorsements, real...)
	if r = dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, read(t, hardware+"tdx/phala-v4.quote"), tr); !r.Accepted() || r.Verified().Claims().Simulated {
		t.Error(show(r))
	}
}

// TestBestCollateral: of several bundles the newest counts, and a bad one beside
// a good one does no harm.
func TestBestCollateral(t *testing.T) {
	old := simCase{collateral: sim.Collateral{EvaluationNumber: 19}}.items(t)
	better := simCase{collateral: sim.Collateral{EvaluationNumber: 21, Platform: level("OutOfDate")}}.items(t)
	forged := simCase{collateral: sim.Collateral{EvaluationNumber: 99, Forged: true}}.items(t)
	junk := []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: []byte("{}")}}
	_, q := simCase{}.quote(t)
	items := slices.Concat(junk, forged, old, better)
	for range 4 {
		items = append(items[1:], items[0])
		r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, q, simTrust(soon, items))
		if !r.Accepted() || r.TCB.Status != evidence.OutOfDate || r.TCB.EvaluationNumber != 21 {
			t.Error(show(r))
		}
	}
	many := slices.Repeat(junk, 17)
	if r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, q, simTrust(soon, append(many, old...))); r.Accepted() {
		t.Error("more than 16 bundles were looked at")
	}
}

// TestClaims holds claims against the bytes of a quote.
func TestClaims(t *testing.T) {
	c := simCase{tdx: &sim.TDX{Version: 5, Body15: true, Platform: sim.Platform{PPID: [16]byte{7}}, MROWNER: [48]byte{9}}}
	_, q := c.quote(t)
	claims := c.verify(t).Verified().Claims()
	body := q[54:]
	for name, want := range map[string][]byte{
		"tdx.teetcbsvn": body[:16], "tdx.mrtd": body[136:184], "tdx.rtmr3": body[472:520], "tdx.teetcbsvn2": body[584:600],
		"tdx.mrservicetd": body[600:648], "tdx.tdattributes": body[120:128], "tdx.mrowner": append([]byte{9}, make([]byte, 47)...),
		"intel.ppid": append([]byte{7}, make([]byte, 15)...), "intel.fmspc": sim.DefaultFMSPC[:], "intel.tcbsvn": sim.DefaultSVN[:],
		"intel.qe.mrsigner": sim.DefaultTDQESigner[:], "intel.pceid": {0, 0},
	} {
		if got, _ := claims.Values[name].([]byte); !bytes.Equal(got, want) {
			t.Errorf("%s is %x; want %x", name, got, want)
		}
	}
	// N18: a policy can name the platform.
	if !bytes.Equal(claims.Platform, claims.Values["intel.ppid"].([]byte)) || !bytes.Equal(claims.ReportData, reportData[:]) {
		t.Errorf("platform %x, report data %x", claims.Platform, claims.ReportData)
	}
	if claims.Values["intel.pcesvn"] != uint64(sim.DefaultPCESVN) || claims.Values["intel.tcb-evaluation-number"] != uint64(20) || claims.Values["intel.smt"] != true {
		t.Error(claims.Values)
	}
	if !claims.NotBefore.Equal(sim.Epoch) || !claims.NotAfter.Equal(sim.Epoch.AddDate(0, 0, 30)) {
		t.Error(claims.NotBefore, claims.NotAfter)
	}
	e := simCase{sgx: &sim.SGX{ISVPRODID: 3, ISVSVN: 4, MRENCLAVE: [32]byte{5}}}.verify(t).Verified().Claims()
	if e.Kind != evidence.SGX || e.Values["sgx.isvprodid"] != uint64(3) || e.Values["sgx.isvsvn"] != uint64(4) || e.Values["sgx.mrenclave"].([]byte)[0] != 5 || !bytes.Equal(e.ReportData, reportData[:]) {
		t.Error(e)
	}
}

// TestNoClaims (N21): without a good signature of each link there is not one
// claim, whatever else is right.
func TestNoClaims(t *testing.T) {
	media, q := simCase{}.quote(t)
	tr := simTrust(soon, simCase{}.items(t))
	sig := 48 + 584 + 4
	for name, i := range map[string]int{"signature": sig, "attestation key": sig + 64, "QE report": sig + 128 + 6, "QE signature": sig + 128 + 6 + 384, "MRTD": 48 + 136, "version": 0, "reserved": 8} {
		b := bytes.Clone(q)
		b[i] ^= 1
		if r := dcap.New(dcap.Options{}).Verify(media, b, tr); r.Verified() != nil || r.Accepted() {
			t.Errorf("%s: claims from what was altered:\n%s", name, show(r))
		}
	}
	if r := dcap.New(dcap.Options{}).Verify(media, q, simTrust(soon, nil)); r.Verified() != nil {
		t.Error("claims without collateral: whose quoting enclave was it?")
	}
}

// TestSignatureRange: r and s outside 1..n-1 are refused, as are points that are
// not on the curve.
func TestSignatureRange(t *testing.T) {
	media, q := simCase{}.quote(t)
	tr := simTrust(soon, simCase{}.items(t))
	sig := 48 + 584 + 4
	n := elliptic.P256().Params().N
	s := new(big.Int).SetBytes(q[sig+32 : sig+64])
	for name, put := range map[string]func(b []byte){
		"r 0":       func(b []byte) { clear(b[:32]) },
		"s 0":       func(b []byte) { clear(b[32:64]) },
		"r n":       func(b []byte) { n.FillBytes(b[:32]) },
		"s all set": func(b []byte) { copy(b[32:], bytes.Repeat([]byte{0xff}, 32)) },
		"key 0":     func(b []byte) { clear(b[64:128]) },
		"key off":   func(b []byte) { b[127] ^= 1 },
	} {
		b := bytes.Clone(q)
		put(b[sig : sig+128])
		if r := dcap.New(dcap.Options{}).Verify(media, b, tr); !strings.Contains(failed(r), "quote-signature") {
			t.Errorf("%s: %s", name, show(r))
		}
	}
	// ECDSA's other s signs the same. It makes another quote of the same content,
	// which is why nothing may be keyed by a quote's digest alone.
	b := bytes.Clone(q)
	new(big.Int).Sub(n, s).FillBytes(b[sig+32 : sig+64])
	if r := dcap.New(dcap.Options{}).Verify(media, b, tr); !r.Accepted() {
		t.Error(show(r))
	}
}

// TestPCKSignsNoCollateral: a key that Intel certified for a platform, and which
// an attacker took out of it, can't speak for Intel.
func TestPCKSignsNoCollateral(t *testing.T) {
	root, key := testRoot(t)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cn       string
		ca, want bool
	}{{"Intel SGX TCB Signing", false, true}, {"Intel SGX TCB Signing", true, false}, {"Intel SGX PCK Certificate", false, false}, {"Intel SGX PCK Platform CA", true, false}} {
		c, err := dcap.ParseCollateral(simCase{}.items(t)[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		leaf := certificate(t, tt.cn, root, key, leafKey.Public().(*ecdsa.PublicKey), tt.ca)
		c.TCBInfoChain = append(encode(leaf), encode(root)...)
		c.TCBInfoSignature = rawSign(t, leafKey, c.TCBInfo)
		s, err := evidence.NewSimulator(evidence.Anchors{Intel: []*x509.Certificate{root}})
		if err != nil {
			t.Fatal(err)
		}
		item, err := c.Item()
		if err != nil {
			t.Fatal(err)
		}
		_, q := simCase{}.quote(t)
		r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, q, &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: s, Now: soon, Endorsements: []evidence.Item{item}})
		if k, _ := r.Checks.Find("tcb-info"); (k.Outcome == evidence.Pass) != tt.want {
			t.Errorf("%+v: %v", tt, k)
		}
	}
}

func testRoot(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, "Intel SGX Root CA", nil, key, &key.PublicKey, true), key
}

func certificate(t testing.TB, cn string, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey, pub *ecdsa.PublicKey, ca bool) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn, Organization: []string{evidence.SimulatorOrganization}},
		NotBefore: sim.Epoch.AddDate(-1, 0, 0), NotAfter: sim.Epoch.AddDate(9, 0, 0), BasicConstraintsValid: true, IsCA: ca,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	if issuer == nil {
		issuer = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, pub, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func rawSign(t testing.TB, k *ecdsa.PrivateKey, data []byte) []byte {
	t.Helper()
	d := sha256.Sum256(data)
	r, s, err := ecdsa.Sign(rand.Reader, k, d[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// TestStructure: each case breaks one field.
func TestStructure(t *testing.T) {
	_, q4 := simCase{}.quote(t)
	_, q5 := simCase{tdx: &sim.TDX{Version: 5, Body15: true}}.quote(t)
	_, q3 := simCase{sgx: &sim.SGX{}}.quote(t)
	le := binary.LittleEndian
	for name, tt := range map[string]struct {
		q   []byte
		put func(b []byte) []byte
	}{
		"empty":             {q4, func(b []byte) []byte { return nil }},
		"cut":               {q4, func(b []byte) []byte { return b[:len(b)-1] }},
		"cut in the header": {q4, func(b []byte) []byte { return b[:47] }},
		"version 6":         {q4, func(b []byte) []byte { b[0] = 6; return b }},
		"version 3 for TDX": {q4, func(b []byte) []byte { b[0] = 3; return b }},
		"SGX in version 4":  {q4, func(b []byte) []byte { b[4] = 0; return b }},
		"P-384":             {q4, func(b []byte) []byte { b[2] = 3; return b }},
		"another vendor":    {q4, func(b []byte) []byte { b[12] = 0; return b }},
		"body type":         {q5, func(b []byte) []byte { b[48] = 2; return b }},
		"body size":         {q5, func(b []byte) []byte { b[50]++; return b }},
		"length too large":  {q4, func(b []byte) []byte { le.PutUint32(b[632:], 1<<31); return b }},
		"length too small":  {q4, func(b []byte) []byte { le.PutUint32(b[632:], le.Uint32(b[632:])-1); return b }},
		"outer type":        {q4, func(b []byte) []byte { b[636+128] = 5; return b }},
		"inner length":      {q4, func(b []byte) []byte { b[636+130]++; return b }},
		"QE data length":    {q3, func(b []byte) []byte { le.PutUint16(b[436+64+64+384+64:], 0xffff); return b }},
		"much QE data": {q3, func(b []byte) []byte {
			b = slices.Insert(b, 1014, make([]byte, 1000)...)
			le.PutUint16(b[1012:], le.Uint16(b[1012:])+1000)
			le.PutUint32(b[432:], le.Uint32(b[432:])+1000)
			return b
		}},
		"EPID certification": {q3, func(b []byte) []byte { b[436+64+64+384+64+2+32] = 1; return b }},
		"too long":           {q3, func(b []byte) []byte { return append(b, make([]byte, 1<<16)...) }},
	} {
		b := tt.put(bytes.Clone(tt.q))
		if _, err := dcap.ParseQuote(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if r := dcap.New(dcap.Options{}).Verify(evidence.TypeSGX, q4, simTrust(soon, nil)); failed(r) != "quote-structure" {
		t.Error("a TDX quote as SGX:", show(r))
	}
	if r := dcap.New(dcap.Options{}).Verify("text/plain", q4, simTrust(soon, nil)); failed(r) != "trust" {
		t.Error(show(r))
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

// Who shows evidence may staple the collateral from before its key was revoked.
// A newer list at hand counts all the same, whatever the order.
func TestStapledCollateralHidesNoRevocation(t *testing.T) {
	platform := sim.Platform{Name: "stolen"}
	_, serial, err := world.PCK(platform)
	if err != nil {
		t.Fatal(err)
	}
	stapled := simCase{}.items(t)
	revoked := simCase{collateral: sim.Collateral{Revoked: []*big.Int{serial}}}.items(t)
	other := simCase{collateral: sim.Collateral{Revoked: []*big.Int{big.NewInt(4711)}}}.items(t)
	typ, quote := simCase{tdx: &sim.TDX{Platform: platform}}.quote(t)
	verify := func(items ...evidence.Item) *evidence.Result {
		return dcap.New(dcap.Options{}).Verify(typ, quote, simTrust(soon, items))
	}
	if r := verify(stapled[0], other[0]); !r.Accepted() {
		t.Errorf("nobody revoked it: %v", r.Checks.Failed())
	}
	for name, r := range map[string]*evidence.Result{"last": verify(stapled[0], revoked[0]), "first": verify(revoked[0], stapled[0]), "alone": verify(revoked[0])} {
		if c, _ := r.Checks.Find("revocation"); c.Outcome != evidence.Fail || r.Accepted() {
			t.Errorf("the list that revokes stands %s: %+v", name, c)
		}
	}
	// A list that someone else signed revokes nothing.
	b, err := sim.Other().Collateral(sim.Collateral{Revoked: []*big.Int{serial}})
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(stapled[0], evidence.Item{MediaType: evidence.TypeDCAPCollateral, Value: b}); !r.Accepted() {
		t.Errorf("a stranger's list counts: %v", r.Checks.Failed())
	}
}
