package sealfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// Options are for [NewWriter]. The zero value, with Now, is good.
type Options struct {
	Now       time.Time // required: nothing is sealed to a key object that is over
	Name      string    // sealed; "" for none
	MediaType string    // sealed; "" for none
	Size      int64     // of the content, sealed and then held to; 0 where Sized is false
	Sized     bool
	ChunkBits int                // log2 of the size of chunks; default 16: 64 KiB
	Sender    *protocol.Identity // states that it sealed the file; nil: nobody does
}

// A Writer seals what is written to it. A file without its Close is truncated, and
// is refused by every reader.
type Writer struct {
	dst  io.Writer
	box  *box
	size int64 // of the content, or -1
	got  int64
	n    uint64
	buf  []byte // plaintext of the chunk that is not sealed yet
	out  []byte
	err  error
}

var errClosed = errors.New("sealed file: written to after Close")

// NewWriter writes the head of a sealed file for to, and returns a Writer for its
// content.
func NewWriter(dst io.Writer, to *protocol.FileRecipient, o Options) (*Writer, error) {
	if o.ChunkBits == 0 {
		o.ChunkBits = DefaultChunkBits
	}
	switch {
	case to == nil || o.Now.IsZero():
		return nil, fail(BadOption, "a recipient and the time are needed")
	case o.ChunkBits < MinChunkBits || o.ChunkBits > MaxChunkBits:
		return nil, fail(BadOption, "chunks of 2^%d bytes, want 2^%d to 2^%d", o.ChunkBits, MinChunkBits, MaxChunkBits)
	case !o.Sized && o.Size != 0 || o.Size < 0:
		return nil, fail(BadOption, "a size of %d, Sized %v", o.Size, o.Sized)
	case !o.Now.Before(to.Expires()):
		return nil, fail(Expired, "the key object is good before %s, now is %s; ask the recipient for a new one", stamp(to.Expires()), stamp(o.Now))
	}
	m := Metadata{Name: o.Name, MediaType: o.MediaType, Size: -1}
	if o.Sized {
		m.Size = o.Size
	}
	h := &Header{Suite: protocol.SuiteHybrid, KeyDigest: to.KeyDigest(), ChunkBits: o.ChunkBits}
	enc, secret, err := to.NewFileSecret(h.info(to.Identity()))
	if err != nil {
		return nil, err
	}
	h.Enc = enc
	head := h.append(nil)
	b, err := newBox(secret, head)
	if err != nil {
		return nil, err
	}
	if o.Sender != nil {
		if m.statement, err = protocol.SignSealing(o.Sender, b.sealing(to.Identity(), m), o.Now); err != nil {
			return nil, err
		}
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if _, err := dst.Write(append(head, b.commitment[:]...)); err != nil {
		return nil, fmt.Errorf("writing a sealed file: %w", err)
	}
	w := &Writer{dst: dst, box: b, size: m.Size,
		buf: make([]byte, 0, h.chunkSize()), out: make([]byte, 0, h.chunkSize()+tagLen)}
	meta := m.append(nil)
	if err := w.write(append(binary.BigEndian.AppendUint16(nil, uint16(len(meta))), meta...)); err != nil {
		return nil, err
	}
	return w, nil
}

// Write seals p. Chunks are written to the writer below as they are full.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.got += int64(len(p)); w.size >= 0 && w.got > w.size {
		w.err = fail(SizeMismatch, "more content than the %d bytes that were said; did the file change meanwhile?", w.size)
		return 0, w.err
	}
	if err := w.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *Writer) write(p []byte) error {
	for len(p) > 0 {
		// A full chunk waits until something follows: it may be the last.
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(false); err != nil {
				return err
			}
		}
		k := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
	}
	return nil
}

func (w *Writer) flush(last bool) error {
	if w.n >= maxChunks {
		w.err = fail(TooLarge, "more than 2^32-1 chunks; use larger ones, or several files")
		return w.err
	}
	w.out = w.box.seal(w.out[:0], w.buf, w.n, last)
	w.n++
	w.buf = w.buf[:0]
	if _, err := w.dst.Write(w.out); err != nil {
		w.err = fmt.Errorf("writing a sealed file: %w", err)
	}
	return w.err
}

// Close seals the last chunk. It does not close the writer below. After a failure
// it writes nothing, and returns that failure.
func (w *Writer) Close() error {
	if w.err == errClosed {
		return nil
	}
	if w.err == nil && w.size >= 0 && w.got != w.size {
		w.err = fail(SizeMismatch, "%d bytes of content, and %d were said; did the file change meanwhile?", w.got, w.size)
	}
	if w.err != nil {
		return w.err
	}
	if err := w.flush(true); err != nil {
		return err
	}
	clear(w.buf[:cap(w.buf)])
	w.err = errClosed
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
