package scan

import (
	"encoding/binary"
	"unicode/utf8"
)

// A reader reads the binary format. Its first error sticks; all reads after it
// give zero values. Offsets are from the start of the module.
type reader struct {
	b   []byte // the whole module
	pos int
	end int // where what is read ends: a section, a body
	err *Error
}

func (r *reader) fail(reason, format string, args ...any) {
	if r.err == nil {
		r.err = newError(reason, r.pos, format, args...)
		r.pos = r.end
	}
}

func (r *reader) ok() bool { return r.err == nil }

func (r *reader) left() int { return r.end - r.pos }

func (r *reader) byte() byte {
	if r.pos >= r.end {
		r.fail(Invalid, "ends too early")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail(Invalid, "%d bytes are announced, %d are left", n, r.left())
		return nil
	}
	b := r.b[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// uint reads an unsigned LEB128 number of at most bits bits, in at most
// ceil(bits/7) bytes.
func (r *reader) uint(bits uint) (v uint64) {
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		if rest := bits - shift; rest < 7 && c>>rest != 0 {
			r.fail(Invalid, "number of more than %d bits", bits)
		}
		if !r.ok() {
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return v
		}
	}
}

func (r *reader) u32() int { return int(r.uint(32)) } // int has 64 bits, or 2^31 and more fail every bound as negative

// skipInt reads a signed LEB128 number of at most bits bits.
func (r *reader) skipInt(bits uint) {
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		if !r.ok() {
			return
		}
		if rest := bits - shift; rest <= 7 {
			// The sign and all bits above it must be equal, and no byte may follow.
			if top := int8(c<<1) >> rest; c&0x80 != 0 || top != 0 && top != -1 {
				r.fail(Invalid, "number of more than %d bits", bits)
			}
			return
		}
		if c&0x80 == 0 {
			return
		}
	}
}

// i32 reads a signed LEB128 number that was found to have 32 bits, as the address
// that it is.
func (r *reader) i32() (v uint32) {
	for shift := uint(0); shift < 35; shift += 7 {
		c := r.byte()
		v |= uint32(c&0x7f) << shift
		if c&0x80 == 0 {
			if c&0x40 != 0 && shift < 25 {
				v |= ^uint32(0) << (shift + 7)
			}
			break
		}
	}
	return v
}

// count reads the length of a vector whose elements have at least one byte
// each: no count beyond the bytes left gets out of here.
func (r *reader) count(what string, limit int) int {
	n := r.u32()
	switch {
	case n < 0 || n > r.left():
		r.fail(Invalid, "%d %s are announced, %d bytes are left", uint32(n), what, r.left())
	case n > limit:
		r.fail(Limit, "%d %s; at most %d are allowed", n, what, limit)
	}
	if !r.ok() {
		return 0
	}
	return n
}

// index reads an index into something that has n elements.
func (r *reader) index(what string, n int) int {
	i := r.u32()
	if i < 0 || i >= n {
		r.fail(Invalid, "%s %d of %d", what, uint32(i), n)
		return 0
	}
	return i
}

func (r *reader) name() string {
	b := r.bytes(r.count("bytes of a name", maxName))
	if !utf8.Valid(b) {
		r.fail(Invalid, "a name is not UTF-8")
		return ""
	}
	return string(b)
}

func (r *reader) uint32le() uint32 {
	b := r.bytes(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendInt(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
