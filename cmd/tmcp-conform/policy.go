package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/policy"
)

func policyCommand() *cobra.Command {
	var f runFlags
	var export string
	cmd := &cobra.Command{
		Use:   "policy -- SHIM [ARG…] | policy --export DIR",
		Short: "Test a host of policies as WebAssembly, behind a small shim",
		Long: "Starts the shim and has it, line by line, load modules and ask them: good ones, ones at\n" +
			"the limits, and hostile ones. A shim reads a JSON object from each line of its standard\n" +
			"input and answers each with one; what it has not, it says (not_implemented), or ends with\n" +
			"exit code 89. conformance/policy/README.md describes the members.\n\n" +
			"--export writes all requests, and what must come of them, to files instead.",
		Example: "  tmcp-conform policy -- python3 shim.py\n" +
			"  tmcp-conform policy --requirement TMCP-20.7 --json report.json -- ./my-shim\n" +
			"  tmcp-conform policy --export vectors/",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if export != "" {
				if len(args) > 0 {
					return usage("--export writes files, and starts no shim")
				}
				n, err := policy.Export(export)
				if err != nil {
					return usage("--export: %v", err)
				}
				fmt.Printf("%d vectors written to %s\n", n, export)
				return nil
			}
			if err := f.checkShim(cmd, args, "host"); err != nil {
				return err
			}
			subject := policy.Command(args)
			defer subject.Close()
			return f.runShim(cmd, conformance.RolePolicy, subject, func(ctx context.Context, limit time.Duration) (*conformance.Survey, error) {
				return policy.Survey(ctx, subject, limit)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&export, "export", "", "write the vectors to this directory, one JSON file each")
	hintDashes(cmd)
	return cmd
}
