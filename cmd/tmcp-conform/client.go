package main

import (
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/client"
	"github.com/trustedmcp/tmcp/conformance/report"
)

func clientCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "client -- CMD [ARG…]",
		Short: "Test a client, by good and hostile servers that the suite hosts",
		Long: "Hosts a server for each case and starts the client with its URL. The verdict goes by\n" +
			"what the client sends, by its exit code, and by what it prints as the tool's answer.\n\n" + client.Contract,
		Example: "  tmcp-conform client -- ./my-client\n" +
			"  tmcp-conform client --profile identity --json report.json -- ./connect.sh\n" +
			"  tmcp-conform client --profile attested,mutual -- ./connect.sh\n" +
			"  tmcp-conform client --profile aicc-0.1 -- ./connect.sh",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() < 0 && len(args) > 0 {
				return noDashes(cmd, args)
			}
			if cmd.ArgsLenAtDash() != 0 || len(args) == 0 {
				return usage("which client? give -- and the command that starts it")
			}
			if len(f.headers) > 0 || f.canary != "" {
				return usage("--header and --canary-tool are for servers")
			}
			if _, err := exec.LookPath(args[0]); err != nil {
				return &exitError{exitUnreachable, err.Error()}
			}
			if f.aicc() {
				if len(f.profiles) > 1 {
					return usage("%s", aiccAlone)
				}
				return f.runSubject(cmd.Context(), conformance.RoleClient, conformance.CommandSubject(args), nil)
			}
			return f.runClient(cmd, client.Command(args))
		},
	}
	f.register(cmd)
	hintDashes(cmd)
	return cmd
}

// runClient is run for the role client.
func (f *runFlags) runClient(cmd *cobra.Command, subject *client.Subject) error {
	ctx, all := cmd.Context(), catalog.All()
	sel, err := f.selection(all, conformance.RoleClient)
	if err != nil {
		return err
	}
	var eras []conformance.Era
	for _, e := range f.eras {
		if e != string(conformance.Modern) && e != string(conformance.Legacy) {
			return usage("--era %s: there are modern and legacy", e)
		}
		eras = append(eras, conformance.Era(e))
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
	survey, err := client.Survey(ctx, subject, f.start, eras)
	switch {
	case ctx.Err() != nil:
		return &exitError{exitInterrupted, "interrupted during the survey of the client"}
	case errors.As(err, &missing):
		return &exitError{exitUnreachable, missing.Reason}
	case err != nil:
		return &exitError{exitHarness, err.Error()}
	}
	progress, clear := f.progress()
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: subject, Survey: survey, Cases: all, Select: sel, Eras: eras, Seed: f.seed, StepTimeout: f.step, StartTimeout: f.start, Progress: progress,
	})
	clear()
	switch {
	case errors.As(err, &missing):
		return &exitError{exitUnreachable, missing.Reason}
	case err != nil:
		return &exitError{exitHarness, fmt.Sprintf("running the cases: %v", err)}
	}
	if why := f.noTrust(rep); why != "" {
		return &exitError{exitUnreachable, why}
	}
	return f.conclude(rep, report.NewDocument(rep, report.Options{Role: conformance.RoleClient, Baseline: base, Replay: f.replay(conformance.RoleClient)}), base)
}
