package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// PumpOptions configures [Pump]. Only URL is required.
type PumpOptions struct {
	URL       string            // the MCP endpoint
	Transport http.RoundTripper // nil: a plain one of Pump's own
	Header    http.Header       // added to each request, such as Authorization
	Limits    jsonrpc.Limits    // of one message, in either direction
	Logger    *slog.Logger      // nil discards
	Drain     time.Duration     // for pending requests once the client's input ends; default 10 seconds
}

const (
	maxParallel   = 128              // requests in flight
	notifyWait    = 30 * time.Second // for the server to take a notification or an answer
	legacyGrace   = 5 * time.Second  // for a cancelled legacy request to be answered anyway
	wroteWait     = time.Second      // for a request to leave before its cancellation follows
	firstRetry    = time.Second      // before a broken stream is resumed, unless the server says
	maxRetry      = 30 * time.Second // between attempts that fail
	endWait       = 5 * time.Second  // for what is under way once Pump ends
	maxAttempts   = 6                // failed attempts in a row to resume an answer
	eventOverhead = 64 << 10         // SSE framing around a message
)

// Pump connects a stdio MCP client, which writes one JSON message a line to in
// and reads them from out, to the Streamable HTTP endpoint at o.URL. Each
// request of the client tells its era. Pump returns nil after in has ended and
// what was pending is answered; ctx ends it at once. A read of in that blocks
// outlives Pump until it returns.
func Pump(ctx context.Context, in io.Reader, out io.Writer, o PumpOptions) error {
	u, err := url.Parse(o.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("bridge: %q is no http or https URL of an MCP endpoint", o.URL)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Drain <= 0 {
		o.Drain = 10 * time.Second
	}
	if o.Transport == nil {
		t := plainTransport()
		defer t.CloseIdleConnections()
		o.Transport = t
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &pump{o: o, log: o.Logger, ctx: ctx, quit: cancel, out: out, pending: map[jsonrpc.ID]*pending{}}
	return p.run(in)
}

func plainTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = maxParallel
	t.DisableCompression = true // it would hold back SSE events
	return t
}

type pump struct {
	o    PumpOptions
	log  *slog.Logger
	ctx  context.Context
	quit context.CancelCauseFunc
	wg   sync.WaitGroup

	outMu sync.Mutex
	out   io.Writer

	tools toolTable

	mu      sync.Mutex
	pending map[jsonrpc.ID]*pending
	session legacySession
	reinit  sync.Mutex // one re-initialization at a time
}

// legacySession is what the handshake of the legacy era leaves.
type legacySession struct {
	generation int                // counts the sessions of this pump
	id         string             // empty: the server keeps no session
	version    string             // negotiated
	initialize []byte             // the client's request, to open the session again
	ready      []byte             // its notifications/initialized
	stopGet    context.CancelFunc // ends the GET stream; nil when there is none
}

// A pending is one request of the client without an answer yet.
type pending struct {
	modern bool
	listen bool
	cancel context.CancelFunc
	wrote  chan struct{} // closed when the request is on its way
	once   sync.Once
}

func (p *pending) sent() { p.once.Do(func() { close(p.wrote) }) }

func (p *pump) run(in io.Reader) error {
	type item struct {
		line []byte
		err  error
	}
	input := make(chan item)
	go func() {
		lr := newLines(in, p.o.Limits.Bytes())
		for {
			line, err := lr.next()
			select {
			case input <- item{line, err}:
			case <-p.ctx.Done():
				return
			}
			var over *oversizeError
			if err != nil && !errors.As(err, &over) {
				return
			}
		}
	}()
	var failed error
loop:
	for {
		select {
		case <-p.ctx.Done():
			break loop
		case it := <-input:
			var over *oversizeError
			switch {
			case errors.As(it.err, &over):
				p.fail(over.id, jsonrpc.CodeInvalidRequest, "the message is too large: "+over.Error(), reasonData("request-too-large"))
			case it.err == io.EOF:
				break loop
			case it.err != nil:
				failed = fmt.Errorf("read from the MCP client: %w", it.err)
				break loop
			default:
				p.line(it.line)
			}
		}
	}
	p.drain()
	p.endSession()
	if err := context.Cause(p.ctx); failed == nil && err != nil {
		failed = err
	}
	p.quit(nil)
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	if !within(done, endWait) && failed == nil { // a write to the client blocks
		failed = errors.New("the MCP client does not read its input")
	}
	return failed
}

// drain waits for pending requests, but not for subscriptions, which don't end.
func (p *pump) drain() {
	p.mu.Lock()
	for _, r := range p.pending {
		if r.listen {
			r.cancel()
		}
	}
	if p.session.stopGet != nil {
		p.session.stopGet()
	}
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	t := time.NewTimer(p.o.Drain)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		p.log.Warn("the MCP client is gone; pending requests are given up")
	case <-p.ctx.Done():
	}
}

// endSession tells the server that the session is over.
func (p *pump) endSession() {
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	if s.id == "" {
		return
	}
	// Also after ctx has ended: the server should not have to wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 2*time.Second)
	defer cancel()
	req, err := p.newRequest(ctx, http.MethodDelete, nil)
	if err != nil {
		return
	}
	req.Header.Set(hdrSession, s.id)
	req.Header.Set(hdrVersion, s.version)
	if resp, err := p.o.Transport.RoundTrip(req); err == nil {
		discard(resp)
	}
}

// line handles one line of the client.
func (p *pump) line(line []byte) {
	msgs, err := jsonrpc.Split(line, p.o.Limits)
	if err != nil {
		code := jsonrpc.CodeParse
		var pe *jsonrpc.ParseError
		if errors.As(err, &pe) {
			code = pe.Code
		}
		p.fail("", code, err.Error(), nil)
		return
	}
	// A batch (2025-03-26) is taken apart: each element is a message of its
	// own in every revision, and its answers may come one by one.
	for _, m := range msgs {
		switch {
		case m.IsRequest():
			p.request(m)
		case m.Method == "notifications/cancelled":
			p.cancelled(m)
		case m.IsNotification():
			// In order: what follows may depend on it.
			p.deliver(m)
			if m.Method == "notifications/initialized" && modernVersion(m) == "" {
				p.initialized(m)
			}
		default:
			p.wg.Add(1)
			go func() {
				defer p.wg.Done()
				p.deliver(m)
			}()
		}
	}
}

// request starts the exchange for one request of the client.
func (p *pump) request(m *jsonrpc.Message) {
	ctx, cancel := context.WithCancel(p.ctx)
	r := &pending{modern: modernVersion(m) != "", listen: m.Method == "subscriptions/listen", cancel: cancel, wrote: make(chan struct{})}
	p.mu.Lock()
	taken, full := p.pending[m.ID] != nil, len(p.pending) >= maxParallel
	if !taken && !full {
		p.pending[m.ID] = r
	}
	p.mu.Unlock()
	switch {
	case taken:
		cancel()
		p.fail(m.ID, jsonrpc.CodeInvalidRequest, "a request with this id is in progress", nil)
		return
	case full:
		cancel()
		p.fail(m.ID, jsonrpc.CodeInternal, fmt.Sprintf("more than %d requests in progress", maxParallel), reasonData("too-many-requests"))
		return
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		defer cancel()
		answer, err := p.exchange(ctx, m, r)
		p.mu.Lock()
		delete(p.pending, m.ID)
		p.mu.Unlock()
		switch {
		case err == nil:
			p.write(answer)
		case ctx.Err() != nil:
			// Cancelled by the client, which expects no answer then, or given
			// up because the client is gone.
		default:
			var he *httpError
			if errors.As(err, &he) && he.answer != nil {
				p.write(rewrite(he.answer, set([]byte(m.ID), "id")))
				return
			}
			var spoken answerer
			if errors.As(err, &spoken) {
				p.write(spoken.Response(m.ID))
				return
			}
			p.fail(m.ID, jsonrpc.CodeInternal, err.Error(), errorData(err))
		}
	}()
}

// An answerer is an error of the transport that knows how a client is told of it,
// such as that of a trust layer.
type answerer interface {
	error
	Response(id jsonrpc.ID) []byte
}

// cancelled handles the client's notifications/cancelled. Modern: closing the
// response stream is the cancellation. Legacy: the notification is, and the
// stream may still bring an answer.
func (p *pump) cancelled(m *jsonrpc.Message) {
	p.mu.Lock()
	r := p.pending[jsonrpc.ID(jsonrpc.Get(m.Params, "requestId"))]
	p.mu.Unlock()
	if r == nil {
		return // answered already
	}
	if r.modern {
		r.cancel()
		return
	}
	within(r.wrote, wroteWait)
	p.deliver(m)
	time.AfterFunc(legacyGrace, r.cancel)
}

// deliver posts a notification, or an answer to a request of the server.
func (p *pump) deliver(m *jsonrpc.Message) {
	ctx, cancel := context.WithTimeout(p.ctx, notifyWait)
	defer cancel()
	if _, err := p.exchange(ctx, m, nil); err != nil && p.ctx.Err() == nil {
		p.log.Warn("the MCP server did not take a message", "method", m.Method, "error", err)
	}
}

// write sends one message to the client.
func (p *pump) write(msg []byte) {
	p.outMu.Lock()
	defer p.outMu.Unlock()
	if _, err := p.out.Write(append(rewrite(msg), '\n')); err != nil {
		p.quit(fmt.Errorf("write to the MCP client: %w", err))
	}
}

func (p *pump) fail(id jsonrpc.ID, code int, msg string, data []byte) {
	p.write(jsonrpc.ErrorResponse(id, code, msg, data))
}

// hide removes tools with invalid x-mcp-header annotations from a modern
// tools/list answer, as MCP requires of HTTP clients, and remembers the rest.
func (p *pump) hide(answer []byte) []byte {
	m, err := jsonrpc.Parse(answer, p.o.Limits)
	if err != nil {
		return answer
	}
	tools := jsonrpc.Get(m.Result, "tools")
	if tools.Kind() != '[' {
		return answer
	}
	kept := []byte{'['}
	hidden := false
	_ = elements(tools, func(tool jsontext.Value) error {
		if _, err := toolMirrors(jsonrpc.Get(tool, "inputSchema")); err != nil {
			hidden = true
			p.log.Warn("a tool is not offered to the client", "tool", string(jsonrpc.Get(tool, "name")), "error", err)
			return nil
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, tool...)
		return nil
	})
	p.tools.learn(m.Result)
	if !hidden {
		return answer
	}
	return rewrite(answer, set(append(kept, ']'), "result", "tools"))
}
