package sim

import (
	"crypto/sha512"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
)

// Measure is what a simulated TEE measures of an image into a register, which
// is named as the claim is (spec chapter "Evidence"):
//
//	SHA-384( "tmcp simulated measurement v1" ‖ 00 ‖ register ‖ 00 ‖ image )
//
// image is the image's SHA-256. Registers of 32 bytes hold the first 32.
func Measure(register string, image [32]byte) [48]byte { return measure(register, image[:]) }

func measure(register string, image []byte) [48]byte {
	b := append([]byte("tmcp simulated measurement v1\x00"), register...)
	return sha512.Sum384(append(append(b, 0), image...))
}

// Measurements are the claims of a simulated TEE that depend on its image (of a
// GPU on its firmware), by name: what reference values for it are made of. It is nil for kinds that are
// not simulated.
func Measurements(k evidence.Kind, image [32]byte) map[string][]byte {
	var names []string
	size := 48
	switch k {
	case evidence.TDX:
		names = []string{"tdx.mrtd", "tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2", "tdx.rtmr3"}
	case evidence.SGX:
		names, size = []string{"sgx.mrenclave"}, 32
	case evidence.SNP:
		names = []string{"snp.measurement"}
	case evidence.Nitro:
		for i := range nitroPCRs {
			names = append(names, fmt.Sprintf("nitro.pcr%d", i))
		}
	case evidence.NVIDIA:
		names = []string{"nvidia.fwid"}
		for i := 1; i <= gpuMeasurements; i++ {
			names = append(names, fmt.Sprintf("nvidia.measurement.%d", i))
		}
	case evidence.CCA:
		names, size = []string{"cca.rim", "cca.rem0", "cca.rem1", "cca.rem2", "cca.rem3"}, 32
	default:
		return nil
	}
	out := map[string][]byte{}
	for _, n := range names {
		m := Measure(n, image)
		out[n] = m[:size]
	}
	return out
}

// nitroPCRs is how many PCRs depend on the image: the whole image, kernel and
// boot, application.
const nitroPCRs = 3
