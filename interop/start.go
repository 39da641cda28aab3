package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	// StartTimeout bounds the wait until a server accepts connections.
	StartTimeout = 30 * time.Second
	// ClientTimeout bounds one run of a client.
	ClientTimeout = 60 * time.Second
	// stopGrace is how long a process may take to end by itself.
	stopGrace = 3 * time.Second
)

// An invocation is how a target is run.
type invocation struct {
	argv []string
	env  []string // added to the environment
	path string   // of the URL, for a server over HTTP
}

// Running is a server that can be dialled.
type Running struct {
	Target   *Target
	Endpoint Endpoint
	// URL of the MCP endpoint, for a server over HTTP.
	URL string
	// Command starts the server on its standard input and output, for stdio; it
	// is for the client to start, in the environment os.Environ() plus Env.
	Command []string
	Env     []string

	stop func() error
	log  *tail
}

// Stop ends the server and all that it started, and returns when it is gone. It
// is safe to call more than once.
func (r *Running) Stop() error {
	if r.stop == nil {
		return nil
	}
	return r.stop()
}

// Log returns the end of what the server printed, for error messages.
func (r *Running) Log() string {
	if r.log == nil {
		return ""
	}
	return r.log.String()
}

// Start starts the server at one of its endpoints, and returns once it accepts
// connections. It runs until ctx ends or Stop is called. For stdio no process is
// started: the result's Command is what the client must start. The target must
// be installed.
func (t *Target) Start(ctx context.Context, cacheDir string, e Endpoint) (*Running, error) {
	if t.Kind != Server {
		return nil, fmt.Errorf("interop: %s is a client; use RunClient", t.Name)
	}
	in := install{cacheDir, t.bundle.dir(cacheDir)}
	if _, err := os.Stat(in.path(".installed")); err != nil {
		return nil, fmt.Errorf("interop: %s is not installed in %s; call Install first", t.Name, cacheDir)
	}
	if e.Transport == Stdio {
		inv := t.command(in, e, 0)
		return &Running{Target: t, Endpoint: e, Command: inv.argv, Env: inv.env}, nil
	}
	// Between choosing a free port and the server's use of it another process
	// may take it: then the server exits, and another port is tried.
	var err error
	for range 3 {
		var r *Running
		if r, err = t.startHTTP(ctx, in, e); err == nil || ctx.Err() != nil {
			return r, err
		}
		if !errors.Is(err, errExited) {
			break
		}
	}
	return nil, err
}

func (b *bundle) dir(cacheDir string) string { return install{cache: cacheDir}.of(b).dir }

var errExited = errors.New("the server ended before it accepted connections")

func (t *Target) startHTTP(ctx context.Context, in install, e Endpoint) (*Running, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	inv := t.command(in, e, port)
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, inv.argv[0], inv.argv[1:]...)
	cmd.Env = append(os.Environ(), inv.env...)
	cmd.Dir = in.dir
	log := &tail{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = log, log
	ownGroup(cmd)
	cmd.WaitDelay = stopGrace
	stdin, err := cmd.StdinPipe() // its end tells a fixture that nobody is left who wants it
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("interop: start %s: %w", t.Name, err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	stop := sync.OnceValue(func() error {
		defer cancel()
		stdin.Close()
		askToStop(cmd)
		select {
		case <-exited:
		case <-time.After(stopGrace):
		}
		// The group may outlive the process that led it.
		err := killGroup(cmd)
		select {
		case <-exited:
			return err
		case <-time.After(2 * stopGrace):
			return fmt.Errorf("interop: %s (process %d) does not end", t.Name, cmd.Process.Pid)
		}
	})
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	deadline := time.NewTimer(StartTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			return &Running{Target: t, Endpoint: e, URL: "http://" + addr + inv.path, stop: stop, log: log}, nil
		}
		select {
		case <-tick.C:
		case <-exited:
			stop()
			return nil, fmt.Errorf("interop: %s: %w\n%s", t.Name, errExited, log)
		case <-deadline.C:
			stop()
			return nil, fmt.Errorf("interop: %s does not accept connections at %s after %v\n%s", t.Name, addr, StartTimeout, log)
		case <-ctx.Done():
			stop()
			return nil, fmt.Errorf("interop: start %s: %w", t.Name, context.Cause(ctx))
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// ClientOptions say what a client is to do. The zero value is what the SDK does
// when nobody chooses.
type ClientOptions struct {
	Era  Era    // which era to open with; "" leaves it to the SDK. SDKs of one era ignore it.
	Echo string // text for the tool echo; "" means "hello"
	Ask  string // when set, also call the tool ask and answer its question with this
	Env  []string
}

// A ClientResult is what a client printed: one line of JSON.
type ClientResult struct {
	ProtocolVersion string   `json:"protocolVersion"` // the revision that was agreed
	Server          string   `json:"server"`          // name; "" when the server was not asked
	Tools           []string `json:"tools"`
	Echo            string   `json:"echo"`
	Ask             string   `json:"ask"`
}

// ClientCommand returns the command that, with a server's URL appended, or with
// --stdio -- CMD…, runs the client. It reads TMCP_ECHO, TMCP_ASK and TMCP_ERA.
func (t *Target) ClientCommand(cacheDir string) []string {
	return t.command(install{cacheDir, t.bundle.dir(cacheDir)}, Endpoint{}, 0).argv
}

// RunClient runs the client against a server: list the tools, call echo, and ask
// if it is to. The error of a failed run holds what the client printed.
func (t *Target) RunClient(ctx context.Context, cacheDir string, server *Running, opt ClientOptions) (*ClientResult, error) {
	if t.Kind != Client {
		return nil, fmt.Errorf("interop: %s is a server; use Start", t.Name)
	}
	argv := t.ClientCommand(cacheDir)
	if server.URL != "" {
		argv = append(argv, server.URL)
	} else {
		argv = append(append(argv, "--stdio", "--"), server.Command...)
	}
	ctx, cancel := context.WithTimeout(ctx, ClientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), server.Env...), "TMCP_ERA="+string(opt.Era), "TMCP_ASK="+opt.Ask)
	if opt.Echo != "" {
		cmd.Env = append(cmd.Env, "TMCP_ECHO="+opt.Echo)
	}
	cmd.Env = append(cmd.Env, opt.Env...)
	ownGroup(cmd)
	cmd.WaitDelay = stopGrace
	stdout, stderr := &tail{max: 1 << 20}, &tail{max: 16 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	if cmd.Process != nil {
		killGroup(cmd) // what it started over stdio
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w after at most %v", ctx.Err(), ClientTimeout)
		}
		return nil, fmt.Errorf("interop: client %s: %w\n%s%s", t.Name, err, stdout, stderr)
	}
	return parseClientResult(t.Name, []byte(stdout.String()))
}

func parseClientResult(name string, out []byte) (*ClientResult, error) {
	line := bytes.TrimSpace(out)
	if bytes.ContainsRune(line, '\n') || len(line) == 0 {
		return nil, fmt.Errorf("interop: client %s: printed %d lines, want one line of JSON:\n%.2000s",
			name, strings.Count(string(line), "\n")+1, out)
	}
	res := new(ClientResult)
	if err := json.UnmarshalRead(io.LimitReader(bytes.NewReader(line), 1<<20), res); err != nil {
		return nil, fmt.Errorf("interop: client %s: %w in its output:\n%.2000s", name, err, out)
	}
	return res, nil
}
