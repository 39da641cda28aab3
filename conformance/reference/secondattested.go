package reference

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// Attested makes a [Second] one of profile attested or, with Clients, mutual.
type Attested struct {
	World *sim.World
	TEE   sim.Options
	// Config is the configuration digest, 32 bytes or nil.
	Config []byte
	// Clients judges the evidence of clients, whose identity key has the thumbprint
	// ClientPin.
	Clients   *appraise.Appraiser
	ClientPin [32]byte
}

func (a *Attested) offer(fault Fault) protocol.Offer {
	switch {
	case a == nil:
		return protocol.Offer{}
	case a.Clients == nil && fault == "profile-not-offered":
		return protocol.Offer{}
	case a.Clients == nil:
		return protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileAttested, protocol.ProfileIdentity}}
	}
	o := protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}, ClientKey: protocol.ClientKeyDemanded}
	if fault == "mutual-accepts" {
		o.ClientKey = protocol.ClientKeyAccepted
	}
	return o
}

// attestedKey is a key made in the TEE, with evidence of that (chapter 18).
type attestedKey struct {
	key       ed25519.PrivateKey
	freshness []byte
	evidence  []byte
}

// newAttested makes an attested key and evidence for it: of now, or for a nonce.
func (s *Second) newAttested(nonce []byte) (*attestedKey, error) {
	a := &attestedKey{}
	var err error
	if _, a.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if nonce != nil {
		a.key = s.att.key
	}
	now := time.Now().Unix()
	tee, world := s.tee.TEE, s.tee.World
	switch s.fault {
	case "evidence-debug":
		tee.Debug = true
	case "evidence-other-root":
		world = sim.Other()
	case "evidence-out-of-date":
		svn := sim.DefaultSVN
		svn[0]--
		tee.TDX.Platform.SVN = &svn
	case "evidence-old":
		now -= 3 * 3600
	case "evidence-not-renewed":
		now -= 90 * 60
	case "attested-key-is-identity-key":
		a.key = s.id
	}
	if a.freshness = hand.MadeAt(now); nonce != nil {
		if s.has("fresh-other-nonce") {
			nonce = []byte("somebody else's nonce")
		}
		a.freshness = hand.ForNonce(nonce)
	}
	if s.has("freshness-form") {
		a.freshness = hand.ForNonce([]byte("short"))
	}
	b := hand.Binding{Role: 1, Identity: s.uri, Key: hand.COSEKey(a.key.Public().(ed25519.PublicKey)), Config: s.tee.Config, Freshness: a.freshness}
	switch s.fault {
	case "evidence-binds-client":
		b.Role = 2
	case "evidence-binds-nobody":
		b.Identity = ""
	case "evidence-binds-identity-key":
		b.Key = hand.COSEKey(s.id.Public().(ed25519.PublicKey))
	case "evidence-binds-no-config":
		b.Config = nil
	case "evidence-binds-other-time":
		b.Freshness = hand.MadeAt(now - 7)
	}
	t, err := world.TEE(tee)
	if err != nil {
		return nil, err
	}
	if a.evidence, err = t.Attest(context.Background(), b.ReportData()); err != nil {
		return nil, err
	}
	switch s.fault {
	case "wrapper-bytes":
		a.evidence = dcbor.AppendBytes(nil, a.evidence)
	case "evidence-too-large":
		a.evidence = dcbor.AppendBytes(nil, make([]byte, protocol.MaxEvidence+1))
	}
	return a, nil
}

// attest puts the attested key into claims, and returns the second signature.
func (s *Second) attest(c map[int64][]byte, a *attestedKey) *hand.Signature {
	if a == nil {
		return nil
	}
	profile := "attested"
	if s.tee.Clients != nil || s.has("claims-mutual") {
		profile = "mutual"
	}
	c[hand.ClaimProfile] = dcbor.AppendText(nil, profile)
	c[hand.ClaimAttestedKey], c[hand.ClaimEvidence], c[hand.ClaimFreshness] = hand.COSEKey(a.key.Public().(ed25519.PublicKey)), a.evidence, a.freshness
	if s.tee.Config != nil {
		c[hand.ClaimConfig] = dcbor.AppendBytes(nil, s.tee.Config)
	}
	sig := &hand.Signature{Alg: -8, Kid: "attested", Key: a.key}
	switch s.fault {
	case "attested-signature-missing":
		return nil
	case "attested-signature-by-identity":
		sig.Key = s.id
	case "signatures-named-alike":
		sig.Kid = "identity"
	case "freshness-left-out":
		delete(c, hand.ClaimFreshness)
	}
	return sig
}

// forNonce answers an attest request (section 4.6).
func (s *Second) forNonce(nonce []byte, evidence string) ([]byte, error) {
	if s.tee == nil || evidence != "fresh" || s.has("fresh-ignored") {
		if s.has("attest-without-tee") {
			return s.sign(nonce, nil), nil
		}
		return s.keyObject(nonce), nil
	}
	// TMCP-18.3-4: A server MUST bound the rate at which it makes evidence for nonces.
	s.mu.Lock()
	if now := time.Now().Unix(); s.quotes.second != now {
		s.quotes.second, s.quotes.made = now, 0
	}
	s.quotes.made++
	busy := s.quotes.made > 12 && !s.has("quotes-unbounded")
	s.mu.Unlock()
	if busy {
		return nil, no(protocol.Busy)
	}
	a, err := s.newAttested(nonce)
	if err != nil {
		return nil, no(protocol.Busy)
	}
	if s.has("fresh-in-discover") {
		object := s.sign(nil, a)
		s.mu.Lock()
		s.object = object
		s.mu.Unlock()
	}
	if s.has("fresh-new-keys") {
		old := s.keys[1]
		key, err := hand.KEM(1).GenerateKey()
		if err != nil {
			return nil, no(protocol.Busy)
		}
		s.keys[1] = key
		defer func() { s.keys[1] = old }()
	}
	return s.sign(nonce, a), nil
}

// knownClient is a client whose key object was verified.
type knownClient struct {
	proof    []byte // COSE_Key of who must have signed the proof of possession
	identity []byte
	settings [32]byte
	digest   [32]byte
	until    int64
	any      bool // a fault: nobody asks for a proof
}

// clientOf says who the client of an open frame is, and what the context's info
// commits to (section 8.7).
func (s *Second) clientOf(f *hand.Frame) (*knownClient, []byte, error) {
	wanted := s.tee != nil && s.tee.Clients != nil
	settings := hand.SettingsDigest(f.ClientSettings)
	switch {
	case f.ClientKey == nil && wanted && !s.has("client-key-optional") && !s.has("mutual-accepts"):
		return nil, nil, no(protocol.ClientKeyRequired)
	case f.ClientKey == nil:
		return nil, nil, nil
	case !wanted && s.has("client-key-ignored"):
		return nil, nil, nil
	case !wanted:
		return nil, nil, no(protocol.ClientKeyRefused)
	}
	digest := f.ClientKey
	if len(digest) != 32 {
		d := hand.KeyDigest(f.ClientKey)
		digest = d[:]
	}
	known := s.clients[[32]byte(digest)]
	switch {
	case len(f.ClientKey) == 32 && known == nil && s.has("any-client-digest"):
		return &knownClient{any: true, until: time.Now().Unix() + 600}, digest, nil
	case len(f.ClientKey) == 32 && (known == nil || s.has("digests-forgotten") || time.Now().Unix() >= known.until && !s.has("expired-client-known")):
		return nil, nil, no(protocol.ClientKeyRequired)
	case len(f.ClientKey) == 32 && known.settings != settings:
		return nil, nil, no(protocol.ClientKeyRefused)
	case len(f.ClientKey) == 32:
		return known, digest, nil
	}
	c, ok := s.verifyClient(f.ClientKey, settings)
	if !ok {
		return nil, nil, no(protocol.ClientKeyRefused)
	}
	c.digest = [32]byte(digest)
	return c, digest, nil
}

// verifyClient holds a client's key object to section 5.4. Each check can be left
// out by a fault.
func (s *Second) verifyClient(object []byte, settings [32]byte) (*knownClient, bool) {
	o, err := hand.ParseObject(object)
	if err != nil {
		return nil, false
	}
	if s.has("own-object-accepted") && s.objects[hand.KeyDigest(object)] {
		return &knownClient{any: true, until: s.until.Unix()}, true
	}
	now := time.Now().Unix()
	exp, nbf := int64(o.Uint(hand.ClaimExp)), int64(o.Uint(hand.ClaimNbf))
	c := &knownClient{settings: settings, identity: o.Claims[hand.ClaimIdentityKey], until: exp}
	if s.has("client-expiry-unchecked") {
		c.until = max(exp, now+600)
	}
	attested, proof, fresh := o.Claims[hand.ClaimAttestedKey], o.Claims[hand.ClaimEvidence], o.Claims[hand.ClaimFreshness]
	claimed, config := o.Text(hand.ClaimProfile), o.Claims[hand.ClaimConfig]
	if c.proof = attested; attested == nil {
		c.proof = c.identity
	}
	kind, at, _ := o.Freshness()
	own := o.Bytes(hand.ClaimSettings)
	rules := []struct {
		fault Fault
		ok    bool
	}{
		{"client-role-unchecked", o.Uint(hand.ClaimRole) == 2},
		{"client-identity-unchecked", hand.Hash(c.identity) == s.tee.ClientPin},
		{"client-identity-signature-unchecked", o.VerifyIdentity() == nil || s.has("signatures-unordered")},
		{"client-profile-unchecked", claimed == "attested" || claimed == "mutual"},
		{"client-profile-unchecked", attested != nil || proof != nil},
		{"client-claims-unchecked", (attested != nil) == (proof != nil) && (proof != nil) == (fresh != nil)},
		{"client-claims-unchecked", fresh == nil || kind >= 1 && kind <= 3},
		{"client-claims-unchecked", config == nil || len(o.Bytes(hand.ClaimConfig)) == 32},
		{"attested-signature-unchecked", attested == nil || o.VerifyAttested() == nil || s.has("signatures-unordered")},
		{"signatures-unordered", len(o.Kids) == 0 || o.Kids[0] == "identity"},
		{"client-settings-unchecked", slices.Equal(own, settings[:])},
		{"client-expiry-unchecked", now < exp},
		{"client-nbf-unchecked", nbf <= now+60},
		{"client-validity-unchecked", exp-nbf <= 3600},
		{"client-freshness-unchecked", kind == 0 || kind > 3 || kind == 1 && int64(at) <= now+60 && now < int64(at)+7200},
	}
	for _, r := range rules {
		if !r.ok && !s.has(r.fault) {
			return nil, false
		}
	}
	return c, s.appraised(o)
}

// appraised reports whether the evidence in o is accepted.
func (s *Second) appraised(o *hand.Object) bool {
	if s.has("client-evidence-unappraised") {
		return true
	}
	evidence := o.Claims[hand.ClaimEvidence]
	if evidence == nil || s.has("client-claims-unchecked") {
		return s.has("client-profile-unchecked") || s.has("client-claims-unchecked")
	}
	b := o.Binding()
	data := b.ReportData()
	in := appraise.Input{CMW: evidence, ReportData: data[:], Config: b.Config, Now: time.Now()}
	if s.has("client-binding-unchecked") {
		in.ReportData, in.Unbound = nil, true
	}
	return s.tee.Clients.Evaluate(in).Verdict == appraise.Accepted
}

// possesses checks that the sender holds the key of the key object that it
// showed, and then remembers the object.
func (s *Second) possesses(r *request, key [32]byte) error {
	c := r.key
	if c == nil || c.any {
		return nil
	}
	proof := dcbor.NewReader(r.content.Meta[10]).Bytes()
	message := hand.Possession(r.ID, key, c.digest)
	switch {
	case s.has("possession-unchecked"), s.has("possession-optional") && proof == nil:
	case s.has("possession-by-identity-key") && hand.VerifyKey(c.identity, message, proof) == nil:
	case hand.VerifyKey(c.proof, message, proof) != nil:
		return no(protocol.ClientKeyRefused)
	}
	s.clients[c.digest] = c
	return nil
}
