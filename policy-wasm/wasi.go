package policywasm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// wasiModule is the name under which toolchains import WASI. Of its functions
// those below are offered (spec section 20.3): enough for what the toolchains of
// Go and of wasi-libc link into every program. They say no. Each one depends on
// its parameters and the guest's memory alone, takes bounded time, never waits,
// and touches nothing outside of the instance but the bounded log.
const wasiModule = "wasi_snapshot_preview1"

// Error numbers of WASI.
const (
	wasiSuccess = 0
	wasiBadFD   = 8
	wasiFault   = 21
	wasiInvalid = 28
)

const (
	wasiRandom   = 256 // bytes that one call gives at most
	wasiPieces   = 16  // buffers that fd_write looks at, subscriptions that poll_oneoff takes
	subscription = 48  // bytes
	event        = 32  // bytes
)

// A stub is one function of WASI. args are its parameters; the result is an
// error number.
type stub struct {
	name   string
	params string // i and I for i32 and i64
	f      func(ctx context.Context, m api.Memory, args []uint64) uint32
}

func badFD(context.Context, api.Memory, []uint64) uint32   { return wasiBadFD }
func succeed(context.Context, api.Memory, []uint64) uint32 { return wasiSuccess }

var stubs = []stub{
	{"args_get", "ii", succeed},
	{"args_sizes_get", "ii", noStrings},
	{"clock_res_get", "ii", clockRes},
	{"clock_time_get", "iIi", clockTime},
	{"environ_get", "ii", succeed},
	{"environ_sizes_get", "ii", noStrings},
	{"fd_close", "i", badFD},
	{"fd_fdstat_get", "ii", badFD},
	{"fd_fdstat_set_flags", "ii", badFD},
	{"fd_prestat_dir_name", "iii", badFD},
	{"fd_prestat_get", "ii", badFD},
	{"fd_read", "iiii", badFD},
	{"fd_seek", "iIii", badFD},
	{"fd_write", "iiii", fdWrite},
	{"poll_oneoff", "iiii", pollOneoff},
	{"proc_exit", "i", nil},
	{"random_get", "ii", randomGet},
	{"sched_yield", "", succeed},
}

// wasiImports are the stubs as the scanner knows them.
var wasiImports = func() (out []scan.Func) {
	for _, s := range stubs {
		t := scan.FuncType{}
		for _, c := range s.params {
			t.Params = append(t.Params, map[rune]scan.ValueType{'i': scan.I32, 'I': scan.I64}[c])
		}
		if s.f != nil { // proc_exit does not return
			t.Results = []scan.ValueType{scan.I32}
		}
		out = append(out, scan.Func{Module: wasiModule, Name: s.name, Type: t})
	}
	return out
}()

// noStrings says that there are no arguments and no environment.
func noStrings(_ context.Context, m api.Memory, args []uint64) uint32 {
	if !m.WriteUint32Le(api.DecodeU32(args[0]), 0) || !m.WriteUint32Le(api.DecodeU32(args[1]), 0) {
		return wasiFault
	}
	return wasiSuccess
}

// The clocks stand still: that of the wall at 1970, the monotonic one at 1 ns,
// because Go's runtime takes 0 for a broken one. There are no others.
func clockTime(_ context.Context, m api.Memory, args []uint64) uint32 {
	id := api.DecodeU32(args[0])
	if id > 1 {
		return wasiInvalid
	}
	if !m.WriteUint64Le(api.DecodeU32(args[2]), uint64(id)) {
		return wasiFault
	}
	return wasiSuccess
}

func clockRes(_ context.Context, m api.Memory, args []uint64) uint32 {
	if api.DecodeU32(args[0]) > 1 {
		return wasiInvalid
	}
	if !m.WriteUint64Le(api.DecodeU32(args[1]), 1) {
		return wasiFault
	}
	return wasiSuccess
}

// fixedBytes are SHA-256 of "tmcp policy random" and a byte that counts from 0,
// one behind the other.
var fixedBytes = func() (b []byte) {
	for i := range byte(wasiRandom / sha256.Size) {
		sum := sha256.Sum256(append([]byte("tmcp policy random"), i))
		b = append(b, sum[:]...)
	}
	return b
}()

// randomGet gives the same bytes each time. They seed hash tables; they are not
// random, and a policy has no use for what is.
func randomGet(_ context.Context, m api.Memory, args []uint64) uint32 {
	at, n := api.DecodeU32(args[0]), api.DecodeU32(args[1])
	if n > wasiRandom {
		return wasiInvalid
	}
	if !m.Write(at, fixedBytes[:n]) {
		return wasiFault
	}
	return wasiSuccess
}

// fdWrite takes what is written to the standard output and error: into the log
// if there is one. The guest is told the same with and without a log.
func fdWrite(ctx context.Context, m api.Memory, args []uint64) uint32 {
	fd, at, n := api.DecodeU32(args[0]), api.DecodeU32(args[1]), api.DecodeU32(args[2])
	if fd != 1 && fd != 2 {
		return wasiBadFD
	}
	log, _ := ctx.Value(logKey{}).(*logBuffer)
	var total uint32
	for i := range min(n, wasiPieces) {
		piece, ok := m.Read(at+8*i, 8)
		if !ok {
			return wasiFault
		}
		text, ok := m.Read(binary.LittleEndian.Uint32(piece), binary.LittleEndian.Uint32(piece[4:]))
		if !ok || total+uint32(len(text)) < total {
			return wasiFault
		}
		log.write(text)
		total += uint32(len(text))
	}
	if !m.WriteUint32Le(api.DecodeU32(args[3]), total) {
		return wasiFault
	}
	return wasiSuccess
}

// pollOneoff has every clock ring at once, and knows no file.
func pollOneoff(_ context.Context, m api.Memory, args []uint64) uint32 {
	in, out, n := api.DecodeU32(args[0]), api.DecodeU32(args[1]), api.DecodeU32(args[2])
	if n == 0 || n > wasiPieces {
		return wasiInvalid
	}
	for i := range n {
		s, ok := m.Read(in+subscription*i, subscription)
		if !ok {
			return wasiFault
		}
		var e [event]byte
		copy(e[:8], s[:8]) // the guest's mark
		if e[10] = s[8]; s[8] != 0 {
			e[8] = wasiBadFD
		}
		if !m.Write(out+event*i, e[:]) {
			return wasiFault
		}
	}
	if !m.WriteUint32Le(api.DecodeU32(args[3]), n) {
		return wasiFault
	}
	return wasiSuccess
}

// exit is the panic by which proc_exit traps: a policy that ends the program has
// decided nothing, whatever its code says.
type exit uint32

func (e exit) Error() string { return fmt.Sprintf("the guest ended itself with code %d", uint32(e)) }

// usesWASI reports whether the module imports any of the stubs.
func usesWASI(m *scan.Module) bool {
	return slices.ContainsFunc(m.Imports, func(f scan.Func) bool { return f.Module == wasiModule })
}

// offerWASI makes those of the stubs that the module imports.
func offerWASI(ctx context.Context, rt wazero.Runtime, module *scan.Module) error {
	b := rt.NewHostModuleBuilder(wasiModule)
	for _, s := range stubs {
		if !slices.ContainsFunc(module.Imports, func(f scan.Func) bool { return f.Module == wasiModule && f.Name == s.name }) {
			continue
		}
		var params, results []api.ValueType
		for _, c := range s.params {
			params = append(params, map[rune]api.ValueType{'i': api.ValueTypeI32, 'I': api.ValueTypeI64}[c])
		}
		f := api.GoModuleFunc(func(_ context.Context, _ api.Module, stack []uint64) { panic(exit(api.DecodeU32(stack[0]))) })
		if s.f != nil {
			results = []api.ValueType{api.ValueTypeI32}
			f = func(ctx context.Context, m api.Module, stack []uint64) {
				e := s.f(ctx, m.Memory(), stack)
				stack[0] = api.EncodeU32(e)
			}
		}
		b.NewFunctionBuilder().WithGoModuleFunction(f, params, results).Export(s.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}
