package policy_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/gateway/policy"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
)

// shipped is one of the policies that ship with the module.
func shipped(t *testing.T, name, settings string) *policy.Policy {
	t.Helper()
	module, _ := policies.Module(name)
	p := must(policywasm.Load(t.Context(), module, policy.Caps()))
	m := policy.Member{Evaluator: p}
	if settings != "" {
		m.Settings = jsontext.Value(settings)
	}
	out := must(policy.New(policy.Config{Members: []policy.Member{m}}))
	t.Cleanup(func() { _ = out.Close(t.Context()) })
	return out
}

// drawFacts draws what verification may come to.
func drawFacts(t *rapid.T) *appraise.Facts {
	f := &appraise.Facts{Alone: rapid.IntRange(0, 4).Draw(t, "alone") == 0, Now: time.Unix(20_000*86400, 0).UTC()}
	often := func(name string) bool { return rapid.IntRange(0, 31).Draw(t, name) > 0 }
	date := func(name string) time.Time {
		return rapid.SampledFrom([]time.Time{{}, f.Now.Add(-10 * 24 * time.Hour), f.Now.Add(-10*24*time.Hour - time.Second), f.Now.Add(time.Second - 10*24*time.Hour), f.Now, f.Now.Add(-400 * 24 * time.Hour)}).Draw(t, name)
	}
	kinds := []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA, evidence.NVIDIA, evidence.NVIDIA, evidence.NVIDIA}
	for i := range rapid.IntRange(0, 3).Draw(t, "devices") {
		d := appraise.Device{Label: fmt.Sprintf("d-%d/x", i), Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		d.Checks.Add("signature", evidence.Pass, "")
		d.Checks.Add("revocation", rapid.SampledFrom([]evidence.Outcome{evidence.Pass, evidence.Warn, evidence.NotPerformed}).Draw(t, "outcome"), "")
		if !often("checked") {
			d.Checks.Add("binding", evidence.Fail, "")
		}
		if often("status") {
			s := rapid.SampledFrom([]evidence.TCBStatus{evidence.UpToDate, evidence.UpToDate, evidence.UpToDate, evidence.UpToDate, evidence.UpToDate, evidence.UpToDate, evidence.UpToDate, evidence.UpToDate, evidence.OutOfDate, evidence.SWHardeningNeeded, evidence.ConfigurationNeeded,
				evidence.ConfigurationAndSWHardeningNeeded, evidence.OutOfDate, evidence.OutOfDateConfigurationNeeded, evidence.Revoked, evidence.Unrecognized, "", "uptodate"}).Draw(t, "tcb")
			d.TCB = &evidence.TCB{Status: s, Date: date("date"), OutOfDateSince: date("since")}
		}
		if often("proven") { // nothing else is compared
			if often("compared") {
				d.References = &appraise.Comparison{Known: often("known"), Matched: often("matched")}
			}
			d.Claims = &evidence.Claims{Kind: d.Kind, Debug: !often("closed"), Simulated: !often("genuine"), Values: drawClaims(t)}
		}
		f.Devices = append(f.Devices, d)
	}
	return f
}

// drawClaims draws those that policies look at.
func drawClaims(t *rapid.T) map[string]any {
	out := map[string]any{}
	bytes := func(s string) any { return must(hex.DecodeString(s)) }
	for _, c := range []struct {
		name   string
		values []any
	}{
		{"snp.policy", []any{uint64(0x30000), uint64(0), uint64(1<<53 - 1 - 1<<18), uint64(0x70000), uint64(1 << 18)}},
		{"tdx.mrservicetd", []any{make([]byte, 48), make([]byte, 48), []byte{}, append(make([]byte, 47), 1)}},
		{"tdx.tdattributes", []any{make([]byte, 8), bytes("0000001000000000"), bytes("ffffffdfffffffff"), bytes("00000020"), bytes("0000002000000000"), bytes("000000ff00000000")}},
		{"nvidia.arch", []any{"HOPPER", "LS10", "", "ls10"}},
		{"tdx.mrtd", []any{[]byte{1}, []byte{0xab}, []byte{2}}},
		{"snp.measurement", []any{[]byte{1}, []byte{2}}},
		{"intel.pcesvn", []any{uint64(11), uint64(11), uint64(12)}},
	} {
		// Mostly the first, or none.
		if i := rapid.IntRange(-6, 6+len(c.values)-1).Draw(t, c.name); i >= 0 {
			out[c.name] = c.values[max(i-6, 0)]
		}
	}
	return out
}

// moduleOnly reports names of checks that only the modules make: the built-in rules
// leave what they are about to the appraisal.
func moduleOnly(name string) bool {
	return name == "policy" || slices.ContainsFunc([]string{"policy-not-proven", "policy-simulated", "policy-check"}, func(p string) bool {
		return name == p || strings.HasPrefix(name, p+"-d-")
	})
}

func failing(c evidence.Checks) (names []string, accepted bool) {
	for _, k := range c.Failed() {
		// The rules name the claim in the check, modules in the reason's text.
		if rest, ok := strings.CutPrefix(k.Name, "policy-claim-"); ok {
			k.Name = "policy-claim"
			if rest = "-" + rest; strings.Contains(rest, "-d-") {
				k.Name += rest[strings.Index(rest, "-d-"):]
			}
		}
		if !moduleOnly(k.Name) {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), len(c.Failed()) == 0
}

// sound reports whether an appraisal could accept at all.
func sound(f *appraise.Facts) bool {
	return len(f.Devices) > 0 && !slices.ContainsFunc(f.Devices, func(d appraise.Device) bool {
		return d.Claims == nil || d.Claims.Simulated || len(d.Checks.Failed()) > 0
	})
}

// TestShippedAgree holds the policies that ship with the module against the
// built-in rules of the same meaning: the same decisions, and the same checks.
func TestShippedAgree(t *testing.T) {
	claims := map[string][]string{"tdx.mrtd": {"01", "AB"}, "snp.measurement": {"01"}, "intel.pcesvn": {"11"}}
	for _, tt := range []struct {
		name, settings string
		rules          appraise.Rules
	}{
		{"strict", "", appraise.Strict().Rules()},
		{"gpu-required", "", appraise.Rules{Name: "gpu", GPU: true, TCB: appraise.TCBRules{Unknown: true}}},
		{"tcb-grace", `{"days":10}`, appraise.Rules{Name: "grace", TCB: appraise.TCBRules{Unknown: true, GraceDays: 10}}},
		{"tcb-grace", `{"days":0}`, appraise.Rules{Name: "grace", TCB: appraise.TCBRules{Unknown: true}}},
		{"allow-list", `{"claims":{"tdx.mrtd":["01","AB"],"snp.measurement":["01"],"intel.pcesvn":["11"]}}`, appraise.Rules{Name: "list", Claims: claims, TCB: appraise.TCBRules{Unknown: true}}},
		{"allow-list", `{"claims":{"tdx.mrservicetd":["` + strings.Repeat("00", 47) + `01"],"tdx.mrtd":["01"]}}`,
			appraise.Rules{Name: "list", Claims: map[string][]string{"tdx.mrservicetd": {strings.Repeat("00", 47) + "01"}, "tdx.mrtd": {"01"}}, TCB: appraise.TCBRules{Unknown: true}}},
	} {
		t.Run(tt.name+tt.settings[:min(len(tt.settings), 20)], func(t *testing.T) {
			module, rules := shipped(t, tt.name, tt.settings), must(appraise.NewRules(tt.rules))
			allowed, asked := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				for range 10 {
					f := drawFacts(t)
					got, accepts := failing(module.Decide(f))
					want, fine := failing(rules.Decide(f))
					if fine = fine && sound(f); accepts != fine {
						t.Fatalf("the module accepts: %v, the rules: %v\nmodule %v\nrules %v", accepts, fine, module.Decide(f).Failed(), rules.Decide(f).Failed())
					}
					if len(f.Devices) > 0 && !slices.Equal(got, want) {
						t.Fatalf("the module's checks fail with %v, those of the rules with %v", got, want)
					}
					if asked++; accepts {
						allowed++
					}
				}
			})
			if allowed == 0 || allowed == asked {
				t.Errorf("%d of %d are accepted: the test shows nothing", allowed, asked)
			}
			t.Logf("%d of %d accepted", allowed, asked)
		})
	}
}

// TestShippedOnRecorded is the same on evidence that real machines made.
func TestShippedOnRecorded(t *testing.T) {
	module := shipped(t, "strict", "")
	for _, name := range []string{"tdx", "sgx", "sev-snp", "nitro"} {
		f := recorded(t, name)
		for _, matched := range []*appraise.Comparison{nil, {Known: true, Matched: true}, {Known: true}, {Matched: true}} {
			f.Devices[0].References = matched
			got, accepts := failing(module.Decide(f))
			want, fine := failing(appraise.Strict().Decide(f))
			if !slices.Equal(got, want) || accepts != (fine && sound(f)) {
				t.Errorf("%s, %+v: the module fails with %v, the rules with %v", name, matched, got, want)
			}
		}
	}
}
