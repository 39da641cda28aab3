package collateral

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/dcap"
)

// An IntelPlatform is what Intel's collateral is looked up by.
type IntelPlatform struct {
	TDX   bool // else SGX
	FMSPC [6]byte
	CA    string // "platform" or "processor": who issued the PCK certificate
}

// ParseQuote reads off a DCAP quote, unverified, what its collateral is looked
// up by: the FMSPC and issuer of the PCK certificate within.
func ParseQuote(quote []byte) (p IntelPlatform, err error) {
	q, err := dcap.ParseQuote(quote)
	if err != nil {
		return p, fmt.Errorf("%w: %v", ErrUnknown, err)
	}
	pck, err := q.PCK()
	if err != nil {
		return p, fmt.Errorf("%w: %v", ErrUnknown, err)
	}
	return IntelPlatform{TDX: q.TDX, FMSPC: pck.FMSPC, CA: pck.CA}, nil
}

// Intel fetches the collateral of p (PCS API version 4), as a bundle (see
// [dcap.Collateral]).
func (f *Fetcher) Intel(ctx context.Context, p IntelPlatform) ([]byte, error) {
	tee := "sgx"
	if p.TDX {
		tee = "tdx"
	}
	if p.CA != "platform" && p.CA != "processor" {
		return nil, fmt.Errorf("collateral: CA %q: want platform or processor", p.CA)
	}
	base := f.cfg.PCS
	fmspc := strings.ToUpper(hex.EncodeToString(p.FMSPC[:]))
	crl := kind{accept: "application/pkix-crl", check: checkCRL}
	pckCRL := crl
	pckCRL.header = []string{"SGX-PCK-CRL-Issuer-Chain"}
	tcb := signedJSON("tcbInfo", fmspc, "TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
	qe := signedJSON("enclaveIdentity", "", "SGX-Enclave-Identity-Issuer-Chain")

	c := &dcap.Collateral{}
	e, err := f.get(ctx, base+"/"+tee+"/certification/v4/tcb?fmspc="+fmspc, tcb)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w (FMSPC %s for %s: no such platform, or none of this service)", err, fmspc, tee)
	}
	if err != nil {
		return nil, err
	}
	c.TCBInfo, c.TCBInfoSignature = split(e.Body, "tcbInfo")
	c.TCBInfoChain = []byte(e.Issuer)
	if e, err = f.get(ctx, base+"/"+tee+"/certification/v4/qe/identity", qe); err != nil {
		return nil, err
	}
	c.QEIdentity, c.QEIdentitySignature = split(e.Body, "enclaveIdentity")
	c.QEIdentityChain = []byte(e.Issuer)
	if e, err = f.get(ctx, base+"/sgx/certification/v4/pckcrl?ca="+p.CA+"&encoding=der", pckCRL); err != nil {
		return nil, err
	}
	c.PCKCRL, c.PCKCRLChain = crlDER(e.Body), []byte(e.Issuer)
	if e, err = f.get(ctx, f.cfg.RootCRL, crl); err != nil {
		return nil, err
	}
	c.RootCRL = crlDER(e.Body)
	return c.Bundle()
}

// signedJSON is an answer {member: …, "signature": hex}, whose member tells
// nextUpdate and, unless empty, that FMSPC.
func signedJSON(member, fmspc string, header ...string) kind {
	return kind{accept: "application/json", strict: true, header: header, check: func(e entry) (time.Time, error) {
		text, sig := split(e.Body, member)
		if text == nil || len(sig) != 64 {
			return time.Time{}, fmt.Errorf("want a JSON object of %q and a \"signature\" of 64 bytes in hex", member)
		}
		var v struct {
			NextUpdate time.Time `json:"nextUpdate"`
			FMSPC      string    `json:"fmspc"`
		}
		if err := json.Unmarshal(text, &v); err != nil || v.NextUpdate.IsZero() {
			return time.Time{}, fmt.Errorf("%s has no date nextUpdate", member)
		}
		if fmspc != "" && !strings.EqualFold(v.FMSPC, fmspc) {
			return time.Time{}, fmt.Errorf("%s is of FMSPC %.20q, asked for %s", member, v.FMSPC, fmspc)
		}
		return v.NextUpdate, checkChain(e.Issuer)
	}}
}

// split returns a member's text, byte for byte, and the signature. Nil when the
// body is not of that form.
func split(body []byte, member string) (text, signature []byte) {
	var v map[string]jsontext.Value
	if json.Unmarshal(body, &v) != nil || len(v) != 2 || v[member].Kind() != '{' {
		return nil, nil
	}
	var digits string
	if json.Unmarshal(v["signature"], &digits) != nil {
		return nil, nil
	}
	signature, err := hex.DecodeString(digits)
	if err != nil {
		return nil, nil
	}
	return v[member], signature
}

// crlDER takes a CRL as DER, PEM or, as a PCCS gives it, hex.
func crlDER(body []byte) []byte {
	trimmed := bytes.TrimSpace(body)
	if block, _ := pem.Decode(trimmed); block != nil {
		return block.Bytes
	}
	if b, err := hex.DecodeString(string(trimmed)); err == nil {
		return b
	}
	return body
}

func checkCRL(e entry) (time.Time, error) {
	list, err := x509.ParseRevocationList(crlDER(e.Body))
	if err != nil {
		return time.Time{}, fmt.Errorf("not a CRL: %v", err)
	}
	if e.Issuer != "" {
		err = checkChain(e.Issuer)
	}
	return list.NextUpdate, err
}

func checkChain(text string) error {
	_, err := parseChain([]byte(text))
	return err
}

// parseChain reads certificates in PEM, and nothing else.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	rest := bytes.TrimSpace(text)
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not a chain of certificates in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
		rest = bytes.TrimSpace(rest)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain, nil
}

// unescapePEM reads an issuer chain header: PEM, URL-escaped.
func unescapePEM(v string) (string, error) {
	text, err := url.PathUnescape(v) // '+' stands for itself, in base64
	if err != nil {
		return "", err
	}
	return text, checkChain(text)
}
