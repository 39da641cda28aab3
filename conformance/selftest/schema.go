// Package selftest tests the suite itself: the reference must pass, and every
// mutant of it must be killed by the case made for it. Call [Run].
package selftest

import (
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/schema"
)

// SchemaValidator is the [conformance.Validator] over MCP's own schemas.
func SchemaValidator(revision, method string, m *wire.Message) error {
	of := method
	if m.Method != "" {
		of = ""
	}
	return schema.ValidateMCP(revision, schema.ServerToClient, m.Raw, of)
}
