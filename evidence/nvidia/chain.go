package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxChain      = 32 << 10
	maxChainLen   = 8
	fwidLen       = 48
	minVerified   = 4 // attestation key, device, provisioner, root
	pemHeader     = "-----BEGIN CERTIFICATE-----\n"
	archHopper    = "HOPPER"
	archBlackwell = "BLACKWELL"
	archSwitch    = "LS10"
)

// parseChain reads certificates from PEM, leaf first. It accepts one spelling of
// each chain: blocks as RFC 7468 section 3 has its generators write them, LF at
// the ends of lines, nothing between blocks; the last LF may be missing.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, fmt.Errorf("NVIDIA chain: %d bytes, at most %d are read", len(text), maxChain)
	}
	if n := bytes.Count(text, []byte(pemHeader)); n == 0 || n > maxChainLen {
		return nil, fmt.Errorf("NVIDIA chain: %d certificates, want 1 to %d in PEM", n, maxChainLen)
	}
	var certs []*x509.Certificate
	var again []byte
	for rest := text; len(rest) > 0; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, errors.New("NVIDIA chain: not PEM throughout")
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("NVIDIA chain: certificate %d: %w", len(certs), err)
		}
		// An RSA key as long as the chain may be takes a second to verify with.
		if _, ok := c.PublicKey.(*ecdsa.PublicKey); !ok {
			return nil, fmt.Errorf("NVIDIA chain: certificate %d has a key of type %T, want ECDSA", len(certs), c.PublicKey)
		}
		certs = append(certs, c)
		again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Bytes})...)
	}
	if !bytes.Equal(text, again) && !bytes.Equal(text, again[:len(again)-1]) {
		return nil, errors.New("NVIDIA chain: PEM of an unusual form: want blocks CERTIFICATE with lines of 64 characters and LF, and nothing between them")
	}
	return certs, nil
}

// verifyChain returns the chain from the leaf to one of roots. Each certificate
// that was given must be part of it, in order; the root may be left out.
func verifyChain(certs, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, r := range roots {
		opts.Roots.AddCert(r)
	}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(opts)
	if err != nil {
		return nil, err
	}
	for _, chain := range chains {
		if len(chain) != len(certs) && len(chain) != len(certs)+1 || len(chain) < minVerified {
			continue
		}
		same := true
		for i, c := range certs {
			same = same && c.Equal(chain[i])
		}
		if same {
			return chain, nil
		}
	}
	return nil, fmt.Errorf("want attestation key, device, provisioner and up to the root, in this order and nothing else; %d certificates given", len(certs))
}

// attestationKey returns the key of a leaf that may sign reports.
func attestationKey(leaf *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("the attestation key is not of P-384")
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errors.New("the leaf is a certificate authority's, or not for digital signatures")
	}
	return key, nil
}

// provisioners have certificates that NVIDIA issued by hand, one or more per
// chip. Those that they issue name the devices.
var provisioners = regexp.MustCompile(`^NVIDIA ([A-Z]{2}_?[0-9]{2,3}) Provisioner ICA [0-9A-Za-z]+$`)

// architecture tells from a verified chain what the device is. NVIDIA's root
// also stands above other devices (DPUs, network cards), so a chain without a
// known chip proves no GPU. The identity certificate under the root doesn't
// tell: the one of GH100 also stands above LS10.
func architecture(chain []*x509.Certificate) (chip, arch string, err error) {
	cn := chain[2].Subject.CommonName
	m := provisioners.FindStringSubmatch(cn)
	if m == nil {
		return "", "", fmt.Errorf("the provisioner %q is of no known kind: want NVIDIA <chip> Provisioner ICA <number>", cn)
	}
	switch chip = m[1]; {
	case chip == "GH100":
		arch = archHopper
	case len(chip) == 5 && (chip[:3] == "GB1" || chip[:3] == "GB2"):
		arch = archBlackwell
	case chip == "LS_10":
		arch = archSwitch
	default:
		return chip, "", fmt.Errorf("the chip %q is not known: want GH100, GB1xx, GB2xx or LS_10", chip)
	}
	return chip, arch, nil
}

// deviceID returns what the provisioner certified as the device's serial number,
// in bytes, or nil.
func deviceID(chain []*x509.Certificate) []byte {
	id, err := hex.DecodeString(chain[1].Subject.SerialNumber)
	if err != nil || len(id) == 0 {
		return nil
	}
	return id
}

// Extensions of TCG DICE in which a device says what it started: that of Hopper
// and LS10 holds one FWID, that of Blackwell a DiceTcbInfo.
var (
	oidCompositeDevice = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidTCBInfo         = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}
	oidSHA384          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

// certificateFWID returns the digest of the device's first mutable code that its
// boot ROM put into the leaf: nil when there is none.
//
//	CompositeDeviceID ::= SEQUENCE { version INTEGER, deviceID SubjectPublicKeyInfo, fwid FWID }
//	DiceTcbInfo       ::= SEQUENCE { …, fwids [6] IMPLICIT SEQUENCE OF FWID, … }
//	FWID              ::= SEQUENCE { hashAlg OBJECT IDENTIFIER, digest OCTET STRING }
func certificateFWID(leaf *x509.Certificate) ([]byte, error) {
	for _, e := range leaf.Extensions {
		s := cryptobyte.String(e.Value)
		var body, list cryptobyte.String
		switch {
		case e.Id.Equal(oidCompositeDevice):
			if !s.ReadASN1(&body, casn1.SEQUENCE) || !s.Empty() || !body.SkipASN1(casn1.INTEGER) || !body.SkipASN1(casn1.SEQUENCE) {
				return nil, errors.New("the extension 2.23.133.5.4.1 is malformed")
			}
			list = body
		case e.Id.Equal(oidTCBInfo):
			if !s.ReadASN1(&body, casn1.SEQUENCE) || !s.Empty() {
				return nil, errors.New("the extension 2.23.133.5.4.1.1 is malformed")
			}
			for !body.Empty() && list == nil {
				var v cryptobyte.String
				var tag casn1.Tag
				if !body.ReadAnyASN1(&v, &tag) {
					return nil, errors.New("the extension 2.23.133.5.4.1.1 is malformed")
				}
				if tag == casn1.Tag(6).ContextSpecific().Constructed() {
					list = v
				}
			}
		default:
			continue
		}
		var fwid, digest cryptobyte.String
		var alg asn1.ObjectIdentifier
		if !list.ReadASN1(&fwid, casn1.SEQUENCE) || !fwid.ReadASN1ObjectIdentifier(&alg) || !fwid.ReadASN1(&digest, casn1.OCTET_STRING) || !fwid.Empty() || !alg.Equal(oidSHA384) || len(digest) != fwidLen {
			return nil, fmt.Errorf("the extension %v holds no FWID of SHA-384", e.Id)
		}
		return digest, nil
	}
	return nil, nil
}
