package verifier

import (
	"bytes"
	"slices"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/evidence/corim"
)

func environment(model string) corim.Environment {
	return corim.Environment{Class: &corim.Class{Vendor: "Example", Model: model}}
}

func measurement(key string, v corim.Values) corim.Measurement {
	e := corim.Measurement{Values: v}
	if key != "" {
		e.Key = corim.TextItem(key)
	}
	return e
}

func stated(e corim.Environment, ms ...corim.Measurement) corim.Record {
	return corim.Record{Environment: e, Claims: ms}
}

func triples(id string, t corim.Triples) []byte {
	c := &corim.CoRIM{ID: corim.ID{Text: id}, Tags: []corim.Tag{{CoMID: &corim.CoMID{ID: corim.TagID{ID: corim.ID{Text: id + " triples"}}, Triples: t}}}}
	return must(c.Encode())
}

// compare makes a request: evidence as reference triples of a manifest of its
// own, and what it is held against.
func compare(evidence []corim.Record, against ...corim.Triples) func() Request {
	return func() Request {
		r := Request{Op: OpMatch, Time: t0.Unix(), Value: triples("evidence", corim.Triples{Reference: evidence})}
		for i, t := range against {
			r.Manifests = append(r.Manifests, Manifest{Value: triples("manifest "+string(rune('a'+i)), t), Local: true})
		}
		return r
	}
}

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func sha256Digest(b byte) corim.Digest {
	return corim.Digest{Alg: corim.SHA256, Value: fill(b, 32)}
}
func sha384Digest(b byte) corim.Digest {
	return corim.Digest{Alg: corim.SHA384, Value: fill(b, 48)}
}

// matchVectors try section 19.3.
func matchVectors() []vector {
	type V = corim.Values
	svn := func(n uint64, f corim.SVNForm) V { return V{SVN: &corim.SVN{Value: n, Form: f}} }
	rawv := func(v, mask []byte) V { return V{Raw: &corim.RawValue{Value: v, Mask: mask}} }
	dig := func(d ...corim.Digest) V { return V{Digests: d} }
	n := func(i int64) *int64 { return &i }
	rng := func(lo, hi *int64) V { return V{Int: &corim.IntRange{Range: true, Min: lo, Max: hi}} }
	reg := func(i uint64, d ...corim.Digest) corim.Register {
		return corim.Register{RegisterID: corim.RegisterID{Index: i}, Digests: d}
	}
	regName := func(s string, d ...corim.Digest) corim.Register {
		return corim.Register{RegisterID: corim.RegisterID{Name: s}, Digests: d}
	}
	ver := func(s string, scheme uint64) V {
		return V{Version: &corim.Version{Version: s, Scheme: corim.UintItem(scheme)}}
	}
	flags := func(f ...corim.Field) V { return V{Flags: f} }
	key := func(b byte) corim.Key { return corim.KeyID(fill(b, 8)) }
	here := environment("A")
	one := func(condition, entry V) func() Request {
		return compare([]corim.Record{stated(here, measurement("m", entry))}, corim.Triples{Reference: []corim.Record{stated(here, measurement("m", condition))}})
	}
	var out []vector
	add := func(v ...vector) { out = append(out, v...) }
	// Each rule: what matches, and what differs from it in one respect.
	for _, r := range []struct {
		name, title            string
		condition, entry       V
		bad                    string
		badTitle               string
		badCondition, badEntry V
		req                    string
	}{
		{"version", "a version", ver("1.2", 1), ver("1.2", 1), "other", "another version", ver("1.2", 1), ver("1.3", 1), ""},
		{"version-scheme", "a version with its scheme", ver("1.2", 16384), ver("1.2", 16384), "other", "another scheme", ver("1.2", 16384), ver("1.2", 1), ""},
		{"svn", "an exact SVN", svn(3, corim.PlainSVN), svn(3, corim.TaggedSVN), "other", "a higher SVN, where an exact one is wanted", svn(3, corim.PlainSVN), svn(4, corim.TaggedSVN), ""},
		{"svn-minimum", "an SVN above the minimum", svn(3, corim.MinSVN), svn(4, corim.TaggedSVN), "below", "an SVN below the minimum", svn(3, corim.MinSVN), svn(2, corim.TaggedSVN), ""},
		{"svn-state", "an SVN at the minimum", svn(3, corim.MinSVN), svn(3, corim.PlainSVN), "minimum", "a minimum SVN as state, where an exact one is wanted", svn(3, corim.PlainSVN), svn(3, corim.MinSVN), ""},
		{"digest", "a digest", dig(sha256Digest(1)), dig(sha256Digest(1)), "other", "another digest", dig(sha256Digest(1)), dig(sha256Digest(2)), ""},
		{"digest-algorithms", "digests with one algorithm in common", dig(sha256Digest(1)), dig(sha256Digest(1), sha384Digest(1)), "none", "digests without an algorithm in common", dig(sha256Digest(1)), dig(sha384Digest(1)), ""},
		{"digests", "two digests that are equal", dig(sha256Digest(1), sha384Digest(2)), dig(sha256Digest(1), sha384Digest(2)), "one", "two digests of which one differs", dig(sha256Digest(1), sha384Digest(2)), dig(sha256Digest(1), sha384Digest(3)), ""},
		{"raw", "a raw value", rawv(fill(1, 4), nil), rawv(fill(1, 4), nil), "other", "another raw value", rawv(fill(1, 4), nil), rawv(fill(2, 4), nil), ""},
		{"raw-length", "an empty and an empty raw value", rawv([]byte{}, nil), rawv([]byte{}, nil), "longer", "a raw value that is longer", rawv([]byte{}, nil), rawv([]byte{1}, nil), ""},
		{"raw-mask", "a raw value, equal under the mask", rawv([]byte{0xf1, 2}, []byte{0x0f, 0xff}), rawv([]byte{0x01, 2}, nil), "other", "a raw value that differs under the mask", rawv([]byte{0xf1, 2}, []byte{0x0f, 0xff}), rawv([]byte{0x02, 2}, nil), ""},
		{"raw-mask-length", "a raw value of the mask's length", rawv([]byte{1, 2}, []byte{0xff, 0}), rawv([]byte{1, 9}, nil), "shorter", "a raw value that is shorter than the mask", rawv([]byte{1, 2}, []byte{0xff, 0}), rawv([]byte{1}, nil), ""},
		{"flags", "a flag among others", flags(corim.Flag(3, false)), flags(corim.Flag(1, true), corim.Flag(3, false)), "other", "a flag that is set otherwise", flags(corim.Flag(3, false)), flags(corim.Flag(1, true), corim.Flag(3, true)), ""},
		{"flag-told", "a flag that is told", flags(corim.Flag(8, true)), flags(corim.Flag(8, true)), "missing", "a flag that is not told", flags(corim.Flag(8, true)), flags(corim.Flag(1, true)), ""},
		{"register", "a register among others", V{Registers: []corim.Register{reg(1, sha256Digest(1))}}, V{Registers: []corim.Register{reg(0, sha256Digest(0)), reg(1, sha256Digest(1))}}, "other", "a register with another digest", V{Registers: []corim.Register{reg(1, sha256Digest(1))}}, V{Registers: []corim.Register{reg(0, sha256Digest(1)), reg(1, sha256Digest(2))}}, ""},
		{"registers", "two registers", V{Registers: []corim.Register{reg(1, sha256Digest(1)), reg(2, sha256Digest(2))}}, V{Registers: []corim.Register{reg(1, sha256Digest(1)), reg(2, sha256Digest(2))}}, "missing", "a register that is missing", V{Registers: []corim.Register{reg(1, sha256Digest(1)), reg(2, sha256Digest(2))}}, V{Registers: []corim.Register{reg(1, sha256Digest(1))}}, ""},
		{"register-name", "a register by number", V{Registers: []corim.Register{reg(5, sha256Digest(1))}}, V{Registers: []corim.Register{reg(5, sha256Digest(1))}}, "text", "a register by the same number as text", V{Registers: []corim.Register{reg(5, sha256Digest(1))}}, V{Registers: []corim.Register{regName("5", sha256Digest(1))}}, ""},
		{"int", "an integer", V{Int: corim.Int(3)}, V{Int: corim.Int(3)}, "other", "another integer", V{Int: corim.Int(3)}, V{Int: corim.Int(4)}, ""},
		{"range", "an integer at the end of a range", rng(n(1), n(3)), V{Int: corim.Int(3)}, "above", "an integer above a range", rng(n(1), n(3)), V{Int: corim.Int(4)}, ""},
		{"range-open", "an integer in a range without a lower end", rng(nil, n(3)), V{Int: corim.Int(-1 << 40)}, "below", "an integer below a range", rng(n(1), n(3)), V{Int: corim.Int(0)}, ""},
		{"keys", "keys in their order", V{Keys: []corim.Key{key(1), key(2)}}, V{Keys: []corim.Key{key(1), key(2)}}, "order", "keys in another order", V{Keys: []corim.Key{key(1), key(2)}}, V{Keys: []corim.Key{key(2), key(1)}}, ""},
		{"name", "a name", V{Name: "a"}, V{Name: "a"}, "other", "another name", V{Name: "a"}, V{Name: "b"}, ""},
		{"several", "several attributes", V{Name: "a", SVN: &corim.SVN{Value: 1}}, V{Name: "a", SVN: &corim.SVN{Value: 1}, Serial: "x"}, "one", "several attributes of which one differs", V{Name: "a", SVN: &corim.SVN{Value: 1}}, V{Name: "a", SVN: &corim.SVN{Value: 2}}, ""},
		{"attribute", "an attribute that is there", V{Name: "a"}, V{Name: "a", SVN: &corim.SVN{Value: 1}}, "missing", "an attribute that is not there", V{Name: "a", SVN: &corim.SVN{Value: 1}}, V{Name: "a"}, ""},
		{"code-point", "a code point that is known", V{Name: "a"}, V{Name: "a"}, "unknown", "a code point that is not known, with equal values", V{Name: "a", Extra: []corim.Field{{Code: 100, Value: corim.UintItem(1)}}}, V{Name: "a", Extra: []corim.Field{{Code: 100, Value: corim.UintItem(1)}}}, "TMCP-19.3-2"},
		{"profile-code-point", "a code point without a profile", V{Name: "b"}, V{Name: "b"}, "unknown", "a profile's code point without the profile, with equal values", V{Name: "b", Extra: []corim.Field{{Code: -73, Value: corim.UintItem(1)}}}, V{Name: "b", Extra: []corim.Field{{Code: -73, Value: corim.UintItem(1)}}}, "TMCP-19.3-2"},
		{"flag-code-point", "a flag that is known", flags(corim.Flag(1, true)), flags(corim.Flag(1, true)), "unknown", "a flag that is not known, with equal values", flags(corim.Flag(42, true)), flags(corim.Flag(42, true)), "TMCP-19.3-2"},
	} {
		req := r.req
		if req == "" {
			req = "TMCP-19.3-1"
		}
		add(vector{name: "match-" + r.name, req: req, title: "comparison: " + r.title, make: one(r.condition, r.entry)},
			vector{name: "match-" + r.name + "-" + r.bad, req: req, title: "comparison: " + r.badTitle, twin: "match-" + r.name, hole: "match", make: one(r.badCondition, r.badEntry)})
	}
	named := func(s string) corim.Measurement { return measurement("cert", V{Name: s}) }
	fw := func(b byte) corim.Measurement { return measurement("fw", dig(sha256Digest(b))) }
	osm := func(b byte) corim.Measurement { return measurement("os", dig(sha256Digest(b))) }
	evidence := []corim.Record{stated(here, fw(1), osm(2))}
	refs := corim.Triples{Reference: []corim.Record{stated(here, fw(9), osm(9)), stated(here, fw(1), osm(2))}}
	instance := here
	instance.Instance = corim.BytesItem([]byte("chip 1"))
	otherInstance := here
	otherInstance.Instance = corim.BytesItem([]byte("chip 2"))
	authorized := func(by corim.Key) corim.Measurement { e := named("a"); e.AuthorizedBy = []corim.Key{by}; return e }
	operator := corim.KeyID([]byte("local file"))
	with := func(more corim.Triples) corim.Triples { more.Reference = refs.Reference; return more }
	cond := func(conditions []corim.Record, name string) corim.ConditionalTriple {
		return corim.ConditionalTriple{Conditions: conditions, Endorsements: []corim.Record{stated(here, named(name))}}
	}
	series := func(records ...corim.SeriesRecord) corim.Triples {
		return with(corim.Triples{Series: []corim.SeriesTriple{{Environment: here, Series: records}}})
	}
	when := func(e corim.Measurement, name string) corim.SeriesRecord {
		return corim.SeriesRecord{Condition: []corim.Measurement{e}, Addition: []corim.Measurement{named(name)}}
	}
	mask := func(v, mk byte) corim.Measurement { return measurement("state", rawv([]byte{v}, []byte{mk})) }
	state := measurement("state", rawv([]byte{0xa5}, nil))
	add(
		vector{name: "match-elements", req: "TMCP-19.3-1", title: "comparison: all elements of one reference value", make: compare(evidence, refs)},
		vector{name: "match-elements-mixed", req: "TMCP-19.3-1", title: "comparison: one element of one reference value, one of another", twin: "match-elements", hole: "match", make: compare([]corim.Record{stated(here, fw(1), osm(9))}, refs)},
		vector{name: "match-elements-missing", req: "TMCP-19.3-1", title: "comparison: an element that is missing", twin: "match-elements", hole: "match", make: compare([]corim.Record{stated(here, fw(1))}, refs)},
		vector{name: "match-element-anonymous", req: "TMCP-19.3-1", title: "comparison: an element without its key", twin: "match-elements", hole: "match", make: compare([]corim.Record{stated(here, measurement("", dig(sha256Digest(1))), osm(2))}, refs)},
		vector{name: "match-environment", req: "TMCP-19.3-1", title: "comparison: an instance of the class that is named", make: compare([]corim.Record{stated(instance, fw(1))}, corim.Triples{Reference: []corim.Record{stated(here, fw(1))}})},
		vector{name: "match-environment-class", req: "TMCP-19.3-1", title: "comparison: another class", twin: "match-environment", hole: "match", make: compare([]corim.Record{stated(instance, fw(1))}, corim.Triples{Reference: []corim.Record{stated(environment("B"), fw(1))}})},
		vector{name: "match-environment-instance", req: "TMCP-19.3-1", title: "comparison: another instance", twin: "match-environment", hole: "match", make: compare([]corim.Record{stated(instance, fw(1))}, corim.Triples{Reference: []corim.Record{stated(otherInstance, fw(1))}})},
		vector{name: "match-masks", req: "TMCP-19.3-3", title: "comparison: a masked value that fails does not spoil the one that follows", make: compare([]corim.Record{stated(here, state)},
			corim.Triples{Reference: []corim.Record{stated(here, mask(0x04, 0x0f)), stated(here, mask(0x50, 0x0f)), stated(here, mask(0xa0, 0xf0))}})},
		vector{name: "match-masks-none", req: "TMCP-19.3-3", title: "comparison: masked values that all fail, though each changes what a careless one compares", twin: "match-masks", hole: "match", make: compare([]corim.Record{stated(here, state)},
			corim.Triples{Reference: []corim.Record{stated(here, mask(0x04, 0x0f)), stated(here, mask(0x50, 0xf0)), stated(here, mask(0x00, 0xff))}})},

		vector{name: "endorsed", req: "TMCP-19.3-4", title: "endorsements: those whose conditions are met", look: endorses("both"), make: compare(append(slices.Clone(evidence), stated(environment("B"), fw(3))), with(corim.Triples{Conditional: []corim.ConditionalTriple{
			cond([]corim.Record{stated(here, fw(1)), stated(environment("B"), fw(3))}, "both"),
			cond([]corim.Record{stated(here, fw(1)), stated(environment("B"), fw(4))}, "one of two"),
			cond([]corim.Record{stated(here, fw(8))}, "none")}}), corim.Triples{Reference: []corim.Record{stated(environment("B"), fw(3))}})},
		vector{name: "endorsed-authority", req: "TMCP-19.3-4", title: "endorsements: what an endorser added is not what another said", look: endorses("a", "by the operator"), make: compare(evidence, with(corim.Triples{
			Endorsed: []corim.Record{stated(here, named("a"))},
			Conditional: []corim.ConditionalTriple{
				cond([]corim.Record{stated(here, authorized(operator))}, "by the operator"),
				cond([]corim.Record{stated(here, authorized(corim.KeyID([]byte("vendor"))))}, "by the vendor")}}))},
		vector{name: "series", req: "TMCP-19.3-5", title: "a series: the first entry that matches, and no other", look: endorses("first"), make: compare(evidence, series(when(fw(8), "none"), when(fw(1), "first"), when(osm(2), "second")))},
		vector{name: "series-turned", req: "TMCP-19.3-5", title: "a series: the same entries the other way round", look: endorses("second"), make: compare(evidence, series(when(osm(2), "second"), when(fw(1), "first"), when(fw(8), "none")))},
	)
	return out
}

// endorses wants exactly these names to be added to what was claimed.
func endorses(want ...string) func(*conformance.T, *asked) {
	return func(t *conformance.T, a *asked) {
		got, ok := conformance.Strings(conformance.Member(a.Claims, "endorsed"))
		if slices.Sort(got); !ok || !slices.Equal(got, want) {
			t.Violate("the claims' \"endorsed\" is %s, want the names %q", conformance.Short(conformance.Member(a.Claims, "endorsed")), want)
		}
	}
}
