package selftest

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/protocol"
)

// negatives stands for every negative case of the profile.
const negatives = "(negatives)"

// opens stands for every case that opens the server's key object.
const opens = "(all)"

// identityMutants are the mutants of profile identity, role server: what the
// sealed reference answers, with one thing changed. "plaintext-passes" is its
// trust layer in mode preferred.
var identityMutants = []mutant{
	m("refuses-nothing", httpBoth, negatives),
	m("always-busy", httpBoth, negatives),
	m("settings-altered", httpBoth, opens),
	m("key-altered", httpBoth, opens),
	m("no-key", httpBoth, "discover-key", "initialize-key"),
	m("answers-replays", httpBoth, "replay-open", "replay-other-connection", "replay-race", "replay-next", "retry", "retry-executed"),
	m("errors-400", httpBoth, "trust-error-200"),
	m("data-without-extension", httpBoth, "attest-trust-error"),
	m("open-failed-tells", httpBoth, "errors-alike"),
	m("call-status", httpBoth, "status-200"),
	m("no-store-absent", httpBoth, "no-store"),
	m("headers-ignored", httpBoth, "outer-name", "outer-param", "outer-method"),
	m("outside-ignored", httpBoth, "settings-outside"),
	m("discover-gated", httpBoth, "discover-ungated"),
	m("attest-gated", httpBoth, "attest-ungated"),
	m("attest-cached", httpBoth, "attest", "attest-same-keys"),
	m("nonce-in-discover", httpBoth, "discover-no-nonce"),
	m("ping-refused", httpBoth, "ping"),
	m("frames-changed", httpBoth, "call", "suite-1", "warm", "padded", "unknown-settings", "reordered-settings", "inner-error", "inner-notification", "outer-id", "one-salt", "concurrent"),
	m("not-in-experimental", httpBoth, "advertised-twice"),
	m("legacy-unadvertised", httpBoth, "advertised"),
	m("tells-capabilities", httpBoth, "discover-tells-nothing", "initialize-tells-nothing"),
	m("long-ttl", httpBoth, "discover-ttl"),
}

// identity tests the profile identity of role server.
func (s *Summary) identity(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var ours []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RoleServer && c.Profile == conformance.ProfileIdentity {
			ours = append(ours, c)
		}
	}
	rep, ran, err := runSealed(ctx, ours, "", nil)
	if err != nil {
		return fmt.Errorf("sealed reference: %w", err)
	}
	s.Runs++
	for _, r := range rep.Results {
		switch r.Outcome {
		case conformance.Pass:
			s.Verdicts++
			passed[r.Case.ID] = true
		case conformance.NotApplicable:
		default:
			s.Problems = append(s.Problems, fmt.Sprintf("the sealed reference: %s@%s: %s (%s)", r.Case.ID, r.Era, r.Outcome, r.Reason))
		}
	}
	if ran > 0 {
		s.Problems = append(s.Problems, fmt.Sprintf("the canary tool of the sealed reference ran %d times: a refusal was not one", ran))
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 3)
	for _, mt := range identityMutants {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			want := wanted(ours, mt.kills)
			rep, _, err := runSealed(ctx, ours, mt.fault, want)
			mu.Lock()
			defer mu.Unlock()
			s.Mutants++
			if err != nil {
				s.Problems = append(s.Problems, fmt.Sprintf("mutant %s: %v", mt.fault, err))
				return
			}
			hit := map[string]bool{}
			for _, r := range rep.Results {
				if r.Outcome == conformance.Fail || r.Outcome == conformance.Warn {
					hit[r.Case.ID] = true
				}
			}
			dead := true
			for _, id := range want {
				if hit[id] {
					killed[id] = true
				} else {
					dead = false
					s.Problems = append(s.Problems, fmt.Sprintf("mutant %s survived %s", mt.fault, id))
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

func wanted(cases []conformance.Case, kills []string) []string {
	var want []string
	for _, c := range cases {
		name := strings.TrimPrefix(c.ID, "server/identity/")
		if slices.Contains(kills, name) || kills[0] == negatives && c.Negative() || kills[0] == opens && !c.Negative() {
			want = append(want, c.ID)
		}
	}
	return want
}

// runSealed runs cases against the reference behind the project's own trust
// layer, and tells how often the canary tool ran.
func runSealed(ctx context.Context, cases []conformance.Case, fault reference.Fault, only []string) (*conformance.Report, int64, error) {
	var ran atomic.Int64
	inner := reference.New(reference.WithCanary(func(string) { ran.Add(1) }))
	defer inner.Close()
	h, err := reference.Sealed("http://127.0.0.1/mcp", inner, protocol.ModeRequired, false)
	if err != nil {
		return nil, 0, err
	}
	if fault != "" {
		h = reference.Bent(h, fault)
	}
	hs := httptest.NewServer(h)
	defer hs.Close()
	defer hs.CloseClientConnections()
	obs := &conformance.Observations{}
	target, err := wire.HTTP(hs.URL+"/mcp", nil, obs.Observe)
	if err != nil {
		return nil, 0, err
	}
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Cases: cases, Seed: 1, StepTimeout: 3 * time.Second, CanaryTool: reference.ToolName,
		Select: func(c *conformance.Case) bool { return only == nil || slices.Contains(only, c.ID) },
	})
	return rep, ran.Load(), err
}
