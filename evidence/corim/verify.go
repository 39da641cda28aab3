package corim

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/evidence/internal/sig"
)

// Profiles whose comparisons packages acs and tee know.
const (
	ProfileIntel       = "2.16.840.1.113741.1.16.1"            // draft-cds-rats-intel-corim-profile
	ProfileAMD         = "tag:amd.com,2025:snp-corim-profile"  // draft-deeglaze-amd-sev-snp-corim-profile
	ProfileAMD2024     = "tag:amd.com,2024:snp-corim-profile"  // its older name
	ProfileCCAPlatform = "tag:arm.com,2025:cca_platform#1.0.0" // draft-ydb-rats-cca-endorsements
	ProfileCCARealm    = "tag:arm.com,2025:cca_realm#1.0.0"    // likewise
	ProfileOurs        = "tag:trustedmcp.org,2026:corim-1"     // Nitro Enclaves and NVIDIA GPUs, see package tee
)

// KnownProfiles are accepted when a [Trust] names none.
func KnownProfiles() []string {
	return []string{ProfileIntel, ProfileAMD, ProfileAMD2024, ProfileCCAPlatform, ProfileCCARealm, ProfileOurs}
}

// Trust is what a manifest must come up to.
type Trust struct {
	Keys  []crypto.PublicKey  // pinned signers
	Roots []*x509.Certificate // or pinned roots, that an x5chain must lead to
	Now   time.Time           // required
	// Profiles that are accepted, beside none; nil for [KnownProfiles].
	Profiles []string
	// Legacy reads what [DecodeLegacy] reads. The signature is over the bytes as
	// they came all the same.
	Legacy bool
}

// Verified is a CoRIM whose signer, validity and profile were accepted. Only
// [Verify] and [Conveyed] make one. Immutable.
type Verified struct {
	corim     *CoRIM
	signer    string
	authority []Key
	validity  Validity
	digest    [32]byte
}

// CoRIM is the manifest. It must not be changed.
func (v *Verified) CoRIM() *CoRIM { return v.corim }

// Signer is the name that the signer gives itself: for people.
func (v *Verified) Signer() string { return v.signer }

// Authority identifies the key that vouches for the manifest: the thumbprint of
// the key, and of its certificate when there is one.
func (v *Verified) Authority() []Key { return v.authority }

// Validity is when the manifest and its signature hold.
func (v *Verified) Validity() Validity { return v.validity }

// Digest is the SHA-256 of the bytes that were verified.
func (v *Verified) Digest() [32]byte { return v.digest }

// Valid says whether the manifest holds at that time: [ErrExpired],
// [ErrNotYetValid] or nil.
func (v *Verified) Valid(now time.Time) error { return v.validity.check(now) }

// Verify reads a signed CoRIM and accepts it only when its signature is of a
// pinned key, or of one whose certificates lead to a pinned root; when it holds
// at t.Now; and when its profile is accepted. The errors above tell which of
// these it was.
func Verify(b []byte, t *Trust) (*Verified, error) {
	if t == nil || t.Now.IsZero() {
		return nil, errors.New("to verify a CoRIM needs a Trust with a time")
	}
	if tag, _, _ := splitTag(b); tag == tagCoRIM {
		return nil, fmt.Errorf("%w: sign it, or say that it was conveyed securely", ErrUnsigned)
	}
	s, err := split(b, t.Legacy)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	pub, authority, until, err := s.authorize(t)
	if err != nil {
		return nil, err
	}
	// The algorithm is that of the trusted key, whatever the header would like.
	alg, err := algorithm(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	if _, isRSA := pub.(*rsa.PublicKey); isRSA && (s.Algorithm == int64(cose.AlgorithmPS384) || s.Algorithm == int64(cose.AlgorithmPS512)) {
		alg = cose.Algorithm(s.Algorithm)
	}
	if s.Algorithm != int64(alg) {
		return nil, fmt.Errorf("%w: algorithm %d with a key for %s", ErrSignature, s.Algorithm, alg)
	}
	v, err := cose.NewVerifier(alg, pub)
	if err == nil {
		err = v.Verify(toBeSigned(s.protected, s.payload), s.sig)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return accept(b, s.payload, s.Signer, authority, s.Validity.intersect(until), t)
}

// Conveyed accepts an unsigned CoRIM that came through a channel which
// authenticated its origin (section "Signer authority of securely conveyed
// unsigned CoRIM"): the caller vouches for it with authority.
func Conveyed(b []byte, origin string, authority Key, t *Trust) (*Verified, error) {
	if t == nil || t.Now.IsZero() || len(authority) == 0 {
		return nil, errors.New("a conveyed CoRIM needs a Trust with a time, and an authority")
	}
	return accept(b, b, origin, []Key{authority}, Validity{}, t)
}

func accept(whole, payload []byte, signer string, authority []Key, v Validity, t *Trust) (*Verified, error) {
	c, err := decode(payload, t.Legacy)
	if err != nil {
		return nil, err
	}
	v = v.intersect(c.Validity)
	if err := v.check(t.Now); err != nil {
		return nil, err
	}
	profiles := t.Profiles
	if profiles == nil {
		profiles = KnownProfiles()
	}
	if c.Profile != "" && !slices.Contains(profiles, c.Profile) {
		return nil, fmt.Errorf("%w: it is %q, accepted are %q", ErrProfile, c.Profile, profiles)
	}
	return &Verified{corim: c, signer: signer, authority: authority, validity: v, digest: sha256.Sum256(whole)}, nil
}

// authorize finds the key to verify with. until bounds how long its
// certificates hold.
func (s *Signature) authorize(t *Trust) (pub crypto.PublicKey, authority []Key, until Validity, err error) {
	deny := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrUnauthorized}, args...)...)
	}
	for _, c := range s.Chain { // before one is verified with: a key of 500,000 bits takes seconds
		if err := sig.CheckKey(c.PublicKey); err != nil {
			return nil, nil, until, deny("%q: %w", c.Subject, err)
		}
	}
	if len(s.Chain) > 0 {
		leaf := s.Chain[0]
		pub = leaf.PublicKey
		path, chainErr := s.path(t)
		pinned := slices.ContainsFunc(t.Keys, func(k crypto.PublicKey) bool { return equalKeys(k, pub) })
		if chainErr != nil && (!pinned || len(t.Roots) > 0 || s.loose) {
			return nil, nil, until, chainErr
		}
		for _, c := range path {
			until = until.intersect(Validity{c.NotBefore, c.NotAfter})
		}
		print, err := KeyThumbprint(pub)
		if err != nil {
			return nil, nil, until, deny("%w", err)
		}
		return pub, []Key{print, CertificateThumbprint(leaf)}, until, nil
	}
	// Without a certificate the key id, or the signature itself, says which of the
	// pinned keys it is of.
	for _, k := range t.Keys {
		id, err := keyID(k)
		if err != nil {
			return nil, nil, until, deny("a pinned key: %w", err)
		}
		if len(s.kid) == len(id) && !bytes.Equal(s.kid, id) || len(s.kid) != len(id) && !s.madeBy(k) {
			continue
		}
		return k, []Key{keyPrint(id)}, until, nil
	}
	return nil, nil, until, deny("it is of none of the %d pinned keys, and has no certificates", len(t.Keys))
}

func (s *Signature) madeBy(k crypto.PublicKey) bool {
	alg, err := algorithm(k)
	if err != nil || s.Algorithm != int64(alg) {
		return false
	}
	v, err := cose.NewVerifier(alg, k)
	return err == nil && v.Verify(toBeSigned(s.protected, s.payload), s.sig) == nil
}

// keyID is the SHA-256 of the key's SubjectPublicKeyInfo.
func keyID(k crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// path verifies the chain, in its order, to one of the roots. A chain with a
// certificate to spare is refused, so that all of it matters.
func (s *Signature) path(t *Trust) ([]*x509.Certificate, error) {
	leaf := s.Chain[0]
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, fmt.Errorf("%w: the key usage of %q does not allow signatures", ErrUnauthorized, leaf.Subject)
	}
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range t.Roots {
		roots.AddCert(c)
	}
	for _, c := range s.Chain[1:] {
		inter.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, CurrentTime: t.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if inv := (x509.CertificateInvalidError{}); errors.As(err, &inv) && inv.Reason == x509.Expired {
		if t.Now.Before(leaf.NotBefore) {
			return nil, fmt.Errorf("%w: a certificate of its signer: %w", ErrNotYetValid, err)
		}
		return nil, fmt.Errorf("%w: a certificate of its signer: %w", ErrExpired, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	for _, p := range paths {
		sent := len(s.Chain)
		if (len(p) == sent || len(p) == sent+1) && slices.EqualFunc(p[:sent], s.Chain, (*x509.Certificate).Equal) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: the certificates are not one path, leaf first, to a pinned root", ErrUnauthorized)
}
