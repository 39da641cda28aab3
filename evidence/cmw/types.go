package cmw

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Media types of CMWs (RFC 9999 section 9.5), with their CoAP content-formats.
const (
	TypeCBOR = "application/cmw+cbor" // 273
	TypeJSON = "application/cmw+json" // 274
	TypeCOSE = "application/cmw+cose" // 275
	TypeJWS  = "application/cmw+jws"  // 276
)

// CBOR tags of CMWs, RFC 9999 table 4. The table has the middle two the other
// way round than [Tag] of the content-formats 274 and 275 gives; what they hold
// is told apart by its first byte, see [Record.Type] and [Record.Open].
const (
	TagCollectionCBOR = 1668547091 // of a byte string that holds a collection in CBOR
	TagSignedCBOR     = 1668547092 // … a CMW signed with COSE
	TagCollectionJSON = 1668547093 // … a collection in JSON
	TagSignedJSON     = 1668547094 // … a CMW signed with JWS
)

// ClaimKey and ClaimName are the claims that hold a CMW in a CWT and in a JWT
// (RFC 9999 section 4.3). Records and collections stand there as they are, in
// the token's own encoding.
const (
	ClaimKey  = 299
	ClaimName = "cmw"
)

// Tags that stand for content-formats, RFC 9277 appendix B.
const (
	tagFirst = 1668546817
	tagLast  = 1668612095

	lastTagged = 65024 // the content-format of tagLast
)

// Tag is the CBOR tag of a CoAP content-format up to 65024; those beyond have
// none. TN(ct) = 1668546817 + (ct / 255) * 256 + ct mod 255.
func Tag(format uint16) uint64 {
	return tagFirst + uint64(format)/255*256 + uint64(format)%255
}

// Format is the inverse of [Tag]; ok is false for tags that stand for no
// content-format.
func Format(tag uint64) (format uint16, ok bool) {
	if tag < tagFirst || tag > tagLast {
		return 0, false
	}
	n := tag - tagFirst
	if n%256 == 255 {
		return 0, false
	}
	return uint16(n/256*255 + n%256), true
}

// formats are the content-formats whose media types we know.
var formats = map[uint16]string{
	263: "application/eat+cwt",
	264: "application/eat+jwt",
	265: "application/eat-bun+cbor",
	266: "application/eat-bun+json",
	267: "application/eat-ucs+cbor",
	268: "application/eat-ucs+json",
	273: TypeCBOR,
	274: TypeJSON,
	275: TypeCOSE,
	276: TypeJWS,
}

// Type is the record's media type without parameters, in lower case, also where
// a content-format or tag stands for it. It is "" for content-formats that we
// do not know.
func (r *Record) Type() string {
	t := r.MediaType
	if t == "" {
		if r.Tagged && (r.Format == 274 || r.Format == 275) {
			if len(r.Value) > 0 && r.Value[0] == '{' {
				return TypeJSON
			}
			return TypeCOSE
		}
		return formats[r.Format]
	}
	t, _, _ = strings.Cut(t, ";")
	return strings.ToLower(strings.TrimRight(t, " "))
}

// A Form is how a CMW is encoded.
type Form int

// The forms.
const (
	Unknown Form = iota
	CBORRecord
	CBORTag
	CBORCollection
	JSONRecord
	JSONCollection
)

// Demux tells the form of a CMW by its first byte (RFC 9999 section 3.4).
// Forms of indefinite length are told too, though [Parse] refuses them.
func Demux(b []byte) Form {
	if len(b) == 0 {
		return Unknown
	}
	switch c := b[0]; {
	case c == 0x82 || c == 0x83 || c == 0x9f:
		return CBORRecord
	case c == 0xda:
		return CBORTag
	case c >= 0xa0 && c <= 0xbb || c == 0xbf:
		return CBORCollection
	case c == '[':
		return JSONRecord
	case c == '{':
		return JSONCollection
	}
	return Unknown
}

const (
	name   = `[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}`
	token  = "[A-Za-z0-9!#$%&'*+.^_`|~-]+"
	quoted = `"(?:[ !#-\[\]-~]|\\[ -~])*"`
)

var (
	mediaType = regexp.MustCompile(`^` + name + `/` + name + `(?: *; *` + token + `=(?:` + token + `|` + quoted + `))*$`)
	oid       = regexp.MustCompile(`^[0-2](?:\.0|\.[1-9][0-9]*)+$`)
)

func isMediaType(s string) bool { return len(s) <= maxType && mediaType.MatchString(s) }

// isCollectionType reports whether s may be a collection's type: an absolute URI
// (RFC 3986 section 4.3: with a scheme, without a fragment) or an OID.
func isCollectionType(s string) bool {
	if len(s) > maxType {
		return false
	}
	if oid.MatchString(s) {
		return true
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && len(s) > len(u.Scheme)+1
}

func validText(s string) bool { return utf8.ValidString(s) }
