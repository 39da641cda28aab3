package aicc_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/aicc/standin"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/aicc"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/trusted"
	"github.com/trustedmcp/tmcp/protocol"
)

// Their client reaches any server through tmcp serve: each of the others' that
// speaks MCP's legacy era, over stdio and over HTTP.
func TestTheirClientAnyServer(t *testing.T) {
	interoptest.Need(t)
	f := newFolder(t)
	for _, target := range interop.Servers() {
		if !target.Common {
			continue
		}
		for _, e := range target.Endpoints {
			t.Run(target.Name+"/"+e.Name, func(t *testing.T) {
				behind := interoptest.Start(t, interoptest.Install(t, target), target, e.Name)
				cfg := serveConfig()
				if cfg.Upstream = behind.URL; behind.URL == "" {
					cfg.Command = behind.Command
				}
				w := tap(t, startServe(t, cfg).URL)
				c := theirClient(t, f.client, w.URL)
				if a := do(t, c, aicc.Step{Do: "tools"}); len(a.Tools) < 5 {
					t.Errorf("tools: %+v", a)
				}
				if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "said-" + canary}}); a.Text != "said-"+canary {
					t.Errorf("echo: %+v", a)
				}
				if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Fill: 64 << 10}); !a.Same {
					t.Errorf("64 KiB: %+v", a)
				}
				if a := do(t, c, aicc.Step{Do: "call", Tool: "fail"}); !a.IsError || a.Text != "failed as asked" {
					t.Errorf("a result with isError: %+v", a)
				}
				if a := do(t, c, aicc.Step{Do: "call", Tool: "progress", Args: map[string]any{"n": 3}}); a.Text != "done 3" || len(a.Progress) != 3 {
					t.Errorf("progress: %+v", a)
				}
				if a := do(t, c, aicc.Step{Do: "many", N: 16}); a.Right != 16 {
					t.Errorf("16 calls at once: %+v", a)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				unseen(t, w, "said-"+canary, "failed as asked", "call 7 of many", "tools/call")
			})
		}
	}
}

// One endpoint serves both: who has the extension gets that, and their client the
// profile. A client of ours that takes either takes the extension here, and the
// profile with their server.
func TestBothAtOneEndpoint(t *testing.T) {
	interoptest.Need(t)
	f := newFolder(t)
	cfg := serveConfig()
	cfg.AICC.Also = true
	cfg.Upstream = listen(t, plainServer(true))
	s := startServe(t, cfg)
	w := tap(t, s.URL)

	c := theirClient(t, f.client, w.URL)
	if a := do(t, c, aicc.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "said-" + canary}}); a.Text != "said-"+canary {
		t.Errorf("their client: %+v", a)
	}
	if n := len(w.Shows("x-trusted-mcp: 1")); n != 1 {
		t.Error("their client did not speak the profile")
	}
	native := tap(t, s.URL)
	near := startConnect(t, gateway.ConnectConfig{URL: native.URL, Identity: s.Identity.URI(), Anchor: s.Anchor(),
		Offer: protocol.Offer{Mode: protocol.ModeRequired}, AICC: either()})
	if got, err := echo(t, mustSession(t, near.URL, loopback(t), nil), "said-"+canary); err != nil || got != "said-"+canary {
		t.Errorf("the extension: %q, %v", got, err)
	}
	if len(native.Shows("x-trusted-mcp")) > 0 {
		t.Error("the weaker profile was spoken to a server that has the extension")
	}
	unseen(t, w, secrets...)
	unseen(t, native, append(secrets, "go-"+canary)...)

	far := tap(t, theirServer(t, f, "sse").URL)
	near = startConnect(t, gateway.ConnectConfig{URL: far.URL, Anchor: s.Anchor(),
		Offer: protocol.Offer{Mode: protocol.ModeRequired}, AICC: either()})
	if got, err := echo(t, mustSession(t, near.URL, loopback(t), nil), "said-"+canary); err != nil || got != "said-"+canary {
		t.Errorf("their server, taken as the weaker: %q, %v", got, err)
	}
	unseen(t, far, secrets...)
}

func either() *gateway.AICCClient {
	return &gateway.AICCClient{Key: pinned(serverKey()), Or: true}
}

func pinned(k *rsa.PrivateKey) func(context.Context) (*rsa.PublicKey, error) {
	return func(context.Context) (*rsa.PublicKey, error) { return &k.PublicKey, nil }
}

func serveConfig() gateway.ServeConfig {
	return gateway.ServeConfig{
		Offer: protocol.Offer{Mode: protocol.ModeRequired}, MaxMessage: 2 * large,
		AICC: &gateway.AICCServer{Keys: func() []*rsa.PrivateKey { return []*rsa.PrivateKey{serverKey()} }},
	}
}

func startServe(t *testing.T, cfg gateway.ServeConfig) *trusted.Gateway {
	t.Helper()
	g, err := trusted.Serve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func startConnect(t *testing.T, cfg gateway.ConnectConfig) *trusted.Gateway {
	t.Helper()
	g, err := trusted.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// The commands, with the key files in their default names and the configurations
// of the package as they are: their client, tmcp serve, tmcp connect, their server.
func TestCommands(t *testing.T) {
	f := newFolder(t)
	far := tap(t, theirServer(t, f, "sse").URL)
	for _, flags := range []struct{ serve, connect []string }{
		{nil, nil}, // ./myPrivateKey.pem, ./myPublicKey.pem
		{[]string{"--aicc-config", f.server}, []string{"--aicc-config", f.client}},
	} {
		connect := tmcp(t, f.dir, append([]string{"connect", "--profile", "aicc-0.1", "--listen", "127.0.0.1:0"}, append(flags.connect, far.URL)...)...)
		serve := tmcp(t, f.dir, append([]string{"serve", "--profile", "aicc-0.1", "--listen", "127.0.0.1:0", "--upstream", connect}, flags.serve...)...)
		near := tap(t, serve)
		c := theirClient(t, f.client, near.URL)
		theirClientTools(t, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		unseen(t, near, secrets...)
	}
	unseen(t, far, append(secrets, "tmcp-interop-aicc")...)
}

// Confidential mode, with a stand-in for the attestation service, through the
// commands: their client attests tmcp serve, and tmcp connect their server, by one
// client_config.json of theirs. With another key in the service's answer than it
// signed for, ours seals nothing.
func TestAttested(t *testing.T) {
	f := newFolder(t)
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	service, err := standin.New(standin.Config{Key: signer, Merkle: true,
		Services: map[string]standin.Service{"weather": {Public: pinned(serverKey())}}})
	if err != nil {
		t.Fatal(err)
	}
	ras := httptest.NewServer(service)
	t.Cleanup(ras.Close)
	der, err := x509.MarshalPKIXPublicKey(service.Public())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(f.dir, "attested_config.json")
	tokenKeys := filepath.Join(f.dir, "token_keys.pem")
	write(t, tokenKeys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	text, err := json.Marshal(map[string]any{
		"ra_url": ras.URL, "ra_type": "tca", "ra_service_name": "weather", "ra_policy_id": "default", "attest_must": true,
		"bytedance_top_info": `{"ak":"AK","sk":"SK","service":"pcc"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, text)

	near := tap(t, tmcp(t, f.dir, "serve", "--profile", "aicc-0.1", "--listen", "127.0.0.1:0", "--upstream", listen(t, plainServer(false)), "--aicc-config", f.server))
	c := theirClient(t, config, near.URL)
	theirClientTools(t, c)
	unseen(t, near, secrets...)

	theirs := theirServer(t, f, "sse").URL
	far := tap(t, theirs)
	connect := func(far *trusted.Wire) string {
		return tmcp(t, f.dir, "connect", "--profile", "aicc-0.1", "--listen", "127.0.0.1:0", "--simulator",
			"--aicc-config", config, "--aicc-token-keys", tokenKeys, far.URL)
	}
	s := mustSession(t, connect(far), loopback(t), nil)
	if got, err := echo(t, s, "said-"+canary); err != nil || got != "said-"+canary {
		t.Errorf("ours, their server: %q, %v", got, err)
	}
	unseen(t, far, secrets...)

	other := tap(t, theirs) // on which nothing of the session above is under way
	if err := service.SetFault(standin.WrongKey); err != nil {
		t.Fatal(err)
	}
	if _, err := session(t, connect(other), loopback(t), nil); err == nil {
		t.Error("a session with a key that the service did not sign for")
	}
	if n, _ := other.Passed(); n != 0 {
		t.Errorf("%d bytes went to a server whose key is not attested", n)
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	buildDir string
	built    = sync.OnceValues(func() (string, error) {
		path := filepath.Join(buildDir, "tmcp")
		out, err := exec.Command("go", "build", "-o", path, "github.com/trustedmcp/tmcp/cmd/tmcp").CombinedOutput()
		if err != nil {
			return "", &exec.Error{Name: "go build", Err: errText(out)}
		}
		return path, nil
	})
	saysURL = regexp.MustCompile(`^tmcp (?:serve: |connect: point the client at )(http://127\.0\.0\.1:[0-9]+/mcp)`)
)

type errText string

func (e errText) Error() string { return string(e) }

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "tmcp-aicc-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// tmcp runs the command in a folder until the test ends, and returns the URL that
// it serves.
func tmcp(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	served, done := make(chan string, 1), make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(done)
		found := false
		for in := bufio.NewScanner(out); in.Scan(); {
			said.WriteString(in.Text() + "\n")
			if m := saysURL.FindStringSubmatch(in.Text()); m != nil && !found {
				found = true
				served <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		<-done
		if err := cmd.Wait(); err != nil || !timer.Stop() {
			t.Errorf("tmcp %s: %v", args[0], err)
		}
		if t.Failed() {
			t.Logf("tmcp %s said:\n%s", args[0], said.String())
		}
	})
	select {
	case url := <-served:
		return url
	case <-done:
		t.Fatalf("tmcp %s ended:\n%s", strings.Join(args, " "), said.String())
	case <-time.After(60 * time.Second):
		t.Fatalf("tmcp %s does not say where it listens", strings.Join(args, " "))
	}
	return ""
}
