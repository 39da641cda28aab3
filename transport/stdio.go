package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/trustedmcp/tmcp/protocol"
)

// A Pipe is one side of a stdio connection: lines are read from In and written
// to Out. When either is an io.Closer too, it is closed in the end.
type Pipe struct {
	In  io.Reader
	Out io.Writer
}

func closeIt(v any) {
	if c, ok := v.(io.Closer); ok {
		c.Close()
	}
}

// lines reads and writes the lines of a Pipe: one JSON-RPC message each.
type lines struct {
	in  *bufio.Reader
	max int // bytes of a line

	mu  sync.Mutex
	out io.Writer
}

func newLines(p Pipe, max int) *lines {
	return &lines{in: bufio.NewReaderSize(p.In, 64<<10), max: max, out: p.Out}
}

// errLongLine is returned by [lines.next] for a line over the limit. The line
// was skipped, and the next one can be read.
var errLongLine = protocol.Errorf(protocol.TooLarge, "a line over the size limit was skipped")

// next returns the next line that is not empty, without its end. It is valid
// until the next call. A last line without a line end is truncated, and lost.
func (l *lines) next() ([]byte, error) {
	var long []byte
	for {
		part, err := l.in.ReadSlice('\n')
		if len(long)+len(part) > l.max {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = l.in.ReadSlice('\n')
			}
			if err != nil {
				return nil, err
			}
			return nil, errLongLine
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			continue
		}
		if err != nil {
			return nil, err
		}
		if long != nil {
			part = append(long, part...)
		}
		if part = bytes.TrimSpace(part); len(part) > 0 {
			return part, nil
		}
		long = nil
	}
}

// write writes one message as a line. Line breaks in JSON stand between tokens,
// where a space means the same.
func (l *lines) write(msg []byte) error {
	b := make([]byte, 0, len(msg)+1)
	b = append(b, bytes.TrimSpace(msg)...)
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(append(b, '\n'))
	return err
}

// whileOpen runs the two directions of a wrapper until the server's has ended.
// The end of ctx closes all pipes, which ends them. A read of the client's In
// that closing does not interrupt is left behind.
func whileOpen(ctx context.Context, client, server Pipe, up, down func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	shut := func() {
		for _, v := range []any{client.In, client.Out, server.In, server.Out} {
			closeIt(v)
		}
	}
	stop := context.AfterFunc(ctx, shut)
	go func() {
		err := up(ctx)
		closeIt(server.Out) // what is behind sees that nothing more comes
		if err != nil {
			cancel(err)
		}
	}()
	err := down(ctx)
	if stop() {
		shut()
	}
	if isProtocol(context.Cause(ctx)) { // up gave up, which ended down
		return context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func endOfInput(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
