// Package aicc runs a client on the published AICC Trusted MCP, unmodified, and
// tells it what to do. Its tests let that package and profile aicc-0.1 of ours
// talk to each other. For servers on it see [interop.AICCServer].
package aicc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/interop"
)

// stepTimeout bounds one step of a client, over what the step itself allows.
const stepTimeout = 90 * time.Second

// A Client is a process with one MCP session.
type Client struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	ended chan struct{}
	log   log
}

// A Step is what a client is to do; see class Driver in fixtures/aicc/peer.py.
type Step struct {
	Do       string         `json:"do"` // initialize, tools, call, read, many, bench
	Tool     string         `json:"tool,omitzero"`
	Args     map[string]any `json:"args,omitzero"`
	URI      string         `json:"uri,omitzero"`
	Fill     int            `json:"fill,omitzero"` // characters of the argument text
	N        int            `json:"n,omitzero"`    // calls at once
	Size     int            `json:"size,omitzero"`
	Parallel int            `json:"parallel,omitzero"`
	MS       int            `json:"ms,omitzero"`
	Timeout  float64        `json:"timeout,omitzero"` // seconds; 30 when not set
}

// An Answer is what came of a step.
type Answer struct {
	Server   string   `json:"server"`
	Version  string   `json:"version"`
	Tools    []string `json:"tools"`
	Text     string   `json:"text"`
	Same     bool     `json:"same"` // the tool gave back the text of Step.Fill
	IsError  bool     `json:"isError"`
	Progress [][]any  `json:"progress"` // done, total, message
	Right    int      `json:"right"`    // of the calls at once

	Exception string `json:"exception"` // that the library raised; "McpError" with Code and Message
	Code      int    `json:"code"`
	Message   string `json:"message"`

	Calls   int     `json:"calls"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"` // seconds

	Closed bool `json:"closed"` // the session was ended in good order
}

// StartClient starts a client on the package with the JSON configuration in a
// file, or on MCP's SDK alone if config is "". It runs in the folder dir, where the
// package keeps logs, until ctx ends or [Client.Close]. The package must be
// installed: any [interop.AICCServer] installs it.
func StartClient(ctx context.Context, cacheDir, config, url, dir string) (*Client, error) {
	argv := append(interop.AICCClient(cacheDir, config), url)
	c := &Client{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), lines: make(chan string), ended: make(chan struct{})}
	c.cmd.Dir = dir
	c.cmd.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*")
	c.cmd.Stderr = &c.log
	c.cmd.WaitDelay = 5 * time.Second
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.ended)
		in := bufio.NewScanner(out)
		in.Buffer(nil, 64<<20)
		for in.Scan() {
			c.lines <- in.Text()
		}
	}()
	return c, nil
}

// ErrEnded says that the client's process ended without an answer: an exception
// that the library does not hand to the caller.
var ErrEnded = errors.New("the client ended")

// Do has the client do a step. What a library raised is in the answer.
func (c *Client) Do(s Step) (*Answer, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if _, err := c.stdin.Write(append(b, '\n')); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", ErrEnded, err, c.Log())
	}
	return c.answer(stepTimeout + time.Duration(s.MS)*time.Millisecond)
}

func (c *Client) answer(wait time.Duration) (*Answer, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case line := <-c.lines:
		a := new(Answer)
		if err := json.Unmarshal([]byte(line), a); err != nil {
			return nil, fmt.Errorf("the client printed %.200q: %w", line, err)
		}
		return a, nil
	case <-c.ended:
		return nil, fmt.Errorf("%w\n%s", ErrEnded, c.Log())
	case <-timer.C:
		return nil, fmt.Errorf("the client does not answer within %v\n%s", wait, c.Log())
	}
}

// Close has the client end its session, and waits for that. It returns an error
// if the session was not ended in good order.
func (c *Client) Close() error {
	c.stdin.Close()
	a, err := c.answer(15 * time.Second)
	if err == nil && !a.Closed {
		err = errors.New("the client had more to say")
	}
	if err != nil {
		c.Kill()
		return err
	}
	<-c.ended
	return c.cmd.Wait()
}

// Kill ends the client.
func (c *Client) Kill() {
	_ = c.cmd.Process.Kill()
	for {
		select {
		case <-c.lines:
			continue
		case <-c.ended:
		}
		break
	}
	_ = c.cmd.Wait()
}

// Log is the end of what the client printed for people.
func (c *Client) Log() string { return c.log.String() }

type log struct {
	mu  sync.Mutex
	buf []byte
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	l.buf = l.buf[max(0, len(l.buf)-32<<10):]
	return len(p), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
