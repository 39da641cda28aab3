package protocol

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A ClientKeyConfig says who a client is, to servers that ask.
type ClientKeyConfig struct {
	Identity *Identity // required
	Settings *Settings // the client's own; required
	// Validity is how long a key object is valid; a new one replaces it at half
	// that time. Default 10 minutes, at most an hour.
	Validity time.Duration
	// Attestation makes the client one of profile attested. Nil: identity.
	Attestation *Attestation
	// Demands is the digest of the policy that servers are appraised by, or nil.
	Demands []byte
}

// A ClientHolder makes the key objects of a client. Make one for all servers,
// and give it to [NewClient] by [PresentKey]. Safe for concurrent use.
type ClientHolder struct {
	cfg      ClientKeyConfig
	attestor *attestor

	mu  sync.Mutex
	cur *clientObject
}

// clientObject is one key object of a client.
type clientObject struct {
	claims claims
	object []byte
	digest Digest
	proof  *keySigner // signs possession: the attested key, or the identity's
}

// NewClientHolder checks cfg. Key objects are made when they are needed.
func NewClientHolder(cfg ClientKeyConfig) (*ClientHolder, error) {
	if cfg.Identity == nil || cfg.Settings == nil {
		return nil, fail(KeyObjectInvalid, "a client's key object needs an identity and settings")
	}
	if cfg.Validity == 0 {
		cfg.Validity = defaultValidity
	}
	if cfg.Validity < 2*time.Second || cfg.Validity > maxValidity {
		return nil, fail(KeyObjectInvalid, "validity %v is not between 2s and %v", cfg.Validity, maxValidity)
	}
	if cfg.Demands != nil && len(cfg.Demands) != len(Digest{}) {
		return nil, fail(KeyObjectInvalid, "a policy digest of %d bytes, want %d", len(cfg.Demands), len(Digest{}))
	}
	att, err := newAttestor(cfg.Attestation, RoleClient, cfg.Identity.uri)
	if err != nil {
		return nil, err
	}
	return &ClientHolder{cfg: cfg, attestor: att}, nil
}

// Identity is who the client is.
func (h *ClientHolder) Identity() *Identity { return h.cfg.Identity }

// Settings are the client's own, which its key objects name.
func (h *ClientHolder) Settings() *Settings { return h.cfg.Settings }

// KeyObject returns the client's current key object, and when it expires.
func (h *ClientHolder) KeyObject(now time.Time) (object []byte, expires time.Time, err error) {
	o, err := h.current(now)
	if err != nil {
		return nil, time.Time{}, err
	}
	return o.object, o.claims.expires, nil
}

func (h *ClientHolder) current(now time.Time) (*clientObject, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.cur; o != nil && !now.Before(o.claims.notBefore) && now.Before(o.claims.notBefore.Add(h.cfg.Validity/2)) {
		return o, nil
	}
	o, err := h.make(now)
	if err != nil {
		if old := h.cur; old != nil && now.Before(old.claims.expires) && !now.Before(old.claims.notBefore) {
			return old, nil // a TEE may be busy for a while
		}
		return nil, err
	}
	h.cur = o
	return o, nil
}

func (h *ClientHolder) make(now time.Time) (*clientObject, error) {
	id := h.cfg.Identity
	o := &clientObject{claims: claims{
		identity: id.uri, role: RoleClient, profile: ProfileIdentity,
		notBefore: now.Truncate(time.Second), issued: now, settings: h.cfg.Settings.digest, demands: h.cfg.Demands,
	}}
	o.claims.expires = o.claims.notBefore.Add(h.cfg.Validity)
	if len(id.chain) == 0 {
		b, err := appendCOSEKey(nil, id.public)
		if err != nil {
			return nil, err
		}
		o.claims.identityKey = b
	}
	att, err := h.attestor.current(now)
	if err != nil {
		return nil, err
	}
	o.proof = &keySigner{id.alg, id.signer}
	if att != nil {
		o.claims.profile = ProfileAttested
		att.put(&o.claims)
		o.proof = &att.signer
	}
	if o.object, err = o.claims.sign(id, att.keySigner()); err != nil {
		return nil, err
	}
	o.digest = KeyDigest(o.object)
	return o, nil
}

// PresentKey has a [Client] show a key object of its own to servers that accept
// or demand one.
func PresentKey(h *ClientHolder) ClientOption { return func(c *Client) { c.holder = h } }

// possession is what shows that a client holds the key of its key object: a
// signature by the attested key, or by the identity key where there is none,
// over this deterministic CBOR array. The context id comes from secrets that
// only the two ends of this one context have.
func possession(ctx ContextID, server, client Digest) []byte {
	b := dcbor.AppendArray(nil, 4)
	b = dcbor.AppendText(b, labelPossession)
	b = dcbor.AppendBytes(b, ctx[:])
	b = dcbor.AppendBytes(b, server[:])
	return dcbor.AppendBytes(b, client[:])
}

func (o *clientObject) prove(ctx ContextID, server Digest) ([]byte, error) {
	sig, err := o.proof.signer.Sign(rand.Reader, possession(ctx, server, o.digest))
	if err != nil {
		return nil, fail(CannotSeal, "signing the proof of possession: %v", err)
	}
	return sig, nil
}

// possessor is the key that must have made a peer's proof of possession.
func (p *Peer) possessor() (crypto.PublicKey, error) {
	switch {
	case p.c.attestedKey != nil:
		return parseCOSEKey(p.c.attestedKey)
	case p.c.identityKey != nil:
		return parseCOSEKey(p.c.identityKey)
	}
	return p.identityPublic, nil
}

// clientPeers are the clients whose key objects a server has verified.
type clientPeers struct {
	mu sync.Mutex
	m  map[Digest]*Peer
}

const maxClientPeers = 4096

func (cp *clientPeers) get(d Digest, now time.Time) *Peer {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	p := cp.m[d]
	if p != nil && !now.Before(p.expires) {
		delete(cp.m, d)
		return nil
	}
	return p
}

func (cp *clientPeers) put(p *Peer, now time.Time) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if len(cp.m) >= maxClientPeers {
		for d, old := range cp.m {
			if !now.Before(old.expires) {
				delete(cp.m, d)
			}
		}
		if len(cp.m) >= maxClientPeers { // soft state: clients show theirs again
			clear(cp.m)
		}
	}
	if cp.m == nil {
		cp.m = map[Digest]*Peer{}
	}
	cp.m[p.digest] = p
}

// clientOf says who the client of an open frame is, by the key object in it, or
// by the digest of one that it showed before. digest is what info commits to,
// nil without a client key. The proof of possession is yet to be checked.
func (s *Server) clientOf(f *Frame, settings *Settings, now time.Time) (peer *Peer, digest []byte, err error) {
	policy := s.cfg.Clients
	switch {
	// TMCP-8.7-3: A server MUST answer a client key that it did not ask for, or does not accept,
	// with `client-key-refused`.
	case f.ClientKey != nil && policy == nil:
		return nil, nil, fail(ClientKeyRefused, "this server asks for no client key object")
	// TMCP-8.7-2: A server whose `clientKey` is `required` MUST answer an open frame without a
	// client key with `client-key-required`.
	case f.ClientKey == nil && s.cfg.Settings.offer.ClientKey == ClientKeyDemanded:
		return nil, nil, fail(ClientKeyRequired, "this server demands a client key object")
	case f.ClientKey == nil:
		return nil, nil, nil
	case len(f.ClientKey) == len(Digest{}):
		d := Digest(f.ClientKey)
		if peer = s.known.get(d, now); peer == nil {
			// TMCP-8.7-5: A server that does not know the digest of a client key, or whose copy is over,
			// MUST answer with `client-key-required`
			return nil, nil, fail(ClientKeyRequired, "the client key object of that digest is not known here, or over; send it by value")
		}
		if peer.c.settings != settings.digest {
			return nil, nil, fail(ClientKeyRefused, "the client's key object was made for other settings than the frame has")
		}
		return peer, d[:], nil
	}
	d := KeyDigest(f.ClientKey)
	if peer = s.known.get(d, now); peer != nil && peer.c.settings == settings.digest {
		return peer, d[:], nil
	}
	want := Expect{Anchor: policy.Anchor, Settings: settings, Now: now, Role: RoleClient,
		Profile: policy.Profile, Appraiser: policy.Appraiser, MaxEvidenceAge: policy.MaxEvidenceAge}
	if policy.Epochs != nil {
		want.Epochs = policy.Epochs()
	}
	peer, err = VerifyKeyObject(bytes.Clone(f.ClientKey), want)
	if err != nil {
		return nil, nil, refusedClient(err)
	}
	if policy.Allow != nil && !policy.Allow(peer.c.identity) {
		return nil, nil, fail(ClientKeyRefused, "client %.200q may not call this server", peer.c.identity)
	}
	// Kept before its holder is known to have sent it: key objects are public, and
	// copies of one must not cost an appraisal each.
	s.known.put(peer, now)
	return peer, d[:], nil
}

// refusedClient tells a client why its key object is not accepted: it is all
// about what the client sent, but for what an appraiser says, which may name the
// policy's reference values or a verifier's address.
func refusedClient(err error) error {
	detail := err.Error()
	if IsReason(err, EvidenceRefused) {
		detail = "this server does not accept the evidence in it; the server's log says why"
	}
	return &Error{Reason: ClientKeyRefused, Detail: detail, cause: err}
}

// checkPossession refuses a first message whose sender does not hold the key of
// the client key object that it showed.
func (r *Request) checkPossession(f *Frame) error {
	proof := r.Content.Meta.possession
	peer := r.ctx.client
	if peer == nil {
		if proof != nil {
			return badContent(fail(MalformedContent, "a proof of possession without a client key"))
		}
		return nil
	}
	// TMCP-8.7-6: A server MUST answer an open frame with a client key whose proof of possession is
	// absent or not valid with `client-key-refused`.
	pub, err := peer.possessor()
	if err == nil {
		err = verifySignature(pub, possession(r.Context, f.KeyDigest, peer.digest), proof)
	}
	if err != nil {
		return fail(ClientKeyRefused, "the sender did not show that it holds the key of the client key object")
	}
	return nil
}
