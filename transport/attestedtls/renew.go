package attestedtls

import (
	"context"
	"errors"
	"sync"
	"time"
)

// retryPause is how long a TEE that failed is left alone.
const retryPause = 5 * time.Second

var errClosed = errors.New("attested TLS: closed")

// A renewer keeps a value that costs a quote. It makes a new one when the
// current one is older than interval, one at a time, and gives out the old one
// meanwhile for as long as that is valid.
type renewer[T any] struct {
	make     func(ctx context.Context, now time.Time) (v T, until time.Time, err error)
	interval time.Duration
	now      func() time.Time

	mu     sync.Mutex
	cur    T
	made   time.Time // zero: there is no current value
	until  time.Time
	err    error // of the last attempt
	retry  time.Time
	flight chan struct{} // closed when the attempt under way is over; nil: none is
	cancel context.CancelFunc
	closed bool
}

// get returns the current value, or waits for one.
func (r *renewer[T]) get(ctx context.Context) (T, error) {
	for {
		v, wait, err := r.try()
		if wait == nil {
			return v, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// try returns a value, an error, or what to wait for.
func (r *renewer[T]) try() (v T, wait <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return v, nil, errClosed
	}
	now := clock(r.now)
	// TMCP-21.3-3: A holder SHOULD make a new certificate, with a new key, once an hour, and show the
	// old one meanwhile only as long as it is valid.
	young := !r.made.IsZero() && !now.Before(r.made) && now.Sub(r.made) < r.interval
	if !young && r.flight == nil && !now.Before(r.retry) {
		r.start(now)
	}
	switch {
	case !r.made.IsZero() && now.Before(r.until):
		return r.cur, nil, nil
	case r.flight != nil:
		return v, r.flight, nil
	}
	return v, nil, r.err
}

// start makes a value in the background.
func (r *renewer[T]) start(now time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.flight, r.cancel = done, cancel
	go func() {
		defer cancel()
		v, until, err := r.make(ctx, now)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err = err; err == nil {
			r.cur, r.made, r.until, r.retry = v, now, until, time.Time{}
		} else {
			r.retry = clock(r.now).Add(retryPause)
		}
		r.flight = nil
		close(done)
	}()
}

// close ends an attempt under way and waits for that.
func (r *renewer[T]) close() {
	r.mu.Lock()
	r.closed = true
	flight, cancel := r.flight, r.cancel
	r.mu.Unlock()
	if flight != nil {
		cancel()
		<-flight
	}
}
