//go:build unix

package build

import (
	"os/exec"
	"syscall"
)

// ownGroup has the end of the context end all that cmd started, too.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
