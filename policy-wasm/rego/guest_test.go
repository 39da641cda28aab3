package rego_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

func caps(e policywasm.Engine) policywasm.Caps {
	c := policywasm.Defaults()
	c.Engine, c.Concurrent, c.Fuel, c.Obligations = e, 2, 10_000_000, []string{"valid-for"}
	return c
}

var engines = map[string]policywasm.Engine{"compiler": policywasm.Auto, "interpreter": policywasm.Interpreter}

func meta(entries ...policywasm.Entry) *policywasm.Metadata {
	m := Meta()
	m.Entries = entries
	return m
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t testing.TB, b []byte, c policywasm.Caps, m *policywasm.Metadata) *policywasm.Policy {
	t.Helper()
	p, err := rego.Load(t.Context(), b, c, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func input(t testing.TB, doc string) *policywasm.Input {
	t.Helper()
	in, err := policywasm.NewInput([]byte(doc), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// tarball is a bundle of these names and contents, in turns.
func tarball(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Places in the memory of an opaGuest.
const (
	entrypointsAt = 64
	builtinsAt    = 256
	roomAt        = 4096
	valueAt       = 8192
	answerAt      = 32768
)

// Functions that an opaGuest imports, in their order.
const (
	funcAbort = iota
	funcBuiltin0
	funcBuiltin1
	funcBuiltin2
	imported
)

// An opaGuest is a small module with the exports that OPA's have. Its zero value
// allows each call.
type opaGuest struct {
	entrypoints string // default: both
	builtins    string // default: none
	answer      string // default: one that allows
	value       string // what each value is when it is dumped
	major       int64  // default: 1
	minor       int64  // default: 3
	memory      []byte // limits of the import; default: at least 1 page
	imports     [][]byte
	exports     [][]byte
	functions   map[string][]byte // bodies in place of the good ones
	without     string            // name of an export
	retype      string            // name of an export that gets a type of its own
	own         []byte            // limits of a memory of its own
	start       []byte            // body of a start function
	custom      []byte
}

var opaExports = []struct {
	name   string
	params int
}{
	{"opa_eval", 7}, {"opa_malloc", 1}, {"opa_heap_ptr_get", 0}, {"opa_json_parse", 2}, {"opa_json_dump", 1},
	{"opa_value_parse", 2}, {"opa_value_dump", 1}, {"builtins", 0}, {"entrypoints", 0}, {"opa_heap_ptr_set", 1},
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func (g opaGuest) module() []byte {
	many := func(n int) []byte { return bytes.Repeat([]byte{I32}, n) }
	var types [][]byte
	for n := range 8 { // type n: n parameters, and a result
		types = append(types, Type(many(n), many(1)))
	}
	types = append(types, Type(many(1), nil), Type(nil, nil)) // 8 and 9
	imp := func(name string, typ byte) []byte {
		return Cat(Sized([]byte("env")), Sized([]byte(name)), 0, typ)
	}
	memory := g.memory
	if memory == nil {
		memory = []byte{0, 1}
	}
	imports := append([][]byte{
		Cat(Sized([]byte("env")), Sized([]byte("memory")), 2, memory),
		imp("opa_abort", 8), imp("opa_builtin0", 2), imp("opa_builtin1", 3), imp("opa_builtin2", 4),
	}, g.imports...)
	good := map[string][]byte{
		"opa_eval": Code(Const(I32, answerAt)), "opa_malloc": Code(Const(I32, roomAt)), "opa_heap_ptr_get": Code(Const(I32, roomAt)),
		"opa_json_parse": Code(Const(I32, valueAt)), "opa_value_parse": Code(Const(I32, valueAt)),
		"opa_json_dump": Code(0x20, 0), "opa_value_dump": Code(Const(I32, valueAt)),
		"opa_heap_ptr_set": Code(), "builtins": Code(Const(I32, builtinsAt)), "entrypoints": Code(Const(I32, entrypointsAt)),
	}
	var funcs, bodies, exports [][]byte
	for i, e := range opaExports {
		typ, body := byte(e.params), good[e.name]
		if b := g.functions[e.name]; b != nil {
			body = b
		}
		if e.name == "opa_heap_ptr_set" {
			typ = 8
		}
		if e.name == g.retype {
			typ, body = 9, Code()
		}
		funcs, bodies = append(funcs, []byte{typ}), append(bodies, Sized(body))
		if e.name != g.without {
			exports = append(exports, Export(e.name, 0, imported+i+len(g.imports)))
		}
	}
	start := imported + len(opaExports)
	if g.start != nil {
		funcs, bodies = append(funcs, []byte{9}), append(bodies, Sized(g.start))
	}
	or := func(n, def int64) int64 {
		if n == 0 {
			return def
		}
		return n
	}
	globals := [][]byte{Cat(I32, 0, Const(I32, or(g.major, 1)), 0x0b), Cat(I32, 0, Const(I32, or(g.minor, 3)), 0x0b)}
	exports = append(exports, Export("opa_wasm_abi_version", 3, 0), Export("opa_wasm_abi_minor_version", 3, 1))
	out := Raw(g.custom, Section(1, Vec(types...)), Section(2, Vec(imports...)), Section(3, Vec(funcs...)))
	if g.own != nil {
		out = append(out, Section(5, Vec(g.own))...)
	}
	out = append(out, Section(6, Vec(globals...))...)
	out = append(out, Section(7, Vec(append(exports, g.exports...)...))...)
	if g.start != nil {
		out = append(out, Section(8, U(uint64(start)))...)
	}
	out = append(out, Section(10, Vec(bodies...))...)
	var data [][]byte
	for _, d := range []struct {
		at   int64
		text string
	}{
		{entrypointsAt, orText(g.entrypoints, `{"tmcp/appraise":0,"tmcp/authorize":1}`)},
		{builtinsAt, orText(g.builtins, `{}`)},
		{answerAt, orText(g.answer, `[{"result":`+AllowAnswer+`}]`)},
		{valueAt, orText(g.value, `"a"`)},
	} {
		data = append(data, Cat(0, Const(I32, d.at), 0x0b, Sized(append([]byte(d.text), 0))))
	}
	return append(out, Section(11, Vec(data...))...)
}
