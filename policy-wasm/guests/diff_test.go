package guests_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

// A version is one policy in one language.
type version struct {
	lang string
	policywasm.Evaluator
}

// TestOneDecision asks one policy in all languages about documents that were
// changed at random: members removed, spelled in other case, set to other values
// and to other types. All give one decision; and those that have an SDK here,
// one result. To compare more of them: -rapid.checks=10000.
func TestOneDecision(t *testing.T) {
	interoptest.Need(t)
	for _, policy := range []string{"starter", "grace"} {
		t.Run(policy, func(t *testing.T) {
			all := versions(t, policy)
			if len(all) < 3 {
				t.Fatalf("only %d versions to compare", len(all))
			}
			count := map[string]int{}
			rapid.Check(t, func(t *rapid.T) { oneDecision(t, policy, all, count) })
			t.Logf("%d versions; decisions: %v", len(all), count)
			for _, d := range []string{"allow", "deny"} {
				if all := count["allow"] + count["deny"] + count["abstain"]; count[d] < all/20 {
					t.Errorf("%d of %d documents: %s; both decisions must be common, or little is compared", count[d], all, d)
				}
			}
		})
	}
}

// FuzzOneDecision is TestOneDecision for the policy starter in three languages,
// with documents that coverage leads to.
func FuzzOneDecision(f *testing.F) {
	interoptest.Need(f)
	all := []version{{"reference", guesttest.Oracle("starter")}}
	for _, lang := range []string{"go", "rust", "rego"} {
		all = append(all, one(f, lang, "starter"))
	}
	f.Add(make([]byte, 512))
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { oneDecision(t, "starter", all, map[string]int{}) }))
}

// versions builds a policy in each language of which the toolchain is there.
// The first version is the reference.
func versions(t *testing.T, policy string) []version {
	t.Helper()
	all := []version{{"reference", guesttest.Oracle(policy)}}
	for _, lang := range []string{"go", "rust", "rego", "tinygo", "assemblyscript", "c", "zig"} {
		t.Run(lang, func(sub *testing.T) {
			v := one(sub, lang, policy)
			t.Cleanup(func() { _ = v.Close(context.Background()) })
			all = append(all, v)
		})
	}
	return all
}

// one builds a policy in one language. The caller closes it.
func one(t testing.TB, lang, policy string) version {
	t.Helper()
	path := os.Getenv("PATH")
	switch lang {
	case "tinygo":
		path = filepath.Dir(tinygo(t)) + string(os.PathListSeparator) + path
	case "rego":
		cache, err := interop.CacheDir()
		if err != nil {
			t.Fatal(err)
		}
		opa, err := interop.OPA(t.Context(), cache)
		interoptest.Check(t, err)
		path = filepath.Dir(opa) + string(os.PathListSeparator) + path
	}
	t.Setenv("PATH", path)
	dir := project(t, lang, policy)
	module(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, "policy.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	load := policywasm.Load
	if lang == "rego" {
		load = func(ctx context.Context, b []byte, c policywasm.Caps) (*policywasm.Policy, error) {
			return rego.Load(ctx, b, c, nil)
		}
	}
	p, err := load(t.Context(), b, guesttest.Caps(policywasm.Auto))
	if err != nil {
		t.Fatal(err)
	}
	return version{lang, p}
}

func oneDecision(t *rapid.T, policy string, all []version, count map[string]int) {
	b := base(t, policy)
	for range 8 {
		text, err := json.Marshal(b.doc, json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		in, err := policywasm.NewInput(text, 1<<20)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var want *policywasm.Result
		for _, v := range all {
			got := v.Evaluate(context.Background(), policywasm.Call{Entry: b.entry, Input: in})
			if got.Failure != nil {
				t.Fatalf("%s: %v\n%s", v.lang, got.Failure, text)
			}
			if want == nil {
				want = got
				count[got.Decision.String()]++
				continue
			}
			if got.Decision != want.Decision {
				t.Fatalf("%s says %s, the reference %s\n%s", v.lang, said(got), said(want), text)
			}
			if v.lang != "rego" && said(got) != said(want) {
				t.Fatalf("%s says\n%s\nand the reference\n%s\n%s", v.lang, said(got), said(want), text)
			}
		}
		b.change(t)
	}
}

// said is all that a policy answered.
func said(r *policywasm.Result) string {
	vector := ""
	for _, name := range slices.Sorted(maps.Keys(r.Vector)) {
		vector += fmt.Sprintf(" %s=%d", name, r.Vector[name])
	}
	return fmt.Sprintf("%v %q%s %s", r.Decision, r.Reasons, vector, r.Obligations)
}

// A draft is a document that is being changed.
type draft struct {
	entry policywasm.Entry
	doc   map[string]any
}

// base draws a document and settings to begin with.
func base(t *rapid.T, policy string) *draft {
	names := slices.Concat(document.Samples(), []string{"like tdx", "like sgx", "like sev-snp", "like nitro", "like gpu", "like call-attested", "like call-identity", "like call-unknown"})
	for {
		name := rapid.SampledFrom(names).Draw(t, "base")
		text, ok := document.Sample(name)
		if like, found := strings.CutPrefix(name, "like "); found {
			var err error
			if text, err = guesttest.Document(like); err != nil {
				t.Fatal(err)
			}
		} else if !ok {
			t.Fatalf("no sample %s", name)
		}
		v, err := guesttest.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		d := &draft{doc: v.(map[string]any)}
		d.entry = policywasm.Entry(d.doc["question"].(string))
		switch {
		case policy == "grace" && d.entry == policywasm.Authorize:
			continue
		case policy == "grace":
			d.late(t)
		case d.entry == policywasm.Authorize:
			tool, _ := d.doc["call"].(map[string]any)["name"].(string)
			d.doc["settings"] = map[string]any{"tools": map[string]any{tool: rapid.SampledFrom([]string{"attested", "identity", "anyone"}).Draw(t, "demand"), "other": "anyone"}}
		}
		return d
	}
}

// late makes the firmware out of date for about as long as it may be.
func (d *draft) late(t *rapid.T) {
	days := int64(rapid.SampledFrom([]int{0, 1, 30, 3650}).Draw(t, "days"))
	d.doc["settings"] = map[string]any{"days": days}
	for _, device := range d.doc["devices"].([]any) {
		if tcb, ok := device.(map[string]any)["tcb"].(map[string]any); ok && rapid.Bool().Draw(t, "late") {
			tcb["status"] = rapid.SampledFrom([]string{"OutOfDate", "OutOfDateConfigurationNeeded"}).Draw(t, "status")
			tcb["date"] = d.doc["time"].(int64) - days*86400 + int64(rapid.IntRange(-1, 1).Draw(t, "left"))
			tcb["out_of_date_since"] = rapid.SampledFrom([]any{nil, tcb["date"]}).Draw(t, "since")
		}
	}
}

// values are what members are set to: those that mean something to the policies,
// and some of each type.
var values = []any{
	nil, true, false, int64(0), int64(1), int64(-1), int64(30), int64(3650), int64(3651), int64(1<<53 - 1), int64(1 - 1<<53),
	int64(1795200000), int64(1795200000 - 30*86400), int64(1795200000 - 30*86400 + 1), int64(1795200000 - 86400),
	"", "true", "0", "UpToDate", "uptodate", "OutOfDate", "OutOfDateConfigurationNeeded", "SWHardeningNeeded", "Revoked",
	"tdx", "nvidia-gpu", "nitro", "cca", "attested", "identity", "none", "anyone", "tools/call", "tools/list", "get_weather", "other", "é\x00/~",
	[]any{}, []any{map[string]any{}}, map[string]any{}, map[string]any{"": nil, "tools": map[string]any{}},
	map[string]any{"days": int64(7)}, map[string]any{"status": "UpToDate"}, map[string]any{"status": "OutOfDate", "date": int64(1795100000), "out_of_date_since": nil}, map[string]any{"matched": true},
}

// telling are members that the policies read: they are changed more often than
// others.
var telling = []string{"devices", "proven", "simulated", "debug", "kind", "tcb", "status", "date", "out_of_date_since", "references", "matched", "time", "settings", "tools", "days", "call", "method", "name", "peer", "profile"}

// change changes one place.
func (d *draft) change(t *rapid.T) {
	var places []place
	collect(d.doc, &places)
	if rapid.IntRange(0, 3).Draw(t, "anywhere") > 0 {
		told := slices.DeleteFunc(slices.Clone(places), func(p place) bool { return !slices.Contains(telling, p.name) })
		if len(told) > 0 {
			places = told
		}
	}
	if len(places) == 0 {
		return
	}
	p := places[rapid.IntRange(0, len(places)-1).Draw(t, "place")]
	switch rapid.IntRange(0, 9).Draw(t, "how") {
	case 0:
		p.remove()
	case 1:
		if o, ok := p.in.(map[string]any); ok && p.name != "" {
			recased := strings.ToUpper(p.name[:1]) + p.name[1:]
			o[recased] = p.get()
			delete(o, p.name)
		}
	case 2: // an element twice
		if a, ok := p.get().([]any); ok && len(a) > 0 && len(a) < 4 {
			p.set(append(slices.Clone(a), a[0]))
		}
	case 3: // as text
		if n, ok := p.get().(int64); ok {
			p.set(strconv.FormatInt(n, 10))
		} else {
			p.set(fmt.Sprint(p.get() == true))
		}
	case 4:
		if n, ok := p.get().(int64); ok {
			p.set(max(min(n+int64(rapid.IntRange(-2, 2).Draw(t, "by")), 1<<53-1), 1-1<<53))
		}
	default:
		v, err := again(rapid.SampledFrom(values).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		p.set(v)
	}
}

// again is a copy, so that one place can be changed without another.
func again(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return guesttest.Decode(b)
}

// A place is a member or an element.
type place struct {
	in    any
	name  string
	index int
}

func collect(v any, out *[]place) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			*out = append(*out, place{in: v, name: name})
			collect(v[name], out)
		}
	case []any:
		for i := range v {
			*out = append(*out, place{in: v, index: i})
			collect(v[i], out)
		}
	}
}

func (p place) get() any {
	if o, ok := p.in.(map[string]any); ok {
		return o[p.name]
	}
	return p.in.([]any)[p.index]
}

func (p place) set(v any) {
	if o, ok := p.in.(map[string]any); ok {
		o[p.name] = v
		return
	}
	p.in.([]any)[p.index] = v
}

func (p place) remove() {
	if o, ok := p.in.(map[string]any); ok {
		delete(o, p.name)
		return
	}
	p.set(nil)
}
