package policywasm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Decision is a policy's answer. The zero value is Deny.
type Decision int

// Decisions.
const (
	Deny Decision = iota
	Abstain
	Allow
)

func (d Decision) String() string {
	switch d {
	case Allow:
		return "allow"
	case Abstain:
		return "abstain"
	}
	return "deny"
}

// A Result is the outcome of an evaluation.
type Result struct {
	Decision    Decision
	Reasons     []Reason
	Vector      Vector // of appraise; nil where there is none
	Obligations []Obligation

	// Failure is set when the policy did not decide; Decision is Deny then.
	Failure *Failure

	Policy [32]byte // SHA-256 of the module
	Fuel   uint64   // used
	Pages  uint32   // of memory in the end
	Log    []byte   // what the guest logged; never trusted, never shown unescaped
}

// A Reason says why. Codes have 1 to 64 characters of a-z, 0-9 and hyphen.
type Reason struct {
	Code  string
	Text  string // for people; at most 256 bytes
	Claim string // JSON pointer into the input, or ""
}

// An Obligation is what must be done for the decision to hold, such as ending
// the session after an hour.
type Obligation struct {
	ID    string         // spelled like the code of a reason
	Value jsontext.Value // at most 1024 bytes
}

// A Vector is an AR4SI trustworthiness vector (draft-ietf-rats-ar4si section
// 2.3): for each claim a value from -128 to 127.
type Vector map[string]int8

// vectorClaims are the claims of a whole vector.
var vectorClaims = []string{"configuration", "executables", "file-system", "hardware", "instance-identity", "runtime-opaque", "sourced-data", "storage-opaque"}

// A Tier is what a value of a vector means: one in four.
type Tier int

// Tiers, the worst last.
const (
	TierNone Tier = iota
	TierAffirming
	TierWarning
	TierContraindicated
)

// TierOf returns the tier of a value (AR4SI section 2.3.1).
func TierOf(v int8) Tier {
	switch {
	case v >= -1 && v <= 1:
		return TierNone
	case v >= -32 && v <= 31:
		return TierAffirming
	case v >= -96 && v <= 95:
		return TierWarning
	}
	return TierContraindicated
}

const (
	maxReasons     = 32
	maxObligations = 16
	maxReasonText  = 256
	maxValue       = 1024
	outputDepth    = 8
)

// DecodeResult reads what a policy returned. It refuses members that it does
// not know, double ones, and values beyond their bounds.
func DecodeResult(b []byte, enc Encoding, entry Entry) (*Result, error) {
	if enc == CBOR {
		var err error
		if b, err = dcbor.ToJSON(nil, b); err != nil {
			return nil, err
		}
	}
	if err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: max(len(b), 1), MaxDepth: outputDepth}); err != nil {
		return nil, err
	}
	r := &Result{}
	decided := false
	err := jsonrpc.Members(b, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "decision":
			decided = true
			r.Decision, err = decision(v)
		case "reasons":
			err = elements(v, maxReasons, func(e jsontext.Value) error { return r.reason(e) })
		case "vector":
			if entry != Appraise {
				return errors.New("a vector, where nothing was appraised")
			}
			r.Vector, err = vector(v)
		case "obligations":
			err = elements(v, maxObligations, func(e jsontext.Value) error { return r.obligation(e) })
		default:
			err = fmt.Errorf("member %q is not known", name)
		}
		return err
	})
	if err == nil && !decided {
		err = errors.New("no decision")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func elements(v jsontext.Value, limit int, f func(jsontext.Value) error) error {
	n := 0
	if v.Kind() != '[' {
		return errors.New("no array where one must stand")
	}
	return jsonrpc.Elements(v, func(e jsontext.Value) error {
		if n++; n > limit {
			return fmt.Errorf("more than %d entries", limit)
		}
		return f(e)
	})
}

func decision(v jsontext.Value) (Decision, error) {
	s, _ := jsonrpc.Text(v)
	for _, d := range []Decision{Allow, Deny, Abstain} {
		if s == d.String() {
			return d, nil
		}
	}
	return Deny, errors.New("the decision is none of allow, deny and abstain")
}

func text(v jsontext.Value, limit int) (string, error) {
	s, ok := jsonrpc.Text(v)
	if !ok || len(s) > limit {
		return "", fmt.Errorf("no text of at most %d bytes where one must stand", limit)
	}
	return s, nil
}

func code(v jsontext.Value) (string, error) {
	s, err := text(v, 64)
	if err != nil {
		return "", err
	}
	bad := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }
	if s == "" || slices.ContainsFunc([]rune(s), bad) {
		return "", errors.New("a code is not of a-z, 0-9 and hyphen")
	}
	return s, nil
}

func (r *Result) reason(v jsontext.Value) error {
	var out Reason
	err := jsonrpc.Members(v, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "code":
			out.Code, err = code(v)
		case "text":
			out.Text, err = text(v, maxReasonText)
		case "claim":
			out.Claim, err = text(v, maxReasonText)
		default:
			err = fmt.Errorf("member %q of a reason is not known", name)
		}
		return err
	})
	if err == nil && out.Code == "" {
		err = errors.New("a reason has no code")
	}
	r.Reasons = append(r.Reasons, out)
	return err
}

func (r *Result) obligation(v jsontext.Value) error {
	var out Obligation
	err := jsonrpc.Members(v, func(name string, v jsontext.Value) (err error) {
		switch {
		case name == "id":
			out.ID, err = code(v)
		case name == "value" && len(v) <= maxValue:
			out.Value = v.Clone()
		default:
			err = fmt.Errorf("member %q of an obligation is not known, or too large", name)
		}
		return err
	})
	if err == nil && (out.ID == "" || out.Value == nil) {
		err = errors.New("an obligation has no id or no value")
	}
	r.Obligations = append(r.Obligations, out)
	return err
}

func vector(v jsontext.Value) (Vector, error) {
	out := Vector{}
	err := jsonrpc.Members(v, func(name string, v jsontext.Value) error {
		n, err := strconv.ParseInt(string(v), 10, 8)
		if err != nil || strconv.FormatInt(n, 10) != string(v) {
			return fmt.Errorf("%q is no integer from -128 to 127", name)
		}
		if !slices.Contains(vectorClaims, name) {
			return fmt.Errorf("claim %q is not known", name)
		}
		out[name] = int8(n)
		return nil
	})
	return out, err
}

// contradiction says why an allowing result can't be meant, or "".
func (r *Result) contradiction(entry Entry) string {
	if r.Decision != Allow || entry != Appraise {
		return ""
	}
	for _, name := range vectorClaims {
		v, ok := r.Vector[name]
		switch {
		case !ok:
			return "allowed without the claim " + name
		case TierOf(v) == TierContraindicated:
			return fmt.Sprintf("allowed with %s contraindicated (%d)", name, v)
		}
	}
	return ""
}
