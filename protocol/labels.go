package protocol

import (
	"crypto/sha256"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// ExtensionID is the identifier under which MCP peers negotiate trust.
const ExtensionID = "org.trustedmcp/trust"

// Names that the extension adds to MCP (spec chapter "Registries").
const (
	MethodCall   = "trust/call"                // request: one sealed inner message
	MethodAttest = "trust/attest"              // request: a key object for a nonce
	MethodFrame  = "notifications/trust/frame" // notification: an answer frame that is not the last

	MetaKey      = "org.trustedmcp/key"      // base64url key object
	MetaSettings = "org.trustedmcp/settings" // settings, where capabilities do not travel
	MetaFrames   = "org.trustedmcp/frames"   // inline carrier: array of base64url frames
	MetaAttest   = "org.trustedmcp/attest"   // inline carrier: {"nonce": base64url}
	MetaTool     = "org.trustedmcp/tool"     // inline carrier: {"name", "digest"}
	MetaStatus   = "org.trustedmcp/status"   // label that the client's own trust layer sets

	// MediaTypeFrames is the media type of a CBOR sequence of frames (HTTP carrier).
	MediaTypeFrames = "application/vnd.trustedmcp.frames"

	// KeyProfile is the EAT profile of a key object's claims-set.
	KeyProfile = "tag:trustedmcp.org,2026:key-1"

	// Version is the version of the protocol that settings announce.
	Version = 1
)

// Every digest, derivation and associated data starts with one of these, so
// that no value made for one purpose is valid for another.
const (
	label            = "org.trustedmcp/trust v1 "
	labelSettings    = label + "settings"
	labelKey         = label + "key"
	labelKeyDigest   = label + "key digest"
	labelSeal        = label + "seal"
	labelKeys        = label + "keys"
	labelAnswerKeys  = label + "answer keys"
	labelRequest     = label + "request"
	labelAnswer      = label + "answer"
	labelTool        = label + "tool"
	labelTools       = label + "tools"
	labelReportData  = label + "report data"
	labelPossession  = label + "possession"
	mediaTypeKeyCOSE = "application/vnd.trustedmcp.key+cose"
)

// A Digest is a SHA-256 digest, 32 bytes, of a labelled deterministic encoding.
type Digest [sha256.Size]byte

func digest(encoded []byte) Digest { return sha256.Sum256(encoded) }

// KeyDigest names a key object: SHA-256 over the deterministic CBOR array of
// the label "org.trustedmcp/trust v1 key digest" and the object's bytes.
func KeyDigest(keyObject []byte) Digest {
	b := dcbor.AppendArray(nil, 2)
	b = dcbor.AppendText(b, labelKeyDigest)
	return digest(dcbor.AppendBytes(b, keyObject))
}
