package sim

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/trustedmcp/tmcp/evidence"
)

// An authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Validity of authorities, and of what has no dates in its options.
var (
	notBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// name is a subject that says that it is simulated.
func name(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{evidence.SimulatorOrganization}}
}

// template is a certificate for name cn, whose serial number is derived from
// the world and the label.
func (w *World) template(cn, label string) *x509.Certificate {
	return &x509.Certificate{
		Subject:      name(cn),
		SerialNumber: w.serial(label),
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,

		BasicConstraintsValid: true,
	}
}

// authorityTemplate is one for a CA; path is the number of CAs that may stand
// below it.
func (w *World) authorityTemplate(cn, label string, path int) *x509.Certificate {
	t := w.template(cn, label)
	t.IsCA = true
	t.MaxPathLen, t.MaxPathLenZero = path, path == 0
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t
}

// serial is a positive number of 20 bytes.
func (w *World) serial(label string) *big.Int {
	b := w.bytes("serial "+label, 20)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

// issue signs a certificate for key; a nil issuer means key itself. The signers
// here need no randomness, so none is given.
func issue(issuer *authority, t *x509.Certificate, key crypto.Signer) (*authority, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	parent, by := t, key
	if issuer != nil {
		c := *issuer.cert
		parent, by = &c, issuer.key
	}
	if t.BasicConstraintsValid {
		id := sha256.Sum256(spki)
		t.SubjectKeyId = id[:20]
		t.AuthorityKeyId = parent.SubjectKeyId
	} else { // an endorsement key of AMD's: their certificates have nothing of the kind
		parent.SubjectKeyId = nil
	}
	der, err := x509.CreateCertificate(nil, t, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{c, key}, nil
}

// crl signs a list of revoked serial numbers.
func crl(issuer *authority, this, next time.Time, revoked []*big.Int) ([]byte, error) {
	if slices.Contains(revoked, nil) {
		return nil, errors.New("a serial number to revoke is nil")
	}
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: this, NextUpdate: next}
	if _, ok := issuer.key.(*rsaSigner); ok {
		t.SignatureAlgorithm = x509.SHA384WithRSAPSS
	}
	for _, n := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: this, ReasonCode: 1})
	}
	return x509.CreateRevocationList(nil, t, issuer.cert, issuer.key)
}

// chain encodes certificates as PEM, in order.
func chain(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

// rawSignature turns an ECDSA signature from DER into r ‖ s of size bytes each.
func rawSignature(der []byte, size int) ([]byte, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) {
		return nil, errors.New("the signature is no SEQUENCE of two integers")
	}
	return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
}

// extension is one that is not critical.
func extension(id asn1.ObjectIdentifier, value []byte) pkix.Extension {
	return pkix.Extension{Id: id, Value: value}
}
