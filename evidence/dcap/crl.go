package dcap

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

const maxCRL = 1 << 20 // bytes

// A crl is a parsed revocation list.
type crl struct {
	list  *x509.RevocationList
	valid window
	by    atomic.Pointer[x509.Certificate] // the last CA whose signature was found good
}

func parseCRL(der []byte) (*crl, error) {
	if len(der) > maxCRL {
		return nil, fmt.Errorf("the CRL has %d bytes; at most %d are read", len(der), maxCRL)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("the CRL: %v", err)
	}
	if len(l.Raw) != len(der) {
		return nil, errors.New("the CRL has bytes after its end")
	}
	if l.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return nil, errors.New("the CRL is not signed with ECDSA and SHA-256")
	}
	if l.NextUpdate.IsZero() {
		return nil, errors.New("the CRL has no next update")
	}
	// Indirect, partial and delta lists say so in a critical extension.
	for _, e := range l.Extensions {
		if e.Critical {
			return nil, fmt.Errorf("the CRL has an unknown critical extension %v", e.Id)
		}
	}
	for _, e := range l.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, fmt.Errorf("an entry of the CRL has an unknown critical extension %v", x.Id)
			}
		}
	}
	return &crl{list: l, valid: window{l.ThisUpdate, l.NextUpdate}}, nil
}

// issuedBy checks that ca issued the list.
func (c *crl) issuedBy(ca *x509.Certificate) error {
	if b := c.by.Load(); b != nil && bytes.Equal(b.Raw, ca.Raw) {
		return nil
	}
	if !bytes.Equal(c.list.RawIssuer, ca.RawSubject) {
		return fmt.Errorf("the CRL is %q's; want that of %q", c.list.Issuer.CommonName, ca.Subject.CommonName)
	}
	if p256(ca) == nil {
		return fmt.Errorf("the key of %q is not ECDSA with P-256", ca.Subject.CommonName)
	}
	if err := c.list.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("the CRL is not signed by %q: %v", ca.Subject.CommonName, err)
	}
	c.by.Store(ca)
	return nil
}

// has reports whether x is revoked. The longest list that is read has some
// 25,000 entries, which are gone through in 0.1 ms.
func (c *crl) has(x *x509.Certificate) bool {
	return slices.ContainsFunc(c.list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(x.SerialNumber) == 0
	})
}
