package transport

import (
	"bytes"
	"maps"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
)

// recorder is an http.ResponseWriter that keeps an answer of bounded size.
type recorder struct {
	header http.Header
	status int
	body   []byte
	limit  int
}

func newRecorder(limit int) *recorder { return &recorder{header: http.Header{}, limit: limit} }

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if len(r.body)+len(p) > r.limit {
		return 0, http.ErrContentLength
	}
	r.body = append(r.body, p...)
	return len(p), nil
}

func (r *recorder) Flush() { r.WriteHeader(http.StatusOK) }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// response finds the result for id in the answer, whole or in an event stream.
// It is nil when the answer is an error, or something else.
func (r *recorder) response(id jsonrpc.ID) (result jsontext.Value, stream bool) {
	if !isType(r.header, typeSSE) {
		m, err := jsonrpc.Parse(r.body, jsonrpc.Limits{MaxBytes: r.limit})
		if err != nil || m.ID != id {
			return nil, false
		}
		return m.Result, false
	}
	events := sse.NewReader(bytes.NewReader(r.body), r.limit)
	for {
		ev, err := events.Next()
		if err != nil {
			return nil, true
		}
		if m, err := jsonrpc.Parse(ev.Data, jsonrpc.Limits{MaxBytes: r.limit}); err == nil && m.IsResponse() && m.ID == id && m.Result != nil {
			return bytes.Clone(m.Result), true
		}
	}
}

// rewriteEvent returns the event stream with the response to id replaced.
func (r *recorder) rewriteEvent(id jsonrpc.ID, response []byte) []byte {
	var out []byte
	events := sse.NewReader(bytes.NewReader(r.body), r.limit)
	for {
		ev, err := events.Next()
		if err != nil {
			return out
		}
		if m, err := jsonrpc.Parse(ev.Data, jsonrpc.Limits{MaxBytes: r.limit}); err == nil && m.IsResponse() && m.ID == id {
			ev.Data = response
		}
		out = sse.Append(out, ev)
	}
}

func (r *recorder) replay(w http.ResponseWriter) {
	copyHeader(w.Header(), r.header)
	w.WriteHeader(r.code())
	w.Write(r.body)
}

func copyHeader(dst, src http.Header) {
	for name := range maps.Keys(src) {
		dst[name] = slices.Clone(src[name])
	}
}
