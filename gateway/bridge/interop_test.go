//lint:file-ignore SA1019 sampling and the legacy handshake are deprecated, and carried for those who use them

package bridge

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	mcpgoclient "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	mcpgo "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const modern, legacy = "2026-07-28", "2025-11-25"

// sdkClient is a go-sdk client and what it was told.
type sdkClient struct {
	*mcp.ClientSession
	mu       sync.Mutex
	progress map[any][]float64
	grew     chan struct{}
	listens  bool
}

func connect(t *testing.T, tr mcp.Transport, version string) *sdkClient {
	t.Helper()
	return connectWith(t, tr, version, true)
}

// connectWith connects a client that listens for list changes or does not.
func connectWith(t *testing.T, tr mcp.Transport, version string, listens bool) *sdkClient {
	t.Helper()
	c := &sdkClient{progress: map[any][]float64{}, grew: make(chan struct{}, 100)}
	opts := &mcp.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{
				Text: strings.ToUpper(r.Params.Messages[0].Content.(*mcp.TextContent).Text),
			}}, nil
		},
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.progress[r.Params.ProgressToken] = append(c.progress[r.Params.ProgressToken], r.Params.Progress)
		},
	}
	if c.listens = listens; listens {
		opts.ToolListChangedHandler = func(context.Context, *mcp.ToolListChangedRequest) { c.grew <- struct{}{} }
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, opts)
	var err error
	c.ClientSession, err = client.Connect(t.Context(), tr, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if got := c.InitializeResult().ProtocolVersion; got != version {
		t.Fatalf("negotiated %s, want %s", got, version)
	}
	return c
}

func (c *sdkClient) call(ctx context.Context, tool, arg string) (string, error) {
	p := &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"text": arg}}
	if tool == "progress" {
		p.SetProgressToken(arg)
	}
	res, err := c.CallTool(ctx, p)
	if err != nil {
		return "", err
	}
	return res.Content[0].(*mcp.TextContent).Text, nil
}

// exercise runs everything that a bridge must route through one client.
func exercise(t *testing.T, c *sdkClient, n *notes, version, tag string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	want := func(tool, arg, want string) {
		t.Helper()
		got, err := c.call(ctx, tool, arg)
		if err != nil || got != want {
			t.Errorf("%s(%s) = %.80q, %v; want %.80q", tool, arg, got, err, want)
		}
	}
	big := strings.Repeat("é\n", 100_000)
	want("echo", big, big)
	want("ask", "", "hello Ada")
	if version == legacy {
		want("sample", tag, "sampled "+strings.ToUpper(tag))
	}
	if _, err := c.call(ctx, "no-such-tool", ""); err == nil {
		t.Error("an unknown tool gives no error")
	}

	// Parallel calls, each with its own progress.
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			arg := fmt.Sprintf("%s-%d", tag, i)
			if got, err := c.call(ctx, "progress", arg); err != nil || got != "done "+arg {
				t.Errorf("progress(%s) = %q, %v", arg, got, err)
			}
		})
	}
	wg.Wait()
	poll(t, "all progress to arrive", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range 8 {
			if fmt.Sprint(c.progress[fmt.Sprintf("%s-%d", tag, i)]) != "[1 2 3]" {
				return false
			}
		}
		return len(c.progress) == 8
	})

	// A change of the tool list reaches the client.
	want("grow", "tool-"+tag, "ok")
	if c.listens {
		select {
		case <-c.grew:
		case <-ctx.Done():
			t.Error("notifications/tools/list_changed did not arrive")
		}
	}
	want("tool-"+tag, "", "grown")

	if version == modern {
		// The client learns of mirrored parameters by listing.
		if _, err := c.ListTools(ctx, nil); err != nil {
			t.Error(err)
		}
		res, err := c.CallTool(ctx, &mcp.CallToolParams{Name: "mirror", Arguments: map[string]any{"region": "Zürich", "n": 42}})
		if err != nil || !strings.Contains(res.Content[0].(*mcp.TextContent).Text, "Zürich") {
			t.Errorf("mirror: %v %v", res, err)
		}
	}

	// Cancellation reaches the server, in the way of each era.
	cctx, ccancel := context.WithCancel(ctx)
	gone := make(chan error, 1)
	go func() {
		_, err := c.call(cctx, "block", tag)
		gone <- err
	}()
	n.wait(t, "blocking "+tag)
	ccancel()
	if err := <-gone; err == nil {
		t.Error("a cancelled call gives no error")
	}
	n.wait(t, "cancelled "+tag)
	want("echo", "still here", "still here")
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond) // the condition is another process's
	}
}

func eras(t *testing.T, f func(t *testing.T, version string)) {
	for _, v := range []string{modern, legacy} {
		t.Run(v, func(t *testing.T) { f(t, v) })
	}
}

func TestStdioServer(t *testing.T) {
	eras(t, func(t *testing.T, version string) {
		n := newNotes()
		o := self(t, "gosdk")
		o.Stderr = n
		_, url := serve(t, o)
		exercise(t, connect(t, httpTransport(t, url), version), n, version, "one")
	})
}

// Clients of both eras at once, with ids that are the same in each.
func TestStdioServerConcurrentClients(t *testing.T) {
	n := newNotes()
	o := self(t, "gosdk")
	o.Stderr = n
	_, url := serve(t, o)
	var wg sync.WaitGroup
	for i, v := range []string{modern, legacy, modern, legacy} {
		// go-sdk keeps one subscription per stdio connection: of two clients
		// of a child that listen, it would serve the last.
		c := connectWith(t, httpTransport(t, url), v, v == legacy || i == 0)
		wg.Go(func() { exercise(t, c, n, v, fmt.Sprintf("client%d", i)) })
	}
	wg.Wait()
}

func newSDKHandler(t *testing.T, n *notes, version string) http.Handler {
	s := newSDKServer(n.add)
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{
		Stateless: version == modern, EventStore: mcp.NewMemoryEventStore(nil), PropagateRequestCancellation: version == modern,
	})
}

func TestPump(t *testing.T) {
	eras(t, func(t *testing.T, version string) {
		n := newNotes()
		url := listen(t, newSDKHandler(t, n, version), nil)
		exercise(t, connect(t, pumpTransport(t, url, nil), version), n, version, "pump")
	})
}

// stdio client, Pump, Reverse, StdioServer, stdio server: the whole path of a
// pair of gateways.
func TestChain(t *testing.T) {
	eras(t, func(t *testing.T, version string) {
		n := newNotes()
		o := self(t, "gosdk")
		o.Stderr = n
		_, url := serve(t, o)
		rev, err := NewReverse(ReverseOptions{Upstream: url, Guard: &Guard{}})
		if err != nil {
			t.Fatal(err)
		}
		url = listen(t, rev, func() { _ = rev.Close() })
		exercise(t, connect(t, pumpTransport(t, url, nil), version), n, version, "chain")
	})
}

func TestReverse(t *testing.T) {
	eras(t, func(t *testing.T, version string) {
		n := newNotes()
		rev, err := NewReverse(ReverseOptions{Upstream: listen(t, newSDKHandler(t, n, version), nil)})
		if err != nil {
			t.Fatal(err)
		}
		url := listen(t, rev, func() { _ = rev.Close() })
		exercise(t, connect(t, httpTransport(t, url), version), n, version, "reverse")
	})
}

func TestMCPGo(t *testing.T) {
	eras(t, func(t *testing.T, version string) {
		_, url := serve(t, self(t, "mcpgo"))
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		ht, err := transport.NewStreamableHTTP(url, transport.WithHTTPBasicClient(&http.Client{Transport: tr}))
		if err != nil {
			t.Fatal(err)
		}
		opts := []mcpgoclient.ClientOption{}
		if version == legacy {
			opts = append(opts, mcpgoclient.WithLegacyProtocolOnly())
		}
		c := mcpgoclient.NewClient(ht, opts...)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		seen := map[any]int{}
		c.OnNotification(func(m mcpgo.JSONRPCNotification) {
			mu.Lock()
			defer mu.Unlock()
			seen[m.Params.AdditionalFields["progressToken"]]++
		})
		res, err := c.Initialize(ctx, mcpgo.InitializeRequest{Params: mcpgo.InitializeParams{ProtocolVersion: version, ClientInfo: mcpgo.Implementation{Name: "c", Version: "1"}}})
		if err != nil || res.ProtocolVersion != version {
			t.Fatalf("%+v %v", res, err)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				var r mcpgo.CallToolRequest
				r.Params.Name = "progress"
				r.Params.Arguments = map[string]any{"text": fmt.Sprint(i)}
				r.Params.Meta = &mcpgo.Meta{ProgressToken: fmt.Sprint("t", i)}
				res, err := c.CallTool(ctx, r)
				if err != nil || res.Content[0].(mcpgo.TextContent).Text != fmt.Sprint("done ", i) {
					t.Errorf("%+v %v", res, err)
				}
			})
		}
		wg.Wait()
		poll(t, "all progress", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := range 8 {
				if seen[fmt.Sprint("t", i)] != 3 {
					return false
				}
			}
			return true
		})
	})
}
