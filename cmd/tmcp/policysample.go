package main

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

func policySampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sample [NAME]",
		Short: "Show what a policy is asked about",
		Long: `Print a sample of the documents that policies are asked about, as JSON; without
NAME, the names of all. They are made of evidence of real machines, but for
simulated. A copy, changed, is a document for tmcp policy run or a base of tests.`,
		Example: `  tmcp policy sample
  tmcp policy sample tdx > mine.json`,
		Args: atMost(1, "one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, name := range document.Samples() {
					fmt.Fprintln(cmd.OutOrStdout(), name)
				}
				return nil
			}
			b, ok := document.Sample(args[0])
			if !ok {
				return usagef("there is no sample %q; there are %s", args[0], strings.Join(document.Samples(), ", "))
			}
			return printPolicy(cmd.OutOrStdout(), jsontext.Value(b))
		},
	}
}
