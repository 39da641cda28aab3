package main

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/protocol"
)

func verifierCommand() *cobra.Command {
	flags := appraisalFlags{strict: true}
	var listen, key, name, cert, certKey string
	var cfg verifier.ServerConfig
	var verbose bool
	cmd := &cobra.Command{
		Use:   "verifier --key FILE [flags]",
		Short: "Appraise evidence for others",
		Long: `Serve Veraison's challenge-response API: relying parties open a session with a
nonce, submit evidence that binds it, and get an attestation result (EAR, a JWT)
signed with --key. For tests and small sites.

The evidence must bind the session's nonce, followed by zeros up to 64 bytes; a
nonce of 64 bytes is report data as it is. Collateral and reference values are
read at the start: restart it for new ones. Policies that are modules are read
again at SIGHUP.`,
		Example: `  tmcp keygen --alg p256 --out ear.key --public ear.pub
  tmcp verifier --key ear.key --collateral collateral/ --corim app.corim --corim-key release.pub \
    --listen :8443 --tls-certificate site.pem --tls-key site.key
  curl -s http://127.0.0.1:8087/.well-known/veraison/verification`,
		Args: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usagef("say which key signs the results: --key FILE (make one with tmcp keygen --alg p256 --public FILE)")
			}
			if (cert == "") != (certKey == "") {
				return usagef("--tls-certificate and --tls-key go together")
			}
			host, _, err := net.SplitHostPort(listen)
			if err != nil {
				return usagef("--listen %s: want HOST:PORT", listen)
			}
			if ip := net.ParseIP(host); cert == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return usagef("--listen %s: without --tls-certificate only addresses of this machine are served, as 127.0.0.1:8087", listen)
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, _, err := flags.load(cmd)
			if err != nil {
				return err
			}
			signer, err := keyfile.Load(key)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if cfg.Issuer, err = verifier.NewIssuer(a, signer, name); err != nil {
				return &exitError{exitUsage, err}
			}
			cfg.Version, cfg.Logger = version(), logger(cmd.ErrOrStderr(), verbose)
			if flags.o.Policy != nil {
				defer reloading(cmd.Context(), flags.o.Policy, cfg.Logger)()
			}
			s, err := verifier.NewServer(cfg)
			if err != nil {
				return err
			}
			var secure *tls.Config
			scheme := "http"
			if cert != "" {
				pair, err := tlsPair(cert, certKey)
				if err != nil {
					return &exitError{exitUsage, err}
				}
				scheme, secure = "https", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return &exitError{exitUnreachable, fmt.Errorf("--listen %s: %w", listen, err)}
			}
			defer l.Close()
			if secure != nil {
				l = tls.NewListener(l, secure)
			}
			thumb, err := protocol.PublicKeyThumbprint(signer.Public())
			if err != nil {
				return err
			}
			w := cmd.ErrOrStderr()
			fmt.Fprintf(w, "tmcp verifier: %s://%s, policy %q\n  results are signed with the key %s\n", scheme, l.Addr(), a.Policy().Name(), thumb)
			sayPolicy(w, "  ", flags.o.Policy)
			if a.Policy().Development() {
				fmt.Fprintln(w, "  SIMULATED TEEs are accepted, and no others: for development only")
			}
			return s.Serve(cmd.Context(), l)
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8087", "HOST:PORT to listen on; port 0 picks one")
	f.StringVar(&key, "key", "", "file with the private key that signs results, from tmcp keygen")
	f.StringVar(&name, "issuer", "tmcp verifier", "name of the verifier in its results (iss); choose a URI of your own")
	f.StringVar(&cert, "tls-certificate", "", "file with the server's certificate chain (PEM)")
	f.StringVar(&certKey, "tls-key", "", "file with its private key")
	f.IntVar(&cfg.MaxEvidence, "max-evidence", verifier.DefaultMaxEvidence, "largest evidence, in bytes")
	f.IntVar(&cfg.MaxSessions, "max-sessions", verifier.DefaultMaxSessions, "most open sessions")
	f.DurationVar(&cfg.Lifetime, "lifetime", verifier.DefaultLifetime, "how long a session stays open")
	f.BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// tlsPair reads a certificate with its key; others must not be able to read the
// key.
func tlsPair(cert, key string) (tls.Certificate, error) {
	chain, err := keyfile.LoadChain(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	signer, err := keyfile.Load(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	if k, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(signer.Public()) {
		return pair, errors.New("--tls-key is not the key of --tls-certificate")
	}
	return pair, nil
}
