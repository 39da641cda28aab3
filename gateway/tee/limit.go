package tee

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// Defaults of [Options]. A host makes some 25 quotes in a second, one after the
// other, for all of its guests.
const (
	defaultPerSecond = 10
	defaultWaiting   = 32
)

// A limit bounds how often, and by how many, an attester is asked.
type limit struct {
	a     protocol.Attester
	every time.Duration
	slots chan struct{} // one for each caller that waits or is served

	mu   sync.Mutex
	next time.Time // when the next one may be served

	now  func() time.Time
	wait func(ctx context.Context, d time.Duration) error
}

func newLimit(a protocol.Attester, perSecond, waiting int) *limit {
	if perSecond <= 0 {
		perSecond = defaultPerSecond
	}
	if waiting <= 0 {
		waiting = defaultWaiting
	}
	return &limit{a: a, every: time.Second / time.Duration(perSecond), slots: make(chan struct{}, waiting), now: time.Now, wait: wait}
}

// Attest waits for its turn, as long as ctx lasts. It fails at once when too many
// wait already.
func (l *limit) Attest(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	default:
		return nil, fmt.Errorf("%d callers wait for evidence of the TEE already; try again later", cap(l.slots))
	}
	l.mu.Lock()
	now := l.now()
	at := l.next
	if at.Before(now) {
		at = now
	}
	l.next = at.Add(l.every)
	l.mu.Unlock()
	if d := at.Sub(now); d > 0 {
		if err := l.wait(ctx, d); err != nil {
			return nil, fmt.Errorf("waiting for the TEE: %w", err)
		}
	}
	return l.a.Attest(ctx, reportData)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
