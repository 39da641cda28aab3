package transport_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// TMCP-6.5-3: A receiver MUST NOT act on any part of a frame's plaintext before the AEAD has verified the whole frame.
func TestNothingOfAnAlteredFrame(t *testing.T) {
	// Three chunks of 32 KiB, and in the mutant the last byte of the second
	// frame's ciphertext, its tag, is changed: all of its plaintext is right.
	for _, alter := range []bool{false, true} {
		var got bytes.Buffer
		var readErr error
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, readErr = io.Copy(&got, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}), transport.ServerConfig{}, nil)
		peer, settings := redPeer(t, s)
		client, err := protocol.NewClient(peer, settings)
		if err != nil {
			t.Fatal(err)
		}
		const chunk = 32 << 10
		part := func(c string) []byte { return bytes.Repeat([]byte(c), chunk) }
		call, first, err := client.SealFirst(protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "POST", Target: "/mcp"}, Body: part("a")}, protocol.Outer{Carrier: protocol.HTTP}, false, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		frames := first
		for i, c := range []string{"b", "c"} {
			f, err := call.SealNext(nil, protocol.Content{Kind: protocol.KindData, Body: part(c)}, i == 1)
			if err != nil {
				t.Fatal(err)
			}
			if alter && i == 0 {
				f[len(f)-1] ^= 1
			}
			frames = append(frames, f...)
		}
		resp, err := http.Post(s.url, protocol.MediaTypeFrames, bytes.NewReader(frames))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := chunk
		if !alter {
			want = 3 * chunk
		}
		if got.Len() != want || (readErr != nil) != alter || alter && strings.ContainsAny(got.String(), "bc") {
			t.Errorf("altered %v: the server behind read %d bytes, want %d (%v)", alter, got.Len(), want, readErr)
		}
	}
}

// TMCP-9.2-3: A server that cannot complete an answer MUST NOT send a final frame that pretends it is complete.
func TestBrokenAnswerHasNoFinalFrame(t *testing.T) {
	for _, whole := range []bool{true, false} {
		var mu sync.Mutex
		var wire bytes.Buffer
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			m, _ := jsonrpc.Parse(b, jsonrpc.Limits{})
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"p\",\"progress\":1}}\n\n")
			http.NewResponseController(w).Flush()
			if !whole {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, "data: %s\n\n", jsonrpc.Response(m.ID, []byte(`{"resultType":"complete","content":[]}`)))
		}), transport.ServerConfig{}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(&copied{w, &mu, &wire}, r)
			})
		})
		got := askTool(t, s.client(t, transport.ClientConfig{}), s.url, "tools/call", `"name":"one"`)
		mu.Lock()
		final := 0
		for _, part := range strings.Split(wire.String(), `"frame":"`)[1:] {
			text, _, _ := strings.Cut(part, `"`)
			if b, err := protocol.ParseBase64(text); err == nil {
				if f, err := protocol.InspectFrame(b); err == nil && f.Final {
					final++
				}
			}
		}
		mu.Unlock()
		if whole && (final != 1 || !strings.Contains(got, `"result"`)) || !whole && (final != 0 || strings.Contains(got, `"result"`) || !strings.Contains(got, "truncated")) {
			t.Errorf("whole %v: %d final frames, the client got %s", whole, final, got)
		}
	}
}

type copied struct {
	http.ResponseWriter
	mu *sync.Mutex
	to *bytes.Buffer
}

func (c *copied) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.to.Write(b)
	c.mu.Unlock()
	return c.ResponseWriter.Write(b)
}
func (c *copied) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// stdioSide is a client of a sealed stdio server, by hand, and that server's
// child, by hand.
type stdioSide struct {
	t        *testing.T
	toLayer  io.WriteCloser
	answers  *bufio.Reader
	child    *bufio.Reader
	toClient io.WriteCloser
	client   *protocol.Client
	offered  *protocol.Settings // by the layer
	wait     func() error
}

func newStdioSide(t *testing.T, observe func(transport.Event)) *stdioSide {
	t.Helper()
	id, err := protocol.GenerateIdentity("urn:example:stdio")
	if err != nil {
		t.Fatal(err)
	}
	a, b, c, d := newWire(), newWire(), newWire(), newWire()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	go func() {
		done <- transport.StdioServer(ctx, transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: c.w}, transport.ServerConfig{Identity: id, Observe: observe})
	}()
	s := &stdioSide{t: t, toLayer: a.w, answers: bufio.NewReaderSize(b.r, 1<<20), child: bufio.NewReaderSize(c.r, 1<<20), toClient: d.w,
		wait: sync.OnceValue(func() error { defer cancel(); return <-done })}
	t.Cleanup(func() {
		a.w.Close()
		d.w.Close()
		go io.Copy(io.Discard, c.r)
		go io.Copy(io.Discard, b.r)
		_ = s.wait()
		for _, p := range []wire{a, b, c, d} {
			p.r.Close()
		}
	})
	s.tell(`{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{` + strings.Replace(metaModern, "%EXT%", "", 1) + `}}`)
	m := s.hear()
	announced, err := protocol.ParseSettings(jsonrpc.Get(m.Result, "capabilities", "extensions", protocol.ExtensionID))
	if err != nil {
		t.Fatalf("%v: %s", err, m.Result)
	}
	s.offered = announced
	text, _ := jsonrpc.Text(jsonrpc.Get(m.Result, "_meta", protocol.MetaKey))
	object, err := protocol.ParseBase64(text)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: "urn:example:stdio", Anchor: protocol.Pin(id.Thumbprint()), Settings: announced, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := protocol.NewSettings(protocol.Offer{})
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = protocol.NewClient(peer, mine); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stdioSide) tell(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.toLayer, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

// hear reads the layer's next line.
func (s *stdioSide) hear() *jsonrpc.Message {
	s.t.Helper()
	line, err := s.answers.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("the trust layer said nothing more: %v", err)
	}
	m, err := jsonrpc.Parse(bytes.TrimSpace(line), jsonrpc.Limits{})
	if err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	return m
}

// childHears reads what reaches the child.
func (s *stdioSide) childHears() string {
	s.t.Helper()
	line, err := s.child.ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return line
}

func (s *stdioSide) childSays(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.toClient, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stdioSide) seal(id string, c protocol.Content) *protocol.Call {
	s.t.Helper()
	call, frame, err := s.client.Seal(c, protocol.Outer{Carrier: protocol.Envelope}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	s.tell(`{"jsonrpc":"2.0","id":"` + id + `","method":"trust/call","params":{"frame":"` + protocol.Base64(frame) + `"}}`)
	return call
}

func inner(id, method, params string) protocol.Content {
	return protocol.Content{Kind: protocol.KindMessage, Body: []byte(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params + `}}`)}
}

// next opens the next line as a frame of one of the calls, and tells which.
func (s *stdioSide) next(calls map[string]*protocol.Call) (who, body string, final bool) {
	s.t.Helper()
	m := s.hear()
	text, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "frame"))
	if m.Result != nil {
		text, _ = jsonrpc.Text(jsonrpc.Get(m.Result, "frame"))
	}
	b, err := protocol.ParseBase64(text)
	if err != nil || len(b) == 0 {
		s.t.Fatalf("a line without a frame: %s%s%s", m.Params, m.Result, m.Error)
	}
	f, err := protocol.InspectFrame(b)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, call := range calls {
		if call.Context() == f.Context && call.Seq() == f.Seq {
			c, _, err := call.Open(b)
			if err != nil {
				s.t.Fatal(err)
			}
			return name, string(c.Body), f.Final
		}
	}
	s.t.Fatalf("a frame of no call: %x %d", f.Context, f.Seq)
	return "", "", false
}

// TMCP-13.2-1: A server's trust layer MUST assign inner messages by the rules of this section.
// TMCP-9.5-1: A server MUST send messages that belong to no request only on the answer to a content of kind get.
func TestStdioAssignment(t *testing.T) {
	s := newStdioSide(t, nil)
	calls := map[string]*protocol.Call{}
	calls["a"] = s.seal("a", inner("1", "tools/call", `"_meta":{"progressToken":"pa"}`))
	s.childHears()
	calls["b"] = s.seal("b", inner("2", "tools/call", `"_meta":{"progressToken":7}`))
	s.childHears()
	calls["listen"] = s.seal("l", inner(`"sub"`, "subscriptions/listen", ``))
	s.childHears()
	calls["get"] = s.seal("g", protocol.Content{Kind: protocol.KindGet})
	for _, line := range []struct{ who, says string }{
		{"b", `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}`},
		{"a", `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"pa","progress":1}}`},
		{"listen", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}`},
		{"get", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`},
		{"get", `{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{}}`},
		{"get", `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`},
		{"b", `{"jsonrpc":"2.0","id":2,"result":{}}`},
		{"a", `{"jsonrpc":"2.0","id":1,"result":{}}`},
	} {
		s.childSays(line.says)
		who, body, final := s.next(calls)
		if who != line.who || body != line.says || final != strings.Contains(line.says, `"result"`) {
			t.Errorf("%s went to %s (final %v), want %s", line.says, who, final, line.who)
		}
	}
}

// TMCP-13.2-3: A server's trust layer MUST queue messages for a standing stream that is not open, up to a bound of 256 messages, then drop the newest and report that.
// TMCP-9.5-2: A server MUST bound what it queues for a standing stream that is not open, and report what it drops.
func TestStdioQueue(t *testing.T) {
	var mu sync.Mutex
	dropped := 0
	s := newStdioSide(t, func(e transport.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == transport.EventRefused && e.Err.Reason == protocol.Busy {
			dropped++
		}
	})
	const said = 256 + 44
	for i := range said {
		s.childSays(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%d}}`, i))
	}
	calls := map[string]*protocol.Call{"a": s.seal("a", inner("1", "x", ""))} // its answer comes after all of them
	s.childHears()
	s.childSays(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	if who, _, final := s.next(calls); who != "a" || !final {
		t.Fatalf("%s, final %v", who, final)
	}
	calls["get"] = s.seal("g", protocol.Content{Kind: protocol.KindGet})
	for i := range 256 {
		who, body, _ := s.next(calls)
		if who != "get" || !strings.Contains(body, fmt.Sprintf(`"data":%d}`, i)) {
			t.Fatalf("message %d of the queue is %s, for %s", i, body, who)
		}
	}
	s.childSays(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"live"}}`)
	if _, body, _ := s.next(calls); !strings.Contains(body, `"live"`) {
		t.Errorf("after the queue came %s", body)
	}
	mu.Lock()
	defer mu.Unlock()
	if dropped != said-256 {
		t.Errorf("%d drops were reported, want %d", dropped, said-256)
	}
}

// TMCP-13.1-3: A trust layer MUST bound the length of a line that it reads, and answer a longer one with an error without reading it into memory.
// TMCP-13.1-4: A trust layer MUST skip an invalid line without losing those that follow it.
func TestStdioBadLines(t *testing.T) {
	s := newStdioSide(t, nil)
	for _, line := range []string{`{"jsonrpc":"2.0","id":1,`, `[]`} {
		s.tell(line)
		if m := s.hear(); m.Error == nil {
			t.Errorf("%.40s was answered with %s", line, m.Result)
		}
	}
	const size = 64 << 20 // sent in pieces, so that no one but the layer could hold it
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	io.WriteString(s.toLayer, `{"jsonrpc":"2.0","id":"x","method":"trust/call","params":{"frame":"`)
	piece := bytes.Repeat([]byte("A"), 64<<10)
	for range size / len(piece) {
		if _, err := s.toLayer.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	s.tell(`"}}`)
	if m := s.hear(); m.Error == nil {
		t.Errorf("a line of %d bytes was answered with %s", size, m.Result)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > size/2 {
		t.Errorf("a line of %d bytes cost %d bytes of memory", size, n)
	}
	calls := map[string]*protocol.Call{"a": s.seal("a", inner("1", "x", ""))}
	s.childHears()
	s.childSays(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	if who, _, final := s.next(calls); who != "a" || !final {
		t.Errorf("%s, final %v", who, final)
	}
}

// TMCP-13.2-2: A client's trust layer MUST send a content of kind get as soon as the first sealed request has been answered.
// TMCP-13.3-1: A client's trust layer MUST seal the negotiated inner revision as field `mcp-protocol-version` with each message after the inner initialization.
func TestStdioClientOpensStandingStream(t *testing.T) {
	for _, version := range []string{legacyVersion, modernVersion} {
		srv, err := func() (*protocol.Server, error) {
			id, err := protocol.GenerateIdentity("urn:example:stdio")
			if err != nil {
				return nil, err
			}
			return protocol.NewServer(protocol.ServerConfig{Identity: id})
		}()
		if err != nil {
			t.Fatal(err)
		}
		a, b, c, d := newWire(), newWire(), newWire(), newWire()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		done := make(chan error, 1)
		go func() {
			done <- transport.StdioClient(ctx, transport.Pipe{In: a.r, Out: b.w}, transport.Pipe{In: d.r, Out: c.w},
				transport.ClientConfig{Identity: "urn:example:stdio", Anchor: protocol.Pin(srv.Identity().Thumbprint())})
		}()
		answered := make(chan struct{}) // closed with the first answer: a client waits for that of initialize
		go func() {
			bufio.NewReader(b.r).ReadBytes('\n')
			close(answered)
			io.Copy(io.Discard, b.r)
		}()
		user := []string{`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + version + `","io.modelcontextprotocol/clientCapabilities":{}}}}`}
		if version == legacyVersion {
			user = []string{
				`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + version + `","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`,
				`{"jsonrpc":"2.0","method":"notifications/initialized"}`, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`}
		}
		go func() {
			for i, line := range user {
				if i == 1 {
					<-answered
				}
				io.WriteString(a.w, line+"\n")
			}
		}()
		var seen []string
		lines := bufio.NewReader(c.r)
		for len(seen) < len(user)+1 {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				t.Fatalf("%s: after %q: %v", version, seen, err)
			}
			m, err := jsonrpc.Parse(bytes.TrimSpace(line), jsonrpc.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			say := func(result string) { io.WriteString(d.w, string(jsonrpc.Response(m.ID, []byte(result)))+"\n") }
			switch m.Method {
			case "server/discover":
				key, _, err := srv.KeyObject(time.Now())
				if err != nil {
					t.Fatal(err)
				}
				say(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"extensions":{"` + protocol.ExtensionID + `":` + string(srv.Settings().JSON()) + `}},"ttlMs":60000,"cacheScope":"public","_meta":{"` + protocol.MetaKey + `":"` + protocol.Base64(key) + `"}}`)
			case protocol.MethodCall:
				text, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "frame"))
				frame, _ := protocol.ParseBase64(text)
				req, err := srv.Open(frame, protocol.Outer{Carrier: protocol.Envelope}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				in, _ := jsonrpc.Parse(req.Content.Body, jsonrpc.Limits{})
				what := "get"
				answer := protocol.Content{Kind: protocol.KindEnd}
				if req.Content.Kind == protocol.KindMessage {
					what = in.Method
					if in.IsRequest() {
						answer = protocol.Content{Kind: protocol.KindMessage, Body: jsonrpc.Response(in.ID, []byte(`{"protocolVersion":"`+version+`","capabilities":{},"serverInfo":{"name":"s","version":"1"},"resultType":"complete"}`))}
					}
				}
				field := ""
				for _, f := range req.Content.Meta.Fields {
					if f.Name == "mcp-protocol-version" {
						field = string(f.Value)
					}
				}
				seen = append(seen, what)
				if after := what != "initialize" && version == legacyVersion; after && what != "get" && field != version {
					t.Errorf("%s %s has the field mcp-protocol-version %q", version, what, field)
				}
				if what == "get" {
					continue // it stands
				}
				sealed, err := req.Seal(nil, answer, true)
				if err != nil {
					t.Fatal(err)
				}
				say(`{"resultType":"complete","frame":"` + protocol.Base64(sealed) + `"}`)
			}
		}
		gets := 0
		for _, what := range seen {
			if what == "get" {
				gets++
			}
		}
		if gets != 1 || seen[0] == "get" {
			t.Errorf("%s: the server saw %v; want one get, after the first request", version, seen)
		}
		a.w.Close()
		d.w.Close()
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		cancel()
		for _, p := range []wire{a, b, c, d} {
			p.r.Close()
			p.w.Close()
		}
	}
}
