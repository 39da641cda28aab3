// Package spec is the formal specification of Trusted MCP, as text and as data.
// The chapters are the Markdown files beside this one; read README.md first.
//
// In Go, call [Requirement] to look one requirement up by its id, [Load] for
// the whole ledger with the cases that test each requirement and the code that
// implements it, and [Chapters] for the text. Everything is embedded, so that
// any program can explain the clause it enforces.
//
// The ledger is written by a generator, never by hand: text, level and roles
// come from the chapters, cases from the conformance suite, places in the code
// from its comments. What people write beside the chapters is notes.yaml.
package spec

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:generate go run ../internal/house/ledger

//go:embed *.md ledger.yaml notes.yaml
var files embed.FS

// BaseURL is where the chapters are published. A requirement's URL is this,
// its file and its anchor.
const BaseURL = "https://github.com/trustedmcp/tmcp/blob/main/spec/"

// A Req is one requirement: one sentence of the specification that binds an
// implementation, with what shows that it is kept.
type Req struct {
	ID      string   `yaml:"id"`      // TMCP-<chapter>.<section>-<ordinal>
	Level   string   `yaml:"level"`   // MUST, MUST NOT, SHOULD, SHOULD NOT, MAY
	Roles   []string `yaml:"roles"`   // of client, server, gateway, verifier
	Profile string   `yaml:"profile"` // the profile that includes it
	Section string   `yaml:"section"` // file and anchor
	Text    string   `yaml:"text"`    // the exact sentence

	Cases      []string `yaml:"cases,omitempty"`      // conformance cases: at the wire, any implementation
	Vectors    []string `yaml:"vectors,omitempty"`    // test vectors: bytes, any implementation
	Tests      []Place  `yaml:"tests,omitempty"`      // tests of the reference implementation
	Code       []Place  `yaml:"code,omitempty"`       // where the reference implementation does it
	Untestable string   `yaml:"untestable,omitempty"` // why no test can show it
	Pending    bool     `yaml:"pending,omitempty"`    // nothing shows it yet
}

// URL is where the requirement is published.
func (r *Req) URL() string { return BaseURL + r.Section }

// A Place is a line of the project that quotes a requirement.
type Place struct {
	File  string `yaml:"file"`  // from the module's root, with slashes
	Quote string `yaml:"quote"` // what stands there of the requirement's text
}

// A Ledger is all requirements, in the order of the text.
type Ledger struct {
	Requirements []Req `yaml:"requirements"`
	byID         map[string]*Req
}

// Get returns the requirement with this id, or nil.
func (l *Ledger) Get(id string) *Req { return l.byID[id] }

// Notes are what people write about requirements outside the chapters.
type Notes struct {
	// Untestable gives the reason why no test can show a requirement.
	Untestable map[string]string `yaml:"untestable"`
	// Retired lists ids that once stood in the text. They are never reused.
	Retired []string `yaml:"retired"`
	// PendingAllowed is how many requirements may still lack all of case,
	// vector, test and reason. It only ever goes down, to zero.
	PendingAllowed int `yaml:"pending_allowed"`
}

var load = sync.OnceValues(func() (*Ledger, error) {
	b, err := files.ReadFile("ledger.yaml")
	if err != nil {
		return nil, err
	}
	return ParseLedger(b)
})

// Load reads the embedded ledger. The result is shared: do not change it.
func Load() (*Ledger, error) { return load() }

// Requirement looks a requirement up by its id, such as "TMCP-4.3-1".
func Requirement(id string) (*Req, error) {
	l, err := Load()
	if err != nil {
		return nil, err
	}
	if r := l.Get(id); r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("spec: no requirement has the id %q", id)
}

// ParseLedger reads a ledger strictly: unknown members and ids that stand
// twice are errors.
func ParseLedger(b []byte) (*Ledger, error) {
	l := &Ledger{}
	if err := decodeYAML(b, l); err != nil {
		return nil, fmt.Errorf("spec: ledger.yaml: %w", err)
	}
	return l, l.index()
}

// NewLedger makes a ledger of requirements.
func NewLedger(reqs []Req) (*Ledger, error) {
	l := &Ledger{Requirements: reqs}
	return l, l.index()
}

func (l *Ledger) index() error {
	l.byID = make(map[string]*Req, len(l.Requirements))
	for i := range l.Requirements {
		r := &l.Requirements[i]
		if l.byID[r.ID] != nil {
			return fmt.Errorf("spec: ledger.yaml: %s stands twice", r.ID)
		}
		l.byID[r.ID] = r
	}
	return nil
}

// Encode writes the ledger as it stands in ledger.yaml.
func (l *Ledger) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Every requirement of the specification, and what shows that it is kept.\n" +
		"# Generated: run `go generate ./spec`. Text comes from the chapters, cases from the\n" +
		"# conformance suite, vectors from spec/vectors, code and tests from their comments,\n" +
		"# reasons from notes.yaml.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(l); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return b.Bytes(), e.Close()
}

// LoadNotes reads the embedded notes.yaml.
func LoadNotes() (*Notes, error) {
	b, err := files.ReadFile("notes.yaml")
	if err != nil {
		return nil, err
	}
	return ParseNotes(b)
}

// ParseNotes reads notes strictly.
func ParseNotes(b []byte) (*Notes, error) {
	n := &Notes{}
	if err := decodeYAML(b, n); err != nil {
		return nil, fmt.Errorf("spec: notes.yaml: %w", err)
	}
	return n, nil
}

func decodeYAML(b []byte, v any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Files gives read access to the chapters and the ledger.
func Files() fs.FS { return files }
