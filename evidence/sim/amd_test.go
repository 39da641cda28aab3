package sim_test

import (
	"bytes"
	"math/big"
	"testing"
	"time"

	sevabi "github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	sevverify "github.com/google/go-sev-guest/verify"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

func TestSNP(t *testing.T) {
	w := sim.Default()
	now := sim.Epoch.Add(time.Hour)
	milan, err := w.SNPKey(sim.SNP{})
	if err != nil {
		t.Fatal(err)
	}
	crl, err := w.SNPRevocations("Milan", sim.Epoch, sim.Epoch.AddDate(0, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := w.SNPRevocations("Milan", sim.Epoch, sim.Epoch.AddDate(0, 1, 0), milan[1].SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	low := sim.DefaultSNPTCB
	low.SNP--
	for name, tt := range map[string]struct {
		o     sim.SNP
		world *sim.World
		crl   []byte
		want  string // the check that fails
	}{
		"Milan":                   {},
		"Milan, version 2":        {o: sim.SNP{Version: 2}},
		"Milan, version 5":        {o: sim.SNP{Version: 5}},
		"Milan, VLEK":             {o: sim.SNP{VLEK: true}},
		"Genoa":                   {o: sim.SNP{Product: "Genoa"}},
		"Genoa, VLEK":             {o: sim.SNP{Product: "Genoa", VLEK: true}},
		"Turin":                   {o: sim.SNP{Product: "Turin"}},
		"Turin, VLEK":             {o: sim.SNP{Product: "Turin", VLEK: true}},
		"masked":                  {o: sim.SNP{MaskChipID: true}},
		"not revoked":             {crl: crl},
		"intermediate revoked":    {crl: revoked, want: "revocation"},
		"debug":                   {o: sim.SNP{Debug: true}, want: "debug"},
		"certified for less":      {o: sim.SNP{Certified: low}, want: "tcb-endorsed"},
		"expired":                 {o: sim.SNP{NotAfter: now.Add(-time.Second)}, want: "endorsement-validity"},
		"of a world nobody knows": {world: sim.Other(), want: "endorsement-chain"},
	} {
		t.Run(name, func(t *testing.T) {
			world := w
			if tt.world != nil {
				world = tt.world
			}
			report, err := world.SNPReport(reportData, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			certs, err := world.SNPKey(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			// Google's library on signature and extensions. It does not go up to the
			// root: it wants AMD's name in each subject.
			key := sevabi.VcekReportSigner
			if tt.o.VLEK {
				key = sevabi.VlekReportSigner
			}
			if _, err := kds.CertificateExtensions(certs[0], key); err != nil && tt.o.Product != "Turin" { // it does not know Turin's
				t.Error(err)
			}
			if err := sevverify.SnpReportSignature(report, certs[0]); err != nil {
				t.Error(err)
			}
			trust := &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: w.Simulator("sev-snp"), Now: now}
			if tt.crl != nil {
				trust.Endorsements = append(trust.Endorsements, evidence.Item{MediaType: evidence.TypeCRL, Value: tt.crl})
			}
			r := sevsnp.New(sevsnp.Options{}).Verify(evidence.TypeSNP, append(bytes.Clone(report), sim.CertificateTable(certs[0])...), trust)
			failed := r.Checks.Failed()
			if tt.want == "" && !r.Accepted() || tt.want != "" && (len(failed) != 1 || failed[0].Name != tt.want) {
				t.Errorf("failed: %+v; want %q", failed, tt.want)
			}
		})
	}
}

func TestSNPOddOptions(t *testing.T) {
	w := sim.Default()
	for _, o := range []sim.SNP{{Product: "Naples"}, {Version: 1}, {Version: 6}} {
		if _, err := w.SNPReport(reportData, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if _, err := w.SNPRevocations("Milan", sim.Epoch, sim.Epoch, nil); err == nil {
		t.Error("nil serial number: no error")
	}
	if _, err := w.SNPRevocations("Naples", sim.Epoch, sim.Epoch.Add(1), []*big.Int{}...); err == nil {
		t.Error("unknown product: no error")
	}
}
