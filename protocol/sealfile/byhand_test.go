package sealfile_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/protocol/sealfile"
)

// A hand seals and opens as the specification says, with none of the package's
// code: what the package must agree with, and what makes files that it never
// would.
type hand struct {
	aead   cipher.AEAD
	base   []byte
	digest [32]byte
	commit []byte
}

const l = "org.trustedmcp/trust v1 "

// newHand derives the keys of a file with that header, given what HPKE exports.
func newHand(t testing.TB, exported, header []byte) *hand {
	t.Helper()
	h := &hand{digest: sha256.Sum256(dcbor.AppendBytes(dcbor.AppendText(dcbor.AppendArray(nil, 2), l+"file header"), header))}
	k, err := hkdf.Key(sha256.New, exported, nil, l+"file chunk keys"+string(h.digest[:]), 76)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		t.Fatal(err)
	}
	if h.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	h.base, h.commit = k[32:44], k[44:]
	return h
}

func info(digest []byte, bits uint64) []byte {
	b := dcbor.AppendUint(dcbor.AppendText(dcbor.AppendArray(nil, 6), l+"file"), 1)
	b = dcbor.AppendText(dcbor.AppendUint(b, 1), uri)
	return dcbor.AppendUint(dcbor.AppendBytes(b, digest), bits)
}

func (h *hand) place(n uint64, last bool) (nonce, aad []byte) {
	place := binary.BigEndian.AppendUint64(nil, n)
	place = append(place, 0, 0, 0, 0)
	if last {
		place[11] = 1
	}
	nonce = make([]byte, 12)
	for i := range nonce {
		nonce[i] = h.base[i] ^ place[i]
	}
	aad = dcbor.AppendBytes(dcbor.AppendText(dcbor.AppendArray(nil, 4), l+"file chunk"), h.digest[:])
	return nonce, dcbor.AppendBool(dcbor.AppendUint(aad, n), last)
}

// byHand seals chunks of 1 KiB as they are given, the last of them as the last.
func byHand(t testing.TB, p *party, chunks ...[]byte) []byte {
	t.Helper()
	digest := protocol.KeyDigest(p.object)
	public := private(t, p.key).PublicKey()
	enc, s, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info(digest[:], 10))
	if err != nil {
		t.Fatal(err)
	}
	exported, err := s.Export(l+"file secret", 32)
	if err != nil {
		t.Fatal(err)
	}
	item := dcbor.AppendUint(dcbor.AppendUint(dcbor.AppendArray(nil, 5), 1), 1)
	item = dcbor.AppendBytes(dcbor.AppendUint(dcbor.AppendBytes(item, digest[:]), 10), enc)
	b := append(binary.BigEndian.AppendUint16([]byte("TMCPSEAL"), uint16(len(item))), item...)
	h := newHand(t, exported, b)
	b = append(b, h.commit...)
	for i, c := range chunks {
		nonce, aad := h.place(uint64(i), i == len(chunks)-1)
		b = h.aead.Seal(b, nonce, c, aad)
	}
	return b
}

func private(t testing.TB, k *protocol.FileKey) hpke.PrivateKey {
	t.Helper()
	b, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	r := dcbor.NewReader(b)
	r.ArrayN(4)
	if r.Text() != l+"file private key" || r.Text() != uri || r.Uint() != 1 {
		t.Fatal("not the file key that is meant")
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(r.Bytes())
	if err != nil || r.Done() != nil {
		t.Fatal(err)
	}
	return key
}

// openByHand returns metadata and content.
func openByHand(t testing.TB, k *protocol.FileKey, b []byte) (meta, content []byte) {
	t.Helper()
	size := int(binary.BigEndian.Uint16(b[8:]))
	r := dcbor.NewReader(b[10 : 10+size])
	r.ArrayN(5)
	_, _, digest, bits, enc := r.Uint(), r.Uint(), r.Bytes(), r.Uint(), r.Bytes()
	rec, err := hpke.NewRecipient(enc, private(t, k), hpke.HKDFSHA256(), hpke.AES256GCM(), info(digest, bits))
	if err != nil {
		t.Fatal(err)
	}
	exported, err := rec.Export(l+"file secret", 32)
	if err != nil {
		t.Fatal(err)
	}
	h := newHand(t, exported, b[:10+size])
	if b = b[10+size:]; !bytes.Equal(b[:32], h.commit) {
		t.Fatal("the commitment is another")
	}
	var plain []byte
	for n := uint64(0); n == 0 || len(b) > 0; n++ {
		if n == 0 {
			b = b[32:]
		}
		k := min(len(b), 1<<bits+16)
		nonce, aad := h.place(n, k == len(b))
		if plain, err = h.aead.Open(plain, nonce, b[:k], aad); err != nil {
			t.Fatalf("chunk %d: %v", n, err)
		}
		b = b[k:]
	}
	size = int(binary.BigEndian.Uint16(plain))
	return plain[2 : 2+size], plain[2+size:]
}

// meta is the beginning of what chunks hold.
func meta(m ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
}

// Files that only someone would make who has the keys and breaks a rule: each has
// one cause.
func TestHostileSender(t *testing.T) {
	p := newParty(t)
	full := append(meta(0xa0), make([]byte, 1021)...)
	sized := func(n byte, content int) []byte { return append(meta(0xa1, 3, n), make([]byte, content)...) }
	for _, tt := range []struct {
		name   string
		chunks [][]byte
		want   sealfile.Reason
	}{
		{"good", [][]byte{full, {1}}, ""},
		{"empty content", [][]byte{meta(0xa0)}, ""},
		{"metadata that is not known", [][]byte{meta(0xa2, 9, 0, 0x61, 'x', 0)}, ""},
		{"last chunk empty", [][]byte{full, {}}, sealfile.Truncated},
		{"short chunk that is not the last", [][]byte{full[:100], {1}}, sealfile.Altered},
		{"long chunk", [][]byte{append(full, 0), {1}}, sealfile.Altered},
		{"no metadata", [][]byte{{}}, sealfile.Truncated},
		{"half a length", [][]byte{{0}}, sealfile.MalformedMetadata},
		{"metadata longer than the file", [][]byte{{0, 9, 0xa0}}, sealfile.MalformedMetadata},
		{"metadata beyond the bound", [][]byte{{0xff, 0xff, 0xa0}}, sealfile.MalformedMetadata},
		{"metadata that are no map", [][]byte{meta(0x80)}, sealfile.MalformedMetadata},
		{"metadata with a double key", [][]byte{meta(0xa2, 3, 0, 3, 0)}, sealfile.MalformedMetadata},
		{"metadata in another order", [][]byte{meta(0xa2, 3, 0, 1, 0x61, 'x')}, sealfile.MalformedMetadata},
		{"metadata and more", [][]byte{meta(0xa0, 0)}, sealfile.MalformedMetadata},
		{"metadata with a long integer", [][]byte{meta(0xa1, 3, 0x18, 0)}, sealfile.MalformedMetadata},
		{"size below 0", [][]byte{meta(0xa1, 3, 0x20)}, sealfile.MalformedMetadata},
		{"size of 2^63", [][]byte{meta(0xa1, 3, 0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0)}, sealfile.MalformedMetadata},
		{"a number as name", [][]byte{meta(0xa1, 1, 0)}, sealfile.MalformedMetadata},
		{"a name that is no UTF-8", [][]byte{meta(0xa1, 1, 0x61, 0xff)}, sealfile.MalformedMetadata},
		{"size as said", [][]byte{sized(9, 9)}, ""},
		{"less than said", [][]byte{sized(9, 8)}, sealfile.SizeMismatch},
		{"more than said", [][]byte{sized(9, 10)}, sealfile.SizeMismatch},
		{"more than said, over chunks", [][]byte{sized(9, 1019), {1}}, sealfile.SizeMismatch},
	} {
		b := byHand(t, p, tt.chunks...)
		_, err := open(b, p.key)
		if reason(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		r, err := sealfile.NewReader(bytes.NewReader(b), p.key)
		var out bytes.Buffer
		if err == nil {
			_, err = r.WriteTo(&out)
			if size := r.Metadata().Size; size >= 0 && int64(out.Len()) > size {
				t.Errorf("%s: %d bytes came out", tt.name, out.Len())
			}
		}
		if reason(err) != tt.want {
			t.Errorf("%s, by WriteTo: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// A vector is a file that was sealed once, to be opened by everyone for ever.
type vector struct {
	Note    string `json:"note"`
	Key     string `json:"key"`     // hex: file key, as FileKey.Bytes
	Object  string `json:"object"`  // hex: its key object
	Pin     string `json:"pin"`     // thumbprint of the identity key that signed it
	Sealed  string `json:"sealed"`  // hex
	Meta    string `json:"meta"`    // hex
	Content string `json:"content"` // hex
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var vectorFile = filepath.Join("testdata", "vectors.json")

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The vectors open, by the package and by hand.
func TestVectors(t *testing.T) {
	if *update {
		makeVectors(t)
	}
	all := vectors(t)
	if len(all) < 4 {
		t.Errorf("%d vectors", len(all))
	}
	for _, v := range all {
		key, err := protocol.ParseFileKey(unhex(t, v.Key))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := key.Bytes(); err != nil || hex.EncodeToString(again) != v.Key {
			t.Errorf("%s: the key is written otherwise: %v", v.Note, err)
		}
		sealed, object := unhex(t, v.Sealed), unhex(t, v.Object)
		pin, err := protocol.ParseThumbprint(v.Pin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protocol.VerifyFileKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(pin), Now: now}); err != nil {
			t.Errorf("%s: its key object: %v", v.Note, err)
		}
		got, err := open(sealed, key)
		if err != nil || !bytes.Equal(got, unhex(t, v.Content)) {
			t.Errorf("%s: %d bytes, %v", v.Note, len(got), err)
		}
		if h, err := sealfile.ReadHeader(bytes.NewReader(sealed)); err != nil || h.KeyDigest != protocol.KeyDigest(object) {
			t.Errorf("%s: %v, %v", v.Note, h, err)
		}
		m, content := openByHand(t, key, sealed)
		if !bytes.Equal(m, unhex(t, v.Meta)) || !bytes.Equal(content, got) {
			t.Errorf("%s: by hand it is another", v.Note)
		}
	}
}

func makeVectors(t *testing.T) {
	p := newParty(t)
	alice, err := protocol.GenerateIdentity("urn:alice")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := p.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, c := range []struct {
		note string
		size int
		o    sealfile.Options
	}{
		{"nothing, in chunks of 64 KiB", 0, sealfile.Options{}},
		{"17 bytes with all metadata", 17, sealfile.Options{Name: "täglich.txt", MediaType: "text/plain", Size: 17, Sized: true}},
		{"two full chunks of 1 KiB", 2*1024 - 3, small},
		{"three chunks, the last of 1 byte", 2*1024 - 2, small},
		{"signed by urn:alice", 5, sealfile.Options{Sender: alice}},
	} {
		content := make([]byte, c.size)
		for i := range content {
			content[i] = byte(i)
		}
		sealed := seal(t, p.to, content, c.o)
		m, _ := openByHand(t, p.key, sealed)
		all = append(all, vector{c.note, hex.EncodeToString(secret), hex.EncodeToString(p.object), p.id.Thumbprint().String(), hex.EncodeToString(sealed), hex.EncodeToString(m), hex.EncodeToString(content)})
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// No input makes the reader panic, use memory beyond a chunk, or give content that
// was not sealed: the seeds are the vectors, and the fuzzer has no key to seal more.
func FuzzOpen(f *testing.F) {
	var key *protocol.FileKey
	known := map[string]bool{}
	for _, v := range vectors(f) {
		k, err := protocol.ParseFileKey(unhex(f, v.Key))
		if err != nil {
			f.Fatal(err)
		}
		key, known[string(unhex(f, v.Content))] = k, true
		f.Add(unhex(f, v.Sealed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := open(b, key)
		if err == nil && !known[string(got)] {
			t.Fatalf("%d bytes were never sealed", len(got))
		}
		if err != nil && reason(err) == "" {
			t.Fatalf("%v has no reason", err)
		}
	})
}

// Metadata come from a sender who may be hostile: what opens is bounded.
func FuzzMetadata(f *testing.F) {
	p := newParty(f)
	for _, m := range [][]byte{{0xa0}, {0xa1, 3, 9}, {0xa2, 1, 0x61, 'x', 2, 0x61, 'y'}, {0xa1, 4, 0x41, 0}} {
		f.Add(m, []byte("content"))
	}
	f.Fuzz(func(t *testing.T, m, content []byte) {
		if len(m)+len(content) > 1000 {
			return
		}
		r, err := sealfile.NewReader(bytes.NewReader(byHand(t, p, append(meta(m...), content...))), p.key)
		if err != nil {
			if reason(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if got := r.Metadata(); len(got.Name) > 1024 || len(got.MediaType) > 1024 || got.Size < -1 {
			t.Fatalf("%+v", got)
		}
		var out bytes.Buffer
		n, err := r.WriteTo(&out)
		if !bytes.HasPrefix(content, out.Bytes()) || err == nil && n != int64(len(content)) {
			t.Fatalf("%d of %d bytes: %v", n, len(content), err)
		}
		if s, err := r.Sender(p.expect()); err == nil {
			t.Fatalf("%+v never sealed", s)
		}
	})
}

// No file key that is read panics or is written otherwise.
func FuzzFileKey(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Key))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := protocol.ParseFileKey(b)
		if err != nil {
			return
		}
		if again, err := k.Bytes(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read, and written as %x: %v", b, again, err)
		}
	})
}
