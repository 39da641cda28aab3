package dist_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-containerregistry/pkg/registry"
	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/gateway/policy/dist"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

var alice, mallory = newKey(), newKey()

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func module(name, version string) []byte {
	m := corpus.Meta()
	m.Name, m.Version = name, version
	return corpus.Guest{Metadata: m}.Module()
}

func sign(key crypto.Signer, mod []byte) []byte {
	return must(signed.Sign(must(signed.ModuleStatement(mod, "", "")), &signed.Signer{Name: "Example\x1b Corp", Key: key}))
}

func bundle() *signed.Bundle {
	return must(signed.NewBundle(signed.BundleManifest{Name: "house", Version: "3.1", Rule: "all-allow", Policies: []signed.BundlePolicy{
		{Module: "policies/strict.wasm"}, {Module: "policies/lax.wasm", Settings: jsontext.Value(`{"days":30}`)},
	}}, map[string][]byte{
		"policies/strict.wasm": module("strict", "1.2.0"),
		"policies/lax.wasm":    module("lax", "0.1"),
		"references/app.corim": []byte("reference values"),
		"tests/strict.json":    []byte(`{"tests":[]}`),
		"tests/same.json":      []byte(`{"tests":[]}`),
	}, signed.DefaultLimits()))
}

func signBundle(key crypto.Signer, b *signed.Bundle) []byte {
	return must(signed.Sign(b.Statement(), &signed.Signer{Name: "Example Corp", Key: key}))
}

// options pin alice.
func options() dist.Options {
	return dist.Options{Trust: &signed.Trust{Keys: []crypto.PublicKey{alice.Public()}}, Registry: dist.Registry{Timeout: 20 * time.Second}}
}

// others is the registry of go-containerregistry, in this process.
func others(referrers bool) http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers))
}

// serve starts a registry and returns its HOST:PORT.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestRoundTrip(t *testing.T) {
	for name, referrers := range map[string]bool{"referrers": true, "tags in place of referrers": false} {
		t.Run(name, func(t *testing.T) { roundTrip(t, serve(t, others(referrers))) })
	}
}

func roundTrip(t *testing.T, host string) {
	ctx := t.Context()
	mod := module("strict", "1.2.0")
	sigs := [][]byte{sign(mallory, mod), sign(alice, mod)}
	pushed, err := dist.Push(ctx, "oci://"+host+"/acme/strict:1.2.0", mod, sigs, options())
	if err != nil {
		t.Fatal(err)
	}
	if len(pushed.Signatures) != 2 || !strings.HasPrefix(pushed.Ref, "oci://"+host+"/acme/strict@sha256:") {
		t.Errorf("%+v", pushed)
	}
	if again, err := dist.Push(ctx, host+"/acme/strict:again", mod, sigs, options()); err != nil || fmt.Sprint(again) != fmt.Sprint(pushed) {
		t.Errorf("the same gave %+v, %v", again, err)
	}
	for _, ref := range []string{pushed.Ref, strings.TrimPrefix(pushed.Ref, "oci://"), "oci://" + host + "/acme/strict:1.2.0"} {
		l, err := dist.Load(ctx, ref, options())
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if l.Ref != pushed.Ref || l.Digest != sha256.Sum256(mod) || l.Name != "strict" || l.Version != "1.2.0" || l.Rule != nil ||
			len(l.Modules) != 1 || string(l.Modules[0].Bytes) != string(mod) || l.Modules[0].Settings != nil {
			t.Errorf("%s: %+v", ref, l)
		}
		if who := l.Signers(); len(who) != 1 || !strings.HasPrefix(who[0], "Example? Corp (") {
			t.Errorf("%q", who)
		}
	}
	// Signed by nobody that is known.
	o := options()
	o.Trust = &signed.Trust{Keys: []crypto.PublicKey{newKey().Public()}}
	if _, err := dist.Load(ctx, pushed.Ref, o); !errors.Is(err, signed.ErrUnauthorized) {
		t.Error(err)
	}
	// Nobody is pinned.
	o = options()
	o.Trust = nil
	if _, err := dist.Load(ctx, pushed.Ref, o); !errors.Is(err, signed.ErrUnauthorized) {
		t.Error(err)
	}
	o.AllowUnsigned = true
	if l, err := dist.Load(ctx, pushed.Ref, o); err != nil || l.Verified != nil || l.Name != "" {
		t.Error(err)
	}
	if _, err := dist.Load(ctx, "oci://"+host+"/acme/strict:1.2.0", o); !errors.Is(err, signed.ErrUnauthorized) {
		t.Errorf("unsigned by a tag: %v", err)
	}

	b := bundle()
	whole := must(b.WithSignatures(signBundle(alice, b)))
	pushed, err = dist.Push(ctx, host+"/acme/house", whole.Bytes(), nil, options())
	if err != nil {
		t.Fatal(err)
	}
	p, err := dist.Pull(ctx, "oci://"+host+"/acme/house:latest", options())
	if err != nil {
		t.Fatal(err)
	}
	if string(p.File) != string(whole.Bytes()) || p.Ref != pushed.Ref {
		t.Error("another bundle came back")
	}
	l, err := dist.Load(ctx, pushed.Ref, options())
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Modules) != 2 || string(l.Modules[1].Settings) != `{"days":30}` || l.Modules[0].Settings != nil || *l.Rule != policywasm.AllAllow || len(l.References) != 1 || l.Digest != b.Digest() {
		t.Errorf("%+v", l)
	}
	if _, err := dist.Load(ctx, "oci://"+host+"/acme/none:1", options()); err == nil {
		t.Error("found what is not there")
	}
}

func TestPushRefuses(t *testing.T) {
	mod := module("strict", "1.2.0")
	host := serve(t, others(true))
	for name, tt := range map[string]struct {
		ref  string
		file []byte
		sig  []byte
		want error
	}{
		"a signature of another":  {host + "/a:1", mod, sign(alice, module("strict", "1.3.0")), signed.ErrOther},
		"a signature of a bundle": {host + "/a:1", mod, signBundle(alice, bundle()), signed.ErrOther},
		"no signature":            {host + "/a:1", mod, []byte("x"), signed.ErrMalformed},
		"a digest":                {host + "/a@sha256:" + strings.Repeat("0", 64), mod, nil, nil},
		"no registry":             {"a", mod, nil, dist.ErrRef},
		"a bad name":              {host + "/A:1", mod, nil, dist.ErrRef},
		"no policy":               {host + "/a:1", []byte("text"), nil, nil},
	} {
		var sigs [][]byte
		if tt.sig != nil {
			sigs = [][]byte{tt.sig}
		}
		if _, err := dist.Push(t.Context(), tt.ref, tt.file, sigs, options()); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefs(t *testing.T) {
	d := "@sha256:" + strings.Repeat("a", 64)
	for s, want := range map[string]bool{
		"oci://x": true, "oci://": true, "example.com/a" + d: true, "policy.wasm": false, "example.com/a:1": false,
		"./a@sha256:1": false, "a@b": false, "OCI://x": false, "-": false,
	} {
		if dist.IsRef(s) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
	for _, s := range []string{
		"oci://", "oci://x", "oci://example.com/a", "oci:///a" + d, "oci://example.com/A" + d, "oci://example.com/../a" + d, "oci://example.com/a b" + d,
		"oci://user:pw@example.com/a" + d, "oci://example.com/a@sha512:" + strings.Repeat("a", 128), "oci://example.com/a@sha256:" + strings.Repeat("A", 64),
		"oci://example.com/a?x" + d, "oci://example.com/a#x" + d, "oci://exa\nmple.com/a" + d,
	} {
		if _, err := dist.Pull(t.Context(), s, options()); !errors.Is(err, dist.ErrRef) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mod := module("strict", "1.2.0")
	file := write("policy.wasm", mod)
	load := func(file string, o dist.Options) (*dist.Loaded, error) { return dist.Load(t.Context(), file, o) }
	if l, err := load(file, dist.Options{}); err != nil || l.Verified != nil || l.Ref != file {
		t.Errorf("one's own file: %+v, %v", l, err)
	}
	if _, err := load(file, options()); !errors.Is(err, signed.ErrUnsigned) {
		t.Error(err)
	}
	o := options()
	o.Signatures = []string{write("sigs", append(sign(mallory, mod), sign(alice, mod)...))}
	if l, err := load(file, o); err != nil || len(l.Signers()) != 1 {
		t.Error(err)
	}
	write("policy.wasm.cose", sign(alice, module("strict", "1.1.0")))
	if _, err := load(file, options()); !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
	write("policy.wasm.cose", sign(alice, mod))
	if l, err := load(file, options()); err != nil || l.Name != "strict" {
		t.Error(err)
	}
	write("policy.wasm.cose", []byte("x"))
	if _, err := load(file, options()); !errors.Is(err, signed.ErrMalformed) {
		t.Error(err)
	}
	b := bundle()
	if l, err := load(write("house", b.Bytes()), dist.Options{}); err != nil || len(l.Modules) != 2 || l.Name != "house" {
		t.Error(err)
	}
	if _, err := load(write("house", b.Bytes()), options()); !errors.Is(err, signed.ErrUnsigned) {
		t.Error(err)
	}
	if l, err := load(write("house", must(b.WithSignatures(signBundle(alice, b))).Bytes()), options()); err != nil || l.Verified == nil {
		t.Error(err)
	}
	o = dist.Options{Stdin: strings.NewReader(string(mod))}
	if l, err := load("-", o); err != nil || l.Digest != sha256.Sum256(mod) {
		t.Error(err)
	}
	for _, file := range []string{write("empty", nil), write("text", []byte("text")), write("cut", b.Bytes()[:600]), filepath.Join(dir, "none"), dir, "-"} {
		if l, err := load(file, dist.Options{}); err == nil {
			t.Errorf("%s: %+v", file, l)
		}
	}
	o = dist.Options{Limits: signed.Limits{Bundle: 10}}
	if _, err := load(file, o); err == nil {
		t.Error("a file beyond the limit")
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "", "text": "text", "private": "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n", "broken": "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if keys, err := dist.ReadKeys([]string{file}, nil); err == nil {
			t.Errorf("%s: keys %v", name, keys)
		}
		if roots, err := dist.ReadRoots([]string{file}, nil); err == nil {
			t.Errorf("%s: roots %v", name, roots)
		}
	}
}

// Credentials come from docker's configuration, and reach the registry they are
// for.
func TestCredentials(t *testing.T) {
	inner := others(true)
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pw, ok := r.BasicAuth(); !ok || user != "me" || pw != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	o := options()
	if _, err := dist.Push(t.Context(), host+"/a:1", module("a", "1"), nil, o); err == nil {
		t.Error("without credentials")
	}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("me:hunter2")))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Registry.Credentials = must(dist.DockerCredentials())
	mod := module("a", "1")
	pushed, err := dist.Push(t.Context(), host+"/a:1", mod, [][]byte{sign(alice, mod)}, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dist.Load(t.Context(), pushed.Ref, o); err != nil {
		t.Error(err)
	}
	for name, config := range map[string]string{"broken": "{", "another password": strings.Replace(config, "bWU6aHVudGVyMg==", base64.StdEncoding.EncodeToString([]byte("me:secretsecret")), 1)} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		creds, err := dist.DockerCredentials()
		if err == nil {
			o.Registry.Credentials = creds
			_, err = dist.Load(t.Context(), pushed.Ref, o)
		}
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What has ended already is not begun.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dist.Load(ctx, serve(t, others(true))+"/a@sha256:"+strings.Repeat("a", 64), options()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
