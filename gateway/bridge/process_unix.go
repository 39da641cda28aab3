//go:build unix

package bridge

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup makes the command lead a process group, so that what it starts
// (npx starts node) ends with it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }

func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
