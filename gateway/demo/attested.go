package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/internal/hostile"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Attacks on attestation. Each gives the attacker the whole path, and what its
// name says besides.
const (
	Relay             hostile.Attack = "relay"
	Divert            hostile.Attack = "divert"
	Reflect           hostile.Attack = "reflect"
	Stale             hostile.Attack = "stale"
	Debug             hostile.Attack = "debug"
	Revoked           hostile.Attack = "revoked"
	OutOfDate         hostile.Attack = "out-of-date"
	LeakedAttestation hostile.Attack = "leaked-attestation-key"
	LeakedIdentity    hostile.Attack = "leaked-identity-key"
)

// AttestedAttacks are the attacks that [RunAttested] knows.
var AttestedAttacks = []hostile.Attack{Relay, Divert, Reflect, Stale, Debug, Revoked, OutOfDate, LeakedAttestation, LeakedIdentity}

// Lax says what the client leaves out for the attack to succeed: the one check
// that stands in its way.
var Lax = map[hostile.Attack]string{
	Relay:             "a client that does not ask what the evidence binds",
	Divert:            "a client that trusts attestation alone, and any name",
	Reflect:           "a client that does not ask whose evidence it is",
	Stale:             "a client that takes evidence of any age",
	Debug:             "a client that allows debug",
	Revoked:           "a client with last month's revocation lists",
	OutOfDate:         "a client that takes firmware of any age",
	LeakedAttestation: "a client that trusts attestation alone, and any name",
	LeakedIdentity:    "a client that trusts the identity alone",
}

// An AttestedOutcome is what came of one call to an attacker in place of the
// attested server, after the same client called the genuine one.
type AttestedOutcome struct {
	Attack    hostile.Attack
	Lax       bool            // the client left out one check
	Succeeded bool            // the attacker read what the client meant for the server
	Reason    protocol.Reason // why the client refused
	What      string          // for people
	Genuine   string          // how the call to the genuine server went
}

// party is an MCP server with what it read.
type party struct {
	http *http.Server
	url  string
	read atomic.Bool
}

func (p *party) bank() http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "demo-bank", Version: "1"}, nil)
	type in struct {
		Account string `json:"account"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: tool, Description: "Transfers money"},
		func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
			p.read.Store(p.read.Load() || a.Account == Secret)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: Receipt}}}, nil, nil
		})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})
}

// start serves the bank behind trust that is made once the address is known.
func start(make func(url string) (*protocol.Server, error)) (*party, *protocol.Server, error) {
	p := &party{}
	var mux http.ServeMux
	var err error
	if p.http, p.url, err = listen(&mux); err != nil {
		return nil, nil, err
	}
	trust, err := make(p.url)
	if err != nil {
		_ = p.http.Close()
		return nil, nil, err
	}
	h, err := transport.Handler(p.bank(), transport.ServerConfig{Trust: trust})
	if err != nil {
		_ = p.http.Close()
		return nil, nil, err
	}
	mux.Handle("/mcp", h)
	return p, trust, nil
}

var (
	goodImage = sha256.Sum256([]byte("the bank's server, as it was reviewed"))
	evilImage = sha256.Sum256([]byte("the bank's server, with a back door"))
)

// scene is one attack: what the attacker has, and what a lax client leaves out.
type scene struct {
	server  *protocol.Identity // the genuine server's
	evil    *protocol.Identity // the attacker's own
	genuine *protocol.Server
	self    *protocol.ClientHolder // the client's own key object, for Reflect
	now     time.Time
}

func server(id *protocol.Identity, a protocol.Attester) (*protocol.Server, error) {
	profiles := []protocol.Profile{protocol.ProfileAttested, protocol.ProfileIdentity}
	if a == nil {
		profiles = profiles[1:]
	}
	settings, err := protocol.NewSettings(protocol.Offer{Profiles: profiles})
	if err != nil {
		return nil, err
	}
	cfg := protocol.ServerConfig{Identity: id, Settings: settings}
	if a != nil {
		cfg.Attestation = &protocol.Attestation{Attester: a, Interval: 24 * time.Hour}
	}
	return protocol.NewServer(cfg)
}

func machine(image [32]byte, change func(*sim.Options)) (protocol.Attester, error) {
	o := sim.Options{Image: image, Now: time.Now}
	if change != nil {
		change(&o)
	}
	return sim.Default().TEE(o)
}

// attacker is the server that the client is led to.
func (s *scene) attacker(a hostile.Attack) (*protocol.Server, error) {
	with := func(id *protocol.Identity, image [32]byte, change func(*sim.Options)) (*protocol.Server, error) {
		m, err := machine(image, change)
		if err != nil {
			return nil, err
		}
		return server(id, m)
	}
	switch a {
	case Relay: // with the identity key even, and the genuine machine to ask
		return server(s.server, relayed(func(now time.Time) ([]byte, error) {
			o, _, err := s.genuine.KeyObject(now)
			return o, err
		}))
	case Divert: // another customer of the same cloud runs the same code
		return with(s.evil, goodImage, func(o *sim.Options) { o.Name = "another machine" })
	case Reflect:
		return server(s.server, relayed(func(now time.Time) ([]byte, error) {
			o, _, err := s.self.KeyObject(now)
			return o, err
		}))
	case Stale: // three hours ago the attacker was in, and kept the attested key
		t, err := with(s.server, goodImage, nil)
		if err == nil {
			_, _, err = t.KeyObject(s.now.Add(-3 * time.Hour))
		}
		return t, err
	case Debug:
		return with(s.server, goodImage, func(o *sim.Options) { o.Debug = true })
	case Revoked:
		return with(s.server, goodImage, func(o *sim.Options) { o.Name = stolen })
	case OutOfDate: // firmware from before the newest TCB level of the client's collateral
		return with(s.server, goodImage, func(o *sim.Options) {
			svn := sim.DefaultSVN
			svn[0]--
			o.TDX.Platform.SVN = &svn
		})
	case LeakedAttestation: // makes any evidence; doesn't have the server's identity key
		return with(s.evil, goodImage, nil)
	case LeakedIdentity: // is the server by name; runs its own code, in a TEE of its own
		return with(s.server, evilImage, nil)
	}
	return nil, fmt.Errorf("attack %q is not known", a)
}

// stolen is the machine whose key was extracted, and is revoked.
const stolen = "the machine in the attacker's basement"

// relayed shows the evidence of another's key object.
type relayed func(now time.Time) ([]byte, error)

func (r relayed) Attest(context.Context, [protocol.ReportDataSize]byte) ([]byte, error) {
	object, err := r(time.Now())
	if err != nil {
		return nil, err
	}
	u, err := protocol.InspectKeyObject(object)
	if err != nil {
		return nil, err
	}
	return u.Evidence, nil
}

// client is what the bank's customer runs, less one check when it is lax.
func (s *scene) client(a hostile.Attack, lax bool, trust *protocol.Server) (transport.ClientConfig, error) {
	anchor := protocol.Pin(s.server.Thumbprint())
	r := appraise.Rules{Name: "demo", Development: true, ReferenceValues: "optional",
		Claims: map[string][]string{"tdx.mrtd": {fmt.Sprintf("%x", sim.Measurements(evidence.TDX, goodImage)["tdx.mrtd"])}}}
	cfg := transport.ClientConfig{Identity: s.server.URI(), Anchor: anchor, Profile: protocol.ProfileAttested}
	unbound := false
	revoked, err := s.collateral()
	if err != nil {
		return cfg, err
	}
	if lax {
		switch a {
		case Relay, Reflect:
			unbound = true
		case Divert, LeakedAttestation:
			cfg.Anchor, cfg.Identity = protocol.AnyOf(anchor, protocol.Pin(s.evil.Thumbprint())), trust.Identity().URI()
		case Stale:
			cfg.MaxEvidenceAge = 30 * 24 * time.Hour
		case Debug:
			r.Debug = true
		case Revoked:
			revoked = nil
		case OutOfDate:
			r.TCB.Accept = []evidence.TCBStatus{evidence.UpToDate, evidence.OutOfDate}
		case LeakedIdentity:
			cfg.Profile = protocol.ProfileIdentity
			return cfg, nil
		}
	}
	p, err := appraise.NewRules(r)
	if err != nil {
		return cfg, err
	}
	app, err := appraise.New(appraise.Config{Policy: p, Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(evidence.TDX), Collateral: revoked,
		Verifiers: verifiers.All(verifiers.Options{AllowDebug: r.Debug})})
	if err != nil {
		return cfg, err
	}
	cfg.Appraiser = app
	if unbound {
		cfg.Appraiser = forgetful{app}
	}
	return cfg, nil
}

// collateral is the client's own: it knows of the stolen key.
func (s *scene) collateral() ([]evidence.Item, error) {
	_, serial, err := sim.Default().PCK(sim.Platform{Name: stolen})
	if err != nil {
		return nil, err
	}
	today := s.now.UTC().Truncate(24 * time.Hour)
	c := sim.Collateral{Issued: today, NextUpdate: today.AddDate(0, 0, 30)}
	c.Revoked = append(c.Revoked, serial)
	b, err := sim.Default().Collateral(c)
	return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: b}}, err
}

// forgetful appraises evidence without asking what it binds, as many clients do.
type forgetful struct{ a *appraise.Appraiser }

func (f forgetful) Appraise(_ context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	r := f.a.Evaluate(appraise.Input{CMW: e.CMW, Unbound: true, Now: e.Now})
	if err := r.Err(); err != nil {
		return nil, err
	}
	return &protocol.Appraisal{Policy: r.Policy.Digest(), Simulated: true}, nil
}

// RunAttested has a client call the genuine server, and then an attacker who sits
// where the server was. A lax client leaves out the check that its attack is
// about, and shows that nothing else stops it.
func RunAttested(ctx context.Context, a hostile.Attack, lax bool) (*AttestedOutcome, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s := &scene{now: time.Now()}
	good, trust, err := start(func(url string) (*protocol.Server, error) {
		var err error
		if s.server, err = protocol.GenerateIdentity(url); err != nil {
			return nil, err
		}
		m, err := machine(goodImage, nil)
		if err != nil {
			return nil, err
		}
		s.genuine, err = server(s.server, m)
		return s.genuine, err
	})
	if err != nil {
		return nil, err
	}
	defer good.http.Close()
	if err := s.ownKey(); err != nil {
		return nil, err
	}
	evil, evilTrust, err := start(func(url string) (*protocol.Server, error) {
		var err error
		if s.evil, err = protocol.GenerateIdentity(url); err != nil {
			return nil, err
		}
		return s.attacker(a)
	})
	if err != nil {
		return nil, err
	}
	defer evil.http.Close()

	out := &AttestedOutcome{Attack: a, Lax: lax}
	got, err := s.call(ctx, a, lax, trust, good.url)
	if err != nil {
		return nil, err
	}
	if got.err != nil || got.text != Receipt || !good.read.Load() {
		return nil, fmt.Errorf("the genuine server was refused, so nothing is shown: %v", got.err)
	}
	out.Genuine = "accepted: " + Receipt
	if got, err = s.call(ctx, a, lax, evilTrust, evil.url); err != nil {
		return nil, err
	}
	out.Succeeded, out.Reason = evil.read.Load(), reasonIn(got.err)
	switch {
	case out.Succeeded:
		out.What = "the attacker read the arguments: " + Secret
	case got.err != nil && out.Reason != "":
		out.What = "client refused: " + why(got.err)
	default:
		return nil, fmt.Errorf("attack %s: neither refused nor successful: %v", a, got.err)
	}
	return out, nil
}

func (s *scene) ownKey() error {
	id, err := protocol.GenerateIdentity(s.server.URI()) // even under the server's own name
	if err != nil {
		return err
	}
	settings, err := protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileAttested}})
	if err != nil {
		return err
	}
	m, err := machine(goodImage, nil)
	if err != nil {
		return err
	}
	s.self, err = protocol.NewClientHolder(protocol.ClientKeyConfig{Identity: id, Settings: settings, Attestation: &protocol.Attestation{Attester: m}})
	return err
}

func (s *scene) call(ctx context.Context, a hostile.Attack, lax bool, trust *protocol.Server, url string) (answer, error) {
	cfg, err := s.client(a, lax, trust)
	if err != nil {
		return answer{}, err
	}
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	rt, err := transport.RoundTripper(base, cfg)
	if err != nil {
		return answer{}, err
	}
	got := call(ctx, url, &http.Client{Transport: rt})
	return got, ctx.Err()
}

// why is the protocol's own sentence in an error that came through an SDK.
func why(err error) string {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e.Error()
	}
	return sentence(err.Error())
}
