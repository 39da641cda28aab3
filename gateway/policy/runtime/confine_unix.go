//go:build linux || darwin

package runtime

import (
	"syscall"
	"time"
)

// confine bounds what this process may take. The time of the processor ends a
// child whose parent died and can't kill it any more.
func confine(d time.Duration, memory uint64) error {
	seconds := uint64(d/time.Second) + 1
	for what, n := range map[int]uint64{
		syscall.RLIMIT_CPU:  seconds * cores,
		syscall.RLIMIT_CORE: 0,
		syscall.RLIMIT_AS:   memory,
	} {
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	return nil
}

// cores is how many may be at work.
const cores = 8
