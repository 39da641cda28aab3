package house

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A pkg is what go list tells about one package.
type pkg struct {
	ImportPath   string
	Name         string
	Doc          string
	Dir          string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
	CgoFiles     []string
	Module       *struct {
		Path string
		Main bool
	}
}

func (p *pkg) ours() bool { return p.Module != nil && p.Module.Main }

// rel is the package's folder from the module's root.
func (p *pkg) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, Module), "/")
}

var listed = sync.OnceValues(func() (map[string]*pkg, error) {
	dir, err := Root()
	if err != nil {
		return nil, err
	}
	return goList(dir, "./...")
})

// goList asks go for packages with all that they depend on, tests included.
func goList(dir string, patterns ...string) (map[string]*pkg, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	args := append([]string{"list", "-deps", "-test", "-e", "-json=ImportPath,Name,Doc,Dir,Standard,Imports,TestImports,XTestImports,CgoFiles,Module"}, patterns...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New("go list: " + string(exit.Stderr))
		}
		return nil, err
	}
	pkgs := map[string]*pkg{}
	d := json.NewDecoder(bytes.NewReader(out))
	for {
		p := &pkg{}
		if err := d.Decode(p); err == io.EOF {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		if strings.Contains(p.ImportPath, " [") || strings.HasSuffix(p.ImportPath, ".test") {
			continue // built again for a test
		}
		pkgs[p.ImportPath] = p
	}
}

func packages(t *testing.T) map[string]*pkg {
	t.Helper()
	pkgs, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 20 {
		t.Fatalf("go list told of %d packages only", len(pkgs))
	}
	return pkgs
}

func sorted(pkgs map[string]*pkg) []*pkg {
	var out []*pkg
	for _, name := range slices.Sorted(maps.Keys(pkgs)) {
		if pkgs[name].ours() {
			out = append(out, pkgs[name])
		}
	}
	return out
}

// layers are the folders of the house, and how high they stand. A package may
// import its own folder and whatever stands lower.
var layers = map[string]int{
	"cmd":         70,
	"interop":     70, // tests and fixtures on other implementations
	"conformance": 60,
	"gateway":     50, // also the library behind cmd/tmcp, which the suite tests against
	"examples":    50,
	"transport":   40,
	"policy-wasm": 30,
	"evidence":    30,
	"protocol":    20,
	"schema":      10,
	"spec":        5,

	"internal/house":   100, // tests and generators
	"internal/hostile": 45,  // attackers, for the demo and the suite
	"internal/jsonrpc": 0,
	"internal/dcbor":   0,
	"internal/sse":     0,
}

// pure is the height from which packages may do I/O.
const pure = 40

// layer is the folder and height of a package; ok is false for a folder that
// has no height yet.
func layer(rel string) (folder string, height int, ok bool) {
	for folder, height := range layers {
		if rel == folder || strings.HasPrefix(rel, folder+"/") {
			return folder, height, true
		}
	}
	return rel, 0, false
}

// violation says what is wrong with from importing to, or "".
func violation(from, to *pkg) string {
	ff, fh, ok := layer(from.rel())
	if !ok {
		return "has no place in the layers of the house; give its folder one in internal/house/deps_test.go"
	}
	if from.Name == "main" { // nobody's dependency, wherever it stands
		fh = layers["cmd"]
	}
	tf, th, ok := layer(to.rel())
	if !ok || tf == ff || th < fh {
		return ""
	}
	if from.Name == "main" && th <= fh {
		return ""
	}
	return "imports " + to.ImportPath + ", which does not stand lower"
}

// TestLayers: dependencies point down. The protocol can then be used, read and
// verified without the network around it, and the specification without either.
func TestLayers(t *testing.T) {
	pkgs := packages(t)
	for _, p := range sorted(pkgs) {
		if p.rel() == "" {
			continue
		}
		if _, _, ok := layer(p.rel()); !ok {
			t.Errorf("%s has no place in the layers of the house; give its folder one in internal/house/deps_test.go", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			to := pkgs[imp]
			if to == nil || !to.ours() {
				continue
			}
			if v := violation(p, to); v != "" {
				t.Errorf("%s %s. Why: dependencies point down only (cmd, conformance, gateway and examples, transport, policy-wasm and evidence, protocol, schema, spec), so that each layer can be used and reviewed without those above it", p.ImportPath, v)
			}
		}
	}
}

func TestLayersBite(t *testing.T) {
	mk := func(rel, name string) *pkg { return &pkg{ImportPath: Module + "/" + rel, Name: name} }
	for _, tt := range []struct {
		from, to string
		name     string
		bad      bool
	}{
		{"protocol", "schema", "protocol", false},
		{"protocol", "transport/http", "protocol", true},
		{"schema", "protocol", "schema", true},
		{"spec/vectors/gen", "protocol", "main", false},
		{"spec/vectors", "protocol", "vectors", true},
		{"transport/stdio", "transport/internal", "stdio", false},
		{"evidence/tdx", "policy-wasm", "tdx", true},
		{"newfolder", "spec", "newfolder", true},
	} {
		if v := violation(mk(tt.from, tt.name), mk(tt.to, "x")); (v != "") != tt.bad {
			t.Errorf("%s (package %s) importing %s: got %q, want bad = %v", tt.from, tt.name, tt.to, v, tt.bad)
		}
	}
}

// forbiddenBelow are packages that do I/O or know the machine, with prefixes
// ending in a slash.
var forbiddenBelow = []string{"net", "net/http", "net/http/", "net/rpc", "net/smtp", "os", "os/", "syscall", "log", "log/slog", "plugin", "database/", "golang.org/x/sys/", "golang.org/x/term", "golang.org/x/net/"}

// ioAllowed are exceptions: package folder, import, reason.
var ioAllowed = map[[2]string]string{}

func doesIO(imp string) bool {
	return slices.ContainsFunc(forbiddenBelow, func(f string) bool {
		return imp == f || strings.HasSuffix(f, "/") && strings.HasPrefix(imp, f)
	})
}

// TestPure: nothing below transport/ does I/O. What takes bytes and gives bytes
// can be fuzzed, replayed and proven; what opens sockets can't.
func TestPure(t *testing.T) {
	used := map[[2]string]bool{}
	n := 0
	for _, p := range sorted(packages(t)) {
		_, height, ok := layer(p.rel())
		if !ok || height >= pure || p.Name == "main" {
			continue
		}
		n++
		for _, imp := range p.Imports {
			if !doesIO(imp) {
				continue
			}
			at := [2]string{p.rel(), imp}
			if ioAllowed[at] != "" {
				used[at] = true
				continue
			}
			t.Errorf("%s imports %s. Why not: nothing below transport/ does I/O, so that it stays bytes in, bytes out; take readers, times and bytes as arguments, or add a reason to ioAllowed", p.ImportPath, imp)
		}
	}
	if n < 4 {
		t.Errorf("only %d packages below transport/ were looked at", n)
	}
	for at, why := range ioAllowed {
		if !used[at] {
			t.Errorf("ioAllowed lists %v (%s), which nothing needs any more; take it out", at, why)
		}
	}
	for imp, want := range map[string]bool{"os": true, "os/exec": true, "net/http/httputil": true, "net/url": false, "net/netip": false, "embed": false, "io/fs": false} {
		if doesIO(imp) != want {
			t.Errorf("doesIO(%s) = %v", imp, !want)
		}
	}
}

// clocks are what makes a result depend on when it was computed.
var clocks = map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true, "Tick": true, "NewTimer": true, "NewTicker": true}

// TestNoClock: nothing below transport/ reads a clock. Time is an argument, so
// that expiry is tested to the second, and what was recorded can be replayed.
func TestNoClock(t *testing.T) {
	files := 0
	for _, p := range sorted(packages(t)) {
		_, height, ok := layer(p.rel())
		if !ok || height >= pure || p.Name == "main" {
			continue
		}
		names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			files++
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range clockReads(t, name, src) {
				t.Errorf("%s reads the clock. Why not: below transport/ time is an argument, so that a verdict depends on nothing but its inputs", at)
			}
		}
	}
	if files < 10 {
		t.Errorf("only %d files were looked at", files)
	}
	if got := clockReads(t, "x.go", []byte("package p\n\nimport \"time\"\n\n// time.Now() is not called\nvar t = time.Now()\nvar d = time.Second\n")); len(got) != 1 {
		t.Errorf("clockReads found %v in a file with one read", got)
	}
}

func clockReads(t *testing.T, name string, src []byte) (at []string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return nil
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && clocks[sel.Sel.Name] {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
				at = append(at, fset.Position(n.Pos()).String()+": time."+sel.Sel.Name)
			}
		}
		return true
	})
	return at
}

// protocolModules are all that package protocol may depend on, beside Go's
// standard library, with the reason for each.
var protocolModules = map[string]string{
	"github.com/fxamacker/cbor/v2":       "CBOR, under go-cose",
	"github.com/x448/float16":            "half floats, under fxamacker/cbor",
	"github.com/veraison/go-cose":        "COSE signatures",
	"github.com/go-json-experiment/json": "strict JSON: case-sensitive, no duplicate names",
	"golang.org/x/crypto":                "ChaCha20-Poly1305, which Go keeps outside its standard library",
	"golang.org/x/sys":                   "CPU features, under x/crypto",
}

// TestProtocolDependencies: importing the protocol must cost its user little to
// review.
func TestProtocolDependencies(t *testing.T) {
	dir := root(t)
	pkgs, err := goListNoTests(dir, "./protocol")
	if err != nil {
		t.Fatal(err)
	}
	if pkgs[Module+"/protocol"] == nil {
		t.Fatal("go list does not know package protocol")
	}
	bad := map[string][]string{}
	for _, p := range pkgs {
		if p.Standard || p.ours() || p.Module == nil || protocolModules[p.Module.Path] != "" {
			continue
		}
		bad[p.Module.Path] = append(bad[p.Module.Path], p.ImportPath)
	}
	for _, m := range slices.Sorted(maps.Keys(bad)) {
		t.Errorf("package protocol depends on %s (%s). Why not: everyone who imports it must review it; only CBOR, COSE and strict JSON are allowed beside the standard library", m, strings.Join(bad[m], ", "))
	}
}

func goListNoTests(dir string, pattern string) (map[string]*pkg, error) {
	pkgs, err := goList(dir, pattern)
	if err != nil {
		return nil, err
	}
	// Walk what the package needs when it is built, without its tests.
	keep := map[string]*pkg{}
	var visit func(string)
	visit = func(path string) {
		p := pkgs[path]
		if p == nil || keep[path] != nil {
			return
		}
		keep[path] = p
		for _, imp := range p.Imports {
			visit(imp)
		}
	}
	visit(Module + strings.TrimPrefix(pattern, "."))
	return keep, nil
}

// looseJSON are the packages that may use encoding/json, outside of tests, with
// the reason for each. A key ending in a slash stands for a folder.
var looseJSON = map[string]string{
	"schema":              "the JSON Schema library takes values that encoding/json decodes; input was checked strictly before",
	"conformance/report":  "writes reports, reads none",
	"cmd/tmcp-conform":    "writes lists and reports, reads none",
	"interop/fixtures/":   "fixtures are plain MCP peers and decide nothing about trust",
	"internal/house":      "reads what the go command says",
	"conformance/catalog": "builds requests, decides nothing by it",
}

// TestStrictJSON: decisions are made on strictly parsed JSON. encoding/json
// matches names without case and takes the last of two equal ones, so two
// readers of one message can be made to see different methods.
func TestStrictJSON(t *testing.T) {
	for _, p := range sorted(packages(t)) {
		if !slices.Contains(p.Imports, "encoding/json") || jsonAllowed(p.rel()) {
			continue
		}
		t.Errorf("%s imports encoding/json. Why not: it matches member names without case and lets the last of two equal names win, so an attacker can show a gateway one message and the server another; use internal/jsonrpc or go-json-experiment, or add a reason to looseJSON", p.ImportPath)
	}
	if jsonAllowed("protocol") || !jsonAllowed("interop/fixtures/gosdk") {
		t.Error("jsonAllowed does not tell packages apart")
	}
}

func jsonAllowed(rel string) bool {
	for at := range looseJSON {
		if rel == at || strings.HasSuffix(at, "/") && strings.HasPrefix(rel, at) {
			return true
		}
	}
	return false
}

// TestPackageDocs: a newcomer reads the package comment first.
func TestPackageDocs(t *testing.T) {
	for _, p := range sorted(packages(t)) {
		if p.Name == "" || len(p.Imports) == 0 && p.Doc == "" && isTestOnly(p) {
			continue
		}
		if strings.TrimSpace(p.Doc) == "" {
			t.Errorf("%s has no package comment. Why: it tells a newcomer what the package is for and which functions to call first", p.ImportPath)
		}
	}
}

func isTestOnly(p *pkg) bool {
	names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
	return err == nil && !slices.ContainsFunc(names, func(n string) bool { return !strings.HasSuffix(n, "_test.go") })
}

// TestNoCgo: one static binary, on every platform, without a C compiler.
func TestNoCgo(t *testing.T) {
	for _, p := range sorted(packages(t)) {
		if len(p.CgoFiles) > 0 || slices.Contains(p.Imports, "C") {
			t.Errorf("%s uses cgo. Why not: CGO_ENABLED=0 gives one static binary everywhere", p.ImportPath)
		}
	}
}

// TestDependencyReasons: each module that this one imports itself is there for a
// reason that someone wrote down.
func TestDependencyReasons(t *testing.T) {
	dir := root(t)
	b, err := os.ReadFile(filepath.Join(dir, "RATIONALE.md"))
	if err != nil {
		t.Fatal(err)
	}
	pkgs := packages(t)
	direct := map[string]string{}
	for _, p := range sorted(pkgs) {
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if q := pkgs[imp]; q != nil && q.Module != nil && !q.Module.Main {
				direct[q.Module.Path] = p.ImportPath
			}
		}
	}
	if len(direct) < 4 {
		t.Fatalf("only %d direct dependencies were found", len(direct))
	}
	reasons := map[string]bool{}
	for line := range strings.SplitSeq(string(b), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		name := strings.Trim(strings.TrimSpace(cells[1]), "`")
		if len(strings.TrimSpace(cells[2])) >= 20 {
			reasons[name] = true
		}
	}
	for _, m := range slices.Sorted(maps.Keys(direct)) {
		if !reasons[m] {
			t.Errorf("RATIONALE.md gives no reason for the dependency %s, which %s imports. Why: a dependency is code that we answer for; add a row to its table, or do without", m, direct[m])
		}
	}
}
