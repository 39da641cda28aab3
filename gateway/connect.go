package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/gateway/bridge"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// A ConnectConfig says whom to connect to.
type ConnectConfig struct {
	URL    string          // of the server's MCP endpoint, or of a proxy before it
	Anchor protocol.Anchor // who may speak for Identity; required unless Mode is off

	Identity string // URI that the server must be; default: URL
	Offer    protocol.Offer
	Carrier  protocol.Carrier // default: envelope
	OuterEra transport.Era    // of the leg to the next hop; default modern
	Pad      bool
	Fresh    bool // ask for a key object that carries a nonce of ours

	Profile        protocol.Profile   // the least that the server must prove; default identity
	Appraiser      protocol.Appraiser // of the server's evidence; required beyond identity
	MaxEvidenceAge time.Duration      // default 2 hours
	FreshEvidence  bool               // ask for evidence made for a nonce of ours
	Self           *protocol.Identity // who the client is, for servers that ask; nil: nobody
	Attestation    *protocol.Attestation
	Demands        []byte               // digest of the policy that servers are appraised by, or nil
	Authorize      transport.Authorizer // asked before each message is sent; nil: none is
	TLS            *TLS                 // reach the server over attested TLS, unsealed; Anchor is not looked at then
	AICC           *AICCClient          // speak profile aicc-0.1, in place of the extension or where that is not offered

	Header http.Header // added outside the seal, such as a proxy's own credentials

	MaxMessage   int // bytes; default 4 MiB
	AllowHosts   []string
	AllowOrigins []string
	Logger       *slog.Logger
}

func (cfg *ConnectConfig) roundTripper() (http.RoundTripper, func(), error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, nil, fmt.Errorf("%q is not an http or https URL", cfg.URL)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.TLS != nil {
		return cfg.attestedTransport()
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DisableCompression = true
	base.MaxIdleConnsPerHost = 64
	both := &either{limit: jsonrpc.Limits{MaxBytes: cfg.MaxMessage}.Bytes(), log: cfg.Logger}
	var weaker http.RoundTripper
	if cfg.AICC != nil {
		if weaker, err = cfg.AICC.roundTripper(leg{base, cfg.Header, false}, cfg, func() { both.fell.Store(true) }); err != nil || !cfg.AICC.Or {
			return weaker, base.CloseIdleConnections, err
		}
	}
	cfg.Offer.Profiles = transport.Profiles(cfg.Profile, cfg.Appraiser != nil)
	settings, err := protocol.NewSettings(cfg.Offer)
	if err != nil {
		return nil, nil, err
	}
	var holder *protocol.ClientHolder
	if cfg.Self != nil {
		if holder, err = protocol.NewClientHolder(protocol.ClientKeyConfig{Identity: cfg.Self, Settings: settings, Attestation: cfg.Attestation, Demands: cfg.Demands}); err != nil {
			return nil, nil, err
		}
	}
	see := refusals(cfg.Logger)
	both.weaker = weaker
	rt, err := transport.RoundTripper(leg{base, cfg.Header, cfg.Offer.Mode != protocol.ModePreferred}, transport.ClientConfig{
		Identity: cfg.Identity, Anchor: cfg.Anchor, Settings: settings, Mode: cfg.Offer.Mode, Carrier: cfg.Carrier,
		OuterEra: cfg.OuterEra, Pad: cfg.Pad, Fresh: cfg.Fresh,
		Profile: cfg.Profile, Appraiser: cfg.Appraiser, MaxEvidenceAge: cfg.MaxEvidenceAge, FreshEvidence: cfg.FreshEvidence, ClientKey: holder,
		Limits: transport.Limits{MaxMessage: cfg.MaxMessage},
		Observe: func(e transport.Event) {
			if e.Kind == transport.EventVerified {
				both.proven.Store(true)
			}
			see(e)
		},
		Authorize: cfg.Authorize,
	})
	if err != nil {
		return nil, nil, err
	}
	if both.native = rt; weaker != nil {
		rt = both
	}
	return rt, base.CloseIdleConnections, nil
}

// aboutServer are reasons why a server as such is not talked to.
var aboutServer = []protocol.Reason{
	protocol.EvidenceRefused, protocol.EvidenceStale, protocol.IdentityMismatch, protocol.ProfileTooWeak,
	protocol.NoOverlap, protocol.TrustMissing, protocol.SettingsMismatch,
}

// refusals is an observer that warns when the server is refused: clients often
// tell people no more than that they could not connect.
func refusals(log *slog.Logger) func(transport.Event) {
	others := observer(log)
	return func(e transport.Event) {
		if e.Kind == transport.EventRefused && e.Err != nil && slices.Contains(aboutServer, e.Err.Reason) {
			log.Warn("the server is refused", "reason", string(e.Err.Reason), "detail", e.Err.Detail)
			return
		}
		others(e)
	}
}

// Connect serves a plain MCP endpoint on address for clients on this machine,
// and seals what they send. ready is called with its URL.
func Connect(ctx context.Context, cfg ConnectConfig, address string, ready func(url string)) error {
	rt, done, err := cfg.roundTripper()
	if err != nil {
		return err
	}
	defer done()
	l, err := listen(address)
	if err != nil {
		return err
	}
	defer l.Close()
	guard := bridge.Guard{AllowedHosts: cfg.AllowHosts, AllowedOrigins: cfg.AllowOrigins}
	// TMCP-14.4-1: A gateway MUST validate `Origin`, and `Host` where it listens on loopback,
	// itself. Under the http carrier the far end sees the client's Host too, but
	// what judges it there may be nothing, and a web page is stopped here only.
	opts := bridge.ReverseOptions{
		Upstream: cfg.URL, Transport: noRedirects{rt}, Logger: cfg.Logger, RewriteHost: cfg.Carrier != protocol.HTTP,
		Limits: jsonrpc.Limits{MaxBytes: cfg.MaxMessage}, Guard: &guard,
	}
	rev, err := bridge.NewReverse(opts)
	if err != nil {
		return err
	}
	defer rev.Close()
	var mux http.ServeMux
	mux.Handle(Path, until(ctx, rev))
	return serveHTTP(ctx, l, &mux, cfg.Logger, func() { ready("http://" + reachable(l.Addr()) + Path) }, nil)
}

// ConnectStdio speaks MCP's stdio transport to a client over in and out, and
// seals what it sends, until in ends.
func ConnectStdio(ctx context.Context, cfg ConnectConfig, in io.Reader, out io.Writer) error {
	rt, done, err := cfg.roundTripper()
	if err != nil {
		return err
	}
	defer done()
	return bridge.Pump(ctx, in, out, bridge.PumpOptions{
		URL: cfg.URL, Transport: rt, Logger: cfg.Logger, Limits: jsonrpc.Limits{MaxBytes: cfg.MaxMessage},
	})
}

// noRedirects fails answers that send the client to another origin: it would
// go there past the trust layer, and say in plaintext what it has sealed here.
type noRedirects struct{ next http.RoundTripper }

func (t noRedirects) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil || resp.Header.Get("Location") == "" || resp.StatusCode/100 != 3 {
		return resp, err
	}
	to := resp.Header.Get("Location")
	u, perr := url.Parse(to)
	if perr == nil && u.Scheme == "" && u.Host == "" && !strings.HasPrefix(to, "//") && !strings.Contains(to, `\`) {
		return resp, nil
	}
	_ = resp.Body.Close()
	// Where to was sealed, and this is logged.
	return nil, fmt.Errorf("it redirects (HTTP status %d) to another origin, where a client would go unsealed; let it answer at its own URL, or connect to that one", resp.StatusCode)
}

// A leg carries outer requests to the next hop.
type leg struct {
	next   http.RoundTripper
	header http.Header // added, outside the seal
	sealed bool        // all that goes out is sealed, or opens the leg
}

func (l leg) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	for name, values := range l.header {
		req.Header[name] = values
	}
	if l.sealed {
		// Tells net/http, and nobody else, that it may send the same bytes again
		// when a connection that was kept turns out closed without an answer, as
		// after a restart of the server. A server that did get them refuses them
		// the second time as replayed.
		req.Header["Idempotency-Key"] = nil
	}
	return l.next.RoundTrip(req)
}
