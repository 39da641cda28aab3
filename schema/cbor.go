package schema

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// maxCBOR bounds the input of ValidateCBOR, in bytes. A frame holds a message
// of 4 MiB, with room for padding and its own members.
const maxCBOR = 5 << 20

// CBORRules are the rules of [CDDL] that [ValidateCBOR] knows.
func CBORRules() []string {
	return []string{"answer-frame", "content", "frame", "key-claims", "key-object", "next-frame", "open-frame", "policy-document", "policy-metadata", "policy-result", "settings"}
}

var cborRules = map[string]shape{
	"key-object":   keyObject,
	"key-claims":   keyClaims,
	"settings":     settings,
	"frame":        frame,
	"open-frame":   openFrame,
	"next-frame":   nextFrame,
	"answer-frame": answerFrame,
	"content":      content,

	"policy-metadata": policyMetadata,
	"policy-document": policyDocument,
	"policy-result":   policyResult,
}

// ValidateCBOR checks data against a rule of [CDDL]: one of [CBORRules]. It
// also checks what CDDL can't say: that data is deterministically encoded
// (RFC 8949 section 4.2.1), byte strings that hold CBOR included, and that
// nothing follows. It reports the first violation, in an [*Error]; its pointer
// gives array indexes and map keys. An unknown rule is an error of another
// type.
//
// No CDDL library for Go is kept well enough to stand here, so the rules are
// written a second time, in this file; a test holds them and the grammar
// against each other (README.md).
func ValidateCBOR(rule string, data []byte) error {
	s, ok := cborRules[rule]
	if !ok {
		return fmt.Errorf("schema: unknown CDDL rule %q; known are %v", rule, CBORRules())
	}
	if len(data) > maxCBOR {
		return one(rule, "", "too-large", fmt.Sprintf("has %d bytes, the limit is %d", len(data), maxCBOR))
	}
	c := &cborWalk{}
	c.embedded(data, "", s)
	if c.out != nil {
		return &Error{Shape: rule, Violations: []Violation{*c.out}, Cause: c.cause}
	}
	return nil
}

// A shape reads one item from r, which stands at path, and reports to c.
type shape func(c *cborWalk, r *dcbor.Reader, path string)

// A cborWalk keeps the first violation.
type cborWalk struct {
	out   *Violation
	cause error
}

func (c *cborWalk) fail(path, rule, format string, args ...any) {
	if c.out == nil {
		c.out = &Violation{path, rule, fmt.Sprintf(format, args...)}
	}
}

// embedded checks that data is exactly one deterministic item of shape s.
func (c *cborWalk) embedded(data []byte, path string, s shape) {
	r := dcbor.NewReader(data)
	r.Skip()
	if err := r.Done(); err != nil {
		c.fail(path, "not-dcbor", "is no deterministic CBOR: %v", err)
		c.cause = err
		return
	}
	r.Reset(data)
	s(c, r, path)
	if err := r.Done(); err != nil { // a shape read another type than it saw: refuse
		c.fail(path, "type", "is not of this shape: %v", err)
	}
}

// Major types of CBOR, RFC 8949 section 3.1.
const (
	mUint = iota
	mNint
	mBytes
	mText
	mArray
	mMap
	mTag
	mSimple
)

var majorNames = [8]string{"an unsigned integer", "a negative integer", "a byte string", "a text", "an array", "a map", "a tag", "a simple value or float"}

// is checks the type of the next item; on a mismatch it skips the item.
func (c *cborWalk) is(r *dcbor.Reader, path string, major byte) bool {
	if r.Err() != nil {
		return false
	}
	if got := r.PeekMajor(); got != major {
		c.fail(path, "type", "is %s, must be %s", majorNames[got], majorNames[major])
		r.Skip()
		return false
	}
	return true
}

func anyItem(_ *cborWalk, r *dcbor.Reader, _ string) { r.Skip() }

func text(c *cborWalk, r *dcbor.Reader, path string) {
	if c.is(r, path, mText) {
		r.Text()
	}
}

// texts is a text that is one of the given.
func texts(want ...string) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mText) {
			return
		}
		if got := r.Text(); !slices.Contains(want, got) {
			c.fail(path, "enum", "is %s, must be one of %q", short(got), want)
		}
	}
}

func boolean(c *cborWalk, r *dcbor.Reader, path string) {
	if r.Err() != nil {
		return
	}
	probe := *r
	if probe.Bool(); probe.Err() != nil {
		c.fail(path, "type", "must be a boolean")
		r.Skip()
		return
	}
	*r = probe
}

func isTrue(c *cborWalk, r *dcbor.Reader, path string) {
	probe := *r
	boolean(c, r, path)
	if v := probe.Bool(); probe.Err() == nil && !v {
		c.fail(path, "const", "is false, must be true or absent")
	}
}

// size is a byte string of lo to hi bytes.
func size(lo, hi int) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mBytes) {
			return
		}
		if n := len(r.Bytes()); n < lo || n > hi {
			c.fail(path, "size", "has %d bytes, must have %s", n, span(lo, hi))
		}
	}
}

func span(lo, hi int) string {
	switch {
	case lo == hi:
		return strconv.Itoa(lo)
	case hi >= maxCBOR:
		return fmt.Sprintf("at least %d", lo)
	}
	return fmt.Sprintf("%d to %d", lo, hi)
}

var (
	octets = size(0, maxCBOR)
	digest = size(32, 32)
)

// literal is a byte string of the given bytes.
func literal(want string) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if c.is(r, path, mBytes) {
			if got := r.Bytes(); string(got) != want {
				c.fail(path, "const", "is %s, must be %q", short(string(got)), want)
			}
		}
	}
}

// holds is a byte string that holds an item of shape s (CDDL's .cbor).
func holds(s shape) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if c.is(r, path, mBytes) {
			if b := r.Bytes(); r.Err() == nil {
				c.embedded(b, path, s)
			}
		}
	}
}

// between is an unsigned integer from lo to hi.
func between(lo, hi uint64) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mUint) {
			return
		}
		if v := r.Uint(); v < lo || v > hi {
			c.fail(path, "range", "is %d, must be %d to %d", v, lo, hi)
		}
	}
}

var unsigned = between(0, 1<<64-1)

// integers is an integer that is one of the given; any, if none is given.
func integers(want ...int64) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if r.Err() != nil {
			return
		}
		if m := r.PeekMajor(); m != mUint && m != mNint {
			c.fail(path, "type", "is %s, must be an integer", majorNames[m])
			r.Skip()
			return
		}
		if len(want) == 0 {
			r.Skip() // CDDL's int is wider than int64
			return
		}
		probe := *r
		v := probe.Int()
		r.Skip()
		if probe.Err() != nil || !slices.Contains(want, v) {
			c.fail(path, "enum", "must be one of %v", want)
		}
	}
}

// tuple is an array of the given items; optional ones may lack at its end.
func tuple(required []shape, optional ...shape) shape {
	all := append(slices.Clone(required), optional...)
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mArray) {
			return
		}
		n := r.Array()
		if n < len(required) || n > len(all) {
			c.fail(path, "size", "has %d items, must have %s", n, span(len(required), len(all)))
		}
		for i := range n {
			if c.out != nil || r.Err() != nil {
				return // the first violation is the report; where r stands no longer matters
			}
			all[i](c, r, path+"/"+strconv.Itoa(i))
		}
	}
}

// list is an array of lo to hi items of shape s.
func list(lo, hi int, s shape) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mArray) {
			return
		}
		n := r.Array()
		if n < lo || n > hi {
			c.fail(path, "size", "has %d items, must have %s", n, span(lo, hi))
		}
		for i := range n {
			s(c, r, path+"/"+strconv.Itoa(i))
			if c.out != nil || r.Err() != nil {
				return
			}
		}
	}
}

// A field is a member of a map. Its key is an integer, or a text if name is set.
type field struct {
	key      int64
	name     string
	required bool
	s        shape
}

func (f field) label() string {
	if f.name != "" {
		return escape(f.name)
	}
	return strconv.FormatInt(f.key, 10)
}

// table is a map with the given fields. Other keys are refused unless other
// allows their type: CDDL's "* int => any", "* uint => any", "* tstr => any".
func table(fields []field, other ...byte) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mMap) {
			return
		}
		seen := make([]bool, len(fields))
		for range r.Map() {
			if c.out != nil || r.Err() != nil {
				return
			}
			major := r.PeekMajor()
			i, label := fieldOf(fields, r, major)
			switch {
			case i >= 0:
				seen[i] = true
				fields[i].s(c, r, path+"/"+label)
			case slices.Contains(other, major):
				r.Skip()
			default:
				c.fail(path+"/"+label, "unknown-key", "is a key that has no place here")
				r.Skip()
			}
		}
		for i, f := range fields {
			if f.required && !seen[i] {
				c.fail(path+"/"+f.label(), "required", "is missing")
			}
		}
	}
}

// fieldOf reads a key and finds its field, or -1.
func fieldOf(fields []field, r *dcbor.Reader, major byte) (int, string) {
	switch major {
	case mUint, mNint:
		probe := *r
		v := probe.Int()
		r.Skip()
		if probe.Err() != nil {
			return -1, "?"
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == "" && f.key == v })
		return i, strconv.FormatInt(v, 10)
	case mText:
		s := r.Text()
		i := slices.IndexFunc(fields, func(f field) bool { return f.name != "" && f.name == s })
		return i, escape(s)
	}
	r.Skip()
	return -1, "?"
}
