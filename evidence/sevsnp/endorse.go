package sevsnp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-sev-guest/abi"

	"github.com/trustedmcp/tmcp/evidence"
)

// Extensions of endorsement key certificates (AMD 57230, tables 10 and 11) are
// arcs below 1.3.6.1.4.1.3704.1; the security versions below its arc 3.
var amdArc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// Security versions by the last arc of their extension.
const (
	splBootloader = 1
	splTEE        = 2
	splSNP        = 3
	splMicrocode  = 8
	splFMC        = 9 // Turin only
)

// extensions are what a VCEK or VLEK certificate says of the platform.
type extensions struct {
	productName string
	hwid        []byte // VCEK: 64 bytes, Turin 8
	cspID       string // VLEK: whom AMD gave the key to
	spl         map[int]uint8
}

// parseExtensions reads AMD's extensions. go-sev-guest's parser knows neither
// Turin's FMC nor its 8-byte HWID, and refuses each VCEK of that line.
func parseExtensions(c *x509.Certificate) (*extensions, error) {
	x := &extensions{spl: map[int]uint8{}}
	for _, e := range c.Extensions {
		if len(e.Id) <= len(amdArc) || !slices.Equal(e.Id[:len(amdArc)], amdArc) {
			continue
		}
		var err error
		switch arc := e.Id[len(amdArc):]; {
		case len(arc) == 1 && arc[0] == 2:
			x.productName, err = ia5(e.Value)
		case len(arc) == 1 && arc[0] == 4:
			// AMD writes the bytes as they are; the form with a tag is older.
			if x.hwid = e.Value; len(x.hwid) != abi.ChipIDSize && len(x.hwid) != 8 {
				err = octets(e.Value, &x.hwid)
			}
			if err == nil && len(x.hwid) != abi.ChipIDSize && len(x.hwid) != 8 {
				err = fmt.Errorf("%d bytes, want 64, or 8 for Turin", len(x.hwid))
			}
		case len(arc) == 1 && arc[0] == 5:
			x.cspID, err = ia5(e.Value)
		case len(arc) == 2 && arc[0] == 3:
			var n int
			var rest []byte
			if rest, err = asn1.Unmarshal(e.Value, &n); err == nil && (len(rest) > 0 || n < 0 || n > 255) {
				err = errors.New("want an integer of 0 to 255")
			}
			x.spl[arc[1]] = uint8(n)
		}
		if err != nil {
			return nil, fmt.Errorf("extension %v: %w", e.Id, err)
		}
	}
	for _, s := range []int{splBootloader, splTEE, splSNP, splMicrocode} {
		if _, ok := x.spl[s]; !ok {
			return nil, fmt.Errorf("no extension %v.3.%d with a security version", amdArc, s)
		}
	}
	if x.productName == "" {
		return nil, fmt.Errorf("no extension %v.2 with the product name", amdArc)
	}
	return x, nil
}

func ia5(der []byte) (s string, err error) {
	if len(der) == 0 || der[0] != asn1.TagIA5String {
		return "", errors.New("want an IA5String")
	}
	rest, err := asn1.UnmarshalWithParams(der, &s, "ia5")
	if err == nil && (len(rest) > 0 || s == "") {
		err = errors.New("want one IA5String that is not empty")
	}
	return s, err
}

func octets(der []byte, out *[]byte) error {
	rest, err := asn1.Unmarshal(der, out)
	if err == nil && len(rest) > 0 {
		err = errors.New("want one OCTET STRING")
	}
	return err
}

// turin tells the layout of security versions that the certificate uses.
func (x *extensions) turin() bool { _, ok := x.spl[splFMC]; return ok }

// tcb is the TCB that the certificate was made for, as a report has it.
func (x *extensions) tcb() [8]byte {
	s := x.spl
	if x.turin() {
		return [8]byte{s[splFMC], s[splBootloader], s[splTEE], s[splSNP], s[5], s[6], s[7], s[splMicrocode]}
	}
	return [8]byte{s[splBootloader], s[splTEE], s[4], s[5], s[6], s[7], s[splSNP], s[splMicrocode]}
}

// An endorsement is a certificate of the key that reports are signed with.
type endorsement struct {
	cert *x509.Certificate
	key  *ecdsa.PublicKey
	vlek bool
	ext  *extensions
	err  error // what is wrong with the certificate by itself
}

func (e *endorsement) name() string {
	if e.vlek {
		return "VLEK"
	}
	return "VCEK"
}

// fits reports whether e is for exactly this platform at this TCB.
func (e *endorsement) fits(r *report) bool {
	return e.err == nil && e.ext.tcb() == [8]byte(r.reportedTCB()) && (e.vlek || bytes.HasPrefix(r.ChipId, e.ext.hwid))
}

// parseEndorsement returns nil when der is not the certificate of an endorsement
// key.
func parseEndorsement(der []byte) *endorsement {
	c, err := x509.ParseCertificate(der)
	if err != nil || c.Subject.CommonName != "SEV-VCEK" && c.Subject.CommonName != "SEV-VLEK" {
		return nil
	}
	e := &endorsement{cert: c, vlek: c.Subject.CommonName == "SEV-VLEK"}
	e.ext, e.err = parseExtensions(c)
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case e.err != nil:
	case !ok || key.Curve != elliptic.P384():
		e.err = errors.New("the key is not on P-384")
	case c.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		e.err = fmt.Errorf("signed with %v, want RSASSA-PSS with SHA-384", c.SignatureAlgorithm)
	case len(c.UnhandledCriticalExtensions) > 0:
		e.err = fmt.Errorf("critical extensions that we do not know: %v", c.UnhandledCriticalExtensions)
	case e.vlek && (e.ext.cspID == "" || e.ext.hwid != nil):
		e.err = errors.New("a VLEK has a CSP_ID and no HWID")
	case !e.vlek && (e.ext.cspID != "" || e.ext.hwid == nil):
		e.err = errors.New("a VCEK has a HWID and no CSP_ID")
	case !e.vlek && (len(e.ext.hwid) == 8) != e.ext.turin():
		e.err = errors.New("a HWID has 64 bytes, or 8 beside the FMC of Turin")
	}
	e.key = key
	return e
}

// A chain is a pinned hierarchy by which an endorsement was verified.
type chain struct {
	product   string
	ark, ask  *x509.Certificate
	simulated bool
}

func (c *chain) same(d *chain) bool { return c.ark.Equal(d.ark) && c.ask.Equal(d.ask) }

// pinned are all chains that t trusts: the vendor's first.
func pinned(t *evidence.Trust) (out []*chain) {
	add := func(a *evidence.Anchors, simulated bool) {
		for _, c := range a.AMD {
			for _, ask := range c.ASK {
				if c.ARK != nil && ask != nil {
					out = append(out, &chain{c.Product, c.ARK, ask, simulated})
				}
			}
		}
	}
	add(t.Anchors, false)
	add(t.Simulator.Anchors(), true)
	return out
}

// verify verifies the signatures from e up to one of the pinned roots. Time is
// not looked at.
func (e *endorsement) verify(chains []*chain) (*chain, error) {
	var err error
	for _, c := range chains {
		if !bytes.Equal(e.cert.RawIssuer, c.ask.RawSubject) || strings.HasPrefix(c.ask.Subject.CommonName, "SEV-VLEK") != e.vlek {
			continue
		}
		if err = e.cert.CheckSignatureFrom(c.ask); err != nil {
			continue
		}
		if err = c.ask.CheckSignatureFrom(c.ark); err == nil {
			return c, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("none of the pinned intermediates is its issuer, %q", e.cert.Issuer)
	}
	return nil, err
}

// verifiedKey is an endorsement whose signatures were verified up to a root.
type verifiedKey struct {
	*endorsement
	by *chain
}

// certificates returns the DER within PEM or DER.
func certificates(b []byte) (der [][]byte) {
	if len(b) > maxItem {
		return nil
	}
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		for len(b) > 0 && len(der) < maxCertificates { // concatenated
			var v asn1.RawValue
			rest, err := asn1.Unmarshal(b, &v)
			if err != nil {
				return der
			}
			der, b = append(der, v.FullBytes), rest
		}
		return der
	}
	for len(der) < maxCertificates {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return der
		}
		if block.Type == "CERTIFICATE" {
			der = append(der, block.Bytes)
		}
	}
	return der
}
