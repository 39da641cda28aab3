package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Command returns a server started by argv, spoken to over its standard
// streams, as a target. env is the whole environment; nil means inherited.
func Command(argv, env []string, observe Observer) Target {
	return &stdioTarget{name: strings.Join(argv, " "), observe: observe, start: func() (*proc, error) {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = env
		ownGroup(cmd)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &proc{stdin: stdin, stdout: stdout, stderr: stderr, wait: cmd.Wait, kill: func() { killGroup(cmd) }}, nil
	}}
}

// Pipe returns an in-process server, which serve runs on a pair of pipes until
// its input ends, as a stdio target.
func Pipe(name string, serve func(in io.Reader, out io.Writer), observe Observer) Target {
	return &stdioTarget{name: name, observe: observe, start: func() (*proc, error) {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		done, killed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			defer outW.Close()
			defer inR.Close()
			serve(inR, outW)
		}()
		return &proc{
			stdin: inW, stdout: outR, stderr: strings.NewReader(""),
			wait: func() error {
				select {
				case <-done:
				case <-killed: // a goroutine can't be killed; it is left to its owner
				}
				return nil
			},
			kill: sync.OnceFunc(func() { inR.Close(); outR.Close(); close(killed) }),
		}, nil
	}}
}

type proc struct {
	stdin          io.WriteCloser
	stdout, stderr io.Reader
	wait           func() error
	kill           func()
}

type stdioTarget struct {
	name    string
	start   func() (*proc, error)
	observe Observer
}

func (t *stdioTarget) Transport() Transport { return TransportStdio }
func (t *stdioTarget) String() string       { return t.name }

func (t *stdioTarget) Open(ctx context.Context, log *Log) (Link, error) {
	p, err := t.start()
	if err != nil {
		return nil, &UnreachableError{t.name, err}
	}
	l := &stdioLink{proc: p, observe: t.observe, log: log, subs: map[*sub]bool{}, ended: make(chan struct{})}
	var readers sync.WaitGroup
	readers.Go(l.readOut)
	readers.Go(l.readErr)
	go func() {
		readers.Wait() // Wait closes the pipes, so the readers go first
		err := p.wait()
		l.fail(exitError(err))
		close(l.ended)
	}()
	return l, nil
}

func exitError(err error) error {
	if err != nil {
		return fmt.Errorf("%w: the process ended: %v", ErrClosed, err)
	}
	return fmt.Errorf("%w: the process ended", ErrClosed)
}

// sub is one Send that waits.
type sub struct {
	out  Outgoing
	rep  *Reply
	done chan struct{}
}

type stdioLink struct {
	proc    *proc
	observe Observer
	ended   chan struct{} // closed when the process is gone

	writeMu sync.Mutex

	mu         sync.Mutex
	log        *Log
	subs       map[*sub]bool
	stray      []*Message
	err        error // why the link is dead
	unasked    int
	unaskedLen int
	tail       []byte // last bytes of stderr, for error messages
}

func (l *stdioLink) SetLog(log *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = log
}

func (l *stdioLink) Alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil
}

func (l *stdioLink) Stray() []*Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stray
	l.stray = nil
	return s
}

// fail marks the link dead; the first reason stays.
func (l *stdioLink) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		if t := bytes.TrimSpace(l.tail); len(t) > 0 && errors.Is(err, ErrClosed) {
			err = fmt.Errorf("%w (its last words on stderr: %q)", err, lastLine(t))
		}
		l.err = err
		l.log.Add(Received, "exit", []byte(err.Error()))
	}
	for s := range l.subs {
		close(s.done)
		delete(l.subs, s)
	}
}

func lastLine(b []byte) []byte {
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	return b[max(0, len(b)-300):]
}

func (l *stdioLink) readErr() {
	buf := make([]byte, 4096)
	for {
		n, err := l.proc.stderr.Read(buf)
		if n > 0 {
			l.mu.Lock()
			l.log.Add(Received, "stderr", buf[:n])
			l.tail = append(l.tail, buf[:n]...)
			l.tail = l.tail[max(0, len(l.tail)-2048):]
			l.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (l *stdioLink) readOut() {
	r := bufio.NewReaderSize(l.proc.stdout, 64<<10)
	for {
		line, err := readLine(r, MaxBytes)
		if text := bytes.TrimRight(line, "\r\n"); len(text) > 0 {
			if ferr := l.takeLine(text); ferr != nil {
				err = ferr
			}
		}
		if err != nil {
			if errors.Is(err, ErrFlood) {
				l.fail(err)
				l.proc.kill()
			}
			_, _ = io.Copy(io.Discard, r) // let the process write its last; kill ends it
			return
		}
	}
}

func (l *stdioLink) takeLine(text []byte) error {
	m, perr := ParseMessage(text)
	if l.observe != nil {
		l.observe(text, m, perr)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := "message"
	if perr != nil {
		kind = "stdout"
	}
	seq := l.log.Add(Received, kind, text)
	answered := false
	if m != nil {
		m.Seq = seq
		for s := range l.subs {
			if m.IsResponse() && !m.Answers(s.out.ID) {
				continue
			}
			s.rep.Messages = append(s.rep.Messages, m)
			if m.IsResponse() {
				s.rep.Answer, s.rep.SeenSeq = m, seq
				answered = true
			}
			if m.IsResponse() || (s.out.Until != nil && s.out.Until(m)) {
				if !m.IsResponse() {
					s.rep.SeenSeq = seq
				}
				close(s.done)
				delete(l.subs, s)
			}
		}
		if m.IsRequest() {
			go l.write(append(autoAnswer(m), '\n'))
		}
		if m.IsResponse() && !answered && len(l.stray) < 64 {
			l.stray = append(l.stray, m)
		}
	}
	if answered {
		return nil
	}
	l.unasked++
	l.unaskedLen += len(text)
	if l.unasked > MaxUnsolicited || l.unaskedLen > MaxBytes {
		return fmt.Errorf("%w: %d lines, %d bytes that nobody asked for", ErrFlood, l.unasked, l.unaskedLen)
	}
	return nil
}

func (l *stdioLink) write(line []byte) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	_, err := l.proc.stdin.Write(line)
	return err
}

func (l *stdioLink) Send(ctx context.Context, out Outgoing) (*Reply, error) {
	began := time.Now()
	s := &sub{out: out, rep: &Reply{}, done: make(chan struct{})}
	l.mu.Lock()
	if l.err != nil {
		err := l.err
		l.mu.Unlock()
		return s.rep, err
	}
	l.unasked, l.unaskedLen = 0, 0
	s.rep.SentSeq = l.log.Add(Sent, "message", out.Body)
	if out.ID != "" || out.Until != nil {
		l.subs[s] = true
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.subs, s)
		l.mu.Unlock()
	}()

	written := make(chan error, 1)
	go func() { written <- l.write(append(append([]byte(nil), out.Body...), '\n')) }()
	select {
	case err := <-written:
		if err != nil && l.Alive() {
			select { // the exit status says more than the broken pipe
			case <-l.ended:
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
				l.fail(fmt.Errorf("%w: %v", ErrClosed, err))
			}
		}
	case <-l.ended:
	case <-ctx.Done():
		return s.rep, stepError(ctx, began, nil)
	}
	if out.ID == "" && out.Until == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return s.rep, l.err
	}
	select {
	case <-s.done:
	case <-l.ended:
	case <-ctx.Done():
		return s.rep, stepError(ctx, began, nil)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.rep.SeenSeq == 0 {
		return s.rep, l.err
	}
	return s.rep, nil
}

func (l *stdioLink) CloseInput(ctx context.Context) error {
	began := time.Now()
	_ = l.proc.stdin.Close()
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return stepError(ctx, began, nil)
	}
}

func (l *stdioLink) Close() {
	_ = l.proc.stdin.Close()
	select {
	case <-l.ended:
	case <-time.After(300 * time.Millisecond):
	}
	l.proc.kill() // also what the server left behind in its group
	select {
	case <-l.ended:
	case <-time.After(2 * time.Second): // something outside the group still holds the pipes
		for _, r := range []io.Reader{l.proc.stdout, l.proc.stderr} {
			if c, ok := r.(io.Closer); ok {
				_ = c.Close()
			}
		}
		<-l.ended
	}
}
