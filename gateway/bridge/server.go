package bridge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// StdioOptions configures [NewStdioServer]. Only Command is required.
type StdioOptions struct {
	Command []string  // the stdio MCP server: program and arguments
	Env     []string  // added to this process's environment, "KEY=value"
	Dir     string    // working directory; default this process's
	Stderr  io.Writer // receives the command's stderr; nil discards it

	// ShareSessions runs all legacy sessions on one child. By default each has
	// a child of its own, which is what a stdio server is written for: it
	// believes that it has one client. A shared child decides itself whether
	// it takes a second initialize (many SDKs refuse), and its messages that
	// name no request reach a client only if just one can be meant. Requests
	// of the modern era always share one child, since each stands alone.
	ShareSessions bool

	Guard  Guard
	Limits jsonrpc.Limits // of one message, in either direction
	Logger *slog.Logger   // what the command does wrong; nil discards it

	MaxSessions    int           // legacy sessions at a time; default 64
	SessionIdle    time.Duration // a session without any request ends after it; default 30 minutes
	RequestTimeout time.Duration // bounds each request but subscriptions/listen; default 1 hour
	KeepAlive      time.Duration // between comments on quiet streams; default 15 seconds
	Grace          time.Duration // for the command to end by itself, before SIGTERM and again before SIGKILL; default 3 seconds
}

// A StdioServer serves an unmodified stdio MCP server as Streamable HTTP, both
// eras at one endpoint: mount it at any path. Close it to end the command.
type StdioServer struct {
	o   StdioOptions
	log *slog.Logger

	starts restarter
	wg     sync.WaitGroup // child watchers and closers

	mu       sync.Mutex
	closed   bool
	sessions map[string]*session
	opening  int      // sessions about to be added
	stateful *backend // shared by legacy sessions, with ShareSessions
	modern   *backend
}

// NewStdioServer checks the options. The command starts with the first request
// that needs it.
func NewStdioServer(o StdioOptions) (*StdioServer, error) {
	if len(o.Command) == 0 || o.Command[0] == "" {
		return nil, errors.New("bridge: no server command given; say which program to run")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.SessionIdle, 30*time.Minute)
	def(&o.RequestTimeout, time.Hour)
	def(&o.KeepAlive, 15*time.Second)
	def(&o.Grace, 3*time.Second)
	if o.MaxSessions <= 0 {
		o.MaxSessions = 64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &StdioServer{o: o, log: o.Logger, sessions: map[string]*session{}}, nil
}

// streamBytes is what a stream may hold for a slow or lost client.
func (s *StdioServer) streamBytes() int { return 2 * s.o.Limits.Bytes() }

// Close ends all sessions and the command's processes, and waits for them.
func (s *StdioServer) Close() error {
	s.mu.Lock()
	s.closed = true
	var all []*session
	for _, sess := range s.sessions {
		all = append(all, sess)
	}
	modern := s.modern
	s.mu.Unlock()
	for _, sess := range all {
		s.endSession(sess, errShutdown)
	}
	if modern != nil {
		modern.close()
	}
	s.wg.Wait()
	return nil
}

var errTooMany = errors.New("too many sessions; try again later")

// openSession starts a session, with a child of its own or on the shared one.
func (s *StdioServer) openSession() (*session, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errShutdown
	}
	if len(s.sessions)+s.opening >= s.o.MaxSessions {
		oldest := s.longestUnused()
		s.mu.Unlock()
		if oldest == nil {
			return nil, errTooMany
		}
		s.endSession(oldest, errSessionIdle)
		s.mu.Lock()
		if len(s.sessions)+s.opening >= s.o.MaxSessions || s.closed {
			s.mu.Unlock()
			return nil, errTooMany
		}
	}
	s.opening++
	defer func() { // with s.mu held
		s.opening--
		s.mu.Unlock()
	}()
	var be *backend
	var err error
	if s.o.ShareSessions {
		if be = s.stateful; be == nil {
			if be, err = s.startBackend(false); err == nil {
				s.stateful = be
			}
		}
	} else {
		be, err = s.startBackend(false)
	}
	if err != nil {
		return nil, err
	}
	sess := newSession(s, be)
	be.mu.Lock()
	dead := be.dead
	if dead == nil {
		be.sessions[sess] = true
	}
	be.mu.Unlock()
	if dead != nil {
		sess.end(dead)
		return nil, dead
	}
	s.sessions[sess.id] = sess
	return sess, nil
}

func (s *StdioServer) longestUnused() *session {
	var oldest *session
	var since time.Time
	for _, sess := range s.sessions {
		if t, ok := sess.unused(); ok && (oldest == nil || t.Before(since)) {
			oldest, since = sess, t
		}
	}
	return oldest
}

func (s *StdioServer) session(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

func (s *StdioServer) expire(sess *session) {
	if _, unused := sess.unused(); !unused {
		sess.idle.Reset(s.o.SessionIdle)
		return
	}
	s.endSession(sess, errSessionIdle)
}

// endSession ends sess once, and its child when nobody else uses it.
func (s *StdioServer) endSession(sess *session, why error) {
	s.mu.Lock()
	known := s.sessions[sess.id] == sess
	delete(s.sessions, sess.id)
	be := sess.be
	be.mu.Lock()
	delete(be.sessions, sess)
	for id, to := range be.asked {
		if to == sess {
			delete(be.asked, id)
			be.post(jsonrpc.ErrorResponse(id, jsonrpc.CodeInternal, "the client is gone: "+why.Error(), nil))
		}
	}
	last := len(be.sessions) == 0
	be.mu.Unlock()
	if last && s.stateful == be {
		s.stateful = nil // a used child does not take another initialize
	}
	if known && last {
		s.wg.Add(1)
	}
	s.mu.Unlock()
	for _, c := range sess.end(why) {
		c.stream.fail(why)
		be.cancel(c, why.Error(), nil)
	}
	if known && last {
		go func() {
			defer s.wg.Done()
			be.close()
		}()
	}
}

// backendGone forgets a child that died, so that the next request starts one.
func (s *StdioServer) backendGone(be *backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.modern == be {
		s.modern = nil
	}
	if s.stateful == be {
		s.stateful = nil
	}
}

// stateless returns the child that serves the modern era.
func (s *StdioServer) stateless() (*backend, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errShutdown
	}
	if s.modern == nil {
		be, err := s.startBackend(true)
		if err != nil {
			return nil, err
		}
		s.modern = be
	}
	return s.modern, nil
}

// ServeHTTP implements [http.Handler].
func (s *StdioServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.o.Guard.Check(r); err != nil {
		writeError(w, http.StatusForbidden, "", jsonrpc.CodeInvalidRequest, err.Error(), nil)
		return
	}
	switch r.Method {
	case http.MethodPost:
		s.servePost(w, r)
	case http.MethodGet, http.MethodDelete:
		s.serveSessionMethod(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		writeError(w, http.StatusMethodNotAllowed, "", jsonrpc.CodeInvalidRequest, "method "+r.Method+" is not part of MCP's HTTP transport", nil)
	}
}

// serveSessionMethod serves GET and DELETE, which only legacy revisions have.
func (s *StdioServer) serveSessionMethod(w http.ResponseWriter, r *http.Request) {
	version, present, err := one(r.Header, hdrVersion)
	if err != nil {
		writeError(w, http.StatusBadRequest, "", jsonrpc.CodeInvalidRequest, err.Error(), nil)
		return
	}
	if _, hasSession := r.Header[hdrSession]; present && !legacyVersion(version) && version >= "2026" || !hasSession && r.Method == http.MethodGet {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, "", jsonrpc.CodeInvalidRequest,
			r.Method+" needs a session of a protocol revision before 2026-07-28; send initialize first, or POST only", nil)
		return
	}
	sess := s.sessionOf(w, r)
	if sess == nil {
		return
	}
	if r.Method == http.MethodDelete {
		s.endSession(sess, errSessionEnded)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	sess.enter()
	defer sess.leave()
	s.serveGet(w, r, sess)
}

// sessionOf finds the session that r names and checks the version header; on
// failure it has answered, and returns nil.
func (s *StdioServer) sessionOf(w http.ResponseWriter, r *http.Request) *session {
	id, present, err := one(r.Header, hdrSession)
	if err != nil || !present {
		writeError(w, http.StatusBadRequest, "", jsonrpc.CodeInvalidRequest, "header "+hdrSession+" is missing or ambiguous; send initialize first", nil)
		return nil
	}
	sess := s.session(id)
	if sess == nil {
		writeError(w, http.StatusNotFound, "", jsonrpc.CodeInvalidRequest, "the session is unknown or has ended; send initialize again", nil)
		return nil
	}
	version, present, err := one(r.Header, hdrVersion)
	if err != nil || present && !legacyVersion(version) {
		writeError(w, http.StatusBadRequest, "", jsonrpc.CodeInvalidRequest, "header "+hdrVersion+" names no protocol revision that has sessions", nil)
		return nil
	}
	return sess
}

// serveGet opens the stream of server-initiated messages, or resumes any.
func (s *StdioServer) serveGet(w http.ResponseWriter, r *http.Request, sess *session) {
	if !accepts(r, "text/event-stream") {
		writeError(w, http.StatusNotAcceptable, "", jsonrpc.CodeInvalidRequest, "Accept must list text/event-stream", nil)
		return
	}
	st := sess.get()
	at := st.unsent()
	if last := r.Header.Get(hdrLastEvent); last != "" {
		var err error
		if st, at, err = sess.resume(last); err != nil {
			writeError(w, http.StatusBadRequest, "", jsonrpc.CodeInvalidRequest, hdrLastEvent+" "+last+": "+err.Error(), nil)
			return
		}
	} else if st.attached() {
		writeError(w, http.StatusConflict, "", jsonrpc.CodeInvalidRequest, "this session has a GET stream already", nil)
		return
	}
	out := &sseWriter{w: w, keepAlive: s.o.KeepAlive, sess: sess, st: st}
	gen := st.attach()
	defer st.detach(gen)
	defer sess.retireIfEnded(st)
	defer out.noDeadline()
	out.begin(at)
	out.run(r.Context(), gen, at)
}

func (s *session) retireIfEnded(st *stream) {
	if st.ended() {
		s.retire(st)
	}
}

// unavailable answers a request that no child can be found for. It is an
// ordinary answer, HTTP 200: an error status would make clients that speak
// both eras try the other one.
func unavailable(w http.ResponseWriter, id jsonrpc.ID, err error) {
	status, reason := http.StatusOK, "command-unavailable"
	if errors.Is(err, errTooMany) {
		status, reason = http.StatusServiceUnavailable, "too-many-sessions"
		w.Header().Set("Retry-After", "5")
	}
	writeError(w, status, id, jsonrpc.CodeInternal, err.Error(), reasonData(reason))
}

// sendContext bounds the wait for a child that doesn't read.
func sendContext(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), 30*time.Second)
}
