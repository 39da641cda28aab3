// Package fields reads structures of fixed-size little-endian fields.
package fields

import "encoding/binary"

// A Reader takes fields off the front of Rest. After the first that is not there
// it is Short, and all that it gives is empty.
type Reader struct {
	Rest  []byte
	Short bool
}

// Take returns the next n bytes.
func (r *Reader) Take(n int) []byte {
	if n < 0 || n > len(r.Rest) || r.Short {
		r.Short, r.Rest = true, nil
		return nil
	}
	out := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return out
}

// U16 reads 2 bytes.
func (r *Reader) U16() uint16 {
	if b := r.Take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// U32 reads 4 bytes.
func (r *Reader) U32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}
