package transport

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/trustedmcp/tmcp/protocol"
)

type clientTools struct{}

func (x *exchange) attemptInline(link *link, call **protocol.Call) (*answer, error) {
	return nil, protocol.Errorf(protocol.CannotSeal, "todo")
}

func (e *endpoint) openInline(ctx context.Context, forward http.Header) (*link, error) {
	return nil, protocol.Errorf(protocol.CannotSeal, "todo")
}

// encodeHeader is MCP's form for values that a header can't hold.
func encodeHeader(s string) string {
	safe := s != "" && s[0] != ' ' && s[len(s)-1] != ' ' && (len(s) < 9 || s[:9] != "=?base64?")
	for i := 0; safe && i < len(s); i++ {
		safe = s[i] >= 0x20 && s[i] < 0x7f
	}
	if safe {
		return s
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}
