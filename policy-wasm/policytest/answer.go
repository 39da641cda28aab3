package policytest

import (
	"encoding/hex"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// An Answer is a [policywasm.Result] as JSON. Texts, claims and log are the
// policy's own words: escape them before people see them.
type Answer struct {
	Decision    string                    `json:"decision"`
	Reasons     []Reason                  `json:"reasons"`
	Vector      policywasm.Vector         `json:"vector,omitempty"`
	Obligations map[string]jsontext.Value `json:"obligations,omitempty"`
	Failure     *Failure                  `json:"failure,omitempty"` // the policy did not decide
	Policy      string                    `json:"policy"`            // SHA-256 of the module, hex
	Fuel        uint64                    `json:"fuel"`              // used
	Pages       uint32                    `json:"pages"`             // of memory in the end, 64 KiB each
	Log         string                    `json:"log,omitempty"`
}

// A Reason is a [policywasm.Reason] as JSON.
type Reason struct {
	Code  string `json:"code"`
	Text  string `json:"text,omitempty"`
	Claim string `json:"claim,omitempty"`
}

// A Failure is a [policywasm.Failure] as JSON.
type Failure struct {
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// AnswerOf is what r says.
func AnswerOf(r *policywasm.Result) *Answer {
	a := &Answer{
		Decision: r.Decision.String(), Reasons: []Reason{}, Vector: r.Vector,
		Policy: hex.EncodeToString(r.Policy[:]), Fuel: r.Fuel, Pages: r.Pages, Log: string(r.Log),
	}
	for _, why := range r.Reasons {
		a.Reasons = append(a.Reasons, Reason(why))
	}
	for _, o := range r.Obligations {
		if a.Obligations == nil {
			a.Obligations = map[string]jsontext.Value{}
		}
		a.Obligations[o.ID] = o.Value
	}
	if r.Failure != nil {
		a.Failure = &Failure{r.Failure.Reason, r.Failure.Detail}
	}
	return a
}

// codes is the set of reason codes.
func (a *Answer) codes() []string {
	set := map[string]bool{}
	for _, r := range a.Reasons {
		set[r.Code] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// same reports whether two engines said the same of one module: all but the
// words of an engine about a failure.
func (a *Answer) same(b *Answer) bool {
	bare := func(a Answer) string {
		if a.Failure != nil {
			a.Failure = &Failure{Reason: a.Failure.Reason}
		}
		out, err := json.Marshal(a, json.Deterministic(true))
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	return bare(*a) == bare(*b)
}
