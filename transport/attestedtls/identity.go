package attestedtls

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/protocol"
)

// proves reports whether p asks who the peer is, beside what it runs.
func (p *Peer) proves() bool { return p.Roots != nil || len(p.Pins) > 0 }

// prove fails unless a root or a pin says that the key of certs[0] speaks for
// identity. Without either it only notes that nobody was asked.
func (p *Peer) prove(certs []*x509.Certificate, identity string, r *Result, now time.Time) error {
	// TMCP-21.5-2: An implementation MUST label a result whose identity no root and no pin proved.
	if !p.proves() {
		r.caveat(IdentityUnproven)
		return nil
	}
	// TMCP-21.5-1: A verifier that is given roots or pins MUST refuse a peer whose certificate they do
	// not vouch for under the identity wanted.
	if len(certs) == 0 {
		return refuse("it shows no certificate, so nothing says that it is %.200q", identity)
	}
	if slices.Contains(p.Pins, thumbprint(certs[0].PublicKey, certs[0])) {
		return nil
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if r.Role == protocol.RoleClient {
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if p.Roots != nil {
		opts.Roots = p.Roots.Clone()
	}
	for _, c := range certs[1:] {
		if slices.Contains(p.Pins, thumbprint(c.PublicKey, c)) {
			opts.Roots.AddCert(c)
		} else {
			opts.Intermediates.AddCert(c)
		}
	}
	leaf := *certs[0]
	leaf.UnhandledCriticalExtensions = unhandled(certs[0])
	if _, err := leaf.Verify(opts); err != nil {
		return refuse("its certificate does not prove that it is %.200q: %v", identity, err)
	}
	if err := names(&leaf, identity); err != nil {
		return refuse("its certificate: %v", err)
	}
	return nil
}

// unhandled are the critical extensions that neither Go nor x509ev knows.
func unhandled(c *x509.Certificate) (rest []asn1.ObjectIdentifier) {
	for _, id := range c.UnhandledCriticalExtensions {
		if !x509ev.Known(id) {
			rest = append(rest, id)
		}
	}
	return rest
}

// names fails unless the certificate names identity: by host for http and https,
// by URI for others.
func names(c *x509.Certificate, identity string) error {
	u, err := url.Parse(identity)
	if err != nil {
		return err
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		host := u.Hostname()
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
			host = "[" + host + "]"
		}
		return c.VerifyHostname(host)
	}
	if slices.ContainsFunc(c.URIs, func(san *url.URL) bool { return san.String() == identity }) {
		return nil
	}
	return fmt.Errorf("no subject alternative name is the URI %.200q", identity)
}

// thumbprint names a key; those without COSE_Key (RSA) by their
// SubjectPublicKeyInfo, as protocol.Identity does.
func thumbprint(key crypto.PublicKey, c *x509.Certificate) protocol.Thumbprint {
	if t, err := protocol.PublicKeyThumbprint(key); err == nil {
		return t
	}
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}
