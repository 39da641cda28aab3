package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

func policyInspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect MODULE",
		Short: "Show what a module says of itself, and whether a host takes it",
		Long: `Show the metadata of a module, or of the policy.wasm of a project's folder, its
imports and exports, and how much of a host's limits it uses. The module is
scanned and compiled, and not asked. Signatures beside it are shown as they claim
to be: tmcp policy verify verifies them.

Exit code 0: a host with default limits takes it; 1: it does not.`,
		Example: `  tmcp policy inspect policy.wasm
  tmcp policy inspect . --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%s takes one module, found %d arguments", cmd.CommandPath(), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			module, path, err := readModule(cmd, args[0])
			if err != nil {
				return err
			}
			r := build.Inspect(cmd.Context(), module, policy.Caps())
			if asJSON {
				if err := printPolicy(cmd.OutOrStdout(), r); err != nil {
					return err
				}
			} else {
				printModule(cmd.OutOrStdout(), path, r)
				printSignatures(cmd.OutOrStdout(), path+".cose")
			}
			if r.Accepted {
				return nil
			}
			return refused(r.Refused)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printModule(w io.Writer, path string, r *build.Report) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	row("file", "%s", path)
	row("sha-256", "%s", r.Digest)
	row("made for", "%s", r.Kind)
	if m := r.Metadata; m == nil {
		row("metadata", "none that can be read")
	} else {
		row("name", "%s", m.Name)
		row("version", "%s", m.Version)
		row("author", "%s", m.Author)
		row("licence", "%s", m.Licence)
		row("answers", "%s", list(m.Entries))
		row("takes", "%s", m.Encoding)
		row("reads", "%s", list(m.Inputs))
		if m.Fuel > 0 || m.Pages > 0 {
			row("wishes", "%d fuel, %d pages", m.Fuel, m.Pages)
		}
		if m.Development {
			row("for", "development: simulated TEEs and no others")
		}
	}
	row("imports", "%s", list(r.Imports))
	row("exports", "%s", list(r.Exports))
	if i := slices.Index(r.Custom, "tmcp.policy"); i < 0 || len(r.Custom) > 1 {
		row("sections", "%s", strings.Join(r.Custom, ", "))
	}
	for i, l := range r.Limits {
		name := ""
		if i == 0 {
			name = "limits"
		}
		row(name, "%-36s %10d of %d", l.What, l.Used, l.Most)
	}
	if r.Accepted {
		row("floats", "%v", r.Floats)
	}
}

// printSignatures shows what signatures beside a module say of themselves.
func printSignatures(w io.Writer, path string) {
	b, err := evidencefile.Read(path, nil)
	if err != nil {
		return // mostly there are none
	}
	row := func(format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", "signature", printable(fmt.Sprintf(format, args...)))
	}
	all, err := signed.Split(b)
	if err != nil {
		row("%s can't be read: %v", path, err)
		return
	}
	for _, b := range all {
		s, err := signed.Inspect(b)
		if err != nil {
			row("%s can't be read: %v", path, err)
			continue
		}
		row("of %q version %q by %q, key %s, not verified", s.Name, s.Version, s.Signer, s.KeyID)
	}
}
