package verifier_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/conformance/verifier/refverifier"
	"github.com/trustedmcp/tmcp/spec"
)

// The test binary is a shim too, of a kind that the variable names.
func TestMain(m *testing.M) {
	if kind := os.Getenv("TMCP_TEST_SHIM"); kind == "exports" {
		if _, err := verifier.Export(os.Args[1]); err != nil {
			panic(err)
		}
		return
	} else if kind != "" {
		shim(kind)
		return
	}
	goleak.VerifyTestMain(m)
}

func shim(kind string) {
	verify := refverifier.New(nil)
	in := bytes.NewBuffer(nil)
	buf := make([]byte, 1<<20)
	var hog []byte
	for {
		for !bytes.ContainsRune(in.Bytes(), '\n') {
			n, err := os.Stdin.Read(buf)
			if err != nil {
				return
			}
			in.Write(buf[:n])
		}
		line, _ := in.ReadBytes('\n')
		r, err := verifier.ParseRequest(line)
		if err != nil {
			panic(err)
		}
		a := verify(r)
		a.ID = r.ID
		out, _ := a.Encode()
		if r.Op == verifier.OpHello {
			fmt.Printf("%s\n", out)
			continue
		}
		switch kind {
		case "exits 89":
			if r.Op != verifier.OpCMW {
				os.Exit(verifier.ExitNotImplemented)
			}
		case "crashes":
			panic("no such certificate")
		case "hangs":
			// Not select{}: the runtime ends a program in which nothing can go on.
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		case "garbage":
			out = []byte("accept")
		case "wrong id":
			out = bytes.Replace(out, []byte(`"id":"`), []byte(`"id":"0`), 1)
		case "two answers":
			fmt.Printf("%s\n", out)
		case "unknown outcome":
			out = bytes.Replace(out, []byte(`"accept"`), []byte(`"maybe"`), 1)
		case "member twice":
			out = bytes.Replace(out, []byte(`{`), []byte(`{"outcome":"reject",`), 1)
		case "endless line":
			out = bytes.Repeat([]byte("x"), 5<<20)
		case "hog":
			if a.Outcome == verifier.Reject {
				hog = make([]byte, 64<<20)
				for i := range hog {
					hog[i] = 1
				}
			}
		}
		fmt.Printf("%s\n", out)
	}
}

// run runs the cases that select names against a shim.
func run(t *testing.T, s *verifier.Subject, step time.Duration, only ...string) *conformance.Report {
	t.Helper()
	defer s.Close()
	cases := verifier.Cases()
	if err := conformance.Validate(cases); err != nil {
		t.Fatal(err)
	}
	survey, err := verifier.Survey(t.Context(), s, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := conformance.Run(t.Context(), conformance.Config{Target: s, Survey: survey, Cases: cases, Seed: 7, StepTimeout: step,
		Select: func(c *conformance.Case) bool {
			return len(only) == 0 || slices.Contains(only, strings.TrimPrefix(c.ID, "verifier/attested/"))
		}})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func process(t *testing.T, kind string) *verifier.Subject {
	t.Helper()
	t.Setenv("TMCP_TEST_SHIM", kind)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Command([]string{exe})
}

func verdict(rep *conformance.Report, name string) (conformance.Outcome, string) {
	for _, r := range rep.Results {
		if strings.HasSuffix(r.Case.ID, "/"+name) {
			return r.Outcome, r.Reason
		}
	}
	return "", "it did not run"
}

// The reference passes as a process, too, within what malformed input may cost.
func TestReference(t *testing.T) {
	rep := run(t, process(t, "good"), 10*time.Second)
	for _, r := range rep.Results {
		if r.Outcome != conformance.Pass {
			t.Errorf("%s: %s: %s", r.Case.ID, r.Outcome, r.Reason)
		}
	}
	t.Logf("%d cases", len(rep.Results))
}

// What a shim does wrong as a program is a failure, and the next case has a
// fresh one; only exit code 89 and not-implemented are declarations.
func TestMisbehaviour(t *testing.T) {
	for _, tt := range []struct {
		kind, reason string
		want         conformance.Outcome
	}{
		{"exits 89", "has not the operation evidence", conformance.NotApplicable},
		{"crashes", "(exit code 2)", conformance.Fail},
		{"hangs", "no answer in time", conformance.Fail},
		{"garbage", "no answer", conformance.Fail},
		{"wrong id", "the answer is to", conformance.Fail},
		{"unknown outcome", `outcome "maybe"`, conformance.Fail},
		{"member twice", "no answer", conformance.Fail},
		{"endless line", "ended without an answer", conformance.Fail},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			limit := 10 * time.Second // a busy machine takes its time to start a process
			if tt.kind == "hangs" {
				limit = 300 * time.Millisecond
			}
			rep := run(t, process(t, tt.kind), limit, "tdx", "tdx-debug", "cmw-record")
			got, reason := verdict(rep, "tdx")
			if got != tt.want || !strings.Contains(reason, tt.reason) {
				t.Errorf("%s (%s), want %s with %q", got, reason, tt.want, tt.reason)
			}
			if got, reason := verdict(rep, "cmw-record"); tt.kind == "exits 89" && got != conformance.Pass {
				t.Errorf("the operation that it has: %s (%s)", got, reason)
			}
		})
	}
	rep := run(t, process(t, "two answers"), time.Second, "tdx", "sgx", "snp")
	if rep.Count(conformance.Fail) == 0 {
		t.Error("a shim that answers each request twice passes")
	}
}

func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows the peak of another process's memory")
	}
	rep := run(t, process(t, "hog"), 10*time.Second, "bomb-length")
	if got, reason := verdict(rep, "bomb-length"); got != conformance.Warn || !strings.Contains(reason, "MiB") {
		t.Errorf("%s (%s), want a warning of the memory", got, reason)
	}
}

func TestNoShim(t *testing.T) {
	for _, argv := range [][]string{{"/no/such/shim"}, {"true"}} {
		s := verifier.Command(argv)
		_, err := verifier.Survey(t.Context(), s, 5*time.Second)
		s.Close()
		var missing *conformance.PrerequisiteError
		if !asPrerequisite(err, &missing) {
			t.Errorf("%s: %v", argv, err)
		}
	}
}

func asPrerequisite(err error, p **conformance.PrerequisiteError) (ok bool) {
	*p, ok = err.(*conformance.PrerequisiteError)
	return ok
}

// What the suite asks is written once for each case, and says what must come of it.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	n, err := verifier.Export(dir)
	if err != nil || n != len(verifier.Cases()) {
		t.Fatalf("%d files of %d: %v", n, len(verifier.Cases()), err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(names) != n {
		t.Errorf("%d files, want %d: %v", len(names), n, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tdx-debug.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"twin": "verifier/attested/tdx-debug-allowed"`, `"want": "reject"`, `"requirement": "TMCP-18.6-6"`, `"op": "evidence"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
}

// What the suite asks is the same in every run: nothing of it is random, or of
// the moment. Another process makes it again.
func TestDeterministic(t *testing.T) {
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
	if _, err := verifier.Export(here); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], there)
	cmd.Env = append(os.Environ(), "TMCP_TEST_SHIM=exports")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	names, err := filepath.Glob(filepath.Join(here, "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatal("nothing was written", err)
	}
	for _, name := range names {
		a, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(there, filepath.Base(name)))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs in another process (%v)", filepath.Base(name), err)
		}
	}
}

// Every requirement of chapters 18 and 19 that binds verifiers has a case,
// except those that are about sessions: a shim is asked one thing at a time.
func TestRequirements(t *testing.T) {
	without := []string{"TMCP-19.6-6", "TMCP-19.6-7"}
	has := map[string]bool{}
	for _, c := range verifier.Cases() {
		has[c.Requirement.ID] = true
	}
	chapters, errs := spec.Chapters(spec.Files())
	for _, err := range errs {
		t.Error(err)
	}
	for _, c := range chapters {
		for _, r := range c.Requirements {
			if (c.Number == 18 || c.Number == 19) && slices.Contains(r.Roles, "verifier") && has[r.ID] == slices.Contains(without, r.ID) {
				t.Errorf("%s: has a case: %v; %s", r.ID, has[r.ID], r.Text)
			}
		}
	}
}

// The shims in other languages pass what they implement. They need packages of
// PyPI and npm, so only with TMCP_INTEROP=1; then what is missing is a failure.
func TestOtherLanguages(t *testing.T) {
	if os.Getenv("TMCP_INTEROP") != "1" {
		t.Skip("set TMCP_INTEROP=1 to run the shims in Python and TypeScript (needs python3, node and npm)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	do := func(t *testing.T, dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	for _, tt := range []struct {
		name    string
		install func(t *testing.T, dir string) []string
	}{
		{"python", func(t *testing.T, dir string) []string {
			python := filepath.Join(dir, "venv", "bin", "python")
			if runtime.GOOS == "windows" {
				python = filepath.Join(dir, "venv", "Scripts", "python.exe")
			}
			do(t, dir, "python3", "-m", "venv", "venv")
			do(t, dir, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt")
			return []string{python, filepath.Join(dir, "shim.py")}
		}},
		{"typescript", func(t *testing.T, dir string) []string {
			do(t, dir, "npm", "ci", "--no-audit", "--no-fund")
			do(t, dir, "npx", "--no-install", "tsc")
			return []string{"node", filepath.Join(dir, "shim.js")}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("shims", tt.name))); err != nil {
				t.Fatal(err)
			}
			rep := run(t, verifier.Command(tt.install(t, dir)), 10*time.Second)
			for _, r := range rep.Results {
				if r.Outcome != conformance.Pass && r.Outcome != conformance.NotApplicable {
					t.Errorf("%s: %s: %s", r.Case.ID, r.Outcome, r.Reason)
				}
			}
			if rep.Count(conformance.Pass) < 60 {
				t.Errorf("%d cases passed, want at least 60", rep.Count(conformance.Pass))
			}
		})
	}
}
