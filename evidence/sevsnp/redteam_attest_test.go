package sevsnp

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"

	"github.com/trustedmcp/tmcp/evidence"
)

// What the attester puts into the table, or staples, does not keep our own CRL
// from being read, however long it is and however much there is of it.
func TestOwnCRLIsAlwaysRead(t *testing.T) {
	p := newPKI(t, Milan, sim)
	vcek, raw := p.certify(t, leaf{}), p.report(t, nil)
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: may.Add(-time.Hour), NextUpdate: may.Add(time.Hour), SignatureAlgorithm: x509.SHA384WithRSAPSS,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: p.ask.SerialNumber, RevocationTime: may.Add(-time.Hour)}}}
	der, err := x509.CreateRevocationList(rand.Reader, l, p.ark, p.keys.Ark)
	if err != nil {
		t.Fatal(err)
	}
	own := evidence.Item{MediaType: evidence.TypeCRL, Value: der}
	junk := func(mediaType string, n int) []evidence.Item {
		return slices.Repeat([]evidence.Item{{MediaType: mediaType, Value: []byte("junk")}}, n)
	}
	table := func(crl []byte, n int) []byte {
		c := &abi.CertTable{Entries: []abi.CertTableEntry{{GUID: [16]byte(guidVCEK), RawCert: vcek.Raw}}}
		for range n {
			c.Entries = append(c.Entries, abi.CertTableEntry{GUID: [16]byte(guidCRL), RawCert: crl})
		}
		return append(slices.Clone(raw), c.Marshal()...)
	}
	for name, tt := range map[string]struct {
		value []byte
		given []evidence.Item
	}{
		"alone":                         {raw, []evidence.Item{own}},
		"a long one in the table":       {table(bytes.Repeat([]byte{1}, maxItem+1), 1), []evidence.Item{own}},
		"a full table, many stapled":    {table([]byte("junk"), maxTableEntries-1), append(junk(evidence.TypeCRL, 31), own)},
		"certificates of many":          {raw, append(junk(evidence.TypeCertificates, 2*maxItems), own)},
		"ours first, as appraisal does": {table([]byte("junk"), maxTableEntries-1), append([]evidence.Item{own}, junk(evidence.TypeCRL, 31)...)},
	} {
		tr := p.trust(t, vcek)
		tr.Endorsements = append(tr.Endorsements, tt.given...)
		r := New(Options{}).Verify(evidence.TypeSNP, tt.value, tr)
		if c, _ := r.Checks.Find("revocation"); c.Outcome != evidence.Fail || r.Verified() != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
