package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// StdioClient puts trust behind an MCP client that speaks stdio: client is the
// client's own pipe (In is what it says, Out what it hears), server the pipe to a
// [StdioServer] (In is that one's output, Out its input). cfg.Identity is
// required, since no URL is dialled. It returns when the server's output has
// ended; requests that were not answered by then get an error. Only the
// envelope carrier works over stdio: cfg.Settings, if given, must offer no other.
func StdioClient(ctx context.Context, client, server Pipe, cfg ClientConfig) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	if cfg.Identity == "" {
		return errors.New("transport: StdioClient needs ClientConfig.Identity: the URI that the server must prove")
	}
	if cfg.Carrier != protocol.Envelope {
		return errors.New("transport: over stdio the carrier is envelope")
	}
	if err := onlyEnvelope("ClientConfig.Settings", cfg.Settings.Offer().Carriers); err != nil {
		return err
	}
	max := cfg.Limits.outer()
	s := &stdioClient{cfg: cfg, clock: clockOr(cfg.Clock), see: cfg.Observe, client: newLines(client, max), server: newLines(server, max),
		calls: map[jsonrpc.ID]*clientCall{}, places: map[place]*clientCall{}, asked: map[jsonrpc.ID]chan *outer{}, gone: make(chan struct{}),
		meta: string(cfg.outerMeta(""))}
	if s.see == nil {
		s.see = func(Event) {}
	}
	return whileOpen(ctx, client, server, s.up, s.down)
}

type stdioClient struct {
	cfg            ClientConfig
	clock          func() time.Time
	see            func(Event)
	client, server *lines
	meta           string
	gone           chan struct{} // closed when the server's output has ended
	legacyPeer     bool          // the client opened a legacy conversation (preferred mode); only up uses it

	mu       sync.Mutex
	ids      uint64
	link     *link
	revision string                     // of the inner conversation, once initialize was answered
	calls    map[jsonrpc.ID]*clientCall // by outer id
	places   map[place]*clientCall
	asked    map[jsonrpc.ID]chan *outer // requests of the outer leg itself
	opened   bool                       // the outer leg
	standing bool                       // the standing stream was asked for
	offered  atomic.Bool                // the peer offered trust once: never plaintext then
	over     bool
}

// place is where a message stands: what its answer's frames say.
type place struct {
	ctx protocol.ContextID
	seq uint64
}

type clientCall struct {
	id      jsonrpc.ID // of the inner request, or "" for other messages
	method  string
	content protocol.Content
	call    *protocol.Call
	tries   int
}

// up reads what the client says.
func (s *stdioClient) up(ctx context.Context) error {
	for {
		line, err := s.client.next()
		if err == errLongLine {
			if err = s.client.write(reasonOf(err).Response("")); err == nil {
				continue
			}
		}
		if err != nil {
			return endOfInput(err)
		}
		m, err := jsonrpc.Parse(line, jsonrpc.Limits{MaxBytes: s.cfg.Limits.message(), MaxDepth: s.cfg.Limits.MaxDepth})
		if err != nil {
			bad := err.(*jsonrpc.ParseError)
			if err := s.client.write(jsonrpc.ErrorResponse("", bad.Code, bad.Error(), nil)); err != nil {
				return endOfInput(err)
			}
			continue
		}
		s.legacyPeer = s.cfg.Mode == protocol.ModePreferred && (s.legacyPeer || m.Method == "initialize")
		l, err := s.ready(ctx)
		if err == nil && l.client == nil {
			if err = s.cfg.authorize(ctx, nil, 0, &protocol.Content{Kind: protocol.KindMessage, Body: line}); err == nil {
				s.see(Event{Kind: EventPlaintext, Method: m.Method})
				err = s.server.write(line)
			}
		} else if err == nil {
			c := &clientCall{method: m.Method, content: protocol.Content{Kind: protocol.KindMessage, Body: bytes.Clone(line)}}
			if m.IsRequest() {
				c.id = jsonrpc.ID(strings.Clone(string(m.ID)))
			}
			s.mu.Lock()
			if s.revision != "" {
				c.content.Meta.Fields = []protocol.Field{{Name: "mcp-protocol-version", Value: []byte(s.revision)}}
			}
			var sealed []byte
			sealed, err = s.seal(c)
			if err == nil && m.Method == "notifications/cancelled" {
				s.cancelled(jsonrpc.ID(jsonrpc.Get(m.Params, "requestId")))
			}
			s.mu.Unlock()
			if err == nil { // not under the lock: answers must be taken meanwhile
				err = s.server.write(sealed)
			}
		}
		if err != nil {
			if err := s.fail(m.ID, m.IsRequest(), err); err != nil {
				return endOfInput(err)
			}
		}
	}
}

// cancelled forgets whose answer a call is: the client no longer waits for it.
// s.mu is held.
func (s *stdioClient) cancelled(id jsonrpc.ID) {
	for _, c := range s.calls {
		if c.id == id {
			c.id = ""
		}
	}
}

// fail tells the client why its request failed. What is no request has nobody
// to tell but the observer; broken pipes end the session.
func (s *stdioClient) fail(id jsonrpc.ID, request bool, err error) error {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return err
	}
	s.see(Event{Kind: EventRefused, Err: e, Carrier: protocol.Envelope})
	if !request {
		return nil
	}
	return s.client.write(e.Response(id))
}

// seal seals c, afresh if it was sealed before, and returns the line to send.
// s.mu is held.
func (s *stdioClient) seal(c *clientCall) ([]byte, error) {
	if s.over {
		return nil, protocol.Errorf(protocol.Unreachable, "the server is gone")
	}
	if len(s.calls) >= maxPending {
		return nil, protocol.Errorf(protocol.Busy, "%d messages are not answered yet", maxPending)
	}
	if c.tries++; c.tries > maxTries {
		return nil, protocol.Errorf(protocol.RetriesExhausted, "%d seals of the message were refused", maxTries)
	}
	call, frame, err := s.cfg.seal(context.Background(), s.link.client, c.call, c.content, protocol.Outer{Carrier: protocol.Envelope}, s.clock())
	if err != nil {
		return nil, err
	}
	c.call = call
	s.ids++
	id := jsonrpc.ID(strconv.FormatUint(s.ids, 10))
	s.calls[id], s.places[place{call.Context(), call.Seq()}] = c, c
	b := make([]byte, 0, b64.EncodedLen(len(frame))+len(s.meta)+128)
	b = append(append(append(b, `{"jsonrpc":"2.0","id":`...), id...), `,"method":"`+protocol.MethodCall+`","params":{"frame":"`...)
	b = append(b64.AppendEncode(b, frame), '"')
	if s.cfg.OuterEra == Modern {
		b = append(append(b, `,"_meta":`...), s.meta...)
	}
	return append(b, `}}`...), nil
}

// sendSoon seals c and sends it without waiting: whoever reads the server's
// output must never wait for the server to read. Closing the pipe ends it.
func (s *stdioClient) sendSoon(c *clientCall) error {
	line, err := s.seal(c)
	if err != nil {
		return s.fail(c.id, c.id != "", err)
	}
	go s.server.write(line)
	return nil
}

// ready returns the link, after fetching or renewing it.
func (s *stdioClient) ready(ctx context.Context) (*link, error) {
	s.mu.Lock()
	l, now := s.link, s.clock()
	s.mu.Unlock()
	if l != nil && now.Before(l.refreshAt) {
		return l, nil
	}
	fresh, err := s.open(ctx, l)
	if err != nil {
		if l != nil && l.client != nil && now.Before(l.expires) {
			return l, nil
		}
		return nil, err
	}
	s.mu.Lock()
	s.link = fresh
	s.mu.Unlock()
	return fresh, nil
}

// open opens the outer leg, once, and fetches the key object.
func (s *stdioClient) open(ctx context.Context, old *link) (*link, error) {
	if s.opened && old != nil && old.client != nil || s.cfg.Fresh && s.cfg.OuterEra == Modern {
		return s.attest(ctx)
	}
	if s.cfg.Mode == protocol.ModePreferred {
		// A server without trust has one conversation on its pipe, which discover or
		// initialize would open, and in a legacy one anything modern, too; a method
		// that it doesn't know leaves it alone.
		return s.attest(ctx)
	}
	method, params := "server/discover", `{"_meta":`+s.meta+`}`
	if s.cfg.OuterEra == Legacy {
		method, params = "initialize", `{"protocolVersion":"`+revisionLegacy+`","capabilities":`+string(s.cfg.Settings.Capabilities(true))+`,"clientInfo":`+outerName+`}`
	}
	o, err := s.ask(ctx, method, params)
	if err != nil {
		return nil, err
	}
	if o.Error != nil {
		return s.without(protocol.Errorf(protocol.DiscoverError, "%s was answered with an error: %.300s", method, o.Error))
	}
	if v := jsonrpc.Get(o.Result, "supportedVersions"); v != nil && !contains(v, revisionModern) {
		return s.without(protocol.Errorf(protocol.EraFallback, "the peer says that it knows %.200s only", v))
	}
	settings, key, err := offered(o.Result)
	if err != nil {
		return nil, err
	}
	if settings == nil {
		return s.without(protocol.Errorf(protocol.TrustMissing, "the peer does not offer %s; something on the path may have taken it out", protocol.ExtensionID))
	}
	s.opened = true
	s.offered.Store(true)
	if method == "initialize" {
		version, _ := jsonrpc.Text(jsonrpc.Get(o.Result, "protocolVersion"))
		if !slices.Contains(outerRevisions[1:], version) {
			return nil, protocol.Errorf(protocol.EraFallback, "the peer answered initialize with revision %.40q", version)
		}
		if err := s.server.write([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)); err != nil {
			return nil, err
		}
	}
	if key == nil || s.cfg.Fresh {
		return s.attest(ctx)
	}
	return s.verify(key, settings, nil)
}

func (s *stdioClient) without(why error) (*link, error) {
	if s.cfg.Mode == protocol.ModePreferred && !s.offered.Load() {
		forever := s.clock().Add(100 * 365 * 24 * time.Hour) // a pipe has one server
		return &link{expires: forever, refreshAt: forever}, nil
	}
	return nil, why
}

func (s *stdioClient) verify(key []byte, settings *protocol.Settings, nonce []byte) (*link, error) {
	now := s.clock()
	client, err := s.cfg.verify(s.cfg.Identity, key, settings, nonce, now)
	if err != nil {
		return nil, err
	}
	s.offered.Store(true)
	s.see(Event{Kind: EventVerified, Peer: client.Peer()})
	expires := client.Peer().Expires()
	return &link{client: client, expires: expires, refreshAt: now.Add(expires.Sub(now) * 2 / 3)}, nil
}

func (s *stdioClient) attest(ctx context.Context) (*link, error) {
	nonce := make([]byte, 16)
	rand.Read(nonce)
	params := `{"nonce":"` + protocol.Base64(nonce) + `"` + s.cfg.wantEvidence()
	if s.cfg.OuterEra == Modern && !s.legacyPeer {
		params += `,"_meta":` + s.meta
	}
	o, err := s.ask(ctx, protocol.MethodAttest, params+"}")
	if err != nil {
		return nil, err
	}
	sv, kv := jsonrpc.Get(o.Result, "settings"), jsonrpc.Get(o.Result, "key")
	if sv == nil || kv == nil {
		return s.without(protocol.Errorf(protocol.TrustMissing, "the answer to %s has no key and settings", protocol.MethodAttest))
	}
	settings, key, err := parseOffer(sv, kv)
	if err != nil {
		return nil, err
	}
	return s.verify(key, settings, nonce)
}

// ask sends a request of the outer leg, and waits for its answer.
func (s *stdioClient) ask(ctx context.Context, method, params string) (*outer, error) {
	answer := make(chan *outer, 1)
	s.mu.Lock()
	s.ids++
	id := jsonrpc.ID(strconv.FormatUint(s.ids, 10))
	s.asked[id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.asked, id)
		s.mu.Unlock()
	}()
	if err := s.server.write([]byte(`{"jsonrpc":"2.0","id":` + string(id) + `,"method":"` + method + `","params":` + params + `}`)); err != nil {
		return nil, protocol.Errorf(protocol.Unreachable, "%v", err)
	}
	timeout := time.NewTimer(fetchTimeout)
	defer timeout.Stop()
	select {
	case o := <-answer:
		return o, nil
	case <-s.gone:
		return nil, protocol.Errorf(protocol.Unreachable, "the server ended before it answered %s", method)
	case <-timeout.C:
		return nil, protocol.Errorf(protocol.Unreachable, "%s was not answered within %v", method, fetchTimeout)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// down reads what the server says.
func (s *stdioClient) down(context.Context) error {
	err := s.listen()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	close(s.gone)
	for _, c := range s.calls {
		if c.id != "" {
			s.fail(c.id, true, c.call.Close())
		}
	}
	return endOfInput(err)
}

func (s *stdioClient) listen() error {
	for {
		line, err := s.server.next()
		if err != nil {
			return err
		}
		m, err := parseOuter(line, s.cfg.Limits.json())
		if err != nil {
			s.see(Event{Kind: EventRefused, Err: reasonOf(protocol.Errorf(protocol.PlaintextAnswer, "a line that is neither sealed nor JSON-RPC: %v", err))})
			continue
		}
		if err := s.heard(line, m); err != nil {
			return err
		}
	}
}

func (s *stdioClient) heard(line []byte, m *outer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.asked[m.ID]; m.IsResponse() && answer != nil {
		delete(s.asked, m.ID)
		kept, err := parseOuter(bytes.Clone(line), s.cfg.Limits.json()) // line is overwritten by the next
		if err != nil {
			return err
		}
		answer <- kept
		return nil
	}
	if s.link != nil && s.link.client == nil {
		b, err := labelResults(line, unattested)
		if err != nil {
			return protocol.Errorf(protocol.AnswerInvalid, "%v", err)
		}
		return s.client.write(b)
	}
	var c *clientCall
	frame, err := m.takeFrame()
	switch {
	case m.IsResponse():
		c = s.calls[m.ID]
		if m.Result == nil && c != nil {
			delete(s.calls, m.ID)
			delete(s.places, place{c.call.Context(), c.call.Seq()})
			return s.refused(c, m)
		}
	case m.Method == protocol.MethodFrame && err == nil:
		if f, ferr := protocol.InspectFrame(frame); ferr == nil {
			c = s.places[place{f.Context, f.Seq}]
		}
	}
	if c == nil || len(m.frame) == 0 || err != nil {
		s.see(Event{Kind: EventRefused, Method: m.Method, Err: reasonOf(protocol.Errorf(protocol.PlaintextAnswer, "a message that belongs to no sealed call is dropped"))})
		if c == nil {
			return nil
		}
		err = protocol.Errorf(protocol.PlaintextAnswer, "an answer without a frame")
	}
	var content protocol.Content
	var final bool
	if err == nil {
		content, final, err = c.call.Open(frame)
		if err == protocol.ErrRedelivered {
			return nil
		}
	}
	if err == nil && m.IsResponse() != final {
		err = protocol.Errorf(protocol.AnswerOutOfOrder, "a final frame comes in the response, others before it")
	}
	if m.IsResponse() || err != nil {
		s.forget(c)
	}
	if err != nil {
		return s.fail(c.id, c.id != "", err)
	}
	return s.deliver(c, content)
}

// forget takes c off the books. s.mu is held.
func (s *stdioClient) forget(c *clientCall) {
	delete(s.places, place{c.call.Context(), c.call.Seq()})
	for id, other := range s.calls {
		if other == c {
			delete(s.calls, id)
		}
	}
}

// refused seals c afresh where that may help, and else tells the client.
func (s *stdioClient) refused(c *clientCall, m *outer) error {
	e := protocol.ParseError(m.Error)
	if e == nil {
		code := string(jsonrpc.Get(m.Error, "code"))
		e = reasonOf(protocol.Errorf(protocol.UnsealedError, "an error came unsealed (code %.20s); nothing says who made it", code))
	}
	again := s.cfg.sealAgain(e)
	if e.Reason == protocol.UnknownKey && e.KeyObject != nil && !s.cfg.Fresh {
		if l, err := s.verify(e.KeyObject, s.link.client.Peer().Settings(), nil); err == nil {
			s.link, again = l, true
		}
	}
	if again {
		s.see(Event{Kind: EventRetried, Err: e})
		return s.sendSoon(c)
	}
	if e.Reason == protocol.UnknownKey {
		s.link = nil // fetched anew for the next message
	}
	return s.fail(c.id, c.id != "", e)
}

// deliver hands the content of a frame to the client.
func (s *stdioClient) deliver(c *clientCall, content protocol.Content) error {
	if content.Kind != protocol.KindMessage {
		return s.stand()
	}
	m, err := jsonrpc.Parse(content.Body, jsonrpc.Limits{MaxBytes: s.cfg.Limits.message() + 4096, MaxDepth: s.cfg.Limits.MaxDepth})
	if err != nil {
		return s.fail(c.id, c.id != "", protocol.Errorf(protocol.AnswerInvalid, "the answer: %s", shape(err)))
	}
	if m.IsResponse() {
		if m.ID != c.id || c.id == "" {
			return nil // cancelled meanwhile
		}
		if c.method == "initialize" {
			s.revision, _ = jsonrpc.Text(jsonrpc.Get(jsontext.Value(m.Result), "protocolVersion"))
		}
	}
	body, err := labelResults(content.Body, s.link.status())
	if err != nil {
		return s.fail(c.id, c.id != "", protocol.Errorf(protocol.AnswerInvalid, "the answer: %s", shape(err)))
	}
	if err := s.client.write(body); err != nil {
		return err
	}
	return s.stand()
}

// stand opens the standing stream, after the first answer has shown that the
// server opens what is sealed to it. s.mu is held.
func (s *stdioClient) stand() error {
	if s.standing || s.link == nil || s.link.client == nil {
		return nil
	}
	s.standing = true
	c := &clientCall{content: protocol.Content{Kind: protocol.KindGet}}
	if s.revision != "" {
		c.content.Meta.Fields = []protocol.Field{{Name: "mcp-protocol-version", Value: []byte(s.revision)}}
	}
	return s.sendSoon(c)
}
