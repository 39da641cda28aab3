package evidencefile

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

const hardware = "../../evidence/testdata/hardware/"

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(hardware + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func simulated(t testing.TB) []byte {
	t.Helper()
	tee, err := sim.Default().TEE(sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tee.Attest(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDetect: every format, as bytes, hex and base64.
func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		name, format, mediaType string
		b                       []byte
	}{
		{"TDX v4", "TDX quote, version 4", evidence.TypeTDX, read(t, "tdx/phala-v4.quote")},
		{"TDX v5", "TDX quote, version 5", evidence.TypeTDX, read(t, "tdx/phala-v5-nomatch.quote")},
		{"SGX", "SGX quote, version 3", evidence.TypeSGX, read(t, "sgx/phala-v3.quote")},
		{"SNP v2", "SEV-SNP report, version 2", evidence.TypeSNP, read(t, "sevsnp/milan-v2-vcek.report")},
		{"SNP v3", "SEV-SNP report, version 3", evidence.TypeSNP, read(t, "sevsnp/milan-v3-vlek.report")},
		{"Nitro", "Nitro attestation document", evidence.TypeNitro, read(t, "nitro/dstack-2025-12-25.cose")},
		{"tagged Nitro", "Nitro attestation document", evidence.TypeNitro, append([]byte{0xd2}, read(t, "nitro/dstack-2025-12-25.cose")...)},
		{"CCA", "Arm CCA token", evidence.TypeCCA, read(t, "cca/cca-example-token.cbor")},
		{"CMW", "CMW", "", simulated(t)},
	} {
		for _, b := range [][]byte{
			tt.b, []byte(hex.EncodeToString(tt.b) + "\n"), []byte("0x" + strings.ToUpper(hex.EncodeToString(tt.b))),
			[]byte(base64.StdEncoding.EncodeToString(tt.b)), []byte(base64.RawURLEncoding.EncodeToString(tt.b)),
			[]byte(base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(tt.b)))),
		} {
			p, err := Detect(b)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			if p.Format != tt.format || tt.mediaType != "" && (p.Item == nil || p.Item.MediaType != tt.mediaType || !bytes.Equal(p.Item.Value, tt.b)) || tt.mediaType == "" && !bytes.Equal(p.CMW, tt.b) {
				t.Errorf("%s: %s", tt.name, p.Format)
			}
			if ev, err := p.Evidence(); err != nil || len(ev) != 1 {
				t.Errorf("%s: %d pieces of evidence, %v", tt.name, len(ev), err)
			}
			if d := Describe(p); d.Problem != "" || len(d.Fields) == 0 {
				t.Errorf("%s: %+v", tt.name, d)
			}
		}
		// No prefix makes it another format, or panics.
		for n := range tt.b {
			if p, err := Detect(tt.b[:n]); err == nil {
				if p.Format != tt.format {
					t.Fatalf("%s: %d bytes of it are %s", tt.name, n, p.Format)
				}
				if n%64 == 0 {
					Describe(p)
				}
			}
		}
	}
}

func TestDetectText(t *testing.T) {
	c, err := cmw.ParseCBOR(simulated(t))
	if err != nil {
		t.Fatal(err)
	}
	js, err := c.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Detect(js)
	if err != nil || p.Format != "CMW in JSON" || !bytes.Equal(p.CMW, simulated(t)) {
		t.Error(p, err)
	}
	for _, name := range []string{"ratls/gramine-cert.pem", "ratls/intel-sgxsdk-cert.pem"} {
		p, err := Detect(read(t, name))
		if err != nil || p.Certificate == nil || len(p.Statements) == 0 {
			t.Error(name, err)
		}
		der, err := Detect(p.Certificate.Raw)
		if err != nil || der.Format != p.Format {
			t.Error(name, err)
		}
	}
	p, err = Detect([]byte("eyJhbGciOiJub25lIn0.e30.\n"))
	if err != nil || p.Item.MediaType != TypeJWT {
		t.Error(p, err)
	}
	p, err = Detect([]byte(`[["JWT","eyJ.e30."],{"GPU-0":"eyJ.e30."}]`))
	if err != nil || p.Item.MediaType != TypeJWT {
		t.Error(p, err)
	}
	for _, b := range []string{"", "x", "hello, world", "{}", "[]", "[1]", "{\"a\":1,\"a\":1}", "-----BEGIN KEY-----\n-----END KEY-----", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"} {
		if p, err := Detect([]byte(b)); err == nil {
			t.Errorf("%q is %s", b, p.Format)
		}
	}
}

func TestLoad(t *testing.T) {
	report, chain := hardware+"nvidia/hopper.report.txt", hardware+"nvidia/hopper.chain.txt"
	for _, names := range [][]string{{report, chain}, {chain, report}} {
		p, err := Load(names, nil)
		if err != nil || len(p) != 1 || p[0].Item.MediaType != evidence.TypeNVIDIA {
			t.Errorf("%v: %v %v", names, p, err)
		}
	}
	p, err := Load([]string{report, hardware + "tdx/phala-v4.quote", chain}, nil)
	if err != nil || len(p) != 2 {
		t.Error(p, err)
	}
	if _, err := Load([]string{report}, nil); !errors.Is(err, errReport) {
		t.Error(err)
	}
	if _, err := Load([]string{chain}, nil); err == nil {
		t.Error("a chain alone is evidence")
	}
	p, err = Load([]string{"-"}, bytes.NewReader(read(t, "tdx/phala-v4.quote")))
	if err != nil || len(p) != 1 {
		t.Error(err)
	}
	if _, err := Load([]string{"-"}, bytes.NewReader(nil)); err == nil {
		t.Error("nothing is evidence")
	}
}

func TestCollateral(t *testing.T) {
	types := func(names ...string) []string {
		t.Helper()
		for i := range names {
			names[i] = hardware + names[i]
		}
		items, err := Collateral(names, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, it := range items {
			out = append(out, it.MediaType)
		}
		return out
	}
	if got := types("tdx/phala-v4.collateral.json"); !slices.Equal(got, []string{evidence.TypeDCAPCollateral}) {
		t.Error(got)
	}
	if got := types("tdx/collateral-2026-03"); !slices.Equal(got, []string{evidence.TypeDCAPCollateral, evidence.TypeDCAPCollateral}) { // two platforms
		t.Error(got)
	}
	if got := types("sevsnp/milan-v2.vcek.der", "tdx/phala-v4.collateral.json"); !slices.Equal(got, []string{evidence.TypeCertificates, evidence.TypeDCAPCollateral}) {
		t.Error(got)
	}
	dir := t.TempDir()
	for name, want := range map[string]string{"empty": "a directory without files", "junk": "no collateral"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if name == "junk" {
			if err := os.WriteFile(filepath.Join(path, "x"), []byte("junk"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Collateral([]string{path}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Collateral([]string{hardware + "tdx/collateral-2026-03/root_ca_crl.der"}, nil); err == nil || !strings.Contains(err.Error(), "without TCB info") {
		t.Error(err)
	}
	if _, err := Collateral(slices.Repeat([]string{hardware + "tdx/phala-v4.collateral.json"}, maxFiles+1), nil); err == nil {
		t.Error("too many files")
	}
}

func FuzzDetect(f *testing.F) {
	for _, name := range []string{"tdx/phala-v4.quote", "sgx/phala-v3.quote", "sevsnp/milan-v2-vcek.report", "nitro/dstack-2025-12-25.cose", "cca/cca-example-token.cbor", "ratls/gramine-cert.pem", "nvidia/hopper.report.txt"} {
		f.Add(read(f, name))
	}
	f.Add([]byte(`["application/x","AA",4]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		classify(b)
		p, err := Detect(b)
		if err != nil {
			return
		}
		Describe(p)
		if _, err := p.Evidence(); err != nil && p.CMW == nil {
			t.Error(err)
		}
	})
}
