package verifier

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/protocol"
)

// NewIssuer makes an issuer of an appraiser, the key that signs its results
// (ECDSA with P-256, P-384 or P-521, or Ed25519), and the name by which those who
// take the results as passports know it (iss).
func NewIssuer(a *appraise.Appraiser, key crypto.Signer, name string) (Issuer, error) {
	if a == nil || key == nil {
		return nil, errors.New("verifier: an issuer needs an appraiser and a key")
	}
	thumb, err := protocol.PublicKeyThumbprint(key.Public())
	if err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	kid := thumb.String()
	jwk, err := publicJWK(key.Public(), kid)
	if err != nil {
		return nil, err
	}
	return &issuer{a, key, name, kid, jwk}, nil
}

type issuer struct {
	appraiser *appraise.Appraiser
	key       crypto.Signer
	name      string
	kid       string
	jwk       []byte
}

func (i *issuer) Key() []byte { return i.jwk }

// MediaTypes are those of CMWs, under their name and that of before RFC 9999,
// and of evidence in native formats.
func (i *issuer) MediaTypes() []string {
	return []string{
		cmw.TypeCBOR, cmw.TypeJSON, typeOldCMW,
		evidence.TypeTDX, evidence.TypeSGX, evidence.TypeSNP, evidence.TypeNitro, evidence.TypeNVIDIA, evidence.TypeCCA,
	}
}

func (i *issuer) Issue(_ context.Context, s Submission) (string, error) {
	rd := s.ReportData()
	in := appraise.Input{ReportData: rd[:], Nonce: s.Nonce, Now: s.Now}
	mt, _, err := mime.ParseMediaType(s.MediaType)
	if err != nil {
		return "", err
	}
	switch mt {
	case cmw.TypeCBOR, typeOldCMW:
		in.CMW = s.Evidence
	case cmw.TypeJSON:
		// What can't be read is refused by the appraiser, with a result that says so.
		in.CMW = s.Evidence
		if w, err := cmw.ParseJSON(s.Evidence); err == nil {
			if b, err := w.Encode(); err == nil {
				in.CMW = b
			}
		}
	case evidence.TypeNVIDIA:
		// A GPU by itself has a nonce of 32 bytes.
		in.Alone, in.ReportData = true, s.Nonce
		fallthrough
	default:
		in.Items = []evidence.Item{{MediaType: mt, Value: s.Evidence}}
	}
	r := i.appraiser.Evaluate(in).EAR()
	r.Issuer = i.name
	token, err := r.SignJWT(i.key, i.kid)
	return string(token), err
}

// publicJWK is RFC 7517 and RFC 8037.
func publicJWK(key crypto.PublicKey, kid string) ([]byte, error) {
	j := struct {
		Alg string `json:"alg"`
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		X   string `json:"x"`
		Y   string `json:"y,omitzero"`
		Kid string `json:"kid"`
		Use string `json:"use"`
	}{Kid: kid, Use: "sig"}
	b64 := base64.RawURLEncoding.EncodeToString
	switch k := key.(type) {
	case ed25519.PublicKey:
		j.Alg, j.Kty, j.Crv, j.X = "EdDSA", "OKP", "Ed25519", b64(k)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("verifier: %w", err)
		}
		n := len(point) / 2
		j.Kty, j.Crv = "EC", k.Curve.Params().Name
		j.Alg = map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[j.Crv]
		j.X, j.Y = b64(point[1:1+n]), b64(point[1+n:])
	}
	if j.Alg == "" {
		return nil, fmt.Errorf("verifier: a key of type %T can't sign results: want ECDSA or Ed25519", key)
	}
	return json.Marshal(j)
}
