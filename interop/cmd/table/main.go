// Command table runs the conformance suite against every server of others, as it
// is and behind tmcp serve, and writes docs/interop.md and the table in README.md.
// Run it in the module's root, after a change of the suite or of a version.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/trusted"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return errors.New("there is no go.mod here; run it in the module's root")
	}
	cache, err := interop.CacheDir()
	if err != nil {
		return err
	}
	all, err := trusted.MeasureAll(ctx, cache, func(what string) { fmt.Fprintln(os.Stderr, what) })
	if err != nil {
		return err
	}
	if err := os.MkdirAll("docs", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join("docs", "interop.md"), trusted.Document(all), 0o644); err != nil {
		return err
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	if out, ok := trusted.InReadme(readme, trusted.ShortTable(all)); !ok {
		fmt.Fprintf(os.Stderr, "README.md has no lines %s and %s; only docs/interop.md is written\n", trusted.BeginMark, trusted.EndMark)
	} else if err := os.WriteFile("README.md", out, 0o644); err != nil {
		return err
	}
	var bad []string
	for _, m := range all {
		if !m.Green() {
			bad = append(bad, m.Target.Name+" at "+m.Endpoint.Name+" is not green behind tmcp serve")
		}
		for _, f := range m.Findings {
			fmt.Fprintf(os.Stderr, "%s %s: %s\n", m.Target.Name, m.Endpoint.Name, f)
		}
	}
	if bad = append(bad, trusted.Unexplained(all)...); len(bad) > 0 {
		return errors.New(strings.Join(bad, "\n"))
	}
	return nil
}
