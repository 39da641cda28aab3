package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// An Era is the family of MCP revisions that an outer leg speaks.
type Era string

// The eras.
const (
	Modern Era = "modern" // 2026-07-28: stateless; the default
	Legacy Era = "legacy" // 2025-11-25: initialize first, perhaps a session
)

// A ClientConfig says how [RoundTripper] puts trust behind an MCP client. Anchor
// is required, all else has a default.
type ClientConfig struct {
	// Anchor says who may speak for the identity: [protocol.Pin], [protocol.Roots]
	// or both.
	Anchor protocol.Anchor
	// Identity is the URI that the server must prove. Default: the URL that is
	// dialled, without query and fragment.
	Identity string

	// Mode is [protocol.ModeRequired] (the default): nothing leaves unsealed, or
	// [protocol.ModePreferred]: a peer without the extension is spoken to in
	// plaintext, and its results are labelled.
	Mode protocol.Mode
	// Carrier is how sealed messages travel; default [protocol.Envelope].
	Carrier protocol.Carrier
	// Settings are what the client announces; default: all suites, the Carrier,
	// the Mode. When set, Mode and Carrier are this side's policy still.
	Settings *protocol.Settings
	// OuterEra is the era of the leg to the next hop. The conversation inside the
	// seal is of whatever era the client speaks.
	OuterEra Era
	// Fresh asks for a key object that carries a nonce of this client, so that it
	// can't have been made earlier. It costs the server two signatures.
	Fresh bool

	// Profile is the least that the server must prove; default
	// [protocol.ProfileIdentity]. Beyond it an Appraiser is required.
	Profile protocol.Profile
	// Appraiser judges the evidence of servers that show some; see package
	// evidence/appraise.
	Appraiser protocol.Appraiser
	// MaxEvidenceAge and Epochs say which evidence is recent; see [protocol.Expect].
	MaxEvidenceAge time.Duration
	Epochs         func() [][]byte
	// FreshEvidence asks for evidence that is itself made for a nonce. It costs the
	// server a quote, some 40 ms, and implies Fresh.
	FreshEvidence bool
	// ClientKey shows a key object of this client to servers that accept or demand
	// one.
	ClientKey *protocol.ClientHolder

	// Authorize, if set, is asked before each message is sealed, or goes out in
	// plaintext (preferred mode), with the server as the party. Bodies that are
	// streamed under the HTTP carrier can't be judged, and are refused then.
	Authorize Authorizer

	// Pad pads messages to buckets, so that their length tells less.
	Pad bool

	// ForwardFields names HTTP fields that stand outside the seal too, for a proxy
	// that needs them, such as Authorization. Default none.
	ForwardFields []string

	Limits Limits
	// Clock tells the time; default time.Now.
	Clock func() time.Time
	// Observe, if set, is told what happened. It must be safe for concurrent use,
	// and quick.
	Observe func(Event)
}

const (
	// maxTries is how often one message is sealed at most.
	maxTries = 3
	// maxEndpoints bounds the URLs that keys are kept for.
	maxEndpoints = 64
)

type roundTripper struct {
	base    http.RoundTripper
	cfg     ClientConfig
	clock   func() time.Time
	see     func(Event)
	forward []string
	meta    []byte // _meta of modern outer requests, as JSON

	mu        sync.Mutex
	endpoints map[string]*endpoint
}

// RoundTripper puts trust behind an MCP client that speaks Streamable HTTP: use
// it as the Transport of the http.Client that the SDK is given. It fetches and
// verifies the server's key object when it is first needed, keeps it per URL,
// seals every request, and restores the server's answer as the server made it,
// except that results are labelled with [protocol.MetaStatus]; not so under the
// HTTP carrier, which changes nothing, and where such a label is the server's own
// word. One RoundTripper is for one user: its requests share contexts, by which
// the path can link them.
//
// What goes wrong before the answer has begun comes back as a JSON-RPC error
// with the reason in error.data.reason; requests without an id, and streams
// that break later, fail with an error that wraps a *[protocol.Error]. In
// required mode nothing is ever sent in plaintext except what opens the outer
// leg, which is the same for all conversations, and the URL: the HTTP carrier
// seals its query, the others do not.
func RoundTripper(base http.RoundTripper, cfg ClientConfig) (http.RoundTripper, error) {
	rt, err := newRoundTripper(base, cfg)
	if err != nil {
		return nil, err
	}
	return rt, nil
}

func newRoundTripper(base http.RoundTripper, cfg ClientConfig) (*roundTripper, error) {
	if base == nil {
		base = http.DefaultTransport
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	rt := &roundTripper{base: base, cfg: cfg, clock: clockOr(cfg.Clock), see: cfg.Observe, endpoints: map[string]*endpoint{}}
	if rt.see == nil {
		rt.see = func(Event) {}
	}
	for _, f := range cfg.ForwardFields {
		rt.forward = append(rt.forward, http.CanonicalHeaderKey(f))
	}
	rt.meta = cfg.outerMeta("")
	return rt, nil
}

// complete fills in defaults and refuses what can't work.
func (cfg *ClientConfig) complete() error {
	if cfg.Anchor == nil {
		return errors.New("transport: ClientConfig.Anchor is required: protocol.Pin of the server's thumbprint, or protocol.Roots")
	}
	if cfg.Carrier == 0 {
		cfg.Carrier = protocol.Envelope
	}
	if cfg.Mode == "" {
		cfg.Mode = protocol.ModeRequired
	}
	if cfg.Mode != protocol.ModeRequired && cfg.Mode != protocol.ModePreferred {
		return errors.New("transport: ClientConfig.Mode must be required or preferred; for mode off, do without this package")
	}
	if cfg.OuterEra == "" {
		cfg.OuterEra = Modern
	}
	if cfg.OuterEra != Modern && cfg.OuterEra != Legacy {
		return errors.New("transport: ClientConfig.OuterEra must be Modern or Legacy")
	}
	if cfg.Profile == "" {
		cfg.Profile = protocol.ProfileIdentity
	}
	if cfg.Profile != protocol.ProfileIdentity && cfg.Appraiser == nil {
		return errors.New("transport: ClientConfig.Profile " + string(cfg.Profile) + " needs an Appraiser for the server's evidence")
	}
	if cfg.Profile != protocol.ProfileIdentity && cfg.Mode == protocol.ModePreferred {
		return errors.New("transport: ClientConfig.Profile " + string(cfg.Profile) + " is demanded, and Mode preferred speaks in plaintext to servers that prove nothing: use Mode required")
	}
	if cfg.FreshEvidence {
		cfg.Fresh = true
	}
	if cfg.Settings != nil && cfg.ClientKey != nil && cfg.Settings.Digest() != cfg.ClientKey.Settings().Digest() {
		return errors.New("transport: ClientConfig.Settings are not those that ClientKey was made for: every server would refuse its key objects")
	}
	if cfg.Settings == nil && cfg.ClientKey != nil {
		cfg.Settings = cfg.ClientKey.Settings() // its key objects name them
	}
	if cfg.Settings == nil {
		s, err := protocol.NewSettings(protocol.Offer{Profiles: Profiles(cfg.Profile, cfg.Appraiser != nil), Mode: cfg.Mode, Carriers: []protocol.Carrier{cfg.Carrier}})
		if err != nil {
			return err
		}
		cfg.Settings = s
	}
	return nil
}

// Profiles are those that a client announces which demands the profile least, and
// may have an appraiser.
func Profiles(least protocol.Profile, appraises bool) []protocol.Profile {
	all := []protocol.Profile{protocol.ProfileIdentity, protocol.ProfileAttested, protocol.ProfileMutual}
	switch {
	case least == protocol.ProfileMutual:
		return all[2:]
	case least == protocol.ProfileAttested:
		return all[1:]
	case !appraises:
		return all[:1]
	}
	return all
}

// sealAgain reports whether a message that was refused with e may go through when
// it is sealed afresh to the same key.
func (cfg *ClientConfig) sealAgain(e *protocol.Error) bool {
	return e.Reason == protocol.UnknownContext || e.Reason == protocol.ClientKeyRequired && cfg.ClientKey != nil
}

// outerMeta is the _meta that a modern request must carry. more is JSON members
// with a leading comma, or "".
func (cfg *ClientConfig) outerMeta(more string) []byte {
	return []byte(`{"` + metaVersion + `":"` + revisionModern + `","` + metaCapabilities + `":` +
		string(cfg.Settings.Capabilities(false)) + `,"` + metaClientInfo + `":` + outerName + more + `}`)
}

// CloseIdleConnections closes those of the transport underneath.
func (rt *roundTripper) CloseIdleConnections() {
	if c, ok := rt.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// exchange is one request of the SDK on its way.
type exchange struct {
	rt      *roundTripper
	ep      *endpoint
	req     *http.Request
	ctx     context.Context
	body    []byte
	id      jsonrpc.ID // of the inner request, or ""
	content protocol.Content
	forward http.Header
	more    io.ReadCloser // HTTP carrier: the rest of a body over the limit
}

func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := &exchange{rt: rt, req: req, ctx: req.Context(), forward: http.Header{}}
	if rt.cfg.Carrier == protocol.HTTP {
		return x.roundTripFrames()
	}
	if req.Body != nil {
		body, err := readAll(req.Body, req.ContentLength, rt.cfg.Limits.message())
		req.Body.Close()
		if err != nil {
			return nil, err
		}
		x.body = body
	}
	x.setForward()
	switch req.Method {
	case http.MethodPost:
		x.content = protocol.Content{Kind: protocol.KindMessage, Body: x.body}
		x.id = requestID(x.body)
	case http.MethodGet:
		x.content = protocol.Content{Kind: protocol.KindGet}
	case http.MethodDelete:
		x.content = protocol.Content{Kind: protocol.KindDelete}
	default:
		return nil, protocol.Errorf(protocol.CannotSeal, "HTTP method %s is none of MCP's", req.Method)
	}
	x.content.Meta.Fields = packFields(req.Header)
	resp, err := x.runAt(req)
	if err != nil {
		return x.fail(err)
	}
	return resp, nil
}

func (x *exchange) setForward() {
	for _, name := range x.rt.forward {
		if v := x.req.Header[name]; v != nil {
			x.forward[name] = v
		}
	}
}

func (x *exchange) runAt(req *http.Request) (*http.Response, error) {
	var err error
	if x.ep, err = x.rt.endpoint(req.URL); err != nil {
		return nil, err
	}
	if x.rt.cfg.Carrier == protocol.Inline {
		return x.runInline()
	}
	return x.run()
}

// readAll reads r to its end. size is a guess at its length, or less than one.
func readAll(r io.Reader, size int64, limit int) ([]byte, error) {
	return readInto(nil, r, size, limit)
}

// readInto is readAll that reads into space, if that is enough.
func readInto(space []byte, r io.Reader, size int64, limit int) ([]byte, error) {
	buf := bytes.NewBuffer(space)
	if size > 0 && size <= int64(limit) {
		buf.Grow(int(size) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if err == nil && buf.Len() > limit {
		err = protocol.Errorf(protocol.TooLarge, "more than the limit of %d bytes", limit)
	}
	return buf.Bytes(), err
}

// run seals the request, sends it, and opens the beginning of the answer. Where
// the server says that it can't open the seal, the message is sealed afresh.
func (x *exchange) run() (*http.Response, error) {
	rt := x.rt
	var call *protocol.Call
	var last *protocol.Error
	for try := 0; try < maxTries; try++ {
		link, err := x.ep.link(x.ctx, x.forward)
		if err != nil {
			return nil, err
		}
		if link.client == nil {
			if call != nil { // sealed once, so never in plaintext
				return nil, protocol.Errorf(protocol.TrustMissing, "the peer no longer offers trust")
			}
			return x.plaintext()
		}
		if try > 0 {
			rt.see(Event{Kind: EventRetried, Err: last, Peer: link.client.Peer()})
		}
		a, err := x.attempt(link, &call)
		var e *protocol.Error
		switch {
		case err == nil:
			if rt.cfg.Carrier == protocol.HTTP {
				return a.httpResponse(x)
			}
			return a.response(x)
		case errors.As(err, &e) && x.recover(link, e):
			last = e
		default:
			return nil, err
		}
	}
	return nil, protocol.Errorf(protocol.RetriesExhausted, "%d seals of the message were refused; the last one: %v", maxTries, last)
}

// attempt seals and sends once. On success the first frame is open.
func (x *exchange) attempt(link *link, call **protocol.Call) (*answer, error) {
	if x.rt.cfg.Carrier == protocol.HTTP {
		return x.attemptFrames(link, call)
	}
	now := x.rt.clock()
	outer := protocol.Outer{Carrier: protocol.Envelope}
	c, frame, err := x.rt.cfg.seal(x.ctx, link.client, *call, x.content, outer, now)
	if err != nil {
		return nil, err
	}
	*call = c
	resp, err := x.ep.send(x.ctx, link, protocol.MethodCall, "", x.rt.callBody(link, frame), x.forward)
	if err != nil {
		return nil, err
	}
	return x.open(resp, link, c)
}

// seal seals c, afresh if old is not nil, once it is authorized: a retry may go to
// another replica, and later.
func (cfg *ClientConfig) seal(ctx context.Context, client *protocol.Client, old *protocol.Call, c protocol.Content, outer protocol.Outer, now time.Time) (*protocol.Call, []byte, error) {
	if err := cfg.authorize(ctx, client.Peer(), outer.Carrier, &c); err != nil {
		return nil, nil, err
	}
	if old == nil {
		return client.Seal(c, outer, now)
	}
	return client.SealAgain(old, c, outer, now)
}

// callBody is a trust/call message with frame.
func (rt *roundTripper) callBody(link *link, frame []byte) []byte {
	b := make([]byte, 0, b64.EncodedLen(len(frame))+len(rt.meta)+128)
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = strconv.AppendUint(b, link.ids.Add(1), 10)
	b = append(b, `,"method":"`+protocol.MethodCall+`","params":{"frame":"`...)
	b = append(b64.AppendEncode(b, frame), '"')
	if rt.cfg.OuterEra == Modern {
		b = append(append(b, `,"_meta":`...), rt.meta...)
	}
	return append(b, `}}`...)
}

// recover prepares for another try after e, and reports whether one makes sense.
func (x *exchange) recover(link *link, e *protocol.Error) bool {
	if x.rt.cfg.sealAgain(e) {
		return true
	}
	switch e.Reason {
	case protocol.UnknownKey:
		x.ep.replace(link, e.KeyObject)
		return true
	case protocol.KeyObjectExpired:
		x.ep.drop(link)
		return true
	case sessionLost:
		x.ep.drop(link)
		return true
	}
	return false
}

// fail makes of an error what the SDK sees: a JSON-RPC error where there is an
// id to put on it.
func (x *exchange) fail(err error) (*http.Response, error) {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return nil, err
	}
	x.rt.see(Event{Kind: EventRefused, Err: e, Carrier: x.rt.cfg.Carrier})
	if e.Reason == protocol.PolicyDenied && x.id == "" { // dropped: nobody waits for an answer
		status := http.StatusForbidden
		if x.req.Method == http.MethodPost {
			status = http.StatusAccepted
		}
		return newResponse(x.req, status, http.Header{}, nil), nil
	}
	if x.id == "" || errors.Is(err, errNetwork) {
		return nil, err
	}
	h := http.Header{"Content-Type": {typeJSON}}
	return newResponse(x.req, http.StatusOK, h, e.Response(x.id)), nil
}

func newResponse(req *http.Request, status int, h http.Header, body []byte) *http.Response {
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: req,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// endpoint returns what is known of the server at u.
func (rt *roundTripper) endpoint(u *url.URL) (*endpoint, error) {
	if u == nil || u.Host == "" {
		return nil, protocol.Errorf(protocol.CannotSeal, "a request without a URL")
	}
	plain := *u
	plain.Fragment, plain.User = "", nil
	if rt.cfg.Carrier == protocol.HTTP { // it is sealed with the target
		plain.RawQuery, plain.ForceQuery = "", false
	}
	key := plain.String()
	rt.mu.Lock()
	defer rt.mu.Unlock()
	ep := rt.endpoints[key]
	if ep == nil {
		if len(rt.endpoints) >= maxEndpoints {
			clear(rt.endpoints)
		}
		dialled := plain // a copy: the caller may change its URL later
		id := rt.cfg.Identity
		if id == "" {
			plain.RawQuery = ""
			id = plain.String()
		}
		ep = &endpoint{rt: rt, url: &dialled, identity: id}
		rt.endpoints[key] = ep
	}
	return ep, nil
}
