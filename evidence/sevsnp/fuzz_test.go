package sevsnp

import (
	"bytes"
	"testing"

	"github.com/google/go-sev-guest/abi"

	"github.com/trustedmcp/tmcp/evidence"
)

// FuzzVerify: whatever comes, only the real report is accepted.
func FuzzVerify(f *testing.F) {
	report, cert := hardware(f, "milan-v2-vcek.report"), hardware(f, "milan-v2.vcek.der")
	table := (&abi.CertTable{Entries: []abi.CertTableEntry{{GUID: [16]byte(guidVCEK), RawCert: cert}}}).Marshal()
	f.Add(report, cert)
	f.Add(append(bytes.Clone(report), table...), []byte{})
	f.Add(hardware(f, "milan-v3-vlek.report"), hardware(f, "milan-v3.vlek.der"))
	f.Add(library(f, "verify/testdata/attestation.bin"), toPEM(amdAnchors().AMD[0].ARK))
	f.Add(append(bytes.Clone(report), header([2]uint32{0xFFFFFF00, 0x100 + 40})...), cert)
	known := [][]byte{report, hardware(f, "milan-v3-vlek.report"), library(f, "verify/testdata/attestation.bin")}
	v := New(Options{AllowDebug: true, Cache: 4})
	f.Fuzz(func(t *testing.T, b, cert []byte) {
		r := v.Verify(evidence.TypeSNP, b, amd(may, cert))
		if r.Verified() == nil && !r.Accepted() {
			return
		}
		for _, k := range known {
			if bytes.HasPrefix(b, k) {
				return
			}
		}
		t.Errorf("a report that no machine made is accepted")
	})
}

// FuzzTable: no table makes the parser fail in any way but by an error, and what
// it returns is within the table.
func FuzzTable(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(header([2]uint32{0xFFFFFF00, 0x100 + 40}))
	f.Add(append(header([2]uint32{72, 3}, [2]uint32{75, 2}), "abcde"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseTable(b)
		if err != nil {
			return
		}
		n := 0
		for _, e := range entries {
			n += len(e.data)
		}
		if n > len(b) || len(entries) > maxTableEntries {
			t.Fatalf("%d entries of %d bytes in a table of %d", len(entries), n, len(b))
		}
		var theirs abi.CertTable
		if err := theirs.Unmarshal(b); err != nil || len(theirs.Entries) != len(entries) {
			t.Fatalf("go-sev-guest reads %d entries of our %d: %v", len(theirs.Entries), len(entries), err)
		}
		for i, e := range theirs.Entries {
			if guid(e.GUID) != entries[i].kind || !bytes.Equal(e.RawCert, entries[i].data) {
				t.Fatalf("entry %d differs from go-sev-guest's", i)
			}
		}
	})
}

// FuzzEndorsement: no certificate makes the parser panic, and one that it finds
// in order has what verification reads.
func FuzzEndorsement(f *testing.F) {
	f.Add(hardware(f, "milan-v2.vcek.der"))
	f.Add(hardware(f, "milan-v3.vlek.der"))
	f.Add(newPKI(f, Turin, sim).certify(f, leaf{}).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, der := range certificates(b) {
			e := parseEndorsement(der)
			if e == nil || e.err != nil {
				continue
			}
			if e.key == nil || e.ext == nil || !e.vlek && len(e.ext.hwid) != 8 && len(e.ext.hwid) != 64 || e.vlek && e.ext.cspID == "" {
				t.Fatalf("in order, but %+v", e)
			}
		}
	})
}
