package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// shutdownGrace is how long calls under way may take to end at a shutdown.
const shutdownGrace = 5 * time.Second

// listen listens on host:port, and says what to do when that is taken.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--listen %s: the address is in use; choose another port, or 0 for any that is free", address)
	}
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", address, err)
	}
	return l, nil
}

// serveHTTP serves until ctx ends. tick, if not nil, is called now and then.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, ready func(), tick func(time.Time)) error {
	var unused unusedConns
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ConnContext: attestedtls.ConnContext,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn), ConnState: unused.note,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	ready()
	every := time.NewTicker(time.Minute)
	defer every.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case now := <-every.C:
			if tick != nil {
				tick(now)
			}
		case <-ctx.Done():
			unused.close()
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
			defer cancel()
			if err := srv.Shutdown(grace); err != nil {
				_ = srv.Close() // streams that never end by themselves
			}
			<-failed
			return nil
		}
	}
}

// until gives standing streams (GET) a context that ends with ctx too: they
// never end by themselves, and a shutdown should not wait for them.
func until(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			both, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			r = r.WithContext(both)
		}
		next.ServeHTTP(w, r)
	})
}

// unusedConns are connections that brought no request yet, such as a client's
// second dial that came late. A shutdown of net/http waits 5 s for those.
type unusedConns struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func (u *unusedConns) note(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, c)
	case u.closed:
		_ = c.Close()
	default:
		if u.conns == nil {
			u.conns = map[net.Conn]bool{}
		}
		u.conns[c] = true
	}
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close()
	}
}
