package bridge

import (
	"context"
	"errors"
	"sync"
)

// A stream is the ordered messages of one SSE stream, or of one answer that
// may become one. Messages stay until they are both sent and pushed out by
// newer ones, so that a client that lost its connection can resume.
type stream struct {
	num int // number within its session; part of event ids
	max int // bytes kept

	mu     sync.Mutex
	msgs   [][]byte
	base   int // index of msgs[0] in the stream
	sent   int // index of the first message that was never written out
	size   int
	open   int   // answers still to come; 0: the stream has ended
	lossy  bool  // drop the oldest when full, rather than fail
	reader int   // generation of the reader attached; 0: none
	gens   int   // readers so far
	failed error // it ended without its answers
	code   int   // error code of the answer; 0: a result
	wake   chan struct{}
}

var (
	errSuperseded = errors.New("another connection took this stream over")
	errEvicted    = errors.New("the events asked for are no longer kept")
	errOverflow   = errors.New("the client reads more slowly than the server writes")
)

// newStream returns a stream that ends after the given number of answers;
// endless (-1) ends only by fail.
func newStream(num, answers, max int) *stream {
	return &stream{num: num, open: answers, max: max, lossy: answers < 0, wake: make(chan struct{})}
}

// push appends a message; answer marks one of the awaited answers. It reports
// false when the message was refused: the stream has ended or is full.
func (s *stream) push(msg []byte, answer bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil || s.open == 0 {
		return false
	}
	s.msgs = append(s.msgs, msg)
	s.size += len(msg)
	for s.size > s.max && len(s.msgs) > 1 && (s.base < s.sent || s.lossy) {
		s.size -= len(s.msgs[0])
		s.msgs[0] = nil
		s.msgs = s.msgs[1:]
		s.base++
		s.sent = max(s.sent, s.base)
	}
	// The answer itself may always stand beyond what is queued: it is bounded
	// by the message limit.
	if s.size > s.max && len(s.msgs) > 1 && !answer {
		s.endLocked(errOverflow)
		return false
	}
	if answer {
		s.open--
	}
	s.signal()
	return true
}

func (s *stream) signal() {
	close(s.wake)
	s.wake = make(chan struct{})
}

// fail ends the stream without its answers.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
}

func (s *stream) endLocked(err error) {
	if s.failed == nil && s.open != 0 {
		s.failed = err
		s.signal()
	}
}

// attach makes the caller the reader; a former one is told errSuperseded.
func (s *stream) attach() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gens++
	s.reader = s.gens
	s.signal()
	return s.reader
}

func (s *stream) detach(gen int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader == gen {
		s.reader = 0
	}
}

func (s *stream) attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reader != 0
}

// resumable reports whether the stream still holds all from index at.
func (s *stream) resumable(at int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return at >= s.base && at <= s.base+len(s.msgs)
}

func (s *stream) unsent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

func (s *stream) setCode(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

func (s *stream) answerCode() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code
}

func (s *stream) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0 || s.failed != nil
}

func (s *stream) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// next waits for message number at, or the oldest one kept after it when the
// stream is lossy, and returns it with its number. last says that it is the
// final one. The error is errDone after the final message, or says why there
// is none.
func (s *stream) next(ctx context.Context, gen, at int) (msg []byte, num int, last bool, err error) {
	for {
		s.mu.Lock()
		switch {
		case s.reader != gen:
			err = errSuperseded
		case at < s.base:
			if s.lossy {
				at = s.base
				s.mu.Unlock()
				continue
			}
			err = errEvicted
		case at-s.base < len(s.msgs):
			msg = s.msgs[at-s.base]
			s.sent = max(s.sent, at+1)
			last = s.open == 0 && at-s.base == len(s.msgs)-1
		case s.failed != nil:
			err = s.failed
		case s.open == 0:
			err = errDone
		default:
			wake := s.wake
			s.mu.Unlock()
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return nil, at, false, ctx.Err()
			}
		}
		s.mu.Unlock()
		return msg, at, last, err
	}
}

var errDone = errors.New("the stream has ended")
