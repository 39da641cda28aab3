// Package guesttest holds SDKs of all languages against one reference.
//
// Call [Module] with a module that was built of the policy starter or grace: it
// runs the policy's tests in both engines, and compares what the module returns
// with [Reference], byte for byte, for these documents, for ones that were
// damaged, and for input that is no document. [Decisions] does what can be done
// for a policy that answers in another encoding.
package guesttest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

// Metadata is what the modules of starter and grace say of themselves.
func Metadata(policy string, enc policywasm.Encoding) policywasm.Metadata {
	m := policywasm.Metadata{ABI: policywasm.ABI, Name: policy, Version: "0.1.0", Licence: "Apache-2.0", Entries: []policywasm.Entry{policywasm.Appraise}, Encoding: enc}
	if policy != "grace" {
		m.Entries = append(m.Entries, policywasm.Authorize)
	}
	return m
}

// Caps are the caps of the tests.
func Caps(e policywasm.Engine) policywasm.Caps {
	caps := policywasm.Defaults()
	caps.Engine, caps.Obligations = e, []string{"valid-for", "audit"}
	for i := range 16 { // of probe
		caps.Obligations = append(caps.Obligations, fmt.Sprint("o", i))
	}
	return caps
}

// Tests are those of a policy, without damaged documents unless mutate says so.
func Tests(t testing.TB, policy string, mutate bool) *policytest.File {
	t.Helper()
	b, err := guests.Tests(policy)
	if err != nil {
		t.Fatal(err)
	}
	f, err := policytest.Parse(policy+".json", b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Tests {
		if !mutate {
			f.Tests[i].Mutate = nil
		}
	}
	return f
}

// Decisions runs the tests of starter or grace: the first evaluator's answers are
// held against what is wanted, and the others' against the first's.
func Decisions(t *testing.T, policy string, mutate bool, all ...policywasm.Evaluator) {
	t.Helper()
	r := &policytest.Runner{Policy: all[0], Also: all[1:], Source: Document}
	out, err := r.Run(t.Context(), Tests(t, policy, mutate))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out {
		if o.Passed() {
			continue
		}
		var why []string
		for _, f := range o.Findings {
			why = append(why, f.String())
		}
		t.Errorf("%s: %s\n\t%s", policy, o.Test, strings.Join(append(why, o.Problems...), "\n\t"))
	}
}

// An oracle is the reference as an evaluator.
type oracle struct{ policy string }

// Oracle answers as [Reference] does.
func Oracle(policy string) policywasm.Evaluator { return oracle{policy} }

func (o oracle) Evaluate(_ context.Context, c policywasm.Call) *policywasm.Result {
	r := &policywasm.Result{}
	fail := func(err error) *policywasm.Result {
		r.Failure = &policywasm.Failure{Reason: policywasm.ReasonEngine, Detail: err.Error()}
		return r
	}
	b, err := c.Input.Bytes(policywasm.JSON)
	if err != nil {
		return fail(err)
	}
	doc, err := Decode(b)
	if err != nil {
		return fail(err)
	}
	if r, err = policywasm.DecodeResult(Reference(o.policy, string(c.Entry), doc), policywasm.CBOR, c.Entry); err != nil {
		r = &policywasm.Result{}
		return fail(err)
	}
	return r
}

func (o oracle) Digest() [32]byte              { return [32]byte{} }
func (o oracle) Metadata() policywasm.Metadata { return Metadata(o.policy, policywasm.CBOR) }
func (o oracle) Close(context.Context) error   { return nil }

// Decode reads JSON as [Reference] wants it.
func Decode(b []byte) (any, error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	return integers(v), nil
}

// integers makes int64 of all numbers: a document's are exact as float64.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}
