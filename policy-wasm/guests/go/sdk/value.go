package policy

import "strconv"

// A Value is a place in the document. Reading what is missing, or is of another
// type, gives false, 0, "" or a Value that holds nothing, and makes the result a
// denial with the reason claim-missing or claim-type, of the first such place.
// Only [Value.Find] and [Value.IsNull] ask without that.
type Value struct {
	r      *Result // has the document; nil: nothing, and that was noted
	at     int     // offset of the item; of the array or object where it is missing
	absent bool
	name   string // of what is missing
}

// Get returns the member of an object.
func (v Value) Get(name string) Value {
	m := v.member(name)
	if m.absent {
		return m.fault(claimMissing)
	}
	return m
}

// Find is [Value.Get] for what may be missing: a member of null, and one that the
// object lacks, is null.
func (v Value) Find(name string) Value {
	if v.IsNull() {
		return v
	}
	return v.member(name)
}

func (v Value) member(name string) Value {
	n, at, ok := v.read(kindMap)
	if !ok {
		return Value{}
	}
	for range int(n) {
		key, end := pair(v.r.doc, at)
		if key == name {
			return Value{r: v.r, at: end}
		}
		at = skip(v.r.doc, end)
	}
	return Value{r: v.r, at: v.at, absent: true, name: name}
}

// pair returns the key of a map that starts at at, and where its value does.
func pair(doc string, at int) (key string, value int) {
	_, n, start, _ := head(doc, at)
	value = start + int(n)
	return doc[start:value], value
}

// At returns the element of an array. What it costs grows with i: to read all of
// them use [Value.Items].
func (v Value) At(i int) Value {
	n, at, ok := v.read(kindArray)
	switch {
	case !ok:
		return Value{}
	case i < 0 || i >= int(n):
		return Value{r: v.r, at: v.at, absent: true, name: strconv.Itoa(i)}.fault(claimMissing)
	}
	for range i {
		at = skip(v.r.doc, at)
	}
	return Value{r: v.r, at: at}
}

// Items are the elements of an array with their indexes, for a range loop.
func (v Value) Items() func(yield func(int, Value) bool) {
	return func(yield func(int, Value) bool) {
		n, at, _ := v.read(kindArray)
		for i := range int(n) {
			if !yield(i, Value{r: v.r, at: at}) {
				return
			}
			at = skip(v.r.doc, at)
		}
	}
}

// Members are the members of an object with their names, shorter names first,
// for a range loop.
func (v Value) Members() func(yield func(string, Value) bool) {
	return func(yield func(string, Value) bool) {
		n, at, _ := v.read(kindMap)
		for range int(n) {
			key, value := pair(v.r.doc, at)
			if !yield(key, Value{r: v.r, at: value}) {
				return
			}
			at = skip(v.r.doc, value)
		}
	}
}

// Len is the number of elements of an array, or of members of an object.
func (v Value) Len() int {
	kind := byte(kindArray)
	if v.is(kindMap) {
		kind = kindMap
	}
	n, _, _ := v.read(kind)
	return int(n)
}

// IsNull reports whether nothing is known: the place holds null, or is missing
// and was asked for with [Value.Find].
func (v Value) IsNull() bool {
	return v.r == nil || v.absent || v.r.doc[v.at] == byteNull
}

func (v Value) is(kind byte) bool { return !v.IsNull() && v.r.doc[v.at]>>5 == kind }

// Bool reads true or false.
func (v Value) Bool() bool {
	n, _, ok := v.read(kindOther)
	if ok && n == simpleNull {
		v.fault(claimType)
	}
	return n == simpleTrue
}

// Int reads an integer, which is between -2^53 and 2^53, both excluded.
func (v Value) Int() int64 {
	if v.is(kindNegative) {
		n, _, _ := v.read(kindNegative)
		return -1 - int64(n)
	}
	n, _, _ := v.read(kindUnsigned)
	return int64(n)
}

// Text reads a text.
func (v Value) Text() string {
	n, at, ok := v.read(kindText)
	if !ok {
		return ""
	}
	return v.r.doc[at : at+int(n)]
}

// BoolOr is [Value.Bool], and x for null.
func (v Value) BoolOr(x bool) bool {
	if v.IsNull() {
		return x
	}
	return v.Bool()
}

// IntOr is [Value.Int], and x for null.
func (v Value) IntOr(x int64) int64 {
	if v.IsNull() {
		return x
	}
	return v.Int()
}

// TextOr is [Value.Text], and x for null.
func (v Value) TextOr(x string) string {
	if v.IsNull() {
		return x
	}
	return v.Text()
}

// Pointer is the JSON pointer of the place (RFC 6901), for the claim of a
// reason. One of more than 256 bytes ends before the name that does not fit.
func (v Value) Pointer() string {
	if v.r == nil {
		return ""
	}
	p, whole := pointer(v.r.doc, v.at)
	if whole && v.absent {
		p, _ = appendName(p, v.name)
	}
	return string(p)
}

// read reads the head of an item of that kind, and returns its argument and
// where it ends. Another item, or none, is a fault.
func (v Value) read(kind byte) (n uint64, at int, ok bool) {
	switch {
	case v.r == nil:
		return 0, 0, false
	case v.absent:
		v.fault(claimMissing)
		return 0, 0, false
	}
	k, n, at, _ := head(v.r.doc, v.at)
	if k != kind {
		v.fault(claimType)
		return 0, 0, false
	}
	return n, at, true
}

func (v Value) fault(code string) Value {
	if v.r != nil {
		v.r.fail(code, v.Pointer())
	}
	return Value{}
}
