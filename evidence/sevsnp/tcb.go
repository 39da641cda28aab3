package sevsnp

import (
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
)

// The product lines, each with a root of its own. Bergamo and Siena are of the
// line Genoa.
const (
	Milan = "Milan"
	Genoa = "Genoa"
	Turin = "Turin"
)

// Product tells the product line of a processor by its combined family and model
// (AMD 57230, "Determining the Product Name"), or "" when it is not known.
func Product(family, model uint8) string {
	switch {
	case family == 0x19 && model <= 0x0F:
		return Milan
	case family == 0x19 && (model>>4 == 0x1 || model>>4 == 0xA):
		return Genoa
	case family == 0x1A && model <= 0x1F:
		return Turin
	}
	return ""
}

// A TCB is a TCB_VERSION (AMD 56860): the security versions of a platform's
// firmware. Higher is newer, part by part.
type TCB struct {
	FMC        uint8 // Turin only
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// DecodeTCB reads a TCB from its 8 bytes in a report of that product line:
//
//	Milan, Genoa: bootloader, tee, 0, 0, 0, 0, snp, microcode
//	Turin:        fmc, bootloader, tee, snp, 0, 0, 0, microcode
func DecodeTCB(product string, b [8]byte) TCB {
	if product == Turin {
		return TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}

// Encode is the reverse of [DecodeTCB].
func (t TCB) Encode(product string) [8]byte {
	if product == Turin {
		return [8]byte{t.FMC, t.Bootloader, t.TEE, t.SNP, 7: t.Microcode}
	}
	return [8]byte{t.Bootloader, t.TEE, 6: t.SNP, 7: t.Microcode}
}

// AtLeast reports whether each part of t is as new as that of min.
func (t TCB) AtLeast(min TCB) bool {
	return t.FMC >= min.FMC && t.Bootloader >= min.Bootloader && t.TEE >= min.TEE && t.SNP >= min.SNP && t.Microcode >= min.Microcode
}

func (t TCB) String() string {
	s := fmt.Sprintf("bootloader %d, tee %d, snp %d, microcode %d", t.Bootloader, t.TEE, t.SNP, t.Microcode)
	if t.FMC != 0 {
		s = fmt.Sprintf("fmc %d, ", t.FMC) + s
	}
	return s
}

// judge holds t against a minimum. AMD publishes no list of levels with dates and
// advisories, so there are none in the result, and without a minimum there is no
// judgement at all.
func (t TCB) judge(product string, min TCB) *evidence.TCB {
	out := &evidence.TCB{Status: evidence.UpToDate}
	part := func(name string, have, want uint8) {
		p := evidence.TCBPart{Name: name, Status: evidence.UpToDate}
		if have < want {
			p.Status, out.Status = evidence.OutOfDate, evidence.OutOfDate
		}
		out.Parts = append(out.Parts, p)
	}
	if product == Turin {
		part("fmc", t.FMC, min.FMC)
	}
	part("bootloader", t.Bootloader, min.Bootloader)
	part("tee", t.TEE, min.TEE)
	part("snp", t.SNP, min.SNP)
	part("microcode", t.Microcode, min.Microcode)
	return out
}
