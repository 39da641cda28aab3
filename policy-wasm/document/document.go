// Package document has the shape of what policies judge (spec section 20.5): one
// document for each question, complete, so that a policy in no language has to
// guess what an absent member means. What is not known is null.
package document

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ABI is the version of the document.
const ABI = 1

// A Document is one question to a policy, with all that it may know.
type Document struct {
	ABI      int            `json:"abi"`
	Question string         `json:"question"` // appraise or authorize
	Time     int64          `json:"time"`     // seconds since 1970, by the clock of who asks
	Settings jsontext.Value `json:"settings"` // the operator's, for this policy; null
	Peer     Peer           `json:"peer"`
	Devices  []Device       `json:"devices"` // what was verified of the peer's TEEs; empty where nothing was
	Call     *Call          `json:"call"`    // of authorize; null
}

// A Peer is who is judged.
type Peer struct {
	Role       *string `json:"role"`       // server or client; null where evidence is judged by itself
	Identity   *string `json:"identity"`   // URI that its key object is signed for; null
	Thumbprint *string `json:"thumbprint"` // of its identity key, base64url; null in appraise, where it is not verified yet
	Profile    string  `json:"profile"`    // what it proved so far: none, identity or attested
	Config     *string `json:"config"`     // digest of its configuration that its evidence binds, hex; null
	Alone      bool    `json:"alone"`      // a device was given by itself, outside a binding
}

// A Device is one TEE of the peer.
type Device struct {
	Label      string         `json:"label"`  // in the collection; empty for the only one
	Kind       string         `json:"kind"`   // tdx, sgx, sev-snp, nitro, nvidia-gpu or cca; empty where evidence could not be read
	Proven     bool           `json:"proven"` // its signature leads to an anchor; else all below but checks is null or false
	Simulated  bool           `json:"simulated"`
	Debug      bool           `json:"debug"`
	Platform   *string        `json:"platform"`   // id of the platform instance, hex; null
	Checks     []Check        `json:"checks"`     // of the verifier, in their order
	TCB        *TCB           `json:"tcb"`        // null where nothing is known
	References *References    `json:"references"` // null where there are no reference values
	Claims     map[string]any `json:"claims"`     // spec section 18.9: bytes in hex, text, integers, booleans, lists of text, null (see ClaimNames); null where nothing is proven
	NotAfter   *int64         `json:"not_after"`  // when certificates and collateral end; null
}

// A Check is one step of verification.
type Check struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"` // pass, fail, warn or not-performed
}

// A TCB is what the vendor says of the firmware.
type TCB struct {
	Status         string   `json:"status"`
	Date           *int64   `json:"date"`
	OutOfDateSince *int64   `json:"out_of_date_since"`
	Evaluation     *int64   `json:"evaluation_number"`
	Advisories     []string `json:"advisories"`
	Parts          []Part   `json:"parts"`
}

// A Part is one part of a TCB.
type Part struct {
	Name       string   `json:"name"`
	Status     string   `json:"status"`
	Date       *int64   `json:"date"`
	Behind     int      `json:"behind"` // how many newer levels the vendor lists
	Advisories []string `json:"advisories"`
}

// References say how measurements compare with reference values.
type References struct {
	Known   bool     `json:"known"` // there are some for this kind of TEE
	Matched bool     `json:"matched"`
	Tags    []string `json:"tags"` // manifests that matched
}

// A Call is what the peer wants to do (peer.role client), or what is about to be
// asked of it (server).
type Call struct {
	Kind      string         `json:"kind"`      // request, notification, response, stream (HTTP GET) or end (DELETE)
	Method    *string        `json:"method"`    // null but for requests and notifications
	Name      *string        `json:"name"`      // params.name, of a tool or prompt; null
	URI       *string        `json:"uri"`       // params.uri, of a resource; null
	Arguments jsontext.Value `json:"arguments"` // params.arguments; null unless the policy declares an input below /call/arguments
	Revision  *string        `json:"revision"`  // of MCP, that the seal commits to; null
	Carrier   string         `json:"carrier"`   // envelope, inline or http; tls under attested TLS
}

// JSON is the document's encoding; see [policywasm.NewInput] for the canonical one.
func (d *Document) JSON() (jsontext.Value, error) {
	d.ABI = ABI
	if d.Settings == nil {
		d.Settings = jsontext.Value("null")
	}
	if d.Call != nil && d.Call.Arguments == nil {
		d.Call.Arguments = jsontext.Value("null")
	}
	return json.Marshal(d, json.FormatNilMapAsNull(true), json.Deterministic(true))
}

// Parse reads a document, and refuses one with members that are missing,
// unknown or of another type.
func Parse(b []byte) (*Document, error) {
	d := &Document{}
	if err := json.Unmarshal(b, d, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	again, err := d.JSON()
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	v := jsontext.Value(bytes.Clone(b))
	if err := errors.Join(v.Canonicalize(), again.Canonicalize()); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	if !bytes.Equal(v, again) {
		return nil, errors.New("document: it lacks members, or has some of another type; every member stands in it, and what is not known is null")
	}
	return d, nil
}
