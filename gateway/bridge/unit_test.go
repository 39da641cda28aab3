package bridge

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

func TestRewrite(t *testing.T) {
	for _, tt := range []struct {
		in    string
		edits []edit
		want  string
	}{
		{`{"id":1}`, nil, `{"id":1}`},
		{"{\r\n \"id\" :\t1 ,\n\"x\":[1 ]}\n", []edit{set([]byte(`"a"`), "id")}, "{   \"id\" :\t\"a\" , \"x\":[1 ]}"},
		{`{"a":{"id":1},"id":2,"b":{"_meta":{"t":[1,2],"u":0}}}`, []edit{set([]byte("9"), "b", "_meta", "t"), set([]byte("8"), "id")}, `{"a":{"id":1},"id":8,"b":{"_meta":{"t":9,"u":0}}}`},
		{`{"a":[{"id":1}],"b":5}`, []edit{set([]byte("9"), "a", "id"), set([]byte("9"), "b", "c"), set([]byte("9"), "zz")}, `{"a":[{"id":1}],"b":5}`},
		{`{"i\u0064":1}`, []edit{set([]byte("2"), "id")}, `{"i\u0064":2}`},
	} {
		if got := string(rewrite([]byte(tt.in), tt.edits...)); got != tt.want {
			t.Errorf("%s\ngot  %q\nwant %q", tt.in, got, tt.want)
		}
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add([]byte(`{"id":1,"params":{"_meta":{"progressToken":"x"}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		v := jsontext.Value(in)
		if jsonrpc.Check(in, jsonrpc.Limits{}) != nil || v.Kind() != '{' {
			return
		}
		out := rewrite(in, set([]byte(`"new"`), "id"), set([]byte("7"), "params", "_meta", "progressToken"))
		if err := jsonrpc.Check(out, jsonrpc.Limits{}); err != nil {
			t.Fatalf("%q became %q: %v", in, out, err)
		}
		if strings.ContainsAny(string(out), "\r\n") {
			t.Fatalf("line break in %q", out)
		}
		if jsonrpc.Get(v, "id") != nil && string(jsonrpc.Get(out, "id")) != `"new"` {
			t.Fatalf("%q: the edit was not made", out)
		}
	})
}

func TestHeaderEncoding(t *testing.T) {
	// The examples of MCP 2026-07-28, "Value Encoding".
	for in, want := range map[string]string{
		"us-west1":             "us-west1",
		"Hello, 世界":            "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":             "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2":         "=?base64?bGluZTEKbGluZTI=?=",
		"=?base64?literal?=":   "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"":                     "",
		"file:///a b?c=%20#\"": "file:///a b?c=%20#\"",
	} {
		if got := encodeHeader(in); got != want {
			t.Errorf("encode %q: %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if got, ok := decodeHeader(encodeHeader(s)); !ok || got != s {
			t.Fatalf("%q came back as %q, %v", s, got, ok)
		}
	})
	for _, bad := range []string{"é", "a\x00", "=?base64?*?=", "=?base64?ZWNobw=?="} {
		if _, ok := decodeHeader(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestToolMirrors(t *testing.T) {
	for _, tt := range []struct {
		schema string
		n      int
		ok     bool
	}{
		{`{}`, 0, true},
		{`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"properties":{"c":{"type":"integer","x-mcp-header":"C"}}}}}`, 2, true},
		{`{"properties":{"x-mcp-header":{"type":"string"}}}`, 0, true},
		{`{"properties":{"a":{"default":{"x-mcp-header":5}}}}`, 0, true},
		{`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`, 0, false},
		{`{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`, 0, false},
		{`{"properties":{"a":{"type":"object","x-mcp-header":"A"}}}`, 0, false},
		{`{"properties":{"a":{"x-mcp-header":"A"}}}`, 0, false},
		{`{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, 0, false},
		{`{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}`, 0, false},
		{`{"properties":{"a":{"type":"string","x-mcp-header":5}}}`, 0, false},
		{`{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}`, 0, false},
		{`{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`, 0, false},
		{`{"$defs":{"d":{"type":"string","x-mcp-header":"A"}}}`, 0, false},
		{`{"type":"string","x-mcp-header":"A"}`, 0, false},
	} {
		got, err := toolMirrors(jsontext.Value(tt.schema))
		if len(got) != tt.n || (err == nil) != tt.ok {
			t.Errorf("%s: %v %v", tt.schema, got, err)
		}
	}
}

func TestLines(t *testing.T) {
	big := strings.Repeat("x", 100<<10)
	l := newLines(strings.NewReader("a\r\n\n  \nb\n"+
		`{"result":{"id":9,"t":"`+big+`"},"id":5}`+"\n"+
		`{"id":6,"method":"m","p":"`+big+`"}`+"\n"+
		`{"jsonrpc":"2.0","id":"a\"}b","error":"\\`+big+`"}`+"\n"+
		big+"\nlast"), 100)
	for _, want := range []struct{ line, id string }{
		{"a", ""}, {"b", ""}, {"", "5"}, {"", ""}, {"", `"a\"}b"`}, {"", ""}, {"last", ""},
	} {
		line, err := l.next()
		var over *oversizeError
		if errors.As(err, &over) {
			if want.line != "" || string(over.id) != want.id || over.bytes < len(big) {
				t.Errorf("oversize %+v, want %+v", over, want)
			}
		} else if err != nil || string(line) != want.line {
			t.Errorf("%q %v, want %+v", line, err, want)
		}
	}
	if _, err := l.next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// The scanner agrees with the parser about which answer a line is.
func FuzzIDScanner(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"id":2}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","result":[{"id":"x"}],"id":"\"a"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var s idScanner
		s.feed(in)
		got := s.result()
		m, err := jsonrpc.Parse(in, jsonrpc.Limits{})
		if err != nil || strings.Contains(string(in), `\u`) || len(m.ID) > maxScannedID {
			return // it only has to be right about messages, and not to panic
		}
		want := m.ID
		if !m.IsResponse() {
			want = ""
		}
		if got != want {
			t.Fatalf("%s: got %q, want %q", in, got, want)
		}
	})
}

func TestStreamBounds(t *testing.T) {
	msg := make([]byte, 10)
	st := newStream(1, 1, 25) // a request's: fails rather than lose messages
	if first, second, third := st.push(msg, false), st.push(msg, false), st.push(msg, false); !first || !second || third {
		t.Fatal("the bound is not at two messages")
	}
	gen := st.attach()
	for at := range 3 {
		if _, _, _, err := st.next(t.Context(), gen, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := st.next(t.Context(), gen, 3); !errors.Is(err, errOverflow) {
		t.Fatal(err)
	}

	st = newStream(0, -1, 25) // the GET stream: drops the oldest
	for i := range 5 {
		if !st.push([]byte{byte(i), 9: 0}, false) {
			t.Fatal("a lossy stream refuses a message")
		}
	}
	gen = st.attach()
	if m, num, _, err := st.next(t.Context(), gen, 0); err != nil || m[0] != 3 || num != 3 {
		t.Fatalf("%v %d %v", m, num, err)
	}
	if st.resumable(2) || !st.resumable(3) || !st.resumable(5) || st.resumable(6) {
		t.Error("resumable positions are wrong")
	}
	st.attach()
	if _, _, _, err := st.next(t.Context(), gen, 4); !errors.Is(err, errSuperseded) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := st.next(ctx, 2, 5); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	st = newStream(1, 1, 1000)
	st.push(msg, true)
	if st.push(msg, false) {
		t.Error("a message after the answer is accepted")
	}
	gen = st.attach()
	if _, _, last, err := st.next(t.Context(), gen, 0); err != nil || !last {
		t.Fatal(last, err)
	}
	if _, _, _, err := st.next(t.Context(), gen, 1); !errors.Is(err, errDone) {
		t.Fatal(err)
	}
}

func TestRestarter(t *testing.T) {
	var r restarter
	why := errors.New("it ended")
	now := time.Unix(0, 0)
	want := []time.Duration{firstWait, 2 * firstWait, 4 * firstWait}
	for _, d := range want {
		r.ended(now, now, why)
		if r.allow(now.Add(d-1)) == nil || r.allow(now.Add(d)) != nil {
			t.Fatalf("the wait is not %v", d)
		}
		if err := r.allow(now); !errors.Is(err, why) {
			t.Fatalf("%v does not say why", err)
		}
		now = now.Add(d)
	}
	for range 20 {
		r.ended(now, now, why)
	}
	if r.allow(now.Add(longestWait)) != nil {
		t.Error("the wait is unbounded")
	}
	now = now.Add(longestWait)
	r.ended(now.Add(-steadyAfter), now, why)
	if r.wait != 0 {
		t.Error("a steady run does not reset the wait")
	}
}
