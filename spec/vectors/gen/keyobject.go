package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"maps"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// A sig is one signature of a key object in the making.
type sig struct {
	key    crypto.Signer
	prot   m
	rawPro []byte // instead of prot
	unprot any
	bytes  []byte // instead of signing
}

// A ko is a key object in the making; its zero changes give the positive one.
type ko struct {
	claims  m
	payload any // instead of the claims
	typ     any // protected header
	unprot  any
	aad     string
	sigs    []sig
	tag     uint64
	extra   a // items after the four
}

const (
	cSub, cExp, cNbf, cIat, cNonce, cProfile, cCMW = 2, 4, 5, 6, 10, 265, 299
	cRole, cKeys, cTrust, cSettings                = -70000, -70001, -70002, -70003
	cTools, cPolicy, cIDKey, cAttKey               = -70004, -70005, -70006, -70007
	cFresh, cConfig                                = -70008, -70009
	algEdDSA, algES256, algES384, algPS256         = -8, -7, -35, -37
)

func coseKey(pub crypto.PublicKey) m {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return m{1: 1, -1: 6, -2: []byte(k)}
	case *ecdsa.PublicKey:
		p := must(k.Bytes())
		n := len(p) / 2
		return m{1: 2, -1: map[int]int{32: 1, 48: 2}[n], -2: p[1 : 1+n], -3: p[1+n:]}
	}
	panic("key type")
}

func ecKey(c elliptic.Curve, name string) *ecdsa.PrivateKey {
	s := seed(name)
	if c == elliptic.P384() {
		d := sha512.Sum384(s)
		s = d[:]
	}
	s[0] = 0 // below the order
	return must(ecdsa.ParseRawPrivateKey(c, s))
}

// sign is a COSE signature.
func sign(key crypto.Signer, tbs []byte) []byte {
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(k, tbs)
	case *ecdsa.PrivateKey:
		h, size, hash := sha(tbs), 32, crypto.SHA256
		if k.Curve == elliptic.P384() {
			d := sha512.Sum384(tbs)
			h, size, hash = d[:], 48, crypto.SHA384
		}
		der := must(k.Sign(nil, h, hash)) // deterministic, RFC 6979
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &rs); err != nil {
			panic(err)
		}
		out := make([]byte, 2*size)
		rs.R.FillBytes(out[:size])
		rs.S.FillBytes(out[size:])
		return out
	}
	panic("key type")
}

func serverKeys() a {
	return a{a{1, suites[1].private.PublicKey().Bytes()}, a{2, suites[2].private.PublicKey().Bytes()}}
}

func newKO(change ...func(*ko)) *ko {
	id := identityKey()
	k := &ko{
		claims: m{cSub: identity, cExp: t0 + 600, cNbf: t0, cIat: t0, cProfile: "tag:trustedmcp.org,2026:key-1",
			cRole: 1, cKeys: serverKeys(), cTrust: "identity", cSettings: settingsDigest(serverSettings), cIDKey: coseKey(id.Public())},
		typ: m{16: "application/vnd.trustedmcp.key+cose"}, unprot: m{}, aad: L + "key", tag: 98,
		sigs: []sig{{key: id, prot: m{1: algEdDSA, 4: []byte("identity")}, unprot: m{}}},
	}
	for _, f := range change {
		f(k)
	}
	return k
}

func (k *ko) bytes() []byte {
	body := enc(k.typ)
	payload := k.payload
	if payload == nil {
		payload = enc(k.claims)
	}
	sigs := a{}
	for _, s := range k.sigs {
		prot := s.rawPro
		if prot == nil {
			prot = enc(s.prot)
		}
		if s.bytes == nil {
			s.bytes = sign(s.key, enc(a{"Signature", body, prot, []byte(k.aad), payload}))
		}
		sigs = append(sigs, a{prot, s.unprot, s.bytes})
	}
	items := append(a{body, k.unprot, payload, sigs}, k.extra...)
	if k.tag == 0 {
		return enc(items)
	}
	return enc(cbor.Tag{Number: k.tag, Content: items})
}

func serverObject() []byte { return newKO().bytes() }

func thumbprint(pub crypto.PublicKey) []byte { return sha(enc(coseKey(pub))) }

// keyInput is what a verifier gets; change replaces members.
func keyInput(object []byte, change obj) obj {
	in := obj{"key_object": x(object), "identity": identity, "role": 1, "settings": serverSettings, "now": t0,
		"pins": []x{thumbprint(identityKey().Public())}}
	maps.Copy(in, change)
	return in
}

func keyOutput(object []byte, k *ko) obj {
	o := obj{"key_digest": x(keyDigest(object)), "profile": k.claims[cTrust], "expires": k.claims[cExp]}
	if c, ok := k.claims[cTools].([]byte); ok {
		o["tool_set"] = x(c)
	}
	return o
}

// claim sets a claim; nil deletes it.
func claim(key int, v any) func(*ko) {
	return func(k *ko) {
		if k.claims[key] = v; v == nil {
			delete(k.claims, key)
		}
	}
}

// by makes key the identity key.
func by(key crypto.Signer, alg int) func(*ko) {
	return func(k *ko) {
		k.claims[cIDKey] = coseKey(key.Public())
		k.sigs[0].key, k.sigs[0].prot = key, m{1: alg, 4: []byte("identity")}
	}
}

// attested adds an attested key and its signature.
func attested(k *ko) {
	key := ed25519.NewKeyFromSeed(seed("attested key"))
	k.claims[cTrust], k.claims[cAttKey], k.claims[cCMW] = "attested", coseKey(key.Public()), a{"application/octet-stream", []byte("evidence"), 4}
	k.claims[cFresh] = a{1, 1795262400}
	k.sigs = append(k.sigs, sig{key: key, prot: m{1: algEdDSA, 4: []byte("attested")}, unprot: m{}})
}

func keyVectors() {
	for _, v := range goodKeys() {
		k := newKO(v.change...)
		b := k.bytes()
		add("key-object", v.name, vec{req: v.req, note: v.note, in: keyInput(b, v.in), out: keyOutput(b, k)})
	}
	for _, v := range badKeys() {
		b := newKO(v.change...).bytes()
		if v.mutate != nil {
			b = v.mutate(b)
		}
		add("key-object", v.name, vec{reason: v.reason, req: v.req, note: v.note, in: keyInput(b, v.in)})
	}
	x509Vectors()
	for name, object := range map[string][]byte{"server": serverObject(), "empty": {}, "one-byte": {0}} {
		add("key-digest", name, vec{req: "TMCP-2.3-1", note: "The name of a key object in frames: a digest over the label and the object's bytes.",
			in: obj{"key_object": x(object)}, out: obj{"digest_input": x(enc(a{L + "key digest", object})), "digest": x(keyDigest(object))}})
	}
	for name, pub := range map[string]crypto.PublicKey{"ed25519": identityKey().Public(), "p256": ecKey(elliptic.P256(), "p256").Public(), "p384": ecKey(elliptic.P384(), "p384").Public()} {
		in := obj{"kty": "OKP", "public_key": nil}
		switch k := pub.(type) {
		case ed25519.PublicKey:
			in = obj{"type": "Ed25519", "public_key": x(k)}
		case *ecdsa.PublicKey:
			in = obj{"type": k.Params().Name, "public_key": x(must(k.Bytes()))}
		}
		add("thumbprint", name, vec{req: "TMCP-5.4-8", note: "RFC 9679: SHA-256 over the COSE_Key with its required members. This is what is pinned.",
			in: in, out: obj{"cose_key": x(enc(coseKey(pub))), "thumbprint": x(sha(enc(coseKey(pub))))}})
	}
	_ = sha256.Size
}
