package aicc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/interop/aicc"
	ours "github.com/trustedmcp/tmcp/transport/aicc"
)

// secrets are what the tests say after initialize, and nobody on the way may see.
var secrets = []string{"said-" + canary, "failed as asked", "hello " + canary, "step " + canary, "tools/call", "call 7 of many"}

// Their client, unmodified, in front of ours: with a server of another SDK behind,
// that answers in event streams or in JSON. A tap sees what initialize says, which
// the profile sends in the clear, and nothing else.
func TestTheirClientOurServer(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run(answersIn(json), func(t *testing.T) {
			f := newFolder(t)
			var ended atomic.Int32
			behind := plainServer(json)
			w := tap(t, serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete {
					ended.Add(1)
				}
				if !ours.Opened(r.Context()) && r.Header.Get("Mcp-Session-Id") != "" {
					t.Errorf("%s came unsealed after initialize", r.Method)
				}
				behind.ServeHTTP(rw, r)
			}), ours.ServerConfig{}))
			theirClientWorks(t, theirClient(t, f.client, w.URL), !json)
			if ended.Load() != 1 {
				t.Errorf("the session was ended %d times, want once", ended.Load())
			}
			unseen(t, w, secrets...)
			// What the profile leaves in the clear, so that it is known: who the client
			// and the server say they are, and the instructions for the model.
			clear := []string{`"method":"initialize"`, `"clientInfo":{"name":"mcp"`, `"serverInfo":{"name":"go-` + canary, "instructions " + canary,
				`"trustProtocol":{"name":"AICC","version":"0.1"}`, "x-trusted-mcp: 1", "mcp-session-id: "}
			if seen := w.Shows(clear...); len(seen) != len(clear) {
				t.Errorf("in the clear is only %q, want %q", seen, clear)
			}
		})
	}
}

// Ours in front of their server: its answers come in event streams (its default),
// or in JSON. A tap sees nothing of what is said, initialize included.
func TestOurClientTheirServer(t *testing.T) {
	for _, endpoint := range []string{"sse", "json"} {
		t.Run(endpoint, func(t *testing.T) {
			w := tap(t, theirServer(t, newFolder(t), endpoint).URL)
			ourClientWorks(t, w.URL, roundTripper(t, ours.ClientConfig{}), endpoint == "sse", 1<<20)
			unseen(t, w, append(secrets, "tmcp-interop-aicc", `"initialize"`, "trustProtocol")...)
		})
	}
}

// With initialize in the clear, as the deployed client has it, ours finds the
// offer of their server, wherever that puts it.
func TestOurClientPlainInitialize(t *testing.T) {
	for _, endpoint := range []string{"sse", "json"} {
		t.Run(endpoint, func(t *testing.T) {
			w := tap(t, theirServer(t, newFolder(t), endpoint).URL)
			rt := roundTripper(t, ours.ClientConfig{PlainInitialize: true})
			s := mustSession(t, w.URL, rt, nil)
			if got, err := echo(t, s, "said-"+canary); err != nil || got != "said-"+canary {
				t.Errorf("echo: %q, %v", got, err)
			}
			unseen(t, w, secrets...)
			if seen := w.Shows("client-"+canary, "tmcp-interop-aicc"); len(seen) != 2 {
				t.Errorf("initialize was to pass in the clear; seen of it: %q", seen)
			}
		})
	}
}

// 10 MiB each way with their server, once its SDK's own limit of 4 MiB is lifted;
// with the limit, the refusal is told.
func TestLargeToTheirServer(t *testing.T) {
	f := newFolder(t)
	text := strings.Repeat("large-"+canary, large/20)
	lifted := mustSession(t, theirServer(t, f, "json-large").URL, roundTripper(t, ours.ClientConfig{}), nil)
	if got, err := echo(t, lifted, text); err != nil || got != text {
		t.Errorf("%d bytes: got %d, %v", len(text), len(got), err)
	}
	limited := mustSession(t, theirServer(t, f, "json").URL, roundTripper(t, ours.ClientConfig{}), nil)
	if _, err := echo(t, limited, text); err == nil || !strings.Contains(err.Error(), "413") && !strings.Contains(err.Error(), "Too Large") {
		t.Errorf("over the SDK's limit: %v, want it told", err)
	}
}

// Their client, our serve, our connect, their server: all that is on any wire
// between is sealed twice over, by two keys.
func TestBothOfOursBetween(t *testing.T) {
	for _, endpoint := range []string{"sse", "json"} {
		t.Run(endpoint, func(t *testing.T) {
			f := newFolder(t)
			far := tap(t, theirServer(t, f, endpoint).URL)
			near := tap(t, serve(t, proxy(t, far.URL, roundTripper(t, ours.ClientConfig{})), ours.ServerConfig{}))
			c := theirClient(t, f.client, near.URL)
			theirClientTools(t, c)
			if a := do(t, c, aicc.Step{Do: "call", Tool: "progress", Args: map[string]any{"n": 5}}); a.Text != "done 5" || endpoint == "sse" && len(a.Progress) != 5 {
				t.Errorf("progress: %+v", a)
			}
			if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Fill: 1 << 20}); !a.Same {
				t.Errorf("1 MiB: %+v", a)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			unseen(t, near, secrets...)
			unseen(t, far, secrets...)
		})
	}
}

func answersIn(json bool) string {
	if json {
		return "json"
	}
	return "sse"
}

// theirClientWorks has their client do everything, and end its session.
func theirClientWorks(t *testing.T, c *aicc.Client, streams bool) {
	t.Helper()
	theirClientTools(t, c)
	a := do(t, c, aicc.Step{Do: "call", Tool: "progress", Args: map[string]any{"n": 20}})
	if a.Text != "done" || streams && (len(a.Progress) != 20 || fmt.Sprint(a.Progress[19]) != fmt.Sprint([]any{20.0, 20.0, "step " + canary})) {
		t.Errorf("progress: %+v", a)
	}
	for _, n := range []int{1 << 10, 64 << 10, 1 << 20, large} {
		if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Fill: n, Timeout: 60}); !a.Same {
			t.Errorf("%d characters: %+v", n, a)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("the session's end: %v", err)
	}
}

// theirClientTools is what works whatever the sizes are.
func theirClientTools(t *testing.T, c *aicc.Client) {
	t.Helper()
	if a := do(t, c, aicc.Step{Do: "tools"}); len(a.Tools) < 3 || a.Exception != "" {
		t.Errorf("tools: %+v", a)
	}
	for _, text := range []string{"said-" + canary, "", "\r\n\u2028\u0000 data: {\"nonce\":\"\"}\r\n\r\n", "𝒜 🦆 \ufeff"} {
		if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": text}}); a.Text != text || a.IsError || a.Exception != "" {
			t.Errorf("echo %q: %+v", text, a)
		}
	}
	if a := do(t, c, aicc.Step{Do: "call", Tool: "fail"}); !a.IsError || a.Text != "failed as asked" {
		t.Errorf("a result with isError: %+v", a)
	}
	if a := do(t, c, aicc.Step{Do: "read", URI: "test://greeting"}); !strings.HasPrefix(a.Text, "hello") {
		t.Errorf("a resource: %+v", a)
	}
	if a := do(t, c, aicc.Step{Do: "read", URI: "test://missing-" + canary}); a.Exception != "McpError" || a.Message == "" {
		t.Errorf("a JSON-RPC error: %+v", a)
	}
	if a := do(t, c, aicc.Step{Do: "many", N: 64}); a.Right != 64 {
		t.Errorf("64 calls at once: %+v", a)
	}
}

// ourClientWorks does the same with the official Go SDK over ours.
func ourClientWorks(t *testing.T, url string, rt http.RoundTripper, streams bool, largest int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var progress atomic.Int32
	changed := make(chan struct{}, 100)
	s := mustSession(t, url, rt, &mcp.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progress.Add(1) },
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	tools, err := s.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) < 3 {
		t.Errorf("tools: %+v, %v", tools, err)
	}
	for _, text := range []string{"said-" + canary, "", "\r\n\u2028\u0000 data: {\"nonce\":\"\"}\r\n\r\n", "𝒜 🦆 \ufeff", strings.Repeat("x", 64<<10), strings.Repeat("y", largest)} {
		if got, err := echo(t, s, text); err != nil || got != text {
			t.Errorf("echo %.40q: %.40q, %v", text, got, err)
		}
	}
	r, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "fail"})
	if err != nil || !r.IsError || said(r) != "failed as asked" {
		t.Errorf("a result with isError: %+v, %v", r, err)
	}
	var rpc *jsonrpc.Error
	if _, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: "test://missing-" + canary}); !errors.As(err, &rpc) {
		t.Errorf("a JSON-RPC error: %v", err)
	}
	params := &mcp.CallToolParams{Name: "progress", Arguments: map[string]any{"n": 5}}
	params.SetProgressToken("token-" + canary)
	if r, err = s.CallTool(ctx, params); err != nil || said(r) != "done 5" {
		t.Errorf("progress: %+v, %v", r, err)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			text := fmt.Sprintf("call %d of many", i)
			if got, err := echo(t, s, text); err != nil || got != text {
				t.Errorf("%s: got %q, %v", text, got, err)
			}
		})
	}
	wg.Wait()
	// The SDK drops what belongs to an answer in JSON.
	if n := progress.Load(); streams && n != 5 {
		t.Errorf("%d progress notifications, want 5", n)
	}
	// On the session's own stream, which the client may still be opening.
	for deadline := time.After(15 * time.Second); ; {
		if r, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "changed"}); err != nil || said(r) != "told" {
			t.Fatalf("changed: %+v, %v", r, err)
		}
		select {
		case <-changed:
		case <-deadline:
			t.Error("no notification on the session's own stream")
		case <-time.After(200 * time.Millisecond):
			continue
		}
		break
	}
	if err := s.Close(); err != nil {
		t.Errorf("the session's end: %v", err)
	}
}

// What the package loses by itself: over event streams, its default, a message
// that does not arrive in one piece. With ours in front the answer is JSON, and
// arrives, unless notifications came before it.
func TestLargeOverEventStreams(t *testing.T) {
	f := newFolder(t)
	own := theirClient(t, f.client, theirServer(t, f, "sse").URL)
	if a := do(t, own, aicc.Step{Do: "call", Tool: "echo", Fill: 1 << 20, Timeout: 10}); a.Same {
		t.Error("the package has learned to read large events: say so in docs")
	}
	if a := do(t, own, aicc.Step{Do: "call", Tool: "echo", Fill: 1 << 10}); !a.Same {
		t.Errorf("1 KiB: %+v", a)
	}
	between := theirClient(t, f.client, serve(t, proxy(t, theirServer(t, f, "sse").URL, roundTripper(t, ours.ClientConfig{})), ours.ServerConfig{}))
	if a := do(t, between, aicc.Step{Do: "call", Tool: "echo", Fill: 1 << 20, Timeout: 60}); !a.Same {
		t.Errorf("with ours between: %+v", a)
	}
}
