package aicc

import (
	"errors"
	"net/http"
)

// RoundTripper puts the profile behind an MCP client: use it as the Transport of
// the http.Client that the SDK is given.
func RoundTripper(base http.RoundTripper, cfg ClientConfig) (http.RoundTripper, error) {
	if cfg.Key == nil {
		return nil, errors.New("aicc: RoundTripper needs ClientConfig.Key")
	}
	return nil, errors.ErrUnsupported
}
