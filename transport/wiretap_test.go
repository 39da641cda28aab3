package transport_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/trustedmcp/tmcp/transport"
)

// wiretap records every byte that a client writes to and reads from its sockets.
type wiretap struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	conns map[*tappedConn]bool
}

type tappedConn struct {
	net.Conn
	tap *wiretap
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tap.record(p[:n])
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	c.tap.record(p)
	return c.Conn.Write(p)
}

func (c *tappedConn) Close() error {
	c.tap.mu.Lock()
	delete(c.tap.conns, c)
	c.tap.mu.Unlock()
	return c.Conn.Close()
}

func (w *wiretap) record(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
}

// sees reports whether s was on the wire.
func (w *wiretap) sees(s string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.buf.Bytes(), []byte(s))
}

// cut breaks all connections.
func (w *wiretap) cut() {
	w.mu.Lock()
	var all []*tappedConn
	for c := range w.conns {
		all = append(all, c)
	}
	w.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// tapped is an HTTP client with trust, whose sockets are tapped. Every request of
// the SDK gets two more headers, with canaries.
func (s *sealed) tapped(t testing.TB, cfg transport.ClientConfig) (*http.Client, *wiretap) {
	t.Helper()
	tap := &wiretap{conns: map[*tappedConn]bool{}}
	base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &tappedConn{conn, tap}
		tap.mu.Lock()
		tap.conns[c] = true
		tap.mu.Unlock()
		return c, nil
	}}
	t.Cleanup(base.CloseIdleConnections)
	if cfg.Anchor == nil {
		cfg.Anchor = s.anchor
	}
	rt, err := transport.RoundTripper(base, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: withHeaders{rt}}, tap
}

type withHeaders struct{ http.RoundTripper }

func (w withHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+canary)
	r.Header.Set("X-Canary", canary)
	return w.RoundTripper.RoundTrip(r)
}
