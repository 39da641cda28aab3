// Package build makes policies of projects: it reads a project ([Open]), runs
// the toolchain of its language, and turns what comes out into a module that a
// host takes ([Project.Build]). [New] starts a project, [Load] and [Inspect] take
// any module.
package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
)

// Files of a project.
const (
	ManifestFile = "policy.json"
	ModuleFile   = "policy.wasm"
	TestFolder   = "tests"
)

// A Manifest is what policy.json says: the module's metadata, and how it is
// built. Members that are not known are errors.
type Manifest struct {
	Name        string              `json:"name"`
	Version     string              `json:"version"`
	Author      string              `json:"author"`
	Licence     string              `json:"licence"` // SPDX expression
	Lang        string              `json:"lang"`    // one of guests.Languages
	Entries     []policywasm.Entry  `json:"entries"`
	Encoding    policywasm.Encoding `json:"encoding"`
	Inputs      []string            `json:"inputs"` // JSON pointers
	Fuel        uint64              `json:"fuel"`
	Pages       uint64              `json:"pages"` // of 64 KiB
	Development bool                `json:"development"`
	Build       []string            `json:"build"`  // a command in place of the language's
	Output      string              `json:"output"` // path of the module that it makes
}

// top are the members of a document that inputs begin with.
var top = []string{"abi", "question", "time", "settings", "peer", "devices", "call"}

// ParseManifest reads policy.json.
func ParseManifest(b []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(b, m, json.RejectUnknownMembers(true)); err != nil {
		var semantic *json.SemanticError
		switch {
		case errors.As(err, &semantic) && semantic.Err != nil:
			return nil, fmt.Errorf("%s at %s: %w", ManifestFile, semantic.JSONPointer, semantic.Err)
		case errors.As(err, &semantic):
			return nil, fmt.Errorf("%s at %s: a JSON %s can't stand here", ManifestFile, semantic.JSONPointer, semantic.JSONKind)
		}
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	switch {
	case len(m.Build) == 0 && !slices.Contains(guests.Languages(), m.Lang):
		return fmt.Errorf(`/lang: %.40q is not known; there are %s; or say how it is built, with "build" and "output"`, m.Lang, strings.Join(guests.Languages(), ", "))
	case (len(m.Build) == 0) != (m.Output == ""):
		return errors.New(`/build: "build", a command with its arguments, and "output", the file that it makes, go together`)
	case len(m.Build) > 0 && m.Build[0] == "":
		return errors.New("/build/0: no program")
	case m.Output != "" && !filepath.IsLocal(m.Output):
		return fmt.Errorf("/output: %.80q is outside of the project", m.Output)
	case m.Lang == "rego" && m.Encoding != policywasm.JSON:
		return errors.New(`/encoding: Rego takes "json"`)
	}
	for i, s := range m.Inputs {
		p := jsontext.Pointer(s)
		first, _, _ := strings.Cut(strings.TrimPrefix(s, "/"), "/")
		if !p.IsValid() || !slices.Contains(top, first) {
			return fmt.Errorf("/inputs/%d: %.80q is no JSON pointer into a document, whose members are %s", i, s, strings.Join(top, ", "))
		}
	}
	meta := m.Metadata()
	if _, err := policywasm.ParseMetadata(meta.Append(nil)); err != nil {
		return err
	}
	return nil
}

// Metadata is what the module will say of itself.
func (m *Manifest) Metadata() *policywasm.Metadata {
	return &policywasm.Metadata{
		ABI: policywasm.ABI, Name: m.Name, Version: m.Version, Author: m.Author, Licence: m.Licence,
		Entries: m.Entries, Encoding: m.Encoding, Inputs: m.Inputs, Fuel: m.Fuel, Pages: m.Pages, Development: m.Development,
	}
}

// A Project is a folder with a policy.json.
type Project struct {
	Dir string
	Manifest
}

// ErrNoProject means that a folder has no policy.json.
var ErrNoProject = errors.New("no " + ManifestFile + " here: this is no project of a policy; make one with: tmcp policy new --lang LANG DIR")

// Open reads the project in dir.
func Open(dir string) (*Project, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoProject
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, err
	}
	return &Project{Dir: dir, Manifest: *m}, nil
}

// New writes the files of a new project into dir, which must be empty or not be
// there. name takes the place of [guests.Placeholder].
func New(dir, lang, name string) (files []string, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	src, err := guests.Files(lang)
	if err != nil {
		return nil, err
	}
	switch entries, err := os.ReadDir(dir); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case len(entries) > 0:
		return nil, fmt.Errorf("%s is not empty: give a folder that is new", dir)
	}
	err = fs.WalkDir(src, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		files = append(files, path)
		text := string(b)
		if !strings.HasPrefix(path, "sdk/") {
			text = placeholder.ReplaceAllString(text, name)
		}
		return os.WriteFile(to, []byte(text), 0o644)
	})
	return files, err
}

var placeholder = regexp.MustCompile(`\b` + guests.Placeholder + `\b`)

// checkName keeps names to what all languages take in their own files.
func checkName(name string) error {
	bad := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, bad) || name[0] < 'a' || name[0] > 'z' {
		return fmt.Errorf("the name %.80q: want 1 to 64 characters of a to z, 0 to 9 and hyphen, a letter first; give one with --name", name)
	}
	return nil
}

// Fresh reports whether the project's module is there, and younger than all that
// it is made of.
func (p *Project) Fresh() bool {
	info, err := os.Stat(filepath.Join(p.Dir, ModuleFile))
	if err != nil {
		return false
	}
	newest, err := p.newest()
	return err == nil && newest.Before(info.ModTime())
}

// newest is when a source was changed last.
func (p *Project) newest() (newest time.Time, err error) {
	err = filepath.WalkDir(p.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != p.Dir && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "target" || name == TestFolder || name == "zig-out") {
				return filepath.SkipDir
			}
			return nil
		}
		if made(name) || name == p.Output {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return err
	})
	return newest, err
}

// made reports whether a file is one that building makes.
func made(name string) bool {
	switch filepath.Ext(name) {
	case ".wasm", ".rlib", ".gz", ".md", ".cose":
		return true
	}
	return strings.HasPrefix(name, ".")
}
