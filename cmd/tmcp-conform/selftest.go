package main

import "github.com/spf13/cobra"

func selfTestCommand() *cobra.Command {
	return &cobra.Command{Use: "self-test", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return nil }}
}
