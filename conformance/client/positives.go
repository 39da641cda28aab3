package client

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// positives are the servers that a client must get along with. Most are the
// twin of some mutant.
func positives() []conformance.Case {
	return []conformance.Case{
		positive("call", "TMCP-7.3-2", "a tool is called through the seal", "An honest server whose key is pinned. The client lists the tools, calls echo, and reports the answer.", both, nil, nil),
		positive("stream", "TMCP-7.2-1", "an answer of several frames is delivered", "The answer to the call is an event stream: a notification, then the response.", both, streamed, nil),
		positive("stream-of-one", "TMCP-14.2-5", "an answer of one frame in an event stream is delivered", "The one answer frame comes as the last event of a stream in place of JSON.", both, func(sc *scene) { sc.sse = true }, nil),
		positive("comments", "TMCP-14.2-5", "comments between frames are accepted", "The stream of the answer has an SSE comment before each frame.", both, func(sc *scene) { sc.stream, sc.comments = true, true }, nil),
		positive("inline", "TMCP-7.4-4", "a tool is called through the inline carrier", "The server takes part in MCP as a gateway would; the call is sealed inside tools/call.", both, inline, nil),
		positive("http", "TMCP-4.7-2", "a tool is called through the http carrier", "The whole HTTP message is sealed.", both, httpCarrier, nil),
		positive("http-chunked", "TMCP-7.5-2", "an answer of several chunks is put together", "The HTTP answer to the call comes in two frames.", both, chunked, nil),
		positive("certificate", "TMCP-5.4-9", "an identity that is certified is accepted", "The key object is signed by a key with a certificate that leads to the root in TMCP_CA.", both, certified, nil),
		positive("fresh", "TMCP-4.6-5", "a key object with a nonce is asked for and used", "The client is told to ask for a fresh key object. Its nonces must be of 16 bytes at least, and each used once.", both, freshKey, func(t *T, r *result) {
			seen := map[string]bool{}
			for _, rec := range r.h.all() {
				if rec.method() != protocol.MethodAttest {
					continue
				}
				text, _ := conformance.MemberText(rec.msg.Params, "nonce")
				b, err := protocol.ParseBase64(text)
				if err != nil || len(b) < 16 {
					t.Violate("a nonce of %d bytes (%v)", len(b), err)
				}
				if seen[text] {
					t.Violate("the nonce %s was sent twice", text)
				}
				seen[text] = true
			}
		}),
		positive("padding", "TMCP-6.7-2", "what is sealed is padded when asked for", "The client is told to pad; the contents that it seals must have padding.", both, func(sc *scene) { sc.pad = true }, nil),
		positive("padded-answer", "TMCP-6.7-1", "padded answers are accepted", "The server pads each answer.", both, func(sc *scene) { sc.padAnswers = true }, nil),
		positive("unknown-settings", "TMCP-4.2-6", "unknown members and entries of settings are ignored, and count for the digest", "The server's settings hold members and list entries of a later version.", both, func(sc *scene) {
			sc.settings = `{"x":{"deep":[1.5,null,true,"é"]},"version":1,"profiles":["identity","later"],"carriers":["pigeon","envelope","inline","http"],"suites":["later-suite","mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"],"mode":"required","clientKey":"none"}`
		}, nil),
		positive("unknown-claims", "TMCP-5.3-6", "unknown claims are ignored", "The key object holds claims with text and number keys that version 1 does not know.", both, func(sc *scene) {
			sc.object = func(o *keyObject) {
				o.claims[-75000] = dcbor.AppendArray(nil, 0)
				o.claims[7] = blob([]byte("cti"))
			}
		}, nil),
		positive("unknown-suite-key", "TMCP-5.3-5", "a key of an unknown suite is ignored", "The claim keys holds an entry of suite 99.", both, func(sc *scene) {
			sc.object = func(o *keyObject) {
				keys := append([]byte{}, o.claims[claimKeys]...)
				keys[0]++ // one more entry
				keys = dcbor.AppendUint(dcbor.AppendArray(keys, 2), 99)
				o.claims[claimKeys] = dcbor.AppendBytes(keys, []byte("a key of a later suite"))
			}
		}, nil),
		positive("unknown-meta", "TMCP-6.6-2", "unknown meta keys of a content are ignored", "The answer's content has a meta key of a later version.", both, func(sc *scene) {
			sc.frames = func(_ *exchange, fs []*outFrame) []*outFrame {
				fs[0].content.over = map[uint64][]byte{40: text("later")}
				return fs
			}
		}, nil),
		positive("outer-id", "TMCP-7.6-1", "what stands outside decides nothing", "The outer discovery answer holds members, _meta and an experimental capability that mean nothing.", both, func(sc *scene) {
			sc.opening = func(_ *exchange, res Obj) {
				res["x-proxy"] = Obj{"hop": 1}
				res["_meta"].(Obj)["com.example/proxy"] = Obj{"note": "passed"}
				res["capabilities"].(Obj)["com.example.later"] = Obj{}
			}
		}, nil),
		positive("salt-of-answer", "TMCP-6.3-3", "answer keys come from the salt in frame 0", "The server, as if restarted, uses another salt for the answer to the call than before in the context.", both, func(sc *scene) {
			sc.frames = func(_ *exchange, fs []*outFrame) []*outFrame {
				fs[0].salt = []byte("another-salt-16b")
				return fs
			}
		}, nil),
		positive("redelivered", "TMCP-9.3-2", "a frame that is delivered again is ignored", "The first frame of the streamed answer comes twice, the same bytes, as after a resumption.", both, redelivered, nil),
		positive("unknown-context", "TMCP-8.5-1", "a message in a context that the server lost is sealed afresh", "The first seal of the call is answered with unknown-context. The retry must be cold, and name the first seal in retry-of.", both, lostContext, lostContextSeen),
		positive("unknown-key", "TMCP-8.6-2", "a message to a key that the server no longer has is sealed to its new key", "When the call arrives, the server has renewed its keys and forgotten the old: it answers unknown-key with its new key object.", both, rolledOver, func(t *T, r *result) {
			if n := r.count("tools/call"); n < 1 {
				t.Violate("the call was not sealed to the new key")
			}
		}),
		positive("key-expires", "TMCP-8.1-3", "a context is left when its key object expires", "The first key object is valid for a second and a half at most, and the answer to the first sealed message comes when it is over. What comes after must be sealed to a newer object.", modernOnly, expiring, expiringSeen),
		positive("numbering", "TMCP-8.1-2", "requests of a context are numbered by steps of one", "Looks at the context and number of each sealed request.", both, nil, func(t *T, r *result) {
			// Requests may overtake one another on the way: only the set counts.
			seen := map[protocol.ContextID]map[uint64]bool{}
			for _, rec := range r.h.all() {
				o := rec.opened
				if o == nil {
					continue
				}
				if seen[o.ctx.id] == nil {
					seen[o.ctx.id] = map[uint64]bool{}
				}
				if seen[o.ctx.id][o.seq] {
					t.Violate("two requests of a context have the number %d", o.seq)
				}
				seen[o.ctx.id][o.seq] = true
			}
			for id, numbers := range seen {
				for n := range uint64(len(numbers)) {
					if !numbers[n] {
						t.Violate("%d requests came in the context %x, and none has the number %d", len(numbers), id, n)
					}
				}
			}
		}),
		positive("warm-after-answer", "TMCP-8.1-1", "a context is used again only when it was answered", "Looks for next frames in contexts in which the server had answered nothing yet.", both, nil, func(t *T, r *result) {
			for _, rec := range r.h.all() {
				if rec.early {
					t.Violate("%s was sealed as message %d of a context in which nothing had been answered", rec.inner, rec.opened.seq)
				}
			}
		}),
		positive("suite-choice", "TMCP-4.7-1", "the first common suite of the client's own list is used", "The server lists its suites in the other order. The client must go by its own.", both, func(sc *scene) {
			sc.settings = `{"version":1,"profiles":["identity"],"carriers":["envelope","inline","http"],"suites":["x25519-sha256-chacha20poly1305","mlkem768x25519-sha256-aes256gcm"],"mode":"required","clientKey":"none"}`
		}, func(t *T, r *result) {
			r.eachOpen(func(f *protocol.Frame) {
				s, err := protocol.ParseSettings(toJSON(t, f.ClientSettings))
				if err != nil {
					t.Violate("the client settings in the frame: %v", err)
				}
				if suites := s.Offer().Suites; len(suites) == 0 || suites[0] != f.Suite {
					t.Violate("sealed with %v, the client's settings prefer %v", f.Suite, suites)
				}
			})
		}),
		positive("client-key-null", "TMCP-8.7-1", "no client key is shown to a server that wants none", "The server's clientKey is none.", both, nil, func(t *T, r *result) {
			r.eachOpen(func(f *protocol.Frame) {
				if f.ClientKey != nil {
					t.Violate("an open frame holds a client key of %d bytes", len(f.ClientKey))
				}
			})
		}),
		positive("revision", "TMCP-8.1-4", "a context is used for messages of its revision only", "Compares the revision of each context with that of the messages sealed in it.", both, nil, func(t *T, r *result) {
			for _, rec := range r.h.all() {
				o := rec.opened
				if o == nil {
					continue
				}
				c := protocol.Content{Kind: protocol.Kind(o.kind), Body: o.body}
				for _, f := range o.fields {
					c.Meta.Fields = append(c.Meta.Fields, protocol.Field{Name: f[0], Value: []byte(f[1])})
				}
				if got := c.Revision(); got != o.ctx.revision {
					t.Violate("%s of revision %q was sealed in a context of %q", rec.inner, got, o.ctx.revision)
				}
			}
		}),
	}
}

func streamed(sc *scene)    { sc.stream = true }
func inline(sc *scene)      { sc.carrier = "inline" }
func httpCarrier(sc *scene) { sc.carrier = "http" }
func chunked(sc *scene)     { sc.carrier, sc.chunked = "http", true }
func certified(sc *scene)   { sc.pki = &pki{} }
func freshKey(sc *scene)    { sc.fresh = true }

func redelivered(sc *scene) {
	sc.stream = true
	sc.frames = func(_ *exchange, fs []*outFrame) []*outFrame { return append([]*outFrame{fs[0]}, fs...) }
}

func toJSON(t *T, cbor []byte) []byte {
	js, err := dcbor.ToJSON(nil, cbor)
	if err != nil {
		t.Violate("the client settings in the frame: %v", err)
	}
	return js
}

// eachOpen calls f with each open frame that the client sent.
func (r *result) eachOpen(f func(*protocol.Frame)) {
	for _, rec := range r.h.all() {
		if o := rec.opened; o != nil && !o.warm {
			if g, err := protocol.InspectFrame(o.frame); err == nil {
				f(g)
			}
		}
	}
}

// count is the number of sealed messages of that inner method.
func (r *result) count(method string) int {
	n := 0
	for _, rec := range r.h.all() {
		if rec.inner == method {
			n++
		}
	}
	return n
}

func lostContext(sc *scene) {
	var done atomic.Bool
	sc.outer = func(x *exchange) bool {
		if !x.target() || !done.CompareAndSwap(false, true) {
			return false
		}
		x.mark()
		x.h.trust.forget()
		x.trustError(protocol.UnknownContext, nil)
		return true
	}
}

func lostContextSeen(t *T, r *result) {
	var first *opened
	for _, rec := range r.h.all() {
		if rec.inner != "tools/call" {
			continue
		}
		o := rec.opened
		if first == nil {
			first = o
			continue
		}
		switch {
		case o.warm:
			t.Violate("the retry was sealed in a context that the server had said it does not have")
		case o.retry == nil:
			t.Violate("the retry has no retry-of")
		case o.retry.ctx != first.ctx.id || o.retry.seq != first.seq:
			t.Violate("retry-of names message %d of %x, the first seal was message %d of %x", o.retry.seq, o.retry.ctx, first.seq, first.ctx.id)
		case o.retry.exp != first.ctx.exp:
			t.Violate("retry-of says that the key object of the first seal expires at %d, it does at %d", o.retry.exp, first.ctx.exp)
		}
		return
	}
	t.Violate("the call was not sealed a second time")
}

func rolledOver(sc *scene) {
	var done atomic.Bool
	sc.outer = func(x *exchange) bool {
		if !x.target() || !done.CompareAndSwap(false, true) {
			return false
		}
		x.mark()
		x.h.trust.retire()
		if err := x.h.trust.renew(); err != nil {
			return false
		}
		x.trustError(protocol.UnknownKey, x.h.trust.object(nil, nil))
		return true
	}
}

// expiring serves a first key object that ends within a second and a half, and
// holds the first sealed answer back until then.
func expiring(sc *scene) {
	var first atomic.Pointer[protocol.ContextID]
	var ends time.Time // set under the holder's lock, before any frame can come
	sc.object = func(o *keyObject) {
		if ends.IsZero() {
			ends = time.Now().Add(1500 * time.Millisecond).Truncate(time.Second) // half a second at least
			o.claims[claimExp] = unix(ends)
		}
	}
	sc.outer = holdUntil(&first, &ends)
}

// holdUntil holds the answer to the first sealed message back until *ends, and
// minds later ones in its context.
func holdUntil(first *atomic.Pointer[protocol.ContextID], ends *time.Time) func(*exchange) bool {
	return func(x *exchange) bool {
		if x.o == nil {
			return false
		}
		if first.CompareAndSwap(nil, &x.o.ctx.id) {
			x.mark()
			wait := time.NewTimer(time.Until(*ends) + 5*time.Millisecond)
			defer wait.Stop()
			select {
			case <-wait.C:
			case <-x.r.Context().Done():
			}
		} else if x.o.ctx.id == *first.Load() && !time.Now().Before(*ends) {
			x.h.problem("a request came in the context of what had expired")
		}
		return false
	}
}

func expiringSeen(t *T, r *result) {
	if why := r.trouble(); why != "" {
		t.Violate("%s", strings.TrimPrefix(why, "; "))
	}
	openings := 0
	for _, rec := range r.h.all() {
		if m := rec.method(); m == "server/discover" || m == "initialize" || m == protocol.MethodAttest {
			openings++
		}
	}
	if openings < 2 {
		t.Violate("the client did not ask for a newer key object")
	}
}

// leaks look at an ordinary run for what must not stand outside the seal.
func leaks() []conformance.Case {
	const about = "Looks at everything that the client sent in an ordinary run: "
	one := func(name, req, title, look string, eras []conformance.Era, check func(rec *record, r *result) string) conformance.Case {
		return positive(name, req, title, about+look, eras, nil, func(t *T, r *result) {
			for _, rec := range r.h.all() {
				if why := check(rec, r); why != "" {
					t.Violate("%s", why)
				}
			}
		})
	}
	return []conformance.Case{
		positive("canary", "TMCP-7.2-2", "the arguments of a call are nowhere on the wire", about+"the bytes of all connections are searched for the argument of the call, as it is, in hexadecimal and in base64.", both, nil, func(t *T, r *result) {
			for _, said := range r.h.runs() {
				if said == r.h.in {
					return // and succeeded looked for it
				}
			}
			t.NotApplicable("the client did not call echo with the text in TMCP_ECHO, so there is nothing to search for")
		}),
		one("one-frame", "TMCP-7.3-1", "trust/call holds one frame, which is final", "params of trust/call.", both, func(rec *record, _ *result) string {
			if rec.method() != protocol.MethodCall || rec.opened == nil {
				return ""
			}
			f, err := protocol.InspectFrame(rec.opened.frame)
			if err != nil || !f.Final {
				return fmt.Sprintf("the frame of trust/call is not final (%v)", err)
			}
			for name := range members(rec.msg.Params) {
				if name != "frame" && name != "_meta" {
					return fmt.Sprintf("params of trust/call holds %q", name)
				}
			}
			return ""
		}),
		one("no-name-headers", "TMCP-7.3-4", "no Mcp-Name and no Mcp-Param header stands outside", "the headers of sealed requests.", both, func(rec *record, _ *result) string {
			for name := range rec.header {
				if rec.sealed && (name == "Mcp-Name" || strings.HasPrefix(name, "Mcp-Param-")) {
					return "the header " + name + " stands outside a sealed message"
				}
			}
			return ""
		}),
		one("no-inner-fields", "TMCP-14.1-3", "no field of the inner request stands outside", "the headers of sealed requests.", both, func(rec *record, _ *result) string {
			for _, name := range []string{"Authorization", "Mcp-Session-Id", "Last-Event-Id", "Cookie"} {
				if rec.sealed && rec.header[name] != nil { // the outer leg was given no session
					return "the header " + name + " stands outside a sealed message"
				}
			}
			return ""
		}),
		one("outer-meta", "TMCP-7.3-3", "_meta of outer requests holds only what the outer leg needs", "_meta of each outer request.", both, func(rec *record, _ *result) string {
			if rec.msg == nil {
				return ""
			}
			for name := range members(conformance.Member(rec.msg.Params, "_meta")) {
				switch name {
				case conformance.MetaVersion, conformance.MetaCapabilities, conformance.MetaClientInfo:
				default:
					if !strings.HasPrefix(name, "org.trustedmcp/") {
						return fmt.Sprintf("_meta of %s holds %q outside the seal", rec.method(), name)
					}
				}
			}
			return ""
		}),
		one("discovery-tells-nothing", "TMCP-4.4-6", "outer requests name neither the client nor its capabilities", "client information and capabilities in the outer requests.", modernOnly, func(rec *record, r *result) string {
			if rec.msg == nil {
				return ""
			}
			return tellsUser(r, conformance.Member(rec.msg.Params, "_meta", conformance.MetaClientInfo), conformance.Member(rec.msg.Params, "_meta", conformance.MetaCapabilities))
		}),
		one("initialize-tells-nothing", "TMCP-4.5-2", "the outer initialize names neither the client nor its capabilities", "client information and capabilities in the outer initialize.", legacyOnly, func(rec *record, r *result) string {
			if rec.method() != "initialize" {
				return ""
			}
			return tellsUser(r, conformance.Member(rec.msg.Params, "clientInfo"), conformance.Member(rec.msg.Params, "capabilities"))
		}),
		one("initialize-sealed", "TMCP-4.5-3", "the inner initialize is sealed", "the one outer initialize must be followed by a sealed one when the inner conversation is legacy.", legacyOnly, func(rec *record, r *result) string {
			outer := 0
			for _, x := range r.h.all() {
				if x.method() == "initialize" {
					outer++
				}
			}
			if legacyInside(r) && (r.count("initialize") == 0 || outer > 1) {
				return fmt.Sprintf("%d outer initialize and %d sealed ones", outer, r.count("initialize"))
			}
			return ""
		}),
		one("declares", "TMCP-4.1-3", "the extension is declared with the client's settings", "client capabilities of each modern request, and of initialize.", both, func(rec *record, _ *result) string {
			if rec.msg == nil || !rec.msg.IsRequest() {
				return ""
			}
			path := []string{"_meta", conformance.MetaCapabilities}
			if rec.method() == "initialize" {
				path = []string{"capabilities"}
			} else if rec.header.Get("Mcp-Protocol-Version") != conformance.ModernVersion {
				return ""
			}
			v := conformance.Member(rec.msg.Params, append(path, "extensions", protocol.ExtensionID)...)
			if v == nil {
				return rec.method() + " does not declare the extension"
			}
			if _, err := protocol.ParseSettings(v); err != nil {
				return fmt.Sprintf("%s declares settings that are none: %v", rec.method(), err)
			}
			return ""
		}),
		one("declares-experimental", "TMCP-4.1-2", "a legacy initialize has the settings in experimental, too", "capabilities of the outer initialize.", legacyOnly, func(rec *record, _ *result) string {
			if rec.method() != "initialize" {
				return ""
			}
			a := conformance.Member(rec.msg.Params, "capabilities", "extensions", protocol.ExtensionID)
			b := conformance.Member(rec.msg.Params, "capabilities", "experimental", protocol.ExtensionID)
			if b == nil || string(a) != string(b) {
				return fmt.Sprintf("experimental holds %s, extensions %s", conformance.Short(b), conformance.Short(a))
			}
			return ""
		}),
		one("headers-equal-body", "TMCP-14.1-1", "MCP-Protocol-Version and Mcp-Method equal the body", "headers of the outer requests.", modernOnly, func(rec *record, _ *result) string {
			if rec.msg == nil || rec.method() == "" {
				return ""
			}
			if got := rec.header.Get("Mcp-Method"); got != rec.method() {
				return fmt.Sprintf("Mcp-Method is %q, the method is %s", got, rec.method())
			}
			if got := rec.header.Get("Mcp-Protocol-Version"); got != conformance.ModernVersion {
				return fmt.Sprintf("MCP-Protocol-Version is %q in a modern request", got)
			}
			return ""
		}),
		one("posts-only", "TMCP-14.3-1", "no GET and no DELETE stands outside", "HTTP methods of the outer leg.", both, func(rec *record, _ *result) string {
			if rec.verb != "POST" {
				return "HTTP " + rec.verb + " outside the seal"
			}
			return ""
		}),
	}
}

// legacyInside reports whether the conversation inside the seal is legacy.
func legacyInside(r *result) bool {
	for _, rec := range r.h.all() {
		if rec.opened != nil && rec.opened.ctx.revision != "" && rec.opened.ctx.revision != conformance.ModernVersion {
			return true
		}
	}
	return false
}

// tellsUser says what of the inner client the outer client information tells.
func tellsUser(r *result, info, caps []byte) string {
	name, _ := conformance.MemberText(info, "name")
	for _, rec := range r.h.all() {
		if rec.innerMsg == nil {
			continue
		}
		for _, path := range [][]string{{"clientInfo", "name"}, {"_meta", conformance.MetaClientInfo, "name"}} {
			if inner, ok := conformance.MemberText(rec.innerMsg.Params, path...); ok && inner != "" && inner == name {
				return fmt.Sprintf("the inner client's name %q stands outside the seal", name)
			}
		}
	}
	for member := range members(caps) {
		if member != "extensions" && member != "experimental" {
			return fmt.Sprintf("the capability %q stands outside the seal", member)
		}
		for ext := range members(conformance.Member(caps, member)) {
			if ext != protocol.ExtensionID {
				return fmt.Sprintf("the capability %s.%s stands outside the seal", member, ext)
			}
		}
	}
	return ""
}
