package aicc_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/aicc"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/trusted"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	ours "github.com/trustedmcp/tmcp/transport/aicc"
)

const (
	canary = "canary-4d7e-ü🦆"
	large  = 10 << 20 // characters of a large text
)

// The package makes keys of 4096 bits, and so do the tests.
var newKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 4096); err != nil {
			panic(err)
		}
	}
	return keys
})

func serverKey() *rsa.PrivateKey { return newKeys()[0] }
func otherKey() *rsa.PrivateKey  { return newKeys()[1] }

// A folder holds key files and configurations as the package has them.
type folder struct {
	dir, server, client, wrongClient string
}

func newFolder(t testing.TB) folder {
	t.Helper()
	f := folder{dir: t.TempDir()}
	write := func(name string, b []byte) string {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := func(name, member, file string) string {
		b, err := json.Marshal(map[string]string{member: file})
		if err != nil {
			t.Fatal(err)
		}
		return write(name, b)
	}
	public := func(k *rsa.PrivateKey) []byte {
		b, err := wire.MarshalPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f.server = config("server_config.json", "key_file", write("myPrivateKey.pem", wire.MarshalPrivateKey(serverKey())))
	f.client = config("client_config.json", "pub_key_path", write("myPublicKey.pem", public(serverKey())))
	f.wrongClient = config("wrong_config.json", "pub_key_path", write("otherPublicKey.pem", public(otherKey())))
	return f
}

// theirServer starts a server on the package.
func theirServer(t testing.TB, f folder, endpoint string) *interop.Running {
	t.Helper()
	target := interop.AICCServer(f.server)
	return interoptest.Start(t, interoptest.Install(t, target), target, endpoint)
}

// theirClient starts a client on the package, or on MCP's SDK alone, and opens a
// session.
func theirClient(t testing.TB, config, url string) *aicc.Client {
	t.Helper()
	c := startClient(t, config, url)
	a := do(t, c, aicc.Step{Do: "initialize"})
	if a.Exception != "" || a.Version != "2025-11-25" {
		t.Fatalf("initialize: %+v\n%s", a, c.Log())
	}
	return c
}

func startClient(t testing.TB, config, url string) *aicc.Client {
	t.Helper()
	cache := interoptest.Install(t, interop.AICCServer(""))
	c, err := aicc.StartClient(context.WithoutCancel(t.Context()), cache, config, url, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func do(t testing.TB, c *aicc.Client, s aicc.Step) *aicc.Answer {
	t.Helper()
	a, err := c.Do(s)
	if err != nil {
		t.Fatalf("%s: %v", s.Do, err)
	}
	return a
}

// plainServer is a server on the official Go SDK, without trust, with the tools
// of fixtures/aicc/peer.py.
func plainServer(json bool) http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "go-" + canary, Version: "1"}, &mcp.ServerOptions{Instructions: "instructions " + canary})
	said := func(text string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
	}
	type textIn struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in textIn) (*mcp.CallToolResult, any, error) {
		return said(in.Text), nil, nil
	})
	mcp.AddTool(s, &mcp.Tool{Name: "fail"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		r := said("failed as asked")
		r.IsError = true
		return r, nil, nil
	})
	type progressIn struct {
		N int `json:"n"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "progress"}, func(ctx context.Context, req *mcp.CallToolRequest, in progressIn) (*mcp.CallToolResult, any, error) {
		for i := range in.N {
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1), Total: float64(in.N), Message: "step " + canary})
		}
		return said("done"), nil, nil
	})
	s.AddResource(&mcp.Resource{Name: "greeting", URI: "test://greeting"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "hello " + canary}}}, nil
		})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{JSONResponse: json, MaxRequestBodyBytes: -1})
}

// listen serves h on loopback.
func listen(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/mcp"
}

// serve puts profile aicc-0.1 in front of inner.
func serve(t testing.TB, inner http.Handler, cfg ours.ServerConfig) string {
	t.Helper()
	if cfg.Keys == nil {
		cfg.Keys = func() []*rsa.PrivateKey { return []*rsa.PrivateKey{serverKey()} }
	}
	cfg.Limits.MaxMessage = 2 * large
	h, err := ours.Handler(inner, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return listen(t, h)
}

// roundTripper is profile aicc-0.1 behind a client.
func roundTripper(t testing.TB, cfg ours.ClientConfig) http.RoundTripper {
	t.Helper()
	if cfg.Key == nil {
		cfg.Key = func(context.Context) (*rsa.PublicKey, error) { return &serverKey().PublicKey, nil }
	}
	cfg.Limits.MaxMessage = 2 * large
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DisableCompression = true
	base.MaxIdleConnsPerHost = 64
	t.Cleanup(base.CloseIdleConnections)
	rt, err := ours.RoundTripper(base, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// proxy hands on to a URL over rt.
func proxy(t testing.TB, target string, rt http.RoundTripper) http.Handler {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = u, "" },
		Transport:     rt,
		FlushInterval: -1,
	}
}

// session opens a session of the official Go SDK over rt.
func session(t testing.TB, url string, rt http.RoundTripper, opts *mcp.ClientOptions) (*mcp.ClientSession, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := mcp.NewClient(&mcp.Implementation{Name: "client-" + canary, Version: "1"}, opts)
	s, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: rt}},
		&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, nil
}

func mustSession(t testing.TB, url string, rt http.RoundTripper, opts *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	s, err := session(t, url, rt, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// echo calls the tool echo.
func echo(t testing.TB, s *mcp.ClientSession, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	r, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": text}})
	if err != nil {
		return "", err
	}
	return said(r), nil
}

func said(r *mcp.CallToolResult) string {
	var all strings.Builder
	for _, c := range r.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			all.WriteString(text.Text)
		}
	}
	return all.String()
}

// tap puts a wire in front of a URL until the test ends.
func tap(t testing.TB, target string) *trusted.Wire {
	t.Helper()
	w, err := trusted.Tap(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// unseen fails the test if one of the secrets passed the wire.
func unseen(t testing.TB, w *trusted.Wire, secrets ...string) {
	t.Helper()
	if n, all := w.Passed(); n == 0 || !all {
		t.Errorf("the tap kept %d bytes, all: %t", n, all)
	}
	if seen := w.Shows(secrets...); len(seen) > 0 {
		t.Errorf("on the wire in the clear: %q", seen)
	}
}
