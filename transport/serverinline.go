package transport

import (
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// serveInline serves the inline carrier: tools/call and tools/list whose content
// rides sealed in _meta, and the attestation that rides on a tools/call.
func (h *handler) serveInline(w http.ResponseWriter, r *http.Request, m *outer) {
	if !h.checkOuter(w, r, m) {
		return
	}
	if got := r.Header[headerName]; m.Method == "tools/call" && got != nil && (len(got) != 1 || decodeHeader(got[0]) != m.name) {
		writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeHeaderMismatch, "header mismatch: Mcp-Name is not params.name", nil))
		return
	}
	var err error
	switch {
	case m.attest != nil && m.frames == nil && m.Method == "tools/call":
		err = h.attestInline(w, r, m)
	case m.frames != nil && m.attest == nil && (m.Method == "tools/call" || m.Method == "tools/list"):
		err = h.openInline(w, r, m)
	default:
		err = protocol.Errorf(protocol.OuterMismatch, "%.100q does not carry sealed messages; tools/call and tools/list do", m.Method)
	}
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
	}
}

// attestInline answers with a key object for the caller's nonce, and with what
// the tool is called here. The tool is not run.
func (h *handler) attestInline(w http.ResponseWriter, r *http.Request, m *outer) error {
	if !slices.Contains(h.trust.Settings().Offer().Carriers, protocol.Inline) {
		return protocol.Errorf(protocol.CarrierRefused, "this server does not take the inline carrier")
	}
	text, _ := jsonrpc.Text(jsonrpc.Get(m.attest, "nonce"))
	nonce, err := protocol.ParseBase64(text)
	if err != nil {
		return err
	}
	tool, err := h.tools.find(r, m.name)
	if err != nil {
		return err
	}
	evidence, _ := jsonrpc.Text(jsonrpc.Get(m.attest, "evidence"))
	key, err := h.keyFor(nonce, evidence == "fresh")
	if err != nil {
		return err
	}
	h.see(Event{Kind: EventAttested, Carrier: protocol.Inline, Method: m.Method})
	result := `{"content":[],"resultType":"complete","_meta":{"` + protocol.MetaKey + `":"` + protocol.Base64(key) + `","` +
		protocol.MetaSettings + `":` + string(h.trust.Settings().JSON()) + `,"` + protocol.MetaTool + `":` + string(tool.JSON()) + `}}`
	writeJSON(w, http.StatusOK, jsonrpc.Response(m.ID, []byte(result)))
	return nil
}

// openInline opens a sealed tools/call or tools/list. A call is sealed to one
// tool: its name here and its definition, whatever a gateway called it.
func (h *handler) openInline(w http.ResponseWriter, r *http.Request, m *outer) error {
	if m.args {
		return protocol.Errorf(protocol.OuterMismatch, "arguments stand outside a sealed call")
	}
	var text []string
	if err := jsonrpc.Elements(m.frames, func(v jsontext.Value) error {
		s, ok := jsonrpc.Text(v)
		if text = append(text, s); !ok || len(text) > 1 {
			return protocol.Errorf(protocol.MalformedFrame, "a sealed request is one frame")
		}
		return nil
	}); err != nil || len(text) != 1 {
		return protocol.Errorf(protocol.MalformedFrame, "%s is not an array of one frame", protocol.MetaFrames)
	}
	frame, err := protocol.ParseBase64(text[0])
	if err != nil {
		return err
	}
	var tool *protocol.Tool // tools/list is sealed to no tool
	if m.Method == "tools/call" {
		if tool, err = h.tools.find(r, m.name); err != nil {
			return err
		}
		if err := checkTool(m, tool); err != nil {
			return err
		}
	}
	req, err := h.trust.Open(frame, protocol.Outer{Carrier: protocol.Inline, Tool: tool}, h.clock())
	if err != nil {
		return err
	}
	if err := h.checkAnnounced(m, req); err != nil {
		return err
	}
	if err := h.checkSize(req); err != nil {
		return err
	}
	in, err := jsonrpc.Parse(req.Content.Body, jsonrpc.Limits{MaxBytes: h.limits.message(), MaxDepth: h.limits.MaxDepth})
	if err != nil {
		return protocol.Errorf(protocol.MalformedContent, "the sealed message: %s", shape(err))
	}
	name, _ := jsonrpc.Text(jsonrpc.Get(in.Params, "name"))
	if !in.IsRequest() || in.Method != m.Method || tool != nil && name != tool.Name {
		return protocol.Errorf(protocol.OuterMismatch, "the sealed message is not a %s of the tool that stands outside", m.Method)
	}
	h.see(Event{Kind: EventOpened, Carrier: protocol.Inline, Context: req.Context, Seq: req.Seq, Method: m.Method})
	if err := h.tools.session(r, req); err != nil {
		return err
	}
	sink := &inlineSink{w: w, id: m.ID, limit: 2 * h.limits.outer(), head: `{"content":[],"resultType":"complete","_meta":{`}
	if m.Method == "tools/list" {
		sink.head = `{"tools":` + string(h.publicTools(r)) + `,"resultType":"complete","cacheScope":"private","ttlMs":0,"_meta":{`
	}
	h.run(w, r, req, sink)
	return nil
}

// checkTool compares the tool that the client says it sealed to with the one
// that the message reached, so that a change can be told from an attack.
func checkTool(m *outer, tool *protocol.Tool) error {
	v := jsonrpc.Get(m.meta, protocol.MetaTool)
	if v == nil {
		return nil // the seal decides
	}
	said, err := protocol.ParseTool(v)
	if err != nil {
		return err
	}
	if said.Name != tool.Name {
		return protocol.Errorf(protocol.OuterMismatch, "sealed to tool %.100q, delivered to tool %.100q", said.Name, tool.Name)
	}
	if said.Digest != tool.Digest {
		e := reasonOf(protocol.Errorf(protocol.ToolChanged, "tool %.100q is not defined as it was; list the tools again, and look at it", tool.Name))
		e.Tool = tool
		return e
	}
	return nil
}

// inlineSink gathers the frames of an answer into one result.
type inlineSink struct {
	w      http.ResponseWriter
	id     jsonrpc.ID
	head   string
	frames []byte
	limit  int
}

func (s *inlineSink) comment() error { return nil }
func (s *inlineSink) flush() error   { return nil }

func (s *inlineSink) frame(sealed []byte, final bool) error {
	if len(s.frames) > 0 {
		s.frames = append(s.frames, ',')
	}
	s.frames = append(b64.AppendEncode(append(s.frames, '"'), sealed), '"')
	if len(s.frames) > s.limit {
		panic(http.ErrAbortHandler) // no final frame: the client sees it as truncated
	}
	if !final {
		return nil
	}
	result := append([]byte(s.head), `"`+protocol.MetaFrames+`":[`...)
	result = append(append(result, s.frames...), `]}}`...)
	writeJSON(s.w, http.StatusOK, jsonrpc.Response(s.id, result))
	return nil
}
