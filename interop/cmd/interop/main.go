// Command interop installs, starts and runs the MCP servers and clients of others
// that the tests use. Run `go run ./interop/cmd/interop list` first.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/trustedmcp/tmcp/interop"
)

const usage = `usage:
  interop list                            list the targets
  interop install [TARGET]...             install targets, or all
  interop start SERVER [ENDPOINT]         run a server until interrupted; prints its URL or command
  interop client CLIENT URL               run a client against a URL
  interop client CLIENT --stdio -- CMD... run a client against a command
  interop probe SERVER [ENDPOINT]         say what a server answers in each era
`

var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, errUsage) {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	cache, err := interop.CacheDir()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return errUsage
	}
	switch verb, args := args[0], args[1:]; {
	case verb == "list" && len(args) == 0:
		for _, t := range interop.Targets() {
			var at []string
			for _, e := range t.Endpoints {
				at = append(at, fmt.Sprintf("%s%v", e.Name, e.Eras))
			}
			fmt.Printf("%-18s %-6s %-10s %s %s: %s\n", t.Name, t.Kind, t.Language, t.Package, t.Version, strings.Join(at, " "))
		}
		return nil
	case verb == "install":
		targets := interop.Targets()
		if len(args) > 0 {
			targets = nil
		}
		for _, name := range args {
			t, err := interop.Lookup(name)
			if err != nil {
				return err
			}
			targets = append(targets, t)
		}
		return interop.InstallAll(ctx, cache, targets)
	case verb == "client" && len(args) >= 2:
		t, err := installed(ctx, cache, args[0])
		if err != nil {
			return err
		}
		server := &interop.Running{URL: args[1]}
		if args[1] == "--stdio" {
			if len(args) < 4 || args[2] != "--" {
				return errUsage
			}
			server = &interop.Running{Command: args[3:]}
		}
		res, err := t.RunClient(ctx, cache, server, interop.ClientOptions{
			Era: interop.Era(os.Getenv("TMCP_ERA")), Echo: os.Getenv("TMCP_ECHO"), Ask: os.Getenv("TMCP_ASK")})
		if err == nil {
			fmt.Printf("%+v\n", *res)
		}
		return err
	case (verb == "start" || verb == "probe") && (len(args) == 1 || len(args) == 2):
		t, err := installed(ctx, cache, args[0])
		if err != nil {
			return err
		}
		if len(t.Endpoints) == 0 || t.Kind != interop.Server {
			return fmt.Errorf("%s is no server", t.Name)
		}
		e := t.Endpoints[len(t.Endpoints)-1]
		if len(args) == 2 {
			if e, err = t.Endpoint(args[1]); err != nil {
				return err
			}
		}
		r, err := t.Start(ctx, cache, e)
		if err != nil {
			return err
		}
		defer r.Stop()
		if verb == "probe" {
			return probe(ctx, r)
		}
		if r.URL == "" {
			fmt.Println(strings.Join(r.Command, " "))
			return nil
		}
		fmt.Println(r.URL)
		<-ctx.Done()
		return r.Stop()
	}
	return errUsage
}

func installed(ctx context.Context, cache, name string) (*interop.Target, error) {
	t, err := interop.Lookup(name)
	if err != nil {
		return nil, err
	}
	return t, t.Install(ctx, cache)
}

func probe(ctx context.Context, r *interop.Running) error {
	for _, era := range []interop.Era{interop.Legacy, interop.Modern} {
		start := time.Now()
		obs, err := interop.Probe(ctx, r, era)
		took := time.Since(start).Round(time.Millisecond)
		switch {
		case errors.Is(err, interop.ErrEraRefused):
			fmt.Printf("%s: no: %v\n", era, err)
		case err != nil:
			return err
		default:
			fmt.Printf("%s: %s %s, %d tools, %v\n", era, obs.Revision, obs.Server, len(obs.Tools), took)
		}
	}
	return nil
}
