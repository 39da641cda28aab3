package sealfile

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/trustedmcp/tmcp/protocol"
)

// A Reader opens a sealed file. What Read returns is genuine; that it is the whole
// file is known only when Read has returned io.EOF. Whoever acts on content before
// that must be able to take it back.
type Reader struct {
	src    io.Reader
	box    *box
	header *Header
	meta   *Metadata
	to     string

	n     uint64
	got   int64  // content that was returned
	in    []byte // one sealed chunk, and the first byte of what follows
	have  int    // of in
	plain []byte // opened and not returned yet
	buf   []byte
	err   error
	last  bool
}

// NewReader reads the head of a sealed file, and opens it with the one of keys
// that it was sealed to.
func NewReader(src io.Reader, keys ...*protocol.FileKey) (*Reader, error) {
	h, head, err := readHeader(src)
	if err != nil {
		return nil, err
	}
	var commitment [commitmentLen]byte
	if _, err := io.ReadFull(src, commitment[:]); err != nil {
		return nil, short(err, "within the commitment")
	}
	r := &Reader{src: src, header: h}
	for _, k := range keys {
		secret, err := k.FileSecret(h.Enc, h.info(k.Identity()))
		if err != nil {
			continue // another key's
		}
		b, err := newBox(secret, head)
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(b.commitment[:], commitment[:]) == 1 {
			r.box, r.to = b, k.Identity()
			break
		}
	}
	if r.box == nil {
		return nil, fail(OtherKey, "none of the %d keys opens it: it was sealed to another key (by the key object %x), or its first bytes were changed", len(keys), h.KeyDigest)
	}
	r.in = make([]byte, h.chunkSize()+tagLen+1)
	r.buf = make([]byte, 0, h.chunkSize())
	if err := r.readMetadata(); err != nil {
		return nil, err
	}
	return r, nil
}

// ReadHeader reads what a sealed file says openly. Nothing of it is verified.
func ReadHeader(src io.Reader) (*Header, error) {
	h, _, err := readHeader(src)
	return h, err
}

func readHeader(src io.Reader) (h *Header, head []byte, err error) {
	head = make([]byte, len(Magic)+2, len(Magic)+2+maxHeader)
	if n, err := io.ReadFull(src, head); err != nil || string(head[:len(Magic)]) != Magic {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, fmt.Errorf("reading a sealed file: %w", err)
		}
		if n > 0 && n < len(head) && string(head[:min(n, len(Magic))]) == Magic[:min(n, len(Magic))] {
			return nil, nil, fail(Truncated, "it ends after %d bytes", n)
		}
		return nil, nil, fail(NotSealed, "it begins with %q, want %q", head[:min(n, len(Magic))], Magic)
	}
	size := int(binary.BigEndian.Uint16(head[len(Magic):]))
	if size == 0 || size > maxHeader {
		return nil, nil, fail(MalformedHeader, "a header of %d bytes, want 1 to %d", size, maxHeader)
	}
	head = head[:len(head)+size]
	if _, err := io.ReadFull(src, head[len(head)-size:]); err != nil {
		return nil, nil, short(err, "within the header")
	}
	h, err = parseHeader(head[len(head)-size:])
	return h, head, err
}

// short tells a file that ends early from one that can't be read.
func short(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(Truncated, "it ends %s", where)
	}
	return fmt.Errorf("reading a sealed file: %w", err)
}

func (r *Reader) readMetadata() error {
	var head [2]byte
	if err := r.readFull(head[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size > maxMetadata {
		return fail(MalformedMetadata, "%d bytes, the limit is %d", size, maxMetadata)
	}
	b := make([]byte, size)
	err := r.readFull(b)
	if err == nil {
		r.meta, err = parseMetadata(b)
	}
	return err
}

func (r *Reader) readFull(b []byte) error {
	for len(b) > 0 {
		if len(r.plain) == 0 {
			if err := r.next(); err == io.EOF {
				return fail(MalformedMetadata, "it ends within the metadata")
			} else if err != nil {
				return err
			}
		}
		n := copy(b, r.plain)
		b, r.plain = b[n:], r.plain[n:]
	}
	return nil
}

// Header is what the file says openly, authenticated.
func (r *Reader) Header() Header { return *r.header }

// Metadata is what the file says of its content.
func (r *Reader) Metadata() Metadata { return *r.meta }

// Signed reports whether a sender is named; see [Reader.Sender].
func (r *Reader) Signed() bool { return r.meta.statement != nil }

// Sender verifies who sealed the file. Of want, Identity, Anchor and Now are looked
// at. That the sender meant this recipient and this file is part of it. The
// recipient could have made the content up, since it has the same keys: a statement
// convinces the recipient, and nobody else.
func (r *Reader) Sender(want protocol.Expect) (*protocol.FileSender, error) {
	if r.meta.statement == nil {
		return nil, fail(NoSender, "the file does not say who sealed it; have it sealed with a sender's key")
	}
	return protocol.VerifySealing(r.meta.statement, r.box.sealing(r.to, *r.meta), want)
}

// next opens the next chunk into r.plain, or returns io.EOF.
func (r *Reader) next() error {
	if r.err != nil {
		return r.err
	}
	if r.last {
		r.err = io.EOF
		return r.err
	}
	r.err = r.chunk()
	return r.err
}

func (r *Reader) chunk() error {
	full := len(r.in) - 1
	n, err := io.ReadFull(r.src, r.in[r.have:])
	have := r.have + n
	switch {
	case err == nil: // one byte more than a chunk: another follows
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		r.last = true
	default:
		return fmt.Errorf("reading a sealed file: %w", err)
	}
	sealed := r.in[:min(have, full)]
	if r.n >= maxChunks {
		return fail(TooLarge, "more than 2^32-1 chunks")
	}
	// Every chunk has content: an empty one would be a second way to write the same
	// file. Version 1 has at least the metadata's length in the first.
	if len(sealed) <= tagLen {
		return fail(Truncated, "it ends in chunk %d, without the last chunk", r.n)
	}
	plain, err := r.box.open(r.buf, sealed, r.n, r.last)
	if err != nil {
		return r.why(sealed)
	}
	r.n++
	r.plain = plain
	r.in[0], r.have = r.in[full], 1
	if r.last {
		r.have = 0
	}
	return nil
}

// why says what is wrong with a chunk that does not open in its place.
func (r *Reader) why(sealed []byte) error {
	if _, err := r.box.open(r.buf, sealed, r.n, !r.last); err == nil {
		if r.last {
			return fail(Truncated, "it ends after chunk %d, which is not the last", r.n)
		}
		return fail(TrailingData, "something follows chunk %d, which is the last", r.n)
	}
	return fail(Altered, "chunk %d (bytes of content from about %d) does not open: it was changed, moved, doubled or cut, or comes from another file; get the file again", r.n, r.got)
}

// Read returns content that is genuine, and io.EOF after the last of it.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.plain) == 0 {
		if err := r.next(); err != nil {
			return 0, r.ended(err)
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	if r.got += int64(n); r.meta.Size >= 0 && r.got > r.meta.Size {
		r.plain, r.err = nil, fail(SizeMismatch, "more content than the %d bytes that its metadata says", r.meta.Size)
		return 0, r.err
	}
	return n, nil
}

func (r *Reader) ended(err error) error {
	if err == io.EOF && r.meta.Size >= 0 && r.got != r.meta.Size {
		r.err = fail(SizeMismatch, "%d bytes of content, and its metadata says %d", r.got, r.meta.Size)
		return r.err
	}
	return err
}

// WriteTo writes the content to w, chunk by chunk. What it has written when it
// fails is genuine and not the whole.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	start := r.got
	for {
		for len(r.plain) == 0 {
			if err := r.next(); err != nil {
				if err = r.ended(err); err == io.EOF {
					err = nil
				}
				return r.got - start, err
			}
		}
		n := len(r.plain)
		if r.meta.Size >= 0 && r.got+int64(n) > r.meta.Size {
			r.plain, r.err = nil, fail(SizeMismatch, "more content than the %d bytes that its metadata says", r.meta.Size)
			return r.got - start, r.err
		}
		n, err := w.Write(r.plain)
		r.plain = r.plain[n:]
		r.got += int64(n)
		if err != nil {
			return r.got - start, err
		}
	}
}
