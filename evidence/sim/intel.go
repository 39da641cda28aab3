package sim

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// intelPKI is Intel's hierarchy for SGX and TDX.
type intelPKI struct {
	root       *authority
	platform   *authority // issues PCK certificates of multi-package platforms, all that have TDX
	processor  *authority // … of single-package ones
	tcbSigning *authority
}

func (w *World) makeIntel() (*intelPKI, error) {
	var p intelPKI
	for _, c := range []struct {
		to    **authority
		cn    string
		label string
		path  int // -1: no CA
	}{
		{&p.root, "Intel SGX Root CA", "intel root", 1},
		{&p.platform, "Intel SGX PCK Platform CA", "intel platform ca", 0},
		{&p.processor, "Intel SGX PCK Processor CA", "intel processor ca", 0},
		{&p.tcbSigning, "Intel SGX TCB Signing", "intel tcb signing", -1},
	} {
		key, err := w.key(elliptic.P256(), c.label)
		if err != nil {
			return nil, err
		}
		t := w.template(c.cn, c.label)
		if c.path >= 0 {
			t = w.authorityTemplate(c.cn, c.label, c.path)
		}
		t.CRLDistributionPoints = []string{"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"}
		if *c.to, err = issue(p.root, t, key); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// A Platform is a simulated machine with Intel's PCK certificate.
type Platform struct {
	// Name tells machines apart: PPID and keys are derived from it.
	Name   string
	FMSPC  [6]byte  // zero: DefaultFMSPC
	PCEID  [2]byte  // zero is Intel's own value
	PPID   [16]byte // zero: derived from Name
	SVN    *[16]byte
	PCESVN *uint16
	// Processor has Intel's Processor CA issue the certificate, without the
	// elements of multi-package platforms.
	Processor           bool
	NotBefore, NotAfter time.Time // of the PCK certificate; zero: decades
}

// What a platform has where its options do not say.
var (
	DefaultFMSPC  = [6]byte{0x90, 0xc0, 0x6f, 0x00, 0x00, 0x00}
	DefaultSVN    = [16]byte{3, 3, 2, 2, 4, 1, 0, 5}
	DefaultPCESVN = uint16(13)
	// DefaultTEETCBSVN is of a TD: minor version 5 of the second module (TDX_01),
	// then the microcode's.
	DefaultTEETCBSVN = [16]byte{5, 1, 2}
)

// Security versions of simulated quoting enclaves.
const (
	tdQEVersion  = 4
	sgxQEVersion = 8
)

func (o Platform) certificate(w *World) (*authority, error) {
	p, err := w.intel()
	if err != nil {
		return nil, err
	}
	key, err := w.key(elliptic.P256(), "pck "+o.Name)
	if err != nil {
		return nil, err
	}
	t := w.template("Intel SGX PCK Certificate", o.serialLabel())
	t.NotBefore = first(o.NotBefore, notBefore)
	t.NotAfter = first(o.NotAfter, notAfter)
	ca, kind := p.platform, "platform"
	if o.Processor {
		ca, kind = p.processor, "processor"
	}
	t.CRLDistributionPoints = []string{"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=" + kind + "&encoding=der"}
	ext, err := o.extension(w)
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions = append(t.ExtraExtensions, extension(oidIntelSGX, ext))
	return issue(ca, t, key)
}

// serialLabel makes each certificate of a machine another one.
func (o Platform) serialLabel() string {
	return fmt.Sprintf("pck %q %x %x %d %t %d %d", o.Name, o.FMSPC, or(o.SVN, DefaultSVN), or(o.PCESVN, DefaultPCESVN), o.Processor, o.NotBefore.Unix(), o.NotAfter.Unix())
}

var oidIntelSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// ppid is the platform's id.
func (o Platform) ppid(w *World) [16]byte {
	return first(o.PPID, [16]byte(w.bytes("ppid "+o.Name, 16)))
}

// extension is the SGX extension of PCK certificates: a SEQUENCE of pairs of
// 1.2.840.113741.1.13.1.n and a value, as in "Intel SGX PCK Certificate and CRL
// Profile Specification", section 1.3.5.
func (o Platform) extension(w *World) ([]byte, error) {
	var b cryptobyte.Builder
	pair := func(b *cryptobyte.Builder, value func(*cryptobyte.Builder), n ...int) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(append(oidIntelSGX[:len(oidIntelSGX):len(oidIntelSGX)], n...))
			value(b)
		})
	}
	octets := func(v []byte) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1OctetString(v) }
	}
	number := func(v uint16) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1Uint64(uint64(v)) }
	}
	yes := func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) }
	ppid, svn, fmspc := o.ppid(w), or(o.SVN, DefaultSVN), first(o.FMSPC, DefaultFMSPC)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		pair(b, octets(ppid[:]), 1)
		pair(b, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for i, v := range svn {
					pair(b, number(uint16(v)), 2, i+1)
				}
				pair(b, number(or(o.PCESVN, DefaultPCESVN)), 2, 17)
				pair(b, octets(svn[:]), 2, 18) // CPUSVN
			})
		}, 2)
		pair(b, octets(o.PCEID[:]), 3)
		pair(b, octets(fmspc[:]), 4)
		kind := int64(1) // scalable
		if o.Processor {
			kind = 0 // standard
		}
		pair(b, func(b *cryptobyte.Builder) { b.AddASN1Enum(kind) }, 5)
		if !o.Processor {
			pair(b, octets(w.bytes("platform instance "+o.Name, 16)), 6)
			pair(b, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for n := 1; n <= 3; n++ { // dynamic platform, cached keys, SMT
						pair(b, yes, 7, n)
					}
				})
			}, 7)
		}
	})
	return b.Bytes()
}

// A QE is a simulated quoting enclave. The zero value is Intel's, up to date.
type QE struct {
	MRSIGNER [32]byte // zero: DefaultTDQESigner or DefaultQESigner
	ISVSVN   *uint16
	Debug    bool
	// OtherKey has the quoting enclave's report vouch for another attestation key
	// than the one that signs.
	OtherKey bool
}

// Signers of Intel's quoting enclaves. They are those of the real ones.
var (
	DefaultTDQESigner = [32]byte(unhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"))
	DefaultQESigner   = [32]byte(unhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"))
)

// TDX says what a TD is like. The zero value is one of TDX 1.5 in a version 4
// quote, on an up to date machine, running the zero image.
type TDX struct {
	Platform Platform
	QE       QE
	// Version is 4 or 5 (zero: 4). Body15 gives version 5 the body of TDX 1.5 with
	// MRSERVICETD and TEE_TCB_SVN_2.
	Version int
	Body15  bool

	Image                              [32]byte     // what measurements are derived from; see Measure
	MRTD                               [48]byte     // zero: of Image
	RTMR                               *[4][48]byte // nil: of Image
	MRSEAM, MRSIGNERSEAM               [48]byte     // zero MRSEAM: the simulated module's
	MRCONFIGID, MROWNER, MROWNERCONFIG [48]byte
	MRSERVICETD                        [48]byte
	TEETCBSVN, TEETCBSVN2              *[16]byte // nil: DefaultTEETCBSVN
	SEAMAttributes                     [8]byte
	TDAttributes                       *[8]byte // nil: SEPT_VE_DISABLE only
	XFAM                               *[8]byte
	Debug                              bool // sets the DEBUG bit
	Padding                            int  // zero bytes after the quote, as some drivers leave (at most 65536)
}

// teeTDX is the TEE type in headers of TDX quotes.
const teeTDX = 0x81

var intelVendor = unhex("939a7233f79c4ca9940a0db3957f0607")

// TDXQuote makes a DCAP quote of a TD, version 4 or 5.
func (w *World) TDXQuote(reportData [64]byte, o TDX) ([]byte, error) {
	if o.Version == 0 {
		o.Version = 4
	}
	if o.Version != 4 && o.Version != 5 || o.Body15 && o.Version != 5 || o.Padding < 0 || o.Padding > 1<<16 {
		return nil, fmt.Errorf("no TDX quote has version %d, the body of TDX 1.5: %t and %d bytes of padding; want version 4, or 5 with either body, and at most 65536 bytes", o.Version, o.Body15, o.Padding)
	}
	le := binary.LittleEndian
	q := le.AppendUint16(nil, uint16(o.Version))
	q = le.AppendUint16(q, 2) // ECDSA with P-256
	q = le.AppendUint32(q, teeTDX)
	q = append(q, 0, 0, 0, 0) // reserved
	q = append(q, intelVendor...)
	q = append(q, w.bytes("qe user data", 20)...)
	body := o.body(reportData)
	if o.Version == 5 {
		kind := uint16(2)
		if o.Body15 {
			kind = 3
		}
		q = le.AppendUint16(q, kind)
		q = le.AppendUint32(q, uint32(len(body)))
	}
	q = append(q, body...)
	sig, err := w.quoteSignature(q, o.Platform, o.QE, true)
	if err != nil {
		return nil, err
	}
	q = le.AppendUint32(q, uint32(len(sig)))
	q = append(q, sig...)
	return append(q, make([]byte, o.Padding)...), nil
}

func (o *TDX) body(reportData [64]byte) []byte {
	svn := or(o.TEETCBSVN, DefaultTEETCBSVN)
	mrseam := first(o.MRSEAM, measure("tdx.mrseam", nil))
	attributes := or(o.TDAttributes, [8]byte{3: 0x10})
	if o.Debug {
		attributes[0] |= 1
	}
	xfam := or(o.XFAM, [8]byte{0xe7, 0x02, 0x06})
	mrtd := first(o.MRTD, Measure("tdx.mrtd", o.Image))
	var rtmr [4][48]byte
	for i := range rtmr {
		rtmr[i] = Measure(fmt.Sprintf("tdx.rtmr%d", i), o.Image)
	}
	rtmr = or(o.RTMR, rtmr)
	b := bytes.Join([][]byte{
		svn[:], mrseam[:], o.MRSIGNERSEAM[:], o.SEAMAttributes[:], attributes[:], xfam[:],
		mrtd[:], o.MRCONFIGID[:], o.MROWNER[:], o.MROWNERCONFIG[:],
		rtmr[0][:], rtmr[1][:], rtmr[2][:], rtmr[3][:], reportData[:],
	}, nil)
	if o.Body15 {
		svn2 := or(o.TEETCBSVN2, svn)
		b = append(append(b, svn2[:]...), o.MRSERVICETD[:]...)
	}
	return b
}

// SGX says what an enclave is like. The zero value is one on an up to date
// machine, running the zero image.
type SGX struct {
	Platform  Platform
	QE        QE
	Image     [32]byte
	MRENCLAVE [32]byte // zero: of Image
	MRSIGNER  [32]byte // zero: of the simulator
	ISVPRODID uint16
	ISVSVN    uint16
	Debug     bool
}

// SGXQuote makes a DCAP quote of an enclave, version 3.
func (w *World) SGXQuote(reportData [64]byte, o SGX) ([]byte, error) {
	le := binary.LittleEndian
	q := le.AppendUint16(nil, 3)
	q = le.AppendUint16(q, 2) // ECDSA with P-256
	q = append(q, 0, 0, 0, 0) // reserved
	q = le.AppendUint16(q, sgxQEVersion)
	q = le.AppendUint16(q, or(o.Platform.PCESVN, DefaultPCESVN))
	q = append(q, intelVendor...)
	q = append(q, w.bytes("qe user data", 20)...)
	enclave, signer := Measure("sgx.mrenclave", o.Image), measure("sgx.mrsigner", nil)
	q = append(q, enclaveReport{
		cpusvn: or(o.Platform.SVN, DefaultSVN), mrenclave: first(o.MRENCLAVE, [32]byte(enclave[:32])), mrsigner: first(o.MRSIGNER, [32]byte(signer[:32])),
		prodid: o.ISVPRODID, svn: o.ISVSVN, debug: o.Debug, data: reportData,
	}.bytes()...)
	sig, err := w.quoteSignature(q, o.Platform, o.QE, false)
	if err != nil {
		return nil, err
	}
	return append(le.AppendUint32(q, uint32(len(sig))), sig...), nil
}

// An enclaveReport is the body of a REPORT of SGX, 384 bytes.
type enclaveReport struct {
	cpusvn              [16]byte
	mrenclave, mrsigner [32]byte
	prodid, svn         uint16
	debug               bool
	data                [64]byte
}

func (r enclaveReport) bytes() []byte {
	b := make([]byte, 384)
	copy(b[0:], r.cpusvn[:])
	b[48] = 0x05 // INIT, MODE64BIT
	if r.debug {
		b[48] |= 0x02
	}
	b[56] = 0xe7 // XFRM
	copy(b[64:], r.mrenclave[:])
	copy(b[128:], r.mrsigner[:])
	binary.LittleEndian.PutUint16(b[256:], r.prodid)
	binary.LittleEndian.PutUint16(b[258:], r.svn)
	copy(b[320:], r.data[:])
	return b
}

// quoteSignature is the signature data over header and body: signature,
// attestation key, and the certification data, nested for TDX.
func (w *World) quoteSignature(signed []byte, platform Platform, qe QE, td bool) ([]byte, error) {
	label, role := "attestation key sgx ", "sgx.qe"
	if td {
		label, role = "attestation key tdx ", "tdx.qe"
	}
	key, err := w.key(elliptic.P256(), label+platform.Name)
	if err != nil {
		return nil, err
	}
	sig, err := key.raw(crypto.SHA256, signed)
	if err != nil {
		return nil, err
	}
	public, err := key.point()
	if err != nil {
		return nil, err
	}
	pck, err := platform.certificate(w)
	if err != nil {
		return nil, err
	}
	p, err := w.intel()
	if err != nil {
		return nil, err
	}
	ca := p.platform
	if platform.Processor {
		ca = p.processor
	}

	vouched := public
	if qe.OtherKey {
		vouched = make([]byte, len(public))
	}
	auth := w.bytes("qe authentication data", 32)
	hash := sha256.Sum256(append(bytes.Clone(vouched), auth...))
	enclave := measure(role, nil)
	r := enclaveReport{cpusvn: or(platform.SVN, DefaultSVN), mrenclave: [32]byte(enclave[:32]), debug: qe.Debug}
	if td {
		r.mrsigner, r.prodid, r.svn = first(qe.MRSIGNER, DefaultTDQESigner), 2, or(qe.ISVSVN, tdQEVersion)
	} else {
		r.mrsigner, r.prodid, r.svn = first(qe.MRSIGNER, DefaultQESigner), 1, or(qe.ISVSVN, sgxQEVersion)
	}
	copy(r.data[:], hash[:])
	report := r.bytes()
	report[48] |= 0x10 // PROVISIONKEY
	qeSig, err := pck.key.(*signer).raw(crypto.SHA256, report)
	if err != nil {
		return nil, err
	}

	le := binary.LittleEndian
	cert := append(report, qeSig...)
	cert = le.AppendUint16(cert, uint16(len(auth)))
	cert = append(cert, auth...)
	pem := chain(pck.cert, ca.cert, p.root.cert)
	cert = le.AppendUint16(cert, 5) // PEM chain
	cert = le.AppendUint32(cert, uint32(len(pem)))
	cert = append(cert, pem...)

	out := append(sig, public...)
	if td {
		out = le.AppendUint16(out, 6) // certification data with the QE's report
		out = le.AppendUint32(out, uint32(len(cert)))
	}
	return append(out, cert...), nil
}

// PCK returns the PCK certificate of a platform, and its serial number.
func (w *World) PCK(o Platform) (*x509.Certificate, *big.Int, error) {
	a, err := o.certificate(w)
	if err != nil {
		return nil, nil, err
	}
	return a.cert, a.cert.SerialNumber, nil
}

// unhex decodes constants.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
