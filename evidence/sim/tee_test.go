package sim_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cca"
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
	return []evidence.Verifier{dcap.New(dcap.Options{}), sevsnp.New(sevsnp.Options{}), nitro.New(nitro.Options{}), new(nvidia.Verifier), cca.New(cca.Options{})}
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
	for _, kind := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA} {
		t.Run(string(kind), func(t *testing.T) {
			tee, err := w.TEE(sim.Options{Kind: kind, Image: image, GPUs: 2, Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			items, endorsements := attest(t, tee)
			gpus := 0
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
				image := image
				if c.Kind == evidence.NVIDIA {
					image = [32]byte{}
				}
				if c.Kind == kind {
					if string(c.ReportData) != string(reportData[:]) {
						t.Errorf("report data %x", c.ReportData)
					}
				}
				foretold := sim.Measurements(c.Kind, image)
				if len(foretold) == 0 {
					t.Errorf("nothing is foretold of %s", c.Kind)
				}
				for name, want := range foretold {
					if got, _ := c.Values[name].([]byte); string(got) != string(want) {
						t.Errorf("%s is %x, want %x", name, got, want)
					}
				}
				if len(c.ReportData) == 32 { // a GPU
					gpu := nvidia.GPUNonce(reportData[:], gpus)
					gpus++
					if string(c.ReportData) != string(gpu[:]) {
						t.Errorf("the GPU is not bound to the CPU")
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

// TestDebug: machines whose operator looks inside say so.
func TestDebug(t *testing.T) {
	w := sim.Default()
	for _, kind := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA} {
		tee, err := w.TEE(sim.Options{Kind: kind, Debug: true})
		if err != nil {
			t.Fatal(err)
		}
		items, endorsements := attest(t, tee)
		r := verify(t, items[0], &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: w.Simulator(kind), Now: sim.Epoch, Endorsements: endorsements})
		if r.Accepted() || r.Verified() == nil || !r.Verified().Claims().Debug {
			t.Errorf("%s: %+v", kind, r.Checks)
		}
	}
}

// TestMostGPUs: what the documentation says of how many GPUs fit.
func TestMostGPUs(t *testing.T) {
	for _, o := range []sim.Options{{GPUs: 4}, {GPUs: 5, Bare: true}, {GPUs: 5, Kind: evidence.SNP}} {
		if _, err := sim.Default().TEE(o); err != nil {
			t.Error(err)
		}
	}
}

// TestNoVendorsAnchor: nothing of a simulator's becomes an anchor of production,
// even when someone configures it.
func TestNoVendorsAnchor(t *testing.T) {
	for _, kind := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.NVIDIA, evidence.CCA} {
		a := sim.Default().Simulator(kind).Anchors()
		if len(a.Intel)+len(a.AMD)+len(a.AWS)+len(a.NVIDIA)+len(a.CCA) == 0 {
			t.Errorf("%s: no roots", kind)
		}
		if err := a.Check(); err == nil {
			t.Errorf("%s: a simulator's roots pass as a vendor's", kind)
		}
	}
	if a := sim.Default().Simulator("abacus").Anchors(); a.Check() != nil || len(a.Intel) != 0 {
		t.Errorf("a kind that is not simulated has roots: %+v", a)
	}
}

// TestRunningClock: what is stapled is renewed daily, and not more often.
func TestRunningClock(t *testing.T) {
	now := time.Date(2026, 11, 21, 23, 59, 0, 0, time.UTC)
	tee, err := sim.Default().TEE(sim.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	_, first := attest(t, tee)
	_, again := attest(t, tee)
	now = now.Add(2 * time.Minute)
	_, next := attest(t, tee)
	if string(first[0].Value) != string(again[0].Value) || string(first[0].Value) == string(next[0].Value) {
		t.Error("the collateral is not the day's")
	}
}

func TestOddOptions(t *testing.T) {
	w := sim.Default()
	far := time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, o := range map[string]sim.Options{
		"kind":           {Kind: "abacus"},
		"GPU alone":      {Kind: evidence.NVIDIA},
		"too many GPUs":  {GPUs: 9},
		"negative GPUs":  {GPUs: -1},
		"version":        {TDX: sim.TDX{Version: 3}},
		"body":           {TDX: sim.TDX{Body15: true}},
		"padding":        {TDX: sim.TDX{Padding: -1}},
		"year 12000":     {Collateral: sim.Collateral{Issued: far}},
		"nil serial":     {Collateral: sim.Collateral{Revoked: []*big.Int{nil}}},
		"PCR":            {Kind: evidence.Nitro, Nitro: sim.Nitro{PCRs: map[int][48]byte{32: {}}}},
		"Nitro's time":   {Kind: evidence.Nitro, Nitro: sim.Nitro{Time: far}},
		"chip":           {GPUs: 1, GPU: sim.GPU{Chip: "GT200"}},
		"driver":         {GPUs: 1, GPU: sim.GPU{Driver: "\n"}},
		"configuration":  {Kind: evidence.CCA, CCA: sim.CCA{Config: make([]byte, 1<<20)}},
		"product":        {Kind: evidence.SNP, SNP: sim.SNP{Product: "Rome"}},
		"report version": {Kind: evidence.SNP, SNP: sim.SNP{Version: 9}},
		"certificate":    {TDX: sim.TDX{Platform: sim.Platform{NotAfter: far}}},
	} {
		if tee, err := w.TEE(o); err == nil {
			t.Errorf("%s: got %v", name, tee)
		}
	}
	if tee, err := w.TEE(sim.Options{GPUs: sim.MaxGPUs}); err != nil {
		t.Errorf("a host of eight GPUs: %v", err)
	} else if _, err := tee.Attest(t.Context(), [64]byte{}); err != nil {
		t.Errorf("evidence of eight GPUs: %v", err)
	}
	for _, n := range []int{0, 15, 1025} {
		if _, err := sim.New(make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes: no error", n)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tee, err := w.TEE(sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tee.Attest(ctx, reportData); err == nil {
		t.Error("attested for a caller who is gone")
	}
}

// TestStable pins what a seed gives, so that vectors made from it hold.
func TestStable(t *testing.T) {
	w, err := sim.New([]byte("a seed for a test"))
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[evidence.Kind]string{
		evidence.TDX:   "4f30a7878c65486e",
		evidence.SGX:   "5874435fca2cd560",
		evidence.Nitro: "3c45705fb3e80a69",
		evidence.CCA:   "8d8e62d0dd502d68",
	} {
		tee, err := w.TEE(sim.Options{Kind: kind, GPUs: 1})
		if err != nil {
			t.Fatal(err)
		}
		b, err := tee.Attest(context.Background(), reportData)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b))[:16]; got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
	// The default world has its primes at hand.
	tee, err := sim.Default().TEE(sim.Options{Kind: evidence.SNP})
	if err != nil {
		t.Fatal(err)
	}
	b, err := tee.Attest(context.Background(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", sha256.Sum256(b))[:16], "54afa52f99741a25"; got != want {
		t.Errorf("sev-snp: %s, want %s", got, want)
	}
}

// TestWorldsDiffer: no key of one world is one of another.
func TestWorldsDiffer(t *testing.T) {
	a, err := sim.Default().TDXQuote(reportData, sim.TDX{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := sim.Other().TDXQuote(reportData, sim.TDX{})
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := 636; i < 636+128; i++ { // signature and attestation key
		if a[i] == b[i] {
			same++
		}
	}
	if same > 16 {
		t.Errorf("%d of 128 bytes are the same", same)
	}
}

func BenchmarkAttest(b *testing.B) {
	for _, kind := range []evidence.Kind{evidence.TDX, evidence.SNP, evidence.Nitro} {
		b.Run(string(kind), func(b *testing.B) {
			tee, err := sim.Default().TEE(sim.Options{Kind: kind})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tee.Attest(context.Background(), reportData); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
