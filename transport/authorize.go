package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
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

	unclear error // why servers may read something else than this in the message; nil: nothing is known
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
	c.unclear = unclear(m)
}

// Message asks about a message as this package does: what servers may read as
// something else is denied. c says all but what m says.
func (f Authorizer) Message(ctx context.Context, c Call, m *jsonrpc.Message) error {
	c.describe(m)
	return f.judge(ctx, &c)
}

// judge asks about what can be judged.
func (f Authorizer) judge(ctx context.Context, c *Call) error {
	if c.unclear != nil {
		return c.unclear
	}
	return f(ctx, c)
}

// unclear says why servers may read something else in a message than what is
// judged. Many of them, in Go and C#, take "Name" for "name", and of both the last.
func unclear(m *jsonrpc.Message) error {
	look := func(v jsontext.Value, names ...string) error {
		return jsonrpc.Members(v, func(name string, _ jsontext.Value) error {
			for _, known := range names {
				if name != known && strings.EqualFold(name, known) {
					return protocol.Errorf(protocol.PolicyDenied, "the message has a member %.20q, which some servers take for %q", name, known)
				}
			}
			return nil
		})
	}
	if err := look(m.Raw, "jsonrpc", "id", "method", "params", "result", "error"); err != nil || m.Params.Kind() != '{' {
		return err
	}
	return look(m.Params, "name", "uri", "arguments")
}

// plain says why the other side may read something else in a body than what is
// judged, by what its fields say of it: it is encoded, or in another charset. It
// is strict, for servers read these fields in many ways.
func plain(encodings, types []string) error {
	if encodings != nil {
		return fmt.Errorf("the body is encoded (%.40s): send it as it is", strings.Join(encodings, ", "))
	}
	for _, t := range types {
		_, params, err := mime.ParseMediaType(t)
		charset, told := params["charset"]
		if told {
			delete(params, "charset")
		}
		if err != nil || len(types) > 1 || len(params) > 0 || told && !strings.EqualFold(charset, "utf-8") {
			return fmt.Errorf("the body is said to be %.60q: send %s, without a charset or in UTF-8", t, typeJSON)
		}
	}
	return nil
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
		if why := plain(r.Header["Content-Encoding"], r.Header["Content-Type"]); why != nil && err == nil {
			err = &jsonrpc.ParseError{Code: jsonrpc.CodeInvalidRequest, Reason: "encoded", Detail: why.Error()}
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
		c.Kind, r = CallStream, bodiless(r)
	case http.MethodDelete:
		c.Kind, r = CallEnd, bodiless(r)
	default:
		w.Header().Set("Allow", "POST, GET, DELETE")
		http.Error(w, "MCP knows no HTTP method "+r.Method, http.StatusMethodNotAllowed)
		return
	}
	err := a.ask.judge(r.Context(), c)
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

// bodiless is r without a body, which nobody judges.
func bodiless(r *http.Request) *http.Request {
	in := r.WithContext(r.Context())
	in.Body, in.ContentLength, in.TransferEncoding = http.NoBody, 0, nil
	return in
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
		fields := unpackFields(content.Meta.Fields)
		if err := plain(fields["Content-Encoding"], fields["Content-Type"]); err != nil {
			return protocol.Errorf(protocol.PolicyDenied, "the message can't be judged: %v", err)
		}
	}
	if err := cfg.Authorize.judge(ctx, c); err != nil {
		return denied(err)
	}
	return nil
}
