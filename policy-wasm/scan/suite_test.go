package scan_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// suite is the folder of WebAssembly's own test suite, which wazero's module
// has: scripts as JSON, and the modules that they name.
var suite = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("TMCP_SUITE"); dir != "" {
		return dir, nil
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest"), err
})

// script is a file of the suite: modules, and what calling them must give.
type script struct {
	Commands []struct {
		Type, Filename, Name string
		ModuleType           string `json:"module_type"`
		Action               struct {
			Type, Field, Module string
			Args                []struct{ Type, Value string }
		}
	}
}

// withMemory adds a memory to a module that has none: many of the suite's do
// not need one, all policies have one. The sections stay as they are.
func withMemory(b []byte) []byte {
	at := 8
	for at < len(b) {
		id := b[at]
		n, k := 0, at+1
		for shift := 0; k < len(b) && shift < 28; shift += 7 {
			n |= int(b[k]&0x7f) << shift
			if k++; b[k-1]&0x80 == 0 {
				break
			}
		}
		if id == 5 {
			return b
		}
		if id > 5 {
			break
		}
		at = k + n
	}
	if at > len(b) || len(b) < 8 {
		return b
	}
	return slices.Concat(b[:at], corpus.Section(5, corpus.Vec(corpus.Cat(0, 1))), b[at:])
}

// Modules of the whole suite, of all versions and proposals: what is invalid
// does not become valid, what is valid stays so.
func TestSuiteValidity(t *testing.T) {
	dir, err := suite()
	if err != nil {
		t.Fatal(err)
	}
	all, taken := 0, 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".wasm" || testing.Short() && all > 500 {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range [][]byte{b, withMemory(b)} {
			all++
			if _, err := scan.Scan(m, scan.Defaults()); err == nil {
				taken++
				noNewValidity(t, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if all < 500 || taken < 100 && !testing.Short() {
		t.Errorf("%d modules, %d of which are taken", all, taken)
	}
	t.Logf("%d modules, %d of which are taken", all, taken)
}

// A pair is one module of the suite, as it is and instrumented.
type pair struct {
	as, counts, compiled api.Module
}

// Both of these print what must be the same on all machines.
const digestLine = "results and fuel: "

// What the suite's scripts give on arm64, they give here: each result, each NaN
// and each unit of fuel.
func TestSuiteArm64(t *testing.T) {
	interoptest.Need(t)
	dir, err := suite()
	if err != nil {
		t.Fatal(err)
	}
	out, err := interop.Arm64(t.Context(), ".", []string{"TMCP_SUITE=" + dir}, "-test.run=^TestSuiteMeaning$", "-test.v")
	interoptest.Check(t, err)
	_, line, _ := strings.Cut(string(out), digestLine)
	there, _, _ := strings.Cut(line, "\n")
	if here := suiteMeaning(t); here != there || here == "" {
		t.Errorf("arm64 gives %q, this machine %q", there, here)
	}
}

// The suite's scripts for WebAssembly 1.0 give the same with and without
// instruments, call for call, and the same fuel in both engines.
func TestSuiteMeaning(t *testing.T) { t.Log(digestLine + suiteMeaning(t)) }

// suiteMeaning is a digest of all results and fuel.
func suiteMeaning(t *testing.T) string {
	all := sha256.New()
	dir, err := suite()
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "v1", "testdata", "*.json"))
	if err != nil || len(names) < 50 {
		t.Fatalf("%d scripts, %v", len(names), err)
	}
	ctx := context.Background()
	runtimes := []wazero.Runtime{
		wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter()),
		wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter()),
		wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler()),
	}
	for _, rt := range runtimes {
		defer rt.Close(ctx)
	}
	calls, refused := 0, 0
	for _, name := range names {
		var s script
		b, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(b, &s, json.MatchCaseInsensitiveNames(true))
		}
		if err != nil {
			t.Fatal(name, err)
		}
		var p *pair
		for _, c := range s.Commands {
			file := filepath.Join(filepath.Dir(name), c.Filename)
			switch c.Type {
			case "module":
				if p = load(t, ctx, runtimes, file); p == nil {
					refused++
				}
			case "assert_invalid", "assert_malformed":
				if filepath.Ext(file) != ".wasm" {
					continue
				}
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if m, err := scan.Scan(b, scan.Defaults()); err == nil && compiles(t, m.Stripped()) == nil {
					t.Errorf("%s is taken", file)
				}
			case "assert_return", "assert_trap", "action":
				if p != nil && c.Action.Type == "invoke" && c.Action.Module == "" {
					var args []uint64
					for _, a := range c.Action.Args {
						n, err := strconv.ParseUint(a.Value, 10, 64)
						if err != nil {
							t.Fatal(err)
						}
						args = append(args, n)
					}
					calls++
					if !p.same(ctx, t, all, c.Action.Field, args) {
						t.Errorf("%s: %s(%v)", filepath.Base(name), c.Action.Field, args)
					}
				}
			}
		}
	}
	if calls < 10_000 {
		t.Errorf("%d calls only", calls)
	}
	t.Logf("%d calls; %d modules were refused", calls, refused)
	return hex.EncodeToString(all.Sum(nil))
}

func load(t *testing.T, ctx context.Context, rts []wazero.Runtime, file string) *pair {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b = withMemory(b)
	m, err := scan.Scan(b, scan.Defaults())
	var e *scan.Error
	if errors.As(err, &e) {
		if e.Reason == scan.Invalid {
			t.Errorf("%s is valid: %v", file, err)
		}
		return nil // imports, another memory, features of proposals
	}
	cfg := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	as, err := rts[0].InstantiateWithConfig(ctx, b, cfg)
	counts, err2 := rts[1].InstantiateWithConfig(ctx, m.Instrument(), cfg)
	compiled, err3 := rts[2].InstantiateWithConfig(ctx, m.Instrument(), cfg)
	if (err == nil) != (err2 == nil) || (err == nil) != (err3 == nil) {
		t.Errorf("%s: %v; instrumented: %v; compiled: %v", file, err, err2, err3)
	}
	if err != nil || err2 != nil || err3 != nil {
		return nil
	}
	if m.Starts() {
		for _, g := range []api.Module{counts, compiled} {
			g.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal).Set(1 << 40)
			if _, err := g.ExportedFunction(scan.StartFunc).Call(ctx); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	return &pair{as, counts, compiled}
}

// same calls all, and compares results, traps and fuel.
func (p *pair) same(ctx context.Context, t *testing.T, all io.Writer, field string, args []uint64) bool {
	f := p.as.ExportedFunction(field)
	if f == nil {
		return true
	}
	narrow := slices.ContainsFunc(f.Definition().ResultTypes(), func(t api.ValueType) bool { return t == api.ValueTypeI32 || t == api.ValueTypeF32 })
	call := func(f api.Function) ([]uint64, error) {
		out, err := f.Call(ctx, args...)
		if len(out) == 1 && narrow {
			out[0] = uint64(uint32(out[0])) // the upper half is left over
		}
		return out, err
	}
	want, wantErr := call(f)
	var result api.ValueType
	for _, result = range f.Definition().ResultTypes() {
	}
	var fuel, first []uint64
	for i, m := range []api.Module{p.counts, p.compiled} {
		left := m.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal)
		left.Set(1 << 40)
		depth := m.ExportedGlobal(scan.DepthGlobal).(api.MutableGlobal)
		depth.Set(1000) // a trap leaves it as it was
		got, err := call(m.ExportedFunction(field))
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%v, not %v", err, wantErr)
			return false
		}
		if !slices.Equal(got, want) && !(len(got) == 1 && len(want) == 1 && bothNaN(result, got[0], want[0])) {
			t.Errorf("%d, not %d", got, want)
			return false
		}
		if i == 0 {
			first = got
		} else if !slices.Equal(got, first) { // not even in the bits of NaN
			t.Errorf("compiled %x, interpreted %x", got, first)
			return false
		}
		if err == nil && api.DecodeU32(depth.Get()) != 1000 {
			t.Errorf("depth %d after the return", depth.Get())
			return false
		}
		fuel = append(fuel, left.Get())
	}
	fmt.Fprintln(all, field, args, first, wantErr != nil, fuel[0])
	return fuel[0] == fuel[1]
}

func bothNaN(t api.ValueType, a, b uint64) bool {
	nan := func(n uint64) bool {
		if t == api.ValueTypeF32 {
			return math.IsNaN(float64(math.Float32frombits(uint32(n))))
		}
		return t == api.ValueTypeF64 && math.IsNaN(math.Float64frombits(n))
	}
	return nan(a) && nan(b)
}
