// Package aicc carries profile aicc-0.1 over Streamable HTTP (spec chapter 23):
// it interoperates with the deployed AICC Trusted MCP, and refuses what is weak
// in how that uses its own format. [Handler] stands in front of an MCP server,
// [RoundTripper] behind an MCP client. See package protocol/aicc for what the
// format protects and what not.
package aicc

import (
	"context"
	"crypto/rsa"
	"net/http"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/transport"
)

// An EventKind names what one end did.
type EventKind string

// The kinds of [Event].
const (
	EventOpened     EventKind = "opened"     // server: a sealed message was opened and handed on
	EventRefused    EventKind = "refused"    // server: a message was not handed on; client: a call failed
	EventAnswered   EventKind = "answered"   // an answer was sealed, or opened, to its end
	EventPlaintext  EventKind = "plaintext"  // preferred mode: a message passed unsealed
	EventInitialize EventKind = "initialize" // initialize passed unsealed, as the profile has it
)

// An Event is handed to the Observe hook. It holds no plaintext of a sealed
// message.
type Event struct {
	Kind EventKind
	Err  *wire.Error // EventRefused: why
}

// A ServerConfig says how [Handler] stands in front of a server. Keys is
// required, all else has a default.
type ServerConfig struct {
	// Keys are the private keys that open, the newest first; four are looked at.
	// Around a change of keys the old one stays until no client uses it.
	Keys func() []*rsa.PrivateKey
	// Mode is [protocol.ModeRequired] (the default): nothing but initialize reaches
	// the server unsealed, or [protocol.ModePreferred]: plaintext passes.
	Mode protocol.Mode
	// AllowedHosts and AllowedOrigins are as those of transport.ServerConfig.
	AllowedHosts, AllowedOrigins []string
	Limits                       wire.Limits
	// BodyWait is how long the body of a request may take to arrive, default 1
	// minute.
	BodyWait time.Duration
	// Decrypts is how many RSA decryptions run at once, default all
	// processors but one; Waiting is how many more wait for one, default 256. Beyond those
	// a request is answered with HTTP status 503.
	Decrypts, Waiting int
	// ReplayWindow is how many sealed requests are remembered at least, so that one
	// that comes again is refused; default 262144 (some 20 MB when full). Replicas
	// and restarts do not share it.
	ReplayWindow int
	// Else, if set, gets what is not of this profile, in place of a refusal: a
	// handler of the stronger profile at the same URL. What it gets was not looked
	// at.
	Else http.Handler
	// Extension, if set, is announced in answers to initialize as
	// capabilities.extensions[protocol.ExtensionID]: the JSON settings of Else. A
	// client that finds it there learns that something hid the stronger profile.
	Extension []byte
	// Observe, if set, is told what happened. It must be safe for concurrent use,
	// and quick.
	Observe func(Event)
}

// A ClientConfig says how [RoundTripper] stands behind a client. Key is
// required, all else has a default.
type ClientConfig struct {
	// Key returns the server's public key. It is asked for each message, so that it
	// may change; it must be quick when it has one.
	Key func(ctx context.Context) (*rsa.PublicKey, error)
	// Attested says of a key that Key returned whether it is attested, and whether by
	// a simulated TEE, for labels. Nil: no key is.
	Attested func(key *rsa.PublicKey) (attested, simulated bool)
	// Mode is [protocol.ModeRequired] (the default): nothing leaves unsealed, or
	// [protocol.ModePreferred]: a server that doesn't offer the profile is spoken to
	// in plaintext, unless it offered it before, and its results are labelled.
	Mode protocol.Mode
	// PlainInitialize sends initialize unsealed in required mode too, as deployed
	// clients do, and demands the server's offer in the answer. What initialize says
	// can then be read and changed on the way, the server's instructions included.
	// By default it is sealed, which deployed servers take.
	PlainInitialize bool
	// RefuseStronger fails initialize when the answer shows that the server has the
	// extension org.trustedmcp/trust: for clients that are here because it seemed to
	// have not.
	RefuseStronger bool
	// PassFields names HTTP fields of answers that are handed on although anybody on
	// the way can set them, such as WWW-Authenticate. Default: those that MCP needs.
	PassFields []string
	Limits     wire.Limits
	// Authorize, if set, is asked before each message is sent.
	Authorize transport.Authorizer
	// Observe, if set, is told what happened. It must be safe for concurrent use,
	// and quick.
	Observe func(Event)
}
