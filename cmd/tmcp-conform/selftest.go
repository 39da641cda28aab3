package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance/selftest"
)

func selfTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "self-test", Short: "Test the suite itself: on the reference, and on mutants of it", Args: noArgs,
		Long: "Runs the suite on an in-process reference in every role, where all must pass, and on\nmutants of it, each of which must be caught by the case made for it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			sum, err := selftest.Run(cmd.Context())
			switch {
			case errors.Is(err, context.Canceled):
				return &exitError{exitInterrupted, "interrupted during self-test"}
			case err != nil:
				return &exitError{exitHarness, err.Error()}
			}
			for _, p := range sum.Problems {
				fmt.Println("UNSOUND  " + p)
			}
			fmt.Printf("reference: %d runs, %d verdicts passed\nmutants: %d of %d killed, score %.1f %%\n", sum.Runs, sum.Verdicts, sum.Killed, sum.Mutants, sum.Score())
			if len(sum.Problems) > 0 {
				return &exitError{exitHarness, fmt.Sprintf("the suite is not sound: %d problems", len(sum.Problems))}
			}
			return nil
		},
	}
}
