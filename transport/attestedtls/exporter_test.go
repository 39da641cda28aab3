package attestedtls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
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

// A conversation is what a hostile server knows when it must answer.
type conversation struct {
	ctx   context.Context
	e     *end // an honest server, whose means it has
	cs    *tls.ConnectionState
	nonce []byte // the client's
	shown []byte
	ends  bool // the server hangs up after its answer
}

func (c *conversation) honest(t testing.TB) *message {
	m, err := c.e.state(c.ctx, c.cs, kindServer, c.nonce, c.shown)
	if err != nil {
		t.Error(err)
		return &message{kind: kindVerdict}
	}
	return m
}

// say makes a message of this statement, signed by key for this channel.
func (c *conversation) say(t testing.TB, role protocol.Role, stmt []byte, key ed25519.PrivateKey, edit func(*channel)) *message {
	ch, err := c.e.channel(c.cs, protocol.RoleServer, c.nonce, c.shown)
	if err != nil {
		t.Error(err)
	}
	if edit != nil {
		edit(ch)
	}
	sig, err := ch.sign(role, stmt, key)
	if err != nil {
		t.Error(err)
	}
	return &message{kind: kindServer, statement: stmt, signature: sig}
}

// attested makes a statement as v attests it.
func attested(t testing.TB, v *vendor, role protocol.Role, id string, f protocol.Freshness) ([]byte, ed25519.PrivateKey) {
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	b, err := protocol.NewBinding(role, id, pub, nil, f)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := v.Attest(t.Context(), b.ReportData())
	return (&statement{Binding: *b, cmw: w}).encode(), key
}

func madeAt(d time.Duration) protocol.Freshness {
	return protocol.Freshness{Kind: protocol.FreshAt, At: time.Now().Add(d).Truncate(time.Second)}
}

var clientNonces sync.Map

// attack runs a client against a server that answers as it likes; it returns
// the client's error and whether the server got a byte of its application.
func attack(t testing.TB, e *end, peer *Peer, answer func(*conversation) []byte) (error, bool) {
	t.Helper()
	client, server := pipe(t)
	reached := make(chan bool, 1)
	go func() {
		defer func() { _ = server.Close() }()
		var shown []byte
		conn := tls.Server(server, e.tlsConfig("", &shown))
		hello, err := readMessage(conn, kindHello)
		if err != nil {
			reached <- false
			return
		}
		if _, again := clientNonces.LoadOrStore(string(hello.nonce), true); again {
			t.Error("the client used a nonce twice")
		}
		cs := conn.ConnectionState()
		talk := &conversation{ctx: t.Context(), e: e, cs: &cs, nonce: hello.nonce, shown: shown}
		_, _ = conn.Write(answer(talk))
		if talk.ends {
			_ = conn.CloseWrite()
		}
		var b [1]byte
		n, _ := conn.Read(b[:])
		if n == 1 {
			_, _ = conn.Write(b[:])
		}
		reached <- n > 0
	}()
	c := newConn(newClient(t, Config{Peer: peer}), client, "localhost")
	_, err := c.Write([]byte{42})
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	_ = c.Close()
	return err, <-reached
}

// TestHostileServers: none of them gets anything of the application.
func TestHostileServers(t *testing.T) {
	v, rogue := newVendor(), newVendor()
	e := newServer(t, Config{Own: v.own(serverID)})
	var recorded *message
	stmtOf := func(m *message) *statement {
		s, err := parseStatement(m.statement)
		if err != nil {
			t.Error(err)
			return &statement{}
		}
		return s
	}
	for _, tt := range []struct {
		name   string
		part   string // of the error; "": accepted
		answer func(t *testing.T, c *conversation) *message
	}{
		{"honest", "", func(t *testing.T, c *conversation) *message { recorded = c.honest(t); return recorded }},
		{"evidence for the nonce", "", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, protocol.Freshness{Kind: protocol.FreshNonce, Value: c.nonce})
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		// N04: what was said on the first connection, on another one.
		{"recorded", "did not sign for this connection", func(*testing.T, *conversation) *message { return recorded }},
		// N03: the genuine server's evidence, and a key of the attacker's.
		{"own key, others' evidence", "did not sign", func(t *testing.T, c *conversation) *message {
			_, k, _ := ed25519.GenerateKey(rand.Reader)
			return c.say(t, protocol.RoleServer, c.honest(t).statement, k, nil)
		}},
		{"own key in others' statement", "binds something else", func(t *testing.T, c *conversation) *message {
			pub, k, _ := ed25519.GenerateKey(rand.Reader)
			s := stmtOf(c.honest(t))
			b, _ := protocol.NewBinding(s.Role, s.Identity, pub, nil, s.Freshness)
			return c.say(t, protocol.RoleServer, (&statement{Binding: *b, cmw: s.cmw}).encode(), k, nil)
		}},
		{"not genuine", "not genuine", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, rogue, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		// N05: a binder from elsewhere than this exporter.
		{"exporter of the other label", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, func(ch *channel) { ch.exporter, _ = c.cs.ExportKeyingMaterial(exporterClient, c.nonce, 32) })
		}},
		{"exporter of no context", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, func(ch *channel) { ch.exporter, _ = c.cs.ExportKeyingMaterial(exporterServer, nil, 32) })
		}},
		{"tls-exporter of RFC 9266", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, func(ch *channel) {
				ch.exporter, _ = c.cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
			})
		}},
		{"another nonce", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, func(ch *channel) { ch.nonce = newNonce() })
		}},
		{"another certificate", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, func(ch *channel) { ch.server = []byte("another") })
		}},
		{"a client certificate that was not shown", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, func(ch *channel) { ch.client = []byte{} })
		}},
		// N10: what the client says of itself, given back to it.
		{"reflection", "statement of a client", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleClient, serverID, madeAt(0))
			return c.say(t, protocol.RoleClient, s, k, nil)
		}},
		{"reflection, signed as server", "statement of a client", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleClient, serverID, madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		{"signed as client", "did not sign", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(0))
			return c.say(t, protocol.RoleClient, s, k, nil)
		}},
		{"another identity", "speaks for", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, "https://example.org/mcp", madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		{"identity rewritten", "binds something else", func(t *testing.T, c *conversation) *message {
			raw, k := attested(t, v, protocol.RoleServer, "https://example.org/mcp", madeAt(0))
			s, _ := parseStatement(raw)
			s.Identity = serverID
			return c.say(t, protocol.RoleServer, s.encode(), k, nil)
		}},
		{"old evidence", "older than", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(-defaultMaxAge))
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		{"evidence of the future", "now is", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, madeAt(2*time.Minute))
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		{"evidence for another nonce", "neither its time", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, protocol.Freshness{Kind: protocol.FreshNonce, Value: newNonce()})
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		{"evidence of an epoch", "neither its time", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, serverID, protocol.Freshness{Kind: protocol.FreshEpoch, Value: []byte("e")})
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		{"no evidence", "does not attest itself", func(*testing.T, *conversation) *message { return &message{kind: kindVerdict, accepted: true} }},
		{"a client's message", "out of its turn", func(t *testing.T, c *conversation) *message {
			m := c.honest(t)
			m.kind = kindClient
			return m
		}},
		{"a hello", "out of its turn", func(*testing.T, *conversation) *message { return &message{kind: kindHello, nonce: newNonce()} }},
		{"demands attestation", "give the dialer an Own", func(t *testing.T, c *conversation) *message {
			m := c.honest(t)
			m.nonce = newNonce()
			return m
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err, reached := attack(t, e, v.peer(serverID), func(c *conversation) []byte { return tt.answer(t, c).encode() })
			if tt.part == "" {
				if err != nil || !reached {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.part) || reached {
				t.Errorf("got %v, want %q; application reached: %v", err, tt.part, reached)
			}
		})
	}
	for name, answer := range map[string][]byte{
		"nothing":    {},
		"too long":   {0, 1, 0, 1},
		"cut":        {0, 0, 0, 9, 0x84},
		"not CBOR":   {0, 0, 0, 1, 0xff},
		"kind 4":     {0, 0, 0, 2, 0x81, 4},
		"indefinite": {0, 0, 0, 4, 0x9f, 3, 0xf5, 0xff},
		"HTTP":       []byte("HTTP/1.1 200 OK\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			if err, reached := attack(t, e, v.peer(serverID), func(c *conversation) []byte { c.ends = true; return answer }); err == nil || reached {
				t.Errorf("got %v, reached %v", err, reached)
			}
		})
	}
}

// TestLiveRelay (N03, N04): someone in the middle ends TLS with a certificate of
// its own, and passes each message on to the genuine server.
func TestLiveRelay(t *testing.T) {
	v := newVendor()
	genuine := listen(t, Config{Own: v.own(serverID)})
	serve(t, genuine)
	middle := newServer(t, Config{Own: v.own(serverID)}) // for its certificate only
	err, reached := attack(t, middle, v.peer(serverID), func(c *conversation) []byte {
		raw, err := net.Dial("tcp", genuine.Addr().String())
		if err != nil {
			t.Error(err)
			return nil
		}
		defer func() { _ = raw.Close() }()
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}, MinVersion: tls.VersionTLS13})
		_, _ = conn.Write((&message{kind: kindHello, nonce: c.nonce}).encode())
		m, err := readMessage(conn, kindServer)
		if err != nil {
			t.Error(err)
			return nil
		}
		return m.encode()
	})
	if err == nil || !strings.Contains(err.Error(), "did not sign for this connection") || reached {
		t.Errorf("got %v, reached %v", err, reached)
	}
}

// TestHostileClients: a server that demands attestation reads nothing of the
// application of those who don't give it.
func TestHostileClients(t *testing.T) {
	v, rogue := newVendor(), newVendor()
	server := newServer(t, Config{Own: v.own(serverID), Peer: v.peer(clientID)})
	nonces := map[string]bool{} // each is used once
	type means struct {
		t    *testing.T
		cs   *tls.ConnectionState
		from *message // the server's
	}
	say := func(m means, role, label protocol.Role, stmt []byte, key ed25519.PrivateKey) *message {
		x, _ := m.cs.ExportKeyingMaterial(exporterLabel(label), m.from.nonce, 32)
		ch := &channel{exporter: x, nonce: m.from.nonce, server: m.cs.PeerCertificates[0].Raw}
		sig, err := ch.sign(role, stmt, key)
		if err != nil {
			m.t.Error(err)
		}
		return &message{kind: kindClient, statement: stmt, signature: sig}
	}
	for name, tt := range map[string]struct {
		ok     bool
		answer func(means) []byte
	}{
		"honest": {true, func(m means) []byte {
			s, k := attested(m.t, v, protocol.RoleClient, clientID, madeAt(0))
			return say(m, protocol.RoleClient, protocol.RoleClient, s, k).encode()
		}},
		// N10: the server's own words, given back to it on the same connection.
		"reflection": {false, func(m means) []byte {
			return (&message{kind: kindClient, statement: m.from.statement, signature: m.from.signature}).encode()
		}},
		"server's exporter": {false, func(m means) []byte {
			s, k := attested(m.t, v, protocol.RoleClient, clientID, madeAt(0))
			return say(m, protocol.RoleClient, protocol.RoleServer, s, k).encode()
		}},
		"another client": {false, func(m means) []byte {
			s, k := attested(m.t, v, protocol.RoleClient, "spiffe://example.com/other", madeAt(0))
			return say(m, protocol.RoleClient, protocol.RoleClient, s, k).encode()
		}},
		"not genuine": {false, func(m means) []byte {
			s, k := attested(m.t, rogue, protocol.RoleClient, clientID, madeAt(0))
			return say(m, protocol.RoleClient, protocol.RoleClient, s, k).encode()
		}},
		"verdict in place of evidence": {false, func(means) []byte { return (&message{kind: kindVerdict, accepted: true}).encode() }},
		"request in place of evidence": {false, func(means) []byte { return []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") }},
	} {
		t.Run(name, func(t *testing.T) {
			client, raw := pipe(t)
			c := newConn(server, raw, "")
			done := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(c, make([]byte, 1))
				_ = c.Close()
				done <- err
			}()
			conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}, MinVersion: tls.VersionTLS13})
			_, _ = conn.Write((&message{kind: kindHello, nonce: newNonce()}).encode())
			from, err := readMessage(conn, kindServer)
			if err != nil || from.nonce == nil || nonces[string(from.nonce)] {
				t.Fatalf("nonce %x, %v", from.nonce, err)
			}
			nonces[string(from.nonce)] = true
			cs := conn.ConnectionState()
			_, _ = conn.Write(append(tt.answer(means{t, &cs, from}), 42)) // the application's byte at once
			verdict, err := readMessage(conn, kindVerdict)
			if tt.ok != (err == nil && verdict.accepted) {
				t.Errorf("verdict %+v, %v", verdict, err)
			}
			_ = client.Close()
			// TMCP-21.4-10: A server that demands attestation of clients MUST take no application data
			// before it accepted theirs.
			if err := <-done; (err == nil) != tt.ok {
				t.Errorf("the server: %v", err)
			}
		})
	}
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

// TestMessages: what is written is read, byte for byte, and nothing else.
func TestMessages(t *testing.T) {
	sig := dcbor.AppendNull(nil)
	for _, m := range []*message{
		{kind: kindHello, nonce: newNonce()},
		{kind: kindServer, statement: []byte("s"), signature: sig},
		{kind: kindServer, nonce: newNonce(), statement: []byte("s"), signature: sig},
		{kind: kindClient, statement: []byte("s"), signature: sig},
		{kind: kindVerdict, accepted: true},
		{kind: kindVerdict},
	} {
		b := m.encode()
		got, err := readMessage(io.MultiReader(bytes.NewReader(b), strings.NewReader("rest")), m.kind)
		if err != nil || !bytes.Equal(got.encode(), b) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// endless gives zeros for ever.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) { e.n += len(b); return len(b), nil }

// TestMessageBound: TMCP-21.4-4: An end MUST refuse an attestation message longer than 65536 bytes
// before it reads it.
func TestMessageBound(t *testing.T) {
	rest := &endless{}
	if _, err := readMessage(io.MultiReader(bytes.NewReader([]byte{0, 1, 0, 1}), rest), kindHello); err == nil || rest.n != 0 {
		t.Errorf("%d bytes read, %v", rest.n, err)
	}
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

// TestStatement: keys of each kind, and what is no statement.
func TestStatement(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p256 := newKey(t)
	config := sha256.Sum256(nil)
	ch := &channel{exporter: newNonce(), nonce: newNonce(), server: []byte("s"), client: []byte("c")}
	for _, key := range []interface {
		Public() pubT
	}{edKey, p256, p384} {
		b, err := protocol.NewBinding(protocol.RoleServer, serverID, key.Public(), config[:], madeAt(0))
		if err != nil {
			t.Fatal(err)
		}
		raw := (&statement{Binding: *b, cmw: []byte{1}}).encode()
		s, err := parseStatement(raw)
		if err != nil || !bytes.Equal(s.encode(), raw) || s.ReportData() != b.ReportData() {
			t.Fatalf("%T: %v", key, err)
		}
		sig, err := ch.sign(protocol.RoleServer, raw, key.(signerT))
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.verify(protocol.RoleServer, raw, sig, s.key); err != nil {
			t.Errorf("%T: %v", key, err)
		}
		other := bytes.Clone(sig)
		other[len(other)-1] ^= 1
		if ch.verify(protocol.RoleServer, raw, other, s.key) == nil || ch.verify(protocol.RoleServer, append(raw, 0), sig, s.key) == nil {
			t.Errorf("%T: another signature or statement", key)
		}
		if ch.verify(protocol.RoleServer, raw, sig, newKey(t).Public()) == nil {
			t.Errorf("%T: another key", key)
		}
	}
	b, _ := protocol.NewBinding(protocol.RoleServer, serverID, edPub, nil, madeAt(0))
	good := statement{Binding: *b, cmw: []byte{1}}
	for name, edit := range map[string]func(*statement){
		"role 3":        func(s *statement) { s.Role = 3 },
		"no URI":        func(s *statement) { s.Identity = "x" },
		"config short":  func(s *statement) { s.Config = []byte{1} },
		"freshness 4":   func(s *statement) { s.Freshness = protocol.Freshness{Kind: 4, Value: []byte("12345678")} },
		"nonce short":   func(s *statement) { s.Freshness = protocol.Freshness{Kind: 2, Value: []byte("1")} },
		"key with more": func(s *statement) { s.Key = append([]byte{0xa4}, append(s.Key[1:], 0x22, 0x40)...) },
		"no key":        func(s *statement) { s.Key = []byte{0xa0} },
		"private key":   func(s *statement) { s.Key = append([]byte{0xa4}, append(s.Key[1:], 0x23, 0x40)...) },
		"key of RSA":    func(s *statement) { s.Key = []byte{0xa1, 0x01, 0x03} },
	} {
		s := good
		s.Key = bytes.Clone(good.Key)
		edit(&s)
		if _, err := parseStatement(s.encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// TMCP-21.4-3: a signature made for another purpose, or with anything in its headers is none of ours.
	sig, _ := ch.sign(protocol.RoleServer, good.encode(), edKey)
	prot := dcbor.AppendInt([]byte{0xa1, 0x01}, -8) // without typ
	other := ed25519.Sign(edKey, ch.signed(protocol.RoleServer, prot, good.encode()))
	untyped := dcbor.AppendBytes(append(dcbor.AppendBytes([]byte{0xd2, 0x84}, prot), 0xa0, 0xf6), other)
	unprotected := bytes.Replace(sig, []byte{0xa0, 0xf6}, []byte{0xa1, 0x04, 0x40, 0xf6}, 1)
	payload := bytes.Replace(sig, []byte{0xa0, 0xf6}, []byte{0xa0, 0x40}, 1)
	for _, bad := range [][]byte{untyped, unprotected, payload, sig[1:], append(bytes.Clone(sig), 0), nil} {
		if ch.verify(protocol.RoleServer, good.encode(), bad, edPub) == nil {
			t.Errorf("accepted %x", bad)
		}
	}
}

// FuzzMessage: no message makes a verifier panic, and each has one encoding.
func FuzzMessage(f *testing.F) {
	v := newVendor()
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	b, _ := protocol.NewBinding(protocol.RoleServer, serverID, pub, nil, protocol.Freshness{Kind: protocol.FreshAt, At: time.Unix(1e9, 0)})
	w, _ := v.Attest(f.Context(), b.ReportData())
	stmt := (&statement{Binding: *b, cmw: w}).encode()
	ch := &channel{exporter: make([]byte, 32), nonce: make([]byte, 32), server: []byte("s")}
	sig, _ := ch.sign(protocol.RoleServer, stmt, key)
	for _, m := range []*message{
		{kind: kindHello, nonce: make([]byte, 32)},
		{kind: kindServer, statement: stmt, signature: sig},
		{kind: kindClient, statement: stmt, signature: sig},
		{kind: kindVerdict, accepted: true},
	} {
		f.Add(m.encode()[4:])
	}
	peer := v.peer(serverID)
	peer.Now = func() time.Time { return time.Unix(1e9, 0) }
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.encode()[4:], b) {
			t.Errorf("%x reads as %x", b, m.encode()[4:])
		}
		if s, err := parseStatement(m.statement); err == nil && !bytes.Equal(s.encode(), m.statement) {
			t.Errorf("statement %x reads as %x", m.statement, s.encode())
		}
		if _, err := peer.verifyAttestation(t.Context(), m, protocol.RoleServer, ch); err == nil && !bytes.Equal(m.statement, stmt) {
			t.Error("accepted another statement")
		}
	})
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
