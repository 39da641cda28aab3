package policywasm

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// A Foreign knows how to ask a module that was made for another host: packages
// rego and wapc have one each. All else is as for modules of our own ABI: the
// scan, fuel, depth, memory, a fresh instance for each evaluation, and the checks
// of what was returned. Documents and results are JSON.
//
// Errors of type [*Failure] are taken as they are; others are the engine's.
type Foreign interface {
	// Describe checks what the module exports.
	Describe(m *scan.Module, meta *Metadata) error
	// Offer makes in rt, once, what the module may import.
	Offer(ctx context.Context, rt wazero.Runtime, m *scan.Module) error
	// Link prepares one instance: it is made, and called, with the context that
	// Link returns, and closed before close is called.
	Link(ctx context.Context) (linked context.Context, close func(), err error)
	// Try looks at the first instance, when the module is loaded.
	Try(ctx context.Context, i *Instance) error
	// Ask puts the question to an instance, and returns a result as section 20.6
	// of the specification has it, in JSON.
	Ask(ctx context.Context, i *Instance, e Entry, input []byte) ([]byte, error)
}

// LoadForeign is [Load] for modules of another ABI. What they may import stands
// in caps.Scan.
func LoadForeign(ctx context.Context, module []byte, caps Caps, f Foreign) (*Policy, error) {
	return load(ctx, module, caps, f)
}

// NewFailure makes a failure. Details are cut at 256 bytes.
func NewFailure(reason, detail string) *Failure { return fail(reason, detail) }

func asFailure(err error) *Failure {
	var f *Failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	}
	return fail(ReasonEngine, err.Error())
}

// An Instance is one run of a module, as a [Foreign] sees it.
type Instance struct{ g *guest }

// Call calls an export. Its error is a [*Failure] that tells fuel, depth, memory
// and other traps apart; one that a host function panicked with comes through.
func (i *Instance) Call(ctx context.Context, name string, args ...uint64) (uint64, error) {
	v, f := i.g.call(ctx, name, args...)
	if f != nil {
		return 0, f
	}
	return v, nil
}

// Exports reports whether a function is exported by that name.
func (i *Instance) Exports(name string) bool { return i.g.m.ExportedFunction(name) != nil }

// Memory is the instance's. What is read of it changes when the guest runs on.
func (i *Instance) Memory() api.Memory { return i.g.memory }

// Global is the value of an exported global; 0, if there is none.
func (i *Instance) Global(name string) uint64 {
	if g := i.g.m.ExportedGlobal(name); g != nil {
		return g.Get()
	}
	return 0
}

// Charge takes fuel for work that the host does for the guest. False: there is
// not enough, and what was left is gone; the host function must panic with
// [Instance.Spent].
func (i *Instance) Charge(fuel uint64) bool {
	left := int64(i.g.fuel.Get()) - int64(min(fuel, 1<<62))
	i.g.fuel.Set(uint64(left))
	return left >= 0
}

// Spent is the failure that fuel ran out.
func (i *Instance) Spent(what string) *Failure { return i.g.spent(what) }

// Refused reports whether the guest asked for memory beyond the cap.
func (i *Instance) Refused() bool { return i.g.refused() }

// link prepares an instance of a foreign module.
func (p *Policy) link(ctx context.Context) (context.Context, func(), *Failure) {
	if p.foreign == nil {
		return ctx, func() {}, nil
	}
	if p.caps.Memory != nil {
		ctx = experimental.WithMemoryAllocator(ctx, p.caps.Memory)
	}
	ctx, done, err := p.foreign.Link(ctx)
	return ctx, done, asFailure(err)
}
