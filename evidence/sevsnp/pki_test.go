package sevsnp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	sevtest "github.com/google/go-sev-guest/testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/vendor"
)

var may = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)

// A pki is a hierarchy like AMD's, for one product line. The RSA keys are those
// of the library's tests: making such keys takes seconds.
type pki struct {
	product        string
	ark, ask, asvk *x509.Certificate
	keys           *sevtest.AmdKeys
	leaf           *ecdsa.PrivateKey
}

var leafKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func newPKI(t testing.TB, product, organization string) *pki {
	t.Helper()
	p := &pki{product: product, keys: sevtest.DefaultAmdKeys(), leaf: leafKey()}
	ca := func(cn string, serial int64, parent *x509.Certificate, key *rsa.PrivateKey, signer *rsa.PrivateKey) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: amdName(cn, organization),
			NotBefore: may.AddDate(-1, 0, 0), NotAfter: may.AddDate(10, 0, 0),
			SignatureAlgorithm: x509.SHA384WithRSAPSS, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if parent == nil {
			parent = c
		}
		return create(t, c, parent, &key.PublicKey, signer)
	}
	p.ark = ca("ARK-"+product, 1, nil, p.keys.Ark, p.keys.Ark)
	p.ask = ca("SEV-"+product, 2, p.ark, p.keys.Ask, p.keys.Ark)
	p.asvk = ca("SEV-VLEK-"+product, 3, p.ark, p.keys.Asvk, p.keys.Ark)
	return p
}

func amdName(cn, organization string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{organization}, OrganizationalUnit: []string{"Engineering"}, Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}}
}

func create(t testing.TB, c, parent *x509.Certificate, public, signer any) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A leaf says how an endorsement key's certificate is to be made.
type leaf struct {
	vlek     bool
	name     string // product name
	tcb      TCB
	hwid     []byte // nil: chip
	csp      string
	from, to time.Time
	turin    bool                         // the extensions of Turin whatever the line
	drop     []int                        // arcs of security versions to leave out
	also     []pkix.Extension             // beside AMD's
	edit     func(c *x509.Certificate)    // last, before signing
	signer   *rsa.PrivateKey              // nil: that of the intermediate
	parent   func(*pki) *x509.Certificate // nil: ASK or ASVK
}

var (
	chip     = []byte(strings.Repeat("chip-id.", 8))
	someTCB  = TCB{Bootloader: 4, SNP: 24, Microcode: 217}
	turinTCB = TCB{FMC: 1, Bootloader: 2, TEE: 1, SNP: 3, Microcode: 70}
)

func (p *pki) line() TCB {
	if p.product == Turin {
		return turinTCB
	}
	return someTCB
}

func (p *pki) certify(t testing.TB, l leaf) *x509.Certificate {
	t.Helper()
	ext := func(value []byte, arc ...int) pkix.Extension {
		return pkix.Extension{Id: append(slices.Clone(amdArc), arc...), Value: value}
	}
	der := func(v any, params string) []byte {
		b, err := asn1.MarshalWithParams(v, params)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if l.name == "" {
		l.name = p.product + map[bool]string{false: "-B0"}[l.vlek]
	}
	if l.tcb == (TCB{}) {
		l.tcb = p.line()
	}
	if l.hwid == nil {
		l.hwid = chip
		if p.product == Turin {
			l.hwid = chip[:8]
		}
	}
	exts := []pkix.Extension{ext(der(0, ""), 1), ext(der(l.name, "ia5"), 2)}
	spl := map[int]uint8{splBootloader: l.tcb.Bootloader, splTEE: l.tcb.TEE, splSNP: l.tcb.SNP, 4: 0, 5: 0, 6: 0, 7: 0, splMicrocode: l.tcb.Microcode}
	if l.turin || p.product == Turin {
		delete(spl, 4)
		spl[splFMC] = l.tcb.FMC
	}
	for arc := 1; arc <= 9; arc++ {
		if n, ok := spl[arc]; ok && !slices.Contains(l.drop, arc) {
			exts = append(exts, ext(der(int(n), ""), 3, arc))
		}
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: amdName("SEV-VCEK", p.ark.Subject.Organization[0]),
		NotBefore: may.AddDate(0, -1, 0), NotAfter: may.AddDate(7, 0, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	parent, signer := p.ask, p.keys.Ask
	if l.vlek {
		c.Subject.CommonName = "SEV-VLEK"
		parent, signer = p.asvk, p.keys.Asvk
		if l.csp == "" {
			l.csp = "CN=cc.example"
		}
	} else {
		exts = append(exts, ext(l.hwid, 4))
	}
	if l.csp != "" && l.csp != "-" {
		exts = append(exts, ext(der(l.csp, "ia5"), 5))
	}
	if !l.from.IsZero() {
		c.NotBefore, c.NotAfter = l.from, l.to
	}
	c.ExtraExtensions = append(exts, l.also...)
	if l.edit != nil {
		l.edit(c)
	}
	if l.signer != nil {
		signer = l.signer
	}
	if l.parent != nil {
		parent = l.parent(p)
	}
	return create(t, c, parent, &p.leaf.PublicKey, signer)
}

// report makes a report that is in order, changes it, and signs it.
func (p *pki) report(t testing.TB, change func(raw []byte)) []byte {
	t.Helper()
	raw := make([]byte, ReportSize)
	le := binary.LittleEndian
	le.PutUint32(raw[0x00:], 3)
	le.PutUint64(raw[0x08:], 1<<17|policySMT)
	le.PutUint32(raw[0x34:], abi.SignEcdsaP384Sha384)
	le.PutUint64(raw[0x40:], platformSMT|platformECC|platformAliasCheck)
	for i := range 64 {
		raw[0x50+i] = byte(i)
	}
	copy(raw[0x90:], strings.Repeat("measured", 6))
	tcb := p.line().Encode(p.product)
	for _, at := range []int{0x38, 0x180, 0x1E0, 0x1F0} {
		copy(raw[at:], tcb[:])
	}
	fms := map[string][3]byte{Milan: {0x19, 0x01, 1}, Genoa: {0x19, 0x11, 1}, Turin: {0x1A, 0x02, 1}}[p.product]
	copy(raw[0x188:], fms[:])
	copy(raw[0x1A0:], chip)
	copy(raw[0x1E8:], []byte{29, 55, 1, 0, 29, 55, 1, 0})
	if change != nil {
		change(raw)
	}
	p.sign(t, raw)
	return raw
}

func (p *pki) sign(t testing.TB, raw []byte) {
	t.Helper()
	sum := sha512.Sum384(raw[:0x2A0])
	r, s, err := ecdsa.Sign(rand.Reader, p.leaf, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := abi.SetSignature(r, s, raw); err != nil {
		t.Fatal(err)
	}
}

func (p *pki) anchors() evidence.Anchors {
	return evidence.Anchors{AMD: []evidence.AMDChain{{Product: p.product, ARK: p.ark, ASK: []*x509.Certificate{p.ask, p.asvk}}}}
}

// simulator trusts p as a simulator.
func (p *pki) simulator(t testing.TB) *evidence.Simulator {
	t.Helper()
	s, err := evidence.NewSimulator(p.anchors())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// trust trusts p, with these certificates stapled.
func (p *pki) trust(t testing.TB, certs ...*x509.Certificate) *evidence.Trust {
	tr := &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: p.simulator(t), Now: may}
	for _, c := range certs {
		tr.Endorsements = append(tr.Endorsements, evidence.Item{MediaType: evidence.TypeCertificates, Value: c.Raw})
	}
	return tr
}

// amdAnchors are the roots that ship with this module.
var amdAnchors = sync.OnceValue(vendor.Anchors)

// amd trusts AMD's real roots.
func amd(now time.Time, certs ...[]byte) *evidence.Trust {
	tr := &evidence.Trust{Anchors: amdAnchors(), Now: now}
	for _, c := range certs {
		tr.Endorsements = append(tr.Endorsements, evidence.Item{MediaType: evidence.TypeCertificates, Value: c})
	}
	return tr
}

func toPEM(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func hardware(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../testdata/hardware/sevsnp", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// library reads a file of go-sev-guest's own tests.
func library(t testing.TB, name string) []byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-sev-guest").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
