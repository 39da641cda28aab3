package aicc

import (
	"errors"
	"net/http"
)

// Handler puts the profile in front of inner, the handler of an MCP server.
func Handler(inner http.Handler, cfg ServerConfig) (http.Handler, error) {
	if inner == nil || cfg.Keys == nil {
		return nil, errors.New("aicc: Handler needs a handler to stand in front of, and ServerConfig.Keys")
	}
	return nil, errors.ErrUnsupported
}
