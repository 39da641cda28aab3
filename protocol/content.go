package protocol

import (
	"bytes"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Kind says what the body of a [Content] is. It stands inside the seal.
type Kind uint8

const (
	// TMCP-6.6-1: The body of a content of kind message MUST be the inner message's bytes as the
	// inner peer wrote them.
	KindMessage Kind = 1 // one JSON-RPC message, byte for byte
	KindGet     Kind = 2 // request: opens the standing stream (legacy GET)
	KindDelete  Kind = 3 // request: ends the session (legacy DELETE)
	KindEnd     Kind = 4 // answer: nothing more, no message
	KindHTTP    Kind = 5 // HTTP carrier: head in Meta, first bytes of the body
	KindData    Kind = 6 // HTTP carrier: more bytes of the body
	KindRaw     Kind = 7 // answer: a body that is no JSON-RPC message
)

// A Content is what is sealed: the deterministic CBOR array
// [kind, meta, body] or [kind, meta, body, padding], where meta is a map with
// the keys given at the fields of [Meta] and padding is a byte string of zeros.
type Content struct {
	Kind Kind
	Meta Meta
	Body []byte
}

// Meta is what goes with a body. Zero fields are absent on the wire.
type Meta struct {
	Status    int      // 1: HTTP status of an answer; absent means 200
	Fields    []Field  // 2: HTTP fields, names in lower case
	Target    string   // 3: HTTP carrier: path and query
	Method    string   // 4: HTTP carrier: request method
	EventID   string   // 5: id of the SSE event that held the message
	Retry     int      // 6: SSE retry in milliseconds, plus one here (so that zero is absent)
	EventName string   // 7: SSE event name
	RetryOf   *RetryOf // 8: this message was sealed before, as that
	Stream    bool     // 9: the inner answer is an event stream

	possession []byte // 10: shows that a client holds the key of its key object
}

// A Field is an HTTP field.
type Field struct {
	Name  string
	Value []byte
}

// RetryOf names the first seal of the same message, so that a server which saw
// it can refuse to run it twice, and says until when a server can know.
type RetryOf struct {
	Context ContextID
	Seq     uint64
	Expires time.Time // when the key object that it was sealed to expires
}

// Field returns the value of the first field of that lower-case name.
func (m *Meta) Field(name string) (string, bool) {
	for _, f := range m.Fields {
		if f.Name == name {
			return string(f.Value), true
		}
	}
	return "", false
}

const maxRetry = 1<<31 - 2 // milliseconds

// count is the number of pairs of m's map.
func (m *Meta) count() int {
	n := 0
	for _, set := range [...]bool{m.Status != 0, len(m.Fields) > 0, m.Target != "", m.Method != "", m.EventID != "",
		m.Retry != 0, m.EventName != "", m.RetryOf != nil, m.Stream, m.possession != nil} {
		if set {
			n++
		}
	}
	return n
}

func (m *Meta) append(b []byte) []byte {
	b = dcbor.AppendMap(b, m.count())
	if m.Status != 0 {
		b = dcbor.AppendUint(append(b, 1), uint64(m.Status))
	}
	if len(m.Fields) > 0 {
		b = dcbor.AppendArray(append(b, 2), len(m.Fields))
		for _, f := range m.Fields {
			b = dcbor.AppendText(dcbor.AppendArray(b, 2), f.Name)
			b = dcbor.AppendBytes(b, f.Value)
		}
	}
	for i, s := range [...]string{m.Target, m.Method, m.EventID} {
		if s != "" {
			b = dcbor.AppendText(append(b, byte(3+i)), s)
		}
	}
	if m.Retry != 0 {
		b = dcbor.AppendUint(append(b, 6), uint64(m.Retry-1))
	}
	if m.EventName != "" {
		b = dcbor.AppendText(append(b, 7), m.EventName)
	}
	if m.RetryOf != nil {
		b = dcbor.AppendArray(append(b, 8), 3)
		b = dcbor.AppendBytes(b, m.RetryOf.Context[:])
		b = dcbor.AppendUint(b, m.RetryOf.Seq)
		b = dcbor.AppendUint(b, uint64(max(m.RetryOf.Expires.Unix(), 0)))
	}
	if m.Stream {
		b = dcbor.AppendBool(append(b, 9), true)
	}
	if m.possession != nil {
		b = dcbor.AppendBytes(append(b, 10), m.possession)
	}
	return b
}

// check refuses what the receiver would refuse, so that the mistake shows where
// it was made.
func (c *Content) check() error {
	m := &c.Meta
	if c.Kind < KindMessage || c.Kind > KindRaw {
		return fail(MalformedContent, "content kind %d is not known", c.Kind)
	}
	if m.Status != 0 && (m.Status < 100 || m.Status > 599) {
		return fail(MalformedContent, "status %d is not an HTTP status", m.Status)
	}
	if m.Retry < 0 || m.Retry > maxRetry+1 {
		return fail(MalformedContent, "retry of %d ms is out of range", m.Retry-1)
	}
	if m.RetryOf != nil && m.RetryOf.Seq > maxSeq {
		return fail(MalformedContent, "retry-of: a seq beyond its range")
	}
	for _, f := range m.Fields {
		if !fieldName(f.Name) || bytes.ContainsAny(f.Value, "\r\n\x00") {
			return fail(MalformedContent, "%.80q is not the name of an HTTP field in lower case, or its value holds CR, LF or NUL", f.Name)
		}
	}
	for _, s := range [...]string{m.Target, m.Method, m.EventID, m.EventName} {
		if !utf8.ValidString(s) {
			return fail(MalformedContent, "%.80q is not UTF-8", s)
		}
	}
	return nil
}

// append writes the content; with pad, padded to its bucket.
func (c *Content) append(b []byte, pad bool) []byte {
	if !pad {
		b = append(b, 0x83, byte(c.Kind))
		return dcbor.AppendBytes(c.Meta.append(b), c.Body)
	}
	start := len(b)
	b = append(b, 0x84, byte(c.Kind))
	b = dcbor.AppendBytes(c.Meta.append(b), c.Body)
	zeros := paddingFor(len(b) - start)
	return append(dcbor.AppendBytesHead(b, zeros), make([]byte, zeros)...)
}

// paddingFor is the number of zeros that, with the head of their byte string,
// bring n bytes to the next bucket.
func paddingFor(n int) int {
	for size := bucket(n + 1); ; size = bucket(size + 1) {
		// A head grows with its string: some sizes can't be met exactly.
		for _, head := range [...]int{1, 2, 3, 5} {
			if zeros := size - n - head; zeros >= 0 && dcbor.HeadLen(zeros) == head {
				return zeros
			}
		}
	}
}

// bucket is the size to which n bytes are padded: powers of two from 256 up to
// 64 KiB, then multiples of 64 KiB.
func bucket(n int) int {
	const top = 64 << 10
	if n > top {
		return (n + top - 1) / top * top
	}
	size := 256
	for size < n {
		size *= 2
	}
	return size
}

// parseContent reads a content strictly. Unknown keys of meta are ignored.
// Slices alias b.
func parseContent(b []byte) (Content, error) {
	var c Content
	r := dcbor.NewReader(b)
	n := r.Array()
	if r.Err() == nil && n != 3 && n != 4 {
		return c, fail(MalformedContent, "an array of %d, want 3 or 4", n)
	}
	kind := r.Uint()
	c.Meta.read(r)
	c.Body = r.Bytes()
	// TMCP-6.7-1: A receiver MUST accept contents with and without padding.
	if n == 4 {
		for _, z := range r.Bytes() {
			// TMCP-6.6-5: A receiver MUST refuse padding that is not all zero.
			if z != 0 {
				return c, fail(MalformedContent, "padding that is not zero")
			}
		}
	}
	if err := r.Done(); err != nil {
		return c, fail(MalformedContent, "%v", err)
	}
	if kind < uint64(KindMessage) || kind > uint64(KindRaw) {
		return c, fail(MalformedContent, "content kind %d is not known", kind)
	}
	c.Kind = Kind(kind)
	return c, nil
}

func (m *Meta) read(r *dcbor.Reader) {
	last := uint64(0)
	for i := range r.Map() {
		key := r.Uint()
		if i > 0 && key <= last {
			r.Fail("meta keys unsorted or double")
		}
		last = key
		if r.Err() != nil {
			return
		}
		switch key {
		case 1:
			m.Status = int(min(r.Uint(), 1000))
			if m.Status < 100 || m.Status > 599 {
				r.Fail("status out of range")
			}
		case 2:
			n := r.Array()
			m.Fields = make([]Field, 0, min(n, 64))
			for range n {
				r.ArrayN(2)
				f := Field{r.Text(), r.Bytes()}
				if r.Err() != nil {
					return
				}
				// TMCP-6.6-7: A receiver MUST NOT let a sealed field name or value break the HTTP
				// message that it becomes: field names are lower-case tokens, values hold no CR,
				// LF or NUL.
				if !fieldName(f.Name) || bytes.ContainsAny(f.Value, "\r\n\x00") {
					r.Fail("an HTTP field that is not one")
					return
				}
				m.Fields = append(m.Fields, f)
			}
		case 3:
			m.Target = r.Text()
		case 4:
			m.Method = r.Text()
		case 5:
			m.EventID = r.Text()
		case 6:
			m.Retry = int(min(r.Uint(), maxRetry)) + 1
		case 7:
			m.EventName = r.Text()
		case 8:
			r.ArrayN(3)
			m.RetryOf = &RetryOf{}
			copy(m.RetryOf.Context[:], r.BytesN(len(ContextID{})))
			if m.RetryOf.Seq = r.Uint(); m.RetryOf.Seq > maxSeq {
				r.Fail("retry-of: a seq beyond its range")
			}
			m.RetryOf.Expires = seconds(r)
		case 9:
			if m.Stream = r.Bool(); r.Err() == nil && !m.Stream {
				r.Fail("key 9 is true or absent")
			}
		case 10:
			m.possession = r.Bytes()
			if r.Err() == nil && len(m.possession) == 0 {
				r.Fail("an empty proof of possession")
			}
		default:
			r.Skip()
		}
	}
}

// fieldName reports whether s is a lower-case HTTP field name (RFC 9110 5.1).
func fieldName(s string) bool {
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// callsTool reports whether the body is a tools/call request.
func (c *Content) callsTool() bool {
	m, err := jsonrpc.Parse(c.Body, jsonrpc.Limits{MaxBytes: len(c.Body) + 1})
	return err == nil && m.Method == "tools/call" && m.IsRequest()
}

var revisionForm = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)

// Revision is the MCP revision of the inner message, by the one rule that both
// sides follow: the field mcp-protocol-version if it looks like a revision,
// else the protocolVersion that an initialize asks for, else the one in the
// _meta of a modern request, else "".
func (c *Content) Revision() string {
	if v, _ := c.Meta.Field("mcp-protocol-version"); looksLikeRevision(v) {
		return v
	}
	if c.Kind != KindMessage || !bytes.Contains(c.Body, []byte("rotocolVersion")) {
		return ""
	}
	m, err := jsonrpc.Parse(c.Body, jsonrpc.Limits{MaxBytes: len(c.Body) + 1})
	if err != nil {
		return ""
	}
	v, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "_meta", "io.modelcontextprotocol/protocolVersion"))
	if m.Method == "initialize" {
		v, _ = jsonrpc.Text(jsonrpc.Get(m.Params, "protocolVersion"))
	}
	if looksLikeRevision(v) {
		return v
	}
	return ""
}

func looksLikeRevision(v string) bool { return len(v) == 10 && revisionForm.MatchString(v) }
