package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

// modules are policies for scripts, by name.
func modules() map[string][]byte {
	evil := corpus.Meta()
	evil.Name, evil.Version, evil.Author = "evil\x1b[2J", "1\u202e", "\u009b31m"
	steering := `{"decision":"deny","reasons":[{"code":"no","text":"\u001b[31mred\u009b2J\u202e","claim":"/a\u0007"}]}`
	logs := corpus.Guest{
		Imports: [][]byte{corpus.Cat(corpus.Sized([]byte("tmcp_1")), corpus.Sized([]byte("log")), 0, 4)},
		Types:   [][]byte{corpus.Type([]byte{corpus.I32, corpus.I32}, nil)},
	}
	logs.Appraise = corpus.Code(corpus.Const(corpus.I32, 16), corpus.Const(corpus.I32, 20), 0x10, 0, corpus.Packed(16, len(corpus.AllowAnswer)))
	trap := corpus.Debug()
	trap.Authorize = corpus.Code(0x00)
	return map[string][]byte{
		"debug":   corpus.Debug().Module(), // looks for "debug":false
		"open":    corpus.Guest{}.Module(), // allows
		"trap":    trap.Module(),           // looks for "debug":false; traps when it is asked to authorize
		"evil":    corpus.Guest{Metadata: evil, Answer: steering}.Module(),
		"logs":    logs.Module(),
		"refused": corpus.Guest{Without: "tmcp_allocate"}.Module(),
	}
}

// module writes a policy: module NAME FILE.
func module(ts *testscript.TestScript, _ bool, args []string) {
	b, ok := modules()[args[0]]
	if !ok {
		ts.Fatalf("no module %q", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}

var readmeBlock = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")

// As a new author would: each language's template, from tmcp policy new to a
// passing tmcp policy test, with the commands that its README gives.
func TestTemplates(t *testing.T) {
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := bin + string(os.PathListSeparator) + os.Getenv("PATH")
	for _, lang := range guests.Languages() {
		t.Run(lang, func(t *testing.T) {
			path := path
			if dir := compilerOf(t, cache, lang); dir != "" {
				path = dir + string(os.PathListSeparator) + path
			}
			run := func(dir string, args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				if args[0] == "tmcp" {
					cmd = exec.CommandContext(t.Context(), filepath.Join(bin, "tmcp"), args[1:]...)
				}
				cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+path)
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			dir := filepath.Join(t.TempDir(), "my-policy")
			if out, err := run(t.TempDir(), "tmcp", "policy", "new", "--lang", lang, dir); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			block := readmeBlock.FindSubmatch(readme)
			if block == nil || !bytes.Contains(block[1], []byte("tmcp policy build\n")) || !bytes.Contains(block[1], []byte("tmcp policy test\n")) {
				t.Fatalf("the README's first commands are %q", block)
			}
			for line := range strings.Lines(string(block[1])) {
				args := strings.Fields(line)
				if args[0] == "apt-get" { // the machine's owner installs
					continue
				}
				out, err := run(dir, args...)
				var exit *exec.ExitError
				switch {
				case errors.As(err, &exit) && exit.ExitCode() == exitUnreachable:
					interoptest.Check(t, &interop.PrerequisiteError{Target: lang, Tool: "the compiler", Reason: "is not there", Hint: out})
				case err != nil:
					t.Fatalf("%s%v\n%s", line, err, out)
				}
				t.Logf("$ %s%s", line, out)
			}
			deterministic(t, dir, run)
		})
	}
}

// deterministic builds again, in another folder.
func deterministic(t *testing.T, dir string, run func(dir string, args ...string) (string, error)) {
	first, err := os.ReadFile(filepath.Join(dir, "policy.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(dir, other); err != nil {
		t.Fatal(err)
	}
	if out, err := run(other, "tmcp", "policy", "build"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	again, err := os.ReadFile(filepath.Join(other, "policy.wasm"))
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("built again in another folder, it is another module: %v", err)
	}
}

// compilerOf finds compilers that are in no distribution, and returns a folder for
// PATH, or "".
func compilerOf(t *testing.T, cache, lang string) string {
	switch {
	case runtime.GOOS == "windows":
		t.Skip("the READMEs are for Unix")
	case lang == "rego":
		path, err := interop.OPA(t.Context(), cache)
		interoptest.Check(t, err)
		return filepath.Dir(path)
	case lang == "tinygo":
		if path := os.Getenv("TMCP_TINYGO"); path != "" {
			return filepath.Dir(path)
		}
		// Built by the tests of package guests, where that can be.
		built, _ := filepath.Glob(filepath.Join(cache, "tinygo-*", "tinygo"))
		if len(built) > 0 {
			t.Setenv("TINYGOROOT", filepath.Dir(built[0]))
			return filepath.Dir(built[0])
		}
		if _, err := exec.LookPath("tinygo"); err != nil {
			t.Skip("prerequisite missing: tinygo is not in PATH, not named by TMCP_TINYGO, and was not built by the tests of package guests")
		}
	}
	return ""
}

// What the guide shows is taken as it stands there.
func TestPolicyGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/policy-authors.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, manifests := 0, 0
	for _, block := range fence.FindAllSubmatch(guide, -1) {
		switch {
		case string(block[1]) != "json":
		case bytes.Contains(block[2], []byte(`"tests"`)):
			tests++
			f, err := policytest.Parse("guide", block[2])
			if err != nil {
				t.Fatal(err)
			}
			r := policytest.Runner{Policy: guesttest.Oracle("starter"), Source: samples(".")}
			out, err := r.Run(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				if len(o.Problems) > 0 {
					t.Errorf("%s: %q", o.Test, o.Problems)
				}
			}
		default:
			manifests++
			if _, err := build.ParseManifest(block[2]); err != nil {
				t.Error(err)
			}
		}
	}
	if tests != 1 || manifests != 1 {
		t.Errorf("%d files of tests and %d manifests", tests, manifests)
	}
}

// Texts of a policy don't steer the terminal that they are shown on.
func TestPolicyJSON(t *testing.T) {
	var b bytes.Buffer
	in := map[string]string{"text": "a\x1b[31m\u009b2J\u202e\U000e0001\u2028é😀\"\\"}
	if err := printPolicy(&b, in); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"text\": \"a\\u001b[31m\\u009b2J\\u202e\\udb40\\udc01\\u2028é😀\\\"\\\\\"\n}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
