// Package policy puts policies that are WebAssembly modules to their two uses: as
// what decides an appraisal (see [appraise.Config]), and as what authorizes calls
// (see [transport.ServerConfig]). [Load] finds them, by name, in files or in
// registries.
package policy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Obligations that this package fulfils.
const (
	// ValidFor bounds, in whole seconds, how long an appraisal is relied on.
	ValidFor = "valid-for"
	// Audit has a call that is allowed told to [Config.Audit].
	Audit = "audit"
)

// Obligations are the ids for [policywasm.Caps].
func Obligations() []string { return []string{ValidFor, Audit} }

// A Member is one policy of those that decide together.
type Member struct {
	Evaluator policywasm.Evaluator
	Settings  jsontext.Value // for it alone; nil: none

	settings *policywasm.Input // the same, nil for null too
}

// A Config says which policies decide, and how.
type Config struct {
	Members []Member
	Rule    policywasm.Rule
	// Rules, if not nil, judge appraisals beside the members: both must accept.
	Rules *appraise.RulesPolicy
	// Wait bounds how long a question waits for its place; default 5 seconds.
	Wait time.Duration
	// Clock tells the time of calls; default time.Now.
	Clock func() time.Time
	// Audit, if set, is told of calls that a policy allowed under the obligation
	// [Audit], and of all that were denied.
	Audit func(*transport.Call, protocol.Digest, *policywasm.Verdict)
}

// A Policy answers both questions, as far as its members do. It implements
// [appraise.Judge] and is safe for concurrent use.
type Policy struct {
	cfg        Config
	name       string
	digest     protocol.Digest
	parts      []protocol.Digest
	appraisers *question
	authorizer *question
}

// A question is one entry point of those members that have it.
type question struct {
	entry   policywasm.Entry
	set     *policywasm.Set
	members []Member
	args    []bool // the member declared the arguments of calls as its input
}

const (
	maxSettings = 256 << 10
	maxInput    = 1 << 20
)

// New checks cfg. Policies for development go with no others.
func New(cfg Config) (*Policy, error) {
	if len(cfg.Members) == 0 {
		return nil, errors.New("no policy is given")
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 5 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.Members = slices.Clone(cfg.Members)
	p := &Policy{cfg: cfg}
	var names []string
	if cfg.Rules != nil {
		names = append(names, cfg.Rules.Name())
	}
	for i := range cfg.Members {
		m := &cfg.Members[i]
		meta := m.Evaluator.Metadata()
		if appraises(m) && meta.Development != p.Development() {
			return nil, fmt.Errorf("policy %q is for %s, and %q is for %s: no policy is for both, so they can't decide together",
				meta.Name, environment(meta.Development), p.first(), environment(p.Development()))
		}
		if m.Settings != nil {
			var err error
			if m.settings, err = policywasm.NewInput(m.Settings, maxSettings); err == nil {
				m.Settings, err = m.settings.Bytes(policywasm.JSON)
			}
			if err != nil {
				return nil, fmt.Errorf("settings of policy %q: %w", meta.Name, err)
			}
			if string(m.Settings) == "null" {
				m.Settings, m.settings = nil, nil
			}
		}
		names = append(names, meta.Name)
	}
	p.name = strings.Join(names, "+")
	var err error
	if p.appraisers, err = p.asked(policywasm.Appraise); err != nil {
		return nil, err
	}
	if p.authorizer, err = p.asked(policywasm.Authorize); err != nil {
		return nil, err
	}
	return p, p.identify()
}

func environment(development bool) string {
	if development {
		return "development"
	}
	return "production"
}

func appraises(m *Member) bool {
	return slices.Contains(m.Evaluator.Metadata().Entries, policywasm.Appraise)
}

// appraising is the first member that appraises, or -1.
func (p *Policy) appraising() int {
	return slices.IndexFunc(p.cfg.Members, func(m Member) bool { return appraises(&m) })
}

func (p *Policy) first() string {
	if p.cfg.Rules != nil {
		return p.cfg.Rules.Name()
	}
	return p.cfg.Members[p.appraising()].Evaluator.Metadata().Name
}

// asked are those members that answer a question; nil when none does.
func (p *Policy) asked(e policywasm.Entry) (*question, error) {
	q := &question{entry: e}
	var who []policywasm.Evaluator
	for _, m := range p.cfg.Members {
		meta := m.Evaluator.Metadata()
		if !slices.Contains(meta.Entries, e) {
			continue
		}
		q.members = append(q.members, m)
		q.args = append(q.args, slices.ContainsFunc(meta.Inputs, func(s string) bool {
			return s == "/call/arguments" || strings.HasPrefix(s, "/call/arguments/")
		}))
		who = append(who, m.Evaluator)
	}
	if len(who) == 0 {
		return nil, nil
	}
	var err error
	q.set, err = policywasm.NewSet(p.cfg.Rule, who...)
	return q, err
}

// identify computes the digest (spec section 20.9): of a module alone without
// settings its own, and else of what decides together.
func (p *Policy) identify() error {
	for _, m := range p.cfg.Members {
		p.parts = append(p.parts, m.Evaluator.Digest())
	}
	if len(p.cfg.Members) == 1 && p.cfg.Members[0].Settings == nil && p.cfg.Rules == nil {
		p.digest, p.parts = p.parts[0], nil
		return nil
	}
	b := dcbor.AppendText(dcbor.AppendArray(nil, 3), "org.trustedmcp/trust v1 policy")
	b = dcbor.AppendText(b, p.cfg.Rule.String())
	n := len(p.cfg.Members)
	if p.cfg.Rules != nil {
		n++
	}
	b = dcbor.AppendArray(b, n)
	for i, m := range p.cfg.Members {
		b = dcbor.AppendBytes(dcbor.AppendArray(b, 2), p.parts[i][:])
		if m.Settings == nil {
			b = dcbor.AppendNull(b)
			continue
		}
		var err error
		if b, err = dcbor.FromJSON(b, m.Settings); err != nil {
			return err
		}
	}
	if r := p.cfg.Rules; r != nil {
		d := r.Digest()
		b = dcbor.AppendNull(dcbor.AppendBytes(dcbor.AppendArray(b, 2), d[:]))
		p.parts = append(p.parts, d)
	}
	p.digest = sha256.Sum256(b)
	return nil
}

// Name is the names of the policies, joined by plus signs.
func (p *Policy) Name() string { return p.name }

// Digest names what decides in attestation results.
func (p *Policy) Digest() protocol.Digest { return p.digest }

// Development reports whether the policies that appraise are for simulated TEEs.
// Those that only authorize are for both environments.
func (p *Policy) Development() bool {
	if p.cfg.Rules != nil {
		return p.cfg.Rules.Development()
	}
	i := p.appraising()
	return i >= 0 && p.cfg.Members[i].Evaluator.Metadata().Development
}

// Answers reports whether a policy answers that question.
func (p *Policy) Answers(e policywasm.Entry) bool {
	if e == policywasm.Authorize {
		return p.authorizer != nil
	}
	return p.appraisers != nil || p.cfg.Rules != nil
}

// Close frees the modules. No question may be under way.
func (p *Policy) Close(ctx context.Context) error {
	var all []error
	for _, m := range p.cfg.Members {
		all = append(all, m.Evaluator.Close(ctx))
	}
	return errors.Join(all...)
}

// ask asks the members about one document.
func (q *question) ask(ctx context.Context, wait time.Duration, doc func(arguments bool) (*document.Document, error)) *policywasm.Verdict {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	inputs := make([]*policywasm.Input, len(q.members))
	for i, m := range q.members {
		if same := i > 0 && q.members[i-1].Settings == nil && m.Settings == nil && q.args[i-1] == q.args[i]; same {
			inputs[i] = inputs[i-1]
			continue
		}
		d, err := doc(q.args[i])
		if err != nil {
			continue // without an input it fails, and so denies
		}
		inputs[i], _ = policywasm.NewDocument(d, m.settings, maxInput)
	}
	return q.set.Evaluate(ctx, policywasm.Call{Entry: q.entry, Inputs: func(i int) *policywasm.Input { return inputs[i] }})
}

// Decide is [Policy.Judge] without what checks can't say.
func (p *Policy) Decide(f *appraise.Facts) evidence.Checks { return p.Judge(f).Checks }

// Judge implements [appraise.Judge].
func (p *Policy) Judge(f *appraise.Facts) appraise.Judgement {
	j := appraise.Judgement{Parts: p.parts}
	if p.cfg.Rules != nil {
		j.Checks = p.cfg.Rules.Decide(f)
	}
	if p.appraisers == nil {
		if p.cfg.Rules == nil {
			j.Checks.Add("policy", evidence.Fail, fmt.Sprintf("policy %q answers authorize only: name one that appraises", p.name))
		}
		return j
	}
	v := p.appraisers.ask(context.Background(), p.cfg.Wait, func(bool) (*document.Document, error) { return Appraisal(f), nil })
	explain(&j.Checks, f, v)
	compared(&j.Checks, f)
	if v.Decision != policywasm.Allow {
		return j
	}
	j.Vector = vector(v.Vector)
	for _, o := range v.Obligations {
		// TMCP-20.11-8: A host MUST take an obligation with a value of another type, or for the
		// other question, for one that it does not know.
		n, err := strconv.ParseUint(string(o.Value), 10, 31)
		if o.ID != ValidFor || err != nil || n == 0 {
			j.Checks.Add("policy-"+o.ID, evidence.Fail, fmt.Sprintf("obligation %s is %.40s; of an appraisal there is valid-for, a number of seconds", o.ID, o.Value))
			continue
		}
		// TMCP-20.11-6: A host that knows `valid-for` MUST end the attestation result no later than
		// so many seconds after the document's time.
		if until := f.Now.Add(time.Duration(n) * time.Second); j.Until.IsZero() || until.Before(j.Until) {
			j.Until = until
		}
	}
	return j
}

func vector(v policywasm.Vector) *ear.Vector {
	out := &ear.Vector{}
	for i := range out {
		out[i] = ear.Claim(v[ear.Name(i)])
	}
	return out
}

// explain makes checks of a verdict: one for the whole, and one for each reason.
func explain(c *evidence.Checks, f *appraise.Facts, v *policywasm.Verdict) {
	outcome := evidence.Pass
	if v.Decision != policywasm.Allow {
		outcome = evidence.Fail
	}
	for i, r := range v.Results {
		if v.Decision != policywasm.Allow && !slices.Contains(v.Decided, i) {
			continue
		}
		if r.Failure != nil {
			c.Add("policy-failure", evidence.Fail, r.Failure.Error())
		}
		for _, why := range r.Reasons {
			c.Add("policy-"+why.Code+label(f, why.Claim), outcome, detail(f, why))
		}
	}
	c.Add("policy", outcome, v.Why)
}

// compared tells what reference values said of each device. No policy can do
// without a match where there are values to match.
func compared(c *evidence.Checks, f *appraise.Facts) {
	for i, d := range f.Devices {
		r := d.References
		name := "policy-reference-values" + label(f, fmt.Sprintf("/devices/%d/references", i))
		if r == nil || !r.Known {
			continue
		}
		outcome := evidence.Pass
		if !r.Matched {
			outcome = evidence.Fail
		}
		// A reason of a module may have the same name. It stands for this only where it
		// says as much.
		if slices.ContainsFunc(*c, func(k evidence.Check) bool {
			return k.Name == name && (k.Outcome == outcome || k.Outcome == evidence.Fail)
		}) {
			continue
		}
		c.Add(name, outcome, r.Detail)
	}
}

// device is the device that a JSON pointer of a document points into, and the
// member of it.
func device(f *appraise.Facts, pointer string) (d *appraise.Device, member string) {
	parts := strings.Split(pointer, "/")
	if len(parts) < 4 || parts[1] != "devices" {
		return nil, ""
	}
	i, err := strconv.Atoi(parts[2])
	if err != nil || i < 0 || i >= len(f.Devices) {
		return nil, ""
	}
	return &f.Devices[i], parts[3]
}

func label(f *appraise.Facts, pointer string) string {
	if d, _ := device(f, pointer); d != nil && len(f.Devices) > 1 {
		return "-" + d.Label
	}
	return ""
}

// detail is a reason with what was found of what it is about.
func detail(f *appraise.Facts, why policywasm.Reason) string {
	s := why.Text
	if s == "" {
		s = why.Claim
	}
	d, member := device(f, why.Claim)
	found := ""
	switch {
	case d == nil:
	case member == "tcb" && d.TCB != nil && d.TCB.Status != "":
		found = appraise.Describe(d.TCB)
	case member == "references" && d.References != nil:
		found = d.References.Detail
	case member == "claims" && d.Claims != nil:
		name := why.Claim[strings.LastIndexByte(why.Claim, '/')+1:]
		found = appraise.Show(d.Claims.Values[name])
	}
	if found != "" {
		s += ": " + found
	}
	return printable(s)
}

// printable keeps what a module says from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// Authorize implements [transport.Authorizer]; nil when no policy answers that
// question.
func (p *Policy) Authorize() transport.Authorizer {
	if p.authorizer == nil {
		return nil
	}
	return func(ctx context.Context, c *transport.Call) error {
		now := p.cfg.Clock()
		v := p.authorizer.ask(ctx, p.cfg.Wait, func(arguments bool) (*document.Document, error) { return Authorization(c, now, arguments) })
		var refused error
		if v.Decision != policywasm.Allow {
			refused = p.denial(v)
		}
		audit := false
		for _, o := range v.Obligations { // of those that allowed
			audit = audit || o.ID == Audit
			if o.ID != Audit || string(o.Value) != "true" || p.cfg.Audit == nil {
				refused = &protocol.Error{Reason: protocol.PolicyDenied, Policy: p.digest[:], Codes: []string{policywasm.ReasonObligation},
					Detail: fmt.Sprintf("the policy allows this call under the obligation %s, which is not fulfilled here", o.ID)}
			}
		}
		if refused != nil && v.Decision == policywasm.Allow { // the log tells what becomes of the call
			denied := *v
			denied.Decision, denied.Why = policywasm.Deny, "deny: an obligation is not fulfilled here; "+v.Why
			v = &denied
		}
		// TMCP-20.11-7: A host that knows `audit` MUST write the call, the policy digest and the
		// decision to its log before the call goes on.
		if (audit || refused != nil) && p.cfg.Audit != nil {
			p.cfg.Audit(c, p.digest, v)
		}
		return refused
	}
}

// denial tells who asked why: codes of reasons, and the first text.
func (p *Policy) denial(v *policywasm.Verdict) error {
	e := &protocol.Error{Reason: protocol.PolicyDenied, Policy: p.digest[:], Detail: "the policy does not allow this call"}
	for _, i := range v.Decided {
		r := v.Results[i]
		if r.Failure != nil {
			e.Codes = append(e.Codes, r.Failure.Reason)
		}
		for _, why := range r.Reasons {
			if len(e.Codes) == 0 && why.Text != "" {
				e.Detail += ": " + why.Text
			}
			e.Codes = append(e.Codes, why.Code)
		}
	}
	return e
}
