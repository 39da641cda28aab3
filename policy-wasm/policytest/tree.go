package policytest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

// A Source finds the base document of a test by its name: that of a sample, or
// the path of a file.
type Source func(base string) ([]byte, error)

// build makes the document of a test, as the tree that json makes of any.
// Numbers are float64: those that a document may hold are exact in it, and those
// beyond stay beyond.
func (f *File) build(t *Test, source Source) (any, error) {
	text := []byte(t.Document)
	if text == nil {
		var err error
		if text, err = source(t.Base); err != nil {
			return nil, err
		}
	}
	if _, err := document.Parse(text); err != nil {
		return nil, err
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	settings := t.Settings
	if settings == nil {
		settings = f.Settings
	}
	if settings != nil {
		if err := set(&doc, "/settings", settings); err != nil {
			return nil, err
		}
	}
	for i, c := range t.Change {
		var err error
		if c.Set != nil {
			err = set(&doc, c.pointer(), c.Value)
		} else {
			err = remove(&doc, c.pointer())
		}
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", i, err)
		}
	}
	return doc, nil
}

// input is doc as policies get it: without the call's arguments, unless m
// declares that it reads them.
func input(doc any, m policywasm.Metadata) (*policywasm.Input, error) {
	b, err := encode(withoutArguments(doc, m))
	if err != nil {
		return nil, err
	}
	return policywasm.NewInput(b, 1<<20)
}

func encode(doc any) (jsontext.Value, error) { return json.Marshal(doc, json.Deterministic(true)) }

// withoutArguments does what a host does for a policy that does not declare the
// call's arguments.
func withoutArguments(doc any, m policywasm.Metadata) any {
	const at = jsontext.Pointer("/call/arguments")
	if slices.ContainsFunc(m.Inputs, func(s string) bool { return at.Contains(jsontext.Pointer(s)) }) {
		return doc
	}
	if v, ok := lookup(doc, at); !ok || v == nil {
		return doc
	}
	doc = clone(doc)
	_ = put(&doc, at, nil) // it is there
	return doc
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

// lookup returns the value at p.
func lookup(doc any, p jsontext.Pointer) (any, bool) {
	for tok := range p.Tokens() {
		switch v := doc.(type) {
		case map[string]any:
			e, ok := v[tok]
			if !ok {
				return nil, false
			}
			doc = e
		case []any:
			i, err := strconv.Atoi(tok)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != tok {
				return nil, false
			}
			doc = v[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

// open are places below which a document's members are free.
var open = []string{"/settings", "/call/arguments", "/devices/*/claims"}

func set(doc *any, p jsontext.Pointer, value jsontext.Value) error {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	if parent, _ := lookup(*doc, p.Parent()); parent != nil {
		m, ok := parent.(map[string]any)
		_, there := m[p.LastToken()]
		if ok && !there && !slices.ContainsFunc(open, func(s string) bool { return below(p, s) }) {
			return fmt.Errorf("documents have no member %s; one of %s?", printable(string(p)), printable(names(m)))
		}
	}
	return put(doc, p, v)
}

func names(m map[string]any) string {
	out := ""
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			out += ", "
		}
		out += name
	}
	return out
}

// put sets what stands at p, which may be a new member, or the end of an array.
func put(doc *any, p jsontext.Pointer, v any) error {
	parent, ok := lookup(*doc, p.Parent())
	if !ok {
		return fmt.Errorf("%s is not there", printable(string(p.Parent())))
	}
	switch c := parent.(type) {
	case map[string]any:
		c[p.LastToken()] = v
		return nil
	case []any:
		last := p.LastToken()
		if last == "-" || last == strconv.Itoa(len(c)) {
			return put(doc, p.Parent(), append(slices.Clone(c), v))
		}
		if i, err := strconv.Atoi(last); err == nil && i >= 0 && i < len(c) {
			c[i] = v
			return nil
		}
		return fmt.Errorf("%s: the array has %d elements", printable(string(p)), len(c))
	}
	return fmt.Errorf("%s is neither an object nor an array", printable(string(p.Parent())))
}

func remove(doc *any, p jsontext.Pointer) error {
	if _, ok := lookup(*doc, p); !ok {
		return fmt.Errorf("%s is not there", printable(string(p)))
	}
	parent, _ := lookup(*doc, p.Parent())
	switch c := parent.(type) {
	case map[string]any:
		delete(c, p.LastToken())
	case []any:
		i, _ := strconv.Atoi(p.LastToken()) // lookup has read it
		return put(doc, p.Parent(), slices.Delete(slices.Clone(c), i, i+1))
	}
	return nil
}

// matches reports whether p is what pattern says, in which * stands for any
// one token.
func matches(p jsontext.Pointer, pattern string) bool {
	want := slices.Collect(jsontext.Pointer(pattern).Tokens())
	got := slices.Collect(p.Tokens())
	return len(got) == len(want) && prefix(got, want)
}

// below reports whether p lies below what pattern says, or is it.
func below(p jsontext.Pointer, pattern string) bool {
	return prefix(slices.Collect(p.Tokens()), slices.Collect(jsontext.Pointer(pattern).Tokens()))
}

func prefix(got, want []string) bool {
	if len(got) < len(want) {
		return false
	}
	for i, w := range want {
		if w != "*" && w != got[i] {
			return false
		}
	}
	return true
}
