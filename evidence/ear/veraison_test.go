package ear

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	vear "github.com/veraison/ear"

	"github.com/trustedmcp/tmcp/evidence/eat"
)

// E2: veraison/ear v1.1.3 speaks the profile of 2023: its results are read on
// request only, and it does not read ours.
func TestVeraison(t *testing.T) {
	key := newKey(t)
	theirs := vear.NewAttestationResult("CPU", "build", "developer")
	iat, nonce, policy := now.Unix(), "0123456789abcdef", "policy://x"
	theirs.IssuedAt, theirs.Nonce = &iat, &nonce
	theirs.Submods["CPU"].TrustVector.Hardware = vear.GenuineHardwareClaim
	theirs.Submods["CPU"].TrustVector.Executables = vear.UnsafeRuntimeClaim
	status := vear.TrustTierWarning
	theirs.Submods["CPU"].Status, theirs.Submods["CPU"].AppraisalPolicyID = &status, &policy
	signed, err := theirs.Sign(jwa.ES256(), key)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Keys: eat.Keys{{Public: key.Public()}}, Now: now, Nonce: []byte(nonce)}
	if _, err := Verify(signed, &o); err == nil || !strings.Contains(err.Error(), "eat_profile") {
		t.Errorf("the legacy profile was accepted without leave: %v", err)
	}
	o.Legacy = true
	r, err := Verify(signed, &o)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Submods["CPU"]
	if a == nil || a.Status != Warning || *a.Vector != (Vector{Hardware: 2, Executables: 32}) || a.Policies[0] != policy || r.Verifier != (VerifierID{"developer", "build"}) || r.Profile != LegacyProfile {
		t.Errorf("%+v %+v", r, a)
	}

	// A status above the vector is theirs to write, and ours to refuse.
	up := vear.TrustTierAffirming
	theirs.Submods["CPU"].Status = &up
	if signed, err = theirs.Sign(jwa.ES256(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(signed, &o); err == nil {
		t.Error("a status better than its vector was accepted")
	}

	ours := result()
	ours.IssuedAt, ours.Expires = time.Now().Add(-time.Second), time.Time{}
	signed, err = ours.SignJWT(key, "")
	if err != nil {
		t.Fatal(err)
	}
	var back vear.AttestationResult
	if err := back.Verify(signed, jwa.ES256(), key.Public()); err == nil {
		t.Error("veraison/ear reads the draft's profile now; take the note from RATIONALE.md")
	}
}

// The tiers of claims are the same in both.
func TestVeraisonTiers(t *testing.T) {
	for c := -128; c <= 127; c++ {
		theirs := vear.TrustClaim(c)
		if got, want := Claim(c).Tier(), Tier(theirs.GetTier()); got != want {
			t.Errorf("%d: %s, theirs %s", c, got, want)
		}
	}
	b, err := json.Marshal(vear.TrustTierAffirming)
	if err != nil || string(b) != `"`+Affirming.String()+`"` {
		t.Errorf("%s, %v", b, err)
	}
}
