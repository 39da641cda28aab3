package selftest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/policy"
	"github.com/trustedmcp/tmcp/conformance/policy/refhost"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// policy tests the role policy: this module's own host passes every case, each
// check that it makes is missed when it is overlooked, and each host with
// another flaw is caught by the cases made for it.
func (s *Summary) policy(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var mine []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RolePolicy {
			mine = append(mine, c)
		}
	}
	memo := &refhost.Memo{}
	run := func(name string, f *refhost.Flaw, only []string) (*conformance.Report, error) {
		// The interpreter compiles ten times as fast; most modules run for a moment only.
		subject := policy.InProcess(name, refhost.New(policywasm.Interpreter, f, memo))
		survey, err := policy.Survey(ctx, subject, 5*time.Second)
		if err != nil {
			return nil, err
		}
		return conformance.Run(ctx, conformance.Config{Target: subject, Survey: survey, Cases: mine, Seed: 1, StepTimeout: 20 * time.Second,
			Select: func(c *conformance.Case) bool { return only == nil || slices.Contains(only, c.ID) }})
	}
	rep, err := run("the reference host", nil, nil)
	if err != nil {
		return err
	}
	s.Runs++
	var decisions, failures []string
	rules := map[string][]string{} // cases by the check that refused
	for _, r := range rep.Results {
		if r.Outcome == conformance.Pass {
			s.Verdicts++
			passed[r.Case.ID] = true
		} else {
			s.Problems = append(s.Problems, fmt.Sprintf("the reference host: %s: %s (%s)", r.Case.ID, r.Outcome, r.Reason))
			continue
		}
		if !r.Case.Negative() {
			decisions = append(decisions, r.Case.ID)
			continue
		}
		failures = append(failures, r.Case.ID)
		var a policy.Answer
		if err := json.Unmarshal(r.Log[len(r.Log)-1].Bytes, &a); err != nil || len(a.Results) == 0 {
			s.Problems = append(s.Problems, fmt.Sprintf("the reference host: %s: no answer in its log", r.Case.ID))
			continue
		}
		rule := refhost.Rule(&a.Results[len(a.Results)-1])
		rules[rule] = append(rules[rule], r.Case.ID)
	}
	mutants := refhost.Mutants(decisions, failures)
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		mutants = append(mutants, refhost.Overlooks(rule, rules[rule]))
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2) // they compute all the time
	for _, m := range mutants {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rep, err := run("a host that "+m.Flaw.Name, m.Flaw, m.Kills)
			mu.Lock()
			defer mu.Unlock()
			s.Mutants++
			if err != nil {
				s.Problems = append(s.Problems, fmt.Sprintf("a host that %s: %v", m.Flaw.Name, err))
				return
			}
			dead, seen := true, 0
			for _, r := range rep.Results {
				if !slices.Contains(m.Kills, r.Case.ID) {
					continue
				}
				seen++
				switch {
				case r.Outcome == conformance.Fail && m.Whole:
					killed["any "+r.Case.ID] = true
				case r.Outcome == conformance.Fail:
					killed[r.Case.ID] = true
				case m.Whole && r.Outcome == conformance.Untestable: // its twin failed already
				default:
					dead = false
					s.Problems = append(s.Problems, fmt.Sprintf("a host that %s survived %s (%s %s)", m.Flaw.Name, r.Case.ID, r.Outcome, r.Reason))
				}
			}
			if seen != len(m.Kills) {
				dead = false
				s.Problems = append(s.Problems, fmt.Sprintf("a host that %s: %d of its %d cases exist", m.Flaw.Name, seen, len(m.Kills)))
			}
			if dead {
				s.Killed++
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}
