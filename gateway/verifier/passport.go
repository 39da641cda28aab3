package verifier

import (
	"context"
	"time"

	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/protocol"
)

// Passport is an attester that has the verifier appraise what a makes, and shows
// the result in place of the evidence (RFC 9334 section 5.1): peers need to know
// the verifier's key only.
func (c *Client) Passport(a protocol.Attester, clock func() time.Time) protocol.Attester {
	return &passport{c, a, clock}
}

type passport struct {
	client *Client
	inner  protocol.Attester
	clock  func() time.Time
}

func (p *passport) Attest(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	evidence, err := p.inner.Attest(ctx, reportData)
	if err != nil {
		return nil, err
	}
	r, err := p.client.Appraise(ctx, protocol.Evidence{CMW: evidence, ReportData: reportData, Now: p.clock()})
	if err != nil {
		return nil, err
	}
	return cmw.NewRecord(appraise.MediaType(token.EAR), r.Result, cmw.AttestationResults).Encode()
}
