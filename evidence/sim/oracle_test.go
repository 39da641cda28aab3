package sim_test

import (
	"bytes"
	"math/big"
	"testing"
	"time"

	"github.com/hf/nitrite"
	"github.com/veraison/ccatoken"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

func TestNitroByOracle(t *testing.T) {
	roots := pool(sim.Default().Simulator(evidence.Nitro).Anchors().AWS...)
	doc, err := sim.Default().NitroDocument(reportData, sim.Nitro{Nonce: []byte("nonce"), PublicKey: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := nitrite.Verify(doc, nitrite.VerifyOptions{Roots: roots, CurrentTime: sim.Epoch})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Document.UserData, reportData[:]) || string(r.Document.Nonce) != "nonce" || r.Document.ModuleID[:2] != "i-" {
		t.Errorf("got %+v", r.Document)
	}
	if _, err := nitrite.Verify(doc, nitrite.VerifyOptions{Roots: roots, CurrentTime: sim.Epoch.Add(4 * time.Hour)}); err == nil {
		t.Error("the certificate lives longer than AWS's")
	}
	other, err := sim.Other().NitroDocument(reportData, sim.Nitro{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nitrite.Verify(other, nitrite.VerifyOptions{Roots: roots, CurrentTime: sim.Epoch}); err == nil {
		t.Error("another world's document was accepted")
	}
}

func TestCCAByOracle(t *testing.T) {
	key := sim.Default().Simulator(evidence.CCA).Anchors().CCA[0]
	check := func(w *sim.World, o sim.CCA) error {
		b, err := w.CCAToken(reportData, o)
		if err != nil {
			t.Fatal(err)
		}
		e, err := ccatoken.DecodeAndValidateEvidenceFromCBOR(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := e.RealmClaims.GetChallenge(); err != nil || !bytes.Equal(c, reportData[:]) {
			t.Errorf("challenge %x, %v", c, err)
		}
		if id, err := e.PlatformClaims.GetImplID(); err != nil || w == sim.Default() && !bytes.Equal(id, key.ImplementationID) {
			t.Errorf("implementation %x, %v", id, err)
		}
		return e.Verify(key.Key)
	}
	if err := check(sim.Default(), sim.CCA{}); err != nil {
		t.Error(err)
	}
	if err := check(sim.Default(), sim.CCA{Unbound: true}); err == nil {
		t.Error("unbound: accepted")
	}
	if err := check(sim.Other(), sim.CCA{}); err == nil {
		t.Error("another world's: accepted")
	}
}

// TestStatuses: each status that is asked for is the one that is found, with its
// advisories, for TDX and SGX.
func TestStatuses(t *testing.T) {
	w := sim.Default()
	roots := w.Simulator(evidence.TDX)
	for _, sgx := range []bool{false, true} {
		find := func(o sim.Collateral) (*evidence.Result, evidence.Checks) {
			o.SGX = sgx
			c, err := w.Collateral(o)
			if err != nil {
				t.Fatal(err)
			}
			platform := sim.Platform{Processor: o.Processor}
			mediaType, quote := evidence.TypeTDX, []byte(nil)
			if sgx {
				mediaType = evidence.TypeSGX
				quote, err = w.SGXQuote(reportData, sim.SGX{Platform: platform})
			} else {
				quote, err = w.TDXQuote(reportData, sim.TDX{Platform: platform, Version: 5, Body15: true})
			}
			if err != nil {
				t.Fatal(err)
			}
			r := dcap.New(dcap.Options{}).Verify(mediaType, quote, &evidence.Trust{
				Anchors: &evidence.Anchors{}, Simulator: roots, Now: sim.Epoch.Add(time.Hour),
				Endorsements: []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: c}},
			})
			return r, r.Checks.Failed()
		}
		for _, s := range []evidence.TCBStatus{evidence.UpToDate, evidence.SWHardeningNeeded, evidence.ConfigurationNeeded, evidence.ConfigurationAndSWHardeningNeeded, evidence.OutOfDate, evidence.OutOfDateConfigurationNeeded, evidence.Revoked} {
			r, failed := find(sim.Collateral{Platform: sim.Level{Status: s, Advisories: []string{"INTEL-SA-09999"}}})
			if r.TCB == nil || r.TCB.Status != s || len(r.TCB.Advisories) != 1 {
				t.Errorf("SGX %t, %s: found %+v, failed %+v", sgx, s, r.TCB, failed)
			}
		}
		for name, tt := range map[string]struct {
			o    sim.Collateral
			want evidence.TCBStatus
		}{
			"qe out of date":     {sim.Collateral{QE: sim.Level{Status: evidence.OutOfDate}}, evidence.OutOfDate},
			"qe revoked":         {sim.Collateral{QE: sim.Level{Status: evidence.Revoked}}, evidence.Revoked},
			"processor CA":       {sim.Collateral{Processor: true}, evidence.UpToDate},
			"module out of date": {sim.Collateral{Module: sim.Level{Status: evidence.OutOfDate}}, evidence.OutOfDate},
		} {
			if sgx && name == "module out of date" || !sgx && name == "processor CA" {
				continue // SGX has no module; Intel's Processor CA issues for SGX only
			}
			r, failed := find(tt.o)
			if r.TCB == nil || r.TCB.Status != tt.want {
				t.Errorf("SGX %t, %s: found %+v, failed %+v", sgx, name, r.TCB, failed)
			}
		}
		_, serial, err := w.PCK(sim.Platform{})
		if err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]sim.Collateral{
			"no level":            {Platform: sim.Level{Missing: true}},
			"revoked":             {Revoked: []*big.Int{serial}},
			"CA revoked":          {RevokedPlatformCA: true},
			"TCB signing revoked": {RevokedTCBSigning: true},
			"forged":              {Forged: true},
			"not yet":             {Issued: sim.Epoch.AddDate(0, 0, 1)},
			"no more":             {NextUpdate: sim.Epoch.Add(time.Minute)},
			"CRL expired":         {CRLNextUpdate: sim.Epoch.Add(time.Minute)},
			"another machine's":   {FMSPC: [6]byte{1}},
			"another PCE's":       {PCEID: [2]byte{1}},
		} {
			if r, _ := find(o); r.Accepted() {
				t.Errorf("SGX %t, %s: accepted", sgx, name)
			}
		}
	}
}

// TestTimesOfDocuments: the option for certificates beside a document's time.
func TestTimesOfDocuments(t *testing.T) {
	doc, err := sim.Default().NitroDocument(reportData, sim.Nitro{NotAfter: sim.Epoch.Add(-time.Second), NotBefore: sim.Epoch.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	r := nitro.New(nitro.Options{}).Verify(evidence.TypeNitro, doc, &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: sim.Default().Simulator(evidence.Nitro), Now: sim.Epoch})
	if c, _ := r.Checks.Find("certificate-chain"); r.Accepted() || c.Outcome != evidence.Fail {
		t.Errorf("%+v", r.Checks)
	}
}
