package collateral

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
)

// An AMDPlatform is what a VCEK certificate is looked up by.
type AMDPlatform struct {
	Product string // Milan, Genoa, Turin
	VLEK    bool   // signed with the key of a cloud provider: only the chain can be had
	ChipID  [64]byte
	TCB     [8]byte // REPORTED_TCB as in the report
}

// reportSize is that of an SNP attestation report, in bytes.
const reportSize = 1184

// ParseReport reads off an SEV-SNP report, unverified, what its certificates
// are looked up by. Reports of version 2 don't tell the product line.
func ParseReport(report []byte, product string) (AMDPlatform, error) {
	p := AMDPlatform{Product: product}
	if len(report) < reportSize {
		return p, fmt.Errorf("%w: an SNP report of %d bytes, want %d", ErrUnknown, len(report), reportSize)
	}
	version := binary.LittleEndian.Uint32(report)
	if version < 2 || version > 5 {
		return p, fmt.Errorf("%w: SNP report version %d, want 2 to 5", ErrUnknown, version)
	}
	if version >= 3 {
		if told := sevsnp.Product(report[0x188], report[0x189]); told != "" {
			p.Product = told
		}
	}
	if p.Product == "" {
		return p, fmt.Errorf("%w: a report of version %d doesn't tell the product line; say it with --product: Milan, Genoa or Turin", ErrUnknown, version)
	}
	copy(p.ChipID[:], report[0x1a0:])
	copy(p.TCB[:], report[0x180:])
	p.VLEK = report[0x48]>>2&7 == 1
	if !p.VLEK && p.ChipID == [64]byte{} {
		return p, fmt.Errorf("%w: the report's CHIP_ID is masked", ErrUnknown)
	}
	return p, nil
}

// AMD fetches the certificates of p as PEM (the VCEK, unless p is a VLEK
// platform, intermediate and root) and the list of what AMD revoked.
func (f *Fetcher) AMD(ctx context.Context, p AMDPlatform) ([]evidence.Item, error) {
	switch p.Product {
	case "Milan", "Genoa", "Turin":
	default:
		return nil, fmt.Errorf("collateral: product %q: want Milan, Genoa (also for Bergamo and Siena) or Turin", p.Product)
	}
	key := "vcek"
	if p.VLEK {
		key = "vlek"
	}
	base := f.cfg.KDS + "/" + key + "/v1/" + p.Product + "/"
	var out bytes.Buffer
	if !p.VLEK {
		id, t := p.ChipID[:], sevsnp.DecodeTCB(p.Product, p.TCB)
		q := fmt.Sprintf("blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", t.Bootloader, t.TEE, t.SNP, t.Microcode)
		if p.Product == sevsnp.Turin { // whose ids are short
			id = id[:8]
			q = fmt.Sprintf("fmcSPL=%d&%s", t.FMC, q)
		}
		e, err := f.get(ctx, base+hex.EncodeToString(id)+"?"+q, kind{accept: "application/pkix-cert", check: checkCert, fixed: true, slow: true})
		if errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("%w (no VCEK of a %s chip with that id and TCB; is the product line right?)", err, p.Product)
		}
		if err != nil {
			return nil, err
		}
		appendCerts(&out, e.Body)
	}
	e, err := f.get(ctx, base+"cert_chain", kind{accept: "application/x-pem-file", check: checkCert, fixed: true})
	if err != nil {
		return nil, err
	}
	appendCerts(&out, e.Body)
	if e, err = f.get(ctx, base+"crl", kind{accept: "application/pkix-crl", check: checkCRL}); err != nil {
		return nil, err
	}
	return []evidence.Item{
		{MediaType: evidence.TypeCertificates, Value: out.Bytes()},
		{MediaType: evidence.TypeCRL, Value: crlDER(e.Body)},
	}, nil
}

// checkCert takes a certificate in DER, or a chain in PEM. Either holds until it
// expires.
func checkCert(e entry) (time.Time, error) {
	chain, err := certificates(e.Body)
	if err != nil {
		return time.Time{}, fmt.Errorf("not a certificate: %v", err)
	}
	until := chain[0].NotAfter
	for _, c := range chain {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return until, nil
}

func certificates(body []byte) ([]*x509.Certificate, error) {
	if chain, err := parseChain(body); err == nil {
		return chain, nil
	}
	c, err := x509.ParseCertificate(body)
	return []*x509.Certificate{c}, err
}

func appendCerts(out *bytes.Buffer, body []byte) {
	chain, _ := certificates(body) // was checked
	for _, c := range chain {
		_ = pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
}
