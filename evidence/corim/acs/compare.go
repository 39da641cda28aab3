package acs

import (
	"bytes"
	"slices"

	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Match reports whether the values of an entry, which are actual state, satisfy
// those of a condition (section "Rules of Comparison" of the draft): each
// attribute of the condition is present in the entry, and matches by the rule
// of its code point. Code points below zero are compared by the rules of the
// condition's profile. What has no rule does not match.
func Match(profile string, condition, entry *corim.Values) bool {
	_, ok := mismatch(profile, condition, entry)
	return ok
}

// mismatch is the first code point that does not match.
func mismatch(profile string, c, e *corim.Values) (code int64, ok bool) {
	switch {
	case c.Version != nil && !matchVersion(c.Version, e.Version):
		return corim.CodeVersion, false
	case c.SVN != nil && !matchSVN(c.SVN, e.SVN):
		return corim.CodeSVN, false
	case len(c.Digests) > 0 && !matchDigests(c.Digests, e.Digests):
		return corim.CodeDigests, false
	case len(c.Flags) > 0 && !matchFlags(c.Flags, e.Flags):
		return corim.CodeFlags, false
	case c.Raw != nil && !matchRaw(c.Raw, c.RawMask, e.Raw):
		return corim.CodeRaw, false
	case c.RawMask != nil && c.Raw == nil:
		return corim.CodeRawMask, false
	case c.MAC != nil && !bytes.Equal(c.MAC, e.MAC):
		return corim.CodeMAC, false
	case c.IP != nil && !bytes.Equal(c.IP, e.IP):
		return corim.CodeIP, false
	case c.Serial != "" && c.Serial != e.Serial:
		return corim.CodeSerial, false
	case c.UEID != nil && !bytes.Equal(c.UEID, e.UEID):
		return corim.CodeUEID, false
	case c.UUID != nil && !bytes.Equal(c.UUID, e.UUID):
		return corim.CodeUUID, false
	case c.Name != "" && c.Name != e.Name:
		return corim.CodeName, false
	case len(c.Keys) > 0 && !matchKeys(c.Keys, e.Keys):
		return corim.CodeKeys, false
	case len(c.Registers) > 0 && !matchRegisters(c.Registers, e.Registers):
		return corim.CodeRegisters, false
	case c.Int != nil && !matchInt(c.Int, e.Int):
		return corim.CodeInt, false
	}
	for _, f := range c.Extra {
		if profile != corim.ProfileIntel || !matchIntel(f, extra(e, f.Code)) {
			return f.Code, false
		}
	}
	return 0, true
}

func extra(v *corim.Values, code int64) corim.Item {
	for _, f := range v.Extra {
		if f.Code == code {
			return f.Value
		}
	}
	return nil
}

// Versions can't be ordered: only equality of version and scheme counts.
func matchVersion(c, e *corim.Version) bool {
	return e != nil && c.Version == e.Version && bytes.Equal(c.Scheme, e.Scheme)
}

// A minimum as actual state is an endorsed minimum: it equals itself, and says
// nothing of the exact number.
func matchSVN(c, e *corim.SVN) bool {
	switch {
	case e == nil:
		return false
	case e.Form == corim.MinSVN:
		return c.Form == corim.MinSVN && c.Value == e.Value
	case c.Form == corim.MinSVN:
		return c.Value <= e.Value
	}
	return c.Value == e.Value
}

// All digests of algorithms that both have must be equal, and there must be one:
// or an attacker would present the weakest. Two digests of one algorithm on
// either side are no statement at all.
func matchDigests(c, e []corim.Digest) bool {
	if repeats(c) || repeats(e) {
		return false
	}
	common := false
	for _, want := range c {
		n, name := want.Algorithm()
		for _, have := range e {
			if hn, hname := have.Algorithm(); hn != n || hname != name {
				continue
			}
			if !bytes.Equal(want.Value, have.Value) {
				return false
			}
			common = true
		}
	}
	return common
}

func repeats(ds []corim.Digest) bool {
	for i, d := range ds {
		n, name := d.Algorithm()
		for _, o := range ds[:i] {
			if on, oname := o.Algorithm(); on == n && oname == name {
				return true
			}
		}
	}
	return false
}

// A flag that the draft does not define has no rule, so it does not match.
func matchFlags(c, e []corim.Field) bool {
	for _, want := range c {
		if want.Code < corim.FlagConfigured || want.Code > corim.FlagRuntimeUpdatable {
			return false
		}
		if !slices.ContainsFunc(e, func(have corim.Field) bool {
			return have.Code == want.Code && bytes.Equal(have.Value, want.Value)
		}) {
			return false
		}
	}
	return true
}

// Neither value is changed: both are shared between appraisals.
func matchRaw(c *corim.RawValue, deprecated []byte, e *corim.RawValue) bool {
	if e == nil || c.Unknown != nil || e.Unknown != nil || e.Mask != nil || len(c.Value) != len(e.Value) {
		return false
	}
	mask := c.Mask
	if mask == nil {
		mask = deprecated
	} else if deprecated != nil {
		return false // two masks
	}
	if mask == nil {
		return bytes.Equal(c.Value, e.Value)
	}
	if len(mask) != len(c.Value) {
		return false
	}
	for i, m := range mask {
		if c.Value[i]&m != e.Value[i]&m {
			return false
		}
	}
	return true
}

// Keys are compared in their order; the entry may have more.
func matchKeys(c, e []corim.Key) bool {
	return len(c) <= len(e) && slices.EqualFunc(c, e[:len(c)], corim.Key.Equal)
}

// Each register of the condition must be in the entry, under its own type of
// name: 5 is not "5".
func matchRegisters(c, e []corim.Register) bool {
	for _, want := range c {
		have := register(e, want.RegisterID)
		if have == nil || !matchDigests(want.Digests, have.Digests) {
			return false
		}
	}
	return true
}

func register(regs []corim.Register, id corim.RegisterID) *corim.Register {
	for i := range regs {
		if regs[i].RegisterID == id {
			return &regs[i]
		}
	}
	return nil
}

// The range of the condition must include that of the entry.
func matchInt(c, e *corim.IntRange) bool {
	return e != nil &&
		(c.Min == nil || e.Min != nil && *e.Min >= *c.Min) &&
		(c.Max == nil || e.Max != nil && *e.Max <= *c.Max)
}

// Tags and operators of the Intel profile, section "Expression Operators".
const (
	tagNumeric = 60010
	tagDigests = 60020
	tagTexts   = 60021

	opEqual        = 0
	opGreater      = 1
	opGreaterEqual = 2
	opLess         = 3
	opLessEqual    = 4
	opMember       = 6
	opNotMember    = 7
)

// matchIntel compares a code point of the Intel profile. Types that its CDDL does
// not allow do not match.
func matchIntel(c corim.Field, e corim.Item) bool {
	if e == nil {
		return false
	}
	switch c.Code {
	case -70, -71, -72, -80, -85, -101: // vendor, model, tcbdate, pceid, isvprodid, platform-instance-id
		if tag, _, ok := corim.SplitTag(c.Value); ok && tag >= tagNumeric {
			return false // an expression where none is allowed
		}
		return bytes.Equal(c.Value, e)
	case -73, -86: // isvsvn, tcb-eval-num
		return matchNumber(c.Value, e)
	case -125: // tcb-comp-svn: 16 numbers, each by its own expression
		want, have := items(c.Value), items(e)
		if len(want) != 16 || len(have) != 16 {
			return false
		}
		for i := range want {
			if !matchNumber(want[i], have[i]) {
				return false
			}
		}
		return true
	case -81, -82: // miscselect, attributes
		return matchMasked(c.Value, e)
	case -83, -84: // mrtee, mrsigner
		return matchSet(c.Value, e, tagDigests, digestSet)
	case -88, -89: // tcbstatus, advisory-ids
		return matchSet(c.Value, e, tagTexts, textSet)
	case -91: // cryptokeys
		want, have := items(c.Value), items(e)
		return len(want) > 0 && len(want) <= len(have) && slices.EqualFunc(want, have[:len(want)], func(a, b corim.Item) bool { return bytes.Equal(a, b) })
	}
	return false
}

// matchNumber takes as condition a number, a minimum SVN, a range or a numeric
// expression; as entry a number, bare or as SVN.
func matchNumber(c, e corim.Item) bool {
	have, ok := number(e)
	if !ok {
		return false
	}
	tag, content, tagged := corim.SplitTag(c)
	if !tagged {
		want, ok := number(c)
		return ok && want == have
	}
	switch tag {
	case 552, 553:
		want, ok := number(content)
		return ok && want >= 0 && (want == have || tag == 553 && want < have)
	case 564:
		r, err := corim.DecodeInt(c)
		return err == nil && matchInt(r, corim.Int(have))
	case tagNumeric:
		x := items(content)
		if len(x) != 2 {
			return false
		}
		op, ok1 := number(x[0])
		want, ok2 := number(x[1])
		if !ok1 || !ok2 {
			return false
		}
		switch op {
		case opEqual:
			return have == want
		case opGreater:
			return have > want
		case opGreaterEqual:
			return have >= want
		case opLess:
			return have < want
		case opLessEqual:
			return have <= want
		}
	}
	return false
}

func number(v corim.Item) (int64, bool) {
	if tag, content, ok := corim.SplitTag(v); ok && tag == 552 {
		v = content
	}
	r := dcbor.NewReader(v)
	n := r.Int()
	return n, r.Done() == nil
}

func matchMasked(c, e corim.Item) bool {
	want, err := masked(c)
	if err != nil {
		return false
	}
	have, err := masked(e)
	return err == nil && matchRaw(want, nil, have)
}

// masked reads a $masked-value-type: bytes, or a raw value.
func masked(v corim.Item) (*corim.RawValue, error) {
	if _, _, ok := corim.SplitTag(v); ok {
		return corim.DecodeRaw(v)
	}
	r := dcbor.NewReader(v)
	b := r.Bytes()
	return &corim.RawValue{Value: b}, r.Done()
}

// matchSet compares sets of digests or of strings: equality, or the expressions
// "member" and "not member".
func matchSet(c, e corim.Item, tag uint64, read func(corim.Item) ([]string, bool)) bool {
	have, ok := read(e)
	if !ok {
		return false
	}
	op := int64(opEqual)
	single := false
	if t, content, ok := corim.SplitTag(c); ok {
		x := items(content)
		if t != tag || len(x) != 2 {
			return false
		}
		if op, ok = number(x[0]); !ok {
			return false
		}
		c = x[1]
	} else if tag == tagDigests {
		_, err := corim.DecodeDigest(c)
		single = err == nil
	}
	want, ok := read(c)
	if !ok {
		return false
	}
	n := 0
	for _, w := range want {
		if slices.Contains(have, w) {
			n++
		}
	}
	switch {
	case single:
		return n == 1
	case op == opEqual:
		return n == len(want) && len(want) == len(have)
	case op == opMember:
		// Section "Set Expressions" wants what the entry has to be among the
		// condition's; section "Comparison Algorithm for Sets" wants it the other way
		// round, which lets unknown advisories pass and no list of alternatives work.
		// The first is meant.
		return len(have) > 0 && n == len(have)
	case op == opNotMember:
		return n == 0
	}
	return false
}

// digestSet reads a digest or an array of digests. No member stands twice.
func digestSet(v corim.Item) ([]string, bool) {
	if d, err := corim.DecodeDigest(v); err == nil {
		return []string{d.String()}, true
	}
	return set(v, func(v corim.Item) (string, bool) {
		d, err := corim.DecodeDigest(v)
		return d.String(), err == nil
	})
}

func textSet(v corim.Item) ([]string, bool) {
	return set(v, func(v corim.Item) (string, bool) {
		r := dcbor.NewReader(v)
		s := r.Text()
		return s, r.Done() == nil
	})
}

func set(v corim.Item, read func(corim.Item) (string, bool)) ([]string, bool) {
	r := dcbor.NewReader(v)
	n := r.Array()
	var out []string
	for range n {
		s, ok := read(r.Skip())
		if r.Err() != nil || !ok || slices.Contains(out, s) || len(out) >= 256 {
			return nil, false
		}
		out = append(out, s)
	}
	return out, r.Done() == nil
}

func items(v corim.Item) []corim.Item {
	r := dcbor.NewReader(v)
	n := r.Array()
	if n > 256 {
		return nil
	}
	var out []corim.Item
	for range n {
		out = append(out, r.Skip())
	}
	if r.Done() != nil {
		return nil
	}
	return out
}
