package attestedtls

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

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
		// TMCP-21.4-7: A verifier MUST refuse a statement without a valid signature by the attested key
		// over this connection's exporter value, nonce and certificates.
		//
		// N04: what was said on the first connection, on another one.
		{"recorded", "did not sign for this connection", func(*testing.T, *conversation) *message { return recorded }},
		// N03: the genuine server's evidence, and a key of the attacker's.
		{"own key, others' evidence", "did not sign", func(t *testing.T, c *conversation) *message {
			_, k, _ := ed25519.GenerateKey(rand.Reader)
			return c.say(t, protocol.RoleServer, c.honest(t).statement, k, nil)
		}},
		// TMCP-21.4-2: Evidence MUST bind the attested key as section 18.2 says.
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
		// TMCP-21.4-5: The exporter value MUST be computed with the label of the prover's role, and with
		// the verifier's nonce as context.
		//
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
		// TMCP-21.4-6: A verifier MUST refuse a statement whose role is not that of the peer.
		//
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
		// TMCP-21.4-13: A verifier MUST refuse a statement for an identity that its policy does not name.
		{"another identity", "speaks for", func(t *testing.T, c *conversation) *message {
			s, k := attested(t, v, protocol.RoleServer, "https://example.org/mcp", madeAt(0))
			return c.say(t, protocol.RoleServer, s, k, nil)
		}},
		// TMCP-21.4-8: A verifier MUST have the evidence appraised with the report data of the statement's
		// binding.
		{"identity rewritten", "binds something else", func(t *testing.T, c *conversation) *message {
			raw, k := attested(t, v, protocol.RoleServer, "https://example.org/mcp", madeAt(0))
			s, _ := parseStatement(raw)
			s.Identity = serverID
			return c.say(t, protocol.RoleServer, s.encode(), k, nil)
		}},
		// TMCP-21.4-14: A verifier MUST refuse evidence that is neither as young as its policy allows nor
		// made for its nonce on this connection.
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
			// TMCP-21.4-9: A client MUST judge the server's attestation before it sends its own, or any
			// application data.
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
