// Package nitro verifies attestation documents of AWS Nitro Enclaves: make a
// verifier with [New], and give it a document with [Verifier.Verify]. An enclave
// gets one by sending [AttestationRequest] to its Nitro Security Module and
// reading the answer with [ParseResponse].
//
// The key that signs documents lives three hours. Its chain is therefore judged
// at the document's own time, and the document's age against the time given: that
// is what keeps an old document from being taken for a new one.
package nitro

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/held"
	"github.com/trustedmcp/tmcp/evidence/internal/seal"
)

// DefaultMaxAge is how old a document may be when nothing else is said.
const DefaultMaxAge = 5 * time.Minute

// MaxSkew is how far in the future a document's time may be.
const MaxSkew = time.Minute

// Options are what a relying party asks of a document, beyond being genuine.
type Options struct {
	// MaxAge is how old a document may be. 0: [DefaultMaxAge].
	MaxAge time.Duration
	// AllowDebug turns the failed check of an enclave in debug mode, whose
	// measurements are zeros, into a warning. For tests.
	AllowDebug bool
	// Cache bounds how many verified chains are kept. 0: 256.
	Cache int
}

// A Verifier verifies documents, and keeps the chains that it verified. It is
// safe for concurrent use.
type Verifier struct {
	opts   Options
	chains held.Cache[*chain]
}

var _ evidence.Verifier = (*Verifier)(nil)

// New makes a verifier.
func New(o Options) *Verifier {
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Cache <= 0 {
		o.Cache = 256
	}
	v := &Verifier{opts: o}
	v.chains.Max = o.Cache
	return v
}

// MediaTypes returns [evidence.TypeNitro].
func (v *Verifier) MediaTypes() []string { return []string{evidence.TypeNitro} }

// A chain is a certificate with its bundle, verified up to a root.
type chain struct {
	key      *ecdsa.PublicKey
	from, to time.Time // when all of its certificates are valid
}

// Verify verifies a document. It takes no endorsements: all certificates are in
// the document, and only its root must be one of the anchors. Nitro has no TCB
// that its documents tell of, so the result has none.
func (v *Verifier) Verify(mediaType string, value []byte, t *evidence.Trust) *evidence.Result {
	var checks evidence.Checks
	result := func(c *evidence.Claims) *evidence.Result {
		return evidence.NewResult(seal.Mine(), evidence.Nitro, checks, nil, c)
	}
	note := func(name string, err error, found string) bool {
		if err != nil {
			checks.Add(name, evidence.Fail, err.Error())
			return false
		}
		checks.Add(name, evidence.Pass, found)
		return true
	}

	if !note("inputs", inputs(mediaType, t), mediaType) {
		return result(nil)
	}
	d, err := parse(value)
	if err != nil {
		checks.Add("document-structure", evidence.Fail, "the document is malformed: "+err.Error())
		return result(nil)
	}
	checks.Add("document-structure", evidence.Pass, "module "+d.moduleID)

	made := time.UnixMilli(int64(d.timestamp)).UTC()
	c, simulated, err := v.chain(d, made, t)
	proven := note("certificate-chain", err, "valid when the document was made")
	if proven {
		proven = note("signature", c.verify(d), "ES384")
	} else {
		checks.Add("signature", evidence.NotPerformed, "there is no trusted key to verify it with")
	}

	age := t.Now.Sub(made)
	switch {
	case age > v.opts.MaxAge:
		err = fmt.Errorf("made at %s, %v ago; want at most %v", made.Format(time.RFC3339), age.Round(time.Second), v.opts.MaxAge)
	case -age > MaxSkew:
		err = fmt.Errorf("made at %s, which is %v in the future", made.Format(time.RFC3339), (-age).Round(time.Second))
	default:
		err = nil
	}
	note("document-age", err, age.Round(time.Millisecond).String())

	debug := d.debug()
	switch {
	case !debug:
		checks.Add("debug", evidence.Pass, "PCR0 to PCR2 measure an image")
	case v.opts.AllowDebug:
		checks.Add("debug", evidence.Warn, "PCR0 to PCR2 are not all measured: the enclave is in debug mode; that is allowed here")
	default:
		checks.Add("debug", evidence.Fail, "PCR0 to PCR2 are not all measured: the enclave is in debug mode, and its console shows all")
	}
	if !proven {
		return result(nil)
	}

	out := &evidence.Claims{
		ReportData: d.userData,
		Debug:      debug,
		Simulated:  simulated,
		Platform:   []byte(d.moduleID),
		NotBefore:  made.Add(-MaxSkew),
		NotAfter:   made.Add(v.opts.MaxAge),
		Values: map[string]any{
			"nitro.moduleid":  d.moduleID,
			"nitro.digest":    d.digest,
			"nitro.timestamp": d.timestamp,
		},
	}
	for i, p := range d.pcrs {
		out.Values[fmt.Sprintf("nitro.pcr%d", i)] = p
	}
	for name, b := range map[string][]byte{"nitro.userdata": d.userData, "nitro.nonce": d.nonce, "nitro.publickey": d.publicKey} {
		if b != nil {
			out.Values[name] = b
		}
	}
	return result(out)
}

func inputs(mediaType string, t *evidence.Trust) error {
	switch {
	case mediaType != evidence.TypeNitro:
		return fmt.Errorf("the media type is %q, want %q", mediaType, evidence.TypeNitro)
	case t == nil || t.Now.IsZero():
		return errors.New("no time to verify at: set Trust.Now")
	}
	return t.Anchors.Check()
}

// debug reports whether one of the registers that measure the image is missing
// or zero, as they are in debug mode.
func (d *document) debug() bool {
	for i := range uint64(3) {
		zero := true
		for _, b := range d.pcrs[i] {
			zero = zero && b == 0
		}
		if zero {
			return true
		}
	}
	return false
}

// chain finds or verifies the chain of d, which ends at a root that t trusts.
func (v *Verifier) chain(d *document, at time.Time, t *evidence.Trust) (c *chain, simulated bool, err error) {
	h := sha256.New()
	for _, der := range append([][]byte{d.certificate}, d.bundle...) {
		h.Write([]byte{byte(len(der) >> 8), byte(len(der))})
		h.Write(der)
	}
	id := held.Digest(h.Sum(nil))
	root, simulated := trusted(d.bundle[0], t)
	if root == nil {
		return nil, false, errors.New("the root of the cabundle is not one of the anchors")
	}
	if c, ok := v.chains.Get(id); ok {
		if at.Before(c.from) || at.After(c.to) {
			return nil, false, fmt.Errorf("the certificates are valid from %s to %s, the document was made at %s", c.from.Format(time.RFC3339), c.to.Format(time.RFC3339), at.Format(time.RFC3339))
		}
		return c, simulated, nil
	}
	if c, err = verifyChain(d, at, root); err != nil {
		return nil, false, err
	}
	v.chains.Put(id, c)
	return c, simulated, nil
}

// trusted returns the anchor that der is.
func trusted(der []byte, t *evidence.Trust) (root *x509.Certificate, simulated bool) {
	for _, a := range t.Anchors.AWS {
		if string(a.Raw) == string(der) {
			return a, false
		}
	}
	for _, a := range t.Simulator.Anchors().AWS {
		if string(a.Raw) == string(der) {
			return a, true
		}
	}
	return nil, false
}

// verifyChain verifies the certificate of d by its bundle, in the order in which
// that stands (section 3.2.3): the root, then each issued by the one before.
func verifyChain(d *document, at time.Time, root *x509.Certificate) (*chain, error) {
	leaf, err := x509.ParseCertificate(d.certificate)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || leaf.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		return nil, errors.New("the certificate is not for a P-384 key, or not signed with ECDSA and SHA-384")
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errors.New("the certificate is not for signing documents")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	want := []*x509.Certificate{leaf}
	for i := len(d.bundle) - 1; i > 0; i-- {
		c, err := x509.ParseCertificate(d.bundle[i])
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the cabundle: %w", i, err)
		}
		between.AddCert(c)
		want = append(want, c)
	}
	want = append(want, root)
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, fmt.Errorf("the certificates do not lead to the root: %w", err)
	}
	for _, c := range chains {
		if !sameCerts(c, want) {
			continue
		}
		out := &chain{key: key, from: leaf.NotBefore, to: leaf.NotAfter}
		for _, cert := range c {
			if cert.NotBefore.After(out.from) {
				out.from = cert.NotBefore
			}
			if cert.NotAfter.Before(out.to) {
				out.to = cert.NotAfter
			}
		}
		return out, nil
	}
	return nil, errors.New("the cabundle is not in order, or has certificates that do not belong to it")
}

func sameCerts(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// verify verifies the signature of d: r and s, 48 bytes each.
func (c *chain) verify(d *document) error {
	sum := sha512.Sum384(d.toBeSigned())
	r, s := new(big.Int).SetBytes(d.signature[:48]), new(big.Int).SetBytes(d.signature[48:])
	if !ecdsa.Verify(c.key, sum[:], r, s) {
		return errors.New("the document's signature is not by the key of its certificate, or the document was changed")
	}
	return nil
}
