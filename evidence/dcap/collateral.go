package dcap

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence"
)

// maxBundle bounds a bundle, in bytes of JSON.
const maxBundle = 4 << 20

// Collateral is what Intel publishes about the platforms of one FMSPC: all that
// a quote is verified with, but the roots. Signed pieces are kept byte for byte.
//
// Its JSON form is the one that verifiers of quotes exchange: an object of
// strings with the members below, PEM for chains, hexadecimal digits for CRLs
// (DER) and signatures (r ‖ s), and the signed JSON texts as strings.
type Collateral struct {
	TCBInfo             []byte // JSON, the bytes that were signed
	TCBInfoSignature    []byte // 64 bytes, r ‖ s
	TCBInfoChain        []byte // PEM: TCB signing certificate, root
	QEIdentity          []byte // JSON, the bytes that were signed
	QEIdentitySignature []byte
	QEIdentityChain     []byte
	RootCRL             []byte // DER
	PCKCRL              []byte // DER
	// PCKCRLChain is kept for others. Nothing here depends on it: the CRL must be
	// of the CA that issued the quote's PCK certificate.
	PCKCRLChain []byte
}

type bundle struct {
	PCKCRLIssuerChain     string   `json:"pck_crl_issuer_chain,omitzero"`
	RootCACRL             hexBytes `json:"root_ca_crl"`
	PCKCRL                hexBytes `json:"pck_crl"`
	TCBInfoIssuerChain    string   `json:"tcb_info_issuer_chain"`
	TCBInfo               string   `json:"tcb_info"`
	TCBInfoSignature      hexBytes `json:"tcb_info_signature"`
	QEIdentityIssuerChain string   `json:"qe_identity_issuer_chain"`
	QEIdentity            string   `json:"qe_identity"`
	QEIdentitySignature   hexBytes `json:"qe_identity_signature"`
}

// MarshalText writes hexadecimal digits, lower case.
func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// ParseCollateral reads a bundle. It verifies nothing: [Verifier.Verify] does.
// Members that are not listed at [Collateral] are passed over.
func ParseCollateral(b []byte) (*Collateral, error) {
	if len(b) > maxBundle {
		return nil, fmt.Errorf("the collateral has %d bytes; at most %d are read", len(b), maxBundle)
	}
	var j bundle
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("the collateral is not a bundle: %v", err)
	}
	c := &Collateral{
		TCBInfo: []byte(j.TCBInfo), TCBInfoSignature: j.TCBInfoSignature, TCBInfoChain: []byte(j.TCBInfoIssuerChain),
		QEIdentity: []byte(j.QEIdentity), QEIdentitySignature: j.QEIdentitySignature, QEIdentityChain: []byte(j.QEIdentityIssuerChain),
		RootCRL: j.RootCACRL, PCKCRL: j.PCKCRL, PCKCRLChain: []byte(j.PCKCRLIssuerChain),
	}
	for _, m := range []struct {
		name string
		v    []byte
	}{
		{"tcb_info", c.TCBInfo}, {"tcb_info_signature", c.TCBInfoSignature}, {"tcb_info_issuer_chain", c.TCBInfoChain},
		{"qe_identity", c.QEIdentity}, {"qe_identity_signature", c.QEIdentitySignature}, {"qe_identity_issuer_chain", c.QEIdentityChain},
		{"root_ca_crl", c.RootCRL}, {"pck_crl", c.PCKCRL},
	} {
		if len(m.v) == 0 {
			return nil, fmt.Errorf("the collateral has no %s", m.name)
		}
	}
	return c, nil
}

// Bundle writes c in its JSON form.
func (c *Collateral) Bundle() ([]byte, error) {
	return json.Marshal(bundle{
		TCBInfo: string(c.TCBInfo), TCBInfoSignature: c.TCBInfoSignature, TCBInfoIssuerChain: string(c.TCBInfoChain),
		QEIdentity: string(c.QEIdentity), QEIdentitySignature: c.QEIdentitySignature, QEIdentityIssuerChain: string(c.QEIdentityChain),
		RootCACRL: c.RootCRL, PCKCRL: c.PCKCRL, PCKCRLIssuerChain: string(c.PCKCRLChain),
	})
}

// Item returns c as an endorsement for [evidence.Trust].
func (c *Collateral) Item() (evidence.Item, error) {
	b, err := c.Bundle()
	return evidence.Item{MediaType: evidence.TypeDCAPCollateral, Value: b}, err
}

// Scope is what collateral says that it is for and until when, unverified.
type Scope struct {
	TDX              bool // else SGX
	FMSPC            [6]byte
	CA               string // of the PCK CRL: platform or processor
	EvaluationNumber uint64
	// NotBefore is when the last piece begins to hold, NotAfter when the first one
	// ends.
	NotBefore, NotAfter time.Time
}

// Scope reads what c is for.
func (c *Collateral) Scope() (*Scope, error) {
	t, err := parseTCBInfo(c.TCBInfo)
	if err != nil {
		return nil, err
	}
	q, err := parseQEIdentity(c.QEIdentity)
	if err != nil {
		return nil, err
	}
	w := window{t.IssueDate, t.NextUpdate}
	w.meet(window{q.IssueDate, q.NextUpdate})
	s := &Scope{TDX: t.ID == "TDX", FMSPC: [6]byte(t.FMSPC), EvaluationNumber: min(t.EvaluationNumber, q.EvaluationNumber)}
	for _, der := range [][]byte{c.RootCRL, c.PCKCRL} {
		l, err := parseCRL(der)
		if err != nil {
			return nil, err
		}
		w.meet(l.valid)
		switch l.list.Issuer.CommonName {
		case cnPlatformCA:
			s.CA = "platform"
		case cnProcessorCA:
			s.CA = "processor"
		}
	}
	s.NotBefore, s.NotAfter = w.from, w.to
	return s, nil
}
