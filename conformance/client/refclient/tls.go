package refclient

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// attestedTLS has the client send its requests over attested connections only.
func (r *run) attestedTLS() error {
	pin, err := protocol.ParseThumbprint(r.env["TMCP_PIN"])
	if err != nil {
		return err
	}
	var cfg transport.ClientConfig
	if err := r.judge(&cfg); err != nil {
		return err
	}
	d, err := attestedtls.NewDialer(attestedtls.Config{Peer: &attestedtls.Peer{
		Appraiser: cfg.Appraiser, Identities: []string{r.env["TMCP_IDENTITY"]}, Pins: []protocol.Thumbprint{pin},
	}})
	if err != nil {
		return err
	}
	r.base = d.Transport()
	if r.flaw.Ignores != nil || r.flaw.Resumes {
		n := naive{strict: d, flaw: r.flaw, sessions: tls.NewLRUClientSessionCache(4)}
		r.base.DialTLSContext = n.dial
	}
	r.base.DisableCompression = true
	r.http = &http.Client{Transport: r.base}
	return nil
}

// naive opens connections that the dialer refuses, for what the flaw ignores: it
// asks for attestation, and does not look at it.
type naive struct {
	strict   *attestedtls.Dialer
	flaw     *Flaw
	sessions tls.ClientSessionCache
}

func (n naive) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.flaw.Ignores != nil {
		c, err := n.strict.DialContext(ctx, network, addr)
		if err == nil || !n.flaw.Ignores(err) {
			return c, err
		}
	}
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{attestedtls.Protocol}}
	if n.flaw.Resumes {
		cfg.ClientSessionCache = n.sessions
	}
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if c.(*tls.Conn).ConnectionState().DidResume {
		return c, nil
	}
	hello := append([]byte{0, 0, 0, 36, 0x82, 0, 0x58, 32}, make([]byte, 32)...)
	_, _ = rand.Read(hello[8:]) // never fails
	var size [4]byte
	if _, err = c.Write(hello); err == nil {
		_, err = io.ReadFull(c, size[:])
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, c, int64(min(binary.BigEndian.Uint32(size[:]), maxAnswer)))
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// unbound are clients that skip a check of attested TLS.
func unbound() []Mutant {
	skip := func(name, detail string, kills ...string) Mutant {
		return Mutant{&Flaw{Name: "of attested TLS skips " + name, Ignores: func(err error) bool { return strings.Contains(err.Error(), detail) }}, under("attested-tls/", kills...)}
	}
	return []Mutant{
		skip("the version", "protocol version", "tls-1.2"),
		skip("the application protocol", "it speaks", "no-protocol"),
		skip("the pin", "does not prove", "key-unpinned"),
		skip("whether there is evidence", "no evidence to show", "evidence-missing"),
		skip("the length of messages", "at most 65536", "message-too-long"),
		skip("what the signature is over", "did not sign", "other-connection", "nonce-other", "certificate-other", "exporter-tls", "exporter-client", "exporter-no-context", "relayed"),
		skip("the role", "statement of a client", "role-client"),
		skip("what the evidence binds", "binding:", "relayed-other-key", "identity-unbound"),
		skip("the form of signatures", "COSE_Sign1:", "signature-payload"),
		skip("the identity", "it speaks for", "identity-other"),
		skip("the age of evidence", "older than", "stale"),
		skip("whether evidence is of the future", "now is", "future"),
		skip("whose nonce the evidence is for", "neither its time", "nonce-reused"),
		skip("measurements", "policy-claim-tdx.mrtd", "other-code"),
		skip("whether the TEE is under debug", "debug:", "debug"),
		skip("the root of evidence", "pck-chain:", "other-root", "simulator-in-production"),
		{&Flaw{Name: "of attested TLS takes resumed sessions for attested", Resumes: true}, under("attested-tls/", "tickets")},
	}
}
