// Command tmcp-conform tests implementations of MCP and of its trust extension.
//
//	tmcp-conform server URL              a server over Streamable HTTP
//	tmcp-conform server -- CMD [ARG…]    a server over stdio
//	tmcp-conform client -- CMD [ARG…]    a client
//	tmcp-conform verifier -- SHIM [ARG…] a verifier of key objects and evidence
//	tmcp-conform policy -- SHIM [ARG…]   a host of policies as WebAssembly
//	tmcp-conform relay --client CMD --server URL
//	tmcp-conform list | explain ID | self-test | diff A.json B.json
//
// Data goes to stdout, all else to stderr. Exit codes are in [exitcodes.go].
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(Main()) }

// Main runs the command and returns its exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { // a second Ctrl-C ends at once
		<-ctx.Done()
		stop()
	}()
	root := &cobra.Command{
		Use: "tmcp-conform", Short: "Test implementations of MCP and of its trust extension",
		Version:      version(debug.ReadBuildInfo()),
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%v", err) })
	root.AddCommand(serverCommand(), clientCommand(), verifierCommand(), policyCommand(), relayCommand(), listCommand(), explainCommand(), selfTestCommand(), diffCommand())
	root.SetVersionTemplate("tmcp-conform {{.Version}}\n")
	cmd, err := root.ExecuteContextC(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return exitConformant
	case errors.As(err, &exit):
		if exit.code == exitUsage {
			exit.msg += "; see " + cmd.CommandPath() + " --help"
		}
		if exit.msg != "" {
			fmt.Fprintln(os.Stderr, "tmcp-conform: "+exit.msg)
		}
		return exit.code
	}
	fmt.Fprintln(os.Stderr, "tmcp-conform: "+err.Error())
	return exitUsage
}

// version is that of the module, and the revision that was built.
func version(info *debug.BuildInfo, ok bool) string {
	v := "(devel)"
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v = info.Main.Version
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	if revision != "" {
		v += " (revision " + revision + modified + ")"
	}
	return v
}
