package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/protocol"
)

// appraisalFlags are those of the commands that appraise.
type appraisalFlags struct {
	o      appraisal.Options
	policy policy.Options
	at     string
	strict bool // the default policy demands reference values, whatever else

	passport, issuer, audience string
}

var passportKinds = []string{string(token.EAR), string(token.TrustAuthority), string(token.AzureMAA), string(token.GoogleCS), string(token.NVIDIANRAS), string(token.AICC)}

// kind is that of the attestation results that are accepted, or "".
func (f *appraisalFlags) kind() token.Kind {
	k, _, _ := strings.Cut(f.passport, "=")
	return token.Kind(k)
}

// passports reads the keys of who may issue attestation results.
func (f *appraisalFlags) passports(cmd *cobra.Command) error {
	if f.passport == "" {
		if f.issuer != "" || f.audience != "" {
			return usagef("--passport-issuer and --passport-audience go with --passport")
		}
		return nil
	}
	_, file, _ := strings.Cut(f.passport, "=")
	if !slices.Contains(passportKinds, string(f.kind())) || file == "" {
		return usagef("--passport %q: want KIND=FILE; KIND is one of %s", f.passport, strings.Join(passportKinds, ", "))
	}
	b, err := evidencefile.Read(file, cmd.InOrStdin())
	if err != nil {
		return fileError(err)
	}
	keys, err := passportKeys(b)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("--passport %s: %w", file, err)}
	}
	p, err := appraise.Tokens(appraise.Issuer{Kind: f.kind(), Keys: keys, Name: f.issuer, Audience: f.audience, Skew: time.Minute})
	if err != nil {
		return &exitError{exitUsage, err}
	}
	f.o.Passports = append(f.o.Passports, p)
	return nil
}

// passportKeys reads a JWKS, or public keys in PEM, whose key id is then their
// thumbprint.
func passportKeys(b []byte) (eat.Keys, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		return token.ParseJWKS(b)
	}
	public, err := appraisal.ParsePublicKeys(b)
	if err != nil {
		return nil, err
	}
	var keys eat.Keys
	for _, key := range public { // by the name that tmcp verifier gives its key
		id, err := protocol.PublicKeyThumbprint(key)
		if err != nil {
			return nil, fmt.Errorf("%w; give other kinds of keys as JWKS", err)
		}
		keys = append(keys, eat.Key{ID: id.String(), Public: key})
	}
	return keys, nil
}

func (f *appraisalFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.o.Collateral, "collateral", nil, "file or directory with what vendors say of platforms, from tmcp collateral fetch; may be repeated")
	fl.StringArrayVar(&f.o.CoRIMs, "corim", nil, "file with reference values (CoRIM); may be repeated")
	fl.StringArrayVar(&f.o.Keys, "corim-key", nil, "file with a public key or certificate (PEM) that may sign reference values; may be repeated")
	fl.StringArrayVar(&f.o.Roots, "corim-ca", nil, "file with roots (PEM) for certificates of those who may; may be repeated")
	fl.BoolVar(&f.o.Unsigned, "corim-unsigned", false, "take reference values that nobody signed, since the files are your own")
	fl.StringArrayVar(&f.o.CCAKeys, "cca-key", nil, "attestation key of an Arm CCA platform, IMPLEMENTATION-ID=FILE: id in hex, public key in PEM; may be repeated")
	fl.StringVar(&f.passport, "passport", "", "accept attestation results: KIND=FILE, the issuer's keys as JWKS or PEM; KIND is "+strings.Join(passportKinds, ", "))
	fl.StringVar(&f.issuer, "passport-issuer", "", "with --passport: the issuer's name (iss), where the kind has no single one")
	fl.StringVar(&f.audience, "passport-audience", "", "with --passport: an audience (aud) that the results must be for")
	f.policy.AddFlags(fl, "what the evidence must meet (default strict, without --corim with any measurement)")
	fl.BoolVar(&f.o.Simulator, "simulator", false, "accept simulated TEEs, and no others: for development")
}

func (f *appraisalFlags) addTime(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.at, "at", "", "time to verify at, as 2026-03-19T00:00:00Z (default: now)")
}

// load makes the appraiser. Whatever is wrong is wrong usage.
func (f *appraisalFlags) load(cmd *cobra.Command) (*appraise.Appraiser, time.Time, error) {
	now := time.Now()
	if f.at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, now, usagef("--at %q: want a time as 2026-03-19T00:00:00Z", f.at)
		}
	}
	f.o.Now, f.o.Stdin, f.o.Build = now, cmd.InOrStdin(), "tmcp "+version()
	if err := f.policy.Check(); err != nil {
		return nil, now, &exitError{exitUsage, err}
	}
	if f.policy.Simulates() {
		f.o.Simulator = true
	}
	var err error
	if f.o.Policy, err = loadPolicies(cmd.Context(), &f.policy, cmd.InOrStdin(), logger(cmd.ErrOrStderr(), false)); err != nil {
		return nil, now, err
	}
	if f.o.Policy == nil && !f.o.Simulator && len(f.o.CoRIMs) == 0 && !f.strict {
		p, err := appraise.NewRules(appraise.Rules{Name: "strict, any measurement", ReferenceValues: "optional", TCB: appraise.TCBRules{Unknown: true}})
		if err != nil {
			return nil, now, err
		}
		f.o.Default = p
	}
	if err := f.passports(cmd); err != nil {
		return nil, now, err
	}
	a, err := appraisal.Load(cmd.Context(), f.o)
	if err != nil {
		return nil, now, &exitError{exitUsage, err}
	}
	return a, now, nil
}

// bindingFlags say what evidence must bind.
type bindingFlags struct{ reportData, nonce, role, identity string }

func (f *bindingFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.reportData, "report-data", "", "what the evidence must bind, in hex; zeros follow up to 64 bytes")
	fl.StringVar(&f.nonce, "nonce", "", "the same, and repeated in the attestation result: a nonce of 8 to 64 bytes in hex")
	fl.StringVar(&f.identity, "identity", "", "for certificates: the URI that the key must be attested for")
	fl.StringVar(&f.role, "role", "server", "for certificates: server or client")
}

// parse returns what is given, or nil.
func (f *bindingFlags) parse() (reportData, nonce []byte, err error) {
	if f.reportData != "" && f.nonce != "" {
		return nil, nil, usagef("give --report-data or --nonce")
	}
	for _, v := range []struct {
		flag, hex string
		min       int
	}{{"report-data", f.reportData, 1}, {"nonce", f.nonce, 8}} {
		if v.hex == "" {
			continue
		}
		b, err := hex.DecodeString(v.hex)
		if err != nil || len(b) < v.min || len(b) > protocol.ReportDataSize {
			return nil, nil, usagef("--%s %.40q: want %d to %d bytes in hex", v.flag, v.hex, v.min, protocol.ReportDataSize)
		}
		if reportData = b; v.flag == "nonce" {
			nonce = b
		}
	}
	if f.role != "server" && f.role != "client" {
		return nil, nil, usagef("--role %q: want server or client", f.role)
	}
	return reportData, nonce, nil
}

// A verification is one appraisal to make.
type verification struct {
	label string
	in    appraise.Input
}

// verifications are those that files need: one for each statement of a
// certificate, or one for all the rest together.
func (f *bindingFlags) verifications(pieces []evidencefile.Piece, now time.Time) ([]verification, error) {
	reportData, nonce, err := f.parse()
	if err != nil {
		return nil, err
	}
	in := appraise.Input{Nonce: nonce, Now: now}
	if p := pieces[0]; p.Certificate != nil {
		if len(pieces) > 1 {
			return nil, usagef("give a certificate alone: %d files are given", len(pieces))
		}
		if reportData != nil {
			return nil, usagef("a certificate says itself what its evidence must bind: leave out --report-data and --nonce")
		}
		role := protocol.RoleServer
		if f.role == "client" {
			role = protocol.RoleClient
		}
		var all []verification
		for _, s := range p.Statements {
			if s.Bound() && f.identity == "" {
				return nil, usagef("the certificate's evidence names whom it is for: say whom you mean with --identity URI")
			}
			e, err := s.Evidence(role, f.identity, now)
			if err != nil {
				return nil, err
			}
			in.CMW, in.ReportData = e.CMW, e.ReportData[:]
			all = append(all, verification{string(s.Form), in})
		}
		return all, nil
	}
	var items []evidence.Item
	gpus := 0
	for i := range pieces {
		p := &pieces[i]
		switch {
		case p.Certificate != nil || p.CMW != nil && len(pieces) > 1:
			return nil, usagef("%s: give a CMW or a certificate alone", p.File)
		case p.CMW != nil:
			in.CMW = p.CMW
			continue
		}
		items = append(items, *p.Item)
		if p.Item.MediaType == evidence.TypeNVIDIA {
			gpus++
		}
	}
	in.Items = items
	in.Alone = in.CMW == nil && gpus == len(items)
	switch {
	case reportData == nil:
		in.Unbound = true
	case in.Alone: // a GPU's nonce has 32 bytes, and no zeros
		in.ReportData = reportData
	default:
		in.ReportData = append(slices.Clone(reportData), make([]byte, protocol.ReportDataSize-len(reportData))...)
	}
	return []verification{{"", in}}, nil
}
