// Package house keeps the project's own rules as tests, each with its reason:
// which way dependencies point, what the specification's ledger must agree
// with, what must not stand in the tree. Run them with go test; a failure says
// what to do.
//
// [Build] makes the specification's ledger from the chapters, the conformance
// suite, the vectors and the comments in the code. The command in ledger/
// writes what it makes (go generate ./spec), and a test here compares.
//
// Nothing outside of tests and generators may import this package.
package house

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/trustedmcp/tmcp"

// Root finds the module's root folder, upwards from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module "+Module+"\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("house: no go.mod of " + Module + " above the working directory; run inside the module")
		}
		dir = parent
	}
}

// skipped are folders that are not the project's own text.
var skipped = map[string]bool{".git": true, "node_modules": true, "target": true, "__pycache__": true, ".venv": true, "bin": true, "dist": true, "out": true}

// maxFile bounds what is read of one file, in bytes.
const maxFile = 8 << 20

// Walk calls fn with each file of the tree, by its slash-separated path from
// the root and its bytes. Folders of build output and packages are skipped, as
// are files beyond 8 MiB and those that are not text.
func Walk(root string, fn func(path string, text []byte) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // gone since it was listed
				return nil
			}
			return err
		}
		if d.IsDir() {
			if skipped[d.Name()] && p != root && !holdsGo(p) {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return fmt.Errorf("house: %w", err)
		}
		if isBinary(b) {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return fn(filepath.ToSlash(rel), b)
	})
}

// holdsGo reports whether a folder is a Go package, whatever its name.
func holdsGo(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	return err == nil && len(files) > 0
}

func isBinary(b []byte) bool {
	for _, c := range b[:min(len(b), 8000)] {
		if c == 0 {
			return true
		}
	}
	return false
}
