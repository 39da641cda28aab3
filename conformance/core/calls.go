package core

import (
	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

const (
	noSuchTool   = "org.trustedmcp.no-such-tool"
	noSuchPrompt = "org.trustedmcp.no-such-prompt"
	noSuchURI    = "file:///org.trustedmcp/no/such/resource"
)

func calls() []conformance.Case {
	var cases []conformance.Case
	for _, e := range []conformance.Era{modern, legacy} {
		cases = append(cases,
			build(e, "unknown-tool", req(e, "tools", 5, must, "server/tools#error-handling", map[conformance.Era]string{
				modern: "Protocol Errors indicate issues with the request structure itself that models are less likely to be able to fix: Unknown tool [...] They are returned as standard JSON-RPC errors",
				legacy: "Protocol Errors: Standard JSON-RPC errors for issues like: Unknown tools",
			}[e]), conformance.Case{
				Title: "a call of an unknown tool is answered with an error",
				About: "Calls a tool that is not listed. A protocol error is right; a result with isError, where the page asks for a protocol error, is a warning; any other result is a failure.",
				Fix:   "Answer calls of unknown tools with -32602.",
				Twin:  "tools-list",
				Run: func(t *T) {
					need(t, "tools")
					s := t.Session()
					r := s.Do(Call{Method: "tools/call", Params: Obj{"name": noSuchTool, "arguments": Obj{}}})
					if r.Answer != nil && string(conformance.Member(r.Answer.Result, "isError")) == "true" {
						t.Refused("a result with isError")
						t.Reached(r.SeenSeq)
						t.NoEffect("the tool does not exist")
						t.Warnf("an unknown tool is reported as a tool execution error, not as a protocol error")
						return
					}
					refused(t, s, r, 0)
				},
			}),
			build(e, "unknown-prompt", req(e, "prompts", 1, should, "server/prompts#error-handling", "Servers SHOULD return standard JSON-RPC errors for common failure cases: Invalid prompt name: -32602 (Invalid params)"), conformance.Case{
				Title: "an unknown prompt is refused with -32602",
				About: "Gets a prompt that is not listed.",
				Fix:   "Answer unknown prompts with -32602.",
				Twin:  "prompts-list",
				Run: func(t *T) {
					need(t, "prompts")
					s := t.Session()
					refused(t, s, s.Do(Call{Method: "prompts/get", Params: Obj{"name": noSuchPrompt}}), 0, jsonrpc.CodeInvalidParams)
				},
			}),
		)
	}
	cases = append(cases,
		build(modern, "unknown-resource", req(modern, "resources", 1, must, "server/resources#error-handling", "If the requested resource does not exist, servers MUST return a JSON-RPC error with code -32602 (Invalid Params)."), conformance.Case{
			Title: "an unknown resource is refused with -32602",
			About: "Reads a resource that is not listed.",
			Fix:   "Answer unknown resources with -32602.",
			Twin:  "resources-list",
			Run: func(t *T) {
				need(t, "resources")
				s := t.Session()
				refused(t, s, s.Do(Call{Method: "resources/read", Params: Obj{"uri": noSuchURI}}), 0, jsonrpc.CodeInvalidParams)
			},
		}),
		build(legacy, "unknown-resource", req(legacy, "resources", 1, should, "server/resources#error-handling", "Servers SHOULD return standard JSON-RPC errors for common failure cases: Resource not found: -32002"), conformance.Case{
			Title: "an unknown resource is refused with -32002",
			About: "Reads a resource that is not listed.",
			Fix:   "Answer unknown resources with -32002.",
			Twin:  "resources-list",
			Run: func(t *T) {
				need(t, "resources")
				s := t.Session()
				refused(t, s, s.Do(Call{Method: "resources/read", Params: Obj{"uri": noSuchURI}}), 0, -32002)
			},
		}),
		build(legacy, "set-level", req(legacy, "logging", 1, should, "server/utilities/logging#error-handling", "Servers SHOULD return standard JSON-RPC errors for common failure cases: Invalid log level: -32602 (Invalid params)"), conformance.Case{
			Title: "an unknown log level is refused with -32602",
			About: "Sets the log level to one that does not exist.",
			Fix:   "Check the level and answer -32602.",
			Twin:  "set-level-valid",
			Run: func(t *T) {
				need(t, "logging")
				s := t.Session()
				refused(t, s, s.Do(Call{Method: "logging/setLevel", Params: Obj{"level": "deafening"}}), 0, jsonrpc.CodeInvalidParams)
			},
		}),
		build(legacy, "set-level-valid", req(legacy, "logging", 2, should, "server/utilities/logging#setting-log-level", "To configure the minimum log level, clients MAY send a logging/setLevel request"), conformance.Case{
			Title: "a server that declares logging takes a log level",
			About: "Sets the log level to emergency.",
			Fix:   "Implement logging/setLevel, or do not declare logging.",
			Run: func(t *T) {
				need(t, "logging")
				t.Session().Result(Call{Method: "logging/setLevel", Params: Obj{"level": "emergency"}})
			},
		}),
		build(modern, "listen", req(modern, "subscriptions", 1, must, "basic/patterns/subscriptions#acknowledgment", "The server MUST send notifications/subscriptions/acknowledged as the first message carrying the subscription's ID in _meta under io.modelcontextprotocol/subscriptionId, and MUST NOT send any notification on the subscription before it."), conformance.Case{
			Title: "subscriptions/listen is acknowledged first, under its own id",
			About: "Opens a subscription to changes of the lists, and looks at the first message that carries a subscription id.",
			Fix:   "Send notifications/subscriptions/acknowledged first, with the id of the listen request.",
			Fresh: true,
			Run:   runListen,
		}),
	)
	return cases
}
