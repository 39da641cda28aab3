package aicc

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	evaicc "github.com/trustedmcp/tmcp/evidence/aicc"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// A LocalHandler answers clients that ask the server itself for its key
// ("ra_type": "local"). Clients of the published package take the key without a
// look at anything else; ours appraise the quote.
type LocalHandler struct {
	Public func() *rsa.PublicKey // of the key to seal to; required
	// Quote makes a TDX quote that binds the report data; nil: the answer proves
	// nothing.
	Quote  func(ctx context.Context, reportData [64]byte) ([]byte, error)
	Logger *slog.Logger // nil: none
}

type localNode struct {
	Evidence string `json:"evidence"`
	Token    string `json:"token"`
	KeyInfo  struct {
		PEM string `json:"pub_key_info"`
	} `json:"key_info"`
}

// ServeHTTP answers POST with the body {"nonce": text}.
func (h *LocalHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nodes, code, err := h.answer(r)
	answer := struct {
		Metadata struct {
			Code    int    `json:"Code"`
			Message string `json:"Message"`
		} `json:"ResponseMetadata"`
		Result map[string]localNode `json:"ResponseResult,omitzero"`
	}{Result: nodes}
	if answer.Metadata.Message = "success"; err != nil {
		answer.Metadata.Code, answer.Metadata.Message = code, err.Error()
		if h.Logger != nil {
			h.Logger.Warn("a client's question for the key was refused", "err", err)
		}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		code = http.StatusInternalServerError
		b = nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(b)
}

func (h *LocalHandler) answer(r *http.Request) (map[string]localNode, int, error) {
	if r.Method != http.MethodPost || r.Header.Get("Origin") != "" {
		return nil, http.StatusMethodNotAllowed, errors.New("POST only, and not from web pages")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 4<<10))
	if err == nil {
		err = jsonrpc.Check(body, jsonrpc.Limits{MaxBytes: 4 << 10, MaxDepth: 4})
	}
	nonce, ok := "", false
	if err == nil {
		nonce, ok = jsonrpc.Text(jsonrpc.Get(jsontext.Value(body), "nonce"))
	}
	if !ok || len(nonce) < 8 || len(nonce) > 128 {
		return nil, http.StatusBadRequest, errors.New(`want {"nonce": text of 8 to 128 bytes}`)
	}
	pem, err := wire.MarshalPublicKey(h.Public())
	if err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	n := localNode{Evidence: "{}"}
	n.KeyInfo.PEM = string(pem)
	if h.Quote != nil {
		quote, err := h.Quote(r.Context(), evaicc.Binding(nonce, n.KeyInfo.PEM))
		if err != nil {
			return nil, http.StatusServiceUnavailable, errors.New("no evidence can be made now")
		}
		n.Evidence = `{"tdx":{"quote":"` + base64.StdEncoding.EncodeToString(quote) + `"}}`
	}
	return map[string]localNode{"pod_1": n}, http.StatusOK, nil
}
