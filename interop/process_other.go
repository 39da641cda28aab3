//go:build !unix

package interop

import "os/exec"

func ownGroup(cmd *exec.Cmd) {}

func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }

func askToStop(cmd *exec.Cmd) {}
