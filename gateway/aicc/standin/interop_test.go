package standin_test

import (
	"bufio"
	"context"
	"crypto/rsa"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/evidence/eat"
	gwaicc "github.com/trustedmcp/tmcp/gateway/aicc"
	"github.com/trustedmcp/tmcp/gateway/aicc/standin"
	"github.com/trustedmcp/tmcp/interop"
	peer "github.com/trustedmcp/tmcp/interop/aicc"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	ours "github.com/trustedmcp/tmcp/transport/aicc"
)

// theirConfig is a client_config.json of the published package for a stand-in.
func theirConfig(url string) map[string]any {
	return map[string]any{
		"ra_url": url, "ra_type": "tca", "ra_service_name": "weather", "ra_policy_id": "any", "attest_must": true,
		"bytedance_top_info": `{"ak":"AK","sk":"SK","service":"pcc"}`,
	}
}

// takes are the faults with which the published package, version 0.0.1, uses the
// key all the same: it looks at no signature and no algorithm of the token, at
// the first node only, and not at which policy matched.
var takes = map[standin.Fault]bool{
	standin.BadSignature: true, standin.NoSignature: true, standin.AlgNone: true, standin.AlgHS384: true, standin.AlgRS256: true,
	standin.OtherSigner: true, standin.OwnKeyHeader: true, standin.OwnKeyURL: true, standin.OwnKeyClaim: true, standin.ForeignKey: true,
	standin.NoExpiry: true, standin.OtherPolicies: true, standin.ProofSize: true, standin.NodesDiffer: true, standin.SecondBad: true,
}

// TestTheirClient: the published client, unmodified, takes the stand-in's answers,
// and what it takes of wrong ones is as we say of it.
func TestTheirClient(t *testing.T) {
	cache := interoptest.Install(t, interop.AICCServer(""))
	script, err := filepath.Abs("testdata/attest.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), interop.AICCClient(cache, "")[0], script)
	cmd.Dir = t.TempDir() // it logs there
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String()[max(0, log.Len()-4000):])
		}
	}()
	lines := bufio.NewScanner(out)
	attest := func(cfg map[string]any) (pem string) {
		t.Helper()
		b, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(append(b, '\n')); err != nil || !lines.Scan() {
			t.Fatalf("the client ended: %v, %v", err, lines.Err())
		}
		var key *string
		if err := json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "KEY ")), &key); err != nil {
			t.Fatal(err)
		}
		if key == nil {
			return ""
		}
		return *key
	}
	want, err := wire.MarshalPublicKey(&keys()[1].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*standin.Config){
		"plain":   func(*standin.Config) {},
		"signed":  func(c *standin.Config) { c.Gateway = &gwaicc.Gateway{AccessKey: "AK", SecretKey: "SK", Service: "pcc"} },
		"merkle":  func(c *standin.Config) { c.Merkle = true },
		"own key": func(c *standin.Config) { c.EmbedKey, c.KeyID = true, "k" },
	} {
		cfg := config()
		edit(&cfg)
		s, err := standin.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(s)
		if got := attest(theirConfig(srv.URL)); got != string(want) {
			t.Errorf("%s: the key is %q", name, got)
		}
		srv.Close()
	}

	s, err := standin.New(config())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	for _, f := range standin.Faults() {
		if err := s.SetFault(f); err != nil {
			t.Fatal(err)
		}
		if got := attest(theirConfig(srv.URL)) != ""; got != takes[f] {
			t.Errorf("%s: the published client uses the key: %v, and we say %v", f, got, takes[f])
		}
	}
	// attest_must is false by default; then an unmatched policy does not matter
	// either.
	if err := s.SetFault(standin.NoPolicies); err != nil {
		t.Fatal(err)
	}
	weak := theirConfig(srv.URL)
	delete(weak, "attest_must")
	if attest(weak) == "" {
		t.Error("without attest_must the published client refuses a key whose policies did not match, and we say that it does not")
	}
	// Without bytedance_top_info it asks the server itself, whatever ra_type says, and
	// looks at nothing.
	local := httptest.NewServer(&gwaicc.LocalHandler{Public: func() *rsa.PublicKey { return &keys()[1].PublicKey }})
	defer local.Close()
	cfg := maps.Clone(theirConfig(local.URL))
	delete(cfg, "bytedance_top_info")
	if attest(cfg) != string(want) {
		t.Error("the published client does not take the key of our local handler")
	}
}

// plain is a server without trust.
func plain() http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "plain", Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)
}

// TestTheirClientOurServer: their client attests our server through the stand-in,
// and calls it.
func TestTheirClientOurServer(t *testing.T) {
	cache := interoptest.Install(t, interop.AICCServer(""))
	serverKeys, err := gwaicc.NewServerKeys(gwaicc.ServerConfig{Random: true}, gwaicc.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := ours.Handler(plain(), ours.ServerConfig{Keys: serverKeys.Keys})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections() // a session's stream stays open
		srv.Close()
	})
	cfg := config()
	cfg.Merkle = true
	cfg.Services["weather"] = standin.Service{Public: func(context.Context) (*rsa.PublicKey, error) { return serverKeys.Public(), nil }}
	s, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ra := httptest.NewServer(s)
	defer ra.Close()
	b, err := json.Marshal(theirConfig(ra.URL))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "client_config.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := peer.StartClient(context.WithoutCancel(t.Context()), cache, path, srv.URL, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	if a, err := c.Do(peer.Step{Do: "initialize"}); err != nil || a.Exception != "" {
		t.Fatalf("%+v, %v\n%s", a, err, c.Log())
	}
	if a, err := c.Do(peer.Step{Do: "call", Tool: "echo", Args: map[string]any{"text": "attested 🦆"}}); err != nil || a.Text != "attested 🦆" {
		t.Errorf("%+v, %v\n%s", a, err, c.Log())
	}
}

// TestOurClientTheirServer: our client attests their server through the
// stand-in, which knows its key file, and calls it.
func TestOurClientTheirServer(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "myPrivateKey.pem")
	if err := os.WriteFile(private, wire.MarshalPrivateKey(keys()[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"key_file": private})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "server_config.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	target := interop.AICCServer(path)
	running := interoptest.Start(t, interoptest.Install(t, target), target, "sse")
	s, err := standin.New(config())
	if err != nil {
		t.Fatal(err)
	}
	ra := httptest.NewServer(s)
	defer ra.Close()
	if b, err = json.Marshal(theirConfig(ra.URL)); err != nil {
		t.Fatal(err)
	}
	cfg, err := gwaicc.ParseClientConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	k, err := gwaicc.NewClientKeys(*cfg, gwaicc.Options{TokenKeys: eat.Keys{{Public: s.Public()}}, AllowSimulated: true})
	if err != nil {
		t.Fatal(err)
	}
	rt, err := ours.RoundTripper(http.DefaultTransport, ours.ClientConfig{Key: k.PublicKey, Attested: k.AttestedKey})
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: running.URL, HTTPClient: &http.Client{Transport: rt}}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "attested 🦆"}})
	if err != nil || len(r.Content) != 1 || r.Content[0].(*mcp.TextContent).Text != "attested 🦆" || !k.Attested() {
		t.Errorf("%+v, %v", r, err)
	}
}
