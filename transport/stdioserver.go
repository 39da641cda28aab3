package transport

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

const (
	// maxQueued bounds what a server says on its own before there is a standing
	// stream to say it on.
	maxQueued = 256
	// maxPending bounds the calls in flight on one pipe.
	maxPending = 1024
)

// StdioServer puts trust in front of an MCP server that speaks stdio: client is
// the side where sealed lines come in, server the server's own pipe (In is its
// standard output, Out its standard input). It returns when the server's output
// has ended; calls that were not answered by then get an error, sealed as they
// are. The end of the client's input closes the server's. Only the envelope
// carrier works over stdio: cfg.Carriers and cfg.Trust must offer no other, and
// by default no other is offered.
func StdioServer(ctx context.Context, client, server Pipe, cfg ServerConfig) error {
	if cfg.Trust == nil && cfg.Carriers == nil {
		cfg.Carriers = []protocol.Carrier{protocol.Envelope}
	}
	if err := onlyEnvelope("ServerConfig.Carriers", cfg.Carriers); cfg.Trust == nil && err != nil {
		return err
	}
	if cfg.Trust != nil {
		if err := onlyEnvelope("ServerConfig.Trust", cfg.Trust.Settings().Offer().Carriers); err != nil {
			return err
		}
	}
	// The handler does what does not depend on the wire; what it would ask of a
	// server behind it goes to the pipe.
	front, err := Handler(http.NotFoundHandler(), cfg)
	if err != nil {
		return err
	}
	h := front.(*handler)
	max := h.limits.outer()
	s := &stdioServer{h: h, client: newLines(client, max), server: newLines(server, max),
		calls: map[jsonrpc.ID]*stdioCall{}, plain: map[jsonrpc.ID]string{}}
	return whileOpen(ctx, client, server, s.up, s.down)
}

type stdioServer struct {
	h              *handler
	client, server *lines
	opening        bool // a trust layer's initialize was answered; only up uses it

	mu       sync.Mutex
	calls    map[jsonrpc.ID]*stdioCall // by the inner request's id
	standing *stdioCall                // answers go out as events of the "get" call
	queue    [][]byte
	plain    map[jsonrpc.ID]string // plaintext requests in flight (preferred mode), and their methods
	sealed   bool                  // the client has sealed something
	over     bool                  // the server's output has ended
}

// onlyEnvelope refuses carriers that stdio can't keep the promise of.
func onlyEnvelope(where string, carriers []protocol.Carrier) error {
	if len(carriers) != 1 || carriers[0] != protocol.Envelope {
		return fmt.Errorf("transport: %s offers the carriers %v, and over stdio there is only envelope; offer that alone", where, carriers)
	}
	return nil
}

// stdioCall is a sealed message that is not answered yet. s.mu guards it.
type stdioCall struct {
	req   *protocol.Request
	outer jsonrpc.ID
	token jsontext.Value // its progressToken, or nil
}

// up reads what the client sends.
func (s *stdioServer) up(context.Context) error {
	for {
		line, err := s.client.next()
		if err == errLongLine {
			if err = s.refuse("", err); err == nil {
				continue
			}
		}
		if err != nil {
			return endOfInput(err)
		}
		m, err := parseOuter(line, s.h.limits.json())
		switch {
		case err != nil && s.h.mode == protocol.ModePreferred && s.h.ask == nil:
			err = s.server.write(line)
		case err != nil:
			bad := err.(*jsonrpc.ParseError)
			err = s.client.write(jsonrpc.ErrorResponse("", bad.Code, bad.Error(), nil))
		case m.Method == protocol.MethodCall && m.IsRequest():
			err = s.call(m)
		case s.ours(m):
			err = s.answerSelf(line, m)
		case s.h.mode == protocol.ModePreferred && m.Method != protocol.MethodAttest:
			err = s.pass(line, m)
		default:
			err = s.answerSelf(line, m)
		}
		if err != nil {
			return endOfInput(err)
		}
	}
}

// ours reports whether a plaintext message opens the outer leg of a client's
// trust layer. The server's own conversation is opened inside the seal, once.
func (s *stdioServer) ours(m *outer) bool {
	if fromTrustLayer(m) {
		s.opening = m.Method == "initialize"
		return true
	}
	if m.Method == "notifications/initialized" && s.opening {
		s.opening = false
		return true
	}
	return false
}

// answerSelf answers what the trust layer answers by itself, and refuses the
// rest. The rules are those of HTTP, so HTTP's code applies them.
func (s *stdioServer) answerSelf(line []byte, m *outer) error {
	r, err := http.NewRequest(http.MethodPost, "/", bytes.NewReader(line))
	if err != nil {
		return err
	}
	if v := m.version; v != "" {
		r.Header[headerVersion], r.Header[headerMethod] = []string{v}, []string{m.Method}
	}
	rec := newRecorder(s.h.limits.outer())
	s.h.ServeHTTP(rec, r)
	if len(rec.body) == 0 || m.IsNotification() {
		return nil
	}
	return s.client.write(rec.body)
}

// pass hands plaintext on (preferred mode).
func (s *stdioServer) pass(line []byte, m *outer) error {
	if s.h.ask != nil {
		// Of m a frame may have been cut out, which the server would read.
		whole, err := jsonrpc.Parse(line, s.h.limits.json())
		if err != nil {
			bad := err.(*jsonrpc.ParseError)
			return s.client.write(jsonrpc.ErrorResponse("", bad.Code, bad.Error(), nil))
		}
		plain := &Call{}
		plain.describe(whole)
		if err := s.authorize(nil, plain); err != nil {
			if !m.IsRequest() {
				return nil
			}
			return s.client.write(err.Response(m.ID))
		}
	}
	s.h.see(Event{Kind: EventPlaintext, Method: m.Method})
	if m.IsRequest() {
		s.mu.Lock()
		full := len(s.plain) >= maxPending
		if !full {
			s.plain[m.ID] = m.Method
			if m.Method == "server/discover" && m.announced != nil {
				s.plain[m.ID] = "server/discover+"
			}
		}
		s.mu.Unlock()
		if full {
			return s.refuse(m.ID, protocol.Errorf(protocol.Busy, "%d requests are in flight", maxPending))
		}
	}
	return s.server.write(line)
}

func (s *stdioServer) refuse(id jsonrpc.ID, err error) error {
	e := reasonOf(err)
	s.h.see(Event{Kind: EventRefused, Err: e, Method: protocol.MethodCall})
	return s.client.write(e.Response(id))
}

// call opens a sealed message and hands it to the server.
func (s *stdioServer) call(m *outer) error {
	outerID := jsonrpc.ID(strings.Clone(string(m.ID)))
	frame, err := m.takeFrame()
	var req *protocol.Request
	if err == nil {
		req, err = s.h.trust.Open(frame, protocol.Outer{Carrier: protocol.Envelope}, s.h.clock())
	}
	if err == nil {
		err = s.h.checkAnnounced(m, req)
	}
	if err == nil {
		err = s.h.checkSize(req)
	}
	if err != nil {
		return s.refuse(outerID, err)
	}
	s.h.see(Event{Kind: EventOpened, Carrier: protocol.Envelope, Context: req.Context, Seq: req.Seq, Method: m.Method})
	c := &stdioCall{req: req, outer: outerID}
	if answered, err := s.judge(c); answered || err != nil {
		return err
	}
	forward, err := s.admit(c)
	if err != nil || !forward {
		return err
	}
	// Not under the lock: a server that writes before it reads would be waiting
	// for its output to be taken.
	return s.server.write(req.Content.Body)
}

// admit books an opened message, or answers it, and reports whether it goes on
// to the server.
func (s *stdioServer) admit(c *stdioCall) (forward bool, err error) {
	req := c.req
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
	switch req.Content.Kind {
	case protocol.KindGet:
		return false, s.stand(c)
	case protocol.KindDelete:
		return false, s.end(c, http.StatusOK)
	}
	in, err := jsonrpc.Parse(req.Content.Body, jsonrpc.Limits{MaxBytes: s.h.limits.message(), MaxDepth: s.h.limits.MaxDepth})
	if err != nil {
		bad := err.(*jsonrpc.ParseError)
		return false, s.seal(c, jsonrpc.ErrorResponse("", bad.Code, bad.Error(), nil), true)
	}
	if !in.IsRequest() {
		if in.Method == "notifications/cancelled" {
			s.cancel(in)
		}
		return true, s.end(c, http.StatusAccepted)
	}
	switch {
	case s.over:
		return false, s.seal(c, gone(in.ID), true)
	case s.calls[in.ID] != nil:
		return false, s.seal(c, jsonrpc.ErrorResponse(in.ID, jsonrpc.CodeInvalidRequest, "a request with this id is in flight", nil), true)
	case len(s.calls) >= maxPending:
		return false, s.seal(c, reasonOf(protocol.Errorf(protocol.Busy, "%d requests are in flight", maxPending)).Response(in.ID), true)
	}
	c.token = jsonrpc.Get(in.Params, "_meta", "progressToken")
	s.calls[in.ID] = c
	return true, nil
}

// judge asks whether the server may get what was opened, and answers it when not.
func (s *stdioServer) judge(c *stdioCall) (answered bool, err error) {
	content := &c.req.Content
	if s.h.ask == nil {
		return false, nil
	}
	call := &Call{Kind: CallEnd}
	if content.Kind == protocol.KindGet {
		call.Kind = CallStream
	}
	in := &jsonrpc.Message{}
	if content.Kind == protocol.KindMessage {
		if in, err = jsonrpc.Parse(content.Body, jsonrpc.Limits{MaxBytes: s.h.limits.message(), MaxDepth: s.h.limits.MaxDepth}); err != nil {
			return false, nil // admit says what is wrong with it
		}
		call.describe(in)
	}
	denial := s.authorize(c.req, call)
	if denial == nil {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
	switch {
	case in.IsRequest():
		return true, s.seal(c, denial.Response(in.ID), true)
	case content.Kind == protocol.KindMessage:
		return true, s.end(c, http.StatusAccepted)
	}
	return true, s.end(c, http.StatusForbidden)
}

// authorize asks whether the server may get a message; req is nil for plaintext.
func (s *stdioServer) authorize(req *protocol.Request, c *Call) *protocol.Error {
	if s.h.ask == nil {
		return nil
	}
	c.Party = Party{Role: protocol.RoleClient}
	if req != nil {
		c.Party, c.Carrier, c.Revision = partyOf(protocol.RoleClient, req.Client), req.Outer.Carrier, req.Revision
	}
	if err := s.h.ask.judge(context.Background(), c); err != nil {
		e := denied(err)
		s.h.see(Event{Kind: EventRefused, Carrier: c.Carrier, Err: e})
		return e
	}
	return nil
}

// cancel ends the answer of a request that the client gave up: the server will
// not answer it.
func (s *stdioServer) cancel(m *jsonrpc.Message) {
	id := jsonrpc.ID(jsonrpc.Get(m.Params, "requestId"))
	if c := s.calls[id]; c != nil {
		delete(s.calls, id)
		s.end(c, 0)
	}
}

// stand makes c the standing stream, and says on it what has waited.
func (s *stdioServer) stand(c *stdioCall) error {
	if old := s.standing; old != nil {
		s.standing = nil
		if err := s.end(old, 0); err != nil {
			return err
		}
	}
	s.standing = c
	queue := s.queue
	s.queue = nil
	for _, line := range queue {
		if err := s.seal(c, line, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *stdioServer) end(c *stdioCall, status int) error {
	return s.put(c, protocol.Content{Kind: protocol.KindEnd, Meta: protocol.Meta{Status: status}}, true)
}

func (s *stdioServer) seal(c *stdioCall, body []byte, final bool) error {
	return s.put(c, protocol.Content{Kind: protocol.KindMessage, Body: body}, final)
}

func (s *stdioServer) put(c *stdioCall, content protocol.Content, final bool) error {
	sealed, err := c.req.Seal(nil, content, final)
	if err != nil {
		return err
	}
	b := make([]byte, 0, b64.EncodedLen(len(sealed))+128)
	if final {
		b = append(append(append(b, `{"jsonrpc":"2.0","id":`...), c.outer...), `,"result":{"resultType":"complete","frame":"`...)
		s.h.see(Event{Kind: EventAnswered, Carrier: protocol.Envelope, Context: c.req.Context, Seq: c.req.Seq})
	} else {
		b = append(b, `{"jsonrpc":"2.0","method":"`+protocol.MethodFrame+`","params":{"frame":"`...)
	}
	return s.client.write(append(b64.AppendEncode(b, sealed), `"}}`...))
}

// down reads what the server says, and in the end answers what it left open.
func (s *stdioServer) down(context.Context) error {
	for {
		line, err := s.server.next()
		if err != nil {
			s.leave()
			return endOfInput(err)
		}
		if err := s.said(line); err != nil {
			return endOfInput(err)
		}
	}
}

// leaveTime bounds the wait for a client that does not read its last answers.
const leaveTime = 5 * time.Second

// leave answers all open calls with an error, since the server has ended.
//
// TMCP-13.2-4: A server's trust layer MUST answer all open calls with an error when the inner server ends.
func (s *stdioServer) leave() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		for id, c := range s.calls {
			delete(s.calls, id)
			if s.seal(c, gone(id), true) != nil {
				return // the client is gone too
			}
		}
		for id := range s.plain {
			delete(s.plain, id)
			if s.client.write(gone(id)) != nil {
				return
			}
		}
		if c := s.standing; c != nil {
			s.standing = nil
			s.end(c, 0)
		}
	}()
	timeout := time.NewTimer(leaveTime)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C: // the pipes are closed next, which ends the write
	}
}

// gone is the error that answers a request which the server did not live to answer.
func gone(id jsonrpc.ID) []byte {
	return jsonrpc.ErrorResponse(id, jsonrpc.CodeInternal, "the server ended before it answered", nil)
}

func (s *stdioServer) said(line []byte) error {
	m, err := jsonrpc.Parse(line, jsonrpc.Limits{MaxBytes: s.h.limits.outer(), MaxDepth: s.h.limits.MaxDepth})
	if err != nil {
		s.h.see(Event{Kind: EventRefused, Err: reasonOf(protocol.Errorf(protocol.MalformedContent, "a line of the server is no message: %v", err))})
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.IsResponse() {
		if c := s.calls[m.ID]; c != nil {
			delete(s.calls, m.ID)
			return s.seal(c, line, true)
		}
		if method, ok := s.plain[m.ID]; ok {
			delete(s.plain, m.ID)
			return s.answerPlain(line, m, method)
		}
		return nil // to a request that was cancelled
	}
	if c := s.callOf(m); c != nil {
		return s.seal(c, line, false)
	}
	switch {
	case s.standing != nil:
		return s.seal(s.standing, line, false)
	case s.h.mode == protocol.ModePreferred && !s.sealed:
		return s.client.write(line)
	case len(s.queue) < maxQueued:
		s.queue = append(s.queue, bytes.Clone(line))
		return nil
	}
	s.h.see(Event{Kind: EventRefused, Err: reasonOf(protocol.Errorf(protocol.Busy, "the server said more than %d things before the client listened; %.100q is dropped", maxQueued, m.Method))})
	return nil
}

// callOf is the call that a notification belongs to, or nil.
func (s *stdioServer) callOf(m *jsonrpc.Message) *stdioCall {
	if !m.IsNotification() {
		return nil
	}
	if id := jsonrpc.Get(m.Params, "_meta", "io.modelcontextprotocol/subscriptionId"); id != nil {
		return s.calls[jsonrpc.ID(id)]
	}
	if m.Method != "notifications/progress" {
		return nil
	}
	token := jsonrpc.Get(m.Params, "progressToken")
	for _, c := range s.calls {
		if c.token != nil && bytes.Equal(c.token, token) {
			return c
		}
	}
	return nil
}

// answerPlain passes an answer on, with the offer of trust where it belongs.
func (s *stdioServer) answerPlain(line []byte, m *jsonrpc.Message, method string) error {
	name := strings.TrimSuffix(method, "+")
	if m.Result == nil && name != method {
		rec := newRecorder(s.h.limits.outer())
		s.h.answerDiscover(rec, &outer{Message: m}) // a server of the older era
		return s.client.write(rec.body)
	}
	if m.Result == nil || name != "server/discover" && name != "initialize" {
		return s.client.write(line)
	}
	offer, err := s.h.offer(name, m.Result)
	if err != nil {
		return s.refuse(m.ID, err)
	}
	return s.client.write(jsonrpc.Response(m.ID, offer))
}
