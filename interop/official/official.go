// Package official runs MCP's official conformance suite against a server and
// compares runs check by check.
//
// Call [Install] once, then [Suite.Run] with the URL of a server, then [Diff] on
// two results. A gateway is transparent when the results through it and without
// it don't differ.
package official

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/interop"
)

// Requirement sets of the suite, frozen by it for each revision of MCP.
const (
	Legacy = "2025-11-25"
	Modern = "2026-07-28"
)

// RunTimeout bounds one run. The suite bounds each scenario to 30 s by itself.
const RunTimeout = 5 * time.Minute

// maxFile bounds one report of the suite, in bytes.
const maxFile = 32 << 20

// A Suite is an installed suite.
type Suite struct{ command []string }

// Install installs the suite and the Node that runs it into the cache folder. A
// missing npm is an *interop.PrerequisiteError.
func Install(ctx context.Context, cacheDir string) (*Suite, error) {
	command, err := interop.InstallSuite(ctx, cacheDir)
	if err != nil {
		return nil, err
	}
	return &Suite{command}, nil
}

// A Check is one verdict of the suite. A scenario may give several under one id.
type Check struct {
	Scenario string
	ID       string
	Status   string // SUCCESS, FAILURE, WARNING, SKIPPED or INFO
	Message  string // why it failed; not compared
}

// Results are the verdicts of one run, in order of scenario, and in each scenario
// in the suite's own order.
type Results struct {
	Requirements string
	Checks       []Check
	// Conformant is the suite's own verdict on the required scenarios.
	Conformant bool
	// Output is the end of what the suite printed.
	Output string
}

// Count returns how many checks have the status.
func (r *Results) Count(status string) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

// Run runs what the revision of MCP requires (Legacy or Modern) against the server
// at url. That checks fail is no error; that there is no report is one.
func (s *Suite) Run(ctx context.Context, url, requirements string) (*Results, error) {
	dir, err := os.MkdirTemp("", "tmcp-official-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	args := append(slices.Clone(s.command[1:]), "server", "--url", url, "--requirements", requirements, "-o", dir)
	cmd := exec.CommandContext(ctx, s.command[0], args...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return nil, fmt.Errorf("official suite: %w (%w)\n%s", err, context.Cause(ctx), end(out))
	}
	res := &Results{Requirements: requirements, Conformant: err == nil, Output: end(out)}
	if res.Checks, err = read(dir); err != nil {
		return nil, fmt.Errorf("official suite: %w\n%s", err, res.Output)
	}
	if len(res.Checks) == 0 {
		return nil, fmt.Errorf("official suite: it reported no check for requirements %s\n%s", requirements, res.Output)
	}
	return res, nil
}

func end(out []byte) string {
	const keep = 8 << 10
	if len(out) > keep {
		out = out[len(out)-keep:]
	}
	return string(out)
}

// Reports lie in folders named server-SCENARIO-TIMESTAMP.
var folder = regexp.MustCompile(`^server-(.+?)-\d{4}-\d\d-\d\dT[0-9-]+Z$`)

func read(dir string) ([]Check, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Check
	for _, entry := range entries {
		m := folder.FindStringSubmatch(entry.Name())
		if m == nil {
			return nil, fmt.Errorf("report folder %q is not named server-SCENARIO-TIMESTAMP", entry.Name())
		}
		checks, err := readFile(filepath.Join(dir, entry.Name(), "checks.json"))
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", m[1], err)
		}
		for _, c := range checks {
			all = append(all, Check{m[1], c.ID, c.Status, c.ErrorMessage})
		}
	}
	slices.SortStableFunc(all, func(a, b Check) int { return strings.Compare(a.Scenario, b.Scenario) })
	return all, nil
}

type report struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	ErrorMessage string `json:"errorMessage"`
}

func readFile(path string) ([]report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var checks []report
	if err := json.UnmarshalRead(io.LimitReader(f, maxFile), &checks); err != nil {
		return nil, err
	}
	for i, c := range checks {
		if c.ID == "" || c.Status == "" {
			return nil, fmt.Errorf("check %d has no id or no status", i)
		}
	}
	return checks, nil
}

// A Difference is a check whose verdicts differ between two runs: Scenario and ID,
// and the statuses that each run gave it, sorted and joined by commas, "" where it
// didn't appear.
type Difference struct {
	Scenario, ID string
	A, B         string
	Message      string // of a failure in B, else in A
}

func (d Difference) String() string {
	s := fmt.Sprintf("%s: %s: %q against %q", d.Scenario, d.ID, d.A, d.B)
	if d.Message != "" {
		s += " (" + d.Message + ")"
	}
	return s
}

// Diff returns the checks whose verdicts differ, in order of scenario and id. It
// compares how often each (scenario, id) got each status, not the order inside a
// scenario, which depends on timing.
func Diff(a, b *Results) []Difference {
	type key struct{ scenario, id string }
	type both struct {
		a, b       []string
		msgA, msgB string
	}
	all := map[key]*both{}
	at := func(c Check) *both {
		k := key{c.Scenario, c.ID}
		if all[k] == nil {
			all[k] = new(both)
		}
		return all[k]
	}
	for _, c := range a.Checks {
		e := at(c)
		e.a = append(e.a, c.Status)
		e.msgA = cmp.Or(e.msgA, c.Message)
	}
	for _, c := range b.Checks {
		e := at(c)
		e.b = append(e.b, c.Status)
		e.msgB = cmp.Or(e.msgB, c.Message)
	}
	var out []Difference
	for k, e := range all {
		slices.Sort(e.a)
		slices.Sort(e.b)
		if !slices.Equal(e.a, e.b) {
			out = append(out, Difference{k.scenario, k.id, strings.Join(e.a, ","), strings.Join(e.b, ","), cmp.Or(e.msgB, e.msgA)})
		}
	}
	slices.SortFunc(out, func(x, y Difference) int {
		return cmp.Or(strings.Compare(x.Scenario, y.Scenario), strings.Compare(x.ID, y.ID))
	})
	return out
}
