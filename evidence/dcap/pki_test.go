package dcap

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A ca makes certificates.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var someday = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// make makes a certificate under c, or a root if c is nil.
func (c *ca) make(t *testing.T, cn string, curve elliptic.Curve, change func(*x509.Certificate)) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: cn}, NotBefore: someday, NotAfter: someday.AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: strings.HasSuffix(cn, "CA"), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		SignatureAlgorithm: x509.ECDSAWithSHA256,
	}
	if change != nil {
		change(tmpl)
	}
	out := &ca{key: key}
	if c == nil {
		c = &ca{tmpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	if out.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *ca) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// with is c with another's key.
func (c *ca) with(key crypto.Signer) *ca {
	name := *c.cert
	name.PublicKey = nil // or x509 sees that it is another's
	return &ca{&name, key}
}

var critical = pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}

// TestChain: a PCK chain with one thing wrong each.
func TestChain(t *testing.T) {
	_, ext := testPCK(t)
	p256 := elliptic.P256()
	sgx := func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidSGX, Value: ext})
	}
	root := (*ca)(nil).make(t, cnRootCA, p256, nil)
	platform := root.make(t, cnPlatformCA, p256, nil)
	leaf := platform.make(t, "Intel SGX PCK Certificate", p256, sgx)
	chain := func(all ...*ca) []byte {
		var b []byte
		for _, c := range all {
			b = append(b, c.pem()...)
		}
		return b
	}
	verify := func(text []byte) error {
		c, err := parsePCKChain(text, func([]byte) *x509.Certificate { return nil })
		if err != nil {
			return err
		}
		return c.signed
	}
	if err := verify(chain(leaf, platform, root)); err != nil {
		t.Fatal(err)
	}
	otherRoot := (*ca)(nil).make(t, cnRootCA, p256, nil)
	renamed := root.make(t, "Intel SGX PCK Processor CA", p256, nil)
	renamed = renamed.with(platform.key)
	strange := root.make(t, "Intel SGX Something CA", p256, nil)
	wide := root.make(t, cnPlatformCA, elliptic.P384(), nil)
	for name, tt := range map[string]struct {
		chain []byte
		want  string
	}{
		"two certificates": {chain(leaf, root), "has 2 certificates"},
		"order":            {chain(platform, leaf, root), ""},
		"another root":     {chain(leaf, platform, otherRoot), "not signed by"},
		"issuer's name":    {chain(renamed.make(t, "Intel SGX PCK Certificate", p256, sgx), platform, root), "was issued by"},
		"forged":           {chain(platform.with(leaf.key).make(t, "Intel SGX PCK Certificate", p256, sgx), platform, root), "not signed by"},
		"unknown CA":       {chain(strange.make(t, "Intel SGX PCK Certificate", p256, sgx), strange, root), "Something CA"},
		"P-384 CA":         {chain(wide.make(t, "Intel SGX PCK Certificate", p256, sgx), wide, root), "not ECDSA with P-256"},
		"P-384 PCK":        {chain(platform.make(t, "Intel SGX PCK Certificate", elliptic.P384(), sgx), platform, root), "not ECDSA with P-256"},
		"SHA-384": {chain(platform.make(t, "Intel SGX PCK Certificate", p256, func(c *x509.Certificate) {
			sgx(c)
			c.SignatureAlgorithm = x509.ECDSAWithSHA384
		}), platform, root), "not ECDSA with P-256"},
		"critical": {chain(platform.make(t, "Intel SGX PCK Certificate", p256, func(c *x509.Certificate) {
			sgx(c)
			c.ExtraExtensions = append(c.ExtraExtensions, critical)
		}), platform, root), "critical"},
		"no extension": {chain(platform.make(t, "Intel SGX PCK Certificate", p256, nil), platform, root), "no SGX extension"},
		"a CA as PCK":  {chain(platform.make(t, "Intel SGX PCK Certificate CA", p256, sgx), platform, root), "not a PCK certificate"},
		"another name": {chain(platform.make(t, "Intel SGX TCB Signing", p256, sgx), platform, root), "not a PCK certificate"},
		"leaf as CA":   {chain(leaf.make(t, "Intel SGX PCK Certificate", p256, sgx), leaf, root), ""},
	} {
		if err := verify(tt.chain); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
	}
}

// TestCRL: a CRL with one thing wrong each.
func TestCRL(t *testing.T) {
	root := (*ca)(nil).make(t, cnRootCA, elliptic.P256(), nil)
	other := (*ca)(nil).make(t, cnRootCA, elliptic.P256(), nil)
	sub := root.make(t, cnPlatformCA, elliptic.P256(), nil)
	make := func(by *ca, change func(*x509.RevocationList)) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: someday, NextUpdate: someday.AddDate(0, 1, 0), SignatureAlgorithm: x509.ECDSAWithSHA256}
		if change != nil {
			change(l)
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, by.cert, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good, err := parseCRL(make(root, func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: someday}}
	}))
	if err != nil || !good.has(sub.cert) {
		t.Fatal(err)
	}
	// In this order: what one CA signed is not another's.
	for _, tt := range []struct {
		ca   *ca
		want bool
	}{{root, true}, {other, false}, {sub, false}, {root, true}} {
		if err := good.issuedBy(tt.ca.cert); (err == nil) != tt.want {
			t.Errorf("issued by %v: %v", tt.ca.cert.Subject, err)
		}
	}
	for name, der := range map[string][]byte{
		"SHA-384":  make(root, func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.ECDSAWithSHA384 }),
		"trailing": append(make(root, nil), 0),
		"critical": make(root, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical} }),
		"critical in an entry": make(root, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: someday, ExtraExtensions: []pkix.Extension{critical}}}
		}),
	} {
		if _, err := parseCRL(der); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// TestOneRoot: both signed texts stand under one root, even if both roots are
// trusted.
func TestOneRoot(t *testing.T) {
	var all []*ca
	chain := func() ([]byte, *ca) {
		root := (*ca)(nil).make(t, cnRootCA, elliptic.P256(), nil)
		s := root.make(t, cnTCBSigning, elliptic.P256(), nil)
		all = append(all, root)
		return append(s.pem(), root.pem()...), s
	}
	one, _ := chain()
	two, _ := chain()
	f := learn(&Collateral{TCBInfoChain: one, QEIdentityChain: two}, func(der []byte) *x509.Certificate {
		for _, c := range all {
			if bytes.Equal(c.cert.Raw, der) {
				return c.cert
			}
		}
		return nil
	})
	if f.qeErr == nil || !strings.Contains(f.qeErr.Error(), "not that of the TCB info") {
		t.Error(f.qeErr)
	}
}

// TestBase64Tail: the bits of base64's last character that carry nothing are
// zero.
func TestBase64Tail(t *testing.T) {
	text := "-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString([]byte{1}) + "\n-----END CERTIFICATE-----\n"
	if _, err := splitPEM([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := splitPEM([]byte(strings.Replace(text, "AQ==", "AR==", 1))); err == nil {
		t.Error("two texts for one byte")
	}
}

// TestExtensionElements: each element once, and none left out.
func TestExtensionElements(t *testing.T) {
	_, ext := testPCK(t)
	var list cryptobyte.String
	in := cryptobyte.String(ext)
	in.ReadASN1(&list, cbasn1.SEQUENCE)
	var elements [][]byte
	for !list.Empty() {
		var e cryptobyte.String
		list.ReadASN1Element(&e, cbasn1.SEQUENCE)
		elements = append(elements, e)
	}
	join := func(e ...[]byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(e, nil)) })
		return b.BytesOrPanic()
	}
	if _, err := sgxExtension(join(elements...)); err != nil {
		t.Fatal(err)
	}
	for i := range elements {
		if _, err := sgxExtension(join(append(elements[:len(elements):len(elements)], elements[i])...)); err == nil {
			t.Errorf("element %d twice", i+1)
		}
		rest := append(append([][]byte{}, elements[:i]...), elements[i+1:]...)
		_, err := sgxExtension(join(rest...))
		if optional := i == 0 || i >= 5; (err == nil) != optional {
			t.Errorf("without element %d: %v", i+1, err)
		}
	}
}
