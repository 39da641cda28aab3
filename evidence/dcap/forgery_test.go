package dcap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// TestRoots (N20, N22): nothing is believed that leads to another root, and what
// was once verified is not, once its root is not trusted.
func TestRoots(t *testing.T) {
	v := dcap.New(dcap.Options{})
	_, q := simCase{}.quote(t)
	items := simCase{}.items(t)
	if r := v.Verify(evidence.TypeTDX, q, simTrust(soon, items)); !r.Accepted() {
		t.Fatal(show(r))
	}
	intel := &evidence.Anchors{Intel: []*x509.Certificate{intelRoot(t)}}
	for name, tr := range map[string]*evidence.Trust{
		"production":            {Anchors: intel, Now: soon, Endorsements: items},
		"nobody":                {Anchors: &evidence.Anchors{}, Now: soon, Endorsements: items},
		"another simulator":     {Anchors: intel, Simulator: sim.Other().Simulator(evidence.TDX), Now: soon, Endorsements: items},
		"a simulator as vendor": {Anchors: simulator().Anchors(), Now: soon, Endorsements: items},
		"no anchors":            {Simulator: simulator(), Now: soon, Endorsements: items},
		"no time":               {Anchors: &evidence.Anchors{}, Simulator: simulator(), Endorsements: items},
		"no trust":              nil,
	} {
		r := v.Verify(evidence.TypeTDX, q, tr)
		if r.Accepted() || r.Verified() != nil || r.TCB != nil {
			t.Errorf("%s: claims or a TCB without an anchor:\n%s", name, show(r))
		}
		if c, _ := r.Checks.Find("trust"); c.Outcome == evidence.Pass {
			if c, _ = r.Checks.Find("pck-chain"); c.Outcome != evidence.Fail {
				t.Errorf("%s: %s", name, show(r))
			}
		}
	}
}

// TestMixedRoots: collateral of a simulator says nothing about real machines,
// nor the other way round.
func TestMixedRoots(t *testing.T) {
	real := bundle(t, hardware+"tdx/phala-v4.collateral.json")
	fake, err := world.Collateral(sim.Collateral{FMSPC: [6]byte{0xb0, 0xc0, 0x6f}, Issued: at(t, "2025-06-20T00:00:00Z")})
	if err != nil {
		t.Fatal(err)
	}
	tr := trust(t, "2025-07-01T00:00:00Z", []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: fake}})
	tr.Simulator = simulator()
	r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, read(t, hardware+"tdx/phala-v4.quote"), tr)
	if !strings.Contains(failed(r), "collateral") || r.Accepted() {
		t.Error(show(r))
	}
	tr.Endorsements = append(tr.Endorsements, real...)
	if r = dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, read(t, hardware+"tdx/phala-v4.quote"), tr); !r.Accepted() || r.Verified().Claims().Simulated {
		t.Error(show(r))
	}
}

// TestNoClaims (N21): without a good signature of each link there is not one
// claim, whatever else is right.
func TestNoClaims(t *testing.T) {
	media, q := simCase{}.quote(t)
	tr := simTrust(soon, simCase{}.items(t))
	sig := 48 + 584 + 4
	for name, i := range map[string]int{"signature": sig, "attestation key": sig + 64, "QE report": sig + 128 + 6, "QE signature": sig + 128 + 6 + 384, "MRTD": 48 + 136, "version": 0, "reserved": 8} {
		b := bytes.Clone(q)
		b[i] ^= 1
		if r := dcap.New(dcap.Options{}).Verify(media, b, tr); r.Verified() != nil || r.Accepted() {
			t.Errorf("%s: claims from what was altered:\n%s", name, show(r))
		}
	}
	if r := dcap.New(dcap.Options{}).Verify(media, q, simTrust(soon, nil)); r.Verified() != nil {
		t.Error("claims without collateral: whose quoting enclave was it?")
	}
}

// TestSignatureRange: r and s outside 1..n-1 are refused, as are points that are
// not on the curve.
func TestSignatureRange(t *testing.T) {
	media, q := simCase{}.quote(t)
	tr := simTrust(soon, simCase{}.items(t))
	sig := 48 + 584 + 4
	n := elliptic.P256().Params().N
	s := new(big.Int).SetBytes(q[sig+32 : sig+64])
	for name, put := range map[string]func(b []byte){
		"r 0":       func(b []byte) { clear(b[:32]) },
		"s 0":       func(b []byte) { clear(b[32:64]) },
		"r n":       func(b []byte) { n.FillBytes(b[:32]) },
		"s all set": func(b []byte) { copy(b[32:], bytes.Repeat([]byte{0xff}, 32)) },
		"key 0":     func(b []byte) { clear(b[64:128]) },
		"key off":   func(b []byte) { b[127] ^= 1 },
	} {
		b := bytes.Clone(q)
		put(b[sig : sig+128])
		if r := dcap.New(dcap.Options{}).Verify(media, b, tr); !strings.Contains(failed(r), "quote-signature") {
			t.Errorf("%s: %s", name, show(r))
		}
	}
	// ECDSA's other s signs the same. It makes another quote of the same content,
	// which is why nothing may be keyed by a quote's digest alone.
	b := bytes.Clone(q)
	new(big.Int).Sub(n, s).FillBytes(b[sig+32 : sig+64])
	if r := dcap.New(dcap.Options{}).Verify(media, b, tr); !r.Accepted() {
		t.Error(show(r))
	}
}

// TestPCKSignsNoCollateral: a key that Intel certified for a platform, and which
// an attacker took out of it, can't speak for Intel.
func TestPCKSignsNoCollateral(t *testing.T) {
	root, key := testRoot(t)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cn       string
		ca, want bool
	}{{"Intel SGX TCB Signing", false, true}, {"Intel SGX TCB Signing", true, false}, {"Intel SGX PCK Certificate", false, false}, {"Intel SGX PCK Platform CA", true, false}} {
		c, err := dcap.ParseCollateral(simCase{}.items(t)[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		leaf := certificate(t, tt.cn, root, key, leafKey.Public().(*ecdsa.PublicKey), tt.ca)
		c.TCBInfoChain = append(encode(leaf), encode(root)...)
		c.TCBInfoSignature = rawSign(t, leafKey, c.TCBInfo)
		s, err := evidence.NewSimulator(evidence.Anchors{Intel: []*x509.Certificate{root}})
		if err != nil {
			t.Fatal(err)
		}
		item, err := c.Item()
		if err != nil {
			t.Fatal(err)
		}
		_, q := simCase{}.quote(t)
		r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, q, &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: s, Now: soon, Endorsements: []evidence.Item{item}})
		if k, _ := r.Checks.Find("tcb-info"); (k.Outcome == evidence.Pass) != tt.want {
			t.Errorf("%+v: %v", tt, k)
		}
	}
}

func testRoot(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, "Intel SGX Root CA", nil, key, &key.PublicKey, true), key
}

func certificate(t testing.TB, cn string, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey, pub *ecdsa.PublicKey, ca bool) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn, Organization: []string{evidence.SimulatorOrganization}},
		NotBefore: sim.Epoch.AddDate(-1, 0, 0), NotAfter: sim.Epoch.AddDate(9, 0, 0), BasicConstraintsValid: true, IsCA: ca,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	if issuer == nil {
		issuer = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, pub, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func rawSign(t testing.TB, k *ecdsa.PrivateKey, data []byte) []byte {
	t.Helper()
	d := sha256.Sum256(data)
	r, s, err := ecdsa.Sign(rand.Reader, k, d[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// TestStructure: each case breaks one field.
func TestStructure(t *testing.T) {
	_, q4 := simCase{}.quote(t)
	_, q5 := simCase{tdx: &sim.TDX{Version: 5, Body15: true}}.quote(t)
	_, q3 := simCase{sgx: &sim.SGX{}}.quote(t)
	le := binary.LittleEndian
	for name, tt := range map[string]struct {
		q   []byte
		put func(b []byte) []byte
	}{
		"empty":             {q4, func(b []byte) []byte { return nil }},
		"cut":               {q4, func(b []byte) []byte { return b[:len(b)-1] }},
		"cut in the header": {q4, func(b []byte) []byte { return b[:47] }},
		"version 6":         {q4, func(b []byte) []byte { b[0] = 6; return b }},
		"version 3 for TDX": {q4, func(b []byte) []byte { b[0] = 3; return b }},
		"SGX in version 4":  {q4, func(b []byte) []byte { b[4] = 0; return b }},
		"P-384":             {q4, func(b []byte) []byte { b[2] = 3; return b }},
		"another vendor":    {q4, func(b []byte) []byte { b[12] = 0; return b }},
		"body type":         {q5, func(b []byte) []byte { b[48] = 2; return b }},
		"body size":         {q5, func(b []byte) []byte { b[50]++; return b }},
		"length too large":  {q4, func(b []byte) []byte { le.PutUint32(b[632:], 1<<31); return b }},
		"length too small":  {q4, func(b []byte) []byte { le.PutUint32(b[632:], le.Uint32(b[632:])-1); return b }},
		"outer type":        {q4, func(b []byte) []byte { b[636+128] = 5; return b }},
		"inner length":      {q4, func(b []byte) []byte { b[636+130]++; return b }},
		"QE data length":    {q3, func(b []byte) []byte { le.PutUint16(b[436+64+64+384+64:], 0xffff); return b }},
		"much QE data": {q3, func(b []byte) []byte {
			b = slices.Insert(b, 1014, make([]byte, 1000)...)
			le.PutUint16(b[1012:], le.Uint16(b[1012:])+1000)
			le.PutUint32(b[432:], le.Uint32(b[432:])+1000)
			return b
		}},
		"EPID certification": {q3, func(b []byte) []byte { b[436+64+64+384+64+2+32] = 1; return b }},
		"too long":           {q3, func(b []byte) []byte { return append(b, make([]byte, 1<<16)...) }},
	} {
		b := tt.put(bytes.Clone(tt.q))
		if _, err := dcap.ParseQuote(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if r := dcap.New(dcap.Options{}).Verify(evidence.TypeSGX, q4, simTrust(soon, nil)); failed(r) != "quote-structure" {
		t.Error("a TDX quote as SGX:", show(r))
	}
	if r := dcap.New(dcap.Options{}).Verify("text/plain", q4, simTrust(soon, nil)); failed(r) != "trust" {
		t.Error(show(r))
	}
}
