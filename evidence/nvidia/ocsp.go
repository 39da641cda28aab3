package nvidia

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/trustedmcp/tmcp/evidence"
)

const (
	maxOCSP      = 16 << 10
	maxOCSPItems = 256
)

// revocation judges what OCSP responses among the endorsements (RFC 6960) say
// of a verified chain, and bounds the verdict's validity by those that it used.
// The leaf is left out: the device itself issued it, and answers no queries. So
// is the root.
func revocation(checks *evidence.Checks, chain []*x509.Certificate, t *evidence.Trust, bound func(from, to time.Time)) {
	const name = "certificate-revocation"
	var good, unknown, absent []string
	for i := 1; i < len(chain)-1; i++ {
		cert, issuer := chain[i], chain[i+1]
		n, found := 0, (*ocsp.Response)(nil)
		for _, e := range t.Endorsements {
			// One that is too long does not keep the others from being looked at: the
			// attester may have sent it.
			if e.MediaType != evidence.TypeOCSP || len(e.Value) > maxOCSP {
				continue
			}
			if n++; n > maxOCSPItems {
				break
			}
			r, err := ocsp.ParseResponseForCert(e.Value, cert, issuer)
			// What was revoked stays so when the answer that says it is over.
			if err != nil || !authorized(r, t.Now) || !current(r, t.Now) && r.Status != ocsp.Revoked {
				continue
			}
			// Of several answers the worst counts: the attester chooses what it sends.
			if found == nil || rank(r) > rank(found) {
				found = r
			}
		}
		switch cn := cert.Subject.CommonName; {
		case found == nil:
			absent = append(absent, cn)
		case found.Status == ocsp.Revoked:
			checks.Add(name, evidence.Fail, fmt.Sprintf("%q is revoked since %s, reason %d (RFC 5280 section 5.3.1)", cn, found.RevokedAt.UTC().Format(time.RFC3339), found.RevocationReason))
			return
		case found.Status == ocsp.Good:
			good = append(good, cn)
			bound(found.ThisUpdate, found.NextUpdate)
		default:
			unknown = append(unknown, cn)
		}
	}
	switch {
	case len(unknown) > 0:
		checks.Add(name, evidence.Warn, "the responder does not know "+strings.Join(unknown, ", "))
	case len(absent) > 0:
		checks.Add(name, evidence.NotPerformed, fmt.Sprintf("no current OCSP response from an authorized responder for %s; %d are good", strings.Join(absent, ", "), len(good)))
	default:
		checks.Add(name, evidence.Pass, fmt.Sprintf("%d certificates are good", len(good)))
	}
}

// authorized reports whether the responder that signed r was allowed to. That
// the certificate's issuer issued a delegate's certificate has been checked by
// the library; that it did so for signing OCSP responses, and when, has not:
// any other certificate of that issuer would do (RFC 6960 section 4.2.2.2).
func authorized(r *ocsp.Response, now time.Time) bool {
	d := r.Certificate
	return d == nil || slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) && !now.Before(d.NotBefore) && !now.After(d.NotAfter)
}

// current reports whether r holds now. One without an end never does: it could
// be replayed for ever.
func current(r *ocsp.Response, now time.Time) bool {
	return !now.Before(r.ThisUpdate) && now.Before(r.NextUpdate)
}

func rank(r *ocsp.Response) int {
	return slices.Index([]int{ocsp.Good, ocsp.Unknown, ocsp.Revoked}, r.Status)
}
