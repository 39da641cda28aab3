package scan_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// A second validator, which shares no code with the engine, takes every module
// that we take, as it came and instrumented: those of WebAssembly's test suite,
// the corpus, and good ones with bytes changed.
func TestSecondValidator(t *testing.T) {
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var files, names []string
	seen := 0
	// scanned are those that the scanner alone took; refused those of them that the
	// engine's validator, which is asked next, did not.
	refused := map[string]bool{}
	put := func(name string, b []byte) {
		seen++
		m, err := scan.Scan(b, scan.Defaults())
		if err != nil {
			return
		}
		valid := compiles(t, m.Stripped()) == nil
		for what, b := range map[string][]byte{"": b, ", instrumented": m.Instrument()} {
			file := filepath.Join(dir, fmt.Sprint(len(files), ".wasm"))
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			files, names = append(files, file), append(names, name+what)
			refused[file] = !valid
		}
	}
	suiteDir, err := suite()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(suiteDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".wasm" {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil {
			put(filepath.Base(path), b)
			put(filepath.Base(path)+" with a memory", withMemory(b))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range corpus.Cases() {
		put(c.Name, c.Module())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for name, good := range map[string][]byte{"guest": corpus.Guest{}.Module(), "debug": corpus.Debug().Module()} {
		put(name, good)
		for i := range 6000 {
			b := bytes.Clone(good)
			for range 1 + rng.IntN(3) {
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			}
			put(fmt.Sprint(name, " changed ", i), b)
		}
	}
	verdicts, err := interop.Wabt(t.Context(), cache, files)
	interoptest.Check(t, err)
	taken, both := 0, 0
	for i, v := range verdicts {
		switch {
		case refused[files[i]] && v != "ok":
			both++
		case refused[files[i]]: // stricter than it
		case v == "ok":
			taken++
		default:
			t.Errorf("%s: we take it; the other validator says: %s", names[i], strings.TrimSpace(v))
		}
	}
	if taken < 1000 || both < 100 {
		t.Errorf("%d modules are taken by both validators, %d by neither, though the scanner took them", taken, both)
	}
	t.Logf("of %d modules %d, with and without instruments, are taken by both validators, %d by neither; %d are refused by ours only", seen, taken, both, len(files)-taken-both)
}
