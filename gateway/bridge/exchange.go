package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
)

// An httpError is an HTTP answer that isn't the awaited JSON-RPC answer.
type httpError struct {
	status int
	answer []byte // a JSON-RPC error response, if the body was one
	code   int    // its code
	text   string // else the start of the body
}

func (e *httpError) Error() string {
	s := fmt.Sprintf("the MCP server answered with HTTP status %d %s", e.status, http.StatusText(e.status))
	if e.text != "" {
		s += ": " + e.text
	}
	return s
}

func errorData(err error) []byte {
	var he *httpError
	if errors.As(err, &he) {
		return fmt.Appendf(nil, `{"reason":"http-status","status":%d}`, he.status)
	}
	if errors.Is(err, errNoAnswer) {
		return reasonData("no-answer")
	}
	return reasonData("unreachable")
}

var errNoAnswer = errors.New("the MCP server's answer is incomplete")

func (p *pump) newRequest(ctx context.Context, method string, body []byte) (*http.Request, error) {
	var rd io.Reader
	if body != nil {
		rd = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.o.URL, rd)
	if err != nil {
		return nil, err
	}
	for k, v := range p.o.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	return req, nil
}

// exchange posts m. For a request, r is its entry and the answer is returned;
// what comes before it is written to the client. It repeats the request once
// where MCP says so: after a lost session, and after changed tool headers.
func (p *pump) exchange(ctx context.Context, m *jsonrpc.Message, r *pending) ([]byte, error) {
	version := modernVersion(m)
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	answer, err := p.post(ctx, m, r, version, s)
	var he *httpError
	if !errors.As(err, &he) {
		return answer, err
	}
	switch {
	case version != "" && he.code == jsonrpc.CodeHeaderMismatch && m.Method == "tools/call" && p.tools.due():
		if p.fetchTools(ctx, m, version) {
			return p.post(ctx, m, r, version, s)
		}
	case version == "" && he.status == http.StatusNotFound && s.id != "" && m.Method != "initialize":
		// "When a client receives HTTP 404 in response to a request containing
		// an MCP-Session-Id, it MUST start a new session".
		if s, err2 := p.openAgain(ctx, s.generation); err2 != nil {
			p.log.Warn("the session was lost and can't be opened again", "error", err2)
		} else if !m.IsResponse() { // what an answer answers was lost with the session
			return p.post(ctx, m, r, version, s)
		}
	}
	return answer, err
}

// post makes one POST and reads its answer. A JSON-RPC error response is an
// ordinary answer when it comes as 200, else it is in the *httpError.
func (p *pump) post(ctx context.Context, m *jsonrpc.Message, r *pending, version string, s legacySession) ([]byte, error) {
	if r != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { r.sent() }})
	}
	req, err := p.newRequest(ctx, http.MethodPost, m.Raw)
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	switch {
	case version != "":
		h.Set(hdrVersion, version)
		h.Set(hdrMethod, encodeHeader(m.Method))
		if member, _ := namedBy(m.Method); member != "" {
			if name, ok := jsonrpc.Text(jsonrpc.Get(m.Params, member)); ok {
				h.Set(hdrName, encodeHeader(name))
			}
		}
		if m.Method == "tools/call" {
			name, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "name"))
			mirrors, _ := p.tools.lookup(name)
			setParams(h, mirrors, m.Params)
		}
	case m.Method != "initialize":
		if s.id != "" {
			h.Set(hdrSession, s.id)
		}
		if s.version != "" {
			h.Set(hdrVersion, s.version)
		}
	}
	resp, err := p.o.Transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("reach the MCP server at %s: %w", p.o.URL, err)
	}
	defer discard(resp)
	if r != nil {
		r.sent()
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, p.readError(resp)
	}
	if r == nil || !m.IsRequest() {
		return nil, nil
	}
	answer, err := p.readAnswer(ctx, resp, m, version, s)
	if err != nil {
		return nil, err
	}
	if m.Method == "tools/list" && version != "" {
		answer = p.hide(answer)
	}
	if m.Method == "initialize" && version == "" {
		p.opened(m, answer, resp.Header.Get(hdrSession))
	}
	return answer, nil
}

func (p *pump) readAnswer(ctx context.Context, resp *http.Response, m *jsonrpc.Message, version string, s legacySession) ([]byte, error) {
	t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch t {
	case "application/json":
		body, err := io.ReadAll(io.LimitReader(resp.Body, int64(p.o.Limits.Bytes())+1))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		msgs, err := jsonrpc.Split(body, p.o.Limits)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		for _, a := range msgs {
			if a.IsResponse() && (a.ID == m.ID || a.ID == "null" && a.Error != nil) {
				return rewrite(a.Raw, set([]byte(m.ID), "id")), nil
			}
		}
		return nil, fmt.Errorf("%w: the JSON answer is for another request", errNoAnswer)
	case "text/event-stream":
		if m.Method == "initialize" {
			s = legacySession{id: resp.Header.Get(hdrSession)} // to resume with
		}
		return p.readStream(ctx, resp.Body, m.ID, version, s)
	}
	return nil, fmt.Errorf("%w: HTTP status %d with Content-Type %q", errNoAnswer, resp.StatusCode, resp.Header.Get("Content-Type"))
}

// readStream reads an SSE answer up to the response with the given id. Legacy
// streams that break off are resumed from their last event.
func (p *pump) readStream(ctx context.Context, body io.ReadCloser, id jsonrpc.ID, version string, s legacySession) ([]byte, error) {
	cur := cursor{retry: firstRetry}
	failures := 0
	for {
		answer, err := p.readEvents(body, id, version != "", &cur)
		_ = body.Close()
		if answer != nil {
			return answer, nil
		}
		var bad *badEvent
		if version != "" || cur.last == "" || errors.As(err, &bad) || ctx.Err() != nil {
			return nil, fmt.Errorf("%w: the stream ended before the answer: %w", errNoAnswer, err)
		}
		for {
			if err := pause(ctx, cur.wait(failures)); err != nil {
				return nil, err
			}
			body, err = p.openStream(ctx, s, cur.last)
			if err == nil {
				failures = 0
				break
			}
			var he *httpError
			if failures++; failures >= maxAttempts || errors.As(err, &he) && he.status < 500 {
				return nil, fmt.Errorf("%w: the stream broke off and can't be resumed: %w", errNoAnswer, err)
			}
		}
	}
}

// A cursor is the place in a stream that can be resumed.
type cursor struct {
	last  string
	retry time.Duration
}

func (c *cursor) wait(failures int) time.Duration {
	return max(c.retry, min(c.retry<<min(failures, 10), maxRetry))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A badEvent is an event that isn't a JSON-RPC message: resuming won't help.
type badEvent struct{ err error }

func (e *badEvent) Error() string { return "an event is no JSON-RPC message: " + e.err.Error() }

// readEvents passes the messages of one connection to the client until the
// answer to id, if any is awaited, or the end, which is the error then.
func (p *pump) readEvents(body io.Reader, id jsonrpc.ID, modern bool, cur *cursor) ([]byte, error) {
	rd := sse.NewReader(body, p.o.Limits.Bytes()+eventOverhead)
	for {
		ev, err := rd.Next()
		if err != nil {
			if errors.Is(err, sse.ErrTooLarge) {
				return nil, &badEvent{err}
			}
			return nil, err
		}
		if ev.Retry >= 0 {
			cur.retry = time.Duration(ev.Retry) * time.Millisecond
		}
		if len(ev.Data) > 0 && (ev.Name == "" || ev.Name == "message") {
			msgs, err := jsonrpc.Split(ev.Data, p.o.Limits)
			if err != nil {
				return nil, &badEvent{err}
			}
			for _, m := range msgs {
				switch {
				case m.IsResponse() && id != "" && (m.ID == id || m.ID == "null" && m.Error != nil):
					return rewrite(m.Raw, set([]byte(id), "id")), nil
				case m.IsResponse():
					p.log.Warn("the MCP server answered a request on a stream of another", "id", m.ID)
				case m.IsRequest() && modern:
					p.log.Warn("the MCP server sent a request, which this protocol revision forbids", "method", m.Method)
				default:
					p.write(m.Raw)
				}
			}
		}
		// After the messages: what was not handed over is asked for again.
		if ev.HasID {
			cur.last = ev.ID
		}
	}
}

// openStream opens or resumes a legacy stream by GET.
func (p *pump) openStream(ctx context.Context, s legacySession, last string) (io.ReadCloser, error) {
	req, err := p.newRequest(ctx, http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.id != "" {
		req.Header.Set(hdrSession, s.id)
	}
	if s.version != "" {
		req.Header.Set(hdrVersion, s.version)
	}
	if last != "" {
		req.Header.Set(hdrLastEvent, last)
	}
	resp, err := p.o.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || t != "text/event-stream" {
		defer discard(resp)
		return nil, p.readError(resp)
	}
	return resp.Body, nil
}

// readError reads an HTTP error with or without a JSON-RPC body.
func (p *pump) readError(resp *http.Response) error {
	e := &httpError{status: resp.StatusCode}
	stop := time.AfterFunc(notifyWait, func() { _ = resp.Body.Close() })
	body, _ := io.ReadAll(io.LimitReader(resp.Body, int64(p.o.Limits.Bytes())))
	stop.Stop()
	if m, err := jsonrpc.Parse(body, p.o.Limits); err == nil && m.Error != nil {
		e.answer = m.Raw
		if _, err := fmt.Sscan(string(jsonrpc.Get(m.Error, "code")), &e.code); err != nil {
			e.answer = nil
		}
		return e
	}
	if loc := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && loc != "" {
		e.text = "redirects are not followed; use the endpoint's own URL, maybe " + loc
		return e
	}
	e.text = strings.TrimSpace(strings.ToValidUTF8(clip(body), "\uFFFD"))
	return e
}

// discard ends a response. What is left of a short body is read, so that its
// connection can serve again; a stream is just closed.
func discard(resp *http.Response) {
	if n := resp.ContentLength; n >= 0 && n <= 4<<10 {
		_, _ = io.CopyN(io.Discard, resp.Body, n)
	}
	_ = resp.Body.Close()
}
