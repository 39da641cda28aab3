package aicc

import (
	"bytes"
	"net/http"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// maxHeld bounds what is held of a stream before its first message, in bytes.
const maxHeld = 4 << 10

// An answer is what the server behind writes its answer to. An event stream that
// answers a request is held until its first message: when that is the answer, it
// is sent as a JSON body, else the stream is.
type answer struct {
	w      http.ResponseWriter
	limits wire.Limits
	key    *wire.ResponseKey // nil: initialize, which is answered in plaintext
	id     jsonrpc.ID        // of the request, or ""
	edit   func(message []byte) ([]byte, error)
	stream bool // an event stream is wanted for itself (HTTP GET)

	header http.Header
	status int
	err    error

	buf   []byte           // the body, or what was held of the stream
	split *sse.Splitter    // looks for the first message of a held stream
	alive int              // comments that were held
	out   *wire.LineSealer // of a stream that has begun
	done  bool             // all is sent
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status = status
	if status > 299 || !isType(a.Header(), typeSSE) {
		return
	}
	if a.key != nil && (a.stream || a.id == "") {
		a.begin()
		return
	}
	a.split = sse.NewSplitter(a.limits.Message(), a.first)
}

// first looks at the first events of a stream that is held.
func (a *answer) first(ev sse.Event) error {
	if a.out != nil || a.done { // decided within this Write
		return nil
	}
	if len(ev.Data) == 0 && len(a.buf) < maxHeld {
		// It says from where to resume, or that the server is alive, and not yet what
		// follows. Who is kept waiting for long gets the second sign of life.
		if !ev.HasComment {
			return nil
		}
		if a.alive++; a.alive == 1 {
			return nil
		}
	}
	if len(ev.Data) > 0 {
		m, err := jsonrpc.Parse(ev.Data, jsonrpc.Limits{MaxBytes: a.limits.Message()})
		if err == nil && m.IsResponse() && m.ID == a.id {
			return a.whole(bytes.Clone(ev.Data))
		}
	}
	if a.key != nil {
		a.begin()
	} // before initialize is done, nothing else of the server's goes out in the clear
	return nil
}

// begin starts the stream, with what was held of it.
func (a *answer) begin() {
	a.out = wire.NewLineSealer(a.w, a.key, a.limits)
	if a.edit != nil {
		a.out.Each = func(message []byte) ([]byte, error) {
			m, err := jsonrpc.Parse(message, jsonrpc.Limits{MaxBytes: a.limits.Message()})
			if err != nil || !m.IsResponse() || m.ID != a.id {
				return message, nil
			}
			return a.edit(message)
		}
	}
	a.fields(typeSSE)
	a.w.WriteHeader(a.status)
	_ = http.NewResponseController(a.w).Flush()
}

// fields hands the server's HTTP fields on.
func (a *answer) fields(contentType string) {
	h := a.w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del(wire.Header)
	if a.key != nil {
		h.Set(wire.Header, "1")
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	switch {
	case a.err != nil:
		return 0, a.err
	case a.done: // nothing counts after the answer
		return len(p), nil
	case a.out != nil:
		if _, a.err = a.out.Write(p); a.err != nil {
			return 0, a.err
		}
		// Deployed clients need each line in one piece.
		_ = http.NewResponseController(a.w).Flush()
		return len(p), nil
	case a.split != nil:
		a.buf = append(a.buf, p...)
		if _, a.err = a.split.Write(p); a.err != nil {
			return 0, a.err
		}
		if a.out != nil {
			if _, a.err = a.out.Write(a.buf); a.err != nil {
				return 0, a.err
			}
		}
		if a.out != nil || a.key == nil || a.done {
			a.buf = nil
		}
		return len(p), nil
	}
	if len(a.buf)+len(p) > a.limits.Message() {
		a.err = wire.Errorf(wire.TooLarge, "the server's answer has more than %d bytes", a.limits.Message())
		return 0, a.err
	}
	a.buf = append(a.buf, p...)
	return len(p), nil
}

// whole sends a message as the whole answer.
func (a *answer) whole(message []byte) error {
	a.done = true
	var err error
	if a.edit != nil && len(message) > 0 && a.status <= 299 {
		if message, err = a.edit(message); err != nil {
			return err
		}
	}
	if a.key == nil {
		a.fields(typeJSON)
		if a.status > 299 {
			a.w.Header().Set("Content-Type", a.Header().Get("Content-Type"))
		}
		a.w.WriteHeader(a.status)
		_, err = a.w.Write(message)
		return err
	}
	if message, err = a.key.Seal(message); err != nil {
		return err
	}
	a.fields(typeJSON)
	switch a.status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified: // which have no body that could be sealed
		a.status = http.StatusOK
	}
	a.w.WriteHeader(a.status)
	if _, err = a.w.Write(message); err == nil {
		_ = http.NewResponseController(a.w).Flush()
	}
	return err
}

// finish ends the answer after the server behind has. With an error the answer
// is not whole.
func (a *answer) finish() error {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	switch {
	case a.out != nil && a.err == nil:
		return a.out.Close()
	case a.done:
		return a.err
	case a.split != nil && a.err == nil:
		a.err = a.split.Close()
		if a.err == nil && a.key != nil { // a stream that ends before it said anything: it may go on elsewhere
			a.begin()
			if _, a.err = a.out.Write(a.buf); a.err == nil {
				a.err = a.out.Close()
			}
			return a.err
		}
		if a.err == nil {
			a.err = wire.Errorf(wire.Truncated, "the server's event stream has no answer to %s", a.id)
		}
	}
	if a.err != nil && a.out == nil && a.key != nil && a.id != "" {
		a.status, a.edit = http.StatusOK, nil
		e := reasonOf(a.err)
		return a.whole(jsonrpc.ErrorResponse(a.id, jsonrpc.CodeInternal, e.Error(), nil))
	}
	if a.err != nil {
		return a.err
	}
	return a.whole(a.buf)
}

// Flush implements http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() }

// FlushError is for http.ResponseController.
func (a *answer) FlushError() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.out == nil && !a.done {
		return nil
	}
	return http.NewResponseController(a.w).Flush()
}

// SetReadDeadline and SetWriteDeadline are for http.ResponseController.
func (a *answer) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(a.w).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (a *answer) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(a.w).SetWriteDeadline(t)
}
