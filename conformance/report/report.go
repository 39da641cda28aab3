// Package report prints a [conformance.Report]: [Console] for people, [JSON]
// for programs, [JUnit] for build servers. [Compare] tells two JSON reports
// apart, and [Baseline] holds the failures that are expected.
package report

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
)

// Document is a report as JSON. Its members stay as they are from one release
// to the next; new ones may come.
type Document struct {
	Tool        string         `json:"tool"`
	Target      string         `json:"target"`
	Role        string         `json:"role"`
	Transport   string         `json:"transport"`
	Seed        uint64         `json:"seed"`
	Interrupted string         `json:"interrupted,omitempty"`
	Eras        map[string]Era `json:"eras"`
	Summary     map[string]int `json:"summary"`
	Results     []Result       `json:"results"`
}

// Era is what the target said of itself in one era.
type Era struct {
	Spoken       bool           `json:"spoken"`
	Why          string         `json:"why,omitempty"`
	Version      string         `json:"version,omitempty"`
	Server       jsontext.Value `json:"server,omitzero"`
	Capabilities jsontext.Value `json:"capabilities,omitzero"`
}

// Result is one verdict.
type Result struct {
	Case        string  `json:"case"`
	Requirement string  `json:"requirement"`
	Role        string  `json:"role"`
	Profile     string  `json:"profile"`
	Level       string  `json:"level"`
	Era         string  `json:"era"`
	Title       string  `json:"title"`
	Twin        string  `json:"twin,omitempty"`
	Outcome     string  `json:"outcome"`
	Expected    bool    `json:"expected,omitempty"` // a failure that the baseline lists
	Reason      string  `json:"reason,omitempty"`
	Millis      float64 `json:"millis"`
	Replay      string  `json:"replay,omitempty"`
	Transcript  []Entry `json:"transcript,omitempty"`
}

// Entry is one thing that passed on the wire. Text holds its bytes when they
// are UTF-8, Base64 otherwise.
type Entry struct {
	Seq       int     `json:"seq"`
	Millis    float64 `json:"millis"`
	Direction string  `json:"direction"`
	Kind      string  `json:"kind"`
	Size      int     `json:"size"`
	Text      string  `json:"text,omitempty"`
	Base64    string  `json:"base64,omitempty"`
	Truncated bool    `json:"truncated,omitempty"`
}

// Options say what a document holds beside the verdicts.
type Options struct {
	Role     conformance.Role
	Replay   func(*conformance.Result) string // the command that replays a result alone
	Baseline *Baseline                        // may be nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// NewDocument turns a report into a document.
func NewDocument(r *conformance.Report, o Options) *Document {
	d := &Document{
		Tool: "tmcp-conform", Target: r.Target, Role: string(o.Role), Transport: string(r.Transport), Seed: r.Seed,
		Interrupted: r.Interrupted, Eras: map[string]Era{}, Summary: map[string]int{},
	}
	if r.Survey != nil {
		for _, e := range []conformance.Era{conformance.Modern, conformance.Legacy} {
			i := r.Survey.Of(e)
			d.Eras[string(e)] = Era{Spoken: i.Spoken, Why: i.Why, Version: i.Version, Server: i.ServerInfo, Capabilities: i.Capabilities}
		}
	}
	for _, o := range conformance.Outcomes {
		d.Summary[string(o)] = r.Count(o)
	}
	for _, res := range r.Results {
		c := res.Case
		out := Result{
			Case: c.ID, Requirement: c.Requirement.ID, Role: string(c.Role), Profile: string(c.Profile), Level: string(c.Level),
			Era: string(res.Era), Title: c.Title, Twin: c.Twin, Outcome: string(res.Outcome), Reason: res.Reason, Millis: millis(res.Duration),
			Expected: o.Baseline.Expects(res),
		}
		if o.Replay != nil && res.Outcome != conformance.Pass && res.Outcome != conformance.NotApplicable {
			out.Replay = o.Replay(res)
		}
		for _, e := range res.Log {
			en := Entry{Seq: e.Seq, Millis: millis(e.At), Direction: string(e.Dir), Kind: e.Kind, Size: e.Size, Truncated: e.Truncated}
			if utf8.Valid(e.Bytes) {
				en.Text = string(e.Bytes)
			} else {
				en.Base64 = base64.StdEncoding.EncodeToString(e.Bytes)
			}
			out.Transcript = append(out.Transcript, en)
		}
		d.Results = append(d.Results, out)
	}
	return d
}

// JSON is the document as indented JSON text.
func (d *Document) JSON() ([]byte, error) {
	b, err := json.Marshal(d, json.Deterministic(true), jsontext.WithIndent("  "))
	return append(b, '\n'), err
}

// Parse reads a document that JSON wrote.
func Parse(data []byte) (*Document, error) {
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	return &d, nil
}
