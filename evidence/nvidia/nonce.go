package nvidia

import (
	"crypto/sha256"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// GPUNonce returns the nonce with which the attester of a confidential machine
// must ask its GPU number index (from 0) for a report, so that the report
// belongs to the evidence of the CPU that binds reportData (64 bytes):
//
//	SHA-256( deterministic CBOR [ "org.trustedmcp/trust v1 gpu nonce", report data bstr, index uint ] )
//
// A negative index counts as 0.
func GPUNonce(reportData []byte, index int) [32]byte {
	b := dcbor.AppendArray(make([]byte, 0, 128), 3)
	b = dcbor.AppendText(b, "org.trustedmcp/trust v1 gpu nonce")
	b = dcbor.AppendBytes(b, reportData)
	b = dcbor.AppendUint(b, uint64(max(index, 0)))
	return sha256.Sum256(b)
}
