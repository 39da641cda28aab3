package verifier

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/testdata/hardware"
	"github.com/trustedmcp/tmcp/evidence/vendor"
)

// hardwareTime is when the evidence of real machines is verified.
var hardwareTime = time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)

// genuine makes a request about a quote of a real machine, under Intel's root.
func genuine(change func(*Request)) func() Request {
	return func() Request {
		quote := must(hardware.Read("tdx/phala-v4.quote"))
		r := Request{Op: OpEvidence, Time: hardwareTime.Unix(), Type: evidence.TypeTDX, Value: quote, ReportData: quote[48+520 : 48+584],
			Endorsements: []Item{{evidence.TypeDCAPCollateral, must(hardware.Read("tdx/phala-v4.collateral.json"))}},
			Anchors:      anchors(&evidence.Anchors{Intel: vendor.Anchors().Intel}), Policy: policy(obj{"development": false})}
		if change != nil {
			change(&r)
		}
		return r
	}
}

// genuinePlatform is the PPID of the real machine, in hex, as the policy names it.
const genuinePlatform = "811dca2a26b952e85bb6448b097ba4fd"

// genuineSNP makes a request about a report of a real machine, under AMD's root.
func genuineSNP(change func(*Request)) func() Request {
	return func() Request {
		report := must(hardware.Read("sevsnp/milan-v3-vlek.report"))
		var milan []evidence.AMDChain
		for _, c := range vendor.Anchors().AMD {
			if c.Product == "Milan" {
				milan = append(milan, c)
			}
		}
		r := Request{Op: OpEvidence, Time: hardwareTime.Unix(), Type: evidence.TypeSNP, Value: report, ReportData: report[0x50:0x90],
			Endorsements: []Item{{evidence.TypeCertificates, []byte(pemOfDER(must(hardware.Read("sevsnp/milan-v3.vlek.der"))))}},
			Anchors:      anchors(&evidence.Anchors{AMD: milan}), Policy: policy(obj{"development": false})}
		if change != nil {
			change(&r)
		}
		return r
	}
}

func hardwareVectors() []vector {
	allow := func(id string) func(*Request) {
		return func(r *Request) { r.Policy = policy(obj{"development": false, "platforms": []string{id}}) }
	}
	return []vector{
		{name: "genuine", req: "TMCP-18.6-1", title: "TDX: a quote of a real machine, under Intel's root", make: genuine(nil), look: func(t *conformance.T, a *asked) {
			if string(conformance.Member(a.Claims, "simulated")) == "true" {
				t.Violate("a genuine TEE is called simulated")
			}
		}},
		{name: "genuine-signature", req: "TMCP-18.6-1", title: "TDX: a quote of a real machine with a bit of its signature flipped", twin: "genuine", hole: "signature", make: genuine(func(r *Request) { r.Value = flip(48 + 584 + 4)(r.Value) })},
		{name: "genuine-measurement", req: "TMCP-18.6-1", title: "TDX: a quote of a real machine with a bit of MRTD flipped", twin: "genuine", hole: "signature", make: genuine(func(r *Request) { r.Value = flip(48 + 136)(r.Value) })},
		{name: "genuine-without-root", req: "TMCP-18.6-2", title: "TDX: a quote of a real machine, where another root is trusted", twin: "genuine", hole: "chain", make: genuine(func(r *Request) { r.Anchors = anchors(&evidence.Anchors{AWS: vendor.Anchors().AWS}) })},
		{name: "genuine-late", req: "TMCP-18.7-2", title: "TDX: a quote of a real machine, a year after its collateral ended", twin: "genuine", hole: "collateral-validity", make: genuine(func(r *Request) { r.Time += 365 * 86400 })},
		{name: "genuine-in-development", req: "TMCP-18.8-2", title: "TDX: a quote of a real machine, under a policy for simulated TEEs", twin: "genuine", hole: "production", make: genuine(func(r *Request) {
			r.Policy = policy(nil)
			r.Simulator = anchors(sim.Default().Simulator(evidence.TDX).Anchors())
		})},
		{name: "simulated-beside-genuine", req: "TMCP-18.8-2", title: "TDX: a simulated TEE, under a policy for genuine ones, where both roots are trusted", twin: "tdx", hole: "production", make: of(evidence.TDX, func(s *scene) {
			s.req.Policy = policy(obj{"development": false})
			s.req.Anchors = anchors(&evidence.Anchors{Intel: vendor.Anchors().Intel})
		})},
		{name: "genuine-snp", req: "TMCP-18.6-1", title: "SNP: a report of a real machine, under AMD's root", make: genuineSNP(nil)},
		{name: "genuine-snp-measurement", req: "TMCP-18.6-1", title: "SNP: a report of a real machine with a bit of its measurement flipped", twin: "genuine-snp", hole: "signature", make: genuineSNP(func(r *Request) { r.Value = flip(0x90)(r.Value) })},
		{name: "genuine-snp-late", req: "TMCP-18.6-3", title: "SNP: a report of a real machine, after its key's certificate ended", twin: "genuine-snp", hole: "validity", make: genuineSNP(func(r *Request) { r.Time += 3 * 365 * 86400 })},
		{name: "genuine-snp-no-key", req: "TMCP-18.6-5", title: "SNP: a report of a real machine without its key's certificate", twin: "genuine-snp", hole: "structure", make: genuineSNP(func(r *Request) { r.Endorsements = nil })},
		{name: "platform-listed", req: "TMCP-19.4-5", title: "TDX: a real machine that the policy lists", make: genuine(allow(genuinePlatform))},
		{name: "platform-not-listed", req: "TMCP-19.4-5", title: "TDX: a real machine, where the policy lists another", twin: "platform-listed", hole: "policy-platform", make: genuine(allow(strings.Repeat("ab", 16)))},
		{name: "platform-denied-genuine", req: "TMCP-19.4-5", title: "TDX: a real machine that the policy denies", twin: "platform-listed", hole: "policy-platform", make: genuine(func(r *Request) {
			r.Policy = policy(obj{"development": false, "deny_platforms": []string{genuinePlatform}})
		})},
	}
}

// policyVectors try sections 19.4 and 19.5.
func policyVectors() []vector {
	tdx := func(change func(*scene)) func() Request { return of(evidence.TDX, change) }
	bound := func(policyConfig obj, digest []byte) func() Request {
		return tdx(func(s *scene) { s.req.Policy, s.req.Config = policy(policyConfig), digest })
	}
	names := obj{"config": []string{hex.EncodeToString(config)}}
	anything := policy(obj{"debug": true, "tcb": obj{"unknown": true, "accept": []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"}}})
	// A level of the platform that is newer than its own is dated so.
	newer := time.Date(2025, 11, 12, 0, 0, 0, 0, time.UTC)
	grace := func(days int, at time.Time) func() Request {
		return tdx(func(s *scene) {
			s.col.Platform = sim.Level{Status: evidence.OutOfDate, Date: time.Date(2024, 3, 13, 0, 0, 0, 0, time.UTC)}
			s.col.Issued = at.Add(-time.Hour).Truncate(time.Second)
			s.req.Time = at.Unix()
			s.req.Policy = policy(tcb(obj{"grace_days": days}))
		})
	}
	end := newer.Add(365 * 24 * time.Hour)
	return []vector{
		{name: "policy-named", req: "TMCP-19.4-1", title: "the result names the policy by its digest", make: tdx(nil), look: namesPolicy},
		{name: "policy-lenient", req: "TMCP-19.4-2", title: "a policy that takes all that can be taken", make: tdx(func(s *scene) { s.req.Policy = anything })},
		{name: "policy-lenient-signature", req: "TMCP-19.4-2", title: "a bad signature, under a policy that takes all that can be taken", twin: "policy-lenient", hole: "signature", make: tdx(func(s *scene) { s.req.Policy, s.patch = anything, flip(48+584+4) })},
		{name: "policy-lenient-revoked", req: "TMCP-19.4-2", title: "a revoked platform, under a policy that takes all that can be taken", twin: "policy-lenient", hole: "revocation", make: tdx(func(s *scene) { s.req.Policy, s.col.Revoked = anything, revokedPCK() })},
		{name: "policy-accepts-revoked", req: "TMCP-19.4-3", title: "firmware that is Revoked, under a policy that says to accept it", twin: "tdx", hole: "tcb", make: tdx(func(s *scene) {
			s.col.Platform.Status = evidence.Revoked
			s.req.Policy = policy(tcb(obj{"accept": []string{"UpToDate", "Revoked"}}))
		})},
		{name: "policy-accepts-no-level", req: "TMCP-19.4-3", title: "firmware that no level fits, under a policy that says to accept it", twin: "tdx", hole: "tcb", make: tdx(func(s *scene) {
			s.col.Platform.Missing = true
			s.req.Policy = policy(tcb(obj{"accept": []string{"UpToDate", "Unrecognized"}}))
		})},
		{name: "grace", req: "TMCP-19.4-4", title: "firmware that is out of date, on the last day of grace", make: grace(365, end.Add(-time.Second))},
		{name: "grace-over", req: "TMCP-19.4-4", title: "firmware that is out of date, when the days of grace are over", twin: "grace", hole: "grace", make: grace(365, end)},
		{name: "grace-none", req: "TMCP-19.4-4", title: "firmware that is out of date, without days of grace", twin: "grace", hole: "tcb", make: grace(0, end.Add(-time.Second))},
		{name: "platform-denied", req: "TMCP-19.4-5", title: "a chip that the policy denies", twin: "snp", hole: "policy-platform", make: of(evidence.SNP, func(s *scene) {
			report := must(sim.Default().SNPReport(wantData, s.snp))
			s.req.Policy = policy(obj{"deny_platforms": []string{hexOf(report[0x1a0:0x1e0])}})
		})},
		{name: "config", req: "TMCP-19.4-6", title: "a configuration digest that the policy names", make: bound(names, config)},
		{name: "config-missing", req: "TMCP-19.4-6", title: "no configuration digest, where the policy names some", twin: "config", hole: "policy-config", make: bound(names, nil)},
		{name: "config-other", req: "TMCP-19.4-6", title: "another configuration digest than the policy names", twin: "config", hole: "policy-config", make: bound(names, seed("other configuration"))},
		{name: "config-required", req: "TMCP-19.4-6", title: "no configuration digest, where the policy demands any", twin: "config", hole: "policy-config", make: bound(obj{"config_required": true}, nil)},
		{name: "check-demanded", req: "TMCP-19.4-7", title: "a policy that demands a check that nobody makes", twin: "tdx", hole: "policy-check", make: tdx(func(s *scene) { s.req.Policy = policy(obj{"checks": []string{"phase-of-the-moon"}}) })},
		{name: "gpu-demanded", req: "TMCP-19.4-7", title: "a policy that demands a GPU, and a CPU alone", twin: "set-gpu", hole: "policy-gpu", make: tdx(func(s *scene) { s.req.Policy = policy(obj{"gpu": true}) })},
		{name: "tee-not-listed", req: "TMCP-19.1-3", title: "a kind of TEE that the policy does not list", twin: "tdx", hole: "policy-tee", make: tdx(func(s *scene) { s.req.Policy = policy(obj{"tees": []string{"sev-snp"}}) })},
		{name: "status", req: "TMCP-19.5-1", title: "a simulated TEE is not affirmed", make: tdx(nil), look: func(t *conformance.T, a *asked) {
			got, ok := conformance.MemberText(a.Claims, "status")
			switch {
			case !ok:
				t.Violate("the claims have no \"status\": the tier of the attestation result")
			case got == "affirming":
				t.Violate("the status of a simulated TEE is affirming")
			}
		}},
		{name: "explained", req: "TMCP-19.5-2", title: "a refusal says which check failed", twin: "tdx", hole: "debug", make: tdx(func(s *scene) { s.tdx.Debug = true }), look: func(t *conformance.T, a *asked) {
			if a.why() == "no reason given" {
				t.Violate("refused without a reason, and without a check that failed")
			}
		}},
		{name: "expires", req: "TMCP-19.5-3", title: "a result ends with the collateral", make: tdx(func(s *scene) { s.col.NextUpdate = t0.Add(time.Hour) }), look: ends(t0.Add(time.Hour))},
		{name: "expires-certificate", req: "TMCP-19.5-3", title: "a result ends with the certificate of the platform", make: tdx(func(s *scene) { s.tdx.Platform.NotAfter = t0.Add(30 * time.Minute) }), look: ends(t0.Add(30*time.Minute + time.Second))},
		{name: "expires-manifest", req: "TMCP-19.5-3", title: "a result ends with the manifest that it rests on", make: tdx(func(s *scene) {
			s.req.Manifests = []Manifest{{Value: signed(nil, manifestFor(evidence.TDX, until(t0.Add(10*time.Minute))))}}
			s.req.SignerKeys = []string{pemKey(edKey("signer").Public())}
		}), look: ends(t0.Add(10 * time.Minute))},
	}
}

func namesPolicy(t *conformance.T, a *asked) {
	p := must(appraise.ParseRules(policy(nil)))
	d := p.Digest()
	if got, _ := conformance.MemberText(a.Claims, "policy"); got != hexOf(d[:]) {
		t.Violate("the claims' \"policy\" is %q, want %x: SHA-256 over the deterministic CBOR array of the label and the rules", got, d)
	}
}

// ends wants a result to end no later than that.
func ends(at time.Time) func(*conformance.T, *asked) {
	return func(t *conformance.T, a *asked) {
		v := string(conformance.Member(a.Claims, "expires"))
		n, ok := integer(v)
		switch {
		case !ok:
			t.Violate("the claims' \"expires\" is %.40q: want seconds since 1970", v)
		case n > at.Unix():
			t.Violate("the result ends at %s, want %s or sooner", time.Unix(n, 0).UTC().Format(time.RFC3339), at.Format(time.RFC3339))
		}
	}
}
