package sealfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/protocol/sealfile"
)

const uri = "https://files.example/mcp"

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// A party is a recipient with what senders know of it.
type party struct {
	id     *protocol.Identity
	key    *protocol.FileKey
	object []byte
	to     *protocol.FileRecipient
}

func newParty(t testing.TB) *party {
	t.Helper()
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		t.Fatal(err)
	}
	key, err := protocol.GenerateFileKey(uri)
	if err != nil {
		t.Fatal(err)
	}
	return of(t, id, key)
}

func of(t testing.TB, id *protocol.Identity, key *protocol.FileKey) *party {
	t.Helper()
	p := &party{id: id, key: key}
	var err error
	if p.object, err = key.Object(protocol.FileKeyConfig{Identity: id}, now); err != nil {
		t.Fatal(err)
	}
	if p.to, err = protocol.VerifyFileKeyObject(p.object, p.expect()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *party) expect() protocol.Expect {
	return protocol.Expect{Identity: p.id.URI(), Anchor: protocol.Pin(p.id.Thumbprint()), Now: now}
}

func seal(t testing.TB, to *protocol.FileRecipient, content []byte, o sealfile.Options) []byte {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = now
	}
	var b bytes.Buffer
	w, err := sealfile.NewWriter(&b, to, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(b []byte, keys ...*protocol.FileKey) ([]byte, error) {
	r, err := sealfile.NewReader(bytes.NewReader(b), keys...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func reason(err error) sealfile.Reason {
	var e *sealfile.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// small is for files of many chunks.
var small = sealfile.Options{ChunkBits: sealfile.MinChunkBits}

// Content of any size around the edges of chunks comes back, with what was said of
// it, however it is written and read.
func TestRoundTrip(t *testing.T) {
	p := newParty(t)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 5000), rapid.SampledFrom([]int{0, 1, 1021, 1022, 1023, 1024, 1025, 2046, 2047, 2048})).Draw(t, "size")
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i * 7)
		}
		o := sealfile.Options{Now: now, ChunkBits: rapid.IntRange(10, 12).Draw(t, "bits"),
			Name: rapid.StringN(0, 100, 500).Draw(t, "name"), MediaType: "text/plain"}
		if o.Sized = rapid.Bool().Draw(t, "sized"); o.Sized {
			o.Size = int64(size)
		}
		var b bytes.Buffer
		w, err := sealfile.NewWriter(&b, p.to, o)
		if err != nil {
			t.Fatal(err)
		}
		for rest := content; len(rest) > 0; {
			n := min(rapid.IntRange(1, 3000).Draw(t, "piece"), len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sealed := b.Bytes()
		r, err := sealfile.NewReader(iotest.OneByteReader(bytes.NewReader(sealed)), p.key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(r))
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes came back as %d: %v", size, len(got), err)
		}
		r, err = sealfile.NewReader(bytes.NewReader(sealed), p.key)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if n, err := r.WriteTo(&out); err != nil || n != int64(size) || !bytes.Equal(out.Bytes(), content) {
			t.Fatalf("WriteTo: %d bytes: %v", n, err)
		}
		m := r.Metadata()
		if want := int64(size); m.Name != o.Name || m.MediaType != o.MediaType || o.Sized && m.Size != want || !o.Sized && m.Size != -1 || r.Signed() {
			t.Fatalf("the metadata are %+v", m)
		}
	})
}

// Every byte of a file counts: with any one changed, nothing of the chunk that it
// stands in comes out, and the file does not end well.
func TestEveryByte(t *testing.T) {
	p := newParty(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 150) // three chunks
	sealed := seal(t, p.to, content, small)
	for i := range sealed {
		b := slices.Clone(sealed)
		for _, bit := range []byte{1, 0x80} {
			b[i] = sealed[i] ^ bit
			got, err := open(b, p.key)
			if reason(err) == "" {
				t.Fatalf("byte %d, bit %#x: got %d bytes and %v", i, bit, len(got), err)
			}
			if !bytes.HasPrefix(content, got) || len(got) >= len(content) {
				t.Fatalf("byte %d: %d bytes came out that are no part of the content", i, len(got))
			}
		}
	}
	t.Logf("%d bytes, 2 bits of each", len(sealed))
}

// parts takes a sealed file of chunks of 1 KiB apart.
func parts(b []byte) (head []byte, chunks [][]byte) {
	n := len(sealfile.Magic) + 2 + int(binary.BigEndian.Uint16(b[len(sealfile.Magic):])) + 32
	head = b[:n]
	for c := range slices.Chunk(b[n:], 1024+16) {
		chunks = append(chunks, c)
	}
	return head, chunks
}

// What an attacker does with chunks, and cuts at every length.
func TestChunks(t *testing.T) {
	p := newParty(t)
	content := make([]byte, 4*1024-3) // four full chunks, with the metadata
	for i := range content {
		content[i] = byte(i / 1000)
	}
	sealed := seal(t, p.to, content, small)
	other := seal(t, p.to, content, small)
	head, c := parts(sealed)
	otherHead, o := parts(other)
	if len(c) != 4 || len(c[3]) != 1024+16 {
		t.Fatalf("%d chunks, want 4 full ones", len(c))
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want sealfile.Reason
	}{
		{"untouched", join(head, c...), ""},
		{"last missing", join(head, c[:3]...), sealfile.Truncated},
		{"last two missing", join(head, c[:2]...), sealfile.Truncated},
		{"all missing", head, sealfile.Truncated},
		{"first missing", join(head, c[1:]...), sealfile.Altered},
		{"swapped", join(head, c[0], c[2], c[1], c[3]), sealfile.Altered},
		{"doubled", join(head, c[0], c[1], c[1], c[2], c[3]), sealfile.Altered},
		{"last doubled", join(head, c[0], c[1], c[2], c[3], c[3]), sealfile.TrailingData},
		{"spliced", join(head, c[0], o[1], c[2], c[3]), sealfile.Altered},
		{"last of another", join(head, c[0], c[1], c[2], o[3]), sealfile.Altered},
		{"head of another", join(otherHead, c...), sealfile.Altered},
		{"last early", join(head, c[0], c[1], c[3]), sealfile.Altered},
		{"a byte more", append(join(head, c...), 0), sealfile.TrailingData},
		{"two files", append(join(head, c...), other...), sealfile.TrailingData},
		{"empty", nil, sealfile.NotSealed},
		{"another format", []byte("age-encryption.org/v1\n"), sealfile.NotSealed},
	} {
		got, err := open(tt.b, p.key)
		if reason(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if err == nil && !bytes.Equal(got, content) {
			t.Errorf("%s: another content", tt.name)
		}
	}
	for n := range sealed {
		got, err := open(sealed[:n], p.key)
		if r := reason(err); r != sealfile.Truncated && r != sealfile.Altered && (r != sealfile.NotSealed || n > 0) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		if !bytes.HasPrefix(content, got) {
			t.Fatalf("cut to %d bytes: another content", n)
		}
	}
}

func join(head []byte, chunks ...[]byte) []byte {
	return slices.Concat(append([][]byte{head}, chunks...)...)
}

// Headers that break a rule are refused for it.
func TestHeader(t *testing.T) {
	p := newParty(t)
	sealed := seal(t, p.to, []byte("x"), sealfile.Options{})
	rest := sealed[len(sealfile.Magic)+2+int(binary.BigEndian.Uint16(sealed[8:])):]
	h, err := sealfile.ReadHeader(bytes.NewReader(sealed))
	if err != nil || h.KeyDigest != protocol.KeyDigest(p.object) || h.ChunkBits != 16 || h.Suite != protocol.SuiteHybrid {
		t.Fatalf("%+v, %v", h, err)
	}
	with := func(n int, version, suite, bits uint64, enc []byte, tail ...byte) []byte {
		e := dcbor.AppendUint(dcbor.AppendUint(dcbor.AppendArray(nil, n), version), suite)
		e = dcbor.AppendUint(dcbor.AppendBytes(e, h.KeyDigest[:]), bits)
		e = append(dcbor.AppendBytes(e, enc), tail...)
		return append(append(binary.BigEndian.AppendUint16([]byte(sealfile.Magic), uint16(len(e))), e...), rest...)
	}
	short := h.Enc[:1119]
	for _, tt := range []struct {
		name string
		b    []byte
		want sealfile.Reason
	}{
		{"as it was", with(5, 1, 1, 16, h.Enc), ""},
		{"version 2", with(5, 2, 1, 16, h.Enc), sealfile.UnsupportedVersion},
		{"version 2 with more", with(6, 2, 1, 16, h.Enc, 0), sealfile.UnsupportedVersion},
		{"suite 2", with(5, 1, 2, 16, h.Enc), sealfile.UnsupportedSuite},
		{"chunks of 512 bytes", with(5, 1, 1, 9, h.Enc), sealfile.MalformedHeader},
		{"chunks of 2 MiB", with(5, 1, 1, 21, h.Enc), sealfile.MalformedHeader},
		{"chunks of 2^64 bytes", with(5, 1, 1, 1<<63, h.Enc), sealfile.MalformedHeader},
		{"other chunks", with(5, 1, 1, 15, h.Enc), sealfile.OtherKey},
		{"short enc", with(5, 1, 1, 16, short), sealfile.MalformedHeader},
		{"six members", with(6, 1, 1, 16, h.Enc, 0), sealfile.MalformedHeader},
		{"more after it", with(5, 1, 1, 16, h.Enc, 0), sealfile.MalformedHeader},
		{"no header", append([]byte(sealfile.Magic), 0, 0), sealfile.MalformedHeader},
		{"a long header", append([]byte(sealfile.Magic), 0xff, 0xff), sealfile.MalformedHeader},
	} {
		if _, err := open(tt.b, p.key); reason(err) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

// A file opens with the key that it was sealed to, for the identity that it was
// sealed to, and with no other.
func TestKeys(t *testing.T) {
	p, q := newParty(t), newParty(t)
	sealed := seal(t, p.to, []byte("x"), sealfile.Options{})
	if _, err := open(sealed, q.key); reason(err) != sealfile.OtherKey {
		t.Errorf("another key: %v", err)
	}
	if _, err := open(sealed); reason(err) != sealfile.OtherKey {
		t.Errorf("no key: %v", err)
	}
	if got, err := open(sealed, q.key, p.key); err != nil || string(got) != "x" {
		t.Errorf("the second of two keys: %q, %v", got, err)
	}
	// The key as it is kept.
	b, err := p.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := protocol.ParseFileKey(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(sealed, again); err != nil || again.Identity() != uri {
		t.Errorf("a key read back: %v", err)
	}
	for i := range b {
		c := slices.Clone(b)
		c[i] ^= 1
		if k, err := protocol.ParseFileKey(c); err == nil {
			if _, err := open(sealed, k); reason(err) != sealfile.OtherKey {
				t.Errorf("byte %d of the key changed: %v", i, err)
			}
		}
	}
	// The same key under another identity: what somebody else, who put this public
	// key into a key object of theirs, would pass on.
	c := bytes.Replace(b, []byte("https://files"), []byte("https://liars"), 1)
	if liar, err := protocol.ParseFileKey(c); err != nil {
		t.Error(err)
	} else if _, err := open(sealed, liar); reason(err) != sealfile.OtherKey {
		t.Errorf("the key of another identity: %v", err)
	}
	// A new key object of the same key.
	if p2 := of(t, p.id, p.key); true {
		if _, err := open(seal(t, p2.to, []byte("x"), sealfile.Options{}), p.key); err != nil {
			t.Error(err)
		}
	}
}

// Who sealed a file is known when a statement says so, and only then.
func TestSender(t *testing.T) {
	p, q := newParty(t), newParty(t)
	alice, err := protocol.GenerateIdentity("urn:alice")
	if err != nil {
		t.Fatal(err)
	}
	mallory, err := protocol.GenerateIdentity("urn:alice")
	if err != nil {
		t.Fatal(err)
	}
	later := now.AddDate(3, 0, 0)
	want := protocol.Expect{Identity: "urn:alice", Anchor: protocol.Pin(alice.Thumbprint()), Now: later}
	sender := func(b []byte, k *protocol.FileKey, want protocol.Expect) (*protocol.FileSender, error) {
		r, err := sealfile.NewReader(bytes.NewReader(b), k)
		if err != nil {
			t.Fatal(err)
		}
		return r.Sender(want)
	}
	sealed := seal(t, p.to, []byte("x"), sealfile.Options{Name: "x.txt", Sender: alice, ChunkBits: 10})
	if s, err := sender(sealed, p.key, want); err != nil || s.Identity != "urn:alice" || s.Thumbprint != alice.Thumbprint() || !s.At.Equal(now) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := sender(seal(t, p.to, []byte("x"), sealfile.Options{}), p.key, want); reason(err) != sealfile.NoSender {
		t.Errorf("without a statement: %v", err)
	}
	if _, err := sender(seal(t, p.to, []byte("x"), sealfile.Options{Sender: mallory}), p.key, want); !protocol.IsReason(err, protocol.IdentityMismatch) {
		t.Errorf("another key by that name: %v", err)
	}
	bob := want
	bob.Identity = "urn:bob"
	if _, err := sender(sealed, p.key, bob); !protocol.IsReason(err, protocol.IdentityMismatch) {
		t.Errorf("another name: %v", err)
	}
	if _, err := sender(seal(t, q.to, []byte("x"), sealfile.Options{Sender: alice}), q.key, want); err != nil {
		t.Error(err)
	}
	// A statement is about one file: that of another is no good, nor is a key object.
	d := protocol.Digest{1}
	for name, make := range map[string]func() ([]byte, error){
		"another file":       func() ([]byte, error) { return protocol.SignSealing(alice, protocol.Digest{2}, now) },
		"a file key object":  func() ([]byte, error) { return p.object, nil },
		"no CBOR":            func() ([]byte, error) { return []byte("x"), nil },
		"an empty statement": func() ([]byte, error) { return nil, nil },
	} {
		b, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protocol.VerifySealing(b, d, want); err == nil {
			t.Errorf("%s is taken for a sender's statement", name)
		}
	}
}

// A size that was said is held to, by the sender and by the recipient.
func TestSize(t *testing.T) {
	p := newParty(t)
	for _, n := range []int{9, 11, 5000} {
		w, err := sealfile.NewWriter(io.Discard, p.to, sealfile.Options{Now: now, Size: 10, Sized: true, ChunkBits: 10})
		if err != nil {
			t.Fatal(err)
		}
		_, werr := w.Write(make([]byte, n))
		if cerr := w.Close(); reason(errors.Join(werr, cerr)) != sealfile.SizeMismatch {
			t.Errorf("10 bytes said, %d written: %v, %v", n, werr, cerr)
		}
	}
}

// A Writer that failed leaves no file that opens, and says so to the end.
func TestWriterFails(t *testing.T) {
	p := newParty(t)
	full := errors.New("no space left")
	for limit := range 6 {
		var b bytes.Buffer
		w, err := sealfile.NewWriter(writer(func(c []byte) (int, error) {
			if b.Len() > limit*1000 {
				return 0, full
			}
			return b.Write(c)
		}), p.to, sealfile.Options{Now: now, ChunkBits: 10})
		if err == nil {
			_, _ = w.Write(make([]byte, 10000))
			_, _ = w.Write([]byte("x"))
			err = w.Close()
		}
		if !errors.Is(err, full) {
			t.Errorf("at %d bytes: %v", limit*1000, err)
		}
		if _, err := open(b.Bytes(), p.key); err == nil {
			t.Errorf("at %d bytes: what was left opens", limit*1000)
		}
	}
	w, err := sealfile.NewWriter(io.Discard, p.to, sealfile.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a closed Writer takes more")
	}
	// A reader below that fails is no truncated file.
	sealed := seal(t, p.to, make([]byte, 5000), small)
	for n := range len(sealed) {
		r, err := sealfile.NewReader(io.MultiReader(bytes.NewReader(sealed[:n]), iotest.ErrReader(full)), p.key)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, full) {
			t.Fatalf("the source fails at %d: %v", n, err)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// Options that make no sense are refused before anything is written.
func TestOptions(t *testing.T) {
	p := newParty(t)
	for name, tt := range map[string]struct {
		o    sealfile.Options
		want sealfile.Reason
	}{
		"no time":         {sealfile.Options{}, sealfile.BadOption},
		"small chunks":    {sealfile.Options{Now: now, ChunkBits: 9}, sealfile.BadOption},
		"large chunks":    {sealfile.Options{Now: now, ChunkBits: 21}, sealfile.BadOption},
		"size, not sized": {sealfile.Options{Now: now, Size: 1}, sealfile.BadOption},
		"negative size":   {sealfile.Options{Now: now, Size: -1, Sized: true}, sealfile.BadOption},
		"long name":       {sealfile.Options{Now: now, Name: strings.Repeat("x", 1025)}, sealfile.TooLarge},
		"expired":         {sealfile.Options{Now: p.to.Expires()}, sealfile.Expired},
	} {
		var b bytes.Buffer
		if _, err := sealfile.NewWriter(&b, p.to, tt.o); reason(err) != tt.want || b.Len() > 0 {
			t.Errorf("%s: %v, want %s; %d bytes written", name, err, tt.want, b.Len())
		}
	}
}

// zeros gives n zero bytes.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	k := int(min(int64(len(p)), z.n))
	clear(p[:k])
	z.n -= int64(k)
	return k, nil
}

// Memory does not grow with the file: 256 MiB through both ends, in less than 2 MiB.
func TestConstantMemory(t *testing.T) {
	const size, bound = 256 << 20, 2 << 20
	p := newParty(t)
	pr, pw := io.Pipe()
	go func() {
		w, err := sealfile.NewWriter(pw, p.to, sealfile.Options{Now: now, Size: size, Sized: true})
		if err == nil {
			_, err = io.Copy(w, &zeros{size})
		}
		if err == nil {
			err = w.Close()
		}
		_ = pw.CloseWithError(err)
	}()
	r, err := sealfile.NewReader(pr, p.key)
	if err != nil {
		t.Fatal(err)
	}
	var first, last runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&first)
	var peak uint64
	var chunks int
	n, err := r.WriteTo(writer(func(b []byte) (int, error) {
		if chunks++; chunks%512 == 0 {
			runtime.ReadMemStats(&last)
			peak = max(peak, last.HeapAlloc)
		}
		return len(b), nil
	}))
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&last)
	if got := last.TotalAlloc - first.TotalAlloc; got > bound {
		t.Errorf("%d bytes were allocated on the way, at most %d are allowed", got, bound)
	}
	if peak > first.HeapAlloc+bound {
		t.Errorf("the heap grew by %d bytes, at most %d are allowed", peak-first.HeapAlloc, bound)
	}
	t.Logf("%d MiB: %d bytes allocated in all", size>>20, last.TotalAlloc-first.TotalAlloc)
}

// A key object for files is none for calls, and the other way round.
func TestPurposes(t *testing.T) {
	p := newParty(t)
	settings, err := protocol.NewSettings(protocol.Offer{})
	if err != nil {
		t.Fatal(err)
	}
	want := p.expect()
	want.Settings = settings
	if _, err := protocol.VerifyKeyObject(p.object, want); !protocol.IsReason(err, protocol.KeyObjectInvalid) {
		t.Errorf("a file key object, where one of calls is wanted: %v", err)
	}
	server, err := protocol.NewServer(protocol.ServerConfig{Identity: p.id, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	calls, _, err := server.KeyObject(now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.VerifyKeyObject(calls, want); err != nil {
		t.Error(err)
	}
	if _, err := protocol.VerifyFileKeyObject(calls, want); !protocol.IsReason(err, protocol.KeyObjectInvalid) {
		t.Errorf("a key object of calls, where one of files is wanted: %v", err)
	}
	// The names alone differ: with the typ of the other, the signature is wrong.
	swap := func(b []byte, from, to string) []byte {
		i := bytes.Index(b, []byte(from))
		if i < 0 {
			t.Fatalf("no %s", from)
		}
		head := dcbor.AppendText(nil, to)
		body := append([]byte{0xa1, 0x10}, head...)
		old := append([]byte{0xa1, 0x10}, dcbor.AppendText(nil, from)...)
		return bytes.Replace(b, dcbor.AppendBytes(nil, old), dcbor.AppendBytes(nil, body), 1)
	}
	const file, call = "application/vnd.trustedmcp.file-key+cose", "application/vnd.trustedmcp.key+cose"
	if _, err := protocol.VerifyFileKeyObject(swap(calls, call, file), want); err == nil {
		t.Error("the typ is all that tells them apart")
	}
	if _, err := protocol.VerifyKeyObject(swap(p.object, file, call), want); err == nil {
		t.Error("the typ is all that tells them apart")
	}
}

// Who may be sealed to is checked as for calls.
func TestRecipient(t *testing.T) {
	p, q := newParty(t), newParty(t)
	for name, tt := range map[string]struct {
		change func(*protocol.Expect)
		want   protocol.Reason
	}{
		"another pin":  {func(e *protocol.Expect) { e.Anchor = protocol.Pin(q.id.Thumbprint()) }, protocol.IdentityMismatch},
		"another name": {func(e *protocol.Expect) { e.Identity = "https://bank.example" }, protocol.IdentityMismatch},
		"expired":      {func(e *protocol.Expect) { e.Now = now.Add(90 * 24 * time.Hour) }, protocol.KeyObjectExpired},
		"too early":    {func(e *protocol.Expect) { e.Now = now.Add(-2 * time.Minute) }, protocol.KeyObjectNotYetValid},
		"attested":     {func(e *protocol.Expect) { e.Profile = protocol.ProfileAttested }, protocol.ProfileTooWeak},
		"no anchor":    {func(e *protocol.Expect) { e.Anchor = nil }, protocol.KeyObjectInvalid},
	} {
		e := p.expect()
		tt.change(&e)
		if _, err := protocol.VerifyFileKeyObject(p.object, e); !protocol.IsReason(err, tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	for i := range p.object {
		b := slices.Clone(p.object)
		b[i] ^= 1
		if _, err := protocol.VerifyFileKeyObject(b, p.expect()); err == nil {
			t.Errorf("with byte %d changed the key object is accepted", i)
		}
	}
	other, err := protocol.GenerateIdentity("urn:other")
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]protocol.FileKeyConfig{
		"nobody":       {},
		"another":      {Identity: other},
		"a second":     {Identity: p.id, Validity: time.Second},
		"a long while": {Identity: p.id, Validity: protocol.MaxFileValidity + time.Second},
	} {
		if _, err := p.key.Object(cfg, now); err == nil {
			t.Errorf("a key object signed by %s", name)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, bits := range []int{10, 16, 20} {
		b.Run(fmt.Sprintf("chunks of %d KiB", 1<<bits>>10), func(b *testing.B) {
			p := newParty(b)
			w, err := sealfile.NewWriter(io.Discard, p.to, sealfile.Options{Now: now, ChunkBits: bits})
			if err != nil {
				b.Fatal(err)
			}
			content := make([]byte, 1<<20)
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if _, err := w.Write(content); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	p := newParty(b)
	sealed := seal(b, p.to, make([]byte, 16<<20), sealfile.Options{})
	b.SetBytes(16 << 20)
	for b.Loop() {
		r, err := sealfile.NewReader(bytes.NewReader(sealed), p.key)
		if err == nil {
			_, err = r.WriteTo(io.Discard)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
