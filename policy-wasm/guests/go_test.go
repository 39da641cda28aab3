package guests_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// TestTinyGo builds both policies as an author would, and the probe, and holds
// them against the reference. TMCP_TINYGO names the program, if it is not in PATH; without any it
// is built of its source, which takes a minute once.
func TestTinyGo(t *testing.T) {
	interoptest.Need(t)
	t.Setenv("PATH", filepath.Dir(tinygo(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, policy := range []string{"starter", "grace"} {
		raw := module(t, project(t, "tinygo", policy))
		t.Logf("%s: %d bytes", policy, len(raw))
		if len(raw) > 24<<10 {
			t.Errorf("%s has %d bytes, more than 24 KiB", policy, len(raw))
		}
		m, err := scan.Scan(raw, scan.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Imports) > 0 {
			t.Errorf("%s imports %v", policy, m.Imports)
		}
		guesttest.Module(t, policy, raw)
	}
	guesttest.Module(t, "probe", module(t, probe(t, "tinygo")))
}

// probe is the project of a policy that calls the SDK's functions one by one.
func probe(t *testing.T, lang string) string {
	t.Helper()
	dir := project(t, lang, "starter")
	b, err := os.ReadFile(filepath.Join("go", "testdata", "probe.go"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.go"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

const (
	tinygoModule = "github.com/tinygo-org/tinygo"
	tinygoWant   = "v0.41.1"
	tinygoLLVM   = "19"
)

// tinygo finds the program, or builds it in the cache folder. Where that can't be
// it skips the test.
func tinygo(t testing.TB) string {
	if p := os.Getenv("TMCP_TINYGO"); p != "" {
		if p, err := filepath.Abs(p); err == nil && filepath.Base(p) == "tinygo" {
			return p
		}
		t.Fatalf("TMCP_TINYGO is %q; it must be the path of a program called tinygo", p)
	}
	if p, err := exec.LookPath("tinygo"); err == nil {
		return p
	}
	for _, f := range []string{"/usr/lib/llvm-" + tinygoLLVM + "/include/llvm-c/Core.h", "/usr/lib/llvm-" + tinygoLLVM + "/include/clang-c/Index.h", "/usr/lib/llvm-" + tinygoLLVM + "/bin/clang", "/usr/lib/llvm-" + tinygoLLVM + "/bin/wasm-ld"} {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("prerequisite missing: tinygo is not in PATH and not named by TMCP_TINYGO, and there is no %s to build it with (apt-get install llvm-19-dev libclang-19-dev clang-19 lld-19 binaryen)", f)
		}
	}
	for _, p := range []string{"wasm-opt", "cc"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("prerequisite missing: tinygo is not in PATH and not named by TMCP_TINYGO, and there is no %s to build it with (apt-get install gcc binaryen)", p)
		}
	}
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tinygo-"+tinygoWant)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockedfile.MutexAt(dir + ".lock").Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	t.Setenv("TINYGOROOT", dir)
	program := filepath.Join(dir, "tinygo")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := buildTinyGo(ctx, dir); err != nil {
		t.Fatal(err)
	}
	return program
}

// buildTinyGo builds TinyGo of its module and the distribution's LLVM. The
// module lacks two libraries in C that programs may be linked with: policies
// need three functions of them, which stand here, and the rest stays empty.
func buildTinyGo(ctx context.Context, dir string) error {
	run := func(dir string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
		}
		return out, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	out, err := run(filepath.Dir(dir), "go", "mod", "download", "-json", tinygoModule+"@"+tinygoWant)
	if err != nil {
		return err
	}
	var from struct{ Dir string }
	if err := json.Unmarshal(out, &from); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(from.Dir)); err != nil {
		return err
	}
	for _, l := range []struct{ list, dir string }{{"builtins.go", "compiler-rt-builtins"}, {"wasmbuiltins.go", "wasi-libc"}} {
		src, err := os.ReadFile(filepath.Join(dir, "builder", l.list))
		if err != nil {
			return err
		}
		for _, m := range regexp.MustCompile(`"([\w/-]+)\.[cS]"`).FindAllSubmatch(src, -1) {
			name := string(m[1])
			text := "typedef int nothing;\n"
			if f := memory[filepath.Base(name)]; f != "" {
				text = f
			}
			name = filepath.Join(dir, "lib", l.dir, name+".c")
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "src", "net"), 0o755); err != nil {
		return err
	}
	_, err = run(dir, "go", "build", "-tags", "llvm"+tinygoLLVM, "-o", "tinygo", ".")
	return err
}

// no_builtin keeps the compiler from calling the function for its own loop.
var memory = map[string]string{
	"memcpy": `__attribute__((no_builtin)) void *memcpy(void *to, const void *from, __SIZE_TYPE__ n) {
	for (__SIZE_TYPE__ i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
	return to;
}
`,
	"memmove": `__attribute__((no_builtin)) void *memmove(void *to, const void *from, __SIZE_TYPE__ n) {
	if (to < from) for (__SIZE_TYPE__ i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
	else while (n--) ((char *)to)[n] = ((const char *)from)[n];
	return to;
}
`,
	"memset": `__attribute__((no_builtin)) void *memset(void *to, int c, __SIZE_TYPE__ n) {
	for (__SIZE_TYPE__ i = 0; i < n; i++) ((char *)to)[i] = c;
	return to;
}
`,
}

// TestGo builds the policy starter with Go itself, which is there, and runs its
// tests.
func TestGo(t *testing.T) {
	t.Parallel()
	raw := module(t, project(t, "go", "starter"))
	p, err := policywasm.Load(t.Context(), guesttest.WithMetadata(raw, guesttest.Metadata("starter", policywasm.CBOR)), guesttest.Caps(policywasm.Auto))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	guesttest.Decisions(t, "starter", false, p)
}

// TestGoAnswersAsOthers builds both policies with Go itself, and the probe, and
// holds them against the reference.
func TestGoAnswersAsOthers(t *testing.T) {
	interoptest.Need(t)
	t.Parallel()
	for _, policy := range []string{"starter", "grace"} {
		raw := module(t, project(t, "go", policy))
		t.Logf("%s: %d bytes", policy, len(raw))
		if len(raw) > 2<<20 {
			t.Errorf("%s has %d bytes, more than 2 MiB", policy, len(raw))
		}
		if policy == "grace" && !bytes.Equal(raw, module(t, project(t, "go", policy))) {
			t.Errorf("%s: built in another folder it is another module", policy)
		}
		guesttest.Module(t, policy, raw)
	}
	guesttest.Module(t, "probe", module(t, probe(t, "go")))
}
