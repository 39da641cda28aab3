// Package jsonrpc reads and writes the JSON-RPC 2.0 messages that MCP is made
// of, strictly. Call [Parse] on any bytes that came from a peer before deciding
// anything by them; build answers with [Response] and [ErrorResponse].
//
// Strict means what RFC 8259 leaves open is closed: member names are
// case-sensitive and unique at every depth, the text is valid UTF-8, nothing
// follows the value, and size and depth are bounded. encoding/json accepts all
// of those, which lets an attacker show a gateway one method and the server
// behind it another.
package jsonrpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits bound what Parse accepts. A zero field means its default.
type Limits struct {
	MaxBytes int // bytes of one message; default 4 MiB
	MaxDepth int // nesting of objects and arrays; default 64
}

// Defaults of [Limits].
const (
	DefaultMaxBytes = 4 << 20
	DefaultMaxDepth = 64
)

// Bytes is the message size limit in force, in bytes.
func (l Limits) Bytes() int {
	if l.MaxBytes > 0 {
		return l.MaxBytes
	}
	return DefaultMaxBytes
}

func (l Limits) depth() int {
	if l.MaxDepth > 0 {
		return l.MaxDepth
	}
	return DefaultMaxDepth
}

// Standard JSON-RPC and MCP error codes.
const (
	CodeParse              = -32700
	CodeInvalidRequest     = -32600
	CodeMethodNotFound     = -32601
	CodeInvalidParams      = -32602
	CodeInternal           = -32603
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// A ParseError says why bytes are not one acceptable JSON-RPC message.
type ParseError struct {
	Code   int    // CodeParse or CodeInvalidRequest
	Reason string // stable, kebab-case: too-large, too-deep, duplicate-member, invalid-utf8, trailing-data, not-json, batch, not-jsonrpc
	Detail string // for people
}

func (e *ParseError) Error() string { return "json-rpc message: " + e.Reason + ": " + e.Detail }

// ID is the raw JSON text of a JSON-RPC id: a string, a number or null. The
// empty ID means that the member was absent.
type ID string

// String returns the id as it stands on the wire.
func (id ID) String() string { return string(id) }

// A Message is one parsed JSON-RPC message. Its byte slices alias the input.
type Message struct {
	Raw    []byte         // the whole message as received
	ID     ID             // empty when absent
	Method string         // empty for responses
	Params jsontext.Value // nil when absent
	Result jsontext.Value // nil when absent
	Error  jsontext.Value // nil when absent
}

// IsRequest reports whether m asks for an answer.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != "" }

// IsNotification reports whether m is a notification.
func (m *Message) IsNotification() bool { return m.Method != "" && m.ID == "" }

// IsResponse reports whether m answers a request.
func (m *Message) IsResponse() bool { return m.Method == "" }

// Check reports whether data is exactly one acceptable JSON value.
func Check(data []byte, lim Limits) error {
	if err := checkBounds(data, lim); err != nil {
		return err
	}
	dec := newDecoder(data)
	if err := dec.SkipValue(); err != nil {
		return classify(err)
	}
	return atEnd(dec)
}

// newDecoder reads data in place: jsontext copies what comes from any other
// reader than a bytes.Buffer.
func newDecoder(data []byte) *jsontext.Decoder { return jsontext.NewDecoder(bytes.NewBuffer(data)) }

func checkBounds(data []byte, lim Limits) error {
	if len(data) > lim.Bytes() {
		return &ParseError{CodeParse, "too-large", fmt.Sprintf("%d bytes, the limit is %d", len(data), lim.Bytes())}
	}
	return checkDepth(data, lim.depth())
}

func atEnd(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); err != io.EOF {
		return &ParseError{CodeParse, "trailing-data", fmt.Sprintf("something follows the JSON value at byte %d", dec.InputOffset())}
	}
	return nil
}

// checkDepth bounds nesting before the decoder allocates per level.
func checkDepth(data []byte, max int) error {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i+1)
		case '{', '[':
			if depth++; depth > max {
				return &ParseError{CodeParse, "too-deep", fmt.Sprintf("more than %d levels at byte %d", max, i)}
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// stringEnd returns the index of the quote that ends the string whose content
// begins at i, or the length of data when none does.
func stringEnd(data []byte, i int) int {
	for {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return len(data)
		}
		end, escapes := i+n, 0
		for end-escapes > i && data[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		i = end + 1
	}
}

func classify(err error) *ParseError {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &ParseError{CodeParse, "duplicate-member", err.Error()}
	case bytes.Contains([]byte(err.Error()), []byte("invalid UTF-8")):
		return &ParseError{CodeParse, "invalid-utf8", err.Error()}
	default:
		return &ParseError{CodeParse, "not-json", err.Error()}
	}
}

// Parse reads exactly one JSON-RPC 2.0 message. Batches (MCP 2025-03-26 only)
// are refused with reason "batch"; see [Split]. Errors are *[ParseError].
func Parse(data []byte, lim Limits) (*Message, error) {
	if err := checkBounds(data, lim); err != nil {
		return nil, err
	}
	dec := newDecoder(data)
	if kind := dec.PeekKind(); kind != '{' {
		if err := Check(data, lim); err != nil {
			return nil, err
		}
		if kind == '[' {
			return nil, &ParseError{CodeInvalidRequest, "batch", "a JSON-RPC batch where one message is expected"}
		}
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", "the message is not a JSON object"}
	}
	m := &Message{Raw: data}
	version := ""
	hasMethod := false
	// What is wrong with the JSON is told before what is wrong with the message.
	var wrong error
	err := members(dec, data, func(name string, val jsontext.Value) error {
		if wrong != nil {
			return nil
		}
		wrong = m.set(name, val, &version, &hasMethod)
		return nil
	})
	if err == nil {
		err = atEnd(dec)
	}
	if err == nil {
		err = wrong
	}
	if err != nil {
		return nil, err
	}
	if version != "2.0" {
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", `member "jsonrpc" is not "2.0"`}
	}
	answers := 0
	if m.Result != nil {
		answers++
	}
	if m.Error != nil {
		answers++
	}
	switch {
	case hasMethod && answers > 0:
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", "both a method and an answer"}
	case !hasMethod && answers != 1:
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", "neither a method nor exactly one of result and error"}
	case !hasMethod && m.ID == "":
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", "an answer without an id"}
	case hasMethod && m.ID == "null":
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", "a request whose id is null"}
	}
	return m, nil
}

// set takes one member of a message.
func (m *Message) set(name string, val jsontext.Value, version *string, hasMethod *bool) error {
	switch name {
	case "jsonrpc":
		*version, _ = Text(val)
	case "id":
		if k := val.Kind(); k != '"' && k != '0' && k != 'n' {
			return &ParseError{CodeInvalidRequest, "not-jsonrpc", "id is neither a string nor a number"}
		}
		m.ID = ID(val)
	case "method":
		s, ok := Text(val)
		if !ok || s == "" {
			return &ParseError{CodeInvalidRequest, "not-jsonrpc", "method is not a non-empty string"}
		}
		m.Method, *hasMethod = s, true
	case "params":
		if k := val.Kind(); k != '{' && k != '[' {
			return &ParseError{CodeInvalidRequest, "not-jsonrpc", "params is neither an object nor an array"}
		}
		m.Params = val
	case "result":
		m.Result = val
	case "error":
		m.Error = val
	}
	return nil
}

// Split returns the elements of a JSON-RPC batch, each parsed, or the single
// message that data holds.
func Split(data []byte, lim Limits) ([]*Message, error) {
	if err := Check(data, lim); err != nil {
		return nil, err
	}
	v := jsontext.Value(bytes.TrimSpace(data))
	if v.Kind() != '[' {
		m, err := Parse(data, lim)
		if err != nil {
			return nil, err
		}
		return []*Message{m}, nil
	}
	var elems []jsontext.Value
	if err := json.Unmarshal(v, &elems); err != nil {
		return nil, classify(err)
	}
	if len(elems) == 0 {
		return nil, &ParseError{CodeInvalidRequest, "not-jsonrpc", "an empty batch"}
	}
	out := make([]*Message, len(elems))
	for i, e := range elems {
		m, err := Parse(e, lim)
		if err != nil {
			return nil, err
		}
		out[i] = m
	}
	return out, nil
}

// Members calls f for each member of the JSON object v, in order. The values
// alias v. It stops at the first error of f.
func Members(v jsontext.Value, f func(name string, val jsontext.Value) error) error {
	return members(newDecoder(v), v, f)
}

func members(dec *jsontext.Decoder, v []byte, f func(name string, val jsontext.Value) error) error {
	tok, err := dec.ReadToken()
	if err != nil {
		return classify(err)
	}
	if tok.Kind() != '{' {
		return &ParseError{CodeInvalidRequest, "not-jsonrpc", "not a JSON object"}
	}
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return classify(err)
		}
		name := tok.String()
		val, err := dec.ReadValue()
		if err != nil {
			return classify(err)
		}
		end := dec.InputOffset()
		if err := f(name, v[end-int64(len(val)):end:end]); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return classify(err)
	}
	return nil
}

// Get returns the value of the member reached by path in the JSON object v, or
// nil when any step is absent or no object.
func Get(v jsontext.Value, path ...string) jsontext.Value {
	for _, want := range path {
		if v.Kind() != '{' {
			return nil
		}
		var found jsontext.Value
		err := Members(v, func(name string, val jsontext.Value) error {
			if name == want {
				found = val
				return io.EOF // stop early
			}
			return nil
		})
		if (err != nil && err != io.EOF) || found == nil {
			return nil
		}
		v = found
	}
	return v
}

// Text returns the string that v holds.
func Text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return "", false
	}
	return string(b), true
}

// Quote returns s as JSON text. Invalid UTF-8 is replaced.
func Quote(s string) jsontext.Value {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil { // only invalid UTF-8 is an error, and AppendQuote has replaced it
		b, _ = jsontext.AppendQuote(nil, string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD"))))
	}
	return b
}

// Response builds a result message. result must be JSON text.
func Response(id ID, result []byte) []byte {
	b := make([]byte, 0, len(result)+len(id)+40)
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = append(b, orNull(id)...)
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, '}')
}

// ErrorResponse builds an error message. data is JSON text, or nil for none.
func ErrorResponse(id ID, code int, message string, data []byte) []byte {
	b := []byte(`{"jsonrpc":"2.0","id":`)
	b = append(b, orNull(id)...)
	b = fmt.Appendf(b, `,"error":{"code":%d,"message":`, code)
	b = append(b, Quote(message)...)
	if data != nil {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	return append(b, '}', '}')
}

func orNull(id ID) string {
	if id == "" {
		return "null"
	}
	return string(id)
}

// Elements calls f for each element of the JSON array v, in order, and stops at
// the first error of f. The values alias v.
func Elements(v jsontext.Value, f func(jsontext.Value) error) error {
	dec := newDecoder(v)
	tok, err := dec.ReadToken()
	if err != nil {
		return classify(err)
	}
	if tok.Kind() != '[' {
		return &ParseError{CodeInvalidRequest, "not-jsonrpc", "not a JSON array"}
	}
	for dec.PeekKind() != ']' {
		val, err := dec.ReadValue()
		if err != nil {
			return classify(err)
		}
		end := dec.InputOffset()
		if err := f(v[end-int64(len(val)) : end : end]); err != nil {
			return err
		}
	}
	return nil
}
