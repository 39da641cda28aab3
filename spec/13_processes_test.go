package spec_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway/bridge"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// notes is what a process wrote, as it comes.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

// TMCP-13.4-1: A gateway MUST end the inner process when the outer stream closes: first its stdin, then, after a bounded time, the process.
// TMCP-13.4-2: A gateway MUST pass the inner process's stderr on to its own stderr, and nowhere else.
func TestInnerProcess(t *testing.T) {
	const answer = `printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete"}}\n' "$(echo "$line" | sed 's/.*"id":\([^,]*\),.*/\1/')"; `
	for _, tt := range []struct {
		name, script string
		ends         bool // by itself, when its stdin does
	}{
		{"ends with its input", `echo up >&2; while read -r line; do ` + answer + `done; echo "the input ended" >&2`, true},
		{"does not end", `trap '' TERM; echo up >&2; while read -r line; do ` + answer + `done; echo "the input ended" >&2; while :; do sleep 0.05; done`, false},
	} {
		stderr := &notes{}
		const grace = 200 * time.Millisecond
		s, err := bridge.NewStdioServer(bridge.StdioOptions{Command: []string{"sh", "-c", tt.script}, Stderr: stderr, Grace: grace})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(s)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`))
		req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/list"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		resp.Body.Close()
		if m, err := jsonrpc.Parse(body.Bytes(), jsonrpc.Limits{}); err != nil || m.Result == nil || strings.Contains(body.String(), "up") {
			t.Errorf("%s: %s (%v)", tt.name, body.String(), err)
		}
		began := time.Now()
		if err := s.Close(); err != nil { // waits for the processes
			t.Error(err)
		}
		took := time.Since(began)
		srv.Close()
		said := stderr.String()
		if !strings.Contains(said, "up\n") || !strings.Contains(said, "the input ended") {
			t.Errorf("%s: on stderr came %q; its input was not closed first, or its stderr is lost", tt.name, said)
		}
		if !tt.ends && took < grace || took > 10*time.Second {
			t.Errorf("%s: it ended after %v", tt.name, took)
		}
	}
}
