package house

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/spec"
)

// addVectors names at each requirement the test vectors that show it. It reads
// the files in the tree, not those embedded in a program built earlier.
func addVectors(l *spec.Ledger, root string) (errs []error) {
	dir := filepath.Join(root, "spec", "vectors")
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil {
		return []error{err}
	}
	for _, path := range paths {
		if filepath.Base(filepath.Dir(path)) == "setup" { // keys that vectors share
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var v struct {
			ID           string   `json:"id"`
			Requirements []string `json:"requirements"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		if want := filepath.Base(filepath.Dir(path)) + "/" + trimExt(filepath.Base(path)); v.ID != want {
			errs = append(errs, fmt.Errorf("vector %s: its file says that it is %s", v.ID, want))
		}
		if len(v.Requirements) == 0 {
			errs = append(errs, fmt.Errorf("vector %s names no requirement", v.ID))
		}
		for _, id := range v.Requirements {
			r := l.Get(id)
			if r == nil {
				errs = append(errs, fmt.Errorf("vector %s: %s is not in the specification", v.ID, id))
				continue
			}
			r.Vectors = append(r.Vectors, v.ID)
		}
	}
	for i := range l.Requirements {
		slices.Sort(l.Requirements[i].Vectors)
	}
	return errs
}

func trimExt(name string) string { return name[:len(name)-len(filepath.Ext(name))] }
