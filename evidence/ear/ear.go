// Package ear reads and writes EAT attestation results (EAR,
// draft-ietf-rats-ear-03): what a verifier found of one or more attesters, with
// an AR4SI trustworthiness vector for each. Call [Verify] on a token, with the
// keys of the verifiers that you trust; [Result.SignJWT] and [Result.SignCWT]
// make tokens.
//
// A status never says more than the vector beside it: [Appraisal.Derive] takes
// it from there, and a token in which it does is refused.
//
// Our own extension ([Extension]) stands in each appraisal under the name
// "trustedmcp.org/appraisal" in JSON, and under the private-use key -71100 in
// CBOR: the named checks, the TCB, and the report data that the evidence bound.
// Readers that do not know it ignore it.
package ear

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eat"
)

// Profile is the eat_profile of attestation results.
const Profile = "tag:ietf.org,2026:rats/ear#03"

// Profiles of the time before the draft's names had settled. They are read only
// when [Options.Legacy] says so, and never written.
const (
	LegacyProfile  = "tag:github.com,2023:veraison/ear"
	TrusteeProfile = "tag:github.com,2024:confidential-containers/Trustee"
)

// A Result is an attestation result.
type Result struct {
	Issuer      string
	Subject     string
	Audience    []string
	IssuedAt    time.Time // required; whole seconds
	NotBefore   time.Time // zero: absent
	Expires     time.Time // zero: absent
	ID          []byte
	Nonce       []byte // what who asked for the appraisal sent: 8 to 64 bytes; nil: absent
	Verifier    VerifierID
	RawEvidence []byte                // nil: absent
	Status      *Tier                 // of all appraisals together; nil: absent. See [Result.Overall]
	Submods     map[string]*Appraisal // at least one
	Other       map[eat.Label][]byte  // unknown claims, in the token's encoding

	Profile string // as it was read; ignored when written, which is always with [Profile]
}

// A VerifierID tells who appraised.
type VerifierID struct{ Developer, Build string }

// An Appraisal is what was found of one attester.
type Appraisal struct {
	Profile   string   // of the extensions; "": absent
	Status    Tier     // never better than the vector's
	Vector    *Vector  // nil: left out on request
	Policies  []string // URIs of the policies, in the order in which they were applied
	Nonce     []byte   // from the evidence: 8 to 64 bytes; nil: absent
	Extension *Extension
	Other     map[eat.Label][]byte // unknown claims, in the token's encoding
}

// An Extension is what we say in an appraisal beyond the draft. In CBOR it is a
// map with the same names.
type Extension struct {
	Kind       evidence.Kind   `json:"kind,omitempty"`
	ReportData Hex             `json:"report_data,omitempty"` // what the evidence bound
	Platform   Hex             `json:"platform,omitempty"`
	Debug      bool            `json:"debug,omitempty"`
	Simulated  bool            `json:"simulated,omitempty"`
	TCB        *evidence.TCB   `json:"tcb,omitempty"`
	Checks     evidence.Checks `json:"checks,omitempty"`
	NotAfter   time.Time       `json:"not_after,omitzero"` // the verdict holds no longer than that
}

// ExtensionName and ExtensionKey are where an [Extension] stands in JSON and in
// CBOR.
const (
	ExtensionName = "trustedmcp.org/appraisal"
	ExtensionKey  = -71100
)

// Hex are bytes that are written in hexadecimal, lower case.
type Hex []byte

// MarshalText writes h.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hex) UnmarshalText(b []byte) error {
	if strings.ToLower(string(b)) != string(b) {
		return errors.New("hexadecimal in upper case")
	}
	out, err := hex.AppendDecode(nil, b)
	*h = out
	return err
}

// PolicyID is the URI of a policy in ear_appraisal_policy_ids, by the SHA-256 of
// its bytes.
func PolicyID(digest [32]byte) string { return policyPrefix + hex.EncodeToString(digest[:]) }

// PolicyDigest reads what [PolicyID] writes; ok is false for other URIs.
func PolicyDigest(uri string) (digest [32]byte, ok bool) {
	s, found := strings.CutPrefix(uri, policyPrefix)
	b, err := hex.DecodeString(s)
	if !found || err != nil || len(b) != 32 || PolicyID([32]byte(b)) != uri {
		return digest, false
	}
	return [32]byte(b), true
}

const policyPrefix = "tag:trustedmcp.org,2026:policy:sha-256:"

// Derive sets the status to the vector's tier; without a vector to None.
func (a *Appraisal) Derive() {
	a.Status = None
	if a.Vector != nil {
		a.Status = a.Vector.Tier()
	}
}

// Overall is the worst status of the appraisals; None when there is none.
func (r *Result) Overall() Tier {
	if len(r.Submods) == 0 {
		return None
	}
	worst := Affirming
	for _, a := range r.Submods {
		if a != nil && worst.Better(a.Status) {
			worst = a.Status
		}
	}
	return worst
}

func (r *Result) check() error {
	switch {
	case r.IssuedAt.IsZero():
		return errors.New("no iat, which is required")
	case r.Verifier.Developer == "" || r.Verifier.Build == "":
		return errors.New("no ear_verifier_id with developer and build, which is required")
	case len(r.Submods) == 0:
		return errors.New("no submods; at least one appraisal is required")
	case r.Nonce != nil && (len(r.Nonce) < 8 || len(r.Nonce) > 64):
		return fmt.Errorf("a nonce of %d bytes; 8 to 64 are allowed", len(r.Nonce))
	}
	for name, a := range r.Submods {
		if err := a.check(); err != nil {
			return fmt.Errorf("appraisal %.80q: %w", name, err)
		}
	}
	if r.Status != nil {
		if _, ok := tierNames[*r.Status]; !ok {
			return fmt.Errorf("status %d is no tier", *r.Status)
		}
		if worst := r.Overall(); r.Status.Better(worst) {
			return fmt.Errorf("status %s, but an appraisal is %s", r.Status, worst)
		}
	}
	return nil
}

func (a *Appraisal) check() error {
	switch {
	case a == nil:
		return errors.New("nil")
	case a.Nonce != nil && (len(a.Nonce) < 8 || len(a.Nonce) > 64):
		return fmt.Errorf("a nonce of %d bytes; 8 to 64 are allowed", len(a.Nonce))
	case a.Vector != nil && *a.Vector == (Vector{}):
		return errors.New("a trustworthiness vector without a claim; leave it out")
	}
	if _, ok := tierNames[a.Status]; !ok {
		return fmt.Errorf("status %d is no tier", a.Status)
	}
	if a.Vector != nil {
		if t := a.Vector.Tier(); a.Status.Better(t) {
			return fmt.Errorf("status %s, but the trustworthiness vector is %s", a.Status, t)
		}
	}
	for _, p := range a.Policies {
		if p == "" {
			return errors.New("an empty policy id")
		}
	}
	return nil
}
