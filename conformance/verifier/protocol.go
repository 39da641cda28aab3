package verifier

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/shim"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Operations that a shim may be asked for.
const (
	OpHello      = "hello"       // who are you?
	OpReportData = "report-data" // section 18.2: compute it
	OpKeyObject  = "key-object"  // chapter 5; with a policy, chapters 18 and 19 too
	OpEvidence   = "evidence"    // chapters 18 and 19, without a key object
	OpCMW        = "cmw"         // RFC 9999, as section 18.4 has it
	OpCoRIM      = "corim"       // section 19.2: may this manifest be used?
	OpMatch      = "match"       // section 19.3: does this satisfy that?
	OpToken      = "token"       // section 19.6: an attestation result
	OpEAT        = "eat"         // a signed entity attestation token (RFC 9711)
)

// A Request is one line to the shim. What an operation does not need is left
// out. Bytes are in base64 (RFC 4648 section 4, padded), times are seconds
// since 1970.
type Request struct {
	ID   string `json:"id"`
	Op   string `json:"op"`
	Time int64  `json:"time,omitzero"` // the only clock there is

	// Value is what is to be verified. Type is its media type, for evidence that
	// stands outside a CMW, else empty.
	Value []byte `json:"value,omitzero"`
	Type  string `json:"type,omitzero"`

	Identity   string   `json:"identity,omitzero"`
	Role       int      `json:"role,omitzero"`           // 1 server, 2 client
	Settings   string   `json:"settings,omitzero"`       // JSON, as received beside the key object
	Pins       []string `json:"pins,omitzero"`           // thumbprints of identity keys, base64url
	IDRoots    []string `json:"identity_roots,omitzero"` // certificates in PEM: roots for identities; when present, pins do not count
	Nonce      []byte   `json:"nonce,omitzero"`          // that was sent
	Profile    string   `json:"profile,omitzero"`        // the least that is demanded
	MaxAge     int64    `json:"max_age,omitzero"`        // of evidence, seconds
	Epochs     [][]byte `json:"epochs,omitzero"`
	Fresh      bool     `json:"fresh,omitzero"`       // the evidence must be made for the nonce
	ReportData []byte   `json:"report_data,omitzero"` // that evidence outside a key object must bind
	Config     []byte   `json:"config,omitzero"`      // configuration digest that is bound

	Key       []byte     `json:"key,omitzero"` // attested key, COSE_Key
	Freshness *Freshness `json:"freshness,omitzero"`

	Anchors      *Anchors       `json:"anchors,omitzero"`
	Simulator    *Anchors       `json:"simulator,omitzero"` // roots of simulated TEEs
	Endorsements []Item         `json:"endorsements,omitzero"`
	Policy       jsontext.Value `json:"policy,omitzero"`

	Manifests   []Manifest `json:"manifests,omitzero"`
	SignerKeys  []string   `json:"signer_keys,omitzero"`  // of manifests: SubjectPublicKeyInfo in PEM
	SignerRoots []string   `json:"signer_roots,omitzero"` // of manifests: certificates in PEM
	Local       bool       `json:"local,omitzero"`        // Value is a file that the operator gave

	Kind     string         `json:"kind,omitzero"` // of token: "ear"
	Keys     jsontext.Value `json:"keys,omitzero"` // pinned, a JWK set (RFC 7517)
	Issuer   string         `json:"issuer,omitzero"`
	Audience string         `json:"audience,omitzero"`
}

// A Freshness is claim -70008 of a key object.
type Freshness struct {
	Kind  int    `json:"kind"`
	At    int64  `json:"at,omitzero"`
	Value []byte `json:"value,omitzero"`
}

// An Item is an endorsement.
type Item struct {
	Type  string `json:"type"`
	Value []byte `json:"value"`
}

// A Manifest is a CoRIM. Local says that the operator gave it as a file.
type Manifest struct {
	Value []byte `json:"value"`
	Local bool   `json:"local,omitzero"`
}

// Anchors are vendors' roots, certificates in PEM.
type Anchors struct {
	Intel  []string   `json:"intel,omitzero"`
	AMD    []AMDChain `json:"amd,omitzero"`
	AWS    []string   `json:"aws,omitzero"`
	NVIDIA []string   `json:"nvidia,omitzero"`
	CCA    []CCAKey   `json:"cca,omitzero"`
}

// An AMDChain is the pinned part of a product line's chain.
type AMDChain struct {
	Product string   `json:"product"`
	ARK     string   `json:"ark"`
	ASK     []string `json:"ask"` // of VCEKs and of VLEKs
}

// A CCAKey is the attestation key of a platform of Arm CCA.
type CCAKey struct {
	Implementation []byte `json:"implementation"`
	Instance       []byte `json:"instance,omitzero"` // absent: any
	Key            string `json:"key"`               // SubjectPublicKeyInfo in PEM
}

// Outcomes of a request.
const (
	Accept         = "accept"
	Reject         = "reject"
	NotImplemented = "not-implemented"
)

// An Answer is one line of the shim.
type Answer struct {
	ID      string           `json:"id"`
	Outcome string           `json:"outcome"`
	Reason  string           `json:"reason,omitzero"` // of key objects: one of chapter 10
	Checks  []evidence.Check `json:"checks,omitzero"`
	Claims  jsontext.Value   `json:"claims,omitzero"` // what was proven; on accept only
	Micros  int64            `json:"micros,omitzero"` // that verifying took, by the shim's clock
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
	switch {
	case a.ID != id:
		return nil, fmt.Errorf("the answer is to %.40q, asked was %q", a.ID, id)
	case !slices.Contains([]string{Accept, Reject, NotImplemented}, a.Outcome):
		return nil, fmt.Errorf("outcome %.40q: want accept, reject or not-implemented", a.Outcome)
	}
	for _, c := range a.Checks {
		if c.Name == "" || !slices.Contains([]evidence.Outcome{evidence.Pass, evidence.Fail, evidence.Warn, evidence.NotPerformed}, c.Outcome) {
			return nil, fmt.Errorf("check %.40q with outcome %.40q: want a name, and pass, fail, warn or not-performed", c.Name, c.Outcome)
		}
	}
	if a.Claims != nil && a.Claims.Kind() != jsontext.KindBeginObject && a.Claims.Kind() != jsontext.KindNull {
		return nil, errors.New("claims: want an object")
	}
	return a, nil
}

// hasClaims reports whether an answer tells anything of what it verified.
func (a *Answer) hasClaims() bool {
	c := bytes.TrimSpace(a.Claims)
	return len(c) > 0 && !bytes.Equal(c, []byte("null")) && !bytes.Equal(c, []byte("{}"))
}

// Encode writes an answer as one line, without the end of line.
func (a *Answer) Encode() ([]byte, error) { return json.Marshal(a) }
