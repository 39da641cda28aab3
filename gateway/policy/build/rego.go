package build

import (
	"context"
	"path/filepath"

	"github.com/trustedmcp/tmcp/policy-wasm/guests"
)

// TestSource runs the tests that a project has in its own language, where that
// language has a usual way: for Rego, opa test on the project's *.rego files, if
// some of them end in _test.rego. Errors are [*ToolError] and [*CommandError].
func (p *Project) TestSource(ctx context.Context, say func(format string, args ...any)) error {
	if p.Lang != "rego" {
		return nil
	}
	tests, err := filepath.Glob(filepath.Join(p.Dir, "*_test.rego"))
	if err != nil || len(tests) == 0 {
		return err
	}
	all, err := filepath.Glob(filepath.Join(p.Dir, "*.rego"))
	if err != nil {
		return err
	}
	recipe, err := guests.Recipe(p.Lang)
	if err != nil {
		return err
	}
	t := &toolchain{dir: p.Dir, say: say}
	for _, tool := range recipe.Tools {
		if tool.Name != "opa" {
			continue
		}
		opa, err := t.find(ctx, tool)
		if err != nil {
			return err
		}
		args := []string{opa, "test"}
		for _, path := range all {
			args = append(args, filepath.Base(path))
		}
		say("opa test: %d files", len(all))
		return t.command(ctx, nil, args...)
	}
	return nil
}
