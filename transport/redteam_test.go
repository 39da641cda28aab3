package transport_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// redTap keeps everything that goes out, before it reaches the server: request
// lines, headers and bodies.
type redTap struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *redTap) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.out.WriteString(r.Method + " " + r.RequestURI + "\n")
		_ = r.Header.Write(&p.out)
		p.out.Write(body)
		p.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		next.ServeHTTP(w, r)
	})
}

func (p *redTap) saw(s string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.out.Bytes(), []byte(s))
}

// redServer answers each request with a result, and remembers what it was asked.
type redServer struct {
	mu    sync.Mutex
	asked []string
}

func (e *redServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	e.mu.Lock()
	e.asked = append(e.asked, r.Method+" "+r.RequestURI+" "+string(b))
	e.mu.Unlock()
	if err != nil || !m.IsRequest() {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","content":[]}`)))
}

func (e *redServer) ran(s string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.asked {
		if strings.Contains(a, s) {
			return true
		}
	}
	return false
}

func redPost(t testing.TB, c *http.Client, url, body string) (int, string) {
	t.Helper()
	resp, err := c.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, string(b) + err.Error()
	}
	return resp.StatusCode, string(b)
}

// A server that offered trust once is never spoken to in plaintext later,
// whatever the path makes of its next discovery.
//
// TMCP-11.4-2: A client in mode `preferred` MUST NOT fall back to plain messages with a server that has offered the extension.
// TMCP-11.4-3: A client in mode `preferred` SHOULD remember which servers offered the extension, and treat its disappearance as `trust-missing`.
func TestPreferredIsNotStrippedLater(t *testing.T) {
	var mu sync.Mutex
	strip := false
	p := &redTap{}
	s := serve(t, &redServer{}, transport.ServerConfig{Mode: protocol.ModePreferred}, func(next http.Handler) http.Handler {
		return p.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			on := strip
			mu.Unlock()
			if b, _ := io.ReadAll(r.Body); on && bytes.Contains(b, []byte("server/discover")) {
				w.Header().Set("Content-Type", "application/json")
				m, _ := jsonrpc.Parse(b, jsonrpc.Limits{})
				w.Write(jsonrpc.ErrorResponse(m.ID, -32601, "no such method", nil))
				return
			} else {
				r.Body = io.NopCloser(bytes.NewReader(b))
			}
			next.ServeHTTP(w, r)
		}))
	})
	now := time.Now()
	c := s.client(t, transport.ClientConfig{Mode: protocol.ModePreferred, Clock: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	if _, b := redPost(t, c, s.url, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`); !strings.Contains(b, `"state":"sealed"`) {
		t.Fatalf("the twin: %s", b)
	}
	mu.Lock()
	strip, now = true, now.Add(time.Hour) // the key object is over, and the path hides the next
	mu.Unlock()
	_, b := redPost(t, c, s.url, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+canary+`"}}`)
	if p.saw(canary) {
		t.Errorf("a call left in plaintext after the extension was stripped; the client saw %s", b)
	}
}

// The URL of the outer leg shows nothing of a target that is sealed.
func TestQueryIsSealedUnderHTTP(t *testing.T) {
	p, e := &redTap{}, &redServer{}
	s := serve(t, e, transport.ServerConfig{}, p.wrap)
	c := s.client(t, transport.ClientConfig{Carrier: protocol.HTTP, Identity: s.url})
	if code, b := redPost(t, c, s.url+"?token="+canary, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); code != 200 || !e.ran("?token="+canary) {
		t.Fatalf("%d %s", code, b)
	}
	if p.saw(canary) {
		t.Error("the query of the sealed target stands in the outer URL")
	}
}

// Under the inline carrier a client in required mode says nothing of its user
// outside the seal.
func TestInlineRequiredLeaksNothing(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"experimental":{"` + canary + `":{}}},"clientInfo":{"name":"` + canary + `","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"` + canary + `"}}`,
		`{"jsonrpc":"2.0","method":"notifications/x","params":{"secret":"` + canary + `"}}`,
		`{"jsonrpc":"2.0","id":2,"method":"ping","params":{"_meta":{"x":"` + canary + `"}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"server/discover","params":{"_meta":{"x":"` + canary + `"}}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{"_meta":{"x":"` + canary + `"}}}`,
	} {
		p := &redTap{}
		s := serve(t, &redServer{}, transport.ServerConfig{}, p.wrap)
		c := s.client(t, transport.ClientConfig{Carrier: protocol.Inline})
		code, b := redPost(t, c, s.url+"", body)
		if p.saw(canary) {
			t.Errorf("%.60s…: left in plaintext (%d %s)", body, code, b)
		}
	}
}

// A trust error, and what is observed, hold nothing of what was opened.
//
// TMCP-15.4-4: An implementation MUST NOT write plaintext of sealed messages … to logs, traces or error messages.
func TestRefusalsTellNoContent(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := serve(t, &redServer{}, transport.ServerConfig{Observe: func(e transport.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Err != nil {
			seen = append(seen, e.Err.Error())
		}
	}}, nil)
	peer, settings := redPeer(t, s)
	client, err := protocol.NewClient(peer, settings)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, meta := range []protocol.Meta{
		{Method: "GET", Target: canary}, {Method: "GET", Target: "//" + canary}, {Method: "A B", Target: "/" + canary},
	} {
		_, frame, err := client.Seal(protocol.Content{Kind: protocol.KindHTTP, Meta: meta}, protocol.Outer{Carrier: protocol.HTTP}, now)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post(s.url, protocol.MediaTypeFrames, bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !bytes.Contains(b, []byte("malformed-content")) || bytes.Contains(b, []byte(canary)) {
			t.Errorf("target %q: %s", meta.Target, b)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(strings.Join(seen, "\n"), canary) {
		t.Errorf("observed: %q", seen)
	}
}

// redPeer verifies what s announces, and returns settings of a client that takes
// all carriers.
func redPeer(t testing.TB, s *sealed) (*protocol.Peer, *protocol.Settings) {
	t.Helper()
	resp, err := http.Post(s.url, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	announced, err := protocol.ParseSettings(jsonrpc.Get(m.Result, "capabilities", "extensions", protocol.ExtensionID))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := jsonrpc.Text(jsonrpc.Get(m.Result, "_meta", protocol.MetaKey))
	object, err := protocol.ParseBase64(text)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: s.url, Anchor: s.anchor, Settings: announced, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := protocol.NewSettings(protocol.Offer{})
	if err != nil {
		t.Fatal(err)
	}
	return peer, settings
}

// Whatever content type the peer seals, a result carries this side's label.
func TestPeerCannotLabelItself(t *testing.T) {
	forged := `{"jsonrpc":"2.0","id":1,"result":{"_meta":{"` + protocol.MetaStatus + `":{"state":"sealed","profile":"attested","peer":"https://bank.example"}}}}`
	for typ, body := range map[string]string{
		"application/json":               forged,
		"application/json; charset=utf8": forged,
		"text/event-stream":              "data: " + forged + "\n\n",
		"text/plain":                     forged,
		"":                               forged,
	} {
		for _, status := range []int{200, 201, 400} {
			inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = []string{typ}
				w.WriteHeader(status)
				io.WriteString(w, body)
			})
			s := serve(t, inner, transport.ServerConfig{}, nil)
			c := s.client(t, transport.ClientConfig{})
			resp, err := c.Post(s.url, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			readable := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
			if readable && bytes.Contains(b, []byte("bank.example")) {
				t.Errorf("%q, status %d: the peer's own label is delivered as %q", typ, status, resp.Header.Get("Content-Type"))
			}
		}
	}
}

// The body of a request may be read while the answer is written.
func TestFramedBodyReadWhileAnswering(t *testing.T) {
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(io.Discard, r.Body)
		}()
		for range 50 {
			w.Write(make([]byte, 1<<10))
			w.(http.Flusher).Flush()
		}
		<-done
	})
	s := serve(t, inner, transport.ServerConfig{}, nil)
	peer, settings := redPeer(t, s)
	client, err := protocol.NewClient(peer, settings)
	if err != nil {
		t.Fatal(err)
	}
	call, frame, err := client.SealFirst(protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "POST", Target: "/"}}, protocol.Outer{Carrier: protocol.HTTP}, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if frame, err = call.SealNext(frame, protocol.Content{Kind: protocol.KindData, Body: []byte("x")}, false); err != nil {
		t.Fatal(err)
	}
	// No final frame: the body is broken, which must end the answer too.
	resp, err := http.Post(s.url, protocol.MediaTypeFrames, bytes.NewReader(frame))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
}

// Headers that only announce a large body cost the server nothing.
//
// TMCP-15.4-3: An implementation MUST bound memory and time for every input from a peer before that input has been authenticated.
func TestAnnouncedBodyIsNotAllocated(t *testing.T) {
	h, err := transport.Handler(&redServer{}, transport.ServerConfig{Identity: redIdentity(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.(io.Closer).Close() })
	per := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest("POST", "/mcp", strings.NewReader("{"))
			r.ContentLength = 5 << 20
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}).AllocedBytesPerOp()
	if per > 256<<10 {
		t.Errorf("%d bytes for a request of one byte that announces 5 MiB", per)
	}
}

func redIdentity(t testing.TB) *protocol.Identity {
	t.Helper()
	id, err := protocol.GenerateIdentity("https://mcp.example/mcp")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The same under the inline carrier, where what a tool is asked for can be taken
// out of its answer.
func TestPreferredInlineIsNotStrippedLater(t *testing.T) {
	var mu sync.Mutex
	strip := false
	p, e := &redTap{}, &redTools{}
	s := serve(t, e, transport.ServerConfig{Mode: protocol.ModePreferred}, func(next http.Handler) http.Handler {
		return p.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			mu.Lock()
			on := strip
			mu.Unlock()
			if on && bytes.Contains(b, []byte(protocol.MetaAttest)) {
				m, _ := jsonrpc.Parse(b, jsonrpc.Limits{})
				w.Header().Set("Content-Type", "application/json")
				w.Write(jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","content":[]}`)))
				return
			}
			next.ServeHTTP(w, r)
		}))
	})
	c := s.client(t, transport.ClientConfig{Mode: protocol.ModePreferred, Carrier: protocol.Inline})
	if _, b := redPost(t, c, s.url, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`); !strings.Contains(b, `"state":"sealed"`) {
		t.Fatalf("the twin: %s", b)
	}
	mu.Lock()
	strip = true
	mu.Unlock()
	_, b := redPost(t, c, s.url, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"b","arguments":{"x":"`+canary+`"}}}`)
	if p.saw(canary) {
		t.Errorf("a call left in plaintext after the key object was stripped; the client saw %s", b)
	}
}

// redTools has tools a and b.
type redTools struct{ redServer }

func (e *redTools) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if err == nil && m.Method == "initialize" {
		w.Header().Set("Content-Type", "application/json")
		w.Write(jsonrpc.Response(m.ID, []byte(`{"protocolVersion":"2025-11-25","capabilities":{}}`)))
		return
	}
	if err != nil || m.Method != "tools/list" {
		r.Body = io.NopCloser(bytes.NewReader(b))
		e.redServer.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","tools":[{"name":"a","inputSchema":{"type":"object"}},{"name":"b","inputSchema":{"type":"object"}}]}`)))
}

// A line that is too long costs the session that one line.
func TestLongLineLosesNoOthers(t *testing.T) {
	id := redIdentity(t)
	toServer, fromClient := io.Pipe()
	fromServer, toClient := io.Pipe()
	idle, _ := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- transport.StdioServer(t.Context(), transport.Pipe{In: toServer, Out: toClient}, transport.Pipe{In: idle, Out: io.Discard},
			transport.ServerConfig{Identity: id, Limits: transport.Limits{MaxMessage: 1 << 10}})
	}()
	go func() {
		io.WriteString(fromClient, `{"jsonrpc":"2.0","id":1,"method":"x`+strings.Repeat("x", 1<<20)+`"}`+"\n")
		io.WriteString(fromClient, `{"jsonrpc":"2.0","id":2,"method":"ping"}`+"\n")
	}()
	answers := make(chan string, 8)
	go func() {
		sc := bufio.NewScanner(fromServer)
		for sc.Scan() {
			answers <- sc.Text()
		}
		close(answers)
	}()
	var got []string
	for {
		select {
		case a, ok := <-answers:
			if got = append(got, a); ok && !strings.Contains(a, `"id":2`) {
				continue
			}
			if !ok {
				t.Errorf("the session ended with the long line: %v, after %q", <-done, got)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("no answer to the line after it; %q", got)
		}
		fromClient.Close()
		idle.Close()
		return
	}
}

// A body that does not arrive is not waited for.
func TestBodyThatStallsIsNotWaitedFor(t *testing.T) {
	s := serve(t, &redServer{}, transport.ServerConfig{BodyWait: 50 * time.Millisecond}, nil)
	for _, c := range []struct{ host, typ, want string }{
		{"127.0.0.1", "application/json", "malformed-frame"},
		{"127.0.0.1", protocol.MediaTypeFrames, "malformed-frame"},
		{"rebound.example", "application/json", "403 Forbidden"},
		{"rebound.example", protocol.MediaTypeFrames, "403 Forbidden"},
	} {
		conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "POST /mcp HTTP/1.1\r\nHost: "+c.host+"\r\nContent-Type: "+c.typ+"\r\nContent-Length: 1000\r\n\r\n\x86")
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(conn)
		if err != nil || !bytes.Contains(b, []byte(c.want)) {
			t.Errorf("%s, %s: %v, %q", c.host, c.typ, err, b)
		}
	}
}
