package transport_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// sealed is a server behind a trust layer on a real socket, and what a client
// needs to trust it.
type sealed struct {
	url      string
	anchor   protocol.Anchor
	server   *httptest.Server
	identity *protocol.Identity
}

// serve puts trust in front of inner. wrap, if not nil, stands before the trust
// layer, where a proxy would.
func serve(t testing.TB, inner http.Handler, cfg transport.ServerConfig, wrap func(http.Handler) http.Handler) *sealed {
	t.Helper()
	var h http.Handler
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	url := "http://" + srv.Listener.Addr().String() + "/mcp"
	id, err := protocol.GenerateIdentity(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Identity = id
	if h, err = transport.Handler(inner, cfg); err != nil {
		t.Fatal(err)
	}
	closer := h.(io.Closer)
	if wrap != nil {
		h = wrap(h)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		closer.Close()
	})
	return &sealed{url: url, anchor: protocol.Pin(id.Thumbprint()), server: srv, identity: id}
}

func (s *sealed) client(t testing.TB, cfg transport.ClientConfig) *http.Client {
	t.Helper()
	if cfg.Anchor == nil {
		cfg.Anchor = s.anchor
	}
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	rt, err := transport.RoundTripper(base, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: rt}
}
