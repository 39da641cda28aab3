package policy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// No policy can do without a match where there are reference values: not even by
// a reason that has the name of the check that would fail.
func TestNotesHideNoMismatch(t *testing.T) {
	for name, tt := range map[string]struct {
		labels []string
		why    policywasm.Reason
	}{
		"the same name":         {[]string{""}, policywasm.Reason{Code: "reference-values", Text: "fine"}},
		"of a device":           {[]string{"cpu", "gpu"}, policywasm.Reason{Code: "reference-values", Claim: "/devices/0/references"}},
		"a label in a code":     {[]string{"cpu", "gpu"}, policywasm.Reason{Code: "reference-values-cpu"}},
		"a code in a label":     {[]string{"cpu", "values-cpu"}, policywasm.Reason{Code: "reference", Claim: "/devices/1/references"}},
		"of one that abstained": {[]string{""}, policywasm.Reason{Code: "reference-values"}},
	} {
		good := &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow}}
		noting := &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow, Reasons: []policywasm.Reason{tt.why}}}
		if strings.Contains(name, "abstained") {
			noting.result.Decision = policywasm.Abstain
		}
		p := must(policy.New(policy.Config{Members: []policy.Member{{Evaluator: noting}, {Evaluator: good}}}))
		f := &appraise.Facts{Now: time.Unix(1_795_176_000, 0)}
		for i, l := range tt.labels {
			f.Devices = append(f.Devices, appraise.Device{Label: l, Kind: evidence.TDX, Claims: &evidence.Claims{}, References: &appraise.Comparison{Known: true, Matched: i > 0}})
		}
		if failed := p.Judge(f).Checks.Failed(); len(failed) != 1 || !strings.HasPrefix(failed[0].Name, "policy-reference-values") {
			t.Errorf("%s: %v failed", name, failed)
		}
	}
}

// What a module calls itself is no reason to get settings that are meant for
// another.
func TestSettingsOfOne(t *testing.T) {
	meta := corpus.Meta()
	meta.Name = "tools"
	stranger := file(t, "stranger.wasm", corpus.Guest{Metadata: meta}.Module())
	settings := file(t, "s.json", []byte(`{"tools":{}}`))
	_, err := policy.Load(t.Context(), policy.Options{Names: []string{stranger, "tools"}, Settings: []string{"tools=" + settings}})
	if err == nil || !strings.Contains(err.Error(), "2 modules have the name") {
		t.Errorf("two modules of one name: %v", err)
	}
}

// The log says what became of a call.
func TestAuditTellsTheDecision(t *testing.T) {
	for name, obligations := range map[string][]policywasm.Obligation{
		"not true":     {{ID: policy.Audit, Value: jsontext.Value("1")}},
		"and another":  {{ID: policy.Audit, Value: jsontext.Value("true")}, {ID: policy.ValidFor, Value: jsontext.Value("60")}},
		"another only": {{ID: policy.ValidFor, Value: jsontext.Value("60")}},
	} {
		var told []string
		p := must(policy.New(policy.Config{
			Members: []policy.Member{{Evaluator: &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow, Obligations: obligations}}}},
			Audit: func(_ *transport.Call, _ protocol.Digest, v *policywasm.Verdict) {
				told = append(told, v.Decision.String()+" "+v.Why)
			},
		}))
		if err := p.Authorize()(context.Background(), &transport.Call{Kind: transport.CallRequest, Method: "tools/call"}); err == nil {
			t.Errorf("%s: allowed", name)
		}
		if len(told) != 1 || !strings.HasPrefix(told[0], "deny ") || !strings.Contains(told[0], "not fulfilled") {
			t.Errorf("%s: the log has %q of a call that was denied", name, told)
		}
	}
}

// Rules that judge beside a module are part of what decided.
func TestRulesAreInTheDigest(t *testing.T) {
	c := &canned{meta: entries(), digest: [32]byte{1}}
	alone := must(policy.New(policy.Config{Members: []policy.Member{{Evaluator: c}}}))
	beside := must(policy.New(policy.Config{Members: []policy.Member{{Evaluator: c}}, Rules: appraise.Strict()}))
	if alone.Digest() != c.digest || beside.Digest() == c.digest {
		t.Errorf("alone it is %x, with rules %x", alone.Digest(), beside.Digest())
	}
}

// What only authorizes accepts no evidence.
func TestAuthorizerAcceptsNoEvidence(t *testing.T) {
	meta := entries()
	meta.Entries = []policywasm.Entry{policywasm.Authorize}
	p := must(policy.New(policy.Config{Members: []policy.Member{{Evaluator: &canned{meta: meta, result: policywasm.Result{Decision: policywasm.Allow}}}}}))
	if j := p.Judge(&appraise.Facts{}); len(j.Checks.Failed()) == 0 {
		t.Error("evidence is accepted that no policy was asked about")
	}
}

// Of several policies each gets its own settings, and arguments only where it
// declares them; what they have in common is made once.
func TestEachGetsItsOwn(t *testing.T) {
	member := func(settings string, inputs ...string) (*canned, policy.Member) {
		c := &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow}}
		c.meta.Inputs = inputs
		return c, policy.Member{Evaluator: c, Settings: jsontext.Value(settings)}
	}
	var all []*canned
	var cfg policy.Config
	for _, m := range []struct{ settings, input string }{{"", "/call/arguments"}, {"", "/call/name"}, {"", "/call/arguments"}, {`{"secret":1}`, "/call/name"}, {"", "/call/name"}, {`{"b":2}`, "/call/name"}, {"", "/call/name"}} {
		c, member := member(m.settings, m.input)
		if m.settings == "" {
			member.Settings = nil
		}
		all, cfg.Members = append(all, c), append(cfg.Members, member)
	}
	p := must(policy.New(cfg))
	if err := p.Authorize()(context.Background(), &transport.Call{Kind: transport.CallRequest, Method: "tools/call", Params: jsontext.Value(`{"name":"t","arguments":{"a":1}}`)}); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		want, settings := "null", "null"
		if c.meta.Inputs[0] == "/call/arguments" {
			want = `{"a":1}`
		}
		if s := cfg.Members[i].Settings; s != nil {
			settings = string(s)
		}
		if got := string(c.asked.Call.Arguments); got != want {
			t.Errorf("policy %d got the arguments %s, want %s", i, got, want)
		}
		if got := string(c.asked.Settings); got != settings {
			t.Errorf("policy %d got the settings %s, want %s", i, got, settings)
		}
	}
}

// Of several ends the earliest counts, in whatever order they come.
func TestEarliestEndCounts(t *testing.T) {
	now := time.Unix(1_795_176_000, 0)
	for _, ends := range [][]string{{"60", "3600"}, {"3600", "60"}} {
		var cfg policy.Config
		for _, e := range ends {
			cfg.Members = append(cfg.Members, policy.Member{Evaluator: &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow,
				Obligations: []policywasm.Obligation{{ID: policy.ValidFor, Value: jsontext.Value(e)}}}}})
		}
		if j := must(policy.New(cfg)).Judge(&appraise.Facts{Now: now}); !j.Until.Equal(now.Add(time.Minute)) {
			t.Errorf("%v: until %v", ends, j.Until)
		}
	}
}

// What documents say at the edges of their data model.
func TestDocumentEdges(t *testing.T) {
	d := appraise.Device{Kind: evidence.TDX, Claims: &evidence.Claims{Values: map[string]any{"tdx.a": uint64(1<<53 - 1), "tdx.b": uint64(1 << 53), "tdx.c": ^uint64(0)}}}
	got := policy.Appraisal(&appraise.Facts{Devices: []appraise.Device{d}}).Devices[0].Claims
	if got["tdx.a"] != uint64(1<<53-1) || got["tdx.b"] != "9007199254740992" || got["tdx.c"] != "18446744073709551615" {
		t.Errorf("%v", got)
	}
	for want, c := range map[string]transport.Call{
		"none": {}, "http": {Carrier: protocol.HTTP}, "tls": {Party: transport.Party{Profile: protocol.ProfileAttestedTLS}},
		"inline": {Carrier: protocol.Inline, Party: transport.Party{Profile: protocol.ProfileAttested}},
	} {
		doc, err := policy.Authorization(&c, time.Unix(1, 0), false)
		if err != nil || doc.Call.Carrier != want {
			t.Errorf("%+v, want carrier %s: %v", doc, want, err)
		}
	}
}

// Verifiers are made by rules once: others need another start.
func TestReloadKeepsRules(t *testing.T) {
	rules := file(t, "rules.json", []byte(`{"name":"r"}`))
	l := must(policy.NewLive(t.Context(), policy.Options{Names: []string{rules, file(t, "m.wasm", guest("1", corpus.AllowAnswer))}}))
	defer l.Close(context.Background())
	was := l.Digest()
	file(t, rules, []byte(`{"name":"r","debug":true}`))
	if _, err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "restart") || l.Digest() != was {
		t.Errorf("other rules: %v", err)
	}
}

// Modules of strangers are compiled in the child; those that ship are not.
func TestStrangersGoToTheChild(t *testing.T) {
	o := policy.Options{Names: []string{file(t, "m.wasm", guest("1", corpus.AllowAnswer))}, Loader: runtime.Loader{Child: &runtime.Child{Program: "/nowhere"}}}
	if _, err := policy.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("a stranger's: %v", err)
	}
	o.Names = []string{"strict"}
	load(t, o)
}

// A bundle says how its policies decide; nothing else that is named changes that
// without a word.
func TestBundleRule(t *testing.T) {
	b := must(signed.NewBundle(signed.BundleManifest{Name: "b", Version: "1", Rule: "all-allow", Policies: []signed.BundlePolicy{{Module: "policies/a.wasm"}, {Module: "policies/b.wasm"}}},
		map[string][]byte{"policies/a.wasm": guest("1", corpus.AllowAnswer), "policies/b.wasm": guest("2", `{"decision":"abstain"}`)}, signed.DefaultLimits()))
	bundle, other := file(t, "b.tmcp", b.Bytes()), file(t, "m.wasm", guest("3", corpus.AllowAnswer))
	l := load(t, policy.Options{Names: []string{bundle}})
	if j := l.Appraises().(appraise.Judge).Judge(&appraise.Facts{}); len(j.Checks.Failed()) == 0 {
		t.Error("one of all abstains, and the bundle allows")
	}
	load(t, policy.Options{Names: []string{bundle, other}, Rule: "all-allow"})
	for _, o := range []policy.Options{{Names: []string{bundle}, Rule: "first-match"}, {Names: []string{bundle, other}}, {Names: []string{other, bundle}, Rule: "deny-overrides"}} {
		if _, err := policy.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "all-allow") {
			t.Errorf("%v: %v", o, err)
		}
	}
}

// What a module says of time reaches the result.
func TestValidForEndsTheResult(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	meta := corpus.Meta()
	meta.Development = true
	answer := strings.Replace(corpus.AllowAnswer, `"obligations":[]`, `"obligations":[{"id":"valid-for","value":60}]`, 1)
	l := load(t, policy.Options{Names: []string{file(t, "m.wasm", corpus.Guest{Metadata: meta, Answer: answer}.Module())}})
	data := [64]byte{1}
	w := must(must(sim.Default().TEE(sim.Options{Now: func() time.Time { return now }})).Attest(t.Context(), data))
	r := appraiser(t, l.Appraises(), true).Evaluate(appraise.Input{CMW: w, ReportData: data[:], Now: now})
	if r.Verdict != appraise.Accepted || !r.Expires.Equal(now.Add(time.Minute)) {
		t.Errorf("until %v: %s", r.Expires, r.Explanation())
	}
}
