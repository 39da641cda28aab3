package conformance

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/protocol"
)

// Config says what to run against what.
type Config struct {
	Target   wire.Target
	Observed *Observations // what the target's observer feeds
	Cases    []Case        // the catalog; twins are looked up here
	Select   func(*Case) bool
	Eras     []Era  // empty: those that the target speaks
	Seed     uint64 // shuffles the order

	StepTimeout  time.Duration // one exchange; default 10 s
	StartTimeout time.Duration // the target's first answer, which may have to be fetched first; default 120 s
	// Starting is told now and then how long the first answer has been waited
	// for; may be nil.
	Starting   func(waited, limit time.Duration)
	CanaryTool string // a tool that may be called

	// Trust is what the suite brings to profiles attested and mutual.
	Trust Trust

	// Subject is the client under test (roles client and relay); Upstream is the
	// server that a relay stands before, else nil.
	Subject  Subject
	Upstream http.Handler

	Survey   *Survey        // taken by Run when nil
	Progress func(Progress) // told before and after each case; may be nil
}

// Trust says what the suite accepts as a server's evidence, and who it is itself
// to servers that ask. All of it may be absent; the cases that need it are
// untestable then.
type Trust struct {
	Appraiser protocol.Appraiser // judges the evidence of servers
	// Identity and Key are the suite's own, which the server lets in. Image is what
	// the suite's simulated TEE measures; with OtherCode, the server must refuse
	// every other.
	Identity  string
	Key       ed25519.PrivateKey
	Image     [32]byte
	OtherCode bool

	AICC *rsa.PublicKey // of a server of profile aicc-0.1
}

// Progress tells how far a run is.
type Progress struct {
	Done, Total int
	Case        string // under way, or just done
	Era         Era
	Result      *Result // nil before the case
}

// Result is the verdict on one case in one era.
type Result struct {
	Case     *Case
	Era      Era
	Outcome  Outcome
	Reason   string // empty for a pass
	Duration time.Duration
	Log      []wire.Entry
}

// Key names the result within a report.
func (r *Result) Key() string {
	if len(r.Case.Eras) > 1 {
		return r.Case.ID + "@" + string(r.Era)
	}
	return r.Case.ID
}

// Report is the outcome of a run.
type Report struct {
	Target      string
	Transport   wire.Transport
	Seed        uint64
	Survey      *Survey
	Results     []*Result // in catalog order
	Interrupted string    // the case under way when the run was interrupted
}

// Count is the number of results with an outcome.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, res := range r.Results {
		if res.Outcome == o {
			n++
		}
	}
	return n
}

type instance struct {
	c   *Case
	era Era
}

type run struct {
	cfg    Config
	survey *Survey
	ids    atomic.Int64
	byID   map[string]*Case
	done   map[instance]*Result
	open   map[Era]*Session // shared sessions
	total  int

	memo map[string]string // see T.Remember

	silent int    // consecutive failed checks for life
	dead   string // why no further case can be tried
}

func (r *run) nextID() int64 { return r.ids.Add(1) }

// Run tries the selected cases, and the twins that they need. It returns a
// report even when ctx ends; Interrupted then names the case under way. The
// error is a [*PrerequisiteError] when there was nothing to test.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.StepTimeout <= 0 {
		cfg.StepTimeout = 10 * time.Second
	}
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = max(120*time.Second, cfg.StepTimeout)
	}
	if cfg.Observed == nil {
		cfg.Observed = &Observations{}
	}
	r := &run{cfg: cfg, byID: map[string]*Case{}, done: map[instance]*Result{}, open: map[Era]*Session{}, memo: map[string]string{}, survey: cfg.Survey}
	rep := &Report{Target: cfg.Target.String(), Transport: cfg.Target.Transport(), Seed: cfg.Seed}
	defer r.closeAll()
	if r.survey == nil {
		if err := r.takeSurvey(ctx); err != nil {
			if ctx.Err() != nil {
				rep.Interrupted = "the survey of the target"
				rep.Survey = r.survey
				return rep, nil
			}
			return nil, err
		}
	}
	rep.Survey = r.survey
	for _, e := range cfg.Eras {
		if info := r.survey.Of(e); !info.Spoken {
			return nil, &PrerequisiteError{fmt.Sprintf("%s does not speak the %s era: %s", cfg.Target, e, info.Why)}
		}
	}

	todo := r.plan()
	r.total = len(todo)
	for _, in := range todo {
		if ctx.Err() != nil {
			break
		}
		r.try(ctx, in)
		if ctx.Err() != nil && rep.Interrupted == "" {
			rep.Interrupted = in.c.ID
		}
	}
	if ctx.Err() != nil && rep.Interrupted == "" {
		rep.Interrupted = "the start of the run"
	}
	for _, in := range todo {
		if r.done[in] == nil {
			r.done[in] = &Result{Case: in.c, Era: in.era, Outcome: Untestable, Reason: "interrupted before this case"}
		}
	}
	for i := range cfg.Cases {
		for _, e := range cfg.Cases[i].Eras {
			if res := r.done[instance{&cfg.Cases[i], e}]; res != nil {
				rep.Results = append(rep.Results, res)
			}
		}
	}
	return rep, nil
}

// plan lists what to run, shuffled by the seed, the Last cases last.
func (r *run) plan() []instance {
	var todo []instance
	for i := range r.cfg.Cases {
		c := &r.cfg.Cases[i]
		r.byID[c.ID] = c
		if r.cfg.Select != nil && !r.cfg.Select(c) {
			continue
		}
		for _, e := range c.Eras {
			if len(r.cfg.Eras) == 0 || contains(r.cfg.Eras, e) {
				todo = append(todo, instance{c, e})
			}
		}
	}
	rnd := rand.New(rand.NewPCG(r.cfg.Seed, 0x746d6370))
	rnd.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	slices.SortStableFunc(todo, func(a, b instance) int {
		switch {
		case a.c.Last == b.c.Last:
			return 0
		case a.c.Last:
			return 1
		}
		return -1
	})
	return todo
}

// try runs one case, its twin first.
func (r *run) try(ctx context.Context, in instance) *Result {
	if res := r.done[in]; res != nil {
		return res
	}
	res := &Result{Case: in.c, Era: in.era}
	if r.cfg.Progress != nil {
		r.cfg.Progress(Progress{Done: len(r.done), Total: r.total, Case: in.c.ID, Era: in.era})
	}
	began := time.Now()
	r.judge(ctx, in, res)
	res.Duration = time.Since(began)
	r.done[in] = res
	if r.cfg.Progress != nil {
		r.cfg.Progress(Progress{Done: len(r.done), Total: max(r.total, len(r.done)), Case: in.c.ID, Era: in.era, Result: res})
	}
	return res
}

func (r *run) judge(ctx context.Context, in instance, res *Result) {
	info := r.survey.Of(in.era)
	tr := r.cfg.Target.Transport()
	switch {
	case !info.Spoken:
		res.Outcome, res.Reason = NotApplicable, fmt.Sprintf("the target does not speak the %s era: %s", in.era, info.Why)
		return
	case len(in.c.Transports) > 0 && !contains(in.c.Transports, tr):
		res.Outcome, res.Reason = NotApplicable, fmt.Sprintf("concerns %s only", in.c.Transports[0])
		return
	}
	if in.c.Negative() {
		twin := r.try(ctx, instance{r.byID[in.c.Twin], in.era})
		if twin.Outcome == NotApplicable {
			res.Outcome, res.Reason = NotApplicable, twin.Reason
			return
		}
		if twin.Outcome != Pass && twin.Outcome != Warn {
			res.Outcome, res.Reason = Untestable, fmt.Sprintf("its positive twin %s did not pass: a refusal would show nothing", in.c.Twin)
			return
		}
	}
	if r.dead != "" {
		res.Outcome, res.Reason = Untestable, r.dead
		return
	}
	t := &T{ctx: ctx, run: r, c: in.c, era: in.era, log: wire.NewLog()}
	end, linkDown := t.execute()
	res.Outcome, res.Reason = t.finish(end)
	res.Log = t.log.Entries()
	if in.c.Profile == ProfileCore && (res.Outcome == Fail || res.Outcome == Warn) && info.sealedOnly() && sealDemanded(res.Log) {
		res.Outcome, res.Reason = NotApplicable, "the server is in mode required and takes this sealed only"
	}
	if ctx.Err() != nil && res.Outcome != Pass {
		res.Outcome, res.Reason = Untestable, "interrupted"
		return
	}
	if s := r.open[in.era]; s != nil && (linkDown || !s.link.Alive()) {
		s.link.Close()
		delete(r.open, in.era)
	}
	if linkDown {
		r.checkLife(ctx, in)
	}
}

// sealDemanded reports whether an answer in the log refuses a plain message for
// lack of a seal.
func sealDemanded(log []wire.Entry) bool {
	for _, e := range log {
		if e.Dir == wire.Received && (bytes.Contains(e.Bytes, []byte(`"trust-required"`)) ||
			bytes.Contains(e.Bytes, []byte(`-32021`)) && bytes.Contains(e.Bytes, []byte(`"org.trustedmcp/trust"`))) {
			return true
		}
	}
	return false
}

// execute runs the case and catches its end.
func (t *T) execute() (end *stop, linkDown bool) {
	defer func() {
		for _, l := range t.opened {
			l.Close()
		}
	}()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			end, linkDown = &p, p.link
		default:
			end = &stop{outcome: HarnessError, reason: fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	t.c.Run(t)
	return nil, false
}

// checkLife asks, after a link broke, whether the target still answers anyone.
// Two silences in a row end the run: the rest would only wait in vain.
func (r *run) checkLife(ctx context.Context, in instance) {
	t := &T{ctx: ctx, run: r, c: &Case{ID: "life", Level: MUST, Fresh: true, Run: func(t *T) {
		if err := t.NewSession().Alive(); err != nil {
			t.failLink("checking for life", err)
		}
	}}, era: in.era, log: wire.NewLog()}
	if end, _ := t.execute(); end == nil || end.outcome == Untestable {
		r.silent = 0
		return
	}
	if r.silent++; r.silent >= 2 {
		r.dead = fmt.Sprintf("the target stopped answering during %s", in.c.ID)
	}
}

// shared is the session that cases of an era have in common.
func (r *run) shared(t *T) *Session {
	if s := r.open[t.era]; s != nil {
		if s.link.Alive() {
			s.link.SetLog(t.log)
			return s.On(t)
		}
		s.link.Close()
		delete(r.open, t.era)
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.StepTimeout())
	defer cancel()
	link, err := r.cfg.Target.Open(ctx, t.log)
	if err != nil {
		t.failLink("opening a connection", err)
	}
	s := t.RawSession(link)
	r.open[t.era] = s // before the handshake, so that it is closed whatever happens
	if t.era == Legacy {
		s.Initialize(LegacyVersion, Obj{})
	}
	return s
}

func (r *run) closeAll() {
	for _, s := range r.open {
		s.end()
		s.link.Close()
	}
}

// end tells a legacy HTTP server that its session is over. The answer does not
// matter.
func (s *Session) end() {
	if s.SessionID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, _ = s.link.Send(ctx, wire.Outgoing{Verb: "DELETE", Header: s.header(Call{Verb: "DELETE"})})
}
