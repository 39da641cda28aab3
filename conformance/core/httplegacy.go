package core

import (
	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

func loopback(t *T) bool { return wire.Loopback(t.Target()) }

// anyStream returns an answer that came as an event stream.
func anyStream(t *T) *wire.Reply {
	s := t.Session()
	for _, c := range everyList(t) {
		c.Drain = true
		if r := s.Do(c); r.SSE() {
			return r
		}
	}
	t.NotApplicable("the server answers these requests with JSON, not with event streams")
	return nil
}

const legacyPage = "basic/transports"

func legacyHTTP() []conformance.Case {
	session := func(n int, level conformance.Level, text string) conformance.Requirement {
		return req(legacy, "session", n, level, legacyPage+"#session-management", text)
	}
	withSession := func(t *T) *conformance.Session {
		s := t.NewSession()
		if s.SessionID == "" {
			t.NotApplicable("the server assigns no session id")
		}
		return s
	}
	return []conformance.Case{
		sseEnds(legacy, 6, legacyPage+"#sending-messages-to-the-server", "After the JSON-RPC response has been sent, the server SHOULD terminate the SSE stream."),
		build(legacy, "get", req(legacy, "http", 10, must, legacyPage+"#listening-for-messages-from-the-server", "The server MUST either return Content-Type: text/event-stream in response to this HTTP GET, or else return HTTP 405 Method Not Allowed, indicating that the server does not offer an SSE stream at this endpoint."), conformance.Case{
			Title: "GET opens an event stream or is answered with 405", Transports: httpOnly,
			About: "Sends GET with Accept: text/event-stream within a session.",
			Fix:   "Answer GET with text/event-stream or 405.",
			Fresh: true,
			Run: func(t *T) {
				r := t.Session().Do(Call{Verb: "GET", Head: true, Header: map[string]string{"Accept": "text/event-stream"}})
				if !(r.Status == 200 && r.SSE()) && r.Status != 405 {
					t.Violate("HTTP %d with content type %q", r.Status, r.ContentType)
				}
			},
		}),
		build(legacy, "version-header", req(legacy, "http", 11, must, legacyPage+"#protocol-version-header", "If the server receives a request with an invalid or unsupported MCP-Protocol-Version, it MUST respond with 400 Bad Request."), conformance.Case{
			Title: "an unsupported MCP-Protocol-Version is refused with 400", Twin: "request", Transports: httpOnly,
			About: "Sends ping within a session with MCP-Protocol-Version: 1900-01-01.",
			Fix:   "Check MCP-Protocol-Version on every request.",
			Fresh: true,
			Run: func(t *T) {
				s := t.Session()
				r := s.Do(Call{Method: "ping", Header: map[string]string{"MCP-Protocol-Version": "1900-01-01"}})
				refusedStatus(t, r, 400)
			},
		}),
		build(legacy, "session-id-ascii", session(1, must, "The session ID MUST only contain visible ASCII characters (ranging from 0x21 to 0x7E)."), conformance.Case{
			Title: "the session id is visible ASCII", Transports: httpOnly,
			About: "Looks at the MCP-Session-Id of an initialize answer.",
			Fix:   "Use, for instance, a UUID.",
			Fresh: true,
			Run: func(t *T) {
				for _, c := range []byte(withSession(t).SessionID) {
					if c < 0x21 || c > 0x7e {
						t.Violate("the session id has the byte 0x%02x", c)
					}
				}
			},
		}),
		build(legacy, "session-id-unique", session(2, should, "The session ID SHOULD be globally unique and cryptographically secure"), conformance.Case{
			Title: "two sessions have different ids", Transports: httpOnly,
			About: "Initializes twice and compares.",
			Fix:   "Draw session ids from a secure random source.",
			Fresh: true,
			Run: func(t *T) {
				a, b := withSession(t), withSession(t)
				if a.SessionID == b.SessionID {
					t.Violate("both are %q", a.SessionID)
				}
				if len(a.SessionID) < 16 {
					t.Violate("the id %q is too short to be hard to guess", a.SessionID)
				}
			},
		}),
		build(legacy, "session-required", session(3, should, "Servers that require a session ID SHOULD respond to requests without an MCP-Session-Id header (other than initialization) with HTTP 400 Bad Request."), conformance.Case{
			Title: "a request without its session id is refused with 400", Twin: "request", Transports: httpOnly,
			About: "Leaves out MCP-Session-Id in a session that has one. A server that serves the request all the same requires none, and the case does not apply.",
			Fix:   "Answer HTTP 400.",
			Fresh: true,
			Run: func(t *T) {
				s := withSession(t)
				r := s.Do(Call{Method: "ping", Header: map[string]string{"Mcp-Session-Id": "-"}})
				if r.Answer != nil && r.Answer.Result != nil {
					t.NotApplicable("the server requires no session id")
				}
				refusedStatus(t, r, 400)
			},
		}),
		build(legacy, "session-ended", session(4, must, "The server MAY terminate the session at any time, after which it MUST respond to requests containing that session ID with HTTP 404 Not Found."), conformance.Case{
			Title: "a request in a session that was ended is refused with 404", Twin: "request", Transports: httpOnly,
			About: "Ends a session with DELETE, and then sends ping in it.",
			Fix:   "Answer HTTP 404 once a session is over.",
			Fresh: true,
			Run: func(t *T) {
				s := withSession(t)
				if r := s.Do(Call{Verb: "DELETE", Head: true}); r.Status >= 300 {
					t.NotApplicable("the server does not let clients end sessions (HTTP %d)", r.Status)
				}
				r := s.Do(Call{Method: "ping"})
				refusedStatus(t, r, 404)
			},
		}),
	}
}
