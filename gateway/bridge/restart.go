package bridge

import (
	"fmt"
	"sync"
	"time"
)

// A restarter bounds how often a command that keeps failing is started: after
// each end within steadyAfter of its start the wait doubles.
type restarter struct {
	mu    sync.Mutex
	wait  time.Duration
	until time.Time
	why   error // of the last end
}

const (
	firstWait   = 250 * time.Millisecond
	longestWait = 30 * time.Second
	steadyAfter = 10 * time.Second
)

// allow says whether the command may be started now.
func (r *restarter) allow(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := r.until.Sub(now); left > 0 {
		return fmt.Errorf("%w, soon after its start; it is not started again for another %v", r.why, left.Round(time.Millisecond))
	}
	return nil
}

// ended notes that a process ended by itself, or could not be started, and why.
func (r *restarter) ended(began, now time.Time, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = why
	if now.Sub(began) >= steadyAfter {
		r.wait = 0
		return
	}
	r.wait = min(max(2*r.wait, firstWait), longestWait)
	r.until = now.Add(r.wait)
}
