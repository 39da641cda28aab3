package rego

import (
	"strings"
	"testing"
)

// Values are read as OPA's modules write them, and printed as OPA prints them.
func TestValues(t *testing.T) {
	for in, want := range map[string]string{
		`null`: `null`, `true`: `true`, `-1.5e+3`: `-1.5e+3`, `"a\u0000\"ä"`: `"a\x00\"ä"`,
		`[]`: `[]`, `{}`: `{}`, `set()`: `set()`, `[1, [2,"x"], set()]`: `[1, [2, "x"], set()]`,
		`{2, 10, "b", "a", null, [1], {1}, {"k": 1}, true, false}`: `{null, false, true, 2, 10, "a", "b", [1], {"k": 1}, {1}}`,
		`{"b": 1, "a": {2: [3], [1]: 4}}`:                          `{"a": {2: [3], [1]: 4}, "b": 1}`,
		`{1e999999999, 1}`:                                         `{1e999999999, 1}`,
	} {
		v, err := parseValue([]byte(in))
		if err != nil || v.String() != want {
			t.Errorf("%s: want %s, got %s, %v", in, want, v, err)
		}
	}
	for _, in := range []string{``, `nul`, `truefalse`, `1 2`, `[1`, `[1 2]`, `{1: 2, 3}`, `{1, 2: 3}`, `{"a":}`, `{`, `"a`, `"\x"`, `01`, `-`, `1.`, `set(`, `[,]`, `x`,
		strings.Repeat("[", 100), strings.Repeat("1", 65)} {
		if v, err := parseValue([]byte(in)); err == nil {
			t.Errorf("%s is read as %s", in, v)
		}
	}
}

func FuzzValue(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.5e-3, {true, set()}], 3: null}`, `{1, "\u00e4", [{}]}`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseValue(b)
		if err != nil {
			return
		}
		if compare(v, v) != 0 {
			t.Errorf("%s is not equal to itself", v)
		}
		if s := v.String(); len(s) > 8*len(b)+8 {
			t.Errorf("%d bytes become %d", len(b), len(s))
		}
	})
}

// FuzzSprintf: no format makes much text of little, or ends in a panic.
func FuzzSprintf(f *testing.F) {
	for _, s := range []string{"%d %s %v %q %x %U %T %p", "%255d%.255f", "%!(EXTRA", "%%%", "%+ -#08.3f", "%999d", "%*d", "%[2]d", "%w"} {
		f.Add(s, `["a", 1, 2.5, 123456789012345678901234567890, [1, {2}], null]`)
	}
	f.Fuzz(func(t *testing.T, format, args string) {
		list, err := parseValue([]byte(args))
		if err != nil {
			return
		}
		v, err := sprintf(nil, []value{*textValue(format), list})
		if err != nil || v == nil {
			return
		}
		if most := 32*len(args) + 300*(len(format)+1); len(v.text) > most {
			t.Errorf("%q of %d bytes of arguments makes %d bytes, more than %d", format, len(args), len(v.text), most)
		}
	})
}
