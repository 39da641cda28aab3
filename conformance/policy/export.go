package policy

import (
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
	Twin        string         `json:"twin,omitzero"`    // the vector that this differs from in one respect
	Failure     string         `json:"failure,omitzero"` // that must come of it; else there must be a decision
	Request     jsontext.Value `json:"request"`
}

// Export writes every vector to a file of its own in dir, which it makes, for
// those who would rather read files than write a shim. It returns how many.
func Export(dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	for _, v := range vectors() {
		r := v.make()
		r.ID = v.name
		line, err := r.Encode()
		if err != nil {
			return 0, err
		}
		f := file{Case: prefix + v.name, Requirement: v.req, Title: v.title, Failure: v.reason, Request: line}
		if v.twin != "" {
			f.Twin = prefix + v.twin
		}
		b, err := json.Marshal(f, json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(dir, v.name+".json"), append(b, '\n'), 0o644); err != nil {
			return 0, err
		}
	}
	return len(vectors()), nil
}
