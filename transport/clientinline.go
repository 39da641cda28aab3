package transport

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
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

// inlinePeer is what a client knows of a server that it reaches through
// gateways which take part in MCP themselves (inline carrier).
type inlinePeer struct {
	mu    sync.Mutex
	link  *link                     // nil: not known yet
	tools map[string]*protocol.Tool // by the name that the gateway gives them
}

// maxInlineTools bounds the tools that are remembered.
const maxInlineTools = 4096

// outerFields of the client's own request stand outside under the inline
// carrier: those of MCP's transport, which gateways go by. Mcp-Name is set anew.
var outerFields = []string{"Content-Type", "Accept", headerVersion, headerMethod, headerSession, "Last-Event-Id"}

// runInline sends a request of the client as MCP's own method, so that gateways
// pass it on. Only tools/call and tools/list have a sealed form.
func (x *exchange) runInline() (*http.Response, error) {
	m, err := jsonrpc.Parse(x.body, jsonrpc.Limits{MaxBytes: x.rt.cfg.Limits.message(), MaxDepth: x.rt.cfg.Limits.MaxDepth})
	switch {
	case x.req.Method == http.MethodGet && x.rt.cfg.Mode == protocol.ModeRequired:
		// What a server says of its own accord can't be sealed under this carrier.
		return newResponse(x.req, http.StatusMethodNotAllowed, http.Header{"Allow": {"POST, DELETE"}}, nil), nil
	case x.req.Method != http.MethodPost:
		return x.passInline(nil)
	case err != nil:
		return nil, protocol.Errorf(protocol.CannotSeal, "%v", err)
	case m.Method == "initialize", m.Method == "server/discover", m.Method == "ping", m.IsNotification():
		return x.passInline(m)
	case m.IsRequest() && (m.Method == "tools/call" || m.Method == "tools/list"):
		return x.callInline(m)
	}
	return nil, protocol.Errorf(protocol.CannotSeal, "%.100q has no sealed form under the inline carrier; use envelope", m.Method)
}

// plainInline is what of m goes out in plaintext, and nil when nothing does. In
// required mode that is the same for all users: m's own params, name and ids
// stay here. A notification is of the conversation inside, so but for the one
// that ends a handshake it has no reader outside.
func (x *exchange) plainInline(m *jsonrpc.Message) ([]byte, error) {
	if x.rt.cfg.Mode != protocol.ModeRequired || m == nil {
		return x.body, nil
	}
	params := ""
	if version := x.req.Header.Get(headerVersion); version >= revisionModern {
		params = `"_meta":` + x.inlineMeta(version, "")
	}
	switch m.Method {
	case "notifications/initialized":
		return []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), nil
	case "initialize":
		version, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "protocolVersion"))
		if !slices.Contains(outerRevisions[1:], version) {
			version = revisionLegacy
		}
		params = `"protocolVersion":"` + version + `","capabilities":` + string(x.rt.cfg.Settings.Capabilities(true)) + `,"clientInfo":` + outerName
	case "tools/list":
		// A cursor of a listing that came in plaintext goes back where it came from.
		if cursor := jsonrpc.Get(m.Params, "cursor"); cursor != nil && x.ep.offered.Load() {
			return nil, protocol.Errorf(protocol.KeyObjectExpired, "the listing that the cursor is of was sealed to a key that is over; list the tools from the start")
		} else if cursor != nil {
			if params != "" {
				params += ","
			}
			params += `"cursor":` + string(cursor)
		}
	}
	if m.IsNotification() {
		return nil, nil
	}
	return []byte(`{"jsonrpc":"2.0","id":` + strconv.FormatUint(x.ep.ids.Add(1), 10) + `,"method":"` + m.Method + `","params":{` + params + `}}`), nil
}

// passInline passes what opens a conversation with a gateway, and looks for the
// server's key in the answer.
func (x *exchange) passInline(m *jsonrpc.Message) (*http.Response, error) {
	required := x.rt.cfg.Mode == protocol.ModeRequired
	if !required { // else nothing of the user goes out
		if err := x.rt.cfg.authorize(x.ctx, nil, 0, &x.content); err != nil {
			return nil, err
		}
	}
	body, err := x.plainInline(m)
	if err != nil {
		return nil, err
	}
	if body == nil && m != nil {
		return newResponse(x.req, http.StatusAccepted, http.Header{}, nil), nil
	}
	req := x.req.Clone(x.ctx)
	req.Header = x.inlineHeader()
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	resp, err := x.rt.base.RoundTrip(req)
	if err != nil {
		return nil, unreachable(err)
	}
	isMessage := isType(resp.Header, typeJSON) || isType(resp.Header, typeSSE)
	if m == nil || !m.IsRequest() || !isMessage && !required {
		return resp, nil
	}
	defer resp.Body.Close()
	if !isMessage {
		return nil, protocol.Errorf(protocol.UnsealedError, "HTTP status %d with content type %.60q came unsealed", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	src := newSource(resp, x.rt.cfg.Limits)
	o, err := src.message()
	for err == errComment || err == nil && !o.IsResponse() {
		o, err = src.message()
	}
	if err != nil {
		return nil, x.reading(err)
	}
	if o.Result.Kind() == '{' && m.Method != "ping" && !x.rt.cfg.Fresh {
		settings, key, err := offered(o.Result)
		if err == nil && key != nil {
			var client *protocol.Client
			if client, err = x.ep.verify(key, settings, nil); err == nil {
				x.ep.inline.set(x.ep.newLink(client, "", ""))
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if required && o.Error != nil {
		return nil, src.refusal(o)
	}
	if body, err = setMember(o.Raw, []byte(x.id), "id"); err == nil {
		body, err = labelResults(body, unattested)
	}
	if err != nil {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "%v", err)
	}
	resp.Header.Set("Content-Type", typeJSON)
	return newResponse(x.req, resp.StatusCode, resp.Header, body), nil
}

func (x *exchange) inlineHeader() http.Header {
	h := http.Header{}
	for _, name := range slices.Concat(outerFields, x.rt.forward) {
		if v := x.req.Header[name]; v != nil {
			h[name] = v
		}
	}
	return h
}

func (p *inlinePeer) set(l *link) {
	p.mu.Lock()
	p.link = l
	p.mu.Unlock()
}

// current returns the link while its key is young enough to be used.
func (p *inlinePeer) current(now time.Time) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil || !now.Before(p.link.refreshAt) {
		return nil
	}
	return p.link
}

func (p *inlinePeer) tool(name string) *protocol.Tool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tools[name]
}

func (p *inlinePeer) learn(name string, t *protocol.Tool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tools == nil || len(p.tools) >= maxInlineTools {
		p.tools = map[string]*protocol.Tool{}
	}
	p.tools[name] = t
}

// forgetTools makes the next call of each tool ask again what it is: the user
// has a new listing to approve.
func (p *inlinePeer) forgetTools() {
	p.mu.Lock()
	p.tools = nil
	p.mu.Unlock()
}

func (x *exchange) callInline(m *jsonrpc.Message) (*http.Response, error) {
	peer := &x.ep.inline
	name, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "name"))
	if m.Method == "tools/list" {
		peer.forgetTools()
		name = ""
	}
	var call *protocol.Call
	var last *protocol.Error
	for range maxTries {
		l := peer.current(x.rt.clock())
		var tool *protocol.Tool // none for tools/list
		if m.Method == "tools/call" {
			tool = peer.tool(name)
			if l == nil || tool == nil {
				learned, fresh, err := x.attestInline(name)
				var e *protocol.Error
				if errors.As(err, &e) && e.Reason == protocol.TrustMissing && x.rt.cfg.Mode == protocol.ModePreferred && call == nil && !x.ep.offered.Load() {
					return x.plaintext()
				}
				if err != nil {
					return nil, err
				}
				if tool != nil && *tool != *learned { // it was approved as something else
					e := reasonOf(protocol.Errorf(protocol.ToolChanged, "tool %.100q is not what it was when it was listed; list the tools again", name))
					e.Tool = learned
					return nil, e
				}
				peer.learn(name, learned)
				l, tool = fresh, learned
			}
		} else if l == nil { // nothing is known yet that the listing could be sealed to
			return x.passInline(m)
		}
		a, err := x.sealInline(l, m, name, tool, &call)
		var e *protocol.Error
		switch {
		case err == nil:
			return x.answerInline(a, m)
		case errors.As(err, &e) && x.rt.cfg.sealAgain(e):
		case errors.As(err, &e) && (e.Reason == protocol.UnknownKey || e.Reason == protocol.KeyObjectExpired):
			peer.set(nil)
			if e.KeyObject != nil && !x.rt.cfg.Fresh {
				if client, err := x.ep.verify(e.KeyObject, l.client.Peer().Settings(), nil); err == nil {
					peer.set(x.ep.newLink(client, "", ""))
				}
			}
		default:
			return nil, err
		}
		last = e
		x.rt.see(Event{Kind: EventRetried, Err: e})
	}
	return nil, protocol.Errorf(protocol.RetriesExhausted, "%d seals of the message were refused; the last one: %v", maxTries, last)
}

// attestInline asks what tool name is, and for a key object, by a tools/call that
// does not run it.
func (x *exchange) attestInline(name string) (*protocol.Tool, *link, error) {
	nonce := make([]byte, 16)
	rand.Read(nonce)
	resp, err := x.sendInline("tools/call", name, `"`+protocol.MetaAttest+`":{"nonce":"`+protocol.Base64(nonce)+`"`+x.rt.cfg.wantEvidence()+`}`)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	o, err := inlineResult(resp, x.rt.cfg.Limits)
	if err != nil {
		return nil, nil, x.reading(err)
	}
	sv, kv, tv := jsonrpc.Get(o.meta, protocol.MetaSettings), jsonrpc.Get(o.meta, protocol.MetaKey), jsonrpc.Get(o.meta, protocol.MetaTool)
	if sv == nil || kv == nil || tv == nil {
		return nil, nil, protocol.Errorf(protocol.TrustMissing, "tool %.100q was asked for a key object and showed none", name)
	}
	settings, key, err := parseOffer(sv, kv)
	if err != nil {
		return nil, nil, err
	}
	client, err := x.ep.verify(key, settings, nonce)
	if err != nil {
		return nil, nil, err
	}
	tool, err := protocol.ParseTool(tv)
	if err != nil {
		return nil, nil, protocol.Errorf(protocol.AnswerInvalid, "%v", err)
	}
	if !renamed(name, tool.Name) {
		return nil, nil, protocol.Errorf(protocol.OuterMismatch, "what is listed as %.100q calls itself %.100q: a gateway may put a prefix before a tool's name, not swap tools", name, tool.Name)
	}
	l := x.ep.newLink(client, "", "")
	x.ep.inline.set(l)
	return tool, l, nil
}

// renamed reports whether outside may be what a gateway made of own: the same,
// or own behind a prefix that ends in a separator. The answer that tells own is
// not authenticated, so anything freer would let a relay swap tools.
func renamed(outside, own string) bool {
	prefix, ok := strings.CutSuffix(outside, own)
	if !ok || own == "" {
		return false
	}
	return prefix == "" || strings.IndexByte("_-./:", prefix[len(prefix)-1]) >= 0
}

// sealInline seals the client's request for tool, and sends it.
func (x *exchange) sealInline(l *link, m *jsonrpc.Message, name string, tool *protocol.Tool, call **protocol.Call) (*answer, error) {
	content := x.content
	extra := ""
	if m.Method == "tools/call" {
		body, err := setMember(x.body, jsonrpc.Quote(tool.Name), "params", "name")
		if err != nil {
			return nil, protocol.Errorf(protocol.CannotSeal, "%v", err)
		}
		content.Body = body
		content.Meta.Fields = slices.Clone(content.Meta.Fields)
		for i, f := range content.Meta.Fields {
			if f.Name == "mcp-name" {
				content.Meta.Fields[i].Value = []byte(encodeHeader(tool.Name))
			}
		}
		extra = `,"` + protocol.MetaTool + `":` + string(tool.JSON())
	}
	c, frame, err := x.rt.cfg.seal(x.ctx, l.client, *call, content, protocol.Outer{Carrier: protocol.Inline, Tool: tool}, x.rt.clock())
	if err != nil {
		return nil, err
	}
	*call = c
	resp, err := x.sendInline(m.Method, name, `"`+protocol.MetaFrames+`":["`+protocol.Base64(frame)+`"]`+extra)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	o, err := inlineResult(resp, x.rt.cfg.Limits)
	if err != nil {
		return nil, x.reading(err)
	}
	if o.frames == nil {
		return nil, protocol.Errorf(protocol.PlaintextAnswer, "a %s result without sealed frames", m.Method)
	}
	src := &frameList{outside: bytes.Clone(o.Result)}
	err = jsonrpc.Elements(o.frames, func(v jsontext.Value) error {
		s, _ := jsonrpc.Text(v)
		b, err := protocol.ParseBase64(s)
		src.list = append(src.list, b)
		return err
	})
	if err != nil {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "%s: %v", protocol.MetaFrames, err)
	}
	return firstFrame(src, l, c)
}

// frameList holds all frames of an answer that came inline.
type frameList struct {
	list    [][]byte
	outside jsontext.Value // the result that they came in
}

func (f *frameList) release()     {}
func (f *frameList) Close() error { return nil }

func (f *frameList) frame() ([]byte, error) {
	if len(f.list) == 0 {
		return nil, io.EOF
	}
	first := f.list[0]
	f.list = f.list[1:]
	return first, nil
}

// inlineMeta is the _meta of a modern request. more begins with a comma, or is "".
func (x *exchange) inlineMeta(version, more string) string {
	return `{"` + metaVersion + `":` + string(jsonrpc.Quote(version)) + `,"` + metaCapabilities + `":` +
		string(x.rt.cfg.Settings.Capabilities(false)) + `,"` + metaClientInfo + `":` + outerName + more + `}`
}

// sendInline posts a request of one of MCP's own methods with members in _meta.
func (x *exchange) sendInline(method, name, members string) (*http.Response, error) {
	params := `{`
	if method == "tools/call" {
		params += `"name":` + string(jsonrpc.Quote(name)) + `,`
	}
	version := x.req.Header.Get(headerVersion)
	meta := `{` + members + `}`
	if version >= revisionModern {
		meta = x.inlineMeta(version, ","+members)
	}
	body := `{"jsonrpc":"2.0","id":` + strconv.FormatUint(x.ep.ids.Add(1), 10) + `,"method":"` + method + `","params":` + params + `"_meta":` + meta + `}}`
	req, err := http.NewRequestWithContext(x.ctx, http.MethodPost, x.ep.url.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = x.inlineHeader()
	if version >= revisionModern {
		req.Header[headerMethod] = []string{method}
		if method == "tools/call" {
			req.Header[headerName] = []string{encodeHeader(name)}
		}
	}
	resp, err := x.rt.base.RoundTrip(req)
	if err != nil {
		return nil, unreachable(err)
	}
	return resp, nil
}

// inlineResult reads the result of what sendInline sent. What a gateway streams
// before it is its own, and unsealed: it is left out.
func inlineResult(resp *http.Response, lim Limits) (*outer, error) {
	if !isType(resp.Header, typeJSON) && !isType(resp.Header, typeSSE) {
		return nil, protocol.Errorf(protocol.UnsealedError, "HTTP status %d with content type %.60q came unsealed", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	src := newSource(resp, lim)
	o, err := src.message()
	for err == errComment || err == nil && !o.IsResponse() {
		o, err = src.message()
	}
	switch {
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	case o.Error != nil:
		return nil, src.refusal(o)
	}
	return o, nil
}

// answerInline restores the answer. A sealed listing is delivered when its names
// are those that the gateway lists too, since calls go by those, or when none are
// listed outside; else the gateway's is, labelled as what it is.
func (x *exchange) answerInline(a *answer, m *jsonrpc.Message) (*http.Response, error) {
	outside := a.src.(*frameList).outside
	resp, err := a.response(x)
	if err != nil || m.Method != "tools/list" {
		return resp, err
	}
	var inside jsontext.Value
	rec := newRecorder(x.rt.cfg.Limits.message() + 4096)
	rec.header = resp.Header
	if _, err := io.Copy(rec, resp.Body); err != nil {
		return nil, err
	}
	inside, _ = rec.response(m.ID)
	in, out := toolNames(inside), toolNames(outside)
	if len(out) == 0 || slices.Equal(in, out) {
		return newResponse(x.req, resp.StatusCode, resp.Header, rec.body), nil
	}
	if outside, err = removeMember(outside, "_meta", protocol.MetaFrames); err != nil {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "%v", err)
	}
	body, err := labelResults(jsonrpc.Response(m.ID, outside), unattested)
	if err != nil {
		return nil, protocol.Errorf(protocol.AnswerInvalid, "%v", err)
	}
	return newResponse(x.req, http.StatusOK, http.Header{"Content-Type": {typeJSON}}, body), nil
}

func toolNames(result jsontext.Value) []string {
	var names []string
	v := jsonrpc.Get(result, "tools")
	if v == nil {
		return nil
	}
	jsonrpc.Elements(v, func(t jsontext.Value) error {
		s, _ := jsonrpc.Text(jsonrpc.Get(t, "name"))
		names = append(names, s)
		return nil
	})
	slices.Sort(names)
	return names
}

// encodeHeader is MCP's form for values that a header can't hold.
func encodeHeader(s string) string {
	safe := s != "" && s[0] != ' ' && s[len(s)-1] != ' ' && !strings.HasPrefix(s, "=?base64?")
	for i := 0; safe && i < len(s); i++ {
		safe = s[i] >= 0x20 && s[i] < 0x7f
	}
	if safe {
		return s
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

// decodeHeader is the reverse of encodeHeader.
func decodeHeader(s string) string {
	if t, ok := strings.CutPrefix(s, "=?base64?"); ok {
		if t, ok = strings.CutSuffix(t, "?="); ok {
			if b, err := base64.StdEncoding.DecodeString(t); err == nil {
				return string(b)
			}
		}
	}
	return s
}
