//lint:file-ignore SA1019 sampling and the legacy handshake are deprecated, and carried for those who use them

package trusted_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/trusted"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// What may not be seen on the wire: of a call's arguments, results and progress,
// of errors, of the client's own HTTP fields, and of the names of tools.
const (
	canaryText   = "canary-argument-5f1c ü \" \u2028"
	canaryAnswer = "canary-answer-77aa"
	canaryToken  = "canary-progress-token-31"
	canaryTool   = "canary-no-such-tool-90"
	canaryField  = "canary-header-value-64"
	canaryClient = "canary-client-name-12"
)

var (
	canaries = []string{"canary-argument-5f1c", canaryAnswer, canaryToken, canaryTool, canaryField, canaryClient}
	// Short words are looked for as they stand in JSON and in header fields only:
	// by themselves they may turn up in any ciphertext.
	toolNames = []string{`"echo"`, `"add"`, `"progress"`, `name: echo`, `name: progress`, `"tools/call"`, `: tools/call`, "failed as asked"}
)

// Every server, at each of its endpoints, in each era that it speaks, works
// behind serve as it does without: for a client whose HTTP goes through
// transport.RoundTripper, one beside connect over HTTP, and one over stdio. And
// nothing of it is seen on the wire.
func TestServersBehindServe(t *testing.T) {
	for _, target := range interop.Servers() {
		for _, e := range target.Endpoints {
			t.Run(target.Name+"/"+e.Name, func(t *testing.T) {
				cache := interoptest.Install(t, target)
				s := serve(t, interoptest.Start(t, cache, target, e.Name))
				for _, era := range e.Eras {
					for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP} {
						for _, way := range ways {
							t.Run(fmt.Sprintf("%s/%s/%s", era, carrier, way.name), func(t *testing.T) {
								w := tap(t, s)
								// The wire is looked at once the client is done.
								exercise(t, way.dial(t, to(s, w.URL, carrier)), target, e, era)
								unseen(t, w, append(canaries, toolNames...))
							})
						}
					}
				}
			})
		}
	}
}

// Without trust the same exercise shows every canary: the tap would see them.
func TestTapSeesPlaintext(t *testing.T) {
	target, err := interop.Lookup("go-sdk-server")
	if err != nil {
		t.Fatal(err)
	}
	cache := interoptest.Install(t, target)
	for _, era := range []interop.Era{interop.Legacy, interop.Modern} {
		t.Run(string(era), func(t *testing.T) {
			e, err := target.Endpoint("http")
			if err != nil {
				t.Fatal(err)
			}
			w, err := trusted.Tap(interoptest.Start(t, cache, target, "http").URL)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			exercise(t, overHTTP(w.URL, http.DefaultTransport), target, e, era)
			want := append(slices.Clone(canaries), `"echo"`, `"add"`, `"progress"`, `"tools/call"`, "failed as asked")
			if era == interop.Modern {
				want = append(want, "name: echo", ": tools/call")
			}
			for _, c := range want {
				if len(w.Shows(c)) == 0 {
					t.Errorf("%q is not seen in plaintext", c)
				}
			}
		})
	}
}

// The wire tells nothing else apart either: the tap finds what is hidden in
// base64, at any offset.
func TestTapSeesBase64(t *testing.T) {
	for _, text := range []string{"Y2FuYXJ5LWFuc3dlci03N2Fh", "eGNhbmFyeS1hbnN3ZXItNzdhYXg", "eHhjYW5hcnktYW5zd2VyLTc3YWE="} {
		w := new(trusted.Wire)
		trusted.Keep(w, "..."+text+"...")
		if len(w.Shows(canaryAnswer)) == 0 {
			t.Errorf("%s is not seen to hold %s", text, canaryAnswer)
		}
		if got := w.Shows("canary-answer-88aa"); len(got) > 0 {
			t.Errorf("%s is said to hold %s", text, got)
		}
	}
}

func unseen(t *testing.T, w *trusted.Wire, secrets []string) {
	t.Helper()
	for _, s := range w.Shows(secrets...) {
		t.Errorf("%q is seen on the wire", s)
	}
	if n, all := w.Passed(); n < 2000 || !all {
		t.Errorf("the tap kept %d bytes; all: %v", n, all)
	}
}

// ways are how a client may reach a server through trust.
var ways = []struct {
	name string
	dial func(*testing.T, gateway.ConnectConfig) mcp.Transport
}{
	{"roundtripper", dialRoundTripper},
	{"connect", dialConnect},
	{"connect-stdio", dialConnectStdio},
}

func dialRoundTripper(t *testing.T, cfg gateway.ConnectConfig) mcp.Transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	rt, err := transport.RoundTripper(base, transport.ClientConfig{Anchor: cfg.Anchor, Identity: cfg.Identity, Carrier: cfg.Carrier, OuterEra: cfg.OuterEra})
	if err != nil {
		t.Fatal(err)
	}
	return overHTTP(cfg.URL, rt)
}

func dialConnect(t *testing.T, cfg gateway.ConnectConfig) mcp.Transport {
	return overHTTP(connect(t, cfg).URL, http.DefaultTransport)
}

func dialConnectStdio(t *testing.T, cfg gateway.ConnectConfig) mcp.Transport {
	in, toConnect := io.Pipe()
	fromConnect, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := gateway.ConnectStdio(t.Context(), cfg, in, out)
		out.Close()
		ended <- err
	}()
	t.Cleanup(func() {
		toConnect.Close()
		select {
		case err := <-ended:
			if err != nil && t.Context().Err() == nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("connect --stdio goes on 20s after the end of its input")
		}
	})
	return &mcp.IOTransport{Reader: fromConnect, Writer: toConnect}
}

// overHTTP is a client's side of Streamable HTTP, with a field of its own.
func overHTTP(url string, rt http.RoundTripper) mcp.Transport {
	return &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: withField{rt}}}
}

type withField struct{ next http.RoundTripper }

func (w withField) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Canary", canaryField)
	return w.next.RoundTrip(r)
}

// exercise calls what the target offers, and compares with what its fixture's
// contract says; see fixtures/README.md of package interop.
func exercise(t *testing.T, tr mcp.Transport, target *interop.Target, e interop.Endpoint, era interop.Era) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if h, ok := tr.(*mcp.StreamableClientTransport); ok && target.Name == "java-server" {
		h.DisableStandaloneSSE = true // see the target's Oddities
	}
	c := dial(t, ctx, tr, era)
	defer c.Close()
	list, err := c.ListTools(ctx, nil)
	if err != nil {
		t.Fatalf("tools/list: %v", err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	switch {
	case target.Common:
		asks := slices.Contains(target.Ask, e.Name+"/"+string(era))
		// Without trust too, mcp-go deals a session's notifications out to the
		// streams that are open, the answer's and the standing one.
		ordered := target.Name != "mcp-go-server" || e.Transport == interop.Stdio || era == interop.Modern
		c.common(t, ctx, asks, ordered)
	case slices.Contains(names, "test_simple_text"):
		c.officialTools(t, ctx, era, e.Name != "http-stateless")
	case slices.Contains(names, "echo"):
		if got, _ := c.want(t, ctx, "echo", map[string]any{"message": canaryText}, false); !strings.HasSuffix(got, canaryText) {
			t.Errorf("echo: got %q", got)
		}
	default:
		t.Fatalf("there is no exercise for the tools %q", names)
	}
	// What refuses an unknown tool, and how, is up to the SDK; it must arrive.
	if res, err := c.CallTool(ctx, &mcp.CallToolParams{Name: canaryTool, Arguments: map[string]any{}}); err == nil && !res.IsError {
		t.Errorf("an unknown tool gives %+v", res)
	}
}

// A sdkClient is a client on the official Go SDK, and what it was told.
type sdkClient struct {
	*mcp.ClientSession
	mu       sync.Mutex
	progress []float64
}

func dial(t *testing.T, ctx context.Context, tr mcp.Transport, era interop.Era) *sdkClient {
	t.Helper()
	c := new(sdkClient)
	opts := &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"answer": canaryAnswer, "username": canaryAnswer, "name": canaryAnswer, "color": canaryAnswer, "email": "a@example.com"}}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: canaryAnswer}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if r.Params.ProgressToken == canaryToken {
				c.progress = append(c.progress, r.Params.Progress)
			}
		},
	}
	revision := map[interop.Era]string{interop.Legacy: interop.LegacyRevision, interop.Modern: interop.ModernRevision}[era]
	session, err := mcp.NewClient(&mcp.Implementation{Name: canaryClient, Version: "1"}, opts).
		Connect(ctx, tr, &mcp.ClientSessionOptions{ProtocolVersion: revision})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	c.ClientSession = session
	if got := session.InitializeResult().ProtocolVersion; got != revision {
		t.Fatalf("opened with %s, want %s", got, revision)
	}
	return c
}

// want calls a tool that answers, with isError or without, and returns its text.
func (c *sdkClient) want(t *testing.T, ctx context.Context, tool string, args map[string]any, isError bool) (string, *mcp.CallToolResult) {
	t.Helper()
	p := &mcp.CallToolParams{Name: tool, Arguments: args}
	if strings.Contains(tool, "progress") {
		p.SetProgressToken(canaryToken)
	}
	res, err := c.CallTool(ctx, p)
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	got := ""
	for _, item := range res.Content {
		if text, ok := item.(*mcp.TextContent); ok {
			got += text.Text
		}
	}
	if res.IsError != isError {
		t.Errorf("%s: isError %v, text %q", tool, res.IsError, got)
	}
	return got, res
}

// common calls the tools that fixtures have in common.
func (c *sdkClient) common(t *testing.T, ctx context.Context, asks, ordered bool) {
	t.Helper()
	for _, call := range []struct {
		tool    string
		args    map[string]any
		want    string
		isError bool
	}{
		{"echo", map[string]any{"text": canaryText}, canaryText, false},
		{"add", map[string]any{"a": 2, "b": 40}, "42", false},
		{"fail", map[string]any{}, "failed as asked", true},
		{"progress", map[string]any{"n": 3}, "done 3", false},
	} {
		if got, _ := c.want(t, ctx, call.tool, call.args, call.isError); got != call.want {
			t.Errorf("%s: got %q, want %q", call.tool, got, call.want)
		}
	}
	c.awaitProgress(t, ctx, 3, ordered)
	if asks {
		if got, _ := c.want(t, ctx, "ask", map[string]any{}, false); got != "answer: "+canaryAnswer {
			t.Errorf("ask: got %q", got)
		}
	}
}

// officialTools calls tools that MCP's official suite has servers offer. session
// tells whether the server can ask a legacy client.
func (c *sdkClient) officialTools(t *testing.T, ctx context.Context, era interop.Era, session bool) {
	t.Helper()
	contains := func(tool string, args map[string]any, want string, isError bool) {
		t.Helper()
		if got, _ := c.want(t, ctx, tool, args, isError); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", tool, got, want)
		}
	}
	contains("test_simple_text", nil, "simple text", false)
	contains("test_error_handling", nil, "error", true)
	contains("test_tool_with_progress", nil, "", false)
	c.awaitProgress(t, ctx, 3, true)
	switch {
	case era == interop.Legacy && !session: // a legacy server without session can't ask
	case era == interop.Legacy:
		contains("test_sampling", map[string]any{"prompt": canaryText}, canaryAnswer, false)
		contains("test_elicitation", map[string]any{"message": canaryText}, canaryAnswer, false)
	default:
		contains("test_input_required_result_sampling", nil, canaryAnswer, false)
		contains("test_input_required_result_multi_round", nil, canaryAnswer, false)
	}
}

// awaitProgress waits: a notification may be handled after the result.
func (c *sdkClient) awaitProgress(t *testing.T, ctx context.Context, n int, ordered bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c.mu.Lock()
		got := slices.Clone(c.progress)
		c.mu.Unlock()
		if len(got) >= n {
			if (ordered && !slices.IsSorted(got)) || len(got) > n {
				t.Errorf("progress %v, want %d in order", got, n)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("progress %v, want %d", got, n)
		case <-tick.C:
		}
	}
}
