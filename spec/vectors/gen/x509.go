package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"time"
)

// A cert is a certificate with its private key; all keys are Ed25519, whose
// signatures are deterministic.
type cert struct {
	der []byte
	key ed25519.PrivateKey
}

func newCert(name string, parent *cert, pub crypto.PublicKey, change func(*x509.Certificate)) *cert {
	key := ed25519.NewKeyFromSeed(seed("certificate " + name))
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(seed("serial " + name)[:15]), Subject: pkix.Name{CommonName: "test vectors: " + name},
		NotBefore: time.Unix(t0-86400, 0).UTC(), NotAfter: time.Unix(t0+86400, 0).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if change != nil {
		change(t)
	}
	signer, issuer := key, t
	if parent != nil {
		signer, issuer = parent.key, must(x509.ParseCertificate(parent.der))
	}
	if pub == nil {
		pub = key.Public()
	}
	return &cert{must(x509.CreateCertificate(nil, t, issuer, pub, signer)), key}
}

func ca(t *x509.Certificate) {
	t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign
}

func leafFor(t *x509.Certificate) { t.DNSNames = []string{"api.example.com"} }

// chain makes the object's identity one of X.509.
func chain(certs ...*cert) func(*ko) {
	return func(k *ko) {
		delete(k.claims, cIDKey)
		k.sigs[0].key = certs[0].key
		if len(certs) == 1 {
			k.sigs[0].prot[33] = certs[0].der
			return
		}
		list := a{}
		for _, c := range certs {
			list = append(list, c.der)
		}
		k.sigs[0].prot[33] = list
	}
}

func x509Vectors() {
	root := newCert("root", nil, nil, ca)
	otherRoot := newCert("other root", nil, nil, ca)
	mid := newCert("intermediate", root, nil, ca)
	leaf := newCert("leaf", mid, nil, leafFor)
	direct := newCert("direct", root, nil, leafFor)
	trust := func(roots ...*cert) obj {
		list := []x{}
		for _, r := range roots {
			list = append(list, r.der)
		}
		return obj{"pins": []x{}, "roots": list}
	}
	plus := func(o obj, name string, v any) obj { o[name] = v; return o }
	good := func(name, note string, in obj, change ...func(*ko)) {
		k := newKO(change...)
		b := k.bytes()
		add("key-object", "x509-"+name, vec{req: "TMCP-5.4-9 TMCP-5.4-10", note: note, in: keyInput(b, in), out: keyOutput(b, k)})
	}
	bad := func(name, reason, req, note string, in obj, change ...func(*ko)) {
		add("key-object", "x509-"+name, vec{reason: reason, req: req, note: note, in: keyInput(newKO(change...).bytes(), in)})
	}
	const im = "identity-mismatch"
	sub := func(uri string) func(*ko) { return claim(cSub, uri) }
	good("chain", "A leaf, an intermediate, and a root that is trusted.", trust(root), chain(leaf, mid))
	good("single", "A leaf directly under the root: x5chain is one byte string.", trust(root), chain(direct))
	good("second-root", "The root is the second of two.", trust(otherRoot, root), chain(leaf, mid))
	good("pinned", "The leaf's key is pinned; the chain does not matter then.", obj{"pins": []x{thumbprint(direct.key.Public())}}, chain(direct))
	ip := newCert("ip", root, nil, func(t *x509.Certificate) { t.IPAddresses = []net.IP{net.IPv6loopback, net.IPv4(127, 0, 0, 1)} })
	good("ipv4", "An IPv4 host.", plus(trust(root), "identity", "https://127.0.0.1:8443/mcp"), chain(ip), sub("https://127.0.0.1:8443/mcp"))
	good("ipv6", "An IPv6 host.", plus(trust(root), "identity", "https://[::1]/mcp"), chain(ip), sub("https://[::1]/mcp"))
	spiffe := newCert("spiffe", root, nil, func(t *x509.Certificate) { t.URIs = []*url.URL{must(url.Parse("spiffe://example.org/mcp"))} })
	good("spiffe", "A SPIFFE identity.", plus(trust(root), "identity", "spiffe://example.org/mcp"), chain(spiffe), sub("spiffe://example.org/mcp"))

	bad("unknown-root", im, "TMCP-5.4-9", "A chain to a root that is not trusted.", trust(otherRoot), chain(leaf, mid))
	bad("no-roots", im, "TMCP-5.4-9 TMCP-5.4-11", "No root is trusted. Catches falling back to the system's.", trust(), chain(leaf, mid))
	bad("root-sent-along", im, "TMCP-5.4-11", "The sender's own root at the end of its chain.", trust(otherRoot), chain(leaf, mid, root))
	bad("intermediate-missing", im, "TMCP-5.4-9", "The intermediate is missing.", trust(root), chain(leaf))
	bad("intermediate-not-a-ca", im, "TMCP-5.4-9", "A leaf certificate issued another one.", trust(root), chain(newCert("under leaf", direct, nil, leafFor), direct))
	bad("wrong-host", im, "TMCP-5.4-10", "A genuine certificate of another host of the same CA.", trust(root), chain(newCert("other host", root, nil, func(t *x509.Certificate) { t.DNSNames = []string{"other.example.com"} })))
	bad("common-name-only", im, "TMCP-5.4-10", "The host in the common name alone.", trust(root), chain(newCert("cn", root, nil, func(t *x509.Certificate) { t.Subject.CommonName = "api.example.com" })))
	bad("wildcard-too-wide", im, "TMCP-5.4-10", "A wildcard covers one label.", trust(root), chain(newCert("wild", root, nil, func(t *x509.Certificate) { t.DNSNames = []string{"*.com"} })))
	bad("leaf-expired", im, "TMCP-5.4-9", "The leaf expired, the key object did not.", trust(root), chain(newCert("expired", root, nil, func(t *x509.Certificate) { leafFor(t); t.NotAfter = time.Unix(t0-1, 0).UTC() })))
	bad("leaf-not-yet", im, "TMCP-5.4-9", "The leaf is not valid yet.", trust(root), chain(newCert("future", root, nil, func(t *x509.Certificate) { leafFor(t); t.NotBefore = time.Unix(t0+60, 0).UTC() })))
	bad("spiffe-other", im, "TMCP-5.4-10", "Another path of the same trust domain.", plus(trust(root), "identity", "spiffe://example.org/admin"), chain(spiffe), sub("spiffe://example.org/admin"))
	bad("spiffe-by-host", im, "TMCP-5.4-10", "A DNS name does not make a SPIFFE identity.", plus(trust(root), "identity", "spiffe://api.example.com/mcp"), chain(direct), sub("spiffe://api.example.com/mcp"))
	bad("signed-by-another-key", "signature-invalid", "TMCP-5.4-7", "A genuine chain, copied; the signature is by the thief.", trust(root), chain(leaf, mid), func(k *ko) { k.sigs[0].key = identityKey() })
	bad("bare-key", im, "TMCP-5.4-9", "A bare key where a chain is demanded.", trust(root))
	bad("both", koi, "TMCP-5.2-4", "An identity key claim beside the x5chain: which one signs?", trust(root), chain(direct), claim(cIDKey, coseKey(identityKey().Public())))
	bad("array-of-one", koi, "TMCP-5.1-1", "An array of one certificate: RFC 9360 has a byte string for it.", trust(root), chain(direct), header(33, a{direct.der}))
	bad("empty-array", koi, "TMCP-5.1-1", "An empty chain.", trust(root), chain(direct), header(33, a{}))
	bad("not-a-certificate", koi, "TMCP-5.1-1", "Bytes that are no certificate.", trust(root), chain(direct), header(33, []byte{0x30, 0}))
	bad("nine-certificates", koi, "TMCP-5.1-1", "A chain of nine.", trust(root), chain(leaf, mid, mid, mid, mid, mid, mid, mid, mid))
	rsaVectors(root, trust(root))
}

// rsaVectors have an RSA leaf, whose key and signatures are frozen.
func rsaVectors(root *cert, in obj) {
	private := func(bits int) *rsa.PrivateKey { // only while the vectors are first made
		return must(rsa.GenerateKey(rand.Reader, bits))
	}
	var key *rsa.PrivateKey
	leaf := &cert{der: freeze("rsa 2048 certificate", func() []byte {
		key = private(2048)
		return newCert("rsa", root, key.Public(), leafFor).der
	})}
	k := newKO(chain(leaf), header(1, algPS256), func(k *ko) {
		k.sigs[0].key = nil
		k.sigs[0].bytes = []byte{}
	})
	tbs := enc(a{"Signature", enc(k.typ), enc(k.sigs[0].prot), []byte(k.aad), enc(k.claims)})
	k.sigs[0].bytes = freeze("rsa 2048 signature", func() []byte {
		return must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, sha(tbs), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
	})
	b := k.bytes()
	add("key-object", "x509-rsa", vec{req: "TMCP-5.2-1 TMCP-5.4-9", note: "PS256 with an RSA key of 2048 bits, by chain.", in: keyInput(b, in), out: keyOutput(b, k)})
	k.sigs[0].bytes = flip(k.sigs[0].bytes, 9)
	add("key-object", "x509-rsa-flipped", vec{reason: "signature-invalid", req: "TMCP-5.4-7", note: "One bit of the PS256 signature.", in: keyInput(k.bytes(), in)})

	number := func(bits int) *rsa.PublicKey { // no one has its private key
		n := new(big.Int).SetBit(new(big.Int).SetBytes(seed("modulus")), bits-1, 1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
	}
	for _, v := range []struct {
		name, reason, req, note string
		bits                    int
	}{
		{"rsa-1024", "signature-invalid", "TMCP-5.2-1", "An RSA key of 1024 bits.", 1024},
		{"rsa-16384", koi, "TMCP-5.2-1 TMCP-5.2-5", "An RSA key so large that verifying costs the victim seconds.", 16384},
	} {
		leaf := newCert(v.name, root, number(v.bits), leafFor)
		k := newKO(chain(leaf), header(1, algPS256), func(k *ko) { k.sigs[0].bytes = make([]byte, v.bits/8) })
		add("key-object", "x509-"+v.name, vec{reason: v.reason, req: v.req, note: v.note, in: keyInput(k.bytes(), in)})
	}
}
