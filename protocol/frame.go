package protocol

import (
	"crypto/sha256"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Frame types: the first item of every frame.
const (
	frameOpen   = 1
	frameNext   = 2
	frameAnswer = 3
)

const (
	saltLen = 16
	tagLen  = 16 // of both AEADs
)

// ContextID names a context: 16 bytes that both sides derive from the HPKE
// context, so that no server state is needed to issue it.
type ContextID [16]byte

// A Frame is a frame taken apart, for tools and tests; nothing in it is
// authenticated. See [InspectFrame]. On the wire a frame is one of the
// deterministic CBOR arrays
//
//	open:   [1, suite, key digest, enc, client settings, revision, client key, final, ciphertext]
//	next:   [2, ctx, seq, n, final, ciphertext]
//	answer: [3, ctx, seq, n, final, salt, ciphertext]
//
// An open frame starts a context, as its message 0. A next frame is a later
// message, or a later chunk of a message. An answer frame is number n of the
// answer to message seq.
type Frame struct {
	Type           int // 1 open, 2 next, 3 answer
	Suite          Suite
	KeyDigest      Digest
	Enc            []byte // encapsulated key: 1120 bytes hybrid, 32 X25519
	ClientSettings []byte // deterministic CBOR
	Revision       string // of the inner message, or ""
	ClientKey      []byte // nil, a key object, or a digest of 32 bytes
	Context        ContextID
	Seq            uint64
	N              uint64
	Final          bool
	Salt           []byte // 16 bytes, only in answer frame 0
	Ciphertext     []byte // with the AEAD tag of 16 bytes
}

// Bounds of counters.
const (
	maxSeq = 1<<48 - 1
	maxN   = 1<<32 - 1
)

// InspectFrame reads a frame strictly. Slices alias b.
func InspectFrame(b []byte) (*Frame, error) {
	f := &Frame{}
	if err := f.parse(b); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Frame) parse(b []byte) error {
	r := dcbor.NewReader(b)
	n := r.Array()
	f.Type = int(min(r.Uint(), 255))
	switch {
	case r.Err() != nil:
	case f.Type == frameOpen && n == 9:
		f.Suite = Suite(min(r.Uint(), 255))
		copy(f.KeyDigest[:], r.BytesN(sha256.Size))
		f.Enc = r.Bytes()
		f.ClientSettings = r.Bytes()
		f.Revision = r.Text()
		if !r.Null() {
			f.ClientKey = r.Bytes()
		}
	case f.Type == frameNext && n == 6, f.Type == frameAnswer && n == 7:
		copy(f.Context[:], r.BytesN(len(f.Context)))
		f.Seq, f.N = r.Uint(), r.Uint()
	default:
		// TMCP-7.1-1: A server MUST answer bytes that are not a frame of type open or next with
		// `malformed-frame`.
		// TMCP-7.1-3: A receiver MUST refuse a frame whose arrays … have another length than
		// stated here.
		return fail(MalformedFrame, "type %d in an array of %d is no frame", f.Type, n)
	}
	f.Final = r.Bool()
	if f.Type == frameAnswer && !r.Null() {
		f.Salt = r.BytesN(saltLen)
	}
	f.Ciphertext = r.Bytes()
	if err := r.Done(); err != nil {
		return fail(MalformedFrame, "%v", err)
	}
	switch {
	case f.Seq > maxSeq || f.N > maxN:
		return fail(MalformedFrame, "a counter beyond its range")
	case f.Type == frameOpen && f.Suite.valid() && len(f.Enc) != f.Suite.encLen():
		return fail(MalformedFrame, "an encapsulated key of %d bytes, %v has %d", len(f.Enc), f.Suite, f.Suite.encLen())
	case f.Type == frameOpen && f.Revision != "" && !looksLikeRevision(f.Revision):
		return fail(MalformedFrame, "revision %.20q", f.Revision)
	case f.Type == frameAnswer && (f.Salt != nil) != (f.N == 0):
		return fail(MalformedFrame, "an answer has its salt in frame 0 and nowhere else")
	case len(f.Ciphertext) < tagLen:
		return fail(MalformedFrame, "a ciphertext shorter than its tag")
	}
	return nil
}

// ParseFrames splits a CBOR sequence of frames (HTTP carrier) at its first
// frame's end: it returns the first frame and the rest. When b holds only a
// part of a frame, need is true and more bytes must be read.
func ParseFrames(b []byte) (first, rest []byte, need bool, err error) {
	if len(b) == 0 {
		return nil, nil, true, nil
	}
	// A frame is a short flat array, so each try takes the same small time
	// however the bytes arrive.
	r := dcbor.NewReader(b)
	n := b[0] & 31
	if b[0]>>5 != 4 || n != 6 && n != 7 && n != 9 {
		return nil, nil, false, fail(MalformedFrame, "byte %#02x does not begin a frame", b[0])
	}
	for r.Array(); n > 0; n-- {
		if k := r.PeekMajor(); k >= 4 && k <= 6 {
			return nil, nil, false, fail(MalformedFrame, "a frame holds no arrays, maps or tags")
		}
		r.Skip()
	}
	if err := r.Err(); err != nil {
		if dcbor.IsShort(err) {
			return nil, b, true, nil
		}
		return nil, nil, false, fail(MalformedFrame, "%v", err)
	}
	return b[:r.Offset():r.Offset()], b[r.Offset():], false, nil
}

// Outer is what of a message stands outside the seal and must not change on
// the way. Both sides put it in the associated data.
type Outer struct {
	Carrier Carrier
	Tool    *Tool             // inline only: the tool as its own server knows it
	Labels  map[string]string // what the sender disclosed on purpose
}

// appendRequestAAD writes [label, carrier, seq, n, final, tool, labels].
func appendRequestAAD(b []byte, o *Outer, seq, n uint64, final bool) []byte {
	b = dcbor.AppendArray(b, 7)
	b = dcbor.AppendText(b, labelRequest)
	b = appendPlace(b, o.Carrier, seq, n, final)
	if o.Tool == nil {
		b = dcbor.AppendNull(b)
	} else {
		b = dcbor.AppendText(dcbor.AppendArray(b, 2), o.Tool.Name)
		b = dcbor.AppendBytes(b, o.Tool.Digest[:])
	}
	if len(o.Labels) == 0 {
		return dcbor.AppendNull(b)
	}
	keys := make([]string, 0, len(o.Labels))
	for k := range o.Labels {
		keys = append(keys, k)
	}
	// Deterministic order is that of the encodings: shorter keys first.
	slices.SortFunc(keys, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		if a < b {
			return -1
		}
		return 1
	})
	b = dcbor.AppendMap(b, len(keys))
	for _, k := range keys {
		b = dcbor.AppendText(dcbor.AppendText(b, k), o.Labels[k])
	}
	return b
}

// appendAnswerAAD writes [label, carrier, seq, n, final].
func appendAnswerAAD(b []byte, c Carrier, seq, n uint64, final bool) []byte {
	b = dcbor.AppendArray(b, 5)
	b = dcbor.AppendText(b, labelAnswer)
	return appendPlace(b, c, seq, n, final)
}

func appendPlace(b []byte, c Carrier, seq, n uint64, final bool) []byte {
	b = dcbor.AppendUint(b, uint64(c))
	b = dcbor.AppendUint(b, seq)
	b = dcbor.AppendUint(b, n)
	return dcbor.AppendBool(b, final)
}
