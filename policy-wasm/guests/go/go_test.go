// Package go_test builds the policies in Go with the toolchains that are there,
// and holds the modules against the reference.
package go_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
)

var policies = []string{"starter", "grace"}

// build makes a project as an author would, and runs its recipe. program is the
// compiler.
func build(t *testing.T, lang, policy, program string) []byte {
	t.Helper()
	var files fs.FS
	var err error
	if policy == "starter" {
		files, err = guests.Files(lang)
	} else {
		files, err = guests.Example(lang, policy)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	recipe, err := guests.Recipe(lang)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range recipe.Steps {
		args := step.Args
		cmd := exec.CommandContext(t.Context(), program, args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), step.Env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, recipe.Output))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestGo(t *testing.T) {
	for _, policy := range policies {
		start := time.Now()
		raw := build(t, "go", policy, "go")
		t.Log("build", time.Since(start))
		start = time.Now()
		guesttest.Module(t, policy, raw)
		t.Log("module", time.Since(start))
	}
}

func TestTinyGo(t *testing.T) {
	for _, policy := range policies {
		raw := build(t, "tinygo", policy, os.Getenv("TMCP_TINYGO"))
		start := time.Now()
		guesttest.Module(t, policy, raw)
		t.Log("module", time.Since(start))
	}
}
