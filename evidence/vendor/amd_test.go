package vendor

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"testing"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/trustedmcp/tmcp/evidence"
)

func fingerprint(c *x509.Certificate) string {
	d := sha256.Sum256(c.Raw)
	return hex.EncodeToString(d[:])
}

// TestAMDChains: AMD's hierarchy is the one that we looked at, whatever a newer
// library ships; each line has its intermediates for VCEKs and VLEKs, both
// signed by the root, and the root by itself.
func TestAMDChains(t *testing.T) {
	want := []struct{ product, ark, ask, asvk string }{
		{"Milan", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd", "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b", "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5"},
		{"Genoa", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1", "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521", "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372"},
		{"Turin", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185", "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c"},
	}
	chains := amdChains()
	if len(chains) != len(want) {
		t.Fatalf("%d product lines, want %d", len(chains), len(want))
	}
	for i, w := range want {
		c := chains[i]
		if c.Product != w.product || len(c.ASK) != 2 {
			t.Fatalf("line %d is %q with %d intermediates, want %q with 2", i, c.Product, len(c.ASK), w.product)
		}
		for _, p := range []struct {
			cert     *x509.Certificate
			cn, want string
		}{
			{c.ARK, "ARK-" + w.product, w.ark},
			{c.ASK[0], "SEV-" + w.product, w.ask},
			{c.ASK[1], "SEV-VLEK-" + w.product, w.asvk},
		} {
			if got := fingerprint(p.cert); got != p.want || p.cert.Subject.CommonName != p.cn {
				t.Errorf("%s: certificate %q has the SHA-256 %s, want %q with %s", w.product, p.cert.Subject.CommonName, got, p.cn, p.want)
			}
			if err := p.cert.CheckSignatureFrom(c.ARK); err != nil {
				t.Errorf("%s: %v", p.cn, err)
			}
		}
	}
	if err := (&evidence.Anchors{AMD: chains, AWS: awsRoots()}).Check(); err != nil {
		t.Error(err)
	}
}

// TestAMDLibraryRoots (S2, S4) keeps the two defects that amd.go works around in sight:
// when it fails, the library was mended and the comment there can go.
func TestAMDLibraryRoots(t *testing.T) {
	for product, roots := range trust.DefaultRootCerts {
		if roots.ProductCerts.Asvk != nil {
			t.Errorf("go-sev-guest's default roots for %s have an ASVK now", product)
		}
	}
	var r trust.AMDRootCerts
	if err := r.FromKDSCertBytes(trust.AskArkTurinVlekBytes); err == nil {
		t.Error("go-sev-guest parses its own Turin VLEK bundle now")
	}
	if err := r.FromKDSCertBytes(bytes.TrimSpace(trust.AskArkTurinVlekBytes)); err != nil {
		t.Error(err)
	}
}

// TestAWSRoots: the root's fingerprint is the one that AWS publishes.
func TestAWSRoots(t *testing.T) {
	roots := awsRoots()
	if len(roots) != 1 || fingerprint(roots[0]) != "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b" {
		t.Fatalf("got %d roots", len(roots))
	}
	if err := roots[0].CheckSignatureFrom(roots[0]); err != nil {
		t.Error(err)
	}
}

// TestCertificates: anything beside certificates makes the whole text unusable.
func TestCertificates(t *testing.T) {
	for _, s := range []string{"", "x", nitroRootG1 + "x", "x" + nitroRootG1[1:], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if c := certificates([]byte(s)); c != nil {
			t.Errorf("%.30q gives %d certificates", s, len(c))
		}
	}
	if c := certificates([]byte(nitroRootG1 + "\r\n" + nitroRootG1)); len(c) != 2 {
		t.Errorf("two certificates give %d", len(c))
	}
}
