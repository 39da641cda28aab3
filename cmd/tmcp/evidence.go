package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
)

func evidenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Look into evidence of TEEs, and verify it",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(evidenceInspectCommand(), evidenceVerifyCommand())
	return cmd
}

const formats = `FILE is a DCAP quote of TDX or SGX, a report of SEV-SNP, a document of Nitro
Enclaves, a token of Arm CCA, a GPU's report with its certificate chain in a second
FILE, a CMW (RFC 9999) with some of these, or a certificate that carries evidence;
as bytes, hex or base64. - is stdin. The format is told by the bytes.`

func someFiles(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s needs a FILE with evidence; - is stdin", cmd.CommandPath())
	}
	return nil
}

func evidenceInspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect [flags] FILE…",
		Short:   "Show what evidence says, unverified",
		Long:    "Take evidence apart and show what it says. Nothing is verified: whoever wrote the\nfile can have it say anything.\n\n" + formats,
		Example: "  tmcp evidence inspect quote.bin\n  tmcp attest --tee sim | tmcp evidence inspect -",
		Args:    someFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			pieces, err := evidencefile.Load(args, cmd.InOrStdin())
			if err != nil {
				return fileError(err)
			}
			var all []evidencefile.Description
			for i := range pieces {
				all = append(all, evidencefile.Describe(&pieces[i]))
			}
			w := cmd.OutOrStdout()
			if asJSON {
				return printJSON(w, struct {
					Verified bool                       `json:"verified"`
					Evidence []evidencefile.Description `json:"evidence"`
				}{false, all})
			}
			fmt.Fprintln(w, "UNVERIFIED: this is what the evidence says, and anyone can write that")
			for _, d := range all {
				printDescription(w, &d, "")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printDescription(w io.Writer, d *evidencefile.Description, indent string) {
	head := d.Format
	if d.Label != "" {
		head = d.Label + ": " + head
	}
	if d.Type != "" {
		head += ", " + d.Type
	}
	fmt.Fprintf(w, "%s%s, %d bytes\n", indent, head, d.Size)
	width := 0
	for _, f := range d.Fields {
		width = max(width, len(f.Name))
	}
	for _, f := range d.Fields {
		v := printable(f.Value)
		if len(v) >= 16 && strings.Trim(v, "0") == "" {
			v = fmt.Sprintf("zeros, %d bytes", len(v)/2)
		}
		line := fmt.Sprintf("%s  %-*s  %s", indent, width, f.Name, v)
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	if d.Problem != "" {
		fmt.Fprintf(w, "%s  can't be read further: %s\n", indent, printable(d.Problem))
	}
	for i := range d.Records {
		printDescription(w, &d.Records[i], indent+"  ")
	}
}

// printable keeps evidence from writing to the terminal what it likes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// fileError makes a file that is not there wrong usage.
func fileError(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return &exitError{exitUsage, err}
	}
	return err
}

// A report is what tmcp evidence verify prints.
type report struct {
	Verdict   appraise.Verdict `json:"verdict"`
	Checks    evidence.Checks  `json:"checks"`
	TCB       *evidence.TCB    `json:"tcb"`
	EAR       jsontext.Value   `json:"ear"` // claims of the attestation result, unsigned
	Format    string           `json:"format"`
	Simulated bool             `json:"simulated"`
	Policy    struct {
		Name   string `json:"name"`
		Digest string `json:"digest"`
	} `json:"policy"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires,omitzero"`
	Summary string    `json:"summary"`
}

func evidenceVerifyCommand() *cobra.Command {
	var flags appraisalFlags
	var binding bindingFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [flags] FILE…",
		Short: "Verify evidence, and say which check failed and why",
		Long: `Verify evidence to the roots of its vendor, compare it with reference values, and
ask a policy. All that is needed is given: nothing is fetched.

` + formats + `

Without --report-data or --nonce nothing shows that the evidence was made for you,
and the result warns of that. Without --corim measurements are shown and not
compared, unless a policy lists them. A check may pass, warn, fail, or not be
performed (-).

Exit code 0 says accepted, 1 refused, 2 wrong usage.`,
		Example: `  tmcp evidence verify quote.bin --collateral collateral.json
  tmcp evidence verify quote.bin --collateral collateral.json --at 2026-03-19T00:00:00Z --json
  tmcp evidence verify report.bin --collateral vcek.pem --corim values.corim --corim-key signer.pem --nonce 5f2b…
  tmcp evidence verify gpu-report.txt gpu-chain.pem`,
		Args: someFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := binding.parse(); err != nil {
				return err
			}
			a, now, err := flags.load(cmd)
			if err != nil {
				return refuseInput(cmd, asJSON, now, err)
			}
			pieces, err := evidencefile.Load(args, cmd.InOrStdin(), flags.o.Collateral...)
			if err != nil {
				return refuseInput(cmd, asJSON, now, fileError(&appraisal.InputError{Check: "format", Err: err}))
			}
			for _, p := range pieces {
				if p.Item != nil && p.Item.MediaType == evidencefile.TypeJWT {
					if flags.kind() == "" {
						return usagef("%s is an attestation result: say whose are accepted, with --passport KIND=FILE", p.File)
					}
					p.Item.MediaType = appraise.MediaType(flags.kind())
				}
			}
			todo, err := binding.verifications(pieces, now)
			if err != nil {
				return err
			}
			rep, err := verifyAll(a, pieces, todo, now)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), rep)
			} else {
				printReport(cmd.OutOrStdout(), rep)
			}
			if err == nil && rep.Verdict != appraise.Accepted {
				if len(flags.o.Collateral) == 0 && pieces[0].CMW == nil && !flags.o.Simulator && !asJSON {
					fmt.Fprintln(cmd.ErrOrStderr(), "no --collateral was given; what vendors say of platforms comes from: tmcp collateral fetch FILE --out DIR/")
				}
				err = &exitError{exitFailure, errors.New("the evidence is refused")}
			}
			return err
		},
	}
	flags.add(cmd)
	flags.addTime(cmd)
	binding.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// refuseInput says that evidence is refused because a file does not hold what it
// should, in the form that was asked for. Other errors it returns as they are.
func refuseInput(cmd *cobra.Command, asJSON bool, now time.Time, err error) error {
	var bad *appraisal.InputError
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || !errors.As(err, &bad) {
		return err
	}
	if !asJSON {
		return &exitError{exitFailure, bad}
	}
	rep := &report{Verdict: appraise.Refused, At: now.UTC(), Summary: bad.Error()}
	rep.Checks.Add(bad.Check, evidence.Fail, bad.Error())
	if err := printJSON(cmd.OutOrStdout(), rep); err != nil {
		return err
	}
	return &exitError{exitFailure, errors.New("the evidence is refused")}
}

// verifyAll makes the verifications, and one report of them: accepted when all
// are.
func verifyAll(a *appraise.Appraiser, pieces []evidencefile.Piece, todo []verification, now time.Time) (*report, error) {
	rep := &report{Verdict: appraise.Accepted, At: now.UTC()}
	var names []string
	for _, p := range pieces {
		names = append(names, p.Format)
	}
	rep.Format = strings.Join(names, ", ")
	rep.Policy.Name, rep.Policy.Digest = a.Policy().Name(), fmt.Sprintf("%x", a.Policy().Digest())
	if c := pieces[0].Certificate; c != nil {
		o, detail := evidence.Pass, fmt.Sprintf("of %s, valid until %s", printable(c.Subject.String()), c.NotAfter.Format(time.RFC3339))
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			o, detail = evidence.Fail, fmt.Sprintf("valid from %s to %s, and the time is %s", c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
			rep.Verdict = appraise.Refused
		}
		rep.Checks.Add("certificate-validity", o, detail)
	}
	var kinds []string
	for _, v := range todo {
		r := a.Evaluate(v.in)
		for _, d := range r.Devices {
			if d.Kind != "" && !slices.Contains(kinds, string(d.Kind)) {
				kinds = append(kinds, string(d.Kind))
			}
		}
		for _, k := range r.Checks {
			if len(todo) > 1 {
				k.Name += "/" + v.label
			}
			rep.Checks = append(rep.Checks, k)
		}
		if r.Verdict != appraise.Accepted {
			rep.Verdict = appraise.Refused
		}
		rep.Simulated = rep.Simulated || r.Simulated
		if r.TCB != nil && (rep.TCB == nil || r.TCB.Status.Rank() > rep.TCB.Status.Rank()) {
			rep.TCB = r.TCB
		}
		if rep.Expires.IsZero() || r.Expires.Before(rep.Expires) {
			rep.Expires = r.Expires
		}
		if rep.Summary == "" || r.Verdict != appraise.Accepted {
			rep.Summary, _, _ = strings.Cut(r.Explanation(), "\n")
			claims, err := r.EAR().EncodeJSON()
			if err != nil {
				return nil, err
			}
			rep.EAR = claims
		}
	}
	if pieces[0].Item == nil && len(kinds) > 0 {
		rep.Format += " of " + strings.Join(kinds, ", ")
	}
	return rep, nil
}

func printReport(w io.Writer, r *report) {
	fmt.Fprintf(w, "%s: %s\n", strings.ToUpper(string(r.Verdict)), r.Format)
	fmt.Fprintf(w, "  policy %q at %s\n", r.Policy.Name, r.At.Format(time.RFC3339))
	if r.Simulated {
		fmt.Fprintln(w, "  SIMULATED: a simulated TEE proves nothing")
	}
	if t := r.TCB; t != nil {
		fmt.Fprintf(w, "  firmware %s", t.Status)
		if !t.Date.IsZero() {
			fmt.Fprintf(w, ", of %s", t.Date.Format(time.DateOnly))
		}
		if len(t.Advisories) > 0 {
			fmt.Fprintf(w, ", %s", strings.Join(t.Advisories, ", "))
		}
		fmt.Fprintln(w)
	}
	width := 0
	for _, k := range r.Checks {
		width = max(width, len(k.Name))
	}
	// What keeps it from being accepted comes first.
	for _, o := range []evidence.Outcome{evidence.Fail, evidence.Warn, evidence.Pass, evidence.NotPerformed} {
		for _, k := range r.Checks {
			if k.Outcome == o {
				word := string(o)
				if o == evidence.NotPerformed {
					word = "-"
				}
				line := fmt.Sprintf("  %-4s  %-*s  %s", word, width, k.Name, printable(k.Detail))
				fmt.Fprintln(w, strings.TrimRight(line, " "))
			}
		}
	}
}
