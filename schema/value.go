package schema

import (
	"bytes"
	"errors"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// decode parses strict JSON into nil, bool, float64, string, []any and
// map[string]any. Numbers beyond float64 become its largest value: no shape
// depends on more, and exact arithmetic on 1e999999 is a way to stall us.
func decode(shape string, data []byte) (any, *Error) {
	if err := jsonrpc.Check(data, jsonrpc.Limits{}); err != nil {
		rule := "not-json"
		var pe *jsonrpc.ParseError
		if errors.As(err, &pe) {
			rule = pe.Reason
		}
		e := one(shape, "", rule, "is no acceptable JSON: "+err.Error())
		e.Cause = err
		return nil, e
	}
	v, err := value(jsontext.NewDecoder(bytes.NewBuffer(data)))
	if err != nil { // Check has passed, so this is a fault of ours; refuse all the same
		e := one(shape, "", "not-json", "is no acceptable JSON: "+err.Error())
		e.Cause = err
		return nil, e
	}
	return v, nil
}

func value(dec *jsontext.Decoder) (any, error) {
	tok, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return tok.Bool(), nil
	case '"':
		return tok.String(), nil
	case '0':
		f, err := strconv.ParseFloat(tok.String(), 64)
		if err != nil {
			f = math.Copysign(math.MaxFloat64, f)
		}
		return f, nil
	case '[':
		arr := []any{}
		for dec.PeekKind() != ']' {
			v, err := value(dec)
			if err != nil {
				return nil, err
			}
			arr = append(arr, v)
		}
		_, err := dec.ReadToken()
		return arr, err
	default: // '{'
		obj := map[string]any{}
		for dec.PeekKind() != '}' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			v, err := value(dec)
			if err != nil {
				return nil, err
			}
			obj[key] = v
		}
		_, err := dec.ReadToken()
		return obj, err
	}
}
