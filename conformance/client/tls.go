package client

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// Exporter labels of section 21.4, and one of another protocol (RFC 9266).
const (
	exporterServer  = "EXPORTER-org.trustedmcp/trust server"
	exporterClient  = "EXPORTER-org.trustedmcp/trust client"
	exporterRFC9266 = "EXPORTER-Channel-Binding"
)

// tlsEnd is the attested TLS in front of a scene's server: exporter-bound, made
// by hand. The zero value with an identity is honest. Each function bends what
// is about to be said.
type tlsEnd struct {
	identity string
	config   func(*tls.Config)
	spoken   func(*spoken)
	answer   func(*spoken) []byte // in place of the server's message
	unpinned bool                 // the pin that the client is given is another key's
	retires  bool                 // each connection takes one request

	cert tls.Certificate
	pin  string

	mu      sync.Mutex
	asked   bool // a client asked for the application protocol
	shown   int  // log entry of the end of a connection that had the mutant; 0: there was none
	resumed int  // connections
	taken   int  // bytes of the application
	late    int  // those of them on resumed connections
	open    int  // connections
}

// A spoken is what the server says of itself on one connection. The zero
// functions of tlsEnd leave it true.
type spoken struct {
	cs       tls.ConnectionState
	end      *tlsEnd
	role     uint64 // in the statement, and in what is signed
	identity string // in the statement
	att      *attesting
	key      ed25519.PrivateKey // in the statement
	signer   ed25519.PrivateKey
	exporter []byte
	nonce    []byte // the client's
	leaf     []byte // DER
	payload  []byte // of the signature; nil: none
}

// export has the signature hold another exporter value of this connection.
func (s *spoken) export(label string, context []byte) {
	s.exporter, _ = s.cs.ExportKeyingMaterial(label, context, 32)
}

// elsewhere has it hold the exporter value that the client's nonce gives on
// another connection, which ends in the same server.
func (s *spoken) elsewhere() {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	far := tls.Server(b, s.end.tls())
	done := make(chan error, 1)
	go func() { done <- far.Handshake() }()
	near := tls.Client(a, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{attestedtls.Protocol}, MinVersion: tls.VersionTLS13})
	if err := errors.Join(near.Handshake(), <-done); err != nil {
		s.exporter = make([]byte, 32)
		return
	}
	cs := far.ConnectionState()
	s.exporter, _ = cs.ExportKeyingMaterial(exporterServer, s.nonce, 32)
}

// message is the server's message (section 21.4), with its length.
func (s *spoken) message() []byte {
	key := hand.COSEKey(s.key.Public().(ed25519.PublicKey))
	if s.att.evidence == nil {
		b := hand.Binding{Role: s.role, Identity: s.identity, Key: key, Freshness: s.att.freshness}
		if s.att.bound != nil {
			s.att.bound(&b)
		}
		s.att.evidence = s.att.quote(b.ReportData())
	}
	stmt := dcbor.AppendUint(dcbor.AppendArray(nil, 6), s.role)
	stmt = append(dcbor.AppendText(stmt, s.identity), key...)
	stmt = append(dcbor.AppendNull(stmt), s.att.freshness...)
	stmt = dcbor.AppendBytes(stmt, s.att.evidence)

	p := dcbor.AppendUint(dcbor.AppendArray(nil, 6), s.role)
	p = dcbor.AppendBytes(dcbor.AppendBytes(p, s.exporter), s.nonce)
	p = dcbor.AppendNull(dcbor.AppendBytes(p, hash(s.leaf)))
	p = dcbor.AppendBytes(p, hash(stmt))
	if s.payload != nil {
		p = s.payload
	}
	prot := dcbor.AppendInt(dcbor.AppendUint(dcbor.AppendMap(nil, 2), 1), -8)
	prot = dcbor.AppendText(dcbor.AppendUint(prot, 16), "application/vnd.trustedmcp.tls+cose")
	tbs := dcbor.AppendText(dcbor.AppendArray(nil, 4), "Signature1")
	for _, part := range [][]byte{prot, []byte(hand.Label + "attested tls"), p} {
		tbs = dcbor.AppendBytes(tbs, part)
	}

	m := dcbor.AppendNull(dcbor.AppendUint(dcbor.AppendArray([]byte{0, 0, 0, 0}, 4), 1))
	m = dcbor.AppendArray(dcbor.AppendTag(dcbor.AppendBytes(m, stmt), 18), 4)
	m = dcbor.AppendMap(dcbor.AppendBytes(m, prot), 0)
	if s.payload != nil {
		m = dcbor.AppendBytes(m, s.payload)
	} else {
		m = dcbor.AppendNull(m)
	}
	return framed(dcbor.AppendBytes(m, ed25519.Sign(s.signer, tbs)))
}

// framed fills in the length of a message that has room for it.
func framed(m []byte) []byte {
	binary.BigEndian.PutUint32(m, uint32(len(m)-4))
	return m
}

// prepare makes the certificate, and the pin for it.
func (e *tlsEnd) prepare(identity string) error {
	e.identity = identity
	u, err := url.Parse(identity)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "tmcp-conform attested TLS"}, DNSNames: []string{u.Hostname()}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	e.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if e.unpinned {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
	}
	pin, err := protocol.PublicKeyThumbprint(key.Public())
	e.pin = protocol.Base64(pin[:])
	return err
}

func (e *tlsEnd) tls() *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{e.cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{attestedtls.Protocol}, SessionTicketsDisabled: true}
	if e.config != nil {
		e.config(c)
	}
	return c
}

// listen puts attested TLS on l.
func (e *tlsEnd) listen(h *host, l net.Listener) net.Listener {
	cfg := e.tls()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		e.mu.Lock()
		e.asked = e.asked || slices.Contains(hello.SupportedProtos, attestedtls.Protocol)
		e.mu.Unlock()
		return nil, nil
	}
	return &tlsListener{l, h, e, cfg}
}

type tlsListener struct {
	net.Listener
	h   *host
	end *tlsEnd
	cfg *tls.Config
}

func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.end.opened(1)
	return &tlsConn{Conn: tls.Server(c, l.cfg), h: l.h, end: l.end}, nil
}

// tlsConn makes its handshake, with the attestation, at the first Read. What is
// read after it is the application's.
type tlsConn struct {
	*tls.Conn
	h       *host
	end     *tlsEnd
	once    sync.Once
	err     error
	ahead   []byte // of the application, where a hello was expected
	resumed bool
	mutant  bool // it was shown what it must refuse
	over    sync.Once
}

func (c *tlsConn) Read(b []byte) (n int, err error) {
	c.once.Do(func() {
		if c.err = c.attest(); c.err != nil {
			c.ended(c.err)
		}
	})
	if c.err != nil {
		return 0, c.err
	}
	if len(c.ahead) > 0 {
		n, c.ahead = copy(b, c.ahead), c.ahead[min(len(b), len(c.ahead)):]
	} else {
		n, err = c.Conn.Read(b)
	}
	c.took(n)
	if err != nil {
		c.ended(err)
	}
	return n, err
}

// ended notes how the client ended the connection on which it saw the mutant.
func (c *tlsConn) ended(err error) {
	if !c.mutant {
		return
	}
	seq := c.h.log.Add(wire.Received, "connection-end", []byte(err.Error()))
	c.end.mu.Lock()
	defer c.end.mu.Unlock()
	if c.end.shown == 0 {
		c.end.shown = seq
	}
}

func (c *tlsConn) took(n int) {
	c.end.mu.Lock()
	defer c.end.mu.Unlock()
	c.end.taken += n
	if c.resumed {
		c.end.late += n
	}
}

func (c *tlsConn) Close() error {
	c.over.Do(func() { c.end.opened(-1) })
	return c.Conn.Close()
}

// attest plays the server's side of section 21.4. An honest server would close
// where this one notes what it saw.
func (c *tlsConn) attest() error {
	e := c.end
	err := c.Handshake()
	cs := c.ConnectionState()
	if e.config != nil || e.unpinned { // the handshake is the mutant
		c.mutant = true
		c.h.log.Add(wire.Sent, "handshake", fmt.Appendf(nil, "TLS %#x, application protocol %q, complete: %t", cs.Version, cs.NegotiatedProtocol, cs.HandshakeComplete))
	}
	if err != nil {
		return err
	}
	if c.resumed = cs.DidResume; c.resumed {
		e.mu.Lock()
		e.resumed++
		e.mu.Unlock()
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return err
	}
	// [0, nonce] is 36 bytes long. All else is no hello: a server that knew its
	// protocol would refuse it, this one serves it.
	if binary.BigEndian.Uint32(head) != 36 {
		c.ahead = head
		return nil
	}
	body := make([]byte, 36)
	if _, err := io.ReadFull(c.Conn, body); err != nil {
		return err
	}
	c.h.log.Add(wire.Received, "attestation", append(head, body...))
	r := dcbor.NewReader(body)
	r.ArrayN(2)
	kind, nonce := r.Uint(), r.BytesN(32)
	if err := r.Done(); err != nil || kind != 0 {
		c.h.problem("the client's first message is no hello (%v)", err)
		return errors.New("no hello")
	}
	s := &spoken{cs: cs, end: e, role: 1, identity: e.identity, att: newAttesting(c.h.sc), nonce: nonce, leaf: e.cert.Certificate[0]}
	s.key, s.signer = s.att.key, s.att.key
	if s.exporter, err = cs.ExportKeyingMaterial(exporterServer, nonce, 32); err != nil {
		c.h.problem("%v", err)
	}
	if e.spoken != nil {
		e.spoken(s)
	}
	var m []byte
	if e.answer != nil {
		m = e.answer(s)
	} else {
		m = s.message()
	}
	c.mutant = c.mutant || e.spoken != nil || e.answer != nil || c.h.sc.production
	c.h.log.Add(wire.Sent, "attestation", m)
	_, err = c.Conn.Write(m)
	return err
}

// settle waits for what the client sent before it ended: its connections end
// with it, or soon.
func (e *tlsEnd) settle(limit time.Duration) {
	const step = 2 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for ; limit > 0 && e.opened(0) > 0; limit -= step {
		<-tick.C
	}
}

// opened counts n connections more, and returns how many are open.
func (e *tlsEnd) opened(n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open += n
	return e.open
}

// playTLS runs the client against a server of profile attested-tls.
func playTLS(t *T, id string, set func(*scene)) *result {
	s := subject(t)
	sc := &scene{noTrust: true, profile: "attested-tls", tls: &tlsEnd{}}
	if set != nil {
		set(sc)
	}
	r, err := perform(t.Context(), s, t.Log(), id, t.Era(), sc, t.StepTimeout())
	if err != nil {
		t.Untestable("the server of the case could not be started: %v", err)
	}
	if t.Context().Err() != nil {
		t.Untestable("interrupted")
	}
	r.t = t
	sc.tls.mu.Lock()
	defer sc.tls.mu.Unlock()
	if !sc.tls.asked {
		t.NotApplicable("told by TMCP_PROFILE to demand attested TLS, the client did not ask for the application protocol %s (%s)", attestedtls.Protocol, r.end)
	}
	return r
}

// refusedTLS judges a client that was shown a mutant.
func (r *result) refusedTLS() {
	t, e := r.t, r.sc.tls
	e.mu.Lock()
	shown, taken := e.shown, e.taken
	e.mu.Unlock()
	switch {
	case taken > 0 || len(r.h.all()) > 0:
		t.Violate("%d bytes of the application reached the server, and %d requests", taken, len(r.h.all()))
	case r.end.timedOut:
		t.Violate("the client ended its call neither with an answer nor with an error: %s", r.end)
	case r.end.err != nil:
		t.Untestable("%s", r.end)
	case r.end.ok():
		t.Violate("the client accepted it: exit code 0, standard output %q", conformance.Short([]byte(r.end.stdout)))
	case shown == 0:
		t.Untestable("the client never came to the step that the mutant changes: %s%s", r.end, r.trouble())
	}
	if where := r.find(r.h.in); where != "" {
		t.Violate("the argument of the tool call left the client in the clear (%s)", where)
	}
	t.Refused("%s", strings.TrimSpace(r.end.String()))
	t.Reached(shown)
	t.NoEffect("no byte of the application reached the server, and the canary is nowhere on the wire")
}
