package bridge

import (
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A session is one legacy client, from initialize to DELETE.
type session struct {
	id  string
	srv *StdioServer
	be  *backend

	mu       sync.Mutex
	version  string // negotiated; empty until initialize is answered
	calls    map[jsonrpc.ID]*call
	streams  map[int]*stream // those that a client may resume; 0 is the GET stream
	finished []*stream       // ended ones among them, oldest first
	lastNum  int
	subs     map[string]bool
	users    int // handlers at work
	idle     *time.Timer
	lastUsed time.Time
}

const (
	maxFinished      = 64 // ended streams kept for resumption, per session
	maxSubscriptions = 1024
)

var (
	errSessionEnded = errors.New("the session was ended")
	errSessionIdle  = errors.New("the session was idle for too long")
	errShutdown     = errors.New("the server is shutting down")
)

func newSession(srv *StdioServer, be *backend) *session {
	s := &session{
		id: rand.Text(), srv: srv, be: be,
		calls: map[jsonrpc.ID]*call{}, streams: map[int]*stream{}, subs: map[string]bool{},
		lastUsed: time.Now(),
	}
	s.streams[0] = newStream(0, -1, srv.streamBytes())
	s.idle = time.AfterFunc(srv.o.SessionIdle, func() { srv.expire(s) })
	return s
}

// enter and leave bracket the work of a handler; an idle session expires.
func (s *session) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	s.idle.Stop()
}

func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	s.lastUsed = time.Now()
	if s.users == 0 {
		s.idle.Reset(s.srv.o.SessionIdle)
	}
}

// unused reports whether no handler is at work, and since when.
func (s *session) unused() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastUsed, s.users == 0 && len(s.calls) == 0
}

func (s *session) negotiated() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func (s *session) setVersion(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v
}

// add registers a call and reports false when its id is in use.
func (s *session) add(c *call, id jsonrpc.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[id] != nil {
		return false
	}
	c.clientID = id
	s.calls[id] = c
	return true
}

func (s *session) done(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[c.clientID] == c {
		delete(s.calls, c.clientID)
	}
}

func (s *session) callOf(id jsonrpc.ID) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// newStream makes the stream of one POST.
func (s *session) newStream(answers int) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastNum++
	return newStream(s.lastNum, answers, s.srv.streamBytes())
}

// keep makes st resumable: the client was told an event id of it.
func (s *session) keep(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st.num] = st
}

// retire notes that st has ended, and forgets the oldest ended streams beyond
// what is kept for resumption.
func (s *session) retire(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[st.num] != st || st.num == 0 {
		return
	}
	for _, f := range s.finished {
		if f == st {
			return
		}
	}
	s.finished = append(s.finished, st)
	size := 0
	for _, f := range s.finished {
		size += f.bytes()
	}
	for len(s.finished) > maxFinished || size > s.srv.streamBytes() && len(s.finished) > 1 {
		size -= s.finished[0].bytes()
		delete(s.streams, s.finished[0].num)
		s.finished = s.finished[1:]
	}
}

// eventID names the position after the first n messages of a stream.
func eventID(st *stream, n int) string { return strconv.Itoa(st.num) + "_" + strconv.Itoa(n) }

// resume finds the stream and position that a Last-Event-ID names.
func (s *session) resume(id string) (*stream, int, error) {
	a, b, ok := strings.Cut(id, "_")
	num, err1 := strconv.Atoi(a)
	at, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || num < 0 || at < 0 {
		return nil, 0, errors.New("it is no event id of this server")
	}
	s.mu.Lock()
	st := s.streams[num]
	s.mu.Unlock()
	if st == nil || !st.resumable(at) {
		return nil, 0, errEvicted
	}
	return st, at, nil
}

// route picks the stream for a message that names no request. related says
// that it likely belongs to a request in flight (a server request, a log
// message): MCP wants those on that request's stream, and all others on the
// GET stream. With no reader on the GET stream, some connected stream is
// better than none.
func (s *session) route(related bool) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	get := s.streams[0]
	var newest *call
	n := 0
	for _, c := range s.calls {
		if c.stream.attached() {
			n++
			if newest == nil || c.id > newest.id {
				newest = c
			}
		}
	}
	if newest != nil && (related && n == 1 || !get.attached() && related) {
		return newest.stream
	}
	return get
}

// get is the stream of server-initiated messages.
func (s *session) get() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[0]
}

// subscribe notes what the client subscribes to, for children shared by
// several sessions.
func (s *session) subscribe(m *jsonrpc.Message) {
	uri, ok := jsonrpc.Text(jsonrpc.Get(m.Params, "uri"))
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.Method == "resources/subscribe" && len(s.subs) < maxSubscriptions:
		s.subs[uri] = true
	case m.Method == "resources/unsubscribe":
		delete(s.subs, uri)
	}
}

func (s *session) subscribed(uri string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subs[uri]
}

// end fails everything that is open and returns the calls.
func (s *session) end(why error) []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Stop()
	var calls []*call
	for _, c := range s.calls {
		calls = append(calls, c)
	}
	s.calls = map[jsonrpc.ID]*call{}
	for _, st := range s.streams {
		st.fail(why)
	}
	return calls
}
