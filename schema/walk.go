package schema

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxSteps bounds nested schema applications: 64 levels of input times the
// longest chain of references and conditions in our files, with room.
const maxSteps = 1024

// A walk checks one value against a node and collects violations until
// MaxViolations. A probe only wants to know whether there is one.
type walk struct {
	path  []byte // JSON pointer of the value at hand
	steps int
	probe bool
	out   []Violation
	more  bool
}

func (w *walk) done() bool { return w.more || (w.probe && len(w.out) > 0) }

func (w *walk) add(rule, format string, args ...any) {
	w.addAt("", rule, format, args...)
}

// addAt reports on the value at hand, or on its member if that is not empty.
func (w *walk) addAt(member, rule, format string, args ...any) {
	if w.probe {
		w.out = append(w.out, Violation{})
		return
	}
	v := Violation{Rule: rule, Message: fmt.Sprintf(format, args...), Pointer: string(w.path)}
	if member != "" {
		v.Pointer += "/" + escape(member)
	}
	if slices.Contains(w.out, v) {
		return
	}
	if len(w.out) == MaxViolations {
		w.more = true
		return
	}
	w.out = append(w.out, v)
}

// fits reports whether v conforms to n, without a report.
func (w *walk) fits(n *node, v any) bool {
	p := walk{probe: true, steps: w.steps}
	p.check(n, v)
	return len(p.out) == 0
}

func (w *walk) in(member string, n *node, v any) {
	old := len(w.path)
	if !w.probe {
		w.path = append(append(w.path, '/'), escape(member)...)
	}
	w.check(n, v)
	w.path = w.path[:old]
}

func (w *walk) check(n *node, v any) {
	if n == nil || w.done() {
		return
	}
	if n.never {
		w.add("false", "must not be present")
		return
	}
	if w.steps++; w.steps > maxSteps {
		w.add("too-deep", "is nested too deeply")
		return
	}
	defer func() { w.steps-- }()
	if n.types != 0 && n.types&typeOf(v) == 0 {
		w.add("type", "is %s, must be %s", describe(v), n.types)
		return // what follows would only repeat it
	}
	w.check(n.ref, v)
	if len(n.consts) > 0 && !slices.ContainsFunc(n.consts, func(c any) bool { return same(c, v) }) {
		w.constant(n, v)
	}
	switch v := v.(type) {
	case map[string]any:
		w.object(n, v)
	case []any:
		w.array(n, v)
	case string:
		w.text(n, v)
	case float64:
		if v < n.minimum {
			w.add("minimum", "is less than %g", n.minimum)
		}
		if v > n.maximum {
			w.add("maximum", "is more than %g", n.maximum)
		}
	}
	w.combine(n, v)
}

func (w *walk) combine(n *node, v any) {
	for _, s := range n.allOf {
		w.check(s, v)
	}
	if len(n.anyOf) > 0 && !slices.ContainsFunc(n.anyOf, func(s *node) bool { return w.fits(s, v) }) {
		var want []string
		for _, s := range n.anyOf {
			want = append(want, s.required...)
		}
		if len(want) == len(n.anyOf) {
			w.add("anyOf", "needs at least one of the members %s", strings.Join(want, ", "))
		} else {
			w.add("anyOf", "has none of the %d allowed forms", len(n.anyOf))
		}
	}
	if n.not != nil && w.fits(n.not, v) {
		w.add("not", "is %s, which is not allowed here", describe(v))
	}
	if n.cond != nil {
		if w.fits(n.cond, v) {
			w.check(n.then, v)
		} else {
			w.check(n.otherwise, v)
		}
	}
}

func (w *walk) object(n *node, v map[string]any) {
	for _, name := range n.required {
		if _, ok := v[name]; !ok {
			w.addAt(name, "required", "is missing")
		}
	}
	if len(v) < n.minProps {
		w.add("minProperties", "has %d members, must have at least %d", len(v), n.minProps)
	}
	if n.others == nil && n.names == nil && n.patterns == nil {
		// Only named members matter: cost follows the schema, not the input.
		if w.probe {
			for name, p := range n.properties {
				if val, ok := v[name]; ok {
					w.check(p, val)
				}
			}
			return
		}
	}
	for _, name := range order(v, n, w.probe) {
		if w.done() {
			return
		}
		val := v[name]
		if n.names != nil && !w.fits(n.names, name) {
			w.addAt(name, "propertyNames", "is no allowed member name")
		}
		p, known := n.properties[name]
		if known {
			w.in(name, p, val)
		}
		for _, pn := range n.patterns {
			if pn.re.MatchString(name) {
				known = true
				w.in(name, pn.n, val)
			}
		}
		if !known && n.others != nil {
			w.in(name, n.others, val)
		}
	}
}

// order gives the members to visit; sorted, so that reports are stable.
func order(v map[string]any, n *node, probe bool) []string {
	all := n.others != nil || n.names != nil || n.patterns != nil
	var names []string
	if all || len(v) <= len(n.properties) {
		for name := range v {
			if _, ok := n.properties[name]; ok || all {
				names = append(names, name)
			}
		}
	} else {
		for name := range n.properties {
			if _, ok := v[name]; ok {
				names = append(names, name)
			}
		}
	}
	if !probe {
		slices.Sort(names)
	}
	return names
}

func (w *walk) array(n *node, v []any) {
	if len(v) < n.minItems {
		w.add("minItems", "has %d elements, must have at least %d", len(v), n.minItems)
	}
	if n.maxItems >= 0 && len(v) > n.maxItems {
		w.add("maxItems", "has %d elements, must have at most %d", len(v), n.maxItems)
	}
	if n.unique {
		w.distinct(v)
	}
	if n.items == nil {
		return
	}
	for i, e := range v {
		if w.done() {
			return
		}
		w.in(strconv.Itoa(i), n.items, e)
	}
}

// distinct checks uniqueItems on strings, the only use our schemas have.
func (w *walk) distinct(v []any) {
	seen := make(map[string]bool, min(len(v), 64))
	for _, e := range v {
		s, ok := e.(string)
		if ok && seen[s] {
			w.add("uniqueItems", "has %s twice", short(s))
			return
		}
		seen[s] = ok
	}
}

func (w *walk) text(n *node, v string) {
	if n.minLength > 0 || n.maxLength >= 0 {
		l := utf8.RuneCountInString(v)
		if l < n.minLength {
			w.add("minLength", "has %d characters, must have at least %d", l, n.minLength)
		}
		if n.maxLength >= 0 && l > n.maxLength {
			w.add("maxLength", "has %d characters, must have at most %d", l, n.maxLength)
		}
	}
	if n.pattern != nil && !n.pattern.MatchString(v) {
		w.add("pattern", "is %s, must match %s", short(v), n.pattern)
	}
	if n.format != nil && !n.format(v) {
		w.add("format", "is %s, which is no %s", short(v), formatNames[n.formatName])
	}
}

var formatNames = map[string]string{"uri": "URI", "uri-template": "URI template", "byte": "base64 text", "base64url": "canonical base64url text without padding"}

func (w *walk) constant(n *node, v any) {
	var want []string
	for _, c := range n.consts {
		want = append(want, describe(c))
	}
	rule := "enum"
	if len(want) == 1 {
		rule = "const"
	}
	w.add(rule, "is %s, must be %s", describe(v), strings.Join(want, " or "))
}

func typeOf(v any) typeSet {
	switch v := v.(type) {
	case nil:
		return tNull
	case bool:
		return tBool
	case float64:
		if v == math.Trunc(v) {
			return tInteger
		}
		return tNumber
	case string:
		return tString
	case []any:
		return tArray
	default:
		return tObject
	}
}

// describe names a value for a message: scalars by value, the rest by type.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return short(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case nil:
		return "null"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

// same compares a constant of a schema, always a scalar, with a value.
func same(c, v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return c == v
}

func escape(s string) string {
	if !strings.ContainsAny(s, "~/") {
		return s
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}
