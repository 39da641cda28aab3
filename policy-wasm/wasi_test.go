package policywasm_test

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

// wasi is a guest that imports one function of WASI, as function 0.
func wasi(name, params string, returns bool, appraise ...any) corpus.Guest {
	var in, out []byte
	for _, c := range params {
		in = append(in, map[rune]byte{'i': corpus.I32, 'I': corpus.I64}[c])
	}
	if returns {
		out = []byte{corpus.I32}
	}
	return corpus.Guest{
		Types:    [][]byte{corpus.Type(in, out)},
		Imports:  [][]byte{corpus.Cat(corpus.Sized([]byte("wasi_snapshot_preview1")), corpus.Sized([]byte(name)), 0, 4)},
		Appraise: corpus.Code(append(appraise, corpus.Packed(16, len(corpus.AllowAnswer)))...),
	}
}

// must traps unless the i32 (or i64) on the stack is n.
func must(typ byte, n int64) []byte {
	return corpus.Cat(corpus.Const(typ, n), map[byte]int{corpus.I32: 0x47, corpus.I64: 0x52}[typ], 0x04, corpus.Void, 0x00, 0x0b)
}

// holds traps unless 8 bytes of the memory are n.
func holds(at, n int64) []byte {
	return corpus.Cat(corpus.Const(corpus.I32, at), 0x29, 0, 0, must(corpus.I64, n))
}

func store(at int64, n int64) []byte {
	return corpus.Cat(corpus.Const(corpus.I32, at), corpus.Const(corpus.I64, n), 0x37, 0, 0)
}

// What WASI's functions say, and that they say the same with a log and without.
func TestWASI(t *testing.T) {
	const in, out, count, wrong = 4096, 5120, 6144, -4 // places in the memory
	const ok, badFD, fault, invalid = 0, 8, 21, 28
	random := binary.LittleEndian.Uint64([]byte("\xf1\x4a\xc8\x21\x7f\x14\xbf\x9a"))
	text := func(n int) []byte { // a list of n buffers of three bytes
		b := []byte{}
		for i := range n {
			b = append(b, store(int64(in+8*i), 3<<32|16)...)
		}
		return b
	}
	for _, tt := range []struct {
		name, types string
		before      []byte
		args        []int64
		want        int64
		after       []byte
		log         string
	}{
		{"args_get", "ii", nil, []int64{in, out}, ok, nil, ""},
		{"args_sizes_get", "ii", store(out, -1), []int64{out, out + 4}, ok, holds(out, 0), ""},
		{"args_sizes_get", "ii", nil, []int64{out, wrong + 1}, fault, nil, ""},
		{"environ_get", "ii", nil, []int64{in, out}, ok, nil, ""},
		{"environ_sizes_get", "ii", store(out, -1), []int64{out, out + 4}, ok, holds(out, 0), ""},
		{"clock_time_get", "iIi", store(out, -1), []int64{0, 1, out}, ok, holds(out, 0), ""},
		{"clock_time_get", "iIi", nil, []int64{1, 1, out}, ok, holds(out, 1), ""},
		{"clock_time_get", "iIi", nil, []int64{2, 1, out}, invalid, nil, ""},
		{"clock_time_get", "iIi", nil, []int64{0, 1, wrong}, fault, nil, ""},
		{"clock_res_get", "ii", nil, []int64{0, out}, ok, holds(out, 1), ""},
		{"clock_res_get", "ii", nil, []int64{3, out}, invalid, nil, ""},
		{"random_get", "ii", nil, []int64{out, 256}, ok, holds(out, int64(random)), ""},
		{"random_get", "ii", nil, []int64{out, 8}, ok, holds(out, int64(random)), ""},
		{"random_get", "ii", nil, []int64{out, 257}, invalid, nil, ""},
		{"random_get", "ii", nil, []int64{wrong, 8}, fault, nil, ""},
		{"fd_write", "iiii", text(2), []int64{1, in, 2, count}, ok, holds(count, 6), `{"d{"d`},
		{"fd_write", "iiii", text(1), []int64{2, in, 1, count}, ok, holds(count, 3), `{"d`},
		{"fd_write", "iiii", text(20), []int64{2, in, 20, count}, ok, holds(count, 48), strings.Repeat(`{"d`, 7)[:20]},
		{"fd_write", "iiii", text(20), []int64{2, in, -1, count}, ok, holds(count, 48), strings.Repeat(`{"d`, 7)[:20]},
		{"fd_write", "iiii", text(1), []int64{0, in, 1, count}, badFD, nil, ""},
		{"fd_write", "iiii", text(1), []int64{3, in, 1, count}, badFD, nil, ""},
		{"fd_write", "iiii", nil, []int64{1, wrong, 1, count}, fault, nil, ""},
		{"fd_write", "iiii", store(in, 1<<32|0xffff_ffff), []int64{1, in, 1, count}, fault, nil, ""},
		{"fd_write", "iiii", store(in, -1<<32|16), []int64{1, in, 1, count}, fault, nil, ""},
		{"fd_write", "iiii", nil, []int64{1, in, 0, wrong}, fault, nil, ""},
		{"fd_read", "iiii", nil, []int64{0, in, 1, count}, badFD, nil, ""},
		{"fd_close", "i", nil, []int64{1}, badFD, nil, ""},
		{"fd_seek", "iIii", nil, []int64{1, 0, 0, out}, badFD, nil, ""},
		{"fd_fdstat_get", "ii", nil, []int64{1, out}, badFD, nil, ""},
		{"fd_fdstat_set_flags", "ii", nil, []int64{1, 0}, badFD, nil, ""},
		{"fd_prestat_get", "ii", nil, []int64{3, out}, badFD, nil, ""},
		{"fd_prestat_dir_name", "iii", nil, []int64{3, out, 8}, badFD, nil, ""},
		{"sched_yield", "", nil, nil, ok, nil, ""},
		// A clock that would ring in 100 years rings; a file is not known.
		{"poll_oneoff", "iiii", store(in, 77), []int64{in, out, 1, count}, ok, corpus.Cat(holds(out, 77), holds(out+8, 0), holds(count, 1)), ""},
		{"poll_oneoff", "iiii", store(in+8, 1), []int64{in, out, 1, count}, ok, holds(out+8, badFD|1<<16), ""},
		{"poll_oneoff", "iiii", nil, []int64{in, out, 0, count}, invalid, nil, ""},
		{"poll_oneoff", "iiii", nil, []int64{in, out, 17, count}, invalid, nil, ""},
		{"poll_oneoff", "iiii", nil, []int64{wrong, out, 1, count}, fault, nil, ""},
		{"poll_oneoff", "iiii", nil, []int64{in, wrong, 1, count}, fault, nil, ""},
		{"poll_oneoff", "iiii", nil, []int64{in, out, 1, wrong + 1}, fault, nil, ""},
	} {
		code := tt.before
		for i, a := range tt.args {
			code = append(code, corpus.Const(map[byte]byte{'i': corpus.I32, 'I': corpus.I64}[tt.types[i]], a)...)
		}
		code = corpus.Cat(code, 0x10, 0, must(corpus.I32, tt.want), tt.after)
		module := wasi(tt.name, tt.types, true, code).Module()
		var fuel uint64
		for name, e := range engines {
			for _, log := range []int{0, 20} {
				c := caps(e)
				c.Log = log
				r := appraise(load(t, module, c), input(t, `{}`))
				if r.Decision != policywasm.Allow || log > 0 && string(r.Log) != tt.log || fuel > 0 && fuel != r.Fuel {
					t.Errorf("%s: %s%v: %v; log %q, %d units of fuel, not %d", name, tt.name, tt.args, r.Failure, r.Log, r.Fuel, fuel)
				}
				fuel = r.Fuel
			}
		}
	}
}

// A guest that ends itself has not decided, with whatever code.
func TestExit(t *testing.T) {
	for name, e := range engines {
		for code, want := range map[int64]string{0: "with code 0", -1: "with code 4294967295"} {
			p := load(t, wasi("proc_exit", "i", false, corpus.Const(corpus.I32, code), 0x10, 0).Module(), caps(e))
			r := appraise(p, input(t, `{}`))
			if r.Failure == nil || r.Failure.Reason != policywasm.ReasonTrap || !strings.Contains(r.Failure.Detail, want) {
				t.Errorf("%s: code %d: %v", name, code, r.Failure)
			}
		}
	}
}

// goPolicy is a policy in Go: it decides from a map, so that hash seeds matter,
// and from the clock and randomness, so that these do.
const goPolicy = `package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"time"
	"unsafe"
)

var in, out []byte

//go:wasmexport tmcp_abi_version
func version() int32 { return 1 }

//go:wasmexport tmcp_allocate
func allocate(n int32) int32 {
	in = make([]byte, n)
	return int32(uintptr(unsafe.Pointer(&in[0])))
}

//go:wasmexport tmcp_appraise
func appraise(_, n int32) int64 {
	var doc map[string]string
	if err := json.Unmarshal(in[:n], &doc); err != nil {
		os.Exit(0)
	}
	first := ""
	for first = range doc {
		break
	}
	var seed [8]byte
	rand.Read(seed[:])
	if doc["sleep"] != "" {
		<-time.After(time.Hour)
	}
	names := []string{first, fmt.Sprintf("%x", seed), time.Now().UTC().Format(time.RFC3339), fmt.Sprint(len(os.Args), len(os.Environ()))}
	text, _ := json.Marshal(fmt.Sprint(names))
	out = []byte(` + "`" + `{"decision":"deny","reasons":[{"code":"go","text":` + "` + string(text) + `" + `}]}` + "`" + `)
	return int64(uintptr(unsafe.Pointer(&out[0])))<<32 | int64(len(out))
}

func main() {}
`

// goModule is that policy, as the standard Go toolchain makes it.
func goModule(t *testing.T) []byte {
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": goPolicy, "go.mod": "module guest\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", "guest.wasm", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	b, err := os.ReadFile(filepath.Join(dir, "guest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m := corpus.Meta()
	m.Entries = m.Entries[:1]
	return append(b, corpus.Custom("tmcp.policy", m.Append(nil))...)
}

// A policy by the standard Go toolchain runs, and says the same each time.
func TestGoGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a policy with the Go toolchain")
	}
	module := goModule(t)
	in := input(t, `{"a":"","b":"","c":"","d":"","e":"","f":"","g":""}`)
	seen := map[string]bool{}
	for name, e := range engines {
		p := load(t, module, caps(e))
		for range 2 {
			r := p.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: in})
			if r.Failure != nil || len(r.Reasons) != 1 {
				t.Fatalf("%s: %v", name, r.Failure)
			}
			seen[r.Reasons[0].Text+string(binary.LittleEndian.AppendUint64(nil, r.Fuel))] = true
			if !strings.Contains(r.Reasons[0].Text, "1970-01-01T00:00:00Z") {
				t.Errorf("%s: %s", name, r.Reasons[0].Text)
			}
		}
		// Clocks stand still: who sleeps uses up its fuel, and no time.
		c := policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `{"sleep":"1"}`), Fuel: 40_000_000}
		if r := p.Evaluate(context.Background(), c); r.Failure == nil || r.Failure.Reason != policywasm.ReasonDeadline {
			t.Errorf("%s: asleep: %v", name, r.Failure)
		}
		if r := p.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `[]`)}); r.Failure == nil || r.Failure.Reason != policywasm.ReasonTrap || !strings.Contains(r.Failure.Detail, "with code 0") {
			t.Errorf("%s: ended by exit 0: %v", name, r.Failure)
		}
	}
	if len(seen) != 1 {
		t.Errorf("%d different results", len(seen))
	}
}
