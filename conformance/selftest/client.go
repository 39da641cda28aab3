package selftest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/client"
	"github.com/trustedmcp/tmcp/conformance/client/refclient"
)

// client tests the role client: the reference client passes every case, and
// each client with a flaw is caught by the cases made for it.
func (s *Summary) client(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var mine []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RoleClient && c.Profile != conformance.ProfileAICC {
			mine = append(mine, c)
		}
	}
	// What the reference client does was found out once; its mutants do the same.
	good := client.InProcess("the reference client", refclient.Main(nil))
	survey, err := client.Survey(ctx, good, 5*time.Second, nil)
	if err != nil {
		return err
	}
	s.Runs++
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2*max(2, runtime.GOMAXPROCS(0))) // clients mostly wait
	run := func(main client.Main, step time.Duration, only map[string]bool) (*conformance.Report, error) {
		subject := client.InProcess("a client", main)
		subject.Hang = 30 * time.Millisecond
		return conformance.Run(ctx, conformance.Config{Target: subject, Survey: survey, Cases: mine, Seed: 1, StepTimeout: step,
			Select: func(c *conformance.Case) bool { return only[c.ID] }})
	}
	var errs []error
	do := func(f func() error) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := f(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	for _, share := range shares(mine, 4) {
		do(func() error {
			rep, err := run(refclient.Main(nil), 10*time.Second, share)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rep.Results {
				if r.Outcome == conformance.Pass {
					s.Verdicts++
					passed[r.Case.ID] = true
				} else {
					s.Problems = append(s.Problems, fmt.Sprintf("the reference client: %s@%s: %s (%s)", r.Case.ID, r.Era, r.Outcome, r.Reason))
				}
			}
			return nil
		})
	}
	for _, m := range refclient.Mutants() {
		do(func() error {
			want := map[string]bool{}
			for _, k := range m.Kills {
				want["client/"+k] = true
			}
			rep, err := run(refclient.Main(m.Flaw), 2*time.Second, want)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			s.hunted(m, rep, killed)
			return nil
		})
	}
	wg.Wait()
	for i := range mine {
		c := &mine[i]
		if !passed[c.ID] {
			s.Problems = append(s.Problems, fmt.Sprintf("%s never passed on the reference client", c.ID))
		}
		if c.Negative() && !killed[c.ID] {
			s.Problems = append(s.Problems, fmt.Sprintf("%s kills no mutant", c.ID))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// hunted counts a mutant as killed when each case made for it caught it in one
// era at least.
func (s *Summary) hunted(m refclient.Mutant, rep *conformance.Report, killed map[string]bool) {
	s.Mutants++
	dead := true
	for _, k := range m.Kills {
		id, note, hit := "client/"+k, "did not run", false
		for _, r := range rep.Results {
			if r.Case.ID != id {
				continue
			}
			if hit = hit || r.Outcome == conformance.Fail || r.Outcome == conformance.Warn; !hit {
				note = fmt.Sprintf("%s %s", r.Outcome, r.Reason)
			}
		}
		if hit {
			killed[id] = true
			continue
		}
		dead = false
		s.Problems = append(s.Problems, fmt.Sprintf("the client that %s survived %s (%s)", m.Flaw.Name, id, note))
	}
	if dead {
		s.Killed++
	}
}

// shares deals the cases out. The case that waits for a key to expire is dealt
// first, and alone.
func shares(cases []conformance.Case, n int) []map[string]bool {
	const slow = "client/identity/key-expires"
	out := []map[string]bool{{slow: true}}
	for range n - 1 {
		out = append(out, map[string]bool{})
	}
	for i := range cases {
		if cases[i].ID != slow {
			out[1+i%(n-1)][cases[i].ID] = true
		}
	}
	return out
}
