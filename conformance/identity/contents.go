package identity

import (
	"bytes"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// contents are messages whose seal is genuine, and whose inside is not.
func contents() []conformance.Case {
	malformed := reasons(protocol.MalformedContent)
	bad := func(name, req, title string, plain func(*hand.Content) []byte) conformance.Case {
		return byHand("content-"+name, req, title, malformed, nil, plain)
	}
	kind := func(name string, k uint64) conformance.Case {
		return bad("kind-"+name, "TMCP-6.6-3", "a content of kind "+name+" is refused under envelope", func(c *hand.Content) []byte {
			c.Kind = k
			return c.Encode()
		})
	}
	meta := func(name, req, title string, key uint64, value []byte) conformance.Case {
		return bad(name, req, title, func(c *hand.Content) []byte {
			c.Meta[key] = value
			return c.Encode()
		})
	}
	field := func(name, title, field, value string) conformance.Case {
		return meta(name, "TMCP-6.6-7", title, 2, modernFields("server/discover", [2]string{field, value}))
	}
	return []conformance.Case{
		define("by-hand", "TMCP-6.2-2", conformance.Case{
			Title: "a message that was sealed straight from the text is answered",
			About: "Seals one request by hand, from chapters 6 and 7 and HPKE alone, and opens the answer likewise. It is the accepted twin of contents that no library makes.",
			Fix:   "Compare labels, info, exported keys and associated data with sections 6.2 to 6.5; the test vectors hold each step.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				s.answered(p.send(s.frame(0, 0, true, message("by-hand").Encode())), 0, "by-hand")
			},
		}),
		define("answer-order", "TMCP-9.1-1", conformance.Case{
			Title: "the frames of an answer are numbered without a gap, and the last alone is final",
			About: "Seals three messages of one context by hand, one with an answer of several frames if the canary tool gives one, and checks number, final flag and salt of each answer frame.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				s.answered(p.send(s.frame(0, 0, true, message("a").Encode())), 0, "a")
				s.answered(p.send(s.frame(1, 0, true, message("b").Encode())), 1, "b")
				if tool := t.CanaryTool(); tool != "" {
					s.answered(p.send(s.frame(2, 0, true, toolCall("c", tool).Encode())), 2, "c")
				}
			},
		}),
		define("unknown-meta", "TMCP-6.6-2", conformance.Case{
			Title: "unknown keys of a content's meta are ignored", About: "Seals a message with the meta keys 77 and 1000, of a text and of nested arrays.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				c := message("unknown-meta")
				c.Meta[77] = dcbor.AppendText(nil, "new")
				c.Meta[1000] = []byte{0x82, 0x81, 0x01, 0xf6}
				s.answered(p.send(s.frame(0, 0, true, c.Encode())), 0, "unknown-meta")
			},
		}),
		kind("unknown", 99), kind("zero", 0), kind("end", hand.End), kind("http", hand.Head), kind("data", hand.Data), kind("raw", hand.Raw),
		bad("json", "TMCP-6.6-3", "a sealed JSON message without its content frame is refused", func(c *hand.Content) []byte { return c.Body }),
		bad("empty", "TMCP-6.6-3", "an empty plaintext is refused", func(*hand.Content) []byte { return []byte{} }),
		bad("trailing", "TMCP-2.3-1", "bytes after the content are refused", func(c *hand.Content) []byte { return append(c.Encode(), 0) }),
		bad("indefinite", "TMCP-2.3-1", "a content of indefinite length is refused", func(c *hand.Content) []byte {
			return append(append([]byte{0x9f}, c.Encode()[1:]...), 0xff)
		}),
		bad("short", "TMCP-6.6-3", "a content without body is refused", func(c *hand.Content) []byte {
			return dcbor.AppendMap(dcbor.AppendUint(dcbor.AppendArray(nil, 2), hand.Message), 0)
		}),
		bad("five", "TMCP-6.6-3", "a content of five items is refused", func(c *hand.Content) []byte {
			c.Padding = []byte{}
			b := append(c.Encode(), 0xf6)
			b[0] = 0x85
			return b
		}),
		bad("body-text", "TMCP-6.6-3", "a content whose body is text is refused", func(c *hand.Content) []byte {
			b := dcbor.AppendMap(dcbor.AppendUint(dcbor.AppendArray(nil, 3), hand.Message), 1)
			b = append(dcbor.AppendUint(b, 2), c.Meta[2]...)
			return dcbor.AppendText(b, string(c.Body))
		}),
		bad("meta-unsorted", "TMCP-2.3-1", "a meta whose keys are unsorted is refused", func(c *hand.Content) []byte {
			b := dcbor.AppendMap(dcbor.AppendUint(dcbor.AppendArray(nil, 3), hand.Message), 2)
			b = dcbor.AppendUint(dcbor.AppendUint(b, 77), 0)
			b = append(dcbor.AppendUint(b, 2), c.Meta[2]...)
			return dcbor.AppendBytes(b, c.Body)
		}),
		bad("meta-double", "TMCP-2.3-1", "a meta that has a key twice is refused", func(c *hand.Content) []byte {
			b := dcbor.AppendMap(dcbor.AppendUint(dcbor.AppendArray(nil, 3), hand.Message), 2)
			b = append(dcbor.AppendUint(b, 2), c.Meta[2]...)
			b = append(dcbor.AppendUint(b, 2), c.Meta[2]...)
			return dcbor.AppendBytes(b, c.Body)
		}),
		bad("padding", "TMCP-6.6-5", "padding that is not all zero is refused", func(c *hand.Content) []byte {
			c.Padding = append(make([]byte, 99), 1)
			return c.Encode()
		}),
		meta("status", "TMCP-6.6-3", "a status outside 100 to 599 is refused", 1, dcbor.AppendUint(nil, 99)),
		meta("target-type", "TMCP-6.6-3", "a target that is no text is refused", 3, dcbor.AppendUint(nil, 7)),
		meta("stream-false", "TMCP-6.6-3", "meta 9 with the value false is refused", 9, dcbor.AppendBool(nil, false)),
		meta("fields-shape", "TMCP-6.6-3", "a field that is no pair is refused", 2, dcbor.AppendText(dcbor.AppendArray(nil, 1), "accept")),
		meta("retry-shape", "TMCP-6.6-3", "a retry-of that is no array is refused", 8, dcbor.AppendUint(nil, 1)),
		field("field-upper", "a sealed field name with a capital is refused", "X-Upper", "v"),
		field("field-space", "a sealed field name with a space is refused", "x y", "v"),
		field("field-name-crlf", "a sealed field name with a line break is refused", "x\r\nevil", "v"),
		field("field-empty", "an empty field name is refused", "", "v"),
		field("field-crlf", "a sealed field value with a line break is refused", "x-value", "v\r\nevil: 1"),
		field("field-nul", "a sealed field value with a NUL is refused", "x-value", "v\x00"),

		define("retry-in-next", "TMCP-8.5-7", conformance.Case{
			Title: "a retry-of in a next frame is refused", Twin: "by-hand", About: "Puts retry-of into the second message of a context, and expects malformed-content.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				s.answered(p.send(s.frame(0, 0, true, message("a").Encode())), 0, "a")
				c := message("mutant")
				c.Meta[8] = retryOf(p.sealer(hand.Envelope, nil).ctx.ID, 0, p.who.Expires())
				p.refused(p.send(s.frame(1, 0, true, c.Encode())), protocol.MalformedContent)
			},
		}),
		define("retry-far", "TMCP-8.5-8", conformance.Case{
			Title: "a retry far beyond the window of its context is refused", Twin: "by-hand",
			About: "Opens a context, and from another one names as retry-of a seq of the first that lies 5000 ahead; expects replayed. Then the first context's next message must still be answered: its window has not moved.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				s.answered(p.send(s.frame(0, 0, true, message("a").Encode())), 0, "a")
				c := message("mutant")
				c.Meta[8] = retryOf(s.ctx.ID, 5000, p.who.Expires())
				r := p.send(p.sealer(hand.Envelope, nil).frame(0, 0, true, c.Encode()))
				s.answered(p.send(s.frame(1, 0, true, message("b").Encode())), 1, "b")
				p.refused(r, protocol.Replayed)
			},
		}),
		define("retry-old", "TMCP-8.5-9", conformance.Case{
			Title: "a retry of what was sealed to a key long gone is refused", Twin: "by-hand", About: "Names as retry-of a message that was sealed to a key object which expired two minutes ago; expects replayed.",
			Run: func(t *T) {
				p := open(t)
				c := message("mutant")
				c.Meta[8] = retryOf([16]byte{1, 2, 3}, 4, time.Now().Add(-2*time.Minute))
				p.refused(p.send(p.sealer(hand.Envelope, nil).frame(0, 0, true, c.Encode())), protocol.Replayed)
			},
		}),
		define("window", "TMCP-8.3-2", conformance.Case{
			Title: "messages arrive in any order within the window", About: "Sends seq 0, 1000, 3 and 999 of one context, and expects an answer to each.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				for _, seq := range []uint64{0, 1000, 3, 999} {
					s.answered(p.send(s.frame(seq, 0, true, message("w").Encode())), seq, "w")
				}
			},
		}),
		define("before-window", "TMCP-8.3-2", conformance.Case{
			Title: "a message from before the window is refused", Twin: "window", About: "Sends seq 0 and 5000 of one context, and then seq 1, which has never been sent but lies before the window; expects replayed.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				for _, seq := range []uint64{0, 5000} {
					s.answered(p.send(s.frame(seq, 0, true, message("w").Encode())), seq, "w")
				}
				p.refused(p.send(s.frame(1, 0, true, message("mutant").Encode())), protocol.Replayed)
			},
		}),
		define("too-large", "TMCP-7.1-4", conformance.Case{
			Title: "a message beyond the size bound is refused with too-large", Twin: "by-hand", Transports: httpOnly,
			About: "Seals a message of 9 MiB. A server with a greater bound answers it, and the case is then not applicable.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				c := message("mutant")
				c.Body = bytes.Replace(c.Body, []byte(`"params":{`), append(append([]byte(`"params":{"x":"`), bytes.Repeat([]byte("x"), 9<<20)...), `",`...), 1)
				r := p.send(s.frame(0, 0, true, c.Encode()))
				if r.Answer != nil && r.Answer.Result != nil {
					s.answered(r, 0, "")
					t.NotApplicable("its size bound lies above 9 MiB")
				}
				for _, m := range r.Messages { // the id may stand beyond the bound (section 10.1)
					if r.Answer == nil && m.Error != nil && (m.ID == "" || m.ID == "null") {
						r.Answer = m
					}
				}
				p.refused(r, protocol.TooLarge)
			},
		}),
	}
}

func retryOf(id [16]byte, seq uint64, expires time.Time) []byte {
	b := dcbor.AppendBytes(dcbor.AppendArray(nil, 3), id[:])
	return dcbor.AppendUint(dcbor.AppendUint(b, seq), uint64(expires.Unix()))
}

// toolCall is a sealed call of a tool without arguments.
func toolCall(id, tool string) *hand.Content {
	body := conformance.JSON(Obj{"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": Obj{"name": tool, "arguments": Obj{}, "_meta": modernMeta()}})
	return &hand.Content{Kind: hand.Message, Meta: map[uint64][]byte{2: modernFields("tools/call", [2]string{"mcp-name", conformance.HeaderValue(tool)})}, Body: body}
}

// commitments are contexts that commit to something else than the server's own
// view.
func commitments() []conformance.Case {
	failed := reasons(protocol.OpenFailed)
	info := func(name, req, title string, f func(*sealer)) conformance.Case {
		return byHand("info-"+name, req, title, failed, f, nil)
	}
	at := func(name, req, title string, f func(*hand.Place)) conformance.Case {
		return define("aad-"+name, req, conformance.Case{
			Title: title, Twin: "by-hand", About: "Seals the twin's message by hand under associated data with this one thing changed, and expects open-failed.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(hand.Envelope, nil)
				place := hand.Place{Carrier: hand.Envelope, Final: true}
				f(&place)
				frame := s.place(place, message("mutant").Encode())
				if place.Final { // what stands in the frame is what the twin says
					p.refused(p.send(frame), failed...)
					return
				}
				g, err := hand.ParseFrame(frame)
				if err != nil {
					t.Failf("%v", err)
				}
				g.Final = true
				p.refused(p.send(g.Encode()), failed...)
			},
		})
	}
	settingsOf := func(text string) func(*sealer) {
		return func(s *sealer) {
			b, err := dcbor.FromJSON(nil, []byte(text))
			if err != nil {
				s.p.t.Failf("%v", err)
			}
			s.mine = b
		}
	}
	const suites = `"suites":["mlkem768x25519-sha256-aes256gcm"]`
	return []conformance.Case{
		info("role", "TMCP-6.2-1", "a context of the other role does not open", func(s *sealer) { s.info.Role = 1 }),
		info("label", "TMCP-6.2-1", "a context under another label does not open", func(s *sealer) { s.info.Label = "org.trustedmcp/trust v2 seal" }),
		info("server-settings", "TMCP-6.2-2", "a context that commits to other server settings does not open", func(s *sealer) { s.info.Server[0] ^= 1 }),
		info("client-settings", "TMCP-6.2-1", "a context that commits to other client settings than its frame does not open", func(s *sealer) { s.info.Client = hand.Hash(s.mine) }),
		at("labels", "TMCP-7.7-1", "labels in the associated data do not open", func(p *hand.Place) { p.Labels = []byte{0xa0} }),
		at("tool", "TMCP-7.4-4", "a tool in the associated data does not open under envelope", func(p *hand.Place) { p.Tool = hand.Tool("canary", [32]byte{}) }),
		at("carrier", "TMCP-6.5-1", "a message that was sealed for inline does not open under envelope", func(p *hand.Place) { p.Carrier = hand.Inline }),
		at("final", "TMCP-6.5-1", "a final flag that was set on the way does not open", func(p *hand.Place) { p.Final = false }),
		byHand("revision-inside", "TMCP-4.8-5", "a message of another revision than its context is refused", reasons(protocol.NegotiationMismatch),
			func(s *sealer) { s.info.Revision = "2025-06-18" }, nil),
		byHand("client-carriers", "TMCP-4.8-7", "a carrier that the client's settings do not list is refused", reasons(protocol.NegotiationMismatch),
			settingsOf(`{"version":1,"profiles":["identity"],"carriers":["http"],`+suites+`,"mode":"required"}`), nil),
		byHand("client-profile", "TMCP-10.2-2", "a client that has no profile in common is refused", reasons(protocol.ProfileRefused, protocol.NegotiationMismatch),
			settingsOf(`{"version":1,"profiles":["org.trustedmcp.example/other"],"carriers":["envelope"],`+suites+`,"mode":"required"}`), nil),
		byHand("settings-version-2", "TMCP-4.1-6", "client settings of another version are refused", reasons(protocol.UnsupportedVersion),
			settingsOf(`{"version":2,"profiles":["identity"],"carriers":["envelope"],`+suites+`,"mode":"required"}`), nil),
		byHand("settings-member", "TMCP-4.2-7", "client settings without a required member are refused", reasons(protocol.MalformedFrame, protocol.NegotiationMismatch, protocol.MalformedContent),
			settingsOf(`{"version":1,"profiles":["identity"],"carriers":["envelope"],`+suites+`}`), nil),
		byHand("settings-type", "TMCP-4.2-7", "client settings with a member of another type are refused", reasons(protocol.MalformedFrame, protocol.NegotiationMismatch, protocol.MalformedContent),
			settingsOf(`{"version":1,"profiles":"identity","carriers":["envelope"],`+suites+`,"mode":"required"}`), nil),
		byHand("settings-unsorted", "TMCP-2.3-1", "client settings that are not deterministic CBOR are refused", reasons(protocol.MalformedFrame, protocol.NegotiationMismatch),
			func(s *sealer) { // the same members, one of them in a longer head
				s.mine = bytes.Replace(s.mine, []byte("\x67version\x01"), []byte("\x67version\x18\x01"), 1)
			}, nil),
	}
}
