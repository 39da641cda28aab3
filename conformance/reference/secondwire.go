package reference

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

const maxOuter = 6 << 20 // bytes of an outer message

func (s *Second) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxOuter+1))
	if err != nil {
		return
	}
	if r.Header.Get("Content-Type") == protocol.MediaTypeFrames {
		s.framed(w, r, body)
		return
	}
	status, messages := s.outer(r.Header, body, false)
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case len(messages) == 0:
		w.WriteHeader(status)
	case len(messages) == 1:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(messages[0])
	default:
		w.Header().Set("Content-Type", "text/event-stream")
		for _, m := range messages {
			fmt.Fprintf(w, "data: %s\n\n", m)
		}
	}
}

// Serve serves lines until in ends.
func (s *Second) Serve(in io.Reader, out io.Writer) {
	for line := range s.lines(in) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if _, err := jsonrpc.Parse(line, jsonrpc.Limits{MaxBytes: maxOuter}); err != nil && s.has("dies-on-invalid") {
			return
		}
		if s.has("chatters") {
			_, _ = out.Write([]byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"a call came"}}` + "\n"))
		}
		_, messages := s.outer(nil, line, true)
		if s.has("final-ahead") && len(messages) > 1 { // the response before the frames that lead to it
			slices.Reverse(messages)
		}
		for _, m := range messages {
			_, _ = out.Write(append(m, '\n'))
		}
	}
}

// lines reads lines; one beyond the bound comes as its first bytes.
func (s *Second) lines(in io.Reader) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		var line []byte
		buf := make([]byte, 64<<10)
		for {
			n, err := in.Read(buf)
			for rest := buf[:n]; len(rest) > 0; {
				part, after, found := bytes.Cut(rest, []byte("\n"))
				if len(line) <= maxOuter {
					line = append(line, part...)
				} else if s.has("dies-on-long") {
					return
				}
				if rest = after; found {
					if !yield(line) {
						return
					}
					line = nil
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// outer answers one outer message with an HTTP status and messages, the last
// of them the response.
func (s *Second) outer(h http.Header, body []byte, stdio bool) (int, [][]byte) {
	if len(body) > maxOuter {
		return s.refuse("", no(protocol.TooLarge))
	}
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{MaxBytes: maxOuter})
	if err != nil {
		return 400, [][]byte{jsonrpc.ErrorResponse("", jsonrpc.CodeParse, err.Error(), nil)}
	}
	if !m.IsRequest() {
		return 202, nil
	}
	if method := h.Get("Mcp-Method"); method != "" && method != m.Method {
		return 400, [][]byte{jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeHeaderMismatch, "Mcp-Method", nil)}
	}
	meta := conformance.Member(m.Params, "_meta")
	frames, attest := conformance.Member(meta, protocol.MetaFrames), conformance.Member(meta, protocol.MetaAttest)
	switch {
	case m.Method == protocol.MethodCall:
		for name := range h {
			if name == "Mcp-Name" || strings.HasPrefix(name, "Mcp-Param-") {
				return s.refuse(m.ID, no(protocol.OuterMismatch))
			}
		}
		text, _ := conformance.MemberText(m.Params, "frame")
		return s.call(m, text)
	case m.Method == protocol.MethodAttest:
		text, _ := conformance.MemberText(m.Params, "nonce")
		nonce, err := protocol.ParseBase64(text)
		kind, _ := conformance.MemberText(m.Params, "evidence")
		if err != nil || len(nonce) < 8 && !(kind != "" && s.has("fresh-short-nonce")) || len(nonce) > 64 {
			return s.refuse(m.ID, no(protocol.MalformedContent))
		}
		object, err := s.forNonce(nonce, kind)
		if err != nil {
			return s.refuse(m.ID, err)
		}
		return s.result(m, obj{"resultType": "complete", "key": protocol.Base64(object), "settings": jsontext.Value(s.mine.JSON())})
	case attest != nil && m.Method == "tools/call" && !stdio:
		return s.inlineAttest(m, attest)
	case frames != nil && !stdio:
		return s.inline(m, frames)
	case m.Method == "server/discover":
		return s.result(m, obj{"resultType": "complete", "supportedVersions": []string{conformance.ModernVersion}, "capabilities": s.capabilities(), "cacheScope": "public", "ttlMs": 60_000,
			"_meta": obj{protocol.MetaKey: protocol.Base64(s.object)}})
	case m.Method == "initialize":
		version, _ := conformance.MemberText(m.Params, "protocolVersion")
		if !slices.Contains(conformance.LegacyVersions, version) {
			version = conformance.LegacyVersion
		}
		caps := s.capabilities()
		caps["experimental"] = caps["extensions"]
		return s.result(m, obj{"protocolVersion": version, "capabilities": caps, "serverInfo": obj{"name": "second", "version": "1"},
			"_meta": obj{protocol.MetaKey: protocol.Base64(s.object)}})
	case m.Method == "ping":
		return s.result(m, obj{})
	case m.Method == "tools/list" && s.tools:
		return s.result(m, obj{"resultType": "complete", "tools": s.listed(), "cacheScope": "private", "ttlMs": 0})
	case s.has("plaintext-served"):
		return 200, s.ask(http.MethodPost, "/", conformanceHeader(h, m), body)
	}
	modern := conformance.Member(meta, conformance.MetaVersion) != nil
	if modern && conformance.Member(meta, conformance.MetaCapabilities, "extensions", protocol.ExtensionID) == nil {
		data := conformance.JSON(obj{"requiredCapabilities": obj{"extensions": obj{protocol.ExtensionID: obj{}}}})
		return 400, [][]byte{jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeMissingCapability, "trust", data)}
	}
	return s.refuse(m.ID, no(protocol.TrustRequired))
}

func conformanceHeader(h http.Header, m *jsonrpc.Message) http.Header {
	out := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {conformance.ModernVersion}, "Mcp-Method": {m.Method}}
	if n := h.Get("Mcp-Name"); n != "" {
		out.Set("Mcp-Name", n)
	}
	return out
}

func (s *Second) capabilities() obj {
	return obj{"extensions": obj{protocol.ExtensionID: jsontext.Value(s.mine.JSON())}}
}

func (s *Second) result(m *jsonrpc.Message, res obj) (int, [][]byte) {
	return 200, [][]byte{jsonrpc.Response(m.ID, conformance.JSON(res))}
}

func (s *Second) refuse(id jsonrpc.ID, err error) (int, [][]byte) {
	var r refusal
	if !errors.As(err, &r) {
		r.reason = protocol.MalformedFrame
	}
	data := obj{"extension": protocol.ExtensionID, "reason": string(r.reason)}
	for k, v := range r.more {
		data[k] = v
	}
	return 200, [][]byte{jsonrpc.ErrorResponse(id, r.reason.Code(), "trust: "+string(r.reason), conformance.JSON(data))}
}

func (s *Second) decode(text string) ([]byte, error) {
	if s.has("any-base64") {
		text = strings.NewReplacer("=", "", "\n", "", "+", "-", "/", "_").Replace(text)
		return base64.RawURLEncoding.DecodeString(text)
	}
	b, err := protocol.ParseBase64(text)
	if err != nil || text == "" {
		return nil, no(protocol.MalformedFrame)
	}
	return b, nil
}

// outside compares the client settings outside with those that were sealed.
func (s *Second) outside(m *jsonrpc.Message, r *request) error {
	v := conformance.Member(m.Params, "_meta", conformance.MetaCapabilities, "extensions", protocol.ExtensionID)
	if v == nil || s.has("outside-unchecked") {
		return nil
	}
	if p, err := protocol.ParseSettings(v); err != nil || p.Digest() != r.client {
		return no(protocol.NegotiationMismatch)
	}
	return nil
}

// call serves the carrier envelope.
func (s *Second) call(m *jsonrpc.Message, text string) (int, [][]byte) {
	frame, err := s.decode(text)
	var r *request
	if s.has("calls-refused") {
		err = no(protocol.Busy)
	}
	if err == nil {
		r, err = s.open(frame, hand.Envelope, nil)
	}
	if err == nil {
		err = s.outside(m, r)
	}
	if err != nil {
		return s.refuse(m.ID, err)
	}
	inner := s.run(r)
	if s.has("unsealed-inner-error") && len(inner) == 1 && conformance.Member(inner[0].Body, "error") != nil {
		return 200, [][]byte{jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeMethodNotFound, "the inner server refused", nil)}
	}
	var out [][]byte
	for i, c := range inner {
		final := i == len(inner)-1
		frame := obj{"frame": protocol.Base64(s.seal(r, c, final))}
		if !final {
			out = append(out, conformance.JSON(obj{"jsonrpc": "2.0", "method": protocol.MethodFrame, "params": frame}))
			continue
		}
		frame["resultType"] = "complete"
		out = append(out, jsonrpc.Response(m.ID, conformance.JSON(frame)))
	}
	return 200, out
}

// run hands an opened message to the inner server, and returns its answer.
func (s *Second) run(r *request) []*hand.Content {
	h := http.Header{}
	for _, f := range r.content.Fields() {
		h[http.CanonicalHeaderKey(f[0])] = append(h[http.CanonicalHeaderKey(f[0])], f[1])
	}
	if s.has("meta-unchecked") {
		h.Set("Content-Type", "application/json")
	}
	var out []*hand.Content
	for _, m := range s.ask(http.MethodPost, "/mcp", h, r.content.Body) {
		out = append(out, &hand.Content{Kind: hand.Message, Body: m})
	}
	if len(out) == 0 {
		out = []*hand.Content{{Kind: hand.End}}
	}
	return out
}

// ask makes one request of the inner server, and returns the messages of its
// answer.
func (s *Second) ask(method, path string, h http.Header, body []byte) [][]byte {
	rec := s.serve(method, path, h, body)
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "text/event-stream") {
		var out [][]byte
		for _, line := range strings.Split(rec.Body.String(), "\n") {
			if data, ok := strings.CutPrefix(line, "data:"); ok && strings.TrimSpace(data) != "" {
				out = append(out, []byte(strings.TrimSpace(data)))
			}
		}
		return out
	}
	if rec.Body.Len() == 0 {
		return nil
	}
	return [][]byte{rec.Body.Bytes()}
}

func (s *Second) serve(method, path string, h http.Header, body []byte) *httptest.ResponseRecorder {
	req := &http.Request{Method: method, URL: &url.URL{Path: "/mcp"}, Header: h, Host: "127.0.0.1", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), RequestURI: path}
	rec := httptest.NewRecorder()
	s.inner.ServeHTTP(rec, req)
	return rec
}

// toolsOf are the definitions of the inner server's tools.
func (s *Second) toolsOf() (all []map[string]any) {
	cursor := ""
	for range 10 {
		params := obj{"_meta": obj{conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: obj{}}}
		if cursor != "" {
			params["cursor"] = cursor
		}
		body := conformance.JSON(obj{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
		for _, m := range s.ask(http.MethodPost, "/mcp", conformanceHeader(nil, &jsonrpc.Message{Method: "tools/list"}), body) {
			var page struct {
				Result struct {
					Tools      []map[string]any `json:"tools"`
					NextCursor string           `json:"nextCursor"`
				} `json:"result"`
			}
			if json.Unmarshal(m, &page) != nil {
				return all
			}
			all, cursor = append(all, page.Result.Tools...), page.Result.NextCursor
		}
		if cursor == "" {
			break
		}
	}
	return all
}

// tool is the tool of that name, or nil.
func (s *Second) tool(name string) *protocol.Tool {
	for _, def := range s.toolsOf() {
		if def["name"] == name {
			if d, err := protocol.ToolDigest(s.uri, conformance.JSON(def)); err == nil {
				return &protocol.Tool{Name: name, Digest: d}
			}
		}
	}
	return nil
}

// listed are the tools as they may stand outside.
func (s *Second) listed() []map[string]any {
	all := s.toolsOf()
	if s.has("list-unstripped") {
		return all
	}
	for _, def := range all {
		delete(def, "outputSchema")
		if schema, ok := def["inputSchema"].(map[string]any); ok {
			props, _ := schema["properties"].(map[string]any)
			for _, p := range props {
				if p, ok := p.(map[string]any); ok {
					delete(p, "x-mcp-header")
				}
			}
		}
	}
	return all
}
