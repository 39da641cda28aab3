package sealfile

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// The digest that a sender signs, written by hand: label, recipient, header,
// commitment and metadata, so that another implementation signs the same.
func TestSealingByHand(t *testing.T) {
	b := &box{header: [32]byte{1}, commitment: [32]byte{2}}
	hand := bytes.Join([][]byte{
		{0x85, 0x78, byte(len(labelSealing))}, []byte("org.trustedmcp/trust v1 file sealing"),
		{0x65}, []byte("urn:x"),
		{0x58, 32}, b.header[:], {0x58, 32}, b.commitment[:],
		{0xa2, 1, 0x61, 'n', 3, 5},
	}, nil)
	if got := b.sealing("urn:x", Metadata{Name: "n", Size: 5, statement: []byte("x")}); got != sha256.Sum256(hand) {
		t.Error("the digest is of something else")
	}
}
