// Package dcbor writes and strictly reads the deterministic CBOR (RFC 8949
// section 4.2.1) that the protocol's frames, contents and associated data
// are made of. Write with the Append functions; read with a [Reader], whose
// first error sticks, so that a caller checks once at the end. [FromJSON] maps
// a JSON value to CBOR, so that digests do not depend on JSON text.
//
// It exists beside fxamacker/cbor because frames are on the path of every
// call, and because a general decoder accepts encodings that are not
// deterministic (longer integers than needed, unsorted maps).
package dcbor

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Major types of CBOR, RFC 8949 section 3.1.
const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
	majorOther = 7
)

func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n <= 0xff:
		return append(b, m|24, byte(n))
	case n <= 0xffff:
		return append(b, m|25, byte(n>>8), byte(n))
	case n <= 0xffffffff:
		return append(b, m|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	default:
		return append(b, m|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

// HeadLen is the number of bytes of the head of a string of n bytes.
func HeadLen(n int) int {
	switch {
	case n < 24:
		return 1
	case n <= 0xff:
		return 2
	case n <= 0xffff:
		return 3
	case uint64(n) <= 0xffffffff:
		return 5
	default:
		return 9
	}
}

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, n uint64) []byte { return appendHead(b, majorUint, n) }

// AppendInt appends a signed integer.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNint, uint64(-1-n))
	}
	return appendHead(b, majorUint, uint64(n))
}

// AppendBytes appends a byte string.
func AppendBytes(b, s []byte) []byte { return append(appendHead(b, majorBytes, uint64(len(s))), s...) }

// AppendBytesHead appends the head of a byte string of n bytes that the caller
// appends next.
func AppendBytesHead(b []byte, n int) []byte { return appendHead(b, majorBytes, uint64(n)) }

// AppendText appends a text string; s must be valid UTF-8.
func AppendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

// AppendArray appends the head of an array of n items.
func AppendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// AppendMap appends the head of a map of n pairs, whose keys the caller appends
// in bytewise order of their encodings.
func AppendMap(b []byte, n int) []byte { return appendHead(b, majorMap, uint64(n)) }

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xf5)
	}
	return append(b, 0xf4)
}

// AppendNull appends null.
func AppendNull(b []byte) []byte { return append(b, 0xf6) }

// ErrNotDeterministic is wrapped by every error about bytes that are CBOR but
// not in the one encoding that RFC 8949 section 4.2.1 allows.
var ErrNotDeterministic = errors.New("not deterministic CBOR")

// errShort is wrapped by errors about input that ends before its item does.
var errShort = errors.New("the input ends early")

// IsShort reports whether err says that more input is needed.
func IsShort(err error) bool { return errors.Is(err, errShort) }

// A Reader reads deterministic CBOR. Strings that it returns alias the input.
// After an error all its methods return zero values; see [Reader.Err].
type Reader struct {
	b   []byte
	off int
	err error
}

// NewReader returns a Reader of b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Reset makes r read b from the start.
func (r *Reader) Reset(b []byte) { *r = Reader{b: b} }

// Err is the first error met.
func (r *Reader) Err() error { return r.err }

// Offset is the number of bytes read.
func (r *Reader) Offset() int { return r.off }

// Done returns the first error met, or an error when bytes are left over.
func (r *Reader) Done() error {
	if r.err == nil && r.off != len(r.b) {
		r.err = fmt.Errorf("%d bytes after the value, at byte %d: %w", len(r.b)-r.off, r.off, ErrNotDeterministic)
	}
	return r.err
}

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: "+format, append([]any{r.off}, args...)...)
	}
}

func (r *Reader) head() (major byte, n uint64) {
	if r.err != nil {
		return 0, 0
	}
	if r.off >= len(r.b) {
		r.fail("%w", errShort)
		return 0, 0
	}
	c := r.b[r.off]
	major, info := c>>5, c&31
	size := 0
	switch {
	case info < 24:
		r.off++
		return major, uint64(info)
	case info <= 27:
		size = 1 << (info - 24)
	case info == 31:
		r.fail("indefinite length: %w", ErrNotDeterministic)
		return 0, 0
	default:
		r.fail("reserved additional information %d", info)
		return 0, 0
	}
	if len(r.b)-r.off-1 < size {
		r.fail("%w", errShort)
		return 0, 0
	}
	for _, x := range r.b[r.off+1 : r.off+1+size] {
		n = n<<8 | uint64(x)
	}
	if major != majorOther && HeadLen64(n) != size+1 {
		r.fail("an integer or length in more bytes than it needs: %w", ErrNotDeterministic)
		return 0, 0
	}
	r.off += size + 1
	return major, n
}

// HeadLen64 is [HeadLen] for any argument.
func HeadLen64(n uint64) int {
	switch {
	case n < 24:
		return 1
	case n <= 0xff:
		return 2
	case n <= 0xffff:
		return 3
	case n <= 0xffffffff:
		return 5
	default:
		return 9
	}
}

func (r *Reader) want(major byte, what string) uint64 {
	start := r.off
	m, n := r.head()
	if r.err != nil {
		return 0
	}
	if m != major {
		r.off = start
		r.fail("want %s, found major type %d", what, m)
		return 0
	}
	return n
}

func (r *Reader) str(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.off) {
		r.fail("a string of %d bytes, %d are left: %w", n, len(r.b)-r.off, errShort)
		return nil
	}
	s := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return s
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 { return r.want(majorUint, "an unsigned integer") }

// Int reads a signed integer.
func (r *Reader) Int() int64 {
	if r.err != nil {
		return 0
	}
	m, n := r.head()
	if r.err != nil {
		return 0
	}
	if (m != majorUint && m != majorNint) || n > 1<<63-1 {
		r.fail("want an integer of 64 bits")
		return 0
	}
	if m == majorNint {
		return -1 - int64(n)
	}
	return int64(n)
}

// Bytes reads a byte string.
func (r *Reader) Bytes() []byte { return r.str(r.want(majorBytes, "a byte string")) }

// BytesN reads a byte string of exactly n bytes.
func (r *Reader) BytesN(n int) []byte {
	s := r.Bytes()
	if r.err == nil && len(s) != n {
		r.fail("a byte string of %d bytes where %d are required", len(s), n)
		return nil
	}
	return s
}

// Text reads a text string.
func (r *Reader) Text() string {
	s := r.str(r.want(majorText, "a text string"))
	if r.err == nil && !utf8.Valid(s) {
		r.fail("a text string that is not UTF-8")
		return ""
	}
	return string(s)
}

// Array reads the head of an array and returns its length, which is at most
// the number of bytes left.
func (r *Reader) Array() int { return r.count(r.want(majorArray, "an array"), 1) }

// ArrayN reads the head of an array that must have n items.
func (r *Reader) ArrayN(n int) {
	if got := r.Array(); r.err == nil && got != n {
		r.fail("an array of %d items where %d are required", got, n)
	}
}

// Map reads the head of a map and returns the number of its pairs. The caller
// checks the order of keys.
func (r *Reader) Map() int { return r.count(r.want(majorMap, "a map"), 2) }

func (r *Reader) count(n uint64, perItem int) int {
	if r.err == nil && n > uint64(len(r.b)-r.off)/uint64(perItem) {
		r.fail("%d items announced, %d bytes left: %w", n, len(r.b)-r.off, errShort)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	switch r.peek() {
	case 0xf5:
		r.off++
		return true
	case 0xf4:
		r.off++
		return false
	}
	r.fail("want true or false")
	return false
}

// Null reports whether the next item is null, and reads it if so.
func (r *Reader) Null() bool {
	if r.err == nil && r.off < len(r.b) && r.b[r.off] == 0xf6 {
		r.off++
		return true
	}
	return false
}

func (r *Reader) peek() byte {
	if r.err != nil {
		return 0
	}
	if r.off >= len(r.b) {
		r.fail("%w", errShort)
		return 0
	}
	return r.b[r.off]
}

// AppendTag appends the head of a tagged item.
func AppendTag(b []byte, n uint64) []byte { return appendHead(b, majorTag, n) }

// Tag reads the head of a tagged item that must have tag n.
func (r *Reader) Tag(n uint64) {
	if got := r.want(majorTag, "a tag"); r.err == nil && got != n {
		r.fail("tag %d where %d is required", got, n)
	}
}

// Skip reads one item of any kind, checks that it is deterministic all the way
// down, and returns its bytes.
func (r *Reader) Skip() []byte {
	start := r.off
	r.skip(0)
	if r.err != nil {
		return nil
	}
	return r.b[start:r.off:r.off]
}

func (r *Reader) skip(depth int) {
	if depth > maxDepth {
		r.fail("nested deeper than %d", maxDepth)
		return
	}
	start := r.off
	major, n := r.head()
	if r.err != nil {
		return
	}
	switch major {
	case majorBytes:
		r.str(n)
	case majorText:
		if s := r.str(n); r.err == nil && !utf8.Valid(s) {
			r.fail("a text string that is not UTF-8")
		}
	case majorArray:
		for range r.count(n, 1) {
			r.skip(depth + 1)
			if r.err != nil {
				return
			}
		}
	case majorMap:
		var last []byte
		for range r.count(n, 2) {
			k := r.off
			r.skip(depth + 1)
			if r.err != nil {
				return
			}
			key := r.b[k:r.off]
			if last != nil && bytes.Compare(last, key) >= 0 {
				r.off = k
				r.fail("map keys unsorted or double: %w", ErrNotDeterministic)
				return
			}
			last = key
			r.skip(depth + 1)
			if r.err != nil {
				return
			}
		}
	case majorTag:
		r.skip(depth + 1)
	case majorOther:
		r.simple(start, n)
	}
}

// simple checks an item of major type 7 whose head has been read.
func (r *Reader) simple(start int, n uint64) {
	var f float64
	switch r.b[start] & 31 {
	case 20, 21, 22: // false, true, null
		return
	case 25:
		f = halfToFloat(uint16(n))
	case 26:
		f = float64(math.Float32frombits(uint32(n)))
	case 27:
		f = math.Float64frombits(n)
	default:
		r.off = start
		r.fail("simple value not allowed")
		return
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		r.off = start
		r.fail("a number that is not finite")
		return
	}
	if want := appendFloat(nil, f); !bytes.Equal(want, r.b[start:r.off]) {
		r.off = start
		r.fail("a float in more bytes than it needs: %w", ErrNotDeterministic)
	}
}

func halfToFloat(h uint16) float64 {
	exp, man := int(h>>10&31), float64(h&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(man, -24)
	case 31:
		f = math.Inf(1)
		if man != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+man, exp-25)
	}
	if h&0x8000 != 0 {
		f = -f
	}
	return f
}

// PeekMajor is the major type of the next item, 0 to 7, without reading it.
func (r *Reader) PeekMajor() byte { return r.peek() >> 5 }

// Fail records an error of the caller's at the current place.
func (r *Reader) Fail(why string) { r.fail("%s", why) }
