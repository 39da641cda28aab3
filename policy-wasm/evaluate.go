package policywasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// A Call is one question to a policy.
type Call struct {
	Entry Entry
	Input *Input
	// Fuel, if below the cap, is what the time left pays for; see [FuelFor]. When it
	// runs out the reason is [ReasonDeadline]. Zero: the cap.
	Fuel uint64
	// Inputs, for a [Set], gives the input of its i-th policy where they differ, as
	// where each has settings of its own. Nil: Input is for all.
	Inputs func(i int) *Input
}

// Evaluate asks the policy in a fresh instance, or, where the caps say so, in
// one of the pool. It always returns a result:
// without a decision of the policy's, Failure says why it is a denial. ctx
// counts until the evaluation starts; from then on fuel bounds it.
func (p *Policy) Evaluate(ctx context.Context, c Call) (r *Result) {
	done := func(*Result) {}
	if p.caps.Observe != nil {
		done = p.caps.Observe(p, c.Entry)
	}
	r = &Result{}
	defer func() {
		if v := recover(); v != nil {
			*r = Result{Failure: fail(ReasonEngine, fmt.Sprint(v))}
		}
		r.Policy = p.Digest()
		done(r)
	}()
	if f := p.evaluate(ctx, c, r); f != nil {
		*r = Result{Failure: f, Fuel: r.Fuel, Pages: r.Pages, Log: r.Log}
	}
	return r
}

func (p *Policy) evaluate(ctx context.Context, c Call, r *Result) *Failure {
	if !slices.Contains(p.meta.Entries, c.Entry) {
		return fail(ReasonEntry, fmt.Sprintf("the policy does not answer %q", c.Entry))
	}
	in, err := c.Input.Bytes(p.meta.Encoding)
	if err != nil {
		return fail(ReasonInput, err.Error())
	}
	if len(in) > p.caps.Input {
		return fail(ReasonInput, fmt.Sprintf("input of %d bytes; at most %d are allowed", len(in), p.caps.Input))
	}
	if err := ctx.Err(); err != nil {
		return fail(ReasonDeadline, "before the evaluation: "+err.Error())
	}
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return fail(ReasonBusy, fmt.Sprintf("all %d places were taken: %v", p.caps.Concurrent, ctx.Err()))
	}
	fuel := p.caps.Fuel
	if c.Fuel > 0 {
		fuel = min(fuel, c.Fuel)
	}
	var log *logBuffer
	if p.caps.Log > 0 {
		log = &logBuffer{limit: p.caps.Log}
		ctx = context.WithValue(ctx, logKey{}, log)
	}
	g, f := p.take(ctx, fuel)
	if g != nil {
		kept := false
		defer func() { // a panic of the engine comes by here too
			if !kept {
				g.close(ctx)
			}
		}()
		if f == nil {
			f = p.ask(g.ctx, g, c.Entry, in, r)
		}
		r.Fuel, r.Pages = g.used(), g.memory.Size()/pageSize
		kept = f == nil && p.keep(g)
	}
	if log != nil {
		r.Log = log.b
	}
	return f
}

// ask has an instance answer, and takes its answer into r.
func (p *Policy) ask(ctx context.Context, g *guest, e Entry, in []byte, r *Result) *Failure {
	out, f := p.run(ctx, g, e, in)
	if f != nil {
		return f
	}
	return p.accept(out, e, r)
}

// accepted is the output that was accepted last, and what it means. Most policies
// say the same most of the time, and to read it takes a quarter of an evaluation.
type accepted struct {
	out    []byte
	entry  Entry
	result Result
}

// answer puts a copy of the decision into r, which is the caller's to change.
func (a *accepted) answer(r *Result) {
	r.Decision, r.Reasons, r.Vector = a.result.Decision, slices.Clone(a.result.Reasons), maps.Clone(a.result.Vector)
	r.Obligations = slices.Clone(a.result.Obligations)
	for i := range r.Obligations {
		r.Obligations[i].Value = r.Obligations[i].Value.Clone()
	}
}

// accept decodes the policy's output into r, and checks that it can be meant.
func (p *Policy) accept(out []byte, e Entry, r *Result) *Failure {
	if a := p.last.Load(); a != nil && a.entry == e && bytes.Equal(a.out, out) {
		a.answer(r)
		return nil
	}
	got, err := DecodeResult(out, p.meta.Encoding, e)
	if err != nil {
		return fail(ReasonOutput, "result: "+err.Error())
	}
	if why := got.contradiction(e); why != "" {
		return fail(ReasonContradiction, why)
	}
	for _, o := range got.Obligations {
		if got.Decision == Allow && !slices.Contains(p.caps.Obligations, o.ID) {
			return fail(ReasonObligation, "obligation "+o.ID+" is not known to the host")
		}
	}
	a := &accepted{out: out, entry: e, result: *got}
	p.last.Store(a)
	a.answer(r)
	return nil
}

// run gives an instance the input, and returns a copy of its output.
func (p *Policy) run(ctx context.Context, g *guest, e Entry, in []byte) (out []byte, f *Failure) {
	if p.foreign != nil {
		out, err := p.foreign.Ask(ctx, &Instance{g}, e, in)
		if err == nil && len(out) > p.caps.Output {
			return nil, fail(ReasonOversize, fmt.Sprintf("result of %d bytes; at most %d are allowed", len(out), p.caps.Output))
		}
		return out, asFailure(err)
	}
	v, f := g.call(ctx, exportAllocate, uint64(len(in)))
	if f != nil {
		return nil, f
	}
	at := api.DecodeU32(v)
	if at == 0 && g.refused() {
		return nil, fail(ReasonMemory, "the memory's cap left no room for the input")
	}
	if at == 0 || !g.memory.Write(at, in) {
		return nil, fail(ReasonAllocate, fmt.Sprintf("no room for %d bytes at %#x", len(in), at))
	}
	if v, f = g.call(ctx, e.export(), uint64(at), uint64(len(in))); f != nil {
		return nil, f
	}
	at, n := uint32(v>>32), uint32(v)
	if uint64(n) > uint64(p.caps.Output) {
		return nil, fail(ReasonOversize, fmt.Sprintf("result of %d bytes; at most %d are allowed", n, p.caps.Output))
	}
	b, ok := g.memory.Read(at, n)
	if !ok || n == 0 {
		return nil, fail(ReasonOutput, fmt.Sprintf("no result: %d bytes at %#x of the memory", n, at))
	}
	return slices.Clone(b), nil
}

const pageSize = 64 << 10

// A guest is one instance.
type guest struct {
	m                 api.Module
	memory            api.Memory
	fuel, depth, grow api.MutableGlobal
	granted           uint64
	cap               uint64
	linked, ctx       context.Context // it was made in; it is called in
	unlink            func()
	gate              api.Function // scan.CallFunc; nil: there is none
	calls             []string     // what it calls
	stack             [3]uint64    // its parameters and result
	uses              int          // evaluations that it was kept after
	pages             uint32       // of memory when it was made
}

// instanceConfig is that of every instance: anonymous, and nothing is started by
// the engine. Without a source of randomness, which nothing reads, the engine
// would seed one for each instance.
var instanceConfig = wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(strings.NewReader(""))

// instance makes an instance and lets it initialise itself. A guest that failed
// to is returned too, with the failure.
func (p *Policy) instance(ctx context.Context, fuel, limit uint64) (*guest, *Failure) {
	if p.caps.Memory != nil {
		ctx = experimental.WithMemoryAllocator(ctx, p.caps.Memory)
	}
	m, err := p.rt.InstantiateModule(ctx, p.compiled, instanceConfig)
	if err != nil {
		return nil, fail(ReasonTrap, "instantiating: "+err.Error())
	}
	mutable := func(name string) api.MutableGlobal { return m.ExportedGlobal(name).(api.MutableGlobal) }
	g := &guest{m: m, memory: m.Memory(), fuel: mutable(scan.FuelGlobal), depth: mutable(scan.DepthGlobal), grow: mutable(scan.GrowGlobal), granted: min(fuel, 1<<62), cap: limit}
	g.fuel.Set(g.granted)
	g.pages = g.memory.Size() / pageSize
	if g.calls = p.calls; len(p.calls) > 0 {
		g.gate = m.ExportedFunction(scan.CallFunc)
	}
	if p.module.Starts() {
		if _, f := g.call(ctx, scan.StartFunc); f != nil {
			return g, f
		}
	}
	if _, ok := p.module.Func(exportInitialize); ok {
		if _, f := g.call(ctx, exportInitialize); f != nil {
			return g, f
		}
	}
	return g, nil
}

// call calls an export, and tells the causes of a trap apart.
func (g *guest) call(ctx context.Context, name string, args ...uint64) (uint64, *Failure) {
	out, err := g.invoke(ctx, name, args)
	var f *Failure
	switch {
	case err == nil:
		return out, nil
	case errors.As(err, &f): // a host function's panic
		return 0, f
	case int64(g.fuel.Get()) < 0:
		return 0, g.spent(name)
	case api.DecodeI32(g.depth.Get()) < 0:
		return 0, fail(ReasonDepth, name+": calls were nested too deep")
	case g.refused():
		return 0, fail(ReasonMemory, name+": trapped after memory was refused")
	}
	return 0, fail(ReasonTrap, name+": "+err.Error())
}

func (g *guest) invoke(ctx context.Context, name string, args []uint64) (uint64, error) {
	if i := slices.Index(g.calls, name); i >= 0 && g.gate != nil {
		g.stack = [3]uint64{uint64(i)}
		copy(g.stack[1:], args)
		err := g.gate.CallWithStack(ctx, g.stack[:])
		return g.stack[0], err
	}
	out, err := g.m.ExportedFunction(name).Call(ctx, args...)
	if err != nil || len(out) == 0 {
		return 0, err
	}
	return out[0], nil
}

// spent is the failure that fuel ran out.
func (g *guest) spent(name string) *Failure {
	if g.granted < g.cap {
		return fail(ReasonDeadline, fmt.Sprintf("%s: %d units of fuel fit the time left, and were used up", name, g.granted))
	}
	return fail(ReasonFuel, fmt.Sprintf("%s: %d units of fuel were used up", name, g.granted))
}

// refused reports whether the guest asked for memory beyond the cap.
func (g *guest) refused() bool { return api.DecodeU32(g.grow.Get()) != 0 }

// used is the fuel that was used.
func (g *guest) used() uint64 { return min(g.granted-g.fuel.Get(), g.granted) }

func (g *guest) close(ctx context.Context) {
	_ = g.m.Close(ctx) // frees memory; there is nothing to fail
	if g.unlink != nil {
		g.unlink()
	}
}
