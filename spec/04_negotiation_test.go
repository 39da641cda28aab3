package spec_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
)

// TMCP-4.6-2: The key object in the answer MUST carry the nonce of the request in claim 10.
// TMCP-4.6-3: A server MUST refuse a nonce shorter than 8 or longer than 64 bytes, with `malformed-content`.
// TMCP-4.6-4: A client that sent a nonce MUST refuse a key object whose nonce is not equal to it, with `nonce-mismatch`.
// TMCP-5.6-6: A key object for a nonce MUST name the same HPKE keys and the same `exp` as the current one without a nonce.
func TestAttest(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	nonce := []byte("0123456789abcdef")
	object, err := s.Attest(nonce, w.now)
	w.ok(err)
	u, err := protocol.InspectKeyObject(object)
	w.ok(err)
	if !bytes.Equal(u.Nonce, nonce) {
		t.Errorf("the key object has nonce %x", u.Nonce)
	}
	plain, err := protocol.InspectKeyObject(w.object(s))
	w.ok(err)
	if !plain.Expires.Equal(u.Expires) {
		t.Errorf("exp is %v with a nonce, %v without", u.Expires, plain.Expires)
	}
	// The same keys: what is sealed to the one opens, as what is sealed to the other.
	_, frame := w.seal(w.clientOf(object, s))
	w.open(s, frame)
	_, frame = w.seal(w.client(s))
	w.open(s, frame)

	for n, good := range map[int]bool{0: false, 7: false, 8: true, 64: true, 65: false} {
		_, err := s.Attest(make([]byte, n), w.now)
		if good {
			w.ok(err)
		} else {
			w.want(err, protocol.MalformedContent)
		}
	}

	expect := protocol.Expect{Identity: uri, Anchor: protocol.Pin(w.id.Thumbprint()), Settings: s.Settings(), Now: w.now, Nonce: nonce}
	_, err = protocol.VerifyKeyObject(object, expect)
	w.ok(err)
	for _, other := range [][]byte{[]byte("0123456789abcdeF"), nonce[:15], append(bytes.Clone(nonce), 0)} {
		expect.Nonce = other
		_, err = protocol.VerifyKeyObject(object, expect)
		w.want(err, protocol.NonceMismatch)
	}
	expect.Nonce = nonce
	_, err = protocol.VerifyKeyObject(w.object(s), expect) // the one without a nonce
	w.want(err, protocol.NonceMismatch)
}

// TMCP-4.7-1: A client MUST choose the suite that stands first in its own `suites` among those that the server's `suites` list too.
// TMCP-4.7-3: A client that finds no common suite, carrier or profile MUST end with `no-overlap` and send nothing of the user.
// TMCP-4.7-2: A client MUST choose a carrier that both settings objects list.
func TestChoice(t *testing.T) {
	w := newWorld(t)
	hybrid, classic := protocol.SuiteHybrid, protocol.SuiteX25519
	for _, tt := range []struct {
		client, server []protocol.Suite
		want           protocol.Suite
	}{
		{[]protocol.Suite{hybrid, classic}, []protocol.Suite{classic, hybrid}, hybrid},
		{[]protocol.Suite{classic, hybrid}, []protocol.Suite{hybrid, classic}, classic},
		{[]protocol.Suite{classic, hybrid}, []protocol.Suite{hybrid}, hybrid},
	} {
		s := w.server(offer(t, protocol.Offer{Suites: tt.server}))
		c := w.client(s, protocol.Offer{Suites: tt.client})
		if c.Suite() != tt.want {
			t.Errorf("client %v, server %v: chose %v", tt.client, tt.server, c.Suite())
		}
		_, frame := w.seal(c)
		if got := w.frame(frame).Suite; got != tt.want {
			t.Errorf("sealed with %v", got)
		}
	}
	s := w.server(offer(t, protocol.Offer{Suites: []protocol.Suite{hybrid}, Carriers: []protocol.Carrier{protocol.Envelope}}))
	peer, err := w.verify(w.object(s), s)
	w.ok(err)
	_, err = protocol.NewClient(peer, settings(t, protocol.Offer{Suites: []protocol.Suite{classic}}))
	w.want(err, protocol.NoOverlap)
	_, err = protocol.NewClient(peer, settings(t, protocol.Offer{Profiles: []protocol.Profile{"of-tomorrow"}}))
	w.want(err, protocol.NoOverlap)
	c := w.client(s, protocol.Offer{Carriers: []protocol.Carrier{protocol.HTTP, protocol.Envelope}})
	_, frame, err := c.Seal(protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "POST", Target: "/"}}, protocol.Outer{Carrier: protocol.HTTP}, w.now)
	w.want(err, protocol.NoOverlap)
	if frame != nil {
		t.Error("a frame was made all the same")
	}
}

// TMCP-4.8-3: A server MUST answer an open frame whose suite is not the one that section 4.7 yields for the two settings objects with `negotiation-mismatch`.
// TMCP-4.8-4: A server MUST answer an open frame with a suite that it … did not offer with `unsupported-suite`.
// TMCP-4.8-6: A server MUST answer a frame that came by a carrier which its own settings do not list with `carrier-refused`.
// TMCP-4.8-7: A server MUST answer an open frame that came by a carrier which the client settings in it do not list with `negotiation-mismatch`.
// TMCP-10.2-2: A server MUST answer a sealed message from a client whose profile its local policy does not allow with `profile-refused`.
func TestConfirmation(t *testing.T) {
	w := newWorld(t)
	both := []protocol.Suite{protocol.SuiteHybrid, protocol.SuiteX25519}
	real := w.server(offer(t, protocol.Offer{Suites: both}))

	// The client lists suite 1 first and seals with suite 2, as it would after
	// the server's list was rewritten: the frame is taken apart and put together
	// again with the settings that it should have had.
	_, frame := w.seal(w.client(real, protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}}))
	w.open(real, frame) // the twin
	_, frame = w.seal(w.client(real, protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}}))
	w.refuses(real, swapSettings(t, w, frame, settings(t, protocol.Offer{Suites: both})), protocol.NegotiationMismatch)

	narrow := w.server(offer(t, protocol.Offer{Suites: both[:1]}))
	w.refuses(narrow, frame, protocol.UnsupportedSuite)

	onlyInline := protocol.Offer{Carriers: []protocol.Carrier{protocol.Inline}}
	_, frame = w.seal(w.client(real))
	w.refuses(w.server(offer(t, onlyInline)), frame, protocol.CarrierRefused)
	w.refuses(real, swapSettings(t, w, frame, settings(t, onlyInline)), protocol.NegotiationMismatch)
	w.refuses(real, swapSettings(t, w, frame, settings(t, protocol.Offer{Profiles: []protocol.Profile{"of-tomorrow"}})), protocol.ProfileRefused)
	w.open(real, frame) // and it was good
}

// TMCP-4.8-5: A server MUST answer a frame whose inner message has another revision than its context with `negotiation-mismatch`.
// TMCP-8.1-4: A client MUST use a context only for inner messages of the revision that it was made for.
func TestRevisionOfContext(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	first, _ := w.exchange(c, s)
	dated := msg(ping)
	dated.Meta.Fields = []protocol.Field{{Name: "mcp-protocol-version", Value: []byte("2025-06-18")}}
	_, frame, err := c.Seal(dated, envelope, w.now)
	w.ok(err)
	f := w.frame(frame)
	if f.Type != 1 || f.Revision != "2025-06-18" {
		t.Errorf("a message of another revision went as frame type %d, revision %q", f.Type, f.Revision)
	}
	w.open(s, frame)
	_, frame = w.seal(c)
	if f := w.frame(frame); f.Type != 2 || f.Context != first.Context() {
		t.Errorf("a message of the first revision went as frame type %d", f.Type)
	}
	// The revision outside is committed to: another one does not open.
	_, frame, err = w.client(s).Seal(dated, envelope, w.now)
	w.ok(err)
	w.refuses(s, bytes.Replace(frame, []byte("2025-06-18"), []byte("2025-11-25"), 1), protocol.OpenFailed)
}

// TMCP-4.2-2: The member `profiles` MUST be present and name at least `identity`
// TMCP-4.2-3: The member `carriers` MUST be present.
// TMCP-4.2-4: The member `suites` MUST be present, and a server's MUST list `mlkem768x25519-sha256-aes256gcm`.
// TMCP-12.1-3: An implementation of this extension MUST support profile `identity`.
// TMCP-12.1-4: An implementation of profile `identity` MUST support the carrier `envelope`.
// TMCP-11.1-1: The mode of an implementation that was configured for this extension MUST be `required` unless its operator chose otherwise.
func TestDefaultOffer(t *testing.T) {
	w := newWorld(t)
	o := w.server().Settings().Offer()
	if !slices.Contains(o.Profiles, protocol.ProfileIdentity) || !slices.Contains(o.Carriers, protocol.Envelope) ||
		!slices.Contains(o.Suites, protocol.SuiteHybrid) || o.Mode != protocol.ModeRequired {
		t.Errorf("by default a server offers %+v", o)
	}
	_, err := protocol.NewServer(protocol.ServerConfig{Identity: w.id, Settings: settings(t, protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}})})
	if err == nil {
		t.Error("a server without the mandatory suite was made")
	}
	if _, err := protocol.NewSettings(protocol.Offer{Mode: protocol.ModeOff}); err == nil {
		t.Error("mode off was announced")
	}
}

// TMCP-4.7-4: A client MUST NOT use a server whose key object claims a weaker profile than its local policy demands, and end with `profile-too-weak`.
// TMCP-12.2-1: A verifier MUST NOT take a profile that it does not know for a stronger one than it knows.
// TMCP-12.1-1: A key object of profile `identity` MUST have one signature, no evidence and no attested key.
func TestProfiles(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	expect := protocol.Expect{Identity: uri, Anchor: protocol.Pin(w.id.Thumbprint()), Settings: s.Settings(), Now: w.now}
	for profile, good := range map[protocol.Profile]bool{"": true, protocol.ProfileIdentity: true, protocol.ProfileAttested: false, protocol.ProfileMutual: false, "of-tomorrow": false} {
		expect.Profile = profile
		_, err := protocol.VerifyKeyObject(w.object(s), expect)
		if good {
			w.ok(err)
		} else {
			w.want(err, protocol.ProfileTooWeak)
		}
	}
	u, err := protocol.InspectKeyObject(w.object(s))
	w.ok(err)
	if u.Profile != protocol.ProfileIdentity || len(u.Algorithms) != 1 || u.Evidence != nil || u.AttestedKey != nil {
		t.Errorf("the key object is %+v", u)
	}
}

// TMCP-10.4-1: A client MUST NOT take an error with a local reason from a peer for one of its own.
func TestLocalReasonsFromAPeer(t *testing.T) {
	for _, r := range protocol.Reasons() {
		e := protocol.ParseError([]byte(`{"code":1,"message":"","data":{"extension":"org.trustedmcp/trust","reason":"` + string(r) + `"}}`))
		if local := r.Code() >= 29100; local != (e == nil) {
			t.Errorf("reason %s (%d) from a peer: %v", r, r.Code(), e)
		}
	}
}
