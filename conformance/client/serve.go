package client

import (
	"bytes"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// serve answers one request as the scene has it, and honestly where the scene
// says nothing.
func (h *host) serve(x *exchange) {
	if h.trust != nil && x.sealed {
		h.tryOpen(x)
	}
	if h.sc.outer != nil && h.sc.outer(x) {
		return
	}
	switch {
	case x.sealed:
		h.serveSealed(x)
	case x.verb != http.MethodPost:
		x.w.Header().Set("Allow", "POST")
		x.reply(405, "text/plain", []byte("POST only\n"))
	case x.msg == nil:
		x.fail(400, jsonrpc.CodeParse, "not a JSON-RPC message", "")
	case h.trust == nil:
		h.servePlain(x)
	case !x.msg.IsRequest():
		x.reply(202, "", nil)
	case x.attest:
		h.serveInlineAttest(x)
	default:
		h.serveOpening(x)
	}
}

// servePlain is an MCP server without trust.
func (h *host) servePlain(x *exchange) {
	a := h.inner(x.msg, x.header.Get("Mcp-Protocol-Version"))
	if h.sc.plain != nil && x.msg.IsRequest() && h.sc.plain(x, a) {
		return
	}
	status, contentType, body := a.http()
	x.reply(status, contentType, body)
}

// serveOpening answers what opens the outer leg.
func (h *host) serveOpening(x *exchange) {
	ext := Obj{protocol.ExtensionID: jsontext.Value(h.trust.settings.JSON())}
	caps := Obj{"extensions": ext}
	if h.sc.carrier == "inline" {
		caps["tools"] = Obj{}
	}
	meta := Obj{}
	res := Obj{"capabilities": caps, "_meta": meta}
	switch x.method() {
	case "server/discover":
		meta[conformance.MetaServerInfo] = Obj{"name": protocol.ExtensionID, "version": "1"}
		res["resultType"], res["supportedVersions"] = "complete", []string{conformance.ModernVersion}
		res["ttlMs"], res["cacheScope"] = 60_000, "public"
	case "initialize":
		v, _ := conformance.MemberText(x.msg.Params, "protocolVersion")
		caps["experimental"] = ext
		res["protocolVersion"], res["serverInfo"] = legacyVersion(v), Obj{"name": protocol.ExtensionID, "version": "1"}
	case protocol.MethodAttest:
		h.serveAttest(x)
		return
	case "ping":
		x.result([]byte(`{"resultType":"complete"}`))
		return
	case "tools/list":
		if h.sc.carrier == "inline" {
			x.result(h.listing(nil, x.header.Get("Mcp-Protocol-Version") == conformance.ModernVersion))
			return
		}
		fallthrough
	default:
		x.trustError(protocol.TrustRequired, nil)
		return
	}
	meta[protocol.MetaKey] = protocol.Base64(h.trust.object(nil, h.sc.object))
	if h.sc.opening != nil {
		h.sc.opening(x, res)
	}
	if h.sc.mutatesKey && h.sc.nonceObject == nil && h.sc.nonceEvidence == nil {
		x.mark()
	}
	x.result(conformance.JSON(res))
}

func (h *host) serveAttest(x *exchange) {
	text, _ := conformance.MemberText(x.msg.Params, "nonce")
	nonce, err := protocol.ParseBase64(text)
	if err != nil {
		h.problem("the nonce of trust/attest: %v", err)
	}
	if h.sc.nonceObject != nil {
		nonce = h.sc.nonceObject(nonce)
		x.mark()
	} else if h.sc.mutatesKey {
		x.mark()
	}
	x.result(conformance.JSON(Obj{"resultType": "complete", "settings": jsontext.Value(h.trust.settings.JSON()),
		"key": protocol.Base64(h.trust.objectWith(nonce, h.evidenceNonce(x, nonce), h.sc.object))}))
}

func (h *host) toolDigest() []byte {
	b := dcbor.AppendText(dcbor.AppendArray(nil, 3), label+"tool")
	b, err := dcbor.FromJSON(dcbor.AppendText(b, h.trust.uri), []byte(echoTool))
	if err != nil {
		return nil
	}
	return hash(b)
}

func (h *host) toolMeta() Obj {
	return Obj{"name": "echo", "digest": protocol.Base64(h.toolDigest())}
}

// listing is an outer tools/list result (inline carrier).
func (h *host) listing(frames []string, modern bool) []byte {
	res := Obj{"tools": []any{rawJSON(echoTool)}}
	if modern || frames != nil {
		res["resultType"], res["ttlMs"], res["cacheScope"] = "complete", 0, "private"
	}
	if frames != nil {
		res["_meta"] = Obj{protocol.MetaFrames: frames}
	}
	return conformance.JSON(res)
}

func (h *host) serveInlineAttest(x *exchange) {
	text, _ := conformance.MemberText(x.msg.Params, "_meta", protocol.MetaAttest, "nonce")
	nonce, err := protocol.ParseBase64(text)
	if err != nil {
		h.problem("the nonce of an inline attest request: %v", err)
	}
	if h.sc.nonceObject != nil {
		nonce = h.sc.nonceObject(nonce)
	}
	meta := Obj{protocol.MetaKey: protocol.Base64(h.trust.objectWith(nonce, h.evidenceNonce(x, nonce), h.sc.object)),
		protocol.MetaSettings: jsontext.Value(h.trust.settings.JSON()), protocol.MetaTool: h.toolMeta()}
	if h.sc.mutatesKey || h.sc.nonceObject != nil {
		x.mark()
	}
	x.result(conformance.JSON(Obj{"content": []any{}, "resultType": "complete", "_meta": meta}))
}

// frameOf is the frame that a request carries, with its carrier and the tool in
// its associated data.
func (h *host) frameOf(x *exchange) (frame []byte, carrier uint64, tool []byte) {
	if x.msg == nil {
		return x.body, 3, nil
	}
	v := conformance.Member(x.msg.Params, "frame")
	carrier = 1
	if x.method() != protocol.MethodCall {
		carrier = 2
		if items, ok := conformance.Items(conformance.Member(x.msg.Params, "_meta", protocol.MetaFrames)); ok && len(items) == 1 {
			v = items[0]
		}
		if x.method() == "tools/call" {
			tool = dcbor.AppendText(dcbor.AppendArray(nil, 2), "echo")
			tool = dcbor.AppendBytes(tool, h.toolDigest())
		}
	}
	s, _ := jsonrpc.Text(v)
	frame, err := protocol.ParseBase64(s)
	if err != nil {
		h.problem("a frame is not canonical base64url: %v", err)
	}
	return frame, carrier, tool
}

// tryOpen opens the frame, for the hooks and the verdicts.
func (h *host) tryOpen(x *exchange) {
	frame, carrier, tool := h.frameOf(x)
	var rest [][]byte
	if carrier == 3 { // a sequence: further chunks of the body follow
		for b := frame; ; {
			first, more, need, err := protocol.ParseFrames(b)
			if err != nil || need {
				break
			}
			rest = append(rest, first)
			b = more
		}
		if len(rest) > 0 {
			frame, rest = rest[0], rest[1:]
		}
	}
	if f, err := protocol.InspectFrame(frame); err == nil && f.Type == 1 {
		made := h.trust.made(f.KeyDigest)
		h.mu.Lock()
		if h.bad[f.KeyDigest] || !made {
			h.sealedTo = append(h.sealedTo, f.KeyDigest)
		}
		h.mu.Unlock()
	}
	o, err := h.trust.open(frame, carrier, tool)
	if err != nil {
		x.openErr = err
		if _, unknown := asUnknown(err); !unknown {
			h.problem("%v", err)
		}
		return
	}
	for _, f := range rest {
		more, err := h.trust.open(f, carrier, nil)
		if err != nil {
			h.problem("a further chunk: %v", err)
			break
		}
		o.body = append(o.body, more.body...)
	}
	x.o, x.opened = o, o
	h.mu.Lock()
	x.early = o.warm && !h.answered[o.ctx.id]
	h.mu.Unlock()
	x.digest = string(hash(o.body))
	if m, err := wire.ParseMessage(o.body); err == nil {
		x.record.inner = m.Method
		x.innerMsg = m
	}
}

// target reports whether x is the sealed call of the canary tool.
func (x *exchange) target() bool { return x.o != nil && x.record.inner == "tools/call" }

// serveSealed answers a sealed request.
func (h *host) serveSealed(x *exchange) {
	if x.o == nil {
		if reason, ok := asUnknown(x.openErr); ok {
			var object []byte
			if reason == protocol.UnknownKey {
				object = h.trust.object(nil, h.sc.object)
			}
			x.trustError(reason, object)
			return
		}
		x.trustError(protocol.OpenFailed, nil)
		return
	}
	x.write(x.frames(h.answerInner(x)))
}

// answerInner is the answer of the server behind, as contents.
func (h *host) answerInner(x *exchange) []content {
	o := x.o
	verb, version := http.MethodPost, o.field("mcp-protocol-version")
	switch {
	case o.kind == 2:
		verb = http.MethodGet
	case o.kind == 3:
		verb = http.MethodDelete
	case o.kind == 5:
		verb = o.method
	}
	a := &innerAnswer{status: 405}
	if verb == http.MethodPost && x.innerMsg != nil {
		a = h.inner(x.innerMsg, version)
	}
	x.inner = a
	status, contentType, body := a.http()
	var fields [][2]string
	if contentType != "" {
		fields = [][2]string{{"content-type", contentType}}
	}
	switch {
	case o.carrier == 3:
		cs := []content{{kind: 5, status: uint64(status), fields: fields, body: body}}
		if h.sc.chunked && x.target() { // the head and half of the body, then the rest
			cs[0].body = body[:len(body)/2]
			cs = append(cs, content{kind: 6, body: body[len(body)/2:]})
		}
		return cs
	case len(a.messages) == 0:
		return []content{{kind: 4, status: uint64(status)}}
	case !a.stream:
		return []content{{kind: 1, status: uint64(status), fields: fields, body: body}}
	}
	var cs []content
	for i, m := range a.messages {
		c := content{kind: 1, body: m}
		if i == 0 {
			c.fields, c.stream = fields, true
		}
		cs = append(cs, c)
	}
	return cs
}

// frames seals contents as the answer to x, bent by the scene when x is the
// call of the canary tool.
func (x *exchange) frames(cs []content) [][]byte {
	var fs []*outFrame
	for i, c := range cs {
		c.padded = c.padded || x.h.sc.padAnswers
		fs = append(fs, &outFrame{content: c, ctx: x.o.ctx, seq: x.o.seq, n: uint64(i), final: i == len(cs)-1, carrier: x.o.carrier})
	}
	if x.target() && x.h.sc.frames != nil {
		x.mark()
		fs = x.h.sc.frames(x, fs)
	}
	out := make([][]byte, len(fs))
	for i, f := range fs {
		out[i] = f.encode()
	}
	return out
}

// write puts answer frames on the wire, as the carrier has them. The last one is
// the response, unless the scene cuts the stream.
func (x *exchange) write(frames [][]byte) {
	cut := x.target() && x.h.sc.cut
	x.h.mu.Lock()
	if x.h.answered == nil {
		x.h.answered = map[protocol.ContextID]bool{}
	}
	x.h.answered[x.o.ctx.id] = true
	x.h.mu.Unlock()
	x.w.Header().Set("Cache-Control", "no-store")
	texts := make([]string, len(frames))
	for i, f := range frames {
		texts[i] = protocol.Base64(f)
	}
	switch {
	case x.o.carrier == 3:
		x.reply(200, protocol.MediaTypeFrames, bytes.Join(frames, nil))
	case x.o.carrier == 2 && x.method() == "tools/list":
		x.result(x.h.listing(texts, true))
	case x.o.carrier == 2:
		x.result(conformance.JSON(Obj{"content": []any{}, "resultType": "complete", "_meta": Obj{protocol.MetaFrames: texts}}))
	case len(frames) == 1 && !cut && !x.h.sc.sse:
		x.result(conformance.JSON(Obj{"resultType": "complete", "frame": texts[0]}))
	default:
		x.w.Header().Set("Content-Type", "text/event-stream")
		x.w.WriteHeader(200)
		for i, t := range texts {
			if x.h.sc.comments {
				_, _ = x.w.Write([]byte(": still here\n\n"))
			}
			m := conformance.JSON(Obj{"jsonrpc": "2.0", "method": protocol.MethodFrame, "params": Obj{"frame": t}})
			if i == len(texts)-1 && !cut {
				m = jsonrpc.Response(x.msg.ID, conformance.JSON(Obj{"resultType": "complete", "frame": t}))
			}
			_, _ = x.w.Write([]byte("data: " + string(m) + "\n\n"))
			x.flush()
		}
	}
}
