package transport

import (
	"errors"

	"github.com/trustedmcp/tmcp/protocol"
)

// An EventKind names what a trust layer did.
type EventKind string

// The kinds of [Event].
const (
	EventOpened    EventKind = "opened"    // server: a sealed message was opened and handed on
	EventRefused   EventKind = "refused"   // server: a message was refused and not handed on; client: a call failed
	EventAnswered  EventKind = "answered"  // the final frame of an answer was sealed or opened
	EventPlaintext EventKind = "plaintext" // preferred mode: a message passed in plaintext
	EventAttested  EventKind = "attested"  // server: a key object for a nonce was made
	EventVerified  EventKind = "verified"  // client: a key object was accepted
	EventRetried   EventKind = "retried"   // client: a message was sealed afresh
)

// An Event is handed to the Observe hook. It holds no plaintext of a sealed
// message.
type Event struct {
	Kind    EventKind
	Carrier protocol.Carrier   // zero when no carrier was involved
	Context protocol.ContextID // zero when none was involved
	Seq     uint64
	Method  string // of the outer message
	Peer    *protocol.Peer
	Err     *protocol.Error // EventRefused and EventRetried: why
}

func reasonOf(err error) *protocol.Error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e
	}
	return &protocol.Error{Reason: protocol.AnswerInvalid, Detail: err.Error()}
}
