package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
	"github.com/trustedmcp/tmcp/policy-wasm/wapc"
)

// A Loader loads policies. Its zero value loads them as [policywasm.Load] does.
type Loader struct {
	// Cache keeps what was compiled; nil: nothing is kept.
	Cache *Cache
	// Child compiles modules; nil: this process does, for as long as it takes.
	Child *Child
	// Memory gives instances their memory; nil: Go's heap does.
	Memory *Memory
	// Warn, if set, is told of errors of the cache, which end nothing.
	Warn func(error)
}

// Load loads a policy. A module that the cache knows is neither compiled nor
// given to the child; it is scanned and validated as ever. Where the module is
// at fault the error is of type [*policywasm.Failure].
//
// Trusted are modules whose signer or digest the operator has named: they are
// compiled here. Others are, where there is a Child, compiled there.
func (l *Loader) Load(ctx context.Context, module []byte, trusted bool, caps policywasm.Caps) (*policywasm.Policy, error) {
	if l.Memory != nil {
		caps.Memory = l.Memory
	}
	child := l.Child
	if trusted {
		child = nil
	}
	ctx = workers(ctx)
	if l.Cache == nil || caps.Engine == policywasm.Interpreter {
		if child != nil {
			if err := child.compile(ctx, module, caps, ""); err != nil { // that it ends is what we want to know
				return nil, err
			}
		}
		return loadModule(ctx, module, caps)
	}
	if len(module) > caps.Scan.Module {
		return loadModule(ctx, module, caps) // which refuses it
	}
	k := key(module, caps)
	if dir := l.Cache.lookup(k); dir != "" {
		return load(ctx, module, caps, dir)
	}
	dir, err := l.Cache.stage()
	if err != nil {
		l.warn(err)
		return (&Loader{Child: l.Child, Memory: l.Memory}).Load(ctx, module, trusted, caps)
	}
	defer os.RemoveAll(dir) // unless it was moved
	if child != nil {
		if err := child.compile(ctx, module, caps, dir); err != nil {
			return nil, err
		}
	}
	p, err := load(ctx, module, caps, dir)
	if err != nil {
		return nil, err
	}
	if err := l.Cache.add(dir, k); err != nil {
		l.warn(err)
	}
	return p, nil
}

// loadModule loads a module by whichever contract it was made for.
func loadModule(ctx context.Context, module []byte, caps policywasm.Caps) (*policywasm.Policy, error) {
	switch {
	case rego.Is(module):
		return rego.Load(ctx, module, caps, nil)
	case wapc.Is(module):
		return wapc.Load(ctx, module, caps, nil)
	}
	return policywasm.Load(ctx, module, caps)
}

func compileModule(ctx context.Context, module []byte, caps policywasm.Caps) error {
	switch {
	case rego.Is(module):
		return rego.Compile(ctx, module, caps, nil)
	case wapc.Is(module):
		return wapc.Compile(ctx, module, caps)
	}
	return policywasm.Compile(ctx, module, caps)
}

func (l *Loader) warn(err error) {
	if l.Warn != nil {
		l.Warn(fmt.Errorf("cache of compiled policies: %w", err))
	}
}

// load loads a module with the engine's cache in dir. Nothing of the cache is
// needed once the policy is loaded.
func load(ctx context.Context, module []byte, caps policywasm.Caps, dir string) (*policywasm.Policy, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, err
	}
	caps.Cache = cache
	p, err := loadModule(ctx, module, caps)
	if err != nil {
		return nil, errors.Join(err, cache.Close(ctx))
	}
	return p, nil
}
