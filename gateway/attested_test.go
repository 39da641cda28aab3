package gateway_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/verifier"
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

// Attested TLS in both modes, with each form of evidence, one-sided and mutual.
func TestAttestedTLS(t *testing.T) {
	all := []x509ev.Form{x509ev.CMW, x509ev.DICECMW, x509ev.TaggedQuote}
	bare := func(o *sim.Options) { o.Bare = true } // a CMW record, as TCG's extension wants
	self := identity(t, "urn:client:alice")
	type connecting = gateway.ConnectConfig
	for _, tt := range []struct {
		name   string
		mode   attestedtls.Mode
		form   x509ev.Form
		mutual bool
		image  [32]byte // of the server
		client func(*connecting)
		want   string
	}{
		{name: "exporter", mode: attestedtls.ModeExporter},
		{name: "certificate, cmw", mode: attestedtls.ModeCertificate, form: x509ev.CMW},
		{name: "certificate, dice-cmw", mode: attestedtls.ModeCertificate, form: x509ev.DICECMW},
		{name: "certificate, tagged-quote", mode: attestedtls.ModeCertificate, form: x509ev.TaggedQuote, client: func(c *connecting) { c.TLS.Forms = all }},
		{name: "exporter, mutual", mode: attestedtls.ModeExporter, mutual: true},
		{name: "certificate, mutual", mode: attestedtls.ModeCertificate, mutual: true},

		{name: "tagged-quote by default", mode: attestedtls.ModeCertificate, form: x509ev.TaggedQuote, want: "tagged-quote"},
		{name: "exporter, other code", mode: attestedtls.ModeExporter, image: evil, want: "policy-claim-tdx.mrtd"},
		{name: "certificate, other code", mode: attestedtls.ModeCertificate, image: evil, want: "policy-claim-tdx.mrtd"},
		{name: "exporter, other pin", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.TLS.Pins = []protocol.Thumbprint{self.Thumbprint()} }, want: "does not prove that it is"},
		{name: "certificate, other pin", mode: attestedtls.ModeCertificate, client: func(c *connecting) { c.TLS.Pins = []protocol.Thumbprint{self.Thumbprint()} }, want: "does not prove that it is"},
		{name: "exporter, other name", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.Identity = "https://bank.example/mcp" }, want: "bank.example"},
		{name: "certificate, other name", mode: attestedtls.ModeCertificate, client: func(c *connecting) { c.Identity = "https://bank.example/mcp" }, want: "bank.example"},
		{name: "other mode at the client", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.TLS.Mode = attestedtls.ModeCertificate }, want: "--tls-mode exporter"},
		{name: "other mode at the server", mode: attestedtls.ModeCertificate, client: func(c *connecting) { c.TLS.Mode = attestedtls.ModeExporter }, want: "--tls-mode certificate"},
		{name: "plain http", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.URL = strings.Replace(c.URL, "https", "http", 1) }, want: "not an https URL"},
		{name: "exporter, no client", mode: attestedtls.ModeExporter, mutual: true, client: func(c *connecting) { c.Self, c.Attestation = nil, nil }, want: "reach"},
		{name: "certificate, no client", mode: attestedtls.ModeCertificate, mutual: true, client: func(c *connecting) { c.Self, c.Attestation = nil, nil }, want: "tls"},
		{name: "exporter, client of other code", mode: attestedtls.ModeExporter, mutual: true, client: func(c *connecting) { c.Attestation = machine(t, evil, nil) }, want: "reach"},
		{name: "certificate, client of other code", mode: attestedtls.ModeCertificate, mutual: true, client: func(c *connecting) { c.Attestation = machine(t, evil, nil) }, want: "tls"},
		{name: "exporter, other client", mode: attestedtls.ModeExporter, mutual: true, client: func(c *connecting) { c.Self = identity(t, "urn:client:alice") }, want: "reach"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			if tt.image == [32]byte{} {
				tt.image = good
			}
			var change func(*sim.Options)
			if tt.form == x509ev.DICECMW {
				change = bare
			}
			s := gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, tt.image, change), TLS: &gateway.TLS{Mode: tt.mode, Form: tt.form}}
			if tt.mutual {
				s.TLS.Pins, s.TLS.Clients = []protocol.Thumbprint{self.Thumbprint()}, appraiser(t, goodCode)
			}
			to := serve(t, s)
			c := connecting{URL: to.url, Profile: protocol.ProfileAttestedTLS, Appraiser: appraiser(t, goodCode), TLS: &gateway.TLS{Mode: tt.mode}}
			if tt.mutual {
				c.Self, c.Attestation = self, machine(t, good, nil)
			}
			if tt.client != nil {
				tt.client(&c)
			}
			fill(&c, to)
			err := refusedAtStart(t, c)
			switch {
			case err != nil:
			case tt.want == "":
				err = try(t, over(connectTo(t, to, c).url))
			default: // over HTTP, the SDK tells the status and not what stands in the answer
				err = try(t, overStdio(t, to, c))
			}
			check(t, err, calls.Load(), protocol.Reason(tt.want))
			if tt.want == "" {
				return
			}
			// Nor does a client get in that does not know of attestation.
			plain := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer plain.CloseIdleConnections()
			if tt.mode == attestedtls.ModeExporter || tt.mutual {
				if res, err := (&http.Client{Transport: plain}).Get(to.url); err == nil {
					res.Body.Close()
					t.Errorf("a client without attestation is answered %s", res.Status)
				}
			}
		})
	}
}

// refusedAtStart is the error of a Connect that does not even serve.
func refusedAtStart(t *testing.T, c gateway.ConnectConfig) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return gateway.Connect(ctx, c, "127.0.0.1:0", func(string) { cancel() })
}

// A path is a proxy that keeps what goes through it.
type path struct {
	url string
	mu  sync.Mutex
	all bytes.Buffer
}

func newPath(t *testing.T, to string) *path {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &path{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
		b, _ := io.ReadAll(r.In.Body)
		p.mu.Lock()
		p.all.Write(b)
		p.mu.Unlock()
		r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	}}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	p.url = srv.URL + gateway.Path
	return p
}

// nothingOfTheUser wants that no call went by, sealed or not.
func (p *path) nothingOfTheUser(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range []string{secret, `"trust/call"`, `"tools/call"`} {
		if strings.Contains(p.all.String(), s) {
			t.Errorf("%s was sent", s)
		}
	}
	if p.all.Len() == 0 {
		t.Error("nothing at all was sent, so nothing is shown")
	}
}

// remote is a verifier with a key of its own.
func remote(t *testing.T, wrap func(http.Handler) http.Handler) (url string, key crypto.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i, err := verifier.NewIssuer(appraiser(t, goodCode), k, issuer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.NewServer(verifier.ServerConfig{Issuer: i})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(wrap(v))
	t.Cleanup(srv.Close)
	return srv.URL, &k.PublicKey
}

const issuer = "the verifier of these tests"

func asIs(h http.Handler) http.Handler { return h }

// With a remote verifier, nothing of the user leaves before it affirmed.
func TestRemoteVerifier(t *testing.T) {
	_, otherKey := remote(t, asIs)
	release := make(chan struct{})
	slow := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		})
	}
	t.Cleanup(func() { close(release) })
	down := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	}
	busy := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}
	for _, tt := range []struct {
		name  string
		wrap  func(http.Handler) http.Handler
		key   crypto.PublicKey
		image [32]byte
		want  protocol.Reason
		tells string
	}{
		{name: "up", wrap: asIs, image: good},
		{name: "other code", wrap: asIs, image: evil, want: protocol.EvidenceRefused, tells: "policy-claim-tdx.mrtd"},
		{name: "down", wrap: down, image: good, want: protocol.EvidenceRefused, tells: "gave no result"},
		{name: "busy", wrap: busy, image: good, want: protocol.EvidenceRefused, tells: "503"},
		{name: "slow", wrap: slow, image: good, want: protocol.EvidenceRefused, tells: "deadline"},
		{name: "another key", wrap: asIs, key: otherKey, image: good, want: protocol.EvidenceRefused, tells: "not believed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, key := remote(t, tt.wrap)
			if tt.key != nil {
				key = tt.key
			}
			client, err := verifier.NewClient(verifier.ClientConfig{URL: u, Keys: []crypto.PublicKey{key}, Simulated: true, Timeout: 300 * time.Millisecond})
			if tt.want == "" && err == nil {
				client, err = verifier.NewClient(verifier.ClientConfig{URL: u, Keys: []crypto.PublicKey{key}, Simulated: true})
			}
			if err != nil {
				t.Fatal(err)
			}
			upstream, calls, _ := tools(t)
			to := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, tt.image, nil)})
			p := newPath(t, to.url)
			c := connectTo(t, to, gateway.ConnectConfig{URL: p.url, Identity: to.url, Profile: protocol.ProfileAttested, Appraiser: client})
			err = try(t, over(c.url))
			check(t, err, calls.Load(), tt.want)
			if tt.want != "" {
				p.nothingOfTheUser(t)
				if err != nil && !strings.Contains(err.Error(), tt.tells) {
					t.Errorf("%v; want it to tell %q", err, tt.tells)
				}
			}
		})
	}
}

// A server shows the result of a verifier in place of its evidence.
func TestPassport(t *testing.T) {
	u, key := remote(t, asIs)
	_, otherKey := remote(t, asIs)
	passport := func(key crypto.PublicKey, name string) appraise.Passport {
		t.Helper()
		id, err := protocol.PublicKeyThumbprint(key)
		if err != nil {
			t.Fatal(err)
		}
		p, err := appraise.Tokens(appraise.Issuer{Kind: token.EAR, Keys: eat.Keys{{ID: id.String(), Public: key}}, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ask, err := verifier.NewClient(verifier.ClientConfig{URL: u, Keys: []crypto.PublicKey{key}, Simulated: true})
	if err != nil {
		t.Fatal(err)
	}
	a := machine(t, good, nil)
	a.Attester = ask.Passport(a.Attester, time.Now)
	for _, tt := range []struct {
		name      string
		carrier   protocol.Carrier
		passports []appraise.Passport
		want      protocol.Reason
	}{
		{name: "accepted", passports: []appraise.Passport{passport(key, issuer)}},
		{name: "accepted, inline", carrier: protocol.Inline, passports: []appraise.Passport{passport(key, issuer)}},
		{name: "accepted, http", carrier: protocol.HTTP, passports: []appraise.Passport{passport(key, issuer)}},
		{name: "another key", passports: []appraise.Passport{passport(otherKey, issuer)}, want: protocol.EvidenceRefused},
		{name: "another issuer", passports: []appraise.Passport{passport(key, "another")}, want: protocol.EvidenceRefused},
		{name: "none accepted", want: protocol.EvidenceRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			to := serve(t, gateway.ServeConfig{Upstream: upstream, Attestation: a})
			p := newPath(t, to.url)
			c := connectTo(t, to, gateway.ConnectConfig{URL: p.url, Identity: to.url, Carrier: tt.carrier, Profile: protocol.ProfileAttested, Appraiser: appraiser(t, anyCode, tt.passports...)})
			check(t, try(t, over(c.url)), calls.Load(), tt.want)
			if tt.want != "" {
				p.nothingOfTheUser(t)
			}
		})
	}

	// A verifier that does not affirm is told at the start, not at the first call.
	upstream, _, _ := tools(t)
	b := machine(t, evil, nil)
	b.Attester = ask.Passport(b.Attester, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = gateway.Serve(ctx, gateway.ServeConfig{Listen: "127.0.0.1:0", Upstream: upstream, Attestation: b, Offer: required}, func(gateway.Serving) { cancel() })
	if err == nil || !strings.Contains(err.Error(), string(protocol.CannotAttest)) {
		t.Errorf("got %v, want %s", err, protocol.CannotAttest)
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
