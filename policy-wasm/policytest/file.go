// Package policytest tests policies: with documents and what is wanted of them
// ([Parse], [Runner.Run]), with documents that were damaged in a way that must
// never open a policy ([Runner.Mutate]), and with damage at random
// ([Runner.Fuzz]).
//
// The rule of the damaged documents is that of this project: fail closed. Where
// a member is missing, null, of another type or spelled in other case, a policy
// may deny what it allowed before, and never allow what it did not.
package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// Bounds of a file of tests.
const (
	MaxFile  = 8 << 20 // bytes
	MaxTests = 10_000
)

// A File is one file of tests:
//
//	{
//	  "tests": [
//	    {
//	      "name": "a debugger can look inside",
//	      "base": "tdx",
//	      "settings": {"days": 30},
//	      "change": [{"set": "/devices/0/debug", "value": true}, {"remove": "/devices/0/platform"}],
//	      "want": {"decision": "deny", "codes": ["debug"]}
//	    }
//	  ],
//	  "settings": null,
//	  "optional": ["/devices/*/tcb"],
//	  "mutate": true
//	}
type File struct {
	Path     string         `json:"-"`
	Tests    []Test         `json:"tests"`
	Settings jsontext.Value `json:"settings"` // for tests without their own; nil: those of the document
	// Optional are members that may be missing or null without a denial, as JSON
	// pointers in which * stands for any one name or index: see [Runner.Mutate].
	Optional []string `json:"optional"`
	Mutate   *bool    `json:"mutate"` // nil: yes
}

// A Test is one document and what is wanted of it.
type Test struct {
	Name     string         `json:"name"`
	Base     string         `json:"base"`     // name of a sample, or path of a file; else
	Document jsontext.Value `json:"document"` // the document itself
	Settings jsontext.Value `json:"settings"` // take the place of the document's; nil: the file's
	Change   []Change       `json:"change"`   // in order, after the settings
	Want     Want           `json:"want"`
	Mutate   *bool          `json:"mutate"` // nil: the file's
}

// A Change sets or removes one member or element.
type Change struct {
	Set    *string        `json:"set"` // JSON pointer; the last token - appends to an array
	Value  jsontext.Value `json:"value"`
	Remove *string        `json:"remove"` // JSON pointer
}

// Want is what a policy must answer. What is not given is not looked at, but
// for one thing: who does not want a failure gets none.
type Want struct {
	Decision    string                    `json:"decision"`    // allow, deny or abstain
	Codes       []string                  `json:"codes"`       // the set of reason codes, and no others; nil: any
	Failure     string                    `json:"failure"`     // why there is no decision, such as policy.trap
	Vector      policywasm.Vector         `json:"vector"`      // claims among others
	Obligations map[string]jsontext.Value `json:"obligations"` // these and no others; nil: any
}

// A FormatError says what is wrong with a file of tests.
type FormatError struct {
	Path    string           // of the file
	Test    string           // name, or ""
	Pointer jsontext.Pointer // into the file
	Detail  string
}

func (e *FormatError) Error() string {
	s := fmt.Sprintf("%q", e.Path)
	if e.Test != "" {
		s += fmt.Sprintf(": test %q", e.Test)
	}
	if e.Pointer != "" {
		s += " at " + printable(string(e.Pointer))
	}
	return s + ": " + e.Detail
}

// Parse reads a file of tests strictly: members that are not known, stand twice
// or have another type are errors, of type [*FormatError]. path is for messages.
func Parse(path string, b []byte) (*File, error) {
	fail := func(at jsontext.Pointer, format string, args ...any) error {
		return &FormatError{Path: path, Test: testAt(b, at), Pointer: at, Detail: fmt.Sprintf(format, args...)}
	}
	if len(b) > MaxFile {
		return nil, fail("", "%d bytes; a file of tests has at most %d", len(b), MaxFile)
	}
	f := &File{}
	if err := json.Unmarshal(b, f, json.RejectUnknownMembers(true)); err != nil {
		at, why := explain(err)
		return nil, fail(at, "%s", why)
	}
	f.Path = path
	if at := strayNull(b); at != "" {
		return nil, fail(at, "null; leave the member out")
	}
	if len(f.Tests) == 0 || len(f.Tests) > MaxTests {
		return nil, fail("/tests", "%d tests; a file has 1 to %d", len(f.Tests), MaxTests)
	}
	for i, s := range f.Optional {
		if !jsontext.Pointer(s).IsValid() || s == "" {
			return nil, fail(jsontext.Pointer(fmt.Sprintf("/optional/%d", i)), "%q is no JSON pointer, such as /devices/*/tcb", s)
		}
	}
	seen := map[string]bool{}
	for i := range f.Tests {
		t := &f.Tests[i]
		at := jsontext.Pointer(fmt.Sprintf("/tests/%d", i))
		if t.Name == "" || seen[t.Name] {
			return nil, fail(at+"/name", "no name, or one that stands twice: %q", t.Name)
		}
		seen[t.Name] = true
		if where, why := t.check(); why != "" {
			return nil, fail(at+where, "%s", why)
		}
	}
	return f, nil
}

// check returns where a test is not as it must be, and why.
func (t *Test) check() (where jsontext.Pointer, why string) {
	if (t.Base == "") == (t.Document == nil) {
		return "", `give "base", the name of a sample document or the path of a file, or "document", the document itself`
	}
	for i, c := range t.Change {
		at := jsontext.Pointer(fmt.Sprintf("/change/%d", i))
		set, remove := c.Set != nil, c.Remove != nil
		switch {
		case set == remove, set != (c.Value != nil):
			return at, `a change is {"set": POINTER, "value": VALUE} or {"remove": POINTER}`
		}
		if p := c.pointer(); !p.IsValid() || p == "" {
			return at, fmt.Sprintf("%q is no JSON pointer, such as /devices/0/debug", p)
		}
	}
	w := &t.Want
	switch w.Decision {
	case "allow", "deny", "abstain":
	case "":
		if w.Failure == "" {
			return "/want", `say what is wanted: "decision" is allow, deny or abstain`
		}
	default:
		return "/want/decision", fmt.Sprintf("%q is none of allow, deny and abstain", w.Decision)
	}
	if w.Failure != "" && (w.Decision == "allow" || w.Decision == "abstain" || len(w.Codes) > 0 || len(w.Vector) > 0 || len(w.Obligations) > 0) {
		return "/want/failure", "a failure is a denial, without codes, vector and obligations"
	}
	return "", ""
}

func (c *Change) pointer() jsontext.Pointer {
	if c.Set != nil {
		return jsontext.Pointer(*c.Set)
	}
	return jsontext.Pointer(*c.Remove)
}

// explain takes the words out of an error of the decoder.
func explain(err error) (jsontext.Pointer, string) {
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &semantic) && semantic.Err != nil:
		return semantic.JSONPointer, printable(semantic.Err.Error())
	case errors.As(err, &semantic):
		return semantic.JSONPointer, fmt.Sprintf("a JSON %s can't stand here", semantic.JSONKind)
	case errors.As(err, &syntax) && errors.Is(err, io.ErrUnexpectedEOF):
		return syntax.JSONPointer, "the text ends too early"
	case errors.As(err, &syntax):
		return syntax.JSONPointer, fmt.Sprintf("no JSON, at byte %d: %s", syntax.ByteOffset, printable(syntax.Err.Error()))
	}
	return "", printable(err.Error())
}

// testAt is the name of the test in which p lies.
func testAt(b []byte, p jsontext.Pointer) string {
	var lax struct {
		Tests []struct {
			Name string `json:"name"`
		} `json:"tests"`
	}
	_ = json.Unmarshal(b, &lax, jsontext.AllowDuplicateNames(true)) // as far as it can be read
	tokens := slices.Collect(p.Tokens())
	if len(tokens) < 2 || tokens[0] != "tests" {
		return ""
	}
	for i, t := range lax.Tests {
		if fmt.Sprint(i) == tokens[1] {
			return t.Name
		}
	}
	return ""
}

// strayNull finds a null of the format's own, where the decoder would see a
// member that is left out.
func strayNull(b []byte) jsontext.Pointer {
	d := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := d.ReadToken()
		if err != nil {
			return "" // the end: all else was checked
		}
		p := d.StackPointer()
		if tok.Kind() == 'n' && !free(slices.Collect(p.Tokens())) {
			return p
		}
	}
}

// free reports whether a value of the author's own stands there.
func free(at []string) bool {
	switch {
	case len(at) > 0 && at[0] == "settings", len(at) > 2 && (at[2] == "document" || at[2] == "settings"):
		return true
	case len(at) > 4 && at[2] == "change":
		return at[4] == "value"
	}
	return len(at) > 4 && at[2] == "want" && at[3] == "obligations"
}

// printable keeps what others wrote from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}
