package client

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"time"
)

// A pki is a private CA that certifies the server's identity, and can be bent.
type pki struct {
	leaf      func(*x509.Certificate) // bends the certificate before it is signed
	otherRoot bool                    // the client is given another root
	bareKey   bool                    // no certificate at all

	rootPEM []byte
}

func newRoot() (*x509.Certificate, ed25519.PrivateKey, []byte, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tmcp-conform root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		return nil, nil, nil, err
	}
	root, err := x509.ParseCertificate(der)
	return root, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// certify gives the holder a certificate for its URI, and chain.
func (p *pki) certify(h *holder) error {
	root, key, rootPEM, err := newRoot()
	if err != nil {
		return err
	}
	p.rootPEM = rootPEM
	if p.otherRoot {
		if _, _, p.rootPEM, err = newRoot(); err != nil {
			return err
		}
	}
	u, err := url.Parse(h.uri)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tmcp-conform server"}, DNSNames: []string{u.Hostname()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if p.leaf != nil {
		p.leaf(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root, h.identity.Public(), key)
	if err != nil {
		return err
	}
	if !p.bareKey {
		h.chain = [][]byte{der}
	}
	return nil
}

func (p *pki) roots() []byte { return p.rootPEM }
