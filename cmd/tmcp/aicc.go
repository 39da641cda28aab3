package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/aicc"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// aiccMessage is the largest message under the profile where none is said: what
// its deployed users send goes through.
const aiccMessage = 16 << 20

// aiccFlags are those of serve and connect that are about profile aicc-0.1.
type aiccFlags struct {
	beside     string // --also and --or
	name       string // which of the two
	key        string
	config     string
	tokenKeys  string
	unattested bool
	plain      bool
}

func (f *aiccFlags) addServe(cmd *cobra.Command) {
	f.name = "also"
	fl := cmd.Flags()
	fl.StringVar(&f.beside, "also", "", "aicc-0.1: serve that weaker profile too, at the same URL")
	fl.StringVar(&f.key, "aicc-key", wire.PrivateKeyFile, "profile aicc-0.1: file with the server's RSA private key (PEM)")
	fl.StringVar(&f.config, "aicc-config", "", "profile aicc-0.1: server_config.json of the AICC package, in place of --aicc-key")
	fl.StringVar(&f.tokenKeys, "aicc-token-keys", "", "profile aicc-0.1: file with the keys (JWKS or PEM) of the attestation service's tokens, for --aicc-config")
	fl.BoolVar(&f.unattested, "aicc-unattested", false, "profile aicc-0.1: serve although --aicc-config asks for clients that are attested, and they are not")
}

func (f *aiccFlags) addConnect(cmd *cobra.Command) {
	f.name = "or"
	fl := cmd.Flags()
	fl.StringVar(&f.beside, "or", "", "aicc-0.1: speak that weaker profile to a server that was reached and does not offer org.trustedmcp/trust")
	fl.StringVar(&f.key, "aicc-public-key", wire.PublicKeyFile, "profile aicc-0.1: file with the server's RSA public key (PEM)")
	fl.StringVar(&f.config, "aicc-config", "", "profile aicc-0.1: client_config.json of the AICC package, in place of --aicc-public-key")
	fl.StringVar(&f.tokenKeys, "aicc-token-keys", "", "profile aicc-0.1: file with the keys (JWKS or PEM) of the attestation service's tokens, for --aicc-config")
	fl.BoolVar(&f.unattested, "aicc-unattested", false, "profile aicc-0.1: use a key whose attestation failed, as the AICC package does; whoever answers for the service can then read everything")
	fl.BoolVar(&f.plain, "aicc-plain-initialize", false, "profile aicc-0.1: send initialize unsealed, as the AICC package does")
}

// used reports whether the profile is spoken, and alone whether nothing else is.
func (f *aiccFlags) used(t *trustFlags) bool  { return f.alone(t) || f.beside != "" }
func (f *aiccFlags) alone(t *trustFlags) bool { return t.is(wire.Profile) }

// aiccFlagNames are the profile's own.
var aiccFlagNames = []string{"aicc-key", "aicc-public-key", "aicc-config", "aicc-token-keys", "aicc-unattested", "aicc-plain-initialize"}

// check refuses what does not go together. others are flags that mean nothing
// under the profile alone.
func (f *aiccFlags) check(cmd *cobra.Command, t *trustFlags, mode string, others ...string) error {
	changed := func(name string) bool { return cmd.Flags().Lookup(name) != nil && cmd.Flags().Changed(name) }
	if f.beside != "" && f.beside != wire.Profile {
		return usagef("--%s %q: want %s", f.name, f.beside, wire.Profile)
	}
	if !f.used(t) {
		for _, name := range aiccFlagNames {
			if changed(name) {
				return usagef("--%s goes with --profile %s or --%s %s", name, wire.Profile, f.name, wire.Profile)
			}
		}
		return nil
	}
	if changed("aicc-config") && (changed("aicc-key") || changed("aicc-public-key")) {
		return usagef("--aicc-config says where the key is: leave the key's own flag out")
	}
	if (f.tokenKeys != "" || f.unattested) && f.config == "" {
		return usagef("--aicc-token-keys and --aicc-unattested are about --aicc-config")
	}
	if !f.alone(t) {
		switch {
		case t.is(protocol.ProfileAttestedTLS):
			return usagef("--%s %s: --profile %s does not seal, which the other does", f.name, wire.Profile, t.profile)
		case f.name == "also" && (t.is(protocol.ProfileMutual) || changed("client-pin") || changed("client-ca")) && cmd.Flag("client-keys").Value.String() == string(protocol.ClientKeyDemanded):
			return usagef("--also %s: who calls by it is unknown, so that it is a way around --client-pin and --client-ca; leave it out, or say --client-keys accepted", wire.Profile)
		case f.name == "or" && mode == string(protocol.ModePreferred):
			return usagef("--or %s: --mode preferred goes on in plaintext with servers without trust; leave one of them out", wire.Profile)
		case f.name == "or" && !t.is(protocol.ProfileIdentity):
			return usagef("--or %s: --profile %s demands what that would do without", wire.Profile, t.profile)
		}
		return nil
	}
	if f.beside != "" {
		return usagef("--%s %s is said by --profile %s", f.name, wire.Profile, t.profile)
	}
	if mode != string(protocol.ModeRequired) && mode != string(protocol.ModePreferred) {
		return usagef("--mode %q: want required or preferred", mode)
	}
	for _, name := range slices.Concat(others, flagsOfOwn, flagsOfOther, []string{"tls-mode", "tls-form", "verifier-key"}) {
		if changed(name) && name != "simulator" {
			return usagef("--%s means nothing with --profile %s: leave it out", name, wire.Profile)
		}
	}
	return nil
}

// server makes the server's side of flags.
func (f *aiccFlags) server(cfg *gateway.ServeConfig, t *trustFlags, w io.Writer) error {
	sc := &aicc.ServerConfig{KeyFile: f.key}
	if f.config != "" {
		var err error
		if sc, err = aicc.LoadServerConfig(f.config); err != nil {
			return fmt.Errorf("--aicc-config: %w", err)
		}
	}
	warn(w, "tmcp serve", sc.Warnings)
	o, err := f.options(t, cfg.Logger)
	if err != nil {
		return err
	}
	keys, err := aicc.NewServerKeys(*sc, aicc.ServerOptions{Options: o})
	if err != nil {
		return err
	}
	if keys.Public() == nil {
		return fmt.Errorf("profile %s: no private key can be read from %s; make one with openssl genrsa -traditional -out %s 4096", wire.Profile, sc.KeyFile, wire.PrivateKeyFile)
	}
	cfg.AICC = &gateway.AICCServer{Keys: keys.Keys, Also: f.beside != ""}
	fmt.Fprintf(w, "tmcp serve: profile %s with the key %s; weaker than %s: %v\n", wire.Profile, wire.Thumbprint(keys.Public()), protocol.ExtensionID, wire.Caveats())
	return nil
}

// client makes the client's side of flags.
func (f *aiccFlags) client(ctx context.Context, cfg *gateway.ConnectConfig, t *trustFlags, w io.Writer) error {
	cc := &aicc.ClientConfig{PublicKeyPath: f.key}
	if f.config != "" {
		var err error
		if cc, err = aicc.LoadClientConfig(f.config); err != nil {
			return fmt.Errorf("--aicc-config: %w", err)
		}
	}
	warn(w, "tmcp connect", cc.Warnings)
	o, err := f.options(t, cfg.Logger)
	if err != nil {
		return err
	}
	keys, err := aicc.NewClientKeys(*cc, o)
	if err != nil {
		return err
	}
	if cc.PublicKeyPath != "" { // said now, not at the first call
		if _, err := keys.PublicKey(ctx); err != nil {
			return err
		}
	}
	cfg.AICC = &gateway.AICCClient{Key: keys.PublicKey, Attested: keys.AttestedKey, PlainInitialize: f.plain, Or: f.beside != ""}
	fmt.Fprintf(w, "tmcp connect: profile %s is weaker than %s: %v\n", wire.Profile, protocol.ExtensionID, wire.Caveats())
	return nil
}

func (f *aiccFlags) options(t *trustFlags, log *slog.Logger) (o aicc.Options, err error) {
	o = aicc.Options{Unattested: f.unattested, AllowSimulated: t.simulator, Logger: log}
	if f.tokenKeys != "" {
		if o.TokenKeys, err = aicc.LoadTokenKeys(f.tokenKeys); err != nil {
			return o, fmt.Errorf("--aicc-token-keys: %w", err)
		}
	}
	return o, nil
}

func warn(w io.Writer, who string, warnings []string) {
	for _, s := range warnings {
		fmt.Fprintf(w, "%s: warning: %s\n", who, s)
	}
}
