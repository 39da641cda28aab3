package wire

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"time"
)

// RunGroup runs argv in a process group of its own until it ends or ctx does;
// then the whole group is killed. It returns the exit code, and an error when
// the command could not be started or was killed.
func RunGroup(ctx context.Context, argv, env []string, stdout, stderr io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, stdout, stderr
	ownGroup(cmd)
	cmd.Cancel = func() error { killGroup(cmd); return nil }
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	err := cmd.Wait()
	killGroup(cmd) // what it left behind
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err
	}
	return cmd.ProcessState.ExitCode(), ctx.Err()
}
