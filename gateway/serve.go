// Package gateway makes unmodified MCP clients and servers trusted. [Serve]
// stands in front of a server, a stdio command or an HTTP endpoint; [Connect]
// stands beside a client, and speaks to a Serve, or to any server that has the
// extension.
package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"time"

	"github.com/trustedmcp/tmcp/gateway/bridge"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport"
)

// Path is where Serve and Connect serve MCP.
const Path = "/mcp"

// A ServeConfig says what to serve, and as whom. Exactly one of Command and
// Upstream is required.
type ServeConfig struct {
	Listen   string   // host:port; port 0 picks one
	Command  []string // a stdio MCP server
	Upstream string   // URL of a Streamable HTTP MCP server

	Identity    string // URI that clients dial; default: the address listened on
	IdentityKey string // file; default: a new key, lost with the process
	Certificate string // file with the key's certificate chain; default: clients pin the key

	Offer        protocol.Offer // Profiles and ClientKey are by what follows
	Validity     time.Duration  // of key objects; default 10 minutes
	Pad          bool
	RewriteHost  bool // send the upstream's host in place of the client's
	MaxMessage   int  // bytes; default 4 MiB
	AllowHosts   []string
	AllowOrigins []string

	// Attestation makes the server one of profile attested; see ConfigDigest for
	// its Config.
	Attestation *protocol.Attestation
	// Clients says which clients' key objects are good. Nil: none is asked for.
	Clients *protocol.ClientPolicy
	// ClientKeys says whether clients must show one; accepted where it is empty
	// and Clients is not nil.
	ClientKeys protocol.ClientKey
	Demands    []byte // digest of the policy that clients are appraised by, or nil

	// Authorize, if set, is asked before each message that the MCP server gets.
	Authorize transport.Authorizer

	// TLS serves plain MCP within attested TLS, in place of sealing it. Attestation
	// is required then; Clients and ClientKeys are not looked at.
	TLS *TLS

	// AICC serves profile aicc-0.1, in place of the extension or beside it.
	AICC *AICCServer

	Stderr io.Writer // of Command
	Logger *slog.Logger
}

// offer is what is announced, given what the server can prove and demands.
func (cfg *ServeConfig) offer() protocol.Offer {
	o := cfg.Offer
	o.ClientKey = protocol.ClientKeyNone
	if cfg.Clients != nil {
		if o.ClientKey = cfg.ClientKeys; o.ClientKey == "" {
			o.ClientKey = protocol.ClientKeyAccepted
		}
	}
	mutual := cfg.Clients != nil && cfg.Clients.Profile == protocol.ProfileAttested && o.ClientKey == protocol.ClientKeyDemanded
	switch {
	case cfg.Attestation != nil && mutual:
		o.Profiles = []protocol.Profile{protocol.ProfileMutual}
	case cfg.Attestation != nil:
		o.Profiles = []protocol.Profile{protocol.ProfileAttested, protocol.ProfileIdentity}
	default:
		o.Profiles = []protocol.Profile{protocol.ProfileIdentity}
	}
	return o
}

// ConfigDigest is the digest of what decides whom the code behind the gateway
// obeys and talks to, that evidence binds beside the measured code: SHA-256 over
// the deterministic CBOR array of the label, the command with its arguments, the
// upstream URL, the mode, the carriers, whether the host name is rewritten, and
// "aicc-0.1" where that weaker profile is served too. The environment is not in it: measure what sets it.
func (cfg *ServeConfig) ConfigDigest() []byte {
	members := 6
	if cfg.AICC != nil {
		members++
	}
	b := dcbor.AppendText(dcbor.AppendArray(nil, members), "org.trustedmcp/trust v1 gateway configuration")
	b = dcbor.AppendArray(b, len(cfg.Command))
	for _, a := range cfg.Command {
		b = dcbor.AppendText(b, a)
	}
	b = dcbor.AppendText(b, cfg.Upstream)
	b = dcbor.AppendText(b, string(cfg.Offer.Mode))
	b = dcbor.AppendArray(b, len(cfg.Offer.Carriers))
	for _, c := range cfg.Offer.Carriers {
		b = dcbor.AppendText(b, c.String())
	}
	b = dcbor.AppendBool(b, cfg.RewriteHost)
	if cfg.AICC != nil {
		b = dcbor.AppendText(b, wire.Profile)
	}
	d := sha256.Sum256(b)
	return d[:]
}

// Serving says what a Serve that is ready serves.
type Serving struct {
	Address   net.Addr
	URL       string             // for clients on this machine
	Identity  *protocol.Identity // nil under profile aicc-0.1 alone, where servers have none
	Ephemeral bool               // the identity's key is new, and lost with the process
}

// Serve serves until ctx ends, and then lets calls under way finish for a few
// seconds. ready is called once the address is listened on.
func Serve(ctx context.Context, cfg ServeConfig, ready func(Serving)) error {
	if (len(cfg.Command) == 0) == (cfg.Upstream == "") {
		return errors.New("give either a command to run (-- CMD…) or an --upstream URL")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Command) > 0 {
		// Said now, not at the first call, when nobody watches any more.
		if _, err := exec.LookPath(cfg.Command[0]); err != nil {
			return fmt.Errorf("the MCP server command can't be started: %w", err)
		}
	}
	l, err := listen(cfg.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if cfg.TLS != nil {
		return serveAttestedTLS(ctx, cfg, l, ready)
	}
	if cfg.AICC != nil && !cfg.AICC.Also {
		return serveAICC(ctx, cfg, l, ready)
	}
	if cfg.AICC != nil && cfg.offer().ClientKey == protocol.ClientKeyDemanded {
		return errors.New("clients must show who they are, and those of profile " + wire.Profile + " are unknown: it would be a way around; serve it elsewhere, or accept clients without a key")
	}
	local := "http://" + reachable(l.Addr()) + Path
	if cfg.Identity == "" {
		cfg.Identity = local
	}
	id, ephemeral, err := keyfile.LoadIdentity(cfg.Identity, cfg.IdentityKey, cfg.Certificate)
	if err != nil {
		return err
	}
	settings, err := protocol.NewSettings(cfg.offer())
	if err != nil {
		return err
	}
	server, err := protocol.NewServer(protocol.ServerConfig{Identity: id, Settings: settings, Validity: cfg.Validity, Pad: cfg.Pad,
		Attestation: cfg.Attestation, Clients: cfg.Clients, Demands: cfg.Demands})
	if err != nil {
		return err
	}
	if cfg.Attestation != nil { // said now, not at the first call
		if _, _, err := server.KeyObject(time.Now()); err != nil {
			return err
		}
	}
	inner, closeInner, err := cfg.inner()
	if err != nil {
		return err
	}
	defer closeInner()
	inner = until(ctx, inner)
	handler, err := transport.Handler(inner, transport.ServerConfig{
		AllowedHosts: cfg.AllowHosts, AllowedOrigins: cfg.AllowOrigins,
		Trust:     server,
		Limits:    transport.Limits{MaxMessage: cfg.MaxMessage},
		Observe:   observer(cfg.Logger),
		Authorize: cfg.Authorize,
	})
	if err != nil {
		return err
	}
	if cfg.AICC != nil {
		if handler, err = cfg.AICC.handler(inner, &cfg, handler, settings); err != nil {
			return err
		}
	}
	var mux http.ServeMux
	mux.Handle(Path, handler)
	return serveHTTP(ctx, l, &mux, cfg.Logger, func() {
		ready(Serving{Address: l.Addr(), URL: local, Identity: id, Ephemeral: ephemeral})
	}, func(now time.Time) { server.Expire(now) })
}

// inner is the plain MCP server that is made trusted.
func (cfg *ServeConfig) inner() (http.Handler, func(), error) {
	limits := jsonrpc.Limits{MaxBytes: cfg.MaxMessage}
	if len(cfg.Command) > 0 {
		s, err := bridge.NewStdioServer(bridge.StdioOptions{
			Command: cfg.Command, Stderr: cfg.Stderr, Logger: cfg.Logger, Limits: limits,
			Guard: bridge.Guard{AllowedHosts: cfg.AllowHosts, AllowedOrigins: cfg.AllowOrigins},
		})
		if err != nil {
			return nil, nil, err
		}
		return s, func() { _ = s.Close() }, nil
	}
	u, err := url.Parse(cfg.Upstream)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, nil, fmt.Errorf("--upstream %q is not an http or https URL", cfg.Upstream)
	}
	opts := bridge.ReverseOptions{Upstream: cfg.Upstream, RewriteHost: cfg.RewriteHost, Logger: cfg.Logger, Limits: limits}
	if cfg.TLS != nil { // no trust layer looks at Host and Origin before
		opts.Guard = &bridge.Guard{AllowedHosts: cfg.AllowHosts, AllowedOrigins: cfg.AllowOrigins}
	}
	r, err := bridge.NewReverse(opts)
	if err != nil {
		return nil, nil, err
	}
	return r, func() { _ = r.Close() }, nil
}

// reachable is an address at which this machine reaches a listener.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(t.Port))
}
