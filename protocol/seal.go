package protocol

import (
	"crypto/cipher"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// sealedSize is an upper bound of the bytes that c takes in a frame.
func sealedSize(c *Content, pad bool) int {
	n := 64 + len(c.Body) + len(c.Meta.Target) + len(c.Meta.Method) + len(c.Meta.EventID) + len(c.Meta.EventName)
	for _, f := range c.Meta.Fields {
		n += 12 + len(f.Name) + len(f.Value)
	}
	if pad {
		n = bucket(n + 16)
	}
	return n + tagLen
}

// sealContent appends the ciphertext of c as a byte string: the content is
// written where its ciphertext goes, and sealed in place.
func sealContent(dst []byte, c *Content, pad bool, aead cipher.AEAD, sc *scratch) []byte {
	// The head's size depends on the content's, so leave room for the largest.
	const room = 5
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0)
	dst = c.append(dst, pad)
	size := len(dst) - start - room
	head := dcbor.AppendBytesHead(dst[start:start], size+tagLen)
	at := start + len(head)
	if len(head) != room {
		copy(dst[at:], dst[start+room:])
		dst = dst[:at+size]
	}
	dst = slices.Grow(dst, tagLen) // so that sealing in place has the room
	aead.Seal(dst[at:at], sc.nonce[:], dst[at:], sc.aad)
	return dst[:at+size+tagLen]
}
