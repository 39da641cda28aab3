package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Each call that is denied is logged, and callers choose what it says: no caller
// may fill the disk with a few calls, nor write lines of its own.
func TestAuditIsBounded(t *testing.T) {
	var out bytes.Buffer
	long := strings.Repeat("é", 1<<20)
	audit(slog.New(slog.NewTextHandler(&out, nil)))(&transport.Call{
		Kind: transport.CallRequest, Method: long, Party: transport.Party{Identity: "https://" + long},
		Params: []byte(`{"name":` + string(jsonrpc.Quote("tool\n"+long)) + `}`),
	}, protocol.Digest{}, &policywasm.Verdict{})
	if out.Len() > 4096 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), `tool\n`) {
		t.Errorf("%d bytes in %d lines: %.300s", out.Len(), strings.Count(out.String(), "\n"), &out)
	}
}
