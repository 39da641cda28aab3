package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/protocol"
)

const (
	maxTap      = 32 << 20 // bytes of a client's connections that are searched
	maxBody     = 8 << 20
	maxRequests = 2000
)

// A record is one HTTP request of the client.
type record struct {
	seq      int // log entry
	verb     string
	header   http.Header
	body     []byte
	msg      *wire.Message // nil: no JSON-RPC
	sealed   bool          // it carries a frame
	attest   bool          // inline: it asks for a key object
	inner    string        // method of the sealed message, if it was opened
	digest   string        // of the sealed message
	opened   *opened
	openErr  error
	early    bool // a next frame in a context that was not answered yet
	innerMsg *wire.Message
}

func (r *record) method() string {
	if r.msg == nil {
		return ""
	}
	return r.msg.Method
}

// A host is the server of one case: an MCP server that does what the scene
// says, and writes down all that the client sends.
type host struct {
	sc     *scene
	log    *wire.Log
	trust  *holder
	self   ed25519.PrivateKey // of the client, where it has one
	url    string
	server *http.Server

	in, out, partial, forged string // canaries

	mu       sync.Mutex
	tap      bytes.Buffer
	records  []*record
	marked   int // index of the request that got the mutant; -1: none did
	ranWith  []string
	problems []string                 // what of the client the host could not read
	bad      map[protocol.Digest]bool // key objects that no client may seal to
	sealedTo []protocol.Digest        // those of them that one did seal to
	answered map[protocol.ContextID]bool
}

// exchange is one request that the host is about to answer.
type exchange struct {
	*record
	h     *host
	index int
	w     http.ResponseWriter
	r     *http.Request
	o     *opened
	inner *innerAnswer
}

func rawJSON(s string) jsontext.Value { return jsontext.Value(s) }

// tapConn writes down what the client sends, as it stands on the wire.
type tapConn struct {
	net.Conn
	h *host
}

func (c tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.h.mu.Lock()
	if c.h.tap.Len()+n <= maxTap {
		c.h.tap.Write(p[:n])
	}
	c.h.mu.Unlock()
	return n, err
}

type tapListener struct {
	net.Listener
	h *host
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tapConn{c, l.h}, nil
}

// listen starts the server on loopback.
func (h *host) listen() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.url = "http://" + l.Addr().String() + "/mcp"
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	tapped := net.Listener(tapListener{l, h})
	if e := h.sc.tls; e != nil {
		h.url = "https" + strings.TrimPrefix(h.url, "http")
		h.server.SetKeepAlivesEnabled(!e.retires)
		h.server.ErrorLog = log.New(io.Discard, "", 0)
		tapped = e.listen(h, tapped)
	}
	go func() { _ = h.server.Serve(tapped) }()
	return nil
}

func (h *host) close() { _ = h.server.Close() }

func (h *host) ran(said string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ranWith = append(h.ranWith, said)
}

func (h *host) runs() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.ranWith...)
}

func (h *host) all() []*record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*record(nil), h.records...)
}

// wire is every byte that the client put on its connections.
func (h *host) wire() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.tap.Bytes())
}

// mark says that the client got the mutant in answer to x.
func (x *exchange) mark() {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	if x.h.marked < 0 {
		x.h.marked = x.index
	}
}

// forbid names a key object that no client may seal to.
func (h *host) forbid(d protocol.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bad == nil {
		h.bad = map[protocol.Digest]bool{}
	}
	h.bad[d] = true
}

func (h *host) problem(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.problems) < 5 {
		h.problems = append(h.problems, sprint(format, args...))
	}
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return
	}
	rec := &record{verb: r.Method, header: r.Header, body: body}
	if r.Method == http.MethodPost && isType(r.Header, "application/json") {
		rec.msg, _ = wire.ParseMessage(body)
	}
	rec.sealed, rec.attest = carriesFrames(rec)
	head, err := httputil.DumpRequest(r, false)
	if err != nil {
		head = []byte(r.Method)
	}
	rec.seq = h.log.Add(wire.Received, "http-request", append(head, body...))
	h.mu.Lock()
	x := &exchange{record: rec, h: h, index: len(h.records), w: w, r: r}
	h.records = append(h.records, rec)
	flood := len(h.records) > maxRequests
	h.mu.Unlock()
	if flood {
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	x.w = &loggedWriter{ResponseWriter: w, log: h.log}
	h.serve(x)
}

func isType(h http.Header, want string) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), want)
}

func carriesFrames(r *record) (sealed, attest bool) {
	if isType(r.header, protocol.MediaTypeFrames) {
		return true, false
	}
	if r.msg == nil {
		return false, false
	}
	return r.msg.Method == protocol.MethodCall || conformance.Member(r.msg.Params, "_meta", protocol.MetaFrames) != nil,
		conformance.Member(r.msg.Params, "_meta", protocol.MetaAttest) != nil
}

// loggedWriter writes down what the host answers.
type loggedWriter struct {
	http.ResponseWriter
	log  *wire.Log
	head bool
}

func (w *loggedWriter) WriteHeader(status int) {
	if w.head {
		return
	}
	w.head = true
	var b bytes.Buffer
	b.WriteString(sprint("HTTP/1.1 %d %s\r\n", status, http.StatusText(status)))
	_ = w.Header().Write(&b)
	w.log.Add(wire.Sent, "http-response", b.Bytes())
	w.ResponseWriter.WriteHeader(status)
}

func (w *loggedWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.log.Add(wire.Sent, "http-body", p)
	return w.ResponseWriter.Write(p)
}

func (w *loggedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// flush sends what was written so far.
func (x *exchange) flush() { _ = http.NewResponseController(x.w).Flush() }

// abort breaks the connection.
func (x *exchange) abort() { panic(http.ErrAbortHandler) }

// reply answers with a body.
func (x *exchange) reply(status int, contentType string, body []byte) {
	if contentType != "" {
		x.w.Header().Set("Content-Type", contentType)
	}
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body)
}

func (x *exchange) id() string {
	if x.msg == nil || x.msg.ID == "" {
		return "null"
	}
	return string(x.msg.ID)
}

// result answers with a JSON-RPC result, given as JSON.
func (x *exchange) result(result []byte) {
	x.reply(200, "application/json", []byte(`{"jsonrpc":"2.0","id":`+x.id()+`,"result":`+string(result)+`}`))
}

// fail answers with a JSON-RPC error. data is JSON, or empty.
func (x *exchange) fail(status, code int, message, data string) {
	if data != "" {
		data = `,"data":` + data
	}
	x.reply(status, "application/json", []byte(sprint(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q%s}}`, x.id(), code, message, data)))
}

// trustError answers with a trust error of the specification.
func (x *exchange) trustError(reason protocol.Reason, object []byte) {
	e := &protocol.Error{Reason: reason, KeyObject: object}
	x.fail(200, reason.Code(), e.Error(), string(e.Data()))
}

// hang waits as long as the scene hangs, or until the client goes away.
func (x *exchange) hang() {
	ctx, cancel := context.WithTimeout(x.r.Context(), x.h.sc.hangFor)
	defer cancel()
	<-ctx.Done()
}

func asUnknown(err error) (protocol.Reason, bool) {
	var u errUnknown
	ok := errors.As(err, &u)
	return u.reason, ok
}
