package corim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// An Item is one CBOR item in its deterministic encoding. Two items are equal
// when their bytes are.
type Item []byte

// String gives the item in hex, for people.
func (i Item) String() string { return fmt.Sprintf("h'%x'", []byte(i)) }

// A Field is an entry of a map with integer keys that is kept as it came.
type Field struct {
	Code  int64
	Value Item
}

// UintItem, TextItem, BytesItem, UUIDItem, OIDItem and UEIDItem make the items
// that class ids, instance ids, group ids and measurement keys are made of.
func UintItem(n uint64) Item { return dcbor.AppendUint(nil, n) }

// TextItem is a text string.
func TextItem(s string) Item { return dcbor.AppendText(nil, s) }

// BytesItem is an opaque identifier: tag 560.
func BytesItem(b []byte) Item { return dcbor.AppendBytes(dcbor.AppendTag(nil, tagBytes), b) }

// UUIDItem is a UUID: tag 37.
func UUIDItem(u [16]byte) Item { return dcbor.AppendBytes(dcbor.AppendTag(nil, tagUUID), u[:]) }

// UEIDItem is a Universal Entity ID of 7 to 33 bytes: tag 550.
func UEIDItem(b []byte) Item { return dcbor.AppendBytes(dcbor.AppendTag(nil, tagUEID), b) }

// OIDItem is an object identifier, given in dotted form: tag 111.
func OIDItem(oid string) (Item, error) {
	b, err := oidBytes(oid)
	if err != nil {
		return nil, err
	}
	return dcbor.AppendBytes(dcbor.AppendTag(nil, tagOID), b), nil
}

// mapWriter collects the entries of a map with integer keys.
type mapWriter []Field

func (m *mapWriter) add(code int64, v Item) { *m = append(*m, Field{code, v}) }
func (m *mapWriter) extra(f []Field)        { *m = append(*m, f...) }
func (m *mapWriter) bytes(code int64, v []byte) {
	if v != nil {
		m.add(code, dcbor.AppendBytes(nil, v))
	}
}
func (m *mapWriter) text(code int64, s string) {
	if s != "" {
		m.add(code, dcbor.AppendText(nil, s))
	}
}

func (m mapWriter) encode() Item {
	type pair struct{ k, v []byte }
	ps := make([]pair, len(m))
	for i, f := range m {
		ps[i] = pair{dcbor.AppendInt(nil, f.Code), f.Value}
	}
	slices.SortFunc(ps, func(a, b pair) int { return bytes.Compare(a.k, b.k) })
	b := dcbor.AppendMap(nil, len(ps))
	for _, p := range ps {
		b = append(append(b, p.k...), p.v...)
	}
	return b
}

func array(items []Item) Item {
	b := dcbor.AppendArray(nil, len(items))
	for _, v := range items {
		b = append(b, v...)
	}
	return b
}

func arrayOf[T any](list []T, f func(T) Item) Item {
	b := dcbor.AppendArray(nil, len(list))
	for _, v := range list {
		b = append(b, f(v)...)
	}
	return b
}

func in(where string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

func unknownCode(code int64) error { return fmt.Errorf("code point %d is not one of this map", code) }

// eachField reads a map with integer keys, whose determinism was checked before,
// and demands those given.
func eachField(v Item, f func(code int64, v Item) error, required ...int64) error {
	r := dcbor.NewReader(v)
	n := r.Map()
	if n > maxItems {
		return fmt.Errorf("a map of %d entries, the limit is %d", n, maxItems)
	}
	if r.Err() == nil && n == 0 {
		return errors.New("a map without entries")
	}
	for range n {
		code := r.Int()
		item := Item(r.Skip())
		if r.Err() != nil {
			break
		}
		required = slices.DeleteFunc(required, func(c int64) bool { return c == code })
		if err := f(code, item); err != nil {
			return err
		}
	}
	if err := r.Done(); err != nil {
		return err
	}
	if len(required) > 0 {
		return fmt.Errorf("the required code point %d is missing", required[0])
	}
	return nil
}

// eachItem reads an array of at least one item.
func eachItem(v Item, limit int, f func(v Item) error) error {
	i := -1
	return eachItem0(v, limit, func(v Item) error {
		i++
		if err := f(v); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		return nil
	}, 1)
}

func eachItem0(v Item, limit int, f func(v Item) error, least int) error {
	r := dcbor.NewReader(v)
	n := r.Array()
	if r.Err() == nil && (n < least || n > limit) {
		return fmt.Errorf("an array of %d items, want %d to %d", n, least, limit)
	}
	for range n {
		item := Item(r.Skip())
		if r.Err() != nil {
			break
		}
		if err := f(item); err != nil {
			return err
		}
	}
	return r.Done()
}

// tuple reads an array of least to most items.
func tuple(v Item, least, most int) ([]Item, error) {
	var out []Item
	err := eachItem0(v, most, func(v Item) error { out = append(out, v); return nil }, least)
	return out, err
}

func text(v Item, out *string) error {
	r := dcbor.NewReader(v)
	*out = r.Text()
	if err := r.Done(); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("an empty text")
	}
	return nil
}

func byteString(v Item, out *[]byte) error {
	r := dcbor.NewReader(v)
	*out = r.Bytes()
	return r.Done()
}

func sized(v Item, out *[]byte, least, most int) error {
	if err := byteString(v, out); err != nil {
		return err
	}
	if len(*out) < least || len(*out) > most {
		return fmt.Errorf("a byte string of %d bytes, want %d to %d", len(*out), least, most)
	}
	return nil
}

func unsigned(v Item, out *uint64) error {
	r := dcbor.NewReader(v)
	*out = r.Uint()
	return r.Done()
}

func integer(v Item, out *int64) error {
	r := dcbor.NewReader(v)
	*out = r.Int()
	return r.Done()
}

// splitTag takes a tagged item apart. Its determinism was checked before.
func splitTag(v Item) (tag uint64, content Item, ok bool) {
	if len(v) == 0 || v[0]>>5 != 6 {
		return 0, nil, false
	}
	n := 0
	switch info := v[0] & 31; {
	case info < 24:
		return uint64(info), v[1:], true
	case info < 28:
		n = 1 << (info - 24)
	}
	if n == 0 || len(v) < n+1 {
		return 0, nil, false
	}
	for _, x := range v[1 : n+1] {
		tag = tag<<8 | uint64(x)
	}
	return tag, v[n+1:], true
}

// SplitTag is the tag of a tagged item and what is tagged.
func SplitTag(v Item) (tag uint64, content Item, ok bool) { return splitTag(v) }

// untag is the content of an item with that tag, or nil.
func untag(v Item, tag uint64) Item {
	if t, content, ok := splitTag(v); ok && t == tag {
		return content
	}
	return nil
}

// Normalize rewrites one CBOR item in its deterministic encoding. It refuses
// duplicate keys, indefinite lengths, bad UTF-8 and trailing bytes, since those
// have more than one reading or none.
func Normalize(b []byte) (Item, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%d bytes, the limit is %d", len(b), MaxSize)
	}
	if err := strict.Wellformed(b); err != nil {
		return nil, err
	}
	out, rest, err := normalize(b)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes after the value", len(rest))
	}
	if err != nil {
		return nil, err
	}
	r := dcbor.NewReader(out)
	r.Skip()
	return out, r.Done()
}

var strict, _ = cbor.DecOptions{
	IndefLength:      cbor.IndefLengthForbidden,
	MaxNestedLevels:  64,
	MaxArrayElements: maxItems,
	MaxMapPairs:      maxItems,
}.DecMode()

// normalize rewrites the first item of b, which is well-formed, with lengths and
// integers as short as they can be and maps sorted.
func normalize(b []byte) (out, rest []byte, err error) {
	major, info, n, off := b[0]>>5, b[0]&31, uint64(b[0]&31), 1
	if info >= 24 && info <= 27 {
		n = 0
		for off = 1; off < 1+1<<(info-24); off++ {
			n = n<<8 | uint64(b[off])
		}
	}
	switch major {
	case 0:
		return dcbor.AppendUint(nil, n), b[off:], nil
	case 1:
		h := dcbor.AppendUint(nil, n)
		h[0] |= 1 << 5
		return h, b[off:], nil
	case 2, 3:
		h := dcbor.AppendUint(nil, n)
		h[0] |= major << 5
		end := off + int(n)
		return append(h, b[off:end]...), b[end:], nil
	case 6:
		v, rest, err := normalize(b[off:])
		return append(dcbor.AppendTag(nil, n), v...), rest, err
	case 7:
		return bytes.Clone(b[:off]), b[off:], nil // floats and simple values: the reader judges them
	}
	per := 1
	if major == 5 {
		per = 2
	}
	entries := make([][]byte, n)
	keys := make([]int, n)
	rest = b[off:]
	for i := range entries {
		for p := range per {
			var v []byte
			if v, rest, err = normalize(rest); err != nil {
				return nil, nil, err
			}
			entries[i] = append(entries[i], v...)
			if p == 0 {
				keys[i] = len(v)
			}
		}
	}
	if major == 4 {
		return slices.Concat(append([][]byte{dcbor.AppendArray(nil, int(n))}, entries...)...), rest, nil
	}
	// No key of a sorted map is a prefix of another, so that whole entries sort
	// as their keys do; equal keys are found by the strict reader afterwards.
	slices.SortFunc(entries, bytes.Compare)
	return slices.Concat(append([][]byte{dcbor.AppendMap(nil, int(n))}, entries...)...), rest, nil
}

func isOID(s string) bool {
	return s != "" && strings.Contains(s, ".") && strings.Trim(s, "0123456789.") == ""
}

// oidBytes is the content of the BER encoding of an absolute OID.
func oidBytes(s string) ([]byte, error) {
	var arcs []uint64
	for p := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(p, 10, 63)
		if err != nil || p != strconv.FormatUint(n, 10) {
			return nil, fmt.Errorf("%q is no OID in dotted form", s)
		}
		arcs = append(arcs, n)
	}
	if len(arcs) < 2 || arcs[0] > 2 || arcs[0] < 2 && arcs[1] > 39 || arcs[1] > 1<<62 {
		return nil, fmt.Errorf("%q is no OID in dotted form", s)
	}
	arcs = append([]uint64{arcs[0]*40 + arcs[1]}, arcs[2:]...)
	var b []byte
	for _, n := range arcs {
		at := len(b)
		b = append(b, byte(n&0x7f))
		for n >>= 7; n > 0; n >>= 7 {
			b = slices.Insert(b, at, byte(n&0x7f|0x80))
		}
	}
	return b, nil
}

func oidString(b []byte) (string, error) {
	var arcs []string
	var n uint64
	open := false
	for _, x := range b {
		if !open && x == 0x80 || n > 1<<55 {
			return "", errors.New("an OID that is not encoded as BER does")
		}
		n = n<<7 | uint64(x&0x7f)
		if open = x&0x80 != 0; open {
			continue
		}
		if arcs == nil {
			first := min(n/40, 2)
			arcs = append(arcs, strconv.FormatUint(first, 10))
			n -= first * 40
		}
		arcs = append(arcs, strconv.FormatUint(n, 10))
		n = 0
	}
	if open || len(arcs) < 2 {
		return "", errors.New("an OID that ends early")
	}
	return strings.Join(arcs, "."), nil
}
