package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
)

// frames is where the frames of one answer come from. frame returns io.EOF at
// the end, errComment for a keep-alive, and a *protocol.Error for a refusal.
type frames interface {
	frame() ([]byte, error)
	release() // the last frame was opened, and is used no more
	Close() error
}

func (s *source) Close() error { return s.body.Close() }

// answer is an answer whose first frame is open.
type answer struct {
	src   frames
	call  *protocol.Call
	link  *link
	first protocol.Content
	final bool
}

// open reads the first frame of the answer in resp.
func (x *exchange) open(resp *http.Response, link *link, call *protocol.Call) (*answer, error) {
	a, err := x.openFrom(resp, link, call)
	if err != nil {
		resp.Body.Close()
		return nil, x.reading(err)
	}
	return a, nil
}

func (x *exchange) openFrom(resp *http.Response, link *link, call *protocol.Call) (*answer, error) {
	if resp.StatusCode == http.StatusNotFound && link.session != "" {
		return nil, protocol.Errorf(sessionLost, "the outer session is over")
	}
	if !isType(resp.Header, typeJSON) && !isType(resp.Header, typeSSE) {
		r := protocol.UnsealedError
		if resp.StatusCode < 300 {
			r = protocol.PlaintextAnswer
		}
		return nil, protocol.Errorf(r, "HTTP status %d with content type %.60q came unsealed where a sealed answer is due", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return firstFrame(newSource(resp, x.rt.cfg.Limits), link, call)
}

func firstFrame(src frames, link *link, call *protocol.Call) (*answer, error) {
	for {
		frame, err := src.frame()
		if err == errComment {
			continue
		}
		if err == io.EOF {
			return nil, call.Close()
		}
		if err != nil {
			return nil, err
		}
		a := &answer{src: src, call: call, link: link}
		if a.first, a.final, err = call.Open(frame); err != nil {
			return nil, err
		}
		src.release()
		return a, nil
	}
}

// reading makes of an error while reading an answer one with a reason: what
// broke off is truncated, unless this side gave up.
func (x *exchange) reading(err error) error {
	var e *protocol.Error
	switch {
	case errors.As(err, &e):
		return err
	case x.ctx.Err() != nil:
		return x.ctx.Err()
	case errors.Is(err, sse.ErrTooLarge):
		return protocol.Errorf(protocol.TooLarge, "%v", err)
	}
	return protocol.Errorf(protocol.Truncated, "the answer broke off: %v", err)
}

// response restores what the server behind the seal answered.
func (a *answer) response(x *exchange) (*http.Response, error) {
	c := a.first
	status := c.Meta.Status
	if status == 0 {
		status = http.StatusOK
	}
	header := unpackFields(c.Meta.Fields)
	if c.Meta.Stream {
		body := &streamBody{x: x, answer: *a, pending: true}
		header.Del("Content-Length")
		return &http.Response{
			Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: header, Body: body, ContentLength: -1, Request: x.req,
		}, nil
	}
	defer a.src.Close()
	if !a.final {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "an answer that is no stream is one frame, and this has more")
	}
	if err := a.nothingAfter(); err != nil {
		return nil, err
	}
	body := c.Body
	var err error
	switch c.Kind {
	case protocol.KindMessage, protocol.KindRaw:
		// By how the client will read it: what it is sealed as is the peer's word.
		switch {
		case isType(header, typeSSE):
			body, err = io.ReadAll(&labelledStream{events: sse.NewReader(bytes.NewReader(body), len(body)+1), status: a.link.status()})
		case c.Kind == protocol.KindMessage, isType(header, typeJSON):
			body, err = x.rt.label(body, a.link)
		}
		if err != nil {
			return nil, err
		}
	case protocol.KindEnd:
		// TMCP-10.4-2: A client MUST end every inner request with an answer or an error.
		if body = nil; x.id != "" && status < 300 {
			return nil, protocol.Errorf(protocol.AnswerInvalid, "the server ended its answer to a request without one (status %d)", status)
		}
	default:
		return nil, protocol.Errorf(protocol.AnswerInvalid, "content kind %d in an answer", c.Kind)
	}
	a.done(x)
	return newResponse(x.req, status, header, body), nil
}

// nothingAfter reads what follows the final frame: another frame of this answer
// is an error, whatever else the path adds is not looked at.
func (a *answer) nothingAfter() error {
	for {
		frame, err := a.src.frame()
		if err == errComment {
			continue
		}
		if err != nil {
			return nil
		}
		if _, _, err := a.call.Open(frame); err != nil && err != protocol.ErrRedelivered {
			return err
		}
	}
}

func (a *answer) done(x *exchange) {
	x.rt.see(Event{Kind: EventAnswered, Carrier: x.rt.cfg.Carrier, Context: a.call.Context(), Seq: a.call.Seq(), Peer: a.link.client.Peer()})
}

// streamBody is the event stream of the server behind the seal, restored event
// by event as sealed frames arrive. It reads only when it is read from, so it
// needs no goroutine, and closing it closes the outer stream.
type streamBody struct {
	x       *exchange
	answer  answer
	pending bool // answer.first was not delivered yet
	// resumable: events had ids, so the client can ask for the rest (legacy),
	// in a stream that is sealed as this one; then the break is its to mend.
	resumable bool
	// held is the response, and what follows it, until the final frame is open:
	// before that the answer is not complete (TMCP-9.2-2).
	held []byte
	buf  []byte
	off  int
	err  error
}

func (b *streamBody) Read(p []byte) (int, error) {
	for b.off == len(b.buf) {
		if b.err != nil {
			return 0, b.err
		}
		b.buf, b.off = b.buf[:0], 0
		b.err = b.fill()
		var e *protocol.Error
		if errors.As(b.err, &e) {
			if b.x.id != "" && !b.resumable {
				// The one way in which an SDK tells its user why: the request's
				// own answer, an error. Otherwise it says that the stream ended.
				b.buf = sse.Append(b.buf, sse.Event{Retry: -1, Data: e.Response(b.x.id)})
				b.err = io.EOF
			}
			b.x.rt.see(Event{Kind: EventRefused, Err: e, Carrier: b.x.rt.cfg.Carrier})
		}
	}
	n := copy(p, b.buf[b.off:])
	b.off += n
	return n, nil
}

func (b *streamBody) Close() error { return b.answer.src.Close() }

// fill puts the next event into buf.
func (b *streamBody) fill() error {
	a := &b.answer
	if b.pending {
		b.pending = false
		return b.deliver(a.first)
	}
	frame, err := a.src.frame()
	switch {
	case err == errComment:
		b.buf = append(b.buf, ":\n\n"...)
		return nil
	case err == io.EOF && a.final:
		return io.EOF
	case err == io.EOF:
		return a.call.Close()
	case err != nil && a.final:
		return io.EOF // complete; what the path does afterwards doesn't matter
	case err != nil:
		return b.x.reading(err)
	}
	c, final, err := a.call.Open(frame)
	if err == protocol.ErrRedelivered {
		return nil
	}
	if a.final = final; err != nil {
		return err
	}
	a.src.release()
	return b.deliver(c)
}

// deliver puts the event of c into buf, or holds it back.
func (b *streamBody) deliver(c protocol.Content) error {
	if err := b.event(c); err != nil {
		return err
	}
	switch {
	case b.answer.final:
		b.buf = append(b.held, b.buf...)
		b.held = nil
	case b.held != nil || b.x.id != "" && answers(c.Body, b.x.id):
		if b.held = append(b.held, b.buf...); len(b.held) > 2*b.x.rt.cfg.Limits.message() {
			return protocol.Errorf(protocol.TooLarge, "more than %d bytes follow a response that is not final", 2*b.x.rt.cfg.Limits.message())
		}
		b.buf = b.buf[:0]
	}
	return nil
}

func (b *streamBody) event(c protocol.Content) error {
	if b.answer.final {
		b.answer.done(b.x)
	}
	switch c.Kind {
	case protocol.KindEnd:
		return nil
	case protocol.KindMessage:
	default:
		return protocol.Errorf(protocol.AnswerInvalid, "content kind %d in an event stream", c.Kind)
	}
	body := c.Body
	if len(body) > 0 {
		var err error
		if body, err = b.x.rt.label(body, b.answer.link); err != nil {
			return err
		}
	}
	if body == nil {
		body = []byte{}
	}
	b.resumable = b.resumable || c.Meta.EventID != ""
	b.buf = sse.Append(b.buf, sse.Event{ID: c.Meta.EventID, HasID: c.Meta.EventID != "", Name: c.Meta.EventName, Retry: c.Meta.Retry - 1, Data: body})
	return nil
}
