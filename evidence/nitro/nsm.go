package nitro

import (
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Sizes of messages of a Nitro Security Module's device, in bytes.
const (
	MaxRequest  = 0x1000
	MaxResponse = 0x3000
)

// AttestationRequest is the message that asks a Nitro Security Module for an
// attestation document over these values, nil for none: user data and nonce of at
// most 512 bytes, a public key (DER) of at most 1024. The module refuses longer
// ones.
//
//	{"Attestation": {"nonce": bstr / null, "user_data": bstr / null, "public_key": bstr / null}}
func AttestationRequest(userData, nonce, publicKey []byte) []byte {
	b := dcbor.AppendText(dcbor.AppendMap(nil, 1), "Attestation")
	b = dcbor.AppendMap(b, 3)
	for _, f := range []struct {
		name  string
		value []byte
	}{{"nonce", nonce}, {"user_data", userData}, {"public_key", publicKey}} {
		b = dcbor.AppendText(b, f.name)
		if f.value == nil {
			b = dcbor.AppendNull(b)
		} else {
			b = dcbor.AppendBytes(b, f.value)
		}
	}
	return b
}

// DescribeRequest is the message that asks a module for its description.
func DescribeRequest() []byte { return dcbor.AppendText(nil, "DescribeNSM") }

// AttestationResponse is the message with which a module answers an
// [AttestationRequest]; for modules that are simulated.
func AttestationResponse(document []byte) []byte {
	b := dcbor.AppendText(dcbor.AppendMap(nil, 1), "Attestation")
	b = dcbor.AppendText(dcbor.AppendMap(b, 1), "document")
	return dcbor.AppendBytes(b, document)
}

// A Response is what a module answered: one of its fields is set.
type Response struct {
	Document    []byte // attestation document, not verified
	Description *Description
}

// A Description tells of a module.
type Description struct {
	Major, Minor, Patch uint16
	ModuleID            string
	MaxPCRs             uint16
	LockedPCRs          []uint16
	Digest              string // "SHA384"
}

// A ModuleError is the reason for which a module refused a request, by its name,
// as in "InputTooLarge".
type ModuleError string

func (e ModuleError) Error() string {
	return "the Nitro Security Module refused the request: " + string(e)
}

var responseMode = sync.OnceValues(func() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   4,
		MaxArrayElements:  64,
		MaxMapPairs:       16,
	}.DecMode()
})

// ParseResponse reads what a module answered to an [AttestationRequest] or a
// [DescribeRequest]. Its refusal is a [ModuleError].
func ParseResponse(b []byte) (*Response, error) {
	if len(b) > MaxResponse {
		return nil, fmt.Errorf("a response of %d bytes, want at most %d", len(b), MaxResponse)
	}
	mode, err := responseMode()
	if err != nil {
		return nil, err
	}
	var m struct {
		Error       *string `cbor:"Error"`
		Attestation *struct {
			Document *cbor.ByteString `cbor:"document"`
		} `cbor:"Attestation"`
		Describe *struct {
			Major  uint16   `cbor:"version_major"`
			Minor  uint16   `cbor:"version_minor"`
			Patch  uint16   `cbor:"version_patch"`
			Module string   `cbor:"module_id"`
			Max    uint16   `cbor:"max_pcrs"`
			Locked []uint16 `cbor:"locked_pcrs"`
			Digest string   `cbor:"digest"`
		} `cbor:"DescribeNSM"`
	}
	if err := mode.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("the response of the Nitro Security Module: %w", err)
	}
	switch {
	case m.Error != nil && m.Attestation == nil && m.Describe == nil:
		return nil, ModuleError(*m.Error)
	case m.Attestation != nil && m.Attestation.Document != nil && len(*m.Attestation.Document) > 0 && m.Error == nil && m.Describe == nil:
		return &Response{Document: m.Attestation.Document.Bytes()}, nil
	case m.Describe != nil && m.Error == nil && m.Attestation == nil:
		d := m.Describe
		return &Response{Description: &Description{d.Major, d.Minor, d.Patch, d.Module, d.Max, d.Locked, d.Digest}}, nil
	}
	return nil, errors.New("the response of the Nitro Security Module has neither a document nor a description")
}
