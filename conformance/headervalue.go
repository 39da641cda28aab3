package conformance

import (
	"encoding/base64"
	"strings"
)

// HeaderValue encodes v as MCP 2026-07-28 wants it in Mcp-Name and
// Mcp-Param-*: as it is when it is safe, else between =?base64? and ?=.
func HeaderValue(v string) string {
	safe := v == strings.TrimSpace(v) && !(strings.HasPrefix(v, "=?base64?") && strings.HasSuffix(v, "?="))
	for i := 0; i < len(v) && safe; i++ {
		safe = v[i] == '\t' || (v[i] >= 0x20 && v[i] <= 0x7e)
	}
	if safe {
		return v
	}
	return EncodedHeaderValue(v)
}

// EncodedHeaderValue is v in the Base64 form, whether it needs it or not.
func EncodedHeaderValue(v string) string {
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(v)) + "?="
}
