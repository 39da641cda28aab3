package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// lines reads stdio's framing: one JSON message a line, each line bounded.
type lines struct {
	br  *bufio.Reader
	max int
}

func newLines(r io.Reader, max int) *lines {
	return &lines{bufio.NewReaderSize(r, 64<<10), max}
}

// An oversizeError is a line over the limit. The line was skipped; its id, if
// it is a message that has one, is known, so that whoever waits for it can be
// told.
type oversizeError struct {
	bytes int
	max   int
	id    jsonrpc.ID
}

func (e *oversizeError) Error() string {
	return fmt.Sprintf("a line of %d bytes, the limit is %d", e.bytes, e.max)
}

// next returns the next line that isn't blank, in memory of its own, without
// its line end. The last line needs none. At the end it returns io.EOF.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.read()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lines) read() ([]byte, error) {
	var line []byte
	var over *oversizeError
	var scan idScanner
	for {
		chunk, err := l.br.ReadSlice('\n')
		switch {
		case over != nil:
			over.bytes += len(chunk)
			scan.feed(chunk)
		case len(line)+len(bytes.TrimRight(chunk, "\r\n")) > l.max:
			over = &oversizeError{bytes: len(line) + len(chunk), max: l.max}
			scan.feed(line)
			scan.feed(chunk)
			line = nil
		default:
			line = append(line, chunk...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && err != io.EOF:
			return nil, err
		case over != nil:
			over.id = scan.result()
			return nil, over
		case err == io.EOF && len(line) == 0:
			return nil, io.EOF
		default:
			return line, nil
		}
	}
}

// An idScanner finds the top-level "id" of a JSON object that is too large to
// parse, in constant memory.
type idScanner struct {
	depth    int
	inString bool
	escaped  bool
	key      bool   // the next string at depth 1 is a member name
	word     []byte // text of the current string or scalar at depth 1, capped
	isID     bool   // the member being read at depth 1 is "id"
	id       []byte
	isMethod bool // a member "method" was seen: not an answer
}

const maxScannedID = 256

func (s *idScanner) feed(b []byte) {
	for _, c := range b {
		if s.inString {
			s.take(c)
			switch {
			case s.escaped:
				s.escaped = false
			case c == '\\':
				s.escaped = true
			case c == '"':
				s.inString = false
			}
			continue
		}
		switch c {
		case '"':
			s.inString = true
			if s.depth == 1 && s.key {
				s.word = s.word[:0]
			}
			s.take(c)
		case '{', '[':
			s.depth++
			s.key = s.depth == 1
		case '}', ']':
			if s.depth == 1 {
				s.endValue()
			}
			s.depth--
		case ':':
			if s.depth == 1 {
				s.isID = string(s.word) == `"id"`
				s.isMethod = s.isMethod || string(s.word) == `"method"`
				s.word, s.key = s.word[:0], false
			}
		case ',':
			if s.depth == 1 {
				s.endValue()
				s.key = true
			}
		case ' ', '\t', '\r', '\n':
		default:
			s.take(c)
		}
	}
}

func (s *idScanner) take(c byte) {
	if s.depth == 1 && len(s.word) <= maxScannedID {
		s.word = append(s.word, c)
	}
}

func (s *idScanner) endValue() {
	if s.isID && len(s.word) <= maxScannedID {
		s.id = append([]byte(nil), s.word...)
	}
	s.isID, s.word = false, s.word[:0]
}

// result is the id of the response seen, or empty.
func (s *idScanner) result() jsonrpc.ID {
	if s.isMethod || jsonrpc.Check(s.id, jsonrpc.Limits{}) != nil {
		return ""
	}
	return jsonrpc.ID(s.id)
}
