package transport

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
)

// serveCall serves trust/call, the envelope carrier. m lies in body, which goes
// back to the others once the frame is open.
func (h *handler) serveCall(w http.ResponseWriter, r *http.Request, m *outer, body *[]byte) {
	if !h.checkOuter(w, r, m) {
		return
	}
	for name := range r.Header {
		if name == headerName || strings.HasPrefix(name, headerParam) {
			h.refuse(w, m.ID, m.Method, protocol.Errorf(protocol.OuterMismatch,
				"header %s stands outside a sealed message, which mirrors nothing: the client leaks, or something on the path added it", name))
			return
		}
	}
	frame, err := m.takeFrame()
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
		return
	}
	req, err := h.trust.Open(frame, protocol.Outer{Carrier: protocol.Envelope}, h.clock())
	if err == nil {
		err = h.checkAnnounced(m, req)
	}
	if err == nil {
		err = h.checkSize(req)
	}
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
		return
	}
	h.see(Event{Kind: EventOpened, Carrier: protocol.Envelope, Context: req.Context, Seq: req.Seq, Method: m.Method})
	id := m.ID
	m.release()
	putBuffer(body)
	h.run(w, r, req, &envelopeSink{w: w, id: id})
}

func (h *handler) checkSize(req *protocol.Request) error {
	if n := len(req.Content.Body); n > h.limits.message() {
		return protocol.Errorf(protocol.TooLarge, "an inner message of %d bytes, the limit is %d", n, h.limits.message())
	}
	return nil
}

// checkAnnounced compares the client settings that stand outside, if any, with
// those that the seal commits to.
func (h *handler) checkAnnounced(m *outer, req *protocol.Request) error {
	v := m.announced
	if v == nil {
		return nil
	}
	h.mu.Lock()
	same, digest := bytes.Equal(v, h.announced), h.digest
	h.mu.Unlock()
	if !same {
		s, err := protocol.ParseSettings(v)
		if err != nil {
			return protocol.Errorf(protocol.NegotiationMismatch, "the client settings outside the seal: %v", err)
		}
		digest = s.Digest()
		h.mu.Lock()
		h.announced, h.digest = bytes.Clone(v), digest
		h.mu.Unlock()
	}
	if digest != req.ClientSettings.Digest() {
		return protocol.Errorf(protocol.NegotiationMismatch, "the client settings outside the seal are not those inside: something on the path rewrote them")
	}
	return nil
}

// run hands an opened message to the server behind, and its answer to sink.
func (h *handler) run(w http.ResponseWriter, r *http.Request, req *protocol.Request, sink frameSink) {
	c := &req.Content
	a := &answerWriter{h: h, req: req, sink: sink, rc: http.NewResponseController(w), header: http.Header{}, limit: h.limits.message()}
	method := http.MethodPost
	switch c.Kind {
	case protocol.KindGet:
		method = http.MethodGet
	case protocol.KindDelete:
		method = http.MethodDelete
	default:
		a.id = requestID(c.Body)
	}
	h.calls.ServeHTTP(a, h.innerRequest(r, req, method, c.Body))
	a.finish()
}

// A frameSink puts sealed frames on the wire. final closes the answer.
type frameSink interface {
	frame(sealed []byte, final bool) error
	comment() error // a keep-alive of the server behind
	flush() error
}

// envelopeSink answers trust/call: one frame as a JSON answer, more as an event
// stream whose last event is the response.
type envelopeSink struct {
	w      http.ResponseWriter
	id     jsonrpc.ID
	stream bool
}

func (s *envelopeSink) frame(sealed []byte, final bool) error {
	buf := getBuffer()
	defer putBuffer(buf)
	b := slices.Grow((*buf)[:0], b64.EncodedLen(len(sealed))+len(s.id)+128)
	switch {
	case !final:
		s.begin()
		b = append(b, "data: {\"jsonrpc\":\"2.0\",\"method\":\""+protocol.MethodFrame+"\",\"params\":{\"frame\":\""...)
		b = append(b64.AppendEncode(b, sealed), "\"}}\n\n"...)
	default:
		if s.stream {
			b = append(b, "data: "...)
		} else {
			s.w.Header().Set("Content-Type", typeJSON)
			s.w.Header().Set("Cache-Control", "no-store")
		}
		b = append(append(append(b, `{"jsonrpc":"2.0","id":`...), s.id...), `,"result":{"resultType":"complete","frame":"`...)
		b = append(b64.AppendEncode(b, sealed), `"}}`...)
		if s.stream {
			b = append(b, "\n\n"...)
		} else {
			s.w.Header().Set("Content-Length", strconv.Itoa(len(b))) // so that the client reads it into one buffer
		}
	}
	*buf = b
	_, err := s.w.Write(b)
	return err
}

// buffers hold what is sealed, on its way out and in. They never hold plaintext.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is the size of a buffer that is worth keeping.
const maxKept = 256 << 10

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxKept {
		buffers.Put(b)
	}
}

func (s *envelopeSink) begin() {
	if s.stream {
		return
	}
	s.stream = true
	head := s.w.Header()
	head.Set("Content-Type", typeSSE)
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
}

func (s *envelopeSink) comment() error {
	if !s.stream {
		return nil
	}
	if _, err := s.w.Write(sse.Append(nil, sse.Event{HasComment: true, Retry: -1})); err != nil {
		return err
	}
	return s.flush()
}

func (s *envelopeSink) flush() error {
	if !s.stream {
		return nil
	}
	return http.NewResponseController(s.w).Flush()
}
