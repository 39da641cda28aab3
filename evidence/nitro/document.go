package nitro

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Limits of AWS's specification of attestation documents (sections 2.2 and 3.1),
// in bytes. Of the certificate bundle it limits only each item.
const (
	maxCertificate = 1024
	maxUserData    = 1024 // also public key and nonce
	maxPCR         = 31
	maxBundle      = 8
	maxModuleID    = 256
	maxDocument    = 16384 + 256 // the payload with its envelope
)

// es384 is the only protected header: {1: -35}, ECDSA with SHA-384.
var es384 = []byte{0xA1, 0x01, 0x38, 0x22}

// A document is an attestation document, well formed but not verified.
type document struct {
	protected, payload, signature []byte

	moduleID    string
	timestamp   uint64 // milliseconds since 1970
	digest      string
	pcrs        map[uint64][]byte // by index; 32, 48 or 64 bytes
	certificate []byte            // DER
	bundle      [][]byte          // DER, the root first
	publicKey   []byte            // nil: none
	userData    []byte
	nonce       []byte
}

// fields are the payload's members. Byte strings are of a type of their own, so
// that arrays of numbers are not taken for them.
type fields struct {
	ModuleID    *string                    `cbor:"module_id"`
	Timestamp   *uint64                    `cbor:"timestamp"`
	Digest      *string                    `cbor:"digest"`
	PCRs        map[uint64]cbor.ByteString `cbor:"pcrs"`
	Certificate *cbor.ByteString           `cbor:"certificate"`
	CABundle    []cbor.ByteString          `cbor:"cabundle"`
	PublicKey   *cbor.ByteString           `cbor:"public_key"`
	UserData    *cbor.ByteString           `cbor:"user_data"`
	Nonce       *cbor.ByteString           `cbor:"nonce"`
}

// payloadMode reads payloads, which need not be deterministic: AWS writes maps of
// indefinite length.
var payloadMode = sync.OnceValues(func() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthAllowed,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8RejectInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  16,
		MaxMapPairs:       64,
	}.DecMode()
})

// parse parses a COSE_Sign1 (RFC 9052, section 4.2), with its tag 18 or without:
//
//	[protected bstr {1: -35}, unprotected {}, payload bstr, signature bstr of 96 bytes]
//
// The outer structure must be in its one deterministic encoding, since the
// signature does not cover it.
func parse(b []byte) (*document, error) {
	if len(b) > maxDocument {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(b), maxDocument)
	}
	b = bytes.TrimPrefix(b, []byte{0xD2})
	r := dcbor.NewReader(b)
	r.ArrayN(4)
	d := &document{protected: r.Bytes()}
	if n := r.Map(); n > 0 {
		r.Fail("unprotected headers, want none")
	}
	d.payload, d.signature = r.Bytes(), r.BytesN(96)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("not a COSE_Sign1 in ES384: %w", err)
	}
	if !bytes.Equal(d.protected, es384) {
		return nil, fmt.Errorf("the protected header is %x, want %x, which is ES384 and no more", d.protected, es384)
	}
	mode, err := payloadMode()
	if err != nil {
		return nil, err
	}
	var f fields
	if err := mode.Unmarshal(d.payload, &f); err != nil {
		return nil, fmt.Errorf("the payload: %w", err)
	}
	return d, d.take(&f)
}

// take checks the fields by the rules of section 3.2.2.
func (d *document) take(f *fields) error {
	switch {
	case f.ModuleID == nil || *f.ModuleID == "" || len(*f.ModuleID) > maxModuleID:
		return errors.New("no module_id")
	case f.Timestamp == nil || *f.Timestamp == 0 || *f.Timestamp >= 1<<53:
		return errors.New("no timestamp, in milliseconds since 1970")
	case f.Digest == nil || *f.Digest != "SHA384":
		return errors.New(`no digest "SHA384"`)
	case len(f.PCRs) == 0 || len(f.PCRs) > maxPCR+1:
		return fmt.Errorf("%d pcrs, want 1 to %d", len(f.PCRs), maxPCR+1)
	case f.Certificate == nil || len(*f.Certificate) == 0 || len(*f.Certificate) > maxCertificate:
		return fmt.Errorf("no certificate of 1 to %d bytes", maxCertificate)
	case len(f.CABundle) == 0 || len(f.CABundle) > maxBundle:
		return fmt.Errorf("a cabundle of %d certificates, want 1 to %d", len(f.CABundle), maxBundle)
	}
	d.moduleID, d.timestamp, d.digest = *f.ModuleID, *f.Timestamp, *f.Digest
	d.certificate = f.Certificate.Bytes()
	d.pcrs = map[uint64][]byte{}
	for i, v := range f.PCRs {
		if n := len(v); i > maxPCR || n != 32 && n != 48 && n != 64 {
			return fmt.Errorf("pcr %d of %d bytes: want an index of 0 to %d, and 32, 48 or 64 bytes", i, n, maxPCR)
		}
		d.pcrs[i] = v.Bytes()
	}
	for _, c := range f.CABundle {
		if len(c) == 0 || len(c) > maxCertificate {
			return fmt.Errorf("a certificate of %d bytes in the cabundle, want 1 to %d", len(c), maxCertificate)
		}
		d.bundle = append(d.bundle, c.Bytes())
	}
	for _, o := range []struct {
		name string
		from *cbor.ByteString
		to   *[]byte
		min  int
	}{{"public_key", f.PublicKey, &d.publicKey, 1}, {"user_data", f.UserData, &d.userData, 0}, {"nonce", f.Nonce, &d.nonce, 0}} {
		if o.from == nil {
			continue // absent, or null as AWS writes it
		}
		if n := len(*o.from); n < o.min || n > maxUserData {
			return fmt.Errorf("%s of %d bytes, want %d to %d", o.name, n, o.min, maxUserData)
		}
		*o.to = o.from.Bytes()
	}
	return nil
}

// toBeSigned is the Sig_structure (RFC 9052, section 4.4).
func (d *document) toBeSigned() []byte {
	b := dcbor.AppendArray(make([]byte, 0, len(d.payload)+32), 4)
	b = dcbor.AppendText(b, "Signature1")
	b = dcbor.AppendBytes(b, d.protected)
	b = dcbor.AppendBytes(b, nil)
	return dcbor.AppendBytes(b, d.payload)
}
