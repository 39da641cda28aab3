package interop

import (
	"context"
	"fmt"
	"runtime"
)

const opaVersion = "v1.22.0"

var opaBundle = goInstalled("opa", "github.com/open-policy-agent/opa", opaVersion)

// OPA builds OPA into the cache folder, which takes minutes the first time, and
// returns its path. A missing toolchain is a *PrerequisiteError.
func OPA(ctx context.Context, cacheDir string) (path string, err error) {
	if err := opaBundle.install(ctx, cacheDir); err != nil {
		return "", fmt.Errorf("install opa: %w", err)
	}
	name := "opa"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return install{cacheDir, ""}.of(opaBundle).path(name), nil
}
