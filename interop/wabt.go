package interop

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

var wabtBundle = npmBundle("wabt", "wabt")

// Wabt has WABT, which is not the engine's validator, look at WebAssembly modules
// in files: of each it gives "ok", or why the module is not valid. It installs
// WABT into the cache folder first. A missing toolchain is a *PrerequisiteError.
func Wabt(ctx context.Context, cacheDir string, files []string) (verdicts []string, err error) {
	if err := wabtBundle.install(ctx, cacheDir); err != nil {
		return nil, fmt.Errorf("install wabt: %w", err)
	}
	in := install{cacheDir, ""}.of(wabtBundle)
	cmd := exec.CommandContext(ctx, nodePath(in), "validate.cjs")
	cmd.Dir = in.dir
	cmd.Stdin = strings.NewReader(strings.Join(files, "\n"))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("wabt: %w\n%.500s", err, said.Bytes())
	}
	verdicts = strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(verdicts) != len(files) {
		return nil, fmt.Errorf("wabt: %d verdicts on %d files", len(verdicts), len(files))
	}
	return verdicts, nil
}
