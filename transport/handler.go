package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/guard"
)

// A ServerConfig says how [Handler] puts trust in front of an MCP server. Trust
// or Identity is required, all else has a default.
type ServerConfig struct {
	// Trust opens and seals. Give one to share it between handlers; otherwise it
	// is made from Identity, Mode and Carriers.
	Trust *protocol.Server

	// Identity is who the server is: its URI is the one that clients dial.
	Identity *protocol.Identity
	// Mode is [protocol.ModeRequired] (the default): nothing reaches the server
	// unsealed, or [protocol.ModePreferred]: plaintext passes.
	Mode protocol.Mode
	// Carriers that are accepted; default all, envelope first.
	Carriers []protocol.Carrier

	// AllowedHosts and AllowedOrigins are Host and Origin values that are let in
	// beside the safe ones: see MCP, Streamable HTTP, "Security & Endpoint". On a
	// loopback address only loopback names are safe (DNS rebinding), and no Origin
	// is but a loopback one there. What is sealed can't stand in for them: a page
	// can seal too.
	AllowedHosts, AllowedOrigins []string

	Limits Limits
	// BodyWait is how long the body of a request may take to arrive, default 1
	// minute; under the HTTP carrier its first frame, which shows that the sender
	// means this server.
	BodyWait time.Duration
	// Clock tells the time; default time.Now.
	Clock func() time.Time
	// Observe, if set, is told what happened, on the goroutine of the request. It
	// must be safe for concurrent use, and quick.
	Observe func(Event)
	// PassFields names HTTP fields outside the seal that the server may see, such
	// as Traceparent. They are what any proxy says; a sealed field of the same
	// name wins, so they prove nothing about the caller.
	PassFields []string
	// Authorize, if set, is asked before each message that the server gets, sealed or
	// not. A denial is answered inside the seal.
	Authorize Authorizer
	// PublicTools lets names and definitions of tools stand outside the seal, as
	// gateways need that list tools themselves (inline carrier). Calls are sealed
	// all the same. Default: nothing of the server is told outside.
	PublicTools bool
}

type handler struct {
	inner  http.Handler // for what this layer asks of it by itself
	calls  http.Handler // for what peers ask: inner, behind what authorizes
	ask    Authorizer
	trust  *protocol.Server
	mode   protocol.Mode
	limits Limits
	wait   time.Duration
	clock  func() time.Time
	see    func(Event)
	pass   []string
	public bool
	tools  toolTable
	guard  guard.Guard

	mu        sync.Mutex
	announced []byte // client settings seen last, as JSON, and their digest
	digest    protocol.Digest
}

// Handler puts trust in front of inner, the handler of any MCP server. It
// answers server/discover, initialize and trust/attest itself; what is sealed
// it opens, hands to inner as the request that the client made, and seals
// inner's answer as it is written. In required mode inner never sees plaintext.
//
// A request that inner gets has the path and connection of the outer one (under
// the HTTP carrier the path, query and Host that the client sealed), and the HTTP
// fields that the client sealed; see also [SealedFrom]. No proxy has seen those
// fields: inner must not believe X-Forwarded-User and the like, nor choose by the
// path what a caller may do.
//
// The handler is an io.Closer too: for legacy clients of the inline carrier it
// keeps a session of its own with inner, which Close ends.
func Handler(inner http.Handler, cfg ServerConfig) (http.Handler, error) {
	if inner == nil {
		return nil, errors.New("transport: Handler needs a handler to stand in front of")
	}
	trust := cfg.Trust
	if trust == nil {
		settings, err := protocol.NewSettings(protocol.Offer{Mode: cfg.Mode, Carriers: cfg.Carriers})
		if err != nil {
			return nil, err
		}
		if trust, err = protocol.NewServer(protocol.ServerConfig{Identity: cfg.Identity, Settings: settings}); err != nil {
			return nil, err
		}
	}
	mode := trust.Settings().Offer().Mode
	if cfg.Trust != nil && cfg.Mode != "" && cfg.Mode != mode {
		return nil, errors.New("transport: ServerConfig.Mode differs from the mode that ServerConfig.Trust announces; leave it empty")
	}
	h := &handler{inner: inner, trust: trust, mode: mode, limits: cfg.Limits, wait: cfg.BodyWait, clock: clockOr(cfg.Clock), see: cfg.Observe, public: cfg.PublicTools,
		guard: guard.Guard{AllowedHosts: cfg.AllowedHosts, AllowedOrigins: cfg.AllowedOrigins}}
	for _, name := range cfg.PassFields {
		if !hopByHop[strings.ToLower(name)] {
			h.pass = append(h.pass, http.CanonicalHeaderKey(name))
		}
	}
	if h.see == nil {
		h.see = func(Event) {}
	}
	if h.wait <= 0 {
		h.wait = time.Minute
	}
	h.tools.h = h
	h.calls, h.ask = inner, cfg.Authorize
	if h.ask != nil {
		h.calls = &authorizer{next: inner, ask: h.ask, limits: h.limits, see: h.see, fill: fromSeal}
	}
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.guard.Check(r); err != nil {
		h.see(Event{Kind: EventRefused, Err: &protocol.Error{Reason: protocol.OuterMismatch, Detail: err.Error()}})
		guard.Refuse(w, err)
		return
	}
	if isType(r.Header, protocol.MediaTypeFrames) {
		h.serveFrames(w, r)
		return
	}
	if r.Method != http.MethodPost {
		if h.mode == protocol.ModePreferred {
			h.plaintext(w, r, nil, nil)
			return
		}
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this server speaks sealed MCP (extension "+protocol.ExtensionID+") by POST", http.StatusMethodNotAllowed)
		return
	}
	limited := h.limitRead(w)
	kept := getBuffer()
	body, err := readBody(r, (*kept)[:0], h.limits.outer())
	if err == nil { // else the rest, which net/http skips, stays bounded too
		limited()
	}
	if err != nil {
		h.refuse(w, "", "", err)
		return
	}
	m, err := parseOuter(body, h.limits.json())
	var bad *jsonrpc.ParseError
	switch {
	case err == nil:
	case h.mode == protocol.ModePreferred:
		h.plaintext(w, r, body, nil) // the server behind says what is wrong with it
		return
	case errors.As(err, &bad):
		writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse("", bad.Code, bad.Error(), nil))
		return
	}
	switch {
	case m.Method == protocol.MethodCall && m.IsRequest():
		*kept = body
		h.serveCall(w, r, m, kept)
	case m.Method == protocol.MethodAttest && m.IsRequest():
		h.serveAttest(w, r, m)
	case (m.frames != nil || m.attest != nil) && m.IsRequest():
		h.serveInline(w, r, m)
	default:
		h.plaintext(w, r, body, m)
	}
}

// limitRead bounds the time for what is read of r until the function that it
// returns is called: before anything has opened, whoever sends it is a stranger.
func (h *handler) limitRead(w http.ResponseWriter) (done func()) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(h.wait)) // a server that can't is one in a test
	return func() { _ = rc.SetReadDeadline(time.Time{}) }
}

// readBody reads the whole body before anything is answered: an HTTP/1 server
// that answers with the body unread closes the connection under its peer. It
// reads into space, if that is enough.
func readBody(r *http.Request, space []byte, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, protocol.Errorf(protocol.TooLarge, "a body of %d bytes, the limit is %d", r.ContentLength, limit)
	}
	buf := bytes.NewBuffer(space)
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, 64<<10)) + bytes.MinRead) // more only as it comes
	}
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, int64(limit)+1)); err != nil {
		return nil, protocol.Errorf(protocol.MalformedFrame, "reading the body: %v", err)
	}
	if buf.Len() > limit {
		return nil, protocol.Errorf(protocol.TooLarge, "a body of more than %d bytes", limit)
	}
	return buf.Bytes(), nil
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}

// refuse answers with a trust error. They go out with status 200: clients take
// other statuses for a server of an older era, and fall back to plaintext.
func (h *handler) refuse(w http.ResponseWriter, id jsonrpc.ID, method string, err error) {
	e := reasonOf(err)
	if !e.Reason.FromPeer() { // of this machine's making; clients take those reasons from nobody else
		e = &protocol.Error{Reason: protocol.Busy, Detail: "this server can't do that now"}
	}
	h.see(Event{Kind: EventRefused, Method: method, Err: e})
	writeJSON(w, http.StatusOK, e.Response(id))
}

// Sealed tells the server behind [Handler] how a request came.
type Sealed struct {
	Carrier        protocol.Carrier
	Context        protocol.ContextID
	Seq            uint64
	Revision       string // of MCP, that the client committed to; or ""
	ClientSettings *protocol.Settings
	Client         *protocol.Peer // who the client proved to be; nil when it showed no key object
}

type sealedKey struct{}

// SealedFrom returns how the request with that context came. ok is false for
// one that came in plaintext (preferred mode).
func SealedFrom(ctx context.Context) (s Sealed, ok bool) {
	s, ok = ctx.Value(sealedKey{}).(Sealed)
	return s, ok
}

// innerRequest is the request that the client made inside the seal, on the
// connection of the outer one.
func (h *handler) innerRequest(r *http.Request, req *protocol.Request, method string, body []byte) *http.Request {
	in := h.bareRequest(r, method, body)
	in.Header = unpackFields(req.Content.Meta.Fields)
	for _, name := range h.pass {
		if _, sealed := in.Header[name]; !sealed && r.Header[name] != nil {
			in.Header[name] = slices.Clone(r.Header[name])
		}
	}
	// A browser sets Origin outside, where the page that it runs can't remove it.
	if o := r.Header["Origin"]; o != nil {
		in.Header["Origin"] = slices.Clone(o)
	}
	if method == http.MethodPost {
		if in.Header["Content-Type"] == nil {
			in.Header["Content-Type"] = []string{typeJSON}
		}
		if in.Header["Accept"] == nil {
			in.Header["Accept"] = []string{typeJSON + ", " + typeSSE}
		}
	}
	return in.WithContext(context.WithValue(r.Context(), sealedKey{}, Sealed{
		req.Outer.Carrier, req.Context, req.Seq, req.Revision, req.ClientSettings, req.Client}))
}

func (h *handler) bareRequest(r *http.Request, method string, body []byte) *http.Request {
	u := *r.URL
	return &http.Request{
		Method: method, URL: &u, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Header: http.Header{}, Host: r.Host, RemoteAddr: r.RemoteAddr, RequestURI: r.RequestURI, TLS: r.TLS,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}
