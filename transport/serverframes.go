package transport

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// serveFrames serves the HTTP carrier: a whole HTTP request as a sequence of
// frames, answered by a whole HTTP answer as another.
func (h *handler) serveFrames(w http.ResponseWriter, r *http.Request) {
	const method = "" // there is no outer JSON-RPC message
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "frames come by POST", http.StatusMethodNotAllowed)
		return
	}
	// Without it HTTP/1 would cut off a body that is still being read when the
	// answer begins.
	http.NewResponseController(w).EnableFullDuplex()
	limited := h.limitRead(w)
	src := newFrameStream(r.Body, h.limits)
	frame, err := src.frame()
	var req *protocol.Request
	if err == nil {
		req, err = h.trust.Open(frame, protocol.Outer{Carrier: protocol.HTTP}, h.clock())
	}
	var in *http.Request
	if err == nil {
		in, err = h.framedRequest(r, req)
	}
	if err != nil {
		if !isProtocol(err) { // EOF, or the sender stalled
			err = protocol.Errorf(protocol.MalformedFrame, "the body ends before its first frame does")
			// What may still come of it must not be read as the next request.
			w.Header().Set("Connection", "close")
		}
		h.refuse(w, "", method, err)
		return
	}
	h.see(Event{Kind: EventOpened, Carrier: protocol.HTTP, Context: req.Context, Seq: req.Seq})
	a := &frameWriter{h: h, w: w, rc: http.NewResponseController(w), req: req, header: http.Header{}}
	if req.Final {
		// Nothing may follow the final frame; the SDK would not see it anyway.
		if _, err := src.frame(); err != io.EOF {
			w.Header().Set("Connection", "close")
			h.refuse(w, "", method, protocol.Errorf(protocol.OutOfOrder, "something follows the final frame"))
			return
		}
	} else {
		in.Body, in.ContentLength = &chunkReader{src: src, req: req, head: req.Content.Body, a: a}, -1
	}
	limited()
	h.inner.ServeHTTP(a, in)
	a.finish()
}

// framedRequest is the request inside a first frame of the HTTP carrier.
func (h *handler) framedRequest(r *http.Request, req *protocol.Request) (*http.Request, error) {
	m := &req.Content.Meta
	u, err := url.ParseRequestURI(m.Target)
	if err != nil || !strings.HasPrefix(m.Target, "/") || strings.HasPrefix(m.Target, "//") || m.Method == "" || strings.ContainsAny(m.Method, " \r\n\t") {
		// What they are was sealed, and the refusal is not.
		return nil, protocol.Errorf(protocol.MalformedContent, "method or target are not those of an HTTP request; the target is a path that begins with one slash")
	}
	in := h.innerRequest(r, req, m.Method, req.Content.Body)
	if _, ok := m.Field("content-type"); !ok {
		in.Header.Del("Content-Type")
	}
	if _, ok := m.Field("accept"); !ok {
		in.Header.Del("Accept")
	}
	in.URL, in.RequestURI = u, m.Target
	if host, ok := m.Field("host"); ok {
		in.Host = host
	}
	if len(req.Content.Body) == 0 && req.Final {
		in.Body = http.NoBody
	}
	return in, nil
}

// chunkReader is the body of a request that came in more than one frame.
type chunkReader struct {
	src  *frameStream
	req  *protocol.Request
	head []byte
	a    *frameWriter
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.head) == 0 {
		if c.req.Final {
			return 0, io.EOF
		}
		frame, err := c.src.frame()
		if err == nil {
			err = c.req.OpenNext(frame)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // no final chunk: truncated
		}
		if err != nil {
			var e *protocol.Error
			if !errors.As(err, &e) {
				err = protocol.Errorf(protocol.OutOfOrder, "the request broke off before its final frame: %v", err)
			}
			c.a.broken(err)
			return 0, err
		}
		c.head = c.req.Content.Body
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

func (c *chunkReader) Close() error { return nil }

// frameWriter seals an HTTP answer in chunks (HTTP carrier).
type frameWriter struct {
	h      *handler
	w      http.ResponseWriter
	rc     *http.ResponseController
	req    *protocol.Request
	header http.Header
	status int
	fields []protocol.Field
	begun  bool // the first frame is out
	body   []byte
	out    []byte
	err    error
	cut    atomic.Pointer[error] // the request's body did not open; set by who reads it
}

// broken notes that the request's own body was cut or altered: what the server
// behind says to half a request is not an answer to the client's.
func (a *frameWriter) broken(err error) {
	a.cut.CompareAndSwap(nil, &err)
}

func (a *frameWriter) Header() http.Header { return a.header }

func (a *frameWriter) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status, a.fields = status, packFields(a.header)
	}
}

func (a *frameWriter) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	n := len(p)
	for len(p) > 0 && a.err == nil {
		k := min(len(p), chunkSize-len(a.body))
		a.body = append(a.body, p[:k]...)
		p = p[k:]
		if len(a.body) == chunkSize {
			a.seal(false)
		}
	}
	return n - len(p), a.err
}

// Flush makes what was written go out now.
func (a *frameWriter) Flush() { a.FlushError() }

// FlushError is Flush for http.ResponseController.
func (a *frameWriter) FlushError() error {
	a.WriteHeader(http.StatusOK)
	if a.err == nil && (!a.begun || len(a.body) > 0) {
		a.seal(false)
		if a.err == nil {
			a.err = a.rc.Flush()
		}
	}
	return a.err
}

func (a *frameWriter) SetReadDeadline(t time.Time) error  { return a.rc.SetReadDeadline(t) }
func (a *frameWriter) SetWriteDeadline(t time.Time) error { return a.rc.SetWriteDeadline(t) }
func (a *frameWriter) EnableFullDuplex() error            { return nil }

func (a *frameWriter) seal(final bool) {
	if cut := a.cut.Load(); cut != nil {
		a.err = *cut
		return
	}
	c := protocol.Content{Kind: protocol.KindData, Body: a.body}
	if !a.begun {
		c.Kind = protocol.KindHTTP
		c.Meta.Fields = a.fields
		if a.status != http.StatusOK {
			c.Meta.Status = a.status
		}
		head := a.w.Header()
		head.Set("Content-Type", protocol.MediaTypeFrames)
		head.Set("Cache-Control", "no-store")
		head.Set("X-Accel-Buffering", "no")
		a.begun = true
	}
	a.out, a.err = a.req.Seal(a.out[:0], c, final)
	if a.err == nil {
		_, a.err = a.w.Write(a.out)
	}
	a.body = a.body[:0]
}

func (a *frameWriter) finish() {
	a.WriteHeader(http.StatusOK)
	cut := a.cut.Load()
	switch {
	case cut != nil && !a.begun:
		a.h.refuse(a.w, "", "", *cut)
	case cut != nil || a.err != nil:
		panic(http.ErrAbortHandler) // the client must not take what it has for all
	default:
		if a.seal(true); a.err == nil {
			a.h.see(Event{Kind: EventAnswered, Carrier: protocol.HTTP, Context: a.req.Context, Seq: a.req.Seq})
		}
	}
}
