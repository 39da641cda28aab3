package appraise_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/protocol"
)

var now = sim.Epoch.Add(36 * time.Hour)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var image = sha256.Sum256([]byte("image"))

func newAppraiser(t testing.TB, p appraise.Policy, change func(*appraise.Config)) *appraise.Appraiser {
	t.Helper()
	cfg := appraise.Config{Verifiers: []evidence.Verifier{dcap.New(dcap.Options{})}, Anchors: vendor.Anchors(), Policy: p}
	if p.Development() {
		cfg.Simulator = sim.Default().Simulator()
	}
	if change != nil {
		change(&cfg)
	}
	a, err := appraise.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rules(change func(*appraise.Rules)) *appraise.RulesPolicy {
	r := appraise.Rules{Name: "test", Development: true, ReferenceValues: "optional"}
	if change != nil {
		change(&r)
	}
	return must(appraise.NewRules(r))
}

func attest(t testing.TB, o sim.Options, data []byte) []byte {
	t.Helper()
	o.Image = image
	tee := must(sim.Default().TEE(o))
	b, err := tee.Attest(context.Background(), [64]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var data = bytes.Repeat([]byte{0x5a}, 64)

func evaluate(t testing.TB, p appraise.Policy, o sim.Options) *appraise.Result {
	t.Helper()
	return newAppraiser(t, p, nil).Evaluate(appraise.Input{CMW: attest(t, o, data), ReportData: data, Now: now})
}

func accepted(t *testing.T, r *appraise.Result) {
	t.Helper()
	if r.Verdict != appraise.Accepted || r.Err() != nil {
		t.Fatalf("refused:\n%s", r.Explanation())
	}
}

// refused wants exactly one failed check, so that a test shows its one cause.
func refused(t *testing.T, r *appraise.Result, check, detail string) {
	t.Helper()
	if r.Verdict != appraise.Refused || r.Err() == nil {
		t.Fatalf("accepted, want a failure of %s", check)
	}
	fails := r.Checks.Failed()
	if len(fails) != 1 || fails[0].Name != check || !strings.Contains(fails[0].Detail, detail) {
		t.Errorf("want one failure, of %s with %q; found\n%s", check, detail, r.Explanation())
	}
}

func TestSimulatedEvidence(t *testing.T) {
	r := evaluate(t, appraise.Simulated(), sim.Options{})
	accepted(t, r)
	if !r.Simulated || !strings.Contains(r.Explanation(), "SIMULATED") {
		t.Errorf("not labelled as simulated: %s", r.Explanation())
	}
	if r.TCB == nil || r.TCB.Status != evidence.UpToDate {
		t.Errorf("TCB %+v", r.TCB)
	}
	if !r.Expires.After(now) || r.Expires.After(now.Add(31*24*time.Hour)) {
		t.Errorf("the result ends %v", r.Expires)
	}
}

// No policy for production accepts a simulated TEE, however it is configured.
func TestSimulatorNeverInProduction(t *testing.T) {
	cmw := attest(t, sim.Options{}, data)
	production := []appraise.Policy{appraise.Strict(), rules(func(r *appraise.Rules) { r.Development = false; r.Debug = true; r.TCB.Unknown = true })}
	for _, p := range production {
		_, err := appraise.New(appraise.Config{Verifiers: []evidence.Verifier{dcap.New(dcap.Options{})}, Anchors: vendor.Anchors(), Policy: p, Simulator: sim.Default().Simulator()})
		if err == nil {
			t.Errorf("%s: takes a simulator's roots", p.Name())
		}
		r := newAppraiser(t, p, nil).Evaluate(appraise.Input{CMW: cmw, ReportData: data, Now: now})
		if r.Verdict != appraise.Refused {
			t.Errorf("%s: accepts a simulated TEE", p.Name())
		}
	}
	anchors := *vendor.Anchors()
	anchors.Intel = append(anchors.Intel, sim.Default().Simulator().Anchors().Intel...)
	if _, err := appraise.New(appraise.Config{Verifiers: []evidence.Verifier{dcap.New(dcap.Options{})}, Anchors: &anchors, Policy: appraise.Strict()}); err == nil {
		t.Error("a simulator's root is taken for Intel's")
	}
	if _, err := appraise.New(appraise.Config{Verifiers: []evidence.Verifier{dcap.New(dcap.Options{})}, Anchors: vendor.Anchors(), Policy: appraise.Simulated()}); err == nil {
		t.Error("a policy for development without a simulator")
	}
	// A verifier that says of a simulated TEE what is not so is caught by the policy.
	r := newAppraiser(t, appraise.Simulated(), func(c *appraise.Config) { c.Simulator = must(sim.New([]byte(sim.OtherSeed))).Simulator() }).
		Evaluate(appraise.Input{CMW: cmw, ReportData: data, Now: now})
	if r.Verdict != appraise.Refused {
		t.Error("another world's evidence is accepted")
	}
}

func TestPolicyRules(t *testing.T) {
	tee := must(sim.Default().TEE(sim.Options{Image: image}))
	plain := newAppraiser(t, rules(nil), nil).Evaluate(appraise.Input{CMW: must(tee.Attest(t.Context(), [64]byte(data))), ReportData: data, Now: now})
	accepted(t, plain)
	claims := plain.Devices[0].Claims
	platform := show(claims.Platform)
	late := sim.Options{Collateral: sim.Collateral{Platform: sim.Level{Status: evidence.OutOfDate, Advisories: []string{"INTEL-SA-01234"}}}}
	for name, tt := range map[string]struct {
		rules  func(*appraise.Rules)
		tee    sim.Options
		check  string // "" when accepted
		detail string
	}{
		"other kinds":     {rules: func(r *appraise.Rules) { r.TEEs = []evidence.Kind{evidence.SNP} }, check: "policy-tee", detail: "tdx"},
		"this kind":       {rules: func(r *appraise.Rules) { r.TEEs = []evidence.Kind{evidence.TDX} }},
		"out of date":     {tee: late, check: "policy-tcb", detail: "platform TCB OutOfDate since 2"},
		"advisory named":  {tee: late, check: "policy-tcb", detail: "INTEL-SA-01234"},
		"accepted status": {tee: late, rules: func(r *appraise.Rules) { r.TCB.Accept = []evidence.TCBStatus{evidence.OutOfDate} }},
		"denied advisory": {tee: late, rules: func(r *appraise.Rules) {
			r.TCB.Accept = []evidence.TCBStatus{evidence.OutOfDate}
			r.TCB.DenyAdvisories = []string{"INTEL-SA-01234"}
		}, check: "policy-tcb-advisory"},
		"allowed advisories": {tee: late, rules: func(r *appraise.Rules) {
			r.TCB.Accept = []evidence.TCBStatus{evidence.OutOfDate}
			r.TCB.AllowAdvisories = []string{"INTEL-SA-00001"}
		}, check: "policy-tcb-advisory"},
		"grace over":         {tee: late, rules: func(r *appraise.Rules) { r.TCB.GraceDays = 1 }, check: "policy-tcb", detail: "policy allows 1 days"},
		"grace":              {tee: late, rules: func(r *appraise.Rules) { r.TCB.GraceDays = 3650 }},
		"evaluation number":  {rules: func(r *appraise.Rules) { r.TCB.MinEvaluationNumber = 21 }, check: "policy-tcb-evaluation", detail: "20"},
		"evaluation reached": {rules: func(r *appraise.Rules) { r.TCB.MinEvaluationNumber = 20 }},
		"claim": {rules: func(r *appraise.Rules) {
			r.Claims = map[string][]string{"tdx.mrtd": {show(claims.Values["tdx.mrtd"].([]byte))}}
			r.ReferenceValues = ""
		}},
		"claim differs":        {rules: func(r *appraise.Rules) { r.Claims = map[string][]string{"tdx.mrtd": {"00"}} }, check: "claim"},
		"claim missing":        {rules: func(r *appraise.Rules) { r.Claims = map[string][]string{"tdx.nosuch": {"00"}} }, check: "claim"},
		"claim of others":      {rules: func(r *appraise.Rules) { r.Claims = map[string][]string{"snp.measurement": {"00"}} }, check: "policy-reference-values", detail: "of other kinds"},
		"no reference values":  {rules: func(r *appraise.Rules) { r.ReferenceValues = "required" }, check: "policy-reference-values"},
		"config demanded":      {rules: func(r *appraise.Rules) { r.ConfigRequired = true }, check: "policy-config", detail: "binds no digest"},
		"platform denied":      {rules: func(r *appraise.Rules) { r.DenyPlatforms = []string{platform} }, check: "policy-platform-denied"},
		"other denied":         {rules: func(r *appraise.Rules) { r.DenyPlatforms = []string{"00"} }},
		"gpu demanded":         {rules: func(r *appraise.Rules) { r.GPU = true }, check: "policy-gpu"},
		"check demanded":       {rules: func(r *appraise.Rules) { r.Checks = []string{"event-log"} }, check: "policy-check-event-log"},
		"check never heard of": {rules: func(r *appraise.Rules) { r.Checks = []string{"vibes"} }, check: "policy-check-vibes"},
		"check passed":         {rules: func(r *appraise.Rules) { r.Checks = []string{"quote-signature"} }},
	} {
		t.Run(name, func(t *testing.T) {
			r := evaluate(t, rules(tt.rules), tt.tee)
			switch tt.check {
			case "":
				accepted(t, r)
			case "claim":
				if r.Verdict != appraise.Refused || len(r.Checks.Failed()) != 1 || !strings.HasPrefix(r.Checks.Failed()[0].Name, "policy-claim-") {
					t.Error(r.Explanation())
				}
			default:
				refused(t, r, tt.check, tt.detail)
			}
		})
	}
}

func show(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func TestBinding(t *testing.T) {
	a := newAppraiser(t, rules(nil), nil)
	w := attest(t, sim.Options{}, data)
	other := bytes.Repeat([]byte{1}, 64)
	refused(t, a.Evaluate(appraise.Input{CMW: w, ReportData: other, Now: now}), "binding", "made for another key")
	refused(t, a.Evaluate(appraise.Input{CMW: w, ReportData: data[:63], Now: now}), "binding", "")
	refused(t, a.Evaluate(appraise.Input{CMW: w, Now: now}), "binding", "nothing is given")
	accepted(t, a.Evaluate(appraise.Input{CMW: w, Unbound: true, Now: now}))
	refused(t, a.Evaluate(appraise.Input{CMW: w, ReportData: data}), "time", "")
	zero := a.Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, make([]byte, 64)), ReportData: []byte{}, Now: now})
	if zero.Verdict != appraise.Refused {
		t.Error("empty report data match")
	}
}

func TestWrapper(t *testing.T) {
	a := newAppraiser(t, rules(nil), nil)
	whole := must(cmw.ParseCBOR(attest(t, sim.Options{}, data)))
	var quote []byte
	if err := whole.Walk(func(_ cmw.Path, r *cmw.Record) error {
		if r.Ind == cmw.Evidence {
			quote = r.Value
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	try := func(w *cmw.CMW) *appraise.Result {
		return a.Evaluate(appraise.Input{CMW: must(w.Encode()), ReportData: data, Now: now})
	}
	two := cmw.NewCollection(appraise.CollectionType,
		cmw.Entry{Label: cmw.TextLabel("cpu"), CMW: cmw.NewRecord(evidence.TypeTDX, quote, cmw.Evidence)},
		cmw.Entry{Label: cmw.TextLabel("cpu-2"), CMW: cmw.NewRecord(evidence.TypeTDX, quote, cmw.Evidence)},
		cmw.Entry{Label: cmw.TextLabel("e"), CMW: cmw.NewRecord(evidence.TypeDCAPCollateral, collateral(t, whole), cmw.Endorsements)})
	refused(t, try(two), "binding/cpu-2", "a second CPU")
	for name, w := range map[string]*cmw.CMW{
		"unknown type":  cmw.NewRecord("application/x-unknown", quote, cmw.Evidence),
		"no evidence":   cmw.NewRecord(evidence.TypeDCAPCollateral, []byte("{}"), cmw.Endorsements),
		"policy inside": cmw.NewRecord(evidence.TypeTDX, quote, cmw.AppraisalPolicy),
		"a result":      cmw.NewRecord("application/eat+jwt", []byte("x.y.z"), cmw.AttestationResults),
	} {
		if r := try(w); r.Verdict != appraise.Refused || len(r.Checks.Failed()) == 0 {
			t.Errorf("%s: %s", name, r.Explanation())
		}
	}
	for _, b := range [][]byte{nil, {}, {0x80}, []byte("junk"), bytes.Repeat([]byte{0x81}, 1000)} {
		if r := a.Evaluate(appraise.Input{CMW: b, ReportData: data, Now: now}); r.Verdict != appraise.Refused {
			t.Errorf("%x accepted", b)
		}
	}
}

func collateral(t *testing.T, w *cmw.CMW) (found []byte) {
	t.Helper()
	if err := w.Walk(func(_ cmw.Path, r *cmw.Record) error {
		if r.Ind == cmw.Endorsements {
			found = r.Value
		}
		return nil
	}); err != nil || found == nil {
		t.Fatal("no collateral is stapled")
	}
	return found
}

func TestParseRules(t *testing.T) {
	p, err := appraise.ParseRules([]byte(`{"name":"x","tcb":{"accept":["UpToDate"],"grace_days":30}}`))
	if err != nil {
		t.Fatal(err)
	}
	same := must(appraise.ParseRules([]byte(`{ "tcb": {"grace_days":30, "accept":["UpToDate"]}, "name":"x"}`)))
	if p.Digest() != same.Digest() {
		t.Error("the digest depends on the spelling")
	}
	if p.Digest() == must(appraise.ParseRules([]byte(`{"name":"x","tcb":{"accept":["UpToDate"],"grace_days":31}}`))).Digest() {
		t.Error("the digest does not depend on the rules")
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"name":""}`, `{"name":"x","nmae":1}`, `{"name":"x","Name":"y"}`, `{"name":"x","name":"y"}`, `{"name":"x"} x`,
		`{"name":"x","tees":["sim"]}`, `{"name":"x","tcb":{"accept":["Revoked"]}}`, `{"name":"x","tcb":{"accept":["Unrecognized"]}}`, `{"name":"x","tcb":{"grace_days":-1}}`,
		`{"name":"x","tcb":{"grace":1}}`, `{"name":"x","reference_values":"never"}`, `{"name":"x","config":["zz"]}`, `{"name":"x","config":["00"]}`,
		`{"name":"x","platforms":["g"]}`, `{"name":"x","claims":{"tdx.mrtd":[]}}`, `{"name":"x","development":true,"platforms":["00"]}`} {
		if _, err := appraise.ParseRules([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// The appraiser of key objects.
func TestAppraiseKeyObject(t *testing.T) {
	id := must(protocol.GenerateIdentity("https://mcp.example.com/mcp"))
	settings := must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileAttested}}))
	s := must(protocol.NewServer(protocol.ServerConfig{Identity: id, Settings: settings, Attestation: &protocol.Attestation{Attester: must(sim.Default().TEE(sim.Options{Image: image}))}}))
	object, _, err := s.KeyObject(now)
	if err != nil {
		t.Fatal(err)
	}
	p := rules(nil)
	want := protocol.Expect{Identity: id.URI(), Anchor: protocol.Pin(id.Thumbprint()), Settings: settings, Now: now, Profile: protocol.ProfileAttested, Appraiser: newAppraiser(t, p, nil)}
	peer, err := protocol.VerifyKeyObject(object, want)
	if err != nil {
		t.Fatal(err)
	}
	if a := peer.Appraisal(); !a.Simulated || a.Policy != p.Digest() || !strings.Contains(a.Summary, "accepted") {
		t.Errorf("%+v", a)
	}
	want.Appraiser = newAppraiser(t, rules(func(r *appraise.Rules) { r.ConfigRequired = true }), nil)
	if _, err = protocol.VerifyKeyObject(object, want); !protocol.IsReason(err, protocol.EvidenceRefused) || !strings.Contains(err.Error(), "policy-config") {
		t.Errorf("%v", err)
	}
}

func TestEAR(t *testing.T) {
	good := evaluate(t, rules(func(r *appraise.Rules) { r.Claims = map[string][]string{"tdx.mrtd": {show(mrtd(t))}} }), sim.Options{})
	accepted(t, good)
	e := good.EAR()
	a := e.Submods["cpu"]
	if a == nil || a.Status != ear.Warning || a.Vector[ear.Hardware] != ear.UnsafeHardware || a.Vector[ear.Executables] != ear.ApprovedRuntime {
		t.Errorf("a simulated TEE: %+v", a)
	}
	if d, ok := ear.PolicyDigest(a.Policies[0]); !ok || d != [32]byte(good.Policy.Digest()) {
		t.Errorf("policies %v", a.Policies)
	}
	again, err := ear.ParseCBOR(must(e.EncodeCBOR()))
	if err != nil || again.Submods["cpu"].Extension.Kind != evidence.TDX || !again.Submods["cpu"].Extension.Simulated {
		t.Errorf("%v", err)
	}
	for name, r := range map[string]*appraise.Result{
		"binding": newAppraiser(t, rules(nil), nil).Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: make([]byte, 64), Now: now}),
		"policy":  evaluate(t, rules(func(r *appraise.Rules) { r.GPU = true }), sim.Options{}),
		"debug":   evaluate(t, rules(nil), sim.Options{Debug: true}),
		"junk":    newAppraiser(t, rules(nil), nil).Evaluate(appraise.Input{CMW: []byte("junk"), ReportData: data, Now: now}),
		"genuine": newAppraiser(t, appraise.Strict(), nil).Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: data, Now: now}),
	} {
		e := r.EAR()
		if e.Overall() != ear.Contraindicated || r.Verdict != appraise.Refused {
			t.Errorf("%s: %s, status %v", name, r.Verdict, e.Overall())
		}
		if _, err := e.EncodeJSON(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mrtd(t *testing.T) []byte {
	m := sim.Measurements(evidence.TDX, image)["tdx.mrtd"]
	if m == nil {
		t.Fatal("no MRTD is simulated")
	}
	return m
}
