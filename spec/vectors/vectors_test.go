package vectors

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Every requirement that a vector names stands in the specification.
func TestRequirementsExist(t *testing.T) {
	var text strings.Builder
	chapters, err := filepath.Glob("../*.md")
	if err != nil || len(chapters) == 0 {
		t.Fatalf("no chapters: %v", err)
	}
	for _, c := range chapters {
		b, err := os.ReadFile(c)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	for _, v := range All() {
		for _, id := range v.Requirements {
			if !strings.Contains(text.String(), "["+id+" ") {
				t.Errorf("%s names %s, which is not in the specification", v.ID, id)
			}
		}
	}
}

// What is committed is what the generator writes: nothing was edited by hand,
// nothing is left over.
func TestGenerated(t *testing.T) {
	if len(All()) < 200 {
		t.Fatalf("%d vectors, want at least 200", len(All()))
	}
	dir := t.TempDir()
	frozen, err := os.ReadFile("setup/frozen.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "setup"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "setup", "frozen.json"), frozen, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "run", "./gen", "-dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("go run ./gen: %v\n%s", err, out)
	}
	made := map[string][]byte{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		made[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	committed, err := fs.Glob(files, "*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range committed {
		b, _ := files.ReadFile(path)
		if got, ok := made[path]; !ok {
			t.Errorf("%s is not among what the generator writes; delete it", path)
		} else if !bytes.Equal(got, b) {
			t.Errorf("%s differs from what the generator writes; run go run ./gen -force, and read the difference", path)
		}
		delete(made, path)
	}
	for path := range made {
		t.Errorf("%s is missing; run go generate ./spec/vectors", path)
	}
}

// The vectors can be recomputed without Go. Needs the network for two packages
// of PyPI, so only with TMCP_INTEROP=1.
func TestPython(t *testing.T) {
	if os.Getenv("TMCP_INTEROP") != "1" {
		t.Skip("set TMCP_INTEROP=1 to recompute the vectors in Python")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	venv := filepath.Join(cache, "tmcp", "vectors-venv-1") // count up when the versions below change
	python := filepath.Join(venv, "bin", "python")
	if runtime.GOOS == "windows" {
		python = filepath.Join(venv, "Scripts", "python.exe")
	}
	run := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if exec.CommandContext(ctx, python, "-c", "import cbor2, cryptography").Run() != nil {
		run("python3", "-m", "venv", "--clear", venv)
		run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "cryptography==50.0.2", "cbor2==6.2.1")
	}
	out := run(python, "check.py")
	t.Log(out)
	if !strings.Contains(out, "failed 0") {
		t.Error("check.py did not say that nothing failed")
	}
}
