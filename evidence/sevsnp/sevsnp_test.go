package sevsnp

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/validate"

	"github.com/trustedmcp/tmcp/evidence"
)

const sim = evidence.SimulatorOrganization

// TestRefusals: from evidence that is accepted, one change at a time leads to the
// failure of the check that is there for it.
func TestRefusals(t *testing.T) {
	p := newPKI(t, Milan, sim)
	put32 := func(at int, v uint32) func([]byte) {
		return func(raw []byte) { binary.LittleEndian.PutUint32(raw[at:], v) }
	}
	put64 := func(at int, v uint64) func([]byte) {
		return func(raw []byte) { binary.LittleEndian.PutUint64(raw[at:], v) }
	}
	put := func(at int, b ...byte) func([]byte) { return func(raw []byte) { copy(raw[at:], b) } }
	vlek := put32(0x48, 1<<2)
	for _, tt := range []struct {
		name    string
		report  func(raw []byte)
		leaf    leaf
		opts    Options
		after   func(raw []byte) // once it is signed
		trust   func(*evidence.Trust)
		failed  string
		warned  string
		claimed bool
	}{
		{name: "as it is", claimed: true},
		{name: "VLEK", report: vlek, leaf: leaf{vlek: true}, claimed: true},
		{name: "VLEK of the right provider", report: vlek, leaf: leaf{vlek: true}, opts: Options{CSPs: []string{"CN=a", "CN=cc.example"}}, claimed: true},
		{name: "VLEK of another provider", report: vlek, leaf: leaf{vlek: true}, opts: Options{CSPs: []string{"CN=a"}}, failed: "csp-id", claimed: true},
		{name: "version 2", report: func(raw []byte) { put32(0, 2)(raw); put(0x188, 0, 0, 0)(raw) }, claimed: true},
		{name: "version 5", report: func(raw []byte) { put32(0, 5)(raw); put64(0x1F8, 3)(raw) }, claimed: true},

		{name: "version 1", report: put32(0, 1), failed: "report-structure"},
		{name: "version 6", report: put32(0, 6), failed: "report-structure"},
		{name: "mitigation vector in version 3", report: put64(0x1F8, 1), failed: "report-structure"},
		{name: "stepping beyond its bits", report: put(0x18A, 0x10), failed: "report-structure"},
		{name: "reserved policy bit", report: put64(8, 1<<17|1<<16|1<<40), failed: "report-structure"},
		{name: "signature algorithm", report: put32(0x34, 2), failed: "signature-algorithm"},
		{name: "signed by nobody", report: put32(0x48, 7<<2), failed: "signing-key endorsement-key"},
		{name: "says VLEK, is VCEK", report: vlek, failed: "endorsement-key"},

		{name: "signature of other bytes", after: put(0x50, 'x'), failed: "signature"},
		{name: "zero signature", after: put(0x2A0, make([]byte, 144)...), failed: "signature"},

		{name: "chip of another", report: put(0x1A0, 'C'), failed: "chip-id", claimed: true},
		{name: "chip masked", report: put(0x1A0, make([]byte, 64)...), warned: "chip-id", claimed: true},
		{name: "N17: the report claims more than its key", report: put(0x180+6, 25), failed: "tcb-endorsed tcb-order", warned: "launch-tcb", claimed: true},
		{name: "N17: all of the report claims more than its key", report: func(raw []byte) {
			for _, at := range []int{0x38, 0x180, 0x1E0, 0x1F0} {
				raw[at+7]++
			}
		}, failed: "tcb-endorsed", claimed: true},
		{name: "the report claims less than its key", report: put(0x180+6, 23), failed: "tcb-endorsed", claimed: true},
		{name: "reserved TCB byte", report: put(0x180+3, 1), failed: "tcb-endorsed", claimed: true},

		{name: "family of another line", report: put(0x188, 0x19, 0x11), failed: "product", claimed: true},
		{name: "family of the future", report: put(0x188, 0x1C, 0), failed: "product", claimed: true},
		{name: "product name of another line", leaf: leaf{name: "Genoa-B0"}, failed: "product", claimed: true},
		{name: "layout of another line", report: func(raw []byte) { tcb := turinTCB.Encode(Turin); copy(raw[0x180:], tcb[:]) }, leaf: leaf{turin: true, tcb: turinTCB, hwid: chip[:8]}, failed: "product tcb-order", warned: "launch-tcb", claimed: true},
		{name: "product name of no line", leaf: leaf{name: "Rome-A0"}, failed: "product", claimed: true},

		{name: "current below committed", report: put(0x38+7, 216), failed: "tcb-order", warned: "firmware-committed", claimed: true},
		{name: "current below committed only", report: func(raw []byte) { raw[0x1E0+7]++ }, failed: "tcb-order", warned: "firmware-committed", claimed: true},
		{name: "current below reported only", report: func(raw []byte) { raw[0x38+7]--; raw[0x1E0+7]-- }, failed: "tcb-order", claimed: true},
		{name: "S5: provisional firmware", report: put(0x38+7, 218), warned: "firmware-committed", claimed: true},
		{name: "S5: provisional build", report: put(0x1E8, 30), warned: "firmware-committed", claimed: true},
		{name: "launched under older firmware", report: put(0x1F0+6, 23), warned: "launch-tcb", claimed: true},

		{name: "minimum met", opts: Options{MinimumTCB: map[string]TCB{Milan: someTCB}}, claimed: true},
		{name: "minimum not met", opts: Options{MinimumTCB: map[string]TCB{Milan: {SNP: 25}}}, failed: "tcb-minimum", claimed: true},
		{name: "minimum of another line", opts: Options{MinimumTCB: map[string]TCB{Genoa: {}}}, failed: "tcb-minimum", claimed: true},

		{name: "debug", report: put64(8, 1<<17|policySMT|policyDebug), failed: "debug", claimed: true},
		{name: "debug allowed", report: put64(8, 1<<17|policySMT|policyDebug), opts: Options{AllowDebug: true}, warned: "debug", claimed: true},
		{name: "migration agent", report: put64(8, 1<<17|policySMT|policyMigrationAgent), warned: "guest-policy", claimed: true},
		{name: "SMT against the policy", report: put64(8, 1<<17), failed: "platform-info", claimed: true},
		{name: "RAPL against the policy", report: put64(8, 1<<17|policySMT|policyRAPLDisabled), failed: "platform-info", claimed: true},
		{name: "no ciphertext hiding against the policy", report: put64(8, 1<<17|policySMT|policyCiphertextHiding), failed: "platform-info", claimed: true},
		{name: "all that the policy asks for", report: func(raw []byte) {
			put64(8, 1<<17|policyRAPLDisabled|policyCiphertextHiding)(raw)
			put64(0x40, platformRAPLDisabled|platformCiphertextHiding|platformAliasCheck)(raw)
		}, claimed: true},
		{name: "platform bit of the future", report: put64(0x40, platformSMT|platformAliasCheck|1<<8), warned: "platform-info", claimed: true},
		{name: "IOMMU and TIO", report: put64(0x40, platformAliasCheck|platformIOMMUWriteSafe|platformTIO), claimed: true},
		{name: "no alias check", report: put64(0x40, platformSMT), warned: "alias-check", claimed: true},
		{name: "privilege level 3", report: put32(0x30, 3), claimed: true},
		{name: "the host's report", report: put32(0x30, 0xFFFFFFFF), failed: "vmpl", claimed: true},

		{name: "certificate expired", leaf: leaf{from: may.AddDate(-1, 0, 0), to: may.Add(-time.Second)}, failed: "endorsement-validity", claimed: true},
		{name: "certificate in its last second", leaf: leaf{from: may.AddDate(-1, 0, 0), to: may}, claimed: true},
		{name: "certificate of the future", leaf: leaf{from: may.Add(time.Second), to: may.AddDate(1, 0, 0)}, failed: "endorsement-validity", claimed: true},
		{name: "signed by another key", leaf: leaf{signer: p.keys.Asvk, parent: func(p *pki) *x509.Certificate {
			c := *p.ask
			c.PublicKey = &p.keys.Asvk.PublicKey
			return &c
		}}, failed: "endorsement-chain"},
		{name: "VCEK under the intermediate for VLEKs", leaf: leaf{signer: p.keys.Asvk, parent: func(p *pki) *x509.Certificate { return p.asvk }}, failed: "endorsement-chain"},
		{name: "issuer of another name", leaf: leaf{parent: func(p *pki) *x509.Certificate {
			c := *p.ask
			c.RawSubject = p.ark.RawSubject
			return &c
		}}, failed: "endorsement-chain"},
		{name: "VCEK under the root", leaf: leaf{signer: p.keys.Ark, parent: func(p *pki) *x509.Certificate { return p.ark }}, failed: "endorsement-chain"},
		{name: "other signature algorithm", leaf: leaf{edit: func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }}, failed: "endorsement-key"},
		{name: "critical extension", leaf: leaf{also: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}}, failed: "endorsement-key"},
		{name: "no microcode version", leaf: leaf{drop: []int{splMicrocode}}, failed: "endorsement-key"},
		{name: "VCEK with a provider", leaf: leaf{csp: "CN=x"}, failed: "endorsement-key"},
		{name: "VLEK with a HWID", report: vlek, leaf: leaf{vlek: true, also: []pkix.Extension{{Id: append(slices.Clone(amdArc), 4), Value: chip}}}, failed: "endorsement-key"},
		{name: "VLEK of nobody", report: vlek, leaf: leaf{vlek: true, csp: "-"}, failed: "endorsement-key"},
		{name: "short HWID", leaf: leaf{hwid: chip[:63]}, failed: "endorsement-key"},
		{name: "HWID of Turin", leaf: leaf{hwid: chip[:8]}, failed: "endorsement-key"},
		{name: "HWID with a tag", leaf: leaf{hwid: append([]byte{4, 64}, chip...)}, claimed: true},

		{name: "no time", trust: func(t *evidence.Trust) { t.Now = time.Time{} }, failed: "inputs"},
		{name: "no anchors", trust: func(t *evidence.Trust) { t.Anchors = nil }, failed: "inputs"},
		{name: "N20: the simulator's root as a vendor's", trust: func(t *evidence.Trust) { a := p.anchors(); t.Anchors = &a }, failed: "inputs"},
		{name: "N20: no simulator trusted", trust: func(t *evidence.Trust) { t.Simulator = nil }, failed: "endorsement-chain"},
		{name: "N22: other vendor's roots only", trust: func(t *evidence.Trust) { t.Simulator, t.Anchors = nil, amdAnchors() }, failed: "endorsement-chain"},
		{name: "certificate not stapled", trust: func(t *evidence.Trust) { t.Endorsements = nil }, failed: "endorsement-key"},
		{name: "certificate under another media type", trust: func(t *evidence.Trust) { t.Endorsements[0].MediaType = evidence.TypeOCSP }, failed: "endorsement-key"},
		{name: "huge endorsement", trust: func(t *evidence.Trust) {
			t.Endorsements[0].Value = append(make([]byte, maxItem), t.Endorsements[0].Value...)
		}, failed: "endorsement-key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := p.report(t, tt.report)
			if tt.after != nil {
				tt.after(raw)
			}
			tr := p.trust(t, p.certify(t, tt.leaf))
			if tt.trust != nil {
				tt.trust(tr)
			}
			r := New(tt.opts).Verify(evidence.TypeSNP, raw, tr)
			if failed(r) != tt.failed || warned(r) != tt.warned {
				t.Errorf("failed %q, warned %q, want %q, %q: %+v", failed(r), warned(r), tt.failed, tt.warned, r.Checks)
			}
			if (r.Verified() != nil) != tt.claimed || r.Accepted() != (tt.failed == "") {
				t.Errorf("claims: %v, accepted: %v", r.Verified() != nil, r.Accepted())
			}
			if v := r.Verified(); v != nil {
				c := v.Claims()
				if !c.Simulated || !bytes.Equal(c.ReportData, raw[0x50:0x90]) || c.Debug != (raw[10]&8 != 0) {
					t.Errorf("claims %+v", c)
				}
				if !tt.leaf.vlek && len(tt.leaf.hwid) == 0 && tt.failed != "chip-id" && !bytes.Equal(c.Platform, chip) {
					t.Errorf("platform %q", c.Platform)
				}
			}
			for _, c := range r.Checks {
				if c.Name == "" || c.Outcome == evidence.Fail && c.Detail == "" {
					t.Errorf("check %+v says nothing", c)
				}
			}
		})
	}
	if r := New(Options{}).Verify(evidence.TypeTDX, p.report(t, nil), p.trust(t)); failed(r) != "inputs" {
		t.Errorf("a TDX quote: failed %q", failed(r))
	}
	if r := New(Options{}).Verify(evidence.TypeSNP, nil, nil); failed(r) != "inputs" {
		t.Errorf("no trust: failed %q", failed(r))
	}
}

// TestTCB: a status is given only when there is a minimum to give it by, and
// only for a TCB that the certificate vouches for.
func TestTCB(t *testing.T) {
	p := newPKI(t, Milan, sim)
	tr := p.trust(t, p.certify(t, leaf{}))
	verify := func(o Options, change func([]byte)) *evidence.TCB {
		return New(o).Verify(evidence.TypeSNP, p.report(t, change), tr).TCB
	}
	if got := verify(Options{}, nil); got != nil {
		t.Errorf("without a minimum: %+v", got)
	}
	if got := verify(Options{MinimumTCB: map[string]TCB{Milan: someTCB}}, nil); got == nil || got.Status != evidence.UpToDate || len(got.Parts) != 4 {
		t.Errorf("at the minimum: %+v", got)
	}
	got := verify(Options{MinimumTCB: map[string]TCB{Milan: {Bootloader: 4, SNP: 25}}}, nil)
	if got == nil || got.Status != evidence.OutOfDate || got.Parts[2].Name != "snp" || got.Parts[2].Status != evidence.OutOfDate || got.Parts[0].Status != evidence.UpToDate {
		t.Errorf("below the minimum: %+v", got)
	}
	if got := verify(Options{MinimumTCB: map[string]TCB{Milan: someTCB}}, func(raw []byte) { raw[0x187]++ }); got != nil {
		t.Errorf("when report and certificate differ: %+v", got)
	}
}

// TestProducts: S3. Bergamo and Siena are of the line Genoa, and Turin Dense of
// Turin. The library calls them unknown.
func TestProducts(t *testing.T) {
	for _, tt := range []struct {
		family, model uint8
		want, library string
		name          string
	}{
		{0x19, 0x01, Milan, Milan, "Milan-B1"},
		{0x19, 0x0F, Milan, "Unknown", "Milan-B0"},
		{0x19, 0x11, Genoa, Genoa, "Genoa-B2"},
		{0x19, 0xA0, Genoa, "Unknown", "Bergamo-A1"},
		{0x19, 0xA0, Genoa, "Unknown", "Siena-A1"},
		{0x19, 0xAF, Genoa, "Unknown", "Genoa-B1"},
		{0x1A, 0x02, Turin, Turin, "Turin-C1"},
		{0x1A, 0x11, Turin, "Unknown", "Turin-B0"},
		{0x19, 0x20, "", "Unknown", ""},
		{0x19, 0x50, "", "Unknown", ""},
		{0x1A, 0x20, "", "Unknown", ""},
		{0x17, 0x31, "", "Unknown", ""},
	} {
		if got := Product(tt.family, tt.model); got != tt.want {
			t.Errorf("%#x/%#x is %q, want %q", tt.family, tt.model, got, tt.want)
		}
		if got := kds.ProductLineFromFms(abi.FmsToCpuid1Eax(tt.family, tt.model, 0)); got != tt.library {
			t.Errorf("go-sev-guest knows %#x/%#x as %q now", tt.family, tt.model, got)
		}
		if tt.want == "" {
			continue
		}
		p := newPKI(t, tt.want, sim)
		raw := p.report(t, func(raw []byte) { raw[0x188], raw[0x189] = tt.family, tt.model })
		r := New(Options{MinimumTCB: map[string]TCB{tt.want: p.line()}}).Verify(evidence.TypeSNP, raw, p.trust(t, p.certify(t, leaf{name: tt.name})))
		if !r.Accepted() || r.TCB == nil || r.TCB.Status != evidence.UpToDate || r.Verified().Claims().Values["snp.product"] != tt.want {
			t.Errorf("%#x/%#x, %s: %v", tt.family, tt.model, tt.name, r.Checks.Failed())
		}
	}
}

// TestTurin: the TCB of Turin has another layout, and its HWID 8 bytes. The
// library refuses its certificates.
func TestTurin(t *testing.T) {
	p := newPKI(t, Turin, sim)
	cert := p.certify(t, leaf{})
	v := New(Options{MinimumTCB: map[string]TCB{Turin: {FMC: 2}}})
	r := v.Verify(evidence.TypeSNP, p.report(t, nil), p.trust(t, cert))
	if failed(r) != "tcb-minimum" || r.TCB == nil || r.TCB.Parts[0].Name != "fmc" || r.TCB.Parts[0].Status != evidence.OutOfDate {
		t.Errorf("FMC below the minimum: failed %q, %+v", failed(r), r.TCB)
	}
	r = New(Options{}).Verify(evidence.TypeSNP, p.report(t, func(raw []byte) { raw[0x180]++ }), p.trust(t, cert))
	if failed(r) != "tcb-endorsed tcb-order" {
		t.Errorf("FMC that the key is not for: failed %q", failed(r))
	}
	r = New(Options{}).Verify(evidence.TypeSNP, p.report(t, nil), p.trust(t, p.certify(t, leaf{drop: []int{splFMC}})))
	if failed(r) != "endorsement-key" {
		t.Errorf("no FMC: failed %q", failed(r))
	}
	r = New(Options{}).Verify(evidence.TypeSNP, p.report(t, func(raw []byte) { raw[0x1A0+7]++ }), p.trust(t, cert))
	if failed(r) != "chip-id" {
		t.Errorf("another chip: failed %q", failed(r))
	}
	if _, err := kds.VcekCertificateExtensions(cert); err == nil {
		t.Error("go-sev-guest reads Turin's certificates now")
	}
	if got := DecodeTCB(Turin, turinTCB.Encode(Turin)); got != turinTCB {
		t.Errorf("%v came back as %v", turinTCB, got)
	}
	if got := turinTCB.Encode(Turin); got != [8]byte{1, 2, 1, 3, 0, 0, 0, 70} {
		t.Errorf("Turin's TCB is %x", got)
	}
	if got := someTCB.Encode(Genoa); got != [8]byte{4, 0, 0, 0, 0, 0, 24, 217} || DecodeTCB(Genoa, got) != someTCB {
		t.Errorf("Genoa's TCB is %x", got)
	}
}

// TestForgedRoot: S1. A whole hierarchy with AMD's names, made by somebody else,
// is refused, whichever way its certificates come.
func TestForgedRoot(t *testing.T) {
	p := newPKI(t, Milan, "Advanced Micro Devices")
	vcek, raw := p.certify(t, leaf{}), p.report(t, nil)
	table := (&abi.CertTable{Entries: []abi.CertTableEntry{
		{GUID: [16]byte(guidVCEK), RawCert: vcek.Raw}, {GUID: [16]byte(guidASK), RawCert: p.ask.Raw}, {GUID: [16]byte(guidARK), RawCert: p.ark.Raw},
	}}).Marshal()
	for name, tt := range map[string]struct {
		report []byte
		trust  *evidence.Trust
		failed string
	}{
		"stapled": {raw, amd(may, toPEM(vcek, p.ask, p.ark)), "endorsement-chain"},
		"table":   {append(slices.Clone(raw), table...), amd(may), "certificate-table endorsement-chain"},
	} {
		r := New(Options{}).Verify(evidence.TypeSNP, tt.report, tt.trust)
		if r.Accepted() || r.Verified() != nil || failed(r) != tt.failed {
			t.Errorf("%s: accepted %v, failed %q, want %q", name, r.Accepted(), failed(r), tt.failed)
		}
	}
	// It is good but for its root.
	a := p.anchors()
	if r := New(Options{}).Verify(evidence.TypeSNP, raw, &evidence.Trust{Anchors: &a, Now: may, Endorsements: amd(may, vcek.Raw).Endorsements}); !r.Accepted() || r.Verified().Claims().Simulated {
		t.Errorf("under its own root: %v", r.Checks.Failed())
	}
}

// TestForeignIntermediate: an intermediate that is pinned, but that the pinned
// root did not sign, is no chain.
func TestForeignIntermediate(t *testing.T) {
	p, q := newPKI(t, Milan, sim), newPKI(t, Genoa, sim)
	vcek := p.certify(t, leaf{})
	mixed := p.anchors()
	mixed.AMD[0].ARK = q.certify(t, leaf{}) // whatever it is, it signed nothing
	s, err := evidence.NewSimulator(mixed)
	if err != nil {
		t.Fatal(err)
	}
	tr := p.trust(t, vcek)
	tr.Simulator = s
	if r := New(Options{}).Verify(evidence.TypeSNP, p.report(t, nil), tr); failed(r) != "endorsement-chain" || r.Verified() != nil {
		t.Errorf("failed %q", failed(r))
	}
}

// TestProvisional: S5. The library's policy refuses provisional firmware and a
// debug policy unless told; ours are named checks.
func TestProvisional(t *testing.T) {
	report := hardware(t, "milan-v2-vcek.report")
	p, err := abi.ReportToProto(report)
	if err != nil {
		t.Fatal(err)
	}
	cert := hardware(t, "milan-v2.vcek.der")
	policy := abi.SnpPolicy{SMT: true, ABIMinor: 31}
	o := &validate.Options{GuestPolicy: policy, PlatformInfo: &abi.SnpPlatformInfo{SMTEnabled: true}}
	if err := validate.SnpAttestation(attestation(p, cert), o); err == nil || !strings.Contains(err.Error(), "TCB") {
		t.Errorf("go-sev-guest takes provisional firmware: %v", err)
	}
	o.PermitProvisionalFirmware = true
	if err := validate.SnpAttestation(attestation(p, cert), o); err != nil {
		t.Error(err)
	}
	r := New(Options{}).Verify(evidence.TypeSNP, report, amd(may, cert))
	if c, _ := r.Checks.Find("firmware-committed"); c.Outcome != evidence.Warn || !strings.Contains(c.Detail, "microcode 206") {
		t.Errorf("got %+v", c)
	}
}

// TestRevocation: a CRL of the root counts when it is current, and a revoked
// intermediate even when it is not.
// TMCP-18.6-11: A verifier MUST NOT report a check as passed that it did not perform.
func TestRevocation(t *testing.T) {
	p := newPKI(t, Milan, sim)
	other := newPKI(t, Genoa, sim)
	vcek, raw := p.certify(t, leaf{}), p.report(t, nil)
	crl := func(by *pki, from, to time.Time, serials ...int64) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: to, SignatureAlgorithm: x509.SHA384WithRSAPSS}
		for _, s := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: from})
		}
		b, err := x509.CreateRevocationList(rand.Reader, l, by.ark, by.keys.Ark)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	day := 24 * time.Hour
	changed := crl(p, may.Add(-day), may.Add(day))
	changed[len(changed)-1] ^= 1
	for name, tt := range map[string]struct {
		crl  []byte
		want evidence.Outcome
	}{
		"none":                {nil, evidence.NotPerformed},
		"current":             {crl(p, may.Add(-day), may.Add(day), 7), evidence.Pass},
		"revoked":             {crl(p, may.Add(-day), may.Add(day), 7, 2), evidence.Fail},
		"ASVK revoked":        {crl(p, may.Add(-day), may.Add(day), 3), evidence.Pass},
		"expired":             {crl(p, may.Add(-2*day), may), evidence.NotPerformed},
		"expired, revoked":    {crl(p, may.Add(-2*day), may.Add(-day), 2), evidence.Fail},
		"of the future":       {crl(p, may.Add(time.Second), may.Add(day)), evidence.NotPerformed},
		"of another root":     {crl(other, may.Add(-day), may.Add(day), 2), evidence.NotPerformed},
		"signature changed":   {changed, evidence.NotPerformed},
		"junk":                {[]byte("junk"), evidence.NotPerformed},
		"longer than we read": {append(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl(p, may.Add(-day), may.Add(day), 2)}), make([]byte, maxItem)...), evidence.NotPerformed},
	} {
		v := New(Options{})
		tr := p.trust(t, vcek)
		if tt.crl != nil {
			tr.Endorsements = append(tr.Endorsements, evidence.Item{MediaType: evidence.TypeCRL, Value: tt.crl})
		}
		table := append(slices.Clone(raw), (&abi.CertTable{Entries: []abi.CertTableEntry{{GUID: [16]byte(guidVCEK), RawCert: vcek.Raw}, {GUID: [16]byte(guidCRL), RawCert: tt.crl}}}).Marshal()...)
		for i := range 2 { // the second time from the cache
			r := v.Verify(evidence.TypeSNP, raw, tr)
			c, _ := r.Checks.Find("revocation")
			if c.Outcome != tt.want || r.Accepted() != (tt.want != evidence.Fail) || (r.Verified() == nil) != (tt.want == evidence.Fail) {
				t.Errorf("%s, time %d: %+v, accepted %v", name, i+1, c, r.Accepted())
			}
			if tt.want == evidence.Pass && !r.Verified().Claims().NotAfter.Equal(may.Add(day)) {
				t.Errorf("%s: the verdict holds until %v", name, r.Verified().Claims().NotAfter)
			}
		}
		if tt.crl == nil {
			continue
		}
		r := v.Verify(evidence.TypeSNP, table, p.trust(t))
		if c, _ := r.Checks.Find("revocation"); c.Outcome != tt.want {
			t.Errorf("%s, in the table: %+v", name, c)
		}
	}
}

// TestCache: what was verified once is judged again by time and by whom one
// trusts, and no more is kept than was allowed.
func TestCache(t *testing.T) {
	p := newPKI(t, Milan, sim)
	v := New(Options{Cache: 2})
	cert, raw := p.certify(t, leaf{}), p.report(t, nil)
	tr := p.trust(t, cert)
	for range 2 {
		if r := v.Verify(evidence.TypeSNP, raw, tr); !r.Accepted() {
			t.Fatal(r.Checks.Failed())
		}
	}
	if n := v.keys.Len(); n != 1 {
		t.Errorf("%d keys are held, want 1", n)
	}
	late := *tr
	late.Now = may.AddDate(8, 0, 0)
	if r := v.Verify(evidence.TypeSNP, raw, &late); failed(r) != "endorsement-validity" {
		t.Errorf("years later: failed %q", failed(r))
	}
	strict := *tr
	strict.Simulator = nil
	if r := v.Verify(evidence.TypeSNP, raw, &strict); failed(r) != "endorsement-chain" || r.Verified() != nil {
		t.Errorf("without the simulator: failed %q", failed(r))
	}
	renamed := p.anchors()
	renamed.AMD[0].Product = Genoa
	s, err := evidence.NewSimulator(renamed)
	if err != nil {
		t.Fatal(err)
	}
	moved := *tr
	moved.Simulator = s
	if r := v.Verify(evidence.TypeSNP, raw, &moved); failed(r) != "product" {
		t.Errorf("the same root for another line: failed %q", failed(r))
	}
	for range 4 {
		if r := v.Verify(evidence.TypeSNP, raw, p.trust(t, p.certify(t, leaf{}))); !r.Accepted() {
			t.Fatal(r.Checks.Failed())
		}
	}
	bad := p.certify(t, leaf{signer: p.keys.Asvk, parent: func(p *pki) *x509.Certificate {
		c := *p.ask
		c.PublicKey = &p.keys.Asvk.PublicKey
		return &c
	}})
	v2 := New(Options{})
	v2.Verify(evidence.TypeSNP, raw, p.trust(t, bad))
	if v.keys.Len() != 2 || v2.keys.Len() != 0 {
		t.Errorf("%d keys are held, want 2; %d that were not verified", v.keys.Len(), v2.keys.Len())
	}
}
