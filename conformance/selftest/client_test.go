package selftest

import (
	"slices"
	"testing"

	"github.com/trustedmcp/tmcp/conformance/client"
)

func TestClientRole(t *testing.T) {
	s := &Summary{}
	passed, killed := map[string]bool{}, map[string]bool{}
	if err := s.client(t.Context(), client.Cases(), passed, killed); err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.Problems)
	for _, p := range s.Problems {
		t.Error(p)
	}
	for _, c := range client.Cases() {
		if !killed[c.ID] {
			t.Logf("no mutant for the positive case %s", c.ID)
		}
	}
	t.Logf("%d verdicts, %d of %d mutants killed", s.Verdicts, s.Killed, s.Mutants)
}
