//lint:file-ignore SA1019 sampling and the legacy handshake are deprecated, and carried for those who use them

package bridge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	mcpgoserver "github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

// The test binary is also the servers that it tests with: in a child process,
// this variable says which one to be.
const peerVar = "BRIDGE_TEST_PEER"

func TestMain(m *testing.M) {
	switch os.Getenv(peerVar) {
	case "gosdk":
		note := func(s string) { fmt.Fprintln(os.Stderr, s) }
		if err := newSDKServer(note).Run(context.Background(), &mcp.StdioTransport{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	case "mcpgo":
		out := &countingWriter{progress: make(chan struct{}, 1000)}
		srv := mcpgoserver.NewStdioServer(newMCPGoServer(out))
		if err := srv.Listen(context.Background(), os.Stdin, out); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	case "script":
		scriptPeer()
		os.Exit(0)
	case "":
		goleak.VerifyTestMain(m)
	}
}

// scriptPeer answers by the method's name, for what no SDK would do.
func scriptPeer() {
	sc := bufio.NewScanner(os.Stdin)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var m struct {
			ID     json.RawMessage
			Method string
		}
		_ = json.Unmarshal(sc.Bytes(), &m)
		fmt.Fprintln(os.Stderr, "got", m.Method)
		reply := func(result string) { fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, result) }
		switch m.Method {
		case "": // an answer
			fmt.Fprintln(os.Stderr, "answer", sc.Text())
		case "initialize":
			reply(`{"protocolVersion":"` + os.Getenv("SCRIPT_VERSION") + `","capabilities":{},"serverInfo":{"name":"s","version":"1"}}`)
		case "x/garbage":
			fmt.Println("Listening on stdio...")
			fmt.Println(`{"jsonrpc":"2.0","id":1,"id":2,"result":{}}`)
			fmt.Println(`{"jsonrpc":"2.0","id":987654,"result":{}}`)
			reply(`{"ok":true}`)
		case "x/huge":
			fmt.Printf(`{"jsonrpc":"2.0","result":{"t":"%s","id":5},"id":%s}`+"\n", strings.Repeat("x", 1<<20), m.ID)
		case "x/die":
			os.Exit(7)
		case "x/closeout":
			os.Stdout.Close()
		case "x/hang", os.Getenv("SCRIPT_MUTE"):
		case "x/ask":
			fmt.Println(`{"jsonrpc":"2.0","id":"q1","method":"roots/list"}`)
			fmt.Fprintln(os.Stderr, "asked by", string(m.ID))
		case "x/flood":
			for range 200 {
				fmt.Printf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}`+"\n", strings.Repeat("x", 1000))
			}
			reply(`{}`)
		default:
			if m.ID != nil {
				reply(`{"line":` + sc.Text() + `}`)
			}
		}
	}
}

type textIn struct {
	Text string `json:"text"`
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// newSDKServer is a go-sdk server whose tools exercise all that a bridge has
// to route. note is told what a client can't see.
func newSDKServer(note func(string)) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "peer", Version: "1"}, &mcp.ServerOptions{
		Logger:             slog.New(slog.DiscardHandler),
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	add := func(name string, h mcp.ToolHandlerFor[textIn, any]) {
		mcp.AddTool(s, &mcp.Tool{Name: name}, h)
	}
	add("echo", func(_ context.Context, _ *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
		return text(in.Text), nil, nil
	})
	add("progress", func(ctx context.Context, req *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
		for i := range 3 {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1), Message: in.Text,
			})
			if err != nil {
				return nil, nil, err
			}
		}
		return text("done " + in.Text), nil, nil
	})
	add("sample", func(ctx context.Context, req *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
		res, err := req.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 1, Messages: []*mcp.SamplingMessage{
			{Role: "user", Content: &mcp.TextContent{Text: in.Text}},
		}})
		if err != nil {
			return nil, nil, err
		}
		return text("sampled " + res.Content.(*mcp.TextContent).Text), nil, nil
	})
	add("ask", func(_ context.Context, req *mcp.CallToolRequest, _ textIn) (*mcp.CallToolResult, any, error) {
		if r, ok := req.Params.InputResponses["who"].(*mcp.ElicitResult); ok {
			return text(fmt.Sprint("hello ", r.Content["name"])), nil, nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"who": &mcp.ElicitParams{
			Message:         "Who?",
			RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`),
		}}}, nil, nil
	})
	add("block", func(ctx context.Context, _ *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
		note("blocking " + in.Text)
		<-ctx.Done()
		note("cancelled " + in.Text)
		return nil, nil, ctx.Err()
	})
	add("grow", func(_ context.Context, _ *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
		add2 := func(context.Context, *mcp.CallToolRequest, textIn) (*mcp.CallToolResult, any, error) {
			return text("grown"), nil, nil
		}
		mcp.AddTool(s, &mcp.Tool{Name: in.Text}, add2)
		return text("ok"), nil, nil
	})
	s.AddTool(&mcp.Tool{Name: "mirror", InputSchema: json.RawMessage(`{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"n":{"type":"integer","x-mcp-header":"N"}}}`)},
		func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return text(string(req.Params.Arguments)), nil
		})
	return s
}

// countingWriter is stdout that tells when a progress notification was written.
// mcp-go queues notifications apart from answers, so a tool that doesn't wait
// is overtaken by its own result.
type countingWriter struct{ progress chan struct{} }

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := os.Stdout.Write(b)
	for range bytes.Count(b, []byte(`"notifications/progress"`)) {
		w.progress <- struct{}{}
	}
	return n, err
}

func newMCPGoServer(out *countingWriter) *mcpgoserver.MCPServer {
	s := mcpgoserver.NewMCPServer("peer", "1", mcpgoserver.WithToolCapabilities(true))
	s.AddTool(mcpgo.NewTool("echo", mcpgo.WithString("text")), func(_ context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		return mcpgo.NewToolResultText(r.GetString("text", "")), nil
	})
	s.AddTool(mcpgo.NewTool("progress", mcpgo.WithString("text")), func(ctx context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		for i := range 3 {
			if err := s.SendNotificationToClient(ctx, "notifications/progress", map[string]any{
				"progressToken": r.Params.Meta.ProgressToken, "progress": i + 1, "message": r.GetString("text", ""),
			}); err != nil {
				return nil, err
			}
			<-out.progress
		}
		return mcpgo.NewToolResultText("done " + r.GetString("text", "")), nil
	})
	return s
}

// notes collects lines that a peer reports and lets tests wait for one.
type notes struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	wake chan struct{}
}

func newNotes() *notes { return &notes{wake: make(chan struct{})} }

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf.Write(b)
	close(n.wake)
	n.wake = make(chan struct{})
	return len(b), nil
}

func (n *notes) add(s string) { _, _ = n.Write([]byte(s + "\n")) }

func (n *notes) count(s string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.buf.String(), s)
}

func (n *notes) wait(t *testing.T, s string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		n.mu.Lock()
		found, wake, all := strings.Contains(n.buf.String(), s), n.wake, n.buf.String()
		n.mu.Unlock()
		if found {
			return
		}
		select {
		case <-wake:
		case <-deadline:
			t.Fatalf("%q was never reported; all reports:\n%s", s, all)
		}
	}
}

// self is this test binary as a server command.
func self(t *testing.T, peer string, env ...string) StdioOptions {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return StdioOptions{Command: []string{exe}, Env: append(env, peerVar+"="+peer), Stderr: io.Discard, Grace: time.Second}
}

// serve runs a StdioServer on loopback.
func serve(t *testing.T, o StdioOptions) (*StdioServer, string) {
	t.Helper()
	s, err := NewStdioServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, listen(t, s, func() { _ = s.Close() })
}

func listen(t *testing.T, h http.Handler, closing func()) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		if closing != nil {
			closing()
		}
		srv.Close()
	})
	return srv.URL
}

// httpTransport is a go-sdk client transport to url that leaves nothing behind.
func httpTransport(t *testing.T, url string) mcp.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: tr}}
}

// pumpTransport is a go-sdk stdio transport that speaks through a Pump to url.
func pumpTransport(t *testing.T, url string, n *notes) mcp.Transport {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	var log io.Writer = io.Discard
	if n != nil {
		log = n
	}
	go func() {
		done <- Pump(t.Context(), inR, outW, PumpOptions{URL: url, Logger: slog.New(slog.NewTextHandler(log, nil))})
		_ = outW.Close()
	}()
	t.Cleanup(func() {
		_ = inW.Close()
		_ = outR.Close()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("Pump: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Pump does not end after its input did")
		}
	})
	return &mcp.IOTransport{Reader: outR, Writer: inW}
}
