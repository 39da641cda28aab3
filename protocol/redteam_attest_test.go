package protocol_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// A counter is an appraiser that counts, and then says what next says.
type counter struct {
	n    atomic.Int64
	next protocol.Appraiser
}

func (c *counter) Appraise(ctx context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	c.n.Add(1)
	return c.next.Appraise(ctx, e)
}

// filler is evidence of a size that nobody appraises.
func filler(n int) protocol.Attester {
	b := dcbor.AppendText(dcbor.AppendArray(nil, 3), "application/x-tee")
	return relay{dcbor.AppendUint(dcbor.AppendBytes(b, bytes.Repeat([]byte{0x55}, n)), 4)}
}

// A client that shows another key object with each context, as large as they may
// be, makes a server keep no more than settings of that size would: evidence is
// for verification, and kept nowhere after it.
func TestClientKeysFillNoMoreMemoryThanContexts(t *testing.T) {
	const contexts, perContext = 256, 16 << 10
	m := newMutual(t, func(c *protocol.ServerConfig) {
		c.Settings = must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}, ClientKey: protocol.ClientKeyDemanded}))
		c.Clients.Profile, c.Clients.Appraiser = protocol.ProfileIdentity, nil
		c.Attestation = nil
	})
	p, err := protocol.VerifyKeyObject(object(t, m.server, t0), protocol.Expect{Identity: uri, Anchor: protocol.Pin(m.id.Thumbprint()), Settings: m.server.Settings(), Now: t0})
	if err != nil {
		t.Fatal(err)
	}
	before := redHeap()
	for range contexts {
		c := must(protocol.NewClient(p, m.mine, protocol.PresentKey(m.holder(m.client, filler(100<<10)))))
		_, frame, err := c.Seal(message("x"), envelope, t0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.server.Open(frame, envelope, t0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Client.Profile() != protocol.ProfileIdentity || r.Client.Identity() != m.client.URI() {
			t.Fatalf("the client counts as %s %s", r.Client.Profile(), r.Client.Identity())
		}
	}
	if grown := int64(redHeap()) - int64(before); grown > contexts*perContext {
		t.Errorf("%d contexts take %d bytes each", contexts, grown/contexts)
	}
	runtime.KeepAlive(m)
}

// A client's key object stands outside the seal: who saw it can't have the server
// appraise its evidence, which may cost a question to a remote verifier, once for
// each frame that he makes.
func TestReplayedClientKeyIsAppraisedOnce(t *testing.T) {
	count := &counter{next: judge{vendor: vendor.Public().(ed25519.PublicKey), code: "agent"}}
	m := newMutual(t, func(c *protocol.ServerConfig) { c.Clients.Appraiser = count })
	h := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	thief := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	protocol.Show(thief, h, t0)
	for range 10 {
		_, err := m.send(m.dial(t, thief, t0), t0)
		expectReason(t, "another's key object", err, protocol.ClientKeyRefused)
	}
	if n := count.n.Load(); n > 1 {
		t.Errorf("%d appraisals for 10 copies of one key object", n)
	}
	if _, err := m.send(m.dial(t, h, t0), t0); err != nil {
		t.Errorf("its holder: %v", err)
	}
}

// What an appraiser says of evidence is for this side's log: it may name the
// policy's reference values, or the address of a verifier.
func TestClientIsNotToldThePolicy(t *testing.T) {
	const secret = "dial tcp 10.1.2.3:8443: the policy accepts 5e1c..."
	m := newMutual(t, func(c *protocol.ServerConfig) { c.Clients.Appraiser = refuser{secret} })
	_, err := m.send(m.dial(t, m.holder(m.client, &tee{vendor: vendor, code: "agent"}), t0), t0)
	expectReason(t, "refused", err, protocol.ClientKeyRefused)
	var e *protocol.Error
	if !errors.As(err, &e) || bytes.Contains(e.Response("1"), []byte("10.1.2.3")) {
		t.Errorf("the client is told %q", e.Response("1"))
	}
	if c := errors.Unwrap(e); c == nil || !strings.Contains(c.Error(), secret) {
		t.Errorf("the log is not told why: %v", c)
	}
}

type refuser struct{ why string }

func (r refuser) Appraise(context.Context, protocol.Evidence) (*protocol.Appraisal, error) {
	return nil, errors.New(r.why)
}

// No two bindings have the same report data, whatever stands where.
func TestBindingsAreDistinct(t *testing.T) {
	k1, k2 := ed25519.NewKeyFromSeed(make([]byte, 32)).Public(), vendor.Public()
	at := func(s int64) protocol.Freshness {
		return protocol.Freshness{Kind: protocol.FreshAt, At: time.Unix(s, 0)}
	}
	eight := []byte("12345678")
	zero := make([]byte, 32)
	seen := map[[64]byte]string{}
	add := func(what string, b *protocol.Binding, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		rd := b.ReportData()
		if old, ok := seen[rd]; ok {
			t.Errorf("%s and %s have the same report data", old, what)
		}
		seen[rd] = what
	}
	for _, tt := range []struct {
		what string
		role protocol.Role
		id   string
		key  any
		conf []byte
		f    protocol.Freshness
	}{
		{"plain", protocol.RoleServer, uri, k1, nil, at(1)},
		{"client", protocol.RoleClient, uri, k1, nil, at(1)},
		{"other identity", protocol.RoleServer, uri + "/", k1, nil, at(1)},
		{"no identity", protocol.RoleServer, "", k1, nil, at(1)},
		{"other key", protocol.RoleServer, uri, k2, nil, at(1)},
		{"config of zeros", protocol.RoleServer, uri, k1, zero, at(1)},
		{"later", protocol.RoleServer, uri, k1, nil, at(2)},
		{"nonce", protocol.RoleServer, uri, k1, nil, protocol.Freshness{Kind: protocol.FreshNonce, Value: eight}},
		{"epoch of the nonce's bytes", protocol.RoleServer, uri, k1, nil, protocol.Freshness{Kind: protocol.FreshEpoch, Value: eight}},
		{"time of the nonce's number", protocol.RoleServer, uri, k1, nil, at(0x3132333435363738)},
	} {
		b, err := protocol.NewBinding(tt.role, tt.id, tt.key, tt.conf, tt.f)
		add(tt.what, b, err)
	}
	for what, f := range map[string]protocol.Freshness{
		"kind 0": {}, "kind 4": {Kind: 4, Value: eight}, "empty nonce": {Kind: protocol.FreshNonce}, "empty epoch": {Kind: protocol.FreshEpoch, Value: []byte{}},
		"time and value": {Kind: protocol.FreshAt, At: time.Unix(1, 0), Value: eight}, "before 1970": {Kind: protocol.FreshAt, At: time.Unix(-1, 0)},
	} {
		if _, err := protocol.NewBinding(protocol.RoleServer, uri, k1, nil, f); err == nil {
			t.Errorf("freshness %s is taken", what)
		}
	}
}

// Evidence of the future, of an age that overflows, and results without an end do
// not widen what a key object allows.
func TestEvidenceAgeAtTheEdges(t *testing.T) {
	e := &tee{vendor: vendor, code: "good"}
	s, id := attestedServer(t, e, nil)
	o := object(t, s, t0)
	_, err := verifyAttested(s, id, o, t0.Add(-61*time.Second), nil)
	if err == nil {
		t.Error("evidence from the future")
	}
	for _, age := range []time.Duration{-1, 0, 1<<63 - 1} {
		p, err := verifyAttested(s, id, o, t0.Add(time.Second), func(e *protocol.Expect) { e.MaxEvidenceAge = age })
		if err != nil || p.Expires().After(t0.Add(10*time.Minute)) {
			t.Errorf("age %v: until %v, %v", age, p, err)
		}
	}
	p, err := verifyAttested(s, id, o, t0, func(e *protocol.Expect) { j := good(); j.expires = time.Unix(1<<40, 0); e.Appraiser = j })
	if err != nil || p.Expires().After(t0.Add(10*time.Minute)) {
		t.Errorf("a result without an end: %v, %v", p, err)
	}
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { e.Appraiser = refuser{"no"} })
	expectReason(t, "refused", err, protocol.EvidenceRefused)
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { e.Appraiser, e.Profile = refuser{"no"}, protocol.ProfileIdentity })
	expectReason(t, "refused evidence does not become a peer of profile identity", err, protocol.EvidenceRefused)
}

// Who demands new evidence and names no appraiser, or a server without a TEE, gets
// an error, and not a check that silently is not made.
func TestFreshEvidenceIsNeverSilentlyDropped(t *testing.T) {
	nonce := []byte("a nonce of mine!")
	s, id := attestedServer(t, &tee{vendor: vendor, code: "good"}, nil)
	o, err := s.AttestEvidence(nonce, t0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) {
		e.Profile, e.Appraiser, e.Nonce, e.FreshEvidence = "", nil, nonce, true
	})
	expectReason(t, "no appraiser", err, protocol.EvidenceStale)
	s, id = attestedServer(t, nil, func(c *protocol.ServerConfig) { c.Attestation = nil })
	if o, err = s.AttestEvidence(nonce, t0); err != nil {
		t.Fatal(err)
	}
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { e.Profile, e.Nonce, e.FreshEvidence = "", nonce, true })
	expectReason(t, "no TEE", err, protocol.EvidenceStale)
}
