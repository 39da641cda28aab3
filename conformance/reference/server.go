// Package reference is a small strict MCP server that keeps every rule the
// suite knows, in both eras, and can be told to break one: a [Fault]. The
// suite is tested on it. It is no model for a server in production.
//
// Make one with [New]; serve it with [Server.ServeHTTP] or [Server.Serve].
package reference

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Fault names one rule that a server breaks. The empty fault is none.
type Fault string

type obj = map[string]any

// Server is the reference server. Its zero value is not usable; see [New].
type Server struct {
	fault    Fault
	eras     []conformance.Era
	canary   func(tool string)
	progress bool

	ended chan struct{} // closed by Close

	mu       sync.Mutex
	busy     bool
	sessions map[string]string // id → version, "" once ended
	lists    int
}

// Option changes a server.
type Option func(*Server)

// WithFault makes the server break one rule.
func WithFault(f Fault) Option { return func(s *Server) { s.fault = f } }

// Only makes the server speak one era.
func Only(e conformance.Era) Option { return func(s *Server) { s.eras = []conformance.Era{e} } }

// WithCanary has f called whenever a tool runs.
func WithCanary(f func(tool string)) Option { return func(s *Server) { s.canary = f } }

// WithProgress has tools report progress twice before their result.
func WithProgress() Option { return func(s *Server) { s.progress = true } }

// New makes a server of both eras.
func New(opts ...Option) *Server {
	s := &Server{eras: []conformance.Era{conformance.Modern, conformance.Legacy}, sessions: map[string]string{}, canary: func(string) {}, ended: make(chan struct{})}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Close ends what a fault keeps running.
func (s *Server) Close() { close(s.ended) }

func (s *Server) has(f Fault) bool              { return s.fault == f }
func (s *Server) speaks(e conformance.Era) bool { return slices.Contains(s.eras, e) }

// conn is one stdio process, or one legacy HTTP session.
type conn struct {
	version  string // legacy: negotiated
	requests int
}

// answer is what a message leads to.
type answer struct {
	before  [][]byte // notifications ahead of the answer
	message []byte   // nil for none
	status  int      // HTTP status, if not 200 or 202
	code    int      // error code, 0 for none
	stay    bool     // keep the stream open
	session string   // new session id
}

func fail(id jsonrpc.ID, status, code int, msg string, data any) *answer {
	var d []byte
	if data != nil {
		d, _ = json.Marshal(data, json.Deterministic(true))
	}
	return &answer{message: jsonrpc.ErrorResponse(id, code, msg, d), status: status, code: code}
}

// handle serves one parsed message. modern says by which rules.
func (s *Server) handle(c *conn, m *jsonrpc.Message, modern bool) *answer {
	if !m.IsRequest() {
		if s.has("answer-notifications") && m.IsNotification() && m.Method != "notifications/initialized" {
			return &answer{message: jsonrpc.Response("null", []byte(`{"resultType":"complete"}`)), status: 200}
		}
		return &answer{}
	}
	c.requests++
	if modern {
		return s.modern(c, m)
	}
	return s.legacy(c, m)
}

func (s *Server) modern(c *conn, m *jsonrpc.Message) *answer {
	meta := conformance.Member(m.Params, "_meta")
	version, ok := conformance.MemberText(meta, conformance.MetaVersion)
	if !ok && s.has("missing-version-served") {
		version, ok = conformance.ModernVersion, true
	}
	if !ok {
		return fail(m.ID, 400, jsonrpc.CodeInvalidParams, "_meta lacks "+conformance.MetaVersion, nil)
	}
	known := version == conformance.ModernVersion || s.has("any-version") ||
		(s.has("old-version-accepted") && version < conformance.ModernVersion)
	if !known {
		data := obj{"supported": []string{conformance.ModernVersion}, "requested": version}
		if s.has("unsupported-without-data") {
			data = nil
		}
		return fail(m.ID, 400, jsonrpc.CodeUnsupportedVersion, "Unsupported protocol version", data)
	}
	caps := conformance.Member(meta, conformance.MetaCapabilities)
	if caps.Kind() != '{' && !s.has("capabilities-optional") {
		return fail(m.ID, 400, jsonrpc.CodeInvalidParams, "_meta lacks "+conformance.MetaCapabilities, nil)
	}
	if s.has("client-info-required") && conformance.Member(meta, conformance.MetaClientInfo) == nil {
		return fail(m.ID, 400, jsonrpc.CodeInvalidParams, "no clientInfo", nil)
	}
	if s.has("extensions-refused") && conformance.Member(caps, "extensions") != nil ||
		s.has("experimental-refused") && conformance.Member(caps, "experimental") != nil {
		return fail(m.ID, 400, jsonrpc.CodeInvalidParams, "unknown capability", nil)
	}
	if s.has("small-meta") && len(meta) > 4096 {
		return fail(m.ID, 400, jsonrpc.CodeInvalidParams, "_meta is too large", nil)
	}
	if s.has("discover-first") && c.requests == 1 && m.Method != "server/discover" {
		return fail(m.ID, 400, jsonrpc.CodeInvalidRequest, "discover first", nil)
	}
	switch m.Method {
	case "server/discover":
		if s.has("no-discover") {
			break
		}
		res := obj{"supportedVersions": []string{conformance.ModernVersion}, "capabilities": s.capabilities(c, true), "ttlMs": 60000, "cacheScope": "public"}
		switch s.fault {
		case "discover-without-versions":
			delete(res, "supportedVersions")
		case "discover-without-ttl":
			delete(res, "ttlMs")
		}
		return s.complete(m, res)
	case "subscriptions/listen":
		id := jsontext.Value(m.ID)
		if s.has("listen-wrong-id") {
			id = jsontext.Value(`"another"`)
		}
		note := obj{"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": obj{
			"_meta": obj{conformance.MetaSubscription: id}, "notifications": obj{"toolsListChanged": true}}}
		if s.has("listen-unacknowledged") {
			note["method"] = "notifications/tools/list_changed"
		}
		b, _ := json.Marshal(note, json.Deterministic(true))
		return &answer{before: [][]byte{b}, stay: true}
	}
	return s.feature(c, m, true)
}

// complete is a modern result.
func (s *Server) complete(m *jsonrpc.Message, res obj) *answer {
	res["resultType"] = "complete"
	res["_meta"] = obj{conformance.MetaServerInfo: obj{"name": "tmcp-reference", "version": "1"}}
	switch s.fault {
	case "no-result-type":
		delete(res, "resultType")
	case "unknown-result-type":
		res["resultType"] = "partial"
	case "no-server-info":
		delete(res, "_meta")
	}
	return s.result(m, res)
}

func (s *Server) result(m *jsonrpc.Message, res any) *answer {
	b, err := json.Marshal(res, json.Deterministic(true))
	if err != nil {
		return fail(m.ID, 500, jsonrpc.CodeInternal, err.Error(), nil)
	}
	id := m.ID
	switch {
	case s.has("number-ids-as-strings") && id[0] != '"':
		id = jsonrpc.ID(`"` + string(id) + `"`)
	case s.has("string-ids-as-numbers") && id == `"1"`:
		id = "1"
	case s.has("float-ids") && id[0] != '"':
		id += ".0"
	}
	a := &answer{message: jsonrpc.Response(id, b)}
	if s.has("server-request") {
		a.before = append(a.before, []byte(`{"jsonrpc":"2.0","id":"from-server","method":"roots/list","params":{}}`))
	}
	return a
}

func (s *Server) legacy(c *conn, m *jsonrpc.Message) *answer {
	switch m.Method {
	case "initialize":
		want, _ := conformance.MemberText(m.Params, "protocolVersion")
		caps := conformance.Member(m.Params, "capabilities")
		if s.has("extensions-refused") && conformance.Member(caps, "extensions") != nil ||
			s.has("experimental-refused") && conformance.Member(caps, "experimental") != nil {
			return fail(m.ID, 0, jsonrpc.CodeInvalidParams, "unknown capability", nil)
		}
		version := want
		if !slices.Contains(conformance.LegacyVersions, want) && !s.has("any-version") {
			version = conformance.LegacyVersion
		}
		if s.has("wrong-version") && want != conformance.LegacyVersion {
			version = "2024-11-05" // which it answers with 2025-11-25 in turn
			if want == version {
				version = conformance.LegacyVersion
			}
		}
		if s.has("unknown-version-error") && version != want {
			return fail(m.ID, 0, jsonrpc.CodeInvalidParams, "Unsupported protocol version", nil)
		}
		c.version = version
		res := obj{"protocolVersion": version, "capabilities": s.capabilities(c, false), "serverInfo": obj{"name": "tmcp-reference", "version": "1"}}
		if s.has("initialize-without-info") {
			delete(res, "serverInfo")
		}
		a := s.result(m, res)
		a.session = rand.Text()
		switch s.fault {
		case "session-id-space":
			a.session += " x"
		case "session-id-same":
			a.session = "0123456789abcdef0123456789abcdef"
		}
		return a
	case "ping":
		if s.has("ping-unknown") {
			break
		}
		if s.has("ping-with-content") {
			return s.result(m, obj{"pong": true})
		}
		if s.has("small-meta") && len(m.Params) > 4096 {
			return fail(m.ID, 0, jsonrpc.CodeInvalidParams, "_meta is too large", nil)
		}
		return s.result(m, obj{})
	case "logging/setLevel":
		level, _ := conformance.MemberText(m.Params, "level")
		if s.has("set-level-unknown") {
			break
		}
		if !slices.Contains([]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}, level) && !s.has("any-level") {
			return fail(m.ID, 0, jsonrpc.CodeInvalidParams, "unknown level", nil)
		}
		return s.result(m, obj{})
	}
	return s.feature(c, m, false)
}

func (s *Server) capabilities(c *conn, modern bool) obj {
	caps := obj{"tools": obj{}, "prompts": obj{}, "resources": obj{}, "extensions": obj{"com.example/reference": obj{}}}
	if !modern {
		caps["logging"] = obj{}
	}
	switch s.fault {
	case "undeclared-tools":
		delete(caps, "tools")
	case "undeclared-prompts":
		delete(caps, "prompts")
	case "undeclared-resources":
		delete(caps, "resources")
	case "bad-extension-name":
		caps["extensions"] = obj{"no-prefix": obj{}}
	case "capabilities-not-object":
		return obj{"tools": []any{}}
	case "capabilities-change":
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.lists++; s.lists > 2 {
			delete(caps, "prompts")
		}
	}
	return caps
}

// split reads the value of Mcp-Name.
func decodeHeader(v string) (string, bool) {
	b64, ok := strings.CutPrefix(v, "=?base64?")
	if b64, ok2 := strings.CutSuffix(b64, "?="); ok && ok2 {
		b, err := base64.StdEncoding.DecodeString(b64)
		return string(b), err == nil
	}
	return v, true
}

// Serve serves one stdio connection until in ends.
func (s *Server) Serve(in io.Reader, out io.Writer) {
	c := &conn{}
	dec := lines(in)
	if s.has("stdout-banner") {
		fmt.Fprintln(out, "Reference server is ready.")
	}
	for line := range dec {
		m, err := jsonrpc.Parse(line, jsonrpc.Limits{})
		if err != nil {
			if s.has("die-on-malformed") {
				return
			}
			if s.has("malformed-accepted") {
				fmt.Fprintf(out, "%s\n", jsonrpc.Response("null", []byte("{}")))
				continue
			}
			code := jsonrpc.CodeParse
			if s.has("malformed-wrong-code") {
				code = jsonrpc.CodeInternal
			}
			fmt.Fprintf(out, "%s\n", jsonrpc.ErrorResponse("", code, err.Error(), nil))
			continue
		}
		modern := conformance.Member(m.Params, "_meta", conformance.MetaVersion) != nil || m.Method == "server/discover" ||
			(c.version == "" && s.speaks(conformance.Modern) && m.Method != "initialize")
		if !s.speaks(conformance.Modern) {
			modern = false
		}
		var a *answer
		if m.Method == "initialize" && !s.speaks(conformance.Legacy) {
			a = s.noInitialize(m)
		} else {
			a = s.handle(c, m, modern)
		}
		for _, b := range append(a.before, a.message) {
			if b == nil {
				continue
			}
			if s.has("two-lines") && modern {
				b = slices.Insert(b, 1, '\n')
			}
			fmt.Fprintf(out, "%s\n", b)
		}
	}
	if s.has("survive-eof") {
		<-s.ended // the suite must tell this from a server that ends
	}
}

func (s *Server) noInitialize(m *jsonrpc.Message) *answer {
	msg := "this server speaks " + conformance.ModernVersion + " only"
	if s.has("silent-about-versions") {
		msg = "no"
	}
	return fail(m.ID, 400, jsonrpc.CodeMethodNotFound, msg, nil)
}

// ServeHTTP serves Streamable HTTP.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serveHTTP(w, r) }
