package hand

import (
	"fmt"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A Frame is one frame of section 7.1, with the members of its type.
type Frame struct {
	Type           uint64 // 1 open, 2 next, 3 answer
	Suite          uint64
	Key            []byte // key digest
	Enc            []byte
	ClientSettings []byte // dCBOR
	Revision       string
	ClientKey      []byte // nil: null
	ID             []byte
	Seq, N         uint64
	Final          bool
	Salt           []byte // nil: null
	Ciphertext     []byte
}

// Encode writes the frame.
func (f *Frame) Encode() []byte {
	n := map[uint64]int{1: 9, 2: 6, 3: 7}[f.Type]
	b := dcbor.AppendUint(dcbor.AppendArray(nil, n), f.Type)
	if f.Type == 1 {
		b = dcbor.AppendUint(b, f.Suite)
		b = dcbor.AppendBytes(dcbor.AppendBytes(dcbor.AppendBytes(b, f.Key), f.Enc), f.ClientSettings)
		b = orNull(dcbor.AppendText(b, f.Revision), f.ClientKey)
		b = dcbor.AppendBool(b, f.Final)
		return dcbor.AppendBytes(b, f.Ciphertext)
	}
	b = dcbor.AppendBytes(b, f.ID)
	b = dcbor.AppendUint(dcbor.AppendUint(b, f.Seq), f.N)
	b = dcbor.AppendBool(b, f.Final)
	if f.Type == 3 {
		b = orNull(b, f.Salt)
	}
	return dcbor.AppendBytes(b, f.Ciphertext)
}

// ParseFrame reads one frame.
func ParseFrame(b []byte) (*Frame, error) {
	f, rest, err := NextFrame(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes after the frame", len(rest))
	}
	return f, err
}

// NextFrame reads the first frame of a CBOR sequence, and returns what follows.
func NextFrame(b []byte) (f *Frame, rest []byte, err error) {
	r := dcbor.NewReader(b)
	n := r.Array()
	f = &Frame{Type: r.Uint()}
	null := func() []byte {
		if r.Null() {
			return nil
		}
		return r.Bytes()
	}
	want := map[uint64]int{1: 9, 2: 6, 3: 7}[f.Type]
	if r.Err() == nil && n != want {
		return nil, nil, fmt.Errorf("a frame of type %d with %d members", f.Type, n)
	}
	if f.Type == 1 {
		f.Suite, f.Key, f.Enc, f.ClientSettings, f.Revision = r.Uint(), r.Bytes(), r.Bytes(), r.Bytes(), r.Text()
		f.ClientKey = null()
		f.Final = r.Bool()
	} else {
		f.ID, f.Seq, f.N, f.Final = r.Bytes(), r.Uint(), r.Uint(), r.Bool()
		if f.Type == 3 {
			f.Salt = null()
		}
	}
	f.Ciphertext = r.Bytes()
	if r.Err() != nil {
		return nil, nil, r.Err()
	}
	return f, b[r.Offset():], nil
}
