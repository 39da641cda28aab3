package sim

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// nvidiaPKI is NVIDIA's hierarchy above devices.
type nvidiaPKI struct{ root, identity *authority }

func (w *World) makeNVIDIA() (*nvidiaPKI, error) {
	var p nvidiaPKI
	var err error
	if p.root, err = w.nvidiaCert(nil, "NVIDIA Device Identity CA", "", 3); err != nil {
		return nil, err
	}
	p.identity, err = w.nvidiaCert(p.root, "NVIDIA GH100 Identity", "", 2)
	return &p, err
}

// nvidiaCert issues a certificate of a CA, or of an attestation key when path is
// negative.
func (w *World) nvidiaCert(issuer *authority, cn, serial string, path int, change ...func(*x509.Certificate)) (*authority, error) {
	label := "nvidia " + cn + " " + serial
	key, err := w.key(elliptic.P384(), label)
	if err != nil {
		return nil, err
	}
	t := w.authorityTemplate(cn, label, max(path, 0))
	if path < 0 {
		t = w.template(cn, label)
		t.KeyUsage = x509.KeyUsageDigitalSignature
	}
	t.Subject.SerialNumber = serial
	t.SignatureAlgorithm = x509.ECDSAWithSHA384
	t.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, f := range change {
		f(t)
	}
	return issue(issuer, t, key)
}

// GPU says what a simulated GPU is like. The zero value is an H100.
type GPU struct {
	Name     string   // device id and keys are derived from it
	Chip     string   // GH100 or GB100; "": GH100
	Firmware [32]byte // what the measurements are derived from
	Driver   string   // "": 590.48.01
	VBIOS    [8]byte  // zero: 96.00.9F.00.01
	// Measurements replace those of Firmware, by index 1 to 64.
	Measurements map[int][48]byte
	// OtherFWID has the report name other firmware than the certificate.
	OtherFWID bool
}

// gpuMeasurements is how many a device of Hopper reports.
const gpuMeasurements = 64

// NVIDIAReport makes evidence of a GPU for a nonce: the CBOR array [SPDM request
// and response, chain in PEM, leaf first].
func (w *World) NVIDIAReport(nonce [32]byte, o GPU) ([]byte, error) {
	o.Chip, o.Driver = first(o.Chip, "GH100"), first(o.Driver, "590.48.01")
	o.VBIOS = first(o.VBIOS, [8]byte{0x00, 0x9f, 0x00, 0x96, 0x01})
	if o.Chip != "GH100" && o.Chip != "GB100" {
		return nil, fmt.Errorf("the chip %q is not simulated; want GH100 or GB100", o.Chip)
	}
	if len(o.Driver) > 64 || strings.ContainsFunc(o.Driver, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fmt.Errorf("the driver version %q is not 64 characters of ASCII or less", o.Driver)
	}
	fwid := Measure("nvidia.fwid", o.Firmware)
	p, err := w.nvidia()
	if err != nil {
		return nil, err
	}
	provisioner, err := w.nvidiaCert(p.identity, "NVIDIA "+o.Chip+" Provisioner ICA 1", "", 1)
	if err != nil {
		return nil, err
	}
	id := strings.ToUpper(hex.EncodeToString(w.bytes("gpu "+o.Chip+" "+o.Name, 9)))
	device, err := w.nvidiaCert(provisioner, o.Chip+" A01 GSP BROM", id, 0)
	if err != nil {
		return nil, err
	}
	leaf, err := w.nvidiaCert(device, o.Chip+" A01 GSP FMC LF", id+hex.EncodeToString(fwid[:4]), -1, func(t *x509.Certificate) {
		if o.Chip == "GH100" {
			t.ExtraExtensions = append(t.ExtraExtensions, extension(asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}, compositeDevice(fwid[:])))
		} else {
			t.ExtraExtensions = append(t.ExtraExtensions, extension(asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}, diceTCBInfo(fwid[:])))
		}
	})
	if err != nil {
		return nil, err
	}

	le := binary.LittleEndian
	var blocks []byte
	for i := 1; i <= gpuMeasurements; i++ {
		m := Measure(fmt.Sprintf("nvidia.measurement.%d", i), o.Firmware)
		if v, ok := o.Measurements[i]; ok {
			m = v
		}
		blocks = append(blocks, byte(i), 1, 51, 0, 1, 48, 0) // index, DMTF, size, type: firmware, size
		blocks = append(blocks, m[:]...)
	}
	var fields []byte
	field := func(kind uint16, v []byte) {
		fields = le.AppendUint16(fields, kind)
		fields = le.AppendUint16(fields, uint16(len(v)))
		fields = append(fields, v...)
	}
	field(6, o.VBIOS[:])
	field(14, []byte{0xb1, 3, 0, 0})                 // board
	field(15, []byte("882\x00\x00\x00\x00\x00\x00")) // chip SKU
	field(17, []byte("1010\x00"))                    // project
	field(18, []byte("0200\x00"))                    // … its SKU
	field(3, append([]byte(o.Driver), 0))
	field(11, []byte{0x55}) // NVDEC0 is off
	stated := fwid
	if o.OtherFWID {
		stated[0] ^= 1
	}
	field(20, stated[:])
	field(21, []byte{0x55}) // protected PCIe is off
	if o.Chip != "GH100" {
		field(35, append([]byte(o.Chip), 0))
	}

	r := []byte{0x11, 0xe0, 0x01, 0xff} // SPDM 1.1 GET_MEASUREMENTS, signed, all
	r = append(r, nonce[:]...)
	r = append(r, 0)                // slot
	r = append(r, 0x11, 0x60, 0, 0) // MEASUREMENTS
	r = append(r, gpuMeasurements, byte(len(blocks)), byte(len(blocks)>>8), 0)
	r = append(r, blocks...)
	r = append(r, w.bytes("gpu nonce "+o.Name+string(nonce[:]), 32)...)
	r = append(le.AppendUint16(r, uint16(len(fields))), fields...)
	sig, err := leaf.key.(*signer).raw(crypto.SHA384, r)
	if err != nil {
		return nil, err
	}
	r = append(r, sig...)
	pem := chain(leaf.cert, device.cert, provisioner.cert, p.identity.cert, p.root.cert)
	return dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendArray(nil, 2), r), pem), nil
}

// appendFWID appends FWID ::= SEQUENCE { hashAlg, digest } of SHA-384.
func appendFWID(b *cryptobyte.Builder, digest []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2})
		b.AddASN1OctetString(digest)
	})
}

// compositeDevice is CompositeDeviceID of TCG DICE, as Hopper has it:
// SEQUENCE { version, device key, FWID }. The key is left empty.
func compositeDevice(fwid []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {})
		appendFWID(b, fwid)
	})
	return b.BytesOrPanic()
}

// diceTCBInfo is DiceTcbInfo of TCG DICE, as Blackwell has it.
func diceTCBInfo(fwid []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte("NVIDIA")) })
		b.AddASN1(cbasn1.Tag(3).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte{1}) })
		b.AddASN1(cbasn1.Tag(6).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { appendFWID(b, fwid) })
	})
	return b.BytesOrPanic()
}
