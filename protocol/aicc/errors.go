package aicc

import "fmt"

// A Reason is the stable name of a way to fail (spec section 23.7).
type Reason string

// The reasons. What a peer did wrong and what the path may have done to it look
// alike: [OpenFailed] does not say whether the key or the message was wrong.
const (
	Malformed       Reason = "malformed-envelope" // the envelope is not one of this format
	OpenFailed      Reason = "open-failed"        // no key opens the envelope, or it was altered
	TooLarge        Reason = "too-large"          // over a limit of ours
	Replayed        Reason = "replayed"           // it was seen before
	WeakKey         Reason = "weak-key"           // a key that is none, or that we don't use
	BadMessage      Reason = "malformed-message"  // what should be a JSON-RPC message isn't
	Truncated       Reason = "truncated"          // a stream ended too early
	TrustMissing    Reason = "trust-missing"      // the server doesn't offer the format
	TrustRequired   Reason = "trust-required"     // a plaintext message to a server in required mode
	PlaintextAnswer Reason = "plaintext-answer"   // an unsealed 2xx answer to a sealed request
	AnswerInvalid   Reason = "answer-invalid"     // the answer is not one to the request
	Downgraded      Reason = "downgraded"         // the server offers more than what was negotiated
	Busy            Reason = "busy"               // too many sealed requests at once
	NoKey           Reason = "no-key"             // there is no key to seal to or to open with
	Era             Reason = "era-unsupported"    // a message of an MCP era that the format doesn't carry
	Unreachable     Reason = "unreachable"        // the peer can't be reached
	Redirected      Reason = "redirected"         // the peer sends the client elsewhere
)

// An Error says why something failed.
type Error struct {
	Reason Reason
	Detail string // for people; holds no plaintext of a sealed message
}

// Error implements error.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }

// Errorf makes an [Error].
func Errorf(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Detail: fmt.Sprintf(format, args...)}
}
