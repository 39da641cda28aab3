package aicc

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

var offer = []byte(`{"name":"` + Name + `","version":"` + Version + `"}`)

// Offer returns an initialize request, or the answer to one, with
// capabilities.experimental.trustProtocol set. All else stays byte for byte. An
// error message is returned as it is.
func Offer(message []byte) ([]byte, error) {
	m, err := jsonrpc.Parse(message, jsonrpc.Limits{MaxBytes: len(message) + 1})
	if err != nil {
		return nil, Errorf(BadMessage, "%v", err)
	}
	if m.Error != nil {
		return message, nil
	}
	in := "params"
	if m.Method == "" {
		in = "result"
	}
	return Set(message, offer, in, "capabilities", "experimental", "trustProtocol")
}

// Offered reports whether the params or the result of initialize offer this
// version of the format.
func Offered(v jsontext.Value) bool {
	p := jsonrpc.Get(v, "capabilities", "experimental", "trustProtocol")
	name, _ := jsonrpc.Text(jsonrpc.Get(p, "name"))
	version, _ := jsonrpc.Text(jsonrpc.Get(p, "version"))
	return name == Name && version == Version
}

// OfferedResult is [Offered] for results, with one more place: servers of the
// deployed package that answer initialize with an event stream set the
// capability at result.result.
func OfferedResult(result jsontext.Value) bool {
	return Offered(result) || Offered(jsonrpc.Get(result, "result"))
}

// Set returns object, a JSON object, with the member at path set to value and
// every other byte as it was. Objects on the way are made as needed; a value on
// the way that is no object is replaced by one.
func Set(object, value []byte, path ...string) ([]byte, error) {
	if len(path) == 0 {
		return value, nil
	}
	start, end, comma, err := find(object, path[0])
	if err != nil {
		return nil, Errorf(BadMessage, "%v", err)
	}
	old := []byte(`{}`)
	if start >= 0 && jsontext.Value(object[start:end]).Kind() == '{' {
		old = object[start:end]
	}
	inner, err := Set(old, value, path[1:]...)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(object)+len(inner)+len(path[0])+8)
	if start >= 0 {
		return append(append(append(out, object[:start]...), inner...), object[end:]...), nil
	}
	out = append(out, object[:end]...)
	if comma {
		out = append(out, ',')
	}
	out = append(append(append(out, jsonrpc.Quote(path[0])...), ':'), inner...)
	return append(out, object[end:]...), nil
}

// find finds the value of a member. When there is none, start is -1, end is
// where it would go, and comma says whether one must come first.
func find(object []byte, name string) (start, end int, comma bool, err error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(object))
	tok, err := dec.ReadToken()
	if err != nil {
		return 0, 0, false, err
	}
	if tok.Kind() != '{' {
		return 0, 0, false, Errorf(BadMessage, "not a JSON object")
	}
	start = -1
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return 0, 0, false, err
		}
		comma = true
		found := tok.String() == name
		v, err := dec.ReadValue()
		if err != nil {
			return 0, 0, false, err
		}
		if found {
			end = int(dec.InputOffset())
			start = end - len(v)
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return 0, 0, false, err
	}
	if start < 0 {
		end = int(dec.InputOffset()) - 1
	}
	return start, end, comma, nil
}
