package nvidia

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	requestLen   = 37 // GET_MEASUREMENTS of SPDM 1.1 with a nonce and a slot
	nonceLen     = 32
	signatureLen = 96 // r and s of ECDSA P-384, 48 bytes each, big endian
	maxReport    = 16 << 10
)

// A Report is what a device answers to GET_MEASUREMENTS (DMTF DSP0274 1.1,
// section 10.11), after the request that it answers: the signature covers both.
//
//	request   offset 0   0x11, SPDM 1.1
//	                 1   0xe0, GET_MEASUREMENTS
//	                 2   0x01, a signature is wanted
//	                 3   0xff, all measurements
//	                 4   nonce of the verifier, 32 bytes
//	                36   slot of the certificate chain
//	response        37   0x11, 0x60 MEASUREMENTS, param 1, param 2 (slot in bits 0 to 3)
//	                41   number of blocks, length of the blocks (3 bytes, little endian)
//	                45   blocks: index, 0x01 (DMTF), size (2), type, value size (2), value
//	                     nonce of the device, 32 bytes
//	                     length (2) and opaque data: fields of type (2), size (2), value
//	                     signature, 96 bytes
type Report struct {
	Nonce        []byte // of the verifier, 32 bytes
	Measurements []Measurement
	Opaque       map[uint16][]byte // NVIDIA's fields by type
	Signature    []byte            // r‖s, 96 bytes
	signed       []byte            // what the signature covers: all before it
}

// A Measurement is one block of a report.
type Measurement struct {
	Index byte   // 1 to 239; manifests of NVIDIA (RIM) count from 0
	Type  byte   // DMTFSpecMeasurementValueType; bit 7: Value is raw and not a digest
	Value []byte // SHA-384 so far
}

// Types of NVIDIA's fields in the opaque data, as NVIDIA's attestation SDK has
// them.
const (
	fieldDriver        = 3  // text
	fieldVBIOS         = 6  // 8 bytes, or text (NVSwitch)
	fieldNVDEC0        = 11 // 0xaa enabled, 0x55 disabled
	fieldBoard         = 14
	fieldChipSKU       = 15
	fieldProject       = 17
	fieldProjectSKU    = 18
	fieldFWID          = 20 // SHA-384 of the first mutable code
	fieldProtectedPCIe = 21 // 0xaa enabled, 0x55 disabled
	fieldVersion       = 34 // of the opaque data
	fieldChip          = 35 // text
	fieldFeature       = 36 // 0 one GPU per guest, 1 several, 2 protected PCIe
)

// maxOpaqueVersion is the newest version of the opaque data whose fields mean
// what we think they do.
const maxOpaqueVersion = 1

// ParseReport parses a report strictly: exact lengths, no block or field twice,
// nothing left over. It verifies nothing. The result aliases b.
func ParseReport(b []byte) (*Report, error) {
	if len(b) > maxReport {
		return nil, fmt.Errorf("NVIDIA report: %d bytes, at most %d are read", len(b), maxReport)
	}
	c := cursor{b: b}
	req := c.take(requestLen)
	head := c.take(8)
	if c.short {
		return nil, c.err("its headers")
	}
	if req[0] != 0x11 || req[1] != 0xe0 || head[0] != 0x11 || head[1] != 0x60 {
		return nil, fmt.Errorf("NVIDIA report: it opens with %x and answers with %x: want GET_MEASUREMENTS and MEASUREMENTS of SPDM 1.1, 11e0 and 1160", req[:2], head[:2])
	}
	if req[2] != 1 || req[3] != 0xff {
		return nil, fmt.Errorf("NVIDIA report: the request has parameters %x: want 01ff, all measurements with a signature", req[2:4])
	}
	if req[36] > 7 || head[3]&0x0f != req[36] {
		return nil, fmt.Errorf("NVIDIA report: asked for certificate slot %d, answered for %d", req[36], head[3]&0x0f)
	}
	r := &Report{Nonce: req[4:36], Opaque: map[uint16][]byte{}}

	blocks := cursor{b: c.take(int(head[5]) | int(head[6])<<8 | int(head[7])<<16)}
	c.take(nonceLen) // the device's own: it makes the signature unique, and says nothing to us
	fields := cursor{b: c.take(c.uint16())}
	r.signed = b[:c.off]
	r.Signature = c.take(signatureLen)
	if c.short {
		return nil, c.err("its measurements, opaque data and signature")
	}
	if len(c.b) != c.off {
		return nil, fmt.Errorf("NVIDIA report: %d bytes after the signature", len(c.b)-c.off)
	}
	return r, errors.Join(r.blocks(&blocks, int(head[4])), r.fields(&fields))
}

func (r *Report) blocks(c *cursor, n int) error {
	if n == 0 {
		return errors.New("NVIDIA report: no measurement")
	}
	var seen [256]bool
	for range n {
		h := c.take(4)
		if c.short {
			return c.err("its measurement blocks")
		}
		v := cursor{b: c.take(int(binary.LittleEndian.Uint16(h[2:])))}
		t := v.take(1)
		value := v.take(v.uint16())
		if c.short || v.short || v.off != len(v.b) {
			return fmt.Errorf("NVIDIA report: measurement %d is not as long as it says", h[0])
		}
		if h[1] != 1 {
			return fmt.Errorf("NVIDIA report: measurement %d is of specification %d, want 1 (DMTF)", h[0], h[1])
		}
		if h[0] == 0 || h[0] >= 0xf0 || seen[h[0]] {
			return fmt.Errorf("NVIDIA report: measurement index %d is reserved or there twice", h[0])
		}
		seen[h[0]] = true
		r.Measurements = append(r.Measurements, Measurement{h[0], t[0], value})
	}
	if c.off != len(c.b) {
		return fmt.Errorf("NVIDIA report: %d bytes after %d measurements", len(c.b)-c.off, n)
	}
	return nil
}

func (r *Report) fields(c *cursor) error {
	for c.off < len(c.b) {
		t := c.uint16()
		v := c.take(c.uint16())
		if c.short {
			return c.err("its opaque data")
		}
		if _, twice := r.Opaque[uint16(t)]; twice {
			return fmt.Errorf("NVIDIA report: field %d of the opaque data is there twice", t)
		}
		r.Opaque[uint16(t)] = v
	}
	if v, ok := r.Opaque[fieldVersion]; ok {
		if n, ok := little(v); !ok || n > maxOpaqueVersion {
			return fmt.Errorf("NVIDIA report: opaque data of version %x, at most %d is known", v, maxOpaqueVersion)
		}
	}
	return nil
}

// text returns a field of text up to its zeros, or "".
func (r *Report) text(field uint16) string {
	s := strings.TrimRight(string(r.Opaque[field]), "\x00")
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return ""
		}
	}
	return s
}

// vbios returns the version of the VBIOS as NVIDIA writes it. A GPU gives the
// 64-bit number 0x00000001_96009f00 for 96.00.9F.00.01, an NVSwitch the text.
func (r *Report) vbios() string {
	v := r.Opaque[fieldVBIOS]
	if len(v) != 8 {
		return r.text(fieldVBIOS)
	}
	return fmt.Sprintf("%02X.%02X.%02X.%02X.%02X", v[3], v[2], v[1], v[0], v[4])
}

// little reads an unsigned integer of up to 8 bytes.
func little(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 8 {
		return 0, false
	}
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	return n, true
}

// A cursor takes bytes off the front. Once short, it stays so.
type cursor struct {
	b     []byte
	off   int
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b)-c.off {
		c.short = true
		return nil
	}
	c.off += n
	return c.b[c.off-n : c.off : c.off]
}

func (c *cursor) uint16() int {
	if b := c.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) err(what string) error {
	return fmt.Errorf("NVIDIA report: %d bytes do not hold %s", len(c.b), what)
}
