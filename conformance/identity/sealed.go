package identity

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// sealed are the accepted calls.
func sealed() []conformance.Case {
	positive := func(name, req, title, about string, run func(t *T, p *peer)) conformance.Case {
		return define(name, req, conformance.Case{Title: title, About: about, Run: func(t *T) { run(t, open(t)) }})
	}
	return []conformance.Case{
		positive("call", "TMCP-7.3-6", "a sealed message is answered with sealed frames, the last in the result",
			"Seals one request for the inner server and opens the whole answer. It is the accepted twin of most refusals.",
			func(t *T, p *peer) { p.exchange("twin") }),
		positive("suite-1", "TMCP-6.1-1", "suite 1 is spoken", "Offers suite 1 alone.", func(t *T, _ *peer) {
			openWith(t, settings(t, protocol.Offer{Suites: []protocol.Suite{protocol.SuiteHybrid}})).exchange("suite-1")
		}),
		positive("warm", "TMCP-8.3-2", "later messages go by the same context, in any order",
			"After one answer seals four more messages in that context, and sends them last first.", func(t *T, p *peer) {
				p.exchange("cold")
				type sent struct {
					call  *protocol.Call
					frame []byte
					id    string
				}
				var all []sent
				for i := range 4 {
					id := fmt.Sprintf("warm-%d", i)
					call, frame := p.seal(p.content(id))
					if f, err := protocol.InspectFrame(frame); err != nil || f.Type != 2 {
						t.Failf("the suite did not seal in the warm context (%v)", err)
					}
					all = append(all, sent{call, frame, id})
				}
				for i := len(all) - 1; i >= 0; i-- {
					p.response(p.opened(all[i].call, p.send(all[i].frame)), all[i].id)
				}
			}),
		positive("padded", "TMCP-6.7-1", "padded messages are accepted", "Seals with padding.", func(t *T, p *peer) {
			p.anonymous()
			var err error
			if p.client, err = protocol.NewClient(p.who, p.mine, protocol.PadRequests()); err != nil {
				t.Failf("%v", err)
			}
			p.exchange("padded")
		}),
		positive("unknown-settings", "TMCP-4.2-6", "unknown members and entries of the client's settings are ignored",
			"Offers settings with a member, a profile, a carrier and a suite that nobody knows.", func(t *T, _ *peer) {
				s, err := protocol.ParseSettings([]byte(`{"version":1,"profiles":["identity","com.example/p"],"carriers":["envelope","pigeon"],"suites":["mlkem768x25519-sha256-aes256gcm","rot13"],"mode":"required","com.example/more":{"a":[1.5,null]}}`))
				if err != nil {
					t.Failf("%v", err)
				}
				openWith(t, s).exchange("unknown-settings")
			}),
		positive("reordered-settings", "TMCP-2.4-1", "settings that were serialised again on the way keep their digest",
			"Sends the client's settings outside the seal with members in another order and escapes in its strings.", func(t *T, p *peer) {
				call, frame := p.seal(p.content("again"))
				c := p.outer(frame)
				if t.Era() == conformance.Legacy {
					t.NotApplicable("the settings stand in the request in the modern era only")
				}
				var again jsontext.Value
				if err := respell(p.mine.JSON(), &again); err != nil {
					t.Failf("%v", err)
				}
				c.Meta = Obj{conformance.MetaCapabilities: Obj{"extensions": Obj{protocol.ExtensionID: again}}}
				p.response(p.opened(call, p.s.Do(c)), "again")
			}),
		positive("inner-error", "TMCP-7.2-3", "an error of the inner server is sealed like a result",
			"Seals a request of an unknown method.", func(t *T, p *peer) {
				c := p.content("x")
				c.Body = bytes.ReplaceAll(bytes.ReplaceAll(c.Body, []byte("server/discover"), []byte("org.trustedmcp/no-such-method")), []byte(`"id":"x"`), []byte(`"id":"inner-error"`))
				c.Meta.Fields = fields("org.trustedmcp/no-such-method")
				call, frame := p.seal(c)
				out := p.opened(call, p.send(frame))
				for _, c := range out {
					if m, err := wire.ParseMessage(c.Body); c.Kind == protocol.KindMessage && err == nil && m.Result != nil {
						t.Violate("it was answered with a result")
					}
				}
				if len(out) == 0 {
					t.Violate("the answer is empty")
				}
			}),
		positive("inner-notification", "TMCP-7.3-7", "a sealed notification gets a sealed answer",
			"Seals a notification of an unknown method.", func(t *T, p *peer) {
				call, frame := p.seal(protocol.Content{Kind: protocol.KindMessage, Meta: protocol.Meta{Fields: fields("notifications/org.trustedmcp/unknown")},
					Body: []byte(`{"jsonrpc":"2.0","method":"notifications/org.trustedmcp/unknown","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)})
				p.opened(call, p.send(frame))
			}),
		positive("outer-id", "TMCP-7.6-2", "the outer id may be changed on the way", "Sends a sealed message under a number for an id, with a traceparent that an intermediary might have added.", func(t *T, p *peer) {
			call, frame := p.seal(p.content("outer-id"))
			c := p.outer(frame)
			c.ID = "424242"
			if c.Meta == nil {
				c.Meta = Obj{}
			}
			c.Meta["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
			p.response(p.opened(call, p.s.Do(c)), "outer-id")
		}),
		positive("one-salt", "TMCP-6.3-2", "all answers of a context have one salt, and contexts have different ones",
			"Makes three exchanges in one context and one in another, and compares the salts of their first frames. A repeated salt in another context would break section 6.3.", func(t *T, p *peer) {
				salt := func(r *wire.Reply) []byte {
					f, err := protocol.InspectFrame(p.frames(r)[0])
					if err != nil {
						t.Failf("%v", err)
					}
					return f.Salt
				}
				_, a := p.exchange("one")
				_, b := p.exchange("two")
				if !bytes.Equal(salt(a), salt(b)) {
					t.Violate("the salts of one context differ")
				}
				q := open(t)
				_, c := q.exchange("three")
				if bytes.Equal(salt(a), salt(c)) {
					t.Violate("two contexts have the same salt")
				}
			}),
		positive("concurrent", "TMCP-8.3-1", "sealed messages under way at the same time are all answered",
			"Sends eight messages of one warm context without waiting.", func(t *T, p *peer) {
				p.exchange("cold")
				var wg sync.WaitGroup
				calls, replies, errs := make([]*protocol.Call, 8), make([]*wire.Reply, 8), make([]error, 8)
				for i := range calls {
					call, frame := p.seal(p.content(fmt.Sprintf("c-%d", i)))
					calls[i] = call
					wg.Go(func() { replies[i], errs[i] = p.s.Try(p.outer(frame)) })
				}
				wg.Wait()
				for i := range calls {
					if errs[i] != nil {
						t.Violate("message %d: %v", i, errs[i])
					}
					p.response(p.opened(calls[i], replies[i]), fmt.Sprintf("c-%d", i))
				}
			}),
		define("no-store", "TMCP-14.5-1", conformance.Case{
			Title: "answers with frames are not to be stored", Transports: httpOnly, About: "Looks at Cache-Control of the answer to a sealed message.",
			Run: func(t *T) {
				_, r := open(t).exchange("no-store")
				if r.Header.Get("Cache-Control") != "no-store" {
					t.Violate("Cache-Control is %q", r.Header.Get("Cache-Control"))
				}
			},
		}),
		define("status-200", "TMCP-14.2-1", conformance.Case{
			Title: "trust/call is answered with HTTP 200 whatever the inner status", Transports: httpOnly,
			About: "Seals a request of an unknown method, which a modern inner server refuses with HTTP 404.",
			Run: func(t *T) {
				p := open(t)
				c := p.content("status")
				c.Body = bytes.ReplaceAll(c.Body, []byte("server/discover"), []byte("org.trustedmcp/no-such-method"))
				c.Meta.Fields = fields("org.trustedmcp/no-such-method")
				call, frame := p.seal(c)
				r := p.send(frame)
				if r.Status != 200 {
					t.Violate("the HTTP status is %d", r.Status)
				}
				p.opened(call, r)
			},
		}),
		define("retry", "TMCP-8.5-3", conformance.Case{
			Title: "a retry of what never arrived runs, and the late original does not", Twin: "call",
			About: "Seals a message and withholds it; seals it afresh as a retry, which must be answered; then sends the original, which must be refused as replayed.",
			Run: func(t *T) {
				p := open(t)
				old, withheld := p.seal(p.content("retried"))
				call, frame, err := p.client.SealAgain(old, p.content("retried"), envelope, time.Now())
				if err != nil {
					t.Failf("sealing again: %v", err)
				}
				p.response(p.opened(call, p.send(frame)), "retried")
				p.refused(p.send(withheld), protocol.Replayed)
			},
		}),
	}
}

// respell writes the JSON object in with its members in reverse order, spaces
// between them, and an escape in each string value.
func respell(in jsontext.Value, out *jsontext.Value) error {
	var members []string
	err := jsonrpc.Members(in, func(name string, v jsontext.Value) error {
		if s, ok := jsonrpc.Text(v); ok && s != "" {
			v = jsontext.Value(fmt.Sprintf(`"\u%04x%s"`, s[0], s[1:]))
		}
		members = append(members, fmt.Sprintf(" %q : %s ", name, v))
		return nil
	})
	slices.Reverse(members)
	*out = jsontext.Value("{" + strings.Join(members, ",") + "}")
	return err
}
