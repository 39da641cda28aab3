// Package verifiers lists the verifiers of all TEEs that this module knows.
package verifiers

import (
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cca"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
)

// Options are those that a policy decides. The zero value is for production.
type Options struct {
	// AllowDebug warns of TEEs that can be read from outside, where it is a
	// failure otherwise.
	AllowDebug bool
	// MinEvaluationNumber is the least TCB recovery that Intel's collateral must
	// know of.
	MinEvaluationNumber uint64
	// MinimumSNP and CSPs are what is asked of SEV-SNP; see package sevsnp.
	MinimumSNP map[string]sevsnp.TCB
	CSPs       []string
	// MaxAge is how old a Nitro document may be; default 2 hours. In a key object
	// its freshness is bound beside it.
	MaxAge time.Duration
}

// For returns the verifiers that a policy of rules asks for.
func For(r appraise.Rules) []evidence.Verifier {
	o := Options{AllowDebug: r.Debug, MinEvaluationNumber: r.TCB.MinEvaluationNumber, CSPs: r.TCB.CSPs}
	for line, m := range r.TCB.MinimumSNP {
		if o.MinimumSNP == nil {
			o.MinimumSNP = map[string]sevsnp.TCB{}
		}
		o.MinimumSNP[line] = sevsnp.TCB{FMC: m.FMC, Bootloader: m.Bootloader, TEE: m.TEE, SNP: m.SNP, Microcode: m.Microcode}
	}
	return All(o)
}

// All returns a verifier for each kind of TEE, with caches of their own: make
// them once.
func All(o Options) []evidence.Verifier {
	if o.MaxAge <= 0 {
		o.MaxAge = 2 * time.Hour
	}
	return []evidence.Verifier{
		dcap.New(dcap.Options{AllowDebug: o.AllowDebug, MinEvaluationNumber: o.MinEvaluationNumber}),
		sevsnp.New(sevsnp.Options{AllowDebug: o.AllowDebug, MinimumTCB: o.MinimumSNP, CSPs: o.CSPs}),
		nitro.New(nitro.Options{AllowDebug: o.AllowDebug, MaxAge: o.MaxAge}),
		&nvidia.Verifier{},
		cca.New(cca.Options{AllowDebug: o.AllowDebug}),
	}
}
