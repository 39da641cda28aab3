package policytest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// A Runner runs tests against one policy.
type Runner struct {
	Policy policywasm.Evaluator
	// Also are the same policy once more, such as in the other engine. They must say
	// the same, to the unit of fuel.
	Also []policywasm.Evaluator
	// Kept, if not nil, is the same policy in instances that are kept: it must
	// decide the same, whatever was asked before. Fuel and memory may differ.
	Kept   policywasm.Evaluator
	Source Source // of base documents
}

// An Outcome is what came of one test. It passed when it has no problems and
// no findings.
type Outcome struct {
	File     string    `json:"file"`
	Test     string    `json:"test"`
	Problems []string  `json:"problems"`        // how the answer differs from what is wanted
	Answer   *Answer   `json:"answer"`          // nil where the document could not be made
	Mutants  int       `json:"mutants"`         // damaged documents that were tried
	Findings []Finding `json:"findings"`        // of [Runner.Mutate]
	Reads    []string  `json:"reads,omitempty"` // as in [Damage]
	Notes    []string  `json:"notes,omitempty"`
}

// Passed reports whether all is as wanted.
func (o *Outcome) Passed() bool { return len(o.Problems) == 0 && len(o.Findings) == 0 }

// Run runs the tests of a file in their order. It ends early when ctx does.
func (r *Runner) Run(ctx context.Context, f *File) ([]Outcome, error) {
	var out []Outcome
	for i := range f.Tests {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		t := &f.Tests[i]
		o := Outcome{File: f.Path, Test: t.Name, Problems: []string{}, Findings: []Finding{}}
		if err := r.test(ctx, f, t, &o); err != nil {
			o.Problems = append(o.Problems, "document: "+err.Error())
		}
		out = append(out, o)
	}
	return out, ctx.Err()
}

func (r *Runner) test(ctx context.Context, f *File, t *Test, o *Outcome) error {
	doc, err := f.build(t, r.Source)
	if err != nil {
		return err
	}
	q, err := questionOf(doc)
	if err != nil {
		return err
	}
	in, err := input(doc, r.Policy.Metadata())
	if err != nil {
		return err
	}
	o.Answer = AnswerOf(q.ask(ctx, r.Policy, in))
	o.Problems = append(o.Problems, t.Want.compare(o.Answer)...)
	for i, other := range r.Also {
		if b := AnswerOf(q.ask(ctx, other, in)); !o.Answer.same(b) {
			o.Problems = append(o.Problems, fmt.Sprintf("engine %d says otherwise: %s", i+2, b.Line()))
		}
	}
	if r.Kept != nil && o.Answer.Failure == nil {
		b := AnswerOf(q.ask(ctx, r.Kept, in))
		if b.Fuel, b.Pages = o.Answer.Fuel, o.Answer.Pages; !o.Answer.same(b) {
			o.Problems = append(o.Problems, "an instance that was asked before says otherwise; the policy keeps something from one question to the next: "+b.Line())
		}
	}
	if args, _ := lookup(doc, "/call/arguments"); args != nil {
		if v, _ := lookup(withoutArguments(doc, r.Policy.Metadata()), "/call/arguments"); v == nil {
			o.Notes = append(o.Notes, "the policy does not get call.arguments: it declares no input that begins with /call/arguments")
		}
	}
	if f.mutates(t) && o.Answer.Failure == nil {
		d := r.Mutate(ctx, doc, f.Optional)
		o.Findings, o.Mutants, o.Reads = d.Findings, d.Tried, d.Reads
		if d.TooLarge {
			o.Problems = append(o.Problems, fmt.Sprintf(`the document has more than %d members: it is too large to damage each of them; say "mutate": false`, maxDamaged))
		}
	}
	return nil
}

func (f *File) mutates(t *Test) bool {
	switch {
	case t.Mutate != nil:
		return *t.Mutate
	case f.Mutate != nil:
		return *f.Mutate
	}
	return true
}

// A question is asked again and again, of changed documents too.
type question policywasm.Entry

func questionOf(doc any) (question, error) {
	v, _ := lookup(doc, "/question")
	s, ok := v.(string)
	if e := policywasm.Entry(s); !ok || e != policywasm.Appraise && e != policywasm.Authorize {
		return "", fmt.Errorf("/question is none of appraise and authorize")
	}
	return question(s), nil
}

func (q question) ask(ctx context.Context, p policywasm.Evaluator, in *policywasm.Input) *policywasm.Result {
	return p.Evaluate(ctx, policywasm.Call{Entry: policywasm.Entry(q), Input: in})
}

// compare says how an answer differs from what is wanted.
func (w *Want) compare(a *Answer) (problems []string) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	switch {
	case w.Failure != "" && (a.Failure == nil || a.Failure.Reason != w.Failure):
		add("failure: want %s, got %s", w.Failure, a.Line())
		return problems
	case w.Failure != "":
		return nil
	case a.Failure != nil:
		add("decision: want %s, got none: %s", w.Decision, a.Line())
		return problems
	case w.Decision != a.Decision:
		add("decision: want %s, got %s", w.Decision, a.Line())
	}
	if w.Codes != nil {
		want, got := slices.Clone(w.Codes), a.codes()
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(want, got) {
			add("codes: want [%s], got [%s]", printable(strings.Join(want, " ")), strings.Join(got, " "))
		}
	}
	if w.Decision != a.Decision && a.Vector == nil {
		return problems // that nothing is said of claims follows from it
	}
	for _, claim := range slices.Sorted(maps.Keys(w.Vector)) {
		if got, ok := a.Vector[claim]; !ok {
			add("vector: want %s %d, got none", printable(claim), w.Vector[claim])
		} else if got != w.Vector[claim] {
			add("vector: want %s %d, got %d", printable(claim), w.Vector[claim], got)
		}
	}
	if w.Obligations != nil {
		for _, id := range slices.Sorted(maps.Keys(w.Obligations)) {
			if got, ok := a.Obligations[id]; !ok {
				add("obligations: want %s, got none", printable(id))
			} else if !equal(got, w.Obligations[id]) {
				add("obligations: want %s %s, got %s", printable(id), printable(string(w.Obligations[id])), printable(string(got)))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(a.Obligations)) {
			if _, ok := w.Obligations[id]; !ok {
				add("obligations: %s is not wanted", id)
			}
		}
	}
	return problems
}

func equal(a, b jsontext.Value) bool {
	a, b = a.Clone(), b.Clone()
	return a.Canonicalize() == nil && b.Canonicalize() == nil && bytes.Equal(a, b)
}

// Line is the answer in one line that is safe to show.
func (a *Answer) Line() string {
	if a.Failure != nil {
		return fmt.Sprintf("a failure, %s: %s", a.Failure.Reason, printable(a.Failure.Detail))
	}
	s := a.Decision
	for i, r := range a.Reasons {
		switch {
		case i == 0:
			s += ": "
		case i == 4:
			return s + fmt.Sprintf(" and %d more", len(a.Reasons)-i)
		default:
			s += ", "
		}
		s += r.Code
		if r.Claim != "" {
			s += " at " + printable(r.Claim)
		}
		if r.Text != "" {
			s += fmt.Sprintf(" (%s)", printable(r.Text))
		}
	}
	return s
}

// Question makes a document, in JSON, the question that a host would put to a
// policy that says m of itself.
func Question(m policywasm.Metadata, text []byte) (policywasm.Call, error) {
	doc, err := new(File).build(&Test{Document: text}, nil)
	if err != nil {
		return policywasm.Call{}, err
	}
	q, err := questionOf(doc)
	if err != nil {
		return policywasm.Call{}, err
	}
	in, err := input(doc, m)
	return policywasm.Call{Entry: policywasm.Entry(q), Input: in}, err
}

// Declared compares what a policy's decisions hung on with the inputs that it
// declares: undeclared are those that no input says, unused the inputs on which
// nothing hung in any of the tests.
func Declared(inputs []string, tests []Outcome) (undeclared, unused []string) {
	related := func(a, b string) bool { return below(jsontext.Pointer(a), b) || below(jsontext.Pointer(b), a) }
	reads := map[string]bool{}
	tried := false
	for i := range tests {
		tried = tried || tests[i].Mutants > 0
		for _, at := range tests[i].Reads {
			reads[at] = true
		}
	}
	if !tried {
		return nil, nil
	}
	for _, at := range slices.Sorted(maps.Keys(reads)) {
		if !slices.ContainsFunc(inputs, func(in string) bool { return related(at, general(jsontext.Pointer(in))) }) {
			undeclared = append(undeclared, at)
		}
	}
	for _, in := range inputs {
		hung := false
		for at := range reads {
			hung = hung || below(jsontext.Pointer(at), general(jsontext.Pointer(in)))
		}
		if !hung {
			unused = append(unused, in)
		}
	}
	return undeclared, unused
}
