// Package assemblyscript has the tests of the SDK for AssemblyScript. They need
// its compiler, from npm.
package assemblyscript

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
)

func TestPolicies(t *testing.T) {
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	asc, err := interop.AssemblyScript(t.Context(), cache)
	interoptest.Check(t, err)
	recipe, err := guests.Recipe("assemblyscript")
	if err != nil {
		t.Fatal(err)
	}
	for name, project := range map[string]func() (fs.FS, error){
		"starter": func() (fs.FS, error) { return guests.Files("assemblyscript") },
		"grace":   func() (fs.FS, error) { return guests.Example("assemblyscript", "grace") },
		"probe":   func() (fs.FS, error) { return guests.Files("assemblyscript") },
	} {
		t.Run(name, func(t *testing.T) {
			files, err := project()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.CopyFS(dir, files); err != nil {
				t.Fatal(err)
			}
			if name == "probe" {
				source, err := os.ReadFile(filepath.Join("testdata", "probe.ts"))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, "policy.ts"), source, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			args := append(asc[1:len(asc):len(asc)], recipe.Steps[0].Args[1:]...)
			cmd := exec.CommandContext(t.Context(), asc[0], args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("asc: %v\n%s", err, out)
			}
			raw, err := os.ReadFile(filepath.Join(dir, recipe.Output))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", len(raw))
			guesttest.Module(t, name, raw)
		})
	}
}

// TestPins: one version of the compiler, and no address of a registry in the
// lock files that authors get.
func TestPins(t *testing.T) {
	recipe, err := guests.Recipe("assemblyscript")
	if err != nil {
		t.Fatal(err)
	}
	name, version, _ := strings.Cut(recipe.Tools[0].NPM, "@")
	pin := fmt.Sprintf("%q: %q", name, version)
	lock := fmt.Sprintf("\"node_modules/%s\": {\n      \"version\": %q", name, version)
	root := filepath.Join("..", "..", "..")
	for _, dir := range []string{"template", "examples/grace", filepath.Join(root, "interop", "fixtures", "assemblyscript")} {
		for file, want := range map[string]string{"package.json": pin, "package-lock.json": lock} {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(b, []byte(want)) || bytes.Contains(b, []byte(`"resolved"`)) {
				t.Errorf("%s/%s does not pin %s %s, or says where it comes from", dir, file, name, version)
			}
		}
	}
}
