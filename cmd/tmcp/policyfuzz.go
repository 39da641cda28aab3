package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

func policyFuzzCommand() *cobra.Command {
	var docs, optional []string
	var out string
	var span time.Duration
	var seed uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fuzz MODULE",
		Short: "Ask a policy about documents that were changed at random",
		Long: `Ask a module, or the policy.wasm of a project's folder, about documents that were
changed at random, and report what no policy should do: fail to decide (trap, use
up its fuel, return nonsense), say different things in the two engines, or allow
when a member is removed from a document that it did not allow.

Each finding is made small and written as a test, into the project's tests or the
file that --out names. The same seed asks about the same documents in the same
order.`,
		Example: `  tmcp policy fuzz .
  tmcp policy fuzz policy.wasm --time 1m --seed 7 --document tdx --out found.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usagef("%s takes one module, found %d arguments", cmd.CommandPath(), len(args))
			case span <= 0:
				return usagef("--time %v: want a time above 0", span)
			}
			for _, p := range optional {
				if !jsontext.Pointer(p).IsValid() || p == "" {
					return usagef("--optional %q is no JSON pointer, such as /devices/*/tcb", p)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			module, path, err := readModule(cmd, args[0])
			if err != nil {
				return err
			}
			dir := filepath.Dir(path)
			_, err = build.Open(dir)
			inProject := err == nil && filepath.Base(path) == build.ModuleFile
			if inProject {
				more, err := optionals(filepath.Join(dir, build.TestFolder))
				if err != nil {
					return err
				}
				optional = append(optional, more...)
			}
			all, closeAll, err := loadModule(cmd, module, everywhere()...)
			if err != nil {
				return err
			}
			defer closeAll()
			bases, err := fuzzBases(cmd, docs)
			if err != nil {
				return err
			}
			r := policytest.Runner{Policy: all[0], Also: all[1:]}
			until := time.Now().Add(span)
			c, err := r.Fuzz(cmd.Context(), bases, optional, seed, func() bool { return time.Now().Before(until) })
			if err != nil {
				return err
			}
			if out == "" && inProject {
				out = filepath.Join(dir, build.TestFolder)
			}
			if asJSON {
				if err := printPolicy(cmd.OutOrStdout(), c); err != nil {
					return err
				}
			} else {
				w := cmd.OutOrStdout()
				for _, b := range c.Bugs {
					fmt.Fprintf(w, "%s: %s\n", b.Kind, printable(b.Detail))
				}
				fmt.Fprintf(w, "%d documents, %d allowed, %d without a decision, %d findings; at most %d fuel and %d pages; seed %d\n",
					c.Documents, c.Allowed, c.Failures, len(c.Bugs), c.FuelAtMost, c.PagesAtMost, seed)
			}
			if len(c.Bugs) == 0 {
				return nil
			}
			return saveBugs(cmd, out, c.Bugs)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&docs, "document", nil, "file of a document, or name of a sample, to begin with; may be repeated (default: all samples)")
	f.StringArrayVar(&optional, "optional", nil, "JSON pointer of a member that may be missing, with * for any one name or index; may be repeated")
	f.StringVar(&out, "out", "", "file for the findings, as tests; or a folder (default: the project's tests)")
	f.DurationVar(&span, "time", 10*time.Second, "how long")
	f.Uint64Var(&seed, "seed", 1, "another seed asks about other documents")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// optionals are what a project's tests say may be missing.
func optionals(dir string) (all []string, err error) {
	if names, err := filepath.Glob(filepath.Join(dir, "*.json")); err != nil || len(names) == 0 {
		return nil, err
	}
	files, err := testFiles(dir, regexp.MustCompile(""), false)
	for _, f := range files {
		all = append(all, f.Optional...)
	}
	return all, err
}

func fuzzBases(cmd *cobra.Command, names []string) (map[string][]byte, error) {
	if len(names) == 0 {
		names = document.Samples()
	}
	bases := map[string][]byte{}
	for _, name := range names {
		d, err := readDocument(cmd, name)
		if err != nil {
			return nil, err
		}
		if bases[name], err = d.JSON(); err != nil {
			return nil, err
		}
	}
	return bases, nil
}

// saveBugs writes findings as tests.
func saveBugs(cmd *cobra.Command, out string, bugs []policytest.Bug) error {
	var tests []policytest.Test
	for i, b := range bugs {
		b.Test.Name = fmt.Sprintf("%s (%d)", b.Test.Name, i+1)
		tests = append(tests, b.Test)
	}
	text, err := policytest.Format(tests)
	if err != nil {
		return err
	}
	if info, err := os.Stat(out); err == nil && info.IsDir() {
		digest := sha256.Sum256(text)
		out = filepath.Join(out, fmt.Sprintf("found-%x.json", digest[:4]))
	}
	if out == "" {
		return fmt.Errorf("%d findings; --out FILE writes them as tests", len(bugs))
	}
	if err := os.WriteFile(out, text, 0o644); err != nil {
		return err
	}
	return fmt.Errorf("%d findings, as tests in %s", len(bugs), out)
}
