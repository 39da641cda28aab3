package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// A judge denies what is about the tool "forbidden", and the method "forbidden".
type judge struct {
	mu    sync.Mutex
	calls []transport.Call
}

func (j *judge) ask(_ context.Context, c *transport.Call) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	kept := *c
	kept.Params = bytes.Clone(c.Params)
	j.calls = append(j.calls, kept)
	name, _ := jsonrpc.Text(jsonrpc.Get(c.Params, "name"))
	if name == "forbidden" || c.Method == "notifications/forbidden" || c.Kind == transport.CallStream {
		return &protocol.Error{Reason: protocol.PolicyDenied, Detail: "no", Policy: bytes.Repeat([]byte{7}, 32), Codes: []string{"tool-not-listed"}}
	}
	return nil
}

func (j *judge) take() []transport.Call {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.calls
	j.calls = nil
	return c
}

// recording is a server that says what reached it.
type recording struct {
	mu   sync.Mutex
	seen []string
}

func (s *recording) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if r.Method != http.MethodPost || err != nil {
		s.note(r.Method)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	name, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "name"))
	if m.Method != "tools/list" && m.Method != "initialize" { // the trust layer's own, under inline
		s.note(m.Method + " " + name)
	}
	if !m.IsRequest() {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result := `{"resultType":"complete","content":[]}`
	if m.Method == "tools/list" {
		result = `{"resultType":"complete","tools":[{"name":"allowed","inputSchema":{"type":"object"}},{"name":"forbidden","inputSchema":{"type":"object"}}]}`
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(jsonrpc.Response(m.ID, []byte(result)))
}

func (s *recording) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, what)
}

func (s *recording) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.seen
	s.seen = nil
	return all
}

func modernCall(method, params string) string {
	meta := strings.Replace(metaModern, "%EXT%", "", 1)
	if params != "" {
		params += ","
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":{%s%s}}`, method, params, meta)
}

// send posts body through the trust layer, and returns what an SDK would get.
func send(t *testing.T, c *http.Client, url, method, body string) (int, *jsonrpc.Message) {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if m, err := jsonrpc.Parse([]byte(body), jsonrpc.Limits{}); err == nil {
		req.Header.Set("Mcp-Protocol-Version", modernVersion)
		req.Header.Set("Mcp-Method", m.Method)
		if name, ok := jsonrpc.Text(jsonrpc.Get(m.Params, "name")); ok {
			req.Header.Set("Mcp-Name", name)
		}
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if err != nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, m
}

// TMCP-20.11-1: A server that has a policy for it MUST ask it about every message of a client that it opened, before anything of the message reaches the inner server.
// TMCP-20.11-2: A client that has a policy for it MUST ask it about every message of its inner client before it seals it.
// TMCP-20.11-3: Who denies a request MUST answer it with the error `policy-denied`, whose data has the policy digest and, where there are any, the codes of reasons or the reason of the failure.
// TMCP-20.11-4: A server MUST send that error inside the seal.
// TMCP-20.11-5: Who denies a notification or a response MUST drop it.
func TestAuthorize(t *testing.T) {
	for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.Inline, protocol.HTTP} {
		for _, side := range []string{"server", "client"} {
			t.Run(carrier.String()+"/"+side, func(t *testing.T) {
				j, inner := &judge{}, &recording{}
				var scfg transport.ServerConfig
				ccfg := transport.ClientConfig{Carrier: carrier}
				if side == "server" {
					scfg.Authorize = j.ask
				} else {
					ccfg.Authorize = j.ask
				}
				s := serve(t, inner, scfg, nil)
				c, wire := s.tapped(t, ccfg)
				if carrier == protocol.Inline { // it learns the server's tools first
					send(t, c, s.url, http.MethodPost, modernCall("tools/list", ""))
				}
				j.take()

				if _, m := send(t, c, s.url, http.MethodPost, modernCall("tools/call", `"name":"allowed","arguments":{"n":1}`)); m == nil || m.Result == nil {
					t.Fatalf("an allowed call: %+v", m)
				}
				if got := fmt.Sprint(inner.take()); got != "[tools/call allowed]" {
					t.Errorf("the server got %s", got)
				}
				asked := j.take()
				if len(asked) != 1 || asked[0].Kind != transport.CallRequest || asked[0].Method != "tools/call" || asked[0].Carrier != carrier || string(jsonrpc.Get(asked[0].Params, "arguments")) != `{"n":1}` {
					t.Errorf("asked: %+v", asked)
				}
				role := map[string]protocol.Role{"server": protocol.RoleClient, "client": protocol.RoleServer}[side]
				if p := asked[0].Party; p.Role != role || side == "client" && (p.Identity != s.url || p.Thumbprint != s.identity.Thumbprint().String() || p.Profile != protocol.ProfileIdentity) {
					t.Errorf("the party is %+v", p)
				}

				_, m := send(t, c, s.url, http.MethodPost, modernCall("tools/call", `"name":"forbidden","arguments":{}`))
				if m == nil || string(m.ID) != "7" || string(jsonrpc.Get(m.Error, "code")) != fmt.Sprint(protocol.PolicyDenied.Code()) {
					t.Fatalf("a forbidden call: %+v", m)
				}
				if data := string(jsonrpc.Get(m.Error, "data")); !strings.Contains(data, `"reason":"policy-denied"`) || !strings.Contains(data, strings.Repeat("07", 32)) || !strings.Contains(data, "tool-not-listed") {
					t.Errorf("the denial says %s", data)
				}
				if got := inner.take(); len(got) != 0 {
					t.Errorf("a forbidden call reached the server: %v", got)
				}
				if wire.sees("policy-denied") || wire.sees("tool-not-listed") {
					t.Error("the denial stands outside the seal")
				}

				if carrier == protocol.Inline {
					return // nothing else is sealed
				}
				note := `{"jsonrpc":"2.0","method":"notifications/forbidden","params":{` + strings.Replace(metaModern, "%EXT%", "", 1) + `}}`
				if status, m := send(t, c, s.url, http.MethodPost, note); status != http.StatusAccepted || m != nil {
					t.Errorf("a forbidden notification: HTTP %d %+v", status, m)
				}
				if status, _ := send(t, c, s.url, http.MethodGet, ""); status != http.StatusForbidden {
					t.Errorf("a forbidden stream: HTTP %d", status)
				}
				if got := inner.take(); len(got) != 0 {
					t.Errorf("what is forbidden reached the server: %v", got)
				}
				j.take()
				if _, m := send(t, c, s.url, http.MethodPost, `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"forbidden"}}]`); m != nil && m.Result != nil {
					t.Errorf("a batch: %+v", m)
				}
				if got := inner.take(); len(got) != 0 {
					t.Errorf("a batch reached the server unjudged: %v", got)
				}
				if status, _ := send(t, c, s.url, http.MethodDelete, ""); status == http.StatusForbidden {
					t.Error("the end of a session is denied")
				}
				if got := j.take(); len(got) != 1 || got[0].Kind != transport.CallEnd {
					t.Errorf("asked about a DELETE: %+v", got)
				}
			})
		}
	}
}

// Plaintext that is let in is asked about too: leaving the seal off is no way
// past a policy.
func TestAuthorizePlaintext(t *testing.T) {
	j, inner := &judge{}, &recording{}
	s := serve(t, inner, transport.ServerConfig{Mode: protocol.ModePreferred, Authorize: j.ask}, nil)
	for _, body := range []string{modernCall("tools/call", `"name":"forbidden"`), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"forbidden"}}`, `[{"jsonrpc":"2.0","id":1,"method":"x"}]`, `{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`} {
		if _, m := send(t, http.DefaultClient, s.url, http.MethodPost, body); m == nil || m.Error == nil {
			t.Errorf("%s: %+v", body, m)
		}
	}
	if got := inner.take(); len(got) != 0 {
		t.Errorf("unjudged plaintext reached the server: %v", got)
	}
	if _, m := send(t, http.DefaultClient, s.url, http.MethodPost, modernCall("tools/call", `"name":"allowed"`)); m == nil || m.Result == nil {
		t.Errorf("an allowed call: %+v", m)
	}
	for _, c := range j.take() {
		if c.Party.Role != protocol.RoleClient || c.Party.Identity != "" || c.Party.Profile != "" || c.Party.Appraisal != nil || c.Carrier != 0 {
			t.Errorf("plaintext is of %+v over %s", c.Party, c.Carrier)
		}
	}
	http.DefaultClient.CloseIdleConnections()

	// A client in preferred mode asks before plaintext leaves it.
	j2, plain := &judge{}, &recording{}
	ps := httptest.NewServer(plain)
	defer ps.Close()
	rt, err := transport.RoundTripper(&http.Transport{DisableKeepAlives: true}, transport.ClientConfig{Mode: protocol.ModePreferred, Anchor: s.anchor, Authorize: j2.ask})
	if err != nil {
		t.Fatal(err)
	}
	if _, m := send(t, &http.Client{Transport: rt}, ps.URL, http.MethodPost, modernCall("tools/call", `"name":"forbidden"`)); m == nil || m.Error == nil {
		t.Errorf("a forbidden call left in plaintext: %+v", m)
	}
	for _, got := range plain.take() {
		if strings.Contains(got, "forbidden") {
			t.Errorf("a forbidden call left in plaintext: %s", got)
		}
	}
}

// What an authorizer says beyond a policy's denial stays here.
func TestAuthorizeKeepsErrors(t *testing.T) {
	inner := &recording{}
	s := serve(t, inner, transport.ServerConfig{Authorize: func(context.Context, *transport.Call) error {
		return errors.New("the database at 10.0.0.7 is down")
	}}, nil)
	_, m := send(t, s.client(t, transport.ClientConfig{}), s.url, http.MethodPost, modernCall("tools/call", `"name":"allowed"`))
	if m == nil || m.Error == nil || strings.Contains(string(m.Error), "10.0.0.7") || !strings.Contains(string(m.Error), "policy-denied") {
		t.Errorf("%+v", m)
	}
	if got := inner.take(); len(got) != 0 {
		t.Errorf("%v reached the server", got)
	}
}

// Bodies that are too long to be judged, or encoded, are not passed on.
func TestAuthorizeWhole(t *testing.T) {
	j, inner := &judge{}, &recording{}
	s := serve(t, inner, transport.ServerConfig{Authorize: j.ask, Limits: transport.Limits{MaxMessage: 4096}}, nil)
	c := s.client(t, transport.ClientConfig{Carrier: protocol.HTTP, Limits: transport.Limits{MaxMessage: 4096}})
	long := modernCall("tools/call", `"name":"allowed","arguments":{"pad":"`+strings.Repeat("x", 9000)+`"}`)
	if _, m := send(t, c, s.url, http.MethodPost, long); m != nil && m.Result != nil {
		t.Errorf("a body over the limit: %+v", m)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader(modernCall("tools/call", `"name":"allowed"`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := inner.take(); len(got) != 0 {
		t.Errorf("%v reached the server", got)
	}
}

// Over stdio both sides ask as over HTTP.
//
// TMCP-20.11-1: A server that has a policy for it MUST ask it about every message of a client that it opened, before anything of the message reaches the inner server.
// TMCP-20.11-2: A client that has a policy for it MUST ask it about every message of its inner client before it seals it.
func TestAuthorizeStdio(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		for _, side := range []string{"server", "client"} {
			t.Run(version+"/"+side, func(t *testing.T) {
				j := &judge{}
				server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
				for _, name := range []string{"allowed", "forbidden"} {
					mcp.AddTool(server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
						if name == "forbidden" {
							t.Error("a forbidden call reached the server")
						}
						return said("done"), nil, nil
					})
				}
				cs, taps := stdioPair(t, server, mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil), transport.Modern, protocol.ModeRequired, version,
					func(c *transport.ClientConfig, s *transport.ServerConfig) {
						ask := func(ctx context.Context, call *transport.Call) error {
							if call.Kind == transport.CallStream { // the standing stream of the SDK's session
								return nil
							}
							return j.ask(ctx, call)
						}
						if side == "server" {
							s.Authorize = ask
						} else {
							c.Authorize = ask
						}
					})
				if got := callText(t, cs, "allowed", nil); got != "done" {
					t.Errorf("an allowed call: %q", got)
				}
				_, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "forbidden"})
				if err == nil || !strings.Contains(err.Error(), "policy-denied") {
					t.Errorf("a forbidden call: %v", err)
				}
				for _, tap := range taps {
					if tap.contains("policy-denied") {
						t.Error("the denial stands outside the seal")
					}
				}
				n := 0
				for _, c := range j.take() {
					if c.Method == "tools/call" {
						n++
					}
				}
				if n != 2 {
					t.Errorf("asked %d times about tools/call, want 2", n)
				}
			})
		}
	}
}
