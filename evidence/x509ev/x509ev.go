// Package x509ev reads and writes evidence in X.509 certificates (RA-TLS).
//
// [Extract] takes what a certificate carries apart, and [Statement.Evidence]
// says what each piece must bind, ready for a protocol.Appraiser; every
// statement of a certificate must be accepted, or the certificate is not.
// [Attest] has an attester make the extension for a new certificate.
//
// The forms that are known, and what the TEE's report data must be:
//
//	tagged-quote  2.23.133.5.4.9          60000([quote, claims-buffer]): SHA-256(claims-buffer) ‖ 32 zeros
//	cmw           1.3.6.1.5.5.7.1.35      CMW (RFC 9999): the report data of protocol.Binding
//	dice-cmw      2.23.133.5.4.9          CMW record or tag, no collection: the same
//	gramine       1.2.840.113741.1337.6   quote: SHA-256(SubjectPublicKeyInfo) ‖ 32 zeros
//
// The first is that of the Confidential Computing Consortium's Interoperable
// RA-TLS, where the claims-buffer holds the hash of the certificate's public
// key. It names neither a role nor an identity; the binding of the CMW forms
// does both. None of them is bound to a connection (spec chapter 21).
//
// Nothing here verifies a quote, a certificate's signature or its validity:
// what is extracted is what the certificate says.
package x509ev

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/protocol"
)

// A Form is how evidence stands in a certificate.
type Form string

// The forms.
const (
	TaggedQuote Form = "tagged-quote"
	CMW         Form = "cmw"
	DICECMW     Form = "dice-cmw"
	Gramine     Form = "gramine" // read only
)

// Identifiers of the extensions.
var (
	OIDCMW            = cmw.OID                                                  // id-pe-cmw (RFC 9999), 1.3.6.1.5.5.7.1.35
	OIDDICE           = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}               // tcg-dice-conceptual-message-wrapper, once tagged evidence
	OIDDICEEndorsed   = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 2}               // tcg-dice-endorsement-manifest
	OIDGramine        = asn1.ObjectIdentifier{1, 2, 840, 113741, 1337, 6}        // Intel's RA-TLS paper, as it was meant
	OIDGramineWritten = asn1.ObjectIdentifier{0, 6, 9, 42, 840, 113741, 1337, 6} // as Gramine writes it: tag and length stand within the value
	OIDIntelSGX       = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}       // of PCK certificates; Intel's SDK puts quotes under it too
)

const maxExtension = 128 << 10 // bytes of one extension

// ErrNoEvidence: the certificate carries none of the forms.
var ErrNoEvidence = errors.New("the certificate carries no evidence: no extension " +
	OIDCMW.String() + " (CMW), " + OIDDICE.String() + " (DICE) or " + OIDGramine.String() + " (Gramine)")

// Extracted is what a certificate carries. Byte slices alias the certificate.
type Extracted struct {
	// Statements are one for each extension that holds evidence, at least one.
	// Each must be accepted.
	Statements []Statement
	// Endorsements is what the endorsement manifest holds: CBOR tag 60000 with
	// Intel's collateral in the order of Open Enclave. Nil: none. Not used in
	// decisions; verifiers have collateral of their own.
	Endorsements *Endorsements
}

// A Statement is evidence in one extension.
type Statement struct {
	Form Form
	// CMW holds the evidence, in CBOR: for the forms of bare quotes a record that
	// was made here.
	CMW []byte
	// Items are the records of CMW that are evidence or may be.
	Items []evidence.Item
	// Nonce is the claims-buffer's: whoever asked for the evidence knows it.
	Nonce []byte

	reportData [protocol.ReportDataSize]byte // of forms without binding
	cert       *x509.Certificate
}

// Bound reports whether the form binds role, identity and time beside the key.
func (s *Statement) Bound() bool { return s.Form == CMW || s.Form == DICECMW }

// Evidence is what an appraiser must be shown: the evidence and the report data
// that it must bind, if the certificate is to speak for identity in that role.
// For bare quotes role and identity have no part in it, and Binding is zero.
func (s *Statement) Evidence(role protocol.Role, identity string, now time.Time) (protocol.Evidence, error) {
	e := protocol.Evidence{CMW: s.CMW, ReportData: s.reportData, Now: now}
	if !s.Bound() {
		return e, nil
	}
	b, err := binding(role, identity, s.cert.PublicKey, s.cert.NotBefore)
	if err != nil {
		return protocol.Evidence{}, err
	}
	e.Binding, e.ReportData = *b, b.ReportData()
	return e, nil
}

// binding is that of a certificate's key. The time at which the evidence was
// made is the certificate's notBefore: to the second, and in every certificate.
func binding(role protocol.Role, identity string, key any, notBefore time.Time) (*protocol.Binding, error) {
	// TMCP-21.2-4: The report data of a CMW in a certificate MUST be that of section 18.2 for the
	// certificate's key, with no configuration digest, and with the certificate's notBefore as the
	// time at which the evidence was made.
	return protocol.NewBinding(role, identity, key, nil, protocol.Freshness{Kind: protocol.FreshAt, At: notBefore})
}

// Extract finds all evidence in a certificate. It refuses a certificate of which
// it can't read one piece: what is not understood can't be verified.
func Extract(cert *x509.Certificate) (*Extracted, error) {
	if cert == nil {
		return nil, errors.New("no certificate")
	}
	x := &Extracted{}
	var intel []byte
	seen := map[string]bool{}
	for _, ext := range cert.Extensions {
		form := classify(ext.Id)
		if form == "" {
			continue
		}
		if seen[form] {
			// TMCP-21.2-5: A verifier MUST refuse a certificate in which an extension that holds evidence
			// occurs twice.
			return nil, fmt.Errorf("the extension %v (%s) stands in the certificate twice: the issuer must write it once", ext.Id, form)
		}
		seen[form] = true
		if len(ext.Value) > maxExtension {
			return nil, fmt.Errorf("the extension %v has %d bytes; at most %d are read", ext.Id, len(ext.Value), maxExtension)
		}
		var s *Statement
		var err error
		switch form {
		case "cmw":
			s, err = readCMW(ext.Value)
		case "dice":
			s, err = readDICE(cert, ext.Value)
		case "gramine":
			s, err = readGramine(cert, ext.Value)
		case "intel":
			intel = ext.Value
			continue
		case "endorsements":
			x.Endorsements, err = readEndorsements(ext.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("the extension %v: %w", ext.Id, err)
		}
		if s != nil {
			s.cert = cert
			x.Statements = append(x.Statements, *s)
		}
	}
	if err := x.checkIntel(intel); err != nil {
		return nil, err
	}
	if len(x.Statements) == 0 {
		return nil, ErrNoEvidence
	}
	return x, nil
}

// classify tells the kinds of extension apart; the two spellings of Gramine's
// are one kind.
func classify(id asn1.ObjectIdentifier) string {
	switch {
	case id.Equal(OIDCMW):
		return "cmw"
	case id.Equal(OIDDICE):
		return "dice"
	case id.Equal(OIDGramine), id.Equal(OIDGramineWritten):
		return "gramine"
	case id.Equal(OIDIntelSGX):
		return "intel"
	case id.Equal(OIDDICEEndorsed):
		return "endorsements"
	}
	return ""
}

// Known reports whether id is of an extension that this package reads, so that
// its being critical is no reason to refuse a certificate.
func Known(id asn1.ObjectIdentifier) bool { return classify(id) != "" }

// checkIntel judges the extension that Intel's SDK shares with PCK
// certificates. Its quote is taken only where the tagged quote is the same: the
// SDK's own binding has changed over its versions, and the certificate does not
// say which one it is.
func (x *Extracted) checkIntel(value []byte) error {
	if len(value) == 0 || value[0] == 0x30 { // a SEQUENCE: Intel's description of a platform
		return nil
	}
	for _, s := range x.Statements {
		if s.Form == TaggedQuote && bytes.Equal(s.Items[0].Value, value) {
			return nil
		}
	}
	return fmt.Errorf("the extension %v holds a quote, but what it binds is not defined: put it under %v as well, in CBOR tag 60000", OIDIntelSGX, OIDDICE)
}

// readCMW reads id-pe-cmw.
func readCMW(value []byte) (*Statement, error) {
	_, c, err := cmw.DecodeExtension(value)
	if err != nil {
		return nil, err
	}
	return newStatement(CMW, c)
}

// readDICE reads TCG's extension. The value is CBOR, or an OCTET STRING of CBOR:
// implementations do both, and 0x04 begins no CBOR that is valid here.
func readDICE(cert *x509.Certificate, value []byte) (*Statement, error) {
	if len(value) > 0 && value[0] == asn1.TagOctetString {
		var inner []byte
		if rest, err := asn1.Unmarshal(value, &inner); err != nil || len(rest) > 0 {
			return nil, errors.New("an OCTET STRING that is not DER, or has bytes after it")
		}
		value = inner
	}
	if tag, ok := intelTag(value); ok {
		return readTagged(cert, tag, value)
	}
	parse := cmw.ParseUnsorted
	switch cmw.Demux(value) {
	case cmw.JSONRecord:
		parse = cmw.ParseJSON
	case cmw.CBORCollection, cmw.JSONCollection:
		// TMCP-21.2-7: A CMW in extension 2.23.133.5.4.9 MUST NOT be a collection.
		return nil, fmt.Errorf("a CMW collection, which TCG does not allow here: use %v", OIDCMW)
	}
	c, err := parse(value)
	if err != nil {
		return nil, err
	}
	return newStatement(DICECMW, c)
}

// newStatement makes a statement of a CMW, whose encoding becomes the
// deterministic one of CBOR, whatever it was.
func newStatement(form Form, c *cmw.CMW) (*Statement, error) {
	b, err := c.Encode()
	if err != nil {
		return nil, err
	}
	s := &Statement{Form: form, CMW: b}
	s.Items, err = items(c)
	return s, err
}

// items lists the records of c that are evidence, or do not say what they are.
func items(c *cmw.CMW) ([]evidence.Item, error) {
	var out []evidence.Item
	err := c.Walk(func(_ cmw.Path, r *cmw.Record) error {
		if ind := r.Ind; ind == 0 || ind&cmw.Evidence != 0 || ind&cmw.AttestationResults != 0 {
			out = append(out, evidence.Item{MediaType: r.Type(), Value: r.Value})
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("a CMW without evidence or attestation result in it")
	}
	return out, err
}

// padded is a SHA-256 digest as report data: 32 bytes, then 32 zeros.
func padded(b []byte) (out [protocol.ReportDataSize]byte) {
	d := sha256.Sum256(b)
	copy(out[:], d[:])
	return out
}
