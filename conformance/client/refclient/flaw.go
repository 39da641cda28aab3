package refclient

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/protocol"
)

// A Flaw is a way in which the client breaks a rule.
type Flaw struct {
	Name string

	NoInitialized     bool // leaves notifications/initialized out
	NoTrust           bool // ignores the trust variables
	NoDemands         bool // ignores those about attestation
	NoStreams         bool // knows no event streams
	StopsAtResponse   bool // reads no further than to the response
	EventsAreMessages bool // takes an event without data for a message
	AnyResultType     bool // takes any resultType for complete
	FollowsRedirects  bool // below the trust layer
	TakesPlaintext    bool // looks at answers that are no JSON, too

	// Accepts says which refusals of a key object or of settings are ignored.
	Accepts func(*protocol.Error) bool
	// Ignores says which refusals of attested TLS are ignored.
	Ignores func(error) bool
	Resumes bool // takes a resumed TLS session for attested
	// OnRefusal is what the client does when its trust layer refuses.
	OnRefusal func(r *run, e *protocol.Error, method, name string, body []byte, err error) (jsontext.Value, error)
	// Leak bends what the trust layer sends.
	Leak func(r *run, req *http.Request, body []byte) []byte
	// Refuses says which answers to the trust layer the client takes for broken.
	Refuses func(contentType string, body []byte) bool
	// Post bends what the client gives to the trust layer.
	Post func(r *run, req *http.Request)
	// Check refuses results that are fine.
	Check func(method string, result jsontext.Value) error
}

// outer reports whether the flaw needs to see the outer leg.
func (f *Flaw) outer() bool {
	return f.Accepts != nil || f.Leak != nil || f.FollowsRedirects || f.TakesPlaintext || f.Refuses != nil
}
