package gateway

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/aicc"
)

// AICCServer says how a server speaks profile aicc-0.1.
type AICCServer struct {
	Keys func() []*rsa.PrivateKey // those that open, the newest first
	// Also serves the profile beside the extension org.trustedmcp/trust, at the same
	// URL. It says there that the extension is served, so that its clients notice
	// who hides that.
	Also bool
}

// AICCClient says how a client speaks profile aicc-0.1.
type AICCClient struct {
	Key func(context.Context) (*rsa.PublicKey, error) // the server's
	// Attested says whether such a key is attested, and whether by a simulated TEE;
	// nil: none is.
	Attested func(*rsa.PublicKey) (attested, simulated bool)
	// PlainInitialize is as in aicc.ClientConfig.
	PlainInitialize bool
	// Or speaks org.trustedmcp/trust to servers that offer it, and the profile to
	// those that were reached and don't.
	Or bool
}

// handler puts the profile in front of inner. Beside native, which serves the
// extension with those settings, it leaves to that what is not its own.
func (a *AICCServer) handler(inner http.Handler, cfg *ServeConfig, native http.Handler, settings *protocol.Settings) (http.Handler, error) {
	if cfg.Authorize != nil {
		inner = transport.Authorize(inner, cfg.Authorize, transport.Limits{MaxMessage: cfg.MaxMessage}, func(*http.Request) transport.Party {
			return transport.Party{Role: protocol.RoleClient} // who sealed it is unknown
		})
	}
	c := aicc.ServerConfig{Keys: a.Keys, Mode: cfg.Offer.Mode, AllowedHosts: cfg.AllowHosts, AllowedOrigins: cfg.AllowOrigins,
		Limits: wire.Limits{MaxMessage: cfg.MaxMessage}, Observe: aiccObserver(cfg.Logger)}
	if native != nil {
		c.Else, c.Extension = native, settings.JSON()
	}
	return aicc.Handler(inner, c)
}

func aiccObserver(log *slog.Logger) func(aicc.Event) {
	return func(e aicc.Event) {
		attrs := []any{"profile", wire.Profile}
		if e.Err != nil {
			log.Info(string(e.Kind), append(attrs, "reason", string(e.Err.Reason), "detail", e.Err.Detail)...)
			return
		}
		log.Debug(string(e.Kind), attrs...)
	}
}

// serveAICC serves the profile alone.
func serveAICC(ctx context.Context, cfg ServeConfig, l net.Listener, ready func(Serving)) error {
	if keys := cfg.AICC.Keys(); len(keys) == 0 {
		return errors.New("profile " + wire.Profile + " has no private key to open with")
	}
	inner, closeInner, err := cfg.inner()
	if err != nil {
		return err
	}
	defer closeInner()
	handler, err := cfg.AICC.handler(until(ctx, inner), &cfg, nil, nil)
	if err != nil {
		return err
	}
	var mux http.ServeMux
	mux.Handle(Path, handler)
	return serveHTTP(ctx, l, &mux, cfg.Logger, func() {
		ready(Serving{Address: l.Addr(), URL: "http://" + reachable(l.Addr()) + Path})
	}, nil)
}

// roundTripper puts the profile before base. It calls spoke when a server spoke it.
func (a *AICCClient) roundTripper(base http.RoundTripper, cfg *ConnectConfig, spoke func()) (http.RoundTripper, error) {
	return aicc.RoundTripper(base, aicc.ClientConfig{Key: a.Key, Attested: a.Attested, Mode: cfg.Offer.Mode, PlainInitialize: a.PlainInitialize,
		RefuseStronger: a.Or, Limits: wire.Limits{MaxMessage: cfg.MaxMessage}, Authorize: cfg.Authorize,
		Observe: func(e aicc.Event) {
			if e.Kind == aicc.EventRefused && e.Err != nil {
				cfg.Logger.Warn("refused", "profile", wire.Profile, "reason", string(e.Err.Reason), "detail", e.Err.Detail)
				return
			}
			if e.Kind == aicc.EventAnswered || e.Kind == aicc.EventInitialize {
				spoke()
			}
			cfg.Logger.Debug(string(e.Kind), "profile", wire.Profile)
		}})
}

// An either speaks the extension org.trustedmcp/trust, or profile aicc-0.1 to a
// server that was reached and doesn't offer it. A server that ever proved the
// extension is never spoken to by the profile.
type either struct {
	native, weaker http.RoundTripper
	proven, fell   atomic.Bool
	limit          int
	log            *slog.Logger
}

// withoutIt are the reasons for which a server counts as one without the
// extension. That it can't be reached, or proves another identity, is none.
var withoutIt = []protocol.Reason{protocol.TrustMissing, protocol.DiscoverError, protocol.EraFallback}

func (e *either) RoundTrip(req *http.Request) (*http.Response, error) {
	if e.proven.Load() { // first: it may be proven to one request while another falls back
		return e.native.RoundTrip(req)
	}
	if e.fell.Load() {
		return e.weaker.RoundTrip(req)
	}
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(req.Body, int64(e.limit)+1))
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		if len(body) > e.limit {
			return nil, fmt.Errorf("a message of more than %d bytes", e.limit)
		}
	}
	again := func() *http.Request {
		r := req.Clone(req.Context())
		if r.Body = nil; len(body) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return r
	}
	resp, err := e.native.RoundTrip(again())
	if e.proven.Load() {
		return resp, err
	}
	var why protocol.Reason
	var failed *protocol.Error
	switch {
	case errors.As(err, &failed):
		why = failed.Reason
	case err != nil:
	default:
		// Nothing was proven, so that this is an answer of our own making.
		said, rerr := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
		if rerr != nil {
			return nil, rerr
		}
		resp.Body = io.NopCloser(bytes.NewReader(said))
		if m, perr := jsonrpc.Parse(said, jsonrpc.Limits{}); perr == nil {
			text, _ := jsonrpc.Text(jsonrpc.Get(m.Error, "data", "reason"))
			why = protocol.Reason(text)
		}
	}
	if !slices.Contains(withoutIt, why) {
		return resp, err
	}
	// For this message only, until the server speaks the profile: one that had no
	// answer for a moment is asked again.
	if !e.fell.Load() {
		e.log.Warn("the server does not offer "+protocol.ExtensionID+"; it is spoken to by the weaker profile "+wire.Profile+", to the key that is known of it", "reason", string(why))
	}
	return e.weaker.RoundTrip(again())
}
