package selftest

import "github.com/trustedmcp/tmcp/conformance/reference"

// setup is how the reference is run.
type setup string

const (
	httpBoth    setup = "http"
	stdioBoth   setup = "stdio"
	httpModern  setup = "http modern"
	stdioModern setup = "stdio modern"
	httpPublic  setup = "http with public tools"
)

// mutant is a reference that breaks one rule, and the cases that must notice.
type mutant struct {
	fault reference.Fault
	setup setup
	kills []string // ids without server/core/
}

func m(f reference.Fault, s setup, kills ...string) mutant { return mutant{f, s, kills} }

// both names a case in both eras.
func both(names ...string) []string {
	var out []string
	for _, n := range names {
		out = append(out, "modern/"+n, "legacy/"+n)
	}
	return out
}

// coreMutants are the mutants of profile core, role server.
var coreMutants = []mutant{
	m("no-discover", httpModern, "modern/request"),
	m("discover-without-versions", stdioBoth, "modern/discover-shape", "modern/wire-valid"),
	m("bad-extension-name", httpBoth, "modern/capabilities-shape"),
	m("discover-first", stdioBoth, "modern/first-request"),
	m("client-info-required", httpBoth, "modern/client-info-optional"),
	m("missing-version-served", httpBoth, "modern/missing-version"),
	m("capabilities-optional", stdioBoth, "modern/missing-capabilities"),
	m("any-version", stdioBoth, "modern/unsupported-version", "legacy/unknown-version"),
	m("unsupported-without-data", httpBoth, "modern/unsupported-version"),
	m("old-version-accepted", stdioBoth, "modern/unsupported-version-old"),
	m("silent-about-versions", stdioModern, "modern/initialize-names-versions"),
	m("ping-unknown", stdioBoth, "legacy/request"),
	m("ping-with-content", stdioBoth, "legacy/ping-empty"),
	m("initialize-without-info", stdioBoth, "legacy/initialize-shape", "legacy/wire-valid"),
	m("wrong-version", stdioBoth, "legacy/versions"),
	m("unknown-version-error", stdioBoth, "legacy/unknown-version"),
	m("extensions-refused", httpBoth, both("offers-extensions")...),
	m("experimental-refused", stdioBoth, both("offers-experimental")...),

	m("number-ids-as-strings", httpBoth, both("id-echo")...),
	m("string-ids-as-numbers", httpBoth, both("id-echo")...),
	m("float-ids", httpBoth, both("id-echo")...),
	m("unknown-method-result", stdioBoth, both("unknown-method")...),
	m("unknown-method-code", stdioBoth, both("unknown-method")...),
	m("answer-notifications", stdioBoth, both("unknown-notification")...),
	m("small-meta", stdioBoth, both("large-meta")...),
	m("error-without-message", stdioBoth, both("error-shape")...),
	m("error-without-id", httpBoth, "modern/error-id"),
	m("error-without-id", httpBoth, "legacy/error-id"),
	m("malformed-accepted", httpBoth, both("malformed")...),
	m("malformed-accepted", stdioBoth, both("malformed")...),
	m("malformed-wrong-code", stdioBoth, both("malformed")...),
	m("die-on-malformed", stdioBoth, both("malformed")...),
	m("one-at-a-time", httpBoth, both("concurrent")...),
	m("no-result-type", httpBoth, "modern/result-type"),
	m("unknown-result-type", httpBoth, "modern/result-type"),
	m("no-server-info", stdioBoth, "modern/server-info"),
	m("made-up-code", stdioBoth, "modern/reserved-codes", "modern/unknown-resource"),
	m("server-request", stdioBoth, "modern/no-server-requests", "legacy/no-unnegotiated-requests"),

	m("list-not-array", httpBoth, both("tools-list", "prompts-list", "resources-list", "resource-templates-list")...),
	m("endless-pages", httpBoth, both("tools-list")...),
	m("cursor-number", stdioBoth, both("tools-list", "prompts-list", "resources-list")...),
	m("tool-without-schema", stdioBoth, both("tools-list")...),
	m("tool-schema-null", stdioBoth, both("tools-list")...),
	m("prompt-without-name", stdioBoth, both("prompts-list")...),
	m("resource-without-uri", stdioBoth, both("resources-list")...),
	m("template-without-template", stdioBoth, both("resource-templates-list")...),
	m("lists-without-ttl", httpBoth, "modern/tools-cacheable", "modern/prompts-cacheable", "modern/resources-cacheable", "modern/resource-templates-cacheable", "modern/resource-cacheable"),
	m("negative-ttl", stdioBoth, "modern/tools-cacheable"),
	m("scope-everywhere", stdioBoth, "modern/tools-cacheable"),
	m("scope-by-page", stdioBoth, "modern/tools-cacheable"),
	m("discover-without-ttl", httpBoth, "modern/discover-cacheable"),
	m("undeclared-tools", httpBoth, both("tools-undeclared")...),
	m("undeclared-prompts", httpBoth, both("prompts-undeclared")...),
	m("undeclared-resources", httpBoth, both("resources-undeclared")...),
	m("any-cursor", stdioBoth, both("tools-bad-cursor", "prompts-bad-cursor", "resources-bad-cursor")...),
	m("tools-same-name", stdioBoth, both("tool-names-unique")...),
	m("tool-name-space", stdioBoth, both("tool-names-charset")...),
	m("tools-shuffled", stdioBoth, "modern/tools-order"),
	m("tools-per-connection", stdioBoth, "modern/tools-per-connection"),

	m("any-tool", stdioBoth, both("unknown-tool")...),
	m("unknown-tool-is-error", stdioBoth, both("unknown-tool")...),
	m("any-prompt", stdioBoth, both("unknown-prompt")...),
	m("any-resource", stdioBoth, both("unknown-resource")...),
	m("resource-not-found-swapped", stdioBoth, both("unknown-resource")...),
	m("any-level", stdioBoth, "legacy/set-level"),
	m("set-level-unknown", stdioBoth, "legacy/set-level-valid"),
	m("listen-unacknowledged", stdioBoth, "modern/listen"),
	m("listen-wrong-id", httpBoth, "modern/listen"),

	m("any-name-refused", httpBoth, "modern/named-request"),
	m("name-header-raw", httpBoth, "modern/name-encoded"),
	m("header-case-sensitive", httpBoth, "modern/header-case"),
	m("version-header-ignored", httpBoth, "modern/version-mismatch"),
	m("method-header-ignored", httpBoth, "modern/method-mismatch"),
	m("method-header-any-case", httpBoth, "modern/method-case"),
	m("method-header-optional", httpBoth, "modern/method-missing"),
	m("name-header-ignored", httpBoth, "modern/name-mismatch"),
	m("name-header-encoded-unchecked", httpBoth, "modern/name-mismatch-encoded"),
	m("name-header-optional", httpBoth, "modern/name-missing"),
	m("mismatch-wrong-status", httpBoth, "modern/method-mismatch", "modern/name-mismatch"),
	m("version-header-optional", httpModern, "modern/version-missing"),

	m("unknown-method-200", httpBoth, "modern/unknown-method-404"),
	m("get-200", httpModern, "modern/get-405", "modern/delete-405"),
	m("get-200", httpBoth, "legacy/get"),
	m("session-id-refused", httpModern, "modern/session-id-ignored"),
	m("session-id-echoed", httpModern, "modern/session-id-ignored"),
	m("last-event-id-refused", httpModern, "modern/last-event-id-ignored"),
	m("no-accel-buffering", httpBoth, "modern/sse-buffering"),
	m("stream-stays-open", httpBoth, both("sse-ends")...),
	m("any-origin", httpBoth, both("origin-rebound", "origin")...),
	m("host-only", httpBoth, both("origin")...),
	m("notification-200", httpBoth, both("notification-202")...),
	m("notification-body", httpBoth, both("notification-202")...),
	m("errors-as-text", httpBoth, both("content-type")...),
	m("any-version-header", httpBoth, "legacy/version-header"),
	m("session-id-space", httpBoth, "legacy/session-id-ascii"),
	m("session-id-same", httpBoth, "legacy/session-id-unique"),
	m("session-missing-404", httpBoth, "legacy/session-required"),
	m("ended-session-served", httpBoth, "legacy/session-ended"),

	m("stdout-banner", stdioBoth, both("stdout-clean")...),
	m("two-lines", stdioModern, "modern/stdout-clean"),
	m("survive-eof", stdioBoth, "modern/exit-on-eof"),
	m("capabilities-change", stdioBoth, both("survives")...),
}
