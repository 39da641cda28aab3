// Package acs is CoRIM's reference verifier (draft-ietf-rats-corim-11, section
// "Reference Verifier"): it holds what a TEE was proven to say against what
// manifests say it should be.
//
// Build a [Store] once from verified manifests with [NewStore], then call
// [Store.Appraise] for each piece of evidence; package tee makes the
// environment-claim tuples that it takes. The [Result] says for each of them
// which reference value matched, or why none did, and what was endorsed.
//
// A Store is immutable and safe for concurrent use. Reference values are
// indexed by environment and exact measurements, so that appraisal takes about
// as long against a hundred thousand of them as against one.
package acs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence/corim"
)

// A Type says from what kind of conceptual message a tuple is: cm-type.
type Type uint8

// The types.
const (
	ReferenceValues Type = 0
	Endorsements    Type = 1
	Evidence        Type = 2
)

// A Kind is the specialization of a tuple.
type Kind uint8

// The kinds: claims about elements, verified keys, members of a domain, and
// domains on which another depends.
const (
	Elements Kind = iota
	AttestKeys
	IdentityKeys
	Membership
	Dependency
)

// An ECT is an environment-claim tuple: what an authority says of an
// environment.
type ECT struct {
	Name        string // for people: "tdx", "tdx.module", …; of evidence only
	Kind        Kind
	Type        Type
	Environment corim.Environment
	Elements    []corim.Measurement
	Keys        []corim.Key         // of AttestKeys and IdentityKeys
	KeyID       corim.Item          // of AttestKeys and IdentityKeys: their element; may be nil
	Domains     []corim.Environment // of Membership and Dependency
	Authority   []corim.Key
	Profile     string
	Manifest    string // id of the CoRIM; "" for evidence
	// Labels are names for people, of evidence: by measurement key as
	// [corim.Item.Describe] shows it without quotes, or "register 0".
	Labels map[string]string
}

// envKey is an environment by the deterministic CBOR of its attributes; "" is an
// attribute that it does not have.
type envKey struct{ class, instance, group string }

func keyOf(e corim.Environment) envKey {
	k := envKey{instance: string(e.Instance), group: string(e.Group)}
	if e.Class != nil {
		k.class = string(e.Class.Encode())
	}
	return k
}

// in reports whether e has each attribute that the condition k has, with the
// same bytes (section "Environment Comparison").
func (k envKey) in(e envKey) bool {
	return (k.class == "" || k.class == e.class) && (k.instance == "" || k.instance == e.instance) && (k.group == "" || k.group == e.group)
}

// conditions are the up to seven environments that match e.
func (k envKey) conditions() []envKey {
	out := make([]envKey, 0, 7)
	for m := 1; m < 8; m++ {
		c := envKey{}
		if m&1 != 0 {
			c.class = k.class
		}
		if m&2 != 0 {
			c.instance = k.instance
		}
		if m&4 != 0 {
			c.group = k.group
		}
		if c != (envKey{}) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// Limits of a store.
const (
	MaxReferences = 1 << 20 // reference triples
	MaxRelations  = 1 << 12 // other triples
	maxSteps      = 1 << 22 // comparisons of conditions in one appraisal
)

// A Store holds what verified manifests say.
type Store struct {
	sources   []*corim.Verified
	refs      []reference
	envs      map[envKey]*bucket
	relations []relation
	byEnv     map[envKey][]int // relations by the environments of their conditions
	seed      maphash.Seed
	Skipped   []string // triples that can't be used, and why
}

type reference struct {
	record *corim.Record
	source int32
}

// A bucket has the reference triples of one environment. Those with the same
// exact measurements ("slots") stand in one table by the hash of their values.
type bucket struct {
	refs   []int32 // all of them
	tables []*table
	loose  []int32 // without exact measurements: compared one by one
}

type table struct {
	slots []slot
	by    map[uint64]int32 // hash of the slots' values -> first reference
	next  map[int32]int32  // further ones with that hash
}

// A slot names one measurement that is compared for equality.
type slot struct {
	mkey string
	code int64
	alg  int64  // of a digest
	name string // of its algorithm, where it has no number
	reg  corim.RegisterID
}

// NewStore indexes manifests. Those that are not valid at some later time are
// left out of appraisals then.
func NewStore(manifests ...*corim.Verified) (*Store, error) {
	s := &Store{envs: map[envKey]*bucket{}, byEnv: map[envKey][]int{}, seed: maphash.MakeSeed()}
	forms := map[envKey]map[string]*table{}
	for i, v := range manifests {
		if v == nil {
			return nil, errors.New("a store is made of verified manifests: one is nil")
		}
		s.sources = append(s.sources, v)
		for _, m := range v.CoRIM().CoMIDs() {
			t := &m.Triples
			for j := range t.Reference {
				if len(s.refs) >= MaxReferences {
					return nil, fmt.Errorf("more than %d reference values", MaxReferences)
				}
				s.addReference(&t.Reference[j], int32(i), forms)
			}
			s.addRelations(t, i)
			if len(t.CoSWID) > 0 || len(t.Extra) > 0 {
				s.skip(i, "CoSWID triples and unknown triples are not used")
			}
		}
	}
	if len(s.relations) > MaxRelations {
		return nil, fmt.Errorf("%d endorsements and other triples, the limit is %d", len(s.relations), MaxRelations)
	}
	for i, r := range s.relations {
		for _, c := range r.conditions {
			if !slices.Contains(s.byEnv[c.env], i) {
				s.byEnv[c.env] = append(s.byEnv[c.env], i)
			}
		}
	}
	return s, nil
}

// Len is the number of reference triples.
func (s *Store) Len() int { return len(s.refs) }

// Manifests are those that the store was made of.
func (s *Store) Manifests() []*corim.Verified { return slices.Clone(s.sources) }

func (s *Store) skip(source int, why string) {
	s.Skipped = append(s.Skipped, fmt.Sprintf("%s: %s", s.sources[source].CoRIM().ID, why))
}

func (s *Store) addReference(r *corim.Record, source int32, forms map[envKey]map[string]*table) {
	id := int32(len(s.refs))
	s.refs = append(s.refs, reference{r, source})
	k := keyOf(r.Environment)
	b := s.envs[k]
	if b == nil {
		b = &bucket{}
		s.envs[k] = b
		forms[k] = map[string]*table{}
	}
	b.refs = append(b.refs, id)

	var h maphash.Hash
	h.SetSeed(s.seed)
	var slots []slot
	for _, m := range r.Claims {
		eachExact(&m, func(sl slot, value []byte) {
			if slices.Contains(slots, sl) {
				return // two elements of one name: the first will do for the index
			}
			slots = append(slots, sl)
			writeValue(&h, value)
		})
	}
	if len(slots) == 0 {
		b.loose = append(b.loose, id)
		return
	}
	form := fmt.Sprintf("%#v", slots)
	t := forms[k][form]
	if t == nil {
		t = &table{slots: slots, by: map[uint64]int32{}, next: map[int32]int32{}}
		forms[k][form] = t
		b.tables = append(b.tables, t)
	}
	sum := h.Sum64()
	if first, ok := t.by[sum]; ok {
		t.next[id] = first
	}
	t.by[sum] = id
}

func writeValue(h *maphash.Hash, v []byte) {
	h.WriteByte(byte(len(v)))
	h.Write(v)
}

// eachExact calls f with the values of m that a condition compares for equality
// and nothing else. Digests of more than one algorithm are left out: which of
// them count depends on the entry.
func eachExact(m *corim.Measurement, f func(slot, []byte)) {
	key := string(m.Key)
	digest := func(ds []corim.Digest, code int64, reg corim.RegisterID) {
		if len(ds) == 1 {
			alg, name := ds[0].Algorithm()
			f(slot{mkey: key, code: code, alg: alg, name: name, reg: reg}, ds[0].Value)
		}
	}
	digest(m.Values.Digests, corim.CodeDigests, corim.RegisterID{})
	if r := m.Values.Raw; r != nil && r.Unknown == nil && r.Mask == nil && m.Values.RawMask == nil {
		f(slot{mkey: key, code: corim.CodeRaw}, r.Value)
	}
	for _, r := range m.Values.Registers {
		digest(r.Digests, corim.CodeRegisters, r.RegisterID)
	}
}

// exact appends to dst the values that an entry has for a slot. Unlike those of a
// condition, each digest of several stands for itself.
func (sl *slot) exact(es []corim.Measurement, dst [][]byte) [][]byte {
	add := func(v []byte) {
		if !slices.ContainsFunc(dst, func(o []byte) bool { return bytes.Equal(o, v) }) {
			dst = append(dst, v)
		}
	}
	digests := func(ds []corim.Digest) {
		for _, d := range ds {
			if alg, name := d.Algorithm(); alg == sl.alg && name == sl.name {
				add(d.Value)
			}
		}
	}
	for i := range es {
		m := &es[i]
		if string(m.Key) != sl.mkey {
			continue
		}
		switch v := &m.Values; sl.code {
		case corim.CodeDigests:
			digests(v.Digests)
		case corim.CodeRaw:
			if v.Raw != nil && v.Raw.Unknown == nil {
				add(v.Raw.Value)
			}
		case corim.CodeRegisters:
			if r := register(v.Registers, sl.reg); r != nil {
				digests(r.Digests)
			}
		}
	}
	return dst
}

// candidates are the references of b that may match an entry with those values;
// whether they do is for the comparison to say.
func (s *Store) candidates(b *bucket, es []corim.Measurement, f func(int32)) {
	for _, id := range b.loose {
		f(id)
	}
	for _, t := range b.tables {
		values := make([][][]byte, len(t.slots))
		missing := false
		for i := range t.slots {
			values[i] = t.slots[i].exact(es, nil)
			if missing = len(values[i]) == 0; missing {
				break
			}
		}
		if missing {
			continue
		}
		chosen := make([][]byte, len(t.slots))
		tries := 0
		var try func(i int)
		try = func(i int) {
			if i < len(t.slots) {
				for _, v := range values[i] {
					chosen[i] = v
					try(i + 1)
				}
				return
			}
			if tries++; tries > 4096 {
				return // an entry that says many things of one element
			}
			var h maphash.Hash
			h.SetSeed(s.seed)
			for _, v := range chosen {
				writeValue(&h, v)
			}
			id, ok := t.by[h.Sum64()]
			for ok {
				f(id)
				id, ok = t.next[id]
			}
		}
		try(0)
	}
}

// Options of an appraisal.
type Options struct {
	Now time.Time // required: manifests that do not hold then are left out
	// KeyRoots are those that certificates in identity and attest-key triples must
	// lead to. Without them such certificates are not verified, and not added.
	KeyRoots *x509.CertPool
}
