package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/aicc"
	"github.com/trustedmcp/tmcp/gateway/aicc/standin"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

func aiccCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aicc",
		Short: "Tools for profile aicc-0.1",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(aiccAttestCommand(), aiccStandInCommand())
	return cmd
}

func aiccAttestCommand() *cobra.Command {
	var tokenKeys, out string
	var o aicc.Options
	cmd := &cobra.Command{
		Use:   "attest CONFIG --token-keys FILE [flags]",
		Short: "Ask for a server's key, and verify the answer",
		Long: `Read a client_config.json of the AICC package, ask the attestation service that
it names for the server's key, and verify the answer as tmcp connect does: the
token's signature by a pinned key, and that nonce and key are those of the report
data. Prints what is known of the key.`,
		Example: "  tmcp aicc attest client_config.json --token-keys service.jwks --out myPublicKey.pem",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one client_config.json")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := aicc.LoadClientConfig(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			warn(cmd.ErrOrStderr(), "tmcp aicc attest", cfg.Warnings)
			if tokenKeys != "" {
				if o.TokenKeys, err = aicc.LoadTokenKeys(tokenKeys); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--token-keys: %w", err)}
				}
			}
			keys, err := aicc.NewClientKeys(*cfg, o)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			key, info, err := keys.Key(cmd.Context())
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s\n  key       %s (SHA-256), RSA of %d bits\n", info.Label(), info.Thumbprint, key.N.BitLen())
			if len(info.Nodes) > 0 {
				fmt.Fprintf(w, "  nodes     %q\n  policies  %q\n", info.Nodes, info.Policies)
			}
			if out == "" {
				return nil
			}
			return keyfile.SavePublic(out, key)
		},
	}
	f := cmd.Flags()
	f.StringVar(&tokenKeys, "token-keys", "", "file with the keys (JWKS or PEM) of the attestation service's tokens; one that a token carries proves nothing")
	f.StringVar(&out, "out", "", "new file for the server's public key")
	f.BoolVar(&o.AllowSimulated, "simulator", false, "accept what a stand-in says of simulated TEEs: for development")
	f.BoolVar(&o.Unattested, "unattested", false, "show a key whose attestation failed, and why")
	return cmd
}

func aiccStandInCommand() *cobra.Command {
	var listen, key, publicOut, fault string
	var services, policies []string
	var verbose bool
	cfg := standin.Config{Services: map[string]standin.Service{}, Policies: map[string]standin.Policy{}}
	cmd := &cobra.Command{
		Use:    "stand-in --service NAME=FILE [flags]",
		Short:  "Stand in for the attestation service, on this machine (proves nothing)",
		Hidden: true, // for development: nobody should come to rely on it
		Long: `Answer in place of AICC's attestation service: for each service by name the
public key in its file, with simulated TDX evidence and a token about it. It
vouches for whatever it is told, so that it proves nothing. Files are read at
each question.

In a client_config.json: "ra_url" is its address, "ra_service_name" the NAME, and
"bytedance_top_info" any "ak", "sk" and "service". Clients of tmcp take its
answers with --simulator and the keys that --public writes.`,
		Example: "  tmcp aicc stand-in --service weather=myPublicKey.pem --public token-key.pem",
		Args: func(cmd *cobra.Command, args []string) error {
			host, _, err := net.SplitHostPort(listen)
			if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return usagef("--listen %s: want an address of this machine, as 127.0.0.1:8089", listen)
			}
			if len(services) == 0 {
				return usagef("name at least one service: --service NAME=FILE")
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Logger, cfg.Fault = logger(cmd.ErrOrStderr(), verbose), standin.Fault(fault)
			for _, s := range services {
				name, file, ok := strings.Cut(s, "=")
				if !ok || name == "" || file == "" {
					return usagef("--service %s: want NAME=FILE", s)
				}
				cfg.Services[name] = standin.Service{Public: func(context.Context) (*rsa.PublicKey, error) { return readPublic(file) }}
				if _, err := readPublic(file); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--service %s: %w", s, err)}
				}
			}
			for _, id := range policies {
				cfg.Policies[id] = standin.Policy{}
			}
			var err error
			if cfg.Key, err = standInKey(key); err != nil {
				return &exitError{exitUsage, err}
			}
			s, err := standin.New(cfg)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if publicOut != "" {
				if err := keyfile.SavePublic(publicOut, s.Public()); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return &exitError{exitUnreachable, fmt.Errorf("--listen %s: %w", listen, err)}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "tmcp aicc stand-in: http://%s: PROVES NOTHING: simulated TEEs, and it vouches for whatever it is told\n  tokens are signed with the key %s\n", l.Addr(), wire.Thumbprint(s.Public()))
			return serveUntil(cmd.Context(), l, s, cfg.Logger)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8089", "HOST:PORT to listen on; port 0 picks one")
	f.StringArrayVar(&services, "service", nil, "NAME=FILE: a service, and the file with its RSA public key (PEM); may be repeated")
	f.StringArrayVar(&policies, "policy", []string{"default"}, "id of a policy, which every service meets; may be repeated")
	f.StringVar(&key, "key", "", "file with the RSA private key (PEM) that signs tokens (default: a new one)")
	f.StringVar(&publicOut, "public", "", "new file for the public key of the tokens, to pin")
	f.BoolVar(&cfg.Merkle, "merkle", false, "put the report data into a Merkle tree, with a proof in the evidence")
	f.BoolVar(&cfg.EmbedKey, "embed-key", false, "have tokens carry the key that they are signed with (jwk)")
	f.DurationVar(&cfg.Lifetime, "lifetime", standin.DefaultLifetime, "of tokens")
	f.StringVar(&fault, "fault", "", fmt.Sprintf("answer wrongly in one way, to see what a client does: one of %v", standin.Faults()))
	f.BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

func standInKey(path string) (*rsa.PrivateKey, error) {
	if path == "" {
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := wire.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func readPublic(path string) (*rsa.PublicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, err
	}
	return wire.ParsePublicKey(b)
}

// serveUntil serves h until ctx ends.
func serveUntil(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
