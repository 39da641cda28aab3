package sevsnp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
)

// ReportSize is the size of an attestation report in bytes. What follows it is a
// certificate table.
const ReportSize = abi.ReportSize

// Bits of POLICY (AMD 56860, table "Guest policy").
const (
	policySMT              = 1 << 16
	policyMigrationAgent   = 1 << 18
	policyDebug            = 1 << 19
	policySingleSocket     = 1 << 20
	policyCXL              = 1 << 21
	policyAES256XTS        = 1 << 22
	policyRAPLDisabled     = 1 << 23
	policyCiphertextHiding = 1 << 24
	policyPageSwapDisabled = 1 << 25
)

// Bits of PLATFORM_INFO (AMD 56860, table "ATTESTATION_REPORT structure").
const (
	platformSMT              = 1 << 0
	platformTSME             = 1 << 1
	platformECC              = 1 << 2
	platformRAPLDisabled     = 1 << 3
	platformCiphertextHiding = 1 << 4
	platformAliasCheck       = 1 << 5
	platformIOMMUWriteSafe   = 1 << 6
	platformTIO              = 1 << 7
	platformKnown            = 1<<8 - 1
)

// A report is an attestation report (AMD 56860, MSG_REPORT_REQ), parsed and
// known to be well formed, but not verified.
type report struct {
	*spb.Report
	raw []byte // ReportSize bytes
}

// parseReport parses the first [ReportSize] bytes of b. All integers are little
// endian:
//
//	0x000  4 version        0x050 64 report data       0x188  3 family, model, stepping (version 3)
//	0x004  4 guest SVN      0x090 48 measurement       0x1A0 64 chip id
//	0x008  8 policy         0x0C0 32 host data         0x1E0  8 committed TCB
//	0x010 16 family id      0x0E0 48 id key digest     0x1E8  6 current and committed firmware version
//	0x020 16 image id       0x110 48 author key digest 0x1F0  8 launch TCB
//	0x030  4 VMPL           0x140 32 report id         0x1F8 16 mitigation vectors (version 5)
//	0x034  4 signature alg. 0x160 32 report id of the  0x208    zero
//	0x038  8 current TCB             migration agent   0x2A0 72 r, then 72 s
//	0x040  8 platform info  0x180  8 reported TCB      0x330    zero
//	0x048  4 signer info
func parseReport(b []byte) (*report, error) {
	if len(b) < ReportSize {
		return nil, fmt.Errorf("%d bytes, want a report of %d", len(b), ReportSize)
	}
	raw := b[:ReportSize]
	version := binary.LittleEndian.Uint32(raw)
	if version < abi.MinSupportedReportVersion || version > abi.MaxSupportedReportVersion {
		return nil, fmt.Errorf("version %d, want %d to %d: the layout of others is not known", version, abi.MinSupportedReportVersion, abi.MaxSupportedReportVersion)
	}
	p, err := abi.ReportToProto(raw)
	if err != nil {
		return nil, err
	}
	if version < abi.ReportVersion5 && p.LaunchMitVector|p.CurrentMitVector != 0 {
		return nil, fmt.Errorf("version %d with mitigation vectors, which version 5 brought: want zeros", version)
	}
	// What the parser leaves out would not come back.
	if again, err := abi.ReportToAbiBytes(p); err != nil || !bytes.Equal(again, raw) {
		return nil, errors.New("reserved bits are set, want zeros")
	}
	return &report{p, raw}, nil
}

// signer is SIGNING_KEY, bits 4:2 of the signer info.
func (r *report) signer() abi.ReportSigner { return abi.ReportSigner(r.SignerInfo >> 2 & 7) }

// tcbs are the TCB versions as they stand in the report, 8 bytes each.
func (r *report) currentTCB() []byte   { return r.raw[0x38:0x40] }
func (r *report) reportedTCB() []byte  { return r.raw[0x180:0x188] }
func (r *report) committedTCB() []byte { return r.raw[0x1E0:0x1E8] }
func (r *report) launchTCB() []byte    { return r.raw[0x1F0:0x1F8] }

// model tells the combined family and model of the processor. Version 2 does not
// carry it.
func (r *report) model() (family, model uint8, ok bool) {
	return r.raw[0x188], r.raw[0x189], r.Version >= abi.ReportVersion3
}

// firmware formats the versions of the firmware: current and committed, in which
// they stand as build, minor, major.
func (r *report) firmware() (current, committed string) {
	return fmt.Sprintf("%d.%d.%d", r.CurrentMajor, r.CurrentMinor, r.CurrentBuild),
		fmt.Sprintf("%d.%d.%d", r.CommittedMajor, r.CommittedMinor, r.CommittedBuild)
}
