package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/report"
	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

func verifierCommand() *cobra.Command {
	var f runFlags
	var export string
	cmd := &cobra.Command{
		Use:   "verifier -- SHIM [ARG…] | verifier --export DIR",
		Short: "Test a verifier of key objects and evidence, behind a small shim",
		Long: "Starts the shim and asks it, line by line, to verify key objects, evidence of TEEs,\n" +
			"manifests and attestation results. A shim reads a JSON object from each line of its\n" +
			"standard input and answers each with one; what it has not, it says (not-implemented),\n" +
			"or ends with exit code 89. conformance/verifier/README.md describes the members.\n\n" +
			"--export writes all requests, and what must come of them, to files instead.",
		Example: "  tmcp-conform verifier -- python3 shim.py\n" +
			"  tmcp-conform verifier --requirement TMCP-18.7 --json report.json -- ./my-shim\n" +
			"  tmcp-conform verifier --export vectors/",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if export != "" {
				if len(args) > 0 {
					return usage("--export writes files, and starts no shim")
				}
				n, err := verifier.Export(export)
				if err != nil {
					return usage("--export: %v", err)
				}
				fmt.Printf("%d vectors written to %s\n", n, export)
				return nil
			}
			if err := f.checkShim(cmd, args, "verifier"); err != nil {
				return err
			}
			subject := verifier.Command(args)
			defer subject.Close()
			return f.runShim(cmd, conformance.RoleVerifier, subject, func(ctx context.Context, limit time.Duration) (*conformance.Survey, error) {
				return verifier.Survey(ctx, subject, limit)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&export, "export", "", "write the vectors to this directory, one JSON file each")
	hintDashes(cmd)
	return cmd
}

// checkShim looks at the command that starts a shim.
func (f *runFlags) checkShim(cmd *cobra.Command, args []string, what string) error {
	if cmd.ArgsLenAtDash() < 0 && len(args) > 0 {
		return noDashes(cmd, args)
	}
	if cmd.ArgsLenAtDash() != 0 || len(args) == 0 {
		return usage("which %s? give -- and the command that starts its shim", what)
	}
	if len(f.headers) > 0 || f.canary != "" || len(f.eras) > 0 && strings.Join(f.eras, "") != string(conformance.Modern) {
		return usage("--header, --canary-tool and --era are for servers and clients")
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		return &exitError{exitUnreachable, err.Error()}
	}
	return nil
}

// runShim is run for the roles that stand behind a shim.
func (f *runFlags) runShim(cmd *cobra.Command, role conformance.Role, target wire.Target, greet func(context.Context, time.Duration) (*conformance.Survey, error)) error {
	ctx, all := cmd.Context(), catalog.All()
	sel, err := f.selection(all, role)
	if err != nil {
		return err
	}
	if f.step <= 0 || f.start <= 0 {
		return usage("--timeout and --start-timeout are durations above zero")
	}
	var base *report.Baseline
	if f.baseline != "" {
		if base, err = report.ReadBaseline(f.baseline, all); err != nil {
			return usage("%v", err)
		}
	}
	var missing *conformance.PrerequisiteError
	survey, err := greet(ctx, f.start)
	switch {
	case ctx.Err() != nil:
		return &exitError{exitInterrupted, "interrupted before the shim's first answer"}
	case errors.As(err, &missing):
		return &exitError{exitUnreachable, missing.Reason}
	case err != nil:
		return &exitError{exitHarness, err.Error()}
	}
	progress, clear := f.progress()
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: target, Survey: survey, Cases: all, Select: sel, Seed: f.seed, StepTimeout: f.step, StartTimeout: f.start, Progress: progress,
	})
	clear()
	switch {
	case errors.As(err, &missing):
		return &exitError{exitUnreachable, missing.Reason}
	case err != nil:
		return &exitError{exitHarness, fmt.Sprintf("running the cases: %v", err)}
	}
	return f.conclude(rep, report.NewDocument(rep, report.Options{Role: role, Baseline: base, Replay: f.replay(role)}), base)
}
