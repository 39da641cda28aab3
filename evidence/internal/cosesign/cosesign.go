// Package cosesign reads and writes COSE_Sign1 (RFC 9052 section 4.2). [Parse]
// splits a message; nothing of its payload may be believed before
// [Sign1.Verify] succeeded. Strict: heads are of definite length and shortest,
// header maps are sorted or normalised by the caller, labels are unique in both
// maps together, and the algorithm is in the protected one.
package cosesign

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence/internal/sig"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// MaxBytes bounds one message.
const MaxBytes = 4 << 20

// A Sign1 is a message in its parts. Nothing in it is verified.
type Sign1 struct {
	Alg         sig.Alg
	KeyID       []byte // label 4, from either map
	ContentType string // label 3, protected; "" when absent or a number
	Format      int64  // label 3 as a CoAP content-format; -1 when absent or a text
	Type        string // label 16 (RFC 9596), protected; "" when absent or a number
	TypeFormat  int64  // label 16 as a CoAP content-format; -1 when absent or a text

	protected, payload, signature []byte
}

// Parse reads the four parts of a COSE_Sign1, without a tag before it. Critical
// headers (label 2) are refused, as is a detached payload.
func Parse(b []byte) (*Sign1, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("COSE_Sign1 of %d bytes; %d are allowed", len(b), MaxBytes)
	}
	r := dcbor.NewReader(b)
	m := &Sign1{Format: -1, TypeFormat: -1}
	r.ArrayN(4)
	m.protected = r.Bytes()
	unprotected := r.Skip()
	if r.Err() == nil && (len(unprotected) == 0 || unprotected[0]>>5 != 5) {
		r.Fail("the unprotected header is no map")
	}
	m.payload = r.Bytes()
	m.signature = r.Bytes()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("COSE_Sign1: %w", err)
	}
	seen := map[string]bool{}
	if len(m.protected) == 0 {
		return nil, errors.New("COSE_Sign1: no algorithm in the protected header")
	}
	if err := m.header(m.protected, true, seen); err != nil {
		return nil, fmt.Errorf("COSE_Sign1: protected header: %w", err)
	}
	if err := m.header(unprotected, false, seen); err != nil {
		return nil, fmt.Errorf("COSE_Sign1: unprotected header: %w", err)
	}
	if m.Alg == "" {
		return nil, errors.New("COSE_Sign1: no algorithm in the protected header")
	}
	return m, nil
}

func (m *Sign1) header(b []byte, protected bool, seen map[string]bool) error {
	if r := dcbor.NewReader(b); r.Skip() == nil || r.Done() != nil { // sorted and unique, all the way down
		return r.Done()
	}
	r := dcbor.NewReader(b)
	for range r.Map() {
		key := r.Skip()
		if r.Err() != nil {
			break
		}
		if seen[string(key)] {
			return errors.New("a label in both headers")
		}
		seen[string(key)] = true
		if len(key) != 1 || key[0] > 16 {
			r.Skip()
			continue
		}
		switch label := key[0]; {
		case label == 1 && protected:
			n := r.Int()
			alg, ok := sig.FromCOSE(n)
			if !ok && r.Err() == nil {
				return fmt.Errorf("algorithm %d is not allowed", n)
			}
			m.Alg = alg
		case label == 1:
			return errors.New("an algorithm that is not protected")
		case label == 2:
			return errors.New("critical headers are not supported")
		case label == 4:
			m.KeyID = r.Bytes()
		case label == 3 && protected:
			m.ContentType, m.Format = textOrUint(r)
		case label == 16 && protected:
			m.Type, m.TypeFormat = textOrUint(r)
		case label == 3 || label == 16:
			return errors.New("a type that is not protected")
		default:
			r.Skip()
		}
	}
	return r.Done()
}

func textOrUint(r *dcbor.Reader) (string, int64) {
	if r.PeekMajor() == 0 {
		n := r.Uint()
		if n > 0xffff {
			r.Fail("a content-format beyond 65535")
		}
		return "", int64(n)
	}
	return r.Text(), -1
}

// Verify checks the signature and returns the payload.
func (m *Sign1) Verify(pub crypto.PublicKey, external []byte) ([]byte, error) {
	if err := sig.Verify(m.Alg, pub, toBeSigned(m.protected, external, m.payload), m.signature); err != nil {
		return nil, err
	}
	return m.payload, nil
}

// toBeSigned is the Sig_structure of RFC 9052 section 4.4.
func toBeSigned(protected, external, payload []byte) []byte {
	b := make([]byte, 0, len(protected)+len(external)+len(payload)+40)
	b = dcbor.AppendText(dcbor.AppendArray(b, 4), "Signature1")
	b = dcbor.AppendBytes(b, protected)
	b = dcbor.AppendBytes(b, external)
	return dcbor.AppendBytes(b, payload)
}

// A Header is what [Sign] writes into the protected header; empty fields are
// left out.
type Header struct {
	KeyID       []byte
	ContentType string // label 3
	Type        string // label 16
}

// Sign makes a COSE_Sign1, without a tag before it, with the algorithm that fits
// the key.
func Sign(key crypto.Signer, h Header, payload, external []byte) ([]byte, error) {
	alg, err := sig.For(key.Public())
	if err != nil {
		return nil, err
	}
	n := 1
	p := dcbor.AppendInt(dcbor.AppendUint(nil, 1), alg.COSE())
	if h.ContentType != "" {
		p = dcbor.AppendText(dcbor.AppendUint(p, 3), h.ContentType)
		n++
	}
	if len(h.KeyID) > 0 {
		p = dcbor.AppendBytes(dcbor.AppendUint(p, 4), h.KeyID)
		n++
	}
	if h.Type != "" {
		p = dcbor.AppendText(dcbor.AppendUint(p, 16), h.Type)
		n++
	}
	p = append(dcbor.AppendMap(nil, n), p...)
	s, err := sig.Sign(alg, key, toBeSigned(p, external, payload))
	if err != nil {
		return nil, err
	}
	b := dcbor.AppendBytes(dcbor.AppendArray(nil, 4), p)
	b = dcbor.AppendMap(b, 0)
	b = dcbor.AppendBytes(b, payload)
	return dcbor.AppendBytes(b, s), nil
}

// Untag takes tags off the front of b, in the order given, each if it is there.
func Untag(b []byte, tags ...uint64) []byte {
	for _, t := range tags {
		b = bytes.TrimPrefix(b, dcbor.AppendTag(nil, t))
	}
	return b
}
