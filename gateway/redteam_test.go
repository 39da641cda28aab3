package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// TMCP-14.4-1: A gateway MUST validate `Origin`, and `Host` where it listens on
// loopback, itself. A web page must not get to a server through it, though that
// server judges neither.
func TestWebPagesDoNotGetThroughConnect(t *testing.T) {
	for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP, protocol.Inline} {
		t.Run(carrier.String(), func(t *testing.T) {
			var ran atomic.Int64
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ran.Add(1)
				b, _ := io.ReadAll(r.Body)
				m, _ := jsonrpc.Parse(b, jsonrpc.Limits{})
				w.Header().Set("Content-Type", "application/json")
				w.Write(jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","content":[]}`)))
			}))
			t.Cleanup(upstream.Close)
			at := redConnect(t, upstream.URL, carrier)
			u, err := url.Parse(at)
			if err != nil {
				t.Fatal(err)
			}
			post := func(host, origin, method string) int {
				req, err := http.NewRequest(method, at, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "text/plain") // what a page can send without a preflight
				if req.Host = host; host == "" {
					req.Host = u.Host
				}
				if origin != "" {
					req.Header.Set("Origin", origin)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				io.Copy(io.Discard, resp.Body)
				return resp.StatusCode
			}
			if code := post("", "", "POST"); code != http.StatusOK {
				t.Fatalf("the twin: status %d", code)
			}
			before := ran.Load()
			for _, page := range [][2]string{
				{"attacker.example:" + u.Port(), "http://attacker.example:" + u.Port()}, // rebound
				{"attacker.example:" + u.Port(), ""},                                    // rebound, a GET sends no Origin
				{"", "https://attacker.example"}, {"", "null"},                          // cross-site
			} {
				for _, method := range []string{"POST", "GET", "DELETE"} {
					if code := post(page[0], page[1], method); code != http.StatusForbidden {
						t.Errorf("%s with Host %q, Origin %q: status %d", method, page[0], page[1], code)
					}
				}
			}
			if ran.Load() != before {
				t.Errorf("the server behind ran %d requests of web pages", ran.Load()-before)
			}
		})
	}
}

// A redirect by the server behind is not passed on to the client: it would
// follow it past the trust layer, and send the call again in plaintext.
func TestConnectPassesNoRedirectOn(t *testing.T) {
	var leaked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); strings.Contains(string(b), "secret") {
			leaked.Add(1)
		}
	}))
	t.Cleanup(elsewhere.Close)
	for _, to := range []string{elsewhere.URL + "/mcp/", "//" + strings.TrimPrefix(elsewhere.URL, "http://") + "/mcp/", `/\` + strings.TrimPrefix(elsewhere.URL, "http://")} {
		for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP} {
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", to) // as servers do that want a slash at the end
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			t.Cleanup(upstream.Close)
			at := redConnect(t, upstream.URL, carrier)
			resp, err := http.Post(at, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"secret"}}`))
			if err == nil {
				if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Location") != "" {
					t.Errorf("%v, %s: status %d, Location %q", carrier, to, resp.StatusCode, resp.Header.Get("Location"))
				}
				resp.Body.Close()
			}
			if leaked.Load() != 0 {
				t.Fatalf("%v: the client followed %s, and the call left in plaintext", carrier, to)
			}
		}
	}
}

// redConnect is the local end of a gateway pair before upstream.
func redConnect(t *testing.T, upstream string, carrier protocol.Carrier) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	serving := make(chan gateway.Serving, 1)
	go func() {
		ended <- gateway.Serve(ctx, gateway.ServeConfig{Listen: "127.0.0.1:0", Upstream: upstream}, func(s gateway.Serving) { serving <- s })
	}()
	s := <-serving
	local := make(chan string, 1)
	go func() {
		ended <- gateway.Connect(ctx, gateway.ConnectConfig{URL: s.URL, Anchor: protocol.Pin(s.Identity.Thumbprint()), Carrier: carrier}, "127.0.0.1:0", func(u string) { local <- u })
	}()
	at := <-local
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	return at
}
