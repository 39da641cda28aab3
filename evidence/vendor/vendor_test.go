package vendor

import (
	"crypto/x509"
	"testing"
)

// TestAnchors: the roots are those that we looked at, self-signed, and none is a
// simulator's.
func TestAnchors(t *testing.T) {
	a := Anchors()
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		roots []*x509.Certificate
		cn    string
		want  string // SHA-256 of the DER
	}{
		{"Intel", a.Intel, "Intel SGX Root CA", "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"},
		{"AWS", a.AWS, "aws.nitro-enclaves", "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"},
		{"NVIDIA", a.NVIDIA, "NVIDIA Device Identity CA", "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"},
	} {
		if len(c.roots) != 1 {
			t.Fatalf("%s: %d roots, want 1", c.name, len(c.roots))
		}
		r := c.roots[0]
		if got := fingerprint(r); got != c.want || r.Subject.CommonName != c.cn {
			t.Errorf("%s: the root %q has the SHA-256 %s, want %q with %s", c.name, r.Subject.CommonName, got, c.cn, c.want)
		}
		if err := r.CheckSignatureFrom(r); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if len(a.AMD) != 3 || a.CCA != nil {
		t.Errorf("%d product lines of AMD and %d keys of CCA, want 3 and none", len(a.AMD), len(a.CCA))
	}
}

// TestAnchorsAreNew: what one caller changes, another doesn't see.
func TestAnchorsAreNew(t *testing.T) {
	a := Anchors()
	a.Intel[0], a.AMD[0].ARK = nil, nil
	if err := Anchors().Check(); err != nil {
		t.Error(err)
	}
}
