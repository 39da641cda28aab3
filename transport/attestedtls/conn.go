package attestedtls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// A Conn is an exporter-bound connection. Its first Read or Write makes the
// handshake, as with tls.Conn; until the peer's attestation is accepted nothing
// of the application passes, in either direction. When the attestation is over
// the connection closes.
type Conn struct {
	end  *end
	raw  net.Conn
	conn *tls.Conn

	shown []byte // leaf that this end showed; written during the handshake

	mu     sync.Mutex // one handshake
	done   bool
	result *Result
	err    error

	life  sync.Mutex // guards closed and timer
	over  *time.Timer
	ended bool
}

func newConn(e *end, raw net.Conn, serverName string) *Conn {
	c := &Conn{end: e, raw: raw}
	cfg := e.tlsConfig(serverName, &c.shown)
	if e.role == protocol.RoleServer {
		c.conn = tls.Server(raw, cfg)
	} else {
		c.conn = tls.Client(raw, cfg)
	}
	return c
}

// HandshakeContext makes TLS's handshake and the attestation, once; later calls
// return what came of it. After an error the connection is closed.
func (c *Conn) HandshakeContext(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return c.err
	}
	c.done = true
	ctx, cancel := context.WithTimeout(ctx, c.end.timeout)
	defer cancel()
	// Reading a message knows no context: when it ends, so does the connection.
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	c.result, c.err = c.handshake(ctx)
	if !stop() && c.err == nil {
		c.err = context.Cause(ctx)
	}
	if c.err != nil {
		if err := ctx.Err(); err != nil && !errors.Is(c.err, err) {
			c.err = fmt.Errorf("attested TLS: handshake: %w (%w)", err, c.err)
		}
		c.result = nil
		_ = c.conn.Close()
		return c.err
	}
	c.closeAt()
	return nil
}

func (c *Conn) handshake(ctx context.Context) (*Result, error) {
	if err := c.conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c.end.exchange(ctx, c.conn, c.shown)
}

// closeAt closes the connection when the peer's attestation is over.
func (c *Conn) closeAt() {
	if c.result == nil {
		return
	}
	// TMCP-21.4-11: An end MUST close the connection when the peer's attestation is over.
	left := c.result.Expires.Sub(c.end.peer.now())
	c.life.Lock()
	defer c.life.Unlock()
	if !c.ended {
		c.over = time.AfterFunc(left, func() { _ = c.Close() })
	}
}

// Result is what the peer proved; nil before the handshake, and at a server that
// asks nothing of its clients.
func (c *Conn) Result() *Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.result
}

// ConnectionState is that of TLS.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.conn.ConnectionState() }

// Read reads what the peer's application sent.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.HandshakeContext(context.Background()); err != nil {
		return 0, err
	}
	return c.conn.Read(b)
}

// Write sends to the peer's application.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.HandshakeContext(context.Background()); err != nil {
		return 0, err
	}
	return c.conn.Write(b)
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.life.Lock()
	c.ended = true
	if c.over != nil {
		c.over.Stop()
	}
	c.life.Unlock()
	return c.conn.Close()
}

// CloseWrite tells the peer that nothing more is sent.
func (c *Conn) CloseWrite() error { return c.conn.CloseWrite() }

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline bounds reads and writes to come.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline bounds reads to come.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline bounds writes to come.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// A Listener accepts exporter-bound connections; see [NewListener].
type Listener struct {
	net.Listener
	end *end
}

// NewListener attests this end on each connection that l accepts, and demands
// the same of clients if cfg.Peer is set. Accept does not wait for handshakes:
// they are made by whoever uses the connection first. Closing it closes l.
func NewListener(l net.Listener, cfg Config) (*Listener, error) {
	e, err := newEnd(protocol.RoleServer, cfg)
	if err != nil {
		return nil, err
	}
	return &Listener{l, e}, nil
}

// Accept waits for a connection; it is a [*Conn].
func (l *Listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(l.end, raw, ""), nil
}

// Close closes the listener, and ends a renewal of evidence that is under way.
func (l *Listener) Close() error {
	l.end.keys.close()
	return l.Listener.Close()
}

type connKey struct{}

// ConnContext is for http.Server's field of that name: handlers then find what
// the client proved with [ResultOf].
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*Conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// ResultOf is what the client of a request proved, or nil.
func ResultOf(ctx context.Context) *Result {
	if c, ok := ctx.Value(connKey{}).(*Conn); ok {
		return c.Result()
	}
	return nil
}

// A Dialer opens exporter-bound connections; see [NewDialer].
type Dialer struct {
	end *end
	// Dial opens the connection below TLS. Default that of net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// NewDialer demands of servers what cfg.Peer says, and attests this end if
// cfg.Own is set and the server asks.
func NewDialer(cfg Config) (*Dialer, error) {
	e, err := newEnd(protocol.RoleClient, cfg)
	if err != nil {
		return nil, err
	}
	return &Dialer{end: e}, nil
}

// DialContext returns a connection whose server's attestation was accepted.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (*Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := newConn(d.end, raw, d.end.serverName(host))
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// DialTLSContext is DialContext for http.Transport's field of that name. Use
// [Dialer.Transport] where possible: a transport with a proxy, or that is asked
// for an http URL, does not call it.
func (d *Dialer) DialTLSContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Transport sends requests over attested connections only: it uses no proxy, and
// refuses http URLs.
func (d *Dialer) Transport() *http.Transport {
	return &http.Transport{
		DialTLSContext: d.DialTLSContext,
		// TMCP-21.4-12: A client MUST NOT send application data over a connection without attestation.
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("attested TLS: an http URL would go out in the clear; use https")
		},
		IdleConnTimeout: 90 * time.Second,
	}
}

// Close ends a renewal of evidence that is under way.
func (d *Dialer) Close() { d.end.keys.close() }
