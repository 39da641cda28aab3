package transport

import (
	"errors"
	"io"

	"github.com/trustedmcp/tmcp/protocol"
)

// chunkSize is how much of a body the HTTP carrier puts in one frame at most.
const chunkSize = 32 << 10

// frameStream reads the frames of the HTTP carrier, a CBOR sequence.
type frameStream struct {
	src  io.ReadCloser
	max  int // bytes of one frame
	buf  []byte
	rest []byte // of buf, not consumed
	eof  bool
}

// newFrameStream reads frames from src. Its buffer grows as frames do.
func newFrameStream(src io.ReadCloser, lim Limits) *frameStream {
	return &frameStream{src: src, max: lim.message() + 128<<10}
}

func (s *frameStream) Close() error { return s.src.Close() }

// release does nothing: the next frame takes the place of the last.
func (s *frameStream) release() {}

// frame returns the next frame, valid until the next call; io.EOF between
// frames, io.ErrUnexpectedEOF within one.
func (s *frameStream) frame() ([]byte, error) {
	for {
		first, rest, need, err := protocol.ParseFrames(s.rest)
		if err != nil {
			return nil, err
		}
		if !need {
			s.rest = rest
			return first, nil
		}
		if s.eof {
			if len(s.rest) > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, io.EOF
		}
		if len(s.rest) > s.max {
			return nil, protocol.Errorf(protocol.TooLarge, "a frame of more than %d bytes", s.max)
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more behind rest, which moves to the front of a buffer with room.
func (s *frameStream) fill() error {
	if cap(s.buf)-len(s.rest) < 4096 {
		next := make([]byte, len(s.rest), max(2*len(s.rest), 16<<10))
		copy(next, s.rest)
		s.buf = next
	} else {
		s.buf = s.buf[:copy(s.buf[:cap(s.buf)], s.rest)]
	}
	for range 100 {
		n, err := s.src.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		s.rest = s.buf
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			s.eof = true
			return nil
		case err != nil:
			return err
		case n > 0:
			return nil
		}
	}
	return io.ErrNoProgress
}
