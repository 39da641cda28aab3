package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// What Parse accepts every JSON reader accepts, with the same members.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","id":"a","result":{}}`, `{"jsonrpc":"2.0","method":"x","params":[]}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`, `[{"jsonrpc":"2.0","method":"x"}]`, `{"jsonrpc":"2.0","method":"a","method":"b"}`,
		"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}", `{"jsonrpc":"2.0","Method":"x"}`, `{}{}`, `[[[[`, `{"id":1e400}`, `{"jsonrpc":"2.0","id":null,"method":"x"}`, "\ufeff{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		Split(b, Limits{})
		m, err := Parse(b, Limits{})
		if (m == nil) == (err == nil) {
			t.Fatal("want exactly one of message and error")
		}
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Reason == "" || pe.Code == 0 {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		var std map[string]json.RawMessage // a lenient reader, to compare with
		if err := json.Unmarshal(b, &std); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", b, err)
		}
		var method string
		json.Unmarshal(std["method"], &method)
		if method != m.Method || !bytes.Equal(std["params"], m.Params) || string(std["id"]) != string(m.ID) || !bytes.Equal(std["result"], m.Result) {
			t.Fatalf("%q: read as %+v", b, m)
		}
		if m.ID != "" {
			if back, err := Parse(Response(m.ID, []byte("{}")), Limits{}); err != nil || back.ID != m.ID {
				t.Fatalf("answer to %s: %v", m.ID, err)
			}
			if _, err := Parse(ErrorResponse(m.ID, 1, string(b), nil), Limits{MaxBytes: 64 << 20}); err != nil {
				t.Fatalf("error for %s: %v", m.ID, err)
			}
		}
		Get(jsontext.Value(b), "params", "_meta", "x")
	})
}
