package rego_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

var update = flag.Bool("update", false, "write the capabilities of the templates anew")

// TestCapabilities: projects have the file, as it is now.
func TestCapabilities(t *testing.T) {
	for _, dir := range []string{"template", "examples/grace"} {
		path := filepath.Join("..", "guests", "rego", filepath.FromSlash(dir), "capabilities.json")
		b, err := os.ReadFile(path)
		if *update {
			err = os.WriteFile(path, rego.Capabilities(), 0o644)
		} else if err == nil && !bytes.Equal(b, rego.Capabilities()) {
			t.Errorf("%s is not what this host offers; run go test -run TestCapabilities -update", path)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// TestCapabilitiesOfOPA: the names, arguments and operators are those of OPA, and
// OPA refuses with the file what is not there.
func TestCapabilitiesOfOPA(t *testing.T) {
	run := opa(t)
	type builtin struct {
		Name string `json:"name"`
		Decl struct {
			Args []any `json:"args"`
		} `json:"decl"`
		Infix    string `json:"infix"`
		Relation bool   `json:"relation"`
	}
	read := func(b []byte) map[string]builtin {
		var file struct {
			Builtins []builtin `json:"builtins"`
		}
		if err := json.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		out := map[string]builtin{}
		for _, b := range file.Builtins {
			out[b.Name] = b
		}
		return out
	}
	ours, theirs := read(rego.Capabilities()), read(run(".", nil, "capabilities", "--current"))
	if len(ours) < 120 {
		t.Errorf("only %d builtins", len(ours))
	}
	for name, b := range ours {
		want, ok := theirs[name]
		if !ok || len(b.Decl.Args) != len(want.Decl.Args) || b.Infix != want.Infix || b.Relation != want.Relation {
			t.Errorf("%s: %+v, OPA has %+v", name, b, want)
		}
	}
	dir := t.TempDir()
	recipe, err := guests.Recipe("rego")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"capabilities.json":       string(rego.Capabilities()),
		"policy/policy.rego":      "package tmcp\n\n# METADATA\n# entrypoint: true\nauthorize := http.send({\"url\": \"a\"})\n",
		"sdk/sdk.rego":            "package tmcp.sdk\n",
		"policy/policy_test.rego": "package tmcp_test\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := opaCommand(t, dir, recipe.Steps[0].Args[1:]...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "undefined function http.send") {
		t.Errorf("%v: %s", err, out)
	}
}
