package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy/build"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

// A testReport is what tmcp policy test prints with --json.
type testReport struct {
	Passed  bool                 `json:"passed"`
	Policy  string               `json:"policy"` // SHA-256, hex
	Name    string               `json:"name"`
	Version string               `json:"version"`
	Engines int                  `json:"engines"` // in which the tests ran, with one result
	Tests   []policytest.Outcome `json:"tests"`
	Mutants int                  `json:"mutants"` // damaged documents that were tried
	// Undeclared are members on which decisions hung and that policy.json does not
	// name as inputs; Unused are inputs on which nothing hung.
	Undeclared []string `json:"undeclared,omitempty"`
	Unused     []string `json:"unused,omitempty"`
	// Fuel is the most that a test used; Wish is what policy.json says is enough, 0
	// where it does not. More than that fails.
	Fuel uint64 `json:"fuel"`
	Wish uint64 `json:"wish"`
}

func policyTestCommand() *cobra.Command {
	var module, only string
	var verbose, asJSON, mutate bool
	cmd := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Test a project's policy, with whole documents and damaged ones",
		Long: `Run the tests in the files tests/*.json of the project in DIR, which is the
current folder by default. The policy is built first if policy.wasm is missing or
older than the sources. Each test runs in both engines, which must agree, and in
an instance that was asked before, which must decide the same.

Then the documents of the tests are damaged: each member is removed, nulled,
spelled in other case, and given a value of another type. What the policy did not
allow before it must not allow then; and what it allowed it must not allow any
more if the member matters to it. A policy that means it says so in the file of
tests, with "optional"; docs/policy-authors.md has the format.`,
		Example: `  tmcp policy test
  tmcp policy test -v --run firmware
  tmcp policy test --module other.wasm my-policy`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := atMost(1, "one folder")(cmd, args); err != nil {
				return err
			}
			if _, err := regexp.Compile(only); err != nil {
				return usagef("--run: %v", err)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := folder(args)
			path, err := testedModule(cmd, dir, module)
			if err != nil {
				return err
			}
			files, err := testFiles(filepath.Join(dir, build.TestFolder), regexp.MustCompile(only), mutate)
			if err != nil {
				return err
			}
			b, _, err := readModule(cmd, path)
			if err != nil {
				return err
			}
			caps := everywhere()
			kept := caps[0]
			kept.Pool = 1
			all, closeAll, err := loadModule(cmd, b, append(caps, kept)...)
			if err != nil {
				return err
			}
			defer closeAll()
			runner := policytest.Runner{Policy: all[0], Also: all[1:len(caps)], Kept: all[len(caps)]}
			meta, digest := all[0].Metadata(), all[0].Digest()
			report := testReport{Passed: true, Policy: fmt.Sprintf("%x", digest), Name: meta.Name, Version: meta.Version, Engines: len(caps), Tests: []policytest.Outcome{}}
			for _, f := range files {
				runner.Source = samples(filepath.Dir(f.Path))
				for i := range f.Tests { // one by one: those of a policy that hangs take seconds each
					one := *f
					one.Tests = f.Tests[i : i+1]
					out, err := runner.Run(cmd.Context(), &one)
					if err != nil {
						return err
					}
					report.Passed = report.Passed && out[0].Passed()
					report.Mutants += out[0].Mutants
					if !asJSON {
						printOutcome(cmd.OutOrStdout(), &out[0], verbose)
					}
					report.Tests = append(report.Tests, out[0])
				}
			}
			report.sum(&meta)
			if only != "" || !mutate { // the others may be about those
				report.Unused = nil
			}
			if asJSON {
				if err := printPolicy(cmd.OutOrStdout(), report); err != nil {
					return err
				}
			} else {
				printTotal(cmd.OutOrStdout(), &report)
			}
			if !report.Passed {
				return fmt.Errorf("tests of the policy failed")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&module, "module", "", "test this module in place of the project's")
	f.StringVar(&only, "run", "", "run only tests whose name matches this regular expression")
	f.BoolVarP(&verbose, "verbose", "v", false, "show tests that pass, with what they used")
	f.BoolVar(&mutate, "mutate", true, "try damaged documents too")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// testedModule is the module to test: the one given, or the project's, which is
// built if it must be.
func testedModule(cmd *cobra.Command, dir, module string) (string, error) {
	if module != "" {
		return module, nil
	}
	p, err := openProject(dir)
	if err != nil {
		return "", err
	}
	if !p.Fresh() {
		sayTo(cmd)("building %s", filepath.Join(dir, build.ModuleFile))
		if _, err := buildProject(cmd, p); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, build.ModuleFile), shownBuild(cmd, p.TestSource(cmd.Context(), sayTo(cmd)))
}

// testFiles reads the files of a folder, with those tests that are wanted.
func testFiles(dir string, only *regexp.Regexp, mutate bool) ([]*policytest.File, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, &exitError{exitUsage, fmt.Errorf("%s has no tests: write some into files that end in .json", dir)}
	}
	slices.Sort(names)
	var files []*policytest.File
	n := 0
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		f, err := policytest.Parse(name, b)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		f.Tests = slices.DeleteFunc(f.Tests, func(t policytest.Test) bool { return !only.MatchString(t.Name) })
		for i := range f.Tests {
			if !mutate {
				f.Tests[i].Mutate = &mutate
			}
		}
		n += len(f.Tests)
		files = append(files, f)
	}
	if n == 0 {
		return nil, usagef("--run %q: no test has such a name", only)
	}
	return files, nil
}

const shownFindings = 10 // of one test

func printOutcome(w io.Writer, o *policytest.Outcome, verbose bool) {
	if o.Passed() {
		if verbose {
			fmt.Fprintf(w, "ok    %s", printable(o.Test))
			if a := o.Answer; a != nil {
				fmt.Fprintf(w, "  (%d fuel, %d pages", a.Fuel, a.Pages)
				if o.Mutants > 0 {
					fmt.Fprintf(w, ", %d damaged documents", o.Mutants)
				}
				fmt.Fprintf(w, ")\n")
				printLog(w, a)
			}
			for _, n := range o.Notes {
				fmt.Fprintf(w, "      note: %s\n", n)
			}
		}
		return
	}
	fmt.Fprintf(w, "FAIL  %s  (%s)\n", printable(o.Test), printable(o.File))
	for _, p := range o.Problems {
		fmt.Fprintf(w, "      %s\n", printable(p))
	}
	for i, f := range o.Findings {
		if i == shownFindings {
			fmt.Fprintf(w, "      and %d more; --json has them all\n", len(o.Findings)-i)
			break
		}
		fmt.Fprintf(w, "      %s\n", f)
	}
	if len(o.Findings) > 0 {
		fmt.Fprintf(w, "      A policy fails closed if it reads members with checks of their type and presence. If null or a missing\n"+
			"      member is meant here, list its pointer under \"optional\" in %s.\n", printable(o.File))
	}
	for _, n := range o.Notes {
		fmt.Fprintf(w, "      note: %s\n", n)
	}
	if o.Answer != nil {
		printLog(w, o.Answer)
	}
}

func printLog(w io.Writer, a *policytest.Answer) {
	for line := range strings.Lines(a.Log) {
		fmt.Fprintf(w, "      log: %s\n", printable(strings.TrimSuffix(line, "\n")))
	}
}

// sum fills what is known when all tests ran.
func (r *testReport) sum(m *policywasm.Metadata) {
	for i := range r.Tests {
		if a := r.Tests[i].Answer; a != nil {
			r.Fuel = max(r.Fuel, a.Fuel)
		}
	}
	r.Undeclared, r.Unused = policytest.Declared(m.Inputs, r.Tests)
	if r.Wish = m.Fuel; r.Wish > 0 && r.Fuel > r.Wish {
		r.Passed = false
	}
}

func printTotal(w io.Writer, r *testReport) {
	failed := 0
	for i := range r.Tests {
		if !r.Tests[i].Passed() {
			failed++
		}
	}
	if len(r.Undeclared) > 0 {
		fmt.Fprintf(w, "note: decisions hang on %s, which \"inputs\" of policy.json does not name\n", list(r.Undeclared))
	}
	if len(r.Unused) > 0 {
		fmt.Fprintf(w, "note: no decision hangs on %s, which \"inputs\" of policy.json names: is a test missing?\n", list(r.Unused))
	}
	if r.Wish > 0 && r.Fuel > r.Wish {
		fmt.Fprintf(w, "FAIL  a test used %d fuel, and policy.json says that %d is enough\n", r.Fuel, r.Wish)
	}
	word := "ok"
	if !r.Passed {
		word = "FAIL"
	}
	fmt.Fprintf(w, "%s    %d tests, %d failed; %d damaged documents; at most %d fuel; policy %q %q, sha-256 %s\n",
		word, len(r.Tests), failed, r.Mutants, r.Fuel, r.Name, r.Version, r.Policy)
}

func policyRunCommand() *cobra.Command {
	var doc, settings, entry string
	cmd := &cobra.Command{
		Use:   "run MODULE --document FILE|SAMPLE",
		Short: "Ask a policy about one document",
		Long: `Ask a module, or the policy.wasm of a project's folder, about one document, and
print the result as JSON. A document is a file, or the name of a sample:
tdx, sgx, sev-snp, nitro, gpu, simulated, call-attested, call-identity,
call-unknown; tmcp policy sample prints them.

Exit code 0: the policy allows; 1: it does not.`,
		Example: `  tmcp policy run policy.wasm --document tdx
  tmcp policy run . --document call-identity --settings settings.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usagef("%s takes one module, found %d arguments", cmd.CommandPath(), len(args))
			case doc == "":
				return usagef("say about what: --document is a file, or the name of a sample")
			case entry != "" && entry != string(policywasm.Appraise) && entry != string(policywasm.Authorize):
				return usagef("--question %q: want appraise or authorize", entry)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			module, _, err := readModule(cmd, args[0])
			if err != nil {
				return err
			}
			d, err := readDocument(cmd, doc)
			if err != nil {
				return err
			}
			if settings != "" {
				if d.Settings, err = evidencefile.Read(settings, cmd.InOrStdin()); err != nil {
					return fileError(err)
				}
			}
			if entry != "" {
				d.Question = entry
			}
			all, closeAll, err := loadModule(cmd, module, everywhere()[0])
			if err != nil {
				return err
			}
			defer closeAll()
			text, err := d.JSON()
			if err != nil {
				return fmt.Errorf("%s: %w", doc, err)
			}
			call, err := policytest.Question(all[0].Metadata(), text)
			if err != nil {
				return fmt.Errorf("%s: %w", doc, err)
			}
			a := policytest.AnswerOf(all[0].Evaluate(cmd.Context(), call))
			if err := printPolicy(cmd.OutOrStdout(), a); err != nil {
				return err
			}
			if a.Decision != policywasm.Allow.String() {
				return fmt.Errorf("not allowed: %s", a.Line())
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&doc, "document", "", "file of a document, or name of a sample")
	f.StringVar(&settings, "settings", "", "file of settings in JSON, in place of the document's")
	f.StringVar(&entry, "question", "", "appraise or authorize, in place of the document's")
	return cmd
}
