package appraise

import (
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
)

// EAR is the result as an EAT attestation result, one submodule for each device,
// named by its label, or "cpu". Sign it with its methods, or hand it to whoever
// asked in this process as it is.
//
// TMCP-19.4-1: A verifier MUST name the policy that decided by its digest in each attestation
// result.
func (r *Result) EAR() *ear.Result {
	e := &ear.Result{Issuer: r.developer, IssuedAt: r.Made.Truncate(time.Second), Nonce: r.Nonce, Submods: map[string]*ear.Appraisal{},
		Verifier: ear.VerifierID{Developer: r.developer, Build: r.build}}
	if r.Expires.After(r.Made) {
		e.Expires = r.Expires.Truncate(time.Second)
	}
	policies := []string{ear.PolicyID(r.Policy.Digest())}
	for _, d := range r.judged.Parts {
		policies = append(policies, ear.PolicyID(d))
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		label := or(d.Label, "cpu")
		v := r.vector(d)
		if r.judged.Vector != nil {
			v = merge(v, *r.judged.Vector, len(r.Devices) == 1)
		}
		a := &ear.Appraisal{Vector: &v, Policies: policies, Extension: r.extension(d)}
		a.Derive()
		// TMCP-19.5-1: A verifier MUST NOT give a status of affirming to evidence that failed a
		// check, nor to a simulated TEE.
		if r.Verdict != Accepted {
			a.Status = ear.Contraindicated
		}
		e.Submods[label] = a
	}
	if len(e.Submods) == 0 { // nothing could be read
		v := ear.Vector{}
		for i := range v {
			v[i] = ear.CryptoFailed
		}
		e.Submods["cpu"] = &ear.Appraisal{Vector: &v, Policies: policies, Status: ear.Contraindicated, Extension: &ear.Extension{Checks: r.Checks}}
	}
	return e
}

func (r *Result) extension(d *Device) *ear.Extension {
	x := &ear.Extension{Kind: d.Kind, TCB: d.TCB, Checks: r.checksOf(d), NotAfter: r.Expires.Truncate(time.Second)}
	if c := d.Claims; c != nil {
		x.ReportData, x.Platform, x.Debug, x.Simulated = c.ReportData, c.Platform, c.Debug, c.Simulated
	}
	return x
}

// checksOf are a device's own checks and the policy's of it.
func (r *Result) checksOf(d *Device) evidence.Checks {
	c := slices.Clone(d.Checks)
	for _, k := range r.Checks {
		if strings.HasPrefix(k.Name, "policy-") && (len(r.Devices) == 1 || strings.HasSuffix(k.Name, "-"+d.Label) || r.named(k.Name) == 0) {
			c = append(c, k)
		}
	}
	return c
}

// named is how many devices a policy's check may be of, by its name.
func (r *Result) named(check string) (n int) {
	for _, d := range r.Devices {
		if strings.HasSuffix(check, "-"+d.Label) {
			n++
		}
	}
	return n
}

// vector is what the checks come to in AR4SI's terms.
func (r *Result) vector(d *Device) (v ear.Vector) {
	c := d.Claims
	if c == nil {
		for i := range v {
			v[i] = ear.CryptoFailed
		}
		return v
	}
	checks := r.checksOf(d)
	failed := func(prefixes ...string) bool {
		return slices.ContainsFunc(checks.Failed(), func(k evidence.Check) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(k.Name, p) })
		})
	}
	passed := func(prefix string) bool {
		return slices.ContainsFunc(checks, func(k evidence.Check) bool {
			// Peers name their devices: what may be another's counts for nobody.
			return k.Outcome == evidence.Pass && strings.HasPrefix(k.Name, prefix) && r.named(k.Name) <= 1
		})
	}

	switch {
	case failed("binding", "policy-platform"):
		v[ear.InstanceIdentity] = ear.UntrustworthyInstance
	case passed("policy-platform"):
		v[ear.InstanceIdentity] = ear.TrustworthyInstance
	}

	switch {
	case failed("debug", "policy-debug", "policy-migration", "policy-config"):
		v[ear.Configuration] = ear.UnsupportableConfig
	case c.Debug:
		v[ear.Configuration] = ear.UnsafeConfig
	case d.TCB != nil && (d.TCB.Status == evidence.ConfigurationNeeded || d.TCB.Status == evidence.ConfigurationAndSWHardeningNeeded || d.TCB.Status == evidence.OutOfDateConfigurationNeeded):
		v[ear.Configuration] = ear.UnavailableConfig
	case passed("policy-config"):
		v[ear.Configuration] = ear.ApprovedConfig
	}

	ref := d.References
	switch {
	case failed("policy-reference-values", "policy-claim-"):
		v[ear.Executables] = ear.ContraindicatedRuntime
	case ref != nil && ref.Known && ref.Matched, passed("policy-claim-"):
		v[ear.Executables] = ear.ApprovedRuntime
	default:
		v[ear.Executables] = ear.UnrecognizedRuntime
	}

	own := slices.DeleteFunc(d.Checks.Failed(), func(k evidence.Check) bool { return k.Name == "binding" || k.Name == "debug" })
	switch {
	case failed("genuine"):
		v[ear.Hardware] = ear.UnrecognizedHardware
	case len(own) > 0 || failed("policy-tcb", "policy-tee"):
		v[ear.Hardware] = ear.ContraindicatedHardware
	case c.Simulated || d.TCB != nil && d.TCB.Status != "" && d.TCB.Status != evidence.UpToDate:
		v[ear.Hardware] = ear.UnsafeHardware
	default:
		v[ear.Hardware] = ear.GenuineHardware
	}

	switch {
	case c.Debug:
		v[ear.RuntimeOpaque] = ear.VisibleMemory
	case d.Kind == evidence.TDX || d.Kind == evidence.SGX || d.Kind == evidence.SNP:
		v[ear.RuntimeOpaque] = ear.EncryptedMemory
	}
	return v
}

// merge puts the policy's vector over what the checks come to. It says no to what
// is genuine, and never yes to what is not: the worse tier stands. Where
// verification knows nothing, the policy's word does; of several devices that is
// the code alone, since it can't say which of them it means.
func merge(v, policy ear.Vector, one bool) ear.Vector {
	for i, p := range policy {
		was, now := v[i].Tier(), p.Tier()
		switch {
		case i == ear.Executables && v[i] == ear.UnrecognizedRuntime, // for want of reference values
			now != ear.Affirming && was.Better(now),
			was == ear.None && one:
			v[i] = p
		}
	}
	return v
}
