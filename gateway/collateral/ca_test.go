package collateral

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// A ca is a chain of three certificates, leaf first, with the keys.
type ca struct {
	chain []*x509.Certificate
	keys  []*ecdsa.PrivateKey
}

func newCA(t *testing.T) *ca {
	c := &ca{}
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i := range 3 {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: string(rune('A' + i))},
			NotBefore: pinned.AddDate(-1, 0, 0), NotAfter: pinned.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent, parentKey = tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		c.chain = append([]*x509.Certificate{cert}, c.chain...)
		c.keys = append([]*ecdsa.PrivateKey{key}, c.keys...)
		parent, parentKey = cert, key
	}
	return c
}

// respond answers an OCSP request: good.
func (c *ca) respond(t *testing.T, r *http.Request, next time.Time) []byte {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	req, err := ocsp.ParseRequest(body)
	if err != nil {
		t.Error(err)
		return nil
	}
	for i, cert := range c.chain[:len(c.chain)-1] {
		if cert.SerialNumber.Cmp(req.SerialNumber) == 0 {
			res, err := ocsp.CreateResponse(c.chain[i+1], c.chain[i+1], ocsp.Response{Status: ocsp.Good, SerialNumber: req.SerialNumber, ThisUpdate: pinned, NextUpdate: next}, c.keys[i+1])
			if err != nil {
				t.Error(err)
			}
			return res
		}
	}
	return nil
}
