package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	c "github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

// imports is a guest that imports one function, of that module, name and type
// (parameters in letters, i for i32 and I for i64), and runs code that may call
// it as function 0.
func imports(module, name, params string, result bool, code ...any) c.Guest {
	typ := map[rune]byte{'i': c.I32, 'I': c.I64}
	var in, out []byte
	for _, p := range params {
		in = append(in, typ[p])
	}
	if result {
		out = []byte{c.I32}
	}
	g := appraise(code...)
	g.Imports = [][]byte{c.Cat(c.Sized([]byte(module)), c.Sized([]byte(name)), 0, 4)}
	g.Types = [][]byte{c.Type(in, out)}
	return g
}

func importVectors() []vector {
	var out []vector
	// logs calls log twice.
	logs := func(at, n int64) []byte {
		one := c.Cat(c.Const(c.I32, at), c.Const(c.I32, n), 0x10, 0)
		return imports("tmcp_1", "log", "ii", false, one, one).Module()
	}
	logged := func(name, req, title string, at, n int64, limit int, want string) {
		out = append(out, vector{name: name, req: req, title: title,
			make: func() Request { return withCaps(single(logs(at, n)), func(c *Caps) { c.Log = limit }) },
			look: func(t *conformance.T, a *asked) {
				decides("allow")(t, a)
				switch log := string(a.Results[0].Log); {
				case len(log) > limit:
					t.Violate("%d bytes of log are kept, the operator granted %d", len(log), limit)
				case !strings.HasPrefix(log, want):
					t.Violate("the log is %.100q, want it to begin with %q", log, want)
				case want == "" && strings.Trim(log, "\n") != "":
					t.Violate("the log is %.100q; nothing readable was logged", log)
				}
			}})
	}
	logged("log", "TMCP-20.3-7", "a log is kept", answerAt, 5, 100, c.AllowAnswer[:5])
	logged("log-bounded", "TMCP-20.3-7", "no more of a log is kept than the operator grants", answerAt, 60, 70, c.AllowAnswer[:60])
	logged("log-first-bounded", "TMCP-20.3-7", "not of the first line either", answerAt, 60, 10, c.AllowAnswer[:10])
	logged("log-outside", "TMCP-20.3-6", "a line outside of the memory is not kept, and changes nothing", 65_530, 100, 100, "")
	logged("log-huge", "TMCP-20.3-6", "nor one of 4 GiB", -1, -1, 100, "")
	for name, g := range map[string]c.Guest{
		"log-in-table":  {Table: c.Cat(0x70, 0, 1), Elements: [][]byte{c.Cat(0, c.Const(c.I32, 0), 0x0b, 1, 0)}},
		"log-in-export": {Exports: [][]byte{c.Export("l", 0, 0)}},
	} {
		out = append(out, vector{name: name, req: "TMCP-20.2-2", title: "an import that can be called by another name: " + strings.TrimPrefix(name, "log-in-"), twin: "log", reason: policywasm.ReasonProfile,
			make: func() Request {
				x := imports("tmcp_1", "log", "ii", false)
				g.Imports, g.Types = x.Imports, x.Types
				return withCaps(single(g.Module()), func(c *Caps) { c.Log = 100 })
			}})
	}
	out = append(out, vector{name: "log-type", req: "TMCP-20.3-3", title: "the log, imported with another type", twin: "log", reason: policywasm.ReasonSignature,
		make: func() Request {
			return withCaps(single(imports("tmcp_1", "log", "iii", false).Module()), func(c *Caps) { c.Log = 100 })
		}})
	return append(out, wasiVectors()...)
}

// wasiVectors call the stubs of WASI and look at what they answer and write. A
// host that offers none of it refuses the imports, and says so by
// not_implemented.
func wasiVectors() []vector {
	var out []vector
	type check struct{ at, want int64 } // an i32 in the memory afterwards
	const outside = 65_534
	// filled is what the scratch memory is set to before a call.
	filled := func() []byte {
		return c.Cat(c.Const(c.I32, scratch), c.Const(c.I32, 0xaa-256), c.Const(c.I32, 1024), 0xfc, 11, 0)
	}
	const old = -0x55555556 // four bytes 0xaa
	call := func(name, fn, params, title string, args []int64, errno int64, data []byte, checks ...check) {
		out = append(out, vector{name: "wasi-" + name, req: "TMCP-20.3-8", title: "WASI: " + title, make: func() Request {
			code := filled()
			if data != nil {
				code = c.Cat(code, c.Const(c.I32, scratch), c.Const(c.I32, 2048), c.Const(c.I32, int64(len(data))), 0xfc, 10, 0, 0)
			}
			for i, p := range params {
				code = append(code, c.Const(map[rune]byte{'i': c.I32, 'I': c.I64}[p], args[i])...)
			}
			code = c.Cat(code, 0x10, 0, unless(errno))
			for _, k := range checks {
				code = c.Cat(code, word(k.at), unless(k.want))
			}
			g := imports("wasi_snapshot_preview1", fn, params, true, code)
			if data != nil {
				g.Data = [][]byte{segment(2048, data)}
			}
			return single(g.Module())
		}})
	}
	const at = scratch
	le := func(words ...uint32) (b []byte) {
		for _, w := range words {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b
	}
	call("args", "args_get", "ii", "there are no arguments", []int64{at, at}, 0, nil, check{at, old})
	call("args-sizes", "args_sizes_get", "ii", "none, of no bytes", []int64{at, at + 4}, 0, nil, check{at, 0}, check{at + 4, 0}, check{at + 8, old})
	call("args-outside", "args_sizes_get", "ii", "a place outside of the memory", []int64{at, outside}, 21, nil)
	call("environ", "environ_get", "ii", "there is no environment", []int64{at, at}, 0, nil, check{at, old})
	call("environ-sizes", "environ_sizes_get", "ii", "none, of no bytes", []int64{at, at + 4}, 0, nil, check{at, 0}, check{at + 4, 0})
	call("clock-wall", "clock_time_get", "iIi", "the clock of the wall stands at 1970", []int64{0, 0, at}, 0, nil, check{at, 0}, check{at + 4, 0}, check{at + 8, old})
	call("clock-monotonic", "clock_time_get", "iIi", "the monotonic clock stands at 1", []int64{1, 0, at}, 0, nil, check{at, 1}, check{at + 4, 0})
	call("clock-process", "clock_time_get", "iIi", "there is no other clock", []int64{2, 0, at}, 28, nil, check{at, old})
	call("clock-outside", "clock_time_get", "iIi", "a place outside of the memory", []int64{0, 0, outside}, 21, nil)
	call("clock-resolution", "clock_res_get", "ii", "a clock's resolution is 1", []int64{1, at}, 0, nil, check{at, 1}, check{at + 4, 0})
	for _, f := range []struct{ fn, params string }{{"fd_close", "i"}, {"fd_fdstat_get", "ii"}, {"fd_fdstat_set_flags", "ii"}, {"fd_prestat_get", "ii"},
		{"fd_prestat_dir_name", "iii"}, {"fd_read", "iiii"}, {"fd_seek", "iIii"}} {
		args := []int64{0, at, at, at}
		if f.params == "iIii" {
			args = []int64{0, 0, 0, at}
		}
		call(strings.ReplaceAll(f.fn, "_", "-"), f.fn, f.params, "there is no file, and no standard input: "+f.fn, args, 8, nil, check{at, old})
	}
	vec := le(answerAt, 5, answerAt, 4)
	call("write", "fd_write", "iiii", "what is written to the standard output counts as written", []int64{1, at, 2, at + 64}, 0, vec, check{at + 64, 9})
	call("write-error", "fd_write", "iiii", "so it does to the standard error", []int64{2, at, 1, at + 64}, 0, vec, check{at + 64, 5})
	call("write-file", "fd_write", "iiii", "there is no other file", []int64{3, at, 1, at + 64}, 8, vec, check{at + 64, old})
	call("write-outside", "fd_write", "iiii", "a buffer outside of the memory", []int64{1, at, 1, at + 64}, 21, le(outside, 5))
	call("write-none", "fd_write", "iiii", "no buffer", []int64{1, at, 0, at + 64}, 0, vec, check{at + 64, 0})
	clock := append(le(0x11223344, 0x55667788, 0), make([]byte, 36)...)
	file := append(le(7, 0, 1), make([]byte, 36)...)
	call("poll", "poll_oneoff", "iiii", "a clock rings at once, and a file is not known", []int64{at, at + 128, 2, at + 512}, 0, append(clock, file...),
		check{at + 128, 0x11223344}, check{at + 132, 0x55667788}, check{at + 136, 0}, check{at + 160, 7}, check{at + 168, 1<<16 | 8}, check{at + 512, 2})
	call("poll-none", "poll_oneoff", "iiii", "to wait for nothing", []int64{at, at + 128, 0, at + 512}, 28, clock, check{at + 512, old})
	call("poll-many", "poll_oneoff", "iiii", "17 subscriptions", []int64{at, at + 128, 17, at + 512}, 28, clock, check{at + 512, old})
	first, last := sha256.Sum256([]byte("tmcp policy random\x00")), sha256.Sum256([]byte("tmcp policy random\x07"))
	i32 := func(b []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(b))) }
	call("random", "random_get", "ii", "the same bytes each time", []int64{at, 6}, 0, nil, check{at, i32(first[:])}, check{at + 8, old})
	call("random-most", "random_get", "ii", "256 of them", []int64{at, 256}, 0, nil, check{at, i32(first[:])}, check{at + 252, i32(last[28:])}, check{at + 256, old})
	call("random-more", "random_get", "ii", "257", []int64{at, 257}, 28, nil, check{at, old})
	call("random-outside", "random_get", "ii", "a place outside of the memory", []int64{outside, 6}, 21, nil)
	call("yield", "sched_yield", "", "there is nobody to yield to", nil, 0, nil)
	out = append(out, vector{name: "wasi-exit", req: "TMCP-20.3-8", title: "WASI: to end the program with success is to have decided nothing", twin: "wasi-yield", reason: policywasm.ReasonTrap,
		make: func() Request {
			return single(imports("wasi_snapshot_preview1", "proc_exit", "i", false, c.Const(c.I32, 0), 0x10, 0).Module())
		}})
	return out
}
