// Package refhost is this module's host of policies, as the role policy asks it:
// for the suite's self-test, which also gives it one flaw at a time, and for the
// shim in Go. Call [New].
package refhost

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/policy"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// New returns a host. Nil is the one without a flaw, and without a memo. The
// answers of the interpreter and the compiler are the same.
func New(engine policywasm.Engine, f *Flaw, m *Memo) func(*policy.Request) *policy.Answer {
	if f == nil {
		f = &Flaw{}
	}
	h := &host{engine: engine, flaw: f, memo: m}
	return h.answer
}

type host struct {
	engine policywasm.Engine
	flaw   *Flaw
	memo   *Memo
}

// A Memo has what the host without a flaw comes to: hosts whose flaw is in what
// they make of that need not load the modules again.
type Memo struct {
	mu      sync.Mutex
	results map[[32]byte][]policy.Result
}

// recall is what comes of a request, from the memo if it is there.
func (m *Memo) recall(r *policy.Request, evaluate func() []policy.Result) []policy.Result {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %v %d %v\n", r.Rule, r.Question, r.Documents, *r.Caps, r.Granted, r.Expired)
	for _, module := range r.Modules {
		fmt.Fprintf(h, "%d\n", len(module))
		h.Write(module)
	}
	key := [32]byte(h.Sum(nil))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.results == nil {
		m.results = map[[32]byte][]policy.Result{}
	}
	known, ok := m.results[key]
	if !ok {
		known = evaluate()
		m.results[key] = known
	}
	out := slices.Clone(known)
	for i := range out { // flaws change them
		out[i].Vector = maps.Clone(out[i].Vector)
		if f := out[i].Fuel; f != nil {
			n := *f
			out[i].Fuel = &n
		}
	}
	return out
}

func (h *host) answer(r *policy.Request) *policy.Answer {
	a := &policy.Answer{}
	switch {
	case r.Op == policy.OpHello:
		a.Claims = jsontext.Value(`{"name":"github.com/trustedmcp/tmcp/policy-wasm"}`)
	case r.Op == policy.OpDigest:
		a.Digest = fmt.Sprintf("%x", digest(r))
	case r.Op == policy.OpEvaluate && r.Caps != nil:
		a.Results = h.results(r)
	default:
		a.NotImplemented = true
	}
	if h.flaw.Answer != nil && !h.flaw.Answer(r, a) {
		return nil
	}
	return a
}

// digest is that of section 20.9.
func digest(r *policy.Request) []byte {
	settings := false
	b := dcbor.AppendText(dcbor.AppendArray(nil, 3), "org.trustedmcp/trust v1 policy")
	b = dcbor.AppendArray(dcbor.AppendText(b, r.Rule), len(r.Digests))
	for i, d := range r.Digests {
		b = dcbor.AppendBytes(dcbor.AppendArray(b, 2), d)
		value := dcbor.AppendNull(nil)
		if i < len(r.Settings) && r.Settings[i] != nil {
			value, _ = dcbor.FromJSON(nil, []byte(*r.Settings[i]))
		}
		settings = settings || len(value) != 1 || value[0] != 0xf6 // null
		b = append(b, value...)
	}
	if len(r.Digests) == 1 && !settings {
		return r.Digests[0]
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// results are what the flaw makes of those of the host.
func (h *host) results(r *policy.Request) (out []policy.Result) {
	if h.memo != nil && !h.flaw.deep() {
		out = h.memo.recall(r, func() []policy.Result { return h.evaluate(r) })
	} else {
		out = h.evaluate(r)
	}
	for i := range out {
		if h.flaw.blind(&out[i]) {
			out[i] = allowed(r.Question)
		}
		if h.flaw.Result != nil {
			h.flaw.Result(&out[i])
		}
	}
	return out
}

// evaluate loads the modules and asks them about one document after the other.
func (h *host) evaluate(r *policy.Request) []policy.Result {
	caps := policywasm.Defaults()
	caps.Engine, caps.Fuel, caps.Log, caps.Obligations = h.engine, r.Caps.Fuel, r.Caps.Log, r.Caps.Obligations
	caps.Scan.Pages = r.Caps.Pages
	if h.flaw.Caps != nil {
		h.flaw.Caps(&caps)
	}
	ctx := context.Background()
	var members []policywasm.Evaluator
	for _, module := range r.Modules {
		if h.flaw.Module != nil {
			module = h.flaw.Module(module)
		}
		p, err := policywasm.Load(ctx, module, caps)
		var e policywasm.Evaluator = p
		var f *policywasm.Failure
		if errors.As(err, &f) {
			e = failing{f}
		}
		if h.flaw.Member != nil {
			e = h.flaw.Member(e)
		}
		defer e.Close(ctx)
		members = append(members, e)
	}
	rule := map[string]policywasm.Rule{"first-match": policywasm.FirstMatch, "all-allow": policywasm.AllAllow}[r.Rule]
	if h.flaw.Rule != nil {
		rule = h.flaw.Rule(rule)
	}
	set, err := policywasm.NewSet(rule, members...)
	if err != nil {
		return nil
	}
	var out []policy.Result
	for _, doc := range r.Documents {
		out = append(out, h.one(ctx, set, r, doc))
	}
	return out
}

func (h *host) one(ctx context.Context, set *policywasm.Set, r *policy.Request, doc string) policy.Result {
	if r.Expired && !h.flaw.Late {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	in, err := policywasm.NewInput([]byte(doc), policywasm.Defaults().Input)
	if err != nil {
		var f *policywasm.Failure
		errors.As(err, &f)
		return failure(f)
	}
	call := policywasm.Call{Entry: policywasm.Entry(r.Question), Input: in, Fuel: r.Granted}
	if h.flaw.Late {
		call.Fuel = 0
	}
	v := set.Evaluate(ctx, call)
	var fuel uint64
	for _, one := range v.Results {
		fuel += one.Fuel
	}
	if r.Rule == "" {
		one := v.Results[0]
		if one.Failure != nil {
			res := failure(one.Failure)
			res.Fuel, res.Log = &fuel, one.Log
			return res
		}
		res := policy.Result{Decision: one.Decision.String(), Vector: one.Vector, Fuel: &fuel, Log: one.Log}
		for _, x := range one.Reasons {
			res.Reasons = append(res.Reasons, policy.Reason(x))
		}
		res.Obligations = obligations(one.Obligations)
		return res
	}
	return policy.Result{Decision: v.Decision.String(), Vector: v.Vector, Obligations: obligations(v.Obligations), Decided: v.Decided, Asked: len(v.Results), Fuel: &fuel, Detail: v.Why}
}

func failure(f *policywasm.Failure) policy.Result {
	return policy.Result{Decision: "deny", Failure: f.Reason, Detail: f.Detail}
}

func obligations(list []policywasm.Obligation) (out []policy.Obligation) {
	for _, o := range list {
		out = append(out, policy.Obligation(o))
	}
	return out
}

// failing is a module that could not be loaded.
type failing struct{ f *policywasm.Failure }

func (f failing) Evaluate(context.Context, policywasm.Call) *policywasm.Result {
	return &policywasm.Result{Failure: f.f}
}
func (f failing) Digest() [32]byte              { return [32]byte{} }
func (f failing) Metadata() policywasm.Metadata { return policywasm.Metadata{} }
func (f failing) Close(context.Context) error   { return nil }
