package measure

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
)

// sigstruct makes a signature structure, and signs it with a new key.
func sigstruct(t *testing.T) []byte {
	three, one := big.NewInt(3), big.NewInt(1)
	prime := func() *big.Int {
		for {
			p, err := rand.Prime(rand.Reader, 1536)
			if err != nil {
				t.Fatal(err)
			}
			if new(big.Int).Mod(p, three).Cmp(one) != 0 { // 3 has an inverse
				return p
			}
		}
	}
	p, q := prime(), prime()
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 3}, D: new(big.Int).ModInverse(three, phi), Primes: []*big.Int{p, q}}
	key.Precompute()
	b := make([]byte, SIGSTRUCTSize)
	copy(b, sigHeader1)
	copy(b[24:], sigHeader2)
	copy(b[128:512], reversed(key.N.FillBytes(make([]byte, 384))))
	b[512] = 3
	b[944] = 2 // the mask has the debug bit, the attributes don't
	for i := range 32 {
		b[960+i] = byte(i)
	}
	binary.LittleEndian.PutUint16(b[1024:], 7)
	binary.LittleEndian.PutUint16(b[1026:], 0x102)
	sum := sha256.Sum256(append(bytes.Clone(b[:128]), b[900:1028]...))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	copy(b[516:900], reversed(sig))
	return b
}

func TestSIGSTRUCT(t *testing.T) {
	b := sigstruct(t)
	ref, err := SIGSTRUCT(b)
	if err != nil {
		t.Fatal(err)
	}
	signer := sha256.Sum256(b[128:512])
	for name, want := range map[string]string{
		"sgx.mrenclave": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"sgx.mrsigner":  hex.EncodeToString(signer[:]), "sgx.isvprodid": "7", "sgx.isvsvn": "258",
	} {
		if got := Format(ref.Values[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if len(ref.Values) != 4 || len(ref.Notes) != 0 {
		t.Errorf("%+v", ref)
	}
	// Q1 and Q2 (1040 and on) only help the processor to compute; all else counts.
	for i := range 1040 {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := SIGSTRUCT(bad); err == nil {
			t.Fatalf("byte %d may change", i)
		}
	}
	for _, bad := range [][]byte{nil, b[1:], append(bytes.Clone(b), 0), bytes.Repeat([]byte{0xff}, SIGSTRUCTSize)} {
		if _, err := SIGSTRUCT(bad); err == nil {
			t.Errorf("%d bytes are accepted", len(bad))
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"nitro.pcr0=" + strings.Repeat("ab", 48), ""},
		{"nitro.pcr31=" + strings.Repeat("ab", 48), ""},
		{"sgx.isvsvn=3", ""},
		{"snp.policy=0x30000", ""},
		{"nvidia.driver=570.1", ""},
		{"nvidia.measurement.9=abcd", ""},
		{"nitro.pcr32=ab", "is no claim"},
		{"nitro.pcr01=ab", "is no claim"},
		{"nvidia.measurement.0=ab", "is no claim"},
		{"tdx.mrtd", "want NAME=VALUE"},
		{"tdx.mrtd=xyz", "want hex"},
		{"tdx.mrtd=abcd", "2 bytes, want 48"},
		{"cca.rim=", "0 bytes"},
		{"sgx.isvsvn=-3", "want a number"},
		{"nvidia.driver=", "want a text"},
		{"made.up=1", "is no claim"},
	} {
		ref, err := Parse(tt.in)
		if tt.want == "" && (err != nil || len(ref.Values) != 1 || ref.Kind == "") || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %+v %v, want %q", tt.in, ref, err, tt.want)
		}
	}
	var all Reference
	for _, in := range []string{"sgx.isvsvn=3", "sgx.isvprodid=4"} {
		ref, err := Parse(in)
		if err == nil {
			err = all.Merge(ref)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, in := range []string{"sgx.isvsvn=4", "snp.vmpl=0"} {
		ref, err := Parse(in)
		if err == nil {
			err = all.Merge(ref)
		}
		if err == nil {
			t.Errorf("%s is merged into %v", in, all.Names())
		}
	}
	if got := strings.Join(all.Names(), " "); got != "sgx.isvprodid sgx.isvsvn" {
		t.Error(got)
	}
}

func TestSimulated(t *testing.T) {
	for _, k := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA} {
		ref, err := Simulated(k, strings.NewReader("image"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range ref.Names() { // as other values are given
			if _, err := Parse(name + "=" + Format(ref.Values[name])); err != nil {
				t.Error(err)
			}
		}
		if _, err := tee.Manifest("x", ref.Kind, ref.Values); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	if _, err := Simulated("abacus", strings.NewReader("image")); err == nil {
		t.Error("a simulated abacus")
	}
}

// TestEventLog replays the log of a real guest, whose RTMRs go-tdx-guest tells.
func TestEventLog(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	if err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "testing/testdata/ccel/*"))
	found := false
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := EventLog(b)
		if err != nil {
			continue
		}
		found = true
		if ref.Values["tdx.rtmr0"] == nil || ref.Values["tdx.rtmr4"] != nil || ref.Values["tdx.mrtd"] != nil {
			t.Error(ref.Names())
		}
	}
	if !found {
		t.Errorf("no log among %v", logs)
	}
	if _, err := EventLog([]byte("junk")); err == nil {
		t.Error("junk is a log")
	}
}
