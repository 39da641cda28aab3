package collateral

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-sev-guest/verify/trust"
	"golang.org/x/crypto/ocsp"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

const hardware = "../../evidence/testdata/hardware/"

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(hardware + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pinned is when the collateral of the test's quote was current.
var pinned = time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)

// A service stands in for PCS, KDS and an OCSP responder.
type service struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	// before may answer in place of the service.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func (s *service) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

func newService(t *testing.T) *service {
	b, err := dcap.ParseCollateral(read(t, "tdx/phala-v4.collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	vcek := read(t, "sevsnp/milan-v2.vcek.der")
	amdChain := trust.AskArkMilanVcekBytes
	s := &service{}
	mux := http.NewServeMux()
	signed := func(member string, text, sig []byte, header string, chain []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set(header, url.PathEscape(string(chain)))
			fmt.Fprintf(w, `{%q:%s,"signature":"%x"}`, member, text, sig)
		}
	}
	mux.HandleFunc("GET /tdx/certification/v4/tcb", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("fmspc") != "B0C06F000000" {
			http.Error(w, "", http.StatusNotFound)
			return
		}
		signed("tcbInfo", b.TCBInfo, b.TCBInfoSignature, "TCB-Info-Issuer-Chain", b.TCBInfoChain)(w, r)
	})
	mux.HandleFunc("GET /tdx/certification/v4/qe/identity", signed("enclaveIdentity", b.QEIdentity, b.QEIdentitySignature, "SGX-Enclave-Identity-Issuer-Chain", b.QEIdentityChain))
	mux.HandleFunc("GET /sgx/certification/v4/pckcrl", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("ca") != "platform" || r.FormValue("encoding") != "der" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/pkix-crl")
		w.Header().Set("SGX-PCK-CRL-Issuer-Chain", url.PathEscape(string(b.PCKCRLChain)))
		w.Write(b.PCKCRL)
	})
	mux.HandleFunc("GET /sgx/certification/v4/rootcacrl", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%x", b.RootCRL) // in hex, as a PCCS does
	})
	mux.HandleFunc("GET /vcek/v1/Milan/{id}", func(w http.ResponseWriter, r *http.Request) {
		if len(r.PathValue("id")) != 128 || r.URL.RawQuery != "blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115" {
			http.Error(w, "", http.StatusNotFound)
			return
		}
		w.Write(vcek)
	})
	mux.HandleFunc("GET /vcek/v1/Milan/cert_chain", func(w http.ResponseWriter, r *http.Request) { w.Write(amdChain) })
	// KDS's list is not at hand: any CRL has the form.
	mux.HandleFunc("GET /vcek/v1/Milan/crl", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/pkix-crl")
		w.Write(b.RootCRL)
	})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.URL.Path)
		s.mu.Unlock()
		if s.before == nil || !s.before(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// newFetcher asks s, at the pinned time. Instead of sleeping it writes down how
// long it would have.
func newFetcher(t *testing.T, s *service, cfg Config) (*Fetcher, *[]time.Duration) {
	t.Helper()
	cfg.PCS, cfg.KDS, cfg.OCSP = s.URL, s.URL, s.URL
	told := 0
	cfg.Waiting = func(string, time.Duration) { told++ }
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return pinned }
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	slept := &[]time.Duration{}
	t.Cleanup(func() {
		if told != len(*slept) {
			t.Errorf("%d waits, and told of %d", len(*slept), told)
		}
	})
	f.sleep = func(ctx context.Context, d time.Duration) error {
		*slept = append(*slept, d)
		return ctx.Err()
	}
	return f, slept
}

func quote(t testing.TB) evidence.Item {
	return evidence.Item{MediaType: evidence.TypeTDX, Value: read(t, "tdx/phala-v4.quote")}
}

func report(t testing.TB) evidence.Item {
	return evidence.Item{MediaType: evidence.TypeSNP, Value: read(t, "sevsnp/milan-v2-vcek.report")}
}

func TestIntelBundle(t *testing.T) {
	s := newService(t)
	f, _ := newFetcher(t, s, Config{})
	items, err := f.For(t.Context(), quote(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 1 || items[0].MediaType != evidence.TypeDCAPCollateral {
		t.Fatal(items)
	}
	got, err := dcap.ParseCollateral(items[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	want, err := dcap.ParseCollateral(read(t, "tdx/phala-v4.collateral.json"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the bundle is not what the service gave, byte for byte: %v\n%+v", err, got)
	}
	// And the quote verifies with it.
	r := dcap.New(dcap.Options{}).Verify(evidence.TypeTDX, quote(t).Value, &evidence.Trust{Anchors: vendor.Anchors(), Now: pinned, Endorsements: items})
	if !r.Accepted() {
		t.Error(r.Checks.Failed())
	}
	if n := len(f.Sources()); n != 4 {
		t.Errorf("%d sources", n)
	}
}

func TestAMDChain(t *testing.T) {
	s := newService(t)
	f, slept := newFetcher(t, s, Config{Product: "Milan", Cache: t.TempDir()})
	items, err := f.For(t.Context(), report(t))
	if err != nil {
		t.Fatal(err)
	}
	text := string(items[0].Value)
	if len(items) != 2 || strings.Count(text, "BEGIN CERTIFICATE") != 3 || items[1].MediaType != evidence.TypeCRL {
		t.Error(text)
	}
	block, _ := pem.Decode(items[0].Value)
	if !bytes.Equal(block.Bytes, read(t, "sevsnp/milan-v2.vcek.der")) {
		t.Error("the VCEK is not first")
	}
	// The second time a VCEK is asked for within 10 s, it waits; the same one
	// comes from the cache.
	if _, err := f.For(t.Context(), report(t)); err != nil || len(*slept) != 0 {
		t.Error(err, *slept)
	}
	other := report(t)
	other.Value[0x1a0] ^= 1
	other.Value[0x180]++
	if _, err := f.For(t.Context(), other); !errors.Is(err, ErrNotFound) || len(*slept) != 1 || (*slept)[0] != kdsPause {
		t.Error(err, *slept)
	}
	f, _ = newFetcher(t, s, Config{})
	if _, err := f.For(t.Context(), report(t)); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "product line") {
		t.Error(err)
	}
}

func TestParseReport(t *testing.T) {
	base := report(t).Value
	mk := func(version, family, model, flags byte) []byte {
		b := bytes.Clone(base)
		b[0], b[0x188], b[0x189], b[0x48] = version, family, model, flags
		return b
	}
	for _, tt := range []struct {
		report []byte
		want   string
		vlek   bool
	}{
		{mk(3, 0x19, 0x01, 0), "Milan", false},
		{mk(3, 0x19, 0x11, 0), "Genoa", false},
		{mk(5, 0x19, 0xa0, 4), "Genoa", true}, // Bergamo and Siena
		{mk(5, 0x1a, 0x02, 0), "Turin", false},
		{mk(3, 0x1b, 0x00, 0), "", false},
		{mk(9, 0x19, 0x01, 0), "", false},
		{base[:100], "", false},
	} {
		p, err := ParseReport(tt.report, "")
		if (err == nil) != (tt.want != "") || err == nil && (p.Product != tt.want || p.VLEK != tt.vlek) {
			t.Errorf("%+v %v, want %s", p, err, tt.want)
		}
	}
	masked := bytes.Clone(base)
	clear(masked[0x1a0:0x1e0])
	if _, err := ParseReport(masked, "Milan"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// TestTurin: a short id, and the TCB in another order.
func TestTurin(t *testing.T) {
	s := newService(t)
	var asked *url.URL
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		asked = r.URL
		http.NotFound(w, r)
		return true
	}
	f, _ := newFetcher(t, s, Config{})
	b := report(t).Value
	b[0], b[0x188], b[0x189] = 3, 0x1a, 2
	copy(b[0x180:], []byte{1, 2, 3, 4, 0, 0, 0, 9})
	if _, err := f.For(t.Context(), evidence.Item{MediaType: evidence.TypeSNP, Value: b}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if want := "/vcek/v1/Turin/" + hex.EncodeToString(b[0x1a0:0x1a8]); asked.Path != want || asked.RawQuery != "fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=9" {
		t.Errorf("asked for %v", asked)
	}
}

func TestCache(t *testing.T) {
	s := newService(t)
	dir := filepath.Join(t.TempDir(), "cache")
	f, _ := newFetcher(t, s, Config{Cache: dir})
	first, err := f.For(t.Context(), quote(t))
	if err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 4 {
		t.Fatalf("%d files", len(files))
	}
	for _, e := range files {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", e.Name(), info.Mode())
		}
	}
	asked := len(s.asked())
	again := func(cfg Config) ([]evidence.Item, error) {
		cfg.Cache = dir
		f, _ := newFetcher(t, s, cfg)
		return f.For(t.Context(), quote(t))
	}
	for _, cfg := range []Config{{}, {Offline: true}, {Offline: true, Now: func() time.Time { return pinned.AddDate(1, 0, 0) }}} {
		if items, err := again(cfg); err != nil || !bytes.Equal(items[0].Value, first[0].Value) {
			t.Fatal(err)
		}
	}
	if len(s.asked()) != asked {
		t.Error("what is in the cache was asked for again")
	}
	// After a day the vendor is asked again; when it can't be reached, what it
	// gave holds until its date of renewal, and not after.
	s.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	later := func(d time.Duration) Config { return Config{Now: func() time.Time { return pinned.Add(d) }} }
	if _, err := again(later(25 * time.Hour)); err != nil || len(s.asked()) == asked {
		t.Error(err)
	}
	if _, err := again(later(40 * 24 * time.Hour)); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	s.before = nil
	// A damaged file is a miss, each byte of it.
	for _, e := range files {
		name := filepath.Join(dir, e.Name())
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var r record
		if err := json.Unmarshal(whole, &r); err != nil {
			t.Fatal(err)
		}
		c := &cache{dir}
		for i := 0; i < len(whole); i += 7 {
			bad := bytes.Clone(whole)
			bad[i] ^= 0x20
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, hit := c.get(r.URL); hit {
				t.Fatalf("%s is a hit with byte %d changed", r.URL, i)
			}
		}
		if err := os.WriteFile(name, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := again(Config{Offline: true}); !errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	if _, err := again(Config{}); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	c := &cache{dir}
	for i := range maxEntries + 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%064d%s", i, cacheSuffix)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stale := filepath.Join(dir, ".new-1")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{stale, filepath.Join(dir, fmt.Sprintf("%064d%s", 7, cacheSuffix))} {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	c.prune()
	files, _ := os.ReadDir(dir)
	if len(files) != maxEntries {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		if f.Name() == ".new-1" || f.Name() == fmt.Sprintf("%064d%s", 7, cacheSuffix) {
			t.Errorf("%s is still there", f.Name())
		}
	}
}

// TestRetries: what a busy service asks for is done, within bounds.
func TestRetries(t *testing.T) {
	for _, tt := range []struct {
		name    string
		status  int
		header  string
		times   int
		maxWait time.Duration
		want    error
		slept   []time.Duration
	}{
		{"seconds", 429, "7", 1, 0, nil, []time.Duration{7 * time.Second}},
		{"date", 503, pinned.Add(30 * time.Second).Format(http.TimeFormat), 1, 0, nil, []time.Duration{30 * time.Second}},
		{"none", 429, "", 2, 0, nil, []time.Duration{2 * time.Second, 4 * time.Second}},
		{"garbage", 429, "soon", 1, 0, nil, []time.Duration{2 * time.Second}},
		{"broken gateway", 502, "", 1, 0, nil, []time.Duration{2 * time.Second}},
		{"longer than allowed", 429, "3600", 1, 0, ErrBusy, nil},
		{"for ever", 429, "1", 100, 0, ErrBusy, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}},
		{"patience ends", 429, "", 100, 5 * time.Second, ErrBusy, []time.Duration{2 * time.Second}},
		{"down, and patience ends", 502, "", 100, 3 * time.Second, ErrUnreachable, []time.Duration{2 * time.Second}},
		{"not found", 404, "", 100, 0, ErrNotFound, nil},
		{"gone", 410, "", 100, 0, ErrNotFound, nil},
		{"teapot", 418, "", 100, 0, ErrMalformed, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t)
			n := 0
			s.before = func(w http.ResponseWriter, _ *http.Request) bool {
				if n++; n > tt.times {
					return false
				}
				w.Header().Set("Retry-After", tt.header)
				w.WriteHeader(tt.status)
				return true
			}
			f, slept := newFetcher(t, s, Config{MaxWait: tt.maxWait})
			_, err := f.For(t.Context(), quote(t))
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if fmt.Sprint(*slept) != fmt.Sprint(tt.slept) {
				t.Errorf("slept %v, want %v", *slept, tt.slept)
			}
		})
	}
}

// TestBadAnswers: none is taken, and none is cached.
func TestBadAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		answer     func(w http.ResponseWriter)
		want       error
		text       string // of the error: why, and not only that
	}{
		{"login page", "/tdx/certification/v4/tcb", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>sign in</html>")
		}, ErrMalformed, "captive portal"},
		{"no issuer chain", "/tdx/certification/v4/tcb", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{}`)
		}, ErrMalformed, ""},
		{"issuer chain is no PEM", "/tdx/certification/v4/qe/identity", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("SGX-Enclave-Identity-Issuer-Chain", "hello%20world")
			fmt.Fprint(w, `{}`)
		}, ErrMalformed, ""},
		{"CRL is junk", "/sgx/certification/v4/rootcacrl", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/pkix-crl")
			fmt.Fprint(w, "junk")
		}, ErrMalformed, ""},
		{"login page for a CRL", "/sgx/certification/v4/rootcacrl", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "junk")
		}, ErrMalformed, "captive portal"},
		{"broken off", "/sgx/certification/v4/rootcacrl", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/pkix-crl")
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "half")
		}, ErrUnreachable, "broke off"},
		{"endless", "/sgx/certification/v4/rootcacrl", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/pkix-crl")
			chunk := make([]byte, 1<<20)
			for range maxBody>>20 + 1 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, ErrMalformed, "answered with more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t)
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != tt.path {
					return false
				}
				tt.answer(w)
				return true
			}
			dir := t.TempDir()
			f, _ := newFetcher(t, s, Config{Cache: dir})
			if _, err := f.For(t.Context(), quote(t)); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %v with %q", err, tt.want, tt.text)
			}
			files, _ := os.ReadDir(dir)
			for _, e := range files {
				b, _ := os.ReadFile(filepath.Join(dir, e.Name()))
				if bytes.Contains(b, []byte(tt.path)) {
					t.Error("it was cached")
				}
			}
		})
	}
}

// TestWrongPlatform: TCB information of another platform than asked for is no
// answer.
func TestWrongPlatform(t *testing.T) {
	s := newService(t)
	f, _ := newFetcher(t, s, Config{})
	p, err := ParseQuote(quote(t).Value)
	if err != nil || p.CA != "platform" || !p.TDX || hex.EncodeToString(p.FMSPC[:]) != "b0c06f000000" {
		t.Fatalf("%+v %v", p, err)
	}
	p.FMSPC[0] ^= 1
	if _, err := f.Intel(t.Context(), p); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "FMSPC B1C06F000000") {
		t.Error(err)
	}
	s.before = func(_ http.ResponseWriter, r *http.Request) bool { // answers for B0…, whatever is asked
		r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "B1", "B0", 1)
		r.Form = nil
		return false
	}
	if _, err := f.Intel(t.Context(), p); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestSlowService(t *testing.T) {
	s := newService(t)
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		cancel() // the user gives up while the service thinks
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	}
	f, _ := newFetcher(t, s, Config{})
	if _, err := f.For(ctx, quote(t)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUnreachable(t *testing.T) {
	s := newService(t)
	f, slept := newFetcher(t, s, Config{})
	s.Close()
	if _, err := f.For(t.Context(), quote(t)); !errors.Is(err, ErrUnreachable) || len(*slept) != maxAttempts-1 {
		t.Error(err, *slept)
	}
}

func TestRedirects(t *testing.T) {
	s := newService(t)
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
		return true
	}
	f, _ := newFetcher(t, s, Config{})
	if _, err := f.For(t.Context(), quote(t)); err == nil || !strings.Contains(err.Error(), "more than 3 redirects") {
		t.Error(err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	c := secure.Client()
	c.CheckRedirect = newClient().CheckRedirect
	if _, err := c.Get(secure.URL); err == nil || !strings.Contains(err.Error(), "redirected from https to http") {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{PCS: "ftp://x"}, {KDS: "x"}, {RootCRL: "https://"}, {OCSP: "https://x?y"},
		{Product: "Rome"}, {Offline: true},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	f, err := New(Config{})
	if err != nil || f.cfg.RootCRL != IntelRootCRL || f.cfg.PCS != IntelPCS {
		t.Errorf("%+v %v", f, err)
	}
	for _, mt := range []string{evidence.TypeNitro, evidence.TypeCCA, "text/plain"} {
		if _, err := f.For(t.Context(), evidence.Item{MediaType: mt}); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", mt, err)
		}
	}
}

func TestNVIDIA(t *testing.T) {
	ca := newCA(t)
	var chain bytes.Buffer
	for _, c := range ca.chain {
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	value := dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendArray(nil, 2), []byte("report")), chain.Bytes())
	s := newService(t)
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(ca.respond(t, r, pinned.Add(time.Hour)))
		return true
	}
	dir := t.TempDir()
	f, _ := newFetcher(t, s, Config{Cache: dir})
	items, err := f.For(t.Context(), evidence.Item{MediaType: evidence.TypeNVIDIA, Value: value})
	if err != nil || len(items) != 2 {
		t.Fatal(err, items)
	}
	for i, it := range items {
		res, err := ocsp.ParseResponseForCert(it.Value, ca.chain[i], ca.chain[i+1])
		if err != nil || res.Status != ocsp.Good {
			t.Error(err, res)
		}
	}
	n := len(s.asked())
	if _, err := f.For(t.Context(), evidence.Item{MediaType: evidence.TypeNVIDIA, Value: value}); err != nil || len(s.asked()) != n {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, value[:20], dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendArray(nil, 2), nil), []byte("x"))} {
		if _, err := f.For(t.Context(), evidence.Item{MediaType: evidence.TypeNVIDIA, Value: bad}); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(quote(f).Value)
	f.Add(report(f).Value)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseQuote(b); err == nil && p.CA == "" {
			t.Error("no CA")
		}
		if p, err := ParseReport(b, ""); err == nil && p.Product == "" {
			t.Error("no product")
		}
		_, _ = split(b, "tcbInfo")
		_ = crlDER(b)
	})
}
