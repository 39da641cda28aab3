package signed_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
	"github.com/trustedmcp/tmcp/protocol"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ec(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func ed() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

var alice, bob, mallory = ec(elliptic.P256()), ed(), ec(elliptic.P256())

func module(name, version string) []byte {
	m := corpus.Meta()
	m.Name, m.Version = name, version
	return corpus.Guest{Metadata: m}.Module()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sign signs a module for a year.
func sign(key crypto.Signer, mod []byte) []byte {
	return must(signed.Sign(must(signed.ModuleStatement(mod, "", "")), &signed.Signer{Name: "Example Corp", Key: key, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}))
}

func trust(keys ...crypto.Signer) *signed.Trust {
	t := &signed.Trust{Now: now}
	for _, k := range keys {
		t.Keys = append(t.Keys, k.Public())
	}
	return t
}

func TestSignersOfEveryKind(t *testing.T) {
	mod := module("strict", "1.2.0")
	for _, key := range []crypto.Signer{alice, bob, ec(elliptic.P384())} {
		sig := sign(key, mod)
		v, err := signed.VerifyModule(mod, [][]byte{sig}, trust(mallory, key))
		if err != nil {
			t.Errorf("%T: %v", key, err)
			continue
		}
		if s := v.Statement(); s.Name != "strict" || s.Version != "1.2.0" || s.Kind != signed.Module || len(s.Metadata) == 0 {
			t.Errorf("%+v", s)
		}
		if who := v.Signatures(); len(who) != 1 || who[0].Signer != "Example Corp" || !v.Until().Equal(now.AddDate(1, 0, 0)) {
			t.Errorf("%+v until %s", who, v.Until())
		}
		// Another library agrees.
		var theirs cose.Sign1Message
		if err := theirs.UnmarshalCBOR(sig); err != nil {
			t.Fatal(err)
		}
		alg, _ := theirs.Headers.Protected.Algorithm()
		if err := theirs.Verify(nil, must(cose.NewVerifier(alg, key.Public()))); err != nil {
			t.Error(err)
		}
	}
	for _, key := range []crypto.Signer{ec(elliptic.P521()), must(rsa.GenerateKey(rand.Reader, 2048))} {
		if _, err := signed.Sign(must(signed.ModuleStatement(mod, "", "")), &signed.Signer{Name: "x", Key: key}); err == nil {
			t.Errorf("%T signs", key)
		}
	}
}

// A message is a COSE_Sign1 that a test bends.
type message struct {
	tag         uint64
	prot        []byte
	unprotected []byte
	payload     []byte // an item
	key         crypto.Signer
	alg         cose.Algorithm
}

// take makes a message of a genuine signature; change may bend it before it is
// signed again.
func take(t testing.TB, sig []byte, key crypto.Signer, change func(*message)) []byte {
	t.Helper()
	r := dcbor.NewReader(sig)
	m := &message{tag: 18, key: key}
	r.Tag(18)
	r.ArrayN(4)
	m.prot = bytes.Clone(r.Bytes())
	m.unprotected = bytes.Clone(r.Skip())
	m.payload = dcbor.AppendBytes(nil, r.Bytes())
	r.Bytes()
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		m.alg = cose.AlgorithmEdDSA
	case *ecdsa.PrivateKey:
		m.alg = map[elliptic.Curve]cose.Algorithm{elliptic.P256(): cose.AlgorithmES256, elliptic.P384(): cose.AlgorithmES384}[k.Curve]
	}
	change(m)
	content := dcbor.NewReader(m.payload).Bytes()
	tbs := dcbor.AppendText(dcbor.AppendArray(nil, 4), "Signature1")
	tbs = dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendBytes(tbs, m.prot), nil), content)
	value := must(must(cose.NewSigner(m.alg, m.key)).Sign(rand.Reader, tbs))
	b := dcbor.AppendArray(dcbor.AppendTag(nil, m.tag), 4)
	b = append(dcbor.AppendBytes(b, m.prot), m.unprotected...)
	return dcbor.AppendBytes(append(b, m.payload...), value)
}

func replace(b []byte, old, with string) []byte {
	if !bytes.Contains(b, []byte(old)) {
		panic("nothing to replace: " + old)
	}
	return bytes.Replace(b, []byte(old), []byte(with), 1)
}

// Each is a way to have a module accepted that was not signed so. All fail, each
// for its own reason.
//
// TMCP-20.12-1: A host whose operator pinned signers MUST refuse a module that none of them signed, before anything else reads it.
func TestAttacks(t *testing.T) {
	mod, other := module("strict", "1.2.0"), module("strict", "1.3.0")
	good := sign(alice, mod)
	p384 := ec(elliptic.P384())
	for _, tt := range []struct {
		name  string
		sig   []byte
		trust *signed.Trust
		want  error
	}{
		{"of another module", sign(alice, other), trust(alice), signed.ErrOther},
		{"of another name", sign(alice, module("lax", "1.2.0")), trust(alice), signed.ErrOther},
		{"by nobody that is pinned", sign(mallory, mod), trust(alice, bob), signed.ErrUnauthorized},
		{"nobody is pinned", good, trust(), signed.ErrUnauthorized},
		{"by another, with the key id of a pinned one", take(t, good, mallory, func(*message) {}), trust(alice), signed.ErrSignature},
		{"a changed statement", func() []byte { b := bytes.Clone(good); b[bytes.Index(b, []byte("1.2.0"))] = '9'; return b }(), trust(alice), signed.ErrSignature},
		{"a changed digest", func() []byte {
			b := sign(alice, other)
			sum := must(signed.ModuleStatement(mod, "", "")).Digest
			was := must(signed.ModuleStatement(other, "", "")).Digest
			return bytes.Replace(b, was[:], sum[:], 1)
		}(), trust(alice), signed.ErrSignature},
		{"a changed signer's name", replace(good, "Example Corp", "Example Cors"), trust(alice), signed.ErrSignature},
		{"swapped metadata", take(t, good, alice, func(m *message) { m.payload = replace(m.payload, "1.2.0", "1.2.1") }), trust(alice), signed.ErrOther},
		{"EdDSA with an ECDSA key", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\x01\x26", "\x01\x27") }), trust(alice), signed.ErrSignature},
		{"ES384 with a key of P-256", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\xa4\x01\x26", "\xa4\x01\x38\x22") }), trust(alice), signed.ErrSignature},
		{"no algorithm", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\xa4\x01\x26", "\xa3") }), trust(alice), signed.ErrMalformed},
		{"algorithm 0", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\x01\x26", "\x01\x00") }), trust(alice), signed.ErrMalformed},
		{"algorithm none", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\x01\x26", "\x01\x64none") }), trust(alice), signed.ErrMalformed},
		{"a MAC", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\x01\x26", "\x01\x05") }), trust(alice), signed.ErrMalformed},
		{"ES512", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\x01\x26", "\x01\x38\x23") }), trust(alice), signed.ErrMalformed},
		{"an unprotected algorithm", take(t, good, alice, func(m *message) { m.unprotected = []byte{0xa1, 0x01, 0x26} }), trust(alice), signed.ErrMalformed},
		{"an unprotected key id", take(t, good, alice, func(m *message) { m.unprotected = []byte{0xa1, 0x04, 0x41, 0x41} }), trust(alice), signed.ErrMalformed},
		{"an unprotected content type", take(t, good, alice, func(m *message) { m.unprotected = []byte{0xa1, 0x03, 0x00} }), trust(alice), signed.ErrMalformed},
		{"a detached payload", take(t, good, alice, func(m *message) { m.payload = []byte{0xf6} }), trust(alice), signed.ErrMalformed},
		{"an empty payload", take(t, good, alice, func(m *message) { m.payload = []byte{0x40} }), trust(alice), signed.ErrMalformed},
		{"another content type", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "statement.v1", "statement.v2") }), trust(alice), signed.ErrMalformed},
		{"another label", take(t, good, alice, func(m *message) { m.payload = replace(m.payload, "policy-statement", "policy-statemend") }), trust(alice), signed.ErrMalformed},
		{"a statement about a bundle", take(t, good, alice, func(m *message) { m.payload = replace(m.payload, "module", "bundle") }), trust(alice), signed.ErrMalformed},
		{"a critical header", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\xa4\x01\x26", "\xa5\x01\x26\x02\x81\x0f") }), trust(alice), signed.ErrMalformed},
		{"a header twice", take(t, good, alice, func(m *message) { m.prot = replace(m.prot, "\xa4\x01\x26", "\xa5\x01\x26\x01\x26") }), trust(alice), signed.ErrMalformed},
		{"COSE_Sign", take(t, good, alice, func(m *message) { m.tag = 98 }), trust(alice), signed.ErrMalformed},
		{"no tag", good[1:], trust(alice), signed.ErrMalformed},
		{"bytes after it", append(bytes.Clone(good), 0), trust(alice), signed.ErrMalformed},
		{"cut short", good[:len(good)-1], trust(alice), signed.ErrMalformed},
		{"an integer in more bytes", replace(good, "\xd2\x84", "\xd8\x12\x84"), trust(alice), signed.ErrMalformed},
		{"too large", make([]byte, signed.MaxSignature+1), trust(alice), signed.ErrMalformed},
		{"a P-384 key that says ES256", take(t, sign(p384, mod), p384, func(m *message) { m.prot = replace(m.prot, "\x01\x38\x22", "\x01\x26") }), trust(p384), signed.ErrSignature},
		{"too old a version", good, &signed.Trust{Keys: trust(alice).Keys, Now: now, MinVersion: "1.10"}, signed.ErrVersion},
		{"a version that can't be compared", good, &signed.Trust{Keys: trust(alice).Keys, Now: now, MinVersion: "v2"}, signed.ErrVersion},
		{"the name of another policy of the same signer", good, &signed.Trust{Keys: trust(alice).Keys, Now: now, Name: "other"}, signed.ErrOther},
		{"expired", good, &signed.Trust{Keys: trust(alice).Keys, Now: now.AddDate(1, 0, 0)}, signed.ErrExpired},
		{"not yet valid", good, &signed.Trust{Keys: trust(alice).Keys, Now: now.Add(-2 * time.Hour)}, signed.ErrNotYetValid},
		{"without a time", good, &signed.Trust{Keys: trust(alice).Keys}, signed.ErrUnauthorized},
	} {
		v, err := signed.VerifyModule(mod, [][]byte{tt.sig}, tt.trust)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v; want %v", tt.name, v, err, tt.want)
		}
	}
	if _, err := signed.VerifyModule(mod, [][]byte{good}, trust(alice)); err != nil {
		t.Error(err)
	}
	if _, err := signed.VerifyModule(mod, nil, trust(alice)); !errors.Is(err, signed.ErrUnsigned) {
		t.Errorf("no signature: %v", err)
	}
	// What others add does not hide what counts.
	if _, err := signed.VerifyModule(mod, [][]byte{{1}, sign(mallory, mod), good}, trust(alice)); err != nil {
		t.Error(err)
	}
	if _, err := signed.VerifyModule(mod, [][]byte{good}, &signed.Trust{Keys: trust(alice).Keys, Now: now, Name: "strict", MinVersion: "1.2"}); err != nil {
		t.Error(err)
	}
}

// Every bit counts.
func TestEveryBit(t *testing.T) {
	mod := module("strict", "1.2.0")
	good := sign(bob, mod)
	for i := range 8 * len(good) {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		if _, err := signed.VerifyModule(mod, [][]byte{b}, trust(bob)); err == nil {
			t.Errorf("bit %d of byte %d does not matter", i%8, i/8)
		}
	}
}

func TestThreshold(t *testing.T) {
	mod := module("strict", "1.2.0")
	a, b, m := sign(alice, mod), sign(bob, mod), sign(mallory, mod)
	later := must(signed.Sign(must(signed.ModuleStatement(mod, "", "")), &signed.Signer{Name: "again", Key: alice}))
	two := trust(alice, bob)
	two.Threshold = 2
	twice := trust(alice, alice)
	twice.Threshold = 2
	for _, tt := range []struct {
		name string
		sigs [][]byte
		t    *signed.Trust
		ok   bool
	}{
		{"both", [][]byte{a, b}, two, true},
		{"both and another", [][]byte{m, b, a}, two, true},
		{"one", [][]byte{a}, two, false},
		{"one twice", [][]byte{a, a}, two, false},
		{"one in two signatures", [][]byte{a, later}, two, false},
		{"one and another", [][]byte{a, m}, two, false},
		{"a key that is pinned twice", [][]byte{a, later}, twice, false},
		{"more than are pinned", [][]byte{a, b}, &signed.Trust{Keys: two.Keys, Threshold: 3, Now: now}, false},
	} {
		v, err := signed.VerifyModule(mod, tt.sigs, tt.t)
		if (err == nil) != tt.ok || tt.ok && len(v.Signatures()) != 2 || !tt.ok && !errors.Is(err, signed.ErrUnauthorized) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// Two who say different things have not said the same.
	raw := corpus.Raw()
	one := must(signed.Sign(must(signed.ModuleStatement(raw, "a", "1")), &signed.Signer{Name: "x", Key: alice}))
	another := must(signed.Sign(must(signed.ModuleStatement(raw, "b", "1")), &signed.Signer{Name: "x", Key: bob}))
	if _, err := signed.VerifyModule(raw, [][]byte{one, another}, two); !errors.Is(err, signed.ErrUnauthorized) {
		t.Error(err)
	}
}

type pki struct {
	root, inter, leaf *x509.Certificate
	key               *ecdsa.PrivateKey
}

func newPKI(change func(leaf *x509.Certificate)) pki { return pkiWith(elliptic.P256(), change) }

// weakPKI has an intermediate with a key that is too short.
func weakPKI() pki { return pkiWith(elliptic.P224(), nil) }

func pkiWith(inter elliptic.Curve, change func(leaf *x509.Certificate)) pki {
	n := int64(0)
	issue := func(name string, pub crypto.PublicKey, ca bool, parent *x509.Certificate, by crypto.Signer) *x509.Certificate {
		n++
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
			BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		}
		if ca {
			tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageCertSign, nil
		} else if change != nil {
			change(tmpl)
		}
		if parent == nil {
			parent = tmpl
		}
		return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, parent, pub, by))))
	}
	rk, ik, lk := ec(elliptic.P384()), ec(inter), ec(elliptic.P256())
	p := pki{key: lk}
	p.root = issue("root", rk.Public(), true, nil, rk)
	p.inter = issue("inter", ik.Public(), true, p.root, rk)
	p.leaf = issue("leaf", lk.Public(), false, p.inter, ik)
	return p
}

func (p pki) sign(mod []byte, chain ...*x509.Certificate) []byte {
	return must(signed.Sign(must(signed.ModuleStatement(mod, "", "")), &signed.Signer{Name: "Example Corp", Key: p.key, Chain: chain}))
}

func TestCertificates(t *testing.T) {
	mod := module("strict", "1.2.0")
	p := newPKI(nil)
	roots := &signed.Trust{Roots: []*x509.Certificate{p.root}, Now: now}
	good := p.sign(mod, p.leaf, p.inter)
	if v, err := signed.VerifyModule(mod, [][]byte{good}, roots); err != nil || len(v.Signatures()[0].Chain) != 2 || !v.Until().Equal(p.leaf.NotAfter) {
		t.Fatal(v.Until(), err)
	}
	if _, err := signed.VerifyModule(mod, [][]byte{good}, trust(p.key)); err != nil {
		t.Errorf("the leaf's key is pinned: %v", err)
	}
	at := func(days int) *signed.Trust {
		return &signed.Trust{Roots: roots.Roots, Now: now.AddDate(0, 0, days)}
	}
	stranger := newPKI(nil)
	bad := func(change func(*x509.Certificate)) ([]byte, *signed.Trust) {
		q := newPKI(change)
		return q.sign(mod, q.leaf, q.inter), &signed.Trust{Roots: []*x509.Certificate{q.root}, Now: now}
	}
	usage, usageTrust := bad(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	tls, tlsTrust := bad(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	ca, caTrust := bad(func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	})
	weak := weakPKI()
	for _, tt := range []struct {
		name string
		sig  []byte
		t    *signed.Trust
		want error
	}{
		{"expired", good, at(400), signed.ErrExpired},
		{"not yet valid", good, at(-400), signed.ErrNotYetValid},
		{"its own root", stranger.sign(mod, stranger.leaf, stranger.inter, stranger.root), roots, signed.ErrUnauthorized},
		{"another root's", stranger.sign(mod, stranger.leaf, stranger.inter), roots, signed.ErrUnauthorized},
		{"the root too", p.sign(mod, p.leaf, p.inter, p.root), roots, signed.ErrUnauthorized},
		{"one to spare", p.sign(mod, p.leaf, p.inter, stranger.inter), roots, signed.ErrUnauthorized},
		{"no intermediate", p.sign(mod, p.leaf), roots, signed.ErrUnauthorized},
		{"roots, and no chain", p.sign(mod), roots, signed.ErrUnauthorized},
		{"a chain, and no roots", good, trust(alice), signed.ErrUnauthorized},
		{"a key that may not sign", usage, usageTrust, signed.ErrUnauthorized},
		{"a certificate of a web server", tls, tlsTrust, signed.ErrUnauthorized},
		{"a CA's", ca, caTrust, signed.ErrUnauthorized},
		{"a weak key on the way", weak.sign(mod, weak.leaf, weak.inter), &signed.Trust{Roots: []*x509.Certificate{weak.root}, Now: now}, signed.ErrUnauthorized},
		{"a chain under another's key", take(t, good, mallory, func(*message) {}), roots, signed.ErrSignature},
		{"a key id of another than the leaf", take(t, good, p.key, func(m *message) {
			s := must(signed.Inspect(good))
			m.prot = replace(m.prot, string(s.KeyID[:]), string(make([]byte, 32)))
		}), roots, signed.ErrUnauthorized},
	} {
		if _, err := signed.VerifyModule(mod, [][]byte{tt.sig}, tt.t); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", tt.name, err, tt.want)
		}
	}
	if _, err := signed.Sign(must(signed.ModuleStatement(mod, "", "")), &signed.Signer{Name: "x", Key: alice, Chain: []*x509.Certificate{p.leaf}}); err == nil {
		t.Error("signed with another's certificate")
	}
	// A threshold of two is not met by two certificates below one root.
	two := &signed.Trust{Roots: []*x509.Certificate{p.root}, Keys: trust(alice).Keys, Threshold: 2, Now: now}
	if _, err := signed.VerifyModule(mod, [][]byte{good, p.sign(mod, p.leaf, p.inter)}, two); !errors.Is(err, signed.ErrUnauthorized) {
		t.Error(err)
	}
	if _, err := signed.VerifyModule(mod, [][]byte{good, sign(alice, mod)}, two); err != nil {
		t.Error(err)
	}
}

func TestModuleStatement(t *testing.T) {
	mod := module("strict", "1.2.0")
	if _, err := signed.ModuleStatement(mod, "lax", ""); err == nil {
		t.Error("a name beside the metadata's")
	}
	raw := corpus.Raw()
	if _, err := signed.ModuleStatement(raw, "", ""); err == nil {
		t.Error("no name at all")
	}
	s := must(signed.ModuleStatement(raw, "rego", "7"))
	sig := must(signed.Sign(s, &signed.Signer{Name: "x", Key: bob}))
	if v, err := signed.VerifyModule(raw, [][]byte{sig}, trust(bob)); err != nil || v.Statement().Name != "rego" || v.Statement().Metadata != nil || !v.Until().IsZero() {
		t.Error(v, err)
	}
	section := func(content []byte) []byte { return corpus.Custom("tmcp.policy", content) }
	meta := corpus.Meta().Append(nil)
	for name, b := range map[string][]byte{
		"no module":          []byte("policy"),
		"a component":        []byte("\x00asm\x0d\x00\x01\x00"),
		"twice":              corpus.Raw(section(meta), section(meta)),
		"malformed":          corpus.Raw(section([]byte{0xa0})),
		"empty":              corpus.Raw(section(nil)),
		"beyond the end":     append(corpus.Raw(), 0, 5, 1),
		"length without end": append(corpus.Raw(), 0, 0xff, 0xff, 0xff, 0xff, 0xff),
		"no name":            append(corpus.Raw(), 0, 0),
		"large":              make([]byte, signed.MaxModule+1),
	} {
		for _, given := range []string{"", "1"} {
			if _, err := signed.ModuleStatement(b, given, given); !errors.Is(err, signed.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := (&signed.Verified{}).Module(raw); !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
	// The digest decides alone, without the module.
	st := must(signed.ModuleStatement(mod, "", ""))
	all := [][]byte{sign(alice, mod)}
	v, err := signed.Verify(signed.Module, st.Digest, all, trust(alice))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []signed.Kind{signed.Module, signed.Manifest} {
		digest := st.Digest
		if kind == signed.Module {
			digest[31] ^= 1
		}
		if _, err := signed.Verify(kind, digest, all, trust(alice)); !errors.Is(err, signed.ErrOther) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := v.Module(append(bytes.Clone(mod), corpus.Custom("more", nil)...)); !errors.Is(err, signed.ErrOther) {
		t.Errorf("another module with the same metadata: %v", err)
	}
	// A signer's own mistake.
	for _, bend := range []func(){func() { st.Name = "lax" }, func() { st.Name, st.Version = "strict", "2" }} {
		bend()
		if _, err := signed.VerifyModule(mod, [][]byte{must(signed.Sign(st, &signed.Signer{Name: "x", Key: alice}))}, trust(alice)); !errors.Is(err, signed.ErrOther) {
			t.Errorf("%s %s: %v", st.Name, st.Version, err)
		}
	}
	if _, err := signed.Inspect(make([]byte, signed.MaxSignature+1)); err == nil || !strings.Contains(err.Error(), "are allowed") {
		t.Error(err)
	}
}

func TestSplit(t *testing.T) {
	mod := module("strict", "1.2.0")
	a, b := sign(alice, mod), sign(bob, mod)
	got, err := signed.Split(slices.Concat(a, b))
	if err != nil || len(got) != 2 || !bytes.Equal(got[0], a) || !bytes.Equal(got[1], b) {
		t.Error(got, err)
	}
	for name, in := range map[string][]byte{"empty": nil, "cut": a[:20], "text": []byte("-----BEGIN"), "many": bytes.Repeat(a, signed.MaxSignatures+1), "large": dcbor.AppendBytes(nil, make([]byte, signed.MaxSignature))} {
		if _, err := signed.Split(in); !errors.Is(err, signed.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzInspect(f *testing.F) {
	mod := module("strict", "1.2.0")
	p := newPKI(nil)
	f.Add(sign(alice, mod))
	f.Add(sign(bob, mod))
	f.Add(p.sign(mod, p.leaf, p.inter))
	f.Add(p.sign(mod, p.leaf))
	tr := trust(mallory)
	tr.Roots = []*x509.Certificate{newPKI(nil).root}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := signed.Inspect(b)
		if err != nil {
			if !errors.Is(err, signed.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if s.Signer == "" || s.Name == "" || s.Version == "" {
			t.Errorf("%+v", s)
		}
		if _, err := signed.Verify(s.Kind, s.Digest, [][]byte{b}, tr); err == nil {
			t.Error("verified by nobody's key")
		}
		if all, err := signed.Split(b); err != nil || len(all) != 1 {
			t.Error(err)
		}
	})
}

func FuzzModule(f *testing.F) {
	f.Add(module("strict", "1.2.0"))
	f.Add(corpus.Raw())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := signed.ModuleStatement(b, "", ""); err == nil && (s.Name == "" || s.Metadata == nil) {
			t.Errorf("%+v", s)
		}
	})
}

func BenchmarkVerifyModule(b *testing.B) {
	mod := module("strict", "1.2.0")
	sig := [][]byte{sign(alice, mod)}
	tr := trust(alice)
	for b.Loop() {
		if _, err := signed.VerifyModule(mod, sig, tr); err != nil {
			b.Fatal(err)
		}
	}
}

// The bytes are those that another library makes of what the documentation says.
func TestBytes(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	p := newPKI(nil)
	mod := module("strict", "1.2.0")
	s := must(signed.ModuleStatement(mod, "", ""))
	enc := must(cbor.CoreDetEncOptions().EncMode())
	marshal := func(v any) []byte { return must(enc.Marshal(v)) }
	kid := must(protocol.PublicKeyThumbprint(key.Public()))
	digest := sha256.Sum256(mod)
	for _, chain := range []any{nil, 1, 2} {
		prot := map[int]any{1: -8, 3: "application/vnd.trustedmcp.policy.statement.v1+cbor", 4: kid[:], 15: map[int]any{1: "Example Corp", 4: 1826798400, 5: 1795262400}}
		by := &signed.Signer{Name: "Example Corp", Key: key, NotBefore: time.Unix(1795262400, 0), NotAfter: time.Unix(1826798400, 0)}
		if chain != nil { // certificates of the key
			cert := p.leaf
			cert.PublicKey = key.Public()
			if by.Chain = []*x509.Certificate{cert}; chain == 2 {
				by.Chain = append(by.Chain, p.inter)
				prot[33] = [][]byte{cert.Raw, p.inter.Raw}
			} else {
				prot[33] = cert.Raw
			}
		}
		header := marshal(prot)
		payload := marshal(map[int]any{1: "org.trustedmcp/trust v1 policy-statement", 2: "module", 3: digest[:], 4: s.Metadata, 5: "strict", 6: "1.2.0"})
		sig := ed25519.Sign(key, marshal([]any{"Signature1", header, []byte{}, payload}))
		want := marshal(cbor.Tag{Number: 18, Content: []any{header, map[int]any{}, payload, sig}})
		if got := must(signed.Sign(s, by)); !bytes.Equal(got, want) {
			t.Errorf("%v: %x, want %x", chain, got, want)
		}
	}
	s.Metadata = nil
	want := marshal(map[int]any{1: "org.trustedmcp/trust v1 policy-statement", 2: "module", 3: digest[:], 4: nil, 5: "strict", 6: "1.2.0"})
	if got := must(signed.Sign(s, &signed.Signer{Name: "x", Key: key})); !bytes.Contains(got, want) {
		t.Errorf("%x has no %x", got, want)
	}
}
