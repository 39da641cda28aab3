package protocol

import (
	"crypto/x509"
	"time"
)

// An UnverifiedKeyObject is what a key object says of itself. Nothing in it may
// be believed: it exists for tools that show bytes to people. To accept a key
// object use [VerifyKeyObject].
type UnverifiedKeyObject struct {
	Digest      Digest // see KeyDigest
	Identity    string
	Role        Role
	Profile     Profile
	NotBefore   time.Time
	Expires     time.Time
	Issued      time.Time
	Nonce       []byte // nil if none
	Suites      []Suite
	Settings    Digest
	ToolSet     []byte      // nil or 32 bytes
	Demands     []byte      // nil or 32 bytes
	Thumbprint  *Thumbprint // of the identity key; nil for RSA
	Chain       []*x509.Certificate
	AttestedKey *Thumbprint // nil without a TEE
	Evidence    []byte      // CBOR, nil without a TEE
	Algorithms  []string    // of the signatures: identity, then attested
}

// InspectKeyObject takes a key object apart as strictly as [VerifyKeyObject]
// does, and verifies nothing.
func InspectKeyObject(object []byte) (*UnverifiedKeyObject, error) {
	o, err := splitKeyObject(object, forCalls)
	if err != nil {
		return nil, err
	}
	c, err := decodeClaims(o.payload, forCalls)
	if err != nil {
		return nil, err
	}
	u := &UnverifiedKeyObject{
		Digest: KeyDigest(object), Identity: c.identity, Role: c.role, Profile: c.profile,
		NotBefore: c.notBefore, Expires: c.expires, Issued: c.issued, Nonce: c.nonce,
		Settings: c.settings, ToolSet: c.toolSet, Demands: c.demands, Chain: o.sigs[0].chain, Evidence: c.evidence,
	}
	for _, k := range c.keys {
		u.Suites = append(u.Suites, k.suite)
	}
	for _, s := range o.sigs {
		u.Algorithms = append(u.Algorithms, s.alg.String())
	}
	id, err := identityKeyOf(c, &o.sigs[0])
	if err != nil {
		return nil, err
	}
	if t, err := PublicKeyThumbprint(id); err == nil {
		u.Thumbprint = &t
	}
	if c.attestedKey != nil {
		pub, err := parseCOSEKey(c.attestedKey)
		if err != nil {
			return nil, err
		}
		t, err := PublicKeyThumbprint(pub)
		if err != nil {
			return nil, err
		}
		u.AttestedKey = &t
	}
	return u, nil
}
