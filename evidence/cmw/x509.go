package cmw

import (
	"encoding/asn1"
	"errors"
	"fmt"
)

// OID identifies the X.509 extension id-pe-cmw (RFC 9999 section 4.4). It
// should not be critical, unless access depends on it.
var OID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}

// EncodeExtension returns the value of an extension that holds cmw as it is:
// CHOICE { json UTF8String, cbor OCTET STRING } in DER.
func EncodeExtension(cmw []byte) ([]byte, error) {
	tag := asn1.TagOctetString
	switch Demux(cmw) {
	case JSONRecord, JSONCollection:
		tag = asn1.TagUTF8String
	}
	if _, err := Parse(cmw); err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Tag: tag, Bytes: cmw})
}

// DecodeExtension returns the CMW in the value of an extension, as bytes and
// read. CBOR collections may be unsorted; see [ParseUnsorted].
func DecodeExtension(der []byte) ([]byte, *CMW, error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("cmw: extension: %w", err)
	case len(rest) > 0:
		return nil, nil, errors.New("cmw: extension: bytes after the value")
	case v.Class != asn1.ClassUniversal || v.IsCompound:
		return nil, nil, errors.New("cmw: extension: want a UTF8String or an OCTET STRING")
	}
	var c *CMW
	switch v.Tag {
	case asn1.TagUTF8String:
		c, err = ParseJSON(v.Bytes)
	case asn1.TagOctetString:
		c, err = ParseUnsorted(v.Bytes)
	default:
		err = errors.New("cmw: extension: want a UTF8String or an OCTET STRING")
	}
	if err != nil {
		return nil, nil, err
	}
	return v.Bytes, c, nil
}
