package attestedtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// Own is how this end attests itself in the exporter-bound mode.
type Own struct {
	Attester protocol.Attester // required
	Identity string            // required: the URI that peers dial, or expect of a client
	// Digest of what was configured after the code was measured: 32 bytes, or nil.
	ConfigDigest []byte
	// Interval is how old evidence may become before it is made anew, with a new
	// attested key. Default an hour.
	Interval time.Duration
	// Certificate gives the TLS certificate with its key: one that peers know by
	// [Peer.Roots] or [Peer.Pins]. Default: one that signs itself, and proves
	// nothing.
	Certificate func() (*tls.Certificate, error)
}

// Config is one end of exporter-bound connections.
type Config struct {
	Own  *Own  // how this end attests itself; required of servers
	Peer *Peer // what the other end must show; required of clients
	// Timeout bounds the handshake with all attestation. Default 10 seconds.
	Timeout time.Duration
}

// An end makes the handshakes of a listener or dialer.
type end struct {
	role    protocol.Role
	own     *Own
	peer    *Peer
	timeout time.Duration
	cert    func() (*tls.Certificate, error)
	keys    renewer[*attestedKey]
}

// An attestedKey was made inside the TEE, with evidence of that.
type attestedKey struct {
	key       ed25519.PrivateKey
	statement []byte
}

func newEnd(role protocol.Role, cfg Config) (*end, error) {
	e := &end{role: role, own: cfg.Own, peer: cfg.Peer, timeout: orDefault(cfg.Timeout, defaultTimeout)}
	now := time.Now
	if e.peer != nil || role == protocol.RoleClient {
		if err := e.peer.check(other(role)); err != nil {
			return nil, err
		}
		now = e.peer.now
	}
	if e.own == nil {
		if role == protocol.RoleServer {
			return nil, errors.New("attested TLS: a server needs Own: how it attests itself")
		}
		e.cert = func() (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		return e, nil
	}
	if e.own.Attester == nil {
		return nil, errors.New("attested TLS: Own needs an Attester")
	}
	if err := checkIdentity(e.own.Identity); err != nil {
		return nil, err
	}
	if e.cert = e.own.Certificate; e.cert == nil {
		cert, err := selfSigned(now())
		if err != nil {
			return nil, err
		}
		e.cert = func() (*tls.Certificate, error) { return cert, nil }
	}
	e.keys = renewer[*attestedKey]{make: e.attest, interval: orDefault(e.own.Interval, defaultInterval), now: now}
	return e, nil
}

func other(r protocol.Role) protocol.Role {
	if r == protocol.RoleServer {
		return protocol.RoleClient
	}
	return protocol.RoleServer
}

// attest makes an attested key with evidence.
func (e *end) attest(ctx context.Context, now time.Time) (*attestedKey, time.Time, error) {
	var none time.Time
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, none, err
	}
	// TMCP-21.4-2: Evidence MUST bind the attested key as section 18.2 says.
	b, err := protocol.NewBinding(e.role, e.own.Identity, pub, e.own.ConfigDigest,
		protocol.Freshness{Kind: protocol.FreshAt, At: now.Truncate(time.Second)})
	if err != nil {
		return nil, none, err
	}
	cmw, err := e.own.Attester.Attest(ctx, b.ReportData())
	if err != nil {
		return nil, none, fmt.Errorf("attested TLS: the TEE gives no evidence: %w", err)
	}
	if r := dcbor.NewReader(cmw); len(cmw) > protocol.MaxEvidence || len(r.Skip()) == 0 || r.Done() != nil {
		return nil, none, fmt.Errorf("attested TLS: the attester gave %d bytes that are no deterministic CBOR item of at most %d", len(cmw), protocol.MaxEvidence)
	}
	s := statement{Binding: *b, cmw: cmw}
	return &attestedKey{key, s.encode()}, now.Add(2 * e.keys.interval), nil
}

// selfSigned makes a certificate for TLS to have one. Nobody looks at its dates.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attested TLS"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// tlsConfig is for one connection: shown receives the leaf that this end showed.
func (e *end) tlsConfig(serverName string, shown *[]byte) *tls.Config {
	cfg := base()
	// TMCP-21.4-1: Both ends MUST negotiate the application protocol `tmcp-attest/1` by ALPN, and
	// close the connection without it.
	cfg.NextProtos = []string{Protocol}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := checkState(&cs); err != nil {
			return err
		}
		if cs.NegotiatedProtocol != Protocol {
			return fmt.Errorf("%w: it speaks %q, not %q", ErrNotAttested, cs.NegotiatedProtocol, Protocol)
		}
		return nil
	}
	show := func() (*tls.Certificate, error) {
		c, err := e.cert()
		if err == nil && len(c.Certificate) > 0 {
			*shown = c.Certificate[0]
		}
		return c, err
	}
	if e.role == protocol.RoleServer {
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return show() }
		if e.peer != nil && e.peer.proves() {
			cfg.ClientAuth = tls.RequireAnyClientCert
		}
		return cfg
	}
	// Who the server is, is judged together with what it runs: see exchange.
	cfg.InsecureSkipVerify = true
	cfg.ServerName = serverName
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return show() }
	return cfg
}

// exchange makes the attestation after the TLS handshake, and returns what the
// peer proved: nil when nothing was asked of it.
func (e *end) exchange(ctx context.Context, conn *tls.Conn, shown []byte) (*Result, error) {
	cs := conn.ConnectionState()
	if err := checkState(&cs); err != nil {
		return nil, err
	}
	if e.role == protocol.RoleServer {
		return e.serve(ctx, conn, &cs, shown)
	}
	return e.dial(ctx, conn, &cs, shown)
}

func (e *end) dial(ctx context.Context, conn *tls.Conn, cs *tls.ConnectionState, shown []byte) (*Result, error) {
	nonce := newNonce()
	if _, err := conn.Write((&message{kind: kindHello, nonce: nonce}).encode()); err != nil {
		return nil, err
	}
	m, err := readMessage(conn, kindServer, kindVerdict)
	if err != nil {
		return nil, err
	}
	if m.kind == kindVerdict {
		return nil, fmt.Errorf("%w: it has no evidence to show", ErrNotAttested)
	}
	// TMCP-21.4-9: A client MUST judge the server's attestation before it sends its own, or any
	// application data.
	r, err := e.judge(ctx, cs, m, nonce, shown)
	if err != nil || m.nonce == nil {
		return r, err
	}
	if e.own == nil {
		return nil, errors.New("attested TLS: the server demands that clients attest themselves; give the dialer an Own")
	}
	mine, err := e.state(ctx, cs, kindClient, m.nonce, shown)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(mine.encode()); err != nil {
		return nil, err
	}
	verdict, err := readMessage(conn, kindVerdict)
	if err != nil {
		return nil, err
	}
	if !verdict.accepted {
		return nil, ErrUnwelcome
	}
	return r, nil
}

func (e *end) serve(ctx context.Context, conn *tls.Conn, cs *tls.ConnectionState, shown []byte) (*Result, error) {
	hello, err := readMessage(conn, kindHello)
	if err != nil {
		return nil, err
	}
	mine, err := e.state(ctx, cs, kindServer, hello.nonce, shown)
	if err != nil {
		_, _ = conn.Write((&message{kind: kindVerdict}).encode()) // so that the client need not guess
		return nil, err
	}
	if e.peer != nil {
		mine.nonce = newNonce()
	}
	if _, err := conn.Write(mine.encode()); err != nil || e.peer == nil {
		return nil, err
	}
	m, err := readMessage(conn, kindClient)
	if err != nil {
		return nil, err
	}
	r, err := e.judge(ctx, cs, m, mine.nonce, shown)
	// TMCP-21.4-10: A server that demands attestation of clients MUST take no application data before
	// it accepted theirs.
	if _, werr := conn.Write((&message{kind: kindVerdict, accepted: err == nil}).encode()); err == nil {
		err = werr
	}
	return r, err
}

// channel ties what that role says to this connection.
func (e *end) channel(cs *tls.ConnectionState, prover protocol.Role, nonce, shown []byte) (*channel, error) {
	// TMCP-21.4-5: The exporter value MUST be computed with the label of the prover's role, and with
	// the verifier's nonce as context.
	v, err := cs.ExportKeyingMaterial(exporterLabel(prover), nonce, exporterSize)
	if err != nil {
		return nil, err
	}
	var theirs []byte
	if len(cs.PeerCertificates) > 0 {
		theirs = cs.PeerCertificates[0].Raw
	}
	c := &channel{exporter: v, nonce: nonce, server: shown, client: theirs}
	if e.role == protocol.RoleClient {
		c.server, c.client = theirs, shown
	}
	return c, nil
}

// state says what this end is, for the verifier's nonce.
func (e *end) state(ctx context.Context, cs *tls.ConnectionState, kind uint64, nonce, shown []byte) (*message, error) {
	k, err := e.keys.get(ctx)
	if err != nil {
		return nil, err
	}
	c, err := e.channel(cs, e.role, nonce, shown)
	if err != nil {
		return nil, err
	}
	sig, err := c.sign(e.role, k.statement, k.key)
	return &message{kind: kind, statement: k.statement, signature: sig}, err
}

// judge judges what the peer said it is.
func (e *end) judge(ctx context.Context, cs *tls.ConnectionState, m *message, nonce, shown []byte) (*Result, error) {
	role := other(e.role)
	c, err := e.channel(cs, role, nonce, shown)
	if err != nil {
		return nil, err
	}
	r, err := e.peer.verifyAttestation(ctx, m, role, c)
	if err != nil {
		return nil, err
	}
	if err := e.peer.prove(cs.PeerCertificates, r.Identity, r, e.peer.now()); err != nil {
		return nil, err
	}
	return r, e.peer.finish(r, e.peer.now())
}

func newNonce() []byte {
	b := make([]byte, nonceSize)
	_, _ = rand.Read(b) // never fails
	return b
}

// serverName is the host to ask for by SNI.
func (e *end) serverName(addrHost string) string {
	if i := slices.IndexFunc(e.peer.Identities, func(id string) bool {
		u, err := url.Parse(id)
		return err == nil && u.Hostname() == addrHost
	}); i >= 0 || len(e.peer.Identities) != 1 {
		return addrHost
	}
	if u, err := url.Parse(e.peer.Identities[0]); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		return u.Hostname()
	}
	return addrHost
}
