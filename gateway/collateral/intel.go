package collateral

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An IntelPlatform is what Intel's collateral is looked up by.
type IntelPlatform struct {
	TDX   bool // else SGX
	FMSPC [6]byte
	CA    string // "platform" or "processor": who issued the PCK certificate
}

var (
	oidSGX   = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	oidFMSPC = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 4}
)

// maxQuote is the largest quote that is looked at, in bytes.
const maxQuote = 64 << 10

// ParseQuote reads off a DCAP quote, unverified, what its collateral is looked
// up by: the FMSPC and issuer of the PCK certificate within.
func ParseQuote(quote []byte) (IntelPlatform, error) {
	var p IntelPlatform
	if len(quote) < 48 || len(quote) > maxQuote {
		return p, fmt.Errorf("%w: a quote of %d bytes", ErrUnknown, len(quote))
	}
	switch version, tee := binary.LittleEndian.Uint16(quote), binary.LittleEndian.Uint32(quote[4:]); {
	case version == 3, version >= 4 && version <= 5 && tee == 0:
	case version >= 4 && version <= 5 && tee == 0x81:
		p.TDX = true
	default:
		return p, fmt.Errorf("%w: quote version %d with TEE type %#x", ErrUnknown, version, tee)
	}
	i := bytes.Index(quote, []byte("-----BEGIN CERTIFICATE-----"))
	if i < 0 {
		return p, fmt.Errorf("%w: the quote carries no PCK certificate (certification data type 5)", ErrUnknown)
	}
	block, _ := pem.Decode(quote[i:])
	if block == nil {
		return p, fmt.Errorf("%w: the quote's PCK certificate is no PEM", ErrUnknown)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return p, fmt.Errorf("%w: the quote's PCK certificate: %v", ErrUnknown, err)
	}
	switch cn := cert.Issuer.CommonName; {
	case strings.Contains(cn, "Platform CA"):
		p.CA = "platform"
	case strings.Contains(cn, "Processor CA"):
		p.CA = "processor"
	default:
		return p, fmt.Errorf("%w: the PCK certificate's issuer is %.100q, want a Platform CA or Processor CA", ErrUnknown, cn)
	}
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSGX) {
			continue
		}
		var members []struct {
			ID    asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if _, err := asn1.Unmarshal(ext.Value, &members); err != nil {
			return p, fmt.Errorf("%w: the PCK certificate's SGX extension: %v", ErrUnknown, err)
		}
		for _, m := range members {
			if m.ID.Equal(oidFMSPC) && m.Value.Tag == asn1.TagOctetString && len(m.Value.Bytes) == len(p.FMSPC) {
				copy(p.FMSPC[:], m.Value.Bytes)
				return p, nil
			}
		}
	}
	return p, fmt.Errorf("%w: the PCK certificate has no FMSPC", ErrUnknown)
}

// A Bundle is Intel's collateral for one platform, in the JSON form that the
// verifiers of several projects share. Signed texts are kept byte for byte.
type Bundle struct {
	PCKCRLIssuerChain     string `json:"pck_crl_issuer_chain"`
	RootCACRL             string `json:"root_ca_crl"` // hex DER
	PCKCRL                string `json:"pck_crl"`     // hex DER
	TCBInfoIssuerChain    string `json:"tcb_info_issuer_chain"`
	TCBInfo               string `json:"tcb_info"`
	TCBInfoSignature      string `json:"tcb_info_signature"` // hex r||s
	QEIdentityIssuerChain string `json:"qe_identity_issuer_chain"`
	QEIdentity            string `json:"qe_identity"`
	QEIdentitySignature   string `json:"qe_identity_signature"`
}

// Intel fetches the collateral of p (PCS API version 4), as the JSON of a
// [Bundle].
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

	var b Bundle
	e, err := f.get(ctx, base+"/"+tee+"/certification/v4/tcb?fmspc="+fmspc, tcb)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w (FMSPC %s for %s: no such platform, or none of this service)", err, fmspc, tee)
	}
	if err != nil {
		return nil, err
	}
	b.TCBInfo, b.TCBInfoSignature = split(e.Body, "tcbInfo")
	b.TCBInfoIssuerChain = e.Issuer
	if e, err = f.get(ctx, base+"/"+tee+"/certification/v4/qe/identity", qe); err != nil {
		return nil, err
	}
	b.QEIdentity, b.QEIdentitySignature = split(e.Body, "enclaveIdentity")
	b.QEIdentityIssuerChain = e.Issuer
	if e, err = f.get(ctx, base+"/sgx/certification/v4/pckcrl?ca="+p.CA+"&encoding=der", pckCRL); err != nil {
		return nil, err
	}
	b.PCKCRL, b.PCKCRLIssuerChain = hex.EncodeToString(crlDER(e.Body)), e.Issuer
	if e, err = f.get(ctx, f.cfg.RootCRL, crl); err != nil {
		return nil, err
	}
	b.RootCACRL = hex.EncodeToString(crlDER(e.Body))
	return json.Marshal(b, jsontext.WithIndent("  "))
}

// signedJSON is an answer {member: …, "signature": hex}, whose member tells
// nextUpdate and, unless empty, that FMSPC.
func signedJSON(member, fmspc string, header ...string) kind {
	return kind{accept: "application/json", strict: true, header: header, check: func(e entry) (time.Time, error) {
		text, sig := split(e.Body, member)
		if b, err := hex.DecodeString(sig); text == "" || err != nil || len(b) != 64 {
			return time.Time{}, fmt.Errorf("want a JSON object of %q and a \"signature\" of 64 bytes in hex", member)
		}
		var v struct {
			NextUpdate time.Time `json:"nextUpdate"`
			FMSPC      string    `json:"fmspc"`
		}
		if err := json.Unmarshal([]byte(text), &v); err != nil || v.NextUpdate.IsZero() {
			return time.Time{}, fmt.Errorf("%s has no date nextUpdate", member)
		}
		if fmspc != "" && !strings.EqualFold(v.FMSPC, fmspc) {
			return time.Time{}, fmt.Errorf("%s is of FMSPC %.20q, asked for %s", member, v.FMSPC, fmspc)
		}
		return v.NextUpdate, checkChain(e.Issuer)
	}}
}

// split returns a member's text, byte for byte, and the signature. Empty when
// the body is not of that form.
func split(body []byte, member string) (text, signature string) {
	var v map[string]jsontext.Value
	if json.Unmarshal(body, &v) != nil || len(v) != 2 || v[member].Kind() != '{' {
		return "", ""
	}
	if json.Unmarshal(v["signature"], &signature) != nil {
		return "", ""
	}
	return string(v[member]), signature
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
