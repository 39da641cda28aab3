package transport

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// toolTable knows the tools of the server behind, which the inline carrier binds
// calls to. It asks in process, and keeps the answer as long as the server says
// that it may be kept: by default not at all, so that a changed definition is
// noticed by the very next call.
type toolTable struct {
	h *handler

	mu      sync.Mutex
	tools   []toolEntry
	until   time.Time
	inner   string // id of a session of our own with a legacy server, or ""
	version string // of that session, "" when there is none
}

type toolEntry struct {
	protocol.Tool
	definition jsontext.Value
}

// maxToolPages bounds how far a listing is followed.
const maxToolPages = 100

// find returns the tool of that name.
func (t *toolTable) find(r *http.Request, name string) (*protocol.Tool, error) {
	all, err := t.list(r)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i].Tool, nil
		}
	}
	return nil, protocol.Errorf(protocol.ToolChanged, "there is no tool %.100q here; list the tools again", name)
}

func (t *toolTable) list(r *http.Request) ([]toolEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.h.clock()
	if now.Before(t.until) {
		return t.tools, nil
	}
	var tools []toolEntry
	cursor, ttl := "", int64(0)
	for range maxToolPages {
		result, err := t.ask(r, cursor)
		if err != nil {
			return nil, err
		}
		err = jsonrpc.Elements(jsonrpc.Get(result, "tools"), func(v jsontext.Value) error {
			name, ok := jsonrpc.Text(jsonrpc.Get(v, "name"))
			d, err := protocol.ToolDigest(t.h.trust.Identity().URI(), v)
			if ok && err == nil {
				tools = append(tools, toolEntry{protocol.Tool{Name: name, Digest: d}, bytes.Clone(v)})
			}
			return err
		})
		if err != nil {
			return nil, protocol.Errorf(protocol.Busy, "the server's tools/list can't be used: %v", err)
		}
		ttl, _ = strconv.ParseInt(string(jsonrpc.Get(result, "ttlMs")), 10, 64)
		if scope, _ := jsonrpc.Text(jsonrpc.Get(result, "cacheScope")); scope != "public" {
			ttl = 0 // it may be this caller's alone, by a field that is passed on
		}
		if cursor, _ = jsonrpc.Text(jsonrpc.Get(result, "nextCursor")); cursor == "" {
			break
		}
	}
	t.tools, t.until = tools, now.Add(time.Duration(min(max(ttl, 0), 60_000))*time.Millisecond)
	return tools, nil
}

// ask does one tools/list in process: as a modern request, or in a session of
// our own when the server is of the older era.
func (t *toolTable) ask(r *http.Request, cursor string) (jsontext.Value, error) {
	params := ``
	if cursor != "" {
		params = `"cursor":` + string(jsonrpc.Quote(cursor)) + `,`
	}
	if t.version == "" {
		result := t.post(r, http.Header{headerVersion: {revisionModern}, headerMethod: {"tools/list"}}, "tools/list",
			`{`+params+`"_meta":{"`+metaVersion+`":"`+revisionModern+`","`+metaCapabilities+`":{},"`+metaClientInfo+`":`+outerName+`}}`, nil)
		if result != nil {
			return result, nil
		}
	}
	for range 2 { // once more when the session is over
		if err := t.open(r); err != nil {
			return nil, err
		}
		if result := t.post(r, t.sessionHeader(), "tools/list", `{`+strings.TrimSuffix(params, ",")+`}`, nil); result != nil {
			return result, nil
		}
		t.version = ""
	}
	return nil, protocol.Errorf(protocol.Busy, "the server's tools can't be listed, so nothing can be sealed to one of them")
}

// open makes the session of our own, unless there is one. t.mu is held.
func (t *toolTable) open(r *http.Request) error {
	if t.version != "" {
		return nil
	}
	head := http.Header{}
	result := t.post(r, http.Header{}, "initialize", `{"protocolVersion":"`+revisionLegacy+`","capabilities":{},"clientInfo":`+outerName+`}`, head)
	version, ok := jsonrpc.Text(jsonrpc.Get(result, "protocolVersion"))
	if !ok {
		return protocol.Errorf(protocol.Busy, "the server behind does not answer initialize")
	}
	t.version, t.inner = version, head.Get(headerSession)
	in := t.h.bareRequest(r, http.MethodPost, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	t.serve(r, in, t.sessionHeader())
	return nil
}

// Close ends the session of our own, if there is one. The handler stays usable.
func (h *handler) Close() error {
	t := &h.tools
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inner != "" {
		r, err := http.NewRequest(http.MethodDelete, "/", nil)
		if err != nil {
			return err
		}
		t.serve(r, h.bareRequest(r, http.MethodDelete, nil), t.sessionHeader())
	}
	t.inner, t.version = "", ""
	return nil
}

func (t *toolTable) sessionHeader() http.Header {
	h := http.Header{headerVersion: {t.version}}
	if t.inner != "" {
		h[headerSession] = []string{t.inner}
	}
	return h
}

func (t *toolTable) post(r *http.Request, head http.Header, method, params string, out http.Header) jsontext.Value {
	const id = `"org.trustedmcp/trust"`
	in := t.h.bareRequest(r, http.MethodPost, []byte(`{"jsonrpc":"2.0","id":`+id+`,"method":"`+method+`","params":`+params+`}`))
	rec := t.serve(r, in, head)
	if out != nil {
		copyHeader(out, rec.header)
	}
	result, _ := rec.response(id)
	return result
}

func (t *toolTable) serve(r, in *http.Request, head http.Header) *recorder {
	in.Header = head
	in.Header["Content-Type"] = []string{typeJSON}
	in.Header["Accept"] = []string{typeJSON + ", " + typeSSE}
	for _, name := range t.h.pass {
		if v := r.Header[name]; v != nil {
			in.Header[name] = slices.Clone(v)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), fetchTimeout)
	defer cancel()
	rec := newRecorder(t.h.limits.message())
	t.h.inner.ServeHTTP(rec, in.WithContext(ctx))
	return rec
}

// session gives a legacy request that came inline the session that it runs in.
// The client's own session is with a gateway, and means nothing here.
func (t *toolTable) session(r *http.Request, req *protocol.Request) error {
	fields := slices.DeleteFunc(slices.Clone(req.Content.Meta.Fields), func(f protocol.Field) bool { return f.Name == "mcp-session-id" })
	if req.Revision < revisionModern {
		id := ""
		if t.h.mode == protocol.ModePreferred { // a gateway opened it here in plaintext
			id = r.Header.Get(headerSession)
		}
		if id == "" {
			t.mu.Lock()
			defer t.mu.Unlock()
			if err := t.open(r); err != nil {
				return err
			}
			id = t.inner
		}
		if id != "" {
			fields = append(fields, protocol.Field{Name: "mcp-session-id", Value: []byte(id)})
		}
	}
	req.Content.Meta.Fields = fields
	return nil
}

// publicTools is the listing that stands outside the seal: nothing when the
// tools are not public, else without what would make a gateway look for, or put,
// anything outside: outputSchema and x-mcp-header.
func (h *handler) publicTools(r *http.Request) []byte {
	out := []byte{'['}
	if h.public {
		all, err := h.tools.list(r)
		for i := 0; err == nil && i < len(all); i++ {
			def, derr := removeMember(all[i].definition, "outputSchema")
			if derr == nil {
				def, derr = withoutKey(def, "x-mcp-header")
			}
			if derr != nil {
				continue
			}
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, def...)
		}
	}
	return append(out, ']')
}

// withoutKey removes every member of that name below an "inputSchema".
func withoutKey(def []byte, name string) ([]byte, error) {
	start, end, _, err := member(def, "inputSchema")
	if err != nil || start < 0 {
		return def, err
	}
	schema, err := prune(def[start:end], name)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(def))
	return append(append(append(out, def[:start]...), schema...), def[end:]...), nil
}

func prune(v jsontext.Value, name string) ([]byte, error) {
	var out []byte
	var err error
	switch v.Kind() {
	case '{':
		out = append(out, '{')
		err = jsonrpc.Members(v, func(key string, val jsontext.Value) error {
			if key == name {
				return nil
			}
			if len(out) > 1 {
				out = append(out, ',')
			}
			b, err := prune(val, name)
			out = append(append(append(out, jsonrpc.Quote(key)...), ':'), b...)
			return err
		})
		out = append(out, '}')
	case '[':
		out = append(out, '[')
		err = jsonrpc.Elements(v, func(val jsontext.Value) error {
			if len(out) > 1 {
				out = append(out, ',')
			}
			b, err := prune(val, name)
			out = append(out, b...)
			return err
		})
		out = append(out, ']')
	default:
		out = append(out, v...)
	}
	return out, err
}
