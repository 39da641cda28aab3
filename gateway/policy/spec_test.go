package policy_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/gateway/policy"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/spec/vectors"
	"github.com/trustedmcp/tmcp/transport"
)

// A canned evaluator gives one result, and keeps the last document.
type canned struct {
	meta   policywasm.Metadata
	digest [32]byte
	result policywasm.Result
	asked  *document.Document
}

func (c *canned) Evaluate(_ context.Context, call policywasm.Call) *policywasm.Result {
	if b, err := call.Input.Bytes(policywasm.JSON); err == nil {
		c.asked, _ = document.Parse(b)
	}
	r := c.result
	return &r
}
func (c *canned) Digest() [32]byte              { return c.digest }
func (c *canned) Metadata() policywasm.Metadata { return c.meta }
func (c *canned) Close(context.Context) error   { return nil }

func entries() policywasm.Metadata {
	return policywasm.Metadata{Name: "canned", Entries: []policywasm.Entry{policywasm.Appraise, policywasm.Authorize}}
}

// TMCP-20.9-5: An implementation MUST name what decided by its policy digest
func TestDigestVectors(t *testing.T) {
	all := vectors.Group("policy-digest")
	if len(all) < 10 {
		t.Errorf("%d vectors", len(all))
	}
	rules := map[string]policywasm.Rule{"deny-overrides": policywasm.DenyOverrides, "first-match": policywasm.FirstMatch, "all-allow": policywasm.AllAllow}
	for _, v := range all {
		var in struct {
			Rule     string `json:"rule"`
			Policies []struct {
				Digest   vectors.Hex `json:"digest"`
				Settings *string     `json:"settings"`
			} `json:"policies"`
		}
		var out struct {
			Input  vectors.Hex `json:"digest_input"`
			Digest vectors.Hex `json:"digest"`
		}
		if err := v.Decode(&in, &out); err != nil {
			t.Fatal(err)
		}
		cfg := policy.Config{Rule: rules[in.Rule]}
		for _, p := range in.Policies {
			m := policy.Member{Evaluator: &canned{meta: entries(), digest: [32]byte(p.Digest)}}
			if p.Settings != nil {
				m.Settings = jsontext.Value(*p.Settings)
			}
			cfg.Members = append(cfg.Members, m)
		}
		p, err := policy.New(cfg)
		if err != nil {
			t.Fatalf("%s: %v", v.ID, err)
		}
		if d := p.Digest(); !bytes.Equal(d[:], out.Digest) {
			t.Errorf("%s: %x, want %x", v.ID, d, out.Digest)
		}
	}
}

// Obligations that can't be fulfilled deny.
//
// TMCP-20.11-6: A host that knows `valid-for` MUST end the attestation result no later than so many seconds after the document's time.
// TMCP-20.11-7: A host that knows `audit` MUST write the call, the policy digest and the decision to its log before the call goes on.
// TMCP-20.11-8: A host MUST take an obligation with a value of another type, or for the other question, for one that it does not know.
func TestObligations(t *testing.T) {
	now := time.Unix(1_795_176_000, 0)
	for _, tt := range []struct {
		id, value string
		appraise  time.Duration // of the result; 0: refused
		authorize bool
	}{
		{policy.ValidFor, "60", time.Minute, false},
		{policy.ValidFor, "0", 0, false},
		{policy.ValidFor, "-1", 0, false},
		{policy.ValidFor, `"60"`, 0, false},
		{policy.ValidFor, "1.5", 0, false},
		{policy.ValidFor, "true", 0, false},
		{policy.Audit, "true", 0, true},
		{policy.Audit, "false", 0, false},
		{policy.Audit, "1", 0, false},
	} {
		for _, told := range []bool{true, false} {
			c := &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow, Obligations: []policywasm.Obligation{{ID: tt.id, Value: jsontext.Value(tt.value)}}}}
			var log string
			cfg := policy.Config{Members: []policy.Member{{Evaluator: c}}, Clock: func() time.Time { return now }}
			if told {
				cfg.Audit = func(call *transport.Call, _ protocol.Digest, v *policywasm.Verdict) {
					log += call.Method + " " + v.Decision.String()
				}
			}
			p, err := policy.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			j := p.Judge(&appraise.Facts{Now: now})
			if good := j.Checks.Failed(); (len(good) == 0) != (tt.appraise != 0) || tt.appraise != 0 && !j.Until.Equal(now.Add(tt.appraise)) {
				t.Errorf("%s %s: appraised %v until %v", tt.id, tt.value, j.Checks, j.Until)
			}
			err = p.Authorize()(context.Background(), &transport.Call{Kind: "request", Method: "tools/call"})
			if want := tt.authorize && told; (err == nil) != want || err != nil && !protocol.IsReason(err, protocol.PolicyDenied) {
				t.Errorf("%s %s, logged: %v: authorized %v", tt.id, tt.value, told, err)
			}
			if tt.authorize && told && log != "tools/call allow" {
				t.Errorf("the log has %q", log)
			}
		}
	}
}

// Arguments of calls are for those who declare them, with numbers that guests
// read alike.
//
// TMCP-20.5-5: A host MUST give `call.arguments` as null to a policy whose metadata declares no input that begins with `/call/arguments`.
// TMCP-20.5-6: A host MUST give numbers in `call.arguments` and `claims` that are no such integers as text, spelled as they are.
func TestArguments(t *testing.T) {
	params := `{"name":"t","arguments":{"a":[1,-9007199254740991,9007199254740992,1.50,1e3,-0,true]}}`
	for input, want := range map[string]string{
		"/call/arguments":     `{"a":[1,-9007199254740991,"9007199254740992","1.50","1e3","-0",true]}`,
		"/call/arguments/a/0": `{"a":[1,-9007199254740991,"9007199254740992","1.50","1e3","-0",true]}`,
		"/call/name":          "null",
		"/call/argumentsx":    "null",
		"":                    "null",
	} {
		c := &canned{meta: entries(), result: policywasm.Result{Decision: policywasm.Allow}}
		if input != "" {
			c.meta.Inputs = []string{"/peer", input}
		}
		p, err := policy.New(policy.Config{Members: []policy.Member{{Evaluator: c}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Authorize()(context.Background(), &transport.Call{Kind: "request", Method: "tools/call", Params: jsontext.Value(params)}); err != nil {
			t.Fatal(err)
		}
		if got := string(c.asked.Call.Arguments); got != want {
			t.Errorf("%q: %s, want %s", input, got, want)
		}
		if c.asked.Call.Name == nil || *c.asked.Call.Name != "t" {
			t.Errorf("%q: name %v", input, c.asked.Call.Name)
		}
	}
}

// TMCP-20.11-3: Who denies a request MUST answer it with the error `policy-denied`, whose data has the policy digest and, where there are any, the codes of reasons or the reason of the failure.
func TestDenialTellsWhy(t *testing.T) {
	for want, r := range map[string]policywasm.Result{
		`["a","b"]`:       {Decision: policywasm.Deny, Reasons: []policywasm.Reason{{Code: "a", Text: "x"}, {Code: "b"}}},
		`["policy.trap"]`: {Failure: &policywasm.Failure{Reason: policywasm.ReasonTrap}},
		``:                {Decision: policywasm.Deny},
	} {
		p, err := policy.New(policy.Config{Members: []policy.Member{{Evaluator: &canned{meta: entries(), digest: [32]byte{0xd1}, result: r}}}})
		if err != nil {
			t.Fatal(err)
		}
		var e *protocol.Error
		if err := p.Authorize()(context.Background(), &transport.Call{Kind: "request"}); !errors.As(err, &e) || e.Reason != protocol.PolicyDenied {
			t.Fatalf("%v", err)
		}
		var data struct {
			Policy string         `json:"policy"`
			Codes  jsontext.Value `json:"codes"`
		}
		if err := json.Unmarshal(e.Data(), &data); err != nil {
			t.Fatal(err)
		}
		if data.Policy != "d1"+strings.Repeat("0", 62) || string(data.Codes) != want {
			t.Errorf("%+v, want %s", data, want)
		}
	}
}

// TMCP-20.5-4: A host MUST NOT tell of a device that is not proven more than its label, kind and checks.
func TestUnproven(t *testing.T) {
	f := &appraise.Facts{Devices: []appraise.Device{{
		Label: "cpu", Kind: evidence.TDX, Checks: evidence.Checks{{Name: "quote-signature", Outcome: evidence.Fail}},
		TCB: &evidence.TCB{Status: evidence.UpToDate}, References: &appraise.Comparison{Known: true, Matched: true},
	}}}
	got := policy.Appraisal(f).Devices
	want := document.Device{Label: "cpu", Kind: "tdx", Checks: []document.Check{{Name: "quote-signature", Outcome: "fail"}}}
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
