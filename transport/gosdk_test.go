package transport_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// sdkServer is an MCP server of the official SDK, both eras on one endpoint.
func sdkServer(json bool) http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	get := func(*http.Request) *mcp.Server { return s }
	stateful := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{JSONResponse: json})
	stateless := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: json, PropagateRequestCancellation: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") >= "2026-07-28" {
			stateless.ServeHTTP(w, r)
			return
		}
		stateful.ServeHTTP(w, r)
	})
}

// legs are the ways in which sealed messages travel.
var legs = []transport.ClientConfig{
	{Carrier: protocol.Envelope, OuterEra: transport.Modern},
	{Carrier: protocol.Envelope, OuterEra: transport.Legacy},
	{Carrier: protocol.HTTP, OuterEra: transport.Modern},
	{Carrier: protocol.Inline, OuterEra: transport.Modern},
}

func TestOfficialSDK(t *testing.T) {
	for _, json := range []bool{true, false} {
		for _, version := range []string{"2025-11-25", "2026-07-28"} {
			for _, leg := range legs {
				era := leg.OuterEra
				t.Run(leg.Carrier.String()+"/"+map[bool]string{true: "json", false: "sse"}[json]+"/"+version+"/outer-"+string(era), func(t *testing.T) {
					s := serve(t, sdkServer(json), transport.ServerConfig{}, nil)
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					defer cancel()
					c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
					cs, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: s.url, HTTPClient: s.client(t, leg)},
						&mcp.ClientSessionOptions{ProtocolVersion: version})
					if err != nil {
						t.Fatal(err)
					}
					if got := cs.InitializeResult().ProtocolVersion; got != version {
						t.Fatalf("revision %s inside the seal, want %s", got, version)
					}
					for range 3 {
						res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hi"}})
						if err != nil {
							t.Fatal(err)
						}
						if got := res.Content[0].(*mcp.TextContent).Text; got != "hi" {
							t.Fatalf("echo said %q", got)
						}
						if status, _ := res.Meta["org.trustedmcp/status"].(map[string]any); leg.Carrier != protocol.HTTP && (status["state"] != "sealed" || status["peer"] != s.url) {
							t.Fatalf("label %v", res.Meta)
						}
					}
					if err := cs.Close(); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
}
