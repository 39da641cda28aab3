package gateway_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/protocol"
)

// A path is a proxy that keeps what goes through it.
type path struct {
	url string
	mu  sync.Mutex
	all bytes.Buffer
}

func newPath(t *testing.T, to string) *path {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &path{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
		b, _ := io.ReadAll(r.In.Body)
		p.mu.Lock()
		p.all.Write(b)
		p.mu.Unlock()
		r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	}}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	p.url = srv.URL + gateway.Path
	return p
}

// nothingOfTheUser wants that no call went by, sealed or not.
func (p *path) nothingOfTheUser(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range []string{secret, `"trust/call"`, `"tools/call"`} {
		if strings.Contains(p.all.String(), s) {
			t.Errorf("%s was sent", s)
		}
	}
	if p.all.Len() == 0 {
		t.Error("nothing at all was sent, so nothing is shown")
	}
}

// remote is a verifier with a key of its own.
func remote(t *testing.T, wrap func(http.Handler) http.Handler) (url string, key crypto.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i, err := verifier.NewIssuer(appraiser(t, goodCode), k, issuer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.NewServer(verifier.ServerConfig{Issuer: i})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(wrap(v))
	t.Cleanup(srv.Close)
	return srv.URL, &k.PublicKey
}

const issuer = "the verifier of these tests"

func asIs(h http.Handler) http.Handler { return h }

// With a remote verifier, nothing of the user leaves before it affirmed.
func TestRemoteVerifier(t *testing.T) {
	_, otherKey := remote(t, asIs)
	release := make(chan struct{})
	slow := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		})
	}
	t.Cleanup(func() { close(release) })
	down := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	}
	busy := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	for _, tt := range []struct {
		name  string
		wrap  func(http.Handler) http.Handler
		key   crypto.PublicKey
		image [32]byte
		want  protocol.Reason
		tells string
	}{
		{name: "up", wrap: asIs, image: good},
		{name: "other code", wrap: asIs, image: evil, want: protocol.EvidenceRefused, tells: "policy-claim-tdx.mrtd"},
		{name: "down", wrap: down, image: good, want: protocol.EvidenceRefused, tells: "gave no result"},
		{name: "busy", wrap: busy, image: good, want: protocol.EvidenceRefused, tells: "503"},
		{name: "slow", wrap: slow, image: good, want: protocol.EvidenceRefused, tells: "deadline"},
		{name: "another key", wrap: asIs, key: otherKey, image: good, want: protocol.EvidenceRefused, tells: "not believed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, key := remote(t, tt.wrap)
			if tt.key != nil {
				key = tt.key
			}
			client, err := verifier.NewClient(verifier.ClientConfig{URL: u, Keys: []crypto.PublicKey{key}, Simulated: true, Timeout: 300 * time.Millisecond})
			if tt.want == "" && err == nil {
				client, err = verifier.NewClient(verifier.ClientConfig{URL: u, Keys: []crypto.PublicKey{key}, Simulated: true})
			}
			if err != nil {
				t.Fatal(err)
			}
			upstream, calls, _ := tools(t)
			to := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, tt.image, nil)})
			p := newPath(t, to.url)
			c := connectTo(t, to, gateway.ConnectConfig{URL: p.url, Identity: to.url, Profile: protocol.ProfileAttested, Appraiser: client})
			err = try(t, over(c.url))
			check(t, err, calls.Load(), tt.want)
			if tt.want != "" {
				p.nothingOfTheUser(t)
				if err != nil && !strings.Contains(err.Error(), tt.tells) {
					t.Errorf("%v; want it to tell %q", err, tt.tells)
				}
			}
		})
	}
}

// A server shows the result of a verifier in place of its evidence.
func TestPassport(t *testing.T) {
	u, key := remote(t, asIs)
	_, otherKey := remote(t, asIs)
	passport := func(key crypto.PublicKey, name string) appraise.Passport {
		t.Helper()
		id, err := protocol.PublicKeyThumbprint(key)
		if err != nil {
			t.Fatal(err)
		}
		p, err := appraise.Tokens(appraise.Issuer{Kind: token.EAR, Keys: eat.Keys{{ID: id.String(), Public: key}}, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ask, err := verifier.NewClient(verifier.ClientConfig{URL: u, Keys: []crypto.PublicKey{key}, Simulated: true})
	if err != nil {
		t.Fatal(err)
	}
	a := machine(t, good, nil)
	a.Attester = ask.Passport(a.Attester, time.Now)
	for _, tt := range []struct {
		name      string
		carrier   protocol.Carrier
		passports []appraise.Passport
		want      protocol.Reason
	}{
		{name: "accepted", passports: []appraise.Passport{passport(key, issuer)}},
		{name: "accepted, inline", carrier: protocol.Inline, passports: []appraise.Passport{passport(key, issuer)}},
		{name: "accepted, http", carrier: protocol.HTTP, passports: []appraise.Passport{passport(key, issuer)}},
		{name: "another key", passports: []appraise.Passport{passport(otherKey, issuer)}, want: protocol.EvidenceRefused},
		{name: "another issuer", passports: []appraise.Passport{passport(key, "another")}, want: protocol.EvidenceRefused},
		{name: "none accepted", want: protocol.EvidenceRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			to := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: a})
			p := newPath(t, to.url)
			c := connectTo(t, to, gateway.ConnectConfig{URL: p.url, Identity: to.url, Carrier: tt.carrier, Profile: protocol.ProfileAttested, Appraiser: appraiser(t, anyCode, tt.passports...)})
			check(t, try(t, over(c.url)), calls.Load(), tt.want)
			if tt.want != "" {
				p.nothingOfTheUser(t)
			}
		})
	}

	// A verifier that does not affirm is told at the start, not at the first call.
	upstream, _, _ := tools(t)
	b := machine(t, evil, nil)
	b.Attester = ask.Passport(b.Attester, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = gateway.Serve(ctx, gateway.ServeConfig{Listen: "127.0.0.1:0", Upstream: upstream, Attestation: b, Offer: required}, func(gateway.Serving) { cancel() })
	if err == nil || !strings.Contains(err.Error(), string(protocol.CannotAttest)) {
		t.Errorf("got %v, want %s", err, protocol.CannotAttest)
	}
}
