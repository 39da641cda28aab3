package core

import (
	"fmt"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

type jsonValue = jsontext.Value

const (
	sameID      = "Result responses MUST include the same ID as the request they correspond to."
	noResponse  = "The receiver MUST NOT send a response."
	followsRPC  = "All messages between MCP clients and servers MUST follow the JSON-RPC 2.0 specification."
	metaIsYours = "The _meta property/parameter is used by MCP to allow clients and servers to attach additional metadata to their interactions."
	errorFields = "Error responses MUST include an error field with a code and message. Error codes MUST be integers."
)

var ids = []string{
	`1`, `0`, `-7`, `9007199254740991`, `"1"`, `"with space"`, `"` + strings.Repeat("long-", 60) + `"`, `"ünï-☃-🤝"`,
}

func messages() []conformance.Case {
	var cases []conformance.Case
	for _, e := range []conformance.Era{modern, legacy} {
		metaText := metaIsYours
		if e == legacy {
			metaText = "The _meta property/parameter is reserved by MCP to allow clients and servers to attach additional metadata to their interactions."
		}
		cases = append(cases,
			build(e, "id-echo", req(e, "messages", 1, must, "basic/index#responses", sameID), conformance.Case{
				Title: "the answer has the id of the request, whatever its form",
				About: fmt.Sprintf("Sends one request each with the ids %s, and waits for an answer with exactly that id.", strings.Join(ids[:5], ", ")+", a long string and a string beyond ASCII"),
				Fix:   "Keep the id as it came: type, sign and size.",
				Run: func(t *T) {
					s := t.Session()
					for _, raw := range ids {
						c := simple(e)
						c.ID = raw
						r, err := s.Try(c)
						if err != nil || r.Answer == nil {
							t.Violate("a request with the id %s was not answered with that id (%v)%s", raw, errOrNone(err), s.Hint(r))
						}
					}
				},
			}),
			build(e, "unknown-method", req(e, "messages", 2, must, "basic/index#messages", followsRPC), conformance.Case{
				Title: "an unknown method is refused with -32601",
				About: "Calls a method that does not exist. JSON-RPC 2.0, section 5.1: -32601, The method does not exist / is not available.",
				Fix:   "Answer unknown methods with the JSON-RPC error -32601.",
				Twin:  "request",
				Run: func(t *T) {
					s := t.Session()
					r := s.Do(Call{Method: "org.trustedmcp/no-such-method"})
					refused(t, s, r, 0, jsonrpc.CodeMethodNotFound)
				},
			}),
			build(e, "unknown-notification", req(e, "messages", 3, must, "basic/index#notifications", noResponse), conformance.Case{
				Title: "an unknown notification gets no response and does no harm",
				About: "Sends a notification of an unknown method, then an ordinary request, and looks for a response that nothing asked for.",
				Fix:   "Ignore notifications that you do not know.",
				Run: func(t *T) {
					s := t.Session()
					s.Link().Stray()
					r := s.Do(Call{Method: "notifications/org.trustedmcp/unknown", Note: true})
					s.Result(simple(e))
					stray := s.Link().Stray()
					for _, m := range append(r.Messages, stray...) {
						if m.IsResponse() && (!t.HTTP() || r.Status < 400) {
							t.Violate("a notification was answered with %s", conformance.Short(m.Raw))
						}
					}
				},
			}),
			build(e, "large-meta", req(e, "messages", 4, must, "basic/index#meta", metaText), conformance.Case{
				Title: "8 KiB of unknown _meta are tolerated on every method",
				About: "Sends every request that the capabilities suggest with 8 KiB under an unknown vendor key in _meta.",
				Fix:   "Pass over _meta keys that you do not know.",
				Run: func(t *T) {
					s := t.Session()
					for _, c := range everyList(t) {
						c.Meta = Obj{"com.example.unheard-of/evidence": strings.Repeat("A", 8<<10), "com.example.unheard-of/nested": Obj{"a": []any{Obj{"b": nil}}}}
						s.Result(c)
					}
				},
			}),
			build(e, "error-shape", req(e, "messages", 5, must, "basic/index#error-responses", errorFields), conformance.Case{
				Title: "errors have an integer code and a message",
				About: "Provokes an error with an unknown method, and looks at all errors that the server sent in this run.",
				Fix:   "Give every error an integer code and a string message.",
				Last:  true,
				Run: func(t *T) {
					s := t.Session()
					_, _ = s.Try(Call{Method: "org.trustedmcp/no-such-method"})
					judgeRule(t, conformance.RuleErrorShape, e)
				},
			}),
			build(e, "error-id", req(e, "messages", 6, must, "basic/index#error-responses", "Error responses MUST include the same ID as the request they correspond to (except in error cases where the ID could not be read due a malformed request)."), conformance.Case{
				Title: "errors have the id of their request",
				About: "Provokes an error with an unknown method, and looks at all errors that answered a well-formed request in this run.",
				Fix:   "Put the id of the request into the error response.",
				Last:  true,
				Run: func(t *T) {
					s := t.Session()
					_, _ = s.Try(Call{Method: "org.trustedmcp/no-such-method"})
					judgeRule(t, conformance.RuleNull, e)
				},
			}),
			build(e, "malformed", req(e, "messages", 2, must, "basic/index#messages", followsRPC), conformance.Case{
				Title: "what is not JSON is not taken for a message, and does no harm",
				About: "Sends bytes that are not JSON, then an ordinary request. JSON-RPC 2.0, section 5.1: -32700, Invalid JSON was received by the server. Another code, or over stdio an end of the process, is a warning.",
				Fix:   "Answer unparsable input with -32700 (over HTTP with an error status), and go on.",
				Twin:  "request",
				Fresh: true,
				Run:   func(t *T) { malformed(t, e) },
			}),
			build(e, "concurrent", req(e, "messages", 1, must, "basic/index#responses", sameID), conformance.Case{
				Title: "requests under way at the same time are all answered, each with its id",
				About: "Sends sixteen requests without waiting, and waits for sixteen answers.",
				Fix:   "Answer requests independently of each other.",
				Run: func(t *T) {
					s := t.Session()
					calls := everyList(t)
					problems := make([]error, 16)
					var wg sync.WaitGroup
					for i := range problems {
						c := calls[i%len(calls)]
						c.ID = fmt.Sprintf(`"concurrent-%d"`, i)
						wg.Go(func() {
							r, err := s.Try(c)
							if err == nil && (r.Answer == nil || r.Answer.Result == nil) {
								err = fmt.Errorf("no result%s", s.Hint(r))
							}
							if err != nil {
								problems[i] = fmt.Errorf("%s with id %s: %w", c.Method, c.ID, err)
							}
						})
					}
					wg.Wait()
					for _, p := range problems {
						if p != nil {
							t.Violate("%v", p)
						}
					}
				},
			}),
		)
	}
	cases = append(cases,
		build(modern, "result-type", req(modern, "messages", 7, must, "basic/index#result-responses", "The result MUST include a resultType field to indicate the type of the result."), conformance.Case{
			Title: "every result has a known resultType",
			About: "Looks at all results of this run. The suite offers no extension that defines further types.",
			Fix:   `Add "resultType": "complete" to results.`,
			Last:  true,
			Run: func(t *T) {
				t.Session().Result(Call{Method: "server/discover"})
				judgeRule(t, conformance.RuleResultType, modern)
			},
		}),
		build(modern, "server-info", req(modern, "meta", 3, should, "basic/index#meta", "Servers SHOULD include the following io.modelcontextprotocol/* field in every result's _meta, unless specifically configured not to do so, to identify themselves without relying on any prior connection state"), conformance.Case{
			Title: "every result names the server in _meta",
			About: "Looks at _meta of all results of this run.",
			Fix:   "Add io.modelcontextprotocol/serverInfo to the _meta of results.",
			Last:  true,
			Run: func(t *T) {
				t.Session().Result(Call{Method: "server/discover"})
				judgeRule(t, conformance.RuleServerInfo, modern)
			},
		}),
		build(modern, "reserved-codes", req(modern, "messages", 8, must, "basic/index#error-codes", "Implementations MUST NOT emit any code from this sub-range that is not defined by this specification and MUST use defined codes only with their specified meanings."), conformance.Case{
			Title: "no error code that MCP reserves is made up",
			About: "Looks at the codes of all errors of this run: none in -32099 to -32023, and neither -32002 nor -32042.",
			Fix:   "Use codes outside -32768 to -32000 for errors of your own.",
			Last:  true,
			Run: func(t *T) {
				s := t.Session()
				_, _ = s.Try(Call{Method: "org.trustedmcp/no-such-method"})
				if t.Survey().Modern.Has("resources") {
					_, _ = s.Try(Call{Method: "resources/read", Params: Obj{"uri": noSuchURI}})
				}
				judgeRule(t, conformance.RuleReservedCode, modern)
			},
		}),
		build(modern, "no-server-requests", req(modern, "messages", 9, must, "basic/transports/streamable-http#receiving-messages", "The server MUST NOT send independent JSON-RPC requests on this stream."), conformance.Case{
			Title: "the server sends no requests",
			About: "Looks for requests among all that the server sent in this run in the modern era; the rule stands likewise on the page for stdio.",
			Fix:   "Ask for input in results (input_required), not with requests.",
			Last:  true,
			Run: func(t *T) {
				for _, c := range everyList(t) {
					_, _ = t.Session().Try(c)
				}
				judgeRule(t, conformance.RuleServerRequest, modern)
			},
		}),
		build(legacy, "no-unnegotiated-requests", req(legacy, "lifecycle", 3, must, "basic/lifecycle#operation", "Both parties MUST: Respect the negotiated protocol version; Only use capabilities that were successfully negotiated"), conformance.Case{
			Title: "the server asks nothing of a client that declared no capability",
			About: "Looks for requests other than ping among all that the server sent to clients that declared no capability.",
			Fix:   "Send sampling, elicitation and roots requests only to clients that declare them.",
			Last:  true,
			Run: func(t *T) {
				for _, c := range everyList(t) {
					_, _ = t.Session().Try(c)
				}
				judgeRule(t, conformance.RuleServerRequest, legacy)
			},
		}),
	)
	return cases
}

func errOrNone(err error) string {
	if err == nil {
		return "another answer came"
	}
	return err.Error()
}

// judgeRule violates the case when any traffic of the run broke the rule.
func judgeRule(t *T, r conformance.Rule, e conformance.Era) {
	if b := t.Observed().Broken(r, e); len(b) > 0 {
		t.Violate("%s", strings.Join(b, "; "))
	}
}

func malformed(t *T, e conformance.Era) {
	s := t.Session()
	whole := string(conformance.JSON(Obj{"jsonrpc": "2.0", "id": "malformed", "method": simple(e).Method, "params": modernMeta(e)}))
	for _, body := range []string{whole[:len(whole)-1], `this is not JSON`, whole + " trailing"} {
		c := simple(e)
		c.ID, c.Body = `"malformed"`, []byte(body)
		if !t.HTTP() {
			c.Note = true
		}
		s.Link().Stray()
		r, err := s.Try(c)
		if err != nil && !t.HTTP() {
			t.Warnf("the server ended on %q (%v)", body, err)
			s = t.NewSession()
			continue
		}
		if err != nil {
			t.Failf("%q: %v", body, err)
		}
		alive, err := s.Try(simple(e))
		if err != nil && !t.HTTP() && !s.Link().Alive() {
			t.Warnf("the server ended on %q (%v)", body, err)
			s = t.NewSession()
			if alive, err = s.Try(simple(e)); err == nil {
				t.Reached(alive.SeenSeq)
			}
			continue
		}
		if err != nil || alive.Answer == nil || alive.Answer.Result == nil {
			t.Violate("after %q an ordinary request was not served any more (%v)%s", body, errOrNone(err), s.Hint(alive))
		}
		t.Reached(max(r.SeenSeq, alive.SeenSeq))
		for _, m := range append(r.Messages, s.Link().Stray()...) {
			if m.Result != nil {
				t.Violate("%q was answered with a result", body)
			}
			if code, ok := m.Code(); ok && code != jsonrpc.CodeParse {
				t.Warnf("%q was answered with code %d, not -32700", body, code)
			}
		}
		if t.HTTP() && r.Status < 400 && len(r.Messages) == 0 {
			t.Violate("%q was taken with HTTP %d", body, r.Status)
		}
	}
	t.Reached(lastSeen(t, s, e))
	t.Refused("not taken for a message")
	t.NoEffect("no result came for it")
}

// modernMeta are the params of the era's simplest request.
func modernMeta(e conformance.Era) Obj {
	if e == legacy {
		return Obj{}
	}
	return Obj{"_meta": Obj{conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: Obj{}}}
}

// lastSeen makes one more ordinary exchange, as proof that the server goes on.
func lastSeen(t *T, s *conformance.Session, e conformance.Era) int {
	r, err := s.Try(simple(e))
	if err != nil || r.Answer == nil {
		t.Violate("afterwards an ordinary request was not answered (%v)", errOrNone(err))
	}
	return r.SeenSeq
}
