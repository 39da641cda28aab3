package jsonrpc

import (
	"errors"
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, reason string }{
		{"duplicate method", `{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`, "duplicate-member"},
		{"duplicate deep", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":{"y":1,"y":2}}}`, "duplicate-member"},
		{"case variant is another member", `{"jsonrpc":"2.0","id":1,"Method":"a"}`, "not-jsonrpc"},
		{"two values", `{"jsonrpc":"2.0","id":1,"method":"a"} {}`, "trailing-data"},
		{"bad utf-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", "invalid-utf8"},
		{"batch", `[]`, "batch"},
		{"no version", `{"id":1,"method":"a"}`, "not-jsonrpc"},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"a"}`, "not-jsonrpc"},
		{"result and error", `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, "not-jsonrpc"},
		{"method and result", `{"jsonrpc":"2.0","id":1,"method":"a","result":{}}`, "not-jsonrpc"},
		{"deep", strings.Repeat("[", 100), "too-deep"},
		{"truncated", `{"jsonrpc":"2.0"`, "not-json"},
		{"empty", ``, "not-json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.in), Limits{})
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Reason != tt.reason {
				t.Fatalf("got %v, want reason %s", err, tt.reason)
			}
		})
	}
	if _, err := Parse(make([]byte, 100), Limits{MaxBytes: 99}); err == nil || !strings.Contains(err.Error(), "too-large") {
		t.Fatalf("oversize: %v", err)
	}
}

func TestParseAccepts(t *testing.T) {
	m, err := Parse([]byte(" {\"jsonrpc\":\"2.0\",\"id\":\"a\\\"b\",\"method\":\"tools/call\",\"params\":{\"name\":\"x\",\"_meta\":{\"k\":[1,{\"z\":2}]}}}\n"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !m.IsRequest() || m.ID != `"a\"b"` || m.Method != "tools/call" {
		t.Fatalf("%+v", m)
	}
	if got := string(Get(m.Params, "_meta", "k")); got != `[1,{"z":2}]` {
		t.Fatalf("Get: %s", got)
	}
	if s, _ := Text(Get(m.Params, "name")); s != "x" {
		t.Fatalf("Text: %s", s)
	}
	if Get(m.Params, "nope", "k") != nil || Get(m.Params, "name", "k") != nil {
		t.Fatal("Get of an absent path is not nil")
	}
	r, err := Parse(ErrorResponse(m.ID, 29001, `no "plain" calls`, []byte(`{"reason":"x"}`)), Limits{})
	if err != nil || !r.IsResponse() || string(Get(r.Error, "code")) != "29001" {
		t.Fatalf("%+v %v", r, err)
	}
}
