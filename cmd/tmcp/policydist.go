package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/gateway/policy/dist"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// policyDistCommands are those that take a policy from its author to others.
func policyDistCommands() []*cobra.Command {
	return []*cobra.Command{policySignCommand(), policyVerifyCommand(), policyBundleCommand(), policyPushCommand(), policyPullCommand()}
}

// oneFile is Args for commands that take one module or bundle.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one module, bundle or folder of a project, found %d", cmd.CommandPath(), len(args))
	}
	return nil
}

// readPolicy reads a module or bundle, or the module of a project's folder.
func readPolicy(cmd *cobra.Command, name string) (b []byte, path string, err error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, build.ModuleFile)
	}
	b, err = dist.ReadFile(name, cmd.InOrStdin(), signed.DefaultLimits().Bundle)
	if err != nil {
		return nil, name, fileError(err)
	}
	if !signed.IsModule(b) && !signed.IsBundle(b) {
		return nil, name, fmt.Errorf("%s: neither a WebAssembly module nor a bundle; make one with tmcp policy build or tmcp policy bundle", name)
	}
	return b, name, nil
}

// statementFlags say what is signed, and by whom.
type statementFlags struct {
	key, chain, by string
	days           int
}

func (f *statementFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.key, "key", "", "file with the private key that signs, from tmcp keygen")
	fl.StringVar(&f.chain, "chain", "", "file with the key's certificate chain (PEM), leaf first, without the root")
	fl.StringVar(&f.by, "by", "", "who signs, for people (default: the author in the module's metadata)")
	fl.IntVar(&f.days, "days", 365, "how long the signature is valid; 0 is without end")
}

func (f *statementFlags) sign(s *signed.Statement) ([]byte, error) {
	if f.days < 0 || f.days > 36500 {
		return nil, usagef("--days %d: want 0 to 36500", f.days)
	}
	key, err := keyfile.Load(f.key)
	if err != nil {
		return nil, fileError(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	by := &signed.Signer{Name: f.by, Key: key, NotBefore: now}
	if f.days > 0 {
		by.NotAfter = now.AddDate(0, 0, f.days)
	}
	if by.Name == "" && s.Metadata != nil {
		m, err := policywasm.ParseMetadata(s.Metadata)
		if err != nil {
			return nil, err
		}
		by.Name = m.Author
	}
	if by.Name == "" {
		return nil, usagef("say who signs: --by NAME, or an author in policy.json")
	}
	if f.chain != "" {
		if by.Chain, err = keyfile.LoadChain(f.chain); err != nil {
			return nil, fileError(err)
		}
	}
	return signed.Sign(s, by)
}

func policySignCommand() *cobra.Command {
	var f statementFlags
	var out, name, version string
	var more bool
	cmd := &cobra.Command{
		Use:   "sign --key FILE [flags] (MODULE | BUNDLE | FOLDER)",
		Short: "Sign a policy or a bundle",
		Long: `Sign a module, or a bundle of policies: a COSE_Sign1 over its digest, its metadata,
its name and version, beside it in FILE.cose. The file itself stays as it is.`,
		Example: `  tmcp keygen --alg p256 --out release.key --public release.pub
  tmcp policy sign policy.wasm --key release.key
  tmcp policy sign policy.wasm --key second.key --add`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.key == "" {
				return usagef("say which key signs: --key FILE (make one with tmcp keygen)")
			}
			return oneFile(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			b, path, err := readPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			s, err := statement(b, name, version)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			sig, err := f.sign(s)
			if err != nil {
				return err
			}
			if out == "" && path == "-" {
				return usagef("say where to write the signature: --out FILE")
			}
			if out = cmp.Or(out, path+".cose"); out == "-" {
				_, err := cmd.OutOrStdout().Write(sig)
				return err
			}
			if more {
				have, err := dist.ReadSignatures([]string{out}, nil)
				if err != nil {
					return fileError(err)
				}
				sig = slices.Concat(slices.Concat(have...), sig)
				if _, err := signed.Split(sig); err != nil {
					return err
				}
			}
			if err := os.WriteFile(out, sig, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s, over %s version %s; verify with: tmcp policy verify %s --signer PUBLIC-KEY\n", out, printable(s.Name), printable(s.Version), path)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write the signature to; - is stdout (default: the policy's file with .cose)")
	cmd.Flags().BoolVar(&more, "add", false, "add to the signatures that are in the file, in place of them")
	cmd.Flags().StringVar(&name, "name", "", "name of a module that has no metadata")
	cmd.Flags().StringVar(&version, "version-of-policy", "", "version of a module that has no metadata")
	return cmd
}

// statement is what there is to sign of a file.
func statement(b []byte, name, version string) (*signed.Statement, error) {
	if signed.IsModule(b) {
		return signed.ModuleStatement(b, name, version)
	}
	if name != "" || version != "" {
		return nil, usagef("a bundle has a name and version of its own")
	}
	bundle, err := signed.OpenBundle(b, signed.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return bundle.Statement(), nil
}

// signerFlags pin who may have signed.
type signerFlags struct {
	keys, roots []string
	threshold   int
	name, min   string
	at          string
}

func (f *signerFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.keys, "signer", nil, "file with a public key or certificate (PEM) that may sign; may be repeated")
	fl.StringArrayVar(&f.roots, "signer-ca", nil, "file with roots (PEM) for certificates of those who may; may be repeated")
	fl.IntVar(&f.threshold, "threshold", 1, "how many of the pinned keys and roots must have signed")
	fl.StringVar(&f.name, "name", "", "the name that the policy must have")
	fl.StringVar(&f.min, "min-version", "", "the oldest version that is accepted, as 1.12.0")
	fl.StringVar(&f.at, "at", "", "time to verify at, as 2026-03-19T00:00:00Z (default: now)")
}

var versionForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+){0,7}$`)

// trust reads the keys. Whatever is wrong is wrong usage.
func (f *signerFlags) trust(cmd *cobra.Command) (*signed.Trust, error) {
	t := &signed.Trust{Threshold: f.threshold, Name: f.name, MinVersion: f.min, Now: time.Now()}
	var err error
	if f.at != "" {
		if t.Now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, usagef("--at %q: want a time as 2026-03-19T00:00:00Z", f.at)
		}
	}
	if f.min != "" && !versionForm.MatchString(f.min) {
		return nil, usagef("--min-version %q: want 1 to 8 decimal numbers with dots between, as 1.12.0", f.min)
	}
	if t.Keys, err = dist.ReadKeys(f.keys, cmd.InOrStdin()); err == nil {
		t.Roots, err = dist.ReadRoots(f.roots, cmd.InOrStdin())
	}
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if most := len(t.Keys) + len(t.Roots); f.threshold < 1 || most > 0 && f.threshold > most {
		return nil, usagef("--threshold %d: want 1 to the number of signers, which is %d", f.threshold, most)
	}
	return t, nil
}

// A verified policy is what verify prints.
type verifiedPolicy struct {
	Kind    signed.Kind `json:"kind"`
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Digest  string      `json:"digest"` // hex
	Signers []string    `json:"signers"`
	Until   string      `json:"until,omitzero"`
}

func policyVerifyCommand() *cobra.Command {
	var f signerFlags
	var signatures []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --signer FILE [flags] (MODULE | BUNDLE | FOLDER)",
		Short: "Verify who signed a policy or a bundle",
		Long: `Verify that signers you name signed a module or a bundle. Signatures are in the
files that --signature names, else in FILE.cose, and in a bundle itself. The
module is not run, and not read further than its metadata.

Exit code 0 says that it is signed so, 1 that it is not.`,
		Example: `  tmcp policy verify policy.wasm --signer release.pub
  tmcp policy verify house.bundle --signer a.pub --signer b.pub --threshold 2 --name house --min-version 3.1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(f.keys)+len(f.roots) == 0 {
				return usagef("say who may have signed: --signer FILE or --signer-ca FILE")
			}
			return oneFile(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.trust(cmd)
			if err != nil {
				return err
			}
			_, path, err := readPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			if path == "-" {
				return usagef("a policy is verified as a file, and not from stdin")
			}
			l, err := dist.Load(cmd.Context(), path, dist.Options{Trust: t, Signatures: signatures, Stdin: cmd.InOrStdin()})
			if err != nil {
				return escaped(fileError(err))
			}
			s := l.Verified.Statement()
			v := verifiedPolicy{Kind: s.Kind, Name: s.Name, Version: s.Version, Digest: hex.EncodeToString(s.Digest[:]), Signers: l.Signers()}
			if until := l.Verified.Until(); !until.IsZero() {
				v.Until = until.Format(time.RFC3339)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "VERIFIED: %s %s version %s\n  digest     %s\n", v.Kind, printable(v.Name), printable(v.Version), v.Digest)
			for _, who := range v.Signers {
				fmt.Fprintf(cmd.OutOrStdout(), "  signed by  %s\n", printable(who))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "  until      %s\n", cmp.Or(v.Until, "without end"))
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&signatures, "signature", nil, "file with signatures; may be repeated (default: the policy's file with .cose)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func policyBundleCommand() *cobra.Command {
	var sign statementFlags
	var m signed.BundleManifest
	var out string
	var settings, tests, references []string
	cmd := &cobra.Command{
		Use:   "bundle --out FILE [flags] (MODULE | FOLDER)…",
		Short: "Put policies with settings, tests and reference values into one file",
		Long: `Make a bundle: policies in the order in which they are asked, the rule by which
they decide together, their settings, tests and reference values. Of a project's
folder the tests are taken too. The same content gives the same bytes.

A bundle is signed as a whole: with --key, or later with tmcp policy sign.`,
		Example: `  tmcp policy bundle my-policy --out my-policy.bundle --key release.key --by "Example Corp"
  tmcp policy bundle strict.wasm tools.wasm --name house --version-of-bundle 3.1 --rule all-allow \
    --settings tools=tools.json --references app.corim --out house.bundle`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("name the modules")
			case out == "":
				return usagef("say where to write the bundle: --out FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			files := map[string][]byte{}
			add := func(folder, name, as, ending string) error {
				b, err := dist.ReadFile(name, nil, signed.MaxModule)
				if err != nil {
					return fileError(err)
				}
				return member(files, folder, as, ending, b)
			}
			var authors []string
			modules := map[string]string{} // path by name of the policy
			for _, arg := range args {
				b, path, err := readPolicy(cmd, arg)
				if err != nil {
					return err
				}
				s, err := signed.ModuleStatement(b, "", "")
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				base := filepath.Base(path)
				if path != arg { // a project's folder
					base = s.Name + ".wasm"
					found, err := filepath.Glob(filepath.Join(arg, "tests", "*.json"))
					if err != nil {
						return err
					}
					for _, path := range found {
						as := filepath.Base(path)
						if len(args) > 1 { // each project calls its tests the same
							as = s.Name + "-" + as
						}
						if err := add(signed.FolderTests, path, as, ".json"); err != nil {
							return err
						}
					}
				}
				if meta, err := policywasm.ParseMetadata(s.Metadata); err == nil {
					authors = append(authors, meta.Author)
				}
				if err := member(files, signed.FolderPolicies, base, ".wasm", b); err != nil {
					return err
				}
				at := signed.FolderPolicies + "/" + memberName(base, ".wasm")
				if _, ok := modules[s.Name]; ok {
					return fmt.Errorf("%s: a second policy with the name %q", path, s.Name)
				}
				modules[s.Name] = at
				m.Policies = append(m.Policies, signed.BundlePolicy{Module: at})
				if len(args) == 1 {
					m.Name, m.Version = cmp.Or(m.Name, s.Name), cmp.Or(m.Version, s.Version)
				}
			}
			if m.Name == "" || m.Version == "" {
				return usagef("a bundle of several policies needs --name and --version-of-bundle")
			}
			for _, arg := range settings {
				name, file, named := strings.Cut(arg, "=")
				if !named {
					if name, file = m.Name, arg; len(args) != 1 {
						return usagef("--settings %s: there are %d policies; say NAME=FILE", arg, len(args))
					}
					for only := range modules {
						name = only
					}
				}
				b, err := dist.ReadFile(file, cmd.InOrStdin(), signed.MaxModule)
				if err != nil {
					return fileError(err)
				}
				v := jsontext.Value(b)
				if err := v.Canonicalize(); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
				i := slices.IndexFunc(m.Policies, func(p signed.BundlePolicy) bool { return p.Module == modules[name] })
				if i < 0 || m.Policies[i].Settings != nil {
					return usagef("--settings %s: no policy is called %q, or it has settings already", arg, name)
				}
				m.Policies[i].Settings = v
			}
			for _, name := range tests {
				if err := add(signed.FolderTests, name, name, ".json"); err != nil {
					return err
				}
			}
			for _, name := range references {
				if err := add(signed.FolderReferences, name, name, ".corim"); err != nil {
					return err
				}
			}
			b, err := signed.NewBundle(m, files, signed.DefaultLimits())
			if err != nil {
				return err
			}
			if sign.key != "" {
				if all := slices.Compact(authors); sign.by == "" && len(all) == 1 {
					sign.by = all[0]
				}
				if sign.by == "" {
					return usagef("--key signs: say who, with --by NAME")
				}
				sig, err := sign.sign(b.Statement())
				if err != nil {
					return err
				}
				if b, err = b.WithSignatures(sig); err != nil {
					return err
				}
			}
			whole := b.Bytes()
			if _, err := signed.OpenBundle(whole, signed.DefaultLimits()); err != nil { // what is too large for others is not made
				return err
			}
			if out == "-" {
				_, err := cmd.OutOrStdout().Write(whole)
				return err
			}
			if err := os.WriteFile(out, whole, 0o644); err != nil {
				return err
			}
			word := "not signed; sign it with: tmcp policy sign " + out + " --key FILE --by NAME"
			if len(b.Signatures()) > 0 {
				word = "signed"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s: %s version %s, %s\n", out, printable(m.Name), printable(m.Version), word)
			return nil
		},
	}
	sign.add(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&out, "out", "o", "", "file to write the bundle to; - is stdout")
	fl.StringVar(&m.Name, "name", "", "name of the bundle (default: that of its one policy)")
	fl.StringVar(&m.Version, "version-of-bundle", "", "version of the bundle (default: that of its one policy)")
	fl.StringVar(&m.Rule, "rule", policywasm.DenyOverrides.String(), "how several policies decide: deny-overrides, first-match or all-allow")
	fl.StringArrayVar(&settings, "settings", nil, "[NAME=]FILE: settings in JSON for the policy of that name; may be repeated")
	fl.StringArrayVar(&tests, "tests", nil, "file with tests; may be repeated")
	fl.StringArrayVar(&references, "references", nil, "file with reference values (CoRIM); may be repeated")
	return cmd
}

// memberName is what a file is called in a bundle.
func memberName(path, ending string) string {
	base := strings.ToLower(filepath.Base(path))
	return strings.TrimSuffix(base, filepath.Ext(base)) + ending
}

// member puts a file into a bundle's.
func member(files map[string][]byte, folder, path, ending string, b []byte) error {
	name := folder + "/" + memberName(path, ending)
	if _, ok := files[name]; ok {
		return fmt.Errorf("%s: a second file that would be %s in the bundle; rename one", path, name)
	}
	files[name] = b
	return nil
}

// registryFlags say how a registry is reached.
type registryFlags struct{ r dist.Registry }

func (f *registryFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.r.PlainHTTP, "plain-http", false, "speak http to a registry that is not on this machine")
	fl.BoolVar(&f.r.TLS, "https", false, "speak https to a registry on this machine too")
	fl.StringArrayVar(&f.r.TokenHosts, "token-host", nil, "HOST[:PORT] that the registry's credentials may be sent to for a token; may be repeated")
	fl.DurationVar(&f.r.Timeout, "timeout", time.Minute, "how long all of it may take")
}

func (f *registryFlags) options() (dist.Options, error) {
	var err error
	f.r.Credentials, err = dist.DockerCredentials()
	return dist.Options{Registry: f.r}, err
}

// registryError gives what a registry did its exit code.
func registryError(err error) error {
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dist.ErrRef):
		return &exitError{exitUsage, err}
	case errors.As(err, &op) || errors.Is(err, dist.ErrTimeout):
		return &exitError{exitUnreachable, escaped(err)}
	}
	return escaped(err)
}

const registryWords = `Credentials are those of docker login (DOCKER_CONFIG, ~/.docker/config.json). They
go to the registry itself, and to no other host but by --token-host.`

func policyPushCommand() *cobra.Command {
	var f registryFlags
	var signatures []string
	cmd := &cobra.Command{
		Use:   "push [flags] REF (MODULE | BUNDLE | FOLDER)",
		Short: "Put a policy or a bundle into a registry",
		Long: `Put a module or a bundle into a registry of OCI artifacts, with its signatures. REF
is [oci://]REGISTRY/NAME:TAG. What stdout says names it by its digest, for good.

` + registryWords,
		Example: "  tmcp policy push registry.example/policies/strict:1.2.0 policy.wasm",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s takes a reference and a file, found %d arguments", cmd.CommandPath(), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			b, path, err := readPolicy(cmd, args[1])
			if err != nil {
				return err
			}
			if len(signatures) == 0 {
				if _, err := os.Stat(path + ".cose"); err == nil {
					signatures = []string{path + ".cose"}
				} else if !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			sigs, err := dist.ReadSignatures(signatures, cmd.InOrStdin())
			if err != nil {
				return fileError(err)
			}
			o, err := f.options()
			if err != nil {
				return err
			}
			p, err := dist.Push(cmd.Context(), args[0], b, sigs, o)
			if err != nil {
				return registryError(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), p.Ref)
			word := fmt.Sprintf("with %d signatures", len(p.Signatures))
			if len(p.Signatures) == 0 {
				word = "without a signature: others can't pull it until it is signed and pushed again"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "pushed %s, %s\n", path, word)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&signatures, "signature", nil, "file with signatures; may be repeated (default: the policy's file with .cose)")
	return cmd
}

func policyPullCommand() *cobra.Command {
	var f registryFlags
	var who signerFlags
	var out string
	var unsigned bool
	cmd := &cobra.Command{
		Use:   "pull --out FILE --signer FILE [flags] REF",
		Short: "Get a policy or a bundle from a registry, and verify it",
		Long: `Get a module or a bundle that signers you name have signed. REF is
[oci://]REGISTRY/NAME@sha256:DIGEST, or oci://REGISTRY/NAME:TAG: a tag can be moved
to another policy of the same signers, and stdout says the digest that it had.
Signatures of a module are written to FILE.cose; a bundle has its own.

` + registryWords,
		Example: "  tmcp policy pull oci://registry.example/policies/strict:1.2.0 --signer release.pub --name strict --out policy.wasm",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usagef("%s takes one reference, found %d", cmd.CommandPath(), len(args))
			case out == "":
				return usagef("say where to write it: --out FILE")
			case len(who.keys)+len(who.roots) == 0 && !unsigned:
				return usagef("say who must have signed it: --signer FILE or --signer-ca FILE")
			case len(who.keys)+len(who.roots) > 0 && unsigned:
				return usagef("--allow-unsigned goes without --signer")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := who.trust(cmd)
			if err != nil {
				return err
			}
			o, err := f.options()
			if err != nil {
				return err
			}
			o.Trust, o.AllowUnsigned = t, unsigned
			p, err := dist.Pull(cmd.Context(), args[0], o)
			if err != nil {
				return registryError(err)
			}
			if p.Bundle == nil && len(p.Signatures) > 0 {
				if err := os.WriteFile(out+".cose", slices.Concat(p.Signatures...), 0o644); err != nil {
					return err
				}
			}
			if err := os.WriteFile(out, p.File, 0o644); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), p.Ref)
			word := "signed by nobody that was asked for"
			if p.Verified != nil {
				s := p.Verified.Statement()
				word = fmt.Sprintf("%s version %s, signed by %s", s.Name, s.Version, strings.Join(p.Signers(), ", "))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s: %s\n", out, printable(word))
			return nil
		},
	}
	f.add(cmd)
	who.add(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write it to")
	cmd.Flags().BoolVar(&unsigned, "allow-unsigned", false, "take what the reference names by its digest, whoever made it")
	return cmd
}
