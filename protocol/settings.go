package protocol

import (
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Profile names what a party proves (spec chapter "Profiles").
type Profile string

// The profiles. This package implements the first three; ProfileAttestedTLS is
// that of package transport/attestedtls, ProfileAICC is named so that settings
// can be read.
const (
	ProfileIdentity    Profile = "identity"
	ProfileAttested    Profile = "attested"
	ProfileMutual      Profile = "mutual"
	ProfileAttestedTLS Profile = "attested-tls"
	ProfileAICC        Profile = "aicc-0.1"
)

// strength orders the profiles that a key object can have; 0 for others.
//
// TMCP-12.2-1: A verifier MUST NOT take a profile that it does not know for a stronger one than it
// knows.
func (p Profile) strength() int { return 1 + slices.Index(profiles[:3], p) }

var profiles = []Profile{ProfileIdentity, ProfileAttested, ProfileMutual, ProfileAttestedTLS, ProfileAICC}

// A Mode is how much a party insists on trust. It is local policy: what a peer
// announces never lowers it.
type Mode string

const (
	// ModeRequired fails closed: no plaintext, whatever happens. The default.
	ModeRequired Mode = "required"
	// ModePreferred seals where the peer can, and labels what it could not.
	ModePreferred Mode = "preferred"
	// ModeOff takes no part. It is never announced.
	ModeOff Mode = "off"
)

// ClientKey is what a server wants of a client's own key object.
type ClientKey string

const (
	ClientKeyNone     ClientKey = "none"
	ClientKeyAccepted ClientKey = "accepted"
	ClientKeyDemanded ClientKey = "required"
)

// An Offer is what a party announces. [NewSettings] completes and checks it.
type Offer struct {
	Profiles  []Profile // default: identity
	Carriers  []Carrier // in order of preference; default: envelope, inline, http
	Suites    []Suite   // in order of preference; default: hybrid, then X25519
	Mode      Mode      // default: required
	ClientKey ClientKey // servers only; default: none
}

// Settings are the value of capabilities.extensions["org.trustedmcp/trust"]:
// an offer, with the exact JSON value that was sent or received, because both
// sides commit to its digest. Immutable.
type Settings struct {
	offer  Offer
	json   []byte
	cbor   []byte
	digest Digest
}

// Offer returns what the settings announce. Its slices must not be changed.
func (s *Settings) Offer() Offer { return s.offer }

// JSON is the settings object as JSON text. It must not be changed.
func (s *Settings) JSON() []byte { return s.json }

// CBOR is the settings object in deterministic CBOR. It must not be changed.
func (s *Settings) CBOR() []byte { return s.cbor }

// Digest is SHA-256 over the deterministic CBOR array [label "settings", value].
// Settings whose JSON was re-serialised on the way keep their digest.
//
// TMCP-4.3-1: An implementation MUST compute the settings digest over the settings object as it
// was received, including members that it does not know.
func (s *Settings) Digest() Digest { return s.digest }

// Capabilities is the JSON of a capabilities object that holds the extension
// and nothing else; with legacy, under "experimental" too.
func (s *Settings) Capabilities(legacy bool) []byte {
	ext := `{"` + ExtensionID + `":` + string(s.json) + `}`
	if legacy {
		return []byte(`{"extensions":` + ext + `,"experimental":` + ext + `}`)
	}
	return []byte(`{"extensions":` + ext + `}`)
}

// NewSettings completes an offer with defaults.
func NewSettings(o Offer) (*Settings, error) {
	if o.Profiles == nil {
		o.Profiles = []Profile{ProfileIdentity}
	}
	if o.Carriers == nil {
		o.Carriers = []Carrier{Envelope, Inline, HTTP}
	}
	if o.Suites == nil {
		o.Suites = []Suite{SuiteHybrid, SuiteX25519}
	}
	if o.Mode == "" {
		// TMCP-11.1-1: The mode of an implementation that was configured for this extension MUST
		// be `required` unless its operator chose otherwise.
		o.Mode = ModeRequired
	}
	// TMCP-4.1-1: A server whose mode is not `off` MUST advertise its settings object
	if o.Mode == ModeOff {
		return nil, fail(NoOverlap, "mode off is not announced; leave the extension out")
	}
	b := []byte(`{"version":` + strconv.Itoa(Version))
	b = appendList(b, "profiles", o.Profiles, func(p Profile) string { return string(p) })
	b = appendList(b, "carriers", o.Carriers, Carrier.String)
	b = appendList(b, "suites", o.Suites, Suite.String)
	b = append(append(b, `,"mode":`...), jsonrpc.Quote(string(o.Mode))...)
	if o.ClientKey != "" {
		b = append(append(b, `,"clientKey":`...), jsonrpc.Quote(string(o.ClientKey))...)
	}
	return ParseSettings(append(b, '}'))
}

func appendList[T any](b []byte, name string, list []T, str func(T) string) []byte {
	b = append(b, `,"`+name+`":[`...)
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, jsonrpc.Quote(str(v))...)
	}
	return append(b, ']')
}

// ParseSettings reads a peer's settings object. Unknown members and unknown
// entries of lists are ignored, but count for the digest. Errors have reason
// [UnsupportedVersion] or [NegotiationMismatch].
func ParseSettings(v []byte) (*Settings, error) {
	if err := jsonrpc.Check(v, jsonrpc.Limits{MaxBytes: maxSettings}); err != nil {
		return nil, fail(NegotiationMismatch, "settings: %v", err)
	}
	v = slices.Clone(v)
	s := &Settings{json: v}
	seen := map[string]bool{}
	err := jsonrpc.Members(v, func(name string, val jsontext.Value) error {
		seen[name] = true
		switch name {
		// TMCP-4.2-1: The member `version` MUST be present and be 1.
		case "version":
			if n, err := strconv.ParseFloat(string(val), 64); err != nil || n != Version {
				return fail(UnsupportedVersion, "settings.version is %.20s, this side speaks %d", val, Version)
			}
		case "profiles":
			return readList(name, val, func(t string) {
				if p := Profile(t); slices.Contains(profiles, p) {
					s.offer.Profiles = appendNew(s.offer.Profiles, p)
				}
			})
		case "carriers":
			return readList(name, val, func(t string) {
				if c := carrierByName(t); c != 0 {
					s.offer.Carriers = appendNew(s.offer.Carriers, c)
				}
			})
		// TMCP-4.2-6: A receiver MUST ignore unknown members and unknown entries of the lists
		case "suites":
			return readList(name, val, func(t string) {
				if c := suiteByName(t); c != 0 {
					s.offer.Suites = appendNew(s.offer.Suites, c)
				}
			})
		// TMCP-4.2-5: The member `mode` MUST be present and be `required` or `preferred`.
		case "mode":
			t, _ := jsonrpc.Text(val)
			if s.offer.Mode = Mode(t); s.offer.Mode != ModeRequired && s.offer.Mode != ModePreferred {
				return fail(NegotiationMismatch, `settings.mode is %.20s, want "required" or "preferred"`, val)
			}
		case "clientKey":
			t, _ := jsonrpc.Text(val)
			s.offer.ClientKey = ClientKey(t)
			if !slices.Contains([]ClientKey{ClientKeyNone, ClientKeyAccepted, ClientKeyDemanded}, s.offer.ClientKey) {
				return fail(NegotiationMismatch, `settings.clientKey is %.20s, want "none", "accepted" or "required"`, val)
			}
		}
		return nil
	})
	if err != nil {
		if e, ok := err.(*Error); ok {
			return nil, e
		}
		return nil, fail(NegotiationMismatch, "settings: %v", err)
	}
	// TMCP-4.2-7: A receiver MUST refuse a settings object that lacks a required member
	for _, name := range []string{"version", "profiles", "carriers", "suites", "mode"} {
		if !seen[name] {
			return nil, fail(NegotiationMismatch, "settings.%s is missing", name)
		}
	}
	// TMCP-2.4-1: An implementation MUST compute digests of JSON values over this mapping of the
	// decoded value.
	if s.cbor, err = dcbor.FromJSON(nil, v); err != nil {
		return nil, fail(NegotiationMismatch, "settings: %v", err)
	}
	b := dcbor.AppendArray(nil, 2)
	b = dcbor.AppendText(b, labelSettings)
	s.digest = digest(append(b, s.cbor...))
	return s, nil
}

const maxSettings = 16 << 10 // bytes of a settings object

// appendNew appends v unless it is there: a list of a peer's is as long as the
// peer likes, and what is kept of it is not.
func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

func readList(name string, v jsontext.Value, add func(string)) error {
	if v.Kind() != '[' {
		return fail(NegotiationMismatch, "settings.%s is not an array", name)
	}
	return jsonrpc.Elements(v, func(e jsontext.Value) error {
		t, ok := jsonrpc.Text(e)
		if !ok {
			return fail(NegotiationMismatch, "settings.%s holds %.20s, want strings", name, e)
		}
		add(t)
		return nil
	})
}

// settingsFromCBOR reads settings as they stand in an open frame.
func settingsFromCBOR(b []byte) (*Settings, error) {
	if len(b) > maxSettings {
		return nil, fail(NegotiationMismatch, "settings of %d bytes, the limit is %d", len(b), maxSettings)
	}
	js, err := dcbor.ToJSON(nil, b)
	if err != nil {
		return nil, fail(MalformedFrame, "client settings: %v", err)
	}
	return ParseSettings(js)
}

// chooseSuite is the client's most preferred suite that the server lists too.
// Both sides compute it, so that a rewritten list shows.
func chooseSuite(client, server *Settings) (Suite, error) {
	// TMCP-4.7-1: A client MUST choose the suite that stands first in its own `suites` among those
	// that the server's `suites` list too.
	for _, s := range client.offer.Suites {
		if slices.Contains(server.offer.Suites, s) {
			return s, nil
		}
	}
	return 0, fail(NoOverlap, "no common suite: client %v, server %v", client.offer.Suites, server.offer.Suites)
}

// weight is what a context with these settings counts for, so that a peer which
// sends other large settings with each context fills no more memory than one
// which does not.
func (s *Settings) weight() int64 { return 1 + int64(len(s.json)+len(s.cbor))/512 }

func (s *Settings) allows(c Carrier) bool { return slices.Contains(s.offer.Carriers, c) }
