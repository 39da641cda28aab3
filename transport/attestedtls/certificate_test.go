package attestedtls

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/protocol"
)

func newCertificate(t testing.TB, cfg CertificateConfig) *Certificate {
	t.Helper()
	c, err := NewCertificate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func serverConfig(t testing.TB, own *Certificate, clients *Peer) *tls.Config {
	t.Helper()
	cfg, err := ServerConfig(own, clients)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func clientConfig(t testing.TB, servers *Peer, own *Certificate) *tls.Config {
	t.Helper()
	cfg, err := ClientConfig(servers, own)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// tlsShake connects a client and a server of these configurations.
func tlsShake(t testing.TB, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	c, s := pipe(t)
	return shake(t, tls.Client(c, client), tls.Server(s, server))
}

// keep returns p, and where it puts the last result.
func keep(p *Peer) (*Peer, *Result) {
	var last Result
	p.Accept = func(r *Result) error { last = *r; return nil }
	return p, &last
}

// TestCertificateHTTP: net/http with certificates that carry evidence, in each
// form, with and without attested clients.
func TestCertificateHTTP(t *testing.T) {
	for _, form := range []x509ev.Form{x509ev.CMW, x509ev.DICECMW, x509ev.TaggedQuote} {
		for _, mutual := range []bool{false, true} {
			t.Run(string(form)+map[bool]string{true: " mutual"}[mutual], func(t *testing.T) {
				v := newVendor()
				own := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID, Form: form})
				servers, proved := keep(v.peer(serverID))
				servers.Forms = []x509ev.Form{form}
				var clients *Peer
				var mine *Certificate
				seen := &Result{}
				if mutual {
					clients, seen = keep(v.peer(clientID))
					clients.Forms = servers.Forms
					mine = newCertificate(t, CertificateConfig{Attester: v, Identity: clientID, Role: protocol.RoleClient, Form: form})
				}
				l, err := tls.Listen("tcp", "127.0.0.1:0", serverConfig(t, own, clients))
				if err != nil {
					t.Fatal(err)
				}
				serve(t, l)
				tr := &http.Transport{TLSClientConfig: clientConfig(t, servers, mine)}
				body, err := get(t, tr, "https://"+l.Addr().String()+"/")
				if err != nil || body != "hello stranger" {
					t.Fatalf("%q, %v", body, err)
				}
				bound := form != x509ev.TaggedQuote
				// TMCP-21.5-3: An implementation MUST label a result of the certificate mode as not bound to
				// the connection.
				if proved.Mode != ModeCertificate || !proved.Has(ConnectionUnbound) || !proved.Has(IdentityUnproven) ||
					proved.Has(AgeUnknown) == bound || proved.Has(RoleUnbound) == bound || (proved.Identity == serverID) != bound {
					t.Errorf("proved %+v", proved)
				}
				if mutual && (seen.Role != protocol.RoleClient || (seen.Identity == clientID) != bound) {
					t.Errorf("the server saw %+v", seen)
				}
			})
		}
	}
}

// TestCompound: evidence and an authority over the same key.
func TestCompound(t *testing.T) {
	v := newVendor()
	ca, pool := newCA(t)
	_, strangers := newCA(t)
	pin, err := protocol.PublicKeyThumbprint(ca.Leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	byCA := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID, Issue: IssueWith(ca)})
	bySelf := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID})
	elsewhere := newCertificate(t, CertificateConfig{Attester: v, Identity: "https://example.org/mcp", Issue: IssueWith(ca)})
	critical := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID, Issue: func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) {
		tmpl.ExtraExtensions[0].Critical = true
		return IssueWith(ca)(ctx, tmpl, key)
	}})
	agent := newCertificate(t, CertificateConfig{Attester: v, Identity: clientID, Issue: IssueWith(ca)})
	self, err := bySelf.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	selfPin, _ := protocol.PublicKeyThumbprint(self.Leaf.PublicKey)

	for name, tt := range map[string]struct {
		server *Certificate
		edit   func(*Peer)
		ok     bool
	}{
		"roots":            {byCA, func(p *Peer) { p.Roots = pool }, true},
		"critical":         {critical, func(p *Peer) { p.Roots = pool }, true},
		"pinned authority": {byCA, func(p *Peer) { p.Pins = []protocol.Thumbprint{pin} }, true},
		"pinned leaf":      {bySelf, func(p *Peer) { p.Pins = []protocol.Thumbprint{selfPin} }, true},
		"URI":              {agent, func(p *Peer) { p.Roots, p.Identities = pool, []string{clientID} }, true},
		"other roots":      {byCA, func(p *Peer) { p.Roots = strangers }, false},
		"other pin":        {byCA, func(p *Peer) { p.Pins = []protocol.Thumbprint{{1}} }, false},
		"self-signed":      {bySelf, func(p *Peer) { p.Roots = pool }, false},
		// A genuine TEE with accepted code, under another name: the evidence binds the
		// name, and the authority certified it.
		"another identity": {elsewhere, func(p *Peer) { p.Roots = pool }, false},
		"empty roots":      {byCA, func(p *Peer) { p.Roots = x509.NewCertPool() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, proved := keep(v.peer(serverID))
			tt.edit(p)
			err, _ := tlsShake(t, clientConfig(t, p, nil), serverConfig(t, tt.server, nil))
			// TMCP-21.5-1: A verifier that is given roots or pins MUST refuse a peer whose certificate they
			// do not vouch for under the identity wanted.
			if tt.ok && (err != nil || proved.Has(IdentityUnproven)) || !tt.ok && !errors.Is(err, ErrRefused) {
				t.Errorf("%v, caveats %v", err, proved.Caveats)
			}
		})
	}
}

// fixed serves one certificate.
func fixed(cert *tls.Certificate) *tls.Config {
	cfg := base()
	cfg.Certificates = []tls.Certificate{*cert}
	return cfg
}

// resign makes a self-signed certificate like cert, altered, for key.
func resign(t testing.TB, cert *x509.Certificate, key *ecdsa.PrivateKey, alter func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	tmpl := *cert
	tmpl.ExtraExtensions = nil
	for _, e := range cert.Extensions {
		if x509ev.Known(e.Id) {
			tmpl.ExtraExtensions = append(tmpl.ExtraExtensions, e)
		}
	}
	tmpl.SignatureAlgorithm, tmpl.AuthorityKeyId, tmpl.PublicKey = 0, nil, key.Public()
	if alter != nil {
		alter(&tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificateRefused: servers that a client must send nothing to.
func TestCertificateRefused(t *testing.T) {
	v, rogue := newVendor(), newVendor()
	real := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID})
	good, err := real.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := good.PrivateKey.(*ecdsa.PrivateKey)
	taggedCert, err := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID, Form: x509ev.TaggedQuote}).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	of := func(cfg CertificateConfig) *tls.Certificate {
		c, err := newCertificate(t, cfg).Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	at := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	other, _ := url.Parse("https://example.org/")

	for name, tt := range map[string]struct {
		cert *tls.Certificate
		edit func(*Peer)
		want error
		part string
	}{
		"good": {cert: good},
		// N03: the genuine server's evidence in a certificate of the attacker's.
		"relay":         {cert: resign(t, good.Leaf, newKey(t), nil), want: ErrRefused, part: "binds something else"},
		"relay, tagged": {cert: resign(t, taggedCert.Leaf, newKey(t), nil), edit: allow(x509ev.TaggedQuote), want: ErrRefused, part: "another key"},
		// TMCP-21.2-8: A verifier MUST refuse forms that do not bind role, identity and time unless local
		// policy names them.
		"tagged":            {cert: taggedCert, want: ErrRefused, part: "form tagged-quote"},
		"tagged, named":     {cert: taggedCert, edit: allow(x509ev.TaggedQuote)},
		"no evidence":       {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) { c.ExtraExtensions = nil }), want: ErrNotAttested, part: "no evidence"},
		"of another vendor": {cert: of(CertificateConfig{Attester: rogue, Identity: serverID}), want: ErrRefused, part: "not genuine"},
		"another identity":  {cert: of(CertificateConfig{Attester: v, Identity: "https://example.org/mcp"}), want: ErrRefused, part: "speaks for"},
		"renamed":           {cert: of(CertificateConfig{Attester: v, Identity: "https://example.org/mcp"}), edit: nil, want: ErrRefused, part: "speaks for"},
		"of a client":       {cert: of(CertificateConfig{Attester: v, Identity: serverID, Role: protocol.RoleClient}), want: ErrRefused, part: "binds something else"}, // N10
		"notBefore moved":   {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Second) }), want: ErrRefused, part: "binds something else"},
		// TMCP-21.3-2: An attested certificate of a CMW form MUST name its identity, and no other URI, as
		// a URI in its subject alternative names.
		"two URIs":           {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) { c.URIs = append(c.URIs, other) }), want: ErrRefused, part: "2 URIs"},
		"no URI":             {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) { c.URIs = nil }), want: ErrRefused, part: "0 URIs"},
		"identity rewritten": {cert: resign(t, of(CertificateConfig{Attester: v, Identity: "https://example.org/mcp"}).Leaf, key, func(c *x509.Certificate) { c.URIs = good.Leaf.URIs }), want: ErrRefused, part: "binds something else"},
		// TMCP-21.2-10: A verifier MUST refuse a CMW form whose notBefore is longer ago than its policy
		// allows.
		"too old": {cert: good, edit: func(p *Peer) { p.Now, p.MaxAge = at(30*time.Minute), 31*time.Minute }, want: ErrRefused, part: "older than"},
		// TMCP-21.2-9: A verifier MUST refuse a certificate before its notBefore, less 60 seconds, or after
		// its notAfter.
		"expired":       {cert: good, edit: func(p *Peer) { p.Now, p.MaxAge = at(3*time.Hour), 24*time.Hour }, want: ErrRefused, part: "valid until"},
		"of the future": {cert: good, edit: func(p *Peer) { p.Now = at(-3 * time.Minute) }, want: ErrRefused, part: "valid from"},
		// TMCP-21.2-11: A verifier MUST refuse a certificate with a critical extension that it does not
		// know.
		"unknown critical": {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), want: ErrRefused, part: "critical"},
		"known critical": {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true })},
		"policy":         {cert: good, edit: func(p *Peer) { p.Accept = func(*Result) error { return errors.New("not today") } }, want: ErrRefused, part: "not today"},
		// TMCP-21.2-1: A verifier MUST appraise each statement of evidence in a certificate, and refuse
		// the certificate when one of them is refused.
		"one bad of two": {cert: resign(t, good.Leaf, key, func(c *x509.Certificate) {
			ext, err := x509ev.Attest(t.Context(), rogue, x509ev.DICECMW, x509ev.Subject{Role: protocol.RoleServer, Identity: serverID, Key: key.Public(), NotBefore: c.NotBefore})
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraExtensions = append(c.ExtraExtensions, ext)
		}), want: ErrRefused, part: "not genuine"},
	} {
		t.Run(name, func(t *testing.T) {
			p := v.peer(serverID)
			if tt.edit != nil {
				tt.edit(p)
			}
			err, serverErr := tlsShake(t, clientConfig(t, p, nil), fixed(tt.cert))
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.part) {
				t.Errorf("got %v, want %q", err, tt.part)
			}
			if serverErr == nil {
				t.Error("the server's application was reached")
			}
		})
	}
}

func allow(f ...x509ev.Form) func(*Peer) { return func(p *Peer) { p.Forms = f } }

// TestSignatureOfOwn: a certificate that names itself as issuer must have signed
// itself.
func TestSignatureOfOwn(t *testing.T) {
	v := newVendor()
	good, err := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID}).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	forged := *good.Leaf
	forged.Signature = slices.Clone(good.Leaf.Signature)
	forged.Signature[len(forged.Signature)-1] ^= 1
	if _, err := v.peer(serverID).verifyCertificate(t.Context(), []*x509.Certificate{&forged}, protocol.RoleServer); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
	if _, err := v.peer(serverID).verifyCertificate(t.Context(), nil, protocol.RoleServer); !errors.Is(err, ErrNotAttested) {
		t.Errorf("got %v", err)
	}
}

// TestClientsRefused: a server that demands attested clients reads nothing of
// others.
func TestClientsRefused(t *testing.T) {
	v, rogue := newVendor(), newVendor()
	own := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID})
	for name, mine := range map[string]*Certificate{
		"none":         nil,
		"not genuine":  newCertificate(t, CertificateConfig{Attester: rogue, Identity: clientID, Role: protocol.RoleClient}),
		"of a server":  newCertificate(t, CertificateConfig{Attester: v, Identity: clientID}),
		"another name": newCertificate(t, CertificateConfig{Attester: v, Identity: "spiffe://example.com/other", Role: protocol.RoleClient}),
	} {
		t.Run(name, func(t *testing.T) {
			clientErr, serverErr := tlsShake(t, clientConfig(t, v.peer(serverID), mine), serverConfig(t, own, v.peer(clientID)))
			if clientErr == nil || serverErr == nil {
				t.Errorf("client: %v, server: %v", clientErr, serverErr)
			}
		})
	}
}

// TestNoResumption (N35): servers of ours send no tickets, clients of ours use
// none, and a session that was resumed all the same carries nothing.
func TestNoResumption(t *testing.T) {
	v := newVendor()
	own := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID})
	var appraised int
	p := v.peer(serverID)
	p.Accept = func(*Result) error { appraised++; return nil }

	// A server that offers tickets, and a client whose user gave it a cache.
	eager := serverConfig(t, own, nil)
	eager.SessionTicketsDisabled, eager.VerifyConnection = false, nil
	spoiled := clientConfig(t, p, nil)
	spoiled.SessionTicketsDisabled, spoiled.ClientSessionCache = false, tls.NewLRUClientSessionCache(4)
	if err, _ := tlsShake(t, spoiled, eager); err != nil {
		t.Fatal(err)
	}
	// TMCP-21.1-3: An end MUST close a connection whose session was resumed before it sends or takes
	// any application data.
	err, serverErr := tlsShake(t, spoiled, eager)
	if !errors.Is(err, ErrResumed) || serverErr == nil {
		t.Errorf("client: %v, server: %v", err, serverErr)
	}
	// TMCP-21.1-2: A server MUST NOT send session tickets.
	appraised = 0
	spoiled.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		if err, _ := tlsShake(t, spoiled, serverConfig(t, own, nil)); err != nil {
			t.Error(err)
		}
	}
	if appraised != 2 {
		t.Errorf("%d appraisals for 2 connections", appraised)
	}
}

// TestVersion: TLS 1.2 is not spoken, by either end.
func TestVersion(t *testing.T) {
	v := newVendor()
	own := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID})
	old := serverConfig(t, own, nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	// TMCP-21.1-1: Both ends MUST use TLS 1.3 or later.
	if err, _ := tlsShake(t, clientConfig(t, v.peer(serverID), nil), old); err == nil {
		t.Error("the client spoke TLS 1.2")
	}
	older := clientConfig(t, v.peer(serverID), nil)
	older.MinVersion, older.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if err, _ := tlsShake(t, older, serverConfig(t, own, nil)); err == nil {
		t.Error("the server spoke TLS 1.2")
	}
	if err := checkState(&tls.ConnectionState{Version: tls.VersionTLS12}); err == nil {
		t.Error("the state of a TLS 1.2 connection was accepted")
	}
}

// TestRenewal: one quote at a time, the old certificate meanwhile, and a TEE that
// fails is left alone for a while.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVendor()
		c, err := NewCertificate(CertificateConfig{Attester: v, Identity: serverID})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		get := func() *tls.Certificate {
			t.Helper()
			cert, err := c.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		results := make(chan *tls.Certificate, 8)
		for range 8 {
			go func() { cert, _ := c.Get(t.Context()); results <- cert }()
		}
		first := <-results
		for range 7 {
			if cert := <-results; cert != first {
				t.Error("two certificates at once")
			}
		}
		if v.made.Load() != 1 {
			t.Errorf("%d quotes for 8 callers", v.made.Load())
		}
		time.Sleep(59 * time.Minute)
		if get() != first {
			t.Error("renewed too early")
		}
		time.Sleep(time.Minute)
		// TMCP-21.3-3: A holder SHOULD make a new certificate, with a new key, once an hour, and show the
		// old one meanwhile only as long as it is valid.
		if get() != first { // it is being renewed, and nobody waits
			t.Error("a caller waited for a quote though there was a valid certificate")
		}
		synctest.Wait()
		second := get()
		// TMCP-21.3-1: An attested certificate MUST be for a key that was made inside the TEE for it
		if second.PrivateKey.(*ecdsa.PrivateKey).Equal(first.PrivateKey) {
			t.Error("the same key again")
		}
		if second == first || v.made.Load() != 2 {
			t.Errorf("not renewed after the interval; %d quotes", v.made.Load())
		}
		v.broken.Store(true)
		time.Sleep(time.Hour)
		for range 3 {
			get()
			synctest.Wait()
		}
		if get() != second || v.made.Load() != 3 {
			t.Errorf("%d quotes of a broken TEE within a moment", v.made.Load())
		}
		time.Sleep(time.Hour) // the second is over now
		if _, err := c.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "no quote") {
			t.Errorf("got %v", err)
		}
		v.broken.Store(false)
		if _, err := c.Get(t.Context()); err == nil {
			t.Error("asked again at once")
		}
		time.Sleep(retryPause)
		if third := get(); third == second {
			t.Error("an expired certificate")
		}
		c.Close()
		if _, err := c.Get(t.Context()); err == nil {
			t.Error("a certificate after Close")
		}
	})
}

// TestIssuers: an issuer that spoils the certificate is found out at once.
func TestIssuers(t *testing.T) {
	v := newVendor()
	ca, _ := newCA(t)
	issue := IssueWith(ca)
	for name, issuer := range map[string]Issuer{
		"nothing": func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) { return nil, nil },
		"fails": func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) {
			return nil, errors.New("no")
		},
		"another key": func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) {
			return issue(ctx, tmpl, newKey(t).Public())
		},
		"no evidence": func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) {
			tmpl.ExtraExtensions = nil
			return issue(ctx, tmpl, key)
		},
		"another time": func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) {
			c := *tmpl
			c.NotBefore = c.NotBefore.Add(time.Minute)
			return issue(ctx, &c, key)
		},
		"rubbish":      func(ctx ctxT, tmpl *x509.Certificate, key pubT) ([][]byte, error) { return [][]byte{{1}}, nil },
		"no authority": IssueWith(tls.Certificate{}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID, Issue: issuer}).Get(t.Context()); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestConfigurations: mistakes are told when things are made.
func TestConfigurations(t *testing.T) {
	v := newVendor()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	own := newCertificate(t, CertificateConfig{Attester: v, Identity: serverID})
	for name, f := range map[string]func() error{
		"no attester":    func() error { _, err := NewCertificate(CertificateConfig{Identity: serverID}); return err },
		"no identity":    func() error { _, err := NewCertificate(CertificateConfig{Attester: v}); return err },
		"no certificate": func() error { _, err := ServerConfig(nil, nil); return err },
		"no appraiser":   func() error { _, err := ServerConfig(own, &Peer{}); return err },
		"no peer":        func() error { _, err := ClientConfig(nil, nil); return err },
		"no server name": func() error { _, err := ClientConfig(v.peer(), nil); return err },
		"identity too long": func() error {
			_, err := ClientConfig(v.peer("https://localhost/"+strings.Repeat("a", 2048)), nil)
			return err
		},
		"identity no URI":   func() error { _, err := ClientConfig(v.peer("localhost"), nil); return err },
		"listener, no own":  func() error { _, err := NewListener(l, Config{}); return err },
		"own, no attester":  func() error { _, err := NewListener(l, Config{Own: &Own{Identity: serverID}}); return err },
		"own, no identity":  func() error { _, err := NewListener(l, Config{Own: &Own{Attester: v}}); return err },
		"dialer, no peer":   func() error { _, err := NewDialer(Config{Own: v.own(clientID)}); return err },
		"dialer, no server": func() error { _, err := NewDialer(Config{Peer: v.peer()}); return err },
	} {
		if f() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// Never without verification of ours.
	for _, cfg := range []*tls.Config{clientConfig(t, v.peer(serverID), nil), serverConfig(t, own, nil)} {
		if cfg.VerifyConnection == nil || cfg.MinVersion != tls.VersionTLS13 || !cfg.SessionTicketsDisabled || cfg.ClientSessionCache != nil {
			t.Errorf("%+v", cfg)
		}
	}
}
