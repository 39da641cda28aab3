package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/tee"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// trustFlags are those of serve and connect that are about attestation: what
// this side proves, and what it demands of the other.
type trustFlags struct {
	profile  string
	tee      string
	interval time.Duration
	tlsMode  string
	tlsForm  string
	o        appraisal.Options
	maxAge   time.Duration
}

// add declares the flags. other is the other side, for people.
func (f *trustFlags) add(cmd *cobra.Command, other string) {
	fl := cmd.Flags()
	fl.StringVar(&f.profile, "profile", string(protocol.ProfileIdentity), "what is proven: identity; attested: the server's code too; mutual: both sides' code; attested-tls: the server's code, to the end of the TLS connection, without seals")
	fl.StringVar(&f.tlsMode, "tls-mode", string(attestedtls.ModeExporter), "profile attested-tls: exporter, bound to each connection; or certificate, as other RA-TLS does (weaker)")
	fl.StringVar(&f.tlsForm, "tls-form", string(x509ev.CMW), "evidence in certificates: cmw, dice-cmw, or tagged-quote, which other projects' RA-TLS reads and which binds the key alone")
	fl.StringVar(&f.tee, "tee", tee.Auto, "the TEE that this runs in: auto, tdx, sev-snp, cca, nitro, or sim (proves nothing; for development)")
	fl.DurationVar(&f.interval, "evidence-interval", time.Hour, "how often evidence is made anew, with a new attested key")
	fl.StringVar(&f.o.Policy, "policy", "", "policy that the "+other+"'s evidence must meet: strict (default), simulated, or a file of rules")
	fl.StringArrayVar(&f.o.Collateral, "collateral", nil, "file or directory with what TEE vendors say of platforms; may be repeated")
	fl.StringArrayVar(&f.o.CoRIMs, "corim", nil, "file with signed reference values for the "+other+"'s code; may be repeated")
	fl.StringArrayVar(&f.o.Keys, "corim-key", nil, "file with a public key (PEM) that may sign reference values; may be repeated")
	fl.StringArrayVar(&f.o.Roots, "corim-ca", nil, "file with roots (PEM) for certificates of those who may; may be repeated")
	fl.DurationVar(&f.maxAge, "evidence-age", 2*time.Hour, "how old the "+other+"'s evidence may be")
}

// check refuses what does not go together, before anything is started.
func (f *trustFlags) check() error {
	p := []string{string(protocol.ProfileIdentity), string(protocol.ProfileAttested), string(protocol.ProfileMutual), string(protocol.ProfileAttestedTLS)}
	if !slices.Contains(p, f.profile) {
		return usagef("--profile %q: want identity, attested, mutual or attested-tls", f.profile)
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

// hint is what the other side's command needs beside, for people.
func (f *trustFlags) hint() string {
	s := ""
	switch {
	case f.is(protocol.ProfileMutual):
		s = " --profile mutual --client-key FILE"
	case f.is(protocol.ProfileAttested):
		s = " --profile attested"
	case f.is(protocol.ProfileAttestedTLS):
		s = " --profile attested-tls --tls-mode " + f.tlsMode
		if f.tlsForm != string(x509ev.CMW) {
			s += " --tls-form " + f.tlsForm
		}
	default:
		return ""
	}
	if f.simulated() {
		return s + " --tee sim"
	}
	return s + " --collateral FILE --corim FILE --corim-key FILE"
}

// simulated reports whether this side's TEE is a simulation. Both sides are for
// development then.
func (f *trustFlags) simulated() bool { return strings.HasPrefix(f.tee, tee.Sim) }

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
	if f.simulated() {
		var err error
		if o.Simulated.Image, err = ownImage(); err != nil {
			return nil, err
		}
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
	return &protocol.Attestation{Attester: a, Config: config, Interval: f.interval}, nil
}

// appraiser makes what judges the other side's evidence. With --tee sim the
// other side may be simulated too, since both are for development then.
func (f *trustFlags) appraiser(cmd *cobra.Command) (*appraise.Appraiser, error) {
	f.o.Now, f.o.Stdin, f.o.Build = time.Now(), cmd.InOrStdin(), "tmcp "+version()
	f.o.Simulator = f.simulated() || f.o.Policy == appraisal.Simulated
	a, err := appraisal.Load(f.o)
	if err != nil {
		return nil, err
	}
	if f.o.Simulator {
		fmt.Fprintf(cmd.ErrOrStderr(), "tmcp %s: SIMULATED TEEs are accepted, and no others: they prove nothing; for development only\n", cmd.Name())
	}
	return a, nil
}
