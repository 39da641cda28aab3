package transport_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	legacyVersion = "2025-11-25"
	modernVersion = "2026-07-28"
)

// legs are the ways in which sealed messages travel.
var legs = []transport.ClientConfig{
	{Carrier: protocol.Envelope, OuterEra: transport.Modern},
	{Carrier: protocol.Envelope, OuterEra: transport.Legacy, Fresh: true},
	{Carrier: protocol.HTTP, OuterEra: transport.Modern, Pad: true},
	{Carrier: protocol.Inline, OuterEra: transport.Modern},
}

func legName(leg transport.ClientConfig) string {
	return leg.Carrier.String() + "-" + string(leg.OuterEra)
}

// wants checks the headers that the client put on its request, which must have
// come through the seal.
func wants(t *testing.T, inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Canary") != canary || r.Header.Get("Authorization") != "Bearer "+canary {
			// The trust layer's own listings (inline) are no requests of the client.
			if _, sealed := transport.SealedFrom(r.Context()); sealed {
				t.Errorf("%s %s: the client's headers did not come through: %v", r.Method, r.URL, r.Header)
			}
		}
		w.Header().Set("X-Answer", canary)
		inner.ServeHTTP(w, r)
	})
}

func connect(t testing.TB, s *sealed, client *http.Client, opts *mcp.ClientOptions, version string) *mcp.ClientSession {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := mcp.NewClient(&mcp.Implementation{Name: "client-" + canary, Version: "1"}, opts)
	cs, err := c.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: s.url, HTTPClient: client}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// Everything of MCP goes through the seal as it goes without it, and nothing of
// it is on the wire.
func TestOfficialSDK(t *testing.T) {
	for _, leg := range legs {
		for _, json := range []bool{true, false} {
			for _, version := range []string{legacyVersion, modernVersion} {
				name := legName(leg) + "/" + version + map[bool]string{true: "/json", false: "/sse"}[json]
				t.Run(name, func(t *testing.T) { officialSDK(t, leg, version, json) })
			}
		}
	}
}

func officialSDK(t *testing.T, leg transport.ClientConfig, version string, json bool) {
	inner := fixture()
	s := serve(t, wants(t, overHTTP(inner, mcp.StreamableHTTPOptions{JSONResponse: json})), transport.ServerConfig{}, nil)
	hc, tap := s.tapped(t, leg)
	progress, changed := make(chan string, 16), make(chan struct{}, 16)
	cs := connect(t, s, hc, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Message },
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"answer": "answer-" + canary}}, nil
		},
	}, version)
	inline := leg.Carrier == protocol.Inline
	if got := cs.InitializeResult().ProtocolVersion; got != version {
		t.Fatalf("revision %s inside the seal, want %s", got, version)
	}
	list, err := cs.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Tools) != 4 {
		t.Errorf("%d tools listed, want 4", len(list.Tools))
	}
	for range 3 {
		res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": canary}})
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Content[0].(*mcp.TextContent).Text; got != canary {
			t.Fatalf("echo said %q", got)
		}
		status, _ := res.Meta[protocol.MetaStatus].(map[string]any)
		if leg.Carrier != protocol.HTTP && (status["state"] != "sealed" || status["peer"] != s.url || status["profile"] != "identity") {
			t.Errorf("the result is labelled %v", res.Meta)
		}
	}
	if !inline { // inline shows the tool's name, on purpose
		res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: canaryTool, Arguments: map[string]any{"text": ""}})
		if err != nil || !res.IsError || res.Content[0].(*mcp.TextContent).Text != canary+" failed" {
			t.Errorf("a tool's own error came as %v, %v", res, err)
		}
		if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "none-" + canary, Arguments: map[string]any{}}); err == nil || !strings.Contains(err.Error(), canary) {
			t.Errorf("an unknown tool gave %v", err)
		}
	}
	if !json {
		params := &mcp.CallToolParams{Name: "progress", Arguments: map[string]any{"text": canary}, Meta: mcp.Meta{"progressToken": "p"}}
		if _, err := cs.CallTool(t.Context(), params); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := <-progress; got != canary {
				t.Errorf("progress said %q", got)
			}
		}
	}
	if !inline || version == modernVersion { // what a server asks on its own can't be sealed inline
		if version == modernVersion || !json { // the SDK can't ask in a JSON answer
			if got := callText(t, cs, "ask", nil); got != "answer-"+canary {
				t.Errorf("the user's answer came as %q", got)
			}
		}
	}
	if !inline {
		mcp.AddTool(inner, &mcp.Tool{Name: "late"}, func(context.Context, *mcp.CallToolRequest, textIn) (*mcp.CallToolResult, any, error) {
			return said(""), nil, nil
		})
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Error("the change of the tool list did not come through")
		}
	}
	if err := cs.Close(); err != nil {
		t.Error("close:", err)
	}
	if !inline && tap.sees(canary) {
		t.Error("a canary is on the wire")
	}
	if inline && (tap.sees("Bearer "+canary) || tap.sees(`"text":"`+canary) || tap.sees("answer-"+canary)) {
		t.Error("a canary of a sealed call is on the wire")
	}
	if !tap.sees("HTTP/1.1 200") {
		t.Error("the tap saw nothing: this test would prove nothing")
	}
}

// A call that its client gives up is cancelled at the server: in the modern era
// by the end of the stream, in the legacy one by a notification.
//
// TMCP-9.4-2: A server MUST treat the closing of the stream of a sealed request … as cancellation in the modern era
func TestCancellation(t *testing.T) {
	for _, leg := range legs {
		for _, version := range []string{legacyVersion, modernVersion} {
			if leg.Carrier == protocol.Inline && version == legacyVersion {
				continue // a limit of the carrier: the notification has no sealed form
			}
			t.Run(legName(leg)+"/"+version, func(t *testing.T) {
				inner := fixture()
				began, ended := make(chan struct{}), make(chan struct{})
				mcp.AddTool(inner, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ textIn) (*mcp.CallToolResult, any, error) {
					close(began)
					<-ctx.Done()
					close(ended)
					return nil, nil, ctx.Err()
				})
				s := serve(t, overHTTP(inner, mcp.StreamableHTTPOptions{}), transport.ServerConfig{}, nil)
				hc := s.client(t, leg)
				cs := connect(t, s, hc, nil, version)
				defer cs.Close()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					_, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "wait", Arguments: map[string]any{"text": ""}})
					done <- err
				}()
				within(t, began, "the tool did not begin")
				cancel()
				if err := <-done; err == nil {
					t.Error("a cancelled call succeeded")
				}
				within(t, ended, "the tool was not cancelled")
			})
		}
	}
}

func within(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal(what)
	}
}

// A legacy stream that broke is resumed with Last-Event-ID, inside the seal.
//
// TMCP-9.4-2: A server MUST treat the closing of the stream of a sealed request … and not in the legacy era.
func TestResumption(t *testing.T) {
	for _, leg := range legs[:3] {
		t.Run(legName(leg), func(t *testing.T) {
			inner := fixture()
			began, release := make(chan struct{}), make(chan struct{})
			mcp.AddTool(inner, &mcp.Tool{Name: "slow"}, func(ctx context.Context, req *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
				if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: "p", Message: "begun"}); err != nil {
					return nil, nil, err
				}
				close(began)
				<-release
				return said(a.Text), nil, nil
			})
			store := mcp.NewMemoryEventStore(nil)
			var resumed atomic.Bool
			h := overHTTP(inner, mcp.StreamableHTTPOptions{EventStore: store})
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Last-Event-Id") != "" {
					resumed.Store(true)
				}
				h.ServeHTTP(w, r)
			}), transport.ServerConfig{}, nil)
			hc, tap := s.tapped(t, leg)
			got := make(chan struct{}, 4)
			cs := connect(t, s, hc, &mcp.ClientOptions{
				ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { got <- struct{}{} },
			}, legacyVersion)
			defer cs.Close()
			result := make(chan string, 1)
			go func() {
				res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"text": canary}, Meta: mcp.Meta{"progressToken": "p"}})
				if err != nil {
					result <- err.Error()
					return
				}
				result <- res.Content[0].(*mcp.TextContent).Text
			}()
			within(t, began, "the tool did not begin")
			within(t, got, "progress did not arrive")
			tap.cut()
			close(release)
			select {
			case r := <-result:
				if r != canary {
					t.Errorf("the resumed call gave %q", r)
				}
			case <-time.After(15 * time.Second):
				t.Fatal("the call was not resumed")
			}
			if !resumed.Load() {
				t.Error("the server saw no Last-Event-ID: nothing was resumed")
			}
		})
	}
}
