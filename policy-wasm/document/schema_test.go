package document_test

import (
	"testing"

	"github.com/go-json-experiment/json"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/schema"
)

// The samples, which are made of evidence as a host makes them, are of the shape
// that schema and grammar have; and what lacks a member is not, for either.
//
// TMCP-20.5-3: A host MUST give policies a document of the shape above, with all its members.
func TestShape(t *testing.T) {
	for _, name := range document.Samples() {
		b, ok := document.Sample(name)
		if !ok {
			t.Fatal(name)
		}
		if _, err := document.Parse(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := schema.ValidatePolicyDocument(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		in, err := policywasm.NewInput(b, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c, err := in.Bytes(policywasm.CBOR)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.ValidateCBOR("policy-document", c); err != nil {
			t.Errorf("%s in CBOR: %v", name, err)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		without(v, "", func(path string) {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := document.Parse(b); err == nil {
				t.Errorf("%s: read without %s", name, path)
			}
			if schema.ValidatePolicyDocument(b) == nil {
				t.Errorf("%s: of the shape without %s", name, path)
			}
		})
	}
}

// without takes away each member that has a name of its own in turn: all but
// those of claims, settings and arguments.
func without(v any, path string, f func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, was := range v {
			delete(v, k)
			f(path + "/" + k)
			if v[k] = was; k != "claims" && k != "settings" && k != "arguments" {
				without(was, path+"/"+k, f)
			}
		}
	case []any:
		for _, item := range v[:min(len(v), 1)] {
			without(item, path+"/0", f)
		}
	}
}
