package client

import (
	"bytes"
	"crypto/sha512"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// demanding has the client demand attestation in a scene.
func demanding(set func(*scene)) func(*scene) {
	return func(sc *scene) {
		sc.profile = "attested"
		if set != nil {
			set(sc)
		}
	}
}

// lying is a scene whose key objects have their attested half bent.
func lying(f func(*attesting)) func(*scene) {
	return bent(func(o *keyObject) { f(o.attest) })
}

// both twists of a scene.
func and(a, b func(*scene)) func(*scene) { return func(sc *scene) { a(sc); b(sc) } }

func fresh(sc *scene) { sc.fresh, sc.freshEvidence = true, true }

func gpus(n int) func(*scene) {
	return func(sc *scene) {
		sc.attest = func(a *attesting) { a.tee.GPUs = n }
		sc.rules = func(r *appraise.Rules) { r.TCB.Unknown = true } // of GPUs without reference manifests
	}
}

var theConfig = bytes.Repeat([]byte{0xc0}, 32)

// configured has the policy name the configuration of the honest server.
func configured(sc *scene) {
	sc.attest = func(a *attesting) { a.config = theConfig }
	sc.rules = func(r *appraise.Rules) { r.Config, r.ConfigRequired = []string{sprint("%x", theConfig)}, true }
}

// behind is a machine on firmware with known flaws, whatever collateral says so.
func behind(a *attesting) {
	svn := sim.DefaultSVN
	svn[0]--
	a.tee.TDX.Platform.SVN = &svn
}

// attestedCases are the servers in TEEs that a client must and must not use.
func attestedCases() []conformance.Case {
	const profile = conformance.ProfileAttested
	good := func(name, req, title, about string, set func(*scene), check func(*T, *result)) conformance.Case {
		return positiveOf(profile, name, req, title, about, both, demanding(set), check)
	}
	bad := func(name, req, title, twin string, set func(*scene)) conformance.Case {
		c := negativeOf(profile, name, req, title, twin, noSeal, both, demanding(set))
		c.Fix = "Verify both signatures, compute the report data from the claims, and have the evidence appraised, before anything is sealed to the key."
		return c
	}
	ev := func(name, req, title string, f func(*attesting)) conformance.Case {
		return bad(name, req, title, "call", lying(f))
	}
	drop := func(claims ...int64) func(*scene) {
		return bent(func(o *keyObject) { o.drop = claims })
	}
	claimed := func(key int64, v []byte) func(*scene) {
		return bent(func(o *keyObject) { o.claims[key] = v })
	}
	made := func(seconds int64) func(*attesting) {
		return func(a *attesting) { a.freshness = hand.MadeAt(time.Now().Unix() + seconds) }
	}
	binds := func(f func(*hand.Binding)) func(*attesting) { return func(a *attesting) { a.bound = f } }
	asking := func(r func() *remote) func(*scene) {
		return func(sc *scene) { sc.remote, sc.mutatesKey = r(), true }
	}
	return []conformance.Case{
		good("call", "TMCP-12.3-1", "a server with good evidence is used", "The server is in a simulated TEE that runs the code which the policy names.", nil, nil),
		good("fresh", "TMCP-4.6-8", "evidence for the client's nonce is accepted", "Told to ask for fresh evidence, the client asks by trust/attest and uses the key object in the answer.", fresh, func(t *T, r *result) {
			seen := map[string]bool{}
			for _, rec := range r.h.all() {
				if !asksEvidence(rec) {
					continue
				}
				nonce, _ := conformance.MemberText(rec.msg.Params, "nonce")
				if b, err := protocol.ParseBase64(nonce); err != nil || len(b) < 16 || seen[nonce] {
					t.Violate("the nonce %q is too short, or was used before (%v)", nonce, err)
				}
				seen[nonce] = true
			}
		}),
		good("config", "TMCP-18.2-2", "a server with the configuration that the policy names is used", "The evidence binds a configuration digest, and the policy names it.", configured, nil),
		composite(),
		good("remote-verifier", "TMCP-19.6-5", "a result of the remote verifier that affirms is accepted", "Told by TMCP_VERIFIER, the client has the evidence appraised by a verifier that the suite hosts.", func(sc *scene) { sc.remote = &remote{} }, nil),
		good("own-key-not-shown", "TMCP-8.7-1", "a client with a key of its own does not show it where nobody asks", "The client is given a key; the server's clientKey is none.", func(sc *scene) { sc.clientKey = true }, func(t *T, r *result) {
			r.eachOpen(func(f *protocol.Frame) {
				if f.ClientKey != nil {
					t.Violate("an open frame holds a client key of %d bytes", len(f.ClientKey))
				}
			})
		}),
		good("evidence-ends", "TMCP-12.3-4", "nothing is sealed to a server beyond the end of its evidence", "The evidence of the first key object is two hours old within two seconds, while the object itself is valid for ten minutes; the client must then ask for a newer one.", ending, expiringSeen),

		bad("identity-only", "TMCP-4.7-4", "a server without a TEE is refused", "call", func(sc *scene) { sc.server, sc.mutatesKey = "identity", true }),
		bad("claims-identity", "TMCP-5.4-12", "a key object that claims profile identity is refused, whatever it shows", "call", lying(func(a *attesting) { a.profile = "identity" })),
		bad("profile-unknown", "TMCP-12.2-1", "a profile that nobody knows is not taken for a stronger one", "call", lying(func(a *attesting) { a.profile = "super-attested" })),
		bad("evidence-missing", "TMCP-18.1-1", "an attested key without evidence is refused", "call", drop(hand.ClaimEvidence)),
		bad("freshness-missing", "TMCP-18.1-1", "evidence without freshness is refused", "call", drop(hand.ClaimFreshness)),
		bad("attested-key-missing", "TMCP-18.1-1", "evidence without an attested key is refused", "call", drop(hand.ClaimAttestedKey)),
		bad("freshness-form", "TMCP-18.1-2", "freshness of a form that nobody knows is refused", "call", claimed(hand.ClaimFreshness, []byte{0x82, 4, 0x41, 1})),
		bad("config-short", "TMCP-18.1-2", "a configuration digest of 16 bytes is refused", "call", claimed(hand.ClaimConfig, blob(make([]byte, 16)))),
		ev("attested-signature-missing", "TMCP-5.4-12", "a key object that the attested key did not sign is refused", func(a *attesting) {
			a.sig = func(s *hand.Signature) { s.Bend = func([]byte) []byte { return nil } }
		}),
		ev("attested-signature-other", "TMCP-5.4-12", "a key object that another key signed in the attested key's place is refused (N14)", func(a *attesting) {
			a.sig = func(s *hand.Signature) { s.Key = newKey() }
		}),
		ev("attested-signature-altered", "TMCP-5.4-1", "an altered signature of the attested key is refused", func(a *attesting) {
			a.sig = func(s *hand.Signature) { s.Bend = func(b []byte) []byte { b[9] ^= 1; return b } }
		}),
		ev("signatures-swapped", "TMCP-5.2-3", "signatures in the other order are refused", func(a *attesting) { a.first = true }),

		ev("diverted-evidence", "TMCP-18.2-2", "evidence of the same code at another identity is refused (N01)", binds(func(b *hand.Binding) { b.Identity = "https://other.example/mcp" })),
		bad("diverted", "TMCP-5.4-3", "the genuine key object of another attested server is refused (N02)", "call", func(sc *scene) {
			sc.mutatesKey = true
			sc.opening = func(x *exchange, res Obj) {
				other, err := newHolder("https://other.example/mcp", x.h.trust.settings)
				if err != nil {
					panic(err)
				}
				other.attest = x.h.trust.attest
				res["_meta"].(Obj)[protocol.MetaKey] = protocol.Base64(other.object(nil, nil))
			}
		}),
		bad("leaked-attestation-key", "TMCP-5.4-8", "good evidence under an identity key that nobody pinned is refused", "call", bent(impostor)),
		ev("relayed", "TMCP-18.2-2", "the real server's evidence beside an attacker's attested key is refused (N03)", binds(func(b *hand.Binding) { b.Key = hand.COSEKey(make([]byte, 32)) })),
		ev("nonce-only", "TMCP-18.2-2", "evidence that binds a freshness and no key is refused (N11)", func(a *attesting) {
			a.data = func([64]byte) [64]byte { return sha512.Sum512(a.freshness) }
		}),
		ev("concatenated", "TMCP-18.2-1", "report data over members that are not framed is refused (N12)", func(a *attesting) {
			a.bound = func(b *hand.Binding) {
				plain := append(append([]byte{1}, b.Identity...), b.Key...)
				a.data = func([64]byte) [64]byte { return sha512.Sum512(append(plain, b.Freshness...)) }
			}
		}),
		ev("resplit", "TMCP-18.2-1", "a binding whose members were split elsewhere is refused (N12)", binds(func(b *hand.Binding) { // a‖bc for ab‖c
			b.Identity += string(b.Key[:1])
			b.Key = b.Key[1:]
		})),
		ev("unsigned-report-data", "TMCP-18.2-3", "report data that was written over the signed one is refused (N13)", func(a *attesting) {
			var want [64]byte
			a.data = func(d [64]byte) [64]byte { want = d; return mark }
			a.wrap = func(cmw []byte) []byte { return bytes.Replace(cmw, mark[:], want[:], 1) }
		}),
		ev("beside-report-data", "TMCP-18.2-3", "report data that stands beside evidence with zeros is refused (N13)", func(a *attesting) {
			var want [64]byte
			a.data = func(d [64]byte) [64]byte { want = d; return [64]byte{} }
			a.wrap = func(cmw []byte) []byte {
				m := records(cmw)
				m["cpu-endorsements-1"] = cmwRecord("application/octet-stream", want[:], 2)
				return collection(m)
			}
		}),
		ev("role", "TMCP-18.2-2", "evidence that was made for a client is refused (N10)", binds(func(b *hand.Binding) { b.Role = 2 })),
		ev("config-unbound", "TMCP-18.2-2", "a configuration digest that the evidence does not bind is refused", func(a *attesting) {
			a.config, a.bound = theConfig, func(b *hand.Binding) { b.Config = nil }
		}),
		ev("time-unbound", "TMCP-18.2-2", "a time of making that the evidence does not bind is refused", binds(func(b *hand.Binding) { b.Freshness = hand.MadeAt(1_700_000_000) })),

		bad("nonce-reused", "TMCP-4.6-8", "evidence for an earlier nonce is refused (N06)", "fresh", func(sc *scene) {
			fresh(sc)
			sc.nonceEvidence = func([]byte) []byte { return []byte("the nonce of another time") }
		}),
		bad("nonce-ignored", "TMCP-4.6-8", "evidence that was not made for the nonce is refused", "fresh", func(sc *scene) {
			fresh(sc)
			sc.nonceEvidence = func([]byte) []byte { return nil }
		}),
		ev("nonce-unasked", "TMCP-18.3-3", "evidence for a nonce that the client did not send is refused", func(a *attesting) { a.freshness = hand.ForNonce([]byte("someone else's nonce")) }),
		ev("stale", "TMCP-18.3-2", "evidence is refused from the second on in which it is two hours old (N07)", made(-2*3600)),
		ev("future", "TMCP-18.3-2", "evidence of the future is refused (N08)", made(120)),
		ev("epoch", "TMCP-18.3-5", "evidence of an epoch that nobody named is refused", func(a *attesting) { a.freshness = hand.InEpoch([]byte("last week")) }),

		ev("other-code", "TMCP-12.3-1", "a server that runs other code is refused", func(a *attesting) { a.tee.Image = evilImage }),
		ev("debug", "TMCP-12.3-1", "a TEE that can be read from outside is refused", func(a *attesting) { a.tee.Debug = true }),
		ev("out-of-date", "TMCP-12.3-1", "firmware with a known flaw is refused", behind),
		ev("revoked", "TMCP-12.3-1", "a platform whose key is revoked is refused", func(a *attesting) {
			a.tee.Name = "a machine whose key was extracted"
			_, serial, err := a.world.PCK(sim.Platform{Name: a.tee.Name})
			if err != nil {
				panic(err)
			}
			a.tee.Collateral.Revoked = append(a.tee.Collateral.Revoked, serial)
		}),
		ev("other-root", "TMCP-12.3-1", "evidence under a root that nobody trusts is refused", func(a *attesting) { a.world = sim.Other() }),
		bad("simulator-in-production", "TMCP-18.8-1", "a simulated TEE is refused under a policy for production (N20)", "call", func(sc *scene) { sc.production, sc.mutatesKey = true, true }),
		bad("config-missing", "TMCP-12.3-1", "a server that binds no configuration is refused where the policy names one (N16)", "config", func(sc *scene) {
			configured(sc)
			sc.attest, sc.mutatesKey = nil, true
		}),
		bad("config-other", "TMCP-12.3-1", "a server with another configuration is refused", "config", func(sc *scene) {
			configured(sc)
			sc.attest, sc.mutatesKey = func(a *attesting) { a.config = make([]byte, 32) }, true
		}),

		ev("type-unknown", "TMCP-18.4-2", "evidence of a type that nobody knows is refused", parts(func(_ *attesting, m map[string][]byte) {
			m["cpu"] = bytes.Replace(m["cpu"], []byte(evidence.TypeTDX), []byte("application/vnd.trustedmcp.tdx-quota"), 1)
		})),
		ev("type-swapped", "TMCP-18.4-2", "a TDX quote that is labelled as an SGX quote is refused", parts(func(_ *attesting, m map[string][]byte) {
			m["cpu"] = bytes.Replace(m["cpu"], []byte(evidence.TypeTDX), []byte(evidence.TypeSGX), 1)
		})),
		ev("second-cpu", "TMCP-18.4-3", "a set with a second CPU is refused", parts(func(_ *attesting, m map[string][]byte) { m["cpu-1"] = m["cpu"] })),
		ev("device-unknown", "TMCP-18.4-2", "a set with a device of an unknown type is refused, and not read without it", parts(func(_ *attesting, m map[string][]byte) {
			m["gpu-0"] = cmwRecord("application/vnd.example.gpu", []byte("trust me"), 4)
		})),
		ev("wrapper-bytes", "TMCP-18.4-1", "evidence in a byte string is refused", func(a *attesting) { a.wrap = blob }),
		ev("wrapper-ind", "TMCP-18.4-1", "a record with an ind of 0 is refused", parts(func(_ *attesting, m map[string][]byte) {
			m["cpu"][len(m["cpu"])-1] = 0
		})),
		ev("wrapper-empty", "TMCP-18.4-1", "an empty collection is refused", func(a *attesting) {
			a.wrap = func([]byte) []byte { return collection(map[string][]byte{"__cmwc_t": text(appraise.CollectionType)}) }
		}),
		bad("gpu-unbound", "TMCP-18.4-5", "a set with a GPU of another host is refused", "gpu", and(gpus(2), lying(func(a *attesting) {
			a.wrap = func(cmw []byte) []byte {
				m, other := records(cmw), records(a.quote(mark))
				m["gpu-0"] = other["gpu-0"]
				return collection(m)
			}
		}))),
		bad("gpu-swapped", "TMCP-18.4-5", "a set whose GPUs have changed places is refused", "gpu", and(gpus(2), lying(parts(func(_ *attesting, m map[string][]byte) {
			m["gpu-0"], m["gpu-1"] = m["gpu-1"], m["gpu-0"]
		})))),

		bad("verifier-gone", "TMCP-11.2-5", "nothing is sent when the verifier can't be reached (N24)", "remote-verifier", asking(func() *remote { return &remote{gone: true} })),
		bad("verifier-fails", "TMCP-19.6-5", "nothing is sent when the verifier answers with an error", "remote-verifier", asking(func() *remote {
			return &remote{bad: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }}
		})),
		bad("verifier-hangs", "TMCP-12.3-3", "nothing is sent when the verifier does not answer", "remote-verifier", and(asking(func() *remote {
			return &remote{bad: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
		}), func(sc *scene) { sc.patience = 45 * time.Second })),
		bad("verifier-foreign", "TMCP-19.6-1", "a result that another key signed is refused", "remote-verifier", asking(func() *remote { return &remote{foreign: true} })),
		bad("verifier-refuses", "TMCP-19.6-5", "a result that does not affirm is refused", "remote-verifier", asking(func() *remote { return &remote{strict: true} })),
	}
}

// composite is the positive case of sets. Not every client knows GPUs.
func composite() conformance.Case {
	c := define(conformance.ProfileAttested, "gpu", "TMCP-18.4-5", conformance.Case{Title: "a set of a CPU and two GPUs, bound together, is accepted", Eras: both,
		About: "A client that verifies no GPUs must refuse the set; then it is not held to this."})
	c.Run = func(t *T) {
		r := play(t, c.ID, demanding(gpus(2)))
		if !r.end.ok() && len(r.h.runs()) == 0 {
			t.NotApplicable("the client takes no evidence of GPUs: %s", r.end)
		}
		r.succeeded()
	}
	return c
}

// cmwRecord is a record of a CMW.
func cmwRecord(mediaType string, value []byte, ind uint64) []byte {
	return dcbor.AppendUint(append(dcbor.AppendText(dcbor.AppendArray(nil, 3), mediaType), blob(value)...), ind)
}

// ending serves a first key object whose evidence becomes two hours old soon, and
// holds the first sealed answer back until then.
func ending(sc *scene) {
	var first atomic.Pointer[protocol.ContextID]
	var ends time.Time
	sc.object = func(o *keyObject) {
		if ends.IsZero() {
			ends = time.Now().Add(1500 * time.Millisecond).Truncate(time.Second)
			o.attest.freshness = hand.MadeAt(ends.Unix() - 2*3600)
		}
	}
	sc.outer = holdUntil(&first, &ends)
}
