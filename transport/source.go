package transport

import (
	"fmt"
	"io"
	"net/http"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
)

// source reads the messages of an outer answer: one of a JSON body, many of an
// event stream.
type source struct {
	body   io.ReadCloser
	limits Limits
	events *sse.Reader // nil for a JSON body
	read   bool        // the JSON body was read
	status int
	size   int64   // of the body, or -1
	last   *outer  // what frame returned is of this
	kept   *[]byte // and its JSON body lies in this
}

func newSource(resp *http.Response, lim Limits) *source {
	s := &source{body: resp.Body, limits: lim, status: resp.StatusCode, size: resp.ContentLength}
	if isType(resp.Header, typeSSE) {
		s.events = sse.NewReader(resp.Body, lim.outer()+1024)
	}
	return s
}

// message returns the next message. It aliases memory that the next call
// overwrites. The error is io.EOF at the end of the answer.
func (s *source) message() (*outer, error) {
	if s.events == nil {
		if s.read {
			return nil, io.EOF
		}
		s.read = true
		s.kept = getBuffer()
		b, err := readInto((*s.kept)[:0], s.body, s.size, s.limits.outer())
		if err != nil {
			return nil, err
		}
		*s.kept = b
		if len(b) == 0 {
			return nil, io.EOF
		}
		return parseAnswer(b, s.limits)
	}
	for {
		ev, err := s.events.Next()
		if err != nil {
			return nil, err
		}
		if ev.HasComment {
			return nil, errComment
		}
		if len(ev.Data) > 0 {
			return parseAnswer(ev.Data, s.limits)
		}
	}
}

// errComment is what source.message returns for a keep-alive.
var errComment = fmt.Errorf("a comment")

func parseAnswer(b []byte, lim Limits) (*outer, error) {
	m, err := parseOuter(b, lim.json())
	if err != nil {
		return nil, protocol.Errorf(protocol.PlaintextAnswer, "neither a sealed answer nor JSON-RPC: %v", err)
	}
	return m, nil
}

// frame returns the next frame of the envelope carrier. A refusal by the peer is
// a *protocol.Error; at the end of the answer the error is io.EOF.
func (s *source) frame() ([]byte, error) {
	m, err := s.message()
	if err != nil {
		return nil, err
	}
	switch {
	case m.Error != nil:
		return nil, s.refusal(m)
	case m.IsNotification() && m.Method == protocol.MethodFrame, m.Result != nil:
		switch {
		case m.badB64 != nil:
			return nil, protocol.Errorf(protocol.AnswerInvalid, "%v", m.badB64)
		case len(m.frame) == 0:
			return nil, protocol.Errorf(protocol.PlaintextAnswer, "a message without a frame where a sealed answer is due")
		}
		s.last = m
		return m.frame, nil
	}
	return nil, protocol.Errorf(protocol.PlaintextAnswer, "%.100q came unsealed within a sealed answer", m.Method)
}

// release gives up the frame that frame returned last.
func (s *source) release() {
	if s.last == nil {
		return
	}
	s.last.release()
	if s.kept != nil {
		putBuffer(s.kept)
	}
	s.last, s.kept = nil, nil
}

// refusal is the error of an outer answer. It is not authenticated.
func (s *source) refusal(m *outer) error {
	if e := protocol.ParseError(m.Error); e != nil {
		return e
	}
	code := string(jsonrpc.Get(m.Error, "code"))
	text, _ := jsonrpc.Text(jsonrpc.Get(m.Error, "message"))
	return protocol.Errorf(protocol.UnsealedError, "an error came unsealed (HTTP status %d, code %.20s: %.200q); nothing says who made it", s.status, code, text)
}
