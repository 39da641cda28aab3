package sevsnp

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

// verifiedCRL is a CRL whose signature by a root was verified.
type verifiedCRL struct {
	list *x509.RevocationList
	by   *x509.Certificate
}

// revocation looks for the intermediate in CRLs of the root. AMD revokes no
// VCEKs: a newer TCB takes their place. It returns false when the chain is
// revoked.
func (a *appraisal) revocation() bool {
	const name = "revocation"
	outcome, detail := evidence.NotPerformed, "no current CRL of "+a.chain.ark.Subject.CommonName+" was given"
	// Those of the certificate table stand first, and the attester made that: however
	// many it has, and of what size, the others are looked at.
	for _, b := range a.crls {
		if len(b) > maxItem {
			continue
		}
		l := a.crl(b)
		if l == nil {
			continue
		}
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(a.chain.ask.SerialNumber) == 0 {
				a.checks.Add(name, evidence.Fail, fmt.Sprintf("the intermediate %s was revoked at %s", a.chain.ask.Subject.CommonName, e.RevocationTime.Format(time.RFC3339)))
				return false
			}
		}
		if a.t.Now.Before(l.ThisUpdate) || !a.t.Now.Before(l.NextUpdate) {
			if outcome == evidence.NotPerformed {
				detail = fmt.Sprintf("the CRL is for %s to %s", l.ThisUpdate.Format(time.RFC3339), l.NextUpdate.Format(time.RFC3339))
			}
			continue
		}
		a.bound(l.ThisUpdate, l.NextUpdate)
		outcome, detail = evidence.Pass, "CRL of "+l.ThisUpdate.Format(time.RFC3339)
	}
	a.checks.Add(name, outcome, detail)
	return true
}

// crl returns the list in b, PEM or DER, when the root of our chain signed it.
func (a *appraisal) crl(b []byte) *x509.RevocationList {
	d := sha256.Sum256(b)
	if known, ok := a.v.crls.Get(d); ok && known.by.Equal(a.chain.ark) {
		return known.list
	}
	der := b
	if p, _ := pem.Decode(b); p != nil && p.Type == "X509 CRL" {
		der = p.Bytes
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil || string(l.RawIssuer) != string(a.chain.ark.RawSubject) || l.CheckSignatureFrom(a.chain.ark) != nil {
		return nil
	}
	a.v.crls.Put(d, verifiedCRL{l, a.chain.ark})
	return l
}

// firmware holds the TCBs of the report against each other. They are the word of
// firmware at the endorsed TCB.
func (a *appraisal) firmware() {
	r := a.report
	current, committed := r.firmware()
	line := Milan
	if a.chain != nil {
		line = a.chain.product
	}
	cur, rep, com, launch := DecodeTCB(line, [8]byte(r.currentTCB())), DecodeTCB(line, [8]byte(r.reportedTCB())), DecodeTCB(line, [8]byte(r.committedTCB())), DecodeTCB(line, [8]byte(r.launchTCB()))

	var err error
	if !cur.AtLeast(rep) || !cur.AtLeast(com) {
		err = fmt.Errorf("the current firmware (%v) is older than the reported (%v) or the committed (%v)", cur, rep, com)
	}
	a.note("tcb-order", err, "current "+cur.String())

	if cur != com || current != committed {
		a.checks.Add("firmware-committed", evidence.Warn, fmt.Sprintf("provisional: firmware %s (%v) runs, and the host can go back to %s (%v)", current, cur, committed, com))
	} else {
		a.checks.Add("firmware-committed", evidence.Pass, "firmware "+current)
	}
	if launch.AtLeast(rep) {
		a.checks.Add("launch-tcb", evidence.Pass, launch.String())
	} else {
		a.checks.Add("launch-tcb", evidence.Warn, fmt.Sprintf("the guest was launched or migrated under older firmware (%v) than is reported (%v)", launch, rep))
	}
}

type bit struct {
	mask uint64
	name string
}

var policyBits = []bit{
	{policySMT, "SMT allowed"}, {policyMigrationAgent, "migration agent allowed"}, {policySingleSocket, "single socket"},
	{policyCXL, "CXL allowed"}, {policyAES256XTS, "AES-256-XTS required"}, {policyRAPLDisabled, "RAPL must be off"},
	{policyCiphertextHiding, "ciphertext hiding required"}, {policyPageSwapDisabled, "page swap disabled"},
}

var platformBits = []bit{
	{platformSMT, "SMT"}, {platformTSME, "TSME"}, {platformECC, "ECC"}, {platformRAPLDisabled, "RAPL off"},
	{platformCiphertextHiding, "ciphertext hiding"}, {platformAliasCheck, "alias check"},
	{platformIOMMUWriteSafe, "IOMMU write safe"}, {platformTIO, "TIO"},
}

// names lists the bits of n that are set.
func names(bits []bit, n uint64) string {
	var out []string
	for _, b := range bits {
		if n&b.mask != 0 {
			out = append(out, b.name)
		}
	}
	if out == nil {
		return "none of the known bits"
	}
	return strings.Join(out, ", ")
}

// guest judges the guest's policy and the state of the platform.
func (a *appraisal) guest() {
	r := a.report
	switch {
	case r.Policy&policyDebug == 0:
		a.checks.Add("debug", evidence.Pass, "the host can't debug the guest")
	case a.v.opts.AllowDebug:
		a.checks.Add("debug", evidence.Warn, "the policy lets the host read and write the guest's memory; that is allowed here")
	default:
		a.checks.Add("debug", evidence.Fail, "the policy (bit 19) lets the host read and write the guest's memory")
	}

	detail := fmt.Sprintf("ABI at least %d.%d; %s", r.Policy>>8&0xFF, r.Policy&0xFF, names(policyBits, r.Policy))
	if r.Policy&policyMigrationAgent != 0 {
		a.checks.Add("guest-policy", evidence.Warn, "a migration agent can move the guest elsewhere; "+detail)
	} else {
		a.checks.Add("guest-policy", evidence.Pass, detail)
	}

	// Firmware doesn't launch a guest whose policy the platform breaks.
	info, p := r.PlatformInfo, r.Policy
	detail = names(platformBits, info)
	switch {
	case info&platformSMT != 0 && p&policySMT == 0,
		info&platformRAPLDisabled == 0 && p&policyRAPLDisabled != 0,
		info&platformCiphertextHiding == 0 && p&policyCiphertextHiding != 0:
		a.checks.Add("platform-info", evidence.Fail, fmt.Sprintf("the platform (%s) breaks the guest's policy (%s)", detail, names(policyBits, p)))
	case info&^platformKnown != 0:
		a.checks.Add("platform-info", evidence.Warn, fmt.Sprintf("bits %#x are not known; %s", info&^platformKnown, detail))
	default:
		a.checks.Add("platform-info", evidence.Pass, detail)
	}
	if info&platformAliasCheck != 0 {
		a.checks.Add("alias-check", evidence.Pass, "no aliases in memory since the last reset")
	} else {
		a.checks.Add("alias-check", evidence.Warn, "the platform does not report a complete check for aliased memory (BadRAM, AMD-SB-3015)")
	}

	if r.Vmpl > 3 {
		a.checks.Add("vmpl", evidence.Fail, fmt.Sprintf("privilege level %d: the host asked for the report, want 0 to 3", r.Vmpl))
	} else {
		a.checks.Add("vmpl", evidence.Pass, fmt.Sprintf("privilege level %d", r.Vmpl))
	}
}
