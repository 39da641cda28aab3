package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
)

func keygenCommand() *cobra.Command {
	var out, alg, public, identity string
	var hpke bool
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make an identity key, and print its thumbprint",
		Long: `Make an identity key: the long-lived key by which clients know a server.
The private key goes to a new file that only you can read (PKCS #8 PEM); its
thumbprint, which clients pin with tmcp connect --pin, goes to stdout.

With --hpke, make a file key in its place: what opens the files that tmcp seal
seals to --identity. tmcp keyobject has an identity key sign it for senders. Keep
it as long as its files are to be opened, and safe: whoever has it reads them all.`,
		Example: "  tmcp keygen --out server.key\n  tmcp keygen --hpke --identity https://files.example.com/mcp --out files.key",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if hpke {
				return fileKeygen(cmd, out, identity)
			}
			if identity != "" {
				return usagef("--identity goes with --hpke: an identity key gets its name where it is used")
			}
			key, err := keyfile.Generate(alg)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			thumb, err := protocol.PublicKeyThumbprint(key.Public())
			if err != nil {
				return err
			}
			if err := keyfile.Save(out, key); err != nil {
				return err
			}
			if public != "" {
				if err := keyfile.SavePublic(public, key.Public()); err != nil {
					return err
				}
			}
			fmt.Fprintln(cmd.OutOrStdout(), thumb)
			if public != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s, the public key\n", public)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s; serve with: tmcp serve --identity-key %s …; pin with: tmcp connect --pin %s …\n", out, out, thumb)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "tmcp.key", "file to write the private key to; never overwritten")
	cmd.Flags().StringVar(&public, "public", "", "file to write the public key to as well (PEM), for those who verify what the key signs")
	cmd.Flags().StringVar(&alg, "alg", keyfile.Algorithms[0], "one of "+strings.Join(keyfile.Algorithms, ", "))
	cmd.Flags().BoolVar(&hpke, "hpke", false, "make a file key, which opens files, in place of an identity key")
	cmd.Flags().StringVar(&identity, "identity", "", "with --hpke: the URI by which senders know the recipient")
	return cmd
}

func fileKeygen(cmd *cobra.Command, out, identity string) error {
	for _, name := range []string{"alg", "public"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s means nothing with --hpke", name)
		}
	}
	if identity == "" {
		return usagef("say whose file key it is: --identity URI")
	}
	key, err := protocol.GenerateFileKey(identity)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if err := keyfile.SaveFileKey(out, key); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s, the file key of %s; next: tmcp keyobject --key %s --identity-key FILE --out FILE\n", out, identity, out)
	return nil
}
