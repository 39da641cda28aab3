package wapc

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

const hostModule = "wapc"

const (
	maxResponse = 64 << 10 // bytes
	maxMessage  = 128      // bytes of the guest's error that are shown
	copied      = 16       // bytes that a unit of fuel copies
)

// A hostFunc is a function that modules may import: params are all i32. f returns
// what the guest gets, or a failure that ends the evaluation.
type hostFunc struct {
	name   string
	params int
	result bool
	f      func(r *run, m api.Memory, a []uint32) (uint32, error)
}

// noHost is what the guest is told when it calls its host.
const noHost = "there are no host calls here"

var hostFuncs = []hostFunc{
	{"__guest_request", 2, false, guestRequest},
	{"__guest_response", 2, false, func(r *run, m api.Memory, a []uint32) (_ uint32, err error) {
		r.response, err = read(r, m, a[0], a[1], maxResponse)
		return 0, err
	}},
	{"__guest_error", 2, false, func(r *run, m api.Memory, a []uint32) (_ uint32, err error) {
		r.said, err = read(r, m, a[0], min(a[1], maxMessage), maxMessage)
		return 0, err
	}},
	{"__host_call", 8, true, func(r *run, _ api.Memory, _ []uint32) (uint32, error) {
		r.refused = true
		return 0, nil
	}},
	{"__host_response_len", 0, true, nothing},
	{"__host_response", 1, false, nothing},
	{"__host_error_len", 0, true, func(r *run, _ api.Memory, _ []uint32) (uint32, error) {
		if !r.refused {
			return 0, nil
		}
		return uint32(len(noHost)), nil
	}},
	{"__host_error", 1, false, func(r *run, m api.Memory, a []uint32) (uint32, error) {
		if r.refused && !m.Write(a[0], []byte(noHost)) {
			return 0, outside(policywasm.ReasonTrap, a[0], len(noHost))
		}
		return 0, nil
	}},
	{"__console_log", 2, false, nothing}, // a log is dropped
}

func nothing(*run, api.Memory, []uint32) (uint32, error) { return 0, nil }

func outside(reason string, at uint32, n int) error {
	return policywasm.NewFailure(reason, fmt.Sprintf("%d bytes at %#x are outside of the memory", n, at))
}

// charge takes fuel for n bytes.
func (r *run) charge(n int) error {
	if !r.i.Charge(uint64(n) / copied) {
		return r.i.Spent("copying")
	}
	return nil
}

func guestRequest(r *run, m api.Memory, a []uint32) (uint32, error) {
	if err := r.charge(len(r.op) + len(r.request)); err != nil {
		return 0, err
	}
	if !m.Write(a[0], []byte(r.op)) {
		return 0, outside(policywasm.ReasonAllocate, a[0], len(r.op))
	}
	if !m.Write(a[1], r.request) {
		return 0, outside(policywasm.ReasonAllocate, a[1], len(r.request))
	}
	return 0, nil
}

// read copies what the guest gives.
func read(r *run, m api.Memory, at, n uint32, limit int) ([]byte, error) {
	if uint64(n) > uint64(limit) {
		return nil, policywasm.NewFailure(policywasm.ReasonOversize, fmt.Sprintf("response of %d bytes; at most %d are allowed", n, limit))
	}
	if err := r.charge(int(n)); err != nil {
		return nil, err
	}
	b, ok := m.Read(at, n)
	if !ok {
		return nil, outside(policywasm.ReasonOutput, at, int(n))
	}
	return append([]byte{}, b...), nil
}

func i32s(n int) (t []scan.ValueType) {
	for range n {
		t = append(t, scan.I32)
	}
	return t
}

var imports = func() (out []scan.Func) {
	for _, h := range hostFuncs {
		t := scan.FuncType{Params: i32s(h.params)}
		if h.result {
			t.Results = i32s(1)
		}
		out = append(out, scan.Func{Module: hostModule, Name: h.name, Type: t})
	}
	return out
}()

// offer makes the functions. Parameters come with dirty upper halves.
func offer(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(hostModule)
	for _, h := range hostFuncs {
		f := func(ctx context.Context, m api.Module, stack []uint64) {
			r := ctx.Value(runKey{}).(*run)
			if r.i == nil {
				panic(policywasm.NewFailure(policywasm.ReasonTrap, h.name+" was called before there was a question"))
			}
			a := make([]uint32, h.params)
			for i := range a {
				a[i] = api.DecodeU32(stack[i])
			}
			v, err := h.f(r, m.Memory(), a)
			if err != nil {
				panic(err)
			}
			if h.result {
				stack[0] = api.EncodeU32(v)
			}
		}
		var results []api.ValueType
		if h.result {
			results = []api.ValueType{api.ValueTypeI32}
		}
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(f), bytes.Repeat([]byte{api.ValueTypeI32}, h.params), results).Export(h.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}
