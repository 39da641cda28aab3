package client

import (
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/protocol"
)

// opens reports whether x is what the client opens the outer leg with.
func (x *exchange) opens() bool {
	return x.method() == "server/discover" || x.method() == "initialize"
}

// onOpening takes over the first request of the era that the client was told to
// use. A client that falls back to the other era finds an honest server there.
func onOpening(f func(x *exchange)) func(*scene) {
	return func(sc *scene) {
		var first atomic.Pointer[string]
		sc.outer = func(x *exchange) bool {
			method := x.method()
			if !x.opens() {
				return false
			}
			if first.CompareAndSwap(nil, &method); *first.Load() != method {
				return false
			}
			x.mark()
			f(x)
			return true
		}
	}
}

// onCall takes over the sealed call of the canary tool.
func onCall(f func(x *exchange)) func(*scene) {
	return func(sc *scene) {
		sc.outer = func(x *exchange) bool {
			if !x.target() {
				return false
			}
			x.mark()
			f(x)
			return true
		}
	}
}

// rewrite bends what the opening announces, as a relay would.
func rewrite(f func(x *exchange, res Obj)) func(*scene) {
	return func(sc *scene) { sc.opening, sc.mutatesKey = f, true }
}

// resettle replaces the settings that the opening announces.
func resettle(settings string) func(*scene) {
	return rewrite(func(_ *exchange, res Obj) {
		ext := Obj{protocol.ExtensionID: jsontext.Value(settings)}
		caps := res["capabilities"].(Obj)
		for _, m := range []string{"extensions", "experimental"} {
			if caps[m] != nil {
				caps[m] = ext
			}
		}
	})
}

// signedSettings are settings of the server itself.
func signedSettings(settings string) func(*scene) {
	return func(sc *scene) { sc.settings, sc.mutatesKey = settings, true }
}

func withSettings(profiles, carriers, suites, mode string) string {
	return `{"version":1,"profiles":` + profiles + `,"carriers":` + carriers + `,"suites":` + suites + `,"mode":"` + mode + `","clientKey":"none"}`
}

const (
	allCarriers = `["envelope","inline","http"]`
	bothSuites  = `["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"]`
	weakSuite   = `["x25519-sha256-chacha20poly1305"]`
	identityOK  = `["identity"]`
)

// status is an HTTP answer of a proxy or server that knows nothing.
func status(code int) func(x *exchange) {
	return func(x *exchange) { x.reply(code, "text/plain", []byte("no\n")) }
}

func rpcError(httpStatus, code int, message, data string) func(x *exchange) {
	return func(x *exchange) { x.fail(httpStatus, code, message, data) }
}

// plainResult is the answer of an MCP server that never heard of trust.
func (x *exchange) plainResult() []byte {
	return conformance.JSON(Obj{"resultType": "complete", "content": []Obj{{"type": "text", "text": x.h.forged}}})
}

// downgrade is the family of attacks that want the client to do without trust.
func downgrade() []conformance.Case {
	var all []conformance.Case
	opening := func(name, req, title string, set func(*scene)) {
		all = append(all, negative(name, req, title, "call", noSeal, both, set))
	}
	answer := func(name, req, title string, g guard, set func(*scene)) {
		all = append(all, negative(name, req, title, "call", g, both, set))
	}

	opening("strip-extension", "TMCP-11.2-2", "a server from whose answer the extension was stripped gets no plaintext", rewrite(func(_ *exchange, res Obj) {
		delete(res["_meta"].(Obj), protocol.MetaKey)
		caps := res["capabilities"].(Obj)
		delete(caps, "extensions")
		delete(caps, "experimental")
		caps["tools"] = Obj{}
	}))
	opening("strip-key", "TMCP-11.2-2", "a server that offers the extension without a key object, and shows none when asked, gets no plaintext", func(sc *scene) {
		sc.mutatesKey = true
		sc.opening = func(_ *exchange, res Obj) { delete(res["_meta"].(Obj), protocol.MetaKey) }
		sc.outer = func(x *exchange) bool {
			if x.method() != protocol.MethodAttest {
				return false
			}
			x.fail(200, -32601, "method not found", "")
			return true
		}
	})

	for _, s := range []struct {
		name, title string
		do          func(x *exchange)
	}{
		{"error", "an error in answer to the opening", rpcError(200, -32601, "method not found", "")},
		{"internal", "an internal error in answer to the opening", rpcError(500, -32603, "internal error", "")},
		{"400", "HTTP 400 in answer to the opening", status(400)},
		{"401", "HTTP 401 in answer to the opening", status(401)},
		{"403", "HTTP 403 in answer to the opening", status(403)},
		{"404", "HTTP 404 in answer to the opening", status(404)},
		{"405", "HTTP 405 in answer to the opening", status(405)},
		{"500", "HTTP 500 in answer to the opening", status(500)},
		{"503", "HTTP 503 in answer to the opening", status(503)},
		{"empty", "an empty answer to the opening", func(x *exchange) { x.reply(200, "application/json", nil) }},
		{"accepted", "HTTP 202 without an answer to the opening", func(x *exchange) { x.reply(202, "", nil) }},
		{"html", "a web page in answer to the opening", func(x *exchange) {
			x.reply(200, "text/html", []byte("<!doctype html><title>Sign in</title>"))
		}},
		{"stream-ends", "an event stream that ends without an answer to the opening", func(x *exchange) { x.reply(200, "text/event-stream", []byte(": nothing\n\n")) }},
		{"hang", "no answer to the opening, until the connection breaks", func(x *exchange) { x.hang(); x.abort() }},
		{"reset", "a connection that breaks in answer to the opening", func(x *exchange) { x.abort() }},
		{"missing-capability", "error -32021 in answer to the opening", rpcError(400, -32021, "missing required client capability", `{"requiredCapabilities":{"extensions":{}}}`)},
	} {
		opening("discover-"+s.name, "TMCP-11.2-3", s.title+" does not make the client do without trust", onOpening(s.do))
	}

	opening("era-fallback", "TMCP-11.2-4", "a server that says it knows the other era only is not followed there", onOpening(func(x *exchange) {
		if x.method() == "initialize" {
			x.fail(400, -32022, "unsupported protocol version", `{"supported":["2026-07-28"],"requested":"2025-11-25"}`)
			return
		}
		x.fail(400, -32022, "unsupported protocol version", `{"supported":["2025-11-25"],"requested":"2026-07-28"}`)
	}))
	all = append(all, negative("era-versions", "TMCP-11.2-4", "supportedVersions that lists the legacy era only is not followed", "call", noSeal, modernOnly, rewrite(func(_ *exchange, res Obj) {
		res["supportedVersions"] = []string{"2025-11-25"}
	})))

	opening("suite-rewrite", "TMCP-4.8-1", "a list of suites that was cut down to the weaker one is refused", resettle(withSettings(identityOK, allCarriers, weakSuite, "required")))
	opening("suite-reorder", "TMCP-4.8-1", "a list of suites in another order is refused", resettle(withSettings(identityOK, allCarriers, `["x25519-sha256-chacha20poly1305","mlkem768x25519-sha256-aes256gcm"]`, "required")))
	opening("mode-rewrite", "TMCP-4.8-1", "a mode that was lowered on the way is refused", resettle(withSettings(identityOK, allCarriers, bothSuites, "preferred")))
	opening("member-added", "TMCP-4.3-1", "an unknown member that was added on the way is refused", resettle(withSettings(identityOK, allCarriers, bothSuites, `required","x":"y`)))
	opening("version-two", "TMCP-4.1-6", "settings of a version that the client does not speak are refused", resettle(`{"version":2,"profiles":["identity"],"carriers":["envelope"],"suites":`+bothSuites+`,"mode":"required"}`))
	opening("settings-missing-member", "TMCP-4.2-7", "settings without suites are refused", resettle(`{"version":1,"profiles":["identity"],"carriers":["envelope"],"mode":"required"}`))
	opening("settings-wrong-type", "TMCP-4.2-7", "settings whose carriers are no list are refused", resettle(`{"version":1,"profiles":["identity"],"carriers":"envelope","suites":`+bothSuites+`,"mode":"required"}`))
	opening("settings-duplicate", "TMCP-2.3-4", "settings with a member that stands twice are refused", func(sc *scene) {
		sc.mutatesKey = true
		sc.outer = func(x *exchange) bool {
			if !x.opens() {
				return false
			}
			x.mark()
			// The first mode is the signed one, for a reader that takes the first.
			s := string(x.h.trust.settings.JSON())
			s = s[:len(s)-1] + `,"mode":"preferred"}`
			key := protocol.Base64(x.h.trust.object(nil, nil))
			x.result([]byte(sprint(`{"resultType":"complete","supportedVersions":["2026-07-28"],"protocolVersion":"2025-11-25","serverInfo":{"name":"x","version":"1"},"capabilities":{"extensions":{%q:%s},"experimental":{%q:%s}},"ttlMs":0,"cacheScope":"public","_meta":{%q:%q}}`,
				protocol.ExtensionID, s, protocol.ExtensionID, s, protocol.MetaKey, key)))
			return true
		}
	})
	opening("no-common-carrier", "TMCP-4.7-3", "a server without a common carrier gets nothing of the user", signedSettings(withSettings(identityOK, `["inline"]`, bothSuites, "required")))
	opening("no-common-profile", "TMCP-4.7-3", "a server without a common profile gets nothing of the user", signedSettings(withSettings(`["aicc-0.1"]`, allCarriers, bothSuites, "required")))

	forged := func(x *exchange) { x.result(x.plainResult()) }
	answer("plaintext-answer", "TMCP-7.2-4", "a plain result in answer to a sealed call is refused", noForgery, onCall(forged))
	answer("plaintext-stream", "TMCP-7.2-4", "a plain result in an event stream is refused", noForgery, onCall(func(x *exchange) {
		x.reply(200, "text/event-stream", []byte("data: {\"jsonrpc\":\"2.0\",\"id\":"+x.id()+",\"result\":"+string(x.plainResult())+"}\n\n"))
	}))
	answer("plaintext-inner-id", "TMCP-7.2-4", "a plain result with the inner request's id is refused", noForgery, onCall(func(x *exchange) {
		x.reply(200, "application/json", []byte(`{"jsonrpc":"2.0","id":`+string(x.innerMsg.ID)+`,"result":`+string(x.plainResult())+`}`))
	}))
	answer("plaintext-beside-frame", "TMCP-7.6-1", "members beside the frame decide nothing", noForgery, onCall(func(x *exchange) {
		x.result(conformance.JSON(Obj{"resultType": "complete", "frame": protocol.Base64([]byte{0xa0}), "content": []Obj{{"type": "text", "text": x.h.forged}}}))
	}))
	all = append(all, negative("plaintext-after-frames", "TMCP-7.2-4", "a plain result after sealed frames is refused", "stream", noForgery, both, func(sc *scene) {
		sc.stream = true
		sc.outer = func(x *exchange) bool {
			if !x.target() {
				return false
			}
			frames := x.frames(x.h.answerInner(x))
			x.mark()
			x.reply(200, "text/event-stream", []byte("data: "+string(conformance.JSON(Obj{"jsonrpc": "2.0", "method": protocol.MethodFrame, "params": Obj{"frame": protocol.Base64(frames[0])}}))+
				"\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":"+x.id()+",\"result\":"+string(x.plainResult())+"}\n\n"))
			return true
		}
	}))
	all = append(all, negative("plaintext-http", "TMCP-7.5-5", "a plain answer to a call by the http carrier is refused", "http", noForgery, both, func(sc *scene) {
		onCall(func(x *exchange) {
			x.reply(200, "application/json", []byte(`{"jsonrpc":"2.0","id":`+string(x.innerMsg.ID)+`,"result":`+string(x.plainResult())+`}`))
		})(sc)
		sc.carrier = "http"
	}))
	all = append(all, negative("plaintext-inline", "TMCP-7.2-4", "a plain answer to an inline call is refused", "inline", noForgery, both, func(sc *scene) {
		onCall(forged)(sc)
		sc.carrier = "inline"
	}))

	answer("unsealed-error", "TMCP-10.3-4", "an error that came unsealed does not make the client send plaintext", noPlain, onCall(rpcError(200, -32603, "internal error", "")))
	answer("unsealed-not-found", "TMCP-10.3-1", "method not found with HTTP 404 does not make the client send plaintext", noPlain, onCall(rpcError(404, -32601, "method not found", "")))
	answer("unsealed-400", "TMCP-10.3-1", "HTTP 400 does not make the client send plaintext", noPlain, onCall(status(400)))
	answer("unsealed-401", "TMCP-10.3-1", "HTTP 401 does not make the client send plaintext", noPlain, onCall(status(401)))
	answer("unsealed-502", "TMCP-10.3-1", "HTTP 502 does not make the client send plaintext", noPlain, onCall(status(502)))
	answer("unsealed-version", "TMCP-10.3-3", "error -32022 does not make the client change the era", noPlain, onCall(rpcError(400, -32022, "unsupported protocol version", `{"supported":["2025-11-25"],"requested":"2026-07-28"}`)))
	answer("missing-capability", "TMCP-10.3-1", "error -32021 does not make the client send plaintext", noPlain, onCall(rpcError(400, -32021, "missing required client capability", `{"requiredCapabilities":{"extensions":{}}}`)))
	answer("trust-off", "TMCP-10.3-1", "a trust error that asks for plaintext gets none", noPlain, onCall(func(x *exchange) { x.trustError(protocol.UnsupportedVersion, nil) }))
	answer("carrier-refused", "TMCP-10.3-3", "carrier-refused does not make the client change the carrier", noPlain, onCall(func(x *exchange) { x.trustError(protocol.CarrierRefused, nil) }))
	answer("suite-refused", "TMCP-10.3-3", "unsupported-suite does not make the client change the suite", noPlain, onCall(func(x *exchange) { x.trustError(protocol.UnsupportedSuite, nil) }))
	answer("busy", "TMCP-10.3-2", "busy is retried within the bound or given up", noPlain, onCall(func(x *exchange) { x.trustError(protocol.Busy, nil) }))
	answer("local-reason", "TMCP-10.4-1", "a peer's error with a local reason is not the client's own", noPlain, onCall(func(x *exchange) { x.trustError(protocol.TrustMissing, nil) }))
	answer("unknown-context-forever", "TMCP-8.5-4", "a message is sealed three times at most", noPlain, onCall(func(x *exchange) { x.trustError(protocol.UnknownContext, nil) }))
	answer("unknown-key-forever", "TMCP-8.6-3", "a message is sealed to three keys at most", noPlain, onCall(func(x *exchange) {
		if err := x.h.trust.renew(); err == nil {
			x.trustError(protocol.UnknownKey, x.h.trust.object(nil, nil))
		}
	}))
	all = append(all, negative("unknown-key-foreign", "TMCP-8.6-2", "the key object in an error is verified like any other", "unknown-key", noPlain, both, onCall(func(x *exchange) {
		object := x.h.trust.object(nil, impostor)
		x.h.forbid(keyDigest(object))
		x.trustError(protocol.UnknownKey, object)
	})))
	all = append(all, negative("unknown-key-expired", "TMCP-8.6-2", "an expired key object in an error is refused", "unknown-key", noPlain, both, onCall(func(x *exchange) {
		object := x.h.trust.object(nil, func(o *keyObject) {
			o.claims[claimNbf], o.claims[claimIat], o.claims[claimExp] = in(-600), in(-600), in(-1)
		})
		x.h.forbid(keyDigest(object))
		x.trustError(protocol.UnknownKey, object)
	})))
	return all
}

// pause waits a while, or until the client goes away.
func (x *exchange) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.r.Context().Done():
	}
}
