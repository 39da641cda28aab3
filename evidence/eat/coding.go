package eat

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A value is one item of a claims-set in either encoding: one CBOR item that is
// known to be deterministic, or one JSON value that is known to be strict.
type value struct {
	b    []byte
	json bool
}

// A decoder reads values. Its first error sticks.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *decoder) cbor(v value, f func(*dcbor.Reader)) {
	r := dcbor.NewReader(v.b)
	f(r)
	if err := r.Done(); err != nil {
		d.fail("%w", err)
	}
}

func (v value) kind() byte { // of JSON, or the letter that JSON would have
	if v.json {
		return byte(jsontext.Value(v.b).Kind())
	}
	switch v.b[0] >> 5 {
	case 0, 1:
		return '0'
	case 2:
		return 'b'
	case 3:
		return '"'
	case 4:
		return '['
	case 5:
		return '{'
	}
	return '?'
}

func (d *decoder) text(v value) (s string) {
	if v.json {
		s, ok := jsonrpc.Text(v.b)
		if !ok {
			d.fail("want a text")
		}
		return s
	}
	d.cbor(v, func(r *dcbor.Reader) { s = r.Text() })
	return s
}

// octets reads a byte string, in JSON base64url.
func (d *decoder) octets(v value, least, most int) (b []byte) {
	if v.json {
		s, ok := jsonrpc.Text(v.b)
		out, err := jose.Decode([]byte(s))
		if !ok || err != nil {
			d.fail("want base64url")
		}
		b = out
	} else {
		d.cbor(v, func(r *dcbor.Reader) { b = r.Bytes() })
	}
	if d.err == nil && (len(b) < least || len(b) > most) {
		d.fail("%d bytes; %d to %d are allowed", len(b), least, most)
	}
	return b
}

func (d *decoder) integer(v value) (n int64) {
	if v.json {
		n, err := strconv.ParseInt(string(v.b), 10, 64)
		if err != nil || n < -1<<53 || n > 1<<53 {
			d.fail("want a whole number of at most 2^53")
		}
		return n
	}
	d.cbor(v, func(r *dcbor.Reader) { n = r.Int() })
	return n
}

func (d *decoder) natural(v value) uint64 {
	n := d.integer(v)
	if n < 0 {
		d.fail("want a number that is not negative")
		return 0
	}
	return uint64(n)
}

func (d *decoder) boolean(v value) bool {
	if v.json {
		k := v.kind()
		if k != 't' && k != 'f' {
			d.fail("want true or false")
		}
		return k == 't'
	}
	out := false
	d.cbor(v, func(r *dcbor.Reader) { out = r.Bool() })
	return out
}

func (d *decoder) number(v value) float64 {
	s := string(v.b)
	if !v.json {
		js, err := dcbor.ToJSON(nil, v.b)
		if err != nil {
			d.fail("want a number: %w", err)
			return 0
		}
		s = string(js)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		d.fail("want a number")
	}
	return f
}

// named reads a number in CBOR that is a name in JSON.
func (d *decoder) named(v value, names []string, first uint64) uint64 {
	n := uint64(0)
	if v.json {
		i := slices.Index(names, d.text(v))
		n = uint64(max(i, 0))
		if i < 0 {
			d.fail("want one of %q", names[first:])
		}
	} else {
		n = d.natural(v)
	}
	if d.err == nil && (n < first || n >= uint64(len(names))) {
		d.fail("%d is not one of %d to %d", n, first, len(names)-1)
	}
	return n
}

// array calls f for each item, least to most of them.
func (d *decoder) array(v value, least, most int, f func(i int, v value)) {
	i := 0
	item := func(b []byte) bool {
		if i >= most {
			d.fail("more than %d items", most)
		}
		if d.err != nil {
			return false
		}
		f(i, value{b, v.json})
		i++
		return d.err == nil
	}
	if v.kind() != '[' {
		d.fail("want an array")
		return
	}
	if v.json {
		err := jsonrpc.Elements(v.b, func(e jsontext.Value) error { item(e); return d.err })
		if err != nil {
			d.fail("%w", err)
		}
	} else {
		d.cbor(v, func(r *dcbor.Reader) {
			for range r.Array() {
				if b := r.Skip(); r.Err() != nil || !item(b) {
					return
				}
			}
		})
	}
	if i < least {
		d.fail("%d items; at least %d are required", i, least)
	}
}

// members calls f for each member of a map.
func (d *decoder) members(v value, most int, f func(l Label, v value)) {
	if v.kind() != '{' {
		d.fail("want a map")
		return
	}
	n := 0
	member := func(l Label, b []byte) {
		if n++; n > most {
			d.fail("more than %d members", most)
		}
		if d.err == nil {
			f(l, value{b, v.json})
		}
	}
	if v.json {
		err := jsonrpc.Members(v.b, func(name string, val jsontext.Value) error {
			if name == "" {
				d.fail("an empty name")
			}
			member(Label{Name: name}, val)
			return d.err
		})
		if err != nil {
			d.fail("%w", err)
		}
		return
	}
	d.cbor(v, func(r *dcbor.Reader) {
		for range r.Map() {
			var l Label
			if m := r.PeekMajor(); m == 0 || m == 1 {
				l.Number = r.Int()
			} else if l.Name = r.Text(); l.Name == "" {
				r.Fail("an empty name")
			}
			b := r.Skip()
			if r.Err() != nil || d.err != nil {
				return
			}
			member(l, b)
		}
	})
}

// An encoder writes values, in one of the encodings.
type encoder struct{ json bool }

func (e encoder) text(s string) []byte {
	if e.json {
		return jsonrpc.Quote(s)
	}
	return dcbor.AppendText(nil, s)
}

func (e encoder) octets(b []byte) []byte {
	if e.json {
		return append(base64.RawURLEncoding.AppendEncode([]byte{'"'}, b), '"')
	}
	return dcbor.AppendBytes(nil, b)
}

func (e encoder) integer(n int64) []byte {
	if e.json {
		return strconv.AppendInt(nil, n, 10)
	}
	return dcbor.AppendInt(nil, n)
}

func (e encoder) boolean(v bool) []byte {
	if e.json {
		return strconv.AppendBool(nil, v)
	}
	return dcbor.AppendBool(nil, v)
}

func (e encoder) number(f float64) []byte {
	js := strconv.AppendFloat(nil, f, 'g', -1, 64)
	if e.json {
		return js
	}
	b, err := dcbor.FromJSON(nil, js)
	if err != nil {
		return nil // not finite; what reads the result again refuses it
	}
	return b
}

func (e encoder) named(n uint64, names []string) []byte {
	if e.json {
		return e.text(nameOf(names, n))
	}
	return e.integer(int64(n))
}

func (e encoder) array(items ...[]byte) []byte {
	if e.json {
		return append(append([]byte{'['}, bytes.Join(items, []byte{','})...), ']')
	}
	return append(dcbor.AppendArray(nil, len(items)), bytes.Join(items, nil)...)
}

type pair struct{ key, value []byte }

func (e encoder) label(l Label) []byte {
	if l.Name != "" {
		return e.text(l.Name)
	}
	return e.integer(l.Number)
}

// members writes a map, its keys in the order of their encodings.
func (e encoder) members(pairs []pair) []byte {
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	if !e.json {
		b := dcbor.AppendMap(nil, len(pairs))
		for _, p := range pairs {
			b = append(append(b, p.key...), p.value...)
		}
		return b
	}
	b := []byte{'{'}
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, p.key...), ':'), p.value...)
	}
	return append(b, '}')
}
