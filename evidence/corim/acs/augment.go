package acs

import (
	"crypto/x509"
	"errors"
	"slices"

	"github.com/trustedmcp/tmcp/evidence/corim"
)

// A relation is any triple other than a reference triple, in the form of
// conditions and what they add.
type relation struct {
	kind       relationKind
	source     int
	conditions []condition // all of them must hold; of a series, those of its records in turn
	additions  [][]ECT     // [0], or by record of a series
	keys       []corim.Key // of a key triple
	mkey       corim.Item
	domain     envKey
}

type relationKind uint8

const (
	endorse relationKind = iota
	series
	keyed
	membership
	dependency
)

func (s *Store) addRelations(t *corim.Triples, source int) {
	src := s.sources[source]
	profile, id := src.CoRIM().Profile, src.CoRIM().ID.String()
	ect := func(kind Kind, env corim.Environment) ECT {
		return ECT{Kind: kind, Type: Endorsements, Environment: env, Authority: src.Authority(), Profile: profile, Manifest: id}
	}
	endorsed := func(r corim.Record) ECT {
		e := ect(Elements, r.Environment)
		e.Elements = r.Claims
		return e
	}
	cond := func(env corim.Environment, elements ...corim.Measurement) condition {
		return condition{env: keyOf(env), elements: elements, profile: profile}
	}
	add := func(r relation) {
		r.source = source
		s.relations = append(s.relations, r)
	}
	for _, r := range t.Endorsed {
		add(relation{kind: endorse, conditions: []condition{cond(r.Environment)}, additions: [][]ECT{{endorsed(r)}}})
	}
	for _, c := range t.Conditional {
		r := relation{kind: endorse, additions: [][]ECT{nil}}
		for _, x := range c.Conditions {
			r.conditions = append(r.conditions, cond(x.Environment, x.Claims...))
		}
		for _, x := range c.Endorsements {
			r.additions[0] = append(r.additions[0], endorsed(x))
		}
		add(r)
	}
	for _, c := range t.Series {
		r := relation{kind: series}
		for _, x := range c.Series {
			cd := cond(c.Environment, slices.Concat(c.Claims, x.Condition)...)
			if cd.authority = c.AuthorizedBy; len(cd.authority) > 0 {
				// The common authorized-by takes precedence over those of the records.
				cd.elements = slices.Clone(cd.elements)
				for i := range cd.elements[len(c.Claims):] {
					cd.elements[len(c.Claims)+i].AuthorizedBy = nil
				}
			}
			e := ect(Elements, c.Environment)
			e.Elements = x.Addition
			r.conditions, r.additions = append(r.conditions, cd), append(r.additions, []ECT{e})
		}
		add(r)
	}
	keys := func(kind Kind, list []corim.KeyTriple) {
		for _, k := range list {
			cd := cond(k.Environment)
			cd.authority = k.AuthorizedBy
			add(relation{kind: keyed, conditions: []condition{cd}, keys: k.Keys, mkey: k.MKey, additions: [][]ECT{{ect(kind, k.Environment)}}})
		}
	}
	keys(IdentityKeys, t.Identity)
	keys(AttestKeys, t.AttestKey)
	domains := func(kind relationKind, ek Kind, list []corim.DomainTriple) {
		if cyclic(list) {
			s.skip(source, "its domains form a cycle: they are not used")
			return
		}
		for _, d := range list {
			e := ect(ek, d.Domain)
			e.Domains = d.Members
			r := relation{kind: kind, domain: keyOf(d.Domain), additions: [][]ECT{{e}}}
			for _, m := range d.Members {
				r.conditions = append(r.conditions, cond(m))
			}
			if kind == dependency {
				r.conditions = append(r.conditions, cond(d.Domain))
			}
			add(r)
		}
	}
	domains(membership, Membership, t.Membership)
	domains(dependency, Dependency, t.Dependency)
}

func cyclic(list []corim.DomainTriple) bool {
	g := graph{}
	for _, d := range list {
		if !g.add(keyOf(d.Domain), d.Members) {
			return true
		}
	}
	return false
}

// A graph has edges from domains to their members. It stays acyclic.
type graph map[envKey][]envKey

// add adds edges, unless one would close a cycle.
func (g graph) add(from envKey, to []corim.Environment) bool {
	seen := map[envKey]bool{}
	var todo []envKey
	for _, e := range to {
		todo = append(todo, keyOf(e))
	}
	edges := slices.Clone(todo)
	for len(todo) > 0 {
		k := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if k == from {
			return false
		}
		if !seen[k] {
			seen[k] = true
			todo = append(todo, g[k]...)
		}
	}
	g[from] = append(g[from], edges...)
	return true
}

// augment is phase 4. Relations without order are applied until none adds
// anything. A series is decided only when nothing that is still undecided could
// add what it looks for, so that its first match does not depend on the order of
// manifests.
func (a *appraisal) augment() {
	if len(a.store.relations) == 0 {
		return
	}
	done := map[int]bool{} // applied, or a series that was decided
	known := map[int]bool{}
	var open []int // relations with a condition on an environment of the ACS
	seen := 0
	look := func() {
		for ; seen < len(a.envs); seen++ {
			for _, k := range a.envs[seen].conditions() {
				for _, i := range a.store.byEnv[k] {
					if !known[i] && a.live[a.store.relations[i].source] {
						known[i] = true
						open = append(open, i)
					}
				}
			}
		}
		slices.Sort(open)
	}
	members, trustees := graph{}, graph{}
	for {
		look()
		progress := false
		if a.steps > maxSteps {
			return // an error
		}
		for _, i := range open {
			r := &a.store.relations[i]
			if done[i] || r.kind == series {
				continue
			}
			add := a.apply(r, members, trustees)
			if add == nil {
				continue
			}
			done[i] = true
			progress = a.append(add...) || progress
		}
		if progress {
			continue
		}
		for _, i := range open {
			r := &a.store.relations[i]
			if a.steps > maxSteps {
				break
			}
			if done[i] || r.kind != series || a.mayChange(i, open, done) {
				continue
			}
			done[i], progress = true, true
			j := slices.IndexFunc(r.conditions, func(c condition) bool { return a.holds(&c) })
			if j >= 0 && a.append(r.additions[j]...) {
				break // what was added may let others hold, that come before the next series
			}
		}
		if !progress {
			break
		}
	}
	for _, i := range open {
		if r := &a.store.relations[i]; r.kind == series && !done[i] {
			a.note("%s: a conditional endorsement series depends on itself through others: it was left out", a.store.sources[r.source].CoRIM().ID)
		}
	}
}

// mayChange reports whether an undecided relation other than i could, through
// others, still add something that the conditions of series i look for.
func (a *appraisal) mayChange(i int, open []int, done map[int]bool) bool {
	seen := map[int]bool{i: true}
	todo := []int{i}
	for len(todo) > 0 {
		want := &a.store.relations[todo[0]]
		todo = todo[1:]
		a.steps += len(open)
		for _, j := range open {
			if done[j] || seen[j] || !provides(&a.store.relations[j], want) {
				continue
			}
			if a.store.relations[j].kind == series {
				return true
			}
			seen[j] = true
			todo = append(todo, j)
		}
	}
	return false
}

// provides reports whether an addition of p has an element, in an environment
// that matches, with an attribute that a condition of w looks for.
func provides(p, w *relation) bool {
	for _, add := range p.additions {
		for i := range add {
			env := keyOf(add[i].Environment)
			for c := range w.conditions {
				if w.conditions[c].env.in(env) && mentions(&w.conditions[c], &add[i]) {
					return true
				}
			}
		}
	}
	return false
}

func mentions(c *condition, e *ECT) bool {
	if len(c.elements) == 0 {
		return true
	}
	for i := range c.elements {
		for j := range e.Elements {
			if string(c.elements[i].Key) == string(e.Elements[j].Key) && slices.ContainsFunc(c.elements[i].Values.Codes(), func(n int64) bool {
				return slices.Contains(e.Elements[j].Values.Codes(), n)
			}) {
				return true
			}
		}
	}
	return false
}

// holds reports whether some tuple of elements in the ACS, of whatever type,
// matches the condition.
func (a *appraisal) holds(c *condition) bool {
	a.steps += len(a.result.ACS)
	for i := range a.result.ACS {
		e := &a.result.ACS[i]
		if e.Kind == Elements && c.env.in(a.envs[i]) && c.elementsIn(e) {
			return true
		}
	}
	return false
}

// apply gives what r adds, or nil when its conditions do not hold.
func (a *appraisal) apply(r *relation, members, trustees graph) []ECT {
	add := r.additions[0]
	switch r.kind {
	case keyed:
		keys := a.verifiedKeys(r, add[0].Kind)
		if len(keys) == 0 {
			return nil
		}
		e := add[0]
		e.Keys, e.KeyID = keys, r.mkey
		return []ECT{e}
	case membership:
		for _, c := range r.conditions {
			if !a.inDomain(c.env) {
				return nil
			}
		}
		if !members.add(r.domain, add[0].Domains) {
			a.note("%s: memberships of domains form a cycle", add[0].Manifest)
			return nil
		}
		return add
	case dependency:
		for _, c := range r.conditions {
			if !members.has(c.env) {
				return nil
			}
		}
		if !trustees.add(r.domain, add[0].Domains) {
			a.note("%s: dependencies of domains form a cycle", add[0].Manifest)
			return nil
		}
		return add
	}
	for i := range r.conditions {
		if !a.holds(&r.conditions[i]) {
			return nil
		}
	}
	return add
}

// inDomain reports whether there is evidence of the environment, or it is a
// domain of the ACS.
func (a *appraisal) inDomain(k envKey) bool {
	for i := range a.result.ACS {
		e := &a.result.ACS[i]
		if (e.Kind == Membership || e.Kind == Elements && e.Type == Evidence) && k.in(a.envs[i]) {
			return true
		}
	}
	return false
}

// has reports whether k is a domain or a member of one.
func (g graph) has(k envKey) bool {
	for from, to := range g {
		if from == k || slices.Contains(to, k) {
			return true
		}
	}
	return false
}

// verifiedKeys are those keys of r that the evidence, or an endorsement, says are
// in the environment, and that pass verification. A key that signed the evidence
// is its authority.
func (a *appraisal) verifiedKeys(r *relation, kind Kind) []corim.Key {
	c := &r.conditions[0]
	var out []corim.Key
	for _, k := range r.keys {
		present := false
		for i := range a.result.ACS {
			e := &a.result.ACS[i]
			if e.Kind != Elements || e.Type == ReferenceValues || !c.env.in(a.envs[i]) || !subset(c.authority, e.Authority) {
				continue
			}
			if kind == AttestKeys && e.Type == Evidence && r.mkey == nil && slices.ContainsFunc(e.Authority, k.Equal) {
				present = true
			}
			for j := range e.Elements {
				if (r.mkey == nil || string(r.mkey) == string(e.Elements[j].Key)) && slices.ContainsFunc(e.Elements[j].Values.Keys, k.Equal) {
					present = true
				}
			}
		}
		if !present || slices.ContainsFunc(out, k.Equal) {
			continue
		}
		if err := a.verifyKey(k, kind); err != nil {
			a.note("%s: %s is not added: %v", r.additions[0][0].Manifest, k, err)
			continue
		}
		out = append(out, k)
	}
	return out
}

// verifyKey validates the certificates of a key (section "Processing keys
// Relations"). Revocation is for the caller's policy; a bare key or a thumbprint
// has nothing to validate.
func (a *appraisal) verifyKey(k corim.Key, kind Kind) error {
	chain, err := k.Certificates()
	if err != nil || chain == nil {
		return err
	}
	if a.options.KeyRoots == nil {
		return errors.New("no roots for certificates of keys are given")
	}
	if u := chain[0].KeyUsage; u != 0 && u&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("its key usage does not allow signatures")
	}
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: a.options.KeyRoots, Intermediates: pool, CurrentTime: a.options.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
