package verifier

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strconv"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

func integer(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// manifestFor makes reference values of what a simulated TEE with the zero image
// measures.
func manifestFor(kind evidence.Kind, change ...func(*corim.CoRIM)) *corim.CoRIM {
	values := map[string]any{}
	for name, v := range sim.Measurements(kind, [32]byte{}) {
		values[name] = v
	}
	c := must(tee.Manifest("conformance "+string(kind), kind, values))
	for _, f := range change {
		f(c)
	}
	return c
}

func until(t time.Time) func(*corim.CoRIM) {
	return func(c *corim.CoRIM) { c.Validity = corim.Validity{NotBefore: t0.Add(-time.Hour), NotAfter: t} }
}

// signed signs a manifest; nil is the signer that requests pin.
func signed(by *corim.Signer, c *corim.CoRIM) []byte {
	if by == nil {
		by = signer("signer")
	}
	return must(corim.Sign(c, by))
}

func signer(name string) *corim.Signer { return &corim.Signer{Name: name, Key: edKey(name)} }

// certificate makes a root and a leaf that signs manifests, under names.
func certificate(root, leaf string) (ca, signs *x509.Certificate) {
	make := func(t, parent *x509.Certificate, pub ed25519.PublicKey, key ed25519.PrivateKey) *x509.Certificate {
		return must(x509.ParseCertificate(must(x509.CreateCertificate(nil, t, parent, pub, key))))
	}
	tmpl := func(name string, isCA bool) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: t0.Add(-time.Hour), NotAfter: t0.Add(time.Hour), BasicConstraintsValid: true, IsCA: isCA, KeyUsage: x509.KeyUsageDigitalSignature}
		if isCA {
			c.KeyUsage = x509.KeyUsageCertSign
		}
		return c
	}
	rk, lk := edKey(root), edKey(leaf)
	rt := tmpl(root, true)
	ca = make(rt, rt, rk.Public().(ed25519.PublicKey), rk)
	return ca, make(tmpl(leaf, false), ca, lk.Public().(ed25519.PublicKey), rk)
}

// corimVectors try section 19.2.
func corimVectors() []vector {
	plain := func() *corim.CoRIM { return manifestFor(evidence.TDX) }
	ask := func(value []byte, change func(*Request)) func() Request {
		return func() Request {
			r := Request{Op: OpCoRIM, Time: t0.Unix(), Value: value, SignerKeys: []string{pemKey(edKey("signer").Public())}}
			if change != nil {
				change(&r)
			}
			return r
		}
	}
	ca, leaf := certificate("manifest root", "chained signer")
	otherCA, otherLeaf := certificate("another root", "other chained signer")
	chained := func(l *x509.Certificate, name string, roots ...*x509.Certificate) func() Request {
		by := signer(name)
		by.Chain = []*x509.Certificate{l}
		return ask(signed(by, plain()), func(r *Request) { r.SignerKeys, r.SignerRoots = nil, pemsOf(roots) })
	}
	local := func(b []byte) func() Request {
		return ask(b, func(r *Request) { r.Local, r.SignerKeys = true, nil })
	}
	unsigned := must(plain().Encode()) // d9 01f5, then a map
	body := unsigned[3:]
	tagged := func(parts ...[]byte) []byte {
		b := append([]byte{}, unsigned[:3]...)
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	id := enc("conformance tdx")
	good := signed(nil, plain())
	by := func(v corim.Validity) []byte { s := signer("signer"); s.Validity = v; return signed(s, plain()) }
	day := 24 * time.Hour
	with := func(tdx *scene, value []byte, isLocal bool) {
		tdx.req.Manifests = []Manifest{{Value: value, Local: isLocal}}
		tdx.req.SignerKeys = []string{pemKey(edKey("signer").Public())}
		tdx.req.Policy = policy(obj{"reference_values": "required"})
	}
	compared := func(value []byte, isLocal bool, change func(*scene)) func() Request {
		return of(evidence.TDX, func(s *scene) {
			with(s, value, isLocal)
			if change != nil {
				change(s)
			}
		})
	}
	return []vector{
		{name: "corim", req: "TMCP-19.2-1", title: "a manifest by a pinned key", make: ask(good, nil)},
		{name: "corim-chain", req: "TMCP-19.2-1", title: "a manifest by a key whose certificate leads to a pinned root", make: chained(leaf, "chained signer", ca)},
		{name: "corim-valid", req: "TMCP-19.2-2", title: "a manifest in the last second of its validity", make: ask(signed(nil, manifestFor(evidence.TDX, until(t0.Add(time.Second)))), nil)},
		{name: "corim-local", req: "TMCP-19.2-5", title: "an unsigned manifest that the operator gave as a file", make: local(unsigned)},
		{name: "corim-other-signer", req: "TMCP-19.2-1", title: "a manifest by a key that is not pinned", twin: "corim", hole: "corim-signer", make: ask(signed(signer("stranger"), plain()), nil)},
		{name: "corim-no-signers", req: "TMCP-19.2-1", title: "a signed manifest, where nobody is pinned", twin: "corim", hole: "corim-signer", make: ask(good, func(r *Request) { r.SignerKeys = nil })},
		{name: "corim-other-root", req: "TMCP-19.2-1", title: "a manifest by a key whose certificate leads to another root", twin: "corim-chain", hole: "corim-signer", make: chained(otherLeaf, "other chained signer", ca)},
		{name: "corim-root-along", req: "TMCP-19.2-1", title: "a manifest that brings its root along", twin: "corim-chain", hole: "corim-signer", make: func() Request {
			s := signer("other chained signer")
			s.Chain = []*x509.Certificate{otherLeaf, otherCA}
			return ask(signed(s, plain()), func(r *Request) { r.SignerKeys, r.SignerRoots = nil, pemsOf([]*x509.Certificate{ca}) })()
		}},
		{name: "corim-signature", req: "TMCP-19.2-1", title: "a manifest with a bit of its signature flipped", twin: "corim", hole: "corim-signature", make: ask(flip(-1)(good), nil)},
		{name: "corim-altered", req: "TMCP-19.2-1", title: "a manifest with a measurement altered after it was signed", twin: "corim", hole: "corim-signature", make: ask(replace(sim.Measurements(evidence.TDX, [32]byte{})["tdx.mrtd"], make([]byte, 48))(good), nil)},
		{name: "corim-expired", req: "TMCP-19.2-2", title: "a manifest that is over", twin: "corim-valid", hole: "corim-validity", make: ask(signed(nil, manifestFor(evidence.TDX, until(t0.Add(-time.Second)))), nil)},
		{name: "corim-early", req: "TMCP-19.2-2", title: "a manifest that is not valid yet", twin: "corim-valid", hole: "corim-validity", make: ask(signed(nil, manifestFor(evidence.TDX, func(c *corim.CoRIM) {
			c.Validity = corim.Validity{NotBefore: t0.Add(day), NotAfter: t0.Add(2 * day)}
		})), nil)},
		{name: "corim-signature-expired", req: "TMCP-19.2-2", title: "a manifest whose signature is over", twin: "corim", hole: "corim-validity", make: ask(by(corim.Validity{NotBefore: t0.Add(-2 * day), NotAfter: t0.Add(-day)}), nil)},
		{name: "corim-profile", req: "TMCP-19.2-3", title: "a manifest of a profile that nobody knows", twin: "corim", hole: "corim-profile", make: ask(signed(nil, manifestFor(evidence.TDX, func(c *corim.CoRIM) { c.Profile = "tag:example.com,2026:unknown-profile" })), nil)},
		{name: "corim-trailing", req: "TMCP-19.2-4", title: "a byte behind the manifest", twin: "corim-local", hole: "corim-form", make: local(appended(0)(unsigned))},
		{name: "corim-signed-trailing", req: "TMCP-19.2-4", title: "a byte behind the signed manifest", twin: "corim", hole: "corim-form", make: ask(appended(0)(good), nil)},
		{name: "corim-indefinite", req: "TMCP-19.2-4", title: "a manifest of indefinite length", twin: "corim-local", hole: "corim-form", make: local(tagged([]byte{0xbf}, body[1:], []byte{0xff}))},
		{name: "corim-key-twice", req: "TMCP-19.2-4", title: "a manifest with its id twice", twin: "corim-local", hole: "corim-form", make: local(tagged([]byte{body[0] + 1}, []byte{0}, id, body[1:]))},
		{name: "corim-long-integer", req: "TMCP-19.2-4", title: "a key that is not in its shortest form", twin: "corim-local", hole: "corim-form", make: local(tagged(body[:1], []byte{0x18, 0x00}, body[2:]))},
		{name: "corim-unsorted", req: "TMCP-19.2-4", title: "keys that are not sorted", twin: "corim-local", hole: "corim-form", make: local(tagged(body[:1], body[2+len(id):], body[1:2+len(id)]))},
		{name: "corim-unsigned", req: "TMCP-19.2-5", title: "an unsigned manifest that came from anywhere", twin: "corim-local", hole: "corim-unsigned", make: ask(unsigned, nil)},

		{name: "references", req: "TMCP-19.3-1", title: "TDX: evidence that matches a signed manifest", make: compared(good, false, nil)},
		{name: "references-other", req: "TMCP-19.3-1", title: "TDX: evidence of another image than the manifest's", twin: "references", hole: "reference", make: compared(good, false, func(s *scene) { s.tdx.Image = [32]byte(seed("another image")) })},
		{name: "references-rtmr", req: "TMCP-19.3-1", title: "TDX: evidence with one RTMR that differs", twin: "references", hole: "reference", make: compared(good, false, func(s *scene) {
			want := sim.Measurements(evidence.TDX, [32]byte{})
			var r [4][48]byte
			for i := range r {
				copy(r[i][:], want["tdx.rtmr"+strconv.Itoa(i)])
			}
			r[2][0] ^= 1
			s.tdx.RTMR = &r
		})},
		{name: "references-required", req: "TMCP-19.1-3", title: "TDX: no reference values, where the policy demands some", twin: "references", hole: "reference", make: of(evidence.TDX, func(s *scene) { s.req.Policy = policy(obj{"reference_values": "required"}) })},
		{name: "references-forged", req: "TMCP-19.2-1", title: "TDX: evidence that matches a manifest of a stranger", twin: "references", hole: "corim-signer", make: compared(signed(signer("stranger"), manifestFor(evidence.TDX)), false, nil)},
		{name: "references-unsigned", req: "TMCP-19.2-5", title: "TDX: evidence that matches an unsigned manifest", twin: "references", hole: "corim-unsigned", make: compared(unsigned, false, nil)},
	}
}
