// Command ledger writes what of the specification is generated: ids for new
// requirements in the chapters, spec/ledger.yaml, and its export in the shape
// of MCP's conformance suite, spec/sep-trusted-mcp.yaml. Run it with
//
//	go generate ./spec
//
// It ends with status 1 when chapters, suite, vectors and code disagree, after
// writing; what it printed says what to mend.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/trustedmcp/tmcp/internal/house"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := house.Root()
	if err != nil {
		return err
	}
	if err := house.Number(root); err != nil {
		return err
	}
	res, errs := house.Build(root)
	for _, e := range errs {
		fmt.Fprintln(os.Stderr, e)
	}
	if res == nil {
		return fmt.Errorf("nothing was written")
	}
	for name, b := range map[string][]byte{"ledger.yaml": res.YAML, "sep-trusted-mcp.yaml": res.SEP} {
		if err := os.WriteFile(filepath.Join(root, "spec", name), b, 0o644); err != nil {
			return err
		}
	}
	fmt.Println(res.Summary())
	if len(errs) > 0 {
		return fmt.Errorf("%d disagreements, see above", len(errs))
	}
	return nil
}
