package build_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway/policy/build"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

const manifest = `{"name":"p","version":"1.0.0","author":"me","licence":"Apache-2.0","lang":"c","entries":["appraise","authorize"],"encoding":"json",
	"inputs":["/devices"],"fuel":0,"pages":0,"development":false,"build":["cp","in.wasm","raw.wasm"],"output":"raw.wasm"}`

// unixOnly: the tests run small shell commands.
func unixOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("runs cp and sh")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func project(t *testing.T, manifest string, module []byte) *build.Project {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.json"), manifest)
	write(t, filepath.Join(dir, "in.wasm"), string(module))
	p, err := build.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func options(said *[]string) build.Options {
	return build.Options{Caps: policywasm.Defaults(), Say: func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) }}
}

func TestBuild(t *testing.T) {
	unixOnly(t)
	var said []string
	p := project(t, manifest, corpus.Debug().Module())
	b, err := p.Build(t.Context(), options(&said))
	if err != nil {
		t.Fatal(err)
	}
	r := b.Report
	if !r.Accepted || r.Kind != build.KindPolicy || r.Metadata.Name != "p" || r.Metadata.Author != "me" || !slices.Equal(r.Metadata.Inputs, []string{"/devices"}) || b.Logs || r.Floats {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(r.Custom, []string{scan.Metadata}) || !slices.Contains(r.Exports, "tmcp_appraise") || len(r.Imports) > 0 {
		t.Errorf("%+v", r)
	}
	first, err := os.ReadFile(b.Path)
	if err != nil || len(first) != r.Size {
		t.Fatal(err)
	}
	again, err := p.Build(t.Context(), options(&said))
	if err != nil || again.Report.Digest != r.Digest {
		t.Error("built again, it is another module", err)
	}
	// What a host would refuse is not written.
	write(t, filepath.Join(p.Dir, "in.wasm"), string(corpus.Guest{Without: "tmcp_allocate"}.Module()))
	_, err = p.Build(t.Context(), options(&said))
	var refused *build.RefusedError
	if !errors.As(err, &refused) || refused.Failure.Reason != policywasm.ReasonExport || !strings.Contains(err.Error(), "To fix it: ") {
		t.Error(err)
	}
	if _, err := os.Stat(b.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what is there now is not of these sources", err)
	}
	if left, _ := filepath.Glob(filepath.Join(p.Dir, ".policy-*")); len(left) > 0 {
		t.Error("left over: ", left)
	}
}

func TestBuildFails(t *testing.T) {
	unixOnly(t)
	with := func(command string) string {
		return strings.Replace(manifest, `["cp","in.wasm","raw.wasm"]`, command, 1)
	}
	for name, c := range map[string]struct{ manifest, want, output string }{
		"a command fails":        {with(`["sh","-c","echo to stdout; echo to stderr >&2; exit 7"]`), "exit status 7", "to stdout\nto stderr\n"},
		"there is no command":    {with(`["no-such-program"]`), "no-such-program", ""},
		"nothing is made":        {with(`["true"]`), "did not make raw.wasm", ""},
		"no module":              {with(`["cp","policy.json","raw.wasm"]`), "does not begin with 00 61 73 6d", ""},
		"a component":            {with(`["sh","-c","printf '\\0asm\\015\\0\\1\\0' > raw.wasm"]`), "components are not policies", ""},
		"a section too long":     {with(`["sh","-c","printf '\\0asm\\1\\0\\0\\0\\1\\377' > raw.wasm"]`), "longer than the file", ""},
		"larger than hosts take": {with(`["dd","if=/dev/zero","of=raw.wasm","bs=1048576","count=0","seek=65"]`), "modules of at most 8388608", ""},
	} {
		var said []string
		p := project(t, c.manifest, corpus.Debug().Module())
		write(t, filepath.Join(p.Dir, "raw.wasm"), "left from before")
		write(t, filepath.Join(p.Dir, "policy.wasm"), "from before")
		_, err := p.Build(t.Context(), options(&said))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		var failed *build.CommandError
		if errors.As(err, &failed) && failed.Output != c.output {
			t.Errorf("%s: output %q", name, failed.Output)
		}
		if _, err := os.Stat(filepath.Join(p.Dir, "policy.wasm")); err == nil {
			t.Errorf("%s: a module was written, or one from before is left", name)
		}
	}
}

// A policy that logs is built, and said to.
func TestBuildLogs(t *testing.T) {
	unixOnly(t)
	var said []string
	logs := corpus.Guest{Imports: [][]byte{corpus.Cat(corpus.Sized([]byte("tmcp_1")), corpus.Sized([]byte("log")), 0, 4)}, Types: [][]byte{corpus.Type([]byte{corpus.I32, corpus.I32}, nil)}}
	b, err := project(t, manifest, logs.Module()).Build(t.Context(), options(&said))
	if err != nil {
		t.Fatal(err)
	}
	if !b.Logs || !slices.Equal(b.Report.Imports, []string{"tmcp_1.log"}) {
		t.Errorf("%+v", b)
	}
}

func TestManifest(t *testing.T) {
	if _, err := build.ParseManifest([]byte(manifest)); err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]string{
		`"name":"p"|"name":""`:                                                 "no name or no version",
		`"name":"p"|"nmae":"p"`:                                                "unknown",
		`"name":"p"|"name":"p","name":"q"`:                                     "duplicate",
		`"name":"p"|"name":"` + strings.Repeat("p", 129) + `"`:                 "a text of more than 128 bytes",
		`"entries":["appraise","authorize"]|"entries":[]`:                      "names no entry point",
		`"entries":["appraise","authorize"]|"entries":["decide"]`:              `entry point "decide"`,
		`"entries":["appraise","authorize"]|"entries":["appraise","appraise"]`: "stands twice",
		`"encoding":"json"|"encoding":"xml"`:                                   `encoding "xml"`,
		`"inputs":["/devices"]|"inputs":["devices"]`:                           `/inputs/0: "devices" is no JSON pointer`,
		`"inputs":["/devices"]|"inputs":["/device"]`:                           `whose members are abi, question`,
		`"inputs":["/devices"]|"inputs":["/devices/~2"]`:                       `is no JSON pointer`,
		`"output":"raw.wasm"|"output":""`:                                      `go together`,
		`"output":"raw.wasm"|"output":"../raw.wasm"`:                           `outside of the project`,
		`"build":["cp","in.wasm","raw.wasm"]|"build":[]`:                       `go together`,
		`"build":["cp","in.wasm","raw.wasm"],"output":"raw.wasm"|"output":""`:  ``,
		`"lang":"c"|"lang":"cobol"`:                                            ``,
		`"lang":"c","entries"|"lang":"rego","entries"`:                         ``,
		`"lang":"c","entries":["appraise","authorize"],"encoding":"json"|"lang":"rego","entries":["appraise"],"encoding":"cbor"`: `Rego takes "json"`,
		`,"build":["cp","in.wasm","raw.wasm"],"output":"raw.wasm"}|} x`:                                                          "policy.json",
	} {
		old, new, _ := strings.Cut(change, "|")
		text := strings.Replace(manifest, old, new, 1)
		if text == manifest {
			t.Fatalf("%s changes nothing", change)
		}
		_, err := build.ParseManifest([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	if _, err := build.ParseManifest([]byte(strings.Replace(strings.Replace(manifest, `"lang":"c"`, `"lang":"cobol"`, 1), `,"build":["cp","in.wasm","raw.wasm"],"output":"raw.wasm"`, "", 1))); err == nil || !strings.Contains(err.Error(), `"cobol" is not known; there are `) {
		t.Error(err)
	}
	if _, err := build.Open(t.TempDir()); !errors.Is(err, build.ErrNoProject) {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for _, lang := range guests.Languages() {
		dir := filepath.Join(t.TempDir(), "deep", lang)
		files, err := build.New(dir, lang, "night-shift")
		if err != nil {
			t.Fatal(err)
		}
		p, err := build.Open(dir)
		if err != nil {
			t.Errorf("%s: %v", lang, err)
			continue
		}
		if p.Name != "night-shift" || p.Lang != lang || !slices.Contains(files, "tests/starter.json") {
			t.Errorf("%s: %+v, %q", lang, p, files)
		}
		if readme, err := os.ReadFile(filepath.Join(dir, "README.md")); err != nil || !bytes.HasPrefix(readme, []byte("# night-shift\n")) {
			t.Errorf("%s: %v, %.40q", lang, err, readme)
		}
		if p.Fresh() {
			t.Errorf("%s: there is no module yet", lang)
		}
	}
	full := t.TempDir()
	write(t, filepath.Join(full, "x"), "mine")
	if _, err := build.New(full, "c", "p"); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Error(err)
	}
	for _, name := range []string{"", "P", "1p", "-p", "p_", "../p", "p\n", strings.Repeat("p", 65)} {
		if _, err := build.New(t.TempDir(), "c", name); err == nil || !strings.Contains(err.Error(), "--name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := build.New(t.TempDir(), "cobol", "p"); err == nil {
		t.Error("a language that is not there")
	}
}

func TestFresh(t *testing.T) {
	p := project(t, manifest, nil)
	at := func(name string, age time.Duration) {
		path := filepath.Join(p.Dir, name)
		if _, err := os.Stat(path); err != nil {
			write(t, path, "")
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	at("policy.json", time.Hour)
	at("src/policy.c", time.Hour)
	if p.Fresh() {
		t.Error("without a module")
	}
	at("policy.wasm", time.Minute)
	for _, c := range []struct {
		file  string
		fresh bool
	}{{"policy.wasm", true}, {"tests/a.json", true}, {"node_modules/x.ts", true}, {".git/index", true}, {"README.md", true}, {"src/policy.c", false}, {"new.c", false}, {"policy.json", false}} {
		if c.file != "policy.wasm" {
			at(c.file, 0)
		}
		if p.Fresh() != c.fresh {
			t.Errorf("%s is new: fresh is %v", c.file, !c.fresh)
		}
		if !c.fresh {
			at(c.file, time.Hour)
		}
	}
}

// tool puts a shell script into PATH, which has nothing else but sh and cp.
func tools(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		write(t, filepath.Join(dir, name), "#!/bin/sh\n"+script)
	}
	t.Setenv("PATH", dir)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
}

// A compiler that is not there is named, with what was looked for and how to
// get it.
func TestMissingTool(t *testing.T) {
	unixOnly(t)
	tools(t, nil)
	for lang, want := range map[string][]string{
		"tinygo":         {"tinygo is not in PATH", "To get it: "},
		"assemblyscript": {"asc is not in PATH", "npm, which could install it, is not in PATH", "apt-get install nodejs npm"},
		"zig":            {"zig is not in PATH", "npm"},
		"go":             {"go is not in PATH"},
	} {
		dir := t.TempDir()
		if _, err := build.New(dir, lang, "p"); err != nil {
			t.Fatal(err)
		}
		p, err := build.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		_, err = p.Build(t.Context(), options(&said))
		var missing *build.ToolError
		if !errors.As(err, &missing) {
			t.Errorf("%s: %v", lang, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, without %q", lang, err, w)
			}
		}
	}
	// One that is there and can't do it.
	tools(t, map[string]string{"tinygo": "exit 3"})
	dir := t.TempDir()
	if _, err := build.New(dir, "tinygo", "p"); err != nil {
		t.Fatal(err)
	}
	p, err := build.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	if _, err := p.Build(t.Context(), options(&said)); err == nil || !strings.Contains(err.Error(), "can't do what is needed (version: exit status 3)") {
		t.Error(err)
	}
}

// A stand-in for npm that installs a stand-in for asc.
const npm = `PATH=/usr/bin:/bin
echo "$@" >> "$LOG"
case "$1" in ci) dir=. ;; *) while [ "$1" != --prefix ]; do shift; done; dir=$2 ;; esac
mkdir -p $dir/node_modules/.bin
printf '#!/bin/sh\n/bin/cp in.wasm policy.raw.wasm\n' > $dir/node_modules/.bin/asc
chmod +x $dir/node_modules/.bin/asc
touch $dir/node_modules/.package-lock.json
`

func TestNPM(t *testing.T) {
	unixOnly(t)
	tools(t, map[string]string{"npm": npm})
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOG", log)
	dir := t.TempDir()
	if _, err := build.New(dir, "assemblyscript", "p"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "in.wasm"), string(corpus.Debug().Module()))
	p, err := build.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, "package-lock.json")
	old := time.Now().Add(-time.Hour)
	run := func(want string) {
		t.Helper()
		_ = os.Remove(log)
		var said []string
		if _, err := p.Build(t.Context(), options(&said)); err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(log)
		if !strings.HasPrefix(string(got), want) || want == "" && len(got) > 0 || (len(said) > 0) != (want != "") {
			t.Errorf("npm was asked %q, want %q; said %q", got, want, said)
		}
	}
	if err := os.Chtimes(lock, old, old); err != nil {
		t.Fatal(err)
	}
	run("ci ") // nothing is there
	run("")    // all is there
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(lock, later, later); err != nil {
		t.Fatal(err)
	}
	run("ci ") // the lock is newer
	if err := errors.Join(os.Remove(lock), os.RemoveAll(filepath.Join(dir, "node_modules"))); err != nil {
		t.Fatal(err)
	}
	run("install ") // into the cache
	run("")
}

func TestAttach(t *testing.T) {
	meta := corpus.Meta()
	meta.Name = "other"
	module := corpus.Debug().Module()
	out, err := build.Attach(module, meta)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out, []byte(scan.Metadata)); n != 1 {
		t.Errorf("%d sections", n)
	}
	p, err := build.Load(t.Context(), out, policywasm.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	if p.Metadata().Name != "other" {
		t.Error(p.Metadata())
	}
	again, err := build.Attach(out, meta)
	if err != nil || !bytes.Equal(again, out) {
		t.Error("attached twice, it is another module", err)
	}
	// Other sections stay where they are.
	custom := append(slices.Clone(module), corpus.Custom("mine", []byte("x"))...)
	if out, err = build.Attach(custom, meta); err != nil || !bytes.Contains(out, corpus.Custom("mine", []byte("x"))) {
		t.Error(err)
	}
}

// Whatever the module, the report says what is wrong with it.
func TestInspectHostile(t *testing.T) {
	caps := policywasm.Defaults()
	caps.Engine, caps.Fuel = policywasm.Interpreter, 1_000_000
	caps.Scan.TotalCost = 100_000
	for _, c := range corpus.Cases() {
		module := c.Module()
		r := build.Inspect(t.Context(), module, caps)
		if r.Accepted == (r.Refused != nil) || r.Size != len(module) || len(r.Limits) == 0 {
			t.Errorf("%s: %+v", c.Name, r)
		}
	}
	module := corpus.Debug().Module()
	for i := range module {
		_, err := build.Attach(module[:i], corpus.Meta())
		if r := build.Inspect(t.Context(), module[:i], caps); r.Accepted && err != nil {
			t.Errorf("%d bytes of it are a module", i)
		}
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(corpus.Debug().Module())
	for _, c := range corpus.Cases() {
		if module := c.Module(); len(module) < 4096 {
			f.Add(module)
		}
	}
	meta := corpus.Meta()
	caps := policywasm.Defaults()
	caps.Engine, caps.Fuel, caps.Scan.TotalCost = policywasm.Interpreter, 100_000, 100_000
	f.Fuzz(func(t *testing.T, b []byte) {
		build.Inspect(t.Context(), b, caps)
		out, err := build.Attach(b, meta)
		if err != nil {
			return
		}
		again, err := build.Attach(out, meta)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("attached twice: %v", err)
		}
	})
}
