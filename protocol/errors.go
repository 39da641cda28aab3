package protocol

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Reason is the stable name of a way to fail (spec chapter "Errors").
type Reason string

// Reasons that a server tells in an error's data.reason. Their order gives
// their codes, from 29000: append, never reorder.
const (
	TrustRequired       Reason = "trust-required"
	MalformedFrame      Reason = "malformed-frame"
	UnsupportedVersion  Reason = "unsupported-version"
	UnsupportedSuite    Reason = "unsupported-suite"
	CarrierRefused      Reason = "carrier-refused"
	UnknownKey          Reason = "unknown-key"
	UnknownContext      Reason = "unknown-context"
	Replayed            Reason = "replayed"
	OpenFailed          Reason = "open-failed"
	NegotiationMismatch Reason = "negotiation-mismatch"
	OuterMismatch       Reason = "outer-mismatch"
	ToolChanged         Reason = "tool-changed"
	ClientKeyRequired   Reason = "client-key-required"
	ClientKeyRefused    Reason = "client-key-refused"
	Busy                Reason = "busy"
	TooLarge            Reason = "too-large"
	OutOfOrder          Reason = "out-of-order"
	MalformedContent    Reason = "malformed-content"
	ProfileRefused      Reason = "profile-refused"
)

// Reasons that a client finds by itself and tells its own inner client. Codes
// from 29100, in this order: append, never reorder.
const (
	TrustMissing         Reason = "trust-missing"
	KeyObjectInvalid     Reason = "key-object-invalid"
	IdentityMismatch     Reason = "identity-mismatch"
	KeyObjectExpired     Reason = "key-object-expired"
	KeyObjectNotYetValid Reason = "key-object-not-yet-valid"
	SettingsMismatch     Reason = "settings-mismatch"
	NoOverlap            Reason = "no-overlap"
	PlaintextAnswer      Reason = "plaintext-answer"
	UnsealedError        Reason = "unsealed-error"
	AnswerInvalid        Reason = "answer-invalid"
	Truncated            Reason = "truncated"
	AnswerOutOfOrder     Reason = "answer-out-of-order"
	Spliced              Reason = "spliced"
	AfterFinal           Reason = "after-final"
	EraFallback          Reason = "era-fallback"
	RetriesExhausted     Reason = "retries-exhausted"
	Unreachable          Reason = "unreachable"
	NonceMismatch        Reason = "nonce-mismatch"
	ProfileTooWeak       Reason = "profile-too-weak"
	CannotSeal           Reason = "cannot-seal"
	DiscoverError        Reason = "discover-error"
	SignatureInvalid     Reason = "signature-invalid"
	RoleMismatch         Reason = "role-mismatch"
	EvidenceStale        Reason = "evidence-stale"
	EvidenceRefused      Reason = "evidence-refused"
	CannotAttest         Reason = "cannot-attest"
	// PolicyDenied also stands inside the seal: the answer of a server whose policy
	// denied the message.
	PolicyDenied Reason = "policy-denied"
)

var serverReasons = []Reason{
	TrustRequired, MalformedFrame, UnsupportedVersion, UnsupportedSuite, CarrierRefused, UnknownKey,
	UnknownContext, Replayed, OpenFailed, NegotiationMismatch, OuterMismatch, ToolChanged,
	ClientKeyRequired, ClientKeyRefused, Busy, TooLarge, OutOfOrder, MalformedContent, ProfileRefused,
}

var clientReasons = []Reason{
	TrustMissing, KeyObjectInvalid, IdentityMismatch, KeyObjectExpired, KeyObjectNotYetValid,
	SettingsMismatch, NoOverlap, PlaintextAnswer, UnsealedError, AnswerInvalid, Truncated,
	AnswerOutOfOrder, Spliced, AfterFinal, EraFallback, RetriesExhausted, Unreachable, NonceMismatch,
	ProfileTooWeak, CannotSeal, DiscoverError, SignatureInvalid, RoleMismatch, EvidenceStale,
	EvidenceRefused, CannotAttest, PolicyDenied,
}

const (
	firstServerCode = 29000
	firstClientCode = 29100
)

var codes = func() map[Reason]int {
	m := make(map[Reason]int)
	for i, r := range serverReasons {
		m[r] = firstServerCode + i
	}
	for i, r := range clientReasons {
		m[r] = firstClientCode + i
	}
	return m
}()

// Reasons returns every reason with its code, servers' first.
func Reasons() []Reason { return append(append([]Reason{}, serverReasons...), clientReasons...) }

// Code is the JSON-RPC error code that goes with r. It lies outside the range
// that JSON-RPC and MCP reserve (-32768 to -32000). Zero for an unknown reason.
//
// TMCP-10.1-1: A trust error MUST have the code and the reason that belong together in section
// 17.4.
func (r Reason) Code() int { return codes[r] }

// FromPeer reports whether r is one that a server may send. A client treats
// any other reason in a peer's error as [UnsealedError].
func (r Reason) FromPeer() bool {
	c := codes[r]
	return c >= firstServerCode && c < firstClientCode
}

// An Error is a failure of the protocol. Compare with [IsReason] or errors.As.
type Error struct {
	Reason    Reason
	Detail    string // for people: the input, the rule, the fix
	KeyObject []byte // with UnknownKey: the key object of this replica
	Tool      *Tool  // with ToolChanged: the tool as it is now

	// With PolicyDenied: the digest of the policy (SHA-256, 32 bytes), and the codes
	// of its reasons, or the one reason of its failure.
	Policy []byte
	Codes  []string

	cause error // for this side's log only: it may tell of sealed content
}

// Unwrap returns the cause that is not told to the peer, if there is one.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) Error() string {
	if e.Detail == "" {
		return "trust: " + string(e.Reason)
	}
	return "trust: " + string(e.Reason) + ": " + e.Detail
}

func fail(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// Errorf returns an [Error] with a reason and a detail for people.
func Errorf(r Reason, format string, args ...any) error { return fail(r, format, args...) }

// IsReason reports whether err is or wraps an [Error] of reason r.
func IsReason(err error, r Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == r
}

// Response builds the JSON-RPC error message that tells e. Details go out too:
// they name public values only.
func (e *Error) Response(id jsonrpc.ID) []byte {
	return jsonrpc.ErrorResponse(id, e.Reason.Code(), e.Error(), e.Data())
}

// Data is the JSON text of error.data.
//
// TMCP-10.1-2: A trust error MUST carry `data.extension` and `data.reason`.
func (e *Error) Data() []byte {
	b := []byte(`{"extension":"` + ExtensionID + `","reason":`)
	b = append(b, jsonrpc.Quote(string(e.Reason))...)
	if e.Detail != "" {
		b = append(b, `,"detail":`...)
		b = append(b, jsonrpc.Quote(e.Detail)...)
	}
	if e.KeyObject != nil {
		b = append(b, `,"key":"`+Base64(e.KeyObject)+`"`...)
	}
	if e.Tool != nil {
		b = append(b, `,"tool":`...)
		b = append(b, e.Tool.JSON()...)
	}
	if e.Policy != nil {
		b = fmt.Appendf(b, `,"policy":"%x"`, e.Policy)
	}
	for i, code := range e.Codes {
		b = append(b, []string{`,"codes":[`, `,`}[min(i, 1)]...)
		b = append(b, jsonrpc.Quote(code)...)
	}
	if len(e.Codes) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// ParseError reads the error member of a JSON-RPC message as an error of this
// extension. It is unauthenticated: a client may act on it by sealing afresh,
// never by sending plaintext. It returns nil when the error is not ours.
func ParseError(member jsontext.Value) *Error {
	ext, _ := jsonrpc.Text(jsonrpc.Get(member, "data", "extension"))
	reason, ok := jsonrpc.Text(jsonrpc.Get(member, "data", "reason"))
	// TMCP-10.4-1: A client MUST NOT take an error with a local reason from a peer for one of its
	// own.
	if ext != ExtensionID || !ok || !Reason(reason).FromPeer() {
		return nil
	}
	e := &Error{Reason: Reason(reason)}
	e.Detail, _ = jsonrpc.Text(jsonrpc.Get(member, "data", "detail"))
	if s, ok := jsonrpc.Text(jsonrpc.Get(member, "data", "key")); ok {
		b, err := ParseBase64(s)
		if err != nil {
			return nil
		}
		e.KeyObject = b
	}
	if v := jsonrpc.Get(member, "data", "tool"); v != nil {
		if t, err := ParseTool(v); err == nil {
			e.Tool = t
		}
	}
	return e
}
