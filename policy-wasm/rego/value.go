package rego

import (
	"cmp"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A kind of values, in the order in which Rego sorts them.
type kind int

const (
	null kind = iota
	boolean
	number
	str
	array
	object
	set
)

// A value is one of Rego's. Elements of a set and members of an object are in
// Rego's order.
type value struct {
	kind  kind
	yes   bool       // of a boolean
	text  string     // of a string; of a number, as it is spelled
	items []value    // of an array or a set; keys and values of an object, in turns
	exact *big.Float // of a number that was read and is no integer of 64 bits: sorting must not read it again and again
}

const (
	maxArgument = 64 << 10 // bytes of an argument of a builtin, as text
	maxNumber   = 64       // characters of a number
)

func textValue(s string) *value   { return &value{kind: str, text: strings.ToValidUTF8(s, "\ufffd")} }
func boolValue(b bool) *value     { return &value{kind: boolean, yes: b} }
func intValue(n int64) *value     { return &value{kind: number, text: strconv.FormatInt(n, 10)} }
func listValue(v ...value) *value { return &value{kind: array, items: v} }

// parseValue reads what opa_value_dump writes: JSON, with set() and {1, 2} for
// sets, and keys of any kind.
func parseValue(b []byte) (value, error) {
	p := &parser{b: b}
	v := p.value(0)
	if p.err == nil && p.at != len(p.b) {
		p.fail("more than one value")
	}
	return v, p.err
}

type parser struct {
	b   []byte
	at  int
	err error
}

func (p *parser) fail(why string) {
	if p.err == nil {
		p.err = errors.New("no value of Rego at byte " + strconv.Itoa(p.at) + ": " + why)
	}
	p.at = len(p.b)
}

// take takes s, and a space behind it.
func (p *parser) take(s string) bool {
	if p.err != nil || !strings.HasPrefix(string(p.b[p.at:min(len(p.b), p.at+len(s))]), s) {
		return false
	}
	p.at += len(s)
	if p.at < len(p.b) && p.b[p.at] == ' ' {
		p.at++
	}
	return true
}

func (p *parser) value(depth int) (v value) {
	if depth > maxDepth || p.at >= len(p.b) {
		p.fail("it ends, or is nested too deep")
		return v
	}
	switch c := p.b[p.at]; {
	case p.take("null"):
	case p.take("true"):
		v = value{kind: boolean, yes: true}
	case p.take("false"):
		v = value{kind: boolean}
	case p.take("set()"):
		v = value{kind: set}
	case c == '"':
		v = p.string()
	case c == '-' || c >= '0' && c <= '9':
		v = p.number()
	case p.take("["):
		v.kind = array
		for !p.take("]") && p.err == nil {
			v.items = append(v.items, p.value(depth+1))
			p.comma("]")
		}
	case p.take("{"):
		v = p.braces(depth)
	default:
		p.fail("no value begins so")
	}
	return v
}

func (p *parser) comma(end string) {
	if p.err == nil && !p.take(",") && (p.at >= len(p.b) || p.b[p.at] != end[0]) {
		p.fail("no comma")
	}
}

// braces reads an object or a set.
func (p *parser) braces(depth int) value {
	v := value{kind: object}
	for first := true; !p.take("}") && p.err == nil; first = false {
		v.items = append(v.items, p.value(depth+1))
		switch {
		case p.take(":") && (first || v.kind == object):
			v.items = append(v.items, p.value(depth+1))
		case first:
			v.kind = set
		case v.kind == object:
			p.fail("a member without a value")
		}
		p.comma("}")
	}
	if p.err == nil {
		v.sort()
	}
	return v
}

func (p *parser) string() value {
	end := p.at + 1
	for end < len(p.b) && p.b[end] != '"' {
		if p.b[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(p.b) {
		p.fail("a string that does not end")
		return value{}
	}
	s, err := jsontext.AppendUnquote(nil, p.b[p.at:end+1])
	if err != nil {
		p.fail("a string that is none of JSON")
		return value{}
	}
	p.at = end
	p.take(`"`)
	return value{kind: str, text: string(s)}
}

func (p *parser) number() value {
	end := p.at
	for end < len(p.b) && strings.IndexByte("+-.0123456789eE", p.b[end]) >= 0 {
		end++
	}
	s := string(p.b[p.at:end])
	if !jsontext.Value(s).IsValid() || len(s) > maxNumber {
		p.fail("no number, or one that is too long")
		return value{}
	}
	p.at = end
	p.take("")
	v := value{kind: number, text: s}
	if _, ok := v.int(); !ok {
		v.exact = v.float()
	}
	return v
}

// sort puts a set or an object into Rego's order.
func (v *value) sort() {
	if v.kind == set {
		slices.SortFunc(v.items, compare)
		return
	}
	pairs := slices.Collect(slices.Chunk(v.items, 2))
	slices.SortFunc(pairs, func(a, b []value) int { return compare(a[0], b[0]) })
	v.items = slices.Concat(pairs...)
}

// compare orders values as Rego does.
func compare(a, b value) int {
	if a.kind != b.kind {
		return cmp.Compare(a.kind, b.kind)
	}
	switch a.kind {
	case boolean:
		return cmp.Compare(len(strconv.FormatBool(b.yes)), len(strconv.FormatBool(a.yes))) // false first
	case number:
		if a.exact == nil && b.exact == nil {
			m, ok := a.int()
			n, too := b.int()
			if ok && too {
				return cmp.Compare(m, n)
			}
		}
		return a.float().Cmp(b.float())
	case str:
		return cmp.Compare(a.text, b.text)
	case object: // by keys, then by values
		if c := slices.CompareFunc(a.every(0), b.every(0), compare); c != 0 {
			return c
		}
		return slices.CompareFunc(a.every(1), b.every(1), compare)
	}
	return slices.CompareFunc(a.items, b.items, compare)
}

// every is each second item of an object: its keys (0) or its values (1).
func (v value) every(from int) (out []value) {
	for i := from; i < len(v.items); i += 2 {
		out = append(out, v.items[i])
	}
	return out
}

// float is a number; one whose exponent is absurd is zero.
func (v value) float() *big.Float {
	if v.exact != nil {
		return v.exact
	}
	if _, e, ok := strings.Cut(strings.ToLower(v.text), "e"); ok {
		if n, err := strconv.Atoi(e); err != nil || n > 1000 || n < -1000 {
			return new(big.Float)
		}
	}
	f, ok := new(big.Float).SetPrec(256).SetString(v.text)
	if !ok {
		return new(big.Float)
	}
	return f
}

// int is a number that is an integer of 64 bits.
func (v value) int() (int64, bool) {
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, v.kind == number && err == nil
}

// append writes a value as OPA prints it.
func (v value) append(b []byte) []byte {
	list := func(open, end string) []byte {
		b = append(b, open...)
		for i, x := range v.items {
			switch {
			case i == 0:
			case v.kind == object && i%2 == 1:
				b = append(b, ": "...)
			default:
				b = append(b, ", "...)
			}
			b = x.append(b)
		}
		return append(b, end...)
	}
	switch v.kind {
	case boolean:
		return strconv.AppendBool(b, v.yes)
	case number:
		return append(b, v.text...)
	case str:
		return strconv.AppendQuote(b, v.text)
	case array:
		return list("[", "]")
	case set:
		if len(v.items) == 0 {
			return append(b, "set()"...)
		}
		return list("{", "}")
	case object:
		return list("{", "}")
	}
	return append(b, "null"...)
}

func (v value) String() string { return string(v.append(nil)) }

// appendJSON writes the result of a builtin; none of them gives a set, or an
// object with other keys than strings.
func appendJSON(b []byte, v value) []byte {
	switch v.kind {
	case str:
		s := v.text
		if !utf8.ValidString(s) {
			s = strings.ToValidUTF8(s, "\ufffd")
		}
		b, _ = jsontext.AppendQuote(b, s)
		return b
	case array:
		b = append(b, '[')
		for i, x := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, x)
		}
		return append(b, ']')
	}
	return v.append(b)
}
