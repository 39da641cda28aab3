package policywasm_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
)

// dump writes what all modules answer: of hostile ones, good ones, and those in a
// folder, the whole result with its fuel, in both engines.
func dump(t *testing.T, w io.Writer, dir string) {
	modules := map[string][]byte{"good": corpus.Guest{}.Module(), "debug": corpus.Debug().Module(), "floats": floats().Module()}
	for _, c := range corpus.Cases() {
		if b := c.Module(); len(b) < 64<<10 {
			modules["hostile "+c.Name] = b
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if modules[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for name := range modules {
		names = append(names, name)
	}
	slices.Sort(names)
	in := input(t, `{"a":"","b":"","c":"","debug":"","e":"","f":"","g":""}`)
	for _, name := range names {
		var first string
		for _, e := range []policywasm.Engine{policywasm.Compiler, policywasm.Interpreter} {
			c := caps(e)
			c.Fuel, c.Log = 30_000_000, 500
			var line string
			p, err := policywasm.Load(t.Context(), modules[name], c)
			if err != nil {
				line = err.Error()
			} else {
				r := appraise(p, in)
				failed := ""
				if r.Failure != nil {
					failed, r.Failure = r.Failure.Error(), nil
				}
				line = fmt.Sprintf("%+v %s", *r, failed)
				p.Close(t.Context())
			}
			if first == "" {
				first = line
			} else if line != first {
				t.Errorf("%s: compiled:\n%s\ninterpreted:\n%s", name, first, line)
			}
		}
		fmt.Fprintf(w, "%s: %s\n", name, strings.ReplaceAll(first, "\n", " "))
	}
}

// floats is a guest that computes with NaNs of all kinds and puts their bits into
// the value of an obligation, of which it returns as many bytes as hash says.
func floats() corpus.Guest {
	store := func(at int64, number []byte) []byte {
		return corpus.Cat(corpus.Const(corpus.I32, at), number, 0x39, 0, 0)
	}
	odd := []byte{0x44, 0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0xf4, 0xff} // a NaN, negative and signalling
	var code []byte
	at := int64(1024)
	for op := 0x9b; op <= 0x9f; op++ {
		code = append(code, store(at, corpus.Cat(odd, op))...)
		code = append(code, store(at+8, corpus.Cat(corpus.F64Const(-2), op))...)
		at += 16
	}
	for op := 0xa0; op <= 0xa6; op++ {
		code = append(code, store(at, corpus.Cat(odd, corpus.F64Const(1), op))...)
		code = append(code, store(at+8, corpus.Cat(corpus.F64Const(0), odd, op))...)
		code = append(code, store(at+16, corpus.Cat(corpus.F64Const(0), corpus.F64Const(0), op))...)
		at += 24
	}
	code = append(code, store(at, corpus.Cat(odd, 0xb6, 0xbb))...)
	// The bits are summed, byte by byte, into the code of a reason, as letters.
	for i := range 12 {
		at := int64(512 + i)
		code = append(code, corpus.Const(corpus.I32, at)...)
		code = append(code, corpus.Const(corpus.I32, 0)...)
		for j := int64(i); j < 280; j += 12 {
			code = append(code, corpus.Cat(corpus.Const(corpus.I32, 1024+j), 0x2d, 0, 0, corpus.Const(corpus.I32, 31), 0x6c, 0x6a)...)
		}
		code = append(code, corpus.Cat(corpus.Const(corpus.I32, 26), 0x70, corpus.Const(corpus.I32, 'a'), 0x6a, 0x3a, 0, 0)...)
	}
	const before, behind = `{"decision":"deny","reasons":[{"code":"`, `"}]}`
	return corpus.Guest{
		Appraise: corpus.Code(code, corpus.Packed(512-len(before), len(before)+12+len(behind))),
		Data: [][]byte{
			corpus.Cat(0, corpus.Const(corpus.I32, int64(512-len(before))), 0x0b, corpus.Sized([]byte(before))),
			corpus.Cat(0, corpus.Const(corpus.I32, 512+12), 0x0b, corpus.Sized([]byte(behind))),
		},
	}
}

// Both engines give the same, byte for byte, of whatever module.
func TestEnginesAgree(t *testing.T) {
	dir := os.Getenv("TMCP_MODULES")
	var b bytes.Buffer
	dump(t, &b, dir)
	if b.Len() < 10_000 {
		t.Errorf("%d bytes only", b.Len())
	}
	if i := bytes.Index(b.Bytes(), []byte("floats: ")); i < 0 || !bytes.Contains(b.Bytes()[i:i+100], []byte("Decision:deny Reasons:[{Code:")) {
		t.Errorf("the guest that computes with floats: %.200s", b.Bytes()[max(i, 0):])
	}
	if dir != "" {
		if err := os.WriteFile(os.Getenv("TMCP_DUMP"), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A machine of another architecture gives the same too.
func TestArm64(t *testing.T) {
	interoptest.Need(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.wasm"), goModule(t), 0o600); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(dir, "dump")
	_, err := interop.Arm64(t.Context(), ".", []string{"TMCP_MODULES=" + dir, "TMCP_DUMP=" + there}, "-test.run=^TestEnginesAgree$")
	interoptest.Check(t, err)
	got, err := os.ReadFile(there)
	if err != nil {
		t.Fatal(err)
	}
	var here bytes.Buffer
	dump(t, &here, dir)
	t.Logf("%d modules, sha-256 of what they gave: %x", bytes.Count(got, []byte("\n")), sha256.Sum256(got))
	want := here.Bytes()
	if !bytes.Equal(got, want) {
		a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("arm64:\n%s\nhere:\n%s", a[i], b[i])
			}
		}
	}
}
