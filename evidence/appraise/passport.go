package appraise

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/token"
)

// An Issuer is a verifier whose attestation results are accepted as passports.
type Issuer struct {
	Kind     token.Kind
	Keys     eat.Keys            // pinned; required unless Roots are given
	Roots    []*x509.Certificate // for Google's PKI tokens
	Name     string              // the token's iss, where the kind has no single one
	Audience string
	// Policies of the issuer's own that must have matched (Intel, AICC) or have been
	// applied (EAR). The issuers of the other kinds tell none.
	//
	// That a TEE is genuine says nothing of the code in it: Intel's and Microsoft's
	// services attest whoever asks. Without Policies their tokens stand for no
	// comparison with reference values, and an EAR for one only where it affirms the
	// executables. The relying party's policy must list the measurements then.
	Policies []string
	// Skew is how far the issuer's clock may be ahead.
	Skew time.Duration
}

// MediaType is the type of a CMW record that holds a token of this kind.
func MediaType(k token.Kind) string {
	if k == token.EAR {
		return "application/eat+jwt"
	}
	return "application/vnd.trustedmcp.token." + string(k)
}

// Tokens makes a [Passport] of an issuer.
func Tokens(i Issuer) (Passport, error) {
	// TMCP-19.6-1: A relying party MUST verify an attestation result with keys that its local
	// policy pins for the issuer.
	if i.Keys == nil && len(i.Roots) == 0 {
		return nil, errors.New("an issuer of attestation results without a pinned key: nobody's tokens would be verified")
	}
	if len(i.Policies) > 0 && i.Kind != token.EAR && i.Kind != token.TrustAuthority && i.Kind != token.AICC {
		return nil, fmt.Errorf("tokens of kind %s do not tell which policies matched, so none can be demanded", i.Kind)
	}
	return passport{i}, nil
}

type passport struct{ Issuer }

func (p passport) Accepts(mediaType string) bool {
	base, _, err := mime.ParseMediaType(mediaType)
	return err == nil && (base == MediaType(p.Kind) || p.Kind == token.EAR && base == "application/eat+cwt")
}

func (p passport) Verify(_ string, value []byte, reportData []byte, now time.Time) Token {
	e := &token.Expect{Kind: p.Kind, Keys: p.Keys, Roots: p.Roots, Now: now, Skew: p.Skew, Issuer: p.Name, Audience: p.Audience, Policies: p.Policies,
		AllowSimulated: true, AllowDebug: true} // the policy judges both
	want := reportData
	switch p.Kind {
	case token.EAR, token.GoogleCS:
		e.Nonces = [][]byte{reportData}
	case token.NVIDIANRAS:
		n := nvidia.GPUNonce(reportData, 0)
		want = n[:]
		e.Nonces = [][]byte{want}
	default: // bound in the report data that the token repeats
		e.NoNonce = true
	}
	if len(reportData) == 0 {
		return Token{Checks: evidence.Checks{{Name: "binding", Outcome: evidence.Fail, Detail: "an attestation result proves nothing without what it must bind"}}}
	}
	r := token.Verify(value, e)
	t := Token{Checks: r.Checks, Bound: want}
	c := r.Token()
	if !r.Accepted() || c == nil {
		if len(t.Checks.Failed()) == 0 {
			t.Checks.Add("signature", evidence.Fail, "the token was not verified")
		}
		return t
	}
	t.Issuer, t.TCB, t.Debug, t.Simulated, t.Expires, t.Kind = c.Issuer, c.TCB, c.Debug, c.Simulated, c.Expires, c.TEE
	// TMCP-19.6-3: A relying party MUST refuse a result that does not bind the report data.
	if e.NoNonce {
		ok := len(c.ReportData) > 0
		for _, rd := range c.ReportData {
			ok = ok && bytes.Equal(rd, want)
		}
		add(&t.Checks, "token-report-data", ok, "the report data that the token repeats")
	}
	t.Values = values(c)
	switch {
	case c.EAR != nil:
		p.ear(&t, c.EAR)
	case len(p.Policies) > 0:
		t.Compared = "its policies " + shorten(strings.Join(p.Policies, ", ")) + " matched"
	case p.Kind == token.NVIDIANRAS:
		t.Compared = "the measurements are those of NVIDIA's manifests"
	}
	return t
}

// ear takes over what an EAR says of its attesters, all of which must be good.
func (p passport) ear(t *Token, r *ear.Result) {
	overall := r.Overall()
	ok := overall == ear.Affirming || overall == ear.Warning && t.Simulated // ours never affirms a simulation
	add(&t.Checks, "ear-status", ok, overall.String()+"; affirming is wanted")
	cpus, gpus, affirmed := 0, 0, true
	for _, a := range r.Submods {
		x := a.Extension
		if x == nil {
			x = &ear.Extension{}
		}
		if !x.NotAfter.IsZero() && x.NotAfter.Before(t.Expires) {
			t.Expires = x.NotAfter
		}
		if x.Kind == evidence.NVIDIA {
			gpus++
			continue
		}
		if cpus++; cpus == 1 {
			t.Kind, t.TCB = x.Kind, x.TCB
		}
		affirmed = affirmed && a.Vector != nil && a.Vector[ear.Executables] != ear.NoClaim && a.Vector[ear.Executables].Tier() == ear.Affirming
	}
	if cpus == 0 {
		t.Kind, t.TCB = evidence.NVIDIA, nil
	}
	add(&t.Checks, "ear-devices", cpus == 1, fmt.Sprintf("%d CPUs and %d GPUs; the result must be of one CPU's TEE", cpus, gpus))
	switch {
	case len(p.Policies) > 0:
		t.Compared = "its policies " + shorten(strings.Join(p.Policies, ", ")) + " were applied"
	case affirmed && cpus > 0:
		t.Compared = "it affirms the executables"
	}
}

// values gives what vendors' tokens repeat of evidence the names of section 18.9.
func values(c *token.Token) map[string]any {
	v := map[string]any{}
	claims := c.Claims
	if nested, ok := claims["tdx"].(map[string]any); ok { // version 2 of Intel's
		claims = nested
	}
	for name, val := range claims {
		s, ok := val.(string)
		if !ok {
			continue
		}
		ours := ""
		switch {
		case strings.HasPrefix(name, "tdx_"):
			ours = "tdx." + strings.ReplaceAll(strings.TrimPrefix(name, "tdx_"), "_", "")
		case strings.HasPrefix(name, "sgx_"):
			ours = "sgx." + strings.TrimPrefix(name, "sgx_")
		case name == "x-ms-sevsnpvm-launchmeasurement":
			ours = "snp.measurement"
		case name == "x-ms-sevsnpvm-hostdata":
			ours = "snp.hostdata"
		}
		if b, err := hex.DecodeString(s); ours != "" && err == nil {
			v[ours] = b
		}
	}
	return v
}
