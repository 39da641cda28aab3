package nvidia

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confidentsecurity/go-nvtrust/pkg/gonvtrust/mocks"
	"golang.org/x/crypto/ocsp"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// vectors are reports of real H100 GPUs, as evidence: ours, and that in a Go
// module.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "testdata", "hardware", "nvidia", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := map[string][]byte{}
	for name, parts := range map[string][2][]byte{
		"hopper":     {file("hopper.report.txt"), file("hopper.chain.txt")},
		"go-nvtrust": {mocks.AttestationReportData, mocks.ValidCertChainData},
	} {
		report, err := hex.DecodeString(strings.TrimSpace(string(parts[0])))
		if err != nil {
			t.Fatal(err)
		}
		if v[name], err = Encode(report, parts[1]); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func outcome(t testing.TB, r *evidence.Result, name string, want evidence.Outcome) {
	t.Helper()
	if c, ok := r.Checks.Find(name); !ok || c.Outcome != want {
		t.Errorf("check %s: %q, want %q; all: %+v", name, c.Outcome, want, r.Checks)
	}
}

// TestH100: reports of real GPUs verify to NVIDIA's root, and say what they are.
func TestH100(t *testing.T) {
	for name, b := range vectors(t) {
		t.Run(name, func(t *testing.T) {
			r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime})
			if !r.Accepted() {
				t.Fatalf("not accepted: %+v", r.Checks)
			}
			for _, c := range []string{"report-format", "device-chain", "report-signature", "architecture"} {
				outcome(t, r, c, evidence.Pass)
			}
			// The report of go-nvtrust is of older firmware, which did not state it.
			outcome(t, r, "fwid", map[string]evidence.Outcome{"hopper": evidence.Pass, "go-nvtrust": evidence.NotPerformed}[name])
			for _, c := range []string{"certificate-revocation", "reference-manifest", "debug"} {
				outcome(t, r, c, evidence.NotPerformed)
			}
			c := r.Verified().Claims()
			if c.Kind != evidence.NVIDIA || c.Simulated || len(c.ReportData) != 32 || len(c.Platform) != 9 || c.NotAfter.Year() != 9999 {
				t.Errorf("claims: %+v", c)
			}
			if m, _ := c.Values["nvidia.measurement.64"].([]byte); len(m) != 48 {
				t.Errorf("64 measurements of 48 bytes expected, the last is %x", m)
			}
			if f, _ := c.Values["nvidia.fwid"].([]byte); len(f) != 48 || c.Values["nvidia.arch"] != "HOPPER" {
				t.Errorf("fwid %x, architecture %v", f, c.Values["nvidia.arch"])
			}
			if name == "hopper" {
				for k, want := range map[string]any{
					"nvidia.driver": "550.90.07", "nvidia.vbios": "96.00.9F.00.01", "nvidia.chip": "GH100", "nvidia.project": "1010",
					"nvidia.projectsku": "0200", "nvidia.chipsku": "882", "nvidia.nvdec0": false, "nvidia.protectedpcie": false,
				} {
					if c.Values[k] != want {
						t.Errorf("%s is %v, want %v", k, c.Values[k], want)
					}
				}
				if hex.EncodeToString(c.Platform) != "41431d480fe5e87274" {
					t.Errorf("platform %x", c.Platform)
				}
			}
		})
	}
}

// TestEveryFlip: no bit of a report, and none of its chain, can be changed
// unnoticed.
func TestEveryFlip(t *testing.T) {
	b := vectors(t)["hopper"]
	trust := &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}
	report, certs, err := decode(evidence.TypeNVIDIA, b)
	if err != nil {
		t.Fatal(err)
	}
	raw := slices.Concat(report.signed, report.Signature)
	at := bytes.Index(b, raw)
	for i := range b {
		b[i] ^= 1 << (i % 8)
		if i >= at && i < at+len(raw) {
			// The chain is as it was: no need to verify it 4117 times.
			if r, err := ParseReport(b[at : at+len(raw)]); err == nil && r.verify(certs[0]) == nil {
				t.Errorf("report byte %d flipped: accepted", i-at)
			}
		} else if r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, trust); r.Accepted() || r.Verified() != nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
		b[i] ^= 1 << (i % 8)
	}
	for _, c := range [][]byte{nil, b[:len(b)-1], append(slices.Clone(b), 0)} {
		if (&Verifier{}).Verify(evidence.TypeNVIDIA, c, trust).Accepted() {
			t.Errorf("%d bytes instead of %d: accepted", len(c), len(b))
		}
	}
}

// TestAnchors: without a root, a time, or the right media type there is nothing
// to accept; a simulator's root does not make a vendor's device, nor the
// reverse.
func TestAnchors(t *testing.T) {
	real := vectors(t)["hopper"]
	d := newDevice(t, "GH100")
	fake, err := Encode(d.report(t, 1, block(1, make([]byte, 48)), nil), d.chain())
	if err != nil {
		t.Fatal(err)
	}
	sim := d.trust(t)
	withVendors := *sim
	withVendors.Anchors = vendor.Anchors()
	for _, c := range []struct {
		name      string
		media     string
		value     []byte
		trust     *evidence.Trust
		accepted  bool
		simulated bool
	}{
		{"real", evidence.TypeNVIDIA, real, &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}, true, false},
		{"real, with a simulator trusted", evidence.TypeNVIDIA, real, &withVendors, true, false},
		{"simulated", evidence.TypeNVIDIA, fake, sim, true, true},
		{"simulated, with vendors trusted", evidence.TypeNVIDIA, fake, &withVendors, true, true},
		{"simulated, no simulator", evidence.TypeNVIDIA, fake, &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}, false, false},
		{"simulated root among the vendors'", evidence.TypeNVIDIA, fake, &evidence.Trust{Anchors: &evidence.Anchors{NVIDIA: []*x509.Certificate{d.root.cert}}, Now: testTime}, false, false},
		{"real, no root", evidence.TypeNVIDIA, real, &evidence.Trust{Anchors: &evidence.Anchors{}, Now: testTime}, false, false},
		{"no anchors", evidence.TypeNVIDIA, real, &evidence.Trust{Now: testTime}, false, false},
		{"no time", evidence.TypeNVIDIA, real, &evidence.Trust{Anchors: vendor.Anchors()}, false, false},
		{"no trust", evidence.TypeNVIDIA, real, nil, false, false},
		{"before the certificates", evidence.TypeNVIDIA, real, &evidence.Trust{Anchors: vendor.Anchors(), Now: time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)}, false, false},
		{"another media type", evidence.TypeTDX, real, &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}, false, false},
	} {
		r := (&Verifier{}).Verify(c.media, c.value, c.trust)
		if r.Accepted() != c.accepted || (r.Verified() != nil && r.Verified().Claims().Simulated != c.simulated) {
			t.Errorf("%s: accepted %v: %+v", c.name, r.Accepted(), r.Checks)
		}
	}
}

// TestInvalidChain: the chain that go-nvtrust has as an invalid one is refused.
func TestInvalidChain(t *testing.T) {
	report, _, err := decode(evidence.TypeNVIDIA, vectors(t)["go-nvtrust"])
	if err != nil {
		t.Fatal(err)
	}
	b, err := Encode(slices.Concat(report.signed, report.Signature), mocks.InvalidCertChainData)
	if err == nil && (&Verifier{}).Verify(evidence.TypeNVIDIA, b, &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}).Accepted() {
		t.Error("accepted")
	}
}

// TestChainShape: each certificate given is part of the chain, in order, in one
// spelling; and only a key that may sign reports signs them.
func TestChainShape(t *testing.T) {
	d := newDevice(t, "GH100")
	report := d.report(t, 1, block(1, make([]byte, 48)), nil)
	chain := d.chain()
	n := bytes.Count(chain, []byte("BEGIN"))
	parts := bytes.SplitAfter(chain, []byte("-----END CERTIFICATE-----\n"))[:n]
	other := newDevice(t, "GH100")
	ca := *d
	ca.leaf = issue(t, d.brom, pkix.Name{CommonName: "an authority"}, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature })
	cut := &device{d.root, d.identity, d.provisioner, d.brom, d.brom}
	for _, c := range []struct {
		name     string
		report   []byte
		chain    []byte
		accepted bool
	}{
		{"whole", report, chain, true},
		{"no last line feed", report, chain[:len(chain)-1], true},
		{"without the root", report, bytes.Join(parts[:4], nil), true},
		{"swapped", report, bytes.Join([][]byte{parts[0], parts[2], parts[1], parts[3], parts[4]}, nil), false},
		{"twice", report, slices.Concat(parts[0], parts[1], parts[1], parts[2], parts[3], parts[4]), false},
		{"a stranger at the end", report, slices.Concat(chain, parts[1]), false},
		{"a missing link", report, slices.Concat(parts[0], parts[2], parts[3], parts[4]), false},
		{"CRLF", report, bytes.ReplaceAll(chain, []byte("\n"), []byte("\r\n")), false},
		{"text before", report, append([]byte("subject: x\n"), chain...), false},
		{"empty", report, nil, false},
		{"nine", report, bytes.Repeat(parts[0], 9), false},
		{"another device's report", other.report(t, 1, block(1, make([]byte, 48)), nil), chain, false},
		{"signed by an authority", ca.report(t, 1, block(1, make([]byte, 48)), nil), ca.chain(), false},
		{"signed by the boot ROM", cut.report(t, 1, block(1, make([]byte, 48)), nil), bytes.Join(parts[1:], nil), false},
	} {
		b := dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendArray(nil, 2), c.report), c.chain)
		r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, d.trust(t))
		if r.Accepted() != c.accepted || (r.Verified() != nil) != c.accepted {
			t.Errorf("%s: accepted %v: %+v", c.name, r.Accepted(), r.Checks)
		}
	}
}

// TestArchitecture: only chips that we know, by what the provisioner certified.
func TestArchitecture(t *testing.T) {
	for _, c := range []struct {
		chip, reported string
		arch           any
		want           evidence.Outcome
	}{
		{"GH100", "", "HOPPER", evidence.Pass},
		{"GB100", "", "BLACKWELL", evidence.Pass},
		{"GB202", "GB202", "BLACKWELL", evidence.Pass},
		{"GB100", "GB202", "BLACKWELL", evidence.Fail},
		{"LS_10", "", "LS10", evidence.Warn},
		{"BF3", "", nil, evidence.Fail},
		{"AD102", "", nil, evidence.Fail},
	} {
		d := newDevice(t, c.chip)
		var opaque []byte
		if c.reported != "" {
			opaque = fields(field{fieldChip, []byte(c.reported + "\x00")})
		}
		b, err := Encode(d.report(t, 1, block(1, make([]byte, 48)), opaque), d.chain())
		if err != nil {
			t.Fatal(err)
		}
		r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, d.trust(t))
		outcome(t, r, "architecture", c.want)
		if got := r.Verified().Claims().Values["nvidia.arch"]; got != c.arch {
			t.Errorf("%s: architecture %v, want %v", c.chip, got, c.arch)
		}
	}
}

// TestFWID: the firmware that the report names is that of the certificate, in
// the extension of either generation.
func TestFWID(t *testing.T) {
	other := sha256.Sum256(nil)
	for _, c := range []struct {
		name  string
		ext   []pkix.Extension
		field []byte
		want  evidence.Outcome
	}{
		{"Hopper", []pkix.Extension{compositeDevice(t, testFWID[:])}, testFWID[:], evidence.Pass},
		{"Blackwell", []pkix.Extension{tcbInfo(t, testFWID[:])}, testFWID[:], evidence.Pass},
		{"not in the report", []pkix.Extension{compositeDevice(t, testFWID[:])}, nil, evidence.NotPerformed},
		{"not in the certificate", nil, testFWID[:], evidence.Fail},
		{"another", []pkix.Extension{tcbInfo(t, testFWID[:])}, make([]byte, 48), evidence.Fail},
		{"cut", []pkix.Extension{tcbInfo(t, testFWID[:])}, testFWID[:47], evidence.Fail},
		{"empty", []pkix.Extension{tcbInfo(t, testFWID[:])}, []byte{}, evidence.Fail},
		{"neither, but a field", nil, []byte{}, evidence.Fail},
		{"not of SHA-384", []pkix.Extension{compositeDevice(t, other[:])}, other[:], evidence.Fail},
		{"malformed", []pkix.Extension{{Id: oidTCBInfo, Value: []byte{0x30, 0x03, 1}}}, testFWID[:], evidence.Fail},
		{"not a sequence", []pkix.Extension{{Id: oidCompositeDevice, Value: []byte{5, 0}}}, nil, evidence.Fail},
	} {
		d := newDevice(t, "GH100", c.ext...)
		var opaque []byte
		if c.field != nil {
			opaque = fields(field{fieldFWID, c.field})
		}
		b, err := Encode(d.report(t, 1, block(1, make([]byte, 48)), opaque), d.chain())
		if err != nil {
			t.Fatal(err)
		}
		r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, d.trust(t))
		if k, _ := r.Checks.Find("fwid"); k.Outcome != c.want {
			t.Errorf("%s: %+v, want %s", c.name, k, c.want)
		}
	}
}

// TestRevocation: an OCSP response counts when it is current, about that
// certificate, and signed by its issuer or by whom the issuer made a responder.
func TestRevocation(t *testing.T) {
	d := newDevice(t, "GH100")
	b, err := Encode(d.report(t, 1, block(1, make([]byte, 48)), nil), d.chain())
	if err != nil {
		t.Fatal(err)
	}
	responder := issue(t, d.identity, pkix.Name{CommonName: "responder"}, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	})
	late := issue(t, d.identity, pkix.Name{CommonName: "late responder"}, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.NotBefore = false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, testTime.Add(time.Hour)
	})
	answer := func(status int, cert, issuer, signer certificate, edit func(*ocsp.Response)) evidence.Item {
		r := ocsp.Response{Status: status, SerialNumber: cert.cert.SerialNumber, ThisUpdate: testTime.Add(-time.Minute), NextUpdate: testTime.Add(time.Hour)}
		if signer.cert != issuer.cert {
			r.Certificate = signer.cert
		}
		if status == ocsp.Revoked {
			r.RevokedAt, r.RevocationReason = testTime.Add(-time.Minute), ocsp.KeyCompromise
		}
		if edit != nil {
			edit(&r)
		}
		der, err := ocsp.CreateResponse(issuer.cert, signer.cert, r, signer.key)
		if err != nil {
			t.Fatal(err)
		}
		return evidence.Item{MediaType: evidence.TypeOCSP, Value: der}
	}
	good := func() []evidence.Item {
		return []evidence.Item{
			{MediaType: evidence.TypeEventLog, Value: []byte("not for us")},
			answer(ocsp.Good, d.identity, d.root, d.root, nil),
			answer(ocsp.Good, d.provisioner, d.identity, d.identity, nil),
			answer(ocsp.Good, d.brom, d.provisioner, d.provisioner, nil),
		}
	}
	replace := func(i evidence.Item) []evidence.Item { g := good(); g[2] = i; return g }
	for _, c := range []struct {
		name  string
		items []evidence.Item
		want  evidence.Outcome
	}{
		{"none", nil, evidence.NotPerformed},
		{"all good", good(), evidence.Pass},
		{"one missing", good()[:3], evidence.NotPerformed},
		{"by a responder", replace(answer(ocsp.Good, d.provisioner, d.identity, responder, nil)), evidence.Pass},
		{"revoked", replace(answer(ocsp.Revoked, d.provisioner, d.identity, d.identity, nil)), evidence.Fail},
		{"good and revoked", append(good(), answer(ocsp.Revoked, d.brom, d.provisioner, d.provisioner, nil)), evidence.Fail},
		{"revoked and missing", []evidence.Item{answer(ocsp.Revoked, d.brom, d.provisioner, d.provisioner, nil)}, evidence.Fail},
		{"unknown", replace(answer(ocsp.Unknown, d.provisioner, d.identity, d.identity, nil)), evidence.Warn},
		{"by another device's key", replace(answer(ocsp.Good, d.provisioner, d.identity, d.provisioner, nil)), evidence.NotPerformed},
		{"by a responder that is not yet valid", replace(answer(ocsp.Good, d.provisioner, d.identity, late, nil)), evidence.NotPerformed},
		{"by a stranger", replace(answer(ocsp.Good, d.provisioner, d.identity, newDevice(t, "GH100").root, nil)), evidence.NotPerformed},
		{"expired", replace(answer(ocsp.Good, d.provisioner, d.identity, d.identity, func(r *ocsp.Response) { r.NextUpdate = testTime })), evidence.NotPerformed},
		{"not yet", replace(answer(ocsp.Good, d.provisioner, d.identity, d.identity, func(r *ocsp.Response) { r.ThisUpdate = testTime.Add(time.Second) })), evidence.NotPerformed},
		{"without end", replace(answer(ocsp.Good, d.provisioner, d.identity, d.identity, func(r *ocsp.Response) { r.NextUpdate = time.Time{} })), evidence.NotPerformed},
		{"of another certificate", replace(answer(ocsp.Good, d.leaf, d.identity, d.identity, nil)), evidence.NotPerformed},
		{"not OCSP", replace(evidence.Item{MediaType: evidence.TypeOCSP, Value: []byte{0x30}}), evidence.NotPerformed},
		{"too many", append(slices.Repeat(good()[:2], maxOCSPItems), good()...), evidence.NotPerformed},
		{"one too long", append(good(), evidence.Item{MediaType: evidence.TypeOCSP, Value: make([]byte, maxOCSP+1)}), evidence.Pass},
		{"revoked, behind one too long", append([]evidence.Item{{MediaType: evidence.TypeOCSP, Value: make([]byte, maxOCSP+1)}}, replace(answer(ocsp.Revoked, d.provisioner, d.identity, d.identity, nil))...), evidence.Fail},
		{"revoked, expired", append(good(), answer(ocsp.Revoked, d.provisioner, d.identity, d.identity, func(r *ocsp.Response) { r.NextUpdate = testTime })), evidence.Fail},
	} {
		r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, d.trust(t, c.items...))
		if k, _ := r.Checks.Find("certificate-revocation"); k.Outcome != c.want {
			t.Errorf("%s: %+v, want %s", c.name, k, c.want)
		}
		if to := r.Verified().Claims().NotAfter; c.want == evidence.Pass && !to.Equal(testTime.Add(time.Hour)) {
			t.Errorf("%s: valid until %s, want the end of the responses", c.name, to)
		}
	}
}

// TestReferenceManifest: a RIM is seen, and is said not to be read.
func TestReferenceManifest(t *testing.T) {
	d := newDevice(t, "GH100")
	b, err := Encode(d.report(t, 1, block(1, make([]byte, 48)), nil), d.chain())
	if err != nil {
		t.Fatal(err)
	}
	r := (&Verifier{}).Verify(evidence.TypeNVIDIA, b, d.trust(t, evidence.Item{MediaType: TypeRIM, Value: []byte("<SoftwareIdentity/>")}))
	if k, _ := r.Checks.Find("reference-manifest"); k.Outcome != evidence.NotPerformed || !strings.HasPrefix(k.Detail, "1 RIM") {
		t.Errorf("%+v", k)
	}
}

// TestGPUNonce: the nonce is the digest of the bytes that the specification
// shows, and no two GPUs share one.
func TestGPUNonce(t *testing.T) {
	data := bytes.Repeat([]byte{0xab}, 64)
	want := sha256.Sum256(slices.Concat([]byte("\x83\x78\x21org.trustedmcp/trust v1 gpu nonce\x58\x40"), data, []byte{0x18, 0x18}))
	if got := GPUNonce(data, 24); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	if GPUNonce(data, 0) == GPUNonce(data, 1) || GPUNonce(data, 0) == GPUNonce(data[:63], 0) {
		t.Error("two GPUs share a nonce")
	}
}

// TestCache: what was verified once is still looked at for time and trust.
func TestCache(t *testing.T) {
	d := newDevice(t, "GH100")
	b, err := Encode(d.report(t, 1, block(1, make([]byte, 48)), nil), d.chain())
	if err != nil {
		t.Fatal(err)
	}
	var v Verifier
	sim := d.trust(t)
	late, early, stranger := *sim, *sim, newDevice(t, "GH100").trust(t)
	late.Now, early.Now = testTime.Add(25*time.Hour), testTime.Add(-2*time.Hour)
	for _, c := range []struct {
		name     string
		trust    *evidence.Trust
		accepted bool
	}{
		{"first", sim, true}, {"again", sim, true}, {"too late", &late, false}, {"too early", &early, false},
		{"not trusted", &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}, false}, {"another simulator", stranger, false}, {"and again", sim, true},
	} {
		r := v.Verify(evidence.TypeNVIDIA, b, c.trust)
		if r.Accepted() != c.accepted || r.Verified() != nil && !r.Verified().Claims().Simulated {
			t.Errorf("%s: %+v", c.name, r.Checks)
		}
	}
	if len(v.chains.m) != 1 {
		t.Errorf("%d chains are kept, want 1", len(v.chains.m))
	}
	for i := range 2 * maxCache {
		c := *d.leaf.cert
		c.Raw = []byte{byte(i), byte(i >> 8)}
		v.chains.put([]*x509.Certificate{&c}, d.certs())
	}
	if len(v.chains.m) != maxCache {
		t.Errorf("%d chains are kept, want %d", len(v.chains.m), maxCache)
	}
	if r := v.Verify(evidence.TypeNVIDIA, b, sim); !r.Accepted() {
		t.Errorf("after the chain was dropped: %+v", r.Checks)
	}
}

func BenchmarkVerifyCached(b *testing.B) {
	value := vectors(b)["hopper"]
	trust := &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}
	var v Verifier
	for b.Loop() {
		if !v.Verify(evidence.TypeNVIDIA, value, trust).Accepted() {
			b.Fatal("not accepted")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v := vectors(b)["hopper"]
	trust := &evidence.Trust{Anchors: vendor.Anchors(), Now: testTime}
	for b.Loop() {
		if !(&Verifier{}).Verify(evidence.TypeNVIDIA, v, trust).Accepted() {
			b.Fatal("not accepted")
		}
	}
}

func BenchmarkParseReport(b *testing.B) {
	r, _, err := decode(evidence.TypeNVIDIA, vectors(b)["hopper"])
	if err != nil {
		b.Fatal(err)
	}
	raw := slices.Concat(r.signed, r.Signature)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReport(raw); err != nil {
			b.Fatal(err)
		}
	}
}
