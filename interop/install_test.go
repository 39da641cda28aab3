package interop

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRegistry(t *testing.T) {
	names := map[string]bool{}
	for _, target := range Targets() {
		if names[target.Name] {
			t.Errorf("%s: two targets of that name", target.Name)
		}
		names[target.Name] = true
		if len(target.Endpoints) == 0 || target.bundle == nil || target.command == nil || target.Version == "" {
			t.Errorf("%s: incomplete", target.Name)
		}
		for _, e := range target.Endpoints {
			if len(e.Eras) == 0 {
				t.Errorf("%s/%s: no era", target.Name, e.Name)
			}
		}
		for _, where := range target.Ask {
			name, era, _ := strings.Cut(where, "/")
			e, err := target.Endpoint(name)
			if err != nil || !slices.Contains(e.Eras, Era(era)) {
				t.Errorf("%s: asks at %s, which it doesn't serve", target.Name, where)
			}
		}
		got, err := Lookup(target.Name)
		if err != nil || got != target {
			t.Errorf("Lookup(%s) = %v, %v", target.Name, got, err)
		}
	}
}

// The versions of the registry are those that the lock files install.
func TestPinnedVersions(t *testing.T) {
	for _, pin := range []struct{ file, want string }{
		{"fixtures/tsv1/package.json", `"@modelcontextprotocol/sdk": "` + tsV1Version + `"`},
		{"fixtures/tsv1/package.json", `"@modelcontextprotocol/server-everything": "` + everythingTS + `"`},
		{"fixtures/tsv2/package.json", `"@modelcontextprotocol/server": "` + tsV2Version + `"`},
		{"fixtures/tsv2/package.json", `"@modelcontextprotocol/client": "` + tsV2Version + `"`},
		{"fixtures/conformance/package.json", `"@modelcontextprotocol/conformance": "` + suiteVersion + `"`},
		{"fixtures/python1/constraints.txt", "\nmcp==" + python1 + "\n"},
		{"fixtures/python2/constraints.txt", "\nmcp==" + python2 + "\n"},
		{"fixtures/aicc/requirements.txt", "\nbytedance-jeddak-trusted-mcp==" + aiccVersion + " "},
		{"fixtures/aicc/requirements.txt", "\nmcp==" + aiccSDK + " "},
		{"fixtures/rmcp/Cargo.toml", `rmcp = { version = "=` + rmcpVersion + `"`},
		{"fixtures/rmcp/Cargo.lock", "name = \"rmcp\"\nversion = \"" + rmcpVersion + `"`},
		{"fixtures/java/pom.xml", "<artifactId>mcp</artifactId>\n      <version>" + javaVersion + "</version>"},
		{"../go.mod", "\t" + goSDK + " " + goSDKVersion},
		{"../go.mod", "\t" + mcpGo + " " + mcpGoVersion},
	} {
		data, err := os.ReadFile(pin.file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), pin.want) {
			t.Errorf("%s does not hold %q", pin.file, pin.want)
		}
	}
}

// Lock files name packages and digests; which registry serves them is the
// installer's business.
func TestLockFilesNameNoHost(t *testing.T) {
	url := regexp.MustCompile(`"resolved"\s*:|https?://[^"\s]*\.tgz`)
	files, err := filepath.Glob("fixtures/*/package-lock.json")
	if err != nil || len(files) != 5 {
		t.Fatalf("lock files: %q, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if m := url.Find(data); m != nil {
			t.Errorf("%s holds %q: run npm with omit-lockfile-registry-resolved", file, m)
		}
	}
}

func TestInstallOnce(t *testing.T) {
	cache := t.TempDir()
	var runs atomic.Int32
	b := &bundle{name: "b", recipe: "1", steps: func(_ context.Context, in install) error {
		runs.Add(1)
		return os.WriteFile(in.path("program"), nil, 0o755)
	}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := b.install(t.Context(), cache); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := runs.Load(); n != 1 {
		t.Fatalf("8 installations at once ran the steps %d times, want once", n)
	}
	b.recipe = "2"
	stale := filepath.Join(cache, "b", "stale")
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.install(t.Context(), cache); err != nil || runs.Load() != 2 {
		t.Fatalf("a new recipe: %v, %d runs, want 2", err, runs.Load())
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("the older installation is still there")
	}
}

// A failed installation is tried again, and doesn't look like one.
func TestInstallFails(t *testing.T) {
	cache := t.TempDir()
	boom := errors.New("boom")
	fail := true
	b := &bundle{name: "b", steps: func(context.Context, install) error {
		if fail {
			return boom
		}
		return nil
	}}
	target := &Target{Name: "t", Kind: Server, bundle: b, Endpoints: []Endpoint{{"stdio", Stdio, []Era{Legacy}}},
		command: func(install, Endpoint, int) invocation { return invocation{argv: []string{"true"}} }}
	if err := target.Install(t.Context(), cache); !errors.Is(err, boom) || IsPrerequisite(err) {
		t.Fatalf("got %v", err)
	}
	if _, err := target.Start(t.Context(), cache, target.Endpoints[0]); err == nil {
		t.Fatal("started what is not installed")
	}
	fail = false
	if err := target.Install(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Start(t.Context(), cache, target.Endpoints[0]); err != nil {
		t.Fatal(err)
	}
}

// Whoever waits for another's installation can give up.
func TestInstallWaitIsBounded(t *testing.T) {
	cache := t.TempDir()
	started, release := make(chan struct{}), make(chan struct{})
	b := &bundle{name: "b", steps: func(context.Context, install) error {
		close(started)
		<-release
		return nil
	}}
	done := make(chan error, 1)
	go func() { done <- b.install(context.Background(), cache) }()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.install(ctx, cache); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the wait was given up", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMissingToolchain(t *testing.T) {
	none := tool{name: "tmcp-no-such-program", hint: "there is none"}
	old := tool{name: "go", version: []string{"version"}, major: 99, hint: "wait"}
	for _, tc := range []struct {
		tool tool
		want string
	}{{none, "is not in PATH; there is none"}, {old, "but 99.0 is needed; wait"}} {
		b := &bundle{name: "b", tools: []tool{tc.tool}, steps: func(context.Context, install) error { return nil }}
		err := (&Target{Name: "t", bundle: b}).Install(t.Context(), t.TempDir())
		if !IsPrerequisite(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want a prerequisite error with %q", err, tc.want)
		}
	}
}

// TestMain lets the test binary play the servers of TestStart.
func TestMain(m *testing.M) {
	switch role, _, _ := strings.Cut(os.Getenv("TMCP_TEST_ROLE"), " "); role {
	case "exit":
		os.Stderr.WriteString("no such luck\n")
		os.Exit(3)
	case "silent":
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func testTarget(t *testing.T, role string) (*Target, string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	target := &Target{Name: role, Kind: Server, Endpoints: []Endpoint{{"http", HTTP, []Era{Legacy}}},
		bundle: &bundle{name: role, steps: func(context.Context, install) error { return nil }},
		command: func(install, Endpoint, int) invocation {
			return invocation{argv: []string{self}, env: []string{"TMCP_TEST_ROLE=" + role}}
		}}
	cache := t.TempDir()
	if err := target.Install(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	return target, cache
}

func TestStartServerThatExits(t *testing.T) {
	target, cache := testTarget(t, "exit")
	_, err := target.Start(t.Context(), cache, target.Endpoints[0])
	if !errors.Is(err, errExited) || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("got %v, want that it ended, and what it printed", err)
	}
}

func TestStartServerThatNeverListens(t *testing.T) {
	target, cache := testTarget(t, "silent")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := target.Start(ctx, cache, target.Endpoints[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the start was given up", err)
	}
}

func TestClientOutput(t *testing.T) {
	for _, out := range []string{"", "hello", "{}\n{}", `{"echo":"a","echo":"b"}`, `{"echo":1}`} {
		if res, err := parseClientResult("c", []byte(out)); err == nil {
			t.Errorf("%q: read as %+v", out, res)
		}
	}
	res, err := parseClientResult("c", []byte("{\"echo\":\"a\",\"more\":1}\n"))
	if err != nil || res.Echo != "a" {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestRunShowsTheEndOfTheOutput(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go in PATH")
	}
	err := run(t.Context(), t.TempDir(), nil, "go", "no-such-verb")
	if err == nil || !strings.Contains(err.Error(), "no-such-verb: unknown command") {
		t.Errorf("got %v", err)
	}
}

func TestTailIsBounded(t *testing.T) {
	tl := &tail{max: 4}
	for _, s := range []string{"abc", "defgh", "i"} {
		tl.Write([]byte(s))
	}
	if tl.String() != "fghi" {
		t.Errorf("got %q", tl)
	}
}
