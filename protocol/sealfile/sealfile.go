// Package sealfile seals files and streams of any size to a recipient who opens
// them later: [NewWriter] seals, [NewReader] opens. Both hold one chunk in memory.
//
// A recipient keeps a [protocol.FileKey] and hands out its key object; a sender
// has verified that with [protocol.VerifyFileKeyObject]. A sealed file is
//
//	"TMCPSEAL"            8 bytes
//	length of header      2 bytes, big-endian
//	header                deterministic CBOR: [1, suite, key digest, chunk bits, enc]
//	commitment            32 bytes
//	chunk 0 … chunk last  2^(chunk bits) bytes each, the last 1 to that many,
//	                      and a tag of 16 bytes each
//
// and nothing after it. What the chunks hold, put together, is
//
//	length of metadata    2 bytes, big-endian
//	metadata              deterministic CBOR map, see [Metadata]
//	content               the file
//
// Each chunk is sealed with its number and whether it is the last, so that one
// that is changed, missing, moved, doubled or added is an error. The sender is
// nobody unless a statement names one ([Options.Sender], [Reader.Sender]). See
// chapter "Files" of the specification.
package sealfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

const (
	// Magic is how a sealed file begins.
	Magic = "TMCPSEAL"
	// MediaType is that of a sealed file.
	MediaType = "application/vnd.trustedmcp.sealed"

	version = 1

	label         = "org.trustedmcp/trust v1 "
	labelFile     = label + "file"
	labelHeader   = label + "file header"
	labelChunk    = label + "file chunk"
	labelChunkKey = label + "file chunk keys"
	labelSealing  = label + "file sealing"

	// DefaultChunkBits is for chunks of 64 KiB.
	DefaultChunkBits = 16
	// MinChunkBits and MaxChunkBits are for chunks of 1 KiB and 1 MiB.
	MinChunkBits = 10
	MaxChunkBits = 20

	commitmentLen = 32
	keyLen        = 32
	nonceLen      = 12
	tagLen        = 16
	maxHeader     = 4 << 10  // bytes; version 1 has 1161
	maxMetadata   = 48 << 10 // bytes, with a statement and its certificates
	maxStatement  = 32 << 10
	maxName       = 1 << 10 // bytes, also of a media type
	// maxChunks bounds one file, to 256 TiB of chunks of 64 KiB: AES-GCM with one
	// key is good for that much.
	maxChunks = math.MaxUint32
)

// A Reason is the stable name of a way in which sealing or opening fails.
type Reason string

const (
	NotSealed          Reason = "not-sealed"          // the input does not begin as a sealed file
	UnsupportedVersion Reason = "unsupported-version" // of a later version
	UnsupportedSuite   Reason = "unsupported-suite"   // of a suite that is not known
	MalformedHeader    Reason = "malformed-header"    // breaks a rule of the header
	OtherKey           Reason = "other-key"           // sealed to another key, or the header was changed
	Altered            Reason = "altered"             // a chunk does not open where it stands
	Truncated          Reason = "truncated"           // the end is missing
	TrailingData       Reason = "trailing-data"       // something follows the last chunk
	MalformedMetadata  Reason = "malformed-metadata"  // breaks a rule of the metadata
	SizeMismatch       Reason = "size-mismatch"       // the content has not the size that the metadata says
	NoSender           Reason = "no-sender"           // a sender is demanded, and none is named
	TooLarge           Reason = "too-large"           // beyond a bound
	Expired            Reason = "expired"             // the key object may not be sealed to any more
	BadOption          Reason = "bad-option"          // of the caller of NewWriter
)

// An Error is a failure of sealing or opening. Failures of the reader or writer
// below are returned as they are, wrapped.
type Error struct {
	Reason Reason
	Detail string // for people: the input, the rule, the fix
}

func (e *Error) Error() string { return "sealed file: " + string(e.Reason) + ": " + e.Detail }

func fail(r Reason, format string, args ...any) *Error {
	return &Error{r, fmt.Sprintf(format, args...)}
}

// A Header is what a sealed file says openly. Of a file that was opened it is
// authenticated.
type Header struct {
	Suite     protocol.Suite
	KeyDigest protocol.Digest // of the key object that was sealed to
	ChunkBits int             // log2 of the size of chunks in bytes
	Enc       []byte          // encapsulated key
}

func (h *Header) chunkSize() int { return 1 << h.ChunkBits }

// append appends the header as it stands in a file, from the magic on.
func (h *Header) append(b []byte) []byte {
	e := dcbor.AppendUint(dcbor.AppendArray(nil, 5), version)
	e = dcbor.AppendUint(e, uint64(h.Suite))
	e = dcbor.AppendBytes(e, h.KeyDigest[:])
	e = dcbor.AppendUint(e, uint64(h.ChunkBits))
	e = dcbor.AppendBytes(e, h.Enc)
	b = append(b, Magic...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
	return append(b, e...)
}

// parseHeader reads the CBOR item of a header.
func parseHeader(b []byte) (*Header, error) {
	r := dcbor.NewReader(b)
	n := r.Array()
	if v := r.Uint(); r.Err() == nil && v != version {
		return nil, fail(UnsupportedVersion, "version %d; this program knows %d: use a later one", v, version)
	}
	h := &Header{}
	suite := r.Uint()
	if r.Err() == nil && suite != uint64(protocol.SuiteHybrid) {
		return nil, fail(UnsupportedSuite, "suite %d, want %d (%v)", suite, protocol.SuiteHybrid, protocol.SuiteHybrid)
	}
	h.Suite = protocol.SuiteHybrid
	copy(h.KeyDigest[:], r.BytesN(len(h.KeyDigest)))
	bits := r.Uint()
	h.Enc = r.BytesN(encLen)
	if err := r.Done(); err != nil || n != 5 {
		return nil, fail(MalformedHeader, "want [version, suite, key digest, chunk bits, enc] in deterministic CBOR: %v", err)
	}
	if bits < MinChunkBits || bits > MaxChunkBits {
		return nil, fail(MalformedHeader, "chunks of 2^%d bytes, want 2^%d to 2^%d", bits, MinChunkBits, MaxChunkBits)
	}
	h.ChunkBits = int(bits)
	return h, nil
}

const encLen = 1120

// info is what the key encapsulation is bound to. The identity is each side's
// own: a key that somebody else put into a key object of theirs opens nothing
// that was meant for them.
func (h *Header) info(identity string) []byte {
	b := dcbor.AppendText(dcbor.AppendArray(nil, 6), labelFile)
	b = dcbor.AppendUint(b, version)
	b = dcbor.AppendUint(b, uint64(h.Suite))
	b = dcbor.AppendText(b, identity)
	b = dcbor.AppendBytes(b, h.KeyDigest[:])
	return dcbor.AppendUint(b, uint64(h.ChunkBits))
}

// A box seals and opens the chunks of one file, in their order.
type box struct {
	aead       cipher.AEAD
	nonce      [nonceLen]byte // of chunk 0 that is not the last
	header     protocol.Digest
	commitment [commitmentLen]byte
	aad        []byte
}

// newBox derives the keys of a file. header is the file from the magic to before
// the commitment.
func newBox(secret protocol.FileSecret, header []byte) (*box, error) {
	b := &box{}
	d := dcbor.AppendText(dcbor.AppendArray(nil, 2), labelHeader)
	b.header = sha256.Sum256(dcbor.AppendBytes(d, header))
	// The commitment makes a file one that opens under one key only, and tells a
	// wrong key from a damaged chunk.
	k, err := secret.Derive(labelChunkKey+string(b.header[:]), keyLen+nonceLen+commitmentLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k[:keyLen])
	if err != nil {
		return nil, err
	}
	if b.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	copy(b.nonce[:], k[keyLen:])
	copy(b.commitment[:], k[keyLen+nonceLen:])
	return b, nil
}

// place gives the nonce and associated data of a chunk: the base nonce XOR
// (uint64be(n) ‖ uint32be(last)), and [label, digest of the header, n, last].
func (b *box) place(n uint64, last bool) (nonce [nonceLen]byte, aad []byte) {
	nonce = b.nonce
	binary.BigEndian.PutUint64(nonce[:], binary.BigEndian.Uint64(nonce[:])^n)
	if last {
		nonce[nonceLen-1] ^= 1
	}
	a := dcbor.AppendText(dcbor.AppendArray(b.aad[:0], 4), labelChunk)
	a = dcbor.AppendBytes(a, b.header[:])
	b.aad = dcbor.AppendBool(dcbor.AppendUint(a, n), last)
	return nonce, b.aad
}

// seal appends a sealed chunk to dst.
func (b *box) seal(dst, plain []byte, n uint64, last bool) []byte {
	nonce, aad := b.place(n, last)
	return b.aead.Seal(dst, nonce[:], plain, aad)
}

// open appends an opened chunk to dst, which may be sealed[:0].
func (b *box) open(dst, sealed []byte, n uint64, last bool) ([]byte, error) {
	nonce, aad := b.place(n, last)
	return b.aead.Open(dst, nonce[:], sealed, aad)
}

// Metadata is what a sealed file says of its content, sealed with it: a map of
// 1 to the name, 2 to the media type, 3 to the size, and 4 to the sender's
// statement, each of which may be absent.
type Metadata struct {
	Name      string // for people: never take it for a path; "" for none
	MediaType string // "" for none
	Size      int64  // of the content in bytes; -1 where the sender did not know
	statement []byte // see Reader.Sender
}

func (m *Metadata) append(b []byte) []byte {
	n := 0
	var e []byte
	if m.Name != "" {
		e, n = dcbor.AppendText(dcbor.AppendUint(e, 1), m.Name), n+1
	}
	if m.MediaType != "" {
		e, n = dcbor.AppendText(dcbor.AppendUint(e, 2), m.MediaType), n+1
	}
	if m.Size >= 0 {
		e, n = dcbor.AppendUint(dcbor.AppendUint(e, 3), uint64(m.Size)), n+1
	}
	if m.statement != nil {
		e, n = dcbor.AppendBytes(dcbor.AppendUint(e, 4), m.statement), n+1
	}
	return append(dcbor.AppendMap(b, n), e...)
}

func (m *Metadata) check() error {
	if len(m.Name) > maxName || len(m.MediaType) > maxName {
		return fail(TooLarge, "a name of %d bytes and a media type of %d, the limit is %d", len(m.Name), len(m.MediaType), maxName)
	}
	if len(m.statement) > maxStatement {
		return fail(TooLarge, "a statement of %d bytes, the limit is %d: use a shorter certificate chain", len(m.statement), maxStatement)
	}
	return nil
}

// parseMetadata reads metadata strictly. Keys that it does not know are ignored.
func parseMetadata(b []byte) (*Metadata, error) {
	whole := dcbor.NewReader(b)
	whole.Skip() // sorted, unique keys and deterministic all the way down
	if err := whole.Done(); err != nil {
		return nil, fail(MalformedMetadata, "%v", err)
	}
	m := &Metadata{Size: -1}
	r := dcbor.NewReader(b)
	for range r.Map() {
		if r.PeekMajor() != 0 {
			r.Skip()
			r.Skip()
			continue
		}
		switch r.Uint() {
		case 1:
			m.Name = r.Text()
		case 2:
			m.MediaType = r.Text()
		case 3:
			size := r.Uint()
			if size > math.MaxInt64 {
				r.Fail("a size above 2^63-1")
			}
			m.Size = int64(size)
		case 4:
			m.statement = r.Bytes()
		default:
			r.Skip()
		}
		if r.Err() != nil {
			break
		}
	}
	if err := r.Done(); err != nil {
		return nil, fail(MalformedMetadata, "%v", err)
	}
	return m, m.check()
}

// sealing is what a sender states: the digest of this header, with the key that it
// encapsulates and the commitment, for this recipient, with this metadata.
func (b *box) sealing(identity string, m Metadata) protocol.Digest {
	m.statement = nil
	e := dcbor.AppendText(dcbor.AppendArray(nil, 5), labelSealing)
	e = dcbor.AppendText(e, identity)
	e = dcbor.AppendBytes(e, b.header[:])
	e = dcbor.AppendBytes(e, b.commitment[:])
	return sha256.Sum256(m.append(e))
}
