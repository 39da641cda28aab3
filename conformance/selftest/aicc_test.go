package selftest

import (
	"slices"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/conformance/aicc"
)

// TestAICC: references pass, each mutant is caught, and what the profile leaves
// open is reported on all.
func TestAICC(t *testing.T) {
	began := time.Now()
	s := &Summary{}
	passed, killed := map[string]bool{}, map[string]bool{}
	if err := s.aicc(t.Context(), aicc.Cases(), passed, killed); err != nil {
		t.Fatal(err)
	}
	for _, c := range aicc.Cases() {
		if !passed[c.ID] {
			t.Errorf("%s never passed on a reference", c.ID)
		}
		if !killed[c.ID] {
			t.Errorf("%s kills no mutant", c.ID)
		}
	}
	slices.Sort(s.Problems)
	for _, p := range s.Problems {
		t.Error(p)
	}
	t.Logf("%d runs, %d verdicts, %d of %d mutants killed, %s", s.Runs, s.Verdicts, s.Killed, s.Mutants, time.Since(began).Round(time.Millisecond))
}
