package bridge

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Guard refuses requests that a web page made a browser send (DNS rebinding,
// cross-site requests): MCP, Streamable HTTP, "Security & Endpoint". The zero
// Guard is safe: on a loopback address it admits loopback names only, and
// everywhere it admits no Origin that isn't the loopback's own.
type Guard struct {
	// AllowedHosts are further Host header values, without port, admitted on
	// loopback addresses; when set, all other addresses admit only these and
	// loopback names too.
	AllowedHosts []string
	// AllowedOrigins are admitted Origin header values, such as
	// "https://app.example".
	AllowedOrigins []string
}

// Check says why r must be refused, or returns nil.
func (g Guard) Check(r *http.Request) error {
	local, known := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	loopback := known && isLoopback(hostOnly(local.String()))
	host := hostOnly(r.Host)
	if (loopback || len(g.AllowedHosts) > 0) && !isLoopback(host) && !slices.ContainsFunc(g.AllowedHosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return fmt.Errorf("host %q is not served here; a page that rebinds DNS would send it. Use a loopback name, or allow the host", r.Host)
	}
	origins := r.Header["Origin"]
	for _, origin := range origins {
		if slices.Contains(g.AllowedOrigins, origin) {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || !loopback || (u.Scheme != "http" && u.Scheme != "https") || !isLoopback(u.Hostname()) {
			return fmt.Errorf("origin %q is not allowed", origin)
		}
	}
	return nil
}

// Wrap returns next behind the guard; refusals are 403 with a JSON-RPC error.
func (g Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.Check(r); err != nil {
			writeError(w, http.StatusForbidden, "", jsonrpc.CodeInvalidRequest, err.Error(), nil)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostOnly(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.Trim(hostport, "[]")
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") || strings.EqualFold(host, "localhost.") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// writeError answers with one JSON-RPC error. An empty id is written as null.
func writeError(w http.ResponseWriter, status int, id jsonrpc.ID, code int, msg string, data []byte) {
	writeJSON(w, status, jsonrpc.ErrorResponse(id, code, msg, data))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
