package sim_test

import (
	"context"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/protocol"
)

// attest has a TEE make evidence and takes it apart.
func attest(t *testing.T, tee *sim.TEE) (items, endorsements []evidence.Item) {
	t.Helper()
	b, err := tee.Attest(context.Background(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > protocol.MaxEvidence {
		t.Fatalf("%d bytes of evidence, more than a key object may hold", len(b))
	}
	t.Logf("%s: %d bytes", tee.Kind(), len(b))
	c, err := cmw.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Walk(func(_ cmw.Path, r *cmw.Record) error {
		i := evidence.Item{MediaType: r.MediaType, Value: r.Value}
		if r.Ind == cmw.Evidence {
			items = append(items, i)
		} else {
			endorsements = append(endorsements, i)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return items, endorsements
}

func verifiers() []evidence.Verifier {
	return []evidence.Verifier{dcap.New(dcap.Options{}), sevsnp.New(sevsnp.Options{}), nitro.New(nitro.Options{}), new(nvidia.Verifier)}
}

func verify(t *testing.T, i evidence.Item, trust *evidence.Trust) *evidence.Result {
	t.Helper()
	for _, v := range verifiers() {
		for _, m := range v.MediaTypes() {
			if m == i.MediaType {
				return v.Verify(i.MediaType, i.Value, trust)
			}
		}
	}
	t.Fatalf("no verifier of %s", i.MediaType)
	return nil
}

// TestTEEsByOurVerifiers: what a simulated TEE makes is accepted under the
// simulator's roots, is marked as simulated, has the measurements that were
// foretold, and is refused by everyone who trusts vendors only.
func TestTEEsByOurVerifiers(t *testing.T) {
	w := sim.Default()
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	image := [32]byte{7}
	for _, kind := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro} {
		t.Run(string(kind), func(t *testing.T) {
			tee, err := w.TEE(sim.Options{Kind: kind, Image: image, GPUs: 2, Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			items, endorsements := attest(t, tee)
			for _, i := range items {
				trust := &evidence.Trust{Anchors: vendor.Anchors(), Simulator: w.Simulator(), Now: now, Endorsements: endorsements}
				r := verify(t, i, trust)
				if !r.Accepted() {
					t.Fatalf("%s: %+v", i.MediaType, r.Checks)
				}
				c := r.Verified().Claims()
				if !c.Simulated || c.Debug || len(c.Platform) == 0 && kind != evidence.Nitro {
					t.Errorf("simulated %t, debug %t, platform %x", c.Simulated, c.Debug, c.Platform)
				}
				if c.Kind == kind {
					if string(c.ReportData) != string(reportData[:]) {
						t.Errorf("report data %x", c.ReportData)
					}
					for name, want := range sim.Measurements(kind, image) {
						if got, _ := c.Values[name].([]byte); string(got) != string(want) {
							t.Errorf("%s is %x, want %x", name, got, want)
						}
					}
				}
				trust.Simulator = nil
				if r := verify(t, i, trust); r.Accepted() || r.Verified() != nil {
					t.Error("accepted under the roots of vendors")
				}
				trust.Simulator = sim.Other().Simulator()
				if r := verify(t, i, trust); r.Accepted() || r.Verified() != nil {
					t.Error("accepted under the roots of another world")
				}
			}
		})
	}
}
