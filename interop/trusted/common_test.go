package trusted_test

import (
	"io"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/trusted"
	"github.com/trustedmcp/tmcp/protocol"
)

// serve runs a gateway in front of a server of others until the test ends.
func serve(t *testing.T, behind *interop.Running) *trusted.Gateway {
	t.Helper()
	cfg := gateway.ServeConfig{Offer: protocol.Offer{Mode: protocol.ModeRequired}, Upstream: behind.URL, Stderr: printed(t)}
	if behind.URL == "" {
		cfg.Command = behind.Command
	}
	g, err := trusted.Serve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, g)
	return g
}

func connect(t *testing.T, cfg gateway.ConnectConfig) *trusted.Gateway {
	t.Helper()
	g, err := trusted.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, g)
	return g
}

func stopAtEnd(t *testing.T, g *trusted.Gateway) {
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// to is how a client connects to server over a wire.
func to(server *trusted.Gateway, wireURL string, c protocol.Carrier) gateway.ConnectConfig {
	return gateway.ConnectConfig{
		URL: wireURL, Identity: server.Identity.URI(), Anchor: server.Anchor(),
		Offer: protocol.Offer{Mode: protocol.ModeRequired}, Carrier: c,
	}
}

// tap puts a wire in front of g until the test ends.
func tap(t *testing.T, g *trusted.Gateway) *trusted.Wire {
	t.Helper()
	w, err := trusted.Tap(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// repeats is how often a run is repeated that must always come out the same.
func repeats(t *testing.T) int {
	s := os.Getenv("TMCP_REPEAT")
	switch {
	case s != "":
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("TMCP_REPEAT=%q is no number of runs", s)
		}
		return n
	case os.Getenv("CI") != "":
		return 10
	}
	return 3
}

// stop ends gateways before the test does.
func stop(t *testing.T, all ...*trusted.Gateway) {
	t.Helper()
	for _, g := range all {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// printed keeps the end of what a server's command prints, and shows it when the
// test failed.
func printed(t *testing.T) io.Writer {
	p := new(tail)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.Failed() {
			t.Logf("the server printed:\n%s", p.text)
		}
	})
	return p
}

type tail struct {
	mu   sync.Mutex
	text []byte
}

func (p *tail) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = append(p.text, b...)
	p.text = p.text[max(0, len(p.text)-2000):]
	return len(b), nil
}
