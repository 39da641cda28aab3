package schema

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// A node is one compiled schema. The jsonschema library reads the files,
// checks them against the metaschema and resolves references; the walk over
// the input is ours (walk.go), because the library collects an error for each
// bad array element before it returns: some gigabytes for a hostile 4 MiB.
type node struct {
	never      bool
	types      typeSet
	consts     []any // empty: no const or enum
	required   []string
	properties map[string]*node
	names      *node // propertyNames
	patterns   []patternNode
	others     *node // additionalProperties
	items      *node
	minItems   int
	maxItems   int
	unique     bool // uniqueItems
	minProps   int
	minLength  int
	maxLength  int
	pattern    *regexp.Regexp
	formatName string
	format     func(any) bool
	minimum    float64
	maximum    float64
	ref        *node
	allOf      []*node
	anyOf      []*node
	not        *node
	cond       *node
	then       *node
	otherwise  *node
}

type patternNode struct {
	re *regexp.Regexp
	n  *node
}

type typeSet uint8

const (
	tNull typeSet = 1 << iota
	tBool
	tNumber
	tInteger
	tString
	tArray
	tObject
)

var typeBits = map[string]typeSet{"null": tNull, "boolean": tBool, "number": tNumber | tInteger, "integer": tInteger, "string": tString, "array": tArray, "object": tObject}

func (t typeSet) String() string {
	var s []string
	for _, name := range []string{"object", "array", "string", "number", "integer", "boolean", "null"} {
		if b := typeBits[name]; t&b == b && (name != "integer" || t&tNumber == 0) {
			s = append(s, name)
		}
	}
	return strings.Join(s, " or ")
}

// formats are the formats that our schemas assert.
var formats = map[string]func(any) bool{
	"uri":          onString(func(s string) bool { u, err := url.Parse(s); return err == nil && u.IsAbs() }),
	"uri-template": onString(isURITemplate),
	"byte":         onString(func(s string) bool { _, err := base64.StdEncoding.DecodeString(s); return err == nil }),
	"base64url": onString(func(s string) bool {
		_, err := base64.RawURLEncoding.Strict().DecodeString(s)
		return err == nil && !strings.ContainsAny(s, "\r\n")
	}),
}

func onString(f func(string) bool) func(any) bool {
	return func(v any) bool { s, ok := v.(string); return !ok || f(s) }
}

// isURITemplate checks the braces of an RFC 6570 template: paired, not nested,
// not empty. The literal parts are left alone.
func isURITemplate(s string) bool {
	open := -1
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{':
			if open >= 0 {
				return false
			}
			open = i
		case '}':
			if open < 0 || i == open+1 {
				return false
			}
			open = -1
		}
	}
	return open < 0
}

const base = "https://trustedmcp.org/schema/"

// newCompiler knows every embedded JSON file under base, and loads nothing else.
func newCompiler(fsys fs.FS) (*jsonschema.Compiler, error) {
	c := jsonschema.NewCompiler()
	c.Draft = jsonschema.Draft2020
	c.AssertFormat = true
	for name, f := range formats {
		c.Formats[name] = f
	}
	for _, dir := range []string{"mcp", "trust"} {
		ents, err := fs.ReadDir(fsys, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range ents {
			if path.Ext(e.Name()) != ".json" {
				continue
			}
			f, err := fsys.Open(dir + "/" + e.Name())
			if err != nil {
				return nil, err
			}
			err = c.AddResource(base+dir+"/"+e.Name(), f)
			f.Close()
			if err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// convert turns a compiled library schema into a node. It refuses keywords
// that the walk does not know, so none can be overlooked.
func convert(s *jsonschema.Schema, seen map[*jsonschema.Schema]*node) (*node, error) {
	if s == nil {
		return nil, nil
	}
	if n, ok := seen[s]; ok {
		return n, nil
	}
	n := &node{minItems: s.MinItems, maxItems: s.MaxItems, unique: s.UniqueItems, minLength: s.MinLength, maxLength: s.MaxLength, minProps: s.MinProperties,
		pattern: s.Pattern, required: s.Required, formatName: s.Format, minimum: math.Inf(-1), maximum: math.Inf(1)}
	seen[s] = n
	if s.Always != nil {
		n.never = !*s.Always
		return n, nil
	}
	switch {
	case s.OneOf != nil, s.RecursiveRef != nil, s.DynamicRef != nil, s.MaxProperties != -1,
		s.Dependencies != nil, s.DependentRequired != nil, s.DependentSchemas != nil, s.UnevaluatedProperties != nil,
		s.Items != nil, s.AdditionalItems != nil, s.PrefixItems != nil, s.Contains != nil, s.UnevaluatedItems != nil,
		s.ContentEncoding != "", s.ContentMediaType != "", s.ContentSchema != nil,
		s.ExclusiveMinimum != nil, s.ExclusiveMaximum != nil, s.MultipleOf != nil:
		return nil, fmt.Errorf("schema %s: a keyword that this package does not evaluate; express it otherwise or extend node", s.Location)
	}
	for _, t := range s.Types {
		n.types |= typeBits[t]
	}
	for _, c := range append(append([]any{}, s.Constant...), s.Enum...) {
		n.consts = append(n.consts, scalar(c))
	}
	if s.Minimum != nil {
		n.minimum, _ = s.Minimum.Float64()
	}
	if s.Maximum != nil {
		n.maximum, _ = s.Maximum.Float64()
	}
	if s.Format != "" {
		if n.format = formats[s.Format]; n.format == nil {
			return nil, fmt.Errorf("schema %s: unknown format %q", s.Location, s.Format)
		}
	}
	var err error
	sub := func(s *jsonschema.Schema) *node {
		if err != nil {
			return nil
		}
		var m *node
		m, err = convert(s, seen)
		return m
	}
	subs := func(list []*jsonschema.Schema) (out []*node) {
		for _, s := range list {
			out = append(out, sub(s))
		}
		return out
	}
	n.ref, n.not, n.names, n.items = sub(s.Ref), sub(s.Not), sub(s.PropertyNames), sub(s.Items2020)
	n.cond, n.then, n.otherwise = sub(s.If), sub(s.Then), sub(s.Else)
	n.allOf, n.anyOf = subs(s.AllOf), subs(s.AnyOf)
	if len(s.Properties) > 0 {
		n.properties = make(map[string]*node, len(s.Properties))
		for k, p := range s.Properties {
			n.properties[k] = sub(p)
		}
	}
	for re, p := range s.PatternProperties {
		n.patterns = append(n.patterns, patternNode{re, sub(p)})
	}
	switch a := s.AdditionalProperties.(type) {
	case bool:
		if !a {
			n.others = &node{never: true}
		}
	case *jsonschema.Schema:
		n.others = sub(a)
	}
	return n, err
}

// scalar brings a constant of a schema file into the form that decode yields.
func scalar(v any) any {
	if n, ok := v.(json.Number); ok {
		f, _ := n.Float64()
		return f
	}
	return v
}

// short quotes a string for a message, cut to 40 characters.
func short(s string) string {
	if len(s) > 40 {
		cut := 40
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return fmt.Sprintf("%q", s)
}
