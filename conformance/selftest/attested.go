package selftest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/attested"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// attestedMutants are servers that show evidence which is not what it should be.
var attestedMutants = []mutant{
	m("evidence-debug", httpBoth, "attested/evidence"),
	m("evidence-other-root", httpBoth, "attested/evidence"),
	m("evidence-out-of-date", httpBoth, "attested/evidence"),
	m("evidence-binds-client", httpBoth, "attested/binding", "attested/evidence"),
	m("evidence-binds-nobody", httpBoth, "attested/binding"),
	m("evidence-binds-identity-key", httpBoth, "attested/binding"),
	m("evidence-binds-no-config", httpBoth, "attested/binding"),
	m("evidence-binds-other-time", httpBoth, "attested/binding"),
	m("evidence-old", httpBoth, "attested/freshness-recent", "attested/evidence"),
	m("evidence-not-renewed", httpBoth, "attested/freshness-hourly"),
	m("evidence-too-large", httpBoth, "attested/evidence-size"),
	m("freshness-form", httpBoth, "attested/freshness-form"),
	m("freshness-left-out", httpBoth, "attested/claims"),
	m("wrapper-bytes", httpBoth, "attested/wrapper"),
	m("attested-signature-missing", httpBoth, "attested/second-signature", "attested/evidence"),
	m("attested-signature-by-identity", httpBoth, "attested/second-signature"),
	m("signatures-named-alike", httpBoth, "attested/second-signature"),
	m("attested-key-is-identity-key", httpBoth, "attested/attested-key-own"),
	m("profile-not-offered", httpBoth, "attested/profile-offered"),
	m("claims-mutual", httpBoth, "attested/profile-honest"),
	m("attest-without-tee", httpBoth, "attested/attest", "attested/inline-attest"),
	m("fresh-ignored", httpBoth, "attested/attest-fresh", "attested/inline-attest-fresh"),
	m("inline-fresh-ignored", httpBoth, "attested/inline-attest-fresh"),
	m("fresh-other-nonce", httpBoth, "attested/attest-fresh"),
	m("fresh-new-keys", httpBoth, "attested/attest-fresh-same-keys"),
	m("fresh-in-discover", httpBoth, "attested/freshness-cacheable"),
	m("fresh-short-nonce", httpBoth, "attested/attest-fresh-nonce-short"),
	m("quotes-unbounded", httpBoth, "attested/attest-fresh-bounded"),
	m("calls-refused", httpBoth, "attested/call"),
}

// mutualMutants are servers that take clients which they should refuse.
var mutualMutants = []mutant{
	m("mutual-accepts", httpBoth, "mutual/demands", "mutual/no-client-key"),
	m("calls-refused", httpBoth, "mutual/call", "mutual/warm", "mutual/evidence-renewed"),
	m("digests-forgotten", httpBoth, "mutual/by-digest"),
	m("client-key-optional", httpBoth, "mutual/no-client-key"),
	m("any-client-digest", httpBoth, "mutual/unknown-digest"),
	m("expired-client-known", httpBoth, "mutual/expired-digest"),
	m("client-contexts-outlive", httpBoth, "mutual/client-key-expires"),
	m("client-identity-unchecked", httpBoth, "mutual/unknown-identity"),
	m("client-identity-signature-unchecked", httpBoth, "mutual/identity-signature-other"),
	m("client-profile-unchecked", httpBoth, "mutual/identity-profile", "mutual/claims-identity"),
	m("client-claims-unchecked", httpBoth, "mutual/evidence-missing", "mutual/freshness-missing", "mutual/attested-key-missing", "mutual/freshness-form", "mutual/config-short"),
	m("attested-signature-unchecked", httpBoth, "mutual/attested-signature-missing", "mutual/attested-signature-other", "mutual/attested-signature-altered"),
	m("signatures-unordered", httpBoth, "mutual/signatures-swapped"),
	m("client-evidence-unappraised", httpBoth, "mutual/evidence-debug", "mutual/evidence-out-of-date", "mutual/evidence-revoked", "mutual/evidence-other-root", "mutual/evidence-other-code",
		"mutual/evidence-altered", "mutual/wrapper-text"),
	m("client-binding-unchecked", httpBoth, "mutual/evidence-unbound", "mutual/evidence-other-key", "mutual/evidence-other-identity", "mutual/evidence-other-config", "mutual/evidence-other-time",
		"mutual/evidence-role", "mutual/reflected-evidence"),
	m("own-object-accepted", httpBoth, "mutual/reflected-object"),
	m("client-role-unchecked", httpBoth, "mutual/role-server"),
	m("client-freshness-unchecked", httpBoth, "mutual/evidence-stale", "mutual/evidence-future", "mutual/evidence-nonce", "mutual/evidence-epoch"),
	m("client-settings-unchecked", httpBoth, "mutual/settings-digest"),
	m("client-expiry-unchecked", httpBoth, "mutual/expired"),
	m("client-nbf-unchecked", httpBoth, "mutual/not-yet-valid"),
	m("client-validity-unchecked", httpBoth, "mutual/too-long"),
	m("possession-unchecked", httpBoth, "mutual/possession-absent", "mutual/possession-stranger", "mutual/possession-identity-key", "mutual/possession-other-server", "mutual/possession-other-object",
		"mutual/possession-other-context"),
	m("possession-optional", httpBoth, "mutual/possession-absent"),
	m("possession-by-identity-key", httpBoth, "mutual/possession-identity-key"),
	m("no-replay-cache", httpBoth, "mutual/replay-open"),
}

// tee is what attested references and the suite need to judge one another.
type tee struct {
	server, client   [32]byte // images
	ofServer, ofSelf *appraise.Appraiser
	key              ed25519.PrivateKey // the suite's own
	config           []byte
}

const selfURI = "urn:trustedmcp:conformance"

func newTEE() (*tee, error) {
	t := &tee{server: sha256.Sum256([]byte("the reference server")), client: sha256.Sum256([]byte("the suite")), config: make([]byte, 32)}
	t.config[0] = 7
	t.key = ed25519.NewKeyFromSeed(t.client[:])
	judge := func(images ...[32]byte) (*appraise.Appraiser, error) {
		var good []string
		for _, image := range images {
			good = append(good, fmt.Sprintf("%x", sim.Measurements(evidence.TDX, image)["tdx.mrtd"]))
		}
		p, err := appraise.NewRules(appraise.Rules{Name: "self-test", Development: true, ReferenceValues: "optional", Claims: map[string][]string{"tdx.mrtd": good}})
		if err != nil {
			return nil, err
		}
		return appraise.New(appraise.Config{Policy: p, Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(evidence.TDX), Verifiers: verifiers.For(p.Rules())})
	}
	var err error
	if t.ofServer, err = judge(t.server); err == nil {
		t.ofSelf, err = judge(t.client, t.server) // by its code alone, the server would pass for a client
	}
	return t, err
}

// inTEE is one run of the suite against an attested reference.
type inTEE struct {
	*tee
	mutual, second bool
	fault          reference.Fault
	setup          setup
	only           []string // ids; nil: all
}

func (r *inTEE) String() string {
	return fmt.Sprintf("the attested reference (mutual %v, second %v) over %s", r.mutual, r.second, r.setup)
}

// own is the project's own server.
func (r *inTEE) own(uri string) (*protocol.Server, error) {
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		return nil, err
	}
	machine, err := sim.Default().TEE(sim.Options{Image: r.server, Now: time.Now})
	if err != nil {
		return nil, err
	}
	cfg := protocol.ServerConfig{Identity: id, Attestation: &protocol.Attestation{Attester: machine, Config: r.config}}
	offer := protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileAttested, protocol.ProfileIdentity}}
	if r.mutual {
		offer = protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}, ClientKey: protocol.ClientKeyDemanded}
		cfg.Clients = &protocol.ClientPolicy{Anchor: protocol.Pin(r.pin()), Profile: protocol.ProfileAttested, Appraiser: r.ofSelf}
	}
	if r.setup == stdioBoth {
		offer.Carriers = []protocol.Carrier{protocol.Envelope}
	}
	if cfg.Settings, err = protocol.NewSettings(offer); err != nil {
		return nil, err
	}
	return protocol.NewServer(cfg)
}

func (t *tee) pin() protocol.Thumbprint {
	return protocol.Thumbprint(hand.Hash(hand.COSEKey(t.key.Public().(ed25519.PublicKey))))
}

// attested tests the profiles attested and mutual of role server.
func (s *Summary) attested(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	var ours []conformance.Case
	for _, c := range cases {
		if c.Role == conformance.RoleServer && (c.Profile == conformance.ProfileAttested || c.Profile == conformance.ProfileMutual) {
			ours = append(ours, c)
		}
	}
	t, err := newTEE()
	if err != nil {
		return err
	}
	var runs []*inTEE
	for _, mutual := range []bool{true, false} { // the first takes longest
		runs = append(runs, &inTEE{tee: t, mutual: mutual, setup: httpBoth}, &inTEE{tee: t, mutual: mutual, setup: httpBoth, second: true}, &inTEE{tee: t, mutual: mutual, setup: stdioBoth})
	}
	for i, list := range [][]mutant{mutualMutants, attestedMutants} {
		for _, mt := range list {
			r := &inTEE{tee: t, mutual: i == 0, second: true, setup: mt.setup, fault: mt.fault}
			for _, k := range mt.kills {
				r.only = append(r.only, "server/"+k)
			}
			runs = append(runs, r)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, r := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rep, ran, err := r.run(ctx, ours)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				s.Problems = append(s.Problems, fmt.Sprintf("%s, fault %q: %v", r, r.fault, err))
			case r.fault == "":
				s.judgeReference(r, rep, ran, attested.Calls, passed)
			default:
				s.judgeMutant(r.String(), r.fault, r.only, rep, killed)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// run runs cases against the server, and tells how often the canary tool ran.
func (r *inTEE) run(ctx context.Context, cases []conformance.Case) (*conformance.Report, int64, error) {
	var ran atomic.Int64
	inner := reference.New(reference.WithCanary(func(string) { ran.Add(1) }))
	defer inner.Close()
	const uri = "http://127.0.0.1/mcp"
	var front http.Handler
	var lines func(io.Reader, io.Writer)
	if r.second {
		a := &reference.Attested{World: sim.Default(), TEE: sim.Options{Image: r.server, Now: time.Now}, Config: r.config}
		if r.mutual {
			a.Clients, a.ClientPin = r.ofSelf, r.pin()
		}
		second, err := reference.NewAttested(uri, inner, r.fault, false, a)
		if err != nil {
			return nil, 0, err
		}
		front, lines = second, second.Serve
	} else {
		server, err := r.own(uri)
		if err != nil {
			return nil, 0, err
		}
		if front, err = transport.Handler(inner, transport.ServerConfig{Trust: server}); err != nil {
			return nil, 0, err
		}
		lines = func(in io.Reader, out io.Writer) {
			_ = reference.Lines(ctx, inner, transport.ServerConfig{Trust: server}, in, out)
		}
	}
	obs := &conformance.Observations{}
	target := wire.Pipe(r.String(), lines, obs.Observe)
	if r.setup != stdioBoth {
		hs := httptest.NewServer(front)
		defer hs.Close()
		defer hs.CloseClientConnections()
		var err error
		if target, err = wire.HTTP(hs.URL+"/mcp", nil, obs.Observe); err != nil {
			return nil, 0, err
		}
	}
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Cases: cases, Seed: 1, StepTimeout: 5 * time.Second, CanaryTool: reference.ToolName,
		Trust:  conformance.Trust{Appraiser: r.ofServer, Identity: selfURI, Key: r.key, Image: r.client, OtherCode: true},
		Select: func(c *conformance.Case) bool { return r.only == nil || slices.Contains(r.only, c.ID) },
	})
	return rep, ran.Load(), err
}
