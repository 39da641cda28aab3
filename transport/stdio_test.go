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
func stdioPair(t *testing.T, server *mcp.Server, client *mcp.Client, era transport.Era, mode protocol.Mode, version string, change ...func(*transport.ClientConfig, *transport.ServerConfig)) (*mcp.ClientSession, [2]*tap) {
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
	ccfg := transport.ClientConfig{Identity: "urn:example:stdio", Anchor: protocol.Pin(id.Thumbprint()), OuterEra: era, Mode: mode}
	scfg := transport.ServerConfig{Identity: id, Mode: mode}
	for _, f := range change {
		f(&ccfg, &scfg)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		err := transport.StdioClient(ctx, transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: up}, ccfg)
		if err != nil && ctx.Err() == nil {
			t.Error("client layer:", err)
		}
	})
	wg.Go(func() {
		err := transport.StdioServer(ctx, transport.Pipe{In: c.r, Out: down}, transport.Pipe{In: f.r, Out: e.w}, scfg)
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
			for _, mode := range []protocol.Mode{protocol.ModeRequired, protocol.ModePreferred} {
				t.Run(version+"/outer-"+string(era)+"/"+string(mode), func(t *testing.T) {
					progress := make(chan string, 16)
					client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
						ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Message },
					})
					cs, taps := stdioPair(t, fixture(), client, era, mode, version)
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
}

// Plain peers on a pipe: preferred mode speaks to them, and says so.
func TestStdioPreferredPlain(t *testing.T) {
	for _, version := range []string{legacyVersion, modernVersion} {
		t.Run(version+"/plain-server", func(t *testing.T) {
			id, err := protocol.GenerateIdentity("urn:x")
			if err != nil {
				t.Fatal(err)
			}
			a, b, c, d := newWire(), newWire(), newWire(), newWire()
			var wg sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			wg.Go(func() {
				if err := transport.StdioClient(ctx, transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: c.w},
					transport.ClientConfig{Identity: "urn:x", Anchor: protocol.Pin(id.Thumbprint()), Mode: protocol.ModePreferred}); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { fixture().Run(ctx, &mcp.IOTransport{Reader: c.r, Writer: d.w}); d.w.Close() })
			plainStdio(t, ctx, b.r, a.w, version, "unattested")
			wg.Wait()
		})
		t.Run(version+"/plain-client", func(t *testing.T) {
			id, err := protocol.GenerateIdentity("urn:x")
			if err != nil {
				t.Fatal(err)
			}
			a, b, c, d := newWire(), newWire(), newWire(), newWire()
			var wg sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			wg.Go(func() {
				if err := transport.StdioServer(ctx, transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: c.w},
					transport.ServerConfig{Identity: id, Mode: protocol.ModePreferred}); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { fixture().Run(ctx, &mcp.IOTransport{Reader: c.r, Writer: d.w}); d.w.Close() })
			plainStdio(t, ctx, b.r, a.w, version, nil)
			wg.Wait()
		})
	}
}

func plainStdio(t *testing.T, ctx context.Context, r io.ReadCloser, w io.WriteCloser, version string, state any) {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
	cs, err := c.Connect(ctx, &mcp.IOTransport{Reader: r, Writer: w}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": canary}})
	if err != nil {
		t.Fatal(err)
	}
	status, _ := res.Meta[protocol.MetaStatus].(map[string]any)
	if got := res.Content[0].(*mcp.TextContent).Text; got != canary || status["state"] != state {
		t.Errorf("echo said %q, labelled %v", got, status)
	}
	cs.Close()
}
