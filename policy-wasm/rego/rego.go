// Package rego runs policies that are written in Rego and compiled by OPA
// ("opa build -t wasm"), under the same protections as all other policies.
//
// Call [Load] with a bundle (bundle.tar.gz) or a module (policy.wasm). What it
// returns is asked like any other policy. A bundle is packed into one module
// first, see [Pack]: that module's SHA-256 is the policy's digest.
//
// The rules data.tmcp.appraise and data.tmcp.authorize are the entry points;
// input is the document, and their value is the result as section 20.6 of the
// specification has it. A rule that is undefined is a denial.
//
// OPA leaves some builtins to its host. Those in [Builtins] are offered: they
// depend on their arguments and on the document alone.
package rego

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// Load packs b, if it must be, and loads it. meta is for modules and bundles
// that have no metadata of their own; nil: see [Pack]. Errors are of type
// [*policywasm.Failure]. The caller closes the policy.
func Load(ctx context.Context, b []byte, caps policywasm.Caps, meta *policywasm.Metadata) (*policywasm.Policy, error) {
	module, a, err := prepare(b, &caps, meta)
	if err != nil {
		return nil, err
	}
	return policywasm.LoadForeign(ctx, module, caps, a)
}

// Compile is [policywasm.Compile] for what [Load] takes.
func Compile(ctx context.Context, b []byte, caps policywasm.Caps, meta *policywasm.Metadata) error {
	module, a, err := prepare(b, &caps, meta)
	if err != nil {
		return err
	}
	return policywasm.CompileForeign(ctx, module, caps, a)
}

func prepare(b []byte, caps *policywasm.Caps, meta *policywasm.Metadata) ([]byte, *adapter, error) {
	module, err := Pack(b, meta)
	if err != nil {
		return nil, nil, err
	}
	data, err := dataOf(module)
	if err != nil {
		return nil, nil, err
	}
	caps.Scan.ImportMemory = &scan.ImportedMemory{Module: env, Name: "memory"}
	caps.Scan.Allow = slices.Concat(caps.Scan.Allow, imports)
	return module, &adapter{data: data}, nil
}

const (
	versionGlobal = "opa_wasm_abi_version"
	minorGlobal   = "opa_wasm_abi_minor_version"
	leastMinor    = 2 // the first with opa_eval
)

// exports are what is called of a module: how many i32 go in; one comes out, but
// for noResult.
var exports = map[string]int{
	noResult: 1, "opa_eval": 7, "opa_malloc": 1, "opa_heap_ptr_get": 0, "opa_json_parse": 2, "opa_json_dump": 1,
	"opa_value_parse": 2, "opa_value_dump": 1, "builtins": 0, "entrypoints": 0,
}

const noResult = "opa_heap_ptr_set"

func entrypoint(e policywasm.Entry) string { return "tmcp/" + string(e) }

// An adapter is one module: its entry points and builtins by their numbers in it.
type adapter struct {
	data     []byte // canonical JSON; nil: none
	meta     *policywasm.Metadata
	rt       wazero.Runtime
	shim     wazero.CompiledModule
	entries  map[policywasm.Entry]uint64
	builtins map[uint32]builtin
}

func i32s(n int) (t []scan.ValueType) {
	for range n {
		t = append(t, scan.I32)
	}
	return t
}

// Describe implements [policywasm.Foreign].
func (a *adapter) Describe(m *scan.Module, meta *policywasm.Metadata) error {
	a.meta = meta
	for _, f := range m.Imports {
		if f.Module != env {
			return policywasm.NewFailure(policywasm.ReasonImport, fmt.Sprintf("%q %q is not offered to modules of OPA", f.Module, f.Name))
		}
	}
	for name, n := range exports {
		t, ok := m.Func(name)
		if !ok {
			return policywasm.NewFailure(policywasm.ReasonExport, "no function is exported as "+name+"; is the module made by opa build -t wasm, of version 0.27 or later?")
		}
		want := scan.FuncType{Params: i32s(n), Results: i32s(1)}
		if name == noResult {
			want.Results = nil
		}
		if !t.Equal(want) {
			return policywasm.NewFailure(policywasm.ReasonSignature, "the function "+name+" has another type than OPA's")
		}
	}
	return nil
}

// Offer implements [policywasm.Foreign].
func (a *adapter) Offer(ctx context.Context, rt wazero.Runtime, m *scan.Module) (err error) {
	if err := a.host(ctx, rt); err != nil {
		return err
	}
	a.rt = rt
	a.shim, err = rt.CompileModule(ctx, shim(m.Pages, m.MaxPages()))
	return err
}

// A run is the state of one instance that host functions need.
type run struct {
	i      *policywasm.Instance // nil while the start function runs
	memory api.Memory
	inside bool   // a builtin is at work
	time   string // of the document, in nanoseconds
	data   uint64 // where the data document is; 0: there is none
	heap   uint64 // where the heap ends behind it; 0: it is not there yet
}

type runKey struct{}

// Link implements [policywasm.Foreign]: each instance has a shim of its own,
// which owns the memory.
func (a *adapter) Link(ctx context.Context) (context.Context, func(), error) {
	s, err := a.rt.InstantiateModule(ctx, a.shim, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		return ctx, func() {}, err
	}
	ctx = context.WithValue(ctx, runKey{}, &run{memory: s.ExportedMemory("memory"), time: "0"})
	return experimental.WithImportResolver(ctx, func(name string) api.Module {
		if name == env {
			return s
		}
		return nil
	}), func() { _ = s.Close(ctx) }, nil
}

// Try implements [policywasm.Foreign].
func (a *adapter) Try(ctx context.Context, i *policywasm.Instance) error {
	major, minor := api.DecodeU32(i.Global(versionGlobal)), api.DecodeU32(i.Global(minorGlobal))
	if major != 1 || minor < leastMinor {
		return policywasm.NewFailure(policywasm.ReasonABI, fmt.Sprintf("the module speaks version %d.%d of OPA's ABI; 1.%d and later ones of 1 are spoken", major, minor, leastMinor))
	}
	ctx.Value(runKey{}).(*run).i = i
	if _, err := i.Call(ctx, "opa_malloc", 0); err != nil { // sets up the heap
		return err
	}
	ids, err := a.table(ctx, i, "entrypoints")
	if err != nil {
		return err
	}
	a.entries = map[policywasm.Entry]uint64{}
	for _, e := range a.meta.Entries {
		id, ok := ids[entrypoint(e)]
		if !ok {
			return policywasm.NewFailure(policywasm.ReasonExport, "no entry point "+entrypoint(e)+`, which the metadata names; annotate the rule with "entrypoint: true"`)
		}
		a.entries[e] = uint64(id)
	}
	if ids, err = a.table(ctx, i, "builtins"); err != nil {
		return err
	}
	a.builtins = map[uint32]builtin{}
	for name, id := range ids {
		b, ok := offered[name]
		if !ok {
			return policywasm.NewFailure(policywasm.ReasonImport, fmt.Sprintf("the policy needs the builtin %.64q, which is not offered; \"opa build --capabilities\" with ours says so earlier", name))
		}
		a.builtins[id] = b
	}
	return nil
}

// table reads what an export tells of the module: names and their numbers.
func (a *adapter) table(ctx context.Context, i *policywasm.Instance, name string) (map[string]uint32, error) {
	bad := func(err error) error {
		return policywasm.NewFailure(policywasm.ReasonExport, fmt.Sprintf("%s: %v", name, err))
	}
	v, err := i.Call(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := dump(ctx, i, "opa_json_dump", api.DecodeU32(v), maxTable)
	if err != nil {
		return nil, err
	}
	if err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: maxTable, MaxDepth: 1}); err != nil {
		return nil, bad(err)
	}
	out := map[string]uint32{}
	err = jsonrpc.Members(b, func(name string, v jsontext.Value) error {
		var n uint32
		if _, err := fmt.Sscanf(string(v), "%d", &n); err != nil || fmt.Sprint(n) != string(v) {
			return fmt.Errorf("%.64q is no number", name)
		}
		out[name] = n
		return nil
	})
	if err != nil {
		return nil, bad(err)
	}
	return out, nil
}

const (
	maxTable = 64 << 10
	envelope = len(`[{"result":}]`) // around a result
)

// dump has the guest write a value as text, and copies it: at most limit bytes.
func dump(ctx context.Context, i *policywasm.Instance, how string, at uint32, limit int) ([]byte, error) {
	v, err := i.Call(ctx, how, uint64(at))
	if err != nil {
		return nil, err
	}
	return text(i.Memory(), api.DecodeU32(v), limit)
}

// text copies what ends with a zero byte: at most limit bytes.
func text(m api.Memory, at uint32, limit int) ([]byte, error) {
	size := m.Size()
	if at == 0 || at >= size {
		return nil, policywasm.NewFailure(policywasm.ReasonOutput, fmt.Sprintf("no text at %#x of the memory", at))
	}
	b, _ := m.Read(at, uint32(min(int(size-at), limit+1)))
	n := bytes.IndexByte(b, 0)
	switch {
	case n >= 0:
		return slices.Clone(b[:n]), nil
	case len(b) > limit:
		return nil, policywasm.NewFailure(policywasm.ReasonOversize, fmt.Sprintf("a text of more than %d bytes", limit))
	}
	return nil, policywasm.NewFailure(policywasm.ReasonOutput, fmt.Sprintf("a text at %#x that does not end in the memory", at))
}

// place puts b into memory that the guest gives.
func place(ctx context.Context, i *policywasm.Instance, b []byte) (uint32, error) {
	v, err := i.Call(ctx, "opa_malloc", uint64(len(b)))
	if err != nil {
		return 0, err
	}
	at := api.DecodeU32(v)
	if at == 0 || !i.Memory().Write(at, b) {
		return 0, policywasm.NewFailure(policywasm.ReasonAllocate, fmt.Sprintf("no room for %d bytes at %#x", len(b), at))
	}
	return at, nil
}

// settle has the instance parse the data document. One that was asked before
// forgets all that came after it.
func (a *adapter) settle(ctx context.Context, r *run) (err error) {
	if r.heap != 0 {
		_, err = r.i.Call(ctx, "opa_heap_ptr_set", r.heap)
		return err
	}
	if _, err := r.i.Call(ctx, "opa_malloc", 0); err != nil {
		return err
	}
	if a.data != nil {
		at, err := place(ctx, r.i, a.data)
		if err != nil {
			return err
		}
		if r.data, err = r.i.Call(ctx, "opa_json_parse", uint64(at), uint64(len(a.data))); err != nil {
			return err
		}
		if r.data = uint64(api.DecodeU32(r.data)); r.data == 0 {
			return policywasm.NewFailure(policywasm.ReasonAllocate, "the module did not take its own data")
		}
	}
	r.heap, err = r.i.Call(ctx, "opa_heap_ptr_get")
	return err
}

// Ask implements [policywasm.Foreign].
func (a *adapter) Ask(ctx context.Context, i *policywasm.Instance, e policywasm.Entry, input []byte) ([]byte, error) {
	r := ctx.Value(runKey{}).(*run)
	r.i, r.time = i, nanoseconds(input)
	if err := a.settle(ctx, r); err != nil {
		return nil, err
	}
	at, err := place(ctx, i, input)
	if err != nil {
		return nil, err
	}
	heap, err := i.Call(ctx, "opa_heap_ptr_get")
	if err != nil {
		return nil, err
	}
	out, err := i.Call(ctx, "opa_eval", 0, a.entries[e], r.data, uint64(at), uint64(len(input)), heap, 0)
	if err != nil {
		return nil, err
	}
	b, err := text(i.Memory(), api.DecodeU32(out), maxResult+envelope)
	if err != nil {
		return nil, err
	}
	return only(b, e)
}

const (
	maxResult = 1 << 20 // the caps have the tighter bound
	maxDepth  = 64
)

// only takes the one result out of OPA's set of them.
func only(b []byte, e policywasm.Entry) ([]byte, error) {
	bad := func(why string) error { return policywasm.NewFailure(policywasm.ReasonOutput, why) }
	if err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: maxResult + envelope, MaxDepth: maxDepth}); err != nil {
		return nil, bad("result: " + err.Error())
	}
	var results []jsontext.Value
	if jsontext.Value(b).Kind() == '[' {
		_ = jsonrpc.Elements(b, func(v jsontext.Value) error { results = append(results, v.Clone()); return nil })
	}
	switch {
	case string(b) == "[]" || string(b) == "{}": // OPA writes an empty set so
		return nil, bad("the rule data.tmcp." + string(e) + " is undefined for this document: it must have a result for each one")
	case len(results) != 1:
		return nil, bad("the module gave no set of one result")
	}
	var value jsontext.Value
	if results[0].Kind() == '{' {
		_ = jsonrpc.Members(results[0], func(name string, v jsontext.Value) error {
			if name == "result" {
				value = v.Clone()
			}
			return nil
		})
	}
	if value.Kind() != '{' {
		return nil, bad(fmt.Sprintf("the rule data.tmcp.%s gives %.40s; it must give an object with a decision", e, value))
	}
	return value, nil
}

// nanoseconds is the time of a document, as text: what time.now_ns gives.
func nanoseconds(doc []byte) string {
	out := "0"
	_ = jsonrpc.Members(doc, func(name string, v jsontext.Value) error {
		if name == "time" && v.Kind() == '0' && string(v) != "0" {
			out = string(v) + "000000000"
		}
		return nil
	})
	return out
}
