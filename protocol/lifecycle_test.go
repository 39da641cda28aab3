package protocol_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

func newServer(t testing.TB, change func(*protocol.ServerConfig)) (*protocol.Server, *protocol.Identity) {
	t.Helper()
	id := must(protocol.GenerateIdentity(uri))
	cfg := protocol.ServerConfig{Identity: id}
	if change != nil {
		change(&cfg)
	}
	return must(protocol.NewServer(cfg)), id
}

// at connects to the key object that the server hands out at a time.
func at(t testing.TB, s *protocol.Server, id *protocol.Identity, now time.Time) pair {
	t.Helper()
	object, _, err := s.KeyObject(now)
	if err != nil {
		t.Fatal(err)
	}
	return withObject(t, s, id, object, now, nil)
}

func withObject(t testing.TB, s *protocol.Server, id *protocol.Identity, object []byte, now time.Time, nonce []byte) pair {
	t.Helper()
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: s.Settings(), Now: now, Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	return pair{server: s, peer: peer, client: must(protocol.NewClient(peer, must(protocol.NewSettings(protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}}))))}
}

func (p pair) sendAt(t testing.TB, now time.Time) error {
	t.Helper()
	_, frame, err := p.client.Seal(message("x"), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.server.Open(frame, envelope, now)
	return err
}

// A key is renewed at half of its validity, and the old one opens until 60
// seconds after its end, then it is gone with its contexts.
func TestKeyRollover(t *testing.T) {
	s, id := newServer(t, nil)
	first, expires, err := s.KeyObject(t0)
	if err != nil || !expires.Equal(t0.Add(10*time.Minute)) {
		t.Fatalf("expires %v, %v", expires, err)
	}
	if again, _, _ := s.KeyObject(t0.Add(5*time.Minute - time.Second)); !bytes.Equal(again, first) {
		t.Fatal("renewed before half of the validity")
	}
	p := at(t, s, id, t0)
	p.call(t, "cold")
	second, _, _ := s.KeyObject(t0.Add(5 * time.Minute))
	if bytes.Equal(second, first) {
		t.Fatal("not renewed at half of the validity")
	}
	for _, tt := range []struct {
		after time.Duration
		warm  protocol.Reason
	}{{5 * time.Minute, ""}, {10 * time.Minute, ""}, {11*time.Minute - 1, ""}, {11 * time.Minute, protocol.UnknownContext}, {time.Hour, protocol.UnknownContext}} {
		now := t0.Add(tt.after)
		if err := p.sendAt(t, now); tt.warm == "" && err != nil {
			t.Errorf("warm after %v: %v", tt.after, err)
		} else if tt.warm != "" {
			wantReason(t, err, tt.warm)
		}
		cold := withObject(t, s, id, first, t0, nil)
		err := cold.sendAt(t, now)
		if tt.warm == "" && err != nil {
			t.Errorf("cold after %v: %v", tt.after, err)
		} else if tt.warm != "" {
			wantReason(t, err, protocol.UnknownKey)
			var e *protocol.Error
			errors.As(err, &e)
			// What the error carries is good to go on with.
			if err := withObject(t, s, id, e.KeyObject, now, nil).sendAtSealed(t, now); err != nil {
				t.Errorf("sealed to the key of the error: %v", err)
			}
		}
	}
	// The client stops at the end, without grace.
	_, _, err = p.client.Seal(message("x"), envelope, t0.Add(10*time.Minute))
	wantReason(t, err, protocol.KeyObjectExpired)
	s.Expire(t0.Add(2 * time.Hour))
	wantReason(t, p.sendAt(t, t0), protocol.UnknownContext) // even for a clock that goes back: it is erased
}

func (p pair) sendAtSealed(t testing.TB, now time.Time) error {
	_, frame, err := p.client.Seal(message("x"), envelope, now)
	if err != nil {
		return err
	}
	_, err = p.server.Open(frame, envelope, now)
	return err
}

// A key object for a nonce names the same keys and end as the current one, and
// what is sealed to it opens.
func TestNonceObjects(t *testing.T) {
	s, id := newServer(t, nil)
	_, expires, _ := s.KeyObject(t0)
	for n := protocol.MinNonce; n <= protocol.MaxNonce; n += 8 {
		nonce := bytes.Repeat([]byte{byte(n)}, n)
		now := t0.Add(time.Duration(n) * time.Second)
		object, err := s.Attest(nonce, now)
		if err != nil {
			t.Fatal(err)
		}
		p := withObject(t, s, id, object, now, nonce)
		if !p.peer.Expires().Equal(expires) {
			t.Errorf("expires %v", p.peer.Expires())
		}
		if err := p.sendAtSealed(t, now); err != nil {
			t.Error(err)
		}
		_, err = protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: s.Settings(), Now: now, Nonce: make([]byte, n)})
		wantReason(t, err, protocol.NonceMismatch)
	}
	for _, n := range []int{0, 7, 65} {
		if _, err := s.Attest(make([]byte, n), t0); err == nil {
			t.Errorf("a nonce of %d bytes was accepted", n)
		}
		object, _, _ := s.KeyObject(t0)
		_, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: s.Settings(), Now: t0, Nonce: make([]byte, n)})
		wantReason(t, err, protocol.NonceMismatch)
	}
}

// A key that has as many contexts as it may is retired, the next one goes on,
// and at the bound of keys the server says busy; nothing is forgotten.
func TestFullKeysAreRetired(t *testing.T) {
	const max = 4
	s, id := newServer(t, func(c *protocol.ServerConfig) { c.MaxContexts = max })
	p := at(t, s, id, t0)
	var frames [][]byte
	keys, busy := 1, false
	for range 200 {
		cold := pair{server: s, peer: p.peer, client: must(protocol.NewClient(p.peer, p.client.Settings()))}
		_, frame := cold.seal(t, "x")
		_, err := s.Open(frame, envelope, t0)
		var e *protocol.Error
		switch {
		case err == nil:
			frames = append(frames, frame)
		case protocol.IsReason(err, protocol.Busy):
			busy = true
		case errors.As(err, &e) && e.Reason == protocol.UnknownKey:
			p = withObject(t, s, id, e.KeyObject, t0, nil)
			keys++
		default:
			t.Fatal(err)
		}
		if busy {
			break
		}
	}
	if !busy || keys != 6 || len(frames) != max*keys {
		t.Fatalf("busy %v after %d keys and %d contexts", busy, keys, len(frames))
	}
	for _, f := range frames {
		_, err := s.Open(f, envelope, t0)
		wantReason(t, err, protocol.Replayed)
	}
	// When the keys are over it goes on.
	later := t0.Add(12 * time.Minute)
	if err := at(t, s, id, later).sendAtSealed(t, later); err != nil {
		t.Fatal(err)
	}
}

// A peer with large settings fills no more memory than one with small ones.
func TestLargeSettingsCountForMore(t *testing.T) {
	s, id := newServer(t, func(c *protocol.ServerConfig) { c.MaxContexts = 100 })
	p := at(t, s, id, t0)
	opened := 0
	for i := range 10 {
		js := fmt.Sprintf(`{"version":1,"profiles":["identity"],"carriers":["envelope"],"suites":["x25519-sha256-chacha20poly1305"],"mode":"required","x":"%d%s"}`, i, bytes.Repeat([]byte("x"), 16000))
		p.client = must(protocol.NewClient(p.peer, must(protocol.ParseSettings([]byte(js)))))
		if err := p.sendAtSealed(t, t0); err == nil {
			opened++
		}
	}
	if opened > 2 {
		t.Fatalf("%d contexts with settings of 16 KiB each, under a bound of 100 that are small", opened)
	}
}

func TestPinToolSet(t *testing.T) {
	s, id := newServer(t, nil)
	if _, ok := at(t, s, id, t0).peer.ToolSet(); ok {
		t.Fatal("a tool set from nowhere")
	}
	before := at(t, s, id, t0)
	want := protocol.ToolSetDigest(uri, []protocol.Tool{{Name: "a"}})
	s.PinToolSet(want)
	after := at(t, s, id, t0)
	if got, ok := after.peer.ToolSet(); !ok || got != want {
		t.Fatalf("tool set %x", got)
	}
	for _, p := range []pair{before, after} { // the old key object still opens
		if err := p.sendAtSealed(t, t0); err != nil {
			t.Error(err)
		}
	}
}

// Identities of every kind of key, and the anchors that trust them or don't.
func TestIdentities(t *testing.T) {
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	if _, err := protocol.NewIdentity(uri, ec(elliptic.P521())); err == nil {
		t.Error("P-521 was accepted")
	}
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	if _, err := protocol.NewIdentity(uri, rsaKey); err == nil {
		t.Error("a bare RSA key was accepted")
	}
	for _, bad := range []string{"", "api.example.com", "/mcp", "https:", "%"} {
		if _, err := protocol.GenerateIdentity(bad); err == nil {
			t.Errorf("identity %q was accepted", bad)
		}
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	for _, id := range []*protocol.Identity{must(protocol.NewIdentity(uri, edKey)), must(protocol.NewIdentity(uri, ec(elliptic.P256()))), must(protocol.NewIdentity(uri, ec(elliptic.P384())))} {
		s := must(protocol.NewServer(protocol.ServerConfig{Identity: id}))
		if err := at(t, s, id, t0).sendAtSealed(t, t0); err != nil {
			t.Error(err)
		}
		object, _, _ := s.KeyObject(t0)
		stranger := must(protocol.GenerateIdentity(uri))
		for name, anchor := range map[string]protocol.Anchor{
			"other pin": protocol.Pin(stranger.Thumbprint()), "no pin": protocol.Pin(), "nil pool": protocol.Roots(nil), "empty pool": protocol.Roots(x509.NewCertPool()),
			"no anchors": protocol.AnyOf(), "several": protocol.AnyOf(protocol.Pin(stranger.Thumbprint()), protocol.Roots(nil)),
		} {
			_, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: anchor, Settings: s.Settings(), Now: t0})
			if !protocol.IsReason(err, protocol.IdentityMismatch) {
				t.Errorf("%s: %v", name, err)
			}
		}
		anchor := protocol.AnyOf(protocol.Roots(nil), protocol.Pin(id.Thumbprint()))
		if _, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: anchor, Settings: s.Settings(), Now: t0}); err != nil {
			t.Error(err)
		}
		if back, err := protocol.ParseThumbprint(id.Thumbprint().String()); err != nil || back != id.Thumbprint() {
			t.Error("a thumbprint does not round-trip")
		}
	}
}

func TestExpectIsComplete(t *testing.T) {
	s, id := newServer(t, nil)
	object, _, _ := s.KeyObject(t0)
	whole := protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: s.Settings(), Now: t0}
	for _, drop := range []func(*protocol.Expect){
		func(e *protocol.Expect) { e.Identity = "" }, func(e *protocol.Expect) { e.Anchor = nil },
		func(e *protocol.Expect) { e.Settings = nil }, func(e *protocol.Expect) { e.Now = time.Time{} },
	} {
		e := whole
		drop(&e)
		if _, err := protocol.VerifyKeyObject(object, e); err == nil {
			t.Errorf("accepted with %+v", e)
		}
	}
	whole.Profile = protocol.ProfileAttested
	_, err := protocol.VerifyKeyObject(object, whole)
	wantReason(t, err, protocol.ProfileTooWeak)
}

// Codes and reasons are on the wire: this list only grows.
func TestErrorCodesAreStable(t *testing.T) {
	want := []string{"29000 trust-required", "29001 malformed-frame", "29002 unsupported-version", "29003 unsupported-suite", "29004 carrier-refused", "29005 unknown-key",
		"29006 unknown-context", "29007 replayed", "29008 open-failed", "29009 negotiation-mismatch", "29010 outer-mismatch", "29011 tool-changed", "29012 client-key-required",
		"29013 client-key-refused", "29014 busy", "29015 too-large", "29016 out-of-order", "29017 malformed-content", "29018 profile-refused",
		"29100 trust-missing", "29101 key-object-invalid", "29102 identity-mismatch", "29103 key-object-expired", "29104 key-object-not-yet-valid", "29105 settings-mismatch",
		"29106 no-overlap", "29107 plaintext-answer", "29108 unsealed-error", "29109 answer-invalid", "29110 truncated", "29111 answer-out-of-order", "29112 spliced",
		"29113 after-final", "29114 era-fallback", "29115 retries-exhausted", "29116 unreachable", "29117 nonce-mismatch", "29118 profile-too-weak", "29119 cannot-seal",
		"29120 discover-error", "29121 signature-invalid", "29122 role-mismatch", "29123 evidence-stale", "29124 evidence-refused", "29125 cannot-attest", "29126 policy-denied"}
	got := protocol.Reasons()
	if len(got) < len(want) {
		t.Fatalf("%d reasons, %d were published", len(got), len(want))
	}
	have := map[string]bool{}
	for _, r := range got {
		have[fmt.Sprintf("%d %s", r.Code(), r)] = true
		if e := protocol.ParseError([]byte(`{"code":1,"message":"","data":` + string((&protocol.Error{Reason: r}).Data()) + `}`)); (e != nil) != r.FromPeer() {
			t.Errorf("%s: from a peer %v, parsed as %v", r, r.FromPeer(), e)
		}
	}
	for _, w := range want {
		if !have[w] {
			t.Errorf("%s is missing or was renumbered", w)
		}
	}
	e := &protocol.Error{Reason: protocol.ToolChanged, Detail: "<\x00\xff\">", KeyObject: []byte{1, 2}, Tool: &protocol.Tool{Name: "t\"\u2028", Digest: protocol.Digest{1}}}
	back := protocol.ParseError([]byte(`{"data":` + string(e.Data()) + `}`))
	if back == nil || !bytes.Equal(back.KeyObject, e.KeyObject) || back.Tool == nil || *back.Tool != *e.Tool {
		t.Errorf("an error does not round-trip: %+v", back)
	}
	e = &protocol.Error{Reason: protocol.PolicyDenied, Policy: bytes.Repeat([]byte{0xa1}, 32), Codes: []string{"tcb", "policy.trap"}}
	if got, want := string(e.Data()), `{"extension":"org.trustedmcp/trust","reason":"policy-denied","policy":"`+string(bytes.Repeat([]byte("a1"), 32))+`","codes":["tcb","policy.trap"]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// One context costs less than 1 KiB.
func TestContextMemory(t *testing.T) {
	const n = 20_000
	s, _ := newServer(t, nil)
	k := protocol.NewContextFiller(s, t0)
	before := heap()
	k.Fill(n)
	per := float64(heap()-before) / n
	runtime.KeepAlive(s)
	if per > 1024 {
		t.Fatalf("%.0f bytes for each context", per)
	}
}

func TestSettingsDefaultsAndLimits(t *testing.T) {
	if _, err := protocol.NewSettings(protocol.Offer{Mode: protocol.ModeOff}); err == nil {
		t.Error("mode off was announced")
	}
	s := must(protocol.NewSettings(protocol.Offer{}))
	o := s.Offer()
	if len(o.Suites) != 2 || o.Suites[0] != protocol.SuiteHybrid || o.Mode != protocol.ModeRequired || len(o.Carriers) != 3 {
		t.Errorf("defaults: %+v", o)
	}
	id := must(protocol.GenerateIdentity(uri))
	weak := must(protocol.NewSettings(protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}}))
	if _, err := protocol.NewServer(protocol.ServerConfig{Identity: id, Settings: weak}); err == nil {
		t.Error("a server without the mandatory suite")
	}
	for _, v := range []time.Duration{time.Second, time.Hour + time.Second, -1} {
		if _, err := protocol.NewServer(protocol.ServerConfig{Identity: id, Validity: v}); err == nil {
			t.Errorf("a validity of %v was accepted", v)
		}
	}
}

// TMCP-4.6-6: A server SHOULD bound the rate at which it answers `trust/attest`, and answer above that with `busy`.
func TestAttestIsBounded(t *testing.T) {
	s, _ := newServer(t, nil)
	nonce := []byte("12345678")
	answered := 0
	for range 1000 {
		if _, err := s.Attest(nonce, t0); err == nil {
			answered++
		} else {
			wantReason(t, err, protocol.Busy)
		}
	}
	if answered != 256 {
		t.Fatalf("%d of 1000 at one moment", answered)
	}
	if _, err := s.Attest(nonce, t0.Add(time.Second)); err != nil {
		t.Fatalf("a second later: %v", err)
	}
}
