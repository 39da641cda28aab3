package appraise

import (
	"fmt"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
)

// CoRIM makes [References] of a store of verified manifests.
func CoRIM(s *acs.Store) References { return manifests{s} }

type manifests struct{ store *acs.Store }

// Compare asks CoRIM's reference verifier. The workload, which is the first
// environment of each TEE, must be corroborated; no other may be contradicted.
func (m manifests) Compare(v *evidence.Verified, now time.Time) *Comparison {
	// TMCP-19.1-3: A verifier MUST refuse evidence where any stage fails, and where it can't tell.
	failed := func(err error) *Comparison {
		return &Comparison{Known: true, Detail: "the comparison failed: " + err.Error()}
	}
	ects, err := tee.Evidence(v)
	if err != nil {
		return failed(err)
	}
	res, err := m.store.Appraise(ects, acs.Options{Now: now})
	if err != nil {
		return failed(err)
	}
	if len(res.Subjects) == 0 {
		return failed(fmt.Errorf("no environment of %s is known", v.Claims().Kind))
	}
	c := &Comparison{Matched: res.Subjects[0].Outcome == acs.Corroborated, Known: res.Subjects[0].Outcome != acs.Unknown}
	var said []string
	used := map[string]bool{}
	for i := range res.Subjects {
		s := &res.Subjects[i]
		switch s.Outcome {
		case acs.Contradicted:
			c.Matched, c.Known = false, true
			said = append(said, s.Explain())
		case acs.Corroborated:
			said = append(said, s.Explain())
			for _, r := range s.Matches {
				if !used[r.Manifest] {
					used[r.Manifest] = true
					c.Tags = append(c.Tags, r.Manifest)
				}
			}
		}
	}
	for _, man := range m.store.Manifests() {
		end := man.Validity().NotAfter
		if used[man.CoRIM().ID.String()] && !end.IsZero() && (c.NotAfter.IsZero() || end.Before(c.NotAfter)) {
			c.NotAfter = end
		}
	}
	if c.Detail = strings.Join(said, "; "); c.Detail == "" {
		c.Detail = res.Subjects[0].Explain()
	}
	return c
}
