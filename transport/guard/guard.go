// Package guard refuses HTTP requests that a web page made a browser send to an
// MCP server. See [Guard.Check]; [Guard.Wrap] puts it before a handler.
package guard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

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
			Refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Refuse answers with 403 and a JSON-RPC error that says why. It waits for
// nothing of the request's body, and ends the connection.
func Refuse(w http.ResponseWriter, err error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // net/http reads a body before it answers
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusForbidden)
	_, _ = w.Write(jsonrpc.ErrorResponse("", jsonrpc.CodeInvalidRequest, err.Error(), nil))
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
