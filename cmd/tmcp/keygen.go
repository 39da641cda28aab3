package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
)

func keygenCommand() *cobra.Command {
	var out, alg, public string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make an identity key, and print its thumbprint",
		Long: `Make an identity key: the long-lived key by which clients know a server.
The private key goes to a new file that only you can read (PKCS #8 PEM); its
thumbprint, which clients pin with tmcp connect --pin, goes to stdout.`,
		Example: "  tmcp keygen --out server.key",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	return cmd
}
