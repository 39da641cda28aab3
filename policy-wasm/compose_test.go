package policywasm_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

func TestSets(t *testing.T) {
	c := caps(policywasm.Interpreter)
	fail := corpus.Guest{Appraise: corpus.Code(0x00)}
	policies := map[byte]*policywasm.Policy{
		'+': load(t, corpus.Guest{}.Module(), c),
		'-': load(t, corpus.Guest{Answer: corpus.DenyAnswer}.Module(), c),
		'0': load(t, corpus.Guest{Answer: corpus.AbstainAnswer}.Module(), c),
		'!': load(t, fail.Module(), c),
	}
	allow, deny := policywasm.Allow, policywasm.Deny
	for _, tt := range []struct {
		rule    policywasm.Rule
		set     string
		want    policywasm.Decision
		decided []int
		asked   int
		why     string
	}{
		{policywasm.DenyOverrides, "+", allow, []int{0}, 1, "says allow for ok"},
		{policywasm.DenyOverrides, "0+0", allow, []int{1}, 3, "policy 2 of 3"},
		{policywasm.DenyOverrides, "++-+-", deny, []int{2, 4}, 5, "policy 3 of 5"},
		{policywasm.DenyOverrides, "+!", deny, []int{1}, 2, "failed with policy.trap"},
		{policywasm.DenyOverrides, "00", deny, []int{0, 1}, 2, "says abstain"},
		{policywasm.FirstMatch, "0+-", allow, []int{1}, 2, "first-match"},
		{policywasm.FirstMatch, "0-+", deny, []int{1}, 2, "says deny for debug"},
		{policywasm.FirstMatch, "!+", deny, []int{0}, 1, "failed with policy.trap"},
		{policywasm.FirstMatch, "00", deny, nil, 2, "no policy decided"},
		{policywasm.AllAllow, "++", allow, []int{0, 1}, 2, "all-allow"},
		{policywasm.AllAllow, "+0", deny, []int{1}, 2, "says abstain"},
		{policywasm.AllAllow, "+-0", deny, []int{1}, 3, "says deny"},
	} {
		var ps []policywasm.Evaluator
		for _, k := range []byte(tt.set) {
			ps = append(ps, policies[k])
		}
		s, err := policywasm.NewSet(tt.rule, ps...)
		if err != nil {
			t.Fatal(err)
		}
		v := s.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `{}`)})
		if v.Decision != tt.want || !slices.Equal(v.Decided, tt.decided) || len(v.Results) != tt.asked || !strings.Contains(v.Why, tt.why) {
			t.Errorf("%v %q: %v by %v of %d, %s", tt.rule, tt.set, v.Decision, v.Decided, len(v.Results), v.Why)
		}
		if (v.Decision == allow) != (v.Vector != nil) {
			t.Errorf("%v %q: vector %v", tt.rule, tt.set, v.Vector)
		}
	}
	for _, ps := range [][]policywasm.Evaluator{nil, {nil}, {(*policywasm.Policy)(nil)}, make([]policywasm.Evaluator, 65)} {
		if _, err := policywasm.NewSet(policywasm.DenyOverrides, ps...); err == nil {
			t.Errorf("a set of %d is taken", len(ps))
		}
	}
	if _, err := policywasm.NewSet(3, policies['+']); err == nil {
		t.Error("a fourth rule is taken")
	}
}

func TestSetMerges(t *testing.T) {
	c := caps(policywasm.Interpreter)
	c.Obligations = []string{"a", "b"}
	guest := func(hardware, id string) *policywasm.Policy {
		s := strings.Replace(corpus.AllowAnswer, `"hardware":2`, `"hardware":`+hardware, 1)
		return load(t, corpus.Guest{Answer: strings.Replace(s, `"obligations":[]`, `"obligations":[{"id":"`+id+`","value":1}]`, 1)}.Module(), c)
	}
	// Who abstains has no part in it.
	abstains := load(t, corpus.Guest{Answer: `{"decision":"abstain","obligations":[{"id":"a","value":1}],"vector":{"hardware":96}}`}.Module(), c)
	s, err := policywasm.NewSet(policywasm.DenyOverrides, guest("0", "a"), guest("33", "b"), guest("3", "a"), abstains)
	if err != nil {
		t.Fatal(err)
	}
	v := s.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `{}`)})
	if v.Decision != policywasm.Allow || v.Vector["hardware"] != 33 || v.Vector["executables"] != 2 || len(v.Obligations) != 3 {
		t.Errorf("%+v", v)
	}
}

// The fuel of a call is for all policies of a set together.
func TestSetFuel(t *testing.T) {
	p := load(t, corpus.Guest{}.Module(), caps(policywasm.Interpreter))
	in := input(t, `{}`)
	one := appraise(p, in).Fuel
	s, err := policywasm.NewSet(policywasm.DenyOverrides, p, p, p)
	if err != nil {
		t.Fatal(err)
	}
	for fuel, want := range map[uint64]policywasm.Decision{3 * one: policywasm.Allow, 3*one - 1: policywasm.Deny, one: policywasm.Deny, 0: policywasm.Allow} {
		v := s.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: in, Fuel: fuel})
		if v.Decision != want || want == policywasm.Deny && v.Results[2].Failure.Reason != policywasm.ReasonDeadline {
			t.Errorf("with fuel for %d of %d: %s", fuel, 3*one, v.Why)
		}
	}
}

func TestTiers(t *testing.T) {
	for v, want := range map[int8]policywasm.Tier{
		-1: policywasm.TierNone, 0: policywasm.TierNone, 1: policywasm.TierNone,
		2: policywasm.TierAffirming, 31: policywasm.TierAffirming, -2: policywasm.TierAffirming, -32: policywasm.TierAffirming,
		32: policywasm.TierWarning, 95: policywasm.TierWarning, -33: policywasm.TierWarning, -96: policywasm.TierWarning,
		96: policywasm.TierContraindicated, 127: policywasm.TierContraindicated, -97: policywasm.TierContraindicated, -128: policywasm.TierContraindicated,
	} {
		if got := policywasm.TierOf(v); got != want {
			t.Errorf("%d: %d, want %d", v, got, want)
		}
	}
}
