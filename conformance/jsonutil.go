package conformance

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Items returns the elements of a JSON array, and false when v is none.
func Items(v jsontext.Value) ([]jsontext.Value, bool) {
	if v.Kind() != '[' {
		return nil, false
	}
	var items []jsontext.Value
	if json.Unmarshal(v, &items) != nil {
		return nil, false
	}
	return items, true
}

// Member is [jsonrpc.Get] for a value that need not be an object.
func Member(v jsontext.Value, path ...string) jsontext.Value { return jsonrpc.Get(orEmpty(v), path...) }

// MemberText is the string at path in v; ok is false when there is none.
func MemberText(v jsontext.Value, path ...string) (s string, ok bool) {
	return jsonrpc.Text(Member(v, path...))
}
