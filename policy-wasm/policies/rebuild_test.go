package policies_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
)

// TestRebuild: the modules are what the pinned compiler makes of the sources.
func TestRebuild(t *testing.T) {
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	_, err = interop.AssemblyScript(t.Context(), cache)
	interoptest.Check(t, err)
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "run", "./gen", "-o", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range policies.Names() {
		got, err := os.ReadFile(filepath.Join(dir, name+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := policies.Module(name); !bytes.Equal(got, want) {
			t.Errorf("%s.wasm is not what its sources come to; run go generate ./policy-wasm/policies", name)
		}
	}
}
