package report

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
)

// A Baseline lists failures that are expected: one case id a line, with @era
// where the case runs in both; what follows # is a remark.
type Baseline struct {
	file    string
	entries []string
}

// ReadBaseline reads a baseline, and refuses names that are no cases.
func ReadBaseline(file string, cases []conformance.Case) (*Baseline, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	known := map[string]bool{}
	for _, c := range cases {
		known[c.ID] = true
		for _, e := range c.Eras {
			known[c.ID+"@"+string(e)] = true
		}
	}
	b := &Baseline{file: file}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !known[line] {
			return nil, fmt.Errorf("%s:%d: %q is not a case; see tmcp-conform list", file, n, line)
		}
		b.entries = append(b.entries, line)
	}
	return b, sc.Err()
}

// Expects reports whether res is a failure that the baseline lists.
func (b *Baseline) Expects(res *conformance.Result) bool {
	if b == nil || res.Outcome != conformance.Fail {
		return false
	}
	for _, e := range b.entries {
		if e == res.Case.ID || e == res.Case.ID+"@"+string(res.Era) {
			return true
		}
	}
	return false
}

// Stale lists the entries whose case ran to a verdict and did not fail.
func (b *Baseline) Stale(r *conformance.Report) []string {
	if b == nil {
		return nil
	}
	var stale []string
	for _, e := range b.entries {
		judged, failed := false, false
		for _, res := range r.Results {
			if e != res.Case.ID && e != res.Case.ID+"@"+string(res.Era) {
				continue
			}
			switch res.Outcome {
			case conformance.Fail:
				failed = true
			case conformance.Pass, conformance.Warn, conformance.NotApplicable:
				judged = true
			}
		}
		if judged && !failed {
			stale = append(stale, e)
		}
	}
	return stale
}
