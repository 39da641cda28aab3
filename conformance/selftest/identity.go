package selftest

import (
	"context"
	"fmt"
	"io"
	"net/http"
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

// onlyStdio stands for every case that concerns stdio alone.
const onlyStdio = "(stdio)"

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

// secondMutants are servers that skip one check: the reference written a
// second time, with that check left out.
var secondMutants = []mutant{
	m("any-cbor", httpBoth, "cbor-trailing", "cbor-indefinite", "cbor-not-shortest"),
	m("any-base64", httpBoth, "frame-padded", "frame-newline"),
	m("any-suite", httpBoth, "suite-unknown"),
	m("any-offered-suite", httpBoth, "suite-rewrite"),
	m("any-key-digest", httpBoth, "unknown-key"),
	m("outside-unchecked", httpBoth, "settings-outside"),
	m("client-key-ignored", httpBoth, "client-key-added"),
	m("any-client-carrier", httpBoth, "client-carriers"),
	m("any-profile", httpBoth, "client-profile"),
	m("any-revision", httpBoth, "revision-inside"),
	m("any-settings-version", httpBoth, "settings-version-2"),
	m("settings-unchecked", httpBoth, "settings-member", "settings-type", "settings-unsorted"),
	m("info-lenient", httpBoth, "info-role", "info-label", "info-server-settings", "info-client-settings", "settings-rewritten", "revision-rewritten"),
	m("plaintext-served", httpBoth, "plaintext-undeclared", "plaintext-list-undeclared", "plaintext-call", "plaintext-list", "plaintext-unknown"),

	m("no-replay-cache", httpBoth, "replay-open", "replay-other-connection", "replay-race", "inline-replay", "http-replay"),
	m("no-window", httpBoth, "replay-next"),
	m("no-window-edge", httpBoth, "before-window"),
	m("marks-before-open", httpBoth, "unmarked"),
	m("open-failed-for-unknown-context", httpBoth, "unknown-context"),
	m("any-first-chunk", httpBoth, "chunk-first"),
	m("retry-unchecked", httpBoth, "retry", "retry-executed", "retry-far", "retry-old"),
	m("retry-not-burned", httpBoth, "retry"),
	m("retry-in-next-served", httpBoth, "retry-in-next"),
	m("retry-moves-window", httpBoth, "retry-far"),
	m("retry-any-age", httpBoth, "retry-old"),

	m("any-carrier-opens", httpBoth, "aad-carrier", "carrier-moved", "inline-envelope-frame"),
	m("labels-open", httpBoth, "aad-labels"),
	m("tool-anywhere", httpBoth, "aad-tool"),
	m("final-unprotected", httpBoth, "aad-final", "not-final", "http-final-set"),
	m("seq-unprotected", httpBoth, "seq-rewritten"),
	m("kinds-unchecked", httpBoth, "content-kind-unknown", "content-kind-zero", "content-kind-end", "content-kind-http", "content-kind-data", "content-kind-raw", "http-kind-message", "http-kind-data"),
	m("content-lenient", httpBoth, "content-json", "content-trailing", "content-indefinite", "content-five", "content-body-text", "content-meta-unsorted"),
	m("padding-unchecked", httpBoth, "content-padding"),
	m("fields-unchecked", httpBoth, "content-field-upper", "content-field-space", "content-field-name-crlf", "content-field-empty", "content-field-crlf", "content-field-nul", "http-field-crlf"),
	m("meta-unchecked", httpBoth, "content-status", "content-target-type", "content-stream-false", "content-fields-shape", "content-retry-shape"),

	m("unsealed-inner-error", httpBoth, "inner-error"),
	m("salt-reused", httpBoth, "one-salt"),
	m("salt-per-answer", httpBoth, "one-salt"),
	m("salt-everywhere", httpBoth, "answer-order"),
	m("numbers-from-one", httpBoth, "call", "by-hand", "answer-order"),
	m("never-final", httpBoth, "call", "by-hand", "answer-order"),
	m("always-final", httpBoth, "answer-order"),
	m("answers-crossed", httpBoth, "warm", "window", "concurrent"),

	m("tool-digest-ignored", httpBoth, "inline-digest"),
	m("tool-digest-unprotected", httpBoth, "inline-digest-hidden"),
	m("no-tool-opens", httpBoth, "inline-no-tool"),
	m("outer-name-ignored", httpBoth, "inline-renamed"),
	m("inner-name-unchecked", httpBoth, "inline-other-inside"),
	m("inner-method-unchecked", httpBoth, "inline-method-inside"),
	m("frames-anywhere", httpBoth, "inline-frames-under-other-method"),
	m("first-of-many-frames", httpBoth, "inline-two-frames"),
	m("attest-runs-arguments", httpBoth, "inline-attest-not-run"),
	m("attest-without-tool", httpBoth, "inline-attest"),
	m("arguments-outside", httpBoth, "inline-arguments"),
	m("content-outside", httpBoth, "inline-call"),
	m("list-public", httpBoth, "inline-list"),
	m("list-unstripped", httpPublic, "inline-list-stripped"),

	m("chunks-unordered", httpBoth, "http-chunk-lost", "http-chunk-twice", "http-chunk-spliced"),
	m("no-final-served", httpBoth, "http-no-final"),
	m("after-final-ignored", httpBoth, "http-after-final"),
	m("second-head-served", httpBoth, "http-second-head"),
	m("bad-chunks-skipped", httpBoth, "http-chunk-altered"),
	m("target-unchecked", httpBoth, "http-target-absolute", "http-target-authority", "http-target-control", "http-target-relative", "http-target-absent", "http-method-injection"),
	m("hop-by-hop-sealed", httpBoth, "http-hop-by-hop"),
	m("inner-checked", httpBoth, "http-malformed"),

	m("dies-on-invalid", stdioBoth, "stdio-invalid-line"),
	m("dies-on-long", stdioBoth, "stdio-long-line"),
	m("chatters", stdioBoth, "stdio-nothing-else", "stdio-frames"),
	m("final-ahead", stdioBoth, "stdio-frames"),
	m("answers-crossed", stdioBoth, "stdio-answers-apart"),
}

// trust is a sealed server of the self-test.
type trust struct {
	second bool // written by hand, not the project's own layer
	fault  reference.Fault
	setup  setup
	only   []string // ids; nil: all
}

func (r trust) String() string {
	who := "the sealed reference"
	if r.second {
		who = "the second reference"
	}
	return who + " over " + string(r.setup)
}

// identity tests the profile identity of role server.
func (s *Summary) identity(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var ours []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RoleServer && c.Profile == conformance.ProfileIdentity {
			ours = append(ours, c)
		}
	}
	listings := []string{"server/identity/inline-list", "server/identity/inline-list-stripped", "server/identity/inline-call"}
	stdio := wanted(ours, []string{onlyStdio})
	runs := []trust{
		{setup: httpBoth}, {setup: stdioBoth}, {setup: httpPublic, only: listings},
		{setup: httpBoth, second: true}, {setup: stdioBoth, second: true, only: stdio}, {setup: httpPublic, second: true, only: listings},
	}
	for _, mt := range identityMutants {
		runs = append(runs, trust{setup: mt.setup, fault: mt.fault, only: wanted(ours, mt.kills)})
	}
	for _, mt := range secondMutants {
		runs = append(runs, trust{setup: mt.setup, fault: mt.fault, second: true, only: wanted(ours, mt.kills)})
		if got := len(wanted(ours, mt.kills)); got != len(mt.kills) {
			s.Problems = append(s.Problems, fmt.Sprintf("mutant %s: %d of its cases %v exist", mt.fault, got, mt.kills))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, one := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rep, ran, err := one.run(ctx, ours)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				s.Problems = append(s.Problems, fmt.Sprintf("%s, fault %q: %v", one, one.fault, err))
				s.Mutants++
			case one.fault == "":
				s.judgeReference(one, rep, ran, runsCanary, passed)
			default:
				s.judgeMutant(one.String(), one.fault, one.only, rep, killed)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// judgeReference judges the run of one reference whose canary tool ran so often;
// served is how often a case calls it and must be served.
func (s *Summary) judgeReference(one fmt.Stringer, rep *conformance.Report, ran int64, served map[string]int64, passed map[string]bool) {
	s.Runs++
	calls := int64(0)
	for _, r := range rep.Results {
		switch r.Outcome {
		case conformance.Pass:
			s.Verdicts++
			passed[r.Case.ID] = true
			calls += served[r.Case.ID]
		case conformance.NotApplicable:
		default:
			s.Problems = append(s.Problems, fmt.Sprintf("%s: %s@%s: %s (%s)", one, r.Case.ID, r.Era, r.Outcome, r.Reason))
		}
	}
	if ran != calls {
		s.Problems = append(s.Problems, fmt.Sprintf("%s: its canary tool ran %d times, %d calls of it were to be accepted: a refusal was not one", one, ran, calls))
	}
}

// runsCanary is how often a case calls the canary tool and must be served.
var runsCanary = map[string]int64{"server/identity/answer-order": 1, "server/identity/stdio-frames": 1, "server/identity/inline-call": 2, "server/identity/inline-replay": 1}

// judgeMutant judges the run of the mutant of one that has the fault, against the
// cases that must notice it.
func (s *Summary) judgeMutant(one string, fault reference.Fault, kills []string, rep *conformance.Report, killed map[string]bool) {
	s.Mutants++
	hit := map[string]string{}
	for _, r := range rep.Results {
		if r.Outcome == conformance.Fail || r.Outcome == conformance.Warn {
			hit[r.Case.ID] = "yes"
		} else if hit[r.Case.ID] == "" {
			hit[r.Case.ID] = fmt.Sprintf("%s %s", r.Outcome, r.Reason)
		}
	}
	dead := true
	for _, id := range kills {
		if hit[id] == "yes" {
			if fault != "refuses-nothing" && fault != "always-busy" {
				killed[id] = true
			}
			killed["any "+id] = true
		} else {
			dead = false
			s.Problems = append(s.Problems, fmt.Sprintf("mutant %s of %s survived %s (%s)", fault, one, id, hit[id]))
		}
	}
	if dead {
		s.Killed++
	}
}

func wanted(cases []conformance.Case, kills []string) []string {
	var want []string
	for _, c := range cases {
		name := strings.TrimPrefix(c.ID, "server/identity/")
		overStdio := slices.Equal(c.Transports, []wire.Transport{wire.TransportStdio})
		if slices.Contains(kills, name) || kills[0] == onlyStdio && overStdio || !overStdio && (kills[0] == negatives && c.Negative() || kills[0] == opens && !c.Negative()) {
			want = append(want, c.ID)
		}
	}
	return want
}

// run runs cases against the server, and tells how often the canary tool ran.
func (one trust) run(ctx context.Context, cases []conformance.Case) (*conformance.Report, int64, error) {
	var ran atomic.Int64
	inner := reference.New(reference.WithProgress(), reference.WithCanary(func(string) { ran.Add(1) }))
	defer inner.Close()
	const uri = "http://127.0.0.1/mcp"
	var front http.Handler
	var lines func(io.Reader, io.Writer)
	if one.second {
		second, err := reference.NewSecond(uri, inner, one.fault, one.setup == httpPublic)
		if err != nil {
			return nil, 0, err
		}
		front, lines = second, second.Serve
	} else {
		own, err := reference.Sealed(uri, inner, protocol.ModeRequired, one.setup == httpPublic)
		if err != nil {
			return nil, 0, err
		}
		if front = own; one.fault != "" {
			front = reference.Bent(own, one.fault)
		}
		lines = func(in io.Reader, out io.Writer) { _ = reference.SealedStdio(ctx, uri, inner, in, out) }
	}
	obs := &conformance.Observations{}
	target := wire.Pipe(one.String(), lines, obs.Observe)
	if one.setup != stdioBoth {
		hs := httptest.NewServer(front)
		defer hs.Close()
		defer hs.CloseClientConnections()
		var err error
		if target, err = wire.HTTP(hs.URL+"/mcp", nil, obs.Observe); err != nil {
			return nil, 0, err
		}
	}
	step := 5 * time.Second
	if one.fault != "" {
		step = 2 * time.Second
	}
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Cases: cases, Seed: 1, StepTimeout: step, CanaryTool: reference.ToolName,
		Select: func(c *conformance.Case) bool { return one.only == nil || slices.Contains(one.only, c.ID) },
	})
	return rep, ran.Load(), err
}
