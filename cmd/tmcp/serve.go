package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

func serveCommand() *cobra.Command {
	cfg := gateway.ServeConfig{}
	var mode string
	var carriers []string
	var verbose bool
	var trust trustFlags
	var clientPins []string
	var clientCA, clientKeys string
	var aicc aiccFlags
	cmd := &cobra.Command{
		Use:   "serve [flags] (-- CMD… | --upstream URL)",
		Short: "Put trust in front of an MCP server",
		Long: `Serve an unmodified MCP server at /mcp, with every message sealed end to end to
its identity. The server is a command that speaks MCP over stdio, or a Streamable
HTTP endpoint.

Clients reach it with tmcp connect, or with any implementation of the extension
org.trustedmcp/trust. Clients without it are refused, and are told why, unless
--mode preferred lets them in unsealed.

With --profile attested it proves which code it is too, by the TEE that it runs in;
with --profile mutual its clients must do the same.

With --profile aicc-0.1 it speaks the deployed AICC Trusted MCP, which is weaker;
--also aicc-0.1 lets such clients in beside others.`,
		Example: `  tmcp keygen --out server.key
  tmcp serve --listen 127.0.0.1:8443 --identity-key server.key -- npx -y @modelcontextprotocol/server-everything
  tmcp serve --listen :8443 --identity https://mcp.example.com/mcp --identity-key server.key --upstream http://127.0.0.1:8080/mcp
  tmcp serve --profile attested --identity-key server.key -- npx -y @modelcontextprotocol/server-everything
  tmcp serve --profile mutual --tee sim --client-pin THUMBPRINT --identity-key server.key -- npx -y @modelcontextprotocol/server-everything`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 0 && len(args) > 0 {
				return usagef("found %q; write the server's command after --, as in: tmcp serve -- CMD…", args[0])
			}
			if (len(args) == 0) == (cfg.Upstream == "") {
				return usagef("give either a command after --, or --upstream URL")
			}
			if cfg.MaxMessage <= 0 {
				return usagef("--max-message %d: want a number of bytes above 0", cfg.MaxMessage)
			}
			if cfg.Validity < 2*time.Second || cfg.Validity > time.Hour {
				return usagef("--validity %v: want 2s to 1h", cfg.Validity)
			}
			if err := aicc.check(cmd, &trust, mode, "identity", "identity-key", "certificate", "validity", "carriers", "pad", "client-pin", "client-ca", "client-keys"); err != nil || aicc.alone(&trust) {
				return err
			}
			if trust.is(protocol.ProfileMutual) && len(clientPins)+len(clientCA) == 0 {
				return usagef("--profile mutual: say who may call with --client-pin THUMBPRINT (tmcp connect prints it) or --client-ca FILE")
			}
			if clientKeys != string(protocol.ClientKeyDemanded) && clientKeys != string(protocol.ClientKeyAccepted) {
				return usagef("--client-keys %q: want required or accepted", clientKeys)
			}
			known := len(clientPins)+len(clientCA) > 0
			if cmd.Flags().Changed("client-keys") {
				switch {
				case !known:
					return usagef("--client-keys: say whose with --client-pin THUMBPRINT or --client-ca FILE")
				case !trust.is(protocol.ProfileIdentity) && !trust.is(protocol.ProfileAttested):
					return usagef("--client-keys: --profile %s demands them", trust.profile)
				}
			}
			own, other := "", ""
			switch {
			case trust.is(protocol.ProfileIdentity):
				own, other = "say --profile attested", "say --profile mutual to judge clients' evidence"
			case trust.is(protocol.ProfileAttested):
				other = "say --profile mutual to judge clients' evidence"
			case trust.is(protocol.ProfileAttestedTLS) && !known:
				other = "say whose evidence is judged with --client-pin THUMBPRINT or --client-ca FILE"
			}
			return trust.check(cmd, own, other)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			cfg.Command = args
			if cfg.Offer, err = offer(mode, carriers, false); err != nil {
				return err
			}
			cfg.Logger = logger(cmd.ErrOrStderr(), verbose)
			judges := trust.is(protocol.ProfileMutual) || trust.is(protocol.ProfileAttestedTLS) && len(clientPins)+len(clientCA) > 0
			instead := "say --profile mutual"
			if trust.is(protocol.ProfileAttestedTLS) {
				instead = "say whose is judged with --client-pin THUMBPRINT or --client-ca FILE"
			}
			ask, done, err := trust.load(cmd, judges, instead, cfg.Logger)
			if err != nil {
				return err
			}
			defer done()
			cfg.Authorize = ask
			if ask != nil && trust.is(protocol.ProfileAttestedTLS) && trust.tlsMode == string(attestedtls.ModeCertificate) {
				return usagef("--policy %s is about calls, which can't be authorized with --tls-mode certificate: evidence is of a certificate then, and not of the connection that a call comes over; use the mode exporter", strings.Join(trust.policy.Names, ", "))
			}
			if aicc.used(&trust) {
				if err := aicc.server(&cfg, &trust, cmd.ErrOrStderr()); err != nil {
					return err
				}
				if !cmd.Flags().Changed("max-message") {
					cfg.MaxMessage = aiccMessage
				}
			}
			if !trust.is(protocol.ProfileIdentity) && !aicc.alone(&trust) {
				if cfg.Attestation, err = trust.attestation(cmd, cfg.ConfigDigest()); err != nil {
					return err
				}
			}
			if trust.is(protocol.ProfileAttestedTLS) {
				if cfg.TLS, err = tlsPeer(trust.tls(), clientPins, clientCA, false); err != nil {
					return err
				}
				if len(clientPins)+len(clientCA) > 0 {
					if cfg.TLS.Clients, _, err = trust.appraiser(cmd); err != nil {
						return err
					}
				}
			} else if len(clientPins)+len(clientCA) > 0 {
				if err := clients(cmd, &cfg, &trust, clientPins, clientCA, clientKeys); err != nil {
					return err
				}
			}
			cfg.Stderr = cmd.ErrOrStderr()
			err = gateway.Serve(cmd.Context(), cfg, func(s gateway.Serving) {
				w := cmd.ErrOrStderr()
				if s.Identity == nil {
					fmt.Fprintf(w, "tmcp serve: %s\n  connect with: tmcp connect %s --profile %s --aicc-public-key FILE\n", s.URL, s.URL, trust.profile)
					sayPolicy(w, "  ", trust.loaded)
					return
				}
				fmt.Fprintf(w, "tmcp serve: %s, identity %s\n", s.URL, s.Identity.URI())
				if s.Ephemeral {
					fmt.Fprintln(w, "  the identity key is new and lost when this ends; keep one with tmcp keygen and --identity-key")
				}
				identity := ""
				if s.Identity.URI() != s.URL {
					identity = " --identity " + s.Identity.URI()
				}
				fmt.Fprintf(w, "  connect with: tmcp connect %s%s --pin %s%s\n", s.URL, identity, s.Identity.Thumbprint(), trust.hint(cfg.ClientKeys == protocol.ClientKeyDemanded || cfg.TLS != nil && cfg.TLS.Clients != nil))
				sayPolicy(w, "  ", trust.loaded)
				if cfg.Attestation != nil && trust.tlsMode != string(attestedtls.ModeCertificate) {
					fmt.Fprintf(w, "  evidence binds the configuration %x\n", cfg.Attestation.Config)
				}
			})
			var e *protocol.Error
			if errors.Is(err, exec.ErrNotFound) || errors.As(err, &e) && e.Reason == protocol.CannotAttest {
				return &exitError{exitUnreachable, err}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8443", "HOST:PORT to listen on; port 0 picks one")
	f.StringVar(&cfg.Upstream, "upstream", "", "URL of the MCP server, in place of a command")
	f.StringVar(&cfg.Identity, "identity", "", "URI that clients dial or expect (default: the address listened on)")
	f.StringVar(&cfg.IdentityKey, "identity-key", "", "file with the identity's private key, from tmcp keygen (default: a new one)")
	f.StringVar(&cfg.Certificate, "certificate", "", "file with the key's certificate chain, leaf first (default: clients pin the key)")
	f.DurationVar(&cfg.Validity, "validity", 10*time.Minute, "how long a key object is valid; HPKE keys are renewed at half of it")
	f.StringVar(&mode, "mode", string(protocol.ModeRequired), "required, or preferred: let clients without trust in, unsealed")
	f.StringSliceVar(&carriers, "carriers", nil, "carriers to accept: envelope, inline, http (default all)")
	f.BoolVar(&cfg.Pad, "pad", false, "pad answers, so that their length tells less")
	f.BoolVar(&cfg.RewriteHost, "rewrite-host", false, "send the upstream's own host name to it")
	f.IntVar(&cfg.MaxMessage, "max-message", 4<<20, "largest message, in bytes (aicc-0.1: default 16 MiB)")
	f.StringSliceVar(&cfg.AllowHosts, "allow-host", nil, "further Host names to admit")
	f.StringSliceVar(&cfg.AllowOrigins, "allow-origin", nil, "Origins of web pages to admit")
	trust.add(cmd, "client")
	f.StringArrayVar(&clientPins, "client-pin", nil, "thumbprint of a client's identity key that may call; may be repeated")
	f.StringVar(&clientCA, "client-ca", "", "file with roots (PEM) for certificates of clients that may call")
	f.StringVar(&clientKeys, "client-keys", "required", "required, or accepted: clients that show no key object are let in too, as nobody")
	aicc.addServe(cmd)
	f.BoolVarP(&verbose, "verbose", "v", false, "log each refusal")
	return cmd
}

// clients says which clients' key objects are good.
func clients(cmd *cobra.Command, cfg *gateway.ServeConfig, trust *trustFlags, pins []string, ca, keys string) error {
	who, err := anchor(pins, ca, false)
	if err != nil {
		return err
	}
	cfg.ClientKeys = protocol.ClientKey(keys)
	cfg.Clients = &protocol.ClientPolicy{Anchor: who, MaxEvidenceAge: trust.maxAge}
	if !trust.is(protocol.ProfileMutual) {
		return nil
	}
	cfg.Clients.Profile = protocol.ProfileAttested
	cfg.Clients.Appraiser, cfg.Demands, err = trust.appraiser(cmd)
	return err
}

// offer makes what is announced of flags.
func offer(mode string, carriers []string, client bool) (protocol.Offer, error) {
	o := protocol.Offer{Mode: protocol.Mode(mode)}
	if o.Mode != protocol.ModeRequired && o.Mode != protocol.ModePreferred {
		return o, usagef("--mode %q: want required or preferred", mode)
	}
	for _, name := range carriers {
		c, err := parseCarrier(name)
		if err != nil {
			return o, err
		}
		o.Carriers = append(o.Carriers, c)
	}
	if !client {
		o.ClientKey = protocol.ClientKeyNone
	}
	return o, nil
}

func parseCarrier(name string) (protocol.Carrier, error) {
	for _, c := range []protocol.Carrier{protocol.Envelope, protocol.Inline, protocol.HTTP} {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, usagef("carrier %q: want envelope, inline or http", name)
}

func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
