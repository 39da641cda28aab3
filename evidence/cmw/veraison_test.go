package cmw

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	vcmw "github.com/veraison/cmw"
)

// veraison/cmw and we agree on the examples of RFC 9999.
func TestVeraisonAgrees(t *testing.T) {
	for _, tt := range examples {
		b := exampleBytes(t, tt.bytes)
		var theirs vcmw.CMW
		if err := theirs.Deserialize(b); err != nil {
			t.Errorf("%s: veraison/cmw: %v", tt.section, err)
			continue
		}
		if theirs.GetKind() == vcmw.KindMonad {
			v, err := theirs.GetMonadValue()
			ind, err2 := theirs.GetMonadIndicator()
			if err != nil || err2 != nil || !bytes.Equal(v, tt.cmw.Record.Value) || uint32(ind) != uint32(tt.cmw.Record.Ind) {
				t.Errorf("%s: %x, %d", tt.section, v, ind)
			}
		}
		var out []byte
		var err error
		if b[0] == '[' || b[0] == '{' {
			out, err = theirs.MarshalJSON()
		} else {
			out, err = theirs.MarshalCBOR()
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseAny(out)
		if err != nil {
			t.Errorf("%s: theirs does not parse: %v", tt.section, err)
			continue
		}
		if again, err := back.Encode(); err != nil {
			t.Errorf("%s: %v", tt.section, err)
		} else if want, _ := tt.cmw.Encode(); !bytes.Equal(again, want) {
			t.Errorf("%s: %x, want %x", tt.section, again, want)
		}
	}
}

func parseAny(b []byte) (*CMW, error) {
	if b[0] == '[' || b[0] == '{' {
		return ParseJSON(b)
	}
	return ParseUnsorted(b)
}

// The files that veraison/cmw tests with: both read them.
func TestVeraisonFiles(t *testing.T) {
	dir := module(t, "github.com/veraison/cmw")
	names, err := filepath.Glob(filepath.Join(dir, "testdata", "collection*"))
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".diag") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := parseAny(b); err != nil {
			t.Errorf("%s: %v", filepath.Base(name), err)
		} else if c.Collection == nil {
			t.Errorf("%s: no collection", filepath.Base(name))
		}
	}
	for _, name := range []string{"x509-cert+cbor-cmw.der", "x509-cert+json-cmw.der"} {
		der, err := os.ReadFile(filepath.Join(dir, "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range cert.Extensions {
			if e.Id.Equal(OID) {
				found = true
				if _, c, err := DecodeExtension(e.Value); err != nil || c.Record == nil && c.Collection == nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if !found {
			t.Errorf("%s has no CMW", name)
		}
	}
}

func module(t testing.TB, path string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		t.Fatalf("module %s, which go.mod names, is not at hand: %v", path, err)
	}
	return strings.TrimSpace(string(out))
}

// W1: RFC 9999 forbids what veraison/cmw v0.2.0 accepts: section 3.1 "The value MUST
// be non-zero", section 3.3 "A collection MUST have at least one CMW entry", and
// labels are unique. Should this fail, they have mended it, and the note in
// RATIONALE.md may go.
func TestVeraisonAcceptsTooMuch(t *testing.T) {
	for _, tt := range []struct{ name, hex string }{
		{"indicator 0", "83 19fde7 41ff 00"},
		{"empty collection", "a0"},
		{"label twice", "a2 6161 82 19fde7 41ff 6161 82 19fde7 41fe"},
		{"record of indefinite length", "9f 19fde7 41ff ff"},
	} {
		b := unhex(t, tt.hex)
		var theirs vcmw.CMW
		if err := theirs.Deserialize(b); err != nil {
			t.Errorf("%s: veraison/cmw refuses it now: %v", tt.name, err)
		}
		if c, err := ParseUnsorted(b); err == nil {
			t.Errorf("%s: accepted %+v", tt.name, c)
		}
	}
}
