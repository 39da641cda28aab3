package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write, build, test and sign policies that are WebAssembly modules",
		Long: `A policy decides whether a peer may be trusted, and what it may call. It is a
WebAssembly module, written in any language that compiles to one; these commands
take its author from nothing to a module that is tested and signed.`,
		Example: `  tmcp policy new --lang c my-policy
  cd my-policy
  tmcp policy build
  tmcp policy test`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(policyListCommand(), policyNewCommand(), policyBuildCommand(), policyTestCommand(), policyRunCommand(), policySampleCommand(),
		policyInspectCommand(), policyBenchCommand(), policyFuzzCommand())
	cmd.AddCommand(policyDistCommands()...)
	return cmd
}

// keptLog is how many bytes of a policy's log its author sees.
const keptLog = 64 << 10

// authorCaps are what a host gives by default, and a log.
func authorCaps(e policywasm.Engine) policywasm.Caps {
	c := policy.Caps()
	c.Engine, c.Log = e, keptLog
	return c
}

// engines are those of this machine, the faster one first.
func engines() []policywasm.Engine {
	if compiles() {
		return []policywasm.Engine{policywasm.Compiler, policywasm.Interpreter}
	}
	return []policywasm.Engine{policywasm.Interpreter}
}

// everywhere are caps for all engines.
func everywhere() (all []policywasm.Caps) {
	for _, e := range engines() {
		all = append(all, authorCaps(e))
	}
	return all
}

// sayTo returns what says lines to people, about what happens.
func sayTo(cmd *cobra.Command) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", printable(fmt.Sprintf(format, args...)))
	}
}

// atMost is Args for up to n arguments.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s takes %s, found %d arguments", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

// folder is the first argument, or the current folder.
func folder(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return "."
}

// openProject opens a folder of a project.
func openProject(dir string) (*build.Project, error) {
	p, err := build.Open(dir)
	if err == nil {
		return p, nil
	}
	if errors.Is(err, build.ErrNoProject) {
		return nil, &exitError{exitUsage, fmt.Errorf("%s: %w", dir, err)}
	}
	return nil, fmt.Errorf("%s: %w", dir, err)
}

// readModule reads a module, or the module of a project's folder.
func readModule(cmd *cobra.Command, name string) (module []byte, path string, err error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, build.ModuleFile)
		if _, err := os.Stat(name); err != nil {
			return nil, "", &exitError{exitUsage, fmt.Errorf("%w: make it with: tmcp policy build", err)}
		}
	}
	b, err := evidencefile.Read(name, cmd.InOrStdin())
	if err == nil && signed.IsBundle(b) {
		return nil, "", &exitError{exitUsage, fmt.Errorf("%s is a bundle of policies, and a module is wanted: take one out with: tar xf %[1]s", name)}
	}
	return b, name, fileError(err)
}

// loadModule loads a module for its author, under each of caps. close frees them.
func loadModule(cmd *cobra.Command, module []byte, in ...policywasm.Caps) (all []policywasm.Evaluator, close func(), err error) {
	ctx := context.WithoutCancel(cmd.Context())
	memory := runtime.NewMemory(0)
	close = func() {
		for _, p := range all {
			_ = p.Close(ctx)
		}
		_ = memory.Close()
	}
	for _, caps := range in {
		caps.Memory = memory
		p, err := build.Load(cmd.Context(), module, caps)
		if err != nil {
			close()
			return nil, nil, refused(err)
		}
		all = append(all, p)
	}
	return all, close, nil
}

// refused says what a host has against a module, and what helps.
func refused(err error) error {
	var f *policywasm.Failure
	if errors.As(err, &f) {
		return escaped(&build.RefusedError{Failure: f})
	}
	return err
}

// escaped keeps what others wrote into an error from steering the terminal, but
// for the ends of lines.
func escaped(err error) error {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return &shown{strings.Join(lines, "\n"), err}
}

// shown is an error with another text.
type shown struct {
	text string
	err  error
}

func (e *shown) Error() string { return e.text }
func (e *shown) Unwrap() error { return e.err }

// readDocument finds a document: a sample's name, or a file.
func readDocument(cmd *cobra.Command, name string) (*document.Document, error) {
	b, ok := document.Sample(name)
	if !ok {
		var err error
		if b, err = evidencefile.Read(name, cmd.InOrStdin()); err != nil {
			return nil, fileError(fmt.Errorf("%w; samples are %s", err, strings.Join(document.Samples(), ", ")))
		}
	}
	d, err := document.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// samples finds base documents of tests: samples by name, and files beside the
// tests. What a test names may come from a stranger: it is read as a document
// and nothing else.
func samples(dir string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if b, ok := document.Sample(name); ok {
			return b, nil
		}
		if filepath.Ext(name) != ".json" {
			return nil, fmt.Errorf("there is no sample %q; there are %s, and files that end in .json", name, strings.Join(document.Samples(), ", "))
		}
		return evidencefile.Read(filepath.Join(dir, filepath.FromSlash(name)), nil)
	}
}

// printPolicy prints JSON with texts that a policy wrote: what could steer a
// terminal is escaped. Such characters stand in texts only.
func printPolicy(w io.Writer, v any) error {
	b, err := json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	_, err = fmt.Fprintf(w, "%s\n", out.String())
	return err
}
