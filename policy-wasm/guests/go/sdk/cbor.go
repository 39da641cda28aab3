package policy

import "unicode/utf8"

// Major types of CBOR (RFC 8949 section 3.1), as far as documents have them.
const (
	kindUnsigned = 0
	kindNegative = 1
	kindText     = 3
	kindArray    = 4
	kindMap      = 5
	kindOther    = 7
)

const (
	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22
	byteNull    = kindOther<<5 | simpleNull
)

const (
	maxDepth = 32        // of arrays and objects in one another
	maxInt   = 1<<53 - 1 // and the least integer is its negative
)

// valid reports whether b is one item of deterministic CBOR as documents are:
// integers, texts, arrays, maps with texts as keys, true, false and null. All
// other functions here need that.
func valid(b string) bool {
	// A stack in place of recursion, for which guests have little room.
	var levels [maxDepth + 1]struct {
		left   int // items yet to come
		object bool
		last   string // key, with its head
	}
	levels[0].left = 1
	at, depth := 0, 0
	for {
		l := &levels[depth]
		if l.left == 0 {
			if depth == 0 {
				return at == len(b)
			}
			depth--
			continue
		}
		l.left--
		if l.object {
			kind, n, next, ok := head(b, at)
			if !ok || kind != kindText {
				return false
			}
			end, ok := text(b, next, n)
			if !ok || b[at:end] <= l.last {
				return false
			}
			l.last, at = b[at:end], end
		}
		kind, n, next, ok := head(b, at)
		switch {
		case !ok:
			return false
		case kind == kindUnsigned && n <= maxInt, kind == kindNegative && n < maxInt, kind == kindOther && n >= simpleFalse && n <= simpleNull:
			at = next
		case kind == kindText:
			if at, ok = text(b, next, n); !ok {
				return false
			}
		case (kind == kindArray || kind == kindMap) && depth < maxDepth && n <= uint64(len(b)-next):
			at = next
			depth++
			l = &levels[depth]
			l.left, l.object, l.last = int(n), kind == kindMap, ""
		default:
			return false
		}
	}
}

// text returns where the text of n bytes that starts at at ends.
func text(b string, at int, n uint64) (end int, ok bool) {
	if n > uint64(len(b)-at) {
		return 0, false
	}
	end = at + int(n)
	return end, utf8.ValidString(b[at:end])
}

// head reads the head of an item: its major type, its argument, and where the
// head ends. It refuses arguments in more bytes than they need.
func head(b string, at int) (kind byte, n uint64, next int, ok bool) {
	if at < len(b) && b[at]&31 < 24 { // most heads, without a call
		return b[at] >> 5, uint64(b[at] & 31), at + 1, true
	}
	return longHead(b, at)
}

func longHead(b string, at int) (kind byte, n uint64, next int, ok bool) {
	if at >= len(b) {
		return 0, 0, 0, false
	}
	kind, n = b[at]>>5, uint64(b[at]&31)
	at++
	if n > 27 {
		return 0, 0, 0, false
	}
	size := 1 << (n - 24)
	if len(b)-at < size {
		return 0, 0, 0, false
	}
	n = 0
	for _, c := range []byte(b[at : at+size]) {
		n = n<<8 | uint64(c)
	}
	if n < 24 || size > 1 && n>>(4*size) == 0 {
		return 0, 0, 0, false
	}
	return kind, n, at + size, true
}

// skip returns where the item at at ends.
func skip(b string, at int) int {
	for left := 1; left > 0; left-- {
		kind, n, next, _ := head(b, at)
		at = next
		switch kind {
		case kindText:
			at += int(n)
		case kindArray:
			left += int(n)
		case kindMap:
			left += 2 * int(n)
		}
	}
	return at
}

func appendHead(b []byte, kind byte, n uint64) []byte {
	k := kind << 5
	switch {
	case n < 24:
		return append(b, k|byte(n))
	case n <= 0xff:
		return append(b, k|24, byte(n))
	case n <= 0xffff:
		return append(b, k|25, byte(n>>8), byte(n))
	case n <= 0xffffffff:
		return append(b, k|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, k|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, kindText, uint64(len(s))), s...)
}

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, kindNegative, uint64(-1-n))
	}
	return appendHead(b, kindUnsigned, uint64(n))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, kindOther<<5|simpleTrue)
	}
	return append(b, kindOther<<5|simpleFalse)
}
