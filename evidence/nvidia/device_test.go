package nvidia

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A device is a made-up GPU with certificates like those of a real one.
type device struct {
	root, identity, provisioner, brom, leaf certificate
}

type certificate struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial int64

// issue makes a certificate under parent, or a root if parent is zero.
func issue(t testing.TB, parent certificate, subject pkix.Name, edit func(*x509.Certificate)) certificate {
	t.Helper()
	serial++
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject.Organization = []string{evidence.SimulatorOrganization}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: subject, NotBefore: testTime.Add(-time.Hour), NotAfter: testTime.Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	if edit != nil {
		edit(c)
	}
	if parent.cert == nil {
		parent = certificate{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return certificate{c, key}
}

var testFWID = sha512.Sum384([]byte("firmware"))

type fwidSequence struct {
	Alg    asn1.ObjectIdentifier
	Digest []byte
}

// compositeDevice is the extension of Hopper.
func compositeDevice(t testing.TB, fwid []byte) pkix.Extension {
	t.Helper()
	b, err := asn1.Marshal(struct {
		Version int
		Device  struct{ Alg asn1.ObjectIdentifier }
		FWID    fwidSequence
	}{1, struct{ Alg asn1.ObjectIdentifier }{oidSHA384}, fwidSequence{oidSHA384, fwid}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidCompositeDevice, Value: b}
}

// tcbInfo is the extension of Blackwell.
func tcbInfo(t testing.TB, fwid []byte) pkix.Extension {
	t.Helper()
	b, err := asn1.Marshal(struct {
		Vendor string         `asn1:"tag:0,utf8"`
		SVN    int            `asn1:"tag:3"`
		FWIDs  []fwidSequence `asn1:"tag:6"`
		Flags  asn1.BitString `asn1:"tag:7"`
	}{"NVIDIA", 1, []fwidSequence{{oidSHA384, fwid}, {oidSHA384, make([]byte, 48)}}, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidTCBInfo, Value: b}
}

func newDevice(t testing.TB, chip string, fwid ...pkix.Extension) *device {
	t.Helper()
	var d device
	d.root = issue(t, certificate{}, pkix.Name{CommonName: "Device Identity CA"}, nil)
	d.identity = issue(t, d.root, pkix.Name{CommonName: "NVIDIA GH100 Identity"}, nil)
	d.provisioner = issue(t, d.identity, pkix.Name{CommonName: "NVIDIA " + chip + " Provisioner ICA 1"}, nil)
	d.brom = issue(t, d.provisioner, pkix.Name{CommonName: chip + " A01 GSP BROM", SerialNumber: "41431D480FE5E87274"}, nil)
	d.leaf = issue(t, d.brom, pkix.Name{CommonName: chip + " A01 GSP FMC LF"}, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtraExtensions = false, x509.KeyUsageDigitalSignature, fwid
	})
	return &d
}

func (d *device) certs() []*x509.Certificate {
	return []*x509.Certificate{d.leaf.cert, d.brom.cert, d.provisioner.cert, d.identity.cert, d.root.cert}
}

func (d *device) chain() (text []byte) {
	for _, c := range d.certs() {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func (d *device) trust(t testing.TB, endorsements ...evidence.Item) *evidence.Trust {
	t.Helper()
	s, err := evidence.NewSimulator(evidence.Anchors{NVIDIA: []*x509.Certificate{d.root.cert}})
	if err != nil {
		t.Fatal(err)
	}
	return &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: s, Now: testTime, Endorsements: endorsements}
}

type field struct {
	kind  uint16
	value []byte
}

func fields(fs ...field) (b []byte) {
	for _, f := range fs {
		b = binary.LittleEndian.AppendUint16(b, f.kind)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f.value)))
		b = append(b, f.value...)
	}
	return b
}

func block(index byte, value []byte) []byte {
	b := []byte{index, 1, byte(len(value) + 3), 0, 1, byte(len(value)), 0}
	return append(b, value...)
}

// report makes a signed report from its parts.
func (d *device) report(t testing.TB, n byte, blocks, opaque []byte) []byte {
	t.Helper()
	b := []byte{0x11, 0xe0, 1, 0xff}
	for i := range 32 {
		b = append(b, byte(i))
	}
	b = append(b, 0, 0x11, 0x60, 0, 0, n, byte(len(blocks)), byte(len(blocks)>>8), 0)
	b = append(b, blocks...)
	b = append(b, make([]byte, 32)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(opaque)))
	b = append(b, opaque...)
	return d.sign(t, b)
}

func (d *device) sign(t testing.TB, b []byte) []byte {
	t.Helper()
	digest := sha512.Sum384(b)
	r, s, err := ecdsa.Sign(rand.Reader, d.leaf.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(b, append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)...)
}
