// Package attester makes evidence on real TEEs: [NewTSM] where the kernel has
// configfs-tsm (Intel TDX, AMD SEV-SNP, Arm CCA), [NewNSM] in AWS Nitro Enclaves.
// The devices are given as interfaces, so nothing here does I/O; package
// gateway/tee finds and opens those of the machine.
//
// What comes back from a device is looked at only as far as needed to tell what it
// is, and that it binds what was asked for. Verifying it is the peer's business.
package attester

import (
	"context"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/bundle"
	"github.com/trustedmcp/tmcp/protocol"
)

// Options are those of all attesters. The zero value is ready for use.
type Options struct {
	// Staple returns endorsements to send along with evidence, such as Intel's
	// collateral. Its error is the attester's. Nil: none.
	Staple func(ctx context.Context, i evidence.Item) ([]evidence.Item, error)
	// GPUs returns the evidence of GPUs for report data, in their order, each bound
	// by nvidia.GPUNonce. Nil: none.
	GPUs func(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]evidence.Item, error)
}

// gate lets one caller at a time to a device, as long as its context lasts.
type gate chan struct{}

func (g gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

// encode makes a CMW of the CPU's evidence and what goes along with it.
func (o *Options) encode(ctx context.Context, cpu evidence.Item, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	var endorsements, gpus []evidence.Item
	var err error
	if o.Staple != nil {
		if endorsements, err = o.Staple(ctx, cpu); err != nil {
			return nil, fmt.Errorf("endorsements for the evidence: %w", err)
		}
	}
	if o.GPUs != nil {
		if gpus, err = o.GPUs(ctx, reportData); err != nil {
			return nil, fmt.Errorf("evidence of the GPUs: %w", err)
		}
	}
	return bundle.Encode(cpu, endorsements, gpus)
}
