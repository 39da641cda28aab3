// Package demo shows a sealed MCP call beside a plain one, with a relay between
// client and server that attacks both. [Run] does one of them in this process,
// over real loopback sockets; [Outcome] says what came of it, judged by what
// client, server and relay each saw and not by what anyone claims.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/internal/hostile"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Secret stands in the call's arguments, and Receipt in its result.
const (
	Secret  = "account 4711-0815"
	Receipt = "receipt 99-1234 for account 4711-0815"
	tool    = "transfer"
)

// An Outcome is what came of one call with one attack.
type Outcome struct {
	Attack    hostile.Attack
	Sealed    bool
	Succeeded bool            // the attack did what it wanted
	What      string          // for people: what happened
	Reason    protocol.Reason // why the call was refused, if it was
	Ran       int             // how often the tool ran
	Read      bool            // the relay read the secret, the receipt or the tool's name
	Tapped    int             // bytes that passed the relay
	Deeds     []string        // what the relay did
	Identity  string          // of the server
	Elapsed   time.Duration   // of the call
}

// world is a server, a relay before it, and what the server did.
type world struct {
	server *http.Server
	relay  *hostile.Relay
	front  *http.Server
	url    string // of the relay: what the client dials
	trust  *protocol.Server

	mu  sync.Mutex
	ran int
}

func (w *world) runs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ran
}

func newServer(w *world) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "demo-bank", Version: "1"}, nil)
	type in struct {
		Account string `json:"account"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: tool, Description: "Transfers money"},
		func(ctx context.Context, req *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
			w.mu.Lock()
			w.ran++
			w.mu.Unlock()
			if token := req.Params.GetProgressToken(); token != nil {
				for i := range 2 {
					err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
						ProgressToken: token, Progress: float64(i + 1), Total: 2, Message: Receipt})
					if err != nil {
						return nil, nil, err
					}
				}
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "receipt 99-1234 for " + a.Account}}}, nil, nil
		})
	return s
}

func listen(h http.Handler) (*http.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	return s, "http://" + l.Addr().String() + "/mcp", nil
}

func (w *world) close() {
	for _, s := range []*http.Server{w.front, w.server} {
		if s != nil {
			_ = s.Close()
		}
	}
	if w.relay != nil {
		w.relay.Close()
	}
}

// Run makes one call of a tool through a relay, sealed or plain.
func Run(ctx context.Context, attack hostile.Attack, sealed bool) (*Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	w := &world{}
	defer w.close()
	bank := newServer(w)
	var handler http.Handler = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return bank }, &mcp.StreamableHTTPOptions{Stateless: true})
	out := &Outcome{Attack: attack, Sealed: sealed}

	// The server's address is known before its identity is: a mux fills in.
	var mux http.ServeMux
	var err error
	var upstream string
	if w.server, upstream, err = listen(&mux); err != nil {
		return nil, err
	}
	out.Identity = upstream
	if sealed {
		id, err := protocol.GenerateIdentity(upstream)
		if err != nil {
			return nil, err
		}
		if w.trust, err = protocol.NewServer(protocol.ServerConfig{Identity: id}); err != nil {
			return nil, err
		}
		if handler, err = transport.Handler(handler, transport.ServerConfig{Trust: w.trust}); err != nil {
			return nil, err
		}
	}
	mux.Handle("/mcp", handler)
	if w.relay, err = hostile.New(upstream, attack); err != nil {
		return nil, err
	}
	if w.front, w.url, err = listen(w.relay); err != nil {
		return nil, err
	}

	base := &http.Transport{}
	defer base.CloseIdleConnections()
	var rt http.RoundTripper = base
	if sealed {
		rt, err = transport.RoundTripper(base, transport.ClientConfig{
			Identity: upstream, // whom the client means, whatever it dials
			Anchor:   protocol.Pin(w.trust.Identity().Thumbprint()),
		})
		if err != nil {
			return nil, err
		}
	}
	start := time.Now()
	got := call(ctx, w.url, &http.Client{Transport: rt})
	out.Elapsed = time.Since(start)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	base.CloseIdleConnections()
	_ = w.front.Shutdown(ctx) // the relay finishes its deeds
	out.Ran = w.runs()
	out.Deeds = w.relay.Deeds()
	tapped := w.relay.Tapped()
	out.Tapped = len(tapped)
	for _, canary := range []string{Secret, Receipt, tool, "demo-bank"} {
		out.Read = out.Read || bytes.Contains(tapped, []byte(canary))
	}
	judge(out, got)
	return out, nil
}

// answer is what the client's user saw.
type answer struct {
	err      error
	text     string
	progress []float64
	revision string
}

func call(ctx context.Context, url string, client *http.Client) (a answer) {
	var mu sync.Mutex
	c := mcp.NewClient(&mcp.Implementation{Name: "demo-client", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			mu.Lock()
			defer mu.Unlock()
			a.progress = append(a.progress, r.Params.Progress)
		},
	})
	session, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: client, MaxRetries: -1, DisableStandaloneSSE: true}, nil)
	if err != nil {
		a.err = err
		return a
	}
	defer session.Close()
	if r := session.InitializeResult(); r != nil {
		a.revision = r.ProtocolVersion
	}
	params := &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"account": Secret}}
	params.SetProgressToken("p1")
	res, err := session.CallTool(ctx, params)
	mu.Lock()
	a.progress = slices.Clone(a.progress)
	mu.Unlock()
	if err != nil {
		a.err = err
		return a
	}
	for _, content := range res.Content {
		if t, ok := content.(*mcp.TextContent); ok {
			a.text += t.Text
		}
	}
	if res.IsError {
		a.err = errors.New(a.text)
	}
	return a
}

// judge decides whether the attack did what it wanted.
func judge(out *Outcome, got answer) {
	out.Reason = reasonIn(got.err)
	for _, deed := range out.Deeds { // a refusal that only the relay saw
		if _, r, ok := strings.Cut(deed, "refused, reason "); ok && out.Reason == "" {
			out.Reason = protocol.Reason(r)
		}
	}
	refused := func() string {
		switch {
		case got.err != nil && out.Reason != "":
			return fmt.Sprintf("client refused: %s; the tool ran %s", out.Reason, times(out.Ran))
		case got.err != nil:
			return fmt.Sprintf("client got an error: %v", got.err)
		case out.Reason != "":
			return fmt.Sprintf("server refused: %s; the tool ran once", out.Reason)
		}
		return "no effect: the call came through whole"
	}
	success := ""
	switch {
	case got.err != nil:
	case out.Attack == hostile.SwapKey && strings.Contains(got.text, "forged"):
		success = "the client took the relay's answer for the server's"
	case out.Attack == hostile.Replay && out.Ran > 1:
		success = fmt.Sprintf("one call, and the tool ran %d times", out.Ran)
	case out.Attack == hostile.Reorder && len(got.progress) > 1 && !slices.IsSorted(got.progress):
		success = fmt.Sprintf("the client saw progress %v, and no error", got.progress)
	case out.Attack == hostile.Truncate && got.text != Receipt:
		success = fmt.Sprintf("the client took %q for the whole result", got.text)
	case out.Attack == hostile.RewriteSuite && got.revision != "" && got.revision < "2026":
		success = "the client was talked down to MCP " + got.revision
	}
	if success == "" && out.Read {
		success = "the relay read the arguments and the result"
	}
	if out.Succeeded = success != ""; out.Succeeded {
		out.What = success
		return
	}
	out.What = refused()
}

func times(n int) string {
	switch n {
	case 0:
		return "not at all"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// reasonIn finds the protocol's reason in an error that came through an SDK.
func reasonIn(err error) protocol.Reason {
	if err == nil {
		return ""
	}
	var best protocol.Reason
	for _, r := range protocol.Reasons() { // the longest: one reason's name may be part of another's
		if strings.Contains(err.Error(), "trust: "+string(r)) && len(r) > len(best) {
			best = r
		}
	}
	return best
}
