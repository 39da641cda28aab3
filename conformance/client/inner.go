package client

import (
	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// An innerAnswer is what the MCP server behind the trust layer says to one
// request of a client.
type innerAnswer struct {
	status   int
	messages [][]byte // notifications, then the response; none for a notification
	stream   bool     // as an event stream
	echo     bool     // the answer to a call of the canary tool
}

const echoTool = `{"name":"echo","description":"Returns the text it is given","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}`

// inner is the whole of that server: one tool, echo, in both eras. Its answers
// hold the canary that only this server knows.
func (h *host) inner(m *wire.Message, version string) *innerAnswer {
	if !m.IsRequest() {
		return &innerAnswer{status: 202}
	}
	modern := version == conformance.ModernVersion
	if v, _ := conformance.MemberText(m.Params, "_meta", conformance.MetaVersion); v == conformance.ModernVersion {
		modern = true
	}
	result := Obj{}
	a := &innerAnswer{status: 200}
	switch m.Method {
	case "initialize":
		v, _ := conformance.MemberText(m.Params, "protocolVersion")
		modern = false
		result = Obj{"protocolVersion": legacyVersion(v), "capabilities": h.capabilities(), "serverInfo": serverInfo}
	case "server/discover":
		modern = true
		result = Obj{"supportedVersions": []string{conformance.ModernVersion}, "capabilities": h.capabilities(), "ttlMs": 0, "cacheScope": "private"}
	case "ping":
	case "tools/list":
		result = Obj{"tools": []any{rawJSON(echoTool)}}
		if modern {
			result["ttlMs"], result["cacheScope"] = 0, "private"
		}
	case "tools/call":
		if name, _ := conformance.MemberText(m.Params, "name"); name != "echo" {
			a.messages = [][]byte{jsonrpc.ErrorResponse(m.ID, -32602, "unknown tool", nil)}
			return a
		}
		said, _ := conformance.MemberText(m.Params, "arguments", "text")
		h.ran(said)
		result = Obj{"content": []Obj{{"type": "text", "text": h.out}}}
		a.echo = true
	default:
		a.messages = [][]byte{jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeMethodNotFound, "method not found", nil)}
		return a
	}
	meta := Obj{}
	if modern {
		result["resultType"] = "complete"
		meta[conformance.MetaServerInfo] = serverInfo
	}
	if h.sc.innerResult != nil {
		h.sc.innerResult(m.Method, result, meta)
	}
	if len(meta) > 0 {
		result["_meta"] = meta
	}
	if a.echo && h.sc.stream {
		a.stream = true
		a.messages = append(a.messages, h.progress(m))
	}
	a.messages = append(a.messages, jsonrpc.Response(m.ID, conformance.JSON(result)))
	return a
}

// progress is a notification that belongs to the call: progress when it was
// asked for, else a log message.
func (h *host) progress(m *wire.Message) []byte {
	if token := conformance.Member(m.Params, "_meta", "progressToken"); token != nil {
		return conformance.JSON(Obj{"jsonrpc": "2.0", "method": "notifications/progress", "params": Obj{"progressToken": token, "progress": 1, "total": 2, "message": h.partial}})
	}
	return conformance.JSON(Obj{"jsonrpc": "2.0", "method": "notifications/message", "params": Obj{"level": "info", "data": h.partial}})
}

var serverInfo = Obj{"name": "tmcp-conform-host", "version": "1"}

func (h *host) capabilities() Obj {
	caps := Obj{"tools": Obj{}, "logging": Obj{}}
	for k, v := range h.sc.innerCapabilities {
		caps[k] = v
	}
	return caps
}

func legacyVersion(v string) string {
	for _, known := range conformance.LegacyVersions {
		if v == known {
			return v
		}
	}
	return conformance.LegacyVersion
}

// innerHTTP is the answer as an HTTP message.
func (a *innerAnswer) http() (status int, contentType string, body []byte) {
	switch {
	case len(a.messages) == 0:
		return a.status, "", nil
	case !a.stream:
		return a.status, "application/json", a.messages[0]
	}
	for _, m := range a.messages {
		body = append(append(append(body, "data: "...), m...), "\n\n"...)
	}
	return a.status, "text/event-stream", body
}
