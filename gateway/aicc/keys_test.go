package aicc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/aicc"
	"github.com/trustedmcp/tmcp/gateway/aicc/standin"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// rsaKeys are made once: each takes a while.
var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	keys := make([]*rsa.PrivateKey, 6)
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return keys
})

// direct is a client that calls a handler without a network.
func direct(h http.Handler) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		rec := httptest.NewRecorder()
		in := r.Clone(r.Context())
		if in.Host == "" {
			in.Host = in.URL.Host
		}
		h.ServeHTTP(rec, in)
		return rec.Result(), nil
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func gateway() *aicc.Gateway {
	return &aicc.Gateway{AccessKey: "AK", SecretKey: "SK", Service: "pcc"}
}

// stand makes a stand-in for the service "weather" with a key that can change.
func stand(t testing.TB, edit func(*standin.Config)) (*standin.Server, *atomic.Pointer[rsa.PrivateKey]) {
	t.Helper()
	key := &atomic.Pointer[rsa.PrivateKey]{}
	key.Store(rsaKeys()[1])
	cfg := standin.Config{Key: rsaKeys()[0], Gateway: gateway(), Policies: map[string]standin.Policy{"p": {}, "q": {Images: [][32]byte{{1}}}}, Services: map[string]standin.Service{
		"weather": {Public: func(context.Context) (*rsa.PublicKey, error) { return &key.Load().PublicKey, nil }},
		"app":     {},
	}}
	if edit != nil {
		edit(&cfg)
	}
	s, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

func clientConfig() aicc.ClientConfig {
	return aicc.ClientConfig{RAURL: "http://127.0.0.1:1", RAType: aicc.RATypeService, ServiceName: "weather", PolicyID: "p", Gateway: gateway()}
}

func options(s *standin.Server) aicc.Options {
	return aicc.Options{TokenKeys: eat.Keys{{Public: s.Public()}}, AllowSimulated: true, HTTP: direct(s)}
}

func reason(err error) wire.Reason {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Reason
	}
	return ""
}

func TestAttested(t *testing.T) {
	for name, edit := range map[string]func(*standin.Config){
		"plain":   nil,
		"merkle":  func(c *standin.Config) { c.Merkle = true },
		"own key": func(c *standin.Config) { c.EmbedKey = true },
		"kid":     func(c *standin.Config) { c.KeyID = "k1" },
		"nodes": func(c *standin.Config) {
			w := c.Services["weather"]
			w.Nodes = 3
			c.Services["weather"] = w
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, key := stand(t, edit)
			k, err := aicc.NewClientKeys(clientConfig(), options(s))
			if err != nil {
				t.Fatal(err)
			}
			if k.Attested() {
				t.Error("attested before anything was asked")
			}
			got, info, err := k.Key(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(&key.Load().PublicKey) || !info.Attested || !info.Simulated || info.Failure != "" || !slices.Equal(info.Policies, []string{"p"}) || info.Thumbprint != wire.Thumbprint(got) || !k.Attested() {
				t.Errorf("%+v", info)
			}
			if name == "nodes" && !slices.Equal(info.Nodes, []string{"weather-0", "weather-1", "weather-2"}) {
				t.Errorf("nodes %v", info.Nodes)
			}
			if !strings.Contains(info.Label(), "SIMULATED") {
				t.Errorf("the label is %q", info.Label())
			}
		})
	}
}

// TestFaults: whatever the service does wrong, its key is not used.
//
// TMCP-23.5-1: A client MUST seal to no key but one from a file that its operator named, or one that was attested as section 23.6 says.
func TestFaults(t *testing.T) {
	s, _ := stand(t, nil)
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		s.ServeHTTP(w, r)
	}))
	defer srv.Close()
	want := map[standin.Fault]string{
		standin.WrongNonce: "another nonce", standin.WrongKey: "another key",
		standin.ProofLeaf: "another leaf", standin.ProofPath: "does not lead", standin.ProofSize: "the path ends above", standin.ProofPlain: "security", standin.ProofHash: "sha512", standin.ProofEmpty: "is missing",
		standin.Expired: "expiry", standin.NoExpiry: "expiry", standin.OtherIssuer: "issuer",
		standin.BadSignature: "signature", standin.NoSignature: "signature", standin.AlgNone: "not allowed", standin.AlgHS384: "not allowed", standin.AlgRS256: "RS384",
		standin.OtherSigner: "signature", standin.OwnKeyHeader: "does not choose", standin.OwnKeyURL: "does not choose", standin.OwnKeyClaim: "the token carries itself proves nothing", standin.ForeignKey: "own-key",
		standin.NoPolicies: "policies-matched", standin.OtherPolicies: `"p" is not among`, standin.NoToken: "token",
		standin.NodesDiffer: "different keys", standin.SecondBad: `node "weather-0-other"`,
		standin.Huge: "more than", standin.Redirect: "307", standin.ServerError: "500", standin.NotJSON: "JSON",
	}
	for _, f := range standin.Faults() {
		t.Run(string(f), func(t *testing.T) {
			if err := s.SetFault(f); err != nil {
				t.Fatal(err)
			}
			cfg, o := clientConfig(), options(s)
			cfg.RAURL, o.HTTP = srv.URL, nil
			k, err := aicc.NewClientKeys(cfg, o)
			if err != nil {
				t.Fatal(err)
			}
			asked.Store(0)
			key, _, err := k.Key(t.Context())
			if err == nil || key != nil || reason(err) != wire.NoKey || want[f] == "" || !strings.Contains(err.Error(), want[f]) {
				t.Errorf("key %v, error %v; want %q", key != nil, err, want[f])
			}
			if k.Attested() || asked.Load() != 1 {
				t.Errorf("attested %v, asked %d times", k.Attested(), asked.Load())
			}
		})
	}
}

// TestUnattested: a key whose attestation failed is used on explicit demand only,
// and labelled.
//
// TMCP-23.6-5: A client MUST NOT use a key whose attestation failed unless its operator allowed that by name, whatever its configuration file says.
func TestUnattested(t *testing.T) {
	s, _ := stand(t, func(c *standin.Config) { c.Fault = standin.NoPolicies })
	cfg, o := clientConfig(), options(s)
	o.Unattested = true
	k, err := aicc.NewClientKeys(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	key, info, err := k.Key(t.Context())
	if err != nil || key == nil || info.Attested || !strings.Contains(info.Failure, "policies-matched") || !strings.Contains(info.Label(), "NOT attested") || k.Attested() {
		t.Errorf("%+v, %v", info, err)
	}
	if err := s.SetFault(standin.NodesDiffer); err != nil { // even then it must be clear which key it is
		t.Fatal(err)
	}
	k, _ = aicc.NewClientKeys(cfg, o)
	if _, _, err := k.Key(t.Context()); err == nil {
		t.Error("one of two keys was used")
	}

	cfg.AttestMust = true
	if _, err := aicc.NewClientKeys(cfg, o); err == nil || !strings.Contains(err.Error(), "attest_must") {
		t.Errorf("attest_must and unattested keys: %v", err)
	}
	cfg.AttestMust, cfg.RAURL, cfg.Gateway.URL = false, "http://ra.example", ""
	if _, err := aicc.NewClientKeys(cfg, o); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("unattested over http: %v", err)
	}
}

func TestNewClientKeysRefuses(t *testing.T) {
	s, _ := stand(t, nil)
	for name, tt := range map[string]struct {
		edit func(*aicc.ClientConfig, *aicc.Options)
		want string
	}{
		"no keys": {func(_ *aicc.ClientConfig, o *aicc.Options) { o.TokenKeys = nil }, "no key of the attestation service's tokens is pinned"},
		"local":   {func(c *aicc.ClientConfig, _ *aicc.Options) { c.RAType = aicc.RATypeLocal }, "nothing appraises its evidence"},
		"query":   {func(c *aicc.ClientConfig, _ *aicc.Options) { c.RAURL = "https://x/?a=b" }, "without a query"},
		"user":    {func(c *aicc.ClientConfig, _ *aicc.Options) { c.RAURL = "https://u@x/" }, "no http or https URL"},
		"scheme":  {func(c *aicc.ClientConfig, _ *aicc.Options) { c.RAURL = "ftp://x/" }, "no http or https URL"},
		"no host": {func(c *aicc.ClientConfig, _ *aicc.Options) { c.RAURL = "" }, "no http or https URL"},
	} {
		cfg, o := clientConfig(), options(s)
		tt.edit(&cfg, &o)
		if _, err := aicc.NewClientKeys(cfg, o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
	}
	// Tokens of the stand-in say that they are about a simulated TEE.
	o := options(s)
	o.AllowSimulated = false
	k, _ := aicc.NewClientKeys(clientConfig(), o)
	if _, _, err := k.Key(t.Context()); err == nil || !strings.Contains(err.Error(), "simulated") {
		t.Errorf("a simulated TEE in production: %v", err)
	}
}

// TestUnreachable: no answer, no key.
func TestUnreachable(t *testing.T) {
	s, _ := stand(t, nil)
	cfg, o := clientConfig(), options(s)
	o.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") })}
	k, err := aicc.NewClientKeys(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Key(t.Context()); reason(err) != wire.NoKey || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// TestSlowService: a caller waits no longer than its context, the question no
// longer than the timeout.
func TestSlowService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := stand(t, nil)
		cfg, o := clientConfig(), options(s)
		o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		k, err := aicc.NewClientKeys(cfg, o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, _, err := k.Key(ctx); err == nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, _, err := k.Key(t.Context()); err == nil || time.Since(start) != aicc.DefaultTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestRenewal: a key is renewed behind the caller's back, outlives a service that
// is away for the grace, and no longer.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, key := stand(t, nil)
		cfg, o := clientConfig(), options(s)
		cfg.AttestInterval = 10 * time.Minute
		var asked int
		down := false
		inner := o.HTTP.Transport
		o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked++
			if down {
				return nil, errors.New("down")
			}
			return inner.RoundTrip(r)
		})}
		k, err := aicc.NewClientKeys(cfg, o)
		if err != nil {
			t.Fatal(err)
		}
		is := func(want *rsa.PrivateKey, what string) {
			t.Helper()
			got, info, err := k.Key(t.Context())
			if want == nil {
				if err == nil {
					t.Errorf("%s: there is a key", what)
				}
				return
			}
			if err != nil || !got.Equal(&want.PublicKey) || !info.Attested {
				t.Errorf("%s: %v, another key: %v", what, err, err == nil)
			}
		}
		first, second, third := rsaKeys()[1], rsaKeys()[2], rsaKeys()[3]
		is(first, "at the start")
		key.Store(second)
		time.Sleep(10*time.Minute - time.Second)
		is(first, "before the interval is over")
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(time.Second)
		is(first, "while it is renewed") // nobody waits
		synctest.Wait()
		is(second, "renewed")
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}

		down = true
		key.Store(third)
		time.Sleep(10 * time.Minute)
		for range 100 { // a call each second
			is(second, "while the service is away")
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if asked > 10 {
			t.Errorf("asked %d times in 100 seconds", asked)
		}
		time.Sleep(aicc.DefaultGrace)
		is(nil, "when the grace is over")
		if k.Attested() {
			t.Error("still attested")
		}
		before := asked
		is(nil, "at once afterwards")
		if asked > before {
			t.Error("asked again at once")
		}
		down = false
		time.Sleep(time.Minute)
		is(third, "when the service is back")

		if err := s.SetFault(standin.OtherSigner); err != nil { // a service that lies is no better than one that is away
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		is(third, "in the grace")
		synctest.Wait()
		time.Sleep(aicc.DefaultGrace)
		is(nil, "after the grace")
	})
}

// TestManyCallers: callers who come at once ask once.
func TestManyCallers(t *testing.T) {
	s, _ := stand(t, nil)
	o := options(s)
	var asked atomic.Int64
	inner := o.HTTP.Transport
	o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		asked.Add(1)
		return inner.RoundTrip(r)
	})}
	k, err := aicc.NewClientKeys(clientConfig(), o)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := k.PublicKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestSignature(t *testing.T) {
	s, _ := stand(t, nil)
	cfg := clientConfig()
	cfg.Gateway.SecretKey = "another"
	k, err := aicc.NewClientKeys(cfg, options(s))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Key(t.Context()); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("got %v", err)
	}

	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	body := []byte(`{"Nonce":"x"}`)
	sign := func() *http.Request {
		r, _ := http.NewRequest("POST", "https://ra.example:8443/?Action=A&Version=V", bytes.NewReader(body))
		gateway().Sign(r, body, now)
		return r
	}
	if r := sign(); r.Host != "ra.example" || gateway().CheckSignature(r, body, now) != nil {
		t.Errorf("host %q, %v", r.Host, gateway().CheckSignature(r, body, now))
	}
	// A value that the published package computed for the same request.
	if got, want := sign().Header.Get("Authorization"), "HMAC-SHA256 Credential=AK/20261121/cn-beijing/pcc/request, SignedHeaders=content-type;host;x-content-sha256;x-date, Signature=562af3cf2c5f183f9f94e71e3082959af188ba3a33b5dd872438f3b6669f82f9"; got != want {
		t.Errorf("Authorization is\n%s, want\n%s", got, want)
	}
	for name, edit := range map[string]func(r *http.Request){
		"body":   func(*http.Request) { body = []byte(`{}`) },
		"query":  func(r *http.Request) { r.URL.RawQuery += "&x=y" },
		"host":   func(r *http.Request) { r.Host = "other" },
		"method": func(r *http.Request) { r.Method = "PUT" },
		"date":   func(r *http.Request) { r.Header.Set("X-Date", "20261121T120001Z") },
		"old":    func(r *http.Request) { r.Header.Set("X-Date", "20261121T110000Z") },
		"none":   func(r *http.Request) { r.Header.Del("Authorization") },
		"odd":    func(r *http.Request) { r.Header.Set("X-Date", "yesterday") },
	} {
		body = []byte(`{"Nonce":"x"}`)
		r := sign()
		edit(r)
		if gateway().CheckSignature(r, body, now) == nil {
			t.Errorf("%s changed: accepted", name)
		}
	}
}

// TestQuestion: what is asked is what the published package asks.
func TestQuestion(t *testing.T) {
	var got []string
	o := aicc.Options{Unattested: true, HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		b, _ := io.ReadAll(r.Body)
		//lint:ignore SA1008 their service reads it as it is on the wire, in capitals
		got = append(got, r.Method+" "+r.URL.String()+" "+strings.Join(r.Header["UID"], ",")+" "+string(b))
		return nil, errors.New("enough")
	})}}
	for _, cfg := range []aicc.ClientConfig{
		{RAURL: "https://ra.example", ServiceName: "weather", PolicyID: "p", UID: "u", Gateway: gateway()},
		{Gateway: &aicc.Gateway{URL: "ra.example", Scheme: "https", AccessKey: "A", SecretKey: "S", Service: "pcc", Action: "Do It", Version: "1"}, PodsInfo: aicc.Pod{ClusterID: "c", Namespace: "n", Deployment: "d"}},
		{RAURL: "https://server.example/ra", RAType: aicc.RATypeLocal},
	} {
		k, err := aicc.NewClientKeys(cfg, o)
		if err != nil {
			t.Fatal(err)
		}
		_, _, _ = k.Key(t.Context())
	}
	for i, want := range []string{
		`POST https://ra.example/?Action=GetAttestationBackend&Version=2024-12-24 u {"Nonce":"NONCE","PolicyID":"p","ServiceName":"weather","KeyNegotiation":true,"Token":true}`,
		`POST https://ra.example/?Action=Do%20It&Version=1  {"Nonce":"NONCE","PolicyID":"","AttestedPods":[{"cluster_id":"c","namespace":"n","deployment":"d"}],"KeyNegotiation":true,"Token":true}`,
		`POST https://server.example/ra  {"nonce":"NONCE"}`,
	} {
		at := strings.Index(want, "NONCE")
		nonce := got[i][at : at+16]
		if got[i][:at]+"NONCE"+got[i][at+16:] != want || strings.Trim(nonce, "0123456789abcdef") != "" {
			t.Errorf("asked\n%s, want\n%s", got[i], want)
		}
	}
}

// simulated appraises simulated TEEs.
func simulated(t *testing.T) *appraise.Appraiser {
	t.Helper()
	a, err := appraisal.Load(t.Context(), appraisal.Options{Simulator: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAppraiser: with an appraiser of our own the service's word is not enough.
func TestAppraiser(t *testing.T) {
	for _, merkle := range []bool{false, true} {
		s, _ := stand(t, func(c *standin.Config) { c.Merkle = merkle })
		o := options(s)
		o.Appraiser = simulated(t)
		k, err := aicc.NewClientKeys(clientConfig(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, info, err := k.Key(t.Context()); err != nil || !info.Attested || !info.Simulated {
			t.Errorf("merkle %v: %+v, %v", merkle, info, err)
		}
	}
	// The same, from a world that is not trusted.
	s, _ := stand(t, func(c *standin.Config) { c.World = sim.Other() })
	o := options(s)
	o.Appraiser = simulated(t)
	k, _ := aicc.NewClientKeys(clientConfig(), o)
	if _, _, err := k.Key(t.Context()); err == nil || !strings.Contains(err.Error(), "the quote:") {
		t.Errorf("another world: %v", err)
	}
}

// TestLocal: a server that is asked itself proves something to those who
// appraise, and nothing else.
func TestLocal(t *testing.T) {
	key := rsaKeys()[1]
	h := &aicc.LocalHandler{Public: func() *rsa.PublicKey { return &key.PublicKey }}
	quoting := *h
	quoting.Quote = func(_ context.Context, rd [64]byte) ([]byte, error) { return sim.Default().TDXQuote(rd, sim.TDX{}) }
	stale := *h
	stale.Quote = func(_ context.Context, rd [64]byte) ([]byte, error) {
		rd[0] ^= 1
		return sim.Default().TDXQuote(rd, sim.TDX{})
	}
	cfg := aicc.ClientConfig{RAURL: "http://127.0.0.1:1", RAType: aicc.RATypeLocal}
	for name, tt := range map[string]struct {
		h    http.Handler
		want string
	}{
		"quote":       {&quoting, ""},
		"no quote":    {h, "no quote"},
		"other quote": {&stale, "the quote:"},
		"no key":      {&aicc.LocalHandler{Public: func() *rsa.PublicKey { return nil }}, "503"},
		"the package": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			p, _ := wire.MarshalPublicKey(&key.PublicKey)
			fmt.Fprintf(w, `{"ResponseMetadata":{"Code":0,"Message":"success"},"ResponseResult":{"pod_1":{"evidence":"evidence","token":"token","key_info":{"pub_key_info":%q}}}}`, p)
		}), "evidence"},
	} {
		o := aicc.Options{Appraiser: simulated(t), HTTP: direct(tt.h)}
		k, err := aicc.NewClientKeys(cfg, o)
		if err != nil {
			t.Fatal(err)
		}
		got, info, err := k.Key(t.Context())
		if tt.want == "" {
			if err != nil || !got.Equal(&key.PublicKey) || !info.Attested || info.Source != aicc.SourceLocal {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
		if name == "the package" {
			o.Appraiser, o.Unattested = nil, true
			k, _ := aicc.NewClientKeys(cfg, o)
			if _, info, err := k.Key(t.Context()); err != nil || info.Attested {
				t.Errorf("%s, unattested: %+v, %v", name, info, err)
			}
		}
	}
	for name, body := range map[string]string{"empty": "", "no nonce": "{}", "short": `{"nonce":"1"}`, "number": `{"nonce":12345678}`, "long": `{"nonce":"` + strings.Repeat("x", 200) + `"}`, "huge": strings.Repeat(" ", 5000) + `{"nonce":"0123456789"}`} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("POST", "/", strings.NewReader(body)))
		if rec.Code != 400 {
			t.Errorf("%s: status %d", name, rec.Code)
		}
	}
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil)); rec.Code != 405 {
		t.Errorf("GET: %d", rec.Code)
	}
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func public(t testing.TB, k *rsa.PrivateKey) []byte {
	b, err := wire.MarshalPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPublicKeyFile: the client's file is read when it changes, and a file that
// is away or broken for a moment costs no call.
func TestPublicKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), wire.PublicKeyFile)
	k, err := aicc.NewClientKeys(aicc.ClientConfig{PublicKeyPath: path}, aicc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Key(t.Context()); reason(err) != wire.NoKey {
		t.Errorf("no file: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		k, err := aicc.NewClientKeys(aicc.ClientConfig{PublicKeyPath: path}, aicc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		is := func(i int, what string) {
			t.Helper()
			got, info, err := k.Key(t.Context())
			if err != nil || !got.Equal(&rsaKeys()[i].PublicKey) || info.Attested || !strings.Contains(info.Label(), "NOT attested") || k.Attested() {
				t.Errorf("%s: %+v, %v", what, info, err)
			}
		}
		writeFile(t, path, public(t, rsaKeys()[1]))
		is(1, "first")
		writeFile(t, path, public(t, rsaKeys()[2]))
		is(2, "replaced")
		if err := os.WriteFile(path, []byte("-----BEGIN"), 0o600); err != nil {
			t.Fatal(err)
		}
		is(2, "half written")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		is(2, "away")
		writeFile(t, path, public(t, rsaKeys()[3]))
		time.Sleep(time.Second)
		is(3, "back")
		// Written anew with the size and time of before: the interval finds it.
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, public(t, rsaKeys()[4]), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		is(3, "unseen")
		time.Sleep(aicc.DefaultInterval)
		is(4, "after the interval")
	})
}

// TestServerKeyFile: the newest key comes first, old ones stay for a while, and
// never more than four.
func TestServerKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), wire.PrivateKeyFile)
	if _, err := aicc.NewServerKeys(aicc.ServerConfig{KeyFile: path}, aicc.ServerOptions{}); err == nil {
		t.Error("a key file that is not there was taken")
	}
	synctest.Test(t, func(t *testing.T) {
		put := func(i int) { writeFile(t, path, wire.MarshalPrivateKey(rsaKeys()[i])) }
		put(0)
		s, err := aicc.NewServerKeys(aicc.ServerConfig{KeyFile: path}, aicc.ServerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		is := func(want ...int) {
			t.Helper()
			got := s.Keys()
			if len(got) != len(want) {
				t.Fatalf("%d keys, want %v", len(got), want)
			}
			for i, k := range got {
				if !k.Equal(rsaKeys()[want[i]]) {
					t.Errorf("key %d is not number %d", i, want[i])
				}
			}
			if !s.Public().Equal(&rsaKeys()[want[0]].PublicKey) {
				t.Error("the public key is not that of the newest")
			}
		}
		is(0)
		put(1)
		is(1, 0)
		time.Sleep(time.Hour)
		put(2)
		is(2, 1, 0)
		time.Sleep(time.Hour)
		is(2, 1) // number 0 was replaced two hours ago
		put(1)   // back again
		is(1, 2)
		put(3)
		put(4) // unseen: nothing looked in between
		is(4, 1, 2)
		put(5)
		is(5, 4, 1, 2)
		put(0)
		is(0, 5, 4, 1)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		is(0, 5, 4, 1)
		time.Sleep(3 * time.Hour)
		is(0) // the newest stays, whatever becomes of its file
	})
}

// TestRandomKeys: a key is made at each interval, behind the callers' backs.
func TestRandomKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		made := 0
		o := aicc.ServerOptions{Options: aicc.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, Generate: func() (*rsa.PrivateKey, error) {
			if made++; made == 3 {
				return nil, errors.New("no entropy")
			}
			if made > 1 {
				time.Sleep(5 * time.Second) // as long ones take
			}
			return rsaKeys()[made%6], nil
		}}
		s, err := aicc.NewServerKeys(aicc.ServerConfig{Random: true, RefreshInterval: time.Minute}, o)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "lose calls") {
			t.Error("no warning about keys that change every minute")
		}
		first := s.Keys()
		time.Sleep(time.Minute)
		for range 10 {
			if got := s.Keys(); len(got) != 1 || got[0] != first[0] {
				t.Fatal("the key is another before one was made")
			}
		}
		time.Sleep(6 * time.Second)
		if got := s.Keys(); made != 2 || len(got) != 2 || got[1] != first[0] {
			t.Errorf("%d made, %d keys", made, len(got))
		}
		time.Sleep(time.Minute)
		s.Keys()
		synctest.Wait()
		if got := s.Keys(); made != 3 || len(got) != 2 {
			t.Errorf("%d made, %d keys", made, len(got))
		}
		time.Sleep(2 * time.Minute)
		s.Keys()
		time.Sleep(6 * time.Second)
		if got := s.Keys(); len(got) != 3 {
			t.Errorf("%d keys", len(got))
		}
	})
	if _, err := aicc.NewServerKeys(aicc.ServerConfig{}, aicc.ServerOptions{}); err == nil {
		t.Error("no key, and no error")
	}
	if _, err := aicc.NewServerKeys(aicc.ServerConfig{Random: true, KeyFile: "x"}, aicc.ServerOptions{}); err == nil {
		t.Error("two sources, and no error")
	}
}

// TestClientRA: a server whose clients are to be attested opens nothing until
// they are.
func TestClientRA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := stand(t, nil)
		path := filepath.Join(t.TempDir(), "key.pem")
		writeFile(t, path, wire.MarshalPrivateKey(rsaKeys()[2]))
		ra := clientConfig()
		ra.ServiceName = "app"
		cfg := aicc.ServerConfig{KeyFile: path, ClientRA: &ra, RefreshInterval: time.Hour}
		o := aicc.ServerOptions{Options: options(s)}
		if err := s.SetFault(standin.NoPolicies); err != nil {
			t.Fatal(err)
		}
		k, err := aicc.NewServerKeys(cfg, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(k.Keys()) != 0 || k.Public() == nil {
			t.Error("there are keys although the clients are not attested")
		}
		if err := s.SetFault(standin.NoFault); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(k.Keys()) != 1 {
			t.Error("there is no key although the clients are attested")
		}
		if err := s.SetFault(standin.WrongNonce); err != nil { // which the published package does not look at here
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if len(k.Keys()) != 0 {
			t.Error("an old answer was taken")
		}
		o.Unattested = true
		if k, err = aicc.NewServerKeys(cfg, o); err != nil || len(k.Keys()) != 1 {
			t.Errorf("unattested: %v", err)
		}
		o.Unattested, o.TokenKeys = false, nil
		if _, err := aicc.NewServerKeys(cfg, o); err == nil || !strings.Contains(err.Error(), "client_ra_config") {
			t.Errorf("no pinned keys: %v", err)
		}
	})
}

func TestParseTokenKeys(t *testing.T) {
	p := public(t, rsaKeys()[0])
	keys, err := aicc.ParseTokenKeys(slices.Concat(p, public(t, rsaKeys()[1])))
	if err != nil || len(keys) != 2 {
		t.Errorf("%v, %v", keys, err)
	}
	path := filepath.Join(t.TempDir(), "keys.pem")
	writeFile(t, path, p)
	if keys, err := aicc.LoadTokenKeys(path); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	der, _ := x509.MarshalPKIXPublicKey(&small.PublicKey)
	for name, bad := range map[string]string{
		"empty": "", "json": "{}", "private": string(wire.MarshalPrivateKey(rsaKeys()[0])),
		"short":    string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"elliptic": `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`,
	} {
		if keys, err := aicc.ParseTokenKeys([]byte(bad)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
}
