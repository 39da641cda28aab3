package schema

import (
	"slices"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

var policyShapes = map[string]struct {
	def, rule string
	validate  func([]byte) error
}{
	"document": {"Document", "policy-document", ValidatePolicyDocument},
	"result":   {"Result", "policy-result", ValidatePolicyResult},
}

func policyCases(t testing.TB) []trustCase {
	t.Helper()
	var cases []trustCase
	loadYAML(t, "testdata/policy.yaml", &cases)
	return cases
}

// The schema and the grammar say the same of each document and result, but for
// patterns and what depends on another member.
func TestPolicyShapes(t *testing.T) {
	jsonOnly := []string{"/peer/thumbprint=\"AA\"", "/peer/config=\"0F\"", "/peer/config=\"000\"", "/devices/0/platform=\"\"", "/devices/0/checks/0/name=\"\"", "/call=null",
		"/question=\"appraise\" @ /call", "/reasons/0/code=\"A\"", "/reasons/0/code=\"a b\"", "/obligations/0/id=\"A\""}
	for _, c := range policyCases(t) {
		s := policyShapes[c.Shape]
		check := func(name string, doc any, at string, cbor bool) {
			b := marshal(t, doc)
			if err := s.validate(b); at == "ok" && err != nil {
				t.Errorf("%s: %v", name, err)
			} else if at != "ok" {
				oneCause(t, name, err, at)
			}
			item, err := dcbor.FromJSON(nil, b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := ValidateCBOR(s.rule, item); (err == nil) != cbor {
				t.Errorf("%s, in CBOR: %v", name, err)
			}
		}
		check(c.Name, c.Message, "ok", true)
		for _, bad := range c.Bad {
			e := parseEdit(t, bad)
			doc := clone(t, c.Message).(map[string]any)
			e.apply(t, doc)
			check(c.Name+": "+bad, doc, e.at, slices.Contains(jsonOnly, bad))
		}
	}
}

// Bounds on numbers of entries and lengths.
func TestPolicyBounds(t *testing.T) {
	times := func(n int, s string) string { return "[" + strings.TrimSuffix(strings.Repeat(s+",", n), ",") + "]" }
	x := func(n int) string { return strings.Repeat("x", n) }
	for doc, ok := range map[string]bool{
		`{"decision":"deny","reasons":` + times(32, `{"code":"a"}`) + `}`:             true,
		`{"decision":"deny","reasons":` + times(33, `{"code":"a"}`) + `}`:             false,
		`{"decision":"deny","obligations":` + times(16, `{"id":"a","value":1}`) + `}`: true,
		`{"decision":"deny","obligations":` + times(17, `{"id":"a","value":1}`) + `}`: false,
		`{"decision":"deny","reasons":[{"code":"` + x(64) + `"}]}`:                    true,
		`{"decision":"deny","reasons":[{"code":"` + x(65) + `"}]}`:                    false,
		`{"decision":"deny","reasons":[{"code":"a","text":"` + x(256) + `"}]}`:        true,
		`{"decision":"deny","reasons":[{"code":"a","text":"` + x(257) + `"}]}`:        false,
		`{"decision":"deny","reasons":[{"code":"a","claim":"` + x(257) + `"}]}`:       false,
	} {
		item, err := dcbor.FromJSON(nil, []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		for how, err := range map[string]error{"JSON": ValidatePolicyResult([]byte(doc)), "CBOR": ValidateCBOR("policy-result", item)} {
			if (err == nil) != ok {
				t.Errorf("%s %.60s: %v", how, doc, err)
			}
		}
	}
}

// Each definition must be needed by a valid value and refuse an invalid one.
func TestPolicyDefinitionsAreExercised(t *testing.T) {
	defs, err := compileDefs(files, "trust/policy.json", []string{"Integer", "Time", "MaybeTime", "MaybeText", "MaybeHex", "Texts", "Value", "Document", "Peer", "Device",
		"Check", "Status", "TCB", "References", "Call", "Code", "Short", "Claim", "Result"})
	if err != nil {
		t.Fatal(err)
	}
	var good, bad []func() bool
	run := func(def string, doc any) func() bool {
		return func() bool { w := &walk{}; w.check(defs[def], doc); return len(w.out) == 0 }
	}
	for _, c := range policyCases(t) {
		def := policyShapes[c.Shape].def
		good = append(good, run(def, clone(t, c.Message)))
		for _, b := range c.Bad {
			doc := clone(t, c.Message).(map[string]any)
			parseEdit(t, b).apply(t, doc)
			bad = append(bad, run(def, doc))
		}
	}
	for name, n := range defs {
		saved := *n
		*n = node{never: true}
		if !slices.ContainsFunc(good, func(f func() bool) bool { return !f() }) {
			t.Errorf("%s: no valid value uses it", name)
		}
		*n = *anything
		if !slices.ContainsFunc(bad, func(f func() bool) bool { return f() }) {
			t.Errorf("%s: no invalid value fails by it alone", name)
		}
		*n = saved
	}
}

// policyCBOR are cases of the rules of chapter 20, for [TestCBOR] and the
// comparison with the grammar.
func policyCBOR() (out []cborCase) {
	add := func(rule, name string, data item, at string) { out = append(out, cborCase{rule, name, data, at, ""}) }
	meta := []item{u(1), u(1), u(2), s("n"), u(3), s("1"), u(4), s(""), u(5), s("Apache-2.0"), u(6), a(s("appraise"), s("authorize")), u(7), s("json"), u(8), a(s("/debug")), u(9), u(1 << 40), u(10), u(0), u(11), no}
	add("policy-metadata", "whole", m(meta...), "ok")
	for k, bad := range map[uint64]struct {
		v  item
		at string
	}{
		1: {s("1"), "/1"}, 2: {s(""), "/2"}, 3: {s(strings.Repeat("x", 129)), "/3"}, 4: {nul, "/4"}, 5: {b(1), "/5"}, 6: {a(), "/6"}, 7: {s("xml"), "/7"}, 8: {a(u(1)), "/8/0"},
		9: {i(-1), "/9"}, 10: {s("1"), "/10"}, 11: {u(0), "/11"},
	} {
		add("policy-metadata", "member", m(with(meta, u(k), bad.v)...), bad.at)
		add("policy-metadata", "missing member", m(without(meta, u(k))...), "/"+itoa(int64(k)))
	}
	add("policy-metadata", "another entry", m(with(meta, u(6), a(s("decide")))...), "/6/0")
	add("policy-metadata", "three entries", m(with(meta, u(6), a(s("appraise"), s("appraise"), s("appraise")))...), "/6")
	add("policy-metadata", "257 inputs", m(with(meta, u(8), a(slices.Repeat([]item{s("")}, 257)...))...), "/8")
	add("policy-metadata", "a member more", m(append(slices.Clone(meta), u(12), yes)...), "/12")
	add("policy-metadata", "a text key", m(append(slices.Clone(meta), s("x"), yes)...), "/x")

	text := func(rule, name, doc, at string) {
		item, err := dcbor.FromJSON(nil, []byte(doc))
		if err != nil {
			panic(err)
		}
		add(rule, name, item, at)
	}
	text("policy-result", "whole", `{"decision":"allow","obligations":[{"id":"a","value":{"x":[0.5,null,-1]}}],"reasons":[{"claim":"/a","code":"c","text":""}],"vector":{"hardware":-128}}`, "ok")
	text("policy-result", "a claim too large", `{"decision":"allow","vector":{"hardware":128}}`, "/vector/hardware")
	text("policy-result", "a claim that is not known", `{"decision":"allow","vector":{"firmware":1}}`, "/vector/firmware")
	add("policy-result", "bytes", m(s("decision"), s("deny"), s("obligations"), a(m(s("id"), s("a"), s("value"), b(1)))), "/obligations/0/value")
	device := `{"label":"","kind":"tdx","proven":true,"simulated":true,"debug":false,"platform":null,"checks":[],"tcb":null,"references":null,"claims":{"a":["x"],"b":1},"not_after":null}`
	document := func(settings, device, call string) string {
		return `{"abi":1,"question":"appraise","time":-1,"settings":` + settings + `,"peer":{"role":null,"identity":null,"thumbprint":null,"profile":"none","config":null,"alone":true},"devices":[` + device + `],"call":` + call + `}`
	}
	text("policy-document", "least", document("null", "", "null"), "ok")
	text("policy-document", "a device", document("[]", device, "null"), "ok")
	text("policy-document", "a call", document("{}", "", `{"kind":"end","method":null,"name":null,"uri":null,"arguments":null,"revision":null,"carrier":"tls"}`), "ok")
	text("policy-document", "a double", document("0.5", "", "null"), "/settings")
	text("policy-document", "half a call", document("0", "", `{"kind":"end"}`), "/call/method")
	text("policy-document", "a claim of objects", document("0", strings.Replace(device, `"b":1`, `"b":{}`, 1), "null"), "/devices/0/claims/b")
	text("policy-document", "a status", document("0", strings.Replace(device, `"tcb":null`, `"tcb":{"status":"Fine"}`, 1), "null"), "/devices/0/tcb/status")
	return out
}
