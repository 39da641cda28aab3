package house

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/spec"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestLedger fails when chapters, ledger, suite, vectors, tests and code do not
// say the same: a requirement that nothing shows, a case for a requirement that
// is gone, a quote that is no longer what the text says.
func TestLedger(t *testing.T) {
	dir := root(t)
	res, errs := Build(dir)
	for _, err := range errs {
		t.Error(err)
	}
	if res == nil {
		t.Fatal("no ledger could be made")
	}
	for name, want := range map[string][]byte{"ledger.yaml": res.YAML, "sep-trusted-mcp.yaml": res.SEP} {
		got, err := os.ReadFile(filepath.Join(dir, "spec", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("spec/%s is not what chapters, suite, vectors and code say now (first difference: line %d); run go generate ./spec", name, firstDifference(got, want))
		}
	}
	var pending []string
	for i := range res.Ledger.Requirements {
		if r := &res.Ledger.Requirements[i]; r.Pending {
			pending = append(pending, r.ID)
		}
	}
	if len(pending) > res.Notes.PendingAllowed {
		t.Errorf("%d requirements have no case, vector, test or reason; spec/notes.yaml allows %d: %s", len(pending), res.Notes.PendingAllowed, strings.Join(pending, " "))
	} else if len(pending) < res.Notes.PendingAllowed {
		t.Logf("spec/notes.yaml allows %d pending requirements; lower it to %d", res.Notes.PendingAllowed, len(pending))
	}
	t.Log(res.Summary())
}

func firstDifference(a, b []byte) int {
	la, lb := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(la), len(lb)) {
		if !bytes.Equal(la[i], lb[i]) {
			return i + 1
		}
	}
	return min(len(la), len(lb)) + 1
}

// TestEmbedded shows that what is embedded is what lies in the folder, and that
// the lookup by id works.
func TestEmbedded(t *testing.T) {
	l, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	chapters, errs := spec.Chapters(spec.Files())
	for _, err := range errs {
		t.Error(err)
	}
	n := 0
	for _, c := range chapters {
		for _, want := range c.Requirements {
			n++
			got, err := spec.Requirement(want.ID)
			if err != nil {
				t.Error(err)
				continue
			}
			if got.Text != want.Text || got.Level != want.Level || got.Section != want.Section {
				t.Errorf("%s: the ledger says\n\t%s %s %s\nthe text says\n\t%s %s %s", want.ID, got.Level, got.Section, got.Text, want.Level, want.Section, want.Text)
			}
		}
	}
	if n == 0 || n != len(l.Requirements) {
		t.Errorf("%d requirements in the text, %d in the ledger", n, len(l.Requirements))
	}
	if _, err := spec.Requirement("TMCP-0.0-0"); err == nil {
		t.Error("an id that does not exist was found")
	}
}

// TestDriftBites breaks a good chapter in one way at a time.
func TestDriftBites(t *testing.T) {
	const good = "# 1 One\n\n## 1.1 First\n\nNot binding. A client MUST do it. [TMCP-1.1-1 C]\n\n- A server SHOULD do that. *Why*: reasons. [TMCP-1.1-2 S]\n"
	for _, tt := range []struct{ name, old, new, want string }{
		{"sentence without id", "Not binding.", "A server MUST NOT do it.", "has no id"},
		{"id twice", "TMCP-1.1-2", "TMCP-1.1-1", "stands twice"},
		{"id of another section", "TMCP-1.1-2", "TMCP-1.2-2", "never moved"},
		{"two levels", "MUST do it.", "MUST do it and SHOULD do that.", "make two of it"},
		{"no keyword", "MUST do it.", "does it.", "no BCP 14 keyword"},
		{"role twice", "1-1 C]", "1-1 CC]", "stands twice"},
		{"no number yet", "[TMCP-1.1-1 C]", "[+ C]", "go generate"},
		{"section out of order", "## 1.1", "## 1.3", "follows"},
		{"outline that binds", "Not binding.", "Not binding.\n\n> **Outline; later.**\n\n", "outline chapter holds"},
		{"open code block", "Not binding.", "```\n", "not closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(text string) []error {
				_, errs := spec.Chapters(fstest.MapFS{"01-one.md": {Data: []byte(text)}})
				return errs
			}
			if errs := check(good); len(errs) > 0 {
				t.Fatalf("the twin is refused: %v", errs)
			}
			bad := strings.Replace(good, tt.old, tt.new, 1)
			if bad == good {
				t.Fatal("the mutation changed nothing")
			}
			for _, err := range check(bad) {
				if strings.Contains(err.Error(), tt.want) {
					return
				}
			}
			t.Errorf("want an error with %q, got %v", tt.want, check(bad))
		})
	}
}

// TestQuotesBite shows that a quote which is not the text is refused.
func TestQuotesBite(t *testing.T) {
	const text = "A server MUST answer an open frame whose ctx-id it remembers with `replayed`."
	for q, want := range map[string]bool{
		text: true,
		"an open frame whose ctx-id it remembers":                true,
		"MUST answer … with `replayed`.":                         true,
		"with `replayed` … MUST answer":                          false,
		"A server MUST answer an open frame whose ctx-id it has": false,
		"a server must answer":                                   false,
	} {
		if got := quotes(text, q); got != want {
			t.Errorf("quotes(%q) = %v, want %v", q, got, want)
		}
	}
	l, err := spec.NewLedger([]spec.Req{{ID: "TMCP-1.1-1", Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	src := "package p\n\n// TMCP-1.1-1: A server MUST answer an open frame\n// whose ctx-id it remembers\n// and more.\nfunc f() {}\n\n// TMCP-1.1-1: A server may answer\n// TMCP-1.1-9: what is this\nvar x = \"TMCP-1.1-8\"\n"
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	errs := addQuotes(l, dir)
	if len(errs) != 3 {
		t.Errorf("want three errors (altered quote, unknown id twice), got %v", errs)
	}
	want := []spec.Place{{File: "p.go", Quote: "A server MUST answer an open frame whose ctx-id it remembers"}}
	if got := l.Get("TMCP-1.1-1").Code; len(got) != 1 || got[0] != want[0] {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAssignIDs(t *testing.T) {
	got := spec.AssignIDs("# 1 X\n\n## 1.1 A\n\nA MUST b. [TMCP-1.1-3 C]\nC MUST d. [+ S]\n\n## 1.2 B\n\nE MAY f. [+ CS]\nG MUST h. [+ C core]\n", []string{"TMCP-1.2-1"})
	want := "# 1 X\n\n## 1.1 A\n\nA MUST b. [TMCP-1.1-3 C]\nC MUST d. [TMCP-1.1-4 S]\n\n## 1.2 B\n\nE MAY f. [TMCP-1.2-2 CS]\nG MUST h. [TMCP-1.2-3 C core]\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestCasesBite gives the ledger a good case, and the same with one mistake.
func TestCasesBite(t *testing.T) {
	good := conformance.Case{
		ID: "server/x", Role: conformance.RoleServer, Profile: conformance.ProfileIdentity,
		Requirement: conformance.Requirement{ID: "TMCP-1.1-1", Level: conformance.MUST, Text: "A server MUST NOT do it."},
	}
	for _, tt := range []struct {
		name   string
		mutate func(*conformance.Case)
		want   string
	}{
		{"good", func(*conformance.Case) {}, ""},
		{"unknown id", func(c *conformance.Case) { c.Requirement.ID = "TMCP-1.1-2" }, "not in the specification"},
		{"other text", func(c *conformance.Case) { c.Requirement.Text = "A server MUST do it." }, "does not quote"},
		{"other level", func(c *conformance.Case) { c.Requirement.Level = conformance.SHOULD }, "is a MUST NOT"},
		{"other role", func(c *conformance.Case) { c.Role = conformance.RoleClient }, "in the role"},
		{"foreign requirement", func(c *conformance.Case) { c.Requirement.ID = "MCP-x" }, "not this specification's"},
	} {
		l, err := spec.NewLedger([]spec.Req{{ID: "TMCP-1.1-1", Level: "MUST NOT", Text: "A server MUST NOT do it.", Roles: []string{"server"}}})
		if err != nil {
			t.Fatal(err)
		}
		c := good
		tt.mutate(&c)
		errs := joinCases(l, []conformance.Case{c})
		if tt.want == "" {
			if len(errs) > 0 || len(l.Get("TMCP-1.1-1").Cases) != 1 {
				t.Errorf("%s: %v, cases %v", tt.name, errs, l.Get("TMCP-1.1-1").Cases)
			}
			continue
		}
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
			t.Errorf("%s: want one error with %q, got %v", tt.name, tt.want, errs)
		}
	}
}

// TestVectorsBite gives the ledger a good vector, and the same with one mistake.
func TestVectorsBite(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"good", `{"id":"group/name","requirements":["TMCP-1.1-1"]}`, ""},
		{"unknown id", `{"id":"group/name","requirements":["TMCP-1.1-2"]}`, "not in the specification"},
		{"none", `{"id":"group/name","requirements":[]}`, "names no requirement"},
		{"other file", `{"id":"group/other","requirements":["TMCP-1.1-1"]}`, "its file says"},
		{"not JSON", `{`, "name.json"},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "spec/vectors/group"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "spec/vectors/group/name.json"), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := spec.NewLedger([]spec.Req{{ID: "TMCP-1.1-1"}})
		if err != nil {
			t.Fatal(err)
		}
		errs := addVectors(l, dir)
		if tt.want == "" {
			if len(errs) > 0 || len(l.Get("TMCP-1.1-1").Vectors) != 1 {
				t.Errorf("%s: %v", tt.name, errs)
			}
		} else if len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
			t.Errorf("%s: want one error with %q, got %v", tt.name, tt.want, errs)
		}
	}
}
