package conformance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Obj is a JSON object that a case sends.
type Obj = map[string]any

// Keys of a modern request's _meta.
const (
	MetaVersion      = "io.modelcontextprotocol/protocolVersion"
	MetaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaClientInfo   = "io.modelcontextprotocol/clientInfo"
	MetaServerInfo   = "io.modelcontextprotocol/serverInfo"
	MetaSubscription = "io.modelcontextprotocol/subscriptionId"
)

// A Session speaks one era of MCP over one link.
type Session struct {
	Era       Era
	Version   string // legacy: as negotiated
	SessionID string // legacy over HTTP; empty if the server gave none

	t    *T
	link wire.Link
	warm *atomic.Bool // the link has answered before
}

// Call is one request or notification, with what a case wants otherwise than
// usual.
type Call struct {
	Method string
	Params Obj  // _meta of the modern era is added unless Bare
	Bare   bool // leave out the modern _meta
	Meta   Obj  // added to (or, with a nil value, taken from) _meta
	Note   bool // a notification: no id, no answer awaited
	ID     string
	Body   []byte            // sent in place of the message built from the above
	Header map[string]string // set, or with value "-" left out; names as given
	Verb   string
	Drain  bool
	Head   bool // return once the HTTP response header is there
	Until  func(*wire.Message) bool
}

// ClientInfo is how the suite names itself.
var ClientInfo = Obj{"name": "tmcp-conform", "version": "0.1"}

// JSON is the JSON text of v, the same at every call.
func JSON(v any) []byte {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(stop{outcome: HarnessError, reason: fmt.Sprintf("building a message: %v", err)})
	}
	return b
}

// On returns s as t uses it.
func (s *Session) On(t *T) *Session {
	c := *s
	c.t = t
	return &c
}

// Link is the link under s.
func (s *Session) Link() wire.Link { return s.link }

// Build is the message and the HTTP headers that c stands for, and the id
// whose answer it awaits.
func (s *Session) Build(c Call) (body []byte, header http.Header, id jsonrpc.ID) {
	params := maps.Clone(c.Params)
	if params == nil {
		params = Obj{}
	}
	meta := Obj{}
	if s.Era == Modern && !c.Bare {
		meta[MetaVersion] = s.Version
		meta[MetaCapabilities] = Obj{}
		meta[MetaClientInfo] = ClientInfo
	}
	if m, ok := params["_meta"].(Obj); ok {
		maps.Copy(meta, m)
	}
	for k, v := range c.Meta {
		if v == nil {
			delete(meta, k)
		} else {
			meta[k] = v
		}
	}
	if len(meta) > 0 {
		params["_meta"] = meta
	}
	msg := Obj{"jsonrpc": "2.0", "method": c.Method}
	if len(params) > 0 {
		msg["params"] = params
	}
	if !c.Note {
		if id = jsonrpc.ID(c.ID); id == "" {
			id = jsonrpc.ID(fmt.Sprintf(`"%s-%d"`, c.Method, s.t.run.nextID()))
		}
		msg["id"] = jsontext.Value(id)
	}
	if body = c.Body; body == nil {
		body = JSON(msg)
	}
	return body, s.header(c), id
}

// header builds the HTTP headers for c.
func (s *Session) header(c Call) http.Header {
	h := http.Header{}
	if c.Verb == "" || c.Verb == http.MethodPost {
		h["Content-Type"] = []string{"application/json"}
		h["Accept"] = []string{"application/json, text/event-stream"}
	}
	if s.Version != "" && s.Version > "2025-03-26" {
		h["MCP-Protocol-Version"] = []string{s.Version}
	}
	if s.SessionID != "" {
		h["Mcp-Session-Id"] = []string{s.SessionID}
	}
	if s.Era == Modern && c.Method != "" {
		h["Mcp-Method"] = []string{c.Method}
		for _, k := range []string{"name", "uri"} {
			if v, ok := c.Params[k].(string); ok && contains([]string{"tools/call", "prompts/get", "resources/read"}, c.Method) {
				h["Mcp-Name"] = []string{HeaderValue(v)}
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Header)) {
		for have := range h {
			if strings.EqualFold(have, k) {
				delete(h, have)
			}
		}
		if v := c.Header[k]; v != "-" {
			h[k] = []string{v}
		}
	}
	return h
}

// Try sends c and returns what came, and what went wrong on the link.
func (s *Session) Try(c Call) (*wire.Reply, error) {
	wait := s.t.StepTimeout()
	if !s.warm.Load() { // a process that has just been started may take its time
		wait += 2 * s.t.run.survey.Startup
	}
	return s.tryFor(c, wait)
}

func (s *Session) tryFor(c Call, wait time.Duration) (*wire.Reply, error) {
	body, header, id := s.Build(c)
	ctx, cancel := context.WithTimeout(s.t.ctx, wait)
	defer cancel()
	out := wire.Outgoing{Body: body, ID: id, Verb: c.Verb, Header: header, Drain: c.Drain, HeadOnly: c.Head, Until: c.Until}
	if c.Verb != "" && c.Verb != http.MethodPost && c.Body == nil {
		out.Body, out.ID = nil, ""
	}
	rep, err := s.link.Send(ctx, out)
	if rep.SeenSeq > 0 {
		s.warm.Store(true)
	}
	s.t.run.cfg.Observed.reply(s, c, out.ID != "" && c.Body == nil, rep)
	return rep, err
}

// Do sends c; the case fails when the link breaks or stays silent.
func (s *Session) Do(c Call) *wire.Reply {
	r, err := s.Try(c)
	if err != nil {
		s.t.failLink("waiting for the answer to "+c.what(), err)
	}
	return r
}

func (c Call) what() string {
	if c.Method == "" {
		return "HTTP " + c.Verb
	}
	return c.Method
}

// Result sends c and returns the result of the answer. The case fails when
// there is no answer or it is an error.
func (s *Session) Result(c Call) jsontext.Value {
	r := s.Do(c)
	if r.Answer == nil {
		s.t.Failf("%s was not answered with a JSON-RPC response%s", c.Method, s.httpHint(r))
	}
	if r.Answer.Error != nil {
		s.t.Failf("%s was answered with the error %s", c.Method, Short(r.Answer.Error))
	}
	return r.Answer.Result
}

func (s *Session) httpHint(r *wire.Reply) string {
	if r.Status == 0 {
		return ""
	}
	return fmt.Sprintf(" (HTTP %d, content type %q, body %q)", r.Status, r.ContentType, Short(r.Body))
}

// Hint describes how r came, for a reason.
func (s *Session) Hint(r *wire.Reply) string { return s.httpHint(r) }

// Initialize opens a legacy session. extra is merged into the capabilities.
func (s *Session) Initialize(version string, capabilities Obj) jsontext.Value {
	r := s.Do(Call{Method: "initialize", Params: Obj{
		"protocolVersion": version, "capabilities": capabilities, "clientInfo": ClientInfo,
	}})
	if r.Answer == nil || r.Answer.Result == nil {
		got := "no JSON-RPC response"
		if r.Answer != nil {
			got = "the error " + Short(r.Answer.Error)
		}
		s.t.Failf("initialize at %s was answered with %s%s", version, got, s.httpHint(r))
	}
	s.adopt(r)
	s.Do(Call{Method: "notifications/initialized", Note: true})
	return r.Answer.Result
}

// adopt takes over what an initialize answer settles.
func (s *Session) adopt(r *wire.Reply) {
	if v, ok := jsonrpc.Text(jsonrpc.Get(r.Answer.Result, "protocolVersion")); ok {
		s.Version = v
	}
	if r.Header != nil {
		s.SessionID = r.Header.Get("Mcp-Session-Id")
	}
}

// Alive asks for something simple and reports whether the answer is a result.
func (s *Session) Alive() error {
	c := Call{Method: "ping"}
	if s.Era == Modern {
		c.Method = "server/discover"
	}
	r, err := s.Try(c)
	switch {
	case err != nil:
		return err
	case r.Answer == nil:
		return fmt.Errorf("%s was not answered%s", c.Method, s.httpHint(r))
	case r.Answer.Error != nil:
		return fmt.Errorf("%s was answered with the error %s", c.Method, Short(r.Answer.Error))
	}
	return nil
}

// Short is b for a message to people: at most 200 bytes.
func Short(b []byte) string {
	if len(b) > 200 {
		return string(b[:200]) + "…"
	}
	return string(b)
}
