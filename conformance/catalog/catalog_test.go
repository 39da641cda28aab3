package catalog_test

import (
	"testing"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
)

func TestCatalogIsWhole(t *testing.T) {
	if err := conformance.Validate(catalog.All()); err != nil {
		t.Fatal(err)
	}
}
