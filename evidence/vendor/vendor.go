// Package vendor has the roots of trust of TEE vendors that ship with this
// module. Call [Anchors] and give the result to a verifier as
// evidence.Trust.Anchors.
//
// Each root is pinned by its SHA-256 in a test. Arm CCA has no root that all
// platforms share: the keys of its platforms come from their manufacturers, so
// whoever relies on CCA adds them to Anchors.CCA.
package vendor

import "github.com/trustedmcp/tmcp/evidence"

// Anchors returns the roots of Intel (SGX and TDX), AMD (SEV-SNP), AWS (Nitro
// Enclaves) and NVIDIA (GPUs). The value is new for each call: remove vendors
// from it, or add to it, as you like.
func Anchors() *evidence.Anchors {
	return &evidence.Anchors{
		Intel:  intelRoots(),
		AMD:    amdChains(),
		AWS:    awsRoots(),
		NVIDIA: nvidiaRoots(),
	}
}
