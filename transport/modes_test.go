package transport_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

const metaModern = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"extensions":{%EXT%}}}`

// post sends one plain message, as a client without a trust layer would.
func post(t *testing.T, url, body string, header http.Header) (int, *jsonrpc.Message) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		return resp.StatusCode, &jsonrpc.Message{}
	}
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if err != nil {
		t.Fatalf("HTTP %d %q: %v", resp.StatusCode, b, err)
	}
	return resp.StatusCode, m
}

// A server in required mode answers plaintext as MCP and the extension say, and
// the server behind sees none of it.
func TestRequiredServerRefusesPlaintext(t *testing.T) {
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("plaintext reached the server: %s %s", r.Method, r.URL)
	})
	s := serve(t, inner, transport.ServerConfig{Limits: transport.Limits{MaxMessage: 1 << 20}}, nil)
	modern := func(method string) http.Header {
		return http.Header{"Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {method}}
	}
	undeclared, declared := strings.Replace(metaModern, "%EXT%", "", 1), strings.Replace(metaModern, "%EXT%", `"org.trustedmcp/trust":{}`, 1)
	for _, c := range []struct {
		name, body string
		header     http.Header
		status     int
		code       string // of the error; "" for a result
	}{
		{"undeclared", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run",` + undeclared + `}}`, modern("tools/call"), 400, "-32021"},
		{"declared", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run",` + declared + `}}`, modern("tools/call"), 200, "29000"},
		{"legacy", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run"}}`, http.Header{"Mcp-Protocol-Version": {legacyVersion}}, 200, "29000"},
		{"discover", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + undeclared + `}}`, modern("server/discover"), 200, ""},
		{"initialize", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`, http.Header{}, 200, ""},
		{"ping", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, http.Header{}, 200, ""},
		{"notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, http.Header{}, 202, ""},
		{"response", `{"jsonrpc":"2.0","id":1,"result":{}}`, http.Header{}, 200, "29000"},
		{"wrong-header", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + undeclared + `}}`, modern("tools/list"), 400, "-32020"},
		{"no-header", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + undeclared + `}}`, http.Header{"Mcp-Protocol-Version": {modernVersion}}, 400, "-32020"},
		{"wrong-version", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + undeclared + `}}`, http.Header{"Mcp-Protocol-Version": {"2027-01-01"}, "Mcp-Method": {"server/discover"}}, 400, "-32020"},
		{"unknown-version", strings.ReplaceAll(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+undeclared+`}}`, modernVersion, "2027-01-01"),
			http.Header{"Mcp-Protocol-Version": {"2027-01-01"}, "Mcp-Method": {"server/discover"}}, 400, "-32022"},
		{"attest", `{"jsonrpc":"2.0","id":1,"method":"trust/attest","params":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA",` + declared + `}}`, modern("trust/attest"), 200, ""},
		{"short-nonce", `{"jsonrpc":"2.0","id":1,"method":"trust/attest","params":{"nonce":"AAAA",` + declared + `}}`, modern("trust/attest"), 200, "29017"},
		{"no-frame", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{` + declared + `}}`, modern("trust/call"), 200, "29001"},
		{"no-base64", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"AA==",` + declared + `}}`, modern("trust/call"), 200, "29001"},
		{"line-break", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"AA` + "\n" + `AA",` + declared + `}}`, modern("trust/call"), 200, "29001"},
		{"duplicate-frame", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"AAAA","frame":"AAAA",` + declared + `}}`, modern("trust/call"), 400, "-32700"},
		{"duplicate-method", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, http.Header{}, 400, "-32700"},
		{"too-large", `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"` + strings.Repeat("A", 2<<20) + `"}}`, modern("trust/call"), 200, "29015"},
		{"trailing", `{"jsonrpc":"2.0","id":1,"method":"ping"} {}`, http.Header{}, 400, "-32700"},
		{"deep", `{"jsonrpc":"2.0","id":1,"method":"ping","params":` + strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100) + `}`, http.Header{}, 400, "-32700"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, m := post(t, s.url, c.body, c.header)
			if code := string(jsonrpc.Get(m.Error, "code")); status != c.status || code != c.code {
				t.Errorf("HTTP %d code %q, want %d %q: %.500s", status, code, c.status, c.code, m.Raw)
			}
			if c.code == "-32021" && jsonrpc.Get(m.Error, "data", "requiredCapabilities", "extensions", protocol.ExtensionID) == nil {
				t.Errorf("the extension is not named: %s", m.Error)
			}
		})
	}
	resp, err := http.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET gave HTTP %d", resp.StatusCode)
	}
}

// In preferred mode either side speaks plaintext with a peer that has no trust,
// and the client's results say so, whatever the peer says.
//
// TMCP-11.5-1: An implementation MUST behave as plain MCP demands towards a peer that does not know this extension, within what its mode allows.
func TestPreferred(t *testing.T) {
	liar := fixture()
	mcp.AddTool(liar, &mcp.Tool{Name: "lie"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		r := said("x")
		r.Meta = mcp.Meta{protocol.MetaStatus: map[string]any{"state": "sealed", "peer": "anyone"}}
		return r, nil, nil
	})
	for _, version := range []string{legacyVersion, modernVersion} {
		for _, json := range []bool{true, false} {
			h := overHTTP(liar, mcp.StreamableHTTPOptions{JSONResponse: json})
			state := func(t *testing.T, s *sealed, hc *http.Client) any {
				cs := connect(t, s, hc, nil, version)
				defer cs.Close()
				res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "lie", Arguments: map[string]any{}})
				if err != nil {
					t.Fatal(err)
				}
				status, _ := res.Meta[protocol.MetaStatus].(map[string]any)
				if status["peer"] == "anyone" {
					t.Error("the peer's own label was delivered")
				}
				return status["state"]
			}
			name := version + map[bool]string{true: "/json", false: "/sse"}[json]
			t.Run(name+"/plain-server", func(t *testing.T) {
				s := serve(t, h, transport.ServerConfig{}, func(http.Handler) http.Handler { return h })
				if got := state(t, s, s.client(t, transport.ClientConfig{Mode: protocol.ModePreferred})); got != "unattested" {
					t.Errorf("labelled %v", got)
				}
				required := s.client(t, transport.ClientConfig{})
				_, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(),
					&mcp.StreamableClientTransport{Endpoint: s.url, HTTPClient: required}, &mcp.ClientSessionOptions{ProtocolVersion: version})
				if err == nil {
					t.Error("a client in required mode connected to a server without trust")
				}
			})
			t.Run(name+"/plain-client", func(t *testing.T) {
				s := serve(t, h, transport.ServerConfig{Mode: protocol.ModePreferred}, nil)
				plain := &http.Transport{}
				defer plain.CloseIdleConnections()
				cs := connect(t, s, &http.Client{Transport: plain}, nil, version)
				defer cs.Close()
				if got := callText(t, cs, "echo", map[string]any{"text": "hi"}); got != "hi" {
					t.Errorf("echo said %q", got)
				}
			})
			t.Run(name+"/both", func(t *testing.T) {
				s := serve(t, h, transport.ServerConfig{Mode: protocol.ModePreferred}, nil)
				for _, leg := range legs {
					if leg.Carrier == protocol.HTTP {
						continue // transparent: it labels nothing
					}
					leg.Mode = protocol.ModePreferred
					if got := state(t, s, s.client(t, leg)); got != "sealed" {
						t.Errorf("%s: labelled %v", legName(leg), got)
					}
				}
			})
		}
	}
}

// A key object that expires is renewed ahead of time, and calls go on; a server
// that forgot everything costs its client one fresh seal.
func TestRenewalAndRestart(t *testing.T) {
	for _, leg := range legs {
		t.Run(legName(leg), func(t *testing.T) {
			var mu sync.Mutex
			now := time.Now()
			clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
			verified, retried := 0, 0
			var trail []string
			leg.Clock = clock
			leg.Observe = func(e transport.Event) {
				mu.Lock()
				defer mu.Unlock()
				trail = append(trail, fmt.Sprint(e.Kind, " ", e.Err))
				switch e.Kind {
				case transport.EventVerified:
					verified++
				case transport.EventRetried:
					retried++
				}
			}
			inner := overHTTP(fixture(), mcp.StreamableHTTPOptions{})
			var front http.Handler
			s := serve(t, inner, transport.ServerConfig{Clock: clock}, func(h http.Handler) http.Handler {
				front = h
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					h := front
					mu.Unlock()
					h.ServeHTTP(w, r)
				})
			})
			cs := connect(t, s, s.client(t, leg), nil, modernVersion)
			defer cs.Close()
			for minute := range 30 {
				mu.Lock()
				now = now.Add(time.Minute)
				mu.Unlock()
				if got := callText(t, cs, "echo", map[string]any{"text": canary}); got != canary {
					t.Fatalf("minute %d: %q", minute, got)
				}
			}
			mu.Lock()
			seen := verified
			next, err := transport.Handler(inner, transport.ServerConfig{Identity: s.identity, Clock: clock})
			if err != nil {
				t.Fatal(err)
			}
			front, retried = next, 0
			mu.Unlock()
			t.Cleanup(func() { next.(io.Closer).Close() })
			defer func() {
				if t.Failed() {
					t.Log(strings.Join(trail[max(0, len(trail)-8):], "\n"))
				}
			}()
			if got := callText(t, cs, "echo", map[string]any{"text": canary}); got != canary {
				t.Fatalf("after the restart: %q", got)
			}
			mu.Lock()
			defer mu.Unlock()
			if seen < 3 || seen > 10 {
				t.Errorf("%d key objects were verified in half an hour", seen)
			}
			if retried < 1 || retried > 2 {
				t.Errorf("%d retries after the restart", retried)
			}
		})
	}
}
