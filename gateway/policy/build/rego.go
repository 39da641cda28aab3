package build

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/trustedmcp/tmcp/policy-wasm/guests"
)

// TestSource runs the tests that a project has in its own language, where that
// language has a usual way: for Rego, opa test on the folders policy and sdk, if
// policy has files that end in _test.rego. Errors are [*ToolError] and
// [*CommandError].
func (p *Project) TestSource(ctx context.Context, say func(format string, args ...any)) error {
	if p.Lang != "rego" {
		return nil
	}
	tests := 0
	err := filepath.WalkDir(filepath.Join(p.Dir, "policy"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.rego") {
			tests++
		}
		return err
	})
	if err != nil || tests == 0 {
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
		say("opa test policy sdk")
		return t.command(ctx, nil, opa, "test", "policy", "sdk")
	}
	return nil
}
