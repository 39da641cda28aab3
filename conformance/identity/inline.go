package identity

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// riding is a server that is spoken to by the carrier inline.
type riding struct {
	*peer
	tool *protocol.Tool // as the server itself knows it
}

// ride opens a server and asks for its canary tool's own name and digest.
func ride(t *T) *riding {
	p := open(t)
	if !hasCarrier(p.settings, protocol.Inline) {
		t.NotApplicable("the server does not offer the inline carrier")
	}
	if t.CanaryTool() == "" {
		t.Untestable("name a harmless tool by --canary-tool: calls of a tool can't be tried without one")
	}
	_, tool := p.attestInline(t.CanaryTool(), nil)
	return &riding{p, tool}
}

var inlineNonce = []byte("a nonce of ours for a tool call!")

// attestInline asks by a tools/call for key object and tool.
func (p *peer) attestInline(tool string, more Obj) (jsontext.Value, *protocol.Tool) {
	params := Obj{"name": tool}
	for k, v := range more {
		params[k] = v
	}
	c := Call{Method: "tools/call", Params: params, Meta: p.with(protocol.MetaAttest, Obj{"nonce": protocol.Base64(inlineNonce)})}
	res := p.s.Result(c)
	got, err := protocol.ParseTool(conformance.Member(res, "_meta", protocol.MetaTool))
	if err != nil {
		p.t.Failf("the answer to an inline attest request does not tell the tool: %v", err)
	}
	text, _ := conformance.MemberText(res, "_meta", protocol.MetaKey)
	object, err := protocol.ParseBase64(text)
	if err != nil || text == "" {
		p.t.Failf("the answer to an inline attest request holds no key object")
	}
	p.verify(object, inlineNonce)
	return res, got
}

// with is the _meta of an outer message with one more member.
func (p *peer) with(key string, value any) Obj {
	meta := Obj{key: value}
	for k, v := range p.declare() {
		meta[k] = v
	}
	return meta
}

func (r *riding) sealer() *sealer {
	s := r.peer.sealer(hand.Inline, nil)
	s.tool = hand.Tool(r.tool.Name, [32]byte(r.tool.Digest))
	return s
}

// outer is the tools/call that carries frames; said is the tool that it names
// as the one which it is sealed to.
func (r *riding) outer(name string, said *protocol.Tool, frames ...[]byte) Call {
	var texts []string
	for _, f := range frames {
		texts = append(texts, protocol.Base64(f))
	}
	meta := r.with(protocol.MetaFrames, texts)
	if said != nil {
		meta[protocol.MetaTool] = jsontext.Value(said.JSON())
	}
	return Call{Method: "tools/call", Params: Obj{"name": name}, Meta: meta}
}

func (r *riding) send(f []byte) *wire.Reply { return r.s.Do(r.outer(r.tool.Name, r.tool, f)) }

// carried are the frames in the _meta of a result.
func (p *peer) carried(r *wire.Reply) [][]byte {
	if r.Answer == nil || r.Answer.Result == nil {
		why := p.s.Hint(r)
		if r.Answer != nil {
			why = ": " + conformance.Short(r.Answer.Error)
		}
		p.t.Failf("the sealed call was not answered with a result%s", why)
	}
	texts, ok := conformance.Strings(conformance.Member(r.Answer.Result, "_meta", protocol.MetaFrames))
	if !ok || len(texts) == 0 {
		p.t.Failf("the result carries no frames in _meta[%q]: %s", protocol.MetaFrames, conformance.Short(r.Answer.Result))
	}
	var frames [][]byte
	for _, text := range texts {
		b, err := protocol.ParseBase64(text)
		if err != nil {
			p.t.Failf("an answer frame is not canonical base64url: %v", err)
		}
		frames = append(frames, b)
	}
	return frames
}

// rode opens the answer to an inline message.
func (s *sealer) rode(r *wire.Reply, seq uint64, id string) *wire.Message {
	out, err := s.ctx.OpenAnswer(s.p.carried(r), hand.Inline, seq)
	if err != nil {
		s.p.t.Violate("%v", err)
	}
	return s.p.inner(out, id)
}

// bare holds a result of tools/call to showing nothing outside its frames.
func bare(t *T, res jsontext.Value) {
	if items, ok := conformance.Items(conformance.Member(res, "content")); !ok || len(items) > 0 {
		t.Violate("content is %s, expected []", conformance.Short(conformance.Member(res, "content")))
	}
	if err := jsonrpc.Members(res, func(name string, v jsontext.Value) error {
		if !slices.Contains([]string{"content", "resultType", "_meta"}, name) {
			t.Violate("the member %s stands outside the seal: %s", name, conformance.Short(v))
		}
		return nil
	}); err != nil {
		t.Violate("%v", err)
	}
}

func listing(id string) *hand.Content {
	return &hand.Content{Kind: hand.Message, Meta: map[uint64][]byte{2: modernFields("tools/list")},
		Body: conformance.JSON(Obj{"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": Obj{"_meta": modernMeta()}})}
}

// list asks for the tools by a sealed listing.
func (p *peer) list(id string) (outer, inner jsontext.Value) {
	s := p.sealer(hand.Inline, nil)
	r := p.s.Do(Call{Method: "tools/list", Meta: p.with(protocol.MetaFrames, []string{protocol.Base64(s.frame(0, 0, true, listing(id).Encode()))})})
	return r0(p, r), s.rode(r, 0, id).Result
}

func r0(p *peer, r *wire.Reply) jsontext.Value {
	p.carried(r)
	return r.Answer.Result
}

func inline() []conformance.Case {
	mismatch := reasons(protocol.OuterMismatch)
	over := func(name, req string, c conformance.Case) conformance.Case {
		c.Transports = httpOnly // over stdio nothing stands in between that would need it
		return define("inline-"+name, req, c)
	}
	mutant := func(name, req, title, about string, reasons []protocol.Reason, run func(r *riding, s *sealer) Call) conformance.Case {
		return over(name, req, conformance.Case{Title: title, Twin: "inline-call", About: about, Run: func(t *T) {
			r := ride(t)
			r.refused(r.s.Do(run(r, r.sealer())), reasons...)
		}})
	}
	other := func(r *riding) string { // another tool of this server
		_, res := r.list("other")
		items, _ := conformance.Items(conformance.Member(res, "tools"))
		for _, it := range items {
			if name, _ := conformance.MemberText(it, "name"); name != "" && name != r.tool.Name {
				return name
			}
		}
		r.t.NotApplicable("the server has one tool only")
		return ""
	}
	return []conformance.Case{
		over("attest", "TMCP-7.4-3", conformance.Case{
			Title: "an attest request on a tools/call is answered with key object and tool",
			About: "Sends a tools/call with a nonce in _meta, verifies the key object for it, and looks for the tool's own name and digest.",
			Run:   func(t *T) { ride(t) },
		}),
		over("attest-not-run", "TMCP-7.4-2", conformance.Case{
			Title: "an attest request does not run the tool, whatever else it holds",
			About: "Sends an attest request with arguments; the answer must hold nothing of a tool's result.",
			Run: func(t *T) {
				r := ride(t)
				res, _ := r.attestInline(t.CanaryTool(), nil)
				bare(t, res)
				rep := r.s.Do(Call{Method: "tools/call", Params: Obj{"name": t.CanaryTool(), "arguments": Obj{}}, Meta: r.with(protocol.MetaAttest, Obj{"nonce": protocol.Base64(inlineNonce)})})
				if rep.Answer != nil && rep.Answer.Result != nil {
					bare(t, rep.Answer.Result)
				} else if rep.Answer == nil {
					t.Violate("no answer%s", r.s.Hint(rep))
				}
			},
		}),
		over("call", "TMCP-7.4-7", conformance.Case{
			Title: "a sealed tools/call is answered by frames in _meta, and nothing else",
			About: "Seals a call of the canary tool to its name and digest, opens the answer, and looks at what stands outside of it. It is the accepted twin of the refusals under inline.",
			Run: func(t *T) {
				r := ride(t)
				s := r.sealer()
				for seq, id := range []string{"cold", "warm"} {
					rep := r.send(s.frame(uint64(seq), 0, true, toolCall(id, r.tool.Name).Encode()))
					s.rode(rep, uint64(seq), id)
					bare(t, rep.Answer.Result)
				}
			},
		}),
		over("list", "TMCP-7.4-9", conformance.Case{
			Title: "a listing that carries frames is private and not to be kept", About: "Seals a tools/list, and looks at cacheScope and ttlMs of the outer result.",
			Run: func(t *T) {
				r := ride(t)
				out, _ := r.list("list")
				if scope, _ := conformance.MemberText(out, "cacheScope"); scope != "private" {
					t.Violate("cacheScope is %s", conformance.Short(conformance.Member(out, "cacheScope")))
				}
				if ttl := conformance.Member(out, "ttlMs"); string(ttl) != "0" {
					t.Violate("ttlMs is %s", conformance.Short(ttl))
				}
			},
		}),
		over("list-stripped", "TMCP-7.4-8", conformance.Case{
			Title: "the outer listing lacks outputSchema and x-mcp-header, the sealed one has them",
			About: "Compares a sealed listing with the outer one that carries it. It applies where a tool of the server has either.",
			Run: func(t *T) {
				r := ride(t)
				out, in := r.list("stripped")
				for _, member := range []string{`"outputSchema"`, `"x-mcp-header"`} {
					if bytes.Contains(conformance.Member(out, "tools"), []byte(member)) {
						t.Violate("%s stands in the outer listing", member)
					}
				}
				names := func(v jsontext.Value) (all []string) {
					items, _ := conformance.Items(conformance.Member(v, "tools"))
					for _, it := range items {
						name, _ := conformance.MemberText(it, "name")
						all = append(all, name)
					}
					return all
				}
				plain := r.s.Do(Call{Method: "tools/list", Meta: r.declare()})
				if len(names(out)) == 0 && (plain.Answer == nil || plain.Answer.Result == nil) {
					t.NotApplicable("the server lists no tools outside the seal")
				}
				if !bytes.Contains(in, []byte(`"outputSchema"`)) && !bytes.Contains(in, []byte(`"x-mcp-header"`)) {
					if conformance.Member(in, "nextCursor") != nil {
						t.NotApplicable("no tool on the listing's first page has outputSchema or x-mcp-header")
					}
					t.NotApplicable("no tool has outputSchema or x-mcp-header, or the sealed listing lost them")
				}
			},
		}),
		over("arguments", "TMCP-7.6-1", conformance.Case{
			Title: "arguments outside a sealed call decide nothing", About: "Adds arguments to the outer tools/call. A server may refuse that, or answer what was sealed.",
			Run: func(t *T) {
				r := ride(t)
				s := r.sealer()
				c := r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, toolCall("sealed", r.tool.Name).Encode()))
				c.Params["arguments"] = Obj{"evil": true}
				rep := r.s.Do(c)
				switch {
				case rep.Answer == nil:
					t.Violate("no answer%s", r.s.Hint(rep))
				case rep.Answer.Error != nil:
					if got, _ := conformance.MemberText(rep.Answer.Error, "data", "reason"); got != string(protocol.OuterMismatch) {
						t.Violate("the error is %s", conformance.Short(rep.Answer.Error))
					}
				default:
					s.rode(rep, 0, "sealed")
					bare(t, rep.Answer.Result)
				}
			},
		}),
		mutant("digest", "TMCP-7.4-6", "a call that was sealed to another definition is refused with tool-changed", "Seals to another digest, and says so outside.", reasons(protocol.ToolChanged),
			func(r *riding, s *sealer) Call {
				old := &protocol.Tool{Name: r.tool.Name, Digest: r.tool.Digest}
				old.Digest[0] ^= 1
				s.tool = hand.Tool(old.Name, [32]byte(old.Digest))
				return r.outer(r.tool.Name, old, s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode()))
			}),
		mutant("digest-hidden", "TMCP-7.4-4", "a call that was sealed to another digest than it says does not open", "Seals to another digest, and names the current one outside.", reasons(protocol.OpenFailed, protocol.ToolChanged),
			func(r *riding, s *sealer) Call {
				bad := r.tool.Digest
				bad[0] ^= 1
				s.tool = hand.Tool(r.tool.Name, [32]byte(bad))
				return r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode()))
			}),
		mutant("no-tool", "TMCP-7.4-4", "a call that was sealed to no tool does not open", "Seals with null in the place of the tool.", reasons(protocol.OpenFailed, protocol.OuterMismatch),
			func(r *riding, s *sealer) Call {
				s.tool = nil
				return r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode()))
			}),
		mutant("renamed", "TMCP-7.4-5", "a call that reaches another tool than it was sealed to is refused", "Seals to the canary tool, and sends the call to another tool of the server.", reasons(protocol.OuterMismatch, protocol.OpenFailed, protocol.ToolChanged),
			func(r *riding, s *sealer) Call {
				return r.outer(other(r), r.tool, s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode()))
			}),
		mutant("other-inside", "TMCP-7.4-5", "a sealed call of another tool than stands outside is refused", "Seals to the canary tool a call of another tool.", mismatch,
			func(r *riding, s *sealer) Call {
				return r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, toolCall("mutant", other(r)).Encode()))
			}),
		mutant("method-inside", "TMCP-7.4-5", "a sealed message of another method than stands outside is refused", "Seals a server/discover to the canary tool.", mismatch,
			func(r *riding, s *sealer) Call {
				return r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, message("mutant").Encode()))
			}),
		mutant("frames-under-other-method", "TMCP-7.4-5", "frames on another method are refused", "Puts the frame of a tools/call on a prompts/list.", reasons(protocol.OuterMismatch, protocol.TrustRequired, protocol.OpenFailed),
			func(r *riding, s *sealer) Call {
				c := r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode()))
				c.Method, c.Params = "prompts/list", Obj{}
				return c
			}),
		mutant("envelope-frame", "TMCP-6.5-1", "a frame that was sealed for envelope does not open under inline", "Seals for the envelope.", reasons(protocol.OpenFailed),
			func(r *riding, s *sealer) Call {
				s.carrier = hand.Envelope
				return r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode()))
			}),
		mutant("two-frames", "TMCP-7.1-1", "two frames in one call are refused", "Sends the twin's frame twice in one array.", reasons(protocol.MalformedFrame, protocol.OutOfOrder),
			func(r *riding, s *sealer) Call {
				f := s.frame(0, 0, true, toolCall("mutant", r.tool.Name).Encode())
				return r.outer(r.tool.Name, r.tool, f, f)
			}),
		mutant("kind-get", "TMCP-6.6-3", "a content of kind get is refused under inline", "Seals kind get in place of a message.", reasons(protocol.MalformedContent, protocol.OuterMismatch),
			func(r *riding, s *sealer) Call {
				c := toolCall("mutant", r.tool.Name)
				c.Kind, c.Body = hand.Get, nil
				return r.outer(r.tool.Name, r.tool, s.frame(0, 0, true, c.Encode()))
			}),
		over("replay", "TMCP-8.4-2", conformance.Case{
			Title: "an inline call is accepted once", Twin: "inline-call", About: "Sends an answered call again, under a new id.",
			Run: func(t *T) {
				r := ride(t)
				s := r.sealer()
				f := s.frame(0, 0, true, toolCall("once", r.tool.Name).Encode())
				s.rode(r.send(f), 0, "once")
				r.refused(r.send(f), protocol.Replayed)
			},
		}),
	}
}
