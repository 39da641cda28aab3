package bridge

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
)

// An sseWriter writes a stream as the answer to one HTTP request: a single JSON
// object when the first message is the answer, else an SSE stream.
type sseWriter struct {
	w          http.ResponseWriter
	st         *stream
	sess       *session // its streams are resumable; nil for others
	modern     bool     // error codes choose the HTTP status
	single     jsonrpc.ID
	sessionID  string // announced in the header
	streamOnly bool   // never a single JSON object
	keepAlive  time.Duration
	buf        []byte
}

// writeWait bounds one write to a client that doesn't read.
const writeWait = time.Minute

// respond writes the whole stream; it reports whether the client got it all.
func (o *sseWriter) respond(ctx context.Context) bool {
	gen := o.st.attach()
	defer o.st.detach(gen)
	defer o.noDeadline()
	if o.streamOnly {
		o.begin(0)
		return o.run(ctx, gen, 0)
	}
	first, cancel := withIdle(ctx, o.keepAlive)
	msg, _, last, err := o.st.next(first, gen, 0)
	cancel()
	switch {
	case err == nil && last:
		if o.sessionID != "" && o.st.answerCode() == 0 {
			o.w.Header().Set(hdrSession, o.sessionID)
		}
		writeJSON(o.w, o.status(), msg)
		return true
	case ctx.Err() != nil:
		return false
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		writeError(o.w, http.StatusOK, o.single, jsonrpc.CodeInternal, err.Error(), reasonData("no-answer"))
		return false
	}
	o.begin(0)
	if err == nil { // from here on the stream need not keep it any more
		if o.message(msg, 1) != nil {
			return false
		}
		return o.run(ctx, gen, 1)
	}
	return o.run(ctx, gen, 0)
}

// status is the HTTP status that 2026-07-28 ties to an error answer.
func (o *sseWriter) status() int {
	if !o.modern {
		return http.StatusOK
	}
	switch o.st.answerCode() {
	case jsonrpc.CodeMethodNotFound:
		return http.StatusNotFound
	case jsonrpc.CodeInvalidParams, jsonrpc.CodeInvalidRequest, jsonrpc.CodeParse,
		jsonrpc.CodeHeaderMismatch, jsonrpc.CodeMissingCapability, jsonrpc.CodeUnsupportedVersion:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// begin starts the SSE answer at message at.
func (o *sseWriter) begin(at int) {
	h := o.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	if o.sessionID != "" {
		h.Set(hdrSession, o.sessionID)
	}
	o.w.WriteHeader(http.StatusOK)
	if o.sess == nil {
		o.flush()
		return
	}
	o.sess.keep(o.st)
	// "The server SHOULD immediately send an SSE event consisting of an event
	// ID and an empty data field", which clients of earlier revisions choke on.
	if o.sess.negotiated() == "2025-11-25" {
		_ = o.write(sse.Event{HasID: true, ID: eventID(o.st, at), Retry: -1, Data: []byte{}})
		return
	}
	o.flush()
}

// run writes messages from number at until the stream or the client ends.
func (o *sseWriter) run(ctx context.Context, gen, at int) bool {
	for {
		quiet, cancel := withIdle(ctx, o.keepAlive)
		msg, num, last, err := o.st.next(quiet, gen, at)
		cancel()
		switch {
		case ctx.Err() != nil:
			return false
		case errors.Is(err, context.DeadlineExceeded):
			if o.write(sse.Event{HasComment: true, Comment: "keep-alive", Retry: -1}) != nil {
				return false
			}
			continue
		case errors.Is(err, errDone):
			return true
		case errors.Is(err, errSuperseded):
			return false
		case err != nil:
			if o.single != "" {
				_ = o.write(sse.Event{Retry: -1, Data: jsonrpc.ErrorResponse(o.single, jsonrpc.CodeInternal, err.Error(), reasonData("no-answer"))})
			}
			return false
		}
		at = num + 1
		if o.message(msg, at) != nil {
			return false
		}
		if last {
			return true
		}
	}
}

// message writes one message, the n-th of the stream counted from 1.
func (o *sseWriter) message(msg []byte, n int) error {
	ev := sse.Event{Name: "message", Retry: -1, Data: msg}
	if o.sess != nil {
		ev.HasID, ev.ID = true, eventID(o.st, n)
	}
	return o.write(ev)
}

func (o *sseWriter) write(ev sse.Event) error {
	o.buf = sse.Append(o.buf[:0], ev)
	// A client that stalls must not hold the handler for good.
	_ = http.NewResponseController(o.w).SetWriteDeadline(time.Now().Add(writeWait))
	if _, err := o.w.Write(o.buf); err != nil {
		return err
	}
	o.flush()
	return nil
}

// noDeadline undoes write's deadline for what follows on the connection.
func (o *sseWriter) noDeadline() {
	_ = http.NewResponseController(o.w).SetWriteDeadline(time.Time{})
}

func (o *sseWriter) flush() { _ = http.NewResponseController(o.w).Flush() }
