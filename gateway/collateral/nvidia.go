package collateral

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// NVIDIAOCSP is the responder for device certificates.
const NVIDIAOCSP = "https://ocsp.ndis.nvidia.com"

const maxGPUChain = 10 // certificates

// NVIDIA fetches an OCSP response for each certificate of a GPU's chain that
// the chain has an issuer of. The evidence is that of [evidence.TypeNVIDIA].
func (f *Fetcher) NVIDIA(ctx context.Context, value []byte) ([]evidence.Item, error) {
	r := dcbor.NewReader(value)
	r.ArrayN(2)
	r.Bytes()
	text := r.Bytes()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("%w: GPU evidence: %v", ErrUnknown, err)
	}
	chain, err := parseChain(text)
	if err != nil || len(chain) < 2 || len(chain) > maxGPUChain {
		return nil, fmt.Errorf("%w: a GPU's chain of %d certificates: %v", ErrUnknown, len(chain), err)
	}
	base := f.cfg.OCSP
	if base == "" {
		base = NVIDIAOCSP
	}
	var items []evidence.Item
	for i, c := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		body, err := ocsp.CreateRequest(c, issuer, &ocsp.RequestOptions{Hash: crypto.SHA384})
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrUnknown, err)
		}
		k := kind{accept: "application/ocsp-response", strict: true, check: func(e entry) (time.Time, error) {
			res, err := ocsp.ParseResponseForCert(e.Body, c, issuer)
			if err != nil {
				return time.Time{}, err
			}
			return res.NextUpdate, nil
		}}
		// A POST has no URL of its own: the request's bytes stand in the cache's key.
		e, err := f.through(ctx, base+"#"+hex.EncodeToString(body), k, func() (*http.Request, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, base, bytes.NewReader(body))
			if err == nil {
				req.Header.Set("Content-Type", "application/ocsp-request")
			}
			return req, err
		})
		if err != nil {
			return nil, fmt.Errorf("revocation of %q: %w", c.Subject.CommonName, err)
		}
		items = append(items, evidence.Item{MediaType: evidence.TypeOCSP, Value: e.Body})
	}
	return items, nil
}
