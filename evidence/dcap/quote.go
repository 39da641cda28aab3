package dcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence/internal/fields"
)

// maxQuote bounds a quote, in bytes. Those of today have about 5,000, and some
// drivers pad them with zeros to 8,000.
const maxQuote = 64 << 10

// A tee is the TEE type of a quote's header.
type tee uint32

const (
	teeSGX tee = 0x00
	teeTDX tee = 0x81
)

// Sizes in bytes, and the values that a quote of this kind must have.
const (
	headerSize     = 48
	descriptorSize = 6 // version 5: body type (2), size (4)
	reportSize     = 384
	td10Size       = 584
	td15Size       = 648
	sigSize        = 64
	keySize        = 64

	bodyTD10 = 2
	bodyTD15 = 3

	keyTypeP256   = 2 // ECDSA-256-with-P-256
	certPCKChain  = 5 // certification data: PEM chain, leaf first
	certQEReport  = 6 // certification data of version 4 and 5: the QE report with its own
	maxQEAuthData = 1024
)

// intelQE is the vendor id of Intel's quoting enclaves.
var intelQE = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// A Quote is a parsed and unverified DCAP quote: SGX version 3, TDX version 4
// or 5. Nothing in it may be believed before [Verifier.Verify] says so. Its
// slices share the quote's memory.
//
//	header (48) | version 5: body type (2), body size (4) | body | length (4) | signature data | tail
//
// Integers are little endian. Version 3 has as signature data
//
//	signature (64) | attestation key (64) | QE report (384) | its signature (64) |
//	length (2), QE authentication data | 5 (2) | length (4), PEM chain
//
// and versions 4 and 5 put all after the attestation key into certification
// data of type 6: 6 (2), length (4), content.
type Quote struct {
	Version uint16
	TDX     bool // else SGX
	// Body is the TD report (584 bytes, or 648 for TDX 1.5) or the enclave's
	// report (384 bytes).
	Body []byte
	// PCKChain is the certificate chain that the quote carries, PEM, leaf first.
	PCKChain []byte

	signed      []byte // what signature covers
	signature   []byte // r ‖ s
	key         []byte // x ‖ y
	qeReport    []byte
	qeSignature []byte
	qeAuth      []byte
	tail        []byte // after the signature data
}

// ParseQuote reads a quote's structure. Bytes after it are refused by
// [Verifier.Verify] unless they are all zero.
func ParseQuote(b []byte) (*Quote, error) {
	if len(b) > maxQuote {
		return nil, fmt.Errorf("the quote has %d bytes; at most %d are read", len(b), maxQuote)
	}
	r := fields.Reader{Rest: b}
	h := r.Take(headerSize)
	if r.Short {
		return nil, errShort
	}
	q := &Quote{Version: binary.LittleEndian.Uint16(h)}
	t := tee(binary.LittleEndian.Uint32(h[4:]))
	q.TDX = t == teeTDX
	if kt := binary.LittleEndian.Uint16(h[2:]); kt != keyTypeP256 {
		return nil, fmt.Errorf("the quote's attestation key type is %d; only 2 (ECDSA with P-256) is known", kt)
	}
	if !bytes.Equal(h[12:28], intelQE[:]) {
		return nil, fmt.Errorf("the quote's QE vendor is %x, not Intel (%x)", h[12:28], intelQE)
	}
	switch {
	case q.Version == 3 && t == teeSGX:
		q.Body = r.Take(reportSize)
	case q.Version == 4 && t == teeTDX:
		q.Body = r.Take(td10Size)
	case q.Version == 5 && t == teeTDX:
		kind, size := r.U16(), r.U32()
		if !r.Short && !(kind == bodyTD10 && size == td10Size) && !(kind == bodyTD15 && size == td15Size) {
			return nil, fmt.Errorf("the quote's body has type %d and %d bytes; want type 2 with 584 (TDX 1.0) or 3 with 648 (TDX 1.5)", kind, size)
		}
		q.Body = r.Take(int(size))
	default:
		return nil, fmt.Errorf("a quote of version %d for TEE type %#x is not known; want version 3 for SGX (0x0), 4 or 5 for TDX (0x81)", q.Version, uint32(t))
	}
	q.signed = b[:len(b)-len(r.Rest)]

	data := fields.Reader{Rest: r.Take(int(r.U32()))}
	q.tail = r.Rest
	q.signature, q.key = data.Take(sigSize), data.Take(keySize)
	qe := &data
	var inner fields.Reader
	if q.Version > 3 {
		if kind := data.U16(); !data.Short && kind != certQEReport {
			return nil, fmt.Errorf("the quote's certification data has type %d; want 6 (QE report)", kind)
		}
		inner = fields.Reader{Rest: data.Take(int(data.U32()))}
		qe = &inner
	}
	q.qeReport, q.qeSignature = qe.Take(reportSize), qe.Take(sigSize)
	auth := int(qe.U16())
	if auth > maxQEAuthData {
		return nil, fmt.Errorf("the quote's QE authentication data has %d bytes; at most %d are read", auth, maxQEAuthData)
	}
	q.qeAuth = qe.Take(auth)
	if kind := qe.U16(); !qe.Short && kind != certPCKChain {
		return nil, fmt.Errorf("the quote's QE certification data has type %d; want 5 (PCK certificate chain)", kind)
	}
	q.PCKChain = qe.Take(int(qe.U32()))
	if r.Short || data.Short || inner.Short {
		return nil, errShort
	}
	if len(data.Rest) > 0 || len(inner.Rest) > 0 {
		return nil, errors.New("the quote's signature data has bytes after its last field")
	}
	return q, nil
}

var errShort = errors.New("the quote ends within its structure, or a length in it points outside")

// An enclaveReport is the body of an SGX report (384 bytes):
//
//	cpusvn (16) miscselect (4) reserved (12) isvextprodid (16) attributes (16) mrenclave (32)
//	reserved (32) mrsigner (32) reserved (32) configid (64) isvprodid (2) isvsvn (2)
//	configsvn (2) reserved (42) isvfamilyid (16) report data (64)
type enclaveReport []byte

func (r enclaveReport) cpuSVN() []byte       { return r[0:16] }
func (r enclaveReport) miscSelect() []byte   { return r[16:20] }
func (r enclaveReport) isvExtProdID() []byte { return r[32:48] }
func (r enclaveReport) attributes() []byte   { return r[48:64] }
func (r enclaveReport) mrEnclave() []byte    { return r[64:96] }
func (r enclaveReport) mrSigner() []byte     { return r[128:160] }
func (r enclaveReport) configID() []byte     { return r[192:256] }
func (r enclaveReport) isvProdID() uint16    { return binary.LittleEndian.Uint16(r[256:]) }
func (r enclaveReport) isvSVN() uint16       { return binary.LittleEndian.Uint16(r[258:]) }
func (r enclaveReport) configSVN() uint16    { return binary.LittleEndian.Uint16(r[260:]) }
func (r enclaveReport) isvFamilyID() []byte  { return r[304:320] }
func (r enclaveReport) reportData() []byte   { return r[320:384] }

// debug is bit 1 of the attributes.
func (r enclaveReport) debug() bool { return r[48]&2 != 0 }

// A tdReport is the body of a TDX quote (584 bytes, 648 for TDX 1.5):
//
//	teetcbsvn (16) mrseam (48) mrsignerseam (48) seamattributes (8) tdattributes (8) xfam (8)
//	mrtd (48) mrconfigid (48) mrowner (48) mrownerconfig (48) rtmr0..3 (4*48) report data (64)
//	1.5: teetcbsvn2 (16) mrservicetd (48)
type tdReport []byte

func (r tdReport) teeTCBSVN() []byte      { return r[0:16] }
func (r tdReport) mrSEAM() []byte         { return r[16:64] }
func (r tdReport) mrSignerSEAM() []byte   { return r[64:112] }
func (r tdReport) seamAttributes() []byte { return r[112:120] }
func (r tdReport) tdAttributes() []byte   { return r[120:128] }
func (r tdReport) xfam() []byte           { return r[128:136] }
func (r tdReport) mrTD() []byte           { return r[136:184] }
func (r tdReport) mrConfigID() []byte     { return r[184:232] }
func (r tdReport) mrOwner() []byte        { return r[232:280] }
func (r tdReport) mrOwnerConfig() []byte  { return r[280:328] }
func (r tdReport) rtmr(i int) []byte      { return r[328+48*i : 376+48*i] }
func (r tdReport) reportData() []byte     { return r[520:584] }

// teeTCBSVN2 and mrServiceTD are nil for TDX 1.0.
func (r tdReport) teeTCBSVN2() []byte {
	if len(r) < td15Size {
		return nil
	}
	return r[584:600]
}

func (r tdReport) mrServiceTD() []byte {
	if len(r) < td15Size {
		return nil
	}
	return r[600:648]
}

// debug is any bit of the first byte of the attributes, TUD ("TD under debug"):
// bit 0 is DEBUG, and Intel reserves the others for states that are as
// untrusted.
func (r tdReport) debug() bool { return r[120] != 0 }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
