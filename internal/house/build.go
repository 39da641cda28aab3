package house

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/spec"
)

// A Result is what [Build] made.
type Result struct {
	Ledger *spec.Ledger
	Notes  *spec.Notes
	YAML   []byte // spec/ledger.yaml
	SEP    []byte // spec/sep-trusted-mcp.yaml
}

// Build makes the ledger from the tree at root. It returns every disagreement
// that it finds between chapters, notes, suite, vectors and code; the result
// is then still usable to write from, unless it is nil.
func Build(root string) (*Result, []error) {
	dir := filepath.Join(root, "spec")
	chapters, errs := spec.Chapters(os.DirFS(dir))
	if chapters == nil {
		return nil, errs
	}
	b, err := os.ReadFile(filepath.Join(dir, "notes.yaml"))
	if err != nil {
		return nil, append(errs, err)
	}
	notes, err := spec.ParseNotes(b)
	if err != nil {
		return nil, append(errs, err)
	}
	var reqs []spec.Req
	for _, c := range chapters {
		reqs = append(reqs, c.Requirements...)
	}
	ledger, err := spec.NewLedger(reqs)
	if err != nil {
		return nil, append(errs, err)
	}
	errs = append(errs, checkMentions(ledger, dir)...)
	errs = append(errs, addNotes(ledger, notes)...)
	errs = append(errs, addCases(ledger)...)
	errs = append(errs, addVectors(ledger, root)...)
	errs = append(errs, addQuotes(ledger, root)...)
	for i := range ledger.Requirements {
		r := &ledger.Requirements[i]
		shown := len(r.Cases)+len(r.Vectors)+len(r.Tests) > 0
		r.Pending = !shown && r.Untestable == ""
		if shown && r.Untestable != "" {
			errs = append(errs, fmt.Errorf("notes.yaml says that %s is untestable, and a case, vector or test shows it; take the note out", r.ID))
		}
	}
	res := &Result{Ledger: ledger, Notes: notes}
	if res.YAML, err = ledger.Encode(); err != nil {
		return nil, append(errs, err)
	}
	if res.SEP, err = ledger.ExportSEP(); err != nil {
		return nil, append(errs, err)
	}
	return res, errs
}

// checkMentions refuses ids in the chapters' prose that do not exist.
func checkMentions(l *spec.Ledger, dir string) (errs []error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return []error{err}
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return append(errs, err)
		}
		for _, id := range mention.FindAllString(string(b), -1) {
			if l.Get(id) == nil {
				errs = append(errs, fmt.Errorf("spec/%s mentions %s, which is not in the specification", filepath.Base(name), id))
			}
		}
	}
	return errs
}

func addNotes(l *spec.Ledger, notes *spec.Notes) (errs []error) {
	for _, id := range slices.Sorted(maps.Keys(notes.Untestable)) {
		r := l.Get(id)
		if r == nil {
			errs = append(errs, fmt.Errorf("notes.yaml: untestable names %s, which is not in the text", id))
			continue
		}
		if r.Untestable = strings.TrimSpace(notes.Untestable[id]); r.Untestable == "" {
			errs = append(errs, fmt.Errorf("notes.yaml: %s is untestable without a reason", id))
		}
	}
	for _, id := range notes.Retired {
		if l.Get(id) != nil {
			errs = append(errs, fmt.Errorf("notes.yaml: %s is retired and stands in the text", id))
		}
	}
	return errs
}

// quote is a comment line that quotes a requirement: "// TMCP-4.3-2: text".
var quote = regexp.MustCompile(`^\s*//\s*(TMCP-\d+\.\d+-\d+): (.+)$`)

// mention finds ids anywhere in Go text, so that one which is misspelt or
// retired is found too.
var mention = regexp.MustCompile(`\bTMCP-\d+\.\d+-\d+\b`)

var continuation = regexp.MustCompile(`^\s*//\s?(.*)$`)

// unquoted are files that hold ids as examples, or as test data.
var unquoted = map[string]bool{
	"spec/spec.go": true, "spec/chapters.go": true, "schema/trust_test.go": true,
	"internal/house/build.go": true, "internal/house/drift_test.go": true,
}

// addQuotes finds the comments that quote requirements. What stands in
// _test.go files are tests; what stands in the suite is neither: its cases
// name their requirement themselves.
func addQuotes(l *spec.Ledger, root string) (errs []error) {
	err := Walk(root, func(path string, text []byte) error {
		if !strings.HasSuffix(path, ".go") || unquoted[path] {
			return nil
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			m := quote.FindStringSubmatch(line)
			if m == nil {
				for _, id := range mention.FindAllString(line, -1) {
					if l.Get(id) == nil {
						errs = append(errs, fmt.Errorf("%s:%d: %s is not in the specification", path, i+1, id))
					}
				}
				continue
			}
			r := l.Get(m[1])
			if r == nil {
				errs = append(errs, fmt.Errorf("%s:%d: %s is not in the specification", path, i+1, m[1]))
				continue
			}
			q := strings.TrimSpace(m[2])
			if !quotes(r.Text, q) {
				errs = append(errs, fmt.Errorf("%s:%d: this does not quote %s\n\twant (a part of): %s\n\tgot:              %s", path, i+1, r.ID, r.Text, q))
				continue
			}
			for _, next := range lines[i+1:] { // a quote of several lines
				c := continuation.FindStringSubmatch(next)
				if c == nil || strings.TrimSpace(c[1]) == "" || !quotes(r.Text, q+" "+strings.TrimSpace(c[1])) {
					break
				}
				q += " " + strings.TrimSpace(c[1])
			}
			p := spec.Place{File: path, Quote: q}
			switch {
			case strings.HasPrefix(path, "conformance/"):
			case strings.HasSuffix(path, "_test.go"):
				r.Tests = appendPlace(r.Tests, p)
			default:
				r.Code = appendPlace(r.Code, p)
			}
		}
		return nil
	})
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

// quotes reports whether q is a part of text, or several parts in their order
// with "…" between them.
func quotes(text, q string) bool {
	text = strings.Join(strings.Fields(text), " ")
	for _, part := range strings.Split(q, "…") {
		part = strings.TrimSuffix(strings.TrimSpace(part), ".")
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

func appendPlace(places []spec.Place, p spec.Place) []spec.Place {
	if slices.Contains(places, p) {
		return places
	}
	return append(places, p)
}

// Summary is one line on how much of the ledger is shown.
func (r *Result) Summary() string {
	n := map[string]int{}
	for i := range r.Ledger.Requirements {
		q := &r.Ledger.Requirements[i]
		n[q.Level]++
		switch {
		case len(q.Cases) > 0:
			n["case"]++
		case len(q.Vectors) > 0:
			n["vector"]++
		case len(q.Tests) > 0:
			n["test"]++
		case q.Untestable != "":
			n["untestable"]++
		default:
			n["pending"]++
		}
		if len(q.Code) > 0 {
			n["code"]++
		}
	}
	return fmt.Sprintf("%d requirements (%d MUST, %d MUST NOT, %d SHOULD, %d SHOULD NOT, %d MAY): %d shown by a case, %d by a vector only, %d by a test only, %d untestable, %d pending; %d quoted in code",
		len(r.Ledger.Requirements), n["MUST"], n["MUST NOT"], n["SHOULD"], n["SHOULD NOT"], n["MAY"], n["case"], n["vector"], n["test"], n["untestable"], n["pending"], n["code"])
}

// Number gives ids to the sentences in the chapters that are marked [+ …].
func Number(root string) error {
	dir := filepath.Join(root, "spec")
	var taken []string
	if b, err := os.ReadFile(filepath.Join(dir, "notes.yaml")); err == nil {
		n, err := spec.ParseNotes(b)
		if err != nil {
			return err
		}
		taken = n.Retired
	}
	names, err := spec.ChapterFiles(os.DirFS(dir))
	if err != nil {
		return err
	}
	for _, name := range names {
		p := filepath.Join(dir, name)
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if s := spec.AssignIDs(string(b), taken); s != string(b) {
			if err := os.WriteFile(p, []byte(s), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
