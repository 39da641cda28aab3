package aicc

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"

	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// A slots bounds how many RSA decryptions run, and how many wait for that: they
// are what strangers can make a server do.
type slots struct {
	run     chan struct{}
	waiting atomic.Int64
	most    int64
}

func newSlots(run, waiting int) *slots {
	return &slots{run: make(chan struct{}, run), most: int64(waiting)}
}

// take waits for a slot. done gives it back.
func (s *slots) take(ctx context.Context) (done func(), err error) {
	done = func() { <-s.run }
	select {
	case s.run <- struct{}{}:
		return done, nil
	default:
	}
	if s.waiting.Add(1) > s.most {
		s.waiting.Add(-1)
		return nil, wire.Errorf(wire.Busy, "too many sealed requests wait to be opened; try again")
	}
	defer s.waiting.Add(-1)
	select {
	case s.run <- struct{}{}:
		return done, nil
	case <-ctx.Done():
		return nil, wire.Errorf(wire.Busy, "the client did not wait: %v", ctx.Err())
	}
}

// A window remembers the last requests, at least n and at most 2n of them.
type window struct {
	mu       sync.Mutex
	n        int
	cur, old map[[16]byte]struct{}
}

func newWindow(n int) *window { return &window{n: n, cur: map[[16]byte]struct{}{}} }

// seen reports whether the request is remembered.
func (w *window) seen(print [sha256.Size]byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has([16]byte(print[:16]))
}

func (w *window) has(k [16]byte) bool {
	_, cur := w.cur[k]
	_, old := w.old[k]
	return cur || old
}

// add remembers the request. It returns false when it was remembered already.
func (w *window) add(print [sha256.Size]byte) bool {
	k := [16]byte(print[:16])
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.has(k) {
		return false
	}
	if len(w.cur) >= w.n {
		w.cur, w.old = make(map[[16]byte]struct{}), w.cur
	}
	w.cur[k] = struct{}{}
	return true
}
