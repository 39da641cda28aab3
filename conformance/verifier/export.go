package verifier

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A file is one vector as [Export] writes it.
type file struct {
	Case        string         `json:"case"`
	Requirement string         `json:"requirement"`
	Title       string         `json:"title"`
	Twin        string         `json:"twin,omitzero"` // the accepted vector that this differs from in one respect
	Want        string         `json:"want"`          // accept or reject
	Reason      string         `json:"reason,omitzero"`
	Request     jsontext.Value `json:"request"`
}

// Export writes every vector to a file of its own in dir, which it makes, for
// those who would rather read files than write a shim. It returns how many.
// What the cases look at in the claims of an accepted one is in their titles
// and in README.md, not in the files.
func Export(dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	ids := map[string]string{}
	for _, v := range vectors() {
		ids[v.name] = v.id()
	}
	for _, v := range vectors() {
		r := v.make()
		r.ID = v.name
		line, err := r.Encode()
		if err != nil {
			return 0, err
		}
		f := file{Case: v.id(), Requirement: v.req, Title: v.title, Twin: ids[v.twin], Want: Accept, Reason: v.reason, Request: line}
		if v.twin != "" {
			f.Want = Reject
		}
		b, err := json.Marshal(f, json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s.json", v.name)), append(b, '\n'), 0o644); err != nil {
			return 0, err
		}
	}
	return len(vectors()), nil
}
