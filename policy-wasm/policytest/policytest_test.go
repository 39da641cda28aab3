package policytest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

// base is a whole document: one TDX guest, that calls a tool.
func base(question string) []byte {
	text := func(s string) *string { return &s }
	d := document.Document{
		Question: question, Time: 1_795_000_000,
		Peer: document.Peer{Profile: "attested", Role: text("client")},
		Devices: []document.Device{{
			Kind: "tdx", Proven: true, Checks: []document.Check{{Name: "signature", Outcome: "pass"}},
			TCB:    &document.TCB{Status: "UpToDate", Advisories: []string{}, Parts: []document.Part{}},
			Claims: map[string]any{"tdx.mrtd": "00"},
		}},
		Call: &document.Call{Kind: "request", Method: text("tools/call"), Name: text("add"), Arguments: jsontext.Value(`{"a":1}`), Carrier: "inline"},
	}
	b, err := d.JSON()
	if err != nil {
		panic(err)
	}
	return b
}

func source(name string) ([]byte, error) {
	if name != "tdx" && name != "call" {
		return nil, fmt.Errorf("there is no document %q", name)
	}
	return base(map[string]string{"tdx": "appraise", "call": "authorize"}[name]), nil
}

// fake is a policy in Go.
type fake struct {
	inputs []string
	judge  func(doc map[string]any) *policywasm.Result
}

func (f fake) Evaluate(_ context.Context, c policywasm.Call) *policywasm.Result {
	b, err := c.Input.Bytes(policywasm.JSON)
	if err != nil {
		panic(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		panic(err)
	}
	return f.judge(doc)
}
func (f fake) Digest() (d [32]byte)        { return d }
func (f fake) Close(context.Context) error { return nil }
func (f fake) Metadata() policywasm.Metadata {
	return policywasm.Metadata{Inputs: f.inputs, Entries: []policywasm.Entry{policywasm.Appraise, policywasm.Authorize}}
}

func allow() *policywasm.Result { return &policywasm.Result{Decision: policywasm.Allow} }
func deny(code string) *policywasm.Result {
	return &policywasm.Result{Reasons: []policywasm.Reason{{Code: code, Claim: "/devices/0"}}}
}

func device(doc map[string]any) map[string]any {
	d, _ := doc["devices"].([]any)
	if len(d) == 0 {
		return nil
	}
	m, _ := d[0].(map[string]any)
	return m
}

// careful denies unless debug is false and, if the TCB is known, it is current.
var careful = fake{judge: func(doc map[string]any) *policywasm.Result {
	d := device(doc)
	if debug, ok := d["debug"].(bool); !ok || debug {
		return deny("debug")
	}
	tcb, there := d["tcb"]
	if m, ok := tcb.(map[string]any); (!ok || m["status"] != "UpToDate") && (!there || tcb != nil) {
		return deny("tcb")
	}
	return allow()
}}

func run(t *testing.T, r policytest.Runner, file string) []policytest.Outcome {
	t.Helper()
	f, err := policytest.Parse("t.json", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if r.Source == nil {
		r.Source = source
	}
	out, err := r.Run(t.Context(), f)
	if err != nil || len(out) != len(f.Tests) {
		t.Fatal(out, err)
	}
	return out
}

func one(t *testing.T, p policywasm.Evaluator, test string) policytest.Outcome {
	t.Helper()
	return run(t, policytest.Runner{Policy: p}, `{"mutate":false,"tests":[`+test+`]}`)[0]
}

func TestWants(t *testing.T) {
	full := fake{judge: func(map[string]any) *policywasm.Result {
		return &policywasm.Result{
			Decision: policywasm.Allow, Fuel: 7, Pages: 2,
			Reasons:     []policywasm.Reason{{Code: "b", Text: "so \x1b[31m"}, {Code: "a"}, {Code: "b"}},
			Vector:      policywasm.Vector{"hardware": 32, "executables": 2},
			Obligations: []policywasm.Obligation{{ID: "valid-for", Value: jsontext.Value("3600")}},
		}
	}}
	failing := fake{judge: func(map[string]any) *policywasm.Result {
		return &policywasm.Result{Failure: &policywasm.Failure{Reason: "policy.trap", Detail: "unreachable"}}
	}}
	for want, problem := range map[string]string{
		`{"decision":"allow"}`: "",
		`{"decision":"allow","codes":["a","b"],"vector":{"hardware":32},"obligations":{"valid-for":3600}}`: "",
		`{"decision":"allow","codes":["b","b","a"]}`:                                                       "",
		`{"decision":"deny"}`:                                    "decision: want deny, got allow: b (so ?[31m), a, b",
		`{"decision":"abstain"}`:                                 "want abstain",
		`{"decision":"allow","codes":[]}`:                        "codes: want [], got [a b]",
		`{"decision":"allow","codes":["a"]}`:                     "codes: want [a], got [a b]",
		`{"decision":"allow","vector":{"hardware":2}}`:           "vector: want hardware 2, got 32",
		`{"decision":"allow","vector":{"file-system":2}}`:        "vector: want file-system 2, got none",
		`{"decision":"allow","obligations":{}}`:                  "obligations: valid-for is not wanted",
		`{"decision":"allow","obligations":{"valid-for":60}}`:    "obligations: want valid-for 60, got 3600",
		`{"decision":"allow","obligations":{"a":1}}`:             "obligations: want a, got none",
		`{"failure":"policy.trap"}`:                              "failure: want policy.trap, got allow",
		`{"decision":"deny","failure":"policy.fuel","codes":[]}`: "failure: want policy.fuel, got allow",
	} {
		o := one(t, full, `{"name":"x","base":"tdx","want":`+want+`}`)
		if got := strings.Join(o.Problems, "; "); !strings.Contains(got, problem) || o.Passed() != (problem == "") {
			t.Errorf("%s: %q, want %q", want, got, problem)
		}
		if o.Answer.Fuel != 7 || o.Answer.Pages != 2 {
			t.Errorf("%+v", o.Answer)
		}
	}
	// A failure is a denial, but not one that was decided.
	for want, ok := range map[string]bool{`{"decision":"deny"}`: false, `{"failure":"policy.trap"}`: true, `{"decision":"deny","failure":"policy.trap"}`: true, `{"failure":"policy.fuel"}`: false} {
		if o := one(t, failing, `{"name":"x","base":"tdx","want":`+want+`}`); o.Passed() != ok {
			t.Errorf("%s: %q", want, o.Problems)
		}
	}
}

func TestChanges(t *testing.T) {
	var got map[string]any
	spy := fake{judge: func(doc map[string]any) *policywasm.Result { got = doc; return allow() }}
	at := func(path string) any {
		b, _ := json.Marshal(got)
		v := jsontext.Value(b)
		for tok := range jsontext.Pointer(path).Tokens() {
			var m any
			_ = json.Unmarshal(v, &m)
			switch m := m.(type) {
			case map[string]any:
				e, ok := m[tok]
				if !ok {
					return "missing"
				}
				v, _ = json.Marshal(e)
			case []any:
				var i int
				if _, err := fmt.Sscan(tok, &i); err != nil || i >= len(m) {
					return "missing"
				}
				v, _ = json.Marshal(m[i])
			}
		}
		return string(v)
	}
	for _, c := range []struct{ change, settings, path, want, problem string }{
		{change: `{"set":"/devices/0/debug","value":true}`, path: "/devices/0/debug", want: "true"},
		{change: `{"remove":"/devices/0/debug"}`, path: "/devices/0/debug", want: "missing"},
		{change: `{"set":"/devices/-","value":{"a":1}},{"set":"/devices/1/a","value":null}`, path: "/devices/1/a", want: "null"},
		{change: `{"remove":"/devices/0"}`, path: "/devices", want: "[]"},
		{change: `{"set":"/devices/0/claims/new","value":1}`, path: "/devices/0/claims/new", want: "1"},
		{change: `{"set":"/settings/a","value":2}`, settings: `{"a":1}`, path: "/settings/a", want: "2"},
		{settings: `[7]`, path: "/settings", want: "[7]"},
		{path: "/settings", want: `"of the file"`},
		{settings: `null`, path: "/settings", want: "null"},
		{change: `{"set":"/devices/0/debgu","value":true}`, problem: "documents have no member /devices/0/debgu; one of checks, claims, debug"},
		{change: `{"remove":"/devices/7"}`, problem: "change 0: /devices/7 is not there"},
		{change: `{"set":"/devices/7","value":1}`, problem: "the array has 1 elements"},
		{change: `{"set":"/time/x","value":1}`, problem: "/time is neither an object nor an array"},
		{change: `{"set":"/a/b/c","value":1}`, problem: "/a/b is not there"},
		{change: `{"set":"/time","value":1.5}`, problem: "policy.input"},
		{change: `{"set":"/time","value":9007199254740993}`, problem: "policy.input"},
		{change: `{"set":"/question","value":"x"}`, problem: "/question is none of"},
	} {
		settings := ""
		if c.settings != "" {
			settings = `"settings":` + c.settings + `,`
		}
		o := run(t, policytest.Runner{Policy: spy}, `{"mutate":false,"settings":"of the file","tests":[{"name":"x","base":"tdx",`+settings+`"change":[`+c.change+`],"want":{"decision":"allow"}}]}`)[0]
		if c.problem != "" {
			if o.Passed() || !strings.Contains(o.Problems[0], c.problem) {
				t.Errorf("%s: %q, want %q", c.change, o.Problems, c.problem)
			}
		} else if !o.Passed() || at(c.path) != c.want {
			t.Errorf("%s: %q; %s is %v, want %s", c.change, o.Problems, c.path, at(c.path), c.want)
		}
	}
}

// A policy gets the call's arguments only if it declares that it reads them.
func TestArguments(t *testing.T) {
	test := `{"name":"x","base":"call","want":{"decision":"deny"}}`
	see := func(doc map[string]any) *policywasm.Result {
		call, _ := doc["call"].(map[string]any)
		return deny(map[bool]string{true: "none", false: "some"}[call["arguments"] == nil])
	}
	for input, want := range map[string]string{"/call": "none", "/call/arguments": "some", "/call/arguments/path": "some", "/call/argumentsx": "none"} {
		o := one(t, fake{[]string{input}, see}, test)
		if got := o.Answer.Reasons[0].Code; got != want || (len(o.Notes) > 0) != (want == "none") {
			t.Errorf("%s: %s, notes %q", input, got, o.Notes)
		}
	}
}

func TestMutate(t *testing.T) {
	policy := func(judge func(d map[string]any) bool) fake {
		return fake{judge: func(doc map[string]any) *policywasm.Result {
			if judge(device(doc)) {
				return allow()
			}
			return deny("no")
		}}
	}
	status := func(d map[string]any) any {
		m, _ := d["tcb"].(map[string]any)
		return m["status"]
	}
	for name, c := range map[string]struct {
		p    fake
		more string // members of the file
		test string // members of the test
		want []string
	}{
		"all is read":            {policy(func(d map[string]any) bool { return d["debug"] == false && status(d) == "UpToDate" }), "", `"want":{"decision":"allow"}`, nil},
		"a missing flag":         {policy(func(d map[string]any) bool { return d["debug"] != true }), "", `"want":{"decision":"allow"}`, []string{"null /devices", "recase /devices", "remove /devices", "retype /devices", "recase /devices/0/debug", "remove /devices/0/debug", "null /devices/0/debug", "retype /devices/0/debug", "null /devices/0", "retype /devices/0"}},
		"truth of other types":   {policy(func(d map[string]any) bool { _, there := d["debug"]; return there && d["debug"] != true }), "", `"want":{"decision":"allow"}`, []string{"null /devices/0/debug", "retype /devices/0/debug"}},
		"only what is bad":       {policy(func(d map[string]any) bool { return d["debug"] == false && status(d) != "OutOfDate" }), "", `"change":[{"set":"/devices/0/tcb/status","value":"OutOfDate"}],"want":{"decision":"deny"}`, []string{"null /devices/0/tcb", "null /devices/0/tcb/status", "recase /devices/0/tcb", "recase /devices/0/tcb/status", "remove /devices/0/tcb", "remove /devices/0/tcb/status", "retype /devices/0/tcb", "retype /devices/0/tcb/status"}},
		"null is nothing":        {careful, "", `"want":{"decision":"allow"}`, []string{"null /devices/0/tcb"}},
		"null is nothing, meant": {careful, `"optional":["/devices/*/tcb"],`, `"want":{"decision":"allow"}`, nil},
		"not another meant":      {careful, `"optional":["/devices/*/tcb/status","/devices/1/tcb","/devices/*"],`, `"want":{"decision":"allow"}`, []string{"null /devices/0/tcb"}},
		"without":                {careful, `"mutate":false,`, `"want":{"decision":"allow"}`, nil},
		"one without":            {careful, "", `"mutate":false,"want":{"decision":"allow"}`, nil},
		"one with":               {careful, `"mutate":false,`, `"mutate":true,"want":{"decision":"allow"}`, []string{"null /devices/0/tcb"}},
		"opened from denial":     {careful, "", `"change":[{"set":"/devices/0/tcb/status","value":"OutOfDate"}],"want":{"decision":"deny"}`, []string{"null /devices/0/tcb"}},
		"an unconditional allow": {policy(func(map[string]any) bool { return true }), "", `"want":{"decision":"allow"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := run(t, policytest.Runner{Policy: c.p}, `{`+c.more+`"tests":[{"name":"x","base":"tdx",`+c.test+`}]}`)[0]
			if len(o.Problems) > 0 {
				t.Fatal(o.Problems)
			}
			var got []string
			for _, f := range o.Findings {
				got = append(got, string(f.Mutation)+" "+string(f.Pointer))
			}
			slices.Sort(got)
			got = slices.Compact(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if o.Passed() != (len(c.want) == 0) {
				t.Error("passed, with findings")
			}
		})
	}
}

// A real module, in both engines.
func TestEngines(t *testing.T) {
	load := func(e policywasm.Engine, module []byte) policywasm.Evaluator {
		caps := policywasm.Defaults()
		caps.Engine = e
		p, err := policywasm.Load(t.Context(), module, caps)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close(context.Background()) })
		return p
	}
	debug := corpus.Debug().Module()
	r := policytest.Runner{Policy: load(policywasm.Compiler, debug), Also: []policywasm.Evaluator{load(policywasm.Interpreter, debug)}}
	file := `{"tests":[{"name":"a","base":"tdx","want":{"decision":"allow"}},{"name":"b","base":"tdx","change":[{"set":"/devices/0/debug","value":true}],"want":{"decision":"deny","codes":["debug"]}}]}`
	for _, o := range run(t, r, file) {
		// The policy looks for "debug":false anywhere, whatever it stands in.
		bad := slices.ContainsFunc(o.Findings, func(f policytest.Finding) bool { return f.Pointer != "/devices" || f.Mutation != policytest.Recase })
		if len(o.Problems) > 0 || bad || o.Mutants < 50 {
			t.Errorf("%+v", o)
		}
	}
	r.Also = []policywasm.Evaluator{load(policywasm.Interpreter, corpus.Guest{Answer: corpus.DenyAnswer}.Module())}
	for _, o := range run(t, r, file) {
		if o.Passed() || !strings.Contains(strings.Join(o.Problems, ";"), "engine 2 says otherwise: deny: debug at /debug (debugging is possible)") {
			t.Errorf("%+v", o)
		}
	}
}

// A policy that remembers is found where instances are kept.
func TestKept(t *testing.T) {
	n := 0
	fickle := fake{judge: func(map[string]any) *policywasm.Result {
		if n++; n > 1 {
			return allow()
		}
		r := deny("no")
		r.Fuel = 7 // may differ
		return r
	}}
	out := run(t, policytest.Runner{Policy: fake{judge: func(map[string]any) *policywasm.Result { return deny("no") }}, Kept: fickle},
		`{"mutate":false,"tests":[{"name":"a","base":"tdx","want":{"decision":"deny"}},{"name":"b","base":"tdx","want":{"decision":"deny"}}]}`)
	if !out[0].Passed() || out[1].Passed() || !strings.Contains(out[1].Problems[0], "was asked before says otherwise") {
		t.Errorf("%+v", out)
	}
}

// A policy that wants some members to be exactly as they are is closed by all
// damage. One that only minds one value is found, wherever the member stands.
func TestMutateProperty(t *testing.T) {
	var doc any
	small := `{"question":"appraise","time":5,"peer":{"profile":"attested","alone":false},"devices":[{"kind":"tdx","debug":false,"tcb":{"status":"UpToDate","n":[3,"a"]}},{"kind":"nvidia-gpu","debug":true}]}`
	if err := json.Unmarshal([]byte(small), &doc); err != nil {
		t.Fatal(err)
	}
	var places []string
	var walk func(v any, at jsontext.Pointer)
	walk = func(v any, at jsontext.Pointer) {
		m, ok := v.(map[string]any)
		for name, e := range m {
			walk(e, at.AppendToken(name))
		}
		if list, isList := v.([]any); isList {
			ok = true
			for i, e := range list {
				walk(e, at.AppendToken(fmt.Sprint(i)))
			}
		}
		if !ok && v != nil {
			places = append(places, string(at))
		}
	}
	walk(doc, "")
	slices.Sort(places)
	value := func(doc any, at string) any {
		for tok := range jsontext.Pointer(at).Tokens() {
			switch v := doc.(type) {
			case map[string]any:
				doc = v[tok]
			case []any:
				i := 0
				if _, err := fmt.Sscan(tok, &i); err != nil || i >= len(v) {
					return nil
				}
				doc = v[i]
			default:
				return nil
			}
		}
		return doc
	}
	rapid.Check(t, func(t *rapid.T) {
		read := rapid.SliceOfN(rapid.SampledFrom(places), 1, 4).Draw(t, "read")
		strict := fake{judge: func(d map[string]any) *policywasm.Result {
			for _, at := range read {
				if value(d, at) != value(doc, at) {
					return deny("no")
				}
			}
			return allow()
		}}
		if d := (&policytest.Runner{Policy: strict}).Mutate(t.Context(), doc, nil); len(d.Findings) > 0 || d.Tried < 50 || len(d.Reads) == 0 {
			t.Fatalf("%v: %+v", read, d)
		}
		lax := fake{judge: func(d map[string]any) *policywasm.Result {
			switch v := value(d, read[0]); v {
			case true, "x", 0.0, !(value(doc, read[0]) == true):
				if v != value(doc, read[0]) {
					return deny("no")
				}
			}
			return allow()
		}}
		d := (&policytest.Runner{Policy: lax}).Mutate(t.Context(), doc, nil)
		if !slices.ContainsFunc(d.Findings, func(f policytest.Finding) bool {
			return string(f.Pointer) == read[0] && f.Mutation == policytest.Null
		}) {
			t.Fatalf("%v: %+v", read[0], d.Findings)
		}
	})
}

// A document with a great many members is not damaged: that would take the
// square of its size.
func TestMutateLarge(t *testing.T) {
	var list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&list, "%d,", i)
	}
	o := run(t, policytest.Runner{Policy: careful}, `{"tests":[{"name":"x","base":"tdx","settings":[`+list.String()+`0],"want":{"decision":"allow"}}]}`)[0]
	if o.Passed() || !strings.Contains(o.Problems[0], `say "mutate": false`) {
		t.Errorf("%+v", o)
	}
}

func BenchmarkMutate(b *testing.B) {
	var doc any
	if err := json.Unmarshal(base("appraise"), &doc); err != nil {
		b.Fatal(err)
	}
	p, err := policywasm.Load(b.Context(), corpus.Debug().Module(), policywasm.Defaults())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close(b.Context())
	r := &policytest.Runner{Policy: p}
	for b.Loop() {
		if d := r.Mutate(b.Context(), doc, nil); d.Tried < 100 {
			b.Fatal(d)
		}
	}
}

func TestDeclared(t *testing.T) {
	out := run(t, policytest.Runner{Policy: careful}, `{"optional":["/devices/*/tcb"],"tests":[{"name":"x","base":"tdx","want":{"decision":"allow"}}]}`)
	for inputs, want := range map[string]string{
		"/devices":                               "[] []",
		"/devices/0/debug":                       "[/devices/*/tcb /devices/*/tcb/status] []",
		"/devices/0/debug /devices/0/tcb/status": "[] []",
		"/devices /peer/profile":                 "[] [/peer/profile]",
		"/peer":                                  "[/devices /devices/* /devices/*/debug /devices/*/tcb /devices/*/tcb/status] [/peer]",
	} {
		undeclared, unused := policytest.Declared(strings.Fields(inputs), out)
		if got := fmt.Sprint(undeclared, unused); got != want {
			t.Errorf("%s: %s, want %s", inputs, got, want)
		}
	}
	if a, b := policytest.Declared([]string{"/peer"}, nil); a != nil || b != nil {
		t.Error("without damage nothing is known", a, b)
	}
}

func TestParseErrors(t *testing.T) {
	ok := `{"name":"x","base":"tdx","want":{"decision":"allow"}}`
	for file, want := range map[string]string{
		``:                                  `"t.json": the text ends too early`,
		`{`:                                 `the text ends too early`,
		`{"tests":[]}`:                      `"t.json" at /tests: 0 tests`,
		`{"tests":[` + ok + `,]}`:           `no JSON, at byte`,
		`{"tests":[` + ok + `]}x`:           `no JSON, at byte`,
		`{"tests":[` + ok + `],"x":1}`:      `at /x: unknown`,
		`{"tests":[` + ok + `],"Tests":[]}`: `at /Tests: unknown`,
		`{"tests":[` + ok + `],"tests":[]}`: `duplicate object member name`,
		`{"tests":[` + ok + `,` + ok + `]}`: `test "x" at /tests/1/name: no name, or one that stands twice`,
		`{"tests":[{"name":"x","base":"tdx","want":{"decision":"allow","codes":"tcb"}}]}`:                     `test "x" at /tests/0/want/codes: a JSON string can't stand here`,
		`{"tests":[{"name":"x","base":"tdx","want":{"decision":"allow","codes":null}}]}`:                      `test "x" at /tests/0/want/codes: null; leave the member out`,
		`{"tests":[{"name":"x","base":"tdx","want":{"decison":"allow"}}]}`:                                    `test "x" at /tests/0/want/decison: unknown`,
		`{"tests":[{"name":"x","base":"tdx","want":{"decision":"yes"}}]}`:                                     `at /tests/0/want/decision: "yes" is none of`,
		`{"tests":[{"name":"x","base":"tdx","want":{}}]}`:                                                     `at /tests/0/want: say what is wanted`,
		`{"tests":[{"name":"x","base":"tdx"}]}`:                                                               `at /tests/0/want: say what is wanted`,
		`{"tests":[{"name":"x","want":{"decision":"deny"}}]}`:                                                 `at /tests/0: give "base"`,
		`{"tests":[{"name":"x","base":"a","document":{},"want":{"decision":"deny"}}]}`:                        `at /tests/0: give "base"`,
		`{"tests":[{"name":"x","base":"a","change":[{}],"want":{"decision":"deny"}}]}`:                        `at /tests/0/change/0: a change is`,
		`{"tests":[{"name":"x","base":"a","change":[{"set":"/a"}],"want":{"decision":"deny"}}]}`:              `at /tests/0/change/0: a change is`,
		`{"tests":[{"name":"x","base":"a","change":[{"remove":"/a","value":1}],"want":{"decision":"deny"}}]}`: `at /tests/0/change/0: a change is`,
		`{"tests":[{"name":"x","base":"a","change":[{"remove":"a"}],"want":{"decision":"deny"}}]}`:            `"a" is no JSON pointer`,
		`{"tests":[{"name":"x","base":"a","change":[{"set":"/a~2","value":1}],"want":{"decision":"deny"}}]}`:  `is no JSON pointer`,
		`{"tests":[{"name":"x","base":"a","want":{"decision":"allow","failure":"policy.trap"}}]}`:             `at /tests/0/want/failure: a failure is a denial`,
		`{"tests":[{"name":"x","base":"a","want":{"decision":"allow","vector":{"hardware":200}}}]}`:           `at /tests/0/want/vector/hardware`,
		`{"tests":[` + ok + `],"optional":["x"]}`:                                                             `at /optional/0: "x" is no JSON pointer`,
		"{\"tests\":[{\"name\":\"\x1b[2J\",\"base\":\"a\",\"want\":{\"decision\":\"deny\"}}]}":                `no JSON`,
		`{"tests":[{"name":"\u001b[2J","base":"a","want":{"decision":"x"}}]}`:                                 `test "\x1b[2J" at`,
		`{"tests":[` + strings.Repeat(`{"name":"x","base":"a","want":{"decision":"deny"}},`, 10_001) + `{}]}`: `10002 tests`,
		`{"tests":[` + ok + `]` + strings.Repeat(" ", policytest.MaxFile) + `}`:                               `a file of tests has at most`,
	} {
		_, err := policytest.Parse("t.json", []byte(file))
		var fe *policytest.FormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.120s: %v\nwant %s", file, err, want)
		}
	}
	// Values of the author's own may be null.
	for _, file := range []string{
		`{"settings":null,"tests":[` + ok + `]}`,
		`{"tests":[{"name":"x","base":"a","settings":null,"change":[{"set":"/devices/0/tcb","value":null}],"want":{"decision":"allow","obligations":{"a":null}}}]}`,
		`{"tests":[{"name":"x","document":{"a":null},"want":{"decision":"deny"}}]}`,
	} {
		if _, err := policytest.Parse("t.json", []byte(file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A document that is not whole tests nothing.
func TestIncompleteDocument(t *testing.T) {
	o := run(t, policytest.Runner{Policy: careful}, `{"tests":[{"name":"x","document":{"abi":1},"want":{"decision":"deny"}},{"name":"y","base":"nosuch","want":{"decision":"deny"}}]}`)
	if o[0].Passed() || !strings.Contains(o[0].Problems[0], "it lacks members") || o[1].Passed() || !strings.Contains(o[1].Problems[0], `no document "nosuch"`) {
		t.Errorf("%+v", o)
	}
}

func TestFuzz(t *testing.T) {
	trap := func(doc map[string]any) *policywasm.Result {
		if s, ok := device(doc)["kind"].(string); ok && len(s) > 100 {
			return &policywasm.Result{Failure: &policywasm.Failure{Reason: "policy.trap", Detail: "kind"}}
		}
		return deny("no")
	}
	for name, c := range map[string]struct {
		r        policytest.Runner
		optional []string
		want     map[string]string // kind and how the smallest test begins
	}{
		"trap":      {r: policytest.Runner{Policy: fake{judge: trap}}, want: map[string]string{"failure": `[{set /devices/0/kind}]`}},
		"disagrees": {r: policytest.Runner{Policy: fake{judge: trap}, Also: []policywasm.Evaluator{fake{judge: func(map[string]any) *policywasm.Result { return deny("no") }}}}, want: map[string]string{"disagrees": `[{set /devices/0/kind}]`}},
		"opens": {r: policytest.Runner{Policy: fake{judge: func(doc map[string]any) *policywasm.Result {
			if device(doc)["debug"] == true {
				return deny("debug")
			}
			return allow()
		}}}, want: map[string]string{"opens": `[{set /devices/0/debug} {remove /devices/0/debug}]`}},
		"careful": {r: policytest.Runner{Policy: careful}, optional: []string{"/devices/*/tcb"}},
	} {
		t.Run(name, func(t *testing.T) {
			campaign := func() *policytest.Campaign {
				n := 0
				got, err := c.r.Fuzz(t.Context(), map[string][]byte{"tdx": base("appraise")}, c.optional, 1, func() bool { n++; return n < 1500 })
				if err != nil || got.Documents < 1500 {
					t.Fatal(got, err)
				}
				return got
			}
			got := campaign()
			if again := campaign(); fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", *again) && len(got.Bugs) == 0 {
				t.Error("the same seed went another way")
			}
			if len(c.want) == 0 && len(got.Bugs) > 0 {
				t.Fatalf("%+v", got.Bugs)
			}
			for kind, want := range c.want {
				i := slices.IndexFunc(got.Bugs, func(b policytest.Bug) bool { return b.Kind == kind && changes(b) == want })
				if i < 0 {
					for _, b := range got.Bugs {
						t.Errorf("%s %s %s", b.Kind, b.Detail, changes(b))
					}
					t.Fatalf("want %s", want)
				}
				file, err := policytest.Format([]policytest.Test{got.Bugs[i].Test})
				if err != nil {
					t.Fatal(err)
				}
				if o := run(t, c.r, string(file))[0]; o.Passed() {
					t.Errorf("the test passes:\n%s", file)
				}
			}
		})
	}
}

func changes(b policytest.Bug) string {
	var out []string
	for _, c := range b.Test.Change {
		if c.Set != nil {
			out = append(out, "{set "+*c.Set+"}")
		} else {
			out = append(out, "{remove "+*c.Remove+"}")
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}

func TestEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := policytest.Parse("t.json", []byte(`{"tests":[{"name":"x","base":"tdx","want":{"decision":"deny"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := policytest.Runner{Policy: careful, Source: source}
	if _, err := r.Run(ctx, f); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"tests":[{"name":"x","base":"tdx","change":[{"set":"/devices/0/debug","value":true},{"remove":"/a"}],"want":{"decision":"deny","codes":["a"],"vector":{"hardware":2},"obligations":{"a":null}}}],"settings":{},"optional":["/a/*"],"mutate":false}`))
	f.Add([]byte(`{"tests":[{"name":"x","document":{"abi":1},"settings":null,"want":{"failure":"policy.trap"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := policytest.Parse("f", b)
		if err != nil {
			var fe *policytest.FormatError
			if !errors.As(err, &fe) {
				t.Fatal(err)
			}
			return
		}
		r := policytest.Runner{Policy: careful, Source: source}
		_, _ = r.Run(t.Context(), file)
	})
}
