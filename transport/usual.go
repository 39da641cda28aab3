package transport

import (
	"bytes"
	"sync/atomic"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// The outer messages of a warm conversation differ in their id and their frame
// only. What equals the usual form byte by byte, with a _meta that was parsed
// strictly before, need not be parsed again.

const (
	usualHead   = `{"jsonrpc":"2.0","id":`
	usualCall   = `,"method":"` + protocol.MethodCall + `","params":{"frame":"","_meta":`
	usualAnswer = `,"result":{"resultType":"complete","frame":""}}`
)

// knownMeta is a _meta that parseRest has taken apart.
type knownMeta struct {
	raw   []byte
	lim   jsonrpc.Limits
	outer outer
}

// lastMeta is the one seen last. It stands outside the seal, so it is no secret.
var lastMeta atomic.Pointer[knownMeta]

// usual returns rest, a message whose frame was cut out, as an outer message,
// or nil when it has to be parsed.
func usual(rest []byte, lim jsonrpc.Limits) *outer {
	if !bytes.HasPrefix(rest, []byte(usualHead)) {
		return nil
	}
	n := len(usualHead)
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	id := rest[len(usualHead):n]
	if len(id) == 0 || len(id) > 18 || id[0] == '0' {
		return nil
	}
	if string(rest[n:]) == usualAnswer {
		return &outer{Message: &jsonrpc.Message{Raw: rest, ID: jsonrpc.ID(id), Result: rest[n+len(`,"result":`) : len(rest)-1]}}
	}
	tail := rest[n:]
	known := lastMeta.Load()
	if known == nil || known.lim != lim || !bytes.HasPrefix(tail, []byte(usualCall)) || !bytes.HasSuffix(tail, []byte(`}}`)) {
		return nil
	}
	if !bytes.Equal(tail[len(usualCall):len(tail)-2], known.raw) {
		return nil
	}
	o := known.outer
	o.Message = &jsonrpc.Message{Raw: rest, ID: jsonrpc.ID(id), Method: protocol.MethodCall, Params: tail[len(usualCall)-len(`{"frame":"","_meta":`) : len(tail)-1]}
	return &o
}

// remember keeps the _meta of a call for usual.
func remember(o *outer, lim jsonrpc.Limits) {
	if o.Method != protocol.MethodCall || o.frames != nil || o.attest != nil || o.meta.Kind() != '{' {
		return
	}
	if known := lastMeta.Load(); known != nil && known.lim == lim && bytes.Equal(known.raw, o.meta) {
		return
	}
	kept := &outer{Message: &jsonrpc.Message{}, meta: bytes.Clone(o.meta)}
	if kept.takeMeta() == nil {
		lastMeta.Store(&knownMeta{kept.meta, lim, *kept})
	}
}
