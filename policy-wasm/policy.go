// Package policywasm runs policies that are WebAssembly modules, written by
// people we never meet.
//
// Call [Load] with a module and [Defaults], then [Policy.Evaluate] with an
// [Input] for each decision. A policy answers two questions, [Appraise] (may
// this peer be trusted) and [Authorize] (may it make this call), from the input
// alone: it has no clock, no randomness, no files, no network, and nothing of
// its former evaluations. Whatever goes wrong is a denial with a reason of its
// own.
//
// Time is bounded by fuel, which is counted by code that package scan writes
// into the module. The same module, input and fuel give the same result, byte
// for byte, and use the same fuel: in the compiler and in the interpreter, and on
// every processor. Numbers of floating point are no exception, for each NaN is
// made the canonical one. Only pooled instances (Caps.Pool) are, by choice.
//
// Modules import nothing, as a rule. What toolchains link into every program for
// WASI is there as stubs that say no: clocks stand still, seeds are constants,
// there are no files, and who exits has not decided.
//
// This package does no I/O. Package gateway/policy/runtime has what a program
// wants around it: memory that is mapped once, a cache on disk, compiling in a
// child process, and replacing policies while they answer.
package policywasm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// ABI is the version of the ABI that this package speaks.
const ABI = 1

// An Entry is a question to a policy. The export has the prefix "tmcp_".
type Entry string

// The questions.
const (
	Appraise  Entry = "appraise"
	Authorize Entry = "authorize"
)

func (e Entry) known() bool    { return e == Appraise || e == Authorize }
func (e Entry) export() string { return "tmcp_" + string(e) }

const (
	exportMemory     = "memory"
	exportVersion    = "tmcp_abi_version"
	exportAllocate   = "tmcp_allocate"
	exportInitialize = "_initialize"
)

// An Engine runs modules.
type Engine int

// Engines. The compiler is available on amd64 and arm64; elsewhere Auto means
// the interpreter, which is some 30 times slower.
const (
	Auto Engine = iota
	Compiler
	Interpreter
)

// Caps are what the operator grants. Start from [Defaults].
type Caps struct {
	Scan        scan.Limits
	Fuel        uint64   // for one evaluation, with initialisation
	Input       int      // bytes
	Output      int      // bytes
	Concurrent  int      // evaluations at one time; others wait
	Obligations []string // ids that the caller fulfils
	Log         int      // bytes of log that are kept of an evaluation; 0: policies can't log
	Engine      Engine

	// Pool is how many instances are kept for evaluations to come; 0: each
	// evaluation has a fresh one. It is for modules that the operator trusts: what a
	// pooled instance was given before can show in what it decides and in the fuel
	// that it uses, an answer can't be computed again from module and input alone,
	// and initialisation is paid by the first evaluation only. An instance that
	// failed in any way is never used again.
	Pool int
	// Memory, if set, makes the memories of instances; nil: the engine does.
	Memory experimental.MemoryAllocator
	// Cache, if set, keeps what was compiled, so that it is compiled once. Whoever
	// can write to it runs native code here. Nil: nothing is kept.
	Cache wazero.CompilationCache

	// Observe, if set, is called when an evaluation begins to wait for its place,
	// and what it returns when it ended: for durations and counters.
	Observe func(p *Policy, e Entry) func(*Result)
}

// Defaults are caps for modules of strangers. They grant no log.
func Defaults() Caps {
	return Caps{
		Scan: scan.Defaults(), Fuel: 200_000_000, Input: 1 << 20, Output: 64 << 10,
		Concurrent: 2 * runtime.GOMAXPROCS(0), Obligations: []string{},
	}
}

// nanosPerFuel is what a unit of fuel takes at worst. 13.5 ns were measured on a
// busy machine for loads that all miss the caches; most code takes below 0.5 ns.
const nanosPerFuel = 20

// FuelFor returns fuel that is used up within d, for [Call].
func FuelFor(d time.Duration) uint64 { return uint64(max(d, 0)) / nanosPerFuel }

// A Policy is a module that was found acceptable and compiled. It is safe for
// concurrent use.
type Policy struct {
	meta     *Metadata
	module   *scan.Module
	foreign  Foreign // nil: the module speaks our own ABI
	caps     Caps
	rt       wazero.Runtime
	compiled wazero.CompiledModule
	places   chan struct{}
	pool     chan *guest
	last     atomic.Pointer[accepted]
	starts   uint64   // fuel
	calls    []string // what scan.CallFunc calls
}

// logImport is the one import that there is: tmcp_1 log (pointer, length).
var logImport = scan.Func{Module: "tmcp_1", Name: "log", Type: scan.FuncType{Params: []scan.ValueType{scan.I32, scan.I32}}}

// Load scans, checks and compiles a module, and has it initialise itself once.
// Errors are of type [*Failure]. The caller closes the policy.
//
// Compiling does not end with ctx: what it may cost is bounded by the limits of
// package scan. They are a model: chains of loads were found
// that stay within them and take 45 s on one processor. Where that is too long,
// [Compile] the module in a process that can be killed, as package
// gateway/policy/runtime does. A context of wazero's
// experimental.WithCompilationWorkers is heeded.
func Load(ctx context.Context, module []byte, caps Caps) (*Policy, error) {
	return load(ctx, module, caps, nil)
}

func load(ctx context.Context, module []byte, caps Caps, foreign Foreign) (*Policy, error) {
	p, f := compiled(ctx, module, caps, foreign)
	if f == nil {
		f = p.try(ctx)
	}
	if f != nil {
		p.Close(ctx)
		return nil, f
	}
	return p, nil
}

// Compile does what [Load] does up to where the module would first run: what was
// compiled is in caps.Cache then. Errors are of type [*Failure].
func Compile(ctx context.Context, module []byte, caps Caps) error {
	return CompileForeign(ctx, module, caps, nil)
}

// CompileForeign is [Compile] for modules of another contract; see [LoadForeign].
func CompileForeign(ctx context.Context, module []byte, caps Caps, foreign Foreign) error {
	p, f := compiled(ctx, module, caps, foreign)
	p.Close(ctx)
	if f != nil {
		return f
	}
	return nil
}

// compiled scans, checks and compiles a module. The policy is to be closed even
// with a failure.
func compiled(ctx context.Context, module []byte, caps Caps, foreign Foreign) (*Policy, *Failure) {
	p := &Policy{foreign: foreign}
	caps.Concurrent = max(caps.Concurrent, 1)
	caps.Scan.Allow = slices.Concat(caps.Scan.Allow, wasiImports)
	if caps.Log > 0 {
		caps.Scan.Allow = append(caps.Scan.Allow, logImport)
	}
	m, err := scan.Scan(module, caps.Scan)
	if err != nil {
		return p, fromScan(err)
	}
	p.module, p.caps, p.places = m, caps, make(chan struct{}, caps.Concurrent)
	if caps.Pool > 0 {
		p.pool = make(chan *guest, min(caps.Pool, caps.Concurrent))
	}
	if f := p.describe(); f != nil {
		return p, f
	}
	if err := ctx.Err(); err != nil { // compiling does not look at it
		return p, fail(ReasonDeadline, "before compiling: "+err.Error())
	}
	return p, p.compile(ctx)
}

// describe checks metadata and exports against the ABI.
func (p *Policy) describe() *Failure {
	if p.module.Metadata == nil {
		return fail(ReasonMetadata, "the module has no custom section "+scan.Metadata)
	}
	meta, err := ParseMetadata(p.module.Metadata)
	if err != nil {
		return fail(ReasonMetadata, err.Error())
	}
	if meta.ABI != ABI {
		return fail(ReasonABI, fmt.Sprintf("the metadata names version %d of the ABI; %d is spoken", meta.ABI, ABI))
	}
	p.meta = meta
	if p.foreign != nil {
		if meta.Encoding != JSON {
			return fail(ReasonMetadata, "modules of another ABI take JSON only")
		}
		return asFailure(p.foreign.Describe(p.module, meta))
	}
	if !p.module.Exports(exportMemory, scan.KindMemory) {
		return fail(ReasonExport, "no memory is exported as "+exportMemory)
	}
	i32, i64 := []scan.ValueType{scan.I32}, []scan.ValueType{scan.I64}
	want := map[string]scan.FuncType{
		exportVersion:  {Results: i32},
		exportAllocate: {Params: i32, Results: i32},
	}
	for _, e := range meta.Entries {
		want[e.export()] = scan.FuncType{Params: []scan.ValueType{scan.I32, scan.I32}, Results: i64}
	}
	if _, ok := p.module.Func(exportInitialize); ok {
		want[exportInitialize] = scan.FuncType{}
	}
	for name, typ := range want {
		if t, ok := p.module.Func(name); !ok {
			return fail(ReasonExport, "no function is exported as "+name)
		} else if !t.Equal(typ) {
			return fail(ReasonSignature, "the function "+name+" has another type than the ABI's")
		}
	}
	return nil
}

// features are those of the profile. Reference types only let the index of the
// one table be written in more bytes, as LLVM does.
const features = api.CoreFeaturesV1 | api.CoreFeatureSignExtensionOps | api.CoreFeatureNonTrappingFloatToIntConversion |
	api.CoreFeatureBulkMemoryOperations | api.CoreFeatureReferenceTypes

func (c *Caps) config() wazero.RuntimeConfig {
	var cfg wazero.RuntimeConfig
	switch c.Engine {
	case Compiler:
		cfg = wazero.NewRuntimeConfigCompiler()
	case Interpreter:
		cfg = wazero.NewRuntimeConfigInterpreter()
	default:
		cfg = wazero.NewRuntimeConfig()
	}
	if c.Cache != nil {
		cfg = cfg.WithCompilationCache(c.Cache)
	}
	return limited(cfg, c)
}

func limited(cfg wazero.RuntimeConfig, c *Caps) wazero.RuntimeConfig {
	return cfg.WithCoreFeatures(features).WithMemoryLimitPages(max(c.Scan.Pages, 1)).WithDebugInfoEnabled(false).WithCustomSections(false)
}

// compile has the engine validate the module as it came, and compile the one
// that counts. Each policy has a runtime of its own.
func (p *Policy) compile(ctx context.Context) (f *Failure) {
	defer func() {
		if v := recover(); v != nil {
			f = fail(ReasonEngine, fmt.Sprint("compiling: ", v))
		}
	}()
	check := wazero.NewRuntimeWithConfig(ctx, limited(wazero.NewRuntimeConfigInterpreter(), &p.caps))
	defer check.Close(ctx)
	if _, err := check.CompileModule(ctx, p.module.Stripped()); err != nil {
		return fail(ReasonInvalid, err.Error())
	}
	p.rt = wazero.NewRuntimeWithConfig(ctx, p.caps.config())
	if p.caps.Log > 0 {
		if err := offerLog(ctx, p.rt); err != nil {
			return fail(ReasonEngine, err.Error())
		}
	}
	if usesWASI(p.module) {
		if err := offerWASI(ctx, p.rt, p.module); err != nil {
			return fail(ReasonEngine, err.Error())
		}
	}
	if p.foreign != nil {
		if err := p.foreign.Offer(ctx, p.rt, p.module); err != nil {
			return asFailure(err)
		}
	}
	if p.foreign == nil {
		p.calls = []string{scan.StartFunc, exportInitialize, exportAllocate}
		for _, e := range p.meta.Entries {
			p.calls = append(p.calls, e.export())
		}
	}
	var err error
	if p.compiled, err = p.rt.CompileModule(ctx, p.module.Instrument(p.calls...)); err != nil {
		return fail(ReasonInvalid, err.Error())
	}
	return nil
}

// try makes one instance, and asks it for its version.
func (p *Policy) try(ctx context.Context) *Failure {
	ctx, unlink, f := p.link(ctx)
	if f != nil {
		return f
	}
	defer unlink()
	g, f := p.instance(ctx, p.caps.Fuel, p.caps.Fuel)
	if g != nil {
		defer g.close(ctx)
	}
	if f != nil {
		return f
	}
	p.starts = g.used()
	if p.foreign != nil {
		return asFailure(p.foreign.Try(ctx, &Instance{g}))
	}
	v, f := g.call(ctx, exportVersion)
	if f == nil && api.DecodeU32(v) != ABI {
		f = fail(ReasonABI, fmt.Sprintf("the module says that it is made for version %d of the ABI; %d is spoken", api.DecodeU32(v), ABI))
	}
	return f
}

// StartFuel is what an instance takes before it is asked: its start function and
// _initialize.
func (p *Policy) StartFuel() uint64 { return p.starts }

// Cost is what compiling the module costs, in the units of [scan.Limits].
func (p *Policy) Cost() int { return p.module.Cost }

// Digest is the SHA-256 of the module as it was loaded: the policy's name in
// attestation results.
func (p *Policy) Digest() [32]byte { return p.module.Digest }

// Metadata is what the module says of itself.
func (p *Policy) Metadata() Metadata { return *p.meta }

// Floats reports whether the module computes with floating-point numbers. They
// give the same on all machines; see [scan.Module.Instrument].
func (p *Policy) Floats() bool { return p.module.Floats }

// Close frees what was compiled. No evaluation may be running.
func (p *Policy) Close(ctx context.Context) error {
	if p.rt == nil {
		return nil
	}
	p.drain(ctx)
	err := p.rt.Close(ctx)
	if p.compiled != nil { // a cache would keep it
		err = errors.Join(err, p.compiled.Close(ctx))
	}
	return err
}
