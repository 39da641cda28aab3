package acs

import (
	"bytes"
	"io"
	"log"
	"testing"

	"github.com/veraison/corim/comid"

	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

func h(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func sha(b byte) corim.Digest    { return corim.Digest{Alg: corim.SHA256, Value: h(b, 32)} }
func sha384(b byte) corim.Digest { return corim.Digest{Alg: corim.SHA384, Value: h(b, 48)} }

func TestMatch(t *testing.T) {
	type V = corim.Values
	svn := func(n uint64, f corim.SVNForm) V { return V{SVN: &corim.SVN{Value: n, Form: f}} }
	raw := func(v, m []byte) V { return V{Raw: &corim.RawValue{Value: v, Mask: m}} }
	dig := func(d ...corim.Digest) V { return V{Digests: d} }
	named := func(b byte) corim.Digest { return corim.Digest{Name: "sha-256", Value: h(b, 32)} }
	rng := func(min, max *int64) V { return V{Int: &corim.IntRange{Range: true, Min: min, Max: max}} }
	n := func(i int64) *int64 { return &i }
	reg := func(r ...corim.Register) V { return V{Registers: r} }
	at := func(i uint64, d ...corim.Digest) corim.Register {
		return corim.Register{RegisterID: corim.RegisterID{Index: i}, Digests: d}
	}
	name := func(s string, d ...corim.Digest) corim.Register {
		return corim.Register{RegisterID: corim.RegisterID{Name: s}, Digests: d}
	}
	flags := func(f ...corim.Field) V { return V{Flags: f} }
	k := corim.KeyID
	ver := func(s string, scheme corim.Item) V { return V{Version: &corim.Version{Version: s, Scheme: scheme}} }
	for _, tt := range []struct {
		name             string
		condition, entry V
		want             bool
	}{
		{"version", ver("1", nil), ver("1", nil), true},
		{"other version", ver("1", nil), ver("2", nil), false},
		{"other scheme", ver("1", corim.UintItem(1)), ver("1", corim.UintItem(2)), false},
		{"scheme missing", ver("1", corim.UintItem(1)), ver("1", nil), false},
		{"no version", ver("1", nil), svn(1, 0), false},

		{"svn", svn(3, corim.PlainSVN), svn(3, corim.TaggedSVN), true},
		{"other svn", svn(3, 0), svn(4, 0), false},
		{"above the minimum", svn(3, corim.MinSVN), svn(4, 0), true},
		{"at the minimum", svn(3, corim.MinSVN), svn(3, corim.TaggedSVN), true},
		{"below the minimum", svn(3, corim.MinSVN), svn(2, 0), false},
		{"a minimum as state is no exact svn", svn(3, 0), svn(3, corim.MinSVN), false},
		{"a minimum as state", svn(3, corim.MinSVN), svn(3, corim.MinSVN), true},
		{"a higher minimum as state", svn(3, corim.MinSVN), svn(4, corim.MinSVN), false},

		{"digest", dig(sha(1)), dig(sha(1)), true},
		{"other digest", dig(sha(1)), dig(sha(2)), false},
		{"no common algorithm", dig(sha(1)), dig(sha384(1)), false},
		{"one common algorithm", dig(sha(1)), dig(sha384(1), sha(1)), true},
		{"two common, one differs", dig(sha(1), sha384(1)), dig(sha384(2), sha(1)), false},
		{"condition has one more", dig(sha(1), sha384(1)), dig(sha(1)), true},
		{"double in condition", dig(sha(1), sha(1)), dig(sha(1)), false},
		{"double in entry", dig(sha(1)), dig(sha(1), sha(2)), false},
		{"the algorithm by name", dig(named(1)), dig(sha(1)), true},
		{"a downgrade by name", dig(named(1), sha384(1)), dig(sha(2), sha384(1)), false},
		{"double by name", dig(sha(1)), dig(sha(1), named(2)), false},
		{"no digests", dig(sha(1)), svn(1, 0), false},

		{"raw", raw(h(1, 2), nil), raw(h(1, 2), nil), true},
		{"other raw", raw(h(1, 2), nil), raw(h(2, 2), nil), false},
		{"shorter raw", raw(h(1, 2), nil), raw(h(1, 1), nil), false},
		{"longer raw", raw(h(1, 2), nil), raw(h(1, 3), nil), false},
		{"empty raw", raw([]byte{}, nil), raw(h(1, 1), nil), false},
		{"masked", raw([]byte{0xf1, 0x02}, []byte{0x0f, 0xff}), raw([]byte{0x01, 0x02}, nil), true},
		{"masked, differs", raw([]byte{0xf1, 0x02}, []byte{0x0f, 0xff}), raw([]byte{0x01, 0x03}, nil), false},
		{"masked, shorter", raw([]byte{1, 2}, []byte{0xff, 0}), raw([]byte{1}, nil), false},
		{"mask of other length", raw([]byte{1, 2}, []byte{0xff}), raw([]byte{1, 2}, nil), false},
		{"deprecated mask", V{Raw: &corim.RawValue{Value: []byte{0xf1}}, RawMask: []byte{0x0f}}, raw([]byte{0x01}, nil), true},
		{"deprecated mask, differs", V{Raw: &corim.RawValue{Value: []byte{0xf1}}, RawMask: []byte{0xf0}}, raw([]byte{0x01}, nil), false},
		{"two masks", V{Raw: &corim.RawValue{Value: []byte{1}, Mask: []byte{0}}, RawMask: []byte{0}}, raw([]byte{1}, nil), false},
		{"masked state", raw([]byte{1}, nil), raw([]byte{1}, []byte{0xff}), false},
		{"unknown raw type", V{Raw: &corim.RawValue{Unknown: corim.UintItem(1)}}, V{Raw: &corim.RawValue{Unknown: corim.UintItem(1)}}, false},

		{"flags", flags(corim.Flag(3, false)), flags(corim.Flag(1, true), corim.Flag(3, false)), true},
		{"other flag", flags(corim.Flag(3, false)), flags(corim.Flag(3, true)), false},
		{"flag not known to the entry", flags(corim.Flag(3, false)), flags(corim.Flag(1, true)), false},
		{"flag of no rule", flags(corim.Flag(42, true)), flags(corim.Flag(42, true)), false},

		{"register", reg(at(1, sha(1))), reg(at(0, sha(0)), at(1, sha(1))), true},
		{"other register", reg(at(1, sha(1))), reg(at(1, sha(2))), false},
		{"register missing", reg(at(1, sha(1)), at(2, sha(1))), reg(at(1, sha(1))), false},
		{"register 5 is not \"5\"", reg(at(5, sha(1))), reg(name("5", sha(1))), false},
		{"register by name", reg(name("boot", sha(1))), reg(name("boot", sha(1), sha384(1))), true},

		{"int", V{Int: corim.Int(3)}, V{Int: corim.Int(3)}, true},
		{"other int", V{Int: corim.Int(3)}, V{Int: corim.Int(4)}, false},
		{"in range", rng(n(1), n(3)), V{Int: corim.Int(3)}, true},
		{"above range", rng(n(1), n(3)), V{Int: corim.Int(4)}, false},
		{"below range", rng(n(1), n(3)), V{Int: corim.Int(0)}, false},
		{"open range", rng(nil, n(3)), V{Int: corim.Int(-1 << 60)}, true},
		{"range in range", rng(n(1), n(9)), rng(n(2), n(3)), true},
		{"range beyond", rng(n(1), n(9)), rng(n(2), nil), false},
		{"range as one", V{Int: corim.Int(2)}, rng(n(2), n(2)), true},
		{"range is not one", V{Int: corim.Int(2)}, rng(n(2), n(3)), false},

		{"keys", V{Keys: []corim.Key{k(h(1, 1))}}, V{Keys: []corim.Key{k(h(1, 1)), k(h(2, 1))}}, true},
		{"keys in another order", V{Keys: []corim.Key{k(h(2, 1))}}, V{Keys: []corim.Key{k(h(1, 1)), k(h(2, 1))}}, false},
		{"more keys", V{Keys: []corim.Key{k(h(1, 1)), k(h(2, 1))}}, V{Keys: []corim.Key{k(h(1, 1))}}, false},

		{"name", V{Name: "a"}, V{Name: "a"}, true}, {"other name", V{Name: "a"}, V{Name: "b"}, false},
		{"serial", V{Serial: "a"}, V{Serial: "a"}, true}, {"other serial", V{Serial: "a"}, V{Serial: "b"}, false},
		{"ueid", V{UEID: h(1, 17)}, V{UEID: h(1, 17)}, true}, {"other ueid", V{UEID: h(1, 17)}, V{UEID: h(2, 17)}, false},
		{"uuid", V{UUID: h(1, 16)}, V{UUID: h(1, 16)}, true}, {"other uuid", V{UUID: h(1, 16)}, V{UUID: h(2, 16)}, false},
		{"mac", V{MAC: h(1, 6)}, V{MAC: h(1, 6)}, true}, {"other mac", V{MAC: h(1, 6)}, V{MAC: h(2, 6)}, false},
		{"ip", V{IP: h(1, 4)}, V{IP: h(1, 4)}, true}, {"other ip", V{IP: h(1, 4)}, V{IP: h(2, 4)}, false},

		{"all of several", V{Name: "a", SVN: &corim.SVN{Value: 1}}, V{Name: "a", Serial: "x", SVN: &corim.SVN{Value: 1}}, true},
		{"one of several differs", V{Name: "a", SVN: &corim.SVN{Value: 1}}, V{Name: "a", SVN: &corim.SVN{Value: 2}}, false},
		{"unknown code point", V{Extra: []corim.Field{{Code: 100, Value: corim.UintItem(1)}}}, V{Extra: []corim.Field{{Code: 100, Value: corim.UintItem(1)}}}, false},
		{"a profile's code point without the profile", V{Extra: []corim.Field{{Code: -73, Value: corim.UintItem(1)}}}, V{Extra: []corim.Field{{Code: -73, Value: corim.UintItem(1)}}}, false},
	} {
		if got := Match("", &tt.condition, &tt.entry); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		// What the codec makes of both is compared alike.
		c, err1 := corim.DecodeValues(tt.condition.Encode())
		e, err2 := corim.DecodeValues(tt.entry.Encode())
		if err1 == nil && err2 == nil && Match("", c, e) != tt.want {
			t.Errorf("%s: differs after coding", tt.name)
		}
	}
}

func TestMatchIntel(t *testing.T) {
	u := corim.UintItem
	arr := func(items ...corim.Item) corim.Item {
		b := dcbor.AppendArray(nil, len(items))
		for _, i := range items {
			b = append(b, i...)
		}
		return b
	}
	tag := func(n uint64, v corim.Item) corim.Item { return append(dcbor.AppendTag(nil, n), v...) }
	expr := func(n, op uint64, v corim.Item) corim.Item { return tag(n, arr(u(op), v)) }
	dig := func(alg uint64, v []byte) corim.Item { return arr(u(alg), dcbor.AppendBytes(nil, v)) }
	bs := func(v ...byte) corim.Item { return dcbor.AppendBytes(nil, v) }
	tx := corim.TextItem
	null := corim.Item{0xf6}
	sixteen := func(v corim.Item) corim.Item {
		var list []corim.Item
		for range 16 {
			list = append(list, v)
		}
		return arr(list...)
	}
	for _, tt := range []struct {
		name             string
		code             int64
		condition, entry corim.Item
		want             bool
	}{
		{"svn equal", -73, u(6), u(6), true},
		{"svn not equal", -73, u(6), u(7), false},
		{"svn ge", -73, expr(60010, 2, u(6)), u(7), true},
		{"svn ge, at", -73, expr(60010, 2, u(6)), u(6), true},
		{"svn ge, below", -73, expr(60010, 2, u(6)), u(5), false},
		{"gt", -86, expr(60010, 1, u(6)), u(6), false},
		{"lt", -86, expr(60010, 3, u(6)), u(5), true},
		{"le", -86, expr(60010, 4, u(6)), u(6), true},
		{"eq", -86, expr(60010, 0, u(6)), u(6), true},
		{"unknown operator", -86, expr(60010, 5, u(6)), u(6), false},
		{"set operator on a number", -86, expr(60010, 6, u(6)), u(6), false},
		{"expression of three", -86, tag(60010, arr(u(2), u(1), u(1))), u(6), false},
		{"min-svn", -73, tag(553, u(6)), u(7), true},
		{"min-svn, below", -73, tag(553, u(6)), u(5), false},
		{"range", -73, tag(564, arr(u(2), null)), u(5), true},
		{"below range", -73, tag(564, arr(u(6), null)), u(5), false},
		{"expression as state", -73, u(6), expr(60010, 2, u(6)), false},
		{"float", -73, expr(60010, 2, corim.Item{0xf9, 0x3c, 0x00}), u(6), false},
		{"missing", -73, u(6), nil, false},

		{"components", -125, sixteen(expr(60010, 2, u(2))), sixteen(u(2)), true},
		{"a component below", -125, sixteen(expr(60010, 2, u(2))), append(arr()[:0], append(corim.Item{0x90}, append(bytes.Repeat([]byte{2}, 15), 1)...)...), false},
		{"fifteen components", -125, arr(u(1)), arr(u(1)), false},

		{"attributes", -82, bs(1, 2), bs(1, 2), true},
		{"attributes masked", -82, tag(563, arr(bs(1, 0xff), bs(0xff, 0))), bs(1, 2), true},
		{"attributes masked, differ", -82, tag(563, arr(bs(1, 0xff), bs(0xff, 1))), bs(1, 2), false},
		{"attributes of other length", -82, tag(563, arr(bs(1), bs(0))), bs(1, 2), false},

		{"digest", -83, dig(7, h(1, 48)), dig(7, h(1, 48)), true},
		{"other digest", -83, dig(7, h(1, 48)), dig(7, h(2, 48)), false},
		{"other algorithm", -83, dig(1, h(1, 48)), dig(7, h(1, 48)), false},
		{"set of digests", -84, arr(dig(1, h(1, 32)), dig(7, h(1, 48))), arr(dig(7, h(1, 48)), dig(1, h(1, 32))), true},
		{"set of digests, one more", -84, arr(dig(1, h(1, 32)), dig(7, h(1, 48))), dig(7, h(1, 48)), false},
		{"member", -84, expr(60020, 6, arr(dig(1, h(1, 32)), dig(1, h(2, 32)))), dig(1, h(2, 32)), true},
		{"no member", -84, expr(60020, 6, arr(dig(1, h(1, 32)), dig(1, h(2, 32)))), dig(1, h(3, 32)), false},
		{"member of nothing", -84, expr(60020, 6, arr()), dig(1, h(3, 32)), false},
		{"not member", -84, expr(60020, 7, arr(dig(1, h(1, 32)))), dig(1, h(2, 32)), true},
		{"not member, but is", -84, expr(60020, 7, arr(dig(1, h(1, 32)))), dig(1, h(1, 32)), false},
		{"texts where digests belong", -84, expr(60021, 6, arr(tx("a"))), dig(1, h(1, 32)), false},

		{"status", -88, arr(tx("UpToDate")), arr(tx("UpToDate")), true},
		{"status, more", -88, arr(tx("UpToDate")), arr(tx("UpToDate"), tx("OutOfDate")), false},
		{"status, another order", -88, arr(tx("b"), tx("a")), arr(tx("a"), tx("b")), true},
		{"status member", -88, expr(60021, 6, arr(tx("UpToDate"), tx("SWHardeningNeeded"))), arr(tx("UpToDate")), true},
		{"status member, none", -88, expr(60021, 6, arr(tx("UpToDate"))), arr(), false},
		{"status beside others", -88, expr(60021, 6, arr(tx("UpToDate"))), arr(tx("UpToDate"), tx("Revoked")), false},
		{"status not member", -88, expr(60021, 7, arr(tx("Revoked"))), arr(tx("UpToDate")), true},
		{"no advisories", -89, arr(), arr(), true},
		{"no advisories wanted", -89, arr(), arr(tx("INTEL-SA-1")), false},
		{"double in a set", -89, arr(tx("a"), tx("a")), arr(tx("a"), tx("a")), false},

		{"vendor", -70, tx("Intel Corporation"), tx("Intel Corporation"), true},
		{"other vendor", -70, tx("Intel Corporation"), tx("Intel"), false},
		{"product id", -85, u(1), u(1), true},
		{"expression where none may be", -85, expr(60010, 2, u(1)), expr(60010, 2, u(1)), false},
		{"keys", -91, arr(corim.Item(corim.KeyID(h(1, 1)))), arr(corim.Item(corim.KeyID(h(1, 1))), corim.Item(corim.KeyID(h(2, 1)))), true},
		{"unknown code point", -99, u(1), u(1), false},
		{"unknown code point above zero", 100, u(1), u(1), false},
	} {
		var e corim.Values
		if tt.entry != nil {
			e.Extra = []corim.Field{{Code: tt.code, Value: tt.entry}}
		}
		if got := Match(corim.ProfileIntel, &corim.Values{Extra: []corim.Field{{Code: tt.code, Value: tt.condition}}}, &e); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		if Match(corim.ProfileAMD, &corim.Values{Extra: []corim.Field{{Code: tt.code, Value: tt.condition}}}, &e) {
			t.Errorf("%s: matches under another profile", tt.name)
		}
	}
}

// C1: the other library masks in place, so that a comparison changes evidence and
// reference value for the next one. Ours is right: the draft compares, and values
// are shared between appraisals.
func TestMaskingChangesNothing(t *testing.T) {
	log.SetOutput(io.Discard) // the other library logs
	theirEvidence, theirReference, mask := []byte{0xff, 0xff}, []byte{0x0f, 0xf0}, []byte{0x0f, 0xf0}
	if !comid.NewRawValue().SetBytes(theirEvidence).CompareAgainstReference(theirReference, &mask) {
		t.Error("the other library finds no match")
	}
	if bytes.Equal(theirEvidence, []byte{0xff, 0xff}) {
		t.Error("the other library has stopped changing evidence: update INTEROP.md")
	}
	e, c := &corim.RawValue{Value: []byte{0xff, 0xff}}, &corim.RawValue{Value: []byte{0x0f, 0xf0}, Mask: []byte{0x0f, 0xf0}}
	for range 2 {
		if !Match("", &corim.Values{Raw: c}, &corim.Values{Raw: e}) {
			t.Error("no match")
		}
	}
	if !bytes.Equal(e.Value, []byte{0xff, 0xff}) || !bytes.Equal(c.Value, []byte{0x0f, 0xf0}) || !bytes.Equal(c.Mask, []byte{0x0f, 0xf0}) {
		t.Error("a value was changed")
	}
}

// C2: two digests of one algorithm in evidence are accepted by the other library
// when both fit, and its Equal is not symmetric. The draft: "The comparison MUST
// return false if either digests entry contains multiple values for the same hash
// algorithm."
func TestDoubleDigests(t *testing.T) {
	their := func(bs ...byte) comid.Digests {
		d := comid.NewDigests()
		for _, b := range bs {
			d.AddDigest(corim.SHA256, h(b, 32))
		}
		return *d
	}
	if !their(1, 2).Equal(their(1)) || their(1).Equal(their(1, 2)) {
		t.Error("the other library's Equal has become symmetric: update INTEROP.md")
	}
	if !their(1, 1).CompareAgainstReference(their(1)) {
		t.Error("the other library refuses double digests in evidence: update INTEROP.md")
	}
	one, two := &corim.Values{Digests: []corim.Digest{sha(1)}}, &corim.Values{Digests: []corim.Digest{sha(1), sha(1)}}
	if Match("", one, two) || Match("", two, one) || Match("", two, two) || !Match("", one, one) {
		t.Error("double digests match")
	}
}
