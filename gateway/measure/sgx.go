package measure

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/trustedmcp/tmcp/evidence"
)

// SIGSTRUCTSize is that of an SGX enclave's signature structure, in bytes.
const SIGSTRUCTSize = 1808

var (
	sigHeader1 = []byte{0x06, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}
	sigHeader2 = []byte{0x01, 0x01, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0}
)

// SIGSTRUCT reads MRENCLAVE, MRSIGNER, ISVPRODID and ISVSVN off an enclave's
// signature structure (Intel SDM volume 3D, section 38.13), as in the .sig files
// of Gramine and the dumps of sgx_sign, and verifies its signature: RSA-3072
// with exponent 3, PKCS #1 v1.5, SHA-256 over bytes 0 to 127 and 900 to 1027.
// Whether the signer is one to rely on is not said by that.
func SIGSTRUCT(b []byte) (*Reference, error) {
	if len(b) != SIGSTRUCTSize {
		return nil, fmt.Errorf("SIGSTRUCT of %d bytes, want %d", len(b), SIGSTRUCTSize)
	}
	if !bytes.Equal(b[:16], sigHeader1) || !bytes.Equal(b[24:40], sigHeader2) {
		return nil, errors.New("SIGSTRUCT: a wrong header; want the structure itself, not the enclave that it signs")
	}
	if e := binary.LittleEndian.Uint32(b[512:]); e != 3 {
		return nil, fmt.Errorf("SIGSTRUCT: exponent %d, want 3", e)
	}
	for _, z := range [][]byte{b[44:128], b[910:912], b[992:1008], b[1028:1040]} {
		if slices.ContainsFunc(z, func(c byte) bool { return c != 0 }) {
			return nil, errors.New("SIGSTRUCT: reserved bytes are not zero")
		}
	}
	modulus := b[128:512]
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(reversed(modulus)), E: 3}
	digest := sha256.New()
	digest.Write(b[:128])
	digest.Write(b[900:1028])
	if key.N.BitLen() != 3072 {
		return nil, fmt.Errorf("SIGSTRUCT: a modulus of %d bits, want 3072", key.N.BitLen())
	}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest.Sum(nil), reversed(b[516:900])); err != nil {
		return nil, errors.New("SIGSTRUCT: the signature is wrong: the file is damaged, or was changed after signing")
	}
	signer := sha256.Sum256(modulus)
	ref := &Reference{Kind: evidence.SGX, Values: map[string]any{
		"sgx.mrenclave": bytes.Clone(b[960:992]),
		"sgx.mrsigner":  signer[:],
		"sgx.isvprodid": uint64(binary.LittleEndian.Uint16(b[1024:])),
		"sgx.isvsvn":    uint64(binary.LittleEndian.Uint16(b[1026:])),
	}}
	if b[928]&b[944]&2 != 0 {
		ref.Notes = append(ref.Notes, "the enclave is signed for debug: anyone can read it")
	} else if b[944]&2 == 0 {
		ref.Notes = append(ref.Notes, "the signature allows debug launches; verification refuses those")
	}
	return ref, nil
}

// reversed makes big-endian of little-endian.
func reversed(b []byte) []byte {
	r := bytes.Clone(b)
	slices.Reverse(r)
	return r
}
