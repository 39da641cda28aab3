package refhost

import (
	"bytes"
	"context"
	"fmt"
	"regexp"

	"github.com/trustedmcp/tmcp/conformance/policy"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// A Flaw is what is wrong with a host. The zero value is nothing.
type Flaw struct {
	Name string

	// Blind is what it does not look at: failures whose reason and detail match
	// become what the policy would have answered.
	Blind *regexp.Regexp

	Late   bool // deadlines mean nothing
	Caps   func(*policywasm.Caps)
	Module func([]byte) []byte
	Member func(policywasm.Evaluator) policywasm.Evaluator
	Rule   func(policywasm.Rule) policywasm.Rule
	Result func(*policy.Result)
	Answer func(*policy.Request, *policy.Answer) bool // false: it ends
}

// deep reports whether the flaw is in loading and asking.
func (f *Flaw) deep() bool {
	return f.Late || f.Caps != nil || f.Module != nil || f.Member != nil || f.Rule != nil
}

func (f *Flaw) blind(r *policy.Result) bool {
	return f.Blind != nil && r.Failure != "" && f.Blind.MatchString(Rule(r))
}

// number is what differs between two refusals for one rule.
var number = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+`)

// Rule is the check by which a host refused, without what was found.
func Rule(r *policy.Result) string { return number.ReplaceAllString(r.Failure+": "+r.Detail, "N") }

// allowed is a result of a policy that allows.
func allowed(question string) policy.Result {
	r := policy.Result{Decision: "allow"}
	if question == "appraise" {
		r.Vector = map[string]int8{"configuration": 2, "executables": 2, "file-system": 0, "hardware": 2, "instance-identity": 2, "runtime-opaque": 2, "sourced-data": 0, "storage-opaque": 0}
	}
	return r
}

// A Mutant is a host with one flaw, and the cases that must notice it.
type Mutant struct {
	Flaw  *Flaw
	Kills []string // ids
	// Whole says that it is so flawed that killing it proves little of a case.
	Whole bool
}

// Overlooks is a host that skips one check.
func Overlooks(rule string, kills []string) Mutant {
	return Mutant{Flaw: &Flaw{Name: "overlooks " + rule, Blind: regexp.MustCompile("^" + regexp.QuoteMeta(rule) + "$")}, Kills: kills}
}

// Mutants are hosts with flaws that are no overlooked check. They are given the
// ids of all cases that want a decision, and of those that want a failure.
func Mutants(decisions, failures []string) []Mutant {
	ids := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, "policy/policy/"+n)
		}
		return out
	}
	failed := func(change func(*policy.Result)) func(*policy.Result) {
		return func(r *policy.Result) {
			if r.Failure != "" {
				change(r)
			}
		}
	}
	rewrites := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(new)) }
	}
	fuel := func(change func(uint64) uint64) func(*policy.Result) {
		return func(r *policy.Result) {
			if r.Fuel != nil {
				n := change(*r.Fuel)
				r.Fuel = &n
			}
		}
	}
	var bounds []Mutant
	for name, limit := range map[string]func(*policywasm.Caps) *int{
		"module":    func(c *policywasm.Caps) *int { return &c.Scan.Module },
		"locals":    func(c *policywasm.Caps) *int { return &c.Scan.Locals },
		"params":    func(c *policywasm.Caps) *int { return &c.Scan.Params },
		"types":     func(c *policywasm.Caps) *int { return &c.Scan.Types },
		"functions": func(c *policywasm.Caps) *int { return &c.Scan.Functions },
		"globals":   func(c *policywasm.Caps) *int { return &c.Scan.Globals },
		"exports":   func(c *policywasm.Caps) *int { return &c.Scan.Exports },
		"elements":  func(c *policywasm.Caps) *int { return &c.Scan.Elements },
		"data":      func(c *policywasm.Caps) *int { return &c.Scan.Data },
		"body":      func(c *policywasm.Caps) *int { return &c.Scan.Body },
		"nesting":   func(c *policywasm.Caps) *int { return &c.Scan.Nesting },
		"loops":     func(c *policywasm.Caps) *int { return &c.Scan.Loops },
		"targets":   func(c *policywasm.Caps) *int { return &c.Scan.Targets },
		"cost":      func(c *policywasm.Caps) *int { return &c.Scan.Cost },
		"result":    func(c *policywasm.Caps) *int { return &c.Output },
	} {
		bounds = append(bounds,
			Mutant{Flaw: &Flaw{Name: "takes one more than there may be: " + name, Caps: func(c *policywasm.Caps) { *limit(c)++ }}, Kills: ids("beyond-" + name)},
			Mutant{Flaw: &Flaw{Name: "takes one less than there may be: " + name, Caps: func(c *policywasm.Caps) { *limit(c)-- }}, Kills: ids("edge-" + name)})
	}
	composed := ids("compose-overrides-failure", "compose-first-failure")
	return append(bounds, []Mutant{
		{Flaw: &Flaw{Name: "denies everything", Result: func(r *policy.Result) { *r = policy.Result{Decision: "deny", Failure: policywasm.ReasonEngine} },
			Answer: func(_ *policy.Request, a *policy.Answer) bool { a.Digest = ""; return true }}, Kills: decisions, Whole: true},
		{Flaw: &Flaw{Name: "takes failures for allowances", Result: failed(func(r *policy.Result) { r.Decision = "allow" })}, Kills: failures, Whole: true},
		{Flaw: &Flaw{Name: "gives one reason for all failures", Result: failed(func(r *policy.Result) { r.Failure = "policy.failed" })}, Kills: failures, Whole: true},
		{Flaw: &Flaw{Name: "keeps what a failed policy said", Result: failed(func(r *policy.Result) { r.Reasons = []policy.Reason{{Code: "ok"}} })}, Kills: ids("nothing-kept")},
		{Flaw: &Flaw{Name: "dies of a failure", Answer: func(_ *policy.Request, a *policy.Answer) bool {
			return len(a.Results) == 0 || a.Results[0].Failure == ""
		}}, Kills: ids("after-failure")},
		{Flaw: &Flaw{Name: "remembers its answers by module", Answer: func(_ *policy.Request, a *policy.Answer) bool {
			for i := range a.Results {
				a.Results[i] = a.Results[0]
			}
			return true
		}}, Kills: ids("reads", "failure-forgotten", "after-failure")},
		{Flaw: &Flaw{Name: "keeps instances", Caps: func(c *policywasm.Caps) { c.Pool = 4 }}, Kills: ids("fresh-global", "fresh-memory", "fresh-size", "fresh-data")},
		{Flaw: &Flaw{Name: "has no deadlines", Late: true}, Kills: ids("expired", "deadline-endless", "fuel-deadline")},
		{Flaw: &Flaw{Name: "takes what is cut for a deadline for the cap", Result: func(r *policy.Result) {
			if r.Failure == policywasm.ReasonDeadline {
				r.Failure = policywasm.ReasonFuel
			}
		}}, Kills: ids("deadline-endless", "fuel-deadline", "expired")},
		{Flaw: &Flaw{Name: "charges a unit too much", Result: fuel(func(n uint64) uint64 { return n + 1 })}, Kills: ids("fuel-nop", "fuel-loop", "fuel-fill", "fuel-grow", "fuel-call-import", "fuel-nothing-exact")},
		{Flaw: &Flaw{Name: "charges for the order of questions", Answer: func(_ *policy.Request, a *policy.Answer) bool {
			for i := range a.Results {
				if a.Results[i].Fuel != nil {
					*a.Results[i].Fuel += uint64(i)
				}
			}
			return true
		}}, Kills: ids("again")},
		{Flaw: &Flaw{Name: "tells no fuel", Result: func(r *policy.Result) { r.Fuel = nil }}, Kills: ids("again", "fuel-nop")},
		{Flaw: &Flaw{Name: "has half the fuel", Caps: func(c *policywasm.Caps) { c.Fuel /= 2 }}, Kills: ids("fuel-nothing-exact", "fuel-loop-exact")},
		{Flaw: &Flaw{Name: "has no cap on fuel", Caps: func(c *policywasm.Caps) { c.Fuel += 1_000_000 }}, Kills: ids("fuel-nothing-short", "fuel-loop-short", "wish-fuel-cap")},
		{Flaw: &Flaw{Name: "has no cap on memory", Caps: func(c *policywasm.Caps) { c.Scan.Pages = 4096 }}, Kills: ids("wish-pages-cap", "memory-cap", "hostile-memory-65m")},
		{Flaw: &Flaw{Name: "grants half the memory", Caps: func(c *policywasm.Caps) { c.Scan.Pages /= 2 }}, Kills: ids("edge-memory", "wish-pages")},
		{Flaw: &Flaw{Name: "nests twice as deep", Caps: func(c *policywasm.Caps) { c.Scan.Depth *= 2 }}, Kills: ids("beyond-depth", "beyond-frames")},
		{Flaw: &Flaw{Name: "nests half as deep", Caps: func(c *policywasm.Caps) { c.Scan.Depth /= 2 }}, Kills: ids("edge-depth", "edge-frames")},
		{Flaw: &Flaw{Name: "knows every obligation", Caps: func(c *policywasm.Caps) { c.Obligations = []string{"reboot", "valid-for", "audit"} }},
			Kills: ids("hostile-obligation", "result-obligation-unknown", "nothing-kept")},
		{Flaw: &Flaw{Name: "knows no obligation", Caps: func(c *policywasm.Caps) { c.Obligations = nil }}, Kills: ids("result-obligation", "result-obligation-cbor", "compose-obligations")},
		{Flaw: &Flaw{Name: "keeps twice the log", Caps: func(c *policywasm.Caps) { c.Log *= 2 }}, Kills: ids("log-bounded", "log-first-bounded")},
		{Flaw: &Flaw{Name: "keeps no log", Result: func(r *policy.Result) { r.Log = nil }}, Kills: ids("log", "log-bounded")},
		{Flaw: &Flaw{Name: "offers no imports", Module: rewrites("wasi_snapshot_preview1", "wasi_snapshot_preview2")}, Kills: ids("wasi-yield", "wasi-random", "wasi-write")},
		{Flaw: &Flaw{Name: "does not initialise", Module: rewrites("_initialize", "_initialise")}, Kills: ids("initialisation")},
		{Flaw: &Flaw{Name: "does not start", Module: rewrites("\x08\x01\x04", "\x00\x01\x00")}, Kills: ids("initialisation")},
		{Flaw: &Flaw{Name: "speaks JSON only", Module: rewrites("dcbor", "djson")}, Kills: ids("document-order-cbor", "result-deny-cbor")},
		{Flaw: &Flaw{Name: "takes failures of one policy for abstentions", Member: func(e policywasm.Evaluator) policywasm.Evaluator { return shy{e} }}, Kills: composed},
		{Flaw: &Flaw{Name: "knows one rule only", Rule: func(policywasm.Rule) policywasm.Rule { return policywasm.DenyOverrides }}, Kills: ids("compose-first-allow", "compose-first-deny", "compose-all-abstain")},
		{Flaw: &Flaw{Name: "takes the first policy for all", Answer: func(_ *policy.Request, a *policy.Answer) bool {
			for i := range a.Results {
				a.Results[i].Decided = a.Results[i].Decided[:min(1, len(a.Results[i].Decided))]
			}
			return true
		}}, Kills: ids("compose-overrides-deny", "compose-all-allow")},
		{Flaw: &Flaw{Name: "has the best claims of several", Result: func(r *policy.Result) {
			for k := range r.Vector {
				r.Vector[k] = 2
			}
		}}, Kills: ids("compose-vector-worst", "compose-vector-tie", "result-warning")},
		{Flaw: &Flaw{Name: "drops obligations", Result: func(r *policy.Result) { r.Obligations = nil }}, Kills: ids("compose-obligations", "result-obligation")},
		{Flaw: &Flaw{Name: "drops reasons", Result: func(r *policy.Result) { r.Reasons = nil }}, Kills: ids("denies", "result-deny", "result-bounds")},
		{Flaw: &Flaw{Name: "names policies without their settings", Answer: func(r *policy.Request, a *policy.Answer) bool {
			if r.Op == policy.OpDigest {
				r.Settings = nil
				a.Digest = fmt.Sprintf("%x", digest(r))
			}
			return true
		}}, Kills: ids("digest-settings", "digest-two-settings", "digest-same-twice")},
		{Flaw: &Flaw{Name: "names policies without their rule", Answer: func(r *policy.Request, a *policy.Answer) bool {
			if r.Op == policy.OpDigest {
				r.Rule = "deny-overrides"
				a.Digest = fmt.Sprintf("%x", digest(r))
			}
			return true
		}}, Kills: ids("digest-two-first-match", "digest-two-all-allow")},
	}...)
}

// shy abstains where it failed.
type shy struct{ policywasm.Evaluator }

func (s shy) Evaluate(ctx context.Context, c policywasm.Call) *policywasm.Result {
	r := s.Evaluator.Evaluate(ctx, c)
	if r.Failure != nil {
		return &policywasm.Result{Decision: policywasm.Abstain}
	}
	return r
}
