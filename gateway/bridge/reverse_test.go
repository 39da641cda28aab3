package bridge

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/sse"
)

func reverse(t *testing.T, o ReverseOptions) *raw {
	t.Helper()
	p, err := NewReverse(o)
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, listen(t, p, func() { _ = p.Close() }))
}

func TestReverseIsTransparent(t *testing.T) {
	upstream := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s host=%s auth=%s conn=%s up=%s xff=%s", r.Method, r.URL.RequestURI(), body, r.Host,
			r.Header.Get("Authorization"), r.Header.Get("X-Hop"), r.Header.Get("Upgrade"), r.Header.Get("X-Forwarded-For")))
		w.Header().Set("Mcp-Session-Id", "s1")
		w.Header().Set("Connection", "X-Back")
		w.Header().Set("X-Back", "hop")
		w.WriteHeader(418)
		_, _ = io.WriteString(w, "as is")
	}), nil)
	for _, rewriteHost := range []bool{false, true} {
		c := reverse(t, ReverseOptions{Upstream: upstream + "/real?k=v", RewriteHost: rewriteHost})
		host := "client.example"
		if rewriteHost {
			host = strings.TrimPrefix(upstream, "http://")
		}
		resp := c.do(t.Context(), http.MethodPost, "{malformed", "Host: client.example", "Authorization: Bearer x", "Connection: X-Hop", "X-Hop: 1", "X-Forwarded-For: 1.2.3.4")
		body, _ := io.ReadAll(resp.Body)
		want := "POST /real?k=v {malformed host=" + host + " auth=Bearer x conn= up= xff=1.2.3.4"
		if got := resp.Header.Get("X-Seen"); got != want {
			t.Errorf("upstream saw %q\nwant         %q", got, want)
		}
		if resp.StatusCode != 418 || string(body) != "as is" || resp.Header.Get("Mcp-Session-Id") != "s1" || resp.Header.Get("X-Back") != "" {
			t.Errorf("%s %s %v", resp.Status, body, resp.Header)
		}
	}
	c := reverse(t, ReverseOptions{Upstream: upstream, Guard: &Guard{}})
	if resp := c.do(t.Context(), http.MethodPost, "{}", "Host: evil.example"); resp.StatusCode != 403 {
		t.Errorf("guard: %s", resp.Status)
	}
}

func TestReverseFailures(t *testing.T) {
	hang := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}), nil)
	for _, tt := range []struct {
		name   string
		o      ReverseOptions
		body   string
		status int
		want   string
	}{
		{"unreachable", ReverseOptions{Upstream: "http://127.0.0.1:1/"}, modernReq(`"r"`, "x", ""), 502, `"id":"r","error":{"code":-32603,"message":"the MCP server behind this gateway can't be reached: dial tcp 127.0.0.1:1`},
		{"unreachable, malformed body", ReverseOptions{Upstream: "http://127.0.0.1:1/"}, `{`, 502, `"id":null`},
		{"too slow", ReverseOptions{Upstream: hang, AnswerWait: 20 * time.Millisecond}, modernReq("1", "x", ""), 504, "did not answer within 20ms"},
		{"too large", ReverseOptions{Upstream: hang}, strings.Repeat("x", 4<<20+1), 413, `"reason":"request-too-large"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := reverse(t, tt.o).post(tt.body)
			if status != tt.status || !strings.Contains(body, tt.want) || code(body) == "none" {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	for _, u := range []string{"", "/mcp", "ftp://x"} {
		if _, err := NewReverse(ReverseOptions{Upstream: u}); err == nil {
			t.Errorf("upstream %q is accepted", u)
		}
	}
}

func TestReverseStreams(t *testing.T) {
	step := make(chan struct{})
	gone := make(chan struct{})
	upstream := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			<-step
			_, _ = w.Write(sse.Append(nil, sse.Event{Retry: -1, Data: fmt.Append(nil, i)}))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		close(gone)
	}), nil)
	c := reverse(t, ReverseOptions{Upstream: upstream})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { step <- struct{}{} }()
	rd := sse.NewReader(c.do(ctx, http.MethodPost, "{}").Body, 0)
	for i := range 3 {
		if ev, err := rd.Next(); err != nil || string(ev.Data) != fmt.Sprint(i) {
			t.Fatalf("%s %v", ev.Data, err)
		}
		if i < 2 { // each event arrives before the next is written
			step <- struct{}{}
		}
	}
	cancel()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Error("the client's disconnect does not reach the upstream")
	}
}

// Naive proxies break here: the upstream answers without reading the body.
func TestReverseUnreadBodies(t *testing.T) {
	upstream := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	}), nil)
	c := reverse(t, ReverseOptions{Upstream: upstream})
	body := strings.Repeat("x", 100<<10)
	for range 200 {
		if status, got := c.post(body); status != 202 {
			t.Fatalf("%d %s", status, got)
		}
	}
}

// A cut upstream stream must not look like a finished one.
func TestReverseTruncation(t *testing.T) {
	upstream := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}), nil)
	resp := reverse(t, ReverseOptions{Upstream: upstream}).do(t.Context(), http.MethodPost, "{}")
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the client sees a clean end")
	}
}
