package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/shim"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Operations that a shim may be asked for.
const (
	OpHello    = "hello"    // who are you?
	OpEvaluate = "evaluate" // load modules, and ask them
	OpDigest   = "digest"   // section 20.9: compute a policy digest
)

// A Request is one line to the shim. What an operation does not need is left
// out. Bytes are in base64 (RFC 4648 section 4, padded).
type Request struct {
	ID string `json:"id"`
	Op string `json:"op"`

	Modules   [][]byte `json:"modules,omitzero"`   // one; with a rule, those that decide together
	Rule      string   `json:"rule,omitzero"`      // how: deny-overrides, first-match or all-allow
	Question  string   `json:"question,omitzero"`  // appraise or authorize
	Documents []string `json:"documents,omitzero"` // JSON text as received, for one question after the other to the same loaded modules
	Caps      *Caps    `json:"caps,omitzero"`
	Granted   uint64   `json:"granted,omitzero"` // fuel that fits the time left; 0: there is no deadline
	Expired   bool     `json:"expired,omitzero"` // the deadline is over

	Digests  [][]byte  `json:"digests,omitzero"`  // of digest: SHA-256 of modules
	Settings []*string `json:"settings,omitzero"` // of digest: of each module, JSON text or null
}

// Caps are what the operator grants.
type Caps struct {
	Fuel        uint64   `json:"fuel"`
	Pages       uint32   `json:"pages"`       // of 64 KiB
	Log         int      `json:"log"`         // bytes of an evaluation's log that are kept; 0: log is not offered
	Obligations []string `json:"obligations"` // ids that are known
}

// An Answer is one line of the shim.
type Answer struct {
	ID             string         `json:"id"`
	NotImplemented bool           `json:"not_implemented,omitzero"`
	Results        []Result       `json:"results,omitzero"` // one for each document
	Digest         string         `json:"digest,omitzero"`  // of digest, in hex
	Claims         jsontext.Value `json:"claims,omitzero"`  // of hello: who it is
}

// A Result is what came of one question. What was met on loading stands in
// the result of each document.
type Result struct {
	Decision    string          `json:"decision"`         // allow, deny or abstain
	Failure     string          `json:"failure,omitzero"` // a reason of section 20.8
	Detail      string          `json:"detail,omitzero"`  // for people
	Reasons     []Reason        `json:"reasons,omitzero"`
	Vector      map[string]int8 `json:"vector,omitzero"`
	Obligations []Obligation    `json:"obligations,omitzero"`
	Fuel        *uint64         `json:"fuel,omitzero"` // used
	Log         []byte          `json:"log,omitzero"`

	Decided []int `json:"decided,omitzero"` // of several modules: who made the decision what it is
	Asked   int   `json:"asked,omitzero"`   // of several modules: how many were asked
}

// A Reason is one of a policy.
type Reason struct {
	Code  string `json:"code"`
	Text  string `json:"text,omitzero"`
	Claim string `json:"claim,omitzero"`
}

// An Obligation is one of a policy.
type Obligation struct {
	ID    string         `json:"id"`
	Value jsontext.Value `json:"value"`
}

// Encode writes a request as one line, without the end of line.
func (r *Request) Encode() ([]byte, error) { return json.Marshal(r, json.Deterministic(true)) }

// ParseRequest reads a request, for shims in Go. Members that it does not know
// are errors: they may narrow what is asked.
func ParseRequest(line []byte) (*Request, error) {
	r := &Request{}
	if err := json.Unmarshal(line, r, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return r, nil
}

// Encode writes an answer as one line, without the end of line.
func (a *Answer) Encode() ([]byte, error) { return json.Marshal(a, json.Deterministic(true)) }

// parseAnswer reads an answer strictly, as to its form: a shim that writes
// something else may have written anything.
func parseAnswer(line []byte, id string) (*Answer, error) {
	if err := jsonrpc.Check(line, jsonrpc.Limits{MaxBytes: shim.MaxLine}); err != nil {
		return nil, err
	}
	a := &Answer{}
	if err := json.Unmarshal(line, a); err != nil {
		return nil, err
	}
	if a.ID != id {
		return nil, fmt.Errorf("the answer is to %.40q, asked was %q", a.ID, id)
	}
	for _, r := range a.Results {
		if !slices.Contains([]string{"allow", "deny", "abstain"}, r.Decision) {
			return nil, fmt.Errorf("decision %.40q: want allow, deny or abstain", r.Decision)
		}
	}
	if _, err := hex.DecodeString(a.Digest); err != nil {
		return nil, errors.New("digest: want hex")
	}
	if a.Claims != nil && a.Claims.Kind() != jsontext.KindBeginObject && a.Claims.Kind() != jsontext.KindNull {
		return nil, errors.New("claims: want an object")
	}
	return a, nil
}
