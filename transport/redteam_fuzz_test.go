package transport_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// FuzzHandler sends a handler in required mode whatever request there is. It
// must not panic, must answer 5xx never, and must hand on nothing that was not
// sealed: what the trust layer asks of its own accord bears its own id.
func FuzzHandler(f *testing.F) {
	id := redIdentity(f)
	trust, err := protocol.NewServer(protocol.ServerConfig{Identity: id})
	if err != nil {
		f.Fatal(err)
	}
	const secret = "sealed-"
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if _, ok := transport.SealedFrom(r.Context()); !ok && !bytes.Contains(b, []byte(`"id":"org.trustedmcp/trust"`)) && !bytes.Equal(b, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)) {
			panic("the server behind was handed what was not sealed: " + string(b))
		}
		m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
		if err != nil || !m.IsRequest() {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","tools":[{"name":"a","inputSchema":{"type":"object"}}]}`)))
	})
	h, err := transport.Handler(inner, transport.ServerConfig{Trust: trust, PublicTools: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { h.(io.Closer).Close() })
	object, _, err := trust.KeyObject(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: id.URI(), Anchor: protocol.Pin(id.Thumbprint()), Settings: trust.Settings(), Now: time.Now()})
	if err != nil {
		f.Fatal(err)
	}
	client, err := protocol.NewClient(peer, trust.Settings())
	if err != nil {
		f.Fatal(err)
	}
	seal := func(c protocol.Content, o protocol.Outer) []byte {
		_, frame, err := client.Seal(c, o, time.Now())
		if err != nil {
			f.Fatal(err)
		}
		return frame
	}
	body := func(method string) []byte {
		return []byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"name":"` + secret + `"}}`)
	}
	call := protocol.Base64(seal(protocol.Content{Kind: protocol.KindMessage, Body: body("tools/call")}, protocol.Outer{Carrier: protocol.Envelope}))
	framed := seal(protocol.Content{Kind: protocol.KindHTTP, Body: body("tools/call"), Meta: protocol.Meta{Method: "POST", Target: "/mcp"}}, protocol.Outer{Carrier: protocol.HTTP})
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`
	const head = "Mcp-Protocol-Version: 2026-07-28\nMcp-Method: "
	for _, s := range []struct{ method, headers, body string }{
		{"POST", head + "trust/call", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"` + call + `",` + meta + `}}}`},
		{"POST", "", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"` + call + `"}}`},
		{"POST", head + "trust/attest", `{"jsonrpc":"2.0","id":1,"method":"trust/attest","params":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA",` + meta + `}}}`},
		{"POST", head + "tools/call\nMcp-Name: a", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a",` + meta + `,"org.trustedmcp/attest":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA"}}}}`},
		{"POST", head + "tools/call\nMcp-Name: a", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a",` + meta + `,"org.trustedmcp/frames":["` + call + `"],"org.trustedmcp/attest":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA"}}}}`},
		{"POST", "", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}`},
		{"POST", "", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":["` + call + `"]}`},
		{"POST", "", `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}]`},
		{"POST", "", `{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","method":"ping","params":{"name":"a"}}`},
		{"POST", "Content-Encoding: gzip", "\x1f\x8b\x08"},
		{"POST", "", "\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`},
		{"POST", "X-Http-Method-Override: GET\nUpgrade: websocket\nConnection: upgrade", `{"jsonrpc":"2.0","method":"tools/call","params":{}}`},
		{"POST", "Content-Type: application/vnd.trustedmcp.frames", string(framed)},
		{"POST", "Content-Type: application/vnd.trustedmcp.frames", string(framed) + string(framed)},
		{"POST", "Content-Type: application/vnd.trustedmcp.frames", string(framed[:40])},
		{"GET", "Accept: text/event-stream\nMcp-Session-Id: x", ""},
		{"DELETE", "Mcp-Session-Id: x", ""}, {"OPTIONS", "", ""}, {"HEAD", "", ""}, {"CONNECT", "", ""}, {"post", "", `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`},
	} {
		f.Add(s.method, s.headers, []byte(s.body))
	}
	f.Fuzz(func(t *testing.T, method, headers string, body []byte) {
		r := httptest.NewRequest("POST", "/mcp", bytes.NewReader(body))
		r.Method = method
		r.Header.Set("Content-Type", "application/json")
		for line := range strings.SplitSeq(headers, "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], strings.TrimSpace(value))
			}
		}
		rec := httptest.NewRecorder()
		func() {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					panic(p)
				}
			}()
			h.ServeHTTP(rec, r)
		}()
		if rec.Code >= 500 {
			t.Errorf("status %d: %s", rec.Code, rec.Body)
		}
		if bytes.Contains(rec.Body.Bytes(), []byte(secret)) {
			t.Errorf("what was sealed came back in plaintext: %s", rec.Body)
		}
	})
}
