package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance/wire"
)

// T is what a running case works with.
type T struct {
	ctx    context.Context
	run    *run
	c      *Case
	era    Era
	log    *wire.Log
	opened []wire.Link

	warnings []string
	verdict  verdict
}

// verdict is what a negative case has shown so far.
type verdict struct {
	refused    string // how the mutant was refused
	reachedSeq int    // log entry that shows that the guarded step was reached
	noEffect   string // how it was seen that the guarded effect did not happen
}

// stop ends a case. It is thrown by the methods of T and caught by the engine.
type stop struct {
	outcome Outcome
	reason  string
	link    bool // because of what happened on a link
}

// Context ends when the run is interrupted.
func (t *T) Context() context.Context { return t.ctx }

// Era is the era in which the case runs.
func (t *T) Era() Era { return t.era }

// Transport is the transport of the target.
func (t *T) Transport() wire.Transport { return t.run.cfg.Target.Transport() }

// HTTP reports whether the target is spoken to over HTTP.
func (t *T) HTTP() bool { return t.Transport() == wire.TransportHTTP }

// Survey is what the target said of itself before the first case.
func (t *T) Survey() *Survey { return t.run.survey }

// Observed is what was seen on all links since the run began.
func (t *T) Observed() *Observations { return t.run.cfg.Observed }

// CanaryTool is a tool that the user allows the suite to call; empty if none.
func (t *T) CanaryTool() string { return t.run.cfg.CanaryTool }

// StepTimeout bounds one exchange.
func (t *T) StepTimeout() time.Duration { return t.run.cfg.StepTimeout }

// Trust is what the suite brings to profiles attested and mutual.
func (t *T) Trust() Trust { return t.run.cfg.Trust }

// Subject is the client under test.
func (t *T) Subject() Subject { return t.run.cfg.Subject }

// Upstream is the server behind a relay; nil in other roles.
func (t *T) Upstream() http.Handler { return t.run.cfg.Upstream }

// Target is the implementation under test.
func (t *T) Target() wire.Target { return t.run.cfg.Target }

// Violate says that the requirement is broken: the case fails when its level
// is MUST, and warns when it is SHOULD.
func (t *T) Violate(format string, args ...any) {
	out := Fail
	if t.c.Level == SHOULD {
		out = Warn
	}
	panic(stop{outcome: out, reason: fmt.Sprintf(format, args...)})
}

// Failf fails the case whatever its level: something more basic broke.
func (t *T) Failf(format string, args ...any) {
	panic(stop{outcome: Fail, reason: fmt.Sprintf(format, args...)})
}

// Warnf notes a weakness and goes on; a case that otherwise passes warns.
func (t *T) Warnf(format string, args ...any) {
	t.warnings = append(t.warnings, fmt.Sprintf(format, args...))
}

// Weakness ends the case with a warning: what was seen is bad, but no sentence
// clearly forbids it.
func (t *T) Weakness(format string, args ...any) {
	panic(stop{outcome: Warn, reason: fmt.Sprintf(format, args...)})
}

// NotApplicable says that the target does not claim what the case tries.
func (t *T) NotApplicable(format string, args ...any) {
	panic(stop{outcome: NotApplicable, reason: fmt.Sprintf(format, args...)})
}

// Untestable says that the case could not be tried.
func (t *T) Untestable(format string, args ...any) {
	panic(stop{outcome: Untestable, reason: fmt.Sprintf(format, args...)})
}

// Refused records that the mutant was refused, and how.
func (t *T) Refused(format string, args ...any) { t.verdict.refused = fmt.Sprintf(format, args...) }

// Reached records the log entry which shows that the guarded step was reached:
// something that the target sent in answer to the mutant.
func (t *T) Reached(seq int) { t.verdict.reachedSeq = seq }

// NoEffect records how it was seen that what the guard protects did not happen.
func (t *T) NoEffect(format string, args ...any) { t.verdict.noEffect = fmt.Sprintf(format, args...) }

// Remember keeps a finding about the target for later cases of the run.
func (t *T) Remember(key, finding string) { t.run.memo[string(t.era)+" "+key] = finding }

// Remembered is what [T.Remember] kept for this era, or "".
func (t *T) Remembered(key string) string { return t.run.memo[string(t.era)+" "+key] }

// Link opens a link that belongs to this case.
func (t *T) Link() wire.Link {
	ctx, cancel := context.WithTimeout(t.ctx, t.StepTimeout())
	defer cancel()
	l, err := t.run.cfg.Target.Open(ctx, t.log)
	if err != nil {
		t.failLink("opening a connection", err)
	}
	t.opened = append(t.opened, l)
	return l
}

// Session is a session of the case's era, ready for requests: the shared one,
// or for a [Case.Fresh] case its own.
func (t *T) Session() *Session {
	if t.c.Fresh {
		return t.NewSession()
	}
	return t.run.shared(t)
}

// NewSession opens a link and a session of the case's era of its own.
func (t *T) NewSession() *Session {
	s := t.RawSession(t.Link())
	if t.era == Legacy {
		s.Initialize(LegacyVersion, Obj{})
	}
	return s
}

// RawSession is a session on l that has said nothing yet.
func (t *T) RawSession(l wire.Link) *Session {
	s := &Session{t: t, link: l, Era: t.era, Version: ModernVersion, warm: new(atomic.Bool)}
	if t.era == Legacy {
		s.Version = ""
	}
	return s
}

// failLink ends the case because of what happened on a link.
func (t *T) failLink(doing string, err error) {
	var down *wire.UnreachableError
	switch {
	case t.ctx.Err() != nil:
		panic(stop{outcome: Untestable, reason: "interrupted while " + doing})
	case errors.As(err, &down):
		panic(stop{Fail, fmt.Sprintf("the target went away: %s: %v", doing, err), true})
	case errors.Is(err, wire.ErrTimeout), errors.Is(err, wire.ErrClosed), errors.Is(err, wire.ErrFlood):
		panic(stop{Fail, fmt.Sprintf("%s: %v", doing, err), true})
	}
	panic(stop{outcome: HarnessError, reason: fmt.Sprintf("%s: %v", doing, err)})
}

// finish turns the end of a case into its outcome.
func (t *T) finish(s *stop) (Outcome, string) {
	if s != nil {
		return s.outcome, strings.Join(append([]string{s.reason}, t.warnings...), "; ")
	}
	if t.c.Negative() {
		v := t.verdict
		switch {
		case v.refused == "":
			return HarnessError, "the case ended without showing a refusal"
		case v.reachedSeq == 0 || !t.log.HasReceived(v.reachedSeq):
			return HarnessError, "the case ended without showing on the wire that the guarded step was reached"
		case v.noEffect == "":
			return HarnessError, "the case ended without showing that the guarded effect did not happen"
		}
	}
	if len(t.warnings) > 0 {
		return Warn, strings.Join(t.warnings, "; ")
	}
	return Pass, ""
}
