package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

const (
	// fetchTimeout bounds one fetch of a key object.
	fetchTimeout = 30 * time.Second
	// appraiseTimeout bounds one appraisal, by a remote verifier too.
	appraiseTimeout = 15 * time.Second
	// plainFor is how long a peer counts as one without trust (preferred mode).
	plainFor = time.Minute
)

// errNetwork marks failures to reach the peer at all: they are returned as
// errors of the RoundTripper, which SDKs know how to treat.
var errNetwork = errors.New("the peer can't be reached")

// sessionLost is a reason for this package alone: the outer legacy session is over.
const sessionLost protocol.Reason = "outer-session-lost"

func unreachable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w: %w", protocol.Errorf(protocol.Unreachable, "%v", err), errNetwork, err)
}

// A link is a verified peer with the outer leg to it, or a peer without trust.
// Everything but the counter is immutable.
type link struct {
	client    *protocol.Client // nil: a peer without trust
	refreshAt time.Time
	expires   time.Time
	version   string // of MCP, of the outer leg
	session   string // of the outer leg, legacy
	ids       *atomic.Uint64
	told      int // endpoint.told when its fetch began
}

// endpoint keeps the link to one URL. Fetches are shared by all who wait, and
// run ahead of the expiry of what is there.
type endpoint struct {
	rt       *roundTripper
	url      *url.URL
	identity string
	ids      atomic.Uint64
	inline   inlinePeer
	offered  atomic.Bool // the peer offered trust once: then it is never spoken to in plaintext

	mu    sync.Mutex
	cur   *link
	fetch *fetch // under way, or nil
	told  int    // how often a server said that what we have of it is over
}

type fetch struct {
	done chan struct{}
	told int
	link *link
	err  error
}

// link returns the current link, waiting for a fetch when there is none.
func (e *endpoint) link(ctx context.Context, forward http.Header) (*link, error) {
	for {
		e.mu.Lock()
		now := e.rt.clock()
		if l := e.cur; l != nil && now.Before(l.expires) {
			if !now.Before(l.refreshAt) && e.fetch == nil {
				e.start(forward)
			}
			e.mu.Unlock()
			return l, nil
		}
		if e.fetch == nil {
			e.start(forward)
		}
		f := e.fetch
		old := f.told != e.told // it began before a server said that our key is none of its own
		e.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !old {
			return f.link, f.err
		}
	}
}

// start begins a fetch. e.mu is held.
func (e *endpoint) start(forward http.Header) {
	f := &fetch{done: make(chan struct{}), told: e.told}
	e.fetch = f
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		f.link, f.err = e.open(ctx, forward)
		e.mu.Lock()
		if f.err == nil {
			f.link.told = f.told
			// What a server told meanwhile is newer than what this fetch began with.
			if e.told == f.told {
				e.cur = f.link
			}
		}
		e.fetch = nil
		e.mu.Unlock()
		close(f.done)
	}()
}

// drop forgets l, and any link whose fetch began as early: a server has said that
// what we have of it is over.
func (e *endpoint) drop(l *link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.told < e.told {
		return // another call was told the same, and it is being dealt with
	}
	e.told++
	e.cur = nil
}

// replace makes of the key object of another replica, which came with an
// unauthenticated error, the current link, if it verifies like any other.
func (e *endpoint) replace(l *link, object []byte) {
	if object == nil || e.rt.cfg.Fresh { // an object for a nonce must be asked for
		e.drop(l)
		return
	}
	client, err := e.verify(object, l.client.Peer().Settings(), nil)
	if err != nil {
		e.drop(l)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.told < e.told && e.cur != nil {
		return
	}
	e.told++
	e.cur = e.newLink(client, l.version, l.session)
	e.cur.told = e.told
}

func (e *endpoint) newLink(client *protocol.Client, version, session string) *link {
	now, expires := e.rt.clock(), client.Peer().Expires()
	return &link{client: client, version: version, session: session, ids: &e.ids,
		expires: expires, refreshAt: now.Add(expires.Sub(now) * 2 / 3)}
}

// open fetches and verifies the key object, and opens the outer leg.
func (e *endpoint) open(ctx context.Context, forward http.Header) (*link, error) {
	if e.rt.cfg.OuterEra == Legacy {
		return e.openLegacy(ctx, forward)
	}
	l := &link{version: revisionModern, ids: &e.ids}
	if e.rt.cfg.Fresh {
		return e.attest(ctx, l, forward)
	}
	o, err := e.ask(ctx, l, "server/discover", `{"_meta":`+string(e.rt.meta)+`}`, forward)
	if err != nil {
		return nil, err
	}
	if o.fail != nil {
		return e.without(o.fail)
	}
	if v := jsonrpc.Get(o.result, "supportedVersions"); v != nil && !contains(v, revisionModern) {
		return e.without(protocol.Errorf(protocol.EraFallback, "the peer says that it knows %.200s only; this client speaks %s outside the seal", v, revisionModern))
	}
	return e.accept(ctx, l, o.result, forward)
}

func contains(list jsontext.Value, want string) bool {
	found := false
	err := jsonrpc.Elements(list, func(v jsontext.Value) error {
		s, _ := jsonrpc.Text(v)
		found = found || s == want
		return nil
	})
	return err == nil && found
}

// openLegacy does the outer initialize. It tells nothing but the extension: the
// client's own initialize travels inside the seal.
func (e *endpoint) openLegacy(ctx context.Context, forward http.Header) (*link, error) {
	l := &link{ids: &e.ids}
	params := `{"protocolVersion":"` + revisionLegacy + `","capabilities":` + string(e.rt.cfg.Settings.Capabilities(true)) + `,"clientInfo":` + outerName + `}`
	o, err := e.ask(ctx, l, "initialize", params, forward)
	if err != nil {
		return nil, err
	}
	if o.fail != nil {
		return e.without(o.fail)
	}
	l.version, _ = jsonrpc.Text(jsonrpc.Get(o.result, "protocolVersion"))
	if !slices.Contains(outerRevisions[1:], l.version) {
		return nil, protocol.Errorf(protocol.EraFallback, "the peer answered initialize with revision %.40q", l.version)
	}
	l.session = o.session
	resp, err := e.send(ctx, l, "", "", []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), forward)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if e.rt.cfg.Fresh {
		return e.attest(ctx, l, forward)
	}
	return e.accept(ctx, l, o.result, forward)
}

// without says what becomes of a peer that seems to have no trust: in preferred
// mode it is spoken to in plaintext, unless it offered trust before: then
// something on the path takes the offer out.
func (e *endpoint) without(why error) (*link, error) {
	if e.rt.cfg.Mode == protocol.ModePreferred && !e.offered.Load() {
		now := e.rt.clock()
		return &link{expires: now.Add(plainFor), refreshAt: now.Add(plainFor), ids: &e.ids}, nil
	}
	return nil, why
}

// accept verifies what a discover or initialize result offers.
func (e *endpoint) accept(ctx context.Context, l *link, result jsontext.Value, forward http.Header) (*link, error) {
	settings, key, err := offered(result)
	if err != nil {
		return nil, err
	}
	if settings != nil {
		e.offered.Store(true)
	}
	switch {
	case settings == nil:
		return e.without(protocol.Errorf(protocol.TrustMissing, "the peer does not offer %s; something on the path may have taken it out", protocol.ExtensionID))
	case key == nil:
		return e.attest(ctx, l, forward) // a gateway dropped _meta
	}
	client, err := e.verify(key, settings, nil)
	if err != nil {
		return nil, err
	}
	return e.newLink(client, l.version, l.session), nil
}

// offered reads settings and key object of a discover or initialize result.
// Either is nil when it is not there.
func offered(result jsontext.Value) (*protocol.Settings, []byte, error) {
	v := jsonrpc.Get(result, "capabilities", "extensions", protocol.ExtensionID)
	if v == nil {
		v = jsonrpc.Get(result, "capabilities", "experimental", protocol.ExtensionID)
	}
	if v == nil {
		v = jsonrpc.Get(result, "_meta", protocol.MetaSettings)
	}
	if v == nil {
		return nil, nil, nil
	}
	return parseOffer(v, jsonrpc.Get(result, "_meta", protocol.MetaKey))
}

func parseOffer(settings, key jsontext.Value) (*protocol.Settings, []byte, error) {
	s, err := protocol.ParseSettings(settings)
	if err != nil || key == nil {
		return s, nil, err
	}
	text, _ := jsonrpc.Text(key)
	object, err := protocol.ParseBase64(text)
	if err != nil {
		return nil, nil, protocol.Errorf(protocol.KeyObjectInvalid, "%v", err)
	}
	return s, object, nil
}

// attest asks for a key object by trust/attest.
func (e *endpoint) attest(ctx context.Context, l *link, forward http.Header) (*link, error) {
	nonce := make([]byte, 16)
	rand.Read(nonce)
	params := `{"nonce":"` + protocol.Base64(nonce) + `"` + e.rt.cfg.wantEvidence()
	if e.rt.cfg.OuterEra == Modern {
		params += `,"_meta":` + string(e.rt.meta)
	}
	o, err := e.ask(ctx, l, protocol.MethodAttest, params+"}", forward)
	if err != nil {
		return nil, err
	}
	if o.fail != nil {
		return e.without(o.fail)
	}
	sv, kv := jsonrpc.Get(o.result, "settings"), jsonrpc.Get(o.result, "key")
	if sv == nil || kv == nil {
		return e.without(protocol.Errorf(protocol.TrustMissing, "the answer to %s has no key and settings", protocol.MethodAttest))
	}
	settings, key, err := parseOffer(sv, kv)
	if err != nil {
		return nil, err
	}
	client, err := e.verify(key, settings, nonce)
	if err != nil {
		return nil, err
	}
	return e.newLink(client, l.version, l.session), nil
}

func (e *endpoint) verify(object []byte, settings *protocol.Settings, nonce []byte) (*protocol.Client, error) {
	client, err := e.rt.cfg.verify(e.identity, object, settings, nonce, e.rt.clock())
	if err == nil {
		e.offered.Store(true)
		e.rt.see(Event{Kind: EventVerified, Peer: client.Peer()})
	}
	return client, err
}

func (cfg *ClientConfig) verify(identity string, object []byte, settings *protocol.Settings, nonce []byte, now time.Time) (*protocol.Client, error) {
	// TMCP-12.3-3: A client that demands `attested` MUST send nothing of the user when the
	// appraiser can't be reached or doesn't answer in time.
	ctx, cancel := context.WithTimeout(context.Background(), appraiseTimeout)
	defer cancel()
	want := protocol.Expect{Identity: identity, Anchor: cfg.Anchor, Settings: settings, Now: now, Nonce: nonce,
		Profile: cfg.Profile, Appraiser: cfg.Appraiser, MaxEvidenceAge: cfg.MaxEvidenceAge, FreshEvidence: cfg.FreshEvidence, Context: ctx}
	if cfg.Epochs != nil {
		want.Epochs = cfg.Epochs()
	}
	peer, err := protocol.VerifyKeyObject(object, want)
	if err != nil {
		return nil, err
	}
	var opts []protocol.ClientOption
	if cfg.ClientKey != nil {
		opts = append(opts, protocol.PresentKey(cfg.ClientKey))
	}
	if cfg.Pad {
		opts = append(opts, protocol.PadRequests())
	}
	return protocol.NewClient(peer, cfg.Settings, opts...)
}

// wantEvidence is the member of params that asks for new evidence, after others,
// or "".
func (cfg *ClientConfig) wantEvidence() string {
	if cfg.FreshEvidence {
		return `,"evidence":"fresh"`
	}
	return ""
}

// opening is the peer's answer to a request that opens the outer leg.
type opening struct {
	result  jsontext.Value
	fail    error // the peer answered, but not with a result
	session string
}

// ask sends a plain request of the outer leg and reads its answer. The error is
// for a peer that can't be reached or breaks off; a refusal is in opening.fail.
func (e *endpoint) ask(ctx context.Context, l *link, method, params string, forward http.Header) (*opening, error) {
	id := jsonrpc.ID(strconv.FormatUint(e.ids.Add(1), 10))
	body := []byte(`{"jsonrpc":"2.0","id":` + string(id) + `,"method":"` + method + `","params":` + params + `}`)
	resp, err := e.send(ctx, l, method, "", body, forward)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	o := &opening{session: resp.Header.Get(headerSession)}
	src := newSource(resp, e.rt.cfg.Limits)
	m, err := src.message()
	for err == errComment || err == nil && m.IsNotification() { // a gateway's own
		m, err = src.message()
	}
	switch {
	case err != nil:
		o.fail = protocol.Errorf(protocol.DiscoverError, "%s was answered with HTTP status %d and no JSON-RPC answer: %v", method, resp.StatusCode, err)
	case m.Error != nil && string(jsonrpc.Get(m.Error, "code")) == "-32022":
		o.fail = protocol.Errorf(protocol.EraFallback, "the peer says that it does not know the revision of the request: %.300s", m.Error)
	case m.Error != nil:
		o.fail = protocol.Errorf(protocol.DiscoverError, "%s was answered with an error: %.300s", method, m.Error)
	case resp.StatusCode != http.StatusOK || m.Result.Kind() != '{':
		o.fail = protocol.Errorf(protocol.DiscoverError, "%s was answered with HTTP status %d", method, resp.StatusCode)
	default:
		o.result = bytes.Clone(m.Result)
	}
	return o, nil
}

// send posts an outer message. method and name are for modern MCP's headers.
func (e *endpoint) send(ctx context.Context, l *link, method, name string, body []byte, forward http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range forward {
		req.Header[k] = v
	}
	req.Header["Content-Type"] = []string{typeJSON}
	req.Header["Accept"] = []string{typeJSON + ", " + typeSSE}
	if l.version != "" {
		req.Header[headerVersion] = []string{l.version}
	}
	if l.version == revisionModern {
		req.Header[headerMethod] = []string{method}
		if name != "" {
			req.Header[headerName] = []string{encodeHeader(name)}
		}
	}
	if l.session != "" {
		req.Header[headerSession] = []string{l.session}
	}
	resp, err := e.rt.base.RoundTrip(req)
	if err != nil {
		return nil, unreachable(err)
	}
	return resp, nil
}
