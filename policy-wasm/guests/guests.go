// Package guests holds what authors of policies start from, in each language:
// an SDK, a template and examples, as files, and how they become a module, as
// data.
//
// [Files] gives the files of a new project and [Recipe] the commands that build
// it. What all SDKs have in common stands in the folder's README.md, and package
// guesttest has the tests that all of them pass.
package guests

import (
	"archive/zip"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed all:*/template all:*/sdk all:*/examples testdata
var files embed.FS

// Placeholder stands in the files of a project where its name must stand.
const Placeholder = "NAME"

// goSDK is the SDK for Go as the policies here import it. In a project it is a
// folder of the project's own module.
const goSDK = "github.com/trustedmcp/tmcp/policy-wasm/guests/go/sdk"

// shared names the language whose files a language has beside its own.
var shared = map[string]string{"tinygo": "go"}

// Languages returns the names of the languages that a policy can be written in,
// sorted.
func Languages() []string {
	var out []string
	for lang := range recipes {
		if _, err := fs.Stat(files, lang+"/template"); err == nil {
			out = append(out, lang)
		}
	}
	slices.Sort(out)
	return out
}

// Files returns the files of a new project: the policy "starter", its tests and
// the SDK. [Placeholder] stands where the caller puts the project's name.
func Files(lang string) (fs.FS, error) { return project(lang, "template", "starter") }

// Example returns the files of an example as a project of its own, with
// [Placeholder] like [Files]. There is "grace": firmware may be out of date for
// some days.
func Example(lang, name string) (fs.FS, error) { return project(lang, "examples/"+name, name) }

// project lays the SDK and the tests beside a policy.
func project(lang, from, tests string) (fs.FS, error) {
	if !slices.Contains(Languages(), lang) {
		return nil, fmt.Errorf("language %q is not known; there are %s", lang, strings.Join(Languages(), ", "))
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	there := map[string]bool{}
	put := func(from, to string) error {
		if there[to] {
			return nil
		}
		there[to] = true
		content, err := files.ReadFile(from)
		if err != nil {
			return err
		}
		if path.Ext(to) == ".go" {
			content = bytes.ReplaceAll(content, []byte(goSDK), []byte("policy/sdk"))
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: to})
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	add := func(dir, to string) error {
		if _, err := fs.Stat(files, dir); err != nil && to != "" {
			return nil // a language without an SDK
		}
		return fs.WalkDir(files, dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || to != "" && (strings.HasSuffix(p, "_test.go") || strings.Contains(p, "/testdata/")) {
				return err
			}
			return put(p, path.Join(to, rename(strings.TrimPrefix(p, dir+"/"))))
		})
	}
	for _, l := range []string{lang, shared[lang]} {
		if l == "" {
			continue
		}
		if err := add(l+"/"+from, ""); err != nil {
			return nil, fmt.Errorf("there is no such policy in %s: %w", l, err)
		}
		if err := add(l+"/sdk", "sdk"); err != nil {
			return nil, err
		}
	}
	if err := put("testdata/"+tests+".json", "tests/"+tests+".json"); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
}

// rename gives a file the name that it has in a project. Here Go's own files end
// in .txt: they are no part of this module.
func rename(p string) string {
	for _, ext := range []string{".go", "go.mod", "go.sum"} {
		if strings.HasSuffix(p, ext+".txt") {
			return strings.TrimSuffix(p, ".txt")
		}
	}
	return p
}

// Tests returns the tests of the policies starter and grace, in the format of
// package policytest.
func Tests(policy string) ([]byte, error) { return files.ReadFile("testdata/" + policy + ".json") }
