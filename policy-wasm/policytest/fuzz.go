package policytest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// Kinds of a [Bug].
const (
	Fails     = "failure"   // the policy did not decide: it trapped, used up its fuel, …
	Disagrees = "disagrees" // engines say different things
	Opens     = "opens"     // a document that was not allowed is, with a member less
)

// A Bug is what [Runner.Fuzz] found, as a test that fails.
type Bug struct {
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
	Test   Test   `json:"-"`
}

// A Campaign is what [Runner.Fuzz] did.
type Campaign struct {
	Documents   int   `json:"documents"` // tried
	Bugs        []Bug `json:"bugs"`
	Failures    int   `json:"failures"`     // documents without a decision
	Allowed     int   `json:"allowed"`      //
	FuelAtMost  int64 `json:"fuel_at_most"` // of one evaluation
	PagesAtMost int64 `json:"pages_at_most"`
}

// maxBugs bounds a campaign's findings: what comes after is more of the same.
const maxBugs = 20

// Fuzz asks the policy about documents that are changed at random, as long as
// more says so: whole ones of which members are set to other values, to values
// of other types, or removed. Base documents are named; seed makes the order of
// events. Each finding is made as small as it gets.
func (r *Runner) Fuzz(ctx context.Context, bases map[string][]byte, optional []string, seed uint64, more func() bool) (*Campaign, error) {
	var docs []baseDocument
	for name, text := range bases {
		t := Test{Base: name}
		doc, err := new(File).build(&t, func(string) ([]byte, error) { return text, nil })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		q, err := questionOf(doc)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if slices.Contains(r.Policy.Metadata().Entries, policywasm.Entry(q)) {
			docs = append(docs, baseDocument{name, doc, q})
		}
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("no document asks what the policy answers: %v", r.Policy.Metadata().Entries)
	}
	slices.SortFunc(docs, func(a, b baseDocument) int { return strings.Compare(a.name, b.name) })
	f := &fuzzer{r: r, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 0x746d6370)), optional: optional, seen: map[string]bool{}, c: &Campaign{Bugs: []Bug{}}}
	for more() && ctx.Err() == nil && len(f.c.Bugs) < maxBugs {
		f.one(docs[f.rng.IntN(len(docs))])
	}
	return f.c, ctx.Err()
}

type baseDocument struct {
	name string
	doc  any
	q    question
}

type fuzzer struct {
	r        *Runner
	ctx      context.Context
	rng      *rand.Rand
	optional []string
	seen     map[string]bool
	also     bool // ask the other engines too
	c        *Campaign
}

// alsoEvery is how often other engines are asked: interpreters are some 30 times
// slower.
const alsoEvery = 16

// one tries one document, and the same with a member less.
func (f *fuzzer) one(b baseDocument) {
	doc, changes := clone(b.doc), []Change(nil)
	for range f.rng.IntN(6) {
		if c, ok := f.change(doc); ok && apply(&doc, c) {
			changes = append(changes, c)
		}
	}
	f.found(b, changes)
	if p, ok := f.member(doc); ok && !slices.ContainsFunc(f.optional, func(s string) bool { return matches(p, s) }) {
		s := string(p)
		f.found(b, append(slices.Clone(changes), Change{Remove: &s}))
	}
}

// found notes what is wrong with a document, once.
func (f *fuzzer) found(b baseDocument, changes []Change) {
	f.also = f.c.Documents%alsoEvery == 0
	kind, detail, what, a := f.judge(b, changes)
	f.c.Documents++
	if a != nil {
		f.c.FuelAtMost, f.c.PagesAtMost = max(f.c.FuelAtMost, int64(a.Fuel)), max(f.c.PagesAtMost, int64(a.Pages))
		if a.Failure != nil {
			f.c.Failures++
		}
		if a.Decision == "allow" {
			f.c.Allowed++
		}
	}
	if kind == "" || f.seen[what] || f.ctx.Err() != nil {
		return
	}
	for i := 0; i < len(changes); { // drop what is not needed
		if kind == Opens && i == len(changes)-1 {
			break // the removal itself
		}
		less := slices.Delete(slices.Clone(changes), i, i+1)
		if k, d, w, _ := f.judge(b, less); k == kind && w == what {
			changes, detail = less, d
		} else {
			i++
		}
	}
	f.seen[what] = true
	f.c.Bugs = append(f.c.Bugs, Bug{Kind: kind, Detail: detail, Test: Test{
		Name: "found by fuzzing: " + what, Base: b.name, Change: changes, Want: Want{Decision: "deny"},
	}})
}

// judge says what is wrong with the answer to a changed document, if anything.
func (f *fuzzer) judge(b baseDocument, changes []Change) (kind, detail, what string, a *Answer) {
	doc := clone(b.doc)
	for _, c := range changes {
		if !apply(&doc, c) {
			return "", "", "", nil
		}
	}
	in, err := input(doc, f.r.Policy.Metadata())
	if err != nil {
		return "", "", "", nil
	}
	a = AnswerOf(b.q.ask(f.ctx, f.r.Policy, in))
	for _, other := range f.r.Also {
		if !f.also && a.Failure == nil {
			break
		}
		if o := AnswerOf(b.q.ask(f.ctx, other, in)); !a.same(o) {
			return Disagrees, fmt.Sprintf("one engine says %s, another %s", a.Line(), o.Line()), Disagrees, a
		}
	}
	if a.Failure != nil {
		return Fails, a.Line(), a.Failure.Reason, a
	}
	if n := len(changes); a.Decision == "allow" && n > 0 && changes[n-1].Remove != nil {
		p := changes[n-1].pointer()
		whole := clone(b.doc)
		for _, c := range changes[:n-1] {
			apply(&whole, c)
		}
		if v, _ := lookup(whole, p.Parent()); isArray(v) {
			return "", "", "", a // an element less is another peer, not one that is known less of
		}
		if was := f.r.decide(f.ctx, b.q, whole); was != "allow" {
			return Opens, fmt.Sprintf("%s with %s, allow without", was, printable(string(p))), "without " + general(p), a
		}
	}
	return "", "", "", a
}

func isArray(v any) bool {
	_, ok := v.([]any)
	return ok
}

// general puts * for the indexes of a pointer.
func general(p jsontext.Pointer) string {
	var out jsontext.Pointer
	for tok := range p.Tokens() {
		if strings.Trim(tok, "0123456789") == "" {
			tok = "*"
		}
		out = out.AppendToken(tok)
	}
	return string(out)
}

func apply(doc *any, c Change) bool {
	if c.Remove != nil {
		return remove(doc, c.pointer()) == nil
	}
	return set(doc, c.pointer(), c.Value) == nil
}

// place picks a place of doc.
func (f *fuzzer) place(doc any) (jsontext.Pointer, bool) {
	var all []jsontext.Pointer
	for p := range paths(doc) {
		all = append(all, p)
	}
	if len(all) == 0 {
		return "", false
	}
	return all[f.rng.IntN(len(all))], true
}

// member picks a member of an object.
func (f *fuzzer) member(doc any) (jsontext.Pointer, bool) {
	p, ok := f.place(doc)
	if !ok {
		return "", false
	}
	v, _ := lookup(doc, p.Parent())
	return p, !isArray(v)
}

// change is one change of doc, mostly small.
func (f *fuzzer) change(doc any) (Change, bool) {
	p, ok := f.place(doc)
	if !ok {
		return Change{}, false
	}
	s := string(p)
	v, _ := lookup(doc, p)
	var pool []any
	switch f.rng.IntN(10) {
	case 0:
		return Change{Remove: &s}, true
	case 1:
		pool = []any{nil}
	case 2:
		pool = retyped(v)
	case 3:
		pool = []any{strings.Repeat("A", 1<<f.rng.IntN(14)), deep(f.rng.IntN(20)), 1<<53 - 1.0, -(1<<53 - 1.0), "\u0000\u202e\U0001f600", map[string]any{"": ""}}
	case 4:
		if list, ok := v.([]any); ok && len(list) > 0 { // more of the same
			pool = []any{append(slices.Clone(list), clone(list[f.rng.IntN(len(list))]))}
		}
	default:
		pool = others(p, v)
	}
	if len(pool) == 0 {
		return Change{}, false
	}
	value, err := encode(pool[f.rng.IntN(len(pool))])
	return Change{Set: &s, Value: value}, err == nil
}

// deep is n arrays in one another.
func deep(n int) any {
	var v any = []any{}
	for range n {
		v = []any{v}
	}
	return v
}

// Format writes tests as a file that [Parse] reads.
func Format(tests []Test) ([]byte, error) {
	type change struct {
		Set    *string        `json:"set,omitzero"`
		Value  jsontext.Value `json:"value,omitzero"`
		Remove *string        `json:"remove,omitzero"`
	}
	type test struct {
		Name   string            `json:"name"`
		Base   string            `json:"base"`
		Change []change          `json:"change"`
		Want   map[string]string `json:"want"`
	}
	var out struct {
		Tests []test `json:"tests"`
	}
	for _, t := range tests {
		o := test{Name: t.Name, Base: t.Base, Change: []change{}, Want: map[string]string{"decision": t.Want.Decision}}
		for _, c := range t.Change {
			o.Change = append(o.Change, change(c))
		}
		out.Tests = append(out.Tests, o)
	}
	b, err := json.Marshal(out, jsontext.WithIndent("  "), json.Deterministic(true))
	return append(b, '\n'), err
}
