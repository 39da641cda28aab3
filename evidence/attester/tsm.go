package attester

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/report"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/protocol"
)

// Providers of configfs-tsm, as the kernel names them
// (Documentation/ABI/testing/configfs-tsm-report).
const (
	ProviderTDX = "tdx_guest"
	ProviderSNP = "sev_guest"
	ProviderCCA = "arm_cca_guest"
)

const (
	snpReportSize = 1184
	maxOutBlob    = 40 << 10 // bytes of a quote or token
	maxAuxBlob    = 32 << 10 // bytes of a certificate table
	tries         = 3
)

// A TSM makes evidence through configfs-tsm, the kernel's interface to the TEE
// that it runs in. Safe for concurrent use; reports are made one at a time, as the
// hardware makes them.
type TSM struct {
	client configfsi.Client
	o      Options
	busy   gate
}

var _ protocol.Attester = (*TSM)(nil)

// NewTSM makes an attester over the kernel's configfs, or a fake of it.
func NewTSM(client configfsi.Client, o Options) (*TSM, error) {
	if client == nil {
		return nil, errors.New("no configfs client was given")
	}
	return &TSM{client: client, o: o, busy: make(gate, 1)}, nil
}

// Attest returns a TDX quote, an SEV-SNP report with the host's certificate
// table, or a CCA token, by what the kernel says that it is. A report that someone
// else interfered with is asked for again, three times at most.
func (t *TSM) Attest(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	item, err := t.Item(ctx, reportData)
	if err != nil {
		return nil, err
	}
	return t.o.encode(ctx, item, reportData)
}

// Item is Attest without the wrapper and what is stapled.
func (t *TSM) Item(ctx context.Context, reportData [protocol.ReportDataSize]byte) (evidence.Item, error) {
	if err := t.busy.enter(ctx); err != nil {
		return evidence.Item{}, err
	}
	defer t.busy.leave()
	var err error
	for range tries {
		if err := ctx.Err(); err != nil {
			return evidence.Item{}, err
		}
		var i evidence.Item
		if i, err = t.once(reportData); err == nil {
			return i, nil
		}
		if report.GetGenerationErr(err) == nil {
			return evidence.Item{}, fmt.Errorf("configfs-tsm: %w", err)
		}
	}
	return evidence.Item{}, fmt.Errorf("configfs-tsm: someone else wrote to the report in each of %d tries: %w", tries, err)
}

// once makes one report in an entry of its own. It is not report.Get of
// go-configfs-tsm, which asks for certificates before it knows whether the
// provider has any, and fails on TDX where there are none.
func (t *TSM) once(reportData [protocol.ReportDataSize]byte) (item evidence.Item, err error) {
	r, err := report.CreateOpenReport(t.client)
	if err != nil {
		return item, err
	}
	defer func() {
		if e := r.Destroy(); err == nil && e != nil {
			err = fmt.Errorf("remove the report: %w", e)
		}
	}()
	if err := r.WriteOption("inblob", reportData[:]); err != nil {
		return item, err
	}
	b, err := r.ReadOption("provider")
	if err != nil {
		return item, err
	}
	provider := strings.TrimSpace(string(b))
	if provider == ProviderSNP {
		// Under a paravisor the kernel runs at a VMPL above 0, and may ask for no
		// lower one.
		if floor, err := r.PrivilegeLevelFloor(); err == nil && floor > 0 && floor <= 3 {
			if err := r.WriteOption("privlevel", fmt.Append(nil, floor)); err != nil {
				return item, err
			}
		}
	}
	out, err := r.ReadOption("outblob")
	if err != nil {
		return item, err
	}
	if len(out) == 0 || len(out) > maxOutBlob {
		return item, fmt.Errorf("provider %q gave %d bytes of evidence, want 1 to %d", provider, len(out), maxOutBlob)
	}
	item.Value = out
	switch provider {
	case ProviderTDX:
		item.MediaType = evidence.TypeTDX
		return item, bound(provider, out, tdxReportData(out), reportData)
	case ProviderSNP:
		item.MediaType = evidence.TypeSNP
		if len(out) != snpReportSize {
			return item, fmt.Errorf("a report of %d bytes, want %d", len(out), snpReportSize)
		}
		if err := bound(provider, out, 0x50, reportData); err != nil {
			return item, err
		}
		// Hosts that have no certificates for the guest give an empty table or none.
		// The verifier then needs them from elsewhere.
		aux, err := r.ReadOption("auxblob")
		if report.GetGenerationErr(err) != nil {
			return item, err
		}
		if err == nil && len(aux) <= maxAuxBlob && !zero(aux) {
			item.Value = append(out[:len(out):len(out)], aux...)
		}
		return item, nil
	case ProviderCCA:
		item.MediaType = evidence.TypeCCA
		if !bytes.Contains(out, reportData[:]) { // the challenge of the realm's token
			return item, fmt.Errorf("provider %q gave evidence over other report data than was asked for", provider)
		}
		return item, nil
	}
	return item, fmt.Errorf("the kernel's provider is %q; want %s, %s or %s", provider, ProviderTDX, ProviderSNP, ProviderCCA)
}

// tdxReportData is where a TDX quote has its report data: at 520 in the body,
// which follows the header of 48 bytes and, in version 5, a descriptor of 6. It is
// -1 for what is no TDX quote.
func tdxReportData(quote []byte) int {
	if len(quote) < 48+6+584 || binary.LittleEndian.Uint32(quote[4:]) != 0x81 {
		return -1
	}
	switch binary.LittleEndian.Uint16(quote) {
	case 4:
		return 48 + 520
	case 5:
		return 48 + 6 + 520
	}
	return -1
}

// bound checks that evidence has the report data at an offset: that the kernel
// answers what was asked.
func bound(provider string, b []byte, at int, reportData [protocol.ReportDataSize]byte) error {
	if at < 0 || at+len(reportData) > len(b) {
		return fmt.Errorf("what provider %q gave (%d bytes) is no evidence that is known here", provider, len(b))
	}
	if [protocol.ReportDataSize]byte(b[at:]) != reportData {
		return fmt.Errorf("provider %q gave evidence over other report data than was asked for", provider)
	}
	return nil
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
