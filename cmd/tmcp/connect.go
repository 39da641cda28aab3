package main

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

func connectCommand() *cobra.Command {
	cfg := gateway.ConnectConfig{Header: http.Header{}}
	var pins, headers []string
	var ca, listen, mode, carrier, era string
	var stdio, systemCA, verbose bool
	var trust trustFlags
	var selfKey, selfName, selfCert string
	var aicc aiccFlags
	cmd := &cobra.Command{
		Use:   "connect [flags] URL",
		Short: "Put trust beside an MCP client",
		Long: `Connect an unmodified MCP client to a trusted server. The client speaks plain
MCP to this command on this machine, over HTTP at /mcp or, with --stdio, over
stdin and stdout; from here to the server every message is sealed.

The server must prove that it is --identity (default: URL) with a key that is
pinned (--pin) or certified (--ca, --system-ca). If it can't, or if anything on
the path alters the exchange, the client gets an error that names the reason, and
nothing of its calls leaves this machine in the clear.

With --profile attested the server must prove which code it is too. Say which is
accepted by reference values (--corim), a policy (--policy) or a verifier.

With --profile aicc-0.1 it speaks to servers of the deployed AICC Trusted MCP, which
is weaker; --or aicc-0.1 does so where a server does not offer anything else.`,
		Example: `  tmcp connect https://mcp.example.com/mcp --pin THUMBPRINT
  tmcp connect --stdio https://mcp.example.com/mcp --pin THUMBPRINT     # as the command in a client's config
  tmcp connect https://mcp.example.com/mcp --pin THUMBPRINT --profile attested --collateral collateral.json --corim app.corim --corim-key release.pub
  tmcp connect http://127.0.0.1:8443/mcp --pin THUMBPRINT --profile attested --simulator`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("tmcp connect takes one URL, found %d arguments", len(args))
			}
			if u, err := url.Parse(args[0]); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
				return usagef("%q is not an http or https URL", args[0])
			}
			if cfg.MaxMessage <= 0 {
				return usagef("--max-message %d: want a number of bytes above 0", cfg.MaxMessage)
			}
			if err := aicc.check(cmd, &trust, mode, "pin", "ca", "system-ca", "identity", "carrier", "outer-era", "fresh", "fresh-evidence", "client-key", "client-identity", "client-certificate", "pad"); err != nil || aicc.alone(&trust) {
				return err
			}
			if len(pins) == 0 && ca == "" && !systemCA {
				return usagef("say who may speak for the server: --pin THUMBPRINT (tmcp serve prints it), --ca FILE or --system-ca")
			}
			if trust.is(protocol.ProfileMutual) && selfKey == "" || selfKey == "" && selfCert != "" {
				return usagef("name the client's own key with --client-key FILE (make one with tmcp keygen) and its name with --client-identity URI")
			}
			attested := !trust.is(protocol.ProfileIdentity)
			if attested && mode == string(protocol.ModePreferred) {
				return usagef("--mode preferred: --profile %s demands what that would do without", trust.profile)
			}
			if cfg.FreshEvidence && (!attested || trust.is(protocol.ProfileAttestedTLS)) {
				return usagef("--fresh-evidence comes to nothing with --profile %s: say --profile attested or mutual", trust.profile)
			}
			if trust.is(protocol.ProfileAttestedTLS) && !strings.HasPrefix(args[0], "https://") {
				return usagef("%q: attested TLS needs an https URL", args[0])
			}
			own, other := "", ""
			if !attested {
				other = "say --profile attested to judge the server's evidence"
			}
			if !trust.is(protocol.ProfileMutual) && (selfKey == "" || !trust.is(protocol.ProfileAttestedTLS)) {
				own = "say --profile mutual to show this client's evidence"
			}
			return trust.check(cmd, own, other)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			cfg.URL = args[0]
			if cfg.Carrier, err = parseCarrier(carrier); err != nil {
				return err
			}
			if cfg.Offer, err = offer(mode, nil, true); err != nil {
				return err
			}
			if cfg.Anchor, err = anchor(pins, ca, systemCA); err != nil {
				return err
			}
			cfg.Profile, cfg.MaxEvidenceAge = protocol.Profile(trust.profile), trust.maxAge
			cfg.Logger = logger(cmd.ErrOrStderr(), verbose)
			ask, done, err := trust.load(cmd, !trust.is(protocol.ProfileIdentity) && !aicc.alone(&trust), "say --profile attested", cfg.Logger)
			if err != nil {
				return err
			}
			defer done()
			cfg.Authorize = ask
			if ask != nil && trust.is(protocol.ProfileAttestedTLS) {
				return usagef("--policy %s is about calls, which can't be authorized before they go out with --profile attested-tls: the server attests itself when the connection opens; use a profile that seals", strings.Join(trust.policy.Names, ", "))
			}
			if aicc.used(&trust) {
				if err := aicc.client(cmd.Context(), &cfg, &trust, cmd.ErrOrStderr()); err != nil {
					return err
				}
				if !cmd.Flags().Changed("max-message") {
					cfg.MaxMessage = aiccMessage
				}
			}
			if !trust.is(protocol.ProfileIdentity) && !aicc.alone(&trust) {
				if cfg.Appraiser, cfg.Demands, err = trust.appraiser(cmd); err != nil {
					return err
				}
			}
			if selfKey != "" {
				if cfg.Self, _, err = keyfile.LoadIdentity(selfName, selfKey, selfCert); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "tmcp connect: this client is %s, key %s\n", cfg.Self.URI(), cfg.Self.Thumbprint())
			}
			if trust.is(protocol.ProfileAttestedTLS) {
				if cfg.TLS, err = tlsPeer(trust.tls(), pins, ca, systemCA); err != nil {
					return err
				}
			}
			if trust.is(protocol.ProfileMutual) || trust.is(protocol.ProfileAttestedTLS) && selfKey != "" {
				if cfg.Attestation, err = trust.attestation(cmd, nil); err != nil {
					return err
				}
			}
			if cfg.OuterEra = transport.Era(era); cfg.OuterEra != transport.Modern && cfg.OuterEra != transport.Legacy {
				return usagef("--outer-era %q: want modern or legacy", era)
			}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok || strings.TrimSpace(name) == "" {
					return usagef(`--header %q: want "Name: value"`, h)
				}
				cfg.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			sayPolicy(cmd.ErrOrStderr(), "tmcp connect: ", trust.loaded)
			if stdio {
				return gateway.ConnectStdio(cmd.Context(), cfg, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			return gateway.Connect(cmd.Context(), cfg, listen, func(url string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "tmcp connect: point the client at %s\n", url)
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&pins, "pin", nil, "thumbprint of a key that may speak for the server; may be repeated")
	f.StringVar(&ca, "ca", "", "file with certificates (PEM) that the server's must lead to")
	f.BoolVar(&systemCA, "system-ca", false, "accept certificates that lead to this machine's roots")
	f.StringVar(&cfg.Identity, "identity", "", "URI that the server must prove to be (default: URL)")
	f.BoolVar(&stdio, "stdio", false, "speak MCP's stdio transport to the client")
	f.StringVar(&listen, "listen", "127.0.0.1:8081", "HOST:PORT for the client; port 0 picks one")
	f.StringVar(&mode, "mode", string(protocol.ModeRequired), "required, or preferred: talk to servers without trust too, and label what they say")
	f.StringVar(&carrier, "carrier", "envelope", "envelope; inline, through gateways that end MCP; http, transparent to HTTP too")
	f.StringVar(&era, "outer-era", string(transport.Modern), "era of the leg to the next hop: modern, or legacy for gateways that know only initialize")
	f.BoolVar(&cfg.Fresh, "fresh", false, "have the server sign a nonce of ours, in place of an object that may be minutes old")
	trust.add(cmd, "server")
	f.BoolVar(&cfg.FreshEvidence, "fresh-evidence", false, "have the server's TEE make evidence for a nonce of ours")
	f.StringVar(&selfKey, "client-key", "", "file with this client's own private key, from tmcp keygen, for servers that ask who calls")
	f.StringVar(&selfName, "client-identity", "urn:trustedmcp:client", "URI by which this client is known, such as spiffe://…")
	f.StringVar(&selfCert, "client-certificate", "", "file with that key's certificate chain, leaf first")
	f.BoolVar(&cfg.Pad, "pad", false, "pad requests, so that their length tells less")
	f.StringArrayVar(&headers, "header", nil, `"Name: value" to send outside the seal, such as a proxy's credentials; may be repeated`)
	f.IntVar(&cfg.MaxMessage, "max-message", 4<<20, "largest message, in bytes (aicc-0.1: default 16 MiB)")
	f.StringSliceVar(&cfg.AllowHosts, "allow-host", nil, "further Host names to admit from clients")
	f.StringSliceVar(&cfg.AllowOrigins, "allow-origin", nil, "Origins of web pages to admit")
	aicc.addConnect(cmd)
	f.BoolVarP(&verbose, "verbose", "v", false, "log what happens")
	return cmd
}

// tlsPeer says who may speak for the other end of attested TLS.
func tlsPeer(t *gateway.TLS, pins []string, ca string, systemCA bool) (*gateway.TLS, error) {
	for _, p := range pins {
		k, err := protocol.ParseThumbprint(p)
		if err != nil {
			return nil, usagef("--pin: %v", err)
		}
		t.Pins = append(t.Pins, k)
	}
	var err error
	switch {
	case ca != "":
		pem, rerr := os.ReadFile(ca)
		if rerr != nil {
			return nil, fmt.Errorf("--ca: %w", rerr)
		}
		t.Roots = x509.NewCertPool()
		if !t.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s holds no PEM certificate", ca)
		}
	case systemCA:
		if t.Roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("--system-ca: %w", err)
		}
	}
	return t, nil
}

// anchor makes who is trusted of flags.
func anchor(pins []string, ca string, systemCA bool) (protocol.Anchor, error) {
	var anchors []protocol.Anchor
	var keys []protocol.Thumbprint
	for _, p := range pins {
		t, err := protocol.ParseThumbprint(p)
		if err != nil {
			return nil, usagef("--pin: %v", err)
		}
		keys = append(keys, t)
	}
	if len(keys) > 0 {
		anchors = append(anchors, protocol.Pin(keys...))
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s holds no PEM certificate", ca)
		}
		anchors = append(anchors, protocol.Roots(pool))
	}
	if systemCA {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("--system-ca: %w", err)
		}
		anchors = append(anchors, protocol.Roots(pool))
	}
	return protocol.AnyOf(anchors...), nil
}
