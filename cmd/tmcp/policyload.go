package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/policy/dist"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
)

// policyLoader loads policies with memory that is mapped, a cache in the user's own
// folder where there is one that is safe, and a child process for strangers'
// modules.
func policyLoader(warn func(error)) runtime.Loader {
	l := runtime.Loader{Memory: runtime.NewMemory(0), Child: &runtime.Child{}, Warn: warn}
	dir, err := os.UserCacheDir()
	if err != nil {
		return l // as for a user without a home
	}
	dir = filepath.Join(dir, "tmcp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return l
	}
	if l.Cache, err = runtime.OpenCache(filepath.Join(dir, "policies")); err != nil {
		l.Cache = nil
		warn(err)
	}
	return l
}

// loadPolicies loads what flags name; nil where they name nothing.
func loadPolicies(ctx context.Context, o *policy.Options, stdin io.Reader, log *slog.Logger) (*policy.Live, error) {
	if !o.Given() {
		return nil, nil
	}
	o.Stdin, o.Loader = stdin, policyLoader(func(err error) { log.Warn("policies are compiled anew each time", "why", err) })
	p, err := policy.NewLive(ctx, *o)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) || errors.Is(err, dist.ErrTimeout) {
			return nil, &exitError{exitUnreachable, err}
		}
		return nil, &exitError{exitUsage, err}
	}
	return p, nil
}

// sayPolicy tells by which digest logs, refusals and attestation results will name
// what decides.
func sayPolicy(w io.Writer, start string, p *policy.Live) {
	if p == nil {
		return
	}
	fmt.Fprintf(w, "%spolicy %s, digest %x; SIGHUP has it read again\n", start, printable(p.Name()), p.Digest())
}

// reloading loads policies anew at each SIGHUP until the function that it returns
// is called, and then closes them. Those that can't be loaded change nothing.
func reloading(ctx context.Context, p *policy.Live, log *slog.Logger) (done func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-hup:
				was := p.Digest()
				switch digest, err := p.Reload(ctx); {
				case err != nil:
					log.Error("policies were not loaded anew: those from before go on", "why", err)
				default:
					log.Warn("policies were loaded anew", "name", p.Name(), "digest", hex.EncodeToString(digest[:]), "before", hex.EncodeToString(was[:]))
				}
			}
		}
	}()
	return func() {
		signal.Stop(hup)
		close(stop)
		<-ended
		_ = p.Close(context.WithoutCancel(ctx))
	}
}
