package sevsnp

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"

	"github.com/trustedmcp/tmcp/evidence"
)

// header makes the header of a certificate table, with its end.
func header(spans ...[2]uint32) (out []byte) {
	for i, s := range spans {
		g := guid{byte(i + 1)}
		out = append(out, g[:]...)
		out = binary.LittleEndian.AppendUint32(out, s[0])
		out = binary.LittleEndian.AppendUint32(out, s[1])
	}
	return append(out, make([]byte, entrySize)...)
}

// TestTable: each byte of a certificate table has one place.
func TestTable(t *testing.T) {
	many := make([][2]uint32, maxTableEntries+1)
	for i := range many {
		many[i] = [2]uint32{uint32((len(many) + 1) * entrySize), 1}
	}
	for name, tt := range map[string]struct {
		table []byte
		want  string // the entries' data, or the error
	}{
		"none":                {nil, ""},
		"empty":               {header(), ""},
		"one":                 {append(header([2]uint32{48, 3}), "abc"...), "abc"},
		"two":                 {append(header([2]uint32{72, 3}, [2]uint32{75, 2}), "abcde"...), "abc de"},
		"two, other order":    {append(header([2]uint32{74, 3}, [2]uint32{72, 2}), "abcde"...), "cde ab"},
		"padded":              {append(header([2]uint32{50, 1}), "\x00\x00a\x00"...), "a"},
		"no end":              {header([2]uint32{0, 24})[:24], "not ended"},
		"part of an entry":    {header()[:23], "not ended"},
		"behind the end":      {append(header([2]uint32{48, 4}), "abc"...), "bytes 48 to 52 of 51"},
		"in the header":       {append(header([2]uint32{47, 3}), "abc"...), "overlaps"},
		"overlap":             {append(header([2]uint32{72, 3}, [2]uint32{74, 2}), "abcd"...), "overlaps"},
		"empty entry":         {header([2]uint32{48, 0}), "bytes 48 to 48"},
		"byte of no entry":    {append(header([2]uint32{48, 2}), "abc"...), "not zero"},
		"wraps in 32 bits":    {header([2]uint32{0xFFFFFF00, 0x100 + 40}), "of 48"},
		"too many entries":    {append(header(many...), 'x'), "more than 16"},
		"longer than we read": {make([]byte, maxTable+1), "at most"},
	} {
		entries, err := parseTable(tt.table)
		var got []string
		for _, e := range entries {
			got = append(got, string(e.data))
		}
		if err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) || err == nil && strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
}

// TestTableLibrary: the library's parser of the same table panics where ours
// refuses. The kinds of entries are the library's.
func TestTableLibrary(t *testing.T) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("go-sev-guest does not panic over a wrapping table any more; its parser could serve")
			}
		}()
		_ = new(abi.CertTable).Unmarshal(header([2]uint32{0xFFFFFF00, 0x100 + 40}))
	}()
	for g, name := range map[guid]string{guidVCEK: abi.VcekGUID, guidVLEK: abi.VlekGUID, guidASK: abi.AskGUID, guidARK: abi.ArkGUID, {}: abi.AsvkGUID} {
		if g.String() != name {
			t.Errorf("%v is not %s", g, name)
		}
	}
}

// TestExtensions: on real certificates of Milan the library reads the same.
func TestExtensions(t *testing.T) {
	for _, der := range [][]byte{hardware(t, "milan-v2.vcek.der"), hardware(t, "milan-v3.vlek.der"), hardware(t, "test-vcek-invalid-legacy.der"), hardware(t, "test-vcek-invalid-new.der"), library(t, "verify/testdata/vcek.testcer")} {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		e := parseEndorsement(der)
		if e == nil || e.err != nil {
			t.Fatalf("%v: %+v", c.Subject, e)
		}
		want, err := kds.VcekCertificateExtensions(c)
		if e.vlek {
			want, err = kds.VlekCertificateExtensions(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		if tcb := e.ext.tcb(); want.ProductName != e.ext.productName || want.CspID != e.ext.cspID || !bytes.Equal(want.HWID, e.ext.hwid) || uint64(want.TCBVersion) != binary.LittleEndian.Uint64(tcb[:]) {
			t.Errorf("%+v, the library reads %+v", e.ext, want)
		}
	}
	for _, der := range [][]byte{nil, []byte("x"), amdAnchors().AMD[0].ARK.Raw} {
		if e := parseEndorsement(der); e != nil {
			t.Errorf("%.20q is taken for an endorsement key", der)
		}
	}
}

// TestSilent: nothing reaches stdout or stderr, on which MCP's messages travel.
func TestSilent(t *testing.T) {
	report, cert := hardware(t, "milan-v2-vcek.report"), hardware(t, "milan-v2.vcek.der")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	for _, b := range [][]byte{report, report[:9], append(slices.Clone(report), header()...), append(slices.Clone(report), "junk"...)} {
		New(Options{}).Verify(evidence.TypeSNP, b, amd(may, cert))
		New(Options{}).Verify(evidence.TypeSNP, b, amd(may))
	}
	os.Stdout, os.Stderr = stdout, stderr
	w.Close()
	if out, err := io.ReadAll(r); err != nil || len(out) > 0 {
		t.Errorf("wrote %q, %v", out, err)
	}
}
