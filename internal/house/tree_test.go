package house

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Names are put together here so that this file does not hold them itself.
func host(parts ...string) string { return strings.Join(parts, ".") }

// registries are hosts of package registries. Lock files and scripts that name
// one work only where that one is reachable; clients know their registry.
var registries = []string{
	host("registry", "npmjs", "org"), host("registry", "yarnpkg", "com"), host("pypi", "org"), host("files", "pythonhosted", "org"),
	host("static", "crates", "io"), host("index", "crates", "io"), host("repo1", "maven", "org"), host("repo", "maven", "apache", "org"),
	host("proxy", "golang", "org"), host("sum", "golang", "org"), host("deb", "debian", "org"), host("archive", "ubuntu", "com"),
}

// machinePath finds absolute paths of one machine.
var machinePath = regexp.MustCompile(`(?:^|[^\w.~/*-])/(?:` + strings.Join([]string{"work", "root", "workspace"}, "|") + `)/[\w.]|(?:^|[^\w.~/-])/(?:home|Users)/[a-z]\w*/|/tmp/(?:brief|bash_jobs)`)

// TestNoPlaces: the tree works on any machine, behind any registry.
func TestNoPlaces(t *testing.T) {
	hosts := append(localRegistries(t), registries...)
	files := 0
	err := Walk(root(t), func(path string, text []byte) error {
		files++
		for i, line := range bytes.Split(text, []byte("\n")) {
			if why := place(string(line), hosts); why != "" {
				t.Errorf("%s:%d: %s", path, i+1, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 30 {
		t.Errorf("only %d files were looked at", files)
	}
}

func place(line string, hosts []string) string {
	for _, h := range hosts {
		if strings.Contains(line, h) {
			return "names the registry host " + h + ". Why not: the project is built behind whatever registry its user has; leave the host to the client's configuration (for lock files: strip the resolved URLs)"
		}
	}
	if m := machinePath.FindString(line); m != "" {
		return "names the path " + strings.TrimSpace(m) + "… of one machine. Why not: it exists nowhere else; use a path relative to the module, or a temporary folder"
	}
	return ""
}

func TestPlacesBite(t *testing.T) {
	hosts := []string{host("proxy", "golang", "org")}
	for line, bad := range map[string]bool{
		"GOPROXY=https://" + hosts[0]:        true,
		`open("/` + `work/main/go.mod")`:     true,
		"cd /" + "root/x":                    true,
		"see /" + "home/someone/project":     true,
		"the folder of your work/main copy":  false,
		"https://example.com/w" + "ork/main": false,
		"/mcp":                               false,
	} {
		if got := place(line, hosts); (got != "") != bad {
			t.Errorf("place(%q) = %q, want bad = %v", line, got, bad)
		}
	}
}

// localRegistries are the hosts that this machine's clients are set to.
func localRegistries(t *testing.T) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	lists := []string{string(out), os.Getenv("NPM_CONFIG_REGISTRY"), os.Getenv("PIP_INDEX_URL"), os.Getenv("UV_INDEX_URL")}
	var hosts []string
	for _, list := range lists {
		for _, item := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' || r == '\n' }) {
			u, err := url.Parse(strings.TrimSpace(item))
			if err != nil || u.Hostname() == "" || u.Hostname() == "localhost" || strings.HasPrefix(u.Hostname(), "127.") {
				continue
			}
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// TestLicence: one licence, at the root, and nothing in the tree that says
// otherwise. Headers in each file would only repeat it.
func TestLicence(t *testing.T) {
	dir := root(t)
	b, err := os.ReadFile(filepath.Join(dir, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("Apache License")) || !bytes.Contains(b, []byte("Version 2.0, January 2004")) {
		t.Error("LICENSE is not the Apache License 2.0")
	}
	spdx := regexp.MustCompile(`SPDX-License` + `-Identifier:\s*([\w.+-]+)`)
	err = Walk(dir, func(path string, text []byte) error {
		for _, m := range spdx.FindAllSubmatch(text, -1) {
			if id := string(m[1]); id != "Apache-2.0" {
				t.Errorf("%s says it is under %s; the project is under Apache-2.0, and takes in no files under other terms", path, id)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// long files, with the reason why they stay long.
var long = map[string]string{}

const (
	reportLines = 600
	maxLines    = 900
)

// TestFileLength: one file per concept. A file that grows past 600 lines holds
// two, and is reported; past 900 it needs a reason.
func TestFileLength(t *testing.T) {
	err := Walk(root(t), func(path string, text []byte) error {
		if !strings.HasSuffix(path, ".go") || isGenerated(text) {
			return nil
		}
		n := bytes.Count(text, []byte("\n"))
		switch {
		case n > maxLines && long[path] == "":
			t.Errorf("%s has %d lines. Why not: one file per concept, so that a reader finds it by name and holds it in mind; split it, or give a reason", path, n)
		case n > reportLines:
			t.Logf("%s has %d lines; %d is where a file usually holds two concepts", path, n, reportLines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isGenerated(text []byte) bool {
	return regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`).Match(text[:min(len(text), 2000)])
}

var sleeps = regexp.MustCompile(`\btime\.Sleep` + `\(`)

// TestNoSleep: a test that sleeps is slow on a good day and wrong on a bad one.
// In a synctest bubble sleeping is exact and free; polling with a deadline for
// what another process does is allowed, and so is TestMain where it plays a
// process that hangs.
func TestNoSleep(t *testing.T) {
	err := Walk(root(t), func(path string, text []byte) error {
		if !strings.HasSuffix(path, "_test.go") || bytes.Contains(text, []byte(`"testing/synctest"`)) {
			return nil
		}
		for _, n := range bareSleeps(string(text)) {
			t.Errorf("%s:%d: sleeps. Why not: it is slow, and flakes under load; use testing/synctest or a channel, or poll with a deadline for what another process does", path, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	call := "\ttime.Sleep" + "(5 * time.Millisecond)\n"
	for text, want := range map[string]int{
		"func TestX(t *testing.T) {\n" + call:                       1,
		"func poll() {\nfor time.Now().Before(deadline) {\n" + call: 0,
		"func TestMain(m *testing.M) {\n" + call:                    0,
	} {
		if got := len(bareSleeps(text)); got != want {
			t.Errorf("bareSleeps found %d in %q", got, text)
		}
	}
}

// bareSleeps returns the lines that sleep outside of a polling loop.
func bareSleeps(text string) (at []int) {
	function, lastDeadline := "", -100
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "func ") {
			function, lastDeadline = line, -100
		}
		if strings.Contains(line, "deadline") {
			lastDeadline = i
		}
		if sleeps.MatchString(line) && i-lastDeadline > 8 && !strings.HasPrefix(function, "func TestMain(") {
			at = append(at, i+1)
		}
	}
	return at
}

// TestRationaleOnce: a decision is written down once. Two headings of one name
// are two places to keep in step.
func TestRationaleOnce(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "RATIONALE.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(b), "\n") {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		if seen[line] {
			t.Errorf("RATIONALE.md has two headings %q", line)
		}
		seen[line] = true
	}
	if len(seen) < 10 {
		t.Errorf("RATIONALE.md gives %d reasons only", len(seen))
	}
}
