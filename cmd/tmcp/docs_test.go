package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
)

var (
	fence        = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	substitution = regexp.MustCompile(`\$\([^)]*\)`)
	rules        = regexp.MustCompile("(?ms)^```json\n(\\{\n  \"name\".*?)^```$")
)

// Commands that the documentation shows have the flags and arguments that they
// are shown with, and these go together.
func TestDocumentedCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(files, "../../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(b), -1) {
			text := strings.ReplaceAll(block[2], "\\\n", " ")
			for line := range strings.Lines(text) {
				line, command := strings.CutPrefix(strings.TrimSpace(line), "$ ") // else its output, in blocks without a language
				line, _, _ = strings.Cut(strings.TrimPrefix(line, "bin/"), " > ")
				if !strings.HasPrefix(line, "tmcp ") || !command && block[1] != "sh" {
					continue
				}
				seen++
				if err := parses(words(line)[1:]); err != nil {
					t.Errorf("%s: %s\n%v", file, line, err)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("found %d commands only", seen)
	}
}

// words splits a line as a shell does, as far as the documentation needs it.
func words(line string) []string {
	var w []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			w[len(w)-1] += part
			continue
		}
		w = append(w, strings.Fields(part)...)
		if i%2 == 0 && strings.HasSuffix(part, " ") {
			w = append(w, "")
		}
	}
	var all []string
	for _, s := range w {
		if s != "" {
			all = append(all, s)
		}
	}
	return all
}

// commands is the program without its surroundings.
func commands() *cobra.Command {
	root := &cobra.Command{Use: "tmcp"}
	root.AddCommand(subcommands()...)
	return root
}

func parses(args []string) error {
	cmd, rest, err := commands().Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.Args != nil {
		err = cmd.Args(cmd, cmd.Flags().Args())
	}
	return err
}

// So have the examples in the help.
func TestHelpExamples(t *testing.T) {
	seen := 0
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		text := substitution.ReplaceAllString(strings.ReplaceAll(c.Example, "\\\n", " "), "X")
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			for _, end := range []string{" # ", " > ", " | "} {
				line, _, _ = strings.Cut(line, end)
			}
			if !strings.HasPrefix(line, "tmcp ") {
				continue
			}
			seen++
			if err := parses(words(line)[1:]); err != nil {
				t.Errorf("%s --help: %s\n%v", c.CommandPath(), line, err)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(commands())
	if seen < 10 {
		t.Errorf("found %d examples only", seen)
	}
}

// Policies that docs/attestation.md shows are policies. That for TDX accepts the
// quote of a real machine that it is made of, and no code but that.
func TestDocumentedPolicies(t *testing.T) {
	b, err := os.ReadFile("../../docs/attestation.md")
	if err != nil {
		t.Fatal(err)
	}
	found := rules.FindAllSubmatch(b, -1)
	if len(found) != 2 {
		t.Fatalf("found %d policies, want 2", len(found))
	}
	for _, f := range found {
		if _, err := appraise.ParseRules(f[1]); err != nil {
			t.Error(err)
		}
	}
	quote, err := os.ReadFile(hardware + "tdx/phala-v4.quote")
	if err != nil {
		t.Fatal(err)
	}
	coll, err := evidencefile.Collateral([]string{hardware + "tdx/phala-v4.collateral.json"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := string(found[1][1])
	for name, tt := range map[string]struct {
		text string
		want appraise.Verdict
	}{
		"as shown":         {good, appraise.Accepted},
		"another MRTD":     {strings.Replace(good, "91eb2b44", "91eb2b45", 1), appraise.Refused},
		"another RTMR1":    {strings.Replace(good, "0084452c", "0084452d", 1), appraise.Refused},
		"later recovery":   {strings.Replace(good, `"min_evaluation_number": 17`, `"min_evaluation_number": 18`, 1), appraise.Refused},
		"other attributes": {strings.Replace(good, "0000001000000000", "0000001000000001", 1), appraise.Refused},
	} {
		p, err := appraise.ParseRules([]byte(tt.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, err := appraise.New(appraise.Config{Policy: p, Anchors: vendor.Anchors(), Verifiers: verifiers.For(p.Rules()), Collateral: coll})
		if err != nil {
			t.Fatal(err)
		}
		r := a.Evaluate(appraise.Input{Items: []evidence.Item{{MediaType: evidence.TypeTDX, Value: quote}}, Unbound: true, Now: time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)})
		if r.Verdict != tt.want {
			t.Errorf("%s: %s", name, r.Explanation())
		}
	}
}

// docs/attestation.md explains each member of a policy.
func TestDocumentedMembers(t *testing.T) {
	b, err := os.ReadFile("../../docs/attestation.md")
	if err != nil {
		t.Fatal(err)
	}
	for prefix, v := range map[string]reflect.Type{"": reflect.TypeFor[appraise.Rules](), "tcb.": reflect.TypeFor[appraise.TCBRules]()} {
		for f := range v.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "tcb" && !strings.Contains(string(b), "`"+prefix+name+"`") {
				t.Errorf("the policy's member %s%s is not explained", prefix, name)
			}
		}
	}
}
