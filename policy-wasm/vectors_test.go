package policywasm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/spec/vectors"
)

type hexBytes = vectors.Hex

// deciders decide the vectors of chapter 20 as a host does, and compare what
// comes out with the vector's output. They return the reason of a failure.
var deciders = map[string]func(*testing.T, *vectors.Vector) string{
	"policy-metadata": decideMetadata,
	"policy-document": decideDocument,
	"policy-result":   decideResult,
	"policy-fuel":     decideFuel,
	"policy-compose":  decideCompose,
}

func TestVectors(t *testing.T) {
	n := 0
	for group, decide := range deciders {
		for _, v := range vectors.Group(group) {
			n++
			t.Run(v.ID, func(t *testing.T) {
				if got := decide(t, &v); got != v.Reason {
					t.Errorf("%s: %q, want %q", v.Note, got, v.Reason)
				}
			})
		}
	}
	if n < 150 {
		t.Errorf("%d vectors only", n)
	}
}

func decode(t *testing.T, v *vectors.Vector, in, out any) {
	t.Helper()
	for b, into := range map[string]any{string(v.Input): in, string(v.Output): out} {
		if err := json.Unmarshal([]byte(b), into, json.RejectUnknownMembers(true), json.MatchCaseInsensitiveNames(true)); b != "" && err != nil {
			t.Fatalf("%s: %v", v.ID, err)
		}
	}
}

func reason(t *testing.T, err error) string {
	t.Helper()
	var f *policywasm.Failure
	if err == nil {
		return ""
	}
	if !errors.As(err, &f) {
		t.Fatalf("error of another type: %v", err)
	}
	return f.Reason
}

// decideMetadata loads a module with that metadata.
func decideMetadata(t *testing.T, v *vectors.Vector) string {
	var in struct{ Metadata hexBytes }
	var out struct {
		Name, Version, Author, Licence string
		Entries                        []policywasm.Entry
		Encoding                       policywasm.Encoding
		Inputs                         []string
		Fuel, Pages                    uint64
		Development                    bool
	}
	decode(t, v, &in, &out)
	section := func(b []byte) []byte { return corpus.Custom("tmcp.policy", b) }
	module := corpus.Guest{}.Module()
	was := section(corpus.Meta().Append(nil))
	module = slices.Concat(module[:8], section(in.Metadata), module[8+len(was):])
	p, err := policywasm.Load(context.Background(), module, caps(policywasm.Interpreter))
	if err != nil {
		return reason(t, err)
	}
	defer p.Close(context.Background())
	m := p.Metadata()
	got := fmt.Sprint(m.Name, m.Version, m.Author, m.Licence, m.Entries, m.Encoding, m.Inputs, m.Fuel, m.Pages, m.Development)
	if want := fmt.Sprint(out.Name, out.Version, out.Author, out.Licence, out.Entries, out.Encoding, out.Inputs, out.Fuel, out.Pages, out.Development); m.ABI != 1 || got != want {
		t.Errorf("%s, want %s", got, want)
	}
	return ""
}

func decideDocument(t *testing.T, v *vectors.Vector) string {
	var in struct{ Document string }
	var out struct {
		JSON string
		CBOR hexBytes
	}
	decode(t, v, &in, &out)
	doc, err := policywasm.NewInput([]byte(in.Document), 1<<20)
	if err != nil {
		return reason(t, err)
	}
	j, _ := doc.Bytes(policywasm.JSON)
	c, _ := doc.Bytes(policywasm.CBOR)
	if string(j) != out.JSON || string(c) != string(out.CBOR) {
		t.Errorf("%s %x", j, c)
	}
	return ""
}

// decideResult has a guest return it.
func decideResult(t *testing.T, v *vectors.Vector) string {
	var in struct {
		Encoding    policywasm.Encoding
		Question    policywasm.Entry
		Result      string
		Obligations []string
	}
	var out result
	decode(t, v, &in, &out)
	m := corpus.Meta()
	m.Encoding = in.Encoding
	answer := in.Result
	if m.Encoding == policywasm.CBOR {
		var b hexBytes
		if err := b.UnmarshalText([]byte(answer)); err != nil {
			t.Fatal(err)
		}
		answer = string(b)
	}
	c := caps(policywasm.Interpreter)
	c.Obligations = in.Obligations
	allocate := corpus.Code(corpus.Const(corpus.I32, 60_000)) // behind the longest answer
	p := load(t, corpus.Guest{Metadata: m, Answer: answer, Allocate: allocate}.Module(), c)
	r := p.Evaluate(context.Background(), policywasm.Call{Entry: in.Question, Input: input(t, "{}")})
	if r.Failure != nil {
		if r.Decision != policywasm.Deny || r.Reasons != nil || r.Vector != nil || r.Obligations != nil {
			t.Errorf("a failure that left something of the result: %+v", r)
		}
		return r.Failure.Reason
	}
	if got, want := describe(r), out.String(); got != want {
		t.Errorf("%.500s, want %.500s", got, want)
	}
	return ""
}

// A result is one as vectors have it.
type result struct {
	Decision    string
	Reasons     []policywasm.Reason
	Vector      map[string]int8
	Obligations []obligation
}

type obligation struct {
	ID    string
	Value jsontext.Value
}

func (r result) String() string {
	s := fmt.Sprintf("%s %v %v", r.Decision, r.Reasons, r.Vector)
	for _, o := range r.Obligations {
		_ = o.Value.Canonicalize()
		s += fmt.Sprintf(" %s=%s", o.ID, o.Value)
	}
	return s
}

func describe(r *policywasm.Result) string {
	out := result{Decision: r.Decision.String(), Reasons: r.Reasons, Vector: r.Vector}
	for _, o := range r.Obligations {
		out.Obligations = append(out.Obligations, obligation(o))
	}
	return out.String()
}

func decideFuel(t *testing.T, v *vectors.Vector) (why string) {
	var in struct {
		Module       hexBytes
		Question     policywasm.Entry
		Document     string
		Cap, Granted uint64
		Log          int
	}
	var out struct {
		Decision string
		Fuel     uint64
	}
	decode(t, v, &in, &out)
	for name, e := range engines {
		c := caps(e)
		c.Fuel, c.Log = in.Cap, in.Log
		p := load(t, in.Module, c)
		r := p.Evaluate(context.Background(), policywasm.Call{Entry: in.Question, Input: input(t, in.Document), Fuel: in.Granted})
		if r.Failure != nil {
			why = r.Failure.Reason
		} else if r.Decision.String() != out.Decision || r.Fuel != out.Fuel {
			t.Errorf("%s: %s with %d units, want %s with %d", name, r.Decision, r.Fuel, out.Decision, out.Fuel)
		}
	}
	return why
}

// A canned evaluator gives one result.
type canned policywasm.Result

func (c *canned) Evaluate(context.Context, policywasm.Call) *policywasm.Result {
	return (*policywasm.Result)(c)
}
func (c *canned) Digest() [32]byte              { return [32]byte{} }
func (c *canned) Metadata() policywasm.Metadata { return *corpus.Meta() }
func (c *canned) Close(context.Context) error   { return nil }

func decideCompose(t *testing.T, v *vectors.Vector) string {
	var in struct {
		Rule    string
		Results []struct {
			result  `json:",inline"`
			Failure string
		}
	}
	var out struct {
		Decision    string
		Decided     []int
		Asked       int
		Vector      map[string]int8
		Obligations []obligation
	}
	decode(t, v, &in, &out)
	var rule policywasm.Rule
	for rule.String() != in.Rule {
		if rule++; rule > policywasm.AllAllow {
			t.Fatalf("rule %q", in.Rule)
		}
	}
	var all []policywasm.Evaluator
	for _, r := range in.Results {
		c := &canned{Reasons: r.Reasons, Vector: r.Vector, Decision: map[string]policywasm.Decision{"allow": policywasm.Allow, "abstain": policywasm.Abstain}[r.Decision]}
		for _, o := range r.Obligations {
			c.Obligations = append(c.Obligations, policywasm.Obligation(o))
		}
		if r.Failure != "" {
			c.Failure = &policywasm.Failure{Reason: r.Failure}
		}
		all = append(all, c)
	}
	s, err := policywasm.NewSet(rule, all...)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise})
	same := slices.EqualFunc(got.Obligations, out.Obligations, func(a policywasm.Obligation, b obligation) bool {
		return a.ID == b.ID && string(a.Value) == string(b.Value)
	})
	if got.Decision.String() != out.Decision || !slices.Equal(got.Decided, out.Decided) || len(got.Results) != out.Asked || !maps.Equal(got.Vector, out.Vector) || !same {
		b, _ := json.Marshal(out)
		t.Errorf("%s by %v of %d, %v %v; want %s", got.Decision, got.Decided, len(got.Results), got.Vector, got.Obligations, b)
	}
	return ""
}
