package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/policy"
)

// trustFlags say what the suite accepts as the evidence of a server, and who it
// is to servers that ask.
type trustFlags struct {
	simulated      bool
	o              appraisal.Options
	policy         policy.Options
	key, uri, file string
	trust          conformance.Trust
}

func (f *trustFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.simulated, "simulator", false, "attested: accept simulated TEEs, and no others")
	f.policy.AddFlags(fl, "attested: what the server's evidence must meet (default strict, with --simulator simulated)")
	fl.StringArrayVar(&f.o.Collateral, "collateral", nil, "attested: file or directory with what TEE vendors say of platforms; may be repeated")
	fl.StringArrayVar(&f.o.CoRIMs, "corim", nil, "attested: file with signed reference values for the server's code; may be repeated")
	fl.StringArrayVar(&f.o.Keys, "corim-key", nil, "attested: file with a public key (PEM) that may sign reference values; may be repeated")
	fl.StringArrayVar(&f.o.Roots, "corim-ca", nil, "attested: file with roots (PEM) for certificates of those who may; may be repeated")
	fl.StringVar(&f.key, "client-key", "", "mutual: file with the suite's own private key, Ed25519, which the server lets in (tmcp keygen makes one)")
	fl.StringVar(&f.uri, "client-identity", "urn:trustedmcp:conformance", "mutual: URI by which the server is to know the suite")
	fl.StringVar(&f.file, "client-image", "", "mutual: file whose SHA-256 the suite's simulated TEE measures, when the server accepts no other code")
}

// load reads the files. Profiles that were asked for by name must be possible to
// try.
func (f *trustFlags) load(cmd *cobra.Command, profiles []string) error {
	given := f.simulated || f.policy.Given() || len(f.o.Collateral)+len(f.o.CoRIMs)+len(f.o.Keys)+len(f.o.Roots) > 0
	asked := func(p conformance.Profile) bool { return slices.Contains(profiles, string(p)) }
	if !given && (asked(conformance.ProfileAttested) || asked(conformance.ProfileMutual) || asked(conformance.ProfileAttestedTLS)) {
		return usage("say what to accept as the server's evidence: --simulator for simulated TEEs, or --collateral, --corim with --corim-key, and --policy")
	}
	if asked(conformance.ProfileMutual) && f.key == "" {
		return usage("name the suite's own key, which the server lets in, with --client-key FILE: tmcp keygen makes one and prints the thumbprint for tmcp serve --client-pin")
	}
	if err := f.policy.Check(); err != nil {
		return usage("%v", err)
	}
	if given {
		o := f.o
		if f.policy.Stdin = cmd.InOrStdin(); f.policy.Given() {
			p, err := policy.NewLive(cmd.Context(), f.policy)
			if err != nil {
				return usage("%v", err)
			}
			o.Policy = p
		}
		o.Now, o.Stdin, o.Build = time.Now(), cmd.InOrStdin(), "tmcp-conform"
		o.Simulator = f.simulated || f.policy.Simulates()
		a, err := appraisal.Load(cmd.Context(), o)
		if err != nil {
			return usage("%v", err)
		}
		f.trust.Appraiser = a
		if o.Simulator {
			fmt.Fprintln(cmd.ErrOrStderr(), "tmcp-conform: SIMULATED TEEs are accepted, and no others: they prove nothing")
		}
	}
	f.trust.Identity, f.trust.Image = f.uri, sha256.Sum256([]byte("tmcp-conform"))
	if f.file != "" {
		b, err := os.ReadFile(f.file)
		if err != nil {
			return usage("--client-image: %v", err)
		}
		f.trust.Image, f.trust.OtherCode = sha256.Sum256(b), true
	}
	if f.key == "" {
		return nil
	}
	key, err := keyfile.Load(f.key)
	if err != nil {
		return usage("--client-key: %v", err)
	}
	var ok bool
	if f.trust.Key, ok = key.(ed25519.PrivateKey); !ok {
		return usage("--client-key %s: a key of type %T; the suite signs by hand, with Ed25519 only", f.key, key)
	}
	return nil
}
