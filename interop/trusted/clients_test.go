package trusted_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/trusted"
	"github.com/trustedmcp/tmcp/protocol"
)

// Every client, opening as its SDK does and in each era that it can be told to
// open with, works through tmcp connect and tmcp serve as it does without, over
// HTTP and with tmcp connect --stdio as the command in its config. And nothing
// of it is seen on the wire.
func TestClientsBesideConnect(t *testing.T) {
	server, err := interop.Lookup("go-sdk-server")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range interop.Clients() {
		for _, e := range target.Endpoints {
			t.Run(target.Name+"/"+e.Name, func(t *testing.T) {
				cache := interoptest.Install(t, target, server)
				s := serve(t, interoptest.Start(t, cache, server, "http"))
				for _, era := range append([]interop.Era{""}, e.Eras...) {
					for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP} {
						t.Run(fmt.Sprintf("%s/%s", orDefault(era), carrier), func(t *testing.T) {
							w := tap(t, s)
							near := connectFor(t, e.Transport, to(s, w.URL, carrier), s)
							res, err := target.RunClient(t.Context(), cache, near, interop.ClientOptions{Era: era, Echo: canaryText, Ask: canaryAnswer})
							if err != nil {
								t.Fatal(err)
							}
							if res.Echo != canaryText || res.Ask != "answer: "+canaryAnswer || !slices.Contains(res.Tools, "progress") {
								t.Errorf("got %+v", res)
							}
							opened := era
							if opened == "" {
								opened = e.Eras[0]
							}
							if modern := res.ProtocolVersion >= interop.ModernRevision; modern != (opened == interop.Modern) {
								t.Errorf("opened with %q, want %s", res.ProtocolVersion, opened)
							}
							unseen(t, w, append(toolNames, "canary-argument-5f1c", canaryAnswer))
						})
					}
				}
			})
		}
	}
}

// connectFor is a connect in this process, or the command that runs one.
func connectFor(t *testing.T, transport interop.Transport, cfg gateway.ConnectConfig, s *trusted.Gateway) *interop.Running {
	if transport == interop.HTTP {
		return &interop.Running{URL: connect(t, cfg).URL}
	}
	return &interop.Running{Command: []string{tmcp(t), "connect", "--stdio", "--carrier", cfg.Carrier.String(),
		"--identity", cfg.Identity, "--pin", s.Identity.Thumbprint().String(), cfg.URL}}
}

// tmcp is the command, built once from this module.
func tmcp(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	buildDir string
	built    = sync.OnceValues(func() (string, error) {
		path := filepath.Join(buildDir, "tmcp")
		if runtime.GOOS == "windows" {
			path += ".exe"
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/trustedmcp/tmcp/cmd/tmcp").CombinedOutput()
		if err != nil {
			return "", errors.Join(err, errors.New(strings.TrimSpace(string(out))))
		}
		return path, nil
	})
)

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "tmcp-trusted-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

func orDefault(era interop.Era) string {
	if era == "" {
		return "default"
	}
	return string(era)
}
