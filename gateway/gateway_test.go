package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

var required = protocol.Offer{Mode: protocol.ModeRequired}

// An end is a Serve or Connect that runs.
type end struct {
	url   string
	pin   protocol.Thumbprint
	addr  string
	stop  context.CancelFunc
	ended chan error
}

// wait returns what the end returned, and how long after the call.
func (e *end) wait(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	select {
	case err := <-e.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on 20s after it was told to end")
	}
	return time.Since(begin)
}

func serve(t *testing.T, cfg gateway.ServeConfig) *end {
	t.Helper()
	cfg.Offer = required
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	return run(t, func(ctx context.Context, e *end, ready func()) error {
		return gateway.Serve(ctx, cfg, func(s gateway.Serving) {
			e.url, e.pin, e.addr = s.URL, s.Identity.Thumbprint(), s.Address.String()
			ready()
		})
	})
}

func connect(t *testing.T, to *end, carrier protocol.Carrier) *end {
	t.Helper()
	cfg := gateway.ConnectConfig{URL: to.url, Anchor: protocol.Pin(to.pin), Offer: required, Carrier: carrier}
	return run(t, func(ctx context.Context, e *end, ready func()) error {
		return gateway.Connect(ctx, cfg, "127.0.0.1:0", func(url string) {
			e.url = url
			ready()
		})
	})
}

func run(t *testing.T, f func(context.Context, *end, func()) error) *end {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e := &end{stop: cancel, ended: make(chan error, 1)}
	ready := make(chan struct{})
	go func() { e.ended <- f(ctx, e, sync.OnceFunc(func() { close(ready) })) }()
	t.Cleanup(cancel)
	select {
	case <-ready:
	case err := <-e.ended:
		t.Fatal(err)
	}
	return e
}

// tools is an MCP server with echo {text}, and slow, which sends a progress
// notification, says so, and ends with the test (the SDK does not cancel it when
// its caller is gone, with or without gateways between).
func tools(t *testing.T) (url string, calls *atomic.Int64, slow chan struct{}) {
	t.Helper()
	calls, slow = new(atomic.Int64), make(chan struct{}, 10)
	release := make(chan struct{})
	s := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		calls.Add(1)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "slow"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: 1})
		slow <- struct{}{}
		select {
		case <-ctx.Done():
		case <-release:
		}
		return nil, nil, errors.Join(err, ctx.Err())
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		close(release)
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL, calls, slow
}

func dial(t *testing.T, url string, rt http.RoundTripper) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1, HTTPClient: &http.Client{Transport: rt}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func echo(ctx context.Context, s *mcp.ClientSession, text string) error {
	res, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": text}})
	if err != nil {
		return err
	}
	if got := res.Content[0].(*mcp.TextContent).Text; got != text || res.IsError {
		return fmt.Errorf("sent %.80q, got %.80q", text, got)
	}
	return nil
}

var carriers = []protocol.Carrier{protocol.Envelope, protocol.Inline, protocol.HTTP}

// 200 calls at once come back each with its own answer, and run once each.
func TestParallel(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier.String(), func(t *testing.T) {
			upstream, calls, _ := tools(t)
			session := dial(t, connect(t, serve(t, gateway.ServeConfig{Upstream: upstream}), carrier).url, nil)
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					if err := echo(t.Context(), session, fmt.Sprintf("call %d %s", i, strings.Repeat("x", i*50))); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := calls.Load(); n != 200 {
				t.Errorf("200 calls ran the tool %d times", n)
			}
		})
	}
}

// Calls go on over many lives of the HPKE keys, which are renewed every second:
// none is lost, none runs twice.
func TestKeyRollover(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier.String(), func(t *testing.T) {
			t.Parallel()
			upstream, calls, _ := tools(t)
			s := serve(t, gateway.ServeConfig{Upstream: upstream, Validity: 2 * time.Second})
			session := dial(t, connect(t, s, carrier).url, nil)
			n, begin := 0, time.Now()
			for n < 2000 || time.Since(begin) < 5*time.Second {
				if err := echo(t.Context(), session, fmt.Sprintf("call %d", n)); err != nil {
					t.Fatalf("call %d, after %v: %v", n, time.Since(begin), err)
				}
				n++
			}
			if got := calls.Load(); got != int64(n) {
				t.Errorf("%d calls ran the tool %d times", n, got)
			}
			t.Logf("%d calls in %v", n, time.Since(begin).Round(time.Millisecond))
		})
	}
}

// A Serve that is started anew has other HPKE keys and knows no contexts, and the
// same identity key: the next call works, without the client seeing anything.
func TestRestart(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier.String(), func(t *testing.T) {
			upstream, calls, _ := tools(t)
			keyFile := filepath.Join(t.TempDir(), "server.key")
			key, err := keyfile.Generate("")
			if err == nil {
				err = keyfile.Save(keyFile, key)
			}
			if err != nil {
				t.Fatal(err)
			}
			cfg := gateway.ServeConfig{Upstream: upstream, IdentityKey: keyFile}
			s := serve(t, cfg)
			cfg.Listen = s.addr
			session := dial(t, connect(t, s, carrier).url, nil)
			for i := range 10 {
				if err := echo(t.Context(), session, fmt.Sprint(i)); err != nil {
					t.Fatalf("after %d restarts: %v", i, err)
				}
				s.stop()
				s.wait(t)
				s = serve(t, cfg)
			}
			if n := calls.Load(); n != 10 {
				t.Errorf("10 calls ran the tool %d times", n)
			}
		})
	}
}

// A server restarted with another identity key is another server.
func TestRestartAsAnother(t *testing.T) {
	upstream, calls, _ := tools(t)
	s := serve(t, gateway.ServeConfig{Upstream: upstream})
	session := dial(t, connect(t, s, protocol.Envelope).url, nil)
	if err := echo(t.Context(), session, "x"); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.wait(t)
	serve(t, gateway.ServeConfig{Upstream: upstream, Listen: s.addr})
	if err := echo(t.Context(), session, "x"); err == nil || !strings.Contains(err.Error(), string(protocol.IdentityMismatch)) {
		t.Errorf("got %v, want %s", err, protocol.IdentityMismatch)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the tool ran %d times", n)
	}
}

// A client whose clock is an hour fast or slow refuses, and says that it is the
// time.
func TestClock(t *testing.T) {
	upstream, _, _ := tools(t)
	s := serve(t, gateway.ServeConfig{Upstream: upstream})
	for off, want := range map[time.Duration]protocol.Reason{time.Hour: protocol.KeyObjectExpired, -time.Hour: protocol.KeyObjectNotYetValid} {
		rt, err := transport.RoundTripper(http.DefaultTransport, transport.ClientConfig{
			Anchor: protocol.Pin(s.pin), Clock: func() time.Time { return time.Now().Add(off) }})
		if err != nil {
			t.Fatal(err)
		}
		c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
		_, err = c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: s.url, MaxRetries: -1, HTTPClient: &http.Client{Transport: rt}}, nil)
		if err == nil || !strings.Contains(err.Error(), string(want)) {
			t.Errorf("%v: got %v, want %s", off, err, want)
		}
	}
}

// Told to end in the middle of a stream, each end does, in the grace that calls
// under way have; the caller gets an error, never half an answer, and nothing of
// either end is left running.
func TestEndInStream(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for _, which := range []string{"serve", "connect"} {
		t.Run(which, func(t *testing.T) {
			upstream, _, slow := tools(t)
			s := serve(t, gateway.ServeConfig{Upstream: upstream})
			c := connect(t, s, protocol.Envelope)
			base := http.DefaultTransport.(*http.Transport).Clone()
			session := dial(t, c.url, base)
			failed := make(chan error, 1)
			go func() {
				p := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{}}
				p.SetProgressToken("t")
				res, err := session.CallTool(t.Context(), p)
				if err == nil {
					err = fmt.Errorf("it was answered: %+v", res)
				} else {
					err = nil
				}
				failed <- err
			}()
			<-slow
			first, second := s, c
			if which == "connect" {
				first, second = c, s
			}
			first.stop()
			if took := first.wait(t); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			select {
			case err := <-failed:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the caller waits on")
			}
			_ = session.Close()
			second.stop()
			second.wait(t)
			base.CloseIdleConnections()
		})
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, before)
}

// A standing stream and a connection without a request do not hold up the end.
func TestEndIsQuick(t *testing.T) {
	var h http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	s := serve(t, gateway.ServeConfig{Upstream: srv.URL})
	c := connect(t, s, protocol.Envelope)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	for _, e := range []*end{s, c} {
		e.stop()
		if took := e.wait(t); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}
