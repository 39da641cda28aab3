package selftest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// exporterMode and certificateMode are the modes of attested TLS.
const (
	exporterMode    setup = "tls exporter"
	certificateMode setup = "tls certificate"
)

// attestedTLSMutants are servers of profile attested-tls that break one rule.
var attestedTLSMutants = []mutant{
	m("tls-1.2-only", certificateMode, "attested-tls/handshake"),
	m("tls-1.2-accepted", certificateMode, "attested-tls/tls-1.2"),
	m("tickets-sent", certificateMode, "attested-tls/tickets"),
	m("evidence-other-root", certificateMode, "attested-tls/certificate"),
	m("evidence-other-root", exporterMode, "attested-tls/exporter"),
	m("evidence-binds-client", certificateMode, "attested-tls/certificate"),
	m("evidence-binds-nobody", exporterMode, "attested-tls/exporter"),
	m("serves-anyone", exporterMode, "attested-tls/no-protocol"),
}

// attestedTLS tests the profile attested-tls of role server.
func (s *Summary) attestedTLS(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	t, err := newTEE()
	if err != nil {
		return err
	}
	var ours []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RoleServer && c.Profile == conformance.ProfileAttestedTLS {
			ours = append(ours, c)
		}
	}
	for _, mt := range append([]mutant{{setup: exporterMode}, {setup: certificateMode}}, attestedTLSMutants...) {
		r := &inTLS{tee: t, fault: mt.fault, setup: mt.setup}
		for _, k := range mt.kills {
			r.only = append(r.only, "server/"+k)
		}
		rep, err := r.run(ctx, ours)
		switch {
		case err != nil:
			return fmt.Errorf("%s, fault %q: %w", r, r.fault, err)
		case r.fault == "":
			s.judgeReference(r, rep, 0, nil, passed)
		default:
			s.judgeMutant(r.String(), r.fault, r.only, rep, killed)
		}
	}
	return ctx.Err()
}

// inTLS is one run of the suite against a reference in attested TLS.
type inTLS struct {
	*tee
	fault reference.Fault
	setup setup
	only  []string
}

func (r *inTLS) String() string { return "the reference in " + string(r.setup) + " mode" }

func (r *inTLS) run(ctx context.Context, cases []conformance.Case) (*conformance.Report, error) {
	inner := reference.New()
	defer inner.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer tcp.Close()
	uri := "https://" + tcp.Addr().String() + "/mcp"
	l, done, err := r.listen(tcp, uri)
	if err != nil {
		return nil, err
	}
	defer done()
	srv := &http.Server{Handler: inner, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	defer wg.Wait()
	defer srv.Close()
	obs := &conformance.Observations{}
	target, err := wire.HTTP(uri, nil, obs.Observe)
	if err != nil {
		return nil, err
	}
	return conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Cases: cases, Seed: 1, StepTimeout: 2 * time.Second, Survey: conformance.UnaskedSurvey(),
		Trust:  conformance.Trust{Appraiser: r.ofServer},
		Select: func(c *conformance.Case) bool { return r.only == nil || slices.Contains(r.only, c.ID) },
	})
}

// listen puts attested TLS on tcp.
func (r *inTLS) listen(tcp net.Listener, uri string) (net.Listener, func(), error) {
	world, role := sim.Default(), protocol.RoleServer
	switch r.fault {
	case "evidence-other-root":
		world = sim.Other()
	case "evidence-binds-client":
		role = protocol.RoleClient
	case "evidence-binds-nobody":
		uri = "https://other.example/mcp"
	}
	machine, err := world.TEE(sim.Options{Image: r.server, Now: time.Now})
	if err != nil {
		return nil, nil, err
	}
	cert, err := attestedtls.NewCertificate(attestedtls.CertificateConfig{Attester: machine, Identity: uri, Role: role})
	if err != nil {
		return nil, nil, err
	}
	cfg, err := attestedtls.ServerConfig(cert, nil)
	if err != nil {
		return nil, nil, err
	}
	switch r.fault {
	case "tls-1.2-only":
		cfg.MinVersion, cfg.MaxVersion, cfg.VerifyConnection = tls.VersionTLS12, tls.VersionTLS12, nil
	case "tls-1.2-accepted":
		cfg.MinVersion, cfg.VerifyConnection = tls.VersionTLS12, nil
	case "tickets-sent":
		cfg.SessionTicketsDisabled, cfg.VerifyConnection = false, nil
	}
	if r.setup == certificateMode {
		return tls.NewListener(tcp, cfg), cert.Close, nil
	}
	own := attestedtls.Config{Own: &attestedtls.Own{Attester: machine, Identity: uri}, Timeout: time.Second}
	if r.fault == "serves-anyone" {
		tcp = &anyone{Listener: tcp, cfg: cfg}
	}
	l, err := attestedtls.NewListener(tcp, own)
	if err != nil {
		return nil, nil, err
	}
	return l, func() { l.Close(); cert.Close() }, nil
}

// anyone keeps the connections of clients that do not ask for attestation, to
// serve them all the same.
type anyone struct {
	net.Listener
	cfg *tls.Config
}

// Accept hands on who asks for attestation in its ClientHello, as it came.
func (a *anyone) Accept() (net.Conn, error) {
	c, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(c, 16<<10)
	head, err := in.Peek(5)
	if err != nil {
		return peeked{c, in}, nil
	}
	hello, _ := in.Peek(5 + int(binary.BigEndian.Uint16(head[3:])))
	if bytes.Contains(hello, []byte(attestedtls.Protocol)) {
		return peeked{c, in}, nil
	}
	go serveAnyone(tls.Server(peeked{c, in}, a.cfg))
	return a.Accept()
}

// serveAnyone answers one request.
func serveAnyone(c *tls.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_ = req.Body.Close()
	_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"))
}

// peeked is a connection of which something was read ahead.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.in.Read(b) }
