package aicc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport/aicc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary must not be seen on the wire, but in a plain initialize.
const canary = "canary-5f1e-ü🦆"

var serverKey, otherKey = newKey(), newKey()

func newKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func keys(k ...*rsa.PrivateKey) func() []*rsa.PrivateKey {
	return func() []*rsa.PrivateKey { return k }
}

func pinned(k *rsa.PrivateKey) func(context.Context) (*rsa.PublicKey, error) {
	return func(context.Context) (*rsa.PublicKey, error) { return &k.PublicKey, nil }
}

type textIn struct {
	Text string `json:"text"`
	Size int    `json:"size,omitempty"`
}

func said(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

// plain is an MCP server without trust.
func plain(t testing.TB, json bool) http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "server", Version: "1"}, nil)
	t.Cleanup(func() { // of clients that left without a word
		for ss := range s.Sessions() {
			_ = ss.Close()
		}
	})
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
		return said(a.Text), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "large"}, func(_ context.Context, _ *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
		return said(strings.Repeat("x", a.Size)), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "fail"}, func(context.Context, *mcp.CallToolRequest, textIn) (*mcp.CallToolResult, any, error) {
		r := said(canary)
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
	mcp.AddTool(s, &mcp.Tool{Name: "ask"}, func(_ context.Context, req *mcp.CallToolRequest, _ textIn) (*mcp.CallToolResult, any, error) {
		answer, ok := req.Params.InputResponses["answer"].(*mcp.ElicitResult)
		if !ok {
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"answer": &mcp.ElicitParams{
				Message:         "what is the " + canary + "?",
				RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"answer": map[string]any{"type": "string"}}},
			}}}, nil, nil
		}
		text, _ := answer.Content["answer"].(string)
		return said(text), nil, nil
	})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{JSONResponse: json, MaxRequestBodyBytes: -1})
}

// serve puts the profile in front of inner on a real socket.
func serve(t testing.TB, inner http.Handler, cfg aicc.ServerConfig) string {
	t.Helper()
	if cfg.Keys == nil {
		cfg.Keys = keys(serverKey)
	}
	h, err := aicc.Handler(inner, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return listen(t, h)
}

func listen(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/mcp"
}

// A tap writes down what goes over the wire, and may change it.
type tap struct {
	next    http.RoundTripper
	change  func(*http.Request) error
	answers func(*http.Response)

	mu   sync.Mutex
	wire bytes.Buffer
	kept []kept
}

type kept struct {
	method string
	header http.Header
	body   []byte
}

func (t *tap) write(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wire.Write(b)
}

func (t *tap) seen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wire.String()
}

func (t *tap) requests() []kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]kept{}, t.kept...)
}

func (t *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	t.mu.Lock()
	fmt.Fprintf(&t.wire, "%s %s %v\n%s\n", req.Method, req.URL, req.Header, body)
	t.kept = append(t.kept, kept{req.Method, req.Header.Clone(), body})
	t.mu.Unlock()
	if t.change != nil {
		if err := t.change(req); err != nil {
			return nil, err
		}
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.write(fmt.Appendf(nil, "%v\n", resp.Header))
	resp.Body = &tapped{resp.Body, t}
	if t.answers != nil {
		t.answers(resp)
	}
	return resp, nil
}

type tapped struct {
	io.ReadCloser
	t *tap
}

func (r *tapped) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.t.write(p[:n])
	return n, err
}

// client makes a client with the profile behind it, and a tap behind that.
func client(t testing.TB, cfg aicc.ClientConfig) (*http.Client, *tap) {
	t.Helper()
	base := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(base.CloseIdleConnections)
	if cfg.Key == nil {
		cfg.Key = pinned(serverKey)
	}
	tp := &tap{next: base}
	rt, err := aicc.RoundTripper(tp, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: rt}, tp
}

func connect(t testing.TB, url string, hc *http.Client, opts *mcp.ClientOptions) (*mcp.ClientSession, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, opts)
	cs, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: hc, MaxRetries: -1}, nil)
	if err == nil {
		t.Cleanup(func() { cs.Close() })
	}
	return cs, err
}

func mustConnect(t testing.TB, url string, hc *http.Client, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	cs, err := connect(t, url, hc, opts)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func call(t testing.TB, cs *mcp.ClientSession, tool string, args map[string]any) string {
	t.Helper()
	res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatal(err)
	}
	return res.Content[0].(*mcp.TextContent).Text
}

// Everything of MCP goes through, in JSON and in event streams, and nothing of
// it is on the wire.
func TestOfficialSDK(t *testing.T) {
	for _, json := range []bool{true, false} {
		for _, plainInit := range []bool{true, false} {
			t.Run(fmt.Sprintf("json=%v/plain-initialize=%v", json, plainInit), func(t *testing.T) {
				url := serve(t, plain(t, json), aicc.ServerConfig{})
				hc, tp := client(t, aicc.ClientConfig{PlainInitialize: plainInit})
				progress := make(chan string, 3)
				cs := mustConnect(t, url, hc, &mcp.ClientOptions{
					ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
						progress <- r.Params.Message
					},
					ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
						return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"answer": canary + "!"}}, nil
					},
				})
				if got := call(t, cs, "echo", map[string]any{"text": canary}); got != canary {
					t.Errorf("echo gave %q", got)
				}
				res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "fail", Arguments: map[string]any{"text": ""}})
				if err != nil || !res.IsError {
					t.Errorf("a tool's error came as %+v, %v", res, err)
				}
				label, _ := res.Meta[protocol.MetaStatus].(map[string]any)
				if label["state"] != "sealed" || label["profile"] != wire.Profile || label["attested"] != false {
					t.Errorf("the result is labelled %v", label)
				}
				if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "none", Arguments: map[string]any{}}); err == nil {
					t.Error("an unknown tool is no error")
				}
				if !json {
					params := &mcp.CallToolParams{Name: "progress", Arguments: map[string]any{"text": canary}}
					params.SetProgressToken("p")
					if _, err := cs.CallTool(t.Context(), params); err != nil {
						t.Error(err)
					}
					for range 3 {
						select {
						case got := <-progress:
							if got != canary {
								t.Errorf("progress came as %q", got)
							}
						case <-time.After(10 * time.Second):
							t.Error("progress did not come")
						}
					}
					if got := call(t, cs, "ask", map[string]any{"text": ""}); got != canary+"!" {
						t.Errorf("ask gave %q", got)
					}
				}
				if err := cs.Close(); err != nil {
					t.Error(err)
				}
				if strings.Contains(tp.seen(), "canary-5f1e") {
					t.Error("the canary is on the wire")
				}
				initialize := 0
				for _, k := range tp.requests() {
					if k.header.Get(wire.Header) == "" {
						if initialize++; !bytes.Contains(k.body, []byte(`"initialize"`)) || !plainInit {
							t.Errorf("%s went out unsealed: %s", k.method, k.body)
						}
					}
				}
				if plainInit != (initialize == 1) {
					t.Errorf("%d requests went out unsealed", initialize)
				}
			})
		}
	}
}

func TestLargeParallelUnicode(t *testing.T) {
	for _, json := range []bool{true, false} {
		url := serve(t, plain(t, json), aicc.ServerConfig{})
		hc, _ := client(t, aicc.ClientConfig{})
		cs := mustConnect(t, url, hc, nil)
		if got := call(t, cs, "large", map[string]any{"text": "", "size": 10 << 20}); len(got) != 10<<20 {
			t.Errorf("json=%v: a large answer came back with %d bytes", json, len(got))
		}
		big := strings.Repeat("ü🦆\u2028\x00", 1<<16)
		if got := call(t, cs, "echo", map[string]any{"text": big}); got != big {
			t.Errorf("json=%v: a large message came back changed, with %d bytes", json, len(got))
		}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				want := fmt.Sprintf("%s %d", canary, i)
				res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": want}})
				if err != nil || res.Content[0].(*mcp.TextContent).Text != want {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		cs.Close()
	}
}
