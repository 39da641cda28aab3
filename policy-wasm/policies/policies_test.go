package policies_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
