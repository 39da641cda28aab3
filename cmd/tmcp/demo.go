package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/demo"
	"github.com/trustedmcp/tmcp/internal/hostile"
)

func demoCommand() *cobra.Command {
	var attack, against string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch one call plain and sealed, and attacks on it and on attestation",
		Long: `Run an MCP server, an MCP client and a hostile relay between them, all in this
process over loopback, and make one tool call through them.

Without flags: the call plain, the call sealed, every attack on both, and attacks
on attestation, with simulated TEEs.
With --attack: that one, against the sealed call or, with --against plain-mcp,
against a plain one. Attacks on attestation are against a client that demands it
or, with --against lax, against one that leaves out the check in question.

Exit code 0 if sealed calls held (and, with --against plain-mcp or lax, if the
attack succeeded, as it must), 1 otherwise.`,
		Example: "  tmcp demo\n  tmcp demo --attack replay\n  tmcp demo --attack replay --against plain-mcp\n  tmcp demo --attack leaked-identity-key\n  tmcp demo --attack leaked-identity-key --against lax",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := hostile.Attack(attack)
			attested := slices.Contains(demo.AttestedAttacks, a)
			if weak := map[bool]string{false: "plain-mcp", true: "lax"}[attested]; against != "sealed" && against != weak {
				return usagef("--against %q: want sealed or %s", against, weak)
			}
			if attack == "" {
				if cmd.Flags().Changed("against") {
					return usagef("--against goes with --attack")
				}
				return fullDemo(cmd)
			}
			if a != hostile.None && !slices.Contains(hostile.Attacks, a) && !attested {
				return usagef("--attack %q: want one of %v or %v", attack, hostile.Attacks, demo.AttestedAttacks)
			}
			sealed := against == "sealed"
			if attested {
				o, err := demo.RunAttested(cmd.Context(), a, !sealed)
				if err != nil {
					return err
				}
				demo.PrintAttested(cmd.OutOrStdout(), o)
				if o.Succeeded == sealed {
					return &exitError{exitFailure, fmt.Errorf("attack %s: not what must happen", a)}
				}
				return nil
			}
			o, err := demo.Run(cmd.Context(), a, sealed)
			if err != nil {
				return err
			}
			demo.Print(cmd.OutOrStdout(), o)
			if o.Succeeded == sealed {
				return &exitError{exitFailure, fmt.Errorf("attack %s against %s: not what must happen", a, against)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&attack, "attack", "", fmt.Sprintf("one of %v or %v", hostile.Attacks, demo.AttestedAttacks))
	cmd.Flags().StringVar(&against, "against", "sealed", "sealed; or plain-mcp, and lax for attacks on attestation")
	return cmd
}

// fullDemo shows everything.
func fullDemo(cmd *cobra.Command) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	fmt.Fprintln(w, "An MCP client calls a tool of an MCP server. Between them is a relay that does\nwhat an attacker on the path can do. Both speak MCP 2026-07-28 over HTTP.")
	demo.Rule(w, "1. The call in plain MCP")
	plain, err := demo.Run(ctx, hostile.None, false)
	if err != nil {
		return err
	}
	demo.Print(w, plain)
	demo.Rule(w, "2. The same call, sealed: one line more at each end")
	sealed, err := demo.Run(ctx, hostile.None, true)
	if err != nil {
		return err
	}
	demo.Print(w, sealed)
	demo.Rule(w, "3. Six attacks on both")
	plains, seals, err := runAll(ctx)
	if err != nil {
		return err
	}
	demo.Table(w, plains, seals)
	broken := sealed.Succeeded || sealed.Ran != 1
	for _, o := range seals {
		broken = broken || o.Succeeded
	}
	demo.Rule(w, "4. Nine attacks on attestation (simulated TEEs)")
	var all []*demo.AttestedOutcome
	for _, a := range demo.AttestedAttacks {
		for _, lax := range []bool{true, false} {
			o, err := demo.RunAttested(ctx, a, lax)
			if err != nil {
				return err
			}
			all = append(all, o)
			broken = broken || o.Succeeded != lax
		}
	}
	demo.TableAttested(w, all)
	if broken {
		return &exitError{exitFailure, fmt.Errorf("a sealed call did not hold")}
	}
	fmt.Fprintln(w, "\nOne of these at length: tmcp demo --attack replay, or with --against plain-mcp.")
	return nil
}

func runAll(ctx context.Context) (plain, sealed []*demo.Outcome, err error) {
	for _, a := range hostile.Attacks {
		for _, s := range []bool{false, true} {
			o, err := demo.Run(ctx, a, s)
			if err != nil {
				return nil, nil, err
			}
			if s {
				sealed = append(sealed, o)
			} else {
				plain = append(plain, o)
			}
		}
	}
	return plain, sealed, nil
}
