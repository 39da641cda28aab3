package transport_test

import (
	"bufio"
	"bytes"
	"context"
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

// postAs sends a body with that content type.
func postAs(t *testing.T, c *http.Client, method, url, contentType, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Content-Type"] = []string{contentType}
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// each runs f with a client whose calls are judged at the server or by itself, over
// carriers that take any content type, and with one that speaks plaintext.
func each(t *testing.T, f func(t *testing.T, c *http.Client, url string, inner *recording)) {
	for _, side := range []string{"server", "client", "plaintext"} {
		for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP} {
			t.Run(side+"/"+carrier.String(), func(t *testing.T) {
				j, inner := &judge{}, &recording{}
				var scfg transport.ServerConfig
				ccfg := transport.ClientConfig{Carrier: carrier}
				if side == "client" {
					ccfg.Authorize = j.ask
				} else {
					scfg.Authorize = j.ask
				}
				if side == "plaintext" {
					scfg.Mode = protocol.ModePreferred
				}
				s := serve(t, inner, scfg, nil)
				c := s.client(t, ccfg)
				if side == "plaintext" {
					c = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				}
				f(t, c, s.url, inner)
			})
		}
	}
}

// Servers heed the charset of a body: what is harmless in UTF-8 names another tool
// in UTF-7.
//
// TMCP-20.11-12: Who asks MUST deny a message that the inner server may read as something else than what is judged
func TestAuthorizeCharset(t *testing.T) {
	body := modernCall("tools/call", `"name":"allowed","arguments":{"x":"+ACIAfQAsACI-name+ACI-:+ACI-forbidden"}`)
	each(t, func(t *testing.T, c *http.Client, url string, inner *recording) {
		for _, contentType := range []string{
			"application/json; charset=utf-7", `application/json;CHARSET="UTF-7"`, "application/json; charset*=utf-8''utf-7",
			"application/json; charset=utf-8; charset=utf-7", "application/json, text/plain; charset=utf-7", `application/json; x="; charset=utf-7"`, "application/json; charset",
		} {
			postAs(t, c, http.MethodPost, url, contentType, body)
			if got := inner.take(); len(got) != 0 {
				t.Errorf("%s: %v reached the server", contentType, got)
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Content-Type"] = []string{"application/json", "application/json"}
		if resp, err := c.Do(req); err == nil {
			resp.Body.Close()
		}
		if got := inner.take(); len(got) != 0 {
			t.Errorf("two content types: %v reached the server", got)
		}
		for _, contentType := range []string{"application/json", "application/json; charset=utf-8", `Application/JSON; Charset="UTF-8"`} {
			postAs(t, c, http.MethodPost, url, contentType, body)
			if got := inner.take(); len(got) != 1 {
				t.Errorf("%s: %v reached the server", contentType, got)
			}
		}
	})
}

// Servers in Go and C# read "Name" as "name", and take the last of both.
//
// TMCP-20.11-12: Who asks MUST deny a message that the inner server may read as something else than what is judged
func TestAuthorizeCase(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string, inner *recording) {
		for _, body := range []string{
			modernCall("tools/call", `"name":"allowed","Name":"forbidden"`),
			modernCall("tools/call", `"NAME":"forbidden"`),
			modernCall("tools/call", `"name":"allowed","argument\u017f":{}`),
			modernCall("resources/read", `"URI":"file:///etc/passwd"`),
			strings.Replace(modernCall("tools/list", `"name":"forbidden"`), `"method":`, `"Method":"tools/call","method":`, 1),
			strings.Replace(modernCall("tools/call", `"name":"allowed"`), `"method":`, `"PARAMS":{"name":"forbidden"},"method":`, 1),
			strings.Replace(`{"jsonrpc":"2.0","method":"notifications/x","params":{`+strings.Replace(metaModern, "%EXT%", "", 1)+`}}`, `"method":`, `"ID":1,"method":`, 1),
		} {
			postAs(t, c, http.MethodPost, url, "application/json", body)
			for _, got := range inner.take() {
				if !strings.HasPrefix(got, "server/discover") {
					t.Errorf("%s reached the server as %s", body, got)
				}
			}
		}
		postAs(t, c, http.MethodPost, url, "application/json", modernCall("tools/call", `"name":"allowed","arguments":{"Name":1,"METHOD":2},"names":3`))
		if got := inner.take(); len(got) != 1 {
			t.Errorf("members with names of their own: %v reached the server", got)
		}
	})
}

// What nobody looks at does not go on: a DELETE has no body.
//
// TMCP-20.11-13: A server that asks MUST NOT hand on a body of GET or DELETE, which nobody judged.
func TestAuthorizeNoBody(t *testing.T) {
	got := make(chan int64, 8)
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			b := make([]byte, 8)
			n, _ := r.Body.Read(b)
			got <- max(int64(n), r.ContentLength)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	j := &judge{}
	s := serve(t, inner, transport.ServerConfig{Mode: protocol.ModePreferred, Authorize: j.ask}, nil)
	body := modernCall("tools/call", `"name":"forbidden"`)
	for name, c := range map[string]*http.Client{"plaintext": {Transport: &http.Transport{DisableKeepAlives: true}}, "http": s.client(t, transport.ClientConfig{Carrier: protocol.HTTP})} {
		postAs(t, c, http.MethodDelete, s.url, "application/json", body)
		if n := <-got; n != 0 {
			t.Errorf("%s: a DELETE with a body of %d bytes reached the server", name, n)
		}
	}
}

// Over pipes plaintext is judged at both sides, as the server behind will read it.
func TestAuthorizeStdioPlaintext(t *testing.T) {
	ask := func(_ context.Context, c *transport.Call) error {
		if bytes.Contains(c.Params, []byte("forbidden")) || c.Method == "tools/call" && !bytes.Contains(c.Params, []byte("allowed")) {
			return &protocol.Error{Reason: protocol.PolicyDenied}
		}
		return nil
	}
	long := strings.Repeat("forbidden", 99)
	lines := []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"forbidden"}}`,
		`{"jsonrpc":"2.0","method":"notifications/x","params":{"name":"forbidden"}}`,
		`{"jsonrpc":"2.0","id":"s1","result":{"name":"forbidden"}}`, // a response: nothing of it is judged here but its kind
		`[{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"forbidden"}}]`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","method":"ping","params":{"name":"forbidden"}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"allowed","Name":"hidden"}}`,
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"allowed","arguments":{"frame":"` + long + `"},"frame":""}}`,
		`not JSON, forbidden`,
	}
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			id, err := protocol.GenerateIdentity("urn:x")
			if err != nil {
				t.Fatal(err)
			}
			a, b, c, d := newWire(), newWire(), newWire(), newWire()
			var wg sync.WaitGroup
			wg.Go(func() {
				client, server := transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: c.w}
				if side == "server" {
					_ = transport.StdioServer(t.Context(), client, server, transport.ServerConfig{Identity: id, Mode: protocol.ModePreferred, Authorize: ask})
				} else {
					_ = transport.StdioClient(t.Context(), client, server, transport.ClientConfig{Identity: "urn:x", Anchor: protocol.Pin(id.Thumbprint()), Mode: protocol.ModePreferred, Authorize: ask})
				}
				c.w.Close()
			})
			wg.Go(func() { io.Copy(io.Discard, b.r) })
			// The server behind answers what opens a conversation, so that the client's
			// side finds that it offers no trust.
			var got []string
			wg.Go(func() {
				in := bufio.NewScanner(c.r)
				for in.Scan() {
					m, err := jsonrpc.Parse(in.Bytes(), jsonrpc.Limits{})
					if err != nil || m.Method != "initialize" && m.Method != "server/discover" {
						got = append(got, in.Text())
					}
					if err == nil && m.IsRequest() {
						fmt.Fprintf(d.w, "%s\n", jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeMethodNotFound, "no", nil))
					}
					if bytes.Contains(in.Bytes(), []byte(`"last"`)) {
						d.w.Close()
						a.w.Close()
						break
					}
				}
				io.Copy(io.Discard, c.r)
			})
			for _, l := range append(lines, `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"allowed","x":"last"}}`) {
				fmt.Fprintf(a.w, "%s\n", l)
			}
			wg.Wait()
			passed := 0
			for _, l := range got {
				if strings.Contains(l, "hidden") || strings.Contains(l, "forbidden") && !strings.Contains(l, `"result"`) {
					t.Errorf("%s reached the other side unjudged", l)
				}
				if strings.Contains(l, "last") {
					passed++
				}
			}
			if passed != 1 {
				t.Errorf("what is allowed did not pass: %q", got)
			}
		})
	}
}

// A body that can't be judged whole stays here: streamed under the HTTP carrier,
// or in plaintext.
func TestAuthorizeLongAtClient(t *testing.T) {
	j := &judge{}
	small := transport.Limits{MaxMessage: 2048}
	long := modernCall("tools/call", `"name":"forbidden","arguments":{"pad":"`+strings.Repeat("x", 5000)+`"}`)
	inner := &recording{}
	s := serve(t, inner, transport.ServerConfig{}, nil)
	plain := httptest.NewServer(inner)
	defer plain.Close()
	rt, err := transport.RoundTripper(&http.Transport{DisableKeepAlives: true}, transport.ClientConfig{Mode: protocol.ModePreferred, Anchor: s.anchor, Carrier: protocol.HTTP, Authorize: j.ask, Limits: small})
	if err != nil {
		t.Fatal(err)
	}
	for url, c := range map[string]*http.Client{s.url: s.client(t, transport.ClientConfig{Carrier: protocol.HTTP, Authorize: j.ask, Limits: small}), plain.URL: {Transport: rt}} {
		if resp, err := c.Post(url, "application/json", strings.NewReader(long)); err == nil {
			resp.Body.Close()
		}
		for _, got := range inner.take() {
			if strings.Contains(got, "forbidden") {
				t.Errorf("%s left unjudged", got)
			}
		}
	}
}

// What opens a conversation with a gateway in preferred mode is the client's own
// words, and is judged.
func TestAuthorizeInlineOpening(t *testing.T) {
	ask := func(_ context.Context, c *transport.Call) error {
		return &protocol.Error{Reason: protocol.PolicyDenied}
	}
	var mu sync.Mutex
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, string(b))
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	id, err := protocol.GenerateIdentity("urn:x")
	if err != nil {
		t.Fatal(err)
	}
	rt, err := transport.RoundTripper(&http.Transport{DisableKeepAlives: true}, transport.ClientConfig{Mode: protocol.ModePreferred, Carrier: protocol.Inline, Anchor: protocol.Pin(id.Thumbprint()), Authorize: ask})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"secret","version":"1"}}}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"cursor":"secret"}}`,
		modernCall("tools/list", `"cursor":"secret"`),
	} {
		postAs(t, &http.Client{Transport: rt}, http.MethodPost, server.URL, "application/json", body)
	}
	for _, b := range seen {
		if strings.Contains(b, "secret") {
			t.Errorf("%s left, which is denied", b)
		}
	}
}

// Other methods than MCP's are no way past a policy.
func TestAuthorizeMethods(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		j := &judge{}
		reached := make(chan string, 8)
		inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached <- r.Method })
		var scfg transport.ServerConfig
		ccfg := transport.ClientConfig{Carrier: protocol.HTTP}
		if side == "server" {
			scfg.Authorize = j.ask
		} else {
			ccfg.Authorize = j.ask
		}
		s := serve(t, inner, scfg, nil)
		for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodOptions, "post"} {
			req, err := http.NewRequestWithContext(t.Context(), method, s.url, strings.NewReader(modernCall("tools/call", `"name":"allowed"`)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			if resp, err := s.client(t, ccfg).Do(req); err == nil {
				resp.Body.Close()
			}
			select {
			case got := <-reached:
				t.Errorf("judged at the %s: %s reached the server", side, got)
			default:
			}
		}
	}
}

// Nor does an error of the trust layer's that is no denial tell more than one.
func TestAuthorizeKeepsReasons(t *testing.T) {
	s := serve(t, &recording{}, transport.ServerConfig{Authorize: func(context.Context, *transport.Call) error {
		return &protocol.Error{Reason: protocol.EvidenceRefused, Detail: "of 10.0.0.7"}
	}}, nil)
	_, m := send(t, s.client(t, transport.ClientConfig{}), s.url, http.MethodPost, modernCall("tools/call", `"name":"allowed"`))
	if m == nil || !strings.Contains(string(m.Error), "policy-denied") || strings.Contains(string(m.Error), "10.0.0.7") {
		t.Errorf("%+v", m)
	}
}

// Over pipes too, the standing stream is one, and its opening no end of a session.
func TestAuthorizeStdioStream(t *testing.T) {
	var mu sync.Mutex
	kinds := map[transport.CallKind]int{}
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "allowed"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return said("done"), nil, nil
	})
	cs, _ := stdioPair(t, server, mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil), transport.Modern, protocol.ModeRequired, legacyVersion,
		func(_ *transport.ClientConfig, s *transport.ServerConfig) {
			s.Authorize = func(_ context.Context, c *transport.Call) error {
				mu.Lock()
				defer mu.Unlock()
				kinds[c.Kind]++
				return nil
			}
		})
	for range 2 {
		callText(t, cs, "allowed", nil)
	}
	mu.Lock()
	defer mu.Unlock()
	if kinds[transport.CallStream] == 0 || kinds[transport.CallEnd] != 0 || kinds[transport.CallRequest] < 2 {
		t.Errorf("asked about %v", kinds)
	}
}
