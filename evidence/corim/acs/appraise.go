package acs

import (
	"errors"
	"fmt"
	"slices"

	"github.com/trustedmcp/tmcp/evidence/corim"
)

// Limits of one appraisal.
const (
	MaxEvidence = 256  // tuples of evidence
	maxACS      = 4096 // tuples altogether
)

// An Outcome says what the reference values make of a tuple of evidence.
type Outcome string

// The outcomes.
const (
	// Corroborated: at least one reference triple matches.
	Corroborated Outcome = "corroborated"
	// Contradicted: there are reference values for its environment, and none matches.
	Contradicted Outcome = "contradicted"
	// Unknown: there are no reference values for its environment.
	Unknown Outcome = "no-reference-values"
)

// A Result is what an appraisal found.
type Result struct {
	// ACS is the accepted claims set: evidence first, then what was added, in
	// order. Reference values are added as the measured values that they matched,
	// under the authority of who made the manifest.
	ACS      []ECT
	Subjects []Subject // one for each tuple of evidence, in order
	Notes    []string  // what was left out, and why

	store *Store
}

// A Subject is a tuple of evidence with what was found of it.
type Subject struct {
	Evidence *ECT
	Outcome  Outcome
	Matches  []Reference

	store *Store
	live  []bool
}

// A Reference is a reference triple and who vouches for it.
type Reference struct {
	Record    *corim.Record
	Manifest  string // id of the CoRIM
	Signer    string // as the signer names itself
	Authority []corim.Key
}

// Endorsed are the tuples that endorsers added.
func (r *Result) Endorsed() []ECT {
	var out []ECT
	for _, e := range r.ACS {
		if e.Type == Endorsements {
			out = append(out, e)
		}
	}
	return out
}

// Subject finds a tuple of evidence by its name, or nil.
func (r *Result) Subject(name string) *Subject {
	for i := range r.Subjects {
		if r.Subjects[i].Evidence.Name == name {
			return &r.Subjects[i]
		}
	}
	return nil
}

// Appraise compares evidence with the store: reference values first, then
// endorsed values, conditional endorsements and series, keys, memberships and
// dependencies, until nothing more can be added.
func (s *Store) Appraise(evidence []ECT, o Options) (*Result, error) {
	if o.Now.IsZero() {
		return nil, errors.New("an appraisal needs the time")
	}
	if len(evidence) == 0 || len(evidence) > MaxEvidence {
		return nil, fmt.Errorf("%d tuples of evidence, want 1 to %d", len(evidence), MaxEvidence)
	}
	a := &appraisal{store: s, options: o, result: &Result{store: s, Notes: slices.Clone(s.Skipped)}, live: make([]bool, len(s.sources))}
	r := a.result
	for i, src := range s.sources {
		err := src.Valid(o.Now)
		a.live[i] = err == nil
		if err != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: %v", src.CoRIM().ID, err))
		}
	}
	r.Subjects = make([]Subject, len(evidence))
	r.ACS = make([]ECT, 0, 2*len(evidence)+2)
	for i := range evidence {
		e := evidence[i]
		if e.Kind != Elements || e.Type != Evidence || len(e.Authority) == 0 || len(e.Elements) == 0 {
			return nil, fmt.Errorf("tuple %d (%s) is no evidence: it needs elements and an authority", i, e.Name)
		}
		k := keyOf(e.Environment)
		if k == (envKey{}) {
			return nil, fmt.Errorf("tuple %d (%s) has no environment", i, e.Name)
		}
		a.append(e)
	}
	for i := range evidence {
		a.corroborate(i)
	}
	a.augment()
	if a.steps > maxSteps {
		return nil, errors.New("the manifests have too many endorsements that depend on each other")
	}
	for i := range r.Subjects {
		r.Subjects[i].Evidence = &r.ACS[i]
	}
	return r, nil
}

type appraisal struct {
	store   *Store
	options Options
	live    []bool // sources that hold now
	result  *Result
	envs    []envKey // of the ACS, by index
	steps   int      // comparisons made
}

// append adds tuples, all or none.
func (a *appraisal) append(es ...ECT) bool {
	if len(a.result.ACS)+len(es) > maxACS {
		a.note("more than %d tuples: the rest was left out", maxACS)
		return false
	}
	for _, e := range es {
		a.result.ACS = append(a.result.ACS, e)
		a.envs = append(a.envs, keyOf(e.Environment))
	}
	return true
}

func (a *appraisal) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); len(a.result.Notes) < 256 && !slices.Contains(a.result.Notes, n) {
		a.result.Notes = append(a.result.Notes, n)
	}
}

// corroborate is phase 3: it holds one tuple of evidence against the reference
// values for its environment.
func (a *appraisal) corroborate(i int) {
	e := a.result.ACS[i]
	sub := &a.result.Subjects[i]
	sub.Outcome, sub.store, sub.live = Unknown, a.store, a.live
	for _, k := range a.envs[i].conditions() {
		b := a.store.envs[k]
		if b == nil {
			continue
		}
		if sub.Outcome == Unknown && slices.ContainsFunc(b.refs, func(id int32) bool { return a.live[a.store.refs[id].source] }) {
			sub.Outcome = Contradicted
		}
		a.store.candidates(b, e.Elements, func(id int32) {
			ref := &a.store.refs[id]
			src := a.store.sources[ref.source]
			if !a.live[ref.source] {
				return
			}
			c := condition{elements: ref.record.Claims, profile: src.CoRIM().Profile}
			if !c.elementsIn(&e) {
				return
			}
			added := ECT{
				Type: ReferenceValues, Environment: ref.record.Environment, Elements: corroborated(c, &e),
				Authority: src.Authority(), Profile: src.CoRIM().Profile, Manifest: src.CoRIM().ID.String(),
			}
			if a.append(added) {
				sub.Outcome = Corroborated
				sub.Matches = append(sub.Matches, a.store.reference(id))
			}
		})
	}
}

func (s *Store) reference(id int32) Reference {
	ref := &s.refs[id]
	src := s.sources[ref.source]
	return Reference{Record: ref.record, Manifest: src.CoRIM().ID.String(), Signer: src.Signer(), Authority: src.Authority()}
}

// corroborated are the measured values that the condition speaks of. What it
// does not mention is not vouched for by its author, so it is left out.
func corroborated(c condition, e *ECT) []corim.Measurement {
	out := make([]corim.Measurement, 0, len(c.elements))
	for i := range c.elements {
		want := &c.elements[i]
		if j := c.find(want, e); j >= 0 {
			out = append(out, corim.Measurement{Key: want.Key, Values: restrict(&e.Elements[j].Values, &want.Values)})
		}
	}
	return out
}

// restrict keeps of v the attributes that like has.
func restrict(v, like *corim.Values) corim.Values {
	var out corim.Values
	if like.Version != nil {
		out.Version = v.Version
	}
	if like.SVN != nil {
		out.SVN = v.SVN
	}
	out.Digests = common(v.Digests, like.Digests)
	out.Flags = append(out.Flags, like.Flags...) // equal to the entry's
	if like.Raw != nil {
		out.Raw = v.Raw
	}
	if like.MAC != nil {
		out.MAC = v.MAC
	}
	if like.IP != nil {
		out.IP = v.IP
	}
	if like.Serial != "" {
		out.Serial = v.Serial
	}
	if like.UEID != nil {
		out.UEID = v.UEID
	}
	if like.UUID != nil {
		out.UUID = v.UUID
	}
	if like.Name != "" {
		out.Name = v.Name
	}
	if len(like.Keys) > 0 {
		out.Keys = v.Keys[:min(len(like.Keys), len(v.Keys))]
	}
	for _, r := range like.Registers {
		if have := register(v.Registers, r.RegisterID); have != nil {
			out.Registers = append(out.Registers, corim.Register{RegisterID: have.RegisterID, Digests: common(have.Digests, r.Digests)})
		}
	}
	if like.Int != nil {
		out.Int = v.Int
	}
	for _, f := range like.Extra {
		if x := extra(v, f.Code); x != nil {
			out.Extra = append(out.Extra, corim.Field{Code: f.Code, Value: x})
		}
	}
	return out
}

// common are those digests whose algorithm like has, too.
func common(ds, like []corim.Digest) []corim.Digest {
	return slices.DeleteFunc(slices.Clone(ds), func(d corim.Digest) bool {
		n, name := d.Algorithm()
		return !slices.ContainsFunc(like, func(l corim.Digest) bool { ln, lname := l.Algorithm(); return ln == n && lname == name })
	})
}

// A condition is what a tuple must be like: a C-ECT.
type condition struct {
	env       envKey
	elements  []corim.Measurement
	authority []corim.Key
	profile   string
}

// elementsIn reports whether e has all elements of c, under the authorities that
// they name.
func (c *condition) elementsIn(e *ECT) bool {
	if !subset(c.authority, e.Authority) {
		return false
	}
	for i := range c.elements {
		if c.find(&c.elements[i], e) < 0 {
			return false
		}
	}
	return true
}

// find is the index of the element that matches, or -1.
func (c *condition) find(want *corim.Measurement, e *ECT) int {
	if !subset(want.AuthorizedBy, e.Authority) {
		return -1
	}
	for j := range e.Elements {
		have := &e.Elements[j]
		if (want.Key == nil) == (have.Key == nil) && string(want.Key) == string(have.Key) && Match(c.profile, &want.Values, &have.Values) {
			return j
		}
	}
	return -1
}

func subset(c, e []corim.Key) bool {
	for _, k := range c {
		if !slices.ContainsFunc(e, k.Equal) {
			return false
		}
	}
	return true
}
