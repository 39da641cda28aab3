package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// An Authorizer says whether a peer may make a call, or whether a call may be
// made of it: nil lets it pass. An error denies it; one of reason
// [protocol.PolicyDenied] tells the peer why, of others it learns nothing. It must
// be safe for concurrent use, and bound its own time.
type Authorizer func(ctx context.Context, c *Call) error

// A CallKind is what a [Call] is in terms of MCP's transports.
type CallKind string

// The kinds of calls.
const (
	CallRequest      CallKind = "request"
	CallNotification CallKind = "notification"
	CallResponse     CallKind = "response" // the client's answer to a request of the server's
	CallStream       CallKind = "stream"   // HTTP GET: what the server says on its own
	CallEnd          CallKind = "end"      // HTTP DELETE: the end of a session
)

// A Call is what is to be authorized.
type Call struct {
	Party    Party
	Carrier  protocol.Carrier // zero in plaintext, and within attested TLS
	Revision string           // of MCP, that the seal commits to; or ""
	Kind     CallKind
	Method   string         // of requests and notifications
	Params   jsontext.Value // of those; nil when absent
}

// A Party is the other side of a call. One that proved nothing has a role only.
type Party struct {
	Role       protocol.Role // client: it calls us; server: it is about to be called
	Identity   string
	Thumbprint string // of its identity key
	Profile    protocol.Profile
	Config     []byte // digest of its configuration that its evidence binds, or nil
	Appraisal  *protocol.Appraisal
}

func partyOf(role protocol.Role, p *protocol.Peer) Party {
	if p == nil {
		return Party{Role: role}
	}
	return Party{Role: role, Identity: p.Identity(), Thumbprint: p.Thumbprint().String(), Profile: p.Profile(), Config: p.Config(), Appraisal: p.Appraisal()}
}

// describe fills in what a message says.
func (c *Call) describe(m *jsonrpc.Message) {
	c.Method, c.Params = m.Method, m.Params
	switch {
	case m.IsRequest():
		c.Kind = CallRequest
	case m.IsNotification():
		c.Kind = CallNotification
	default:
		c.Kind = CallResponse
	}
}

// denied is what is told of a denial.
func denied(err error) *protocol.Error {
	var e *protocol.Error
	if errors.As(err, &e) && e.Reason == protocol.PolicyDenied {
		return e
	}
	return &protocol.Error{Reason: protocol.PolicyDenied, Detail: "the call is not authorized"}
}

// Authorize asks before each request that next gets, as [ServerConfig.Authorize]
// does, for handlers that stand behind something else than [Handler]. party says
// who the client is.
func Authorize(next http.Handler, ask Authorizer, limits Limits, party func(*http.Request) Party) http.Handler {
	return &authorizer{next: next, ask: ask, limits: limits, see: func(Event) {}, fill: func(r *http.Request, c *Call) { c.Party = party(r) }}
}

// authorizer stands between the trust layer and the server.
type authorizer struct {
	next   http.Handler
	ask    Authorizer
	limits Limits
	see    func(Event)
	fill   func(*http.Request, *Call)
}

// fromSeal is what the seal of a request proves of its sender.
func fromSeal(r *http.Request, c *Call) {
	s, _ := SealedFrom(r.Context())
	c.Party, c.Carrier, c.Revision = partyOf(protocol.RoleClient, s.Client), s.Carrier, s.Revision
}

func (a *authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &Call{}
	a.fill(r, c)
	var id jsonrpc.ID
	switch r.Method {
	case http.MethodPost:
		body, err := readAll(r.Body, r.ContentLength, a.limits.message())
		if err != nil {
			a.deny(w, "", http.StatusOK, reasonOf(err))
			return
		}
		m, err := jsonrpc.Parse(body, jsonrpc.Limits{MaxBytes: a.limits.message(), MaxDepth: a.limits.MaxDepth})
		if enc := r.Header["Content-Encoding"]; enc != nil && err == nil {
			// What is judged must be what the server reads.
			err = &jsonrpc.ParseError{Code: jsonrpc.CodeInvalidRequest, Reason: "encoded", Detail: "the body is encoded (" + strings.Join(enc, ", ") + "): send it as it is"}
		}
		var bad *jsonrpc.ParseError
		if errors.As(err, &bad) {
			writeJSON(w, http.StatusBadRequest, jsonrpc.ErrorResponse("", bad.Code, bad.Error(), nil))
			return
		}
		c.describe(m)
		if id = m.ID; c.Kind == CallResponse {
			id = ""
		}
		in := r.WithContext(r.Context())
		in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r = in
	case http.MethodGet:
		c.Kind = CallStream
	case http.MethodDelete:
		c.Kind = CallEnd
	default:
		w.Header().Set("Allow", "POST, GET, DELETE")
		http.Error(w, "MCP knows no HTTP method "+r.Method, http.StatusMethodNotAllowed)
		return
	}
	err := a.ask(r.Context(), c)
	switch {
	case err == nil:
		a.next.ServeHTTP(w, r)
	case c.Kind == CallNotification || c.Kind == CallResponse: // nobody waits for an answer
		a.see(Event{Kind: EventRefused, Carrier: c.Carrier, Err: denied(err)})
		w.WriteHeader(http.StatusAccepted)
	case c.Kind == CallRequest:
		a.deny(w, id, http.StatusOK, denied(err))
	default:
		a.deny(w, "", http.StatusForbidden, denied(err))
	}
}

func (a *authorizer) deny(w http.ResponseWriter, id jsonrpc.ID, status int, e *protocol.Error) {
	a.see(Event{Kind: EventRefused, Err: e})
	writeJSON(w, status, e.Response(id))
}

// authorize asks before content is sealed to peer, or sent to a peer without
// trust (nil).
func (cfg *ClientConfig) authorize(ctx context.Context, peer *protocol.Peer, carrier protocol.Carrier, content *protocol.Content) error {
	if cfg.Authorize == nil {
		return nil
	}
	c := &Call{Party: partyOf(protocol.RoleServer, peer), Carrier: carrier}
	kind, method := content.Kind, content.Meta.Method
	switch {
	case kind == protocol.KindGet || kind == protocol.KindHTTP && method == http.MethodGet:
		c.Kind = CallStream
	case kind == protocol.KindDelete || kind == protocol.KindHTTP && method == http.MethodDelete:
		c.Kind = CallEnd
	case kind == protocol.KindHTTP && method != http.MethodPost:
		return protocol.Errorf(protocol.PolicyDenied, "HTTP method %.20q is none of MCP's", method)
	default:
		m, err := jsonrpc.Parse(content.Body, jsonrpc.Limits{MaxBytes: cfg.Limits.message(), MaxDepth: cfg.Limits.MaxDepth})
		if err != nil {
			return protocol.Errorf(protocol.PolicyDenied, "the message can't be judged: %v", err)
		}
		c.describe(m)
	}
	if err := cfg.Authorize(ctx, c); err != nil {
		return denied(err)
	}
	return nil
}
