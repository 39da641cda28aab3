package dcap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

// maxItems bounds the collateral that is looked at for one quote.
const maxItems = 16

// facts are what is known of collateral from itself and its root alone. They
// hold at any time and for whoever trusts root.
type facts struct {
	root            *x509.Certificate // an anchor at the time
	info            *tcbInfo          // nil unless authentic
	qe              *qeIdentity       // nil unless authentic
	signers         []*x509.Certificate
	rootCRL, pckCRL *crl // rootCRL is nil unless authentic; pckCRL's issuer is for the PCK chain to say

	infoErr, qeErr, rootCRLErr, pckCRLErr error
}

var errForeignRoot = errors.New("its certificate chain ends at a root that is not trusted")

// learn verifies all signatures of c but that of the PCK CRL. anchor returns the
// trusted root whose DER is given, or nil.
func learn(c *Collateral, anchor func(der []byte) *x509.Certificate) *facts {
	f := &facts{}
	signer, err := f.signer(c.TCBInfoChain, anchor)
	f.infoErr = err
	if err == nil {
		if !verifyRaw(p256(signer), c.TCBInfo, c.TCBInfoSignature) {
			f.infoErr = errors.New("its signature is wrong")
		} else {
			f.info, f.infoErr = parseTCBInfo(c.TCBInfo)
		}
	}
	if !bytes.Equal(c.QEIdentityChain, c.TCBInfoChain) {
		signer, err = f.signer(c.QEIdentityChain, anchor)
	}
	f.qeErr = err
	if err == nil {
		if !verifyRaw(p256(signer), c.QEIdentity, c.QEIdentitySignature) {
			f.qeErr = errors.New("its signature is wrong")
		} else {
			f.qe, f.qeErr = parseQEIdentity(c.QEIdentity)
		}
	}
	f.pckCRL, f.pckCRLErr = parseCRL(c.PCKCRL)
	l, err := parseCRL(c.RootCRL)
	if err == nil && f.root == nil {
		err = errors.New("there is no trusted root to verify it with: see tcb-info")
	}
	if err == nil {
		err = l.issuedBy(f.root)
	}
	if f.rootCRLErr = err; err == nil {
		f.rootCRL = l
	}
	return f
}

// signer verifies a chain of TCB signing certificate and root.
func (f *facts) signer(text []byte, anchor func(der []byte) *x509.Certificate) (*x509.Certificate, error) {
	ders, err := splitPEM(normalPEM(text))
	if err != nil {
		return nil, err
	}
	if len(ders) != 2 {
		return nil, fmt.Errorf("its certificate chain has %d certificates; want 2: TCB signing, root", len(ders))
	}
	root := anchor(ders[1])
	if root == nil {
		return nil, errForeignRoot
	}
	if f.root != nil && !bytes.Equal(f.root.Raw, root.Raw) {
		return nil, errors.New("its root is not that of the TCB info")
	}
	leaf, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return nil, err
	}
	// The root also issues the PCK CAs. And a PCK must never sign collateral.
	if leaf.Subject.CommonName != cnTCBSigning || leaf.IsCA {
		return nil, fmt.Errorf("it is signed by %q; want %q", leaf.Subject.CommonName, cnTCBSigning)
	}
	if err := issued(leaf, root); err != nil {
		return nil, err
	}
	f.root = root
	f.signers = append(f.signers, leaf)
	return leaf, nil
}

// collateral returns the facts of the item that fits best: authentic, for this
// platform, valid now, and then the newest. Nil if there is none. all are those of
// every item: a CRL of any of them may tell of a revocation.
func (v *Verifier) collateral(t *evidence.Trust, q *Quote, chain *pckChain, anchor func(der []byte) *x509.Certificate) (best *facts, all []*facts, n int, err error) {
	var rank []uint64
	for _, item := range t.Endorsements {
		if item.MediaType != evidence.TypeDCAPCollateral {
			continue
		}
		if n++; n > maxItems {
			break
		}
		key := sha256.Sum256(item.Value)
		f, ok := v.collaterals.get(key)
		if !ok || anchor(f.root.Raw) == nil {
			c, perr := ParseCollateral(item.Value)
			if perr != nil {
				err = perr
				continue
			}
			f = learn(c, anchor)
			if f.infoErr == nil && f.qeErr == nil && f.rootCRLErr == nil && f.pckCRLErr == nil {
				v.collaterals.put(key, f)
			}
		}
		all = append(all, f)
		if r := f.rank(q, chain, t.Now); best == nil || slices.Compare(r, rank) > 0 {
			best, rank = f, r
		}
	}
	return best, all, n, err
}

// rank orders collateral for a quote; the greater the better.
func (f *facts) rank(q *Quote, chain *pckChain, now time.Time) []uint64 {
	if f.infoErr != nil || f.qeErr != nil || f.rootCRLErr != nil || f.pckCRLErr != nil {
		return []uint64{0}
	}
	bit := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	fits := f.fits(q, chain.pck) == nil && bytes.Equal(f.root.Raw, chain.root.Raw) && bytes.Equal(f.pckCRL.list.RawIssuer, chain.ca.RawSubject)
	w := f.window()
	return []uint64{1, bit(fits), bit(w.check("", now) == nil), f.evaluationNumber(), uint64(max(0, f.info.IssueDate.Unix()))}
}

// window is when all pieces of authentic collateral hold.
func (f *facts) window() window {
	w := window{f.info.IssueDate, f.info.NextUpdate}
	w.meet(window{f.qe.IssueDate, f.qe.NextUpdate})
	w.meet(f.rootCRL.valid)
	w.meet(f.pckCRL.valid)
	for _, s := range f.signers {
		w.meet(certWindow(s))
	}
	return w
}

func (f *facts) evaluationNumber() uint64 {
	return min(f.info.EvaluationNumber, f.qe.EvaluationNumber)
}

// fits checks that the TCB info is for the quote's TEE and platform.
func (f *facts) fits(q *Quote, p *PCK) error {
	want := "SGX"
	if q.TDX {
		want = "TDX"
	}
	switch {
	case f.info.ID != want:
		return fmt.Errorf("the TCB info is for %s; want %s", f.info.ID, want)
	case !bytes.Equal(f.info.FMSPC, p.FMSPC[:]):
		return fmt.Errorf("the TCB info is for FMSPC %x; the platform's is %x", []byte(f.info.FMSPC), p.FMSPC)
	case !bytes.Equal(f.info.PCEID, p.PCEID[:]):
		return fmt.Errorf("the TCB info is for PCEID %x; the platform's is %x", []byte(f.info.PCEID), p.PCEID)
	}
	return nil
}
