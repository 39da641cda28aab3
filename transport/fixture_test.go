package transport_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// canary stands in arguments, results, progress, errors, names and headers of
// the tests. It must never be seen on the wire.
const canary = "canary-5f1e"

const canaryTool = "tool-" + canary

type textIn struct {
	Text string `json:"text"`
}

func said(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// fixture is a server of the official SDK with tools for everything that MCP
// does on the way of a call.
func fixture() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "server-" + canary, Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
		return said(a.Text), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: canaryTool}, func(_ context.Context, _ *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
		r := said(canary + " failed")
		r.IsError = true
		return r, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "progress"}, func(ctx context.Context, req *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
		for i := range 3 {
			if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i), Message: a.Text}); err != nil {
				return nil, nil, err
			}
		}
		return said("done"), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "ask"}, ask)
	return s
}

// ask asks the user by MRTR, which the SDK turns into a legacy elicitation.
func ask(_ context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	answer, ok := req.Params.InputResponses["answer"].(*mcp.ElicitResult)
	if !ok {
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"answer": &mcp.ElicitParams{
			Message:         "what is the " + canary + "?",
			RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"answer": map[string]any{"type": "string"}}},
		}}}, nil, nil
	}
	s, _ := answer.Content["answer"].(string)
	return said(s), nil, nil
}

// overHTTP serves s in both eras on one endpoint.
func overHTTP(s *mcp.Server, opts mcp.StreamableHTTPOptions) http.Handler {
	get := func(*http.Request) *mcp.Server { return s }
	legacy, modern := opts, opts
	modern.Stateless, modern.PropagateRequestCancellation, modern.EventStore = true, true, nil
	stateful := mcp.NewStreamableHTTPHandler(get, &legacy)
	stateless := mcp.NewStreamableHTTPHandler(get, &modern)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") >= "2026-07-28" {
			stateless.ServeHTTP(w, r)
			return
		}
		stateful.ServeHTTP(w, r)
	})
}

func callText(t testing.TB, cs *mcp.ClientSession, tool string, args map[string]any) string {
	t.Helper()
	res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatal(err)
	}
	return res.Content[0].(*mcp.TextContent).Text
}
