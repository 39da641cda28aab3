package dcap

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A PCK is what Intel certifies about a platform, in the extension
// 1.2.840.113741.1.13.1 of its provisioning certification key's certificate
// ("Intel SGX PCK Certificate and CRL Profile Specification", section 1.3.5).
type PCK struct {
	PPID    []byte   // 16 bytes; nil where there is none
	SVN     [16]byte // TCB component SVNs
	PCESVN  uint16
	CPUSVN  [16]byte
	PCEID   [2]byte
	FMSPC   [6]byte
	SGXType int64 // 0 standard, 1 scalable, 2 scalable with integrity
	// PlatformInstance (16 bytes) and the configuration are of multi-package
	// platforms; nil where there is none.
	PlatformInstance                 []byte
	DynamicPlatform, CachedKeys, SMT *bool
	// CA is "platform" or "processor": which of Intel's CAs issued the
	// certificate, and so which CRL is needed.
	CA string
}

var (
	oidSGX       = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	errExtension = errors.New("the SGX extension of the PCK certificate is malformed")
)

// sgxExtension parses the extension's value. Elements may stand in any order,
// each once; those of later versions of the profile are passed over.
func sgxExtension(value []byte) (*PCK, error) {
	p := &PCK{}
	seen, err := elements(value, oidSGX, func(n int, v *cryptobyte.String) bool {
		switch n {
		case 1:
			return octets(v, 16, &p.PPID)
		case 2:
			return p.tcb(*v)
		case 3:
			return array(v, p.PCEID[:])
		case 4:
			return array(v, p.FMSPC[:])
		case 5:
			var e int
			ok := v.ReadASN1Enum(&e)
			p.SGXType = int64(e)
			return ok && e >= 0 && e <= 2
		case 6:
			return octets(v, 16, &p.PlatformInstance)
		case 7:
			return p.configuration(*v)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for i, name := range []string{"TCB", "PCEID", "FMSPC", "SGX type"} {
		if seen&(1<<(i+2)) == 0 {
			return nil, fmt.Errorf("the SGX extension of the PCK certificate has no %s", name)
		}
	}
	if allZero(p.PPID) {
		p.PPID = nil
	}
	return p, nil
}

func (p *PCK) tcb(v []byte) bool {
	seen, err := elements(v, append(oidSGX[:len(oidSGX):len(oidSGX)], 2), func(n int, v *cryptobyte.String) bool {
		switch {
		case n >= 1 && n <= 17:
			var svn uint64
			if !v.ReadASN1Integer(&svn) || svn > math.MaxUint16 || n <= 16 && svn > math.MaxUint8 {
				return false
			}
			if n == 17 {
				p.PCESVN = uint16(svn)
			} else {
				p.SVN[n-1] = byte(svn)
			}
			return true
		case n == 18:
			return array(v, p.CPUSVN[:])
		}
		return true
	})
	return err == nil && seen&0x7fffe == 0x7fffe // 1 to 18
}

func (p *PCK) configuration(v []byte) bool {
	_, err := elements(v, append(oidSGX[:len(oidSGX):len(oidSGX)], 7), func(n int, v *cryptobyte.String) bool {
		if n < 1 || n > 3 {
			return true
		}
		b := new(bool)
		*[]**bool{&p.DynamicPlatform, &p.CachedKeys, &p.SMT}[n-1] = b
		return v.ReadASN1Boolean(b)
	})
	return err == nil
}

// elements calls f for each SEQUENCE { prefix.n, value } in the SEQUENCE der and
// returns the set of n below 32 as bits. f takes known values off v.
func elements(der []byte, prefix asn1.ObjectIdentifier, f func(n int, v *cryptobyte.String) bool) (seen uint32, err error) {
	in := cryptobyte.String(der)
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return 0, errExtension
	}
	for !list.Empty() {
		var e cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !list.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&oid) {
			return 0, errExtension
		}
		if len(oid) != len(prefix)+1 || !oid[:len(prefix)].Equal(prefix) || oid[len(prefix)] > 31 {
			continue
		}
		n := oid[len(prefix)]
		if seen&(1<<n) != 0 || e.Empty() {
			return 0, errExtension
		}
		seen |= 1 << n
		known := e
		if !f(n, &known) || len(known) != 0 && len(known) != len(e) {
			return 0, errExtension
		}
	}
	return seen, nil
}

func array(v *cryptobyte.String, out []byte) bool {
	var b []byte
	return octets(v, len(out), &b) && copy(out, b) == len(out)
}

func octets(v *cryptobyte.String, size int, out *[]byte) bool {
	var b cryptobyte.String
	if !v.ReadASN1(&b, cbasn1.OCTET_STRING) || len(b) != size {
		return false
	}
	*out = b
	return true
}

// A pckChain is the certificate chain of a quote and what follows from it alone:
// facts that need no time, and no trust but in root.
type pckChain struct {
	leaf, ca *x509.Certificate
	root     *x509.Certificate
	pck      *PCK
	signed   error  // nil: leaf by ca by root
	spki     []byte // SHA-256 of the leaf's public key
	valid    window // of all three
}

// parsePCKChain parses leaf, intermediate and root. Anchors spare the parsing of
// the root.
func parsePCKChain(text []byte, anchor func(der []byte) *x509.Certificate) (*pckChain, error) {
	ders, err := splitPEM(text)
	if err != nil {
		return nil, err
	}
	if len(ders) != 3 {
		return nil, fmt.Errorf("the PCK certificate chain has %d certificates; want 3: leaf, intermediate, root", len(ders))
	}
	c := &pckChain{root: anchor(ders[2])}
	if c.root == nil {
		if c.root, err = x509.ParseCertificate(ders[2]); err != nil {
			return nil, fmt.Errorf("the root of the PCK certificate chain: %v", err)
		}
	}
	if c.ca, err = x509.ParseCertificate(ders[1]); err != nil {
		return nil, fmt.Errorf("the intermediate of the PCK certificate chain: %v", err)
	}
	if c.leaf, err = x509.ParseCertificate(ders[0]); err != nil {
		return nil, fmt.Errorf("the PCK certificate: %v", err)
	}
	for _, e := range c.leaf.Extensions {
		if e.Id.Equal(oidSGX) {
			if c.pck != nil {
				return nil, errExtension
			}
			if c.pck, err = sgxExtension(e.Value); err != nil {
				return nil, err
			}
		}
	}
	if c.pck == nil {
		return nil, errors.New("the PCK certificate has no SGX extension (1.2.840.113741.1.13.1)")
	}
	switch cn := c.ca.Subject.CommonName; cn {
	case cnPlatformCA:
		c.pck.CA = "platform"
	case cnProcessorCA:
		c.pck.CA = "processor"
	default:
		return nil, fmt.Errorf("the PCK certificate's issuer is %q; want %q or %q", cn, cnPlatformCA, cnProcessorCA)
	}
	if !strings.Contains(c.leaf.Subject.CommonName, "SGX PCK Certificate") || c.leaf.IsCA {
		return nil, fmt.Errorf("the first certificate of the PCK chain is %q, not a PCK certificate", c.leaf.Subject.CommonName)
	}
	digest := sha256.Sum256(c.leaf.RawSubjectPublicKeyInfo)
	c.spki = digest[:]
	for _, x := range []*x509.Certificate{c.leaf, c.ca, c.root} {
		c.valid.meet(certWindow(x))
	}
	if c.signed = issued(c.ca, c.root); c.signed == nil {
		c.signed = issued(c.leaf, c.ca)
	}
	return c, nil
}

// Common names of Intel's hierarchy.
const (
	cnRootCA      = "Intel SGX Root CA"
	cnPlatformCA  = "Intel SGX PCK Platform CA"
	cnProcessorCA = "Intel SGX PCK Processor CA"
	cnTCBSigning  = "Intel SGX TCB Signing"
)

// platform is the stable id of the platform: its PPID, or the SHA-256 of its PCK
// where it has none.
func (c *pckChain) platform() []byte {
	if c.pck.PPID != nil {
		return c.pck.PPID
	}
	return c.spki
}

// PCK returns what the quote's PCK certificate says, unverified: to find the
// collateral for it, never to decide.
func (q *Quote) PCK() (*PCK, error) {
	c, err := parsePCKChain(q.PCKChain, func([]byte) *x509.Certificate { return nil })
	if err != nil {
		return nil, err
	}
	return c.pck, nil
}
