package x509ev

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// CBOR tags of Intel's evidence (IANA, "Interoperable RA-TLS SGX / TDX Evidence
// Tags and Formats").
const (
	tagQuote  = 60000 // quote: signed, for anyone to verify
	tagReport = 60001 // TDX report or SGX report of type 2
	tagSGX    = 60002 // SGX report of EREPORT
)

// Keys of the claims-buffer.
const (
	claimPubKey = "pubkey-hash"
	claimNonce  = "nonce"
)

const (
	maxClaims = 4 << 10 // bytes of a claims-buffer
	maxNonce  = 1 << 10 // bytes of its nonce, which the format does not bound
)

// loose reads what the format defines and others write: definite lengths and
// unique keys, but not the deterministic order.
var loose = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 16, MaxMapPairs: 16,
		ByteStringToString: cbor.ByteStringToStringForbidden, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}()

// intelTag tells the tag of an item that has one of Intel's three.
func intelTag(b []byte) (uint64, bool) {
	var t cbor.RawTag
	if len(b) == 0 || b[0]>>5 != 6 || loose.Unmarshal(b, &t) != nil {
		return 0, false
	}
	return t.Number, t.Number >= tagQuote && t.Number <= tagSGX
}

// readTagged reads 60000([quote bstr, claims-buffer bstr]) and checks that the
// claims name the certificate's key.
func readTagged(cert *x509.Certificate, tag uint64, value []byte) (*Statement, error) {
	if tag != tagQuote {
		// TMCP-21.2-6: A verifier MUST refuse reports in CBOR tags 60001 and 60002, which nobody
		// outside the platform can verify.
		return nil, fmt.Errorf("CBOR tag %d holds a report, which only the platform that made it can verify: have it quoted, and use tag %d", tag, tagQuote)
	}
	parts, err := byteStrings(value, 2)
	if err != nil {
		return nil, err
	}
	quote, buffer := parts[0], parts[1]
	nonce, err := checkClaims(buffer, cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("claims-buffer: %w", err)
	}
	s, err := quoteStatement(TaggedQuote, quote)
	if err != nil {
		return nil, err
	}
	// TMCP-21.2-2: The report data of a tagged quote MUST be the SHA-256 digest of the
	// claims-buffer, followed by zeros.
	s.Nonce, s.reportData = nonce, padded(buffer)
	return s, nil
}

// readGramine reads Gramine's older extension: the bare quote, over the hash of
// the public key.
func readGramine(cert *x509.Certificate, value []byte) (*Statement, error) {
	s, err := quoteStatement(Gramine, value)
	if err != nil {
		return nil, err
	}
	s.reportData = padded(cert.RawSubjectPublicKeyInfo)
	return s, nil
}

// byteStrings reads a tagged array of n byte strings, and no more.
func byteStrings(value []byte, n int) ([][]byte, error) {
	var t cbor.RawTag
	var raw []cbor.RawMessage
	if err := loose.Unmarshal(value, &t); err != nil {
		return nil, err
	}
	if err := loose.Unmarshal(t.Content, &raw); err != nil {
		return nil, fmt.Errorf("CBOR tag %d: want an array: %w", t.Number, err)
	}
	if len(raw) != n {
		return nil, fmt.Errorf("CBOR tag %d: an array of %d, want %d", t.Number, len(raw), n)
	}
	out := make([][]byte, n)
	for i, r := range raw {
		var err error
		if out[i], err = byteString(r); err != nil {
			return nil, fmt.Errorf("CBOR tag %d: item %d: %w", t.Number, i, err)
		}
	}
	return out, nil
}

// byteString reads a byte string; an array of numbers, which the library would
// take too, is none.
func byteString(raw []byte) ([]byte, error) {
	if len(raw) == 0 || raw[0]>>5 != 2 {
		return nil, errors.New("not a byte string")
	}
	var b []byte
	return b, loose.Unmarshal(raw, &b)
}

// checkClaims reads {"pubkey-hash": bstr .cbor [alg, digest], ? "nonce": bstr}
// and compares the digest with that of spki. Other claims are ignored, as the
// format says.
func checkClaims(buffer, spki []byte) (nonce []byte, err error) {
	if len(buffer) > maxClaims {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(buffer), maxClaims)
	}
	var m map[string]cbor.RawMessage
	if err := loose.Unmarshal(buffer, &m); err != nil {
		return nil, fmt.Errorf("want a map with text keys: %w", err)
	}
	entry, ok := m[claimPubKey]
	if !ok {
		return nil, fmt.Errorf("no %q: nothing binds the evidence to this certificate's key", claimPubKey)
	}
	inner, err := byteString(entry)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", claimPubKey, err)
	}
	if err := checkHash(inner, spki); err != nil {
		return nil, fmt.Errorf("%q: %w", claimPubKey, err)
	}
	if raw, ok := m[claimNonce]; ok {
		if nonce, err = byteString(raw); err != nil {
			return nil, fmt.Errorf("%q: %w", claimNonce, err)
		}
		if len(nonce) > maxNonce {
			return nil, fmt.Errorf("%q: %d bytes; at most %d are read", claimNonce, len(nonce), maxNonce)
		}
	}
	return nonce, nil
}

// checkHash compares a hash-entry of CoSWID, [alg, digest], with that of b.
func checkHash(entry, b []byte) error {
	var raw []cbor.RawMessage
	if err := loose.Unmarshal(entry, &raw); err != nil || len(raw) != 2 {
		return errors.New("want an array of algorithm and digest")
	}
	var alg uint64
	if err := loose.Unmarshal(raw[0], &alg); err != nil {
		return fmt.Errorf("algorithm: %w", err)
	}
	got, err := byteString(raw[1])
	if err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	var want []byte
	switch alg { // Named Information Hash Algorithm Registry
	case 1:
		d := sha256.Sum256(b)
		want = d[:]
	case 7:
		d := sha512.Sum384(b)
		want = d[:]
	case 8:
		d := sha512.Sum512(b)
		want = d[:]
	default:
		return fmt.Errorf("hash algorithm %d; 1 (SHA-256), 7 (SHA-384) and 8 (SHA-512) are known", alg)
	}
	// TMCP-21.2-3: A verifier MUST refuse a tagged quote whose `pubkey-hash` is not the digest of
	// the certificate's SubjectPublicKeyInfo.
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%x is not the digest of the certificate's public key, %x: the evidence was made for another key", got, want)
	}
	return nil
}

// appendClaims writes the claims-buffer in deterministic CBOR.
func appendClaims(b, spki, nonce []byte) []byte {
	d := sha256.Sum256(spki)
	entry := dcbor.AppendUint(dcbor.AppendArray(nil, 2), 1)
	entry = dcbor.AppendBytes(entry, d[:])
	n := 1
	if nonce != nil {
		n = 2
	}
	b = dcbor.AppendMap(b, n)
	if nonce != nil { // the shorter key is first
		b = dcbor.AppendBytes(dcbor.AppendText(b, claimNonce), nonce)
	}
	return dcbor.AppendBytes(dcbor.AppendText(b, claimPubKey), entry)
}

// quoteStatement wraps a bare quote into a CMW record.
func quoteStatement(form Form, quote []byte) (*Statement, error) {
	typ, err := quoteType(quote)
	if err != nil {
		return nil, err
	}
	b, err := cmw.NewRecord(typ, quote, cmw.Evidence).Encode()
	if err != nil {
		return nil, err
	}
	return &Statement{Form: form, CMW: b, Items: []evidence.Item{{MediaType: typ, Value: quote}}}, nil
}

const quoteHeader = 48 // bytes

// quoteType tells SGX from TDX by the quote's header: version (uint16), key type
// (uint16), TEE type (uint32), little endian.
func quoteType(quote []byte) (string, error) {
	if len(quote) < quoteHeader {
		return "", fmt.Errorf("a quote of %d bytes is shorter than its header (%d)", len(quote), quoteHeader)
	}
	version, tee := binary.LittleEndian.Uint16(quote), binary.LittleEndian.Uint32(quote[4:])
	switch {
	case version == 3: // where the TEE type stands in later versions, reserved bytes
		return evidence.TypeSGX, nil
	case (version == 4 || version == 5) && tee == 0:
		return evidence.TypeSGX, nil
	case (version == 4 || version == 5) && tee == 0x81:
		return evidence.TypeTDX, nil
	}
	return "", fmt.Errorf("a quote of version %d with TEE type %#x; SGX version 3 and TDX versions 4 and 5 are known", version, tee)
}

// Endorsements are Intel's collateral as the endorsement manifest carries it:
// 60000([version uint, item bstr × 7 or 8]).
type Endorsements struct {
	Version uint64
	// Items are TCB info, its issuer chain, CRL of the PCK certificate, CRL of its
	// CA, their issuer chain, QE identity, its issuer chain and, optionally, the
	// time of creation: as text, most of them with a final NUL.
	Items [][]byte
}

// readEndorsements recognises the manifest. What it holds is signed by Intel
// item by item, and not verified here.
func readEndorsements(value []byte) (*Endorsements, error) {
	var t cbor.RawTag
	var raw []cbor.RawMessage
	if err := loose.Unmarshal(value, &t); err != nil {
		return nil, fmt.Errorf("want a CBOR tag: %w", err)
	}
	if t.Number != tagQuote {
		return nil, fmt.Errorf("CBOR tag %d; endorsements with tag %d are known", t.Number, tagQuote)
	}
	if err := loose.Unmarshal(t.Content, &raw); err != nil || len(raw) < 8 || len(raw) > 9 {
		return nil, errors.New("want an array of 8 or 9 items")
	}
	e := &Endorsements{}
	if err := loose.Unmarshal(raw[0], &e.Version); err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	for i, r := range raw[1:] {
		b, err := byteString(r)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
		e.Items = append(e.Items, b)
	}
	return e, nil
}

// spkiOf is the DER of a public key's SubjectPublicKeyInfo.
func spkiOf(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	return slices.Clip(der), err
}
