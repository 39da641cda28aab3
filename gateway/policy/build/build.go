package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
	"github.com/trustedmcp/tmcp/policy-wasm/wapc"
)

// Options of [Project.Build].
type Options struct {
	Caps policywasm.Caps                  // under which the module is tried
	Say  func(format string, args ...any) // what is being done, for people; nil: nobody is told
}

// A Built is a module that was made.
type Built struct {
	Path   string  `json:"path"`
	Report *Report `json:"report"`
	Logs   bool    `json:"logs"` // it needs a host that keeps a log
}

// Build runs the project's toolchain, gives the module its metadata, and tries
// it as a host would. The module is written only if that succeeds. Errors are
// [*ToolError], [*CommandError], [*RefusedError] and those of files.
func (p *Project) Build(ctx context.Context, o Options) (_ *Built, err error) {
	// A build that fails leaves no module: who runs, signs or pushes the folder next
	// would have the one from before, and think it is of these sources.
	defer func() {
		if err != nil {
			_ = os.Remove(filepath.Join(p.Dir, ModuleFile))
		}
	}()
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	recipe := &guests.Build{Steps: []guests.Step{{Args: p.Manifest.Build}}, Output: p.Output}
	if len(p.Manifest.Build) == 0 {
		if recipe, err = guests.Recipe(p.Lang); err != nil {
			return nil, err
		}
	}
	output := filepath.Join(p.Dir, filepath.FromSlash(recipe.Output))
	if err := os.Remove(output); err != nil && !errors.Is(err, fs.ErrNotExist) { // or a toolchain that makes nothing would leave the old one
		return nil, err
	}
	t := &toolchain{dir: p.Dir, say: o.Say}
	if err := t.run(ctx, recipe); err != nil {
		return nil, err
	}
	raw, err := read(output, o.Caps)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the commands ended well, and did not make %s", recipe.Output)
	}
	if err != nil {
		return nil, err
	}
	module, err := p.pack(raw)
	if err != nil {
		return nil, &RefusedError{failure(err)}
	}
	b := &Built{Path: filepath.Join(p.Dir, ModuleFile)}
	silent, logging := o.Caps, o.Caps
	silent.Log, logging.Log = 0, max(o.Caps.Log, 1)
	if b.Report = Inspect(ctx, module, silent); b.Report.Refused != nil && b.Report.Refused.Reason == policywasm.ReasonImport {
		if r := Inspect(ctx, module, logging); r.Accepted {
			b.Report, b.Logs = r, true
		}
	}
	if !b.Report.Accepted {
		return nil, &RefusedError{b.Report.Refused}
	}
	return b, replaceFile(b.Path, module)
}

// pack makes the toolchain's output a policy.
func (p *Project) pack(raw []byte) ([]byte, error) {
	if rego.Is(raw) && !bytes.HasPrefix(raw, []byte(header)) { // a bundle
		return rego.Pack(raw, p.Metadata())
	}
	return Attach(raw, p.Metadata())
}

// read reads a toolchain's output: a few times what a module may have, for
// bundles and for what is told of too large ones.
func read(path string, caps policywasm.Caps) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if most := 8 * int64(caps.Scan.Module); info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes; hosts take modules of at most %d", path, info.Size(), caps.Scan.Module)
	}
	return os.ReadFile(path)
}

// replaceFile writes a file whole, or not at all.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".policy-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Load loads a module of any [Kind].
func Load(ctx context.Context, module []byte, caps policywasm.Caps) (*policywasm.Policy, error) {
	if rego.Is(module) {
		return rego.Load(ctx, module, caps, nil)
	}
	if wapc.Is(module) {
		return wapc.Load(ctx, module, caps, nil)
	}
	return policywasm.Load(ctx, module, caps)
}
