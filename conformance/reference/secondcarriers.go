package reference

import (
	"bytes"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// inlineAttest answers a tools/call that asks who is there (section 7.4).
func (s *Second) inlineAttest(m *jsonrpc.Message, attest jsontext.Value) (int, [][]byte) {
	text, _ := conformance.MemberText(attest, "nonce")
	nonce, err := protocol.ParseBase64(text)
	if err != nil || len(nonce) < 8 || len(nonce) > 64 {
		return s.refuse(m.ID, no(protocol.MalformedContent))
	}
	name, _ := conformance.MemberText(m.Params, "name")
	tool := s.tool(name)
	if tool == nil {
		return s.refuse(m.ID, no(protocol.ToolChanged))
	}
	kind, _ := conformance.MemberText(attest, "evidence")
	if s.has("inline-fresh-ignored") {
		kind = ""
	}
	object, err := s.forNonce(nonce, kind)
	if err != nil {
		return s.refuse(m.ID, err)
	}
	res := obj{"content": []any{}, "resultType": "complete", "_meta": obj{protocol.MetaKey: protocol.Base64(object),
		protocol.MetaSettings: jsontext.Value(s.mine.JSON()), protocol.MetaTool: jsontext.Value(tool.JSON())}}
	switch {
	case s.has("attest-without-tool"):
		delete(res["_meta"].(obj), protocol.MetaTool)
	case s.has("attest-runs-arguments") && conformance.Member(m.Params, "arguments") != nil:
		res["content"] = []any{obj{"type": "text", "text": "done"}}
	}
	return s.result(m, res)
}

// inline serves a tools/call or tools/list that carries frames.
func (s *Second) inline(m *jsonrpc.Message, frames jsontext.Value) (int, [][]byte) {
	if m.Method != "tools/call" && m.Method != "tools/list" && !s.has("frames-anywhere") {
		return s.refuse(m.ID, no(protocol.OuterMismatch))
	}
	args := conformance.Member(m.Params, "arguments") != nil
	if args && !s.has("arguments-outside") {
		return s.refuse(m.ID, no(protocol.OuterMismatch))
	}
	texts, _ := conformance.Strings(frames)
	if len(texts) == 0 || len(texts) > 1 && !s.has("first-of-many-frames") {
		return s.refuse(m.ID, no(protocol.MalformedFrame))
	}
	frame, err := s.decode(texts[0])
	if err != nil {
		return s.refuse(m.ID, err)
	}
	name, _ := conformance.MemberText(m.Params, "name")
	said, _ := protocol.ParseTool(conformance.Member(m.Params, "_meta", protocol.MetaTool))
	var tool *protocol.Tool
	var aad []byte
	if m.Method != "tools/list" {
		if s.has("outer-name-ignored") && said != nil || s.has("frames-anywhere") && m.Method != "tools/call" {
			name = said.Name
		}
		if tool = s.tool(name); tool == nil {
			return s.refuse(m.ID, no(protocol.ToolChanged))
		}
		if said != nil && said.Name != tool.Name {
			return s.refuse(m.ID, no(protocol.OuterMismatch))
		}
		if said != nil && said.Digest != tool.Digest {
			if !s.has("tool-digest-ignored") {
				return s.refuse(m.ID, refusal{protocol.ToolChanged, obj{"tool": jsontext.Value(tool.JSON())}})
			}
			tool = said
		}
		aad = hand.Tool(tool.Name, [32]byte(tool.Digest))
	}
	r, err := s.open(frame, hand.Inline, aad)
	if err == nil {
		err = s.outside(m, r)
	}
	if err != nil {
		return s.refuse(m.ID, err)
	}
	in, err := jsonrpc.Parse(r.content.Body, jsonrpc.Limits{})
	if err != nil {
		return s.refuse(m.ID, no(protocol.MalformedContent))
	}
	inside, _ := conformance.MemberText(in.Params, "name")
	if in.Method != m.Method && !s.has("inner-method-unchecked") && !s.has("frames-anywhere") || tool != nil && inside != tool.Name && !s.has("inner-name-unchecked") && !s.has("inner-method-unchecked") {
		return s.refuse(m.ID, no(protocol.OuterMismatch))
	}
	contents := s.run(r)
	var out []string
	for i, c := range contents {
		out = append(out, protocol.Base64(s.seal(r, c, i == len(contents)-1)))
	}
	res := obj{"resultType": "complete", "_meta": obj{protocol.MetaFrames: out}}
	switch {
	case m.Method == "tools/list":
		res["tools"], res["cacheScope"], res["ttlMs"] = []any{}, "private", 0
		if s.tools {
			res["tools"] = s.listed()
		}
		if s.has("list-public") {
			res["cacheScope"], res["ttlMs"] = "public", 60_000
		}
	case s.has("content-outside"), s.has("arguments-outside") && args:
		res["content"] = []any{obj{"type": "text", "text": "done"}}
	default:
		res["content"] = []any{}
	}
	return s.result(m, res)
}

// framed serves the carrier http.
func (s *Second) framed(w http.ResponseWriter, r *http.Request, body []byte) {
	req, err := s.whole(body)
	if err != nil {
		_, messages := s.refuse("", err)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(messages[0])
		return
	}
	h := http.Header{}
	for _, f := range req.content.Fields() {
		h[http.CanonicalHeaderKey(f[0])] = append(h[http.CanonicalHeaderKey(f[0])], f[1])
	}
	rec := s.serve(req.content.Text(4), req.content.Text(3), h, req.content.Body)
	var fields [][2]string
	for name, values := range rec.Header() {
		for _, v := range values {
			fields = append(fields, [2]string{strings.ToLower(name), v})
		}
	}
	if s.has("hop-by-hop-sealed") {
		fields = append(fields, [2]string{"connection", "keep-alive"})
	}
	slices.SortFunc(fields, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	head := &hand.Content{Kind: hand.Head, Meta: map[uint64][]byte{2: hand.Fields(fields...)}}
	if rec.Code != 200 {
		head.Meta[1] = dcbor.AppendUint(nil, uint64(rec.Code))
	}
	w.Header().Set("Content-Type", protocol.MediaTypeFrames)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(s.seal(req, head, false))
	_, _ = w.Write(s.seal(req, &hand.Content{Kind: hand.Data, Body: rec.Body.Bytes()}, true))
}

// whole opens all frames of a request.
func (s *Second) whole(body []byte) (*request, error) {
	var req *request
	for rest, n := body, uint64(0); ; n++ {
		f, after, err := hand.NextFrame(rest)
		if err != nil {
			if req != nil && s.has("no-final-served") && len(rest) == 0 {
				break
			}
			if req != nil {
				return nil, no(protocol.OutOfOrder) // it ends before its final frame
			}
			return nil, no(protocol.MalformedFrame)
		}
		one := rest[:len(rest)-len(after)]
		rest = after
		if req == nil {
			if req, err = s.open(one, hand.HTTP, nil); err != nil {
				return nil, err
			}
			if err := s.target(req.content); err != nil {
				return nil, err
			}
		} else {
			foreign := f.Type != 2 || !bytes.Equal(f.ID, req.ID[:]) || f.Seq != req.seq
			if (foreign || f.N != n) && !s.has("chunks-unordered") {
				return nil, no(protocol.OutOfOrder)
			}
			next, err := s.decrypt(req.state, f, hand.HTTP, nil)
			if err != nil && (s.has("bad-chunks-skipped") || foreign) {
				if f.Final {
					break
				}
				continue
			}
			if err != nil {
				return nil, err
			}
			req.content.Body = append(req.content.Body, next.content.Body...)
		}
		if f.Final {
			if len(rest) > 0 && !s.has("after-final-ignored") {
				return nil, no(protocol.OutOfOrder)
			}
			break
		}
	}
	if s.has("inner-checked") && !bytes.HasSuffix(bytes.TrimSpace(req.content.Body), []byte("}")) {
		return nil, no(protocol.MalformedContent)
	}
	return req, nil
}

func (s *Second) target(c *hand.Content) error {
	t, method := c.Text(3), c.Text(4)
	bad := !strings.HasPrefix(t, "/") || strings.HasPrefix(t, "//") || strings.ContainsAny(t, " \r\n") || method == "" || strings.ContainsAny(method, " \r\n")
	if bad && !s.has("target-unchecked") && !(s.has("kinds-unchecked") && t == "") {
		return no(protocol.MalformedContent)
	}
	return nil
}
