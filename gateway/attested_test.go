package gateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// Images of simulated TEEs, and the policies that accept the first.
var (
	good = sha256.Sum256([]byte("the program that was reviewed"))
	evil = sha256.Sum256([]byte("the same with a back door"))

	anyCode  = appraise.Rules{Name: "any code", Development: true, ReferenceValues: "optional"}
	goodCode = appraise.Rules{Name: "good code", Development: true, Claims: map[string][]string{
		"tdx.mrtd": {hex.EncodeToString(sim.Measurements(evidence.TDX, good)["tdx.mrtd"])}}}
)

// machine is a simulated TEE that runs image.
func machine(t *testing.T, image [32]byte, change func(*sim.Options)) *protocol.Attestation {
	t.Helper()
	o := sim.Options{Image: image, Now: time.Now}
	if change != nil {
		change(&o)
	}
	a, err := sim.Default().TEE(o)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.Attestation{Attester: a}
}

func appraiser(t *testing.T, r appraise.Rules, passports ...appraise.Passport) *appraise.Appraiser {
	t.Helper()
	p, err := appraise.NewRules(r)
	if err != nil {
		t.Fatal(err)
	}
	a, err := appraise.New(appraise.Config{Policy: p, Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(evidence.TDX),
		Verifiers: verifiers.For(r), Passports: passports, Collateral: intel(t)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// intel is today's collateral of the simulated vendor, for evidence without.
func intel(t *testing.T) []evidence.Item {
	t.Helper()
	today := time.Now().UTC().Truncate(24 * time.Hour)
	b, err := sim.Default().Collateral(sim.Collateral{Issued: today, NextUpdate: today.AddDate(0, 0, 30)})
	if err != nil {
		t.Fatal(err)
	}
	return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: b}}
}

func identity(t *testing.T, uri string) *protocol.Identity {
	t.Helper()
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// connectTo runs a Connect of cfg to a server whose pin cfg has by default.
func connectTo(t *testing.T, to *end, cfg gateway.ConnectConfig) *end {
	t.Helper()
	fill(&cfg, to)
	return run(t, func(ctx context.Context, e *end, ready func()) error {
		return gateway.Connect(ctx, cfg, "127.0.0.1:0", func(url string) {
			e.url = url
			ready()
		})
	})
}

func fill(cfg *gateway.ConnectConfig, to *end) {
	if cfg.Offer.Mode == "" {
		cfg.Offer = required
	}
	if cfg.URL == "" {
		cfg.URL = to.url
	}
	if cfg.Anchor == nil {
		cfg.Anchor = protocol.Pin(to.pin)
	}
	if cfg.TLS != nil && cfg.TLS.Pins == nil {
		cfg.TLS.Pins = []protocol.Thumbprint{to.pin}
	}
}

const secret = "account 4711-0815"

// try has a client call the tool once through MCP, over HTTP or over stdio.
func try(t *testing.T, tr mcp.Transport) error {
	t.Helper()
	s, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(t.Context(), tr, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	return echo(t.Context(), s, secret)
}

func over(url string) mcp.Transport {
	return &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1}
}

// overStdio speaks to a ConnectStdio.
func overStdio(t *testing.T, to *end, cfg gateway.ConnectConfig) mcp.Transport {
	t.Helper()
	fill(&cfg, to)
	in, clientOut := io.Pipe()
	clientIn, out := io.Pipe()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- gateway.ConnectStdio(ctx, cfg, in, out) }()
	t.Cleanup(func() {
		_ = clientOut.Close()
		cancel()
		_ = clientIn.Close()
		<-ended
	})
	return &mcp.IOTransport{Reader: clientIn, Writer: clientOut}
}

// check wants a call accepted where want is "", and else refused for that reason
// without the tool having run.
func check(t *testing.T, err error, ran int64, want protocol.Reason) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), string(want))):
		t.Errorf("got %v, want %s", err, want)
	case want != "" && ran != 0:
		t.Errorf("the client was refused, and the tool ran %d times", ran)
	}
}

// A client that demands profile attested calls a server whose code it accepts, over
// each carrier and leg, and no other.
func TestAttested(t *testing.T) {
	type (
		serving    = gateway.ServeConfig
		connecting = gateway.ConnectConfig
	)
	other := identity(t, "urn:x").Thumbprint()
	for _, tt := range []struct {
		name   string
		server func(*serving)
		client func(*connecting)
		stdio  bool
		want   protocol.Reason
	}{
		{name: "envelope"},
		{name: "inline", client: func(c *connecting) { c.Carrier = protocol.Inline }},
		{name: "http", client: func(c *connecting) { c.Carrier = protocol.HTTP }},
		{name: "stdio", stdio: true},
		{name: "legacy leg", client: func(c *connecting) { c.OuterEra = transport.Legacy }},
		{name: "legacy leg, inline", client: func(c *connecting) { c.OuterEra, c.Carrier = transport.Legacy, protocol.Inline }},
		{name: "stdio, legacy leg", stdio: true, client: func(c *connecting) { c.OuterEra = transport.Legacy }},
		{name: "fresh evidence", client: func(c *connecting) { c.FreshEvidence = true }},
		{name: "fresh evidence, inline", client: func(c *connecting) { c.FreshEvidence, c.Carrier = true, protocol.Inline }},
		{name: "fresh evidence, http", client: func(c *connecting) { c.FreshEvidence, c.Carrier = true, protocol.HTTP }},
		{name: "client that asks for identity only", client: func(c *connecting) { c.Profile, c.Appraiser = "", nil }},
		{name: "this configuration",
			server: func(s *serving) { s.Attestation.Config = s.ConfigDigest() },
			client: func(c *connecting) { c.Appraiser = appraiser(t, config(c.URL)) }},

		{name: "other code", server: func(s *serving) { s.Attestation = machine(t, evil, nil) }, want: protocol.EvidenceRefused},
		{name: "other code, inline", server: func(s *serving) { s.Attestation = machine(t, evil, nil) },
			client: func(c *connecting) { c.Carrier = protocol.Inline }, want: protocol.EvidenceRefused},
		{name: "other code, http", server: func(s *serving) { s.Attestation = machine(t, evil, nil) },
			client: func(c *connecting) { c.Carrier = protocol.HTTP }, want: protocol.EvidenceRefused},
		{name: "other code, stdio", stdio: true, server: func(s *serving) { s.Attestation = machine(t, evil, nil) }, want: protocol.EvidenceRefused},
		{name: "debug", server: func(s *serving) { s.Attestation = machine(t, good, func(o *sim.Options) { o.Debug = true }) }, want: protocol.EvidenceRefused},
		{name: "another root", server: func(s *serving) { s.Attestation.Attester = foreign(t) }, want: protocol.EvidenceRefused},
		{name: "no TEE", server: func(s *serving) { s.Attestation = nil }, want: protocol.ProfileTooWeak},
		{name: "no TEE, inline", server: func(s *serving) { s.Attestation = nil },
			client: func(c *connecting) { c.Carrier = protocol.Inline }, want: protocol.ProfileTooWeak},
		{name: "another pin", client: func(c *connecting) { c.Anchor = protocol.Pin(other) }, want: protocol.IdentityMismatch},
		{name: "another name", client: func(c *connecting) { c.Identity = "https://bank.example/mcp" }, want: protocol.IdentityMismatch},
		{name: "another configuration",
			server: func(s *serving) {
				o := *s
				o.Upstream += "/other"
				s.Attestation.Config = o.ConfigDigest()
			},
			client: func(c *connecting) { c.Appraiser = appraiser(t, config(c.URL)) }, want: protocol.EvidenceRefused},
		{name: "no configuration", client: func(c *connecting) { c.Appraiser = appraiser(t, config(c.URL)) }, want: protocol.EvidenceRefused},
		{name: "mutual demanded", client: func(c *connecting) {
			c.Profile, c.Self, c.Attestation = protocol.ProfileMutual, identity(t, "urn:client"), machine(t, good, nil)
		}, want: protocol.ProfileTooWeak},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			s := serving{Upstream: upstream, Attestation: machine(t, good, nil), Offer: required}
			if tt.server != nil {
				tt.server(&s)
			}
			to := serve(t, s)
			c := connecting{Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode), URL: upstream}
			if tt.client != nil {
				tt.client(&c)
			}
			c.URL = ""
			var err error
			if tt.stdio {
				err = try(t, overStdio(t, to, c))
			} else {
				err = try(t, over(connectTo(t, to, c).url))
			}
			check(t, err, calls.Load(), tt.want)
		})
	}
}

// config is a policy that lists the digest of a server with that upstream.
func config(upstream string) appraise.Rules {
	c := gateway.ServeConfig{Upstream: upstream, Offer: required}
	r := goodCode
	r.Config = []string{hex.EncodeToString(c.ConfigDigest())}
	return r
}

// foreign is a TEE of vendors that nobody trusts.
func foreign(t *testing.T) protocol.Attester {
	t.Helper()
	a, err := sim.Other().TEE(sim.Options{Image: good, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What the configuration digest covers: each change gives another.
func TestConfigDigest(t *testing.T) {
	base := gateway.ServeConfig{Command: []string{"a", "b"}, Offer: required}
	base.Offer.Carriers = []protocol.Carrier{protocol.HTTP}
	seen := map[string]string{hex.EncodeToString(base.ConfigDigest()): "base"}
	for name, change := range map[string]func(*gateway.ServeConfig){
		"arguments": func(c *gateway.ServeConfig) { c.Command = []string{"a", "c"} },
		"joined":    func(c *gateway.ServeConfig) { c.Command = []string{"a b"} },
		"upstream":  func(c *gateway.ServeConfig) { c.Command, c.Upstream = nil, "http://127.0.0.1/" },
		"mode":      func(c *gateway.ServeConfig) { c.Offer.Mode = protocol.ModePreferred },
		"carriers":  func(c *gateway.ServeConfig) { c.Offer.Carriers = []protocol.Carrier{protocol.Inline} },
	} {
		c := base
		change(&c)
		d := hex.EncodeToString(c.ConfigDigest())
		if seen[d] != "" {
			t.Errorf("%s and %s have one digest", name, seen[d])
		}
		seen[d] = name
	}
}

// Fresh evidence is a quote for each client, where all others share one.
func TestFreshEvidence(t *testing.T) {
	upstream, _, _ := tools(t)
	a := machine(t, good, nil)
	c := &counted{Attester: a.Attester}
	a.Attester = c
	s := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: a})
	for _, fresh := range []bool{false, true} {
		before := c.n.Load()
		for range 2 {
			cfg := gateway.ConnectConfig{Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode), FreshEvidence: fresh}
			if err := try(t, over(connectTo(t, s, cfg).url)); err != nil {
				t.Fatal(err)
			}
		}
		if n := c.n.Load() - before; n != map[bool]int64{false: 0, true: 2}[fresh] {
			t.Errorf("two clients, fresh evidence %v: %d quotes", fresh, n)
		}
	}
}

// Results say what was proven of whom, and that it was a simulation.
func TestAttestedLabel(t *testing.T) {
	for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.Inline} {
		upstream, _, _ := tools(t)
		s := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, good, nil)})
		session := dial(t, connectTo(t, s, gateway.ConnectConfig{Carrier: carrier, Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}).url, nil)
		res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "x"}})
		if err != nil {
			t.Fatal(err)
		}
		// TMCP-18.8-4: An implementation MUST label what comes from a simulated TEE as simulated,
		// wherever it shows a result.
		got, _ := res.Meta[protocol.MetaStatus].(map[string]any)
		if got["state"] != "sealed" || got["profile"] != "attested" || got["peer"] != s.url || got["simulated"] != true {
			t.Errorf("%s: the label is %v", carrier, got)
		}
	}
}

// A client that demands attestation can't be one that does without it.
func TestPreferredDoesNotLowerADemand(t *testing.T) {
	cfg := gateway.ConnectConfig{URL: "http://127.0.0.1:1/mcp", Anchor: protocol.Pin(identity(t, "urn:x").Thumbprint()),
		Offer: protocol.Offer{Mode: protocol.ModePreferred}, Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}
	err := refusedAtStart(t, cfg)
	if err == nil || !strings.Contains(err.Error(), "required") {
		t.Errorf("got %v", err)
	}
}

// Both sides prove their code. A client that does not, or not to the server's
// liking, reaches nothing behind it.
func TestMutual(t *testing.T) {
	type connecting = gateway.ConnectConfig
	self := identity(t, "urn:client:alice")
	stranger := identity(t, "urn:client:alice") // by the same name
	for _, tt := range []struct {
		name   string
		client func(*connecting)
		stdio  bool
		want   protocol.Reason
	}{
		{name: "envelope"},
		{name: "inline", client: func(c *connecting) { c.Carrier = protocol.Inline }},
		{name: "http", client: func(c *connecting) { c.Carrier = protocol.HTTP }},
		{name: "stdio", stdio: true},
		{name: "legacy leg", client: func(c *connecting) { c.OuterEra = transport.Legacy }},
		{name: "fresh evidence", client: func(c *connecting) { c.FreshEvidence = true }},

		{name: "no key", client: func(c *connecting) { c.Profile, c.Self, c.Attestation = protocol.ProfileAttested, nil, nil }, want: protocol.ClientKeyRequired},
		{name: "no key, inline", client: func(c *connecting) {
			c.Profile, c.Self, c.Attestation, c.Carrier = protocol.ProfileAttested, nil, nil, protocol.Inline
		}, want: protocol.ClientKeyRequired},
		{name: "no TEE", client: func(c *connecting) { c.Profile, c.Attestation = protocol.ProfileAttested, nil }, want: protocol.ClientKeyRefused},
		{name: "other code", client: func(c *connecting) { c.Attestation = machine(t, evil, nil) }, want: protocol.ClientKeyRefused},
		{name: "other code, http", client: func(c *connecting) { c.Attestation, c.Carrier = machine(t, evil, nil), protocol.HTTP }, want: protocol.ClientKeyRefused},
		{name: "debug", client: func(c *connecting) { c.Attestation = machine(t, good, func(o *sim.Options) { o.Debug = true }) }, want: protocol.ClientKeyRefused},
		{name: "other identity", client: func(c *connecting) { c.Self = stranger }, want: protocol.ClientKeyRefused},
		{name: "identity only", client: func(c *connecting) {
			c.Profile, c.Appraiser, c.Self, c.Attestation = "", nil, nil, nil
		}, want: protocol.NoOverlap},
		{name: "the server's code", client: func(c *connecting) { c.Appraiser = appraiser(t, config("http://other.example")) }, want: protocol.EvidenceRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			to := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, good, nil), ClientKeys: protocol.ClientKeyDemanded,
				Clients: &protocol.ClientPolicy{Anchor: protocol.Pin(self.Thumbprint()), Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}})
			c := connecting{Profile: protocol.ProfileMutual, Appraiser: appraiser(t, goodCode), Self: self, Attestation: machine(t, good, nil)}
			if tt.client != nil {
				tt.client(&c)
			}
			var err error
			if tt.stdio {
				err = try(t, overStdio(t, to, c))
			} else {
				err = try(t, over(connectTo(t, to, c).url))
			}
			check(t, err, calls.Load(), tt.want)
		})
	}
}

// counted counts the quotes of a TEE.
type counted struct {
	protocol.Attester
	n atomic.Int64
}

func (c *counted) Attest(ctx context.Context, rd [protocol.ReportDataSize]byte) ([]byte, error) {
	c.n.Add(1)
	return c.Attester.Attest(ctx, rd)
}

// Evidence is made anew under load, with a new attested key each time: no call is
// lost, none runs twice, and no quote is made for a call.
func TestEvidenceRenewal(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(carrier.String(), func(t *testing.T) {
			t.Parallel()
			upstream, calls, _ := tools(t)
			a := machine(t, good, nil)
			c := &counted{Attester: a.Attester}
			a.Attester, a.Interval = c, 500*time.Millisecond
			s := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: a, Validity: 2 * time.Second})
			session := dial(t, connectTo(t, s, gateway.ConnectConfig{Carrier: carrier, Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}).url, nil)
			var n atomic.Int64
			var wg sync.WaitGroup
			begin := time.Now()
			for range 4 {
				wg.Go(func() {
					for c.n.Load() < 4 && time.Since(begin) < 20*time.Second {
						if err := echo(t.Context(), session, "x"); err != nil {
							t.Errorf("call %d, after %v: %v", n.Load(), time.Since(begin), err)
							return
						}
						n.Add(1)
					}
				})
			}
			wg.Wait()
			if got := calls.Load(); got != n.Load() {
				t.Errorf("%d calls ran the tool %d times", n.Load(), got)
			}
			if q := c.n.Load(); q < 4 || q > int64(time.Since(begin)/a.Interval)+2 {
				t.Errorf("%d quotes in %v", q, time.Since(begin))
			}
			t.Logf("%d calls, %d quotes in %v", n.Load(), c.n.Load(), time.Since(begin).Round(time.Millisecond))
		})
	}
}

// A server that is started anew has another attested key and the same identity:
// the next call works.
func TestAttestedRestart(t *testing.T) {
	upstream, calls, _ := tools(t)
	keyFile := filepath.Join(t.TempDir(), "server.key")
	key, err := keyfile.Generate("")
	if err == nil {
		err = keyfile.Save(keyFile, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := gateway.ServeConfig{Upstream: upstream, IdentityKey: keyFile, Attestation: machine(t, good, nil)}
	s := serve(t, cfg)
	cfg.Listen = s.addr
	session := dial(t, connectTo(t, s, gateway.ConnectConfig{Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}).url, nil)
	for range 3 {
		if err := echo(t.Context(), session, "x"); err != nil {
			t.Fatal(err)
		}
		s.stop()
		s.wait(t)
		s = serve(t, cfg)
	}
	// With other code it is refused, in the middle of the session.
	s.stop()
	s.wait(t)
	cfg.Attestation = machine(t, evil, nil)
	serve(t, cfg)
	if err := echo(t.Context(), session, "x"); err == nil || !strings.Contains(err.Error(), string(protocol.EvidenceRefused)) {
		t.Errorf("got %v, want %s", err, protocol.EvidenceRefused)
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("3 calls ran the tool %d times", n)
	}
}

// Nothing of an attested end is left running when it ends.
func TestAttestedEnds(t *testing.T) {
	before := goleak.IgnoreCurrent()
	self := identity(t, "urn:client:alice")
	for _, name := range []string{"attested", "mutual", "exporter", "certificate"} {
		t.Run(name, func(t *testing.T) {
			upstream, _, _ := tools(t)
			s := gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, good, nil)}
			c := gateway.ConnectConfig{Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}
			if name != "attested" {
				c.Self, c.Attestation = self, machine(t, good, nil)
			}
			switch name {
			case "attested":
			case "mutual":
				c.Profile = protocol.ProfileMutual
				s.ClientKeys, s.Clients = protocol.ClientKeyDemanded, &protocol.ClientPolicy{Anchor: protocol.Pin(self.Thumbprint()), Profile: protocol.ProfileAttested, Appraiser: appraiser(t, goodCode)}
			default:
				c.TLS = &gateway.TLS{Mode: attestedtls.Mode(name)}
				s.TLS = &gateway.TLS{Mode: attestedtls.Mode(name), Pins: []protocol.Thumbprint{self.Thumbprint()}, Clients: appraiser(t, goodCode)}
			}
			to := serve(t, s)
			from := connectTo(t, to, c)
			base := http.DefaultTransport.(*http.Transport).Clone()
			session := dial(t, from.url, base)
			if err := echo(t.Context(), session, "x"); err != nil {
				t.Error(err)
			}
			_ = session.Close()
			for _, e := range []*end{from, to} {
				e.stop()
				if took := e.wait(t); took > 4*time.Second {
					t.Errorf("it took %v to end", took)
				}
			}
			base.CloseIdleConnections()
		})
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, before)
}
