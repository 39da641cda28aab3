package client

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"crypto/ecdh"

	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// Labels of the specification (section 17), written out here: this half of the
// wire is not the code under test.
const label = "org.trustedmcp/trust v1 "

// Claims of a key object.
const (
	claimSub, claimExp, claimNbf, claimIat, claimNonce, claimProfile = 2, 4, 5, 6, 10, 265
	claimRole, claimKeys, claimTrust, claimSettings, claimIDKey      = -70000, -70001, -70002, -70003, -70006
)

func text(s string) []byte    { return dcbor.AppendText(nil, s) }
func blob(b []byte) []byte    { return dcbor.AppendBytes(nil, b) }
func number(n int64) []byte   { return dcbor.AppendInt(nil, n) }
func hash(b []byte) []byte    { h := sha256.Sum256(b); return h[:] }
func unix(t time.Time) []byte { return number(t.Unix()) }

// A suiteKey is an HPKE key pair for one suite of the specification.
type suiteKey struct {
	kem  hpke.KEM
	aead hpke.AEAD
	priv hpke.PrivateKey
}

// newSuiteKeys makes the keys of suites 1 and 2.
func newSuiteKeys() (map[uint64]suiteKey, error) {
	m := map[uint64]suiteKey{}
	for suite, k := range map[uint64]suiteKey{
		1: {kem: hpke.MLKEM768X25519(), aead: hpke.AES256GCM()},
		2: {kem: hpke.DHKEM(ecdh.X25519()), aead: hpke.ChaCha20Poly1305()},
	} {
		var err error
		if k.priv, err = k.kem.GenerateKey(); err != nil {
			return nil, err
		}
		m[suite] = k
	}
	return m, nil
}

// A keyObject is a key object in the making. Every part can be bent.
type keyObject struct {
	claims  map[int64][]byte // each value in CBOR
	body    []byte           // protected header
	label   string           // external_aad
	alg     int64
	kid     string
	chain   [][]byte // DER, leaf first; empty for a bare key
	signer  ed25519.PrivateKey
	payload func([]byte) []byte // bends the claims-set before it is signed
	sign    func([]byte) []byte // bends the signature; nil result: no signature at all
	extra   int                 // further copies of the signature
	attest  *attesting          // nil: profile identity
	drop    []int64             // claims that are left out at last
	whole   func([]byte) []byte // bends the finished object
}

func claimsSet(claims map[int64][]byte) []byte { return hand.Claims(claims) }

// encode signs the object: COSE_Sign with the Sig_structure of RFC 9052.
func (o *keyObject) encode() []byte {
	var second []byte
	if o.attest != nil {
		o.attest.put(o.claims)
	}
	for _, c := range o.drop {
		delete(o.claims, c)
	}
	payload := claimsSet(o.claims)
	if o.payload != nil {
		payload = o.payload(payload)
	}
	if o.attest != nil {
		second = o.attest.signature().Encode(o.body, payload)
	}
	first := &hand.Signature{Alg: o.alg, Kid: o.kid, Chain: o.chain, Key: o.signer, Label: o.label, Bend: o.sign}
	sigs := [][]byte{first.Encode(o.body, payload), second}
	if o.attest != nil && o.attest.first {
		slices.Reverse(sigs)
	}
	for range o.extra {
		sigs = append(sigs, sigs[0])
	}
	b := hand.KeyObject(o.body, payload, sigs...)
	if o.whole != nil {
		b = o.whole(b)
	}
	return b
}

// issued is what is known of a key object that was handed out.
type issued struct {
	keys map[uint64]suiteKey
	exp  uint64
}

// A holder is the server's half of the protocol: an identity, HPKE keys, and
// the contexts that clients opened. It opens and seals by the text of the
// specification and checks little: it is there to be talked to.
type holder struct {
	uri      string
	identity ed25519.PrivateKey
	chain    [][]byte
	settings *protocol.Settings
	attest   func() *attesting // nil: profile identity

	mu       sync.Mutex
	shown    map[protocol.Digest][]byte // key objects of clients
	keys     map[uint64]suiteKey
	objects  map[protocol.Digest]issued // key objects that were handed out
	ever     map[protocol.Digest]bool   // the same, those that were retired included
	contexts map[protocol.ContextID]*sealContext
}

func newHolder(uri string, settings *protocol.Settings) (*holder, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	h := &holder{uri: uri, identity: key, settings: settings, shown: map[protocol.Digest][]byte{},
		objects: map[protocol.Digest]issued{}, ever: map[protocol.Digest]bool{}, contexts: map[protocol.ContextID]*sealContext{}}
	return h, h.renew()
}

// renew makes new HPKE keys; the old ones still open.
func (h *holder) renew() error {
	keys, err := newSuiteKeys()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys = keys
	return nil
}

// forget loses all contexts, as a restart does.
func (h *holder) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.contexts = map[protocol.ContextID]*sealContext{}
}

// retire makes everything sealed to objects handed out so far unknown.
func (h *holder) retire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.objects = map[protocol.Digest]issued{}
	h.contexts = map[protocol.ContextID]*sealContext{}
}

func coseKey(pub ed25519.PublicKey) []byte { return hand.COSEKey(pub) }

// thumbprint names the identity key as RFC 9679 does.
func (h *holder) thumbprint() string {
	return protocol.Base64(hash(coseKey(h.identity.Public().(ed25519.PublicKey))))
}

// object makes a key object for now, bent by tweak, and remembers it.
func (h *holder) object(nonce []byte, tweak func(*keyObject)) []byte {
	return h.objectWith(nonce, nil, tweak)
}

// objectWith is object with evidence that is itself for a nonce, if that is not nil.
func (h *holder) objectWith(nonce, evidence []byte, tweak func(*keyObject)) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	keys := dcbor.AppendArray(nil, 2)
	for _, s := range []uint64{1, 2} {
		keys = dcbor.AppendUint(dcbor.AppendArray(keys, 2), s)
		keys = dcbor.AppendBytes(keys, h.keys[s].priv.PublicKey().Bytes())
	}
	digest := h.settings.Digest()
	o := &keyObject{
		claims: map[int64][]byte{
			claimSub: text(h.uri), claimExp: unix(now.Add(10 * time.Minute)), claimNbf: unix(now), claimIat: unix(now),
			claimProfile: text("tag:trustedmcp.org,2026:key-1"), claimRole: number(1), claimKeys: keys,
			claimTrust: text("identity"), claimSettings: blob(digest[:]),
		},
		body:  hand.KeyObjectBody(),
		label: label + "key", alg: -8, kid: "identity", chain: h.chain, signer: h.identity,
	}
	if len(h.chain) == 0 {
		o.claims[claimIDKey] = coseKey(h.identity.Public().(ed25519.PublicKey))
	}
	if nonce != nil {
		o.claims[claimNonce] = blob(nonce)
	}
	if h.attest != nil {
		o.attest = h.attest()
		if evidence != nil {
			o.attest.freshness = hand.ForNonce(evidence)
		}
	}
	if tweak != nil {
		tweak(o)
	}
	b := o.encode()
	h.ever[keyDigest(b)] = true
	h.objects[keyDigest(b)] = issued{h.keys, dcbor.NewReader(o.claims[claimExp]).Uint()}
	return b
}

func keyDigest(object []byte) protocol.Digest {
	b := dcbor.AppendText(dcbor.AppendArray(nil, 2), label+"key digest")
	return protocol.Digest(hash(dcbor.AppendBytes(b, object)))
}

// errUnknown is a trust error that the holder answers with.
type errUnknown struct{ reason protocol.Reason }

func (e errUnknown) Error() string { return string(e.reason) }

// made reports whether the holder handed out the object with that digest.
func (h *holder) made(d protocol.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ever[d]
}

func badFrame(format string, args ...any) error { return fmt.Errorf(format, args...) }
