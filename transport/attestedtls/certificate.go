package attestedtls

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/protocol"
)

// An Issuer certifies a key: it signs template, whose extensions and notBefore
// must stay as they are, and returns the chain in DER, leaf first.
type Issuer func(ctx context.Context, template *x509.Certificate, key crypto.PublicKey) (chain [][]byte, err error)

// IssueWith is the Issuer of a certification authority whose key is at hand: its
// certificate (the first of ca.Certificate) must be one.
func IssueWith(ca tls.Certificate) Issuer {
	return func(_ context.Context, template *x509.Certificate, key crypto.PublicKey) ([][]byte, error) {
		if len(ca.Certificate) == 0 {
			return nil, errors.New("attested TLS: the authority has no certificate")
		}
		parent, err := x509.ParseCertificate(ca.Certificate[0])
		if err != nil {
			return nil, err
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key, ca.PrivateKey)
		if err != nil {
			return nil, err
		}
		return append([][]byte{der}, ca.Certificate...), nil
	}
}

// CertificateConfig says how an attested certificate is made.
type CertificateConfig struct {
	Attester protocol.Attester // required
	Role     protocol.Role     // default: server
	Identity string            // required: the URI that peers dial, or expect of a client
	// Form of the evidence. Default x509ev.CMW, which binds role, identity and time.
	// x509ev.TaggedQuote is what other projects' RA-TLS verifiers read; it binds
	// the key alone.
	Form x509ev.Form
	// Interval is how old evidence may become before it is made anew, with a new
	// key. Certificates are valid for twice as long. Default an hour.
	Interval time.Duration
	// Issue certifies the key. Default: the certificate signs itself.
	Issue Issuer
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// A Certificate is an attested certificate that renews itself: an ephemeral
// P-256 key, and evidence over it. Close it when it is no longer used.
type Certificate struct {
	cfg   CertificateConfig
	uri   *url.URL
	renew renewer[*tls.Certificate]
}

// NewCertificate prepares a certificate. The first one is made when it is first
// needed, or by [Certificate.Get].
func NewCertificate(cfg CertificateConfig) (*Certificate, error) {
	if cfg.Attester == nil {
		return nil, errors.New("attested TLS: CertificateConfig needs an Attester")
	}
	if err := checkIdentity(cfg.Identity); err != nil {
		return nil, err
	}
	if cfg.Role == 0 {
		cfg.Role = protocol.RoleServer
	}
	if cfg.Form == "" {
		cfg.Form = x509ev.CMW
	}
	cfg.Interval = orDefault(cfg.Interval, defaultInterval)
	c := &Certificate{cfg: cfg}
	c.uri, _ = url.Parse(cfg.Identity)
	c.renew = renewer[*tls.Certificate]{make: c.make, interval: cfg.Interval, now: cfg.Now}
	return c, nil
}

// Get returns the current certificate with its key. It waits for the TEE only
// when there is none that is valid.
func (c *Certificate) Get(ctx context.Context) (*tls.Certificate, error) { return c.renew.get(ctx) }

// Close ends a renewal that is under way, and waits for that.
func (c *Certificate) Close() { c.renew.close() }

func (c *Certificate) make(ctx context.Context, now time.Time) (*tls.Certificate, time.Time, error) {
	var none time.Time
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, none, err
	}
	tmpl, err := c.template(now)
	if err != nil {
		return nil, none, err
	}
	// TMCP-21.3-1: An attested certificate MUST be for a key that was made inside the TEE for it and
	// that is used for nothing else.
	ext, err := x509ev.Attest(ctx, c.cfg.Attester, c.cfg.Form, x509ev.Subject{
		Role: c.cfg.Role, Identity: c.cfg.Identity, Key: key.Public(), NotBefore: tmpl.NotBefore,
	})
	if err != nil {
		return nil, none, fmt.Errorf("attested TLS: evidence: %w", err)
	}
	tmpl.ExtraExtensions = []pkix.Extension{ext}
	chain, err := c.issue(ctx, tmpl, key)
	if err != nil {
		return nil, none, fmt.Errorf("attested TLS: certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, none, fmt.Errorf("attested TLS: certificate: %w", err)
	}
	if err := c.checkIssued(leaf, tmpl, key, ext); err != nil {
		return nil, none, err
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, leaf.NotAfter, nil
}

func (c *Certificate) template(now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "attested TLS"},
		// Clocks differ: what is made now must be good at a peer that is behind.
		NotBefore:   now.Add(-skew).UTC().Truncate(time.Second),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{c.uri},
		// A leaf, in so many words.
		BasicConstraintsValid: true,
	}
	t.NotAfter = t.NotBefore.Add(skew + 2*c.cfg.Interval).Truncate(time.Second)
	if host := c.uri.Hostname(); host != "" && (c.uri.Scheme == "https" || c.uri.Scheme == "http") {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = []net.IP{ip}
		} else {
			t.DNSNames = []string{host}
		}
	}
	return t, nil
}

func (c *Certificate) issue(ctx context.Context, tmpl *x509.Certificate, key *ecdsa.PrivateKey) ([][]byte, error) {
	if c.cfg.Issue == nil {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		return [][]byte{der}, err
	}
	chain, err := c.cfg.Issue(ctx, tmpl, key.Public())
	if err == nil && len(chain) == 0 {
		err = errors.New("the issuer gave no certificate")
	}
	return chain, err
}

// checkIssued finds out at once what every peer would refuse.
func (c *Certificate) checkIssued(leaf, tmpl *x509.Certificate, key *ecdsa.PrivateKey, ext pkix.Extension) error {
	has := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(ext.Id) && slices.Equal(e.Value, ext.Value)
	})
	switch {
	case !key.PublicKey.Equal(leaf.PublicKey):
		return errors.New("attested TLS: the issuer certified another key")
	case !has:
		return fmt.Errorf("attested TLS: the issuer left out the extension %v with the evidence", ext.Id)
	case !leaf.NotBefore.Equal(tmpl.NotBefore):
		return fmt.Errorf("attested TLS: the issuer changed notBefore, which the evidence binds, from %s to %s", stamp(tmpl.NotBefore), stamp(leaf.NotBefore))
	}
	return nil
}

// base is what both modes and both roles have in common.
func base() *tls.Config {
	return &tls.Config{
		// TMCP-21.1-1: Both ends MUST use TLS 1.3 or later.
		MinVersion: tls.VersionTLS13,
		// TMCP-21.1-2: A server MUST NOT send session tickets.
		SessionTicketsDisabled: true,
	}
}

// checkState refuses what base excludes, whatever became of the configuration.
func checkState(cs *tls.ConnectionState) error {
	// TMCP-21.1-3: An end MUST close a connection whose session was resumed before it sends or takes
	// any application data.
	if cs.DidResume {
		return ErrResumed
	}
	if cs.Version < tls.VersionTLS13 {
		return fmt.Errorf("%w: TLS version %#x, want 1.3", ErrRefused, cs.Version)
	}
	return nil
}

// ServerConfig is the TLS configuration of a server that shows an attested
// certificate, and demands one of its clients if clients is not nil. Do not
// change what it sets; application protocols may be added.
func ServerConfig(own *Certificate, clients *Peer) (*tls.Config, error) {
	if own == nil {
		return nil, errors.New("attested TLS: a server needs a Certificate")
	}
	cfg := base()
	cfg.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return own.Get(h.Context()) }
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return checkState(&cs) }
	if clients != nil {
		if err := clients.check(protocol.RoleClient); err != nil {
			return nil, err
		}
		cfg.ClientAuth = tls.RequireAnyClientCert
		cfg.VerifyConnection = clients.verifyConnection(protocol.RoleClient)
	}
	return cfg, nil
}

// ClientConfig is the TLS configuration of a client that demands an attested
// certificate, and shows own if it is not nil and the server asks. Do not change
// what it sets; server name and application protocols may be.
func ClientConfig(servers *Peer, own *Certificate) (*tls.Config, error) {
	if err := servers.check(protocol.RoleServer); err != nil {
		return nil, err
	}
	cfg := base()
	// The chain is judged in VerifyConnection, by evidence first.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = servers.verifyConnection(protocol.RoleServer)
	if u, err := url.Parse(servers.Identities[0]); err == nil && len(servers.Identities) == 1 {
		cfg.ServerName = u.Hostname()
	}
	if own != nil {
		cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.Get(i.Context()) }
	}
	return cfg, nil
}

func (p *Peer) verifyConnection(role protocol.Role) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if err := checkState(&cs); err != nil {
			return err
		}
		// TLS gives no context here.
		ctx, cancel := context.WithTimeout(context.Background(), orDefault(p.Timeout, defaultTimeout))
		defer cancel()
		r, err := p.verifyCertificate(ctx, cs.PeerCertificates, role)
		if err != nil {
			return err
		}
		return p.finish(r, p.now())
	}
}

// verifyCertificate judges the chain that a peer of that role proved to hold
// the key of.
func (p *Peer) verifyCertificate(ctx context.Context, certs []*x509.Certificate, role protocol.Role) (*Result, error) {
	if len(certs) == 0 {
		return nil, fmt.Errorf("%w: no certificate", ErrNotAttested)
	}
	leaf, now := certs[0], p.now()
	if err := checkLeaf(leaf, now); err != nil {
		return nil, err
	}
	x, err := x509ev.Extract(leaf)
	switch {
	case errors.Is(err, x509ev.ErrNoEvidence):
		return nil, fmt.Errorf("%w: %w", ErrNotAttested, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	// TMCP-21.5-3: An implementation MUST label a result of the certificate mode as not bound to the
	// connection.
	r := &Result{Mode: ModeCertificate, Role: role, Expires: leaf.NotAfter, Caveats: []Caveat{ConnectionUnbound}}
	if r.Identity, err = p.identityOf(leaf, x); err != nil {
		return nil, err
	}
	// TMCP-21.2-1: A verifier MUST appraise each statement of evidence in a certificate, and refuse
	// the certificate when one of them is refused.
	for _, s := range x.Statements {
		if err := p.verifyStatement(ctx, &s, leaf, r, now); err != nil {
			return nil, err
		}
	}
	if err := p.prove(certs, r.Identity, r, now); err != nil {
		return nil, err
	}
	if r.Has(IdentityUnproven) && r.Has(RoleUnbound) {
		r.Identity = "" // wanted, and neither bound nor proven
	}
	return r, nil
}

func (p *Peer) verifyStatement(ctx context.Context, s *x509ev.Statement, leaf *x509.Certificate, r *Result, now time.Time) error {
	forms := p.Forms
	if forms == nil {
		forms = []x509ev.Form{x509ev.CMW, x509ev.DICECMW}
	}
	// TMCP-21.2-8: A verifier MUST refuse forms that do not bind role, identity and time unless local
	// policy names them.
	if !slices.Contains(forms, s.Form) {
		return refuse("evidence of form %s; accepted are %v", s.Form, forms)
	}
	if s.Bound() {
		// TMCP-21.2-10: A verifier MUST refuse a CMW form whose notBefore is longer ago than its policy
		// allows.
		if err := p.young(leaf.NotBefore, now, r); err != nil {
			return err
		}
	} else {
		r.caveat(AgeUnknown)
		r.caveat(RoleUnbound)
	}
	e, err := s.Evidence(r.Role, r.Identity, now)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r.Forms = append(r.Forms, s.Form)
	return p.appraise(ctx, e, r)
}

// identityOf is what the certificate must speak for: the URI that it names, where
// the evidence binds it, and otherwise the one that is wanted.
func (p *Peer) identityOf(leaf *x509.Certificate, x *x509ev.Extracted) (string, error) {
	bound := slices.ContainsFunc(x.Statements, func(s x509ev.Statement) bool { return s.Bound() })
	if !bound {
		if len(p.Identities) == 1 {
			return p.Identities[0], nil
		}
		if p.proves() {
			return "", refuse("evidence that names no identity, and %d are accepted: name one in Peer.Identities", len(p.Identities))
		}
		return "", nil
	}
	// TMCP-21.3-2: An attested certificate of a CMW form MUST name its identity, and no other URI, as
	// a URI in its subject alternative names.
	if len(leaf.URIs) != 1 {
		return "", refuse("the certificate names %d URIs, want the identity alone", len(leaf.URIs))
	}
	id := leaf.URIs[0].String()
	return id, p.welcome(id)
}

func checkLeaf(c *x509.Certificate, now time.Time) error {
	// TMCP-21.2-9: A verifier MUST refuse a certificate before its notBefore, less 60 seconds, or after
	// its notAfter.
	switch {
	case c.NotBefore.After(now.Add(skew)):
		return refuse("the certificate is valid from %s, now is %s", stamp(c.NotBefore), stamp(now))
	case now.After(c.NotAfter):
		return refuse("the certificate was valid until %s, now is %s", stamp(c.NotAfter), stamp(now))
	}
	// TMCP-21.2-11: A verifier MUST refuse a certificate with a critical extension that it does not
	// know.
	if rest := unhandled(c); len(rest) > 0 {
		return refuse("the certificate has the critical extension %v, which is not known", rest[0])
	}
	if string(c.RawIssuer) == string(c.RawSubject) {
		if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
			return refuse("the certificate names itself as issuer, but did not sign itself: %v", err)
		}
	}
	return nil
}
