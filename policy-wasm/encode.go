package policywasm

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

// An encoder writes documents as dCBOR in one pass. It gives up, and says no
// more, at whatever is not of the data model: then [slow] finds the words.
type encoder struct {
	b     []byte
	pairs pairs
	depth int // of the deepest value so far
	bad   bool
}

// A pair is a member that was written: where it begins, where its key ends, and
// where it ends.
type pair struct{ start, key, end int }

// pairs are the members of the objects that are open, and sort orders those of
// the innermost.
type pairs struct {
	open    []pair
	scratch []byte
}

// sort puts the members from the first-th on in order, in place. It reports
// whether no two keys are the same.
func (p *pairs) sort(b []byte, first int, compare func(a, b []byte) int) bool {
	members := p.open[first:]
	by := func(x, y pair) int { return compare(b[x.start:x.key], b[y.start:y.key]) }
	sorted := true
	for i := 1; i < len(members) && sorted; i++ {
		sorted = by(members[i-1], members[i]) < 0
	}
	if sorted {
		return true
	}
	from := members[0].start
	slices.SortFunc(members, by)
	p.scratch = p.scratch[:0]
	unique := true
	for i, m := range members {
		unique = unique && (i == 0 || by(members[i-1], m) != 0)
		p.scratch = append(p.scratch, b[m.start:m.end]...)
	}
	copy(b[from:], p.scratch)
	return unique
}

func (e *encoder) key(s string) { e.b = dcbor.AppendText(e.b, s) }

// head writes the head of an array or map over the byte that was kept for it.
func (e *encoder) head(at int, major byte, n int) {
	var head [9]byte
	h := dcbor.AppendUint(head[:0], uint64(n))
	h[0] |= major << 5
	if len(h) > 1 {
		e.b = slices.Insert(e.b, at+1, h[1:]...)
	}
	e.b[at] = h[0]
}

const (
	majorText, majorArray, majorMap = 3, 4, 5
	maxInteger                      = 1<<53 - 1
)

// json writes the JSON value at s[i:], which stands below depth others, and
// returns where it ends.
func (e *encoder) json(s []byte, i, depth int) int {
	if i = space(s, i); i >= len(s) {
		e.bad = true
		return i
	}
	switch c := s[i]; c {
	case '{', '[':
		if depth++; depth > inputDepth {
			e.bad = true
			return i
		}
		e.depth = max(e.depth, depth)
		if c == '{' {
			return e.object(s, i+1, depth)
		}
		return e.array(s, i+1, depth)
	case '"':
		return e.quoted(s, i+1)
	case 't':
		return e.word(s, i, "true", 0xf5)
	case 'f':
		return e.word(s, i, "false", 0xf4)
	case 'n':
		return e.word(s, i, "null", 0xf6)
	}
	return e.number(s, i)
}

func space(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

func (e *encoder) word(s []byte, i int, want string, code byte) int {
	if len(s)-i < len(want) || string(s[i:i+len(want)]) != want {
		e.bad = true
		return i
	}
	e.b = append(e.b, code)
	return i + len(want)
}

func (e *encoder) number(s []byte, i int) int {
	end := i
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '-') {
		end++
	}
	digits := s[i:end]
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	// What follows the digits must end the value, which callers see to.
	if len(digits) == 0 || digits[0] == '0' && end-i > 1 || len(digits) > 16 {
		e.bad = true
		return i
	}
	n := int64(0)
	for _, c := range digits {
		if c == '-' {
			e.bad = true
			return i
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) < end-i {
		n = -n
	}
	e.int(n)
	return end
}

// next returns what follows at s[i:] but white space, and 0 at the end.
func next(s []byte, i int) (byte, int) {
	if i = space(s, i); i >= len(s) {
		return 0, i
	}
	return s[i], i
}

func (e *encoder) array(s []byte, i, depth int) int {
	at, n := len(e.b), 0
	e.b = append(e.b, 0)
	c, i := next(s, i)
	for c != ']' || n > 0 {
		if i = e.json(s, i, depth); e.bad {
			return i
		}
		n++
		if c, i = next(s, i); c == ']' {
			break
		}
		if c != ',' {
			e.bad = true
			return i
		}
		i++
	}
	e.head(at, majorArray, n)
	return i + 1
}

func (e *encoder) object(s []byte, i, depth int) int {
	at, first := len(e.b), len(e.pairs.open)
	e.b = append(e.b, 0)
	c, i := next(s, i)
	for c != '}' || len(e.pairs.open) > first {
		if c != '"' {
			e.bad = true
			return i
		}
		p := pair{start: len(e.b)}
		i = e.quoted(s, i+1)
		p.key = len(e.b)
		if c, i = next(s, i); e.bad || c != ':' {
			e.bad = true
			return i
		}
		if i = e.json(s, i+1, depth); e.bad {
			return i
		}
		p.end = len(e.b)
		e.pairs.open = append(e.pairs.open, p)
		if c, i = next(s, i); c == '}' {
			break
		}
		if c != ',' {
			e.bad = true
			return i
		}
		c, i = next(s, i+1)
	}
	e.endObject(at, first)
	return i + 1
}

func (e *encoder) endObject(at, first int) {
	if !e.pairs.sort(e.b, first, bytes.Compare) {
		e.bad = true
	}
	n := len(e.pairs.open) - first
	e.pairs.open = e.pairs.open[:first]
	e.head(at, majorMap, n)
}

// quoted writes the string whose content begins at s[i:].
func (e *encoder) quoted(s []byte, i int) int {
	start, ascii := i, true
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			text := s[start:i]
			if !ascii && !utf8.Valid(text) {
				e.bad = true
				return i
			}
			e.bytes(text)
			return i + 1
		case c == '\\': // seldom: another reader knows escapes
			return e.escaped(s, start)
		case c < ' ':
			e.bad = true
			return i
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	e.bad = true
	return i
}

func (e *encoder) escaped(s []byte, start int) int {
	end := start
	for end < len(s) && s[end] != '"' {
		if s[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s) {
		e.bad = true
		return end
	}
	text, err := jsontext.AppendUnquote(nil, s[start-1:end+1])
	if err != nil {
		e.bad = true
		return end
	}
	e.bytes(text)
	return end + 1
}

// bytes writes a text that is known to be UTF-8.
func (e *encoder) bytes(text []byte) {
	at := len(e.b)
	e.b = dcbor.AppendUint(e.b, uint64(len(text)))
	e.b[at] |= majorText << 5
	e.b = append(e.b, text...)
}

func (e *encoder) int(n int64) {
	if n > maxInteger || n < -maxInteger {
		e.bad = true
	}
	e.b = dcbor.AppendInt(e.b, n)
}

func (e *encoder) text(s string) {
	if !utf8.ValidString(s) {
		e.bad = true
	}
	e.b = dcbor.AppendText(e.b, s)
}

func (e *encoder) bool(v bool) { e.b = dcbor.AppendBool(e.b, v) }
func (e *encoder) null()       { e.b = dcbor.AppendNull(e.b) }

func (e *encoder) optionalText(s *string) {
	if s == nil {
		e.null()
		return
	}
	e.text(*s)
}

func (e *encoder) optionalInt(n *int64) {
	if n == nil {
		e.null()
		return
	}
	e.int(*n)
}

func (e *encoder) texts(list []string) {
	e.b = dcbor.AppendArray(e.b, len(list))
	for _, s := range list {
		e.text(s)
	}
}

// raw writes JSON that stands below depth others; nil is null.
func (e *encoder) raw(v jsontext.Value, depth int) {
	if v == nil {
		e.null()
		return
	}
	if end := e.json(v, 0, depth); space(v, end) != len(v) {
		e.bad = true
	}
}

// document writes d, with settings in place of its own if they are not nil. Keys
// stand in the order of dCBOR: by length, then by bytes.
func (e *encoder) document(d *document.Document, settings *Input) {
	e.b = dcbor.AppendMap(e.b, 7)
	e.key("abi")
	e.int(document.ABI)
	e.key("call")
	e.call(d.Call)
	e.key("peer")
	e.peer(&d.Peer)
	e.key("time")
	e.int(d.Time)
	e.key("devices")
	e.b = dcbor.AppendArray(e.b, len(d.Devices))
	for i := range d.Devices {
		e.device(&d.Devices[i])
	}
	e.key("question")
	e.text(d.Question)
	e.key("settings")
	switch {
	case settings == nil:
		e.raw(d.Settings, 1)
	case settings.depth >= inputDepth:
		e.bad = true
	default:
		e.b = append(e.b, settings.cbor...)
		e.depth = max(e.depth, settings.depth+1)
	}
}

func (e *encoder) peer(p *document.Peer) {
	e.b = dcbor.AppendMap(e.b, 6)
	e.key("role")
	e.optionalText(p.Role)
	e.key("alone")
	e.bool(p.Alone)
	e.key("config")
	e.optionalText(p.Config)
	e.key("profile")
	e.text(p.Profile)
	e.key("identity")
	e.optionalText(p.Identity)
	e.key("thumbprint")
	e.optionalText(p.Thumbprint)
}

func (e *encoder) call(c *document.Call) {
	if c == nil {
		e.null()
		return
	}
	e.b = dcbor.AppendMap(e.b, 7)
	e.key("uri")
	e.optionalText(c.URI)
	e.key("kind")
	e.text(c.Kind)
	e.key("name")
	e.optionalText(c.Name)
	e.key("method")
	e.optionalText(c.Method)
	e.key("carrier")
	e.text(c.Carrier)
	e.key("revision")
	e.optionalText(c.Revision)
	e.key("arguments")
	e.raw(c.Arguments, 2)
}

func (e *encoder) device(d *document.Device) {
	e.b = dcbor.AppendMap(e.b, 11)
	e.key("tcb")
	e.tcb(d.TCB)
	e.key("kind")
	e.text(d.Kind)
	e.key("debug")
	e.bool(d.Debug)
	e.key("label")
	e.text(d.Label)
	e.key("checks")
	e.b = dcbor.AppendArray(e.b, len(d.Checks))
	for i := range d.Checks {
		e.b = dcbor.AppendMap(e.b, 2)
		e.key("name")
		e.text(d.Checks[i].Name)
		e.key("outcome")
		e.text(d.Checks[i].Outcome)
	}
	e.key("claims")
	e.claims(d.Claims)
	e.key("proven")
	e.bool(d.Proven)
	e.key("platform")
	e.optionalText(d.Platform)
	e.key("not_after")
	e.optionalInt(d.NotAfter)
	e.key("simulated")
	e.bool(d.Simulated)
	e.key("references")
	if r := d.References; r == nil {
		e.null()
	} else {
		e.b = dcbor.AppendMap(e.b, 3)
		e.key("tags")
		e.texts(r.Tags)
		e.key("known")
		e.bool(r.Known)
		e.key("matched")
		e.bool(r.Matched)
	}
}

func (e *encoder) tcb(t *document.TCB) {
	if t == nil {
		e.null()
		return
	}
	e.b = dcbor.AppendMap(e.b, 6)
	e.key("date")
	e.optionalInt(t.Date)
	e.key("parts")
	e.b = dcbor.AppendArray(e.b, len(t.Parts))
	for i := range t.Parts {
		p := &t.Parts[i]
		e.b = dcbor.AppendMap(e.b, 5)
		e.key("date")
		e.optionalInt(p.Date)
		e.key("name")
		e.text(p.Name)
		e.key("behind")
		e.int(int64(p.Behind))
		e.key("status")
		e.text(p.Status)
		e.key("advisories")
		e.texts(p.Advisories)
	}
	e.key("status")
	e.text(t.Status)
	e.key("advisories")
	e.texts(t.Advisories)
	e.key("evaluation_number")
	e.optionalInt(t.Evaluation)
	e.key("out_of_date_since")
	e.optionalInt(t.OutOfDateSince)
}

func (e *encoder) claims(claims map[string]any) {
	if claims == nil {
		e.null()
		return
	}
	at, first := len(e.b), len(e.pairs.open)
	e.b = append(e.b, 0)
	for name, v := range claims {
		p := pair{start: len(e.b)}
		e.text(name)
		p.key = len(e.b)
		e.claim(v, true)
		p.end = len(e.b)
		e.pairs.open = append(e.pairs.open, p)
	}
	e.endObject(at, first)
}

// claim writes a claim as a host makes it, or as it was read from JSON.
func (e *encoder) claim(v any, lists bool) {
	switch v := v.(type) {
	case nil:
		e.null()
	case bool:
		e.bool(v)
	case string:
		e.text(v)
	case int64:
		e.int(v)
	case uint64:
		e.int(int64(min(v, math.MaxInt64)))
	case float64:
		n := int64(v)
		if e.bad = e.bad || math.Abs(v) > maxInteger || float64(n) != v || n == 0 && math.Signbit(v); !e.bad {
			e.int(n)
		}
	case []string:
		e.texts(v)
	case []any:
		if e.bad = e.bad || !lists; e.bad {
			return
		}
		e.b = dcbor.AppendArray(e.b, len(v))
		for _, item := range v {
			e.claim(item, false)
		}
	default:
		e.bad = true
	}
}

// A spelling writes what an encoder wrote as canonical JSON (RFC 8785).
type spelling struct {
	b     []byte
	pairs pairs
}

func (w *spelling) value(r *dcbor.Reader) {
	switch r.PeekMajor() {
	case majorText:
		w.text(r.Text())
	case majorArray:
		w.b = append(w.b, '[')
		for i := range r.Array() {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.value(r)
		}
		w.b = append(w.b, ']')
	case majorMap:
		w.b = append(w.b, '{')
		first := len(w.pairs.open)
		for range r.Map() {
			p := pair{start: len(w.b)}
			w.text(r.Text())
			p.key = len(w.b)
			w.b = append(w.b, ':')
			w.value(r)
			w.b = append(w.b, ',')
			p.end = len(w.b)
			w.pairs.open = append(w.pairs.open, p)
		}
		if len(w.pairs.open) > first {
			w.pairs.sort(w.b, first, compareUTF16)
			w.b = w.b[:len(w.b)-1] // a comma too many
		}
		w.pairs.open = w.pairs.open[:first]
		w.b = append(w.b, '}')
	case 7:
		if r.Null() {
			w.b = append(w.b, "null"...)
		} else {
			w.b = strconv.AppendBool(w.b, r.Bool())
		}
	default:
		w.b = strconv.AppendInt(w.b, r.Int(), 10)
	}
}

func (w *spelling) text(s string) {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		w.b = append(append(append(w.b, '"'), s...), '"')
		return
	}
	w.b, _ = jsontext.AppendQuote(w.b, s) // it is UTF-8
}

// compareUTF16 compares quoted names as RFC 8785 section 3.2.3 has them in order:
// by what they mean, in units of UTF-16.
func compareUTF16(a, b []byte) int {
	if x, y := simple(a), simple(b); x && y {
		return bytes.Compare(a[1:len(a)-1], b[1:len(b)-1])
	}
	a, _ = jsontext.AppendUnquote(nil, a)
	b, _ = jsontext.AppendUnquote(nil, b)
	return slices.CompareFunc(utf16.Encode([]rune(string(a))), utf16.Encode([]rune(string(b))), cmp.Compare[uint16])
}

func simple(quoted []byte) bool {
	for _, c := range quoted {
		if c >= utf8.RuneSelf || c == '\\' {
			return false
		}
	}
	return true
}
