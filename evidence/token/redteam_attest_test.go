package token

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eat"
)

// A chain of a token may not name a key that takes seconds to verify with: its
// sender chose it.
func TestHugeKeysInChains(t *testing.T) {
	rsaKey, other := keys()["rsa"].(*rsa.PrivateKey), keys()["other-rsa"].(*rsa.PrivateKey)
	root := selfSigned(t, other)
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100_000))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n, 100_000, 1).SetBit(n, 0, 1)
	cert := func(cn string, parent *x509.Certificate, public any) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: cn == "huge", BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, public, other)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	huge := cert("huge", root, &rsa.PublicKey{N: n, E: 1<<31 - 1})
	leaf := cert("leaf", &x509.Certificate{Subject: pkix.Name{CommonName: "huge"}}, rsaKey.Public())
	w := twins()[4]
	std := base64.StdEncoding.EncodeToString
	b := sign(t, rsaKey, eat.RS256, claims{"x5c": []string{std(leaf), std(huge), std(root.Raw)}, "kid": ""}, w.claims())
	e := w.expect()
	e.Keys, e.Roots = nil, []*x509.Certificate{root}
	r := Verify(b, e)
	if c, _ := r.Checks.Find("key"); c.Outcome != evidence.Fail || !strings.Contains(c.Detail, "an RSA key of 100001 bits") {
		t.Errorf("%+v", c)
	}
}
