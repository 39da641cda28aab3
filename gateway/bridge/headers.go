package bridge

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Names of MCP's headers, canonical as net/http writes them, and of the
// members of _meta that a bridge reads.
const (
	hdrVersion   = "Mcp-Protocol-Version"
	hdrMethod    = "Mcp-Method"
	hdrName      = "Mcp-Name"
	hdrParam     = "Mcp-Param-"
	hdrSession   = "Mcp-Session-Id"
	hdrLastEvent = "Last-Event-Id"

	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaLogLevel     = "io.modelcontextprotocol/logLevel"
	metaSubscription = "io.modelcontextprotocol/subscriptionId"
)

// legacyVersion reports whether v is a revision with an initialize handshake.
func legacyVersion(v string) bool {
	switch v {
	case "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25":
		return true
	}
	return false
}

// modernVersion is the revision that m declares in its _meta, or empty: only
// the modern era has the key, so its presence tells the era.
func modernVersion(m *jsonrpc.Message) string {
	v, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "_meta", metaVersion))
	if legacyVersion(v) {
		return ""
	}
	return v
}

// namedBy returns the member of params that Mcp-Name mirrors, and whether the
// header is required.
func namedBy(method string) (member string, required bool) {
	switch method {
	case "tools/call", "prompts/get":
		return "name", true
	case "resources/read":
		return "uri", true
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId", false
	}
	return "", false
}

const (
	sentinelOpen  = "=?base64?"
	sentinelClose = "?="
)

// encodeHeader makes s safe as a header value: MCP 2026-07-28, Streamable
// HTTP, "Value Encoding".
func encodeHeader(s string) string {
	safe := !(strings.HasPrefix(s, sentinelOpen) && strings.HasSuffix(s, sentinelClose))
	for i := range len(s) {
		c := s[i]
		if edge := i == 0 || i == len(s)-1; (c < 0x20 && c != '\t') || c > 0x7e || edge && (c == ' ' || c == '\t') {
			safe = false
		}
	}
	if safe {
		return s
	}
	return sentinelOpen + base64.StdEncoding.EncodeToString([]byte(s)) + sentinelClose
}

func decodeHeader(s string) (string, bool) {
	for i := range len(s) {
		if c := s[i]; (c < 0x20 && c != '\t') || c > 0x7e {
			return "", false
		}
	}
	if enc, ok := strings.CutPrefix(s, sentinelOpen); ok {
		if enc, ok = strings.CutSuffix(enc, sentinelClose); ok {
			b, err := base64.StdEncoding.Strict().DecodeString(enc)
			return string(b), err == nil
		}
	}
	return s, true
}

// one returns the only value of a header. Several values that differ are what
// an attacker sends to show two readers different things, so they are refused.
func one(h http.Header, name string) (value string, present bool, err error) {
	vals := h[http.CanonicalHeaderKey(name)]
	for _, v := range vals {
		if v != vals[0] {
			return "", true, fmt.Errorf("header %s is given %d times with different values", name, len(vals))
		}
	}
	if len(vals) == 0 {
		return "", false, nil
	}
	return strings.Trim(vals[0], " \t"), true, nil
}

// checkMirrors verifies MCP's mirrored headers of a modern request against its
// body, those of tool parameters excepted.
func checkMirrors(h http.Header, m *jsonrpc.Message) error {
	method, present, err := one(h, hdrMethod)
	switch {
	case err != nil:
		return err
	case !present && m.IsRequest():
		return fmt.Errorf("required header %s is missing", hdrMethod)
	case present && method != m.Method:
		return fmt.Errorf("header %s is %q, the body's method is %q", hdrMethod, method, m.Method)
	}
	member, required := namedBy(m.Method)
	raw, present, err := one(h, hdrName)
	if err != nil || member == "" {
		return err
	}
	body, inBody := jsonrpc.Text(jsonrpc.Get(m.Params, member))
	switch {
	case !present && required && inBody:
		return fmt.Errorf("required header %s is missing; the body's params.%s is %q", hdrName, member, body)
	case !present:
		return nil // without a name in the body either, the request is invalid for the server to say
	}
	name, ok := decodeHeader(raw)
	switch {
	case !ok:
		return fmt.Errorf("header %s has invalid characters or base64", hdrName)
	case !inBody || name != body:
		return fmt.Errorf("header %s is %q, the body's params.%s is %q", hdrName, name, member, body)
	}
	return nil
}

// A mirror is a tool parameter marked x-mcp-header.
type mirror struct {
	header string   // the whole header name
	path   []string // chain of properties
}

// toolMirrors reads the x-mcp-header annotations of an input schema. An error
// says which constraint of MCP the definition violates; such a tool must not
// be offered over HTTP.
func toolMirrors(schema jsontext.Value) ([]mirror, error) {
	var out []mirror
	seen := map[string]bool{}
	var walk func(v jsontext.Value, path []string, reachable bool) error
	walk = func(v jsontext.Value, path []string, reachable bool) error {
		if v.Kind() == '[' {
			return elements(v, func(e jsontext.Value) error { return walk(e, path, false) })
		}
		if v.Kind() != '{' {
			return nil
		}
		return jsonrpc.Members(v, func(name string, val jsontext.Value) error {
			switch name {
			case "x-mcp-header":
				s, ok := jsonrpc.Text(val)
				where := strings.Join(path, ".")
				switch {
				case !reachable || len(path) == 0:
					return fmt.Errorf("x-mcp-header at %q is not reachable by properties alone", where)
				case !ok || !isToken(s):
					return fmt.Errorf("x-mcp-header %s of %q is no HTTP token", val, where)
				case seen[strings.ToLower(s)]:
					return fmt.Errorf("x-mcp-header %q is used twice", s)
				case !primitive(jsonrpc.Get(v, "type")):
					return fmt.Errorf("x-mcp-header of %q: the type must be string, integer or boolean", where)
				}
				seen[strings.ToLower(s)] = true
				out = append(out, mirror{http.CanonicalHeaderKey(hdrParam + s), append([]string(nil), path...)})
			case "properties":
				if val.Kind() != '{' {
					return nil
				}
				return jsonrpc.Members(val, func(prop string, sub jsontext.Value) error {
					return walk(sub, append(path[:len(path):len(path)], prop), reachable)
				})
			case "default", "examples", "const", "enum": // data, not schema
			case "$defs", "definitions", "patternProperties", "dependentSchemas":
				if val.Kind() != '{' {
					return nil
				}
				return jsonrpc.Members(val, func(_ string, sub jsontext.Value) error { return walk(sub, path, false) })
			default:
				return walk(val, path, false)
			}
			return nil
		})
	}
	if err := walk(schema, nil, true); err != nil {
		return nil, err
	}
	return out, nil
}

func primitive(typ jsontext.Value) bool {
	is := func(v jsontext.Value) bool {
		s, _ := jsonrpc.Text(v)
		return s == "string" || s == "integer" || s == "boolean"
	}
	if typ.Kind() != '[' {
		return is(typ)
	}
	n, ok := 0, true
	_ = elements(typ, func(e jsontext.Value) error {
		if s, _ := jsonrpc.Text(e); s != "null" {
			n, ok = n+1, ok && is(e)
		}
		return nil
	})
	return ok && n == 1
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// headerText converts a primitive argument to its header text.
func headerText(v jsontext.Value) (string, bool) {
	switch v.Kind() {
	case '"':
		return jsonrpc.Text(v)
	case 't', 'f':
		return string(v), true
	case '0':
		n, ok := safeInteger(string(v))
		return strconv.FormatInt(n, 10), ok
	}
	return "", false
}

func safeInteger(s string) (int64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53-1 {
		return 0, false
	}
	return int64(f), true
}

// checkParams verifies the Mcp-Param-* headers of a tools/call.
func checkParams(h http.Header, mirrors []mirror, params jsontext.Value) error {
	for _, mi := range mirrors {
		raw, present, err := one(h, mi.header)
		if err != nil {
			return err
		}
		arg := jsonrpc.Get(params, append([]string{"arguments"}, mi.path...)...)
		where := strings.Join(mi.path, ".")
		if arg == nil || arg.Kind() == 'n' {
			if present {
				return fmt.Errorf("header %s is present, argument %q is not", mi.header, where)
			}
			continue
		}
		want, ok := headerText(arg)
		if !ok {
			if present {
				return fmt.Errorf("header %s is present, argument %q is no string, safe integer or boolean", mi.header, where)
			}
			continue // the server refuses the argument by its schema
		}
		if !present {
			return fmt.Errorf("required header %s is missing; it mirrors argument %q", mi.header, where)
		}
		got, ok := decodeHeader(raw)
		if !ok {
			return fmt.Errorf("header %s has invalid characters or base64", mi.header)
		}
		same := got == want
		if arg.Kind() == '0' {
			n, ok := safeInteger(got)
			same = ok && strconv.FormatInt(n, 10) == want
		}
		if !same {
			return fmt.Errorf("header %s differs from argument %q", mi.header, where)
		}
	}
	return nil
}

// setParams adds the Mcp-Param-* headers of a tools/call.
func setParams(h http.Header, mirrors []mirror, params jsontext.Value) {
	for _, mi := range mirrors {
		arg := jsonrpc.Get(params, append([]string{"arguments"}, mi.path...)...)
		if s, ok := headerText(arg); ok {
			h.Set(mi.header, encodeHeader(s))
		}
	}
}

// elements calls f for each element of the JSON array v.
func elements(v jsontext.Value, f func(jsontext.Value) error) error {
	dec := jsontext.NewDecoder(strings.NewReader(string(v)))
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != ']' {
		e, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := f(e.Clone()); err != nil {
			return err
		}
	}
	return nil
}
