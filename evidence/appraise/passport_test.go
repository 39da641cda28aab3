package appraise_test

import (
	"crypto/ed25519"
	"os"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/token"
)

// A verifier's EAR stands for the evidence it was made of, when it was made for
// this report data, by a pinned verifier, in time.
func TestPassport(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	other := ed25519.NewKeyFromSeed(append(make([]byte, 31), 1))
	made := newAppraiser(t, rules(nil), nil).Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: data, Nonce: data, Now: now})
	accepted(t, made)
	refusal := newAppraiser(t, appraise.Strict(), nil).Evaluate(appraise.Input{CMW: attest(t, sim.Options{}, data), ReportData: data, Nonce: data, Now: now})
	sign := func(r *appraise.Result, k ed25519.PrivateKey) []byte { return must(r.EAR().SignJWT(k, "")) }
	p := must(appraise.Tokens(appraise.Issuer{Kind: token.EAR, Name: "https://trustedmcp.org", Keys: eat.Keys{{Public: key.Public()}}}))
	a := newAppraiser(t, rules(func(r *appraise.Rules) { r.TCB.Unknown = true }), func(c *appraise.Config) { c.Passports = []appraise.Passport{p} })
	show := func(jwt []byte, typ string) []byte {
		return must(cmw.NewRecord(typ, jwt, cmw.AttestationResults).Encode())
	}
	const typ = `application/eat+jwt; eat_profile="tag:ietf.org,2026:rats/ear#03"`
	good := show(sign(made, key), typ)
	accepted(t, a.Evaluate(appraise.Input{CMW: good, ReportData: data, Now: now}))
	another := append([]byte{1}, data[1:]...)
	for name, r := range map[string]*appraise.Result{
		"another report data":  a.Evaluate(appraise.Input{CMW: good, ReportData: another, Now: now}),
		"nothing to bind":      a.Evaluate(appraise.Input{CMW: good, Unbound: true, Now: now}),
		"expired":              a.Evaluate(appraise.Input{CMW: good, ReportData: data, Now: now.Add(48 * time.Hour)}),
		"from the future":      a.Evaluate(appraise.Input{CMW: good, ReportData: data, Now: now.Add(-time.Hour)}),
		"another key":          a.Evaluate(appraise.Input{CMW: show(sign(made, other), typ), ReportData: data, Now: now}),
		"a refusal":            a.Evaluate(appraise.Input{CMW: show(sign(refusal, key), typ), ReportData: data, Now: now}),
		"another kind":         a.Evaluate(appraise.Input{CMW: show(sign(made, key), appraise.MediaType(token.AzureMAA)), ReportData: data, Now: now}),
		"no passport accepted": newAppraiser(t, rules(nil), nil).Evaluate(appraise.Input{CMW: good, ReportData: data, Now: now}),
		"for production":       newAppraiser(t, appraise.Strict(), func(c *appraise.Config) { c.Passports = []appraise.Passport{p} }).Evaluate(appraise.Input{CMW: good, ReportData: data, Now: now}),
	} {
		if r.Verdict != appraise.Refused || len(r.Checks.Failed()) == 0 {
			t.Errorf("%s: %s", name, r.Explanation())
		}
	}
	// A result about a simulated TEE is genuinely signed: that the TEE is simulated is
	// all that keeps it from production.
	lenient := rules(func(r *appraise.Rules) { r.Development, r.TCB.Unknown = false, true })
	r := newAppraiser(t, lenient, func(c *appraise.Config) { c.Passports = []appraise.Passport{p} }).Evaluate(appraise.Input{CMW: good, ReportData: data, Now: now})
	if k, _ := r.Checks.Find("genuine"); r.Verdict != appraise.Refused || k.Outcome != evidence.Fail {
		t.Errorf("a simulated TEE in production: %s", r.Explanation())
	}
	if _, err := appraise.Tokens(appraise.Issuer{Kind: token.EAR}); err == nil {
		t.Error("an issuer without keys")
	}
}

// A policy for development refuses what a real machine says: a configuration that
// was copied to production fails at once.
//
// TMCP-18.8-2: A verifier MUST NOT accept simulated evidence under a policy that also accepts genuine evidence.
func TestGenuineNotInDevelopment(t *testing.T) {
	at := time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)
	in := appraise.Input{Unbound: true, Alone: true, Now: at, Items: []evidence.Item{
		{MediaType: evidence.TypeTDX, Value: must(os.ReadFile("../testdata/hardware/tdx/phala-v4.quote"))},
		{MediaType: evidence.TypeDCAPCollateral, Value: must(os.ReadFile("../testdata/hardware/tdx/phala-v4.collateral.json"))},
	}}
	lenient := func(r *appraise.Rules) { r.Development, r.TCB.Unknown, r.Migration = false, true, true }
	accepted(t, newAppraiser(t, rules(lenient), nil).Evaluate(in))
	refused(t, newAppraiser(t, rules(func(r *appraise.Rules) { lenient(r); r.Development = true }), nil).Evaluate(in), "genuine", "a genuine TEE under a policy for development")
}
