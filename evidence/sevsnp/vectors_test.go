package sevsnp

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/trustedmcp/tmcp/evidence"
)

// failed lists the names of failed checks.
func failed(r *evidence.Result) string {
	var out []string
	for _, c := range r.Checks.Failed() {
		out = append(out, c.Name)
	}
	return strings.Join(out, " ")
}

func warned(r *evidence.Result) string {
	var out []string
	for _, c := range r.Checks {
		if c.Outcome == evidence.Warn {
			out = append(out, c.Name)
		}
	}
	return strings.Join(out, " ")
}

// TestHardware: evidence of real machines gives what it must at its time.
func TestHardware(t *testing.T) {
	today := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	milan, milanVCEK := hardware(t, "milan-v2-vcek.report"), hardware(t, "milan-v2.vcek.der")
	aws, awsVLEK := hardware(t, "milan-v3-vlek.report"), hardware(t, "milan-v3.vlek.der")
	debug, debugVCEK := library(t, "verify/testdata/attestation.bin"), library(t, "verify/testdata/vcek.testcer")
	for _, tt := range []struct {
		name          string
		report, cert  []byte
		now           time.Time
		opts          Options
		failed        string
		warned        string
		claims        bool
		product, key  string
		tcb           TCB
		library, vlek bool // what go-sev-guest's default roots say
	}{
		{name: "Milan v2 VCEK", report: milan, cert: milanVCEK, now: may, claims: true, warned: "firmware-committed alias-check", product: Milan, key: "vcek", tcb: TCB{Bootloader: 3, SNP: 8, Microcode: 115}, library: true},
		{name: "Milan v2 VCEK today", report: milan, cert: milanVCEK, now: today, claims: true, warned: "firmware-committed alias-check", product: Milan, key: "vcek", tcb: TCB{Bootloader: 3, SNP: 8, Microcode: 115}, library: true},
		{name: "Milan v2 VCEK before it was made", report: milan, cert: milanVCEK, now: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC), claims: true, failed: "endorsement-validity", warned: "firmware-committed alias-check", product: Milan, key: "vcek", tcb: TCB{Bootloader: 3, SNP: 8, Microcode: 115}},
		{name: "Milan v3 VLEK", report: aws, cert: awsVLEK, now: may, claims: true, warned: "firmware-committed", product: Milan, key: "vlek", tcb: TCB{Bootloader: 4, SNP: 24, Microcode: 217}, vlek: true},
		{name: "Milan v3 VLEK today", report: aws, cert: awsVLEK, now: today, claims: true, failed: "endorsement-validity", warned: "firmware-committed", product: Milan, key: "vlek", tcb: TCB{Bootloader: 4, SNP: 24, Microcode: 217}, vlek: true},
		{name: "Milan v2 VCEK, debug", report: debug, cert: debugVCEK, now: may, claims: true, failed: "debug", warned: "alias-check", product: Milan, key: "vcek", tcb: TCB{Bootloader: 2, SNP: 5, Microcode: 68}, library: true},
		{name: "Milan v2 VCEK, debug allowed", report: debug, cert: debugVCEK, now: may, opts: Options{AllowDebug: true}, claims: true, warned: "debug alias-check", product: Milan, key: "vcek", tcb: TCB{Bootloader: 2, SNP: 5, Microcode: 68}, library: true},
		{name: "another chip's VCEK", report: milan, cert: debugVCEK, now: may, failed: "signature chip-id tcb-endorsed", warned: "firmware-committed alias-check"},
		{name: "invalid VCEK, legacy", report: milan, cert: hardware(t, "test-vcek-invalid-legacy.der"), now: may, failed: "endorsement-chain signature chip-id tcb-endorsed", warned: "firmware-committed alias-check"},
		{name: "invalid VCEK, new", report: milan, cert: hardware(t, "test-vcek-invalid-new.der"), now: may, failed: "endorsement-chain signature chip-id tcb-endorsed", warned: "firmware-committed alias-check"},
		{name: "VLEK where a VCEK signed", report: milan, cert: awsVLEK, now: may, failed: "endorsement-key", warned: "firmware-committed alias-check"},
		{name: "no certificate", report: milan, now: may, failed: "endorsement-key", warned: "firmware-committed alias-check"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := amd(tt.now)
			if tt.cert != nil {
				tr = amd(tt.now, tt.cert)
			}
			r := New(tt.opts).Verify(evidence.TypeSNP, tt.report, tr)
			if got := failed(r); got != tt.failed {
				t.Errorf("failed %q, want %q: %+v", got, tt.failed, r.Checks)
			}
			if got := warned(r); got != tt.warned {
				t.Errorf("warned %q, want %q", got, tt.warned)
			}
			if r.TCB != nil {
				t.Errorf("TCB is %+v with no minimum to judge it by", r.TCB)
			}
			if (r.Verified() != nil) != tt.claims || r.Accepted() != (tt.claims && tt.failed == "") {
				t.Fatalf("claims: %v, accepted: %v", r.Verified() != nil, r.Accepted())
			}
			if err := theirs(tt.report, tt.cert, tt.now, nil); (err == nil) != tt.library {
				t.Errorf("go-sev-guest with its own roots: %v", err)
			}
			if err := theirs(tt.report, tt.cert, tt.now, libraryRoots(t)); (err == nil) != (tt.library || tt.vlek && tt.failed == "") {
				t.Errorf("go-sev-guest with mended roots: %v", err)
			}
			if !tt.claims {
				return
			}
			c := r.Verified().Claims()
			b := [8]byte(c.Values["snp.reportedtcb"].([]byte))
			if c.Values["snp.product"] != tt.product || c.Values["snp.signingkey"] != tt.key || DecodeTCB(tt.product, b) != tt.tcb {
				t.Errorf("claims %v, TCB %v", c.Values, DecodeTCB(tt.product, b))
			}
			p, err := abi.ReportToProto(tt.report)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string][]byte{"snp.measurement": p.Measurement, "snp.hostdata": p.HostData, "snp.chipid": p.ChipId, "snp.idkeydigest": p.IdKeyDigest, "snp.reportid": p.ReportId} {
				if !slices.Equal(c.Values[name].([]byte), want) {
					t.Errorf("%s is %x, want %x", name, c.Values[name], want)
				}
			}
			if !slices.Equal(c.ReportData, p.ReportData) || c.Simulated || c.Debug != (p.Policy>>19&1 == 1) {
				t.Errorf("report data %x, simulated %v, debug %v", c.ReportData, c.Simulated, c.Debug)
			}
			if tt.key == "vcek" && !slices.Equal(c.Platform, p.ChipId) || tt.key == "vlek" && (c.Platform != nil || c.Values["snp.cspid"] != "CN=cc-us-east-2.amazonaws.com") {
				t.Errorf("platform %x, CSP %v", c.Platform, c.Values["snp.cspid"])
			}
			if c.NotAfter.Before(tt.now) != (tt.failed == "endorsement-validity" && tt.now == today) || c.NotBefore.IsZero() {
				t.Errorf("the verdict holds from %v to %v", c.NotBefore, c.NotAfter)
			}
		})
	}
}

// theirs is go-sev-guest's verdict.
func theirs(report, cert []byte, now time.Time, roots map[string][]*trust.AMDRootCerts) error {
	p, err := abi.ReportToProto(report)
	if err != nil {
		return err
	}
	return verify.SnpAttestation(attestation(p, cert), &verify.Options{DisableCertFetching: true, Getter: noNetwork{}, Now: now, TrustedRoots: roots})
}

func attestation(p *spb.Report, cert []byte) *spb.Attestation {
	certs := &spb.CertificateChain{VcekCert: cert}
	if abi.ReportSigner(p.SignerInfo>>2&7) == abi.VlekReportSigner {
		certs = &spb.CertificateChain{VlekCert: cert}
	}
	return &spb.Attestation{Report: p, CertificateChain: certs}
}

type noNetwork struct{}

func (noNetwork) Get(string) ([]byte, error) { panic("the network was asked") }

// libraryRoots are go-sev-guest's with the intermediates that it lacks.
func libraryRoots(t testing.TB) map[string][]*trust.AMDRootCerts {
	t.Helper()
	out := map[string][]*trust.AMDRootCerts{}
	for _, c := range amdAnchors().AMD {
		r := trust.AMDRootCertsProduct(c.Product)
		r.ProductCerts = &trust.ProductCerts{Ark: c.ARK, Ask: c.ASK[0], Asvk: c.ASK[1]}
		out[c.Product] = append(out[c.Product], r)
	}
	return out
}

// TestEveryByte: no byte of a report can be changed, nor of the certificate of
// its key.
func TestEveryByte(t *testing.T) {
	report, cert := hardware(t, "milan-v2-vcek.report"), hardware(t, "milan-v2.vcek.der")
	v := New(Options{})
	if r := v.Verify(evidence.TypeSNP, report, amd(may, cert)); !r.Accepted() {
		t.Fatalf("the report as it is: %v", r.Checks.Failed())
	}
	masks := []byte{0x01, 0x80, 0xFF}
	if testing.Short() {
		masks = masks[:1]
	}
	trusted := amd(may, cert)
	for i := range report {
		for _, m := range masks {
			b := slices.Clone(report)
			b[i] ^= m
			if r := v.Verify(evidence.TypeSNP, b, trusted); r.Accepted() || r.Verified() != nil {
				t.Fatalf("accepted with byte %#x of the report xor %#x", i, m)
			}
		}
	}
	for i := range cert {
		b := slices.Clone(cert)
		b[i] ^= masks[i%len(masks)]
		if r := v.Verify(evidence.TypeSNP, report, amd(may, b)); r.Accepted() || r.Verified() != nil {
			t.Fatalf("accepted with byte %#x of the certificate changed", i)
		}
	}
	for _, n := range []int{0, 1, ReportSize - 1} {
		if r := v.Verify(evidence.TypeSNP, report[:n], trusted); r.Accepted() {
			t.Errorf("accepted with %d bytes", n)
		}
	}
	for _, tail := range []string{"\x00", "x", strings.Repeat("\x00", 23)} {
		if r := v.Verify(evidence.TypeSNP, append(slices.Clone(report), tail...), trusted); r.Accepted() {
			t.Errorf("accepted with %d bytes behind", len(tail))
		}
	}
}

// TestForms: the certificate comes as DER, as PEM with its chain, or in the
// table after the report.
func TestForms(t *testing.T) {
	report, der := hardware(t, "milan-v2-vcek.report"), hardware(t, "milan-v2.vcek.der")
	vcek, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	milan := amdAnchors().AMD[0]
	table := func(entries ...abi.CertTableEntry) []byte {
		return append(slices.Clone(report), (&abi.CertTable{Entries: entries}).Marshal()...)
	}
	full := []abi.CertTableEntry{{GUID: [16]byte(guidVCEK), RawCert: der}, {GUID: [16]byte(guidASK), RawCert: milan.ASK[0].Raw}, {GUID: [16]byte(guidARK), RawCert: toPEM(milan.ARK)}}
	pkcs := amd(may, toPEM(vcek, milan.ASK[0], milan.ARK))
	for name, tt := range map[string]struct {
		report []byte
		trust  *evidence.Trust
		ok     bool
		failed string
	}{
		"DER":                  {report, amd(may, der), true, ""},
		"PEM chain":            {report, pkcs, true, ""},
		"DER chain":            {report, amd(may, slices.Concat(milan.ASK[0].Raw, der, milan.ARK.Raw)), true, ""},
		"table":                {table(full...), amd(may), true, ""},
		"table, padded":        {append(table(full...), make([]byte, 4096)...), amd(may), true, ""},
		"table, other root":    {table(full[0], full[1], abi.CertTableEntry{GUID: [16]byte(guidARK), RawCert: milan.ASK[1].Raw}), amd(may), true, ""},
		"table, forged root":   {table(full[0], full[1], abi.CertTableEntry{GUID: [16]byte(guidARK), RawCert: der}), amd(may), false, "certificate-table"},
		"table, no VCEK in it": {table(abi.CertTableEntry{GUID: [16]byte(guidVCEK), RawCert: milan.ARK.Raw}), amd(may), false, "certificate-table endorsement-key"},
		"table, junk":          {append(slices.Clone(report), "junk"...), amd(may, der), false, "certificate-table"},
		"two, the right last":  {report, amd(may, library(t, "verify/testdata/vcek.testcer"), der), true, ""},
		"two, the right first": {report, amd(may, der, library(t, "verify/testdata/vcek.testcer")), true, ""},
	} {
		if r := New(Options{}).Verify(evidence.TypeSNP, tt.report, tt.trust); r.Accepted() != tt.ok || failed(r) != tt.failed {
			t.Errorf("%s: accepted %v, failed %q, want %q", name, r.Accepted(), failed(r), tt.failed)
		}
	}
	r := New(Options{}).Verify(evidence.TypeSNP, table(append(full, abi.CertTableEntry{GUID: [16]byte{1}, RawCert: []byte("?")})...), amd(may))
	if c, _ := r.Checks.Find("certificate-table"); !r.Accepted() || c.Outcome != evidence.Warn || !strings.Contains(c.Detail, "01000000-0000") {
		t.Errorf("an entry of an unknown kind: %+v", c)
	}
}
