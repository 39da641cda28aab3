// Package wire drives an MCP server with raw bytes and writes down everything
// that passes. Open a [Target] ([HTTP], [Command] or [Pipe]) to get a [Link],
// then call [Link.Send] for each exchange.
//
// Nothing here knows what a right answer is: it sends what it is told, waits no
// longer than it is told, holds no more than [MaxBytes] of any answer, and
// reports what came. It is deliberately not built on an MCP SDK, since a suite
// has to be able to send what no SDK would.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Transport names a binding of MCP.
type Transport string

// The two standard transports of MCP.
const (
	TransportHTTP  Transport = "http"
	TransportStdio Transport = "stdio"
)

// Limits of one link.
const (
	MaxBytes       = 16 << 20 // bytes of one message, one body, or one step's unasked-for messages
	MaxUnsolicited = 10_000   // unasked-for messages accepted during one step
)

// A Target is a server that can be opened any number of times.
type Target interface {
	Transport() Transport
	// Open starts a link whose traffic goes to log. It returns an
	// [*UnreachableError] when there is nothing to talk to.
	Open(ctx context.Context, log *Log) (Link, error)
	String() string
}

// A Link is one way to one server: an HTTP client, or one server process.
type Link interface {
	// Send sends out and waits for the answer to out.ID, if any, no longer
	// than ctx allows. The reply holds what came even when err is not nil.
	Send(ctx context.Context, out Outgoing) (*Reply, error)
	// Stray returns the responses that answered nothing that was asked, and
	// forgets them.
	Stray() []*Message
	// SetLog directs later traffic to log.
	SetLog(log *Log)
	// Alive reports whether the link can still carry messages.
	Alive() bool
	// CloseInput ends the server's input and waits for the server to end, at
	// most as long as ctx allows. Over HTTP it does nothing.
	CloseInput(ctx context.Context) error
	// Close ends the link, and the process group behind it.
	Close()
}

// Outgoing is one thing to send.
type Outgoing struct {
	Body     []byte      // the bytes; over stdio a newline is added
	ID       jsonrpc.ID  // the id whose answer is awaited; empty: none is
	Verb     string      // HTTP verb, default POST
	Header   http.Header // HTTP request headers, names exactly as given
	Drain    bool        // after the answer, read on until an SSE stream ends (at most one second)
	HeadOnly bool        // return once the HTTP response header is there
	// Until, when set, ends the wait at the first message it returns true for.
	Until func(*Message) bool
}

// Reply is what came back for one [Outgoing].
type Reply struct {
	Status      int         // HTTP status; 0 over stdio
	Header      http.Header // HTTP response headers; nil over stdio
	ContentType string      // media type without parameters, lower case
	Body        []byte      // body of an HTTP answer that is not an event stream
	Messages    []*Message  // every message of the answer, in order
	Answer      *Message    // the response to Outgoing.ID; nil when none came
	StreamEnded bool        // an event stream ended by itself (seen only with Drain)
	SentSeq     int         // log entry of the request
	SeenSeq     int         // log entry of the answer, or of the HTTP status; 0 when nothing came
}

// SSE reports whether the answer was an event stream.
func (r *Reply) SSE() bool { return r.ContentType == "text/event-stream" }

// Errors of a link. They are states of the target, not faults of the suite.
var (
	ErrTimeout = errors.New("no answer in time")
	ErrClosed  = errors.New("the server closed the connection")
	ErrFlood   = errors.New("the server flooded the connection")
)

// UnreachableError says that there is no server to talk to.
type UnreachableError struct {
	Target string
	Err    error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("cannot reach %s: %v", e.Target, e.Err) }
func (e *UnreachableError) Unwrap() error { return e.Err }

// Observer sees each thing that a server put on a link. msg is nil when the
// bytes were no JSON-RPC message; problem then says why.
type Observer func(raw []byte, msg *Message, problem error)

// stepError turns the end of a context into what it means for the target.
func stepError(ctx context.Context, began time.Time, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: waited %s", ErrTimeout, time.Since(began).Round(10*time.Millisecond))
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}
