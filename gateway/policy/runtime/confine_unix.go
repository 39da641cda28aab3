//go:build linux || darwin

package runtime

import "syscall"

// confine bounds what this process may take. The time of the processor ends a
// child whose parent died and can't kill it any more.
func confine(seconds int, memory uint64) error {
	for what, n := range map[int]uint64{
		syscall.RLIMIT_CPU:  uint64(seconds) * cores,
		syscall.RLIMIT_CORE: 0,
		syscall.RLIMIT_DATA: memory,
		syscall.RLIMIT_AS:   addresses + memory,
	} {
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	return nil
}

// addresses are what the Go runtime reserves, and does not use.
const addresses = 4 << 30

// cores is how many may be at work.
const cores = 8
