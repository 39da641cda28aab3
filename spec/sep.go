package spec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

type sepFile struct {
	SEP          string   `yaml:"sep"`
	SpecURL      string   `yaml:"spec_url"`
	Requirements []sepRow `yaml:"requirements"`
}

// A sepRow has either check or excluded.
type sepRow struct {
	Check    string `yaml:"check,omitempty"`
	Excluded string `yaml:"excluded,omitempty"`
	Text     string `yaml:"text"`
	URL      string `yaml:"url"`
}

// ExportSEP writes the ledger in the shape in which MCP's conformance suite
// keeps the requirements of a SEP (sep-NNNN.yaml): one row for each check, or
// a row that says why there is none. One requirement with several checks has
// one row with the id that stands for all of them.
func (l *Ledger) ExportSEP() ([]byte, error) {
	f := sepFile{SEP: "trusted-mcp", SpecURL: BaseURL + "README.md"}
	for i := range l.Requirements {
		r := &l.Requirements[i]
		row := sepRow{Text: r.Text, URL: r.URL()}
		switch {
		case len(r.Cases) > 0 || len(r.Vectors) > 0:
			row.Check = "sep-" + strings.ToLower(strings.ReplaceAll(r.ID, ".", "-"))
		case len(r.Tests) > 0:
			row.Excluded = "Not observable at the wire; shown by the reference implementation's own tests: " + strings.Join(testFiles(r.Tests), ", ")
		case r.Untestable != "":
			row.Excluded = r.Untestable
		default:
			row.Excluded = "No check yet"
		}
		f.Requirements = append(f.Requirements, row)
	}
	var b bytes.Buffer
	b.WriteString("# The requirements of org.trustedmcp/trust in the shape of MCP's sep-NNNN.yaml.\n" +
		"# Generated from ledger.yaml: run `go generate ./spec`.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return b.Bytes(), e.Close()
}

// ExportSEP exports the embedded ledger; see [Ledger.ExportSEP].
func ExportSEP() ([]byte, error) {
	l, err := Load()
	if err != nil {
		return nil, err
	}
	return l.ExportSEP()
}

func testFiles(places []Place) []string {
	var names []string
	for _, p := range places {
		if !slices.Contains(names, p.File) {
			names = append(names, p.File)
		}
	}
	return names
}
