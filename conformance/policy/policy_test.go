package policy_test

import (
	"context"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/policy"
	"github.com/trustedmcp/tmcp/conformance/policy/refhost"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

func run(t *testing.T, subject *policy.Subject) *conformance.Report {
	t.Helper()
	t.Cleanup(subject.Close)
	survey, err := policy.Survey(context.Background(), subject, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := conformance.Run(context.Background(), conformance.Config{Target: subject, Survey: survey, Cases: policy.Cases(), Seed: 1, StepTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// The module's own host passes, with the engine that hosts use by default.
func TestReference(t *testing.T) {
	rep := run(t, policy.InProcess("reference", refhost.New(policywasm.Auto, nil, nil)))
	for _, r := range rep.Results {
		if r.Outcome != conformance.Pass {
			t.Errorf("%s: %s %s", r.Case.ID, r.Outcome, r.Reason)
		}
	}
}
