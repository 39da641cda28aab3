package interop_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
)

// The fixtures keep the contract of fixtures/README.md, in each era: the tools,
// the resource and the prompt do the same whatever the SDK.
func TestCommonTools(t *testing.T) {
	installed(t)
	for _, target := range interop.Servers() {
		if !target.Common {
			continue
		}
		for _, e := range target.Endpoints {
			for _, era := range e.Eras {
				t.Run(fmt.Sprintf("%s/%s/%s", target.Name, e.Name, era), func(t *testing.T) {
					cache := interoptest.Install(t, target)
					commonTools(t, interoptest.Start(t, cache, target, e.Name), era)
				})
			}
		}
	}
}

func commonTools(t *testing.T, r *interop.Running, era interop.Era) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	revision := map[interop.Era]string{interop.Legacy: interop.LegacyRevision, interop.Modern: interop.ModernRevision}[era]
	c := dial(t, r, revision)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var progress atomic.Int32
	c.OnNotification(func(n mcp.JSONRPCNotification) {
		if n.Method == "notifications/progress" {
			progress.Add(1)
		}
	})
	var open mcp.InitializeRequest
	open.Params.ClientInfo = mcp.Implementation{Name: "common", Version: "1"}
	opened, err := c.Initialize(ctx, open)
	if err != nil {
		t.Fatal(err)
	}
	if opened.ProtocolVersion != revision {
		t.Fatalf("opened with %s, want %s", opened.ProtocolVersion, revision)
	}
	call := func(name string, args map[string]any) *mcp.CallToolResult {
		t.Helper()
		var req mcp.CallToolRequest
		req.Params.Name, req.Params.Arguments = name, args
		if name == "progress" {
			req.Params.Meta = &mcp.Meta{ProgressToken: "token"}
		}
		res, err := c.CallTool(ctx, req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return res
	}
	want := func(name string, args map[string]any, text string, isError bool) {
		t.Helper()
		res := call(name, args)
		got := ""
		for _, item := range res.Content {
			if c, ok := item.(mcp.TextContent); ok {
				got += c.Text
			}
		}
		if got != text || res.IsError != isError {
			t.Errorf("%s %v: got %q, isError %v; want %q, %v", name, args, got, res.IsError, text, isError)
		}
	}
	want("echo", map[string]any{"text": "ü \" \u2028 \U0001F600"}, "ü \" \u2028 \U0001F600", false)
	want("echo", map[string]any{"text": ""}, "", false)
	want("add", map[string]any{"a": 2, "b": 40}, "42", false)
	want("add", map[string]any{"a": 0.5, "b": 0.25}, "0.75", false)
	want("fail", map[string]any{}, "failed as asked", true)
	want("long", map[string]any{"ms": 10}, "slept 10", false)
	want("progress", map[string]any{"n": 3}, "done 3", false)
	for progress.Load() < 3 { // a notification may be handled after the result
		select {
		case <-ctx.Done():
			t.Fatalf("progress: %d notifications, want 3", progress.Load())
		case <-time.After(5 * time.Millisecond):
		}
	}
	var read mcp.ReadResourceRequest
	read.Params.URI = "test://greeting"
	if res, err := c.ReadResource(ctx, read); err != nil {
		t.Error(err)
	} else if text, ok := res.Contents[0].(mcp.TextResourceContents); !ok || text.Text != "hello" {
		t.Errorf("resource: %+v", res.Contents)
	}
	var get mcp.GetPromptRequest
	get.Params.Name, get.Params.Arguments = "greet", map[string]string{"name": "Ada"}
	if res, err := c.GetPrompt(ctx, get); err != nil {
		t.Error(err)
	} else if text, ok := res.Messages[0].Content.(mcp.TextContent); !ok || text.Text != "hello Ada" {
		t.Errorf("prompt: %+v", res.Messages)
	}
}

func dial(t *testing.T, r *interop.Running, revision string) *client.Client {
	t.Helper()
	if r.URL == "" {
		return client.NewClient(transport.NewStdio(r.Command[0], append(os.Environ(), r.Env...), r.Command[1:]...),
			client.WithProtocolVersion(revision))
	}
	h, err := transport.NewStreamableHTTP(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	return client.NewClient(h, client.WithProtocolVersion(revision))
}
