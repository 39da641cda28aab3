package transport_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// tap keeps what goes through a writer.
type tap struct {
	io.WriteCloser
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.buf.Write(p)
	t.mu.Unlock()
	return t.WriteCloser.Write(p)
}

func (t *tap) contains(s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.buf.Bytes(), []byte(s))
}

// wire is one direction of a pipe.
type wire struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newWire() wire {
	r, w := io.Pipe()
	return wire{r, w}
}

// stdioPair connects an SDK client with an SDK server over pipes, sealed between.
func stdioPair(t *testing.T, server *mcp.Server, client *mcp.Client, era transport.Era, version string) (*mcp.ClientSession, [2]*tap) {
	t.Helper()
	id, err := protocol.GenerateIdentity("urn:example:stdio")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	// client SDK <-> client layer <-> server layer <-> server SDK
	a, b := newWire(), newWire()
	c, d := newWire(), newWire()
	e, f := newWire(), newWire()
	up, down := &tap{WriteCloser: c.w}, &tap{WriteCloser: d.w}
	var wg sync.WaitGroup
	wg.Go(func() {
		err := transport.StdioClient(ctx, transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: up},
			transport.ClientConfig{Identity: "urn:example:stdio", Anchor: protocol.Pin(id.Thumbprint()), OuterEra: era})
		if err != nil && ctx.Err() == nil {
			t.Error("client layer:", err)
		}
	})
	wg.Go(func() {
		err := transport.StdioServer(ctx, transport.Pipe{In: c.r, Out: down}, transport.Pipe{In: f.r, Out: e.w}, transport.ServerConfig{Identity: id})
		if err != nil && ctx.Err() == nil {
			t.Error("server layer:", err)
		}
	})
	wg.Go(func() { server.Run(ctx, &mcp.IOTransport{Reader: e.r, Writer: f.w}); f.w.Close() })
	cs, err := client.Connect(ctx, &mcp.IOTransport{Reader: b.r, Writer: a.w}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cs.Close()
		wg.Wait()
		cancel()
	})
	return cs, [2]*tap{up, down}
}

func TestStdio(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		for _, era := range []transport.Era{transport.Modern, transport.Legacy} {
			t.Run(version+"/outer-"+string(era), func(t *testing.T) {
				progress := make(chan string, 16)
				client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
					ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Message },
				})
				cs, taps := stdioPair(t, fixture(), client, era, version)
				if got := cs.InitializeResult().ProtocolVersion; got != version {
					t.Fatalf("revision %s inside the seal, want %s", got, version)
				}
				for range 3 {
					if got := callText(t, cs, "echo", map[string]any{"text": canary}); got != canary {
						t.Fatalf("echo said %q", got)
					}
				}
				params := &mcp.CallToolParams{Name: "progress", Arguments: map[string]any{"text": canary}, Meta: mcp.Meta{"progressToken": "p1"}}
				if _, err := cs.CallTool(t.Context(), params); err != nil {
					t.Fatal(err)
				}
				if got := <-progress; got != canary {
					t.Fatalf("progress said %q", got)
				}
				for i, tap := range taps {
					if tap.contains(canary) || tap.contains("echo") || tap.contains("tools/call") {
						t.Errorf("direction %d shows plaintext", i)
					}
				}
			})
		}
	}
}
