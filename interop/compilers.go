package interop

import (
	"context"
	"fmt"
)

var ascBundle = npmBundle("assemblyscript", "assemblyscript")

// AssemblyScript brings the AssemblyScript compiler into the cache folder, at the
// version that modules of this project are compiled with, and returns the command
// that runs it. A missing toolchain is a *PrerequisiteError.
func AssemblyScript(ctx context.Context, cacheDir string) (command []string, err error) {
	if err := ascBundle.install(ctx, cacheDir); err != nil {
		return nil, fmt.Errorf("install assemblyscript: %w", err)
	}
	in := install{cacheDir, ""}.of(ascBundle)
	return []string{nodePath(in), in.path("node_modules", "assemblyscript", "bin", "asc.js")}, nil
}
