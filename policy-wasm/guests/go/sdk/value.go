package policy

import "strconv"

// A Value is a place in the document. Reading what is missing, or is of another
// type, gives false, 0, "" or a Value that holds nothing, and makes the result a
// denial with the reason claim-missing or claim-type, of the first such place.
// Only [Value.Find] and [Value.IsNull] ask without that.
type Value struct {
	r    *Result // has the document; nil: nothing is here, and that was noted
	at   int     // offset of the item; absent: nothing is here
	path *step   // nil for the document itself
}

// A step leads from an object to its member, or from an array to its element.
type step struct {
	from    *step
	name    string // of the member
	index   int    // of the element
	element bool
}

const absent = -1

func (v Value) child(name string, at int) Value {
	return Value{v.r, at, &step{from: v.path, name: name}}
}

func (v Value) element(i, at int) Value {
	return Value{v.r, at, &step{from: v.path, index: i, element: true}}
}

// Get returns the member of an object.
func (v Value) Get(name string) Value {
	m := v.member(name)
	if m.at == absent {
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
			return v.child(name, end)
		}
		at = skip(v.r.doc, end)
	}
	return v.child(name, absent)
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
		return v.element(i, absent).fault(claimMissing)
	}
	for range i {
		at = skip(v.r.doc, at)
	}
	return v.element(i, at)
}

// Items are the elements of an array with their indexes, for a range loop. An
// empty object has none.
func (v Value) Items() func(yield func(int, Value) bool) {
	return func(yield func(int, Value) bool) {
		if v.is(kindMap) && v.Len() == 0 {
			return
		}
		n, at, _ := v.read(kindArray)
		for i := range int(n) {
			if !yield(i, v.element(i, at)) {
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
			if !yield(key, v.child(key, value)) {
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
	return v.r == nil || v.at == absent || v.r.doc[v.at] == byteNull
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
	var steps []*step
	for at := v.path; at != nil; at = at.from {
		steps = append(steps, at)
	}
	var p []byte
	for i := len(steps) - 1; i >= 0; i-- {
		name := steps[i].name
		if steps[i].element {
			name = strconv.Itoa(steps[i].index)
		}
		longer := appendName(p, name)
		if len(longer) > maxText {
			break
		}
		p = longer
	}
	return string(p)
}

// appendName appends a name to a JSON pointer.
func appendName(p []byte, name string) []byte {
	p = append(p, '/')
	for i := range len(name) {
		switch name[i] {
		case '~':
			p = append(p, "~0"...)
		case '/':
			p = append(p, "~1"...)
		default:
			p = append(p, name[i])
		}
	}
	return p
}

// read reads the head of an item of that kind, and returns its argument and
// where it ends. Another item, or none, is a fault.
func (v Value) read(kind byte) (n uint64, at int, ok bool) {
	switch {
	case v.r == nil:
		return 0, 0, false
	case v.at == absent:
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
