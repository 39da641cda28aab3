package wapc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/wapc"
)

// tinygo finds the compiler: TMCP_TINYGO, in PATH, or where the tests of package
// guests have put the one that they build.
func tinygo(t *testing.T) string {
	t.Helper()
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	built, _ := filepath.Glob(filepath.Join(cache, "tinygo-*", "tinygo"))
	for _, p := range append([]string{os.Getenv("TMCP_TINYGO"), "tinygo"}, built...) {
		if path, err := exec.LookPath(p); err == nil {
			if len(built) > 0 && path == built[0] {
				t.Setenv("TINYGOROOT", filepath.Dir(path))
			}
			return path
		}
	}
	t.Skip("prerequisite missing: tinygo is not in PATH and not named by TMCP_TINYGO; run TestTinyGo of policy-wasm/guests, which builds it")
	return ""
}

// TestGuestOfWaPC runs a module that is made with waPC's own SDK for TinyGo.
func TestGuestOfWaPC(t *testing.T) {
	compiler := tinygo(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "guest"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), compiler, "build", "-target", "wasm-unknown", "-no-debug", "-opt=z", "-o", "policy.wasm", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tinygo: %v\n%s", err, out)
	}
	module, err := os.ReadFile(filepath.Join(dir, "policy.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if !wapc.Is(module) {
		t.Error("it is not taken for a module of waPC")
	}
	for engine, e := range engines {
		p, err := wapc.Load(t.Context(), module, caps(e), meta(policywasm.Authorize))
		if err != nil {
			t.Fatal(err)
		}
		if r := ask(t, p, "get_weather"); r.Decision != policywasm.Allow {
			t.Errorf("%s: %+v %v", engine, r, r.Failure)
		}
		if r := ask(t, p, "send_mail"); r.Failure != nil || r.Decision != policywasm.Deny || r.Reasons[0].Text != "only get_weather" {
			t.Errorf("%s: %+v %v", engine, r, r.Failure)
		}
		for name, want := range map[string]string{"fail": "it failed", "ask_host": "there are no host calls here"} {
			if r := ask(t, p, name); r.Failure == nil || r.Failure.Reason != policywasm.ReasonTrap || !strings.Contains(r.Failure.Detail, want) {
				t.Errorf("%s: %s: %+v %v", engine, name, r, r.Failure)
			}
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
