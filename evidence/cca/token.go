package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

const (
	tagCollection = 399 // map of labels to tokens
	tagCMW        = 907 // map of labels to CMW records, as newer realm managers write it
	tagSign1      = 18
	typeCWT       = 263 // CoAP content format of application/eat+cwt

	labelPlatform = 44234
	labelRealm    = 44241

	maxToken = 64 << 10
)

// A Token is a CCA attestation token (draft-ffm-rats-cca-token section 3): two
// COSE_Sign1 messages in one collection.
//
//	399({ 44234: bstr .cbor COSE_Sign1_Tagged, 44241: bstr .cbor COSE_Sign1_Tagged })
//	907({ 44234: [263, bstr], 44241: [263, bstr] })
//
// 44234 is the platform token, signed by the platform's initial attestation key
// (IAK), 44241 the realm token, signed by the realm attestation key (RAK).
type Token struct {
	Platform Platform
	Realm    Realm

	platform, realm sign1
}

// ParseToken parses a token strictly and checks the form of all claims. It
// verifies no signature.
func ParseToken(b []byte) (*Token, error) {
	if len(b) > maxToken {
		return nil, fmt.Errorf("CCA token: %d bytes, at most %d are read", len(b), maxToken)
	}
	platform, realm, err := collection(b)
	if err != nil {
		return nil, fmt.Errorf("CCA token: %w", err)
	}
	var t Token
	if t.platform, err = parseSign1(platform); err == nil {
		t.Platform, err = parsePlatform(t.platform.payload)
	}
	if err != nil {
		return nil, fmt.Errorf("CCA platform token: %w", err)
	}
	if t.realm, err = parseSign1(realm); err == nil {
		t.Realm, err = parseRealm(t.realm.payload)
	}
	if err != nil {
		return nil, fmt.Errorf("CCA realm token: %w", err)
	}
	return &t, nil
}

// collection takes the two tokens out of either collection.
func collection(b []byte) (platform, realm []byte, err error) {
	cmw := bytes.HasPrefix(b, dcbor.AppendTag(nil, tagCMW))
	r := dcbor.NewReader(b)
	if cmw {
		r.Tag(tagCMW)
	} else {
		r.Tag(tagCollection)
	}
	n := r.Map()
	if r.Err() == nil && n != 2 {
		return nil, nil, fmt.Errorf("a collection of %d, want a platform and a realm token and nothing else", n)
	}
	for range n {
		label := r.Uint()
		if cmw {
			r.ArrayN(2)
			if f := r.Uint(); r.Err() == nil && f != typeCWT {
				return nil, nil, fmt.Errorf("content format %d of label %d, want %d", f, label, typeCWT)
			}
		}
		v := r.Bytes()
		switch {
		case r.Err() != nil:
		case label == labelPlatform && platform == nil:
			platform = v
		case label == labelRealm && realm == nil:
			realm = v
		default:
			return nil, nil, fmt.Errorf("label %d is unknown or there twice, want %d and %d", label, labelPlatform, labelRealm)
		}
	}
	return platform, realm, r.Done()
}

// A sign1 is a COSE_Sign1 message (RFC 9052 section 4.2).
type sign1 struct {
	protected []byte
	alg       int64
	payload   []byte
	signature []byte
}

// parseSign1 parses a tagged COSE_Sign1. The unprotected header must be empty:
// nobody signs it.
func parseSign1(b []byte) (sign1, error) {
	var s sign1
	r := dcbor.NewReader(b)
	r.Tag(tagSign1)
	r.ArrayN(4)
	s.protected = r.Bytes()
	unprotected := r.Map()
	if r.Err() == nil && unprotected != 0 {
		return s, fmt.Errorf("%d unprotected header parameters, want none", unprotected)
	}
	s.payload, s.signature = r.Bytes(), r.Bytes()
	if err := r.Done(); err != nil {
		return s, err
	}

	h := dcbor.NewReader(s.protected)
	seen := map[int64]bool{}
	for range h.Map() {
		label := h.Int()
		if h.Err() != nil {
			break
		}
		if seen[label] {
			return s, fmt.Errorf("header parameter %d is there twice", label)
		}
		seen[label] = true
		switch label {
		case 1:
			s.alg = h.Int()
		case 3, 4: // content type, key id: of no use to us
			h.Skip()
		default: // crit among them
			return s, fmt.Errorf("header parameter %d is not known", label)
		}
	}
	if err := h.Done(); err != nil {
		return s, fmt.Errorf("protected header: %w", err)
	}
	if !seen[1] {
		return s, errors.New("no algorithm in the protected header")
	}
	return s, nil
}

// verify checks the signature. The curve of the key decides the algorithm; the
// header must agree (RFC 9053 section 2.1).
func (s *sign1) verify(key *ecdsa.PublicKey) error {
	tbs := dcbor.AppendText(dcbor.AppendArray(nil, 4), "Signature1")
	for _, b := range [][]byte{s.protected, nil, s.payload} {
		tbs = dcbor.AppendBytes(tbs, b)
	}
	var alg int64
	var digest []byte
	switch key.Curve {
	case elliptic.P256():
		d := sha256.Sum256(tbs)
		alg, digest = -7, d[:]
	case elliptic.P384():
		d := sha512.Sum384(tbs)
		alg, digest = -35, d[:]
	case elliptic.P521():
		d := sha512.Sum512(tbs)
		alg, digest = -36, d[:]
	default:
		return errors.New("the key is of no curve that COSE has an algorithm for")
	}
	if s.alg != alg {
		return fmt.Errorf("algorithm %d with a key for %d", s.alg, alg)
	}
	n := (key.Curve.Params().BitSize + 7) / 8
	if len(s.signature) != 2*n {
		return fmt.Errorf("a signature of %d bytes, want %d", len(s.signature), 2*n)
	}
	if !ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.signature[:n]), new(big.Int).SetBytes(s.signature[n:])) {
		return errors.New("the signature is not of this key")
	}
	return nil
}
