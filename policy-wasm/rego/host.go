package rego

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// env is where modules of OPA find all that they import; hostModule is where the
// host's functions really are. A host can't own a memory that a module imports,
// so a shim between them does.
const (
	env        = "env"
	hostModule = "tmcp_opa"
)

// A hostFunc is one function that modules may import: params are all i32.
type hostFunc struct {
	name   string
	params int
	result bool
}

var hostFuncs = []hostFunc{
	{"opa_abort", 1, false},
	{"opa_println", 1, false},
	{"opa_builtin0", 2, true}, // number of the builtin, context, arguments
	{"opa_builtin1", 3, true},
	{"opa_builtin2", 4, true},
	{"opa_builtin3", 5, true},
	{"opa_builtin4", 6, true},
}

var imports = func() (out []scan.Func) {
	for _, h := range hostFuncs {
		t := scan.FuncType{Params: i32s(h.params)}
		if h.result {
			t.Results = i32s(1)
		}
		out = append(out, scan.Func{Module: env, Name: h.name, Type: t})
	}
	return out
}()

// shim is a module that has a memory of these pages, exported as "memory", and
// exports the functions of hostModule that it imports.
func shim(least, most uint32) []byte {
	u := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	text := func(s string) []byte { return append(u(len(s)), s...) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	section := func(id byte, items int, content []byte) []byte {
		content = join(u(items), content)
		return join([]byte{id}, u(len(content)), content)
	}
	var types, imported, exported []byte
	for i, h := range hostFuncs {
		types = join(types, []byte{0x60}, u(h.params), bytes.Repeat([]byte{byte(scan.I32)}, h.params))
		if h.result {
			types = append(types, 1, byte(scan.I32))
		} else {
			types = append(types, 0)
		}
		imported = join(imported, text(hostModule), text(h.name), []byte{byte(scan.KindFunc)}, u(i))
		exported = join(exported, text(h.name), []byte{byte(scan.KindFunc)}, u(i))
	}
	exported = join(exported, text("memory"), []byte{byte(scan.KindMemory), 0})
	n := len(hostFuncs)
	return join([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, n, types), section(2, n, imported),
		section(5, 1, join([]byte{1}, u(int(least)), u(int(most)))),
		section(7, n+1, exported))
}

// host makes the functions. Parameters come with dirty upper halves.
func (a *adapter) host(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(hostModule)
	for i, h := range hostFuncs {
		var f api.GoModuleFunc
		switch i {
		case 0:
			f = func(ctx context.Context, _ api.Module, stack []uint64) {
				panic(ctx.Value(runKey{}).(*run).abort(api.DecodeU32(stack[0])))
			}
		case 1:
			f = func(context.Context, api.Module, []uint64) {} // what a policy prints is dropped
		default:
			f = func(ctx context.Context, _ api.Module, stack []uint64) {
				args := make([]uint32, 0, 4)
				for _, v := range stack[2:h.params] {
					args = append(args, api.DecodeU32(v))
				}
				v, err := a.builtin(ctx, ctx.Value(runKey{}).(*run), api.DecodeU32(stack[0]), args)
				if err != nil {
					panic(err)
				}
				stack[0] = api.EncodeU32(v)
			}
		}
		var results []api.ValueType
		if h.result {
			results = []api.ValueType{api.ValueTypeI32}
		}
		b.NewFunctionBuilder().WithGoModuleFunction(f, bytes.Repeat([]byte{api.ValueTypeI32}, h.params), results).Export(h.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

const maxMessage = 128 // bytes of it that are shown

// abort is the failure by which the module ends itself.
func (r *run) abort(at uint32) error {
	if r.i != nil && r.i.Refused() {
		return policywasm.NewFailure(policywasm.ReasonMemory, "the module ended itself after memory was refused")
	}
	size := r.memory.Size()
	if at >= size {
		return policywasm.NewFailure(policywasm.ReasonTrap, "the module ended itself, with a message outside of its memory")
	}
	b, _ := r.memory.Read(at, min(size-at, maxMessage))
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return policywasm.NewFailure(policywasm.ReasonTrap, fmt.Sprintf("the module ended itself: %q", b))
}

// What a builtin costs: fixed, and for each byte of arguments and result. A guest
// may give the same argument again and again, for nothing; the dearest to read
// are sets of many numbers, which are sorted.
const (
	fuelBuiltin = 2000
	fuelByte    = 64
)

// builtin answers one call of the guest. It returns 0 where the builtin is
// undefined for its arguments. It calls the guest back to read and make values,
// but is never called within such a call.
func (a *adapter) builtin(ctx context.Context, r *run, id uint32, args []uint32) (uint32, error) {
	trap := func(why string) error { return policywasm.NewFailure(policywasm.ReasonTrap, why) }
	b, ok := a.builtins[id]
	switch {
	case r.i == nil || r.inside:
		return 0, trap("a builtin was called where none may be")
	case !ok || b.args != len(args):
		return 0, trap(fmt.Sprintf("builtin %d with %d arguments is none of those that the module named", id, len(args)))
	}
	r.inside = true
	defer func() { r.inside = false }()
	pay := func(n int) error {
		if !r.i.Charge(fuelBuiltin + fuelByte*uint64(n)) {
			return r.i.Spent("a builtin")
		}
		return nil
	}
	values := make([]value, 0, len(args))
	for _, at := range args {
		s, err := dump(ctx, r.i, "opa_value_dump", at, maxArgument)
		if err == nil {
			err = pay(len(s))
		}
		if err != nil {
			return 0, err
		}
		v, err := parseValue(s)
		if err != nil {
			return 0, trap("an argument of a builtin: " + err.Error())
		}
		values = append(values, v)
	}
	out, err := b.call(r, values)
	switch {
	case err != nil:
		return 0, trap(err.Error())
	case out == nil:
		return 0, nil
	}
	s := appendJSON(nil, *out)
	if err := pay(len(s)); err != nil {
		return 0, err
	}
	at, err := place(ctx, r.i, s)
	if err != nil {
		return 0, err
	}
	v, err := r.i.Call(ctx, "opa_json_parse", uint64(at), uint64(len(s)))
	if err == nil && api.DecodeU32(v) == 0 {
		err = trap("the module did not take the result of a builtin")
	}
	return api.DecodeU32(v), err
}
