package sim

import (
	"crypto"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// es384 is the protected header {1: -35}.
var es384 = []byte{0xa1, 0x01, 0x38, 0x22}

// sign1 is a COSE_Sign1 (RFC 9052 section 4.2) without tag, ES384.
func sign1(key *signer, payload []byte) ([]byte, error) {
	b := dcbor.AppendArray(nil, 4)
	b = dcbor.AppendText(b, "Signature1")
	b = dcbor.AppendBytes(b, es384)
	b = dcbor.AppendBytes(b, nil)
	sig, err := key.raw(crypto.SHA384, dcbor.AppendBytes(b, payload))
	if err != nil {
		return nil, err
	}
	b = dcbor.AppendArray(nil, 4)
	b = dcbor.AppendBytes(b, es384)
	b = dcbor.AppendMap(b, 0)
	b = dcbor.AppendBytes(b, payload)
	return dcbor.AppendBytes(b, sig), nil
}
