package selftest

import (
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/conformance/attested"
)

func TestAttestedServers(t *testing.T) {
	s, began := &Summary{}, time.Now()
	passed, killed := map[string]bool{}, map[string]bool{}
	if err := s.attested(t.Context(), attested.Cases(), passed, killed); err != nil {
		t.Fatal(err)
	}
	if err := s.attestedTLS(t.Context(), attested.Cases(), passed, killed); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Problems {
		t.Error(p)
	}
	for _, c := range attested.Cases() {
		if !passed[c.ID] || !killed[c.ID] {
			t.Errorf("%s: passed %v, killed a mutant %v", c.ID, passed[c.ID], killed[c.ID])
		}
	}
	t.Logf("%d cases, %d verdicts, %d of %d mutants killed, %s", len(attested.Cases()), s.Verdicts, s.Killed, s.Mutants, time.Since(began).Round(time.Millisecond))
}
