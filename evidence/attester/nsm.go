package attester

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/protocol"
)

// A Module is a Nitro Security Module, the device /dev/nsm of an enclave.
type Module interface {
	// Send sends a request in CBOR, of at most nitro.MaxRequest bytes, and returns
	// the response, of at most nitro.MaxResponse bytes.
	Send(request []byte) (response []byte, err error)
}

// An NSM makes attestation documents of AWS Nitro Enclaves. Safe for concurrent
// use; documents are made one at a time.
type NSM struct {
	module Module
	o      Options
	busy   gate
}

var _ protocol.Attester = (*NSM)(nil)

// NewNSM makes an attester over a Nitro Security Module, or a fake of one.
func NewNSM(m Module, o Options) (*NSM, error) {
	if m == nil {
		return nil, errors.New("no Nitro Security Module was given")
	}
	return &NSM{module: m, o: o, busy: make(gate, 1)}, nil
}

// Attest returns a document whose user_data is the report data.
func (n *NSM) Attest(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	document, err := n.document(ctx, reportData)
	if err != nil {
		return nil, fmt.Errorf("the Nitro Security Module: %w", err)
	}
	return n.o.encode(ctx, evidence.Item{MediaType: evidence.TypeNitro, Value: document}, reportData)
}

func (n *NSM) document(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	if err := n.busy.enter(ctx); err != nil {
		return nil, err
	}
	defer n.busy.leave()
	b, err := n.module.Send(nitro.AttestationRequest(reportData[:], nil, nil))
	if err != nil {
		return nil, err
	}
	r, err := nitro.ParseResponse(b)
	if err != nil {
		return nil, err
	}
	if r.Document == nil {
		return nil, errors.New("it answered with something else than a document")
	}
	if !bytes.Contains(r.Document, reportData[:]) {
		return nil, errors.New("the document is over other report data than was asked for")
	}
	return r.Document, nil
}
