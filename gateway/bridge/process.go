package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// A process is one running stdio MCP server. Its methods may be called from
// any goroutine.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	in    chan []byte   // lines for its stdin
	stop  chan struct{} // closed by close: no more input
	once  sync.Once
	gone  chan struct{} // closed when it can't answer any more
	done  chan struct{} // closed when the process and its output have ended; after gone
	err   error         // why it is gone; set before gone is closed
	grace time.Duration
}

// startProcess runs argv and calls onLine for each line of its stdout, from
// one goroutine, with err set for a line over the limit. The line end is
// removed; the slice belongs to the callee.
func startProcess(o *StdioOptions, onLine func(line []byte, err error)) (*process, error) {
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	cmd.Dir = o.Dir
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stderr = o.Stderr
	// A grandchild that keeps stderr open must not keep us.
	cmd.WaitDelay = o.Grace
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Not cmd.StdoutPipe: Wait would close it before the last lines are read.
	pr, pw, err := os.Pipe()
	if err != nil {
		_ = stdin.Close()
		return nil, err
	}
	cmd.Stdout = pw
	err = cmd.Start()
	_ = pw.Close()
	if err != nil {
		_ = stdin.Close()
		_ = pr.Close()
		return nil, fmt.Errorf("start the MCP server command %q: %w", o.Command[0], err)
	}
	p := &process{
		cmd: cmd, stdin: stdin, in: make(chan []byte, 16),
		stop: make(chan struct{}), gone: make(chan struct{}), done: make(chan struct{}), grace: o.Grace,
	}
	exited := make(chan struct{})
	read := make(chan struct{})
	go p.write(exited)
	go func() {
		defer close(read)
		lr := newLines(pr, o.Limits.Bytes())
		for {
			line, err := lr.next()
			var over *oversizeError
			if err != nil && !errors.As(err, &over) {
				return
			}
			onLine(line, err)
		}
	}()
	var waitErr error
	go func() {
		waitErr = cmd.Wait()
		close(exited)
	}()
	go func() {
		leave := func(why error) {
			p.err = fmt.Errorf("the MCP server command %q ended: %w", cmd.Path, why)
			close(p.gone)
		}
		closedOut := false
		select {
		case <-exited:
		case <-read: // its output ended; usually because it is exiting
			p.shut()
			if closedOut = !within(exited, exitMoment); closedOut {
				leave(errors.New("it closed its stdout"))
			}
		case <-p.stop:
		}
		p.reap(exited, read)
		_ = pr.Close()
		<-read
		if !closedOut {
			if waitErr == nil {
				waitErr = errors.New("exit status 0")
			}
			leave(waitErr)
		}
		close(p.done)
	}()
	return p, nil
}

// reap waits for the process to end, with rising force: its stdin is closed
// already or it has exited; then SIGTERM, then SIGKILL, to its whole group.
func (p *process) reap(exited, read <-chan struct{}) {
	if !within(exited, p.grace) {
		terminate(p.cmd.Process)
		if !within(exited, p.grace) {
			kill(p.cmd.Process)
		}
		<-exited
	}
	kill(p.cmd.Process) // what it left behind in its group
	within(read, p.grace)
}

// exitMoment is how long an exit may follow the end of the output and still be
// reported as what it is.
const exitMoment = 100 * time.Millisecond

func within(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

func (p *process) write(exited <-chan struct{}) {
	defer p.stdin.Close()
	for {
		select {
		case line := <-p.in:
			if _, err := p.stdin.Write(append(line, '\n')); err != nil {
				return // it stopped reading; its exit tells the rest
			}
		case <-p.stop:
			return
		case <-exited:
			return
		}
	}
}

// send queues one line for stdin. It waits while the process doesn't read.
func (p *process) send(ctx context.Context, line []byte) error {
	select {
	case <-p.gone:
		return p.err
	case <-p.stop:
		return errors.New("the MCP server command is shutting down")
	default:
	}
	select {
	case p.in <- line:
		return nil
	case <-p.gone:
		return p.err
	case <-p.stop:
		return errors.New("the MCP server command is shutting down")
	case <-ctx.Done():
		return fmt.Errorf("the MCP server command %q does not read its stdin: %w", p.cmd.Path, ctx.Err())
	}
}

// try is send for callers that must not wait. It reports false when the queue
// is full or the process gone.
func (p *process) try(line []byte) bool {
	select {
	case p.in <- line:
		return true
	default:
		return false
	}
}

// shut begins the end: stdin is closed, which asks a stdio server to exit.
func (p *process) shut() { p.once.Do(func() { close(p.stop) }) }

// close ends the process and waits for it, at most about three graces.
func (p *process) close() {
	p.shut()
	<-p.done
}
