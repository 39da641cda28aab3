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
	a := &frameWriter{h: h, w: w, http1: r.ProtoMajor == 1, rc: http.NewResponseController(w), header: http.Header{}}
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
		}
		a.read.Store(src.eof)
		a.closeUnread()
		h.refuse(w, "", method, err)
		return
	}
	a.req = req
	h.see(Event{Kind: EventOpened, Carrier: protocol.HTTP, Context: req.Context, Seq: req.Seq})
	if req.Final {
		// Nothing may follow the final frame; the SDK would not see it anyway.
		if err := a.endOf(src); err != nil {
			a.closeUnread()
			h.refuse(w, "", method, err)
			return
		}
	} else {
		in.Body, in.ContentLength = &chunkReader{src: src, req: req, head: req.Content.Body, a: a}, -1
	}
	limited()
	h.calls.ServeHTTP(a, in)
	if !a.read.Load() {
		h.limitRead(w) // what net/http reads of it in the end, to close in peace
	}
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
			if !c.a.read.Load() {
				if err := c.a.endOf(c.src); err != nil {
					c.a.broken(err)
					return 0, err
				}
			}
			return 0, io.EOF
		}
		frame, err := c.src.frame()
		if err == nil {
			err = c.req.OpenNext(frame)
		}
		if errors.Is(err, io.EOF) {
			c.a.read.Store(true)
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
	http1  bool
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
	read   atomic.Bool           // the request's body was read to its end; set by who reads it
}

// endOf reads what follows the final frame of a request: the end of its body.
func (a *frameWriter) endOf(src *frameStream) error {
	if _, err := src.frame(); err != io.EOF {
		return protocol.Errorf(protocol.OutOfOrder, "something follows the final frame")
	}
	a.read.Store(true)
	return nil
}

// closeUnread, before an answer begins, makes the connection end with it unless
// the request was read to its end. With full duplex net/http reads the rest
// itself after the answer; it may meet the end there, starts to watch the
// connection, and panics over its own read of the next request. And the rest of
// a body that was cut short must not be read as a request.
func (a *frameWriter) closeUnread() {
	if a.http1 && !a.read.Load() {
		a.w.Header().Set("Connection", "close")
	}
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
		a.closeUnread()
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
		a.closeUnread()
		a.h.refuse(a.w, "", "", *cut)
	case cut != nil || a.err != nil:
		panic(http.ErrAbortHandler) // the client must not take what it has for all
	default:
		if a.seal(true); a.err == nil {
			a.h.see(Event{Kind: EventAnswered, Carrier: protocol.HTTP, Context: a.req.Context, Seq: a.req.Seq})
		}
	}
}
