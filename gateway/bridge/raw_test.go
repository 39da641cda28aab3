package bridge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
)

// raw is an HTTP client that sends what no SDK would.
type raw struct {
	t       *testing.T
	url     string
	client  *http.Client
	session string
}

func newRaw(t *testing.T, url string) *raw {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &raw{t: t, url: url, client: &http.Client{Transport: tr}}
}

// do sends one request; headers are "Name: value", and "-Name" removes one.
func (c *raw) do(ctx context.Context, method, body string, headers ...string) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		req.Header.Set(hdrSession, c.session)
	}
	for _, h := range headers {
		if name, ok := strings.CutPrefix(h, "-"); ok {
			req.Header.Del(name)
			continue
		}
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (c *raw) post(body string, headers ...string) (int, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	resp := c.do(ctx, http.MethodPost, body, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// open starts a legacy session.
func (c *raw) open(version string) {
	c.t.Helper()
	resp := c.do(c.t.Context(), http.MethodPost, fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`, version))
	if c.session = resp.Header.Get(hdrSession); resp.StatusCode != 200 || c.session == "" {
		b, _ := io.ReadAll(resp.Body)
		c.t.Fatalf("initialize: %s %s", resp.Status, b)
	}
}

func code(body string) string {
	m, err := jsonrpc.Parse([]byte(body), jsonrpc.Limits{})
	if err != nil {
		return "none"
	}
	return string(jsonrpc.Get(m.Error, "code"))
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

func modernReq(id, method, params string) string {
	if params != "" {
		params += ","
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s%s}}`, id, method, params, modernMeta)
}

func TestModernRequestsRefused(t *testing.T) {
	_, url := serve(t, self(t, "gosdk"))
	c := newRaw(t, url)
	v, list, call := "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/list", "Mcp-Method: tools/call"
	echo := modernReq("1", "tools/call", `"name":"echo","arguments":{"text":"x"}`)
	mirrored := modernReq("1", "tools/call", `"name":"mirror","arguments":{"region":"a","n":42}`)
	for _, tt := range []struct {
		name, body string
		status     int
		code       string
		headers    []string
	}{
		{"good list", modernReq("1", "tools/list", ""), 200, "", []string{v, list}},
		{"good call", echo, 200, "", []string{v, call, "Mcp-Name: echo"}},
		{"name in base64", echo, 200, "", []string{v, call, "Mcp-Name: =?base64?ZWNobw==?="}},
		{"stale session id is ignored", echo, 200, "", []string{v, call, "Mcp-Name: echo", "Mcp-Session-Id: old"}},
		{"no version header", echo, 400, "-32020", []string{call, "Mcp-Name: echo"}},
		{"other version header", echo, 400, "-32020", []string{"Mcp-Protocol-Version: 2025-11-25", call, "Mcp-Name: echo"}},
		{"two version headers", echo, 400, "-32020", []string{v, "Mcp-Protocol-Version: 2025-11-25", call, "Mcp-Name: echo"}},
		{"no version in the body", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, 400, "-32602", []string{v, list}},
		{"no method header", echo, 400, "-32020", []string{v, "Mcp-Name: echo"}},
		{"other method header", echo, 400, "-32020", []string{v, list, "Mcp-Name: echo"}},
		{"method header in other case", echo, 400, "-32020", []string{v, "Mcp-Method: Tools/Call", "Mcp-Name: echo"}},
		{"no name header", echo, 400, "-32020", []string{v, call}},
		{"other name header", echo, 400, "-32020", []string{v, call, "Mcp-Name: block"}},
		{"bad base64 name", echo, 400, "-32020", []string{v, call, "Mcp-Name: =?base64?!?="}},
		{"unknown method", modernReq("1", "no/such", ""), 404, "-32601", []string{v, "Mcp-Method: no/such"}},
		{"unknown version", strings.ReplaceAll(echo, "2026-07-28", "2099-01-01"), 400, "-32022", []string{"Mcp-Protocol-Version: 2099-01-01", call, "Mcp-Name: echo"}},
		{"unknown tool", strings.ReplaceAll(echo, `"echo"`, `"nope"`), 400, "-32602", []string{v, call, "Mcp-Name: nope"}},
		{"mirrored", mirrored, 200, "", []string{v, call, "Mcp-Name: mirror", "Mcp-Param-Region: a", "Mcp-Param-N: 42.0"}},
		{"mirror missing", mirrored, 400, "-32020", []string{v, call, "Mcp-Name: mirror", "Mcp-Param-N: 42"}},
		{"mirror differs", mirrored, 400, "-32020", []string{v, call, "Mcp-Name: mirror", "Mcp-Param-Region: b", "Mcp-Param-N: 42"}},
		{"unknown mirror is ignored", echo, 200, "", []string{v, call, "Mcp-Name: echo", "Mcp-Param-Other: b"}},
		{"response", `{"jsonrpc":"2.0","id":1,"result":{}}`, 400, "-32600", []string{v}},
		{"batch", "[" + echo + "]", 400, "-32600", []string{v, call, "Mcp-Name: echo"}},
		{"duplicate method", `{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{` + modernMeta + `}}`, 400, "-32700", []string{v, list}},
		{"case variant", `{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{` + modernMeta + `}}`, 200, "", []string{v, list}},
		{"two values", echo + echo, 400, "-32700", []string{v, call, "Mcp-Name: echo"}},
		{"not JSON", "hello", 400, "-32700", []string{v}},
		{"empty", "", 400, "-32700", []string{v}},
		{"too deep", `{"jsonrpc":"2.0","id":1,"method":"x","params":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 101), 400, "-32700", []string{v}},
		{"wrong content type", echo, 415, "-32600", []string{"-Content-Type", "Content-Type: text/plain", v, call, "Mcp-Name: echo"}},
		{"no SSE accepted", echo, 406, "-32600", []string{"-Accept", "Accept: application/json", v, call, "Mcp-Name: echo"}},
		{"SSE refused by q=0", echo, 406, "-32600", []string{"-Accept", "Accept: application/json, text/event-stream;q=0", v, call, "Mcp-Name: echo"}},
		{"wildcard accepted", echo, 200, "", []string{"-Accept", "Accept: */*", v, call, "Mcp-Name: echo"}},
		{"rebound host", echo, 403, "-32600", []string{"Host: evil.example", v, call, "Mcp-Name: echo"}},
		{"foreign origin", echo, 403, "-32600", []string{"Origin: https://evil.example", v, call, "Mcp-Name: echo"}},
		{"null origin", echo, 403, "-32600", []string{"Origin: null", v, call, "Mcp-Name: echo"}},
		{"loopback origin", echo, 200, "", []string{"Origin: http://localhost:1234", v, call, "Mcp-Name: echo"}},
		{"too large", strings.Repeat(" ", jsonrpc.DefaultMaxBytes+1), 413, "-32600", []string{v}},
		{"notification", `{"jsonrpc":"2.0","method":"notifications/x","params":{` + modernMeta + `}}`, 202, "none", []string{v}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := c.post(tt.body, tt.headers...)
			if status != tt.status || code(body) != tt.code {
				t.Errorf("HTTP %d, code %s; want %d, %s\n%.300s", status, code(body), tt.status, tt.code, body)
			}
		})
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut} {
		if resp := c.do(t.Context(), method, "", v); resp.StatusCode != 405 {
			t.Errorf("%s: %s, want 405", method, resp.Status)
		}
	}
}

func TestLegacySession(t *testing.T) {
	n := newNotes()
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	o.Stderr = n
	s, url := serve(t, o)
	c := newRaw(t, url)
	if status, _ := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`); status != 400 {
		t.Errorf("no session: HTTP %d, want 400", status)
	}
	if resp := c.do(t.Context(), http.MethodGet, ""); resp.StatusCode != 405 {
		t.Errorf("GET without session: %s", resp.Status)
	}
	c.open(legacy)
	if status, body := c.post(`{"jsonrpc":"2.0", "id": "a\u00e9", "method":"x/a",` + "\n" + `"params":{"big":12345678901234567890, "_meta":{"progressToken":"p"}}}`); status != 200 ||
		!strings.HasPrefix(body, `{"jsonrpc":"2.0","id":"a\u00e9","result":{"line":{"jsonrpc":"2.0", "id": `) || !strings.Contains(body, `"params":{"big":12345678901234567890, "_meta":{"progressToken":`) {
		t.Errorf("a message is changed in passing: %d %s", status, body)
	}
	if status, _ := c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != 202 {
		t.Errorf("notification: HTTP %d, want 202", status)
	}
	if status, body := c.post(`[{"jsonrpc":"2.0","id":1,"method":"x/a"}]`); status != 400 || code(body) != "-32600" {
		t.Errorf("batch: %d %s", status, body)
	}
	if status, _ := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`, "Mcp-Protocol-Version: 1999-01-01"); status != 400 {
		t.Errorf("unknown version: HTTP %d, want 400", status)
	}
	// Garbage on stdout is not fatal.
	if status, body := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/garbage"}`); status != 200 || !strings.Contains(body, `"ok":true`) {
		t.Errorf("garbage: %d %s", status, body)
	}
	// Another client can't use the session's request ids, nor answer for it.
	other := newRaw(t, url)
	other.open(legacy)
	ctx, cancel := context.WithCancel(t.Context())
	resp := c.do(ctx, http.MethodPost, `{"jsonrpc":"2.0","id":7,"method":"x/ask"}`)
	rd := sse.NewReader(resp.Body, 0)
	prime, err := rd.Next()
	if err != nil || !prime.HasID || prime.Data == nil || len(prime.Data) != 0 {
		t.Fatalf("no priming event: %+v %v", prime, err)
	}
	ask, err := rd.Next()
	if err != nil || !strings.Contains(string(ask.Data), `"id":"q1","method":"roots/list"`) {
		t.Fatalf("%s %v", ask.Data, err)
	}
	if status, _ := other.post(`{"jsonrpc":"2.0","id":"q1","result":{"from":"other"}}`); status != 202 {
		t.Errorf("HTTP %d", status)
	}
	if status, body := c.post(`{"jsonrpc":"2.0","id":7,"method":"x/a"}`); status != 400 || code(body) != "-32600" {
		t.Errorf("an id in use: %d %s", status, body)
	}
	if status, _ := c.post(`{"jsonrpc":"2.0","id":"q1","result":{"from":"me"}}`); status != 202 {
		t.Errorf("HTTP %d", status)
	}
	n.wait(t, `"from":"me"`)
	if n.count(`"from":"other"`) != 0 {
		t.Error("a client answered a request that another was asked")
	}
	// A lost connection does not cancel, and the stream resumes without loss.
	cancel()
	resp = c.do(t.Context(), http.MethodGet, "", "Last-Event-ID: "+prime.ID)
	if ev, err := sse.NewReader(resp.Body, 0).Next(); err != nil || ev.Data == nil || len(ev.Data) != 0 {
		t.Fatalf("%+v %v", ev, err)
	}
	again := sse.NewReader(c.do(t.Context(), http.MethodGet, "", "Last-Event-ID: "+prime.ID).Body, 0)
	for _, want := range []string{"", `"method":"roots/list"`} {
		if ev, err := again.Next(); err != nil || !strings.Contains(string(ev.Data), want) {
			t.Fatalf("resumed: %s %v", ev.Data, err)
		}
	}
	if n.count("got notifications/cancelled") != 0 {
		t.Error("a legacy disconnect cancelled the request")
	}
	// An explicit cancellation does, and ends the HTTP answer.
	if status, _ := c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`); status != 202 {
		t.Errorf("HTTP %d", status)
	}
	n.wait(t, "got notifications/cancelled")
	if ev, err := again.Next(); err != nil || !strings.Contains(string(ev.Data), `"id":7,"error"`) {
		t.Fatalf("cancelled: %s %v", ev.Data, err)
	}
	for _, id := range []string{"99_0", "x", "0_9999", "-1_0"} {
		if resp := c.do(t.Context(), http.MethodGet, "", "Last-Event-ID: "+id); resp.StatusCode != 400 {
			t.Errorf("Last-Event-ID %s: %s, want 400", id, resp.Status)
		}
	}
	// One GET stream at a time.
	get := c.do(t.Context(), http.MethodGet, "")
	if get.StatusCode != 200 {
		t.Fatal(get.Status)
	}
	if resp := c.do(t.Context(), http.MethodGet, ""); resp.StatusCode != 409 {
		t.Errorf("second GET: %s, want 409", resp.Status)
	}
	if resp := c.do(t.Context(), http.MethodDelete, ""); resp.StatusCode != 204 {
		t.Errorf("DELETE: %s", resp.Status)
	}
	if status, _ := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`); status != 404 {
		t.Errorf("ended session: HTTP %d, want 404", status)
	}
	if status, _ := other.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`); status != 200 {
		t.Errorf("the other session: HTTP %d, want 200", status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) != 1 {
		t.Errorf("%d sessions are left, want 1", len(s.sessions))
	}
}

func TestBatch(t *testing.T) {
	_, url := serve(t, self(t, "script", "SCRIPT_VERSION=2025-03-26"))
	c := newRaw(t, url)
	c.open("2025-03-26")
	status, body := c.post(`[{"jsonrpc":"2.0","id":1,"method":"x/a"},{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"b","method":"x/b"}]`)
	rd := sse.NewReader(strings.NewReader(body), 0)
	var all string
	for {
		ev, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all += string(ev.Data) + "\n"
	}
	if status != 200 || strings.Count(all, "\n") != 2 || !strings.Contains(all, `"id":1,"result"`) || !strings.Contains(all, `"id":"b","result"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, body := c.post(`[{"jsonrpc":"2.0","method":"notifications/x"}]`); status != 202 || body != "" {
		t.Errorf("%d %s", status, body)
	}
}

// TMCP-13.2-4: A server's trust layer MUST answer all open calls with an error when the inner server ends.
func TestChildThatMisbehaves(t *testing.T) {
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	o.Limits.MaxBytes = 64 << 10
	o.RequestTimeout = 300 * time.Millisecond
	log := newNotes()
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	_, url := serve(t, o)
	c := newRaw(t, url)
	for _, tt := range []struct{ name, method, want string }{
		{"dies", "x/die", `exit status 7`},
		{"closes its stdout", "x/closeout", `ended: `},
		{"answers too much", "x/huge", `the limit is 65536`},
		{"never answers", "x/hang", `did not answer x/hang within 300ms`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var status int
			var body string
			poll(t, "the command to be started again", func() bool {
				status, body = c.post(modernReq(`"id-`+tt.method+`"`, tt.method, ""), "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: "+tt.method)
				return !strings.Contains(body, "not started again")
			})
			if status != 200 || code(body) != "-32603" || !strings.Contains(body, tt.want) || !strings.Contains(body, `"id":"id-`) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	// A session whose child died is gone, so that the client initializes again.
	poll(t, "the command to be started again", func() bool {
		_, body := c.post(modernReq("1", "x/a", ""), "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: x/a")
		return code(body) == ""
	})
	c.open(legacy)
	if _, body := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/die"}`); !strings.Contains(body, "exit status 7") {
		t.Error(body)
	}
	poll(t, "the session to end", func() bool {
		status, _ := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`)
		return status == 404
	})
}

// A legacy command may ignore what it doesn't know. A client that probes for
// the modern era must still learn that it isn't spoken.
func TestSilentDiscover(t *testing.T) {
	o := self(t, "script", "SCRIPT_MUTE=server/discover")
	o.RequestTimeout = 50 * time.Millisecond
	_, url := serve(t, o)
	status, body := newRaw(t, url).post(modernReq("1", "server/discover", ""), "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: server/discover")
	if status != 404 || code(body) != "-32601" {
		t.Errorf("%d %s", status, body)
	}
}

// A client that stops reading a flood costs bounded memory and harms nobody.
func TestFlood(t *testing.T) {
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	o.Limits.MaxBytes = 8 << 10
	_, url := serve(t, o)
	c := newRaw(t, url)
	req := strings.Replace(modernReq("1", "x/flood", ""), `"_meta":{`, `"_meta":{"io.modelcontextprotocol/logLevel":"info",`, 1)
	status, body := c.post(req, "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: x/flood")
	// Log messages go to the request, until the client is too slow: which of
	// both happens is up to timing, but there is an answer or a named error.
	if status != 200 || !strings.Contains(body, "notifications/message") || !strings.Contains(body, `"id":1,"result"`) && !strings.Contains(body, "more slowly") {
		t.Errorf("%d %.300s", status, body)
	}
	if status, body := c.post(modernReq("2", "x/a", ""), "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: x/a"); status != 200 || code(body) != "" {
		t.Errorf("%d %s", status, body)
	}
}

func TestMissingCommand(t *testing.T) {
	o := self(t, "script")
	o.Command = []string{"/no/such/program"}
	_, url := serve(t, o)
	status, body := newRaw(t, url).post(modernReq("1", "x/a", ""), "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: x/a")
	if status != 200 || !strings.Contains(body, "/no/such/program") || !strings.Contains(body, "command-unavailable") {
		t.Errorf("%d %s", status, body)
	}
	if _, err := NewStdioServer(StdioOptions{}); err == nil {
		t.Error("an empty command is accepted")
	}
}

// A modern client that goes away cancels its request at the child.
//
// TMCP-14.4-3: A gateway MUST propagate the inner client's disconnect to its peer in the modern era.
func TestModernDisconnectCancels(t *testing.T) {
	n := newNotes()
	o := self(t, "script")
	o.Stderr = n
	_, url := serve(t, o)
	c := newRaw(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(modernReq("1", "x/hang", "")))
	for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "*/*", "Mcp-Protocol-Version": modern, "Mcp-Method": "x/hang"} {
		req.Header.Set(k, v)
	}
	done := make(chan error, 1)
	go func() {
		resp, err := c.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	n.wait(t, "got x/hang")
	cancel()
	if <-done == nil {
		t.Error("the request succeeded")
	}
	n.wait(t, "got notifications/cancelled")
}

func TestSessionsAreBounded(t *testing.T) {
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	o.MaxSessions = 2
	_, url := serve(t, o)
	var cs []*raw
	for range 3 { // the third pushes out the one unused for longest
		c := newRaw(t, url)
		c.open(legacy)
		cs = append(cs, c)
	}
	for i, want := range []int{404, 200, 200} {
		if status, _ := cs[i].post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`); status != want {
			t.Errorf("session %d: HTTP %d, want %d", i, status, want)
		}
	}
	for _, c := range cs[1:] { // in use: not pushed out
		if resp := c.do(t.Context(), http.MethodGet, ""); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	status, body := newRaw(t, url).post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`)
	if status != 503 || !strings.Contains(body, "too many sessions") {
		t.Errorf("%d %s", status, body)
	}
}

func TestSharedSessions(t *testing.T) {
	n := newNotes()
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	o.Stderr = n
	o.ShareSessions = true
	_, url := serve(t, o)
	a, b := newRaw(t, url), newRaw(t, url)
	a.open(legacy)
	b.open(legacy)
	for _, c := range []*raw{a, b} {
		if status, body := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`); status != 200 || !strings.HasPrefix(body, `{"jsonrpc":"2.0","id":1,"result"`) {
			t.Errorf("%d %s", status, body)
		}
	}
	// With two sessions and one request in flight, a question is for its owner.
	resp := a.do(t.Context(), http.MethodPost, `{"jsonrpc":"2.0","id":5,"method":"x/ask"}`)
	rd := sse.NewReader(resp.Body, 0)
	_, _ = rd.Next()
	if ev, err := rd.Next(); err != nil || !strings.Contains(string(ev.Data), "roots/list") {
		t.Fatalf("%s %v", ev.Data, err)
	}
	// When two may be meant, nobody is asked.
	go func() {
		resp, err := b.client.Do(mustRequest(b, `{"jsonrpc":"2.0","id":6,"method":"x/ask"}`))
		if err == nil {
			resp.Body.Close()
		}
	}()
	n.wait(t, "can't be told")
}

func mustRequest(c *raw, body string) *http.Request {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	req.Header.Set(hdrSession, c.session)
	return req
}

func TestIdleSessionsEnd(t *testing.T) {
	o := self(t, "script", "SCRIPT_VERSION=2025-11-25")
	o.SessionIdle = 20 * time.Millisecond
	s, url := serve(t, o)
	c := newRaw(t, url)
	c.open(legacy)
	poll(t, "the session to expire", func() bool { return s.session(c.session) == nil })
	if status, _ := c.post(`{"jsonrpc":"2.0","id":1,"method":"x/a"}`); status != 404 {
		t.Errorf("HTTP %d, want 404", status)
	}
}
