package identity

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

var modernOnly, legacyOnly = []conformance.Era{conformance.Modern}, []conformance.Era{conformance.Legacy}

func negotiation() []conformance.Case {
	member := func(name, req, title string, ok func(p *peer, v []byte) string) conformance.Case {
		return define("settings-"+name, req, conformance.Case{
			Title: title, About: "Looks at the member of the settings object that the server advertises.",
			Run: func(t *T) {
				p := open(t)
				v := conformance.Member(p.settings.JSON(), name)
				if why := ok(p, v); v == nil || why != "" {
					t.Violate("the member %s is %s %s", name, conformance.Short(v), why)
				}
			},
		})
	}
	lists := func(want ...string) func(*peer, []byte) string {
		return func(_ *peer, v []byte) string {
			have, ok := conformance.Strings(v)
			if !ok || len(have) == 0 {
				return "(not a list of strings)"
			}
			for _, w := range want {
				if !strings.Contains(" "+strings.Join(have, " ")+" ", " "+w+" ") {
					return "(lacks " + w + ")"
				}
			}
			return ""
		}
	}
	return []conformance.Case{
		define("advertised", "TMCP-4.1-1", conformance.Case{
			Title: "the settings stand where capabilities are stated",
			About: "Reads capabilities.extensions of server/discover or initialize.",
			Run: func(t *T) {
				for _, e := range eras { // a server that offers trust in one era must in the other
					if i := t.Survey().Of(e); e != t.Era() && i.Has("extensions", protocol.ExtensionID) && !t.Survey().Of(t.Era()).Has("extensions", protocol.ExtensionID) {
						t.Violate("the %s era shows the extension, the %s era does not", e, t.Era())
					}
				}
				open(t)
			},
		}),
		define("advertised-twice", "TMCP-4.1-2", conformance.Case{
			Title: "in the legacy era the same settings stand in experimental, too", Eras: legacyOnly,
			About: "Compares the digests of both settings objects in the answer to initialize.",
			Run: func(t *T) {
				p := open(t)
				raw := conformance.Member(p.result, "capabilities", "experimental", protocol.ExtensionID)
				if raw == nil {
					t.Violate("capabilities.experimental has no %s", protocol.ExtensionID)
				}
				s, err := protocol.ParseSettings(raw)
				if err != nil || s.Digest() != p.settings.Digest() {
					t.Violate("capabilities.experimental differs: %s (%v)", conformance.Short(raw), err)
				}
			},
		}),
		member("version", "TMCP-4.2-1", "the settings' version is 1", func(_ *peer, v []byte) string {
			if string(v) != "1" {
				return "(not 1)"
			}
			return ""
		}),
		member("profiles", "TMCP-4.2-2", "the settings name profile identity or one that includes it", func(p *peer, v []byte) string {
			for _, one := range []string{"identity", "attested", "mutual"} {
				if lists(one)(p, v) == "" {
					return ""
				}
			}
			return "(lacks identity)"
		}),
		member("carriers", "TMCP-12.1-4", "the settings list the carrier envelope", lists("envelope")),
		member("suites", "TMCP-4.2-4", "the settings list the mandatory suite", lists("mlkem768x25519-sha256-aes256gcm")),
		member("mode", "TMCP-4.2-5", "the settings' mode is required or preferred", func(p *peer, _ []byte) string {
			if m := p.settings.Offer().Mode; m != protocol.ModeRequired && m != protocol.ModePreferred {
				return "(neither)"
			}
			return ""
		}),
		define("discover-ungated", "TMCP-4.4-1", conformance.Case{
			Title: "server/discover is answered to a client that knows nothing of trust", Eras: modernOnly,
			About: "Sends server/discover without the extension in the client capabilities, and expects settings and key object all the same.",
			Run: func(t *T) {
				open(t)
				res := t.Session().Result(Call{Method: "server/discover"})
				if conformance.Member(res, "capabilities", "extensions", protocol.ExtensionID) == nil {
					t.Violate("without the client's offer the server shows no settings")
				}
			},
		}),
		define("discover-key", "TMCP-4.4-2", conformance.Case{
			Title: "server/discover holds a key object that verifies", Eras: modernOnly,
			About: "Verifies the key object against the key that it shows.",
			Run:   func(t *T) { open(t) },
		}),
		define("initialize-key", "TMCP-4.5-1", conformance.Case{
			Title: "initialize holds settings and a key object that verifies", Eras: legacyOnly,
			About: "Verifies the key object against the key that it shows.",
			Run:   func(t *T) { open(t) },
		}),
		define("discover-no-nonce", "TMCP-4.4-3", conformance.Case{
			Title: "the key object of server/discover carries no nonce", Eras: modernOnly,
			About: "Asks for a nonce in vain: looks at claim 10 of the cacheable key object, after an attest request with a nonce.",
			Run: func(t *T) {
				p := open(t)
				p.attest([]byte("0123456789abcdef"))
				q := open(t)
				if q.shown.Nonce != nil {
					t.Violate("the key object has the nonce %x", q.shown.Nonce)
				}
			},
		}),
		define("discover-ttl", "TMCP-4.4-4", conformance.Case{
			Title: "the ttlMs of server/discover ends with the key object", Eras: modernOnly,
			About: "Compares ttlMs with the remaining validity; two seconds are allowed for clocks and the wire.",
			Run: func(t *T) {
				p := open(t)
				ttl, _ := wire.Int(conformance.Member(p.result, "ttlMs"))
				if left := time.Until(p.who.Expires()) + 2*time.Second; time.Duration(ttl)*time.Millisecond > left {
					t.Violate("ttlMs is %d, the key object is valid for another %s", ttl, left)
				}
			},
		}),
		define("discover-tells-nothing", "TMCP-4.4-5", conformance.Case{
			Title: "in mode required server/discover tells nothing of the inner server", Eras: modernOnly,
			About: "Looks for other capabilities and for instructions.",
			Run:   func(t *T) { tellsNothing(t) },
		}),
		define("initialize-tells-nothing", "TMCP-4.5-4", conformance.Case{
			Title: "in mode required initialize tells nothing of the inner server", Eras: legacyOnly,
			About: "Looks for other capabilities.",
			Run:   func(t *T) { tellsNothing(t) },
		}),
	}
}

// required ends the case unless the server announces mode required.
func (p *peer) required() {
	if p.settings.Offer().Mode != protocol.ModeRequired {
		p.t.NotApplicable("the server's mode is %s", p.settings.Offer().Mode)
	}
}

func tellsNothing(t *T) {
	p := open(t)
	p.required()
	err := jsonrpc.Members(conformance.Member(p.result, "capabilities"), func(name string, v jsontext.Value) error {
		if name != "extensions" && name != "experimental" {
			t.Violate("the capability %s stands outside the seal", name)
		}
		return nil
	})
	if err != nil {
		t.Violate("capabilities: %v", err)
	}
	if conformance.Member(p.result, "instructions") != nil {
		t.Violate("instructions stand outside the seal")
	}
}

// attest asks for a key object with a nonce.
func (p *peer) attest(nonce []byte) []byte {
	res := p.s.Result(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": protocol.Base64(nonce)}, Meta: p.declare()})
	text, _ := conformance.MemberText(res, "key")
	object, err := protocol.ParseBase64(text)
	if err != nil {
		p.t.Failf("the answer to trust/attest holds no key object: %s", conformance.Short(res))
	}
	return object
}

func keyObject() []conformance.Case {
	look := func(name, req, title string, f func(t *T, p *peer)) conformance.Case {
		return define("key-"+name, req, conformance.Case{
			Title: title, About: "Takes the key object apart that the server hands out.",
			Run: func(t *T) { f(t, open(t)) },
		})
	}
	nonce := []byte("a nonce of our own, 32 bytes long")[:32]
	badNonce := func(name string, n int) conformance.Case {
		return define("attest-nonce-"+name, "TMCP-4.6-3", conformance.Case{
			Title: fmt.Sprintf("a nonce of %d bytes is refused", n), Twin: "attest",
			About: "Asks trust/attest with such a nonce, and expects malformed-content.",
			Run: func(t *T) {
				p := open(t)
				p.refused(p.s.Do(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": protocol.Base64(make([]byte, n))}, Meta: p.declare()}), protocol.MalformedContent)
			},
		})
	}
	return []conformance.Case{
		look("deterministic", "TMCP-5.1-1", "the key object is deterministic CBOR throughout", func(t *T, p *peer) {}),
		look("times", "TMCP-5.3-1", "the key object says when it is valid", func(t *T, p *peer) {
			if p.shown.Expires.IsZero() || p.shown.NotBefore.IsZero() || p.shown.Issued.IsZero() {
				t.Violate("exp, nbf or iat is absent")
			}
		}),
		look("validity", "TMCP-5.6-1", "the key object is valid for an hour at most", func(t *T, p *peer) {
			if d := p.shown.Expires.Sub(p.shown.NotBefore); d > time.Hour {
				t.Violate("it is valid for %s", d)
			}
		}),
		look("suites", "TMCP-5.3-3", "the key object has a key for suite 1", func(t *T, p *peer) {
			if len(p.shown.Suites) == 0 || p.shown.Suites[0] != protocol.SuiteHybrid {
				t.Violate("its suites are %v", p.shown.Suites)
			}
		}),
		look("identity-profile", "TMCP-12.1-1", "a key object of profile identity has one signature and no evidence", func(t *T, p *peer) {
			if p.shown.Profile != protocol.ProfileIdentity {
				t.NotApplicable("its profile is %s", p.shown.Profile)
			}
			if len(p.shown.Algorithms) != 1 || p.shown.Evidence != nil || p.shown.AttestedKey != nil {
				t.Violate("it has %d signatures, %d bytes of evidence", len(p.shown.Algorithms), len(p.shown.Evidence))
			}
		}),
		define("attest", "TMCP-4.6-2", conformance.Case{
			Title: "trust/attest returns a key object with the nonce", About: "Asks with a nonce of 32 bytes, and verifies the answer for it.",
			Run: func(t *T) {
				p := open(t)
				p.verify(p.attest(nonce), nonce)
			},
		}),
		define("attest-ungated", "TMCP-4.6-1", conformance.Case{
			Title: "trust/attest is answered to a client that declared nothing", About: "Asks without the extension in the client capabilities.",
			Run: func(t *T) {
				p := open(t)
				p.s.Result(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": protocol.Base64(nonce)}})
			},
		}),
		define("attest-same-keys", "TMCP-5.6-6", conformance.Case{
			Title: "a key object for a nonce names the current keys and exp", About: "Compares it with the one of the discovery just before; a renewal in between is allowed for by a second try.",
			Run: func(t *T) {
				p := open(t)
				for range 2 {
					with := p.verify(p.attest(nonce), nonce)
					without := open(t).who
					if with.Expires().Equal(without.Expires()) {
						return
					}
				}
				t.Violate("the two expire at different times")
			},
		}),
		badNonce("short", 7), badNonce("long", 65),
		define("attest-trust-error", "TMCP-10.1-2", conformance.Case{
			Title: "a trust error names extension and reason", Twin: "attest", About: "Provokes malformed-content, and looks at error.data.",
			Run: func(t *T) {
				p := open(t)
				r := p.s.Do(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": "AA"}, Meta: p.declare()})
				if r.Answer == nil {
					t.Violate("no answer%s", p.s.Hint(r))
				}
				if ext, _ := conformance.MemberText(r.Answer.Error, "data", "extension"); ext != protocol.ExtensionID {
					t.Violate("error.data is %s", conformance.Short(conformance.Member(r.Answer.Error, "data")))
				}
				p.refused(r, protocol.MalformedContent)
			},
		}),
		define("trust-error-200", "TMCP-10.1-3", conformance.Case{
			Title: "trust errors go out with HTTP 200", Twin: "attest", Transports: httpOnly, About: "Provokes malformed-content, and looks at the HTTP status.",
			Run: func(t *T) {
				p := open(t)
				r := p.s.Do(Call{Method: protocol.MethodAttest, Params: Obj{"nonce": "AA"}, Meta: p.declare()})
				if r.Status != 200 {
					t.Violate("the HTTP status is %d", r.Status)
				}
				p.refused(r, protocol.MalformedContent)
			},
		}),
	}
}
