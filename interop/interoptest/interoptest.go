// Package interoptest brings the targets of package interop into tests.
//
// Call [Install] first: it skips the test unless TMCP_INTEROP is 1, and returns
// the cache folder. Then call [Start] for a server.
package interoptest

import (
	"context"
	"os"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
)

// Need skips the test unless the interop tests are asked for: they install
// programs of others, which takes minutes the first time.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("TMCP_INTEROP") != "1" {
		t.Skip("interop tests are off: run `make interop`, or set TMCP_INTEROP=1")
	}
}

// Check ends the test if err is not nil: with a skip that names the missing
// toolchain when that is all, and CI is not set; else as a failure.
func Check(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case interop.IsPrerequisite(err) && os.Getenv("CI") == "":
		t.Skipf("prerequisite missing: %v", err)
	default:
		t.Fatal(err)
	}
}

// Install installs the targets and returns the cache folder.
func Install(t testing.TB, targets ...*interop.Target) string {
	t.Helper()
	Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		Check(t, target.Install(t.Context(), cache))
	}
	return cache
}

// Start starts a server at one of its endpoints, stops it when the test ends, and
// shows the end of its output when the test failed.
func Start(t testing.TB, cache string, target *interop.Target, endpoint string) *interop.Running {
	t.Helper()
	e, err := target.Endpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	// The test's own context ends before its cleanups run, and would end the
	// server before Stop can say whether it ended in good order.
	r, err := target.Start(context.WithoutCancel(t.Context()), cache, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() && r.Log() != "" {
			t.Logf("%s printed:\n%s", target.Name, r.Log())
		}
	})
	return r
}
