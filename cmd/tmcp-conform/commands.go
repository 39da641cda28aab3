package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/report"
)

// listed is a case as list --json shows it.
type listed struct {
	ID          string   `json:"id"`
	Requirement string   `json:"requirement"`
	Role        string   `json:"role"`
	Profile     string   `json:"profile"`
	Level       string   `json:"level"`
	Eras        []string `json:"eras"`
	Transports  []string `json:"transports"`
	Twin        string   `json:"twin,omitempty"`
	Title       string   `json:"title"`
	Text        string   `json:"text"`
	URL         string   `json:"url"`
}

func listCommand() *cobra.Command {
	var asJSON bool
	var role, profile string
	cmd := &cobra.Command{
		Use: "list", Short: "List the cases", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := catalog.All()
			if err := errors.Join(
				known("role", role, all, func(c *conformance.Case) string { return string(c.Role) }),
				known("profile", profile, all, func(c *conformance.Case) string { return string(c.Profile) }),
			); err != nil {
				return usage("%v", err)
			}
			out := []listed{}
			for _, c := range all {
				if (role != "" && role != string(c.Role)) || (profile != "" && profile != string(c.Profile)) {
					continue
				}
				l := listed{ID: c.ID, Requirement: c.Requirement.ID, Role: string(c.Role), Profile: string(c.Profile), Level: string(c.Level),
					Twin: c.Twin, Title: c.Title, Text: c.Requirement.Text, URL: c.Requirement.URL, Transports: []string{}}
				for _, e := range c.Eras {
					l.Eras = append(l.Eras, string(e))
				}
				for _, t := range c.Transports {
					l.Transports = append(l.Transports, string(t))
				}
				out = append(out, l)
			}
			if !asJSON {
				for _, l := range out {
					fmt.Printf("%-50s %-32s %-6s %s\n", l.ID, l.Requirement, l.Level, l.Title)
				}
				return nil
			}
			b, err := json.Marshal(map[string]any{"cases": out}, json.Deterministic(true), jsontext.WithIndent("  "))
			if err != nil {
				return &exitError{exitHarness, err.Error()}
			}
			_, err = fmt.Printf("%s\n", b)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	cmd.Flags().StringVar(&role, "role", "", "of this role only")
	cmd.Flags().StringVar(&profile, "profile", "", "of this profile only")
	return cmd
}

// known says when no case has the value of a flag, and which values there are.
func known(flag, value string, all []conformance.Case, of func(*conformance.Case) string) error {
	values := map[string]bool{}
	for i := range all {
		values[of(&all[i])] = true
	}
	if value == "" || values[value] {
		return nil
	}
	return fmt.Errorf("--%s %s: there are %s", flag, value, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("unexpected argument %q", args[0])
	}
	return nil
}

func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("expected %s", what)
		}
		return nil
	}
}

func diffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff A.json B.json", Short: "Show what differs between two JSON reports", Args: exactArgs(2, "two files that --json wrote"),
		Long: "Shows what differs between two JSON reports, verdict by verdict. Exits 0 when nothing does, 1 otherwise.",
		RunE: func(_ *cobra.Command, args []string) error {
			docs := make([]*report.Document, 2)
			for i, f := range args {
				data, err := os.ReadFile(f)
				if err != nil {
					return usage("%v", err)
				}
				if docs[i], err = report.Parse(data); err != nil {
					return usage("%s is not a report of tmcp-conform: %v", f, err)
				}
			}
			d := report.Compare(docs[0], docs[1])
			if len(d) == 0 {
				return nil
			}
			fmt.Println(strings.Join(d, "\n"))
			return &exitError{code: exitFailures}
		},
	}
}
