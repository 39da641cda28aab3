package transport_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	gosdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mark3labs/mcp-go/client"
	mcpgotransport "github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

func mcpGoServer() *server.StreamableHTTPServer {
	s := server.NewMCPServer("server-"+canary, "1", server.WithToolCapabilities(true), server.WithElicitation())
	s.AddTool(mcp.NewTool("echo", mcp.WithString("text", mcp.Required())), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(req.GetString("text", "")), nil
	})
	s.AddTool(mcp.NewTool("ask"), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		answer := server.ElicitationResponse(req.Params.InputResponses, "answer")
		if answer == nil {
			return server.NewInputRequestBuilder("asked").Elicit("answer", mcp.ElicitationParams{
				Mode: mcp.ElicitationModeForm, Message: "what is the " + canary + "?",
				RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"answer": map[string]any{"type": "string"}}},
			}).ToolResult(), nil
		}
		content, _ := answer.Content.(map[string]any)
		text, _ := content["answer"].(string)
		return mcp.NewToolResultText(text), nil
	})
	return server.NewStreamableHTTPServer(s, server.WithStateful(true))
}

type answers struct{}

func (answers) Elicit(context.Context, mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{
		Action: mcp.ElicitationResponseActionAccept, Content: map[string]any{"answer": "answer-" + canary}}}, nil
}

// A client and a server of mark3labs/mcp-go, each also against the official SDK.
func TestMCPGo(t *testing.T) {
	for _, leg := range legs {
		for _, version := range []string{legacyVersion, modernVersion} {
			t.Run(legName(leg)+"/"+version+"/client-and-server", func(t *testing.T) { mcpGoClient(t, leg, version, mcpGoServer()) })
			t.Run(legName(leg)+"/"+version+"/client", func(t *testing.T) {
				mcpGoClient(t, leg, version, overHTTP(fixture(), gosdk.StreamableHTTPOptions{}))
			})
			t.Run(legName(leg)+"/"+version+"/server", func(t *testing.T) {
				s := serve(t, mcpGoServer(), transport.ServerConfig{}, nil)
				hc, tap := s.tapped(t, leg)
				cs := connect(t, s, hc, &gosdk.ClientOptions{ElicitationHandler: func(context.Context, *gosdk.ElicitRequest) (*gosdk.ElicitResult, error) {
					return &gosdk.ElicitResult{Action: "accept", Content: map[string]any{"answer": "answer-" + canary}}, nil
				}}, version)
				if got := callText(t, cs, "echo", map[string]any{"text": canary}); got != canary {
					t.Errorf("echo said %q", got)
				}
				if leg.Carrier != protocol.Inline || version == modernVersion {
					if got := callText(t, cs, "ask", nil); got != "answer-"+canary {
						t.Errorf("ask said %q", got)
					}
				}
				if err := cs.Close(); err != nil {
					t.Error("close:", err)
				}
				if leg.Carrier != protocol.Inline && tap.sees(canary) {
					t.Error("a canary is on the wire")
				}
			})
		}
	}
}

func mcpGoClient(t *testing.T, leg transport.ClientConfig, version string, inner http.Handler) {
	s := serve(t, inner, transport.ServerConfig{}, nil)
	hc, tap := s.tapped(t, leg)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tr, err := mcpgotransport.NewStreamableHTTP(s.url, mcpgotransport.WithHTTPBasicClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewClient(tr, client.WithElicitationHandler(answers{}), client.WithProtocolVersion(version))
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var init mcp.InitializeRequest
	init.Params.ClientInfo = mcp.Implementation{Name: "client-" + canary, Version: "1"}
	opened, err := c.Initialize(ctx, init)
	if err != nil {
		t.Fatal(err)
	}
	if opened.ProtocolVersion != version {
		t.Errorf("revision %s inside the seal, want %s", opened.ProtocolVersion, version)
	}
	call := func(tool string, args map[string]any) string {
		t.Helper()
		var req mcp.CallToolRequest
		req.Params.Name, req.Params.Arguments = tool, args
		res, err := c.CallTool(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		return res.Content[0].(mcp.TextContent).Text
	}
	for range 3 {
		if got := call("echo", map[string]any{"text": canary}); got != canary {
			t.Errorf("echo said %q", got)
		}
	}
	if leg.Carrier != protocol.Inline || version == modernVersion {
		if got := call("ask", map[string]any{}); got != "answer-"+canary {
			t.Errorf("ask said %q", got)
		}
	}
	if err := c.Close(); err != nil {
		t.Error("close:", err)
	}
	if leg.Carrier != protocol.Inline && tap.sees(canary) {
		t.Error("a canary is on the wire")
	}
}
