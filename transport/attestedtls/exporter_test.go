package attestedtls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

func listen(t testing.TB, cfg Config) *Listener {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewListener(tcp, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dialer(t testing.TB, cfg Config) *Dialer {
	t.Helper()
	d, err := NewDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// TestExporterHTTP: net/http over exporter-bound connections, one line at each
// end.
func TestExporterHTTP(t *testing.T) {
	v := newVendor()
	ca, pool := newCA(t)
	certificate := func(id string) func() (*tls.Certificate, error) {
		c := issued(t, ca, id)
		return func() (*tls.Certificate, error) { return c, nil }
	}
	for name, tt := range map[string]struct {
		mutual, compound bool
		want             string
	}{
		"server":           {false, false, "hello stranger"},
		"mutual":           {true, false, "hello " + clientID},
		"server, compound": {false, true, "hello stranger"},
		"mutual, compound": {true, true, "hello " + clientID},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := Config{Own: v.own(serverID)}, Config{}
			var proved, seen *Result
			client.Peer, proved = keep(v.peer(serverID))
			if tt.mutual {
				server.Peer, seen = keep(v.peer()) // any client that proves what it is
				client.Own = v.own(clientID)
			}
			if tt.compound {
				server.Own.Certificate, client.Peer.Roots = certificate(serverID), pool
				if tt.mutual {
					client.Own.Certificate, server.Peer.Roots = certificate(clientID), pool
				}
			}
			l := listen(t, server)
			serve(t, l)
			tr := dialer(t, client).Transport()
			for range 2 { // the second request on the same connection
				if body, err := get(t, tr, "https://"+l.Addr().String()+"/"); err != nil || body != tt.want {
					t.Fatalf("%q, %v", body, err)
				}
			}
			// TMCP-21.5-2: An implementation MUST label a result whose identity no root and no pin proved.
			if proved.Mode != ModeExporter || proved.Identity != serverID || proved.Role != protocol.RoleServer ||
				proved.Has(IdentityUnproven) == tt.compound || proved.Has(ConnectionUnbound) || proved.Made.IsZero() {
				t.Errorf("proved %+v", proved)
			}
			if tt.mutual && (seen.Identity != clientID || seen.Role != protocol.RoleClient || seen.Has(IdentityUnproven) == tt.compound) {
				t.Errorf("seen %+v", seen)
			}
		})
	}
	if v.made.Load() != 6 { // one for each end that attests itself, not for each connection
		t.Errorf("%d quotes", v.made.Load())
	}
}

// TestTransportFailsClosed: what would go out without attestation goes nowhere.
func TestTransportFailsClosed(t *testing.T) {
	v := newVendor()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, plain)
	tr := dialer(t, Config{Peer: v.peer(serverID)}).Transport()
	// TMCP-21.4-12: A client MUST NOT send application data over a connection without attestation.
	if _, err := get(t, tr, "http://"+plain.Addr().String()+"/"); err == nil || !strings.Contains(err.Error(), "in the clear") {
		t.Errorf("got %v", err)
	}
	if tr.Proxy != nil {
		t.Error("a proxy would be used, to which DialTLSContext is not applied")
	}
	if _, err := dialer(t, Config{Peer: v.peer(serverID)}).DialTLSContext(t.Context(), "tcp", "no port"); err == nil {
		t.Error("dialled")
	}
}

// server end for tests, not behind a listener.
func newServer(t testing.TB, cfg Config) *end {
	t.Helper()
	e, err := newEnd(protocol.RoleServer, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.keys.close)
	return e
}

func newClient(t testing.TB, cfg Config) *end {
	t.Helper()
	e, err := newEnd(protocol.RoleClient, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.keys.close)
	return e
}

// TestUnwelcome: a client learns that its attestation was refused, before it
// sends a request.
func TestUnwelcome(t *testing.T) {
	v, rogue := newVendor(), newVendor()
	l := listen(t, Config{Own: v.own(serverID), Peer: v.peer(clientID)})
	serve(t, l)
	_, err := dialer(t, Config{Own: rogue.own(clientID), Peer: v.peer(serverID)}).DialContext(t.Context(), "tcp", l.Addr().String())
	if !errors.Is(err, ErrUnwelcome) {
		t.Errorf("got %v", err)
	}
	// A server whose TEE fails says so.
	v.broken.Store(true)
	failing := listen(t, Config{Own: v.own(serverID)})
	serve(t, failing)
	_, err = dialer(t, Config{Peer: v.peer(serverID)}).DialContext(t.Context(), "tcp", failing.Addr().String())
	if !errors.Is(err, ErrNotAttested) {
		t.Errorf("got %v", err)
	}
}

// TestProtocolName: without the application protocol there is no connection.
func TestProtocolName(t *testing.T) {
	v := newVendor()
	// TMCP-21.4-1: Both ends MUST negotiate the application protocol `tmcp-attest/1` by ALPN, and
	// close the connection without it.
	for _, protos := range [][]string{nil, {"http/1.1"}, {"h2"}} {
		t.Run("client "+strings.Join(protos, ","), func(t *testing.T) {
			client, raw := pipe(t)
			c := newConn(newServer(t, Config{Own: v.own(serverID)}), raw, "")
			clientErr, serverErr := shake(t, tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: protos}), c)
			if clientErr == nil || serverErr == nil {
				t.Errorf("client %v, server %v", clientErr, serverErr)
			}
		})
		t.Run("server "+strings.Join(protos, ","), func(t *testing.T) {
			client, raw := pipe(t)
			cert, _ := selfSigned(time.Now())
			c := newConn(newClient(t, Config{Peer: v.peer(serverID)}), client, "")
			clientErr, serverErr := shake(t, c, tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: protos}))
			if clientErr == nil || serverErr == nil {
				t.Errorf("client %v, server %v", clientErr, serverErr)
			}
		})
	}
}

// TestNoTickets (N35): a server that hands out session tickets finds no client
// that takes them; and were a session resumed, nothing would pass.
func TestNoTickets(t *testing.T) {
	v := newVendor()
	e := newServer(t, Config{Own: v.own(serverID)})
	client := newClient(t, Config{Peer: v.peer(serverID)})
	var shown []byte
	eager := e.tlsConfig("", &shown)
	eager.SessionTicketsDisabled, eager.VerifyConnection = false, nil
	connect := func(cfg *tls.Config) (*tls.Conn, error) {
		c, s := pipe(t)
		go func() {
			conn := tls.Server(s, eager)
			if err := conn.Handshake(); err == nil {
				cs := conn.ConnectionState()
				_, err = e.exchange(t.Context(), conn, shown)
				if err == nil && cs.DidResume {
					t.Error("the server attested itself in a resumed session")
				}
				_, _ = conn.Read(make([]byte, 1))
			}
			_ = conn.Close()
		}()
		conn := tls.Client(c, cfg)
		if err := conn.Handshake(); err != nil {
			return nil, err
		}
		_, err := client.exchange(t.Context(), conn, nil)
		_ = c.Close()
		return conn, err
	}
	// TMCP-21.1-3: An end MUST close a connection whose session was resumed before it sends or takes
	// any application data.
	for range 2 {
		conn, err := connect(client.tlsConfig("localhost", new([]byte)))
		if err != nil || conn.ConnectionState().DidResume {
			t.Fatalf("%v", err)
		}
	}
	spoiled := client.tlsConfig("localhost", new([]byte))
	spoiled.SessionTicketsDisabled, spoiled.ClientSessionCache = false, tls.NewLRUClientSessionCache(1)
	if _, err := connect(spoiled); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(spoiled); !errors.Is(err, ErrResumed) {
		t.Errorf("got %v", err)
	}
}

// TestExpiry: the connection closes when the attestation is over.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor()
		server, client := newServer(t, Config{Own: v.own(serverID)}), newClient(t, Config{Peer: v.peer(serverID)})
		c, s := net.Pipe()
		cc, sc := newConn(client, c, ""), newConn(server, s, "")
		done := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, sc); _ = sc.Close(); done <- err }()
		if _, err := cc.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultMaxAge - 2*time.Second)
		if _, err := cc.Write([]byte("x")); err != nil {
			t.Errorf("closed too early: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		// TMCP-21.4-11: An end MUST close the connection when the peer's attestation is over.
		if _, err := cc.Write([]byte("x")); err == nil {
			t.Error("still open")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestTimeout: a peer that says nothing is given up, and so is one that is given
// up by the caller.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor()
		server := newServer(t, Config{Own: v.own(serverID), Peer: v.peer(clientID)})
		for _, silent := range []func(net.Conn){
			func(net.Conn) {}, // before TLS
			func(c net.Conn) { // after it
				conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}})
				_ = conn.Handshake()
				_, _ = conn.Write((&message{kind: kindHello, nonce: newNonce()}).encode())
				_, _ = io.Copy(io.Discard, conn)
			},
		} {
			c, s := net.Pipe()
			go silent(c)
			began := time.Now()
			sc := newConn(server, s, "")
			_, err := sc.Read(make([]byte, 1))
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != defaultTimeout {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			_ = c.Close()
		}
		c, s := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newConn(server, s, "").HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		_ = c.Close()
	})
}

// An appraiser that finds what it is told.
type finding protocol.Appraisal

func (f *finding) Appraise(context.Context, protocol.Evidence) (*protocol.Appraisal, error) {
	return (*protocol.Appraisal)(f), nil
}

// TestFindings: what an appraiser says bounds the result, and nothing is no
// result.
func TestFindings(t *testing.T) {
	v := newVendor()
	e := newServer(t, Config{Own: v.own(serverID)})
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, tt := range map[string]struct {
		f    *finding
		part string
	}{
		"short":   {&finding{Expires: soon, Simulated: true}, ""},
		"over":    {&finding{Expires: time.Now().Add(-time.Second)}, "is over since"},
		"nothing": {nil, "no result"},
	} {
		t.Run(name, func(t *testing.T) {
			p, proved := keep(&Peer{Appraiser: tt.f, Identities: []string{serverID}})
			err, _ := attack(t, e, p, func(c *conversation) []byte { return c.honest(t).encode() })
			if tt.part != "" {
				if err == nil || !strings.Contains(err.Error(), tt.part) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || !proved.Expires.Equal(soon) || !proved.Has(Simulated) {
				t.Errorf("%v, %+v", err, proved)
			}
		})
	}
}

// TestCertifiedForAnother: a certificate of a trusted authority, for another
// name, proves nothing about the one that is wanted.
func TestCertifiedForAnother(t *testing.T) {
	v := newVendor()
	ca, pool := newCA(t)
	for id, ok := range map[string]bool{serverID: true, "https://example.org/mcp": false, clientID: false} {
		own := v.own(serverID)
		cert := issued(t, ca, id)
		own.Certificate = func() (*tls.Certificate, error) { return cert, nil }
		p := v.peer(serverID)
		p.Roots = pool
		err, reached := attack(t, newServer(t, Config{Own: own}), p, func(c *conversation) []byte { return c.honest(t).encode() })
		if (err == nil) != ok || reached != ok {
			t.Errorf("certified for %s: %v", id, err)
		}
	}
	// A client whose certificate is for another workload.
	own := v.own(clientID)
	cert := issued(t, ca, "spiffe://example.com/other")
	own.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	clients := v.peer(clientID)
	clients.Roots = pool
	l := listen(t, Config{Own: v.own(serverID), Peer: clients})
	serve(t, l)
	if _, err := dialer(t, Config{Own: own, Peer: v.peer(serverID)}).DialContext(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, ErrUnwelcome) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkHandshake is a connection from TLS to the first byte.
func BenchmarkHandshake(b *testing.B) {
	v := newVendor()
	l := listen(b, Config{Own: v.own(serverID)})
	serve(b, l)
	d := dialer(b, Config{Peer: v.peer(serverID)})
	for b.Loop() {
		c, err := d.DialContext(b.Context(), "tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
