package runtime_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

// Modules of other contracts are compiled in the child and kept in the cache as
// ours are.
func TestChildForeign(t *testing.T) {
	raw, err := os.ReadFile("../../../policy-wasm/rego/testdata/starter.wasm")
	if err != nil {
		t.Fatal(err)
	}
	module, err := rego.Pack(raw, &policywasm.Metadata{ABI: 1, Name: "r", Version: "1", Entries: []policywasm.Entry{policywasm.Appraise, policywasm.Authorize}, Encoding: policywasm.JSON})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := cache(t)
	doc, _ := document.Sample("tdx")
	for range 2 { // compiled, then found
		p := load(t, &runtime.Loader{Child: &runtime.Child{Time: time.Minute}, Cache: c, Warn: func(err error) { t.Error(err) }}, module, false, policywasm.Defaults())
		if r := p.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: input(t, string(doc))}); r.Decision != policywasm.Allow {
			t.Errorf("%+v %v", r.Reasons, r.Failure)
		}
	}
	_, err = (&runtime.Loader{Child: &runtime.Child{Time: time.Millisecond}}).Load(context.Background(), module, false, policywasm.Defaults())
	var f *policywasm.Failure
	if !errors.As(err, &f) || f.Reason != policywasm.ReasonCompile {
		t.Errorf("a child that has no time: %v", err)
	}
}
