package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/report"
)

func relayCommand() *cobra.Command {
	var f runFlags
	var client, server string
	cmd := &cobra.Command{
		Use:   "relay --client 'CMD' --server URL",
		Short: "Test a client and a server together, by a hostile relay between them",
		Long: "Stands between a client and a real server, and attacks what passes. The client's\n" +
			"command is run by sh once for each case, with the relay's URL appended (or in the\n" +
			"place of {url}); it must already know whom to trust.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if client == "" || server == "" {
				return usage("both --client and --server are needed")
			}
			u, err := url.Parse(server)
			if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
				return usage("--server %q is not an http or https URL", server)
			}
			if err := reachable(cmd.Context(), u); err != nil {
				return &exitError{exitUnreachable, fmt.Sprintf("cannot reach %s: %v", server, err)}
			}
			if !strings.Contains(client, "{url}") {
				client += " {url}"
			}
			proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
				to := *u
				r.Out.URL, r.Out.Host = &to, ""
			}}
			return f.runSubject(cmd.Context(), conformance.RoleRelay, conformance.CommandSubject([]string{"sh", "-c", client}), proxy)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&client, "client", "", "command of the client, for sh")
	cmd.Flags().StringVar(&server, "server", "", "URL of the server")
	return cmd
}

func reachable(ctx context.Context, u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err == nil {
		_ = c.Close()
	}
	return err
}

// runSubject is run for a role whose subject is a client.
func (f *runFlags) runSubject(ctx context.Context, role conformance.Role, subject conformance.Subject, upstream http.Handler) error {
	all := catalog.All()
	sel, err := f.selection(all, role)
	if err != nil {
		return err
	}
	if f.step <= 0 {
		return usage("--timeout is a duration above zero")
	}
	var base *report.Baseline
	if f.baseline != "" {
		if base, err = report.ReadBaseline(f.baseline, all); err != nil {
			return usage("%v", err)
		}
	}
	var survey *conformance.Survey
	if role == conformance.RoleClient { // of a profile that goes alone
		survey = aicc.Survey()
	}
	progress, clear := f.progress()
	rep, err := conformance.RunClient(ctx, conformance.Config{
		Subject: subject, Upstream: upstream, Survey: survey, Cases: all, Select: sel, Seed: f.seed, StepTimeout: f.step, Progress: progress,
	})
	clear()
	var missing *conformance.PrerequisiteError
	switch {
	case errors.As(err, &missing):
		return &exitError{exitUnreachable, missing.Reason}
	case err != nil:
		return &exitError{exitHarness, err.Error()}
	}
	return f.conclude(rep, report.NewDocument(rep, report.Options{Role: role, Baseline: base, Replay: f.replay(role)}), base)
}
