package selftest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/conformance/aicc/ref"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/wire"
	aicchttp "github.com/trustedmcp/tmcp/transport/aicc"
)

// aicc tests the profile aicc-0.1, of servers and of clients. What the profile
// leaves open must be reported on each, and passes on none.
func (s *Summary) aicc(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var ours []conformance.Case
	for _, c := range cases {
		if c.Profile == conformance.ProfileAICC {
			ours = append(ours, c)
		}
	}
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	type run struct {
		role   conformance.Role
		mutant ref.Mutant
		own    bool // the project's own, not the reference
	}
	runs := []run{{role: conformance.RoleServer}, {role: conformance.RoleServer, own: true}, {role: conformance.RoleClient}}
	for _, m := range ref.Servers() {
		runs = append(runs, run{role: conformance.RoleServer, mutant: m})
	}
	for _, m := range ref.Clients() {
		runs = append(runs, run{role: conformance.RoleClient, mutant: m})
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	slots := make(chan struct{}, 4)
	for _, r := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var only []string
			for _, k := range r.mutant.Kills {
				only = append(only, string(r.role)+"/"+string(conformance.ProfileAICC)+"/"+k)
			}
			var rep *conformance.Report
			var err error
			if r.role == conformance.RoleServer {
				rep, err = runAICCServer(ctx, ours, priv, r.mutant.Fault, r.own, only)
			} else {
				rep, err = runAICCClient(ctx, ours, r.mutant.Fault, only)
			}
			mu.Lock()
			defer mu.Unlock()
			name := fmt.Sprintf("the reference %s of aicc-0.1", r.role)
			switch {
			case err != nil:
				failed = fmt.Errorf("%s, fault %q: %w", name, r.mutant.Fault, err)
			case only == nil:
				s.judgeAICC(name, rep, passed, killed)
			default:
				s.judgeMutant(name, reference.Fault(r.mutant.Fault), only, rep, killed)
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return ctx.Err()
}

// judgeAICC judges a run on a target without a fault.
func (s *Summary) judgeAICC(name string, rep *conformance.Report, passed, killed map[string]bool) {
	s.Runs++
	for _, r := range rep.Results {
		open := aicc.IsWeakness(r.Case)
		switch {
		case open && r.Outcome == conformance.Warn && strings.HasPrefix(r.Reason, aicc.Weakness):
			passed[r.Case.ID], killed[r.Case.ID] = true, true
		case !open && r.Outcome == conformance.Pass:
			s.Verdicts++
			passed[r.Case.ID] = true
		default:
			s.Problems = append(s.Problems, fmt.Sprintf("%s: %s: %s (%s)", name, r.Case.ID, r.Outcome, r.Reason))
		}
	}
}

func runAICCServer(ctx context.Context, cases []conformance.Case, priv *rsa.PrivateKey, fault string, own bool, only []string) (*conformance.Report, error) {
	inner := reference.New(reference.Only(conformance.Legacy))
	defer inner.Close()
	h := ref.Server(inner, priv, fault)
	if own {
		var err error
		if h, err = aicchttp.Handler(inner, aicchttp.ServerConfig{Keys: func() []*rsa.PrivateKey { return []*rsa.PrivateKey{priv} }}); err != nil {
			return nil, err
		}
	}
	srv := httptest.NewUnstartedServer(http.StripPrefix("/mcp", h))
	srv.Start()
	defer srv.Close()
	target, err := wire.HTTP(srv.URL+"/mcp", nil, nil)
	if err != nil {
		return nil, err
	}
	return conformance.Run(ctx, conformance.Config{Target: target, Survey: aicc.Survey(), Cases: cases, Seed: 1, StepTimeout: 5 * time.Second, CanaryTool: reference.ToolName,
		Trust:  conformance.Trust{AICC: &priv.PublicKey},
		Select: func(c *conformance.Case) bool { return selectAICC(c, conformance.RoleServer, only) }})
}

func runAICCClient(ctx context.Context, cases []conformance.Case, fault string, only []string) (*conformance.Report, error) {
	return conformance.RunClient(ctx, conformance.Config{Subject: ref.Client(fault), Survey: aicc.Survey(), Cases: cases, Seed: 1, StepTimeout: 5 * time.Second,
		Select: func(c *conformance.Case) bool { return selectAICC(c, conformance.RoleClient, only) }})
}

func selectAICC(c *conformance.Case, role conformance.Role, only []string) bool {
	return c.Role == role && (only == nil || slices.Contains(only, c.ID))
}
