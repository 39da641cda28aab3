package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/report"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// runFlags are the flags that all roles share.
type runFlags struct {
	cases, requirements, profiles, eras []string
	seed                                uint64
	step, start                         time.Duration
	jsonFile, junitFile, baseline       string
	verbose                             bool
	canary                              string
	headers                             []string
	trust                               trustFlags
	aiccKey                             string
}

func (f *runFlags) register(cmd *cobra.Command) {
	cmd.PreRunE = func(*cobra.Command, []string) error { return f.writable() }
	fl := cmd.Flags()
	fl.StringSliceVar(&f.cases, "case", nil, "run this case only (may be repeated)")
	fl.StringSliceVar(&f.requirements, "requirement", nil, "run the cases of this requirement, or of those that begin so")
	fl.StringSliceVar(&f.profiles, "profile", nil, "run this profile: core, identity, attested, mutual, attested-tls, aicc-0.1 (default: all; those beyond core apply where the target offers them; attested-tls and aicc-0.1 go alone)")
	fl.StringSliceVar(&f.eras, "era", nil, "run this era only: modern, legacy")
	fl.Uint64Var(&f.seed, "seed", 1, "order of the cases")
	fl.DurationVar(&f.step, "timeout", 10*time.Second, "longest wait for one answer")
	fl.DurationVar(&f.start, "start-timeout", 120*time.Second, "longest wait for the target's first answer, which may have to be downloaded first")
	fl.StringVar(&f.jsonFile, "json", "", "write the report as JSON to this file, - for stdout")
	fl.StringVar(&f.junitFile, "junit", "", "write the report as JUnit XML to this file, - for stdout")
	fl.StringVar(&f.baseline, "baseline", "", "file of expected failures, one case a line")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "list what passed and what does not apply, too")
	fl.StringVar(&f.canary, "canary-tool", "", "a harmless tool that the suite may call without arguments")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "HTTP header to add to every request, as 'Name: value'")
}

func serverCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "server URL | server -- CMD [ARG…]",
		Short: "Test a server, over Streamable HTTP (URL) or stdio (command)",
		Example: "  tmcp-conform server http://127.0.0.1:3000/mcp --profile core\n" +
			"  tmcp-conform server --json report.json -- npx -y @modelcontextprotocol/server-everything\n" +
			"  tmcp-conform server http://127.0.0.1:8443/mcp --profile attested --simulator\n" +
			"  tmcp-conform server http://127.0.0.1:8443/mcp --profile attested,mutual --simulator --client-key suite.key\n" +
			"  tmcp-conform server http://127.0.0.1:8000/mcp --profile aicc-0.1 --aicc-public-key myPublicKey.pem",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			obs := &conformance.Observations{Validator: schemaValidator()}
			target, err := f.target(cmd, args, obs)
			if err != nil {
				return err
			}
			if err := f.trust.load(cmd, f.profiles); err != nil {
				return err
			}
			if err := f.loadAICC(target); err != nil {
				return err
			}
			return f.run(cmd.Context(), conformance.RoleServer, target, obs)
		},
	}
	f.register(cmd)
	f.trust.register(cmd)
	cmd.Flags().StringVar(&f.aiccKey, "aicc-public-key", "", "aicc-0.1: file with the server's public key (PEM), such as myPublicKey.pem")
	hintDashes(cmd)
	return cmd
}

// hintDashes has cmd say, of a flag that it does not know, that it may be one
// of a command that -- is missing before.
func hintDashes(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); len(args) > 0 && cmd.ArgsLenAtDash() < 0 && !strings.Contains(args[0], "://") {
			return noDashes(cmd, args)
		}
		return usage("%v", err)
	})
}

// noDashes is the error of a command to start, args, that is given without --.
func noDashes(cmd *cobra.Command, args []string) error {
	return usage("%s looks like a command to start: put -- before it, as in %s -- %s …", args[0], cmd.CommandPath(), shellQuote(args[0]))
}

// target reads URL or -- CMD from the arguments.
func (f *runFlags) target(cmd *cobra.Command, args []string, obs *conformance.Observations) (wire.Target, error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash == 0 && len(args) > 0:
		return wire.Command(args, nil, obs.Observe), nil
	case dash >= 0:
		return nil, usage("either a URL, or -- and a command")
	case len(args) > 1 && !strings.Contains(args[0], "://"):
		return nil, noDashes(cmd, args)
	case len(args) > 1:
		return nil, usage("unexpected argument %q after the URL", args[1])
	case len(args) == 0:
		return nil, usage("which server? give its URL, or -- and the command that starts it")
	}
	header := http.Header{}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usage("--header %q is not 'Name: value'", h)
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	t, err := wire.HTTP(args[0], header, obs.Observe)
	if err != nil {
		return nil, usage("%v; a command goes after --", err)
	}
	return t, nil
}

// selection turns the selecting flags into a predicate, and refuses names that
// select nothing.
func (f *runFlags) selection(all []conformance.Case, role conformance.Role) (func(*conformance.Case) bool, error) {
	matches := func(list []string, ok func(string) bool) bool {
		for _, s := range list {
			if ok(s) {
				return true
			}
		}
		return len(list) == 0
	}
	sel := func(c *conformance.Case) bool {
		return c.Role == role &&
			matches(f.cases, func(s string) bool { return s == c.ID }) &&
			matches(f.requirements, func(s string) bool { return strings.HasPrefix(c.Requirement.ID, s) }) &&
			matches(f.profiles, func(s string) bool { return s == string(c.Profile) })
	}
	check := func(flag string, list []string, ok func(*conformance.Case, string) bool) error {
	next:
		for _, s := range list {
			for i := range all {
				if ok(&all[i], s) {
					continue next
				}
			}
			return usage("--%s %s names nothing that tmcp-conform list shows", flag, s)
		}
		return nil
	}
	if err := errors.Join(
		check("case", f.cases, func(c *conformance.Case, s string) bool { return c.ID == s && c.Role == role }),
		check("requirement", f.requirements, func(c *conformance.Case, s string) bool { return strings.HasPrefix(c.Requirement.ID, s) }),
		check("profile", f.profiles, func(c *conformance.Case, s string) bool { return string(c.Profile) == s }),
	); err != nil {
		var e *exitError
		errors.As(err, &e)
		return nil, e
	}
	for i := range all {
		if sel(&all[i]) {
			return sel, nil
		}
	}
	return nil, usage("no case fits all of --case, --requirement and --profile")
}

func (f *runFlags) run(ctx context.Context, role conformance.Role, target wire.Target, obs *conformance.Observations) error {
	all := catalog.All()
	sel, err := f.selection(all, role)
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
	var survey *conformance.Survey
	if slices.Contains(f.profiles, string(conformance.ProfileAttestedTLS)) {
		if len(f.profiles) > 1 {
			return usage("--profile attested-tls goes alone: it lies below MCP")
		}
		survey = conformance.UnaskedSurvey()
	}
	if f.aicc() {
		survey = aicc.Survey()
	}
	progress, clear := f.progress()
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Survey: survey, Cases: all, Select: sel, Eras: eras, Seed: f.seed,
		StepTimeout: f.step, StartTimeout: f.start, CanaryTool: f.canary, Trust: f.trust.trust, Progress: progress,
		Starting: func(waited, limit time.Duration) {
			fmt.Fprintf(os.Stderr, "tmcp-conform: %s has not answered yet; waited %s of %s (--start-timeout)\n", target, waited.Round(time.Second), limit)
		},
	})
	clear()
	var missing *conformance.PrerequisiteError
	switch {
	case errors.As(err, &missing):
		return &exitError{exitUnreachable, missing.Reason}
	case err != nil:
		return &exitError{exitHarness, err.Error()}
	}
	if why := f.noTrust(rep); why != "" {
		return &exitError{exitUnreachable, why}
	}
	doc := report.NewDocument(rep, report.Options{Role: role, Baseline: base, Replay: f.replay(role)})
	return f.conclude(rep, doc, base)
}

// noTrust says why a profile that was asked for by name could not be tried at
// all: a target without it must not look conformant to it.
func (f *runFlags) noTrust(rep *conformance.Report) string {
	if rep.Interrupted != "" {
		return ""
	}
next:
	for _, p := range f.profiles {
		if p == string(conformance.ProfileCore) {
			continue
		}
		why := ""
		for _, r := range rep.Results {
			if string(r.Case.Profile) == p && r.Outcome != conformance.NotApplicable {
				continue next
			}
			if string(r.Case.Profile) == p && why == "" {
				why = r.Reason
			}
		}
		if p == string(conformance.ProfileIdentity) && len(rep.Results) > 0 && rep.Results[0].Case.Role == conformance.RoleServer {
			why = "it does not offer org.trustedmcp/trust in any era"
		}
		return fmt.Sprintf("profile %s: nothing of it could be tried on %s: %s", p, rep.Target, why)
	}
	return ""
}

// writable says before the run which report could not be written after it. It
// leaves what is there as it is.
func (f *runFlags) writable() error {
	for _, out := range []struct{ flag, file string }{{"json", f.jsonFile}, {"junit", f.junitFile}} {
		if out.file == "" || out.file == "-" {
			continue
		}
		if err := tryWrite(out.file); err != nil {
			return usage("--%s cannot be written: %v", out.flag, err)
		}
	}
	return nil
}

func tryWrite(file string) error {
	flags, created := os.O_WRONLY, false
	switch i, err := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist):
		flags, created = os.O_WRONLY|os.O_CREATE|os.O_EXCL, true
	case err != nil:
		return err
	case !i.Mode().IsRegular() && !i.IsDir():
		return nil // to open a pipe would wait for its reader
	}
	w, err := os.OpenFile(file, flags, 0o644)
	if created && errors.Is(err, fs.ErrExist) {
		return nil // another made it meanwhile, or a link points to what is to be made
	}
	if err != nil {
		return err
	}
	err = w.Close()
	if created {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// conclude writes the reports and turns the verdict into an exit code.
func (f *runFlags) conclude(rep *conformance.Report, doc *report.Document, base *report.Baseline) error {
	human := os.Stdout
	if f.jsonFile == "-" || f.junitFile == "-" {
		human = os.Stderr // stdout is for the data
	}
	for _, out := range []struct {
		file string
		make func() ([]byte, error)
	}{{f.jsonFile, doc.JSON}, {f.junitFile, doc.JUnit}} {
		if out.file == "" {
			continue
		}
		data, err := out.make()
		if err == nil && out.file == "-" {
			_, err = os.Stdout.Write(data)
		} else if err == nil {
			err = os.WriteFile(out.file, data, 0o644)
		}
		if err != nil {
			return &exitError{exitHarness, fmt.Sprintf("writing the report: %v", err)}
		}
	}
	if rep.Interrupted == "" || len(rep.Results) > 0 { // else the survey was interrupted: nothing is known
		doc.Console(human, f.verbose)
	}
	unexpected := 0
	for _, r := range rep.Results {
		if r.Outcome == conformance.Fail && !base.Expects(r) {
			unexpected++
		}
	}
	stale := base.Stale(rep)
	switch {
	case rep.Interrupted != "":
		return &exitError{exitInterrupted, "interrupted during " + rep.Interrupted}
	case rep.Count(conformance.HarnessError) > 0:
		return &exitError{exitHarness, "the suite is at fault in the cases marked HARNESS ERROR: please report them"}
	case unexpected > 0:
		return &exitError{exitFailures, fmt.Sprintf("not conformant: %d failures", unexpected)}
	case len(stale) > 0:
		return &exitError{exitStale, fmt.Sprintf("%s is stale: these no longer fail: %s", f.baseline, strings.Join(stale, ", "))}
	}
	return nil
}

// replay returns the command that replays one result alone.
func (f *runFlags) replay(role conformance.Role) func(*conformance.Result) string {
	var before, after []string
	args := os.Args[1:]
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			after = args[i:]
			break
		}
		name, _, hasValue := strings.Cut(args[i], "=")
		switch name {
		case "--case", "--requirement", "--profile", "--era", "--json", "--junit", "--baseline", "--seed":
			if !hasValue {
				i++
			}
		case "-v", "--verbose":
		default:
			before = append(before, args[i])
		}
	}
	return func(r *conformance.Result) string {
		words := append([]string{"tmcp-conform"}, before...)
		if f.aicc() { // which the case alone does not say
			words = append(words, "--profile", string(conformance.ProfileAICC))
		}
		words = append(words, "--case", r.Case.ID, "--era", string(r.Era), "--json", "-")
		words = append(words, after...)
		for i, w := range words {
			words[i] = shellQuote(w)
		}
		return strings.Join(words, " ")
	}
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@=,+%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// progress shows the case under way on a terminal, and nothing elsewhere.
func (f *runFlags) progress() (show func(conformance.Progress), clear func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) || os.Getenv("CI") != "" {
		return nil, func() {}
	}
	return func(p conformance.Progress) {
			if p.Result == nil {
				fmt.Fprintf(os.Stderr, "\r\x1b[K%d/%d %s", p.Done, p.Total, p.Case)
			}
		}, func() {
			fmt.Fprint(os.Stderr, "\r\x1b[K")
		}
}
