package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/inspect"
)

const maxInspect = 16 << 20

func inspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [FILE]",
		Short: "Take a key object, settings or a sealed frame apart",
		Long: `Show what a key object, a settings object or a sealed frame says. The input, a
file or stdin, is raw CBOR, its base64url, or a JSON-RPC message that holds some
of them. Nothing is verified: this shows what an object claims.`,
		Example: `  curl -s -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: server/discover' \
    -d '{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}' \
    http://127.0.0.1:8443/mcp | tmcp inspect`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("tmcp inspect takes one file, found %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			b, err := io.ReadAll(io.LimitReader(in, maxInspect+1))
			if err != nil {
				return err
			}
			if len(b) > maxInspect {
				return fmt.Errorf("the input is larger than %d bytes", maxInspect)
			}
			reports, err := inspect.Any(b, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				out, err := inspect.JSON(reports)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", out)
				return nil
			}
			fmt.Fprint(cmd.OutOrStdout(), inspect.Text(reports))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
