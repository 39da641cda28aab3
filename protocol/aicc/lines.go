package aicc

import (
	"bytes"
	"errors"
	"io"

	"github.com/trustedmcp/tmcp/internal/sse"
)

// maxNonces is how many messages of one stream are remembered, to notice one
// that comes twice.
const maxNonces = 1 << 16

// A LineSealer seals an event stream as it is written. See [NewLineSealer].
type LineSealer struct {
	// Each, if set, may replace each message before it is sealed.
	Each func(message []byte) ([]byte, error)

	dst   io.Writer
	key   *ResponseKey
	split *sse.Splitter
	out   []byte
}

// NewLineSealer returns a writer that takes an event stream with lines of any
// ending, and writes it to dst sealed: the data of each event becomes one line
// "data: " with an envelope, all lines end in CRLF. Event names, ids and retry
// times stay in the clear, the text of comments and fields that event streams
// don't have are left out. Each Write makes one Write to dst at most, of whole
// lines. Close it at the end of the stream: an event that did not end is not
// written then, and makes an error.
func NewLineSealer(dst io.Writer, key *ResponseKey, lim Limits) *LineSealer {
	s := &LineSealer{dst: dst, key: key}
	s.split = sse.NewSplitter(lim.Message(), s.event)
	return s
}

func (s *LineSealer) event(ev sse.Event) error {
	ev.Comment = ""
	if ev.Data != nil {
		// The lines of an event are one JSON text, in which a line break is a
		// space; deployed clients take one line for one message.
		data := bytes.ReplaceAll(ev.Data, []byte("\n"), []byte(" "))
		if s.Each != nil {
			var err error
			if data, err = s.Each(data); err != nil {
				return err
			}
		}
		sealed, err := s.key.Seal(data)
		if err != nil {
			return err
		}
		ev.Data = sealed
	}
	s.out = append(s.out, bytes.ReplaceAll(sse.Append(nil, ev), []byte("\n"), []byte("\r\n"))...)
	return nil
}

// Write takes the next bytes of the stream.
func (s *LineSealer) Write(p []byte) (int, error) {
	s.out = s.out[:0]
	_, err := s.split.Write(p)
	if len(s.out) > 0 {
		if _, werr := s.dst.Write(s.out); err == nil {
			err = werr
		}
	}
	if err != nil {
		return 0, asError(err)
	}
	return len(p), nil
}

// Close ends the stream. It does not close dst.
func (s *LineSealer) Close() error { return asError(s.split.Close()) }

// asError gives errors of the stream's form the reason that they have here.
func asError(err error) error {
	switch {
	case errors.Is(err, sse.ErrTooLarge):
		return Errorf(TooLarge, "an event over the limit")
	case errors.Is(err, sse.ErrTruncated):
		return Errorf(Truncated, "the event stream ended within an event")
	}
	return err
}

// A LineOpener opens a sealed event stream as it is read. See [NewLineOpener].
type LineOpener struct {
	// Each, if set, may replace each message that was opened, with the id of its
	// event (resumable if not empty).
	Each func(message []byte, id string) ([]byte, error)

	src  *sse.Reader
	key  *ResponseKey
	lim  Limits
	seen map[[nonceSize]byte]struct{}
	buf  []byte
	at   int
	err  error
}

// NewLineOpener returns a reader of what src holds sealed. Lines may end in CRLF
// or LF. Each data line must be an envelope; those of one event are one message.
// An envelope that comes a second time is refused ([Replayed]); that one is
// missing, or stands elsewhere than it did, nobody can see.
func NewLineOpener(src io.Reader, key *ResponseKey, lim Limits) *LineOpener {
	return &LineOpener{src: sse.NewReader(src, lim.Envelope()+4<<10), key: key, lim: lim, seen: map[[nonceSize]byte]struct{}{}}
}

// Read implements io.Reader. Errors are final.
func (o *LineOpener) Read(p []byte) (int, error) {
	for o.at == len(o.buf) {
		if o.err != nil {
			return 0, o.err
		}
		o.buf, o.at = o.buf[:0], 0
		if o.err = o.next(); o.err != nil {
			o.buf = o.buf[:0]
		}
	}
	n := copy(p, o.buf[o.at:])
	o.at += n
	return n, nil
}

func (o *LineOpener) next() error {
	ev, err := o.src.Next()
	if err != nil {
		return asError(err)
	}
	ev.Comment = "" // anybody's words
	if ev.Data != nil {
		var message []byte
		for i, line := range bytes.Split(ev.Data, []byte("\n")) {
			plaintext, nonce, err := o.key.openAnswer(line, o.lim)
			if err != nil {
				return err
			}
			if _, again := o.seen[[nonceSize]byte(nonce)]; again {
				return Errorf(Replayed, "a message of the stream came twice")
			}
			if len(o.seen) >= maxNonces {
				clear(o.seen)
			}
			o.seen[[nonceSize]byte(nonce)] = struct{}{}
			if i > 0 {
				message = append(message, '\n')
			}
			if message = append(message, plaintext...); len(message) > o.lim.Message() {
				return Errorf(TooLarge, "a message of more than %d bytes", o.lim.Message())
			}
		}
		if message == nil {
			message = []byte{}
		}
		if o.Each != nil {
			if message, err = o.Each(message, ev.ID); err != nil {
				return err
			}
		}
		ev.Data = message
	}
	o.buf = sse.Append(o.buf, ev)
	return nil
}
