package transport

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
)

// answerWriter is the http.ResponseWriter that the server behind writes to. It
// seals what is written: a body as one final frame when the server is done, the
// events of an event stream one by one as they are complete. Like any
// http.ResponseWriter it is not safe for concurrent use.
type answerWriter struct {
	h    *handler
	req  *protocol.Request
	sink frameSink
	rc   *http.ResponseController // of the outer answer
	id   jsonrpc.ID               // of the inner request, or ""

	header   http.Header
	status   int              // 0 until the head is written
	fields   []protocol.Field // as they were then
	stream   bool             // the inner answer is an event stream
	headSent bool
	done     bool // the final frame is out: the rest is not part of the answer
	limit    int
	body     []byte // of an answer that is no stream, or the incomplete event of one
	split    splitter
	tooLarge bool
	err      error
}

func (a *answerWriter) Header() http.Header { return a.header }

func (a *answerWriter) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status = status
	a.fields = packFields(a.header)
	if a.req.Outer.Carrier == protocol.Inline { // the session is this side's, and all clients share it
		a.fields = slices.DeleteFunc(a.fields, func(f protocol.Field) bool { return f.Name == "mcp-session-id" })
	}
	a.stream = isType(a.header, typeSSE) && status == http.StatusOK
}

func (a *answerWriter) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	switch {
	case a.err != nil:
		return 0, a.err
	case a.done || a.tooLarge:
		return len(p), nil
	}
	if a.body == nil && !a.stream {
		a.body = make([]byte, 0, max(len(p), a.announced()))
	}
	a.body = append(a.body, p...)
	if a.stream {
		a.events()
	}
	if len(a.body) > a.limit+4096 {
		a.body, a.tooLarge = nil, true
		if a.stream {
			a.answerTooLarge()
		}
	}
	if a.err != nil {
		return 0, a.err
	}
	return len(p), nil
}

// announced is how long the server behind says that its answer is, or 0.
func (a *answerWriter) announced() int {
	n, err := strconv.Atoi(a.header.Get("Content-Length"))
	if err != nil {
		return 0
	}
	return min(n, a.limit)
}

// Flush makes what was written, and the head of a stream, go out now.
func (a *answerWriter) Flush() { a.FlushError() }

// FlushError is Flush for http.ResponseController.
func (a *answerWriter) FlushError() error {
	a.WriteHeader(http.StatusOK)
	if a.stream && !a.headSent && !a.done && a.err == nil {
		a.seal(protocol.Content{Kind: protocol.KindEnd}, false) // nothing yet but the head
		a.flush()
	}
	return a.err
}

// SetReadDeadline, SetWriteDeadline and EnableFullDuplex serve
// http.ResponseController. The body was read already.
func (a *answerWriter) SetReadDeadline(t time.Time) error  { return a.rc.SetReadDeadline(t) }
func (a *answerWriter) SetWriteDeadline(t time.Time) error { return a.rc.SetWriteDeadline(t) }
func (a *answerWriter) EnableFullDuplex() error            { return nil }

func (a *answerWriter) seal(c protocol.Content, final bool) {
	if !a.headSent {
		a.headSent = true
		if a.status != http.StatusOK {
			c.Meta.Status = a.status
		}
		c.Meta.Fields, c.Meta.Stream = a.fields, a.stream
	}
	a.done = final
	buf := getBuffer()
	defer putBuffer(buf)
	sealed, err := a.req.Seal((*buf)[:0], c, final)
	if err == nil {
		*buf = sealed
		err = a.sink.frame(sealed, final)
	}
	if err != nil {
		a.err = err
		return
	}
	if final {
		a.h.see(Event{Kind: EventAnswered, Carrier: a.req.Outer.Carrier, Context: a.req.Context, Seq: a.req.Seq})
	}
}

func (a *answerWriter) flush() {
	if err := a.sink.flush(); err != nil && a.err == nil && !errors.Is(err, http.ErrNotSupported) {
		a.err = err
	}
}

// events seals the events that are complete in a.body.
func (a *answerWriter) events() {
	for !a.done && a.err == nil {
		n := a.split.next(a.body)
		if n == 0 {
			return
		}
		r := sse.NewReader(bytes.NewReader(a.body[:n]), n)
		for !a.done && a.err == nil {
			ev, err := r.Next()
			if err != nil {
				break // io.EOF: a.body[:n] holds whole events
			}
			a.event(ev)
		}
		a.body = append(a.body[:0], a.body[n:]...)
	}
}

func (a *answerWriter) event(ev sse.Event) {
	if ev.HasComment {
		if err := a.sink.comment(); err != nil {
			a.err = err
		}
		return
	}
	c := protocol.Content{Kind: protocol.KindMessage, Body: ev.Data}
	if ev.HasID {
		c.Meta.EventID = ev.ID
	}
	if ev.Retry >= 0 {
		c.Meta.Retry = ev.Retry + 1
	}
	if ev.Name != "message" {
		c.Meta.EventName = ev.Name
	}
	final := a.id != "" && answers(ev.Data, a.id)
	a.seal(c, final)
	a.flush()
}

// finish seals the end of the answer. The server behind has returned.
func (a *answerWriter) finish() {
	a.WriteHeader(http.StatusOK)
	switch {
	case a.done || a.err != nil:
	case a.stream && len(bytes.TrimSpace(a.body)) > 0:
		// The stream broke off within an event. Without a final frame the client
		// sees it as truncated, which it is.
		panic(http.ErrAbortHandler)
	case a.tooLarge:
		a.answerTooLarge()
	case a.stream || len(a.body) == 0:
		a.seal(protocol.Content{Kind: protocol.KindEnd}, true)
	case isType(a.header, typeJSON) && (a.status < 400 || isMessage(a.body)):
		// With an error status some SDKs send JSON that is no JSON-RPC.
		a.seal(protocol.Content{Kind: protocol.KindMessage, Body: a.body}, true)
	default:
		a.seal(protocol.Content{Kind: protocol.KindRaw, Body: a.body}, true)
	}
}

// isMessage reports whether body is one JSON-RPC message.
func isMessage(body []byte) bool {
	_, err := jsonrpc.Parse(body, jsonrpc.Limits{MaxBytes: len(body)})
	return err == nil
}

// answerTooLarge says inside the seal that the answer can't be had.
func (a *answerWriter) answerTooLarge() {
	e := reasonOf(protocol.Errorf(protocol.TooLarge, "the server's answer is over the limit of %d bytes", a.limit))
	c := protocol.Content{Kind: protocol.KindMessage, Body: e.Response(a.id)}
	if !a.headSent && !a.stream {
		a.status = http.StatusOK
		a.fields = []protocol.Field{{Name: "content-type", Value: []byte(typeJSON)}}
	}
	a.seal(c, true)
}

// answers reports whether data is the JSON-RPC response to id. It reads no
// further than it must: members of a response stand in any order, but its id
// usually comes first.
func answers(data []byte, id jsonrpc.ID) bool {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return false
	}
	sameID, result := false, false
	for dec.PeekKind() == '"' && !(sameID && result) {
		tok, err := dec.ReadToken()
		if err != nil {
			return false
		}
		switch tok.String() {
		case "method":
			return false
		case "id":
			v, err := dec.ReadValue()
			if err != nil || string(v) != string(id) {
				return false
			}
			sameID = true
			continue
		case "result", "error":
			result = true
			if sameID {
				return true
			}
		}
		if dec.SkipValue() != nil {
			return false
		}
	}
	return sameID && result
}

// A splitter finds the ends of events in a growing buffer.
type splitter struct {
	pos  int  // bytes of the buffer already looked at
	open bool // the current line has bytes
	cr   bool // the last byte was a CR: an LF that follows belongs to it
}

// next returns the length of the first whole event in buf, with the empty line
// that ends it, or 0. The caller drops those bytes before the next call.
func (s *splitter) next(buf []byte) int {
	for ; s.pos < len(buf); s.pos++ {
		if s.open { // to the end of the line, by steps that keep the time linear
			w := buf[s.pos:min(len(buf), s.pos+512)]
			if i := bytes.IndexByte(w, '\n'); i >= 0 {
				w = w[:i]
			}
			if i := bytes.IndexByte(w, '\r'); i >= 0 {
				w = w[:i]
			}
			if s.pos += len(w); s.pos == len(buf) {
				break
			}
		}
		c := buf[s.pos]
		if c == '\n' && s.cr {
			s.cr = false
			continue
		}
		s.cr = c == '\r'
		if c != '\n' && c != '\r' {
			s.open = true
			continue
		}
		if s.open {
			s.open = false
			continue
		}
		n := s.pos + 1
		s.pos = 0
		return n
	}
	return 0
}
