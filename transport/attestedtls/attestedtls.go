// Package attestedtls carries evidence of TEEs in TLS 1.3, for peers that don't
// seal messages (spec chapter "Attested TLS"). There are two modes.
//
// Exporter-bound, the stronger: after the handshake the ends attest themselves
// over a value that only this connection has. Around a server and a client it
// is one line each:
//
//	l, err := attestedtls.NewListener(tcp, attestedtls.Config{Own: own})
//	err = server.Serve(l)
//
//	d, err := attestedtls.NewDialer(attestedtls.Config{Peer: peer})
//	client := &http.Client{Transport: d.Transport()}
//
// In certificates (RA-TLS), for interoperation: evidence over the key of the
// certificate. It says nothing of the connection, and its age is what the
// certificate says; see [ServerConfig], [ClientConfig] and [NewCertificate].
//
// In both modes TLS says who answers only where [Peer.Roots] or [Peer.Pins] are
// set: evidence says what code answers, and anyone may run that code under
// anyone's name. A [Result] lists what was not proven.
package attestedtls

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/protocol"
)

// States in which a handshake ends without a connection.
var (
	// ErrNotAttested: the peer does not attest itself.
	ErrNotAttested = errors.New("attested TLS: the peer does not attest itself")
	// ErrRefused: the peer's attestation is wrong, or not acceptable.
	ErrRefused = errors.New("attested TLS: the peer's attestation is refused")
	// ErrResumed: the session was resumed, so nothing was attested in it.
	ErrResumed = errors.New("attested TLS: the peer resumed an earlier session")
	// ErrUnwelcome: the peer refused our attestation.
	ErrUnwelcome = errors.New("attested TLS: the peer refuses our attestation")
)

const (
	defaultInterval = time.Hour
	defaultMaxAge   = 2 * time.Hour
	defaultTimeout  = 10 * time.Second
	maxIdentity     = 2048             // bytes of a URI
	skew            = 60 * time.Second // of clocks, for what is not valid yet
)

// Peer is what the other end must show.
type Peer struct {
	Appraiser protocol.Appraiser // required
	// Identities are the URIs that the peer may speak for. A client names the one
	// that it dials. A server that names none takes any, and must look at
	// [Result.Identity] and its caveats.
	Identities []string
	// Roots and Pins say who may speak for an identity: authorities that certify
	// the peer's TLS key, or keys of its certificate or of one that issued it.
	// Without either, evidence alone decides, and results have [IdentityUnproven].
	Roots *x509.CertPool
	Pins  []protocol.Thumbprint
	// MaxAge is how old evidence may be. Default 2 hours.
	MaxAge time.Duration
	// Forms of evidence in certificates that are accepted. Default those that
	// bind role, identity and time beside the key: x509ev.CMW and DICECMW. Name
	// x509ev.TaggedQuote and x509ev.Gramine to accept other projects' RA-TLS.
	Forms []x509ev.Form
	// Timeout bounds one appraisal, in the certificate mode. Default 10 seconds.
	Timeout time.Duration
	// Accept, if not nil, sees each result before the connection is used, and may
	// refuse it. In the certificate mode TLS calls it before the peer has proven
	// that it holds the certificate's key: the handshake fails afterwards if it
	// does not, so a result seen there is not yet a connection.
	Accept func(*Result) error
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// A Caveat is something that an attestation did not prove.
type Caveat string

// The caveats.
const (
	// IdentityUnproven: no authority and no pin was asked who the peer is. Anyone
	// who runs accepted code in a TEE can call it by any name.
	IdentityUnproven Caveat = "identity-unproven"
	// ConnectionUnbound: the evidence binds a key, not this connection. Who has
	// that key elsewhere can be in its place (CVE-2026-33697).
	ConnectionUnbound Caveat = "connection-unbound"
	// AgeUnknown: the evidence does not say when it was made.
	AgeUnknown Caveat = "age-unknown"
	// RoleUnbound: the evidence does not say whether its owner is client or server.
	RoleUnbound Caveat = "role-unbound"
	// Simulated: the TEE is a simulation, and proves nothing.
	Simulated Caveat = "simulated"
)

// A Mode is where evidence stands.
type Mode string

// The modes.
const (
	ModeExporter    Mode = "exporter"
	ModeCertificate Mode = "certificate"
)

// A Result is what the peer proved.
type Result struct {
	Mode Mode
	// Identity is the peer's, where evidence or certificate names it; "" if
	// neither does.
	Identity   string
	Role       protocol.Role
	Forms      []x509ev.Form // certificate mode: of the statements, one for each appraisal
	Appraisals []*protocol.Appraisal
	Made       time.Time // when the evidence was made; zero with AgeUnknown
	Expires    time.Time // from then on the peer is to be attested anew
	Caveats    []Caveat
}

// Has reports whether the result has that caveat.
func (r *Result) Has(c Caveat) bool { return slices.Contains(r.Caveats, c) }

func (r *Result) caveat(c Caveat) {
	if !r.Has(c) {
		r.Caveats = append(r.Caveats, c)
	}
}

// add takes an appraisal in.
func (r *Result) add(a *protocol.Appraisal) {
	r.Appraisals = append(r.Appraisals, a)
	if a.Simulated {
		r.caveat(Simulated)
	}
	if !a.Expires.IsZero() && a.Expires.Before(r.Expires) {
		r.Expires = a.Expires
	}
}

func (p *Peer) now() time.Time { return clock(p.Now) }

func clock(now func() time.Time) time.Time {
	if now == nil {
		return time.Now()
	}
	return now()
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// check refuses a Peer that could accept what nobody meant to.
func (p *Peer) check(role protocol.Role) error {
	switch {
	case p == nil:
		return errors.New("attested TLS: a client needs a Peer: what the server must show")
	case p.Appraiser == nil:
		return errors.New("attested TLS: Peer needs an Appraiser")
	case role == protocol.RoleServer && len(p.Identities) == 0:
		return errors.New("attested TLS: a client must name the identity that it dials in Peer.Identities")
	}
	for _, id := range p.Identities {
		if err := checkIdentity(id); err != nil {
			return err
		}
	}
	return nil
}

func checkIdentity(id string) error {
	if len(id) > maxIdentity {
		return fmt.Errorf("attested TLS: an identity of %d bytes; at most %d are allowed", len(id), maxIdentity)
	}
	if u, err := url.Parse(id); err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" {
		return fmt.Errorf("attested TLS: identity %.200q is not an absolute URI", id)
	}
	return nil
}

// welcome reports whether the peer may speak for id.
func (p *Peer) welcome(id string) error {
	if len(p.Identities) > 0 && !slices.Contains(p.Identities, id) {
		return refuse("it speaks for %.200q, wanted is %.200q", id, p.Identities)
	}
	return nil
}

// appraise has the evidence judged, and its age first.
func (p *Peer) appraise(ctx context.Context, e protocol.Evidence, r *Result) error {
	a, err := p.Appraiser.Appraise(ctx, e)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if a == nil {
		return refuse("the appraiser gave no result")
	}
	r.add(a)
	return nil
}

// young fails unless evidence made at that time is acceptable, and bounds the
// result by it.
func (p *Peer) young(made, now time.Time, r *Result) error {
	maxAge := orDefault(p.MaxAge, defaultMaxAge)
	switch {
	case made.After(now.Add(skew)):
		return refuse("the evidence is of %s, now is %s", stamp(made), stamp(now))
	case !now.Before(made.Add(maxAge)):
		return refuse("the evidence is of %s, older than %v", stamp(made), maxAge)
	}
	r.Made = made
	if end := made.Add(maxAge); end.Before(r.Expires) {
		r.Expires = end
	}
	return nil
}

// finish makes the last checks of a result.
func (p *Peer) finish(r *Result, now time.Time) error {
	if !now.Before(r.Expires) {
		return refuse("the attestation is over since %s", stamp(r.Expires))
	}
	if p.Accept != nil {
		if err := p.Accept(r); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
