package main

import (
	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/selftest"
)

// schemaValidator checks messages against MCP's schemas.
func schemaValidator() conformance.Validator { return selftest.SchemaValidator }
