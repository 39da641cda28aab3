package appraise

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// Rules are an appraisal policy as data: a JSON object with these members, all
// optional but name. What is left out is as strict as it can be. Unknown members
// are errors.
type Rules struct {
	Name string `json:"name"`
	// TEEs lists the kinds that are accepted. Default: all.
	TEEs []evidence.Kind `json:"tees,omitempty"`
	// Development accepts simulated TEEs, and nothing else: a policy is for
	// production or for development, never for both.
	Development bool `json:"development,omitempty"`
	// Debug accepts TEEs that can be read from outside.
	Debug bool `json:"debug,omitempty"`
	// Migration accepts TEEs that a migration agent can take elsewhere: SEV-SNP guests
	// whose policy allows one, TDs that are migratable or have a service TD. The host
	// chooses the agent when it starts the TEE, no measurement of the code shows it,
	// and it can read all memory. A TD's may be listed in Claims as
	// tdx.mrservicetd instead, where the quote tells it.
	Migration bool `json:"migration,omitempty"`

	TCB TCBRules `json:"tcb,omitzero"`

	// ReferenceValues says whether measurements must match a CoRIM: "required"
	// (default), or "optional": then a mismatch is a failure all the same, and a
	// lack of reference values is not.
	ReferenceValues string `json:"reference_values,omitempty"`
	// Claims lists for a claim the values that are accepted: hex for bytes, else
	// text, a decimal number, true or false. A claim that is not there is refused.
	// It stands in for reference values where there are no CoRIMs. A CPU's TEE of a
	// kind of which none is listed, beside others, needs reference values.
	Claims map[string][]string `json:"claims,omitempty"`
	// Config lists the configuration digests that are accepted, in hex. Empty: any,
	// or none, unless ConfigRequired.
	Config         []string `json:"config,omitempty"`
	ConfigRequired bool     `json:"config_required,omitempty"`
	// Platforms and DenyPlatforms list platform instances in hex, by what the
	// table of claims calls Platform.
	Platforms     []string `json:"platforms,omitempty"`
	DenyPlatforms []string `json:"deny_platforms,omitempty"`
	// GPU demands a GPU whose evidence is bound to the CPU's.
	GPU bool `json:"gpu,omitempty"`
	// Checks lists checks that must have been performed and passed: what is not
	// performed, or a warning, fails then.
	Checks []string `json:"checks,omitempty"`
}

// TCBRules say which firmware is good enough.
type TCBRules struct {
	// Accept lists statuses. Default: UpToDate. Revoked and Unrecognized can't be
	// accepted.
	Accept []evidence.TCBStatus `json:"accept,omitempty"`
	// GraceDays accepts OutOfDate and OutOfDateConfigurationNeeded for so many days
	// after the first newer level was dated.
	GraceDays int `json:"grace_days,omitempty"`
	// DenyAdvisories refuses firmware to which one of them applies, whatever its
	// status.
	DenyAdvisories []string `json:"deny_advisories,omitempty"`
	// AllowAdvisories, if not empty, are the only ones accepted.
	AllowAdvisories []string `json:"allow_advisories,omitempty"`
	// MinEvaluationNumber is the least number of TCB recoveries that collateral must
	// know of.
	MinEvaluationNumber uint64 `json:"min_evaluation_number,omitempty"`
	// Unknown accepts TEEs whose vendor gives no status of their firmware: Nitro, CCA
	// and NVIDIA's GPUs, and SEV-SNP without MinimumSNP.
	Unknown bool `json:"unknown,omitempty"`
	// MinimumSNP is the oldest firmware of SEV-SNP by product line: Milan, Genoa (and
	// Bergamo, Siena), Turin. AMD's bulletins say which versions fix what. A line that
	// is not listed is refused then.
	MinimumSNP map[string]SNPFirmware `json:"minimum_snp,omitempty"`
	// CSPs are the cloud providers whose keys (VLEK) are accepted for SEV-SNP, as
	// AMD names them. Empty: any.
	CSPs []string `json:"csps,omitempty"`
}

// SNPFirmware are the security version numbers of SEV-SNP's firmware.
type SNPFirmware struct {
	FMC        uint8 `json:"fmc,omitempty"` // Turin only
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// A RulesPolicy is a [Policy] of rules.
type RulesPolicy struct {
	rules  Rules
	digest protocol.Digest
}

// Strict is the policy for production: genuine TEEs without debug, firmware that
// is up to date, measurements that match reference values.
func Strict() *RulesPolicy {
	return must(NewRules(Rules{Name: "strict", TCB: TCBRules{Unknown: true}}))
}

// Simulated is the policy for development: simulated TEEs only, any measurement.
func Simulated() *RulesPolicy {
	return must(NewRules(Rules{Name: "simulated", Development: true, ReferenceValues: "optional", TCB: TCBRules{Unknown: true}}))
}

func must(p *RulesPolicy, err error) *RulesPolicy {
	if err != nil {
		panic(err) // constants of this package
	}
	return p
}

const maxRules = 1 << 20 // bytes

// ParseRules reads a policy from JSON. The digest is of its values, not of their
// spelling.
func ParseRules(b []byte) (*RulesPolicy, error) {
	if err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: maxRules}); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var r Rules
	if err := json.Unmarshal(b, &r, json.RejectUnknownMembers(true)); err != nil {
		var at *json.SemanticError
		switch {
		case errors.As(err, &at) && errors.Is(err, json.ErrUnknownName):
			return nil, fmt.Errorf("policy: %.200q is no member of a policy", string(at.JSONPointer))
		case errors.As(err, &at):
			return nil, fmt.Errorf("policy: the value of %.200q is a %v that does not belong there, or out of range", string(at.JSONPointer), at.JSONKind)
		}
		return nil, fmt.Errorf("policy: %w", err)
	}
	return NewRules(r)
}

// NewRules checks rules.
func NewRules(r Rules) (*RulesPolicy, error) {
	fail := func(format string, args ...any) (*RulesPolicy, error) {
		return nil, fmt.Errorf("policy %q: "+format, append([]any{r.Name}, args...)...)
	}
	if r.Name == "" || len(r.Name) > 200 {
		return nil, errors.New("policy: give it a name, of at most 200 bytes")
	}
	kinds := []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.NVIDIA, evidence.CCA}
	for _, k := range r.TEEs {
		if !slices.Contains(kinds, k) {
			return fail("tees: %q is not one of %v", k, kinds)
		}
	}
	for _, s := range r.TCB.Accept {
		if s.Rank() >= evidence.Revoked.Rank() {
			return fail("tcb.accept: %q can't be accepted, or is no status", s)
		}
	}
	if r.TCB.GraceDays < 0 || r.TCB.GraceDays > 3650 {
		return fail("tcb.grace_days: %d, want 0 to 3650", r.TCB.GraceDays)
	}
	if !slices.Contains([]string{"", "required", "optional"}, r.ReferenceValues) {
		return fail("reference_values: %q, want required or optional", r.ReferenceValues)
	}
	if r.Development && (len(r.Platforms) > 0 || r.GPU && len(r.TEEs) > 0 && !slices.Contains(r.TEEs, evidence.NVIDIA)) {
		return fail("development: what it asks of platforms can't be met by a simulator")
	}
	for name, list := range map[string][]string{"config": r.Config, "platforms": r.Platforms, "deny_platforms": r.DenyPlatforms} {
		for i, h := range list {
			b, err := hex.DecodeString(h)
			if err != nil || len(b) == 0 || name == "config" && len(b) != sha256.Size {
				return fail("%s: %.140q is not hex of the right length", name, h)
			}
			list[i] = hex.EncodeToString(b)
		}
	}
	for line := range r.TCB.MinimumSNP {
		if !slices.Contains([]string{"Milan", "Genoa", "Turin"}, line) {
			return fail("tcb.minimum_snp: %q is no product line; want Milan, Genoa or Turin", line)
		}
	}
	for name, values := range r.Claims {
		if len(values) == 0 {
			return fail("claims: %q lists no value; leave it out", name)
		}
		if !slices.ContainsFunc(kinds, func(k evidence.Kind) bool { return isOf(name, k) }) {
			return fail("claims: no TEE has a claim %q, so it would not be looked at; names are like tdx.mrtd", name)
		}
	}
	b, err := json.Marshal(r, json.Deterministic(true))
	if err != nil {
		return fail("%v", err)
	}
	e := dcbor.AppendText(dcbor.AppendArray(nil, 2), "org.trustedmcp/trust v1 policy")
	if e, err = dcbor.FromJSON(e, b); err != nil {
		return fail("%v", err)
	}
	return &RulesPolicy{r, sha256.Sum256(e)}, nil
}

// Rules are what the policy was made of. They must not be changed.
func (p *RulesPolicy) Rules() Rules { return p.rules }

// Name is the policy's own.
func (p *RulesPolicy) Name() string { return p.rules.Name }

// Digest is SHA-256 over the deterministic CBOR array [label "policy", rules].
func (p *RulesPolicy) Digest() protocol.Digest { return p.digest }

// Development reports whether the policy is for simulated TEEs.
func (p *RulesPolicy) Development() bool { return p.rules.Development }

// Decide judges what was verified.
func (p *RulesPolicy) Decide(f *Facts) evidence.Checks {
	var c evidence.Checks
	gpus, cpus := 0, 0
	for i := range f.Devices {
		d := &f.Devices[i]
		if d.Kind == evidence.NVIDIA {
			if d.Claims == nil || d.Claims.Values["nvidia.arch"] != "LS10" { // an NVSwitch
				gpus++
			}
		} else {
			cpus++
		}
		p.device(&c, d, f)
	}
	if cpus == 0 && len(f.Devices) > 0 && !f.Alone {
		c.Add("policy-cpu", evidence.Fail, "no evidence of a CPU's TEE: a GPU alone runs nobody's code")
	}
	if p.rules.GPU {
		add(&c, "policy-gpu", gpus > 0, fmt.Sprintf("%d GPUs attested; the policy demands one", gpus))
	}
	p.config(&c, f)
	for _, name := range p.rules.Checks {
		found := false
		for _, d := range f.Devices {
			if k, ok := d.Checks.Find(name); ok {
				found = true
				if k.Outcome != evidence.Pass {
					c.Add("policy-check-"+name, evidence.Fail, fmt.Sprintf("%s: %s (%s); the policy demands that it passes", d.Label, k.Outcome, k.Detail))
				}
			}
		}
		if !found {
			c.Add("policy-check-"+name, evidence.Fail, "no device has a check of that name; the policy demands that it passes")
		}
	}
	return c
}

func add(c *evidence.Checks, name string, ok bool, detail string) {
	o := evidence.Pass
	if !ok {
		o = evidence.Fail
	}
	c.Add(name, o, detail)
}

func (p *RulesPolicy) device(c *evidence.Checks, d *Device, f *Facts) {
	r := &p.rules
	name := func(s string) string {
		if len(f.Devices) > 1 {
			return "policy-" + s + "-" + d.Label
		}
		return "policy-" + s
	}
	if len(r.TEEs) > 0 {
		add(c, name("tee"), slices.Contains(r.TEEs, d.Kind), fmt.Sprintf("%s; the policy accepts %v", d.Kind, r.TEEs))
	}
	if d.Claims == nil {
		return // its own checks failed, and say why
	}
	if d.Claims.Debug {
		add(c, name("debug"), r.Debug, "the TEE can be read from outside (debug); the policy "+allows(r.Debug))
	}
	if why := p.migration(d.Claims); why != "" {
		add(c, name("migration"), r.Migration, why+": the host chose who can read this TEE's memory; the policy "+allows(r.Migration))
	}
	p.tcb(c, name("tcb"), d, f.Now)
	id := hex.EncodeToString(d.Claims.Platform)
	if len(r.DenyPlatforms) > 0 {
		add(c, name("platform-denied"), id != "" && !slices.Contains(r.DenyPlatforms, id), "platform "+or(id, "without an id")+"; the policy denies "+strconv.Itoa(len(r.DenyPlatforms)))
	}
	if len(r.Platforms) > 0 && d.Kind != evidence.NVIDIA {
		add(c, name("platform"), slices.Contains(r.Platforms, id), "platform "+or(id, "without an id")+"; the policy names "+strconv.Itoa(len(r.Platforms)))
	}
	matched := p.claims(c, name, d)
	switch ref := d.References; {
	case ref != nil && ref.Known:
		add(c, name("reference-values"), ref.Matched, ref.Detail)
	case d.Kind != evidence.NVIDIA && !p.means(d.Kind):
		c.Add(name("reference-values"), evidence.Fail, fmt.Sprintf("the policy lists measurements of other kinds of TEE, and nothing is known of what %s should be", or(string(d.Kind), "this TEE")))
	case r.ReferenceValues == "optional":
		c.Add(name("reference-values"), evidence.NotPerformed, "no reference values are known for this TEE; the policy does not demand any")
	case matched && d.Kind != evidence.NVIDIA:
		c.Add(name("reference-values"), evidence.NotPerformed, "no CoRIM is given; the policy lists the measurements itself")
	default:
		c.Add(name("reference-values"), evidence.Fail, "no reference values are known for this TEE; give a CoRIM, or list its measurements in the policy's claims")
	}
}

const (
	snpMigrationAgent = 1 << 18 // guest policy, MIGRATE_MA (AMD 56860)
	tdMigratable      = 1 << 5  // of byte 3 of TDATTRIBUTES: bit 29, MIGRATABLE
)

// migration says why a migration agent that the policy does not list may have the
// TEE's memory; "" when none can.
func (p *RulesPolicy) migration(c *evidence.Claims) string {
	if n, ok := c.Values["snp.policy"].(uint64); ok && n&snpMigrationAgent != 0 {
		return "the guest's policy allows a migration agent"
	}
	service, told := c.Values["tdx.mrservicetd"].([]byte)
	if told && p.rules.Claims["tdx.mrservicetd"] != nil {
		return "" // compared with the claims
	}
	if slices.ContainsFunc(service, func(b byte) bool { return b != 0 }) {
		return "the TD has a service TD that the policy does not list"
	}
	if a, ok := c.Values["tdx.tdattributes"].([]byte); ok && len(a) == 8 && a[3]&tdMigratable != 0 {
		return "the TD is migratable"
	}
	return ""
}

func allows(b bool) string {
	if b {
		return "allows it"
	}
	return "does not allow it"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// identifying are claims that say which code runs. A policy that lists one needs
// no CoRIM.
var identifying = []string{"tdx.mrtd", "sgx.mrenclave", "sgx.mrsigner", "snp.measurement", "snp.idkeydigest", "nitro.pcr0", "nitro.pcr8", "cca.rim"}

// prefixes are what the claims of each kind of TEE begin with.
var prefixes = map[evidence.Kind][]string{evidence.TDX: {"tdx.", "intel."}, evidence.SGX: {"sgx.", "intel."}, evidence.SNP: {"snp."}, evidence.Nitro: {"nitro."}, evidence.NVIDIA: {"nvidia."}, evidence.CCA: {"cca."}}

// isOf reports whether a claim is of that kind of TEE.
func isOf(claim string, k evidence.Kind) bool {
	return slices.ContainsFunc(prefixes[k], func(s string) bool { return strings.HasPrefix(claim, s) && len(claim) > len(s) })
}

// means reports whether the policy, by the claims of CPUs that it lists, means TEEs
// of that kind: code in a TEE of another kind is not let in by what it says of
// one, even where reference values are optional. Without such claims it means all.
func (p *RulesPolicy) means(k evidence.Kind) bool {
	own, shared, any := false, false, false // shared: intel.*
	for claim := range p.rules.Claims {
		for of, ps := range prefixes {
			if of == evidence.NVIDIA || !isOf(claim, of) {
				continue
			}
			if any = true; strings.HasPrefix(claim, ps[0]) {
				if of == k {
					return true
				}
				own = true
			} else {
				shared = shared || of == k
			}
		}
	}
	return !any || shared && !own
}

func (p *RulesPolicy) claims(c *evidence.Checks, name func(string) string, d *Device) (identified bool) {
	for _, claim := range slices.Sorted(maps.Keys(p.rules.Claims)) {
		if !isOf(claim, d.Kind) {
			continue // of another kind of TEE
		}
		got, ok := d.Claims.Values[claim]
		text := Show(got)
		want := p.rules.Claims[claim]
		good := ok && slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(w, text) })
		detail := text
		if !ok {
			detail = "not claimed"
		}
		if !good {
			detail += fmt.Sprintf("; the policy accepts %s", shorten(strings.Join(want, ", ")))
		}
		add(c, name("claim-"+claim), good, detail)
		identified = identified || slices.Contains(identifying, claim)
	}
	return identified
}

// Show is how a claim is written in a policy: bytes in hex, lists with commas.
func Show(v any) string {
	switch v := v.(type) {
	case []byte:
		return hex.EncodeToString(v)
	case []string:
		return strings.Join(v, ",")
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

func shorten(s string) string {
	if len(s) > 240 {
		return s[:240] + "…"
	}
	return s
}

func (p *RulesPolicy) config(c *evidence.Checks, f *Facts) {
	// TMCP-19.4-6: A policy that names configuration digests MUST refuse evidence that binds none.
	if len(p.rules.Config) == 0 && !p.rules.ConfigRequired {
		return
	}
	got := hex.EncodeToString(f.Config)
	switch {
	case got == "":
		c.Add("policy-config", evidence.Fail, "the evidence binds no digest of the configuration; the policy demands one")
	case len(p.rules.Config) == 0:
		c.Add("policy-config", evidence.Pass, got)
	default:
		add(c, "policy-config", slices.Contains(p.rules.Config, got), got+"; the policy accepts "+shorten(strings.Join(p.rules.Config, ", ")))
	}
}

const day = 24 * time.Hour

// tcb judges the firmware, and says how far behind it is.
func (p *RulesPolicy) tcb(c *evidence.Checks, name string, d *Device, now time.Time) {
	r := &p.rules.TCB
	t := d.TCB
	if t == nil || t.Status == "" {
		if d.Kind == evidence.TDX || d.Kind == evidence.SGX || !r.Unknown {
			c.Add(name, evidence.Fail, "nothing is known of the firmware's status; give collateral that tells it")
		} else {
			c.Add(name, evidence.NotPerformed, "this vendor tells no status of the firmware; what its checks say must do")
		}
		return
	}
	accept := r.Accept
	if len(accept) == 0 {
		accept = []evidence.TCBStatus{evidence.UpToDate}
	}
	said := Describe(t)
	late := t.Status == evidence.OutOfDate || t.Status == evidence.OutOfDateConfigurationNeeded
	switch {
	case slices.Contains(accept, t.Status):
		c.Add(name, evidence.Pass, said)
	case late && r.GraceDays > 0:
		grace := time.Duration(r.GraceDays) * day
		since := t.OutOfDateSince
		if since.IsZero() {
			since = t.Date
		}
		ok := !since.IsZero() && now.Before(since.Add(grace))
		add(c, name, ok, fmt.Sprintf("%s; policy allows %d days", said, r.GraceDays))
	default:
		c.Add(name, evidence.Fail, said+"; policy accepts "+joined(accept))
	}
	for _, a := range t.Advisories {
		if slices.Contains(r.DenyAdvisories, a) || len(r.AllowAdvisories) > 0 && !slices.Contains(r.AllowAdvisories, a) {
			c.Add(name+"-advisory", evidence.Fail, a+" applies to this firmware, and the policy does not allow it")
		}
	}
	if r.MinEvaluationNumber > 0 && (d.Kind == evidence.TDX || d.Kind == evidence.SGX) {
		add(c, name+"-evaluation", t.EvaluationNumber >= r.MinEvaluationNumber, fmt.Sprintf("the collateral knows TCB recovery %d; the policy demands %d or later", t.EvaluationNumber, r.MinEvaluationNumber))
	}
}

func joined(list []evidence.TCBStatus) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}

// Describe says how far behind firmware is, part by part: "platform TCB
// OutOfDate since 2026-02-11, 2 levels behind, INTEL-SA-01234".
func Describe(t *evidence.TCB) string {
	if len(t.Parts) == 0 {
		return "TCB " + string(t.Status)
	}
	var parts []string
	for _, p := range t.Parts {
		if p.Status == evidence.UpToDate && t.Status != evidence.UpToDate {
			continue
		}
		s := p.Name + " TCB " + string(p.Status)
		if p.Status.Rank() >= evidence.OutOfDate.Rank() && !t.OutOfDateSince.IsZero() {
			s += " since " + t.OutOfDateSince.UTC().Format(time.DateOnly)
		} else if !p.Date.IsZero() {
			s += " of " + p.Date.UTC().Format(time.DateOnly)
		}
		switch {
		case p.Behind == 1:
			s += ", 1 level behind"
		case p.Behind > 1:
			s += fmt.Sprintf(", %d levels behind", p.Behind)
		}
		if len(p.Advisories) > 0 {
			s += ", " + shorten(strings.Join(p.Advisories, " "))
		}
		parts = append(parts, s)
	}
	if len(parts) == 0 {
		return "TCB " + string(t.Status)
	}
	return strings.Join(parts, "; ")
}
