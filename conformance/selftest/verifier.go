package selftest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/conformance/verifier/refverifier"
)

// verifier tests the role verifier: this module's own passes every case, and
// each one with a flaw is caught by the cases made for it.
func (s *Summary) verifier(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var mine []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RoleVerifier {
			mine = append(mine, c)
		}
	}
	run := func(name string, f *refverifier.Flaw, only []string) (*conformance.Report, error) {
		subject := verifier.InProcess(name, refverifier.New(f))
		survey, err := verifier.Survey(ctx, subject, 5*time.Second)
		if err != nil {
			return nil, err
		}
		return conformance.Run(ctx, conformance.Config{Target: subject, Survey: survey, Cases: mine, Seed: 1,
			Select: func(c *conformance.Case) bool { return only == nil || slices.Contains(only, c.ID) }})
	}
	rep, err := run("the reference verifier", nil, nil)
	if err != nil {
		return err
	}
	s.Runs++
	for _, r := range rep.Results {
		if r.Outcome == conformance.Pass {
			s.Verdicts++
			passed[r.Case.ID] = true
		} else {
			s.Problems = append(s.Problems, fmt.Sprintf("the reference verifier: %s: %s (%s)", r.Case.ID, r.Outcome, r.Reason))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2) // they compute all the time
	for _, m := range refverifier.Mutants() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rep, err := run("a verifier that "+m.Flaw.Name, m.Flaw, m.Kills)
			mu.Lock()
			defer mu.Unlock()
			s.Mutants++
			if err != nil {
				s.Problems = append(s.Problems, fmt.Sprintf("a verifier that %s: %v", m.Flaw.Name, err))
				return
			}
			dead := true
			for _, r := range rep.Results {
				switch {
				case !slices.Contains(m.Kills, r.Case.ID):
				case r.Outcome == conformance.Fail && m.Whole:
					killed["any "+r.Case.ID] = true
				case r.Outcome == conformance.Fail:
					killed[r.Case.ID] = true
				case m.Whole && r.Outcome == conformance.Untestable: // its twin failed already
				default:
					dead = false
					s.Problems = append(s.Problems, fmt.Sprintf("a verifier that %s survived %s (%s %s)", m.Flaw.Name, r.Case.ID, r.Outcome, r.Reason))
				}
			}
			if dead {
				s.Killed++
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}
