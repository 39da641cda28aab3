package gateway

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// TLS says how MCP is carried in attested TLS, without seals. Messages are then
// protected as far as the TLS connection reaches, and no further.
type TLS struct {
	Mode attestedtls.Mode // default: exporter
	// Form of the evidence in our own certificate, in the mode certificate; default
	// x509ev.CMW.
	Form x509ev.Form
	// Forms that are accepted of the other end's; see attestedtls.Peer.
	Forms []x509ev.Form
	// Pins and Roots say who may speak for the other end. For a server they are of
	// clients, and without them and an Appraiser of clients none is asked for.
	Pins  []protocol.Thumbprint
	Roots *x509.CertPool
	// Clients judges clients' evidence; nil: clients need none. Servers only.
	Clients protocol.Appraiser
	MaxAge  time.Duration // of the other end's evidence; default 2 hours
}

func (t *TLS) peer(a protocol.Appraiser, identities []string) *attestedtls.Peer {
	return &attestedtls.Peer{Appraiser: a, Identities: identities, Pins: t.Pins, Roots: t.Roots, Forms: t.Forms, MaxAge: t.MaxAge}
}

// authority is the identity's key as one that certifies TLS keys, so that who
// pins the identity knows the connections.
func authority(id string, key crypto.Signer) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "identity of an MCP server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if u, err := url.Parse(id); err == nil {
		template.Subject.CommonName = "identity of " + u.Host
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the identity key as an authority for TLS keys: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// attestedListener puts attested TLS before l. identityKey is the file of the
// server's key, or "" for a new one.
func (cfg *ServeConfig) attestedListener(l net.Listener, key crypto.Signer) (net.Listener, func(), error) {
	if cfg.Attestation == nil {
		return nil, nil, errors.New("attested TLS needs a TEE")
	}
	var clients *attestedtls.Peer
	if cfg.TLS.Clients != nil {
		clients = cfg.TLS.peer(cfg.TLS.Clients, nil)
	}
	ca, err := authority(cfg.Identity, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := attestedtls.NewCertificate(attestedtls.CertificateConfig{Attester: cfg.Attestation.Attester, Role: protocol.RoleServer,
		Identity: cfg.Identity, Form: cfg.TLS.Form, Interval: cfg.Attestation.Interval, Issue: attestedtls.IssueWith(ca)})
	if err != nil {
		return nil, nil, err
	}
	if _, err := cert.Get(context.Background()); err != nil { // said now, not at the first call
		cert.Close()
		return nil, nil, err
	}
	if cfg.TLS.Mode == attestedtls.ModeCertificate {
		c, err := attestedtls.ServerConfig(cert, clients)
		if err != nil {
			cert.Close()
			return nil, nil, err
		}
		return tls.NewListener(l, c), cert.Close, nil
	}
	own := &attestedtls.Own{Attester: cfg.Attestation.Attester, Identity: cfg.Identity, ConfigDigest: cfg.Attestation.Config, Interval: cfg.Attestation.Interval,
		// The same certificate serves: its evidence is beside the point here, its
		// issuer is what peers pin.
		Certificate: func() (*tls.Certificate, error) { return cert.Get(context.Background()) }}
	al, err := attestedtls.NewListener(l, attestedtls.Config{Own: own, Peer: clients})
	if err != nil {
		cert.Close()
		return nil, nil, err
	}
	return al, cert.Close, nil
}

// serveAttestedTLS serves plain MCP within attested TLS.
func serveAttestedTLS(ctx context.Context, cfg ServeConfig, l net.Listener, ready func(Serving)) error {
	local := "https://" + reachable(l.Addr()) + Path
	if cfg.Identity == "" {
		cfg.Identity = local
	}
	if cfg.Authorize != nil && cfg.TLS.Mode == attestedtls.ModeCertificate {
		return errors.New("calls can't be authorized in the mode certificate, where evidence is of a certificate and not of the connection that a call comes over: use the mode exporter, or a profile that seals")
	}
	id, ephemeral, err := keyfile.LoadIdentity(cfg.Identity, cfg.IdentityKey, cfg.Certificate)
	if err != nil {
		return err
	}
	al, closeTLS, err := cfg.attestedListener(l, id.Signer())
	if err != nil {
		return err
	}
	defer closeTLS()
	inner, closeInner, err := cfg.inner()
	if err != nil {
		return err
	}
	defer closeInner()
	if cfg.Authorize != nil {
		inner = transport.Authorize(inner, cfg.Authorize, transport.Limits{MaxMessage: cfg.MaxMessage}, clientOf)
	}
	var mux http.ServeMux
	mux.Handle(Path, until(ctx, inner))
	return serveHTTP(ctx, al, &mux, cfg.Logger, func() {
		ready(Serving{Address: l.Addr(), URL: local, Identity: id, Ephemeral: ephemeral})
	}, nil)
}

// clientOf is who the other end of a connection proved to be.
func clientOf(r *http.Request) transport.Party {
	p := transport.Party{Role: protocol.RoleClient, Profile: protocol.ProfileAttestedTLS}
	if result := attestedtls.ResultOf(r.Context()); result != nil {
		p.Identity = result.Identity
		if len(result.Appraisals) > 0 {
			p.Appraisal = result.Appraisals[0]
		}
	}
	return p
}

// attestedTransport reaches a server over attested TLS only.
func (cfg *ConnectConfig) attestedTransport() (http.RoundTripper, func(), error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return nil, nil, fmt.Errorf("%q is not an https URL, which attested TLS needs", cfg.URL)
	}
	if cfg.Authorize != nil {
		return nil, nil, errors.New("calls can't be authorized before they go out over attested TLS: the server is attested when the connection opens, which is after that; use a profile that seals")
	}
	if cfg.Appraiser == nil {
		return nil, nil, errors.New("attested TLS needs an appraiser of the server's evidence")
	}
	if cfg.Identity == "" {
		cfg.Identity = cfg.URL
	}
	peer := cfg.TLS.peer(cfg.Appraiser, []string{cfg.Identity})
	peer.Accept = func(r *attestedtls.Result) error {
		cfg.Logger.Debug("attested", slog.String("mode", string(r.Mode)), slog.String("peer", r.Identity), slog.Any("caveats", r.Caveats))
		return nil
	}
	var own *attestedtls.Own
	if cfg.Attestation != nil && cfg.Self != nil {
		own = &attestedtls.Own{Attester: cfg.Attestation.Attester, Identity: cfg.Self.URI(), ConfigDigest: cfg.Attestation.Config, Interval: cfg.Attestation.Interval}
		ca, err := authority(cfg.Self.URI(), cfg.Self.Signer())
		if err != nil {
			return nil, nil, err
		}
		cert, err := attestedtls.NewCertificate(attestedtls.CertificateConfig{Attester: own.Attester, Role: protocol.RoleClient, Identity: own.Identity,
			Form: cfg.TLS.Form, Interval: own.Interval, Issue: attestedtls.IssueWith(ca)})
		if err != nil {
			return nil, nil, err
		}
		if cfg.TLS.Mode == attestedtls.ModeCertificate {
			return cfg.certificateTransport(peer, cert)
		}
		own.Certificate = func() (*tls.Certificate, error) { return cert.Get(context.Background()) }
	} else if cfg.TLS.Mode == attestedtls.ModeCertificate {
		return cfg.certificateTransport(peer, nil)
	}
	d, err := attestedtls.NewDialer(attestedtls.Config{Own: own, Peer: peer})
	if err != nil {
		return nil, nil, err
	}
	t := d.Transport()
	return leg{modeHint{t, attestedtls.ModeExporter}, cfg.Header, false}, func() { t.CloseIdleConnections(); d.Close() }, nil
}

// A modeHint tells of the other mode where a connection fails as it does between
// ends of different modes.
type modeHint struct {
	next http.RoundTripper
	mode attestedtls.Mode
}

func (t modeHint) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	switch {
	case err == nil:
	case t.mode == attestedtls.ModeExporter && strings.Contains(err.Error(), "does not attest itself"):
		err = fmt.Errorf("%w; for a server with evidence in its certificate say --tls-mode certificate", err)
	case t.mode == attestedtls.ModeCertificate && (strings.Contains(err.Error(), "remote error: tls") ||
		// The end of the connection may be seen before the alert that tells why.
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)):
		err = fmt.Errorf("%w; for a server that attests itself after the handshake say --tls-mode exporter", err)
	}
	return resp, err
}

func (cfg *ConnectConfig) certificateTransport(peer *attestedtls.Peer, own *attestedtls.Certificate) (http.RoundTripper, func(), error) {
	c, err := attestedtls.ClientConfig(peer, own)
	if err != nil {
		return nil, nil, err
	}
	// No proxy: the connection is the protection.
	t := &http.Transport{TLSClientConfig: c, DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}
	return leg{modeHint{t, attestedtls.ModeCertificate}, cfg.Header, false}, func() {
		t.CloseIdleConnections()
		if own != nil {
			own.Close()
		}
	}, nil
}
