package gosdk_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/gosdk"
)

// serveEnv makes the test binary serve over stdio, with the identity whose
// Ed25519 seed it holds in hex.
const serveEnv = "TMCP_TEST_SERVE"

const commandURI = "urn:example:command"

func TestMain(m *testing.M) {
	if seed := os.Getenv(serveEnv); seed != "" {
		if err := serveStdio(seed); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func serveStdio(seed string) error {
	b, err := hex.DecodeString(seed)
	if err != nil {
		return err
	}
	id, err := protocol.NewIdentity(commandURI, ed25519.NewKeyFromSeed(b))
	if err != nil {
		return err
	}
	return server().Run(context.Background(), gosdk.StdioTransport(transport.ServerConfig{Identity: id}))
}

type in struct {
	Text string `json:"text"`
}

func server() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	return s
}

func echo(t *testing.T, tr mcp.Transport, version string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cs, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(ctx, tr, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hi"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Content[0].(*mcp.TextContent).Text; got != "hi" {
		t.Errorf("echo said %q", got)
	}
	if status, _ := res.Meta[protocol.MetaStatus].(map[string]any); status["state"] != "sealed" {
		t.Errorf("the result is labelled %v", res.Meta)
	}
	if err := cs.Close(); err != nil {
		t.Error("close:", err)
	}
}

func TestHTTP(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			var h http.Handler
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
			url := "http://" + srv.Listener.Addr().String() + "/"
			id, err := protocol.GenerateIdentity(url)
			if err != nil {
				t.Fatal(err)
			}
			if h, err = gosdk.Handler(server(), nil, transport.ServerConfig{Identity: id}); err != nil {
				t.Fatal(err)
			}
			srv.Start()
			defer srv.Close()
			client, err := gosdk.HTTPClient(transport.ClientConfig{Anchor: protocol.Pin(id.Thumbprint())})
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseIdleConnections()
			echo(t, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: client}, version)
		})
	}
}

// The server is this test's own binary.
func TestCommand(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	thumb, err := protocol.PublicKeyThumbprint(public)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), serveEnv+"="+hex.EncodeToString(private.Seed()))
			cmd.Stderr = os.Stderr
			echo(t, gosdk.CommandTransport(cmd, transport.ClientConfig{Identity: commandURI, Anchor: protocol.Pin(thumb)}), version)
		})
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	id, err := protocol.GenerateIdentity("urn:x")
	if err != nil {
		t.Fatal(err)
	}
	tr := gosdk.CommandTransport(exec.Command("/nonexistent"), transport.ClientConfig{Identity: "urn:x", Anchor: protocol.Pin(id.Thumbprint())})
	if _, err := tr.Connect(t.Context()); err == nil {
		t.Fatal("a command that does not exist was started")
	}
}
