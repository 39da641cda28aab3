package report

import (
	"encoding/xml"
	"fmt"
	"strings"
)

type junitSuites struct {
	XMLName  xml.Name   `xml:"testsuites"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Suite    junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string     `xml:"name,attr"`
	Class   string     `xml:"classname,attr"`
	Time    string     `xml:"time,attr"`
	Failure *junitNote `xml:"failure,omitempty"`
	Error   *junitNote `xml:"error,omitempty"`
	Skipped *junitNote `xml:"skipped,omitempty"`
	Out     string     `xml:"system-out,omitempty"`
}

type junitNote struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit is the document as JUnit XML. A warning passes there, with its text in
// system-out; what is not applicable, untestable or an expected failure is
// skipped with its reason.
func (d *Document) JUnit() ([]byte, error) {
	s := junitSuite{Name: "tmcp-conform " + d.Role + " " + clean(d.Target)}
	for _, r := range d.Results {
		c := junitCase{Name: r.Case + "@" + r.Era, Class: r.Requirement, Time: fmt.Sprintf("%.3f", r.Millis/1000)}
		note := &junitNote{Message: clean(r.Reason), Type: r.Outcome, Text: clean(r.Title + "\n" + r.Replay)}
		switch {
		case r.Outcome == "fail" && r.Expected:
			note.Message = "expected failure: " + note.Message
			c.Skipped = note
			s.Skipped++
		case r.Outcome == "fail":
			c.Failure = note
			s.Failures++
		case r.Outcome == "harness-error":
			c.Error = note
			s.Errors++
		case r.Outcome == "not-applicable" || r.Outcome == "untestable":
			c.Skipped = note
			s.Skipped++
		case r.Outcome == "warn":
			c.Out = "warning: " + clean(r.Reason)
		}
		s.Cases = append(s.Cases, c)
	}
	s.Tests = len(s.Cases)
	all := junitSuites{Name: "tmcp-conform", Tests: s.Tests, Failures: s.Failures, Errors: s.Errors, Skipped: s.Skipped, Suite: s}
	b, err := xml.MarshalIndent(all, "", "  ")
	return append([]byte(xml.Header), append(b, '\n')...), err
}

// clean takes out what XML 1.0 can't hold.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
