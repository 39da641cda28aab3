package guests

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFiles: each language has a project with all that it needs.
func TestFiles(t *testing.T) {
	for _, lang := range Languages() {
		if _, err := Recipe(lang); err != nil {
			t.Error(err)
		}
		for name, get := range map[string]func() (fs.FS, error){
			"starter": func() (fs.FS, error) { return Files(lang) },
			"grace":   func() (fs.FS, error) { return Example(lang, "grace") },
		} {
			fsys, err := get()
			if err != nil {
				t.Error(err)
				continue
			}
			var names []string
			err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					names = append(names, p)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			for _, want := range []string{"policy.json", "tests/" + name + ".json", "README.md"} {
				if name == "grace" && want == "README.md" {
					continue
				}
				if !slices.Contains(names, want) {
					t.Errorf("%s, %s: no %s among %s", lang, name, want, strings.Join(names, " "))
				}
			}
			if i := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, ".txt") }); i >= 0 {
				t.Errorf("%s, %s: %s", lang, name, names[i])
			}
		}
	}
	if _, err := Files("cobol"); err == nil || !strings.Contains(err.Error(), "there are ") {
		t.Errorf("files of an unknown language: %v", err)
	}
	if _, err := Example("c", "none"); err == nil {
		t.Error("an example that is not there")
	}
}

// TestGoStandsAlone: a project in Go needs nothing of this module, and none of
// the tests of its SDK.
func TestGoStandsAlone(t *testing.T) {
	for _, lang := range []string{"go", "tinygo"} {
		fsys, err := Files(lang)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"go.mod", "policy.go", "policy_test.go", "sdk/policy.go"} {
			if _, err := fs.Stat(fsys, name); err != nil {
				t.Errorf("%s: %v", lang, err)
			}
		}
		err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := fs.ReadFile(fsys, p)
			if strings.Contains(string(b), "trustedmcp/tmcp/") || strings.HasPrefix(p, "sdk/") && strings.HasSuffix(p, "_test.go") {
				t.Errorf("%s: %s does not belong there, or names this module", lang, p)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestRecipes: each step names tools that the recipe lists, and each tool says
// how to get it.
func TestRecipes(t *testing.T) {
	brace := regexp.MustCompile(`\{[^}]*\}`)
	for lang, r := range recipes {
		known := map[string]bool{}
		for _, tool := range r.Tools {
			known["{"+tool.Name+"}"] = true
			if tool.Hint == "" || len(tool.Programs) == 0 || tool.CheckDir && tool.Check == nil {
				t.Errorf("%s: the tool %q can't be found, or nobody learns how to get it", lang, tool.Name)
			}
		}
		used := map[string]bool{}
		for _, step := range r.Steps {
			for _, s := range append(slices.Clone(step.Args), step.Env...) {
				for _, name := range brace.FindAllString(s, -1) {
					used[name] = true
					if !known[name] {
						t.Errorf("%s: %s is no tool of the recipe", lang, name)
					}
				}
			}
		}
		if len(used) != len(known) || r.Output == "" {
			t.Errorf("%s: a tool that no step uses, or no output", lang)
		}
	}
	if _, err := Recipe("cobol"); err == nil {
		t.Error("a recipe of an unknown language")
	}
}
