package main

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/gateway/collateral"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
)

func collateralCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "collateral",
		Short: "Get what vendors publish about platforms",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(collateralFetchCommand())
	return cmd
}

func collateralFetchCommand() *cobra.Command {
	var cfg collateral.Config
	var out, fmspc, ca, tee string
	var noCache bool
	cmd := &cobra.Command{
		Use:   "fetch [flags] (FILE… | --fmspc HEX)",
		Short: "Fetch collateral for evidence",
		Long: `Fetch what the verification of evidence needs beside it, for use with
tmcp evidence verify --collateral: for quotes of TDX and SGX Intel's TCB
information, QE identity and revocation lists (a JSON bundle), for reports of
SEV-SNP AMD's certificates and revocation list (PEM), for GPUs NVIDIA's OCSP
responses. Evidence of other kinds needs nothing.

This is the only command that asks vendors. It keeps what it got, asks again after
a day, waits when a service says that it is busy, and asks AMD for one chip's
certificate at most every 10 seconds. Proxies are taken from HTTPS_PROXY. Nothing
fetched is trusted: verification checks every signature.

With --out DIR/ each item becomes a file of that directory.`,
		Example: `  tmcp collateral fetch quote.bin --out collateral.json
  tmcp collateral fetch --fmspc B0C06F000000 --tee tdx --out collateral.json
  tmcp collateral fetch report.bin --product Milan --out collateral/
  tmcp collateral fetch quote.bin --pcs https://pccs.example.com:8081 --out collateral.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 0) == (fmspc == "") {
				return usagef("give either files with evidence, or --fmspc")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cfg.Cache == "" && !noCache {
				dir, err := os.UserCacheDir()
				if err != nil {
					return usagef("no directory for a cache: %v; name one with --cache, or use --no-cache", err)
				}
				cfg.Cache = filepath.Join(dir, "tmcp", "collateral")
			}
			if noCache {
				cfg.Cache = ""
			}
			cfg.Waiting = func(url string, d time.Duration) {
				fmt.Fprintf(cmd.ErrOrStderr(), "waiting %v: %s\n", d.Round(time.Second), url)
			}
			f, err := collateral.New(cfg)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			items, err := fetchAll(cmd, f, args, fmspc, ca, tee)
			for _, s := range f.Sources() {
				from := "fetched"
				if s.FromCache {
					from = "cached " + s.Fetched.Format("2006-01-02")
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, renewed by %s\n", from, s.URL, s.Renewal.Format(time.DateOnly))
			}
			switch {
			case errors.Is(err, collateral.ErrUnreachable), errors.Is(err, collateral.ErrBusy), errors.Is(err, collateral.ErrOffline):
				return &exitError{exitUnreachable, err}
			case err != nil:
				return err
			}
			return writeItems(cmd, out, items)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "out", "o", "-", "file to write, a directory (with a slash at the end, or existing), or - for stdout")
	f.StringVar(&fmspc, "fmspc", "", "family of Intel platforms, 6 bytes in hex, in place of evidence")
	f.StringVar(&ca, "ca", "platform", "with --fmspc: who issues the platforms' certificates, platform or processor")
	f.StringVar(&tee, "tee", "tdx", "with --fmspc: tdx or sgx")
	f.StringVar(&cfg.Product, "product", "", "Milan, Genoa or Turin, for SEV-SNP reports of version 2, which don't tell")
	f.StringVar(&cfg.Cache, "cache", "", "directory of the cache (default: tmcp/collateral in the user's cache directory)")
	f.BoolVar(&noCache, "no-cache", false, "neither read nor write a cache")
	f.BoolVar(&cfg.Offline, "offline", false, "use the cache only")
	f.DurationVar(&cfg.MaxAge, "max-age", 24*time.Hour, "ask again for what is older, though the vendor lets it hold longer")
	f.DurationVar(&cfg.MaxWait, "max-wait", 2*time.Minute, "how long to wait for busy services, in total")
	f.StringVar(&cfg.PCS, "pcs", collateral.IntelPCS, "base URL of Intel's PCS, or of a PCCS")
	f.StringVar(&cfg.RootCRL, "root-crl", "", "URL of the revocation list of Intel's root (default: Intel's, or the PCCS's)")
	f.StringVar(&cfg.KDS, "kds", collateral.AMDKDS, "base URL of AMD's KDS, or of a mirror")
	f.StringVar(&cfg.OCSP, "ocsp", collateral.NVIDIAOCSP, "URL of NVIDIA's OCSP responder")
	return cmd
}

func fetchAll(cmd *cobra.Command, f *collateral.Fetcher, files []string, fmspc, ca, tee string) ([]evidence.Item, error) {
	if len(files) == 0 {
		p := collateral.IntelPlatform{TDX: tee == "tdx", CA: ca}
		b, err := hex.DecodeString(fmspc)
		if err != nil || len(b) != len(p.FMSPC) {
			return nil, usagef("--fmspc %q: want 12 hex digits, as B0C06F000000", fmspc)
		}
		if tee != "tdx" && tee != "sgx" {
			return nil, usagef("--tee %q: want tdx or sgx", tee)
		}
		copy(p.FMSPC[:], b)
		v, err := f.Intel(cmd.Context(), p)
		return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: v}}, err
	}
	pieces, err := evidencefile.Load(files, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	var items []evidence.Item
	for _, p := range pieces {
		found, err := p.Evidence()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.File, err)
		}
		for _, it := range found {
			got, err := f.For(cmd.Context(), it)
			if errors.Is(err, collateral.ErrUnknown) && len(found) > 1 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", p.File, err)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.File, err)
			}
			items = append(items, got...)
		}
	}
	return items, nil
}

// writeItems writes endorsements so that --collateral reads them.
func writeItems(cmd *cobra.Command, out string, items []evidence.Item) error {
	info, err := os.Stat(out)
	if strings.HasSuffix(out, "/") || out != "-" && err == nil && info.IsDir() {
		return writeDir(out, items)
	}
	var b bytes.Buffer
	bundles := 0
	for _, it := range items {
		switch it.MediaType {
		case evidence.TypeDCAPCollateral:
			bundles++
			b.Write(it.Value)
			b.WriteByte('\n')
		case evidence.TypeCertificates:
			b.Write(it.Value)
		case evidence.TypeCRL:
			if err := pem.Encode(&b, &pem.Block{Type: "X509 CRL", Bytes: it.Value}); err != nil {
				return err
			}
		default:
			bundles += 2
		}
	}
	if bundles > 1 || bundles == 1 && len(items) > 1 {
		return usagef("%d items do not fit into one file: name a directory, as --out collateral/", len(items))
	}
	if out == "-" {
		_, err := cmd.OutOrStdout().Write(b.Bytes())
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}

func writeDir(dir string, items []evidence.Item) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names := map[string]string{
		evidence.TypeDCAPCollateral: "intel-%d.json", evidence.TypeCertificates: "certificates-%d.pem",
		evidence.TypeCRL: "revoked-%d.crl", evidence.TypeOCSP: "ocsp-%d.der",
	}
	for i, it := range items {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf(names[it.MediaType], i)), it.Value, 0o644); err != nil {
			return err
		}
	}
	return nil
}
