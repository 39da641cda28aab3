package bridge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// lineClient is a stdio client in the raw.
type lineClient struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Scanner
	done chan error
	log  *notes
}

func startPump(t *testing.T, o PumpOptions) *lineClient {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &lineClient{t: t, in: inW, out: bufio.NewScanner(outR), done: make(chan error, 1), log: newNotes()}
	c.out.Buffer(nil, 16<<20)
	o.Logger = slog.New(slog.NewTextHandler(c.log, nil))
	go func() {
		c.done <- Pump(t.Context(), inR, outW, o)
		_ = outW.Close()
	}()
	t.Cleanup(func() {
		_ = inW.Close()
		_ = outR.Close()
	})
	return c
}

func (c *lineClient) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *lineClient) recv() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("no line: %v", c.out.Err())
	}
	return c.out.Text()
}

func (c *lineClient) end() error {
	c.t.Helper()
	_ = c.in.Close()
	select {
	case err := <-c.done:
		return err
	case <-time.After(20 * time.Second):
		c.t.Fatal("Pump does not end")
		return nil
	}
}

func TestPumpMapsFailures(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const js, es = "application/json", "text/event-stream"
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		want string
	}{
		{"JSON answer", answer(200, js, `{"jsonrpc":"2.0",`+"\n"+`"id":"r","result":{}}`), `{"jsonrpc":"2.0", "id":"r","result":{}}`},
		{"error with a body", answer(404, js, `{"jsonrpc":"2.0","id":"r","error":{"code":-32601,"message":"m"}}`), `"id":"r","error":{"code":-32601,"message":"m"}`},
		{"error for id null", answer(400, js, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"m"}}`), `"id":"r","error":{"code":-32000`},
		{"error in text", answer(400, "text/plain", "no such method"), `"id":"r","error":{"code":-32603,"message":"the MCP server answered with HTTP status 400 Bad Request: no such method","data":{"reason":"http-status","status":400}}`},
		{"error without a body", answer(503, "", ""), `status 503 Service Unavailable"`},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		}, "redirects are not followed"},
		{"answer to another request", answer(200, js, `{"jsonrpc":"2.0","id":"other","result":{}}`), "for another request"},
		{"accepted without an answer", answer(202, "", ""), "HTTP status 202"},
		{"HTML", answer(200, "text/html", "<html>"), `text/html`},
		{"not JSON", answer(200, js, "{"), "not-json"},
		{"duplicate members", answer(200, js, `{"jsonrpc":"2.0","id":"r","result":{},"result":{}}`), "duplicate-member"},
		{"stream answer", answer(200, es, ": c\n\nid: 1\ndata:\n\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":\"r\",\"result\":{}}\n\n"), `{"jsonrpc":"2.0", "id":"r","result":{}}`},
		{"stream ends early", answer(200, es, ": c\n\n"), "the stream ended before the answer"},
		{"stream cut in an event", answer(200, es, "data: {\"jsonrpc\":\"2.0\",\"id\":\"r\",\"result\":{}}\n"), "middle of an event"},
		{"stream of garbage", answer(200, es, "data: hello\n\n"), "no JSON-RPC message"},
		{"server request in the modern era", answer(200, es, "data: {\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"x\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"r\",\"result\":{}}\n\n"), `"id":"r","result"`},
		{"too large", answer(200, js, `{"jsonrpc":"2.0","id":"r","result":"`+strings.Repeat("x", 70<<10)+`"}`), "too-large"},
		{"event too large", answer(200, es, `data: {"jsonrpc":"2.0","id":"r","result":"`+strings.Repeat("x", 200<<10)+`"}`+"\n\n"), "size limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startPump(t, PumpOptions{URL: listen(t, tt.h, nil), Limits: jsonrpc.Limits{MaxBytes: 64 << 10}})
			c.send(modernReq(`"r"`, "tools/list", ""))
			if got := c.recv(); !strings.Contains(got, tt.want) || !strings.Contains(got, `"id":"r"`) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err := c.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPumpInput(t *testing.T) {
	c := startPump(t, PumpOptions{URL: "http://127.0.0.1:1/mcp", Limits: jsonrpc.Limits{MaxBytes: 1000}})
	for _, tt := range []struct{ line, want string }{
		{"hello", `"id":null,"error":{"code":-32700`},
		{`{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}`, "duplicate-member"},
		{`[]`, "-32600"},
		{`{"x":"` + strings.Repeat("y", 5000) + `"}`, `the limit is 1000`},
		{modernReq("1", "x", ""), `"id":1,"error":{"code":-32603,"message":"reach the MCP server at http://127.0.0.1:1/mcp`},
	} {
		c.send(tt.line)
		if got := c.recv(); !strings.Contains(got, tt.want) {
			t.Errorf("%.100s\ngot  %s\nwant %s", tt.line, got, tt.want)
		}
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
	for _, u := range []string{"", "ftp://x/", "http://", "::"} {
		if err := Pump(t.Context(), strings.NewReader(""), io.Discard, PumpOptions{URL: u}); err == nil {
			t.Errorf("URL %q is accepted", u)
		}
	}
}

func TestPumpHeaders(t *testing.T) {
	got := make(chan http.Header, 10)
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := jsonrpc.Parse(body, jsonrpc.Limits{})
		result := `{}`
		if m.Method == "tools/list" {
			result = `{"tools":[{"name":"good ü","inputSchema":{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":["string","null"],"x-mcp-header":"Deep"}}},"flag":{"type":"boolean","x-mcp-header":"Flag"}}}},` +
				`{"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}]}`
		}
		got <- r.Header.Clone()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(jsonrpc.Response(m.ID, []byte(result)))
	}), nil)
	c := startPump(t, PumpOptions{URL: url, Header: http.Header{"Authorization": {"Bearer x"}}})
	c.send(modernReq("1", "tools/list", ""))
	if list := c.recv(); strings.Contains(list, `"bad"`) || !strings.Contains(list, "good ü") {
		t.Errorf("a tool with an invalid x-mcp-header is offered: %s", list)
	}
	<-got
	c.send(modernReq("2", "tools/call", `"name":"good ü","arguments":{"a":{"b":" x"},"flag":true}`))
	c.recv()
	h := <-got
	for k, want := range map[string]string{
		hdrVersion: modern, hdrMethod: "tools/call", hdrName: "=?base64?Z29vZCDDvA==?=", "Mcp-Param-Deep": "=?base64?IHg=?=",
		"Mcp-Param-Flag": "true", "Authorization": "Bearer x", "Accept": "application/json, text/event-stream", hdrSession: "",
	} {
		if h.Get(k) != want {
			t.Errorf("%s: %q, want %q", k, h.Get(k), want)
		}
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

// The stream of an answer breaks twice and is resumed where it broke, after
// the time that the server asks for.
func TestPumpResumes(t *testing.T) {
	var gets atomic.Int32
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		switch r.Header.Get(hdrLastEvent) {
		case "":
			if r.Method == http.MethodGet {
				w.Header().Del("Content-Type")
				w.WriteHeader(405)
				return
			}
			_, _ = io.WriteString(w, "retry: 1\nid: e1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n/1\"}\n\nid: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\"")
		case "e1":
			if gets.Add(1) == 1 {
				w.WriteHeader(502)
				return
			}
			_, _ = io.WriteString(w, "id: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n/2\"}\n\n")
		case "e2":
			_, _ = io.WriteString(w, "id: e3\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
		}
	}), nil)
	c := startPump(t, PumpOptions{URL: url})
	c.send(`{"jsonrpc":"2.0","id":1,"method":"x"}`)
	for _, want := range []string{"n/1", "n/2", `"result"`} {
		if got := c.recv(); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

// The server loses its sessions; the client of the pump doesn't notice.
func TestPumpOpensSessionAgain(t *testing.T) {
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	s, url := serve(t, o)
	c := startPump(t, PumpOptions{URL: url})
	c.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
	c.recv()
	c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	for i := range 2 {
		c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"x/a"}`, i+1))
		if got := c.recv(); !strings.Contains(got, fmt.Sprintf(`"id":%d,"result"`, i+1)) {
			t.Fatal(got)
		}
		s.mu.Lock()
		var all []*session
		for _, sess := range s.sessions {
			all = append(all, sess)
		}
		s.mu.Unlock()
		if len(all) != 1 {
			t.Fatalf("%d sessions, want 1", len(all))
		}
		if i == 0 {
			s.endSession(all[0], errSessionEnded)
		}
	}
	if c.log.count("a new one was started") != 1 {
		t.Error("the new session is not reported")
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) != 0 {
		t.Error("Pump did not end its session")
	}
}

// Input that has ended does not lose what is pending, but does not wait for
// subscriptions or for a server that hangs.
func TestPumpDrains(t *testing.T) {
	release := make(chan struct{})
	url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := jsonrpc.Parse(body, jsonrpc.Limits{})
		switch m.Method {
		case "slow":
			<-release
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(jsonrpc.Response(m.ID, []byte(`{}`)))
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}), nil)
	c := startPump(t, PumpOptions{URL: url})
	c.send(modernReq("1", "subscriptions/listen", ""))
	c.send(modernReq("2", "slow", ""))
	_ = c.in.Close()
	close(release)
	if got := c.recv(); !strings.Contains(got, `"id":2,"result"`) {
		t.Error(got)
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}

	c = startPump(t, PumpOptions{URL: url, Drain: 10 * time.Millisecond})
	c.send(modernReq("1", "hang", ""))
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestPumpEndsWithContextAndOutput(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	done := make(chan error, 1)
	go func() { done <- Pump(ctx, r, io.Discard, PumpOptions{URL: "http://127.0.0.1:1"}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	out, _ := io.Pipe()
	out.Close()
	_, bad := io.Pipe()
	_ = bad.CloseWithError(io.ErrClosedPipe)
	r2, w2 := io.Pipe()
	defer w2.Close()
	go func() { done <- Pump(t.Context(), r2, bad, PumpOptions{URL: "http://127.0.0.1:1"}) }()
	_, _ = io.WriteString(w2, "garbage\n")
	if err := <-done; err == nil || !strings.Contains(err.Error(), "write to the MCP client") {
		t.Errorf("got %v", err)
	}
}
