package core

import (
	"net/http"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

const (
	httpPage      = "basic/transports/streamable-http"
	mismatchText  = "Servers that process the request body MUST reject requests where the values specified in the headers do not match the corresponding values in the request body."
	rejectionText = "When rejecting a request due to header validation failure, servers MUST return HTTP status 400 Bad Request and MUST include a JSON-RPC error response using the following error code: -32020 HeaderMismatch"
)

// named is a harmless request whose name stands in Mcp-Name: the read of a
// resource, a prompt without arguments, or the tool that the user names.
func named(t *T, s *conformance.Session) Call {
	info := t.Survey().Modern
	if info.Has("resources") {
		items, _ := all(t, s, kinds[2])
		for _, u := range names(items[:min(len(items), 5)], "uri") {
			c := Call{Method: "resources/read", Params: Obj{"uri": u}}
			if r := s.Do(c); r.Answer != nil && r.Answer.Result != nil {
				return c
			}
		}
	}
	if info.Has("prompts") {
		items, _ := all(t, s, kinds[1])
		for _, p := range items[:min(len(items), 5)] {
			if args, _ := conformance.Items(conformance.Member(p, "arguments")); len(args) > 0 {
				continue
			}
			n, _ := conformance.MemberText(p, "name")
			c := Call{Method: "prompts/get", Params: Obj{"name": n}}
			if r := s.Do(c); r.Answer != nil && r.Answer.Result != nil {
				return c
			}
		}
	}
	if tool := t.CanaryTool(); tool != "" {
		return Call{Method: "tools/call", Params: Obj{"name": tool, "arguments": Obj{}}}
	}
	t.Untestable("the server lists no resource and no prompt without arguments that can be had; name a harmless tool with --canary-tool")
	return Call{}
}

func nameOf(c Call) string {
	if u, ok := c.Params["uri"].(string); ok {
		return u
	}
	n, _ := c.Params["name"].(string)
	return n
}

// headerCase is a negative case about one header of a request.
func headerCase(name, twin, title, about string, r conformance.Requirement, pick func(*T, *conformance.Session) Call, bend func(Call) map[string]string) conformance.Case {
	return build(modern, name, r, conformance.Case{
		Title: title, About: about, Twin: twin, Transports: httpOnly,
		Fix: "Compare the headers with the body, and answer HTTP 400 with the JSON-RPC error -32020.",
		Run: func(t *T) {
			s := t.Session()
			c := pick(t, s)
			c.Header = bend(c)
			refused(t, s, s.Do(c), 400, jsonrpc.CodeHeaderMismatch)
		},
	})
}

func headers() []conformance.Case {
	validation := func(n int, text string) conformance.Requirement {
		return req(modern, "headers", n, must, httpPage+"#server-validation", text)
	}
	discover := func(*T, *conformance.Session) Call { return Call{Method: "server/discover"} }
	set := func(k, v string) func(Call) map[string]string {
		return func(Call) map[string]string { return map[string]string{k: v} }
	}
	return []conformance.Case{
		build(modern, "named-request", req(modern, "headers", 5, must, httpPage+"#standard-request-headers", "These headers are REQUIRED for compliance."), conformance.Case{
			Title: "a request with a right Mcp-Name header is served", Transports: httpOnly,
			About: "Reads a resource (or gets a prompt, or calls the canary tool) with Mcp-Name equal to the name in the body. It is the accepted twin of the refusals about Mcp-Name.",
			Fix:   "Serve requests whose headers agree with their body.",
			Run: func(t *T) {
				s := t.Session()
				s.Result(named(t, s))
			},
		}),
		build(modern, "name-encoded", req(modern, "headers", 6, must, httpPage+"#value-encoding", "In particular, servers MUST decode an encoded Mcp-Name or Mcp-Param-{Name} value before comparing it to the corresponding request body value during Server Validation."), conformance.Case{
			Title: "an Mcp-Name in its Base64 form is decoded before it is compared", Transports: httpOnly,
			About: "Sends Mcp-Name as =?base64?...?= for a name that would not need it.",
			Fix:   "Decode =?base64?...?= in Mcp-Name.",
			Run: func(t *T) {
				s := t.Session()
				c := named(t, s)
				c.Header = map[string]string{"Mcp-Name": conformance.EncodedHeaderValue(nameOf(c))}
				r := s.Do(c)
				if r.Answer == nil || r.Answer.Result == nil {
					t.Violate("it was refused: %s%s", conformance.Short(r.Body), s.Hint(r))
				}
			},
		}),
		build(modern, "header-case", req(modern, "headers", 7, must, httpPage+"#case-sensitivity", "Clients and servers MUST use case-insensitive comparisons for header names."), conformance.Case{
			Title: "header names are taken in any case", Transports: httpOnly,
			About: "Sends the MCP headers with their names in lower case, then in upper case.",
			Fix:   "Compare header names without regard to case.",
			Run: func(t *T) {
				s := t.Session()
				for _, f := range []func(string) string{strings.ToLower, strings.ToUpper} {
					s.Result(Call{Method: "server/discover", Header: map[string]string{
						f("MCP-Protocol-Version"): conformance.ModernVersion, f("Mcp-Method"): "server/discover",
					}})
				}
			},
		}),
		headerCase("version-mismatch", "request", "a version header that differs from the body is refused with -32020",
			"Sends MCP-Protocol-Version 2025-11-25 with "+conformance.ModernVersion+" in _meta.",
			req(modern, "headers", 1, must, httpPage+"#protocol-version-header", "If the values do not match, the server MUST reject the request with 400 Bad Request and a HeaderMismatch JSON-RPC error"),
			discover, set("MCP-Protocol-Version", conformance.LegacyVersion)),
		headerCase("method-mismatch", "request", "an Mcp-Method that differs from the body is refused with -32020",
			"Sends Mcp-Method: tools/list with server/discover in the body.", validation(2, mismatchText),
			discover, set("Mcp-Method", "tools/list")),
		headerCase("method-case", "request", "an Mcp-Method in another case is refused with -32020",
			"Sends Mcp-Method: Server/Discover with server/discover in the body.",
			req(modern, "headers", 8, must, httpPage+"#case-sensitivity", "Header values (such as method names) are case-sensitive."),
			discover, set("Mcp-Method", "Server/Discover")),
		headerCase("method-missing", "request", "a request without Mcp-Method is refused with -32020",
			"Leaves out Mcp-Method.", validation(3, "A required standard header (MCP-Protocol-Version, Mcp-Method, Mcp-Name) is missing."),
			discover, set("Mcp-Method", "-")),
		headerCase("name-mismatch", "named-request", "an Mcp-Name that differs from the body is refused with -32020",
			"Sends an Mcp-Name that names something else than the body.", validation(2, mismatchText),
			named, set("Mcp-Name", "something-else")),
		headerCase("name-mismatch-encoded", "named-request", "an encoded Mcp-Name that differs from the body is refused with -32020",
			"Sends an Mcp-Name in its Base64 form that names something else than the body.",
			req(modern, "headers", 6, must, httpPage+"#value-encoding", "In particular, servers MUST decode an encoded Mcp-Name or Mcp-Param-{Name} value before comparing it to the corresponding request body value during Server Validation."),
			named, func(c Call) map[string]string {
				return map[string]string{"Mcp-Name": conformance.EncodedHeaderValue(nameOf(c) + "x")}
			}),
		headerCase("name-missing", "named-request", "a request without its Mcp-Name is refused with -32020",
			"Leaves out Mcp-Name on a request that has a name.", validation(3, "A required standard header (MCP-Protocol-Version, Mcp-Method, Mcp-Name) is missing."),
			named, set("Mcp-Name", "-")),
		build(modern, "version-missing", req(modern, "headers", 4, must, httpPage+"#protocol-version-header", "A server that does not support such clients MUST reject a request without the header per Server Validation."), conformance.Case{
			Title: "a request without MCP-Protocol-Version is refused with -32020", Twin: "request", Transports: httpOnly,
			About: "Leaves out MCP-Protocol-Version. A server that also speaks revisions without that header may take it for one of them; then the case does not apply.",
			Fix:   "Answer HTTP 400 with the JSON-RPC error -32020.",
			Run: func(t *T) {
				if t.Survey().Legacy.Spoken {
					t.NotApplicable("the server speaks the legacy era too, where the header may be absent")
				}
				s := t.Session()
				r := s.Do(Call{Method: "server/discover", Header: map[string]string{"MCP-Protocol-Version": "-"}})
				refused(t, s, r, 400, jsonrpc.CodeHeaderMismatch)
			},
		}),
	}
}

func modernHTTP() []conformance.Case {
	only := func(t *T) {
		if t.Survey().Legacy.Spoken {
			t.NotApplicable("the server speaks the legacy era too, where this has a meaning")
		}
	}
	earlier := func(n int, text string) conformance.Requirement {
		return req(modern, "http", n, should, httpPage+"#earlier-streamable-http-revisions", text)
	}
	verb := func(v string) conformance.Case {
		return build(modern, strings.ToLower(v)+"-405", earlier(1, "HTTP GET or DELETE to the MCP endpoint: respond with 405 Method Not Allowed."), conformance.Case{
			Title: "HTTP " + v + " is answered with 405", Transports: httpOnly,
			About: "Sends " + v + " to the endpoint of a server that speaks this revision only.",
			Fix:   "Answer " + v + " with 405 Method Not Allowed.",
			Run: func(t *T) {
				only(t)
				r := t.Session().Do(Call{Verb: v, Head: true, Header: map[string]string{"Accept": "text/event-stream"}})
				if r.Status != 405 {
					t.Violate("the HTTP status is %d", r.Status)
				}
			},
		})
	}
	cases := []conformance.Case{
		build(modern, "unknown-method-404", req(modern, "http", 2, must, httpPage+"#protocol-version-header", "If the server does not implement the requested RPC method, it MUST respond with 404 Not Found and a JSON-RPC error with code -32601 (Method not found)."), conformance.Case{
			Title: "an unknown method is refused with HTTP 404 and -32601", Twin: "request", Transports: httpOnly,
			About: "Calls a method that does not exist, and looks at the HTTP status beside the error.",
			Fix:   "Answer HTTP 404 together with -32601.",
			Run: func(t *T) {
				s := t.Session()
				refused(t, s, s.Do(Call{Method: "org.trustedmcp/no-such-method"}), 404, jsonrpc.CodeMethodNotFound)
			},
		}),
		verb("GET"), verb("DELETE"),
		build(modern, "session-id-ignored", earlier(3, "An Mcp-Session-Id header on a request: ignore it, and do not mint or echo session IDs."), conformance.Case{
			Title: "Mcp-Session-Id is ignored and not given out", Transports: httpOnly,
			About: "Sends a request with a made-up Mcp-Session-Id to a server that speaks this revision only.",
			Fix:   "Pass over Mcp-Session-Id.",
			Run: func(t *T) {
				only(t)
				s := t.Session()
				r := s.Do(Call{Method: "server/discover", Header: map[string]string{"Mcp-Session-Id": "made-up"}})
				if r.Answer == nil || r.Answer.Result == nil {
					t.Violate("the request was refused%s", s.Hint(r))
				}
				if id := r.Header.Get("Mcp-Session-Id"); id != "" {
					t.Violate("the answer has the session id %q", id)
				}
			},
		}),
		build(modern, "last-event-id-ignored", earlier(4, "A Last-Event-ID header: ignore it; streams are not resumable."), conformance.Case{
			Title: "Last-Event-ID is ignored", Transports: httpOnly,
			About: "Sends a request with a made-up Last-Event-ID to a server that speaks this revision only.",
			Fix:   "Pass over Last-Event-ID.",
			Run: func(t *T) {
				only(t)
				s := t.Session()
				r := s.Do(Call{Method: "server/discover", Header: map[string]string{"Last-Event-ID": "made-up-1"}})
				if r.Answer == nil || r.Answer.Result == nil {
					t.Violate("the request was refused%s", s.Hint(r))
				}
			},
		}),
		build(modern, "sse-buffering", req(modern, "http", 5, should, httpPage+"#receiving-messages", "When initiating an SSE stream, servers SHOULD include the X-Accel-Buffering: no header in the HTTP response."), conformance.Case{
			Title: "event streams tell proxies not to buffer", Transports: httpOnly,
			About: "Looks for X-Accel-Buffering: no where a list or discovery is answered with an event stream.",
			Fix:   "Send X-Accel-Buffering: no with event streams.",
			Run: func(t *T) {
				r := anyStream(t)
				if !strings.EqualFold(strings.TrimSpace(r.Header.Get("X-Accel-Buffering")), "no") {
					t.Violate("the header X-Accel-Buffering is %q", r.Header.Get("X-Accel-Buffering"))
				}
			},
		}),
		sseEnds(modern, 6, "basic/transports/streamable-http#receiving-messages", "The final JSON-RPC response SHOULD terminate the stream."),
	}
	for _, e := range []conformance.Era{modern, legacy} {
		page, n := httpPage, 7
		if e == legacy {
			page = "basic/transports"
		}
		cases = append(cases,
			originCase(e, "origin-rebound", n, page, "a request as DNS rebinding makes it is refused with 403",
				"Sends Origin and Host of attacker.example to a server on the loopback interface, as a browser does that was led there by DNS rebinding.",
				map[string]string{"Origin": "http://attacker.example", "Host": "attacker.example"}),
			originCase(e, "origin", n, page, "a request from a foreign web origin is refused with 403",
				"Sends Origin: http://attacker.example with the server's own Host. Which origins are valid is the server's to say, so an acceptance is a warning only.",
				map[string]string{"Origin": "http://attacker.example"}),
			build(e, "notification-202", req(e, "http", 8, must, page, map[conformance.Era]string{
				modern: "If the server accepts it, the server MUST return HTTP status code 202 Accepted with no body.",
				legacy: "If the server accepts the input, the server MUST return HTTP status code 202 Accepted with no body.",
			}[e]), conformance.Case{
				Title: "a notification is taken with 202 and no body, or refused with an error status", Transports: httpOnly,
				About: "Posts notifications, one of them of an unknown method.",
				Fix:   "Answer notifications with 202 and an empty body.",
				Run: func(t *T) {
					notes := []string{"notifications/org.trustedmcp/unknown"}
					if e == legacy {
						notes = append(notes, "notifications/roots/list_changed")
					}
					for _, n := range notes {
						r := t.Session().Do(Call{Method: n, Note: true})
						if r.Status == 202 && len(r.Body) == 0 || r.Status >= 400 {
							continue
						}
						t.Violate("%s: HTTP %d with %d bytes of body", n, r.Status, len(r.Body))
					}
				},
			}),
			build(e, "content-type", req(e, "http", 9, must, page, map[conformance.Era]string{
				modern: "If the body is a JSON-RPC request, the server MUST return either Content-Type: application/json (a single JSON object) or Content-Type: text/event-stream (an SSE response stream).",
				legacy: "If the input is a JSON-RPC request, the server MUST either return Content-Type: text/event-stream, to initiate an SSE stream, or Content-Type: application/json, to return one JSON object.",
			}[e]), conformance.Case{
				Title: "requests are answered with JSON or an event stream", Transports: httpOnly,
				About: "Sends a known and an unknown method, and looks at the content types of their answers, and of all answers with status 200 in this run.",
				Fix:   "Answer requests, refused ones too, with application/json or text/event-stream.",
				Last:  true,
				Run: func(t *T) {
					s := t.Session()
					for _, c := range []Call{simple(e), {Method: "org.trustedmcp/no-such-method"}} {
						if r := s.Do(c); r.ContentType != "application/json" && !r.SSE() {
							t.Violate("%s was answered with HTTP %d and content type %q, body %q", c.Method, r.Status, r.Header.Get("Content-Type"), conformance.Short(r.Body))
						}
					}
					judgeRule(t, conformance.RuleContentType, e)
				},
			}),
		)
	}
	return cases
}

func sseEnds(e conformance.Era, n int, page, text string) conformance.Case {
	return build(e, "sse-ends", req(e, "http", n, should, page, text), conformance.Case{
		Title: "an event stream ends after the response", Transports: httpOnly,
		About: "Where a request is answered with an event stream, waits up to a second after the response for the stream to end.",
		Fix:   "Close the stream after the response.",
		Run: func(t *T) {
			if r := anyStream(t); !r.StreamEnded {
				t.Violate("the stream was still open a second after the response")
			}
		},
	})
}

// originCase sends a web origin that can't be valid for a loopback server.
func originCase(e conformance.Era, name string, n int, page, title, about string, header map[string]string) conformance.Case {
	return build(e, name, req(e, "http", n, must, page, "If the Origin header is present and invalid, servers MUST respond with HTTP 403 Forbidden."), conformance.Case{
		Title: title, About: about, Twin: "request", Transports: httpOnly,
		Fix: "Check Origin against a list of allowed origins, and answer 403.",
		Run: func(t *T) {
			if !loopback(t) {
				t.Untestable("the server is not on the loopback interface; only its owner knows which origins are valid")
			}
			s := t.Session()
			c := simple(e)
			c.Header = header
			r := s.Do(c)
			if header["Host"] == "" && r.Status == 200 {
				t.Weakness("the request was served: the server takes any origin for valid, or does not look at it")
			}
			if header["Host"] != "" && r.Status == http.StatusMisdirectedRequest && (r.Answer == nil || r.Answer.Result == nil) {
				// RFC 9110, section 15.5.20: the Host is refused, before Origin is read.
				t.Weakness("the HTTP status is 421: the server refuses the Host, and MCP asks for 403 for the Origin")
			}
			refusedStatus(t, r, 403)
		},
	})
}

// refusedStatus judges the answer to a mutant that HTTP alone refuses.
func refusedStatus(t *T, r *wire.Reply, status int) {
	if r.Status != status {
		t.Violate("the HTTP status is %d", r.Status)
	}
	if r.Answer != nil && r.Answer.Result != nil {
		t.Violate("the status is %d, but the request was served", status)
	}
	t.Refused("HTTP %d", status)
	t.Reached(r.SeenSeq)
	t.NoEffect("the answer carries no result")
}
