package reference

import (
	"net/http"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Sealed puts the project's own trust layer in front of inner, for a new
// identity of the given URI.
func Sealed(uri string, inner http.Handler, mode protocol.Mode) (http.Handler, error) {
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		return nil, err
	}
	return transport.Handler(inner, transport.ServerConfig{Identity: id, Mode: mode})
}
