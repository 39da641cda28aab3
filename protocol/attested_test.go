package protocol_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// A tee is a vendor's TEE reduced to what the protocol needs: it signs a
// measurement and what it was asked to bind.
type tee struct {
	vendor  ed25519.PrivateKey
	code    string
	quotes  atomic.Int64
	failing atomic.Bool
}

var vendor = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func (e *tee) Attest(_ context.Context, data [64]byte) ([]byte, error) {
	e.quotes.Add(1)
	if e.failing.Load() {
		return nil, errors.New("the device is busy")
	}
	body := append([]byte(e.code+"\n"), data[:]...)
	b := dcbor.AppendText(dcbor.AppendArray(nil, 3), "application/x-tee")
	return dcbor.AppendUint(dcbor.AppendBytes(b, append(body, ed25519.Sign(e.vendor, body)...)), 4), nil
}

// judge accepts one measurement.
type judge struct {
	vendor  ed25519.PublicKey
	code    string
	expires time.Time
}

func (j judge) Appraise(_ context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	r := dcbor.NewReader(e.CMW)
	r.ArrayN(3)
	r.Text()
	v := r.Bytes()
	if r.Uint(); r.Done() != nil || len(v) < 128 || !ed25519.Verify(j.vendor, v[:len(v)-64], v[len(v)-64:]) {
		return nil, errors.New("not of this vendor")
	}
	code, data, _ := strings.Cut(string(v[:len(v)-64]), "\n")
	if data != string(e.ReportData[:]) {
		return nil, errors.New("the evidence binds something else")
	}
	if code != j.code {
		return nil, errors.New("other code: " + code)
	}
	return &protocol.Appraisal{Expires: j.expires, Summary: "good"}, nil
}

func good() judge { return judge{vendor: vendor.Public().(ed25519.PublicKey), code: "good"} }

func attestedServer(t testing.TB, a protocol.Attester, change func(*protocol.ServerConfig)) (*protocol.Server, *protocol.Identity) {
	return newServer(t, func(c *protocol.ServerConfig) {
		c.Settings = must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileAttested, protocol.ProfileIdentity}}))
		c.Attestation = &protocol.Attestation{Attester: a}
		if change != nil {
			change(c)
		}
	})
}

func verifyAttested(s *protocol.Server, id *protocol.Identity, object []byte, now time.Time, change func(*protocol.Expect)) (*protocol.Peer, error) {
	e := protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: s.Settings(), Now: now, Profile: protocol.ProfileAttested, Appraiser: good()}
	if change != nil {
		change(&e)
	}
	return protocol.VerifyKeyObject(object, e)
}

func object(t testing.TB, s *protocol.Server, now time.Time) []byte {
	t.Helper()
	b, _, err := s.KeyObject(now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func expectReason(t *testing.T, what string, err error, r protocol.Reason) {
	t.Helper()
	if !protocol.IsReason(err, r) {
		t.Errorf("%s: %v, want %s", what, err, r)
	}
}

func TestAttestedPeer(t *testing.T) {
	s, id := attestedServer(t, &tee{vendor: vendor, code: "good"}, nil)
	o := object(t, s, t0)
	p, err := verifyAttested(s, id, o, t0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Profile() != protocol.ProfileAttested || p.Appraisal() == nil || p.Appraisal().Summary != "good" {
		t.Errorf("profile %s, appraisal %+v", p.Profile(), p.Appraisal())
	}
	p, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { e.Profile, e.Appraiser = "", nil })
	if err != nil || p.Profile() != protocol.ProfileIdentity || p.Appraisal() != nil {
		t.Errorf("nobody appraised it, and it counts as %v (%v)", p.Profile(), err)
	}
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { e.Appraiser = nil })
	expectReason(t, "without an appraiser", err, protocol.ProfileTooWeak)
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { e.Profile = protocol.ProfileMutual })
	expectReason(t, "mutual demanded", err, protocol.ProfileTooWeak)
	over := t0.Add(time.Minute)
	p, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { j := good(); j.expires = over; e.Appraiser = j })
	if err != nil || !p.Expires().Equal(over) {
		t.Errorf("the result of appraisal holds until %v, the peer until %v: %v", over, p.Expires(), err)
	}
	_, err = verifyAttested(s, id, o, t0, func(e *protocol.Expect) { j := good(); j.expires = t0; e.Appraiser = j })
	expectReason(t, "a result that is over", err, protocol.EvidenceStale)
}

// Neither the identity key alone nor the vendor's attestation key alone makes a
// peer: it takes both, and the code.
func TestEitherKeyMayLeak(t *testing.T) {
	genuine, id := attestedServer(t, &tee{vendor: vendor, code: "good"}, nil)
	victim := object(t, genuine, t0)
	if _, err := verifyAttested(genuine, id, victim, t0, nil); err != nil {
		t.Fatal(err)
	}
	with := func(id *protocol.Identity, a protocol.Attester) *protocol.Server {
		s, _ := attestedServer(t, a, func(c *protocol.ServerConfig) {
			c.Identity = id
			if a == nil {
				c.Attestation = nil
			}
		})
		return s
	}
	try := func(what string, s *protocol.Server, r protocol.Reason) {
		t.Helper()
		_, err := verifyAttested(s, id, object(t, s, t0), t0, nil)
		expectReason(t, what, err, r)
	}
	stranger := must(protocol.GenerateIdentity(uri))
	try("identity key leaked, no TEE", with(id, nil), protocol.ProfileTooWeak)
	try("identity key leaked, other code in a genuine TEE", with(id, &tee{vendor: vendor, code: "bad"}), protocol.EvidenceRefused)
	try("identity key leaked, a TEE of another vendor", with(id, &tee{vendor: ed25519.NewKeyFromSeed(make([]byte, 32)), code: "good"}), protocol.EvidenceRefused)
	try("identity key leaked, the genuine evidence relayed", with(id, relay{must(protocol.InspectKeyObject(victim)).Evidence}), protocol.EvidenceRefused)
	try("attestation key leaked", with(stranger, &tee{vendor: vendor, code: "good"}), protocol.IdentityMismatch)
	other, otherID := newOther(t)
	_, err := protocol.VerifyKeyObject(object(t, other, t0), protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint(), otherID.Thumbprint()),
		Settings: other.Settings(), Now: t0, Profile: protocol.ProfileAttested, Appraiser: good()})
	expectReason(t, "another genuine host with the same code", err, protocol.IdentityMismatch)
	// What both leaked keys together can do is outside the theorem, and shows that
	// the checks above are what stops the attacker.
	if s := with(id, &tee{vendor: vendor, code: "good"}); true {
		if _, err := verifyAttested(s, id, object(t, s, t0), t0, nil); err != nil {
			t.Errorf("both keys: %v", err)
		}
	}
}

// relay shows evidence that someone else made.
type relay struct{ evidence []byte }

func (r relay) Attest(context.Context, [64]byte) ([]byte, error) { return r.evidence, nil }

func newOther(t *testing.T) (*protocol.Server, *protocol.Identity) {
	id := must(protocol.GenerateIdentity("https://other.example/mcp"))
	return attestedServer(t, &tee{vendor: vendor, code: "good"}, func(c *protocol.ServerConfig) { c.Identity = id })
}

// TMCP-18.3-6: A verifier MUST treat the end of the allowed age of evidence as the end of the key object where it comes first.
func TestEvidenceFreshness(t *testing.T) {
	e := &tee{vendor: vendor, code: "good"}
	s, id := attestedServer(t, e, nil)
	first := object(t, s, t0)
	if object(t, s, t0.Add(54*time.Minute)); e.quotes.Load() != 1 {
		t.Errorf("%d quotes in the first hour, want 1", e.quotes.Load())
	}
	later := t0.Add(time.Hour)
	second := object(t, s, later)
	if e.quotes.Load() != 2 {
		t.Errorf("%d quotes after an hour, want 2", e.quotes.Load())
	}
	a, b := must(protocol.InspectKeyObject(first)), must(protocol.InspectKeyObject(second))
	if *a.AttestedKey == *b.AttestedKey {
		t.Error("new evidence names the old attested key")
	}
	age := func(d time.Duration) func(*protocol.Expect) {
		return func(e *protocol.Expect) { e.MaxEvidenceAge = d }
	}
	late := object(t, s, t0.Add(time.Hour+50*time.Minute))
	_, err := verifyAttested(s, id, late, t0.Add(time.Hour+50*time.Minute), age(50*time.Minute))
	expectReason(t, "at the bound", err, protocol.EvidenceStale)
	p, err := verifyAttested(s, id, late, t0.Add(time.Hour+50*time.Minute), age(51*time.Minute))
	if err != nil || !p.Expires().Equal(later.Add(51*time.Minute)) {
		t.Errorf("a minute before the bound: %v", err)
	}

	nonce := []byte("a nonce of mine!")
	fresh, err := s.AttestEvidence(nonce, later)
	if err != nil {
		t.Fatal(err)
	}
	demand := func(n []byte) func(*protocol.Expect) {
		return func(e *protocol.Expect) { e.Nonce, e.FreshEvidence = n, true }
	}
	if _, err := verifyAttested(s, id, fresh, later, demand(nonce)); err != nil {
		t.Error(err)
	}
	_, err = verifyAttested(s, id, fresh, later, nil)
	expectReason(t, "evidence for a nonce that was not sent", err, protocol.EvidenceStale)
	_, err = verifyAttested(s, id, fresh, later, demand([]byte("another nonce...")))
	expectReason(t, "another nonce", err, protocol.NonceMismatch)
	signed, err := s.Attest(nonce, later)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifyAttested(s, id, signed, later, func(e *protocol.Expect) { e.Nonce = nonce }); err != nil {
		t.Error(err)
	}
	_, err = verifyAttested(s, id, signed, later, demand(nonce))
	expectReason(t, "a new signature over old evidence", err, protocol.EvidenceStale)
	for range 20 {
		_, err = s.AttestEvidence(nonce, later)
	}
	expectReason(t, "many quotes", err, protocol.Busy)
}

func TestEpochs(t *testing.T) {
	var epoch atomic.Value
	epoch.Store([]byte("epoch 1"))
	e := &tee{vendor: vendor, code: "good"}
	s, id := attestedServer(t, e, func(c *protocol.ServerConfig) {
		c.Attestation.Epoch = func() []byte { return epoch.Load().([]byte) }
	})
	in := func(ids ...string) func(*protocol.Expect) {
		return func(e *protocol.Expect) {
			for _, i := range ids {
				e.Epochs = append(e.Epochs, []byte(i))
			}
		}
	}
	o := object(t, s, t0)
	if _, err := verifyAttested(s, id, o, t0, in("epoch 0", "epoch 1")); err != nil {
		t.Error(err)
	}
	_, err := verifyAttested(s, id, o, t0, in("epoch 2"))
	expectReason(t, "an epoch that is over", err, protocol.EvidenceStale)
	_, err = verifyAttested(s, id, o, t0, nil)
	expectReason(t, "no epochs known", err, protocol.EvidenceStale)
	epoch.Store([]byte("epoch 2"))
	o = object(t, s, t0.Add(5*time.Minute)) // with the next HPKE key
	if _, err := verifyAttested(s, id, o, t0.Add(5*time.Minute), in("epoch 2")); err != nil || e.quotes.Load() != 2 {
		t.Errorf("after the epoch changed: %d quotes, %v", e.quotes.Load(), err)
	}
}

// A TEE that gives no evidence for a while costs nothing while the key object
// lasts, and is not hammered.
func TestAttesterFailure(t *testing.T) {
	e := &tee{vendor: vendor, code: "good"}
	e.failing.Store(true)
	s, _ := attestedServer(t, e, nil)
	_, _, err := s.KeyObject(t0)
	expectReason(t, "no evidence yet", err, protocol.CannotAttest)
	_, _, err = s.KeyObject(t0.Add(time.Second))
	if expectReason(t, "a second later", err, protocol.CannotAttest); e.quotes.Load() != 1 {
		t.Errorf("asked %d times within a second", e.quotes.Load())
	}
	e.failing.Store(false)
	now := t0.Add(6 * time.Second)
	o := object(t, s, now)
	e.failing.Store(true)
	late := now.Add(time.Hour + 44*time.Minute)
	if u := must(protocol.InspectKeyObject(object(t, s, late))); !bytes.Equal(u.Evidence, must(protocol.InspectKeyObject(o)).Evidence) {
		t.Error("evidence that is late, and not yet too old, goes on")
	}
	now = now.Add(2 * time.Hour)
	if _, _, err := s.KeyObject(now); !protocol.IsReason(err, protocol.CannotAttest) {
		t.Errorf("the evidence is too old, and the TEE fails: %v", err)
	}
	e.failing.Store(false)
	object(t, s, now.Add(10*time.Second))
	_ = o
	if _, err := protocol.NewServer(protocol.ServerConfig{Identity: must(protocol.GenerateIdentity(uri)), Attestation: &protocol.Attestation{}}); err == nil {
		t.Error("an attestation without an attester")
	}
	huge := relay{append(dcbor.AppendBytesHead(nil, 121<<10), make([]byte, 121<<10)...)}
	s, _ = attestedServer(t, huge, nil)
	_, _, err = s.KeyObject(t0)
	expectReason(t, "evidence that is too large", err, protocol.CannotAttest)
	s, _ = attestedServer(t, relay{[]byte{0x18, 1}}, nil)
	_, _, err = s.KeyObject(t0)
	expectReason(t, "evidence that is not deterministic", err, protocol.CannotAttest)
}

// mutual is a server that demands attested clients, and such a client.
type mutual struct {
	server *protocol.Server
	id     *protocol.Identity
	client *protocol.Identity
	mine   *protocol.Settings
}

func newMutual(t *testing.T, change func(*protocol.ServerConfig)) *mutual {
	m := &mutual{client: must(protocol.GenerateIdentity("spiffe://example.org/agent"))}
	m.mine = must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}, Suites: []protocol.Suite{protocol.SuiteX25519}}))
	m.server, m.id = attestedServer(t, &tee{vendor: vendor, code: "good"}, func(c *protocol.ServerConfig) {
		c.Settings = must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}, ClientKey: protocol.ClientKeyDemanded}))
		c.Clients = &protocol.ClientPolicy{Anchor: protocol.Pin(m.client.Thumbprint()), Profile: protocol.ProfileAttested,
			Appraiser: judge{vendor: vendor.Public().(ed25519.PublicKey), code: "agent"}}
		if change != nil {
			change(c)
		}
	})
	return m
}

func (m *mutual) holder(id *protocol.Identity, a protocol.Attester) *protocol.ClientHolder {
	cfg := protocol.ClientKeyConfig{Identity: id, Settings: m.mine}
	if a != nil {
		cfg.Attestation = &protocol.Attestation{Attester: a}
	}
	return must(protocol.NewClientHolder(cfg))
}

func (m *mutual) dial(t *testing.T, h *protocol.ClientHolder, now time.Time) *protocol.Client {
	t.Helper()
	p, err := verifyAttested(m.server, m.id, object(t, m.server, now), now, func(e *protocol.Expect) { e.Profile = protocol.ProfileMutual })
	if err != nil {
		t.Fatal(err)
	}
	var opts []protocol.ClientOption
	if h != nil {
		opts = append(opts, protocol.PresentKey(h))
	}
	return must(protocol.NewClient(p, m.mine, opts...))
}

// send seals, opens and answers one message.
func (m *mutual) send(c *protocol.Client, now time.Time) (*protocol.Request, error) {
	call, frame, err := c.Seal(message("x"), envelope, now)
	if err != nil {
		return nil, err
	}
	r, err := m.server.Open(frame, envelope, now)
	if err != nil {
		return nil, err
	}
	answer, err := r.Seal(nil, protocol.Content{Kind: protocol.KindEnd}, true)
	if err != nil {
		return nil, err
	}
	_, _, err = call.Open(answer)
	return r, err
}

func TestMutual(t *testing.T) {
	m := newMutual(t, nil)
	agent := &tee{vendor: vendor, code: "agent"}
	c := m.dial(t, m.holder(m.client, agent), t0)
	if c.Peer().Profile() != protocol.ProfileMutual {
		t.Errorf("the server is of profile %s", c.Peer().Profile())
	}
	for i := range 3 {
		r, err := m.send(c, t0)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if r.Client == nil || r.Client.Identity() != m.client.URI() || r.Client.Profile() != protocol.ProfileAttested {
			t.Errorf("message %d is from %+v", i, r.Client)
		}
	}
	bad := func(what string, h *protocol.ClientHolder, reason protocol.Reason) {
		t.Helper()
		_, err := m.send(m.dial(t, h, t0), t0)
		expectReason(t, what, err, reason)
	}
	bad("no key object", nil, protocol.ClientKeyRequired)
	bad("no TEE", m.holder(m.client, nil), protocol.ClientKeyRefused)
	bad("other code", m.holder(m.client, &tee{vendor: vendor, code: "good"}), protocol.ClientKeyRefused)
	bad("another client", m.holder(must(protocol.GenerateIdentity("spiffe://example.org/agent")), agent), protocol.ClientKeyRefused)
	s := object(t, m.server, t0)
	bad("the server's own evidence reflected", m.holder(m.client, relay{must(protocol.InspectKeyObject(s)).Evidence}), protocol.ClientKeyRefused)
}

// A client key object is public; only its holder can use it.
func TestPossession(t *testing.T) {
	m := newMutual(t, nil)
	h := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	victim := m.dial(t, h, t0)
	_, first, err := victim.Seal(message("x"), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	f := must(protocol.InspectFrame(first))
	if len(f.ClientKey) < 100 {
		t.Fatal("the first open frame does not carry the object by value")
	}
	if _, err := m.server.Open(first, envelope, t0); err != nil {
		t.Fatal(err)
	}
	// Who saw the object shows it with a context of his own, signed by his own key.
	thief := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	protocol.Show(thief, h, t0)
	_, err = m.send(m.dial(t, thief, t0), t0)
	expectReason(t, "another's key object", err, protocol.ClientKeyRefused)
	none := m.dial(t, h, t0)
	protocol.WithoutProof(h, t0)
	_, err = m.send(none, t0)
	expectReason(t, "no proof", err, protocol.ClientKeyRefused)
}

// By value once, by digest after; a replica that does not know the digest asks.
func TestClientKeyByDigest(t *testing.T) {
	m := newMutual(t, nil)
	h := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	c := m.dial(t, h, t0)
	if _, err := m.send(c, t0); err != nil {
		t.Fatal(err)
	}
	// A message of another revision starts a context of its own.
	again := protocol.Content{Kind: protocol.KindMessage, Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)}
	call, frame, err := c.Seal(again, envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	if f := must(protocol.InspectFrame(frame)); len(f.ClientKey) != 32 {
		t.Errorf("a client key of %d bytes, want a digest", len(f.ClientKey))
	}
	if _, err := m.server.Open(frame, envelope, t0); err != nil {
		t.Fatal(err)
	}
	protocol.ForgetClients(m.server)
	call, frame, err = c.SealAgain(call, again, envelope, t0) // as after unknown-context
	if err != nil {
		t.Fatal(err)
	}
	if f := must(protocol.InspectFrame(frame)); len(f.ClientKey) == 32 {
		t.Error("a retry shows a digest only")
	}
	_ = call
	other := m.dial(t, h, t0)
	if _, err := m.send(other, t0); err != nil {
		t.Fatal(err)
	}
	protocol.ForgetClients(m.server)
	_, frame, err = other.Seal(again, envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.server.Open(frame, envelope, t0)
	expectReason(t, "an unknown digest", err, protocol.ClientKeyRequired)
}

// A context ends with the key object that its client showed.
//
// TMCP-8.7-8: A client MUST leave a context when the key object of its own that it showed has expired.
func TestClientKeyExpires(t *testing.T) {
	m := newMutual(t, func(c *protocol.ServerConfig) { c.Validity = time.Hour })
	h := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	c := m.dial(t, h, t0)
	if _, err := m.send(c, t0); err != nil {
		t.Fatal(err)
	}
	_, warm, err := c.Seal(message("x"), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.server.Open(warm, envelope, t0.Add(10*time.Minute))
	expectReason(t, "warm, after the client's object ended", err, protocol.UnknownContext)
	if r, err := m.send(c, t0.Add(11*time.Minute)); err != nil || r.Seq != 0 {
		t.Errorf("the client seals afresh by itself: %v", err)
	}
}

func TestClientPolicy(t *testing.T) {
	deny := newMutual(t, func(c *protocol.ServerConfig) { c.Clients.Allow = func(string) bool { return false } })
	_, err := deny.send(deny.dial(t, deny.holder(deny.client, &tee{vendor: vendor, code: "agent"}), t0), t0)
	expectReason(t, "not allowed", err, protocol.ClientKeyRefused)
	id := must(protocol.GenerateIdentity(uri))
	demanding := must(protocol.NewSettings(protocol.Offer{ClientKey: protocol.ClientKeyDemanded}))
	for what, cfg := range map[string]protocol.ServerConfig{
		"no policy":      {Identity: id, Settings: demanding},
		"no anchor":      {Identity: id, Settings: demanding, Clients: &protocol.ClientPolicy{}},
		"no appraiser":   {Identity: id, Settings: demanding, Clients: &protocol.ClientPolicy{Anchor: protocol.Pin(), Profile: protocol.ProfileAttested}},
		"nothing asked":  {Identity: id, Clients: &protocol.ClientPolicy{Anchor: protocol.Pin()}},
		"short policy":   {Identity: id, Demands: []byte{1}},
		"short config":   {Identity: id, Attestation: &protocol.Attestation{Attester: relay{}, Config: []byte{1}}},
		"short validity": {Identity: id, Validity: time.Second},
	} {
		if _, err := protocol.NewServer(cfg); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	// Accepted, not demanded: who shows none is let in, who shows one is named.
	soft := newMutual(t, func(c *protocol.ServerConfig) {
		c.Settings = must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual, protocol.ProfileAttested}, ClientKey: protocol.ClientKeyAccepted}))
	})
	p, err := verifyAttested(soft.server, soft.id, object(t, soft.server, t0), t0, nil)
	if err != nil || p.Profile() != protocol.ProfileAttested {
		t.Fatalf("profile %v, %v", p, err)
	}
	r, err := soft.send(must(protocol.NewClient(p, soft.mine)), t0)
	if err != nil || r.Client != nil {
		t.Errorf("without a key object: %v", err)
	}
	r, err = soft.send(must(protocol.NewClient(p, soft.mine, protocol.PresentKey(soft.holder(soft.client, &tee{vendor: vendor, code: "agent"})))), t0)
	if err != nil || r.Client == nil {
		t.Errorf("with one: %v", err)
	}
}

// A key object vouches for the settings that it names, by value and by digest.
//
// TMCP-8.7-10: A server MUST refuse a client key object whose settings digest is not that of the client settings in the frame, with `client-key-refused`.
func TestClientKeyOfOtherSettings(t *testing.T) {
	m := newMutual(t, nil)
	h := m.holder(m.client, &tee{vendor: vendor, code: "agent"})
	if _, err := m.send(m.dial(t, h, t0), t0); err != nil {
		t.Fatal(err)
	}
	m.mine = must(protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual, protocol.ProfileAttested}, Suites: []protocol.Suite{protocol.SuiteX25519}}))
	_, err := m.send(m.dial(t, h, t0), t0)
	expectReason(t, "by value", err, protocol.ClientKeyRefused)
	c := m.dial(t, h, t0)
	protocol.ShowByDigest(c, t0)
	_, err = m.send(c, t0)
	expectReason(t, "by digest", err, protocol.ClientKeyRefused)
}
