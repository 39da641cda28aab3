package selftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// Summary is the outcome of a self-test.
type Summary struct {
	Runs     int // of the reference
	Verdicts int // passes of the reference
	Mutants  int
	Killed   int
	Problems []string // empty when the suite is sound
}

// part is one independent part of a self-test.
type part struct {
	Summary
	passed, killed map[string]bool
}

// Score is the share of mutants that were killed, in percent.
func (s *Summary) Score() float64 {
	if s.Mutants == 0 {
		return 0
	}
	return 100 * float64(s.Killed) / float64(s.Mutants)
}

// Run tests the suite on the reference, in every role that it has.
func Run(ctx context.Context) (*Summary, error) {
	cases := catalog.All()
	if err := conformance.Validate(cases); err != nil {
		return nil, err
	}
	sum := &Summary{}
	passed := map[string]bool{}
	for _, s := range []setup{httpBoth, stdioBoth, httpModern, stdioModern} {
		rep, err := runOne(ctx, cases, s, "", nil)
		if err != nil {
			return nil, fmt.Errorf("reference over %s: %w", s, err)
		}
		sum.Runs++
		for _, r := range rep.Results {
			switch r.Outcome {
			case conformance.Pass:
				sum.Verdicts++
				passed[r.Case.ID] = true
			case conformance.NotApplicable:
			default:
				sum.Problems = append(sum.Problems, fmt.Sprintf("the reference over %s: %s: %s (%s)", s, r.Case.ID, r.Outcome, r.Reason))
			}
		}
	}
	killed := map[string]bool{}
	// The parts have nothing in common but their findings.
	sums, errs := make([]part, 9), make([]error, 9)
	var wg sync.WaitGroup
	for i := range sums {
		sums[i] = part{passed: map[string]bool{}, killed: map[string]bool{}}
		wg.Go(func() {
			switch i {
			case 0:
				errs[i] = sums[i].hunt(ctx, cases, sums[i].killed)
			case 1:
				errs[i] = sums[i].identity(ctx, cases, sums[i].passed, sums[i].killed)
			case 2:
				errs[i] = sums[i].relay(ctx, cases, sums[i].passed, sums[i].killed)
			case 4:
				errs[i] = sums[i].attested(ctx, cases, sums[i].passed, sums[i].killed)
			case 3:
				errs[i] = sums[i].client(ctx, cases, sums[i].passed, sums[i].killed)
			case 6:
				errs[i] = sums[i].attestedTLS(ctx, cases, sums[i].passed, sums[i].killed)
			case 7:
				errs[i] = sums[i].policy(ctx, cases, sums[i].passed, sums[i].killed)
			case 8:
				errs[i] = sums[i].aicc(ctx, cases, sums[i].passed, sums[i].killed)
			case 5:
				errs[i] = sums[i].verifier(ctx, cases, sums[i].passed, sums[i].killed)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, p := range sums {
		sum.Runs += p.Runs
		sum.Verdicts += p.Verdicts
		sum.Mutants += p.Mutants
		sum.Killed += p.Killed
		sum.Problems = append(sum.Problems, p.Problems...)
		maps.Copy(passed, p.passed)
		maps.Copy(killed, p.killed)
	}
	for i := range cases {
		c := &cases[i]
		if c.Role == conformance.RoleClient && c.Profile != conformance.ProfileAICC {
			continue // its cases have a self-test of their own
		}
		if !passed[c.ID] {
			sum.Problems = append(sum.Problems, fmt.Sprintf("%s never passed on the reference", c.ID))
		}
		if !killed[c.ID] && !killed["any "+c.ID] {
			sum.Problems = append(sum.Problems, fmt.Sprintf("%s kills no mutant", c.ID))
		}
	}
	slices.Sort(sum.Problems)
	return sum, ctx.Err()
}

// hunt runs each mutant against the cases that must notice it.
func (s *Summary) hunt(ctx context.Context, cases []conformance.Case, killed map[string]bool) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8) // mutants mostly wait
	for _, mu1 := range coreMutants {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var want []string
			for _, k := range mu1.kills {
				want = append(want, "server/core/"+k)
			}
			rep, err := runOne(ctx, cases, mu1.setup, mu1.fault, want)
			mu.Lock()
			defer mu.Unlock()
			s.Mutants++
			var missing *conformance.PrerequisiteError
			if err != nil && !errors.As(err, &missing) {
				s.Problems = append(s.Problems, fmt.Sprintf("mutant %s over %s: %v", mu1.fault, mu1.setup, err))
				return
			}
			dead := true
			for _, id := range want {
				hit := missing != nil // it no longer speaks MCP at all
				note := "did not run"
				for _, r := range results(rep) {
					if r.Case.ID == id {
						note = fmt.Sprintf("%s %s", r.Outcome, r.Reason)
						hit = r.Outcome == conformance.Fail || r.Outcome == conformance.Warn
					}
				}
				if hit {
					killed[id] = true
				} else {
					dead = false
					s.Problems = append(s.Problems, fmt.Sprintf("mutant %s over %s survived %s (%s)", mu1.fault, mu1.setup, id, note))
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

func results(r *conformance.Report) []*conformance.Result {
	if r == nil {
		return nil
	}
	return r.Results
}

// runOne runs cases against one reference in this process.
func runOne(ctx context.Context, cases []conformance.Case, s setup, fault reference.Fault, only []string) (*conformance.Report, error) {
	opts := []reference.Option{reference.WithFault(fault)}
	if strings.HasSuffix(string(s), "modern") {
		opts = append(opts, reference.Only(conformance.Modern))
	}
	srv := reference.New(opts...)
	defer srv.Close()
	obs := &conformance.Observations{Validator: SchemaValidator}
	var target wire.Target
	if strings.HasPrefix(string(s), "http") {
		hs := httptest.NewUnstartedServer(srv)
		hs.Listener = srv.Listener(hs.Listener)
		hs.Start()
		defer hs.Close()
		defer hs.CloseClientConnections()
		t, err := wire.HTTP(hs.URL, nil, obs.Observe)
		if err != nil {
			return nil, err
		}
		target = t
	} else {
		target = wire.Pipe("reference", func(in io.Reader, out io.Writer) { srv.Serve(in, out) }, obs.Observe)
	}
	step := 5 * time.Second
	if fault != "" {
		step = time.Second // a mutant may well not answer
	}
	return conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Cases: cases, Seed: 1, StepTimeout: step, StartTimeout: step, CanaryTool: reference.ToolName,
		Select: func(c *conformance.Case) bool {
			if c.Role != conformance.RoleServer || c.Profile != conformance.ProfileCore {
				return false
			}
			return only == nil || slices.Contains(only, c.ID)
		},
	})
}
