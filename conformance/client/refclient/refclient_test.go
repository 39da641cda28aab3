package refclient_test

import (
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/client"
	"github.com/trustedmcp/tmcp/conformance/client/refclient"
)

func TestReferencePasses(t *testing.T) {
	s := client.InProcess("reference client", refclient.Main(nil))
	cases := client.Cases()
	if err := conformance.Validate(cases); err != nil {
		t.Fatal(err)
	}
	sv, err := client.Survey(t.Context(), s, 5*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := conformance.Run(t.Context(), conformance.Config{Target: s, Cases: cases, Survey: sv, StepTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if r.Outcome != conformance.Pass {
			t.Errorf("%s@%s: %s: %s", r.Case.ID, r.Era, r.Outcome, r.Reason)
		} else if testing.Verbose() {
			why := ""
			for _, e := range r.Log {
				if e.Kind == "stderr" {
					why = string(e.Bytes)
				}
			}
			t.Logf("%s@%s %v %s", r.Case.ID, r.Era, r.Duration.Round(100*time.Microsecond), why)
		}
	}
	t.Logf("%d results, %d cases", len(rep.Results), len(cases))
}
