package policies_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

func load(t testing.TB, name string, e policywasm.Engine) *policywasm.Policy {
	t.Helper()
	b, ok := policies.Module(name)
	if !ok {
		t.Fatalf("no module %s; run go generate ./policy-wasm/policies", name)
	}
	caps := policywasm.Defaults()
	caps.Engine, caps.Obligations = e, []string{"valid-for", "audit"}
	p, err := policywasm.Load(context.Background(), b, caps)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func sample(name string) ([]byte, error) {
	b, ok := document.Sample(name)
	if !ok {
		return nil, fmt.Errorf("no sample %q", name)
	}
	return b, nil
}

// TestPolicies runs the tests of each policy, and damages their documents.
func TestPolicies(t *testing.T) {
	for _, name := range policies.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("tests", name+".json")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := policytest.Parse(path, b)
			if err != nil {
				t.Fatal(err)
			}
			r := policytest.Runner{Policy: load(t, name, policywasm.Auto), Also: []policywasm.Evaluator{load(t, name, policywasm.Interpreter)}, Source: sample}
			out, err := r.Run(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			mutants := 0
			var fuel uint64
			for _, o := range out {
				for _, p := range o.Problems {
					t.Errorf("%s: %s", o.Test, p)
				}
				for _, p := range o.Findings {
					t.Errorf("%s: %v", o.Test, p)
				}
				if mutants += o.Mutants; o.Answer != nil {
					fuel = max(fuel, o.Answer.Fuel)
				}
			}
			t.Logf("%d tests, %d damaged documents, %d fuel at most", len(out), mutants, fuel)
		})
	}
}

// TestCatalogue: what a policy is said to be is what its module says of itself.
func TestCatalogue(t *testing.T) {
	names := policies.Names()
	if !slices.IsSorted(names) || len(names) == 0 {
		t.Error(names)
	}
	for _, name := range names {
		p, ok := policies.Describe(name)
		if !ok || p.Name != name || !strings.HasSuffix(p.Description, ".") {
			t.Errorf("%s: %+v", name, p)
		}
		got := load(t, name, policywasm.Interpreter).Metadata()
		if want := p.Metadata(); !slices.Equal(got.Append(nil), want.Append(nil)) {
			t.Errorf("%s: the module says %+v, its description %+v; run go generate ./policy-wasm/policies", name, got, want)
		}
		source, ok := policies.Source(name)
		if !ok {
			t.Errorf("%s has no source", name)
		}
		for _, s := range p.Settings {
			if !strings.Contains(source, `"`+s.Name+`"`) {
				t.Errorf("%s: the source does not read the setting %s", name, s.Name)
			}
		}
	}
	files, err := filepath.Glob("*.wasm")
	if err != nil || len(files) != len(names) {
		t.Errorf("modules are %q; policies %q", files, names)
	}
	for _, name := range []string{"", "none", "../policies", "src/strict.ts"} {
		_, a := policies.Module(name)
		_, b := policies.Source(name)
		if _, c := policies.Describe(name); a || b || c {
			t.Errorf("there is a policy %q", name)
		}
	}
}

// TestInputs: a document that lacks a member that a policy says it reads is
// never allowed.
func TestInputs(t *testing.T) {
	for _, name := range policies.Names() {
		p := load(t, name, policywasm.Interpreter)
		d, _ := policies.Describe(name)
		for _, entry := range d.Entries {
			base := map[policywasm.Entry]string{policywasm.Appraise: "tdx", policywasm.Authorize: "call-attested"}[entry]
			for _, pointer := range d.Inputs {
				if entry == policywasm.Appraise && (pointer == "/peer/thumbprint" || pointer == "/peer/profile") {
					continue // nothing is proven then
				}
				f, err := policytest.Parse("inputs.json", fmt.Appendf(nil, `{"mutate": false, 
					"tests": [{"name": "x", "base": %q, "change": [{"remove": %q}], "want": {"decision": "deny"}}]}`, base, pointer))
				if err != nil {
					t.Fatal(err)
				}
				f.Settings = settings[name]
				out, err := (&policytest.Runner{Policy: p, Source: sample}).Run(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if a := out[0].Answer; a == nil || a.Decision == "allow" || !slices.ContainsFunc(a.Reasons, func(r policytest.Reason) bool { return r.Code == "claim-missing" }) {
					t.Errorf("%s, %s without %s: %+v %q", name, entry, pointer, a, out[0].Problems)
				}
			}
		}
	}
}

// settings with which each policy that needs some allows.
var settings = map[string]jsontext.Value{
	"allow-list":   jsontext.Value(`{"tags": ["weather-2026-11"]}`),
	"gpu-required": jsontext.Value(`null`),
	"organisation": jsontext.Value(`{"domains": ["example"], "trust_domains": ["example.org"]}`),
	"simulated":    jsontext.Value(`null`),
	"strict":       jsontext.Value(`null`),
	"tcb-grace":    jsontext.Value(`{"days": 90}`),
	"tools":        jsontext.Value(`{"others": {"peer": "attested", "kinds": ["tdx"]}}`),
}

// TestProduction: no policy is for genuine and simulated TEEs, whatever else
// they prove. A host does not ask the one about the others; this holds if one
// does.
func TestProduction(t *testing.T) {
	for _, name := range policies.Names() {
		d, _ := policies.Describe(name)
		if !slices.Contains(d.Entries, policywasm.Appraise) {
			continue
		}
		p := load(t, name, policywasm.Interpreter)
		if d.Development != (name == "simulated") || p.Metadata().Development != d.Development {
			t.Errorf("%s is for development: %v", name, p.Metadata().Development)
		}
		for _, base := range document.Samples() {
			b, _ := document.Sample(base)
			doc, err := document.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if doc.Question != "appraise" {
				continue
			}
			doc.Settings = settings[name]
			for mask := range 1 << len(doc.Devices) { // which devices are simulated
				for i := range doc.Devices {
					d := &doc.Devices[i]
					d.Simulated = mask>>i&1 == 1
					d.References = &document.References{Known: true, Matched: true, Tags: []string{"weather-2026-11"}}
					if d.TCB != nil {
						d.TCB.Status = "UpToDate"
					}
				}
				text, err := doc.JSON()
				if err != nil {
					t.Fatal(err)
				}
				in, err := policywasm.NewInput(text, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				r := p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: in})
				all := mask == 1<<len(doc.Devices)-1
				want := policywasm.Deny
				switch {
				case name == "organisation":
					want = policywasm.Abstain
				case name == "gpu-required" && len(doc.Devices) < 2:
				case d.Development && all, !d.Development && mask == 0:
					want = policywasm.Allow
				}
				if r.Decision != want || r.Failure != nil {
					t.Errorf("%s, %s with devices %b simulated: %v %v %v", name, base, mask, r.Decision, r.Reasons, r.Failure)
				}
			}
		}
	}
}

func BenchmarkStrict(b *testing.B) {
	p := load(b, "strict", policywasm.Auto)
	text, _ := document.Sample("tdx")
	in, err := policywasm.NewInput(text, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if r := p.Evaluate(b.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: in}); r.Decision != policywasm.Allow {
			b.Fatal(r.Reasons, r.Failure)
		}
	}
}

var example = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

// TestDocumented: each policy has its section in docs/policies.md, with all its
// settings, and examples of settings that it takes.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range policies.Names() {
		d, _ := policies.Describe(name)
		_, section, ok := strings.Cut(string(b), "\n## "+name+"\n")
		if section, _, _ = strings.Cut(section, "\n## "); !ok {
			t.Errorf("%s is not documented", name)
		}
		for _, s := range d.Settings {
			if !strings.Contains(section, "| `"+s.Name+"` |") {
				t.Errorf("%s: the setting %s is not documented", name, s.Name)
			}
		}
		examples := example.FindAllStringSubmatch(section, -1)
		if (len(examples) > 0) != (len(d.Settings) > 0) {
			t.Errorf("%s has %d settings, and %d examples", name, len(d.Settings), len(examples))
		}
		for _, e := range examples {
			base := map[policywasm.Entry]string{policywasm.Appraise: "tdx", policywasm.Authorize: "call-attested"}[d.Entries[0]]
			f, err := policytest.Parse("docs", fmt.Appendf(nil, `{"mutate": false, "settings": %s, "tests": [{"name": "x", "base": %q, "change": [], "want": {"decision": "deny"}}]}`, e[1], base))
			if err != nil {
				t.Fatal(err)
			}
			out, err := (&policytest.Runner{Policy: load(t, name, policywasm.Interpreter), Source: sample}).Run(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			bad := []string{"settings", "claim-type", "claim-missing"}
			if a := out[0].Answer; a == nil || a.Failure != nil || slices.ContainsFunc(a.Reasons, func(r policytest.Reason) bool { return slices.Contains(bad, r.Code) }) {
				t.Errorf("%s does not take the settings %s: %+v", name, e[1], a)
			}
		}
	}
}
