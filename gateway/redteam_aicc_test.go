package gateway

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// A server that demands client keys has no second door: in profile aicc-0.1
// nobody knows who calls.
func TestWeakerProfileIsNoWayAroundClientKeys(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		keys protocol.ClientKey
		want bool
	}{{protocol.ClientKeyDemanded, false}, {protocol.ClientKeyAccepted, true}} {
		ctx, cancel := context.WithCancel(t.Context())
		served := false
		err := Serve(ctx, ServeConfig{
			Listen: "127.0.0.1:0", Upstream: "http://127.0.0.1:1/mcp", Offer: protocol.Offer{Mode: protocol.ModeRequired},
			Clients: &protocol.ClientPolicy{Anchor: protocol.Pin(protocol.Thumbprint{1})}, ClientKeys: tt.keys,
			AICC: &AICCServer{Keys: func() []*rsa.PrivateKey { return []*rsa.PrivateKey{key} }, Also: true},
		}, func(Serving) { served = true; cancel() })
		cancel()
		if served != tt.want || !tt.want && (err == nil || !strings.Contains(err.Error(), "unknown")) {
			t.Errorf("client keys %s: served %v, %v", tt.keys, served, err)
		}
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A server that proved the extension stays with it, though a request beside the
// one that it was proven to fell back first.
func TestProvenServerIsNotTalkedDown(t *testing.T) {
	weaker := 0
	e := &either{limit: 1 << 10, log: slog.New(slog.DiscardHandler)}
	answer := func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
	}
	e.weaker = tripper(func(r *http.Request) (*http.Response, error) { weaker++; return answer(r) })
	e.native = tripper(func(r *http.Request) (*http.Response, error) {
		if !e.proven.Load() {
			return nil, protocol.Errorf(protocol.TrustMissing, "")
		}
		return answer(r)
	})
	ask := func() {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1:1/", strings.NewReader("{}"))
		if resp, err := e.RoundTrip(r); err != nil {
			t.Fatal(err)
		} else {
			resp.Body.Close()
		}
	}
	ask()
	if weaker != 1 {
		t.Fatalf("%d went by the weaker profile", weaker)
	}
	e.proven.Store(true) // to a request that was under way
	if ask(); weaker != 1 {
		t.Error("a proven server was spoken to by the weaker profile")
	}
}

// A server that has no answer for a moment is not taken for one without the
// extension from then on.
func TestHiccupIsNoDowngradeForGood(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0 // for the extension
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(wire.Header) == "" {
			asked++
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	cfg := ConnectConfig{URL: s.URL, Identity: s.URL, Anchor: protocol.Pin(protocol.Thumbprint{1}), Offer: protocol.Offer{Mode: protocol.ModeRequired},
		Logger: slog.New(slog.DiscardHandler), Header: http.Header{}, MaxMessage: 1 << 20, Profile: protocol.ProfileIdentity,
		AICC: &AICCClient{Key: func(context.Context) (*rsa.PublicKey, error) { return &key.PublicKey, nil }, Or: true}}
	rt, done, err := cfg.roundTripper()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for range 2 {
		before := asked
		r, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		r.Header.Set("Content-Type", "application/json")
		if resp, err := rt.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
		if asked == before {
			t.Error("the server was not asked for the extension again")
		}
	}
}
