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
	if c.Matched && !identifies(&res.Subjects[0]) {
		// A manifest that names flags, versions or a mask of zeros only is met by any code.
		return &Comparison{Known: true, Detail: "the reference values that match name no measurement of the code: " + res.Subjects[0].Explain()}
	}
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

// Code points of the Intel profile that say which code runs.
const (
	mvalMRTEE    = -83
	mvalMRSigner = -84
)

// identifies reports whether a matching reference value names code: by a digest, or
// by registers. Raw values are of attributes and such.
func identifies(s *acs.Subject) bool {
	for _, ref := range s.Matches {
		for _, m := range ref.Record.Claims {
			v := &m.Values
			if len(v.Digests) > 0 || len(v.Registers) > 0 {
				return true
			}
			for _, f := range v.Extra {
				if f.Code == mvalMRTEE || f.Code == mvalMRSigner {
					return true
				}
			}
		}
	}
	return false
}
