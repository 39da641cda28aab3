package aicc

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// Strangers can't make a server open more at once than it has slots for, nor let
// more wait.
func TestSlots(t *testing.T) {
	s := newSlots(1, 1)
	done, err := s.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() {
		_, err := s.take(ctx)
		waits <- err
	}()
	for s.waiting.Load() == 0 {
	}
	var e *wire.Error
	if _, err := s.take(t.Context()); !errors.As(err, &e) || e.Reason != wire.Busy {
		t.Errorf("a second one may wait: %v", err)
	}
	cancel()
	if err := <-waits; err == nil {
		t.Error("a client that did not wait got a slot")
	}
	done()
	if _, err := s.take(t.Context()); err != nil || s.waiting.Load() != 0 {
		t.Errorf("the slot is lost: %v", err)
	}
}

// The window remembers as many requests as it says, in bounded memory.
func TestWindow(t *testing.T) {
	const n = 8
	w := newWindow(n)
	print := func(i int) [sha256.Size]byte {
		return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	}
	for i := range 100 {
		if !w.add(print(i)) || w.add(print(i)) || !w.seen(print(i)) {
			t.Fatalf("request %d", i)
		}
		if i >= n && !w.seen(print(i-n)) {
			t.Fatalf("request %d is forgotten after %d others", i-n, n)
		}
		if got := len(w.cur) + len(w.old); got > 2*n {
			t.Fatalf("%d are kept", got)
		}
	}
}
