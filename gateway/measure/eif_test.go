package measure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"hash/crc32"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

type eifPart struct {
	kind uint16
	data []byte
}

// eif writes an image file.
func eif(parts ...eifPart) []byte {
	be := binary.BigEndian
	b := make([]byte, eifHeader)
	copy(b, ".eif")
	be.PutUint16(b[4:], 4)
	be.PutUint16(b[26:], uint16(len(parts)))
	for i, p := range parts {
		be.PutUint64(b[28+8*i:], uint64(len(b)))
		be.PutUint64(b[284+8*i:], uint64(len(p.data)))
		b = be.AppendUint16(b, p.kind)
		b = be.AppendUint16(b, 0)
		b = append(be.AppendUint64(b, uint64(len(p.data))), p.data...)
	}
	return sealEIF(b)
}

// sealEIF makes the CRC right.
func sealEIF(b []byte) []byte {
	sum := crc32.Update(crc32.ChecksumIEEE(b[:eifHeader-4]), crc32.IEEETable, b[eifHeader:])
	binary.BigEndian.PutUint32(b[eifHeader-4:], sum)
	return b
}

func pcr(parts ...[]byte) string {
	sum := sha512.Sum384(bytes.Join(parts, nil))
	sum = sha512.Sum384(append(make([]byte, 48), sum[:]...))
	return hex.EncodeToString(sum[:])
}

func TestEIF(t *testing.T) {
	k, c, r1, r2, r3 := []byte("kernel"), []byte("console=ttyS0"), []byte("bootstrap"), []byte("application"), []byte("more")
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e10, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	// As nitro-cli writes it: bytes as an array of numbers.
	numbers := func(b []byte) (out []uint) {
		for _, c := range b {
			out = append(out, uint(c))
		}
		return out
	}
	sig, err := cbor.Marshal([]map[string]any{{
		"signing_certificate": numbers(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"signature":           numbers([]byte("not looked at")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		file []byte
		want map[string]string
	}{
		{"one ramdisk", eif(eifPart{1, k}, eifPart{2, c}, eifPart{5, []byte("{}")}, eifPart{3, r1}), map[string]string{
			"nitro.pcr0": pcr(k, c, r1), "nitro.pcr1": pcr(k, c, r1),
			// That of every image with one ramdisk.
			"nitro.pcr2": "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a",
		}},
		{"three ramdisks, signed", eif(eifPart{1, k}, eifPart{2, c}, eifPart{3, r1}, eifPart{3, r2}, eifPart{3, r3}, eifPart{4, sig}), map[string]string{
			"nitro.pcr0": pcr(k, c, r1, r2, r3), "nitro.pcr1": pcr(k, c, r1), "nitro.pcr2": pcr(r2, r3), "nitro.pcr8": pcr(der),
		}},
	} {
		ref, err := EIF(bytes.NewReader(tt.file))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(ref.Values) != len(tt.want) {
			t.Errorf("%s: %v", tt.name, ref.Names())
		}
		for name, want := range tt.want {
			if got := Format(ref.Values[name]); got != want {
				t.Errorf("%s: %s is %s, want %s", tt.name, name, got, want)
			}
		}
		// Every byte is under the CRC.
		for i := range tt.file {
			bad := bytes.Clone(tt.file)
			bad[i] ^= 1
			if _, err := EIF(bytes.NewReader(bad)); err == nil {
				t.Fatalf("%s: byte %d may change", tt.name, i)
			}
			if _, err := EIF(bytes.NewReader(tt.file[:i])); err == nil {
				t.Fatalf("%s: %d bytes will do", tt.name, i)
			}
		}
	}
}

func TestEIFRefuses(t *testing.T) {
	good := []eifPart{{1, []byte("k")}, {2, []byte("c")}, {3, []byte("r")}}
	with := func(p ...eifPart) []byte { return eif(append(append([]eifPart{}, good...), p...)...) }
	version := eif(good...)
	version[5] = 9
	none := eif()
	long := append(eif(good...), 0)
	huge := eif(good...)
	binary.BigEndian.PutUint64(huge[284:], 1<<62)
	binary.BigEndian.PutUint64(huge[eifHeader+4:], 1<<62)
	for _, tt := range []struct {
		name, want string
		file       []byte
	}{
		{"another file", "magic", []byte(strings.Repeat("x", eifHeader))},
		{"version", "version 9", sealEIF(version)},
		{"no section", "0 sections", none},
		{"two kernels", "second kernel", with(eifPart{1, nil})},
		{"unknown section", "unknown type 9", with(eifPart{9, nil})},
		{"no ramdisk", "want a kernel", eif(good[:2]...)},
		{"trailing byte", "after the last", sealEIF(long)},
		{"huge section", "more than", sealEIF(huge)},
		{"junk for a signature", "signature section", with(eifPart{4, []byte("junk")})},
		{"huge signature", "at most", with(eifPart{4, make([]byte, maxEIFSignature+1)})},
	} {
		if _, err := EIF(bytes.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzEIF(f *testing.F) {
	f.Add(eif(eifPart{1, []byte("k")}, eifPart{2, []byte("c")}, eifPart{3, []byte("r")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ref, err := EIF(bytes.NewReader(b)); err == nil && len(ref.Values) < 3 {
			t.Error(ref.Values)
		}
	})
}
