//go:build unix

package interop

import (
	"errors"
	"os/exec"
	"syscall"
)

// ownGroup puts cmd into a process group of its own and makes its context end the
// whole group: installers and interpreters start children of their own.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
}

// killGroup ends cmd and all that it started.
func killGroup(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// askToStop asks cmd, and all that it started, to end.
func askToStop(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
