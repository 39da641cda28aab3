// Package evidence is the seam between what TEEs say and those who rely on it
// (RFC 9334): the verifiers of the packages below it turn evidence in a TEE's
// native format into named checks and, only when its integrity is proven, into
// [Verified] claims. Package appraise puts them together.
//
// Nothing here has a clock or a network: the time and all collateral are
// arguments. Nothing writes to stdout.
package evidence

import (
	"maps"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence/internal/seal"
)

// A Kind names a kind of TEE.
type Kind string

// The kinds of TEE.
const (
	TDX    Kind = "tdx"
	SGX    Kind = "sgx"
	SNP    Kind = "sev-snp"
	Nitro  Kind = "nitro"
	NVIDIA Kind = "nvidia-gpu"
	CCA    Kind = "cca"
)

// Media types of evidence and endorsements in a CMW (spec chapter "Evidence").
// Those under vnd.trustedmcp name native formats that have no registered type.
const (
	TypeTDX    = "application/vnd.trustedmcp.tdx-quote"     // DCAP quote, version 4 or 5
	TypeSGX    = "application/vnd.trustedmcp.sgx-quote"     // DCAP quote, version 3
	TypeSNP    = "application/vnd.trustedmcp.snp-report"    // attestation report (1184 bytes), then optionally the certificate table of the extended guest request
	TypeNitro  = "application/vnd.trustedmcp.nitro-doc"     // COSE_Sign1 attestation document
	TypeNVIDIA = "application/vnd.trustedmcp.nvidia-report" // CBOR array [SPDM request and response bstr, chain bstr (PEM, leaf first)]
	TypeCCA    = "application/vnd.trustedmcp.cca-token"     // CBOR tag 399

	TypeDCAPCollateral = "application/vnd.trustedmcp.dcap-collateral+json" // the bundle of spec section "Collateral"
	TypeCertificates   = "application/pem-certificate-chain"               // RFC 8555: VCEK or VLEK with ASK, device chains
	TypeOCSP           = "application/ocsp-response"                       // RFC 6960
	TypeCRL            = "application/pkix-crl"                            // RFC 2585: DER, of a vendor's root
	TypeEventLog       = "application/vnd.trustedmcp.ccel"                 // TCG event log of a confidential computing platform
)

// An Item is one piece of evidence, or one endorsement, in its native format.
type Item struct {
	MediaType string
	Value     []byte
}

// An Outcome is how a check ended.
type Outcome string

// The outcomes. A check that fails makes its subject unacceptable. One that
// warns is for policy to judge.
const (
	Pass         Outcome = "pass"
	Fail         Outcome = "fail"
	Warn         Outcome = "warn"
	NotPerformed Outcome = "not-performed"
)

// A Check is one named step of verification or appraisal.
type Check struct {
	Name    string  `json:"name"` // stable, lower case with hyphens, as in "pck-chain"
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail,omitempty"` // for people: what was found, and what was wanted
}

// Checks are steps in the order in which they were made.
type Checks []Check

// Add appends a check.
func (c *Checks) Add(name string, o Outcome, detail string) {
	*c = append(*c, Check{name, o, detail})
}

// Failed returns the checks that failed.
func (c Checks) Failed() Checks {
	return slices.DeleteFunc(slices.Clone(c), func(k Check) bool { return k.Outcome != Fail })
}

// Find returns the first check of that name.
func (c Checks) Find(name string) (Check, bool) {
	i := slices.IndexFunc(c, func(k Check) bool { return k.Name == name })
	if i < 0 {
		return Check{}, false
	}
	return c[i], true
}

// A TCBStatus is a vendor's judgement of a platform's firmware. The values are
// Intel's; the verifiers of other vendors use those that fit.
type TCBStatus string

// The statuses, best first, in the order of [TCBStatus.Rank].
const (
	UpToDate                          TCBStatus = "UpToDate"
	SWHardeningNeeded                 TCBStatus = "SWHardeningNeeded"
	ConfigurationNeeded               TCBStatus = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded TCBStatus = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                         TCBStatus = "OutOfDate"
	OutOfDateConfigurationNeeded      TCBStatus = "OutOfDateConfigurationNeeded"
	Revoked                           TCBStatus = "Revoked"
	// Unrecognized: no level of the vendor's list fits the platform. It is never
	// acceptable.
	Unrecognized TCBStatus = "Unrecognized"
)

var statuses = []TCBStatus{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked, Unrecognized}

// Rank orders statuses, 0 the best. Unknown ones are the worst.
func (s TCBStatus) Rank() int {
	if i := slices.Index(statuses, s); i >= 0 {
		return i
	}
	return len(statuses)
}

// A TCB is what is known of the firmware that evidence comes from, from
// endorsements and never from the attester's own word.
type TCB struct {
	Status     TCBStatus `json:"status"`               // of all parts together
	Date       time.Time `json:"date,omitzero"`        // of the oldest part's level: up to when known issues are fixed
	Advisories []string  `json:"advisories,omitempty"` // sorted; those that the vendor lists for the levels found
	Parts      []TCBPart `json:"parts,omitempty"`
	// EvaluationNumber counts the vendor's TCB recoveries that the collateral
	// knows of (Intel: tcbEvaluationDataNumber); 0 where there is no such number.
	EvaluationNumber uint64 `json:"evaluation_number,omitempty"`
	// OutOfDateSince is when the first level newer than ours was dated; zero when
	// up to date or unknown.
	OutOfDateSince time.Time `json:"out_of_date_since,omitzero"`
}

// A TCBPart is one part of a TCB.
type TCBPart struct {
	Name       string    `json:"name"` // platform, qe, tdx-module, …
	Status     TCBStatus `json:"status"`
	Date       time.Time `json:"date,omitzero"`
	Advisories []string  `json:"advisories,omitempty"`
	Behind     int       `json:"behind"` // how many newer levels the vendor lists
}

// Trust is what a verifier is given to verify with. It never looks elsewhere.
type Trust struct {
	Anchors *Anchors // roots of the vendors; required
	// Simulator are roots of simulated TEEs, a type of its own so that nobody
	// trusts them by mistake. Nil in production. What verifies under them is
	// marked as simulated for ever.
	Simulator *Simulator
	Now       time.Time // required
	// Endorsements are collateral that came from anywhere: each verifier takes
	// the media types that it knows, and verifies them to the anchors.
	Endorsements []Item
}

// A Verifier verifies the evidence of one or more TEEs. It may keep what it
// verified of endorsements, by digest, and is safe for concurrent use.
type Verifier interface {
	// MediaTypes are those of the evidence that it knows.
	MediaTypes() []string
	// Verify verifies value, which is of that media type. It never returns nil.
	Verify(mediaType string, value []byte, t *Trust) *Result
}

// A Result is what a verifier found. Its checks are complete: a failed one does
// not keep later ones from being made where they can be.
type Result struct {
	Kind     Kind
	Checks   Checks
	TCB      *TCB      // nil when it could not be determined from verified endorsements
	verified *Verified // nil unless integrity was proven
}

// NewResult makes a result for package-internal verifiers. claims is nil unless
// the evidence's signature leads to an anchor and everything that claims were
// read from is covered by it; a result with a failed check may still have
// claims (for explanations), but is not accepted.
func NewResult(_ seal.Token, kind Kind, checks Checks, tcb *TCB, claims *Claims) *Result {
	r := &Result{Kind: kind, Checks: checks, TCB: tcb}
	if claims != nil {
		c := *claims
		c.Kind = kind
		r.verified = &Verified{c: c}
	}
	return r
}

// Verified returns the claims that were proven, or nil.
func (r *Result) Verified() *Verified { return r.verified }

// Accepted reports whether the claims are proven and no check failed. Whether
// that is enough is for appraisal to say.
func (r *Result) Accepted() bool { return r.verified != nil && len(r.Checks.Failed()) == 0 }

// Verified are claims whose integrity a verifier has proven. It can't be
// constructed outside evidence/. Immutable.
type Verified struct{ c Claims }

// Claims returns a copy of the claims; byte slices within are shared and must
// not be changed.
func (v *Verified) Claims() Claims {
	c := v.c
	c.Values = maps.Clone(v.c.Values)
	return c
}

// Claims are what evidence says.
type Claims struct {
	Kind Kind
	// ReportData is what the attester had bound by the TEE: 64 bytes for TDX, SGX,
	// SEV-SNP, CCA (challenge) and Nitro (user_data); the 32-byte nonce of a GPU.
	ReportData []byte
	Debug      bool   // someone outside the TEE can read or change it
	Simulated  bool   // verified under a simulator's roots
	Platform   []byte // stable id of the platform instance (PPID, CHIP_ID, UEID, module id, device id); nil when it has none
	// Values are the claims by name (spec chapter "Evidence", table of claims):
	// []byte, string, uint64, bool or []string.
	Values map[string]any
	// NotBefore and NotAfter bound when the verdict holds, by the certificates
	// and collateral used. Zero: no bound.
	NotBefore, NotAfter time.Time
}
