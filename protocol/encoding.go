package protocol

import "encoding/base64"

// base64url without padding, and refusing non-zero bits after the last byte,
// so that every value has one spelling.
var b64 = base64.RawURLEncoding.Strict()

// Base64 is the text form in which key objects and frames stand in JSON:
// base64url without padding.
func Base64(b []byte) string { return b64.EncodeToString(b) }

// ParseBase64 reads the one canonical text form that [Base64] writes.
//
// TMCP-2.3-3: A receiver MUST refuse base64url text with padding, with characters outside the
// alphabet, or whose unused trailing bits are not zero.
func ParseBase64(s string) ([]byte, error) {
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' { // encoding/base64 skips them
			return nil, fail(MalformedFrame, "base64url: line break at byte %d", i)
		}
	}
	b, err := b64.DecodeString(s)
	if err != nil {
		return nil, fail(MalformedFrame, "base64url without padding expected: %v", err)
	}
	return b, nil
}
