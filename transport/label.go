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
	// TMCP-18.8-4: An implementation MUST label what comes from a simulated TEE as simulated,
	// wherever it shows a result.
	if a := p.Appraisal(); a != nil && a.Simulated {
		b = append(b, `,"simulated":true`...)
	}
	return append(b, '}')
}

// label says in a result how it came. A label that the peer put there itself is
// replaced: only this side knows. A message that is no result is returned as it is.
func (rt *roundTripper) label(body []byte, l *link) ([]byte, error) {
	out, err := labelResults(body, l.status())
	if err != nil {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "the answer is labelled as JSON and is not acceptable as such: %s", shape(err))
	}
	return out, nil
}

func labelResults(body, status []byte) ([]byte, error) {
	v := jsontext.Value(bytes.TrimSpace(body))
	if bytes.HasPrefix(v, []byte("\xef\xbb\xbf")) { // some would read on behind it, and find a label of the peer's
		return nil, &jsonrpc.ParseError{Code: jsonrpc.CodeParse, Reason: "not-json", Detail: "a byte order mark"}
	}
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

// labelResult walks over the message once, strictly, and sets the label.
func labelResult(body, status []byte) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	at, value, err := findMeta(dec, status)
	if err == nil {
		_, err = dec.ReadToken()
		if err == nil {
			err = &jsonrpc.ParseError{Code: jsonrpc.CodeParse, Reason: "trailing-data", Detail: "something follows the message"}
		} else if err == io.EOF {
			err = nil
		}
	}
	if err != nil || value == nil {
		return body, err
	}
	out := make([]byte, 0, len(body)+len(value))
	return append(append(append(out, body[:at[0]]...), value...), body[at[1]:]...), nil
}

// findMeta finds what of the message to replace to set the label, and by what:
// the value of result._meta, or the place for it. A nil value means nothing.
func findMeta(dec *jsontext.Decoder, status []byte) (at [2]int, value []byte, err error) {
	if _, err = dec.ReadToken(); err != nil {
		return at, nil, err
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return at, nil, err
		}
		if tok.String() != "result" || dec.PeekKind() != '{' {
			if err := dec.SkipValue(); err != nil {
				return at, nil, err
			}
			continue
		}
		if _, err := dec.ReadToken(); err != nil {
			return at, nil, err
		}
		members := 0
		for ; dec.PeekKind() == '"'; members++ {
			tok, err := dec.ReadToken()
			if err != nil {
				return at, nil, err
			}
			if tok.String() != "_meta" {
				if err := dec.SkipValue(); err != nil {
					return at, nil, err
				}
				continue
			}
			v, err := dec.ReadValue()
			if err != nil {
				return at, nil, err
			}
			end := int(dec.InputOffset())
			at = [2]int{end - len(v), end}
			if v.Kind() != '{' {
				v = []byte(`{}`)
			}
			if value, err = setMember(v, status, protocol.MetaStatus); err != nil {
				return at, nil, err
			}
		}
		if _, err := dec.ReadToken(); err != nil {
			return at, nil, err
		}
		if value == nil {
			end := int(dec.InputOffset()) - 1
			at = [2]int{end, end}
			if members > 0 {
				value = append(value, ',')
			}
			value = append(append(append(value, `"_meta":{"`+protocol.MetaStatus+`":`...), status...), '}')
		}
	}
	_, err = dec.ReadToken()
	return at, value, err
}

// plaintext passes the request as it is (preferred mode), and labels its results.
func (x *exchange) plaintext() (*http.Response, error) {
	rt := x.rt
	content := x.content
	if content.Kind == protocol.KindHTTP && x.more != nil && rt.cfg.Authorize != nil {
		return nil, protocol.Errorf(protocol.PolicyDenied, "the message has more than %d bytes, and can't be judged before it is sent", rt.cfg.Limits.message())
	}
	if err := rt.cfg.authorize(x.ctx, nil, 0, &content); err != nil {
		return nil, err
	}
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
		resp.Body = &labelledStream{body: resp.Body, events: sse.NewReader(resp.Body, rt.cfg.Limits.message()+1024), status: unattested}
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
	case isType(resp.Header, typeJSON):
		defer resp.Body.Close()
		b, err := readAll(resp.Body, resp.ContentLength, rt.cfg.Limits.message())
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

// labelledStream labels the results in an event stream.
type labelledStream struct {
	body   io.ReadCloser
	events *sse.Reader
	status []byte
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
			if ev.Data, err = labelResults(ev.Data, s.status); err != nil {
				return 0, protocol.Errorf(protocol.AnswerInvalid, "an event is not acceptable as JSON: %s", shape(err))
			}
		}
		s.buf, s.off = sse.Append(s.buf[:0], ev), 0
	}
	n := copy(p, s.buf[s.off:])
	s.off += n
	return n, nil
}

func (s *labelledStream) Close() error { return s.body.Close() }
