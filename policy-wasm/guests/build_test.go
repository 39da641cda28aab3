package guests_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// TestC, TestRust and TestZig build both policies as an author would, and hold
// them against the reference.
func TestC(t *testing.T)    { language(t, "c", "policy.c", 12<<10) }
func TestRust(t *testing.T) { language(t, "rust", "src/lib.rs", 16<<10) }
func TestZig(t *testing.T)  { language(t, "zig", "policy.zig", 32<<10) }

// language tests both policies in a language, whose modules have at most size
// bytes, and the probe, which takes the place of the source.
func language(t *testing.T, lang, source string, size int) {
	interoptest.Need(t)
	t.Parallel()
	for _, policy := range []string{"starter", "grace"} {
		raw := module(t, project(t, lang, policy))
		t.Logf("%s: %d bytes", policy, len(raw))
		if len(raw) > size {
			t.Errorf("%s has %d bytes, more than %d", policy, len(raw), size)
		}
		m, err := scan.Scan(raw, scan.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		if m.Floats || len(m.Imports) > 0 {
			t.Errorf("%s: computes with floats: %v; imports: %v", policy, m.Floats, m.Imports)
		}
		guesttest.Module(t, policy, raw)
	}
	dir := project(t, lang, "starter")
	probe, err := os.ReadFile(filepath.Join(lang, "testdata", "probe"+filepath.Ext(source)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, source), probe, 0o644); err != nil {
		t.Fatal(err)
	}
	guesttest.Module(t, "probe", module(t, dir))
}

// project makes a project's folder.
func project(t testing.TB, lang, policy string) string {
	t.Helper()
	files, err := guests.Files(lang)
	if policy != "starter" {
		files, err = guests.Example(lang, policy)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(dir, p), 0o755))
		}
		b, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, p), []byte(strings.ReplaceAll(string(b), guests.Placeholder, policy)), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// module builds the project in dir, and returns the module as the compiler made
// it.
func module(t testing.TB, dir string) []byte {
	t.Helper()
	p, err := build.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Build(t.Context(), build.Options{Caps: guesttest.Caps(policywasm.Auto), Say: t.Logf})
	var missing *build.ToolError
	if errors.As(err, &missing) && os.Getenv("CI") == "" {
		t.Skipf("prerequisite missing: %v", err)
	}
	var failed *build.CommandError
	if errors.As(err, &failed) {
		t.Fatalf("%v\n%s", err, failed.Output)
	}
	if err != nil {
		t.Fatal(err)
	}
	recipe, err := guests.Recipe(p.Lang)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, recipe.Output))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestCargo: the crate's own tests pass, and a project compiles on the machine
// itself, with what cargo is there.
func TestCargo(t *testing.T) {
	interoptest.Need(t)
	t.Parallel()
	if _, err := exec.LookPath("cargo"); err != nil {
		interoptest.Check(t, &interop.PrerequisiteError{Target: "rust", Tool: "cargo", Reason: "is not in PATH", Hint: "install the current stable Rust with rustup"})
	}
	for _, policy := range []string{"starter", "grace"} {
		cmd := exec.CommandContext(t.Context(), "cargo", "test", "--offline", "--workspace", "--quiet")
		cmd.Dir = project(t, "rust", policy)
		cmd.Env = append(os.Environ(), "RUSTFLAGS=-Dwarnings")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("cargo test: %v\n%s", err, out)
		}
	}
}
