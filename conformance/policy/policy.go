package policy

import (
	"fmt"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
)

// A vector is one request with what must come of it.
type vector struct {
	name   string
	req    string // requirement
	title  string
	twin   string // name of the vector that this is one mutation of; "" where there must be a decision
	reason string // of a failure, where there is a twin
	make   func() Request
	look   func(*conformance.T, *asked) // further demands
}

const (
	prefix = "policy/policy/"
	good   = "good" // the twin of modules that differ from the least policy in one thing
)

// vectors are all, in report order. Requests are not kept: some are large.
var vectors = sync.OnceValue(func() (all []vector) {
	for _, part := range [][]vector{moduleVectors(), edgeVectors(), hostileVectors(), importVectors(), stateVectors(), capVectors(), specVectors()} {
		all = append(all, part...)
	}
	return all
})

// Cases returns the cases of role policy in report order.
func Cases() []conformance.Case {
	var out []conformance.Case
	for _, v := range vectors() {
		c := conformance.Case{ID: prefix + v.name, Role: conformance.RolePolicy, Profile: conformance.ProfilePolicy, Level: conformance.MUST,
			Eras: []conformance.Era{conformance.Modern}, Requirement: conformance.RequirementOf(v.req), Title: v.title, Run: v.run}
		if v.twin == "" {
			c.About = "Has the host, through its shim, load modules and ask them. It must come to the policy's own decision."
			c.Fix = "Load the modules by hand: tmcp-conform policy --export writes the request to a file. What fails here is what policies may do."
		} else {
			c.Twin = prefix + v.twin
			c.About = "Has the host load modules and ask them, where one thing is not as it must be. The host must deny, with the reason of section 20.8 that belongs to it, and nothing of what the policy said may come with it."
			c.Fix = "Find the check that the title names, and make it one that fails closed. tmcp-conform policy --export writes the request to a file."
		}
		out = append(out, c)
	}
	return out
}

// limit bounds one answer, with loading.
const limit = 20 * time.Second

func (v *vector) run(t *conformance.T) {
	s, ok := t.Target().(*Subject)
	if !ok {
		t.Untestable("the target is not a shim of a policy host")
	}
	req := v.make()
	a := s.mustAsk(t, req)
	if a.Answer.NotImplemented {
		t.NotApplicable("the shim has not the operation %s, or what this case needs", req.Op)
	}
	if len(a.Results) != len(req.Documents) {
		t.Violate("%d results for %d documents", len(a.Results), len(req.Documents))
	}
	for _, r := range a.Results {
		if r.Failure != "" && (r.Decision != "deny" || len(r.Reasons)+len(r.Vector)+len(r.Obligations) > 0) {
			t.Violate("it fails with %.60s, and has all the same the decision %s, %d reasons, a vector of %d claims and %d obligations: a failure is a denial, and keeps nothing of what the policy said",
				r.Failure, r.Decision, len(r.Reasons), len(r.Vector), len(r.Obligations))
		}
	}
	if v.twin == "" {
		if v.look != nil {
			v.look(t, a)
			return
		}
		for i, r := range a.Results {
			if r.Failure != "" {
				t.Violate("question %d fails with %.60s (%.200s); there must be a decision", i+1, r.Failure, r.Detail)
			}
			if r.Decision != "allow" {
				t.Violate("question %d: the policy allows, and the host's decision is %s", i+1, r.Decision)
			}
		}
		return
	}
	if len(a.Results) == 0 {
		t.Violate("no result")
	}
	r := a.Results[len(a.Results)-1]
	switch {
	case r.Failure == "":
		t.Violate("the host came to the decision %s; it must deny with %s", r.Decision, v.reason)
	case r.Failure != v.reason:
		t.Violate("it fails with %.60s (%.200s), and must with %s", r.Failure, r.Detail, v.reason)
	}
	if v.look != nil {
		v.look(t, a)
	}
	t.Refused("%.60s: %.200s", r.Failure, r.Detail)
	t.Reached(a.Seq)
	t.NoEffect("nothing of what the policy said came with the failure")
}

// single is a request to one module, with an empty document.
func single(module []byte) Request { return ask(module, "appraise", "{}") }

// ask is a request to one module.
func ask(module []byte, question string, documents ...string) Request {
	return Request{Op: OpEvaluate, Modules: [][]byte{module}, Question: question, Documents: documents, Caps: caps()}
}

// caps are those of the suite. The fuel is enough for everything that must be
// decided, and soon used up by what never ends.
func caps() *Caps { return &Caps{Fuel: 10_000_000, Pages: 1024, Obligations: []string{}} }

// withCaps changes the caps of a request.
func withCaps(r Request, change func(*Caps)) Request {
	change(r.Caps)
	return r
}

// decides demands a decision of each result.
func decides(want ...string) func(*conformance.T, *asked) {
	return func(t *conformance.T, a *asked) {
		for i, r := range a.Results {
			got := r.Decision
			if r.Failure != "" {
				got = r.Failure
			}
			if got != want[i] {
				t.Violate("question %d: %.60s (%.200s), want %s", i+1, got, r.Detail, want[i])
			}
		}
	}
}

func mustf(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...)) // a mistake in the suite
	}
}
