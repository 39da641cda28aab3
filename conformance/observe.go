package conformance

import (
	"fmt"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Validator checks one message of a server against the schema of a revision.
// method is the method of the request that it answers, or its own.
type Validator func(revision, method string, m *wire.Message) error

// Rule names what Observations look out for in all traffic, whichever case
// causes it.
type Rule string

// The rules that hold for every message.
const (
	RuleGarbage       Rule = "garbage"        // not a JSON-RPC message
	RuleServerRequest Rule = "server-request" // a request from the server that the era or the capabilities forbid
	RuleReservedCode  Rule = "reserved-code"  // an error code that MCP 2026-07-28 forbids
	RuleErrorShape    Rule = "error-shape"    // an error without integer code and string message
	RuleResultType    Rule = "result-type"    // a modern result without a known resultType
	RuleServerInfo    Rule = "server-info"    // a modern result without serverInfo
	RuleContentType   Rule = "content-type"   // a request answered by neither JSON nor SSE
	RuleNull          Rule = "null-id"        // an answer whose id is null
	RuleSchema        Rule = "schema"         // does not fit the revision's schema
)

// Observations collects what breaks a [Rule] in any traffic of a run. The
// observer of the target must be [Observations.Observe].
type Observations struct {
	Validator Validator // nil: no schema check

	mu       sync.Mutex
	messages map[Era]int
	broken   map[Rule]map[Era][]string
}

const maxSamples = 5

// Observe is the [wire.Observer] for the target.
func (o *Observations) Observe(raw []byte, _ *wire.Message, problem error) {
	if problem != nil {
		o.note(RuleGarbage, "", "%v: %q", problem, Short(raw))
	}
}

// Broken lists up to five findings for a rule in an era. Garbage belongs to no
// era.
func (o *Observations) Broken(r Rule, e Era) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.broken[r][e]...)
}

// Messages is the number of messages seen in an era.
func (o *Observations) Messages(e Era) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.messages[e]
}

func (o *Observations) note(r Rule, e Era, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken == nil {
		o.broken = map[Rule]map[Era][]string{}
	}
	if o.broken[r] == nil {
		o.broken[r] = map[Era][]string{}
	}
	if s := fmt.Sprintf(format, args...); len(o.broken[r][e]) < maxSamples && !contains(o.broken[r][e], s) {
		o.broken[r][e] = append(o.broken[r][e], s)
	}
}

// reply looks at everything that came back for one request or notification.
func (o *Observations) reply(s *Session, c Call, awaited bool, r *wire.Reply) {
	method := c.Method
	o.mu.Lock()
	if o.messages == nil {
		o.messages = map[Era]int{}
	}
	o.messages[s.Era] += len(r.Messages)
	o.mu.Unlock()
	if awaited && r.Status == 200 && r.ContentType != "application/json" && !r.SSE() {
		o.note(RuleContentType, s.Era, "%s was answered with HTTP 200 and content type %q", method, r.Header.Get("Content-Type"))
	}
	for _, m := range r.Messages {
		// What a case bends in the headers, or a legacy session that is over,
		// may well be refused before the body is read; then an error without
		// id is right.
		early := len(c.Header) > 0 || (s.Era == Legacy && r.Status >= 400)
		if awaited && r.Answer == nil && m.Error != nil && !early && !gated(m) && (m.ID == "" || m.ID == "null") {
			o.note(RuleNull, s.Era, "the error for %s, a well-formed request, has no id: %s", method, Short(m.Raw))
		}
		o.message(s, method, m)
	}
}

func (o *Observations) message(s *Session, method string, m *wire.Message) {
	// Where the id could not be read JSON-RPC 2.0 wants null, MCP's schema none.
	// Who follows either is right.
	unread := m.Error != nil && m.ID == "null"
	version := s.Version
	if version == "" {
		if version, _ = MemberText(m.Result, "protocolVersion"); !contains(LegacyVersions, version) {
			version = LegacyVersion
		}
	}
	if o.Validator != nil && !unread {
		of := method
		if m.Method != "" {
			of = m.Method
		}
		if err := o.Validator(version, of, m); err != nil {
			o.note(RuleSchema, s.Era, "%s: %v", of, err)
		}
	}
	switch {
	case m.IsRequest() && (s.Era == Modern || m.Method != "ping"):
		o.note(RuleServerRequest, s.Era, "the server sent the request %s", m.Method)
	case m.Error != nil:
		o.errorObject(s, method, m)
	case m.Result != nil && s.Era == Modern:
		rt, ok := jsonrpc.Text(jsonrpc.Get(m.Result, "resultType"))
		if !ok {
			o.note(RuleResultType, s.Era, "the result of %s has no string resultType", method)
		} else if rt != "complete" && rt != "input_required" {
			o.note(RuleResultType, s.Era, "the result of %s has the resultType %q, which no extension offered here defines", method, rt)
		}
		info := jsonrpc.Get(m.Result, "_meta", MetaServerInfo)
		// A trust layer tells nothing of the server in what carries the seal.
		if _, ok := jsonrpc.Text(jsonrpc.Get(orEmpty(info), "name")); !ok && !strings.Contains(string(m.Result), `"org.trustedmcp/`) && !strings.HasPrefix(method, "trust/") {
			o.note(RuleServerInfo, s.Era, "the result of %s has no _meta[%q] with a name", method, MetaServerInfo)
		}
	}
}

func (o *Observations) errorObject(s *Session, method string, m *wire.Message) {
	code, ok := m.Code()
	if _, text := jsonrpc.Text(jsonrpc.Get(orEmpty(m.Error), "message")); !ok || !text {
		o.note(RuleErrorShape, s.Era, "the error for %s is %s", method, Short(m.Error))
		return
	}
	if s.Era != Modern {
		return
	}
	defined := code == jsonrpc.CodeHeaderMismatch || code == jsonrpc.CodeMissingCapability || code == jsonrpc.CodeUnsupportedVersion
	if code == -32002 || code == -32042 || (code <= -32020 && code >= -32099 && !defined) {
		o.note(RuleReservedCode, s.Era, "%s was answered with the error code %d", method, code)
	}
}

// orEmpty is v if it is an object, else an empty object.
func orEmpty(v jsontext.Value) jsontext.Value {
	if v.Kind() == '{' {
		return v
	}
	return jsontext.Value("{}")
}
