package shim

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// memory returns a function that tells by how many bytes the peak of the
// process's resident memory has exceeded, since now, what it holds now; -1 where
// that can't be seen. Only Linux shows it.
func (p *process) memory() func() int64 {
	dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	// 5 sets the peak back to what is held (proc_pid_clear_refs(5)).
	if os.WriteFile(dir+"clear_refs", []byte("5"), 0) != nil {
		return func() int64 { return -1 }
	}
	held := statusField(dir, "VmRSS:")
	return func() int64 {
		peak := statusField(dir, "VmHWM:")
		if held < 0 || peak < 0 {
			return -1
		}
		return peak - held
	}
}

// statusField reads a size from a process's status, in bytes.
func statusField(dir, name string) int64 {
	b, err := os.ReadFile(dir + "status")
	if err != nil {
		return -1
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == name {
			if n, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				return n << 10
			}
		}
	}
	return -1
}
