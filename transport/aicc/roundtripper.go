package aicc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport"
)

const (
	revisionModern = "2026-07-28"
	// maxPeers bounds the URLs that are known to offer the profile.
	maxPeers = 64
	// maxQuoted bounds what of an unsealed error is read, in bytes.
	maxQuoted = 4 << 10
)

// passed are the HTTP fields of an answer that MCP needs.
var passed = []string{"Mcp-Session-Id", "Mcp-Protocol-Version", "Retry-After", "Allow"}

var unattested = []byte(`{"state":"unattested"}`)

type roundTripper struct {
	base http.RoundTripper
	cfg  ClientConfig
	pass []string

	mu      sync.Mutex
	offered map[string]bool // URLs that offered the profile once
}

// RoundTripper puts the profile behind an MCP client: use it as the Transport of
// the http.Client that the SDK is given. It seals each request, GET and DELETE
// included, opens the answer, and labels results with [protocol.MetaStatus].
//
// What fails comes back as a JSON-RPC error with the reason in
// error.data.reason; requests without an id, and streams that break later, fail
// with an error that wraps a *[wire.Error]. Of an unsealed answer with a status
// of 300 and more, the status alone is handed on.
//
// The profile is of MCP's legacy era: server/discover and what belongs to it is
// answered here, so that clients go on with initialize.
func RoundTripper(base http.RoundTripper, cfg ClientConfig) (http.RoundTripper, error) {
	switch {
	case cfg.Key == nil:
		return nil, errors.New("aicc: RoundTripper needs ClientConfig.Key")
	case cfg.Mode == "":
		cfg.Mode = protocol.ModeRequired
	case cfg.Mode != protocol.ModeRequired && cfg.Mode != protocol.ModePreferred:
		return nil, errors.New("aicc: ClientConfig.Mode: want required or preferred")
	}
	if base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true
		base = t
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	rt := &roundTripper{base: base, cfg: cfg, offered: map[string]bool{}}
	for _, name := range append(append([]string{}, passed...), cfg.PassFields...) {
		rt.pass = append(rt.pass, textproto.CanonicalMIMEHeaderKey(name))
	}
	return rt, nil
}

// A call is one message on its way.
type call struct {
	rt   *roundTripper
	req  *http.Request
	body []byte
	m    *jsonrpc.Message // nil: none, or one that is for the server to judge
	url  string

	attested, simulated bool // of the key that the message was sealed to
}

func (c *call) initialize() bool { return c.m != nil && c.m.IsRequest() && c.m.Method == "initialize" }

// RoundTrip implements http.RoundTripper.
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	c := &call{rt: rt, req: req}
	var err error
	if req.Body != nil {
		c.body, err = readAll(req.Body, req.ContentLength, rt.cfg.Limits.Message())
		_ = req.Body.Close()
		if err != nil {
			return c.fail(err)
		}
	}
	if len(c.body) > 0 {
		if c.m, err = jsonrpc.Parse(c.body, jsonrpc.Limits{MaxBytes: rt.cfg.Limits.Message()}); err != nil && rt.cfg.Mode == protocol.ModeRequired {
			return c.fail(wire.Errorf(wire.BadMessage, "%v", err))
		}
	}
	u := *req.URL
	u.RawQuery, u.Fragment, u.User = "", "", nil
	c.url = u.String()
	if err := c.authorize(); err != nil {
		return c.denied(err)
	}
	resp, err := c.send()
	if err != nil {
		return c.fail(err)
	}
	return resp, nil
}

func (c *call) send() (*http.Response, error) {
	known, err := c.rt.known(c.url)
	if err != nil {
		return nil, err
	}
	required := c.rt.cfg.Mode == protocol.ModeRequired
	switch {
	case (required || known) && c.modern():
		return c.legacyOnly(), nil
	case c.initialize() && (required && c.rt.cfg.PlainInitialize || !required && !known):
		return c.plainInitialize(required || known)
	case required || known:
		return c.sealed()
	}
	c.rt.cfg.Observe(Event{Kind: EventPlaintext})
	resp, err := c.forward(c.body, false)
	if err != nil {
		return nil, err
	}
	return c.labelled(resp)
}

// known reports whether the server offered the profile before.
func (rt *roundTripper) known(url string) (bool, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.cfg.Mode == protocol.ModePreferred && !rt.offered[url] && len(rt.offered) >= maxPeers {
		// To forget one would be to talk to it in plaintext.
		return false, wire.Errorf(wire.Busy, "one client for more than %d servers", maxPeers)
	}
	return rt.offered[url], nil
}

// modern reports whether the message is of MCP's modern era, whose HTTP fields
// would tell in the clear what is sealed.
func (c *call) modern() bool {
	for name := range c.req.Header {
		if name = textproto.CanonicalMIMEHeaderKey(name); strings.HasPrefix(name, "Mcp-") && name != "Mcp-Session-Id" && name != "Mcp-Protocol-Version" {
			return true
		}
	}
	return c.req.Header.Get("Mcp-Protocol-Version") >= revisionModern || c.m != nil && c.m.Method == "server/discover"
}

func (c *call) legacyOnly() *http.Response {
	id := jsonrpc.ID("")
	if c.m != nil {
		id = c.m.ID
	}
	data := []byte(`{"profile":"` + wire.Profile + `","reason":"` + string(wire.Era) + `","supported":["2025-11-25","2025-06-18","2025-03-26"],"requested":"` + revisionModern + `"}`)
	return c.response(http.StatusBadRequest, typeJSON, jsonrpc.ErrorResponse(id, jsonrpc.CodeUnsupportedVersion, "profile "+wire.Profile+" carries MCP up to 2025-11-25: open with initialize", data))
}

// forward sends body in place of the message.
func (c *call) forward(body []byte, sealed bool) (*http.Response, error) {
	out := c.req.Clone(c.req.Context())
	out.Header.Del(wire.Header)
	out.Header.Del("Content-Length")
	out.TransferEncoding = nil
	out.Header.Set("Accept-Encoding", "identity")
	if sealed {
		out.Header.Set(wire.Header, "1")
		out.Header.Set("Content-Type", typeJSON)
	}
	out.Body, out.GetBody, out.ContentLength = nil, nil, int64(len(body))
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	resp, err := c.rt.base.RoundTrip(out)
	if err != nil {
		if ctx := c.req.Context().Err(); ctx != nil {
			return nil, ctx
		}
		return nil, fmt.Errorf("%w: %w", wire.Errorf(wire.Unreachable, "%v", err), err)
	}
	if resp.StatusCode/100 == 3 {
		_ = resp.Body.Close()
		return nil, wire.Errorf(wire.Redirected, "the server redirects (HTTP status %d), which anybody on the way can say; connect to where it serves", resp.StatusCode)
	}
	return resp, nil
}

// sealed sends the message sealed, and opens the answer.
func (c *call) sealed() (*http.Response, error) {
	key, err := c.rt.cfg.Key(c.req.Context())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.Errorf(wire.NoKey, "%v", err), err)
	}
	if c.rt.cfg.Attested != nil { // now: by the time of the answer it may be about another key
		c.attested, c.simulated = c.rt.cfg.Attested(key)
	}
	body := c.body
	if c.initialize() {
		if body, err = wire.Offer(body); err != nil {
			return nil, err
		}
	}
	envelope, rk, err := wire.Seal(key, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.forward(envelope, true)
	if err != nil {
		return nil, err
	}
	if resp.Header.Get(wire.Header) == "" {
		return c.unsealed(resp)
	}
	if resp.StatusCode/100 == 2 && isType(resp.Header, typeSSE) {
		return c.stream(resp, rk)
	}
	defer resp.Body.Close()
	limits := c.rt.cfg.Limits
	sealed, err := readAll(resp.Body, resp.ContentLength, limits.Envelope())
	if err != nil {
		return nil, c.cut(err)
	}
	message, err := rk.Open(sealed, limits)
	if err != nil {
		return nil, err
	}
	contentType := typeJSON
	switch {
	case resp.StatusCode/100 != 2:
		if len(message) == 0 || message[0] != '{' {
			contentType = "text/plain; charset=utf-8"
		}
	case c.m != nil && c.m.IsRequest():
		if message, err = c.answer(message); err != nil {
			return nil, err
		}
	case len(message) == 0:
		contentType = ""
	default:
		if message, err = transport.LabelResults(message, c.status()); err != nil {
			return nil, wire.Errorf(wire.AnswerInvalid, "%v", err)
		}
	}
	c.rt.cfg.Observe(Event{Kind: EventAnswered})
	return c.fromPeer(resp, contentType, message), nil
}

// unsealed judges an answer to a sealed request that isn't sealed.
func (c *call) unsealed(resp *http.Response) (*http.Response, error) {
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil, wire.Errorf(wire.PlaintextAnswer, "the request was sealed, the answer (HTTP status %d) is not; something on the path may have made it", resp.StatusCode)
	}
	if c.initialize() { // of which people are to learn why it failed
		return nil, wire.Errorf(wire.PlaintextAnswer, "HTTP status %d outside the seal: the server does not have the profile or not the private key to the public key that is used, or something on the path answers for it", resp.StatusCode)
	}
	said, _ := readAll(resp.Body, resp.ContentLength, maxQuoted)
	c.rt.cfg.Observe(Event{Kind: EventRefused, Err: wire.Errorf(wire.PlaintextAnswer, "HTTP status %d, with %.200q outside the seal", resp.StatusCode, said)})
	return c.fromPeer(resp, "text/plain; charset=utf-8", []byte("HTTP status "+strconv.Itoa(resp.StatusCode)+" came outside the seal, from the server or from anybody on the way; what came with it is left out\n")), nil
}

// answer checks that an opened message is the answer to the request, and labels
// it.
func (c *call) answer(message []byte) ([]byte, error) {
	m, err := jsonrpc.Parse(message, jsonrpc.Limits{MaxBytes: c.rt.cfg.Limits.Message()})
	if err != nil {
		return nil, wire.Errorf(wire.AnswerInvalid, "%v", err)
	}
	// An error about a request that could not be read has no id.
	if !m.IsResponse() || m.ID != c.m.ID && (m.Error == nil || m.ID != "null" && m.ID != "" && m.ID != `"server-error"`) {
		return nil, wire.Errorf(wire.AnswerInvalid, "the answer is to the request %.40s, ours was %.40s", m.ID, c.m.ID)
	}
	if err := c.stronger(m); err != nil {
		return nil, err
	}
	out, err := transport.LabelResults(message, c.status())
	if err != nil {
		return nil, wire.Errorf(wire.AnswerInvalid, "%v", err)
	}
	return out, nil
}

// stronger fails an initialize by which the server shows that it has more to
// offer than what was found.
func (c *call) stronger(m *jsonrpc.Message) error {
	if !c.rt.cfg.RefuseStronger || !c.initialize() {
		return nil
	}
	for _, in := range []string{"extensions", "experimental"} {
		if jsonrpc.Get(m.Result, "capabilities", in, protocol.ExtensionID) != nil {
			return wire.Errorf(wire.Downgraded, "the server says that it offers %s, which was not there when it was asked for: something on the path hides it", protocol.ExtensionID)
		}
	}
	return nil
}

// status labels results that came sealed.
func (c *call) status() []byte {
	b := []byte(`{"state":"sealed","profile":"` + wire.Profile + `","attested":`)
	b = strconv.AppendBool(b, c.attested)
	// TMCP-18.8-4: An implementation MUST label what comes from a simulated TEE as simulated,
	// wherever it shows a result.
	if c.simulated {
		b = append(b, `,"simulated":true`...)
	}
	b = append(b, `,"caveats":[`...)
	for i, name := range wire.Caveats() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, jsonrpc.Quote(name)...)
	}
	return append(b, "]}"...)
}

// stream hands an event stream on as it is opened.
func (c *call) stream(resp *http.Response, rk *wire.ResponseKey) (*http.Response, error) {
	o := wire.NewLineOpener(resp.Body, rk, c.rt.cfg.Limits)
	s := &stream{c: c, src: o, closer: resp.Body, wants: c.m != nil && c.m.IsRequest()}
	o.Each = s.each
	out := c.fromPeer(resp, typeSSE, nil)
	out.Body, out.ContentLength = s, -1
	return out, nil
}

// A stream is the opened body of an event stream.
type stream struct {
	c         *call
	src       *wire.LineOpener
	closer    io.Closer
	wants     bool // an answer has to come
	got       bool // it came
	resumable bool // or may come by HTTP GET
}

func (s *stream) each(message []byte, id string) ([]byte, error) {
	s.resumable = s.resumable || id != ""
	if len(message) == 0 {
		return message, nil
	}
	m, err := jsonrpc.Parse(message, jsonrpc.Limits{MaxBytes: s.c.rt.cfg.Limits.Message()})
	if err != nil {
		return nil, wire.Errorf(wire.AnswerInvalid, "a message of the stream: %v", err)
	}
	if !m.IsResponse() {
		return message, nil
	}
	if s.wants {
		s.got = true
		return s.c.answer(message)
	}
	return transport.LabelResults(message, s.c.status())
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if err == io.EOF && s.wants && !s.got && !s.resumable {
		err = wire.Errorf(wire.Truncated, "the event stream ended before the answer")
	}
	if err != nil {
		if ctx := s.c.req.Context().Err(); ctx != nil && err != io.EOF {
			return n, ctx
		}
		var e *wire.Error
		if errors.As(err, &e) {
			s.c.rt.cfg.Observe(Event{Kind: EventRefused, Err: e})
		} else if err == io.EOF {
			s.c.rt.cfg.Observe(Event{Kind: EventAnswered})
		}
	}
	return n, err
}

func (s *stream) Close() error { return s.closer.Close() }

// plainInitialize sends initialize as the profile has it, unsealed. must says
// that the server has to offer the profile.
func (c *call) plainInitialize(must bool) (*http.Response, error) {
	body, err := wire.Offer(c.body)
	if err != nil {
		return nil, err
	}
	resp, err := c.forward(body, false)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return c.unsealed(resp)
	}
	message, m, err := c.find(resp)
	if err != nil {
		return nil, c.cut(err)
	}
	if err := c.stronger(m); err != nil {
		return nil, err
	}
	switch {
	case m.Error != nil:
	case wire.OfferedResult(m.Result):
		c.rt.mu.Lock()
		c.rt.offered[c.url] = true
		c.rt.mu.Unlock()
	case must:
		return nil, wire.Errorf(wire.TrustMissing, "the server does not offer %s %s; something on the path may have taken it out", wire.Name, wire.Version)
	}
	c.rt.cfg.Observe(Event{Kind: EventInitialize})
	if message, err = transport.LabelResults(message, unattested); err != nil {
		return nil, wire.Errorf(wire.AnswerInvalid, "%v", err)
	}
	return c.fromPeer(resp, typeJSON, message), nil
}

// find reads the answer to initialize, in JSON or in an event stream.
func (c *call) find(resp *http.Response) ([]byte, *jsonrpc.Message, error) {
	limits := jsonrpc.Limits{MaxBytes: c.rt.cfg.Limits.Message()}
	if !isType(resp.Header, typeSSE) {
		message, err := readAll(resp.Body, resp.ContentLength, limits.MaxBytes)
		if err != nil {
			return nil, nil, err
		}
		m, err := jsonrpc.Parse(message, limits)
		if err != nil || !m.IsResponse() || m.ID != c.m.ID {
			return nil, nil, wire.Errorf(wire.AnswerInvalid, "the answer to initialize is none")
		}
		return message, m, nil
	}
	r := sse.NewReader(io.LimitReader(resp.Body, int64(limits.MaxBytes)), limits.MaxBytes)
	for {
		ev, err := r.Next()
		if err != nil {
			return nil, nil, wire.Errorf(wire.Truncated, "the event stream has no answer to initialize: %v", err)
		}
		if m, err := jsonrpc.Parse(bytes.Clone(ev.Data), limits); err == nil && m.IsResponse() && m.ID == c.m.ID {
			return m.Raw, m, nil
		}
	}
}

// labelled labels the results of an answer that came in plaintext.
func (c *call) labelled(resp *http.Response) (*http.Response, error) {
	if isType(resp.Header, typeSSE) {
		r := sse.NewReader(resp.Body, c.rt.cfg.Limits.Envelope())
		resp.Body = &plainStream{src: r, closer: resp.Body}
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
		return resp, nil
	}
	if !isType(resp.Header, typeJSON) || resp.StatusCode/100 != 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	message, err := readAll(resp.Body, resp.ContentLength, c.rt.cfg.Limits.Message())
	if err != nil {
		return nil, c.cut(err)
	}
	if len(message) > 0 {
		if message, err = transport.LabelResults(message, unattested); err != nil {
			return nil, wire.Errorf(wire.AnswerInvalid, "%v", err)
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(message)), int64(len(message))
	resp.Header.Set("Content-Length", strconv.Itoa(len(message)))
	return resp, nil
}

// A plainStream labels the results of an event stream that came in plaintext.
type plainStream struct {
	src    *sse.Reader
	closer io.Closer
	buf    []byte
	at     int
}

func (s *plainStream) Read(p []byte) (int, error) {
	for s.at == len(s.buf) {
		ev, err := s.src.Next()
		if err != nil {
			return 0, err
		}
		if len(ev.Data) > 0 {
			if ev.Data, err = transport.LabelResults(ev.Data, unattested); err != nil {
				return 0, wire.Errorf(wire.AnswerInvalid, "%v", err)
			}
		}
		s.buf, s.at = sse.Append(s.buf[:0], ev), 0
	}
	n := copy(p, s.buf[s.at:])
	s.at += n
	return n, nil
}

func (s *plainStream) Close() error { return s.closer.Close() }

// cut is an error while an answer was read.
func (c *call) cut(err error) error {
	if ctx := c.req.Context().Err(); ctx != nil {
		return ctx
	}
	return err
}

// fromPeer is the answer that the client gets: of the peer's HTTP fields, those
// that MCP needs.
func (c *call) fromPeer(peer *http.Response, contentType string, body []byte) *http.Response {
	resp := c.response(peer.StatusCode, contentType, body)
	for _, name := range c.rt.pass {
		if v := peer.Header[name]; v != nil {
			resp.Header[name] = v
		}
	}
	return resp
}

func (c *call) response(status int, contentType string, body []byte) *http.Response {
	h := http.Header{"Content-Length": {strconv.Itoa(len(body))}}
	if contentType == typeSSE {
		h = http.Header{}
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return &http.Response{Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: c.req,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
}

// fail tells the client why the message has no answer: in a JSON-RPC error where
// it waits for one.
func (c *call) fail(err error) (*http.Response, error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	e := reasonOf(err)
	c.rt.cfg.Observe(Event{Kind: EventRefused, Err: e})
	if e.Reason == wire.Unreachable || c.m == nil || !c.m.IsRequest() {
		return nil, err
	}
	return c.response(http.StatusOK, typeJSON, errorResponse(c.m.ID, e)), nil
}

// authorize asks before the message is sent.
func (c *call) authorize() error {
	ask := c.rt.cfg.Authorize
	if ask == nil {
		return nil
	}
	call := &transport.Call{Party: transport.Party{Role: protocol.RoleServer, Profile: wire.Profile}}
	switch {
	case c.req.Method == http.MethodGet:
		call.Kind = transport.CallStream
	case c.req.Method == http.MethodDelete:
		call.Kind = transport.CallEnd
	case c.m == nil:
		return protocol.Errorf(protocol.PolicyDenied, "the message can't be judged")
	default:
		return ask.Message(c.req.Context(), *call, c.m)
	}
	return ask(c.req.Context(), call)
}

// denied answers a message that may not be sent.
func (c *call) denied(err error) (*http.Response, error) {
	var e *protocol.Error
	if !errors.As(err, &e) || e.Reason != protocol.PolicyDenied {
		e = &protocol.Error{Reason: protocol.PolicyDenied, Detail: "the call is not authorized"}
	}
	c.rt.cfg.Observe(Event{Kind: EventRefused, Err: wire.Errorf(wire.Reason(e.Reason), "%s", e.Detail)})
	if c.m == nil || !c.m.IsRequest() {
		return nil, e
	}
	return c.response(http.StatusOK, typeJSON, e.Response(c.m.ID)), nil
}
