package dcap

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eventlog"
)

// endorsements chooses collateral. It returns false if there is none.
func (r *run) endorsements() bool {
	f, all, n, err := r.v.collateral(r.t, r.q, r.chain, r.anchor)
	switch {
	case f == nil && n == 0:
		err = fmt.Errorf("there is no collateral (%s) for FMSPC %x", evidence.TypeDCAPCollateral, r.chain.pck.FMSPC)
	case f == nil:
	case n > maxItems:
		err = fmt.Errorf("there are more than %d bundles of collateral", maxItems)
	case r.anchored && f.root != nil && !bytes.Equal(f.root.Raw, r.chain.root.Raw):
		err = errors.New("the collateral stands under another root than the quote")
	default:
		err = nil
	}
	r.f, r.all = f, all
	return r.judge(collateralGiven, err) || f != nil && n <= maxItems
}

// revocation verifies the CRLs and looks the certificates up in them.
func (r *run) revocation() {
	f := r.f
	err := f.rootCRLErr
	if err == nil {
		err = r.within("the CRL of "+cnRootCA, f.rootCRL.valid)
	}
	rootGood := r.judge(rootCRL, err)

	if err = f.pckCRLErr; err == nil {
		err = f.pckCRL.issuedBy(r.chain.ca)
	}
	pckAuthentic := err == nil
	if err == nil {
		err = r.within("the CRL of "+r.chain.ca.Subject.CommonName, f.pckCRL.valid)
	}
	pckGood := r.judge(pckCRL, err)

	var revoked []string
	look := func(l *crl, c *x509.Certificate) {
		if l.has(c) {
			revoked = append(revoked, fmt.Sprintf("%q (serial %x)", c.Subject.CommonName, c.SerialNumber))
		}
	}
	if pckAuthentic {
		look(f.pckCRL, r.chain.leaf)
	}
	if f.rootCRL != nil {
		look(f.rootCRL, r.chain.ca)
		for _, s := range f.signers {
			look(f.rootCRL, s)
		}
	}
	// Who shows evidence may staple collateral to it, with a list from before its key
	// was revoked. What any list at hand says counts.
	for _, o := range r.all {
		if o == f {
			continue
		}
		if o.pckCRL != nil && o.pckCRL.has(r.chain.leaf) && o.pckCRL.issuedBy(r.chain.ca) == nil {
			look(o.pckCRL, r.chain.leaf)
		}
		for _, c := range append([]*x509.Certificate{r.chain.ca}, f.signers...) {
			if o.rootCRL != nil && o.rootCRL.has(c) && o.rootCRL.issuedBy(r.chain.root) == nil {
				look(o.rootCRL, c)
			}
		}
	}
	switch {
	case len(revoked) > 0:
		r.set(revocation, evidence.Fail, "revoked: "+strings.Join(revoked, ", "))
	case rootGood && pckGood:
		r.set(revocation, evidence.Pass, "")
	}
}

// within checks that a piece holds now, and notes its bounds for the verdict's.
func (r *run) within(what string, w window) error {
	r.valid.meet(w)
	return w.check(what, r.t.Now)
}

// together joins errors into one of one line.
func together(errs ...error) error {
	var all []string
	for _, e := range errs {
		if e != nil {
			all = append(all, e.Error())
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

func (r *run) tcbInfo() {
	f := r.f
	if !r.judge(tcbInfoSigned, f.infoErr) {
		return
	}
	r.judge(tcbInfoValidity, together(
		r.within("the TCB info", window{f.info.IssueDate, f.info.NextUpdate}),
		r.within("the certificate of TCB signing", certWindow(f.signers[0]))))
	r.judge(tcbInfoMatch, f.fits(r.q, r.chain.pck))
}

func (r *run) qeIdentity() {
	f := r.f
	if !r.judge(qeIdentitySigned, f.qeErr) {
		return
	}
	r.judge(qeIdentityValidity, together(
		r.within("the QE identity", window{f.qe.IssueDate, f.qe.NextUpdate}),
		r.within("the certificate of TCB signing", certWindow(f.signers[len(f.signers)-1]))))
	r.judge(qeIdentityMatch, f.qe.is(r.q))

	if f.infoErr == nil {
		if n, least := f.evaluationNumber(), r.v.o.MinEvaluationNumber; n < least {
			r.set(evaluationNumber, evidence.Fail, fmt.Sprintf("the collateral's tcbEvaluationDataNumber is %d; at least %d is wanted", n, least))
		} else {
			r.set(evaluationNumber, evidence.Pass, fmt.Sprintf("%d", n))
		}
	}
}

// is checks that the quote's QE is the one that the identity describes, up to its
// SVN.
func (i *qeIdentity) is(q *Quote) error {
	e := enclaveReport(q.qeReport)
	want := "QE"
	if q.TDX {
		want = "TD_QE"
	}
	switch {
	case i.ID != want:
		return fmt.Errorf("the QE identity is that of %s; want %s", i.ID, want)
	case !bytes.Equal(e.mrSigner(), i.MRSigner):
		return fmt.Errorf("the QE's MRSIGNER is %x; want %x", e.mrSigner(), []byte(i.MRSigner))
	case e.isvProdID() != *i.ISVProdID:
		return fmt.Errorf("the QE's ISVPRODID is %d; want %d", e.isvProdID(), *i.ISVProdID)
	case !masked(e.attributes(), i.AttributesMask, i.Attributes):
		return fmt.Errorf("the QE's attributes are %x; want %x under the mask %x", e.attributes(), []byte(i.Attributes), []byte(i.AttributesMask))
	case !masked(e.miscSelect(), i.MiscSelectMask, i.MiscSelect):
		return fmt.Errorf("the QE's MISCSELECT is %x; want %x under the mask %x", e.miscSelect(), []byte(i.MiscSelect), []byte(i.MiscSelectMask))
	}
	return nil
}

func masked(v, mask, want []byte) bool {
	for i := range v {
		if v[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// judgeTCB finds the levels of platform, TDX module and QE.
func (r *run) judgeTCB() {
	if !r.anchored || !r.passed(tcbInfoSigned, tcbInfoMatch, qeIdentitySigned, qeIdentityMatch) {
		return
	}
	info, pck := r.f.info, r.chain.pck
	var parts []found
	var td tdReport
	var module evidence.TCBStatus
	if r.q.TDX {
		td = tdReport(r.q.Body)
		parts = append(parts, find("platform", info.Levels, info.match(pck, td.teeTCBSVN())))
		m, err := info.module(td)
		r.judge(tdxModule, err)
		if td.teeTCBSVN()[1] > 0 {
			part := find("tdx-module", nil, -1)
			if m != nil {
				part = find("tdx-module", m.Levels, reached(m.Levels, uint16(td.teeTCBSVN()[0])))
			}
			module = part.part.Status
			parts = append(parts, part)
		}
	} else {
		parts = append(parts, find("platform", info.Levels, info.match(pck, nil)))
	}
	qe := find("qe", r.f.qe.Levels, reached(r.f.qe.Levels, enclaveReport(r.q.qeReport).isvSVN()))
	parts = append(parts, qe)
	r.tcb = converge(parts)
	r.tcb.EvaluationNumber = r.f.evaluationNumber()
	r.set(tcbStatus, statusOutcome(r.tcb.Status), explain(r.tcb))

	if svn2 := td.teeTCBSVN2(); svn2 != nil {
		sgx := find("", info.Levels, info.match(pck, nil)).part.Status
		switch advised, known := relaunchAdvised(info, sgx, r.tcb, module, qe.part.Status, svn2); {
		case !known:
			r.set(tdRelaunch, evidence.Fail, fmt.Sprintf("the TCB info knows no TDX module of version %d, which the platform has by now", svn2[1]))
		case advised:
			r.set(tdRelaunch, evidence.Warn, "the platform's TDX module was updated since the TD was launched; launched again, the TD is up to date")
		default:
			r.set(tdRelaunch, evidence.Pass, "")
		}
	}
}

// module returns the identity of a TD's module, with an error if the module is
// not the one that is described. Modules of version 0 have no entry of their own,
// and no levels.
func (t *tcbInfo) module(td tdReport) (*module, error) {
	m := t.Module
	if v := td.teeTCBSVN()[1]; v > 0 {
		if m = t.identity(v); m == nil {
			return nil, fmt.Errorf("the TCB info knows no TDX module of version %d", v)
		}
	}
	if !bytes.Equal(td.mrSignerSEAM(), m.MRSigner) {
		return m, fmt.Errorf("the TDX module's signer is %x; want %x", td.mrSignerSEAM(), []byte(m.MRSigner))
	}
	// Intel's library demands zeros whatever the mask says.
	if !allZero(td.seamAttributes()) || !bytes.Equal(td.seamAttributes(), m.Attributes) {
		return m, fmt.Errorf("the TDX module's attributes are %x; want %x, and zeros", td.seamAttributes(), []byte(m.Attributes))
	}
	return m, nil
}

// statusOutcome is pass for what needs no judgement, fail for what no policy may
// accept.
func statusOutcome(s evidence.TCBStatus) evidence.Outcome {
	switch s {
	case evidence.UpToDate:
		return evidence.Pass
	case evidence.Revoked, evidence.Unrecognized:
		return evidence.Fail
	}
	return evidence.Warn
}

// explain says a TCB in words: "platform OutOfDate (2024-03-13, 2 levels behind
// since 2024-11-13), qe UpToDate".
func explain(t *evidence.TCB) string {
	if t.Status == evidence.UpToDate {
		return string(t.Status)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", t.Status)
	for i, p := range t.Parts {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.Name + " " + string(p.Status))
		if p.Status == evidence.Unrecognized {
			b.WriteString(" (no level of Intel's list fits)")
		} else if p.Status != evidence.UpToDate {
			fmt.Fprintf(&b, " (%s, newer levels: %d)", p.Date.UTC().Format(time.DateOnly), p.Behind)
		}
	}
	if !t.OutOfDateSince.IsZero() {
		b.WriteString("; out of date since " + t.OutOfDateSince.UTC().Format(time.DateOnly))
	}
	if len(t.Advisories) > 0 {
		b.WriteString("; " + strings.Join(t.Advisories, ", "))
	}
	return b.String()
}

// log replays an event log against the TD's registers.
func (r *run) log() {
	if !r.q.TDX {
		return
	}
	var errs []error
	td := tdReport(r.q.Body)
	n := 0
	for _, item := range r.t.Endorsements {
		if item.MediaType != evidence.TypeEventLog {
			continue
		}
		if n++; n > maxItems {
			break
		}
		l, err := eventlog.Parse(item.Value)
		if err == nil {
			var open []int
			if open, err = l.CheckRTMRs([4][]byte{td.rtmr(0), td.rtmr(1), td.rtmr(2), td.rtmr(3)}); err == nil {
				r.events = l.Digests()
				if len(open) > 0 {
					r.set(eventLog, evidence.Warn, fmt.Sprintf("the event log has nothing for the RTMRs %v, which were extended", open))
				} else {
					r.set(eventLog, evidence.Pass, "")
				}
				return
			}
		}
		errs = append(errs, err)
	}
	if n == 0 {
		r.set(eventLog, evidence.NotPerformed, "there is no event log")
		return
	}
	r.judge(eventLog, together(errs...))
}
