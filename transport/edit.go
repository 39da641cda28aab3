package transport

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// setMember returns obj, one JSON object, with the member at path set to value
// and every other byte as it was. Objects on the way to it are made as needed.
func setMember(obj, value []byte, path ...string) ([]byte, error) {
	start, end, comma, err := member(obj, path[0])
	if err != nil {
		return nil, err
	}
	inner := value
	if len(path) > 1 {
		old := []byte(`{}`)
		if start >= 0 && jsontext.Value(obj[start:end]).Kind() == '{' {
			old = obj[start:end]
		}
		if inner, err = setMember(old, value, path[1:]...); err != nil {
			return nil, err
		}
	}
	out := make([]byte, 0, len(obj)+len(inner)+len(path[0])+8)
	if start >= 0 {
		return append(append(append(out, obj[:start]...), inner...), obj[end:]...), nil
	}
	out = append(out, obj[:end]...)
	if comma {
		out = append(out, ',')
	}
	out = append(append(append(out, jsonrpc.Quote(path[0])...), ':'), inner...)
	return append(out, obj[end:]...), nil
}

// member finds the value of a member of obj. When there is none, start is -1,
// end is where it would go, and comma says whether one must come first.
func member(obj []byte, name string) (start, end int, comma bool, err error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(obj))
	tok, err := dec.ReadToken()
	if err != nil {
		return 0, 0, false, err
	}
	if tok.Kind() != '{' {
		return 0, 0, false, &jsonrpc.ParseError{Code: jsonrpc.CodeInvalidRequest, Reason: "not-jsonrpc", Detail: "not a JSON object"}
	}
	start = -1
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return 0, 0, false, err
		}
		comma = true
		if found := tok.String() == name; !found {
			if err := dec.SkipValue(); err != nil {
				return 0, 0, false, err
			}
			continue
		}
		v, err := dec.ReadValue()
		if err != nil {
			return 0, 0, false, err
		}
		end = int(dec.InputOffset())
		start = end - len(v)
	}
	if _, err := dec.ReadToken(); err != nil {
		return 0, 0, false, err
	}
	if start < 0 {
		end = int(dec.InputOffset()) - 1
	}
	return start, end, comma, nil
}

// removeMember returns obj without the member at path, if it has it.
func removeMember(obj []byte, path ...string) ([]byte, error) {
	start, end, _, err := member(obj, path[0])
	if err != nil || start < 0 {
		return obj, err
	}
	if len(path) > 1 {
		if jsontext.Value(obj[start:end]).Kind() != '{' {
			return obj, nil
		}
		inner, err := removeMember(obj[start:end], path[1:]...)
		if err != nil {
			return nil, err
		}
		out := make([]byte, 0, len(obj))
		return append(append(append(out, obj[:start]...), inner...), obj[end:]...), nil
	}
	out, first := append(make([]byte, 0, len(obj)), '{'), true
	err = jsonrpc.Members(obj, func(name string, v jsontext.Value) error {
		if name == path[0] {
			return nil
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(append(append(out, jsonrpc.Quote(name)...), ':'), v...)
		return nil
	})
	return append(out, '}'), err
}
