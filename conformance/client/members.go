package client

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// members are those of a JSON object; none when v is no object.
func members(v jsontext.Value) map[string]jsontext.Value {
	out := map[string]jsontext.Value{}
	if v.Kind() == '{' {
		_ = jsonrpc.Members(v, func(name string, val jsontext.Value) error {
			out[name] = val
			return nil
		})
	}
	return out
}
