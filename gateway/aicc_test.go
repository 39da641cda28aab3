package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func aiccServer(k *rsa.PrivateKey, also bool) *gateway.AICCServer {
	return &gateway.AICCServer{Keys: func() []*rsa.PrivateKey { return []*rsa.PrivateKey{k} }, Also: also}
}

func aiccClient(k *rsa.PrivateKey, or bool) *gateway.AICCClient {
	return &gateway.AICCClient{Key: func(context.Context) (*rsa.PublicKey, error) { return &k.PublicKey, nil }, Or: or}
}

// serveBoth serves what cfg says; serve is for servers with an identity.
func serveBoth(t *testing.T, cfg gateway.ServeConfig) *end {
	t.Helper()
	cfg.Offer, cfg.Listen = required, "127.0.0.1:0"
	return run(t, func(ctx context.Context, e *end, ready func()) error {
		return gateway.Serve(ctx, cfg, func(s gateway.Serving) {
			e.url = s.URL
			if s.Identity != nil {
				e.pin = s.Identity.Thumbprint()
			}
			ready()
		})
	})
}

// An attacker stands on the path. It reads all, and may change what it sees.
type attacker struct {
	url string

	mu      sync.Mutex
	seen    bytes.Buffer
	sealed  int // requests of profile aicc-0.1
	request func(body []byte) []byte
	answer  func(body []byte) []byte
}

func attack(t *testing.T, to string, request, answer func([]byte) []byte) *attacker {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{request: request, answer: answer}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	p := &httputil.ReverseProxy{Transport: tr, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
		body, _ := io.ReadAll(r.In.Body)
		a.mu.Lock()
		a.seen.Write(body)
		if r.In.Header.Get(wire.Header) != "" {
			a.sealed++
		}
		a.mu.Unlock()
		if a.request != nil {
			body = a.request(body)
		}
		r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}, ModifyResponse: func(r *http.Response) error {
		if a.answer == nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = a.answer(body)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Length")
		return nil
	}}
	s := httptest.NewServer(p)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	a.url = s.URL + gateway.Path
	return a
}

func without(names ...string) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, n := range names {
			b = bytes.ReplaceAll(b, []byte(n), bytes.Repeat([]byte("x"), len(n)))
		}
		return b
	}
}

const aiccCanary = "canary-27c4"

// TestUpgrade: a server offers both, a client takes the stronger, and nobody on
// the path talks either down.
//
// TMCP-23.8-3: A client MUST NOT speak this profile to a server in place of `org.trustedmcp/trust` unless its operator named both, and that server did not offer the other.
func TestUpgrade(t *testing.T) {
	key, other := rsaKey(t), rsaKey(t)
	both := func(upstream string) gateway.ServeConfig {
		return gateway.ServeConfig{Upstream: upstream, AICC: aiccServer(key, true)}
	}
	old := func(upstream string) gateway.ServeConfig {
		return gateway.ServeConfig{Upstream: upstream, AICC: aiccServer(key, false)}
	}
	native := func(upstream string) gateway.ServeConfig { return gateway.ServeConfig{Upstream: upstream} }
	for name, tt := range map[string]struct {
		server func(string) gateway.ServeConfig
		client *gateway.AICCClient // nil: the extension alone
		pin    protocol.Thumbprint // if not the server's own
		attack func([]byte) []byte // on answers
		works  bool
		aicc   bool // it goes by the profile
		why    string
	}{
		"both ends have both: the stronger":        {both, aiccClient(key, true), protocol.Thumbprint{}, nil, true, false, ""},
		"an old client":                            {both, aiccClient(key, false), protocol.Thumbprint{}, nil, true, true, ""},
		"a client of the extension alone":          {both, nil, protocol.Thumbprint{}, nil, true, false, ""},
		"an old server":                            {old, aiccClient(key, true), protocol.Thumbprint{}, nil, true, true, ""},
		"an old server, the extension alone":       {old, nil, protocol.Thumbprint{}, nil, false, false, "discover-error"},
		"a new server, both":                       {native, aiccClient(key, true), protocol.Thumbprint{}, nil, true, false, ""},
		"a new server, an old client":              {native, aiccClient(key, false), protocol.Thumbprint{}, nil, false, false, string(wire.PlaintextAnswer)},
		"the stronger offer is taken out":          {both, aiccClient(key, true), protocol.Thumbprint{}, without(protocol.ExtensionID), false, true, string(wire.Downgraded)},
		"both offers are taken out":                {both, aiccClient(key, true), protocol.Thumbprint{}, without(protocol.ExtensionID, "trustProtocol"), false, true, string(wire.Downgraded)},
		"taken out, the extension alone":           {both, nil, protocol.Thumbprint{}, without(protocol.ExtensionID), false, false, "trust-missing"},
		"another identity is no reason to go down": {both, aiccClient(key, true), protocol.Thumbprint{1}, nil, false, false, "identity-mismatch"},
		"another RSA key":                          {old, aiccClient(other, true), protocol.Thumbprint{}, nil, false, true, string(wire.PlaintextAnswer)},
	} {
		t.Run(name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			s := serveBoth(t, tt.server(upstream))
			a := attack(t, s.url, nil, tt.attack)
			cfg := gateway.ConnectConfig{URL: a.url, Identity: s.url, Anchor: protocol.Pin(s.pin), Offer: required, AICC: tt.client}
			if tt.pin != (protocol.Thumbprint{}) {
				cfg.Anchor = protocol.Pin(tt.pin)
			}
			c := run(t, func(ctx context.Context, e *end, ready func()) error {
				return gateway.Connect(ctx, cfg, "127.0.0.1:0", func(url string) {
					e.url = url
					ready()
				})
			})
			cs, err := tryDial(t, c.url)
			if err == nil {
				err = echo(t.Context(), cs, aiccCanary)
				cs.Close()
			}
			if tt.works != (err == nil) || tt.works != (calls.Load() == 1) {
				t.Errorf("%d calls, %v", calls.Load(), err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.why) {
				t.Errorf("failed for %q, want %q", err, tt.why)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if bytes.Contains(a.seen.Bytes(), []byte(aiccCanary)) {
				t.Error("the call is readable on the path")
			}
			if tt.works && tt.aicc != (a.sealed > 0) {
				t.Errorf("%d requests went by profile %s", a.sealed, wire.Profile)
			}
		})
	}
}

// Evidence tells whether the weaker profile is served too.
func TestConfigDigestTellsOfTheWeakerProfile(t *testing.T) {
	without, with := gateway.ServeConfig{}, gateway.ServeConfig{AICC: &gateway.AICCServer{Also: true}}
	if bytes.Equal(without.ConfigDigest(), with.ConfigDigest()) {
		t.Error("evidence is the same with the weaker profile and without")
	}
}

func tryDial(t *testing.T, url string) (*mcp.ClientSession, error) {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
	return c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: tr}, MaxRetries: -1}, nil)
}
