package gateway

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
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
