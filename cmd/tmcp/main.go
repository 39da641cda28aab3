// Command tmcp makes an unmodified MCP client or server trusted: tmcp serve
// stands in front of a server, tmcp connect beside a client, and between the
// two every message is sealed end to end. tmcp demo shows it in one process.
//
// Exit codes: 0 success, 1 the command found a failure, 2 wrong usage, 3 a peer
// or a prerequisite can't be reached, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
)

const (
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitInterrupted = 130
)

// An exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	runtime.MaybeChild()
	// What lives long here is small and what a call needs is garbage after it, so
	// the default would collect every few calls of 64 KiB. GOGC overrides it.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments. Data goes to stdout, words to
// people go to stderr.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	root := &cobra.Command{
		Use:           "tmcp",
		Short:         "Make an MCP client or server trusted",
		Long:          "tmcp seals every message between an MCP client and server, end to end, to the\nidentity that the client means. Neither side needs to be changed.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Example:       "  tmcp demo                        what it is for\n  tmcp keygen --out server.key     then: tmcp serve, and on the other side tmcp connect",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.AddCommand(subcommands()...)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "tmcp: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "tmcp: %s\n", plain(err.Error()))
	var e *exitError
	if errors.As(err, &e) {
		if e.code == exitUsage {
			fmt.Fprintf(stderr, "See: %s --help\n", cmd.CommandPath())
		}
		return e.code
	}
	if cmd == root { // cobra's own: an unknown command
		fmt.Fprintln(stderr, "See: tmcp --help")
		return exitUsage
	}
	return exitFailure
}

// plain replaces what would steer a terminal: errors quote what others say.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func subcommands() []*cobra.Command {
	return []*cobra.Command{keygenCommand(), inspectCommand(), serveCommand(), connectCommand(), demoCommand(),
		attestCommand(), evidenceCommand(), corimCommand(), measureCommand(), collateralCommand(), verifierCommand(),
		policyCommand(), sealCommand(), openCommand(), keyobjectCommand(), aiccCommand()}
}

// version is that of the module, or the revision that was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "(devel) " + s.Value
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, found %q", cmd.CommandPath(), args[0])
	}
	return nil
}
