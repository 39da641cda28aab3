package nvidia

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A chain with an RSA key of 150,000 bits, which takes a quarter of a second to
// verify with, is refused before that.
func TestHugeKeys(t *testing.T) {
	d := newDevice(t, "GH100")
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150_000))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n, 150_000, 1).SetBit(n, 0, 1)
	issuer := *d.brom.cert
	issuer.Subject, issuer.RawSubject = pkix.Name{CommonName: "huge"}, nil
	der, err := x509.CreateCertificate(rand.Reader, &issuer, d.provisioner.cert, &rsa.PublicKey{N: n, E: 1<<31 - 1}, d.provisioner.key)
	if err != nil {
		t.Fatal(err)
	}
	// A leaf that says that RSA signed it.
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf := *d.leaf.cert
	leaf.SignatureAlgorithm = x509.SHA256WithRSA
	parent := &x509.Certificate{Subject: issuer.Subject}
	leafDER, err := x509.CreateCertificate(rand.Reader, &leaf, parent, &d.leaf.key.PublicKey, small)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, b := range [][]byte{leafDER, der} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})...)
	}
	b := encodeRaw(d.report(t, 1, block(1, make([]byte, 48)), nil), chain)
	r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, d.trust(t))
	if len(r.Checks.Failed()) == 0 || r.Verified() != nil {
		t.Error("accepted")
	}
	if !slices.ContainsFunc(r.Checks.Failed(), func(k evidence.Check) bool { return k.Name == "report-format" }) {
		t.Errorf("%+v", r.Checks)
	}
}

func encodeRaw(report, chain []byte) []byte {
	b := dcbor.AppendArray(nil, 2)
	return dcbor.AppendBytes(dcbor.AppendBytes(b, report), chain)
}
