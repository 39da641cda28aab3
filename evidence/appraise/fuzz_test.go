package appraise_test

import (
	"bytes"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// FuzzEvaluate: whatever stands in a key object's evidence claim is refused or
// accepted, with reasons; what is accepted is what was made.
func FuzzEvaluate(f *testing.F) {
	a := newAppraiser(f, rules(func(r *appraise.Rules) { r.TCB.Unknown = true }), nil)
	for _, o := range []sim.Options{{}, {Bare: true}, {GPUs: 1}} {
		f.Add(attest(f, o, data))
	}
	f.Add([]byte{0x83, 0x61, 'x', 0x41, 0, 4})
	f.Fuzz(func(t *testing.T, w []byte) {
		r := a.Evaluate(appraise.Input{CMW: w, ReportData: data, Now: now})
		switch {
		case r.Verdict == appraise.Accepted && (r.Err() != nil || len(r.Devices) == 0 || len(r.Checks.Failed()) > 0):
			t.Errorf("accepted, and %v", r.Err())
		case r.Verdict != appraise.Accepted && r.Err() == nil:
			t.Error("refused without a reason")
		}
		if r.Verdict == appraise.Accepted {
			for _, d := range r.Devices {
				if d.Kind == evidence.TDX && !bytes.Equal(d.Claims.ReportData, data) {
					t.Error("accepted with other report data")
				}
			}
		}
		if _, err := r.EAR().EncodeCBOR(); err != nil {
			t.Errorf("the result of it can't be written: %v", err)
		}
	})
}

func FuzzParseRules(f *testing.F) {
	f.Add([]byte(`{"name":"x","tees":["tdx"],"tcb":{"accept":["UpToDate"],"grace_days":30},"claims":{"tdx.mrtd":["00"]}}`))
	f.Add([]byte(`{"name":"x","development":true,"reference_values":"optional"}`))
	in := appraise.Input{CMW: attest(f, sim.Options{}, data), ReportData: data, Now: now}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := appraise.ParseRules(b)
		if err != nil {
			return
		}
		if p.Development() {
			newAppraiser(t, p, nil).Evaluate(in)
		} else if r := newAppraiser(t, p, nil).Evaluate(in); r.Verdict == appraise.Accepted {
			t.Errorf("a policy for production accepts a simulated TEE: %s", b)
		}
	})
}
