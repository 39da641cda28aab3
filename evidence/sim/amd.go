package sim

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Products are AMD's product lines that are simulated, each with its own root.
var Products = []string{"Milan", "Genoa", "Turin"}

// amdPKI is AMD's hierarchy for one product line.
type amdPKI struct{ ark, ask, asvk *authority }

func (w *World) makeAMD(product string) (*amdPKI, error) {
	var p amdPKI
	for _, c := range []struct {
		to *(*authority)
		cn string
	}{{&p.ark, "ARK-" + product}, {&p.ask, "SEV-" + product}, {&p.asvk, "SEV-VLEK-" + product}} {
		key, err := w.rsaKey("amd " + c.cn)
		if err != nil {
			return nil, err
		}
		path := 0
		if p.ark == nil {
			path = 1
		}
		t := w.authorityTemplate(c.cn, "amd "+c.cn, path)
		t.Subject = amdName(c.cn)
		t.SignatureAlgorithm = x509.SHA384WithRSAPSS
		if *c.to, err = issue(p.ark, t, key); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func amdName(cn string) pkix.Name {
	n := name(cn)
	n.OrganizationalUnit, n.Country, n.Locality, n.Province = []string{"Engineering"}, []string{"US"}, []string{"Santa Clara"}, []string{"CA"}
	return n
}

// SNPTCB are the security versions of AMD's firmware.
type SNPTCB struct {
	FMC        uint8 // Turin only
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// DefaultSNPTCB is what a simulated SEV-SNP machine has.
var DefaultSNPTCB = SNPTCB{FMC: 1, Bootloader: 4, SNP: 24, Microcode: 219}

// encode is TCB_VERSION of a product line (AMD 56860).
func (t SNPTCB) encode(product string) [8]byte {
	if product == "Turin" {
		return [8]byte{t.FMC, t.Bootloader, t.TEE, t.SNP, 7: t.Microcode}
	}
	return [8]byte{t.Bootloader, t.TEE, 6: t.SNP, 7: t.Microcode}
}

// SNP says what a guest of SEV-SNP is like. The zero value is one on a Milan
// machine with its chip's key, which runs the zero image.
type SNP struct {
	Name    string // of the machine: chip id and key are derived from it
	Product string // of Products; "": Milan
	Version uint32 // of the report: 2, 3 or 5; 0: 3 (5 for Turin)
	// VLEK has a key sign that AMD gave to the provider CSP ("": one of the
	// simulator's), instead of the chip's own.
	VLEK bool
	CSP  string

	Image       [32]byte
	Measurement [48]byte // zero: of Image
	HostData    [32]byte
	FamilyID    [16]byte
	ImageID     [16]byte
	IDKeyDigest [48]byte
	GuestSVN    uint32
	VMPL        uint32
	Policy      *uint64 // nil: 0x30000 (SMT allowed)
	Debug       bool    // sets the policy's bit 19
	Platform    *uint64 // PLATFORM_INFO; nil: SMT, ECC, alias check
	MaskChipID  bool    // as hosts may have it

	// TCB is what the report says (zero: DefaultSNPTCB), Certified what the
	// certificate of the key says (zero: TCB), Committed what the firmware can't go
	// back behind (zero: TCB).
	TCB, Certified, Committed SNPTCB

	NotBefore, NotAfter time.Time // of the key's certificate; zero: decades
}

// defaultCSP is whom simulated VLEKs are given to.
const defaultCSP = "CN=csp.simulator.test"

func (o SNP) defaults() (SNP, error) {
	o.Product = first(o.Product, "Milan")
	if !slices.Contains(Products, o.Product) {
		return o, fmt.Errorf("the product line %q is not simulated; want one of %v", o.Product, Products)
	}
	if o.Version == 0 {
		o.Version = 3
		if o.Product == "Turin" {
			o.Version = 5
		}
	}
	if o.Version < 2 || o.Version > 5 {
		return o, fmt.Errorf("version %d of SEV-SNP reports is not simulated; want 2 to 5", o.Version)
	}
	o.TCB = first(o.TCB, DefaultSNPTCB)
	o.Certified = first(o.Certified, o.TCB)
	o.Committed = first(o.Committed, o.TCB)
	if o.VLEK {
		o.CSP = first(o.CSP, defaultCSP)
	}
	return o, nil
}

// key is what reports of o are signed with.
func (o *SNP) key(w *World) (*signer, error) {
	if o.VLEK {
		return w.key(elliptic.P384(), fmt.Sprintf("vlek %s %q %x", o.Product, o.CSP, o.Certified.encode(o.Product)))
	}
	return w.key(elliptic.P384(), fmt.Sprintf("vcek %s %q %x", o.Product, o.Name, o.Certified.encode(o.Product)))
}

// chipID is 64 bytes; Turin uses the first 8 and leaves the rest zero.
func (o *SNP) chipID(w *World) []byte {
	id := w.bytes("chip id "+o.Name, 64)
	if o.Product == "Turin" {
		clear(id[8:])
	}
	return id
}

// SNPReport makes an attestation report of 1184 bytes (AMD 56860, table
// "ATTESTATION_REPORT structure").
func (w *World) SNPReport(reportData [64]byte, o SNP) ([]byte, error) {
	o, err := o.defaults()
	if err != nil {
		return nil, err
	}
	r := make([]byte, 1184)
	le := binary.LittleEndian
	le.PutUint32(r[0x00:], o.Version)
	le.PutUint32(r[0x04:], o.GuestSVN)
	policy := or(o.Policy, 0x30000)
	if o.Debug {
		policy |= 1 << 19
	}
	le.PutUint64(r[0x08:], policy)
	copy(r[0x10:], o.FamilyID[:])
	copy(r[0x20:], o.ImageID[:])
	le.PutUint32(r[0x30:], o.VMPL)
	le.PutUint32(r[0x34:], 1) // ECDSA P-384 with SHA-384
	reported, committed := o.TCB.encode(o.Product), o.Committed.encode(o.Product)
	copy(r[0x38:], reported[:]) // current
	platform := uint64(1<<0 | 1<<2)
	if o.Version >= 3 {
		platform |= 1 << 5
	}
	le.PutUint64(r[0x40:], or(o.Platform, platform))
	if o.VLEK {
		le.PutUint32(r[0x48:], 1<<2)
	}
	copy(r[0x50:], reportData[:])
	m := first(o.Measurement, Measure("snp.measurement", o.Image))
	copy(r[0x90:], m[:])
	copy(r[0xc0:], o.HostData[:])
	copy(r[0xe0:], o.IDKeyDigest[:])
	copy(r[0x140:], w.bytes("report id "+o.Name, 32))
	copy(r[0x160:], bytes.Repeat([]byte{0xff}, 32)) // no migration agent
	copy(r[0x180:], reported[:])
	if o.Version >= 3 {
		fms := map[string][3]byte{"Milan": {0x19, 0x01, 1}, "Genoa": {0x19, 0x11, 1}, "Turin": {0x1a, 0x02, 1}}[o.Product]
		copy(r[0x188:], fms[:])
	}
	if !o.MaskChipID {
		copy(r[0x1a0:], o.chipID(w))
	}
	copy(r[0x1e0:], committed[:])
	copy(r[0x1e8:], []byte{29, 55, 1, 0, 29, 55, 1, 0}) // current and committed firmware 1.55.29
	copy(r[0x1f0:], committed[:])                       // at launch
	key, err := o.key(w)
	if err != nil {
		return nil, err
	}
	sig, err := key.raw(crypto.SHA384, r[:0x2a0])
	if err != nil {
		return nil, err
	}
	// r and s in 72 bytes each, little endian.
	slices.Reverse(sig[:48])
	slices.Reverse(sig[48:])
	copy(r[0x2a0:], sig[:48])
	copy(r[0x2a0+72:], sig[48:])
	return r, nil
}

// SNPKey makes the certificate of the key that reports of o are signed with, a
// VCEK or VLEK, and returns it with its intermediate and root.
func (w *World) SNPKey(o SNP) ([]*x509.Certificate, error) {
	o, err := o.defaults()
	if err != nil {
		return nil, err
	}
	p, err := w.amd[o.Product]()
	if err != nil {
		return nil, err
	}
	key, err := o.key(w)
	if err != nil {
		return nil, err
	}
	cn, by, product := "SEV-VCEK", p.ask, o.Product+"-B0"
	if o.VLEK {
		cn, by, product = "SEV-VLEK", p.asvk, o.Product
	}
	t := w.template(cn, "amd key")
	t.Subject = amdName(cn)
	t.SerialNumber = new(big.Int) // as AMD has it
	t.NotBefore, t.NotAfter = first(o.NotBefore, notBefore), first(o.NotAfter, notAfter)
	t.SignatureAlgorithm = x509.SHA384WithRSAPSS
	t.KeyUsage, t.BasicConstraintsValid = 0, false

	add := func(value func(*cryptobyte.Builder), arc ...int) {
		var b cryptobyte.Builder
		value(&b)
		t.ExtraExtensions = append(t.ExtraExtensions, extension(append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...), b.BytesOrPanic()))
	}
	number := func(n uint8) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1Uint64(uint64(n)) }
	}
	text := func(s string) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.IA5String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
		}
	}
	tcb := o.Certified
	add(number(1), 1) // structure version
	add(text(product), 2)
	add(number(tcb.Bootloader), 3, 1)
	add(number(tcb.TEE), 3, 2)
	if o.Product != "Turin" {
		add(number(0), 3, 4)
	}
	for spare := 5; spare <= 7; spare++ {
		add(number(0), 3, spare)
	}
	add(number(tcb.SNP), 3, 3)
	add(number(tcb.Microcode), 3, 8)
	if o.Product == "Turin" {
		add(number(tcb.FMC), 3, 9)
	}
	if o.VLEK {
		add(text(o.CSP), 5)
	} else {
		id := o.chipID(w)
		if o.Product == "Turin" {
			id = id[:8]
		}
		add(func(b *cryptobyte.Builder) { b.AddBytes(id) }, 4) // AMD leaves out the OCTET STRING
	}
	a, err := issue(by, t, key)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{a.cert, by.cert, p.ark.cert}, nil
}

// CertificateTable makes the table that the extended guest request returns (AMD
// 56421): entries of a GUID, an offset and a length, one of zeros, and the
// certificates in DER.
func CertificateTable(certs ...*x509.Certificate) []byte {
	guid := func(cn string) []byte {
		switch {
		case cn == "SEV-VCEK":
			return unhex("63da758de6644564adc5f4b93be8accd")
		case cn == "SEV-VLEK":
			return unhex("a8074bc2a25a483eaae639c045a0b8a1")
		case len(cn) > 4 && cn[:4] == "ARK-":
			return unhex("c0b406a4a803495297433fb6014cd0ae")
		}
		return unhex("4ab7b379bbac4fe4a02f05aef327c782") // ASK or ASVK
	}
	le := binary.LittleEndian
	var table, data []byte
	at := 24 * (len(certs) + 1)
	for _, c := range certs {
		table = append(table, guid(c.Subject.CommonName)...)
		table = le.AppendUint32(table, uint32(at+len(data)))
		table = le.AppendUint32(table, uint32(len(c.Raw)))
		data = append(data, c.Raw...)
	}
	return slices.Concat(table, make([]byte, 24), data)
}

// SNPRevocations makes the CRL of a product line's root, valid from this to
// next. revoked are of the certificates that SNPKey returns.
func (w *World) SNPRevocations(product string, this, next time.Time, revoked ...*big.Int) ([]byte, error) {
	line, ok := w.amd[product]
	if !ok {
		return nil, fmt.Errorf("the product line %q is not simulated; want one of %v", product, Products)
	}
	p, err := line()
	if err != nil {
		return nil, err
	}
	return crl(p.ark, this, next, revoked)
}
