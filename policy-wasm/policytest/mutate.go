package policytest

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// A Mutation is a kind of damage to one member of a document.
type Mutation string

// Mutations. No host sends such documents; a policy that takes them to allow
// would also take whatever a later version of host, document or language makes
// of the member.
const (
	Remove Mutation = "remove" // the member is missing
	Null   Mutation = "null"   // nothing is known
	Recase Mutation = "recase" // debug becomes Debug
	Retype Mutation = "retype" // false becomes "false", an object an array
)

// A Finding is damage that opens a policy, or does not close it.
type Finding struct {
	Pointer  jsontext.Pointer `json:"pointer"`
	Mutation Mutation         `json:"mutation"`
	Was      string           `json:"was"` // decision on the whole document; now it is allow
	Why      string           `json:"why"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s %s: %s", f.Mutation, printable(string(f.Pointer)), f.Why)
}

const (
	opens   = "the policy did not allow, and allows now"
	ignores = "the policy still allows, although another value here makes it deny"
)

// Damage is what came of damaged documents.
type Damage struct {
	Findings []Finding
	Tried    int      // documents that the policy was asked about
	Reads    []string // JSON pointers, with * for indexes, on which the decision hung
	TooLarge bool     // the document has more than 10,000 members and elements: nothing was tried
}

// maxDamaged bounds the square of a document's size that damage takes.
const maxDamaged = 10_000

// Mutate damages each member of doc in turn (a document as json makes it of
// any): removes it, nulls it, recases its name and retypes its value. Elements
// of arrays are nulled and retyped.
//
// What was not allowed must not become allowed by it. And what was allowed must
// not stay so where the member matters: where another value of the same type
// there, such as true for false, has the policy not allow.
//
// A policy may mean it: who says of firmware "if it is known, it must be up to
// date" finds /devices/0/tcb here. Members that match one of optional may be
// missing or null.
func (r *Runner) Mutate(ctx context.Context, doc any, optional []string) Damage {
	d := Damage{Findings: []Finding{}}
	q, err := questionOf(doc)
	if err != nil {
		return d
	}
	was := r.decide(ctx, q, doc)
	var all []mutant
	members := 0
	for p := range paths(doc) {
		if members++; members > maxDamaged {
			d.TooLarge = true
			return d
		}
		for _, m := range mutants(doc, p) {
			if (m.kind == Remove || m.kind == Null) && slices.ContainsFunc(optional, func(s string) bool { return matches(p, s) }) {
				continue
			}
			all = append(all, m)
		}
	}
	allowed := make([]bool, len(all))
	parallel(len(all), func(i int) {
		if ctx.Err() == nil {
			allowed[i] = r.decide(ctx, q, all[i].make()) == "allow"
		}
	})
	if ctx.Err() != nil { // what was asked last says nothing
		return d
	}
	matter := map[jsontext.Pointer]bool{}
	d.Tried = len(all)
	for i, m := range all {
		if at := general(m.at); allowed[i] != (was == "allow") && !slices.Contains(d.Reads, at) {
			d.Reads = append(d.Reads, at)
		}
		switch {
		case !allowed[i]:
		case was != "allow":
			d.Findings = append(d.Findings, Finding{m.at, m.kind, was, opens})
		default:
			if _, asked := matter[m.at]; !asked {
				matter[m.at] = r.matters(ctx, q, doc, m.at)
			}
			if matter[m.at] {
				d.Findings = append(d.Findings, Finding{m.at, m.kind, was, ignores})
			}
		}
	}
	return d
}

func (r *Runner) decide(ctx context.Context, q question, doc any) string {
	in, err := input(doc, r.Policy.Metadata())
	if err != nil {
		return "deny"
	}
	return q.ask(ctx, r.Policy, in).Decision.String()
}

// matters reports whether the policy, which allows doc, does not allow some
// other value at p or below it.
func (r *Runner) matters(ctx context.Context, q question, doc any, at jsontext.Pointer) bool {
	for p := range paths(doc) {
		if !at.Contains(p) {
			continue
		}
		v, _ := lookup(doc, p)
		for _, other := range others(p, v) {
			changed := clone(doc)
			_ = put(&changed, p, other) // p is there
			if r.decide(ctx, q, changed) != "allow" {
				return true
			}
		}
	}
	return false
}

// parallel calls f for 0 to n-1, on all processors.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// paths are the places of a document, but for its root.
func paths(doc any) func(yield func(jsontext.Pointer) bool) {
	var walk func(v any, at jsontext.Pointer, yield func(jsontext.Pointer) bool) bool
	walk = func(v any, at jsontext.Pointer, yield func(jsontext.Pointer) bool) bool {
		if at != "" && !yield(at) {
			return false
		}
		switch v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				if !walk(v[name], at.AppendToken(name), yield) {
					return false
				}
			}
		case []any:
			for i, e := range v {
				if !walk(e, at.AppendToken(strconv.Itoa(i)), yield) {
					return false
				}
			}
		}
		return true
	}
	return func(yield func(jsontext.Pointer) bool) { walk(doc, "", yield) }
}

type mutant struct {
	at   jsontext.Pointer
	kind Mutation
	make func() any // the damaged document
}

func mutants(doc any, p jsontext.Pointer) (out []mutant) {
	with := func(kind Mutation, change func(doc *any)) {
		out = append(out, mutant{p, kind, func() any {
			d := clone(doc)
			change(&d)
			return d
		}})
	}
	v, _ := lookup(doc, p)
	parent, _ := lookup(doc, p.Parent())
	if members, ok := parent.(map[string]any); ok {
		with(Remove, func(d *any) { _ = remove(d, p) })
		name := recase(p.LastToken())
		if _, taken := members[name]; !taken {
			with(Recase, func(d *any) {
				_ = remove(d, p)
				_ = put(d, p.Parent().AppendToken(name), clone(v))
			})
		}
	}
	if v != nil {
		with(Null, func(d *any) { _ = put(d, p, nil) })
	}
	for _, other := range retyped(v) {
		with(Retype, func(d *any) { _ = put(d, p, other) })
	}
	return out
}

// recase changes the case of the first letter.
func recase(name string) string {
	for i, c := range name {
		if unicode.IsLower(c) {
			return name[:i] + string(unicode.ToUpper(c)) + name[i+len(string(c)):]
		}
		if unicode.IsUpper(c) {
			return name[:i] + string(unicode.ToLower(c)) + name[i+len(string(c)):]
		}
	}
	return name
}

// retyped are values of other types that a careless reader takes for v.
func retyped(v any) []any {
	switch v := v.(type) {
	case bool:
		return []any{strconv.FormatBool(v), 0.0, []any{}}
	case float64:
		return []any{strconv.FormatFloat(v, 'f', -1, 64), true}
	case string:
		return []any{0.0, []any{v}}
	case []any:
		return []any{map[string]any{}, ""}
	case map[string]any:
		return []any{[]any{}, true}
	}
	return nil
}

// words are what stands in members of documents that hold one of several.
var words = map[string][]string{
	"kind":    {"tdx", "sgx", "sev-snp", "nitro", "nvidia-gpu", "cca", "request", "response"},
	"outcome": {"pass", "fail", "warn", "not-performed"},
	"status":  {"UpToDate", "OutOfDate", "Revoked"},
	"profile": {"none", "identity", "attested"},
	"role":    {"server", "client"},
	"method":  {"tools/call", "tools/list"},
	"carrier": {"envelope", "inline", "http", "tls"},
}

// others are values of the type of v that it is not, such as a policy may treat
// otherwise.
func others(p jsontext.Pointer, v any) (out []any) {
	switch v := v.(type) {
	case bool:
		return []any{!v}
	case float64:
		for _, n := range []float64{0, 1, -1, v - 1, v + 1, 1<<53 - 1, -(1<<53 - 1)} {
			if n != v && n > -1<<53 && n < 1<<53 {
				out = append(out, n)
			}
		}
	case string:
		for _, s := range append([]string{"", "x"}, words[p.LastToken()]...) {
			if s != v {
				out = append(out, s)
			}
		}
	case []any:
		if len(v) > 0 {
			out = append(out, []any{})
		}
		return append(out, append(slices.Clone(v), "x"))
	case map[string]any:
		if len(v) > 0 {
			return []any{map[string]any{}}
		}
	}
	return out
}
