package identity

import (
	"bytes"
	"crypto/rand"
	"strings"
	"sync"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// frames are the mutants of one sealed frame.
func frames() []conformance.Case {
	malformed := reasons(protocol.MalformedFrame)
	mismatch := reasons(protocol.OpenFailed, protocol.NegotiationMismatch)
	failed := reasons(protocol.OpenFailed)
	text := func(name, req, title string, f func(string) any) conformance.Case {
		return define(name, req, conformance.Case{
			Title: title, Twin: "call", About: "Changes the text form of the twin's frame, and expects malformed-frame.",
			Run: func(t *T) {
				p := open(t)
				_, frame := p.seal(p.content("mutant"))
				c := p.outer(frame)
				c.Params = Obj{}
				if v := f(protocol.Base64(frame)); v != nil {
					c.Params["frame"] = v
				}
				p.refused(p.s.Do(c), malformed...)
			},
		})
	}
	return []conformance.Case{
		text("frame-absent", "TMCP-7.3-8", "trust/call without a frame is refused", func(string) any { return nil }),
		text("frame-number", "TMCP-7.3-8", "a frame that is no string is refused", func(string) any { return 7 }),
		text("frame-empty", "TMCP-7.3-8", "an empty frame is refused", func(string) any { return "" }),
		text("frame-padded", "TMCP-2.3-3", "base64url with padding is refused", func(s string) any { return s + strings.Repeat("=", 1+(len(s)+3)%4) }),
		text("frame-alphabet", "TMCP-2.3-3", "base64 of the other alphabet is refused", func(s string) any { return "+/" + s[2:] }),
		text("frame-newline", "TMCP-2.3-3", "base64url with a line break is refused", func(s string) any { return s[:8] + "\n" + s[8:] }),
		negative("cbor-truncated", "TMCP-7.1-1", "a frame that is cut short is refused", malformed, func(_ *peer, f []byte) []byte { return f[:len(f)-1] }),
		negative("cbor-trailing", "TMCP-2.3-1", "bytes after the frame are refused", malformed, func(_ *peer, f []byte) []byte { return append(f, 0) }),
		negative("cbor-indefinite", "TMCP-2.3-1", "an array of indefinite length is refused", malformed, func(_ *peer, f []byte) []byte {
			return append(append([]byte{0x9f}, f[1:]...), 0xff)
		}),
		negative("cbor-not-shortest", "TMCP-2.3-1", "a head that is not shortest is refused", malformed, func(_ *peer, f []byte) []byte {
			return append([]byte{f[0], 0x18, f[1]}, f[2:]...)
		}),
		negative("cbor-not-array", "TMCP-7.1-1", "CBOR that is no array is refused", malformed, func(*peer, []byte) []byte { return []byte{0xa0} }),
		negative("cbor-deep", "TMCP-2.3-2", "a deeply nested frame is refused", malformed, func(*peer, []byte) []byte { return bytes.Repeat([]byte{0x81}, 100_000) }),
		negative("cbor-huge-length", "TMCP-2.3-2", "a declared length beyond the input is refused", malformed, func(*peer, []byte) []byte {
			return []byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
		}),
		negative("answer-frame", "TMCP-7.1-1", "an answer frame where a request is expected is refused", malformed, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Type, g.Salt = 3, make([]byte, 16) })
		}),
		negative("frame-type", "TMCP-7.1-1", "a frame of an unknown type is refused", malformed, func(_ *peer, f []byte) []byte {
			return append([]byte{f[0], 9}, f[2:]...)
		}),
		negative("short-enc", "TMCP-7.1-3", "an encapsulated key of another length is refused", reasons(protocol.MalformedFrame, protocol.OpenFailed), func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Enc = g.Enc[:len(g.Enc)-1] })
		}),
		negative("ciphertext", "TMCP-6.5-2", "a changed ciphertext does not open", failed, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Ciphertext = flip(g.Ciphertext) })
		}),
		negative("mlkem-half", "TMCP-6.1-2", "a changed ML-KEM ciphertext does not open", failed, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Enc = flip(g.Enc) })
		}),
		negative("x25519-half", "TMCP-6.1-2", "a changed X25519 share does not open", failed, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) {
				g.Enc = bytes.Clone(g.Enc)
				g.Enc[len(g.Enc)-16] ^= 1
			})
		}),
		negative("x25519-low-order", "TMCP-6.1-2", "an X25519 share of low order does not open", failed, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) {
				g.Enc = bytes.Clone(g.Enc)
				clear(g.Enc[len(g.Enc)-32:])
			})
		}),
		negative("not-final", "TMCP-6.5-1", "a rewritten final flag does not open", reasons(protocol.OpenFailed, protocol.OutOfOrder, protocol.MalformedContent, protocol.MalformedFrame), func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Final = false })
		}),
		negative("unknown-key", "TMCP-8.6-1", "a frame for another key is refused with the current key object", reasons(protocol.UnknownKey), func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.KeyDigest[0] ^= 1 })
		}),
		negative("suite-unknown", "TMCP-4.8-4", "a suite that was not offered is refused", reasons(protocol.UnsupportedSuite, protocol.MalformedFrame), func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Suite = 23 })
		}),
		negative("settings-rewritten", "TMCP-6.2-1", "rewritten client settings in the frame do not open", mismatch, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) {
				g.ClientSettings = settings(p.t, protocol.Offer{Mode: protocol.ModePreferred}).CBOR()
			})
		}),
		negative("revision-rewritten", "TMCP-4.8-5", "a rewritten revision does not open", mismatch, func(p *peer, f []byte) []byte {
			return p.bend(f, func(g *protocol.Frame) { g.Revision = "2025-06-18" })
		}),
		negative("client-key-added", "TMCP-8.7-3", "a client key that nobody asked for is refused", reasons(protocol.ClientKeyRefused, protocol.OpenFailed), func(p *peer, f []byte) []byte {
			if k := p.settings.Offer().ClientKey; k == protocol.ClientKeyAccepted || k == protocol.ClientKeyDemanded {
				p.t.NotApplicable("the server takes client key objects")
			}
			return p.bend(f, func(g *protocol.Frame) { g.ClientKey = bytes.Repeat([]byte{7}, 32) })
		}),
		define("errors-alike", "TMCP-10.1-5", conformance.Case{
			Title: "causes of open-failed can't be told apart", Twin: "call", About: "Compares the errors for a changed ciphertext and a changed encapsulation.",
			Run: func(t *T) {
				p := open(t)
				var errs []string
				var last *wire.Reply
				for _, f := range []func(*protocol.Frame){
					func(g *protocol.Frame) { g.Ciphertext = flip(g.Ciphertext) },
					func(g *protocol.Frame) { g.Enc = flip(g.Enc) },
				} {
					_, frame := p.seal(p.content("mutant"))
					last = p.send(p.bend(frame, f))
					if last.Answer == nil {
						t.Violate("no answer%s", p.s.Hint(last))
					}
					errs = append(errs, string(last.Answer.Error))
				}
				if errs[0] != errs[1] {
					t.Violate("%s differs from %s", errs[0], errs[1])
				}
				p.refused(last, protocol.OpenFailed)
			},
		}),
	}
}

// negotiated are the mutants of what both sides agreed on.
func negotiated() []conformance.Case {
	return []conformance.Case{
		define("settings-outside", "TMCP-4.8-2", conformance.Case{
			Title: "client settings outside that differ from those inside are refused", Twin: "call", Eras: modernOnly,
			About: "Declares other settings in _meta than those that the frame was sealed with.",
			Run: func(t *T) {
				p := open(t)
				_, frame := p.seal(p.content("mutant"))
				p.mine = settings(t, protocol.Offer{Mode: protocol.ModePreferred})
				p.refused(p.send(frame), protocol.NegotiationMismatch)
			},
		}),
		define("suite-rewrite", "TMCP-4.8-3", conformance.Case{
			Title: "a weaker suite than the settings yield is refused", Twin: "by-hand",
			About: "Seals by hand with suite 2, while the client's settings prefer suite 1: what a client would send to which a relay had shown suite 2 alone.",
			Run: func(t *T) {
				p := open(t)
				if !hasSuite(p.settings, protocol.SuiteX25519) {
					t.NotApplicable("the server offers suite 1 alone, so nothing can be weakened")
				}
				s := p.sealer(hand.Envelope, func(s *sealer) { s.info.Suite = 2 })
				p.refused(p.send(s.frame(0, 0, true, message("mutant").Encode())), protocol.NegotiationMismatch)
			},
		}),
		define("carrier-moved", "TMCP-6.5-1", conformance.Case{
			Title: "a frame sealed for another carrier does not open", Twin: "call",
			About: "Seals for the http carrier, and sends the frame in an envelope.",
			Run: func(t *T) {
				p := open(t)
				if !hasCarrier(p.settings, protocol.HTTP) {
					t.NotApplicable("the server does not offer the http carrier")
				}
				_, frame, err := p.client.Seal(protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "POST", Target: "/", Fields: fields("server/discover")}, Body: p.content("mutant").Body}, protocol.Outer{Carrier: protocol.HTTP}, now())
				if err != nil {
					t.Failf("sealing: %v", err)
				}
				p.refused(p.send(frame), protocol.OpenFailed)
			},
		}),
		define("outer-name", "TMCP-7.3-5", conformance.Case{
			Title: "trust/call with an Mcp-Name header is refused", Twin: "call", Transports: httpOnly, About: "Adds Mcp-Name: echo to the twin's request.",
			Run: func(t *T) {
				p := open(t)
				_, frame := p.seal(p.content("mutant"))
				c := p.outer(frame)
				c.Header = map[string]string{"Mcp-Name": "echo"}
				p.refused(p.s.Do(c), protocol.OuterMismatch)
			},
		}),
		define("outer-param", "TMCP-7.3-5", conformance.Case{
			Title: "trust/call with an Mcp-Param header is refused", Twin: "call", Transports: httpOnly, About: "Adds Mcp-Param-Region: here to the twin's request.",
			Run: func(t *T) {
				p := open(t)
				_, frame := p.seal(p.content("mutant"))
				c := p.outer(frame)
				c.Header = map[string]string{"Mcp-Param-Region": "here"}
				p.refused(p.s.Do(c), protocol.OuterMismatch)
			},
		}),
		define("outer-method", "TMCP-14.1-2", conformance.Case{
			Title: "an Mcp-Method that differs from trust/call is refused with -32020", Twin: "call", Transports: httpOnly, Eras: modernOnly, About: "Sends Mcp-Method: tools/list with the twin's request.",
			Run: func(t *T) {
				p := open(t)
				_, frame := p.seal(p.content("mutant"))
				c := p.outer(frame)
				c.Header = map[string]string{"Mcp-Method": "tools/list"}
				p.refusedCode(p.s.Do(c), 400, jsonrpc.CodeHeaderMismatch)
			},
		}),
	}
}

// refusedCode judges a refusal that MCP's own codes tell.
func (p *peer) refusedCode(r *wire.Reply, status int, code int64) {
	if r.Answer == nil || r.Answer.Error == nil {
		p.t.Violate("it was not answered with an error%s", p.s.Hint(r))
	}
	if got, _ := r.Answer.Code(); got != code {
		p.t.Violate("the error is %s, expected code %d", conformance.Short(r.Answer.Error), code)
	}
	if p.t.HTTP() && r.Status != status {
		p.t.Violate("the HTTP status is %d, expected %d", r.Status, status)
	}
	p.t.Refused("error %d", code)
	p.t.Reached(r.SeenSeq)
	p.t.NoEffect("the answer carries no result")
}

// replays are messages that come twice, or in a context that is not there.
func replays() []conformance.Case {
	return []conformance.Case{
		define("replay-open", "TMCP-8.4-2", conformance.Case{
			Title: "an open frame is accepted once", Twin: "call", About: "Sends the frame of an answered call again, under a new id.",
			Run: func(t *T) {
				p := open(t)
				call, frame := p.seal(p.content("once"))
				p.response(p.opened(call, p.send(frame)), "once")
				p.refused(p.send(frame), protocol.Replayed)
			},
		}),
		define("replay-other-connection", "TMCP-8.4-1", conformance.Case{
			Title: "an open frame is accepted once, whatever the connection", Twin: "call", Transports: httpOnly, About: "Sends the frame of an answered call again on another connection.",
			Run: func(t *T) {
				p := open(t)
				call, frame := p.seal(p.content("once"))
				p.response(p.opened(call, p.send(frame)), "once")
				open(t).refused(open(t).send(frame), protocol.Replayed)
			},
		}),
		define("replay-race", "TMCP-8.4-4", conformance.Case{
			Title: "of two copies sent at once one runs", Twin: "call", About: "Sends the same open frame four times without waiting: exactly one is answered with a frame, the others as replayed.",
			Run: func(t *T) {
				p := open(t)
				_, frame := p.seal(p.content("race"))
				replies, errs := make([]*wire.Reply, 4), make([]error, 4)
				var wg sync.WaitGroup
				for i := range replies {
					wg.Go(func() { replies[i], errs[i] = p.s.Try(p.outer(frame)) })
				}
				wg.Wait()
				ran := 0
				var other *wire.Reply
				for i, r := range replies {
					switch {
					case errs[i] != nil:
						t.Violate("copy %d: %v", i, errs[i])
					case len(p.frames(r)) > 0:
						ran++
					default:
						other = r
					}
				}
				if ran != 1 || other == nil {
					t.Violate("%d copies ran", ran)
				}
				p.refused(other, protocol.Replayed)
			},
		}),
		define("replay-next", "TMCP-8.3-1", conformance.Case{
			Title: "a message of a warm context is accepted once", Twin: "warm", About: "Sends a next frame that was answered again.",
			Run: func(t *T) {
				p := open(t)
				p.exchange("cold")
				call, frame := p.seal(p.content("warm"))
				p.response(p.opened(call, p.send(frame)), "warm")
				p.refused(p.send(frame), protocol.Replayed)
			},
		}),
		define("unmarked", "TMCP-8.3-3", conformance.Case{
			Title: "a forged frame does not use up its number", Twin: "warm", About: "Sends a next frame with a changed ciphertext, which must not open, and then the genuine one, which must be answered.",
			Run: func(t *T) {
				p := open(t)
				p.exchange("cold")
				call, frame := p.seal(p.content("genuine"))
				p.refused(p.send(p.bend(frame, func(g *protocol.Frame) { g.Ciphertext = flip(g.Ciphertext) })), protocol.OpenFailed)
				p.response(p.opened(call, p.send(frame)), "genuine")
			},
		}),
		define("seq-rewritten", "TMCP-6.5-1", conformance.Case{
			Title: "a rewritten number does not open", Twin: "warm", About: "Changes seq of a next frame.",
			Run: func(t *T) {
				p := open(t)
				p.exchange("cold")
				_, frame := p.seal(p.content("mutant"))
				p.refused(p.send(p.bend(frame, func(g *protocol.Frame) { g.Seq++ })), protocol.OpenFailed)
			},
		}),
		define("chunk-first", "TMCP-9.1-9", conformance.Case{
			Title: "a message that begins with its second chunk is refused", Twin: "warm", About: "Sets n of a next frame to 1.",
			Run: func(t *T) {
				p := open(t)
				p.exchange("cold")
				_, frame := p.seal(p.content("mutant"))
				p.refused(p.send(p.bend(frame, func(g *protocol.Frame) { g.N = 1 })), protocol.OutOfOrder, protocol.OpenFailed)
			},
		}),
		define("unknown-context", "TMCP-8.2-3", conformance.Case{
			Title: "a message of an unknown context is refused", Twin: "warm", About: "Changes the context id of a next frame.",
			Run: func(t *T) {
				p := open(t)
				p.exchange("cold")
				_, frame := p.seal(p.content("mutant"))
				p.refused(p.send(p.bend(frame, func(g *protocol.Frame) { _, _ = rand.Read(g.Context[:]) })), protocol.UnknownContext)
			},
		}),
		define("retry-executed", "TMCP-8.5-2", conformance.Case{
			Title: "a retry of what has run is refused", Twin: "call", About: "After an answer, seals the same message again as a retry of it.",
			Run: func(t *T) {
				p := open(t)
				call, frame := p.seal(p.content("run"))
				p.response(p.opened(call, p.send(frame)), "run")
				_, again, err := p.client.SealAgain(call, p.content("run"), envelope, now())
				if err != nil {
					t.Failf("sealing again: %v", err)
				}
				p.refused(p.send(again), protocol.Replayed)
			},
		}),
	}
}

// plaintext are the calls that a server in mode required must not serve.
func plaintext() []conformance.Case {
	plain := func(name, req, title string, es []conformance.Era, declared bool, c Call) conformance.Case {
		return define(name, req, conformance.Case{
			Title: title, Twin: "call", Eras: es, About: "Sends " + c.Method + " in plaintext to a server that announces mode required.",
			Run: func(t *T) {
				p := open(t)
				p.required()
				call := c
				if tool := t.CanaryTool(); tool != "" && c.Method == "tools/call" {
					call.Params = Obj{"name": tool, "arguments": Obj{}}
				}
				if declared {
					call.Meta = p.declare()
				}
				r := p.s.Do(call)
				if declared || t.Era() == conformance.Legacy {
					p.refused(r, protocol.TrustRequired)
					return
				}
				p.refusedCode(r, 400, jsonrpc.CodeMissingCapability)
				if conformance.Member(r.Answer.Error, "data", "requiredCapabilities", "extensions", protocol.ExtensionID) == nil {
					t.Violate("error.data does not name the extension: %s", conformance.Short(r.Answer.Error))
				}
			},
		})
	}
	tool := Call{Method: "tools/call", Params: Obj{"name": "canary", "arguments": Obj{}}}
	return []conformance.Case{
		plain("plaintext-undeclared", "TMCP-11.3-2", "a plaintext call by a client that knows nothing of trust is refused with -32021", modernOnly, false, tool),
		plain("plaintext-list-undeclared", "TMCP-11.3-1", "a plaintext listing by such a client is refused", modernOnly, false, Call{Method: "tools/list"}),
		plain("plaintext-call", "TMCP-11.3-3", "a plaintext call by a client that offers trust is refused", eras, true, tool),
		plain("plaintext-list", "TMCP-11.3-3", "a plaintext listing by such a client is refused", eras, true, Call{Method: "tools/list"}),
		plain("plaintext-read", "TMCP-11.3-3", "a plaintext read by such a client is refused", eras, true, Call{Method: "resources/read", Params: Obj{"uri": "file:///secret"}}),
		plain("plaintext-unknown", "TMCP-11.3-3", "a plaintext request of an unknown method is refused", eras, true, Call{Method: "org.trustedmcp/no-such-method"}),
		define("ping", "TMCP-11.3-5", conformance.Case{
			Title: "a plaintext ping is answered", Eras: legacyOnly, About: "Sends ping after the outer initialize.",
			Run: func(t *T) { open(t).s.Result(Call{Method: "ping"}) },
		}),
	}
}

func hasSuite(s *protocol.Settings, want protocol.Suite) bool {
	for _, x := range s.Offer().Suites {
		if x == want {
			return true
		}
	}
	return false
}

func hasCarrier(s *protocol.Settings, want protocol.Carrier) bool {
	for _, x := range s.Offer().Carriers {
		if x == want {
			return true
		}
	}
	return false
}
