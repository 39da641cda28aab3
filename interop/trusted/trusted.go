// Package trusted puts trust between the implementations of package interop: it
// runs both ends of a trusted leg on real sockets of this machine, and taps what
// is on the wire between them.
//
// Call [Serve] in front of a server, [Tap] in front of that, and [Connect] beside
// a client; each returns a [Gateway] with the URL for whoever comes next.
package trusted

import (
	"context"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/protocol"
)

// stopTimeout bounds how long a gateway may take to end.
const stopTimeout = 20 * time.Second

// A Gateway is one end that runs.
type Gateway struct {
	URL      string             // for the next hop towards the client
	Identity *protocol.Identity // of a Serve; nil of a Connect
	stop     func() error
}

// Stop ends the gateway, and returns its error. It may be called more than once.
func (g *Gateway) Stop() error { return g.stop() }

// Anchor is what a client trusts: the pinned key of this Serve's identity.
func (g *Gateway) Anchor() protocol.Anchor { return protocol.Pin(g.Identity.Thumbprint()) }

// Serve runs a [gateway.Serve] on loopback until ctx ends or Stop is called.
func Serve(ctx context.Context, cfg gateway.ServeConfig) (*Gateway, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	g := new(Gateway)
	return g, g.run(ctx, "serve", func(ctx context.Context, ready func()) error {
		return gateway.Serve(ctx, cfg, func(s gateway.Serving) {
			g.URL, g.Identity = s.URL, s.Identity
			ready()
		})
	})
}

// Connect runs a [gateway.Connect] on loopback until ctx ends or Stop is called.
func Connect(ctx context.Context, cfg gateway.ConnectConfig) (*Gateway, error) {
	g := new(Gateway)
	return g, g.run(ctx, "connect", func(ctx context.Context, ready func()) error {
		return gateway.Connect(ctx, cfg, "127.0.0.1:0", func(url string) {
			g.URL = url
			ready()
		})
	})
}

// run runs f until it is ready, and leaves it running.
func (g *Gateway) run(ctx context.Context, name string, f func(context.Context, func()) error) error {
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = f(ctx, func() { close(ready) })
	}()
	g.stop = func() error {
		cancel()
		select {
		case <-ended:
			return err
		case <-time.After(stopTimeout):
			return fmt.Errorf("%s goes on %v after it was told to end", name, stopTimeout)
		}
	}
	select {
	case <-ready:
		return nil
	case <-ended:
		cancel()
		return fmt.Errorf("%s: %w", name, err)
	}
}
