package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Arm64 runs tests of the Go package in a folder as an arm64 machine would, and
// returns what they print. On other machines it needs QEMU's user mode emulation;
// where that is missing the error is a *PrerequisiteError.
func Arm64(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "tmcp-arm64-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, "arm64.test")
	command := []string{binary}
	if runtime.GOARCH != "arm64" {
		qemu, err := qemuArm64()
		if err != nil {
			return nil, err
		}
		command = []string{qemu, binary}
	}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build for arm64: %w\n%.2000s", err, out)
	}
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("tests on arm64: %w\n%.1000s\n%.1000s", err, out, said.Bytes())
	}
	return out, nil
}

func qemuArm64() (string, error) {
	for _, name := range []string{"qemu-aarch64", "qemu-aarch64-static"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", &PrerequisiteError{Target: "arm64", Tool: "qemu-aarch64", Reason: "is not in PATH", Hint: "install QEMU's user mode emulation (apt-get install qemu-user-static)"}
}
