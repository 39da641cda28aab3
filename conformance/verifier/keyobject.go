package verifier

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"maps"
	"slices"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	spec "github.com/trustedmcp/tmcp/spec/vectors"
)

// Claims of a key object (chapter 5).
const (
	cSub, cExp, cNbf, cIat, cNonce, cProfile, cCMW = 2, 4, 5, 6, 10, 265, 299
	cRole, cKeys, cTrust, cSettings, cIDKey        = -70000, -70001, -70002, -70003, -70006
	cAttKey, cFresh, cConfig                       = -70007, -70008, -70009
)

const (
	label    = "org.trustedmcp/trust v1 "
	dialled  = "https://mcp.example.com/mcp"
	settings = `{"version":1,"profiles":["attested","identity"],"carriers":["envelope"],"suites":["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"],"mode":"required"}`
)

var (
	nonce  = []byte("a nonce of the verifier")
	config = seed("configuration")
)

func coseKey(k ed25519.PrivateKey) m {
	return m{1: 1, -1: 6, -2: []byte(k.Public().(ed25519.PublicKey))}
}

// An object is a key object in the making, written by hand from chapters 5 and
// 18. Its zero changes give one that must be accepted.
type object struct {
	claims m
	id     ed25519.PrivateKey
	att    ed25519.PrivateKey // who makes the second signature; nil: none
	tee    sim.Options
	// What the TEE binds, where that is not what the key object claims.
	role        any
	identity    any
	key         m
	fresh       any
	bindsConfig any
	data        *[64]byte
	patch       func([]byte) []byte // of the evidence
	req         Request
}

// keyObject makes a request about a key object.
func keyObject(change ...func(*object)) func() Request {
	return func() Request {
		id, att := edKey("identity"), edKey("attested key")
		o := &object{id: id, att: att, req: Request{Op: OpKeyObject, Time: t0.Unix(), Identity: dialled, Role: 1, Settings: settings,
			Pins: []string{thumbprint(id)}, Profile: "attested", Anchors: &Anchors{}, Simulator: anchors(sim.Default().Simulator(evidence.TDX).Anchors()), Policy: policy(nil)}}
		o.claims = m{cSub: dialled, cExp: t0.Unix() + 600, cNbf: t0.Unix(), cIat: t0.Unix(), cProfile: "tag:trustedmcp.org,2026:key-1", cRole: 1,
			cKeys: hpkeKeys(), cTrust: "attested", cSettings: settingsDigest(), cIDKey: coseKey(id), cAttKey: coseKey(att),
			cFresh: arr{1, t0.Unix() - 60}}
		for _, f := range change {
			f(o)
		}
		if _, set := o.claims[cCMW]; !set {
			o.claims[cCMW] = o.evidence()
		}
		maps.DeleteFunc(o.claims, func(_, v any) bool { return v == nil })
		o.req.Value = o.encode()
		return o.req
	}
}

// with changes claims; nil takes one out.
func with(claims ...any) func(*object) {
	return func(o *object) {
		for i := 0; i < len(claims); i += 2 {
			o.claims[claims[i]] = claims[i+1]
		}
	}
}

func or(v, otherwise any) any {
	if v == nil {
		return otherwise
	}
	return v
}

// evidence is what the TEE gives for the object, as raw CBOR.
func (o *object) evidence() any {
	key := o.key
	if key == nil {
		key, _ = o.claims[cAttKey].(m)
	}
	data := sha512.Sum512(enc(arr{label + "report data", or(o.role, o.claims[cRole]), or(o.identity, o.claims[cSub]), key, or(o.bindsConfig, o.claims[cConfig]), or(o.fresh, o.claims[cFresh])}))
	if o.data != nil {
		data = *o.data
	}
	cmw := must(must(sim.Default().TEE(o.tee)).Attest(context.Background(), data))
	if o.patch != nil {
		cmw = o.patch(cmw)
	}
	return raw(cmw)
}

func (o *object) encode() []byte {
	body, payload := enc(m{16: "application/vnd.trustedmcp.key+cose"}), enc(o.claims)
	sign := func(key ed25519.PrivateKey, kid string) arr {
		protected := enc(m{1: -8, 4: []byte(kid)})
		return arr{protected, m{}, ed25519.Sign(key, enc(arr{"Signature", body, protected, []byte(label + "key"), payload}))}
	}
	sigs := arr{sign(o.id, "identity")}
	if o.att != nil {
		sigs = append(sigs, sign(o.att, "attested"))
	}
	return append(dcbor.AppendTag(nil, 98), enc(arr{body, m{}, payload, sigs})...)
}

func thumbprint(k ed25519.PrivateKey) string {
	h := sha256.Sum256(enc(coseKey(k)))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

func settingsDigest() []byte {
	b := dcbor.AppendText(dcbor.AppendArray(nil, 2), label+"settings")
	h := sha256.Sum256(must(dcbor.FromJSON(b, []byte(settings))))
	return h[:]
}

func hpkeKeys() arr {
	one := must(hpke.MLKEM768X25519().DeriveKeyPair(append(seed("suite 1"), seed("suite 1 too")...)))
	two := must(hpke.DHKEM(ecdh.X25519()).DeriveKeyPair(append(seed("suite 2"), seed("suite 2 too")...)))
	return arr{arr{1, one.PublicKey().Bytes()}, arr{2, two.PublicKey().Bytes()}}
}

func reportDataVectors() []vector {
	var out []vector
	for _, v := range spec.Group("report-data") {
		var in struct {
			Role      int      `json:"role"`
			Identity  string   `json:"identity"`
			Key       spec.Hex `json:"key"`
			Config    spec.Hex `json:"config"`
			Freshness struct {
				Kind  int      `json:"kind"`
				At    int64    `json:"at"`
				Value spec.Hex `json:"value"`
			} `json:"freshness"`
		}
		var res struct {
			Encoded string `json:"encoded"`
			Data    string `json:"report_data"`
		}
		if err := v.Decode(&in, &res); err != nil {
			panic(err) // the files are part of the program
		}
		out = append(out, vector{name: "report-" + v.ID[len("report-"):][len("data/"):], req: "TMCP-18.2-1", title: "report data: " + v.Note,
			make: func() Request {
				return Request{Op: OpReportData, Role: in.Role, Identity: in.Identity, Key: in.Key, Config: in.Config, Freshness: &Freshness{in.Freshness.Kind, in.Freshness.At, in.Freshness.Value}}
			},
			look: func(t *conformance.T, a *asked) {
				if got, _ := conformance.MemberText(a.Claims, "report_data"); got != res.Data {
					t.Violate("report_data is %q, want %s", got, res.Data)
				}
			}})
	}
	for i := range out {
		out[i].name = "report-data-" + out[i].name[len("report-"):]
	}
	return out
}

func keyObjectVectors() []vector {
	const invalid, stale, refused = "key-object-invalid", "evidence-stale", "evidence-refused"
	at := func(d int64) func(*object) { return with(cFresh, arr{1, t0.Unix() + d}) }
	forNonce := func(n []byte) func(*object) {
		return func(o *object) { o.claims[cFresh], o.claims[cNonce], o.req.Nonce = arr{2, n}, nonce, nonce }
	}
	epoch := func(known string) func(*object) {
		return func(o *object) {
			o.claims[cFresh] = arr{3, []byte("epoch 7")}
			o.req.Epochs = [][]byte{[]byte("epoch 6"), []byte(known)}
		}
	}
	unbound := func(o *object) { // as a TEE in whose place another's evidence is shown
		d := sha512.Sum512([]byte("something else"))
		o.data = &d
	}
	list := []vector{
		{name: "attested", req: "TMCP-18.2-2", title: "a key object with evidence that binds it", make: keyObject()},
		{name: "attested-config", req: "TMCP-18.2-1", title: "with a configuration digest, which is bound", make: keyObject(with(cConfig, config))},
		{name: "attested-nonce", req: "TMCP-18.3-3", title: "with evidence made for the verifier's nonce", make: keyObject(forNonce(nonce), func(o *object) { o.req.Fresh = true })},
		{name: "attested-epoch", req: "TMCP-18.3-5", title: "with evidence of an epoch that the policy names", make: keyObject(epoch("epoch 7"))},
		{name: "attested-age", req: "TMCP-18.3-2", title: "with evidence one second younger than two hours", make: keyObject(at(-7199))},
		{name: "attested-ahead", req: "TMCP-18.3-2", title: "with evidence made 60 seconds ahead of the verifier's clock", make: keyObject(at(60))},
		{name: "attested-short-age", req: "TMCP-18.3-2", title: "with evidence one second younger than the policy allows", make: keyObject(at(-299), func(o *object) { o.req.MaxAge = 300 })},

		{name: "no-evidence", req: "TMCP-18.1-1", title: "an attested key without evidence", hole: "form", reason: invalid, make: keyObject(with(cCMW, nil))},
		{name: "no-freshness", req: "TMCP-18.1-1", title: "an attested key without freshness", hole: "form", reason: invalid, make: keyObject(with(cFresh, nil, cCMW, record(evidence.TypeTDX, []byte{1}, 4)))},
		{name: "evidence-without-key", req: "TMCP-18.1-1", title: "evidence and freshness without an attested key", hole: "form", reason: invalid, make: keyObject(func(o *object) {
			o.claims[cCMW] = o.evidence()
			o.claims[cAttKey], o.att = nil, nil
		})},
		{name: "config-without-key", req: "TMCP-18.1-1", title: "a configuration digest without an attested key", hole: "form", reason: invalid, make: keyObject(func(o *object) {
			o.claims[cCMW], o.claims[cAttKey], o.claims[cFresh], o.att, o.claims[cConfig] = nil, nil, nil, nil, config
			o.claims[cTrust], o.req.Profile, o.req.Policy = "identity", "identity", nil
		})},
		{name: "freshness-kind", req: "TMCP-18.1-2", title: "freshness of a kind that does not exist", hole: "form", reason: invalid, make: keyObject(with(cFresh, arr{4, []byte("whatever!")}))},
		{name: "freshness-nonce-short", req: "TMCP-18.1-2", title: "freshness by a nonce of 7 bytes", hole: "form", reason: invalid, make: keyObject(with(cFresh, arr{2, []byte("7 bytes")}))},
		{name: "freshness-epoch-long", req: "TMCP-18.1-2", title: "freshness by an epoch of 65 bytes", hole: "form", reason: invalid, make: keyObject(with(cFresh, arr{3, make([]byte, 65)}))},
		{name: "config-short", req: "TMCP-18.1-2", title: "a configuration digest of 31 bytes", hole: "form", reason: invalid, make: keyObject(with(cConfig, config[:31]))},

		{name: "unbound", req: "TMCP-18.2-2", title: "evidence that binds something else", hole: "binding", reason: refused, make: keyObject(unbound)},
		{name: "reflected", req: "TMCP-18.2-2", title: "evidence that was made for the other role", hole: "binding", reason: refused, make: keyObject(func(o *object) { o.role = 2 })},
		{name: "diverted", req: "TMCP-18.2-2", title: "evidence of a genuine TEE for another identity", hole: "binding", reason: refused, make: keyObject(func(o *object) { o.identity = "https://other.example.com/mcp" })},
		{name: "relayed", req: "TMCP-18.2-2", title: "evidence that another attested key was made for", hole: "binding", reason: refused, make: keyObject(func(o *object) { o.key = coseKey(edKey("victim")) })},
		{name: "other-time", req: "TMCP-18.2-2", title: "evidence of another time, with a younger one claimed", hole: "binding", reason: refused, make: keyObject(func(o *object) { o.fresh = arr{1, t0.Unix() - 9000} })},
		{name: "config-swapped", req: "TMCP-18.2-2", title: "evidence that binds another configuration digest", hole: "binding", reason: refused, twin: "attested-config", make: keyObject(with(cConfig, config), func(o *object) { o.bindsConfig = seed("other configuration") })},
		{name: "config-added", req: "TMCP-18.2-2", title: "a configuration digest that the evidence does not bind", hole: "binding", reason: refused, twin: "attested-config", make: keyObject(func(o *object) {
			o.claims[cCMW] = o.evidence()
			o.claims[cConfig] = config
		})},
		{name: "nonce-only", req: "TMCP-18.2-1", title: "evidence that binds a nonce, and no key", hole: "binding", reason: refused, twin: "attested-nonce", make: keyObject(forNonce(nonce), func(o *object) {
			d := sha512.Sum512(nonce)
			o.data, o.req.Fresh = &d, true
		})},
		{name: "unframed", req: "TMCP-18.2-1", title: "report data of members that are joined without framing", hole: "unframed", reason: refused, make: keyObject(func(o *object) {
			d := sha512.Sum512(slices.Concat([]byte{1}, []byte(dialled), enc(o.claims[cAttKey])))
			o.data = &d
		})},
		{name: "patched-report-data", req: "TMCP-18.2-3", title: "report data written into the evidence after it was signed", hole: "signature", reason: refused, make: keyObject(func(o *object) {
			d := sha512.Sum512([]byte("what the TEE signed"))
			o.patch = func(b []byte) []byte {
				return replace(d[:], o.bound())(b)
			}
			o.data = &d
		})},
		{name: "stale", req: "TMCP-18.3-2", title: "evidence that is two hours old", hole: "age", reason: stale, twin: "attested-age", make: keyObject(at(-7200))},
		{name: "stale-by-policy", req: "TMCP-18.3-2", title: "evidence as old as the policy's bound", hole: "age", reason: stale, twin: "attested-short-age", make: keyObject(at(-300), func(o *object) { o.req.MaxAge = 300 })},
		{name: "from-the-future", req: "TMCP-18.3-2", title: "evidence made 61 seconds ahead of the verifier's clock", hole: "age", reason: stale, twin: "attested-ahead", make: keyObject(at(61))},
		{name: "nonce-of-another", req: "TMCP-18.3-3", title: "evidence for the nonce of another verifier", hole: "nonce", reason: stale, twin: "attested-nonce", make: keyObject(forNonce([]byte("another verifier's nonce")))},
		{name: "nonce-not-sent", req: "TMCP-18.3-3", title: "evidence for a nonce, where none was sent", hole: "nonce", reason: stale, twin: "attested-nonce", make: keyObject(forNonce(nonce), func(o *object) { o.req.Nonce = nil })},
		{name: "epoch-unknown", req: "TMCP-18.3-5", title: "evidence of an epoch that the policy does not name", hole: "epoch", reason: stale, twin: "attested-epoch", make: keyObject(epoch("epoch 8"))},

		{name: "identity-only", req: "TMCP-5.4-12", title: "a key object of profile identity, where attested is demanded", hole: "profile", reason: "profile-too-weak", make: keyObject(func(o *object) {
			o.claims[cCMW], o.claims[cAttKey], o.claims[cFresh], o.att, o.claims[cTrust] = nil, nil, nil, nil, "identity"
		})},
		{name: "claims-identity", req: "TMCP-5.4-12", title: "evidence in a key object that claims profile identity", hole: "profile", make: keyObject(with(cTrust, "identity"))},
		{name: "profile-unknown", req: "TMCP-12.2-1", title: "a key object of a profile that nobody knows, where attested is demanded", hole: "profile", make: keyObject(with(cTrust, "attested-and-more"))},
		{name: "not-acceptable", req: "TMCP-12.3-1", title: "bound and genuine evidence of a TEE that is open to debugging", hole: "debug-in-key-object", reason: refused, make: keyObject(func(o *object) { o.tee.Debug = true })},
		{name: "one-signature", req: "TMCP-5.4-12", title: "an attested key that did not sign", hole: "form", make: keyObject(func(o *object) { o.att = nil })},
		{name: "signed-by-another-key", req: "TMCP-5.4-7", title: "a second signature by another key than the attested one", hole: "key-signature", reason: "signature-invalid", make: keyObject(func(o *object) { o.att = edKey("another attested key") })},
		{name: "identity-of-another", req: "TMCP-5.4-8", title: "good evidence, in a key object of a key that is not pinned", hole: "pin", reason: "identity-mismatch", make: keyObject(func(o *object) {
			o.id = edKey("another identity")
			o.claims[cIDKey] = coseKey(o.id)
		})},
		{name: "other-identity", req: "TMCP-5.4-3", title: "a genuine key object of another identity", hole: "pin", reason: "identity-mismatch", make: keyObject(with(cSub, "https://other.example.com/mcp"))},
		{name: "client-for-server", req: "TMCP-5.4-2", title: "the key object of an attested client, where a server is wanted", hole: "role", reason: "role-mismatch", make: keyObject(with(cRole, 2))},
	}
	for i := range list {
		if list[i].hole != "" && list[i].twin == "" {
			list[i].twin = "attested"
		}
	}
	return list
}

// bound is the report data that the key object's claims come to.
func (o *object) bound() []byte {
	d := sha512.Sum512(enc(arr{label + "report data", o.claims[cRole], o.claims[cSub], o.claims[cAttKey], o.claims[cConfig], o.claims[cFresh]}))
	return d[:]
}
