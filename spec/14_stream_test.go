package spec_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

const result = `{"jsonrpc":"2.0","id":"` + canary + `-id","result":{"resultType":"complete"}}`

// TMCP-14.2-2: A server MUST flush each answer frame when it is sealed.
// TMCP-14.2-3: An inner SSE event's id, name and retry MUST travel in meta 5, 7 and 6 of its content.
// TMCP-14.2-4: A client MUST give the inner client a stream where meta 9 says so, and a single answer otherwise.
// TMCP-14.2-5: A client MUST accept SSE comments between frames
// TMCP-7.2-6: A server MUST make every outer result that carries frames one that no cache may serve again.
// TMCP-14.2-6: A server SHOULD send … the header `X-Accel-Buffering: no`.
func TestStreamOnTheWire(t *testing.T) {
	next := make(chan bool)
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		for _, text := range []string{
			"id: one\nretry: 1500\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n",
			": keep-alive\n\n",
			"id: two\nevent: other\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n",
			"data: " + result + "\n\n",
		} {
			_, _ = io.WriteString(w, text)
			_ = rc.Flush()
			if !strings.HasPrefix(text, ":") {
				select {
				case <-next: // the client has this event
				case <-r.Context().Done():
					return
				}
			}
		}
	})
	l := newLeg(t, inner, transport.ServerConfig{}, transport.ClientConfig{})
	req, err := http.NewRequestWithContext(t.Context(), "POST", l.url, strings.NewReader(secretCall))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("the inner client got %s", got)
	}
	time.AfterFunc(10*time.Second, func() { resp.Body.Close() }) // so that a missing flush fails, not hangs
	r := bufio.NewReader(resp.Body)
	var events []string
	event := ""
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v after %q", err, events)
		}
		switch {
		case line != "\n":
			event += line
		case strings.Contains(event, "data:"):
			events, event = append(events, event), ""
			next <- true
		default:
			event = ""
		}
	}
	if len(events) != 3 {
		t.Fatalf("events %q", events)
	}
	for i, want := range [][]string{{"id: one\n", "retry: 1500\n", "notifications/progress"}, {"id: two\n", "event: other\n", "notifications/message"}, {`"resultType"`}} {
		for _, w := range want {
			if !strings.Contains(events[i], w) {
				t.Errorf("event %d lacks %q: %q", i, w, events[i])
			}
		}
	}
	if _, msgs := l.outer(); msgs[len(msgs)-1].Method != "trust/call" {
		t.Error("not sealed")
	}
	head := l.heads[len(l.heads)-1]
	if got := head.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("the outer answer is %s", got)
	}
	if got := head.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control %q", got)
	}
	if got := head.Get("X-Accel-Buffering"); got != "no" {
		t.Errorf("X-Accel-Buffering %q", got)
	}
	// And one that is no stream.
	l = newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{})
	if resp, _ := l.do("POST", secretCall, secrets); resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("a single answer became %s", resp.Header.Get("Content-Type"))
	}
	if got := l.heads[len(l.heads)-1].Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control %q", got)
	}
}

// TMCP-14.3-2: A server MUST answer an inner session that is gone with the inner status 404, sealed.
// TMCP-14.4-4: A trust layer MUST NOT follow redirects of the outer leg to another origin.
func TestInnerStatusAndOuterRedirect(t *testing.T) {
	l := newLeg(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "session not found", http.StatusNotFound)
	}), transport.ServerConfig{}, transport.ClientConfig{})
	resp, body := l.do("POST", secretCall, secrets)
	if resp.StatusCode != 404 || !strings.Contains(body, "session not found") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}

	reached := 0
	elsewhere := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{})
	elsewhere.setTwist(func(*http.Request, string, http.ResponseWriter) bool { reached++; return false })
	for _, when := range []string{"server/discover", "trust/call"} {
		l := newLeg(t, http.HandlerFunc(echo), transport.ServerConfig{}, transport.ClientConfig{})
		l.setTwist(func(r *http.Request, body string, w http.ResponseWriter) bool {
			if strings.Contains(body, when) {
				http.Redirect(w, r, elsewhere.url, http.StatusTemporaryRedirect)
				return true
			}
			return false
		})
		if _, body := l.do("POST", secretCall, secrets); !strings.Contains(body, `"error"`) {
			t.Errorf("%s redirected: %s", when, body)
		}
	}
	if reached != 0 {
		t.Errorf("a redirect was followed %d times", reached)
	}
}

// TMCP-4.1-6: A receiver MUST answer, or end, with `unsupported-version` on a settings object whose `version` it does not speak.
func TestOtherVersion(t *testing.T) {
	_, err := protocol.ParseSettings([]byte(`{"version":2,"profiles":["identity"],"carriers":["envelope"],"suites":["mlkem768x25519-sha256-aes256gcm"],"mode":"required"}`))
	if !protocol.IsReason(err, protocol.UnsupportedVersion) {
		t.Error(err)
	}
	w := newWorld(t)
	s := w.server()
	_, frame := w.seal(w.client(s))
	bad := w.change(frame, func(f *protocol.Frame) {
		i := strings.Index(string(f.ClientSettings), "version") + len("version")
		f.ClientSettings = append([]byte(nil), f.ClientSettings...)
		f.ClientSettings[i] = 2
	})
	w.refuses(s, bad, protocol.UnsupportedVersion)
	w.open(s, frame)
}
