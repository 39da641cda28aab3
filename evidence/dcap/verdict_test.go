package dcap_test

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

func level(s evidence.TCBStatus, advisories ...string) sim.Level {
	return sim.Level{Status: s, Advisories: advisories}
}

// TestVerdicts has one cause in each case.
// T5: the status is a value, where go-tdx-guest tells it in the text of an error.
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
