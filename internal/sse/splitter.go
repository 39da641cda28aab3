package sse

import (
	"bytes"
	"fmt"
)

// A Splitter is a [Reader] the other way about: it is given a stream by Write,
// and hands over each event as soon as it is whole.
type Splitter struct {
	r     Reader // for the event that is being collected
	each  func(Event) error
	begun bool
}

// NewSplitter returns a Splitter that calls each for every event and comment, and
// refuses lines and events of more than limit bytes; zero or less means
// [DefaultLimit]. The event's Data is valid during the call.
func NewSplitter(limit int, each func(Event) error) *Splitter {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Splitter{r: Reader{limit: limit, ev: Event{Retry: -1}}, each: each}
}

// Write takes the next bytes of the stream. Errors, those of each included, are
// final.
func (s *Splitter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && s.r.err == nil; {
		if s.r.skipLF {
			s.r.skipLF = false
			if rest[0] == '\n' {
				rest = rest[1:]
				continue
			}
		}
		i := bytes.IndexByte(rest, '\n')
		head := rest
		if i >= 0 {
			head = rest[:i]
		}
		if j := bytes.IndexByte(head, '\r'); j >= 0 {
			i, head = j, rest[:j]
		}
		if len(s.r.line)+len(head) > s.r.limit {
			s.fail(fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, s.r.limit))
			break
		}
		s.r.line = append(s.r.line, head...)
		if i < 0 {
			break
		}
		s.r.skipLF = rest[i] == '\r'
		rest = rest[i+1:]
		s.line()
		s.r.line = s.r.line[:0]
	}
	if s.r.err != nil {
		return 0, s.r.err
	}
	return len(p), nil
}

func (s *Splitter) line() {
	line := s.r.line
	if !s.begun {
		s.begun = true
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	switch {
	case len(line) == 0 && !s.r.open:
	case len(line) == 0:
		s.fail(s.each(s.r.dispatch()))
	case line[0] == ':':
		s.fail(s.each(Event{HasComment: true, Comment: string(value(line[1:])), Retry: -1}))
	default:
		if s.r.size += len(line) + 1; s.r.size > s.r.limit {
			s.fail(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.r.limit))
			return
		}
		s.r.field(line)
	}
}

func (s *Splitter) fail(err error) {
	if s.r.err = err; err != nil {
		s.r.line, s.r.data = nil, nil
	}
}

// Close says whether the stream ended where one may: between events. The error
// is [ErrTruncated] otherwise.
func (s *Splitter) Close() error {
	if s.r.err == nil && (s.r.open || len(s.r.line) > 0) {
		s.fail(ErrTruncated)
	}
	return s.r.err
}
