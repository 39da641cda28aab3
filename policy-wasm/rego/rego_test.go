package rego_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

// TestStarter: the starter policy in Rego passes its tests in both engines, with
// damaged documents too.
func TestStarter(t *testing.T) {
	m := guesttest.Metadata("starter", policywasm.JSON)
	var all []policywasm.Evaluator
	for _, e := range engines {
		all = append(all, load(t, file(t, "starter.wasm"), guesttest.Caps(e), &m))
	}
	guesttest.Decisions(t, "starter", true, all...)
}

// call asks the policy testdata/builtins, and returns what the builtin gave: JSON,
// "undefined", or the reason of a failure with its detail.
func call(t testing.TB, p policywasm.Evaluator, name, args string) string {
	t.Helper()
	r := p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Authorize, Input: input(t, `{"time":1795200000,"settings":{"f":"`+name+`","args":`+args+`}}`)})
	switch {
	case r.Failure != nil:
		return r.Failure.Error()
	case r.Reasons[0].Code == "out":
		return r.Reasons[0].Text
	}
	return r.Reasons[0].Code
}

// builtinTests are builtins with arguments, and what they give. Native OPA is
// held against them too, but for those that begin with "policy.".
var builtinTests = []struct{ name, args, want string }{
	{"data", `["days"]`, `30`},
	{"data", `["names"]`, `["a","ä"]`},
	{"data", `["none"]`, `undefined`},
	{"base64url.encode_no_pad", `["a?>~"]`, `"YT8-fg"`},
	{"base64url.encode_no_pad", `[1]`, `undefined`},
	{"crypto.hmac.equal", `["a","a"]`, `true`},
	{"crypto.hmac.equal", `["a","b"]`, `false`},
	{"crypto.hmac.sha256", `["what do ya want for nothing?","Jefe"]`, `"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"`},
	{"crypto.sha256", `["abc"]`, `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`},
	{"hex.decode", `["6162"]`, `"ab"`},
	{"hex.decode", `["6"]`, `undefined`},
	{"hex.decode", `["ff"]`, `policy.trap: hex.decode: the bytes are no UTF-8, and can't be a text here`},
	{"hex.encode", `["aä"]`, `"61c3a4"`},
	{"indexof_n", `["abaaba","aba"]`, `[0,3]`},
	{"indexof_n", `["aaaa","aa"]`, `[0,1,2]`},
	{"indexof_n", `["äaäa","a"]`, `[1,3]`},
	{"indexof_n", `["a",""]`, `undefined`},
	{"semver.compare", `["1.2.3","1.2.3"]`, `0`},
	{"semver.compare", `["1.10.0","1.9.0"]`, `1`},
	{"semver.compare", `["1.0.0-alpha","1.0.0"]`, `-1`},
	{"semver.compare", `["1.0.0","1.0.0-alpha"]`, `1`},
	{"semver.compare", `["1.0.0-alpha.1","1.0.0-alpha.beta"]`, `-1`},
	{"semver.compare", `["1.0.0-2","1.0.0-10"]`, `-1`},
	{"semver.compare", `["1.0.0-a","1.0.0-a.b"]`, `-1`},
	{"semver.compare", `["1.0.0+a","1.0.0+b"]`, `0`},
	{"semver.compare", `["1.0","1.0.0"]`, `undefined`},
	{"semver.is_valid", `["1.0.0-a.b+c"]`, `true`},
	{"semver.is_valid", `["1.0"]`, `false`},
	{"semver.is_valid", `[1]`, `false`},
	{"sprintf", `["%s has %d of %v, %q %x",["a",3,[1,"b",null,true],"c",255]]`, `"a has 3 of [1, \"b\", null, true], \"c\" ff"`},
	{"sprintf", `["%5d|%-5d|%05d|%+d",[1,2,3,4]]`, `"    1|2    |00003|+4"`},
	{"sprintf", `["%d %%",["a"]]`, `"%!d(string=a) %"`},
	{"sprintf", `["%s",[]]`, `"%!s(MISSING)"`},
	{"sprintf", `["a",[1]]`, `"a%!(EXTRA int64=1)"`},
	{"sprintf", `["%v %v",[{"b":1,"a":[2]},9007199254740991]]`, `"{\"a\": [2], \"b\": 1} 9007199254740991"`},
	{"sprintf", `["%1000000d",[1]]`, `policy.trap: sprintf: a width or precision of more than 255`},
	{"sprintf", `["%.256f",[1]]`, `policy.trap: sprintf: a width or precision of more than 255`},
	{"sprintf", `["%*d",[1,2]]`, `policy.trap: sprintf: * and indexes of arguments are not offered in a format`},
	{"sprintf", `["%[1]d",[1]]`, `policy.trap: sprintf: * and indexes of arguments are not offered in a format`},
	{"sprintf", `["%-[1]d",[1]]`, `policy.trap: sprintf: * and indexes of arguments are not offered in a format`},
	{"sprintf", `[1,[1]]`, `undefined`},
	{"sprintf of a set", `[["b","a",1,true,null,[2],{"x":1}]]`, `"{null, true, 1, \"a\", \"b\", [2], {\"x\": 1}}"`},
	{"sprintf of a set", `[[]]`, `"set()"`},
	{"sprintf of an object", `[[10,9,"a"]]`, `"{9: [9], 10: [10], \"a\": [\"a\"]}"`},
	{"strings.any_prefix_match", `["abc",["x","ab"]]`, `true`},
	{"strings.any_prefix_match", `[["abc","x"],"y"]`, `false`},
	{"strings.any_prefix_match", `["abc",[1]]`, `undefined`},
	{"strings.any_prefix_match of a set", `[["abc","d"],["ab"]]`, `true`},
	{"strings.any_suffix_match", `["abc","bc"]`, `true`},
	{"strings.count", `["banana","an"]`, `2`},
	{"time.add_date", `[1795200000,0,1,-1]`, `1797705600000000000`},
	{"time.clock", `[1795200000]`, `[18,40,0]`},
	{"time.clock", `[[1795200000,"UTC"]]`, `[18,40,0]`},
	{"time.clock", `[[1795200000,"Europe/Berlin"]]`, `policy.trap: time: only the zone UTC is known: others depend on the machine`},
	{"time.date", `[1795200000]`, `[2026,11,20]`},
	{"time.parse_rfc3339_ns", `["2026-11-20T16:00:00.000000001Z"]`, `1795190400000000001`},
	{"time.parse_rfc3339_ns", `["2026-11-20T16:00:00+01:00"]`, `1795186800000000000`},
	{"time.parse_rfc3339_ns", `["2026-11-20"]`, `undefined`},
	{"time.parse_rfc3339_ns", `["9999-11-20T16:00:00Z"]`, `undefined`},
	{"time.weekday", `[1795200000]`, `"Friday"`},
	{"trace", `["a"]`, `true`},
}

// big makes a bundle of testdata/builtins.
func builtinsBundle(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/builtins/data.json")
	if err != nil {
		t.Fatal(err)
	}
	return tarball(t, "/data.json", string(data), "/policy.rego", "package tmcp", "/policy.wasm", string(file(t, "builtins.wasm")),
		"/.manifest", `{"revision":"7","roots":[""],"wasm":[{"entrypoint":"tmcp/authorize","module":"/policy.wasm"}]}`)
}

// TestBuiltins: each builtin is called by a module that OPA made.
func TestBuiltins(t *testing.T) {
	p := load(t, builtinsBundle(t), caps(policywasm.Auto), nil)
	tried := map[string]bool{}
	for _, tt := range builtinTests {
		name, _, _ := strings.Cut(tt.name, " ")
		tried[name] = true
		if got := call(t, p, tt.name, tt.args); got != tt.want {
			t.Errorf("%s %s: want %s, got %s", tt.name, tt.args, tt.want, got)
		}
	}
	// The time is the document's.
	if got := call(t, p, "time.now_ns", "[]"); got != "1795200000000000000" {
		t.Errorf("time.now_ns: %s", got)
	}
	tried["time.now_ns"] = true
	for _, name := range rego.Builtins() {
		if !tried[name] {
			t.Errorf("%s is not tried", name)
		}
	}
}

// TestPack: what a policy is named by depends on its code, its data and its
// metadata, and on nothing else of a bundle.
func TestPack(t *testing.T) {
	module := string(file(t, "builtins.wasm"))
	m := meta(policywasm.Authorize)
	pack := func(files ...string) [32]byte {
		t.Helper()
		b, err := rego.Pack(tarball(t, files...), m)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b)
	}
	one := pack("/policy.wasm", module, "/data.json", `{"a":1,"b":2}`)
	if pack("README", "x", "./data.json", `{ "b": 2, "a": 1 }`, "policy.wasm", module, "/.manifest", "{}") != one {
		t.Error("another spelling of the same bundle has another digest")
	}
	if pack("/policy.wasm", module, "/data.json", `{"a":1,"b":3}`) == one {
		t.Error("other data, same digest")
	}
	none := pack("/policy.wasm", module)
	if pack("/policy.wasm", module, "/data.json", "{}") != none || none == one {
		t.Error("no data and empty data differ, or some data is as none")
	}
	raw, err := rego.Pack([]byte(module), m)
	if err != nil || sha256.Sum256(raw) != none {
		t.Errorf("a module is packed otherwise than its bundle: %v", err)
	}
	if again, err := rego.Pack(raw, nil); err != nil || !bytes.Equal(again, raw) {
		t.Errorf("a packed module is changed: %v", err)
	}
	p := load(t, builtinsBundle(t), caps(policywasm.Auto), nil)
	packed, err := rego.Pack(builtinsBundle(t), nil)
	if err != nil || p.Digest() != sha256.Sum256(packed) {
		t.Errorf("the policy has another digest than its module: %v", err)
	}
	if got := p.Metadata(); got.Name != "rego" || got.Version != "7" || len(got.Entries) != 1 || got.Entries[0] != policywasm.Authorize || got.Encoding != policywasm.JSON {
		t.Errorf("%+v", got)
	}
	if !rego.Is(packed) || !rego.Is([]byte(module)) || !rego.Is(builtinsBundle(t)) || rego.Is(Guest{}.Module()) {
		t.Error("modules of OPA are not told from others")
	}
}

func TestPackRefuses(t *testing.T) {
	module := string(file(t, "builtins.wasm"))
	packed, err := rego.Pack([]byte(module), meta(policywasm.Authorize))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		b    []byte
		meta *policywasm.Metadata
		want string
	}{
		"no gzip":           {[]byte("\x1f\x8bxxx"), nil, policywasm.ReasonInvalid},
		"no tar":            {tarball(t)[:20], nil, policywasm.ReasonInvalid},
		"empty":             {tarball(t), nil, policywasm.ReasonInvalid},
		"no module":         {tarball(t, "/data.json", "{}"), nil, policywasm.ReasonInvalid},
		"two modules":       {tarball(t, "/policy.wasm", module, "policy.wasm", module), nil, policywasm.ReasonInvalid},
		"module in folder":  {tarball(t, "/policy.wasm", module, "a/policy.wasm", module), nil, policywasm.ReasonInvalid},
		"data in folder":    {tarball(t, "/policy.wasm", module, "a/data.json", "{}"), nil, policywasm.ReasonInvalid},
		"data as YAML":      {tarball(t, "/policy.wasm", module, "/data.yaml", "a: 1"), nil, policywasm.ReasonInvalid},
		"data with float":   {tarball(t, "/policy.wasm", module, "/data.json", `{"a":1.5}`), nil, policywasm.ReasonInvalid},
		"data twice":        {tarball(t, "/policy.wasm", module, "/data.json", `{"a":1,"a":2}`), nil, policywasm.ReasonInvalid},
		"data array":        {tarball(t, "/policy.wasm", module, "/data.json", `[]`), nil, policywasm.ReasonInvalid},
		"data large":        {tarball(t, "/policy.wasm", module, "/data.json", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`), nil, policywasm.ReasonInvalid},
		"bomb":              {tarball(t, "/x", strings.Repeat("\x00", 17<<20), "/policy.wasm", module), nil, policywasm.ReasonInvalid},
		"many files":        {tarball(t, strings.Split(strings.Repeat("/x,,", 300), ",")[:600]...), nil, policywasm.ReasonInvalid},
		"no metadata":       {[]byte(module), nil, policywasm.ReasonMetadata},
		"metadata twice":    {packed, meta(policywasm.Authorize), policywasm.ReasonMetadata},
		"no entry":          {tarball(t, "/policy.wasm", module), nil, policywasm.ReasonMetadata},
		"CBOR":              {[]byte(module), func() *policywasm.Metadata { m := meta(policywasm.Authorize); m.Encoding = policywasm.CBOR; return m }(), policywasm.ReasonMetadata},
		"of our own ABI":    {Guest{}.Module(), nil, policywasm.ReasonProfile},
		"data twice, in it": {tarball(t, "/policy.wasm", string(append([]byte(module), Custom(rego.DataSection, []byte(`{"a":1}`))...)), "/data.json", `{"a":1}`), meta(policywasm.Authorize), policywasm.ReasonInvalid},
	} {
		var f *policywasm.Failure
		if _, err := rego.Load(t.Context(), tt.b, caps(policywasm.Interpreter), tt.meta); !errors.As(err, &f) || f.Reason != tt.want {
			t.Errorf("%s: want %s, got %v", name, tt.want, err)
		}
	}
}

// TestUnknownBuiltin: the error names it.
func TestUnknownBuiltin(t *testing.T) {
	_, err := rego.Load(t.Context(), opaGuest{builtins: `{"http.send":0}`}.module(), caps(policywasm.Interpreter), meta(policywasm.Appraise))
	if err == nil || !strings.Contains(err.Error(), `"http.send"`) {
		t.Error(err)
	}
}

// Evaluations at one time do not touch each other's memory, and the same document
// uses the same fuel in both engines.
func TestConcurrent(t *testing.T) {
	p := load(t, builtinsBundle(t), caps(policywasm.Auto), nil)
	q := load(t, builtinsBundle(t), caps(policywasm.Interpreter), nil)
	var wg sync.WaitGroup
	for _, word := range []string{"a", "bb", "ccc", "dddd"} {
		wg.Go(func() {
			in := input(t, `{"time":1,"settings":{"f":"sprintf","args":["%s!",["`+word+`"]]}}`)
			ask := func(p *policywasm.Policy) *policywasm.Result {
				return p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Authorize, Input: in})
			}
			want := ask(q)
			for range 10 {
				r := ask(p)
				if r.Failure != nil || r.Reasons[0].Text != `"`+word+`!"` || r.Fuel != want.Fuel || r.Pages != want.Pages {
					t.Errorf("%s: %+v, the interpreter has %+v", word, r, want)
				}
			}
		})
	}
	wg.Wait()
}

// A pooled instance keeps its data and nothing else: memory does not grow, and
// answers do not depend on what was asked before.
func TestPool(t *testing.T) {
	c := caps(policywasm.Auto)
	c.Pool = 1
	pooled, fresh := load(t, builtinsBundle(t), c, nil), load(t, builtinsBundle(t), caps(policywasm.Auto), nil)
	var pages uint32
	for i := range 200 {
		tt := builtinTests[i%len(builtinTests)]
		if got, want := call(t, pooled, tt.name, tt.args), call(t, fresh, tt.name, tt.args); got != want {
			t.Fatalf("%s %s: pooled %s, fresh %s", tt.name, tt.args, got, want)
		}
		r := pooled.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Authorize, Input: input(t, `{"settings":{"f":"data","args":["days"]}}`)})
		if pages = max(pages, r.Pages); r.Reasons[0].Text != "30" || i > len(builtinTests) && r.Pages > 4 {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	t.Logf("%d pages", pages)
}

// Fuel that was cut to fit a deadline runs out as such, in a builtin too.
func TestFuelOfBuiltins(t *testing.T) {
	p := load(t, builtin(7, valueAt).module(), caps(policywasm.Auto), meta(policywasm.Appraise))
	in := input(t, "{}")
	ask := func(fuel uint64) *policywasm.Result {
		return p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: in, Fuel: fuel})
	}
	all := ask(0)
	if all.Decision != policywasm.Allow || all.Fuel < 4000 || all.Fuel > 6000 {
		t.Fatalf("%d units of fuel, %v", all.Fuel, all.Failure)
	}
	for _, fuel := range []uint64{1, 2000, all.Fuel - 1} {
		if r := ask(fuel); r.Failure == nil || r.Failure.Reason != policywasm.ReasonDeadline || r.Fuel > fuel {
			t.Errorf("with %d of %d units: %+v", fuel, all.Fuel, r)
		}
	}
	if r := ask(all.Fuel); r.Decision != policywasm.Allow {
		t.Errorf("with all %d units: %v", all.Fuel, r.Failure)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(opaGuest{}.module(), []byte(`{"time":1}`))
	f.Add(builtin(7, valueAt).module(), []byte(`{}`))
	f.Add(opaGuest{builtins: `{"sprintf":0}`, custom: Custom(rego.DataSection, []byte(`{"a":1}`))}.module(), []byte(`{"a":[]}`))
	f.Add(tarball(f, "/policy.wasm", string(opaGuest{}.module()), "/data.json", "{}"), []byte(`{}`))
	f.Fuzz(func(t *testing.T, b, doc []byte) {
		c := caps(policywasm.Interpreter)
		c.Fuel, c.Scan.Pages = 200_000, 4
		p, err := rego.Load(t.Context(), b, c, meta(policywasm.Appraise))
		if err != nil {
			var f *policywasm.Failure
			if !errors.As(err, &f) {
				t.Errorf("an error without a reason: %v", err)
			} else if f.Reason == policywasm.ReasonEngine {
				t.Errorf("the engine's fault: %v", err)
			}
			return
		}
		defer p.Close(t.Context())
		in, err := policywasm.NewInput(doc, 1<<16)
		if err != nil {
			return
		}
		if r := p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: in}); r.Failure != nil && r.Failure.Reason == policywasm.ReasonEngine {
			t.Errorf("the engine's fault: %v", r.Failure)
		}
	})
}

// FuzzDocument: the starter policy in Rego decides each document as the
// reference in Go does.
func FuzzDocument(f *testing.F) {
	for _, name := range []string{"tdx", "gpu", "nitro", "call-attested", "call-unknown"} {
		b, err := guesttest.Document(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b))
	}
	f.Add([]byte(`{"devices":[{"kind":"tdx","proven":true,"simulated":false,"debug":true,"tcb":{"status":"OutOfDate"},"references":{"matched":1}}]}`))
	f.Add([]byte(`{"call":{"method":"tools/call","name":"a/~b"},"peer":{"profile":"none"},"settings":{"tools":{"a/~b":7}}}`))
	m := guesttest.Metadata("starter", policywasm.JSON)
	p, err := rego.Load(f.Context(), file(f, "starter.wasm"), guesttest.Caps(policywasm.Auto), &m)
	if err != nil {
		f.Fatal(err)
	}
	oracle := guesttest.Oracle("starter")
	f.Fuzz(func(t *testing.T, doc []byte) {
		if jsonrpc.Check(doc, jsonrpc.Limits{MaxBytes: 8 << 10, MaxDepth: 20}) != nil || jsontext.Value(doc).Kind() != '{' {
			return
		}
		in, err := policywasm.NewInput(doc, 8<<10)
		if err != nil {
			return
		}
		for _, e := range m.Entries {
			c := policywasm.Call{Entry: e, Input: in}
			got, want := p.Evaluate(t.Context(), c), oracle.Evaluate(t.Context(), c)
			if got.Decision != want.Decision || got.Failure != nil && want.Failure == nil {
				t.Errorf("%s: got %v %v, want %v %v", e, got.Decision, got.Failure, want.Decision, want.Reasons)
			}
		}
	})
}

// BenchmarkEvaluate asks the starter policy about a TEE with a GPU.
func BenchmarkEvaluate(b *testing.B) {
	doc, err := guesttest.Document("gpu")
	if err != nil {
		b.Fatal(err)
	}
	m := guesttest.Metadata("starter", policywasm.JSON)
	for _, tt := range []struct {
		name   string
		engine policywasm.Engine
		pool   int
	}{{"fresh", policywasm.Auto, 0}, {"pooled", policywasm.Auto, 1}, {"interpreter", policywasm.Interpreter, 0}} {
		b.Run(tt.name, func(b *testing.B) {
			c := guesttest.Caps(tt.engine)
			c.Pool = tt.pool
			p := load(b, file(b, "starter.wasm"), c, &m)
			in := input(b, string(doc))
			b.ReportAllocs()
			for b.Loop() {
				if r := p.Evaluate(b.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: in}); r.Decision != policywasm.Allow {
					b.Fatal(r.Failure)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	m := guesttest.Metadata("starter", policywasm.JSON)
	for name, e := range engines {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p, err := rego.Load(b.Context(), file(b, "starter.wasm"), guesttest.Caps(e), &m)
				if err != nil {
					b.Fatal(err)
				}
				_ = p.Close(b.Context())
			}
		})
	}
}
