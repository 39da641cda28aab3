// Package sse reads and writes Server-Sent Events, the streaming half of MCP's
// Streamable HTTP, strictly and in bounded memory. Read a response body with
// [NewReader] and [Reader.Next]; write events with [Append].
//
// It differs from the browser's EventSource in what a proxy must not lose:
// comments are handed over, an event without data (a bare "retry:" or "id:") is
// handed over, and a stream that ends inside an event is an error, [ErrTruncated],
// where EventSource silently discards the rest.
package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// An Event is one event or one comment of a stream.
//
// On the wire, with LF, CR or CRLF line ends:
//
//	event: message
//	id: 7
//	retry: 500
//	data: {"jsonrpc":"2.0",
//	data:  "id":1,"result":{}}
//
// followed by an empty line.
type Event struct {
	ID         string // value of the id field; meaningful when HasID
	Name       string // value of the event field; empty means "message"
	HasID      bool   // an id field was present; with an empty ID it resets the cursor
	HasComment bool   // this is a comment line, and Comment its text; all else is unset
	Comment    string // text after the colon, one leading space removed
	Retry      int    // milliseconds to wait before reconnecting; -1 when absent
	Data       []byte // data lines joined by LF; nil when there was no data field
}

// DefaultLimit bounds an event, in bytes: a JSON-RPC message of 4 MiB, its
// sealing overhead (base64 and framing), and the field names around it.
const DefaultLimit = 6 << 20

// MaxRetry caps the retry field, in milliseconds (24 hours), so that a hostile
// server can't park a client for good.
const MaxRetry = 24 * 60 * 60 * 1000

var (
	// ErrTruncated reports a stream that ended inside an event or a line. It
	// is also an [io.ErrUnexpectedEOF].
	ErrTruncated = fmt.Errorf("sse: the stream ended in the middle of an event: %w", io.ErrUnexpectedEOF)
	// ErrTooLarge reports a line or an event over the reader's limit.
	ErrTooLarge = errors.New("sse: event over the size limit")
)

// A Reader decodes a stream incrementally. It holds one event at most.
type Reader struct {
	src   io.Reader
	limit int
	err   error // sticky

	buf      []byte // read buffer; buf[pos:end] is unread
	pos, end int
	line     []byte // the current line, when it spans reads
	skipLF   bool   // the last line ended in CR; an LF that follows belongs to it
	begun    bool   // at least one byte was read: the place for a BOM is past

	ev   Event  // the event being collected
	open bool   // at least one field of it was seen
	size int    // bytes of its lines
	data []byte // its data, each line followed by LF
}

const bufSize = 16 << 10

// NewReader returns a Reader of src that refuses lines and events of more than
// limit bytes; zero or less means [DefaultLimit].
func NewReader(src io.Reader, limit int) *Reader {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Reader{src: src, limit: limit, ev: Event{Retry: -1}}
}

// Next returns the next event or comment. Its Data is valid until the next
// call. At a clean end of the stream, between events, the error is io.EOF;
// inside an event it is [ErrTruncated]. Errors are final.
func (r *Reader) Next() (Event, error) {
	if r.err != nil {
		return Event{Retry: -1}, r.err
	}
	for {
		line, err := r.readLine()
		if err != nil {
			r.err = err
			r.data, r.line = nil, nil
			return Event{Retry: -1}, err
		}
		if len(line) == 0 {
			if !r.open {
				continue
			}
			return r.dispatch(), nil
		}
		if line[0] == ':' {
			return Event{HasComment: true, Comment: string(value(line[1:])), Retry: -1}, nil
		}
		if r.size += len(line) + 1; r.size > r.limit {
			r.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.limit)
			r.data, r.line = nil, nil
			return Event{Retry: -1}, r.err
		}
		r.field(line)
	}
}

func (r *Reader) dispatch() Event {
	ev := r.ev
	if n := len(r.data); n > 0 {
		ev.Data = r.data[: n-1 : n-1]
	}
	r.ev = Event{Retry: -1}
	r.open, r.size = false, 0
	r.data = r.data[:0]
	return ev
}

// field applies the rules of the HTML standard, "Interpreting an event
// stream". Unknown fields are ignored, as it requires, but hold the event open.
func (r *Reader) field(line []byte) {
	r.open = true
	name, val := line, []byte(nil)
	if i := bytes.IndexByte(line, ':'); i >= 0 {
		name, val = line[:i], value(line[i+1:])
	}
	switch string(name) {
	case "data":
		r.data = append(append(r.data, val...), '\n')
	case "event":
		if r.ev.Name = "message"; string(val) != "message" { // the usual name costs no allocation
			r.ev.Name = string(val)
		}
	case "id":
		if bytes.IndexByte(val, 0) < 0 {
			r.ev.ID, r.ev.HasID = string(val), true
		}
	case "retry":
		if n, ok := digits(val); ok {
			r.ev.Retry = n
		}
	}
}

func digits(b []byte) (int, bool) {
	if len(b) == 0 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), MaxRetry)
	}
	return n, true
}

func value(b []byte) []byte {
	if len(b) > 0 && b[0] == ' ' {
		return b[1:]
	}
	return b
}

// readLine returns the next line without its terminator. The slice is valid
// until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		for r.pos == r.end {
			if err := r.fill(); err != nil {
				if err == io.EOF && (r.open || len(r.line) > 0) {
					err = ErrTruncated
				}
				return nil, err
			}
		}
		chunk := r.buf[r.pos:r.end]
		if r.skipLF {
			r.skipLF = false
			if chunk[0] == '\n' {
				r.pos++
				continue
			}
		}
		i := bytes.IndexByte(chunk, '\n')
		head := chunk
		if i >= 0 {
			head = chunk[:i]
		}
		if j := bytes.IndexByte(head, '\r'); j >= 0 {
			i = j
		}
		if i < 0 {
			if len(r.line)+len(chunk) > r.limit {
				return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, r.limit)
			}
			r.line = append(r.line, chunk...)
			r.pos = r.end
			continue
		}
		r.skipLF = chunk[i] == '\r'
		r.pos += i + 1
		if len(r.line)+i > r.limit {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, r.limit)
		}
		if len(r.line) == 0 {
			return chunk[:i], nil
		}
		r.line = append(r.line, chunk[:i]...)
		return r.line, nil
	}
}

// fill reads more input into the empty buffer. A few empty reads are allowed,
// as bufio does, before the source is declared broken.
func (r *Reader) fill() error {
	if r.buf == nil {
		r.buf = make([]byte, bufSize)
	}
	for range 100 {
		n, err := r.src.Read(r.buf)
		if n > 0 {
			r.pos, r.end = 0, n
			if !r.begun {
				r.begun = true
				r.stripBOM()
			}
			return nil // a simultaneous error comes again on the next read
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// stripBOM drops the one leading byte order mark that the standard allows. A
// mark split over reads is topped up first.
func (r *Reader) stripBOM() {
	const bom = "\xef\xbb\xbf"
	for r.end < len(bom) && string(r.buf[:r.end]) == bom[:r.end] {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if err != nil || n == 0 {
			break
		}
	}
	if r.end >= len(bom) && string(r.buf[:len(bom)]) == bom {
		r.pos = len(bom)
	}
}

// Append appends the wire form of ev to dst, the empty line that ends it
// included. Line breaks of any kind in Data and Comment start a new line of
// that field. What the format can't express is dropped: CR and LF in Name and
// ID, and NUL in ID, for which a reader must ignore the field.
func Append(dst []byte, ev Event) []byte {
	if ev.HasComment {
		dst = appendLines(dst, ":", []byte(ev.Comment))
	}
	if ev.Name != "" {
		dst = append(appendWithout(append(dst, "event: "...), ev.Name, "\r\n"), '\n')
	}
	if ev.HasID {
		dst = append(appendWithout(append(dst, "id: "...), ev.ID, "\r\n\x00"), '\n')
	}
	if ev.Retry >= 0 && !ev.HasComment {
		dst = append(strconv.AppendInt(append(dst, "retry: "...), int64(ev.Retry), 10), '\n')
	}
	if ev.Data != nil {
		dst = appendLines(dst, "data:", ev.Data)
	}
	return append(dst, '\n')
}

func appendLines(dst []byte, field string, text []byte) []byte {
	for {
		dst = append(append(dst, field...), ' ')
		i := bytes.IndexByte(text, '\n')
		head := text
		if i >= 0 {
			head = text[:i]
		}
		if j := bytes.IndexByte(head, '\r'); j >= 0 {
			i = j
		}
		if i < 0 {
			return append(append(dst, text...), '\n')
		}
		dst = append(append(dst, text[:i]...), '\n')
		if text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n' {
			i++
		}
		text = text[i+1:]
	}
}

func appendWithout(dst []byte, s, drop string) []byte {
	for i := range len(s) {
		if strings.IndexByte(drop, s[i]) < 0 {
			dst = append(dst, s[i])
		}
	}
	return dst
}
