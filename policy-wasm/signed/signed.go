// Package signed has what is distributed with policies: signatures over modules
// and bundles, and bundles themselves. It takes bytes and gives bytes.
//
// Who publishes calls [ModuleStatement] and [Sign]; who runs calls
// [VerifyModule] or [Bundle.Verify] with a [Trust] that pins signers. A bundle is
// made by [NewBundle] and read by [OpenBundle].
//
// Nothing of a module is read before its digest was found in a signature of a
// pinned signer.
package signed

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/protocol"
)

// ContentType is that of a [Statement], in the signature's protected header.
const ContentType = "application/vnd.trustedmcp.policy.statement.v1+cbor"

// Bounds, in bytes where nothing else is said.
const (
	MaxModule     = 8 << 20  // a module
	MaxSignature  = 64 << 10 // a signature with its certificates
	MaxSignatures = 16       // signatures that are looked at
	maxText       = 128      // a name or version
	maxSigner     = 256      // the signer's name for himself
	maxMetadata   = 16 << 10 // section 20.4
	maxChain      = 8        // certificates
)

// label keeps a signature over a statement from being one over anything else.
const label = "org.trustedmcp/trust v1 policy-statement"

// What failed. Errors of this package wrap one of these.
var (
	ErrMalformed    = errors.New("malformed policy signature or bundle")
	ErrUnsigned     = errors.New("no signature")
	ErrUnauthorized = errors.New("not signed by a pinned signer")
	ErrSignature    = errors.New("the signature does not verify")
	ErrExpired      = errors.New("the signature has expired")
	ErrNotYetValid  = errors.New("the signature is not valid yet")
	ErrOther        = errors.New("the signature is of something else")
	ErrVersion      = errors.New("the version is older than allowed")
)

// A Kind is what a statement is about.
type Kind string

// Kinds.
const (
	Module   Kind = "module" // the digest is that of the file
	Manifest Kind = "bundle" // the digest is that of manifest.json
)

// A Statement is what a signer says: a map in deterministic CBOR.
//
//	1: "org.trustedmcp/trust v1 policy-statement"
//	2: "module" or "bundle"
//	3: SHA-256 of the module's file, or of the bundle's manifest.json (32 bytes)
//	4: content of the module's section tmcp.policy; null without one, and for a bundle
//	5: name (1 to 128 bytes)
//	6: version (1 to 128 bytes)
//
// The digest covers the metadata too. It is repeated so that a signature can be
// read, and a name pinned, without the module.
type Statement struct {
	Kind     Kind
	Digest   [32]byte
	Metadata []byte // nil: none
	Name     string
	Version  string
}

// ModuleStatement is what there is to say of a module. Name and version are
// those of its metadata; a module without metadata (of another ABI) needs them
// given.
func ModuleStatement(module []byte, name, version string) (*Statement, error) {
	if len(module) > MaxModule {
		return nil, fmt.Errorf("%w: the module has %d bytes; %d are allowed", ErrMalformed, len(module), MaxModule)
	}
	section, meta, err := metadata(module)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if meta != nil {
		if name != "" && name != meta.Name || version != "" && version != meta.Version {
			return nil, fmt.Errorf("the module's metadata says %q version %q, not %q version %q; leave name and version out", meta.Name, meta.Version, name, version)
		}
		name, version = meta.Name, meta.Version
	}
	s := &Statement{Kind: Module, Digest: sha256.Sum256(module), Metadata: section, Name: name, Version: version}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Statement) check() error {
	switch {
	case s.Kind != Module && s.Kind != Manifest:
		return fmt.Errorf("%w: a statement about %.20q; there are module and bundle", ErrMalformed, s.Kind)
	case s.Name == "" || s.Version == "":
		return fmt.Errorf("%w: a statement needs a name and a version; give them where there is no metadata", ErrMalformed)
	case len(s.Name) > maxText || len(s.Version) > maxText:
		return fmt.Errorf("%w: a name or version of more than %d bytes", ErrMalformed, maxText)
	case s.Metadata != nil && s.Kind != Module:
		return fmt.Errorf("%w: a bundle with metadata of a module", ErrMalformed)
	case len(s.Metadata) > maxMetadata:
		return fmt.Errorf("%w: metadata of %d bytes; %d are allowed", ErrMalformed, len(s.Metadata), maxMetadata)
	}
	return nil
}

func (s *Statement) encode() []byte {
	b := dcbor.AppendMap(nil, 6)
	b = dcbor.AppendText(dcbor.AppendUint(b, 1), label)
	b = dcbor.AppendText(dcbor.AppendUint(b, 2), string(s.Kind))
	b = dcbor.AppendBytes(dcbor.AppendUint(b, 3), s.Digest[:])
	b = dcbor.AppendUint(b, 4)
	if s.Metadata == nil {
		b = dcbor.AppendNull(b)
	} else {
		b = dcbor.AppendBytes(b, s.Metadata)
	}
	b = dcbor.AppendText(dcbor.AppendUint(b, 5), s.Name)
	return dcbor.AppendText(dcbor.AppendUint(b, 6), s.Version)
}

func parseStatement(b []byte) (*Statement, error) {
	r := dcbor.NewReader(b)
	s := &Statement{}
	if n := r.Map(); r.Err() == nil && n != 6 {
		r.Fail(fmt.Sprintf("%d members where 6 must stand", n))
	}
	key := func(n uint64) {
		if k := r.Uint(); r.Err() == nil && k != n {
			r.Fail(fmt.Sprintf("key %d where %d must stand", k, n))
		}
	}
	key(1)
	if l := r.Text(); r.Err() == nil && l != label {
		r.Fail("it is no statement about a policy")
	}
	key(2)
	s.Kind = Kind(r.Text())
	key(3)
	copy(s.Digest[:], r.BytesN(len(s.Digest)))
	key(4)
	if !r.Null() {
		s.Metadata = append([]byte{}, r.Bytes()...)
	}
	key(5)
	s.Name = r.Text()
	key(6)
	s.Version = r.Text()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("%w: statement: %w", ErrMalformed, err)
	}
	return s, s.check()
}

// A Signer signs statements.
type Signer struct {
	Name  string              // who signs, for people; at most 256 bytes
	Key   crypto.Signer       // Ed25519, or ECDSA on P-256 or P-384
	Chain []*x509.Certificate // of the key, leaf first, without the root; may be empty
	// When the signature holds. A zero NotAfter is no end.
	NotBefore, NotAfter time.Time
}

// COSE headers (RFC 9052, 9360, 9597), and claims of a CWT (RFC 8392).
const (
	hdrAlg     = 1
	hdrType    = 3
	hdrKID     = 4
	hdrCWT     = 15
	hdrX5Chain = 33
	cwtIssuer  = 1
	cwtExpiry  = 4
	cwtNot     = 5
	tagSign1   = 18
)

// Sign makes a signature: a tagged COSE_Sign1 (RFC 9052) in deterministic CBOR,
// whose payload is the statement.
//
//	18([ << {1: alg, 3: ContentType, 4: key id, 15: {1: signer, 4: end, 5: start}, 33: x5chain} >>,
//	     {}, << statement >>, signature ])
//
// The algorithm is ES256, ES384 or EdDSA, as the key is. The key id is its
// thumbprint (32 bytes), which tmcp keygen prints. Claims 4 and 5 are seconds
// since 1970 and may be missing, as may 33.
func Sign(s *Statement, by *Signer) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	alg, err := algorithm(by.Key.Public())
	if err != nil {
		return nil, err
	}
	if by.Name == "" || len(by.Name) > maxSigner {
		return nil, fmt.Errorf("the signer's name has 1 to %d bytes, not %d", maxSigner, len(by.Name))
	}
	if !by.NotAfter.IsZero() && !by.NotAfter.After(by.NotBefore) {
		return nil, errors.New("a signature that ends before it begins")
	}
	if len(by.Chain) > maxChain {
		return nil, fmt.Errorf("%d certificates; %d are allowed", len(by.Chain), maxChain)
	}
	if len(by.Chain) > 0 && !equalKeys(by.Chain[0].PublicKey, by.Key.Public()) {
		return nil, errors.New("the first certificate of the chain is not of the signing key")
	}
	kid, err := protocol.PublicKeyThumbprint(by.Key.Public())
	if err != nil {
		return nil, err
	}
	prot := by.header(alg, kid)
	payload := s.encode()
	signer, err := cose.NewSigner(alg, by.Key)
	if err != nil {
		return nil, err
	}
	sig, err := signer.Sign(rand.Reader, toBeSigned(prot, payload))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	b := dcbor.AppendArray(dcbor.AppendTag(nil, tagSign1), 4)
	b = dcbor.AppendMap(dcbor.AppendBytes(b, prot), 0)
	b = dcbor.AppendBytes(dcbor.AppendBytes(b, payload), sig)
	if len(b) > MaxSignature {
		return nil, fmt.Errorf("a signature of %d bytes, with its certificates; %d are allowed", len(b), MaxSignature)
	}
	return b, nil
}

func (by *Signer) header(alg cose.Algorithm, kid protocol.Thumbprint) []byte {
	claims := 1
	cwt := dcbor.AppendText(dcbor.AppendUint(nil, cwtIssuer), by.Name)
	for i, t := range []time.Time{by.NotAfter, by.NotBefore} {
		if !t.IsZero() {
			cwt = dcbor.AppendInt(dcbor.AppendUint(cwt, uint64(cwtExpiry+i)), t.Unix())
			claims++
		}
	}
	n := 4
	if len(by.Chain) > 0 {
		n++
	}
	b := dcbor.AppendInt(dcbor.AppendUint(dcbor.AppendMap(nil, n), hdrAlg), int64(alg))
	b = dcbor.AppendText(dcbor.AppendUint(b, hdrType), ContentType)
	b = dcbor.AppendBytes(dcbor.AppendUint(b, hdrKID), kid[:])
	b = append(dcbor.AppendMap(dcbor.AppendUint(b, hdrCWT), claims), cwt...)
	if len(by.Chain) > 0 {
		b = dcbor.AppendUint(b, hdrX5Chain)
		if len(by.Chain) > 1 { // a single certificate is a byte string by itself
			b = dcbor.AppendArray(b, len(by.Chain))
		}
		for _, c := range by.Chain {
			b = dcbor.AppendBytes(b, c.Raw)
		}
	}
	return b
}

// toBeSigned is the Sig_structure of RFC 9052 section 4.4.
func toBeSigned(prot, payload []byte) []byte {
	b := dcbor.AppendText(dcbor.AppendArray(make([]byte, 0, len(prot)+len(payload)+32), 4), "Signature1")
	return dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendBytes(b, prot), nil), payload)
}

// algorithm is the one that a key signs with. There is no choice, and so no
// confusion.
func algorithm(pub crypto.PublicKey) (cose.Algorithm, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return cose.AlgorithmEdDSA, nil
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return cose.AlgorithmES256, nil
		case elliptic.P384():
			return cose.AlgorithmES384, nil
		}
	}
	return 0, fmt.Errorf("a key of type %T: want Ed25519, or ECDSA on P-256 or P-384", pub)
}

func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// A Signature is a signature as it was read. Nothing of it is verified: it is for
// showing.
type Signature struct {
	Statement
	Algorithm           string // ES256, ES384 or EdDSA
	KeyID               protocol.Thumbprint
	Signer              string
	NotBefore, NotAfter time.Time // zero: not said
	Chain               []*x509.Certificate

	alg                       cose.Algorithm
	protected, payload, value []byte
	ends                      []time.Time // of the certificates that it was accepted by
}

// Inspect reads a signature without verifying it. It is read strictly: in the
// one encoding that [Sign] writes, with all of its headers protected.
func Inspect(b []byte) (*Signature, error) {
	if len(b) > MaxSignature {
		return nil, fmt.Errorf("%w: a signature of %d bytes; %d are allowed", ErrMalformed, len(b), MaxSignature)
	}
	r := dcbor.NewReader(bytes.Clone(b))
	s := &Signature{}
	r.Tag(tagSign1)
	r.ArrayN(4)
	s.protected = r.Bytes()
	if n := r.Map(); r.Err() == nil && n != 0 {
		r.Fail("a header that is not protected")
	}
	if r.Null() {
		r.Fail("a detached payload: the statement must stand in the signature")
	}
	s.payload = r.Bytes()
	s.value = r.Bytes()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("%w: want a COSE_Sign1 (tag 18): %w", ErrMalformed, err)
	}
	if err := s.header(); err != nil {
		return nil, fmt.Errorf("%w: protected header: %w", ErrMalformed, err)
	}
	st, err := parseStatement(s.payload)
	if err != nil {
		return nil, err
	}
	s.Statement = *st
	return s, nil
}

func (s *Signature) header() error {
	if r := dcbor.NewReader(s.protected); r.Skip() == nil || r.Done() != nil { // sorted and unique
		return r.Done()
	}
	r := dcbor.NewReader(s.protected)
	n := r.Map()
	if r.Err() == nil && n != 4 && n != 5 {
		return fmt.Errorf("%d headers; want 1, 3, 4, 15 and perhaps 33", n)
	}
	want := func(l uint64) {
		if got := r.Uint(); r.Err() == nil && got != l {
			r.Fail(fmt.Sprintf("label %d where %d must stand", got, l))
		}
	}
	want(hdrAlg)
	s.alg = cose.Algorithm(r.Int())
	switch s.alg {
	case cose.AlgorithmES256, cose.AlgorithmES384, cose.AlgorithmEdDSA:
		s.Algorithm = s.alg.String()
	default:
		if r.Err() == nil {
			return fmt.Errorf("algorithm %d; there are ES256 (-7), ES384 (-35) and EdDSA (-8)", int64(s.alg))
		}
	}
	want(hdrType)
	if t := r.Text(); r.Err() == nil && t != ContentType {
		return fmt.Errorf("content type %.80q; want %q", t, ContentType)
	}
	want(hdrKID)
	copy(s.KeyID[:], r.BytesN(len(s.KeyID)))
	want(hdrCWT)
	s.claims(r)
	if n == 5 {
		want(hdrX5Chain)
		if err := s.chain(r); err != nil {
			return err
		}
	}
	return r.Done()
}

func (s *Signature) claims(r *dcbor.Reader) {
	n := r.Map()
	for i := 0; i < n && r.Err() == nil; i++ {
		switch k := r.Uint(); {
		case r.Err() != nil:
		case i == 0 && k == cwtIssuer:
			if s.Signer = r.Text(); s.Signer == "" || len(s.Signer) > maxSigner {
				r.Fail(fmt.Sprintf("the signer's name has 1 to %d bytes", maxSigner))
			}
		case i > 0 && k == cwtExpiry:
			s.NotAfter = seconds(r)
		case i > 0 && k == cwtNot:
			s.NotBefore = seconds(r)
		default:
			r.Fail(fmt.Sprintf("claim %d at place %d; want 1, then 4 and 5 or neither", k, i))
		}
	}
	if r.Err() == nil && n == 0 {
		r.Fail("no claim names the signer")
	}
}

// maxSeconds is the year 9999.
const maxSeconds = 253402300799

func seconds(r *dcbor.Reader) time.Time {
	n := r.Int()
	if r.Err() == nil && (n <= 0 || n > maxSeconds) {
		r.Fail("a time out of range")
	}
	if r.Err() != nil {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func (s *Signature) chain(r *dcbor.Reader) error {
	n := 1
	if r.PeekMajor() == 4 {
		if n = r.Array(); r.Err() == nil && (n < 2 || n > maxChain) {
			return fmt.Errorf("an array of %d certificates; want 2 to %d, and one by itself", n, maxChain)
		}
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		der := r.Bytes()
		if r.Err() != nil {
			break
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", i+1, err)
		}
		s.Chain = append(s.Chain, c)
	}
	return nil
}

// Split reads a file of signatures, which stand one after the other (a CBOR
// sequence, RFC 8742). It has 1 to [MaxSignatures].
func Split(b []byte) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		if len(out) == MaxSignatures {
			return nil, fmt.Errorf("%w: more than %d signatures", ErrMalformed, MaxSignatures)
		}
		r := dcbor.NewReader(b)
		one := r.Skip()
		if r.Err() != nil {
			return nil, fmt.Errorf("%w: want COSE_Sign1 one after the other: %w", ErrMalformed, r.Err())
		}
		if len(one) > MaxSignature {
			return nil, fmt.Errorf("%w: a signature of %d bytes; %d are allowed", ErrMalformed, len(one), MaxSignature)
		}
		out, b = append(out, one), b[len(one):]
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: an empty file", ErrMalformed)
	}
	return out, nil
}

// metadata finds the section tmcp.policy, reading no more of the module than
// where its sections begin. Both are nil without one.
func metadata(module []byte) ([]byte, *policywasm.Metadata, error) {
	section, err := customSection(module, metadataSection)
	if err != nil || section == nil {
		return nil, nil, err
	}
	if len(section) > maxMetadata {
		return nil, nil, fmt.Errorf("metadata of %d bytes; %d are allowed", len(section), maxMetadata)
	}
	m, err := policywasm.ParseMetadata(section)
	return section, m, err
}
