package appraise

import (
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
)

// A peer names its devices. One that is named like the end of another's name, or
// of a claim, gains nothing from checks that others passed.
func TestLabelsTakeNoChecks(t *testing.T) {
	rules, err := NewRules(Rules{Name: "r", ReferenceValues: "optional", Claims: map[string][]string{"tdx.mrtd": {"01"}}, Platforms: []string{"02"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, labels := range [][2]string{{"cpu", "gpu"}, {"a-b", "b"}, {"b", "tdx.mrtd-b"}, {"b", "mrtd-b"}} {
		now := time.Unix(1_795_176_000, 0)
		r := &Result{Verdict: Accepted, Policy: rules, Made: now, Expires: now.Add(time.Hour), developer: "d", build: "b", Devices: []Device{
			{Label: labels[0], Kind: evidence.TDX, Claims: &evidence.Claims{Values: map[string]any{"tdx.mrtd": []byte{1}}, Platform: []byte{2}}},
			{Label: labels[1], Kind: evidence.NVIDIA, Claims: &evidence.Claims{}},
		}}
		r.Checks = rules.Decide(&Facts{Devices: r.Devices, Now: now})
		if failed := r.Checks.Failed(); len(failed) > 0 && failed[0].Name != "policy-tcb-"+labels[0] {
			t.Fatal(failed)
		}
		v := *r.EAR().Submods[labels[1]].Vector
		if v[ear.Executables] != ear.UnrecognizedRuntime || v[ear.InstanceIdentity] != ear.NoClaim {
			t.Errorf("%v: of the GPU, whose code nobody knows, it says %d, and of its identity %d", labels, v[ear.Executables], v[ear.InstanceIdentity])
		}
		if v := *r.EAR().Submods[labels[0]].Vector; labels[0] == "cpu" && (v[ear.Executables] != ear.ApprovedRuntime || v[ear.InstanceIdentity] != ear.TrustworthyInstance) {
			t.Errorf("of the CPU it says %v", v)
		}
	}
}

// A policy's vector does not say which of several devices it means: what nobody
// verified of one stays unknown, but for the code. It never makes anything better.
func TestMergeOfSeveral(t *testing.T) {
	all := ear.Vector{}
	for i := range all {
		all[i] = 2
	}
	for _, one := range []bool{true, false} {
		v := merge(ear.Vector{ear.Executables: ear.UnrecognizedRuntime, ear.Hardware: ear.UnsafeHardware}, all, one)
		if (v[ear.InstanceIdentity] == 2) != one || v[ear.Executables] != 2 || v[ear.Hardware] != ear.UnsafeHardware {
			t.Errorf("of one device %v: %v", one, v)
		}
		if v := merge(ear.Vector{ear.Executables: ear.ContraindicatedRuntime}, all, one); v[ear.Executables] != ear.ContraindicatedRuntime {
			t.Errorf("what is known to be other code is now %v", v[ear.Executables])
		}
	}
}
