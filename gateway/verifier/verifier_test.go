package verifier

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
	"github.com/trustedmcp/tmcp/protocol"
)

var now = sim.Epoch.Add(time.Hour)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAppraiser(t testing.TB) *appraise.Appraiser {
	t.Helper()
	a, err := appraisal.Load(t.Context(), appraisal.Options{Simulator: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A fault is what an issuer does wrong.
type fault struct {
	Issuer
	issue func(Submission) (string, error)
}

func (f fault) Issue(ctx context.Context, s Submission) (string, error) {
	if f.issue != nil {
		return f.issue(s)
	}
	return f.Issuer.Issue(ctx, s)
}

// setup is a server over TLS and the key of its results.
func setup(t testing.TB, cfg ServerConfig) (*httptest.Server, *ecdsa.PrivateKey, *Server) {
	t.Helper()
	key := newKey(t)
	if cfg.Issuer == nil {
		is, err := NewIssuer(newAppraiser(t), key, "https://verifier.example")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Issuer = is
	}
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return now }
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(s)
	t.Cleanup(srv.Close)
	return srv, key, s
}

func newClient(t testing.TB, srv *httptest.Server, key crypto.PublicKey, edit ...func(*ClientConfig)) *Client {
	t.Helper()
	cfg := ClientConfig{URL: srv.URL, Keys: []crypto.PublicKey{key}, Simulated: true, HTTP: srv.Client()}
	for _, e := range edit {
		e(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// attest makes simulated evidence.
func attest(t testing.TB, rd [64]byte, o sim.Options) protocol.Evidence {
	t.Helper()
	tee, err := sim.Default().TEE(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tee.Attest(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Evidence{CMW: c, ReportData: rd, Now: now}
}

var reportData = [64]byte{1, 2, 3}

func TestClientAndServer(t *testing.T) {
	srv, key, _ := setup(t, ServerConfig{})
	c := newClient(t, srv, key.Public())
	module, _ := policies.Module("simulated")
	simulated := protocol.Digest(sha256.Sum256(module))
	for _, o := range []sim.Options{{Kind: evidence.TDX}, {Kind: evidence.TDX, GPUs: 1}} {
		a, err := c.Appraise(t.Context(), attest(t, reportData, o))
		if err != nil {
			t.Fatal(err)
		}
		if !a.Simulated || a.Policy != simulated || a.Expires.IsZero() || !strings.Contains(a.Summary, "by the verifier 127.0.0.1") {
			t.Errorf("%s: policy %x", a.Summary, a.Policy)
		}
		if _, err := ear.Verify(a.Result, &ear.Options{Keys: eat.Keys{{ID: keyID(a.Result), Public: key.Public()}}, Now: now, Nonce: reportData[:]}); err != nil {
			t.Error(err)
		}
	}
}

// TestFailClosed (N24): whatever goes wrong on the way, there is no result.
func TestFailClosed(t *testing.T) {
	// TMCP-19.6-5: A relying party MUST fail closed when the remote verifier can't be reached,
	// answers late, or answers with anything but an affirming result for its nonce.
	good := func() protocol.Evidence { return attest(t, reportData, sim.Options{}) }
	type env struct {
		edit    func(*ClientConfig)
		handler func(next http.Handler) http.Handler
		issue   func(key crypto.Signer, s Submission) (string, error)
		e       protocol.Evidence
	}
	result := func(key crypto.Signer, nonce []byte, edit func(*ear.Result)) (string, error) {
		v := ear.Vector{}
		for i := range v {
			v[i] = 2
		}
		sub := &ear.Appraisal{Vector: &v, Extension: &ear.Extension{Simulated: true}}
		sub.Derive()
		r := &ear.Result{IssuedAt: now, Nonce: nonce, Expires: now.Add(time.Hour), Submods: map[string]*ear.Appraisal{"cpu": sub}, Verifier: ear.VerifierID{Developer: "https://example.com", Build: "1"}}
		if edit != nil {
			edit(r)
		}
		b, err := r.SignJWT(key, "")
		return string(b), err
	}
	answer := func(status int, mediaType, body string) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", mediaType)
				w.Header().Set("Location", "session/1")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			})
		}
	}
	nonce := base64.StdEncoding.EncodeToString(reportData[:])
	for name, tt := range map[string]struct {
		env
		want string // "": accepted
	}{
		"all is well": {env{issue: func(k crypto.Signer, s Submission) (string, error) { return result(k, s.Nonce, nil) }}, ""},
		"another's nonce": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, bytes.Repeat([]byte{9}, 64), nil)
		}}, "does not echo the nonce"},
		"no nonce":    {env{issue: func(k crypto.Signer, s Submission) (string, error) { return result(k, nil, nil) }}, "does not echo the nonce"},
		"another key": {env{issue: func(_ crypto.Signer, s Submission) (string, error) { return result(newKey(t), s.Nonce, nil) }}, "not believed"},
		"old result": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, s.Nonce, func(r *ear.Result) { r.IssuedAt = now.Add(-time.Hour) })
		}}, "not believed"},
		"result of tomorrow": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, s.Nonce, func(r *ear.Result) { r.IssuedAt = now.Add(24 * time.Hour) })
		}}, "not believed"},
		"expired result": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, s.Nonce, func(r *ear.Result) { r.Expires = now.Add(-time.Second); r.IssuedAt = now.Add(-time.Minute) })
		}}, "not believed"},
		"contraindicated": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, s.Nonce, func(r *ear.Result) {
				r.Submods["cpu"].Status = ear.Contraindicated
				r.Submods["cpu"].Extension.Checks.Add("pck-chain", evidence.Fail, "revoked")
			})
		}}, "cpu is contraindicated; pck-chain: revoked"},
		"one of two is bad": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, s.Nonce, func(r *ear.Result) {
				r.Submods["gpu"] = &ear.Appraisal{Status: ear.Contraindicated, Vector: r.Submods["cpu"].Vector}
			})
		}}, "gpu is contraindicated"},
		"genuine where simulated is wanted": {env{issue: func(k crypto.Signer, s Submission) (string, error) {
			return result(k, s.Nonce, func(r *ear.Result) { r.Submods["cpu"].Extension.Simulated = false })
		}}, "genuine"},
		"simulated where genuine is wanted": {env{
			issue: func(k crypto.Signer, s Submission) (string, error) { return result(k, s.Nonce, nil) },
			edit:  func(c *ClientConfig) { c.Simulated = false },
		}, "proves nothing"},
		"a warning": {env{
			issue: func(k crypto.Signer, s Submission) (string, error) {
				return result(k, s.Nonce, func(r *ear.Result) {
					r.Submods["cpu"].Status, r.Submods["cpu"].Extension.Simulated = ear.Warning, false
				})
			},
			edit: func(c *ClientConfig) { c.Simulated = false },
		}, "cpu is warning"},
		"a warning that is accepted": {env{
			issue: func(k crypto.Signer, s Submission) (string, error) {
				return result(k, s.Nonce, func(r *ear.Result) {
					r.Submods["cpu"].Status, r.Submods["cpu"].Extension.Simulated = ear.Warning, false
				})
			},
			edit: func(c *ClientConfig) { c.Simulated, c.Warnings = false, true },
		}, ""},
		"no token":          {env{issue: func(crypto.Signer, Submission) (string, error) { return "yes", nil }}, "not believed"},
		"empty token":       {env{issue: func(crypto.Signer, Submission) (string, error) { return "", nil }}, "without a result"},
		"appraisal fails":   {env{issue: func(crypto.Signer, Submission) (string, error) { return "", errors.New("no") }}, "500"},
		"appraisal panics":  {env{issue: func(crypto.Signer, Submission) (string, error) { panic("no") }}, "500"},
		"bad evidence":      {env{e: protocol.Evidence{CMW: []byte{0x83, 0x60, 0x40, 0x04}, ReportData: reportData, Now: now}}, "cpu is contraindicated"},
		"other report data": {env{e: func() protocol.Evidence { e := good(); e.ReportData[5] ^= 1; return e }()}, "cpu is contraindicated"},
		"another world's TEE": {env{e: func() protocol.Evidence {
			tee, _ := sim.Other().TEE(sim.Options{})
			c, _ := tee.Attest(t.Context(), reportData)
			return protocol.Evidence{CMW: c, ReportData: reportData, Now: now}
		}()}, "cpu is contraindicated"},
		"teapot":                     {env{handler: answer(418, "text/plain", "")}, "418"},
		"redirect":                   {env{handler: answer(302, "text/plain", "")}, "302"},
		"login page":                 {env{handler: answer(201, "text/html", "<html>")}, "text/html"},
		"junk":                       {env{handler: answer(201, TypeSession, "{")}, "malformed"},
		"duplicate member":           {env{handler: answer(201, TypeSession, `{"nonce":"`+nonce+`","nonce":"`+nonce+`"}`)}, "malformed"},
		"huge answer":                {env{handler: answer(201, TypeSession, strings.Repeat(" ", maxAnswer+1))}, "of at most"},
		"session with another nonce": {env{handler: answer(201, TypeSession, `{"nonce":"AAAAAAAAAAA=","status":"complete","result":"x"}`)}, "another nonce"},
		"takes nothing that we have": {env{handler: answer(201, TypeSession, `{"nonce":"`+nonce+`","accept":["text/plain"]}`)}, "it takes"},
		"session elsewhere": {env{handler: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", TypeSession)
				w.Header().Set("Location", "https://evil.example/session/1")
				w.WriteHeader(201)
				fmt.Fprintf(w, `{"nonce":%q}`, nonce)
			})
		}}, "elsewhere"},
		"never answers": {env{
			handler: func(http.Handler) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			},
			edit: func(c *ClientConfig) { c.Timeout = 50 * time.Millisecond },
		}, "deadline exceeded"},
		"never finishes": {env{
			handler: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == PathNewSession {
						next.ServeHTTP(w, r)
						return
					}
					w.Header().Set("Content-Type", TypeSession)
					if r.Method == http.MethodPost {
						w.WriteHeader(http.StatusAccepted)
					}
					fmt.Fprintf(w, `{"nonce":%q,"status":"processing"}`, nonce)
				})
			},
			edit: func(c *ClientConfig) { c.Timeout = 300 * time.Millisecond },
		}, "at the end of the time allowed"},
		"finishes later": {env{
			issue: func(k crypto.Signer, s Submission) (string, error) { return result(k, s.Nonce, nil) },
			handler: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost || r.URL.Path == PathNewSession {
						next.ServeHTTP(w, r)
						return
					}
					next.ServeHTTP(httptest.NewRecorder(), r) // the result is there for a GET
					w.Header().Set("Content-Type", TypeSession)
					w.WriteHeader(http.StatusAccepted)
					fmt.Fprintf(w, `{"nonce":%q,"status":"processing"}`, nonce)
				})
			},
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			is, err := NewIssuer(newAppraiser(t), key, "https://verifier.example")
			if err != nil {
				t.Fatal(err)
			}
			f := fault{Issuer: is}
			if tt.issue != nil {
				f.issue = func(s Submission) (string, error) { return tt.issue(key, s) }
			}
			s, err := NewServer(ServerConfig{Issuer: f, Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			var h http.Handler = s
			if tt.handler != nil {
				h = tt.handler(s)
			}
			srv := httptest.NewTLSServer(h)
			defer srv.Close()
			edit := tt.edit
			if edit == nil {
				edit = func(*ClientConfig) {}
			}
			e := tt.e
			if e.CMW == nil {
				e = good()
			}
			a, err := newClient(t, srv, key.Public(), edit).Appraise(t.Context(), e)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || a != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v %v, want %q", a, err, tt.want)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		srv, key, _ := setup(t, ServerConfig{})
		c := newClient(t, srv, key.Public())
		srv.Close()
		if a, err := c.Appraise(t.Context(), good()); err == nil || a != nil {
			t.Error(a)
		}
	})
}

func TestClientConfig(t *testing.T) {
	key := newKey(t).Public()
	for _, tt := range []struct {
		url string
		ok  bool
	}{
		{"https://verifier.example", true}, {"https://verifier.example/challenge-response/v1/newSession", true},
		{"http://127.0.0.1:8080", true}, {"http://[::1]:1", true}, {"http://localhost", true},
		{"http://verifier.example", false}, {"ftp://x", false}, {"verifier.example", false}, {"https://x?y", false}, {"https://u:p@x", false}, {"", false},
	} {
		c, err := NewClient(ClientConfig{URL: tt.url, Keys: []crypto.PublicKey{key}})
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.url, err)
		} else if err == nil && c.new.Path != PathNewSession {
			t.Errorf("%s: %s", tt.url, c.new)
		}
	}
	if _, err := NewClient(ClientConfig{URL: "https://x"}); err == nil {
		t.Error("a client without a pinned key")
	}
}

// request is one request to the server.
func request(t testing.TB, srv *httptest.Server, method, path, mediaType string, body []byte, header ...string) (*http.Response, map[string]jsontext.Value) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]jsontext.Value
	_ = json.Unmarshal(b, &m)
	return res, m
}

func open(t testing.TB, srv *httptest.Server) (path string, nonce []byte) {
	t.Helper()
	res, m := request(t, srv, "POST", PathNewSession, "", nil)
	if res.StatusCode != 201 || res.Header.Get("Content-Type") != TypeSession || string(m["status"]) != `"waiting"` {
		t.Fatal(res.Status, m)
	}
	at, err := res.Location() // resolves it
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m["nonce"], &nonce); err != nil {
		t.Fatal(err)
	}
	return at.Path, nonce
}

func TestServer(t *testing.T) {
	srv, _, _ := setup(t, ServerConfig{MaxEvidence: 64 << 10})
	for _, tt := range []struct {
		query string
		code  int
		size  int
	}{
		{"", 201, 32}, {"?nonceSize=8", 201, 8}, {"?nonceSize=64", 201, 64},
		{"?nonceSize=7", 400, 0}, {"?nonceSize=65", 400, 0}, {"?nonceSize=x", 400, 0}, {"?nonceSize=8&nonceSize=9", 400, 0},
		{"?nonce=AAAAAAAAAAA", 201, 8}, {"?nonce=AAAAAAAAAAA%3D", 201, 8}, {"?nonce=AAAAAAAAAAB", 400, 0}, {"?nonce=AAAA", 400, 0},
		{"?nonce=" + strings.Repeat("A", 88), 400, 0}, {"?nonce=AAAAAAAAAAA&nonceSize=8", 400, 0}, {"?nonce=%25", 400, 0},
	} {
		res, m := request(t, srv, "POST", PathNewSession+tt.query, "", nil)
		var nonce []byte
		_ = json.Unmarshal(m["nonce"], &nonce)
		if res.StatusCode != tt.code || len(nonce) != tt.size {
			t.Errorf("%s: %s, a nonce of %d bytes", tt.query, res.Status, len(nonce))
		}
		if tt.code == 400 && res.Header.Get("Content-Type") != typeProblem {
			t.Errorf("%s: %s", tt.query, res.Header.Get("Content-Type"))
		}
	}

	at, nonce := open(t, srv)
	var rd [64]byte
	copy(rd[:], nonce)
	good := attest(t, rd, sim.Options{}).CMW
	for _, tt := range []struct {
		name, method, path, mediaType string
		body                          []byte
		code                          int
	}{
		{"wrong type", "POST", at, "text/plain", good, 415},
		{"no type", "POST", at, "", good, 415},
		{"no body", "POST", at, cmw.TypeCBOR, nil, 400},
		{"huge", "POST", at, cmw.TypeCBOR, make([]byte, 64<<10+1), 413},
		{"no session", "POST", pathSession + "0", cmw.TypeCBOR, good, 404},
		{"show none", "GET", pathSession + "0", "", nil, 404},
		{"put", "PUT", at, cmw.TypeCBOR, good, 405},
		{"waiting", "GET", at, "", nil, 200},
		{"taken", "POST", at, cmw.TypeCBOR, good, 200},
		// TMCP-19.6-6: A verifier MUST take each nonce of its own once.
		{"taken again", "POST", at, cmw.TypeCBOR, good, 409},
		{"shown", "GET", at, "", nil, 200},
		{"deleted", "DELETE", at, "", nil, 204},
		{"gone", "GET", at, "", nil, 404},
		{"deleted again", "DELETE", at, "", nil, 404},
	} {
		res, m := request(t, srv, tt.method, tt.path, tt.mediaType, tt.body)
		if res.StatusCode != tt.code {
			t.Errorf("%s: %s %s", tt.name, res.Status, m)
		}
		if tt.name == "shown" && (string(m["status"]) != `"complete"` || len(m["result"]) < 100) {
			t.Errorf("%s", m)
		}
	}
	if res, _ := request(t, srv, "POST", PathNewSession, "", nil, "Accept", "text/html"); res.StatusCode != 406 {
		t.Error(res.Status)
	}
	if res, _ := request(t, srv, "POST", PathNewSession, "", nil, "Origin", "https://evil.example"); res.StatusCode != 403 {
		t.Error(res.Status)
	}
}

// TestOtherSessionsNonce: evidence for one session is no evidence in another.
func TestOtherSessionsNonce(t *testing.T) {
	// TMCP-19.6-7: A verifier MUST NOT appraise evidence against a nonce of another session.
	srv, key, _ := setup(t, ServerConfig{})
	_, other := open(t, srv)
	at, _ := open(t, srv)
	own, ownNonce := open(t, srv)
	for _, tt := range []struct {
		at    string
		nonce []byte
		want  ear.Tier
	}{{at, other, ear.Contraindicated}, {own, ownNonce, ear.Warning}} { // a warning, since it is simulated
		var rd [64]byte
		copy(rd[:], tt.nonce)
		_, m := request(t, srv, "POST", tt.at, cmw.TypeCBOR, attest(t, rd, sim.Options{}).CMW)
		var token string
		if err := json.Unmarshal(m["result"], &token); err != nil {
			t.Fatal(err, m)
		}
		r, err := ear.Verify([]byte(token), &ear.Options{Keys: eat.Keys{{ID: keyID([]byte(token)), Public: key.Public()}}, Now: now})
		if err != nil || r.Overall() != tt.want {
			t.Errorf("%v %v, want %v", err, r, tt.want)
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	var at atomic.Int64
	clock := func() time.Time { return now.Add(time.Duration(at.Load())) }
	srv, _, s := setup(t, ServerConfig{MaxSessions: 3, Lifetime: time.Minute, Now: clock})
	var first string
	for range 3 {
		first, _ = open(t, srv)
	}
	res, _ := request(t, srv, "POST", PathNewSession, "", nil)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Error(res.Status)
	}
	at.Store(int64(time.Minute))
	if res, _ := request(t, srv, "GET", first, "", nil); res.StatusCode != 404 {
		t.Errorf("a session that is over: %s", res.Status)
	}
	if res, _ := request(t, srv, "POST", PathNewSession, "", nil); res.StatusCode != 201 {
		t.Error(res.Status)
	}
	if len(s.sessions) != 1 {
		t.Errorf("%d sessions", len(s.sessions))
	}
}

// TestOneOfManyWins: of evidence that comes at the same time one is taken.
func TestOneOfManyWins(t *testing.T) {
	srv, _, _ := setup(t, ServerConfig{})
	at, nonce := open(t, srv)
	var rd [64]byte
	copy(rd[:], nonce)
	e := attest(t, rd, sim.Options{}).CMW
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if res, _ := request(t, srv, "POST", at, cmw.TypeCBOR, e); res.StatusCode == 200 {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d were taken", won.Load())
	}
}

func TestDiscovery(t *testing.T) {
	srv, key, _ := setup(t, ServerConfig{Version: "1"})
	res, m := request(t, srv, "GET", PathDiscovery, "", nil)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != TypeDiscovery || string(m["service-state"]) != `"READY"` {
		t.Error(res.Status, m)
	}
	var jwk struct{ Alg, Kty, Crv, X, Y, Kid, Use string }
	if err := json.Unmarshal(m["ear-verification-key"], &jwk, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	point, _ := key.PublicKey.Bytes()
	if jwk.Alg != "ES256" || jwk.X != base64.RawURLEncoding.EncodeToString(point[1:33]) || jwk.Y != base64.RawURLEncoding.EncodeToString(point[33:]) {
		t.Errorf("%+v", jwk)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	is, err := NewIssuer(newAppraiser(t), ed, "https://verifier.example")
	if err != nil || !strings.Contains(string(is.Key()), `"crv":"Ed25519"`) {
		t.Error(err)
	}
	if _, err := NewIssuer(nil, ed, "https://verifier.example"); err == nil {
		t.Error("an issuer without an appraiser")
	}
	if _, err := NewServer(ServerConfig{}); err == nil {
		t.Error("a server without an issuer")
	}
}

func TestServe(t *testing.T) {
	is, err := NewIssuer(newAppraiser(t), newKey(t), "https://verifier.example")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(ServerConfig{Issuer: is})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	res, err := http.Get("http://" + l.Addr().String() + PathDiscovery)
	if err != nil || res.StatusCode != 200 {
		t.Error(err)
	}
	res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestVeraisonClient speaks as Veraison's client does (apiclient 0.3.0, which
// the module in internal/oracle/apiclient runs): a padded nonce in base64url, an
// Accept header, the older name of CMWs; and reads what it reads.
func TestVeraisonClient(t *testing.T) {
	srv, key, _ := setup(t, ServerConfig{})
	nonce := []byte("0123456789abcdef")
	res, m := request(t, srv, "POST", PathNewSession+"?nonce="+strings.ReplaceAll(base64.URLEncoding.EncodeToString(nonce), "=", "%3D"), "", nil, "Accept", TypeSession)
	var s struct {
		Nonce  []byte   `json:"nonce"`
		Accept []string `json:"accept"`
	}
	if b, err := json.Marshal(m); err != nil || json.Unmarshal(b, &s) != nil || res.StatusCode != 201 || !bytes.Equal(s.Nonce, nonce) {
		t.Fatal(res.Status, m)
	}
	at, err := res.Location()
	if err != nil {
		t.Fatal(err)
	}
	var rd [64]byte
	copy(rd[:], nonce)
	for _, mt := range s.Accept {
		if mt == typeOldCMW {
			res, m = request(t, srv, "POST", at.Path, mt, attest(t, rd, sim.Options{}).CMW, "Accept", TypeSession)
		}
	}
	if string(m["status"]) != `"complete"` {
		t.Fatal(res.Status, m)
	}
	var token string
	if err := json.Unmarshal(m["result"], &token); err != nil {
		t.Fatal(err)
	}
	r, err := ear.Verify([]byte(token), &ear.Options{Keys: eat.Keys{{ID: keyID([]byte(token)), Public: key.Public()}}, Now: now, Nonce: nonce})
	if err != nil || r.Overall() != ear.Warning { // simulated
		t.Error(err, r)
	}
}
