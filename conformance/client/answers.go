package client

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// forge makes of an answer content one that would be a success.
func forge(x *exchange) content {
	return content{kind: 1, fields: [][2]string{{"content-type", "application/json"}}, body: jsonrpc.Response(x.innerMsg.ID, x.plainResult())}
}

// answers are the sealed answers that a client must not deliver.
func answers() []conformance.Case {
	type bend = func(x *exchange, fs []*outFrame) []*outFrame
	var all []conformance.Case
	// one bends an answer of one frame, many one of two: a notification and the
	// response.
	one := func(name, req, title string, f bend) {
		all = append(all, negative("answer-"+name, req, title, "call", noForgery, both, func(sc *scene) { sc.frames = f }))
	}
	many := func(name, req, title string, f bend, more ...func(*scene)) {
		all = append(all, negative("answer-"+name, req, title, "stream", noForgery, both, func(sc *scene) {
			sc.stream, sc.frames = true, f
			for _, m := range more {
				m(sc)
			}
		}))
	}
	cut := func(sc *scene) { sc.cut = true }

	many("truncated", "TMCP-9.2-1", "an answer that ends before its final frame is truncated", func(_ *exchange, fs []*outFrame) []*outFrame { return fs[:1] }, cut)
	many("response-not-final", "TMCP-9.2-2", "a response in a frame that is not final is not reported when the final one never comes", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[1].final = false
		return fs
	}, cut)
	all = append(all, negative("answer-broken-off", "TMCP-9.2-1", "a connection that breaks before the final frame makes the answer truncated", "stream", noForgery, both, func(sc *scene) {
		sc.stream = true
		sc.outer = func(x *exchange) bool {
			if !x.target() {
				return false
			}
			frames := x.frames(x.h.answerInner(x))
			x.mark()
			x.w.Header().Set("Content-Type", "text/event-stream")
			_, _ = x.w.Write([]byte("data: " + string(conformance.JSON(Obj{"jsonrpc": "2.0", "method": protocol.MethodFrame, "params": Obj{"frame": protocol.Base64(frames[0])}})) + "\n\ndata: {\"jsonrpc\""))
			x.flush()
			x.abort()
			return true
		}
	}))
	all = append(all, negative("answer-truncated-http", "TMCP-9.2-1", "an HTTP answer without its final chunk is truncated", "http-chunked", noForgery, both, func(sc *scene) {
		sc.carrier = "http"
		sc.frames = func(_ *exchange, fs []*outFrame) []*outFrame { // all of the body, and no final frame
			fs[0].final = false
			return fs
		}
	}))
	many("swapped", "TMCP-9.1-4", "frames that changed places are refused", func(_ *exchange, fs []*outFrame) []*outFrame { return []*outFrame{fs[1], fs[0]} })
	many("first-lost", "TMCP-9.1-4", "an answer whose first frame was lost is refused", func(_ *exchange, fs []*outFrame) []*outFrame { return fs[1:] })
	many("gap", "TMCP-9.1-4", "a gap in the numbers is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[1].n = 2
		return fs
	})
	many("redelivered-altered", "TMCP-9.3-3", "a frame that comes again and does not open is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		again := *fs[0]
		again.flip = true
		return []*outFrame{fs[0], &again, fs[1]}
	})
	all = append(all, negative("answer-after-final", "TMCP-9.1-5", "nothing after the final frame is delivered", "stream", noForgery, both, func(sc *scene) {
		sc.stream, sc.honest = true, true
		sc.frames = func(x *exchange, fs []*outFrame) []*outFrame {
			more := *fs[1]
			more.n, more.content = 2, forge(x)
			return append(fs, &more)
		}
	}))
	all = append(all, negative("answer-spliced", "TMCP-9.1-6", "the answer to another call is refused", "call", noForgery, both, func(sc *scene) {
		var earlier atomic.Pointer[[]byte]
		sc.outer = func(x *exchange) bool {
			if x.o == nil || x.target() {
				return false
			}
			frames := x.frames(x.h.answerInner(x))
			earlier.Store(&frames[0])
			x.write(frames)
			return true
		}
		sc.frames = func(_ *exchange, fs []*outFrame) []*outFrame {
			fs[0].raw = []byte{} // where no other call was answered before
			if b := earlier.Load(); b != nil {
				fs[0].raw = *b
			}
			return fs
		}
	}))
	one("spliced-head", "TMCP-9.1-6", "an answer under another number of the context is refused", func(x *exchange, fs []*outFrame) []*outFrame {
		fs[0].seq++
		fs[0].content = forge(x)
		return fs
	})
	one("context-rewritten", "TMCP-7.2-5", "an answer under another context is refused, whatever the outer id", func(_ *exchange, fs []*outFrame) []*outFrame {
		other := *fs[0].ctx
		other.id[3] ^= 1
		fs[0].ctx = &other
		return fs
	})
	one("altered", "TMCP-9.1-7", "an altered ciphertext is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].flip = true
		return fs
	})
	one("salt-altered", "TMCP-9.1-7", "an altered salt is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].head = func(f *outFrame) {
			f.salt = bytes.Clone(f.ctx.salt)
			f.salt[0] ^= 1
		}
		return fs
	})
	one("final-cleared", "TMCP-9.1-7", "a final flag that was cleared is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].head = func(f *outFrame) { f.final = false }
		return fs
	})
	many("final-set", "TMCP-9.1-7", "a final flag that was set is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].head = func(f *outFrame) { f.final = true }
		return fs[:1]
	})
	one("other-carrier", "TMCP-6.5-1", "an answer that was sealed for another carrier is refused", func(x *exchange, fs []*outFrame) []*outFrame {
		fs[0].carrier = 2
		return fs
	})
	one("reflected", "TMCP-7.1-2", "the client's own request is refused as the answer", func(x *exchange, fs []*outFrame) []*outFrame {
		fs[0].raw = x.o.frame
		return fs
	})
	one("request-key", "TMCP-9.1-7", "an answer that was sealed with the request key is refused", func(x *exchange, fs []*outFrame) []*outFrame {
		other := *fs[0].ctx
		other.secret = other.requestKey
		fs[0].ctx, fs[0].content = &other, forge(x)
		return fs
	})
	one("not-cbor", "TMCP-7.1-2", "bytes that are no frame are refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].raw = []byte("a frame it is not")
		return fs
	})
	one("empty", "TMCP-7.1-2", "an empty frame is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].raw = []byte{}
		return fs
	})
	one("trailing", "TMCP-2.3-1", "bytes after the frame are refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].bytes = func(b []byte) []byte { return append(b, 0) }
		return fs
	})
	one("not-shortest", "TMCP-2.3-1", "a head that is not shortest is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].bytes = func(b []byte) []byte { return append([]byte{b[0], 0x18, b[1]}, b[2:]...) }
		return fs
	})
	one("salt-short", "TMCP-7.1-3", "a salt of another length is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].salt = make([]byte, 15)
		return fs
	})
	one("kind-get", "TMCP-6.6-4", "a content of a kind that does not belong there is refused", func(x *exchange, fs []*outFrame) []*outFrame {
		fs[0].content.kind = 2
		return fs
	})
	one("kind-unknown", "TMCP-6.6-4", "a content of an unknown kind is refused", func(x *exchange, fs []*outFrame) []*outFrame {
		fs[0].content.kind = 99
		return fs
	})
	one("status-out-of-range", "TMCP-6.6-4", "a status that is none is refused", func(x *exchange, fs []*outFrame) []*outFrame {
		fs[0].content.over = map[uint64][]byte{1: number(42)}
		return fs
	})
	one("padding-not-zero", "TMCP-6.6-5", "padding that is not zero is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].content.badPadding = true
		return fs
	})
	one("field-injection", "TMCP-6.6-7", "a sealed field that would break the HTTP message is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		fs[0].content.fields = append(fs[0].content.fields, [2]string{"x-split", "a\r\nset-cookie: b"})
		return fs
	})
	one("field-name", "TMCP-6.6-7", "a sealed field name that is none is refused", func(_ *exchange, fs []*outFrame) []*outFrame {
		b := dcbor.AppendText(dcbor.AppendArray(dcbor.AppendArray(nil, 1), 2), "Content Type")
		fs[0].content.over = map[uint64][]byte{2: dcbor.AppendBytes(b, []byte("application/json"))}
		return fs
	})
	all = append(all, negative("answer-padded-text", "TMCP-2.3-3", "a frame in base64url with padding is refused", "call", noForgery, both, onCall(func(x *exchange) {
		f := x.frames(x.h.answerInner(x))[0]
		x.result(conformance.JSON(Obj{"resultType": "complete", "frame": protocol.Base64(f) + "="}))
	})))
	all = append(all, negative("answer-frame-missing", "TMCP-7.2-4", "a result without a frame is refused", "call", noForgery, both, onCall(func(x *exchange) {
		x.result([]byte(`{"resultType":"complete"}`))
	})))
	return all
}

// transportLevel are the answers of HTTP peers that are broken, or break in.
func transportLevel() []conformance.Case {
	var all []conformance.Case
	call := func(name, req, title string, g guard, f func(x *exchange)) {
		all = append(all, negative(name, req, title, "call", g, both, onCall(f)))
	}
	call("answer-html", "TMCP-7.2-4", "a web page in answer to a sealed call is refused", noForgery, func(x *exchange) {
		x.reply(200, "text/html", []byte("<!doctype html><title>"+x.h.forged+"</title>"))
	})
	call("answer-huge", "TMCP-2.3-6", "an answer without end is refused", noForgery, func(x *exchange) {
		x.w.Header().Set("Content-Type", "application/json")
		_, _ = x.w.Write([]byte(`{"jsonrpc":"2.0","id":` + x.id() + `,"result":{"resultType":"complete","pad":"`))
		block := []byte(strings.Repeat("x", 1<<18))
		for range 64 << 2 { // 64 MiB, if the client takes it
			if _, err := x.w.(*loggedWriter).ResponseWriter.Write(block); err != nil {
				return
			}
		}
		_, _ = x.w.Write([]byte(`","content":[]}}`))
	})
	call("answer-deep", "TMCP-2.3-6", "an answer that nests without end is refused", noForgery, func(x *exchange) {
		x.result([]byte(`{"resultType":"complete","content":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`))
	})
	call("answer-double-member", "TMCP-2.3-4", "an answer in which a member stands twice is refused", noForgery, func(x *exchange) {
		frames := x.frames(x.h.answerInner(x))
		x.result([]byte(`{"resultType":"complete","frame":"` + protocol.Base64(frames[0]) + `","frame":"` + protocol.Base64(frames[0]) + `"}`))
	})
	call("answer-slow", "TMCP-10.4-2", "an answer that trickles in and breaks off ends the call", noForgery, func(x *exchange) {
		x.w.Header().Set("Content-Type", "application/json")
		for range 5 {
			_, _ = x.w.Write([]byte("{"))
			x.flush()
			x.pause(x.h.sc.hangFor / 5)
		}
		x.abort()
	})
	call("answer-hang", "TMCP-10.4-2", "a call that is not answered until the connection breaks ends with an error", noForgery, func(x *exchange) {
		x.hang()
		x.abort()
	})
	all = append(all, redirect("redirect-call", "a redirect of a sealed call to another origin is not followed", onCall))
	all = append(all, redirect("redirect-opening", "a redirect of the opening to another origin is not followed", onOpening))
	return all
}

// redirect sends the client to another origin, and looks whether it goes there.
func redirect(name, title string, on func(func(*exchange)) func(*scene)) conformance.Case {
	c := identity(name, "TMCP-14.4-4", conformance.Case{Title: title, Twin: "call",
		About: "The answer is HTTP 307 to another port. Nothing may arrive there, and the client must end with an error."})
	c.Run = func(t *T) {
		there := make(chan struct{}, 1)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Untestable("%v", err)
		}
		other := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t.Log().Add(wire.Received, "http-request", []byte(r.Method+" at the other origin"))
			select {
			case there <- struct{}{}:
			default:
			}
			http.Error(w, "no", http.StatusTeapot)
		})}
		go func() { _ = other.Serve(l) }()
		defer other.Close()
		r := play(t, c.ID, on(func(x *exchange) {
			x.w.Header().Set("Location", "http://"+l.Addr().String()+"/mcp")
			x.reply(307, "", nil)
		}))
		select {
		case <-there:
			t.Violate("the client followed the redirect to another origin")
		default:
		}
		r.refused(noPlain)
	}
	return c
}
