// Package schema holds every shape that Trusted MCP puts on the wire or in a
// file, and checks bytes against them. Nothing else in the project writes
// shapes down.
//
// Call [ValidateMCP] first: it checks one core MCP message of any of the five
// revisions. [ValidateSettings], [ValidateOuter] and [ValidateErrorData] check
// what the extension org.trustedmcp/trust adds in JSON, [ValidateCBOR] its key
// objects and sealed frames, [ValidatePolicyDocument] and [ValidatePolicyResult]
// what policies judge and return, and [ValidateLedger] the requirement ledger of
// the specification.
//
// The JSON shapes are JSON Schema 2020-12 files and the CBOR shapes are CDDL
// (RFC 8610), all embedded; [Files] gives them to other tools. All functions
// are safe for concurrent use. They bound time and memory: input is parsed by
// internal/jsonrpc (4 MiB, 64 levels), and a report ends after [MaxViolations].
//
// A valid shape says nothing about trust: signatures, digests and order are
// checked in protocol/.
package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed mcp/*.json trust/*.json trust/*.cddl
var files embed.FS

// Files returns the embedded schema files: mcp/<revision>.json, trust/*.json
// and trust/trust.cddl.
func Files() fs.FS { return files }

// MaxViolations bounds the list in an [Error].
const MaxViolations = 8

// A Violation is one place where input departs from its shape.
type Violation struct {
	// Pointer is the JSON pointer (RFC 6901) of the offending value, or of
	// the member that is missing. For CBOR, map keys stand for member names.
	Pointer string
	// Rule is the schema keyword that failed ("required", "type", "enum", …),
	// or a reason of [internal/jsonrpc] or a kebab-case word of this package.
	Rule string
	// Message says in a few words what is wrong with the value.
	Message string
}

func (v Violation) String() string {
	p := v.Pointer
	if p == "" {
		p = "(the whole value)"
	}
	return p + " " + v.Message
}

// An Error lists how an input departs from the shape that it should have.
type Error struct {
	Shape      string      // what it was checked against, e.g. "MCP 2025-11-25 CallToolRequest"
	Violations []Violation // at least one, at most MaxViolations
	More       bool        // the list was cut
	Cause      error       // the parse error, when the input is not acceptable JSON, CBOR or YAML at all
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "not a valid %s: ", e.Shape)
	for i, v := range e.Violations {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(v.String())
	}
	if e.More {
		b.WriteString("; and more")
	}
	return b.String()
}

// Unwrap returns the parse error behind e, or nil.
func (e *Error) Unwrap() error { return e.Cause }

// one builds an Error with a single violation.
func one(shape, pointer, rule, message string) *Error {
	return &Error{Shape: shape, Violations: []Violation{{pointer, rule, message}}}
}
