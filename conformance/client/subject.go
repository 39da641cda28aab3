package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// Main is a client that runs in this process: url is the server's, env the
// variables of the package comment. It returns the exit code.
type Main func(ctx context.Context, url string, env map[string]string, stdout, stderr io.Writer) int

// A Subject is the client under test. It implements [wire.Target] so that the
// engine can name it; nobody can open it, since it is the one that dials.
type Subject struct {
	name string
	argv []string
	main Main

	// Hang is how long a scene that hangs does so; default a tenth of the step
	// timeout, at most one second.
	Hang time.Duration

	trust    [2]string // by era: why profile identity can't be tried; empty if it can
	attested [2]string // why profiles attested and mutual can't
	plain    [2]string // by era: why profile core can't be tried
}

// Command is a client that is started as a process.
func Command(argv []string) *Subject { return &Subject{name: strings.Join(argv, " "), argv: argv} }

// InProcess is a client in this process.
func InProcess(name string, main Main) *Subject { return &Subject{name: name, main: main} }

// Transport is that of the servers that the suite hosts.
func (s *Subject) Transport() wire.Transport { return wire.TransportHTTP }

func (s *Subject) String() string { return s.name }

// Open fails: a client is not dialled.
func (s *Subject) Open(context.Context, *wire.Log) (wire.Link, error) {
	return nil, errors.New("a client under test can't be connected to; it is started for each case")
}

func eraIndex(e conformance.Era) int {
	if e == conformance.Legacy {
		return 1
	}
	return 0
}

const maxOutput = 1 << 20 // bytes of stdout and of stderr that are kept

// ended is how a client ended.
type ended struct {
	code           int
	stdout, stderr string
	timedOut       bool
	err            error // it could not be started
	took           time.Duration
}

func (e *ended) ok() bool { return e.err == nil && !e.timedOut && e.code == 0 }

func (e *ended) String() string {
	switch {
	case e.err != nil:
		return fmt.Sprintf("it could not be started: %v", e.err)
	case e.timedOut:
		return fmt.Sprintf("it did not end within %s", e.took.Round(10*time.Millisecond))
	}
	why := strings.TrimSpace(e.stderr)
	if len(why) > 300 {
		why = "…" + why[len(why)-300:]
	}
	return fmt.Sprintf("it exited with %d (standard error: %q)", e.code, why)
}

// limited is a buffer that drops what comes after its bound.
type limited struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := maxOutput - l.buf.Len(); room > 0 {
		l.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs the client against url until it ends, at most for limit.
func (s *Subject) start(ctx context.Context, url string, env map[string]string, limit time.Duration) *ended {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out, errs limited
	e := &ended{}
	if s.main != nil {
		done := make(chan int, 1)
		go func() { done <- s.main(ctx, url, env, &out, &errs) }()
		select {
		case e.code = <-done:
		case <-ctx.Done():
			e.timedOut = true
		}
	} else {
		e.code, e.err = s.process(ctx, url, env, &out, &errs)
		e.timedOut = e.err == nil && ctx.Err() != nil
	}
	e.stdout, e.stderr, e.took = out.String(), errs.String(), time.Since(began)
	return e
}

func (s *Subject) process(ctx context.Context, url string, env map[string]string, out, errs io.Writer) (int, error) {
	cmd := exec.CommandContext(ctx, s.argv[0], append(append([]string{}, s.argv[1:]...), url)...)
	ownGroup(cmd)
	cmd.Cancel = func() error { killGroup(cmd); return nil }
	cmd.WaitDelay = 2 * time.Second // a grandchild may hold the pipes
	cmd.Stdout, cmd.Stderr = out, errs
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "TMCP_") && name != "MCP_CONFORMANCE_SCENARIO" {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	err := cmd.Run()
	if cmd.Process != nil {
		killGroup(cmd) // what it left running
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &exit), ctx.Err() != nil && cmd.Process != nil:
		return cmd.ProcessState.ExitCode(), nil
	}
	return 0, err
}
