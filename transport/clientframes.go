package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// roundTripFrames carries the whole HTTP request sealed (HTTP carrier). A body
// within the limit is read first, so that it can be sealed afresh when the
// server asks for it; a larger one is streamed, once.
func (x *exchange) roundTripFrames() (*http.Response, error) {
	rt, req := x.rt, x.req
	limit := rt.cfg.Limits.message()
	if req.Body != nil {
		b, err := readAll(io.LimitReader(req.Body, int64(limit)), req.ContentLength, limit)
		if err != nil {
			req.Body.Close()
			return nil, err
		}
		if len(b) == limit {
			x.more = req.Body
		} else {
			req.Body.Close()
		}
		x.body = b
	}
	if req.Method == http.MethodPost && x.more == nil {
		x.id = requestID(x.body)
	}
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	x.content = protocol.Content{Kind: protocol.KindHTTP, Body: x.body, Meta: protocol.Meta{
		Method: req.Method, Target: req.URL.RequestURI(),
		Fields: append(packFields(req.Header), protocol.Field{Name: "host", Value: []byte(host)}),
	}}
	x.setForward()
	resp, err := x.runAt(req)
	if err != nil {
		if x.more != nil {
			x.more.Close()
		}
		return x.fail(err)
	}
	return resp, nil
}

// attemptFrames seals and sends once over the HTTP carrier.
func (x *exchange) attemptFrames(link *link, call **protocol.Call) (*answer, error) {
	outer := protocol.Outer{Carrier: protocol.HTTP}
	now := x.rt.clock()
	var c *protocol.Call
	var frame []byte
	var err error
	switch {
	case x.more == nil:
		c, frame, err = x.rt.cfg.seal(x.ctx, link.client, *call, x.content, outer, now)
	case *call != nil:
		return nil, protocol.Errorf(protocol.RetriesExhausted, "the body is over %d bytes, so it was streamed, and can't be sent again", x.rt.cfg.Limits.message())
	default:
		if x.rt.cfg.Authorize != nil {
			return nil, protocol.Errorf(protocol.PolicyDenied, "the message has more than %d bytes, so it would be streamed, and can't be judged before it is sent", x.rt.cfg.Limits.message())
		}
		c, frame, err = link.client.SealFirst(x.content, outer, false, now)
	}
	if err != nil {
		return nil, err
	}
	*call = c
	var body io.Reader = bytes.NewReader(frame)
	if x.more != nil {
		body = &chunkWriter{call: c, src: x.more, out: frame, peer: link.client.Peer(), clock: x.rt.clock}
	}
	req, err := http.NewRequestWithContext(x.ctx, http.MethodPost, x.ep.url.String(), body)
	if err != nil {
		return nil, err
	}
	for k, v := range x.forward {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", protocol.MediaTypeFrames)
	req.Header.Set("Accept", protocol.MediaTypeFrames+", "+typeJSON)
	if link.session != "" {
		req.Header[headerSession] = []string{link.session}
	}
	resp, err := x.rt.base.RoundTrip(req)
	if err != nil {
		var e *protocol.Error
		if errors.As(err, &e) {
			return nil, err
		}
		return nil, unreachable(err)
	}
	if !isType(resp.Header, protocol.MediaTypeFrames) {
		return x.open(resp, link, c) // an error, or not from a trust layer at all
	}
	a, err := firstFrame(newFrameStream(resp.Body, x.rt.cfg.Limits), link, c)
	if err != nil {
		resp.Body.Close()
		return nil, x.reading(err)
	}
	return a, nil
}

// chunkWriter is the outer body of a streamed request: its frames, made as they
// are read.
type chunkWriter struct {
	call  *protocol.Call
	src   io.ReadCloser
	out   []byte
	buf   []byte
	end   bool
	peer  *protocol.Peer
	clock func() time.Time
}

func (c *chunkWriter) Read(p []byte) (int, error) {
	for len(c.out) == 0 {
		if c.end {
			return 0, io.EOF
		}
		if c.buf == nil {
			c.buf = make([]byte, chunkSize)
		}
		n, err := c.src.Read(c.buf)
		if err != nil && err != io.EOF {
			return 0, err // without its final frame the request is truncated, and refused
		}
		// TMCP-12.3-4: A client MUST NOT seal to a peer beyond the end of the attestation result that
		// it relies on.
		if c.peer.Appraisal() != nil && !c.clock().Before(c.peer.Expires()) {
			return 0, protocol.Errorf(protocol.KeyObjectExpired, "what was found of the peer's evidence ended at %s, while the body was sent", c.peer.Expires().UTC().Format(time.RFC3339))
		}
		c.end = err == io.EOF
		if c.out, err = c.call.SealNext(nil, protocol.Content{Kind: protocol.KindData, Body: c.buf[:n]}, c.end); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

func (c *chunkWriter) Close() error { return c.src.Close() }

// httpResponse restores an answer that came over the HTTP carrier.
func (a *answer) httpResponse(x *exchange) (*http.Response, error) {
	c := a.first
	if c.Kind != protocol.KindHTTP {
		a.src.Close()
		return nil, protocol.Errorf(protocol.AnswerInvalid, "content kind %d where the head of an HTTP answer is due", c.Kind)
	}
	status := c.Meta.Status
	if status == 0 {
		status = http.StatusOK
	}
	header := unpackFields(c.Meta.Fields)
	if a.final {
		a.src.Close()
		a.done(x)
		return newResponse(x.req, status, header, c.Body), nil
	}
	resp := newResponse(x.req, status, header, nil)
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	resp.Body = &dataBody{x: x, answer: *a, buf: c.Body}
	return resp, nil
}

// dataBody is the body of an answer that came over the HTTP carrier, restored
// chunk by chunk.
type dataBody struct {
	x      *exchange
	answer answer
	buf    []byte
	err    error
}

func (b *dataBody) Read(p []byte) (int, error) {
	for len(b.buf) == 0 {
		if b.err == nil {
			b.buf, b.err = b.next()
			var e *protocol.Error
			if errors.As(b.err, &e) {
				b.x.rt.see(Event{Kind: EventRefused, Err: e, Carrier: protocol.HTTP})
			}
			continue
		}
		return 0, b.err
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	return n, nil
}

func (b *dataBody) Close() error { return b.answer.src.Close() }

func (b *dataBody) next() ([]byte, error) {
	a := &b.answer
	frame, err := a.src.frame()
	switch {
	case err == io.EOF && a.final, err != nil && a.final && b.x.ctx.Err() == nil && !isProtocol(err):
		return nil, io.EOF
	case err == io.EOF:
		return nil, a.call.Close()
	case err != nil:
		return nil, b.x.reading(err)
	}
	c, final, err := a.call.Open(frame)
	if err == protocol.ErrRedelivered {
		return nil, nil
	}
	if a.final = final; err != nil {
		return nil, err
	}
	if c.Kind != protocol.KindData {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "content kind %d in the body of an HTTP answer", c.Kind)
	}
	if a.final {
		a.done(b.x)
	}
	return c.Body, nil
}

func isProtocol(err error) bool {
	var e *protocol.Error
	return errors.As(err, &e)
}
