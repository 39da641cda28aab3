package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/gateway/tee"
	"github.com/trustedmcp/tmcp/protocol"
)

func attestCommand() *cobra.Command {
	var binding bindingFlags
	var name, out, format, image string
	cmd := &cobra.Command{
		Use:   "attest [flags]",
		Short: "Have the TEE of this machine make evidence",
		Long: `Have the TEE that this runs in make evidence that binds a nonce, or report data of
your own. The result is a CMW (RFC 9999), which tmcp evidence reads.

A simulated TEE (--tee sim) has genuine formats under a root that nobody should
trust: its evidence proves nothing, and is for development.`,
		Example: `  tmcp attest --nonce $(openssl rand -hex 32) --out evidence.cbor
  tmcp attest --tee sim --nonce 000102030405060708090a0b0c0d0e0f | tmcp evidence verify - --simulator`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given, _, err := binding.parse()
			if err != nil {
				return err
			}
			var reportData [protocol.ReportDataSize]byte
			copy(reportData[:], given)
			w := cmd.OutOrStdout()
			if format == "" {
				if format = "bytes"; out == "-" && isTerminal(w) {
					format = "base64"
				}
			}
			if format != "bytes" && format != "base64" && format != "json" {
				return usagef("--format %q: want bytes, base64 or json", format)
			}
			var o tee.Options
			if o.Simulated.Image, err = simulatedImage(name, image); err != nil {
				return err
			}
			a, info, err := tee.Open(cmd.Context(), name, o)
			if err != nil {
				return &exitError{exitUnreachable, err}
			}
			evidence, err := a.Attest(cmd.Context(), reportData)
			if err != nil {
				return &exitError{exitUnreachable, err}
			}
			if info.Simulated {
				fmt.Fprintln(cmd.ErrOrStderr(), "tmcp attest: SIMULATED: this evidence proves nothing; for development only")
			}
			if given == nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "tmcp attest: the evidence binds nothing: give --nonce or --report-data for evidence that someone can rely on")
			}
			b, err := encodeCMW(evidence, format)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err = w.Write(b)
				return err
			}
			return os.WriteFile(out, b, 0o644)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "tee", tee.Auto, "auto, tdx, sev-snp, cca, nitro, or sim (also sim-tdx, sim-sgx, sim-sev-snp, sim-nitro, sim-cca)")
	f.StringVar(&binding.nonce, "nonce", "", "what the evidence binds: a nonce of 8 to 64 bytes in hex; zeros follow up to 64 bytes")
	f.StringVar(&binding.reportData, "report-data", "", "the same, for report data of 1 to 64 bytes")
	f.StringVar(&image, "image", "", "with --tee sim: the file that it measures (default: this program)")
	f.StringVarP(&out, "out", "o", "-", "file to write, or - for stdout")
	f.StringVar(&format, "format", "", "bytes (CBOR), base64 or json (default: bytes; base64 on a terminal)")
	binding.role = "server"
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// simulatedImage is what a simulated TEE measures.
func simulatedImage(name, image string) (digest [32]byte, err error) {
	if !(&trustFlags{tee: name}).simulated() {
		if image != "" {
			return digest, usagef("--image is for --tee sim: a TEE measures what it runs")
		}
		return digest, nil
	}
	if image == "" {
		return ownImage()
	}
	in, err := os.Open(image)
	if err != nil {
		return digest, fileError(err)
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return digest, err
	}
	return [32]byte(h.Sum(nil)), nil
}

func encodeCMW(evidence []byte, format string) ([]byte, error) {
	switch format {
	case "base64":
		return []byte(base64.StdEncoding.EncodeToString(evidence) + "\n"), nil
	case "json":
		c, err := cmw.ParseCBOR(evidence)
		if err != nil {
			return nil, err
		}
		b, err := c.EncodeJSON()
		return append(b, '\n'), err
	}
	return evidence, nil
}
