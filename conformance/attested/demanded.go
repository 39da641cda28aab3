package attested

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/protocol"
)

func mutual(name, id string, c conformance.Case) conformance.Case {
	return define(conformance.ProfileMutual, name, id, c)
}

// openMutual is open for servers that claim profile mutual.
func openMutual(t *T) *peer {
	p := open(t)
	if claim := p.object.Text(hand.ClaimProfile); claim != "mutual" {
		t.NotApplicable("the server's key object claims profile %s", claim)
	}
	return p
}

// Calls is how many sealed messages a case has answered, by its id: each calls
// the canary tool where there is one.
var Calls = map[string]int64{
	"server/attested/call": 1,
	"server/mutual/call":   1, "server/mutual/by-digest": 2, "server/mutual/warm": 2, "server/mutual/evidence-renewed": 2, "server/mutual/client-key-expires": 1,
	"server/mutual/expired-digest": 1, "server/mutual/possession-other-context": 1, "server/mutual/replay-open": 1,
}

// demanded are the cases about what a server demands of its clients.
func demanded() []conformance.Case {
	good := func(name, id, title, about string, f func(p *peer)) conformance.Case {
		return mutual(name, id, conformance.Case{Title: title, About: about, Run: func(t *T) { f(openMutual(t)) }})
	}
	// bad shows a key object with one thing wrong.
	refused := []protocol.Reason{protocol.ClientKeyRefused}
	bad := func(name, id, title string, bend func(*self)) conformance.Case {
		return mutual(name, id, conformance.Case{
			Title: title, Twin: "call",
			About: fmt.Sprintf("Shows the twin's key object with this one thing changed, and expects the error %q and no frame in the answer.", refused),
			Fix:   "Verify client key objects by all rules of section 5.4, and have their evidence appraised, before a message is handed on.",
			Run: func(t *T) {
				p := openMutual(t)
				p.refused(p.seal(p.self(bend), false).send("mutant"), refused...)
			},
		})
	}
	code := func(f func(*sim.Options)) func(*self) { return func(m *self) { f(&m.tee) } }
	made := func(ago time.Duration) func(*self) {
		return func(m *self) { m.fresh = hand.MadeAt(time.Now().Add(-ago).Unix()) }
	}
	binds := func(f func(*hand.Binding)) func(*self) { return func(m *self) { m.bound = f } }
	proof := func(f func(m *self, ctx [16]byte, server, client [32]byte) []byte) func(*self) {
		return func(m *self) {
			m.possesses = func(ctx [16]byte, server, client [32]byte) []byte { return f(m, ctx, server, client) }
		}
	}
	without := func(claim int64) func(*self) {
		return func(m *self) { m.claims = func(c map[int64][]byte) { delete(c, claim) } }
	}
	return []conformance.Case{
		good("demands", "TMCP-12.4-2", "the server demands client key objects", "Looks at clientKey in the settings.", func(p *peer) {
			if k := p.settings.Offer().ClientKey; k != protocol.ClientKeyDemanded {
				p.t.Violate("clientKey is %q", k)
			}
		}),
		good("call", "TMCP-12.4-1", "a client whose key object is good is served", "Shows a key object with evidence of a simulated TEE, and a proof of possession, all made by hand.", func(p *peer) {
			s := p.seal(p.self(nil), false)
			s.answered(s.send("call"), "call")
		}),
		good("by-digest", "TMCP-8.7-5", "a key object that was shown is known by its digest", "Shows the object by value, and in another context by its digest.", func(p *peer) {
			m := p.shown(nil)
			s := p.seal(m, true)
			s.answered(s.send("again"), "again")
		}),
		good("warm", "TMCP-8.7-6", "further messages of the context are served", "Seals a second message in the context.", func(p *peer) {
			s := p.seal(p.self(nil), false)
			s.answered(s.send("cold"), "cold")
			s.answeredAt(s.next(1, "warm"), 1, "warm")
		}),
		good("evidence-renewed", "TMCP-18.3-1", "a client with new evidence and a new attested key is served", "Shows two key objects, one after the other, with an attested key each.", func(p *peer) {
			p.shown(nil)
			p.shown(nil)
		}),

		mutual("no-client-key", "TMCP-8.7-2", conformance.Case{
			Title: "a client without a key object is refused", Twin: "call", About: "Seals the twin's message without a client key.",
			Run: func(t *T) {
				p := openMutual(t)
				p.refused(p.seal(nil, false).send("mutant"), protocol.ClientKeyRequired)
			},
		}),
		mutual("unknown-digest", "TMCP-8.7-5", conformance.Case{
			Title: "a digest that the server does not know is refused", Twin: "by-digest", About: "Shows, by its digest, a key object that the server has never seen.",
			Run: func(t *T) {
				p := openMutual(t)
				p.refused(p.seal(p.self(nil), true).send("mutant"), protocol.ClientKeyRequired)
			},
		}),
		mutual("expired-digest", "TMCP-8.7-5", conformance.Case{
			Title: "the digest of a key object that is over is refused", Twin: "by-digest", Eras: modernOnly, About: "Shows an object that is valid for some three seconds by value, and by its digest when it is over.",
			Run: func(t *T) {
				p := openMutual(t)
				m, _ := p.shortLived()
				p.refused(p.seal(m, true).send("mutant"), protocol.ClientKeyRequired)
			},
		}),
		mutual("client-key-expires", "TMCP-8.7-7", conformance.Case{
			Title: "a context ends with the key object of its client", Twin: "warm", Eras: modernOnly, About: "Opens a context with an object that is valid for some three seconds, and sends a next frame in it when that is over.",
			Run: func(t *T) {
				p := openMutual(t)
				_, s := p.shortLived()
				p.refused(s.next(1, "mutant"), protocol.UnknownContext)
			},
		}),
		bad("unknown-identity", "TMCP-8.7-3", "a client that nobody vouches for is refused", func(m *self) { m.id = newKey() }),
		bad("identity-profile", "TMCP-12.4-2", "a client without a TEE is refused", func(m *self) { m.profile, m.attests = "identity", false }),
		bad("claims-identity", "TMCP-5.4-12", "a client that claims profile identity is refused, whatever it shows", func(m *self) { m.profile = "identity" }),
		bad("evidence-missing", "TMCP-18.1-1", "an attested key without evidence is refused", without(hand.ClaimEvidence)),
		bad("freshness-missing", "TMCP-18.1-1", "evidence without freshness is refused", without(hand.ClaimFreshness)),
		bad("attested-key-missing", "TMCP-18.1-1", "evidence without an attested key is refused", func(m *self) {
			without(hand.ClaimAttestedKey)(m)
			m.possesses = func(ctx [16]byte, server, client [32]byte) []byte {
				return ed25519.Sign(m.id, hand.Possession(ctx, server, client))
			}
		}),
		bad("freshness-form", "TMCP-18.1-2", "freshness of a form that nobody knows is refused", func(m *self) { m.fresh = []byte{0x82, 4, 0x41, 1} }),
		bad("config-short", "TMCP-18.1-2", "a configuration digest of 16 bytes is refused", func(m *self) { m.config = make([]byte, 16) }),
		bad("attested-signature-missing", "TMCP-5.4-12", "an object that the attested key did not sign is refused", func(m *self) {
			m.attSig = func(s *hand.Signature) { s.Bend = func([]byte) []byte { return nil } }
		}),
		bad("attested-signature-other", "TMCP-5.4-12", "an object that another key signed in the attested key's place is refused", func(m *self) {
			m.attSig = func(s *hand.Signature) { s.Key = newKey() }
		}),
		bad("attested-signature-altered", "TMCP-5.4-12", "an altered signature of the attested key is refused", func(m *self) {
			m.attSig = func(s *hand.Signature) { s.Bend = func(b []byte) []byte { b[9] ^= 1; return b } }
		}),
		bad("signatures-swapped", "TMCP-5.2-3", "signatures in the other order are refused", func(m *self) { m.swapped = true }),
		bad("identity-signature-other", "TMCP-5.4-7", "an object that the identity key did not sign is refused", func(m *self) {
			m.idSig = func(s *hand.Signature) { s.Key = newKey() }
		}),

		bad("evidence-debug", "TMCP-12.3-1", "a client in a TEE that can be read from outside is refused", code(func(o *sim.Options) { o.Debug = true })),
		bad("evidence-out-of-date", "TMCP-12.3-1", "a client on firmware with a known flaw is refused", code(func(o *sim.Options) {
			svn := sim.DefaultSVN // the machine itself is behind, whatever collateral the server has
			svn[0]--
			o.TDX.Platform.SVN = &svn
		})),
		bad("evidence-revoked", "TMCP-12.3-1", "a client on a platform whose key is revoked is refused", func(m *self) {
			m.tee.Name = "a machine whose key was extracted"
			_, serial, err := m.world.PCK(sim.Platform{Name: m.tee.Name})
			if err != nil {
				m.p.t.Failf("the suite's simulated TEE: %v", err)
			}
			m.tee.Collateral.Revoked = append(m.tee.Collateral.Revoked, serial)
		}),
		bad("evidence-other-root", "TMCP-12.3-1", "evidence under a root that nobody trusts is refused", func(m *self) { m.world = sim.Other() }),
		mutual("evidence-other-code", "TMCP-12.3-1", conformance.Case{
			Title: "a client that runs other code is refused", Twin: "call", About: "Shows evidence of another image than the one that the server accepts.",
			Run: func(t *T) {
				if !t.Trust().OtherCode {
					t.NotApplicable("the server is not known to accept one image alone; --client-image FILE says that it is")
				}
				p := openMutual(t)
				p.refused(p.seal(p.self(code(func(o *sim.Options) { o.Image = image("something else") })), false).send("mutant"), refused...)
			},
		}),
		bad("evidence-altered", "TMCP-18.2-3", "evidence in which the report data was put after signing is refused", func(m *self) {
			// The TEE signed zeros; what it should have signed is written over them.
			b := hand.Binding{Role: m.role, Identity: m.identity, Key: public(m.att), Freshness: m.fresh}.ReportData()
			mark := bytes.Repeat([]byte{0xa5}, 64)
			tee, err := m.world.TEE(m.tee)
			if err == nil {
				m.evidence, err = tee.Attest(m.p.t.Context(), [64]byte(mark))
			}
			if err != nil || bytes.Count(m.evidence, mark) != 1 {
				m.p.t.Failf("the suite's simulated TEE: %v", err)
			}
			m.evidence = bytes.Replace(m.evidence, mark, b[:], 1)
		}),
		bad("evidence-unbound", "TMCP-18.2-2", "evidence that binds a freshness and no key is refused", func(m *self) {
			m.bound = func(b *hand.Binding) { *b = hand.Binding{Freshness: b.Freshness} }
		}),
		bad("evidence-other-key", "TMCP-18.2-2", "evidence that binds another attested key is refused", binds(func(b *hand.Binding) { b.Key = public(newKey()) })),
		bad("evidence-other-identity", "TMCP-18.2-2", "evidence that was made for another identity is refused", binds(func(b *hand.Binding) { b.Identity += "/other" })),
		bad("evidence-other-config", "TMCP-18.2-2", "evidence that binds another configuration is refused", binds(func(b *hand.Binding) { b.Config = make([]byte, 32) })),
		bad("evidence-other-time", "TMCP-18.2-2", "evidence that was made at another time than claimed is refused", binds(func(b *hand.Binding) { b.Freshness = hand.MadeAt(1_700_000_000) })),
		bad("evidence-role", "TMCP-18.2-2", "evidence that was made for a server is refused", binds(func(b *hand.Binding) { b.Role = 1 })),
		bad("reflected-evidence", "TMCP-18.2-2", "the server's own evidence is refused", func(m *self) {
			o := m.p.object
			m.evidence, m.fresh, m.config = o.Claims[hand.ClaimEvidence], o.Claims[hand.ClaimFreshness], o.Bytes(hand.ClaimConfig)
		}),
		bad("reflected-object", "TMCP-5.4-2", "the server's own key object is refused", func(m *self) { m.whole = m.p.raw }),
		bad("role-server", "TMCP-5.4-2", "a key object of a server is refused", func(m *self) {
			m.role = 1 // in claims and evidence, and with the HPKE keys of a server
		}),
		bad("evidence-stale", "TMCP-18.3-2", "evidence of last month is refused", made(31*24*time.Hour)),
		bad("evidence-future", "TMCP-18.3-2", "evidence of the future is refused", made(-10*time.Minute)),
		bad("evidence-nonce", "TMCP-18.3-3", "evidence for a nonce that the server did not send is refused", func(m *self) { m.fresh = hand.ForNonce(freshNonce()) }),
		bad("evidence-epoch", "TMCP-18.3-5", "evidence of an epoch that nobody knows is refused", func(m *self) { m.fresh = hand.InEpoch(freshNonce()) }),
		bad("wrapper-text", "TMCP-18.4-1", "evidence in a byte string is refused", func(m *self) {
			m.claims = func(c map[int64][]byte) {
				c[hand.ClaimEvidence] = append([]byte{0x59, byte(len(c[hand.ClaimEvidence]) >> 8), byte(len(c[hand.ClaimEvidence]))}, c[hand.ClaimEvidence]...)
			}
		}),
		bad("settings-digest", "TMCP-8.7-10", "a key object for other settings is refused", func(m *self) { m.settings[0] ^= 1 }),
		bad("expired", "TMCP-5.4-4", "a key object that is over is refused", func(m *self) { m.nbf, m.exp = m.nbf-600, m.nbf-60 }),
		bad("not-yet-valid", "TMCP-5.4-5", "a key object of the future is refused", func(m *self) { m.nbf, m.exp = m.nbf+300, m.nbf+600 }),
		bad("too-long", "TMCP-5.4-6", "a key object that is valid for more than an hour is refused", func(m *self) { m.nbf, m.exp = m.nbf-5, m.nbf+3600 }),

		bad("possession-absent", "TMCP-8.7-6", "a client without a proof of possession is refused", proof(func(*self, [16]byte, [32]byte, [32]byte) []byte { return nil })),
		bad("possession-stranger", "TMCP-8.7-6", "who saw the key object and does not hold its key is refused", proof(func(_ *self, ctx [16]byte, server, client [32]byte) []byte {
			return ed25519.Sign(newKey(), hand.Possession(ctx, server, client))
		})),
		bad("possession-identity-key", "TMCP-8.7-6", "a proof by the identity key is refused where there is an attested key", proof(func(m *self, ctx [16]byte, server, client [32]byte) []byte {
			return ed25519.Sign(m.id, hand.Possession(ctx, server, client))
		})),
		bad("possession-other-server", "TMCP-8.7-6", "a proof made for another server is refused", proof(func(m *self, ctx [16]byte, _, client [32]byte) []byte {
			return ed25519.Sign(m.att, hand.Possession(ctx, [32]byte{1}, client))
		})),
		bad("possession-other-object", "TMCP-8.7-6", "a proof made for another key object is refused", proof(func(m *self, ctx [16]byte, server, _ [32]byte) []byte {
			return ed25519.Sign(m.att, hand.Possession(ctx, server, [32]byte{1}))
		})),
		mutual("possession-other-context", "TMCP-8.7-6", conformance.Case{
			Title: "a proof from another context is refused", Twin: "call", About: "Opens a context as the twin does, and shows its key object and its proof again in a context of one's own, as a server that forwards would.",
			Run: func(t *T) {
				p := openMutual(t)
				m := p.self(nil)
				m.whole = m.encode()
				victim := p.seal(m, false)
				victim.answered(victim.send("victim"), "victim")
				m.possesses = func([16]byte, [32]byte, [32]byte) []byte { return victim.proof }
				p.refused(p.seal(m, false).send("mutant"), refused...)
			},
		}),
		mutual("replay-open", "TMCP-8.4-2", conformance.Case{
			Title: "an open frame of another client is not served again", Twin: "call", About: "Sends the twin's frame twice, as one on the path can.",
			Run: func(t *T) {
				p := openMutual(t)
				s := p.seal(p.self(nil), false)
				frame := s.frame(0, "once")
				s.answered(p.send(frame), "once")
				p.refused(p.send(frame), protocol.Replayed)
			},
		}),
	}
}

// shown shows an object in a context of its own, and returns it.
func (p *peer) shown(bend func(*self)) *self {
	m := p.self(bend)
	m.whole = m.encode()
	s := p.seal(m, false)
	s.answered(s.send("shown"), "shown")
	return m
}

// shortLived opens a context with an object that lasts some three seconds, and
// waits until it is over.
func (p *peer) shortLived() (*self, *sealer) {
	m := p.self(func(m *self) { m.nbf, m.exp = m.nbf-300, m.nbf+3 })
	m.whole = m.encode()
	s := p.seal(m, false)
	r := s.send("short")
	if why := expiredAlready(r); why != "" {
		p.t.Untestable("the server's clock is ahead of this machine's, or it answers slowly: %s", why)
	}
	s.answered(r, "short")
	wait(p.t, time.Unix(m.exp, 0).Add(100*time.Millisecond))
	return m, s
}

func expiredAlready(r *wire.Reply) string {
	if r.Answer == nil || r.Answer.Error == nil || reasonOf(r) != protocol.ClientKeyRefused && reasonOf(r) != protocol.ClientKeyRequired {
		return ""
	}
	return why(r)
}
