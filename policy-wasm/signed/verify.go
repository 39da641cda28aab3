package signed

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/protocol"
)

// Trust is what signatures must come up to.
type Trust struct {
	Keys  []crypto.PublicKey  // pinned signers
	Roots []*x509.Certificate // or pinned roots, that certificates of signers must lead to
	// Threshold is how many of the pinned keys and roots must have signed the same
	// statement; 0 means 1. Signers below one root count once.
	Threshold int
	Now       time.Time // required
	Name      string    // the name that the policy must have; "" for any
	// MinVersion is the oldest version that is accepted; "" for any. It and the
	// statement's are then decimal numbers with dots between, as 1.12.0.
	MinVersion string
}

// Pinned reports whether there is anybody to trust.
func (t *Trust) Pinned() bool { return t != nil && len(t.Keys)+len(t.Roots) > 0 }

// Verified is what pinned signers said. Only this package makes one.
type Verified struct {
	statement  Statement
	signatures []*Signature
}

// Statement is what they said. It must not be changed.
func (v *Verified) Statement() Statement { return v.statement }

// Signatures are those that counted, one for each pinned key or root. They must
// not be changed.
func (v *Verified) Signatures() []*Signature { return v.signatures }

// Until is when the first of the signatures ends, or of the certificates that
// they needed; zero: never.
func (v *Verified) Until() (end time.Time) {
	for _, s := range v.signatures {
		for _, t := range append(s.ends, s.NotAfter) {
			if !t.IsZero() && (end.IsZero() || t.Before(end)) {
				end = t
			}
		}
	}
	return end
}

// Module checks that a module is the one that was signed, with the metadata that
// was signed.
func (v *Verified) Module(module []byte) error {
	if v.statement.Kind != Module || len(module) > MaxModule || sha256.Sum256(module) != v.statement.Digest {
		return fmt.Errorf("%w: it is not over this module", ErrOther)
	}
	section, meta, err := metadata(module)
	if err != nil {
		return fmt.Errorf("%w: the module: %w", ErrMalformed, err)
	}
	if (section == nil) != (v.statement.Metadata == nil) || !bytes.Equal(section, v.statement.Metadata) {
		return fmt.Errorf("%w: it states other metadata than the module has", ErrOther)
	}
	if meta != nil && (meta.Name != v.statement.Name || meta.Version != v.statement.Version) {
		return fmt.Errorf("%w: it states %q version %q, and the module's metadata %q version %q", ErrOther, v.statement.Name, v.statement.Version, meta.Name, meta.Version)
	}
	return nil
}

// VerifyModule is [Verify] and [Verified.Module] together.
func VerifyModule(module []byte, signatures [][]byte, t *Trust) (*Verified, error) {
	if len(module) > MaxModule {
		return nil, fmt.Errorf("%w: the module has %d bytes; %d are allowed", ErrMalformed, len(module), MaxModule)
	}
	v, err := Verify(Module, sha256.Sum256(module), signatures, t)
	if err != nil {
		return nil, err
	}
	return v, v.Module(module)
}

// Verify accepts what has that digest when enough pinned signers signed one
// statement about it, at t.Now. Signatures of others are passed over: anybody can
// add those. At most twice [MaxSignatures] are looked at.
func Verify(kind Kind, digest [32]byte, signatures [][]byte, t *Trust) (*Verified, error) {
	if !t.Pinned() || t.Now.IsZero() {
		return nil, fmt.Errorf("%w: nobody is pinned, or there is no time: give the keys of signers", ErrUnauthorized)
	}
	need := max(t.Threshold, 1)
	if most := len(t.Keys) + len(t.Roots); need > most {
		return nil, fmt.Errorf("%w: %d signers are demanded, and %d pinned", ErrUnauthorized, need, most)
	}
	if len(signatures) == 0 {
		return nil, fmt.Errorf("%w: sign it with: tmcp policy sign", ErrUnsigned)
	}
	type group struct {
		who []int
		all []*Signature
	}
	groups := map[string]*group{}
	var failed []error
	for i, b := range signatures[:min(len(signatures), 2*MaxSignatures)] {
		s, who, err := verifyOne(kind, digest, b, t)
		if err != nil {
			failed = append(failed, fmt.Errorf("signature %d: %w", i+1, err))
			continue
		}
		g := groups[string(s.payload)]
		if g == nil {
			g = &group{}
			groups[string(s.payload)] = g
		}
		if slices.Contains(g.who, who) {
			continue
		}
		g.who, g.all = append(g.who, who), append(g.all, s)
		if len(g.who) == need {
			return &Verified{s.Statement, g.all}, nil
		}
	}
	if len(groups) > 0 {
		most := 0
		for _, g := range groups {
			most = max(most, len(g.who))
		}
		failed = append([]error{fmt.Errorf("%w: %d of the pinned signers said the same, and %d must", ErrUnauthorized, most, need)}, failed...)
	}
	return nil, errors.Join(failed...)
}

// verifyOne also returns which of the pinned keys and roots it counts for.
func verifyOne(kind Kind, digest [32]byte, b []byte, t *Trust) (*Signature, int, error) {
	s, err := Inspect(b)
	if err != nil {
		return nil, 0, err
	}
	if s.Kind != kind || s.Digest != digest {
		return nil, 0, fmt.Errorf("%w: it is over the %s %q version %q with SHA-256 %x; this %s has %x", ErrOther, s.Kind, s.Name, s.Version, s.Digest, kind, digest)
	}
	pub, who, err := s.authorize(t)
	if err != nil {
		return nil, 0, err
	}
	// The algorithm is that of the trusted key, whatever the header would like.
	alg, err := algorithm(pub)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	if s.alg != alg {
		return nil, 0, fmt.Errorf("%w: it says %s, and the key is for %s", ErrSignature, s.alg, alg)
	}
	v, err := cose.NewVerifier(alg, pub)
	if err == nil {
		err = v.Verify(toBeSigned(s.protected, s.payload), s.value)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: by %q: %w", ErrSignature, s.Signer, err)
	}
	if !s.NotBefore.IsZero() && t.Now.Before(s.NotBefore) {
		return nil, 0, fmt.Errorf("%w: by %q, from %s", ErrNotYetValid, s.Signer, s.NotBefore.Format(time.RFC3339))
	}
	if !s.NotAfter.IsZero() && !t.Now.Before(s.NotAfter) {
		return nil, 0, fmt.Errorf("%w: by %q, at %s", ErrExpired, s.Signer, s.NotAfter.Format(time.RFC3339))
	}
	if t.Name != "" && s.Name != t.Name {
		return nil, 0, fmt.Errorf("%w: the policy is %q, and %q is wanted", ErrOther, s.Name, t.Name)
	}
	if t.MinVersion != "" {
		order, err := compareVersions(s.Version, t.MinVersion)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrVersion, err)
		}
		if order < 0 {
			return nil, 0, fmt.Errorf("%w: %q is of version %s, and %s is the oldest", ErrVersion, s.Name, s.Version, t.MinVersion)
		}
	}
	return s, who, nil
}

// authorize finds the key to verify with, which the key id must name.
func (s *Signature) authorize(t *Trust) (crypto.PublicKey, int, error) {
	for i, k := range t.Keys {
		id, err := protocol.PublicKeyThumbprint(k)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: pinned key %d: %w", ErrUnauthorized, i+1, err)
		}
		if id == s.KeyID {
			return k, i, nil
		}
	}
	if len(s.Chain) == 0 || len(t.Roots) == 0 {
		return nil, 0, fmt.Errorf("%w: the key %s, which calls itself %q, is none of the %d that are pinned", ErrUnauthorized, s.KeyID, s.Signer, len(t.Keys))
	}
	for _, c := range s.Chain { // before one is verified with: a key of 500,000 bits takes seconds
		if err := checkKey(c.PublicKey); err != nil {
			return nil, 0, fmt.Errorf("%w: the certificate of %q: %w", ErrUnauthorized, c.Subject, err)
		}
	}
	leaf := s.Chain[0]
	id, err := protocol.PublicKeyThumbprint(leaf.PublicKey)
	if err != nil || id != s.KeyID {
		return nil, 0, fmt.Errorf("%w: the key id is not that of the certificate's key", ErrUnauthorized)
	}
	root, err := s.path(t)
	if err != nil {
		return nil, 0, err
	}
	return leaf.PublicKey, len(t.Keys) + root, nil
}

// path verifies the chain, in its order and with nothing to spare, to one of the
// roots, and returns which.
func (s *Signature) path(t *Trust) (int, error) {
	leaf := s.Chain[0]
	switch {
	case leaf.IsCA:
		return 0, fmt.Errorf("%w: the first certificate, of %q, is a CA's", ErrUnauthorized, leaf.Subject)
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return 0, fmt.Errorf("%w: the key usage of %q does not allow signatures", ErrUnauthorized, leaf.Subject)
	}
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range t.Roots {
		roots.AddCert(c)
	}
	for _, c := range s.Chain[1:] {
		inter.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, CurrentTime: t.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
	if inv := (x509.CertificateInvalidError{}); errors.As(err, &inv) && inv.Reason == x509.Expired {
		if t.Now.Before(leaf.NotBefore) {
			return 0, fmt.Errorf("%w: a certificate of its signer: %w", ErrNotYetValid, err)
		}
		return 0, fmt.Errorf("%w: a certificate of its signer: %w", ErrExpired, err)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	for _, p := range paths {
		n := len(s.Chain)
		if len(p) == n+1 && slices.EqualFunc(p[:n], s.Chain, (*x509.Certificate).Equal) {
			for _, c := range p {
				s.ends = append(s.ends, c.NotAfter)
			}
			return slices.IndexFunc(t.Roots, p[n].Equal), nil
		}
	}
	return 0, fmt.Errorf("%w: the certificates are not one path, leaf first and without the root, to a pinned root", ErrUnauthorized)
}

// checkKey refuses keys in certificates that are costly or weak.
func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("an RSA key of %d bits; 2048 to 8192 are allowed", n)
		}
		return nil
	}
	return fmt.Errorf("a key of type %T", pub)
}
