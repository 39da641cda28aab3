// Package hand seals and opens by hand: contexts, frames and contents written
// straight from chapters 5 to 7 of the specification, on HPKE, HKDF and AEADs
// alone. The suite uses it where the bytes must be ones that a careful library
// refuses to make, and so that it does not judge by the code that it judges.
//
// A client's side begins with [Encapsulate], a server's with [Decapsulate].
// Nothing here checks what a peer may send; that is for callers.
package hand

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Label begins all labels of version 1 (section 17).
const Label = "org.trustedmcp/trust v1 "

// Carriers (section 6.5).
const (
	Envelope = 1
	Inline   = 2
	HTTP     = 3
)

// Kinds of content (section 6.6).
const (
	Message = 1
	Get     = 2
	Delete  = 3
	End     = 4
	Head    = 5 // "http"
	Data    = 6
	Raw     = 7
)

// KEM is the key encapsulation of a suite (section 6.1), or nil.
func KEM(suite uint64) hpke.KEM {
	switch suite {
	case 1:
		return hpke.MLKEM768X25519()
	case 2:
		return hpke.DHKEM(ecdh.X25519())
	}
	return nil
}

func aeadOf(suite uint64) hpke.AEAD {
	if suite == 2 {
		return hpke.ChaCha20Poly1305()
	}
	return hpke.AES256GCM()
}

func newAEAD(suite uint64, key []byte) (cipher.AEAD, error) {
	if suite == 2 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Hash is SHA-256.
func Hash(b []byte) [32]byte { return sha256.Sum256(b) }

// Digest is SHA-256 over [label name, item], for an item in CBOR.
func Digest(name string, item []byte) [32]byte {
	return Hash(append(dcbor.AppendText(dcbor.AppendArray(nil, 2), Label+name), item...))
}

// KeyDigest is the key digest of a key object (section 5.5).
func KeyDigest(object []byte) [32]byte { return Digest("key digest", dcbor.AppendBytes(nil, object)) }

// SettingsDigest is that of a settings object in dCBOR (section 4.3).
func SettingsDigest(settings []byte) [32]byte { return Digest("settings", settings) }

// PublicKeys are the HPKE keys that a key object names, by suite. It reads the
// object without verifying it.
func PublicKeys(object []byte) (map[uint64][]byte, error) {
	r := dcbor.NewReader(object)
	r.Tag(98)
	r.ArrayN(4)
	r.Skip()
	r.Skip()
	payload := r.Bytes()
	if r.Err() != nil {
		return nil, r.Err()
	}
	keys := map[uint64][]byte{}
	c := dcbor.NewReader(payload)
	for range c.Map() {
		if c.Int() != -70001 {
			c.Skip()
			continue
		}
		for range c.Array() {
			c.ArrayN(2)
			suite := c.Uint()
			keys[suite] = c.Bytes()
		}
	}
	return keys, c.Err()
}

// Info is what a context commits to (section 6.2). Its zero Label and Role
// stand for the right ones.
type Info struct {
	Label     string
	Role      uint64
	Suite     uint64
	Key       [32]byte
	Server    [32]byte // settings digests
	Client    [32]byte
	ClientKey []byte // digest, or nil
	Revision  string
}

// Encode is the HPKE info.
func (i Info) Encode() []byte {
	if i.Label == "" {
		i.Label = Label + "seal"
	}
	if i.Role == 0 {
		i.Role = 2
	}
	b := dcbor.AppendText(dcbor.AppendArray(nil, 8), i.Label)
	b = dcbor.AppendUint(dcbor.AppendUint(b, i.Role), i.Suite)
	for _, d := range [][32]byte{i.Key, i.Server, i.Client} {
		b = dcbor.AppendBytes(b, d[:])
	}
	return dcbor.AppendText(orNull(b, i.ClientKey), i.Revision)
}

func orNull(b, v []byte) []byte {
	if v == nil {
		return dcbor.AppendNull(b)
	}
	return dcbor.AppendBytes(b, v)
}

// A Context is what one encapsulation yields (section 6.3).
type Context struct {
	ID     [16]byte
	Suite  uint64
	Enc    []byte // on the client's side
	key    []byte
	nonce  []byte
	secret []byte
}

func newContext(suite uint64, export func(string, int) ([]byte, error)) (*Context, error) {
	b, err := export(Label+"keys", 92)
	if err != nil {
		return nil, err
	}
	return &Context{ID: [16]byte(b[:16]), Suite: suite, key: b[16:48], nonce: b[48:60], secret: b[60:92]}, nil
}

// Encapsulate starts a context to a public key, committing to info.
func Encapsulate(public []byte, suite uint64, info []byte) (*Context, error) {
	kem := KEM(suite)
	if kem == nil {
		return nil, fmt.Errorf("hand: no suite %d", suite)
	}
	pub, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), aeadOf(suite), info)
	if err != nil {
		return nil, err
	}
	c, err := newContext(suite, sender.Export)
	if err == nil {
		c.Enc = enc
	}
	return c, err
}

// Decapsulate is the server's side of [Encapsulate].
func Decapsulate(key hpke.PrivateKey, suite uint64, enc, info []byte) (*Context, error) {
	rec, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), aeadOf(suite), info)
	if err != nil {
		return nil, err
	}
	return newContext(suite, rec.Export)
}

// A Place is where a frame stands, and what stands outside of it.
type Place struct {
	Carrier, Seq, N uint64
	Final           bool
	Tool            []byte // request: CBOR of [name, digest], or nil
	Labels          []byte // request: CBOR, or nil
}

func (p Place) head(b []byte) []byte {
	b = dcbor.AppendUint(dcbor.AppendUint(dcbor.AppendUint(b, p.Carrier), p.Seq), p.N)
	return dcbor.AppendBool(b, p.Final)
}

func (p Place) request() []byte {
	b := p.head(dcbor.AppendText(dcbor.AppendArray(nil, 7), Label+"request"))
	for _, v := range [][]byte{p.Tool, p.Labels} {
		if v == nil {
			v = dcbor.AppendNull(nil)
		}
		b = append(b, v...)
	}
	return b
}

func (p Place) answer() []byte {
	return p.head(dcbor.AppendText(dcbor.AppendArray(nil, 5), Label+"answer"))
}

// Tool is the CBOR of the tool in a request's associated data.
func Tool(name string, digest [32]byte) []byte {
	return dcbor.AppendBytes(dcbor.AppendText(dcbor.AppendArray(nil, 2), name), digest[:])
}

func nonceAt(base []byte, seq, n uint64) []byte {
	out := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, seq), uint32(n))
	for i := range out {
		out[i] ^= base[i]
	}
	return out
}

// Seal seals a request's content at a place, and returns the ciphertext.
func (c *Context) Seal(p Place, content []byte) ([]byte, error) {
	aead, err := newAEAD(c.Suite, c.key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nonceAt(c.nonce, p.Seq, p.N), content, p.request()), nil
}

// Open opens what [Context.Seal] made.
func (c *Context) Open(p Place, ciphertext []byte) ([]byte, error) {
	aead, err := newAEAD(c.Suite, c.key)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nonceAt(c.nonce, p.Seq, p.N), ciphertext, p.request())
}

func (c *Context) answers(salt []byte) (cipher.AEAD, []byte, error) {
	keys, err := hkdf.Key(sha256.New, c.secret, salt, Label+"answer keys", 44)
	if err != nil {
		return nil, nil, err
	}
	aead, err := newAEAD(c.Suite, keys[:32])
	return aead, keys[32:], err
}

// SealAnswer makes a whole answer frame.
func (c *Context) SealAnswer(p Place, salt, content []byte) ([]byte, error) {
	aead, base, err := c.answers(salt)
	if err != nil {
		return nil, err
	}
	ct := aead.Seal(nil, nonceAt(base, p.Seq, p.N), content, p.answer())
	if p.N > 0 {
		salt = nil
	}
	return (&Frame{Type: 3, ID: c.ID[:], Seq: p.Seq, N: p.N, Final: p.Final, Salt: salt, Ciphertext: ct}).Encode(), nil
}

// OpenAnswer opens the frames of one whole answer, and holds them to section
// 9.1: one context and seq, numbered from 0, the last one final and no other.
func (c *Context) OpenAnswer(frames [][]byte, carrier, seq uint64) ([]*Content, error) {
	var out []*Content
	var salt []byte
	for i, b := range frames {
		f, err := ParseFrame(b)
		switch {
		case err != nil:
			return nil, fmt.Errorf("answer frame %d: %w", i, err)
		case f.Type != 3 || !bytes.Equal(f.ID, c.ID[:]) || f.Seq != seq:
			return nil, fmt.Errorf("answer frame %d is of type %d, context %x, seq %d; expected 3, %x, %d", i, f.Type, f.ID, f.Seq, c.ID, seq)
		case f.N != uint64(i):
			return nil, fmt.Errorf("answer frame %d has the number %d", i, f.N)
		case f.Final != (i == len(frames)-1):
			return nil, fmt.Errorf("answer frame %d of %d has final %v", i, len(frames), f.Final)
		case (f.Salt != nil) != (i == 0):
			return nil, fmt.Errorf("answer frame %d: the salt stands in frame 0 only", i)
		}
		if i == 0 {
			salt = f.Salt
		}
		aead, base, err := c.answers(salt)
		if err != nil {
			return nil, err
		}
		p := Place{Carrier: carrier, Seq: f.Seq, N: f.N, Final: f.Final}
		plain, err := aead.Open(nil, nonceAt(base, f.Seq, f.N), f.Ciphertext, p.answer())
		if err != nil {
			return nil, fmt.Errorf("answer frame %d does not open: %w", i, err)
		}
		content, err := ParseContent(plain)
		if err != nil {
			return nil, fmt.Errorf("answer frame %d: %w", i, err)
		}
		out = append(out, content)
	}
	if len(out) == 0 {
		return nil, errors.New("the answer has no frame")
	}
	return out, nil
}

// A Content is the plaintext of a frame (section 6.6). Meta values are CBOR.
type Content struct {
	Kind    uint64
	Meta    map[uint64][]byte
	Body    []byte
	Padding []byte // nil: none
}

// Encode writes the content, the keys of its meta sorted.
func (c *Content) Encode() []byte {
	n := 3
	if c.Padding != nil {
		n = 4
	}
	b := dcbor.AppendUint(dcbor.AppendArray(nil, n), c.Kind)
	b = dcbor.AppendMap(b, len(c.Meta))
	for _, k := range slices.Sorted(maps.Keys(c.Meta)) {
		b = append(dcbor.AppendUint(b, k), c.Meta[k]...)
	}
	b = dcbor.AppendBytes(b, c.Body)
	if n == 4 {
		b = dcbor.AppendBytes(b, c.Padding)
	}
	return b
}

// ParseContent reads a content. The values of its meta stay CBOR.
func ParseContent(b []byte) (*Content, error) {
	r := dcbor.NewReader(b)
	n := r.Array()
	c := &Content{Kind: r.Uint(), Meta: map[uint64][]byte{}}
	for range r.Map() {
		k := r.Uint()
		v := r.Skip()
		if r.Err() != nil {
			return nil, r.Err()
		}
		c.Meta[k] = v
	}
	c.Body = r.Bytes()
	if n == 4 {
		c.Padding = r.Bytes()
	}
	if err := r.Done(); err != nil || n < 3 || n > 4 {
		return nil, fmt.Errorf("a content that is not one: %d items, %v", n, err)
	}
	return c, nil
}

// Status is meta 1, or 200.
func (c *Content) Status() uint64 {
	if v := c.Meta[1]; v != nil {
		return dcbor.NewReader(v).Uint()
	}
	return 200
}

// Fields are the pairs of meta 2.
func (c *Content) Fields() [][2]string {
	var out [][2]string
	if v := c.Meta[2]; v != nil {
		r := dcbor.NewReader(v)
		for range r.Array() {
			r.ArrayN(2)
			name := r.Text()
			value := string(r.Bytes())
			if r.Err() != nil {
				return out
			}
			out = append(out, [2]string{name, value})
		}
	}
	return out
}

// Text is a text of meta, or "".
func (c *Content) Text(key uint64) string {
	if v := c.Meta[key]; v != nil {
		return dcbor.NewReader(v).Text()
	}
	return ""
}

// Fields is the CBOR of HTTP fields (meta 2).
func Fields(pairs ...[2]string) []byte {
	b := dcbor.AppendArray(nil, len(pairs))
	for _, p := range pairs {
		b = dcbor.AppendBytes(dcbor.AppendText(dcbor.AppendArray(b, 2), p[0]), []byte(p[1]))
	}
	return b
}
