package corim

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// MediaType is that of an unsigned CoRIM and of what a signed one contains.
const MediaType = "application/rim+cbor"

// MediaTypeSigned is that of a signed CoRIM.
const MediaTypeSigned = "application/rim+cose"

const (
	maxChain  = 8       // certificates of an x5chain
	maxHeader = 1 << 16 // bytes of a header
)

// COSE header labels (RFC 9052, 9360, 9597) and the draft's.
const (
	hdrAlg       = 1
	hdrCrit      = 2
	hdrType      = 3
	hdrKID       = 4
	hdrMeta      = 8
	hdrCWT       = 15
	hdrX5Chain   = 33
	hdrHashAlg   = 258 // a hash envelope (RFC 9995)
	cwtIssuer    = 1
	cwtSubject   = 2
	cwtExpiry    = 4
	cwtNotBefore = 5
)

// A Signer signs manifests.
type Signer struct {
	Name  string              // who signs; required
	Key   crypto.Signer       // ECDSA P-256, P-384 or P-521, Ed25519, or RSA (PSS)
	Chain []*x509.Certificate // of the key, leaf first, without the root; may be empty
	// Validity of the signature. NotAfter is optional.
	Validity Validity
}

// Sign encodes and signs a CoRIM: COSE_Sign1 (tag 18), section "Signed CoRIM".
// The protected header has corim-meta (8) and the same as CWT claims (15).
func Sign(c *CoRIM, s *Signer) ([]byte, error) {
	payload, err := c.Encode()
	if err != nil {
		return nil, err
	}
	if s.Name == "" || s.Key == nil {
		return nil, errors.New("to sign a CoRIM needs the signer's name and key")
	}
	if len(s.Chain) > 0 && !equalKeys(s.Chain[0].PublicKey, s.Key.Public()) {
		return nil, errors.New("the first certificate of the chain is not of the signing key")
	}
	if s.Validity.NotAfter.IsZero() && !s.Validity.NotBefore.IsZero() {
		return nil, errors.New("a signature with a start of its validity needs an end of it")
	}
	alg, err := algorithm(s.Key.Public())
	if err != nil {
		return nil, err
	}
	var h mapWriter
	h.add(hdrAlg, dcbor.AppendInt(nil, int64(alg)))
	h.text(hdrType, MediaType)
	var who, meta, cwt mapWriter
	who.text(0, s.Name)
	meta.add(0, who.encode())
	cwt.text(cwtIssuer, s.Name)
	cwt.text(cwtSubject, c.ID.String())
	if v := s.Validity; !v.NotAfter.IsZero() {
		meta.add(1, v.encode())
		cwt.add(cwtExpiry, dcbor.AppendInt(nil, v.NotAfter.Unix()))
		if !v.NotBefore.IsZero() {
			cwt.add(cwtNotBefore, dcbor.AppendInt(nil, v.NotBefore.Unix()))
		}
	}
	h.bytes(hdrMeta, meta.encode())
	h.add(hdrCWT, cwt.encode())
	if len(s.Chain) > maxChain {
		return nil, fmt.Errorf("%d certificates, at most %d", len(s.Chain), maxChain)
	}
	switch len(s.Chain) {
	case 0:
		kid, err := keyID(s.Key.Public())
		if err != nil {
			return nil, err
		}
		h.bytes(hdrKID, kid)
	case 1:
		h.bytes(hdrX5Chain, s.Chain[0].Raw)
	default:
		h.add(hdrX5Chain, arrayOf(s.Chain, func(c *x509.Certificate) Item { return dcbor.AppendBytes(nil, c.Raw) }))
	}
	prot := h.encode()
	signer, err := cose.NewSigner(alg, s.Key)
	if err != nil {
		return nil, err
	}
	sig, err := signer.Sign(rand.Reader, toBeSigned(prot, payload))
	if err != nil {
		return nil, fmt.Errorf("signing the CoRIM: %w", err)
	}
	b := dcbor.AppendArray(dcbor.AppendTag(nil, tagCOSESign1), 4)
	b = dcbor.AppendBytes(b, prot)
	b = dcbor.AppendMap(b, 0)
	b = dcbor.AppendBytes(b, payload)
	return dcbor.AppendBytes(b, sig), nil
}

// toBeSigned is the Sig_structure of RFC 9052 section 4.4.
func toBeSigned(prot, payload []byte) []byte {
	b := dcbor.AppendArray(make([]byte, 0, len(prot)+len(payload)+32), 4)
	b = dcbor.AppendText(b, "Signature1")
	b = dcbor.AppendBytes(b, prot)
	b = dcbor.AppendBytes(b, nil)
	return dcbor.AppendBytes(b, payload)
}

func algorithm(pub crypto.PublicKey) (cose.Algorithm, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return cose.AlgorithmEdDSA, nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return cose.AlgorithmES256, nil
		case 384:
			return cose.AlgorithmES384, nil
		case 521:
			return cose.AlgorithmES512, nil
		}
	case *rsa.PublicKey:
		if k.Size() >= 256 {
			return cose.AlgorithmPS256, nil
		}
	}
	return 0, fmt.Errorf("a key of type %T: want ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2048 bits or more", pub)
}

func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// A Signature is what a signed CoRIM says about its signer, unverified. It is
// for showing; rely on [Verify].
type Signature struct {
	Algorithm int64
	Signer    string
	URI       string
	Subject   string
	Chain     []*x509.Certificate
	Validity  Validity

	protected, payload, sig []byte
	kid                     []byte // SHA-256 of the key's SubjectPublicKeyInfo, as [Sign] writes it
	loose                   bool   // the chain stands in the unprotected header
}

// Inspect reads a signed or unsigned CoRIM without verifying anything; the
// signature is nil for an unsigned one.
func Inspect(b []byte, legacy bool) (*CoRIM, *Signature, error) {
	if tag, _, _ := splitTag(b); tag != tagCOSESign1 {
		c, err := decode(b, legacy)
		return c, nil, err
	}
	s, err := split(b, legacy)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, err := decode(s.payload, legacy)
	return c, s, err
}

func split(b []byte, legacy bool) (*Signature, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%d bytes, the limit is %d", len(b), MaxSize)
	}
	d := decoder{legacy}
	s := &Signature{}
	unprot, err := s.envelope(bytes.Clone(b), legacy)
	if err != nil {
		return nil, err
	}
	// Before the signature is verified, nothing long is looked into.
	if len(s.protected) > maxHeader || len(unprot) > maxHeader {
		return nil, fmt.Errorf("headers of %d and %d bytes, the limit is %d", len(s.protected), len(unprot), maxHeader)
	}
	if unprot, err = d.item(unprot); err != nil {
		return nil, in("unprotected header", err)
	}
	prot, err := d.item(s.protected)
	if err != nil {
		return nil, in("protected header", err)
	}
	if err := d.header(prot, s); err != nil {
		return nil, in("protected header", err)
	}
	// Nothing outside the signature may change what is read: of the unprotected
	// header only a chain is taken, and it must lead to a root with every byte.
	return s, in("unprotected header", unprotected(unprot, s))
}

// envelope takes a COSE_Sign1 apart and returns its unprotected header.
func (s *Signature) envelope(b []byte, legacy bool) (Item, error) {
	content := untag(b, tagCOSESign1)
	if legacy {
		var m struct {
			_                  struct{} `cbor:",toarray"`
			Protected          []byte
			Unprotected        cbor.RawMessage
			Payload, Signature []byte
		}
		if err := strict.Unmarshal(content, &m); err != nil {
			return nil, fmt.Errorf("want a COSE_Sign1 (tag 18): %w", err)
		}
		if m.Payload == nil {
			return nil, errDetached
		}
		s.protected, s.payload, s.sig = m.Protected, m.Payload, m.Signature
		return Item(m.Unprotected), nil
	}
	t, err := tuple(content, 4, 4)
	if err != nil {
		return nil, fmt.Errorf("want a COSE_Sign1 (tag 18): %w", err)
	}
	if bytes.Equal(t[2], []byte{0xf6}) {
		return nil, errDetached
	}
	for i, f := range []*[]byte{&s.protected, nil, &s.payload, &s.sig} {
		if f == nil {
			continue // the unprotected header, a map
		}
		if err := byteString(t[i], f); err != nil {
			return nil, fmt.Errorf("item %d of the COSE_Sign1: %w", i, err)
		}
	}
	return t[1], nil
}

var errDetached = errors.New("detached payloads are not supported: sign the CoRIM itself")

func unprotected(v Item, s *Signature) error {
	r := dcbor.NewReader(v)
	n := r.Map()
	for range n {
		label := r.Int()
		v := Item(r.Skip())
		if r.Err() != nil {
			break
		}
		if label != hdrX5Chain || s.Chain != nil {
			return fmt.Errorf("label %d is not protected by the signature", label)
		}
		if err := decodeChain(v, &s.Chain); err != nil {
			return in("x5chain", err)
		}
		s.loose = true
	}
	return r.Done()
}

func (d decoder) header(v Item, s *Signature) error {
	r := dcbor.NewReader(v)
	var contentType string
	var meta, cwt *Signature
	n := r.Map()
	for range n {
		if r.PeekMajor() == 3 {
			r.Text() // additional data of the signer's
			r.Skip()
			continue
		}
		label := r.Int()
		v := Item(r.Skip())
		if r.Err() != nil {
			break
		}
		var err error
		switch label {
		case hdrAlg:
			err = integer(v, &s.Algorithm)
		case hdrCrit:
			err = eachItem(v, 16, func(v Item) error {
				var n int64
				err := integer(v, &n)
				if err == nil && !slices.Contains([]int64{hdrAlg, hdrType, hdrMeta, hdrCWT, hdrX5Chain}, n) {
					err = fmt.Errorf("label %d is critical and not known", n)
				}
				return err
			})
		case hdrType:
			err = text(v, &contentType)
		case hdrKID:
			err = byteString(v, &s.kid)
		case hdrMeta:
			meta = &Signature{}
			var b []byte
			if err = byteString(v, &b); err == nil {
				if b, err = d.item(b); err == nil {
					err = decodeMeta(b, meta)
				}
			}
		case hdrCWT:
			cwt = &Signature{}
			err = decodeCWT(v, cwt)
		case hdrX5Chain:
			err = decodeChain(v, &s.Chain)
		case hdrHashAlg:
			err = errors.New("hash envelopes are not supported: sign the CoRIM itself")
		}
		if err != nil {
			return fmt.Errorf("label %d: %w", label, err)
		}
	}
	if err := r.Done(); err != nil {
		return err
	}
	if contentType != MediaType && !(d.legacy && contentType == "application/corim-unsigned+cbor") {
		return fmt.Errorf("content type %q, want %q", contentType, MediaType)
	}
	switch {
	case meta == nil && cwt == nil:
		return errors.New("neither corim-meta (8) nor CWT claims (15) name the signer")
	case meta == nil:
		meta = cwt
	case cwt != nil:
		if cwt.Signer != meta.Signer || cwt.Validity != meta.Validity {
			return errors.New("corim-meta (8) and CWT claims (15) do not say the same of signer and validity")
		}
		meta.Subject = cwt.Subject
	}
	s.Signer, s.URI, s.Subject, s.Validity = meta.Signer, meta.URI, meta.Subject, meta.Validity
	return nil
}

func decodeMeta(v Item, s *Signature) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return eachField(v, func(code int64, v Item) error {
				switch code {
				case 0:
					return text(v, &s.Signer)
				case 1:
					return text(untag(v, tagURI), &s.URI)
				}
				return nil // an extension of the signer's description
			}, 0)
		case 1:
			return decodeValidity(v, &s.Validity)
		}
		return unknownCode(code)
	}, 0)
}

func decodeCWT(v Item, s *Signature) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case cwtIssuer:
			return text(v, &s.Signer)
		case cwtSubject:
			return text(v, &s.Subject)
		case cwtExpiry:
			return seconds(v, &s.Validity.NotAfter)
		case cwtNotBefore:
			return seconds(v, &s.Validity.NotBefore)
		}
		return nil // another claim of the signer's
	}, cwtIssuer)
}

func decodeChain(v Item, out *[]*x509.Certificate) error {
	add := func(v Item) error {
		var der []byte
		if err := byteString(v, &der); err != nil {
			return err
		}
		c, err := x509.ParseCertificate(der)
		*out = append(*out, c)
		return err
	}
	if dcbor.NewReader(v).PeekMajor() == 2 {
		return add(v)
	}
	return eachItem(v, maxChain, add)
}
