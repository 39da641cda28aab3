// Package eat reads and writes entity attestation tokens (EAT, RFC 9711): claims
// about a device or about software, in CBOR or JSON, usually signed. Call
// [Verify] on a token from a peer, with the keys that you pinned and the time;
// [SignCWT] and [SignJWT] make tokens.
//
// The unsigned forms (UCCS, RFC 9781, and claims-sets in JSON) are read by
// [ParseCBOR] and [ParseJSON]; what they return was verified by nobody, and is
// for use inside something that is signed.
//
// CBOR is read in its deterministic form (RFC 8949 section 4.2.1), or with keys
// in any order where the caller allows it, since RFC 9711 does not ask for
// more. Names that occur twice, indefinite lengths and trailing bytes are always
// refused. Claims that are not known here are kept as they came.
package eat

import (
	"strconv"
	"time"
)

// Limits of what is read and written.
const (
	MaxBytes  = 1 << 20 // one token
	maxDepth  = 4       // submodules within submodules
	maxSubs   = 64      // submodules of one claims-set
	maxList   = 64      // items of other lists
	maxNonces = 16
)

// Tags of CBOR forms.
const (
	TagCWT    = 61  // RFC 8392
	TagUCCS   = 601 // RFC 9781
	TagBundle = 602 // RFC 9711 section 6
)

// Claims is a claims-set. Zero values mean that a claim is absent.
type Claims struct {
	Issuer    string    // iss 1
	Subject   string    // sub 2
	Audience  []string  // aud 3
	Expires   time.Time // exp 4; whole seconds
	NotBefore time.Time // nbf 5
	IssuedAt  time.Time // iat 6
	ID        []byte    // cti 7; the text of jti in JSON

	Nonces          [][]byte          // eat_nonce 10: 8 to 64 bytes each; in JSON a text of 8 to 88 characters, as it is
	UEID            []byte            // ueid 256: 7 to 33 bytes
	SUEIDs          map[string][]byte // sueids 257
	OEMID           *OEMID            // oemid 258
	HardwareModel   []byte            // hwmodel 259: 1 to 32 bytes
	HardwareVersion *Version          // hwversion 260
	Uptime          *uint64           // uptime 261: seconds
	OEMBoot         *bool             // oemboot 262
	Debug           *Debug            // dbgstat 263
	Location        Location          // location 264
	Profile         string            // eat_profile 265: a URI, or an OID in dots
	Submods         map[string]Submod // submods 266
	BootCount       *uint64           // bootcount 267
	BootSeed        []byte            // bootseed 268
	DLOAs           []DLOA            // dloas 269
	SoftwareName    string            // swname 270
	SoftwareVersion *Version          // swversion 271
	Manifests       []Content         // manifests 272
	Measurements    []Content         // measurements 273
	Results         []Results         // measres 274
	IntendedUse     Use               // intuse 275

	// Other are the claims that are not listed above: their values in the token's
	// own encoding, one item each. They are written as they are, so they must be
	// in the encoding that is written.
	Other map[Label][]byte
}

// A Label names a claim that is not listed in [Claims]: by a number, which only
// CBOR has, or by a text.
type Label struct {
	Number int64 // when Name is ""
	Name   string
}

// String is the label for people.
func (l Label) String() string {
	if l.Name != "" {
		return l.Name
	}
	return strconv.FormatInt(l.Number, 10)
}

// OEMID identifies a manufacturer: by its private enterprise number, or by an
// IEEE OUI (3 bytes) or a random number (16 bytes).
type OEMID struct {
	PEN int64  // when ID is nil
	ID  []byte // 3 or 16 bytes
}

// A Version is a version with its scheme: a number of the CoSWID registry (1:
// multipartnumeric, 16384: semver), or a text; neither when it is not told.
type Version struct {
	Version    string
	Scheme     int64  // 0: absent
	SchemeName string // "": absent
}

// Debug says whether debug facilities are disabled (RFC 9711 section 4.2.9).
type Debug uint

// The states of debug facilities.
const (
	DebugEnabled Debug = iota
	DebugDisabled
	DebugDisabledSinceBoot
	DebugDisabledPermanently
	DebugDisabledFully
)

var debugNames = []string{"enabled", "disabled", "disabled-since-boot", "disabled-permanently", "disabled-fully-and-permanently"}

// String is the state's name in JSON.
func (d Debug) String() string { return nameOf(debugNames, uint64(d)) }

// Use is what a token is meant for (RFC 9711 section 4.3.3).
type Use uint

// The uses.
const (
	UseGeneric Use = iota + 1
	UseRegistration
	UseProvisioning
	UseCSR
	UsePoP
)

var useNames = []string{"", "generic", "registration", "provisioning", "csr", "pop"}

// String is the use's name in JSON.
func (u Use) String() string { return nameOf(useNames, uint64(u)) }

func nameOf(names []string, i uint64) string {
	if i < uint64(len(names)) {
		return names[i]
	}
	return strconv.FormatUint(i, 10)
}

// A Location is a place by its properties: 1 latitude, 2 longitude, both
// required, 3 altitude, 4 accuracy, 5 altitude accuracy, 6 heading, 7 speed, 8
// timestamp, 9 age, in the units of WGS 84, metres and seconds.
type Location map[int]float64

var locationNames = []string{"", "latitude", "longitude", "altitude", "accuracy", "altitude-accuracy", "heading", "speed", "timestamp", "age"}

// A DLOA points to a digital letter of approval.
type DLOA struct {
	Registrar   string // URI
	Platform    string
	Application string // "": absent
}

// A Content is a manifest or measurements in a format of its own.
type Content struct {
	Format uint16 // CoAP content-format
	Body   []byte
}

// Results are what one system measured and compared.
type Results struct {
	System string
	Of     []MeasurementResult
}

// A MeasurementResult is one comparison.
type MeasurementResult struct {
	ID     string // a text; "" when Bytes is the id
	Bytes  []byte // in JSON indistinguishable from a text, and read as one
	Result Comparison
}

// A Comparison is how a measurement compared with its reference value.
type Comparison uint

// The results of comparisons.
const (
	Success Comparison = iota + 1
	Failure
	NotRun
	Absent
)

var comparisonNames = []string{"", "success", "fail", "not-run", "absent"}

// String is the result's name in JSON.
func (c Comparison) String() string { return nameOf(comparisonNames, uint64(c)) }

// A Submod is one submodule: exactly one of its fields is set.
type Submod struct {
	Claims *Claims // a claims-set, covered by the signature of the token around it
	Nested *Nested // a token of its own, verified by nobody yet
	Digest *Digest // of a claims-set that is conveyed elsewhere; see [Bundle]
}

// A Nested is a token within a token, as bytes, verified by nobody yet.
type Nested struct {
	Form  Form
	Token []byte // a tagged CBOR token, a compact JWT, or a bundle in JSON
}

// A Form is the form of a nested token, by its name in JSON.
type Form string

// The forms of nested tokens.
const (
	CBOR       Form = "CBOR"   // a tagged token: CWT or bundle
	JWT        Form = "JWT"    // a compact JWS
	JSONBundle Form = "BUNDLE" // a bundle in JSON
)

// A Digest is the digest of a detached claims-set.
type Digest struct {
	Algorithm int64  // of the COSE registry: -16 SHA-256, -43 SHA-384, -44 SHA-512; when Name is ""
	Name      string // or by its name there
	Value     []byte
}
