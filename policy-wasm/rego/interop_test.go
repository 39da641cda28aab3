package rego_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

// opaCommand is a command of OPA, which it installs, to be run in a folder.
func opaCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path, err := interop.OPA(t.Context(), cache)
	interoptest.Check(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	return cmd
}

// opa returns a function that runs OPA in a folder, and returns what it prints.
func opa(t *testing.T) func(dir string, stdin []byte, args ...string) []byte {
	t.Helper()
	interoptest.Need(t)
	return func(dir string, stdin []byte, args ...string) []byte {
		t.Helper()
		cmd := opaCommand(t, dir, args...)
		var out, said bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &said
		if err := cmd.Run(); err != nil {
			t.Fatalf("opa %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), said.Bytes())
		}
		return out.Bytes()
	}
}

// project makes the folder of a project.
func project(t *testing.T, policy string) string {
	t.Helper()
	files, err := guests.Files("rego")
	if policy != "starter" {
		files, err = guests.Example("rego", policy)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

// build runs the recipe for Rego, and returns the bundle.
func build(t *testing.T, run func(string, []byte, ...string) []byte, dir string) []byte {
	t.Helper()
	recipe, err := guests.Recipe("rego")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range recipe.Steps {
		run(dir, nil, s.Args[1:]...)
	}
	b, err := os.ReadFile(filepath.Join(dir, recipe.Output))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPolicies builds both policies with OPA, and holds them against their tests.
func TestPolicies(t *testing.T) {
	run := opa(t)
	for _, policy := range []string{"starter", "grace"} {
		dir := project(t, policy)
		bundle := build(t, run, dir)
		m := guesttest.Metadata(policy, policywasm.JSON)
		var all []policywasm.Evaluator
		for _, e := range engines {
			all = append(all, load(t, bundle, guesttest.Caps(e), &m))
		}
		guesttest.Decisions(t, policy, true, all...)
		run(dir, nil, "check", "--strict", "policy", "sdk")
		run(dir, nil, "fmt", "--fail", "--list", "policy", "sdk")
		if policy == "starter" {
			if out := run(dir, nil, "test", "policy", "sdk"); !strings.HasPrefix(string(out), "PASS: ") {
				t.Errorf("opa test: %s", out)
			}
			if !bytes.Equal(inBundle(t, bundle), file(t, "starter.wasm")) {
				t.Error("testdata/starter.wasm is not what OPA makes of the template: build it again, and put its policy.wasm there")
			}
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"policy.rego", "data.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), file(t, "builtins/"+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(dir, nil, "build", "-t", "wasm", "-o", "b.tar.gz", "policy.rego", "data.json")
	b, err := os.ReadFile(filepath.Join(dir, "b.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(inBundle(t, b), file(t, "builtins.wasm")) {
		t.Error("testdata/builtins.wasm is not what OPA makes of testdata/builtins")
	}
	load(t, b, caps(policywasm.Auto), nil)
}

// inBundle is the module in a bundle.
func inBundle(t *testing.T, b []byte) []byte {
	t.Helper()
	m := meta(policywasm.Authorize)
	packed, err := rego.Pack(b, m)
	if err != nil {
		t.Fatal(err)
	}
	module, _, found := bytes.Cut(packed, []byte("\x09tmcp.data"))
	if !found {
		module, _, _ = bytes.Cut(packed, []byte("\x0btmcp.policy"))
	}
	for i := 1; i < 8; i++ { // the custom section's id and size
		if n := len(module) - i; module[n] == 0 {
			return module[:n]
		}
	}
	t.Fatal("no module in the bundle")
	return nil
}

// native has OPA itself evaluate query for each of these documents.
func native(t *testing.T, run func(string, []byte, ...string) []byte, dir, rule string, documents []jsontext.Value, sources ...string) []jsontext.Value {
	t.Helper()
	in, err := json.Marshal(map[string]any{"all": documents})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"eval", "--stdin-input", "--format", "values"}
	for _, s := range sources {
		args = append(args, "--data", s)
	}
	out := run(dir, in, append(args, "[r | some d in input.all; r := "+rule+" with input as d]")...)
	var all [][]jsontext.Value
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 1 || len(all[0]) != len(documents) {
		t.Fatalf("opa eval: %v: %.200s", err, out)
	}
	return all[0]
}

// TestNative: builtins give what those of OPA itself give, and the starter policy
// decides as it does in OPA itself, reason by reason.
func TestNative(t *testing.T) {
	run := opa(t)
	var docs []jsontext.Value
	var wants []string
	for _, tt := range builtinTests {
		if !strings.HasPrefix(tt.want, "policy.") {
			docs = append(docs, jsontext.Value(`{"settings":{"f":"`+tt.name+`","args":`+tt.args+`}}`))
			wants = append(wants, tt.name+" "+tt.args+": "+tt.want)
		}
	}
	for i, v := range native(t, run, "testdata/builtins", "data.tmcp.authorize", docs, "policy.rego", "data.json") {
		got, _ := jsonrpc.Text(first(t, v, "text"))
		if got == "" {
			got, _ = jsonrpc.Text(first(t, v, "code"))
		}
		if name, want, _ := strings.Cut(wants[i], ": "); !strings.HasSuffix(wants[i], ": "+got) {
			t.Errorf("%s: we say %s, OPA %s", name, want, got)
		}
	}

	dir := project(t, "starter")
	p := load(t, file(t, "starter.wasm"), guesttest.Caps(policywasm.Auto), func() *policywasm.Metadata { m := guesttest.Metadata("starter", policywasm.JSON); return &m }())
	for _, e := range p.Metadata().Entries {
		docs = nil
		var ours []*policywasm.Result
		for _, in := range guesttest.Inputs(t, "starter") {
			if in.Entry != e {
				continue
			}
			doc, err := json.Marshal(in.Document)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
			ours = append(ours, p.Evaluate(t.Context(), policywasm.Call{Entry: e, Input: input(t, string(doc))}))
		}
		for i, v := range native(t, run, dir, "data.tmcp."+string(e), docs, "policy/policy.rego", "sdk") {
			want, err := policywasm.DecodeResult(v, policywasm.JSON, e)
			if err != nil {
				t.Fatal(err)
			}
			if ours[i].Failure != nil || ours[i].Decision != want.Decision || !slices.Equal(ours[i].Reasons, want.Reasons) {
				t.Errorf("%s: we say %v %v %v, OPA %s", docs[i], ours[i].Decision, ours[i].Reasons, ours[i].Failure, v)
			}
		}
		t.Logf("%s: %d documents", e, len(docs))
	}
}

// first is a member of a result's first reason.
func first(t *testing.T, result jsontext.Value, name string) (v jsontext.Value) {
	t.Helper()
	_ = jsonrpc.Elements(jsonrpc.Get(result, "reasons"), func(r jsontext.Value) error {
		v = jsonrpc.Get(r, name).Clone()
		return fs.SkipAll
	})
	return v
}
