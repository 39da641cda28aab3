package spec_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// A leg is a client's trust layer, a server's, and between them a tap that sees
// every request and may change every answer.
type leg struct {
	testing.TB
	url    string
	client *http.Client

	mu    sync.Mutex
	seen  []*http.Request // outer requests, in order
	texts []string        // their bodies
	heads []http.Header   // of the outer answers
	twist func(r *http.Request, body string, w http.ResponseWriter) bool
}

func newLeg(t testing.TB, inner http.Handler, server transport.ServerConfig, client transport.ClientConfig) *leg {
	t.Helper()
	l := &leg{TB: t}
	var h http.Handler
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		l.seen, l.texts = append(l.seen, r), append(l.texts, string(body))
		twist := l.twist
		l.mu.Unlock()
		if twist != nil && twist(r, string(body), w) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(ts.Close)
	l.url = ts.URL + "/mcp"
	id, err := protocol.GenerateIdentity(l.url)
	if err != nil {
		t.Fatal(err)
	}
	server.Identity = id
	if h, err = transport.Handler(inner, server); err != nil {
		t.Fatal(err)
	}
	client.Anchor = protocol.Pin(id.Thumbprint())
	rt, err := transport.RoundTripper(answerTap{l}, client)
	if err != nil {
		t.Fatal(err)
	}
	l.client = &http.Client{Transport: rt}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// answerTap keeps the heads of outer answers.
type answerTap struct{ l *leg }

func (a answerTap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		a.l.mu.Lock()
		defer a.l.mu.Unlock()
		a.l.heads = append(a.l.heads, resp.Header.Clone())
	}
	return resp, err
}

// do sends an inner request and returns what the inner client gets.
func (l *leg) do(method, body string, fields map[string]string) (*http.Response, string) {
	l.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, l.url, strings.NewReader(body))
	if err != nil {
		l.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for k, v := range fields {
		req.Header.Set(k, v)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		l.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		l.Fatal(err)
	}
	return resp, string(b)
}

// outer returns the outer requests so far, parsed.
func (l *leg) outer() (heads []*http.Request, msgs []*jsonrpc.Message) {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, text := range l.texts {
		m, err := jsonrpc.Parse([]byte(text), jsonrpc.Limits{})
		if err != nil {
			l.Fatalf("outer request %q: %v", text, err)
		}
		heads, msgs = append(heads, l.seen[i]), append(msgs, m)
	}
	return heads, msgs
}

func (l *leg) setTwist(f func(r *http.Request, body string, w http.ResponseWriter) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.twist = f
}

// echo is an inner server: it answers requests with a result that holds what it
// got, notifications with 202.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if r.Method == http.MethodGet {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if r.Method == http.MethodDelete || err != nil || !m.IsRequest() {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	got := string(jsonrpc.Quote(r.Header.Get("Authorization") + " " + r.Header.Get("Mcp-Name") + " " + r.Header.Get("Mcp-Param-City")))
	_, _ = w.Write(jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","got":`+got+`,"_meta":{"org.trustedmcp/status":{"state":"sealed","peer":"forged"}}}`)))
}

const canary = "CANARY-7f3a"

var secrets = map[string]string{
	"Authorization": "Bearer " + canary, "Mcp-Name": canary + "-tool", "Mcp-Param-City": canary + "-city", "Mcp-Method": "tools/call",
	"Mcp-Protocol-Version": "2026-07-28", "Mcp-Session-Id": canary + "-session", "Last-Event-Id": canary + "-event", "Traceparent": "00-" + canary,
}

const secretCall = `{"jsonrpc":"2.0","id":"` + canary + `-id","method":"tools/call","params":{"name":"` + canary + `-tool","arguments":{"city":"` + canary + `"},` +
	`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"` + canary + `-client","version":"9"},"io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"traceparent":"` + canary + `"}}}`

// TMCP-7.2-2: A client MUST NOT let any byte of an inner message, of its HTTP fields or of what is derived from them appear outside the ciphertext
// TMCP-4.4-6: The outer discovery request of a client MUST NOT hold anything of the user: neither the inner client's name, nor its other capabilities, nor its trace state.
// TMCP-4.5-2: The outer `initialize` of a client MUST NOT hold anything of the user: neither the inner client's name, nor capabilities other than this extension.
// TMCP-4.5-3: A client MUST send the inner `initialize` only sealed.
// TMCP-7.3-2: A client MUST use the method `trust/call` for inner requests, notifications and responses alike.
// TMCP-7.3-4: A client MUST NOT send the headers `Mcp-Name` or `Mcp-Param-*` with `trust/call`.
// TMCP-7.6-3: A client SHOULD NOT copy the inner trace context to the outer message unless local policy says so.
// TMCP-9.4-1: A client MUST seal an inner `notifications/cancelled` like any other inner message.
// TMCP-14.1-3: An outer request that carries frames MUST NOT carry HTTP fields of the inner request, such as `Authorization`, `Mcp-Session-Id` or `Last-Event-ID`, unless local policy names them.
// TMCP-14.3-1: A client MUST NOT send a GET or DELETE of the inner conversation on the outer leg.
// TMCP-16.2-4: An implementation SHOULD NOT put the inner client's or server's name and version into outer messages.
// TMCP-14.1-4: A trust layer MUST hand the sealed fields on as the inner HTTP request's header fields.
func TestNothingOfTheUserOutside(t *testing.T) {
	for _, era := range []transport.Era{transport.Modern, transport.Legacy} {
		l := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{OuterEra: era})
		_, got := l.do("POST", secretCall, secrets)
		if !strings.Contains(got, "Bearer "+canary+" "+canary+"-tool "+canary+"-city") {
			t.Errorf("the inner server did not get the fields: %s", got)
		}
		for _, body := range []string{
			`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}},"clientInfo":{"name":"` + canary + `","version":"1"}}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"` + canary + `"}}`,
			`{"jsonrpc":"2.0","id":5,"result":{"text":"` + canary + `"}}`,
		} {
			l.do("POST", body, secrets)
		}
		l.do("GET", "", secrets)
		l.do("DELETE", "", secrets)

		heads, msgs := l.outer()
		calls := 0
		for i, m := range msgs {
			if heads[i].Method != "POST" {
				t.Errorf("%s: an outer %s", era, heads[i].Method)
			}
			switch m.Method {
			case "trust/call":
				calls++
			case "server/discover", "initialize", "notifications/initialized":
			default:
				t.Errorf("%s: an outer %s", era, m.Method)
			}
			all := string(m.Raw)
			for k, v := range heads[i].Header {
				all += "\n" + k + ": " + strings.Join(v, " ")
				if k == "Mcp-Name" || strings.HasPrefix(k, "Mcp-Param-") || k == "Authorization" || k == "Last-Event-Id" || k == "Traceparent" {
					t.Errorf("%s: %s carries the header %s", era, m.Method, k)
				}
			}
			if strings.Contains(all, "CANARY") || strings.Contains(all, "sampling") || strings.Contains(all, "tools/call") {
				t.Errorf("%s: the outer request shows something of the user: %.300s", era, all)
			}
		}
		if calls != 6 {
			t.Errorf("%s: %d inner messages, %d calls", era, 6, calls)
		}
	}
}

// TMCP-4.1-3: A client MUST declare the extension with its own settings object in the client capabilities of each outer request of the modern era, and of `initialize` in the legacy era.
// TMCP-7.3-3: The `params._meta` of an outer request MUST hold only what MCP requires of the outer leg and this extension's own keys.
// TMCP-14.1-1: An outer request of the modern era MUST carry the headers `MCP-Protocol-Version` and `Mcp-Method`, equal to the body.
// TMCP-4.6-5: A client MUST use a nonce of at least 16 fresh random bytes, once.
func TestOuterRequests(t *testing.T) {
	nonces := map[string]bool{}
	for range 3 {
		l := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{Fresh: true})
		l.do("POST", secretCall, secrets)
		l2 := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{})
		l2.do("POST", secretCall, secrets)
		heads, msgs := l.outer()
		h2, m2 := l2.outer()
		heads, msgs = append(heads, h2...), append(msgs, m2...)
		for i, m := range msgs {
			if got := heads[i].Header.Get("Mcp-Method"); got != m.Method {
				t.Errorf("header Mcp-Method %q with method %s", got, m.Method)
			}
			meta := jsonrpc.Get(m.Params, "_meta")
			version, _ := jsonrpc.Text(jsonrpc.Get(meta, "io.modelcontextprotocol/protocolVersion"))
			if got := heads[i].Header.Get("Mcp-Protocol-Version"); got != version || version == "" {
				t.Errorf("header MCP-Protocol-Version %q, body %q", got, version)
			}
			if _, err := protocol.ParseSettings(jsonrpc.Get(meta, "io.modelcontextprotocol/clientCapabilities", "extensions", protocol.ExtensionID)); err != nil {
				t.Errorf("%s does not declare the extension: %v", m.Method, err)
			}
			err := jsonrpc.Members(meta, func(name string, _ jsontext.Value) error {
				switch name {
				case "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities", "io.modelcontextprotocol/clientInfo":
				default:
					t.Errorf("%s carries _meta %s", m.Method, name)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if m.Method == "trust/attest" {
				text, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "nonce"))
				b, err := protocol.ParseBase64(text)
				if err != nil || len(b) < 16 || nonces[text] {
					t.Errorf("nonce %q: %v", text, err)
				}
				nonces[text] = true
			}
		}
	}
	if len(nonces) != 3 {
		t.Errorf("%d nonces", len(nonces))
	}
}

// TMCP-11.4-4: A client in mode `preferred` MUST label each result it delivers, but for those under carrier `http`, with `_meta["org.trustedmcp/status"]`, whose `state` is `sealed` or `unattested`.
// TMCP-11.4-5: A client MUST remove or replace `_meta["org.trustedmcp/status"]` in every result that comes from a peer, but for those under carrier `http`, so that only its own label remains.
// TMCP-11.4-1: A client in mode `preferred` MUST seal whenever the server offers the extension.
// TMCP-12.1-2: An implementation MUST NOT present a result of profile `identity` as attested.
func TestLabels(t *testing.T) {
	label := func(body string) string {
		m, err := jsonrpc.Parse([]byte(body), jsonrpc.Limits{})
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		return string(jsonrpc.Get(m.Result, "_meta", "org.trustedmcp/status"))
	}
	preferred := transport.ClientConfig{Mode: protocol.ModePreferred}
	l := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, preferred)
	_, body := l.do("POST", secretCall, secrets)
	if want := `{"state":"sealed","profile":"identity","peer":"` + l.url + `"}`; label(body) != want {
		t.Errorf("label %s, want %s", label(body), want)
	}
	if _, msgs := l.outer(); msgs[len(msgs)-1].Method != "trust/call" {
		t.Error("not sealed, though the server offers it")
	}
	l = newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, preferred)
	l.setTwist(func(r *http.Request, body string, w http.ResponseWriter) bool { // a server without the extension
		r.Body = io.NopCloser(strings.NewReader(body))
		echo(w, r)
		return true
	})
	_, body = l.do("POST", secretCall, secrets)
	if label(body) != `{"state":"unattested"}` {
		t.Errorf("label %s of a plain result that says it is sealed", label(body))
	}
}

// TMCP-7.1-4: A server MUST answer a frame, or a message of several, that exceeds its size bound with `too-large`.
// TMCP-10.1-4: A server MUST send a trust error with the outer request's JSON-RPC id, or with null where it could not be read.
// TMCP-11.3-4: A server in mode `required` MUST drop plain notifications without an effect on the inner server.
func TestServerRefusals(t *testing.T) {
	reached := 0
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		echo(w, r)
	})
	l := newLeg(t, inner, transport.ServerConfig{Limits: transport.Limits{MaxMessage: 10_000}}, transport.ClientConfig{})
	post := func(body string) (int, string) {
		resp, err := http.Post(l.url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, body := post(`{"jsonrpc":"2.0","id":77,"method":"trust/call","params":{"frame":"` + strings.Repeat("A", 400_000) + `"}}`)
	if status != 200 || !strings.Contains(body, `"too-large"`) || !strings.Contains(body, `"id":null`) {
		t.Errorf("%d %s", status, body)
	}
	for _, id := range []string{`77`, `"x"`, `-1`} {
		status, body := post(`{"jsonrpc":"2.0","id":` + id + `,"method":"tools/list"}`)
		if status != 200 || !strings.Contains(body, `"id":`+id) || !strings.Contains(body, `"trust-required"`) {
			t.Errorf("%d %s", status, body)
		}
	}
	if status, body := post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`); status != 202 || body != "" {
		t.Errorf("a plain notification: %d %s", status, body)
	}
	if reached != 0 {
		t.Errorf("the inner server was reached %d times", reached)
	}
	if _, body := l.do("POST", secretCall, secrets); !strings.Contains(body, `"got"`) || reached != 1 {
		t.Errorf("the twin was refused: %s", body)
	}
}

// TMCP-8.5-5: A client that gives a message up after sealing it afresh MUST end with `retries-exhausted`.
// TMCP-8.6-3: A client that has sealed the same message to three keys without an answer MUST end with `retries-exhausted`.
// TMCP-10.4-2: A client MUST end every inner request with an answer or an error.
// TMCP-10.4-3: A client MUST end with `unreachable` when the outer leg cannot be used at all.
func TestClientGivesUp(t *testing.T) {
	l := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{})
	calls := 0
	for _, code := range []string{`29006,"message":"","data":{"extension":"org.trustedmcp/trust","reason":"unknown-context"}`, `29005,"message":"","data":{"extension":"org.trustedmcp/trust","reason":"unknown-key"}`} {
		calls = 0
		l.setTwist(func(r *http.Request, body string, w http.ResponseWriter) bool {
			if !strings.Contains(body, `"trust/call"`) {
				return false
			}
			calls++
			m, err := jsonrpc.Parse([]byte(body), jsonrpc.Limits{})
			if err != nil {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+m.ID.String()+`,"error":{"code":`+code+`}}`)
			return true
		})
		_, body := l.do("POST", secretCall, secrets)
		if !strings.Contains(body, `"retries-exhausted"`) || !strings.Contains(body, canary+"-id") || calls != 3 {
			t.Errorf("%d seals, then %s", calls, body)
		}
	}
	rt, err := transport.RoundTripper(nil, transport.ClientConfig{Anchor: protocol.Pin(protocol.Thumbprint{})})
	if err != nil {
		t.Fatal(err)
	}
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	resp, err := (&http.Client{Transport: rt}).Post(dead.URL, "application/json", strings.NewReader(secretCall))
	if err == nil {
		resp.Body.Close()
	}
	if !protocol.IsReason(err, protocol.Unreachable) {
		t.Errorf("a server that is not there: %v", err)
	}
}
