package transport

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// checkOuter applies MCP's own rules to an outer message that the trust layer
// answers: headers and body agree, the revision is one that is served. It
// answers and returns false when not. Legacy requests carry no _meta, and few
// headers; for them only what is there must agree.
func (h *handler) checkOuter(w http.ResponseWriter, r *http.Request, m *outer) bool {
	method, version := r.Header.Get(headerMethod), r.Header.Get(headerVersion)
	inBody := m.version
	modern := inBody != "" || version >= revisionModern
	mismatch := ""
	switch {
	case len(r.Header[headerMethod]) > 1 || len(r.Header[headerVersion]) > 1:
		mismatch = "a header stands twice"
	case method != "" && method != m.Method:
		mismatch = "header Mcp-Method is " + strconv.Quote(method) + ", the body's method " + strconv.Quote(m.Method)
	case modern && method == "":
		mismatch = "header Mcp-Method is missing"
	case modern && version == "":
		mismatch = "header MCP-Protocol-Version is missing"
	case inBody != "" && version != inBody:
		mismatch = "header MCP-Protocol-Version is " + strconv.Quote(version) + ", the body's revision " + strconv.Quote(inBody)
	}
	if mismatch != "" {
		writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeHeaderMismatch, "header mismatch: "+mismatch, nil))
		return false
	}
	if modern && inBody == "" {
		writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeInvalidParams, "params._meta lacks "+metaVersion, nil))
		return false
	}
	if modern && m.capabilities.Kind() != '{' {
		writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeInvalidParams, "params._meta lacks "+metaCapabilities, nil))
		return false
	}
	return h.checkRevision(w, r, m)
}

// checkRevision refuses a revision in the header that MCP does not have.
func (h *handler) checkRevision(w http.ResponseWriter, r *http.Request, m *outer) bool {
	version := r.Header.Get(headerVersion)
	if version == "" || slices.Contains(outerRevisions, version) {
		return true
	}
	data := []byte(`{"supported":` + supportedVersions + `,"requested":` + string(jsonrpc.Quote(version)) + `}`)
	writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeUnsupportedVersion, "unsupported protocol version", data))
	return false
}

var supportedVersions = `["` + strings.Join(outerRevisions, `","`) + `"]`

// serveAttest serves trust/attest: a key object for the caller's nonce.
func (h *handler) serveAttest(w http.ResponseWriter, r *http.Request, m *outer) {
	if !h.checkOuter(w, r, m) {
		return
	}
	nonce, err := protocol.ParseBase64(m.nonce)
	var key []byte
	if err == nil {
		key, err = h.keyFor(nonce, m.fresh)
	}
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
		return
	}
	h.see(Event{Kind: EventAttested, Method: m.Method})
	result := `{"resultType":"complete","key":"` + protocol.Base64(key) + `","settings":` + string(h.trust.Settings().JSON()) + `}`
	writeJSON(w, http.StatusOK, jsonrpc.Response(m.ID, []byte(result)))
}

// keyFor is a key object for the caller's nonce, with evidence made for it too if
// that is wanted.
func (h *handler) keyFor(nonce []byte, evidence bool) ([]byte, error) {
	if evidence {
		return h.trust.AttestEvidence(nonce, h.clock())
	}
	return h.trust.Attest(nonce, h.clock())
}

// plaintext deals with a message that is not sealed. m is nil when the body is
// not a JSON-RPC message (preferred mode only).
func (h *handler) plaintext(w http.ResponseWriter, r *http.Request, body []byte, m *outer) {
	if h.mode == protocol.ModePreferred {
		h.passPlaintext(w, r, body, m)
		return
	}
	switch {
	case m.Method == "server/discover" && m.IsRequest():
		if h.checkOuter(w, r, m) {
			h.answerDiscover(w, m)
		}
	case m.Method == "initialize" && m.IsRequest():
		h.answerInitialize(w, m)
	case m.Method == "ping" && m.IsRequest():
		if h.checkRevision(w, r, m) {
			writeJSON(w, http.StatusOK, jsonrpc.Response(m.ID, []byte(`{}`)))
		}
	case m.Method == "tools/list" && m.IsRequest() && h.public:
		if h.checkOuter(w, r, m) {
			result := `{"tools":` + string(h.publicTools(r)) + `,"resultType":"complete","cacheScope":"private","ttlMs":0}`
			writeJSON(w, http.StatusOK, jsonrpc.Response(m.ID, []byte(result)))
		}
	case m.IsNotification():
		w.WriteHeader(http.StatusAccepted)
	default:
		h.gate(w, r, m)
	}
}

// gate refuses a plaintext message. The server behind never sees it.
func (h *handler) gate(w http.ResponseWriter, r *http.Request, m *outer) {
	if (m.version != "" || r.Header.Get(headerVersion) >= revisionModern) && m.announced == nil {
		// MCP's own error for "declare this extension first".
		e := reasonOf(protocol.Errorf(protocol.TrustRequired, "the client did not declare %s", protocol.ExtensionID))
		h.see(Event{Kind: EventRefused, Method: m.Method, Err: e})
		data := []byte(`{"requiredCapabilities":{"extensions":{"` + protocol.ExtensionID + `":{}}}}`)
		writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeMissingCapability,
			"this server takes sealed messages only: the client must declare and use the extension "+protocol.ExtensionID, data))
		return
	}
	id := m.ID
	if m.IsResponse() {
		id = ""
	}
	h.refuse(w, id, m.Method, protocol.Errorf(protocol.TrustRequired, "this server takes sealed messages only; seal it and send it by %s", protocol.MethodCall))
}

// keyMember is the _meta member that holds the key object, and how long the
// result that it stands in may be cached, in milliseconds.
func (h *handler) keyMember() (member []byte, ttl int64, err error) {
	now := h.clock()
	key, expires, err := h.trust.KeyObject(now)
	if err != nil {
		return nil, 0, err
	}
	return []byte(`"` + protocol.MetaKey + `":"` + protocol.Base64(key) + `"`), max(0, expires.Sub(now).Milliseconds()), nil
}

func (h *handler) answerDiscover(w http.ResponseWriter, m *outer) {
	key, ttl, err := h.keyMember()
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
		return
	}
	b := []byte(`{"resultType":"complete","supportedVersions":` + supportedVersions + `,"capabilities":`)
	b = append(b, h.capabilities(false)...)
	b = strconv.AppendInt(append(b, `,"cacheScope":"public","ttlMs":`...), ttl, 10)
	b = append(append(b, `,"_meta":{`...), key...)
	b = append(b, `,"`+metaServerInfo+`":`+outerName+`}}`...)
	writeJSON(w, http.StatusOK, jsonrpc.Response(m.ID, b))
}

// answerInitialize opens the outer leg of a legacy client. There is no session
// outside: whoever holds a context needs none.
func (h *handler) answerInitialize(w http.ResponseWriter, m *outer) {
	key, _, err := h.keyMember()
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
		return
	}
	version, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "protocolVersion"))
	if !slices.Contains(outerRevisions[1:], version) {
		version = revisionLegacy
	}
	b := []byte(`{"protocolVersion":"` + version + `","capabilities":`)
	b = append(b, h.capabilities(true)...)
	b = append(append(b, `,"serverInfo":`+outerName+`,"_meta":{`...), key...)
	writeJSON(w, http.StatusOK, jsonrpc.Response(m.ID, append(b, `}}`...)))
}

// passPlaintext hands plaintext to the server behind (preferred mode), and adds
// the offer of trust to its discover and initialize results.
func (h *handler) passPlaintext(w http.ResponseWriter, r *http.Request, body []byte, m *outer) {
	in := r
	if body != nil {
		in = h.bareRequest(r, r.Method, body)
		in.Header = r.Header
		in = in.WithContext(r.Context())
	}
	if m != nil && fromTrustLayer(m) {
		// It wants nothing of the server behind, and would leave a session open there.
		if m.Method == "initialize" {
			h.answerInitialize(w, m)
		} else if h.checkOuter(w, r, m) {
			h.answerDiscover(w, m)
		}
		return
	}
	if m == nil || m.Method != "server/discover" && m.Method != "initialize" || !m.IsRequest() {
		name := ""
		if m != nil {
			name = m.Method
		}
		h.see(Event{Kind: EventPlaintext, Method: name})
		h.calls.ServeHTTP(w, in)
		return
	}
	rec := newRecorder(h.limits.message())
	h.calls.ServeHTTP(rec, in)
	result, rest := rec.response(m.ID)
	if result == nil && m.Method == "server/discover" && m.announced != nil {
		h.answerDiscover(w, m) // the server behind is of the older era; the client's trust layer needs only ours
		return
	}
	if result == nil {
		rec.replay(w)
		return
	}
	offer, err := h.offer(m.Method, result)
	if err != nil {
		h.refuse(w, m.ID, m.Method, err)
		return
	}
	copyHeader(w.Header(), rec.header)
	w.Header().Del("Content-Length")
	if !rest {
		writeJSON(w, rec.code(), jsonrpc.Response(m.ID, offer))
		return
	}
	w.WriteHeader(rec.code())
	w.Write(rec.rewriteEvent(m.ID, jsonrpc.Response(m.ID, offer)))
}

// fromTrustLayer reports whether a discover or initialize opens the outer leg of
// a client's trust layer, rather than a conversation.
func fromTrustLayer(m *outer) bool {
	switch {
	case !m.IsRequest():
		return false
	case m.Method == "initialize":
		return jsonrpc.Get(m.Params, "capabilities", "extensions", protocol.ExtensionID) != nil &&
			string(jsonrpc.Get(m.Params, "clientInfo")) == outerName
	case m.Method == "server/discover":
		return m.announced != nil && string(jsonrpc.Get(m.meta, metaClientInfo)) == outerName
	}
	return false
}

// offer adds the extension and the key to a discover or initialize result.
func (h *handler) offer(method string, result jsontext.Value) ([]byte, error) {
	key, ttl, err := h.keyMember()
	if err != nil {
		return nil, err
	}
	settings := h.trust.Settings().JSON()
	out, err := setMember(result, settings, "capabilities", "extensions", protocol.ExtensionID)
	if err == nil && method == "initialize" {
		out, err = setMember(out, settings, "capabilities", "experimental", protocol.ExtensionID)
	}
	if err == nil {
		_, value, _ := strings.Cut(string(key), ":")
		out, err = setMember(out, []byte(value), "_meta", protocol.MetaKey)
	}
	if err == nil && method == "server/discover" {
		if had, perr := strconv.ParseInt(string(jsonrpc.Get(out, "ttlMs")), 10, 64); perr != nil || had > ttl {
			out, err = setMember(out, strconv.AppendInt(nil, ttl, 10), "ttlMs")
		}
	}
	return out, err
}

// capabilities are those that stand outside: the extension, and tools when
// their listing does.
func (h *handler) capabilities(legacy bool) []byte {
	c := h.trust.Settings().Capabilities(legacy)
	if h.public {
		c = append([]byte(`{"tools":{},`), c[1:]...)
	}
	return c
}
