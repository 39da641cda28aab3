package policywasm

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// Reasons of a [Failure]. They are stable: records and other hosts name them.
// Those of package scan come first.
const (
	ReasonInvalid       = scan.Invalid
	ReasonProfile       = scan.Profile
	ReasonLimit         = scan.Limit
	ReasonImport        = scan.Import
	ReasonExport        = scan.Export
	ReasonSignature     = scan.Signature
	ReasonMemory        = scan.Memory            // the memory would pass its cap
	ReasonCompile       = "policy.compile"       // compiling took more time or memory than the host grants
	ReasonMetadata      = "policy.metadata"      // none, or not as the ABI says
	ReasonABI           = "policy.abi"           // made for another version of the ABI
	ReasonEntry         = "policy.entry"         // the policy does not answer that question
	ReasonInput         = "policy.input"         // the input can't be given to a policy
	ReasonBusy          = "policy.busy"          // no place became free before the deadline
	ReasonDeadline      = "policy.deadline"      // the time was over, or fuel that was cut to fit it
	ReasonTrap          = "policy.trap"          // unreachable, division by zero, out of bounds
	ReasonFuel          = "policy.fuel"          // the cap on fuel was reached
	ReasonDepth         = "policy.depth"         // calls were nested too deep
	ReasonAllocate      = "policy.allocate"      // no room for the input
	ReasonOutput        = "policy.output"        // no result of the ABI
	ReasonOversize      = "policy.oversize"      // a result beyond the cap
	ReasonContradiction = "policy.contradiction" // allowed, and said what speaks against it
	ReasonObligation    = "policy.obligation"    // allowed on a condition that the host does not know
	ReasonEngine        = "policy.engine"        // the engine itself failed
)

// A Failure is why there is no decision of the policy's own: it counts as a
// denial, and says nothing about the peer.
type Failure struct {
	Reason string // one of the constants above
	Detail string // for people, at most 256 bytes
}

func (f *Failure) Error() string { return f.Reason + ": " + f.Detail }

func fail(reason, detail string) *Failure {
	detail, _, _ = strings.Cut(detail, "\n") // the engine's stack traces
	if len(detail) > 256 {
		detail = detail[:256]
	}
	for !utf8.ValidString(detail) {
		detail = strings.ToValidUTF8(detail, "?")
	}
	return &Failure{Reason: reason, Detail: detail}
}

func fromScan(err error) *Failure {
	var e *scan.Error
	if errors.As(err, &e) {
		return fail(e.Reason, err.Error()[len(e.Reason)+1:])
	}
	return fail(ReasonInvalid, err.Error())
}
