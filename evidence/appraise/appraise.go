// Package appraise turns evidence into an attestation result (RFC 9334 section
// 3, the verifier's work): it takes a CMW apart, has each piece verified,
// compares what was proven with reference values, asks a policy, and says what
// came of it, check by check.
//
// It has no clock and no network: the time, collateral and reference values are
// arguments. No stage sees a claim before the stage above it has proven it.
package appraise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/internal/bundle"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/protocol"
)

// CollectionType is the type ("__cmwc_t") of the collections of evidence that
// attesters of this module make.
const CollectionType = bundle.Type

// DefaultDeveloper names verifiers that have no name of their own.
const DefaultDeveloper = "https://trustedmcp.org"

// A Policy judges what was verified. Package policy-wasm has others than
// [RulesPolicy].
type Policy interface {
	Name() string
	Digest() protocol.Digest
	// Development reports whether the policy is for simulated TEEs: no policy is
	// for both them and genuine ones.
	Development() bool
	// Decide returns the policy's checks. The evidence is accepted when none of
	// them, and none of the devices', failed.
	Decide(f *Facts) evidence.Checks
}

// A Judge is a [Policy] that says more than which of its checks failed. It is
// asked in place of Decide.
type Judge interface {
	Policy
	Judge(f *Facts) Judgement
}

// A Judgement is what a [Judge] came to.
type Judgement struct {
	Checks evidence.Checks
	// Vector is the policy's view of the peer. It can make entries of the result
	// worse, and fill in what verification says nothing about; nil: none.
	Vector *ear.Vector
	// Until is when the judgement ends; zero: as late as the rest.
	Until time.Time
	// Parts are digests of the modules that the policy consists of, where they are
	// not its own digest.
	Parts []protocol.Digest
}

// A Source is a [Policy] that can be replaced while it is used.
type Source interface {
	Policy
	// Use has f use the policy of this moment, which stays until f returns. It
	// reports whether there was one.
	Use(f func(Policy)) bool
}

// A Peer is whose evidence is judged.
type Peer struct {
	Role     protocol.Role
	Identity string
}

// Facts are what a policy judges.
type Facts struct {
	Peer    *Peer // nil where evidence is judged by itself
	Devices []Device
	Config  []byte // configuration digest that the evidence binds, or nil
	Alone   bool   // a device was given by itself, outside a binding
	Now     time.Time
}

// A Device is one TEE of those that evidence came from.
type Device struct {
	Label      string // in the collection; "" for the only one
	Kind       evidence.Kind
	Checks     evidence.Checks
	TCB        *evidence.TCB
	Claims     *evidence.Claims // nil unless proven
	References *Comparison      // nil unless there are reference values for it

	verified *evidence.Verified
}

// References compare proven claims with reference values.
type References interface {
	Compare(v *evidence.Verified, now time.Time) *Comparison
}

// A Comparison is what reference values say of a device.
type Comparison struct {
	Known   bool // there are reference values for this kind of TEE
	Matched bool
	Detail  string // which manifest matched, or what differs
	Tags    []string
	// NotAfter is when the first manifest that was used expires. Zero: no bound.
	NotAfter time.Time
}

// A Passport verifies attestation results that others made.
type Passport interface {
	// Accepts reports whether a record of that media type is such a result.
	Accepts(mediaType string) bool
	// Verify verifies the result with pinned keys, and says what it proves. The
	// result must be for reportData.
	Verify(mediaType string, value []byte, reportData []byte, now time.Time) Token
}

// A Token is what an attestation result of another verifier proves.
type Token struct {
	Issuer    string
	Checks    evidence.Checks
	Kind      evidence.Kind
	TCB       *evidence.TCB
	Values    map[string]any
	Debug     bool
	Simulated bool
	Expires   time.Time
	Bound     []byte // what the evidence was made for: the report data, or a GPU's nonce
	// Compared says with what the issuer compared measurements, as was demanded of
	// it. Empty: it vouches for the TEE, and not for the code in it.
	Compared string
}

// A Config says how to appraise.
type Config struct {
	Verifiers  []evidence.Verifier // required, see package verifiers for all
	Anchors    *evidence.Anchors   // required
	Simulator  *evidence.Simulator // only with a policy for development
	Policy     Policy              // required
	Collateral []evidence.Item     // endorsements at hand
	References References          // nil: none
	Passports  []Passport
	// Attributes, if set, says what was proven of a peer, for
	// [protocol.Appraisal.Attributes].
	Attributes func(*Result) []byte
	// Developer and Build name the verifier in its results; Developer, a URI, is the
	// issuer too.
	Developer, Build string
}

// An Appraiser appraises evidence. It implements [protocol.Appraiser] and is
// safe for concurrent use.
type Appraiser struct {
	cfg    Config
	byType map[string]evidence.Verifier
}

// New checks cfg.
func New(cfg Config) (*Appraiser, error) {
	if cfg.Policy == nil || len(cfg.Verifiers) == 0 {
		return nil, errors.New("appraisal needs a policy and verifiers")
	}
	if err := cfg.Anchors.Check(); err != nil {
		return nil, fmt.Errorf("appraisal: %w", err)
	}
	// TMCP-18.8-2: A verifier MUST NOT accept simulated evidence under a policy that also accepts
	// genuine evidence.
	if (cfg.Simulator != nil) != cfg.Policy.Development() {
		return nil, fmt.Errorf("appraisal: policy %q and the trust in simulated TEEs do not go together: a simulator's roots need a policy for development, and the other way round", cfg.Policy.Name())
	}
	a := &Appraiser{cfg: cfg, byType: map[string]evidence.Verifier{}}
	for _, v := range cfg.Verifiers {
		for _, t := range v.MediaTypes() {
			a.byType[t] = v
		}
	}
	if cfg.Developer == "" {
		a.cfg.Developer = DefaultDeveloper
	}
	if cfg.Build == "" {
		a.cfg.Build = "tmcp"
	}
	return a, nil
}

// Policy is the policy that decides.
func (a *Appraiser) Policy() Policy { return a.cfg.Policy }

// An Input is evidence with what it must show.
type Input struct {
	CMW   []byte          // evidence as a CMW; or
	Items []evidence.Item // evidence and endorsements as they are
	// ReportData is what the evidence must bind. Nil, with Unbound: nothing is
	// known, and the result says so.
	ReportData []byte
	Unbound    bool
	// Alone says that the evidence is judged by itself, outside a key object: a
	// GPU without a CPU is then possible, and its nonce is ReportData as it is.
	Alone  bool
	Config []byte // configuration digest that is bound, or nil
	Nonce  []byte // for the attestation result, or nil
	Peer   *Peer  // whose it is; nil: not known
	Now    time.Time
}

// A Verdict is how an appraisal ended.
type Verdict string

// The verdicts.
const (
	Accepted Verdict = "accepted"
	Refused  Verdict = "refused"
)

// A Result is what came of an appraisal.
type Result struct {
	Verdict   Verdict
	Checks    evidence.Checks // of all devices and the policy; names of several devices have the label behind a slash
	Devices   []Device
	TCB       *evidence.TCB // the worst of the devices'
	Policy    Policy
	Simulated bool
	Expires   time.Time // when collateral or certificates used for it end; zero: no bound
	Nonce     []byte
	Made      time.Time

	developer, build string
	judged           Judgement
}

const (
	maxItems     = 32
	maxEvidences = 16
	// maxLife bounds how long a result is relied on.
	maxLife = 24 * time.Hour
)

// Evaluate appraises. It never returns nil: what can't even be read is refused.
func (a *Appraiser) Evaluate(in Input) (r *Result) {
	s, ok := a.cfg.Policy.(Source)
	if !ok {
		return a.evaluate(in, a.cfg.Policy)
	}
	if !s.Use(func(p Policy) { r = a.evaluate(in, p) }) {
		r = &Result{Policy: s, Verdict: Refused, Nonce: in.Nonce, Made: in.Now, developer: a.cfg.Developer, build: a.cfg.Build}
		r.Checks.Add("policy", evidence.Fail, "the policy is closed")
	}
	return r
}

func (a *Appraiser) evaluate(in Input, policy Policy) *Result {
	r := &Result{Policy: policy, Nonce: in.Nonce, Made: in.Now, developer: a.cfg.Developer, build: a.cfg.Build}
	r.Verdict = Refused
	if in.Now.IsZero() {
		r.Checks.Add("time", evidence.Fail, "no time is given to appraise at")
		return r
	}
	items, err := a.collect(&in)
	if err != nil {
		r.Checks.Add("wrapper", evidence.Fail, err.Error())
		return r
	}
	// What is at hand stands first: verifiers bound how much they look at, and what
	// comes with the evidence must not push it out.
	trust := &evidence.Trust{Anchors: a.cfg.Anchors, Simulator: a.cfg.Simulator, Now: in.Now,
		Endorsements: append(slices.Clone(a.cfg.Collateral), items.endorsements...)}
	for _, e := range items.evidence {
		r.Devices = append(r.Devices, a.verify(e, trust))
	}
	for _, e := range items.results {
		r.Devices = append(r.Devices, a.passport(e, &in))
	}
	a.bind(r, &in)
	for i := range r.Devices {
		if d := &r.Devices[i]; d.verified != nil && a.cfg.References != nil {
			d.References = a.cfg.References.Compare(d.verified, in.Now)
		}
	}
	a.judge(r, &in)
	return r
}

type labelled struct {
	label string
	evidence.Item
}

type collected struct {
	evidence     []labelled
	results      []labelled
	endorsements []evidence.Item
}

// collect sorts what was given into evidence, results and endorsements.
func (a *Appraiser) collect(in *Input) (*collected, error) {
	c := &collected{}
	if (in.CMW != nil) == (in.Items != nil) {
		return nil, errors.New("give either a CMW or items")
	}
	put := func(label, mediaType string, value []byte, ind cmw.Ind) error {
		switch item := (evidence.Item{MediaType: mediaType, Value: value}); {
		case ind == cmw.Evidence:
			c.evidence = append(c.evidence, labelled{label, item})
		case ind == cmw.Endorsements:
			c.endorsements = append(c.endorsements, item)
		case ind == cmw.AttestationResults:
			c.results = append(c.results, labelled{label, item})
		case ind != 0:
			return fmt.Errorf("record %q is of kind %d; evidence is 4, endorsements 2, attestation results 8", label, ind)
		case a.byType[mediaType] != nil:
			c.evidence = append(c.evidence, labelled{label, item})
		case a.passportFor(mediaType) != nil:
			c.results = append(c.results, labelled{label, item})
		case in.CMW != nil && !slices.Contains(endorsements, mediaType):
			// TMCP-18.4-2: refuse evidence of a media type that it does not know, rather than leave it out
			return fmt.Errorf("record %q of type %.100q does not say what it is, and that is not known here; evidence is 4, endorsements 2", label, mediaType)
		default:
			c.endorsements = append(c.endorsements, item)
		}
		if len(c.evidence)+len(c.results)+len(c.endorsements) > maxItems || len(c.evidence) > maxEvidences {
			return fmt.Errorf("more than %d records, or than %d of evidence", maxItems, maxEvidences)
		}
		return nil
	}
	if in.Items != nil {
		for _, it := range in.Items {
			if err := put("", it.MediaType, it.Value, 0); err != nil {
				return nil, err
			}
		}
	} else {
		// TMCP-18.4-1: A verifier MUST refuse a CMW that is not deterministic CBOR or breaks RFC 9999.
		w, err := cmw.ParseCBOR(in.CMW)
		if err != nil {
			return nil, fmt.Errorf("the CMW: %w", err)
		}
		seen := map[string]bool{}
		err = w.Walk(func(at cmw.Path, rec *cmw.Record) error {
			label := at.String()
			switch {
			case len(at) > 0 && !isLabel(label):
				return fmt.Errorf("the label %+q: want letters, digits and .-_/, since it names what people read", label)
			case seen[label]:
				return fmt.Errorf("the label %q is there twice", label)
			}
			seen[label] = true
			t := rec.MediaType
			if t == "" {
				t = rec.Type()
			}
			return put(label, t, rec.Value, rec.Ind)
		})
		if err != nil {
			return nil, err
		}
	}
	if len(c.evidence)+len(c.results) == 0 {
		return nil, errors.New("there is no evidence in it, and no attestation result")
	}
	return c, nil
}

// endorsements are the types that are told from evidence by themselves.
var endorsements = []string{evidence.TypeDCAPCollateral, evidence.TypeCertificates, evidence.TypeOCSP, evidence.TypeCRL, evidence.TypeEventLog, nvidia.TypeRIM}

func isLabel(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_/", r)
	})
}

func (a *Appraiser) passportFor(mediaType string) Passport {
	i := slices.IndexFunc(a.cfg.Passports, func(p Passport) bool { return p.Accepts(mediaType) })
	if i < 0 {
		return nil
	}
	return a.cfg.Passports[i]
}

func (a *Appraiser) verify(e labelled, trust *evidence.Trust) Device {
	d := Device{Label: e.label}
	v := a.byType[e.MediaType]
	if v == nil {
		// TMCP-18.4-2: A verifier MUST refuse evidence of a media type that it does not know.
		d.Checks.Add("format", evidence.Fail, fmt.Sprintf("evidence of type %.100q is not known", e.MediaType))
		return d
	}
	r := v.Verify(e.MediaType, e.Value, trust)
	d.Kind, d.Checks, d.TCB = r.Kind, r.Checks, r.TCB
	if d.verified = r.Verified(); d.verified != nil {
		c := d.verified.Claims()
		d.Claims = &c
	} else if len(d.Checks.Failed()) == 0 {
		d.Checks.Add("integrity", evidence.Fail, "the evidence's integrity was not proven")
	}
	return d
}

func (a *Appraiser) passport(e labelled, in *Input) Device {
	d := Device{Label: e.label}
	p := a.passportFor(e.MediaType)
	if p == nil {
		d.Checks.Add("format", evidence.Fail, fmt.Sprintf("attestation results of type %.100q are not accepted: no key is pinned for their issuer", e.MediaType))
		return d
	}
	t := p.Verify(e.MediaType, e.Value, in.ReportData, in.Now)
	d.Kind, d.Checks, d.TCB = t.Kind, t.Checks, t.TCB
	if len(d.Checks.Failed()) > 0 || len(d.Checks) == 0 {
		if len(d.Checks) == 0 {
			d.Checks.Add("integrity", evidence.Fail, "the attestation result was not verified")
		}
		return d
	}
	d.Claims = &evidence.Claims{Kind: t.Kind, ReportData: t.Bound, Debug: t.Debug, Simulated: t.Simulated, Values: t.Values, NotAfter: t.Expires}
	if t.Compared != "" {
		d.References = &Comparison{Known: true, Matched: true, Detail: fmt.Sprintf("as %.100q found: %s", t.Issuer, t.Compared)}
	}
	return d
}

// bind checks that every device's evidence was made for what is wanted: the
// CPU's binds the report data, a GPU's a nonce that is derived from it.
func (a *Appraiser) bind(r *Result, in *Input) {
	// TMCP-18.2-2: refuse evidence in which the field that the TEE signed is not equal to it
	// TMCP-18.4-5: A verifier MUST refuse a set of which any evidence is not bound as above.
	if in.ReportData == nil {
		o := evidence.Fail
		if in.Unbound {
			o = evidence.Warn
		}
		r.Checks.Add("binding", o, "nothing is given that the evidence must bind: it may be anyone's, and of any time")
		return
	}
	gpu, seen := 0, map[string]bool{}
	for i := range r.Devices {
		d := &r.Devices[i]
		if d.Claims == nil {
			continue
		}
		want := in.ReportData
		if d.Kind == evidence.NVIDIA && !in.Alone {
			n := nvidia.GPUNonce(in.ReportData, gpu)
			gpu++
			want = n[:]
		} else if seen["cpu"] {
			d.Checks.Add("binding", evidence.Fail, "a second CPU's evidence: one party runs in one TEE")
			continue
		} else {
			seen["cpu"] = true
		}
		if bytes.Equal(d.Claims.ReportData, want) && len(want) > 0 {
			d.Checks.Add("binding", evidence.Pass, "the evidence binds what is wanted")
		} else {
			d.Checks.Add("binding", evidence.Fail, fmt.Sprintf("the evidence binds %s, wanted is %s: it was made for another key, identity, role or time", brief(d.Claims.ReportData), brief(want)))
		}
	}
}

func brief(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	if len(b) <= 8 {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%x… (%d bytes)", b[:8], len(b))
}

// judge asks the policy and draws the sum.
func (a *Appraiser) judge(r *Result, in *Input) {
	dev := r.Policy.Development()
	r.Expires = in.Now.Add(maxLife)
	for i := range r.Devices {
		d := &r.Devices[i]
		if c := d.Claims; c != nil {
			r.Simulated = r.Simulated || c.Simulated
			// TMCP-18.8-1: A verifier MUST NOT accept evidence under a simulator's root unless its
			// operator chose a policy for development.
			switch {
			case c.Simulated && !dev:
				d.Checks.Add("genuine", evidence.Fail, "a simulated TEE proves nothing; this policy is for production")
			case !c.Simulated && dev:
				d.Checks.Add("genuine", evidence.Fail, "a genuine TEE under a policy for development: use one for production")
			case c.Simulated:
				d.Checks.Add("genuine", evidence.Warn, "a simulated TEE proves nothing; the policy is for development")
			default:
				d.Checks.Add("genuine", evidence.Pass, "the evidence leads to a vendor's root")
			}
			r.until(c.NotAfter)
		}
		if d.References != nil {
			r.until(d.References.NotAfter)
		}
		if d.TCB != nil && (r.TCB == nil || d.TCB.Status.Rank() > r.TCB.Status.Rank()) {
			r.TCB = d.TCB
		}
	}
	facts := &Facts{Peer: in.Peer, Devices: r.Devices, Config: in.Config, Alone: in.Alone, Now: in.Now}
	// TMCP-18.8-2 once more, for one that was replaced.
	if dev != (a.cfg.Simulator != nil) {
		r.Checks.Add("policy", evidence.Fail, "the policy and the trust in simulated TEEs do not go together")
	}
	if j, ok := r.Policy.(Judge); ok {
		r.judged = j.Judge(facts)
		r.until(r.judged.Until)
	} else {
		r.judged.Checks = r.Policy.Decide(facts)
	}
	own := r.judged.Checks
	failed := len(own.Failed()) + len(r.Checks.Failed())
	for _, d := range r.Devices {
		failed += len(d.Checks.Failed())
		if d.Claims == nil {
			failed++
		}
		for _, k := range d.Checks {
			if len(r.Devices) > 1 {
				k.Name += "/" + d.Label
			}
			r.Checks = append(r.Checks, k)
		}
	}
	r.Checks = append(r.Checks, own...)
	if failed == 0 && len(r.Devices) > 0 {
		r.Verdict = Accepted
	}
}

func (r *Result) until(t time.Time) {
	if !t.IsZero() && t.Before(r.Expires) {
		r.Expires = t
	}
}

// Explanation says for people what came of it, failures first.
func (r *Result) Explanation() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s under policy %q", r.Verdict, r.Policy.Name())
	for _, d := range r.Devices {
		fmt.Fprintf(&b, "; %s", or(string(d.Kind), "unknown evidence"))
		if d.TCB != nil && d.TCB.Status != "" {
			b.WriteString(", " + Describe(d.TCB))
		}
	}
	if r.Simulated {
		b.WriteString("; SIMULATED")
	}
	for _, k := range r.Checks.Failed() {
		fmt.Fprintf(&b, "\n  %s: %s: fail", k.Name, k.Detail)
	}
	for _, k := range r.Checks {
		if k.Outcome == evidence.Warn {
			fmt.Fprintf(&b, "\n  %s: %s: warn", k.Name, k.Detail)
		}
	}
	return b.String()
}

// Err is nil when the evidence was accepted, and else says which checks failed.
func (r *Result) Err() error {
	if r.Verdict == Accepted {
		return nil
	}
	var fails []string
	for _, k := range r.Checks.Failed() {
		fails = append(fails, k.Name+": "+k.Detail)
	}
	return errors.New(strings.Join(fails, "; "))
}

// Appraise implements [protocol.Appraiser].
func (a *Appraiser) Appraise(_ context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	r := a.Evaluate(Input{CMW: e.CMW, ReportData: e.ReportData[:], Config: e.Binding.Config, Now: e.Now,
		Peer: &Peer{e.Binding.Role, e.Binding.Identity}})
	if err := r.Err(); err != nil {
		return nil, err
	}
	result, err := r.EAR().EncodeCBOR()
	if err != nil {
		return nil, err
	}
	summary, _, _ := strings.Cut(r.Explanation(), "\n")
	p := &protocol.Appraisal{Result: result, Policy: r.Policy.Digest(), Expires: r.Expires, Simulated: r.Simulated, Summary: summary}
	if a.cfg.Attributes != nil {
		p.Attributes = a.cfg.Attributes(r)
	}
	return p, nil
}
