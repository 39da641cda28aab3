package nitro

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hf/nitrite"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

var may = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)

// A pki is a hierarchy like AWS's: a root, three intermediates, and the key of an
// enclave.
type pki struct {
	certs []*x509.Certificate // the root first, the enclave's last
	keys  []*ecdsa.PrivateKey
}

// newPKI makes a hierarchy; edit may change each certificate before it is signed.
func newPKI(t testing.TB, organization string, edit func(i int, c *x509.Certificate)) *pki {
	t.Helper()
	p := &pki{}
	for i := range 5 {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p.keys = append(p.keys, k)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{Organization: []string{organization}, CommonName: "nitro-" + string(rune('0'+i))},
			NotBefore: may.Add(-time.Hour), NotAfter: may.Add(2 * time.Hour), SignatureAlgorithm: x509.ECDSAWithSHA384,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if i == 0 {
			c.KeyUsage |= x509.KeyUsageDigitalSignature
			c.NotBefore, c.NotAfter = may.AddDate(-1, 0, 0), may.AddDate(30, 0, 0)
		} else if i < 4 {
			c.MaxPathLen, c.MaxPathLenZero = 3-i, i == 3
		} else {
			c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
		}
		if edit != nil {
			edit(i, c)
		}
		parent, signer := c, k
		if i > 0 {
			parent, signer = p.certs[i-1], p.keys[i-1]
		}
		public := any(&k.PublicKey)
		if c.PublicKey != nil {
			public = c.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		p.certs = append(p.certs, c)
	}
	return p
}

// A payload is what a document says, in order; its members can be replaced by
// anything.
type payload map[string]any

func (p *pki) payload() payload {
	pcrs := map[int][]byte{}
	for i := range 16 {
		pcrs[i] = make([]byte, 48)
	}
	for i := range 3 {
		pcrs[i][0] = byte(i + 1)
	}
	var bundle [][]byte
	for _, c := range p.certs[:4] {
		bundle = append(bundle, c.Raw)
	}
	return payload{
		"module_id": "i-1234-enc5678", "digest": "SHA384", "timestamp": uint64(may.UnixMilli()), "pcrs": pcrs,
		"certificate": p.certs[4].Raw, "cabundle": bundle,
		"public_key": nil, "user_data": []byte(strings.Repeat("bind", 16)), "nonce": []byte("once"),
	}
}

// sign makes a document of an encoded payload.
func (p *pki) sign(t testing.TB, body []byte) []byte {
	t.Helper()
	d := &document{protected: es384, payload: body}
	sum := sha512.Sum384(d.toBeSigned())
	r, s, err := ecdsa.Sign(rand.Reader, p.keys[4], sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 96)
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	b := dcbor.AppendArray(nil, 4)
	b = dcbor.AppendBytes(b, es384)
	b = dcbor.AppendMap(b, 0)
	b = dcbor.AppendBytes(b, body)
	return dcbor.AppendBytes(b, sig)
}

func (p *pki) document(t testing.TB, m payload) []byte {
	t.Helper()
	body, err := cbor.Marshal(map[string]any(m))
	if err != nil {
		t.Fatal(err)
	}
	return p.sign(t, body)
}

func (p *pki) trust(t testing.TB) *evidence.Trust {
	t.Helper()
	s, err := evidence.NewSimulator(evidence.Anchors{AWS: p.certs[:1]})
	if err != nil {
		t.Fatal(err)
	}
	return &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: s, Now: may.Add(time.Second)}
}

// hardware is the document of a real enclave, and made its time.
func hardware(t testing.TB) (doc []byte, made time.Time) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../testdata/hardware/nitro/dstack-2025-12-25.cose"))
	if err != nil {
		t.Fatal(err)
	}
	return b, time.UnixMilli(1766668537578).UTC()
}

// aws trusts the root that the other library ships; that ours is the same is a
// test of package vendor.
func aws(t testing.TB, now time.Time) *evidence.Trust {
	t.Helper()
	b, _ := pem.Decode([]byte(nitrite.DefaultCARoots))
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &evidence.Trust{Anchors: &evidence.Anchors{AWS: []*x509.Certificate{c}}, Now: now}
}
