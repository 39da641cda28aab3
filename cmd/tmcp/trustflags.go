package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/tee"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

const defaultEvidenceAge = 2 * time.Hour

// trustFlags are those of serve and connect that are about attestation: what
// this side proves, and what it demands of the other.
type trustFlags struct {
	profile  string
	tee      string
	interval time.Duration
	tlsMode  string
	tlsForm  string

	verifier     string   // URL: who appraises the other side's evidence for us
	verifierKey  string   // file with the key of its results
	passportFrom string   // URL: who appraises ours, for us to show the result
	passports    []string // KIND=FILE[,ISSUER]: whose results are accepted
	simulator    bool
	o            appraisal.Options
	policy       policy.Options
	loaded       *policy.Live // of policy, once load was called
	maxAge       time.Duration
}

// add declares the flags. other is the other side, for people.
func (f *trustFlags) add(cmd *cobra.Command, other string) {
	fl := cmd.Flags()
	fl.StringVar(&f.profile, "profile", string(protocol.ProfileIdentity), "what is proven: identity; attested: the server's code too; mutual: both sides' code; attested-tls: the server's code, to the end of the TLS connection, without seals; aicc-0.1: as the deployed AICC Trusted MCP has it, weaker")
	fl.StringVar(&f.tlsMode, "tls-mode", string(attestedtls.ModeExporter), "profile attested-tls: exporter, bound to each connection; or certificate, as other RA-TLS does (weaker)")
	fl.StringVar(&f.tlsForm, "tls-form", string(x509ev.CMW), "evidence in certificates: cmw, dice-cmw, or tagged-quote, which other projects' RA-TLS reads and which binds the key alone")
	fl.StringVar(&f.tee, "tee", tee.Auto, "the TEE that this runs in: auto, tdx, sev-snp, cca, nitro, or sim (proves nothing; for development)")
	fl.DurationVar(&f.interval, "evidence-interval", time.Hour, "how often evidence is made anew, with a new attested key")
	f.policy.AddFlags(fl, "what the "+other+"'s evidence must meet, and what decides about calls (default strict, for evidence alone)")
	fl.StringArrayVar(&f.o.Collateral, "collateral", nil, "file or directory with what TEE vendors say of platforms; may be repeated")
	fl.StringArrayVar(&f.o.CoRIMs, "corim", nil, "file with signed reference values for the "+other+"'s code; may be repeated")
	fl.StringArrayVar(&f.o.Keys, "corim-key", nil, "file with a public key (PEM) that may sign reference values; may be repeated")
	fl.StringArrayVar(&f.o.Roots, "corim-ca", nil, "file with roots (PEM) for certificates of those who may; may be repeated")
	fl.StringVar(&f.verifier, "verifier", "", "URL of a verifier (challenge-response API) that appraises the "+other+"'s evidence, in place of this command")
	fl.StringVar(&f.verifierKey, "verifier-key", "", "file with the public key (PEM) of attestation results of --verifier and --passport-from")
	fl.StringVar(&f.passportFrom, "passport-from", "", "URL of a verifier that appraises our own evidence; its result is shown in place of the evidence")
	fl.StringArrayVar(&f.passports, "passport", nil, "KIND=FILE[,ISSUER]: accept attestation results of that kind (ear, intel-trust-authority, azure-maa, google-confidential-space, nvidia-nras, aicc) signed with the keys in FILE (JWKS or PEM); ISSUER is its name (iss; of an ear default \""+defaultIssuer+"\"); may be repeated")
	fl.BoolVar(&f.simulator, "simulator", false, "accept simulated TEEs of the "+other+", and no others: for development; --tee sim says so too")
	fl.DurationVar(&f.maxAge, "evidence-age", defaultEvidenceAge, "how old the "+other+"'s evidence may be")
}

// Flags that say something only where evidence is made or judged. A policy that is
// given and not asked would be believed to hold, so none is passed over.
var (
	flagsOfOwn   = []string{"tee", "evidence-interval", "passport-from"}
	flagsOfOther = []string{"simulator", "collateral", "corim", "corim-key", "corim-ca", "verifier", "passport", "evidence-age"}
)

// check refuses what does not go together, before anything is started. own says
// what to do for flags about this side's evidence to mean something, and is empty
// when they do; other is the same of those about the other side's.
func (f *trustFlags) check(cmd *cobra.Command, own, other string) error {
	if err := f.values(); err != nil {
		return err
	}
	idle := func(names []string, instead string) error {
		for _, name := range names {
			// tmcp connect --tee sim accepts simulated servers.
			if name == "tee" && other == "" && f.simulatedTEE() || instead == "" || !cmd.Flags().Changed(name) {
				continue
			}
			return usagef("--%s means nothing with --profile %s: %s, or leave it out", name, f.profile, instead)
		}
		return nil
	}
	tls := ""
	if !f.is(protocol.ProfileAttestedTLS) {
		tls = "say --profile attested-tls"
	}
	if err := cmp.Or(idle(flagsOfOther, other), idle(flagsOfOwn, own), idle([]string{"tls-mode", "tls-form"}, tls)); err != nil {
		return err
	}
	if f.verifierKey != "" && f.verifier == "" && f.passportFrom == "" {
		return usagef("--verifier-key goes with --verifier or --passport-from")
	}
	if cmd.Flags().Changed("tls-form") && f.tlsMode != string(attestedtls.ModeCertificate) {
		return usagef("--tls-form goes with --tls-mode certificate: in the mode exporter evidence does not stand in certificates")
	}
	if len(f.o.CoRIMs) > 0 && len(f.o.Keys)+len(f.o.Roots) == 0 {
		return usagef("say who may sign the reference values: --corim-key FILE or --corim-ca FILE")
	}
	if err := f.policy.Check(); err != nil {
		return &exitError{exitUsage, err}
	}
	strict := !slices.ContainsFunc(f.policy.Names, func(name string) bool { return name != policy.Strict }) && !f.simulated()
	if other == "" && strict && f.verifier == "" && len(f.o.CoRIMs)+len(f.passports) == 0 {
		return usagef("nothing says which code is accepted: give reference values (--corim FILE --corim-key FILE), a policy that lists measurements (--policy FILE), or a verifier (--verifier URL --verifier-key FILE); for simulated TEEs, in development, --simulator")
	}
	return nil
}

// values refuses flags that make no sense by themselves.
func (f *trustFlags) values() error {
	p := []string{string(protocol.ProfileIdentity), string(protocol.ProfileAttested), string(protocol.ProfileMutual), string(protocol.ProfileAttestedTLS)}
	if !slices.Contains(p, f.profile) {
		return usagef("--profile %q: want identity, attested, mutual, attested-tls or aicc-0.1", f.profile)
	}
	if f.tlsMode != string(attestedtls.ModeExporter) && f.tlsMode != string(attestedtls.ModeCertificate) {
		return usagef("--tls-mode %q: want exporter or certificate", f.tlsMode)
	}
	if forms := []string{string(x509ev.CMW), string(x509ev.DICECMW), string(x509ev.TaggedQuote)}; !slices.Contains(forms, f.tlsForm) {
		return usagef("--tls-form %q: want one of %v", f.tlsForm, forms)
	}
	if !slices.Contains(tee.Names, f.tee) {
		return usagef("--tee %q: want one of %v", f.tee, tee.Names)
	}
	if f.interval < time.Minute || f.interval > 24*time.Hour {
		return usagef("--evidence-interval %v: want 1m to 24h", f.interval)
	}
	if f.maxAge < time.Minute {
		return usagef("--evidence-age %v: want a minute or more", f.maxAge)
	}
	return nil
}

// tls is how attested TLS is spoken.
func (f *trustFlags) tls() *gateway.TLS {
	t := &gateway.TLS{Mode: attestedtls.Mode(f.tlsMode), Form: x509ev.Form(f.tlsForm), MaxAge: f.maxAge}
	if t.Form == x509ev.TaggedQuote { // one who writes it reads it of others
		t.Forms = []x509ev.Form{x509ev.CMW, x509ev.DICECMW, x509ev.TaggedQuote, x509ev.Gramine}
	}
	return t
}

// hint is what a client's command needs beside, for people. keys says that it
// must show who it is.
func (f *trustFlags) hint(keys bool) string {
	s := ""
	if !f.is(protocol.ProfileIdentity) {
		s = " --profile " + f.profile
	}
	if f.is(protocol.ProfileAttestedTLS) {
		s += " --tls-mode " + f.tlsMode
		if f.tlsForm != string(x509ev.CMW) {
			s += " --tls-form " + f.tlsForm
		}
	}
	if keys {
		s += " --client-key FILE"
	}
	if f.passportFrom != "" {
		s += " --passport ear=FILE"
	}
	if !f.is(protocol.ProfileIdentity) && f.interval > defaultEvidenceAge-15*time.Minute { // they'd refuse it as stale
		s += fmt.Sprintf(" --evidence-age %v", f.interval+time.Hour)
	}
	switch {
	case f.is(protocol.ProfileIdentity):
	case f.simulated() && keys && !f.is(protocol.ProfileAttested):
		s += " --tee sim"
	case f.simulated():
		s += " --simulator"
	case f.passportFrom == "":
		s += " --collateral FILE --corim FILE --corim-key FILE"
	}
	return s
}

// simulated reports whether simulated TEEs are accepted. Both sides are for
// development when this side's TEE is a simulation.
func (f *trustFlags) simulated() bool {
	return f.simulator || f.policy.Simulates() || f.simulatedTEE()
}

// simulatedTEE reports whether this side's TEE is a simulation.
func (f *trustFlags) simulatedTEE() bool { return strings.HasPrefix(f.tee, tee.Sim) }

// ownImage is the SHA-256 of this program, which is what a simulated TEE measures:
// tmcp measure predicts its measurements from the file.
func ownImage() (digest [32]byte, err error) {
	name, err := os.Executable()
	if err != nil {
		return digest, err
	}
	file, err := os.Open(name)
	if err != nil {
		return digest, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return digest, err
	}
	return [32]byte(h.Sum(nil)), nil
}

func (f *trustFlags) is(p protocol.Profile) bool { return f.profile == string(p) }

// attestation opens the TEE, and says what it binds beside the code: a digest of
// what this command was told.
func (f *trustFlags) attestation(cmd *cobra.Command, config []byte) (*protocol.Attestation, error) {
	var o tee.Options
	if f.simulatedTEE() {
		var err error
		if o.Simulated.Image, err = ownImage(); err != nil {
			return nil, err
		}
		// TCG's extension has no place for what is stapled, and who accepts simulated
		// TEEs has their collateral.
		o.Simulated.Bare = f.tlsForm != string(x509ev.CMW)
	}
	a, info, err := tee.Open(cmd.Context(), f.tee, o)
	if err != nil {
		return nil, &exitError{exitUnreachable, err}
	}
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "tmcp %s: attested by %s (%s)\n", cmd.Name(), info.Kind, info.Source)
	if info.Simulated {
		fmt.Fprintln(w, "  SIMULATED: it proves nothing; for development only")
	}
	if f.passportFrom != "" {
		c, err := f.client(f.passportFrom)
		if err != nil {
			return nil, err
		}
		a = c.Passport(a, time.Now)
	}
	return &protocol.Attestation{Attester: a, Config: config, Interval: f.interval}, nil
}

// appraiser makes what judges the other side's evidence.
//
// The digest is of the policy; nil when a remote verifier has its own.
func (f *trustFlags) appraiser(cmd *cobra.Command) (_ protocol.Appraiser, digest []byte, err error) {
	if f.verifier != "" {
		if f.loaded != nil && f.loaded.Appraises() != nil || len(f.o.CoRIMs)+len(f.o.Collateral)+len(f.passports) > 0 {
			return nil, nil, usagef("--verifier has its own policy, collateral and reference values: leave ours out")
		}
		c, err := f.client(f.verifier)
		return c, nil, err
	}
	for _, spec := range f.passports {
		p, err := f.passport(spec, cmd.InOrStdin())
		if err != nil {
			return nil, nil, err
		}
		f.o.Passports = append(f.o.Passports, p)
	}
	f.o.Now, f.o.Stdin, f.o.Build = time.Now(), cmd.InOrStdin(), "tmcp "+version()
	f.o.Simulator, f.o.Policy = f.simulated(), f.loaded
	a, err := appraisal.Load(cmd.Context(), f.o)
	if err != nil { // whatever is wrong with the files is wrong usage
		return nil, nil, &exitError{exitUsage, err}
	}
	if f.o.Simulator {
		fmt.Fprintf(cmd.ErrOrStderr(), "tmcp %s: SIMULATED TEEs are accepted, and no others: they prove nothing; for development only\n", cmd.Name())
	}
	d := a.Policy().Digest()
	return a, d[:], nil
}

// load loads the policies that are named. judges says that evidence of the other
// side is judged; without it only what decides about calls means something, and
// instead says what to do for that. The caller calls done in the end.
func (f *trustFlags) load(cmd *cobra.Command, judges bool, instead string, log *slog.Logger) (ask transport.Authorizer, done func(), err error) {
	if !f.policy.Given() {
		return nil, func() {}, nil
	}
	f.policy.Audit = audit(log)
	if f.loaded, err = loadPolicies(cmd.Context(), &f.policy, cmd.InOrStdin(), log); err != nil {
		return nil, nil, err
	}
	done = reloading(cmd.Context(), f.loaded, log)
	if ask = f.loaded.Authorizes(); ask == nil && !judges {
		done()
		return nil, nil, usagef("--policy %s says nothing of calls, and --profile %s judges no evidence of the other side: %s, or leave it out", strings.Join(f.policy.Names, ", "), f.profile, instead)
	}
	return ask, done, nil
}

// audit logs what policies decided about calls. What callers and modules say is
// quoted by the logger, and of what callers say there are at most so many
// characters: they choose how long it is, and how often they are denied.
func audit(log *slog.Logger) func(*transport.Call, protocol.Digest, *policywasm.Verdict) {
	return func(c *transport.Call, by protocol.Digest, v *policywasm.Verdict) {
		name, _ := jsonrpc.Text(jsonrpc.Get(c.Params, "name"))
		said := func(s string) string { return fmt.Sprintf("%.200s", s) }
		log.Warn("call", "decision", v.Decision.String(), "policy", hex.EncodeToString(by[:]), "kind", string(c.Kind), "method", said(c.Method), "name", said(name), "peer", said(c.Party.Identity), "why", v.Why)
	}
}

// client is of a remote verifier.
func (f *trustFlags) client(url string) (*verifier.Client, error) {
	if f.verifierKey == "" {
		return nil, usagef("name the key of the verifier's results with --verifier-key FILE: one that it tells itself would prove nothing")
	}
	keys, err := appraisal.PublicKeys(f.verifierKey, nil)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--verifier-key: %w", err)}
	}
	c, err := verifier.NewClient(verifier.ClientConfig{URL: url, Keys: keys, Simulated: f.simulated()})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

// defaultIssuer is what tmcp verifier calls itself without --issuer.
const defaultIssuer = "tmcp verifier"

// passport reads KIND=FILE[,ISSUER].
func (f *trustFlags) passport(spec string, stdin io.Reader) (appraise.Passport, error) {
	kind, rest, ok := strings.Cut(spec, "=")
	if !ok || rest == "" || !slices.Contains(passportKinds, kind) {
		return nil, usagef("--passport %q: want KIND=FILE[,ISSUER], KIND one of %v", spec, passportKinds)
	}
	file, issuer, _ := strings.Cut(rest, ",")
	b, err := evidencefile.Read(file, stdin)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--passport: %w", err)}
	}
	i := appraise.Issuer{Kind: token.Kind(kind), Name: issuer}
	if i.Kind == token.EAR && issuer == "" {
		i.Name = defaultIssuer
	}
	if i.Keys, err = passportKeys(b); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--passport %s: %w", file, err)}
	}
	return appraise.Tokens(i)
}
