// Package token verifies attestation results that a peer shows as a passport
// (RFC 9334 section 5.1): our own EAR, and the tokens of Intel Trust Authority,
// Azure Attestation, Google Confidential Space, NVIDIA's remote attestation
// service and AICC. Call [ParseJWKS] on the set of keys that you pinned, then
// [Verify].
//
// Keys come from the caller alone. What a token says of its key chooses among
// them (kid), leads to a root of the caller's (x5c, Google only), or is not looked
// at (jku, which Intel and Azure write into theirs); any other key in a token is
// refused. Nothing is read from a token before its signature was verified.
//
// Nothing here knows which measurements are good: that a vendor's policy was
// content with the peer is one check of several. Callers compare the claims.
package token

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/evidence/internal/sig"
)

// A Kind is a kind of token.
type Kind string

// The kinds of tokens.
const (
	EAR            Kind = "ear"                       // draft-ietf-rats-ear, ours and others'
	TrustAuthority Kind = "intel-trust-authority"     // PS384, or RS256 on request
	AzureMAA       Kind = "azure-maa"                 // RS256
	GoogleCS       Kind = "google-confidential-space" // RS256
	NVIDIANRAS     Kind = "nvidia-nras"               // ES384; [["JWT", overall], {"GPU-0": …}]
	AICC           Kind = "aicc"                      // RS384
)

const (
	maxNonces     = 16
	maxDevices    = 64
	maxReportData = 64 // bytes
)

// Expect says what a token must be. The zero value of each field is its strict
// form.
type Expect struct {
	Kind Kind // required
	Keys eat.Keys
	// Roots verify the chains in Google's PKI tokens, in place of Keys.
	Roots []*x509.Certificate
	Now   time.Time     // required
	Skew  time.Duration // how far the issuer's clock may be ahead
	// MaxAge is how old iat may be; 0: any age, until exp.
	MaxAge time.Duration
	// Issuer is the token's iss. It has a default where there is one issuer only;
	// Azure's tenants and EARs need it.
	Issuer string
	// Audience must be among the token's audiences; "": not checked.
	Audience string
	// Nonces must all be echoed by the token, as they are, in hexadecimal or in
	// base64. Without one, NoNonce says that freshness comes from elsewhere.
	Nonces  [][]byte
	NoNonce bool
	// Policies are ids that must be among the policies that matched (Intel, AICC),
	// or among those that were applied (EAR).
	Policies []string
	// AllowDebug takes tokens about TEEs that are open to debugging.
	AllowDebug bool
	// AllowSimulated takes EARs about simulated TEEs.
	AllowSimulated bool
}

// A Result is what was found. Its checks are complete as far as they could be
// made.
type Result struct {
	Checks evidence.Checks
	token  *Token
}

// Token returns the claims, or nil when the signature does not verify.
func (r *Result) Token() *Token { return r.token }

// Accepted reports whether the signature verifies and no check failed.
func (r *Result) Accepted() bool { return r.token != nil && len(r.Checks.Failed()) == 0 }

// A Token is what a verified token says.
type Token struct {
	Kind      Kind
	Issuer    string
	Subject   string
	Audience  []string
	IssuedAt  time.Time
	NotBefore time.Time
	Expires   time.Time
	// TEE is the kind of TEE that the token is about; "" when it does not tell, or
	// is about several.
	TEE evidence.Kind
	// Claims are all claims, as encoding JSON gives them: string, float64, bool,
	// nil, []any, map[string]any. Nil for an EAR.
	Claims map[string]any
	// Devices are the claims of the tokens within, by label (NVIDIA).
	Devices map[string]map[string]any
	// EAR is the attestation result of kind EAR.
	EAR *ear.Result
	// ReportData is what the evidence bound, by the label of the attester; "" for
	// tokens about one. At most 64 bytes each.
	ReportData map[string][]byte
	Nonces     []string // as the token has them
	TCB        *evidence.TCB
	Debug      bool
	Simulated  bool
}

// ParseJWKS reads a set of keys to pin (RFC 7517): RSA of 2048 to 8192 bits, ECDSA
// P-256, P-384 and P-521, and Ed25519. Keys for other uses are left out, private
// and malformed ones refused. Certificates in it are not verified; see
// [ParseJWKSUnder].
func ParseJWKS(b []byte) (eat.Keys, error) { return parseJWKS(b, nil, time.Time{}) }

// ParseJWKSUnder is [ParseJWKS] for sets that were fetched: each key must come with
// a chain (x5c) that leads to one of the roots at that time.
func ParseJWKSUnder(b []byte, roots []*x509.Certificate, now time.Time) (eat.Keys, error) {
	if len(roots) == 0 || now.IsZero() {
		return nil, fmt.Errorf("token: roots and the time are required to verify the chains of a JWK set")
	}
	return parseJWKS(b, roots, now)
}

func parseJWKS(b []byte, roots []*x509.Certificate, now time.Time) (eat.Keys, error) {
	set, err := jose.ParseSet(b)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	var keys eat.Keys
	for _, k := range set {
		if roots != nil {
			if err := chain(k.Chain, roots, now); err != nil {
				return nil, fmt.Errorf("token: JWK set: key %.80q: %w", k.ID, err)
			}
		}
		keys = append(keys, eat.Key{ID: k.ID, Public: k.Public, Alg: k.Alg})
	}
	return keys, nil
}

// chain verifies a chain, leaf first, to one of the roots.
func chain(certs, roots []*x509.Certificate, now time.Time) error {
	if len(certs) == 0 || len(roots) == 0 {
		return fmt.Errorf("no chain, or no root to lead it to")
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range roots {
		o.Roots.AddCert(c)
	}
	for _, c := range certs {
		if err := sig.CheckKey(c.PublicKey); err != nil { // verifying with a long key takes seconds
			return fmt.Errorf("the chain's certificate %q: %w", c.Subject.CommonName, err)
		}
	}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := certs[0].Verify(o); err != nil {
		return fmt.Errorf("the chain does not lead to a pinned root: %w", err)
	}
	return nil
}
