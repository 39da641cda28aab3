package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"cel.dev/cel-go/cel"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

// sample is a document of about 4 KiB, of a real machine's evidence.
func sample(tb testing.TB) []byte {
	b, ok := document.Sample("tdx")
	if !ok {
		tb.Fatal("no sample")
	}
	// What policies read of it: the reference values are known, so that it is allowed.
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		tb.Fatal(err)
	}
	d := doc["devices"].([]any)[0].(map[string]any)
	d["proven"], d["simulated"], d["debug"] = true, false, false
	d["tcb"].(map[string]any)["status"] = "UpToDate"
	d["references"] = map[string]any{"known": true, "matched": true, "tags": []string{}}
	tools := map[string]string{} // up to 4 KiB: what the operator lists of tools
	doc["settings"] = map[string]any{"tools": tools}
	for i := range 1000 {
		b, err := json.Marshal(doc)
		if err != nil {
			tb.Fatal(err)
		}
		if len(b) >= 4<<10 {
			return b
		}
		tools[fmt.Sprintf("customers.invoices.read-%02d", i)] = "attested"
	}
	tb.Fatal("no document of 4 KiB")
	return nil
}

// claims are what the plain function reads.
type claims struct {
	Devices []struct {
		Kind      string
		Proven    bool
		Simulated bool
		Debug     bool
		TCB       *struct{ Status string }
		Ref       *struct{ Matched bool } `json:"references"`
	}
}

type reason struct{ Code, Text, Claim string }

// plain is the policy "starter" as a Go function: bytes in, bytes out.
func plain(b []byte) ([]byte, error) {
	var c claims
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	var out struct {
		Decision string           `json:"decision"`
		Reasons  []reason         `json:"reasons,omitempty"`
		Vector   map[string]int32 `json:"vector,omitempty"`
	}
	deny := func(code, text string, i int, claim string) {
		out.Reasons = append(out.Reasons, reason{code, text, fmt.Sprintf("/devices/%d/%s", i, claim)})
	}
	cpu := false
	for i, d := range c.Devices {
		cpu = cpu || d.Kind != "nvidia-gpu"
		switch {
		case !d.Proven:
			deny("not-proven", "the evidence is not proven", i, "proven")
		case d.Simulated:
			deny("simulated", "a simulated TEE proves nothing", i, "simulated")
		}
		if d.Debug {
			deny("debug", "the TEE can be read from outside", i, "debug")
		}
		if d.TCB != nil && d.TCB.Status != "UpToDate" {
			deny("tcb", "the firmware is not up to date", i, "tcb/status")
		}
		if d.Kind != "nvidia-gpu" && (d.Ref == nil || !d.Ref.Matched) {
			deny("reference-values", "the code is not known", i, "references")
		}
	}
	if !cpu {
		out.Reasons = append(out.Reasons, reason{"no-tee", "no CPU TEE is attested", "/devices"})
	}
	if out.Decision = "deny"; len(out.Reasons) == 0 {
		out.Decision, out.Vector = "allow", map[string]int32{}
		for _, name := range vector {
			out.Vector[name] = 2
		}
	}
	return json.Marshal(out)
}

var vector = []string{"configuration", "executables", "file-system", "hardware", "instance-identity", "runtime-opaque", "sourced-data", "storage-opaque"}

const regoPolicy = `package starter

vector := {"configuration": 2, "executables": 2, "file-system": 2, "hardware": 2, "instance-identity": 2, "runtime-opaque": 2, "sourced-data": 2, "storage-opaque": 2}

reasons contains {"code": "not-proven", "text": "the evidence is not proven", "claim": sprintf("/devices/%d/proven", [i])} if { some i, d in input.devices; not d.proven }
reasons contains {"code": "simulated", "text": "a simulated TEE proves nothing", "claim": sprintf("/devices/%d/simulated", [i])} if { some i, d in input.devices; d.proven; d.simulated }
reasons contains {"code": "debug", "text": "the TEE can be read from outside", "claim": sprintf("/devices/%d/debug", [i])} if { some i, d in input.devices; d.debug }
reasons contains {"code": "tcb", "text": "the firmware is not up to date", "claim": sprintf("/devices/%d/tcb/status", [i])} if { some i, d in input.devices; is_object(d.tcb); d.tcb.status != "UpToDate" }
reasons contains {"code": "reference-values", "text": "the code is not known", "claim": sprintf("/devices/%d/references", [i])} if { some i, d in input.devices; d.kind != "nvidia-gpu"; not d.references.matched }
reasons contains {"code": "no-tee", "text": "no CPU TEE is attested", "claim": "/devices"} if { count([1 | some d in input.devices; d.kind != "nvidia-gpu"]) == 0 }

result := {"decision": "allow", "vector": vector} if count(reasons) == 0
result := {"decision": "deny", "reasons": reasons} if count(reasons) > 0
`

const celPolicy = `input.devices.exists(d, d.kind != "nvidia-gpu") && input.devices.all(d, d.proven && !d.simulated && !d.debug &&
	(d.tcb == null || d.tcb.status == "UpToDate") && (d.kind == "nvidia-gpu" || (d.references != null && d.references.matched)))
	? {"decision": "allow"} : {"decision": "deny"}`

// An engine decides from the bytes of the document.
type decide func(doc []byte) (allowed bool, err error)

func goFunction(testing.TB) decide {
	return func(doc []byte) (bool, error) {
		b, err := plain(doc)
		return strings.HasPrefix(string(b), `{"decision":"allow"`), err
	}
}

func nativeRego(tb testing.TB) decide {
	q, err := rego.New(rego.Query("data.starter.result"), rego.Module("starter.rego", regoPolicy)).PrepareForEval(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return func(doc []byte) (bool, error) {
		var in any
		if err := json.Unmarshal(doc, &in); err != nil {
			return false, err
		}
		v, err := ast.InterfaceToValue(in)
		if err != nil {
			return false, err
		}
		rs, err := q.Eval(context.Background(), rego.EvalParsedInput(v))
		if err != nil || len(rs) != 1 {
			return false, fmt.Errorf("%d results, %w", len(rs), err)
		}
		return rs[0].Expressions[0].Value.(map[string]any)["decision"] == "allow", nil
	}
}

func celExpression(tb testing.TB) decide {
	env, err := cel.NewEnv(cel.Variable("input", cel.DynType))
	if err != nil {
		tb.Fatal(err)
	}
	tree, issues := env.Compile(celPolicy)
	if issues.Err() != nil {
		tb.Fatal(issues.Err())
	}
	program, err := env.Program(tree)
	if err != nil {
		tb.Fatal(err)
	}
	return func(doc []byte) (bool, error) {
		var in any
		if err := json.Unmarshal(doc, &in); err != nil {
			return false, err
		}
		v, _, err := program.Eval(map[string]any{"input": in})
		if err != nil {
			return false, err
		}
		m, err := v.ConvertToNative(mapType)
		return err == nil && m.(map[string]string)["decision"] == "allow", err
	}
}

var mapType = reflect.TypeFor[map[string]string]()

var built = struct {
	sync.Mutex
	modules map[string][]byte
}{modules: map[string][]byte{}}

// module is the starter policy in that language.
func module(tb testing.TB, lang string) []byte {
	built.Lock()
	defer built.Unlock()
	if b := built.modules[lang]; b != nil {
		return b
	}
	dir := filepath.Join(tb.TempDir(), lang)
	if _, err := build.New(dir, lang, "starter"); err != nil {
		tb.Fatal(err)
	}
	p, err := build.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := p.Build(context.Background(), build.Options{Caps: policywasm.Defaults()})
	var missing *build.ToolError
	if errors.As(err, &missing) && os.Getenv("CI") == "" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(out.Path)
	if err != nil {
		tb.Fatal(err)
	}
	built.modules[lang] = b
	return b
}

var memory = runtime.NewMemory(0)

func load(tb testing.TB, lang string, change func(*policywasm.Caps)) *policywasm.Policy {
	caps := policywasm.Defaults()
	caps.Memory = memory
	if change != nil {
		change(&caps)
	}
	p, err := (&runtime.Loader{}).Load(context.Background(), module(tb, lang), true, caps) // of Rego too
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func ask(p *policywasm.Policy, in *policywasm.Input, fuel uint64) *policywasm.Result {
	return p.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: in, Fuel: fuel})
}

func input(tb testing.TB, doc []byte) *policywasm.Input {
	in, err := policywasm.NewInput(doc, 1<<20)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

var languages = []string{"assemblyscript", "c", "rust", "zig", "go", "rego"}

var others = map[string]func(testing.TB) decide{"go-function": goFunction, "rego-native": nativeRego, "cel": celExpression}

// All of them decide the same, of the document and of one that is denied.
func TestSame(t *testing.T) {
	doc := sample(t)
	t.Logf("%d bytes", len(doc))
	denied := []byte(strings.Replace(string(doc), `"debug":false`, `"debug":true`, 1))
	for name, make := range others {
		d := make(t)
		yes, err := d(doc)
		no, err2 := d(denied)
		if err != nil || err2 != nil || !yes || no {
			t.Errorf("%s: %v %v, %v %v", name, yes, err, no, err2)
		}
	}
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			p := load(t, lang, nil)
			yes, no := ask(p, input(t, doc), 0), ask(p, input(t, denied), 0)
			if yes.Decision != policywasm.Allow || no.Decision != policywasm.Deny || no.Failure != nil {
				t.Errorf("%+v %v; %+v %v", yes, yes.Failure, no, no.Failure)
			}
			t.Logf("module of %d bytes, %d units of fuel, %d pages", len(module(t, lang)), yes.Fuel, yes.Pages)
		})
	}
}

// cpu reports the time of the processor, which, unlike that of the clock, says
// something on a busy machine too.
func cpu(b *testing.B) func() {
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := spent()
	return func() { b.ReportMetric(float64(spent()-before)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkDecide(b *testing.B) {
	doc := sample(b)
	for _, name := range slices.Sorted(maps.Keys(others)) {
		b.Run(name, func(b *testing.B) {
			d := others[name](b)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				if yes, err := d(doc); !yes || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, lang := range languages {
		for _, way := range []string{"fresh", "fresh-deadline", "fresh-heap", "pooled", "fresh-json", "pooled-json", "interpreter"} {
			b.Run(lang+"/"+way, func(b *testing.B) {
				p := load(b, lang, func(c *policywasm.Caps) {
					switch way {
					case "fresh-heap":
						c.Memory = nil
					case "pooled", "pooled-json":
						c.Pool = 4
					case "interpreter":
						c.Engine = policywasm.Interpreter
					}
				})
				in := input(b, doc)
				fuel := uint64(0)
				if way == "fresh-deadline" {
					fuel = policywasm.FuelFor(1e9)
				}
				b.ReportAllocs()
				defer cpu(b)()
				for b.Loop() {
					if strings.HasSuffix(way, "-json") { // from bytes, as the others
						in = input(b, doc)
					}
					if r := ask(p, in, fuel); r.Decision != policywasm.Allow {
						b.Fatal(r.Failure)
					}
				}
			})
		}
	}
}

// BenchmarkParallel: run it with -cpu 1,2.
func BenchmarkParallel(b *testing.B) {
	p := load(b, "assemblyscript", nil)
	in := input(b, sample(b))
	defer cpu(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r := ask(p, in, 0); r.Decision != policywasm.Allow {
				b.Error(r.Failure)
				return
			}
		}
	})
}

// BenchmarkDocument is what a host pays once for a document, for all policies: one
// in JSON, in JSON for a policy that wants it so too, and one that it has in hand.
func BenchmarkDocument(b *testing.B) {
	doc := sample(b)
	d, err := document.Parse(doc)
	if err != nil {
		b.Fatal(err)
	}
	settings := input(b, d.Settings)
	for name, make := range map[string]func(){
		"json":      func() { input(b, doc) },
		"spellings": func() { _, _ = input(b, doc).Bytes(policywasm.JSON) },
		"struct": func() {
			if _, err := policywasm.NewDocument(d, settings, 1<<20); err != nil {
				b.Fatal(err)
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				make()
			}
		})
	}
}

// BenchmarkCold loads a policy whose compiled form is on disk, as a program does
// that was just started, and closes it.
func BenchmarkCold(b *testing.B) {
	for _, lang := range languages {
		b.Run(lang, func(b *testing.B) {
			m := module(b, lang)
			cache, err := runtime.OpenCache(filepath.Join(b.TempDir(), "cache"))
			if err != nil {
				b.Fatal(err)
			}
			l := &runtime.Loader{Cache: cache, Memory: memory}
			cycle := func() {
				p, err := l.Load(context.Background(), m, true, policywasm.Defaults())
				if err != nil {
					b.Fatal(err)
				}
				p.Close(context.Background())
			}
			cycle()
			defer cpu(b)()
			for b.Loop() {
				cycle()
			}
		})
	}
}

// resident is the memory of this process that is not on disk, in bytes.
func resident(tb testing.TB) int {
	goruntime.GC()
	goruntime.GC()
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		tb.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	tb.Skip("no Rss")
	return 0
}

// A gate lets instances get their memory only when all of them want it, so that
// there are as many at one time.
type gate struct {
	sync.WaitGroup
	shut   atomic.Bool
	memory *runtime.Memory
}

func (g *gate) Allocate(size, most uint64) experimental.LinearMemory {
	if g.shut.Load() {
		g.Done()
		g.Wait()
	}
	return g.memory.Allocate(size, most)
}

// What 256 policies take, and 256 instances of one of them that have answered.
func TestResident(t *testing.T) {
	for _, lang := range []string{"assemblyscript", "c", "rust"} {
		t.Run(lang, func(t *testing.T) {
			m := module(t, lang)
			in := input(t, sample(t))
			const n = 256
			caps := policywasm.Defaults()
			caps.Memory, caps.Concurrent, caps.Pool = memory, n, n
			before := resident(t)
			var all []*policywasm.Policy
			for i := range n { // no two are the same
				caps.Scan.Depth = 1000 + uint32(i)
				p, err := policywasm.Load(context.Background(), m, caps)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close(context.Background())
				if r := ask(p, in, 0); r.Decision != policywasm.Allow {
					t.Fatal(r.Failure)
				}
				all = append(all, p)
			}
			policies := resident(t) - before
			t.Logf("%d policies with an instance each: %.1f MiB, %.0f KiB each", n, float64(policies)/(1<<20), float64(policies)/n/1024)
			if policies >= 256<<20 {
				t.Errorf("256 policies take %d bytes", policies)
			}
			gate := &gate{memory: runtime.NewMemory(0)} // of which none was used before
			caps.Memory = gate
			p, err := policywasm.Load(context.Background(), m, caps)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close(context.Background())
			before = resident(t)
			gate.Add(n)
			gate.shut.Store(true)
			var done sync.WaitGroup
			for range n {
				done.Go(func() { ask(p, in, 0) })
			}
			done.Wait()
			each := (resident(t) - before) / n
			t.Logf("%d instances of one policy that have answered: %d KiB each", n, each>>10)
			if each > 200<<10 {
				t.Errorf("an instance takes %d bytes", each)
			}
			goruntime.KeepAlive(all)
		})
	}
}
