package client

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// A sealContext is what both ends derive from one encapsulation (section 6.3).
type sealContext struct {
	id         protocol.ContextID
	suite      uint64
	requestKey []byte
	requestIV  []byte
	secret     []byte // of answers
	salt       []byte
	revision   string
	settings   []byte // of the client, dCBOR
	exp        uint64 // of the key object that it was opened with
	clientKey  []byte // key object that the client showed, nil for none
	byDigest   bool   // it showed the digest only
	key        protocol.Digest
}

// retryOf names the first seal of a message, and the end of the key object that
// it was sealed to (section 8.5).
type retryOf struct {
	ctx protocol.ContextID
	seq uint64
	exp uint64
}

// content is the plaintext of a frame, taken apart.
type content struct {
	kind   uint64
	status uint64
	fields [][2]string
	target string
	method string
	event  string
	stream bool
	retry  *retryOf
	proof  []byte // of possession
	body   []byte
	padded bool
	over   map[uint64][]byte // further meta, in CBOR

	badPadding bool
}

func (c *content) field(name string) string {
	for _, f := range c.fields {
		if f[0] == name {
			return f[1]
		}
	}
	return ""
}

// opened is a sealed request that the holder opened.
type opened struct {
	content
	ctx     *sealContext
	seq     uint64
	carrier uint64
	warm    bool
	frame   []byte // as it came
}

func newSealAEAD(suite uint64, key []byte) (cipher.AEAD, error) {
	if suite == 2 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonceAt(base []byte, seq, n uint64) []byte {
	out := make([]byte, 12)
	binary.BigEndian.PutUint64(out, seq)
	binary.BigEndian.PutUint32(out[8:], uint32(n))
	for i := range out {
		out[i] ^= base[i]
	}
	return out
}

func place(b []byte, carrier, seq, n uint64, final bool) []byte {
	for _, v := range []uint64{carrier, seq, n} {
		b = dcbor.AppendUint(b, v)
	}
	return dcbor.AppendBool(b, final)
}

// open opens a request frame. tool is the CBOR of [name, digest], or nil.
func (h *holder) open(frame []byte, carrier uint64, tool []byte) (*opened, error) {
	f, err := protocol.InspectFrame(frame)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var ctx *sealContext
	switch f.Type {
	case 1:
		known, ok := h.objects[f.KeyDigest]
		if !ok {
			return nil, errUnknown{protocol.UnknownKey}
		}
		if ctx, err = h.newContext(f, known.keys); err != nil {
			return nil, err
		}
		ctx.exp = known.exp
	case 2:
		if ctx = h.contexts[f.Context]; ctx == nil {
			return nil, errUnknown{protocol.UnknownContext}
		}
	default:
		return nil, badFrame("an answer frame in a request")
	}
	aead, err := newSealAEAD(ctx.suite, ctx.requestKey)
	if err != nil {
		return nil, err
	}
	aad := place(dcbor.AppendText(dcbor.AppendArray(nil, 7), label+"request"), carrier, f.Seq, f.N, f.Final)
	if tool == nil {
		aad = dcbor.AppendNull(aad)
	} else {
		aad = append(aad, tool...)
	}
	plain, err := aead.Open(nil, nonceAt(ctx.requestIV, f.Seq, f.N), f.Ciphertext, dcbor.AppendNull(aad))
	if err != nil {
		return nil, badFrame("the sealed request does not open: %v", err)
	}
	o := &opened{ctx: ctx, seq: f.Seq, carrier: carrier, warm: f.Type == 2, frame: frame}
	if err := o.content.read(plain); err != nil {
		return nil, badFrame("the sealed content: %v", err)
	}
	h.contexts[ctx.id] = ctx
	return o, nil
}

func (h *holder) newContext(f *protocol.Frame, keys map[uint64]suiteKey) (*sealContext, error) {
	k, ok := keys[uint64(f.Suite)]
	if !ok {
		return nil, badFrame("suite %d was not offered", f.Suite)
	}
	server := h.settings.Digest()
	mine := append(dcbor.AppendText(dcbor.AppendArray(nil, 2), label+"settings"), f.ClientSettings...)
	info := dcbor.AppendText(dcbor.AppendArray(nil, 8), label+"seal")
	info = dcbor.AppendUint(dcbor.AppendUint(info, 2), uint64(f.Suite))
	info = dcbor.AppendBytes(info, f.KeyDigest[:])
	info = dcbor.AppendBytes(info, server[:])
	info = dcbor.AppendBytes(info, hash(mine))
	object, byDigest := f.ClientKey, false
	switch {
	case f.ClientKey == nil:
		if h.settings.Offer().ClientKey == protocol.ClientKeyDemanded {
			return nil, errUnknown{protocol.ClientKeyRequired}
		}
		info = dcbor.AppendNull(info)
	case len(f.ClientKey) == len(protocol.Digest{}):
		if object, byDigest = h.shown[protocol.Digest(f.ClientKey)], true; object == nil {
			return nil, errUnknown{protocol.ClientKeyRequired}
		}
		info = dcbor.AppendBytes(info, f.ClientKey)
	default:
		d := keyDigest(f.ClientKey)
		h.shown[d] = f.ClientKey
		info = dcbor.AppendBytes(info, d[:])
	}
	info = dcbor.AppendText(info, f.Revision)
	rec, err := hpke.NewRecipient(f.Enc, k.priv, hpke.HKDFSHA256(), k.aead, info)
	if err != nil {
		return nil, badFrame("HPKE: %v", err)
	}
	b, err := rec.Export(label+"keys", 92)
	if err != nil {
		return nil, err
	}
	c := &sealContext{clientKey: object, byDigest: byDigest, key: f.KeyDigest, id: protocol.ContextID(b[:16]), suite: uint64(f.Suite), requestKey: b[16:48], requestIV: b[48:60], secret: b[60:92],
		salt: make([]byte, 16), revision: f.Revision, settings: f.ClientSettings}
	rand.Read(c.salt)
	return c, nil
}

func (c *content) read(b []byte) error {
	r := dcbor.NewReader(b)
	n := r.Array()
	c.kind = r.Uint()
	for range r.Map() {
		switch key := r.Uint(); key {
		case 1:
			c.status = r.Uint()
		case 2:
			for range r.Array() {
				r.ArrayN(2)
				c.fields = append(c.fields, [2]string{r.Text(), string(r.Bytes())})
				if r.Err() != nil {
					break
				}
			}
		case 3:
			c.target = r.Text()
		case 4:
			c.method = r.Text()
		case 5:
			c.event = r.Text()
		case 8:
			r.ArrayN(3)
			c.retry = &retryOf{}
			copy(c.retry.ctx[:], r.BytesN(16))
			c.retry.seq, c.retry.exp = r.Uint(), r.Uint()
		case 10:
			c.proof = r.Bytes()
		default:
			r.Skip()
		}
		if r.Err() != nil {
			return r.Err()
		}
	}
	c.body = r.Bytes()
	if n == 4 {
		r.Bytes()
		c.padded = true
	}
	return r.Done()
}

func (c *content) encode() []byte {
	meta := map[int64][]byte{}
	if c.status != 0 && c.status != 200 {
		meta[1] = number(int64(c.status))
	}
	if len(c.fields) > 0 {
		b := dcbor.AppendArray(nil, len(c.fields))
		for _, f := range c.fields {
			b = dcbor.AppendText(dcbor.AppendArray(b, 2), f[0])
			b = dcbor.AppendBytes(b, []byte(f[1]))
		}
		meta[2] = b
	}
	if c.event != "" {
		meta[5] = text(c.event)
	}
	if c.stream {
		meta[9] = dcbor.AppendBool(nil, true)
	}
	for k, v := range c.over {
		meta[int64(k)] = v
	}
	n := 3
	if c.padded || c.badPadding {
		n = 4
	}
	b := dcbor.AppendUint(dcbor.AppendArray(nil, n), c.kind)
	b = dcbor.AppendBytes(append(b, claimsSet(meta)...), c.body)
	if n == 4 {
		zeros := make([]byte, 300)
		if c.badPadding {
			zeros[299] = 1
		}
		b = dcbor.AppendBytes(b, zeros)
	}
	return b
}

// An outFrame is an answer frame in the making. Every part can be bent.
type outFrame struct {
	content content
	ctx     *sealContext
	seq, n  uint64
	final   bool
	carrier uint64
	salt    []byte              // nil: the context's
	head    func(*outFrame)     // bends what stands outside after sealing
	bytes   func([]byte) []byte // bends the encoded frame
	flip    bool                // changes one bit of the ciphertext
	raw     []byte              // in place of all
}

func (f *outFrame) encode() []byte {
	if f.raw != nil {
		return f.raw
	}
	g := *f
	salt := g.salt
	if salt == nil {
		salt = g.ctx.salt
	}
	keys, err := hkdf.Key(sha256.New, g.ctx.secret, salt, label+"answer keys", 44)
	if err != nil {
		return nil
	}
	aead, err := newSealAEAD(g.ctx.suite, keys[:32])
	if err != nil {
		return nil
	}
	aad := place(dcbor.AppendText(dcbor.AppendArray(nil, 5), label+"answer"), g.carrier, g.seq, g.n, g.final)
	ct := aead.Seal(nil, nonceAt(keys[32:], g.seq, g.n), g.content.encode(), aad)
	if g.flip {
		ct[len(ct)/2] ^= 1
	}
	if g.head != nil {
		g.head(&g)
	}
	b := dcbor.AppendUint(dcbor.AppendArray(nil, 7), 3)
	b = dcbor.AppendBytes(b, g.ctx.id[:])
	b = dcbor.AppendUint(dcbor.AppendUint(b, g.seq), g.n)
	b = dcbor.AppendBool(b, g.final)
	if g.n == 0 {
		if g.salt != nil {
			salt = g.salt
		}
		b = dcbor.AppendBytes(b, salt)
	} else {
		b = dcbor.AppendNull(b)
	}
	b = dcbor.AppendBytes(b, ct)
	if g.bytes != nil {
		b = g.bytes(b)
	}
	return b
}
