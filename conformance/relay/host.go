// Package relay holds the cases of role relay: a client and a real server that
// trust each other, and a relay between them that behaves in one hostile way.
// Call [Cases]; run them with [conformance.RunClient].
//
// The client is run once for each case, with the relay's URL. It must already
// know whom to trust, connect, make at least one request, and tell whether that
// went well: by its exit code, or by a JSON-RPC error on its stdout. The case's
// name is in its environment as MCP_CONFORMANCE_SCENARIO.
package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

type obj = map[string]any

// world is one run of the client against one host.
type world struct {
	t       *conformance.T
	attack  *attack
	sealed  http.Handler // the way to the honest server
	forged  string       // a text that only an attacker sends
	attacks atomic.Int64 // how often the attack was made

	mu    sync.Mutex
	seq   int      // log entry of the last request that was attacked
	leaks []string // what came unsealed
	calls int      // sealed messages that came
}

// open are the methods that may come in plaintext: they hold nothing of the user.
var open = map[string]bool{
	"server/discover": true, "initialize": true, "ping": true, "notifications/initialized": true,
	"notifications/cancelled": true, protocol.MethodAttest: true, protocol.MethodCall: true,
}

// play runs the client against the attack and returns what was seen.
func play(t *conformance.T, a *attack) (*world, conformance.SubjectRun) {
	w := &world{t: t, attack: a, forged: fmt.Sprintf("forged-%d", time.Now().UnixNano())}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Untestable("no loopback port: %v", err)
	}
	url := "http://" + l.Addr().String() + "/mcp"
	env := []string{"MCP_CONFORMANCE_SCENARIO=" + a.name, "MCP_CONFORMANCE_PROTOCOL_VERSION=" + conformance.ModernVersion}
	w.sealed = t.Upstream()
	srv := &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	defer func() { _ = srv.Close(); <-done }()
	ctx, cancel := context.WithTimeout(t.Context(), t.StepTimeout())
	defer cancel()
	run := t.Subject().Run(ctx, url, env)
	t.Log().Add(wire.Received, "stdout", run.Stdout)
	t.Log().Add(wire.Received, "stderr", run.Stderr)
	t.Log().Add(wire.Received, "exit", fmt.Appendf(nil, "exit code %d", run.Exit))
	return w, run
}

// ServeHTTP takes note of what the client sends, and answers as the attack has it.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxBytes))
	if err != nil {
		return
	}
	seq := w.t.Log().Add(wire.Received, "message", body)
	method := w.note(r, body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	rec := &answer{header: http.Header{}, status: 200}
	ctx, cancel := context.WithTimeout(r.Context(), w.t.StepTimeout())
	defer cancel()
	w.sealed.ServeHTTP(rec, r.WithContext(ctx))
	var in map[string]jsontext.Value
	_ = json.Unmarshal(body, &in)
	if w.attack.edit != nil {
		msgs, sse := rec.messages()
		if edited, changed := w.attack.edit(w, method, jsonrpc.ID(in["id"]), msgs, rec); changed {
			w.hit(seq)
			rec.replace(edited, sse)
		}
	}
	for k, v := range rec.header {
		rw.Header()[k] = v
	}
	rw.Header().Del("Content-Length")
	rw.WriteHeader(rec.status)
	w.t.Log().Add(wire.Sent, "message", rec.body.Bytes())
	_, _ = rw.Write(rec.body.Bytes())
}

func (w *world) hit(seq int) {
	w.attacks.Add(1)
	w.mu.Lock()
	w.seq = seq
	w.mu.Unlock()
}

// note looks for what should not stand in plaintext.
func (w *world) note(r *http.Request, body []byte) (method string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Method != http.MethodPost || len(body) == 0 {
		return ""
	}
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if err != nil {
		w.leaks = append(w.leaks, "a body that is no JSON-RPC message")
		return ""
	}
	sealed := m.Method == protocol.MethodCall || conformance.Member(m.Params, "_meta", protocol.MetaFrames) != nil
	if sealed {
		w.calls++
	}
	if !open[m.Method] && !sealed {
		w.leaks = append(w.leaks, fmt.Sprintf("%s, in plaintext", m.Method))
	}
	for name := range r.Header {
		if l := strings.ToLower(name); sealed && m.Method == protocol.MethodCall && (l == "mcp-name" || strings.HasPrefix(l, "mcp-param-")) {
			w.leaks = append(w.leaks, "the header "+name)
		}
	}
	return m.Method
}

// answer holds one answer of the honest server.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *answer) Flush()                      {}

// messages are the messages of an answer, whether JSON or an event stream.
func (a *answer) messages() (msgs []obj, sse bool) {
	sse = strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream")
	parts := []string{a.body.String()}
	if sse {
		parts = nil
		for _, line := range strings.Split(a.body.String(), "\n") {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				parts = append(parts, data)
			}
		}
	}
	for _, p := range parts {
		var m obj
		if json.Unmarshal([]byte(p), &m) == nil && m != nil {
			msgs = append(msgs, m)
		}
	}
	return msgs, sse
}

// replace puts msgs in the place of the answer.
func (a *answer) replace(msgs []obj, sse bool) {
	a.body.Reset()
	if len(msgs) > 1 || sse {
		a.header.Set("Content-Type", "text/event-stream")
		for _, m := range msgs {
			fmt.Fprintf(&a.body, "event: message\ndata: %s\n\n", conformance.JSON(m))
		}
		return
	}
	a.header.Set("Content-Type", "application/json")
	for _, m := range msgs {
		a.body.Write(conformance.JSON(m))
	}
}
