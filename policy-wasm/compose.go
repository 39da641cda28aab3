package policywasm

import (
	"context"
	"errors"
	"fmt"
)

// A Rule says how several policies come to one decision. Under each of them a
// policy that fails denies, and nobody allows unless a policy does.
type Rule int

// Rules.
const (
	// DenyOverrides asks all: one denial denies; else one allowance allows.
	DenyOverrides Rule = iota
	// FirstMatch asks in turn: the first that does not abstain decides.
	FirstMatch
	// AllAllow asks all: each one must allow. To abstain is not to allow.
	AllAllow
)

func (r Rule) String() string {
	switch r {
	case FirstMatch:
		return "first-match"
	case AllAllow:
		return "all-allow"
	}
	return "deny-overrides"
}

// An Evaluator answers as a policy does: a [Policy], or an adapter around a
// module that was made for another host. It is safe for concurrent use.
type Evaluator interface {
	// Evaluate always returns a result; see [Policy.Evaluate].
	Evaluate(ctx context.Context, c Call) *Result
	// Digest is the SHA-256 of the module.
	Digest() [32]byte
	Metadata() Metadata
	// Close frees what the policy holds. No evaluation may be running.
	Close(ctx context.Context) error
}

var _ Evaluator = (*Policy)(nil)

// MaxPolicies is how many policies a [Set] has at most.
const MaxPolicies = 64

// A Set is several policies that decide together. It is safe for concurrent use.
type Set struct {
	rule     Rule
	policies []Evaluator
}

// NewSet makes a set of 1 to [MaxPolicies] policies. They stay the caller's to
// close.
func NewSet(rule Rule, policies ...Evaluator) (*Set, error) {
	if len(policies) == 0 || len(policies) > MaxPolicies {
		return nil, fmt.Errorf("a set of %d policies; it has 1 to %d", len(policies), MaxPolicies)
	}
	if rule < DenyOverrides || rule > AllAllow {
		return nil, fmt.Errorf("rule %d is not known", rule)
	}
	for _, p := range policies {
		if own, ok := p.(*Policy); p == nil || ok && own == nil {
			return nil, errors.New("a set with a policy that is nil")
		}
	}
	return &Set{rule: rule, policies: policies}, nil
}

// A Verdict is what a set came to, and how.
type Verdict struct {
	Decision    Decision
	Decided     []int        // who made it so, as places in Results
	Results     []*Result    // of those asked, in the order of the set
	Vector      Vector       // the worst tier of each claim, of those that allowed
	Obligations []Obligation // of those that allowed
	Why         string       // one sentence for people
}

// Evaluate asks the policies of the set. call.Fuel is for all of them together.
func (s *Set) Evaluate(ctx context.Context, call Call) *Verdict {
	v := &Verdict{}
	left := call.Fuel
	for i, p := range s.policies {
		c := call
		if c.Inputs = nil; call.Inputs != nil {
			c.Input = call.Inputs(i)
		}
		if c.Fuel = left; call.Fuel > 0 && left == 0 {
			c.Fuel = 1 // nothing is left: it runs out at once
		}
		r := p.Evaluate(ctx, c)
		if r == nil {
			r = &Result{Policy: p.Digest(), Failure: fail(ReasonEngine, "the policy gave no result")}
		}
		left -= min(left, r.Fuel)
		v.Results = append(v.Results, r)
		if s.rule == FirstMatch && r.Decision != Abstain {
			v.Decision, v.Decided = r.Decision, []int{i}
			break
		}
	}
	if s.rule != FirstMatch {
		v.Decision, v.Decided = s.rule.decide(v.Results)
	}
	if v.Decision == Allow {
		for _, r := range v.Results {
			if r.Decision == Allow {
				v.Vector = worst(v.Vector, r.Vector)
				v.Obligations = append(v.Obligations, r.Obligations...)
			}
		}
	}
	v.Why = s.why(v)
	return v
}

// decide is what the results of all policies come to. It denies where it can't
// name who allowed.
func (rule Rule) decide(results []*Result) (Decision, []int) {
	who := map[Decision][]int{}
	for i, r := range results {
		who[r.Decision] = append(who[r.Decision], i)
	}
	switch {
	case len(who[Deny]) > 0:
		return Deny, who[Deny]
	case len(who[Allow]) == 0:
		return Deny, who[Abstain]
	case rule == AllAllow && len(who[Abstain]) > 0:
		return Deny, who[Abstain]
	}
	return Allow, who[Allow]
}

// worst merges vectors: of each claim the value of the worse tier, and of one
// tier the first.
func worst(a, b Vector) Vector {
	if a == nil && b == nil {
		return nil
	}
	out := Vector{}
	for _, v := range []Vector{a, b} {
		for claim, n := range v {
			if was, ok := out[claim]; !ok || TierOf(n) > TierOf(was) {
				out[claim] = n
			}
		}
	}
	return out
}

func (s *Set) why(v *Verdict) string {
	if len(v.Decided) == 0 {
		return fmt.Sprintf("deny (%s): no policy decided", s.rule)
	}
	i := v.Decided[0]
	r, m := v.Results[i], s.policies[i].Metadata()
	because := r.Decision.String()
	switch {
	case r.Failure != nil:
		because = "failed with " + r.Failure.Reason
	case len(r.Reasons) > 0:
		because += " for " + r.Reasons[0].Code
	}
	return fmt.Sprintf("%s (%s): policy %d of %d, %q %q (sha-256 %x), says %s", v.Decision, s.rule, i+1, len(s.policies), m.Name, m.Version, r.Policy[:8], because)
}
