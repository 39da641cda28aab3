package aicc_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport/aicc"
)

// TMCP-18.8-4: An implementation MUST label what comes from a simulated TEE as simulated, wherever it shows a result.
//
// TMCP-23.8-1: A client MUST label each result with the profile, whether the key was attested, and what the profile leaves open: `no-forward-secrecy`, `not-post-quantum`, `http-fields-in-the-clear`, `client-unknown`, `stream-gaps-unseen`.
func TestLabelIsOfTheKeyThatWasUsed(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var attested atomic.Pointer[rsa.PublicKey] // at this moment
	attested.Store(&serverKey.PublicKey)
	simulated := false
	inner := says("application/json", pong)
	url := serve(t, inner, aicc.ServerConfig{})
	hc, _ := client(t, aicc.ClientConfig{
		Key: func(context.Context) (*rsa.PublicKey, error) { return &serverKey.PublicKey, nil },
		Attested: func(k *rsa.PublicKey) (bool, bool) {
			return k.Equal(attested.Load()), simulated
		},
	})
	call := func() string {
		t.Helper()
		resp, err := hc.Post(url, "application/json", strings.NewReader(ping))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	if got := call(); !strings.Contains(got, `"attested":true`) || strings.Contains(got, "simulated") {
		t.Errorf("an attested key: %s", got)
	}
	simulated = true
	if got := call(); !strings.Contains(got, `"simulated":true`) {
		t.Errorf("a simulated TEE: %s", got)
	}
	// While the call is under way another key is attested.
	simulated = false
	attested.Store(&other.PublicKey)
	inner.answer = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		attested.Store(&serverKey.PublicKey)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, pong)
	}
	if got := call(); !strings.Contains(got, `"attested":false`) {
		t.Errorf("a call to a key that was not attested: %s", got)
	}
}

// HTTP fields of the modern era tell what is sealed, also without the others of it.
func TestFieldsOfTheModernEraStayHere(t *testing.T) {
	for _, name := range []string{"Mcp-Name", "Mcp-Param-City"} {
		hc, tp := client(t, aicc.ClientConfig{})
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1:1/mcp", strings.NewReader(ping))
		req.Header.Set(name, canary)
		if resp, err := hc.Do(req); err == nil {
			resp.Body.Close()
		}
		if tp.seen() != "" {
			t.Errorf("%s went out: %s", name, tp.seen())
		}
	}
}

// Two that send the same at once, and both come before either is remembered.
//
// TMCP-23.3-4: A server MUST refuse a request whose `key` is that of one of the last 262,144 requests that it opened.
func TestReplayAtOnce(t *testing.T) {
	inner := says("application/json", pong)
	var both, posts sync.WaitGroup
	both.Add(2)
	url := serve(t, inner, aicc.ServerConfig{Keys: func() []*rsa.PrivateKey {
		both.Done()
		both.Wait()
		return []*rsa.PrivateKey{serverKey}
	}})
	body, _ := seal(t, ping)
	for range 2 {
		posts.Go(func() { post(t, url, body, true) })
	}
	posts.Wait()
	if n := inner.calls.Load(); n != 1 {
		t.Errorf("the server behind got the message %d times", n)
	}
}

// TMCP-23.4-6: A client MUST refuse its own sealed request as an answer.
func TestOwnRequestIsNoAnswer(t *testing.T) {
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		mirror := &scripted{answer: func(w http.ResponseWriter, _ *http.Request, body []byte) {
			before, rest, _ := strings.Cut(string(body), `"key":"`)
			_, after, _ := strings.Cut(rest, `",`)
			w.Header().Set("Content-Type", contentType)
			w.Header().Set(wire.Header, "1")
			if body := before + after; contentType == "application/json" {
				io.WriteString(w, body)
			} else {
				io.WriteString(w, "data: "+body+"\r\n\r\n")
			}
		}}
		hc, _ := client(t, aicc.ClientConfig{})
		if got, body := ask(t, hc, listen(t, mirror), ping); got != wire.Replayed {
			t.Errorf("%s: reason %q, %s", contentType, got, body)
		}
	}
}
