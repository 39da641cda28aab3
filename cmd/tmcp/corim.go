package main

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/measure"
)

func corimCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "corim",
		Short: "Make, sign and read manifests of reference values",
		Long: `A CoRIM (draft-ietf-rats-corim) says what the evidence of good software looks
like. Who verifies evidence takes it from signers that they know.`,
		Example: `  tmcp measure eif app.eif --json > app.json
  tmcp corim create app.json --out app.corim
  tmcp corim sign app.corim --key release.key --signer "Example Corp" --out app.signed.corim
  tmcp evidence verify doc.cose --corim app.signed.corim --corim-key release.pub`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(corimCreateCommand(), corimSignCommand(), corimInspectCommand(), corimMatchCommand())
	return cmd
}

// manifestFlags say how a manifest is made and signed.
type manifestFlags struct {
	out, id, key, chain, signer string
	days                        int
}

func (f *manifestFlags) add(cmd *cobra.Command, create bool) {
	fl := cmd.Flags()
	fl.StringVarP(&f.out, "out", "o", "", "file to write the manifest to; - is stdout")
	if create {
		fl.StringVar(&f.id, "id", "", "id of the manifest, as https://example.com/app/1.2 (default: the digest of its values)")
	}
	fl.StringVar(&f.key, "key", "", "file with the private key that signs, from tmcp keygen")
	fl.StringVar(&f.chain, "chain", "", "file with the key's certificate chain, leaf first")
	fl.StringVar(&f.signer, "signer", "", "who signs, for people")
	fl.IntVar(&f.days, "days", 365, "how long the signature is valid")
}

// check refuses what does not go together.
func (f *manifestFlags) check() error {
	if f.key != "" && f.signer == "" {
		return usagef("--key signs: say who, with --signer NAME")
	}
	if f.key == "" && (f.signer != "" || f.chain != "") {
		return usagef("--signer and --chain need the key that signs: give --key FILE")
	}
	if f.key != "" && (f.days < 1 || f.days > 36500) {
		return usagef("--days %d: want 1 to 36500", f.days)
	}
	return nil
}

// manifest makes a manifest, of which each set of values is enough.
func (f *manifestFlags) manifest(kind evidence.Kind, sets []map[string]any) (*corim.CoRIM, error) {
	c, err := tee.Manifest("x", kind, sets...)
	if err != nil {
		return nil, err
	}
	id := f.id
	if id == "" {
		b, err := c.Encode()
		if err != nil {
			return nil, err
		}
		id = fmt.Sprintf("%s:%x", kind, sha256.Sum256(b))
	}
	return tee.Manifest(id, kind, sets...)
}

// write signs c, if a key is given, and writes it.
func (f *manifestFlags) write(cmd *cobra.Command, c *corim.CoRIM) error {
	b, err := f.encode(c)
	if err != nil {
		return err
	}
	if f.out == "-" {
		_, err = cmd.OutOrStdout().Write(b)
		return err
	}
	if err := os.WriteFile(f.out, b, 0o644); err != nil {
		return err
	}
	if f.key == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s, not signed; sign with: tmcp corim sign %s --key FILE --signer NAME\n", f.out, f.out)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s, signed as %q\n", f.out, f.signer)
	}
	return nil
}

func (f *manifestFlags) encode(c *corim.CoRIM) ([]byte, error) {
	if f.key == "" {
		return c.Encode()
	}
	key, err := keyfile.Load(f.key)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	s := &corim.Signer{Name: f.signer, Key: key, Validity: corim.Validity{NotBefore: now, NotAfter: now.AddDate(0, 0, f.days)}}
	if f.chain != "" {
		if s.Chain, err = keyfile.LoadChain(f.chain); err != nil {
			return nil, err
		}
	}
	return corim.Sign(c, s)
}

// values are reference values in JSON: what tmcp measure --json prints.
type values struct {
	TEE    evidence.Kind     `json:"tee"`
	Values map[string]string `json:"values"`
	Notes  []string          `json:"notes,omitzero"`
}

func toValues(r *measure.Reference) values {
	v := values{TEE: r.Kind, Values: map[string]string{}, Notes: r.Notes}
	for name, x := range r.Values {
		v.Values[name] = measure.Format(x)
	}
	return v
}

func parseValues(b []byte) (*measure.Reference, error) {
	var v values
	if err := json.Unmarshal(b, &v, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("want what tmcp measure --json prints: %w", err)
	}
	all := &measure.Reference{Kind: v.TEE}
	for name, x := range v.Values {
		ref, err := measure.Parse(name + "=" + x)
		if err == nil {
			ref.Kind = v.TEE // sgx.… are of the kind that it says
			err = all.Merge(ref)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(all.Values) == 0 {
		return nil, errors.New("no values in it")
	}
	return all, nil
}

// merge puts --value NAME=VALUE together.
func merge(into *measure.Reference, args []string) error {
	for _, arg := range args {
		ref, err := measure.Parse(arg)
		if err == nil {
			err = into.Merge(ref)
		}
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("--value %w", err)}
		}
	}
	return nil
}

func corimCreateCommand() *cobra.Command {
	var f manifestFlags
	var vals []string
	cmd := &cobra.Command{
		Use:   "create [flags] (FILE… | --value NAME=VALUE…)",
		Short: "Make a manifest of reference values",
		Long: `Make a manifest. Each FILE is one set of values, as tmcp measure --json prints them,
and evidence that has all values of one set matches. --value gives values by the
names of claims, and makes one set.`,
		Example: `  tmcp corim create release-1.json release-2.json --out app.corim
  tmcp corim create --value tdx.mrtd=91eb2b44… --value tdx.rtmr1=0084452c… --out td.corim --key release.key --signer "Example Corp"`,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 0) == (len(vals) == 0) {
				return usagef("give either files with values, or --value")
			}
			if f.out == "" {
				return usagef("say where to write the manifest: --out FILE")
			}
			return f.check()
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var kind evidence.Kind
			var sets []map[string]any
			one := &measure.Reference{}
			if err := merge(one, vals); err != nil {
				return err
			}
			if len(vals) > 0 {
				kind, sets = one.Kind, append(sets, one.Values)
			}
			for _, name := range args {
				b, err := evidencefile.Read(name, cmd.InOrStdin())
				if err != nil {
					return fileError(err)
				}
				ref, err := parseValues(b)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if kind != "" && ref.Kind != kind {
					return usagef("%s: values of %s beside those of %s; make a manifest for each", name, ref.Kind, kind)
				}
				kind, sets = ref.Kind, append(sets, ref.Values)
			}
			c, err := f.manifest(kind, sets)
			if err != nil {
				return err
			}
			return f.write(cmd, c)
		},
	}
	cmd.Flags().StringArrayVar(&vals, "value", nil, "a value by its claim's name, NAME=VALUE: hex, decimal or text; may be repeated")
	f.add(cmd, true)
	return cmd
}

func corimSignCommand() *cobra.Command {
	var f manifestFlags
	cmd := &cobra.Command{
		Use:     "sign --key FILE --signer NAME FILE",
		Short:   "Sign a manifest",
		Long:    "Sign a manifest (COSE_Sign1). A signature that it has is replaced; its contents stay.",
		Example: `  tmcp corim sign app.corim --key release.key --signer "Example Corp" --out app.signed.corim`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usagef("tmcp corim sign takes one file, found %d", len(args))
			case f.key == "":
				return usagef("say which key signs: --key FILE (make one with tmcp keygen --alg p256)")
			case f.out == "":
				return usagef("say where to write the signed manifest: --out FILE")
			}
			return f.check()
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := readCoRIM(cmd, args[0], false)
			if err != nil {
				return err
			}
			return f.write(cmd, c)
		},
	}
	f.add(cmd, false)
	return cmd
}

func readCoRIM(cmd *cobra.Command, name string, legacy bool) (*corim.CoRIM, *corim.Signature, error) {
	b, err := evidencefile.Read(name, cmd.InOrStdin())
	if err != nil {
		return nil, nil, fileError(err)
	}
	if block, _ := pem.Decode(b); block != nil {
		return nil, nil, fmt.Errorf("%s: PEM %q is no CoRIM", name, block.Type)
	}
	c, s, err := corim.Inspect(b, legacy)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, s, nil
}

func corimInspectCommand() *cobra.Command {
	var asJSON, legacy bool
	cmd := &cobra.Command{
		Use:     "inspect [flags] FILE",
		Short:   "Show what a manifest says, unverified",
		Example: "  tmcp corim inspect app.corim",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("tmcp corim inspect takes one file, found %d; - is stdin", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, s, err := readCoRIM(cmd, args[0], legacy)
			if err != nil {
				return err
			}
			d := describeCoRIM(c, s)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), d)
			}
			d.print(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&legacy, "legacy", false, "read forms of older drafts too")
	return cmd
}

func corimMatchCommand() *cobra.Command {
	var flags appraisalFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "match [flags] FILE…",
		Short: "Compare evidence with reference values, and say what differs",
		Long: `Verify evidence, compare it with the manifests of --corim, and show that
comparison only: whether a policy would accept the evidence is for tmcp evidence
verify to say. Evidence that is not genuine is not compared.

Exit code 0 says that all evidence matches, 1 that some does not.

` + formats,
		Example: `  tmcp corim match quote.bin --corim app.signed.corim --corim-key release.pub --collateral collateral.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(flags.o.CoRIMs) == 0 {
				return usagef("say what to compare with: --corim FILE")
			}
			return someFiles(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, now, err := flags.load(cmd)
			if err != nil {
				return err
			}
			pieces, err := evidencefile.Load(args, cmd.InOrStdin())
			if err != nil {
				return fileError(err)
			}
			todo, err := (&bindingFlags{role: "server"}).verifications(pieces, now)
			if err != nil {
				return err
			}
			type match struct {
				TEE     evidence.Kind `json:"tee"`
				Genuine bool          `json:"genuine"`
				Known   bool          `json:"known"`
				Matched bool          `json:"matched"`
				Detail  string        `json:"detail"`
			}
			var all []match
			ok := true
			for _, v := range todo {
				r := a.Evaluate(v.in)
				if len(r.Devices) == 0 {
					return r.Err()
				}
				for _, d := range r.Devices {
					m := match{TEE: d.Kind, Genuine: d.Claims != nil}
					switch {
					case d.Claims == nil:
						var why []string
						for _, k := range d.Checks.Failed() {
							why = append(why, k.Name+": "+k.Detail)
						}
						m.Detail = "not genuine, and so not compared: " + strings.Join(why, "; ")
					case d.References != nil:
						m.Known, m.Matched, m.Detail = d.References.Known, d.References.Matched, d.References.Detail
					}
					ok = ok && m.Matched
					all = append(all, m)
				}
			}
			w := cmd.OutOrStdout()
			if asJSON {
				if err := printJSON(w, all); err != nil {
					return err
				}
			} else {
				for _, m := range all {
					word := "DIFFERS"
					switch {
					case m.Matched:
						word = "MATCHES"
					case !m.Genuine:
						word = "REFUSED"
					case !m.Known:
						word = "UNKNOWN"
					}
					fmt.Fprintf(w, "%s: %s\n", word, printable(m.Detail))
				}
			}
			if !ok {
				return &exitError{exitFailure, errors.New("the evidence does not match the reference values")}
			}
			return nil
		},
	}
	flags.add(cmd)
	flags.addTime(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
