package identity

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// hopByHop are the fields of RFC 9110 section 7.6.1, and those that it names.
var hopByHop = []string{"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authenticate", "proxy-authorization"}

// post sends frames by the carrier http.
func (p *peer) post(frames ...[]byte) (*wire.Reply, error) {
	return p.s.Try(Call{Note: true, Body: append([]byte{}, bytes.Join(frames, nil)...), Header: map[string]string{
		"Content-Type": protocol.MediaTypeFrames, "Accept": protocol.MediaTypeFrames, "MCP-Protocol-Version": "-", "Mcp-Method": "-"}})
}

// httpSealer opens a server that offers the carrier http.
func httpSealer(t *T) *sealer {
	p := open(t)
	if !hasCarrier(p.settings, protocol.HTTP) {
		t.NotApplicable("the server does not offer the http carrier")
	}
	return p.sealer(hand.HTTP, nil)
}

// target is the path of the server under test.
func target(t *T) string {
	u, err := url.Parse(t.Target().String())
	if err != nil || u.RequestURI() == "" {
		return "/"
	}
	return u.RequestURI()
}

// httpRequest is an HTTP message in one content.
func httpRequest(t *T, body []byte, more ...[2]string) *hand.Content {
	host := [2]string{"host", "127.0.0.1"}
	if u, err := url.Parse(t.Target().String()); err == nil && u.Host != "" {
		host[1] = u.Host
	}
	return &hand.Content{Kind: hand.Head, Body: body, Meta: map[uint64][]byte{
		2: modernFields("server/discover", append([][2]string{host}, more...)...),
		3: dcbor.AppendText(nil, target(t)),
		4: dcbor.AppendText(nil, "POST"),
	}}
}

// httpAnswer opens a whole HTTP answer.
func (s *sealer) httpAnswer(r *wire.Reply, err error, seq uint64) (head *hand.Content, body []byte) {
	p := s.p
	if err != nil {
		p.t.Failf("waiting for the answer to a sealed HTTP request: %v", err)
	}
	if r.ContentType != protocol.MediaTypeFrames || r.Status != 200 {
		p.t.Violate("a sealed HTTP request was not answered with HTTP 200 and %s%s", protocol.MediaTypeFrames, p.s.Hint(r))
	}
	var frames [][]byte
	for rest := r.Body; len(rest) > 0; {
		_, next, err := hand.NextFrame(rest)
		if err != nil {
			p.t.Violate("the answer's body is no sequence of frames: %v", err)
		}
		frames = append(frames, rest[:len(rest)-len(next)])
		rest = next
	}
	out, err := s.ctx.OpenAnswer(frames, hand.HTTP, seq)
	if err != nil {
		p.t.Violate("%v", err)
	}
	if out[0].Kind != hand.Head {
		p.t.Violate("the answer begins with a content of kind %d, expected 5 (http)", out[0].Kind)
	}
	for i, c := range out {
		if i > 0 && c.Kind != hand.Data && c.Kind != hand.End {
			p.t.Violate("content %d of the answer has the kind %d", i, c.Kind)
		}
		body = append(body, c.Body...)
	}
	return out[0], body
}

// httpResponse finds a JSON-RPC response in the body of an HTTP answer, or takes the
// refusal of a legacy server without it; see [peer.response].
func (s *sealer) httpResponse(head *hand.Content, body []byte, id string) {
	if refusal(head.Status()) && len(body) > 0 {
		return
	}
	for _, line := range append([][]byte{body}, bytes.Split(body, []byte("\n"))...) {
		line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("data:")))
		if m, err := wire.ParseMessage(line); err == nil && m.Answers(jsonrpc.ID(jsonrpc.Quote(id))) {
			return
		}
	}
	s.p.t.Failf("the sealed HTTP answer holds no response with the id %q: %s", id, conformance.Short(body))
}

// httpRefused judges the answer to a bent HTTP request. Where the rule can be
// seen only after the inner server may have begun to answer, the answer may
// also break off before its final frame.
func (s *sealer) httpRefused(r *wire.Reply, err error, mayBreak bool, reasons ...protocol.Reason) {
	t := s.p.t
	if r.SeenSeq == 0 {
		t.Violate("it was not answered (%v)", err)
	}
	for _, m := range r.Messages {
		code, _ := m.Code()
		got, _ := conformance.MemberText(m.Error, "data", "reason")
		for _, want := range reasons {
			if got == string(want) && code == int64(want.Code()) {
				if r.Status != 200 {
					t.Violate("the trust error %s came with HTTP status %d", got, r.Status)
				}
				t.Refused("%s", got)
				t.Reached(r.SeenSeq)
				t.NoEffect("the answer carries no frame")
				return
			}
		}
		if m.Error != nil {
			t.Violate("the error is %s, expected reason %q", conformance.Short(m.Error), reasons)
		}
	}
	if r.ContentType != protocol.MediaTypeFrames {
		t.Violate("it was answered with neither a trust error nor frames%s", s.p.s.Hint(r))
	}
	for rest := r.Body; len(rest) > 0; {
		f, next, ferr := hand.NextFrame(rest)
		if ferr != nil {
			break
		}
		if f.Final {
			t.Violate("it was answered in full")
		}
		rest = next
	}
	if !mayBreak {
		t.Violate("it was handed on, and its answer begun")
	}
	t.Refused("the answer broke off")
	t.Reached(r.SeenSeq)
	t.NoEffect("no final frame came: nothing can be taken for an answer")
}

func framed() []conformance.Case {
	over := func(name, req string, c conformance.Case) conformance.Case {
		c.Transports = httpOnly
		return define("http-"+name, req, c)
	}
	bent := func(name, req, title string, reasons []protocol.Reason, f func(t *T, c *hand.Content)) conformance.Case {
		return over(name, req, conformance.Case{
			Title: title, Twin: "http-call", About: fmt.Sprintf("Seals the twin's HTTP request with this one thing changed, and expects the error %q.", reasons),
			Run: func(t *T) {
				s := httpSealer(t)
				c := httpRequest(t, discover("mutant"))
				f(t, c)
				r, err := s.p.post(s.frame(0, 0, true, c.Encode()))
				s.httpRefused(r, err, false, reasons...)
			},
		})
	}
	// chunks cuts the twin's request in three.
	chunks := func(t *T, s *sealer, id string) [3][]byte {
		body := discover(id)
		third := len(body) / 3
		data := func(b []byte) []byte { return (&hand.Content{Kind: hand.Data, Body: b}).Encode() }
		return [3][]byte{
			s.frame(0, 0, false, httpRequest(t, body[:third]).Encode()),
			s.frame(0, 1, false, data(body[third:2*third])),
			s.frame(0, 2, true, data(body[2*third:])),
		}
	}
	chunked := func(name, req, title, about string, reasons []protocol.Reason, order func(t *T, s *sealer, c [3][]byte) [][]byte) conformance.Case {
		return over(name, req, conformance.Case{
			Title: title, Twin: "http-chunks", About: about + fmt.Sprintf(" Expects the error %q, or an answer that breaks off if the inner server had already begun it.", reasons),
			Run: func(t *T) {
				s := httpSealer(t)
				r, err := s.p.post(order(t, s, chunks(t, s, "mutant"))...)
				s.httpRefused(r, err, true, reasons...)
			},
		})
	}
	meta := func(key uint64, text string) func(*T, *hand.Content) {
		return func(_ *T, c *hand.Content) { c.Meta[key] = dcbor.AppendText(nil, text) }
	}
	malformed, order := reasons(protocol.MalformedContent), reasons(protocol.OutOfOrder)
	positive := func(name, req, title, about string, run func(t *T, s *sealer)) conformance.Case {
		return over(name, req, conformance.Case{Title: title, About: about, Run: func(t *T) { run(t, httpSealer(t)) }})
	}
	return []conformance.Case{
		positive("call", "TMCP-7.5-1", "a whole HTTP message is handed on, and its answer sealed",
			"Seals a POST in one frame and opens the whole answer. It is the accepted twin of the refusals under http.", func(t *T, s *sealer) {
				for seq, id := range []string{"cold", "warm"} {
					r, err := s.p.post(s.frame(uint64(seq), 0, true, httpRequest(t, discover(id)).Encode()))
					head, body := s.httpAnswer(r, err, uint64(seq))
					s.httpResponse(head, body, id)
				}
			}),
		positive("chunks", "TMCP-7.5-2", "a request in several frames is put together", "Seals the twin's POST in three frames.", func(t *T, s *sealer) {
			c := chunks(t, s, "chunks")
			r, err := s.p.post(c[:]...)
			head, body := s.httpAnswer(r, err, 0)
			s.httpResponse(head, body, "chunks")
		}),
		positive("malformed", "TMCP-7.5-1", "an HTTP message that MCP does not allow is handed on all the same", "Seals a POST whose body is no JSON: the inner server's answer to it must come sealed, not an error of the trust layer.", func(t *T, s *sealer) {
			r, err := s.p.post(s.frame(0, 0, true, httpRequest(t, []byte(`{"jsonrpc":"2.0","id":1,`)).Encode()))
			head, _ := s.httpAnswer(r, err, 0)
			if head.Status() == 0 {
				t.Violate("the sealed answer has no status")
			}
		}),
		positive("inner-get", "TMCP-7.5-1", "the inner HTTP method is handed on", "Seals an OPTIONS request; whatever the inner server says to it must come sealed.", func(t *T, s *sealer) {
			c := httpRequest(t, nil)
			c.Meta[4] = dcbor.AppendText(nil, "OPTIONS")
			r, err := s.p.post(s.frame(0, 0, true, c.Encode()))
			s.httpAnswer(r, err, 0)
		}),
		positive("hop-by-hop", "TMCP-7.5-3", "hop-by-hop fields are not sealed", "Looks for Connection, Transfer-Encoding and the like among the sealed fields of the answer to a request that names some itself.", func(t *T, s *sealer) {
			r, err := s.p.post(s.frame(0, 0, true, httpRequest(t, discover("hop"), [2]string{"connection", "close"}, [2]string{"te", "trailers"}).Encode()))
			head, body := s.httpAnswer(r, err, 0)
			for _, f := range head.Fields() {
				if slices.Contains(hopByHop, strings.ToLower(f[0])) {
					t.Violate("the field %s: %s is sealed", f[0], f[1])
				}
			}
			s.httpResponse(head, body, "hop")
		}),
		chunked("chunk-lost", "TMCP-9.1-9", "a request that lacks a chunk is refused", "Sends chunks 0 and 2.", order, func(_ *T, _ *sealer, c [3][]byte) [][]byte { return [][]byte{c[0], c[2]} }),
		chunked("chunks-swapped", "TMCP-9.1-9", "chunks out of order are refused", "Sends chunks 0, 2 and 1.", order, func(_ *T, _ *sealer, c [3][]byte) [][]byte { return [][]byte{c[0], c[2], c[1]} }),
		chunked("chunk-twice", "TMCP-9.1-9", "a chunk that comes twice is refused", "Sends chunks 0, 1, 1 and 2.", order, func(_ *T, _ *sealer, c [3][]byte) [][]byte { return [][]byte{c[0], c[1], c[1], c[2]} }),
		chunked("no-final", "TMCP-9.1-9", "a request without its final chunk is not taken for whole", "Sends chunks 0 and 1, and ends the body.", order, func(_ *T, _ *sealer, c [3][]byte) [][]byte { return [][]byte{c[0], c[1]} }),
		chunked("chunk-altered", "TMCP-6.5-2", "a chunk with a changed ciphertext does not open", "Changes a bit of chunk 1.", reasons(protocol.OpenFailed), func(_ *T, _ *sealer, c [3][]byte) [][]byte {
			c[1][len(c[1])-5] ^= 1
			return c[:]
		}),
		chunked("final-set", "TMCP-6.5-1", "a final flag that was set on the way does not open", "Sets final on chunk 1, and leaves chunk 2 out.", reasons(protocol.OpenFailed), func(t *T, _ *sealer, c [3][]byte) [][]byte {
			f, err := hand.ParseFrame(c[1])
			if err != nil {
				t.Failf("%v", err)
			}
			f.Final = true
			return [][]byte{c[0], f.Encode()}
		}),
		chunked("chunk-spliced", "TMCP-9.1-9", "a chunk of another message is refused", "Puts chunk 1 of another context in the place of chunk 1.", reasons(protocol.OutOfOrder, protocol.OpenFailed), func(t *T, s *sealer, c [3][]byte) [][]byte {
			foreign := chunks(t, s.p.sealer(hand.HTTP, nil), "other")
			return [][]byte{c[0], foreign[1], c[2]}
		}),
		chunked("after-final", "TMCP-9.1-9", "a chunk after the final one is refused", "Sends the whole request, and one more chunk.", order, func(t *T, s *sealer, _ [3][]byte) [][]byte {
			return [][]byte{
				s.frame(0, 0, true, httpRequest(t, discover("mutant")).Encode()),
				s.frame(0, 1, true, (&hand.Content{Kind: hand.Data, Body: []byte("more")}).Encode()),
			}
		}),
		chunked("second-head", "TMCP-6.6-3", "a second head within a request is refused", "Seals chunk 1 with the kind http.", malformed, func(t *T, s *sealer, c [3][]byte) [][]byte {
			return [][]byte{c[0], s.frame(0, 1, false, httpRequest(t, []byte("x")).Encode()), c[2]}
		}),
		bent("target-absolute", "TMCP-7.5-4", "an absolute inner target is refused", malformed, meta(3, "http://127.0.0.1:1/elsewhere")),
		bent("target-authority", "TMCP-7.5-4", "an inner target that begins with two slashes is refused", malformed, meta(3, "//127.0.0.1:1/elsewhere")),
		bent("target-control", "TMCP-7.5-4", "an inner target with a line break is refused", malformed, meta(3, "/mcp HTTP/1.1\r\nevil: 1\r\n\r\nGET /")),
		bent("target-relative", "TMCP-7.5-4", "an inner target that is no path is refused", malformed, meta(3, "mcp")),
		bent("target-absent", "TMCP-7.5-4", "an HTTP request without a target is refused", malformed, func(_ *T, c *hand.Content) { delete(c.Meta, 3) }),
		bent("method-injection", "TMCP-6.6-7", "an inner method with a space is refused", malformed, meta(4, "GET /evil HTTP/1.1\r\nPOST")),
		bent("field-crlf", "TMCP-6.6-7", "a sealed field with a line break is refused", malformed, func(_ *T, c *hand.Content) {
			c.Meta[2] = modernFields("server/discover", [2]string{"x-value", "v\r\nevil: 1"})
		}),
		bent("kind-message", "TMCP-6.6-3", "a content of kind message is refused under http", malformed, func(_ *T, c *hand.Content) { c.Kind = hand.Message }),
		bent("kind-data", "TMCP-6.6-3", "an HTTP request that begins with kind data is refused", malformed, func(_ *T, c *hand.Content) { c.Kind = hand.Data }),
		over("envelope-frame", "TMCP-6.5-1", conformance.Case{
			Title: "a frame that was sealed for envelope does not open under http", Twin: "http-call", About: "Seals a message for the envelope and posts the frame.",
			Run: func(t *T) {
				s := httpSealer(t)
				s.carrier = hand.Envelope
				r, err := s.p.post(s.frame(0, 0, true, message("mutant").Encode()))
				s.httpRefused(r, err, false, protocol.OpenFailed)
			},
		}),
		over("no-frame", "TMCP-7.1-1", conformance.Case{
			Title: "a body that is no frame is refused", Twin: "http-call", About: "Posts a JSON-RPC message as frames.",
			Run: func(t *T) {
				s := httpSealer(t)
				r, err := s.p.post(discover("mutant"))
				s.httpRefused(r, err, false, protocol.MalformedFrame)
			},
		}),
		over("cut-frame", "TMCP-7.1-1", conformance.Case{
			Title: "a body that ends within its first frame is refused", Twin: "http-call", About: "Posts all but the last byte of the twin's frame.",
			Run: func(t *T) {
				s := httpSealer(t)
				f := s.frame(0, 0, true, httpRequest(t, discover("mutant")).Encode())
				r, err := s.p.post(f[:len(f)-1])
				s.httpRefused(r, err, false, protocol.MalformedFrame)
			},
		}),
		over("replay", "TMCP-8.4-2", conformance.Case{
			Title: "an HTTP request is accepted once", Twin: "http-call", About: "Posts an answered request again.",
			Run: func(t *T) {
				s := httpSealer(t)
				f := s.frame(0, 0, true, httpRequest(t, discover("once")).Encode())
				r, err := s.p.post(f)
				head, body := s.httpAnswer(r, err, 0)
				s.httpResponse(head, body, "once")
				r, err = s.p.post(f)
				s.httpRefused(r, err, false, protocol.Replayed)
			},
		}),
	}
}
