package measure

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"crypto/sha256"
)

// firmware makes what SNP looks at of an OVMF image: two pages of contents, a
// page with the SEV metadata, and the table of GUIDs. The sections are those of
// OVMF's AmdSev package.
func firmware(sections ...ovmfSection) []byte {
	b := make([]byte, 4*page)
	for i := range b[:2*page] {
		b[i] = byte(i * 7)
	}
	meta := b[2*page:]
	copy(meta, "ASEV")
	le := binary.LittleEndian
	le.PutUint32(meta[4:], uint32(16+12*len(sections)))
	le.PutUint32(meta[8:], 1)
	le.PutUint32(meta[12:], uint32(len(sections)))
	for i, s := range sections {
		le.PutUint32(meta[16+12*i:], s.gpa)
		le.PutUint32(meta[20+12*i:], s.size)
		le.PutUint32(meta[24+12*i:], s.kind)
	}
	var table []byte
	entry := func(id [16]byte, data []byte) {
		table = append(table, data...)
		table = append(le.AppendUint16(table, uint16(len(data)+18)), id[:]...)
	}
	entry(guid("00010203-0405-0607-0809-0a0b0c0d0e0f"), []byte("of no interest"))
	entry(guidReset, le.AppendUint32(nil, 0x80b004))
	entry(guidHashTable, le.AppendUint32(nil, 0x810c00))
	entry(guidMetadata, le.AppendUint32(nil, 2*page))
	total := len(table) + 18
	table = append(le.AppendUint16(table, uint16(total)), guidFooter[:]...)
	copy(b[len(b)-32-len(table):], table)
	return b
}

var sections = []ovmfSection{
	{0x800000, 0x9000, 1}, {0x80a000, 0x3000, 1}, {0x80d000, 0x1000, 2}, {0x80e000, 0x1000, 3},
	{0x810000, 0x1000, 0x10}, {0x811000, 0xf000, 1},
}

var boot = &BootHashes{sha256.Sum256([]byte("kernel")), sha256.Sum256([]byte("initrd")), CmdlineHash("console=ttyS0 loglevel=7")}

// TestSNP compares with the launch digests that sev-snp-measure 0.0.13 computes
// for the same firmware.
func TestSNP(t *testing.T) {
	fw := firmware(sections...)
	noHashes := firmware(sections[:4]...)
	for _, tt := range []struct {
		name string
		in   SNPLaunch
		want string
	}{
		{"QEMU", SNPLaunch{Firmware: fw, VCPUs: 1, VCPUType: "EPYC-v4", Boot: boot},
			"7afa308b1433c558a7652c75c61419545efaf38031017ea503f1a83564f8869b62a71f1b392ace678c87947dd4c559de"},
		{"QEMU, 4 CPUs, restricted injection", SNPLaunch{Firmware: fw, VCPUs: 4, VCPUType: "EPYC-Milan", Features: 0x21, Boot: boot},
			"d5f694daf109a067e7b77c4bb1e2a311d2fb09c36577cc93671317c2c134f9e2a0471e21722531fece27e3437c14d02a"},
		{"QEMU, Turin, no boot files", SNPLaunch{Firmware: fw, VCPUs: 2, VCPUType: "EPYC-Turin"},
			"efee6dd33dc49590c0f8dfe5aa3c99bb215ab01d732d8eed8b4523cd36dad1cf96859dee59f12f991bf311ea54f213c6"},
		{"QEMU, Genoa, no place for them", SNPLaunch{Firmware: noHashes, VCPUs: 2, VCPUType: "EPYC-Genoa"},
			"fca3a5fd4d767e77c9276012e377eb3c774f08667a17c9cef4be82691f283fffd2dcf5a8c39286a04ca752bb4402484d"},
		{"EC2", SNPLaunch{Firmware: fw, VCPUs: 2, VMM: EC2},
			"d2656235154b4697b537af6dcc3b143880f104b20cbde38e12e40bea87731af921c5c0d65fb19a7f7611429b6f40fa03"},
		{"GCE", SNPLaunch{Firmware: fw, VCPUs: 2, VMM: GCE, Boot: boot},
			"79840bb8ab1b20d4634edd0b4dfeadcbbb7433969206b4d508c16f9639915a873e7c4385d6ee9e3163fda6e2626a99fc"},
	} {
		ref, err := SNP(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := hex.EncodeToString(ref.Values["snp.measurement"].([]byte)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestSNPRefuses(t *testing.T) {
	fw := firmware(sections...)
	edit := func(at int, b ...byte) []byte {
		c := bytes.Clone(fw)
		if at < 0 {
			at += len(c)
		}
		copy(c[at:], b)
		return c
	}
	for _, tt := range []struct {
		name string
		in   SNPLaunch
		want string
	}{
		{"no firmware", SNPLaunch{VCPUs: 1, VMM: EC2}, "firmware of 0 bytes"},
		{"half a page", SNPLaunch{Firmware: fw[1:], VCPUs: 1, VMM: EC2}, "whole pages"},
		{"no table", SNPLaunch{Firmware: edit(-48, 0), VCPUs: 1, VMM: EC2}, "no table of GUIDs"},
		{"table too long", SNPLaunch{Firmware: edit(-50, 0xff, 0xff), VCPUs: 1, VMM: EC2}, "wrong size"},
		{"entry too long", SNPLaunch{Firmware: edit(-68, 0xff), VCPUs: 1, VMM: EC2}, "entry of a wrong size"},
		{"entry too short", SNPLaunch{Firmware: edit(-68, 1), VCPUs: 1, VMM: EC2}, "entry of a wrong size"},
		{"metadata outside", SNPLaunch{Firmware: edit(-72, 0, 0, 1, 0), VCPUs: 1, VMM: EC2}, "outside of it"},
		{"metadata elsewhere", SNPLaunch{Firmware: edit(-72, 0, 0x30), VCPUs: 1, VMM: EC2}, "not of version 1"},
		{"too many sections", SNPLaunch{Firmware: edit(2*page+12, 0xff, 0xff), VCPUs: 1, VMM: EC2}, "more than fit"},
		{"unknown section", SNPLaunch{Firmware: firmware(ovmfSection{0, page, 7}), VCPUs: 1, VMM: EC2}, "unknown type 7"},
		{"section of half a page", SNPLaunch{Firmware: firmware(ovmfSection{0, 100, 1}), VCPUs: 1, VMM: EC2}, "not of whole pages"},
		{"huge section", SNPLaunch{Firmware: firmware(ovmfSection{0, 0xfffff000, 1}), VCPUs: 1, VMM: EC2}, "larger than 1 GiB"},
		{"boot files without place", SNPLaunch{Firmware: firmware(sections[0]), VCPUs: 1, VMM: EC2, Boot: boot}, "no place for boot hashes"},
		{"no CPU", SNPLaunch{Firmware: fw, VMM: EC2}, "0 vCPUs"},
		{"unknown CPU", SNPLaunch{Firmware: fw, VCPUs: 1, VCPUType: "Pentium"}, "vCPU type"},
		{"unknown VMM", SNPLaunch{Firmware: fw, VCPUs: 1, VMM: "xen"}, "want qemu"},
	} {
		if _, err := SNP(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzSNP(f *testing.F) {
	f.Add(firmware(sections...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if fw, err := parseOVMF(b); err == nil && len(fw.sections) > 64 {
			t.Error("too many sections")
		}
	})
}
