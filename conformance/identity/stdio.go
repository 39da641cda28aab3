package identity

import (
	"bytes"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/protocol"
)

var stdioOnly = []wire.Transport{wire.TransportStdio}

// stdio are the cases of chapter 13 that any sealed stdio server can be tried
// with. Which answer its own server's unasked-for messages go to can't be seen
// without knowing that server; the tests of the reference show it.
func stdio() []conformance.Case {
	over := func(name, req string, c conformance.Case) conformance.Case {
		c.Transports = stdioOnly
		return define("stdio-"+name, req, c)
	}
	return []conformance.Case{
		over("frames", "TMCP-13.1-2", conformance.Case{
			Title: "the final frame is the response, those before it are notifications",
			About: "Makes exchanges, one with the canary tool if there is one, and looks at the lines of each answer.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(1, nil)
				replies := []*wire.Reply{p.send(s.frame(0, 0, true, message("a").Encode()))}
				s.answered(replies[0], 0, "a")
				if tool := t.CanaryTool(); tool != "" {
					r := p.send(s.frame(1, 0, true, toolCall("b", tool).Encode()))
					s.answered(r, 1, "b")
					replies = append(replies, r)
				}
				for _, r := range replies {
					for _, m := range r.Messages {
						if m.Method != protocol.MethodFrame && m != r.Answer {
							t.Violate("a line of the answer is neither %s nor the response: %s", protocol.MethodFrame, conformance.Short(m.Raw))
						}
					}
				}
			},
		}),
		over("answers-apart", "TMCP-13.2-1", conformance.Case{
			Title: "a response goes to the call whose request it answers", About: "Seals two messages and sends both before reading: each must be answered in its own frames.",
			Run: func(t *T) {
				p := open(t)
				s := p.sealer(1, nil)
				s.answered(p.send(s.frame(0, 0, true, message("first").Encode())), 0, "first")
				ids := []string{"one", "two", "three"}
				replies, errs := make([]*wire.Reply, len(ids)), make([]error, len(ids))
				done := make(chan struct{})
				for i, id := range ids {
					frame := s.frame(uint64(i)+1, 0, true, message(id).Encode())
					go func() {
						replies[i], errs[i] = p.s.Try(p.outer(frame))
						done <- struct{}{}
					}()
				}
				for range ids {
					<-done
				}
				for i, id := range ids {
					if errs[i] != nil {
						t.Violate("message %d: %v", i, errs[i])
					}
					// Every waiting call sees the notifications of all; those of others are told by their place.
					own := *replies[i]
					own.Messages = nil
					for _, m := range replies[i].Messages {
						if m == replies[i].Answer {
							own.Messages = append(own.Messages, m)
						}
					}
					s.answered(&own, uint64(i)+1, id)
				}
			},
		}),
		over("invalid-line", "TMCP-13.1-4", conformance.Case{
			Title: "an invalid line does not lose those that follow it", About: "Sends a line that is no JSON, an empty one and one that is no message, and then a sealed message, which must be answered.",
			Run: func(t *T) {
				p := open(t)
				for _, line := range []string{`{"jsonrpc":"2.0","id":1,`, ``, `[]`, `7`} {
					if _, err := p.s.Try(Call{Note: true, Body: []byte(line)}); err != nil {
						t.Violate("after the line %q: %v", line, err)
					}
				}
				p.exchange("after")
			},
		}),
		over("long-line", "TMCP-13.1-3", conformance.Case{
			Title: "a line beyond the bound is answered with an error, and not the end", Twin: "stdio-invalid-line",
			About: "Sends a trust/call of 20 MiB on one line, which must be answered with an error; then a sealed message, which must be answered.",
			Run: func(t *T) {
				p := open(t)
				body := []byte(`{"jsonrpc":"2.0","id":"long","method":"` + protocol.MethodCall + `","params":{"frame":"` + strings.Repeat("A", 20<<20) + `"}}`)
				_ = p.s.Link().Stray()
				if _, err := p.s.Try(Call{Note: true, Body: body}); err != nil {
					t.Violate("while it was sent: %v", err)
				}
				p.exchange("after")
				var got *wire.Message
				for _, m := range p.s.Link().Stray() {
					if m.Error != nil {
						got = m
					}
				}
				if got == nil {
					t.Violate("it was not answered with an error")
				}
				t.Refused("%s", conformance.Short(got.Error))
				t.Reached(got.Seq)
				t.NoEffect("the next message was answered")
			},
		}),
		over("nothing-else", "TMCP-13.1-1", conformance.Case{
			Title: "nothing but outer messages is written to stdout", Last: true,
			About: "Looks at every line of this run: one JSON-RPC message each. In mode required they are answers and trust frames alone.",
			Run: func(t *T) {
				p := open(t)
				_, r := p.exchange("last")
				if b := t.Observed().Broken(conformance.RuleGarbage, ""); len(b) > 0 {
					t.Violate("%s", strings.Join(b, "; "))
				}
				p.required()
				for _, m := range r.Messages {
					if m.Method != "" && m.Method != protocol.MethodFrame || bytes.Contains(m.Raw, []byte(`"serverInfo":{"name":"tmcp-reference"`)) {
						t.Violate("in plaintext: %s", conformance.Short(m.Raw))
					}
				}
			},
		}),
	}
}
