package transport

import (
	"bytes"
	"io"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
)

var unattested = []byte(`{"state":"unattested"}`)

// status is the value of the label that results over l get.
func (l *link) status() []byte {
	if l.client == nil {
		return unattested
	}
	p := l.client.Peer()
	b := append([]byte(`{"state":"sealed","profile":`), jsonrpc.Quote(string(p.Profile()))...)
	b = append(append(b, `,"peer":`...), jsonrpc.Quote(p.Identity())...)
	return append(b, '}')
}

// label says in a result how it came. A label that the peer put there itself is
// replaced: only this side knows. A message that is no result is returned as it is.
func (rt *roundTripper) label(body []byte, l *link) ([]byte, error) {
	out, err := labelResults(body, l.status())
	if err != nil {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "the answer is labelled as JSON and is not acceptable as such: %v", err)
	}
	return out, nil
}

func labelResults(body, status []byte) ([]byte, error) {
	v := jsontext.Value(bytes.TrimSpace(body))
	switch v.Kind() {
	case '{':
		return labelResult(body, status)
	case '[': // a batch of 2025-03-26
		out, n := []byte{'['}, 0
		err := jsonrpc.Elements(v, func(e jsontext.Value) error {
			b, err := labelResult(e, status)
			if n++; n > 1 {
				out = append(out, ',')
			}
			out = append(out, b...)
			return err
		})
		return append(out, ']'), err
	}
	return body, nil
}

func labelResult(body, status []byte) ([]byte, error) {
	start, end, _, err := member(body, "result")
	if err != nil || start < 0 || jsontext.Value(body[start:end]).Kind() != '{' {
		return body, err
	}
	result, err := setMember(body[start:end], status, "_meta", protocol.MetaStatus)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, start+len(result)+len(body)-end)
	return append(append(append(out, body[:start]...), result...), body[end:]...), nil
}

// plaintext passes the request as it is (preferred mode), and labels its results.
func (x *exchange) plaintext() (*http.Response, error) {
	rt := x.rt
	rt.see(Event{Kind: EventPlaintext})
	req := x.req.Clone(x.ctx)
	if x.more != nil {
		req.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(x.body), x.more), x.more}
	} else if x.body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(x.body)), int64(len(x.body))
	}
	resp, err := rt.base.RoundTrip(req)
	if err != nil {
		return nil, unreachable(err)
	}
	switch {
	case isType(resp.Header, typeSSE):
		resp.Body = &labelledStream{body: resp.Body, events: sse.NewReader(resp.Body, rt.cfg.Limits.message()+1024)}
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
	case isType(resp.Header, typeJSON):
		defer resp.Body.Close()
		b, err := readAll(resp.Body, rt.cfg.Limits.message())
		if err != nil {
			return nil, err
		}
		if b, err = labelResults(b, unattested); err != nil {
			return nil, protocol.Errorf(protocol.AnswerInvalid, "%v", err)
		}
		return newResponse(x.req, resp.StatusCode, resp.Header, b), nil
	}
	return resp, nil
}

// labelledStream labels the results in an event stream that came in plaintext.
type labelledStream struct {
	body   io.ReadCloser
	events *sse.Reader
	buf    []byte
	off    int
}

func (s *labelledStream) Read(p []byte) (int, error) {
	for s.off == len(s.buf) {
		ev, err := s.events.Next()
		if err != nil {
			return 0, err
		}
		if len(ev.Data) > 0 {
			if ev.Data, err = labelResults(ev.Data, unattested); err != nil {
				return 0, protocol.Errorf(protocol.AnswerInvalid, "%v", err)
			}
		}
		s.buf, s.off = sse.Append(s.buf[:0], ev), 0
	}
	n := copy(p, s.buf[s.off:])
	s.off += n
	return n, nil
}

func (s *labelledStream) Close() error { return s.body.Close() }
