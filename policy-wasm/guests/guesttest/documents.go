package guesttest

import (
	"fmt"
	"strings"

	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

// Document is a sample document by name, as a source of tests.
func Document(name string) ([]byte, error) {
	if b, ok := document.Sample(name); ok {
		return b, nil
	}
	return nil, fmt.Errorf("no sample is named %q; there are %s", name, strings.Join(document.Samples(), ", "))
}
