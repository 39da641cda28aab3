package cmw

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence/internal/cosesign"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
)

// SignCBOR signs c with COSE_Sign1 (RFC 9999 section 4.1), with tag 18. kid may
// be nil. The algorithm is the one that fits the key.
func SignCBOR(c *CMW, key crypto.Signer, kid []byte) ([]byte, error) {
	b, err := c.Encode()
	if err != nil {
		return nil, err
	}
	out, err := cosesign.Sign(key, cosesign.Header{KeyID: kid, ContentType: TypeCBOR}, b, nil)
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	return append([]byte{0xd2}, out...), nil
}

// VerifyCBOR verifies a CMW signed with COSE_Sign1, with or without tag 18, and
// returns it. The protected header must have the algorithm and the content type
// application/cmw+cbor, by name or as 273.
func VerifyCBOR(b []byte, key crypto.PublicKey) (*CMW, error) {
	m, err := cosesign.Parse(cosesign.Untag(b, 18))
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	if m.ContentType != TypeCBOR && m.Format != 273 {
		return nil, fmt.Errorf("cmw: signed content of type %.40q; want %s in the protected header", m.ContentType, TypeCBOR)
	}
	payload, err := m.Verify(key, nil)
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	return ParseCBOR(payload)
}

// SignJSON signs c with a compact JWS (RFC 9999 section 4.2). kid may be "".
func SignJSON(c *CMW, key crypto.Signer, kid string) ([]byte, error) {
	b, err := c.EncodeJSON()
	if err != nil {
		return nil, err
	}
	out, err := jose.Sign(key, jose.Header{KeyID: kid, ContentType: TypeJSON}, b)
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	return out, nil
}

// VerifyJSON verifies a CMW signed with JWS in compact serialization, and
// returns it. The header must have the content type application/cmw+json. The
// flattened serialization is not read.
func VerifyJSON(b []byte, key crypto.PublicKey) (*CMW, error) {
	if bytes.HasPrefix(b, []byte{'{'}) {
		return nil, errors.New("cmw: flattened JWS is not supported; use the compact serialization")
	}
	t, err := jose.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	if err := t.Bare(); err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	if t.ContentType != TypeJSON {
		return nil, fmt.Errorf("cmw: signed content of type %.40q; want cty %s", t.ContentType, TypeJSON)
	}
	payload, err := t.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	return ParseJSON(payload)
}
