package runtime

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// A Closer is what [Live] holds.
type Closer interface{ Close(context.Context) error }

// Live holds a policy, or whatever else decides, that can be replaced while it
// is used. Whoever uses it has one and the same from beginning to end; what was
// replaced is closed when the last one who uses it is done. It is safe for
// concurrent use.
type Live[T Closer] struct {
	current atomic.Pointer[held[T]]
	mu      sync.Mutex // of those who replace
	closed  bool
}

type held[T Closer] struct {
	value T
	users atomic.Int64 // the place in Live counts as one; 0: closed
}

// NewLive holds first, which is Live's to close from now on.
func NewLive[T Closer](first T) *Live[T] {
	l := &Live[T]{}
	l.current.Store(hold(first))
	return l
}

func hold[T Closer](v T) *held[T] {
	h := &held[T]{value: v}
	h.users.Store(1)
	return h
}

func (h *held[T]) release(ctx context.Context) error {
	if h.users.Add(-1) == 0 {
		return h.value.Close(ctx)
	}
	return nil
}

// Use has f use what is held now. It reports whether there was something: after
// Close there is not.
func (l *Live[T]) Use(ctx context.Context, f func(T)) bool {
	for {
		h := l.current.Load()
		if h == nil {
			return false
		}
		n := h.users.Load()
		if n == 0 || !h.users.CompareAndSwap(n, n+1) {
			continue // it was replaced at this moment, or somebody else came first
		}
		defer h.release(ctx)
		f(h.value)
		return true
	}
}

// Reload replaces what is held by what load gives. When load fails, what is held
// stays, and Reload returns load's error. One Reload runs at a time.
func (l *Live[T]) Reload(ctx context.Context, load func(context.Context) (T, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	next, err := load(ctx)
	if err != nil {
		return err
	}
	return l.current.Swap(hold(next)).release(ctx)
}

var errClosed = errors.New("what holds the policy was closed")

// Close lets go of what is held.
func (l *Live[T]) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.current.Swap(nil).release(ctx)
}

// LivePolicy is a policy that can be replaced while it answers.
type LivePolicy struct {
	Live[policywasm.Evaluator]
}

// NewLivePolicy holds first, which is its own to close from now on.
func NewLivePolicy(first policywasm.Evaluator) *LivePolicy {
	p := &LivePolicy{}
	p.current.Store(hold(first))
	return p
}

// Evaluate asks the policy of this moment; the result names it. After Close it
// denies.
func (p *LivePolicy) Evaluate(ctx context.Context, c policywasm.Call) (r *policywasm.Result) {
	if !p.Use(ctx, func(e policywasm.Evaluator) { r = e.Evaluate(ctx, c) }) {
		r = &policywasm.Result{Failure: &policywasm.Failure{Reason: policywasm.ReasonEngine, Detail: errClosed.Error()}}
	}
	return r
}

// Digest is that of the policy of this moment.
func (p *LivePolicy) Digest() (d [32]byte) {
	p.Use(context.Background(), func(e policywasm.Evaluator) { d = e.Digest() })
	return d
}

// Metadata is that of the policy of this moment.
func (p *LivePolicy) Metadata() (m policywasm.Metadata) {
	p.Use(context.Background(), func(e policywasm.Evaluator) { m = e.Metadata() })
	return m
}

// Shadow is a policy beside which another one is tried out: Active decides, and
// Next is asked the same and decides nothing. An evaluation takes as long as both.
type Shadow struct {
	Active, Next policywasm.Evaluator
	// Compare is told both results of each question.
	Compare func(c policywasm.Call, active, next *policywasm.Result)
}

// Evaluate gives what Active answers.
func (s *Shadow) Evaluate(ctx context.Context, c policywasm.Call) *policywasm.Result {
	r := s.Active.Evaluate(ctx, c)
	s.Compare(c, r, s.Next.Evaluate(ctx, c))
	return r
}

// Digest is Active's.
func (s *Shadow) Digest() [32]byte { return s.Active.Digest() }

// Metadata is Active's.
func (s *Shadow) Metadata() policywasm.Metadata { return s.Active.Metadata() }

// Close closes both.
func (s *Shadow) Close(ctx context.Context) error {
	return errors.Join(s.Active.Close(ctx), s.Next.Close(ctx))
}

var _, _ policywasm.Evaluator = (*LivePolicy)(nil), (*Shadow)(nil)
