package wire

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Message is one JSON-RPC message as a server wrote it. Unlike
// [jsonrpc.Message] it also holds error responses without an id, which MCP
// allows where the id of the request could not be read.
type Message struct {
	Raw    []byte
	ID     jsonrpc.ID // raw JSON text; empty when absent
	Method string
	Params jsontext.Value
	Result jsontext.Value
	Error  jsontext.Value
	Seq    int // log entry that holds it
}

var errShape = errors.New("neither a JSON-RPC request, notification nor response")

// ParseMessage reads one message that a server sent.
func ParseMessage(raw []byte) (*Message, error) {
	lim := jsonrpc.Limits{MaxBytes: MaxBytes, MaxDepth: 256}
	m, err := jsonrpc.Parse(raw, lim)
	if err == nil {
		return &Message{Raw: raw, ID: m.ID, Method: m.Method, Params: m.Params, Result: m.Result, Error: m.Error}, nil
	}
	if cerr := jsonrpc.Check(raw, lim); cerr != nil {
		return nil, cerr
	}
	v := jsontext.Value(raw)
	if v.Kind() != '{' {
		return nil, err
	}
	// An error without an id is MCP's way to answer what it could not read.
	ver, _ := jsonrpc.Text(jsonrpc.Get(v, "jsonrpc"))
	if e := jsonrpc.Get(v, "error"); e != nil && ver == "2.0" && jsonrpc.Get(v, "id") == nil &&
		jsonrpc.Get(v, "method") == nil && jsonrpc.Get(v, "result") == nil {
		return &Message{Raw: raw, Error: e}, nil
	}
	return nil, errors.Join(errShape, err)
}

// IsResponse reports whether m answers something.
func (m *Message) IsResponse() bool { return m.Method == "" }

// IsRequest reports whether m asks for an answer.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != "" }

// Answers reports whether m is a response whose id equals id: the same number
// text, or the same string however it is escaped.
func (m *Message) Answers(id jsonrpc.ID) bool {
	if !m.IsResponse() || id == "" || m.ID == "" {
		return false
	}
	a, okA := jsonrpc.Text(jsontext.Value(m.ID))
	b, okB := jsonrpc.Text(jsontext.Value(id))
	return m.ID == id || (okA && okB && a == b)
}

// Code returns the error code of m, and false when m is no error or its code
// is not an integer.
func (m *Message) Code() (int64, bool) {
	if m == nil || m.Error == nil {
		return 0, false
	}
	return Int(jsonrpc.Get(m.Error, "code"))
}

// Int returns the integer that v holds, written without fraction or exponent.
func Int(v jsontext.Value) (int64, bool) {
	if v.Kind() != '0' || len(v) > 19 {
		return 0, false
	}
	var n int64
	neg := false
	for i, c := range v {
		switch {
		case i == 0 && c == '-':
			neg = true
		case c >= '0' && c <= '9':
			n = n*10 + int64(c-'0')
		default:
			return 0, false
		}
	}
	if neg {
		n = -n
	}
	return n, true
}
