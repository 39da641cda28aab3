package appraise_test

import (
	"context"
	"crypto/sha256"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
)

// references is a store of n manifests' worth of reference values for TDX, of
// which one is the image's.
func references(tb testing.TB, n int) appraise.References {
	tb.Helper()
	var sets []map[string]any
	for i := range n {
		img := image
		if i != n/2 {
			img = sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		}
		set := map[string]any{}
		for name, v := range sim.Measurements(evidence.TDX, img) {
			set[name] = v
		}
		sets = append(sets, set)
	}
	c, err := tee.Manifest("bench", evidence.TDX, sets...)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := c.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	v, err := corim.Conveyed(b, "bench", corim.KeyID([]byte("bench")), &corim.Trust{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	store, err := acs.NewStore(v)
	if err != nil {
		tb.Fatal(err)
	}
	return appraise.CoRIM(store)
}

// BenchmarkEvaluate is all of an appraisal, from the bytes in a key object to the
// attestation result: warm (collateral and PCK chain were seen before), against
// 1,000 reference values.
func BenchmarkEvaluate(b *testing.B) {
	p := rules(func(r *appraise.Rules) { r.ReferenceValues = "required" })
	a, err := appraise.New(appraise.Config{Verifiers: verifiers.All(verifiers.Options{}), Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(), Policy: p, References: references(b, 1000)})
	if err != nil {
		b.Fatal(err)
	}
	for name, gpus := range map[string]int{"tdx": 0, "tdx and 8 GPUs": 8} {
		tee, err := sim.Default().TEE(sim.Options{Image: image, GPUs: gpus})
		if err != nil {
			b.Fatal(err)
		}
		w, err := tee.Attest(context.Background(), [64]byte(data))
		if err != nil {
			b.Fatal(err)
		}
		if gpus > 0 { // no reference values for those
			p := rules(func(r *appraise.Rules) { r.TCB.Unknown = true })
			if a, err = appraise.New(appraise.Config{Verifiers: verifiers.All(verifiers.Options{}), Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(), Policy: p}); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := a.Evaluate(appraise.Input{CMW: w, ReportData: data, Now: now})
				if r.Verdict != appraise.Accepted {
					b.Fatal(r.Explanation())
				}
				if _, err := r.EAR().EncodeCBOR(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The reference values decide: an image that no manifest lists is refused, and
// the explanation names what differs.
func TestReferences(t *testing.T) {
	p := rules(func(r *appraise.Rules) { r.ReferenceValues = "required" })
	known := newAppraiser(t, p, func(c *appraise.Config) { c.References = references(t, 3) })
	in := appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: data, Now: now}
	accepted(t, known.Evaluate(in))
	other, err := sim.Default().TEE(sim.Options{Image: sha256.Sum256([]byte("another"))})
	if err != nil {
		t.Fatal(err)
	}
	in.CMW = must(other.Attest(context.Background(), [64]byte(data)))
	refused(t, known.Evaluate(in), "policy-reference-values", "tdx")
	late := known.Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: data, Now: now.AddDate(30, 0, 0)})
	if late.Verdict != appraise.Refused {
		t.Error("thirty years later")
	}
}

// A manifest that names no measurement of the code vouches for no code.
func TestReferencesThatNameNothing(t *testing.T) {
	c, err := tee.Manifest("attributes", evidence.TDX, map[string]any{"tdx.tdattributes": []byte{0, 0, 0, 0x10, 0, 0, 0, 0}})
	if err != nil {
		t.Fatal(err)
	}
	v := must(corim.Conveyed(must(c.Encode()), "x", corim.KeyID([]byte("x")), &corim.Trust{Now: now}))
	a := newAppraiser(t, rules(func(r *appraise.Rules) { r.ReferenceValues = "required" }), func(c *appraise.Config) { c.References = appraise.CoRIM(must(acs.NewStore(v))) })
	r := a.Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: data, Now: now})
	refused(t, r, "policy-reference-values", "name no measurement of the code")
}
