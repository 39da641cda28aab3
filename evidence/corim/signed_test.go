package corim

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

var (
	testNow  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	testKey  = newKey(elliptic.P256())
	testKeys = []crypto.PublicKey{testKey.Public()}
)

func newKey(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// small is a manifest of one reference value.
func small() *CoRIM {
	return &CoRIM{ID: ID{Text: "small"}, Tags: []Tag{{CoMID: &CoMID{ID: TagID{ID: ID{Text: "m"}}, Triples: Triples{Reference: []Record{{
		Environment{Class: &Class{Vendor: "v", Model: "m"}}, []Measurement{{Values: Values{SVN: &SVN{Value: 1}}}},
	}}}}}}}
}

type pki struct {
	root, inter, leaf *x509.Certificate
	key               *ecdsa.PrivateKey
}

func newPKI(t testing.TB, usage x509.KeyUsage, notAfter time.Time) pki {
	t.Helper()
	n := int64(0)
	issue := func(name string, pub crypto.PublicKey, ca bool, parent *x509.Certificate, by crypto.Signer) *x509.Certificate {
		n++
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: notAfter,
			BasicConstraintsValid: true, IsCA: ca, KeyUsage: usage,
		}
		if ca {
			tmpl.KeyUsage, tmpl.NotAfter = x509.KeyUsageCertSign, testNow.AddDate(9, 0, 0)
		}
		if parent == nil {
			parent = tmpl
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rk, ik, lk := newKey(elliptic.P384()), newKey(elliptic.P256()), newKey(elliptic.P256())
	p := pki{key: lk}
	p.root = issue("root", rk.Public(), true, nil, rk)
	p.inter = issue("inter", ik.Public(), true, p.root, rk)
	p.leaf = issue("leaf", lk.Public(), false, p.inter, ik)
	return p
}

func (p pki) chain() []*x509.Certificate { return []*x509.Certificate{p.leaf, p.inter} }

func TestSignersOfEveryKind(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.Signer{testKey, newKey(elliptic.P384()), newKey(elliptic.P521()), ed, rk} {
		b, err := Sign(small(), &Signer{Name: "ACME", Key: k})
		if err != nil {
			t.Errorf("%T: %v", k, err)
			continue
		}
		v, err := Verify(b, &Trust{Keys: []crypto.PublicKey{testKeys[0], k.Public()}, Now: testNow})
		if err != nil {
			t.Errorf("%T: %v", k, err)
			continue
		}
		want, _ := KeyThumbprint(k.Public())
		if v.Signer() != "ACME" || len(v.Authority()) != 1 || !v.Authority()[0].Equal(want) {
			t.Errorf("%T: signer %q, authority %v", k, v.Signer(), v.Authority())
		}
	}
	if _, err := Sign(small(), &Signer{Name: "weak", Key: newKey(elliptic.P224())}); err == nil {
		t.Error("signed with P-224")
	}
}

// N40: a signer that nobody authorized, an expired manifest and a foreign profile
// are refused, each with an error of its own.
func TestVerifyRefuses(t *testing.T) {
	other := newKey(elliptic.P256())
	p, q := newPKI(t, x509.KeyUsageDigitalSignature, testNow.AddDate(1, 0, 0)), newPKI(t, x509.KeyUsageDigitalSignature, testNow.AddDate(1, 0, 0))
	old := newPKI(t, x509.KeyUsageDigitalSignature, testNow.AddDate(0, -1, 0))
	noSign := newPKI(t, x509.KeyUsageKeyAgreement, testNow.AddDate(1, 0, 0))
	byKey := &Trust{Keys: testKeys, Now: testNow}
	byRoot := func(p pki) *Trust { return &Trust{Roots: []*x509.Certificate{p.root}, Now: testNow} }
	sign := func(s *Signer, edit ...func(*CoRIM)) []byte {
		t.Helper()
		c := small()
		for _, e := range edit {
			e(c)
		}
		if s.Name == "" {
			s.Name = "ACME"
		}
		b, err := Sign(c, s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain, err := small().Encode()
	if err != nil {
		t.Fatal(err)
	}
	span := func(from, to int) Validity {
		return Validity{testNow.AddDate(0, 0, from), testNow.AddDate(0, 0, to)}
	}
	profile := func(p string) func(*CoRIM) { return func(c *CoRIM) { c.Profile = p } }
	for _, tt := range []struct {
		name string
		b    []byte
		t    *Trust
		want error // nil: accepted
	}{
		{"pinned key", sign(&Signer{Key: testKey}), byKey, nil},
		{"pinned root", sign(&Signer{Key: p.key, Chain: p.chain()}), byRoot(p), nil},
		{"with the root itself", sign(&Signer{Key: p.key, Chain: append(p.chain(), p.root)}), byRoot(p), nil},
		{"pinned leaf key, no roots", sign(&Signer{Key: p.key, Chain: p.chain()}), &Trust{Keys: []crypto.PublicKey{p.key.Public()}, Now: testNow}, nil},
		{"known profile", sign(&Signer{Key: testKey}, profile(ProfileAMD)), byKey, nil},
		{"profile named", sign(&Signer{Key: testKey}, profile("https://x.example/p")), &Trust{Keys: testKeys, Now: testNow, Profiles: []string{"https://x.example/p"}}, nil},
		{"within its time", sign(&Signer{Key: testKey, Validity: span(-1, 1)}), byKey, nil},

		{"not signed", plain, byKey, ErrUnsigned},
		{"another key", sign(&Signer{Key: other}), byKey, ErrUnauthorized},
		{"nobody is pinned", sign(&Signer{Key: testKey}), &Trust{Now: testNow}, ErrUnauthorized},
		{"another root", sign(&Signer{Key: p.key, Chain: p.chain()}), byRoot(q), ErrUnauthorized},
		{"a pinned key, but its chain leads elsewhere", sign(&Signer{Key: p.key, Chain: p.chain()}), &Trust{Keys: []crypto.PublicKey{p.key.Public()}, Roots: []*x509.Certificate{q.root}, Now: testNow}, ErrUnauthorized},
		{"a certificate to spare", sign(&Signer{Key: p.key, Chain: append(p.chain(), q.inter)}), byRoot(p), ErrUnauthorized},
		{"a certificate missing", sign(&Signer{Key: p.key, Chain: p.chain()[:1]}), byRoot(p), ErrUnauthorized},
		{"a certificate not for signing", sign(&Signer{Key: noSign.key, Chain: noSign.chain()}), byRoot(noSign), ErrUnauthorized},
		{"expired certificate", sign(&Signer{Key: old.key, Chain: old.chain()}), byRoot(old), ErrExpired},
		{"expired contents", sign(&Signer{Key: testKey}, func(c *CoRIM) { c.Validity = span(-9, -1) }), byKey, ErrExpired},
		{"expired signature", sign(&Signer{Key: testKey, Validity: span(-9, -1)}), byKey, ErrExpired},
		{"contents not valid yet", sign(&Signer{Key: testKey}, func(c *CoRIM) { c.Validity = span(1, 9) }), byKey, ErrNotYetValid},
		{"signature not valid yet", sign(&Signer{Key: testKey, Validity: span(1, 9)}), byKey, ErrNotYetValid},
		{"another profile", sign(&Signer{Key: testKey}, profile("https://x.example/p")), byKey, ErrProfile},
		{"known, but not accepted here", sign(&Signer{Key: testKey}, profile(ProfileAMD)), &Trust{Keys: testKeys, Now: testNow, Profiles: []string{ProfileIntel}}, ErrProfile},
		{"nothing", nil, byKey, ErrMalformed},
		{"trailing byte", append(sign(&Signer{Key: testKey}), 0), byKey, ErrMalformed},
	} {
		_, err := Verify(tt.b, tt.t)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		for _, e := range []error{ErrMalformed, ErrUnsigned, ErrUnauthorized, ErrSignature, ErrExpired, ErrNotYetValid, ErrProfile} {
			if e != tt.want && errors.Is(err, e) {
				t.Errorf("%s: the error is also %q", tt.name, e)
			}
		}
	}
	if _, err := Verify(sign(&Signer{Key: testKey}), &Trust{Keys: testKeys}); err == nil {
		t.Error("verified without a time")
	}
}

// sealed signs a header and payload of any kind, as an attacker with the key or a
// careless tool would.
func sealed(prot, unprot Item, payload []byte) []byte {
	s, err := cose.NewSigner(cose.AlgorithmES256, testKey)
	if err != nil {
		panic(err)
	}
	sig, err := s.Sign(rand.Reader, toBeSigned(prot, payload))
	if err != nil {
		panic(err)
	}
	b := dcbor.AppendArray(dcbor.AppendTag(nil, tagCOSESign1), 4)
	b = append(dcbor.AppendBytes(b, prot), unprot...)
	return dcbor.AppendBytes(dcbor.AppendBytes(b, payload), sig)
}

func TestHeaders(t *testing.T) {
	payload, err := small().Encode()
	if err != nil {
		t.Fatal(err)
	}
	p := newPKI(t, x509.KeyUsageDigitalSignature, testNow.AddDate(1, 0, 0))
	cwt := func(f ...Field) Item { return mapWriter(append([]Field{{1, TextItem("ACME")}}, f...)).encode() }
	meta := func(name string, v *Validity) Item {
		var m mapWriter
		m.add(0, mapWriter{{0, TextItem(name)}}.encode())
		if v != nil {
			m.add(1, v.encode())
		}
		return dcbor.AppendBytes(nil, m.encode())
	}
	base := func(f ...Field) Item {
		return mapWriter(append([]Field{{hdrAlg, dcbor.AppendInt(nil, -7)}, {hdrType, TextItem(MediaType)}}, f...)).encode()
	}
	empty := Item{0xa0}
	id, _ := keyID(testKey.Public())
	valid := &Validity{NotAfter: testNow.AddDate(1, 0, 0)}
	for _, tt := range []struct {
		name         string
		prot, unprot Item
		payload      []byte
		want         error
		says         string
	}{
		{"CWT claims only", base(Field{hdrCWT, cwt()}), empty, payload, nil, ""},
		{"corim-meta only", base(Field{hdrMeta, meta("ACME", valid)}), empty, payload, nil, ""},
		{"both, the same", base(Field{hdrMeta, meta("ACME", valid)}, Field{hdrCWT, cwt(Field{cwtExpiry, dcbor.AppendInt(nil, valid.NotAfter.Unix())})}), empty, payload, nil, ""},
		{"a known label is critical", base(Field{hdrCrit, array([]Item{UintItem(hdrCWT)})}, Field{hdrCWT, cwt()}), empty, payload, nil, ""},
		{"neither", base(), empty, payload, ErrMalformed, "name the signer"},
		{"both, other names", base(Field{hdrMeta, meta("Eve", nil)}, Field{hdrCWT, cwt()}), empty, payload, ErrMalformed, "do not say the same"},
		{"both, other times", base(Field{hdrMeta, meta("ACME", valid)}, Field{hdrCWT, cwt()}), empty, payload, ErrMalformed, "do not say the same"},
		{"an unknown label is critical", base(Field{hdrCrit, array([]Item{UintItem(99)})}, Field{hdrCWT, cwt()}), empty, payload, ErrMalformed, "critical"},
		{"hash envelope", base(Field{hdrHashAlg, UintItem(1)}, Field{hdrCWT, cwt()}), empty, payload, ErrMalformed, "hash envelopes"},
		{"other content type", mapWriter{{hdrAlg, dcbor.AppendInt(nil, -7)}, {hdrType, TextItem("text/plain")}, {hdrCWT, cwt()}}.encode(), empty, payload, ErrMalformed, "content type"},
		{"other algorithm", mapWriter{{hdrAlg, dcbor.AppendInt(nil, -35)}, {hdrType, TextItem(MediaType)}, {hdrCWT, cwt()}}.encode(), empty, payload, ErrUnauthorized, ""},
		{"other algorithm, right key id", mapWriter{{hdrAlg, dcbor.AppendInt(nil, -35)}, {hdrType, TextItem(MediaType)}, {hdrKID, dcbor.AppendBytes(nil, id)}, {hdrCWT, cwt()}}.encode(), empty, payload, ErrSignature, "algorithm -35"},
		{"two chains", base(Field{hdrCWT, cwt()}, Field{hdrX5Chain, dcbor.AppendBytes(nil, p.leaf.Raw)}), mapWriter{{hdrX5Chain, dcbor.AppendBytes(nil, p.leaf.Raw)}}.encode(), payload, ErrMalformed, "not protected"},
		{"unprotected label", base(Field{hdrCWT, cwt()}), mapWriter{{hdrKID, dcbor.AppendBytes(nil, []byte("x"))}}.encode(), payload, ErrMalformed, "not protected"},
		{"unprotected chain of another key", base(Field{hdrCWT, cwt()}), mapWriter{{hdrX5Chain, dcbor.AppendBytes(nil, p.leaf.Raw)}}.encode(), payload, ErrUnauthorized, ""},
		{"payload is no CoRIM", base(Field{hdrCWT, cwt()}), empty, []byte{0}, ErrMalformed, "tag 501"},
	} {
		_, err := Verify(sealed(tt.prot, tt.unprot, tt.payload), &Trust{Keys: testKeys, Now: testNow})
		if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %v with %q", tt.name, err, tt.want, tt.says)
		}
	}
	for name, b := range map[string][]byte{
		"detached":       append(append(dcbor.AppendBytes([]byte{0xd2, 0x84}, nil), 0xa0, 0xf6), 0x40),
		"long header":    sealed(make([]byte, maxHeader+1), empty, payload),
		"array of three": {0xd2, 0x83, 0x40, 0xa0, 0x40},
	} {
		for _, legacy := range []bool{false, true} {
			if _, err := Verify(b, &Trust{Keys: testKeys, Now: testNow, Legacy: legacy}); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// A header key that says who signed does not help who did not.
	b := sealed(base(Field{hdrKID, dcbor.AppendBytes(nil, id)}, Field{hdrCWT, cwt()}), empty, payload)
	b[len(b)-1] ^= 1
	if _, err := Verify(b, &Trust{Keys: testKeys, Now: testNow}); !errors.Is(err, ErrSignature) {
		t.Errorf("a broken signature under the right key id: %v", err)
	}
}

// Any byte changed, in any of three ways, is refused: every byte of a manifest
// signed by a key, and of one with certificates.
func TestEveryByteCounts(t *testing.T) {
	p := newPKI(t, x509.KeyUsageDigitalSignature, testNow.AddDate(1, 0, 0))
	valid := Validity{NotAfter: testNow.AddDate(1, 0, 0)}
	for name, tt := range map[string]struct {
		s *Signer
		t *Trust
	}{
		"key":                       {&Signer{Name: "ACME", Key: testKey, Validity: valid}, &Trust{Keys: testKeys, Now: testNow}},
		"certificates":              {&Signer{Name: "ACME", Key: p.key, Chain: p.chain(), Validity: valid}, &Trust{Roots: []*x509.Certificate{p.root}, Now: testNow}},
		"pinned, with certificates": {&Signer{Name: "ACME", Key: p.key, Chain: p.chain(), Validity: valid}, &Trust{Keys: []crypto.PublicKey{p.key.Public()}, Now: testNow}},
	} {
		b, err := Sign(small(), tt.s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(b, tt.t); err != nil {
			t.Fatal(err)
		}
		for _, legacy := range []bool{false, true} {
			trust := *tt.t
			trust.Legacy = legacy
			for i := range b {
				for _, m := range []byte{0x01, 0x80, 0xff} {
					bad := bytes.Clone(b)
					bad[i] ^= m
					if _, err := Verify(bad, &trust); err == nil {
						t.Fatalf("%s: byte %d changed by %02x is accepted", name, i, m)
					}
				}
			}
			for i := range b {
				if _, err := Verify(b[:i], &trust); err == nil {
					t.Fatalf("%s: cut at %d is accepted", name, i)
				}
			}
		}
	}
}

// The unprotected header may carry the chain, since each of its bytes is needed
// to reach the root.
func TestUnprotectedChain(t *testing.T) {
	p := newPKI(t, x509.KeyUsageDigitalSignature, testNow.AddDate(1, 0, 0))
	payload, err := small().Encode()
	if err != nil {
		t.Fatal(err)
	}
	prot := mapWriter{{hdrAlg, dcbor.AppendInt(nil, -7)}, {hdrType, TextItem(MediaType)}, {hdrCWT, mapWriter{{1, TextItem("ACME")}}.encode()}}.encode()
	chain := arrayOf(p.chain(), func(c *x509.Certificate) Item { return dcbor.AppendBytes(nil, c.Raw) })
	s, err := cose.NewSigner(cose.AlgorithmES256, p.key)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign(rand.Reader, toBeSigned(prot, payload))
	if err != nil {
		t.Fatal(err)
	}
	b := dcbor.AppendBytes(dcbor.AppendArray(dcbor.AppendTag(nil, tagCOSESign1), 4), prot)
	b = append(b, mapWriter{{hdrX5Chain, chain}}.encode()...)
	b = dcbor.AppendBytes(dcbor.AppendBytes(b, payload), sig)
	trust := &Trust{Roots: []*x509.Certificate{p.root}, Now: testNow}
	v, err := Verify(b, trust)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Validity().NotAfter.Equal(p.leaf.NotAfter) {
		t.Errorf("it holds until %v, its certificate until %v", v.Validity().NotAfter, p.leaf.NotAfter)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x01
		if _, err := Verify(bad, trust); err == nil {
			t.Fatalf("byte %d changed is accepted", i)
		}
	}
	if _, err := Verify(b, &Trust{Keys: []crypto.PublicKey{p.key.Public()}, Now: testNow}); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a chain that nothing protects, under a pinned key: %v", err)
	}
}

func TestConveyed(t *testing.T) {
	b, err := small().Encode()
	if err != nil {
		t.Fatal(err)
	}
	v, err := Conveyed(b, "registry.example", KeyID([]byte("tls")), &Trust{Now: testNow})
	if err != nil || v.Signer() != "registry.example" || v.CoRIM().ID.Text != "small" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := Conveyed(b, "x", nil, &Trust{Now: testNow}); err == nil {
		t.Error("conveyed with nobody's authority")
	}
	c := small()
	c.Validity = Validity{NotAfter: testNow.AddDate(0, 0, -1)}
	b, _ = c.Encode()
	if _, err := Conveyed(b, "x", KeyID([]byte("k")), &Trust{Now: testNow}); !errors.Is(err, ErrExpired) {
		t.Errorf("an expired one: %v", err)
	}
}
