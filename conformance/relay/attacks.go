package relay

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// attack is one hostile way to behave.
type attack struct {
	name, req, title string
	early            bool // no sealed message may leave the client either

	// edit changes the messages of one honest answer; changed says whether it did.
	edit func(w *world, method string, id jsonrpc.ID, msgs []obj, a *answer) (edited []obj, changed bool)
}

func discovery(method string) bool { return method == "server/discover" || method == "initialize" }

// onDiscovery is an attack on what the client learns of the server.
func onDiscovery(name, req, title string, f func(w *world, res, settings, meta obj)) attack {
	return attack{name: name, req: req, title: title, early: true,
		edit: func(w *world, method string, _ jsonrpc.ID, msgs []obj, _ *answer) ([]obj, bool) {
			if !discovery(method) || len(msgs) == 0 {
				return msgs, false
			}
			res, _ := msgs[0]["result"].(obj)
			caps, _ := res["capabilities"].(obj)
			exts, _ := caps["extensions"].(obj)
			settings, _ := exts[protocol.ExtensionID].(obj)
			meta, _ := res["_meta"].(obj)
			if settings == nil || meta == nil {
				return msgs, false
			}
			f(w, res, settings, meta)
			if exp, ok := caps["experimental"].(obj); ok && exp[protocol.ExtensionID] != nil {
				exp[protocol.ExtensionID] = exts[protocol.ExtensionID] // both places tell the same lie
			}
			return msgs, true
		}}
}

// onAnswer is an attack on the answer to a sealed message.
func onAnswer(name, req, title string, f func(w *world, id jsonrpc.ID, msgs []obj, a *answer) []obj) attack {
	return attack{name: name, req: req, title: title,
		edit: func(w *world, method string, id jsonrpc.ID, msgs []obj, a *answer) ([]obj, bool) {
			if method != protocol.MethodCall || len(msgs) == 0 {
				return msgs, false
			}
			return f(w, id, msgs, a), true
		}}
}

// onFrames is an attack on the frames of one answer, the final one last.
func onFrames(name, req, title string, least int, f func(w *world, frames []string) []string) attack {
	return attack{name: name, req: req, title: title,
		edit: func(w *world, method string, id jsonrpc.ID, msgs []obj, _ *answer) ([]obj, bool) {
			var frames []string
			for _, m := range msgs {
				for _, k := range []string{"params", "result"} {
					if o, ok := m[k].(obj); ok {
						if s, ok := o["frame"].(string); ok {
							frames = append(frames, s)
						}
					}
				}
			}
			if method != protocol.MethodCall || len(frames) < least {
				return msgs, false
			}
			return carry(id, f(w, frames)), true
		}}
}

// carry puts frames into messages as section 7.3 has it. An empty last frame
// leaves the result out, as when a stream ends early.
func carry(id jsonrpc.ID, frames []string) []obj {
	var out []obj
	for i, f := range frames {
		if i < len(frames)-1 {
			out = append(out, obj{"jsonrpc": "2.0", "method": protocol.MethodFrame, "params": obj{"frame": f}})
		} else if f != "" {
			out = append(out, obj{"jsonrpc": "2.0", "id": jsontext.Value(id), "result": obj{"resultType": "complete", "frame": f}})
		}
	}
	return out
}

func result(id jsonrpc.ID, res obj) []obj {
	return []obj{{"jsonrpc": "2.0", "id": jsontext.Value(id), "result": res}}
}

func failure(id jsonrpc.ID, code int, data any) []obj {
	e := obj{"code": code, "message": "refused"}
	if data != nil {
		e["data"] = data
	}
	return []obj{{"jsonrpc": "2.0", "id": jsontext.Value(id), "error": e}}
}

func trustError(id jsonrpc.ID, r protocol.Reason, more obj) []obj {
	data := obj{"extension": protocol.ExtensionID, "reason": string(r)}
	for k, v := range more {
		data[k] = v
	}
	return failure(id, r.Code(), data)
}

// swapChar changes one character of base64url text.
func swapChar(s string, at int) string {
	c := "A"
	if s[at] == 'A' {
		c = "B"
	}
	return s[:at] + c + s[at+1:]
}

// discoverError answers discovery with an error.
func discoverError(name, title string, status, code int, data any) attack {
	return attack{name: name, req: "TMCP-11.2-3", title: title, early: true,
		edit: func(_ *world, method string, id jsonrpc.ID, msgs []obj, a *answer) ([]obj, bool) {
			if method != "server/discover" && method != "initialize" {
				return msgs, false
			}
			a.status = status
			return failure(id, code, data), true
		}}
}

var attacks = []attack{
	onDiscovery("strip-extension", "TMCP-11.2-2", "the extension is taken out of discovery", func(_ *world, res, _, meta obj) {
		res["capabilities"] = obj{"tools": obj{}}
		delete(meta, protocol.MetaKey)
	}),
	stripKey(),
	discoverError("discover-error", "discovery is answered with a legacy error and HTTP 400", 400, -32000, nil),
	discoverError("discover-error-trust", "discovery is answered with a trust error", 200, protocol.TrustRequired.Code(), obj{"extension": protocol.ExtensionID, "reason": "trust-required"}),
	discoverError("discover-method-not-found", "discovery is answered with -32601 and HTTP 404", 404, -32601, nil),
	discoverError("discover-version", "discovery is answered with -32022 and legacy versions", 400, -32022, obj{"supported": []any{"2025-11-25"}, "requested": "2026-07-28"}),
	discoverError("discover-capability", "discovery is answered with -32021", 400, -32021, obj{"requiredCapabilities": obj{}}),
	eraFallback(),
	onDiscovery("suite-rewrite", "TMCP-4.8-1", "the mandatory suite is taken out of the settings", func(_ *world, _, settings, _ obj) {
		settings["suites"] = []any{"x25519-sha256-chacha20poly1305"}
	}),
	onDiscovery("suite-reorder", "TMCP-4.8-1", "the order of the suites is turned round", func(_ *world, _, settings, _ obj) {
		settings["suites"] = []any{"x25519-sha256-chacha20poly1305", "mlkem768x25519-sha256-aes256gcm"}
	}),
	onDiscovery("mode-rewrite", "TMCP-4.8-1", "the mode is lowered to preferred", func(_ *world, _, settings, _ obj) { settings["mode"] = "preferred" }),
	onDiscovery("carrier-rewrite", "TMCP-4.8-1", "a carrier is taken out of the settings", func(_ *world, _, settings, _ obj) { settings["carriers"] = []any{"envelope"} }),
	onDiscovery("version-rewrite", "TMCP-4.1-5", "the settings' version becomes 2", func(_ *world, _, settings, _ obj) { settings["version"] = 2 }),
	onDiscovery("no-overlap", "TMCP-4.7-3", "no suite is in common", func(_ *world, _, settings, _ obj) { settings["suites"] = []any{"rot13"} }),
	onDiscovery("key-changed", "TMCP-5.4-7", "one character of the key object is changed", func(_ *world, _, _, meta obj) {
		k := meta[protocol.MetaKey].(string)
		meta[protocol.MetaKey] = swapChar(k, len(k)/2)
	}),
	onDiscovery("signature-changed", "TMCP-5.4-7", "the signature of the key object is changed", func(_ *world, _, _, meta obj) {
		k := meta[protocol.MetaKey].(string)
		meta[protocol.MetaKey] = swapChar(k, len(k)-12)
	}),
	onDiscovery("key-trailing", "TMCP-5.1-1", "a byte follows the key object", func(_ *world, _, _, meta obj) {
		b, _ := protocol.ParseBase64(meta[protocol.MetaKey].(string))
		meta[protocol.MetaKey] = protocol.Base64(append(b, 0))
	}),
	onAnswer("plaintext-answer", "TMCP-7.2-4", "a sealed call is answered in plaintext", func(w *world, id jsonrpc.ID, _ []obj, _ *answer) []obj {
		return result(id, obj{"resultType": "complete", "content": []any{obj{"type": "text", "text": w.forged}}, "tools": []any{}})
	}),
	onAnswer("unsealed-error", "TMCP-10.3-4", "a sealed call is answered with a plain error", func(_ *world, id jsonrpc.ID, _ []obj, _ *answer) []obj {
		return failure(id, -32603, nil)
	}),
	onAnswer("unsealed-401", "TMCP-10.3-1", "a sealed call is answered with HTTP 500", func(_ *world, id jsonrpc.ID, _ []obj, a *answer) []obj {
		a.status = 500
		return failure(id, -32603, nil)
	}),
	onAnswer("local-reason", "TMCP-10.4-1", "a peer sends a reason that only clients have", func(_ *world, id jsonrpc.ID, _ []obj, _ *answer) []obj {
		return trustError(id, protocol.TrustMissing, nil)
	}),
	onAnswer("trust-required", "TMCP-10.3-2", "a sealed call is answered with trust-required", func(_ *world, id jsonrpc.ID, _ []obj, _ *answer) []obj {
		return trustError(id, protocol.TrustRequired, nil)
	}),
	onAnswer("capability-error", "TMCP-10.3-1", "a sealed call is answered with -32021", func(_ *world, id jsonrpc.ID, _ []obj, a *answer) []obj {
		a.status = 400
		return failure(id, -32021, obj{"requiredCapabilities": obj{"extensions": obj{}}})
	}),
	onAnswer("version-error", "TMCP-10.3-3", "a sealed call is answered with -32022 and legacy versions", func(_ *world, id jsonrpc.ID, _ []obj, a *answer) []obj {
		a.status = 400
		return failure(id, -32022, obj{"supported": []any{"2025-11-25"}, "requested": "2026-07-28"})
	}),
	onAnswer("unknown-context-forever", "TMCP-8.5-4", "each seal is answered with unknown-context", func(_ *world, id jsonrpc.ID, _ []obj, _ *answer) []obj {
		return trustError(id, protocol.UnknownContext, nil)
	}),
	onFrames("frame-changed", "TMCP-9.1-7", "an answer frame is changed", 1, func(_ *world, f []string) []string {
		last := len(f) - 1
		f[last] = swapChar(f[last], len(f[last])-12)
		return f
	}),
	onFrames("frame-garbage", "TMCP-7.1-2", "an answer holds bytes that are no frame", 1, func(_ *world, f []string) []string {
		return []string{protocol.Base64([]byte{0xa1, 0x01, 0x02})}
	}),
	onFrames("truncated", "TMCP-9.2-1", "the answer ends before its final frame", 1, func(_ *world, f []string) []string {
		return append(f[:len(f)-1], "")
	}),
	onFrames("final-replaced", "TMCP-9.2-2", "an earlier frame stands where the final one should", 2, func(_ *world, f []string) []string {
		return f[:len(f)-1]
	}),
	onFrames("dropped", "TMCP-9.1-4", "a frame of the answer is missing", 2, func(_ *world, f []string) []string { return f[1:] }),
	onFrames("swapped", "TMCP-9.1-3", "two frames of the answer change places", 2, func(_ *world, f []string) []string {
		f[0], f[1] = f[1], f[0]
		return f
	}),
	onFrames("after-final", "TMCP-9.1-5", "another frame follows the final one", 1, func(_ *world, f []string) []string {
		// A copy would be redelivery, which section 9.3 allows; this one has the next number.
		return append(f, bendAnswer(f[len(f)-1], func(g *protocol.Frame) { g.N, g.Salt = g.N+1, nil }))
	}),
	onFrames("spliced", "TMCP-9.1-6", "an answer frame of another request is put in", 1, func(_ *world, f []string) []string {
		f[len(f)-1] = bendAnswer(f[len(f)-1], func(g *protocol.Frame) { g.Context[3] ^= 1 })
		return f
	}),
}

// stripKey leaves the settings and takes away every key object, that for a
// nonce too: a client may well ask for one where discovery shows none.
func stripKey() attack {
	a := onDiscovery("strip-key", "TMCP-11.2-2", "the key object is nowhere to be had", func(_ *world, _, _, meta obj) { delete(meta, protocol.MetaKey) })
	edit := a.edit
	a.edit = func(w *world, method string, id jsonrpc.ID, msgs []obj, ans *answer) ([]obj, bool) {
		if method == protocol.MethodAttest {
			return failure(id, -32601, nil), true
		}
		return edit(w, method, id, msgs, ans)
	}
	return a
}

// eraFallback refuses all that is modern, and answers initialize as a legacy
// server without trust does.
func eraFallback() attack {
	return attack{name: "era-fallback", req: "TMCP-11.2-4", title: "discovery fails, and initialize is answered as by a plain legacy server", early: true,
		edit: func(w *world, method string, id jsonrpc.ID, msgs []obj, a *answer) ([]obj, bool) {
			a.header.Set("Mcp-Session-Id", "0123456789abcdef")
			switch method {
			case "server/discover":
				a.status = 400
				return failure(id, -32601, nil), true
			case "initialize":
				a.status = 200
				return result(id, obj{"protocolVersion": "2025-11-25", "capabilities": obj{"tools": obj{}}, "serverInfo": obj{"name": "plain", "version": "1"}}), true
			case "tools/list", "tools/call":
				a.status = 200
				return result(id, obj{"content": []any{obj{"type": "text", "text": w.forged}}, "tools": []any{}}), true
			}
			return msgs, false
		}}
}

// bendAnswer changes one field of an answer frame in its text form.
func bendAnswer(text string, f func(*protocol.Frame)) string {
	b, err := protocol.ParseBase64(text)
	if err != nil {
		return text
	}
	g, err := protocol.InspectFrame(b)
	if err != nil {
		return text
	}
	f(g)
	return protocol.Base64(encodeAnswer(g))
}
