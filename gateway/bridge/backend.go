package bridge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A backend is one child process and the table that says whose each of its
// messages is. Everything a client chose (request ids, progress tokens) is
// replaced by numbers of the backend's own on the way in and restored on the
// way out, so clients that share a child can't collide or reach each other.
type backend struct {
	srv    *StdioServer
	modern bool // serves requests of the modern era, which know no sessions
	proc   *process
	tools  toolTable

	stopping atomic.Bool  // we end it; it doesn't die
	era      atomic.Int32 // what a stateless one speaks; see learn

	mu       sync.Mutex
	last     int64
	calls    map[int64]*call
	asked    map[jsonrpc.ID]*session // requests of the child, and who was asked
	sessions map[*session]bool
	dead     error
}

// A call is one request at the child.
type call struct {
	id       int64 // at the child
	clientID jsonrpc.ID
	method   string
	token    jsontext.Value // the client's progressToken, or nil
	wantsLog bool           // modern: it asked for log messages
	stream   *stream
	sess     *session // legacy only
	timer    *time.Timer
	onAnswer func(*jsonrpc.Message) // before the answer is passed on, or nil
}

const (
	maxAsked     = 1024             // requests of one child that await a client's answer
	discoverWait = 30 * time.Second // for a child to answer server/discover; npx may have to install it first
)

func (s *StdioServer) startBackend(modern bool) (*backend, error) {
	if err := s.starts.allow(time.Now()); err != nil {
		return nil, err
	}
	be := &backend{
		srv: s, modern: modern,
		calls: map[int64]*call{}, asked: map[jsonrpc.ID]*session{}, sessions: map[*session]bool{},
	}
	began := time.Now()
	ended := func(why error) {
		if !be.stopping.Load() {
			s.starts.ended(began, time.Now(), why)
		}
	}
	ready := make(chan struct{}) // the reader must not see be.proc unset
	proc, err := startProcess(&s.o, func(line []byte, err error) {
		<-ready
		be.receive(line, err)
	})
	if err != nil {
		ended(err)
		return nil, err
	}
	be.proc = proc
	close(ready)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		<-proc.gone
		ended(proc.err)
		be.died(proc.err)
		<-proc.done
	}()
	return be, nil
}

// died answers everything that the child leaves open, naming the child.
func (be *backend) died(why error) {
	be.mu.Lock()
	be.dead = why
	calls, sessions := be.calls, be.sessions
	be.calls, be.sessions = map[int64]*call{}, map[*session]bool{}
	be.asked = map[jsonrpc.ID]*session{}
	be.mu.Unlock()
	for _, c := range calls {
		c.finish(c.failure(jsonrpc.CodeInternal, why.Error(), "command-ended"))
	}
	for sess := range sessions {
		be.srv.endSession(sess, why)
	}
	be.srv.backendGone(be)
}

// close ends the child and waits for it.
func (be *backend) close() {
	be.stopping.Store(true)
	be.proc.close()
}

// finish passes the answer on and forgets the call. The caller has taken the
// call out of be.calls.
func (c *call) finish(answer []byte) {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.sess != nil {
		c.sess.done(c)
	}
	c.stream.push(answer, true)
}

// failure builds an error answer of the bridge's own.
func (c *call) failure(code int, msg, reason string) []byte {
	c.stream.setCode(code)
	return jsonrpc.ErrorResponse(c.clientID, code, msg, reasonData(reason))
}

// start sends a client's request to the child; its messages go to st.
func (be *backend) start(ctx context.Context, m *jsonrpc.Message, c *call) error {
	c.clientID, c.method = m.ID, m.Method
	meta := jsonrpc.Get(m.Params, "_meta")
	if tok := jsonrpc.Get(meta, "progressToken"); tok.Kind() == '"' || tok.Kind() == '0' {
		c.token = tok
	}
	c.wantsLog = jsonrpc.Get(meta, metaLogLevel) != nil

	be.mu.Lock()
	if be.dead != nil {
		be.mu.Unlock()
		return be.dead
	}
	be.last++
	c.id = be.last
	num := strconv.AppendInt(nil, c.id, 10)
	if d, code := be.srv.o.RequestTimeout, jsonrpc.CodeInternal; m.Method != "subscriptions/listen" {
		if m.Method == "server/discover" {
			// A legacy command may stay silent ("does not respond within a
			// reasonable timeout: the server is legacy"); a client that speaks
			// both eras must get to know.
			d, code = min(d, discoverWait), jsonrpc.CodeMethodNotFound
		}
		c.timer = time.AfterFunc(d, func() {
			be.cancel(c, "no answer in time", c.failure(code,
				fmt.Sprintf("the MCP server command did not answer %s within %v", c.method, d), "command-timeout"))
		})
	}
	be.calls[c.id] = c
	be.mu.Unlock()

	edits := []edit{set(num, "id")}
	if c.token != nil {
		edits = append(edits, set(num, "params", "_meta", "progressToken"))
	}
	if err := be.proc.send(ctx, rewrite(m.Raw, edits...)); err != nil {
		if be.take(c.id) != nil {
			if c.timer != nil {
				c.timer.Stop()
			}
			return err
		}
	}
	return nil
}

// take removes a call from the table; whoever gets it non-nil must finish it.
func (be *backend) take(id int64) *call {
	be.mu.Lock()
	defer be.mu.Unlock()
	c := be.calls[id]
	delete(be.calls, id)
	return c
}

// cancel tells the child to stop working on c and finishes it with answer;
// nil when nobody listens any more.
func (be *backend) cancel(c *call, why string, answer []byte) {
	if be.take(c.id) == nil {
		return
	}
	be.post(cancelled(strconv.FormatInt(c.id, 10), why))
	if answer == nil {
		if c.timer != nil {
			c.timer.Stop()
		}
		c.stream.fail(context.Canceled)
		return
	}
	c.finish(answer)
}

func cancelled(id, why string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":%s}}`, id, jsonrpc.Quote(why))
}

// post queues a message of the bridge's own, without waiting.
func (be *backend) post(line []byte) {
	if !be.proc.try(line) {
		be.srv.log.Warn("the MCP server command does not read its stdin; a message was dropped", "message", clip(line))
	}
}

// receive routes one line of the child's stdout.
func (be *backend) receive(line []byte, err error) {
	var over *oversizeError
	if errors.As(err, &over) {
		be.srv.log.Warn("the MCP server command wrote a line over the limit; it was skipped", "error", err)
		if n, err := strconv.ParseInt(string(over.id), 10, 64); err == nil {
			if c := be.take(n); c != nil {
				c.finish(c.failure(jsonrpc.CodeInternal,
					fmt.Sprintf("the MCP server command answered with %d bytes, the limit is %d", over.bytes, over.max), "answer-too-large"))
			}
		}
		return
	}
	msgs, err := jsonrpc.Split(line, be.srv.o.Limits) // 2025-03-26 servers may write batches
	if err != nil {
		be.srv.log.Warn("the MCP server command wrote a line to stdout that is no JSON-RPC message; it was ignored", "line", clip(line), "error", err)
		return
	}
	for _, m := range msgs {
		switch {
		case m.IsResponse():
			be.answer(m)
		case m.IsRequest():
			be.ask(m)
		default:
			be.notify(m)
		}
	}
}

func (be *backend) answer(m *jsonrpc.Message) {
	n, err := strconv.ParseInt(string(m.ID), 10, 64)
	var c *call
	if err == nil {
		c = be.take(n)
	}
	if c == nil {
		be.srv.log.Debug("the MCP server command answered a request that is not pending", "id", m.ID)
		return
	}
	if be.modern && c.method == "server/discover" {
		be.learn(m)
	}
	if c.onAnswer != nil {
		c.onAnswer(m)
	}
	if m.Error != nil {
		code, _ := strconv.Atoi(string(jsonrpc.Get(m.Error, "code")))
		c.stream.setCode(code)
	} else if c.method == "tools/list" {
		be.tools.learn(m.Result)
	}
	c.finish(rewrite(m.Raw, set([]byte(c.clientID), "id"),
		set([]byte(c.clientID), "result", "_meta", metaSubscription)))
}

// ask routes a request of the child to the client it is meant for.
func (be *backend) ask(m *jsonrpc.Message) {
	refuse := func(code int, why string) {
		be.srv.log.Warn("a request of the MCP server command can't be delivered", "method", m.Method, "why", why)
		be.post(jsonrpc.ErrorResponse(m.ID, code, why, nil))
	}
	if be.modern {
		// 2026-07-28, stdio: "The server MUST NOT write JSON-RPC requests to stdout."
		refuse(jsonrpc.CodeMethodNotFound, "servers send no requests in this protocol revision")
		return
	}
	be.mu.Lock()
	sess := be.soleSession()
	full := len(be.asked) >= maxAsked
	if sess != nil && !full {
		be.asked[m.ID] = sess
	}
	be.mu.Unlock()
	switch {
	case full:
		refuse(jsonrpc.CodeInternal, "too many requests await an answer")
	case sess == nil:
		refuse(jsonrpc.CodeInternal, "it can't be told which of the clients sharing this server is meant")
	case !sess.route(true).push(rewrite(m.Raw), false):
		be.mu.Lock()
		delete(be.asked, m.ID)
		be.mu.Unlock()
		refuse(jsonrpc.CodeInternal, "the client does not take messages")
	}
}

// soleSession is the one session that an unaddressed message of the child can
// be meant for: the only one, or the only one with a request in flight. be.mu
// is held.
func (be *backend) soleSession() *session {
	var only *session
	for s := range be.sessions {
		if only != nil {
			only = nil
			break
		}
		only = s
	}
	if only != nil {
		return only
	}
	for _, c := range be.calls {
		if c.sess != nil && c.sess != only {
			if only != nil {
				return nil
			}
			only = c.sess
		}
	}
	return only
}

// notify routes a notification of the child.
func (be *backend) notify(m *jsonrpc.Message) {
	drop := func(why string) {
		be.srv.log.Debug("a notification of the MCP server command was dropped", "method", m.Method, "why", why)
	}
	if m.Method == "notifications/progress" {
		c := be.callAt(jsonrpc.Get(m.Params, "progressToken"))
		if c == nil || c.token == nil {
			drop("its progressToken belongs to no pending request")
			return
		}
		be.deliver(c, rewrite(m.Raw, set(c.token, "params", "progressToken")))
		return
	}
	if id := jsonrpc.Get(m.Params, "_meta", metaSubscription); id != nil {
		c := be.callAt(id)
		if c == nil {
			drop("its subscriptionId belongs to no pending request")
			return
		}
		be.deliver(c, rewrite(m.Raw, set([]byte(c.clientID), "params", "_meta", metaSubscription),
			set([]byte(c.clientID), "params", "requestId")))
		if m.Method == "notifications/cancelled" {
			be.tornDown(c)
		}
		return
	}
	if m.Method == "notifications/cancelled" {
		be.childCancels(m)
		return
	}
	if be.modern {
		be.notifyModern(m, drop)
		return
	}
	be.mu.Lock()
	var to []*session
	if sess := be.soleSession(); sess != nil {
		to = append(to, sess)
	} else {
		to = be.audience(m)
	}
	be.mu.Unlock()
	if len(to) == 0 {
		drop("it can't be told which of the clients sharing this server is meant")
	}
	line := rewrite(m.Raw)
	for _, sess := range to {
		sess.route(m.Method == "notifications/message").push(line, false)
	}
}

// audience is who of several sessions may see an unaddressed notification:
// all for changes of the lists, which all share, and subscribers for updates
// of a resource. be.mu is held.
func (be *backend) audience(m *jsonrpc.Message) []*session {
	var to []*session
	switch m.Method {
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed":
		for s := range be.sessions {
			to = append(to, s)
		}
	case "notifications/resources/updated":
		uri, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "uri"))
		for s := range be.sessions {
			if s.subscribed(uri) {
				to = append(to, s)
			}
		}
	}
	return to
}

// notifyModern delivers a notification without an address. Log messages belong
// to the request that asked for them, but stdio doesn't say which; with more
// than one candidate the message would reach a stranger, so it is dropped.
func (be *backend) notifyModern(m *jsonrpc.Message, drop func(string)) {
	be.mu.Lock()
	var only *call
	n := 0
	for _, c := range be.calls {
		if c.method != "subscriptions/listen" && (c.wantsLog || m.Method != "notifications/message") {
			only = c
			n++
		}
	}
	be.mu.Unlock()
	if n != 1 {
		drop(fmt.Sprintf("it names no request, and %d may be meant", n))
		return
	}
	be.deliver(only, rewrite(m.Raw))
}

// childCancels handles notifications/cancelled from the child: of its own
// request (legacy), or of a subscription that it tears down (modern).
func (be *backend) childCancels(m *jsonrpc.Message) {
	id := jsonrpc.Get(m.Params, "requestId")
	if be.modern {
		if c := be.callAt(id); c != nil && c.method == "subscriptions/listen" {
			be.deliver(c, rewrite(m.Raw, set([]byte(c.clientID), "params", "requestId")))
			be.tornDown(c)
		}
		return
	}
	be.mu.Lock()
	sess := be.asked[jsonrpc.ID(id)]
	delete(be.asked, jsonrpc.ID(id))
	be.mu.Unlock()
	if sess != nil {
		sess.route(true).push(rewrite(m.Raw), false)
	}
}

// tornDown ends the stream of a subscription that the child cancelled. The
// child may still send the graceful result; it gets a moment for that.
func (be *backend) tornDown(c *call) {
	time.AfterFunc(tearDownWait, func() {
		if be.take(c.id) != nil {
			c.stream.fail(errDone)
		}
	})
}

const tearDownWait = 500 * time.Millisecond

func (be *backend) callAt(id jsontext.Value) *call {
	n, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return nil
	}
	be.mu.Lock()
	defer be.mu.Unlock()
	return be.calls[n]
}

func (be *backend) deliver(c *call, msg []byte) {
	if !c.stream.push(msg, false) && c.sess == nil {
		be.cancel(c, errOverflow.Error(), nil)
	}
}

// clip shortens text for a log record.
func clip(b []byte) string {
	const most = 200
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

func reasonData(reason string) []byte {
	return fmt.Appendf(nil, `{"reason":%s}`, jsonrpc.Quote(reason))
}
