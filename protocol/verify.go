package protocol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hpke"
	"slices"
	"time"
)

// Expect says what a key object must show to be accepted. Every field without
// a note is required.
type Expect struct {
	Identity string    // the URI that was dialled, or that policy names; "" of a client: any that Anchor trusts
	Anchor   Anchor    // who may speak for Identity
	Settings *Settings // those that the peer announced beside the object
	Now      time.Time
	Role     Role    // default: RoleServer
	Nonce    []byte  // optional: the nonce that was sent; then the object must carry it
	Profile  Profile // optional: the least that is accepted; default identity

	// Appraiser judges the evidence of a key object that has some. Required for a
	// Profile beyond identity. Without one, a peer counts as of profile identity
	// whatever it claims.
	Appraiser      Appraiser
	MaxEvidenceAge time.Duration   // of evidence that tells its time; default 2 hours
	Epochs         [][]byte        // those accepted of evidence that tells an epoch
	FreshEvidence  bool            // the evidence itself must be made for Nonce
	Context        context.Context // for the Appraiser; default context.Background()
}

// A Peer is the other end as its verified key object describes it. It can only
// be had from [VerifyKeyObject]. Immutable.
type Peer struct {
	c         claims
	digest    Digest
	sets      *Settings
	thumb     Thumbprint
	proven    Profile
	appraisal *Appraisal
	expires   time.Time

	identityPublic crypto.PublicKey // of a chain
}

// Identity is the peer's URI.
func (p *Peer) Identity() string { return p.c.identity }

// Profile is what the peer proved: what its key object claims, and no more than
// identity unless its evidence was appraised.
//
// TMCP-12.1-2: An implementation MUST NOT present a result of profile `identity` as attested.
func (p *Peer) Profile() Profile { return p.proven }

// Appraisal is what was found of the peer's evidence; nil when none was appraised.
func (p *Peer) Appraisal() *Appraisal { return p.appraisal }

// Config is the digest of the peer's configuration that its evidence binds, or
// nil.
func (p *Peer) Config() []byte {
	if p.appraisal == nil {
		return nil
	}
	return p.c.config
}

// Expires is the first moment at which nothing may be sealed to the peer's key:
// the key object is over, or what was found of its evidence is.
func (p *Peer) Expires() time.Time { return p.expires }

// NotBefore is the moment from which the peer's key object is valid.
func (p *Peer) NotBefore() time.Time { return p.c.notBefore }

// Settings are those that the peer announced and signed.
func (p *Peer) Settings() *Settings { return p.sets }

// KeyDigest is the digest of the key object; see [KeyDigest].
func (p *Peer) KeyDigest() Digest { return p.digest }

// Thumbprint names the identity key.
func (p *Peer) Thumbprint() Thumbprint { return p.thumb }

// ToolSet is the digest of the peer's tools, when it pins one; see [ToolSetDigest].
func (p *Peer) ToolSet() (Digest, bool) {
	if p.c.toolSet == nil {
		return Digest{}, false
	}
	return Digest(p.c.toolSet), true
}

func (p *Peer) key(s Suite) hpke.PublicKey {
	for _, k := range p.c.keys {
		if k.suite == s {
			return k.public
		}
	}
	return nil
}

// VerifyKeyObject accepts a key object or says why not (spec chapter "Key
// object"). The returned error is an [Error]; nothing of an object that was not
// accepted is returned.
func VerifyKeyObject(object []byte, want Expect) (*Peer, error) {
	if want.Role == 0 {
		want.Role = RoleServer
	}
	if want.Settings == nil {
		return nil, fail(KeyObjectInvalid, "Expect needs Settings")
	}
	return verifyObject(object, want, forCalls)
}

// verifyObject is VerifyKeyObject for each purpose. Where that has no claim for
// it, want.Settings is not looked at.
func verifyObject(object []byte, want Expect, use *purpose) (*Peer, error) {
	if want.Identity == "" && want.Role != RoleClient || want.Anchor == nil || want.Now.IsZero() {
		return nil, fail(KeyObjectInvalid, "Expect needs Identity, Anchor and Now")
	}
	if want.Nonce != nil && (len(want.Nonce) < MinNonce || len(want.Nonce) > MaxNonce) {
		return nil, fail(NonceMismatch, "a nonce of %d bytes was sent; %d to %d are allowed", len(want.Nonce), MinNonce, MaxNonce)
	}
	o, err := splitKeyObject(object, use)
	if err != nil {
		return nil, err
	}
	// TMCP-5.4-1: A verifier MUST NOT make any claim available to a caller before all signatures
	// and rules of this section have been found good.
	// The claims are read before their signature is checked only to find the
	// key that must have made it; they leave this function only afterwards.
	c, err := decodeClaims(o.payload, use)
	if err != nil {
		return nil, err
	}
	id := o.sigs[0]
	idKey, err := identityKeyOf(c, &id)
	if err != nil {
		return nil, err
	}
	// TMCP-5.4-7: A verifier MUST refuse a key object without a valid signature by the identity
	// key, with `signature-invalid`.
	if err := id.verify(idKey, o); err != nil {
		return nil, err
	}
	if err := verifyAttested(c, o); err != nil {
		return nil, err
	}
	// TMCP-5.4-3: A verifier MUST refuse a key object whose `sub` is not byte-equal to the
	// identity wanted, with `identity-mismatch`.
	if want.Identity != "" && c.identity != want.Identity {
		return nil, fail(IdentityMismatch, "the key object is for %.200q, wanted is %.200q; dial the one, or name it as the identity that is meant", c.identity, want.Identity)
	}
	if err := want.Anchor.verify(c.identity, idKey, id.chain, want.Now); err != nil {
		return nil, err
	}
	if err := checkClaims(c, want); err != nil {
		return nil, err
	}
	// TMCP-4.6-8: A client that asked for fresh evidence MUST refuse a key object whose evidence was
	// not made for the nonce, with `evidence-stale`.
	if want.FreshEvidence && (want.Appraiser == nil || c.evidence == nil) {
		return nil, fail(EvidenceStale, "evidence for the nonce that was sent is demanded, and there is none, or no appraiser for it")
	}
	p := &Peer{c: *c, digest: KeyDigest(object), sets: want.Settings, proven: ProfileIdentity, expires: c.expires}
	// Last, because it may cost much: what is not signed by the identity isn't
	// worth appraising.
	if want.Appraiser != nil && c.evidence != nil {
		if p.appraisal, p.expires, err = appraise(c, &want); err != nil {
			return nil, err
		}
		p.proven = c.profile
	}
	if len(id.chain) > 0 {
		p.identityPublic = idKey
	}
	if p.thumb, err = PublicKeyThumbprint(idKey); err != nil {
		p.thumb = Thumbprint{} // RSA: known by its chain only
	}
	p.letGo()
	return p, nil
}

// letGo drops what was for verification only, and copies what is kept: a peer
// lives as long as its contexts, and its key object may have 128 KiB.
func (p *Peer) letGo() {
	c := &p.c
	c.evidence, c.freshness, c.nonce, c.demands = nil, nil, nil, nil
	for _, b := range []*[]byte{&c.toolSet, &c.identityKey, &c.attestedKey, &c.config} {
		*b = bytes.Clone(*b)
	}
	if k, ok := p.identityPublic.(ed25519.PublicKey); ok { // it lies in its certificate
		p.identityPublic = slices.Clone(k)
	}
}

// weight is what a context of this peer's counts for beside its own; see
// [Settings.weight].
func (p *Peer) weight() int64 {
	if p == nil {
		return 0
	}
	n := len(p.c.identity)
	if p.appraisal != nil {
		n += len(p.appraisal.Result) + len(p.appraisal.Summary)
	}
	return int64(n) / 512
}

func identityKeyOf(c *claims, id *signature) (crypto.PublicKey, error) {
	if len(id.chain) > 0 {
		// TMCP-5.2-4: A key object MUST have exactly one of `x5chain` and claim -70006.
		if c.identityKey != nil {
			return nil, fail(KeyObjectInvalid, "both an identity key claim and an x5chain")
		}
		return id.chain[0].PublicKey, nil
	}
	if c.identityKey == nil {
		return nil, fail(KeyObjectInvalid, "neither an identity key claim nor an x5chain")
	}
	return parseCOSEKey(c.identityKey)
}

// verifyAttested checks that the second signature is there exactly when an
// attested key is claimed, and is that key's.
func verifyAttested(c *claims, o *sealedClaims) error {
	switch {
	case c.attestedKey == nil && len(o.sigs) == 1:
		if c.evidence != nil || c.freshness != nil || c.config != nil {
			return fail(KeyObjectInvalid, "evidence, freshness or configuration without an attested key")
		}
		return nil
	case c.attestedKey == nil || len(o.sigs) != 2:
		return fail(KeyObjectInvalid, "the attested key and its signature must come together")
	}
	// TMCP-18.1-1: A verifier MUST refuse a key object that has an attested key without evidence or
	// freshness
	if c.evidence == nil || c.freshness == nil {
		return fail(KeyObjectInvalid, "an attested key without evidence, or without its freshness")
	}
	if len(o.sigs[1].chain) > 0 {
		return fail(KeyObjectInvalid, "an x5chain beside the attested key's signature")
	}
	pub, err := parseCOSEKey(c.attestedKey)
	if err != nil {
		return err
	}
	return o.sigs[1].verify(pub, o)
}

func checkClaims(c *claims, want Expect) error {
	switch {
	// TMCP-5.4-2: A verifier MUST refuse a key object whose `role` is not the one expected, with
	// `role-mismatch`.
	case c.role != want.Role:
		return fail(RoleMismatch, "the key object is of a %v, wanted is a %v", c.role, want.Role)
	// TMCP-5.4-5: A verifier MUST refuse a key object whose `nbf` is more than 60 seconds ahead of
	// its clock, with `key-object-not-yet-valid`.
	case c.notBefore.After(want.Now.Add(clockSkew)):
		return fail(KeyObjectNotYetValid, "valid from %s, now is %s", stamp(c.notBefore), stamp(want.Now))
	// TMCP-5.4-4: A verifier MUST refuse a key object from the second of its `exp` on, without any
	// grace, with `key-object-expired`.
	case !want.Now.Before(c.expires):
		return fail(KeyObjectExpired, "valid before %s, now is %s", stamp(c.expires), stamp(want.Now))
	// TMCP-5.4-6: A verifier MUST refuse a key object whose `exp` is more than 3600 seconds after
	// its `nbf`, or not after it.
	case !c.expires.After(c.notBefore):
		return fail(KeyObjectInvalid, "exp is not after nbf")
	case c.expires.Sub(c.notBefore) > c.use().validity:
		return fail(KeyObjectInvalid, "valid for %v, at most %v is allowed", c.expires.Sub(c.notBefore), c.use().validity)
	// TMCP-5.4-14: A verifier MUST refuse a key object whose `iat` is more than 60 seconds ahead
	// of its clock, with `key-object-not-yet-valid`.
	case c.issued.After(want.Now.Add(clockSkew)):
		return fail(KeyObjectNotYetValid, "issued at %s, now is %s", stamp(c.issued), stamp(want.Now))
	// TMCP-4.6-4: A client that sent a nonce MUST refuse a key object whose nonce is not equal to
	// it, with `nonce-mismatch`.
	case want.Nonce != nil && !bytes.Equal(c.nonce, want.Nonce):
		return fail(NonceMismatch, "the key object does not carry the nonce that was sent")
	// TMCP-5.4-13: A verifier MUST refuse a key object whose settings digest differs from that of
	// the settings received with it, with `settings-mismatch`.
	// TMCP-4.8-1: A client MUST compare the settings object it received with the settings digest
	// in the verified key object, and end with `settings-mismatch` where they differ.
	case want.Settings != nil && c.settings != want.Settings.Digest():
		return fail(SettingsMismatch, "the settings that arrived are not those that the peer signed; something on the path rewrote them")
	}
	if c.profile.strength() == 0 {
		return fail(KeyObjectInvalid, "profile %.40q is not one that a key object can have", c.profile)
	}
	// TMCP-12.1-1: A key object of profile `identity` MUST have one signature, no evidence and no
	// attested key.
	if (c.profile == ProfileIdentity) != (c.attestedKey == nil) {
		return fail(KeyObjectInvalid, "profile %s and an attested key do not go together, or its lack", c.profile)
	}
	// TMCP-5.4-12: A verifier that demands profile `attested` or stronger MUST refuse a key object
	// without the attested key's signature, or whose claim -70002 is weaker.
	// TMCP-4.7-4: A client MUST NOT use a server whose key object claims a weaker profile than its
	// local policy demands, and end with `profile-too-weak`.
	if want.Profile == "" {
		want.Profile = ProfileIdentity
	}
	switch least := want.Profile.strength(); {
	case least == 0:
		return fail(ProfileTooWeak, "profile %.40q is demanded, and is not one that a key object can have", want.Profile)
	case c.profile.strength() < least:
		return fail(ProfileTooWeak, "profile %s is demanded, and the key object has %s", want.Profile, c.profile)
	case least > 1 && want.Appraiser == nil:
		return fail(ProfileTooWeak, "profile %s is demanded, and there is no appraiser for the evidence", want.Profile)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
