package trusted

// notes say, for each case of profile core that a server of others fails or warns
// on, what that server does and why the finding stands. Each was checked by hand
// against MCP's text, whose sentence the document quotes above the note. A test
// asks for a note on every finding, and for none without one.
var notes = map[string]string{
	"server/core/legacy/content-type": "The Go SDK answers a request for a method that it doesn't know with status 400 and `text/plain`. The page lets the server answer a notification or a response so, but not a request.",
	"server/core/legacy/get": "The Java SDK sends no response header until it has something to send on the stream, so a client can't tell whether there is a stream. " +
		"The suite waits 10 s; the official Go client waits without end.",
	"server/core/legacy/malformed": "Over stdio the server process ends on a line that is not JSON: a warning, since MCP doesn't say what else to do with one. " +
		"Over HTTP the server takes a body with text after the message for the message: JSON-RPC 2.0 section 5.1 has -32700 for what is not JSON, and two parsers that disagree on where a message ends are how a gateway is shown another message than the server.",
	"server/core/legacy/origin": "The Origin `http://attacker.example` is served. Which origins are valid is the server's to say, so this is a warning: the SDK's default, or the program on it, takes all.",
	"server/core/legacy/origin-rebound": "Origin and Host are those of a foreign name, as a browser sends them after DNS rebinding. Status 200 is a failure: the request was served. " +
		"Status 421 is a warning: the server refuses the Host before it reads the Origin, so it is protected, and the sentence asks for 403.",
	"server/core/legacy/prompts-bad-cursor":   "The server never gave out a cursor, takes an invented one, and answers with the first page. A client that kept a cursor of an earlier run would take it for the next page.",
	"server/core/legacy/resources-bad-cursor": "As for prompts.",
	"server/core/legacy/tools-bad-cursor":     "As for prompts.",
	"server/core/legacy/session-ended":        "After DELETE has ended the session, the server answers 400, by which a client can't tell that it must open a new session. The session table is in the server program, not in its SDK.",
	"server/core/legacy/session-required":     "Without the header the server answers 404, which tells a client that its session has ended, not that it forgot to name it.",
	"server/core/legacy/set-level":            "The page lists -32602 for an invalid log level, under “Servers SHOULD return standard JSON-RPC errors for common failure cases”. An unknown level is accepted, or refused with another code.",
	"server/core/legacy/unknown-method":       "JSON-RPC 2.0 section 5.1 has -32601 for a method that doesn't exist. The Go SDK answers over legacy HTTP without JSON-RPC (status 400, plain text); the Python SDK 1.x with -32602.",
	"server/core/legacy/unknown-prompt":       "The page lists -32602 for an invalid prompt name, under “Servers SHOULD return standard JSON-RPC errors”.",
	"server/core/legacy/unknown-resource":     "The page lists -32002, under “Servers SHOULD return standard JSON-RPC errors”. Most answer the -32602 that 2026-07-28 has instead, in the legacy era too; the Python SDK 1.x answers code 0.",
	"server/core/legacy/unknown-tool":         "The page names unknown tools as a protocol error; the server answers with a result that has isError. A warning: a client copes with both.",
	"server/core/legacy/version-header":       "A request with MCP-Protocol-Version 1900-01-01 in an open session is served as if it named the agreed revision.",
	"server/core/modern/malformed":            "As in the legacy era.",
	"server/core/modern/name-encoded":         "The Go SDK compares the Base64 form of Mcp-Name with the name in the body without decoding it, and so refuses a conforming client; it decodes Mcp-Param-* only.",
	"server/core/modern/origin":               "As in the legacy era.",
	"server/core/modern/origin-rebound":       "As in the legacy era.",
	"server/core/modern/prompts-bad-cursor":   "As in the legacy era.",
	"server/core/modern/resources-bad-cursor": "As in the legacy era.",
	"server/core/modern/tools-bad-cursor":     "As in the legacy era.",
	"server/core/modern/server-info":          "Results of rmcp lack the server's name in `_meta`.",
	"server/core/modern/sse-buffering":        "Event streams come without `X-Accel-Buffering: no`, so a reverse proxy that buffers by default holds events back.",
	"server/core/modern/unknown-prompt":       "The page lists -32602 for an invalid prompt name; the Python SDK 2.x answers -32603.",
	"server/core/modern/unknown-tool":         "As in the legacy era.",
	"server/core/modern/unsupported-version":  "Over stdio the server serves a request that names version 2099-01-01.",
	"server/core/modern/unsupported-version-old": "Version 1900-01-01 is older than any, so the server takes the request for a legacy one: it doesn't know server/discover there (-32601), or answers 400 in plain text, " +
		"or serves it. A client that negotiates by this error learns no version from any of the three.",
	"server/core/modern/version-mismatch": "The server chooses the era by the header alone. A request whose header names a legacy revision and whose body names 2026-07-28 is refused as a legacy request without a session, not as a mismatch.",
}
