package measure

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/evidence"
)

// A VMM is the hypervisor that launches a guest. They differ in the registers
// that they start a CPU with, and in what they measure when.
type VMM string

// The VMMs.
const (
	QEMU VMM = "qemu"
	EC2  VMM = "ec2"
	GCE  VMM = "gce"
)

// An SNPLaunch is what goes into the launch digest of an SEV-SNP guest.
type SNPLaunch struct {
	Firmware []byte // OVMF with the SEV metadata
	VCPUs    int
	VCPUType string // QEMU's CPU model, one of VCPUTypes; only for QEMU
	VMM      VMM    // default QEMU
	// Features are SEV_FEATURES of the VMSA, bit 0 (SNP) set. Default 1.
	Features uint64
	// Kernel, initrd and command line for direct boot: their SHA-256, from
	// [HashBoot]. Nil: the firmware boots a disk.
	Boot *BootHashes
}

// BootHashes are SHA-256 digests.
type BootHashes struct{ Kernel, Initrd, Cmdline [32]byte }

// CmdlineHash is the digest of a kernel command line, as QEMU measures it: with
// the NUL behind it.
func CmdlineHash(cmdline string) [32]byte { return sha256.Sum256(append([]byte(cmdline), 0)) }

// VCPUTypes are CPU models of QEMU with the CPUID signature that a guest's CPUs
// start with.
var VCPUTypes = map[string]uint32{
	"EPYC": signature(23, 1, 2), "EPYC-v4": signature(23, 1, 2), "EPYC-Rome": signature(23, 49, 0),
	"EPYC-Milan": signature(25, 1, 1), "EPYC-Milan-v2": signature(25, 1, 1),
	"EPYC-Genoa": signature(25, 17, 0), "EPYC-Turin": signature(26, 0, 0),
}

// signature is CPUID Fn0000_0001 EAX of an AMD processor.
func signature(family, model, stepping uint32) uint32 {
	return (family-15)<<20 | model>>4<<16 | 15<<8 | model&15<<4 | stepping
}

const (
	page        = 4096
	maxFirmware = 64 << 20
	maxVCPUs    = 4096
	resetVector = 0xfffffff0
)

// A launch is the digest as it grows (SEV-SNP firmware ABI, section 8.17.2).
type launch [sha512.Size384]byte

// Page types of PAGE_INFO.
const (
	pageNormal     = 1
	pageVMSA       = 2
	pageZero       = 3
	pageUnmeasured = 4
	pageSecrets    = 5
	pageCPUID      = 6
)

func (l *launch) update(kind byte, gpa uint64, contents [sha512.Size384]byte) {
	info := make([]byte, 0, 0x70)
	info = append(append(info, l[:]...), contents[:]...)
	info = binary.LittleEndian.AppendUint16(info, 0x70)
	info = append(info, kind, 0, 0, 0, 0, 0) // no migration image, no VMPL permissions
	info = binary.LittleEndian.AppendUint64(info, gpa)
	*l = sha512.Sum384(info)
}

func (l *launch) pages(gpa uint64, data []byte) {
	for p := range slices.Chunk(data, page) {
		l.update(pageNormal, gpa, sha512.Sum384(p))
		gpa += page
	}
}

func (l *launch) empty(kind byte, gpa, size uint64) {
	for end := gpa + size; gpa < end; gpa += page {
		l.update(kind, gpa, [sha512.Size384]byte{})
	}
}

// SNP computes snp.measurement of a guest that boots with OVMF: the firmware's
// pages, what its metadata has the VMM add, and the initial state of the CPUs.
func SNP(s SNPLaunch) (*Reference, error) {
	if s.VMM == "" {
		s.VMM = QEMU
	}
	if s.Features == 0 {
		s.Features = 1
	}
	var rdx uint32 = 0x600
	switch s.VMM {
	case QEMU:
		var ok bool
		if rdx, ok = VCPUTypes[s.VCPUType]; !ok {
			return nil, fmt.Errorf("vCPU type %q: want the CPU model that QEMU was started with, as EPYC-v4 or EPYC-Milan", s.VCPUType)
		}
	case EC2, GCE:
	default:
		return nil, fmt.Errorf("VMM %q: want qemu, ec2 or gce", s.VMM)
	}
	if s.VCPUs < 1 || s.VCPUs > maxVCPUs {
		return nil, fmt.Errorf("%d vCPUs: want 1 to %d", s.VCPUs, maxVCPUs)
	}
	fw, err := parseOVMF(s.Firmware)
	if err != nil {
		return nil, err
	}
	var l launch
	l.pages(1<<32-uint64(len(s.Firmware)), s.Firmware)
	if err := l.metadata(fw, &s); err != nil {
		return nil, err
	}
	for i := range s.VCPUs {
		eip := uint32(resetVector)
		if i > 0 {
			if eip = fw.reset; eip == 0 {
				return nil, errors.New("the firmware has no SEV-ES reset block, which guests of more than one vCPU need")
			}
		}
		// The VMSA lies at the top of what the RMP can address.
		l.update(pageVMSA, 0xfffffffff000, sha512.Sum384(vmsa(eip, s.VMM, rdx, s.Features)))
	}
	return &Reference{Kind: evidence.SNP, Values: map[string]any{"snp.measurement": l[:]}}, nil
}

// metadata adds the pages that the firmware asks for.
func (l *launch) metadata(fw *ovmf, s *SNPLaunch) error {
	hashes := false
	for _, sec := range fw.sections {
		gpa, size := uint64(sec.gpa), uint64(sec.size)
		switch sec.kind {
		case 1: // memory to validate
			if s.VMM == GCE {
				l.empty(pageUnmeasured, gpa, size)
			} else {
				l.empty(pageZero, gpa, size)
			}
		case 2:
			l.update(pageSecrets, gpa, [sha512.Size384]byte{})
		case 3:
			if s.VMM != EC2 {
				l.update(pageCPUID, gpa, [sha512.Size384]byte{})
			}
		case 4: // SVSM calling area
			l.empty(pageZero, gpa, size)
		case 0x10: // hashes of kernel, initrd and command line
			hashes = true
			if s.Boot == nil {
				l.empty(pageZero, gpa, size)
				continue
			}
			table := s.Boot.table()
			off := fw.hashTable % page
			if fw.hashTable == 0 || size != page || int(off)+len(table) > page {
				return errors.New("the firmware's place for boot hashes is not as expected")
			}
			p := make([]byte, page)
			copy(p[off:], table)
			l.pages(gpa, p)
		default:
			return fmt.Errorf("the firmware's SEV metadata has a section of unknown type %d", sec.kind)
		}
	}
	if s.VMM == EC2 { // which adds the CPUID page last
		for _, sec := range fw.sections {
			if sec.kind == 3 {
				l.update(pageCPUID, uint64(sec.gpa), [sha512.Size384]byte{})
			}
		}
	}
	if s.Boot != nil && !hashes {
		return errors.New("the firmware has no place for boot hashes: it is not built for measured direct boot (OVMF's AmdSev package is)")
	}
	return nil
}

// GUIDs in OVMF and in the table of boot hashes.
var (
	guidFooter    = guid("96b582de-1fb2-45f7-baea-a366c55a082d")
	guidHashTable = guid("7255371f-3a3b-4b04-927b-1da6efa8d454")
	guidReset     = guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
	guidMetadata  = guid("dc886566-984a-4798-a75e-5585a7bf67cc")

	guidHashes  = guid("9438d606-4f22-4cc9-b479-a793d411fd21")
	guidKernel  = guid("4de79437-abd2-427f-b835-d5b172d2045b")
	guidInitrd  = guid("44baf731-3a2f-4bd7-9af1-41e29169781d")
	guidCmdline = guid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
)

// guid makes the bytes of a GUID: its first three numbers are little endian.
func guid(s string) (g [16]byte) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || copy(g[:], b) != 16 {
		panic("measure: a GUID is mistyped")
	}
	slices.Reverse(g[:4])
	slices.Reverse(g[4:6])
	slices.Reverse(g[6:8])
	return g
}

// table is what QEMU writes for the firmware to check the boot files by.
func (h *BootHashes) table() []byte {
	entry := func(b []byte, id [16]byte, sum [32]byte) []byte {
		b = binary.LittleEndian.AppendUint16(append(b, id[:]...), 50)
		return append(b, sum[:]...)
	}
	b := binary.LittleEndian.AppendUint16(append([]byte(nil), guidHashes[:]...), 168)
	b = entry(b, guidCmdline, h.Cmdline)
	b = entry(b, guidInitrd, h.Initrd)
	b = entry(b, guidKernel, h.Kernel)
	return append(b, make([]byte, 8)...) // to a multiple of 16
}

// ovmf is what the launch needs of a firmware image.
type ovmf struct {
	reset     uint32 // where further CPUs start; 0: not said
	hashTable uint32 // where boot hashes go; 0: nowhere
	sections  []ovmfSection
}

type ovmfSection struct{ gpa, size, kind uint32 }

// parseOVMF reads the table of GUIDs that ends 32 bytes before the end of the
// image, entries before their own size and name, last first.
func parseOVMF(b []byte) (*ovmf, error) {
	const head, tail = 18, 32
	if len(b) < 2*page || len(b) > maxFirmware || len(b)%page != 0 {
		return nil, fmt.Errorf("firmware of %d bytes: want whole pages of %d, up to %d bytes", len(b), page, maxFirmware)
	}
	at := len(b) - tail
	if !bytes.Equal(b[at-16:at], guidFooter[:]) {
		return nil, errors.New("the firmware has no table of GUIDs at its end: it is no OVMF for SEV")
	}
	total := int(binary.LittleEndian.Uint16(b[at-head:]))
	if total < head || total > at {
		return nil, errors.New("the firmware's table of GUIDs has a wrong size")
	}
	table := b[at-total : at-head]
	fw := &ovmf{}
	metadata := -1
	for len(table) >= head {
		size := int(binary.LittleEndian.Uint16(table[len(table)-head:]))
		id := [16]byte(table[len(table)-16:])
		if size < head || size > len(table) {
			return nil, errors.New("the firmware's table of GUIDs has an entry of a wrong size")
		}
		data := table[len(table)-size : len(table)-head]
		table = table[:len(table)-size]
		var into *uint32
		var off uint32
		switch id {
		case guidReset:
			into = &fw.reset
		case guidHashTable:
			into = &fw.hashTable
		case guidMetadata:
			into = &off
		default:
			continue
		}
		if len(data) < 4 {
			return nil, errors.New("the firmware's table of GUIDs has an entry without its address")
		}
		if *into = binary.LittleEndian.Uint32(data); id == guidMetadata {
			if int64(off) > int64(len(b)) || off < 16 {
				return nil, errors.New("the firmware's SEV metadata lies outside of it")
			}
			metadata = len(b) - int(off)
		}
	}
	if metadata < 0 {
		return nil, errors.New("the firmware has no SEV metadata: it is too old for SEV-SNP")
	}
	m := b[metadata:]
	if string(m[:4]) != "ASEV" || binary.LittleEndian.Uint32(m[8:]) != 1 {
		return nil, errors.New("the firmware's SEV metadata is not of version 1")
	}
	n := binary.LittleEndian.Uint32(m[12:])
	if uint64(n)*12 > uint64(len(m)-16) || n > 64 {
		return nil, fmt.Errorf("the firmware's SEV metadata has %d sections, more than fit", n)
	}
	for i := range int(n) {
		d := m[16+12*i:]
		s := ovmfSection{binary.LittleEndian.Uint32(d), binary.LittleEndian.Uint32(d[4:]), binary.LittleEndian.Uint32(d[8:])}
		if s.gpa%page != 0 || s.size%page != 0 || s.size > 1<<30 {
			return nil, fmt.Errorf("section %d of the firmware's SEV metadata is not of whole pages, or larger than 1 GiB", i)
		}
		fw.sections = append(fw.sections, s)
	}
	return fw, nil
}

// vmsa is the state that a CPU starts with (AMD APM volume 2, table B-4).
func vmsa(eip uint32, vmm VMM, rdx uint32, features uint64) []byte {
	b := make([]byte, page)
	u16 := func(at int, v uint16) { binary.LittleEndian.PutUint16(b[at:], v) }
	u32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	u64 := func(at int, v uint64) { binary.LittleEndian.PutUint64(b[at:], v) }
	seg := func(at int, selector, attrib uint16, base uint64) {
		u16(at, selector)
		u16(at+2, attrib)
		u32(at+4, 0xffff)
		u64(at+8, base)
	}
	var cs, ss, tr uint16 = 0x9b, 0x93, 0x8b
	var pat uint64 = 0x0007040600070406
	var mxcsr uint32 = 0x1f80
	var fcw uint16 = 0x37f
	switch vmm {
	case EC2:
		if eip == resetVector {
			cs = 0x9a
		}
		ss, tr, mxcsr, fcw = 0x92, 0x83, 0, 0
	case GCE:
		pat, mxcsr, fcw = 0x00070106, 0, 0
	}
	seg(0x00, 0, 0x93, 0)                         // ES
	seg(0x10, 0xf000, cs, uint64(eip&0xffff0000)) // CS
	seg(0x20, 0, ss, 0)                           // SS
	for _, at := range []int{0x30, 0x40, 0x50} {  // DS, FS, GS
		seg(at, 0, 0x93, 0)
	}
	seg(0x60, 0, 0, 0)             // GDTR
	seg(0x70, 0, 0x82, 0)          // LDTR
	seg(0x80, 0, 0, 0)             // IDTR
	seg(0x90, 0, tr, 0)            // TR
	u64(0xd0, 0x1000)              // EFER: SVME, which KVM sets
	u64(0x148, 0x40)               // CR4: MCE
	u64(0x158, 0x10)               // CR0: ET
	u64(0x160, 0x400)              // DR7
	u64(0x168, 0xffff0ff0)         // DR6
	u64(0x170, 2)                  // RFLAGS
	u64(0x178, uint64(eip&0xffff)) // RIP
	u64(0x268, pat)                // G_PAT
	u64(0x310, uint64(rdx))        // RDX: CPUID signature
	u64(0x3b0, features)           // SEV_FEATURES
	u64(0x3e8, 1)                  // XCR0
	u32(0x408, mxcsr)
	u16(0x410, fcw)
	return b
}
