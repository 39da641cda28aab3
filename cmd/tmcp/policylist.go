package main

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/policy-wasm/policies"
)

func policyListCommand() *cobra.Command {
	var source bool
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "Show the policies that ship with this program",
		Long: `Policies that ship with this program can be named wherever a policy is asked
for, as in tmcp connect --policy strict. With a NAME it says what settings the
policy takes.`,
		Example: "  tmcp policy list\n  tmcp policy list tools\n  tmcp policy list strict --source",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("tmcp policy list takes one name, found %d arguments", len(args))
			}
			if source && len(args) == 0 {
				return usagef("--source: of which policy? There are %s", strings.Join(policies.Names(), ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			if len(args) == 0 {
				for _, name := range policies.Names() {
					p, _ := policies.Describe(name)
					fmt.Fprintf(w, "%-13s %s\n", name, p.Description)
				}
				return nil
			}
			p, ok := policies.Describe(args[0])
			if !ok {
				return usagef("no policy of the name %q ships with this program; there are %s", args[0], strings.Join(policies.Names(), ", "))
			}
			if source {
				text, _ := policies.Source(p.Name)
				fmt.Fprint(w, text)
				return nil
			}
			module, _ := policies.Module(p.Name)
			fmt.Fprintf(w, "%s: %s\n", p.Name, p.Description)
			fmt.Fprintf(w, "  answers %s, version %s, %d bytes, SHA-256 %x\n", list(p.Entries), policies.Version, len(module), sha256.Sum256(module))
			if p.Development {
				fmt.Fprintln(w, "  for development: it accepts simulated TEEs, and no others")
			}
			for _, s := range p.Settings {
				def := ""
				if s.Default != "" {
					def = ", default " + s.Default
				}
				fmt.Fprintf(w, "  setting %s (%s%s): %s\n", s.Name, s.Type, def, s.Description)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&source, "source", false, "print the source")
	return cmd
}
