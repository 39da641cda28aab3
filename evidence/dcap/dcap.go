// Package dcap verifies quotes of Intel SGX (version 3) and Intel TDX (versions 4
// and 5, TD reports 1.0 and 1.5) with the collateral that Intel publishes for
// them. Call [New], and give its Verify a quote and an [evidence.Trust] with
// collateral among the endorsements ([ParseCollateral], [CollateralFromFiles]).
//
// The verdict is our own: all checks are made and listed, the TCB status is that
// of platform, quoting enclave and TDX module together, and the platform's part
// of it is read from the certificate that Intel issued for it, never from the
// quote's body.
package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/seal"
)

// Options say how strict a verifier is. The zero value is strict, but for the
// age of collateral that is still in force.
type Options struct {
	// AllowDebug makes a TEE in debug mode a warning: whoever runs it can read it.
	// For development only.
	AllowDebug bool
	// MinEvaluationNumber is the least tcbEvaluationDataNumber that collateral may
	// have. Intel counts it up with each TCB recovery; older collateral stays in
	// force for up to 30 days, and tells nothing of what was found since.
	MinEvaluationNumber uint64
	// CacheSize bounds how much verified collateral, and how many verified PCK
	// chains, are kept. 0 means 512 of each, less than 0 none.
	CacheSize int
}

// A Verifier verifies quotes. It implements [evidence.Verifier] and is safe for
// concurrent use. It keeps what it verified of collateral and of certificate
// chains, by digest; times, trust and revocation are looked at each time.
type Verifier struct {
	o           Options
	collaterals cache[*facts]
	chains      cache[*pckChain]
}

// New returns a verifier.
func New(o Options) *Verifier {
	if o.CacheSize == 0 {
		o.CacheSize = 512
	}
	v := &Verifier{o: o}
	v.collaterals.size, v.chains.size = o.CacheSize, o.CacheSize
	return v
}

// MediaTypes returns the types of TDX and SGX quotes.
func (v *Verifier) MediaTypes() []string { return []string{evidence.TypeTDX, evidence.TypeSGX} }

// A step is one of the checks, which stand in every result in this order.
type step int

const (
	trusted step = iota
	structure
	tail
	pckCertificate
	pckValidity
	qeReportSignature
	qeReportData
	quoteSignature
	collateralGiven
	rootCRL
	pckCRL
	revocation
	tcbInfoSigned
	tcbInfoValidity
	tcbInfoMatch
	qeIdentitySigned
	qeIdentityValidity
	qeIdentityMatch
	evaluationNumber
	tdxModule
	tcbStatus
	tdRelaunch
	serviceTD
	debug
	eventLog
	steps
)

var stepNames = [steps]string{
	"trust", "quote-structure", "quote-tail", "pck-chain", "pck-validity",
	"qe-report-signature", "qe-report-data", "quote-signature",
	"collateral", "root-crl", "pck-crl", "revocation",
	"tcb-info", "tcb-info-validity", "tcb-info-match",
	"qe-identity", "qe-identity-validity", "qe-identity-match",
	"tcb-evaluation-number", "tdx-module", "tcb-status", "td-relaunch", "service-td",
	"debug", "event-log",
}

// A run is one verification.
type run struct {
	v      *Verifier
	t      *evidence.Trust
	kind   evidence.Kind
	checks [steps]evidence.Check
	valid  window // of all that was used

	q         *Quote
	chain     *pckChain
	anchored  bool // chain's root is trusted, and leads to the leaf
	simulated bool
	f         *facts   // of the collateral that was chosen
	all       []*facts // of all collateral at hand
	tcb       *evidence.TCB
	events    []string // of an event log that matches
}

// set records a check. Without detail, a passing one says nothing.
func (r *run) set(s step, o evidence.Outcome, detail string) {
	r.checks[s] = evidence.Check{Name: stepNames[s], Outcome: o, Detail: detail}
}

// judge records a check that passes unless err says why not.
func (r *run) judge(s step, err error) bool {
	if err != nil {
		r.set(s, evidence.Fail, err.Error())
		return false
	}
	r.set(s, evidence.Pass, "")
	return true
}

func (r *run) passed(ss ...step) bool {
	for _, s := range ss {
		if r.checks[s].Outcome != evidence.Pass {
			return false
		}
	}
	return true
}

// anchor returns the trusted root whose DER is given, or nil.
func (r *run) anchor(der []byte) *x509.Certificate {
	c, _ := r.root(der)
	return c
}

func (r *run) root(der []byte) (c *x509.Certificate, simulated bool) {
	for _, c := range r.t.Anchors.Intel {
		if bytes.Equal(c.Raw, der) {
			return c, false
		}
	}
	for _, c := range r.t.Simulator.Anchors().Intel {
		if bytes.Equal(c.Raw, der) {
			return c, true
		}
	}
	return nil, false
}

// Verify verifies a quote of the given media type. Collateral and a CCEL event
// log are taken from t's endorsements; of several bundles, the one that fits
// best. Claims are there if the quote leads to an anchor through an enclave that
// Intel (or the simulator) names as its quoting enclave.
func (v *Verifier) Verify(mediaType string, value []byte, t *evidence.Trust) *evidence.Result {
	r := &run{v: v, t: t, kind: evidence.TDX}
	if mediaType == evidence.TypeSGX {
		r.kind = evidence.SGX
	}
	r.verify(mediaType, value)
	return evidence.NewResult(seal.Mine(), r.kind, r.list(), r.tcb, r.claims())
}

// list returns all checks; those that were not made say so.
func (r *run) list() evidence.Checks {
	out := r.checks[:]
	first := ""
	for s := range out {
		if out[s].Outcome == evidence.Fail && first == "" {
			first = out[s].Name
		}
		if out[s].Name == "" {
			detail := "not for this kind of quote"
			if first != "" {
				detail = "not possible since " + first + " failed"
			}
			out[s] = evidence.Check{Name: stepNames[s], Outcome: evidence.NotPerformed, Detail: detail}
		}
	}
	return out
}

func (r *run) verify(mediaType string, value []byte) {
	if !r.judge(trusted, r.checkTrust(mediaType)) {
		return
	}
	var err error
	if r.q, err = ParseQuote(value); err == nil && r.q.TDX != (mediaType == evidence.TypeTDX) {
		err = fmt.Errorf("the quote is not of the media type %s", mediaType)
	}
	if !r.judge(structure, err) {
		r.q = nil
		return
	}
	if !allZero(r.q.tail) {
		r.set(tail, evidence.Fail, fmt.Sprintf("%d bytes follow the quote and are not all zero: nobody signed them", len(r.q.tail)))
	} else {
		r.set(tail, evidence.Pass, "")
	}
	r.body()
	if !r.certificates() {
		r.signature()
		return
	}
	r.report()
	r.signature()
	if r.endorsements() {
		r.revocation()
		r.tcbInfo()
		r.qeIdentity()
		r.judgeTCB()
	}
	r.log()
}

func (r *run) checkTrust(mediaType string) error {
	switch {
	case mediaType != evidence.TypeTDX && mediaType != evidence.TypeSGX:
		return fmt.Errorf("the media type %q is not one of %s", mediaType, strings.Join(r.v.MediaTypes(), ", "))
	case r.t == nil:
		return errors.New("nothing is trusted: give anchors and the time")
	case r.t.Now.IsZero():
		return errors.New("the time is not given")
	}
	return r.t.Anchors.Check()
}

// body checks what the quote says of itself. It counts only if the signature is
// good.
func (r *run) body() {
	is, what := false, ""
	none := func(detail string, ss ...step) {
		for _, s := range ss {
			r.set(s, evidence.NotPerformed, detail)
		}
	}
	if r.q.TDX {
		if len(r.q.Body) == td10Size {
			none("TDX 1.0 tells nothing of it", tdRelaunch, serviceTD)
		}
		td := tdReport(r.q.Body)
		is, what = td.debug(), fmt.Sprintf("the TD is under debug (TD attributes %x)", td.tdAttributes())
		if s := td.mrServiceTD(); s != nil && allZero(s) {
			r.set(serviceTD, evidence.Pass, "")
		} else if s != nil {
			r.set(serviceTD, evidence.Warn, fmt.Sprintf("the TD has a service TD (MRSERVICETD %x), which it depends on", s))
		}
	} else {
		none("SGX has none", tdxModule, tdRelaunch, serviceTD, eventLog)
		e := enclaveReport(r.q.Body)
		is, what = e.debug(), fmt.Sprintf("the enclave is under debug (attributes %x)", e.attributes())
	}
	switch {
	case !is:
		r.set(debug, evidence.Pass, "")
	case r.v.o.AllowDebug:
		r.set(debug, evidence.Warn, what+", which is allowed here")
	default:
		r.set(debug, evidence.Fail, what+": whoever runs it can read and change it")
	}
}

// certificates verifies the PCK certificate chain. It returns false if there is
// none to go on with.
func (r *run) certificates() bool {
	key := sha256.Sum256(r.q.PCKChain)
	c, hit := r.v.chains.get(key)
	if !hit {
		var err error
		if c, err = parsePCKChain(r.q.PCKChain, r.anchor); err != nil {
			r.set(pckCertificate, evidence.Fail, err.Error())
			return false
		}
	}
	r.chain = c
	root, simulated := r.root(c.root.Raw)
	err := c.signed
	if err == nil && root == nil {
		err = fmt.Errorf("the root %q (SHA-256 %x) is not a trusted one", c.root.Subject.CommonName, sha256.Sum256(c.root.Raw))
		if evidence.IsSimulated(c.root) {
			err = errors.New("the TEE is simulated, by a simulator that is not trusted here: simulated evidence proves nothing")
		}
	}
	r.anchored, r.simulated = r.judge(pckCertificate, err), simulated
	if r.anchored && !hit {
		r.v.chains.put(key, c)
	}
	r.judge(pckValidity, c.valid.check("the PCK certificate chain", r.t.Now))
	r.valid = c.valid
	return true
}

// report verifies the QE's report, which the PCK signs.
func (r *run) report() {
	if verifyRaw(p256(r.chain.leaf), r.q.qeReport, r.q.qeSignature) {
		r.set(qeReportSignature, evidence.Pass, "")
	} else {
		r.set(qeReportSignature, evidence.Fail, "the QE report is not signed by the PCK")
	}
}

// signature verifies the quote's own signature, and that the QE vouches for its
// key: its report data are SHA-256(attestation key ‖ authentication data), and
// zeros.
func (r *run) signature() {
	h := sha256.New()
	h.Write(r.q.key)
	h.Write(r.q.qeAuth)
	rd := enclaveReport(r.q.qeReport).reportData()
	if bytes.Equal(rd[:32], h.Sum(nil)) && allZero(rd[32:]) {
		r.set(qeReportData, evidence.Pass, "")
	} else {
		r.set(qeReportData, evidence.Fail, "the QE report is not for this attestation key and authentication data")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, r.q.key...))
	switch {
	case err != nil:
		r.set(quoteSignature, evidence.Fail, "the attestation key is not a point of P-256")
	case !verifyRaw(key, r.q.signed, r.q.signature):
		r.set(quoteSignature, evidence.Fail, "the quote is not signed by its attestation key")
	default:
		r.set(quoteSignature, evidence.Pass, "")
	}
}
