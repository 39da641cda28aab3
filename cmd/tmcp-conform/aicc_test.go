package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc/ref"
	"github.com/trustedmcp/tmcp/conformance/reference"
	gatewayaicc "github.com/trustedmcp/tmcp/gateway/aicc"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	transport "github.com/trustedmcp/tmcp/transport/aicc"
)

// lying is the reference server, which keeps its offer to itself when told so,
// and counts what comes in plaintext.
type lying struct {
	http.Handler
	silent bool
	plain  int
}

func (l *lying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get(wire.Header) == "" && r.Method == http.MethodPost {
		l.plain++
	}
	if l.silent && r.Header.Get(wire.Header) == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.Handler.ServeHTTP(w, r)
}

// serveReference serves the reference server of the profile, and returns a client
// of this project for it.
func serveReference(t *testing.T, mode protocol.Mode) (*lying, string, http.RoundTripper) {
	t.Helper()
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	inner := reference.New(reference.Only(conformance.Legacy))
	t.Cleanup(inner.Close)
	l := &lying{Handler: ref.Server(inner, priv, "")}
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	base := &http.Transport{DisableCompression: true}
	t.Cleanup(base.CloseIdleConnections)
	rt, err := transport.RoundTripper(base, transport.ClientConfig{Mode: mode, Key: func(context.Context) (*rsa.PublicKey, error) { return &priv.PublicKey, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return l, srv.URL, rt
}

func askAICC(t *testing.T, rt http.RoundTripper, url, message string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

const aiccInitialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`

// TestNoWayBack: once the server offered the profile, a client in mode preferred
// seals to it, whatever a later answer says.
//
// TMCP-23.2-3: A client in mode `preferred` MUST NOT send anything unsealed to a server that once offered the profile to it.
func TestNoWayBack(t *testing.T) {
	l, url, rt := serveReference(t, protocol.ModePreferred)
	if got := askAICC(t, rt, url, aiccInitialize); !strings.Contains(got, "trustProtocol") {
		t.Fatalf("initialize: %s", got)
	}
	before := l.plain
	l.silent = true
	askAICC(t, rt, url, aiccInitialize)
	askAICC(t, rt, url, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	if l.plain != before {
		t.Errorf("%d messages went in plaintext to a server that offered the profile", l.plain-before)
	}
}

// TestLabels: what a result says of how it came.
//
// TMCP-23.8-1: A client MUST label each result with the profile, whether the key was attested, and what the profile leaves open: `no-forward-secrecy`, `not-post-quantum`, `http-fields-in-the-clear`, `client-unknown`, `stream-gaps-unseen`.
// TMCP-23.8-2: A client MUST NOT label anything of this profile attested by reason of a key from a file.
func TestLabels(t *testing.T) {
	_, url, rt := serveReference(t, protocol.ModeRequired)
	got := askAICC(t, rt, url, aiccInitialize)
	for _, want := range []string{`"profile":"aicc-0.1"`, `"attested":false`, "no-forward-secrecy", "not-post-quantum", "http-fields-in-the-clear", "client-unknown", "stream-gaps-unseen"} {
		if !strings.Contains(got, want) {
			t.Errorf("the label lacks %s: %s", want, got)
		}
	}
	k, err := gatewayaicc.NewClientKeys(gatewayaicc.ClientConfig{PublicKeyPath: "nowhere.pem"}, gatewayaicc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if k.Attested() {
		t.Error("a key from a file is called attested")
	}
}

// TestAnnounces: a server of both says so where a client offers this profile.
//
// TMCP-23.8-5: A server of both MUST announce `org.trustedmcp/trust` in the answer to an `initialize` that offers this profile.
func TestAnnounces(t *testing.T) {
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	inner := reference.New(reference.Only(conformance.Legacy))
	defer inner.Close()
	h, err := transport.Handler(inner, transport.ServerConfig{Keys: func() []*rsa.PrivateKey { return []*rsa.PrivateKey{priv} },
		Else: http.NotFoundHandler(), Extension: []byte(`{"mode":"required"}`)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	base := &http.Transport{DisableCompression: true}
	defer base.CloseIdleConnections()
	for _, plain := range []bool{true, false} {
		rt, err := transport.RoundTripper(base, transport.ClientConfig{PlainInitialize: plain, Key: func(context.Context) (*rsa.PublicKey, error) { return &priv.PublicKey, nil }})
		if err != nil {
			t.Fatal(err)
		}
		if got := askAICC(t, rt, srv.URL, aiccInitialize); !strings.Contains(got, `"`+protocol.ExtensionID+`":{"mode":"required"}`) {
			t.Errorf("plain initialize %v: %s", plain, got)
		}
	}
}

// aiccKey is the key of all servers of the scripts.
var aiccKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// aiccServers starts two servers of profile aicc-0.1, one of which takes replays.
func aiccServers(e *testscript.Env) error {
	priv, err := aiccKey()
	if err != nil {
		return err
	}
	public, err := wire.MarshalPublicKey(&priv.PublicKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(e.WorkDir, wire.PublicKeyFile), public, 0o600); err != nil {
		return err
	}
	for name, fault := range map[string]string{"AICC": "", "AICCREPLAY": "no-memory"} {
		inner := reference.New(reference.Only(conformance.Legacy))
		srv := httptest.NewServer(ref.Server(inner, priv, fault))
		e.Defer(func() { srv.Close(); inner.Close() })
		e.Setenv(name, srv.URL)
	}
	return nil
}

// aiccClient is the reference client with the fault that its argument names.
func aiccClient(args []string) int {
	fault := ""
	if len(args) > 1 {
		fault = args[0]
	}
	run := ref.Client(fault).Run(context.Background(), args[len(args)-1], os.Environ())
	_, _ = os.Stdout.Write(run.Stdout)
	_, _ = os.Stderr.Write(run.Stderr)
	return run.Exit
}
