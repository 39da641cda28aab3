package gosdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/transport"
)

// StdioTransport serves a sealed conversation over the process's own standard
// input and output.
func StdioTransport(cfg transport.ServerConfig) mcp.Transport {
	return ServerTransport(os.Stdin, os.Stdout, cfg)
}

// ServerTransport serves a sealed conversation over any pair of byte streams.
func ServerTransport(in io.ReadCloser, out io.WriteCloser, cfg transport.ServerConfig) mcp.Transport {
	return &sealedPipe{run: func(ctx context.Context, sdk transport.Pipe) error {
		return transport.StdioServer(ctx, transport.Pipe{In: in, Out: out}, sdk, cfg)
	}}
}

// ClientTransport has a sealed conversation over any pair of byte streams.
func ClientTransport(in io.ReadCloser, out io.WriteCloser, cfg transport.ClientConfig) mcp.Transport {
	return &sealedPipe{run: func(ctx context.Context, sdk transport.Pipe) error {
		return transport.StdioClient(ctx, sdk, transport.Pipe{In: in, Out: out}, cfg)
	}}
}

// sealedPipe is an IOTransport whose other ends the trust layer holds.
type sealedPipe struct {
	run func(context.Context, transport.Pipe) error
}

func (p *sealedPipe) Connect(ctx context.Context) (mcp.Connection, error) {
	fromSDK, sdkOut := io.Pipe()
	sdkIn, toSDK := io.Pipe()
	// The connection outlives the context that it was made with.
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := p.run(runCtx, transport.Pipe{In: fromSDK, Out: toSDK})
		if err == nil || runCtx.Err() != nil {
			err = io.EOF
		}
		// Both ends learn why, so that nothing waits for an answer that can't come.
		toSDK.CloseWithError(err)
		fromSDK.CloseWithError(err)
	}()
	io := &mcp.IOTransport{Reader: sdkIn, Writer: sdkOut}
	conn, err := io.Connect(ctx)
	if err != nil {
		cancel()
		<-done
		return nil, err
	}
	return &sealedConn{Connection: conn, cancel: cancel, done: done}, nil
}

type sealedConn struct {
	mcp.Connection
	cancel context.CancelFunc
	done   chan struct{}
}

// closeWait is how long the other end may take to end by itself.
const closeWait = 5 * time.Second

func (c *sealedConn) Close() error {
	err := c.Connection.Close()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
	c.cancel()
	<-c.done
	return err
}

// CommandTransport starts cmd, which must serve a sealed conversation over its
// standard input and output, and has it. cfg.Identity is required.
func CommandTransport(cmd *exec.Cmd, cfg transport.ClientConfig) mcp.Transport {
	return &commandTransport{cmd: cmd, cfg: cfg}
}

type commandTransport struct {
	cmd *exec.Cmd
	cfg transport.ClientConfig
}

func (t *commandTransport) Connect(ctx context.Context) (mcp.Connection, error) {
	out, err := t.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("gosdk: %w", err)
	}
	in, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("gosdk: %w", err)
	}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("gosdk: starting the server: %w", err)
	}
	conn, err := ClientTransport(in, out, t.cfg).Connect(ctx)
	if err != nil {
		t.cmd.Process.Kill()
		t.cmd.Wait()
		return nil, err
	}
	return &commandConn{Connection: conn, cmd: t.cmd}, nil
}

type commandConn struct {
	mcp.Connection
	cmd *exec.Cmd
}

func (c *commandConn) Close() error {
	err := c.Connection.Close()
	exited := make(chan error, 1)
	go func() { exited <- c.cmd.Wait() }()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case werr := <-exited:
		return errors.Join(err, werr)
	case <-timer.C:
		c.cmd.Process.Kill()
		<-exited
		return errors.Join(err, errors.New("gosdk: the server did not exit, and was killed"))
	}
}
