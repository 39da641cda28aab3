package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/policy-wasm/guests"
)

// compiles reports whether this machine has the compiling engine.
func compiles() bool { return goruntime.GOARCH == "amd64" || goruntime.GOARCH == "arm64" }

func policyNewCommand() *cobra.Command {
	var lang, name string
	cmd := &cobra.Command{
		Use:   "new --lang LANG DIR",
		Short: "Start a policy: source, SDK and tests in a new folder",
		Long: `Make a project in DIR: a policy that works, its tests, and the SDK that it is
written with, as source. Nothing is fetched. To build it the compiler must be
there; those of AssemblyScript and Zig are fetched from npm if they are not.`,
		Example: `  tmcp policy new --lang rust my-policy
  tmcp policy new --lang assemblyscript --name night-shift policies/night`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%s takes one folder, found %d arguments", cmd.CommandPath(), len(args))
			}
			if args[0] == "" {
				return usagef("the folder's name is empty; for this one say .")
			}
			if lang == "" {
				return usagef("say in which language: --lang is one of %s", strings.Join(guests.Languages(), ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if name == "" {
				path, err := filepath.Abs(dir)
				if err != nil {
					return err
				}
				name = strings.ToLower(filepath.Base(path))
			}
			files, err := build.New(dir, lang, name)
			if err != nil {
				return &exitError{exitUsage, escaped(err)}
			}
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, filepath.FromSlash(f)))
			}
			say := sayTo(cmd)
			say("The policy %q is in %s. Next:", name, dir)
			if dir != "." {
				say("  cd %s", dir)
			}
			say("  tmcp policy build")
			say("  tmcp policy test")
			say("What to write and where stands in %s.", filepath.Join(dir, "README.md"))
			return nil
		},
	}
	cmd.Flags().StringVar(&lang, "lang", "", "language: "+strings.Join(guests.Languages(), ", "))
	cmd.Flags().StringVar(&name, "name", "", "name of the policy (default: the folder's)")
	return cmd
}

func policyBuildCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build a project's policy.wasm",
		Long: `Run the toolchain of the project in DIR, which is the current folder by default,
give the module the metadata of policy.json, and try it as a host would. The
module is written to policy.wasm only if a host would take it.

The commands that run are those of the language, or the one that policy.json
names: build the projects of people whose Makefiles you would run, too.`,
		Example: `  tmcp policy build
  tmcp policy build my-policy --json`,
		Args: atMost(1, "one folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := openProject(folder(args))
			if err != nil {
				return err
			}
			b, err := buildProject(cmd, p)
			if err != nil {
				return err
			}
			if asJSON {
				return printPolicy(cmd.OutOrStdout(), b)
			}
			r, out := b.Report, cmd.OutOrStdout()
			fmt.Fprintf(out, "%s: %d bytes, sha-256 %s\n", printable(b.Path), r.Size, r.Digest)
			fmt.Fprintf(out, "policy %q version %q, answers %s\n", r.Metadata.Name, r.Metadata.Version, list(r.Metadata.Entries))
			if len(r.Imports) > 0 {
				fmt.Fprintf(out, "imports %s\n", printable(strings.Join(r.Imports, ", ")))
			}
			fmt.Fprintf(out, "%d fuel before it is asked\n", r.StartFuel)
			if r.Floats {
				fmt.Fprintln(out, "it computes with floating-point numbers, whose NaNs differ between machines: better not decide by them")
			}
			if b.Logs {
				fmt.Fprintln(out, "it logs: hosts that keep no log, which is the default, refuse it")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// buildProject builds, and shows what a command printed that failed.
func buildProject(cmd *cobra.Command, p *build.Project) (*build.Built, error) {
	b, err := p.Build(cmd.Context(), build.Options{Caps: policy.Caps(), Say: sayTo(cmd)})
	return b, shownBuild(cmd, err)
}

func shownBuild(cmd *cobra.Command, err error) error {
	var tool *build.ToolError
	var failed *build.CommandError
	switch {
	case err == nil:
		return nil
	case cmd.Context().Err() != nil:
		return err
	case errors.As(err, &tool):
		return &exitError{exitUnreachable, escaped(err)}
	case errors.As(err, &failed):
		say := sayTo(cmd)
		for line := range strings.Lines(failed.Output) {
			say("%s", strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "    "))
		}
	case errors.Is(err, os.ErrPermission):
		return &exitError{exitUsage, err}
	}
	return escaped(err)
}

// list is names for people.
func list[S ~string](names []S) string {
	var out []string
	for _, n := range names {
		out = append(out, printable(string(n)))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
