package attested

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/protocol"
)

func attested(name, id string, c conformance.Case) conformance.Case {
	return define(conformance.ProfileAttested, name, id, c)
}

func freshNonce() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

// shown are the cases about what a server shows of its TEE.
func shown() []conformance.Case {
	look := func(name, id, title, about string, f func(t *T, p *peer)) conformance.Case {
		return attested(name, id, conformance.Case{Title: title, About: about, Run: func(t *T) { f(t, open(t)) }})
	}
	return []conformance.Case{
		look("evidence", "TMCP-12.3-1", "the server's evidence is accepted", "Verifies the key object with both signatures, and has the evidence appraised by what the flags say.", func(t *T, p *peer) {
			if who := p.verify(p.raw, nil, false); who.Appraisal() == nil {
				t.Violate("no evidence was appraised")
			}
		}),
		look("binding", "TMCP-18.2-1", "the evidence binds role, identity, attested key, configuration and freshness",
			"Computes the report data by hand from the claims, and has the evidence appraised for it; where it is refused, tries which member is not bound.", bound),
		look("second-signature", "TMCP-5.2-3", "the key object has the identity's signature and then the attested key's", "Reads the names of the signatures, and verifies both by hand.", func(t *T, p *peer) {
			if got := fmt.Sprint(p.object.Kids); got != "[identity attested]" {
				t.Violate("the signatures are named %s", got)
			}
			if err := p.object.VerifyAttested(); err != nil {
				t.Violate("%v", err)
			}
		}),
		look("claims", "TMCP-18.1-1", "attested key, evidence and freshness stand together", "Looks for the three claims.", func(t *T, p *peer) {
			for name, c := range map[string]int64{"attested key": hand.ClaimAttestedKey, "evidence": hand.ClaimEvidence, "freshness": hand.ClaimFreshness} {
				if p.object.Claims[c] == nil {
					t.Violate("the claim %s (%d) is missing", name, c)
				}
			}
		}),
		look("freshness-form", "TMCP-18.1-2", "the freshness has one of its three forms", "Reads claim -70008 by hand.", func(t *T, p *peer) {
			kind, _, v := p.object.Freshness()
			if kind < 1 || kind > 3 || kind == 2 && (len(v) < 8 || len(v) > 64) || kind == 3 && (len(v) < 1 || len(v) > 64) {
				t.Violate("freshness is %x", p.object.Claims[hand.ClaimFreshness])
			}
			if c, has := p.object.Bytes(hand.ClaimConfig), p.object.Claims[hand.ClaimConfig] != nil; has && len(c) != 32 {
				t.Violate("the configuration digest has %d bytes", len(c))
			}
		}),
		look("freshness-recent", "TMCP-18.3-2", "the evidence is recent", "Compares the time at which the evidence was made with the suite's clock.", func(t *T, p *peer) {
			kind, at, _ := p.object.Freshness()
			if kind != 1 {
				t.NotApplicable("the evidence is of freshness kind %d", kind)
			}
			switch age := time.Since(time.Unix(int64(at), 0)); {
			case age > 2*time.Hour:
				t.Violate("the evidence is %s old", age.Round(time.Second))
			case age < -time.Minute:
				t.Violate("the evidence was made %s ahead of this machine's clock", -age.Round(time.Second))
			}
		}),
		look("freshness-hourly", "TMCP-18.3-1", "the evidence is renewed within the hour", "Looks whether the evidence is older than an hour, and five minutes for key objects that were made before.", func(t *T, p *peer) {
			if kind, at, _ := p.object.Freshness(); kind == 1 {
				if age := time.Since(time.Unix(int64(at), 0)); age > 65*time.Minute {
					t.Violate("the evidence is %s old", age.Round(time.Second))
				}
			}
		}),
		look("freshness-cacheable", "TMCP-4.4-3", "the evidence in a cacheable key object is for nobody's nonce", "Asks for new evidence for a nonce, and then looks at the key object of the discovery.", func(t *T, p *peer) {
			p.attest(freshNonce(), true)
			if kind, _, v := open(t).object.Freshness(); kind == 2 {
				t.Violate("the evidence was made for the nonce %x: every other client must refuse it", v)
			}
		}),
		look("wrapper", "TMCP-18.4-1", "the evidence stands in a CMW in deterministic CBOR", "Reads claim 299 as RFC 9999 has it.", func(t *T, p *peer) {
			w, err := cmw.ParseCBOR(p.object.Claims[hand.ClaimEvidence])
			if err != nil {
				t.Violate("claim 299: %v", err)
			}
			found := false
			_ = w.Walk(func(_ cmw.Path, r *cmw.Record) error {
				found = found || r.Ind == cmw.Evidence || r.Ind == cmw.AttestationResults
				return nil
			})
			if !found {
				t.Violate("no record in it says that it is evidence (ind 4) or an attestation result (ind 8)")
			}
		}),
		look("evidence-size", "TMCP-18.4-6", "the evidence is not larger than allowed", "Measures claim 299.", func(t *T, p *peer) {
			if n := len(p.object.Claims[hand.ClaimEvidence]); n > protocol.MaxEvidence {
				t.Violate("it has %d bytes", n)
			}
		}),
		look("attested-key-own", "TMCP-18.1-4", "the attested key is no other key of the server", "Compares it with the identity key.", func(t *T, p *peer) {
			if id := p.object.Claims[hand.ClaimIdentityKey]; id != nil && bytes.Equal(id, p.object.Claims[hand.ClaimAttestedKey]) {
				t.Violate("the identity key is the attested key, too: either it was made in the TEE, and is lost with it, or the attested key was not")
			}
		}),
		look("profile-offered", "TMCP-4.2-2", "the settings offer the profile that the key object claims", "Looks for claim -70002 in the settings, or a stronger one.", func(t *T, p *peer) {
			have := p.settings.Offer().Profiles
			if claim := protocol.Profile(p.object.Text(hand.ClaimProfile)); !contains(have, claim) {
				t.Violate("the key object claims %s, the settings offer %v", claim, have)
			}
		}),
		look("profile-honest", "TMCP-12.4-2", "a server that claims profile mutual demands client key objects", "Looks at clientKey in the settings.", func(t *T, p *peer) {
			if want := p.settings.Offer().ClientKey; p.object.Text(hand.ClaimProfile) == "mutual" && want != protocol.ClientKeyDemanded {
				t.Violate("the key object claims mutual, and clientKey is %q", want)
			}
		}),
		attested("attest", "TMCP-4.6-2", conformance.Case{
			Title: "trust/attest returns an attested key object with the nonce", About: "Asks with a nonce and without \"evidence\": a new signature of the attested key over the nonce shows that the TEE is alive.",
			Run: func(t *T) {
				p := open(t)
				n := freshNonce()
				p.verify(p.attest(n, false), n, false)
			},
		}),
		attested("attest-fresh", "TMCP-4.6-7", conformance.Case{
			Title: "asked for fresh evidence, the server has its TEE vouch for the nonce", About: "Asks with \"evidence\":\"fresh\" and two nonces. Each answer's evidence must be of kind 2, for that nonce, and accepted.",
			Run: func(t *T) {
				p := open(t)
				for range 2 {
					n := freshNonce()
					object := p.attest(n, true)
					if kind, _, v := p.parse(object).Freshness(); kind != 2 || !bytes.Equal(v, n) {
						t.Violate("the evidence is of kind %d, for %x", kind, v)
					}
					p.verify(object, n, true)
				}
			},
		}),
		attested("attest-fresh-same-keys", "TMCP-5.6-6", conformance.Case{
			Title: "a key object with fresh evidence names the current HPKE keys and exp", About: "Compares it with the one of the discovery just before; a renewal in between is allowed for by a second try.",
			Run: func(t *T) {
				p := open(t)
				for range 2 {
					with, without := p.parse(p.attest(freshNonce(), true)), open(t).object
					if bytes.Equal(with.Claims[hand.ClaimKeys], without.Claims[hand.ClaimKeys]) && with.Uint(hand.ClaimExp) == without.Uint(hand.ClaimExp) {
						return
					}
				}
				t.Violate("keys or exp differ")
			},
		}),
		attested("attest-fresh-nonce-short", "TMCP-4.6-3", conformance.Case{
			Title: "a nonce of 7 bytes is refused with fresh evidence, too", Twin: "attest-fresh", About: "Asks with such a nonce, and expects malformed-content: no quote is made for it.",
			Run: func(t *T) {
				p := open(t)
				p.refused(p.s.Do(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": protocol.Base64(make([]byte, 7)), "evidence": "fresh"}, Meta: p.declare()}), protocol.MalformedContent)
			},
		}),
		attested("inline-attest", "TMCP-4.6-2", conformance.Case{
			Title: "an inline attest request is answered with an attested key object", About: "Asks by a tools/call of the canary tool, with a nonce.", Transports: httpOnly,
			Run: func(t *T) {
				p := open(t)
				n := freshNonce()
				p.verify(p.attestInline(n, false), n, false)
			},
		}),
		attested("inline-attest-fresh", "TMCP-4.6-7", conformance.Case{
			Title: "an inline attest request for fresh evidence gets it", About: "Asks by a tools/call of the canary tool, with \"evidence\":\"fresh\".", Transports: httpOnly,
			Run: func(t *T) {
				p := open(t)
				n := freshNonce()
				object := p.attestInline(n, true)
				if kind, _, v := p.parse(object).Freshness(); kind != 2 || !bytes.Equal(v, n) {
					t.Violate("the evidence is of kind %d, for %x", kind, v)
				}
				p.verify(object, n, true)
			},
		}),
		attested("call", "TMCP-12.3-2", conformance.Case{
			Title: "a message that is sealed to the attested server is answered", About: "Verifies and appraises the key object, seals an ordinary request to it by hand, without a client key, and opens the answer.",
			Run: func(t *T) {
				p := open(t)
				if p.settings.Offer().ClientKey == protocol.ClientKeyDemanded {
					t.NotApplicable("the server demands a client key object; profile mutual tries that")
				}
				p.verify(p.raw, nil, false)
				s := p.seal(nil, false)
				s.answered(s.send("call"), "call")
			},
		}),
		attested("attest-fresh-bounded", "TMCP-18.3-4", conformance.Case{
			Title: "the server bounds how often it makes evidence for nonces", Last: true,
			About: "Asks 64 times at once for fresh evidence, where a host makes some 25 quotes a second. Some must be answered with busy.",
			Run:   func(t *T) { unbounded(open(t)) },
		}),
	}
}

// bound judges what the evidence binds.
func bound(t *T, p *peer) {
	a := p.appraiser()
	right := p.object.Binding()
	if len(right.Key) == 0 || len(right.Freshness) == 0 {
		t.Violate("attested key or freshness is missing")
	}
	try := func(b hand.Binding) error {
		pb := protocol.Binding{Role: protocol.Role(b.Role), Identity: b.Identity, Key: b.Key, Config: b.Config}
		_, err := a.Appraise(t.Context(), protocol.Evidence{CMW: p.object.Claims[hand.ClaimEvidence], ReportData: b.ReportData(), Binding: pb, Now: time.Now()})
		return err
	}
	err := try(right)
	if err == nil {
		return
	}
	other := func(f func(*hand.Binding)) hand.Binding {
		b := right
		f(&b)
		return b
	}
	for what, b := range map[string]hand.Binding{
		"the role client":            other(func(b *hand.Binding) { b.Role = 2 }),
		"no identity":                other(func(b *hand.Binding) { b.Identity = "" }),
		"the identity key":           other(func(b *hand.Binding) { b.Key = p.object.Claims[hand.ClaimIdentityKey] }),
		"no configuration":           other(func(b *hand.Binding) { b.Config = nil }),
		"another time of its making": other(func(b *hand.Binding) { b.Freshness = hand.MadeAt(int64(p.object.Uint(hand.ClaimIat))) }),
	} {
		if try(b) == nil {
			t.Violate("the evidence is genuine and binds %s; report data must be over the claims of the key object", what)
		}
	}
	t.Violate("the evidence is refused for the report data of section 18.2: %v", err)
}

// unbounded asks for more evidence than any host makes.
func unbounded(p *peer) {
	t := p.t
	const asks = 64
	replies := make([]*wire.Reply, asks)
	errs := make([]error, asks)
	var wg sync.WaitGroup
	for i := range asks {
		wg.Go(func() {
			replies[i], errs[i] = p.s.Try(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": protocol.Base64(freshNonce()), "evidence": "fresh"}, Meta: p.declare()})
		})
	}
	wg.Wait()
	made := 0
	for i, r := range replies {
		switch {
		case errs[i] != nil || r.Answer == nil:
			t.Violate("ask %d was not answered: %v", i, errs[i])
		case r.Answer.Result != nil:
			text, _ := conformance.MemberText(r.Answer.Result, "key")
			object, err := protocol.ParseBase64(text)
			if err != nil {
				t.Violate("ask %d: no key object", i)
			}
			if kind, _, _ := p.parse(object).Freshness(); kind == 2 {
				made++
			}
		case reasonOf(r) == protocol.Busy:
			return
		default:
			t.Violate("ask %d was answered with %s, expected evidence or busy", i, why(r))
		}
	}
	if made == 0 {
		t.NotApplicable("the server makes no evidence for nonces")
	}
	t.Weakness("%d of %d asks at once got new evidence, and none was answered with busy: nothing shows that the rate is bounded", made, asks)
}
