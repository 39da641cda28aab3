// The gen command compiles the policies of package policies with the pinned
// compiler, which it installs into the cache folder of package interop:
//
//	go run ./policy-wasm/policies/gen
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

func main() {
	out := flag.String("o", "", "folder for the modules (default: that of the sources)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string) error {
	dir, err := folder()
	if err != nil {
		return err
	}
	if out == "" {
		out = dir
	}
	cache, err := interop.CacheDir()
	if err != nil {
		return err
	}
	asc, err := interop.AssemblyScript(ctx, cache)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "tmcp-policies-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, name := range policies.Names() {
		raw := filepath.Join(tmp, name)
		args := append(asc[1:len(asc):len(asc)], "policies/src/"+name+".ts", "--runtime", "stub", "-O3", "--use", "abort=", "-o", raw)
		cmd := exec.CommandContext(ctx, asc[0], args...)
		cmd.Dir = filepath.Dir(dir) // which holds the SDK too
		if text, err := cmd.CombinedOutput(); err != nil || len(text) > 0 {
			return fmt.Errorf("%s.ts: %w\n%s", name, err, text)
		}
		module, err := os.ReadFile(raw)
		if err != nil {
			return err
		}
		p, _ := policies.Describe(name)
		module = append(module, corpus.Custom(scan.Metadata, p.Metadata().Append(nil))...)
		if err := os.WriteFile(filepath.Join(out, name+".wasm"), module, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// folder finds package policies from the current folder.
func folder() (string, error) {
	for _, dir := range []string{".", "policy-wasm/policies"} {
		if _, err := os.Stat(filepath.Join(dir, "src", "strict.ts")); err == nil {
			return filepath.Abs(dir)
		}
	}
	return "", errors.New("run it in the module's root, or in policy-wasm/policies")
}
