package official_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/official"
)

// Two direct runs give the same verdicts: only then does a difference through a
// gateway mean anything. The totals are those of the pinned suite and SDK.
func TestDirectRunsAreEqual(t *testing.T) {
	server, err := interop.Lookup("go-sdk-everything")
	if err != nil {
		t.Fatal(err)
	}
	cache := interoptest.Install(t, server)
	suite, err := official.Install(t.Context(), cache)
	interoptest.Check(t, err)
	for _, test := range []struct {
		requirements, endpoint string
		success, failure       int
	}{
		{official.Legacy, "http-stateful", 82, 0},
		{official.Modern, "http-stateless", 165, 30}, // the failures are in unscored extension scenarios
	} {
		t.Run(test.requirements, func(t *testing.T) {
			var runs [2]*official.Results
			for i := range runs {
				r := interoptest.Start(t, cache, server, test.endpoint)
				if runs[i], err = suite.Run(t.Context(), r.URL, test.requirements); err != nil {
					t.Fatal(err)
				}
				if !runs[i].Conformant {
					t.Errorf("run %d: not conformant:\n%s", i, runs[i].Output)
				}
				if s, f := runs[i].Count("SUCCESS"), runs[i].Count("FAILURE"); s != test.success || f != test.failure {
					t.Errorf("run %d: %d checks passed and %d failed, want %d and %d", i, s, f, test.success, test.failure)
				}
				if err := r.Stop(); err != nil {
					t.Error(err)
				}
			}
			for _, d := range official.Diff(runs[0], runs[1]) {
				t.Error(d)
			}
		})
	}
}

// A server of the other era is not conformant, and Diff shows it.
func TestDiffBites(t *testing.T) {
	server, err := interop.Lookup("go-sdk-everything")
	if err != nil {
		t.Fatal(err)
	}
	cache := interoptest.Install(t, server)
	suite, err := official.Install(t.Context(), cache)
	interoptest.Check(t, err)
	run := func(endpoint string) *official.Results {
		res, err := suite.Run(t.Context(), interoptest.Start(t, cache, server, endpoint).URL, official.Modern)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	good, bad := run("http-stateless"), run("http-stateful")
	if bad.Conformant {
		t.Error("a server that refuses 2026-07-28 is called conformant")
	}
	if len(official.Diff(good, bad)) == 0 {
		t.Error("no difference between a server of the era and one of the other")
	}
}

func TestDiff(t *testing.T) {
	a := &official.Results{Checks: []official.Check{
		{"s", "x", "SUCCESS", ""}, {"s", "x", "FAILURE", "why"}, {"s", "y", "INFO", ""}}}
	reordered := &official.Results{Checks: []official.Check{a.Checks[2], a.Checks[1], a.Checks[0]}}
	if d := official.Diff(a, reordered); len(d) != 0 {
		t.Errorf("order inside a scenario: %v", d)
	}
	for name, checks := range map[string][]official.Check{
		"missing":   a.Checks[:2],
		"status":    {{"s", "x", "SUCCESS", ""}, {"s", "x", "SUCCESS", ""}, {"s", "y", "INFO", ""}},
		"repeated":  append(a.Checks[:3:3], a.Checks[2]),
		"scenario":  {{"s", "x", "SUCCESS", ""}, {"s", "x", "FAILURE", ""}, {"z", "y", "INFO", ""}},
		"different": {{"s", "x", "SUCCESS", ""}, {"s", "x", "FAILURE", ""}, {"s", "z", "INFO", ""}},
	} {
		if d := official.Diff(a, &official.Results{Checks: checks}); len(d) == 0 {
			t.Errorf("%s: no difference", name)
		}
	}
}

// What isn't a report is an error, never an empty list of checks.
func TestUnreadableReport(t *testing.T) {
	for name, content := range map[string]string{
		"not JSON":   "x",
		"duplicate":  `[{"id":"a","id":"b","status":"SUCCESS"}]`,
		"trailing":   `[] []`,
		"no status":  `[{"id":"a"}]`,
		"other type": `{"id":"a","status":"SUCCESS"}`,
	} {
		dir := t.TempDir()
		sub := filepath.Join(dir, "server-ping-2026-11-21T03-02-32-086Z")
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, "checks.json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if checks, err := official.Read(dir); err == nil {
			t.Errorf("%s: read as %v", name, checks)
		}
	}
}
