package reference

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if s.has("one-at-a-time") && !s.enter(w) {
		return
	}
	if !s.allowed(r) {
		http.Error(w, "foreign origin", http.StatusForbidden)
		return
	}
	switch r.Method {
	case http.MethodPost:
	case http.MethodDelete:
		if s.speaks(conformance.Legacy) && s.end(r.Header.Get("Mcp-Session-Id")) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fallthrough
	default:
		status := http.StatusMethodNotAllowed
		if s.has("get-200") {
			status = http.StatusOK
		}
		w.WriteHeader(status)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return
	}
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if err != nil {
		status, code := http.StatusBadRequest, jsonrpc.CodeParse
		if s.has("malformed-accepted") {
			status = http.StatusAccepted
		}
		if s.has("malformed-wrong-code") {
			code = jsonrpc.CodeInternal
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if status == http.StatusBadRequest {
			_, _ = w.Write(jsonrpc.ErrorResponse("", code, err.Error(), nil))
		}
		return
	}
	version := r.Header.Get("MCP-Protocol-Version")
	modern := s.speaks(conformance.Modern) && (!s.speaks(conformance.Legacy) ||
		(version != "" && !slices.Contains(conformance.LegacyVersions, version)) || conformance.Member(m.Params, "_meta", conformance.MetaVersion) != nil)
	if modern && !(s.has("any-version-header") && r.Header.Get("Mcp-Session-Id") != "") {
		s.modernHTTP(w, r, m)
		return
	}
	s.legacyHTTP(w, r, m)
}

// allowed checks Origin and Host, as DNS rebinding demands.
func (s *Server) allowed(r *http.Request) bool {
	if s.has("any-origin") {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	o := r.Header.Get("Origin")
	if s.has("host-only") {
		o = ""
	}
	return host == "127.0.0.1" && (o == "" || strings.HasPrefix(o, "http://127.0.0.1:"))
}

func (s *Server) modernHTTP(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message) {
	if m.Method == "initialize" {
		s.write(w, r, m, s.noInitialize(m), true)
		return
	}
	if why := s.mismatch(r.Header, m); why != "" && m.IsRequest() {
		a := fail(m.ID, 400, jsonrpc.CodeHeaderMismatch, "Header mismatch: "+why, nil)
		if s.has("mismatch-wrong-status") {
			a.status = 200
		}
		s.write(w, r, m, a, true)
		return
	}
	if id := r.Header.Get("Mcp-Session-Id"); id != "" {
		if s.has("session-id-refused") {
			s.write(w, r, m, fail(m.ID, 404, jsonrpc.CodeInvalidRequest, "unknown session", nil), true)
			return
		}
		if s.has("session-id-echoed") {
			w.Header().Set("Mcp-Session-Id", id)
		}
	}
	if r.Header.Get("Last-Event-ID") != "" && s.has("last-event-id-refused") {
		s.write(w, r, m, fail(m.ID, 400, jsonrpc.CodeInvalidRequest, "no such event", nil), true)
		return
	}
	s.write(w, r, m, s.handle(&conn{requests: s.perConnection(r)}, m, true), true)
}

// perConnection counts requests of a TCP connection, for faults that need it.
func (s *Server) perConnection(r *http.Request) int {
	if !s.has("tools-per-connection") && !s.has("discover-first") {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.sessions["tcp "+r.RemoteAddr])
	s.sessions["tcp "+r.RemoteAddr] += "x"
	return n
}

// mismatch says how the headers differ from the body.
func (s *Server) mismatch(h http.Header, m *jsonrpc.Message) string {
	version, _ := conformance.MemberText(m.Params, "_meta", conformance.MetaVersion)
	get := func(name string) string { return strings.TrimSpace(h.Get(name)) }
	switch v := get("MCP-Protocol-Version"); {
	case v == "" && !s.has("version-header-optional"):
		return "no MCP-Protocol-Version"
	case version == "" && s.has("missing-version-served"):
	case v != "" && v != version && !s.has("version-header-ignored"):
		return "MCP-Protocol-Version"
	}
	switch v := get("Mcp-Method"); {
	case v == "" && s.has("method-header-optional"):
	case s.has("method-header-any-case") && strings.EqualFold(v, m.Method):
	case v != m.Method && !(s.has("method-header-ignored") && v != ""):
		return "Mcp-Method"
	}
	name := ""
	switch m.Method {
	case "tools/call", "prompts/get":
		name, _ = conformance.MemberText(m.Params, "name")
	case "resources/read":
		name, _ = conformance.MemberText(m.Params, "uri")
	default:
		return ""
	}
	v, ok := get("Mcp-Name"), true
	if s.has("any-name-refused") {
		return "Mcp-Name"
	}
	if v == "" && s.has("name-header-optional") {
		return ""
	}
	if !s.has("name-header-raw") {
		if s.has("name-header-encoded-unchecked") && strings.HasPrefix(v, "=?base64?") {
			return ""
		}
		v, ok = decodeHeader(v)
	}
	if (!ok || v != name) && !(s.has("name-header-ignored") && v != "" && !strings.HasPrefix(get("Mcp-Name"), "=?")) {
		return "Mcp-Name"
	}
	return ""
}

func (s *Server) legacyHTTP(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message) {
	if m.Method == "initialize" && m.IsRequest() {
		a := s.handle(&conn{}, m, false)
		if a.session != "" {
			s.mu.Lock()
			s.sessions[a.session] = conformance.LegacyVersion
			s.mu.Unlock()
			w.Header().Set("Mcp-Session-Id", a.session)
		}
		s.write(w, r, m, a, false)
		return
	}
	v := r.Header.Get("MCP-Protocol-Version")
	if v != "" && !slices.Contains(conformance.LegacyVersions, v) && !s.has("any-version-header") {
		http.Error(w, "unsupported protocol version", http.StatusBadRequest)
		return
	}
	id := r.Header.Get("Mcp-Session-Id")
	s.mu.Lock()
	session, known := s.sessions[id]
	s.mu.Unlock()
	switch {
	case id == "" && s.has("session-missing-404"):
		http.Error(w, "no session id", http.StatusNotFound)
		return
	case id == "":
		http.Error(w, "no session id", http.StatusBadRequest)
		return
	case (!known || session == "") && !s.has("ended-session-served"):
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	s.write(w, r, m, s.handle(&conn{version: session, requests: 9}, m, false), false)
}

// end ends a session.
func (s *Server) end(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == "" {
		return false
	}
	s.sessions[id] = ""
	return true
}

// write answers with an event stream in the modern era, else with JSON.
func (s *Server) write(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message, a *answer, modern bool) {
	if a.message == nil && a.before == nil {
		status := http.StatusAccepted
		if s.has("notification-200") {
			status = http.StatusOK
		}
		w.WriteHeader(status)
		if s.has("notification-body") {
			_, _ = io.WriteString(w, "{}")
		}
		return
	}
	if a.status >= 400 || (a.code != 0 && !modern) || (a.before == nil && strings.HasPrefix(m.Method, "prompts/")) {
		ct := "application/json"
		if s.has("errors-as-text") {
			ct = "text/plain"
		}
		w.Header().Set("Content-Type", ct)
		if a.status > 0 {
			w.WriteHeader(a.status)
		}
		_, _ = w.Write(a.message)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if !s.has("no-accel-buffering") {
		w.Header().Set("X-Accel-Buffering", "no")
	}
	flush := http.NewResponseController(w)
	for _, b := range append(a.before, a.message) {
		if b != nil {
			fmt.Fprintf(w, "event: message\ndata: %s\n\n", b)
		}
	}
	_ = flush.Flush()
	if a.stay || s.has("stream-stays-open") {
		<-r.Context().Done()
	}
}

// enter lets one request in at a time, and turns the others away.
func (s *Server) enter(w http.ResponseWriter) bool {
	s.mu.Lock()
	busy := s.busy
	s.busy = true
	s.mu.Unlock()
	if busy {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}
	time.Sleep(3 * time.Millisecond) // long enough to be in the way of others
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	return true
}

// Listener wraps l with what a fault does to bytes before net/http sees them.
func (s *Server) Listener(l net.Listener) net.Listener {
	if s.has("header-case-sensitive") {
		return caseListener{l}
	}
	return l
}

// caseListener makes connections blind to MCP headers in lower case.
type caseListener struct{ net.Listener }

func (l caseListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return caseConn{c}, err
}

type caseConn struct{ net.Conn }

func (c caseConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	copy(b[:n], bytes.ReplaceAll(b[:n], []byte("\nmcp-method:"), []byte("\nxxx-xxxxxx:")))
	return n, err
}
