package client

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

const site = "https://modelcontextprotocol.io/specification/"

// Sentences of MCP that a client which knows nothing of trust must keep when it
// meets a server that does.
const (
	openSet     = "Capabilities that a server may support. Known capabilities are defined here, in this schema, but this is not a closed set: any server can define its own, additional capabilities."
	postOnly    = "The client MUST use HTTP POST to send JSON-RPC messages."
	acceptBoth  = "The client MUST include an Accept header listing both application/json and text/event-stream as supported content types."
	acceptBothL = "The client MUST include an Accept header, listing both application/json and text/event-stream as supported content types."
	metaHeaders = "The client MUST include the request metadata headers on each POST request."
	versionL    = "If using HTTP, the client MUST include the MCP-Protocol-Version: <protocol-version> HTTP header on all subsequent requests to the MCP server, allowing the MCP server to respond based on the MCP protocol version."
	bothForms   = "If the body is a JSON-RPC request, the server MUST return either Content-Type: application/json (a single JSON object) or Content-Type: text/event-stream (an SSE response stream). The client MUST support both."
	bothFormsL  = "If the input is a JSON-RPC request, the server MUST either return Content-Type: text/event-stream, to initiate an SSE stream, or Content-Type: application/json, to return one JSON object. The client MUST support both these cases."
	metaKeys    = "The _meta property/parameter is used by MCP to allow clients and servers to attach additional metadata to their interactions. Certain key names are reserved by MCP for protocol-level metadata, as specified below; implementations MUST NOT make assumptions about values at these keys."
	metaKeysL   = "The _meta property/parameter is reserved by MCP to allow clients and servers to attach additional metadata to their interactions. Certain key names are reserved by MCP for protocol-level metadata, as specified below; implementations MUST NOT make assumptions about values at these keys."
	unknownType = "A resultType of any value unrecognized by the client MUST be considered invalid."
	absentType  = "For backward compatibility with servers implementing earlier protocol versions, which do not include resultType, clients MUST treat an absent resultType as \"complete\"."
	initialized = "After successful initialization, the client MUST send an initialized notification to indicate it is ready to begin normal operations"
	priming     = "The server SHOULD immediately send an SSE event consisting of an event ID and an empty data field in order to prime the client to reconnect (using that event ID as Last-Event-ID)."
	failures    = "Error responses are sent when the operation fails or encounters an error."
)

// core fills in what all cases of profile core share.
func core(e conformance.Era, name string, n int, page, quote string, c conformance.Case) conformance.Case {
	rev := conformance.ModernVersion
	if e == conformance.Legacy {
		rev = conformance.LegacyVersion
	}
	id := func(name string) string { return "client/core/" + string(e) + "/" + name }
	c.ID = id(name)
	c.Requirement = conformance.Requirement{ID: fmt.Sprintf("MCP-%s-client-%d", rev, n), Level: conformance.MUST, Text: quote, URL: site + rev + "/" + page}
	c.Level = conformance.MUST
	c.Role, c.Profile, c.Transports = conformance.RoleClient, conformance.ProfileCore, httpOnly
	c.Eras, c.Fresh = []conformance.Era{e}, true
	if c.Twin != "" {
		c.Twin = id(c.Twin)
	}
	if c.Fix == "" {
		c.Fix = "Read the sentence of MCP's specification. tmcp-conform client --help says how a client under test is started."
	}
	return c
}

// plain are the cases of profile core: MCP servers without trust, or with it
// before a client that knows nothing of it.
func plain() []conformance.Case {
	var all []conformance.Case
	for _, e := range both {
		modern := e == conformance.Modern
		page := map[bool]string{true: "basic/transports/streamable-http#sending-messages", false: "basic/transports#sending-messages-to-the-server"}[modern]
		pick := func(m, l string) string {
			if modern {
				return m
			}
			return l
		}
		// weak makes the last case one that warns.
		weak := func() { all[len(all)-1].Level = conformance.SHOULD }
		good := func(name string, n int, page, quote, title, about string, set func(*scene), check func(*T, *result)) {
			c := core(e, name, n, page, quote, conformance.Case{Title: title, About: about})
			c.Run = func(t *T) {
				r := play(t, c.ID, func(sc *scene) {
					sc.noTrust = true
					if set != nil {
						set(sc)
					}
				})
				r.succeeded()
				if check != nil {
					check(t, r)
				}
			}
			all = append(all, c)
		}
		bad := func(name string, n int, page, quote, title, about string, set func(*scene)) {
			c := core(e, name, n, page, quote, conformance.Case{Title: title, About: about, Twin: "tool-call"})
			c.Run = func(t *T) {
				r := play(t, c.ID, func(sc *scene) {
					sc.noTrust = true
					set(sc)
				})
				r.refused(noForgery)
			}
			all = append(all, c)
		}
		good("tool-call", 1, page, postOnly, "a tool of an ordinary server is called", "A server without any extension. The client lists its tools, calls echo and reports the answer; all messages come by POST.", nil, func(t *T, r *result) {
			for _, rec := range r.h.all() {
				if rec.verb != "POST" && len(rec.body) > 0 {
					t.Violate("HTTP %s with a body", rec.verb)
				}
			}
		})
		good("accept", 2, page, pick(acceptBoth, acceptBothL), "Accept lists both content types", "Looks at the headers of each POST of an ordinary run.", nil, func(t *T, r *result) {
			for _, rec := range r.h.all() {
				accept := strings.ToLower(strings.Join(rec.header["Accept"], ","))
				if rec.verb == "POST" && (!strings.Contains(accept, "application/json") || !strings.Contains(accept, "text/event-stream")) {
					t.Violate("Accept of %s is %q", rec.method(), accept)
				}
			}
		})
		if modern {
			good("request-headers", 3, "basic/transports/streamable-http#request-metadata", metaHeaders, "the metadata headers equal the body", "Looks at MCP-Protocol-Version, Mcp-Method and Mcp-Name of each request.", nil, func(t *T, r *result) {
				for _, rec := range r.h.all() {
					if rec.msg == nil || !rec.msg.IsRequest() {
						continue
					}
					name, _ := conformance.MemberText(rec.msg.Params, "name")
					version, _ := conformance.MemberText(rec.msg.Params, "_meta", conformance.MetaVersion)
					switch h := rec.header; {
					case h.Get("Mcp-Method") != rec.method():
						t.Violate("Mcp-Method is %q, the method %s", h.Get("Mcp-Method"), rec.method())
					case rec.method() == "tools/call" && h.Get("Mcp-Name") != name:
						t.Violate("Mcp-Name is %q, the name %s", h.Get("Mcp-Name"), name)
					case h.Get("Mcp-Protocol-Version") != version:
						t.Violate("MCP-Protocol-Version is %q, the body says %q", h.Get("Mcp-Protocol-Version"), version)
					}
				}
			})
		} else {
			good("version-header", 3, "basic/transports#protocol-version-header", versionL, "MCP-Protocol-Version stands in every request after initialize", "Looks at the headers of an ordinary run.", nil, func(t *T, r *result) {
				for _, rec := range r.h.all() {
					if rec.method() != "initialize" && rec.verb == "POST" && rec.header.Get("Mcp-Protocol-Version") == "" {
						t.Violate("%s has no MCP-Protocol-Version", rec.method())
					}
				}
			})
			good("initialized", 4, "basic/lifecycle#initialization", initialized, "notifications/initialized follows initialize", "Looks at the messages of an ordinary run.", nil, func(t *T, r *result) {
				for _, rec := range r.h.all() {
					if rec.method() == "notifications/initialized" {
						return
					}
				}
				t.Violate("no notifications/initialized came")
			})
			good("priming-event", 5, page, priming, "an event without data is no message", "The answer to the call is a stream that begins with an id and empty data.", func(sc *scene) {
				sc.plain = func(x *exchange, a *innerAnswer) bool {
					if a.echo {
						x.reply(200, "text/event-stream", []byte("id: 1\ndata:\n\ndata: "+string(a.messages[0])+"\n\n"))
					}
					return a.echo
				}
			}, nil)
		}
		good("stream", 6, page, pick(bothForms, bothFormsL), "an answer in an event stream is taken", "The answer to the call comes as the one event of a stream.", func(sc *scene) {
			sc.plain = func(x *exchange, a *innerAnswer) bool {
				if a.echo {
					x.reply(200, "text/event-stream", []byte("data: "+string(a.messages[0])+"\n\n"))
				}
				return a.echo
			}
		}, nil)
		schema := "schema#servercapabilities"
		ext := func(id, settings string) func(*scene) {
			return func(sc *scene) {
				sc.innerCapabilities = Obj{"extensions": Obj{id: jsontext.Value(settings)}, "experimental": Obj{id: jsontext.Value(settings)}}
			}
		}
		good("unknown-extension", 7, schema, openSet, "an unknown extension does not disturb", "The server announces an extension that nobody knows.", ext("com.example/later", `{"level":3,"list":[{"a":null}]}`), nil)
		good("trust-extension", 7, schema, openSet, "a server that offers trust is used as any other", "The server announces "+protocol.ExtensionID+" with settings and a key object, in mode preferred.", func(sc *scene) {
			ext(protocol.ExtensionID, strings.Replace(usualSettings, "required", "preferred", 1))(sc)
			sc.innerResult = func(method string, _, meta Obj) {
				if method == "initialize" || method == "server/discover" {
					meta[protocol.MetaKey] = strings.Repeat("QUFB", 500)
				}
			}
		}, nil)
		good("unknown-capability", 7, schema, openSet, "an unknown capability does not disturb", "The server announces capabilities that MCP does not define.", func(sc *scene) {
			sc.innerCapabilities = Obj{"x-later": Obj{"deep": []any{1, "two", nil}}}
		}, nil)
		good("unknown-meta", 8, "basic/index#meta", pick(metaKeys, metaKeysL), "unknown _meta does not disturb", "Each result holds _meta of this extension and of another, with values of every type.", func(sc *scene) {
			sc.innerResult = func(_ string, _, meta Obj) {
				meta[protocol.MetaStatus] = Obj{"state": "sealed", "peer": "https://example.com/"}
				meta["com.example/odd"] = []any{nil, true, 1.5, "text", Obj{}}
				meta["com.example/null"] = nil
			}
		}, nil)
		if modern {
			good("absent-result-type", 9, "basic/index#result-responses", absentType, "an absent resultType means complete", "The answer to the call has no resultType. The sentence thinks of servers of earlier revisions, and this one speaks the client's own: a client that refuses the answer is warned.", func(sc *scene) {
				sc.innerResult = func(method string, result, _ Obj) {
					if method == "tools/call" {
						delete(result, "resultType")
					}
				}
			}, nil)
			weak()
			bad("unknown-result-type", 10, "basic/index#result-responses", unknownType, "a resultType that no extension of the client defines is invalid", "The answer to the call is that of the twin with resultType sealed.", func(sc *scene) {
				sc.plain = func(x *exchange, a *innerAnswer) bool {
					if a.echo {
						x.mark()
						x.result(conformance.JSON(Obj{"resultType": "sealed", "content": []Obj{{"type": "text", "text": x.h.forged}}}))
					}
					return a.echo
				}
			})
		}
		refusal := func(name string, status int, code int, message string, data string) {
			bad(name, 11, "basic/index#error-responses", failures, "a server that requires trust is not taken for one that answered", "The call is answered with the error "+message+", as a server does that serves trusted clients only.", func(sc *scene) {
				sc.plain = func(x *exchange, a *innerAnswer) bool {
					if a.echo {
						x.mark()
						x.fail(status, code, message, data)
					}
					return a.echo
				}
			})
		}
		e := &protocol.Error{Reason: protocol.TrustRequired}
		refusal("trust-required", 200, protocol.TrustRequired.Code(), "trust-required", string(e.Data()))
		if modern {
			refusal("missing-capability", 400, jsonrpc.CodeMissingCapability, "missing required client capability", `{"requiredCapabilities":{"extensions":{"`+protocol.ExtensionID+`":{}}}}`)
		}
	}
	return all
}
