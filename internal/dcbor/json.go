package dcbor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// FromJSON appends the CBOR encoding of a JSON value to dst. Objects become
// maps with text keys in deterministic order, arrays arrays, and numbers that
// are integral and at most 2^53 in magnitude become integers whatever their
// spelling (1, 1.0 and 1e0 are one value); others become the shortest float
// that keeps their value as IEEE 754 double. Two JSON texts of equal value give
// equal bytes. The value must already be checked (unique names, bounded
// depth); see internal/jsonrpc.
func FromJSON(dst []byte, v jsontext.Value) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(v)) // read in place
	return fromJSON(dst, dec, 0)
}

const maxDepth = 64

func fromJSON(dst []byte, dec *jsontext.Decoder, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("JSON nested deeper than %d", maxDepth)
	}
	tok, err := dec.ReadToken()
	if err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	switch tok.Kind() {
	case 'n':
		return AppendNull(dst), nil
	case 't', 'f':
		return AppendBool(dst, tok.Bool()), nil
	case '"':
		return AppendText(dst, tok.String()), nil
	case '0':
		return appendNumber(dst, tok.String())
	case '[':
		var items []byte
		n := 0
		for dec.PeekKind() != ']' {
			if items, err = fromJSON(items, dec, depth+1); err != nil {
				return nil, err
			}
			n++
		}
		if _, err := dec.ReadToken(); err != nil {
			return nil, err
		}
		return append(AppendArray(dst, n), items...), nil
	case '{':
		type pair struct{ key, val []byte }
		var pairs []pair
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, fmt.Errorf("JSON: %w", err)
			}
			p := pair{key: AppendText(nil, name.String())}
			if p.val, err = fromJSON(nil, dec, depth+1); err != nil {
				return nil, err
			}
			pairs = append(pairs, p)
		}
		if _, err := dec.ReadToken(); err != nil {
			return nil, err
		}
		slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
		dst = AppendMap(dst, len(pairs))
		for _, p := range pairs {
			dst = append(append(dst, p.key...), p.val...)
		}
		return dst, nil
	}
	return nil, fmt.Errorf("JSON: unexpected token %v", tok)
}

func appendNumber(dst []byte, s string) ([]byte, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("JSON number %.40q is out of range", s)
	}
	if f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		return AppendInt(dst, int64(f)), nil
	}
	return appendFloat(dst, f), nil
}

// appendFloat writes the shortest of half, single and double precision that
// keeps f exactly. f is finite.
func appendFloat(dst []byte, f float64) []byte {
	f32 := float32(f)
	if float64(f32) != f {
		return binary.BigEndian.AppendUint64(append(dst, 0xfb), math.Float64bits(f))
	}
	if h, ok := half(f32); ok {
		return binary.BigEndian.AppendUint16(append(dst, 0xf9), h)
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xfa), math.Float32bits(f32))
}

// half converts f to IEEE 754 half precision when that is exact.
func half(f float32) (uint16, bool) {
	bits := math.Float32bits(f)
	sign, exp, man := uint16(bits>>16)&0x8000, int(bits>>23&0xff)-127, bits&0x7fffff
	switch {
	case exp >= -14 && exp <= 15 && man&0x1fff == 0:
		return sign | uint16(exp+15)<<10 | uint16(man>>13), true
	case exp >= -24 && exp < -14: // subnormal half
		full := man | 0x800000
		shift := uint(-exp - 14 + 13)
		if full&(1<<shift-1) == 0 {
			return sign | uint16(full>>shift), true
		}
	}
	return 0, false
}

// ToJSON is the inverse of [FromJSON]: it reads one deterministic CBOR item
// that FromJSON could have written and appends its JSON text to dst. Items that
// JSON has no counterpart for (byte strings, tags, keys that are no text) are
// errors, as are encodings that FromJSON would not choose.
func ToJSON(dst, item []byte) ([]byte, error) {
	r := NewReader(item)
	start := len(dst)
	dst = r.toJSON(dst, 0)
	if err := r.Done(); err != nil {
		return nil, err
	}
	again, err := FromJSON(nil, dst[start:])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, item) {
		return nil, fmt.Errorf("not the encoding that JSON values have: %w", ErrNotDeterministic)
	}
	return dst, nil
}

func (r *Reader) toJSON(dst []byte, depth int) []byte {
	if depth > maxDepth {
		r.fail("nested deeper than %d", maxDepth)
	}
	c := r.peek()
	if r.err != nil {
		return dst
	}
	switch c >> 5 {
	case majorUint, majorNint:
		return strconv.AppendInt(dst, r.Int(), 10)
	case majorText:
		dst, _ = jsontext.AppendQuote(dst, r.Text())
		return dst
	case majorArray:
		dst = append(dst, '[')
		for i := range r.Array() {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst = r.toJSON(dst, depth+1); r.err != nil {
				return dst
			}
		}
		return append(dst, ']')
	case majorMap:
		dst = append(dst, '{')
		for i := range r.Map() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst, _ = jsontext.AppendQuote(dst, r.Text())
			dst = append(dst, ':')
			if dst = r.toJSON(dst, depth+1); r.err != nil {
				return dst
			}
		}
		return append(dst, '}')
	case majorOther:
		switch c {
		case 0xf4, 0xf5:
			return strconv.AppendBool(dst, r.Bool())
		case 0xf6:
			r.Null()
			return append(dst, "null"...)
		case 0xf9, 0xfa, 0xfb:
			start := r.off
			_, n := r.head()
			if r.simple(start, n); r.err != nil {
				return dst
			}
			f := map[byte]func(uint64) float64{
				0xf9: func(n uint64) float64 { return halfToFloat(uint16(n)) },
				0xfa: func(n uint64) float64 { return float64(math.Float32frombits(uint32(n))) },
				0xfb: math.Float64frombits,
			}[c](n)
			return strconv.AppendFloat(dst, f, 'g', -1, 64)
		}
	}
	r.fail("an item that JSON has no counterpart for")
	return dst
}
