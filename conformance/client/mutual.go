package client

import (
	"crypto/ed25519"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/protocol"
)

// demandingMutual has the client demand, and show, attestation in a scene.
func demandingMutual(set func(*scene)) func(*scene) {
	return func(sc *scene) {
		sc.profile = "mutual"
		if set != nil {
			set(sc)
		}
	}
}

// mutualCases are what a client shows of itself, and to whom it must not.
func mutualCases() []conformance.Case {
	const profile = conformance.ProfileMutual
	good := func(name, req, title, about string, set func(*scene), check func(*T, *result)) conformance.Case {
		return positiveOf(profile, name, req, title, about, both, demandingMutual(set), check)
	}
	bad := func(name, req, title string, g guard, set func(*scene)) conformance.Case {
		return negativeOf(profile, name, req, title, "call", g, both, demandingMutual(set))
	}
	return []conformance.Case{
		good("call", "TMCP-8.7-9", "the client shows a key object and proves that it holds its key", "The server demands one. The first message of each context must carry a proof by the attested key, over the context and both key digests.", nil, proven),
		good("key-object", "TMCP-18.2-1", "the client's key object verifies, with its evidence", "Verifies the client's key object as a server must: its identity, settings, role and evidence.", nil, whoCalled),
		good("by-value-first", "TMCP-8.7-11", "a server that does not know the digest is shown the object by value", "The suite's server forgets the client's object once; the client must seal afresh by value.", forgetful, func(t *T, r *result) {
			if n := r.count("tools/call"); n < 1 {
				t.Violate("the call was not sealed again")
			}
		}),
		good("retry-by-value", "TMCP-8.7-11", "a message that is sealed again shows the object by value", "The server loses the context once, and answers unknown-context.", lostContext, func(t *T, r *result) {
			r.eachOpenOf(func(o *opened, f *protocol.Frame) {
				if o.retry != nil && len(f.ClientKey) <= len(protocol.Digest{}) {
					t.Violate("the message that was sealed again shows its key object by digest")
				}
			})
		}),
		bad("attested-only", "TMCP-4.7-4", "a server that demands nothing of its clients is refused where mutual is demanded", noSeal, func(sc *scene) {
			sc.server, sc.mutatesKey = "attested", true
		}),
		bad("reflected", "TMCP-18.2-2", "the client's own evidence, shown by the server, is refused (N10)", noPlain, onCall(func(x *exchange) {
			mine, err := hand.ParseObject(x.o.ctx.clientKey)
			if err != nil {
				x.h.problem("the client's key object: %v", err)
				return
			}
			x.reflect(func(o *keyObject) {
				o.attest.evidence, o.attest.freshness, o.attest.config = mine.Claims[hand.ClaimEvidence], mine.Claims[hand.ClaimFreshness], mine.Bytes(hand.ClaimConfig)
			})
		})),
		bad("reflected-object", "TMCP-5.4-2", "the client's own key object is refused as the server's", noPlain, onCall(func(x *exchange) {
			x.h.forbid(keyDigest(x.o.ctx.clientKey))
			x.trustError(protocol.UnknownKey, x.o.ctx.clientKey)
		})),
		bad("renewed-other-code", "TMCP-8.6-2", "the evidence in a key object from an error is appraised like any other", noPlain, onCall(func(x *exchange) {
			x.reflect(func(o *keyObject) { o.attest.tee.Image = evilImage })
		})),
		bad("refused-by-server", "TMCP-11.1-2", "a client that the server refuses does not try without its key, or in the clear", noPlain, onCall(func(x *exchange) {
			x.trustError(protocol.ClientKeyRefused, nil)
		})),
	}
}

// reflect answers that the key is unknown, with a key object that is bent.
func (x *exchange) reflect(f func(*keyObject)) {
	object := x.h.trust.object(nil, f)
	x.h.forbid(keyDigest(object))
	x.trustError(protocol.UnknownKey, object)
}

// forgetful is a server that forgets the client's key object once, when it is
// shown by digest, and else with its contexts.
func forgetful(sc *scene) {
	var done atomic.Bool
	sc.outer = func(x *exchange) bool {
		if !x.target() || !done.CompareAndSwap(false, true) {
			return false
		}
		x.mark()
		x.h.trust.mu.Lock()
		clear(x.h.trust.shown)
		clear(x.h.trust.contexts)
		x.h.trust.mu.Unlock()
		x.trustError(protocol.ClientKeyRequired, nil)
		return true
	}
}

// eachOpenOf is eachOpen with what was in the frame.
func (r *result) eachOpenOf(f func(*opened, *protocol.Frame)) {
	for _, rec := range r.h.all() {
		if o := rec.opened; o != nil && !o.warm {
			if g, err := protocol.InspectFrame(o.frame); err == nil {
				f(o, g)
			}
		}
	}
}

// proven judges the proofs of possession.
func proven(t *T, r *result) {
	r.eachOpenOf(func(o *opened, f *protocol.Frame) {
		if o.ctx.clientKey == nil {
			t.Violate("an open frame shows no client key")
		}
		object, err := hand.ParseObject(o.ctx.clientKey)
		if err != nil {
			t.Violate("the client's key object: %v", err)
		}
		key := object.Claims[hand.ClaimAttestedKey]
		if key == nil {
			key = object.Claims[hand.ClaimIdentityKey]
		}
		if len(o.proof) == 0 {
			t.Violate("the first message of a context with a client key has no proof of possession")
		}
		if err := hand.VerifyKey(key, hand.Possession(o.ctx.id, f.KeyDigest, keyDigest(o.ctx.clientKey)), o.proof); err != nil {
			t.Violate("the proof of possession: %v", err)
		}
	})
}

// whoCalled verifies the client's key object.
func whoCalled(t *T, r *result) {
	p, err := appraise.NewRules(appraise.Rules{Name: "client under test", Development: true, ReferenceValues: "optional", TCB: appraise.TCBRules{Unknown: true}})
	if err != nil {
		t.Failf("%v", err)
	}
	a, err := appraise.New(appraise.Config{Policy: p, Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(evidence.TDX), Verifiers: verifiers.For(p.Rules())})
	if err != nil {
		t.Failf("%v", err)
	}
	pin, err := protocol.PublicKeyThumbprint(r.h.self.Public().(ed25519.PublicKey))
	if err != nil {
		t.Failf("%v", err)
	}
	r.eachOpenOf(func(o *opened, f *protocol.Frame) {
		settings, err := protocol.ParseSettings(toJSON(t, f.ClientSettings))
		if err != nil {
			t.Violate("the client settings in the frame: %v", err)
		}
		if !slices.Contains(settings.Offer().Profiles, protocol.ProfileMutual) {
			t.Violate("the client's settings offer %v", settings.Offer().Profiles)
		}
		_, err = protocol.VerifyKeyObject(o.ctx.clientKey, protocol.Expect{Identity: selfURI, Anchor: protocol.Pin(pin), Settings: settings, Now: time.Now(), Role: protocol.RoleClient,
			Profile: protocol.ProfileAttested, Appraiser: a})
		if err != nil {
			t.Violate("the client's key object: %v", err)
		}
	})
}
