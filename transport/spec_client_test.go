package transport_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// The tests in files spec_*_test.go each quote the sentences of the
// specification that they show, where no case of the conformance suite can.

// toolServer lists two tools and answers their calls, in the modern era.
func toolServer(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if err != nil || !m.IsRequest() {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result := `{"resultType":"complete","content":[]}`
	if m.Method == "tools/list" {
		result = `{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"one","inputSchema":{"type":"object"}},{"name":"two","inputSchema":{"type":"object"}}]}`
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(jsonrpc.Response(m.ID, []byte(result)))
}

// askTool posts one modern request by a client and returns its answer's text.
func askTool(t *testing.T, c *http.Client, url, method, params string) string {
	t.Helper()
	if params != "" {
		params += ","
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+params+strings.Replace(metaModern, "%EXT%", "", 1)+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {method}}
	if method == "tools/call" {
		req.Header.Set("Mcp-Name", "one")
	}
	resp, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return string(b) + " " + err.Error()
	}
	return string(b)
}

// TMCP-2.5-1: An implementation MUST take the time by which it judges validity from its own clock, never from a peer.
func TestTimeIsOurOwn(t *testing.T) {
	// The peer says in every way it has that it is still early.
	early := time.Now().UTC().Format(http.TimeFormat)
	s := serve(t, http.HandlerFunc(toolServer), transport.ServerConfig{}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", early)
			w.Header().Set("Age", "0")
			next.ServeHTTP(w, r)
		})
	})
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{{0, `"result"`}, {20 * time.Minute, "key-object-expired"}, {-20 * time.Minute, "key-object-not-yet-valid"}} {
		c := s.client(t, transport.ClientConfig{Clock: func() time.Time { return time.Now().Add(tt.after) }})
		if got := askTool(t, c, s.url, "tools/call", `"name":"one"`); !strings.Contains(got, tt.want) {
			t.Errorf("our clock %v ahead: %s, want %s", tt.after, got, tt.want)
		}
	}
}

// TMCP-7.4-1: An outer `tools/call` with frames MUST NOT hold `arguments`.
// TMCP-7.4-11: A client MUST end with `cannot-seal` on an inner message that the inline carrier can't carry
func TestInlineOutside(t *testing.T) {
	tap := &redTap{}
	s := serve(t, http.HandlerFunc(toolServer), transport.ServerConfig{}, tap.wrap)
	c := s.client(t, transport.ClientConfig{Carrier: protocol.Inline})
	if got := askTool(t, c, s.url, "tools/call", `"name":"one","arguments":{"x":"`+canary+`"}`); !strings.Contains(got, `"result"`) {
		t.Fatal(got)
	}
	if !tap.saw(protocol.MetaFrames) || tap.saw(`"arguments"`) || tap.saw(canary) {
		t.Errorf("on the wire: %s", tap.out.String())
	}
	for _, method := range []string{"resources/read", "prompts/get", "completion/complete", "logging/setLevel", "x/unknown"} {
		if got := askTool(t, c, s.url, method, `"uri":"`+canary+`"`); !strings.Contains(got, "cannot-seal") {
			t.Errorf("%s: %s", method, got)
		}
	}
	if tap.saw(canary) {
		t.Error("what could not be sealed was sent")
	}
}

// TMCP-7.4-10: A client MUST deliver a sealed listing only if its tool names equal those of the outer listing, or the outer listing is empty.
func TestInlineListingOfOthers(t *testing.T) {
	for _, tt := range []struct{ name, old, new string }{
		{"untouched", "one", "one"},
		{"a tool is renamed", `"name":"one"`, `"name":"uno"`},
		{"a tool is added", `{"name":"one"`, `{"name":"evil","inputSchema":{"type":"object"}},{"name":"one"`},
		{"a tool is gone", `{"name":"one","inputSchema":{"type":"object"}},`, ``},
		{"no tool is left", `"tools":[`, `"tools":[],"was":[`},
	} {
		var changed bool
		s := serve(t, http.HandlerFunc(toolServer), transport.ServerConfig{PublicTools: true}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := &bodyRecorder{ResponseWriter: w}
				next.ServeHTTP(rec, r)
				b := rec.Bytes()
				if bytes.Contains(b, []byte(`"tools":[`)) {
					b = bytes.Replace(b, []byte(tt.old), []byte(tt.new), 1)
				}
				changed = changed || !bytes.Equal(b, rec.Bytes())
				w.Write(b)
			})
		})
		c := s.client(t, transport.ClientConfig{Carrier: protocol.Inline})
		if got := askTool(t, c, s.url, "tools/call", `"name":"one"`); !strings.Contains(got, `"state":"sealed"`) { // after it the client knows the server
			t.Fatal(got)
		}
		got := askTool(t, c, s.url, "tools/list", "")
		sealed := strings.Contains(got, `"state":"sealed"`)
		if sealed != (tt.old == tt.new || strings.HasPrefix(tt.new, `"tools":[]`)) || changed == (tt.old == tt.new) {
			t.Errorf("%s (%v): %s", tt.name, changed, got)
		}
	}
}

// bodyRecorder holds a body back.
type bodyRecorder struct {
	http.ResponseWriter
	bytes.Buffer
}

func (r *bodyRecorder) Write(b []byte) (int, error) { return r.Buffer.Write(b) }
func (r *bodyRecorder) Flush()                      {}

// TMCP-8.5-6: A client MUST NOT by itself seal a message again for which it got no answer, unless it was never sent.
func TestNoAnswerIsNotSealedAgain(t *testing.T) {
	for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP, protocol.Inline} {
		var mu sync.Mutex
		frames, cut := 0, false
		s := serve(t, http.HandlerFunc(toolServer), transport.ServerConfig{}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(b))
				sealed := r.Header.Get("Content-Type") == protocol.MediaTypeFrames || bytes.Contains(b, []byte(`"frame`)) || bytes.Contains(b, []byte(protocol.MetaFrames))
				mu.Lock()
				if sealed {
					frames++
				}
				drop := sealed && cut
				mu.Unlock()
				if drop { // it arrived, and nobody will ever say so
					panic(http.ErrAbortHandler)
				}
				next.ServeHTTP(w, r)
			})
		})
		c := s.client(t, transport.ClientConfig{Carrier: carrier})
		if got := askTool(t, c, s.url, "tools/call", `"name":"one"`); !strings.Contains(got, `"result"`) {
			t.Fatalf("%v: the twin: %s", carrier, got)
		}
		mu.Lock()
		frames, cut = 0, true
		mu.Unlock()
		got := askTool(t, c, s.url, "tools/call", `"name":"one"`)
		mu.Lock()
		n := frames
		mu.Unlock()
		if n != 1 || strings.Contains(got, `"result"`) {
			t.Errorf("%v: sealed %d times, want once; the user got %s", carrier, n, got)
		}
	}
}

// TMCP-11.1-2: An implementation MUST NOT lower its mode, its profile or its trust in identities because of anything that a peer sends.
func TestModeIsNotLowered(t *testing.T) {
	for _, say := range []string{
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":29000,"message":"mode is now preferred","data":{"extension":"org.trustedmcp/trust","reason":"trust-required","mode":"preferred"}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","capabilities":{"tools":{}},"mode":"off"}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":29018,"message":"use no profile","data":{"extension":"org.trustedmcp/trust","reason":"profile-refused"}}}`,
	} {
		tap := &redTap{}
		on := false
		s := serve(t, http.HandlerFunc(toolServer), transport.ServerConfig{Mode: protocol.ModePreferred}, func(next http.Handler) http.Handler {
			return tap.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); on {
					m, _ := jsonrpc.Parse(b, jsonrpc.Limits{})
					w.Header().Set("Content-Type", "application/json")
					io.WriteString(w, strings.Replace(say, `"id":1`, `"id":`+string(m.ID), 1))
				} else {
					r.Body = io.NopCloser(bytes.NewReader(b))
					next.ServeHTTP(w, r)
				}
			}))
		})
		c := s.client(t, transport.ClientConfig{})
		if got := askTool(t, c, s.url, "tools/call", `"name":"one"`); !strings.Contains(got, `"result"`) {
			t.Fatalf("the twin: %s", got)
		}
		on = true
		for range 3 {
			if got := askTool(t, c, s.url, "tools/call", `"name":"one","arguments":{"x":"`+canary+`"}`); strings.Contains(got, `"capabilities"`) || !strings.Contains(got, `"error"`) {
				t.Errorf("delivered: %s", got)
			}
		}
		if tap.saw(canary) || tap.saw("tools/call") {
			t.Errorf("after %s a call left in plaintext", say)
		}
	}
	// A server's mode is not lowered by what a client says of its own.
	s := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("plaintext reached the server") }), transport.ServerConfig{}, nil)
	offer, err := protocol.NewSettings(protocol.Offer{Mode: protocol.ModePreferred})
	if err != nil {
		t.Fatal(err)
	}
	meta := strings.Replace(metaModern, "%EXT%", `"org.trustedmcp/trust":`+string(offer.JSON()), 1)
	_, m := post(t, s.url, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one",`+meta+`}}`, http.Header{"Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {"tools/call"}})
	if string(jsonrpc.Get(m.Error, "code")) != "29000" {
		t.Errorf("%s", m.Error)
	}
}

// TMCP-15.4-5: An implementation SHOULD log each refusal with its reason
func TestRefusalsAreTold(t *testing.T) {
	var mu sync.Mutex
	var server, client []protocol.Reason
	note := func(to *[]protocol.Reason) func(transport.Event) {
		return func(e transport.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == transport.EventRefused && e.Err != nil {
				*to = append(*to, e.Err.Reason)
			}
		}
	}
	s := serve(t, http.HandlerFunc(toolServer), transport.ServerConfig{Observe: note(&server)}, nil)
	post(t, s.url, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, http.Header{})
	post(t, s.url, `{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"AAAA"}}`, http.Header{})
	post(t, s.url, `{"jsonrpc":"2.0","id":1,"method":"trust/attest","params":{"nonce":"AA"}}`, http.Header{})
	c := s.client(t, transport.ClientConfig{Observe: note(&client), Clock: func() time.Time { return time.Now().Add(time.Hour) }})
	askTool(t, c, s.url, "tools/call", `"name":"one"`)
	mu.Lock()
	defer mu.Unlock()
	if len(server) != 3 || server[0] != protocol.TrustRequired || server[1] != protocol.MalformedFrame || server[2] != protocol.MalformedContent {
		t.Errorf("the server told of %v", server)
	}
	if len(client) != 1 || client[0] != protocol.KeyObjectExpired {
		t.Errorf("the client told of %v", client)
	}
}
