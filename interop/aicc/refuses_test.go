package aicc_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/interop/aicc"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	ours "github.com/trustedmcp/tmcp/transport/aicc"
)

// refusals keeps what an end refused.
type refusals struct {
	mu  sync.Mutex
	all []wire.Reason
}

func (r *refusals) observe(e ours.Event) {
	if e.Kind == ours.EventRefused {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, e.Err.Reason)
	}
}

func (r *refusals) has(want wire.Reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, got := range r.all {
		if got == want {
			return true
		}
	}
	return false
}

func (r *refusals) none(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) > 0 {
		t.Errorf("refused: %q", r.all)
	}
}

// Their client with another server's key: ours says that it can't open what was
// sealed, hands nothing on, and the client's call fails.
func TestTheirClientWrongKey(t *testing.T) {
	f := newFolder(t)
	var refused refusals
	url := serve(t, plainServer(true), ours.ServerConfig{Observe: refused.observe})
	c := startClient(t, f.wrongClient, url)
	// initialize is in the clear, so that it comes through with any key. What
	// follows is not, and the SDK ends the whole client on HTTP status 400.
	if a, err := c.Do(aicc.Step{Do: "initialize"}); err == nil && a.Exception == "" {
		a, err = c.Do(aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": canary}, Timeout: 20})
		if err == nil && a.Exception == "" {
			t.Fatalf("a call came through with another key: %+v", a)
		}
	}
	if !refused.has(wire.OpenFailed) {
		t.Errorf("refused: %q, want %q", refused.all, wire.OpenFailed)
	}
}

// Ours with another server's key: their server fails inside, with HTTP status 500 or
// by dropping the connection, and no session comes about.
func TestOurClientWrongKey(t *testing.T) {
	f := newFolder(t)
	for _, plainInitialize := range []bool{false, true} {
		_, err := session(t, theirServer(t, f, "sse").URL, roundTripper(t, ours.ClientConfig{
			Key:             func(context.Context) (*rsa.PublicKey, error) { return &otherKey().PublicKey, nil },
			PlainInitialize: plainInitialize,
		}), nil)
		told := false
		for _, sign := range []string{"500", "Internal Server Error", string(wire.Unreachable)} {
			told = told || err != nil && strings.Contains(err.Error(), sign)
		}
		if !told {
			t.Errorf("plain initialize %t: %v, want it to fail with HTTP status 500, or without an answer", plainInitialize, err)
		}
	}
}

// A server without the profile: ours in required mode says nothing to it, in
// preferred mode goes on in plaintext, with results labelled so.
func TestOurClientPlainServer(t *testing.T) {
	f := newFolder(t)
	for _, endpoint := range []string{"plain-sse", "plain-json"} {
		t.Run(endpoint, func(t *testing.T) {
			w := tap(t, theirServer(t, f, endpoint).URL)
			for _, plainInitialize := range []bool{false, true} {
				_, err := session(t, w.URL, roundTripper(t, ours.ClientConfig{PlainInitialize: plainInitialize}), nil)
				if err == nil {
					t.Errorf("plain initialize %t: a session with a server that lacks the profile", plainInitialize)
				}
				if plainInitialize && !strings.Contains(err.Error(), string(wire.TrustMissing)) {
					t.Errorf("%v, want %s", err, wire.TrustMissing)
				}
			}
			unseen(t, w, "tools/", "notifications/initialized")

			s := mustSession(t, w.URL, roundTripper(t, ours.ClientConfig{Mode: protocol.ModePreferred}), nil)
			r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "plain"}})
			if err != nil || said(r) != "plain" {
				t.Fatalf("preferred: %+v, %v", r, err)
			}
			if state, _ := r.Meta[protocol.MetaStatus].(map[string]any); state["state"] != "unattested" {
				t.Errorf("label %v, want unattested", r.Meta)
			}
		})
	}
}

// Their client goes on in plaintext with a server that lacks the profile, and says
// so to nobody but its log: that is what somebody on the way makes of any server
// by taking the offer out. With ours in front in required mode, such a call is
// refused.
func TestTheirClientOfferTakenOut(t *testing.T) {
	f := newFolder(t)
	plain := tap(t, theirServer(t, f, "plain-json").URL)
	c := theirClient(t, f.client, plain.URL)
	if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "told-in-plaintext"}}); a.Text != "told-in-plaintext" {
		t.Errorf("their client: %+v", a)
	}
	if len(plain.Shows("told-in-plaintext")) == 0 {
		t.Error("their client has learned to refuse a server without the profile: say so in docs")
	}

	var refused refusals
	ourServer := serve(t, plainServer(true), ours.ServerConfig{Observe: refused.observe})
	strip := proxy(t, ourServer, stripping{})
	c = startClient(t, f.client, listen(t, strip))
	if a, err := c.Do(aicc.Step{Do: "initialize"}); err == nil && a.Exception == "" {
		if a, err := c.Do(aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": canary}, Timeout: 10}); err == nil && a.Exception == "" {
			t.Errorf("a call in plaintext came through: %+v", a)
		}
	}
	if !refused.has(wire.TrustRequired) {
		t.Errorf("refused: %q, want %s", refused.all, wire.TrustRequired)
	}
}

// stripping is somebody on the way who takes the offer out of what passes.
type stripping struct{}

func (stripping) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.Header.Get(wire.Header) == "" {
		resp.Body = &replacing{resp.Body}
	}
	return resp, err
}

type replacing struct{ io.ReadCloser }

// Read takes what comes in one piece, which answers to initialize do.
func (r *replacing) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	copy(p[:n], strings.ReplaceAll(string(p[:n]), `"trustProtocol"`, `"notAnythingXX"`))
	return n, err
}

// A client without the profile: ours refuses it in required mode, and serves it in
// preferred mode.
func TestPlainClientOurServer(t *testing.T) {
	for _, mode := range []protocol.Mode{protocol.ModeRequired, protocol.ModePreferred} {
		t.Run(string(mode), func(t *testing.T) {
			url := serve(t, plainServer(true), ours.ServerConfig{Mode: mode})
			c := startClient(t, "", url)
			a := do(t, c, aicc.Step{Do: "initialize"})
			if mode == protocol.ModeRequired {
				if a.Exception != "McpError" || !strings.Contains(a.Message, string(wire.TrustRequired)) {
					t.Errorf("initialize in plaintext: %+v, want %s", a, wire.TrustRequired)
				}
				return
			}
			if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "plain"}}); a.Text != "plain" {
				t.Errorf("preferred: %+v", a)
			}
		})
	}
}

// The session's server is gone, and another stands in its place with the same key:
// the old session fails in a way that clients know, a new one works.
func TestReconnect(t *testing.T) {
	f := newFolder(t)
	t.Run("their client", func(t *testing.T) {
		var refused refusals
		var mu sync.Mutex
		behind := plainServer(true)
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			h := behind
			mu.Unlock()
			h.ServeHTTP(w, r)
		}), ours.ServerConfig{Observe: refused.observe})
		old := theirClient(t, f.client, url)
		if a := do(t, old, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "one"}}); a.Text != "one" {
			t.Fatalf("%+v", a)
		}
		mu.Lock()
		behind = plainServer(true)
		mu.Unlock()
		if a, err := old.Do(aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "two"}, Timeout: 20}); err == nil && a.Exception != "McpError" {
			t.Errorf("a call in a session that is gone: %+v, want the SDK's error for that", a)
		}
		fresh := theirClient(t, f.client, url)
		if a := do(t, fresh, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "three"}}); a.Text != "three" {
			t.Errorf("%+v", a)
		}
		refused.none(t)
	})
	t.Run("our client", func(t *testing.T) {
		first := theirServer(t, f, "sse")
		target := first.URL
		var mu sync.Mutex
		rt := roundTripper(t, ours.ClientConfig{})
		url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			to := target
			mu.Unlock()
			proxy(t, to, http.DefaultTransport).ServeHTTP(w, r)
		}))
		s := mustSession(t, url, rt, nil)
		if got, err := echo(t, s, "one"); err != nil || got != "one" {
			t.Fatal(got, err)
		}
		if err := first.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := echo(t, s, "nobody"); err == nil {
			t.Error("a call came back from a server that is gone")
		}
		second := theirServer(t, f, "sse")
		mu.Lock()
		target = second.URL
		mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "two"}}); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call in a session that is gone: %v, want it refused at once", err)
		}
		if got, err := echo(t, mustSession(t, url, rt, nil), "three"); err != nil || got != "three" {
			t.Error(got, err)
		}
	})
}
