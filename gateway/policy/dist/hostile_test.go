package dist_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trustedmcp/tmcp/gateway/policy/dist"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// A hostile registry is an honest one with something before it: true means that
// the request was answered.
type hostile struct {
	honest http.Handler
	mu     sync.Mutex
	before func(w http.ResponseWriter, r *http.Request) bool
	seen   []string // methods and paths
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	before := h.before
	h.seen = append(h.seen, r.Method+" "+r.URL.Path)
	h.mu.Unlock()
	if before == nil || !before(w, r) {
		h.honest.ServeHTTP(w, r)
	}
}

func (h *hostile) set(before func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.seen = before, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// put uploads a manifest that no honest client makes, and returns its digest.
func put(t *testing.T, host, repo string, m map[string]any) string {
	t.Helper()
	b := must(json.Marshal(m))
	ref := "sha256:" + hexSum(b)
	mediaType, _ := m["mediaType"].(string)
	if mediaType == "" {
		mediaType = "application/vnd.oci.image.manifest.v1+json"
	}
	request(t, http.MethodPut, "http://"+host+"/v2/"+repo+"/manifests/"+ref, mediaType, b)
	return ref
}

func blob(t *testing.T, host, repo string, b []byte) {
	t.Helper()
	request(t, http.MethodPost, "http://"+host+"/v2/"+repo+"/blobs/uploads/?digest=sha256:"+hexSum(b), "application/octet-stream", b)
}

func request(t *testing.T, method, url, contentType string, b []byte) {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b)))
	req.Header.Set("Content-Type", contentType)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp := must((&http.Client{Transport: tr}).Do(req))
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s", method, url, resp.Status, must(io.ReadAll(resp.Body)))
	}
}

func descriptor(mediaType string, b []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": "sha256:" + hexSum(b), "size": len(b)}
}

const imageManifest = "application/vnd.oci.image.manifest.v1+json"

func policyManifest(layers ...map[string]any) map[string]any {
	return map[string]any{"schemaVersion": 2, "mediaType": imageManifest, "artifactType": dist.TypePolicy, "config": descriptor(dist.TypeConfig, []byte("{}")), "layers": layers}
}

// endless writes until the client goes.
func endless(w http.ResponseWriter) {
	b := make([]byte, 1<<16)
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// TMCP-20.12-2: A host MUST refuse a module whose digest is not the one that was asked for.
func TestHostileRegistry(t *testing.T) {
	h := &hostile{honest: others(true)}
	host := serve(t, h)
	mod, other := module("strict", "1.2.0"), module("strict", "1.3.0")
	push := func(file []byte, sigs ...[]byte) string {
		return must(dist.Push(t.Context(), host+"/a:1", file, sigs, options())).Ref
	}
	otherRef := push(other, sign(alice, other))
	whole := bundle()
	bundleRef := push(must(whole.WithSignatures(signBundle(alice, whole))).Bytes())
	good := push(mod, sign(alice, mod)) // the tag now names this one
	tag := "oci://" + host + "/a:1"
	evil := module("strict", "9")
	_ = must(dist.Push(t.Context(), host+"/a:evil", evil, [][]byte{sign(mallory, evil)}, options()))
	manifestOf := func(ref string) string { _, d, _ := strings.Cut(ref, "@"); return "/v2/a/manifests/" + d }
	blobOf := func(b []byte) string { return "/v2/a/blobs/sha256:" + hexSum(b) }
	serveFrom := func(path, from string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				r.URL.Path = from
			}
			return false
		}
	}
	at := func(path string, f func(w http.ResponseWriter, r *http.Request)) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			f(w, r)
			return true
		}
	}
	referrers := "/v2/a/referrers/" + strings.TrimPrefix(manifestOf(good), "/v2/a/manifests/")
	index := func(w http.ResponseWriter, manifests ...map[string]any) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = w.Write(must(json.Marshal(map[string]any{"schemaVersion": 2, "manifests": manifests})))
	}
	asManifest := func(w http.ResponseWriter, b []byte) {
		w.Header().Set("Content-Type", imageManifest)
		w.Header().Set("Docker-Content-Digest", "sha256:"+hexSum(b))
		_, _ = w.Write(b)
	}
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	blob(t, host, "a", []byte("{}"))
	blob(t, host, "a", mod)

	for _, tt := range []struct {
		name   string
		ref    string // "": good
		before func(w http.ResponseWriter, r *http.Request) bool
		want   error  // one of
		says   string // these
	}{
		{"another manifest for a digest", "", serveFrom(manifestOf(good), manifestOf(otherRef)), nil, "digest mismatch"},
		{"another manifest under its digest's name", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", imageManifest)
			w.Header().Set("Docker-Content-Digest", strings.TrimPrefix(manifestOf(good), "/v2/a/manifests/"))
			_, _ = w.Write([]byte("{}"))
		}), dist.ErrDigest, ""},
		{"another module", "", serveFrom(blobOf(mod), blobOf(other)), nil, "mismatch"},
		{"another module under its digest's name", "", at(blobOf(mod), func(w http.ResponseWriter, _ *http.Request) {
			b := bytes.Clone(mod)
			b[len(b)-1] ^= 1
			_, _ = w.Write(b)
		}), dist.ErrDigest, ""},
		{"a module that is longer than announced", "", at(blobOf(mod), func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush() // without Content-Length
			_, _ = w.Write(append(bytes.Clone(mod), 0))
		}), nil, "more than the"},
		{"a module that is shorter", "", at(blobOf(mod), func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(mod[:10])
		}), dist.ErrDigest, ""},
		{"a module that never ends", "", at(blobOf(mod), func(w http.ResponseWriter, _ *http.Request) { endless(w) }), nil, "more than the"},
		{"a manifest that never ends", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", imageManifest)
			w.Header().Set("Content-Length", "1000000")
			endless(w)
		}), nil, ""},
		{"a manifest without length that never ends", "", at(manifestOf(good), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", imageManifest)
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", "500")
				return
			}
			endless(w)
		}), nil, "more than the"},
		{"a huge manifest", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", imageManifest)
			w.Header().Set("Docker-Content-Digest", strings.TrimPrefix(manifestOf(good), "/v2/a/manifests/"))
			w.Header().Set("Content-Length", "99999999999")
			w.(http.Flusher).Flush()
		}), nil, "99999999999 bytes"},
		{"headers that never end", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
			}
		}), nil, "header"},
		{"silence", "", at(manifestOf(good), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), dist.ErrTimeout, ""},
		{"silence in the middle", "", at(blobOf(mod), func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(mod[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), dist.ErrTimeout, ""},
		{"a module that is gone", "", at(blobOf(mod), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }), nil, "not found"},
		{"a manifest that is gone", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }), nil, "not found"},
		{"an error", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"errors":[{"code":"X","message":"\u001b[2J` + strings.Repeat("x", 5000) + `"}]}`))
		}), nil, "?[2J"},
		{"an error without end", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			endless(w)
		}), nil, "500"},
		{"redirects in a circle", "", at(blobOf(mod), func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}), nil, "more than 4 redirects"},
		{"a redirect to a network without protection", "", at(blobOf(mod), func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/x", http.StatusTemporaryRedirect)
		}), nil, "without protection"},
		{"a redirect to a file", "", at(blobOf(mod), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}), nil, "scheme"},
		{"a redirect to other content", "", at(blobOf(mod), func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+elsewhere+"/x", http.StatusTemporaryRedirect)
		}), nil, "mismatch"},

		{"a tag that was moved to what another signed", tag, serveFrom("/v2/a/manifests/1", "/v2/a/manifests/evil"), signed.ErrUnauthorized, ""},
		{"no signatures", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) { index(w) }), signed.ErrUnsigned, ""},
		{"no referrers and no tag for them", "", func(w http.ResponseWriter, r *http.Request) bool {
			gone := r.URL.Path == referrers || strings.Contains(r.URL.Path, "/manifests/sha256-")
			if gone {
				w.WriteHeader(http.StatusNotFound)
			}
			return gone
		}, signed.ErrUnsigned, ""},
		{"an error in place of signatures", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }), signed.ErrUnsigned, "418"},
		{"the signature of another module", "", serveFrom(referrers, strings.Replace(manifestOf(otherRef), "manifests", "referrers", 1)), signed.ErrUnsigned, "another subject"},
		{"referrers in pages without end", "", at(referrers, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", fmt.Sprintf(`<%s?n=%d>; rel="next"`, r.URL.Path, len(r.URL.RawQuery)))
			index(w)
		}), signed.ErrUnsigned, "4 pages"},
		{"pages on another host", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `<http://`+elsewhere+`/>; rel="next"`)
			index(w)
		}), signed.ErrUnsigned, "not the same origin"},
		{"a list of referrers that never ends", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = w.Write([]byte(`{"manifests":[`))
			for {
				if _, err := w.Write([]byte(`{},`)); err != nil {
					return
				}
			}
		}), signed.ErrUnsigned, ""},
		{"a thousand signatures that are not there", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) {
			var all []map[string]any
			for i := range 1000 {
				d := descriptor(imageManifest, fmt.Append(nil, i))
				d["artifactType"] = dist.TypeSignature
				all = append(all, d)
			}
			index(w, all...)
		}), signed.ErrUnsigned, "not found"},
		{"referrers with bad digests", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) {
			index(w, map[string]any{"mediaType": imageManifest, "artifactType": dist.TypeSignature, "digest": "md5:../../x", "size": -1})
		}), signed.ErrUnsigned, "want sha256"},
		{"a signature's manifest with much in it", "", at(referrers, func(w http.ResponseWriter, _ *http.Request) {
			layer := descriptor(dist.TypeCOSE, nil)
			layer["size"] = 1 << 40
			b := must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": imageManifest, "artifactType": dist.TypeSignature, "config": descriptor(dist.TypeSignature, []byte("{}")), "layers": []any{layer}, "subject": map[string]any{"mediaType": imageManifest, "digest": strings.TrimPrefix(manifestOf(good), "/v2/a/manifests/"), "size": 1}}))
			request(t, http.MethodPut, "http://"+host+"/v2/a/manifests/sha256:"+hexSum(b), imageManifest, b)
			d := descriptor(imageManifest, b)
			d["artifactType"] = dist.TypeSignature
			index(w, d)
		}), signed.ErrUnsigned, "want one layer"},

		{"a bundle's file is another", bundleRef, serveFrom(blobOf([]byte("reference values")), blobOf([]byte("{}"))), nil, "mismatch"},
		{"a bundle's file is gone", bundleRef, at(blobOf([]byte(`{"tests":[]}`)), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }), nil, "not found"},
		{"a bundle's manifest is another", bundleRef, at(blobOf(whole.ManifestBytes()), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Replace(whole.ManifestBytes(), []byte("all-allow"), []byte("first-xxx"), 1))
		}), dist.ErrDigest, ""},

		{"a list of images", "oci://" + host + "/a@" + put(t, host, "a", map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []any{}}), nil, dist.ErrType, ""},
		{"an image", "oci://" + host + "/a@" + put(t, host, "a", map[string]any{"schemaVersion": 2, "mediaType": imageManifest, "config": descriptor("application/vnd.oci.image.config.v1+json", []byte("{}")), "layers": []any{descriptor(dist.TypeModule, mod)}}), nil, dist.ErrType, ""},
		{"no layers", "oci://" + host + "/a@" + put(t, host, "a", policyManifest()), nil, dist.ErrType, ""},
		{"two modules without a bundle's manifest", "oci://" + host + "/a@" + put(t, host, "a", policyManifest(descriptor(dist.TypeModule, mod), descriptor(dist.TypeModule, mod))), nil, dist.ErrType, ""},
		{"a layer of another type", "oci://" + host + "/a@" + put(t, host, "a", policyManifest(descriptor("text/plain", mod))), nil, dist.ErrType, ""},
		{"a manifest with a member twice", "", at(manifestOf(good), func(w http.ResponseWriter, _ *http.Request) {
			asManifest(w, []byte(`{"schemaVersion":2,"schemaVersion":2}`))
		}), nil, "mismatch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.set(tt.before)
			defer h.set(nil)
			o := options()
			o.Registry.Timeout = 5 * time.Second
			if errors.Is(tt.want, dist.ErrTimeout) {
				o.Registry.Timeout = 200 * time.Millisecond
			}
			ref := tt.ref
			if ref == "" {
				ref = good
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			started := time.Now()
			l, err := dist.Load(t.Context(), ref, o)
			took := time.Since(started)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("accepted: %s", l.Ref)
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want %v, with %q", err, tt.want, tt.says)
			}
			if len(err.Error()) > 2000 || strings.ContainsAny(strings.ReplaceAll(err.Error(), "\n", ""), "\x1b\x00") {
				t.Errorf("an error that is not fit for a terminal: %q", err)
			}
			if took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			// The server's side of an endless answer counts too.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("took %d MiB", grown>>20)
			}
			h.mu.Lock()
			n := len(h.seen)
			h.mu.Unlock()
			if n > 60 {
				t.Errorf("%d requests", n)
			}
		})
	}
	if _, err := dist.Load(t.Context(), good, options()); err != nil {
		t.Errorf("without anything hostile: %v", err)
	}

	// Sizes that lie are refused before anything is fetched.
	for _, size := range []int64{-1, 0, signed.MaxModule + 1, 1 << 62} {
		d := descriptor(dist.TypeModule, mod)
		d["size"] = size
		ref := "oci://" + host + "/a@" + put(t, host, "a", policyManifest(d))
		o := dist.Options{AllowUnsigned: true}
		h.set(nil)
		if _, err := dist.Load(t.Context(), ref, o); err == nil || !strings.Contains(err.Error(), "allowed") {
			t.Errorf("size %d: %v", size, err)
		}
		h.mu.Lock()
		if len(h.seen) != 1 {
			t.Errorf("size %d: %q", size, h.seen)
		}
		h.mu.Unlock()
	}
	// Nothing of a module is fetched before its signature was verified.
	h.set(nil)
	o := options()
	o.Trust = &signed.Trust{Keys: []crypto.PublicKey{newKey().Public()}}
	if _, err := dist.Load(t.Context(), good, o); !errors.Is(err, signed.ErrUnauthorized) {
		t.Error(err)
	}
	for _, s := range h.seen {
		if strings.HasSuffix(s, blobOf(mod)) {
			t.Errorf("the module was fetched: %q", h.seen)
		}
	}
}

// Credentials stay with the registry that they are for, wherever it leads.
func TestCredentialsStay(t *testing.T) {
	var mu sync.Mutex
	var stolen []string
	thief := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if a := r.Header.Get("Authorization"); a != "" || len(body) > 0 {
			stolen = append(stolen, r.Method+" "+a+" "+string(body))
		}
		_, _ = w.Write([]byte(`{"token":"t","access_token":"t"}`))
	}))
	defer thief.Close()
	thiefHost := strings.TrimPrefix(thief.URL, "https://")
	thiefPort := thiefHost[strings.LastIndexByte(thiefHost, ':'):]
	digest := "@sha256:" + strings.Repeat("a", 64)
	mod := module("a", "1")
	token := func(realm string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="x",scope="repository:a:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	// challenge asks for credentials first, and then does with them what it wants.
	challenge := func(then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			then(w, r)
		}
	}
	redirect := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL+"/x", code) }
	}
	for name, handler := range map[string]http.HandlerFunc{
		"tokens from another host":     token("https://localhost" + thiefPort + "/token"),
		"tokens from another port":     token(thief.URL + "/token"),
		"tokens over http":             token("http://" + thiefHost + "/token"),
		"tokens by a redirect":         challenge(redirect(http.StatusTemporaryRedirect)),
		"a redirect":                   challenge(redirect(http.StatusFound)),
		"an upload that is redirected": challenge(redirect(http.StatusPermanentRedirect)),
		"an upload to a location at another's": challenge(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Location", thief.URL+"/upload")
			w.WriteHeader(http.StatusAccepted)
		}),
	} {
		for _, cred := range []auth.Credential{{Username: "me", Password: "hunter2"}, {RefreshToken: "hunter2"}, {AccessToken: "hunter2"}} {
			s := httptest.NewTLSServer(handler)
			o := options()
			asked := map[string]bool{}
			o.Registry = dist.Registry{TLS: true, Timeout: 5 * time.Second, Transport: s.Client().Transport, Credentials: func(_ context.Context, host string) (auth.Credential, error) {
				asked[host] = true
				return cred, nil
			}}
			host := s.Listener.Addr().String()
			_, err := dist.Load(t.Context(), host+"/a"+digest, o)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", name, err)
			}
			_, err = dist.Push(t.Context(), host+"/a:1", mod, nil, o)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", name, err)
			}
			for h := range asked {
				if h != host {
					t.Errorf("%s: credentials of %s were asked for", name, h)
				}
			}
			s.Client().CloseIdleConnections()
			s.Close()
		}
	}
	if len(stolen) > 0 {
		t.Errorf("stolen: %q", stolen)
	}

	// A host that the operator names may be asked.
	var got string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got = r.Header.Get("Authorization"); got == "" {
			token(thief.URL+"/token")(w, r)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	for _, names := range [][]string{nil, {"example.com"}, {thiefHost}} {
		o := options()
		o.Registry = dist.Registry{TLS: true, Timeout: 5 * time.Second, Transport: server.Client().Transport, TokenHosts: names,
			Credentials: auth.StaticCredential(host, auth.Credential{Username: "me", Password: "hunter2"})}
		got = ""
		_, err := dist.Load(t.Context(), host+"/a"+digest, o)
		if named := len(names) > 0 && names[0] == thiefHost; err == nil || named != (got == "Bearer t") {
			t.Errorf("token hosts %q: %v, then %q", names, err, got)
		}
	}
	server.Client().CloseIdleConnections()
	if len(stolen) != 1 {
		t.Errorf("given to the host that was named: %q", stolen)
	}
}

// A registry by https stays with https.
func TestNoDowngrade(t *testing.T) {
	plain := serve(t, others(true))
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+plain+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	o := options()
	o.Registry = dist.Registry{TLS: true, Transport: s.Client().Transport}
	_, err := dist.Load(t.Context(), s.Listener.Addr().String()+"/a@sha256:"+strings.Repeat("a", 64), o)
	if err == nil || !strings.Contains(err.Error(), "without protection") {
		t.Error(err)
	}
	s.Client().CloseIdleConnections()
}

// sees answers nothing, and remembers the URLs.
type sees struct{ urls []string }

func (s *sees) RoundTrip(r *http.Request) (*http.Response, error) {
	s.urls = append(s.urls, r.URL.Scheme+"://"+r.URL.Host)
	return nil, errors.New("no network")
}

// http is for this machine, by its spelling, unless the operator says otherwise.
func TestScheme(t *testing.T) {
	for host, want := range map[string]string{
		"127.0.0.1:5000": "http", "127.9.9.9": "http", "localhost:5000": "http", "localhost": "http",
		"example.com": "https", "localhost.example.com": "https", "10.0.0.1:5000": "https", "127.0.0.1.example.com": "https", "docker.io": "https",
	} {
		for _, plain := range []bool{false, true} {
			s := &sees{}
			o := options()
			o.Registry = dist.Registry{PlainHTTP: plain, Transport: s}
			if _, err := dist.Load(t.Context(), host+"/a@sha256:"+strings.Repeat("a", 64), o); err == nil || len(s.urls) != 1 {
				t.Fatal(err, s.urls)
			}
			if plain {
				want = "http"
			}
			if !strings.HasPrefix(s.urls[0], want+"://") {
				t.Errorf("%s: %s", host, s.urls)
			}
		}
	}
}

// Who may write to a registry can refer to anything. It neither helps nor hurts.
func TestStrangersSignatures(t *testing.T) {
	host := serve(t, others(true))
	whole := must(bundle().WithSignatures(signBundle(alice, bundle())))
	ref := must(dist.Push(t.Context(), host+"/a:1", whole.Bytes(), nil, options())).Ref
	_, subject, _ := strings.Cut(ref, "@")
	blob(t, host, "a", []byte("{}"))
	add := func(content []byte) string {
		blob(t, host, "a", content)
		return put(t, host, "a", map[string]any{
			"schemaVersion": 2, "mediaType": imageManifest, "artifactType": dist.TypeSignature, "config": descriptor(dist.TypeSignature, []byte("{}")),
			"layers": []any{descriptor(dist.TypeCOSE, content)}, "subject": map[string]any{"mediaType": imageManifest, "digest": subject, "size": 1},
		})
	}
	add([]byte("junk"))
	add([]byte{0xd2, 0x84})
	add(sign(alice, module("strict", "1.2.0")))
	add(bytes.Repeat([]byte{0}, 100))
	p, err := dist.Pull(t.Context(), ref, options())
	if err != nil || len(p.Signatures) != 1 || !bytes.Equal(p.File, whole.Bytes()) {
		t.Fatalf("%+v, %v", p, err)
	}
	ref = must(dist.Push(t.Context(), host+"/a:2", bundle().Bytes(), [][]byte{signBundle(mallory, bundle())}, options())).Ref
	if !strings.HasSuffix(ref, subject) {
		t.Error("a bundle is another one with other signatures")
	}
	unsigned := must(dist.Push(t.Context(), host+"/a:3", module("other", "1"), nil, options())).Ref
	_, subject, _ = strings.Cut(unsigned, "@")
	add(sign(alice, module("strict", "1.2.0")))
	if _, err := dist.Pull(t.Context(), unsigned, options()); !errors.Is(err, signed.ErrUnsigned) || !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
}

// A signer who signs what is not so, of a policy that he did sign.
func TestSignersMistakes(t *testing.T) {
	host := serve(t, others(true))
	mod := module("strict", "1.2.0")
	st := must(signed.ModuleStatement(mod, "", ""))
	st.Name = "lax"
	bs := bundle().Statement()
	bs.Version = "4"
	for name, tt := range map[string]struct {
		file []byte
		s    *signed.Statement
	}{"module": {mod, st}, "bundle": {bundle().Bytes(), bs}} {
		sig := must(signed.Sign(tt.s, &signed.Signer{Name: "x", Key: alice}))
		ref := must(dist.Push(t.Context(), host+"/a:"+name, tt.file, [][]byte{sig}, options())).Ref
		if _, err := dist.Pull(t.Context(), ref, options()); !errors.Is(err, signed.ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
