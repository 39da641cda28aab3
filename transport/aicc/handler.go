package aicc

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"io"
	"mime"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport/guard"
)

const (
	typeJSON = "application/json"
	typeSSE  = "text/event-stream"

	// maxKeys is how many private keys are tried for one request.
	maxKeys = 4
	// maxInitialize bounds an initialize request in plaintext, in bytes.
	maxInitialize = 256 << 10
)

type handler struct {
	inner http.Handler
	cfg   ServerConfig
	guard guard.Guard
	slots *slots
	past  *window
}

// Handler puts the profile in front of inner, the handler of an MCP server. It
// opens what is sealed, hands it to inner, and seals inner's answer whatever its
// status: an event stream message by message, all else as a whole. An event
// stream that consists of the answer alone is sent as one JSON body, since
// deployed clients lose large messages of streams.
//
// Of plaintext, initialize alone is handed to inner, when the client offers the
// profile; the answer to it gets the server's offer. HTTP fields are the client's
// own, and anybody's on the way.
func Handler(inner http.Handler, cfg ServerConfig) (http.Handler, error) {
	switch {
	case inner == nil || cfg.Keys == nil:
		return nil, errors.New("aicc: Handler needs a handler to stand in front of, and ServerConfig.Keys")
	case cfg.Mode == "":
		cfg.Mode = protocol.ModeRequired
	case cfg.Mode != protocol.ModeRequired && cfg.Mode != protocol.ModePreferred:
		return nil, errors.New("aicc: ServerConfig.Mode: want required or preferred")
	}
	if cfg.BodyWait <= 0 {
		cfg.BodyWait = time.Minute
	}
	if cfg.Decrypts <= 0 {
		cfg.Decrypts = max(1, runtime.GOMAXPROCS(0)-1)
	}
	if cfg.Waiting <= 0 {
		cfg.Waiting = 256
	}
	if cfg.ReplayWindow <= 0 {
		cfg.ReplayWindow = 1 << 18
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	return &handler{inner: inner, cfg: cfg, guard: guard.Guard{AllowedHosts: cfg.AllowedHosts, AllowedOrigins: cfg.AllowedOrigins},
		slots: newSlots(cfg.Decrypts, cfg.Waiting), past: newWindow(cfg.ReplayWindow)}, nil
}

type openedKey struct{}

// Opened reports whether the request with that context came sealed. Who sealed
// it stays unknown: the key for that is public.
func Opened(ctx context.Context) bool { return ctx.Value(openedKey{}) != nil }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(wire.Header) == "" {
		h.plain(w, r)
		return
	}
	if !h.admit(w, r) {
		return
	}
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodDelete:
		h.sealed(w, r)
	default:
		w.Header().Set("Allow", "POST, GET, DELETE")
		http.Error(w, "MCP knows no HTTP method "+r.Method, http.StatusMethodNotAllowed)
	}
}

func (h *handler) admit(w http.ResponseWriter, r *http.Request) bool {
	if err := h.guard.Check(r); err != nil {
		h.cfg.Observe(Event{Kind: EventRefused, Err: wire.Errorf(wire.TrustRequired, "%v", err)})
		guard.Refuse(w, err)
		return false
	}
	return true
}

// read reads a body of limit bytes at most, in bounded time.
func (h *handler) read(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, wire.Errorf(wire.TooLarge, "a body of %d bytes, the limit is %d", r.ContentLength, limit)
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(h.cfg.BodyWait)) // a server that can't is one in a test
	body, err := readAll(r.Body, r.ContentLength, limit)
	if err == nil { // else the rest, which net/http skips, stays bounded too
		_ = rc.SetReadDeadline(time.Time{})
	}
	return body, err
}

// readAll reads src, of which size bytes are expected (-1: unknown). With the
// error of a body that is too large comes what was read of it.
func readAll(src io.Reader, size int64, limit int) ([]byte, error) {
	if src == nil {
		return nil, nil
	}
	var buf bytes.Buffer
	if size > 0 {
		buf.Grow(int(min(size, 64<<10)) + bytes.MinRead) // more only as it comes
	}
	if _, err := buf.ReadFrom(io.LimitReader(src, int64(limit)+1)); err != nil {
		return nil, wire.Errorf(wire.Truncated, "reading the body: %v", err)
	}
	if buf.Len() > limit {
		return buf.Bytes(), wire.Errorf(wire.TooLarge, "a body of more than %d bytes", limit)
	}
	return buf.Bytes(), nil
}

// open opens the body of r. What comes back with a key is what a client sealed,
// for the first time.
func (h *handler) open(w http.ResponseWriter, r *http.Request) ([]byte, *wire.ResponseKey, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" {
		return nil, nil, wire.Errorf(wire.Malformed, "the body is encoded (%.40q): send it as it is", enc)
	}
	body, err := h.read(w, r, h.cfg.Limits.Envelope())
	if err != nil {
		return nil, nil, err
	}
	e, err := wire.Parse(body, h.cfg.Limits)
	if err != nil {
		return nil, nil, err
	}
	twice := wire.Errorf(wire.Replayed, "the request was sent before; seal it afresh")
	if h.past.seen(e.Fingerprint()) {
		return nil, nil, twice
	}
	keys := h.cfg.Keys()
	done, err := h.slots.take(r.Context())
	if err != nil {
		return nil, nil, err
	}
	plaintext, key, err := unwrap(e, keys, done)
	if err != nil {
		return nil, nil, err
	}
	// Only now, so that nobody fills the window with what opens nothing.
	if !h.past.add(e.Fingerprint()) {
		return nil, nil, twice
	}
	return plaintext, key, nil
}

func unwrap(e *wire.Envelope, keys []*rsa.PrivateKey, done func()) ([]byte, *wire.ResponseKey, error) {
	defer done()
	return e.Open(keys[:min(len(keys), maxKeys)]...)
}

func (h *handler) sealed(w http.ResponseWriter, r *http.Request) {
	message, key, err := h.open(w, r)
	if err == nil && r.Method != http.MethodPost && len(message) > 0 {
		err = wire.Errorf(wire.Malformed, "a message sealed in HTTP %s, which takes none", r.Method)
	}
	if err != nil {
		h.refuse(w, err)
		return
	}
	h.cfg.Observe(Event{Kind: EventOpened})
	a := &answer{w: w, limits: h.cfg.Limits, key: key, stream: r.Method == http.MethodGet}
	if r.Method == http.MethodPost {
		h.ask(a, message)
	}
	h.serve(a, r, message, context.WithValue(r.Context(), openedKey{}, true))
}

// ask tells the answer what was asked.
func (h *handler) ask(a *answer, message []byte) {
	m, err := jsonrpc.Parse(message, jsonrpc.Limits{MaxBytes: h.cfg.Limits.Message()})
	if err != nil || !m.IsRequest() {
		return // the server behind says what is wrong with it
	}
	a.id = m.ID
	if m.Method == "initialize" {
		a.edit = h.offer
	}
}

// serve hands a request to the server behind, and finishes its answer.
func (h *handler) serve(a *answer, r *http.Request, message []byte, ctx context.Context) {
	in := r.Clone(ctx)
	in.Header.Del(wire.Header)
	in.Header.Del("Accept-Encoding") // what is sealed doesn't compress
	in.Header.Del("Content-Length")
	in.TransferEncoding = nil
	in.Body, in.ContentLength = http.NoBody, int64(len(message))
	if r.Method == http.MethodPost {
		in.Body = io.NopCloser(bytes.NewReader(message))
		in.Header.Set("Content-Type", typeJSON)
	} else {
		in.Header.Del("Content-Type")
	}
	h.inner.ServeHTTP(a, in)
	if err := a.finish(); err != nil {
		h.cfg.Observe(Event{Kind: EventRefused, Err: reasonOf(err)})
		panic(http.ErrAbortHandler) // what was sent is not whole, and must not look so
	}
	h.cfg.Observe(Event{Kind: EventAnswered})
}

// offer puts the server's offer in an answer to initialize.
func (h *handler) offer(message []byte) ([]byte, error) {
	m, err := jsonrpc.Parse(message, jsonrpc.Limits{MaxBytes: h.cfg.Limits.Message()})
	if err != nil {
		return nil, wire.Errorf(wire.BadMessage, "the server's answer to initialize: %v", err)
	}
	if m.Result.Kind() != '{' {
		return message, nil
	}
	if message, err = wire.Offer(message); err != nil || h.cfg.Extension == nil {
		return message, err
	}
	return wire.Set(message, h.cfg.Extension, "result", "capabilities", "extensions", protocol.ExtensionID)
}

// plain deals with what is not sealed.
func (h *handler) plain(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Else == nil && !h.admit(w, r) {
		return
	}
	var head []byte
	var m *jsonrpc.Message
	if r.Method == http.MethodPost && isType(r.Header, typeJSON) && r.Header.Get("Content-Encoding") == "" && r.ContentLength <= maxInitialize {
		var err error
		body := r.Body
		if head, err = h.read(w, r, maxInitialize); err == nil {
			m, _ = jsonrpc.Parse(head, jsonrpc.Limits{MaxBytes: maxInitialize})
		} else if head == nil {
			h.refuse(w, err)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		r.Body = again{io.MultiReader(bytes.NewReader(head), body), body}
	}
	initialize := m != nil && m.IsRequest() && m.Method == "initialize"
	if initialize && wire.Offered(m.Params) && (h.cfg.Else == nil || !announces(m)) || initialize && h.cfg.Else == nil && h.cfg.Mode == protocol.ModePreferred {
		if h.cfg.Else != nil && !h.admit(w, r) {
			return
		}
		h.cfg.Observe(Event{Kind: EventInitialize})
		h.serve(&answer{w: w, limits: h.cfg.Limits, id: m.ID, edit: h.offer}, r, head, r.Context())
		return
	}
	switch {
	case h.cfg.Else != nil:
		h.cfg.Else.ServeHTTP(w, r)
	case h.cfg.Mode == protocol.ModePreferred:
		h.cfg.Observe(Event{Kind: EventPlaintext})
		h.inner.ServeHTTP(w, r)
	case r.Method != http.MethodPost:
		h.cfg.Observe(Event{Kind: EventRefused, Err: wire.Errorf(wire.TrustRequired, "HTTP %s without a seal", r.Method)})
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this server speaks sealed MCP (profile "+wire.Profile+")", http.StatusMethodNotAllowed)
	default:
		e := wire.Errorf(wire.TrustRequired, "this server takes sealed messages only: offer capabilities.experimental.trustProtocol %s %s in initialize, and seal what follows", wire.Name, wire.Version)
		if m == nil || !m.IsRequest() {
			h.refuse(w, e)
			return
		}
		// With status 200: clients show what such an answer says.
		h.cfg.Observe(Event{Kind: EventRefused, Err: e})
		writeJSON(w, http.StatusOK, errorResponse(m.ID, e))
	}
}

// again is a body of which something was read, and is read again.
type again struct {
	io.Reader
	io.Closer
}

// announces reports whether an initialize announces the extension
// org.trustedmcp/trust.
func announces(m *jsonrpc.Message) bool {
	return jsonrpc.Get(m.Params, "capabilities", "extensions", protocol.ExtensionID) != nil ||
		jsonrpc.Get(m.Params, "capabilities", "experimental", protocol.ExtensionID) != nil ||
		jsonrpc.Get(m.Params, "_meta", protocol.MetaSettings) != nil
}

// refuse answers that a message was not handed on.
func (h *handler) refuse(w http.ResponseWriter, err error) {
	e := reasonOf(err)
	h.cfg.Observe(Event{Kind: EventRefused, Err: e})
	status := http.StatusBadRequest
	switch e.Reason {
	case wire.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case wire.TrustRequired:
		status = http.StatusForbidden
	case wire.Busy, wire.NoKey:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, errorResponse("", e))
}

func errorResponse(id jsonrpc.ID, e *wire.Error) []byte {
	data := append([]byte(`{"profile":"`+wire.Profile+`","reason":`), jsonrpc.Quote(string(e.Reason))...)
	return jsonrpc.ErrorResponse(id, jsonrpc.CodeInvalidRequest, e.Error(), append(data, '}'))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func reasonOf(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	return wire.Errorf(wire.AnswerInvalid, "%v", err)
}

func isType(h http.Header, want string) bool {
	got, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && strings.EqualFold(got, want)
}
