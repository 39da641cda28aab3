package transport_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Under the inline carrier calls of the legacy era run in a session of the trust
// layer's own. Nobody else gets into it: no client is told its id, and nothing
// on the path says which session a sealed call runs in.
func TestInlineSessionIsNobodyElses(t *testing.T) {
	const session = "the-session-of-the-trust-layer"
	var mu sync.Mutex
	ran := map[string]string{} // session by method
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
		if err != nil || !m.IsRequest() {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		mu.Lock()
		ran[m.Method] = r.Header.Get("Mcp-Session-Id")
		mu.Unlock()
		result := `{"content":[]}`
		switch m.Method {
		case "initialize":
			result = `{"protocolVersion":"2025-11-25","capabilities":{}}`
		case "tools/list":
			if r.Header.Get("Mcp-Protocol-Version") == "2026-07-28" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			result = `{"tools":[{"name":"a","inputSchema":{"type":"object"}}]}`
		}
		w.Header().Set("Mcp-Session-Id", session) // as many servers do with each answer
		w.Header().Set("Content-Type", "application/json")
		w.Write(jsonrpc.Response(m.ID, []byte(result)))
	})
	s := serve(t, inner, transport.ServerConfig{}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			if bytes.Contains(b, []byte(protocol.MetaFrames)) {
				r.Header.Set("Mcp-Session-Id", "the-attackers-session")
			}
			next.ServeHTTP(w, r)
		})
	})
	c := s.client(t, transport.ClientConfig{Carrier: protocol.Inline})
	resp, err := c.Post(s.url, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if !bytes.Contains(b, []byte(`"state":"sealed"`)) {
		t.Fatalf("%s", b)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := ran["tools/call"]; got != session {
		t.Errorf("the call ran in session %q, which the path chose", got)
	}
	if got := resp.Header.Get("Mcp-Session-Id"); got != "" {
		t.Errorf("the client was told %q, a session that all clients share", got)
	}
}
