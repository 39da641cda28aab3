// Package shim asks implementations that stand behind a small program of their
// own, a shim: it reads one JSON object from each line of its standard input and
// writes one line to each. Make a [Shim] with [Command] or [InProcess], and call
// [Shim.Ask]. The roles verifier and policy say what the lines hold.
package shim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// ExitNotImplemented is the exit code of a shim that ends because it has not
// the operation it was asked for. It is started again for the next.
const ExitNotImplemented = 89

// MaxLine bounds a line of an answer in bytes.
const MaxLine = 4 << 20

// A Shim is an implementation under test. It implements [wire.Target] so that
// the engine can name it. Close it after the run.
type Shim struct {
	name string
	argv []string
	main func(line []byte) ([]byte, error) // in this process, in place of argv

	mu   sync.Mutex
	proc *process
	ids  int
}

// Command is a shim that is started as a process.
func Command(argv []string) *Shim { return &Shim{name: strings.Join(argv, " "), argv: argv} }

// InProcess is one in this process: answer gets a line and returns one. An error
// is what would be the end of a process.
func InProcess(name string, answer func(line []byte) ([]byte, error)) *Shim {
	return &Shim{name: name, main: answer}
}

// Transport is that of the shim.
func (s *Shim) Transport() wire.Transport { return wire.TransportStdio }

func (s *Shim) String() string { return s.name }

// Open fails: a shim does not speak MCP.
func (s *Shim) Open(context.Context, *wire.Log) (wire.Link, error) {
	return nil, errors.New("a shim is asked, not opened")
}

// Close ends the shim.
func (s *Shim) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

func (s *Shim) end() {
	if s.proc != nil {
		s.proc.close()
		s.proc = nil
	}
}

// A Request is what is asked.
type Request interface {
	// Encode writes the request with an id, as one line without the end of line.
	Encode(id string) ([]byte, error)
	// Log is line as the transcript shall have it.
	Log(line []byte) []byte
}

// A Reply is what came of one request.
type Reply struct {
	NotImplemented bool // it ended with [ExitNotImplemented]
	Seq            int  // log entry of the answer
	Took           time.Duration
	Grew           int64 // bytes by which the process's peak memory exceeded what it held before; -1: not known
}

// Ask sends one request and waits for its answer, no longer than limit; parse
// reads it. An error is a fault of the shim: it crashed, was silent, or wrote
// what is no answer.
func (s *Shim) Ask(ctx context.Context, log *wire.Log, req Request, limit time.Duration, parse func(line []byte, id string) error) (*Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids++
	id := strconv.Itoa(s.ids)
	line, err := req.Encode(id)
	if err != nil {
		return nil, err
	}
	log.Add(wire.Sent, "request", req.Log(line))
	if s.main != nil {
		began := time.Now()
		out, err := s.main(line)
		if err != nil {
			return nil, err
		}
		r := &Reply{Took: time.Since(began), Grew: -1, Seq: log.Add(wire.Received, "answer", out)}
		return r, parse(out, id)
	}
	if s.proc == nil || s.proc.ended() {
		s.end()
		if s.proc, err = start(s.argv); err != nil {
			return nil, &conformance.PrerequisiteError{Reason: err.Error()}
		}
	}
	p := s.proc
	memory := p.memory()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := p.exchange(ctx, line)
	r := &Reply{Took: time.Since(began), Grew: memory()}
	if err != nil {
		code, tail := p.close(), p.tail()
		s.proc = nil
		if code == ExitNotImplemented {
			r.Seq = log.Add(wire.Received, "exit", []byte("exit code 89: not implemented"))
			r.NotImplemented = true
			return r, nil
		}
		if errors.Is(err, errEnded) {
			err = fmt.Errorf("%w (exit code %d)", err, code)
		}
		r.Seq = log.Add(wire.Received, "stderr", []byte(tail))
		if tail != "" {
			err = fmt.Errorf("%w (standard error: %q)", err, tail)
		}
		return nil, err
	}
	r.Seq = log.Add(wire.Received, "answer", out)
	if err := parse(out, id); err != nil {
		p.close() // what else is under way can't be told apart
		s.proc = nil
		return nil, fmt.Errorf("what it wrote is no answer: %w", err)
	}
	return r, nil
}

// process is a running shim.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan []byte // closed when stdout ends
	done  chan struct{}
	once  sync.Once

	mu     sync.Mutex
	stderr []byte
}

func start(argv []string) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin, lines: make(chan []byte, 1), done: make(chan struct{})}
	cmd.Stderr = p
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		in := bufio.NewScanner(stdout)
		in.Buffer(make([]byte, 0, 64<<10), MaxLine)
		for in.Scan() {
			select {
			case p.lines <- bytes.Clone(in.Bytes()):
			default: // more lines than were asked for: the next exchange finds them
			}
		}
		close(p.lines)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	}()
	return p, nil
}

// Write keeps the end of what the shim says on stderr.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stderr = append(p.stderr, b...)
	if n := len(p.stderr); n > 600 {
		p.stderr = bytes.Clone(p.stderr[n-600:])
	}
	return len(b), nil
}

func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.TrimSpace(string(p.stderr))
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

var errEnded = errors.New("it ended without an answer, or wrote a line of more than 4 MiB")

func (p *process) exchange(ctx context.Context, line []byte) ([]byte, error) {
	go func() { _, _ = p.stdin.Write(append(line, '\n')) }() // a shim that does not read it answers nothing; close ends this
	select {
	case out, ok := <-p.lines:
		if !ok {
			return nil, errEnded
		}
		return out, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, errors.New("no answer in time")
		}
		return nil, ctx.Err()
	}
}

// close ends the process and returns its exit code, -1 when it was killed.
func (p *process) close() int {
	p.once.Do(func() {
		_ = p.stdin.Close()
		select {
		case <-p.done:
		case <-time.After(time.Second):
		}
		killGroup(p.cmd) // it, or what it left running
		<-p.done
	})
	return p.cmd.ProcessState.ExitCode()
}
